"""Join tracks that run side by side at one berth: a vessel at rest that was taken for two.

Linking closes gaps, it never joins tracks that overlap in time. At rest that is too strict: the speed and course of a
moored vessel are noise, part of which repeats, so that its fixes may fall into two interleaved tracks of similar fixes.
Two vessels cannot lie within a few metres of each other, their antennas being amidships or aft: such tracks are one.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from geodiff.tracks import FloatArray
from geodiff.vessels.associate_plots import BoolArray, IntArray, Plots

REST_M_S = 0.5
"""Speed below which a plot counts as at rest; satellite positioning shows a moored vessel up to 0.3 m/s."""
ROUNDS = 8
MOST_MOVING = 0.1
"""Share of plots under way, or elsewhere, that the time in common may have; the receiver errs now and then."""


def join_berths(plots: Plots, piece: IntArray, reach_m: float, closed: int) -> IntArray:
    """Join pieces that overlap in time and lie at rest at one place while they do.

    Args:
        plots: in canonical order; without velocities nothing is known to be at rest, and nothing is joined.
        piece: (n,) number of each plot's piece.
        reach_m: largest distance between the mean places.
        closed: plots at the front that belong to older tracks, no two of which are joined.

    Returns:
        (n,) number of each plot's piece, the smallest of those joined.
    """
    with np.errstate(invalid="ignore"):
        rests = np.linalg.norm(plots.velocity_m_s, axis=1) < REST_M_S
    if reach_m <= 0 or not rests.any():
        return piece
    for _ in range(ROUNDS):
        joined = _round(plots, piece, rests, reach_m, closed)
        if joined is None:
            break
        piece = joined
    return piece


def _round(plots: Plots, piece: IntArray, rests: BoolArray, reach_m: float, closed: int) -> IntArray | None:
    """Join each piece to at most one other, nearest first; None when nothing was joined."""
    ids, place = berths(plots, piece, rests)
    pairs = cKDTree(place).query_pairs(reach_m, output_type="ndarray")
    if not len(pairs):
        return None
    apart = np.linalg.norm(place[pairs[:, 0]] - place[pairs[:, 1]], axis=1)
    order = np.argsort(piece, kind="stable")
    begin = np.searchsorted(piece[order], np.arange(int(piece.max()) + 2))
    old = set(piece[:closed].tolist())
    into = np.arange(int(piece.max()) + 1)
    used: set[int] = set()
    for pair in np.lexsort((pairs[:, 1], pairs[:, 0], apart)):
        a, b = sorted(int(ids[each]) for each in pairs[pair])
        if a in used or b in used or (a in old and b in old):
            continue
        members = order[begin[a] : begin[a + 1]], order[begin[b] : begin[b + 1]]
        if _side_by_side(plots, members, rests, reach_m):
            # The older piece, whose number is smaller, keeps it: a track goes on under its name.
            into[b] = a
            used.update((a, b))
    return into[piece] if used else None


def berths(plots: Plots, piece: IntArray, rests: BoolArray) -> tuple[IntArray, FloatArray]:
    """Where pieces lie at rest.

    Args:
        plots: n of them.
        piece: (n,) number of each plot's piece.
        rests: (n,) whether each is at rest; one at least.

    Returns:
        Numbers of the pieces that have plots at rest, rising, and the median of the places of these, m.
    """
    at = np.flatnonzero(rests)
    at = at[np.argsort(piece[at], kind="stable")]
    ids, first, count = np.unique(piece[at], return_index=True, return_counts=True)
    # Medians, since a vessel that came in late has some plots at rest elsewhere, such as in a lock.
    place = np.empty((len(ids), 3))
    for axis in range(3):
        values = plots.place_m[at, axis]
        ranked = values[np.lexsort((values, piece[at]))]
        place[:, axis] = (ranked[first + (count - 1) // 2] + ranked[first + count // 2]) / 2
    return ids, place


def _side_by_side(plots: Plots, members: tuple[IntArray, IntArray], rests: BoolArray, reach_m: float) -> bool:
    """Whether two pieces share a time in which both are at rest at one place."""
    a, b = members
    low = max(plots.time_s[a[0]], plots.time_s[b[0]])
    high = min(plots.time_s[a[-1]], plots.time_s[b[-1]])
    shared = [each[(plots.time_s[each] >= low) & (plots.time_s[each] <= high)] for each in members]
    if low > high or not all(len(each) for each in shared):
        return False
    places = [np.median(plots.place_m[each], axis=0) for each in shared]
    if np.linalg.norm(places[0] - places[1]) > reach_m:
        return False
    for each, place in zip(shared, places, strict=True):
        stays = rests[each] & (np.linalg.norm(plots.place_m[each] - place, axis=1) <= 4 * reach_m)
        if np.mean(stays) < 1 - MOST_MOVING:
            return False
    return True
