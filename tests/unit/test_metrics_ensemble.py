"""Scores of ensembles against closed forms, counted cases and another implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from geodiff.metrics.ensemble import (
    fair_crps,
    independent_draws,
    interval_coverage,
    rank_histogram,
    spatial_median,
    spread_skill,
)


def test_crps_counted_by_hand() -> None:
    members, truth = np.array([0.0, 1.0, 4.0]), np.float64(2.0)
    # Distances to the truth 2, 1, 2; between the members 1, 4, 3 over three pairs.
    assert fair_crps(members, truth) == pytest.approx(5 / 3 - 0.5 * (1 + 4 + 3) / 3)


def test_crps_is_the_sum_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    members, truth = rng.normal(size=(7, 5, 6)), rng.normal(size=(5, 6))
    pairs = sum(np.abs(a - b) for a, b in itertools.permutations(members, 2))
    wanted = np.abs(members - truth).mean(0) - pairs / (2 * 7 * 6)
    assert fair_crps(members, truth) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_crps_of_normal_ensembles_has_the_closed_form_for_any_size(count: int) -> None:
    """Gneiting & Raftery 2007, eq. 21; an estimator that is not fair exceeds it by sigma / (m sqrt(pi))."""
    rng = np.random.default_rng(count)
    mean, sigma, truth = 0.3, 0.1, 0.38
    z = (truth - mean) / sigma
    wanted = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    found = fair_crps(rng.normal(mean, sigma, (count, 40_000)), np.full(40_000, truth))
    error = float(found.std() / np.sqrt(found.size))
    assert found.mean() == pytest.approx(wanted, abs=4 * error)
    assert 4 * error < sigma / (count * np.sqrt(np.pi)) / 3


def test_crps_agrees_with_scoringrules() -> None:
    scoringrules = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(1)
    members, truth = rng.normal(size=(5, 40)), rng.normal(size=40)
    wanted = scoringrules.crps_ensemble(truth, members, m_axis=0, estimator="fair")
    assert fair_crps(members, truth) == pytest.approx(wanted, abs=1e-12)


def test_equal_members_leave_the_absolute_error_and_gaps_stay_gaps() -> None:
    members = np.full((3, 4), 0.2, np.float32)
    truth = np.array([0.2, 0.5, np.nan, 0.1], np.float32)
    found = fair_crps(members, truth)
    assert found[[0, 1, 3]] == pytest.approx([0, 0.3, 0.1], abs=1e-7)
    assert np.isnan(found[2])


def test_a_calibrated_ensemble_has_spread_equal_to_skill() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 8):
        centre = rng.normal(size=200_000)
        members = centre + rng.normal(size=(count, centre.size))
        truth = centre + rng.normal(size=centre.size)
        assert spread_skill(members, truth) == pytest.approx(1, abs=0.01)
        assert spread_skill((members - centre) / 2 + centre, truth) < 0.9


def test_antithetic_pairs_are_scored_as_two_ensembles() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, 100_000))
    members = np.stack([sign * field for field in noise for sign in (1, -1)])
    truth = rng.standard_normal(100_000)
    halves = independent_draws(members, antithetic=True)
    assert [len(half) for half in halves] == [4, 4]
    assert np.mean([fair_crps(half, truth).mean() for half in halves]) == pytest.approx(1 / np.sqrt(np.pi), rel=0.01)
    assert np.mean([spread_skill(half, truth) for half in halves]) == pytest.approx(1, abs=0.01)
    ranks = sum(rank_histogram(half, truth, seed=0) for half in halves) / truth.size / 2
    assert ranks == pytest.approx(np.full(5, 0.2), abs=0.01)
    # Taken for independent they flatter, which is why they are not.
    assert fair_crps(members, truth).mean() < 0.95 / np.sqrt(np.pi)
    assert spread_skill(members, truth) > 1.1
    assert [len(draw) for draw in independent_draws(members[:5], antithetic=True)] == [2, 2]
    assert independent_draws(members, antithetic=False)[0] is members


def test_spread_and_skill_counted_by_hand() -> None:
    members = np.array([[0.0, 2.0], [2.0, 6.0]])
    # Variances 2 and 8; means 1 and 4, errors 3 and 1.
    assert spread_skill(members, np.array([4.0, 5.0])) == pytest.approx(np.sqrt(1.5 * 5 / 5))
    mask = np.array([True, False])
    assert spread_skill(members, np.array([4.0, 5.0]), mask) == pytest.approx(np.sqrt(1.5 * 2 / 9))
    assert spread_skill(members, np.array([4.0, np.nan])) == pytest.approx(np.sqrt(1.5 * 2 / 9))
    assert np.isnan(spread_skill(members, members.mean(0)))


def test_ranks_counted_by_hand() -> None:
    members = np.array([[1.0, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]])
    truth = np.array([0.0, 2.5, 9.0, 1.5])
    assert rank_histogram(members, truth, seed=0).tolist() == [1, 1, 1, 1]
    mask = np.array([True, True, False, False])
    assert rank_histogram(members, truth, seed=0, mask=mask).tolist() == [1, 0, 1, 0]


def test_ranks_of_a_calibrated_ensemble_are_flat_and_ties_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(5, 50_000))
    for values in (drawn, np.round(drawn), np.zeros_like(drawn)):
        counts = rank_histogram(values[1:], values[0], seed=3)
        assert counts.sum() == 50_000
        assert np.abs(counts - 10_000).max() < 5 * np.sqrt(50_000 * 0.2 * 0.8)
        assert counts.tolist() == rank_histogram(values[1:], values[0], seed=3).tolist()
    assert rank_histogram(drawn[1:] / 4, drawn[0], seed=3)[[0, -1]].min() > 15_000


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_intervals_of_a_calibrated_normal_cover_their_level(level: float) -> None:
    rng = np.random.default_rng(0)
    mean, sigma = rng.uniform(0, 1, 40_000), rng.uniform(0.01, 0.2, 40_000)
    truth = rng.normal(mean, sigma)
    half = sigma * norm.ppf(0.5 + level / 2)
    assert interval_coverage(mean, half, truth) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 40_000))


def test_coverage_counts_borders_and_clear_pixels() -> None:
    mean, half = np.zeros((2, 2, 2)), np.full((2, 2, 2), 0.5)
    truth = np.array([[[0.5, -0.5], [0.6, 0.1]], [[2, 2], [2, np.nan]]])
    assert interval_coverage(mean, half, truth) == pytest.approx(3 / 7)
    assert interval_coverage(mean, half, truth, np.array([[True, True], [False, False]])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="negative"):
        interval_coverage(mean, -half, truth)
    with pytest.raises(ValueError, match="must have one shape"):
        interval_coverage(mean, half[0], truth)


def test_what_is_no_ensemble_is_told() -> None:
    truth = np.zeros((4, 4))
    for call in (fair_crps, spread_skill):
        with pytest.raises(ValueError, match="needs 2 members"):
            call(np.zeros((1, 4, 4)), truth)
        with pytest.raises(ValueError, match="the first axis counts the members"):
            call(np.zeros((4, 4)), truth)
    with pytest.raises(ValueError, match="nothing to compare on"):
        spread_skill(np.zeros((2, 4, 4)), truth, np.zeros((4, 4), bool))


def test_the_spatial_median_is_nearest_to_all_and_turns_with_the_axes():
    rng = np.random.default_rng(5)
    members = rng.standard_t(2, (16, 50, 2)) * [3.0, 0.5]
    found = spatial_median(members)

    def mean_distance(point):
        return np.linalg.norm(members - point, axis=-1).mean(0)

    assert (mean_distance(found) <= mean_distance(np.median(members, 0)) * (1 + 1e-9)).all()
    for step in rng.normal(0, 0.05, (30, 50, 2)):
        assert (mean_distance(found) <= mean_distance(found + step) * (1 + 2e-3)).all()
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(spatial_median(members @ turn.T), found @ turn.T, atol=6e-2)
    alike = np.full((4, 3, 2), 7.0)
    np.testing.assert_array_equal(spatial_median(alike), alike[0])
    same = spatial_median(np.concatenate([np.zeros((9, 1, 2)), np.ones((4, 1, 2))]))
    np.testing.assert_allclose(same, 0.0, atol=0.05)
