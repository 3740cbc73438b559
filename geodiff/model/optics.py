"""The sensor as tensors: seeing an image through it, and the hard constraint that this equals the observation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geodiff.sensor import degrade_matrix, restore_matrix


def _matrices(size: int, scale: int, mtf: Sequence[float], like: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([degrade_matrix(size, scale, float(m)) for m in mtf])).to(like)


def _inverses(size: int, scale: int, mtf: Sequence[float], like: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([restore_matrix(size, scale, float(m)) for m in mtf])).to(like)


def see(image: Tensor, scale: int, mtf: Sequence[float]) -> Tensor:
    """Blur and sample: (..., band, scale*y, scale*x) -> (..., band, y, x), with one MTF at Nyquist per band."""
    rows, cols = image.shape[-2] // scale, image.shape[-1] // scale
    down, right = _matrices(rows, scale, mtf, image), _matrices(cols, scale, mtf, image)
    return down @ image @ right.transpose(-1, -2)


def enforce(image: Tensor, observed: Tensor, valid: Tensor, scale: int, mtf: Sequence[float]) -> Tensor:
    """Move an image by the least amount (L2) so that, seen through the sensor, it equals the observation.

    x' = x + R_y (valid * (y - D x)) R_x^T with the right inverses R of the axes: then D x' = y on valid pixels and
    D x' = D x elsewhere, up to rounding. A correction fades by half from one low-resolution pixel to the next, so that
    a halo of 16 makes it independent of the window.

    Args:
        image: (..., band, scale*y, scale*x).
        observed: (band, y, x), finite where ``valid``.
        valid: (y, x) bool.
        scale: integer ratio of the resolutions.
        mtf: modulation at Nyquist of each band.

    Returns:
        The corrected image.
    """
    rows, cols = observed.shape[-2:]
    missing = torch.where(valid, observed - see(image, scale, mtf), 0.0)
    down, right = _inverses(rows, scale, mtf, image), _inverses(cols, scale, mtf, image)
    return image + down @ missing @ right.transpose(-1, -2)
