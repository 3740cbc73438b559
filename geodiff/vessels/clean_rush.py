"""Ways that no vessel makes in a minute, though each step of them is within the error of a position."""

from __future__ import annotations

from typing import Final

import numpy as np

from geodiff.sphere import KM_S_PER_KN
from geodiff.vessels.clean_arrays import Bools, Fixes, Index

LEAST_MS: Final = 60_000
"""Speed is held against the limit over at least this time: where fixes come every few seconds the error of a position,
granted at each step, would let them run at any speed."""


def rushes(fixes: Fixes, track: Index, slack_km: float) -> Bools:
    """(n,) fixes that are out of reach of those a minute before and of those a minute after.

    Args:
        fixes: sorted by vessel or chain, and time.
        track: (n,) number of the vessel or chain of each fix; equal ones stand together.
        slack_km: error of a position.
    """
    found = np.zeros(len(fixes), np.bool_)
    seconds = (fixes.time_us[1:] - fixes.time_us[:-1]) * 1e-6
    far = fixes.steps_at_most_km()
    fast = np.flatnonzero((track[1:] == track[:-1]) & (far > fixes.limit_kn[1:] * KM_S_PER_KN * seconds))
    if not len(fast):
        return found
    looked_at = np.flatnonzero(np.isin(track, track[fast]))
    of, time_ms = np.unique(track[looked_at], return_inverse=True)[1], fixes.time_us[looked_at] // 1000
    key = of * (int(time_ms.max() - time_ms.min()) + 2 * LEAST_MS) + (time_ms - time_ms.min())
    at = np.arange(len(looked_at))
    later = np.searchsorted(key, key + LEAST_MS)
    sooner = np.searchsorted(key, key - LEAST_MS, side="right") - 1
    both = np.flatnonzero((later < len(at)) & (sooner >= 0))
    both = both[(of[later[both]] == of[both]) & (of[sooner[both]] == of[both])]
    for other in (sooner, later):
        start, end = looked_at[np.minimum(both, other[both])], looked_at[np.maximum(both, other[both])]
        both = both[fixes.distance_km(start, end) > fixes.reach_km(start, end, slack_km)]
    found[looked_at[both]] = True
    return found
