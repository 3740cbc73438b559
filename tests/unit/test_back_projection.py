"""Shift-and-add with back-projection: it uses the shifts, looks no further than it says, and is never misled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geodiff.model.back_projection import BackProjectionResolver, reach_px
from geodiff.model.baselines import BicubicResolver
from geodiff.schema import BANDS_10M, FloatArray, Patch
from geodiff.testing.landscape import landscape_window
from geodiff.testing.series import DEMO_DAYS, DEMO_ORIGIN_PX, NO_EFFECTS, SeriesTruth, simulate_series
from geodiff.testing.tiny_models import random_patch, reordered

RESOLVER = BackProjectionResolver(BANDS_10M)
DATES = 6


def _patch(series: SeriesTruth, *, shifts: bool = True) -> Patch:
    shift = series.shift_px if shifts else np.zeros_like(series.shift_px)
    day = float(series.days[series.anchor])
    return Patch(series.reflectance, series.valid, series.days, day, series.anchor, shift, 10.0, (0, 0))


@pytest.fixture(scope="module")
def series() -> SeriesTruth:
    """Without noise and weather, every date displaced."""
    ground = landscape_window(1, DEMO_ORIGIN_PX, (192, 192)).reflectance
    return simulate_series(ground, days=DEMO_DAYS[:DATES], effects=replace(NO_EFFECTS, shift_px=0.5))


def _db(image: FloatArray, truth: FloatArray) -> float:
    error = (image - truth)[:, 16:-16, 16:-16]
    return float(-10 * np.log10(np.square(error).mean()))


def test_it_beats_bicubic_and_more_so_with_the_dates_and_their_shifts(series: SeriesTruth) -> None:
    patch, truth = _patch(series), series.truth[series.anchor]
    alone = replace(
        patch,
        reflectance=patch.reflectance[[series.anchor]],
        valid=patch.valid[[series.anchor]],
        days=patch.days[[series.anchor]],
        shift_px=patch.shift_px[[series.anchor]],
        target_index=0,
    )
    bicubic = _db(BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean, truth)
    one, blind, full = (
        _db(RESOLVER.restore(p, members=0, seed=0).mean, truth) for p in (alone, _patch(series, shifts=False), patch)
    )
    assert one > bicubic + 0.5, "back-projection of the target alone sharpens"
    assert full > one + 0.2, "the other dates see what the target aliases"
    assert full > blind + 0.1, "where their shifts say"


def test_a_hidden_target_is_restored_from_the_others(series: SeriesTruth) -> None:
    patch = _patch(series)
    valid = patch.valid.copy()
    valid[series.anchor] = False
    hidden = replace(patch, valid=valid)
    truth = series.truth[series.anchor]
    bicubic = _db(BicubicResolver(BANDS_10M).restore(hidden, members=0, seed=0).mean, truth)
    assert _db(RESOLVER.restore(hidden, members=0, seed=0).mean, truth) > bicubic + 0.5


def test_a_flat_target_stays_flat_to_its_border_whatever_level_the_other_dates_have() -> None:
    patch = random_patch((20, 24), dates=4, clouds=0.3)
    level = np.array([0.2, 0.3, 0.1, 0.5], np.float32)[:, None, None, None]
    valid = patch.valid.copy()
    valid[0] = True
    flat = replace(patch, reflectance=np.zeros_like(patch.reflectance) + level, valid=valid)
    np.testing.assert_allclose(RESOLVER.restore(flat, members=0, seed=0).mean, 0.2, atol=1e-5)


def test_of_two_dates_that_contradict_each_other_the_one_of_the_nearer_season_rules() -> None:
    """What they show beyond the target is opposite, so that alike dates would cancel."""
    detail = 0.002 * np.random.default_rng(0).standard_normal((4, 24, 24)).astype(np.float32)
    patch = random_patch((24, 24), dates=3)
    shift = np.array([[0, 0], [0.5, 0.5], [0.5, 0.5]], np.float32)
    patch = replace(patch, reflectance=0.2 + np.stack([0 * detail, detail, -detail]), shift_px=shift)
    day = patch.target_day
    found = [
        RESOLVER.restore(replace(patch, days=day + np.array([0.0, *away])), members=0, seed=0).mean - 0.2
        for away in ((5.0, 90.0), (90.0, 5.0), (90.0, 365.25))
    ]
    assert np.abs(found[0]).max() > 1e-3
    np.testing.assert_allclose(found[0], -found[1], atol=2e-5)
    assert np.corrcoef(found[1].ravel(), found[2].ravel())[0, 1] > 0.9, "the same season, a year later"


def test_the_order_of_dates_is_of_no_account() -> None:
    patch = random_patch((16, 16), dates=5, clouds=0.3)
    order = [3, 0, 4, 2, 1]
    mixed = reordered(patch, order)
    first, second = (RESOLVER.restore(p, members=0, seed=0).mean for p in (patch, mixed))
    np.testing.assert_allclose(first, second, atol=1e-6, equal_nan=True)


def test_a_pixel_looks_no_further_than_it_says() -> None:
    reach = reach_px(4, BANDS_10M, RESOLVER.iterations)
    assert reach < 16, "the usual halo holds it"
    patch = random_patch((48, 48), dates=3)
    shift = float(np.abs(patch.shift_px).max())
    changed = patch.reflectance.copy()
    changed[:, :, 24, 24] += 0.5
    before, after = (
        RESOLVER.restore(replace(patch, reflectance=image), members=0, seed=0).mean
        for image in (patch.reflectance, changed)
    )
    _, rows, cols = np.nonzero(before != after)
    furthest = max(np.abs((rows + 0.5) / 4 - 24.5).max(), np.abs((cols + 0.5) / 4 - 24.5).max())
    assert 4 < furthest <= reach + shift + 1


def test_garbage_under_clouds_and_dark_patches() -> None:
    patch = random_patch((16, 16), dates=3, clouds=0.5, seed=3)
    clean = RESOLVER.restore(patch, members=2, seed=0)
    assert clean.members.shape == (0, 4, 64, 64)
    dirty = np.where(patch.valid[:, None], patch.reflectance, np.float32("nan"))
    np.testing.assert_array_equal(
        RESOLVER.restore(replace(patch, reflectance=dirty), members=0, seed=0).mean, clean.mean
    )
    dark = replace(patch, valid=np.zeros_like(patch.valid))
    assert np.isnan(RESOLVER.restore(dark, members=0, seed=0).mean).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 9)])
def test_patches_of_any_size(shape: tuple[int, int]) -> None:
    found = RESOLVER.restore(random_patch(shape), members=0, seed=0).mean
    assert found.shape == (4, 4 * shape[0], 4 * shape[1])
    assert np.isfinite(found).all()
