"""Windows of a cube as patches: edges, signs, bands, and the tiles that are cut from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from geodiff.grid import TilePlan, Window
from geodiff.model.baselines import BicubicResolver
from geodiff.schema import BANDS_10M, FloatArray, Patch, Restoration, UsageError
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.lazy import lazy_dataset
from geodiff.tasks.targets import Target
from geodiff.tasks.windows import Recipe, input_window, piece_of, restore_window
from geodiff.testing.tiny_models import random_cube


@pytest.fixture
def cube() -> xr.DataArray:
    return random_cube((20, 30), dates=3, clouds=0.3)


@pytest.fixture
def source(cube: xr.DataArray) -> CubeSource:
    return CubeSource(cube, BANDS_10M)


def _target(source: CubeSource, index: int | None = 1) -> Target:
    return Target(float(source.days[1]) + (0.0 if index is not None else 0.5), index, (0, 1, 2))


def test_a_window_inside_is_the_cube_itself(cube: xr.DataArray, source: CubeSource) -> None:
    reflectance, valid = source.read([0, 2], Window(3, 5, 7, 11))
    seen = cube.isel(time=[0, 2], y=slice(3, 10), x=slice(5, 16))
    np.testing.assert_array_equal(valid, seen.valid.values)
    np.testing.assert_array_equal(reflectance, np.where(valid[:, None], seen.values, 0))
    assert np.isfinite(reflectance).all()


@pytest.mark.parametrize("window", [Window(-5, -9, 12, 14), Window(13, 25, 13, 12), Window(-12, -12, 44, 54)])
def test_beyond_the_grid_the_scene_is_mirrored(source: CubeSource, window: Window) -> None:
    whole, seen = source.read([0], Window(0, 0, 20, 30))
    wide = np.pad(whole, ((0, 0), (0, 0), (15, 15), (15, 15)), mode="symmetric")
    open_sky = np.pad(seen, ((0, 0), (15, 15), (15, 15)), mode="symmetric")
    rows, cols = window.slices_in(Window(-15, -15, 50, 60))
    reflectance, valid = source.read([0], window)
    np.testing.assert_array_equal(reflectance, wide[..., rows, cols])
    np.testing.assert_array_equal(valid, open_sky[..., rows, cols])


def test_what_is_read_does_not_depend_on_the_window(source: CubeSource) -> None:
    """One row of the grid and twelve beyond it: mirrored on the grid, not on the row."""
    narrow = source.read([1], Window(19, 0, 12, 30))
    wide = source.read([1], Window(0, 0, 31, 30))
    np.testing.assert_array_equal(narrow[0], wide[0][:, :, 19:])
    np.testing.assert_array_equal(narrow[1], wide[1][:, 19:])


def test_a_window_that_misses_the_grid_is_refused(source: CubeSource) -> None:
    with pytest.raises(ValueError, match="does not reach"):
        source.read([0], Window(40, 0, 5, 5))


def test_bands_come_in_the_order_of_the_model(cube: xr.DataArray) -> None:
    mixed = cube.isel(band=[2, 0, 3, 1])
    window = Window(0, 0, 20, 30)
    np.testing.assert_array_equal(
        CubeSource(mixed, BANDS_10M).read([0], window)[0], CubeSource(cube, BANDS_10M).read([0], window)[0]
    )
    with pytest.raises(UsageError, match="no band B08"):
        CubeSource(cube.isel(band=[0, 1, 2]), BANDS_10M)


def test_a_pixel_lacking_one_band_is_not_valid(cube: xr.DataArray) -> None:
    holed = cube.where((cube.band != "B03") | (cube.x != cube.x[4]))
    _, valid = CubeSource(holed, BANDS_10M).read([0, 1], Window(0, 0, 20, 30))
    assert not valid[:, :, 4].any()
    _, without = CubeSource(holed.drop_vars("valid"), BANDS_10M).read([0, 1], Window(0, 0, 20, 30))
    assert not without[:, :, 4].any()


def test_shifts_are_relative_to_the_target_in_pixels_down_and_right(cube: xr.DataArray) -> None:
    moved = cube.assign_coords(shift_x_m=("time", [0.0, 4.0, -6.0]), shift_y_m=("time", [0.0, 2.0, 10.0]))
    source = CubeSource(moved, BANDS_10M)
    found = source.shifts_px(_target(source))
    # East is right; north is up, so that a date 2 m further south lies 0.2 pixels further down.
    np.testing.assert_allclose(found, [[0.2, -0.4], [0.0, 0.0], [-0.8, -1.0]], atol=1e-6)
    between = source.shifts_px(_target(source, None))
    np.testing.assert_allclose(between, [[0.0, 0.0], [-0.2, 0.4], [-1.0, -0.6]], atol=1e-6)
    bare = CubeSource(cube.drop_vars(["shift_x_m", "shift_y_m"]), BANDS_10M)
    assert not bare.shifts_px(_target(bare)).any()


def test_a_patch_knows_its_days_target_and_place(source: CubeSource) -> None:
    at = Window(-2, -2, 24, 34)
    target = Target(float(source.days[2]), 2, (1, 2))
    patch = source.patch(target, Window(4, 5, 6, 7), source.read(target.dates, at), at)
    np.testing.assert_array_equal(patch.days, source.days[[1, 2]])
    assert patch.target_index == 1
    assert patch.pixel_m == pytest.approx(10.0)
    row0, col0 = source.grid.lattice_origin
    assert patch.origin_px == (row0 + 4, col0 + 5)
    np.testing.assert_array_equal(patch.reflectance, source.read(target.dates, Window(4, 5, 6, 7))[0])


class _Position:
    """A resolver whose output is the absolute place of each pixel: truth encoded in the fake."""

    name, scale, bands = "position", 4, BANDS_10M

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        rows, cols = patch.valid.shape[1:]
        down = (patch.origin_px[0] * 4 + np.arange(4 * rows))[:, None] % 4096
        right = (patch.origin_px[1] * 4 + np.arange(4 * cols))[None, :] % 4096
        mean: FloatArray = np.stack(np.broadcast_arrays(down, right, down * 0, right * 0 + seed)).astype(np.float32)
        offsets = np.arange(1, members + 1, dtype=np.float32)[:, None, None, None]
        return Restoration(mean=mean, members=mean + offsets)


@pytest.mark.parametrize(("core", "feather", "halo"), [(16, 0, 0), (16, 4, 8), (18, 5, 3), (256, 8, 16)])
def test_every_pixel_lands_where_it_belongs(source: CubeSource, core: int, feather: int, halo: int) -> None:
    recipe = Recipe(_Position(), TilePlan(source.grid, core=core, feather=feather, halo=halo), 3, 7, keep_member=True)
    row0, col0 = source.grid.lattice_origin
    for window in (Window(0, 0, 80, 120), Window(13, 50, 30, 41)):
        found = restore_window(source, _target(source), window, recipe)
        down = (row0 * 4 + window.top + np.arange(window.rows)) % 4096
        right = (col0 * 4 + window.left + np.arange(window.cols)) % 4096
        np.testing.assert_allclose(found.mean[0], np.broadcast_to(down[:, None], found.valid.shape), atol=1e-3)
        np.testing.assert_allclose(found.mean[1], np.broadcast_to(right, found.valid.shape), atol=1e-3)
        assert found.valid.all()
        # Root mean square of 1, 2, 3: the deviation from the mean, not from the members' own; 1.645 of it hold 90 %.
        np.testing.assert_allclose(found.uncertainty, 1.644854 * np.sqrt(14 / 3), rtol=1e-5)
        assert found.member is not None
        np.testing.assert_allclose(found.member, found.mean + 1, atol=1e-3)


def test_a_model_without_members_has_no_uncertainty(source: CubeSource) -> None:
    recipe = Recipe(BicubicResolver(BANDS_10M), TilePlan(source.grid, core=16, feather=4, halo=8), 3, 0)
    found = restore_window(source, _target(source), Window(0, 0, 80, 120), recipe)
    assert np.isnan(found.uncertainty).all()
    assert np.isfinite(found.mean).any()
    assert found.member is None


class _Layers(_Position):
    """Every layer has a value of its own; the third band of the ground's first pixels is not known."""

    levels = (0.9,)

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        rows, cols = (4 * side for side in patch.valid.shape[1:])
        mean = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None] / 10, (4, rows, cols)).copy()
        layers = Restoration(mean, mean[None] + np.float32(0.02), np.full((1, 4, rows, cols), 0.05, np.float32))
        top, left = patch.mirrored[0], patch.mirrored[2]
        if top and left:
            mean[2, : 4 * (top + 1), : 4 * (left + 1)] = np.nan
        return replace(layers, guessed=np.full((rows, cols), 0.6, np.float32))


