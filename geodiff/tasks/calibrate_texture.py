"""The power of the texture that makes members deviate as the mean errs, on rough ground as on smooth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geodiff.model.draft import Draft
from geodiff.model.members import DeviationFilter
from geodiff.model.resolver import DiffusionResolver
from geodiff.model.texture import texture
from geodiff.tasks.calibrate_intervals import TEXTURE_QUANTILES
from geodiff.tasks.calibrate_pairs import HeldPair
from geodiff.tasks.calibrate_spectra import inner

Array = npt.NDArray[np.float64]

POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Of the texture, by which the deviation of members may be multiplied."""

SMALLEST = 1e-12
"""Squared reflectance."""


def fit_power(resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> float:
    """The power under which error over deviation varies least between places and quarters of texture.

    CRPS hardly tells powers apart, for rough ground decides it; the power of members on a place of its own does.
    """
    spreads = [DeviationFilter(power=power) for power in POWERS]
    return POWERS[int(np.argmin([_unevenness(replace(resolver, spread=one), drafts, pairs) for one in spreads]))]


def _unevenness(resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> float:
    """Root mean square of the logarithm of error over deviation about its mean, band by band; both squared."""
    rough = [inner(texture(draft.upsampled)[0].numpy()) for draft in drafts]
    limits = np.quantile(np.concatenate([image.reshape(len(image), -1) for image in rough], 1), TEXTURE_QUANTILES, 1)
    quarters = len(TEXTURE_QUANTILES) + 1
    sums: dict[str, Array] = {}
    for draft, pair, image in zip(drafts, pairs, rough, strict=True):
        found = resolver.finish(draft)
        error, deviation = np.square(pair.truth - found.mean), np.square(found.members - found.mean).mean(0)
        total = sums.setdefault(pair.place, np.zeros((2, len(image), quarters)))
        for band, limit in enumerate(limits.T):
            kind = np.searchsorted(limit, image[band]).ravel()
            for which, each in enumerate((error, deviation)):
                total[which, band] += np.bincount(kind, inner(each[band]).ravel(), quarters)
    # A quarter that a place lacks tells nothing.
    rows = np.log(np.maximum(np.stack(list(sums.values()), 1), SMALLEST))
    ratio = np.where((rows > np.log(SMALLEST)).all(0), rows[0] - rows[1], np.nan)
    return float(np.sqrt(np.nanmean(np.square(ratio - np.nanmean(ratio, (0, 2), keepdims=True)))))
