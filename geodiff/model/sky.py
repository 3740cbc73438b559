"""Clouds, their shadows, and a mask that errs: what stands between the ground and a date of a simulated series.

Fields are drawn on a canvas wider than the patch, so that a shadow's cloud may stand outside it. Sizes in
low-resolution pixels, opacities 0-1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REACH_PX = 16
"""How far beyond the patch clouds are drawn; shadows farther from their cloud than this are put at this distance."""

CLOUD_PX, RAGGED_PX = 8.0, 3.2
"""Distance of the knots of the two fields that clouds are made of: their size and their ragged edges."""

STEEP = 4.0
"""Optical thickness per standard deviation of the field: how fast a cloud gets opaque from its edge inwards."""


@dataclass(frozen=True, kw_only=True)
class SkyConfig:
    """How clouds look and how their mask errs; ``SimulationConfig`` names and documents the same fields."""

    cloud_cover: tuple[float, float]
    cloud_height_m: tuple[float, float]
    sun_zenith_deg: tuple[float, float]
    sun_azimuth_deg: tuple[float, float]
    shadow_depth: float
    missed_opacity: tuple[float, float]
    mask_growth_px: int
    missed_cloud: float
    missed_shadow: float
    overmasked_date: float


@dataclass(frozen=True, eq=False)
class Sky:
    """The sky of many dates, each (date, y, x).

    Attributes:
        cloud: opacity of clouds, small missed ones included.
        shadow: share of the direct light that is lost, 0-1.
        masked: bool, what the mask calls cloud or shadow.
        offset_px: (date, 2) displacement of shadows against their clouds, down and right.
    """

    cloud: Tensor
    shadow: Tensor
    masked: Tensor
    offset_px: Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform random numbers."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def smooth(count: int, size: tuple[int, int], cells: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields of unit variance or a little less, (count, y, x), with ``cells`` knots along each side."""
    coarse = torch.randn((count, 1, cells, cells), generator=generator)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=True)[:, 0]


def shadow_offset_px(height_m: Tensor, zenith_deg: Tensor, azimuth_deg: Tensor, pixel_m: Tensor) -> Tensor:
    """Where the shadow of a cloud falls: h tan(z) away from the sun, (…, 2) pixels down and right.

    Azimuth counts clockwise from north; rows count southwards. A view from the zenith is assumed, as that of the
    Sentinel-2 imager nearly is (10.3 degrees at the edge of the swath).
    """
    away = height_m * torch.tan(torch.deg2rad(zenith_deg)) / pixel_m
    angle = torch.deg2rad(azimuth_deg)
    return torch.stack([away * torch.cos(angle), -away * torch.sin(angle)], -1)


def draw_sky(
    size: tuple[int, int], pixel_m: Tensor, known: Tensor, config: SkyConfig, generator: torch.Generator
) -> Sky:
    """Draw the sky over dates that are all cloudy.

    Args:
        size: (rows, columns) of the patch.
        pixel_m: (date,) side of a pixel in metres.
        known: (date,) bool, dates whose mask misses no whole cloud and no shadow, but thin edges only.
        config: of clouds and mask.
        generator: of every random number.
    """
    count = len(pixel_m)
    opacity = _opacity(count, size, config, generator)
    height = uniform((count,), *config.cloud_height_m, generator)
    zenith = uniform((count,), *config.sun_zenith_deg, generator)
    azimuth = uniform((count,), *config.sun_azimuth_deg, generator)
    offset = shadow_offset_px(height, zenith, azimuth, pixel_m)
    offset = (offset * (REACH_PX / offset.norm(dim=1, keepdim=True).clamp_min(REACH_PX))).round()
    small = _small_clouds(count, size, config, generator) * ~known[:, None, None]
    cloud, shadow = _inner(opacity, size), _moved(opacity, offset, size)
    missed = uniform((count, 1, 1), *config.missed_opacity, generator)
    unseen = torch.rand((count, 1, 1), generator=generator) < config.missed_shadow
    unseen = unseen & ~known[:, None, None]
    masked = _grown((cloud > missed) | ((shadow > missed) & ~unseen), config.mask_growth_px, generator)
    both = 1 - (1 - opacity) * (1 - small)
    return Sky(_inner(both, size), config.shadow_depth * _moved(both, offset, size), masked, offset)


