"""The bootstrap draws places, not rows, and says so when there are too few."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import norm

from geodiff.metrics.bootstrap import Interval, bootstrap_mean, paired_difference


def _sites(values: np.ndarray, rows: int) -> tuple[list[float], list[str]]:
    return np.repeat(values, rows).tolist(), [f"s{i}" for i in range(len(values)) for _ in range(rows)]


def test_the_interval_is_that_of_the_mean_of_sites() -> None:
    per_site = np.random.default_rng(0).normal(30, 2, 60)
    found = bootstrap_mean(*_sites(per_site, 1))
    half = norm.ppf(0.95) * per_site.std() / np.sqrt(60)
    assert found.mean == pytest.approx(per_site.mean())
    assert found.low == pytest.approx(per_site.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(per_site.mean() + half, abs=0.15 * half)
    assert found.sites == 60


def test_more_rows_of_the_same_places_do_not_narrow_it() -> None:
    per_site = np.random.default_rng(0).normal(30, 2, 12)
    once, often = bootstrap_mean(*_sites(per_site, 1)), bootstrap_mean(*_sites(per_site, 50))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    rows = bootstrap_mean(*_sites(per_site, 50)[:1], [str(i) for i in range(600)])
    assert rows.low is not None
    assert rows.high is not None
    assert once.low is not None
    assert once.high is not None
    assert rows.high - rows.low < (once.high - once.low) / 5


def test_a_site_is_drawn_with_all_of_its_rows() -> None:
    """Half of the draws of two sites hold both: there the one row of the second is one of a hundred."""
    found = bootstrap_mean([0.0] * 99 + [1.0], ["a"] * 99 + ["b"], level=0.2)
    assert found == Interval(0.01, 0.01, 0.01, 2)


def test_it_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        level = rng.normal(0, 1, 30)
        found = bootstrap_mean(*_sites(level, 2), draws=400)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert 165 <= hits <= 195


def test_one_site_has_a_mean_but_no_interval() -> None:
    found = bootstrap_mean([1.0, 3.0], ["a", "a"])
    assert found == Interval(2.0, None, None, 1)
    assert not found.excludes_zero
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == {
        "mean": 2.0,
        "low": None,
        "high": None,
        "sites": 1,
    }


def test_rows_without_a_value_do_not_count() -> None:
    nan, inf = float("nan"), float("inf")
    assert bootstrap_mean([1.0, nan, 3.0, inf], ["a", "a", "b", "c"]).mean == 2.0
    assert bootstrap_mean([1.0, nan], ["a", "b"]).sites == 1
    assert bootstrap_mean([nan, nan], ["a", "b"]) == Interval(None)
    assert bootstrap_mean([], []) == Interval(None)


def test_pairs_cancel_what_places_share() -> None:
    rng = np.random.default_rng(0)
    place = np.repeat(rng.normal(30, 5, 10), 4)
    a, b = place + 0.2 + rng.normal(0, 0.05, 40), place + rng.normal(0, 0.05, 40)
    sites = [f"s{i // 4}" for i in range(40)]
    found = paired_difference(a.tolist(), b.tolist(), sites)
    assert found.mean == pytest.approx(0.2, abs=0.03)
    assert found.excludes_zero
    assert paired_difference(b.tolist(), a.tolist(), sites).excludes_zero
    assert not paired_difference(a.tolist(), a.tolist(), sites).excludes_zero
    a[0], b[1] = np.nan, np.nan
    wanted = np.delete(a - b, [0, 1]).mean()
    assert paired_difference(a.tolist(), b.tolist(), sites).mean == pytest.approx(wanted)


def test_the_seed_decides_and_the_level_widens() -> None:
    values, sites = _sites(np.random.default_rng(0).normal(size=9), 2)
    assert bootstrap_mean(values, sites, seed=1) == bootstrap_mean(values, sites, seed=1)
    assert bootstrap_mean(values, sites, seed=1) != bootstrap_mean(values, sites, seed=2)
    narrow, wide = bootstrap_mean(values, sites, level=0.5), bootstrap_mean(values, sites, level=0.95)
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low


def test_wrong_calls_are_told() -> None:
    with pytest.raises(ValueError, match="2 values but 1 sites"):
        bootstrap_mean([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0], ["a"], level=90)
    with pytest.raises(ValueError, match="pairs"):
        paired_difference([1.0], [1.0, 2.0], ["a"])
