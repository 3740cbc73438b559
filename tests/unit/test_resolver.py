"""From patch to restored patch: pure, honest about what was seen, any size and place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from geodiff.model.baselines import BicubicResolver, MedianResolver
from geodiff.model.images import ImageContext, ImageDenoiser
from geodiff.model.members import DeviationFilter
from geodiff.model.patches import hide
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import BANDS_10M, FloatArray, GeodiffError, Patch, Resolver, Restoration
from geodiff.sensor import band_mtf, degrade
from geodiff.testing.tiny_models import random_patch, reordered, tiny_config, tiny_denoiser

MTF = band_mtf(BANDS_10M)


@pytest.fixture(scope="module")
def diffusion() -> DiffusionResolver:
    return DiffusionResolver("tiny", tiny_denoiser(), passes=2)


@pytest.fixture(params=["diffusion", "bicubic", "median"])
def resolver(request: pytest.FixtureRequest, diffusion: DiffusionResolver) -> Resolver:
    found: Resolver = {"bicubic": BicubicResolver(BANDS_10M), "median": MedianResolver(BANDS_10M)}.get(
        request.param, diffusion
    )
    return found


def _same(a: FloatArray, b: FloatArray) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def test_shapes_and_types(resolver: Resolver) -> None:
    restored = resolver.restore(random_patch((12, 20)), members=3, seed=0)
    assert restored.mean.shape == (4, 48, 80)
    assert restored.mean.dtype == restored.members.dtype == np.float32
    assert restored.members.shape == ((3 if isinstance(resolver, DiffusionResolver) else 0), 4, 48, 80)
    assert np.isfinite(restored.mean).all()


def test_weights_that_overflow_are_told_and_give_no_hole() -> None:
    model = tiny_denoiser()
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1e38)
    for passes in (1, 2):
        with pytest.raises(GeodiffError, match="the model gives no finite values"):
            DiffusionResolver("huge", model, passes=passes).restore(random_patch(clouds=0.3), members=2, seed=0)


def test_members_that_overflow_alone_are_told_but_under_hidden_ground() -> None:
    known = torch.tensor([[True, False]])
    for place, refused in ((0, True), (7, False)):
        members = np.zeros((2, 4, 4, 8), np.float32)
        members[1, 2, 3, place] = np.inf
        restored = Restoration(np.zeros((4, 4, 8), np.float32), members)
        if refused:
            with pytest.raises(GeodiffError, match="no finite values"):
                hide(restored, known, 4)
        else:
            assert np.isnan(hide(restored, known, 4).members[..., 4:]).all()


def test_the_patch_is_not_changed_and_may_be_read_only(resolver: Resolver) -> None:
    patch = random_patch(clouds=0.4)
    before = [patch.reflectance.copy(), patch.valid.copy(), patch.shift_px.copy()]
    for array in (patch.reflectance, patch.valid, patch.days, patch.shift_px):
        array.flags.writeable = False
    resolver.restore(patch, members=1, seed=0)
    assert all(_same(a, b) for a, b in zip(before, (patch.reflectance, patch.valid, patch.shift_px), strict=True))


def test_the_result_is_a_function_of_the_arguments_in_any_thread(resolver: Resolver) -> None:
    patches = [random_patch(clouds=0.3, seed=seed) for seed in (0, 1)]
    wanted = [resolver.restore(patch, members=2, seed=7) for patch in patches]
    torch.manual_seed(99)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: resolver.restore(patches[i % 2], members=2, seed=7), range(8)))
        found += [resolver.restore(patches[i % 2], members=2, seed=7) for i in range(2)]
        assert torch.get_num_threads() == 2, "the caller's setting is given back"
    finally:
        torch.set_num_threads(threads)
    for number, restored in enumerate(found):
        assert _same(restored.mean, wanted[number % 2].mean)
        assert _same(restored.members, wanted[number % 2].members)


def test_the_seed_and_the_place_decide_the_members_not_the_mean(diffusion: DiffusionResolver) -> None:
    patch = random_patch((16, 16))
    first = diffusion.restore(patch, members=2, seed=0)
    other = diffusion.restore(patch, members=2, seed=1)
    assert _same(first.mean, other.mean)
    assert np.abs(first.members - other.members).max() > 1e-4
    elsewhere = diffusion.restore(replace(patch, origin_px=(64, -128)), members=2, seed=0)
    assert _same(first.mean, elsewhere.mean)
    assert np.abs(first.members - elsewhere.members).max() > 1e-4


def test_more_members_keep_the_first_ones(diffusion: DiffusionResolver) -> None:
    patch = random_patch((16, 16))
    few, many = (diffusion.restore(patch, members=n, seed=0) for n in (3, 5))
    assert _same(many.members[:3], few.members)
    assert _same(many.mean, few.mean)
    assert len({member.tobytes() for member in many.members}) == 5
    assert diffusion.restore(patch, members=0, seed=0).members.shape == (0, 4, 64, 64)


def _deaf() -> DiffusionResolver:
    """A model that has no say on the noise: members deviate pixel by pixel as their noise does."""
    model = tiny_denoiser()
    with torch.no_grad():
        model.detail.weight.zero_()
        model.detail.bias.zero_()
    return DiffusionResolver("tiny", model, passes=2)


def test_patches_that_overlap_share_the_noise_of_the_ground_they_share() -> None:
    """Else members would break at every border of a tile."""
    free = replace(_deaf(), consistent=False)
    whole, part = (
        free.restore(random_patch(shape, origin_px=origin), members=2, seed=0)
        for shape, origin in (((32, 40), (-8, 60)), ((12, 16), (4, 72)))
    )
    shared = (whole.members - whole.mean)[..., 4 * 12 : 4 * 24, 4 * 12 : 4 * 28]
    assert shared.std() > 1e-4
    np.testing.assert_allclose(part.members - part.mean, shared, atol=1e-6)


def test_members_come_in_pairs_whose_noise_is_opposite() -> None:
    """Without the network's say on the noise, the members of a pair lie mirrored about the mean."""
    restored = _deaf().restore(random_patch((16, 16)), members=4, seed=0)
    for pair in (restored.members[:2], restored.members[2:]):
        np.testing.assert_allclose(pair.mean(0), restored.mean, atol=1e-6)
    assert np.abs(restored.members[0] - restored.members[2]).max() > 1e-4


