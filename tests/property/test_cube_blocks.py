"""Bands of 20 m in a cube of 10 m: native pixels in blocks, whatever the chunks and wherever the region begins."""

from __future__ import annotations

import numpy as np
import pystac
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geodiff.config import MaskConfig
from geodiff.grid import Grid
from geodiff.imagery.cube import load_cube
from geodiff.imagery.sources import load_sources
from geodiff.schema import FloatArray
from geodiff.testing.scenes_on_disk import write_scene

SOURCE = load_sources()["static"]
TILE = Grid("EPSG:32631", (10.0, 10.0), (499_980.0, 4_700_040.0), (60, 52))
OPEN = MaskConfig(dilation_m=0, spectral_screen=False)
SIDE_M = 10.0


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[pystac.Item, FloatArray, FloatArray]:
    """A scene on the lattice of a tile of Sentinel-2, and reflectance of its 10 m and 20 m pixels."""
    draw = np.random.default_rng(8)
    fine = draw.integers(200, 6000, TILE.shape, dtype=np.uint16)
    coarse = draw.integers(200, 6000, (TILE.shape[0] // 2, TILE.shape[1] // 2), dtype=np.uint16)
    item = write_scene(tmp_path_factory.mktemp("tile"), "tile", {"B02": fine, "B11": coarse}, TILE, "2021-06-01")
    return item, (fine / 10_000).astype(np.float32), (coarse / 10_000).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    top=st.integers(-5, 50),
    left=st.integers(-5, 42),
    rows=st.integers(1, 30),
    cols=st.integers(1, 30),
    chunk=st.integers(1, 40),
)
def test_every_pixel_is_the_native_one_above_it(
    tile: tuple[pystac.Item, FloatArray, FloatArray], top: int, left: int, rows: int, cols: int, chunk: int
) -> None:
    """The region may begin, end and be cut within a pixel of 20 m, and may reach beyond the scene."""
    assume(top + rows > 0 and left + cols > 0)
    item, fine, coarse = tile
    origin = (TILE.origin[0] + SIDE_M * left, TILE.origin[1] - SIDE_M * top)
    grid = Grid(TILE.crs, TILE.resolution, origin, (rows, cols))
    chunk = max(chunk, max(rows, cols) // 6 + 1)  # few enough for a test
    cube = load_cube([item], source=SOURCE, bands=["B11", "B02"], grid=grid, mask=OPEN, chunk=chunk)
    done = cube.compute(scheduler="synchronous")
    # By the absolute lattice alone: a pixel of 20 m covers the rows 2k and 2k + 1.
    first, (row0, col0) = TILE.lattice_origin, grid.lattice_origin
    down = (row0 + np.arange(rows)) // 2 - first[0] // 2
    right = (col0 + np.arange(cols)) // 2 - first[1] // 2
    for k, i in enumerate(down):
        for m, j in enumerate(right):
            inside = 0 <= i < coarse.shape[0] and 0 <= j < coarse.shape[1]
            assert bool(done.valid[0, k, m]) == inside
            if inside:
                assert done.values[0, 0, k, m] == coarse[i, j]
                assert done.values[0, 1, k, m] == fine[top + k, left + m]


def test_a_scene_that_ends_where_the_region_begins_shows_nothing(
    tile: tuple[pystac.Item, FloatArray, FloatArray],
) -> None:
    """Its box in degrees may still touch that of the region, as for neighbours in another zone of UTM."""
    grid = Grid(TILE.crs, TILE.resolution, (TILE.origin[0] - SIDE_M, TILE.origin[1]), (7, 1))
    cube = load_cube([tile[0]], source=SOURCE, bands=["B11", "B02"], grid=grid, mask=OPEN, chunk=4)
    assert not cube.compute(scheduler="synchronous").valid.any()
