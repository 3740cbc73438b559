"""Single vessels that look like two because a receiver drifted off and jumped back.

A drift begins by possible steps and ends by an impossible one: the fixes after it do not follow from the last ones
before, but from somewhat earlier ones. So where one chain ends before the next of its identity begins, the fewest
fixes are sought whose removal, from the tail of the first or the head of the second, makes the two one.
"""

from __future__ import annotations

import numpy as np

from geodiff.vessels.clean_arrays import Bools, Fixes, Index
from geodiff.vessels.clean_chains import Chains, chain_starts, easily_reached

MOST_FIXES = 30
MOST_S = 3600.0
"""A drift has no more fixes than this and lasts no longer (seconds)."""


def drifts(fixes: Fixes, chains: Chains, is_track: Bools, slack_km: float) -> Bools:
    """(n,) True for fixes of a drift between two chains that are one vessel without it.

    Args:
        fixes: sorted by vessel and time.
        chains: of the fixes.
        is_track: (chain,) chains to look at.
        slack_km: error of a position.
    """
    found = np.zeros(len(fixes), np.bool_)
    order, starts = chain_starts(chains.of_fix)
    ends = np.append(starts[1:], len(order))
    one, two = _successive(order, starts, ends, chains, is_track)
    if not len(one):
        return found
    here = np.arange(len(one))
    open_pairs = np.ones(len(one), np.bool_)
    for dropped in range(1, MOST_FIXES + 1):
        # From before the last fixes of the first chain to the second; from the first to after the head of the second.
        for tail, head, drop in ((dropped, 0, "tail"), (0, dropped, "head")):
            pair = here[open_pairs & (ends[one] - starts[one] > 2 * tail) & (ends[two] - starts[two] > 2 * head)]
            i, j = order[ends[one[pair]] - 1 - tail], order[starts[two[pair]] + head]
            pair = pair[easily_reached(fixes, i, j, slack_km) & (fixes.wait_s(i, j) <= MOST_S)]
            open_pairs[pair] = False
            last = ends[one[pair]] if drop == "tail" else starts[two[pair]] + dropped
            for step in range(1, dropped + 1):
                found[order[last - step]] = True
    return found


def _successive(order: Index, starts: Index, ends: Index, chains: Chains, is_track: Bools) -> tuple[Index, Index]:
    """Pairs of chains of one vessel of which the second begins after the first ends, with none between."""
    tracks = np.flatnonzero(is_track)
    one, two = tracks[:-1], tracks[1:]
    follows = (chains.vessel[one] == chains.vessel[two]) & (order[ends[one] - 1] < order[starts[two]])
    return one[follows], two[follows]
