"""Spectra of signals whose spectrum is known, and edges whose loss is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from geodiff.metrics.spectrum import clear_square, edge_fidelity, power_gap_db, radial_power, spectrum_gap_db
from geodiff.schema import FloatArray


def _noise(shape: tuple[int, ...] = (2, 96, 96), seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0.3, 0.05, shape).astype(np.float32)


def test_white_noise_is_flat_at_its_variance() -> None:
    frequency, power = radial_power(_noise((8, 96, 128)), bins=8)
    assert frequency == pytest.approx((np.arange(8) + 0.5) / 8)
    assert power.shape == (8, 8)
    assert power.mean(0) == pytest.approx(np.full(8, 0.05**2), rel=0.1)


@pytest.mark.parametrize(("down", "right"), [(0.3, 0.0), (0.0, 0.6), (0.36, 0.48), (0.5, -0.5)])
def test_a_wave_has_its_power_at_its_frequency(down: float, right: float) -> None:
    """Parseval: the power of all cells, over their number, is the mean square of the wave."""
    rows, cols, bins = 80, 120, 20
    y, x = np.mgrid[:rows, :cols]
    image = 0.2 + 0.1 * np.cos(np.pi * (down * y + right * x) + 0.4)
    frequency, power = radial_power(image, bins=bins)
    assert frequency[power.argmax()] == pytest.approx(np.hypot(down, right), abs=0.5 / bins + 1e-9)
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols)[None, :]) * 2
    cells = np.histogram(radius[radius > 0], bins, (0, 1))[0]
    near = np.abs(frequency - np.hypot(down, right)) < 2 / bins
    assert (power * cells)[near].sum() / (rows * cols) == pytest.approx(0.1**2 / 2, rel=0.02)
    assert (power * cells)[~near].sum() / (rows * cols) < 1e-5


def test_stripes_of_one_pixel_have_their_power_in_the_last_band() -> None:
    """By Parseval the square of their amplitude; of the window's 6 by 6 parts 8 lie beyond Nyquist, in the corners."""
    power = radial_power(0.2 + 0.1 * (-1.0) ** np.arange(64) * np.ones((64, 1)))[1]
    radius = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :]) * 2
    cells = np.histogram(radius[radius > 0], len(power), (0, 1))[0]
    assert (power * cells)[-1] / 64**2 == pytest.approx(0.1**2 * 28 / 36, rel=1e-6)
    assert (power * cells)[:-1].sum() / 64**2 < 1e-5


def test_the_level_does_not_leak() -> None:
    _, power = radial_power(np.full((64, 64), 0.7))
    assert power.max() < 1e-25
    assert radial_power(_noise() + 100.0)[1] == pytest.approx(radial_power(_noise())[1], rel=1e-3)


def test_a_spectrum_needs_a_whole_image_of_some_size() -> None:
    with pytest.raises(ValueError, match="too small"):
        radial_power(np.zeros((15, 80)))
    with pytest.raises(ValueError, match="gaps"):
        radial_power(np.where(np.eye(32) > 0, np.nan, 0.1))
    with pytest.raises(ValueError, match="17 frequency bands"):
        radial_power(np.zeros((32, 80)), bins=17)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_gap_of_scaled_contrast_is_its_decibels(factor: float) -> None:
    truth = _noise()
    gap = spectrum_gap_db(truth * np.float32(factor), truth)
    assert gap.mean_db == pytest.approx(20 * np.log10(factor), abs=1e-3)
    assert gap.largest_db == pytest.approx(abs(gap.mean_db), abs=1e-3)


def test_a_blur_lacks_the_power_that_its_transfer_function_takes() -> None:
    truth = _noise((1, 160, 160))
    sigma = 0.8
    blurred = ndimage.gaussian_filter(truth.astype(np.float64), (0, sigma, sigma), mode="wrap").astype(np.float32)
    frequency, _ = radial_power(truth)
    counted = frequency[(frequency > 0.25) & (frequency <= 0.8)]
    lost = 10 * np.log10(np.exp(-((sigma * np.pi * counted) ** 2)))
    gap = spectrum_gap_db(blurred, truth, scale=4)
    assert gap.mean_db == pytest.approx(lost.mean(), abs=0.3)
    assert gap.largest_db == pytest.approx(-lost.min(), abs=0.5)


