"""The detail of the 10 m bands in the 20 m bands: it finds mixtures, leaves no seams, and makes nothing up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.config import TileConfig
from geodiff.model.baselines import BicubicResolver
from geodiff.model.injection import InjectionResolver, local_gains
from geodiff.schema import BANDS_10M, BANDS_20M, FloatArray, Patch
from geodiff.sensor import band_mtf, degrade
from geodiff.testing.small_catalog import MIXED, small_ground
from geodiff.testing.tiny_models import random_patch, ten_bands

TEN = (*BANDS_10M, *BANDS_20M)
RESOLVER = InjectionResolver(TEN)


def _seen(truth: FloatArray, origin: tuple[int, int] = (0, 0)) -> Patch:
    """One date of a truth of ten bands at 2.5 m, each band through its own optics; cut at ``origin``."""
    fine = degrade(truth[:4], 4, band_mtf(BANDS_10M))
    coarse = degrade(truth[4:], 8, band_mtf(BANDS_20M)).repeat(2, 1).repeat(2, 2)
    image = np.concatenate([fine, coarse])[None, :, origin[0] :, origin[1] :]
    still = np.zeros((1, 2), np.float32)
    return Patch(image, np.ones((1, *image.shape[2:]), np.bool_), np.zeros(1), 0.0, 0, still, 10.0, origin)


def _mixtures(seed: int = 0) -> FloatArray:
    """Ten bands, of which those of 20 m are linear mixtures of the others."""
    four = small_ground((256, 320), seed=seed)
    six = np.tensordot(np.array([MIXED[band] for band in BANDS_20M], np.float32), four, 1)
    return np.concatenate([four, six.astype(np.float32)])


def _db(image: FloatArray, truth: FloatArray) -> FloatArray:
    inner = np.s_[:, 32:-32, 32:-32]
    found: FloatArray = -10 * np.log10(np.square(image[inner] - truth[inner]).mean((1, 2)))
    return found


@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (3, 5)])
def test_bands_that_are_mixtures_of_the_others_come_out_much_better_than_bicubic(origin: tuple[int, int]) -> None:
    truth = _mixtures()
    patch = _seen(truth, origin)
    truth = truth[:, 4 * origin[0] :, 4 * origin[1] :]
    smooth, sharp = (each.restore(patch, members=0, seed=0).mean for each in (BicubicResolver(TEN), RESOLVER))
    gain = _db(sharp, truth) - _db(smooth, truth)
    np.testing.assert_array_equal(sharp[:4], smooth[:4])
    assert gain[4:].min() > 2, gain
    # As good as if the 20 m bands had been sampled at 10 m.
    weights = np.array([MIXED[band] for band in BANDS_20M], np.float32)
    as_fine = np.tensordot(weights, smooth[:4], 1)
    assert np.abs(_db(sharp, truth)[4:] - _db(as_fine, truth[4:])).max() < 1.5


def test_gains_are_those_of_known_ground_and_none_without_any() -> None:
    """A band that is 0.5 of one guide less 2 of another, but where nobody knows it."""
    guides = torch.rand(1, 2, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = 0.3 + 0.5 * guides[:, 0] - 2 * guides[:, 1]
    known = torch.ones(20, 20, dtype=torch.bool)
    known[:, 12:] = False
    found = local_gains(torch.where(known, target, 0.9), torch.where(known, guides, 0.0), known)
    near = known | torch.nn.functional.pad(known, (2, 0))[:, :20]
    torch.testing.assert_close(found[0, 0, near], torch.full((14 * 20,), 0.5).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[0, 1, near], torch.full((14 * 20,), -2.0).double(), atol=1e-3, rtol=0)
    assert not found[0, :, ~near].any()


def test_detail_that_a_band_does_not_share_is_not_taken() -> None:
    truth = _mixtures()
    truth[4:] = 0.2
    found = RESOLVER.restore(_seen(truth), members=0, seed=0).mean
    np.testing.assert_allclose(found[4:], 0.2, atol=1e-6)


@pytest.mark.parametrize("bands", [BANDS_10M, BANDS_20M, ("B04",)])
def test_without_bands_of_both_samplings_it_is_bicubic(bands: tuple[str, ...]) -> None:
    patch = ten_bands(random_patch((13, 18), clouds=0.3, origin_px=(1, 4)))
    patch = replace(patch, reflectance=patch.reflectance[:, [TEN.index(band) for band in bands]])
    one, other = (each(bands).restore(patch, members=2, seed=0) for each in (InjectionResolver, BicubicResolver))
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.members, other.members)


def test_bands_in_another_order_are_the_same_bands() -> None:
    patch = ten_bands(random_patch((14, 16), clouds=0.2))
    order = [7, 2, 0, 9, 3, 4, 1, 8, 5, 6]
    turned = replace(patch, reflectance=patch.reflectance[:, order])
    other = InjectionResolver(tuple(TEN[i] for i in order)).restore(turned, members=0, seed=0).mean
    np.testing.assert_allclose(other, RESOLVER.restore(patch, members=0, seed=0).mean[order], atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    origin=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    clouds=st.sampled_from([0.0, 0.4, 1.1]),
)
def test_any_size_parity_and_hole(size: tuple[int, int], origin: tuple[int, int], clouds: float) -> None:
    patch = ten_bands(random_patch(size, clouds=clouds, origin_px=origin, seed=4))
    found = RESOLVER.restore(patch, members=2, seed=0)
    smooth = BicubicResolver(TEN).restore(patch, members=2, seed=0)
    assert found.members.shape == (0, 10, 4 * size[0], 4 * size[1])
    np.testing.assert_array_equal(np.isfinite(found.mean), np.isfinite(smooth.mean))
    dirty = np.where(patch.valid[:, None], patch.reflectance, np.float32("nan"))
    again = RESOLVER.restore(replace(patch, reflectance=dirty), members=2, seed=0)
    np.testing.assert_array_equal(again.mean, found.mean)


def test_a_hidden_target_is_sharpened_from_the_other_dates() -> None:
    truth = _mixtures()
    seen = _seen(truth)
    haze = np.full_like(seen.reflectance, 0.9)
    valid = np.concatenate([seen.valid, seen.valid])
    valid[0] = False
    patch = replace(
        seen,
        reflectance=np.concatenate([haze, seen.reflectance]),
        valid=valid,
        days=np.array([0.0, 5.0]),
        shift_px=np.zeros((2, 2), np.float32),
    )
    clear = RESOLVER.restore(seen, members=0, seed=0).mean
    np.testing.assert_allclose(RESOLVER.restore(patch, members=0, seed=0).mean, clear, atol=1e-5)


def test_a_pixel_looks_no_further_than_the_halo_of_a_tile() -> None:
    patch = ten_bands(random_patch((64, 64), dates=1))
    changed = patch.reflectance.copy()
    changed[:, :, 32:34, 32:34] += 0.3
    before, after = (
        RESOLVER.restore(replace(patch, reflectance=image), members=0, seed=0).mean
        for image in (patch.reflectance, changed)
    )
    _, rows, cols = np.nonzero(before != after)
    nearest = [np.maximum(np.maximum(32 - (at + 1) / 4, at / 4 - 34), 0) for at in (rows, cols)]
    assert 6 < max(float(each.max()) for each in nearest) < TileConfig().halo
