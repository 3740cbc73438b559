"""What a file is, told by its bytes: Parquet, NMEA sentences or a text table, packed or not; and its plain bytes."""

from __future__ import annotations

import logging
import lzma
import re
import shlex
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

import pyarrow as pa

from geodiff.schema import GeodiffError, UsageError, printable

HEAD_BYTES = 1 << 16
STEP_BYTES = 1 << 14
FIRST_STEP_BYTES = 1 << 6
MAX_MEMBERS = 2_000
"""Files in one zip, whose list is read again for each."""

DELIMITERS = (",", ";", "\t", "|")

_SENTENCE = re.compile(rb"[!$][A-Z]{2}VD[MO],\d")
_INSTRUMENT = re.compile(rb"(?:\\[^\\\n]{0,200}\\)?[!$][A-Z]{4,6},[^\n*]{0,90}\*[0-9A-Fa-f]{2}\r?\n")
"""A sentence of another instrument on the bus: those of AIS may come later than we look."""

_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?(?:\"?[A-Za-z][\w ./()#-]{0,40}\"?[,;\t|]){3}[^!$\n]*\n")
"""Names of columns, four at least; no sentence and no text before one looks so."""

_CONTROL = bytes(set(range(32)) - {9, 10, 13, 27, 0x1F})
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    pa.ArrowException,
    # What zipfile raises, on purpose or not, of a damaged, an encrypted and an unsupported zip.
    zipfile.BadZipFile,
    lzma.LZMAError,
    RuntimeError,
    ValueError,
    LookupError,
    struct.error,
)

Kind = Literal["parquet", "nmea", "text"]
Packing = Literal["", "gzip", "zstd", "zip"]

log = logging.getLogger(__name__)


class Readable(Protocol):
    """Bytes in order."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A file, or one file of a zip, and what its bytes are.

    Attributes:
        path: of the file.
        kind: Parquet, NMEA or a text table.
        packing: compression around it.
        member: name inside the zip; empty for other files.
    """

    path: Path
    kind: Kind
    packing: Packing = ""
    member: str = ""

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"{self.path}!{excerpt(self.member)}" if self.member else str(self.path)


class DamagedError(GeodiffError):
    """A compressed file that ends too early or breaks its own form."""


class _Guarded:
    """A stream whose errors say what is wrong with the file."""

    def __init__(self, stream: Readable, what: str, where: str) -> None:
        self._stream, self._what, self._where = stream, what, where

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except MemoryError:
            raise
        except _UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DamagedError(f"{self._where}: truncated or damaged {self._what} ({reason})") from None


@contextmanager
def open_plain(file: Sniffed, archive: zipfile.ZipFile | None = None) -> Iterator[Readable]:
    """The decompressed bytes, in order and in bounded memory.

    Args:
        file: what and where.
        archive: the zip that it is in, where that is open already.

    Raises:
        GeodiffError: the file cannot be read, or (while reading) is truncated or damaged.
    """
    with ExitStack() as stack:
        try:
            stream = _open(file, stack, archive)
        except _UNREADABLE as error:
            raise GeodiffError(f"{file.where}: cannot be opened ({_reason(error)})") from None
        yield _Guarded(stream, file.packing or "file", file.where)


def _open(file: Sniffed, stack: ExitStack, archive: zipfile.ZipFile | None) -> Readable:
    if file.packing == "zip":
        archive = archive or stack.enter_context(zipfile.ZipFile(file.path))
        return stack.enter_context(archive.open(file.member))
    raw = stack.enter_context(file.path.open("rb"))
    if not file.packing:
        return raw
    # Arrow's, not gzip's and zstandard's own: it reads joined frames and says when a stream ends too early.
    return cast(BinaryIO, stack.enter_context(pa.CompressedInputStream(pa.PythonFile(raw, "r"), file.packing)))


