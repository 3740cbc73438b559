"""How rough the ground is at a pixel: what errors, and with them the deviation of members, grow with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TEXTURE_PX = 9
"""Window of the texture: two low-resolution pixels and one more, so that edges between two of them are seen."""

FLOOR = 1e-3
"""Reflectance below which differences tell nothing: a tenth of what the sensor's calibration is good for."""


def box_mean(image: Tensor, side: int) -> Tensor:
    """Mean over windows of ``side`` pixels of (n, channel, y, x); at the border over what lies inside."""
    if side == 1:
        return image
    return F.avg_pool2d(image, side, stride=1, padding=side // 2, count_include_pad=False)


def texture(upsampled: Tensor) -> Tensor:
    """Local standard deviation of the upsampled reference (1, band, y, x), in reflectance.

    Differences to the window's own centre are squared, not the values: their variance would drown in rounding.
    """
    mean = box_mean(upsampled, TEXTURE_PX)
    return box_mean((upsampled - mean).square(), TEXTURE_PX).sqrt()
