"""Link pieces of track: all of a window at once, by a best cover of paths, the doubtful links left for later.

Each level looks at the pieces there are (at first single plots), weighs every likely continuation and finds the set of
links of the greatest total evidence in which each piece has at most one successor and one predecessor: a minimum-cost
path cover, solved exactly as a sparse assignment (Zhang, Li & Nevatia 2008, "Global data association for multi-object
tracking using network flows"). Links with a rival of nearly the same evidence are undone, except at the last level:
the longer pieces of the next level know their velocity and decide better (Huang, Wu & Nevatia 2008, "Robust object
tracking by hierarchical association of detection responses").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from geodiff.tracks import FloatArray
from geodiff.vessels.associate_motion import Ends, MotionPredictor
from geodiff.vessels.associate_plots import EARTH_RADIUS_M, BoolArray, IntArray, Plots
from geodiff.vessels.clean_arrays import ragged

DEPTH = 12
"""Plots from which the state of a piece is made."""
TURNS = 4
"""Search intervals of time for each factor of ten."""
PER_CELL = 6
"""Candidates looked at in one cell of the search grid and one interval of time."""


@dataclass(frozen=True, slots=True)
class Level:
    """One pass of linking.

    Attributes:
        window_s: longest gap that is closed.
        margin: nats by which a link must beat its rivals; 0 keeps the best whatever its rivals are.
    """

    window_s: float
    margin: float


@dataclass(frozen=True, slots=True)
class Odds:
    """What continuations compete with.

    Attributes:
        new_per_m2_s: (n,) for each plot the density, about it, of first plots of new vessels and of clutter; its
            logarithm is the evidence to beat.
        report_s: usual interval between the plots of a vessel.
        scan_s: least interval between two plots of a vessel; 0 where a fix may be heard twice.
        fastest_m_s: speed that no vessel exceeds; bounds the search from plots without velocity.
    """

    new_per_m2_s: FloatArray
    report_s: float
    scan_s: float
    fastest_m_s: float


def link(
    plots: Plots, piece: IntArray, level: Level, odds: Odds, predictor: MotionPredictor, closed: int = 0
) -> IntArray:
    """Link pieces into longer ones.

    Args:
        plots: in canonical order.
        piece: (n,) number of each plot's piece, from 0 in the order of their first plots.
        level: window and margin.
        odds: what continuations compete with.
        predictor: the motion model.
        closed: plots at the front whose pieces take no predecessor, because they are tails of older tracks.

    Returns:
        (n,) number of each plot's piece after linking, from 0 in the order of their first plots.
    """
    order = np.argsort(piece, kind="stable")
    count = int(piece.max(initial=-1)) + 1
    begin = np.searchsorted(piece[order], np.arange(count + 1))
    last_at, first_at = order[begin[1:] - 1], order[begin[:-1]]
    last = predictor.ends(plots, _nearest(order, begin, forward=True), forward=True)
    first = predictor.ends(plots, _nearest(order, begin, forward=False), forward=False)
    pairs = candidates(last, first, (last_at, first_at), level.window_s, odds, predictor)
    gap = first.time_s[pairs[1]] - last.time_s[pairs[0]]
    allowed = (gap >= odds.scan_s) & (first_at[pairs[1]] >= closed)
    i, j, gap = pairs[0][allowed], pairs[1][allowed], gap[allowed]
    # The interval between reports is Lomax distributed: mostly short, with a heavy tail of silence.
    silence = -np.log(odds.report_s) - 2 * np.log1p(gap / odds.report_s)
    evidence = predictor.log_likelihood(last, first, (i, j)) + silence - np.log(odds.new_per_m2_s)[first_at[j]]
    good = evidence > 0
    return _joined(piece, _chosen(i[good], j[good], evidence[good], count, level.margin))


def _nearest(order: IntArray, begin: IntArray, *, forward: bool) -> IntArray:
    steps = np.arange(DEPTH)
    at = begin[1:, None] - 1 - steps if forward else begin[:-1, None] + steps
    inside = (at >= begin[:-1, None]) & (at < begin[1:, None])
    found: IntArray = np.where(inside, order[np.clip(at, 0, len(order) - 1)], -1)
    return found[:, : max(int(inside.sum(axis=1).max(initial=1)), 1)]


def candidates(
    last: Ends, first: Ends, at: tuple[IntArray, IntArray], window_s: float, odds: Odds, predictor: MotionPredictor
) -> tuple[IntArray, IntArray]:
    """Pairs of pieces that may follow each other: near the predicted place, and soon.

    The times ahead are cut into intervals that grow by a factor; for each the starts are sorted into cells as wide as
    the predicted place is uncertain, and each end reads the next few starts of the cell in which it is expected and of
    the eight around it. No step depends on the number of pieces elsewhere.

    Args:
        last, first: ends and starts of the same pieces.
        at: positions of the last and of the first plot of each piece; a successor's first lies behind.
        window_s: longest time ahead.
        odds: for the speed limit.
        predictor: for the reach.

    Returns:
        (positions in ``last``, positions in ``first``), each pair once.
    """
    # A sixth of the greatest speed: half of what is assumed of a velocity that nobody told.
    unknown = last.var_vv > (odds.fastest_m_s / 6) ** 2
    edges = np.concatenate([[0.0], np.geomspace(1.0, window_s, max(int(TURNS * np.log10(max(window_s, 10.0))), 2))])
    found: list[tuple[IntArray, IntArray]] = []
    for group, limit in ((~unknown, 0.0), (unknown, odds.fastest_m_s)):
        ends = np.flatnonzero(group)
        for low, high in pairwise(edges.tolist()):
            if len(ends) and high >= odds.scan_s:
                reach = float(predictor.reach_m(np.array([high]))[0])
                size = reach + limit * high + 10.0 * (high - low) / 2 * (limit == 0)
                found.append(_within(last, first, at, ends, (low, high), size))
    # Vessels at rest have their own small cells, else a busy quay would fill the wide ones with its many neighbours.
    speed = np.linalg.norm(last.velocity_m_s, axis=1)
    still = np.flatnonzero((speed < 1.0) & ~unknown)
    if len(still):
        found.append(_within(last, first, at, still, (-1.0, window_s), 40.0))
    i, j = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else (np.empty(0, np.int64),) * 2
    key = np.sort(i * np.int64(len(first)) + j)
    key = key[np.diff(key, prepend=-1) > 0]  # several times as fast as np.unique
    return key // max(len(first), 1), key % max(len(first), 1)


def _within(
    last: Ends, first: Ends, at: tuple[IntArray, IntArray], ends: IntArray, ahead: tuple[float, float], size: float
) -> tuple[IntArray, IntArray]:
    """Pairs of one interval ``(low, high]`` of time ahead, low -1 meaning the very next plots."""
    low, high = ahead
    place = last.place_m[ends] + last.velocity_m_s[ends] * max(low + high, 0.0) / 2 * (low >= 0)
    grid = Grid(size)
    band, column = grid.cells(first.place_m)
    by_rank = np.argsort(at[1], kind="stable")  # starts in time
    times = first.time_s[by_rank]
    # The start must lie behind the end in the canonical order, and in the interval.
    after = np.searchsorted(at[1][by_rank], at[0][ends], side="right")
    begin = np.maximum(after, np.searchsorted(times, last.time_s[ends] + low, side="right")) if low > 0 else after
    until = np.searchsorted(times, last.time_s[ends] + high, side="right")
    span = np.int64(len(first) + 1)
    names, number = np.unique(grid.name(band, column), return_inverse=True)
    key = np.sort(number[by_rank] * span + np.arange(len(first)))
    pairs: list[tuple[IntArray, IntArray]] = []
    for cell in grid.around(place):
        where = np.minimum(np.searchsorted(names, cell), len(names) - 1)
        here = names[where] == cell
        start = np.searchsorted(key, where * span + begin)
        stop = np.minimum(np.searchsorted(key, where * span + until), start + PER_CELL)
        count = np.where(here, np.maximum(stop - start, 0), 0)
        which, within = ragged(count)
        pairs.append((ends[which], by_rank[key[start[which] + within] % span]))
    i, j = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return i, j


def name_rank(name: IntArray) -> IntArray:
    """Number the distinct values from 0, in order."""
    found: IntArray = np.unique(name, return_inverse=True)[1]
    return found


class Grid:
    """Cells of about the same size all over the sphere: bands of latitude, each cut into columns."""

    def __init__(self, size_m: float) -> None:
        self.bands = max(int(np.pi * EARTH_RADIUS_M / size_m), 1)

    @staticmethod
    def density(plots: Plots, size_m: float, least_s: float, pause_s: float) -> FloatArray:
        """Plots per square metre and second about each plot: those of nine cells, over the time of all plots.

        A longer silence than ``pause_s`` counts as so long: between two recordings nobody listened.
        """
        grid = Grid(size_m)
        names, count = np.unique(grid.name(*grid.cells(plots.place_m)), return_counts=True)
        total = np.zeros(len(plots))
        for cell in grid.around(plots.place_m):
            where = np.minimum(np.searchsorted(names, cell), len(names) - 1)
            total += np.where(names[where] == cell, count[where], 0)
        listened = float(np.minimum(np.diff(plots.time_s), pause_s).sum())
        return total / (9 * size_m**2 * max(listened, least_s))

    def cells(self, place_m: FloatArray) -> tuple[IntArray, IntArray]:
        z = np.clip(place_m[:, 2] / np.linalg.norm(place_m, axis=1), -1.0, 1.0)
        band = np.minimum(((np.arcsin(z) / np.pi + 0.5) * self.bands).astype(np.int64), self.bands - 1)
        return band, self._column(band, place_m)

    def _columns(self, band: IntArray) -> IntArray:
        inner = np.minimum(band, self.bands - 1 - band)
        # About a pole a band is much shorter along its inner edge than in its middle: there cells count by that.
        share = np.where(inner < 2, 0.0, np.where(inner < 8, inner, inner + 0.5)) / self.bands
        return np.maximum((2 * self.bands * np.sin(np.pi * share)).astype(np.int64), 1)

    def _column(self, band: IntArray, place_m: FloatArray) -> IntArray:
        share = np.arctan2(place_m[:, 1], place_m[:, 0]) / (2 * np.pi) + 0.5
        count = self._columns(band)
        return np.minimum((share * count).astype(np.int64), count - 1)

    def name(self, band: IntArray, column: IntArray) -> IntArray:
        return band * np.int64(2 * self.bands + 1) + column

    def around(self, place_m: FloatArray) -> list[IntArray]:
        """Names of the nine cells about each place; -1 beyond a pole and for a cell that is named already."""
        band, _ = self.cells(place_m)
        names: list[IntArray] = []
        for north in (-1, 0, 1):
            row = band + north
            valid = (row >= 0) & (row < self.bands)
            row = np.clip(row, 0, self.bands - 1)
            count, column = self._columns(row), self._column(row, place_m)
            for east in (0, -1, 1):
                twice = (east != 0) & (count <= 2) & ((count == 1) | (east == 1))
                names.append(np.where(valid & ~twice, self.name(row, (column + east) % count), -1))
        return names


def _chosen(i: IntArray, j: IntArray, evidence: FloatArray, count: int, margin: float) -> tuple[IntArray, IntArray]:
    """The links of the best cover, without those that have a rival within the margin."""
    if not len(i):
        return i, j
    taken = best_cover(i, j, evidence, count)
    if margin <= 0:
        return i[taken], j[taken]
    chain = _chains(i[taken], j[taken], count)
    # A continuation that lies on the same chain is no rival: it is the plot after the next one.
    strange = chain[i] != chain[j]
    rival_of_end, rival_of_start = np.zeros(count), np.zeros(count)
    np.maximum.at(rival_of_end, i[strange], evidence[strange])
    np.maximum.at(rival_of_start, j[strange], evidence[strange])
    sure = taken & (evidence - np.maximum(rival_of_end[i], rival_of_start[j]) > margin)
    return i[sure], j[sure]


def best_cover(i: IntArray, j: IntArray, evidence: FloatArray, count: int) -> BoolArray:
    """Which links make the greatest sum with at most one for each end and each start.

    Args:
        i, j: end and start of each possible link.
        evidence: of each, above 0.
        count: number of pieces.

    Returns:
        (links,) bool.
    """
    # A private column for each end stands for "no successor"; costs must not be 0, which a sparse matrix drops.
    top = float(evidence.max()) + 1.0
    rows, ends = np.unique(i, return_inverse=True)
    columns, starts = np.unique(j, return_inverse=True)
    alone = np.arange(len(rows))
    graph = csr_array(
        (
            np.concatenate([top - evidence, np.full(len(rows), top)]),
            (np.concatenate([ends, alone]), np.concatenate([starts, len(columns) + alone])),
        ),
        shape=(len(rows), len(columns) + len(rows)),
    )
    row, column = min_weight_full_bipartite_matching(graph)
    partner = np.full(count, -1, np.int64)
    linked = column < len(columns)
    partner[rows[row[linked]]] = columns[column[linked]]
    found: BoolArray = partner[i] == j
    return found


def _chains(i: IntArray, j: IntArray, count: int) -> IntArray:
    """Number of the chain that each piece is part of: that of its first piece."""
    root = np.arange(count, dtype=np.int64)
    root[j] = i
    # Doubling: after k rounds each piece points 2**k links back.
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further


def _joined(piece: IntArray, links: tuple[IntArray, IntArray]) -> IntArray:
    count = int(piece.max(initial=-1)) + 1
    chain = _chains(*links, count)
    return name_rank(chain)[piece]
