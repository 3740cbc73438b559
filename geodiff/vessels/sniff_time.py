"""How a source writes time, told by samples, and the expression that turns it into UTC.

Dates that may be read day first or month first are refused unless the layout says which: a guess would be silent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import polars as pl

from geodiff.schema import GeodiffError, UsageError
from geodiff.vessels.layouts import EPOCHS, LOCAL, TIME_OF_DAY, Time, check_zone
from geodiff.vessels.reading import require_exact

ENOUGH = 0.5
"""Share of the samples that a format must fit."""

_UNAMBIGUOUS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y%m%d_%H%M%S",
    "%Y%m%dT%H%M%S",
    "%Y%m%d%H%M%S",
    "%Y-%m-%d-%H-%M-%S",
    "%d-%b-%Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
)
_CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p")
_AMBIGUOUS = tuple(
    (f"%d{mark}%m{mark}%Y {clock}", f"%m{mark}%d{mark}%Y {clock}") for mark in "/-." for clock in _CLOCKS
)
_EPOCH_RANGES = {"epoch_s": (6e8, 5e9), "epoch_ms": (6e11, 5e12), "epoch_us": (6e14, 5e15)}
"""1990 to 2120."""

_CLOCK_ONLY = r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$"
_OFFSETS = {"%z": r":\d{2}(\.\d+)?\s*[+-]\d{2}:?\d{2}$", "%#z": r":\d{2}(\.\d+)?\s*[+-]\d{2}$"}
"""What texts end with, by the directive that reads it."""
_ZONED = r"%[:#]*z"
_UTC = r"\s*(?:Z|UTC|GMT)$"
_ABBREVIATION = r"\d\s*([A-Z]{2,5})$"
_NOT_ZONES = {"AM", "PM", "UTC", "GMT"}

Style = Literal["typed", "text", "number", "time_of_day"]


@dataclass(frozen=True, slots=True)
class TimeRule:
    """How one column of times is read.

    Attributes:
        style: typed timestamps, texts, numbers since 1970, or times of day.
        format: of texts; the unit of numbers, as in ``layouts.EPOCHS``.
        zone: IANA name for times without an offset.
        offset: texts end with an offset from UTC.
        cut: a pattern that is cut from texts first.
    """

    style: Style
    format: str = ""
    zone: str = "UTC"
    offset: bool = False
    cut: str = ""

    def expression(self, column: str) -> pl.Expr:
        """Microseconds in UTC; null where the value cannot be read, or where clocks were changed."""
        value = pl.col(column)
        if self.style == "number":
            ticks = (value.cast(pl.Float64, strict=False) * EPOCHS[self.format]).round()
            # Beyond 2**53 a float no longer tells microseconds apart, and beyond 2**63 the cast has no meaning.
            return ticks.cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        if self.style == "typed":
            # The ends of the calendar stand for what is beyond it, and a change of zone would lead beyond it.
            value = pl.when(value.dt.year().is_between(2, 9998)).then(value)
            if self.offset:
                return value.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
            return self._in_utc(value.cast(pl.Datetime("us")))
        text = value.cast(pl.String).str.strip_chars()
        text = text.str.replace(self.cut, "") if self.cut else text
        if self.offset:
            return text.str.to_datetime(self.format, time_unit="us", strict=False)
        return self._in_utc(text.str.to_datetime(self.format, time_unit="us", strict=False))

    def _in_utc(self, naive: pl.Expr) -> pl.Expr:
        if self.zone == "UTC":
            return naive.dt.replace_time_zone("UTC")
        local = naive.dt.replace_time_zone(self.zone, ambiguous="null", non_existent="null")
        return local.dt.convert_time_zone("UTC")


def sniff_times(samples: pl.Series, told: Time, *, timezone: str | None, where: str) -> TimeRule:
    """How the times of a column are written.

    Args:
        samples: some of its values, as they stand in the file.
        told: what the layout says.
        timezone: of times without an offset; wins over the layout. None: the layout's.
        where: file and column, for errors.

    Raises:
        UsageError: the layout says local time and no zone was given.
        GeodiffError: no format fits, day and month cannot be told apart, or zones are named by abbreviations.
    """
    kind = samples.dtype
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return TimeRule("typed", offset=True)
    zone = _zone(told, timezone, where)
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        return TimeRule("typed", zone=zone)
    values = samples.drop_nulls()
    if kind == pl.Time or told.formats == (TIME_OF_DAY,):
        return TimeRule("time_of_day", zone=zone)
    require_exact(values, where)
    if len(told.formats) == 1 and told.formats[0] in EPOCHS:
        return TimeRule("number", told.formats[0])
    if kind.is_float():
        values = values.cast(pl.Float64).map_elements(lambda v: f"{v:.0f}", return_dtype=pl.String)
    texts = values.cast(pl.String).str.strip_chars()
    return _sniff_texts(texts.filter(texts != ""), told, zone, zone_given=timezone is not None, where=where)


def _sniff_texts(texts: pl.Series, told: Time, zone: str, *, zone_given: bool, where: str) -> TimeRule:
    if not len(texts):
        return TimeRule("text", _UNAMBIGUOUS[0], zone)  # nothing to tell by; all rows will be refused
    if _share(texts.str.contains(_CLOCK_ONLY)) > ENOUGH:
        return TimeRule("time_of_day", zone=zone)
    tail, cut = next((z for z, ends in _OFFSETS.items() if _share(texts.str.contains(ends)) > ENOUGH), ""), ""
    if _share(texts.str.contains(_UTC)) > ENOUGH:
        zone, cut = "UTC", _UTC
    elif (abbreviation := _abbreviation(texts)) is not None:
        if not zone_given:
            raise GeodiffError(
                f"{where}: times such as {texts[0]!r} name their zone by {abbreviation!r}, which is not unique: "
                "give its name, as timezone='Europe/Oslo'"
            )
        cut = r"\s*[A-Z]{2,5}$"
    bare = texts.str.replace(cut, "") if cut else texts
    unit = _epoch(bare)
    for format in told.formats:
        zoned = re.search(_ZONED, format) is not None
        if unit and unit == format:
            return TimeRule("number", unit)
        if _fits(*((texts, format) if zoned else (bare, format + tail))):
            return TimeRule("text", format, offset=True) if zoned else _of_texts(format, tail, zone, cut)
    return TimeRule("number", unit) if unit else _of_texts(_sniff_format(bare, tail, where), tail, zone, cut)


def _of_texts(format: str, tail: str, zone: str, cut: str) -> TimeRule:
    return TimeRule("text", format + tail, zone, bool(tail), cut)


def _sniff_format(texts: pl.Series, tail: str, where: str) -> str:
    for format in _UNAMBIGUOUS:
        if _fits(texts, format + tail):
            return format
    for day_first, month_first in _AMBIGUOUS:
        shares = [_share(_parsed(texts, format + tail).is_not_null()) for format in (day_first, month_first)]
        if max(shares) <= ENOUGH:
            continue
        if shares[0] == shares[1]:
            raise GeodiffError(
                f"{where}: {texts[0]!r} may be day first or month first, and no sample tells: say which in a column "
                f"map, as `time: {{column: ..., formats: ['{day_first}']}}` or ['{month_first}']"
            )
        return day_first if shares[0] > shares[1] else month_first
    raise GeodiffError(
        f"{where}: no known form of time fits {texts[0][:60]!r}: say it in a column map, as "
        "`time: {column: ..., formats: ['%Y-%m-%d %H:%M:%S']}`"
    )


def _parsed(texts: pl.Series, format: str) -> pl.Series:
    # polars refuses a series of which no value fits, whatever `strict` says, for some formats with a zone
    try:
        return texts.str.to_datetime(format, time_unit="us", strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series([None] * len(texts), dtype=pl.Datetime("us"))


def _fits(texts: pl.Series, format: str) -> bool:
    return _share(_parsed(texts, format).is_not_null()) > ENOUGH


def _share(which: pl.Series) -> float:
    return float(which.mean() or 0.0)  # type: ignore[arg-type]


def _epoch(texts: pl.Series) -> str:
    """Unit of numbers since 1970; empty where they are none."""
    numbers = texts.cast(pl.Float64, strict=False)
    for name, (low, high) in _EPOCH_RANGES.items():
        if _share(numbers.is_between(low, high).fill_null(False)) > ENOUGH:
            return name
    return ""


def _abbreviation(texts: pl.Series) -> str | None:
    found = [match.group(1) for text in texts.head(50) if (match := re.search(_ABBREVIATION, text))]
    named = [word for word in found if word not in _NOT_ZONES]
    return named[0] if len(named) > ENOUGH * min(len(texts), 50) else None


def _zone(told: Time, timezone: str | None, where: str) -> str:
    if timezone is not None:
        check_zone(timezone)
        return timezone
    if told.timezone == LOCAL:
        raise UsageError(f"{where}: times are local: name their zone, as timezone='Europe/Oslo'")
    return told.timezone
