"""Generated tracks as a table of fixes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.sphere import KM_PER_NMI, course_deg, distance_km
from geodiff.tracks import (
    COG,
    GENERATED,
    HEADING,
    LAT,
    LON,
    NAV_STATUS,
    REASON,
    ROT,
    ROW,
    SHIP_TYPE,
    SOG,
    SOURCE,
    STATE,
    TIME,
    TRACK_ID,
    VESSEL_ID,
)
from geodiff.vessels.reading import FIX_SCHEMA, below_360

Floats = npt.NDArray[np.float64]


def track_table(number: int, time_s: Floats, lon: Floats, lat: Floats, ship_type: int) -> pl.DataFrame:
    """One track as a table of fixes, generated; speed and course are those of the steps.

    Args:
        number: of the track, its identity.
        time_s: (n,) seconds since 1970-01-01 UTC, two at least.
        lon, lat: (n,) degrees.
        ship_type: code; 0 for none.
    """
    hours = np.diff(time_s) / 3600
    speed = distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:]) / KM_PER_NMI / hours
    course = course_deg(lon[:-1], lat[:-1], lon[1:], lat[1:])
    count = len(time_s)
    begin = datetime.fromtimestamp(time_s[0], UTC)
    columns: dict[str, Any] = {
        VESSEL_ID: np.full(count, number),
        TIME: [begin + timedelta(seconds=float(second - time_s[0])) for second in time_s],
        LON: lon,
        LAT: lat,
        SOG: np.append(speed, speed[-1:]),
        COG: np.append(course, course[-1:]),
        HEADING: [None] * count,
        ROT: [None] * count,
        NAV_STATUS: [None] * count,
        SHIP_TYPE: [ship_type or None] * count,
        SOURCE: ["generated"] * count,
        ROW: np.arange(1, count + 1),
    }
    table = pl.DataFrame({name: pl.Series(name, values, strict=False) for name, values in columns.items()})
    return table.cast(dict(FIX_SCHEMA)).with_columns(  # type: ignore[arg-type]
        below_360(pl.col(COG)),
        pl.lit(f"{number}/{begin:%Y%m%dT%H%M%S}").alias(TRACK_ID),
        pl.lit(GENERATED).alias(STATE),
        pl.lit(None, pl.String).alias(REASON),
    )