def test_only_the_frequencies_beyond_the_low_resolution_count() -> None:
    frequency = (np.arange(20) + 0.5) / 20
    truth = np.ones(20)
    estimate = np.where((frequency > 0.25) & (frequency <= 0.8), 1.0, 100.0)
    assert power_gap_db(frequency, estimate, truth).largest_db == 0
    assert power_gap_db(frequency, estimate, truth, scale=8).largest_db == pytest.approx(20)
    assert power_gap_db(frequency, estimate, truth, up_to=1.0).largest_db == pytest.approx(20)
    # Decibels are averaged, so that a band that is too rough makes up for one that is as much too smooth.
    both = power_gap_db(frequency, np.stack([100 * truth, truth / 100]), np.ones((2, 20)))
    assert (both.mean_db, both.largest_db) == pytest.approx((0, 0))
    with pytest.raises(ValueError, match=r"no frequency between 0\.25 and 0\.26"):
        power_gap_db(frequency, estimate, truth, up_to=0.26)


def test_a_flat_estimate_has_a_gap_that_is_a_number() -> None:
    gap = spectrum_gap_db(np.full((1, 32, 32), 0.2, np.float32), _noise((1, 32, 32)))
    assert np.isfinite(gap.largest_db)
    assert gap.mean_db < -100


def test_clouds_leave_the_largest_clear_square() -> None:
    clear = np.ones((60, 90), bool)
    assert clear_square(clear) == (slice(None), slice(None))
    clear[:, 40] = False
    rows, cols = clear_square(clear)
    assert clear[rows, cols].all()
    assert rows.stop - rows.start == cols.stop - cols.start == 49
    assert cols.start >= 41
    with pytest.raises(ValueError, match="no clear square of 16"):
        clear_square(np.arange(60)[:, None] % 12 * np.ones(60) > 0)


def test_what_a_cloud_hides_has_no_spectrum() -> None:
    truth, clear = _noise(), np.ones((96, 96), bool)
    clear[:20] = False
    estimate = truth * np.float32(0.5)
    wanted = spectrum_gap_db(estimate, truth, clear)
    spoiled = np.where(clear, estimate, np.float32("nan"))
    assert spectrum_gap_db(spoiled, truth, clear) == wanted == spectrum_gap_db(spoiled, truth)


def _edges() -> FloatArray:
    """Fields: constant but for the borders between them."""
    fields = np.random.default_rng(2).uniform(0.1, 0.5, (2, 8, 8)).astype(np.float32)
    return np.kron(fields, np.ones((1, 12, 12), np.float32))


@pytest.mark.parametrize(("factor", "wanted"), [(1.0, 1.0), (0.5, 0.8), (2.0, 0.8), (-1.0, -1.0), (0.0, 0.0)])
def test_edges_of_known_contrast(factor: float, wanted: float) -> None:
    truth = _edges()
    assert edge_fidelity(truth * np.float32(factor), truth) == pytest.approx(wanted, abs=1e-6)


def test_the_level_is_no_edge_and_a_misplaced_edge_is_none() -> None:
    truth = _edges()
    assert edge_fidelity(truth + np.float32(0.2), truth) == pytest.approx(1, abs=1e-6)
    assert abs(edge_fidelity(np.roll(truth, (5, 5), (1, 2)), truth)) < 0.05


def test_more_blur_is_less_fidelity() -> None:
    truth = _edges()
    blurred = [ndimage.gaussian_filter(truth, (0, sigma, sigma)) for sigma in (0.7, 1.5, 3.0)]
    found = [edge_fidelity(image, truth) for image in blurred]
    assert 1 > found[0] > found[1] > found[2] > 0


def test_edges_under_clouds_do_not_count() -> None:
    truth, clear = _edges(), np.ones((96, 96), bool)
    clear[10:40, 10:60] = False
    spoiled = np.where(clear, truth, np.float32(5))
    assert edge_fidelity(spoiled, truth, clear) == pytest.approx(1)
    assert edge_fidelity(np.where(clear, truth, np.float32("nan")), truth) == pytest.approx(1)
    with pytest.raises(ValueError, match="no clear pixel"):
        edge_fidelity(truth, truth, np.zeros((96, 96), bool))
    with pytest.raises(ValueError, match="no edge"):
        edge_fidelity(truth, np.full_like(truth, 0.3))
