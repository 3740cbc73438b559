"""Ellipses of regions: between the times they were found for, from true north, no further than a vessel can get."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_S_PER_KN, course_deg, from_local_km
from geodiff.vessels.clean_rules import DEFAULT_RULES
from geodiff.vessels.identity import fastest_kn
from geodiff.vessels.window_features import NOISE_KM
from geodiff.vessels.window_fixes import AFTER, BEFORE, turn
from geodiff.vessels.windows import Windows

Floats = npt.NDArray[np.float64]

_STEP_KM = 0.01
"""How far an axis is followed to learn its course: far above rounding, far below the convergence of meridians."""


def ellipses_between(at_s: Floats, ellipse_km: Floats, known_s: Floats, ask_s: Floats, levels: Floats) -> Floats:
    """Ellipses at further times of a stretch: their radii grow linearly in time, and from a known fix's own error.

    Between two ellipses the symmetric root of the matrix of each is interpolated, so that turning and growing go
    together and any share of two ellipses is one.

    Args:
        at_s: (k,) rising times of the ellipses.
        ellipse_km: (level, k, 3) semi-axes in km and course of the major one in degrees.
        known_s: known fixes next to the stretch, one or two: there a region is what a fix errs by.
        ask_s: (m,) times between the first and the last of all these.
        levels: (level,) probabilities.

    Returns:
        (level, m, 3).
    """
    angle = np.radians(ellipse_km[..., 2])
    axis = np.stack([np.sin(angle), np.cos(angle)], -1)
    major, minor = ellipse_km[..., 0, None, None], ellipse_km[..., 1, None, None]
    root = minor * np.eye(2) + (major - minor) * axis[..., :, None] * axis[..., None, :]
    sure = NOISE_KM * np.sqrt(-2 * np.log1p(-levels))[:, None, None, None] * np.eye(2)
    times = np.concatenate([at_s, known_s])
    order = np.argsort(times)
    roots = np.concatenate([root, np.repeat(sure, len(known_s), 1)], 1)[:, order]
    right = np.clip(np.searchsorted(times[order], ask_s), 1, len(times) - 1)
    left = right - 1
    share = np.clip((ask_s - times[order][left]) / (times[order][right] - times[order][left]), 0.0, 1.0)
    size, axes = np.linalg.eigh(roots[:, left] + share[:, None, None] * (roots[:, right] - roots[:, left]))
    course = np.degrees(np.arctan2(axes[..., 0, 1], axes[..., 1, 1])) % 180.0
    return np.stack([size[..., 1], size[..., 0], course], -1)


def reachable_km(windows: Windows, middle_km: Floats) -> Floats:
    """How far from the point estimate a vessel can be at most, at the speed that cleaning allows its ship type.

    A region is sized by the spread of members, which of a vessel at rest are a few metres apart; where many set off
    unforeseen, the factor that holds their share reaches further than any vessel goes.

    Args:
        windows: n windows.
        middle_km: (n, ASKED, 2) point estimates in their frames.

    Returns:
        (n, ASKED) km.
    """
    fastest = fastest_kn(windows.vessel_id, windows.ship_type)
    away = np.linalg.norm(middle_km[:, None] - windows.edges[:, :, None, 1:3], axis=-1)
    wait = np.abs(windows.asked_s[:, None] - windows.edges[:, :, 0, None])
    farthest = away + fastest[:, None, None] * KM_S_PER_KN * wait + DEFAULT_RULES.slack_km
    # The stretch before the first fix has no fix at its beginning, that after the last none at its end.
    farthest[windows.kind == BEFORE, 0] = farthest[windows.kind == AFTER, 1] = np.inf
    nearest: Floats = farthest.min(1)
    return nearest


def from_true_north(ellipse_km: Floats, place_km: Floats, frame: Floats) -> Floats:
    """The same ellipses with courses from true north where they lie, instead of from the north of the plane.

    Meridians converge: 300 km east of the plane's centre both differ by 5 degrees in 60 N, by 13 degrees in 78 N.

    Args:
        ellipse_km: (level, m, 3) with courses clockwise from north at the plane's centre.
        place_km: (m, 2) centres of the ellipses in the window's frame.
        frame: (3,) of the window.

    Returns:
        (level, m, 3), courses in [0, 180).
    """
    angle = np.radians(ellipse_km[..., 2])
    here = np.broadcast_to(turn(place_km, frame[2]), (*angle.shape, 2))
    ahead = here + _STEP_KM * np.stack([np.sin(angle), np.cos(angle)], -1)
    ends = [from_local_km(each[..., 0], each[..., 1], frame[0], frame[1]) for each in (here, ahead)]
    course = course_deg(*ends[0], *ends[1]) % 180.0
    return np.concatenate([ellipse_km[..., :2], course[..., None]], -1)
