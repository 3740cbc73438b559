"""Intervals hold what they promise, tables of cards are checked, and the map of guesses orders what is guessed."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from geodiff.model.conformal import (
    ConformalTable,
    check_tables,
    conformal_quantile,
    deviation_scale,
    guessed_share,
    normal_half_width,
    parse_table,
    table_for,
)
from geodiff.model.draft import LIT, UNLIT
from geodiff.model.texture import FLOOR, TEXTURE_PX, box_mean, texture
from geodiff.schema import UsageError


def _coverage(shift: int, *, n: int = 19, level: float = 0.9, trials: int = 6000) -> float:
    """Share of new scores within the conformal bound, its index moved by ``shift``."""
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(trials):
        scores = random.exponential(size=n + 1)
        known = np.sort(scores[:n])
        bound = conformal_quantile(known, level)
        index = int(np.searchsorted(known, bound)) + shift
        inside += bool(scores[n] <= known[min(index, n - 1)])
    return inside / trials


def test_exchangeable_scores_are_covered_as_promised() -> None:
    # 18 of 19 scores: P = 18 / 20 exactly; the standard error of 6000 trials is 0.004.
    assert _coverage(0) == pytest.approx(0.9, abs=0.012)


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_index_that_is_off_by_one_would_be_seen(shift: int) -> None:
    assert abs(_coverage(shift) - 0.9) > 0.03


@pytest.mark.parametrize(
    ("n", "level", "rank"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.8, 80), (100, 0.5, 51), (1, 0.5, 1)]
)
def test_the_quantile_is_the_ceiling_of_n_plus_one_times_level(n: int, level: float, rank: int) -> None:
    scores = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(scores, level) == rank


def test_too_few_units_promise_nothing() -> None:
    assert conformal_quantile(np.arange(8.0), 0.9) == math.inf
    many = np.arange(8000.0)
    assert conformal_quantile(many, 0.9, units=8) == math.inf
    assert conformal_quantile(many, 0.9, units=9) == 7999.0
    assert conformal_quantile(many, 0.9) == pytest.approx(7200, abs=2)


def test_weights_count_a_place_once_however_many_pixels_it_has() -> None:
    scores = np.concatenate([np.full(10_000, 1.0), np.full(10, 5.0)])
    weight = np.concatenate([np.full(10_000, 1e-4), np.full(10, 0.1)])
    assert conformal_quantile(scores, 0.8) == 1.0
    assert conformal_quantile(scores, 0.8, weights=weight, units=1000) == 5.0


def _card(bands: int = 4) -> dict[str, Any]:
    limits = [[0.001, 0.01]] * bands
    quantiles = (np.arange(1, 4)[:, None, None, None] * np.ones((3, 3, 3, bands))).tolist()
    return {"levels": [0.5, 0.8, 0.9], "texture_limits": limits, "quantiles": quantiles, "members": 4}


def test_a_table_comes_back_from_its_card() -> None:
    table = parse_table(_card(), 4)
    again = parse_table(table.as_card(), 4)
    assert again.levels == table.levels == (0.5, 0.8, 0.9)
    np.testing.assert_array_equal(again.limits, table.limits)
    np.testing.assert_array_equal(again.quantiles, table.quantiles)


HOSTILE: list[tuple[str, Any]] = [
    ("levels", [0.9, 0.5, 0.8]),
    ("levels", [0.5, 0.8, 1.0]),
    ("levels", []),
    ("levels", "0.9"),
    ("levels", [0.5, 0.8, True]),
    ("texture_limits", [[0.01, 0.001]] * 4),
    ("texture_limits", [[0.001, 0.01]] * 3),
    ("texture_limits", [[0.001], [0.001, 0.01], [0.001, 0.01], [0.001, 0.01]]),
    ("texture_limits", [[0.001, float("nan")]] * 4),
    ("texture_limits", [[-0.1, 0.1]] * 4),
    ("texture_limits", [list(range(1000))] * 4),
    ("quantiles", [[[[1.0] * 4] * 3] * 2] * 2),
    ("quantiles", [[[[1.0] * 4] * 3]] * 3),
    ("quantiles", [[[[float("inf")] * 4] * 3] * 2] * 3),
    ("quantiles", [[[["1"] * 4] * 3] * 2] * 3),
    ("quantiles", [[[[-1.0] * 4] * 3] * 2] * 3),
    ("quantiles", [[[[v] * 4] * 3] * 2 for v in (3.0, 2.0, 1.0)]),
    ("quantiles", {"0.9": 1}),
    ("members", -1),
    ("members", 2.5),
    ("members", 10**30),
    ("more", 1),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_a_hostile_table_is_refused_in_one_line(key: str, value: Any) -> None:
    card = copy.deepcopy(_card()) | {key: value}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at
        check_tables({"2": card}, 4)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "tables", [[], None, {"two": _card()}, {"-1": _card()}, {"9" * 9: _card()}, {"²": _card()}, {"2": []}]
)
def test_what_is_no_set_of_tables_is_refused(tables: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        check_tables(tables, 4)


def test_the_nearest_number_of_passes_serves_but_never_the_mean_alone() -> None:
    cards = {str(count): _card() | {"members": count} for count in (1, 2, 4)}
    found = {passes: table_for({"conformal": cards}, passes, 4) for passes in (1, 2, 3, 9)}
    assert {passes: table.members for passes, table in found.items() if table} == {1: 1, 2: 2, 3: 2, 9: 4}
    assert table_for({"conformal": {"1": _card()}}, 2, 4) is None
    assert table_for({}, 2, 4) is None


def test_the_class_decides_the_width() -> None:
    quantiles = np.arange(1.0, 7.0).reshape(1, 3, 2, 1)
    table = ConformalTable((0.9,), np.array([[0.01]]), quantiles, 4)
    rough = torch.zeros(1, 1, 40, 40)
    rough[..., 20:] = torch.rand(1, 1, 40, 20, generator=torch.Generator().manual_seed(0))
    sky = torch.zeros(40, 40, dtype=torch.int64)
    sky[13:26], sky[26:] = LIT, UNLIT
    width = table.half_width((0.9,), torch.full((1, 40, 40), 0.1), rough, sky)[0, 0] / 0.1
    assert [round(float(width[y, x]), 4) for y in (5, 20, 35) for x in (5, 35)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UsageError, match=r"0\.95.*0\.9"):
        table.require((0.95,))


def test_older_tables_know_one_class_of_hidden_ground() -> None:
    card = _card()
    card["quantiles"] = [[[[9.0 + cloud] * 4] * 3 for cloud in range(2)]] * 3
    found = parse_table(card, 4).quantiles
    assert found[0, :, 0, 0].tolist() == [9, 10, 10]


def test_few_members_are_not_asked_how_far_their_brightness_is_off() -> None:
    none, some = torch.zeros(4, 1, 9, 9), torch.full((1, 9, 9), 0.03)
    torch.testing.assert_close(deviation_scale(none, some), torch.full((1, 9, 9), math.hypot(0.03, FLOOR)))
    torch.testing.assert_close(deviation_scale(none + 0.04, some)[0, 4, 4], torch.tensor(math.hypot(0.05, FLOOR)))
    torch.testing.assert_close(deviation_scale(none[:0], some), torch.full((1, 9, 9), FLOOR))


def test_scale_and_texture_depend_on_their_windows_alone() -> None:
    image = torch.rand(1, 2, 60, 60, generator=torch.Generator().manual_seed(1))
    part = image[..., 10:50, 10:50]
    reach = TEXTURE_PX - 1
    inside, outside = slice(reach, -reach), slice(10 + reach, 50 - reach)
    torch.testing.assert_close(texture(part)[..., inside, inside], texture(image)[..., outside, outside])
    members = torch.rand(3, 2, 60, 60, generator=torch.Generator().manual_seed(2))
    whole = deviation_scale(members, image[0])
    cut = deviation_scale(members[..., 10:50, 10:50], part[0])
    torch.testing.assert_close(cut[..., 2:-2, 2:-2], whole[..., 12:48, 12:48])


def test_texture_of_bright_flat_ground_is_nothing() -> None:
    assert float(texture(torch.full((1, 1, 30, 30), 0.7)).max()) < 1e-6
    assert float(box_mean(torch.ones(1, 1, 5, 5), 9).min()) == 1.0


def test_what_is_guessed_rises_with_the_error_and_falls_with_what_is_shown() -> None:
    detail = torch.rand(4, 60, 60, generator=torch.Generator().manual_seed(0))
    error = torch.full_like(detail, 0.1)
    seen = guessed_share(error, detail, detail)
    assert ((seen >= 0) & (seen <= 1)).all()
    assert (guessed_share(2 * error, detail, detail) > seen).all()
    assert (guessed_share(error, 2 * detail, 2 * detail) < seen).all()
    assert (guessed_share(error, detail, detail + 0.1) > seen).all(), "a mean that contradicted the observation"
    flat = torch.zeros_like(detail)
    assert (guessed_share(error, flat, flat) == 1).all()
    assert torch.isfinite(guessed_share(flat, flat, flat)).all()


def test_normal_half_widths() -> None:
    assert normal_half_width(0.9) == pytest.approx(1.645, abs=1e-3)
    assert normal_half_width(0.5) == pytest.approx(0.6745, abs=1e-3)
