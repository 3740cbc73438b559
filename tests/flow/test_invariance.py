"""The stored values do not depend on chunks, windows, workers, tile order or caches; blending keeps the radiometry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import geodiff
from geodiff.config import SuperresConfig, TileConfig
from geodiff.grid import Grid, TileKey, TilePlan, Window
from geodiff.model.checkpoint import save_checkpoint
from geodiff.model.members import REACH_PX, tap_count
from geodiff.outputs.ledger import margins_folder
from geodiff.outputs.stitch import feather_weight
from geodiff.outputs.zarr_store import create_store, regions
from geodiff.schema import BANDS_10M, FloatArray
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.job import Worker, restore_all
from geodiff.tasks.models import find_model, load_resolver
from geodiff.tasks.plan import Plan, make_plan
from geodiff.tasks.targets import Target
from geodiff.tasks.windows import Recipe, restore_window
from geodiff.testing.small_catalog import small_catalog
from geodiff.testing.tiny_models import random_cube, tiny_denoiser

TILE = TileConfig(core=32, feather=4, halo=8)
MTF = band_mtf(BANDS_10M)


def quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that is calibrated: the filter of its members reaches over the borders of tiles."""
    taps = [[1.5, *(0.4 / (2 + tap + band) for tap in range(tap_count(REACH_PX) - 1))] for band in range(4)]
    quantiles = (
        np.arange(1, 4)[:, None, None, None] * np.arange(1, 4)[:, None, None] * np.ones((3, 4)) * [1, 2, 1, 3]
    ).tolist()
    table = {"levels": [0.5, 0.8, 0.9], "texture_limits": [[0.01, 0.03]] * 4, "quantiles": quantiles, "members": 4}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(
        tiny_denoiser(),
        path,
        card={
            "spread": {"2": {"taps": taps, "texture_power": 0.4, "mix": [[1.0, 0.2, 0.0, -0.1]] * 4}},
            "spread_hidden": {"2": 1.7},
            "brightness": [[0.2, 0, 0, 0], [0.1, 0.1, 0, 0], [0.1, 0, 0.1, 0], [0.1, 0, 0, 0.2]],
            "conformal": {"1": table, "2": table},
        },
    )
    return path


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    return random_cube((50, 61), dates=3, clouds=0.25, origin=(500_130.0, 4_000_070.0), seed=2)


def _superres(cube: xr.DataArray, weights: Path, **settings: Any) -> xr.Dataset:
    usual: dict[str, Any] = {"ensemble": 2, "tile": TILE, "keep_member": True, "layers": ["guessed"]}
    return geodiff.superres(cube, model=str(weights), **(usual | settings)).compute(scheduler="synchronous")


@pytest.fixture(scope="module")
def whole(cube: xr.DataArray, weights: Path) -> xr.Dataset:
    return _superres(cube, weights, chunk=4096)


@pytest.mark.parametrize("chunk", [128, 97])
def test_the_chunks_of_the_result_change_nothing(
    cube: xr.DataArray, weights: Path, whole: xr.Dataset, chunk: int
) -> None:
    xr.testing.assert_identical(_superres(cube, weights, chunk=chunk), whole)


def test_a_day_between_dates_is_as_bright_in_every_chunk(cube: xr.DataArray, weights: Path) -> None:
    day = str((cube.time[0] + (cube.time[1] - cube.time[0]) / 2).values.astype("datetime64[D]"))
    one = _superres(cube, weights, chunk=4096, target=day)
    xr.testing.assert_identical(_superres(cube, weights, chunk=97, target=day), one)
    assert float((one.member / one.reflectance).median()) != pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("chunks", [{"y": 16, "x": 50}, {"time": 1, "band": 1, "y": 33}])
def test_the_chunks_of_the_cube_change_nothing(
    cube: xr.DataArray, weights: Path, whole: xr.Dataset, chunks: dict[str, int]
) -> None:
    lazy = geodiff.superres(
        cube.chunk(chunks), model=str(weights), ensemble=2, tile=TILE, keep_member=True, layers=["guessed"], chunk=150
    )
    assert all(variable.chunks for variable in lazy.data_vars.values()), "nothing is restored before it is asked for"
    xr.testing.assert_identical(lazy.compute(scheduler="threads", num_workers=4), whole)


def test_the_result_is_on_the_finer_grid_and_says_what_is_valid(cube: xr.DataArray, whole: xr.Dataset) -> None:
    assert whole.reflectance.shape == (1, 4, 200, 244)
    assert whole.rio.crs == cube.rio.crs
    np.testing.assert_allclose(whole.rio.bounds(), cube.rio.bounds())
    np.testing.assert_allclose(whole.y.values.reshape(-1, 4).mean(1), cube.y.values)
    known = np.isfinite(whole.reflectance.values[0]).all(0)
    np.testing.assert_array_equal(whole.valid.values[0], known)
    np.testing.assert_array_equal(np.isfinite(whole.uncertainty.values[0]).all(0), known)
    np.testing.assert_array_equal(np.isfinite(whole.guessed.values[0]), known)
    assert 0 <= float(whole.guessed.min()) <= float(whole.guessed.max()) <= 1
    assert whole.uncertainty.attrs["geodiff:level"] == 0.9
    assert whole.uncertainty.attrs["geodiff:interval"] == "conformal"
    assert whole.member.attrs["geodiff:dial"] == 1.0
    assert known.mean() > 0.9


