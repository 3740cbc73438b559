"""Scores of association: plots whose true vessel is known, and the tracks that they were put into.

Figures that a trivial answer would win are told beside those that it would lose: a track for every plot has purity 1
and hardly any completeness, one track for all plots the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from geodiff.schema import GeodiffError

IntArray = npt.NDArray[np.int64]
NONE = -1
"""The vessel of clutter, and the track of a rejected plot."""


@dataclass(frozen=True, slots=True)
class AssociationScore:
    """How well tracks and vessels agree.

    Attributes:
        plots: that were compared.
        vessels, tracks: how many there are.
        purity: share of the plots in tracks that belong to the vessel with most plots in their track; clutter in a
            track belongs to none.
        completeness: share of the plots of vessels that lie in the track with most plots of their vessel.
        idf1: 2 x plots of matched pairs / (plots of vessels + plots in tracks), vessels and tracks matched one to one
            so that they share most plots (Ristani et al. 2016, "Performance measures and a data set for multi-target,
            multi-camera tracking").
        mota: 1 - (missed + false + switches) / plots of vessels (after Bernardin & Stiefelhagen 2008, "Evaluating
            multiple object tracking performance: the CLEAR MOT metrics", with plots in place of frames).
        switches: consecutive plots of a vessel, among those in tracks, that lie in different tracks.
        fragments: tracks beyond the first in which each vessel has plots.
        missed: plots of vessels that were rejected.
        false: clutter in tracks.
        pure_tracks: share of tracks whose plots are all of one vessel.
        single_tracks: share of tracks of one plot.
    """

    plots: int
    vessels: int
    tracks: int
    purity: float
    completeness: float
    idf1: float
    mota: float
    switches: int
    fragments: int
    missed: int
    false: int
    pure_tracks: float
    single_tracks: float


def association_score(vessel: IntArray, track: IntArray) -> AssociationScore:
    """Score the tracks of plots in the order of time.

    Args:
        vessel: (n,) int64 true vessel of each plot, ``NONE`` for clutter.
        track: (n,) int64 track of each plot, ``NONE`` where it was rejected.

    Raises:
        GeodiffError: lengths differ, or no plot has a vessel.
    """
    if len(vessel) != len(track) or not (vessel != NONE).any():
        raise GeodiffError(
            f"cannot score {len(track)} associations against {len(vessel)} plots, none or some of a vessel"
        )
    both = (vessel != NONE) & (track != NONE)
    _, v = np.unique(vessel[both], return_inverse=True)
    _, t = np.unique(track[both], return_inverse=True)
    cell, shared = np.unique(v * np.int64(t.max(initial=0) + 1) + t, return_counts=True)
    rows, columns = cell // (t.max(initial=0) + 1), cell % (t.max(initial=0) + 1)
    tracks, size = np.unique(track[track != NONE], return_counts=True)
    of_vessels, in_tracks = int((vessel != NONE).sum()), int((track != NONE).sum())
    best_of_track, best_of_vessel = _most(columns, shared), _most(rows, shared)
    missed, false = of_vessels - int(both.sum()), in_tracks - int(both.sum())
    switches = _switches(v, t)
    pure = int((best_of_track == size[np.isin(tracks, np.unique(track[both]))]).sum())
    return AssociationScore(
        plots=len(vessel),
        vessels=len(np.unique(vessel[vessel != NONE])),
        tracks=len(tracks),
        purity=int(best_of_track.sum()) / max(in_tracks, 1),
        completeness=int(best_of_vessel.sum()) / of_vessels,
        idf1=2 * _matched(rows, columns, shared) / (of_vessels + in_tracks),
        mota=1 - (missed + false + switches) / of_vessels,
        switches=switches,
        fragments=len(rows) - len(best_of_vessel),
        missed=missed,
        false=false,
        pure_tracks=pure / max(len(tracks), 1),
        single_tracks=int((size == 1).sum()) / max(len(tracks), 1),
    )


def _most(group: IntArray, count: IntArray) -> IntArray:
    found: IntArray = count[_argmost(group, count)]
    return found


def _argmost(group: IntArray, count: IntArray) -> IntArray:
    """Position of the greatest count of each group, in the order of the groups; the first among equals."""
    order = np.lexsort((np.arange(len(group)), -count, group))
    _, first = np.unique(group[order], return_index=True)
    found: IntArray = order[first]
    return found


def _switches(vessel: IntArray, track: IntArray) -> int:
    order = np.argsort(vessel, kind="stable")
    same = np.diff(vessel[order]) == 0
    return int((same & (np.diff(track[order]) != 0)).sum())


def _matched(rows: IntArray, columns: IntArray, shared: IntArray) -> int:
    """Plots of the best one-to-one match of vessels and tracks."""
    if not len(rows):
        return 0
    # A private column for each vessel stands for "no track"; costs must not be 0, which a sparse matrix drops.
    count, width, top = int(rows.max()) + 1, int(columns.max()) + 1, float(shared.max()) + 1
    alone = np.arange(count)
    cost = np.concatenate([top - shared, np.full(count, top)])
    place = (np.concatenate([rows, alone]), np.concatenate([columns, width + alone]))
    graph = csr_array((cost, place), shape=(count, width + count))
    row, column = min_weight_full_bipartite_matching(graph)
    return round(float((top - graph[row, column]).sum()))
