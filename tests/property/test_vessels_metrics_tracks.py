"""Scores of tracks: the truth scores nothing, proper scores reward honesty, best-of-K does not."""

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st

from geodiff.metrics.tracks import energy_score, inside_ellipse, relative_gain, score_track
from geodiff.sphere import distance_km, from_local_km, move
from geodiff.tracks import TrackAnswer

LON, LAT = st.floats(-180, 180), st.floats(-70, 70)


def answer(lon, lat, off, ellipse=None):
    """Members at (k, m, 2) kilometres from the truth, and the point estimate at their mean."""
    members = from_local_km(off[..., 0], off[..., 1], lon, lat)
    point = from_local_km(off[..., 0].mean(0), off[..., 1].mean(0), lon, lat)
    return TrackAnswer(*point, *members, *([] if ellipse is None else [ellipse]))


@given(LON, LAT, st.integers(2, 8), st.integers(1, 5), st.integers(0, 99))
def test_scores_keep_their_order_everywhere_on_earth(lon, lat, count, times, seed):
    off = np.random.default_rng(seed).normal(0, 20, (count, times, 2))
    truth = np.full(times, lon), np.full(times, lat)
    found = score_track(answer(*truth, off), *truth)
    error = np.linalg.norm(off, axis=-1)
    np.testing.assert_allclose(found.best_km, error.min(0), atol=1e-6)
    assert found.best_km.mean() <= found.min_ade_km + 1e-9
    assert found.min_ade_km == pytest.approx(min(member.mean() for member in error), abs=1e-6)
    assert found.min_fde_km == pytest.approx(found.best_km[-1])
    np.testing.assert_allclose(found.greedy_km, found.mean_km, rtol=1e-3)
    assert found.ade_km == pytest.approx(found.greedy_km.mean())
    np.testing.assert_allclose(found.square_km2, found.mean_km**2)


def test_the_scores_are_those_of_scoringrules():
    off = np.random.default_rng(1).normal(0, 5, (16, 40, 2))
    zero = np.zeros((40, 2))
    np.testing.assert_allclose(
        energy_score(off), scoringrules.es_ensemble(zero, np.moveaxis(off, 0, 1), estimator="fair"), rtol=1e-6
    )
    lon, lat = np.full(40, 3.0), np.full(40, 50.0)
    crps = scoringrules.crps_ensemble(zero, np.moveaxis(off, 0, -1), estimator="fair").mean(-1)
    np.testing.assert_allclose(score_track(answer(lon, lat, off), lon, lat).crps_km, crps, atol=1e-6)


def test_the_truth_itself_scores_nothing():
    lon, lat = np.array([179.999, -179.999]), np.array([10.0, 10.1])
    found = score_track(
        TrackAnswer(lon, lat, np.tile(lon, (4, 1)), np.tile(lat, (4, 1)), np.zeros((2, 2, 3))), lon, lat
    )
    for name in ("greedy_km", "mean_km", "crps_km", "energy_km", "best_km", "variance_km2"):
        assert np.abs(getattr(found, name)).max() < 1e-9, name
    assert found.inside.all()


def test_proper_scores_prefer_the_honest_spread_and_best_of_k_a_wide_one():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (4000, 2))
    scores = {}
    for spread in (0.3, 1.0, 2.0):
        off = rng.normal(0, spread, (16, 4000, 2)) - truth
        found = score_track(answer(np.zeros(4000), np.zeros(4000), off), np.zeros(4000), np.zeros(4000))
        ratio = np.sqrt(found.variance_km2.mean() / found.square_km2.mean())
        scores[spread] = (found.energy_km.mean(), found.crps_km.mean(), found.best_km.mean(), ratio)
    assert min(scores, key=lambda s: scores[s][0]) == 1.0
    assert min(scores, key=lambda s: scores[s][1]) == 1.0
    assert scores[0.3][2] > scores[1.0][2]
    assert scores[1.0][3] == pytest.approx(1, abs=0.03)
    assert scores[0.3][3] < 0.5


