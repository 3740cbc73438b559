"""Pairs of WorldStrat for training and evaluation: the places of one part of a split, each read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from geodiff.imagery.worldstrat import Aoi, Pair, WorldStrat
from geodiff.imagery.worldstrat_card import render_card
from geodiff.imagery.worldstrat_describe import describe_tree
from geodiff.imagery.worldstrat_layout import open_layout
from geodiff.imagery.worldstrat_splits import read_split
from geodiff.outputs.atomic import explained, write_bytes, write_json
from geodiff.schema import BANDS_10M, TIME, BoolArray, FloatArray, GeodiffError
from geodiff.tasks.targets import days_of

NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One place of WorldStrat; nothing of it is read before ``load``. It may be pickled to a worker.

    Attributes:
        name: of the place.
        group: of places that must stay on one side of a split: one image order, or overlapping ground.
        bands: of the series and the truth.
        scale: pixels of the truth in one of the series.
        aoi: the place itself.
    """

    name: str
    group: str
    bands: tuple[str, ...]
    scale: int
    aoi: Aoi

    def pair(self) -> Pair:
        """The series, the truth, and how the truth was registered and matched.

        Raises:
            GeodiffError: a file is missing, corrupt or mis-sized, or no date is clear enough to register to.
        """
        return self.aoi.pair(self.bands, scale=self.scale)

    def load(self) -> tuple[xr.DataArray, float, FloatArray, BoolArray]:
        """Read the place.

        Returns:
            The low-resolution series (time, band, y, x) in the form of the house, in memory; the target day, days since
            1970-01-01 UTC, which is the day of one of its dates; the truth of that day, (band, scale * y, scale * x)
            float32 reflectance, NaN where the high resolution does not reach; and (y, x) bool, the pixels of the
            series where the truth may be trusted. The attribute ``hr_transform`` of the series holds the registration.

        Raises:
            GeodiffError: see ``pair``.
        """
        pair = self.pair()
        days: npt.NDArray[np.float64] = days_of(pair.cube[TIME].values)
        return pair.cube, float(days[pair.target_index]), pair.truth.values, pair.clear


def worldstrat_sites(
    root: Path,
    split: str = "clean",
    part: str = "train",
    *,
    bands: Sequence[str] = BANDS_10M,
    scale: int = 4,
    level: str = "L2A",
) -> tuple[Site, ...]:
    """The places of one part of a split, sorted by name.

    Args:
        root: of a WorldStrat download.
        split: "clean" (no repetitions, siblings together) or "published".
        part: "train", "val" or "test".
        bands: any of B02, B03, B04, B08.
        scale: pixels of the truth in one of the series; 4 is 2.5 m.
        level: "L2A" or "L1C".

    Raises:
        GeodiffError: no WorldStrat, no split file, or places of the split that have no folder: none is left out
            silently.
        UsageError: unknown split, part or level.
    """
    chosen = read_split(open_layout(root), split)
    names = chosen.aois(part)
    tree = WorldStrat(root, level)
    absent = [name for name in names if not _present(tree, name)]
    if absent:
        some = ", ".join(absent[:NAMED_AT_MOST]) + (", …" if len(absent) > NAMED_AT_MOST else "")
        raise GeodiffError(
            f"{len(absent)} of {len(names)} places of the {split} split's {part} are not in {root} ({some}): finish "
            "the download, or take their rows out of the split file; geodiff worldstrat verify lists all"
        )
    return tuple(Site(name, chosen.sites[name], tuple(bands), scale, tree[name]) for name in names)


def _present(tree: WorldStrat, name: str) -> bool:
    return tree.layout.hr_folder(name).is_dir() and tree.layout.lr_folder(name, tree.level).is_dir()


def write_worldstrat_card(
    root: Path,
    out: Path,
    *,
    level: str = "L2A",
    pairs: int | None = 64,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Describe a download in ``out/index.html`` and ``out/card.json``; see ``describe_tree``.

    Returns:
        The path of the page.
    """
    card = describe_tree(root, level=level, pairs=pairs, progress=progress)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "card.json", card.summary())
        write_bytes(out / "index.html", render_card(card).encode())
    return out / "index.html"
