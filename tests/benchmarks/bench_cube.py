"""Loading a cube against calling stackstac by hand. Asserts only that both give the same values.

Neither side does the whole work of the other. On one lattice both copy pixels, and the values are the same. Across UTM
zones geodiff holds GDAL to a thousandth of a pixel and warps whole blocks, so that no value depends on the chunks;
by hand GDAL's own eighth of a pixel is accepted. geodiff does not grow clouds here, for stackstac has no such
step; it does find days, offsets and nodata by the items' metadata, which by hand are written down as constants.

Both are loaded once before the clock runs (imports, caches of files), then by turns, each first in every other round.
Processor time is shown beside wall time: on a machine that does other things too it is the steadier of the two.
"""

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

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

BANDS = ["B02", "B03", "B04", "B08"]
GRID = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_700_000.0), (2048, 2048))
ROUNDS = 3
RATIO_LIMIT = 1.1
SOURCE = load_sources()["static"]


Load = Callable[[list[pystac.Item], Grid], Any]


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


def timed(load: Load, items: list[pystac.Item], grid: Grid) -> tuple[tuple[float, float], Any]:
    """Seconds by the wall and of the processors, and the values."""
    wall, processor = time.perf_counter(), time.process_time()
    values = dask.compute(*load(items, grid), scheduler="threads")
    return (time.perf_counter() - wall, time.process_time() - processor), values


def by_turns(items: list[pystac.Item], grid: Grid) -> tuple[dict[Load, tuple[float, float]], dict[Load, Any]]:
    """Median seconds (wall, processors) of either way to load, and what it loaded."""
    seconds: dict[Load, list[tuple[float, float]]] = {with_geodiff: [], by_hand: []}
    values = {}
    for turn in range(ROUNDS + 1):
        for load in list(seconds)[:: 1 if turn % 2 else -1]:
            taken, values[load] = timed(load, items, grid)
            if turn:
                seconds[load].append(taken)
    middle = {load: tuple(map(statistics.median, zip(*taken, strict=True))) for load, taken in seconds.items()}
    return middle, values


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside stackstac
        seconds, values = by_turns(items, grid)
    (mine, my_processors), (hands, their_processors) = seconds[with_geodiff], seconds[by_hand]
    what = f"cube of 4 dates, 4 bands, {grid.shape[0]} x {grid.shape[1]} px, {case}"
    report.add(f"{what}: geodiff", mine, "s")
    report.add(f"{what}: stackstac by hand", hands, "s")
    report.add(f"{what}: ratio", mine / hands, "", at_most=RATIO_LIMIT)
    report.add(f"{what}: ratio of processor time", my_processors / their_processors, "")
    if case == "same lattice":
        (cube, valid), (hand, hand_valid) = values[with_geodiff], values[by_hand]
        np.testing.assert_array_equal(valid.values, hand_valid.values)
        np.testing.assert_array_equal(cube.values, hand.values)
