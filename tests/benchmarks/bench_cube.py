"""Loading a cube against calling stackstac by hand. Asserts only that both give the same values."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pystac
import pytest
import stackstac
from rasterio.enums import Resampling
from scipy import ndimage

from geodiff.config import MaskConfig
from geodiff.grid import Grid
from geodiff.imagery.cube import load_cube
from geodiff.imagery.sources import load_sources
from geodiff.testing.scenes_on_disk import write_scene

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = pytest.mark.bench

BANDS = ["B02", "B03", "B04", "B08"]
GRID = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_700_000.0), (2048, 2048))
ROUNDS = 3
RATIO_LIMIT = 1.1
SOURCE = load_sources()["static"]


def landscape(generator: np.random.Generator) -> np.ndarray:
    """Something smooth with noise, that compresses about as well as Sentinel-2 does."""
    smooth = ndimage.gaussian_filter(generator.normal(size=GRID.shape), 2)
    return np.clip(1500 + 9000 * smooth, 1, 9000).astype(np.uint16)


def by_hand(items: list[pystac.Item], grid: Grid) -> Any:
    """What a careful user of stackstac writes for the same cube: reflectance, NaN where masked, and the mask."""
    plain = [item.to_dict() for item in items]
    for item in plain:
        item["properties"]["proj:epsg"] = int(item["properties"]["proj:code"].split(":")[1])
    options: dict[str, Any] = {
        "epsg": int(grid.crs.split(":")[1]), "resolution": grid.resolution, "bounds": grid.bounds,
        "snap_bounds": False, "rescale": False, "xy_coords": "center", "band_coords": False, "properties": False,
        "chunksize": 512, "errors_as_nodata": (),
    }  # fmt: skip
    numbers = stackstac.stack(
        plain, assets=BANDS, dtype="uint16", fill_value=np.uint16(0), resampling=Resampling.cubic, **options
    )
    classes = stackstac.stack(plain, assets=["SCL"], dtype="uint8", fill_value=np.uint8(0), **options)[:, 0]
    valid = (numbers != 0).all("band") & ~classes.isin([0, 1, 3, 8, 9, 10])
    return (numbers.astype("float32") / np.float32(10_000)).where(valid), valid


def with_geodiff(items: list[pystac.Item], grid: Grid) -> Any:
    mask = MaskConfig(dilation_m=0)
    cube = load_cube(items, source=SOURCE, bands=BANDS, grid=grid, mask=mask)
    return cube, cube.valid


def timed(load: Callable[[list[pystac.Item], Grid], Any], items: list[pystac.Item], grid: Grid) -> tuple[float, Any]:
    start = time.perf_counter()
    values = dask.compute(*load(items, grid), scheduler="threads")
    return time.perf_counter() - start, values


@pytest.mark.parametrize("case", ["same lattice", "other UTM zone"])
def test_loading_against_stackstac_by_hand(tmp_path: Path, case: str, report: Report) -> None:
    generator = np.random.default_rng(0)
    items = []
    for day in (1, 6, 11, 16):
        arrays: dict[str, Any] = {band: landscape(generator) for band in BANDS}
        arrays["SCL"] = np.where(generator.random((1024, 1024)) < 0.1, 9, 4).astype(np.uint8)
        items.append(write_scene(tmp_path, f"day-{day}", arrays, GRID, f"2021-06-{day:02}T10:50:00"))
    west, south, east, north = GRID.bounds_wgs84
    inner = (west + 0.02, south + 0.02, east - 0.02, north - 0.02)
    grid = GRID if case == "same lattice" else Grid.cover(inner, crs="EPSG:32630")
    ours, theirs = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside stackstac
        for _ in range(ROUNDS):  # by turns, so that a busy machine slows both
            seconds, (cube, valid) = timed(with_geodiff, items, grid)
            ours.append(seconds)
            seconds, (hand, hand_valid) = timed(by_hand, items, grid)
            theirs.append(seconds)
    mine, hands = statistics.median(ours), statistics.median(theirs)
    what = f"cube of 4 dates, 4 bands, {grid.shape[0]} x {grid.shape[1]} px, {case}"
    report.add(f"{what}: geodiff", mine, "s")
    report.add(f"{what}: stackstac by hand", hands, "s")
    report.add(f"{what}: ratio", mine / hands, "", at_most=RATIO_LIMIT)
    if case == "same lattice":
        np.testing.assert_array_equal(valid.values, hand_valid.values)
        np.testing.assert_array_equal(cube.values, hand.values)
