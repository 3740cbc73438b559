"""Order of items, repeated items and the size of chunks do not change a cube."""

from __future__ import annotations

from typing import Any

import numpy as np
import pystac
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geodiff.config import MaskConfig
from geodiff.grid import Grid
from geodiff.imagery.cube import load_cube
from geodiff.imagery.sources import load_sources
from geodiff.testing.scenes_on_disk import write_scene

SOURCE = load_sources()["static"]
GRID = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_700_000.0), (50, 43))
MASK = MaskConfig(dilation_m=35)
DAYS = ("2021-06-01T10:50:00", "2021-06-01T10:50:15", "2021-06-06T10:50:00", "2021-06-11T10:50:00")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[pystac.Item]:
    """Four scenes on three days, with clouds, holes, one off the lattice, the last without classification."""
    folder = tmp_path_factory.mktemp("scenes")
    generator = np.random.default_rng(3)
    made = []
    for index, day in enumerate(DAYS):
        arrays = {band: generator.integers(300, 4000, GRID.shape, dtype=np.uint16) for band in ("B02", "B04", "B08")}
        arrays["B02"][:, 10 * index : 10 * index + 8] = 0
        if index < 3:
            arrays["SCL"] = np.where(generator.random((25, 22)) < 0.02, 9, 4).astype(np.uint8)
        shift = 3.0 if index == 2 else 0.0
        grid = Grid(GRID.crs, GRID.resolution, (GRID.origin[0] + shift, GRID.origin[1]), GRID.shape)
        made.append(write_scene(folder, f"scene-{index}", arrays, grid, day))
    return made


def load(items: list[pystac.Item], chunk: int) -> Any:
    return load_cube(items, source=SOURCE, bands=["B02", "B08"], grid=GRID, mask=MASK, chunk=chunk).compute(
        scheduler="synchronous"
    )


@pytest.fixture(scope="module")
def expected(items: list[pystac.Item]) -> Any:
    return load(items, 512)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), again=st.lists(st.integers(0, 3), max_size=3), chunk=st.integers(9, 60))
def test_order_repetition_and_chunks(
    items: list[pystac.Item], expected: Any, order: list[int], again: list[int], chunk: int
) -> None:
    found = load([items[index] for index in [*order, *again]], chunk)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.valid.values, expected.valid.values)
    assert list(found.scene_id.values) == list(expected.scene_id.values)
    assert list(found.time.values) == list(expected.time.values)
    assert found.attrs == expected.attrs


def test_the_case_is_not_trivial(expected: Any) -> None:
    assert expected.sizes["time"] == 3
    assert (expected.valid.mean(("y", "x")) > 0.05).all()
    assert (expected.valid.mean(("y", "x")) < 0.999).all()
    np.testing.assert_array_equal(np.isnan(expected.values).all(axis=1), ~expected.valid.values)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=st.integers(0, 30), left=st.integers(0, 30), rows=st.integers(1, 20), cols=st.integers(1, 13))
def test_a_crop_of_the_region_sees_the_same_pixels(
    items: list[pystac.Item], top: int, left: int, rows: int, cols: int
) -> None:
    """Without growth of clouds, whose margins a crop cannot see; classes are at 20 m and cut anywhere."""
    origin = (GRID.origin[0] + 10.0 * left, GRID.origin[1] - 10.0 * top)
    part = Grid(GRID.crs, GRID.resolution, origin, (rows, cols))
    whole, found = (
        load_cube(items[:2], source=SOURCE, bands=["B02"], grid=grid, mask=MaskConfig(dilation_m=0), chunk=16).compute(
            scheduler="synchronous"
        )
        for grid in (GRID, part)
    )
    inside = whole[..., top : top + rows, left : left + cols]
    np.testing.assert_array_equal(found.values, inside.values)
    np.testing.assert_array_equal(found.valid.values, inside.valid.values)
