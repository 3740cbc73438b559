"""One registry for models of every kind, and every one of them through the same cube and tiles."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geodiff
from geodiff.config import TileConfig
from geodiff.grid import TilePlan, Window
from geodiff.model.back_projection import BackProjectionResolver
from geodiff.model.networks import KINDS
from geodiff.model.plugin import PluginResolver
from geodiff.schema import BANDS_10M, GeodiffError, UsageError
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.models import BASELINES, describe_models, find_model, known_models, load_resolver
from geodiff.tasks.targets import Target
from geodiff.tasks.windows import Recipe, restore_window
from geodiff.testing.tiny_models import random_cube, tiny_weights
from geodiff.testing.tiny_networks import tiny_network_weights

TILE = TileConfig(core=24, feather=4, halo=12)
PLUGIN = """factory: torch.nn:Upsample
kwargs: {scale_factor: 4, mode: bilinear}
bands: [B04, B03, B02]
scale: 4
multiple: 4
"""
NAMES = [*BASELINES, *KINDS, "plugin"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``--model`` takes, by kind."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "plugin.yaml").write_text(PLUGIN)
    trained = {name: str(tiny_network_weights(folder, name)) for name in KINDS}
    return {name: name for name in BASELINES} | trained | {"plugin": str(folder / "plugin.yaml")}


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    return random_cube((40, 45), dates=3, clouds=0.2, origin=(500_130.0, 4_000_070.0), seed=2)


@pytest.mark.parametrize("name", NAMES)
def test_any_window_of_any_model_agrees_with_the_whole(name: str, models: dict[str, str], cube: xr.DataArray) -> None:
    source = CubeSource(cube, BANDS_10M)
    plan = TilePlan(source.grid, core=TILE.core, feather=TILE.feather, halo=TILE.halo)
    recipe = Recipe(load_resolver(find_model(models[name])), plan, 1, 0)
    target = Target(float(source.days[1]), 1, (0, 1, 2))
    whole = restore_window(source, target, Window(0, 0, 160, 180), recipe)
    for window in (Window(37, 71, 90, 60), Window(100, 0, 60, 33)):
        part = restore_window(source, target, window, recipe)
        rows, cols = window.slices_in(Window(0, 0, 160, 180))
        np.testing.assert_array_equal(part.mean, whole.mean[:, rows, cols])
        np.testing.assert_array_equal(part.valid, whole.valid[rows, cols])
    assert whole.valid.mean() > 0.9


@pytest.mark.parametrize("name", ["shift-and-add", "plugin"])
def test_the_cube_is_restored_by_name_whatever_the_chunks(
    name: str, models: dict[str, str], cube: xr.DataArray
) -> None:
    first, second = (
        geodiff.superres(cube, model=models[name], tile=TILE, chunk=chunk).compute(scheduler="synchronous")
        for chunk in (4096, 70)
    )
    xr.testing.assert_identical(first, second)
    assert list(first.band.values) == list(BANDS_10M)


def test_tiles_meet_without_a_seam_where_the_halo_holds_the_reach(cube: xr.DataArray) -> None:
    source = CubeSource(cube.fillna(0.2), BANDS_10M)
    target, window = Target(float(source.days[1]), 1, (0, 1, 2)), Window(0, 0, 160, 180)
    found = [
        restore_window(source, target, window, Recipe(BackProjectionResolver(BANDS_10M), plan, 0, 0)).mean
        for plan in (TilePlan(source.grid, core=core, feather=4, halo=18) for core in (16, 512))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_every_model_is_found_by_what_it_is(models: dict[str, str], tmp_path: Path) -> None:
    assert isinstance(load_resolver(find_model("shift-and-add")), BackProjectionResolver)
    assert isinstance(load_resolver(find_model(models["plugin"])), PluginResolver)
    for name in KINDS:
        ref = find_model(models[name])
        assert load_resolver(ref).name == ref.name == name
    assert load_resolver(find_model(str(tiny_weights(tmp_path)))).name == "tiny"
    with pytest.raises(UsageError, match=r"a plugin's \.yaml, or one of .*shift-and-add"):
        find_model("bilinear")


def test_bands_of_plugins_and_networks(models: dict[str, str]) -> None:
    plugin = find_model(models["plugin"])
    assert load_resolver(plugin, bands=("B08", "B04", "B03", "B02")).bands == ("B08", "B04", "B03", "B02")
    assert load_resolver(plugin, bands=()).bands == ("B04", "B03", "B02")
    with pytest.raises(UsageError, match="takes B03, B02"):
        load_resolver(plugin, bands=("B04",))
    with pytest.raises(UsageError, match="does not restore B11"):
        load_resolver(find_model(models["highresnet"]), bands=("B11",))


def test_what_decides_the_values_has_a_hash(models: dict[str, str], tmp_path: Path) -> None:
    assert find_model("median").sha256() is None
    weights = Path(models["srdiff"])
    assert find_model(str(weights)).sha256() == hashlib.sha256(weights.read_bytes()).hexdigest()
    path = tmp_path / "p.yaml"
    path.write_text("onnx: net.onnx\nbands: [B02]\nscale: 4\n")
    with pytest.raises(GeodiffError, match="which is not there"):
        find_model(str(path)).sha256()
    seen = set()
    for graph, text in ((b"a", ""), (b"b", ""), (b"b", "factor: 2\n")):
        (tmp_path / "net.onnx").write_bytes(graph)
        path.write_text(f"onnx: net.onnx\nbands: [B02]\nscale: 4\n{text}")
        seen.add(find_model(str(path)).sha256())
    assert len(seen) == 3


def test_a_plugin_that_changes_is_loaded_anew(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(PLUGIN)
    assert load_resolver(find_model(str(path))).scale == 4
    path.write_text(PLUGIN.replace("scale_factor: 4", "scale_factor: 2").replace("scale: 4", "scale: 2"))
    assert load_resolver(find_model(str(path))).scale == 2


def test_the_table_of_models_names_all_that_need_no_path() -> None:
    rows = {row.name: row for row in describe_models()}
    assert list(rows) == known_models()
    assert {"s2x4", "bicubic", "median", "shift-and-add"} <= set(rows)
    assert rows["shift-and-add"].parameters == 0
    assert rows["shift-and-add"].bands == ()
    assert rows["s2x4"].parameters > 0
