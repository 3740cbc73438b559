"""The clear-sky reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodiff.dates import season_distance
from geodiff.model.images import REFLECTANCE_MEAN, Series
from geodiff.model.reference import MEMORY_DAYS, REACH_PX, build_series, unlit


def _flat(values: list[float], days: list[float], valid: Tensor, target: int) -> tuple[Series, Tensor]:
    dates = len(values)
    image = torch.tensor(values)[None, :, None, None, None].expand(1, dates, 4, 8, 8).clone()
    return build_series(
        image, valid, torch.tensor([days]), torch.zeros(1, dates, 2), torch.tensor([target]), torch.tensor([10.0])
    )


def test_the_target_rules_where_it_is_clear_and_the_nearest_dates_elsewhere() -> None:
    valid = torch.ones(1, 3, 8, 8, dtype=torch.bool)
    valid[0, 1] = False
    series, known = _flat([0.1, 0.2, 0.5], [-3.0, 0.0, 90.0], valid, 1)
    assert not series.observed.any()
    assert known.all()
    near, far = math.exp(-season_distance(3.0) / MEMORY_DAYS), math.exp(-season_distance(90.0) / MEMORY_DAYS)
    assert near > 5 * far
    wanted = (near * 0.1 + far * 0.5) / (near + far)
    torch.testing.assert_close(series.reference, torch.full((1, 4, 8, 8), wanted))
    valid[0, 1, :, 4:] = True
    series, _ = _flat([0.1, 0.2, 0.5], [-3.0, 0.0, 90.0], valid, 1)
    assert torch.equal(series.observed[0], valid[0, 1])
    torch.testing.assert_close(series.reference, torch.full((1, 4, 8, 8), 0.2), atol=2e-3, rtol=0)


def _clouded(light: list[float]) -> tuple[Tensor, Tensor]:
    """Dates of one rough ground, each under a light of its own, the first with a hole; and the ground."""
    chance = torch.Generator().manual_seed(3)
    ground = 0.1 + 0.2 * torch.rand(4, 24, 24, generator=chance)
    image = torch.stack([ground + each for each in light])[None]
    valid = torch.rand(1, len(light), 24, 24, generator=chance) > 0.2
    valid[0, 0, 6:18, 6:18] = False
    valid[0, 1:, 10:12, 10:12] = True
    return build_series(
        image, valid, torch.tensor([[0.0, 5.0, 40.0]]), torch.zeros(1, 3, 2), torch.tensor([0]), torch.tensor([10.0])
    )[0].reference[0], ground


def test_haze_on_other_dates_does_not_show_in_the_gaps_of_the_target() -> None:
    """Each date differs from the target by a constant: the gaps hold what the target would have shown."""
    clear, ground = _clouded([0.0, 0.0, 0.0])
    hazy, _ = _clouded([0.0, 0.07, -0.02])
    there = clear != REFLECTANCE_MEAN
    assert there.float().mean() > 0.95
    torch.testing.assert_close(clear[there], ground[there], atol=1e-5, rtol=0)
    assert (hazy - clear).abs().max() < 0.07 / 10
    assert (hazy - clear)[:, 6:18, 6].abs().max() < 0.07 / 100, "beside the rim"


def test_light_is_looked_for_no_further_than_it_says() -> None:
    """Neighbouring tiles see different parts of a scene: what lies beyond the reach must not matter."""
    image = 0.1 + 0.2 * torch.rand(1, 2, 4, 8, 64, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(1, 2, 8, 64, dtype=torch.bool)
    valid[0, 0, :, 20:] = False
    told = (torch.tensor([[0.0, 5.0]]), torch.zeros(1, 2, 2), torch.tensor([0]), torch.tensor([10.0]))
    first = build_series(image, valid, *told)[0].reference
    image[0, 0, :, :20] += 0.1
    second = build_series(image, valid, *told)[0].reference
    moved = (second - first).abs().amax((0, 1, 2))
    assert moved[20] > 0.05
    assert moved[20 + REACH_PX :].max() == 0
    torch.testing.assert_close(first[..., 20 + REACH_PX :], image[:, 1, ..., 20 + REACH_PX :])


def test_water_under_a_cloud_does_not_become_darker_than_nothing() -> None:
    """Fields brightened by 0.25 between the dates, a lake among them did not, and a cloud hides lake and shore."""
    other = torch.full((4, 24, 24), 0.4)
    other[:, 8:16, 8:16] = 0.02
    target = torch.where(other > 0.1, 0.15, other)
    valid = torch.ones(1, 2, 24, 24, dtype=torch.bool)
    valid[0, 0, 7:17, 7:17] = False
    series, _ = build_series(
        torch.stack([target, other])[None],
        valid,
        torch.tensor([[0.0, 5.0]]),
        torch.zeros(1, 2, 2),
        torch.tensor([0]),
        torch.tensor([10.0]),
    )
    assert series.reference.min() >= 0


def test_light_that_changes_over_the_scene_is_followed_into_the_gaps() -> None:
    """Haze thickens from left to right by 0.1: near the rim of a gap the filled pixels lie within a tenth of that."""
    haze = torch.linspace(0.0, 0.1, 32).expand(4, 32, 32)
    image = torch.stack([torch.full((4, 32, 32), 0.2), 0.2 + haze])[None]
    valid = torch.ones(1, 2, 32, 32, dtype=torch.bool)
    valid[0, 0, 8:24, 20:28] = False
    series, _ = build_series(
        image, valid, torch.tensor([[0.0, 5.0]]), torch.zeros(1, 2, 2), torch.tensor([0]), torch.tensor([10.0])
    )
    error = (series.reference[0, :, 8:24, 20:28] - 0.2).abs()
    assert error.max() < 0.012
    assert error[..., 0].max() < 0.006


def test_without_a_target_no_pixel_is_observed() -> None:
    series, known = _flat([0.1, 0.3], [-30.0, 30.0], torch.ones(1, 2, 8, 8, dtype=torch.bool), -1)
    assert not series.observed.any()
    assert known.all()
    torch.testing.assert_close(series.reference, torch.full((1, 4, 8, 8), 0.2))


def test_what_no_date_shows_holds_the_mean_and_is_not_known() -> None:
    valid = torch.ones(1, 2, 8, 8, dtype=torch.bool)
    valid[..., 2:5] = False
    series, known = _flat([0.1, 0.3], [0.0, 5.0], valid, 0)
    assert torch.equal(known[0], valid[0, 0])
    torch.testing.assert_close(series.reference[0, :, :, 2:5], torch.full((4, 8, 3), REFLECTANCE_MEAN))


def test_the_same_season_a_year_off_is_more_alike_than_three_months_off() -> None:
    hidden = torch.ones(1, 3, 8, 8, dtype=torch.bool)
    hidden[0, 0] = False
    series, _ = _flat([0.9, 0.1, 0.3], [0.0, 365.25, 91.0], hidden, 0)
    assert 0.1 < series.reference.mean().item() < 0.2


@pytest.mark.parametrize("days", [400.0, 30_000.0])
def test_a_date_far_away_still_fills(days: float) -> None:
    series, known = _flat([0.37], [days], torch.ones(1, 1, 8, 8, dtype=torch.bool), -1)
    assert known.all()
    torch.testing.assert_close(series.reference, torch.full((1, 4, 8, 8), 0.37))


def test_other_dates_are_moved_into_the_frame_of_the_target() -> None:
    ramp = torch.arange(8.0).expand(4, 8, 8) / 10
    image = torch.stack([ramp, ramp - 0.1])[None]
    valid = torch.ones(1, 2, 8, 8, dtype=torch.bool)
    valid[0, 0] = False
    shift = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    series, _ = build_series(image, valid, torch.zeros(1, 2), shift, torch.tensor([0]), torch.tensor([10.0]))
    torch.testing.assert_close(series.reference[0, :, :, :-1], ramp[:, :, :-1], atol=1e-6, rtol=0)


def test_dates_that_lie_between_pixels_are_no_darker_beside_their_gaps() -> None:
    valid = torch.ones(1, 2, 16, 16, dtype=torch.bool)
    valid[0, 0], valid[0, 1, 5:9, 5:9] = False, False
    image = torch.full((1, 2, 4, 16, 16), 0.4)
    shift = torch.tensor([[[0.0, 0.0], [0.3, -0.4]]])
    series, known = build_series(
        image, valid, torch.tensor([[0.0, 5.0]]), shift, torch.tensor([0]), torch.tensor([10.0])
    )
    assert 256 - 16 - 12 < known.sum() < 256, "some pixels at the rim are known in part"
    torch.testing.assert_close(series.reference[:, :, known[0]], torch.full((1, 4, int(known.sum())), 0.4))


def test_a_few_wrongly_clear_pixels_do_not_light_up_what_is_around_them() -> None:
    """Of a hidden target some pixels of cloud are left: one changes next to nothing, as many as a field are a light."""
    image = torch.full((1, 2, 4, 41, 41), 0.1)
    image[0, 0] = 0.5
    told = torch.tensor([[0.0, 5.0]]), torch.zeros(1, 2, 2), torch.tensor([0]), torch.tensor([10.0])
    lifted = []
    for side in (1, 2, 5):
        valid = torch.ones(1, 2, 41, 41, dtype=torch.bool)
        valid[0, 0] = False
        valid[0, 0, 18 : 18 + side, 18 : 18 + side] = True
        series, _ = build_series(image, valid, *told)
        torch.testing.assert_close(series.reference[0, :, valid[0, 0]], torch.full((4, side**2), 0.5))
        lifted.append(float(series.reference[0, 0, 17, 17] - 0.1) / 0.4)
        unknown = unlit(series.observed)[0, 17, 17]
        assert float(unknown) == pytest.approx(1 - lifted[-1], abs=1e-5)
    assert lifted[0] < 0.05
    assert lifted[1] < 0.2
    assert lifted[2] > 0.95


def test_series_of_a_batch_do_not_tell_each_other_of_their_light() -> None:
    """One target seen in part, one hidden, one seen whole: each as when it is alone."""
    chance = torch.Generator().manual_seed(5)
    image, valid = torch.rand(3, 3, 4, 20, 20, generator=chance), torch.rand(3, 3, 20, 20, generator=chance) > 0.3
    valid[1, 0], valid[2, 0] = False, True
    shift = torch.randn(3, 3, 2, generator=chance)
    shift[:, 0] = 0
    told = (image, valid, torch.tensor([[0.0, 9.0, -30.0]]).expand(3, 3), shift, torch.zeros(3, dtype=torch.int64))
    together, known = build_series(*told, torch.full((3,), 10.0))
    for row in range(3):
        alone, also = build_series(*(each[row : row + 1] for each in told), torch.tensor([10.0]))
        torch.testing.assert_close(together.reference[row], alone.reference[0], atol=1e-6, rtol=0)
        assert torch.equal(known[row], also[0])


def test_deep_inside_a_gap_the_light_is_that_of_the_scene() -> None:
    """Other dates are hazy; beyond the reach of what the target shows, the light that the scene tells takes over."""
    side, hole = 80, slice(20, 60)
    ground = 0.1 + 0.2 * torch.rand(4, side, side, generator=torch.Generator().manual_seed(5))
    image = torch.stack([ground, ground + 0.07, ground + 0.04])[None]
    valid = torch.ones(1, 3, side, side, dtype=torch.bool)
    valid[0, 0, hole, hole] = False
    told = image, valid, torch.tensor([[0.0, 5.0, 40.0]]), torch.zeros(1, 3, 2), torch.tensor([0]), torch.tensor([10.0])
    light = torch.tensor([0.0, -0.07, -0.04])[None, :, None].expand(1, 3, 4)
    blind, lit = (build_series(*told, each)[0].reference[0] for each in (None, light))
    inside = slice(20 + REACH_PX, 60 - REACH_PX)
    assert (blind - ground)[:, inside, inside].mean() > 0.05
    torch.testing.assert_close(lit, ground, atol=1e-5, rtol=0)
    # Where the whole patch is hidden, too: its neighbours are lit alike.
    valid[0, 0] = False
    nothing = build_series(*told, light)[0].reference[0]
    torch.testing.assert_close(nothing, ground, atol=1e-5, rtol=0)
