"""Tables of fixes to and from GeoPandas and MovingPandas: every column, every id and UTC survive the round trip."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.sphere import wrap_longitude
from geodiff.tracks import (
    FIX_TYPES,
    LAT,
    LON,
    NAV_STATUS,
    REJECTED,
    ROW,
    SHIP_TYPE,
    SOURCE,
    STATE,
    STATIC_TYPES,
    TIME,
    TRACK_ID,
    TRACK_TYPES,
)
from geodiff.vessels.layouts import Layout
from geodiff.vessels.read_columns import Source, code_columns
from geodiff.vessels.read_refuse import without_refused
from geodiff.vessels.reading import POLARS_TYPES, require_exact

if TYPE_CHECKING:
    import geopandas as gpd
    import movingpandas as mpd

_WGS84: Final = "EPSG:4326"
_OFFSET: Final = r":\d\d(?:[.,]\d+)? ?(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
"""How texts of ISO 8601 end that tell how far they are from UTC."""
_KINDS: Final = {name: POLARS_TYPES[kind] for name, kind in {**FIX_TYPES, **TRACK_TYPES, **STATIC_TYPES}.items()}
_WHOLE: Final = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Boolean)
_NULLABLE: Final[dict[Any, Any]] = {kind: getattr(pd, f"{kind}Dtype")() for kind in _WHOLE}
"""Integers and truth values stay what they are where some are missing; plain pandas would make them floats."""

_CODES: Final = (NAV_STATUS, SHIP_TYPE)
_LAYOUT: Final = Layout.parse(
    {"name": "geodataframe", "columns": {name: name for name in (TIME, LON, LAT, *_CODES)}}, where="geodataframe"
)
"""Of a GeoDataFrame that bears our names, for the reader of codes."""


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
    return gpd.GeoDataFrame(columns, geometry=points, crs=_WGS84)


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
            ``columns`` names, or in the index; all other columns are kept.
        columns: name of ours -> name in ``frame``, such as ``{"vessel_id": "MMSI", "sog_kn": "SOG"}``.
        time_zone: of times that carry none.
        source: written to ``source`` where the frame has no such column.

    Returns:
        The columns of ``FIX_TYPES`` (null where the frame has none; ``row`` counts from 1), then the others in order.
        Longitudes are brought to [-180, 180]; a missing or empty point has no position.

    Raises:
        GeodiffError: no CRS, shapes that are not points, positions most of which are none, times or numbers that cannot
            be read.
    """
    if not hasattr(frame, "geometry"):
        raise GeodiffError(f"a GeoDataFrame of points is needed, not a {type(frame).__name__} without geometry")
    named = _renamed(frame, dict(columns or {}))
    raw = not {TRACK_ID, STATE} <= set(named.columns)
    times = _times(named, time_zone)
    lon, lat = _positions(frame, raw=raw)
    table: dict[str, pl.Series] = {TIME: times, LON: lon, LAT: lat}
    for name in named.columns:
        if raw and name in _CODES:
            table |= _codes(str(name), named[name])
        elif name not in (TIME, LON, LAT, frame.geometry.name):
            table[str(name)] = _from_pandas(str(name), named[name], _KINDS.get(str(name)))
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


def _renamed(frame: gpd.GeoDataFrame, columns: dict[str, str]) -> pd.DataFrame:
    absent = [theirs for theirs in columns.values() if theirs not in frame.columns and theirs != frame.index.name]
    if absent:
        raise GeodiffError(f"the GeoDataFrame has no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}")
    plain = pd.DataFrame(frame)
    if frame.index.name in columns.values() and frame.index.name not in frame.columns:
        plain = plain.reset_index()
    # A name of ours that is the source of another is renamed itself: names may be swapped.
    twice = [ours for ours in columns if ours in plain.columns and ours not in columns.values()]
    plain = plain.drop(columns=twice).rename(columns={theirs: ours for ours, theirs in columns.items()})
    if not plain.columns.is_unique:
        raise GeodiffError(f"the GeoDataFrame has the column {plain.columns[plain.columns.duplicated()][0]!r} twice")
    return plain


