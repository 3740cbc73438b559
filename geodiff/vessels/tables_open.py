"""Tables opened by what they are."""

from __future__ import annotations

from geodiff.schema import GeodiffError
from geodiff.vessels.sniff import Sniffed
from geodiff.vessels.tables import RawTable
from geodiff.vessels.tables_parquet import ParquetTable
from geodiff.vessels.tables_text import open_text

MAX_COLUMNS = 2_000


def open_table(file: Sniffed, *, delimiter: str | None = None) -> RawTable:
    """The table in a Parquet or a text file.

    Raises:
        GeodiffError: no header, or a damaged file.
    """
    table: RawTable = ParquetTable(file.path) if file.kind == "parquet" else open_text(file, delimiter=delimiter)
    if len(table.columns) > MAX_COLUMNS:
        raise GeodiffError(f"{table.where}: {len(table.columns):,} columns; {MAX_COLUMNS:,} at most can be read")
    return table
