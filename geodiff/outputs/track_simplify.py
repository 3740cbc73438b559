"""Tracks with fewer points and a known error: Douglas-Peucker in space and time, for all tracks at once."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_PER_DEG

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_DEPTH: Final = 48
"""After so many halvings pieces are cut in the middle: hostile shapes would otherwise take quadratic time."""

MAX_LATITUDE_DEG: Final = 89.9
"""Eleven kilometres from the poles, where ships go and charts of Mercator do not end."""


def mercator_y(lat_deg: npt.ArrayLike) -> Array:
    """Northing of the Mercator projection (Snyder 1987, eq. 7-2), in degrees of longitude, cut at 89.9°."""
    lat = np.clip(np.asarray(lat_deg, np.float64), -MAX_LATITUDE_DEG, MAX_LATITUDE_DEG)
    out: Array = np.degrees(np.arcsinh(np.tan(np.radians(lat))))
    return out


def mercator_latitude(y: npt.ArrayLike) -> Array:
    """Inverse of ``mercator_y``."""
    out: Array = np.degrees(np.arctan(np.sinh(np.radians(np.asarray(y, np.float64)))))
    return out


def significance_km(x: Array, y: Array, time_s: Array, piece: Integers, *, floor_km: float) -> Array:
    """How far a track would be off, in km, if a point and all that hang on it were left out.

    Keeping the points whose significance is above a tolerance is the Douglas-Peucker result for it (Douglas and
    Peucker 1973) with the synchronised distance of Meratnia and de By (2004): every point left out lies within the
    tolerance of where the straight pieces that are kept, drawn on a Mercator chart, put the vessel *at its time*.

    Args:
        x: (n,) unwrapped longitudes in degrees.
        y: (n,) Mercator northings in degrees (``mercator_y``).
        time_s: (n,) not falling within a piece.
        piece: (n,) number of the piece, not falling; its ends are always kept.
        floor_km: significances up to this are not told apart; they are reported as 0.

    Returns:
        (n,) km; infinite for the ends of pieces.
    """
    out = np.zeros(x.size)
    if not x.size:
        return out
    scale = KM_PER_DEG * np.cos(np.radians(mercator_latitude(y)))
    first = np.flatnonzero(np.concatenate([[True], piece[1:] != piece[:-1]]))
    last = np.append(first[1:], x.size) - 1
    out[first] = out[last] = np.inf
    cap = np.full(first.size, np.inf)
    depth = 0
    while first.size:
        open_ = last - first > 1
        first, last, cap = first[open_], last[open_], cap[open_]
        if not first.size:
            break
        worst, where = _farthest(x, y, time_s, scale, first, last)
        if depth >= _DEPTH:
            where = (first + last) // 2
        cap = np.minimum(worst, cap)
        split = cap > floor_km
        first, last, cap, where = first[split], last[split], cap[split], where[split]
        out[where] = cap
        first, last, cap = np.concatenate([first, where]), np.concatenate([where, last]), np.concatenate([cap, cap])
        depth += 1
    return out


def _farthest(
    x: Array, y: Array, time_s: Array, scale: Array, first: Integers, last: Integers
) -> tuple[Array, Integers]:
    """Largest distance in km of the inner points of each piece from its chord at their times, and which point it is."""
    sizes = last - first - 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    owner = np.repeat(np.arange(first.size), sizes)
    inner = np.arange(owner.size) - starts[owner] + first[owner] + 1
    left, right = first[owner], last[owner]
    duration = time_s[right] - time_s[left]
    share = np.divide(time_s[inner] - time_s[left], duration, out=np.zeros(inner.size), where=duration > 0)
    east = x[inner] - x[left] - share * (x[right] - x[left])
    north = y[inner] - y[left] - share * (y[right] - y[left])
    distance = np.hypot(east, north) * scale[inner]
    worst = np.maximum.reduceat(distance, starts)
    hits = np.flatnonzero(distance == worst[owner])
    where = np.empty(first.size, np.int64)
    where[owner[hits[::-1]]] = inner[hits[::-1]]
    return worst, where
