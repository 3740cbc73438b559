"""How a synthetic ground is sampled: displaced scenes through the optics, pixels larger than those of the lattice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geodiff.schema import FloatArray
from geodiff.sensor import gaussian_sigma
from geodiff.testing.fields import Floats


def sample_matrix(
    size: int, scale: int, mtf: float, shift_px: float, *, length: int | None = None
) -> npt.NDArray[np.float64]:
    """Blur and sampling along one axis of a scene displaced by ``shift_px`` low-resolution pixels, down or right.

    Without a shift this is ``geodiff.sensor.degrade_matrix``: a Gaussian point spread function with the given MTF at
    Nyquist, cut and renormalised at the border.

    Args:
        size: number of low-resolution pixels.
        scale: high-resolution pixels in one of them.
        mtf: modulation at the low-resolution Nyquist frequency.
        shift_px: in low-resolution pixels.
        length: high-resolution pixels that there are, where the last low-resolution pixel lies partly beyond them.

    Returns:
        (size, length) float64.
    """
    end = length or size * scale
    centre = np.clip((np.arange(size) + 0.5 - shift_px) * scale, 0, end)
    pixel = np.arange(end) + 0.5
    distance = (pixel[None, :] - centre[:, None]) / gaussian_sigma(scale, mtf)
    weight = np.where(np.abs(distance) <= 4.0, np.exp(-0.5 * distance**2), 0.0)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def observe(
    image: FloatArray,
    scale: int,
    mtf: Sequence[float],
    shift_px: tuple[float, float],
    *,
    steps: Sequence[int] | None = None,
) -> FloatArray:
    """See a ground through the sensor.

    Args:
        image: (band, scale*y, scale*x) reflectance.
        scale: high-resolution pixels per low-resolution pixel.
        mtf: modulation of each band at its own Nyquist frequency.
        shift_px: (down, right) displacement of the content in low-resolution pixels.
        steps: low-resolution pixels per pixel of each band (``sensor.native_step``); 1 for all when None.

    Returns:
        (band, y, x) float32; pixels larger than the low resolution's are repeated.
    """
    rows, cols = image.shape[1] // scale, image.shape[2] // scale
    seen = np.empty((len(image), rows, cols), np.float32)
    for index, (band, m, step) in enumerate(zip(image, mtf, steps or [1] * len(image), strict=True)):
        down, right = (
            sample_matrix(-(-size // step), scale * step, m, shift / step, length=size * scale)
            for size, shift in zip((rows, cols), shift_px, strict=True)
        )
        seen[index] = repeated((down @ band @ right.T).astype(np.float32), step, (rows, cols))
    return seen


def over_blocks(image: Floats, step: int) -> FloatArray:
    """(rows, columns) with each block of ``step`` by ``step`` pixels, cut at the end, replaced by its mean."""
    if step == 1:
        return np.asarray(image, np.float32)
    rows, cols = image.shape
    starts = np.arange(0, rows, step), np.arange(0, cols, step)
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    sizes = np.outer(np.minimum(step, rows - starts[0]), np.minimum(step, cols - starts[1]))
    return repeated((sums / sizes).astype(np.float32), step, (rows, cols))


def repeated(image: FloatArray, step: int, shape: tuple[int, int]) -> FloatArray:
    """(..., ceil(rows/step), ceil(columns/step)) as blocks of ``step`` by ``step`` equal pixels, cut to ``shape``."""
    wide: FloatArray = image.repeat(step, axis=-2).repeat(step, axis=-1)[..., : shape[0], : shape[1]]
    return wide
