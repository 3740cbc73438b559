"""Delimited text, read in blocks of bytes: each line is a row or is counted as none; one bad line spoils no other.

Quotes are settled before the parser sees the block: a delimiter inside a quoted field is hidden, and a line whose
quotes do not pair is taken as it stands. So a stray quote in a ship's name cannot swallow the lines after it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.vessels.reading import EXAMPLES, ReadCounts
from geodiff.vessels.sniff import (
    DamagedError,
    Readable,
    Sniffed,
    open_plain,
    read_up_to,
    sniff_delimiter,
    unpacking,
)
from geodiff.vessels.tables import RAW_ROW

BLOCK_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 20
BYTES_PER_ROW = 64
"""A block holds about as many rows as are asked for."""

BLANK, RAGGED = "blank line", "other number of fields than the header"

RECODED = "lines that are no UTF-8, read as Windows-1252"

_NEWLINE, _RETURN, _QUOTE, _HIDDEN = 10, 13, 34, 0x1F

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A delimited text file with a header; see ``tables.RawTable``.

    Attributes:
        file: what and where it is.
        columns: names, as they stand in the header.
        delimiter: one character.
        first_line: line of the first row, from 1.
        block_bytes: bytes parsed at a time.
        trailing: rows end with a delimiter that the header does not have.
    """

    file: Sniffed
    columns: tuple[str, ...]
    delimiter: str
    first_line: int
    block_bytes: int = BLOCK_BYTES
    trailing: bool = False

    @property
    def where(self) -> str:
        """How errors name the file."""
        return self.file.where

    def frames(self, wanted: Sequence[str], counts: ReadCounts, *, rows: int) -> Iterator[pl.DataFrame]:
        """See ``tables.RawTable``; all values are texts, empty ones null."""
        size = min(self.block_bytes, max(MAX_LINE_BYTES // 16, rows * BYTES_PER_ROW))
        line = 1
        with open_plain(self.file) as stream:
            try:
                for block in _blocks(stream, size):
                    frame, line = self._parse(block, line, wanted, counts)
                    for start in range(0, frame.height, rows):
                        yield frame.slice(start, rows)
            except _LongLineError as error:
                raise GeodiffError(f"{self.where}: {error} after line {line - 1}") from None
            except DamagedError as error:
                raise _broken_off(self.file, error, line - 1, counts) from None

    def _parse(self, block: bytes, line: int, wanted: Sequence[str], counts: ReadCounts) -> tuple[pl.DataFrame, int]:
        """The rows of a block whose first line has the number ``line``, and the number after its last."""
        block, recoded = as_utf8(block)
        data, starts, good = _settle(block, ord(self.delimiter), len(self.columns) - 1 + self.trailing)
        numbers = np.arange(line, line + len(starts))
        body = numbers >= self.first_line
        counts.read += int(body.sum())
        lengths = np.diff(np.append(starts, len(data)))
        self._count_bad(data, starts, lengths, ~good & body, line, counts)
        kept = good & body
        if len(recoded := recoded[kept[recoded]]):
            counts.note(RECODED, (recoded[:EXAMPLES] + line).tolist(), len(recoded))
        if not kept.all():
            data = data[np.repeat(kept, lengths)]
        frame = self._read(data, wanted, quoted=b'"' in block)
        if frame.height != (rows := int(kept.sum())):
            raise GeodiffError(
                f"{self.where}: lines {line} to {numbers[-1]} hold {rows} rows, {frame.height} were read"
            )
        return frame.insert_column(0, pl.Series(RAW_ROW, numbers[kept], pl.Int64)), line + len(starts)

    def _read(self, data: Bytes, wanted: Sequence[str], *, quoted: bool) -> pl.DataFrame:
        places = [self.columns.index(name) for name in wanted]
        if not len(data):
            return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String()))
        order = sorted(set(places))
        frame = pl.read_csv(
            io.BytesIO(data.tobytes()),
            has_header=False,
            columns=order,
            separator=self.delimiter,
            quote_char=None,
            infer_schema=False,
        )
        frame.columns = [self.columns[place] for place in order]
        frame = frame.select(wanted)
        if quoted:
            touched = frame.select(pl.all().str.contains('"', literal=True).any()).row(0)
            bare = pl.col([name for name, is_touched in zip(wanted, touched, strict=True) if is_touched])
            bare = bare.str.strip_chars().str.replace(r'^"((?s:.*))"$', "${1}").str.replace_all('""', '"')
            frame = frame.with_columns(bare.str.replace_all("\x1f", self.delimiter, literal=True))
        return frame

    def _count_bad(self, data: Bytes, starts: Ints, lengths: Ints, bad: Bools, line: int, counts: ReadCounts) -> None:
        where = np.flatnonzero(bad)
        if not len(where):
            return
        blank = (lengths[where] == 1) | ((lengths[where] == 2) & (data[starts[where]] <= 32))
        for reason, found in ((BLANK, where[blank]), (RAGGED, where[~blank])):
            if len(found):
                counts.refuse(reason, (found[:8] + line).tolist(), len(found))


