"""Light: what brings another date to the brightness of the target is found, whatever changes on a part of the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from geodiff.imagery.light import FEWEST, light_samples, relative_light
from geodiff.schema import BAND, TIME, VALID, BoolArray, FloatArray, X, Y
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.targets import Target
from geodiff.testing.tiny_models import random_cube

PUT_IN = np.array([[0.0, 0.0], [0.05, 0.02], [-0.01, 0.03], [0.02, -0.02]])
"""Of four dates in two bands, reflectance."""


def _cube(values: FloatArray, valid: BoolArray) -> xr.DataArray:
    times = np.datetime64("2021-06-01", "ns") + np.arange(len(values)) * np.timedelta64(10, "D")
    coords = {TIME: times, BAND: ["B02", "B03"], VALID: ((TIME, Y, X), valid)}
    return xr.DataArray(values.astype(np.float32), dims=(TIME, BAND, Y, X), coords=coords)


def _ground(rows: int = 80, cols: int = 70) -> tuple[FloatArray, BoolArray]:
    """Rough ground under four lights, a third of it on each date under clouds."""
    random = np.random.default_rng(0)
    ground = 0.05 + 0.2 * random.random((2, rows, cols))
    values = ground + PUT_IN[:, :, None, None] + 0.003 * random.standard_normal((4, 2, rows, cols))
    valid = random.random((4, rows, cols)) > 0.3
    values = np.where(valid[:, None], values, 0.9)
    return values.astype(np.float32), valid


def _light(values: FloatArray, valid: BoolArray, target: int) -> FloatArray:
    return relative_light(light_samples(_cube(values, valid), range(len(values))), target)


@pytest.mark.parametrize("target", range(4))
def test_the_light_of_dates_is_found(target: int) -> None:
    values, valid = _ground()
    wanted = PUT_IN[target] - PUT_IN
    np.testing.assert_allclose(_light(values, valid, target), wanted, atol=1e-3)
    # What nobody masks is a minority: a harvested field, a missed cloud.
    values[1, :, :24] += 0.2
    values[2, :, 60:] = 0.8
    np.testing.assert_allclose(_light(values, valid, target), wanted, atol=4e-3)


def test_light_is_not_passed_on_through_a_date_in_between() -> None:
    """Two halves that share no ground tell nothing of each other, whatever a third date shows."""
    values, valid = _ground()
    valid[:] = True
    valid[0, :, 35:], valid[1, :, :35] = False, False
    found = _light(values, valid, 0)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2, 3]], (PUT_IN[0] - PUT_IN)[[0, 2, 3]], atol=4e-3)


def test_a_date_that_shares_too_little_has_no_light() -> None:
    few = np.full((2, 1, 2 * FEWEST), np.nan, np.float32)
    few[:, :, : FEWEST - 1] = 0.1
    assert np.isnan(relative_light(few, 0)).all()
    few[:, :, FEWEST - 1] = 0.1
    np.testing.assert_array_equal(relative_light(few, 0), 0)


@pytest.mark.parametrize(
    ("bands", "lifted", "known"), [("B03", 0.2, 0), ("B03", 0.1, 1), ("B08", 0.2, 1), ("B08", 0.4, 0)]
)
def test_what_a_missed_cloud_shows_is_not_taken_for_light(bands: str, lifted: float, known: int) -> None:
    """All that a mask left of an overcast date is a corner of its cloud; haze and season are believed."""
    values, valid = _ground()
    values[0] = values[1] + np.array([0.0, lifted])[:, None, None]
    valid[0] = False
    valid[0, :20, :20] = True
    samples = light_samples(_cube(values, valid), range(4))
    found = relative_light(samples, 0, ("B02", bands))
    assert np.isfinite(found).tolist() == [[True, True], *[[known, known]] * 3]
    assert np.isfinite(relative_light(samples, 0)).all()


def test_light_that_most_of_the_scene_shows_is_believed() -> None:
    values, valid = _ground()
    values[0] = values[1] + 0.5  # snow
    valid[:, :, 20:] = True
    found = relative_light(light_samples(_cube(values, valid), range(4)), 0, ("B02", "B03"))
    np.testing.assert_allclose(found[1:], 0.5 + PUT_IN[1] - PUT_IN[1:], atol=4e-3)


def test_large_regions_are_sampled() -> None:
    ground = np.random.default_rng(1).random((1, 1, 3000, 40)) * 0.1
    values = np.concatenate([ground, ground + 0.03]).repeat(2, 1).astype(np.float32)
    read: list[int] = []

    def note(block: FloatArray) -> FloatArray:
        read.append(block.shape[2])
        return block

    cube = _cube(values, np.ones((2, 3000, 40), bool)).chunk({Y: 50})
    cube = cube.copy(data=cube.data.map_blocks(note, dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32)))
    samples = light_samples(cube, (0, 1))
    np.testing.assert_allclose(relative_light(samples, 1)[0], 0.03, atol=1e-6)
    assert 1000 < sum(read) < 1500


def test_targets_get_the_light_of_their_dates_in_the_bands_of_the_model() -> None:
    cube = random_cube((24, 24), dates=4, clouds=0.2)
    offsets = np.array([[0.0] * 4, [0.1, 0.2, 0.0, 0.0], [0.0] * 4, [0.0] * 4])
    cube = cube + offsets[:, :, None, None]
    source = CubeSource(cube, ("B03", "B02"))
    seen, between, few = Target(0.0, 1, (0, 1, 3)), Target(0.5, None, (0, 1)), Target(0.0, 3, (1, 3))
    lit = source.lit((seen, between, few))
    assert lit[1] == between
    # Each target by its own dates: the others that are restored beside it change nothing.
    assert lit[0] == source.lit((seen,))[0]
    assert replace(lit[2], light=None) == few
    for target in (lit[0], lit[2]):
        assert target.light is not None
        own = source.cube.values
        for date, row in zip(target.dates, target.light, strict=True):
            wanted = np.nanmedian((own[target.index] - own[date]).reshape(2, -1), axis=1)
            np.testing.assert_allclose(row, wanted, atol=1e-6)
    assert source.lit((between,)) == (between,)


def test_a_target_of_which_only_a_missed_cloud_is_left_has_no_light() -> None:
    cube = random_cube((40, 40), dates=3, clouds=0.0)
    valid, values = cube[VALID].values.copy(), cube.values.copy()
    valid[1], valid[1, :12, :12], values[1] = False, True, 0.9
    clouded = cube.copy(data=values).assign_coords({VALID: ((TIME, Y, X), valid)})
    (target,) = CubeSource(clouded, ("B02", "B03")).lit((Target(0.0, 1, (0, 1, 2)),))
    assert np.isfinite(np.array(target.light)).all(1).tolist() == [False, True, False]
