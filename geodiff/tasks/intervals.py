"""The uncertainty that is stored: half of an interval about the reflectance."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from geodiff.schema import FloatArray, Resolver, Restoration


def half_width(restored: Restoration, resolver: Resolver, level: float) -> FloatArray:
    """Half-width of the interval that a model is calibrated for, or a normal one of its members' deviation.

    The deviation is that from the mean, which is not the mean of the members but the expectation itself.

    Returns:
        (band, y, x) float32; NaN for a model that has neither.
    """
    levels: tuple[float, ...] = getattr(resolver, "levels", ())
    if restored.half_width is not None and level in levels:
        chosen: FloatArray = restored.half_width[levels.index(level)]
        return chosen
    if not len(restored.members):
        return np.full_like(restored.mean, np.nan)
    deviation = np.sqrt(np.square(restored.members - restored.mean).mean(0))
    half: FloatArray = (NormalDist().inv_cdf(0.5 + level / 2) * deviation).astype(np.float32)
    return half
