"""The filter of the members, and what a resolver makes of filter, intervals and dial."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodiff.config import RestoreConfig
from geodiff.grid import Grid, TilePlan
from geodiff.model.checkpoint import load_checkpoint, save_checkpoint
from geodiff.model.conformal import ConformalTable, guessed_share
from geodiff.model.members import (
    REACH_PX,
    ROUGHEST,
    SPREAD_HIDDEN,
    DeviationFilter,
    check_filters,
    filter_for,
    parse_filter,
    tap_count,
    tap_ranks,
)
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import BANDS_10M, GeodiffError, UsageError
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.models import BASELINES
from geodiff.tasks.recipes import describe_layers, members_of, recipe_of, tuned, uncertainty_attributes
from geodiff.testing.tiny_models import random_patch, tiny_denoiser

WIDE = DeviationFilter(tuple(tuple(2.0 / (1 + index + band) for index in range(tap_count(4))) for band in range(4)))

TWICE = DeviationFilter(((2.0,),))


def table(scale: float = 2.0) -> ConformalTable:
    """Quantiles that tell classes, levels and bands apart."""
    quantiles = np.arange(1.0, 4.0)[:, None, None, None] * np.arange(1.0, 4.0)[:, None, None] * np.ones((2, 4)) * scale
    return ConformalTable((0.5, 0.8, 0.9), np.full((4, 1), 0.02), quantiles, 4)


@pytest.fixture(scope="module")
def resolver() -> DiffusionResolver:
    return DiffusionResolver(
        "tiny", tiny_denoiser(), spread=WIDE, conformal=table(), alone=table(20.0), levels=(0.5, 0.8, 0.9)
    )


@pytest.mark.parametrize("reach", [0, 1, 2, REACH_PX])
def test_opposite_sides_of_a_kernel_share_their_tap_and_no_others_do(reach: int) -> None:
    found = tap_ranks(reach)
    assert found.shape == (2 * reach + 1, 2 * reach + 1)
    assert found[reach, reach] == 0
    np.testing.assert_array_equal(found, found[::-1, ::-1])
    assert sorted(found.ravel()) == sorted([0, *range(1, tap_count(reach)), *range(1, tap_count(reach))])


def test_one_tap_is_a_factor_and_the_kernel_moves_nothing() -> None:
    deviation = torch.zeros(2, 4, 21, 21)
    deviation[:, :, 10, 10] = 1
    even = torch.ones(1, 4, 21, 21)
    assert torch.equal(DeviationFilter(((3.0,),)).apply(deviation, even), 3 * deviation)
    spread = WIDE.apply(deviation, even)
    torch.testing.assert_close(spread, spread.flip(-1, -2))
    assert spread[0, :, 10, 10].tolist() == pytest.approx([row[0] for row in WIDE.taps])
    assert float(spread[..., :6, :].abs().max()) == 0


def test_members_differ_more_where_the_ground_is_rough() -> None:
    deviation = torch.ones(1, 1, 2, 3)
    rough = torch.tensor([[[[0.25, 1.0, 4.0], [1e-9, 1e9, float(16)]]]])
    found = DeviationFilter(((3.0,),), power=0.5).apply(deviation, rough)[0, 0]
    torch.testing.assert_close(found[0], torch.tensor([1.5, 3.0, 6.0]))
    torch.testing.assert_close(found[1], torch.tensor([3 * ROUGHEST**-0.5, 3 * ROUGHEST**0.5, 12.0]))


def test_mixing_gives_each_band_its_share_of_the_filtered_others() -> None:
    deviation = torch.arange(1.0, 5.0)[None, :, None, None].expand(2, 4, 3, 3)
    mix = ((1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), (0.0, 0.0, 0.0, 2.0), (0.0, -1.0, 0.0, 1.0))
    found = DeviationFilter(((2.0,),), mix=mix).apply(deviation, torch.ones(1, 4, 3, 3))
    assert found.shape == deviation.shape
    assert found[1, :, 2, 0].tolist() == [2.0, 3.0, 16.0, 4.0]


EYE = [[float(row == column) for column in range(4)] for row in range(4)]


def told(**parts: Any) -> dict[str, Any]:
    """A filter as cards state it, with some of it otherwise."""
    return {"taps": [[1.0]] * 4, "texture_power": 0.0, "mix": []} | parts


HOSTILE: list[Any] = [
    *(-1.0, 1e300, float("nan"), float("inf"), True, "2", None, [], [1.0] * 4, [[1.0]] * 4, {}, {"taps": [[1.0]] * 4}),
    *(told(more=1), told(taps=[]), told(taps=[[]] * 4), told(taps=[[[1.0]]] * 4), told(taps=[[1.0]] * 3)),
    *(told(taps=[[1.0, 2.0]] * 4), told(taps=[*[[1.0]] * 3, [1.0] * 5]), told(taps=None)),
    *(told(taps=[[bad]] * 4) for bad in (float("nan"), 1e9, 10**400, "1")),
    *(told(texture_power=bad) for bad in (-0.1, 2.5, float("nan"), True, "1", None, [0.2])),
    *(told(mix=bad) for bad in (EYE[:3], [row[:3] for row in EYE], [*EYE[:3], [float("nan")] * 4], None, {}, 1.0)),
]


def test_a_card_says_what_the_filter_said() -> None:
    for each in (WIDE, replace(WIDE, power=0.3, mix=tuple(tuple(row) for row in EYE)), TWICE):
        rows = replace(each, taps=each.taps * 4) if len(each.taps) == 1 else each
        assert parse_filter(json.loads(json.dumps(rows.as_card())), 4) == rows


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_filter_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        check_filters({"2": value}, 4)
    with pytest.raises(GeodiffError) as caught:
        filter_for({"spread": {"2": value}}, 2, 4)
    assert "\n" not in str(caught.value)


def test_members_differ_by_their_own_filter_where_the_target_is_hidden(resolver: DiffusionResolver) -> None:
    patch = random_patch((16, 16), dates=3)
    valid = np.ones_like(patch.valid)
    target = patch.target_index
    assert target is not None
    valid[target, :, 8:] = False
    patch = replace(patch, valid=valid)
    bare = replace(resolver, conformal=None, consistent=False, spread=DeviationFilter())
    raw, found = (one.restore(patch, members=2, seed=3) for one in (bare, replace(bare, spread_hidden=TWICE)))
    np.testing.assert_array_equal(found.mean, raw.mean)
    np.testing.assert_array_equal(found.members[..., :32], raw.members[..., :32])
    wide, plain = ((one.members - one.mean)[..., 32:] for one in (found, raw))
    np.testing.assert_allclose(wide, 2 * plain, atol=1e-6)
    assert np.abs(plain).max() > 1e-3
    # Without one they take that of seen ground, but for the texture, which tells of errors there alone.
    rough = replace(bare, spread=replace(TWICE, power=0.5)).restore(patch, members=2, seed=3)
    np.testing.assert_allclose((rough.members - rough.mean)[..., 32:], 2 * plain, atol=1e-6)
    seen, raw_seen = ((one.members - one.mean)[..., :32] for one in (rough, raw))
    assert np.abs(seen - 2 * raw_seen).max() > 1e-3


def test_old_cards_with_one_factor_are_read() -> None:
    card = {"spread": {"2": 3.2, "4": 1.9}}
    assert filter_for(card, 3, 4) == DeviationFilter(((3.2,),))
    assert filter_for(card, 8, 4) == DeviationFilter(((1.9,),))
    assert filter_for({}, 2, 4) is None
    assert filter_for(card, 2, 4, SPREAD_HIDDEN) is None
    assert filter_for(card | {"spread_hidden": {"2": 1.4}}, 2, 4, SPREAD_HIDDEN) == DeviationFilter(((1.4,),))


def test_the_card_carries_filter_and_intervals(tmp_path: Path, resolver: DiffusionResolver) -> None:
    path = tmp_path / "model.safetensors"
    card = {"spread": {"2": WIDE.as_card()}, "conformal": {"1": table(20.0).as_card(), "2": table().as_card()}}
    save_checkpoint(resolver.model, path, card=card)
    model, found = load_checkpoint(path)
    again = DiffusionResolver.calibrated("tiny", model, found, passes=2)
    patch = random_patch((16, 16), clouds=0.3)
    mine, its = (one.restore(patch, members=2, seed=1) for one in (resolver, again))
    assert its.half_width is not None
    # The memory format of loaded weights is another, and with it the order of sums.
    np.testing.assert_allclose(its.members, mine.members, atol=1e-5)
    np.testing.assert_allclose(its.half_width, mine.half_width, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(its.guessed, mine.guessed, atol=1e-4)


@pytest.mark.parametrize("key", ["spread", "spread_hidden", "brightness", "conformal"])
@pytest.mark.parametrize("value", [7, {"2": {}}, {"two": 1}, {"2": [[1.0, 2.0]]}])
def test_a_card_with_a_hostile_calibration_is_refused(
    tmp_path: Path, resolver: DiffusionResolver, key: str, value: Any
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(resolver.model, path, card={key: value})
    with pytest.raises(GeodiffError, match=key) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_half_widths_follow_the_level_and_hide_with_the_ground(resolver: DiffusionResolver) -> None:
    patch = random_patch((16, 20), clouds=0.5, dates=2)
    found = resolver.restore(patch, members=2, seed=0)
    assert found.half_width is not None
    assert found.guessed is not None
    assert found.half_width.shape == (3, 4, 64, 80)
    known = np.isfinite(found.mean)
    np.testing.assert_array_equal(np.isfinite(found.half_width), np.broadcast_to(known, found.half_width.shape))
    np.testing.assert_array_equal(np.isfinite(found.guessed), known[0])
    np.testing.assert_allclose(found.half_width[1][known], 2 * found.half_width[0][known], rtol=1e-5)
    single = replace(resolver, passes=1).restore(patch, members=2, seed=0)
    assert single.half_width is not None
    # Without members the scale is its floor, 1e-3: what differs is the class alone.
    widths = single.half_width[0][known]
    assert np.isclose(widths[:, None], [0.02, 0.04], rtol=1e-4).any(1).all()
    plain = replace(resolver, conformal=None).restore(patch, members=2, seed=0)
    assert plain.half_width is None
    assert plain.guessed is None


def test_what_is_guessed_is_of_the_standard_error_and_of_what_the_constraint_changed(
    resolver: DiffusionResolver,
) -> None:
    """Half of the widest interval, of 90 %, is 1.645 standard errors of a normal distribution."""
    patch = random_patch((16, 16))
    found, raw = (replace(resolver, consistent=c).restore(patch, members=2, seed=0) for c in (True, False))
    assert found.half_width is not None
    error = found.half_width[2] / np.float32(1.6448536)
    wanted = guessed_share(*(torch.from_numpy(image) for image in (error, found.mean, raw.mean)))
    np.testing.assert_allclose(found.guessed, wanted, atol=1e-5)
    assert 0.05 < float(wanted.min()) < float(wanted.max()) < 0.99, "neither bound hides a difference"


def test_a_patch_without_any_ground_keeps_its_layers(resolver: DiffusionResolver) -> None:
    patch = random_patch((8, 8), clouds=1.1)
    found = resolver.restore(patch, members=2, seed=0)
    assert found.half_width is not None
    assert found.half_width.shape == (3, 4, 32, 32)
    assert np.isnan(found.half_width).all()


def test_the_dial_goes_from_the_mean_to_the_sample(resolver: DiffusionResolver) -> None:
    patch = random_patch((16, 16))
    full, half, none = (replace(resolver, dial=d).restore(patch, members=2, seed=0) for d in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(none.members, np.stack([none.mean] * 2))
    np.testing.assert_allclose(half.members - half.mean, 0.5 * (full.members - full.mean), atol=1e-6)
    assert np.abs(full.members - full.mean).max() > 1e-3
    for found in (half, none):
        np.testing.assert_array_equal(found.mean, full.mean)
        np.testing.assert_array_equal(found.half_width, full.half_width)


@pytest.mark.parametrize("dial", [0.0, 0.4, 1.0])
def test_the_constraint_holds_under_filter_and_dial(resolver: DiffusionResolver, dial: float) -> None:
    patch = random_patch((20, 24))
    found = replace(resolver, dial=dial).restore(patch, members=2, seed=0)
    for image in (found.mean, *found.members):
        np.testing.assert_allclose(degrade(image, 4, band_mtf(BANDS_10M)), patch.reflectance[0], atol=2e-5)


def test_settings_tune_a_model(resolver: DiffusionResolver) -> None:
    found = tuned(resolver, RestoreConfig(level=0.8, dial=0.25))
    assert isinstance(found, DiffusionResolver)
    assert (found.levels, found.dial) == ((0.8,), 0.25)
    with pytest.raises(UsageError, match=r"0\.95"):
        tuned(resolver, RestoreConfig(level=0.95))
    bare = replace(resolver, conformal=None, alone=None)
    assert isinstance(tuned(bare, RestoreConfig(level=0.95)), DiffusionResolver), "a normal interval has any level"
    assert uncertainty_attributes(resolver, 0.9, 4)["geodiff:interval"] == "conformal"
    assert "not calibrated" in uncertainty_attributes(bare, 0.9, 4)["comment"]


def test_intervals_of_another_ensemble_than_the_calibrated_say_so(resolver: DiffusionResolver) -> None:
    assert resolver.conformal is not None
    usual = resolver.conformal.members
    comments = {count: uncertainty_attributes(resolver, 0.9, count)["comment"] for count in (1, usual, 16)}
    assert comments[usual].endswith("never saw")
    assert comments[1].endswith(f"with {usual} members: of an ensemble of 1 it holds rather less")
    assert comments[16].endswith(f"with {usual} members: of an ensemble of 16 it holds rather more")
    recipe = recipe_of(resolver, TilePlan(Grid("EPSG:32631", (10, 10), (0, 0), (8, 8))), RestoreConfig(ensemble=16))
    assert describe_layers(recipe)["uncertainty"]["comment"] == comments[16]
    alone = replace(resolver, passes=1)
    assert uncertainty_attributes(alone, 0.9, 16)["comment"] == comments[usual], "one pass draws no members"


def test_a_baseline_claims_no_ensemble_and_no_interval(resolver: DiffusionResolver) -> None:
    settings = RestoreConfig(ensemble=4)
    for name, make in BASELINES.items():
        assert members_of(make(BANDS_10M), settings) == 0, name
        assert uncertainty_attributes(make(BANDS_10M), 0.9, 4)["geodiff:interval"] == "none"
    assert members_of(resolver, settings) == 4
    assert members_of(replace(resolver, passes=1), settings) == 0
