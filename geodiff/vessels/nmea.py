"""NMEA 0183 recordings of AIS (AIVDM and AIVDO) as fixes."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import polars as pl

from geodiff.schema import GeodiffError, UsageError
from geodiff.tracks import SOURCE, STATIC_TYPES
from geodiff.vessels.nmea_bytes import LineSource
from geodiff.vessels.nmea_lines import Parsed, parse
from geodiff.vessels.nmea_sequence import Sequence
from geodiff.vessels.nmea_stamps import NO_TIME, SECOND_US
from geodiff.vessels.nmea_static import join_static
from geodiff.vessels.read_refuse import LATEST_AHEAD
from geodiff.vessels.reading import FIX_SCHEMA, ReadCounts

HELD_ROWS = 500_000
"""Fixes kept in memory; more go to temporary files until the static data of the whole recording are known."""

AHEAD = 2
"""Blocks that are read ahead, beside those at work."""

MOST_WORKERS = 16
_FOREVER_US = 2**63 - 1


class NmeaReader:
    """A recording of AIS sentences; the ``FixReader`` of layout ``nmea``.

    Fixes come from messages 1-4, 9, 11, 18, 19, 21 and 27; ``source`` is ``nmea:<type>``: 4 are base stations, 21 aids
    to navigation, 9 aircraft. ``row`` is the line; of a message of several sentences the one that completed it. Ship
    type, name, size and so on come from messages 5, 19 and 24: of each item the latest that the ship had sent by then,
    or the first it sent later, but nothing sent after ``known_by_us``. That is why the first batch comes when all has
    been read.

    The time is that of the tag block (``c:``, seconds or milliseconds), else of a logger's text before the sentence, of
    a ``$PGHP`` line before it, or of a receiver's text after it; times without a zone are taken for UTC. Failing all
    these see ``geodiff.vessels.nmea_clock``; what has no time is refused.
    """

    layout = "nmea"

    def __init__(
        self,
        source: LineSource,
        *,
        start_us: int = NO_TIME,
        latest_us: int = _FOREVER_US,
        workers: int = 1,
        known_by_us: int = _FOREVER_US,
    ) -> None:
        self._source, self._workers, self._used = source, workers, False
        self._known_by_us = known_by_us
        self._sequence = Sequence(start_us, latest_us)

    @property
    def counts(self) -> ReadCounts:
        """``read`` are lines that are not blank (one with two sentences counts twice): kept, refused or skipped."""
        return self._sequence.counts

    @property
    def skipped(self) -> dict[str, int]:
        """Lines that rightly give no fix, such as static data and comments: what they are -> how many."""
        return {what: count for what, count in sorted(self._sequence.skipped.items()) if count}

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]:
        """Fixes in the order of lines, ``rows`` at a time.

        Raises:
            GeodiffError: the source cannot be read, or has not one valid AIS sentence.
            UsageError: this reader was used before.
        """
        if self._used:
            raise UsageError(f"{self._name}: was read already; open it again")
        self._used = True
        with tempfile.TemporaryDirectory(prefix="geodiff-nmea-") as folder:
            held = _Held(Path(folder))
            for parsed in self._parsed():
                self._sequence.pass_over(self._overlong())
                held.add(self._sequence.take(parsed))
            self._finish()
            table = self._sequence.statics.table(self._known_by_us)
            for frame in _sized(held.frames(), rows):
                yield _finished(join_static(frame, table))

    @property
    def _name(self) -> str:
        source = self._source.source
        return str(source if isinstance(source, Path) else getattr(source, "name", "stream"))

    def _overlong(self) -> list[int]:
        found, self._source.overlong[:] = self._source.overlong[:], []
        return found

    def _parsed(self) -> Iterator[Parsed]:
        """Blocks in order, whoever parses them."""
        blocks = self._source.blocks()
        if self._workers == 1:
            yield from map(parse, blocks)
            return
        # Threads, for nearly all the time goes by inside numpy, which lets others run.
        with ThreadPoolExecutor(self._workers, thread_name_prefix="nmea") as pool:
            waiting: deque[Future[Parsed]] = deque()
            for block in blocks:
                waiting.append(pool.submit(parse, block))
                if len(waiting) >= self._workers + AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _finish(self) -> None:
        self._sequence.pass_over(self._overlong())
        self._sequence.finish(self._source.damage, self._source.lines)
        if self._sequence.valid:
            return
        counts = self.counts
        why = ", ".join(
            f"{reason} ({count}, line {', '.join(map(str, counts.examples[reason]))})"
            for reason, count in sorted(counts.refused.items(), key=lambda item: -item[1])
        )
        raise GeodiffError(
            f"{self._name}: not one valid AIS sentence (!AIVDM or !AIVDO) in {self._source.lines} lines"
            f"{': ' + why if why else ''}; give an NMEA 0183 recording, plain, gzip or zstd"
        )


def open_nmea(
    source: Path | BinaryIO,
    *,
    start: datetime | None = None,
    now: datetime | None = None,
    workers: int | None = None,
    known_by: datetime | None = None,
) -> NmeaReader:
    """Open a recording; nothing is read yet.

    Args:
        source: path, or a binary stream such as ``sys.stdin.buffer``; plain, gzip or zstd, told by the first bytes.
        start: when the first line was received, with a time zone; for recordings whose lines carry no time.
        now: fixes more than a day after it are refused; None: the clock.
        workers: threads that decode; None for one on each core. The result does not depend on it.
        known_by: static data sent later are joined to no fix.

    Raises:
        UsageError: ``start`` has no time zone, or ``workers`` is not positive.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers: {workers} is not positive; leave it out for one on each core")
    if start is not None and start.tzinfo is None:
        raise UsageError(f"start: {start.isoformat()} has no time zone; add one, such as Z")
    start_us = NO_TIME if start is None else round(start.astimezone(UTC).timestamp() * SECOND_US)
    latest_us = round(((now or datetime.now(UTC)) + LATEST_AHEAD).timestamp() * SECOND_US)
    known_by_us = _FOREVER_US if known_by is None else round(known_by.timestamp() * SECOND_US)
    return NmeaReader(
        LineSource(source),
        start_us=start_us,
        latest_us=latest_us,
        workers=workers or _cores(),
        known_by_us=known_by_us,
    )


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS)


class _Held:
    """Frames kept in their order; beyond ``HELD_ROWS`` in files of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._frames, self._rows, self._files = folder, list[pl.DataFrame](), 0, list[Path]()

    def add(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        self._rows += frame.height
        if self._rows >= HELD_ROWS:
            path = self._folder / f"{len(self._files)}.arrow"
            pl.concat(self._frames).write_ipc(path, compression="lz4")
            self._files.append(path)
            self._frames, self._rows = [], 0

    def frames(self) -> Iterator[pl.DataFrame]:
        for path in self._files:
            yield pl.read_ipc(path.read_bytes())
            path.unlink()
        yield from self._frames


def _sized(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of ``rows``, the last of fewer."""
    held, count = list[pl.DataFrame](), 0
    for frame in frames:
        held.append(frame)
        count += frame.height
        if count >= rows:
            whole = pl.concat(held)
            for start in range(0, count - rows + 1, rows):
                yield whole.slice(start, rows)
            held, count = [whole.slice(count - count % rows)], count % rows
    if count:
        yield pl.concat(held)


def _finished(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.format("nmea:{}", SOURCE).alias(SOURCE)).select(
        *(pl.col(name).cast(kind) for name, kind in FIX_SCHEMA.items()), *STATIC_TYPES
    )
