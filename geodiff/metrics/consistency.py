"""Does a restored image, seen through the sensor again, give back what was observed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geodiff.metrics.fidelity import spectral_angle_deg
from geodiff.schema import BoolArray, FloatArray
from geodiff.sensor import degrade


@dataclass(frozen=True, slots=True)
class Consistency:
    """What is left between an image degraded back and the observation.

    Attributes:
        mae: mean absolute error in reflectance, over valid pixels and bands.
        max_error: the largest absolute error in reflectance.
        angle_deg: mean spectral angle in degrees.
    """

    mae: float
    max_error: float
    angle_deg: float


def consistency(
    image: FloatArray, observed: FloatArray, valid: BoolArray, *, scale: int, mtf: tuple[float, ...]
) -> Consistency:
    """Degrade ``image`` by the sensor's optics and compare it with what the sensor saw (Wald et al. 1997, PE&RS 63(6)).

    Args:
        image: (band, scale*y, scale*x) reflectance, finite.
        observed: (band, y, x) reflectance; any value where it is not valid.
        valid: (y, x) bool, pixels that count.
        scale: integer ratio of the resolutions.
        mtf: modulation at the low-resolution Nyquist frequency of each band.

    Raises:
        ValueError: no valid pixel, shapes that do not fit, or an image with gaps, which a blur would spread.
    """
    bands, rows, cols = observed.shape
    if image.shape != (bands, rows * scale, cols * scale) or len(mtf) != bands or valid.shape != (rows, cols):
        raise ValueError(
            f"image {image.shape}, observation {observed.shape}, mask {valid.shape} and {len(mtf)} MTFs "
            f"do not fit each other at x{scale}"
        )
    if not np.isfinite(image).all():
        raise ValueError("the image has gaps: fill them before it is degraded")
    seen: BoolArray = np.asarray(valid & np.isfinite(observed).all(0))
    if not seen.any():
        raise ValueError("no valid pixel to compare on")
    back = degrade(image, scale, mtf)
    error = np.abs(back.astype(np.float64) - observed)[:, seen]
    return Consistency(float(error.mean()), float(error.max()), spectral_angle_deg(back, observed, seen))
