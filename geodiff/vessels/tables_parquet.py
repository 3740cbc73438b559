"""Parquet files as raw tables: batches of the wanted columns, checked before polars sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from geodiff.schema import GeodiffError
from geodiff.vessels.reading import EXAMPLES, ReadCounts
from geodiff.vessels.tables import RAW_ROW
from geodiff.vessels.tables_text import RECODED, as_utf8

_PAGE_BYTES = 1 << 20
_BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError, KeyError)


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file; see ``tables.RawTable``."""

    path: Path

    @property
    def where(self) -> str:
        """How errors name the file."""
        return str(self.path)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns.

        Raises:
            GeodiffError: truncated or damaged.
        """
        with _explained(self.where), self._open() as file:
            return tuple(file.schema_arrow.names)

    def frames(self, wanted: Sequence[str], counts: ReadCounts, *, rows: int) -> Iterator[pl.DataFrame]:
        """See ``tables.RawTable``."""
        done = 0
        with _explained(self.where, lambda: f" after row {done}"), self._open() as file:
            for name in wanted:
                if pa.types.is_nested(kind := file.schema_arrow.field(name).type):
                    raise GeodiffError(f"{self.where}: column {name!r} holds {kind}, not single values")
            for batch in file.iter_batches(batch_size=rows, columns=list(wanted)):
                batch.validate(full=True)  # offsets and UTF-8: polars trusts them
                table = _in_utc(pa.Table.from_batches([batch]))
                frame = pl.DataFrame(pl.from_arrow(table)).select(_plain(batch.schema))
                frame = frame.select(wanted)
                numbers = np.arange(done + 1, done + 1 + frame.height)
                frame = _as_texts(frame, numbers, counts)
                done += frame.height
                counts.read += frame.height
                yield frame.insert_column(0, pl.Series(RAW_ROW, numbers, pl.Int64))

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, buffer_size=_PAGE_BYTES, pre_buffer=False, page_checksum_verification=True)


def _in_utc(table: pa.Table) -> pa.Table:
    """Timestamps with a zone under UTC, the same instants: polars knows no zones such as +05:30."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            column = table.column(place).cast(pa.timestamp(field.type.unit, "UTC"))
            table = table.set_column(place, field.name, column)
    return table


def _plain(schema: pa.Schema) -> list[pl.Expr]:
    """Columns without dictionaries, decimals and raw bytes."""
    out = []
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        column = pl.col(field.name)
        if pa.types.is_dictionary(field.type) and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            column = column.cast(pl.String)
        elif pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
            column = column.cast(pl.Float64)
        elif pa.types.is_dictionary(field.type) and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            column = column.cast(pl.Binary)
        out.append(column)
    return out


def _as_texts(frame: pl.DataFrame, numbers: npt.NDArray[np.int64], counts: ReadCounts) -> pl.DataFrame:
    """Raw bytes as texts; those that are no UTF-8 as Windows-1252, as in text files, and their rows are noted."""
    odd = np.zeros(frame.height, bool)
    for name in [name for name, kind in frame.schema.items() if kind == pl.Binary]:
        try:
            texts = frame[name].cast(pl.String)
        except pl.exceptions.ComputeError:
            found = [(value or b"", as_utf8(value or b"")) for value in frame[name]]
            odd |= [utf8 is not value for value, (utf8, _) in found]
            texts = pl.Series(name, [utf8 for _, (utf8, _) in found], pl.Binary).cast(pl.String)
        frame = frame.with_columns(texts)
    if odd.any():
        counts.note(RECODED, numbers[odd][:EXAMPLES].tolist(), int(odd.sum()))
    return frame


@contextmanager
def _explained(where: str, progress: object = None) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        after = progress() if callable(progress) else ""
        raise GeodiffError(f"{where}: truncated or damaged Parquet{after} ({reason})") from None
