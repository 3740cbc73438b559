"""The sampler against a toy whose optimal denoiser is known: x0 ~ N(mean, std^2)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodiff.model.sampler import euler, schedule

MEAN, STD = 1.5, 0.6


def _optimal(x: Tensor, level: float) -> Tensor:
    """E[x0 | x_s]: (1-s) x0 and s e are independent Gaussians."""
    kept = 1 - level
    gain = kept * STD**2 / (kept**2 * STD**2 + level**2)
    return MEAN + gain * (x - kept * MEAN)


def test_one_pass_gives_the_regression_mean_whatever_the_noise() -> None:
    sample = euler(_optimal, torch.randn(100) * 50, schedule(1))
    assert torch.equal(sample, torch.full((100,), MEAN))


def test_mean_and_spread_approach_the_truth_with_passes() -> None:
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()
    errors = []
    for passes in (1, 2, 4, 16, 64, 256):
        sample = euler(_optimal, noise, schedule(passes))
        assert sample.mean().item() == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs(sample.std().item() - STD))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(STD)
    assert errors[-1] < 0.01


def test_the_sample_of_opposite_noise_lies_opposite() -> None:
    noise = torch.randn(50, dtype=torch.float64)
    up, down = euler(_optimal, noise, schedule(4)), euler(_optimal, -noise, schedule(4))
    torch.testing.assert_close(up + down, torch.full_like(up, 2 * MEAN))


def test_a_perfect_denoiser_is_reached_from_anywhere() -> None:
    truth = torch.randn(7)
    for passes in (1, 3, 10):
        torch.testing.assert_close(euler(lambda x, s: truth, torch.randn(7), schedule(passes)), truth)


def test_the_levels_asked_for_fall_from_one_and_never_reach_zero() -> None:
    asked: list[float] = []
    euler(lambda x, s: asked.append(s) or x, torch.zeros(1), schedule(4))  # type: ignore[func-returns-value]
    assert asked == [1.0, 0.75, 0.5, 0.25]
