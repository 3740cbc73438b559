"""Which places train, validate and test: as WorldStrat published it, and a split that nothing leaks through.

The published file repeats rows, some of them in two parts, and deals the 3 x 3 tiles of one 22.5 km² order over all
three. ``clean`` keeps tiles of one *site* together. Two places are of one site when they were cut from one order (their
names say so, see ``worldstrat_layout.parent_of``) or when ``metadata.csv`` puts their centres within 2.5 km: a place is
1.6 km wide, so that beyond that no two overlap. The doubt that is left: places a little further apart may still show
one town or one field pattern.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from geodiff.imagery.worldstrat_dates import read_metadata, read_table
from geodiff.imagery.worldstrat_layout import METADATA_CSV, SPLIT_CSV, Layout, parent_of
from geodiff.schema import GeodiffError, UsageError

PARTS: Final = ("train", "val", "test")
SPLITS: Final = ("published", "clean")
NEAR_KM: Final = 2.5
SWEEPS: Final = 4
_EARTH_KM = 6371.0


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One row of the published file."""

    aoi: str
    stratum: str
    cover: str
    part: str


@dataclass(frozen=True, slots=True)
class Split:
    """A split of places, with what was wrong in the file that it comes from.

    Attributes:
        name: "published" or "clean".
        parts: AOI -> "train", "val" or "test"; each AOI once. Published AOIs in several parts are in the first of
            train, val and test that names them, for a model trained on the file has seen them.
        sites: AOI -> site; places of one site share the ground or an order.
        repeated: AOI -> how often the published file names it, of those that it names more than once.
        torn: AOIs that the published file puts into several parts.
    """

    name: str
    parts: Mapping[str, str]
    sites: Mapping[str, str]
    repeated: Mapping[str, int]
    torn: tuple[str, ...]

    def aois(self, part: str) -> tuple[str, ...]:
        """The AOIs of a part, sorted.

        Raises:
            UsageError: unknown part.
        """
        if part not in PARTS:
            raise UsageError(f"unknown part {part!r} of a split: choose among {', '.join(PARTS)}")
        return tuple(sorted(aoi for aoi, found in self.parts.items() if found == part))

    def leaks(self) -> dict[str, tuple[str, ...]]:
        """Sites that lie in several parts, with these parts; none in a clean split."""
        found: dict[str, set[str]] = defaultdict(set)
        for aoi, part in self.parts.items():
            found[self.sites[aoi]].add(part)
        return {site: tuple(sorted(parts)) for site, parts in sorted(found.items()) if len(parts) > 1}


def read_split(layout: Layout, name: str = "clean") -> Split:
    """Read a split of a download.

    Args:
        layout: of the download; ``metadata.csv`` is asked for coordinates where it is there.
        name: "published" or "clean".

    Raises:
        GeodiffError: the file of the split is missing or not such a table.
        UsageError: unknown name.
    """
    if name not in SPLITS:
        raise UsageError(f"unknown split {name!r}: choose among {', '.join(SPLITS)}")
    rows = read_split_rows(layout)
    sites = sites_of([row.aoi for row in rows], coordinates_of(layout))
    return published_split(rows, sites) if name == "published" else clean_split(rows, sites)


def read_split_rows(layout: Layout) -> tuple[SplitRow, ...]:
    """The rows of ``stratified_train_val_test_split.csv``, repetitions included.

    Raises:
        GeodiffError: missing, not such a table, or with an unknown part.
    """
    path = layout.root / SPLIT_CSV
    table = read_table(path, needed=("split",))
    unknown = sorted(set(table["split"]) - set(PARTS))
    if unknown:
        raise GeodiffError(f"{path} names a part {unknown[0]!r}: download it again")
    blank = pd.Series([""] * len(table), index=table.index)
    cover = table.get("IPCC Class", blank)
    strata = table.get("joint_class", cover)
    columns = zip(table["tile"], strata, cover, table["split"], strict=True)
    return tuple(SplitRow(str(a), str(s), str(c) or "unknown", str(p)) for a, s, c, p in columns)


def coordinates_of(layout: Layout) -> dict[str, tuple[float, float]]:
    """(longitude, latitude) in degrees of each AOI that ``metadata.csv`` places; empty where it is missing."""
    if not (layout.root / METADATA_CSV).is_file():
        return {}
    table = read_metadata(layout).drop_duplicates("tile")
    if not {"lon", "lat"} <= set(table.columns):
        return {}
    where = table[["lon", "lat"]].apply(pd.to_numeric, errors="coerce")
    placed = zip(table["tile"], where["lon"], where["lat"], strict=True)
    return {str(aoi): (float(x), float(y)) for aoi, x, y in placed if math.isfinite(x) and math.isfinite(y)}


