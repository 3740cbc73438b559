"""Which days are restored, and from which dates."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geodiff
from geodiff.imagery.ranking import judge_dates
from geodiff.schema import UsageError
from geodiff.tasks.targets import MAX_DATES, choose_targets, days_of
from geodiff.testing.strategies import dates as days_strategy
from geodiff.testing.tiny_models import random_cube


def _times(*days: str) -> npt.NDArray[np.datetime64]:
    return np.array(days, "datetime64[ns]")


SERIES = _times("2021-06-01T10:50", "2021-06-06T10:50", "2021-06-16T10:50", "2021-07-01T10:50", "2022-06-05T10:50")


def _choose(times: npt.NDArray[np.datetime64] = SERIES, **settings: Any) -> Any:
    count = len(times)
    usual: dict[str, Any] = {"clear": [1.0] * count, "score": [1.0] * count}
    merged = usual | settings
    return choose_targets(times, merged.pop("clear"), merged.pop("score"), **merged)


def test_days_count_from_the_epoch_with_their_hours() -> None:
    assert days_of(_times("1970-01-02T12:00"))[0] == 1.5


def test_an_observed_day_is_restored_from_itself_and_the_others() -> None:
    (target,) = _choose(target=date(2021, 6, 16))
    assert target.index == 2
    assert target.label == "2021-06-16"
    assert target.day == days_of(SERIES)[2]
    assert target.dates == (0, 1, 2, 3, 4)


def test_a_day_between_dates_has_no_index_and_lies_at_noon() -> None:
    (target,) = _choose(target=date(2021, 6, 10))
    assert target.index is None
    assert target.day % 1 == 0.5
    assert target.label == "2021-06-10"


def test_the_best_date_is_the_default_and_ties_go_to_the_later() -> None:
    assert _choose(score=[0.1, 0.9, 0.2, 0.3, 0.8])[0].index == 1
    assert _choose(score=[0.9, 0.9, 0.2, 0.9, 0.8])[0].index == 3


def test_of_two_acquisitions_of_one_day_the_better_is_taken() -> None:
    times = _times("2021-06-01T10:00", "2021-06-11T10:00", "2021-06-11T10:10", "2021-06-21T10:00")
    share = [0.9, 0.02, 1.0, 0.5]
    for asked in ({}, {"target": date(2021, 6, 11)}):
        assert _choose(times, clear=share, score=share, **asked)[0].index == 2
    assert _choose(times, every="10D")[1].index == 1, "of equal ones the earlier"


def test_every_ten_days_from_the_first_to_the_last() -> None:
    found = _choose(SERIES[:4], every="10D")
    assert [target.label for target in found] == ["2021-06-01", "2021-06-11", "2021-06-21", "2021-07-01"]
    assert [target.index for target in found] == [0, None, None, 3]
    (once,) = _choose(SERIES[:1], every="10D")
    assert once.index == 0


def test_dates_that_are_not_clear_are_left_out_but_never_the_target() -> None:
    clear = [1.0, 0.01, 0.04, 0.5, 1.0]
    (target,) = _choose(clear=clear, target=date(2021, 6, 16))
    assert target.dates == (0, 2, 3, 4)
    (between,) = _choose(clear=clear, target=date(2021, 6, 10), min_clear=0.6)
    assert between.dates == (0, 4)
    (enough,) = _choose(clear=clear, target=date(2021, 6, 10), min_clear=0.5)
    assert enough.dates == (0, 3, 4)


def test_without_a_clear_date_one_date_is_left() -> None:
    (target,) = _choose(clear=[0.0] * 5, score=[0.0] * 5, target=date(2021, 6, 10))
    assert len(target.dates) == 1
    (own,) = _choose(clear=[0.0] * 5, score=[0.0] * 5, target=date(2021, 7, 1))
    assert own.dates == (3,)


def test_the_nearest_dates_enter_and_the_own_date_always() -> None:
    times = np.datetime64("2021-06-01T10:00", "ns") + np.arange(20) * np.timedelta64(3, "D")
    score = [1.0] * 20
    score[10] = 0.001
    (target,) = _choose(times, score=score, target=date(2021, 7, 1), max_dates=5)
    assert target.index == 10
    assert target.dates == (8, 9, 10, 11, 12)
    (between,) = _choose(times, target=date(2021, 7, 2), max_dates=4)
    assert between.dates == (9, 10, 11, 12)


def test_the_same_season_of_another_year_comes_before_another_season() -> None:
    times = _times("2020-06-11T10:50", "2021-03-12T10:50", "2021-06-11T10:50")
    assert _choose(times, target=date(2021, 6, 11), max_dates=2)[0].dates == (0, 2)


def test_a_better_date_may_lie_further_away() -> None:
    (target,) = _choose(target=date(2021, 6, 3), score=[1.0, 0.01, 1.0, 1.0, 1.0], max_dates=3)
    assert 1 not in target.dates


def test_a_year_away_is_nearer_than_a_season() -> None:
    times = _times("2020-06-01T10:50", "2021-03-01T10:50", "2021-06-01T10:50", "2021-09-01T10:50")
    (target,) = _choose(times, target=date(2021, 6, 1), max_dates=2)
    assert target.dates == (0, 2)


@pytest.mark.parametrize("day", [date(2021, 3, 1), date(2022, 9, 1)])
def test_a_day_far_outside_the_series_is_refused(day: date) -> None:
    with pytest.raises(UsageError, match=r"60 days outside the series 2021-06-01 to 2022-06-05"):
        _choose(target=day)
    near = date(2022, 7, 20)
    assert _choose(target=near)[0].index is None


@settings(max_examples=40, deadline=None)
@given(
    days_strategy(max_size=12),
    st.data(),
    st.integers(1, 8),
)
def test_rules_that_always_hold(days: list[float], data: st.DataObject, most: int) -> None:
    times = (np.array(days) * 86_400).astype("datetime64[s]").astype("datetime64[ns]")
    share = st.lists(st.floats(0, 1), min_size=len(days), max_size=len(days))
    clear, score = data.draw(share), data.draw(share)
    step = data.draw(st.integers(60, 900))
    found = choose_targets(times, clear, score, every=f"{step}D", max_dates=most)
    assert len(found) == int(np.floor(days_of(times)[-1]) - np.floor(days_of(times)[0])) // step + 1
    assert list(found) == sorted(found, key=lambda target: target.day)
    for target in found:
        assert 1 <= len(target.dates) <= most
        assert list(target.dates) == sorted(set(target.dates))
        if target.index is not None:
            assert target.index in target.dates
            assert target.day == days_of(times)[target.index]
    assert choose_targets(times, clear, score, every=f"{step}D", max_dates=most) == found


def test_as_many_dates_as_the_model_was_trained_for() -> None:
    times = np.datetime64("2021-06-01T10:00", "ns") + np.arange(30) * np.timedelta64(3, "D")
    assert len(_choose(times)[0].dates) == MAX_DATES


def test_the_only_date_that_shows_a_part_is_kept_however_far() -> None:
    times = np.datetime64("2021-06-01T10:00", "ns") + np.arange(12) * np.timedelta64(5, "D")
    cells = np.tile([1.0, 1.0, 0.0, 0.0], (12, 1))
    cells[0] = [0.0, 0.0, 1.0, 0.0]
    cells[11] = [0.0, 0.0, 0.9, 1.0]
    score = [*[1.0] * 11, 0.1]
    (target,) = _choose(times, score=score, target=date(2021, 6, 21), max_dates=4, cells=cells)
    assert target.index == 4
    assert {0, 11} <= set(target.dates), "the best of what is not seen, then the only one of the last cell"
    assert len(target.dates) == 4
    (without,) = _choose(times, score=score, target=date(2021, 6, 21), max_dates=4)
    assert not {0, 11} & set(without.dates)


def test_dates_that_show_the_same_ground_are_chosen_by_score() -> None:
    times = np.datetime64("2021-06-01T10:00", "ns") + np.arange(12) * np.timedelta64(5, "D")
    cells = np.full((12, 4), 0.8)
    cells[3, 0] = 1.0
    plain = _choose(times, target=date(2021, 7, 1), max_dates=4)
    assert _choose(times, target=date(2021, 7, 1), max_dates=4, cells=cells) == plain
    # A sliver that no date shows well ends the search for it, though a far date shows the most of it.
    cells[:, 1] = 0.01
    cells[0, 1] = 0.04
    assert _choose(times, target=date(2021, 7, 1), max_dates=4, cells=cells) == plain


def test_two_swaths_across_a_region_are_both_used() -> None:
    cube = random_cube((40, 60), dates=5, clouds=0.0)
    values = cube.values.copy()
    values[:4, :, :, 30:] = np.nan
    values[4, :, :, :30] = np.nan
    half = cube.copy(data=values)
    half = half.assign_coords(valid=(("time", "y", "x"), np.isfinite(values).all(1)))
    table, cells = judge_dates(half)
    assert cells.shape == (5, 64)
    np.testing.assert_allclose(cells.mean(1), table.sort_values("index")["clear"], atol=0.05)
    day = half.time.values[0].astype("datetime64[D]").item()
    found = geodiff.superres(half, target=day, model="bicubic", max_dates=2)
    assert bool(found.valid.compute().all()), "the second swath fills what the first does not show"