def test_a_cube_moved_by_whole_tiles_gives_the_same_mean(cube: xr.DataArray, weights: Path, whole: xr.Dataset) -> None:
    moved = cube.assign_coords(x=cube.x + 320.0 * 5, y=cube.y - 320.0 * 3)
    found = _superres(moved, weights, chunk=4096)
    np.testing.assert_array_equal(found.reflectance.values, whole.reflectance.values)
    assert np.nanmax(np.abs(found.uncertainty.values - whole.uncertainty.values)) > 1e-5, "other ground, other noise"


def test_a_core_larger_than_the_scene_is_one_tile(cube: xr.DataArray, weights: Path) -> None:
    big = TileConfig(core=512, feather=4, halo=8)
    one = _superres(cube, weights, tile=big, chunk=4096)
    xr.testing.assert_identical(_superres(cube, weights, tile=big, chunk=111), one)
    assert np.isfinite(one.reflectance.values).mean() > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (20, 31)])
def test_scenes_and_cores_of_any_size(weights: Path, shape: tuple[int, int]) -> None:
    cube = random_cube(shape, dates=2, clouds=0.0, origin=(500_030.0, 4_000_010.0))
    tile = TileConfig(core=18, feather=3, halo=5)
    first = _superres(cube, weights, tile=tile, chunk=4096, ensemble=1)
    assert np.isfinite(first.reflectance.values).all()
    xr.testing.assert_identical(_superres(cube, weights, tile=tile, chunk=53, ensemble=1), first)


def test_an_overcast_cube_is_all_invalid(weights: Path) -> None:
    cube = random_cube((20, 20), dates=2, clouds=1.1)
    found = _superres(cube, weights)
    assert not found.valid.values.any()
    assert np.isnan(found.reflectance.values).all()


def _recipe(weights: Path, grid: Grid, tile: TileConfig = TILE, members: int = 0) -> Recipe:
    plan = TilePlan(grid, core=tile.core, feather=tile.feather, halo=tile.halo)
    return Recipe(load_resolver(find_model(str(weights))), plan, members, 0)


def test_windows_agree_with_the_whole_wherever_they_lie(cube: xr.DataArray, weights: Path) -> None:
    source = CubeSource(cube, BANDS_10M)
    recipe = _recipe(weights, source.grid, members=1)
    target = Target(float(source.days[1]), 1, (0, 1, 2))
    everything = restore_window(source, target, Window(0, 0, 200, 244), recipe)
    random = np.random.default_rng(0)
    for _ in range(4):
        top, left = int(random.integers(0, 199)), int(random.integers(0, 243))
        window = Window(top, left, int(random.integers(1, 201 - top)), int(random.integers(1, 245 - left)))
        part = restore_window(source, target, window, recipe)
        rows, cols = window.slices_in(Window(0, 0, 200, 244))
        np.testing.assert_array_equal(part.mean, everything.mean[:, rows, cols])
        np.testing.assert_array_equal(part.uncertainty, everything.uncertainty[:, rows, cols])
        np.testing.assert_array_equal(part.valid, everything.valid[rows, cols])


def _inconsistency(cube: xr.DataArray, weights: Path, tile: TileConfig) -> tuple[FloatArray, FloatArray]:
    """|degraded mean - observation| in reflectance, largest over the bands; and where tiles blend (0 or 1)."""
    source = CubeSource(cube, BANDS_10M)
    recipe = _recipe(weights, source.grid, tile)
    rows, cols = source.grid.shape
    target = Target(float(source.days[0]), 0, (0, 1))
    restored = restore_window(source, target, Window(0, 0, 4 * rows, 4 * cols), recipe)
    error = np.abs(degrade(restored.mean, 4, MTF) - source.read([0], Window(0, 0, rows, cols))[0][0]).max(0)
    share = np.zeros((4 * rows, 4 * cols))
    tiles: Iterator[TileKey] = recipe.plan.keys()
    for key in tiles:
        share = np.maximum(share, feather_weight(recipe.plan, key, Window(0, 0, 4 * rows, 4 * cols), scale=4))
    return error, (share.reshape(rows, 4, cols, 4).min((1, 3)) < 1 - 1e-9).astype(np.float32)


def test_the_radiometry_survives_the_blending(weights: Path) -> None:
    cube = random_cube((70, 85), dates=2, clouds=0.0, origin=(500_130.0, 4_000_070.0), seed=2)
    error, blended = _inconsistency(cube, weights, TileConfig(core=32, feather=8, halo=16))
    assert 0.2 < blended.mean() < 0.95
    assert error[blended == 0].max() < 1e-5
    assert error.max() < 1e-4, f"largest deviation in the feather zones {error.max():.2e}"


