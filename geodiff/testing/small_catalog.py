"""A catalogue of a few small scenes, for runs of the whole job that take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from geodiff.grid import Grid
from geodiff.schema import FloatArray
from geodiff.testing.scenes import write_scenes
from geodiff.testing.series import Effects, simulate_series

Box = tuple[float, float, float, float]

SMALL_DAYS = (18_801.0, 18_806.0, 18_826.0, 18_871.0)
"""2021-06-23, 06-28, 07-18 and 09-01."""


def small_ground(shape: tuple[int, int], *, seed: int = 0) -> FloatArray:
    """Blocks and slopes of random reflectance in four bands, (4, rows, columns)."""
    random = np.random.default_rng(seed)
    rows, cols = shape
    blocks = random.uniform(0.03, 0.3, (4, -(-rows // 20), -(-cols // 20))).repeat(20, 1).repeat(20, 2)[:, :rows, :cols]
    smooth = ndimage.gaussian_filter(random.standard_normal((4, rows, cols)), (0, 6, 6))
    ground: FloatArray = np.clip(blocks + 0.03 * smooth / smooth.std(), 0.01, 0.6).astype(np.float32)
    return ground


def small_catalog(folder: Path, *, shape: tuple[int, int] = (75, 90), clouds: float = 0.4) -> tuple[Path, Box]:
    """Write four dates of a small scene, off the lattice of the tiles, with clouds and shifts.

    Args:
        folder: of the catalogue.
        shape: (rows, columns) of 10 m pixels.
        clouds: how often dates are cloudy.

    Returns:
        The path of ``catalog.json``, and a WGS84 box one pixel inside the scenes.
    """
    ground = small_ground((4 * shape[0], 4 * shape[1]))
    series = simulate_series(ground, days=SMALL_DAYS, seed=3, effects=Effects(clouds=clouds), anchor=1)
    grid = Grid("EPSG:32631", (10.0, 10.0), (500_130.0, 4_600_070.0), shape)
    inside = Grid(grid.crs, (10.0, 10.0), (500_140.0, 4_600_060.0), (shape[0] - 2, shape[1] - 2))
    return write_scenes(series, grid, folder), inside.bounds_wgs84
