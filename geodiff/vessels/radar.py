"""Radar plots and tracks, in ranges and bearings or in local metres, placed on the Earth by where the radar stands.

Files are read with ``open_fixes(path, layout=..., sensor=RadarSensor(lon, lat))``; a layout of ``kind: radar`` says
which column is what. Frames of your own go through ``plots_to_fixes``. Plots have no identity: ``vessel_id`` is null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import from_local_km
from geodiff.vessels.reading import FIX_SCHEMA, below_360

RADAR = "radar"
"""What the column ``source`` says."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RadarSensor:
    """Where a radar stands and where its axis points.

    Attributes:
        lon_deg, lat_deg: of the antenna, EPSG:4326.
        heading_deg: course of its zero bearing, or of its "north" axis, clockwise from true north.
    """

    lon_deg: float
    lat_deg: float
    heading_deg: float = 0.0

    def __post_init__(self) -> None:
        if not (abs(self.lon_deg) <= 180 and abs(self.lat_deg) < 90 and np.isfinite(self.heading_deg)):
            raise UsageError(
                f"radar at lon {self.lon_deg:g}, lat {self.lat_deg:g}, heading {self.heading_deg:g}: "
                "degrees are wanted, longitude within 180, latitude within 90"
            )

    def from_metres(self, north_m: npt.ArrayLike, east_m: npt.ArrayLike) -> tuple[Array, Array]:
        """(lon, lat) degrees of points given along the radar's axes, in metres."""
        north, east = np.asarray(north_m, np.float64), np.asarray(east_m, np.float64)
        turn = np.radians(self.heading_deg)
        true_north = north * np.cos(turn) - east * np.sin(turn)
        true_east = north * np.sin(turn) + east * np.cos(turn)
        return from_local_km(true_east / 1000, true_north / 1000, self.lon_deg, self.lat_deg)

    def from_polar(self, range_m: npt.ArrayLike, bearing_deg: npt.ArrayLike) -> tuple[Array, Array]:
        """(lon, lat) degrees of points given by range in metres and bearing clockwise from the radar's axis."""
        reach, angle = np.asarray(range_m, np.float64), np.radians(np.asarray(bearing_deg, np.float64))
        return self.from_metres(reach * np.cos(angle), reach * np.sin(angle))


def place_plots(frame: pl.DataFrame, sensor: RadarSensor) -> pl.DataFrame:
    """Add ``lon_deg`` and ``lat_deg`` to rows with ``north_m`` and ``east_m``, or ``range_m`` and ``bearing_deg``.

    A course (``cog_deg``), counted from the radar's axis like the bearings, is turned to true north. Places are null
    where the measurement is.
    """
    polar = {"range_m", "bearing_deg"} <= set(frame.columns)
    first, second = ("range_m", "bearing_deg") if polar else ("north_m", "east_m")
    values = [frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (first, second)]
    lon, lat = sensor.from_polar(*values) if polar else sensor.from_metres(*values)
    placed = frame.with_columns(pl.Series("lon_deg", lon).fill_nan(None), pl.Series("lat_deg", lat).fill_nan(None))
    if sensor.heading_deg and "cog_deg" in placed.columns:
        placed = placed.with_columns((pl.col("cog_deg") + sensor.heading_deg) % 360.0)
    return placed


def plots_to_fixes(frame: pl.DataFrame, sensor: RadarSensor) -> pl.DataFrame:
    """A table of fixes from plots or tracks at hand.

    Args:
        frame: ``time`` (timestamps with a zone), ``north_m`` and ``east_m`` or ``range_m`` and ``bearing_deg``; and
            where there are any ``vessel_id`` (numbers of tracks), ``sog_kn``, ``cog_deg``.
        sensor: where the radar stands.

    Returns:
        Columns of ``FIX_SCHEMA``; ``row`` counts the rows of ``frame`` from 1; rows without a measurement or a time are
        left out, and so have no number among them.

    Raises:
        GeodiffError: columns are missing, or times have no zone.
    """
    have = set(frame.columns)
    if "time" not in have or not ({"north_m", "east_m"} <= have or {"range_m", "bearing_deg"} <= have):
        raise GeodiffError(
            "plots need the columns time and north_m with east_m, or range_m with bearing_deg; there are "
            f"{', '.join(frame.columns) or 'none'}"
        )
    kind = frame.schema["time"]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise GeodiffError(f"plots need times with a zone, such as UTC; the column time is {kind}")
    placed = place_plots(frame, sensor).with_columns(
        pl.col("time").dt.convert_time_zone("UTC"),
        pl.lit(RADAR).alias("source"),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"),
    )
    columns = [
        (pl.col(name) if name in placed.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in FIX_SCHEMA.items()
    ]
    fixes = placed.select(columns).with_columns(below_360(pl.col("cog_deg")))
    return fixes.drop_nulls(["time", "lon_deg", "lat_deg"])
