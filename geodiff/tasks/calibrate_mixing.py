"""What makes the bands of members deviate together as they err together.

A colour, or an index of bands, is then as uncertain among members as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geodiff.model.draft import Draft
from geodiff.model.resolver import DiffusionResolver
from geodiff.tasks.calibrate_pairs import HeldPair
from geodiff.tasks.calibrate_spectra import CENTRES, UP_TO, Array, cross_power, inner

LEAST_VARIANCE = 0.02
"""Of a combination of bands of variance 1 each: below it their members are too alike to be told apart."""


def mixing(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair], lowest: float
) -> tuple[tuple[float, ...], ...]:
    """(band, band): what makes deviations of the error's power correlate between bands as the error does.

    Of all such matrices the one that changes them least (optimal transport between Gaussians, Olkin and Pukelsheim
    1982). Correlations are coherences, averaged over radial frequencies, each alike, and over places: filters of single
    bands do not alter them.

    Args:
        resolver: whose members deviate evenly.
        drafts: that ``wide_pairs`` chose.
        pairs: with the truth.
        lowest: radial frequency from which on errors count.
    """
    rows: dict[str, list[Array]] = {}
    for draft, pair in zip(drafts, pairs, strict=True):
        found = resolver.finish(draft)
        members, mean, truth = (inner(image).astype(np.float64) for image in (found.members, found.mean, pair.truth))
        own = [np.mean([cross_power(member - mean) for member in members], axis=0)]
        rows.setdefault(pair.place, []).append(np.stack([cross_power(truth - mean), *own]))
    cross = np.stack([np.mean(found, axis=0) for found in rows.values()])
    power = np.einsum("pkbbf->pkbf", cross)
    coherence = cross / np.sqrt(power[:, :, :, None] * power[:, :, None])
    counted = (lowest <= CENTRES) & (CENTRES <= UP_TO)
    error, deviation = coherence[..., counted].mean((0, -1))
    errors = power[:, 0][..., counted].sum(-1)
    strength = np.sqrt(errors / errors.mean(1, keepdims=True)).mean(0)
    half, inverse = _root(deviation), np.linalg.inv(_root(deviation))
    mix = strength[:, None] * (inverse @ _root(half @ error @ half) @ inverse) / strength
    return tuple(tuple(round(float(each), 5) for each in row) for row in mix)


def _root(matrix: Array) -> Array:
    """The positive root of a positive semidefinite matrix, with a floor under what is as good as nothing."""
    values, vectors = np.linalg.eigh(matrix)
    found: Array = (vectors * np.sqrt(np.maximum(values, LEAST_VARIANCE))) @ vectors.T
    return found
