"""Members as tracks that a vessel can sail: none moves faster than cleaning allows its ship type."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_S_PER_KN
from geodiff.vessels.window_features import NOISE_KM
from geodiff.vessels.window_fixes import AFTER, BEFORE

Floats = npt.NDArray[np.float64]

FASTER = 1.2
"""Members may be faster by this factor than the point estimate, where that is beyond the limit of speed already."""


def held_back(place_km: Floats, ask_s: Floats, edges: Floats, kind: int, fastest_kn: float) -> Floats:
    """Members drawn in towards the point estimate, each as a whole, until no step of theirs is too fast.

    Spread is calibrated to hold a share of the truth, lead by lead; nothing in that keeps a member from crossing a bay
    in a minute. A step may be as long as the limit of speed allows, or somewhat longer than the point estimate's own
    ever are: a vessel that is faster than its type does not lose its spread.

    Args:
        place_km: (1 + member, m, 2) point estimate and members in the window's frame.
        ask_s: (m,) their times, rising.
        edges: (2, 5) of the window (``Windows.edges``): the known fixes next to the stretch, of which each step counts.
        kind: of the window: one before or after all fixes has one known fix alone.
        fastest_kn: limit of speed.

    Returns:
        (member, m, 2).
    """
    begin, end = edges[:1] if kind != BEFORE else edges[:0], edges[1:] if kind != AFTER else edges[:0]
    time = np.concatenate([begin[:, 0], ask_s, end[:, 0]])
    known = [np.broadcast_to(each[:, 1:3], (len(place_km), len(each), 2)) for each in (begin, end)]
    step = np.diff(np.concatenate([known[0], place_km, known[1]], 1), axis=1)
    middle, departure = step[0], step[1:] - step[0]
    own, wait = (middle**2).sum(-1), np.diff(time)
    fastest = max(fastest_kn * KM_S_PER_KN, FASTER * float(((np.sqrt(own) - 2 * NOISE_KM) / wait).max()))
    most = fastest * wait + 2 * NOISE_KM
    # The largest share s of the departure for which |middle + s departure| <= most, step by step: a quadratic.
    along, square = (middle * departure).sum(-1), (departure**2).sum(-1)
    root = np.sqrt(np.maximum(along**2 + square * (most**2 - own), 0.0))
    share = np.divide(root - along, square, out=np.ones_like(square), where=square > 0)
    least = np.clip(share.min(-1), 0.0, 1.0)[:, None, None]
    held: Floats = place_km[0] + least * (place_km[1:] - place_km[0])
    return held
