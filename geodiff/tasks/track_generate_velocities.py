"""Generation by weights that have learned it: whole stretches of velocities, drawn from noise in many passes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geodiff.rng import generator
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tasks.track_generate_stretches import GUIDED_TRIES, TRIES, Ints, Places, limits_kn, longer, possible
from geodiff.tasks.track_pieces import Grid
from geodiff.tasks.track_starts import StartSpeeds
from geodiff.tasks.track_velocities import MOST_KNOWN, draw_velocities, keyed_noise
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.history_search import Asking
from geodiff.vessels.velocities import generation_windows, to_positions

Floats = npt.NDArray[np.float64]

HEADINGS = 16
"""Courses on which a lone fix may set off."""

SOON_S = 900.0
"""How far ahead it is looked which way others went."""

OFF_LANE = 0.02
"""Weight of a course that no historic track took."""


def grow_by_velocities(
    model: DenoiserMotion,
    grid: Grid,
    seeds: Sequence[TrackQuery],
    behaviour: Ints,
    wanted: tuple[float, float, float],
    seed: int,
) -> list[TrackQuery]:
    """Each seed with fixes ``grid.step_s`` apart to the end of its track or somewhat beyond.

    A lone fix gets a whole window at once; what is longer goes on from its last part, so that each stretch is asked for
    as the training asked.

    Args:
        model: the denoiser.
        grid: of the windows that it learned.
        seeds: known fixes.
        behaviour: (n,) index into ``BEHAVIOURS``, told for every stretch.
        wanted: hours of track, seconds between positions in the end, strength of guidance.
        seed: of the noise.
    """
    out: list[TrackQuery] = []
    for begin in range(0, len(seeds), BATCH):
        some = slice(begin, begin + BATCH)
        out += _grow(model, grid, list(seeds[some]), behaviour[some], wanted, seed)
    return out


def _grow(
    model: DenoiserMotion,
    grid: Grid,
    state: list[TrackQuery],
    behaviour: Ints,
    wanted: tuple[float, float, float],
    seed: int,
) -> list[TrackQuery]:
    hours, step_s, guidance = wanted
    end = np.array([query.time_s[-1] for query in state]) + hours * 3600
    most_kn = limits_kn(state, StartSpeeds.from_card(model.card))
    while True:
        rows = np.flatnonzero(np.array([query.time_s[-1] for query in state]) < end - 1.0)
        if not len(rows):
            return state
        asked = [_asked(state[row], grid) for row in rows]

        def draw(some: Ints, attempt: int, asked: list[TrackQuery] = asked, told: Ints = behaviour[rows]) -> Places:
            questions, steps = [asked[k] for k in some], grid.positions - 1
            windows = generation_windows(
                [_shown(each, grid, model.history) for each in questions], steps, model.history
            )
            # Keyed by when each is really asked: shown to the model they all stand at one time.
            noise, wobble = (
                keyed_noise(questions, steps, seed * TRIES + attempt, what) for what in ("velocities", "wobble")
            )
            pull = guidance if attempt < GUIDED_TRIES else 1.0
            payload = draw_velocities(model.net, windows, told[some], noise, guidance=pull)
            return to_positions(windows, payload, grid.step_s, wobble)

        lon, lat = possible(asked, behaviour[rows], min(step_s, grid.step_s), grid.hours * 3600, draw, most_kn[rows])
        for k, row in enumerate(rows.tolist()):
            count = len(asked[k].ask_s)
            state[row] = longer(asked[k], lon[k, :count], lat[k, :count])


def _asked(query: TrackQuery, grid: Grid) -> TrackQuery:
    steps = grid.positions - 1
    count = steps if len(query.time_s) == 1 else max(steps // 2, 1)
    return dataclasses.replace(query, ask_s=query.time_s[-1] + grid.step_s * np.arange(1, count + 1))


def _shown(query: TrackQuery, grid: Grid, history: TrackHistory | None) -> TrackQuery:
    """What the model sees: the last part of the track, after all that history knows."""
    steps = math.floor(MOST_KNOWN * (grid.positions - 1))
    late = query.time_s >= query.time_s[-1] - steps * grid.step_s - 0.5
    # When it is made says nothing: all that ever happened there may be gone by.
    later = float(history.time_s.max()) + 1.0 - query.time_s[-1] if history is not None and len(history) else 0.0
    sog, cog = query.sog_kn[late], query.cog_deg[late]
    if len(sog) == 1 and len(query.time_s) > 1 and np.isnan(sog + cog).any():
        sog, cog = _arrival(query)
    return dataclasses.replace(
        query,
        vessel_id=-2 - query.vessel_id,  # nobody of the past, where a vessel may bear the number of a made track
        time_s=query.time_s[late] + later,
        lon_deg=query.lon_deg[late],
        lat_deg=query.lat_deg[late],
        sog_kn=sog,
        cog_deg=cog,
        ask_s=query.ask_s + later,
    )


def _arrival(query: TrackQuery) -> tuple[Floats, Floats]:
    """(1,) each: knots and degrees with which the last fix is reached along the great circle from the one before."""
    lon, lat = query.lon_deg[-2:], query.lat_deg[-2:]
    way = distance_km(lon[:1], lat[:1], lon[1:], lat[1:])
    course = (course_deg(lon[1:], lat[1:], lon[:1], lat[:1]) + 180.0) % 360.0
    return way / KM_PER_NMI * 3600.0 / np.diff(query.time_s[-2:]), course


def courses(seeds: Sequence[TrackQuery], knots: Floats, history: TrackHistory | None, seed: int) -> Floats:
    """(n,) degrees on which lone fixes set off: as historic tracks went from there, anywhere where there are none.

    Args:
        seeds: the fixes.
        knots: (n,) speed of each.
        history: past tracks.
        seed: of the draw, which is keyed by vessel and time.
    """
    chance = np.array(
        [generator(seed, "course", query.vessel_id, int(query.time_s[0])).uniform(size=2) for query in seeds]
    )
    width = 360.0 / HEADINGS
    heading = width * np.arange(HEADINGS)
    weight = np.full((len(seeds), HEADINGS), OFF_LANE)
    if history is not None and len(history):
        lon, lat = (
            np.repeat([getattr(query, name)[0] for query in seeds], HEADINGS) for name in ("lon_deg", "lat_deg")
        )
        speed, angle = np.repeat(knots * KM_PER_NMI / 3600, HEADINGS), np.radians(np.tile(heading, len(seeds)))
        nobody, soon = np.full(len(lon), -1), np.full((len(lon), 1), SOON_S)
        reach = np.maximum(speed * SOON_S, 1.0)
        said = history.ask(Asking(lon, lat, speed * np.sin(angle), speed * np.cos(angle), nobody, soon, reach))
        # Squared: of two courses the one that is taken, not one between them.
        weight += (said.weight[:, :, 0] ** 2).sum(1).reshape(weight.shape)
    total = np.cumsum(weight, 1)
    row = (total < (chance[:, :1] * total[:, -1:])).sum(1)
    found: Floats = (heading[np.minimum(row, HEADINGS - 1)] + width * (chance[:, 1] - 0.5)) % 360.0
    return found
