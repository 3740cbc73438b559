"""Level, dial and layers from the command line to the store: what is asked for is stored, and says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import Result

from geodiff.model.checkpoint import save_checkpoint
from geodiff.testing.tiny_models import tiny_denoiser

if TYPE_CHECKING:
    from conftest import TinyPlace

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose card holds intervals: at 0.8 of twice, at 0.9 of three times the width at 0.5."""
    quantiles = (np.arange(1, 4)[:, None, None, None] * np.ones((3, 2, 2, 4))).tolist()
    table = {"levels": [0.5, 0.8, 0.9], "texture_limits": [[0.02]] * 4, "quantiles": quantiles, "members": 4}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(tiny_denoiser(), path, card={"spread": {"2": 2.0}, "conformal": {"1": table, "2": table}})
    return path


def _stored(geodiff: Run, place: TinyPlace, out: Path, model: Path, *words: Any) -> xr.Dataset:
    result = geodiff("superres", *place.words, "--model", model, "--out", out, "--workers", 1, *words)
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "summary.json").read_text())
    return xr.open_zarr(summary["zarr"]).load()


def test_dial_0_stores_the_mean_as_member_and_the_levels_scale(
    geodiff: Run, place: TinyPlace, calibrated: Path, tmp_path: Path
) -> None:
    words = ("--keep-member", "--layers", "guessed")
    usual = _stored(geodiff, place, tmp_path / "a", calibrated, *words)
    calm = _stored(geodiff, place, tmp_path / "b", calibrated, *words, "--dial", 0, "--level", 0.5)
    xr.testing.assert_equal(calm.member, calm.reflectance.rename("member"))
    xr.testing.assert_equal(calm.reflectance, usual.reflectance)
    xr.testing.assert_equal(calm.guessed, usual.guessed)
    assert float(np.abs(usual.member - usual.reflectance).max()) > 0.01
    np.testing.assert_allclose(usual.uncertainty, 3 * calm.uncertainty, atol=2.1e-5)
    assert (calm.uncertainty.attrs["geodiff:level"], usual.uncertainty.attrs["geodiff:level"]) == (0.5, 0.9)
    assert calm.uncertainty.attrs["geodiff:interval"] == "conformal"
    assert calm.member.attrs["geodiff:dial"] == 0.0


def test_layers_are_off_unless_asked_for(geodiff: Run, place: TinyPlace, calibrated: Path, tmp_path: Path) -> None:
    found = _stored(geodiff, place, tmp_path, calibrated)
    assert set(found.data_vars) == {"reflectance", "uncertainty", "valid"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--level", 0.95), "0.5, 0.8, 0.9"),
        (("--level", 1.5), "level"),
        (("--dial", 2), "dial"),
        (("--layers", "dreamt"), "layers"),
    ],
)
def test_what_cannot_be_is_refused(
    geodiff: Run, place: TinyPlace, calibrated: Path, tmp_path: Path, words: tuple[Any, ...], told: str
) -> None:
    result = geodiff("superres", *place.words, "--model", calibrated, "--out", tmp_path, *words)
    assert result.exit_code == 2
    assert told in result.output
