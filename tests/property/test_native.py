"""Bands of 20 m regrouped into their own pixels and back: any parity, size, window, hole and mirror."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.model.back_projection import BackProjectionResolver
from geodiff.model.baselines import BicubicResolver, MedianResolver
from geodiff.model.native import by_step, coarse_part, cut, fine_part, join
from geodiff.schema import BANDS_10M, BANDS_20M, FloatArray, Patch, Restoration

TEN = BANDS_10M + BANDS_20M
MIXED = ("B02", "B11", "B04", "B05")


def make_patch(
    seed: int, size: tuple[int, int], origin: tuple[int, int], *, bands: int = 2, times: int = 2, holes: float = 0.0
) -> tuple[Patch, FloatArray]:
    """A patch of native blocks cut at ``origin`` from an endless lattice, and the coarse pixels that it touches."""
    rng = np.random.default_rng(seed)
    (row, col), (height, width) = origin, size
    rows = np.arange(row, row + height) // 2 - row // 2
    cols = np.arange(col, col + width) // 2 - col // 2
    coarse = rng.uniform(0.01, 0.6, (times, bands, rows[-1] + 1, cols[-1] + 1)).astype(np.float32)
    valid = rng.uniform(size=(times, height, width)) >= holes
    patch = Patch(
        reflectance=np.where(valid[:, None], coarse[:, :, rows][..., cols], np.float32("nan")),
        valid=valid,
        days=np.arange(times, dtype=np.float64),
        target_day=0.0,
        target_index=0,
        shift_px=np.array([[0, 0], [0.5, -0.25]], np.float32)[:times],
        pixel_m=10.0,
        origin_px=origin,
    )
    return patch, coarse


SIZES = st.tuples(st.integers(1, 17), st.integers(1, 17))
ORIGINS = st.tuples(st.integers(-9, 9), st.integers(-9, 9))


@given(seed=st.integers(0, 99), size=SIZES, origin=ORIGINS)
def test_native_pixels_come_back_exactly_whatever_the_parity(
    seed: int, size: tuple[int, int], origin: tuple[int, int]
) -> None:
    patch, truth = make_patch(seed, size, origin)
    coarse, rows, cols = coarse_part(patch, (0, 1))
    np.testing.assert_array_equal(coarse.reflectance, truth)
    assert coarse.valid.all()
    assert coarse.origin_px == (origin[0] // 2, origin[1] // 2)
    assert coarse.pixel_m == 20.0
    np.testing.assert_array_equal(coarse.shift_px, patch.shift_px / 2)
    again = coarse.reflectance.repeat(2, -2).repeat(2, -1)[..., rows, cols]
    np.testing.assert_array_equal(again, patch.reflectance)


@given(seed=st.integers(0, 99), size=SIZES, origin=ORIGINS, holes=st.floats(0.05, 0.5))
def test_a_coarse_pixel_is_valid_where_all_of_it_in_the_patch_is(
    seed: int, size: tuple[int, int], origin: tuple[int, int], holes: float
) -> None:
    patch, truth = make_patch(seed, size, origin, holes=holes)
    coarse, rows, cols = coarse_part(patch, (0, 1))
    expected = np.ones(coarse.valid.shape, bool)
    for time, row, col in np.argwhere(~patch.valid):
        expected[time, (row + rows.start) // 2, (col + cols.start) // 2] = False
    np.testing.assert_array_equal(coarse.valid, expected)
    kept = np.broadcast_to(expected[:, None], truth.shape)
    np.testing.assert_array_equal(coarse.reflectance[kept], truth[kept])
    assert np.isfinite(coarse.reflectance).all()


@given(seed=st.integers(0, 99), origin=ORIGINS, rim=st.integers(1, 6))
def test_a_scene_mirrored_on_the_fine_lattice_is_mirrored_on_the_coarse_one(
    seed: int, origin: tuple[int, int], rim: int
) -> None:
    """At a scene that begins within a block the block itself is the mirror's axis, and it belongs to the scene."""
    scene, truth = make_patch(seed, (14, 15), origin)
    pad = ((0, 0), (0, 0), (rim, rim), (rim, rim))
    grown = replace(
        scene,
        reflectance=np.pad(scene.reflectance, pad, mode="symmetric"),
        valid=np.pad(scene.valid, pad[1:], mode="symmetric"),
        origin_px=(origin[0] - rim, origin[1] - rim),
        mirrored=(rim, rim, rim, rim),
    )
    coarse, _, _ = coarse_part(grown, (0, 1))
    top, bottom, left, right = coarse.mirrored
    own = coarse.reflectance[..., top : coarse.valid.shape[1] - bottom, left : coarse.valid.shape[2] - right]
    np.testing.assert_array_equal(own, truth)
    if top:
        inside = 1 if origin[0] % 2 else 0
        np.testing.assert_array_equal(
            coarse.reflectance[:, :, top - 1, left : left + truth.shape[3]], truth[:, :, inside]
        )


def test_what_is_not_in_blocks_is_averaged() -> None:
    patch, _ = make_patch(0, (4, 4), (0, 0))
    values = np.random.default_rng(1).uniform(size=(2, 2, 4, 4)).astype(np.float32)
    coarse, _, _ = coarse_part(replace(patch, reflectance=values), (1,))
    np.testing.assert_allclose(coarse.reflectance[:, 0], values[:, 1].reshape(2, 2, 2, 2, 2).mean((2, 4)), rtol=1e-6)


def test_bands_are_grouped_by_their_sampling() -> None:
    assert by_step(MIXED) == {1: (0, 2), 2: (1, 3)}
    assert by_step(BANDS_10M) == {1: (0, 1, 2, 3)}
    assert by_step(("B11",)) == {2: (0,)}


