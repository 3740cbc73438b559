"""The definitions of opensr-test: known answers, torch's resampling, and the package itself where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.exposure import match_histograms
from torch.nn import functional

from geodiff.metrics.opensr import (
    correctness,
    enlarge,
    fractional_difference,
    low_consistency,
    match_histogram,
    memberships,
    shrink,
    synthesis,
)
from geodiff.metrics.registration import displacement
from geodiff.schema import FloatArray


def _triplet(scale: int = 4, side: int = 128) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Low resolution, the same drawn larger, truth."""
    noise = np.random.default_rng(0).random((4, side, side))
    truth = (0.05 + 0.3 * ndimage.gaussian_filter(noise, (0, 1.5, 1.5))).astype(np.float32)
    low = shrink(truth, scale).astype(np.float32)
    return low, enlarge(low, scale).astype(np.float32), truth


def test_the_three_extremes() -> None:
    low, plain, truth = _triplet()
    other = np.clip(plain + np.random.default_rng(5).normal(0, 0.1, plain.shape), 0.01, None).astype(np.float32)
    best = correctness(low, truth, truth, scale=4)
    assert best.improvement > 0.9
    assert best.omission < 0.05
    idle = correctness(low, plain, truth, scale=4, harmonise=False)
    assert idle.omission > 0.9
    wrong = correctness(low, other, truth, scale=4, harmonise=False)
    assert wrong.hallucination > 0.9


@pytest.mark.parametrize("scale", [2, 4])
def test_shares_sum_to_one_and_improve_on_the_way_to_the_truth(scale: int) -> None:
    low, plain, truth = _triplet(scale)
    found = [correctness(low, plain + (truth - plain) * np.float32(way), truth, scale=scale) for way in (0, 0.4, 0.8)]
    for shares in found:
        assert shares.improvement + shares.omission + shares.hallucination == pytest.approx(1)
    assert found[0].improvement < found[1].improvement < found[2].improvement
    assert found[0].omission > found[1].omission > found[2].omission


def test_memberships_counted_by_hand() -> None:
    """On the truth (0, 1), on the low resolution (1, 0), and at unit distance from both (H = 1)."""
    found = memberships(np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0]), sharpness=0.5, temperature=1.0)
    on_truth = np.exp([-0.0, -1.0, -1.0])
    apart = np.exp([-(2 - np.exp(-0.5)), -(2 - np.exp(-0.5)), -np.exp(-0.5)])
    assert found[:, 0] == pytest.approx(on_truth / on_truth.sum())
    assert found[:, 1] == pytest.approx((on_truth / on_truth.sum())[[1, 0, 2]])
    assert found[:, 2] == pytest.approx(apart / apart.sum())


def test_what_is_infinitely_far_or_very_far_is_a_hallucination() -> None:
    found = memberships(np.array([np.inf, 1e8]), np.array([np.inf, 1e8]))
    assert found == pytest.approx(np.array([[0.0, 0], [0, 0], [1, 1]]))


def test_the_distance_is_bounded_and_zero_at_zero() -> None:
    x, y = np.array([[0.2, 0.0, -0.1, 0.3]]), np.array([[0.1, 0.0, 0.1, 0.0]])
    assert fractional_difference(x, y) == pytest.approx([1 / 3, 0, 1, 1])


def test_pixels_under_clouds_do_not_count() -> None:
    low, plain, truth = _triplet()
    clear = np.ones(truth.shape[1:], bool)
    clear[40:80, 30:70] = False
    estimate = (plain + truth) / 2
    wanted = correctness(low, estimate, truth, clear, scale=4)
    for fill in (5.0, np.nan):
        assert correctness(low, np.where(clear, estimate, np.float32(fill)), truth, clear, scale=4) == wanted
        assert correctness(low, estimate, np.where(clear, truth, np.float32(fill)), clear, scale=4) == wanted
    assert wanted != correctness(low, estimate, truth, scale=4)


def test_synthesis_is_what_was_added() -> None:
    low, plain, truth = _triplet()
    inside = (slice(None), slice(16, -16), slice(16, -16))
    added = np.abs(truth - plain)[inside].mean()
    # At the rim of the crop the low resolution ends, so that it is drawn a little otherwise there.
    assert synthesis(low, truth, truth, scale=4) == pytest.approx(added, rel=0.02)
    assert synthesis(low, plain, plain, scale=4) < 0.03 * added


