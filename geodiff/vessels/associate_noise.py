"""How far plots lie off their tracks and their time stamps off the clock, as pieces of track show it."""

from __future__ import annotations

from typing import Final

import numpy as np

from geodiff.vessels.associate_link import Level, Odds, link
from geodiff.vessels.associate_motion import MotionPredictor
from geodiff.vessels.associate_plots import IntArray, Plots

STEP_S: Final = 45.0
"""Between plots so near in time a vessel goes straight: what lies off is noise. Longer ones tell motion."""

LEAST, SHARE = 100, 0.5
"""Fewer plots, or a smaller share of those under way, tell no noise: where a vessel reports once a minute those that
follow within seconds are of others."""

NOISIEST: Final = (20.0, 3.0)
"""Metres and seconds that plots are taken to be off at first: links made under a smaller noise would not show a larger
one."""

ROUNDS: Final = 3
UNDER_WAY_M_S: Final = 1.5
MAD: Final = 0.6745
"""Median of the amount of a normal variable of unit variance."""


def predictor_for(
    plots: Plots, unlinked: IntArray, odds: Odds, predictor: MotionPredictor, closed: int
) -> MotionPredictor:
    """The predictor for the noise of these plots.

    Args:
        plots, unlinked, closed: what is to be linked, as for ``link``.
        odds: what continuations compete with.
        predictor: for the noise that was told.

    Returns:
        A predictor for more noise where the plots show more; else the one given.
    """
    found, assumed = predictor, NOISIEST
    for _ in range(ROUNDS):
        near = link(plots, unlinked, Level(STEP_S, 0.0), odds, predictor.noisier(*assumed), closed)
        position_m, clock_s = found_noise(plots, near)
        found = predictor.noisier(position_m, clock_s)
        # Links made under far too large a noise join neighbours, and show more than there is.
        if found is predictor or position_m > assumed[0] / 2:
            break
        assumed = 1.5 * position_m, 1.5 * clock_s
    return found


def found_noise(plots: Plots, piece: IntArray) -> tuple[float, float]:
    """Standard deviations of places and of time stamps.

    A plot under way is compared with the line from the plot before it to the one after. Across the line it is off by
    the noise of three places, along the line by what three time stamps are off besides. Medians stand for the
    variances, so that a turn, or a wrong link, says little.

    Args:
        plots: of a block.
        piece: (n,) number of each plot's piece.

    Returns:
        (metres, seconds); zeros where too few plots follow each other closely.
    """
    speed = np.linalg.norm(plots.velocity_m_s, axis=1)
    under_way = np.flatnonzero(~(speed <= UNDER_WAY_M_S))  # or not told
    order = under_way[np.lexsort((under_way, piece[under_way]))]
    before, at, after = order[:-2], order[1:-1], order[2:]
    step, rest = (plots.time_s[late] - plots.time_s[soon] for soon, late in ((before, at), (at, after)))
    way = plots.place_m[after] - plots.place_m[before]
    length = np.linalg.norm(way, axis=1)
    used = (piece[before] == piece[after]) & (step > 0) & (rest > 0) & (np.maximum(step, rest) <= STEP_S)
    used &= length > UNDER_WAY_M_S * (step + rest)
    if used.sum() < max(LEAST, SHARE * len(under_way)):
        return 0.0, 0.0
    before, at, step, rest, way, length = (each[used] for each in (before, at, step, rest, way, length))
    share = step / (step + rest)
    places = np.sqrt(1 + share**2 + (1 - share) ** 2)  # of three, one whole and two by their shares
    off = (plots.place_m[at] - plots.place_m[before] - share[:, None] * way) / places[:, None]
    along = (off * way).sum(axis=1) / length
    across = np.sqrt(np.maximum((off**2).sum(axis=1) - along**2, 0.0))
    position, lengthwise = (float(np.median(np.abs(each))) / MAD for each in (across, along))
    return position, float(np.sqrt(max(lengthwise**2 - position**2, 0.0)) / np.median(length / (step + rest)))
