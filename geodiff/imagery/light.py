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

VISIBLE = ("B01", "B02", "B03", "B04")
MOST_VISIBLE, MOST = 0.15, 0.3
"""Reflectance by which the light of two clear dates differs at most, in visible bands and in all others: what differs
by more is a cloud that a mask missed. Of pairs of dates over 0.9 clear, of seven real series, with haze and all seasons
but no snow, the medians differed by up to 0.10 in visible bands, 0.15 in B05 and 0.26 in the others."""


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


def relative_light(samples: FloatArray, target: int, bands: Sequence[str] | None = None) -> FloatArray:
    """What brings each date to the light of one of them, when added to it.

    The median of their difference where both are clear: what changes on a part of the scene, and clouds that a mask
    missed, do not count. Where clouds left but a part of the scene, that part may be a missed cloud: more than light
    can be is then not believed. What most of the scene shows is, for it may be snow.

    Args:
        samples: (date, band, n) reflectance, NaN where not clear.
        target: index of a date.
        bands: names, which tell what light can be; None for no such bound.

    Returns:
        (date, band) float32 reflectance; NaN where a date shares too little clear ground with the target, and in all
        bands where one differs by more than light can.
    """
    light = np.full(samples.shape[:2], np.nan, np.float32)
    most = [np.inf] * samples.shape[1] if bands is None else [MOST_VISIBLE if b in VISIBLE else MOST for b in bands]
    for date, values in enumerate(samples):
        difference = samples[target].astype(np.float64) - values
        for band, row in enumerate(difference):
            shared = row[np.isfinite(row)]
            if len(shared) >= FEWEST:
                light[date, band] = np.median(shared)
        if (np.abs(light[date]) > most).any() and np.isfinite(difference).mean() <= 0.5:
            light[date] = np.nan
    return light


def _thin(pieces: list[slice]) -> list[slice]:
    """Every so manieth pixel of pieces of an axis."""
    step = max(sum(piece.stop - piece.start for piece in pieces) // SAMPLES, 1)
    return [slice(piece.start, piece.stop, step) for piece in pieces]
