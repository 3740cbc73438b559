"""Sharpness and texture: the radial power spectrum, its gap to that of the truth, and the fidelity of edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.metrics.fidelity import seen_pixels
from geodiff.schema import BoolArray, FloatArray

Array = npt.NDArray[np.float64]

SMALLEST_PX = 16
"""Sides below this have too few frequencies for a spectrum."""

EDGE_SHARE = 0.1
"""Share of the pixels, those of the steepest truth, that count as edges."""


@dataclass(frozen=True, slots=True)
class SpectrumGap:
    """Power of an estimate against that of the truth, over the frequencies that super-resolution adds.

    Attributes:
        largest_db: the largest absolute difference of any frequency band.
        mean_db: mean difference; negative where the estimate is too smooth, positive where it is too rough.
    """

    largest_db: float
    mean_db: float


def radial_power(image: npt.NDArray[np.floating[Any]], *, bins: int | None = None) -> tuple[Array, Array]:
    """Power spectral density averaged over all directions (periodogram with a Hann window; Welch 1967).

    The mean is removed under the window. White noise of variance v has the power v at every frequency.

    Args:
        image: (..., y, x), finite, at least 16 x 16; each leading index has a spectrum of its own.
        bins: frequency bands between 0 and the Nyquist frequency; a quarter of the shorter side when None.

    Returns:
        (bins,) centres of the bands as a share of the Nyquist frequency (1 is 0.5 cycles a pixel), and
        (..., bins) power, in the square of the image's unit. Frequencies beyond Nyquist, in the corners, are left out.

    Raises:
        ValueError: gaps, an image that is too small, or more bands than frequencies.
    """
    rows, cols = image.shape[-2:]
    if min(rows, cols) < SMALLEST_PX:
        raise ValueError(f"an image of {rows} x {cols} pixels is too small for a spectrum: {SMALLEST_PX} at least")
    if not np.isfinite(image).all():
        raise ValueError("the image has gaps: take a part of it without any")
    bins = min(rows, cols) // 4 if bins is None else bins
    if not 1 <= bins <= min(rows, cols) // 2:
        raise ValueError(f"{bins} frequency bands in {rows} x {cols} pixels: 1 to {min(rows, cols) // 2}")
    window = np.outer(_hann(rows), _hann(cols))
    values = image.astype(np.float64)
    values = (values - (values * window).sum((-2, -1), keepdims=True) / window.sum()) * window
    power = np.abs(np.fft.fft2(values)) ** 2 / np.square(window).sum()
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols)[None, :]) * 2
    band = np.floor(radius * bins).astype(int)
    # The mean is gone, and with it the origin; what lies exactly on Nyquist belongs to the last band.
    band[np.isclose(radius, 1)] = bins - 1
    inside = (band < bins) & (radius > 0)
    count = np.bincount(band[inside], minlength=bins)
    flat = power.reshape(-1, rows, cols)[:, inside]
    sums = np.stack([np.bincount(band[inside], one, minlength=bins) for one in flat])
    return (np.arange(bins) + 0.5) / bins, (sums / count).reshape(*image.shape[:-2], bins)


def _hann(size: int) -> Array:
    """The window sampled at pixel centres: no pixel has the weight 0."""
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


def spectrum_gap_db(
    estimate: FloatArray,
    truth: FloatArray,
    clear: BoolArray | None = None,
    *,
    scale: int = 4,
    up_to: float = 0.8,
) -> SpectrumGap:
    """Difference of radial power in decibels, over the frequencies that the low resolution cannot carry.

    Decibels are averaged over the bands of the images, then compared from 1/scale of the Nyquist frequency (that of
    the low resolution) up to ``up_to`` of it.

    Args:
        estimate: (band, y, x) reflectance.
        truth: (band, y, x) reflectance.
        clear: (y, x) bool; where it or an image has gaps, the largest square without any is taken.
        scale: integer ratio of the resolutions.
        up_to: share of the Nyquist frequency.

    Raises:
        ValueError: shapes that differ, no clear square of 16 pixels, or no frequency in the range.
    """
    part = (slice(None), *clear_square(seen_pixels(estimate=estimate, truth=truth, clear=clear)))
    frequency, found = radial_power(estimate[part])
    _, wanted = radial_power(truth[part])
    return power_gap_db(frequency, found, wanted, scale=scale, up_to=up_to)


def power_gap_db(frequency: Array, estimate: Array, truth: Array, *, scale: int = 4, up_to: float = 0.8) -> SpectrumGap:
    """Same as ``spectrum_gap_db``, for spectra that were averaged over many images.

    Args:
        frequency: (bins,) share of the Nyquist frequency.
        estimate: (..., bins) power.
        truth: (..., bins) power.
        scale: integer ratio of the resolutions.
        up_to: share of the Nyquist frequency.

    Raises:
        ValueError: no frequency in the range.
    """
    counted = (frequency > 1 / scale) & (frequency <= up_to)
    if not counted.any():
        raise ValueError(f"no frequency between {1 / scale:.2f} and {up_to:.2f} of Nyquist: take a larger image")
    # Power of exactly zero (a flat image) would be an infinite gap; 1e-20 is far below the step of float32 reflectance.
    ratio = np.maximum(estimate[..., counted], 1e-20) / np.maximum(truth[..., counted], 1e-20)
    gap = 10 * np.log10(ratio).reshape(-1, int(counted.sum())).mean(0)
    return SpectrumGap(float(np.abs(gap).max()), float(gap.mean()))


def clear_square(clear: BoolArray) -> tuple[slice, slice]:
    """Rows and columns of the whole image where all of it is clear, else of its largest clear square.

    Raises:
        ValueError: no clear square of 16 pixels.
    """
    if clear.all():
        return slice(None), slice(None)
    # The chessboard distance to the nearest gap (the border counts as one) is half the side of a clear square.
    depth = ndimage.distance_transform_cdt(np.pad(clear, 1), metric="chessboard")[1:-1, 1:-1]
    row, col = (int(i) for i in np.unravel_index(int(depth.argmax()), depth.shape))
    reach = int(depth.max()) - 1
    if 2 * reach + 1 < SMALLEST_PX:
        raise ValueError(f"no clear square of {SMALLEST_PX} pixels: the spectrum needs one")
    return slice(row - reach, row + reach + 1), slice(col - reach, col + reach + 1)


def edge_fidelity(estimate: FloatArray, truth: FloatArray, clear: BoolArray | None = None) -> float:
    """Agreement of the gradients of two images at the strong edges of the truth.

    2 sum(g_e . g_t) / (sum |g_e|^2 + sum |g_t|^2) over the tenth of the clear pixels where the truth is steepest, by
    band: 1 when the edges stand where they should with the contrast they should have. Edges weaker by a factor c, as of
    a blurred image, give 2c / (1 + c^2); exaggerated ones lose as much; misplaced ones go to 0, inverted ones to -1.
    Gradients are central differences. (A Dice coefficient of vectors; our own definition.)

    Args:
        estimate: (band, y, x) reflectance.
        truth: (band, y, x) reflectance.
        clear: (y, x) bool, pixels that count; all finite ones when None.

    Returns:
        -1 to 1, mean over the bands in which the truth has an edge.

    Raises:
        ValueError: shapes that differ, no clear pixel away from gaps, or a truth without any edge.
    """
    seen = seen_pixels(estimate=estimate, truth=truth, clear=clear)
    # A difference looks at both neighbours: they must be clear too.
    whole = ndimage.binary_erosion(seen, border_value=0)
    if not whole.any():
        raise ValueError("no clear pixel to compare on")
    values = []
    for image, wanted in zip(estimate, truth, strict=True):
        found_g, wanted_g = (np.stack(np.gradient(x.astype(np.float64)))[:, whole] for x in (image, wanted))
        power = np.square(wanted_g).sum(0)
        strong = (power >= np.quantile(power, 1 - EDGE_SHARE)) & (power > 0)
        if strong.any():
            found_g, wanted_g = found_g[:, strong], wanted_g[:, strong]
            values.append(2 * (found_g * wanted_g).sum() / (np.square(found_g).sum() + np.square(wanted_g).sum()))
    if not values:
        raise ValueError("the truth has no edge in its clear pixels")
    return float(np.mean(values))