def test_antithetic_pairs_score_as_independent_members_do():
    """Honest members in pairs of opposite noise; taken for independent ones they would seem to score better."""
    rng = np.random.default_rng(0)
    truth, place = rng.normal(0, 1, (20_000, 2)), (np.zeros(20_000), np.zeros(20_000))
    half = rng.normal(0, 1, (4, 20_000, 2))
    pairs = np.stack([half, -half], 1).reshape(8, 20_000, 2) - truth
    free = rng.normal(0, 1, (4, 20_000, 2)) - truth
    found, flattered = (score_track(answer(*place, pairs), *place, antithetic=told) for told in (True, False))
    honest = score_track(answer(*place, free), *place)
    for name in ("crps_km", "energy_km"):
        expected = getattr(honest, name).mean()
        assert getattr(found, name).mean() == pytest.approx(expected, rel=0.015), name
        assert getattr(flattered, name).mean() < 0.96 * expected, name
    spread, wide = (np.sqrt(each.variance_km2.mean() / each.square_km2.mean()) for each in (found, flattered))
    assert spread == pytest.approx(1, abs=0.02)
    assert wide > 1.1
    assert score_track(answer(*place, pairs[:2]), *place, antithetic=True).crps_km.size == 0


@given(LON, LAT, st.floats(0, 359), st.floats(0.5, 80), st.floats(0.1, 1), st.floats(0, 359))
def test_an_ellipse_holds_what_lies_nearer_than_its_border(lon, lat, course, major, share, bearing):
    minor = major * share
    angle = np.radians(bearing - course)
    border = 1 / np.hypot(np.cos(angle) / major, np.sin(angle) / minor)
    ellipse = np.array([[[major, minor, course]]])
    for factor, expected in ((0.99, True), (1.01, False)):
        truth = move(lon, lat, bearing, factor * border)
        held = inside_ellipse((np.array([lon]), np.array([lat])), ellipse, tuple(np.atleast_1d(v) for v in truth))
        assert held.item() is expected


def test_the_area_of_an_ellipse_is_told_for_each_level():
    lon, lat = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    ellipse = np.array([[[3.0, 2.0, 10.0], [1.0, 1.0, 0.0]], [[6.0, 4.0, 10.0], [5.0, 0.0, 0.0]]])
    found = score_track(TrackAnswer(lon, lat, ellipse_km=ellipse), lon, lat).area_km2
    np.testing.assert_allclose(found, [[18.849556, 3.141593], [75.398224, 0.0]], rtol=1e-6)


def test_a_gain_is_a_share_of_sums_and_sure_where_it_is_the_same_for_every_vessel():
    assert relative_gain(np.array([1.0, 1.0]), np.array([2.0, 6.0]), ["a", "b"]).mean == 0.75
    hard = np.random.default_rng(0).uniform(1, 100, 60)
    half = relative_gain(0.5 * hard, hard, [str(n % 20) for n in range(60)])
    assert (half.mean, half.low, half.high) == (pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5))
    lone = relative_gain(hard, 2 * hard, ["a"] * 60)
    assert (lone.mean, lone.low, lone.high) == (0.5, None, None)
    assert relative_gain(hard[:1], np.zeros(1), ["a"]).mean is None


@pytest.mark.parametrize(("level", "deviations"), [(0.9, 1.645), (0.5, 0.674)])
def test_a_gain_lies_in_its_interval_as_often_as_stated_and_cases_of_a_vessel_are_one_witness(level, deviations):
    ours = np.random.default_rng(1).uniform(0, 1, 300)
    vessels = [str(n) for n in range(300)]
    found = relative_gain(ours, np.ones(300), vessels, level=level)
    assert (found.high - found.low) / 2 == pytest.approx(deviations * ours.std() / 300**0.5, rel=0.08)
    assert (found.high + found.low) / 2 == pytest.approx(1 - ours.mean(), abs=0.005)
    assert relative_gain(np.repeat(ours, 9), np.ones(2700), np.repeat(vessels, 9).tolist(), level=level).low == (
        pytest.approx(found.low)
    )


def test_without_an_ensemble_there_are_errors_only():
    lon, lat = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    found = score_track(TrackAnswer(lon, lat + 0.1), lon, lat)
    np.testing.assert_allclose(found.greedy_km, distance_km(lon, lat + 0.1, lon, lat))
    assert found.crps_km.size == found.best_km.size == found.inside.size == 0
    assert np.isnan(found.min_ade_km)


@pytest.mark.parametrize(
    ("lon", "members"),
    [([1.0], None), ([1.0, np.nan], None), ([1.0, 2.0], [[1.0], [1.0]]), ([1.0, 2.0], [[1.0, np.inf], [1.0, 1.0]])],
)
def test_an_answer_that_does_not_fit_is_refused(lon, members):
    place = np.array(lon)
    drawn = np.empty((0, 0)) if members is None else np.array(members)
    with pytest.raises(ValueError, match=r"one truth|asked were|not finite"):
        score_track(TrackAnswer(place, place, drawn, drawn), np.array([1.0, 2.0]), np.array([1.0, 2.0]))
