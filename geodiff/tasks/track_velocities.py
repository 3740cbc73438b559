"""Generation as diffusion: batches of whole stretches to learn from, and stretches drawn from noise.

A student of few passes gets the margins of where a vessel may be right; how it moves on the way, and what tells a ferry
from a tanker, is of the whole stretch. So these windows are learned with the denoising loss alone, and drawn in many
passes, with classifier-free guidance (Ho & Salimans 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geodiff.model.sampler import euler
from geodiff.model.tracks import Fleet, TrackDenoiser
from geodiff.rng import generator
from geodiff.schema import BoolArray, GeodiffError
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km
from geodiff.tasks.track_fleets import fleet_of
from geodiff.tasks.track_pieces import Grid, Pieces
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.velocities import UNIT_KN, generation_windows, to_velocities
from geodiff.vessels.windows import Windows
from geodiff.vessels.windows_draw import BEHAVIOURS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LONE = 0.6
"""Share of the windows that begin with a lone fix; the others go on from a part of the track."""

MOST_KNOWN = 2 / 3
"""How much of a window such a part has at most."""

THINNED = (1.0, 0.5, 0.25)
"""Shares of its fixes that are shown."""

TOLD = 0.3
"""Share of those windows whose last fix tells speed and course."""

UNTOLD = (0.1, 0.08, 0.08)
"""Shares of the windows without either label, without a ship group, without a behaviour, for guidance to pull from."""

STILL_WEIGHT = 0.2
"""Of windows that lie still, which have little to learn from."""

PASSES = 13
LAST_LEVEL = 0.2
"""Below it an imperfect network adds more jitter than it takes away."""


CARD: Final = "generation"
"""Entry of the card: the grid of the windows that weights have learned generation from."""


class BatchSettings(Protocol):
    """What a training says of its batches."""

    @property
    def batch(self) -> int: ...

    @property
    def history_share(self) -> float: ...


def card_entry(pieces: Pieces) -> dict[str, Any]:
    """What the card says of weights that have learned generation from these windows."""
    return {CARD: {"step_s": pieces.step_s, "steps": pieces.lon_deg.shape[1] - 1, "unit_kn": UNIT_KN}}


def grid_of(card: Mapping[str, Any]) -> Grid | None:
    """The grid that weights have learned generation on; None where they have not.

    Raises:
        GeodiffError: something else stands there.
    """
    if CARD not in card:
        return None
    try:
        step_s, steps, unit = (float(card[CARD][name]) for name in ("step_s", "steps", "unit_kn"))
    except (TypeError, ValueError, KeyError, OverflowError):
        step_s = steps = unit = math.nan
    if not (1 <= step_s <= 86_400 and 1 <= steps <= 1000 and steps == int(steps) and unit == UNIT_KN):
        raise GeodiffError(f"the card's {CARD} is no grid in units of {UNIT_KN:g} kn: train again")
    return Grid(int(steps) * step_s / 3600, step_s)


def generation_batch(
    pieces: Pieces, history: TrackHistory | None, settings: BatchSettings, rng: np.random.Generator
) -> tuple[Fleet, Tensor]:
    """Windows to learn generation from.

    Args:
        pieces: real windows; of rare groups and behaviours more are drawn than their share.
        history: past tracks.
        settings: how many windows, and what share of them is shown the past tracks.
        rng: of the draw.

    Returns:
        What is seen, and the payload (batch, 1, steps, 2) that is true; where nothing is asked it is any number.
    """
    count, steps = settings.batch, pieces.lon_deg.shape[1] - 1
    told = rng.random(count) < settings.history_share
    some = _turned_over(pieces.take(_chosen(pieces, count, rng)), ~told & (rng.random(count) < 0.5))
    known = np.where(rng.random(count) < LONE, 0, rng.integers(0, int(MOST_KNOWN * steps) + 1, count))
    windows = generation_windows(
        [_query(some, row, int(known[row]), rng) for row in range(count)], steps, history if told.any() else None
    )
    ahead = np.minimum(known[:, None] + np.arange(1, steps + 1), steps)
    rows = np.arange(count)[:, None]
    payload = to_velocities(windows, some.lon_deg[rows, ahead], some.lat_deg[rows, ahead], some.step_s)
    fleet = fleet_of(windows, behaviour=some.behaviour)
    # Of the windows some are told neither label, some the one, some the other.
    part = np.searchsorted(np.cumsum(UNTOLD), rng.random(count), side="right")
    fleet = fleet.replaced(
        group=fleet.group * torch.from_numpy((part != 0) & (part != 1))[:, None],
        behaviour=fleet.behaviour * torch.from_numpy((part != 0) & (part != 2))[:, None],
    ).told_history(torch.from_numpy(told))
    return fleet, torch.from_numpy(payload.astype(np.float32))[:, None]


def _chosen(pieces: Pieces, count: int, rng: np.random.Generator) -> Ints:
    """Rows of windows, with replacement.

    The root of the number of windows of a group and behaviour, and of a vessel in it, says how often they are drawn: a
    ferry on its beat all day is not what ferries are.
    """
    cell = pieces.group * len(BEHAVIOURS) + pieces.behaviour
    _, own, windows = np.unique(np.stack([cell, pieces.vessel_id]), axis=1, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(windows[own.ravel()])
    weight /= np.sqrt(np.bincount(cell, weight))[cell]
    total = np.cumsum(np.where(pieces.behaviour == BEHAVIOURS.index("still"), STILL_WEIGHT, 1.0) * weight)
    rows: Ints = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    return np.minimum(rows, len(pieces) - 1)


def _turned_over(pieces: Pieces, which: BoolArray) -> Pieces:
    """Port for starboard in some windows: about the meridian of their start."""
    lon = pieces.lon_deg
    return pieces.moved(np.where(which[:, None], 2 * lon[:, :1] - lon, lon), pieces.lat_deg)


def _query(pieces: Pieces, row: int, known: int, rng: np.random.Generator) -> TrackQuery:
    """A window as a question: its first ``known`` steps are seen, or a lone fix with the velocity of the first one."""
    at = np.arange(known + 1)
    at = at[(rng.random(known + 1) < rng.choice(THINNED)) | (at == known)]
    lon, lat = pieces.lon_deg[row], pieces.lat_deg[row]
    sog, cog = np.full((2, len(at)), np.nan)
    if len(at) == 1 or rng.random() < TOLD:
        before = max(known - 1, 0)
        ends = lon[before], lat[before], lon[known + 1], lat[known + 1]
        hours = (known + 1 - before) * pieces.step_s / 3600
        sog[-1] = distance_km(*ends) / KM_PER_NMI / hours
        cog[-1] = course_deg(*ends)
    time = pieces.start_s[row] + pieces.step_s * np.arange(len(lon))
    return TrackQuery(
        time[at], lon[at], lat[at], sog, cog, time[known + 1 :], int(pieces.ship_type[row]), int(pieces.vessel_id[row])
    )


def draw_velocities(
    net: TrackDenoiser, windows: Windows, behaviour: Ints, noise: Floats, *, guidance: float, passes: int = PASSES
) -> Floats:
    """Payload (n, steps, 2) of each window, drawn from noise.

    Args:
        net: trained on such windows.
        windows: from ``generation_windows``.
        behaviour: (n,) told.
        noise: (n, steps, 2) standard normal numbers, from ``keyed_noise``.
        guidance: strength; 1 leaves it off.
        passes: evaluations.
    """
    fleet = fleet_of(windows, behaviour=behaviour)
    with torch.inference_mode():
        told = net.encode(fleet)
        # Away from any ship group alone: a behaviour is told, and what moves otherwise is drawn again.
        steered = guidance != 1.0 and bool(fleet.group.any())
        plain = net.encode(fleet.replaced(group=torch.zeros_like(fleet.group))) if steered else None

        def denoise(x: Tensor, level: float) -> Tensor:
            levels = torch.full((len(x),), level)
            out: Tensor = net(x, levels, told)
            if plain is not None:
                away = net(x, levels, plain)
                out = away + guidance * (out - away)
            return out

        drawn = euler(denoise, torch.from_numpy(noise[:, None]).float(), _levels(passes)) * told.scale
    found: Floats = drawn[:, 0].double().numpy()
    return found


def _levels(passes: int) -> tuple[float, ...]:
    """Noise levels from 1 to ``LAST_LEVEL``, from which the last step goes to the mean of what it may be."""
    return tuple(np.linspace(1.0, LAST_LEVEL, passes).tolist()) if passes > 1 else (1.0,)


def keyed_noise(queries: Sequence[TrackQuery], steps: int, seed: int, what: str) -> Floats:
    """Standard normal numbers (n, steps, 2), keyed by each vessel and the time of its last known fix."""
    keys = [(query.vessel_id, int(query.time_s[-1])) for query in queries]
    return np.stack([generator(seed, what, *key).standard_normal((steps, 2)) for key in keys])
