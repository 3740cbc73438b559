"""Matching the radiometry of one image to another's, band by band, in spite of what has changed between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.rng import generator
from geodiff.schema import BoolArray, FloatArray

ROUNDS, CUT = 30, 4.685  # Tukey's biweight, 95 % efficient (Huber and Ronchetti 2009, Robust Statistics, 4.8)
PAIRS = 4000
MIN_PIXELS = 8
MIN_SPREAD = 1e-3  # reflectance, robust; a band that varies less cannot tell its gain
GAINS = (0.1, 10.0)
MIN_DEVIATION = 1e-5
CHANGED, CHANGED_DEVIATIONS = 0.08, 8.0

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """``gain * x + offset`` for one band, with how well it fits; see ``HrTransform``."""

    gain: float
    offset: float
    residual: float
    fitted: bool


def match_band(seen: FloatArray, low: FloatArray, use: BoolArray) -> Line:
    """The robust straight line from one band to another, both (y, x), over the pixels ``use``.

    A median of slopes to begin with (Theil 1950, Sen 1968), then iteratively reweighted least squares with Tukey's
    biweight: what changed between the dates, a cloud in one of them, weighs nothing, up to about a quarter of the
    pixels. Where the band is too flat to tell a gain, the gain is 1.
    """
    x, y = seen[use].astype(np.float64), low[use].astype(np.float64)
    if len(x) < MIN_PIXELS or min(_deviation(x), _deviation(y)) < MIN_SPREAD:
        return _offset_only(x, y)
    gain = _median_slope(x, y)
    offset = float(np.median(y - gain * x))
    for _ in range(ROUNDS):
        rest = (y - gain * x - offset) / (CUT * _deviation(y - gain * x - offset))
        weight = np.where(np.abs(rest) < 1, (1 - rest**2) ** 2, 0.0)
        mx, my = np.average(x, weights=weight), np.average(y, weights=weight)
        spread = float((weight * (x - mx) ** 2).sum())
        if spread <= 0:
            return _offset_only(x, y)
        before, gain = gain, float((weight * (x - mx) * (y - my)).sum()) / spread
        offset = float(my - gain * mx)
        if abs(gain - before) < 1e-6:
            break
    rest = y - gain * x - offset
    kept = np.abs(rest - np.median(rest)) < CUT * _deviation(rest)
    if not GAINS[0] < gain < GAINS[1]:
        return _offset_only(x, y)
    return Line(gain, offset, float(np.sqrt((rest[kept] ** 2).mean())), fitted=True)


def _deviation(values: _Values) -> float:
    """Standard deviation by the median absolute one."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), MIN_DEVIATION)


def _median_slope(x: _Values, y: _Values) -> float:
    """Median slope of drawn pairs of pixels whose x differ enough."""
    draw = generator(0, "median slope", len(x)).integers(0, len(x), (2, PAIRS))
    dx, dy = x[draw[0]] - x[draw[1]], y[draw[0]] - y[draw[1]]
    apart = np.abs(dx) > 0.5 * _deviation(x)
    return float(np.median(dy[apart] / dx[apart])) if apart.any() else 1.0


def _offset_only(x: _Values, y: _Values) -> Line:
    if not len(x):
        return Line(1.0, 0.0, 0.0, fitted=False)
    offset = float(np.median(y - x))
    return Line(1.0, offset, float(np.sqrt(((y - x - offset) ** 2).mean())), fitted=False)


def changed_pixels(matched: FloatArray, low: FloatArray, use: BoolArray) -> BoolArray:
    """Where the matched image and the reference show different things, three pixels wide or more.

    Args:
        matched: (band, y, x) float32, degraded and matched.
        low: (band, y, x) float32.
        use: (y, x) bool.

    Returns:
        (y, x) bool; the mean difference of the bands counts beyond 0.08 reflectance and eight robust deviations.
    """
    if not use.any():
        return np.zeros(use.shape, np.bool_)
    difference = np.where(use, np.abs(matched - low).mean(axis=0), np.float32(0))
    limit = max(CHANGED, CHANGED_DEVIATIONS * 1.4826 * float(np.median(difference[use])))
    core = ndimage.binary_opening(difference > limit, np.ones((3, 3)))
    return np.asarray(ndimage.binary_dilation(core, np.ones((3, 3))) if core.any() else core)
