"""Checking a whole WorldStrat download, place by place."""

from __future__ import annotations

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geodiff.imagery.worldstrat_check import NOTE, UNFINISHED, Expected, Finding, check_aoi, usual_kinds
from geodiff.imagery.worldstrat_dates import read_metadata
from geodiff.imagery.worldstrat_layout import (
    ANGLES,
    LEVELS,
    METADATA_CSV,
    SPLIT_CSV,
    Layout,
    file_name,
    root_problem,
)
from geodiff.imagery.worldstrat_splits import published_split, read_split_rows, sites_of
from geodiff.schema import GeodiffError

ARCHIVES = (".zip", ".tar", ".gz", ".7z")


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found.

    Attributes:
        findings: all, notes included, by place.
        aois: places that were looked at.
        files: files that these places hold.
    """

    findings: tuple[Finding, ...]
    aois: int
    files: int

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings that are more than a note."""
        return tuple(finding for finding in self.findings if finding.kind != NOTE)


def verify_tree(
    root: Path,
    *,
    pixels: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """List everything that is missing, corrupt, truncated, mis-sized or odd in a download.

    A revisit counts as missing where at least half of the places have its rank and ``metadata.csv`` does not say that
    this place has none; files of angles where at least half of all revisits have them. So copies that hold the best
    eight of sixteen revisits, or no angles, are whole.

    Args:
        root: of the download.
        pixels: read every pixel; else sizes, types and dates alone, which misses files cut in their pixels.
        workers: processes.
        progress: told of places done and of all.
    """
    problem = root_problem(root)
    if problem:
        return Verification((Finding("wrong root", str(root), problem),), 0, 0)
    layout = Layout(root)
    found = [*_leftovers(layout), *_check_tables(layout)]
    names = sorted(set(layout.hr_aois()) | set(layout.lr_aois()))
    found += _absent_folders(layout, names)
    if not names:
        found.append(Finding("missing", str(layout.lr), "there is not a single place"))
    expected, files = _expect(layout, names)
    task = partial(check_aoi, layout, expected=expected, pixels=pixels)
    for done, result in enumerate(_run(task, names, workers), start=1):
        found += result
        if progress:
            progress(done, len(names))
    return Verification(tuple(found), len(names), files)


def _run(task: Callable[[str], list[Finding]], names: Sequence[str], workers: int) -> Iterator[list[Finding]]:
    if workers <= 1 or len(names) < 2:
        yield from map(task, names)
        return
    # Spawned: a forked child of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(task, names, chunksize=4)


def _leftovers(layout: Layout) -> Iterator[Finding]:
    for folder in (layout.root, layout.hr, layout.lr):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.endswith(UNFINISHED):
                yield Finding("unfinished", str(path), "the rest of a download that broke off")
            elif path.is_file() and path.suffix in ARCHIVES:
                yield Finding(NOTE, str(path), "an archive; what it holds should lie unpacked beside it")


def _check_tables(layout: Layout) -> Iterator[Finding]:
    known = set(layout.hr_aois()) | set(layout.lr_aois())
    split, metadata = layout.root / SPLIT_CSV, layout.root / METADATA_CSV
    named: dict[str, str] = {}
    try:
        rows = read_split_rows(layout)
        published = published_split(rows, sites_of([row.aoi for row in rows], {}))
        named |= dict.fromkeys(published.parts, SPLIT_CSV)
        if published.repeated:
            extra = sum(published.repeated.values()) - len(published.repeated)
            torn = f", {len(published.torn)} of the places in several parts" if published.torn else ""
            yield Finding(NOTE, str(split), f"repeats {extra} rows{torn}; the clean split holds each place once")
    except GeodiffError as error:
        yield Finding(_table_kind(split), str(split), str(error))
    try:
        named = dict.fromkeys(read_metadata(layout)["tile"], METADATA_CSV) | named
    except GeodiffError as error:
        yield Finding(_table_kind(metadata), str(metadata), str(error))
    for aoi in sorted(set(named) - known):
        for folder in (layout.hr_folder(aoi), layout.lr / aoi):
            yield Finding("missing", str(folder), f"the folder is not there; {named[aoi]} names the place")
    for aoi in sorted(known - set(named)) if named else ():
        yield Finding(NOTE, str(layout.lr / aoi), "no table names this place")


def _table_kind(path: Path) -> str:
    return "table" if path.exists() else "missing"


def _absent_folders(layout: Layout, names: Sequence[str]) -> list[Finding]:
    high, low = set(layout.hr_aois()), set(layout.lr_aois())
    found = []
    for aoi in names:
        if aoi not in high:
            what = "the folder is not there; the place has low resolution"
            found.append(Finding("missing", str(layout.hr_folder(aoi)), what))
        if aoi not in low:
            what = "the folder is not there; the place has high resolution"
            found.append(Finding("missing", str(layout.lr / aoi), what))
    return found


def _expect(layout: Layout, names: Sequence[str]) -> tuple[Expected, int]:
    """What places usually hold, from the names of all files, and how many files there are."""
    ranks: dict[str, Counter[int]] = {level: Counter() for level in LEVELS}
    kinds: dict[str, Counter[str]] = {level: Counter() for level in LEVELS}
    folders: Counter[str] = Counter()
    files = 0
    for aoi in names:
        files += sum(path.is_file() for path in layout.hr_folder(aoi).glob("*"))
        for level in LEVELS:
            folder = layout.lr_folder(aoi, level)
            if not folder.is_dir():
                continue
            present = {path.name for path in folder.iterdir()}
            own = layout.ranks(aoi, level)
            files += len(present)
            folders[level] += 1
            ranks[level].update(own)
            kinds[level].update(k for rank in own for k in ANGLES if file_name(aoi, level, rank, k) in present)
    levels = [level for level in LEVELS if folders[level]]
    usual = {level: frozenset(r for r, n in ranks[level].items() if 2 * n >= folders[level]) for level in levels}
    revisits = {level: sum(ranks[level].values()) for level in levels}
    listed, dates = _listed(layout)
    wanted = {level: usual_kinds(kinds[level], revisits[level]) for level in levels}
    return Expected(usual, wanted, listed, dates), files


def _listed(layout: Layout) -> tuple[Mapping[str, frozenset[int]], Mapping[tuple[str, int], str]]:
    try:
        table = read_metadata(layout)
    except GeodiffError:
        return {}, {}  # reported with the tables
    ranks: dict[str, set[int]] = defaultdict(set)
    days: dict[tuple[str, int], str] = {}
    told = table["lowres_date"] if "lowres_date" in table.columns else [""] * len(table)
    for aoi, rank, day in zip(table["tile"], table["n"], told, strict=True):
        if rank.isdecimal():
            ranks[aoi].add(int(rank))
            days[aoi, int(rank)] = day
    return {aoi: frozenset(found) for aoi, found in ranks.items()}, days
