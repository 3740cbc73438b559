"""The split: by identity alone, a tenth of the vessels, and a card that tells whom it was trained on."""

import numpy as np
import pytest

from geodiff.schema import GeodiffError
from geodiff.vessels.split import (
    FOLDS,
    in_digest,
    is_for_calibration,
    is_held_out,
    period_cut,
    split_of,
    vessel_digest,
)

IDS = np.arange(200_000_000, 200_020_000)


def test_a_tenth_is_held_out_whoever_is_asked_along():
    found = is_held_out(IDS)
    assert 0.09 < found.mean() < 0.11
    assert (is_held_out(IDS[::-7]) == found[::-7]).all()
    assert (is_held_out([5, 5, 6]) == [is_held_out([5])[0]] * 2 + [is_held_out([6])[0]]).all()
    assert is_held_out([]).shape == (0,)


def test_the_rule_is_frozen():
    """A model that ships was trained on the complement: the rule must never change."""
    assert IDS[is_held_out(IDS)][:5].tolist() == [200_000_009, 200_000_030, 200_000_052, 200_000_094, 200_000_117]


def test_each_vessel_is_held_out_in_one_fold_of_ten():
    folds = np.array([is_held_out(IDS, fold) for fold in range(FOLDS)])
    assert (folds.sum(0) == 1).all()
    assert ((folds.mean(1) > 0.09) & (folds.mean(1) < 0.11)).all()
    assert (folds[0] == is_held_out(IDS)).all()
    held = IDS[folds[3]]
    assert not is_for_calibration(held, 3).any()
    assert is_for_calibration(held, 4).any()
    assert split_of(held[:1], np.zeros(1), 5.0, 3).tolist() == ["vessel"]
    assert split_of(held[:1], np.zeros(1), 5.0, 4).tolist() == ["train"]


def test_a_long_period_is_cut_and_a_day_is_not():
    day = 86_400.0
    hours = np.arange(0.0, 100 * day, 3600.0)
    assert period_cut(hours) == pytest.approx((0.001 + 0.9 * 0.998) * hours[-1])
    assert period_cut(hours[::-1]) == period_cut(hours)
    assert period_cut(np.append(hours, -1000 * day)) == pytest.approx(90 * day, rel=0.002)
    assert period_cut(hours[:24]) == float("inf")
    held, known = IDS[is_held_out(IDS)][0], IDS[~is_held_out(IDS)][0]
    found = split_of([known, held, known, held], np.array([1.0, 1.0, 5.0, 5.0]), 5.0)
    assert found.tolist() == ["train", "vessel", "later", "both"]


def test_a_digest_names_its_vessels_and_hardly_any_other():
    digest = vessel_digest(np.concatenate([IDS[:10_000], IDS[:50]]))
    assert in_digest(IDS[:10_000], digest).all()
    assert in_digest(IDS[10_000:], digest).sum() <= 1
    assert digest == vessel_digest(IDS[:10_000][::-1])
    assert len(digest) < 54_000
    assert not in_digest(IDS, vessel_digest([])).any()


@pytest.mark.parametrize("text", ["%%%", "abc", "abcdefgh"])
def test_a_broken_digest_is_told(text):
    with pytest.raises(GeodiffError, match="32-bit hashes"):
        in_digest([1], text)
