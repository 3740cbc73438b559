"""A table as it stands in a file: names of columns, a sample, and frames of raw values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import polars as pl

from geodiff.vessels.reading import ReadCounts

SAMPLE_ROWS = 20_000
"""Rows by which time formats and decimal commas are told."""

RAW_ROW = "__row__"
"""Int64: line of a text file (the header is a line) or row of a Parquet file, from 1."""


class RawTable(Protocol):
    """Rows of a file.

    Attributes:
        where: how errors name the file.
        columns: names, as they stand.
    """

    @property
    def where(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def frames(self, wanted: Sequence[str], counts: ReadCounts, *, rows: int) -> Iterator[pl.DataFrame]:
        """Frames of at most ``rows`` rows: ``RAW_ROW`` and the wanted columns, texts (text files) or typed.

        ``counts`` gets what was read and which lines are no rows.

        Raises:
            GeodiffError: the file is truncated or damaged.
        """
        ...


def take_sample(table: RawTable, wanted: Sequence[str], counts: ReadCounts) -> pl.DataFrame:
    """The first rows, for sniffing; no columns where there are none, and ``counts`` says why.

    Raises:
        GeodiffError: a damaged file.
    """
    return next(table.frames(wanted, counts, rows=SAMPLE_ROWS), pl.DataFrame())
