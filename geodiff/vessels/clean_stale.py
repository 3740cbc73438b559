"""Fixes of moving vessels that come once more: sent again with a new time, or received again late."""

from __future__ import annotations

from typing import Final

import numpy as np

from geodiff.sphere import KM_PER_DEG, KM_S_PER_KN
from geodiff.vessels.clean_arrays import Bools, Fixes, Floats, Index, Ints, first_of_each

MOVING_KN: Final = 2.0
"""Slower vessels may well be where they were."""

LATEST_S: Final = 600.0
ROWS: Final = 16
"""A copy comes at most so much later, and with fewer than so many fixes between."""

LEAST_KM, GRAINS = 0.02, 1.2
"""Meanwhile the vessel has gone at least this far, and so many times as far as positions tell apart."""

LEAST_DEG: Final = 1e-10
"""Smaller differences are rounding."""


def stale_copies(fixes: Fixes) -> Bools:
    """Which fixes repeat place, speed and course of an earlier one to the digit, though the vessel moves.

    Args:
        fixes: sorted by vessel and time.

    Returns:
        (n,).
    """
    out = np.zeros(len(fixes), bool)
    moving = np.flatnonzero(fixes.sog_kn > MOVING_KN)
    lon = fixes.lon_deg[moving]
    found = []
    for rows in range(1, min(ROWS, len(moving))):
        alike = np.flatnonzero(lon[rows:] == lon[:-rows])
        found.append(np.stack([moving[alike], moving[alike + rows]]))
    if not found:
        return out
    first, again = np.concatenate(found, axis=1)
    same = fixes.vessel[first] == fixes.vessel[again]
    for values in (fixes.lat_deg, fixes.sog_kn, fixes.cog_deg):
        same &= values[first] == values[again]
    wait = fixes.wait_s(first, again)
    first, again, wait = (each[same & (wait > 0) & (wait <= LATEST_S)] for each in (first, again, wait))
    if len(first):
        way = fixes.sog_kn[first] * KM_S_PER_KN * wait
        out[again[way > np.maximum(LEAST_KM, GRAINS * _grain_km(fixes, fixes.vessel[first]))]] = True
    return out


def _grain_km(fixes: Fixes, vessels: Ints) -> Floats:
    """(k,) of some vessels: how finely their positions are written, both ways together.

    On a grid of any kind steps, and differences of steps, are whole numbers of its cells; of other positions they may
    be anything, and soon are small.
    """
    names, number = np.unique(vessels, return_inverse=True)
    some: Fixes = fixes.take(np.isin(fixes.vessel, names))
    starts: Index = first_of_each(some.vessel)
    grain = np.full((2, len(names)), np.inf)
    for axis, values in enumerate((some.lon_deg, some.lat_deg)):
        step = np.diff(values, prepend=np.nan)
        step[starts] = np.nan
        for each in (step, np.diff(step, prepend=np.nan)):
            size = np.where(np.abs(each) > LEAST_DEG, np.abs(each), np.nan)
            grain[axis] = np.fmin(grain[axis], np.fmin.reduceat(size, starts))
    grain[0] *= np.cos(np.radians(some.lat_deg[starts]))
    grain[np.isinf(grain)] = 0.0
    found: Floats = np.hypot(*grain)[number] * KM_PER_DEG
    return found