def sniff(path: Path) -> list[Sniffed]:
    """What a file is; several for a zip of several tables.

    Raises:
        UsageError: no such file.
        GeodiffError: empty, unreadable, or neither Parquet nor NMEA nor text; the message says which.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise GeodiffError(f"{path}: cannot be read ({_reason(error)})") from None
    if not magic:
        raise GeodiffError(f"{path}: empty file (0 bytes)")
    if magic == b"PAR1":
        return [Sniffed(path, "parquet")]
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        return _sniff_zip(path)
    return [_sniff_plain(Sniffed(path, "text", _packing(magic)))]


def _packing(magic: bytes) -> Packing:
    return "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic == b"\x28\xb5\x2f\xfd" else ""


def unpacking(path: Path) -> str:
    """The command that gives what stands before the damage of a compressed file, from its first bytes."""
    with open(path, "rb") as file:
        packing = _packing(file.read(4))
    return f"{'zstd' if packing == 'zstd' else 'gzip'} -dc {shlex.quote(str(path))}"


def _sniff_zip(path: Path) -> list[Sniffed]:
    try:
        with zipfile.ZipFile(path) as archive:
            return _sniff_members(path, archive)
    except _UNREADABLE as error:
        raise GeodiffError(f"{path}: truncated or damaged zip ({_reason(error)})") from None


def _sniff_members(path: Path, archive: zipfile.ZipFile) -> list[Sniffed]:
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if not names or len(names) > MAX_MEMBERS:
        raise GeodiffError(f"{path}: a zip of {len(names)} files; 1 to {MAX_MEMBERS} can be read")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GeodiffError(f"{path}: a zip with two files of the name {excerpt(twice)!r}: unpack it")
    found, refused = [], []
    for name in names:
        try:
            found.append(_sniff_plain(Sniffed(path, "text", "zip", name), archive))
        except GeodiffError as problem:
            refused.append(problem)
    if not found:
        raise refused[0]
    for left_out in refused:
        log.warning("left out: %s", left_out)
    return found


def _sniff_plain(file: Sniffed, archive: zipfile.ZipFile | None = None) -> Sniffed:
    """The kind of a file by its first plain bytes."""
    with open_plain(file, archive) as stream:
        head, damage = read_up_to(stream, HEAD_BYTES)
    if damage is not None and not head:
        raise DamagedError(f"{damage}: nothing of it can be read, fetch it again")
    if not head.strip():
        raise GeodiffError(f"{file.where}: empty file (no text in it)")
    found = _SENTENCE.search(head)
    # A sentence within its line may be a column of the table, which readers of sentences take for text before it.
    if found and _HEADER.match(head) and head[found.start() - 1 : found.start()] in (b"\n", b"\\"):
        line = head.count(b"\n", 0, found.start()) + 1
        raise GeodiffError(
            f"{file.where}: mixed formats: line 1 is the header of a table, line {line} holds an NMEA sentence: "
            "split the file"
        )
    if found or _INSTRUMENT.match(head):
        return Sniffed(file.path, "nmea", file.packing, file.member)
    if head[:4] == b"PAR1":
        raise GeodiffError(f"{file.where}: Parquet inside {file.packing}: unpack it first")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise GeodiffError(f"{file.where}: text in UTF-16: convert it to UTF-8 first")
    strange = len(head) - len(head.translate(None, _CONTROL))
    if strange > len(head) / 100:
        raise GeodiffError(
            f"{file.where}: binary data ({strange} of the first {len(head)} bytes are control characters), "
            "not Parquet, NMEA sentences or a text table"
        )
    return file


def read_up_to(stream: Readable, size: int) -> tuple[bytes, DamagedError | None]:
    """Up to ``size`` bytes, fewer only at the end or before damage, and the damage."""
    parts, read = [], 0
    try:
        # In small steps, the smaller the less there is: what a step could not read to its end is lost.
        while read < size and (part := stream.read(min(size - read, STEP_BYTES, FIRST_STEP_BYTES + read // 64))):
            parts.append(part)
            read += len(part)
    except DamagedError as error:
        return b"".join(parts), error
    return b"".join(parts), None


def excerpt(text: str) -> str:
    """A text of a file as part of a message of one line: at most 60 characters, none that would break it."""
    return printable(text[:60])


def sniff_delimiter(line: str) -> str:
    """The delimiter that cuts a header into the most fields; a comma where none occurs."""
    outside = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=outside.count)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
