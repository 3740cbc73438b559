"""Members of hidden dates are off in brightness as a whole, as held-out ground is, and no tile and no rim shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from geodiff.model.brightness import (
    Brightness,
    brightness_of,
    draw_chance,
    fit_brightness,
    parse_brightness,
)
from geodiff.model.optics import see
from geodiff.model.reference import REACH_PX
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import FloatArray, GeodiffError, Patch
from geodiff.testing.tiny_models import random_patch, tiny_denoiser

ROOT = ((0.3, 0.0, 0.0, 0.0), (0.2, 0.1, 0.0, 0.0), (0.2, 0.0, 0.1, 0.0), (0.3, 0.1, 0.0, 0.2))
MEMBERS = 4


@pytest.fixture(scope="module")
def resolver() -> DiffusionResolver:
    return DiffusionResolver("tiny", tiny_denoiser(), brightness=Brightness(ROOT))


def _hidden(patch: Patch, light: FloatArray | None = None) -> Patch:
    """The patch without its target date; other dates are whole."""
    valid = np.ones_like(patch.valid)
    valid[patch.target_index] = False
    return replace(patch, valid=valid, light=np.full((3, 4), np.nan, np.float32) if light is None else light)


def _ratio(resolver: DiffusionResolver, patch: Patch, seed: int = 3) -> FloatArray:
    """(member, band, y, x): what brightness makes of members."""
    found, plain = (
        one.restore(patch, members=MEMBERS, seed=seed) for one in (resolver, replace(resolver, brightness=None))
    )
    np.testing.assert_array_equal(found.mean, plain.mean)
    return found.members / plain.members


def test_a_hidden_date_is_brighter_or_darker_as_a_whole(resolver: DiffusionResolver) -> None:
    patch = _hidden(random_patch((16, 16), dates=3))
    wanted = Brightness(ROOT).factors(draw_chance(3, patch.target_day, MEMBERS, 4))
    found = _ratio(resolver, patch)
    np.testing.assert_allclose(found, np.broadcast_to(wanted[:, :, None, None], found.shape), rtol=1e-4)
    assert np.abs(found[0] - found[2]).min() > 1e-3
    # Dates are off independently of each other; seeds are, too.
    later = replace(patch, days=patch.days + 5, target_day=patch.target_day + 5)
    assert np.abs(_ratio(resolver, later) - found).max() > 0.1
    assert np.abs(_ratio(resolver, patch, seed=4) - found).max() > 0.1
    # Every tile draws the same.
    np.testing.assert_allclose(_ratio(resolver, replace(patch, origin_px=(64, 640))), found, rtol=1e-4)


def test_a_date_whose_light_is_known_is_not_drawn_brighter(resolver: DiffusionResolver) -> None:
    patch = random_patch((16, 16), dates=3)
    np.testing.assert_array_equal(_ratio(resolver, _hidden(patch, np.zeros((3, 4), np.float32))), 1)
    seen = replace(patch, valid=np.ones_like(patch.valid), light=np.full((3, 4), np.nan, np.float32))
    np.testing.assert_array_equal(_ratio(resolver, seen), 1)
    assert replace(patch, light=None).lit.all(), "nobody looked, so that every tile of a date must agree"
    assert not replace(patch, light=None, target_index=None).lit.any()
    light = np.full((3, 4), np.nan, np.float32)
    light[2] = 0.1
    valid = np.ones_like(patch.valid)
    valid[2, :, :7] = False
    np.testing.assert_array_equal(replace(patch, light=light, valid=valid).lit, valid[2])
    # Of a hidden target, where some ground is shown by a date of known light and some is not, that ground stays.
    valid[0] = False
    drawn = np.abs(np.log(_ratio(resolver, replace(patch, light=light, valid=valid)))).max((0, 1))
    assert not drawn[:, 28:].any()
    assert drawn[:, :28].min() > 0.01


def test_brightness_fades_towards_what_the_target_shows_and_leaves_it_as_it_is(resolver: DiffusionResolver) -> None:
    rows, wide, first = 16, 4 * REACH_PX, 8
    patch = random_patch((rows, wide), dates=3)
    valid = np.ones_like(patch.valid)
    valid[patch.target_index, :, first:] = False
    patch = replace(patch, valid=valid, light=np.full((3, 4), np.nan, np.float32))
    ratio = np.abs(np.log(_ratio(replace(resolver, consistent=False), patch))).mean((0, 1, 2))
    assert ratio[: 4 * first].max() == 0
    assert ratio[4 * first : 4 * (first + 1)].max() < 0.02 * ratio[-1], "no step at the rim"
    np.testing.assert_allclose(ratio[4 * (first + 1 + REACH_PX) :], ratio[-1], rtol=1e-3)
    assert np.diff(ratio).max() < 0.15 * ratio[-1], "no step farther in"
    members = torch.from_numpy(resolver.restore(patch, members=MEMBERS, seed=3).members)
    assert patch.target_index is not None
    shown = (
        see(members, 4, resolver.model.config.mtf)[..., :first].numpy()
        - patch.reflectance[patch.target_index][..., :first]
    )
    assert np.abs(shown).max() < 1e-5


def test_half_widths_do_not_follow_the_draw_of_few_members(resolver: DiffusionResolver) -> None:
    patch = _hidden(random_patch((16, 16), dates=3))
    with torch.inference_mode():
        draft = resolver.draft(patch, members=2, seed=3)
        assert draft is not None
        found = [resolver.settle(replace(draft, chance=factor * draft.chance)) for factor in (0.01, 3.0)]
        known = resolver.settle(replace(draft, lit=torch.ones_like(draft.lit)))
        alone = resolver.settle(replace(draft, deviation=draft.deviation[:0]))
    np.testing.assert_allclose(found[0].scale, found[1].scale, rtol=1e-3)
    assert float((found[0].members - found[1].members).abs().mean()) > 0.01
    added = (found[0].scale.square() - known.scale.square()).sqrt() / found[0].mean.abs()
    np.testing.assert_allclose(added.mean((1, 2)), Brightness(ROOT).deviation, rtol=0.01)
    assert len(alone.members) == 0


def test_the_covariance_of_errors_is_found() -> None:
    root = np.array(ROOT)
    chance = np.random.default_rng(0)
    errors = {place: chance.standard_normal((4000, 4)) @ root.T for place in ("a", "b")}
    # A place with few windows counts as much as one with many: the one errs by half, the other by half as much again.
    errors = {"a": 0.5 * errors["a"], "b": 1.5**0.5 * errors["b"][:2000]}
    found = np.array(fit_brightness(errors).root)
    np.testing.assert_allclose(found @ found.T, (0.25 + 1.5) / 2 * root @ root.T, atol=4e-3)
    biased = fit_brightness({"a": np.full((10, 4), 0.05)})
    np.testing.assert_allclose(biased.deviation, 0.05, rtol=2e-3)


def test_factors_have_the_mean_one_and_the_deviation_that_is_told() -> None:
    chance = np.random.default_rng(1).standard_normal((200_000, 4)).astype(np.float32)
    factors = Brightness(ROOT).factors(chance)
    np.testing.assert_allclose(factors.mean(0), 1, atol=4e-3)
    np.testing.assert_allclose(factors.std(0), Brightness(ROOT).deviation, rtol=0.01)
    assert factors.min() > 0


def test_chance_is_standard_normal_and_shared_by_models_of_other_bands() -> None:
    drawn = np.stack([draw_chance(1, float(day), 4, 4)[::2] for day in range(2000)])
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    np.testing.assert_allclose(np.cov(drawn.reshape(len(drawn), -1).T), np.eye(8), atol=0.1)
    few, many = draw_chance(1, 7.0, 3, 4), draw_chance(1, 7.0, 3, 6)
    np.testing.assert_array_equal(few[:, 0], many[:, 0])
    assert np.abs(few[:, 1:] - many[:, 1:4]).min() > 1e-3, "what is of one band is of that band"
    assert draw_chance(1, 7.0, 0, 4).shape == (0, 4)


def test_a_card_gives_back_what_was_fitted() -> None:
    card = {"brightness": [list(row) for row in ROOT]}
    assert brightness_of(card, 4) == Brightness(ROOT)
    assert brightness_of({}, 4) is None
    assert brightness_of({"brightness": {}}, 4) is None


@pytest.mark.parametrize(
    "value", [7, [], [[0.1]], [[0.1] * 4] * 3, [[0.1] * 3] * 4, [["0.1"] * 4] * 4, [[3.0] * 4] * 4, [[True] * 4] * 4]
)
def test_what_is_no_distribution_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"4 bands|4 numbers"):
        parse_brightness(value, 4)
    if value:
        with pytest.raises(GeodiffError, match="brightness"):
            brightness_of({"brightness": value}, 4)
