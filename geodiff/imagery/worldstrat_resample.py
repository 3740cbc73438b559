"""Resampling between two lattices over one extent whose sizes stand in no whole ratio, shifted by parts of a pixel."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse

from geodiff.schema import BoolArray, FloatArray

SUPPORT = 2.0  # of the cubic kernel, in pixels of the coarser lattice


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution with a = -1/2 (Keys 1981, IEEE Transactions on ASSP 29(6))."""
    t = np.abs(distance)
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, near, np.where(t < SUPPORT, far, 0.0))


def _centred(weight: npt.NDArray[np.float64], distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights that sum to 1 and whose centre of mass is the centre: a sampled kernel that was stretched is neither.

    Without this, content that is made coarser moves by up to 0.03 pixels. What is added is ``(a + b d) h(d)`` with the
    triangle h over the support of the kernel; a and b solve the two conditions, row by row.
    """
    weight = weight / weight.sum(axis=1, keepdims=True)
    triangle = np.maximum(1 - np.abs(distance) / SUPPORT, 0)
    s0, s1, s2 = (np.sum(triangle * distance**k, axis=1) for k in (0, 1, 2))
    lack0, lack1 = 1 - weight.sum(axis=1), -np.sum(weight * distance, axis=1)
    determinant = s0 * s2 - s1 * s1
    a, b = (lack0 * s2 - lack1 * s1) / determinant, (lack1 * s0 - lack0 * s1) / determinant
    return np.asarray(weight + (a[:, None] + b[:, None] * distance) * triangle)


@lru_cache(maxsize=32)
def resample_matrix(source: int, target: int, shift: float) -> sparse.csr_array:
    """Cubic resampling along one axis, antialiased: where pixels grow, the kernel grows with them.

    Args:
        source: pixels of the image.
        target: pixels of the result, over the same extent.
        shift: by how much further down or right the image is looked at, in pixels of the image. Content that lies
            ``shift`` too far comes home.

    Returns:
        (target, source) sparse float64 whose rows sum to 1. Beyond the border the nearest pixel counts.
    """
    ratio = source / target
    width = max(ratio, 1.0)
    centre = (np.arange(target) + 0.5) * ratio + shift
    first = np.floor(centre - SUPPORT * width).astype(np.intp)
    taps = first[:, None] + np.arange(int(np.ceil(2 * SUPPORT * width)) + 2)[None, :]
    distance = (taps + 0.5 - centre[:, None]) / width
    weight = _centred(_cubic(distance), distance)
    rows = np.broadcast_to(np.arange(target)[:, None], taps.shape)
    index = np.clip(taps, 0, source - 1)
    # Taps that fall on one pixel, as beyond the border, add up.
    return sparse.coo_array((weight.ravel(), (rows.ravel(), index.ravel())), shape=(target, source)).tocsr()


def resample(image: FloatArray, shape: tuple[int, int], shift_px: tuple[float, float] = (0.0, 0.0)) -> FloatArray:
    """Bring an image onto another lattice over the same extent.

    Args:
        image: (..., y, x) float32, no NaN.
        shape: (rows, columns) of the result; the ratio per axis is that of the sizes, whole or not.
        shift_px: how far the content lies (down, right) of where it belongs, in pixels of the image.

    Returns:
        (..., rows, columns) float32.
    """
    down = resample_matrix(image.shape[-2], shape[0], float(shift_px[0]))
    across = resample_matrix(image.shape[-1], shape[1], float(shift_px[1]))
    flat = image.reshape(-1, *image.shape[-2:])
    out = np.empty((len(flat), *shape), np.float32)
    for index, layer in enumerate(flat):
        out[index] = (across @ (down @ layer.astype(np.float64)).T).T
    return out.reshape(*image.shape[:-2], *shape)


def reached(valid: BoolArray, shape: tuple[int, int], shift_px: tuple[float, float] = (0.0, 0.0)) -> BoolArray:
    """Pixels of the result of ``resample`` of which every contributing pixel exists and is valid.

    Args:
        valid: (y, x) bool, of the image.
        shape: of the result.
        shift_px: as for ``resample``.

    Returns:
        (rows, columns) bool.
    """
    down, down_inside = _touched(valid.shape[0], shape[0], float(shift_px[0]))
    across, across_inside = _touched(valid.shape[1], shape[1], float(shift_px[1]))
    hidden = (across @ (down @ (~valid).astype(np.float64)).T).T
    return np.asarray((hidden == 0) & down_inside[:, None] & across_inside[None, :])


@lru_cache(maxsize=32)
def _touched(source: int, target: int, shift: float) -> tuple[sparse.csr_array, BoolArray]:
    """What contributes to each pixel along one axis, and whether no more than half a pixel of that lies outside."""
    matrix = resample_matrix(source, target, shift)
    ones = sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    edges = np.arange(target) * (source / target) + shift
    inside = (edges >= -0.5) & (edges + source / target <= source + 0.5)
    return ones, np.asarray(inside)
