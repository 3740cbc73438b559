"""The path between data and noise, and what follows from it for the network and its loss.

Rectified-flow path (Liu et al. 2022, "Flow straight and fast", eq. 1; Lipman et al. 2023): x_s = (1 - s) x0 + s e with
e ~ N(0, 1) and a noise level s in [0, 1] of its own for every token (Chen et al. 2024, "Diffusion forcing").
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_LEVEL = 0.05


def mix(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """x_s for a level that broadcasts against the payload."""
    return (1.0 - level) * clean + level * noise


def loss_weight(level: Tensor) -> Tensor:
    """Weight of the squared error of x0 that makes it the loss of the velocity v = e - x0.

    From x_s: v = (x_s - x0) / s, so |v - v_hat|^2 = |x0 - x0_hat|^2 / s^2; bounded below ``MIN_LEVEL``.
    """
    return level.clamp_min(MIN_LEVEL).pow(-2)


def precondition(level: Tensor) -> tuple[Tensor, Tensor]:
    """Skip and output scales of x0_hat = skip * x_s + out * F for data of unit variance.

    The least-squares estimate of x0 from x_s alone is skip * x_s with skip = (1-s) / ((1-s)^2 + s^2), and what remains
    has standard deviation out = s / sqrt((1-s)^2 + s^2); so F is asked for something of unit variance at every level.
    (The argument of Karras et al. 2022, section 5, carried over to this path.) At s = 1 the input is ignored.
    """
    total = (1.0 - level).square() + level.square()
    return (1.0 - level) / total, level / total.sqrt()


def draw_levels(batch: int, *, pure: float, lowest: float, generator: torch.Generator) -> Tensor:
    """Draw noise levels for training.

    A share ``pure`` is at s = 1 exactly (the regression mean), the others are uniform above ``lowest``, below which a
    sampler of few passes never looks.
    """
    level = lowest + (1.0 - lowest) * torch.rand(batch, generator=generator)
    return torch.where(torch.rand(batch, generator=generator) < pure, torch.ones(batch), level)
