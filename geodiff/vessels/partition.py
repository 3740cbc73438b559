"""Fixes of any amount, cut by identity into parts that fit in memory, each of which can be cleaned alone.

Every source file is written on its own: to a hidden folder first, which takes its final name when the file was read to
its end. So a killed run leaves no half a file behind, and a rerun skips the files that are done. ``partition.json``,
written last, says which folders belong together; without it there is nothing to read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date as Date
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from geodiff.config import canonical_json
from geodiff.schema import GeodiffError, UsageError
from geodiff.tracks import FIX_TYPES, STATIC_TYPES
from geodiff.vessels.layouts import read_layout
from geodiff.vessels.nmea_bytes import CUT_OFF, DAMAGED
from geodiff.vessels.partition_files import owned, part_name, part_writers, read_json, write_json
from geodiff.vessels.radar import RadarSensor
from geodiff.vessels.read import STDIN, list_files, open_fixes
from geodiff.vessels.read_columns import OUT_SCHEMA
from geodiff.vessels.read_refuse import check_any
from geodiff.vessels.reading import FixReader, ReadCounts
from geodiff.vessels.sniff import unpacking

FORMAT = 2
"""Of the folder; part of the key of every file, so that an older one is written anew."""

MANIFEST = "partition.json"
MAX_PARTS = 512
"""One file stays open for each."""

ROWS = 500_000


class OpenOptions(TypedDict, total=False):
    """What ``open_fixes`` may be told of all sources."""

    layout: str | Path | None
    date: Date | str | None
    timezone: str | None
    sensor: RadarSensor | None
    truth: bool
    known_by: datetime | None


@dataclass(frozen=True, slots=True)
class PartitionedFixes:
    """Fixes on disk, by part.

    Attributes:
        folder: where they lie.
        parts: how many; a vessel is in one of them, anonymous plots are all in part 0.
        sources: folder of each source file, in order.
        columns: of the fixes: those of ``FIX_TYPES`` and the static ones that any source has.
        counts: what was read, kept and refused.
    """

    folder: Path
    parts: int
    sources: tuple[str, ...]
    columns: tuple[str, ...]
    counts: ReadCounts

    def scan(self, part: int) -> pl.LazyFrame:
        """The fixes of one part, lazily, in the order of the sources."""
        paths = [self.folder / source / part_name(part) for source in self.sources]
        frames = [pl.scan_parquet(path, glob=False) for path in paths if path.is_file()]
        whole = pl.concat(frames) if frames else pl.LazyFrame(schema=OUT_SCHEMA)
        return whole.select(self.columns)

    def read(self, part: int) -> pl.DataFrame:
        """The fixes of one part, sorted by vessel and time; equal times keep the order of the sources."""
        return self.scan(part).sort("vessel_id", "time", maintain_order=True).collect()


def partition_fixes(
    sources: Sequence[str | Path | FixReader],
    folder: Path,
    *,
    parts: int = 64,
    scheduler: str | None = None,
    progress: Callable[[ReadCounts], None] | None = None,
    options: OpenOptions | None = None,
) -> PartitionedFixes:
    """Write the fixes of some sources to Parquet, cut by a hash of the identity.

    Memory is that of a batch of 500,000 rows and its parts, whatever the size of the sources. A rerun skips source
    files that are done and have not changed; readers given as such are read again. What an earlier run wrote of other
    sources is removed at the end.

    Args:
        sources: files, folders, globs, or readers of your own.
        folder: where to write; created where absent, may hold an earlier run.
        parts: 1 to 512; a day of 11 million rows in 64 parts is about 170,000 rows a part.
        scheduler: None: one source after the other in this process; else a scheduler of Dask (``threads``,
            ``processes``, ``distributed`` for the client at hand), which maps the sources.
        progress: told the counts after each batch (None with a scheduler) and after each source.
        options: what ``open_fixes`` is told of every source.

    Raises:
        UsageError: no sources, or wrong options.
        GeodiffError: a source is damaged or unknown, no source holds a fix, or another process writes to the folder.
    """
    if not 1 <= parts <= MAX_PARTS:
        raise UsageError(f"parts {parts}: 1 to {MAX_PARTS}")
    given = dict(options or {})
    jobs = _jobs(sources, folder, parts, given)
    with owned(folder):
        for stale in folder.glob(".*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        if scheduler is None:
            done = [job.run(progress) for job in jobs]
        else:
            from dask.base import compute
            from dask.delayed import delayed

            done = list(compute(*(delayed(job.run, pure=False)(None) for job in jobs), scheduler=scheduler))
        _write_manifest(folder, parts, done)
        _remove_others(folder, {job.key for job in jobs})
    result = open_partition(folder)
    if progress is not None:
        progress(result.counts)
    check_any(result.counts, f"{len(jobs)} sources" if len(jobs) > 1 else str(jobs[0].source))
    return result


def open_partition(folder: Path) -> PartitionedFixes:
    """The fixes that ``partition_fixes`` wrote.

    Raises:
        GeodiffError: no finished partition there.
    """
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        counts = ReadCounts()
        for source in told["sources"]:
            counts.add(ReadCounts(**source["counts"]))
        have = {name for source in told["sources"] for name in source["columns"]}
        columns = (*FIX_TYPES, *(name for name in STATIC_TYPES if name in have))
        keys = tuple(str(source["key"]) for source in told["sources"])
        return PartitionedFixes(folder, int(told["parts"]), keys, columns, counts)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}"
        raise GeodiffError(f"{folder}: no finished partition of fixes ({reason}): run it again") from None


@dataclass(frozen=True, slots=True)
class _Job:
    """One source file; the unit that is done or not."""

    source: str | Path | FixReader
    folder: Path
    parts: int
    key: str
    options: dict[str, Any]

    def run(self, progress: Callable[[ReadCounts], None] | None) -> dict[str, Any]:
        """Write the source, unless it is there; what the manifest says of it."""
        final = self.folder / self.key
        if (known := read_json(final / "source.json")) is not None and self._lasting:
            return known
        shutil.rmtree(final, ignore_errors=True)
        partial = self.folder / f".{self.key}.{uuid.uuid4().hex}.partial"
        partial.mkdir()
        try:
            told = self._write(partial, progress)
            write_json(partial / "source.json", told)
            os.rename(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return told

    @property
    def _lasting(self) -> bool:
        return isinstance(self.source, str | Path) and str(self.source) != STDIN

    def _write(self, folder: Path, progress: Callable[[ReadCounts], None] | None) -> dict[str, Any]:
        path = self.source
        reader = open_fixes(path, **self.options) if isinstance(path, str | Path) else path
        columns: list[str] = []
        with part_writers(folder) as write:
            for batch in reader.batches(rows=ROWS):
                columns = batch.columns
                write(batch, self.parts)
                if progress is not None:
                    progress(reader.counts)
        name = str(path) if isinstance(path, str | Path) else reader.layout
        _require_whole(reader.counts, path)
        return {"key": self.key, "source": name, "columns": columns, "counts": asdict(reader.counts)}


def _require_whole(counts: ReadCounts, source: str | Path | FixReader) -> None:
    for why in (CUT_OFF, DAMAGED):
        if why in counts.refused:
            said = f"{why} after line {counts.examples[why][0]:,}, {counts.kept:,} fixes until there: fetch it again"
            if not isinstance(source, str | Path):
                raise GeodiffError(f"{source.layout}: {said}")
            pipe = f"{unpacking(Path(source))} | geodiff vessels ... -"
            raise GeodiffError(f"{source}: {said}; to take what is there, unpack it into a pipe: {pipe}")


def _jobs(sources: Sequence[str | Path | FixReader], folder: Path, parts: int, options: dict[str, Any]) -> list[_Job]:
    layout = options.get("layout")
    stable = {**options, "layout": None if layout is None else json.loads(read_layout(layout).to_json())}
    stable |= {name: repr(options.get(name)) for name in ("sensor", "known_by")}
    base = {"format": FORMAT, "parts": parts, **stable}
    jobs: list[_Job] = []
    for source in sources:
        if not isinstance(source, str | Path) or str(source) == STDIN:
            jobs.append(_Job(source, folder, parts, f"given-{len(jobs):04d}", options))
            continue
        for path in list_files(source):
            if not path.is_file():
                raise UsageError(f"{path}: no such file")
            facts = path.stat()
            told = {**base, "path": str(path.resolve()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
            digest = hashlib.blake2b(canonical_json(told).encode(), digest_size=8).hexdigest()
            jobs.append(_Job(path, folder, parts, digest, options))
    if not jobs:
        raise UsageError("nothing to read: name at least one file")
    return list({job.key: job for job in jobs}.values())


def _remove_others(folder: Path, keys: set[str]) -> None:
    """Drop what an earlier run wrote of sources that have changed or are no longer wanted."""
    for marker in folder.glob("*/source.json"):
        if marker.parent.name not in keys:
            shutil.rmtree(marker.parent, ignore_errors=True)


def _write_manifest(folder: Path, parts: int, done: list[dict[str, Any]]) -> None:
    write_json(folder / MANIFEST, {"format": FORMAT, "parts": parts, "sources": done})
