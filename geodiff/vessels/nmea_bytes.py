"""Blocks of whole lines out of a recording: plain, gzip or zstd, a file or a stream, in bounded memory.

The compression is told by the first bytes, never by the name. A compressed file that ends early, or is damaged, gives
what can be had of it, and says so.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import zstandard

from geodiff.schema import GeodiffError

CUT_OFF, DAMAGED = "compressed data end early", "compressed data are damaged"
"""Why less than a whole recording was read."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

BLOCK_BYTES = 1 << 20
"""How much text is decoded at once: arrays of this many lines stay in the cache of the processor."""

ZSTD_FEED_BYTES = 1 << 10
"""A kilobyte of zstd can hold 32 MiB of one letter, no more: the bound on what a hostile file makes us hold."""

MAX_LINE_BYTES = 1_024
"""A sentence has at most 82 characters and tag blocks at most 80 each; loggers add some."""

BELONGS_TO_NEXT = re.compile(rb"\$PGHP|[^\n]{0,1000}!..VD[MO],([2-9]),(?!\1)\d,")
"""A line that says when the next was received, or has a part of a message but the last: it stays with the next."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines.

    Attributes:
        first_line: number of the first, from 1.
        data: the bytes, ending in a line feed.
    """

    first_line: int
    data: bytes


@dataclass(slots=True)
class LineSource:
    """A recording, cut into blocks of lines.

    Attributes:
        source: path or binary stream; a stream is read once and not closed.
        block_bytes: size of a block, roughly.
        overlong: numbers of the lines, longer than ``MAX_LINE_BYTES``, that were passed over.
        damage: why reading stopped early, such as a compressed file that is cut off; None when all was read.
        lines: how many lines were given out or passed over.
    """

    source: Path | BinaryIO
    block_bytes: int = BLOCK_BYTES
    overlong: list[int] = field(default_factory=list)
    damage: str | None = None
    lines: int = 0

    def blocks(self) -> Iterator[Block]:
        """Read once, from the start.

        Raises:
            GeodiffError: the file cannot be opened or read.
        """
        with ExitStack() as stack:
            try:
                stream = self.source
                if isinstance(stream, Path):
                    stream = stack.enter_context(stream.open("rb"))
                yield from self._cut(self._guarded(_plain(stream, self.block_bytes)))
            except OSError as error:
                raise GeodiffError(f"{self.source}: cannot be read ({error.strerror or error})") from error

    def _guarded(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except EOFError:
            self.damage = CUT_OFF
        except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError):
            self.damage = DAMAGED

    def _cut(self, pieces: Iterable[bytes]) -> Iterator[Block]:
        rest, skipping = b"", False
        for piece in pieces:
            data = rest + piece
            if skipping:
                end = data.find(b"\n")
                data = data[end + 1 :] if end >= 0 else b""
                skipping = end < 0
            cut = _cut_at(data)
            if cut:
                yield self._block(data[:cut])
            rest = data[cut:]
            tail = rest.rfind(b"\n") + 1
            if len(rest) - tail > MAX_LINE_BYTES and not skipping:
                if tail:  # a line that waited for this one
                    yield self._block(rest[:tail])
                self.lines += 1
                self.overlong.append(self.lines)
                rest, skipping = b"", True
        if rest:
            yield self._block(rest if rest.endswith(b"\n") else rest + b"\n")

    def _block(self, data: bytes) -> Block:
        first = self.lines + 1
        self.lines += data.count(b"\n")
        return Block(first, data)


def _cut_at(data: bytes) -> int:
    """Where the last whole line ends, less one that belongs to the next."""
    cut = data.rfind(b"\n") + 1
    start = data.rfind(b"\n", 0, max(cut - 1, 0)) + 1
    return start if BELONGS_TO_NEXT.match(data, start) else cut


def _plain(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The stream in pieces, decompressed.

    Raises:
        EOFError: compressed data end early.
        gzip.BadGzipFile, zlib.error, zstandard.ZstdError: compressed data are damaged.
    """
    head = stream.read(len(ZSTD_MAGIC))
    if head.startswith(GZIP_MAGIC):
        with gzip.GzipFile(fileobj=_Joined(head, stream)) as unpacked:
            # read1, not read: what stands before the damage must not be lost with it.
            yield from _gathered(iter(lambda: unpacked.read1(size), b""), size)
    elif head == ZSTD_MAGIC:
        yield from _gathered(_unzstd(_Joined(head, stream)), size)
    else:
        yield from itertools.chain((head,), iter(lambda: stream.read(size), b""))


def _gathered(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Small pieces joined to about ``size``; those before an error come out ahead of it."""
    held, length = [], 0
    try:
        for piece in pieces:
            held.append(piece)
            length += len(piece)
            if length >= size:
                yield b"".join(held)
                held, length = [], 0
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        yield b"".join(held)
        raise
    yield b"".join(held)


def _unzstd(stream: io.RawIOBase) -> Iterator[bytes]:
    """Frames of zstd one after another. Its own stream reader ends silently where a file is cut off."""
    unpack, ended = zstandard.ZstdDecompressor().decompressobj(), False
    data = b""
    while data := data or stream.read(ZSTD_FEED_BYTES) or b"":
        if ended:
            unpack, ended = zstandard.ZstdDecompressor().decompressobj(), False
        yield unpack.decompress(data)
        ended = unpack.eof
        data = unpack.unused_data if ended else b""
    if not ended:
        raise EOFError


class _Joined(io.RawIOBase):
    """A stream with the bytes that were read from it put back in front."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self.head, self.stream = head, stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self.head:
            cut = len(self.head) if size < 0 else size
            found, self.head = self.head[:cut], self.head[cut:]
            return found
        return self.stream.read(size)
