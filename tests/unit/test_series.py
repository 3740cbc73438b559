"""A simulated series obeys its own truth: sensor, shifts, seasons, clouds, masks; on disk it reads back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.schema import BANDS_10M, BANDS_20M, UsageError
from geodiff.sensor import band_mtf, degrade, degrade_matrix
from geodiff.testing.landscape import landscape_window
from geodiff.testing.materials import WORLD_BANDS, Cover
from geodiff.testing.sampling import observe, over_blocks, repeated, sample_matrix
from geodiff.testing.series import (
    DEMO_ORIGIN_PX,
    DEMO_SEED,
    NO_EFFECTS,
    Effects,
    demo_series,
    simulate_series,
)
from geodiff.testing.strategies import patches
from geodiff.testing.weather import HIDDEN, Scl, clear_of, draw_sky

DAYS = (18_900.0, 18_960.0, 19_020.0, 19_080.0, 19_140.0, 19_200.0)
ONLY = NO_EFFECTS.__dict__


@pytest.fixture(scope="module")
def scene():
    return landscape_window(DEMO_SEED, DEMO_ORIGIN_PX, (256, 256))


def simulate(scene, **changes):
    effects = Effects(**{**ONLY, **changes.pop("effects", {})})
    known = {"cover": scene.cover, "parcel": scene.parcel, "days": DAYS}
    return simulate_series(scene.reflectance, effects=effects, **{**known, **changes})


# Sensor


def test_without_effects_the_sensor_alone_is_seen(scene):
    series = simulate(scene)
    expected = degrade(scene.reflectance, 4, band_mtf(BANDS_10M))
    assert series.reflectance.dtype == np.float32
    assert series.reflectance.shape == (len(DAYS), 4, 64, 64)
    for image, truth in zip(series.reflectance, series.truth, strict=True):
        np.testing.assert_allclose(image, expected, atol=1e-6)
        np.testing.assert_array_equal(truth, scene.reflectance)
    assert series.valid.all()
    assert not series.hidden.any()
    assert not series.shift_px.any()


@given(st.integers(1, 12), st.integers(2, 6), st.floats(0.1, 0.6))
def test_an_unmoved_sample_is_the_sensor_of_the_project(size, scale, mtf):
    np.testing.assert_allclose(sample_matrix(size, scale, mtf, 0.0), degrade_matrix(size, scale, mtf), atol=1e-12)


@pytest.mark.parametrize("mtf", [0.15, 0.28, 0.4])
def test_a_wave_at_nyquist_keeps_the_stated_contrast(mtf):
    """Fine sampling (scale 16) and the peaks on the pixel centres, so that the ratio is the MTF itself."""
    scale, size = 16, 40
    wave = np.cos(np.pi * ((np.arange(size * scale) + 0.5) / scale - 0.5))
    seen = sample_matrix(size, scale, mtf, 0.0) @ wave
    assert np.abs(seen[10:-10]) == pytest.approx(mtf, abs=0.003)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
@settings(max_examples=25)
def test_content_moves_down_and_right_by_the_shift(down, right):
    ground = np.zeros((1, 128, 128), np.float32)
    ground[0, 60:68, 60:68] = 1
    still, moved = (observe(ground, 4, (0.28,), shift)[0] for shift in ((0.0, 0.0), (down, right)))
    rows, cols = np.mgrid[:32, :32]
    for axis, shift in ((rows, down), (cols, right)):
        travel = (axis * moved).sum() / moved.sum() - (axis * still).sum() / still.sum()
        assert travel == pytest.approx(shift, abs=0.02)


def test_shifts_have_the_stated_size_and_the_anchor_has_none(scene):
    days = np.arange(60) * 5.0 + 18_000
    series = simulate(scene, days=days, effects={"shift_px": 0.5}, anchor=-1)
    assert series.anchor == 59
    assert not series.shift_px[-1].any()
    assert series.shift_px[:-1].std() == pytest.approx(0.5, abs=0.15)
    assert np.abs(series.shift_px).max() <= 1.5


def test_the_truth_as_seen_is_the_truth_moved(scene):
    series = simulate(scene, effects={"shift_px": 0.6})
    again = degrade(series.seen_truth(1), 4, band_mtf(BANDS_10M))
    np.testing.assert_allclose(again[:, 4:-4, 4:-4], series.reflectance[1][:, 4:-4, 4:-4], atol=0.004)
    assert np.abs(degrade(series.truth[1], 4, band_mtf(BANDS_10M)) - series.reflectance[1]).max() > 0.02


def test_noise_is_as_strong_as_stated():
    ground = np.full((4, 256, 256), 0.1, np.float32)
    series = simulate_series(ground, days=DAYS[:2], effects=Effects(**{**ONLY, "noise": 1.0}))
    error = series.reflectance - 0.1
    assert error.std(axis=(2, 3)) == pytest.approx(np.sqrt(5e-4**2 + 4e-6 * 0.1), rel=0.06)
    assert abs(np.corrcoef(error[0, 0].ravel(), error[1, 0].ravel())[0, 1]) < 0.06


# Ground


def test_seasons_change_what_grows_and_spare_what_stands(scene):
    series = simulate(scene, effects={"season": 1.0})
    np.testing.assert_array_equal(series.truth[series.anchor], scene.reflectance)
    red, nir = series.truth[:, 2], series.truth[:, 3]
    here = (Cover.CROP, Cover.FOREST, Cover.ROAD)
    ndvi = (nir - red) / (nir + red)
    swing = {cover: float(np.ptp(ndvi[:, scene.cover == cover], axis=0).mean()) for cover in here}
    assert swing[Cover.CROP] > 0.2
    assert swing[Cover.CROP] > 2 * swing[Cover.FOREST] > 2 * swing[Cover.ROAD]
    assert (series.truth > 0).all()
    assert (series.truth <= 1).all()


def test_a_parcel_changes_as_one(scene):
    """Within a field the change is that of its crop: far more alike than between fields."""
    series = simulate(scene, effects={"season": 1.0})
    field = scene.cover == Cover.CROP
    change = np.log(series.truth[0, 2] / series.truth[series.anchor, 2])
    names, sizes = np.unique(scene.parcel[field], return_counts=True)
    inside = [change[field & (scene.parcel == name)] for name in names[sizes > 150]]
    assert len(inside) > 5
    assert np.std([c.mean() for c in inside]) > 1.5 * np.median([c.std() for c in inside])


def test_without_land_cover_the_spectra_tell(scene):
    series = simulate(scene, effects={"season": 1.0}, cover=None, parcel=None)
    change = np.abs(series.truth[0] - scene.reflectance).mean(axis=0)
    assert change[scene.cover == Cover.CROP].mean() > 0.004


def test_an_image_without_red_and_infrared_still_works():
    ground = np.full((1, 32, 32), 0.2, np.float32)
    series = simulate_series(ground, days=DAYS, bands=("B11",), effects=Effects())
    assert np.isfinite(series.reflectance).all()


# Sky


def test_what_is_not_hidden_is_what_lies_there(scene):
    clear = simulate(scene)
    cloudy = simulate(scene, effects={"clouds": 3.0}, seed=4)
    assert 0.1 < cloudy.hidden.mean() < 0.95
    difference = np.abs(cloudy.reflectance - clear.reflectance).max(axis=1)
    assert difference[~cloudy.hidden].max() < 0.07, "an opacity of at most a tenth"
    assert np.median(difference[cloudy.hidden]) > 0.1
    assert not cloudy.hidden[cloudy.anchor].any()


def test_a_shadow_is_its_cloud_moved_to_the_north_west():
    sky = draw_sky(11, 0, (160, 160), cover=0.3, haze=0)
    cloud, shadow = sky.cloud > 0.3, sky.shadow > 0.18
    best, score = (0, 0), 0.0
    for down in range(40):
        for right in range(40):
            found = float((cloud[down:, right:] == shadow[: 160 - down, : 160 - right]).mean())
            best, score = ((down, right), found) if found > score else (best, score)
    assert score > 0.97
    assert 11 <= best[0] <= 37
    assert 11 <= best[1] <= 37


def test_a_perfect_mask_never_passes_a_cloud_and_a_real_one_sometimes_does(scene):
    perfect = simulate(scene, effects={"clouds": 3.0}, seed=4)
    assert not (perfect.valid & perfect.hidden).any()
    # Only the 20 m pixels make it hide more than it must.
    assert (~perfect.valid & ~perfect.hidden).mean() < 0.1
    real = simulate(scene, effects={"clouds": 3.0, "mask_errors": 1.0}, seed=4)
    np.testing.assert_array_equal(real.hidden, perfect.hidden)
    missed = (real.valid & real.hidden).sum() / real.hidden.sum()
    assert 0.0005 < missed < 0.15


def test_the_classification_names_the_ground(scene):
    series = simulate(scene, effects={"mask_errors": 1.0})
    coarse = scene.cover.reshape(32, 8, 32, 8)
    for cover, name in ((Cover.WATER, Scl.WATER), (Cover.FOREST, Scl.VEGETATION)):
        pure = (coarse == cover).all(axis=(1, 3))
        assert pure.any()
        assert (series.scl[0][pure] == name).mean() > 0.8
    assert series.valid.mean() > 0.97


def test_haze_brightens_the_blue_most(scene):
    added = (simulate(scene, effects={"haze": 1.0}).reflectance - simulate(scene).reflectance).mean(axis=(0, 2, 3))
    assert 0.001 < added[0] < 0.03
    assert (np.diff(added) < 0).all()


def test_a_cut_date_is_empty_beyond_the_swath(scene):
    series = simulate(scene, effects={"cut_dates": 1.0})
    empty = np.isnan(series.reflectance)
    assert (empty.all(axis=1) == empty.any(axis=1)).all()
    empty = empty[:, 0]
    others = np.arange(len(DAYS)) != series.anchor
    assert empty[others].any(axis=(1, 2)).all()
    assert not empty[series.anchor].any()
    assert not (series.valid & empty).any()
    assert (series.hidden == empty).all()


# Bands of 20 m


@pytest.fixture(scope="module")
def ten():
    """Ten bands of an odd number of pixels, and the same with the four alone."""
    scene = landscape_window(DEMO_SEED, DEMO_ORIGIN_PX, (252, 236), 2.5, WORLD_BANDS)

    def usual(given, bands):
        effects = Effects(clouds=2.0, cut_dates=0.6)
        return simulate(given, bands=bands, effects=effects.__dict__, seed=5)

    return usual(scene, WORLD_BANDS), usual(replace(scene, reflectance=scene.reflectance[:4]), BANDS_10M)


def test_the_bands_of_20_m_change_nothing_of_the_others(ten):
    every, four = ten
    np.testing.assert_array_equal(every.reflectance[:, :4], four.reflectance)
    np.testing.assert_array_equal(every.truth[:, :4], four.truth)
    for name in ("valid", "scl", "hidden", "shift_px"):
        np.testing.assert_array_equal(getattr(every, name), getattr(four, name))


def test_they_lie_in_blocks_on_the_common_lattice(ten):
    """At even rows and columns, the last ones cut; each with noise of its own."""
    every, _ = ten
    assert every.reflectance.shape[1:] == (10, 63, 59)
    coarse = every.reflectance[:, 4:]
    np.testing.assert_array_equal(coarse, coarse[:, :, ::2, ::2].repeat(2, 2).repeat(2, 3)[:, :, :63, :59])
    differ = coarse[:, :, ::2, ::2]
    assert (np.diff(differ[every.anchor], axis=1) != 0).mean() > 0.99
    assert (every.reflectance[:, :4, 1::2, ::2] != every.reflectance[:, :4, :62:2, ::2]).mean() > 0.9
    # What is outside the swath for a pixel is outside for the whole of it.
    outside = np.isnan(every.reflectance)
    assert (outside[:, 4:].any(axis=1) >= outside[:, :4].any(axis=1)).all()
    assert outside[:, 4:].any()
    assert not (every.valid & outside.any(axis=1)).any()


def test_they_are_seen_through_their_own_optics(scene):
    """The truth at 2.5 m, sampled every 20 m with the modulation of each band; shifts are in pixels of 10 m."""
    ground = landscape_window(DEMO_SEED, DEMO_ORIGIN_PX, (256, 256), 2.5, BANDS_20M).reflectance
    series = simulate_series(ground, days=DAYS, bands=BANDS_20M, effects=NO_EFFECTS)
    assert series.truth.shape == (len(DAYS), 6, 256, 256)
    expected = degrade(ground, 8, band_mtf(BANDS_20M))
    np.testing.assert_allclose(series.reflectance[0][:, ::2, ::2], expected, atol=1e-6)
    moved = simulate_series(ground, days=DAYS, bands=BANDS_20M, effects=replace(NO_EFFECTS, shift_px=0.7), seed=3)
    again = degrade(moved.seen_truth(1), 8, band_mtf(BANDS_20M))
    inner = np.s_[:, 4:-4, 4:-4]
    np.testing.assert_allclose(again[inner], moved.reflectance[1][:, ::2, ::2][inner], atol=0.004)
    assert np.abs(expected - moved.reflectance[1][:, ::2, ::2])[inner].max() > 0.02


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
@settings(max_examples=15)
def test_content_of_a_coarse_band_moves_as_far(down, right):
    ground = np.zeros((1, 128, 128), np.float32)
    ground[0, 58:70, 58:70] = 1
    still, moved = (observe(ground, 4, (0.3,), shift, steps=[2])[0] for shift in ((0.0, 0.0), (down, right)))
    rows, cols = np.mgrid[:32, :32]
    for axis, shift in ((rows, down), (cols, right)):
        travel = (axis * moved).sum() / moved.sum() - (axis * still).sum() / still.sum()
        assert travel == pytest.approx(shift, abs=0.05)


def test_seasons_and_skies_differ_between_the_bands(ten):
    every, _ = ten
    place = {band: index for index, band in enumerate(every.bands)}
    np.testing.assert_array_equal(every.truth[every.anchor].shape, (10, 252, 236))
    truth = every.truth
    ndvi = (truth[:, 3] - truth[:, 2]) / (truth[:, 3] + truth[:, 2])
    moist = (truth[:, place["B8A"]] - truth[:, place["B11"]]) / (truth[:, place["B8A"]] + truth[:, place["B11"]])
    change = [(index[0] - index[every.anchor]).ravel() for index in (ndvi, moist)]
    assert np.corrcoef(change[0], change[1])[0, 1] > 0.6, "what greens grows moist"
    cloudy = every.hidden & np.isfinite(every.reflectance).all(axis=1)
    assert np.percentile(every.reflectance[:, 0][cloudy], 90) > np.percentile(every.reflectance[:, -1][cloudy], 90)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_blocks_keep_the_mean_and_are_flat(rows, cols, step):
    image = np.random.default_rng(rows * 10 + cols).random((rows, cols)).astype(np.float32)
    found = over_blocks(image, step)
    assert found.mean() == pytest.approx(image.mean(), rel=1e-5)
    np.testing.assert_array_equal(found, repeated(found[::step, ::step], step, (rows, cols)))
    assert found[0, 0] == pytest.approx(image[:step, :step].mean(), rel=1e-5)


# The whole


def test_the_same_seed_gives_the_same_series(scene):
    one, two = (simulate(scene, effects=Effects().__dict__, seed=3) for _ in range(2))
    other = simulate(scene, effects=Effects().__dict__, seed=4)
    for name in ("reflectance", "valid", "scl", "hidden", "shift_px", "truth"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        if name != "valid":
            assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_odd_sizes_have_a_rounded_up_classification(scene):
    ground = np.ascontiguousarray(scene.reflectance[:, :100, :52])
    series = simulate_series(ground, days=DAYS, effects=Effects())
    assert series.reflectance.shape[2:] == (25, 13)
    assert series.scl.shape[1:] == (13, 7)
    np.testing.assert_array_equal(series.valid[0], clear_of(series.scl[0], (25, 13)))


def test_the_demo_spans_the_change_of_offset_and_has_clear_and_cloudy_dates():
    series = demo_series(48)
    hidden = series.hidden.mean(axis=(1, 2))
    assert (hidden < 0.05).sum() >= 5
    assert (hidden > 0.3).sum() >= 1
    assert series.days[0] < 19_017 < series.days[-1], "2022-01-25"
    assert 0.05 < (simulate_ndvi(series) > 0.4).mean() < 0.95


def simulate_ndvi(series):
    red, nir = series.reflectance[series.anchor, 2:4]
    return (nir - red) / (nir + red)


@pytest.mark.parametrize(
    ("ground", "changes", "says"),
    [
        ((4, 10, 12), {}, "no multiple"),
        ((3, 12, 12), {}, "does not hold the bands"),
        ((4, 12), {}, "does not hold the bands"),
        ((4, 12, 12), {"days": (3.0, 2.0)}, "ascend"),
        ((4, 12, 12), {"days": (3.0, 3.0)}, "ascend"),
        ((4, 12, 12), {"days": ()}, "at least"),
    ],
)
def test_a_series_that_cannot_be_is_refused(ground, changes, says):
    with pytest.raises(UsageError, match=says):
        simulate_series(np.zeros(ground, np.float32), **{"days": DAYS, **changes})


def test_hidden_classes_are_those_of_the_sen2cor_manual():
    assert {int(c) for c in HIDDEN} == {0, 3, 8, 9}


@given(patches(max_dates=6, max_side=9))
@settings(max_examples=30)
def test_the_strategy_makes_patches_that_keep_the_contract(patch):
    times, _, rows, cols = patch.reflectance.shape
    assert patch.valid.shape == (times, rows, cols)
    assert patch.shift_px.shape == (times, 2)
    assert (np.diff(patch.days) > 0).all()
    assert np.isfinite(patch.reflectance.transpose(1, 0, 2, 3)[:, patch.valid]).all()
    if patch.target_index is not None:
        assert patch.days[patch.target_index] == patch.target_day