def test_consistency_of_what_was_shrunk_and_of_what_was_moved() -> None:
    low, _, truth = _triplet(side=192)
    still = low_consistency(low, truth, scale=4)
    # The border of the crop is not that of the whole image.
    assert still.reflectance < 2e-4
    assert still.spectral_deg < 0.05
    assert still.spatial_px < 0.02
    moved = low_consistency(low, np.roll(truth, (3, -4), (1, 2)), scale=4)
    assert moved.spatial_px == pytest.approx(5 / 4, abs=0.1)
    assert low_consistency(low, truth + np.float32(0.02), scale=4).reflectance == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resampling_is_that_of_torch(scale: int) -> None:
    image = np.random.default_rng(0).random((2, 8 * scale, 9 * scale)).astype(np.float32)
    tensor = torch.from_numpy(image)[None]
    down = functional.interpolate(tensor, scale_factor=1 / scale, mode="bilinear", antialias=True)[0].numpy()
    up = functional.interpolate(tensor, scale_factor=scale, mode="bilinear", antialias=True)[0].numpy()
    assert shrink(image, scale) == pytest.approx(down, abs=1e-6)
    assert enlarge(image, scale) == pytest.approx(up, abs=5e-6)


def test_histograms_match_as_elsewhere() -> None:
    rng = np.random.default_rng(0)
    values, template = np.round(rng.normal(size=300), 1), rng.gamma(2.0, size=200)
    assert match_histogram(values, template) == pytest.approx(match_histograms(values, template))
    assert np.sort(match_histogram(rng.normal(size=200), template)) == pytest.approx(np.sort(template))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.0), (0.37, -1.62), (-0.5, 0.25)])
def test_displacements_of_band_limited_images(shift: tuple[float, float]) -> None:
    side = 64
    spectrum = np.fft.fft2(ndimage.gaussian_filter(np.random.default_rng(0).random((side, side)), 1, mode="wrap"))
    turn = np.fft.fftfreq(side)[:, None] * shift[0] + np.fft.fftfreq(side)[None, :] * shift[1]
    moved = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * turn)).real
    assert displacement(moved, np.fft.ifft2(spectrum).real) == pytest.approx(shift, abs=0.05)


def test_what_cannot_be_compared_is_told() -> None:
    low, plain, truth = _triplet()
    with pytest.raises(ValueError, match="do not fit x2"):
        correctness(low, plain, truth, scale=2)
    with pytest.raises(ValueError, match="no clear pixel"):
        correctness(low, plain, truth, np.zeros(truth.shape[1:], bool), scale=4)
    with pytest.raises(ValueError, match="nothing inside a border"):
        correctness(low[:, :8], plain[:, :32], truth[:, :32], scale=4)
    flat = np.full_like(truth, 0.2)
    with pytest.raises(ValueError, match="nowhere differ"):
        correctness(np.full_like(low, 0.2), flat, flat, scale=4)
    with pytest.raises(ValueError, match="8 x 8"):
        displacement(np.zeros((4, 9)), np.zeros((4, 9)))
    low[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="low resolution has gaps"):
        synthesis(low, plain, truth, scale=4)


def test_recorded_figures_of_the_benchmark() -> None:
    """opensr-test 1.3.3, harm_apply_spatial=False, gradient_threshold="auto", on this triplet and estimate."""
    low, plain, truth = _triplet()
    found = correctness(low, (plain + truth) / 2, truth, scale=4)
    recorded = 0.8454869, 0.1056172, 0.0488959
    assert (found.improvement, found.omission, found.hallucination) == pytest.approx(recorded, abs=1e-5)
    assert synthesis(low, (plain + truth) / 2, truth, scale=4) == pytest.approx(0.00723916, rel=1e-4)


def test_the_package_agrees() -> None:
    opensr_test = pytest.importorskip("opensr_test", reason="opensr-test is not installed")
    low, plain, truth = _triplet()
    estimate = (plain + truth) / 2
    metrics = opensr_test.Metrics(opensr_test.Config(harm_apply_spatial=False))
    lr, sr, hr = (torch.from_numpy(image) for image in (low, estimate, truth))
    theirs = metrics.correctness(lr=lr, sr=sr, hr=hr, gradient_threshold="auto")
    ours = correctness(low, estimate, truth, scale=4)
    wanted = theirs["im_metric"], theirs["om_metric"], theirs["ha_metric"]
    assert (ours.improvement, ours.omission, ours.hallucination) == pytest.approx(wanted, abs=1e-5)
    assert synthesis(low, estimate, truth, scale=4) == pytest.approx(
        metrics.synthesis(lr=lr, sr=sr, hr=hr)["synthesis"], rel=1e-5
    )
