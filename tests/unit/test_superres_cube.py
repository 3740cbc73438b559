"""``geodiff.superres(cube, ...)``: what it refuses before anything is read, and dates in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from geodiff.config import TileConfig
from geodiff.schema import UsageError
from geodiff.tasks.superres import superres
from geodiff.testing.tiny_models import random_cube

TILE = TileConfig(core=16, feather=4, halo=4)


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    return random_cube((20, 20), dates=3, clouds=0.2)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"every": "abc"}, "every"),
        ({"every": "0D"}, "every"),
        ({"target": "yesterday"}, "target"),
        ({"target": "2021-06-10", "every": "10D"}, "one of target and every"),
        ({"ensemble": -1}, "ensemble"),
        ({"passes": 0}, "passes"),
        ({"seed": -1}, "seed"),
        ({"max_dates": 0}, "max_dates"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_numbers_and_days_that_cannot_be(cube: xr.DataArray, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        superres(cube, model="bicubic", **asked)
    assert "\n" not in str(caught.value)


def test_cubes_that_cannot_be(cube: xr.DataArray) -> None:
    with pytest.raises(UsageError, match="dimensions"):
        superres(cube.isel(time=0), model="bicubic")
    with pytest.raises(UsageError, match="name its bands"):
        superres(cube.drop_vars("band"), model="bicubic")
    with pytest.raises(UsageError, match="no dates"):
        superres(cube.drop_vars("time"), model="bicubic")
    with pytest.raises(UsageError, match="no dates"):
        superres(cube.assign_coords(time=[1, 2, 3]), model="bicubic")


def test_cubes_whose_values_cannot_be(cube: xr.DataArray) -> None:
    with pytest.raises(UsageError, match="digital numbers, not reflectance"):
        superres(cube * 10_000, model="bicubic", tile=TILE)
    assert not superres(cube.where(False).drop_vars("valid"), model="bicubic", tile=TILE).valid.values.any()
    with pytest.raises(UsageError, match="twice: leave one out"):
        superres(xr.concat([cube, cube], "band"), model="bicubic", tile=TILE)


@pytest.mark.parametrize("kind", ["uint8", "float32", "percent"])
def test_a_mask_may_come_as_numbers(cube: xr.DataArray, kind: str) -> None:
    day = str(cube.time.values[1].astype("datetime64[D]"))
    wanted = superres(cube, target=day, model="bicubic", tile=TILE).compute()
    valid = cube.valid.astype("float32").where(cube.valid) if kind == "float32" else cube.valid.astype("uint8")
    given = cube.assign_coords(valid=valid * (100 if kind == "percent" else 1))
    xr.testing.assert_identical(superres(given, target=day, model="bicubic", tile=TILE).compute(), wanted)


def test_the_order_of_the_dates_changes_nothing(cube: xr.DataArray) -> None:
    day = str(cube.time.values[1].astype("datetime64[D]"))
    wanted = superres(cube, target=day, model="bicubic", tile=TILE).compute()
    found = superres(cube.isel(time=[2, 0, 1]), target=day, model="bicubic", tile=TILE).compute()
    xr.testing.assert_identical(found, wanted)
    assert np.isfinite(wanted.reflectance.values).any()


def test_without_a_target_the_clearest_date_is_restored(cube: xr.DataArray) -> None:
    ground = np.broadcast_to(cube.fillna(0.1).values[:1], cube.shape)  # no date is hazier than another
    for best in range(3):
        valid = cube.valid.copy(data=np.ones(cube.valid.shape, bool))
        for index in range(3):
            valid[index, : 4 * abs(index - best)] = False
        clouded = cube.copy(data=ground).assign_coords(valid=valid)
        day = str(cube.time.values[best].astype("datetime64[D]"))
        found, wanted = (superres(clouded, target=asked, model="bicubic", tile=TILE) for asked in (None, day))
        xr.testing.assert_identical(found.compute(), wanted.compute())
        assert str(found.time.values[0])[:10] == day
        # Where no mask tells, a pixel that one band lacks is not clear.
        red = (cube.band.values == "B04")[:, None, None]
        values = np.where(red & ~valid.values[:, None], np.float32(np.nan), ground)
        lacking = cube.copy(data=values).drop_vars("valid")
        assert str(superres(lacking, model="bicubic", tile=TILE).time.values[0])[:10] == day