def overmask(image: Tensor, config: SkyConfig, generator: torch.Generator) -> Tensor:
    """Bright ground that the mask takes for cloud on some dates: (date, band, y, x) -> (date, y, x) bool.

    Roofs, sand, snow and bare soil are what screens of brightness err on; here the brightest 1 to 10 % of a patch.
    """
    bright = image.mean(1)
    share = uniform((len(image), 1), 0.01, 0.1, generator)
    wrong = torch.rand((len(image), 1, 1), generator=generator) < config.overmasked_date
    return (bright > _level(bright, 1 - share)) & wrong


def _opacity(count: int, size: tuple[int, int], config: SkyConfig, generator: torch.Generator) -> Tensor:
    """Opacity on the canvas; the drawn cover is that of the patch in its middle."""
    canvas = (size[0] + 2 * REACH_PX, size[1] + 2 * REACH_PX)
    knots = [max(math.ceil(max(canvas) / step) + 1, 2) for step in (CLOUD_PX, RAGGED_PX)]
    field = smooth(count, canvas, knots[0], generator) + 0.3 * smooth(count, canvas, knots[1], generator)
    cover = uniform((count, 1), *config.cloud_cover, generator)
    threshold = _level(_inner(field, size), (1 - cover).clamp_min(0.0))
    thickness = (field - threshold).clamp_min(0.0)
    overcast = (cover >= 1.0)[:, :, None]
    return torch.where(overcast, torch.ones_like(field), 1 - torch.exp(-STEEP * thickness))


def _level(field: Tensor, share: Tensor) -> Tensor:
    """The value below which a share (date, 1) of each field lies, (date, 1, 1)."""
    ordered = field.flatten(1).sort(1).values
    rank = (share * (ordered.shape[1] - 1)).round().long().clamp(0, ordered.shape[1] - 1)
    return ordered.gather(1, rank)[:, :, None]


def _small_clouds(count: int, size: tuple[int, int], config: SkyConfig, generator: torch.Generator) -> Tensor:
    """One small cloud that no mask knows, on some dates, on the canvas: (date, y, x)."""
    rows, cols = size[0] + 2 * REACH_PX, size[1] + 2 * REACH_PX
    there = torch.rand((count, 1, 1), generator=generator) < config.missed_cloud
    place = torch.rand((count, 2), generator=generator) * torch.tensor(size) + REACH_PX
    radius = uniform((count, 1, 1), 1.0, 4.0, generator)
    depth = uniform((count, 1, 1), 0.3, 1.0, generator)
    down = torch.arange(rows)[None, :, None] - place[:, 0, None, None]
    right = torch.arange(cols)[None, None, :] - place[:, 1, None, None]
    return there * depth * torch.exp(-0.5 * (down.square() + right.square()) / radius.square())


def _inner(canvas: Tensor, size: tuple[int, int]) -> Tensor:
    return canvas[:, REACH_PX : REACH_PX + size[0], REACH_PX : REACH_PX + size[1]]


def _moved(canvas: Tensor, offset_px: Tensor, size: tuple[int, int]) -> Tensor:
    """The patch of a canvas whose content was moved by (down, right)."""
    first = (REACH_PX - offset_px).long()
    rows = first[:, :1] + torch.arange(size[0])
    cols = first[:, 1:] + torch.arange(size[1])
    each = torch.arange(len(canvas))[:, None, None]
    moved: Tensor = canvas[each, rows[:, :, None], cols[:, None, :]]
    return moved


def _grown(mask: Tensor, most_px: int, generator: torch.Generator) -> Tensor:
    """Masks dilated by 0 to ``most_px`` pixels, as users' masks are."""
    by = torch.randint(0, most_px + 1, (len(mask), 1, 1), generator=generator)
    grown = mask
    for pixels in range(1, most_px + 1):
        wider = F.max_pool2d(mask.float()[:, None], 2 * pixels + 1, stride=1, padding=pixels)[:, 0] > 0
        grown = torch.where(by >= pixels, wider, grown)
    return grown
