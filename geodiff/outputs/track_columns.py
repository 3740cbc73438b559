"""The columns of tracks as they are written: the table of fixes, what an ensemble adds, and the order of both.

Beside the columns of ``geodiff.tracks`` a table of outputs may hold

- ``lon_q05_deg``, ``lon_q25_deg``, ``lon_q75_deg``, ``lon_q95_deg`` and the same of latitude: quantiles of the members
  east and north of the point estimate, each along its own axis; ``lon_deg`` and ``lat_deg`` are the point estimate,
  for an ensemble its median;
- ``ellipse50_major_km``, ``ellipse50_minor_km``, ``ellipse50_course_deg``, and the same for 90: semi-axes and course of
  the major axis of the ellipse about the point estimate that holds the truth with that probability in per cent;
- ``member_lon_deg``, ``member_lat_deg``: the members themselves, a list of equal length for each fix; they go to the
  Zarr store only.

All are null where a fix was observed. Further columns of plain type (scores, p-values, text) are carried along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from geodiff.schema import GeodiffError
from geodiff.sphere import from_local_km, to_local_km
from geodiff.tracks import (
    FIX_TYPES,
    LAT,
    LON,
    STATE,
    STATES,
    STATIC_TYPES,
    TIME,
    TRACK_ID,
    TRACK_TYPES,
    TrackAnswer,
)

QUANTILES: Final = (5, 25, 75, 95)
"""Per cent; the median is ``lon_deg`` and ``lat_deg``. They bound the middle 50 and 90 % along each axis."""

MEMBER_LON: Final = "member_lon_deg"
MEMBER_LAT: Final = "member_lat_deg"
MEMBERS: Final = (MEMBER_LON, MEMBER_LAT)

ORDER: Final = (*TRACK_TYPES, *FIX_TYPES, *STATIC_TYPES)
"""Order of the known columns; others follow in the order in which they came."""

_REQUIRED: Final = (TRACK_ID, TIME, LON, LAT, STATE)
_POLARS: Final[dict[str, pl.DataType]] = {
    "int64": pl.Int64(),
    "int16": pl.Int16(),
    "int8": pl.Int8(),
    "float64": pl.Float64(),
    "float32": pl.Float32(),
    "string": pl.String(),
    "timestamp[us, UTC]": pl.Datetime("us", "UTC"),
}
TYPES: Final[dict[str, pl.DataType]] = {
    name: _POLARS[kind] for name, kind in {**TRACK_TYPES, **FIX_TYPES, **STATIC_TYPES}.items()
}
"""polars types of the known columns."""


def quantile_columns() -> tuple[str, ...]:
    """Names of the quantiles, longitudes first."""
    return tuple(f"{axis}_q{level:02d}_deg" for axis in ("lon", "lat") for level in QUANTILES)


def ellipse_columns(level: float) -> tuple[str, str, str]:
    """Names of semi-major axis, semi-minor axis and course of the ellipse of a probability in (0, 1)."""
    stem = f"ellipse{round(100 * level)}"
    return f"{stem}_major_km", f"{stem}_minor_km", f"{stem}_course_deg"


def answer_columns(answer: TrackAnswer, levels: Sequence[float], *, members: bool = False) -> dict[str, pl.Series]:
    """Columns of what a motion model answered: positions, quantiles, ellipses and, when asked for, members.

    Args:
        answer: m positions.
        levels: probabilities of ``answer.ellipse_km``, as the model states them.
        members: keep the members too.

    Returns:
        Name to series of m values; without two members no quantiles, without calibration no ellipses.
    """
    columns = {LON: pl.Series(answer.lon_deg), LAT: pl.Series(answer.lat_deg)}
    if len(answer.member_lon_deg) > 1:
        columns |= _quantiles(answer)
    for level, axes in zip(levels, answer.ellipse_km, strict=True) if len(answer.ellipse_km) else ():
        each = zip(ellipse_columns(level), np.asarray(axes, np.float32).T, strict=True)
        columns |= {name: pl.Series(one) for name, one in each}
    if members and len(answer.member_lon_deg):
        count = len(answer.member_lon_deg)
        for name, values in zip(MEMBERS, (answer.member_lon_deg, answer.member_lat_deg), strict=True):
            columns[name] = pl.Series(np.ascontiguousarray(values.T), dtype=pl.Array(pl.Float64, count))
    return {name: series.alias(name) for name, series in columns.items()}


def _quantiles(answer: TrackAnswer) -> dict[str, pl.Series]:
    """Along east and north of the local plane about the point estimate, so that neither 180° nor a pole matters."""
    east, north = to_local_km(answer.member_lon_deg, answer.member_lat_deg, answer.lon_deg, answer.lat_deg)
    share = np.array(QUANTILES) / 100.0
    zero = np.zeros((len(QUANTILES), answer.lon_deg.size))
    lon, _ = from_local_km(np.quantile(east, share, axis=0), zero, answer.lon_deg, answer.lat_deg)
    _, lat = from_local_km(zero, np.quantile(north, share, axis=0), answer.lon_deg, answer.lat_deg)
    return {name: pl.Series(one) for name, one in zip(quantile_columns(), (*lon, *lat), strict=True)}


def standard_frame(fixes: pl.DataFrame) -> pl.DataFrame:
    """Put a table of fixes in the order and the types in which it is written.

    Known columns that are absent are added as nulls (those of ``STATIC_TYPES`` are not); NaN and empty text become
    null, so that "unknown" has one spelling; rows are sorted by track and time, rows of no track last.

    Raises:
        GeodiffError: a column that a track needs is absent, has another type, or holds what it must not.
    """
    absent = [name for name in _REQUIRED if name not in fixes.columns]
    if absent:
        raise GeodiffError(f"the table of fixes has no column {', '.join(absent)}: clean it first")
    known = [name for name in ORDER if name in fixes.columns or name not in STATIC_TYPES]
    columns = [pl.col(name) if name in fixes.columns else pl.lit(None, TYPES[name]).alias(name) for name in known] + [
        pl.col(name) for name in fixes.columns if name not in TYPES
    ]
    frame = _typed(fixes.select(columns))
    _check(frame)
    return frame.sort(TRACK_ID, TIME, nulls_last=True, maintain_order=True)


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    try:
        frame = frame.cast({name: kind for name, kind in TYPES.items() if name in frame.columns})
    except pl.exceptions.PolarsError as error:
        raise GeodiffError(f"the table of fixes does not have the types of geodiff.tracks: {error}") from error
    kinds = frame.schema
    plain = [name for name, kind in kinds.items() if name not in MEMBERS and not is_plain(kind)]
    if plain:
        raise GeodiffError(
            f"column {plain[0]!r} has type {kinds[plain[0]]}, which is not written: remove or convert it"
        )
    floats = [name for name, kind in kinds.items() if kind.is_float()]
    texts = [name for name, kind in kinds.items() if kind == pl.String]
    return frame.with_columns(
        pl.col(floats).fill_nan(None), pl.when(pl.col(texts) != "").then(pl.col(texts)).name.keep()
    )


def is_plain(kind: pl.DataType) -> bool:
    """Whether a column of this type is written: numbers, text, truth values, UTC instants in microseconds."""
    return (
        (kind.is_numeric() and not kind.is_decimal() and kind not in (pl.Int128, pl.UInt64, pl.UInt128, pl.Float16))
        or kind in (pl.String, pl.Boolean)
        or kind == pl.Datetime("us", "UTC")
    )


def _check(frame: pl.DataFrame) -> None:
    timeless = frame[TIME].null_count()
    if timeless:
        raise GeodiffError(f"{timeless} of {len(frame)} fixes have no time: set them apart before writing tracks")
    strange = frame.filter(~pl.col(STATE).is_in(STATES) | pl.col(STATE).is_null())
    if len(strange):
        found = strange[STATE][0]
        raise GeodiffError(
            f"{len(strange)} fixes have a state such as {found!r}: it must be one of {', '.join(STATES)}"
        )
    outside = frame.filter(~pl.col(LON).is_between(-180.0, 180.0) | ~pl.col(LAT).is_between(-90.0, 90.0))
    if len(outside):
        where = f"{outside[LON][0]}, {outside[LAT][0]} at {outside[TIME][0]:%Y-%m-%dT%H:%M:%SZ}"
        raise GeodiffError(f"{len(outside)} fixes lie outside longitude and latitude, the first at {where}")


def merged_schema(parts: Mapping[str, pl.Schema]) -> pl.Schema:
    """All columns of several parts: the known ones in order, then the others in order of appearance.

    Args:
        parts: schemas by the names of the parts.

    Raises:
        GeodiffError: a column has one type in one part and another in another.
    """
    kinds: dict[str, tuple[pl.DataType, str]] = {}
    for part, schema in parts.items():
        for name, kind in schema.items():
            first, where = kinds.setdefault(name, (kind, part))
            if kind != first:
                raise GeodiffError(
                    f"column {name!r} is {first} in part {where} and {kind} in part {part}: "
                    "remove the work folder and run again"
                )
    known = [name for name in ORDER if name in kinds]
    return pl.Schema({name: kinds[name][0] for name in [*known, *(n for n in kinds if n not in TYPES)]})


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Give a table the columns of a schema, in its order; absent ones are nulls."""
    return frame.select(
        pl.col(name) if name in frame.columns else pl.lit(None, kind).alias(name) for name, kind in schema.items()
    )


def arrow_table(frame: pl.DataFrame) -> pa.Table:
    """Arrow table with plain strings, which every reader of Parquet takes."""
    table: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields))
