"""Tables of fixes to and from GeoPandas and MovingPandas: every column, every id and UTC survive the round trip."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.tracks import FIX_TYPES, LAT, LON, REJECTED, ROW, SOURCE, STATE, TIME, TRACK_ID
from geodiff.vessels.convert_columns import (
    CODED,
    KINDS,
    WGS84,
    read_coded,
    read_column,
    read_positions,
    read_times,
    renamed,
)
from geodiff.vessels.read_refuse import without_refused
from geodiff.vessels.reading import POLARS_TYPES

if TYPE_CHECKING:
    import geopandas as gpd
    import movingpandas as mpd

_WHOLE: Final = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Boolean)
_NULLABLE: Final[dict[Any, Any]] = {kind: getattr(pd, f"{kind}Dtype")() for kind in _WHOLE}
"""Integers and truth values stay what they are where some are missing; plain pandas would make them floats."""


def to_geodataframe(fixes: pl.DataFrame) -> gpd.GeoDataFrame:
    """A GeoDataFrame (EPSG:4326) with a point for each fix and all columns but ``lon_deg`` and ``lat_deg``.

    Order and number of rows stay. Time is tz-aware UTC in microseconds; integers are pandas' nullable ones, missing
    text is None, missing floats are NaN; a fix without a position has no geometry.
    """
    import geopandas as gpd
    import shapely

    lon, lat = (fixes[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (LON, LAT))
    points = np.full(len(fixes), None, dtype=object)
    known = np.isfinite(lon) & np.isfinite(lat)
    points[known] = shapely.points(lon[known], lat[known])
    columns = {column.name: _to_pandas(column) for column in fixes.drop(LON, LAT)}
    return gpd.GeoDataFrame(columns, geometry=points, crs=WGS84)


def _to_pandas(column: pl.Series) -> pd.Series[Any]:
    nullable = _NULLABLE.get(column.dtype.base_type())
    if nullable is not None:
        values, missing = column.fill_null(0).to_numpy(), column.is_null().to_numpy()
        made: pd.Series[Any] = pd.Series(values, dtype=nullable)
        made[missing] = pd.NA
        return made
    if column.dtype == pl.String:
        return pd.Series(np.array(column.to_list(), dtype=object), dtype=object)
    made = column.to_pandas()
    assert isinstance(made, pd.Series)
    return made


def from_geodataframe(
    frame: gpd.GeoDataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    time_zone: str = "UTC",
    source: str = "geodataframe",
) -> pl.DataFrame:
    """A table of fixes from what analysts have.

    Fixes that were never judged are read by the rules for files: what transponders send for "not available" is missing,
    and a row that cannot be a fix loses its position, for cleaning to reject; a warning says which and why. A table
    with ``track_id`` and ``state`` is taken as it stands.

    Args:
        frame: points, in any CRS (reprojected to EPSG:4326). Times stand in the column ``time``, in the one that
            ``columns`` names, or in the index; all other columns of a plain type are kept.
        columns: name of ours -> name in ``frame``, such as ``{"vessel_id": "MMSI", "sog_kn": "SOG"}``.
        time_zone: of times that carry none.
        source: written to ``source`` where the frame has no such column.

    Returns:
        The columns of ``FIX_TYPES`` (null where the frame has none; ``row`` counts from 1), then the others in order.
        Longitudes are brought to [-180, 180]; a missing or empty point has no position.

    Raises:
        GeodiffError: no CRS, shapes that are not points, positions most of which are none, names in ``columns`` that
            are mistaken, times, numbers or other columns that cannot be read.
    """
    if not hasattr(frame, "geometry"):
        raise GeodiffError(f"a GeoDataFrame of points is needed, not a {type(frame).__name__} without geometry")
    named = renamed(frame, dict(columns or {}))
    raw = not {TRACK_ID, STATE} <= set(named.columns)
    times = read_times(named, time_zone)
    lon, lat = read_positions(frame, raw=raw)
    table: dict[str, pl.Series] = {TIME: times, LON: lon, LAT: lat}
    for name in named.columns:
        if raw and name in CODED:
            table |= read_coded(str(name), named[name])
        elif name not in (TIME, LON, LAT, frame.geometry.name):
            table[str(name)] = read_column(str(name), named[name], KINDS.get(str(name)))
    rows = len(frame)
    table.setdefault(SOURCE, pl.Series(SOURCE, [source] * rows, dtype=pl.String))
    table.setdefault(ROW, pl.Series(ROW, np.arange(1, rows + 1)))
    for name, kind in FIX_TYPES.items():
        table.setdefault(name, pl.Series(name, [None] * rows, dtype=POLARS_TYPES[kind]))
    order = [*FIX_TYPES, *(name for name in table if name not in FIX_TYPES)]
    made = pl.DataFrame([table[name].alias(name) for name in order])
    made, told = without_refused(made) if raw else (made, "")
    if told:
        warnings.warn(f"the GeoDataFrame: {told}", stacklevel=3)
    return made


def to_trajectories(fixes: pl.DataFrame | gpd.GeoDataFrame) -> mpd.TrajectoryCollection:
    """A MovingPandas ``TrajectoryCollection``: one trajectory for each ``track_id``, with all columns.

    MovingPandas keeps naive times, which are UTC here, needs two fixes for a trajectory and one fix for a time: what it
    cannot hold is left out, and a warning says how much.

    Args:
        fixes: with ``track_id``; those that cleaning rejected belong to no track.

    Raises:
        GeodiffError: movingpandas is not installed, there is no ``track_id``, or no track has two fixes.
    """
    mpd = _movingpandas()
    fixes = fixes if isinstance(fixes, pl.DataFrame) else from_geodataframe(fixes)
    if TRACK_ID not in fixes.columns:
        raise GeodiffError(f"the table of fixes has no column {TRACK_ID}: clean it first")
    placed = pl.col(TRACK_ID).is_not_null() & pl.col(TIME).is_not_null() & pl.col(LON).is_finite()
    kept = fixes.filter(placed & pl.col(LAT).is_finite())
    if STATE in fixes.columns:
        kept = kept.filter(pl.col(STATE) != REJECTED)
    unique = kept.unique([TRACK_ID, TIME], keep="first", maintain_order=True)
    several = unique.filter(pl.len().over(TRACK_ID) > 1).sort(TRACK_ID, TIME)
    if not len(several):
        raise GeodiffError("no track has two fixes with a position: nothing to make a trajectory of")
    _tell_left_out(fixes, kept, unique, several)
    frame = to_geodataframe(several.with_columns(pl.col(TIME).dt.replace_time_zone(None))).set_index(TIME)
    # Cut here and not by MovingPandas, which groups row by row.
    sizes = several.group_by(TRACK_ID, maintain_order=True).len()
    ends = sizes["len"].cum_sum().cast(pl.Int64).to_list()
    pieces = zip(sizes[TRACK_ID].to_list(), [0, *ends[:-1]], ends, strict=True)
    tracks = [mpd.Trajectory(frame.iloc[a:b], name, traj_id_col=TRACK_ID) for name, a, b in pieces]
    return mpd.TrajectoryCollection(tracks)


def _tell_left_out(fixes: pl.DataFrame, kept: pl.DataFrame, unique: pl.DataFrame, several: pl.DataFrame) -> None:
    reasons = {
        "rejected, or of no track, time or position": len(fixes) - len(kept),
        "at the time of another fix of the track": len(kept) - len(unique),
        "alone in their track": len(unique) - len(several),
    }
    lost = [f"{count} {why}" for why, count in reasons.items() if count]
    if lost:
        warnings.warn(f"MovingPandas cannot hold {len(fixes) - len(several)} fixes: {'; '.join(lost)}", stacklevel=3)


def from_trajectories(collection: mpd.TrajectoryCollection) -> pl.DataFrame:
    """A table of fixes from a MovingPandas ``TrajectoryCollection`` in any CRS; naive times are UTC.

    ``track_id`` is the id of each trajectory; see ``from_geodataframe`` for the columns.

    Raises:
        GeodiffError: as ``from_geodataframe``; an empty collection.
    """
    frames = [trajectory.df for trajectory in collection.trajectories]
    if not frames:
        raise GeodiffError("the TrajectoryCollection has no trajectories")
    # The index is the time, whatever the columns say.
    whole = pd.concat(frames).drop(columns=[TIME], errors="ignore")
    names = [str(trajectory.id) for trajectory in collection.trajectories]
    whole[TRACK_ID] = np.repeat(np.array(names, dtype=object), [len(frame) for frame in frames])
    return from_geodataframe(whole, source="movingpandas")


def _movingpandas() -> Any:
    try:
        with warnings.catch_warnings():
            # It warns that its smoothers need Stone Soup, which nothing here uses.
            warnings.simplefilter("ignore")
            import movingpandas
    except ImportError as error:
        raise GeodiffError("movingpandas is not installed: pip install 'geodiff[tracks]'") from error
    return movingpandas
