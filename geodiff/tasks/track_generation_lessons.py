"""Batches to learn generation from: windows of whole tracks, of which a fix or a part is shown.

Most of the time of a batch goes into what history says of its windows, so they are prepared once and drawn many times,
each time with other noise and other labels left untold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from geodiff.model.tracks import Fleet
from geodiff.schema import BoolArray
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km
from geodiff.tasks.track_fleets import fleet_of
from geodiff.tasks.track_pieces import Pieces
from geodiff.tasks.track_velocities import MOST_KNOWN, Ints
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.velocities import generation_windows, to_velocities
from geodiff.vessels.windows_draw import BEHAVIOURS, STILL

LONE = 0.6
"""Share of the windows that begin with a lone fix; the others go on from a part of the track."""

THINNED = (1.0, 0.5, 0.25)
"""Shares of its fixes that are shown."""

TOLD = 0.3
"""Share of those windows whose last fix tells speed and course."""

UNTOLD = (0.1, 0.08, 0.08)
"""Shares of the windows without either label, without a ship group, without a behaviour, for guidance to pull from."""

STILL_WEIGHT = 0.2
"""Of windows that lie still, which have little to learn from."""

PREPARED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class GenerationLessons:
    """n windows, prepared.

    Attributes:
        fleet: what is seen, with both labels (n, 1).
        payload: (n, 1, steps, 2) what is true; where nothing is asked it is any number.
    """

    fleet: Fleet
    payload: Tensor

    def __len__(self) -> int:
        return len(self.payload)

    @classmethod
    def prepare(
        cls,
        pieces: Pieces,
        history: TrackHistory | None,
        *,
        count: int,
        history_share: float,
        rng: np.random.Generator,
    ) -> Self:
        """Prepare windows; of rare groups and behaviours more are drawn than their share.

        Args:
            pieces: real windows, one at least.
            history: past tracks.
            count: windows, at least 1.
            history_share: share of them that is shown the past tracks.
            rng: of the draw.
        """
        parts = list(_prepared(pieces, history, _chosen(pieces, count, rng), history_share, rng))
        fleet = Fleet(
            **{each.name: torch.cat([getattr(part[0], each.name) for part in parts]) for each in fields(Fleet)}
        )
        return cls(fleet, torch.cat([part[1] for part in parts]))

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Fleet, Tensor]:
        """Some of the windows, with replacement: of some neither label is told, of some the one or the other."""
        rows = torch.from_numpy(rng.integers(0, len(self), count))
        fleet = Fleet(**{each.name: getattr(self.fleet, each.name)[rows] for each in fields(Fleet)})
        part = np.searchsorted(np.cumsum(UNTOLD), rng.random(count), side="right")
        fleet = fleet.replaced(
            group=fleet.group * torch.from_numpy((part != 0) & (part != 1))[:, None],
            behaviour=fleet.behaviour * torch.from_numpy((part != 0) & (part != 2))[:, None],
        )
        return fleet, self.payload[rows]


def _prepared(
    pieces: Pieces, history: TrackHistory | None, rows: Ints, history_share: float, rng: np.random.Generator
) -> Iterator[tuple[Fleet, Tensor]]:
    for begin in range(0, len(rows), PREPARED_AT_ONCE):
        some = pieces.take(rows[begin : begin + PREPARED_AT_ONCE])
        told = rng.random(len(some)) < history_share
        for which in (told, ~told):
            if which.any():
                yield _lessons(some.take(which), history if which is told else None, rng)


def _lessons(pieces: Pieces, history: TrackHistory | None, rng: np.random.Generator) -> tuple[Fleet, Tensor]:
    """Windows as they are shown, and their payload."""
    count, steps = len(pieces), pieces.lon_deg.shape[1] - 1
    # No rule of motion tells port from starboard; what others did there does.
    some = pieces if history is not None else _turned_over(pieces, rng.random(count) < 0.5)
    known = np.where(rng.random(count) < LONE, 0, rng.integers(0, int(MOST_KNOWN * steps) + 1, count))
    windows = generation_windows([_query(some, row, int(known[row]), rng) for row in range(count)], steps, history)
    ahead = np.minimum(known[:, None] + np.arange(1, steps + 1), steps)
    rows = np.arange(count)[:, None]
    payload = to_velocities(windows, some.lon_deg[rows, ahead], some.lat_deg[rows, ahead], some.step_s)
    return fleet_of(windows, behaviour=some.behaviour), torch.from_numpy(payload.astype(np.float32))[:, None]


def _chosen(pieces: Pieces, count: int, rng: np.random.Generator) -> Ints:
    """Rows of windows, with replacement.

    The root of the number of windows of a group and behaviour, and of a vessel in it, says how often they are drawn: a
    ferry on its beat all day is not what ferries are.
    """
    cell = pieces.group * len(BEHAVIOURS) + pieces.behaviour
    _, own, windows = np.unique(np.stack([cell, pieces.vessel_id]), axis=1, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(windows[own.ravel()])
    weight /= np.sqrt(np.bincount(cell, weight))[cell]
    total = np.cumsum(np.where(pieces.behaviour == STILL, STILL_WEIGHT, 1.0) * weight)
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