def test_layers_of_a_lazy_result_are_what_their_names_say(cube: xr.DataArray, source: CubeSource) -> None:
    plan = TilePlan(source.grid, core=16, feather=0, halo=4)
    recipe = Recipe(_Layers(), plan, 1, 0, keep_member=True, keep_guessed=True)
    found = lazy_dataset(source, [_target(source), _target(source, None)], recipe, 50).compute()
    assert str(found.time.values[0])[:19] == str(cube.time.values[1])[:19], "with the time of the acquisition"
    assert found.time.values[1] - found.time.values[0] == np.timedelta64(12, "h")
    known = np.ones((2, 80, 120), np.bool_)
    known[:, :4, :4] = False
    np.testing.assert_array_equal(found.valid, known)
    for name, above in (("reflectance", 0.0), ("member", 0.02)):
        image = found[name].where(found.valid).values
        wanted = np.where(known[:, None], np.arange(4)[:, None, None] / 10 + above, np.nan)
        np.testing.assert_allclose(image, wanted, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty, 0.05, atol=1e-6)
    np.testing.assert_allclose(found.guessed, 0.6, atol=1e-6)


def test_the_model_sees_no_further_than_the_rim(source: CubeSource) -> None:
    plan = TilePlan(source.grid, core=16, feather=4, halo=40)
    for key in list(plan.keys()):
        seen = input_window(plan, key)
        inside = Window(0, 0, 20, 30)
        assert seen.intersect(inside) is not None
        assert seen.top >= -16
        assert seen.left >= -16
        assert seen.top + seen.rows <= 36
        assert seen.left + seen.cols <= 46


def test_pieces_are_cut_where_they_meet() -> None:
    values = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)
    at = Window(10, 20, 6, 8)
    piece = piece_of(values, at, Window(13, 0, 100, 24))
    assert piece is not None
    np.testing.assert_array_equal(piece, values[:, 3:, :4])
    assert piece_of(values, at, Window(0, 0, 10, 100)) is None


def test_a_failing_tile_releases_its_lock(source: CubeSource) -> None:
    from geodiff.tasks.windows import TileLocks

    class Failing(_Position):
        def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
            raise RuntimeError("no memory")

    locks = TileLocks()
    recipe = Recipe(Failing(), TilePlan(source.grid, core=16, feather=4, halo=8), 1, 0)
    with pytest.raises(RuntimeError, match="no memory"):
        restore_window(source, _target(source), Window(0, 0, 80, 120), recipe, locks=locks)
    again = replace(recipe, resolver=_Position())
    assert restore_window(source, _target(source), Window(0, 0, 80, 120), again, locks=locks).valid.all()
