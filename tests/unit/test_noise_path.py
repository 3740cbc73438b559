"""The path between data and noise, its loss and its preconditioning."""

from __future__ import annotations

import pytest
import torch

from geodiff.model.noise import MIN_LEVEL, draw_levels, loss_weight, mix, precondition


def test_the_path_runs_from_data_to_noise() -> None:
    clean, noise = torch.randn(5), torch.randn(5)
    assert torch.equal(mix(clean, noise, torch.tensor(0.0)), clean)
    assert torch.equal(mix(clean, noise, torch.tensor(1.0)), noise)


def test_every_token_has_its_own_level() -> None:
    clean, noise = torch.zeros(3, 2), torch.ones(3, 2)
    level = torch.tensor([0.0, 0.25, 1.0])[:, None]
    assert torch.equal(mix(clean, noise, level), level.expand(3, 2))


@pytest.mark.parametrize("level", [0.05, 0.3, 0.8, 1.0])
def test_the_weighted_error_of_x0_is_the_error_of_the_velocity(level: float) -> None:
    s = torch.tensor(level, dtype=torch.float64)
    clean, noise, estimate = (torch.randn(1000, dtype=torch.float64) for _ in range(3))
    x = mix(clean, noise, s)
    velocity, velocity_hat = noise - clean, (x - estimate) / s
    torch.testing.assert_close(loss_weight(s) * (estimate - clean) ** 2, (velocity_hat - velocity) ** 2)


def test_the_weight_is_bounded_near_the_data() -> None:
    assert loss_weight(torch.tensor(1e-6)) == pytest.approx(MIN_LEVEL**-2)


@pytest.mark.parametrize("level", [0.02, 0.3, 0.5, 0.9, 1.0])
def test_the_network_is_asked_for_unit_variance_at_every_level(level: float) -> None:
    generator = torch.Generator().manual_seed(0)
    s = torch.tensor(level)
    clean, noise = torch.randn(200_000, generator=generator), torch.randn(200_000, generator=generator)
    x = mix(clean, noise, s)
    skip, out = precondition(s)
    asked = (clean - skip * x) / out
    assert asked.std().item() == pytest.approx(1.0, abs=0.01)
    # Skip is the least-squares estimate: what remains is uncorrelated with the input.
    assert (asked * x).mean().abs().item() < 0.01


def test_pure_noise_says_nothing() -> None:
    skip, out = precondition(torch.tensor(1.0))
    assert (skip.item(), out.item()) == (0.0, 1.0)


def test_the_share_of_pure_noise_is_exact_in_the_mean_and_repeats() -> None:
    levels = draw_levels(20_000, pure=0.4, lowest=0.0, generator=torch.Generator().manual_seed(3))
    assert (levels == 1).float().mean().item() == pytest.approx(0.4, abs=0.01)
    others = levels[levels < 1]
    assert others.mean().item() == pytest.approx(0.5, abs=0.01)
    assert ((levels >= 0) & (levels <= 1)).all()
    assert torch.equal(levels, draw_levels(20_000, pure=0.4, lowest=0.0, generator=torch.Generator().manual_seed(3)))
    assert (draw_levels(100, pure=1.0, lowest=0.0, generator=torch.Generator().manual_seed(0)) == 1).all()