def test_one_pass_has_no_members_and_the_spread_scales_those_of_more(diffusion: DiffusionResolver) -> None:
    patch = random_patch((16, 16))
    single = replace(diffusion, passes=1).restore(patch, members=2, seed=0)
    usual = diffusion.restore(patch, members=2, seed=0)
    assert len(single.members) == 0
    np.testing.assert_allclose(single.mean, usual.mean, atol=1e-6)
    wide = replace(diffusion, spread=DeviationFilter(((2.0,),))).restore(patch, members=2, seed=0)
    np.testing.assert_allclose(wide.members - wide.mean, 2 * (usual.members - usual.mean), atol=2e-5)


@pytest.mark.parametrize("shape", [(24, 24), (23, 30), (1, 1), (2, 17), (5, 64)])
@pytest.mark.parametrize("origin", [(0, 0), (-3, 1), (1001, 7)])
def test_any_size_and_place_with_the_constraint_up_to_the_edge(
    diffusion: DiffusionResolver, shape: tuple[int, int], origin: tuple[int, int]
) -> None:
    patch = random_patch(shape, origin_px=origin)
    restored = diffusion.restore(patch, members=1, seed=0)
    assert restored.mean.shape == (4, 4 * shape[0], 4 * shape[1])
    for image in (restored.mean, restored.members[0]):
        np.testing.assert_allclose(degrade(image, 4, MTF), patch.reflectance[0], atol=1e-5)


def test_an_odd_patch_is_the_even_one_with_its_rest_hidden(diffusion: DiffusionResolver) -> None:
    odd = random_patch((22, 27), origin_px=(2, -3))
    free = replace(diffusion, consistent=False)
    restored = free.restore(odd, members=2, seed=0)
    pad = ((0, 0), (2, 0), (1, 0))
    even = replace(
        odd,
        reflectance=np.pad(odd.reflectance, ((0, 0), *pad), constant_values=np.nan),
        valid=np.pad(odd.valid, pad),
        origin_px=(0, -4),
    )
    whole = free.restore(even, members=2, seed=0)
    assert _same(restored.mean, whole.mean[:, 8:, 4:])
    assert _same(restored.members, whole.members[:, :, 8:, 4:])


