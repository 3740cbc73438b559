"""Ten bands: those of 20 m given those of 10 m, each bound to its own pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.model.brightness import Brightness
from geodiff.model.checkpoint import load_checkpoint, read_card, save_checkpoint
from geodiff.model.guide import soften
from geodiff.model.guided import GuidedResolver
from geodiff.model.native import coarse_part, fine_part
from geodiff.model.resolver import DiffusionResolver
from geodiff.model.simulate import SimulationConfig, simulate
from geodiff.schema import BANDS_10M, BANDS_20M, GeodiffError
from geodiff.sensor import band_mtf, degrade, native_step
from geodiff.tasks.models import GUIDED_BY, find_model, guided_by, load_resolver
from geodiff.testing.tiny_models import random_patch, reordered, ten_bands, tiny_denoiser, tiny_guided

TEN = (*BANDS_10M, *BANDS_20M)


@pytest.fixture(scope="module")
def resolver() -> GuidedResolver:
    return tiny_guided()


def test_all_ten_bands_come_out_at_one_resolution_and_those_of_10_m_as_without_the_others(
    resolver: GuidedResolver,
) -> None:
    patch = ten_bands(random_patch((14, 20), clouds=0.3))
    found = resolver.restore(patch, members=3, seed=5)
    alone = resolver.fine.restore(fine_part(patch, range(4)), members=3, seed=5)
    assert resolver.bands == TEN
    assert found.mean.shape == (10, 56, 80)
    assert found.members.shape == (3, 10, 56, 80)
    np.testing.assert_array_equal(found.mean[:4], alone.mean)
    np.testing.assert_array_equal(found.members[:, :4], alone.members)


@settings(max_examples=8, deadline=None)
@given(row=st.integers(0, 3), col=st.integers(0, 3), size=st.tuples(st.integers(9, 15), st.integers(9, 15)))
def test_every_band_degrades_to_its_own_native_pixels(row: int, col: int, size: tuple[int, int]) -> None:
    patch = ten_bands(random_patch(size, dates=1, origin_px=(row, col)))
    # The scene ends at whole pixels of 20 m: of one that it cuts, a part is not there to be compared.
    found = tiny_guided().restore(patch, members=2, seed=0)
    first = (row % 2, col % 2)
    down, right = ((extent - odd) // 2 * 2 for extent, odd in zip(size, first, strict=True))
    part, _, _ = coarse_part(patch, range(4, 10))
    for image in (found.mean, *found.members):
        seen = degrade(image[:4], 4, band_mtf(BANDS_10M))
        np.testing.assert_allclose(seen, patch.reflectance[0, :4], atol=3e-6)
        whole = image[4:, 4 * first[0] : 4 * (first[0] + down), 4 * first[1] : 4 * (first[1] + right)]
        if part.valid.shape[1:] == (down // 2, right // 2):
            native = degrade(whole, 8, band_mtf(BANDS_20M))
            np.testing.assert_allclose(native, part.reflectance[0], atol=3e-6)


def test_a_window_that_begins_at_an_odd_pixel_shows_the_same_ground(resolver: GuidedResolver) -> None:
    whole = ten_bands(random_patch((56, 56), dates=2, origin_px=(8, 8)))
    cut = replace(whole, reflectance=whole.reflectance[:, :, 1:, 3:], valid=whole.valid[:, 1:, 3:], origin_px=(9, 11))
    one, other = (resolver.restore(patch, members=2, seed=3) for patch in (whole, cut))
    inner = np.s_[..., 4 * 24 : 4 * 32, 4 * 24 : 4 * 32]
    moved = np.s_[..., 4 * 23 : 4 * 31, 4 * 21 : 4 * 29]
    np.testing.assert_allclose(one.mean[inner], other.mean[moved], atol=2e-4)
    np.testing.assert_allclose(one.members[inner], other.members[moved], atol=2e-4)


def test_the_order_of_the_dates_changes_nothing(resolver: GuidedResolver) -> None:
    patch = ten_bands(random_patch(dates=4, clouds=0.3))
    order = [2, 0, 3, 1]
    turned = reordered(patch, order)
    one, other = (resolver.restore(each, members=1, seed=0) for each in (patch, turned))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-5)
    np.testing.assert_allclose(one.members, other.members, atol=1e-5)


def test_a_member_of_the_coarse_bands_goes_with_the_member_that_guides_it(resolver: GuidedResolver) -> None:
    patch = ten_bands(random_patch(dates=1))
    found = resolver.restore(patch, members=2, seed=0)
    other = replace(resolver, fine=replace(resolver.fine, dial=0.0))
    swapped = other.restore(patch, members=2, seed=0)
    np.testing.assert_array_equal(found.mean, swapped.mean)
    # At dial 0 the members are the mean, but what guides stays a sample.
    np.testing.assert_array_equal(found.members[:, 4:], swapped.members[:, 4:])
    vague = replace(resolver.fine, spread=replace(resolver.fine.spread, taps=((0.0,),)))
    blind = replace(resolver, fine=vague).restore(patch, members=2, seed=0)
    assert np.abs(blind.members[:, 4:] - found.members[:, 4:]).max() > 1e-4


def test_the_brightness_of_the_bands_that_guide_guides_nobody(resolver: GuidedResolver) -> None:
    """The 20 m bands have their own: a draw of the others would be told twice."""
    patch = ten_bands(random_patch(dates=3))
    valid = np.ones_like(patch.valid)
    valid[0] = False
    patch = replace(patch, valid=valid, light=np.full((3, 10), np.nan, np.float32))
    bright = Brightness(tuple(tuple(0.3 * (row == col) for col in range(4)) for row in range(4)))
    lit = replace(resolver, fine=replace(resolver.fine, brightness=bright))
    found, plain = (each.restore(patch, members=2, seed=0) for each in (lit, resolver))
    assert np.abs(found.members[:, :4] / plain.members[:, :4] - 1).min() > 1e-3
    np.testing.assert_array_equal(found.members[:, 4:], plain.members[:, 4:])


def test_what_is_injected_of_a_guide_is_its_detail_and_not_its_brightness() -> None:
    chance = torch.Generator().manual_seed(0)
    flat, rough = torch.full((1, 4, 64, 64), 0.3), 0.3 + 0.05 * torch.randn((1, 4, 64, 64), generator=chance)
    model = tiny_denoiser(guided=True)
    with torch.inference_mode():
        none, some, lifted = (model.guided(guide) for guide in (flat, rough, rough + 0.1))
    assert none is not None
    assert some is not None
    assert lifted is not None
    assert none.detail.abs().max() < 1e-4
    assert some.detail.std() > 0.5
    torch.testing.assert_close(lifted.detail, some.detail, atol=1e-4, rtol=0)


def test_each_member_is_drawn_from_the_guide_of_its_own_and_the_mean_from_the_first(resolver: GuidedResolver) -> None:
    part, _, _ = coarse_part(ten_bands(random_patch(dates=1)), range(4, 10))
    sides = (8 * part.valid.shape[1], 8 * part.valid.shape[2])
    guides = np.random.default_rng(0).uniform(0.1, 0.3, (3, 4, *sides)).astype(np.float32)
    for changed in range(3):
        moved = guides.copy()
        moved[changed] += 0.1
        one, other = (resolver.coarse.draft(part, members=2, seed=0, guides=each) for each in (guides, moved))
        assert one is not None
        assert other is not None
        images = [torch.cat([draft.mean, draft.mean + draft.deviation]) for draft in (one, other)]
        apart = (images[1] - images[0]).abs().amax((1, 2, 3))
        # The first step of a member is the mean under its own guide.
        assert (apart > 1e-3).tolist() == [index == changed for index in range(3)], f"guide {changed}"


def test_the_dial_turns_all_bands(resolver: GuidedResolver) -> None:
    patch = ten_bands(random_patch())
    found = resolver.tuned(level=0.9, dial=0.0).restore(patch, members=2, seed=0)
    np.testing.assert_allclose(found.members, np.broadcast_to(found.mean, found.members.shape), atol=1e-6)


def test_nothing_is_made_up_where_no_date_shows_the_ground(resolver: GuidedResolver) -> None:
    patch = ten_bands(random_patch((16, 16)))
    valid = patch.valid.copy()
    valid[:, :6, :6] = False
    found = resolver.restore(replace(patch, valid=valid), members=2, seed=0)
    # Other dates lie off by up to a pixel.
    assert np.isnan(found.mean[:, :12, :12]).all()
    assert np.isfinite(found.mean[:, 32:, 32:]).all()
    blind = resolver.restore(replace(patch, valid=np.zeros_like(valid)), members=2, seed=0)
    assert np.isnan(blind.mean).all()
    assert blind.members.shape == (2, 10, 64, 64)


def test_models_that_do_not_fit_are_refused() -> None:
    fine = DiffusionResolver("a", tiny_denoiser())
    with pytest.raises(ValueError, match="guided"):
        GuidedResolver("b", fine, fine)
    coarse = tiny_denoiser(guided=True)
    with pytest.raises(ValueError, match="guided by B02"):
        coarse.guided(None)
    with pytest.raises(ValueError, match="no bands"):
        tiny_denoiser().guided(torch.zeros(1, 4, 16, 16))


def _stored(folder: Path) -> tuple[Path, Path]:
    """A guided model and its guide, as they are published."""
    fine, coarse = folder / "first" / "weights.safetensors", folder / "ten" / "weights.safetensors"
    save_checkpoint(tiny_denoiser(), fine, card={})
    told = {GUIDED_BY: guided_by(fine, read_card(fine))}
    save_checkpoint(tiny_denoiser(seed=1, guided=True), coarse, card=told)
    return fine, coarse


def test_a_guided_model_is_loaded_with_its_guide(tmp_path: Path, resolver: GuidedResolver) -> None:
    _, coarse = _stored(tmp_path)
    loaded = load_resolver(find_model(str(coarse)), bands=TEN)
    patch = ten_bands(random_patch())
    one, other = (each.restore(patch, members=2, seed=1) for each in (loaded, resolver))
    assert loaded.scale == 4
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)


def test_a_guide_that_is_missing_or_was_changed_is_named(tmp_path: Path) -> None:
    fine, coarse = _stored(tmp_path)
    card = json.loads(fine.with_suffix(".json").read_text())
    fine.with_suffix(".json").write_text(json.dumps(card | {"spread": {"2": 0.5}}))
    with pytest.raises(GeodiffError, match="was calibrated with"):
        load_resolver(find_model(str(coarse)))
    fine.unlink()
    with pytest.raises(GeodiffError, match="neither beside it nor in the catalogue"):
        load_resolver(find_model(str(coarse)))
    card = json.loads(coarse.with_suffix(".json").read_text())
    for name in ("../first", "", None, 7):
        coarse.with_suffix(".json").write_text(json.dumps(card | {GUIDED_BY: {"name": name}}))
        with pytest.raises(GeodiffError, match=r"names none|neither"):
            load_resolver(find_model(str(coarse)))


def test_a_card_with_an_impossible_guide_is_refused(tmp_path: Path) -> None:
    _, coarse = _stored(tmp_path)
    path = coarse.with_suffix(".json")
    card = json.loads(path.read_text())
    for guide in ("B02", [2], ["B02"] * 400, None):
        path.write_text(json.dumps(card | {"config": card["config"] | {"guide": guide}}))
        with pytest.raises(GeodiffError, match="guide"):
            load_checkpoint(coarse)


def test_a_simulated_series_shows_the_guide_sharp_or_softened() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand((16, 2, 10, 64, 64), generator=generator) * 0.3
    config = SimulationConfig(scale=8, mtf=band_mtf(BANDS_20M), hazy_date=0.0)
    series, target, _ = simulate(truth, torch.zeros(16, 2), torch.full((16,), 20.0), config, generator)
    assert series.guide is not None
    assert series.reflectance.shape[2] == target.shape[1] == 6
    left = (series.guide - truth[:, 0, 6:]).flatten(1).abs().amax(1)
    assert 0 < (left < 1e-6).sum() < 16
    # What is softened keeps the mean of every block that was observed.
    for each in (series.guide, soften(truth[:, 0, 6:], 4, generator)):
        assert each.mean() == pytest.approx(float(truth[:, 0, 6:].mean()), abs=1e-3)


def test_simulated_bands_of_20_m_are_blocks_of_their_own_optics() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand((2, 3, 10, 64, 64), generator=generator) * 0.3
    steps = tuple(native_step(band) for band in TEN)
    quiet = {"hazy_date": 0.0, "noise_floor": (1e-9, 2e-9), "photon_noise": (0.0, 0.0), "mtf_spread": 0.0}
    config = SimulationConfig(scale=4, mtf=band_mtf(TEN), steps=steps, **quiet)  # type: ignore[arg-type]
    series, _, _ = simulate(truth, torch.zeros(2, 3), torch.full((2,), 10.0), config, generator)
    coarse = series.reflectance[:, :, 4:]
    blocks = coarse.unflatten(-1, (8, 2)).unflatten(-3, (8, 2))
    assert (blocks - blocks[..., :1, :, :1]).abs().max() == 0
    assert series.guide is None
    clear = simulate(truth[:, :1], torch.zeros(2, 1), torch.full((2,), 10.0), config, generator)
    native = degrade(clear[1].numpy()[:, 4:], 8, band_mtf(BANDS_20M))
    np.testing.assert_allclose(clear[0].reflectance[:, 0, 4:, ::2, ::2], native, atol=1e-6)