def sites_of(aois: Iterable[str], where: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """The site of each AOI, named after the first of its parents.

    Args:
        aois: names, repeated or not.
        where: AOI -> (longitude, latitude) in degrees, as far as known.
    """
    names = sorted(set(aois))
    head = {name: parent_of(name) for name in names}
    joined = {parent: parent for parent in head.values()}

    def root(parent: str) -> str:
        while joined[parent] != parent:
            parent = joined[parent]
        return parent

    for a, b in _near(sorted(set(names) & set(where)), where):
        low, high = sorted((root(head[a]), root(head[b])))
        joined[high] = low
    return {name: root(parent) for name, parent in head.items()}


def _near(names: Sequence[str], where: Mapping[str, tuple[float, float]]) -> list[tuple[str, str]]:
    """Pairs of places whose centres lie within ``NEAR_KM``, also across the antimeridian."""
    from scipy.spatial import cKDTree

    if len(names) < 2:
        return []
    lon, lat = np.radians(np.array([where[name] for name in names])).T
    points = _EARTH_KM * np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    return [(names[i], names[j]) for i, j in sorted(cKDTree(points).query_pairs(NEAR_KM))]


def published_split(rows: Sequence[SplitRow], sites: Mapping[str, str]) -> Split:
    """The split as published; see ``Split`` for AOIs that it names more than once."""
    named: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        named[row.aoi].append(row.part)
    parts = {aoi: min(found, key=PARTS.index) for aoi, found in named.items()}
    return Split(
        "published",
        parts,
        {aoi: sites[aoi] for aoi in parts},
        {aoi: len(found) for aoi, found in sorted(named.items()) if len(found) > 1},
        tuple(sorted(aoi for aoi, found in named.items() if len(set(found)) > 1)),
    )


def clean_split(rows: Sequence[SplitRow], sites: Mapping[str, str]) -> Split:
    """A split without repetitions in which no site lies in two parts, stratified as the published one.

    A site of one place keeps its published part, so that results stay comparable. Sites of several places are dealt as
    a whole, the largest first, each to where it fits best: where the chi-square of what the parts hold of its source
    and land cover against the published proportions becomes smallest. Which of equal sites comes first is decided by a
    hash of its name, so that the split is the same on every machine.
    """
    published = published_split(rows, sites)
    stratum = {row.aoi: row for row in reversed(rows)}
    members: dict[str, list[str]] = defaultdict(list)
    for aoi in sorted(published.parts):
        members[published.sites[aoi]].append(aoi)
    parts = {found[0]: published.parts[found[0]] for found in members.values() if len(found) == 1}
    wanted = _wanted(published, stratum)
    held: Counter[tuple[str, str]] = Counter()
    for aoi, part in parts.items():
        held.update((key, part) for key in _keys(stratum[aoi]))
    several = sorted((s for s in members if len(members[s]) > 1), key=lambda s: (-len(members[s]), _hash(s)))
    keys = {site: Counter(key for aoi in members[site] for key in _keys(stratum[aoi])) for site in several}
    dealt: dict[str, str] = {}
    for site in several * SWEEPS:  # dealt, then dealt again with the others in place
        if site in dealt:
            held.subtract({(key, dealt[site]): count for key, count in keys[site].items()})
        dealt[site] = min(PARTS, key=lambda p: (_misfit(keys[site], p, wanted, held), PARTS.index(p)))
        held.update({(key, dealt[site]): count for key, count in keys[site].items()})
    parts |= {aoi: dealt[site] for site in several for aoi in members[site]}
    return Split("clean", parts, published.sites, published.repeated, published.torn)


def _keys(row: SplitRow) -> tuple[str, ...]:
    """What is kept in proportion: everything, the source, the source by land cover, the published stratum."""
    source = row.aoi.split("-")[0]
    return ("", source, f"{source}/{row.cover}", row.stratum)


def _wanted(published: Split, stratum: Mapping[str, SplitRow]) -> dict[tuple[str, str], float]:
    """Places that each part should hold of each key: its published share of all places."""
    total: Counter[str] = Counter(key for aoi in published.parts for key in _keys(stratum[aoi]))
    share = Counter(published.parts.values())
    everything = sum(share.values())
    return {(key, part): count * share[part] / everything for key, count in total.items() for part in PARTS}


def _misfit(
    keys: Counter[str], part: str, wanted: Mapping[tuple[str, str], float], held: Counter[tuple[str, str]]
) -> float:
    """By how much chi-square, over the keys of a site, grows when the part takes the site; negative where it falls."""
    growth = 0.0
    for key, count in keys.items():
        share = wanted[key, part]
        growth += (2 * count * (held[key, part] - share) + count**2) / share if share else math.inf
    return growth


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
