"""When a track of plots is one, and not clutter: enough hits in a short time, as tracking radars count them."""

from __future__ import annotations

import numpy as np

from geodiff.tracks import FloatArray
from geodiff.vessels.associate_plots import IntArray


def confirm_span(time_s: FloatArray, hits: int, within_s: float) -> float:
    """Seconds within which the hits must fall: of a slow antenna the time of as many scans.

    Args:
        time_s: (n,) of plots, one time for each scan.
        hits: that confirm a track.
        within_s: least span.
    """
    steps = np.diff(np.unique(time_s))
    return max(within_s, hits * float(np.median(steps))) if len(steps) else within_s


def confirmed_tracks(time_s: FloatArray, track: IntArray, hits: int, within_s: float) -> IntArray:
    """Tracks with so many hits within a time, rising.

    Args:
        time_s: (n,) of plots; not falling within a track.
        track: (n,) number of the track of each.
        hits: at least 1.
        within_s: longest time from the first to the last of the hits.
    """
    order = np.argsort(track, kind="stable")
    times, tracks = time_s[order], track[order]
    last = slice(hits - 1, None)
    first = slice(0, max(len(order) - hits + 1, 0))
    near = (tracks[last] == tracks[first]) & (times[last] - times[first] <= within_s)
    found: IntArray = np.unique(tracks[last][near])
    return found