# The stored arrays of the main job.


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Callable[..., Plan]:
    folder = tmp_path_factory.mktemp("scenes")
    catalog, bbox = small_catalog(folder / "catalog", shape=(50, 62))

    def make(out: Path, *, chunk: int = 256, shard: int = 128) -> Plan:
        config = SuperresConfig(
            catalog=str(catalog),
            bbox=bbox,
            datetime="2021-06-01/2021-09-30",
            every="48D",
            ensemble=1,
            model=str(weights),
            tile=TILE,
            keep_member=True,
            layers=("guessed",),
        )
        plan = make_plan(config, out, name="here", workers=1, progress=quiet, chunk=chunk)
        spec = replace(plan.job.spec, shard=shard, chunk=64)
        return replace(plan, job=replace(plan.job, spec=spec))

    return make


def _stored(store: Path) -> dict[str, Any]:
    group = zarr.open_group(store, mode="r")
    arrays = {name: array[...] for name, array in group.arrays()}
    levels = {f"{name}/{part}": array[...] for name, sub in group.groups() for part, array in sub.arrays()}
    return arrays | levels


def _restored(plan: Plan, workers: int) -> dict[str, Any]:
    plan.job.store.parent.mkdir(parents=True, exist_ok=True)
    create_store(plan.job.store, plan.job.spec)
    restore_all(plan.job, workers=workers, progress=quiet)
    return _stored(plan.job.store)


def _assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.fixture(scope="module")
def stored(plan_of: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plan = plan_of(tmp_path_factory.mktemp("one"))
    assert len(regions(plan.job.spec)) >= 8
    assert {target.index is None for target in plan.job.targets} == {True, False}, "dates observed and in between"
    arrays = _restored(plan, 1)
    assert len({values.tobytes() for values in arrays["reflectance"]}) == len(plan.job.targets)
    assert arrays["guessed"].dtype == np.uint8
    assert len(np.unique(arrays["guessed"])) > 20
    attributes = dict(zarr.open_group(plan.job.store, mode="r")["uncertainty"].attrs)
    assert attributes["long_name"] == "half-width of the 90% interval of reflectance"
    assert attributes["geodiff:level"] == 0.9
    return arrays


@pytest.mark.parametrize(("workers", "chunk", "shard"), [(2, 256, 128), (4, 37, 64), (3, 64, 256)])
def test_workers_and_chunks_do_not_change_what_is_stored(
    plan_of: Callable[..., Plan],
    stored: dict[str, Any],
    tmp_path: Path,
    workers: int,
    chunk: int,
    shard: int,
) -> None:
    _assert_same(_restored(plan_of(tmp_path, chunk=chunk, shard=shard), workers), stored)


def _created(plan: Plan) -> Worker:
    plan.job.store.parent.mkdir(parents=True)
    create_store(plan.job.store, plan.job.spec)
    return Worker(plan.job)


def test_regions_in_any_order_restore_every_tile_once(
    plan_of: Callable[..., Plan], stored: dict[str, Any], tmp_path: Path
) -> None:
    plan = plan_of(tmp_path)
    worker = _created(plan)
    seen: list[tuple[float, tuple[int, int]]] = []
    inner = worker.recipe.resolver

    class Counting:
        name, scale, bands, levels = inner.name, inner.scale, inner.bands, inner.levels  # type: ignore[attr-defined]

        def restore(self, patch: Any, *, members: int, seed: int) -> Any:
            seen.append((patch.target_day, patch.origin_px))
            return inner.restore(patch, members=members, seed=seed)

    worker.recipe = replace(worker.recipe, resolver=Counting())
    everything = regions(plan.job.spec)
    order = np.random.default_rng(4).permutation(len(everything))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: worker.run(everything[index]), order))
    _assert_same(_stored(plan.job.store), stored)
    tiles: list[TileKey] = list(plan.job.plan.keys())
    assert len(seen) == len(set(seen)) == len(tiles) * len(plan.job.targets)


def test_a_damaged_cache_of_margins_changes_nothing(
    plan_of: Callable[..., Plan], stored: dict[str, Any], tmp_path: Path
) -> None:
    plan = plan_of(tmp_path)
    worker = _created(plan)
    deleted = corrupted = 0
    for number, region in enumerate(regions(plan.job.spec)):
        worker.run(region)
        pieces = sorted(margins_folder(plan.job.store).rglob("*.npy"))
        if number % 4 == 3:
            shutil.rmtree(margins_folder(plan.job.store), ignore_errors=True)
            deleted += len(pieces)
            continue
        for piece in pieces[::2]:
            data = bytearray(piece.read_bytes())
            data[len(data) // 2] ^= 0x40
            piece.write_bytes(data if number % 2 else data[: len(data) // 3])
            corrupted += 1
    assert corrupted > 3
    assert deleted > 0 or len(regions(plan.job.spec)) < 12
    _assert_same(_stored(plan.job.store), stored)
