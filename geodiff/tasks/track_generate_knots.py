"""Generation by weights that have not learned it from whole stretches: as forecasts of a few knots at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tasks.track_generate_stretches import TRIES, Ints, Places, longer, possible
from geodiff.tracks import TrackQuery
from geodiff.vessels.window_fixes import ASKED

STRETCH_H = 6.0
"""Hours made at once."""

PASSES = 4
"""Evaluations per track at least: tracks from a lone fix bend in more ways than gaps do."""


def grow_by_knots(
    model: DenoiserMotion,
    seeds: Sequence[TrackQuery],
    behaviour: Ints,
    wanted: tuple[float, float, float],
    seed: int,
) -> list[TrackQuery]:
    """Each seed with ``ASKED`` fixes more for each stretch of at most ``STRETCH_H`` hours.

    Args:
        model: the denoiser.
        seeds: known fixes.
        behaviour: (n,) index into ``BEHAVIOURS``, told for the first stretch.
        wanted: hours of track, seconds between positions in the end, strength of guidance.
        seed: of the noise.
    """
    model = dataclasses.replace(model, passes=max(model.passes, PASSES))
    out: list[TrackQuery] = []
    for begin in range(0, len(seeds), BATCH):
        some = slice(begin, begin + BATCH)
        out += _grow(model, list(seeds[some]), behaviour[some], wanted, seed)
    return out


def _grow(
    model: DenoiserMotion, state: list[TrackQuery], behaviour: Ints, wanted: tuple[float, float, float], seed: int
) -> list[TrackQuery]:
    hours, step_s, guidance = wanted
    end = np.array([query.time_s[-1] for query in state]) + hours * 3600
    while (np.array([query.time_s[-1] for query in state]) < end - 1.0).any():
        stop = np.minimum(np.array([query.time_s[-1] for query in state]) + STRETCH_H * 3600, end)
        asked = [_asked(query, to) for query, to in zip(state, stop, strict=True)]

        def draw(
            rows: npt.NDArray[np.int64], attempt: int, asked: list[TrackQuery] = asked, told: Ints = behaviour
        ) -> Places:
            drawn = model.sample(
                [asked[row] for row in rows],
                members=1,
                seed=seed * TRIES + attempt,
                behaviour=told[rows],
                guidance=guidance,
            )
            return drawn.windows.to_degrees(drawn.windows.to_km(drawn.members[0]))

        lon, lat = possible(asked, behaviour, step_s, STRETCH_H * 3600, draw)
        state = [longer(query, lon[row], lat[row]) for row, query in enumerate(asked)]
        behaviour = np.zeros_like(behaviour)
    return state


def _asked(query: TrackQuery, stop: float) -> TrackQuery:
    begin = query.time_s[-1]
    return dataclasses.replace(query, ask_s=begin + (stop - begin) * np.arange(1, ASKED + 1) / ASKED)
