"""The calibration finds what was put in: the filter behind a spectrum, the quantiles behind scores, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodiff.imagery.real_series import RealSeries, SeriesRead
from geodiff.model.draft import Draft
from geodiff.model.members import REACH_PX, DeviationFilter, tap_count, tap_ranks
from geodiff.model.resolver import DiffusionResolver
from geodiff.model.simulate import SimulationConfig
from geodiff.model.texture import texture
from geodiff.schema import BANDS_10M, TIME, VALID, FloatArray, GeodiffError, Patch, Restoration
from geodiff.sensor import band_mtf
from geodiff.tasks.calibrate import calibrate
from geodiff.tasks.calibrate_check import check_coverage
from geodiff.tasks.calibrate_intervals import Scores, fit_table, leave_one_out, place_level, widths
from geodiff.tasks.calibrate_members import (
    brightness_ratios,
    clear_pairs,
    fit_filter,
    fit_hidden_filter,
    fit_scalar,
    measure,
    taps_for,
    wide_pairs,
)
from geodiff.tasks.calibrate_pairs import COVER, HeldPair, calibration_pairs, simulated_pairs, with_hidden
from geodiff.tasks.calibrate_share import Drafter, with_own_share
from geodiff.tasks.calibrate_spectra import CENTRES, LATTICE, inner, radial_power
from geodiff.tasks.calibrate_texture import fit_power
from geodiff.tasks.train_data import TrainConfig
from geodiff.tasks.wald_pair import wald_pair
from geodiff.testing.tiny_models import random_cube, random_patch, tiny_denoiser

SQUARES = np.add.outer(np.arange(-3, 4) ** 2, np.arange(-3, 4) ** 2)
"""Squared distances in a kernel that reaches three pixels."""

TRUE = DeviationFilter(
    tuple(
        tuple(
            (1 + band) * (0.4 * (tap == 0) + 0.16 * np.exp(-0.5 * int(SQUARES[tap_ranks(3) == tap][0])))
            for tap in range(tap_count(3))
        )
        for band in range(4)
    )
)
"""White noise and a Gaussian of one pixel: its response falls with the frequency and stays positive."""


def _pair(place: str, patch: Patch, truth: torch.Tensor) -> HeldPair:
    return HeldPair(place, patch, truth.numpy(), np.ones(truth.shape[-2:], np.bool_))


def _white(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def held() -> tuple[list[Draft], list[HeldPair]]:
    """Members that deviate like white noise, from a mean whose error is white noise through ``TRUE``."""
    side, patch = 128, random_patch((32, 32))
    drafts, pairs = [], []
    for number in range(6):
        mean = 0.2 + 0.01 * _white(number, 1, 4, side, side)
        wide = 0.01 * _white(100 + number, 1, 4, side + 16, side + 16)
        error = TRUE.apply(wide, torch.ones_like(wide))[..., 8:-8, 8:-8]
        low, seen = torch.zeros(4, 32, 32), torch.ones(32, 32, dtype=torch.bool)
        deviation = 0.01 * _white(200 + number, 2, 4, side, side)
        drafts.append(Draft(mean, deviation, mean, low, seen, seen, (0, 0, 0, 0), torch.zeros(2, 4), seen))
        pairs.append(_pair(f"place {number % 3}", patch, (mean + error)[0]))
    return drafts, pairs


@pytest.fixture(scope="module")
def resolver() -> DiffusionResolver:
    return DiffusionResolver("tiny", tiny_denoiser(), consistent=False)


def test_white_noise_has_a_flat_spectrum() -> None:
    found = radial_power(np.random.default_rng(0).normal(size=(40, 96, 96))).mean(0)
    assert found[1:].max() / found[1:].min() < 1.25
    ramp = np.sin(np.pi * CENTRES[12] * np.arange(96)) * np.ones((96, 1))
    assert int(radial_power(ramp).argmax()) == 12


@pytest.mark.parametrize("side", [64, 80, 96])
def test_a_steep_spectrum_does_not_zigzag(side: int) -> None:
    """Bins that hold one radius of the image here and two there would make a filter follow the bins."""
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    white = np.fft.fft2(np.random.default_rng(1).normal(size=(400, side, side)))
    found = radial_power(np.fft.ifft2(white / np.maximum(radius, 1 / side) ** 1.5).real).mean(0)
    slope = np.diff(np.log(found)) / np.diff(np.log(CENTRES))
    assert np.abs(slope[(CENTRES[1:] > 0.2) & (CENTRES[1:] < 0.8)] + 3).max() < 0.35


def test_taps_have_the_response_that_was_asked_for() -> None:
    gain = np.stack([1 + band + np.cos(np.pi * CENTRES) * 0.8 for band in range(4)])
    kernel = taps_for(gain)
    assert kernel.reach == REACH_PX
    impulse = torch.zeros(1, 4, 65, 65)
    impulse[..., 32, 32] = 1
    response = np.abs(np.fft.fft2(kernel.apply(impulse, torch.ones_like(impulse))[0].numpy()))
    frequency = 2 * np.fft.fftfreq(65)
    for band in range(4):
        found = np.interp(CENTRES[:14], frequency[:33], response[band, 0, :33])
        np.testing.assert_allclose(found, gain[band, :14], rtol=0.06)


def test_spectra_are_of_pairs_that_are_whole_and_wide(held: tuple[list[Draft], list[HeldPair]]) -> None:
    drafts, pairs = list(held[0][:5]), list(held[1][:5])
    hole = drafts[0].known.clone()
    hole[5, 5] = False
    drafts[0], drafts[1] = replace(drafts[0], known=hole), replace(drafts[1], observed=hole)
    pairs[2] = replace(pairs[2], clear=hole.numpy().repeat(4, 0).repeat(4, 1))
    pairs[3] = replace(pairs[3], truth=pairs[3].truth[..., :92], clear=pairs[3].clear[:, :92])
    assert wide_pairs(drafts, pairs) == [1, 4]
    assert clear_pairs(drafts, pairs) == [4]


def test_the_filter_gives_the_deviation_the_power_of_the_error(
    resolver: DiffusionResolver, held: tuple[list[Draft], list[HeldPair]]
) -> None:
    spread = fit_filter(resolver, *held)
    found = measure(DiffusionResolver("tiny", resolver.model, consistent=False, spread=spread), *held)
    gap = 10 * np.log10(found.error / found.deviation).mean(0)
    band = (CENTRES > 0.25) & (CENTRES < 0.9)
    assert np.abs(gap[:, band]).max() < 1.0
    scalar = fit_scalar(resolver, *held)
    with_factor = measure(DiffusionResolver("tiny", resolver.model, consistent=False, spread=scalar), *held)
    assert np.abs(10 * np.log10(with_factor.error / with_factor.deviation).mean(0))[:, band].max() > 2.0


def test_taps_lead_one_direction_otherwise_than_another() -> None:
    frequency = np.fft.fftfreq(LATTICE)
    down, across = np.meshgrid(frequency, frequency, indexing="ij")
    angle, radius = np.arctan2(down, across), np.hypot(down, across)
    even = np.ones((4, 1, 1)) * 2 ** (-np.sin(2 * angle) * (radius / 0.1).clip(0, 1))
    impulse = torch.zeros(1, 4, LATTICE, LATTICE)
    impulse[..., 24, 24] = 1
    kernel = taps_for(np.ones((4, len(CENTRES))), even)
    response = np.abs(np.fft.fft2(kernel.apply(impulse, torch.ones_like(impulse))[0].numpy()))
    for sign, gain in ((1, 0.5), (-1, 2.0)):
        diagonal = (sign * down == across) & (np.abs(down) > 0.1) & (np.abs(down) < 0.3)
        assert diagonal.any()
        np.testing.assert_allclose(response[:, diagonal], gain, rtol=0.1)


def _striped(held: tuple[list[Draft], list[HeldPair]], *, seen: bool) -> list[Draft]:
    """Drafts whose members deviate twice as much along stripes that rise to the right as in all else together."""
    found = []
    for number, draft in enumerate(held[0]):
        white = _white(300 + number, 1, 1, 168, 168)
        kernel = torch.eye(13).flip(0)[None, None] / 13**0.5
        stripes = 0.014 * torch.nn.functional.conv2d(white, kernel)[..., 14:-14, 14:-14]
        assert stripes.shape[-2:] == draft.deviation.shape[-2:]
        deviation = draft.deviation + torch.cat([stripes, -stripes])
        found.append(replace(draft, deviation=deviation, observed=torch.full_like(draft.observed, seen)))
    return found


def _along_stripes(members: FloatArray) -> float:
    """Power of images with stripes that rise to the right over that of the same ones mirrored."""
    frequency = np.fft.fftfreq(members.shape[-1])
    down, across = np.meshgrid(frequency, frequency, indexing="ij")
    power = (np.abs(np.fft.fft2(members)) ** 2).reshape(-1, *down.shape).mean(0)
    middle = (np.hypot(down, across) > 0.08) & (np.hypot(down, across) < 0.4)
    along, mirrored = (power[middle & (np.abs(down - sign * across) < 0.03)].mean() for sign in (1, -1))
    return float(along / mirrored)


def _fitted(
    resolver: DiffusionResolver, drafts: list[Draft], pairs: list[HeldPair], *, seen: bool
) -> DiffusionResolver:
    if seen:
        return replace(resolver, spread=fit_filter(resolver, drafts, pairs))
    return replace(resolver, spread_hidden=fit_hidden_filter(resolver, drafts, pairs, every=(drafts, pairs)))


@pytest.mark.parametrize("seen", [True, False])
def test_stripes_that_a_network_makes_of_noise_are_filtered_out(
    resolver: DiffusionResolver, held: tuple[list[Draft], list[HeldPair]], seen: bool
) -> None:
    drafts, pairs = _striped(held, seen=seen), held[1]
    told = _fitted(resolver, drafts[::2], pairs[::2], seen=seen)
    raw, found = (
        np.concatenate([inner(each.members - each.mean) for each in (one.finish(draft) for draft in drafts[1::2])])
        for one in (resolver, told)
    )
    assert _along_stripes(raw) > 5
    assert 0.7 < _along_stripes(found) < 1.4


@pytest.mark.parametrize("seen", [True, False])
def test_bands_that_err_together_deviate_together(
    resolver: DiffusionResolver, held: tuple[list[Draft], list[HeldPair]], seen: bool
) -> None:
    """The first three bands err alike, the last against them and three times as much; members differ band by band."""
    drafts = [replace(draft, observed=torch.full_like(draft.observed, seen)) for draft in held[0]]
    pairs = []
    for number, (draft, pair) in enumerate(zip(*held, strict=True)):
        own, common = _white(400 + number, 4, 128, 128), _white(500 + number, 1, 128, 128)
        error = 0.01 * (0.5**0.5 * own + 0.5**0.5 * common * torch.tensor([1, 1, 1, -1])[:, None, None])
        pairs.append(replace(pair, truth=(draft.mean[0] + error * torch.tensor([1, 1, 1, 3])[:, None, None]).numpy()))
    told = _fitted(resolver, drafts[::2], pairs[::2], seen=seen)
    deviation = np.concatenate(
        [inner(found.members - found.mean).swapaxes(0, 1) for found in map(told.finish, drafts[1::2])], axis=1
    ).reshape(4, -1)
    wanted = np.full((4, 4), 0.5) * np.where(np.eye(4)[3] > 0, -1, 1) * np.where(np.eye(4)[3] > 0, -1, 1)[:, None]
    np.fill_diagonal(wanted, 1)
    np.testing.assert_allclose(np.corrcoef(deviation), wanted, atol=0.06)
    assert deviation[3].std() / deviation[0].std() == pytest.approx(3, rel=0.1)


def _growing(resolver: DiffusionResolver, power: float) -> tuple[list[Draft], list[HeldPair]]:
    """Drafts whose errors grow with a power of the texture, and whose members do not."""
    drafts, pairs = [], []
    unit = resolver.model.residual_scale
    for number in range(6):
        rough = torch.linspace(0.2, 5.0, 96).expand(1, 4, 96, 96) * unit
        upsampled = 0.2 + rough * _white(number, 1, 4, 96, 96)
        mean = torch.full((1, 4, 96, 96), 0.2)
        error = 0.01 * (texture(upsampled) / unit) ** power * _white(50 + number, 1, 4, 96, 96)
        low, seen = torch.full((4, 24, 24), 0.2), torch.ones(24, 24, dtype=torch.bool)
        half = 0.02 * _white(100 + number, 8, 4, 96, 96)
        members, still = torch.cat([half, -half]), torch.zeros(16, 4)
        drafts.append(Draft(mean, members, upsampled, low, seen, seen, (0, 0, 0, 0), still, seen))
        pairs.append(_pair(f"place {number % 3}", random_patch((24, 24)), (mean + error)[0]))
    return drafts, pairs


def test_the_power_of_the_texture_is_found(resolver: DiffusionResolver) -> None:
    """Errors grow with its root, or with the fourth root."""
    assert fit_power(resolver, *_growing(resolver, 0.25)) == pytest.approx(0.25, abs=0.06)
    drafts, pairs = _growing(resolver, 0.5)
    power = fit_power(resolver, drafts, pairs)
    assert power == pytest.approx(0.5, abs=0.11)
    spreads = [fit_scalar(resolver, drafts, pairs, power=each) for each in (0.0, power)]
    errors = [np.abs(pair.truth - 0.2) for pair in pairs]
    members = [[np.abs(replace(resolver, spread=s).finish(d).members - 0.2).mean(0) for d in drafts] for s in spreads]
    # Left and right half of the pictures: with the power, members deviate on each as the truth does.
    ratio = [np.mean([m[..., 48:].mean() / m[..., :48].mean() for m in some]) for some in members]
    wanted = np.mean([e[..., 48:].mean() / e[..., :48].mean() for e in errors])
    assert ratio[0] == pytest.approx(1.0, abs=0.05)
    assert wanted > 1.4
    assert ratio[1] == pytest.approx(wanted, rel=0.15)


def test_what_all_members_have_in_common_does_not_move_them_where_the_target_is_hidden(
    resolver: DiffusionResolver, held: tuple[list[Draft], list[HeldPair]]
) -> None:
    """Samples of few passes differ from the mean by an offset, which no constraint removes there."""
    hidden = [
        replace(draft, deviation=draft.deviation + 0.02, observed=torch.zeros_like(draft.observed)) for draft in held[0]
    ]
    told = _fitted(resolver, hidden, held[1], seen=False)
    found = [told.finish(draft) for draft in hidden]
    assert max(np.abs((each.members - each.mean)[..., 32:-32, 32:-32].mean()) for each in found) < 0.15 * 0.02
    spectra = measure(told, hidden, held[1])
    gap = 10 * np.log10(spectra.error / spectra.deviation).mean(0)
    assert np.abs(gap[:, (CENTRES > 0.25) & (CENTRES < 0.9)]).max() < 2.0


def test_a_place_of_odd_texture_does_not_shift_the_members_of_others(
    resolver: DiffusionResolver, held: tuple[list[Draft], list[HeldPair]]
) -> None:
    drafts, pairs = held
    odd = [
        replace(pair, truth=pair.truth if pair.place != "place 2" else 0.2 + 0.1 * (pair.truth - 0.2)) for pair in pairs
    ]
    spread = fit_filter(resolver, drafts, odd)
    found = measure(replace(resolver, spread=spread), drafts, odd)
    # With three places the median is one of the two that agree; the mean of decibels would lie several below both.
    gap = 10 * np.log10(found.error / found.deviation)[:2].mean(0)
    assert np.abs(gap[:, (CENTRES > 0.25) & (CENTRES < 0.9)]).max() < 1.5


def _scores(count: int, places: int, *, seed: int = 0, spoiled: int | None = None) -> Scores:
    """Normal errors of differing size, exchangeable between places; ``spoiled`` errs three times as much."""
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(places), count)
    scale = random.uniform(0.5, 2.0, (2, places * count))
    error = np.abs(random.normal(size=scale.shape)) * scale
    if spoiled is not None:
        error[:, place == spoiled] *= 3
    rough = random.uniform(0, 1, scale.shape)
    window = place * 10 + np.tile(np.arange(count) % 10, places)
    cloud = np.asarray(random.random(len(place)) < 0.3, np.intp)
    trained = np.zeros(len(place), np.bool_)
    return Scores(error, scale, rough, cloud, place, window, trained, tuple(f"p{i}" for i in range(places)), 4)


def test_exchangeable_places_are_covered_when_left_out() -> None:
    found = leave_one_out(_scores(4000, 8))
    for level in (50, 80, 90):
        told = found[f"coverage_{level}"]
        # 80 windows of 8 places: the correction adds level / 80, no more.
        assert level / 100 - 0.01 <= told["mean"] <= level / 100 + 0.025
        assert max(abs(share - told["mean"]) for share in told["places"].values()) < 0.03
        assert len(told["texture"]) == 4
        assert len(told["bands"]) == 2
    # Of a normal distribution 2 z + (2 / 0.1) 2 (pdf(z) - 0.05 z) at z = 1.645; the mean scale is 1.25.
    assert found["interval_score_90"] == pytest.approx(1.25 * 4.126, rel=0.02)


def test_a_place_that_differs_is_reported_not_hidden() -> None:
    told = leave_one_out(_scores(2000, 6, spoiled=2))["coverage_90"]
    assert told["places"]["p2"] < 0.65
    assert min(share for name, share in told["places"].items() if name != "p2") > 0.88


def test_a_place_is_judged_by_the_others_alone() -> None:
    """One of two errs three times as much: of it 90 % of the other hold P(|z| < 1.645 / 3), and the other way all."""
    scores = _scores(4000, 2, spoiled=1)
    found = leave_one_out(replace(scores, window=np.arange(8000)))["coverage_90"]["places"]
    assert found["p1"] == pytest.approx(0.4165, abs=0.02)
    assert found["p0"] > 0.999


def test_one_place_alone_is_not_judged() -> None:
    found = leave_one_out(_scores(500, 1))
    assert "p0" in found.pop("not_judged")
    assert set(found) == {"coverage_50", "coverage_80", "coverage_90", "interval_score_90"}
    assert all(value is None for value in found.values())


def test_every_place_counts_as_one() -> None:
    scores = _scores(8000, 3, spoiled=1)
    keep = (scores.place != 1) | (np.arange(len(scores.place)) % 7 == 0)
    all_of, few_of = (fit_table(one).quantiles[-1].mean() for one in (scores, scores.only(keep)))
    assert few_of == pytest.approx(all_of, rel=0.04)
    without = fit_table(scores.only(scores.place != 1)).quantiles[-1].mean()
    assert without < 0.6 * all_of, "what the spoiled place weighs is seen"


def test_windows_are_counted_and_not_their_pixels() -> None:
    """Eight windows cannot promise 90 %, however many pixels they have: the largest score is what there is."""
    scores = _scores(2000, 2)
    few = replace(scores, window=4 * scores.place + scores.window % 4)
    assert len(np.unique(few.window)) == 8
    found = fit_table(few).quantiles
    ratio = few.error / few.scale
    for cloud in range(2):
        np.testing.assert_allclose(found[-1, cloud].max(0), ratio[:, few.cloud == cloud].max(1))
    assert found[1].max() < 2, "80 % can be promised"


def test_a_class_without_pixels_takes_the_quantile_of_its_neighbours() -> None:
    scores = _scores(2000, 4)
    clear = scores.only(scores.cloud == 0)
    table = fit_table(clear)
    assert np.isfinite(table.quantiles).all()
    np.testing.assert_allclose(table.quantiles[:, 1], table.quantiles[:, 0], rtol=0.15)
    width = widths(table)(clear, 0.9)
    assert (clear.error <= width).mean() == pytest.approx(0.9, abs=0.03)


def test_a_promise_for_new_places_needs_many() -> None:
    assert place_level(7, 0.9) > 1
    assert place_level(9, 0.9) == pytest.approx(1)
    assert place_level(99, 0.9) == pytest.approx(0.909, abs=1e-3)


def _drafter(errors: dict[str, tuple[float, float]]) -> Drafter:
    """A model whose mean errs by so much with all dates and with the target alone, independently, place by place."""

    def draft(sampler: DiffusionResolver, pair: HeldPair, seed: int) -> Draft:
        truth = torch.from_numpy(pair.truth)[None]
        noise = torch.randn((2, *truth.shape), generator=torch.Generator().manual_seed(seed))
        mixed, own = (size * part for size, part in zip(errors[pair.place], noise, strict=True))
        mean = truth + mixed + sampler.own_share * (own - mixed)
        low, seen = truth[0, :, ::4, ::4], torch.ones(pair.patch.valid.shape[1:], dtype=torch.bool)
        return Draft(mean, mean[:0], truth, low, seen, seen, (0, 0, 0, 0), torch.zeros(0, 4), seen)

    return draft


@pytest.mark.parametrize(
    ("errors", "low", "high"),
    [
        ({"a": (0.01, 0.03), "b": (0.01, 0.03)}, 0.05, 0.15),  # 1 / (1 + 9)
        ({"a": (0.03, 0.01), "b": (0.03, 0.01)}, 0.85, 0.95),
        ({"a": (0.02, 0.02), "b": (0.02, 0.02)}, 0.45, 0.55),
    ],
)
def test_the_share_of_the_own_date_is_that_which_errs_least(
    errors: dict[str, tuple[float, float]], low: float, high: float
) -> None:
    pairs = [_pair(place, random_patch((32, 32), dates=3), torch.rand(4, 128, 128)) for place in errors]
    bare = DiffusionResolver("tiny", tiny_denoiser(), consistent=False)
    found, told = with_own_share(bare, pairs, 1, _drafter(errors))
    assert low <= found.own_share <= high
    mean, worst = told["db_over_date_alone_mean_and_worst"][f"{found.own_share:g}"]
    assert mean >= worst
    assert mean == max(row[0] for row in told["db_over_date_alone_mean_and_worst"].values())


def test_pairs_of_one_date_tell_no_share() -> None:
    pairs = [_pair("a", random_patch((32, 32), dates=1), torch.rand(4, 128, 128))]
    bare = DiffusionResolver("tiny", tiny_denoiser())
    found, told = with_own_share(bare, pairs, 1, _drafter({"a": (0.1, 0.1)}))
    assert (found, told["share"]) == (bare, 0.0)
    # Nor do pairs whose other dates are the same ground relit: a share that was given stays.
    pair, given = _pair("a", random_patch((32, 32), dates=3), torch.rand(4, 128, 128)), replace(bare, own_share=0.7)
    drafter = _drafter({"a": (0.1, 0.3)})
    assert with_own_share(given, [replace(pair, changes=False)], 1, drafter)[0].own_share == 0.7
    # Twins tell no more than the pair that they copy.
    assert with_own_share(given, [replace(pair, covered=True)], 1, drafter)[0].own_share == 0.7
    assert with_own_share(given, [pair], 1, drafter)[0].own_share == 0.1


ERRORS = {"still a": 0.002, "still b": 0.002, "changed a": 0.01, "changed b": 0.01, "changed c": 0.004}
"""Of hidden dates, by place; the members deviate by 0.005, and training saw the last."""

CHANGED = ("changed a", "changed b", "changed c")

SIDE, EACH = 96, 8


def _hidden_or_seen(place: str, number: int, *, hidden: bool) -> HeldPair:
    patch = random_patch((24, 24), dates=2)
    valid = np.ones_like(patch.valid)
    assert patch.target_index is not None
    valid[patch.target_index] = not hidden
    patch = replace(patch, valid=valid, origin_px=(0, 1024 * number))
    truth, clear = np.full((4, SIDE, SIDE), 0.2, np.float32), np.ones((SIDE, SIDE), np.bool_)
    return HeldPair(place, patch, truth, clear, place.startswith("changed"), place == "changed c", covered=hidden)


def _half_clouded(place: str, number: int) -> HeldPair:
    """A twin of a seen pair, whose target clouds hide in part."""
    pair = _hidden_or_seen(place, number, hidden=False)
    valid = pair.patch.valid.copy()
    valid[pair.patch.target_index, :12] = False
    return replace(pair, patch=replace(pair.patch, valid=valid), covered=True)


def _gaussian(sampler: DiffusionResolver, pair: HeldPair, seed: int) -> Draft:
    truth, number = torch.from_numpy(pair.truth)[None], pair.patch.origin_px[1]
    size = ERRORS[pair.place] if pair.hidden else 0.1 if pair.covered else 0.005
    mean = truth + size * _white(number + len(pair.place), *truth.shape)
    seen = torch.from_numpy(pair.patch.valid[pair.patch.target_index])
    pairs = 0.005 * _white(7 + number, 2, 1, 4, SIDE, SIDE)
    members = torch.cat([pairs, -pairs], 1).flatten(0, 1)
    low, known, chance = truth[0, :, ::4, ::4], torch.ones_like(seen), _white(9 + number, 1, 4)
    return Draft(mean, members, truth, low, seen, known, (0, 0, 0, 0), torch.cat([chance, -chance]).repeat(2, 1), seen)


def _gain(told: Mapping[str, Any]) -> float:
    """Of the standard deviation of white noise."""
    kernels = np.array(told["taps"])[:, tap_ranks(REACH_PX)]
    return float(np.sqrt(np.square(kernels).sum((1, 2)).mean()))


def test_hidden_dates_are_calibrated_on_ground_that_changed_and_was_not_trained_on() -> None:
    """Copies of one image are easy to restore from each other, and what training saw is easy too."""
    still = [_hidden_or_seen(p, n, hidden=n % 2 > 0) for p in ("still a", "still b") for n in range(2 * EACH)]
    # Twins of what was seen tell nothing of seen ground, however they err.
    still += [_half_clouded("still a", 2 * EACH + n) for n in range(2)]
    changing = [_hidden_or_seen(place, n, hidden=True) for place in CHANGED for n in range(EACH)]
    resolver = DiffusionResolver("tiny", tiny_denoiser(), consistent=False)
    found = calibrate(resolver, still, (2,), drafter=_gaussian, changing=changing)
    # What is white stays white, with the power of the error: 0.01 against 0.005.
    assert _gain(found.spread_hidden["2"]) == pytest.approx(2.0, rel=0.1)
    card = {"spread": found.spread, "spread_hidden": found.spread_hidden, "conformal": found.conformal}
    told = replace(DiffusionResolver.calibrated("tiny", resolver.model, card), consistent=False)
    # 40 windows: the quantile of |normal| at 0.9 * 41 / 40. Of all places it would be 0.013, of the changed 0.016.
    for pair, error in ((changing[0], 0.01), (still[0], 0.005)):
        width = told.finish(_gaussian(told, pair, 0)).half_width
        assert width is not None
        assert float(width[-1].mean()) == pytest.approx(1.765 * error, rel=0.05)
    ground = found.figures["ground"]
    assert ground["places_with_real_other_dates"] == list(CHANGED)
    assert ground["places_seen_in_training"] == ["changed c"]
    promise = ground["quantile_for_a_promise_on_new_places"]
    assert {name: row["0.9"] for name, row in promise.items()} == {
        "target observed": 1.35,
        "target observed elsewhere": 1.8,
        "target not observed": 1.2,
    }
    figures = found.figures["2"]["filter"]
    assert figures["target not observed"]["spread_skill"] == pytest.approx(1.0, abs=0.25)


def test_without_changed_ground_the_copies_must_do() -> None:
    still = [_hidden_or_seen(p, n, hidden=n % 2 > 0) for p in ("still a", "still b") for n in range(2 * EACH)]
    resolver = DiffusionResolver("tiny", tiny_denoiser(), consistent=False)
    found = calibrate(resolver, still, (2,), drafter=_gaussian)
    assert _gain(found.spread_hidden["2"]) == pytest.approx(0.4, rel=0.1), "0.002 against 0.005"


class _Years:
    """A place of several years, each of one value, so that every image tells its year."""

    name, ground, footprint, pixel_m = "years", "", None, 10.0
    days = 365.0 * np.arange(6)
    size = (160, 160)

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        shape = (4, rows.stop - rows.start, cols.stop - cols.start)
        return np.stack([np.full(shape, 0.1 + 0.02 * date, np.float32) for date in dates])


def test_held_pairs_name_their_target_and_what_changed() -> None:
    settings = TrainConfig(batch=1, scale=4, patch_px=32, dates=(4,))
    sky = SimulationConfig(scale=4, mtf=(0.3,) * 4, cloudy_target=0.0, hidden_target=0.0)
    pairs = list(simulated_pairs(_Years(), settings, sky, each=24, seed=1))
    assert len(pairs) == 24, "no draw holds its target twice"
    for pair in pairs:
        target = pair.patch.target_index
        assert target is not None
        assert pair.patch.days[target] == 0
        assert (pair.patch.shift_px[target] == 0).all()
        assert (np.delete(pair.patch.days, target) != 0).all()
        whole = np.isclose(np.delete(pair.patch.days, target) % 365.0, 0, atol=1e-3)
        assert pair.changes == whole.all()
    assert {pair.changes for pair in pairs} == {True, False}


def test_pairs_of_changed_ground_come_again_with_less_of_their_target() -> None:
    """Under clouds, deep inside a gap, and hidden; only of the last nobody knows the light."""
    pairs = []
    for number in range(4):
        patch = random_patch((32, 32), dates=3, clouds=0.0, seed=number)
        clear = np.ones((128, 128), np.bool_)
        pairs.append(HeldPair("a", patch, np.zeros((4, 128, 128), np.float32), clear))
    found = with_hidden(list(pairs))
    shown = [float(pair.patch.valid[pair.patch.target_index].mean()) for pair in found]
    whole = [pair for pair in found if not pair.covered]
    clouded = [pair for pair, share in zip(found, shown, strict=True) if pair.covered and share > 0]
    gone = [pair for pair, share in zip(found, shown, strict=True) if share == 0]
    hidden = [pair for pair in gone if pair.hidden]
    assert [len(kind) for kind in (whole, clouded, hidden, gone)] == [4, 4, 4, 8]
    for pair in clouded:
        assert COVER[0] <= 1 - pair.patch.valid[pair.patch.target_index].mean() <= COVER[1]
        assert not pair.hidden
    for pair in found:
        assert pair.patch.lit.any() != pair.hidden
    # Each draws noise and brightness of its own.
    assert len({pair.patch.origin_px for pair in found}) == len({pair.patch.target_day for pair in found}) == len(found)
    np.testing.assert_allclose(
        found[5].patch.days - found[5].patch.target_day, pairs[1].patch.days - pairs[1].patch.target_day
    )


class _Constant:
    """Restores nothing but 0, within intervals of one width, and keeps what it was shown."""

    name, scale, bands, levels = "constant", 4, BANDS_10M, (0.9,)

    def __init__(self, width: float) -> None:
        self.width = width
        self.shown: list[Patch] = []

    def tuned(self, *, level: float, dial: float) -> _Constant:
        assert (level, dial) == (0.9, 1.0)
        return self

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        self.shown.append(patch)
        none = np.zeros((4, *(4 * side for side in patch.valid.shape[1:])), np.float32)
        return Restoration(none, np.stack([none] * members), np.full_like(none, self.width)[None])


def test_coverage_of_a_series_is_the_share_of_its_clear_values_within_the_intervals() -> None:
    cube = random_cube((96, 96), dates=3, clouds=0.0)
    cube.values[1, :, 40:50, 40:60] = np.nan
    cube[VALID].values[1, 40:50, 40:60] = False
    truth = wald_pair(cube, scale=4).truth
    resolver = _Constant(0.22)
    found = check_coverage(resolver, cube)  # type: ignore[arg-type]
    days = [str(time)[:10] for time in cube[TIME].values]
    for kind in ("observed", "hidden"):
        assert list(found[kind]["dates"]) == days
        for share, date in zip(found[kind]["dates"].values(), truth.values, strict=True):
            assert share == pytest.approx((date[np.isfinite(date)] <= 0.22).mean(), abs=1e-3)
        assert found[kind]["coverage_90"] == pytest.approx(np.mean(list(found[kind]["dates"].values())), abs=1e-4)
    seen, hidden = resolver.shown[::2], resolver.shown[1::2]
    assert [patch.target_index for patch in seen] == [0, 1, 2]
    assert [patch.target_index for patch in hidden] == [None] * 3
    for date, (whole, without) in enumerate(zip(seen, hidden, strict=True)):
        np.testing.assert_array_equal(without.reflectance, np.delete(whole.reflectance, date, 0))


def test_brightness_is_compared_on_the_clear_ground_of_each_place() -> None:
    """The truth is a tenth brighter than what was restored; where nobody knows it, it says 9."""
    side, patch = 96, random_patch((24, 24))
    bare = DiffusionResolver("tiny", tiny_denoiser(), consistent=False)
    mean = 0.2 + 0.01 * _white(0, 1, 4, side, side)
    seen = torch.ones(24, 24, dtype=torch.bool)
    draft = Draft(mean, mean[:0], mean, mean[0, :, ::4, ::4], seen, seen, (0, 0, 0, 0), torch.zeros(0, 4), seen)
    clear = np.ones((side, side), np.bool_)
    clear[30:50, 30:50] = False
    pairs = []
    for place, factor in (("a", 1.1), ("b", 1.0), ("a", 0.9)):
        truth = np.where(clear, factor * mean[0].numpy(), np.float32(9.0))
        pairs.append(HeldPair(place, patch, truth, clear))
    found = brightness_ratios(bare, [draft] * 3, pairs)
    assert list(found) == ["a", "b"]
    np.testing.assert_allclose(found["a"], np.log([[1.1] * 4, [0.9] * 4]), atol=1e-5)
    np.testing.assert_allclose(found["b"], 0, atol=1e-5)


def test_a_target_is_hidden_only_where_other_dates_show_the_ground() -> None:
    patch = random_patch((32, 32), dates=3)
    truth, clear = np.zeros((4, 128, 128), np.float32), np.ones((128, 128), np.bool_)
    for columns, twins in ((2, True), (6, False)):
        valid = patch.valid.copy()
        valid[1:, :, :columns] = False
        found = with_hidden([HeldPair("a", replace(patch, valid=valid), truth, clear)])
        assert any(pair.hidden for pair in found) == twins, f"{columns} of 32 columns are not shown"


def test_ground_that_a_card_names_is_not_held_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By itself or by its family; it tells only what other dates are worth, and two products of one place are one."""
    box = (2.0, 42.0, 2.1, 42.1)
    footprints = {"cubes/a": None, "family/b": None, "free/c": box, "free/d": box, "cubes/e": None}
    images = 0.1 + 0.2 * np.random.default_rng(0).random((3, 4, 64, 64), np.float32)
    shown = np.ones((3, 64, 64), np.bool_)
    days = 18_000.0 + 30 * np.arange(3)
    series = tuple(RealSeries(name, images, shown, days, 40.0, where) for name, where in footprints.items())
    for name, found in (("read_series", SeriesRead(series, ())), ("read_places", ()), ("split_places", ((), ()))):
        monkeypatch.setattr(f"geodiff.tasks.calibrate_pairs.{name}", lambda *_, found=found: found)
    card = {"training_places": ["cubes/a"], "places": ["family"]}
    held, changing = calibration_pairs(tmp_path, card, BANDS_10M, 4, band_mtf(BANDS_10M), each=1)
    assert {pair.place for pair in held} == {"free/c", "free/d", "cubes/e"}
    assert {(pair.place, pair.trained) for pair in changing} == {
        *(("cubes/a", True), ("family/b", True), ("free/c", False), ("cubes/e", False)),
    }
    assert all(pair.changes for pair in (*held, *changing))
    # No two of them share their noise, wherever they come from.
    assert len({pair.patch.origin_px for pair in (*held, *changing)}) == len(held) + len(changing)
    with pytest.raises(GeodiffError, match="is held out"):
        calibration_pairs(tmp_path, {"places": ["cubes", "family", "free"]}, BANDS_10M, 4, band_mtf(BANDS_10M), each=1)
