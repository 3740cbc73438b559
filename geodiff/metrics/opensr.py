"""Consistency, synthesis and correctness as opensr-test defines them.

From Aybar et al. 2024, "A comprehensive benchmark for optical remote sensing image super-resolution", with constants
that release 1.3 of the benchmark takes by default. What is new in a super-resolved image is held against two
others: the low resolution drawn larger, which knows no detail, and the truth. Three ways remain to leave the first:
improvement goes towards the truth, omission stays, hallucination goes elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.metrics.fidelity import spectral_angle_deg
from geodiff.metrics.registration import displacement
from geodiff.schema import BoolArray, FloatArray

Array = npt.NDArray[np.float64]

BORDER_PX = 16
"""High-resolution pixels at the border that do not count (rounded down to whole low-resolution pixels)."""

LAMBDA = 0.05
"""How fast the centres of improvement, omission and hallucination give way to each other."""

TEMPERATURE = 0.25
"""Of the softmin over the three distances."""

QUANTILE = 0.75
"""Pixels count where a distance exceeds this quantile of that between low resolution and truth: where detail is."""


@dataclass(frozen=True, slots=True)
class LowConsistency:
    """Does the image agree with the low resolution that it was made from?

    Attributes:
        reflectance: mean absolute difference, in reflectance.
        spectral_deg: mean spectral angle in degrees.
        spatial_px: distance between the two, in low-resolution pixels.
    """

    reflectance: float
    spectral_deg: float
    spatial_px: float


@dataclass(frozen=True, slots=True)
class Correctness:
    """Mean membership of the pixels that count; the three sum to 1.

    Attributes:
        improvement: near to the truth; more is better.
        omission: near to the low resolution.
        hallucination: far from both.
    """

    improvement: float
    omission: float
    hallucination: float


def low_consistency(low: FloatArray, estimate: FloatArray, *, scale: int) -> LowConsistency:
    """Compare an image, averaged down with a triangle filter, with the low resolution.

    The benchmark knows no sensor; for the optics of the sensor see ``geodiff.metrics.consistency``.

    Args:
        low: (band, y, x) reflectance, finite.
        estimate: (band, scale*y, scale*x) reflectance, finite.
        scale: integer ratio of the resolutions.

    Raises:
        ValueError: shapes that do not fit, gaps, or images of fewer than 16 low-resolution pixels inside the border.
    """
    low, estimate = _cropped(low, estimate, scale)
    down = shrink(estimate, scale)
    error = float(np.abs(down - low).mean())
    down_px, right_px = displacement(down.mean(0), low.astype(np.float64).mean(0))
    angle = spectral_angle_deg(down.astype(np.float32), low)
    return LowConsistency(error, angle, float(np.hypot(down_px, right_px)))


def synthesis(
    low: FloatArray, estimate: FloatArray, truth: FloatArray, clear: BoolArray | None = None, *, scale: int
) -> float:
    """Mean absolute difference, in reflectance, between a harmonised image and the low resolution drawn larger.

    How much was added, right or wrong. Arguments and errors as of ``correctness``.
    """
    images = _prepared(low, estimate, truth, clear, scale=scale, harmonise=True)
    return float(np.abs(images.low - images.estimate).mean())


def correctness(
    low: FloatArray,
    estimate: FloatArray,
    truth: FloatArray,
    clear: BoolArray | None = None,
    *,
    scale: int,
    harmonise: bool = True,
) -> Correctness:
    """Share of improvement, omission and hallucination in a super-resolved image.

    The distance of two images at a pixel is the mean over the bands of |x - y| / (|x| + |y|), 0 to 1. With d_im from
    estimate to truth and d_om from estimate to the low resolution, both divided by that between low resolution and
    truth, and H = d_im + d_om - 1:
    improvement d_im + d_om (1 - exp(-L H)), omission d_om + d_im (1 - exp(-L H)), hallucination exp(-L d_im d_om)
    are distances to the three extremes; the softmin over them is what is averaged.

    Two departures from the benchmark: the histogram is matched, but no shift is sought (what is compared here is
    registered before), and pixels under clouds count nowhere. For values below zero, which it does not expect, the
    distance of the benchmark has no bound.

    Args:
        low: (band, y, x) reflectance, finite, of the date that is compared.
        estimate: (band, scale*y, scale*x) reflectance.
        truth: (band, scale*y, scale*x) reflectance.
        clear: (scale*y, scale*x) bool, pixels that count; all finite ones when None.
        scale: integer ratio of the resolutions.
        harmonise: give the estimate the histogram of the truth first, band by band.

    Raises:
        ValueError: shapes that do not fit, gaps in the low resolution, no clear pixel inside the border, or three
            images that nowhere differ.
    """
    images = _prepared(low, estimate, truth, clear, scale=scale, harmonise=harmonise)
    reference = fractional_difference(images.low, images.truth)
    to_truth = fractional_difference(images.estimate, images.truth)
    to_low = fractional_difference(images.estimate, images.low)
    # The k-th smallest, not an interpolated quantile: as the benchmark has it.
    rank = max(int(QUANTILE * reference.size), 1)
    threshold = np.partition(reference, rank - 1)[rank - 1]
    counted = np.maximum(np.maximum(reference, to_truth), to_low) > threshold
    if not counted.any():
        raise ValueError("low resolution, estimate and truth nowhere differ: nothing was to be restored")
    with np.errstate(divide="ignore"):
        # Where low resolution and truth agree, all that was added is infinitely far: a hallucination.
        d_im, d_om = to_truth[counted] / reference[counted], to_low[counted] / reference[counted]
    shares = memberships(d_im, d_om).mean(1)
    return Correctness(float(shares[0]), float(shares[1]), float(shares[2]))


def memberships(d_im: Array, d_om: Array, *, sharpness: float = LAMBDA, temperature: float = TEMPERATURE) -> Array:
    """Improvement, omission and hallucination of pixels with the relative distances ``d_im`` and ``d_om``.

    Args:
        d_im: (n,) distance to the truth, over that between low resolution and truth; may be infinite.
        d_om: (n,) distance to the low resolution, likewise.
        sharpness: the constant L of the distances.
        temperature: of the softmin.

    Returns:
        (3, n), columns sum to 1.
    """
    far = np.isinf(d_im) | np.isinf(d_om)
    im, om = np.where(far, 0.0, d_im), np.where(far, 0.0, d_om)
    bend = 1 - np.exp(-sharpness * (im + om - 1))
    distances = np.stack([im + om * bend, om + im * bend, np.exp(-sharpness * im * om)])
    distances[:, far] = np.array([[np.inf], [np.inf], [0.0]])
    weight = np.exp(-(distances - distances.min(0)) / temperature)
    return np.asarray(weight / weight.sum(0))


def fractional_difference(x: Array, y: Array) -> Array:
    """Mean over the first axis of |x - y| / (|x| + |y|), which is 0 where both are 0."""
    total = np.abs(x) + np.abs(y)
    return np.asarray(np.divide(np.abs(x - y), total, out=np.zeros_like(total), where=total > 0).mean(0))


def match_histogram(values: Array, template: Array) -> Array:
    """Give (n,) values the distribution of (m,) template values, keeping their order; equal values stay equal."""
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    known, known_count = np.unique(template, return_counts=True)
    quantile, known_quantile = np.cumsum(count) / values.size, np.cumsum(known_count) / template.size
    return np.asarray(np.interp(quantile, known_quantile, known)[where])


def enlarge(low: FloatArray, scale: int) -> Array:
    """Bilinear interpolation of (..., y, x) between pixel centres, constant beyond the outer ones."""
    rows, cols = (_bilinear(size, scale) for size in low.shape[-2:])
    return np.asarray(rows @ low.astype(np.float64) @ cols.T)


def shrink(image: FloatArray, scale: int) -> Array:
    """Average (..., scale*y, scale*x) down with a triangle of twice the width of a low-resolution pixel."""
    rows, cols = (_triangle(size // scale, scale) for size in image.shape[-2:])
    return np.asarray(rows @ image.astype(np.float64) @ cols.T)


def _bilinear(size: int, scale: int) -> Array:
    place = np.clip((np.arange(size * scale) + 0.5) / scale - 0.5, 0, size - 1)
    return np.asarray(np.maximum(1 - np.abs(place[:, None] - np.arange(size)[None, :]), 0))


def _triangle(size: int, scale: int) -> Array:
    distance = (np.arange(size * scale) + 0.5)[None, :] / scale - (np.arange(size) + 0.5)[:, None]
    weight = np.maximum(1 - np.abs(distance), 0)
    return np.asarray(weight / weight.sum(1, keepdims=True))


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """(band, n) float64 each: the pixels that are clear, inside the border."""

    low: Array
    estimate: Array
    truth: Array


def _cropped(low: FloatArray, image: FloatArray, scale: int) -> tuple[FloatArray, FloatArray]:
    """Both without the border; ValueError when they do not fit, or where the low resolution has gaps."""
    bands, rows, cols = low.shape
    if image.shape != (bands, rows * scale, cols * scale):
        raise ValueError(f"low resolution {low.shape} and image {image.shape} do not fit x{scale}")
    if not np.isfinite(low).all():
        raise ValueError("the low resolution has gaps: fill them first, and mask them by `clear`")
    cut = BORDER_PX // scale
    if min(rows, cols) <= 2 * cut:
        raise ValueError(f"{rows} x {cols} low-resolution pixels leave nothing inside a border of {cut}")
    low = low[:, cut : rows - cut, cut : cols - cut]
    return low, image[:, cut * scale : (rows - cut) * scale, cut * scale : (cols - cut) * scale]


def _prepared(
    low: FloatArray, estimate: FloatArray, truth: FloatArray, clear: BoolArray | None, *, scale: int, harmonise: bool
) -> _Images:
    seen: BoolArray = np.asarray(np.isfinite(estimate).all(0) & np.isfinite(truth).all(0))
    seen = seen if clear is None else seen & clear
    _, estimate = _cropped(low, estimate, scale)
    low, truth = _cropped(low, truth, scale)
    cut = (seen.shape[0] - truth.shape[1]) // 2
    inside = seen[cut : cut + truth.shape[1], cut : cut + truth.shape[2]]
    if not inside.any():
        raise ValueError("no clear pixel to compare on")
    flat = [image[:, inside].astype(np.float64) for image in (estimate, truth)]
    if harmonise:
        flat[0] = np.stack([match_histogram(x, y) for x, y in zip(*flat, strict=True)])
    return _Images(enlarge(low, scale)[:, inside], flat[0], flat[1])
