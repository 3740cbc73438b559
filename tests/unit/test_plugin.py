"""Networks that others wrote are given what their YAML declares, and what goes wrong is told in one line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geodiff.config import catalogs_dir
from geodiff.model.baselines import BicubicResolver
from geodiff.model.plugin import load_plugin
from geodiff.model.plugin_config import read_plugin
from geodiff.schema import BANDS_10M, FloatArray, GeodiffError, Patch, UsageError
from geodiff.testing.tiny_models import random_patch

MODULE = "geodiff_test_networks"

SOURCE = '''
import torch
from torch import nn


class Nearest(nn.Module):
    """Repeats pixels; remembers what it saw."""

    seen = []

    def __init__(self, scale=4, gain=1.0, grow=True):
        super().__init__()
        self.scale, self.grow = scale, grow
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x, bias=0.0):
        self.seen.append(x.clone())
        image = x if x.ndim == 4 else x[:, 0]
        if self.grow:
            image = image.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)
        return image * self.gain + bias


class Last(Nearest):
    """Of a series, the last date."""

    def forward(self, x):
        return super().forward(x[:, -1])


class Wrapped(Nearest):
    def forward(self, x):
        return {"image": super().forward(x), "loss": None}


class Random(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.Conv2d(config["bands"], config["bands"] * 16, 3, padding=1)

    def forward(self, x):
        return nn.functional.pixel_shuffle(self.layer(x), 4)


def broken(**kwargs):
    raise ValueError("first line\\nsecond line")


def not_a_network():
    return 3
'''


@pytest.fixture(scope="module", autouse=True)
def networks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A module of somebody else's, importable."""
    folder = tmp_path_factory.mktemp("site")
    (folder / f"{MODULE}.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop(MODULE, None)


def _seen() -> list[Tensor]:
    seen: list[Tensor] = sys.modules[MODULE].Nearest.seen
    return seen


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "plugin.yaml"
    path.write_text(dedent(text).replace("MODULE", MODULE))
    return path


def _nearest(folder: Path, more: str = "", *, factory: str = "Nearest", bands: str = "B04, B03, B02") -> Path:
    return _yaml(folder, f"factory: MODULE:{factory}\nbands: [{bands}]\nscale: 4\n{dedent(more)}")


def _restore(path: Path, patch: Patch, bands: tuple[str, ...] = BANDS_10M) -> FloatArray:
    found = load_plugin(path, bands).restore(patch, members=2, seed=0)
    assert found.members.shape[0] == 0
    assert found.mean.dtype == np.float32
    return found.mean


def test_bands_are_given_in_its_order_and_the_others_are_bicubic(tmp_path: Path) -> None:
    path = _nearest(tmp_path)
    patch = random_patch((6, 8))
    found = _restore(path, patch)
    np.testing.assert_allclose(_seen()[-1][0].numpy(), patch.reflectance[0][[2, 1, 0]], atol=1e-7)
    np.testing.assert_allclose(found[:3], patch.reflectance[0][:3].repeat(4, 1).repeat(4, 2), atol=1e-6)
    bicubic = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    np.testing.assert_array_equal(found[3], bicubic[3])
    alone = load_plugin(path)
    assert alone.bands == ("B04", "B03", "B02")
    assert alone.name == "plugin"


def test_units_are_those_that_it_declares(tmp_path: Path) -> None:
    patch = random_patch((6, 8))
    more = """
        factor: 10000
        mean: [1000, 2000, 3000]
        std: 500
    """
    found = _restore(_nearest(tmp_path, more), patch)
    wanted = (patch.reflectance[0][[2, 1, 0]] * 1e4 - np.array([1e3, 2e3, 3e3])[:, None, None]) / 500
    np.testing.assert_allclose(_seen()[-1][0].numpy(), wanted, atol=1e-3)
    np.testing.assert_allclose(found[:3], patch.reflectance[0][:3].repeat(4, 1).repeat(4, 2), atol=1e-6)
    raw = _restore(_nearest(tmp_path, more + "    output_normalised: false\n"), patch)
    np.testing.assert_allclose(raw[2], wanted[0].repeat(4, 0).repeat(4, 1) / 1e4, atol=1e-6)


def test_what_a_module_takes_and_returns_besides(tmp_path: Path) -> None:
    patch = random_patch((6, 8))
    plain = _restore(_nearest(tmp_path), patch)
    shifted = _restore(_nearest(tmp_path, "arguments: {bias: 0.25}\nkwargs: {gain: 2.0}\n"), patch)
    np.testing.assert_allclose(shifted[:3], 2 * plain[:3] + 0.25, atol=1e-6)
    wrapped = _restore(_nearest(tmp_path, "output: image\n", factory="Wrapped"), patch)
    np.testing.assert_array_equal(wrapped, plain)
    with pytest.raises(GeodiffError, match="name its image with `output`"):
        _restore(_nearest(tmp_path, factory="Wrapped"), patch)


def test_a_network_of_upsampled_images(tmp_path: Path) -> None:
    patch = random_patch((6, 8))
    found = _restore(_nearest(tmp_path, "upsampled: true\nkwargs: {grow: false}\n"), patch)
    bicubic = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    np.testing.assert_allclose(found, bicubic, atol=1e-6)


@pytest.mark.parametrize(("layout", "axes"), [("btchw", (0, 1)), ("bcthw", (1, 0))])
def test_a_series_comes_closest_first_without_holes(tmp_path: Path, layout: str, axes: tuple[int, int]) -> None:
    patch = random_patch((8, 8), dates=3, clouds=0.4, target_index=1)
    patch = replace(patch, shift_px=np.zeros_like(patch.shift_px))
    path = _yaml(tmp_path, f"factory: MODULE:Nearest\nbands: [B02, B08]\nscale: 4\nlayout: {layout}\ndates: 4\n")
    run = load_plugin(path, BANDS_10M)
    seen: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(2, 32, 32)

    replace(run, run=keep).restore(patch, members=0, seed=0)
    given = seen[0][0].permute(*axes, 2, 3).numpy()
    assert given.shape == (4, 2, 8, 8)
    np.testing.assert_array_equal(given[3], given[0], err_msg="the closest again, where there are too few")
    order = np.argsort(np.abs(patch.days - patch.target_day))
    for place, date in enumerate(order):
        clear = patch.valid[date]
        np.testing.assert_allclose(given[place][:, clear], patch.reflectance[date][[0, 3]][:, clear], atol=1e-6)
    reference = BicubicResolver(BANDS_10M, scale=1).restore(patch, members=0, seed=0).mean[[0, 3]]
    known = patch.valid.any(0)
    np.testing.assert_allclose(given[0][:, known], reference[:, known], atol=1e-6)


def test_dates_as_channels_and_any_number_of_them(tmp_path: Path) -> None:
    patch = random_patch((6, 6), dates=5)
    found = load_plugin(_nearest(tmp_path, "layout: b(tc)hw\ndates: 2\n"), BANDS_10M)
    shapes: list[tuple[int, ...]] = []

    def keep(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return torch.zeros(3, 24, 24)

    replace(found, run=keep).restore(patch, members=0, seed=0)
    replace(load_plugin(_nearest(tmp_path, "layout: btchw\n"), BANDS_10M), run=keep).restore(patch, members=0, seed=0)
    assert shapes == [(1, 6, 6, 6), (1, 5, 3, 6, 6)]
    last = _restore(_nearest(tmp_path, "layout: btchw\ndates: 1\n", factory="Last"), patch)
    np.testing.assert_allclose(last[:3], patch.reflectance[0][:3].repeat(4, 1).repeat(4, 2), atol=1e-6)


@pytest.mark.parametrize("origin", [(0, 0), (-3, 5)])
def test_sides_are_padded_on_the_absolute_lattice(tmp_path: Path, origin: tuple[int, int]) -> None:
    patch = random_patch((6, 9), origin_px=origin)
    found = _restore(_nearest(tmp_path, "multiple: 8\n"), patch)
    given = _seen()[-1][0]
    assert given.shape[1] % 8 == given.shape[2] % 8 == 0
    top, left = origin[0] % 8, origin[1] % 8
    np.testing.assert_array_equal(given[0, top : top + 6, left : left + 9].numpy(), patch.reflectance[0, 2])
    np.testing.assert_allclose(found[:3], patch.reflectance[0][:3].repeat(4, 1).repeat(4, 2), atol=1e-6)


def test_what_no_date_shows_is_nan_and_garbage_under_masks_never_shows(tmp_path: Path) -> None:
    patch = random_patch((16, 16), clouds=0.7, dates=2, seed=3)
    path = _nearest(tmp_path)
    clean = _restore(path, patch)
    assert np.isnan(clean).any()
    dirty = np.where(patch.valid[:, None], patch.reflectance, np.float32("nan"))
    np.testing.assert_array_equal(_restore(path, replace(patch, reflectance=dirty)), clean)
    assert np.isnan(_restore(path, replace(patch, valid=np.zeros_like(patch.valid)))).all()


def test_nested_values_are_made_and_random_weights_are_always_the_same(tmp_path: Path) -> None:
    more = "kwargs: {config: {factory: 'builtins:dict', kwargs: {bands: 3}}}\n"
    path = _nearest(tmp_path, more, factory="Random")
    patch = random_patch((6, 6))
    torch.manual_seed(1)
    first = _restore(path, patch)
    torch.manual_seed(2)
    np.testing.assert_array_equal(_restore(path, patch), first)


def test_weights_come_from_safetensors_beside_the_file(tmp_path: Path) -> None:
    patch = random_patch((6, 6))
    plain = _restore(_nearest(tmp_path), patch)
    save_file({"gain": torch.tensor(3.0)}, tmp_path / "w.safetensors")
    np.testing.assert_allclose(_restore(_nearest(tmp_path, "weights: w.safetensors\n"), patch)[:3], 3 * plain[:3])
    save_file({"other": torch.tensor(3.0)}, tmp_path / "w.safetensors")
    with pytest.raises(GeodiffError, match="do not fit"):
        _restore(_nearest(tmp_path, "weights: w.safetensors\n"), patch)
    with pytest.raises(GeodiffError, match="SHA-256 differs"):
        _restore(_nearest(tmp_path, f"weights: w.safetensors\nsha256: '{'0' * 64}'\n"), patch)
    torch.save({"gain": torch.tensor(3.0)}, tmp_path / "w.pt")
    with pytest.raises(GeodiffError, match="never loaded"):
        _restore(_nearest(tmp_path, "weights: w.pt\n"), patch)


FINE = "factory: MODULE:Nearest\nbands: [B02]\nscale: 4\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds NoneType"),
        ("- a\n", "holds list"),
        ("bands: [B02\n", "not YAML in line"),
        ("!!python/object/apply:os.system [ls]\n", "not YAML"),
        ("bands: [B02]\nscale: 4\n", "give one of factory and onnx"),
        (FINE + "onnx: a.onnx\n", "give one of factory and onnx"),
        (FINE + "bandz: 3\n", "unknown key 'bandz'"),
        (FINE + "scale: 0\n", "scale"),
        (FINE + "scale: 1.5\n", "scale"),
        ("factory: MODULE:Nearest\nscale: 4\n", "'bands' is missing"),
        ("factory: MODULE:Nearest\nbands: []\nscale: 4\n", "bands"),
        ("factory: MODULE:Nearest\nbands: [B02, B02]\nscale: 4\n", "named twice"),
        ("factory: MODULE:Nearest\nbands: [B11]\nscale: 4\n", "takes B11, which"),
        (FINE + "mean: [0.1, 0.2]\n", "mean has 2 values for 1 bands"),
        (FINE + "std: 0\n", "std positive"),
        (FINE + "mean: .nan\n", "mean must be finite"),
        (FINE + "factor: .inf\n", "factor"),
        (FINE + "layout: bhwc\n", "layout"),
        (FINE + "layout: b(tc)hw\n", "needs the number of dates"),
        (FINE + "multiple: 100000\n", "multiple"),
        (FINE + "sha256: abc\n", "sha256"),
        ("onnx: a.onnx\nkwargs: {a: 1}\nbands: [B02]\nscale: 4\n", "are of torch modules"),
        ("onnx: a.onnx\nbands: [B02]\nscale: 4\n", "a.onnx, which is not there"),
        (FINE.replace("MODULE:Nearest", "Nearest"), "not of the form"),
        (FINE.replace("MODULE:", "no_such_package_here:"), "needs the package no_such_package_here"),
        (FINE.replace("Nearest", "Farthest"), "does not exist"),
        (FINE.replace("Nearest", "broken"), "failed: first line"),
        (FINE.replace("Nearest", "not_a_network"), "gave int, not a torch.nn.Module"),
        (FINE.replace("MODULE:Nearest", "torch:load") + "kwargs: {f: a.pt}\n", "never loaded"),
        (FINE.replace("MODULE:Nearest", "torch:jit.load") + "kwargs: {f: a.pt}\n", "never loaded"),
        (FINE.replace("MODULE:Nearest", "torch.hub:load") + "kwargs: {f: a.pt}\n", "never loaded"),
        (FINE.replace("MODULE:Nearest", "pickle:loads") + "kwargs: {data: a}\n", "never loaded"),
        (FINE + "kwargs: {scale: {factory: 'pickle:load'}}\n", "never loaded"),
        (FINE.replace("MODULE:Nearest", "math:pi"), "does not make a network"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GeodiffError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        load_plugin(_yaml(tmp_path, text), BANDS_10M)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_network_of_another_scale_or_of_nothing_finite(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read settings"):
        read_plugin(tmp_path / "none.yaml")
    patch = random_patch((6, 6))
    for more, message in (
        ("kwargs: {scale: 2}\n", r"made \(3, 12, 12\) of an input of \(1, 3, 6, 6\), wanted is \(3, 24, 24\)"),
        ("kwargs: {gain: .nan}\n", "not numbers"),
        ("arguments: {nonsense: 1}\n", "failed on an input of"),
    ):
        with pytest.raises(GeodiffError, match=message) as caught:
            _restore(_nearest(tmp_path, more), patch)
        assert "\n" not in str(caught.value)


# ONNX.


def _onnx(folder: Path, *, bands: int, series: bool = False) -> Path:
    """A graph that repeats pixels four times, of the first date of a series."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    source, shape = "x", ["b", "c", "h", "w"]
    if series:
        shape = ["b", "t", "c", "h", "w"]
        nodes.append(helper.make_node("Gather", ["x", "zero"], ["first"], axis=1))
        source = "first"
    nodes.append(helper.make_node("Resize", [source, "", "scales"], ["y"], mode="nearest"))
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "c", "oh", "ow"])],
        [
            numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"),
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
        ],
    )
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("series", [False, True])
def test_an_onnx_graph_is_given_the_same_as_a_module(tmp_path: Path, series: bool) -> None:
    pytest.importorskip("onnxruntime")
    _onnx(tmp_path, bands=3, series=series)
    layout = "layout: btchw\ndates: 3\n" if series else ""
    path = _yaml(tmp_path, f"onnx: net.onnx\nbands: [B04, B03, B02]\nscale: 4\nmean: 0.2\nstd: 0.1\n{layout}")
    patch = random_patch((6, 8))
    found = _restore(path, patch)
    np.testing.assert_allclose(found[:3], patch.reflectance[0][:3].repeat(4, 1).repeat(4, 2), atol=1e-6)
    with pytest.raises(UsageError, match="has no output 'z', it has y"):
        load_plugin(_yaml(tmp_path, "onnx: net.onnx\nbands: [B04]\nscale: 4\noutput: z\n"))


def test_a_damaged_onnx_file_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes(b"not a graph")
    with pytest.raises(GeodiffError, match="cannot be run") as caught:
        load_plugin(_yaml(tmp_path, "onnx: net.onnx\nbands: [B04]\nscale: 4\n"))
    assert "\n" not in str(caught.value)


def test_espcn_of_its_paper_as_an_onnx_graph(tmp_path: Path) -> None:
    """Shi et al. 2016: 5x5 to 64, 3x3 to 32, 3x3 to 16, depth to space; on one band, here with random weights."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    random, nodes, weights, source = np.random.default_rng(0), [], [], "x"
    for layer, (wide, deep, side) in enumerate([(1, 64, 5), (64, 32, 3), (32, 16, 3)]):
        kernel = random.normal(0, (wide * side * side) ** -0.5, (deep, wide, side, side)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [source, f"w{layer}"], [f"c{layer}"], pads=[side // 2] * 4))
        nodes.append(helper.make_node("Tanh", [f"c{layer}"], [f"t{layer}"]))
        source = f"t{layer}"
    nodes.append(helper.make_node("DepthToSpace", ["c2"], ["y"], blocksize=4, mode="CRD"))
    sides: list[list[Any]] = [["b", 1, "h", "w"], ["b", 1, "oh", "ow"]]
    entry, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("xy", sides, strict=True))
    graph = helper.make_graph(nodes, "espcn", [entry], [result], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "espcn.onnx"
    )
    found = _restore(_yaml(tmp_path, "onnx: espcn.onnx\nbands: [B08]\nscale: 4\n"), patch := random_patch((8, 8)))
    bicubic = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    np.testing.assert_array_equal(found[:3], bicubic[:3])
    assert np.isfinite(found[3]).all()
    assert np.abs(found[3] - bicubic[3]).max() > 0.01


# The examples that ship, and networks of packages.


def _shrunk(name: str, folder: Path, **kwargs: Any) -> Path:
    import yaml

    values = yaml.safe_load((catalogs_dir() / "plugins" / f"{name}.yaml").read_text())
    inner = values["kwargs"]["config"]["kwargs"] if name == "swin2sr" else values["kwargs"]
    inner.update(kwargs)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_examples_are_valid() -> None:
    examples = sorted((catalogs_dir() / "plugins").glob("*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        assert read_plugin(path).scale == 4


def _check(path: Path, own: list[int]) -> None:
    patch = random_patch((11, 9), origin_px=(5, -2))
    found = _restore(path, patch)
    bicubic = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    others = [band for band in range(4) if band not in own]
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[others], bicubic[others])
    assert (np.abs(found - bicubic).max((1, 2))[own] > 1e-4).all()


def test_swin2sr_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    _check(_shrunk("swin2sr", tmp_path, image_size=16, embed_dim=12, depths=[1], num_heads=[2]), [0, 1, 2])


def test_unet_of_diffusers(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    _check(_shrunk("unet2d", tmp_path, block_out_channels=[8, 8], norm_num_groups=4), [0, 1, 2, 3])


def test_a_network_is_a_module(tmp_path: Path) -> None:
    """Any callable that gives one will do, for instance a class of torch itself."""
    path = _yaml(tmp_path, "factory: torch.nn:Upsample\nkwargs: {scale_factor: 4}\nbands: [B08]\nscale: 4\n")
    assert isinstance(nn.Upsample(scale_factor=4), nn.Module)
    patch = random_patch((6, 6))
    np.testing.assert_allclose(_restore(path, patch)[3], patch.reflectance[0, 3].repeat(4, 0).repeat(4, 1), atol=1e-6)
