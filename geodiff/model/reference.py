"""The clear-sky reference that the residual is predicted over."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodiff.dates import season_distance
from geodiff.model.images import REFLECTANCE_MEAN, Series
from geodiff.model.raster import shift_image

MEMORY_DAYS = 30.0

SHOWN = 0.5
"""Share of a pixel that a date must show, once moved, to be known there."""

NEAR_PX = (4.0, 2.0, 1.0)
"""Standard deviations of the windows, coarse to fine, over which other dates are brought to the target's light."""

REACH_PX = 12
"""How far they look: three of the widest. With what shifts take it stays within the usual halo of a tile, so that
neighbours agree; deep inside a wide gap the light is that of the scene as a whole."""

TRUST = 0.005
"""Share of a window that must be seen before it weighs as much as the next coarser one. On held-out ground under
simulated clouds, whose masks err, what gaps hide came out 2.0 dB nearer the truth than without light; 1.3 with 0.1."""

ENOUGH_PX = 20
"""Pixels that must be seen within reach (of 625) for all that they tell of the light to count; fewer count by their
number, lest one pixel of cloud that a mask missed lights up all around it."""


def build_series(
    reflectance: Tensor,
    valid: Tensor,
    days: Tensor,
    shift_px: Tensor,
    target: Tensor,
    pixel_m: Tensor,
    light: Tensor | None = None,
) -> tuple[Series, Tensor]:
    """Make a series with its reference: the target date where it is clear, the nearest clear dates elsewhere.

    Other dates are moved into the frame of the target and averaged with weights exp(-d / 30), d the season distance in
    days, so that the most alike clear date rules. Each is first brought to the light of the target, or haze and season
    would draw the outline of every cloud: that of the scene as a whole (``light``), and near what is seen of the target
    that of the place, for what they differ by where both are seen is spread into the gaps (``_spread``). Pixels that no
    date shows hold the mean reflectance.

    Args:
        reflectance: (batch, times, band, y, x) float32.
        valid: (batch, times, y, x) bool.
        days: (batch, times) float32 relative to the target day.
        shift_px: (batch, times, 2) float32.
        target: (batch,) int64, index of the observed target date, -1 where there is none.
        pixel_m: (batch,) float32.
        light: (batch, times, band) what brings dates to the light of the target, all over the scene; 0 when None.

    Returns:
        The series, and (batch, y, x) bool: where at least one date was clear.
    """
    batch, times = reflectance.shape[:2]
    clean = torch.where(valid[:, :, None], reflectance, 0.0)
    is_target = torch.arange(times, device=target.device)[None] == target[:, None]
    observed = (valid & is_target[:, :, None, None]).any(1)
    own = (clean * is_target[:, :, None, None, None]).sum(1)
    stacked = torch.cat([clean, valid[:, :, None].to(clean.dtype)], 2)
    moved = shift_image(stacked.flatten(0, 1), shift_px.flatten(0, 1)).unflatten(0, (batch, times))
    moved = moved.masked_fill(is_target[:, :, None, None, None], 0.0)
    cover = moved[:, :, -1:]
    shown = moved[:, :, :-1] / cover.clamp_min(1e-6)
    if times > 1 and not observed.all():
        lit = shown if light is None else shown + light[..., None, None]
        lit = lit + _light(own, observed, lit, cover[:, :, 0] > SHOWN) if observed.any() else lit
        # What is dark on both dates, such as water, does not become darker than nothing.
        shown = torch.maximum(lit, shown.clamp_max(0.0))
    weight = torch.exp(-season_distance(days) / MEMORY_DAYS).clamp_min(1e-6)[:, :, None, None, None]
    others = (weight * cover * shown).sum(1) / (weight * cover).sum(1).clamp_min(1e-9)
    known = cover[:, :, 0].amax(1) > SHOWN
    reference = torch.where(observed[:, None], own, torch.where(known[:, None], others, REFLECTANCE_MEAN))
    return Series(reflectance, valid, days, shift_px, reference, observed, pixel_m), known | observed


def _light(own: Tensor, observed: Tensor, others: Tensor, shown: Tensor) -> Tensor:
    """What brings each date to the light of the target: (batch, times, band, y, x), to be added.

    Args:
        own: (batch, band, y, x), the target.
        observed: (batch, y, x) bool, where it is seen.
        others: (batch, times, band, y, x), dates in its frame.
        shown: (batch, times, y, x) bool, where they are seen.
    """
    both = shown & observed[:, None]
    difference = (own[:, None] - others).flatten(0, 1)
    light: Tensor = _spread(difference, both.flatten(0, 1)).unflatten(0, others.shape[:2])
    return light


def unlit(observed: Tensor) -> Tensor:
    """Share of the target's light that what is seen of it near by does not tell: 0 where it is seen, 1 out of reach.

    Args:
        observed: (batch, y, x) bool.

    Returns:
        (batch, y, x) float32.
    """
    ones = torch.ones(observed.shape, device=observed.device)[:, None]
    return torch.where(observed, 0.0, 1 - _spread(ones, observed)[:, 0])


def _spread(difference: Tensor, seen: Tensor) -> Tensor:
    """Continue a field (batch, band, y, x) a little beyond where it is seen (batch, y, x), and fade to 0.

    Normalised convolution (Knutsson & Westin 1993, CVPR) with Gaussian windows, coarse to fine: where a window shows
    little, the coarser one stays, and nothing beyond them all. Few pixels within reach of all windows tell little.
    """
    weight = seen[:, None].to(difference.dtype)
    stacked = torch.cat([difference * weight, weight], 1)
    level = torch.zeros_like(difference)
    for sigma in NEAR_PX:
        window = _blurred(stacked, sigma)
        level = (window[:, :-1] + TRUST * level) / (window[:, -1:] + TRUST)
    count = _blurred(weight, math.inf) * (2 * REACH_PX + 1) ** 2
    return level * (count / ENOUGH_PX).clamp_max(1.0)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Convolution of (..., y, x) with a Gaussian of ``REACH_PX`` at most, flat for an infinite ``sigma``.

    Beyond the border there is nothing.
    """
    rows, cols = (_gaussian(size, sigma, image) for size in image.shape[-2:])
    return rows @ image @ cols


def _gaussian(size: int, sigma: float, like: Tensor) -> Tensor:
    """The convolution along one axis as a symmetric matrix (size, size)."""
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    apart = (place[:, None] - place).abs()
    kernel = torch.exp(-0.5 * (torch.arange(-REACH_PX, REACH_PX + 1, dtype=like.dtype) / sigma).square())
    matrix = torch.exp(-0.5 * (apart / sigma).square()) * (apart <= REACH_PX)
    return matrix / float(kernel.sum())