def open_text(file: Sniffed, *, delimiter: str | None = None) -> TextTable:
    """Read the header of a text table.

    Args:
        file: what and where it is.
        delimiter: None to tell it by the header.

    Raises:
        GeodiffError: no text, or a damaged file.
    """
    with open_plain(file) as stream:
        head, damage = read_up_to(stream, MAX_LINE_BYTES)
    lines = as_utf8(head)[0].decode().removeprefix("\ufeff").split("\n")
    number, header = next(((n, text) for n, text in enumerate(lines, 1) if text.strip()), (0, ""))
    if damage is not None and number in (0, len(lines)):
        raise _broken_off(file, damage, 0, ReadCounts())
    if not header:
        raise GeodiffError(f"{file.where}: empty file (no text in it)")
    mark = delimiter or sniff_delimiter(header)
    names = tuple(name.strip().strip('"').strip() for name in _fields(header.rstrip("\r"), mark))
    rows = [text.rstrip("\r") for text in lines[number : number + 20] if text.strip()]
    whole = rows[:-1] or rows  # the last may be cut
    trailing = bool(whole) and all(r.endswith(mark) and len(_fields(r, mark)) == len(names) + 1 for r in whole)
    return TextTable(file, names, mark, number + 1, trailing=trailing)


def _fields(line: str, delimiter: str) -> list[str]:
    """Fields of one line; delimiters inside quotes do not cut."""
    if line.count('"') % 2:
        return line.split(delimiter)
    parts = line.split('"')
    hidden = [part.replace(delimiter, "\x1f") if n % 2 else part for n, part in enumerate(parts)]
    return [field.replace("\x1f", delimiter) for field in '"'.join(hidden).split(delimiter)]


class _LongLineError(GeodiffError):
    pass


def _blocks(stream: Readable, size: int) -> Iterator[bytes]:
    """Whole lines, about ``size`` bytes at a time; the last line gets its line end."""
    rest, damage = b"", None
    while damage is None:
        part, damage = read_up_to(stream, size)
        cut = part.rfind(b"\n") + 1
        if cut:
            yield rest + part[:cut]
        rest = part[cut:] if cut else rest + part
        if len(rest) > MAX_LINE_BYTES:
            raise _LongLineError(f"a line of more than {MAX_LINE_BYTES} bytes, so no text table,")
        if not part:
            break
    if damage is not None:
        raise damage
    if rest:
        yield rest + b"\n"


def _settle(block: bytes, delimiter: int, cuts: int) -> tuple[Bytes, Ints, Bools]:
    """Bytes with quoted delimiters hidden, where lines start, and which lines have ``cuts`` delimiters."""
    data = np.frombuffer(block, np.uint8)
    starts = np.append(0, np.flatnonzero(data == _NEWLINE)[:-1] + 1)
    edges = np.append(starts, len(data))
    marks = np.flatnonzero(data == delimiter)
    found = np.diff(np.searchsorted(marks, edges))
    if b'"' in block:
        line = np.repeat(np.arange(len(starts)), found)
        inside = _inside_quotes(data, edges, marks, line)
        data = data.copy()
        data[marks[inside]] = _HIDDEN
        found = found - np.bincount(line[inside], minlength=len(starts))
    return data, starts, found == cuts


def _inside_quotes(data: Bytes, edges: Ints, marks: Ints, line: Ints) -> Bools:
    """Which of the delimiters ``marks`` lie between quotes of their line; none of a line whose quotes do not pair."""
    quotes = np.flatnonzero(data == _QUOTE)
    bounds = np.searchsorted(quotes, edges)
    paired = np.diff(bounds) % 2 == 0
    before = np.searchsorted(quotes, marks) - bounds[line]
    inside: Bools = (before % 2 == 1) & paired[line]
    return inside


def as_utf8(block: bytes) -> tuple[bytes, Ints]:
    """Text in UTF-8, and which of its lines, from 0, were not: those are taken for Windows-1252.

    By lines, so that one damaged byte costs no other name, and nothing depends on where blocks are cut.
    """
    if block.isascii() or _is_utf8(block):
        return block, np.empty(0, np.int64)
    data = np.frombuffer(block, np.uint8)
    high = np.flatnonzero(data > 127)
    odd = np.searchsorted(np.flatnonzero(data == _NEWLINE), high)
    odd = odd[np.append(True, odd[1:] != odd[:-1])]
    one = high[:-1][np.diff(high) == 1]
    if not ((data[one] >= 0xC2) & (data[one + 1] < 0xC0)).any():  # as any letter of UTF-8 would begin
        return block.decode("cp1252", "replace").encode(), odd
    lines = block.split(b"\n")
    odd = np.array([n for n in odd.tolist() if not _is_utf8(lines[n])], np.int64)
    for n in odd.tolist():
        lines[n] = lines[n].decode("cp1252", "replace").encode()
    return b"\n".join(lines), odd


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _broken_off(file: Sniffed, damage: DamagedError, line: int, counts: ReadCounts) -> GeodiffError:
    """What the error says of a damaged file: what to do, what could be read, and after which line it ends."""
    packed = file.packing in ("gzip", "zstd")
    unpack = f"; to take what is there, unpack it into a file: {unpacking(file.path)} > part.csv" if packed else ""
    return GeodiffError(
        f"{damage}: fetch it again{unpack}; {counts.read:,} rows, {counts.kept:,} fixes until there, after line {line}"
    )
