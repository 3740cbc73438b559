"""The Wald protocol's pair: four bands as ever; with bands of 20 m each band at its own sampling."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from geodiff.imagery.lattice import grid_of
from geodiff.metrics.fidelity import cpsnr
from geodiff.model.baselines import BicubicResolver
from geodiff.schema import BAND, BANDS_10M, TIME, VALID, GeodiffError, Patch, Restoration, X, Y
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.wald import wald
from geodiff.tasks.wald_pair import CUT_PX, original, wald_pair
from geodiff.testing.series_cubes import series_cube, small_series
from geodiff.testing.tiny_models import random_cube

MIXED = ("B02", "B11", "B04", "B8A")
FINE, COARSE = [0, 2], [1, 3]


def mixed_cube(origin: tuple[float, float] = (501_760.0, 4_602_880.0), *, size: int = 152) -> xr.DataArray:
    """The bands B11 and B8A in blocks of 20 m on the absolute lattice, whatever the cube's corner."""
    cube = series_cube(small_series(size), origin=origin).assign_coords({BAND: list(MIXED)})
    row, col = grid_of(cube).lattice_origin
    rows, cols = (np.arange(first, first + size) // 2 - first // 2 for first in (row, col))
    native = cube.values[:, COARSE, : size // 2 + 1, : size // 2 + 1]
    cube.values[:, COARSE] = native[:, :, rows][..., cols]
    return cube


ORIGINS = [(501_760.0 + 10 * right, 4_602_880.0 - 10 * down) for down, right in ((0, 0), (1, 0), (2, 5), (7, 3))]


def test_four_bands_are_degraded_as_they_are() -> None:
    cube = series_cube(small_series(70, seed=1), origin=ORIGINS[1])
    cube[VALID].values[1, 20:30, 33:37] = False
    pair = wald_pair(cube, scale=4)
    assert original(cube) is cube
    inner = slice(4 * CUT_PX, 68 - 4 * CUT_PX)
    np.testing.assert_array_equal(pair.truth.values, cube.values[..., inner, inner])
    whole = degrade(cube.values[0, :, :68, :68], 4, band_mtf(BANDS_10M))
    np.testing.assert_array_equal(pair.low.values[0], whole[:, CUT_PX:-CUT_PX, CUT_PX:-CUT_PX])
    hidden = ~pair.low[VALID].values[1]
    assert hidden.nonzero()[0].tolist() == [3, 3, 4, 4, 5, 5]
    assert set(hidden.nonzero()[1]) == {6, 7}
    assert np.isnan(pair.low.values[1][:, hidden]).all()


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_original_holds_native_pixels_of_20_m(origin: tuple[float, float]) -> None:
    cube = mixed_cube(origin)
    cube[VALID].values[2, 51, 60] = False
    truth = original(cube)
    assert grid_of(truth).resolution == (20.0, 20.0)
    assert all(value % 20 == 0 for value in grid_of(truth).origin)
    top, left = (first % 2 for first in grid_of(cube).lattice_origin)
    own = cube.values[..., top : top + 2 * truth.sizes[Y], left : left + 2 * truth.sizes[X]]
    np.testing.assert_array_equal(truth.values[0, COARSE], own[0, COARSE, ::2, ::2])
    np.testing.assert_array_equal(truth.values[0, FINE], degrade(own[0, FINE], 2, band_mtf(("B02", "B04"))))
    assert (~truth[VALID].values).sum() == 1
    assert not truth[VALID].values[2, (51 - top) // 2, (60 - left) // 2]


@pytest.mark.parametrize("origin", ORIGINS)
def test_each_band_is_degraded_by_its_own_factor_and_optics(origin: tuple[float, float]) -> None:
    cube = mixed_cube(origin)
    pair = wald_pair(cube, scale=4)
    low, truth = pair.low, pair.truth
    assert grid_of(low).resolution == (80.0, 80.0)
    assert grid_of(low).lattice_origin[0] % 2 == 0
    assert grid_of(low).lattice_origin[1] % 2 == 0
    assert (truth.sizes[Y], truth.sizes[X]) == (4 * low.sizes[Y], 4 * low.sizes[X])
    assert grid_of(truth).origin == grid_of(low).origin
    assert min(low.sizes[Y], low.sizes[X]) >= 8
    blocks = low.values[:, COARSE]
    np.testing.assert_array_equal(blocks, blocks[..., ::2, ::2].repeat(2, -2).repeat(2, -1))
    # Away from its border, where the point spread is cut, the truth degrades to what is beside it.
    fine = degrade(truth.values[0, FINE], 4, band_mtf(("B02", "B04")))
    np.testing.assert_allclose(low.values[0, FINE][:, 2:-2, 2:-2], fine[:, 2:-2, 2:-2], atol=1e-6)
    coarse = degrade(truth.values[0, COARSE], 8, band_mtf(("B11", "B8A")))
    np.testing.assert_allclose(blocks[0, :, 4:-4:2, 4:-4:2], coarse[:, 2:-2, 2:-2], atol=1e-6)


def test_a_flat_scene_stays_flat() -> None:
    cube = mixed_cube()
    pair = wald_pair(cube * 0 + np.array([0.1, 0.2, 0.3, 0.4], np.float32)[:, None, None], scale=4)
    for part in (pair.low, pair.truth):
        np.testing.assert_allclose(part.values.mean((0, 2, 3)), [0.1, 0.2, 0.3, 0.4], rtol=1e-5)
        assert part.values.std((0, 2, 3)).max() < 1e-6


def test_clouds_darken_nothing_beside_them() -> None:
    cube = mixed_cube()
    flat = cube * 0 + np.float32(0.3)
    flat.values[:, :, 70:90, 81:99] = np.nan
    flat[VALID].values[:, 70:90, 81:99] = False
    pair = wald_pair(flat, scale=4)
    for part in (pair.low, pair.truth):
        assert not part[VALID].values.all()
        np.testing.assert_allclose(part.values[np.isfinite(part.values)], 0.3, rtol=1e-5)


def test_clouds_hide_what_covers_them() -> None:
    cube = mixed_cube()
    hole = np.zeros((152, 152), bool)
    hole[70, 81] = True
    cube = cube.where(~xr.DataArray(hole, dims=(Y, X)))
    cube[VALID].values[:, hole] = False
    pair = wald_pair(cube, scale=4)
    assert (~pair.low[VALID].values).sum() == cube.sizes[TIME]
    assert (~pair.truth[VALID].values).sum() == cube.sizes[TIME]
    seen = np.broadcast_to(pair.low[VALID].values[:, None], pair.low.shape)
    assert np.isfinite(pair.low.values[seen]).all()


def test_a_scene_that_is_too_small_is_said() -> None:
    with pytest.raises(GeodiffError, match=r"\(124, 124\) pixels is too small"):
        wald_pair(mixed_cube(size=124), scale=4)
    with pytest.raises(GeodiffError, match="too small"):
        wald_pair(series_cube(small_series(44)), scale=4)


class _Watched:
    """Bicubic, and keeps what it was shown."""

    name, scale, bands, deterministic = "watched", 4, BANDS_10M, True

    def __init__(self) -> None:
        self.shown: list[Patch] = []

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        self.shown.append(patch)
        return BicubicResolver(BANDS_10M).restore(patch, members=members, seed=seed)


def test_a_hidden_date_is_restored_without_itself_and_scored_apart() -> None:
    cube, watched = random_cube((96, 96), dates=3, clouds=0.0), _Watched()
    truth = wald_pair(cube, scale=4).truth
    found = wald(cube, [watched])
    assert [score.hidden for score in found.scores] == [False, True] * 3
    assert [score.date for score in found.scores[::2]] == [str(time)[:10] for time in cube[TIME].values]
    for date, (seen, hidden) in enumerate(zip(watched.shown[::2], watched.shown[1::2], strict=True)):
        assert (seen.target_index, hidden.target_index) == (date, None)
        np.testing.assert_array_equal(hidden.reflectance, np.delete(seen.reflectance, date, 0))
        mean = BicubicResolver(BANDS_10M).restore(seen, members=0, seed=0).mean
        inside = tuple(slice(4 * before, 4 * (side - after)) for before, after, side in _sides(seen))
        assert found.scores[2 * date].cpsnr_db == pytest.approx(cpsnr(mean[:, *inside], truth.values[date]), abs=1e-3)
    for hidden in (False, True):
        own = [score.cpsnr_db for score in found.scores if score.hidden == hidden]
        assert found.mean_db(hidden=hidden) == {"watched": pytest.approx(np.mean(own))}
    assert found.mean_db(hidden=False)["watched"] > found.mean_db(hidden=True)["watched"]


def _sides(patch: Patch) -> list[tuple[int, int, int]]:
    top, bottom, left, right = patch.mirrored
    return [(top, bottom, patch.valid.shape[1]), (left, right, patch.valid.shape[2])]
