"""One table as a source of fixes: raw frames parsed, judged and counted, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import polars as pl

from geodiff.schema import UsageError
from geodiff.tracks import FIX_TYPES, STATIC_TYPES
from geodiff.vessels.layouts import Layout
from geodiff.vessels.layouts_match import Header, columns_of
from geodiff.vessels.longitudes import TURNED, brought_home, counts_to_360, is_beyond, longitudes_of
from geodiff.vessels.radar import RadarSensor, place_plots
from geodiff.vessels.read_columns import (
    OUT_SCHEMA,
    Source,
    beside,
    code_columns,
    has_decimal_comma,
    identity_columns,
    not_available,
    number_columns,
    number_values,
    spelt_names,
    text_columns,
    unreadable,
)
from geodiff.vessels.read_refuse import check_any, known_identity, refusal_rules, refuse, tell_noted
from geodiff.vessels.read_swapped import check_swapped
from geodiff.vessels.reading import EXAMPLES, ReadCounts, below_360, require_exact
from geodiff.vessels.sniff_time import TimeRule, sniff_times
from geodiff.vessels.tables import RAW_ROW, RawTable, take_sample
from geodiff.vessels.times_of_day import BY_VESSEL, Midnights, is_by_vessel, time_of_day_s

SWAP_CHECK_ROWS = 300_000
_DEGREES = ("lon_deg", "lat_deg")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the caller knows and the file does not say.

    Attributes:
        date: day of the first row, for times of day.
        timezone: of times without an offset; None: as the layout says.
        sensor: where the radar stands, for plots in ranges or metres.
        truth: take the identity that the layout holds as the truth of an association.
        now: fixes more than a day after it are refused; None: the clock.
        one_of_many: one file of several, in which to find no fix is no error.
        known_by: what ships said of themselves later is not known yet; tables tell it row by row.
        anonymous: rows need no identity, nor tables a column of it.
    """

    date: date | None = None
    timezone: str | None = None
    sensor: RadarSensor | None = None
    truth: bool = False
    now: datetime | None = None
    one_of_many: bool = False
    known_by: datetime | None = None
    anonymous: bool = False


@dataclass(slots=True)
class _Progress:
    """What one pass carries from frame to frame."""

    midnights: Midnights = field(default_factory=Midnights)
    static: pl.DataFrame = field(default_factory=pl.DataFrame)
    checked: bool = False


