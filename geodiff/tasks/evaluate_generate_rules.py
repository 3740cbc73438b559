"""Simple rules that make tracks, for the denoiser to be measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from geodiff.rng import generator
from geodiff.sphere import KM_PER_NMI, course_deg, move
from geodiff.tasks.evaluate_generate_features import motion_of
from geodiff.tasks.track_pieces import Pieces

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Rule = Callable[[Pieces, Pieces, int], Pieces]
"""(asked, learned, seed) -> tracks with the labels and starts of the asked ones."""

FEWEST = 5
"""Windows of a ship group and behaviour below which those of the behaviour serve, whatever the group."""


def constant_motion(asked: Pieces, learned: Pieces, seed: int) -> Pieces:
    """One course and one speed each: mean speed and course of a learned window of the same group and behaviour."""
    motion = motion_of(learned)
    example = _examples(asked, learned, seed)
    hours = asked.step_s * np.arange(asked.lon_deg.shape[1]) / 3600
    reach = (motion.way_km[example] / learned.grid.hours)[:, None] * hours
    course = course_deg(learned.lon_deg[:, 0], learned.lat_deg[:, 0], learned.lon_deg[:, -1], learned.lat_deg[:, -1])
    return asked.moved(*move(asked.lon_deg[:, :1], asked.lat_deg[:, :1], course[example][:, None], reach))


def random_walk(asked: Pieces, learned: Pieces, seed: int) -> Pieces:
    """A correlated random walk (Kareiva & Shigesada 1983): steps of a speed and a turn, each pair on its own.

    Pairs are drawn from the steps of all learned windows of the same group and behaviour.
    """
    motion = motion_of(learned)
    turn = np.nan_to_num(motion.turn_deg_min) * learned.step_s / 60
    steps = asked.lon_deg.shape[1] - 1
    rng = generator(seed, "random walk")
    # Each step of each track takes a window of its own, and one of its steps.
    example = np.stack([_examples(asked, learned, seed + 7919 * (k + 1)) for k in range(steps)], 1)
    place = rng.integers(0, turn.shape[1], example.shape)
    speed, turned = motion.speed_kn[example, place + 1], turn[example, place]
    course = (rng.uniform(0, 360, len(asked))[:, None] + np.cumsum(turned, 1)) % 360
    lon, lat = np.empty_like(asked.lon_deg), np.empty_like(asked.lat_deg)
    lon[:, 0], lat[:, 0] = asked.lon_deg[:, 0], asked.lat_deg[:, 0]
    for k in range(steps):
        reach = speed[:, k] * KM_PER_NMI * asked.step_s / 3600
        lon[:, k + 1], lat[:, k + 1] = move(lon[:, k], lat[:, k], course[:, k], reach)
    return asked.moved(lon, lat)


RULES: Final[Mapping[str, Rule]] = {"constant_motion": constant_motion, "random_walk": random_walk}


def _examples(asked: Pieces, learned: Pieces, seed: int) -> Ints:
    """(n,) for each asked window a learned one of the same group and behaviour."""
    out = np.empty(len(asked), np.int64)
    rng = generator(seed, "examples")
    for group, behaviour in sorted({*zip(asked.group.tolist(), asked.behaviour.tolist(), strict=True)}):
        rows = np.flatnonzero((asked.group == group) & (asked.behaviour == behaviour))
        alike = learned.behaviour == behaviour
        pool = np.flatnonzero(alike & (learned.group == group))
        if len(pool) < FEWEST:
            pool = np.flatnonzero(alike) if alike.any() else np.arange(len(learned))
        out[rows] = rng.choice(pool, len(rows))
    return out