def test_all_bands_in_order_are_the_patch_itself() -> None:
    patch, _ = make_patch(0, (5, 6), (1, 0), bands=4)
    assert fine_part(patch, (0, 1, 2, 3)) is patch
    np.testing.assert_array_equal(fine_part(patch, (2, 0)).reflectance, patch.reflectance[:, [2, 0]])


def test_the_light_of_a_part_is_that_of_its_own_bands() -> None:
    patch, _ = make_patch(0, (4, 4), (0, 0))
    light = np.array([[0.0, 0.0], [0.1, 0.2]], np.float32)
    for part in (coarse_part(replace(patch, light=light), (1,))[0], fine_part(replace(patch, light=light), (1,))):
        np.testing.assert_array_equal(part.light, light[:, [1]])
    assert coarse_part(patch, (1,))[0].light is None


def test_parts_are_joined_in_the_order_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    mean, members = rng.normal(size=(4, 6, 6)), rng.normal(size=(3, 4, 6, 6))
    half, guessed = rng.normal(size=(2, 4, 6, 6)), rng.normal(size=(6, 6))

    def part(index: tuple[int, ...]) -> tuple[tuple[int, ...], Restoration]:
        take = list(index)
        return index, Restoration(mean[take], members[:, take], half[:, take], guessed * len(index))

    found = join([part((0, 2, 3)), part((1,))])
    np.testing.assert_array_equal(found.mean, mean)
    np.testing.assert_array_equal(found.members, members)
    assert found.half_width is not None
    assert found.guessed is not None
    np.testing.assert_array_equal(found.half_width, half)
    np.testing.assert_allclose(found.guessed, guessed * (3 * 3 + 1) / 4, rtol=1e-6)
    _, without = part((1,))
    assert join([part((0, 2, 3)), ((1,), Restoration(without.mean, without.members))]).half_width is None


def test_cutting_keeps_every_layer_and_leaves_out_what_is_not_there() -> None:
    layers = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)
    found = cut(Restoration(layers, layers[None], None, layers[0]), slice(1, 3), slice(0, 4), 2)
    np.testing.assert_array_equal(found.mean, layers[:, 2:6, 0:8])
    assert found.members.shape == (1, 2, 4, 8)
    assert found.half_width is None
    assert found.guessed is not None
    assert found.guessed.shape == (4, 8)


Kind = type[BicubicResolver] | type[MedianResolver] | type[BackProjectionResolver]
ALL = (BicubicResolver, MedianResolver, BackProjectionResolver)
HALO = 16


def ten_bands(seed: int, size: tuple[int, int], origin: tuple[int, int], *, holes: float = 0.0) -> Patch:
    """Noise in every pixel of the 10 m bands, native blocks in the others."""
    fine = np.random.default_rng(seed).uniform(0.01, 0.6, (2, 4, *size)).astype(np.float32)
    patch, _ = make_patch(seed, size, origin, bands=6, holes=holes)
    return replace(patch, reflectance=np.concatenate([fine, patch.reflectance], 1))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("origin", [(0, 0), (3, 4)])
def test_a_baseline_restores_each_band_from_its_own_pixels(kind: Kind, origin: tuple[int, int]) -> None:
    """Those of 10 m as if they were alone; those of 20 m as their native pixels at twice the factor."""
    patch = ten_bands(0, (30, 27), origin, holes=0.02)
    found = kind(TEN).restore(patch, members=0, seed=0)
    alone = kind(BANDS_10M).restore(fine_part(patch, range(4)), members=0, seed=0)
    np.testing.assert_array_equal(found.mean[:4], alone.mean)
    coarse, rows, cols = coarse_part(patch, range(4, 10))
    # Bands of other names are taken for those of the lattice that they come on.
    if kind is not BackProjectionResolver:  # which knows the optics of a band by its name
        native = kind(tuple("abcdef"), scale=8).restore(coarse, members=0, seed=0)
        np.testing.assert_array_equal(found.mean[4:], cut(native, rows, cols, 4).mean)
    assert found.members.shape == (0, 10, 120, 108)


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 99), down=st.integers(0, 8), right=st.integers(0, 8), origin=ORIGINS)
def test_a_window_of_any_parity_shows_the_same_pixels(
    kind: Kind, seed: int, down: int, right: int, origin: tuple[int, int]
) -> None:
    whole = ten_bands(seed, (56, 56), origin)
    rows, cols = slice(down, down + 44), slice(right, right + 44)
    part = replace(
        whole,
        reflectance=whole.reflectance[..., rows, cols],
        valid=whole.valid[..., rows, cols],
        origin_px=(origin[0] + down, origin[1] + right),
    )
    one, other = (kind(TEN).restore(patch, members=0, seed=0).mean for patch in (whole, part))
    inner = slice(4 * HALO, 4 * (44 - HALO))
    same = one[:, 4 * rows.start : 4 * rows.stop, 4 * cols.start : 4 * cols.stop][:, inner, inner]
    np.testing.assert_allclose(other[:, inner, inner], same, atol=2e-5)


def test_flat_bands_stay_flat_and_a_dark_patch_is_unknown() -> None:
    patch = ten_bands(0, (25, 25), (1, 1))
    level = np.linspace(0.1, 0.5, 10, dtype=np.float32)[:, None, None]
    flat = replace(patch, reflectance=np.zeros_like(patch.reflectance) + level)
    dark = replace(patch, valid=np.zeros_like(patch.valid))
    for kind in ALL:
        found = kind(TEN).restore(flat, members=0, seed=0).mean
        np.testing.assert_allclose(found, np.broadcast_to(level, found.shape), atol=1e-5)
        assert np.isnan(kind(TEN).restore(dark, members=0, seed=0).mean).all()
