"""Join pieces of one vessel at rest by the times of their plots: where one has a hole, another has its plots.

Linking prefers the nearest place to the next time. A vessel at rest that is seen less exactly than the settings say, or
that swings about its anchor, so falls into interleaved pieces. Two vessels that lie side by side report at times that
have nothing to do with each other: some reports of one come soon after reports of the other. Reports of one vessel
never do, into however many pieces they fell.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geodiff.tracks import FloatArray
from geodiff.vessels.associate_berths import REST_M_S, berths
from geodiff.vessels.associate_plots import BoolArray, IntArray, Plots

REACHES_M = (10.0, 20.0, 40.0, 80.0, 160.0)
"""Pieces that lie in a chain of steps up to so long may be one vessel: the nearest are tried first."""
STAYS_M = 200.0
"""Plots further from the place of their piece are no part of its rest."""
PAUSE = 2.0
"""Usual intervals that may lie between two pieces: no vessel makes room for another so soon."""
SPREADS = 4.0
"""Times the mean distance of its plots from its place that a piece may lie from one that comes after it."""
SOON = 0.55
"""Two reports of a vessel are at least this share of its usual interval apart."""
MOST_SOON = 0.1
"""Share of reports that may come sooner all the same; senders and clocks err now and then."""
MOST_LEFT_OUT = 0.25
"""Share of plots that may belong to others, whose pieces are left alone."""
LEAST_PLOTS = 8
"""Fewer plots have no usual interval."""
MANY = 5
"""So many vessels do not report in turn by chance."""
TURNS = 1.5
"""Plots of vessels in turn are further from the next plot than from a later one: at least by this factor."""


def join_by_times(plots: Plots, piece: IntArray, closed: int) -> IntArray:
    """Join pieces at rest near each other of which none has plots soon after those of another.

    Two vessels moored abreast stay two, unless they were taken for each other before.

    Args:
        plots: in canonical order; what has no velocity may be at rest.
        piece: (n,) number of each plot's piece.
        closed: plots at the front that belong to older tracks, no two of which are joined.

    Returns:
        (n,) number of each plot's piece: that of the oldest of those joined.
    """
    with np.errstate(invalid="ignore"):
        rests = ~(np.linalg.norm(plots.velocity_m_s, axis=1) >= REST_M_S)
    if not rests.any():
        return piece
    old = np.zeros(int(piece.max()) + 1, bool)
    old[piece[:closed]] = True
    for reach_m in REACHES_M:
        group = _groups(plots, piece, rests, reach_m)
        into = np.arange(len(old))
        for members in _members(plots, piece, group):
            one = _one_vessel(plots, members, piece)
            # The older piece, whose number is the smallest, keeps it: a track goes on under its name.
            into[one[~old[one]]] = one.min(initial=len(old))
        piece = into[piece]
    return piece


def _groups(plots: Plots, piece: IntArray, rests: BoolArray, reach_m: float) -> IntArray:
    """Number of the group of each piece: at rest near each other, at one time or hardly later."""
    count = int(piece.max()) + 1
    ids, place, spread = _resting(plots, piece, rests)
    pairs = cKDTree(place).query_pairs(reach_m, output_type="ndarray").T
    apart = np.linalg.norm(place[pairs[0]] - place[pairs[1]], axis=1)
    at_one_place = apart <= SPREADS * np.maximum(*spread[pairs])
    a, b = ids[pairs]
    first, last = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(first, piece, plots.time_s)
    np.maximum.at(last, piece, plots.time_s)
    every = (last - first) / np.maximum(np.bincount(piece, minlength=count) - 1, 1)
    every[every == 0] = np.inf  # a single plot has no interval: that of the other piece counts
    usual = np.minimum(every[a], every[b])
    pause = np.maximum(first[a], first[b]) - np.minimum(last[a], last[b])
    near = (pause <= 0) | (at_one_place & np.isfinite(usual) & (pause <= PAUSE * usual))
    graph = coo_array((np.ones(int(near.sum()), np.int8), (a[near], b[near])), shape=(count, count))
    group: IntArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return group


def _resting(plots: Plots, piece: IntArray, rests: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """(ids, places, mean distances from these, m) of the pieces that lie at one place for half their plots or many."""
    ids, place = berths(plots, piece, rests)
    where = np.full((int(piece.max()) + 1, 3), np.inf)
    where[ids] = place
    away = np.linalg.norm(plots.place_m - where[piece], axis=1)
    stays = rests & (away <= STAYS_M)
    stay, total = (np.bincount(each, minlength=len(where))[ids] for each in (piece[stays], piece))
    spread = np.bincount(piece[stays], weights=away[stays], minlength=len(where))[ids] / np.maximum(stay, 1)
    kept = stay >= np.minimum(total / 2, LEAST_PLOTS)
    return ids[kept], place[kept], spread[kept]


def _members(plots: Plots, piece: IntArray, group: IntArray) -> list[IntArray]:
    """Plots, in the order of time, of each group of several pieces."""
    of = group[piece]
    several = np.flatnonzero(np.bincount(group)[of] > 1)
    if not len(several):
        return []
    order = several[np.lexsort((several, plots.time_s[several], of[several]))]
    return np.split(order, np.flatnonzero(np.diff(of[order])) + 1)


def _one_vessel(plots: Plots, members: IntArray, piece: IntArray) -> IntArray:
    """The pieces of a group that are one vessel, none if it is several; a few strange ones are left out."""
    least = max(len(members) * (1 - MOST_LEFT_OUT), LEAST_PLOTS)
    while len(members) >= least:
        ids, number = np.unique(piece[members], return_inverse=True)
        share = _soon(plots.time_s[members], number)
        if len(ids) < 2 or share.max() <= MOST_SOON:
            return ids[:0] if len(ids) < 2 or _in_turn(plots.place_m[members]) else ids
        members = members[(share < max(0.6 * share.max(), MOST_SOON))[number]]
    return members[:0]


def _soon(time_s: FloatArray, number: IntArray) -> FloatArray:
    """(pieces,) share of the plots that come soon before or after a plot of another piece; 1: it cannot be told."""
    step = np.diff(time_s)
    other = number[1:] != number[:-1]
    own = step[~other]
    count = np.bincount(number)
    if not len(own) and len(count) < MANY:
        return np.ones(len(count))
    # Steps within a piece are long where vessels report in turn.
    usual = max(float(np.median(step)), float(np.quantile(own, 0.25)) if len(own) else 0.0)
    soon = other & (step < SOON * usual)
    share: FloatArray = np.bincount(number, weights=np.append(soon, False) | np.append(False, soon)) / count
    return share


def _in_turn(place_m: FloatArray) -> bool:
    """Whether plots are further from the next one than from a later one: regular vessels that report in turn."""
    away = [float(np.median(np.linalg.norm(place_m[k:] - place_m[:-k], axis=1))) for k in range(1, MANY)]
    return away[0] > TURNS * min(away[1:])
