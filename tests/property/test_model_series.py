"""What a resolver must hold for any patch: size, place, dates, clouds, target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geodiff.model.baselines import BicubicResolver, MedianResolver
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import BANDS_10M, Patch, Resolver
from geodiff.sensor import band_mtf, degrade
from geodiff.testing.strategies import patches
from geodiff.testing.tiny_models import reordered, tiny_denoiser

USUAL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MTF = band_mtf(BANDS_10M)


@pytest.fixture(scope="module", params=["diffusion", "bicubic", "median"])
def resolver(request: pytest.FixtureRequest) -> Resolver:
    if request.param == "diffusion":
        return DiffusionResolver("tiny", tiny_denoiser(), passes=2)
    return BicubicResolver(BANDS_10M) if request.param == "bicubic" else MedianResolver(BANDS_10M)


@USUAL
@given(patch=patches())
def test_every_patch_gives_numbers_where_ground_was_seen(resolver: Resolver, patch: Patch) -> None:
    restored = resolver.restore(patch, members=1, seed=0)
    _, bands, rows, cols = patch.reflectance.shape
    assert restored.mean.shape == (bands, 4 * rows, 4 * cols)
    assert not np.isinf(restored.mean).any()
    empty = np.isnan(restored.mean)
    assert (empty == empty[:1]).all(), "a pixel is there in every band or in none"
    if not patch.valid.any():
        assert empty.all()
    if patch.target_index is not None:
        clear = patch.valid[patch.target_index].repeat(4, 0).repeat(4, 1)
        assert not empty[:, clear].any()
    assert (np.isnan(restored.members) == empty[None]).all()


@USUAL
@given(patch=patches(min_side=2), garbage=st.sampled_from([np.nan, np.inf, -1e20]), order=st.randoms())
def test_order_and_garbage_are_of_no_account(resolver: Resolver, patch: Patch, garbage: float, order: object) -> None:
    wanted = resolver.restore(patch, members=1, seed=3)
    dirty = np.where(patch.valid[:, None], patch.reflectance, np.float32(garbage))
    found = resolver.restore(replace(patch, reflectance=dirty), members=1, seed=3)
    np.testing.assert_array_equal(found.mean, wanted.mean)
    np.testing.assert_array_equal(found.members, wanted.members)
    places = list(range(len(patch.days)))
    order.shuffle(places)  # type: ignore[attr-defined]
    mixed = reordered(patch, places)
    np.testing.assert_allclose(resolver.restore(mixed, members=1, seed=3).mean, wanted.mean, atol=2e-5)


@settings(USUAL, max_examples=15)
@given(patch=patches(), extra=st.floats(-300, 300))
def test_a_date_under_full_cloud_changes_nothing(resolver: Resolver, patch: Patch, extra: float) -> None:
    hidden = replace(
        patch,
        reflectance=np.concatenate([patch.reflectance, patch.reflectance[:1] + 1]),
        valid=np.concatenate([patch.valid, np.zeros_like(patch.valid[:1])]),
        days=np.append(patch.days, patch.target_day + extra),
        shift_px=np.concatenate([patch.shift_px, np.float32([[0.7, -0.3]])]),
    )
    wanted = resolver.restore(patch, members=0, seed=0).mean
    np.testing.assert_allclose(resolver.restore(hidden, members=0, seed=0).mean, wanted, atol=2e-5)


@USUAL
@given(patch=patches())
def test_a_clear_target_is_always_matched(patch: Patch) -> None:
    index = 0 if patch.target_index is None else patch.target_index
    image = np.nan_to_num(patch.reflectance, nan=0.2)
    valid = patch.valid.copy()
    valid[index] = True
    clear = replace(
        patch,
        reflectance=image,
        valid=valid,
        target_index=index,
        target_day=float(patch.days[index]),
        shift_px=patch.shift_px - patch.shift_px[index],
    )
    restored = DiffusionResolver("tiny", tiny_denoiser(), passes=2).restore(clear, members=1, seed=0)
    for member in (restored.mean, restored.members[0]):
        np.testing.assert_allclose(degrade(member, 4, MTF), image[index], atol=1e-5)
