"""The synthetic world is one world, whatever window is looked at, and it resembles a landscape, not noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.schema import BANDS_10M, BANDS_20M, UsageError
from geodiff.sensor import band_mtf, degrade
from geodiff.testing.fields import fractal, hash01, smooth_noise, split_axis, voronoi
from geodiff.testing.landscape import BLOCK, _block, landscape, landscape_window, render
from geodiff.testing.materials import WORLD_BANDS, Cover
from geodiff.testing.series import DEMO_ORIGIN_PX, DEMO_SEED
from geodiff.testing.strategies import windows

ORIGIN, SHAPE = (-300, 100), (360, 400)


@pytest.fixture(scope="module")
def scene():
    return landscape_window(0, ORIGIN, SHAPE)


@pytest.fixture(scope="module")
def demo():
    """1.6 km of the demo place with shore, fields, woods, roads and houses."""
    row, col = DEMO_ORIGIN_PX
    return landscape_window(DEMO_SEED, (row + 60, col + 600), (512, 512))


@given(windows(inside=SHAPE))
@settings(max_examples=40)
def test_any_window_shows_the_pixels_of_the_whole(scene, window):
    origin = (ORIGIN[0] + window.top, ORIGIN[1] + window.left)
    part = landscape_window(0, origin, (window.rows, window.cols))
    rows, cols = window.slices_in(type(window)(0, 0, *SHAPE))
    np.testing.assert_array_equal(part.reflectance, scene.reflectance[:, rows, cols])
    np.testing.assert_array_equal(part.cover, scene.cover[rows, cols])
    np.testing.assert_array_equal(part.parcel, scene.parcel[rows, cols])


def test_chunks_drawn_in_any_order_with_an_empty_cache_give_the_whole(scene):
    _block.cache_clear()
    found = np.empty_like(scene.reflectance)
    chunks = [(r, c) for r in range(0, SHAPE[0], 170) for c in range(0, SHAPE[1], 210)]
    for r, c in reversed(chunks):
        target = found[:, r : r + 170, c : c + 210]
        target[:] = landscape(target.shape[1:], origin_px=(ORIGIN[0] + r, ORIGIN[1] + c), seed=0)
    np.testing.assert_array_equal(found, scene.reflectance)


def test_blocks_join_without_seams(scene):
    """Drawn at once, over the borders of the blocks, the picture is the same but for sums in another order."""
    row, col = (-(-origin // BLOCK) * BLOCK - 40 for origin in ORIGIN)
    across = render(0, (row, col), (80, 80), 2.5).reflectance
    top, left = row - ORIGIN[0], col - ORIGIN[1]
    assembled = scene.reflectance[:, top : top + 80, left : left + 80]
    # A tree or a house may fall on the other side of a threshold by the last bit; nearly nothing does.
    assert (np.abs(across - assembled) > 1e-3).any(axis=0).mean() < 0.002


def test_far_from_the_origin_the_world_is_as_sharp():
    """UTM northings reach ten million metres: places need more than 24 bits."""
    far = landscape((64, 64), origin_px=(-3_900_000, 250_000), seed=0)
    near = landscape((64, 64), origin_px=(-3_900_000 + 32, 250_000), seed=0)
    np.testing.assert_array_equal(far[:, 32:], near[:, :32])
    assert far.std(axis=(1, 2)).min() > 0.003


def test_another_seed_is_another_world():
    one, two = (landscape((64, 64), seed=seed) for seed in (0, 1))
    assert np.abs(one - two).mean() > 0.01


def test_bands_come_in_the_order_asked():
    everything = landscape((16, 16), seed=0)
    found = landscape((16, 16), seed=0, bands=("B08", "B02"))
    np.testing.assert_array_equal(found, everything[[3, 0]])
    with pytest.raises(UsageError, match="B10"):
        landscape((8, 8), bands=("B04", "B10"))


@given(st.lists(st.sampled_from(WORLD_BANDS), min_size=1, unique=True).map(tuple))
@settings(max_examples=12)
def test_a_band_does_not_depend_on_the_others(bands):
    """To the last bit: whoever asks for ten bands gets the four of before and six more."""
    where = {"seed": DEMO_SEED, "origin_px": DEMO_ORIGIN_PX, "shape": (24, 150), "pixel_m": 2.5}
    every, four, some = (render(**where, bands=names) for names in (WORLD_BANDS, BANDS_10M, bands))
    np.testing.assert_array_equal(every.reflectance[:4], four.reflectance)
    np.testing.assert_array_equal(some.reflectance, every.reflectance[[WORLD_BANDS.index(band) for band in bands]])
    np.testing.assert_array_equal(some.cover, four.cover)


def test_ten_bands_are_one_world_whatever_the_window():
    """Blocks of 2.5 m that are joined across their borders, in the bands of 20 m as well."""
    origin = (BLOCK - 20, -30)
    whole = landscape((40, 60), origin_px=origin, seed=1, bands=WORLD_BANDS)
    _block.cache_clear()
    part = landscape((17, 21), origin_px=(origin[0] + 9, origin[1] + 20), seed=1, bands=WORLD_BANDS)
    np.testing.assert_array_equal(part, whole[:, 9:26, 20:41])


def test_the_other_bands_look_their_part():
    row, col = DEMO_ORIGIN_PX
    scene = landscape_window(DEMO_SEED, (row + 60, col + 600), (512, 512), 2.5, WORLD_BANDS)
    assert scene.reflectance.min() > 0
    assert scene.reflectance.max() < 0.9
    look = {
        cover: dict(zip(WORLD_BANDS, np.median(scene.reflectance[:, scene.cover == cover], axis=1), strict=True))
        for cover in Cover
    }
    forest, water, soil, road = (look[cover] for cover in (Cover.FOREST, Cover.WATER, Cover.SOIL, Cover.ROAD))
    assert forest["B04"] < forest["B05"] < forest["B06"] < forest["B07"] < forest["B8A"], "the red edge rises"
    assert forest["B8A"] > forest["B11"] > forest["B12"], "leaves hold water"
    assert soil["B11"] > soil["B8A"] > soil["B05"] > soil["B02"], "dry ground is brightest in the short-wave infrared"
    assert max(water["B11"], water["B12"]) < 0.01, "water is black there"
    assert max(abs(road[band] - road["B04"]) for band in WORLD_BANDS) < 0.1, "asphalt is grey"


def test_the_other_bands_tell_more_than_the_four():
    """A share of what they show follows from the four, as in real scenes (0.75 to 0.9), not all of it."""
    row, col = DEMO_ORIGIN_PX
    image = landscape((512, 512), origin_px=(row + 60, col + 600), seed=DEMO_SEED, bands=WORLD_BANDS).reshape(10, -1)
    known = np.column_stack([*image[:4], np.ones(image.shape[1])])
    for name, band in zip(BANDS_20M, image[4:], strict=True):
        rest = band - known @ np.linalg.lstsq(known, band, rcond=None)[0]
        assert 0.6 < 1 - rest.var() / band.var() < 0.995, name


def test_every_cover_is_there_and_looks_its_part(demo):
    image = dict(zip(BANDS_10M, demo.reflectance, strict=True))
    assert demo.reflectance.dtype == np.float32
    assert demo.reflectance.min() > 0
    assert demo.reflectance.max() < 0.9
    share = np.bincount(demo.cover.ravel(), minlength=len(Cover)) / demo.cover.size
    assert (share > 0.002).all()
    assert (share < 0.7).all()
    ndvi = (image["B08"] - image["B04"]) / (image["B08"] + image["B04"])
    middle = {cover: float(np.median(ndvi[demo.cover == cover])) for cover in Cover}
    assert middle[Cover.FOREST] > 0.6 > middle[Cover.GRASS] > middle[Cover.ROAD] > middle[Cover.WATER]
    assert np.median(image["B08"][demo.cover == Cover.WATER]) < 0.04
    assert np.median(image["B04"][demo.cover == Cover.BUILDING]) > 0.12
    # Fields differ from one another far more than within themselves.
    fields = [ndvi[(demo.parcel == p) & (demo.cover == Cover.CROP)] for p in np.unique(demo.parcel)]
    fields = [f for f in fields if f.size > 200]
    assert np.std([f.mean() for f in fields]) > 1.5 * np.median([f.std() for f in fields])


def test_the_picture_is_neither_noise_nor_smooth(demo):
    red = demo.reflectance[2] - demo.reflectance[2].mean()
    nearby = [float((red[:, :-lag] * red[:, lag:]).mean() / red.var()) for lag in (1, 4, 40)]
    assert nearby[0] > 0.8 > nearby[1] > 0.4 > nearby[2]
    # What 10 m pixels lose is well above the noise of the sensor: there is something to restore.
    coarse = degrade(demo.reflectance, 4, band_mtf(BANDS_10M)).repeat(4, 1).repeat(4, 2)
    assert np.sqrt(np.mean((coarse - demo.reflectance) ** 2)) > 0.01


def test_roads_and_shores_are_thin_and_sharp(demo):
    road = demo.cover == Cover.ROAD
    water = demo.cover == Cover.WATER
    lone = road & ~np.roll(road, 3, 0) & ~np.roll(road, -3, 0) | road & ~np.roll(road, 3, 1) & ~np.roll(road, -3, 1)
    assert lone.sum() > 0.6 * road.sum(), "most road pixels belong to roads of at most five pixels"
    shore = np.abs(np.diff(demo.reflectance[3], axis=0))[np.diff(water, axis=0)]
    assert np.median(shore) > 0.05


def test_the_same_ground_at_another_pixel_size():
    row, col = DEMO_ORIGIN_PX
    fine = landscape((256, 256), origin_px=(row, col), seed=DEMO_SEED, pixel_m=2.5)
    coarse = landscape((128, 128), origin_px=(row // 2, col // 2), seed=DEMO_SEED, pixel_m=5.0)
    averaged = fine.reshape(4, 128, 2, 128, 2).mean(axis=(2, 4))
    for one, two in zip(averaged, coarse, strict=True):
        assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.9


# What it is drawn with


def test_smooth_noise_has_unit_variance_and_its_wavelength():
    y, x = np.arange(0, 40_000, 50.0), np.arange(-20_000, 20_000, 50.0)
    field = smooth_noise(3, "f", y, x, 400.0)
    assert field.std() == pytest.approx(1, abs=0.05)
    assert abs(field.mean()) < 0.05
    lags = [float((field[:, :-lag] * field[:, lag:]).mean()) for lag in (1, 8, 40)]
    assert lags[0] > 0.95
    assert 0.1 < lags[1] < 0.5
    assert abs(lags[2]) < 0.08
    assert fractal(3, "f", y, x, 400.0, octaves=5).std() == pytest.approx(1, abs=0.06)


def test_hashes_are_uniform_and_depend_on_every_number():
    i, j = np.meshgrid(np.arange(-200, 200), np.arange(-200, 200), indexing="ij")
    drawn = hash01(1, "h", i, j)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, 16, (0, 1))[0]
    assert np.abs(counts - drawn.size / 16).max() < 5 * np.sqrt(drawn.size / 16)
    for other in (hash01(1, "h", j, i), hash01(2, "h", i, j), hash01(1, "g", i, j), hash01(1, "h", i, j + 1)):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.02


def test_voronoi_borders_are_where_the_cell_changes():
    y, x = np.meshgrid(np.arange(0, 300, 1.0), np.arange(-150, 150, 1.0), indexing="ij")
    cells = voronoi(0, "v", y, x, 50.0)
    number = cells.row * 10_000 + cells.col
    change = number[:, :-1] != number[:, 1:]
    near = np.minimum(cells.edge_m[:, :-1], cells.edge_m[:, 1:])
    assert near[change].max() < 0.71
    assert (cells.edge_m >= 0).all()
    # Both sides of a border share its number.
    step = change & (near < 0.3)
    assert np.mean(np.abs(cells.border[:, :-1] - cells.border[:, 1:])[step] < 1e-6) > 0.95


@given(st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=50))
def test_a_line_is_cut_into_pieces_that_hold_their_points(places):
    u = np.sort(np.array(places))
    piece, start, end = split_axis(0, "cut", u)
    assert (np.diff(piece) >= 0).all()
    assert (start >= -1e-6).all()
    assert (end >= -1e-6).all()
    assert ((start + end) > 0.39).all()
    assert ((start + end) < 1.61).all()
