"""What every reader of fixes offers, whatever the format: batches of one table, and an account of what it refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import polars as pl

from geodiff.schema import GeodiffError
from geodiff.tracks import FIX_TYPES

POLARS_TYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(),
    "int16": pl.Int16(),
    "int8": pl.Int8(),
    "float64": pl.Float64(),
    "float32": pl.Float32(),
    "string": pl.String(),
    "timestamp[us, UTC]": pl.Datetime("us", "UTC"),
}
"""Arrow type names of ``geodiff.tracks`` -> polars."""

FIX_SCHEMA = pl.Schema({name: POLARS_TYPES[kind] for name, kind in FIX_TYPES.items()})


EXAMPLES = 5
"""Rows named for each reason of refusal."""

Values = TypeVar("Values", pl.Expr, pl.Series)


@dataclass(slots=True)
class ReadCounts:
    """How many rows (or messages) a reader has read, kept and refused so far, and why.

    Attributes:
        read: rows or messages seen.
        kept: fixes given out.
        refused: reason -> how many; a reason is a short phrase, such as "latitude out of range".
        blanked: what -> how many values of fixes were set to null because the standard does not define them, such as
            "heading undefined"; "not available" is not counted.
        noted: what -> how many rows were read otherwise than they stand, such as texts in another encoding.
        examples: reason -> numbers of the first ``EXAMPLES`` such rows or lines, from 1.
    """

    read: int = 0
    kept: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[int]] = field(default_factory=dict)
    blanked: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, rows: list[int], count: int | None = None) -> None:
        """Count refusals: ``rows`` are their numbers (at least the first ones), ``count`` how many in all."""
        self.refused[reason] = self.refused.get(reason, 0) + (len(rows) if count is None else count)
        self._remember(reason, rows)

    def blank(self, what: str, rows: list[int], count: int) -> None:
        """Count values of kept fixes that were set to null."""
        self.blanked[what] = self.blanked.get(what, 0) + count
        self._remember(what, rows)

    def note(self, what: str, rows: list[int], count: int) -> None:
        """Count rows that were read otherwise than they stand."""
        self.noted[what] = self.noted.get(what, 0) + count
        self._remember(what, rows)

    def _remember(self, reason: str, rows: list[int]) -> None:
        known = self.examples.setdefault(reason, [])
        known.extend(rows[: EXAMPLES - len(known)])

    def add(self, other: ReadCounts) -> None:
        """Add the counts of another reader or part."""
        self.read, self.kept = self.read + other.read, self.kept + other.kept
        for reason, count in other.refused.items():
            self.refuse(reason, other.examples.get(reason, []), count)
        for what, count in other.blanked.items():
            self.blank(what, other.examples.get(what, []), count)
        for what, count in other.noted.items():
            self.note(what, other.examples.get(what, []), count)


def require_exact(values: pl.Series, where: str) -> None:
    """Refuse whole numbers, such as identities, that are too large for floats of 32 bits.

    Raises:
        GeodiffError: so.
    """
    if values.dtype == pl.Float32 and (values.abs() >= 2.0**24).any():
        raise GeodiffError(f"{where}: single precision cannot hold so large numbers: write them as whole numbers")


def below_360(course_deg: Values) -> Values:
    """Courses as tables hold them: in 32 bits, in which what lies just below 360 becomes it, and in [0, 360)."""
    return course_deg.cast(pl.Float32, strict=False).replace(360.0, 0.0)


class FixReader(Protocol):
    """A source of fixes.

    ``batches`` yields polars frames with the columns of ``FIX_SCHEMA`` in order, then those of
    ``geodiff.tracks.STATIC_TYPES`` that the source has; in the order of the source, in bounded memory. ``counts`` grows
    while it is read and is complete at the end.
    """

    @property
    def layout(self) -> str:
        """Name of the format, such as ``noaa``."""
        ...

    @property
    def counts(self) -> ReadCounts: ...

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]: ...


class EmptyReader:
    """A file of no bytes, one of several; see ``FixReader``."""

    layout = "empty"

    def __init__(self) -> None:
        self.counts = ReadCounts()

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]:
        """None."""
        yield from ()
