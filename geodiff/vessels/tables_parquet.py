"""Parquet files as raw tables: batches of the wanted columns, checked before polars sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geodiff.schema import GeodiffError
from geodiff.vessels.reading import EXAMPLES, ReadCounts
from geodiff.vessels.tables import RAW_ROW
from geodiff.vessels.tables_text import RECODED, as_utf8

MAX_TEXT_BYTES = 4096
"""Of one value; what AIS says of a ship has some twenty."""

FRAME_BYTES = 64 << 20
"""A frame holds no more in texts, however short they are in the file."""

_PAGE_BYTES = 1 << 20
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000}
"""Ticks; those of nanoseconds hold no impossible time."""

_KINDS = (
    *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating),
    *(pa.types.is_decimal32, pa.types.is_decimal64, pa.types.is_decimal128),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
    *(pa.types.is_date, pa.types.is_time, pa.types.is_timestamp),
)
"""What a column may hold."""

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
        with _explained(self.where), self._open() as file:
            for name in wanted:
                _check_kind(file.schema_arrow.field(name).type, f"{self.where}: column {name!r}")
            most = min(rows, _rows_that_fit(file.metadata, wanted, self.where))
        # Texts stay as references to the different ones: one long text that all rows share is seen before it is copied.
        with _explained(self.where, lambda: f" after row {done}"), self._open(read_dictionary=list(wanted)) as file:
            for batch in file.iter_batches(batch_size=most, columns=list(wanted)):
                batch.validate(full=True)  # offsets and UTF-8: polars trusts them
                width = sum(_longest(batch.column(name), f"{self.where}: column {name!r}") for name in wanted)
                whole = pl.DataFrame({name: _series(batch.column(name)) for name in wanted})
                for frame in whole.iter_slices(max(1, FRAME_BYTES // max(width, 1))):
                    numbers = np.arange(done + 1, done + 1 + frame.height)
                    texts = _as_texts(frame, numbers, counts)
                    done += frame.height
                    counts.read += frame.height
                    yield texts.insert_column(0, pl.Series(RAW_ROW, numbers, pl.Int64))

    def _open(self, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
        return pq.ParquetFile(
            self.path,
            read_dictionary=read_dictionary,
            buffer_size=_PAGE_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )


def _check_kind(kind: pa.DataType, where: str) -> None:
    """Refuse what is neither number, text nor time; of some polars does not say so, but ends."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(holds(kind) for holds in _KINDS) or (pa.types.is_decimal(kind) and kind.scale < 0):
        what = "durations" if pa.types.is_duration(kind) else str(kind)
        raise GeodiffError(f"{where} holds {what}, which are no times, numbers or texts")


def _rows_that_fit(file: pq.FileMetaData, wanted: Sequence[str], where: str) -> int:
    """How many rows may be read at once, by the sizes that the file states of its groups of rows."""
    places = {file.schema.column(n).path: n for n in range(file.num_columns)}
    widest = 1
    for group in map(file.row_group, range(file.num_row_groups)):
        sizes = [group.column(places[name]).total_uncompressed_size for name in wanted]
        for name, size in zip(wanted, sizes, strict=True):
            if size > MAX_TEXT_BYTES * group.num_rows + _PAGE_BYTES:
                raise _too_long(f"{where}: column {name!r}", size // max(group.num_rows, 1))
        widest = max(widest, sum(sizes) // max(group.num_rows, 1))
    return max(1, FRAME_BYTES // widest)


def _longest(values: pa.Array, where: str) -> int:
    """Bytes of the longest text; 0 of what is none."""
    if pa.types.is_dictionary(values.type):
        return _longest(values.dictionary, where)
    longest = 0
    if pa.types.is_fixed_size_binary(values.type):
        longest = values.type.byte_width
    elif pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > MAX_TEXT_BYTES:
        raise _too_long(where, longest)
    return int(longest)


def _too_long(where: str, size: int) -> GeodiffError:
    return GeodiffError(f"{where} holds texts of {size:,} bytes, and at most {MAX_TEXT_BYTES:,} are read")


def _series(values: pa.Array) -> pl.Series:
    """Values without dictionaries, decimals and impossible times, which polars cannot hold."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _series(values.dictionary).gather(_series(values.indices))
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        values = values.cast(pa.timestamp(kind.unit, "UTC"))  # polars knows no zones such as +05:30
    series = pl.Series(pl.from_arrow(values))
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return series.cast(pl.Float64)
    return _within_calendar(series)


def _within_calendar(series: pl.Series) -> pl.Series:
    """Times and dates no further than the years 1 to 9999; polars ends where its calendar does.

    ``sniff_time`` cannot read either year.
    """
    kind = series.dtype
    per_day = 1 if kind == pl.Date else _PER_DAY.get(kind.time_unit) if isinstance(kind, pl.Datetime) else None
    if per_day is None:
        return series
    first, last = ((day - date(1970, 1, 1)).days * per_day for day in (date.min, date.max))
    return series.to_physical().clip(first, last).cast(kind)


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
