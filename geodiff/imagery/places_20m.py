"""Training places with all ten bands on the lattice of 20 m: the finest on which Sentinel-2 shows each of them.

The bands of 20 m come first, as they were sampled; those of 10 m follow, seen through the sensor once more. Degraded by
8, such a place is a Wald pair of the 20 m bands, with the 10 m bands as a guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from geodiff.imagery.ground import Place, split_places
from geodiff.imagery.places import day_in, footprint_of, gather_places, read_image
from geodiff.schema import BANDS_10M, BANDS_20M, FloatArray
from geodiff.sensor import band_mtf, degrade

STRIP_PX, LEFT_PX = 96, 128
"""For ``ground.split_places``: places are half as wide as at 10 m."""

HELD_WHOLE = ("terramesh",)
"""Places that are held out as they are: too narrow to be cut, and of other continents than what is trained on."""

PIXEL_M = 160.0
"""Side of the low-resolution pixel of the 20 m bands, degraded by 8."""


def _place(name: str, coarse: FloatArray, fine: FloatArray, *, day: float, path: Path | None) -> Place:
    """A date: ``coarse`` (6, y, x) and ``fine`` (4, 2y, 2x), in digital numbers x 10000."""
    halved = degrade(fine, 2, band_mtf(BANDS_10M))
    images = np.concatenate([coarse, halved]).astype(np.float32)[None] / np.float32(1e4)
    return Place(name, images, np.array([day]), PIXEL_M, footprint=footprint_of(path) if path else None)


def _majortom(folder: Path) -> Iterator[Place]:
    coarse, fine = (
        np.concatenate([read_image(folder / f"{band}.tif") for band in bands]) for bands in (BANDS_20M, BANDS_10M)
    )
    yield _place("majortom", coarse, fine, day=day_in("2020-02-23"), path=folder / "B02.tif")


def _terramesh(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("S2L2A/*.tif")):
        # All bands are stored at 10 m; those of 20 m as blocks of two by two.
        coarse = read_image(path, [5, 6, 7, 9, 11, 12])[:, ::2, ::2]
        name = f"terramesh/{path.parent.name}/{path.stem}"
        yield _place(name, coarse, read_image(path, [2, 3, 4, 8]), day=float("nan"), path=path)


def _ssl4eo(folder: Path) -> Iterator[Place]:
    for level in ("s2a", "s2c"):
        for scene in sorted((folder / level / "0000200").iterdir()):
            coarse, fine = (
                np.concatenate([read_image(scene / f"B{band}.tif") for band in bands])
                for bands in (("5", "6", "7", "8A", "11", "12"), ("2", "3", "4", "8"))
            )
            day, path = day_in(scene.name), scene / "B2.tif"
            yield _place(f"ssl4eo/{level}/{scene.name[:8]}", coarse, fine, day=day, path=path)


def _dsen2(folder: Path) -> Iterator[Place]:
    import h5py

    for path in sorted(folder.glob("*.mat")):
        with h5py.File(path) as source:
            coarse, fine = np.asarray(source["im20"], np.float32), np.asarray(source["im10"], np.float32)
        yield _place(f"dsen2/{path.stem}", coarse, fine[[2, 1, 0, 3]], day=float("nan"), path=None)


READERS_20M: dict[str, Callable[[Path], Iterator[Place]]] = {
    "sentinel2/majortom_t48que": _majortom,
    "sentinel2/terramesh": _terramesh,
    "sentinel2/ssl4eo_t43rcp": _ssl4eo,
    "sentinel2/dsen2_l1c": _dsen2,
}


def read_places_20m(root: Path, *, smallest: int = 96) -> list[Place]:
    """Read every training place under ``root`` that has all ten bands (the layout of the project's data folder).

    Args:
        root: data folder; sub-folders that are absent are left out.
        smallest: places with a side below this many pixels of 20 m are left out.

    Returns:
        Places with the bands ``BANDS_20M`` and then ``BANDS_10M``.

    Raises:
        GeodiffError: no place found, or a file that cannot be read.
    """
    return gather_places(root, READERS_20M, smallest=smallest)


def split_places_20m(places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """What is trained on, and what is held out of it: strips of wide places, and some places whole."""
    whole = [place for place in places if place.name.startswith(HELD_WHOLE)]
    others = [place for place in places if not place.name.startswith(HELD_WHOLE)]
    train, held = split_places(others, smallest=LEFT_PX, narrowest=STRIP_PX)
    return train, [*held, *whole]
