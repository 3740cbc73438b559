"""A catalogue of a few small scenes, for runs of the whole job that take seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from geodiff.grid import Grid
from geodiff.schema import BANDS_10M, FloatArray
from geodiff.testing.scenes import write_scenes
from geodiff.testing.series import Effects, simulate_series

Box = tuple[float, float, float, float]

SMALL_DAYS = (18_801.0, 18_806.0, 18_826.0, 18_871.0)
"""2021-06-23, 06-28, 07-18 and 09-01."""


# What the other bands of ``small_ground`` are mixed from: shares of B02, B03, B04, B08.
MIXED = {
    "B05": (0.0, 0.1, 0.6, 0.3),
    "B06": (0.0, 0.1, 0.2, 0.7),
    "B07": (0.0, 0.0, 0.1, 0.9),
    "B8A": (0.0, 0.0, 0.0, 1.0),
    "B11": (0.2, 0.0, 0.6, 0.2),
    "B12": (0.3, 0.0, 0.7, 0.0),
}


def small_ground(shape: tuple[int, int], *, seed: int = 0, bands: Sequence[str] = BANDS_10M) -> FloatArray:
    """Blocks and slopes of random reflectance, (band, rows, columns).

    The bands of 20 m are mixtures of the others, with a part of their own.

    Args:
        shape: (rows, columns).
        seed: of all bands; a band does not depend on the others asked for.
        bands: of 10 m and 20 m.
    """
    four = _four_bands(shape, seed)
    if tuple(bands) == BANDS_10M:
        return four
    own = np.maximum(_four_bands(shape, seed + 1_000_003)[0], np.float32(0.05))
    layers = [
        four[BANDS_10M.index(band)]
        if band in BANDS_10M
        else (0.8 * np.tensordot(np.array(MIXED[band], np.float32), four, 1) + 0.2 * own).astype(np.float32)
        for band in bands
    ]
    return np.stack(layers)


def _four_bands(shape: tuple[int, int], seed: int) -> FloatArray:
    random = np.random.default_rng(seed)
    rows, cols = shape
    blocks = random.uniform(0.03, 0.3, (4, -(-rows // 20), -(-cols // 20))).repeat(20, 1).repeat(20, 2)[:, :rows, :cols]
    smooth = ndimage.gaussian_filter(random.standard_normal((4, rows, cols)), (0, 6, 6))
    ground: FloatArray = np.clip(blocks + 0.03 * smooth / smooth.std(), 0.01, 0.6).astype(np.float32)
    return ground


def small_catalog(
    folder: Path, *, shape: tuple[int, int] = (75, 90), clouds: float = 0.4, bands: Sequence[str] = BANDS_10M
) -> tuple[Path, Box]:
    """Write four dates of a small scene, off the lattice of the tiles, with clouds and shifts.

    Args:
        folder: of the catalogue.
        shape: (rows, columns) of 10 m pixels.
        clouds: how often dates are cloudy.
        bands: of 10 m and 20 m, each written at its own resolution.

    Returns:
        The path of ``catalog.json``, and a WGS84 box one pixel inside the scenes. With bands of 20 m the scenes begin
        on their lattice, and the grid that covers the box begins within one of their pixels.
    """
    ground = small_ground((4 * shape[0], 4 * shape[1]), bands=bands)
    series = simulate_series(ground, days=SMALL_DAYS, seed=3, bands=bands, effects=Effects(clouds=clouds), anchor=1)
    left, top, inset = (500_130.0, 4_600_070.0, 1) if set(bands) <= set(BANDS_10M) else (500_120.0, 4_600_080.0, 2)
    grid = Grid("EPSG:32631", (10.0, 10.0), (left, top), shape)
    corner = (left + 10 * inset, top - 10 * inset)
    inside = Grid(grid.crs, (10.0, 10.0), corner, (shape[0] - 2 * inset, shape[1] - 2 * inset))
    return write_scenes(series, grid, folder), inside.bounds_wgs84
