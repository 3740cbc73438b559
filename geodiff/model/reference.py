"""The clear-sky reference that the residual is predicted over."""

from __future__ import annotations

import torch
from torch import Tensor

from geodiff.dates import season_distance
from geodiff.model.images import REFLECTANCE_MEAN, Series
from geodiff.model.raster import shift_image

MEMORY_DAYS = 30.0


def build_series(
    reflectance: Tensor, valid: Tensor, days: Tensor, shift_px: Tensor, target: Tensor, pixel_m: Tensor
) -> tuple[Series, Tensor]:
    """Make a series with its reference: the target date where it is clear, the nearest clear dates elsewhere.

    Other dates are moved into the frame of the target and averaged with weights exp(-d / 30), d the season distance in
    days, so that the most alike clear date rules. Pixels that no date shows hold the mean reflectance.

    Args:
        reflectance: (batch, times, band, y, x) float32.
        valid: (batch, times, y, x) bool.
        days: (batch, times) float32 relative to the target day.
        shift_px: (batch, times, 2) float32.
        target: (batch,) int64, index of the observed target date, -1 where there is none.
        pixel_m: (batch,) float32.

    Returns:
        The series, and (batch, y, x) bool: where at least one date was clear.
    """
    batch, times = reflectance.shape[:2]
    clean = torch.where(valid[:, :, None], reflectance, 0.0)
    stacked = torch.cat([clean, valid[:, :, None].to(clean.dtype)], 2)
    moved = shift_image(stacked.flatten(0, 1), shift_px.flatten(0, 1)).unflatten(0, (batch, times))
    weight = torch.exp(-season_distance(days) / MEMORY_DAYS).clamp_min(1e-6)[:, :, None, None]
    cover = (weight * moved[:, :, -1]).sum(1)
    filled = (weight[:, :, None] * moved[:, :, :-1]).sum(1) / cover.clamp_min(1e-9)[:, None]
    known = moved[:, :, -1].amax(1) > 0.5
    is_target = torch.arange(times, device=target.device)[None] == target[:, None]
    observed = (valid & is_target[:, :, None, None]).any(1)
    own = (clean * is_target[:, :, None, None, None]).sum(1)
    reference = torch.where(observed[:, None], own, torch.where(known[:, None], filled, REFLECTANCE_MEAN))
    return Series(reflectance, valid, days, shift_px, reference, observed, pixel_m), known | observed
