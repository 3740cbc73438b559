"""Light: what brings another date to the brightness of the date that is restored, band by band.

Haze, sun and season move all of a scene together. What a cloud hides is filled with other dates, which must be brought
to the light of the target, or the gap shows as a patch of another day.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from geodiff.imagery.ranking import sample_pieces
from geodiff.schema import BAND, TIME, VALID, BoolArray, FloatArray, X, Y

SAMPLES = 128
"""Pixels per axis that are looked at, spread over the blocks that dates are judged by."""

FEWEST = 64
"""Samples that a date must share with the target for its light to be known."""


def light_samples(cube: xr.DataArray, dates: Sequence[int]) -> FloatArray:
    """Pixels of some dates (date, band, n) float32, NaN where not clear, from at most 4 x 4 blocks of the region.

    Args:
        cube: (time, band, y, x) reflectance with ``valid``.
        dates: indices in time.
    """
    chosen = cube.transpose(TIME, BAND, Y, X).isel({TIME: list(dates)})
    parts = []
    for rows in _thin(sample_pieces(cube.sizes[Y])):
        for cols in _thin(sample_pieces(cube.sizes[X])):
            block = chosen.isel({Y: rows, X: cols}).compute()
            clear: BoolArray = block[VALID].values[:, None] & np.isfinite(block.values)
            parts.append(np.where(clear, block.values, np.nan).astype(np.float32).reshape(*block.shape[:2], -1))
    return np.concatenate(parts, axis=-1)


def relative_light(samples: FloatArray, target: int) -> FloatArray:
    """What brings each date to the light of one of them, when added to it.

    The median of their difference where both are clear: what changes on a part of the scene, and clouds that a mask
    missed, do not count.

    Args:
        samples: (date, band, n) reflectance, NaN where not clear.
        target: index of a date.

    Returns:
        (date, band) float32 reflectance; NaN where a date shares too little clear ground with the target.
    """
    light = np.full(samples.shape[:2], np.nan, np.float32)
    for date, values in enumerate(samples):
        difference = samples[target].astype(np.float64) - values
        for band, row in enumerate(difference):
            shared = row[np.isfinite(row)]
            if len(shared) >= FEWEST:
                light[date, band] = np.median(shared)
    return light


def _thin(pieces: list[slice]) -> list[slice]:
    """Every so manieth pixel of pieces of an axis."""
    step = max(sum(piece.stop - piece.start for piece in pieces) // SAMPLES, 1)
    return [slice(piece.start, piece.stop, step) for piece in pieces]
