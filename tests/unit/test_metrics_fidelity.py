"""cPSNR, cSSIM and the spectral angle against cases that can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity

from geodiff.metrics.fidelity import cpsnr, cssim, spectral_angle_deg
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
    # Unmoved, two by two pixels are seen; moved by up to three, from one to five by five.
    estimate[:, 12:], estimate[:, :, 12:] = np.nan, np.nan
    assert cpsnr(estimate, truth, clear) < 15


def test_a_pixel_that_lacks_one_band_counts_in_none() -> None:
    truth, estimate = _image(), _image()
    truth[0, 10:20, 5:30] = 9.0
    estimate[1, 10:20, 5:30] = np.nan
    assert cpsnr(estimate, truth) > 100
    assert cpsnr(truth, estimate) > 100


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


def test_the_psnr_of_a_shifted_copy_is_that_of_what_was_added() -> None:
    truth = _image(side=60)
    wrong = np.zeros_like(truth)
    wrong[:, ::2, ::2] = 0.02  # a quarter of the pixels: variance 0.02^2 * 1/4 * 3/4
    shifted = np.roll(truth + wrong, (2, 2), (1, 2))
    assert cpsnr(shifted, truth) == pytest.approx(-10 * np.log10(0.02**2 * 3 / 16), abs=0.02)


@pytest.mark.parametrize("metric", [cpsnr, cssim, spectral_angle_deg])
def test_images_of_other_shapes_are_refused(metric: Callable[[FloatArray, FloatArray], float]) -> None:
    with pytest.raises(ValueError, match=r"estimate is \(4, 40, 40\), the truth \(4, 44, 44\)"):
        metric(_image(), _image(side=44))


def _smooth(seed: int = 0, side: int = 48) -> FloatArray:
    return ndimage.gaussian_filter(_image(seed, side), (0, 2, 2)).astype(np.float32)


def test_ssim_of_an_image_with_itself_is_one() -> None:
    assert cssim(_smooth(), _smooth()) == pytest.approx(1, abs=1e-12)


def test_ssim_is_that_of_an_independent_implementation() -> None:
    truth = _smooth(side=64)
    estimate = truth + np.random.default_rng(3).normal(0, 0.03, truth.shape).astype(np.float32)
    level = estimate - estimate.mean((1, 2), keepdims=True) + truth.mean((1, 2), keepdims=True)
    wanted = structural_similarity(
        level.astype(np.float64), truth.astype(np.float64), data_range=1.0, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert 0.3 < wanted < 0.97
    # The other averages over the same pixels: those whose window is inside.
    assert cssim(estimate, truth, crop=0, search=0) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("shift", [(0, 1), (3, -3), (-2, 0)])
def test_ssim_forgives_whole_shifts_and_biases(shift: tuple[int, int]) -> None:
    truth = _smooth()
    moved = np.roll(truth, shift, (1, 2)) + np.array([0.1, -0.2, 0, 0.3], np.float32)[:, None, None]
    assert cssim(moved, truth) == pytest.approx(1, abs=1e-6)
    assert cssim(moved, truth, search=0) < 0.95


def test_ssim_climbs_to_the_best_of_all_shifts() -> None:
    truth = _smooth()
    estimate = ndimage.gaussian_filter(np.roll(truth, (1, -2), (1, 2)), (0, 1, 1))
    estimate = estimate + np.random.default_rng(1).normal(0, 0.02, truth.shape).astype(np.float32)
    every = []
    for down in range(-3, 4):
        for right in range(-3, 4):
            # The estimate's interior against one window of the truth, with no search.
            window = truth[:, 3 + down : 45 + down, 3 + right : 45 + right]
            every.append(cssim(estimate[:, 3:-3, 3:-3], window, crop=0, search=0))
    assert cssim(estimate, truth) == pytest.approx(max(every), abs=1e-9)


def test_what_a_cloud_hides_does_not_change_ssim() -> None:
    truth, clear = _smooth(), np.ones((48, 48), bool)
    clear[10:20, 5:30] = False
    estimate = truth + np.random.default_rng(1).normal(0, 0.02, truth.shape).astype(np.float32)
    known = cssim(estimate, truth, clear, search=0)
    for fill in (9.0, np.nan):
        assert cssim(np.where(clear, estimate, np.float32(fill)), truth, clear, search=0) == known
        assert cssim(estimate, np.where(clear, truth, np.float32(fill)), clear, search=0) == known


def test_ssim_needs_a_clear_window() -> None:
    clear = np.zeros((48, 48), bool)
    with pytest.raises(ValueError, match="no clear pixel"):
        cssim(_smooth(), _smooth(), clear)
    clear[4, 4] = True
    with pytest.raises(ValueError, match="5 pixels from the border"):
        cssim(_smooth(), _smooth(), clear, search=0)


def test_spectral_angles_known_from_geometry() -> None:
    truth = np.zeros((2, 1, 3), np.float32)
    truth[0] = 0.2
    estimate = truth.copy()
    estimate[:, 0, 0] = 0.0, 0.7  # at a right angle
    estimate[:, 0, 1] = 0.3, 0.3  # half of it
    estimate[:, 0, 2] = 0.9, 0.0  # brighter, of the same color
    assert spectral_angle_deg(estimate, truth) == pytest.approx(45)
    assert spectral_angle_deg(estimate, truth, np.array([[False, True, True]])) == pytest.approx(22.5)


def test_small_angles_keep_their_digits() -> None:
    truth = np.full((2, 1, 1), 0.5, np.float32)
    estimate = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32).reshape(2, 1, 1)
    wanted = np.degrees(np.arctan(float(estimate[1, 0, 0]) / 0.5) - np.pi / 4)
    assert spectral_angle_deg(estimate, truth) == pytest.approx(wanted, rel=1e-4)
    assert spectral_angle_deg(truth, truth) == 0


def test_a_black_or_missing_spectrum_has_no_angle() -> None:
    truth = np.full((2, 1, 3), 0.5, np.float32)
    estimate = truth.copy()
    estimate[:, 0, 0], estimate[1, 0, 1] = 0, np.nan
    assert spectral_angle_deg(estimate, truth) == 0
    with pytest.raises(ValueError, match="no clear pixel"):
        spectral_angle_deg(np.zeros_like(truth), truth)
