"""Sub-pixel shifts against known truth, and when they are not to be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from scipy import ndimage

from geodiff.grid import Grid
from geodiff.imagery.coregister import estimate_shifts, with_shifts
from geodiff.schema import SHIFT_X_M, SHIFT_Y_M, UsageError

FACTOR = 4
PIXEL_M = 10.0
# Displacement of each date in quarters of a pixel, (down, right).
QUARTERS = ((0, 0), (2, -1), (-3, 5), (7, 2), (1, 9), (-6, -7))


def degrade(fine: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """What a sensor with pixels four times as large sees of a scene moved by whole fine pixels (down, right)."""
    moved = ndimage.gaussian_filter(np.roll(fine, shift, (0, 1)), 0.45 * FACTOR)
    rows, cols = (size // FACTOR * FACTOR for size in moved.shape)
    blocks = moved[:rows, :cols].reshape(rows // FACTOR, FACTOR, cols // FACTOR, FACTOR)
    mean: np.ndarray = blocks.mean(axis=(1, 3))
    return mean


def cube_from(
    images: list[np.ndarray], valid: np.ndarray | None = None, *, pixel_m: tuple[float, float] = (PIXEL_M, PIXEL_M)
) -> xr.DataArray:
    """A cube with one visible band."""
    data = np.stack(images)[:, None].astype(np.float32)
    seen = np.ones((data.shape[0], *data.shape[2:]), bool) if valid is None else valid
    crs = "EPSG:32631"
    grid = Grid(crs, pixel_m, (500_000.0, 4_700_000.0), data.shape[2:])
    times = np.datetime64("2021-06-01", "ns") + np.arange(len(data)) * np.timedelta64(5, "D")
    coords = {"time": times, "band": ["B04"], "y": grid.y, "x": grid.x, "valid": (("time", "y", "x"), seen)}
    array = xr.DataArray(np.where(seen[:, None], data, np.nan), dims=("time", "band", "y", "x"), coords=coords)
    return array.rio.write_crs(crs).rio.write_transform(grid.transform)


def landscape(seed: int = 0, size: int = 640) -> np.ndarray:
    """Fields with sharp borders and texture inside, reflectance 0.02-0.3."""
    generator = np.random.default_rng(seed)
    fields = np.zeros((size, size))
    for width in (8, 20, 50):
        fields += np.kron(generator.random((size // width + 1, size // width + 1)), np.ones((width, width)))[
            :size, :size
        ]
    texture = ndimage.gaussian_filter(generator.normal(size=(size, size)), 1.5)
    fine: np.ndarray = 0.02 + 0.08 * ndimage.rotate(fields, 17, reshape=False, mode="wrap") + 0.05 * texture
    return fine


def truth_m() -> np.ndarray:
    """(time, 2) east and north in metres, in the frame of the median."""
    right_down = np.array([(right, -down) for down, right in QUARTERS]) / FACTOR * PIXEL_M
    return right_down - np.median(right_down, axis=0)


def dates(fine: np.ndarray, *, noise: float = 0.004) -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    made = []
    for index, quarters in enumerate(QUARTERS):
        image = degrade(fine, quarters)
        # Haze, another light, and noise of the sensor.
        made.append(0.03 * (index % 2) + (1 - 0.08 * index) * image + generator.normal(0, noise, image.shape))
    return made


def test_known_shifts_are_found_with_their_sign() -> None:
    found = estimate_shifts(cube_from(dates(landscape())))
    assert found.dims == ("time", "axis")
    assert list(found.axis.values) == ["east", "north"]
    assert found.shift_trusted.all()
    error_px = (found.values - truth_m()) / PIXEL_M
    assert np.sqrt((error_px**2).mean()) < 0.05, error_px


def test_the_frame_may_be_that_of_a_date() -> None:
    found = estimate_shifts(cube_from(dates(landscape())), reference=2)
    np.testing.assert_array_equal(found[2], [0, 0])
    np.testing.assert_allclose(found.values, truth_m() - truth_m()[2], atol=1.5)


def test_a_date_shown_too_far_east_and_north_has_positive_shifts() -> None:
    fine = landscape()
    cube = cube_from([degrade(fine, (0, 0)), degrade(fine, (-2, 6))])
    found = with_shifts(cube)
    east, north = (found[name].values for name in (SHIFT_X_M, SHIFT_Y_M))
    assert east[1] - east[0] == pytest.approx(15, abs=1)
    assert north[1] - north[0] == pytest.approx(5, abs=1)


def test_pixels_that_are_not_square_count_by_their_own_sides() -> None:
    fine = landscape()
    cube = cube_from([degrade(fine, (0, 0)), degrade(fine, (-4, 4))], pixel_m=(10.0, 20.0))
    found = estimate_shifts(cube, reference=0)
    np.testing.assert_allclose(found[1], [10, 20], atol=1.5)


def test_clouds_and_holes_do_not_pull_the_shift() -> None:
    images = dates(landscape())
    valid = np.ones((len(images), *images[0].shape), bool)
    for index in range(1, len(images)):
        top, left = 20 * index, 90 - 12 * index
        images[index][top : top + 50, left : left + 50] = 0.7
        valid[index, top : top + 50, left : left + 50] = False
    found = estimate_shifts(cube_from(images, valid))
    error_px = (found.values - truth_m()) / PIXEL_M
    assert found.shift_trusted.all()
    assert np.sqrt((error_px**2).mean()) < 0.1, error_px


def test_what_cannot_be_found_is_zero_and_not_trusted() -> None:
    fine = landscape()
    images = dates(fine)
    images[1] = degrade(landscape(seed=9), (0, 0))  # another place
    images[2] = degrade(fine, (0, 5 * FACTOR))  # beyond what registration errors can be
    valid = np.ones((len(images), *images[0].shape), bool)
    valid[3] = False  # all cloud
    images[4][:] = 0.2  # no detail at all
    found = estimate_shifts(cube_from(images, valid))
    assert list(found.shift_trusted.values) == [True, False, False, False, False, True]
    np.testing.assert_array_equal(found[1:5], 0)
    assert found[5, 0] - found[0, 0] == pytest.approx(-17.5, abs=1)


def test_a_bad_first_date_does_not_spoil_the_others() -> None:
    images = dates(landscape())
    images[0] = degrade(landscape(seed=9), (0, 0))
    found = estimate_shifts(cube_from(images))
    assert list(found.shift_trusted.values) == [False, True, True, True, True, True]
    truth = truth_m()[1:] - np.median(truth_m()[1:], axis=0)
    np.testing.assert_allclose(found[1:], truth, atol=1)


def test_single_and_all_cloud_cubes() -> None:
    image = degrade(landscape(), (0, 0))
    single = with_shifts(cube_from([image]))
    assert (single[SHIFT_X_M].values, single.shift_trusted.values) == (0, True)
    cloudy = with_shifts(cube_from([image, image], np.zeros((2, *image.shape), bool)))
    np.testing.assert_array_equal(cloudy[SHIFT_Y_M], 0)
    assert not cloudy.shift_trusted.any()
    with pytest.raises(UsageError, match="reference 3"):
        estimate_shifts(cube_from([image]), reference=3)


def test_chunks_and_dask_do_not_change_the_shifts() -> None:
    cube = cube_from(dates(landscape(size=400)))
    whole = estimate_shifts(cube)
    lazy = cube.chunk({"time": 1, "y": 37, "x": 64})
    np.testing.assert_array_equal(estimate_shifts(lazy), whole)


@pytest.mark.parametrize("name", ["majortom", "naip"])
def test_real_scenes_degraded_to_known_shifts(geodiff_data: Path, name: str) -> None:
    if name == "majortom":  # one scene seen six times
        with rasterio.open(geodiff_data / "sentinel2" / "majortom_t48que" / "B04.tif") as file:
            fine = [file.read(1).astype(np.float64) / 10_000] * len(QUARTERS)
    else:  # six different years of one place: fields change
        paths = sorted((geodiff_data / "aerial" / "naip_5m_nd").glob("*.tif"))[: len(QUARTERS)]
        fine = []
        for path in paths:
            with rasterio.open(path) as file:
                fine.append(file.read(1).astype(np.float64) / 800)

    def shifts(moves: tuple[tuple[int, int], ...]) -> np.ndarray:
        rows, cols = (min(image.shape[axis] for image in fine) for axis in (0, 1))
        images: list[Any] = [degrade(image[:rows, :cols], move) for image, move in zip(fine, moves, strict=True)]
        found = estimate_shifts(cube_from(images))
        assert found.shift_trusted.all()
        values: np.ndarray = found.values
        return values

    # The years lie off each other by themselves, so the change of the estimate is compared with the change of truth.
    change = shifts(QUARTERS) - shifts(((0, 0),) * len(QUARTERS))
    error_px = (change - np.median(change, axis=0) - truth_m()) / PIXEL_M
    assert np.sqrt((error_px**2).mean()) < 0.1, error_px
