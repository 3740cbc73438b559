"""cPSNR against cases that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.metrics.fidelity import cpsnr
from geodiff.schema import FloatArray


def _image(seed: int = 0, side: int = 40) -> FloatArray:
    return np.random.default_rng(seed).random((4, side, side)).astype(np.float32)


def test_white_noise_of_known_strength() -> None:
    truth = _image(side=120)
    noisy = truth + np.random.default_rng(1).normal(0, 0.01, truth.shape).astype(np.float32)
    assert cpsnr(noisy, truth) == pytest.approx(40.0, abs=0.1)


@pytest.mark.parametrize("offset", [0.3, -0.05])
def test_a_bias_of_each_band_is_forgiven(offset: float) -> None:
    truth = _image()
    bias = np.array([offset, 0.1, 0.0, -offset], np.float32)[:, None, None]
    assert cpsnr(truth + bias, truth) > 100


@pytest.mark.parametrize("shift", [(0, 1), (3, -3), (-2, 0)])
def test_whole_shifts_up_to_three_pixels_are_forgiven(shift: tuple[int, int]) -> None:
    truth = _image()
    assert cpsnr(np.roll(truth, shift, (1, 2)), truth) > 100
    assert cpsnr(np.roll(truth, shift, (1, 2)), truth, search=0) < 20


def test_a_shift_of_four_pixels_is_not() -> None:
    truth = _image()
    assert cpsnr(np.roll(truth, 4, 2), truth) < 20


def test_cloudy_pixels_and_gaps_do_not_count() -> None:
    truth, clear = _image(), np.ones((40, 40), bool)
    clear[10:20, 5:30] = False
    spoiled = np.where(clear, truth, np.float32(9.0))
    assert cpsnr(truth, spoiled, clear) > 100
    assert cpsnr(truth, np.where(clear, truth, np.float32("nan"))) > 100
    assert cpsnr(np.where(clear, truth, np.float32("nan")), truth) > 100


def test_a_handful_of_pixels_at_the_edge_of_a_cloud_does_not_win() -> None:
    """One clear pixel has no variance: the shift that sees it alone must not score 120 dB."""
    truth, clear = _image(), np.zeros((40, 40), bool)
    clear[10:30, 10:30] = True
    estimate = _image(7)
    estimate[:, 12:28, 12:28] = np.nan
    estimate[:, 8:12] = np.nan
    fair = cpsnr(_image(7), truth, clear)
    assert cpsnr(estimate, truth, clear) == pytest.approx(fair, abs=1.5)


def test_the_border_of_the_estimate_does_not_count() -> None:
    truth = _image()
    estimate = truth.copy()
    estimate[:, :3], estimate[:, -3:] = 5.0, 5.0
    assert cpsnr(estimate, truth) > 100


def test_nothing_to_compare_on() -> None:
    truth = _image()
    with pytest.raises(ValueError, match="no clear pixel"):
        cpsnr(truth, truth, np.zeros((40, 40), bool))
    with pytest.raises(ValueError, match="search"):
        cpsnr(truth, truth, crop=1)
