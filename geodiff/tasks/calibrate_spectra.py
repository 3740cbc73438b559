"""Spectra of patches: by radial frequency, between bands, and on a lattice of all directions."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)

EDGE_PX = 16
"""High-resolution pixels at the border of a patch that do not count: the model lacks context there."""

BINS = 24
"""A window of 96 pixels has two radii in each, and a kernel of ``REACH_PX`` tells no more of them apart."""

CENTRES = (np.arange(BINS) + 0.5) / BINS
"""Radial frequencies in units of the Nyquist frequency of the high resolution."""

UP_TO = 0.8
"""Radial frequency beyond which spectra are not judged."""

LATTICE = 48
"""Frequencies to a side on which a kernel is fitted: twice as many as one of ``REACH_PX`` tells apart."""

SMOOTHED = 0.6
"""Steps of this lattice over which power is averaged (one standard deviation)."""


def inner(image: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Without the border that does not count."""
    return image[..., EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]


def radial_power(image: npt.NDArray[np.floating]) -> Array:
    """(..., side, side) -> (..., BINS): power by radial frequency, under a Hann window that hides the borders."""
    return by_radius(_windowed_power(image))


def _windowed_power(image: npt.NDArray[np.floating]) -> Array:
    power: Array = np.abs(_windowed(image)) ** 2
    return power


def _windowed(image: npt.NDArray[np.floating]) -> npt.NDArray[np.complexfloating]:
    hann = np.hanning(image.shape[-1] + 2)[1:-1]
    centred = image - image.mean((-2, -1), keepdims=True)
    spectrum: npt.NDArray[np.complexfloating] = np.fft.fft2(centred * hann[:, None] * hann)
    return spectrum


def by_radius(power: Array) -> Array:
    """(..., side, side) of the frequencies of an image -> (..., BINS): means by radial frequency."""
    side = power.shape[-1]
    averaged: Array = (_hats(side) @ power.reshape(-1, side * side).T).T
    return averaged.reshape(*power.shape[:-2], BINS)


@cache
def _hats(side: int) -> sparse.csr_array:
    """(BINS, side * side) weights of the frequencies of an image in each mean, falling linearly from its centre.

    Bins with edges would hold one radius of a small image here and two there, and zigzag along a steep spectrum.
    """
    weight = (1 - np.abs(radius(side) - CENTRES[:, None]) * BINS).clip(0)
    return sparse.csr_array(weight / weight.sum(1, keepdims=True))


def cross_power(image: Array) -> Array:
    """(band, side, side) -> (band, band, BINS): real part of the cross-spectra by radial frequency."""
    spectrum = _windowed(image)
    return by_radius((spectrum[:, None] * spectrum.conj()).real)


def lattice_power(image: Array) -> Array:
    """(..., side, side) -> (..., LATTICE, LATTICE): power, averaged over ``SMOOTHED`` steps of the lattice."""
    side = image.shape[-1]
    away = np.subtract.outer(np.fft.fftfreq(LATTICE), np.fft.fftfreq(side))
    weight = np.exp(-0.5 * (LATTICE / SMOOTHED * ((away + 0.5) % 1 - 0.5)) ** 2)
    weight /= weight.sum(1, keepdims=True)
    found: Array = weight @ _windowed_power(image) @ weight.T
    return found


def radius(side: int) -> Array:
    """(side * side,) radial frequencies of an image in units of the Nyquist frequency."""
    frequency = np.fft.fftfreq(side)
    found: Array = 2 * np.hypot(*np.meshgrid(frequency, frequency)).ravel()
    return found