def test_a_partly_cloudy_target_is_matched_where_it_is_clear(diffusion: DiffusionResolver) -> None:
    patch = random_patch((24, 28), dates=4, clouds=0.4, target_index=2)
    restored = diffusion.restore(patch, members=2, seed=0)
    clear = patch.valid[2]
    assert 0.2 < clear.mean() < 0.9
    filled = np.nan_to_num(restored.mean)
    known = np.isfinite(restored.mean).all(0)
    # A clear pixel next to ground that no date shows has part of its footprint there.
    surely = clear & (degrade(known[None].astype(np.float32), 4, (0.2,))[0] > 1 - 1e-6)
    assert surely.sum() > 50
    seen = degrade(filled, 4, MTF)
    assert np.abs(seen - patch.reflectance[2])[:, surely].max() < 1e-5


def test_garbage_under_masks_never_shows(resolver: Resolver) -> None:
    patch = random_patch(clouds=0.5, dates=4, seed=3)
    clean = resolver.restore(patch, members=1, seed=0)
    for garbage in (np.nan, np.inf, -np.inf, 1e30):
        dirty = np.where(patch.valid[:, None], patch.reflectance, np.float32(garbage))
        found = resolver.restore(replace(patch, reflectance=dirty), members=1, seed=0)
        assert _same(found.mean, clean.mean)
        assert _same(found.members, clean.members)


def test_nothing_seen_is_nothing_restored(resolver: Resolver) -> None:
    patch = random_patch((8, 8))
    dark = replace(patch, valid=np.zeros_like(patch.valid), reflectance=np.full_like(patch.reflectance, np.nan))
    restored = resolver.restore(dark, members=2, seed=0)
    assert restored.mean.shape == (4, 32, 32)
    assert np.isnan(restored.mean).all()
    assert np.isnan(restored.members).all()


def test_ground_that_no_date_shows_is_nan_and_the_rest_is_not(resolver: Resolver) -> None:
    patch = random_patch((24, 24))
    patch = replace(patch, shift_px=np.zeros_like(patch.shift_px))
    valid = patch.valid.copy()
    valid[:, 8:12, 4:16] = False
    restored = resolver.restore(replace(patch, valid=valid), members=1, seed=0)
    hidden = np.zeros((96, 96), bool)
    hidden[32:48, 16:64] = True
    np.testing.assert_array_equal(np.isnan(restored.mean), np.broadcast_to(hidden, (4, 96, 96)))


def test_a_hidden_target_is_restored_from_the_other_dates(resolver: Resolver) -> None:
    patch = random_patch((16, 16), target_index=None)
    restored = resolver.restore(patch, members=1, seed=0)
    assert np.isfinite(restored.mean).all()
    nearest = patch.reflectance[int(np.abs(patch.days - patch.target_day).argmin())]
    assert abs(float(restored.mean.mean()) - float(nearest.mean())) < 0.1


def test_the_order_of_dates_is_of_no_account(resolver: Resolver) -> None:
    patch = random_patch((16, 16), dates=4, clouds=0.3)
    order = [2, 0, 3, 1]
    mixed = reordered(patch, order)
    first, second = (resolver.restore(p, members=1, seed=0).mean for p in (patch, mixed))
    np.testing.assert_allclose(first, second, atol=1e-5)


def _ramp(shifts: list[float], target: int) -> Patch:
    """A slope to the east seen from shifted frames: reflectance 0.1 + 0.01 x."""
    x = np.arange(32, dtype=np.float32)
    images = np.stack([np.broadcast_to(0.1 + 0.01 * (x - shift), (4, 16, 32)) for shift in shifts]).astype(np.float32)
    patch = random_patch((16, 32), dates=len(shifts), target_index=target)
    relative = np.array([[0.0, shift - shifts[target]] for shift in shifts], np.float32)
    return replace(patch, reflectance=images, shift_px=relative)


