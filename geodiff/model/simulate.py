"""The sensor model: high-resolution images -> Sentinel-2-like series with a known truth, in batches of tensors.

Each date of a series is the truth of that date seen from a sub-pixel shift, through the MTF of the band, with its own
illumination and season (a gain and an offset per band, and a smooth field over the patch), haze, noise, and clouds
whose mask misses their thin edges. The target date is one of them, or hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.model.images import Series, shift_image
from geodiff.model.optics import see
from geodiff.model.reference import build_series

MAX_SHIFT_PX = 2.0


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """How the sensor and the sky behave; standard deviations unless said otherwise."""

    scale: int = 4
    mtf: tuple[float, ...]
    mtf_spread: float = 0.03
    shift_px: float = 0.6
    shift_error_px: float = 0.05
    gain: float = 0.08
    offset: float = 0.006
    field: float = 0.08
    noise: tuple[float, float] = (1e-4, 2e-3)
    cloudy_date: float = 0.4
    cloudy_target: float = 0.25
    hidden_target: float = 0.12


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _smooth(batch: int, size: tuple[int, int], cells: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields of unit variance or a little less, (batch, y, x)."""
    coarse = torch.randn((batch, 1, cells, cells), generator=generator)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=True)[:, 0]


def _clouds(count: int, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Opaque masks as a cloud screen would draw them, and the haze that they miss; both (count, y, x)."""
    field = _smooth(count, size, 5, generator) + 0.3 * _smooth(count, size, 11, generator)
    cover = _uniform((count, 1), 0.05, 1.1, generator).clamp_max(1.0)
    threshold = torch.quantile(field.flatten(1), 1 - cover.squeeze(1), dim=1).diagonal()[:, None, None]
    threshold = torch.where(cover[:, :, None] >= 1.0, torch.full_like(threshold, -1e9), threshold)
    masked = field > threshold
    haze = 0.25 * torch.sigmoid((field - threshold) * 8) * ~masked
    return masked, haze * _uniform((count, 1, 1), 0, 0.6, generator)


def simulate(
    truth: Tensor, days: Tensor, pixel_m: Tensor, config: SimulationConfig, generator: torch.Generator
) -> tuple[Series, Tensor, Tensor]:
    """Turn true images into a series.

    Args:
        truth: (batch, times, band, scale*y, scale*x) reflectance; the first date is the target.
        days: (batch, times), relative to the target.
        pixel_m: (batch,).
        config: of the sensor.
        generator: of every random number.

    Returns:
        The series (dates in random order), the target's truth (batch, band, scale*y, scale*x), and (batch, y, x) bool:
        where some date was clear.
    """
    batch, times, bands, _, _ = truth.shape
    shift = (config.shift_px * torch.randn((batch, times, 2), generator=generator)).clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)
    shift = shift * (torch.rand((batch, times, 1), generator=generator) < 0.7)
    shift[:, 0] = 0
    moved = shift_image(truth.flatten(0, 1), -config.scale * shift.flatten(0, 1))
    mtf = (torch.tensor(config.mtf) + config.mtf_spread * torch.randn(bands, generator=generator)).clamp(0.12, 0.45)
    # Rounded, so that the matrices are found in the cache more often than not.
    low = see(moved, config.scale, [round(float(m) * 50) / 50 for m in mtf]).unflatten(0, (batch, times))
    size = (int(low.shape[-2]), int(low.shape[-1]))
    change = torch.ones(times)[None, :, None, None, None].clone()
    change[:, 0] = 0
    gain = config.gain * torch.randn((batch, times, bands, 1, 1), generator=generator)
    field = config.field * _smooth(batch * times * 2, size, 4, generator).view(batch, times, 2, *size)
    field = torch.cat([field[:, :, :1].expand(-1, -1, bands - 1, -1, -1), field[:, :, 1:]], 2)
    strength = torch.rand((batch, times, 1, 1, 1), generator=generator)
    low = low * (1 + change * strength * (gain + field))
    low = low + change * strength * config.offset * torch.randn((batch, times, bands, 1, 1), generator=generator)
    cloudy = torch.rand((batch, times), generator=generator) < config.cloudy_date
    cloudy[:, 0] = torch.rand(batch, generator=generator) < config.cloudy_target
    masked, haze = (part.view(batch, times, *size) for part in _clouds(batch * times, size, generator))
    masked, haze = masked & cloudy[:, :, None, None], (haze * cloudy[:, :, None, None])[:, :, None]
    if times == 1:
        masked = torch.zeros_like(masked)
    low = low * (1 - haze) + 0.45 * haze
    sigma = torch.exp(
        _uniform((batch, times, 1, 1, 1), float(np.log(config.noise[0])), float(np.log(config.noise[1])), generator)
    )
    low = low + sigma * torch.randn(low.shape, generator=generator)
    valid = ~masked
    hidden = (torch.rand(batch, generator=generator) < config.hidden_target) & (times > 1)
    valid[:, 0] &= ~hidden[:, None, None]
    told = shift + config.shift_error_px * torch.randn(shift.shape, generator=generator)
    told[:, 0] = 0
    order = torch.randperm(times, generator=generator)
    target = (order == 0).nonzero()[0, 0].expand(batch)
    series, known = build_series(low[:, order], valid[:, order], days[:, order], told[:, order], target, pixel_m)
    return series, truth[:, 0], known
