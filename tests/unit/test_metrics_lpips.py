"""LPIPS with weights of the test's own making: what holds for any weights, and the file that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from geodiff.model.perceptual import (
    WEIGHTS_VARIABLE,
    Lpips,
    expected_tensors,
    load_lpips,
    lpips_weights,
    perceptual_distance,
)
from geodiff.schema import FloatArray, GeodiffError


def _tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in expected_tensors().items():
        drawn = torch.randn(shape, generator=generator)
        found[name] = drawn.abs() if name.startswith("lin") else drawn / max(np.prod(shape[1:]), 1) ** 0.5
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    save_file(_tensors(), path)
    return path


@pytest.fixture(scope="module")
def model(weights: Path) -> Lpips:
    return load_lpips(weights)


def _images(count: int = 2, side: int = 72) -> list[FloatArray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 0.3, (4, side, side)).astype(np.float32) for _ in range(count)]


def test_the_file_holds_what_is_published() -> None:
    wanted = expected_tensors()
    assert len(wanted) == 15
    assert wanted["features.0.weight"] == (64, 3, 11, 11)
    assert wanted["features.10.bias"] == (256,)
    assert [wanted[f"lin{i}.model.1.weight"] for i in range(5)] == [(1, c, 1, 1) for c in (64, 192, 384, 256, 256)]
    assert sum(int(np.prod(shape)) for shape in wanted.values()) == 2_469_696 + 1152


def test_equal_images_are_at_distance_zero_and_order_does_not_matter(model: Lpips) -> None:
    x, y = _images()
    assert perceptual_distance(model, x, x) == 0
    assert perceptual_distance(model, x, y) == pytest.approx(perceptual_distance(model, y, x), rel=1e-6)
    assert perceptual_distance(model, x, y) > 0.01


def test_it_is_the_sum_over_stages_written_out(model: Lpips) -> None:
    """The formula of the paper's section 3, pixel by pixel, from features that plain torch calls give."""
    tensors = _tensors()
    x, y = (torch.from_numpy(image[[2, 1, 0]])[None] / 0.15 - 1 for image in _images())
    mean, deviation = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))

    def stages(image: Tensor) -> list[Tensor]:
        found, current = [], (image - mean) / deviation
        for layer, (stride, padding) in zip((0, 3, 6, 8, 10), ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1)), strict=True):
            if layer in (3, 6):
                current = functional.max_pool2d(current, 3, 2)
            weight, bias = tensors[f"features.{layer}.weight"], tensors[f"features.{layer}.bias"]
            current = functional.conv2d(current, weight, bias, stride, padding).clamp(min=0)
            found.append(current[0])
        return found

    total = 0.0
    for index, (a, b) in enumerate(zip(stages(x), stages(y), strict=True)):
        rows, cols = a.shape[1:]
        weight = tensors[f"lin{index}.model.1.weight"].flatten()
        for row in range(rows):
            for col in range(cols):
                u, v = a[:, row, col], b[:, row, col]
                gap = u / u.norm().clamp(min=1e-10) - v / v.norm().clamp(min=1e-10)
                total += float((weight * gap**2).sum()) / (rows * cols)
    assert perceptual_distance(model, *_images()) == pytest.approx(total, rel=1e-4)


def test_channels_of_a_stage_may_be_renumbered(tmp_path: Path, model: Lpips) -> None:
    """Filters and their weights in another order are the same metric: each weight is at its own feature."""
    tensors, order = _tensors(), torch.randperm(256, generator=torch.Generator().manual_seed(1))
    for name in ("features.10.weight", "features.10.bias"):
        tensors[name] = tensors[name][order].contiguous()
    x, y = _images()
    wanted = perceptual_distance(model, x, y)
    for moved, equal in ((tensors["lin4.model.1.weight"][:, order], True), (tensors["lin4.model.1.weight"], False)):
        tensors["lin4.model.1.weight"] = moved.contiguous()
        save_file(tensors, tmp_path / "moved.safetensors")
        found = perceptual_distance(load_lpips(tmp_path / "moved.safetensors"), x, y)
        assert (found == pytest.approx(wanted, rel=1e-6)) is equal
        tensors["lin4.model.1.weight"] = _tensors()["lin4.model.1.weight"]


def test_a_batch_is_its_images(model: Lpips) -> None:
    x, y = (torch.from_numpy(np.stack(images)[:, :3]) for images in (_images(3), _images(6)[3:]))
    one_by_one = torch.cat([model(a[None], b[None]) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(model(x, y), one_by_one)
    order = [2, 0, 1]
    torch.testing.assert_close(model(x[order], y[order]), one_by_one[order])


def test_red_green_and_blue_alone_are_looked_at_and_cut_at_white(model: Lpips) -> None:
    x, y = _images()
    other = x.copy()
    other[3] = 0.9
    assert perceptual_distance(model, other, y) == perceptual_distance(model, x, y)
    swapped = perceptual_distance(model, x, y, rgb=(0, 1, 2))
    assert swapped == pytest.approx(perceptual_distance(model, x[[2, 1, 0]], y[[2, 1, 0]]))
    assert swapped != perceptual_distance(model, x, y)
    bright = np.where(x > 0.25, np.float32(0.3), x)
    brighter = np.where(x > 0.25, np.float32(0.8), x)
    assert perceptual_distance(model, bright, brighter) == 0


def test_what_cannot_be_compared_is_told(model: Lpips) -> None:
    x, y = _images()
    with pytest.raises(ValueError, match="64 pixels at least"):
        perceptual_distance(model, x[:, :40], y[:, :40])
    with pytest.raises(ValueError, match="one shape"):
        perceptual_distance(model, x, y[:, :70])
    y[1, 3, 3] = np.nan
    with pytest.raises(ValueError, match="gaps"):
        perceptual_distance(model, x, y)


def test_the_variable_names_the_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    assert lpips_weights() is None
    with pytest.raises(GeodiffError, match=r"no LPIPS weights: .*features\.0\.weight 64x3x11x11") as caught:
        load_lpips()
    assert "\n" not in str(caught.value)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(weights))
    assert lpips_weights() == weights
    assert perceptual_distance(load_lpips(), *_images()) > 0
    assert lpips_weights(Path("other.safetensors")) == Path("other.safetensors")


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="no LPIPS weights at"):
        load_lpips(tmp_path / "none.safetensors")
    torch.save(_tensors(), tmp_path / "lpips.pth")
    with pytest.raises(GeodiffError, match="never loaded"):
        load_lpips(tmp_path / "lpips.pth")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(GeodiffError, match="cannot be read"):
        load_lpips(damaged)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lin0.model.1.weight", None, r"lack lin0\.model\.1\.weight"),
        ("features.3.bias", torch.zeros(7), r"lack features\.3\.bias"),
        ("features.3.bias", torch.full((192,), torch.nan), "not numbers"),
        ("lin2.model.1.weight", torch.full((1, 384, 1, 1), -1.0), "negatively"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, name: str, value: Tensor | None, message: str) -> None:
    tensors = _tensors()
    del tensors[name]
    if value is not None:
        tensors[name] = value
    save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(GeodiffError, match=message):
        load_lpips(tmp_path / "wrong.safetensors")
