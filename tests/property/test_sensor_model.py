"""The sensor model: it repeats, what it leaves clear is the truth, and shadows lie where the sun says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geodiff.model.images import Series
from geodiff.model.optics import see
from geodiff.model.simulate import SimulationConfig, changed, draw_shifts, noisy, simulate, under_sky
from geodiff.model.sky import REACH_PX, draw_sky, overmask, shadow_offset_px
from geodiff.schema import UsageError
from geodiff.tasks.train_data import TrainConfig

MTF = (0.29, 0.28, 0.26, 0.26)
USUAL = settings(max_examples=15, deadline=None)
CLEAR: dict[str, Any] = {
    "mtf_spread": 0.0,
    "shift_px": 0.0,
    "gain": 0.0,
    "path_reflectance": 0.0,
    "hazy_date": 0.0,
    "season": 0.0,
    "cloudy_date": 0.0,
    "cloudy_target": 0.0,
    "hidden_target": 0.0,
    "overmasked_date": 0.0,
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _truth(
    seed: int, batch: int = 2, times: int = 3, side: int = 48
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    truth = 0.05 + 0.3 * torch.rand((batch, times, 4, side, side), generator=_generator(seed))
    days = torch.arange(times)[None].float().expand(batch, -1) * 10
    return truth, days, torch.full((batch,), 10.0)


@USUAL
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 3), times=st.integers(1, 4))
def test_a_simulation_is_a_function_of_its_generator(seed: int, batch: int, times: int) -> None:
    truth, days, pixel = _truth(seed, batch, times)
    config = SimulationConfig(mtf=MTF, hazy_date=0.0)
    one, other = (simulate(truth, days, pixel, config, _generator(seed)) for _ in range(2))
    assert one[0].guide is None
    for name in Series.__dataclass_fields__.keys() - {"guide"}:
        assert torch.equal(getattr(one[0], name), getattr(other[0], name))
    assert torch.isfinite(one[0].reflectance).all()
    assert torch.equal(one[1], truth[:, 0])
    if times == 1:
        assert one[0].valid.all(), "a lone date is never hidden: nothing would be left to learn from"


@USUAL
@given(seed=st.integers(0, 2**31), times=st.integers(1, 4))
def test_without_sky_and_change_every_date_is_the_truth_seen_to_noise(seed: int, times: int) -> None:
    truth, days, pixel = _truth(seed, 2, times)
    config = SimulationConfig(mtf=MTF, **CLEAR)
    series, _, known = simulate(truth, days, pixel, config, _generator(seed))
    assert series.valid.all()
    assert known.all()
    wanted = see(truth, 4, MTF)
    dates = (series.days[0] / 10).round().long()
    error = series.reflectance - wanted[:, dates]
    worst = math.sqrt(config.noise_floor[1] ** 2 + config.photon_noise[1] * float(wanted.max()))
    assert error.abs().max() < 6 * worst
    assert error.square().mean().sqrt() < 1.1 * worst


def test_haze_is_part_of_the_truth_and_of_each_date_by_itself() -> None:
    truth, days, pixel = _truth(3, 8, 3)
    config = SimulationConfig(mtf=MTF, **(CLEAR | {"hazy_date": 0.5, "haze_opacity": (0.3, 0.5)}))
    series, target, _ = simulate(truth, days, pixel, config, _generator(3))
    changed = ~torch.isclose(target, truth[:, 0], atol=1e-3).flatten(1).all(1)
    assert 0 < changed.sum() < 8
    assert (series.reference - see(target, 4, MTF)).abs().max() < 6 * 0.0023
    for index in changed.nonzero()[:, 0]:
        assert target[index].std() < truth[index, 0].std(), "haze takes contrast"


def test_a_guide_is_seen_through_the_haze_of_its_target() -> None:
    """Bands that are restored first come from the same date: the haze that hides the others hides them."""
    truth, days, pixel = torch.full((8, 2, 6, 48, 48), 0.2), torch.zeros(8, 2), torch.full((8,), 20.0)
    hazy = CLEAR | {"hazy_date": 1.0, "haze_opacity": (0.3, 0.3), "haze_reflectance": (1.0, 1.0)}
    series, target, _ = simulate(truth, days, pixel, SimulationConfig(mtf=MTF, **hazy), _generator(5))
    assert series.guide is not None
    assert series.guide.shape == (8, 2, 48, 48)
    for veil, other in zip(target[:, 0].flatten(1), series.guide[:, 0].flatten(1), strict=True):
        assert torch.corrcoef(torch.stack([veil, other]))[0, 1] > 0.99


@USUAL
@given(seed=st.integers(0, 2**31))
def test_the_target_is_seen_unchanged_where_it_is_clear(seed: int) -> None:
    truth, days, pixel = _truth(seed, 3, 4)
    config = SimulationConfig(mtf=MTF, mtf_spread=0.0, hazy_date=0.0, missed_opacity=(0.01, 0.02))
    series, _, _ = simulate(truth, days, pixel, config, _generator(seed))
    wanted = see(truth[:, 0], 4, MTF)
    apart = (series.reference - wanted).abs().amax(1)[series.observed]
    # Noise, and clouds and shadows too thin for the mask.
    assert not len(apart) or apart.max() < 0.02 * 0.7 + 0.02 * 0.6 * 0.35 + 6 * 0.0023


@USUAL
@given(seed=st.integers(0, 2**31), order=st.permutations([1, 2, 3]))
def test_permuting_dates_permutes_what_does_not_draw(seed: int, order: list[int]) -> None:
    """Shifts, noise and sky are drawn per place in the batch; what is left follows the dates."""
    truth, days, pixel = _truth(seed, 2, 4)
    config = SimulationConfig(mtf=MTF, **(CLEAR | {"noise_floor": (1e-9, 1e-9), "photon_noise": (0.0, 0.0)}))
    order = [0, *order]
    one = simulate(truth, days, pixel, config, _generator(seed))[0]
    other = simulate(truth[:, order], days[:, order], pixel, config, _generator(seed))[0]
    by_day, again = one.days[0].argsort(), other.days[0].argsort()
    torch.testing.assert_close(one.reflectance[:, by_day], other.reflectance[:, again], atol=1e-6, rtol=0)
    assert torch.equal(one.days[:, by_day], other.days[:, again])


@pytest.mark.parametrize(
    ("azimuth", "direction"),
    [(180.0, (-1.0, 0.0)), (90.0, (0.0, -1.0)), (135.0, (-0.7071, -0.7071)), (0.0, (1.0, 0.0))],
)
def test_shadows_fall_away_from_the_sun(azimuth: float, direction: tuple[float, float]) -> None:
    """A sun in the south throws them north, which is up; 1000 m and 45 degrees are 100 pixels of 10 m."""
    offset = shadow_offset_px(*(torch.tensor(value) for value in (1000.0, 45.0, azimuth, 10.0)))
    torch.testing.assert_close(offset, 100 * torch.tensor(direction), atol=0.01, rtol=1e-4)


@USUAL
@given(seed=st.integers(0, 2**31))
def test_each_shadow_is_its_cloud_moved(seed: int) -> None:
    sky = replace(SimulationConfig(mtf=MTF).sky, missed_cloud=1.0, cloud_cover=(0.2, 0.6))
    size = (40, 40)
    drawn = draw_sky(size, torch.full((5,), 20.0), torch.zeros(5, dtype=torch.bool), sky, _generator(seed))
    assert (drawn.offset_px.norm(dim=1) <= REACH_PX + 1).all()
    for cloud, shadow, (down, right) in zip(drawn.cloud, drawn.shadow, drawn.offset_px.long().tolist(), strict=True):
        rows, cols = (slice(max(step, 0), size[0] + min(step, 0)) for step in (down, right))
        back_rows, back_cols = (slice(max(-step, 0), size[0] + min(-step, 0)) for step in (down, right))
        torch.testing.assert_close(shadow[rows, cols], sky.shadow_depth * cloud[back_rows, back_cols])


def test_the_mask_errs_in_both_directions_and_only_where_told() -> None:
    known = torch.arange(400) % 2 == 0
    perfect = replace(
        SimulationConfig(mtf=MTF).sky,
        missed_opacity=(0.0, 0.0),
        missed_cloud=0.0,
        missed_shadow=0.0,
        overmasked_date=0.0,
        mask_growth_px=0,
    )
    pixel = torch.full((400,), 10.0)
    drawn = draw_sky((24, 24), pixel, known, perfect, _generator(0))
    assert torch.equal(drawn.masked, (drawn.cloud > 0) | (drawn.shadow > 0))
    wide, grown = draw_sky((24, 24), pixel, known, replace(perfect, mask_growth_px=2), _generator(0)), set()
    for mask, wider in zip(drawn.masked.numpy(), wide.masked.numpy(), strict=True):
        if 0 < mask.sum() < mask.size / 2:
            away = ndimage.distance_transform_cdt(~mask, metric="chessboard")
            grown.add(int(away[wider].max()))
            assert (wider == (away <= away[wider].max())).all()
    assert grown == {0, 1, 2}
    thin = draw_sky((24, 24), pixel, known, replace(perfect, missed_opacity=(0.1, 0.1)), _generator(0))
    left = (thin.cloud > 0) & ~thin.masked
    assert left.any()
    assert thin.cloud[left].max() <= 0.1
    whole = draw_sky((24, 24), pixel, known, replace(perfect, missed_cloud=1.0), _generator(0))
    unknown = ((whole.cloud > 0.3) & ~whole.masked).flatten(1).any(1)
    assert not unknown[known].any()
    assert unknown[~known].float().mean() > 0.3
    shade = draw_sky((24, 24), pixel, known, replace(perfect, missed_shadow=1.0), _generator(0))
    assert ((shade.shadow > 0.1) & ~shade.masked).flatten(1).any(1)[~known].any()
    assert not ((shade.shadow > 0) & ~shade.masked)[known].any()
    ground = torch.rand((400, 4, 24, 24), generator=_generator(1))
    wrong = overmask(ground, replace(perfect, overmasked_date=0.5), _generator(2))
    dates = wrong.flatten(1).any(1)
    assert 0.4 < dates.float().mean() < 0.6
    assert ground.mean(1)[wrong].min() > ground.mean(1)[~wrong].mean()
    assert not overmask(ground, perfect, _generator(2)).any()


def test_the_cover_of_clouds_is_that_of_the_patch() -> None:
    """Not that of the wider canvas that they are drawn on; of 576 pixels 30 % are 173."""
    sky = replace(SimulationConfig(mtf=MTF).sky, missed_cloud=0.0, cloud_cover=(0.3, 0.3))
    drawn = draw_sky((24, 24), torch.full((20,), 10.0), torch.ones(20, dtype=torch.bool), sky, _generator(0))
    assert ((drawn.cloud > 0).flatten(1).float().mean(1) - 0.3).abs().max() < 0.01


def test_noise_of_what_is_darker_than_nothing_is_its_floor() -> None:
    config = SimulationConfig(mtf=MTF, photon_noise=(4e-6, 4e-6), noise_floor=(1e-4, 1e-4))
    dark = torch.full((8, 2, 4, 24, 24), -0.02)
    assert float((noisy(dark, config, _generator(0)) - dark).std()) == pytest.approx(1e-4, rel=0.02)


def test_the_atmosphere_adds_what_is_told_mostly_to_all_bands_alike() -> None:
    """Times a strength between 0 and 1, whose mean square is a third; 0.8 of it common is a correlation of 0.64."""
    config = SimulationConfig(mtf=MTF, gain=0.0, season=0.0, path_reflectance=0.006)
    added = changed(torch.zeros(4000, 2, 4, 2, 2), config, _generator(3))[:, 1, :, 0, 0]
    assert float(added.square().mean().sqrt()) == pytest.approx(0.006 / math.sqrt(3), rel=0.05)
    apart = torch.corrcoef(added.T)[~torch.eye(4, dtype=torch.bool)]
    assert float(apart.min()) > 0.58
    assert float(apart.max()) < 0.70


def test_effects_have_the_size_that_their_names_say() -> None:
    config = SimulationConfig(mtf=MTF, photon_noise=(4e-6, 4e-6), noise_floor=(1e-3, 1e-3))
    flat = torch.full((64, 2, 4, 24, 24), 0.25)
    noise = noisy(flat, config, _generator(0)) - flat
    assert float(noise.std()) == pytest.approx(math.sqrt(1e-6 + 4e-6 * 0.25), rel=0.02)
    shift, told = draw_shifts(2000, 2, replace(config, shifted_date=1.0), _generator(0))
    assert not shift[:, 0].any()
    assert float(shift[:, 1].std()) == pytest.approx(0.6, rel=0.05)
    assert float((told - shift)[:, 1].std()) == pytest.approx(0.05, rel=0.05)
    other = changed(flat, config, _generator(1))
    assert torch.equal(other[:, 0], flat[:, 0]), "the target is the truth of its own date"
    assert 0.005 < float((other[:, 1] / flat[:, 1] - 1).std()) < 0.12
    cloudy = replace(config, cloudy_date=1.0, cloudy_target=0.0, cloud_cover=(1.1, 1.1), missed_cloud=0.0)
    cloudy = replace(cloudy, overmasked_date=0.0)
    image, masked = under_sky(flat, torch.full((64,), 10.0), cloudy, _generator(2))
    assert masked[:, 1].all()
    assert not masked[:, 0].any()
    assert image[:, 1].min() >= 0.39


def test_senseless_settings_are_refused() -> None:
    for wrong in ({"cloudy_date": 1.5}, {"noise_floor": (1e-2, 1e-3)}, {"sun_zenith_deg": (20.0, 90.0)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SimulationConfig(mtf=MTF, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "odd",
    [
        {"hazy_date": 1.5},
        {"missed_shadow": -0.1},
        {"overmasked_date": "often"},
        {"cloud_cover": 0.5},
        {"cloud_cover": (0.5,)},
        {"haze_opacity": (0.5, 0.1)},
        {"haze_reflectance": (0.1, math.inf)},
        {"mask_growth_px": 1.5},
        {"shift_px": -1.0},
        {"season": math.nan},
    ],
)
def test_a_sensor_that_cannot_be_is_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(odd))):
        SimulationConfig(mtf=MTF, **odd)
    with pytest.raises(UsageError, match=next(iter(odd))):
        TrainConfig.parse({"simulation": odd}, where="train.yaml")
