"""How far one image lies off another, to a hundredth of a pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STEPS = 100
"""Positions a pixel at which the correlation is evaluated near its peak."""


def displacement(image: Array, reference: Array) -> tuple[float, float]:
    """Shift of ``image`` against ``reference`` by phase correlation (Guizar-Sicairos et al. 2008, Opt. Lett. 33).

    The peak is found on whole pixels, then on a grid of a hundredth of a pixel around it by the discrete Fourier sum.

    Args:
        image: (y, x), finite.
        reference: (y, x), finite.

    Returns:
        (down, right) in pixels: ``image`` shows everything that much lower and further right.

    Raises:
        ValueError: shapes that differ, or sides below 8 pixels.
    """
    rows, cols = reference.shape
    if image.shape != reference.shape or min(rows, cols) < 8:
        raise ValueError(f"{image.shape} and {reference.shape}: two images of one shape, of 8 x 8 pixels at least")
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(cols + 2)[1:-1])
    spectra = [np.fft.fft2((x - x.mean()) * window) for x in (image, reference)]
    cross = spectra[0] * np.conj(spectra[1])
    strength = np.abs(cross)
    # Frequencies that carry nothing have a phase of rounding errors: those do not vote.
    phase = np.divide(cross, strength, out=np.zeros_like(cross), where=strength > 1e-9 * max(strength.max(), 1e-30))
    coarse = np.fft.ifft2(phase).real
    peak = np.unravel_index(int(coarse.argmax()), coarse.shape)
    centre = [(int(p) + size // 2) % size - size // 2 for p, size in zip(peak, (rows, cols), strict=True)]
    offset = np.arange(-STEPS, STEPS + 1) / STEPS
    down, right = centre[0] + offset, centre[1] + offset
    fine = (_kernel(down, rows) @ phase @ _kernel(right, cols).T).real
    best = np.unravel_index(int(fine.argmax()), fine.shape)
    return float(down[best[0]]), float(right[best[1]])


def _kernel(places: Array, size: int) -> npt.NDArray[np.complex128]:
    return np.asarray(np.exp(2j * np.pi * places[:, None] * np.fft.fftfreq(size)[None, :]))
