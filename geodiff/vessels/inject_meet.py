"""The injected close approach: a vessel is steered to meet another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from geodiff.sphere import to_local_km
from geodiff.vessels.inject_piece import KN_PER_KM_S, Piece, shifted
from geodiff.vessels.scoring_fixes import Fixes, Ints

MEET_KM: Final = (0.03, 0.12)
"""How near the two pass."""

SOON_S: Final = 600.0
"""How long before and after the meeting fixes are labelled."""

NEAREST_KM: Final = 0.5
"""Vessels that pass nearer than this anyway are not steered."""


def approach(piece: Piece, fixes: Fixes, others: Sequence[Ints], rng: np.random.Generator) -> Piece | None:
    """Steer to pass another vessel within 30-120 m, where that needs no more than 40 % of the own speed sideways."""
    speed, _ = piece.velocity()
    best: tuple[float, int, float, float] | None = None
    reach = 0.4 * float(np.median(speed)) / KN_PER_KM_S
    inner = np.arange(3, len(piece) - 3)
    for rows in others:
        time = fixes.time_s[rows]
        kept = inner[(piece.time_s[inner] >= time[0]) & (piece.time_s[inner] <= time[-1])]
        if not len(kept) or len(rows) < 3 or fixes.moored[rows].all():
            continue
        theirs = np.stack(to_local_km(fixes.lon_deg[rows], fixes.lat_deg[rows], *piece.centre))
        east, north = (np.interp(piece.time_s[kept], time, each) for each in theirs)
        east, north = east - piece.east_km[kept], north - piece.north_km[kept]
        far = np.hypot(east, north)
        at = int(np.argmin(far))
        moving = not fixes.moored[rows[np.argmin(np.abs(time - piece.time_s[kept[at]]))]]
        if moving and far[at] > NEAREST_KM and (best is None or far[at] < best[0]):
            best = float(far[at]), int(kept[at]), float(east[at]), float(north[at])
    if best is None:
        return None
    return _steered(piece, best, reach, rng)


def _steered(
    piece: Piece, goal: tuple[float, int, float, float], reach_km_s: float, rng: np.random.Generator
) -> Piece | None:
    far, at, east, north = goal
    # The hill's steepest slope is pi * height / width.
    half = max(np.pi * far / reach_km_s, 600.0, 6 * piece.step_s) / 2
    begin, end = piece.time_s[at] - half, piece.time_s[at] + half
    if begin < piece.time_s[0] or end > piece.time_s[-1]:
        return None
    part = np.clip((piece.time_s - begin) / (end - begin), 0, 1)
    hill = np.sin(np.pi * part) ** 2
    miss, angle = rng.uniform(*MEET_KM), rng.uniform(0, 2 * np.pi)
    east, north = east + miss * np.sin(angle), north + miss * np.cos(angle)
    made = shifted(piece, hill * east, hill * north, f"steered {far:.1f} km to within {1000 * miss:.0f} m")
    # The approach is the minutes about the meeting; on the way there nothing has happened yet.
    soon = np.abs(piece.time_s - piece.time_s[at]) <= max(SOON_S, 1.5 * piece.step_s)
    return replace(made, label=made.label & soon)
