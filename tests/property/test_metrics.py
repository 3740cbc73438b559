"""What holds for any images and ensembles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geodiff.metrics.bootstrap import bootstrap_mean, paired_difference
from geodiff.metrics.ensemble import fair_crps, interval_coverage, rank_histogram, spread_skill
from geodiff.metrics.fidelity import cpsnr, cssim, spectral_angle_deg
from geodiff.metrics.opensr import correctness, shrink
from geodiff.metrics.spectrum import edge_fidelity, radial_power, spectrum_gap_db
from geodiff.schema import BoolArray, FloatArray

SEEDS = st.integers(0, 2**32 - 1)
LIGHT = settings(max_examples=20, deadline=None)


def _pair(seed: int, side: int = 36) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Truth, an estimate that is near, and a mask with holes."""
    rng = np.random.default_rng(seed)
    truth = 0.1 + 0.4 * ndimage.gaussian_filter(rng.random((3, side, side)), (0, 1, 1))
    estimate = truth + rng.normal(0, rng.uniform(0.001, 0.05), truth.shape)
    clear = ndimage.gaussian_filter(rng.random((side, side)), 2) > 0.46
    return truth.astype(np.float32), estimate.astype(np.float32), np.asarray(clear)


@LIGHT
@given(seed=SEEDS, down=st.integers(-3, 3), right=st.integers(-3, 3), bias=st.floats(-0.5, 0.5))
def test_a_shift_and_a_bias_are_forgiven(seed: int, down: int, right: int, bias: float) -> None:
    """The search finds at least what the two images are worth where the shift is undone."""
    truth, estimate, clear = _pair(seed, 40)
    clear[12:28, 12:28] = True
    moved = np.roll(estimate, (down, right), (1, 2)) + np.float32(bias)
    # What lies under the interior of the moved image: nothing of it has wrapped around.
    under = (slice(3 - down, 37 - down), slice(3 - right, 37 - right))
    all_bands = (slice(None), *under)
    undone = cpsnr(estimate[all_bands], truth[all_bands], clear[under], crop=0, search=0)
    assert cpsnr(moved, truth, clear) >= undone - 1e-2
    if undone > 40:
        assert cpsnr(moved, truth, clear) == pytest.approx(undone, abs=1e-2)


@LIGHT
@given(seed=SEEDS, fill=st.floats(-3, 3, width=32))
def test_masked_pixels_change_no_figure(seed: int, fill: float) -> None:
    truth, estimate, clear = _pair(seed)
    clear[15:25, 15:25] = True
    spoiled = np.where(clear, estimate, np.float32(fill))
    gaps = np.where(clear, truth, np.float32("nan"))
    for metric in (cpsnr, cssim, spectral_angle_deg, edge_fidelity):
        assert metric(spoiled, gaps, clear) == pytest.approx(metric(estimate, truth, clear), rel=1e-9)


@LIGHT
@given(seed=SEEDS)
def test_figures_stay_in_their_ranges_and_are_best_for_the_truth(seed: int) -> None:
    truth, estimate, _ = _pair(seed)
    assert 0 <= spectral_angle_deg(estimate, truth) <= 180
    assert -1 <= edge_fidelity(estimate, truth) <= edge_fidelity(truth, truth) + 1e-12
    assert cssim(estimate, truth) <= cssim(truth, truth) + 1e-12
    assert cpsnr(estimate, truth) <= cpsnr(truth, truth) == 120
    assert spectrum_gap_db(estimate, truth).largest_db >= spectrum_gap_db(truth, truth).largest_db == 0


@LIGHT
@given(seed=SEEDS, turns=st.integers(0, 3), factor=st.floats(0.1, 10))
def test_power_knows_no_direction_and_grows_with_the_square(seed: int, turns: int, factor: float) -> None:
    truth, _, _ = _pair(seed)
    frequency, power = radial_power(truth)
    turned = radial_power(np.rot90(truth, turns, (1, 2)) * factor)
    assert turned[0] == pytest.approx(frequency)
    assert turned[1] == pytest.approx(power * factor**2, rel=1e-5)


@LIGHT
@given(seed=SEEDS, scale=st.sampled_from([2, 4]))
def test_shares_of_correctness_are_shares(seed: int, scale: int) -> None:
    truth, estimate, clear = _pair(seed, 48)
    clear[20:28, 20:28] = True
    found = correctness(shrink(truth, scale).astype(np.float32), estimate, truth, clear, scale=scale)
    shares = found.improvement, found.omission, found.hallucination
    assert sum(shares) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in shares)


@LIGHT
@given(seed=SEEDS, members=st.integers(2, 9), shift=st.floats(-5, 5), factor=st.floats(0.1, 10))
def test_scores_of_ensembles_know_neither_order_nor_origin(
    seed: int, members: int, shift: float, factor: float
) -> None:
    rng = np.random.default_rng(seed)
    drawn, truth = rng.normal(size=(members, 30)), rng.normal(size=30)
    order = rng.permutation(members)
    other, other_truth = drawn[order] * factor + shift, truth * factor + shift
    assert fair_crps(other, other_truth) == pytest.approx(factor * fair_crps(drawn, truth), abs=1e-9)
    assert spread_skill(other, other_truth) == pytest.approx(spread_skill(drawn, truth))
    assert rank_histogram(other, other_truth, seed=0).tolist() == rank_histogram(drawn, truth, seed=0).tolist()
    assert rank_histogram(drawn, truth, seed=seed).sum() == 30


@LIGHT
@given(seed=SEEDS, wider=st.floats(1, 5))
def test_wider_intervals_cover_more(seed: int, wider: float) -> None:
    rng = np.random.default_rng(seed)
    mean, half, truth = rng.normal(size=50), rng.uniform(0, 1, 50), rng.normal(size=50)
    assert 0 <= interval_coverage(mean, half, truth) <= interval_coverage(mean, half * wider, truth) <= 1


@LIGHT
@given(seed=SEEDS, sites=st.integers(2, 8), level=st.floats(0.05, 0.99))
def test_intervals_lie_within_the_sites_and_differences_turn_around(seed: int, sites: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(sites) for _ in range(3)]
    a, b = rng.normal(size=3 * sites).tolist(), rng.normal(size=3 * sites).tolist()
    per_site = np.reshape(a, (sites, 3)).mean(1)
    found = bootstrap_mean(a, names, draws=200, level=level)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert per_site.min() - 1e-9 <= found.low <= found.high <= per_site.max() + 1e-9
    there, back = paired_difference(a, b, names, draws=200), paired_difference(b, a, names, draws=200)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))  # type: ignore[operator]