def test_baselines_bring_displaced_dates_home(diffusion: DiffusionResolver) -> None:
    patch = _ramp([0.0, 1.0, -1.0], 0)
    hidden = patch.valid.copy()
    hidden[0] = False
    wanted = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean[..., 16:-16]
    for baseline in (BicubicResolver(BANDS_10M), MedianResolver(BANDS_10M)):
        found = baseline.restore(replace(patch, valid=hidden), members=0, seed=0).mean[..., 16:-16]
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_bicubic_keeps_a_constant_and_the_median_resists_an_outlier() -> None:
    patch = random_patch((8, 8), dates=5)
    flat = replace(
        patch,
        reflectance=np.full_like(patch.reflectance, 0.25),
        shift_px=np.zeros_like(patch.shift_px),
    )
    np.testing.assert_allclose(BicubicResolver(BANDS_10M).restore(flat, members=0, seed=0).mean, 0.25, atol=1e-6)
    flat.reflectance[0] = 0.9
    np.testing.assert_allclose(MedianResolver(BANDS_10M).restore(flat, members=0, seed=0).mean, 0.25, atol=1e-6)


def test_a_share_of_the_mean_comes_from_the_target_date_alone_where_it_was_observed(
    diffusion: DiffusionResolver,
) -> None:
    patch = random_patch((32, 32), dates=4, clouds=0.3)
    own = replace(
        patch,
        **{name: getattr(patch, name)[:1] for name in ("reflectance", "valid", "days", "shift_px")},
    )
    free = replace(diffusion, consistent=False)
    none, half, whole = (replace(free, own_share=share).restore(patch, members=2, seed=0) for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half.mean, (none.mean + whole.mean) / 2, atol=1e-6)
    # The members lie about the mean as before.
    np.testing.assert_allclose(half.members - half.mean, none.members - none.mean, atol=1e-6)
    hidden = ~patch.valid[0].repeat(4, 0).repeat(4, 1)
    assert _same(whole.mean[:, hidden], none.mean[:, hidden])
    assert np.abs(whole.mean - none.mean)[:, ~hidden].max() > 1e-4
    clear = replace(patch, valid=np.ones_like(patch.valid))
    alone = replace(own, valid=np.ones_like(own.valid))
    only = replace(free, own_share=1.0).restore(clear, members=0, seed=0)
    np.testing.assert_allclose(only.mean, free.restore(alone, members=0, seed=0).mean, atol=1e-6)


class _Alone(ImageDenoiser):
    """Estimates 1 in units of the residual from one date, and 0 from several."""

    def forward(self, noised: Tensor, level: Tensor, context: ImageContext) -> Tensor:
        return torch.full_like(noised, float(context.skips.shape[1] == 1))


def test_beside_hidden_ground_the_mean_of_all_dates_takes_over() -> None:
    """Over two pixels, by what a window of five of them sees: nothing shows where a date was hidden."""
    resolver = DiffusionResolver("own", _Alone(tiny_config()).eval(), consistent=False, own_share=1.0)
    patch = random_patch((16, 16))
    valid = patch.valid.copy()
    valid[0, :, 8:] = False
    patch = replace(patch, valid=valid)
    found, none = (replace(resolver, own_share=share).restore(patch, members=0, seed=0).mean for share in (0.5, 0.0))
    share = ((found - none) / 0.02).reshape(4, 64, 16, 4)
    np.testing.assert_allclose(share, np.broadcast_to(share[:1, :1, :, :1], share.shape), atol=1e-4)
    np.testing.assert_allclose(share[0, 0, 4:9, 0], [0.5, 0.5, 0.4, 0.3, 0.0], atol=1e-4)


@pytest.mark.parametrize("share", [-0.1, 1.1, "0.5", True, float("nan"), None])
def test_a_card_with_an_impossible_share_is_refused(share: object) -> None:
    with pytest.raises(GeodiffError, match="own_share"):
        DiffusionResolver.calibrated("tiny", tiny_denoiser(), {"own_share": share})
