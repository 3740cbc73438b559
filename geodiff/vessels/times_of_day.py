"""Times of day, for files that hold no date: seconds since midnight, and which day each row is of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

HALF_DAY_S = 43_200.0

FEWEST_ROWS = 3
"""Rows of a vessel, on average, from which on vessels that stand one after the other say that a file is sorted so."""

BY_VESSEL = "vessels in a file sorted by vessel, each taken to begin on the day that was given"


def time_of_day_s(column: str, kind: pl.DataType) -> pl.Expr:
    """Seconds since midnight of times of day; null where they cannot be read."""
    if kind == pl.Time:
        return pl.col(column).cast(pl.Int64) / 1e9
    text = pl.col(column).cast(pl.String).str.strip_chars()
    parts = text.str.extract_groups(r"^(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?$")
    hour, minute = (parts.struct.field(n).cast(pl.Float64, strict=False) for n in ("1", "2"))
    second = parts.struct.field("3").cast(pl.Float64, strict=False).fill_null(0.0)
    readable = (hour < 24) & (minute < 60) & (second < 60)
    return pl.when(readable).then(hour * 3600 + minute * 60 + second)


def is_by_vessel(vessels: pl.Series) -> bool:
    """Whether the vessels (n,) of a file stand one after the other, and not in the order of time."""
    count = vessels.n_unique()
    return len(vessels) >= FEWEST_ROWS * count and vessels.rle_id().n_unique() == count


@dataclass(slots=True)
class Midnights:
    """Counts midnights from the first row of a file on, a frame at a time.

    A step back by more than half a day is a midnight; a step ahead by as much is a row that belongs before it. In a
    file sorted by vessel each vessel begins on the first day.

    Attributes:
        last_s: the time of day of the last row that had one; None at the start.
        days: midnights up to it.
        vessel: whose row it was, in a file sorted by vessel; None in others.
    """

    last_s: float | None = None
    days: int = 0
    vessel: str | None = None

    def dated(self, seconds: pl.Series, vessels: pl.Series | None, first: date) -> tuple[pl.Series, pl.Series]:
        """Times of the rows, and where another vessel begins.

        Args:
            seconds: (n,) Float64 since midnight, null where unreadable.
            vessels: (n,) text, of a file sorted by vessel; None of one in the order of time.
            first: the day of the first row.

        Returns:
            (n,) without a zone, null where unreadable, and (n,) Boolean.
        """
        passed, begins = self._passed(seconds, vessels)
        frame = pl.DataFrame({"s": seconds, "d": passed})
        ticks = ((pl.col("d") * 86_400 + pl.col("s")) * 1e6).round().cast(pl.Int64).cast(pl.Duration("us"))
        return frame.select(pl.lit(first).cast(pl.Datetime("us")) + ticks).to_series(), begins

    def _passed(self, seconds: pl.Series, vessels: pl.Series | None) -> tuple[pl.Series, pl.Series]:
        """Midnights before each row, and where another vessel begins."""
        if not len(seconds):
            return pl.Series([], dtype=pl.Int64), pl.Series([], dtype=pl.Boolean)
        filled = pl.concat([pl.Series("s", [self.last_s], pl.Float64), seconds.alias("s")]).forward_fill()
        step = filled.diff().slice(1).fill_null(0.0)
        whose = pl.Series("v", [""] * len(seconds)) if vessels is None else vessels.alias("v").fill_null("")
        before = pl.concat([pl.Series("v", [whose[0] if self.vessel is None else self.vessel]), whose]).head(-1)
        begins = whose != before
        frame = pl.DataFrame({"step": step, "begins": begins})
        crossed = (pl.col("step") < -HALF_DAY_S).cast(pl.Int64) - (pl.col("step") > HALF_DAY_S).cast(pl.Int64)
        run = pl.col("begins").cum_sum()
        days = pl.when(~pl.col("begins")).then(crossed).otherwise(0).cum_sum().over(run)
        found = frame.select((days + pl.when(run == 0).then(self.days).otherwise(0)).alias("days")).to_series()
        self.last_s, self.days, self.vessel = filled[-1], int(found[-1]), whose[-1]
        return found, begins
