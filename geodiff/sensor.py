"""The optics of an imager as linear algebra: blur by the sensor's MTF, sampling, and the exact inverse constraint.

A low-resolution pixel is the high-resolution image seen through a Gaussian point spread function and sampled every
``scale`` pixels. The Gaussian is fixed by its modulation transfer function at the Nyquist frequency of the low
resolution, as usual for pansharpening and Wald protocols (Aiazzi et al. 2006, "MTF-tailored multiscale fusion of
high-resolution MS and Pan imagery", PE&RS 72(5)). Both axes are separable, so that degrading is ``A @ image @ A.T``
with a banded matrix A, and the nearest image that satisfies an observation is found in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from geodiff.schema import BANDS_20M, FloatArray

_MTF_10M = {"B02": 0.29, "B03": 0.28, "B04": 0.26, "B08": 0.26}
_MTF_20M = {"B05": 0.35, "B06": 0.34, "B07": 0.33, "B8A": 0.32, "B11": 0.23, "B12": 0.24}
MTF_AT_NYQUIST: Mapping[str, float] = MappingProxyType(_MTF_10M | _MTF_20M)
"""Modulation of Sentinel-2 MSI at the Nyquist frequency of each band: 0.05 cycles/m for those of 10 m, 0.025 for
those of 20 m. The mission's data quality reports give 0.2 to 0.35 for the 10 m bands, a little more for the red edge
and less for the short-wave infrared, varying between the units, the axes and the method of measurement; the second
digit here is not to be trusted."""

DEFAULT_MTF = 0.28


def gaussian_sigma(scale: int, mtf: float) -> float:
    """Standard deviation, in high-resolution pixels, of the Gaussian whose MTF at the low Nyquist frequency is ``mtf``.

    From exp(-2 pi^2 sigma^2 f^2) = mtf at f = 1 / (2 scale).
    """
    return scale / math.pi * math.sqrt(-2.0 * math.log(mtf))


@lru_cache(maxsize=64)
def degrade_matrix(size: int, scale: int, mtf: float) -> npt.NDArray[np.float64]:
    """Blur-and-sample along one axis.

    Args:
        size: number of low-resolution pixels.
        scale: high-resolution pixels in one of them.
        mtf: modulation at the low-resolution Nyquist frequency, in (0, 1).

    Returns:
        (size, size * scale) float64, read-only; rows sum to 1, also at the borders, where the PSF is cut.
    """
    centre = (np.arange(size) + 0.5) * scale
    pixel = np.arange(size * scale) + 0.5
    sigma = gaussian_sigma(scale, mtf)
    distance = (pixel[None, :] - centre[:, None]) / sigma
    weight = np.where(np.abs(distance) <= 4.0, np.exp(-0.5 * distance**2), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    weight.flags.writeable = False
    return weight


@lru_cache(maxsize=64)
def restore_matrix(size: int, scale: int, mtf: float) -> npt.NDArray[np.float64]:
    """Right inverse A^T (A A^T)^-1 of ``degrade_matrix``: the smallest signal that degrades to a given one.

    Returns:
        (size * scale, size) float64, read-only.
    """
    a = degrade_matrix(size, scale, mtf)
    inverse: npt.NDArray[np.float64] = np.asarray(np.linalg.solve(a @ a.T, a).T, np.float64)
    inverse.flags.writeable = False
    return inverse


def band_mtf(bands: tuple[str, ...]) -> tuple[float, ...]:
    """MTF at Nyquist for each band (``DEFAULT_MTF`` for a band that is not listed)."""
    return tuple(MTF_AT_NYQUIST.get(band, DEFAULT_MTF) for band in bands)


def native_step(band: str) -> int:
    """How many pixels of the 10 m lattice one pixel of a band is wide: 2 for the bands of 20 m, 1 for all others."""
    return 2 if band in BANDS_20M else 1


def degrade(image: FloatArray, scale: int, mtf: tuple[float, ...]) -> FloatArray:
    """See a high-resolution image through the sensor.

    Args:
        image: (..., band, scale * y, scale * x) float32, no NaN.
        scale: integer ratio of the resolutions.
        mtf: modulation at Nyquist of each band.

    Returns:
        (..., band, y, x) float32.
    """
    rows, cols = image.shape[-2] // scale, image.shape[-1] // scale
    out = np.empty((*image.shape[:-2], rows, cols), np.float32)
    for index, value in enumerate(mtf):
        a, b = degrade_matrix(rows, scale, value), degrade_matrix(cols, scale, value)
        out[..., index, :, :] = a @ image[..., index, :, :] @ b.T
    return out