class TableReader:
    """A ``FixReader`` of one table; each call of ``batches`` is a fresh pass and counts anew."""

    def __init__(self, table: RawTable, layout: Layout, options: ReadOptions) -> None:
        """Sniff what the layout leaves open.

        Raises:
            UsageError: a date, a zone, the sensor or a truth is needed and was not given.
            GeodiffError: the table cannot be read, or its times are ambiguous.
        """
        self._table, self._options = table, options
        self._layout = layout
        self.counts = ReadCounts()
        self._by_vessel = False
        self._to_360: bool | None = None
        self._source, self._rule = self._sniff()

    @property
    def layout(self) -> str:
        return self._layout.name

    @property
    def where(self) -> str:
        """How errors name the file."""
        return self._table.where

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the batches, in order."""
        given = set(self._layout.columns.given()) & set(self._source.names)
        if self._source.identity is not None and self._source.identity.kind == "text":
            given.add("name")
        return (*FIX_TYPES, *(name for name in STATIC_TYPES if name in given))

    @property
    def dateless(self) -> tuple[str, ...]:
        """The file, if its times hold no date."""
        return (self.where,) if self._rule.style == "time_of_day" else ()

    @property
    def by_range(self) -> bool:
        """Whether it holds plots in ranges or metres."""
        return self._layout.place != _DEGREES

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]:
        """See ``reading.FixReader``.

        Raises:
            GeodiffError: the file is damaged, longitude and latitude are swapped, or no row is a fix.
        """
        self.counts = ReadCounts()
        progress = _Progress()
        now = self._options.now or datetime.now(UTC)
        for raw in self._table.frames(self._wanted(), self.counts, rows=rows):
            parsed = self._parse(raw, progress)
            if not progress.checked and not self.by_range:
                names = self._source.names
                head = parsed.head(SWAP_CHECK_ROWS)
                check_swapped(head, where=self.where, columns=(names["lon_deg"], names["lat_deg"]))
                progress.checked = True
            parsed = self._from_180_on(parsed, rows)
            anonymous, zone = self._options.anonymous or self._source.identity is None, self._rule.zone
            rules = refusal_rules(parsed, self._layout, now, anonymous=anonymous, zone=zone)
            kept = refuse(parsed, rules, self.counts)
            if self._options.anonymous:
                kept = kept.with_columns(known_identity(self._layout.columns.vessel_id))
            if kept.height:
                yield self._finish(kept)
        tell_noted(self.counts, self.where)
        if not self._options.one_of_many:
            check_any(self.counts, self.where)

    def _from_180_on(self, frame: pl.DataFrame, rows: int) -> pl.DataFrame:
        """Longitudes beyond 180 degrees brought home where the file counts to 360; all of it tells, not the frame."""
        if self.by_range:
            return frame
        lon = frame["lon_deg"].to_numpy()
        beyond = is_beyond(lon)
        if not beyond.any():
            return frame
        if self._to_360 is None:
            self._to_360 = counts_to_360(longitudes_of(self._table, self._source, rows), self.where)
        if not self._to_360:
            return frame
        self.counts.note(TURNED, frame[RAW_ROW].filter(beyond).head(EXAMPLES).to_list(), int(beyond.sum()))
        return frame.with_columns(pl.Series("lon_deg", brought_home(lon, beyond)).fill_nan(None))

    def _wanted(self) -> list[str]:
        return sorted(set(self._source.names.values()))

    def _sniff(self) -> tuple[Source, TimeRule]:
        layout, options = self._layout, self._options
        identity = layout.columns.vessel_id
        if options.truth:
            if layout.truth is None:
                raise UsageError(f"{self.where}: layout {layout.name!r} holds no truth to read")
            identity = layout.truth
        if self.by_range and options.sensor is None:
            raise UsageError(
                f"{self.where}: ranges and metres need the position of the radar: geodiff vessels associate takes it "
                "as --position LON,LAT, open_fixes as sensor"
            )
        names = columns_of(layout, Header(self._table.columns), identity)
        if options.anonymous and "vessel_id" not in names:
            identity = None
        seen = ReadCounts()
        sample = take_sample(self._table, sorted(set(names.values())), seen)
        if not sample.width:
            if not options.one_of_many:
                check_any(seen, self.where)
            return Source(layout, names, False, identity), TimeRule("typed")  # of no row
        comma = layout.decimal_comma
        source = Source(layout, names, has_decimal_comma(sample, names, layout) if comma is None else comma, identity)
        told = layout.columns.time
        column = sample[names["time"]]
        column = sample.select(source.text(column.name)).to_series() if column.dtype == pl.String else column
        where = f"{self.where}: column {names['time']!r}"
        rule = sniff_times(column, told, timezone=options.timezone, where=where)
        if rule.style == "time_of_day" and options.date is None:
            raise UsageError(f"{where}: times hold no date: give date (--date YYYY-MM-DD)")
        if identity is not None:
            require_exact(sample[names["vessel_id"]], f"{self.where}: column {names['vessel_id']!r}")
            if rule.style == "time_of_day":
                self._by_vessel = is_by_vessel(sample.select(source.spelling()).to_series())
        return source, rule

    def _parse(self, raw: pl.DataFrame, progress: _Progress) -> pl.DataFrame:
        source, layout = self._source, self._layout
        frame = raw.select(RAW_ROW, *(self._apart(n) for n in range(len(layout.apart))), *text_columns(source))
        frame = frame.with_columns(self._times(raw, progress), *number_columns(raw, source), *code_columns(raw, source))
        frame = frame.with_columns(self._absent(raw, frame["time"]))
        frame = frame.with_columns(identity_columns(raw, source))
        if "__spelt" in frame.columns:
            frame = frame.with_columns(spelt_names(frame))
        bad = pl.col(unreadable("vessel_id")) if unreadable("vessel_id") in frame.columns else pl.lit(False)
        # The codes are those of transponders.
        none = not_available(frame) if layout.kind == "ais" else [pl.col("^cog_deg$").replace(360.0, 0.0)]
        frame = frame.with_columns(none).with_columns(bad.alias("__unreadable_id"))
        if self.by_range and self._options.sensor is not None:
            frame = place_plots(frame, self._options.sensor)
        return self._fill_static(frame, progress) if layout.static_rows else frame

    def _absent(self, raw: pl.DataFrame, time: pl.Series) -> list[pl.Expr]:
        """Marks of rows without a time, and of those without a place too: separators of a file."""
        if not time.null_count():
            return [pl.lit(False).alias("__no_time"), pl.lit(False).alias("__blank")]
        names = [self._source.names[key] for key in ("time", *self._layout.place)]
        no_time, *no_place = (raw.select(self._source.text(name).is_null()).to_series() for name in names)
        return [pl.lit(no_time).alias("__no_time"), pl.lit(no_time & no_place[0] & no_place[1]).alias("__blank")]

    def _apart(self, number: int) -> pl.Expr:
        apart = self._layout.apart[number]
        name = Header(self._table.columns).find(apart.column)
        found = pl.lit(False)
        if name is not None:
            values = [str(value) for value in apart.values]
            found = pl.col(name).cast(pl.String).str.strip_chars().str.replace(r"^(-?\d+)\.0$", "${1}").is_in(values)
        return found.fill_null(False).alias(f"__apart_{number}")

    def _times(self, raw: pl.DataFrame, progress: _Progress) -> pl.Series:
        told, names = self._layout.columns.time, self._source.names
        if self._rule.style == "time_of_day":
            time = self._times_of_day(raw, names["time"], progress)
        else:
            given = raw
            if self._rule.style == "number":
                given = number_values(raw, names["time"], self._source).alias(names["time"]).to_frame()
            time = given.select(self._rule.expression(names["time"])).to_series()
        for name, unit_us in ((told.plus_s, 1_000_000), (told.plus_ms, 1_000)):
            if name is not None:
                more = number_values(raw, names[beside(name)], self._source) * unit_us
                time = time + more.round().cast(pl.Int64, strict=False).cast(pl.Duration("us"))
        return time.alias("time")

    def _times_of_day(self, raw: pl.DataFrame, name: str, progress: _Progress) -> pl.Series:
        seconds = raw.select(time_of_day_s(name, raw.schema[name])).to_series()
        vessels = raw.select(self._source.spelling()).to_series() if self._by_vessel else None
        assert self._options.date is not None
        naive, begins = progress.midnights.dated(seconds, vessels, self._options.date)
        if begins.any():
            self.counts.note(BY_VESSEL, raw[RAW_ROW].filter(begins).head(EXAMPLES).to_list(), int(begins.sum()))
        return naive.to_frame("t").select(replace(self._rule, style="typed").expression("t")).to_series()

    def _fill_static(self, frame: pl.DataFrame, progress: _Progress) -> pl.DataFrame:
        """Static data of a vessel, from the rows that carry them, to its later rows."""
        names = [name for name in ("ship_type", *STATIC_TYPES) if name in frame.columns]
        if not names:
            return frame.with_columns(pl.lit(False).alias("__static"))
        static = pl.col("lon_deg").is_null() & pl.any_horizontal(pl.col(name).is_not_null() for name in names)
        frame = frame.with_columns(static.alias("__static"))
        whole = pl.concat([progress.static, frame], how="diagonal_relaxed") if progress.static.height else frame
        told = pl.col(names).forward_fill().over("vessel_id", order_by="time")
        # Who tells no identity is nobody in particular.
        filled = whole.with_columns(pl.when(pl.col("vessel_id").is_not_null()).then(told).otherwise(pl.col(names)))
        known = filled.filter(pl.col("vessel_id").is_not_null() & pl.any_horizontal(pl.col(names).is_not_null()))
        last = known.sort("time", nulls_last=False, maintain_order=True).unique(
            "vessel_id", keep="last", maintain_order=True
        )
        progress.static = last.select("vessel_id", "time", *names)
        return filled.tail(frame.height)

    def _finish(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Our columns in order, in their types."""
        source = pl.lit(self._layout.name if self._layout.kind == "ais" else "radar").alias("source")
        if "source" in frame.columns:
            source = pl.coalesce("source", source)
        row = (
            pl.coalesce(pl.col("row").cast(pl.Int64, strict=False), RAW_ROW)
            if "row" in frame.columns
            else pl.col(RAW_ROW)
        )
        frame = frame.with_columns(source, row.alias("row"))
        out = []
        for name in self.columns:
            kind = OUT_SCHEMA[name]
            value = pl.col(name).cast(kind, strict=False) if name in frame.columns else pl.lit(None, kind)
            out.append((below_360(value) if name in ("cog_deg", "heading_deg") else value).alias(name))
        return frame.select(out)
