"""What a WorldStrat download holds, gathered for its data card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from geodiff.imagery.worldstrat import Aoi, WorldStrat
from geodiff.imagery.worldstrat_dates import read_metadata
from geodiff.imagery.worldstrat_facts import Card, PlaceFacts
from geodiff.imagery.worldstrat_files import read_header
from geodiff.imagery.worldstrat_layout import DATA, METADATA_CSV, Layout
from geodiff.imagery.worldstrat_register import HrTransform
from geodiff.imagery.worldstrat_splits import Split, coordinates_of, read_split
from geodiff.schema import VALID, GeodiffError, X, Y

TAIL_BYTES = 1 << 16
STRATA = ("IPCC Class", "LCCS class", "SMOD Class", "SMOD", "source")
Progress = Callable[[str, int, int], None]


def describe_tree(root: Path, *, level: str = "L2A", pairs: int | None = 64, progress: Progress | None = None) -> Card:
    """Gather the facts of a download.

    Args:
        root: of the download.
        level: of the low resolution.
        pairs: places whose pixels are read for registration, radiometry and clear shares, spread evenly over the
            names; all when None.
        progress: told (stage, done, total).

    Raises:
        GeodiffError: ``root`` is no WorldStrat, or holds no place. A place that cannot be read is listed in the card.
    """
    tree = WorldStrat(root, level)
    if not len(tree):
        raise GeodiffError(f"{root} holds no place with both resolutions: finish the download")
    failures: list[tuple[str, str]] = []
    covers, strata, where = _strata(tree.layout, failures)
    places: list[PlaceFacts] = []
    for done, aoi in enumerate(tree, start=1):
        try:
            places.append(_facts(aoi, covers.get(aoi.name, ""), where.get(aoi.name)))
        except GeodiffError as error:
            failures.append((aoi.name, str(error)))
        if progress:
            progress("places", done, len(tree))
    transforms, clear = _read_pairs(tree, _spread_out([p.aoi for p in places], pairs), failures, progress)
    splits, problem = _splits(tree.layout)
    return Card(str(root), level, tuple(places), tuple(failures), tuple(transforms), clear, strata, splits, problem)


def _facts(aoi: Aoi, cover: str, lon_lat: tuple[float, float] | None) -> PlaceFacts:
    revisits = aoi.revisits()
    low = read_header(aoi.layout.lr_file(aoi.name, aoi.level, revisits[0].rank, DATA))
    sharp = aoi.layout.hr_file(aoi.name, "ps")
    return PlaceFacts(aoi.name, low.shape, read_header(sharp).shape, revisits, cover, lon_lat, _mark(sharp))


def _mark(path: Path) -> str:
    """A hash of the end of a file: pixels, not the header that all images share."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return f"{size}-{hashlib.blake2b(file.read(), digest_size=12).hexdigest()}"


def _read_pairs(
    tree: WorldStrat, names: Sequence[str], failures: list[tuple[str, str]], progress: Progress | None
) -> tuple[list[HrTransform], dict[str, tuple[float, ...]]]:
    transforms: list[HrTransform] = []
    clear: dict[str, tuple[float, ...]] = {}
    for done, name in enumerate(names, start=1):
        try:
            pair = tree[name].pair()
            transforms.append(pair.transform)
            clear[name] = tuple(float(share) for share in pair.cube[VALID].mean((Y, X)).values)
        except GeodiffError as error:
            failures.append((name, str(error)))
        if progress:
            progress("pairs", done, len(names))
    return transforms, clear


def _spread_out(names: Sequence[str], count: int | None) -> list[str]:
    if count is None or count >= len(names):
        return list(names)
    return [names[int(i)] for i in np.linspace(0, len(names) - 1, count).round()]


def _strata(
    layout: Layout, failures: list[tuple[str, str]]
) -> tuple[dict[str, str], dict[str, dict[str, int]], dict[str, tuple[float, float]]]:
    """Land cover of each AOI, AOIs of each class by column of metadata.csv, and coordinates."""
    try:
        once = read_metadata(layout).drop_duplicates("tile")
        where = coordinates_of(layout)
    except GeodiffError as error:
        failures.append((METADATA_CSV, str(error)))
        return {}, {}, {}
    told = [name for name in STRATA if name in once.columns]
    counts = {name: {str(k) or "unknown": int(v) for k, v in once[name].value_counts().items()} for name in told}
    covers = dict(zip(once["tile"], once[told[0]], strict=True)) if told else {}
    return covers, counts, where


def _splits(layout: Layout) -> tuple[dict[str, Split], str]:
    try:
        return {name: read_split(layout, name) for name in ("published", "clean")}, ""
    except GeodiffError as error:
        return {}, str(error)
