"""Tokens: what every modality becomes, and the embeddings of time, place, footprint and noise level.

A movie of cells: payload (batch, times, cells, width), a real time for each frame, a real place for each cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A block of tokens on the lattice of its modality.

    Attributes:
        payload: (batch, times, cells, width) float; finite also where ``valid`` is False (zero times NaN is NaN).
        days: (batch, times) or (batch, times, cells) float, days against any common origin (only differences matter).
        place_m: (batch, cells, 2) or, for cells that move, (batch, times, cells, 2) float, (down, right) or
            (north, east) metres against any common origin.
        level: (batch, times, cells) or broadcastable, noise level in [0, 1]; 0 for clean tokens.
        valid: (batch, times, cells) bool; a False token is seen by no other.
        neighbours: (cells, reach) int64, the cells that each cell attends to in space; a cell may be repeated where
            ``near`` is False.
        near: (cells, reach) bool, which entries of ``neighbours`` count.
        condition: (batch, times or 1, cells, condition) float, what else than the noise level modulates the blocks,
            such as a class; None for nothing.
    """

    payload: Tensor
    days: Tensor
    place_m: Tensor
    level: Tensor
    valid: Tensor
    neighbours: Tensor
    near: Tensor
    condition: Tensor | None = None


def fourier_features(value: Tensor, count: int, *, base: float = 2.0) -> Tensor:
    """Sines and cosines of ``value`` at ``count`` angular frequencies pi * base**k: (...,) -> (..., 2 * count)."""
    frequency = math.pi * base ** torch.arange(count, device=value.device, dtype=value.dtype)
    angle = value.unsqueeze(-1) * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def rotary_angles(position: Tensor, pairs: int, *, shortest: float, longest: float) -> Tensor:
    """Angles of a rotary embedding (Su et al. 2021) of a continuous position.

    The index of RoFormer is replaced by a real coordinate, with wavelengths spaced evenly in their logarithm; attention
    then depends on differences of positions alone.

    Args:
        position: (...,) in any unit.
        pairs: number of rotated pairs of channels.
        shortest, longest: wavelengths in the unit of ``position``.

    Returns:
        (..., pairs) float.
    """
    exponent = torch.linspace(0, 1, pairs, device=position.device, dtype=position.dtype)
    wavelength = shortest * (longest / shortest) ** exponent
    return position.unsqueeze(-1) * (2 * math.pi / wavelength)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of channels: x (..., 2 * pairs), angles broadcastable to (..., pairs)."""
    first, second = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class LevelEmbedding(nn.Module):
    """Noise level -> condition vector, (...,) -> (..., width)."""

    def __init__(self, width: int, *, features: int = 8) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(2 * features + 1, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, level: Tensor) -> Tensor:
        # base**7 * pi would turn 64 times over [0, 1]; half octaves keep neighbouring levels alike.
        features = fourier_features(level, self.features, base=math.sqrt(2.0))
        out: Tensor = self.mlp(torch.cat([level.unsqueeze(-1), features], -1))
        return out