def _times(frame: pd.DataFrame, time_zone: str) -> pl.Series:
    if TIME in frame.columns:
        given = frame[TIME]
    elif isinstance(frame.index, pd.DatetimeIndex):
        given = frame.index.to_series()
    else:
        raise GeodiffError("the GeoDataFrame has no times: name their column, columns={'time': ...}, or index by time")
    try:
        if not pd.api.types.is_datetime64_any_dtype(given.dtype):
            if pd.api.types.is_numeric_dtype(given.dtype):
                raise ValueError("numbers, whose unit is not known")
            told = given.dropna().astype(str).str.strip().str.contains(_OFFSET)
            if told.any() and not told.all():
                raise ValueError("some tell their offset from UTC, and some do not")
            given = pd.to_datetime(given, format="ISO8601", utc=bool(told.any()))
        stamps = pd.DatetimeIndex(given)
        # As of files: where clocks skip or repeat a time the fix has none, and the others stay.
        aware = stamps if stamps.tz is not None else stamps.tz_localize(time_zone, ambiguous="NaT", nonexistent="NaT")
    except (ValueError, TypeError, KeyError) as error:
        raise GeodiffError(f"the times of the GeoDataFrame cannot be read: {error}") from error
    micro = aware.tz_convert("UTC").tz_localize(None).as_unit("us")
    return pl.Series(TIME, micro.to_numpy()).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _positions(frame: gpd.GeoDataFrame, *, raw: bool) -> tuple[pl.Series, pl.Series]:
    """Longitudes and latitudes; of ``raw`` fixes single ones may be impossible."""
    import shapely

    if frame.crs is None:
        raise GeodiffError("the GeoDataFrame has no coordinate reference system: set it, frame.set_crs(...)")
    shapes = np.asarray(frame.to_crs(_WGS84).geometry.values, dtype=object)
    present = ~shapely.is_missing(shapes) & ~shapely.is_empty(shapes)
    others = np.flatnonzero(present & (shapely.get_type_id(shapes) != 0))
    if others.size:
        kind = shapes[others[0]].geom_type
        raise GeodiffError(f"row {others[0] + 1} of the GeoDataFrame is a {kind}: a fix is a Point")
    lon, lat = np.full(shapes.size, np.nan), np.full(shapes.size, np.nan)
    lon[present], lat[present] = shapely.get_x(shapes[present]), shapely.get_y(shapes[present])
    nowhere = raw & ((lon == 181.0) | (lat == 91.0))  # "not available"
    possible = (np.abs(lat) <= 90.0) & (lon >= -180.0) & (lon <= 360.0)
    wrong = np.flatnonzero(present & ~possible & ~nowhere)
    if wrong.size > (present.sum() / 2 if raw else 0):
        where = f"{lon[wrong[0]]:g}, {lat[wrong[0]]:g} in row {wrong[0] + 1}"
        raise GeodiffError(f"{wrong.size} points are no longitude and latitude, the first {where}: is the CRS right?")
    lon = np.where((lon > 180.0) & possible & ~nowhere, wrap_longitude(lon), lon)
    return pl.Series(LON, lon).fill_nan(None), pl.Series(LAT, lat).fill_nan(None)


def _codes(name: str, column: pd.Series[Any]) -> dict[str, pl.Series]:
    """Ship types or navigational status, as numbers or in words, with the mark of those without a meaning."""
    series = _from_pandas(name, column, None)
    plain = series if series.dtype.is_numeric() else series.cast(pl.String)
    source = Source(_LAYOUT, {name: name}, decimal_comma=False, identity=None)
    return {each.name: each for each in code_columns(plain.to_frame(), source)}


def _from_pandas(name: str, column: pd.Series[Any], kind: pl.DataType | None) -> pl.Series:
    try:
        series = pl.from_pandas(column.reset_index(drop=True), nan_to_null=True).alias(name)
        if kind is None:
            return series
        if kind == pl.String and series.dtype.is_numeric():
            # Numbers with gaps arrive as floats: 9074729.0 is the text "9074729".
            series = series.cast(pl.Int64)
        if series.dtype in (pl.Categorical, pl.Enum):
            series = series.cast(pl.String)
        if kind.is_integer() and series.dtype.is_float():
            require_exact(series, f"column {name!r} of the GeoDataFrame")
            if not series.drop_nulls().floor().equals(series.drop_nulls()):
                raise ValueError("not whole numbers")
        return series.cast(kind)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = f" as {kind}" if kind is not None else ""
        raise GeodiffError(f"column {name!r} of the GeoDataFrame cannot be read{wanted}: {reason}") from error


def to_trajectories(fixes: pl.DataFrame) -> mpd.TrajectoryCollection:
    """A MovingPandas ``TrajectoryCollection``: one trajectory for each ``track_id``, with all columns.

    MovingPandas keeps naive times, which are UTC here, needs two fixes for a trajectory and one fix for a time: what it
    cannot hold is left out, and a warning says how much.

    Args:
        fixes: with ``track_id``; those that cleaning rejected belong to no track.

    Raises:
        GeodiffError: movingpandas is not installed, there is no ``track_id``, or no track has two fixes.
    """
    mpd = _movingpandas()
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
