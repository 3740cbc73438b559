"""Checking the files of one WorldStrat place: what is missing, corrupt, truncated or of a wrong size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from geodiff.imagery.worldstrat_dates import Revisit, hr_time_of, read_revisit
from geodiff.imagery.worldstrat_files import Header, header_of, opened, pixels_of
from geodiff.imagery.worldstrat_layout import (
    DATA,
    FACTS,
    HR_COUNT,
    HR_PIXEL_M,
    HR_SUFFIX,
    LR_BANDS,
    LR_PIXEL_M,
    REQUIRED,
    Layout,
    file_name,
)
from geodiff.imagery.worldstrat_pair import EXTENT_SLACK
from geodiff.imagery.worldstrat_series import SAME_PLACE_PX
from geodiff.schema import GeodiffError

NOTE: Final = "note"
UNFINISHED: Final = (".part", ".partial", ".crdownload", ".download", ".tmp", ".aria2")
HR_TYPES: Final = {"ps": "uint16", "pan": "uint16", "rgbn": "uint16", "rgb": "uint8"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: "wrong root", "missing", "unfinished", "corrupt", "truncated", "mis-sized", "misplaced", "content",
            "dates" or "table"; "note" for what is odd but does no harm.
        path: of the file or folder.
        what: one line.
    """

    kind: str
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What the places of a download usually hold, which tells what one of them lacks.

    Attributes:
        ranks: level -> ranks that at least half of the places have.
        kinds: level -> kinds of files of a revisit.
        listed: AOI -> ranks that ``metadata.csv`` lists; an AOI that it does not list is absent.
        dates: (AOI, rank) -> low-resolution day that ``metadata.csv`` tells.
    """

    ranks: Mapping[str, frozenset[int]]
    kinds: Mapping[str, tuple[str, ...]]
    listed: Mapping[str, frozenset[int]]
    dates: Mapping[tuple[str, int], str]


def check_aoi(layout: Layout, aoi: str, expected: Expected, *, pixels: bool = True) -> list[Finding]:
    """Everything that is wrong with one place.

    Args:
        layout: of the download.
        aoi: name; folders that it lacks altogether are for the caller to report.
        expected: what others hold.
        pixels: read all pixels; else sizes and types alone.
    """
    found: list[Finding] = []
    high: dict[str, Header] = {}
    if layout.hr_folder(aoi).is_dir():
        found += list(_unfinished(layout.hr_folder(aoi)))
        high = _high_headers(layout, aoi, found, pixels)
    shapes: list[tuple[int, int]] = []
    for level in sorted(expected.ranks, reverse=True):
        if (layout.lr / aoi).is_dir():
            found += _check_level(layout, aoi, level, expected, pixels=pixels, shapes=shapes)
    found += _check_sizes(layout, aoi, high, shapes)
    return found


def _unfinished(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name.endswith(UNFINISHED):
            yield Finding("unfinished", str(path), "the rest of a download that broke off")


def _open(path: Path, found: list[Finding], pixels: bool) -> Header | None:
    """Check that an image can be read; None, and a finding, where it cannot."""
    if not path.is_file():
        found.append(Finding("missing", str(path), "not there"))
        return None
    header = None
    try:
        with opened(path) as source:
            header = header_of(source)
            values = pixels_of(source, path) if pixels else None
    except GeodiffError as error:
        found.append(Finding("truncated" if header else "corrupt", str(path), _reason(error, path)))
        return header
    if values is not None and np.issubdtype(values.dtype, np.integer) and not values.any():
        found.append(Finding("content", str(path), "all pixels are zero"))
    return header


def _reason(error: GeodiffError, path: Path) -> str:
    return str(error).removeprefix(f"{path} ").removesuffix(": download it again")


def _high_headers(layout: Layout, aoi: str, found: list[Finding], pixels: bool) -> dict[str, Header]:
    headers: dict[str, Header] = {}
    for kind in HR_SUFFIX:
        path = layout.hr_file(aoi, kind)
        header = _open(path, found, pixels)
        if header is None:
            continue
        if header.dtype != HR_TYPES[kind]:
            found.append(Finding("content", str(path), f"holds {header.dtype}, not {HR_TYPES[kind]}"))
        if header.count < HR_COUNT[kind] or (header.count > HR_COUNT[kind] and kind != "rgb"):
            found.append(Finding("mis-sized", str(path), f"holds {header.count} bands, not {HR_COUNT[kind]}"))
        headers[kind] = header
    return headers


def _check_level(
    layout: Layout, aoi: str, level: str, expected: Expected, *, pixels: bool, shapes: list[tuple[int, int]]
) -> list[Finding]:
    """Check the revisits of one level; the size that most of its images share is added to ``shapes``."""
    folder = layout.lr_folder(aoi, level)
    if not folder.is_dir():
        return [Finding("missing", str(folder), f"the folder of {level} is not there")]
    found = list(_unfinished(folder))
    present = set(layout.ranks(aoi, level))
    wanted = expected.ranks[level]
    listed = expected.listed.get(aoi, wanted)
    if wanted - listed - present:
        ranks = ", ".join(str(rank) for rank in sorted(wanted - listed - present))
        found.append(Finding(NOTE, str(folder), f"no revisit {ranks}; metadata.csv knows of none"))
    headers: dict[Path, Header] = {}
    revisits: list[Revisit] = []
    for rank in sorted(present | (wanted & listed)):
        for kind in expected.kinds[level]:
            path = folder / file_name(aoi, level, rank, kind)
            if kind == FACTS:
                revisits += _check_facts(path, aoi, rank, expected, found)
            elif (header := _open(path, found, pixels)) is not None:
                headers[path] = header
                bands = len(LR_BANDS[level]) if kind == DATA else 1
                if header.count != bands:
                    found.append(Finding("mis-sized", str(path), f"holds {header.count} bands, not {bands}"))
    found += _check_alike(headers, shapes)
    if revisits:
        try:
            hr_time_of(revisits, aoi)
        except GeodiffError as error:
            found.append(Finding("dates", str(folder), str(error)))
    return found


def _check_facts(path: Path, aoi: str, rank: int, expected: Expected, found: list[Finding]) -> list[Revisit]:
    if not path.is_file():
        found.append(Finding("missing", str(path), "not there: without it the revisit has no date"))
        return []
    try:
        revisit = read_revisit(path, rank)
    except GeodiffError as error:
        found.append(Finding("corrupt", str(path), _reason(error, path)))
        return []
    told = expected.dates.get((aoi, rank))
    day = str(revisit.time.astype("datetime64[D]"))
    if told and told[:10] != day:
        found.append(Finding(NOTE, str(path), f"says {day}, metadata.csv {told[:10]}; the reader believes the former"))
    return [revisit]


def _check_alike(headers: Mapping[Path, Header], shapes: list[tuple[int, int]]) -> list[Finding]:
    """All images of a level show one box on one lattice."""
    if not headers:
        return []
    common, _ = Counter(header.shape for header in headers.values()).most_common(1)[0]
    shapes.append(common)
    like = [header for header in headers.values() if header.shape == common]
    origin = Counter((h.transform.c, h.transform.f) for h in like).most_common(1)[0][0]
    found = []
    for path, header in headers.items():
        t = header.transform
        if header.shape != common:
            found.append(
                Finding("mis-sized", str(path), f"is {_by(header.shape)} pixels where the others are {_by(common)}")
            )
        elif header.crs is None:
            found.append(Finding("misplaced", str(path), "has no georeference"))
        elif max(abs(t.c - origin[0]) / abs(t.a), abs(t.f - origin[1]) / abs(t.e)) > SAME_PLACE_PX:
            found.append(Finding("misplaced", str(path), "lies elsewhere than the others of its series"))
    return found


def _check_sizes(layout: Layout, aoi: str, high: Mapping[str, Header], shapes: list[tuple[int, int]]) -> list[Finding]:
    """Both levels are of one size, and each high-resolution image covers the box of the low resolution."""
    found = []
    if len(set(shapes)) > 1:
        sizes = " and ".join(_by(shape) for shape in shapes)
        found.append(Finding("mis-sized", str(layout.lr / aoi), f"the levels are of different sizes: {sizes} pixels"))
    sharp = {kind: header.shape for kind, header in high.items() if HR_PIXEL_M[kind] == HR_PIXEL_M["ps"]}
    usual = Counter(sharp.values()).most_common(1)[0][0] if sharp else (0, 0)
    for kind, header in high.items():
        path = str(layout.hr_file(aoi, kind))
        if sharp.get(kind, usual) != usual:
            what = f"is {_by(header.shape)} pixels where the others of 1.5 m are {_by(usual)}"
            found.append(Finding("mis-sized", path, what))
        elif shapes and not _same_box(header.shape, shapes[0], kind):
            what = f"is {_by(header.shape)} pixels, which is not the box of {_by(shapes[0])} pixels of 10 m"
            found.append(Finding("mis-sized", path, what))
    return found


def _same_box(high: tuple[int, int], low: tuple[int, int], kind: str) -> bool:
    sides = [size * LR_PIXEL_M / count for size, count in zip(low, high, strict=True)]
    return all(abs(side / HR_PIXEL_M[kind] - 1) <= EXTENT_SLACK for side in sides)


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def usual_kinds(counts: Mapping[str, int], revisits: int) -> tuple[str, ...]:
    """Kinds of files that a revisit should have: the required, and those that half of all revisits have."""
    return (*REQUIRED, *(kind for kind, count in counts.items() if kind not in REQUIRED and 2 * count >= revisits))
