from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.metrics.anomaly import auroc, average_precision, clustered_rate, threshold_curve
from geodiff.vessels.scoring_tails import TAILS, cauchy_combination, fit_tails

cases = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60)


@given(cases)
def test_auroc_is_the_chance_that_an_anomaly_scores_higher(rows: list[tuple[int, bool]]) -> None:
    score, truth = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    pairs = np.sign(score[truth][:, None] - score[~truth][None, :])
    found = auroc(score, truth)
    if not pairs.size:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.mean((pairs + 1) / 2))


@given(cases)
def test_average_precision_is_the_mean_precision_at_the_anomalies(rows: list[tuple[int, bool]]) -> None:
    score, truth = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    if not truth.any():
        assert np.isnan(average_precision(score, truth))
        return
    at_least = score[:, None] >= score[truth][None, :]
    precision = (at_least & truth[:, None]).sum(0) / at_least.sum(0)
    assert average_precision(score, truth) == pytest.approx(precision.mean())


def test_perfect_and_useless_scores() -> None:
    truth = np.arange(1000) < 30
    assert auroc(truth * 1.0, truth) == 1.0
    assert average_precision(truth * 1.0, truth) == 1.0
    assert auroc(np.zeros(1000), truth) == 0.5
    assert average_precision(np.zeros(1000), truth) == pytest.approx(0.03)


def test_infinite_scores_are_ties_like_others() -> None:
    truth = [True, False, False]
    for top in (np.inf, 9.0):
        assert average_precision([top, top, 1.0], truth) == 0.5
        assert auroc([top, top, 1.0], truth) == 0.75


def test_curves_end_with_everything_found() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.1
    curve = threshold_curve(rng.normal(size=5000) + truth, truth)
    assert curve.found[-1] == curve.anomalies == truth.sum()
    for kind in ("roc", "pr"):
        points = curve.points(kind)
        assert len(points) <= 210
        assert points[-1][kind != "pr" or 0] == 1.0


def test_a_rate_is_told_with_the_interval_that_vessels_leave() -> None:
    rng = np.random.default_rng(0)
    flagged, vessel = rng.random(400) < 0.3, np.arange(400)
    share = flagged.mean()
    found = clustered_rate(flagged, vessel)
    assert (found.rate, found.cases) == (pytest.approx(share), 400)
    assert found.high - found.low == pytest.approx(2 * 1.645 * np.sqrt(share * (1 - share) / 400), rel=0.08)
    # Ten cases of each vessel, all alike, are no more witnesses than one.
    again = clustered_rate(np.repeat(flagged, 10), np.repeat(vessel, 10))
    assert (again.low, again.high) == (pytest.approx(found.low), pytest.approx(found.high))
    # Of vessels with more and fewer cases, each comes with all of its own.
    sizes = np.repeat(vessel[:30], 1 + vessel[:30])
    assert clustered_rate(np.ones(len(sizes)), sizes).high == 1.0
    assert clustered_rate([True, False], [7, 7]).low is None


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auroc([np.nan, 1.0], [True, False])
    with pytest.raises(ValueError, match="one label"):
        auroc([1.0], [True, False])


def test_many_clean_values_tied_at_the_top_are_flagged_no_more_often_than_stated():
    rng = np.random.default_rng(4)

    def sample(count):
        return np.where(rng.random(count) < 0.05, 3.0, np.minimum(rng.normal(size=count), 2.9))

    zero = np.zeros(4000, np.int64)
    table = fit_tails(sample(4000), np.arange(4000), [zero])
    p = table.p_value(sample(100_000), [np.zeros(100_000, np.int64)])
    for rate in (0.2, 0.06, 0.04, 0.02, 0.001):
        assert (p <= rate).mean() <= 1.15 * rate, rate
    assert (p <= 0.1).mean() > 0.03
    assert table.p_value(np.array([3.1]), [zero[:1]])[0] < 0.001


@pytest.mark.parametrize("draw", ["normal", "ties", "heavy"])
def test_p_values_of_new_clean_values_are_at_most_as_small_as_stated(draw: str) -> None:
    rng = np.random.default_rng(1)

    def sample(size: int) -> np.ndarray:
        if draw == "ties":
            return rng.integers(0, 5, size).astype(float)
        return rng.normal(size=size) if draw == "normal" else rng.standard_cauchy(size).clip(-1e5, 1e5)

    zero = np.zeros(4000, np.int64)
    table = fit_tails(sample(4000), np.arange(4000), [zero])
    p = table.p_value(sample(4000), [zero])
    for alpha in (0.3, 0.1, 0.03, 0.01):
        assert np.mean(p <= alpha) <= 1.35 * alpha + 0.002
        if draw != "ties":
            assert np.mean(p <= alpha) >= 0.6 * alpha


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=80), st.lists(st.floats(-60, 60), min_size=2, max_size=20))
def test_stranger_values_never_have_larger_p_values(clean: list[float], asked: list[float]) -> None:
    zeros = [np.zeros(len(clean), np.int64)]
    table = fit_tails(np.array(clean), np.arange(len(clean)), zeros)
    value = np.sort(np.array(asked))
    one = [np.zeros(len(value), np.int64)]
    p, score = table.p_value(value, one), table.log_tail(value, one)
    assert (np.diff(p) <= 1e-12).all()
    assert (np.diff(score) >= -1e-12).all()
    assert (p >= 1 / (len(clean) + 1)).all()
    assert (p <= 1).all()


