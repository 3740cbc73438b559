"""Clear pixels: classes, growth in metres, and the screen for scenes without a classification."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio

from geodiff.config import MaskConfig
from geodiff.imagery.masking import scl_valid, spectral_cloud_screen
from geodiff.schema import GeodiffError

PIXEL_M = (10.0, 10.0)
CLEAR = 4


def test_only_the_configured_classes_are_hidden() -> None:
    classes = np.arange(12, dtype=np.uint8)[None]
    default = scl_valid(classes, MaskConfig(dilation_m=0), PIXEL_M)[0]
    assert [int(c) for c in classes[0][~default]] == [0, 1, 3, 8, 9, 10]
    snow_too = scl_valid(classes, MaskConfig(dilation_m=0, scl_classes=(0, 11)), PIXEL_M)[0]
    assert [int(c) for c in classes[0][~snow_too]] == [0, 11]


@pytest.mark.parametrize(
    ("pixel_m", "dilation_m", "reach"),
    [((10, 10), 40, (4, 4)), ((20, 10), 40, (4, 2)), ((10, 10), 10, (1, 1)), ((10, 10), 9, (0, 0))],
)
def test_growth_is_a_disk_in_metres(pixel_m: tuple[float, float], dilation_m: float, reach: tuple[int, int]) -> None:
    classes = np.full((31, 31), CLEAR, np.uint8)
    classes[15, 15] = 9
    hidden = ~scl_valid(classes, MaskConfig(dilation_m=dilation_m), pixel_m)
    rows, cols = np.nonzero(hidden)
    assert (rows.max() - 15, cols.max() - 15) == reach
    distance = np.hypot((rows - 15) * pixel_m[1], (cols - 15) * pixel_m[0])
    assert distance.max() <= dilation_m
    assert hidden.sum() < (2 * reach[0] + 1) * (2 * reach[1] + 1) or reach == (0, 0)


def test_edges_of_the_swath_do_not_grow() -> None:
    classes = np.full((20, 20), CLEAR, np.uint8)
    classes[:, :10] = 0
    np.testing.assert_array_equal(scl_valid(classes, MaskConfig(dilation_m=100), PIXEL_M), classes == CLEAR)


@pytest.mark.parametrize(("pixel_m", "dilation_m"), [((10, 10), 10), ((30, 10), 60), ((10, 30), 60), ((10, 10), 9)])
def test_chunks_do_not_change_the_growth(pixel_m: tuple[float, float], dilation_m: float) -> None:
    classes = np.where(np.random.default_rng(1).random((41, 43)) < 0.01, 9, CLEAR).astype(np.uint8)
    mask = MaskConfig(dilation_m=dilation_m)
    lazy = scl_valid(da.from_array(classes, (7, 9)), mask, pixel_m)
    np.testing.assert_array_equal(lazy.compute(), scl_valid(classes, mask, pixel_m))


def series(dates: int = 6) -> np.ndarray:
    """(time, 3, 80, 80): dark land with a little change between the dates, blue red near-infrared."""
    generator = np.random.default_rng(0)
    land = np.array([0.04, 0.06, 0.25], np.float32)[None, :, None, None]
    return (land + generator.normal(0, 0.004, (dates, 3, 80, 80))).astype(np.float32)


def test_screen_finds_a_cloud_and_its_shadow_and_leaves_the_rest() -> None:
    image = series()
    image[2, :, 20:35, 20:35] = 0.45
    image[2, :, 45:55, 45:55] *= 0.3
    clear = spectral_cloud_screen(image, MaskConfig(dilation_m=0), PIXEL_M)
    hidden = np.zeros((80, 80), bool)
    hidden[20:35, 20:35] = hidden[45:55, 45:55] = True
    assert (clear[2] == ~hidden).mean() > 0.99
    assert clear[[0, 1, 3, 4, 5]].all()


def test_screen_takes_darkening_far_from_clouds_and_bright_soil_for_change_on_the_ground() -> None:
    image = series()
    image[3, :, 10:30, 10:30] *= 0.3  # flooded, no cloud on that date
    image[4, :, 40:60, 40:60] = np.array([0.2, 0.32, 0.4])[:, None, None]  # a bare shore
    assert spectral_cloud_screen(image, MaskConfig(), PIXEL_M).all()


def test_screen_knows_a_surface_that_is_always_bright_from_a_cloud() -> None:
    image = series()
    image[:, :, 30:50, 30:50] = 0.4 + np.linspace(0, 0.01, 6, dtype=np.float32)[:, None, None, None]
    assert spectral_cloud_screen(image, MaskConfig(), PIXEL_M).all()
    assert not spectral_cloud_screen(image[:1], MaskConfig(), PIXEL_M)[0, 40, 40]  # one date cannot tell


def test_screen_hides_a_date_that_is_all_cloud_even_alone() -> None:
    cloud = np.full((1, 3, 40, 40), 0.5, np.float32)
    assert not spectral_cloud_screen(cloud, MaskConfig(), PIXEL_M).any()


def test_screen_bears_missing_data() -> None:
    image = series()
    image[:, :, :, 60:] = np.nan
    image[2] = np.nan
    image[1, :, 10:30, 10:30] = 0.5
    clear = spectral_cloud_screen(image, MaskConfig(dilation_m=0), PIXEL_M)
    assert not clear[1, 15, 15]
    assert clear[[0, 2, 3]].all()


def test_screen_judges_a_pixel_by_the_dates_that_saw_it() -> None:
    image = series()
    image[[0, 2, 3, 5], :, :, 40:] = np.nan  # another swath, of two dates
    image[1, :, 10:70, 50:70] = 0.2  # a cloud that is not bright by itself
    clear = spectral_cloud_screen(image, MaskConfig(dilation_m=0), PIXEL_M)
    assert not clear[1, 10:70, 50:70].any()
    assert clear[4].all()


def test_screen_takes_dark_water_beside_a_cloud_for_water() -> None:
    image = series()
    image[:, 2] = 0.08
    image[2, 2, 45:55, 45:55] = 0.03
    image[2, :, 20:35, 20:35] = 0.45
    clear = spectral_cloud_screen(image, MaskConfig(dilation_m=0), PIXEL_M)
    assert not clear[2, 21:34, 21:34].any()
    assert clear[2, 40:, 40:].all()


@pytest.mark.parametrize("pixel_m", [(100.0, 100.0), (200.0, 100.0), (100.0, 200.0)])
def test_chunks_smaller_than_the_reach_of_a_shadow_change_nothing(pixel_m: tuple[float, float]) -> None:
    """The shadow lies as far from its cloud as it may, and grows beyond."""
    image = series()
    image[2, :, 30:36, 30:36] = 0.45
    image[2, 2, :, 40:] *= 0.3
    image[2, 2, 40:] *= 0.3
    mask = MaskConfig(dilation_m=500)
    whole = spectral_cloud_screen(image, mask, pixel_m)
    lazy = spectral_cloud_screen(da.from_array(image, (1, 3, 5, 5)), mask, pixel_m)
    np.testing.assert_array_equal(lazy.compute(), whole)


def test_screen_refuses_other_bands() -> None:
    with pytest.raises(GeodiffError, match="B02"):
        spectral_cloud_screen(np.zeros((2, 4, 8, 8), np.float32), MaskConfig(), PIXEL_M)


@pytest.mark.parametrize("chunk", [7, 33, 80])
def test_chunks_do_not_change_the_screen(chunk: int) -> None:
    image = series()
    image[2, :, 20:35, 20:35] = 0.45
    image[2, :, 45:55, 45:55] *= 0.3
    whole = spectral_cloud_screen(image, MaskConfig(), PIXEL_M)
    lazy = spectral_cloud_screen(da.from_array(image, (1, 3, chunk, chunk)), MaskConfig(), PIXEL_M)
    np.testing.assert_array_equal(lazy.compute(), whole)
    assert lazy.chunks[1][0] == chunk


def test_screen_on_boadella(geodiff_data: Path) -> None:
    paths = sorted((geodiff_data / "sentinel2" / "boadella").glob("*.tif"))
    stack = []
    for path in paths:
        with rasterio.open(path) as file:
            stack.append(file.read([2, 4, 8]).astype(np.float32) / 10_000)
    clear = spectral_cloud_screen(np.stack(stack), MaskConfig(), PIXEL_M).mean(axis=(1, 2))
    share = {path.stem[-10:]: float(value) for path, value in zip(paths, clear, strict=True)}
    assert share.pop("2020-01-18") < 0.01  # all cloud
    assert share.pop("2020-01-23") < 0.2  # mostly cloud
    assert share.pop("2020-01-13") > 0.9  # haze all over
    assert min(share.values()) > 0.95, share
