"""How windows of tracks move: speeds, turns, and features that neither place nor direction changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, turn_deg
from geodiff.tasks.track_pieces import Pieces

Floats = npt.NDArray[np.float64]

MOVING_KN = 0.5
"""Below it the course of a step is noise of the positions."""

SPEED_PARTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
TAILS = (0.5, 0.75, 0.9, 1.0)
SPEED_NOISE_KN, TURN_NOISE_DEG_MIN = 0.05, 0.1
"""Changes of this size are noise of the positions: below it steps are not called alike."""

SPANS = 4
"""Parts of a window whose net displacements are compared with the way made."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """n windows of m steps.

    Attributes:
        speed_kn: (n, m) of each step.
        acceleration_kn_min: (n, m - 1) change of speed from step to step.
        turn_deg_min: (n, m - 1) change of course, positive to starboard; NaN where a step is slower than ``MOVING_KN``.
        lateral_m_s2: (n, m - 1) mean speed times rate of turn, without sign; NaN likewise.
        net_km: (n,) from the first position to the last.
        way_km: (n,) along the positions.
    """

    speed_kn: Floats
    acceleration_kn_min: Floats
    turn_deg_min: Floats
    lateral_m_s2: Floats
    net_km: Floats
    way_km: Floats


def motion_of(pieces: Pieces) -> Motion:
    """Speeds, turns and lengths of windows, on the sphere."""
    lon, lat, minutes = pieces.lon_deg, pieces.lat_deg, pieces.step_s / 60
    step = distance_km(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
    speed = step / KM_PER_NMI / (minutes / 60)
    course = course_deg(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
    turn = turn_deg(course[:, :-1], course[:, 1:]) / minutes
    moving = np.minimum(speed[:, :-1], speed[:, 1:]) >= MOVING_KN
    turn = np.where(moving, turn, np.nan)
    metres_s = (speed[:, :-1] + speed[:, 1:]) / 2 * KM_PER_NMI / 3.6
    net = distance_km(lon[:, 0], lat[:, 0], lon[:, -1], lat[:, -1])
    lateral = metres_s * np.radians(np.abs(turn)) / 60
    return Motion(speed, np.diff(speed, axis=1) / minutes, turn, lateral, net, step.sum(1))


def features_of(pieces: Pieces) -> Floats:
    """Features (n, k) that moving, turning or mirroring a window does not change; all finite.

    Quantiles of speed, of the changes of speed and of the turns; straightness of the whole and of its parts; how much
    of the turning goes one way; how alike neighbouring steps are; share of steps that lie still.
    """
    motion = motion_of(pieces)
    speed, turn = motion.speed_kn, np.nan_to_num(motion.turn_deg_min)
    parts = [
        np.log1p(np.quantile(speed, SPEED_PARTS, axis=1).T),
        np.log1p(10 * np.quantile(np.abs(motion.acceleration_kn_min), TAILS, axis=1).T),
        np.log1p(np.quantile(np.abs(turn), TAILS, axis=1).T),
        np.log1p(1000 * np.quantile(np.nan_to_num(motion.lateral_m_s2), TAILS, axis=1).T),
        np.log1p(np.stack([motion.net_km, motion.way_km], 1)),
        _straightness(pieces, motion),
        np.stack(
            [
                (speed < MOVING_KN).mean(1),
                np.abs(turn.sum(1)) / np.maximum(np.abs(turn).sum(1), 1e-6),
                _alike(speed, SPEED_NOISE_KN),
                _alike(turn, TURN_NOISE_DEG_MIN),
                speed.std(1) / np.maximum(speed.mean(1), 0.1),
            ],
            1,
        ),
    ]
    out: Floats = np.concatenate(parts, 1)
    return out


def _straightness(pieces: Pieces, motion: Motion) -> Floats:
    """Net displacement over the way, of the whole window and the sorted ones of its parts: (n, 1 + SPANS)."""
    marks = np.linspace(0, pieces.lon_deg.shape[1] - 1, min(SPANS, motion.speed_kn.shape[1]) + 1).round().astype(int)
    lon, lat = pieces.lon_deg[:, marks], pieces.lat_deg[:, marks]
    net = distance_km(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
    hours = pieces.step_s / 3600
    way = np.add.reduceat(motion.speed_kn * KM_PER_NMI * hours, marks[:-1], axis=1)
    each = np.sort(net / np.maximum(way, 1e-6), axis=1)
    whole = motion.net_km / np.maximum(motion.way_km, 1e-6)
    out: Floats = np.clip(np.concatenate([whole[:, None], each], 1), 0.0, 1.0)
    return out


def _alike(values: Floats, noise: float) -> Floats:
    """(n,) correlation of each step with the next, drawn to zero where the steps differ by no more than noise."""
    away = values - values.mean(1, keepdims=True)
    total = (away**2).sum(1) + values.shape[1] * noise**2
    out: Floats = (away[:, 1:] * away[:, :-1]).sum(1) / total
    return out