def test_small_classes_fall_back_to_wider_ones_and_absent_evidence_stays_absent() -> None:
    rng = np.random.default_rng(2)
    value = np.concatenate([rng.normal(0, 1, 500), rng.normal(5, 1, 20), rng.normal(9, 1, 500)])
    fine = np.concatenate([np.zeros(500), np.ones(20), np.full(500, 2)]).astype(np.int64)
    table = fit_tails(value, np.arange(len(value)), [fine, np.zeros_like(fine)])
    # The small class needs company: that of the last class split off.
    assert set(table.tails) == {"0:0", "1:0"}
    assert table.tails["1:0"].vessels == 520
    asked, classes = np.array([4.0, 4.0, 4.0, np.nan]), np.array([0, 1, 2, 0])
    p = table.p_value(asked, [classes, np.zeros_like(classes)])
    assert p[0] < 0.01
    assert p[1] > 0.9
    assert p[2] > 0.9
    assert np.isnan(p[3])


def test_many_fixes_of_few_vessels_are_no_class_of_their_own() -> None:
    value, fine = np.random.default_rng(5).normal(size=2000), np.repeat([0, 1], 1000)
    vessel = np.where(fine == 0, np.arange(2000), np.arange(2000) % 5)
    assert set(fit_tails(value, vessel, [fine, np.zeros(2000, np.int64)]).tails) == {"1:0"}
    assert set(fit_tails(value, vessel, [fine, np.zeros(2000, np.int64)], fewest=5).tails) == {"0:0", "0:1", "1:0"}


def test_a_wide_class_is_made_of_what_finer_ones_left() -> None:
    rng = np.random.default_rng(4)
    # One large sober class and many small odd ones, that share the wide class.
    fine = np.concatenate([np.zeros(2000), 1 + np.arange(400) // 10]).astype(np.int64)
    value = np.concatenate([rng.normal(0, 1, 2000), rng.normal(4, 1, 400)])
    classes = [fine, np.zeros_like(fine)]
    table = fit_tails(value, np.arange(2400), classes)
    p = table.p_value(rng.normal(4, 1, 400), [fine[2000:], classes[1][2000:]])
    assert np.mean(p <= 0.1) < 0.15
    # With too few left over, the sober class is not split off: all are judged by one tail, at the stated rate.
    few = fit_tails(value[:2010], np.arange(2010), [each[:2010] for each in classes])
    assert set(few.tails) == {"1:0"}
    assert few.tails["1:0"].vessels == 2010


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(50, 400))
def test_each_calibration_value_is_judged_by_a_tail_that_it_is_part_of(seed: int, fewest: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    fine, middle = rng.integers(0, 9, count) ** 2, rng.integers(0, 3, count)
    classes = [fine * 3 + middle, middle, np.zeros(count, np.int64)]
    value, vessel = rng.normal(size=count) + 0.1 * fine, rng.integers(0, 80, count)
    table = fit_tails(value, vessel, classes, fewest=fewest)
    share = 10.0 ** -table.log_tail(value, classes)
    assert np.isfinite(share).all()
    # Of values compared with themselves a tenth is in the last tenth, in each class and so in all.
    assert np.mean(share <= 0.1 + 1e-9) <= 0.1 + 1e-9


def test_vessels_not_fixes_decide_how_small_a_p_value_can_be() -> None:
    value, vessel = np.random.default_rng(3).normal(size=10_000), np.arange(10_000) % 50
    zero = np.zeros(10_000, np.int64)
    assert fit_tails(value, vessel, [zero]).p_value(np.array([99.0]), [zero[:1]])[0] == pytest.approx(1 / 51)


def test_combination_keeps_a_single_strong_evidence_and_ignores_absent_ones() -> None:
    nan = np.nan
    found = cauchy_combination(
        np.array([[6.0, 0.1, nan], [0.1, 0.1, nan], [nan, nan, nan], [6.0, nan, nan], [0, 6, 0]])
    )
    assert found[0] > 5
    assert found[1] < 1
    assert found[2] == 0
    assert found[3] == pytest.approx(6.0, abs=1e-6)
    assert found[4] > 5
    assert len(TAILS) == 41
