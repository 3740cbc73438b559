"""Columns of a GeoDataFrame as ours: names, times, places, codes, numbers and texts."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from geodiff.schema import GeodiffError
from geodiff.tracks import FIX_TYPES, LAT, LON, NAV_STATUS, SHIP_TYPE, STATIC_TYPES, TIME, TRACK_TYPES
from geodiff.vessels.layouts import Layout
from geodiff.vessels.longitudes import brought_home, is_beyond
from geodiff.vessels.read_columns import Source, code_columns, text_columns
from geodiff.vessels.reading import POLARS_TYPES, require_exact

if TYPE_CHECKING:
    import geopandas as gpd

WGS84: Final = "EPSG:4326"
IMO: Final = "imo"
CODED: Final = (NAV_STATUS, SHIP_TYPE, IMO)
"""What transponders and tables write in many ways, read as from files."""

_OFFSET: Final = r":\d\d(?:[.,]\d+)? ?(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
"""How texts of ISO 8601 end that tell how far they are from UTC."""
KINDS: Final = {name: POLARS_TYPES[kind] for name, kind in {**FIX_TYPES, **TRACK_TYPES, **STATIC_TYPES}.items()}
_LAYOUT: Final = Layout.parse(
    {"name": "geodataframe", "columns": {name: name for name in (TIME, LON, LAT, *CODED)}}, where="geodataframe"
)
"""Of a GeoDataFrame that bears our names, for the reader of codes."""


def renamed(frame: gpd.GeoDataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """The frame without its geometry's type, its columns under our names.

    Args:
        frame: of an analyst.
        columns: name of ours -> name in ``frame``.

    Raises:
        GeodiffError: a column is not there, or is meant to be two; a name is nearly one of ours.
    """
    absent = [theirs for theirs in columns.values() if theirs not in frame.columns and theirs != frame.index.name]
    if absent:
        raise GeodiffError(f"the GeoDataFrame has no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if twice := [theirs for theirs, count in Counter(columns.values()).items() if count > 1]:
        ours = " and ".join(name for name, theirs in columns.items() if theirs == twice[0])
        raise GeodiffError(f"columns: {twice[0]!r} cannot be both {ours}: copy the column of the GeoDataFrame first")
    for name in set(columns) - {*KINDS, LON, LAT}:
        if near := difflib.get_close_matches(name, KINDS, n=1, cutoff=0.8):
            raise GeodiffError(f"columns: {name!r} is no name of ours: is {near[0]!r} meant?")
    plain = pd.DataFrame(frame)
    if frame.index.name in columns.values() and frame.index.name not in frame.columns:
        plain = plain.reset_index()
    # A name of ours that is the source of another is renamed itself: names may be swapped.
    gone = [ours for ours in columns if ours in plain.columns and ours not in columns.values()]
    plain = plain.drop(columns=gone).rename(columns={theirs: ours for ours, theirs in columns.items()})
    if not plain.columns.is_unique:
        raise GeodiffError(f"the GeoDataFrame has the column {plain.columns[plain.columns.duplicated()][0]!r} twice")
    return plain


def read_times(frame: pd.DataFrame, time_zone: str) -> pl.Series:
    """Times of the column ``time`` or of the index, in UTC; those without an offset are of ``time_zone``.

    Raises:
        GeodiffError: there are none, or they cannot be read.
    """
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


def read_positions(frame: gpd.GeoDataFrame, *, raw: bool) -> tuple[pl.Series, pl.Series]:
    """Longitudes and latitudes; of ``raw`` fixes single ones may be impossible.

    Raises:
        GeodiffError: no coordinate reference system, shapes that are not points, or places most of which are none.
    """
    import shapely

    if frame.crs is None:
        raise GeodiffError("the GeoDataFrame has no coordinate reference system: set it, frame.set_crs(...)")
    shapes = np.asarray(frame.to_crs(WGS84).geometry.values, dtype=object)
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
    lon = brought_home(lon, is_beyond(lon, codes=raw) & possible & ~nowhere)
    return pl.Series(LON, lon).fill_nan(None), pl.Series(LAT, lat).fill_nan(None)


def read_coded(name: str, column: pd.Series[Any]) -> dict[str, pl.Series]:
    """One of ``CODED``, with the mark of those without a meaning."""
    series = read_column(name, column, None)
    if name == IMO or not series.dtype.is_numeric():
        series = series.cast(pl.String)
    source = Source(_LAYOUT, {name: name}, decimal_comma=False, identity=None)
    frame = series.to_frame()
    read = frame.select(text_columns(source)).get_columns() if name == IMO else code_columns(frame, source)
    return {each.name: each for each in read}


def read_column(name: str, column: pd.Series[Any], kind: pl.DataType | None) -> pl.Series:
    """A column in one of our types; None: as it is.

    Raises:
        GeodiffError: it cannot be read so.
    """
    try:
        series = pl.from_pandas(column.reset_index(drop=True), nan_to_null=True).alias(name)
        return series if kind is None else _in_kind(series, kind, f"column {name!r} of the GeoDataFrame")
    except (pl.exceptions.PolarsError, pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = f" as {kind}" if kind is not None else ""
        if kind is None:
            reason = f"it holds {column.dtype}, no single plain type: drop or convert it ({reason})"
        raise GeodiffError(f"column {name!r} of the GeoDataFrame cannot be read{wanted}: {reason}") from error


def _in_kind(series: pl.Series, kind: pl.DataType, where: str) -> pl.Series:
    if series.dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    if kind == pl.String and series.dtype.is_float() and series.drop_nulls().is_finite().all():
        # Numbers with gaps arrive as floats: 9074729.0 is the text "9074729".
        whole = series.drop_nulls().floor().equals(series.drop_nulls())
        series = series.cast(pl.Int64) if whole else series
    if kind.is_numeric() and series.dtype == pl.String:
        text = series.str.strip_chars().str.replace(r"\.0+$", "") if kind.is_integer() else series.str.strip_chars()
        series = text.set(text == "", None)
    if kind.is_integer() and series.dtype.is_float():
        require_exact(series, where)
        if not series.drop_nulls().floor().equals(series.drop_nulls()):
            raise ValueError("not whole numbers")
    return series.cast(kind)
