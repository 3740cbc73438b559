"""The nearest historic tracks as a model of motion: go where the vessels went that once moved most like this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geodiff.schema import BoolArray
from geodiff.sphere import Array, from_local_km, north_turn
from geodiff.tracks import TrackAnswer, TrackQuery
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.baselines_flat import Asks, Fixes, Index
from geodiff.vessels.history import Answers, TrackHistory
from geodiff.vessels.history_search import Asking, unknown_times
from geodiff.vessels.window_fixes import turn

_BATCH = 2000

LEAST_NEAR = 0.1
"""What passed less nearly does not answer: a vessel on the opposite course did, where there was no other."""


@dataclass(frozen=True)
class NearestHistoric(Hermite):
    """The mean displacement of the historic tracks nearest in place, course and speed, from the last known fix.

    Weighted by nearness; the nearest one alone errs by a quarter more (Western Australia, 12 hours).

    Between two fixes the path is bent by a share that rises with time, so that it ends at the second one. Where no
    history is near, or its track ended before, it is ``Hermite``.

    Attributes:
        history: past tracks; None: it is ``Hermite`` everywhere.
    """

    name = "nearest_historic"
    history: TrackHistory | None = None

    def with_history(self, history: TrackHistory | None) -> NearestHistoric:
        """The same rule with other past tracks."""
        return dataclasses.replace(self, history=history)

    def predict(self, queries: Sequence[TrackQuery], *, members: int = 0, seed: int = 0) -> list[TrackAnswer]:
        """Answer each query, in order; see ``DeadReckoning.predict``."""
        answers = super().predict(queries)
        if self.history is None or not len(self.history) or not queries:
            return answers
        fixes, asks = Fixes.of(queries), Asks.of(queries)
        lon = np.concatenate([each.lon_deg for each in answers])
        lat = np.concatenate([each.lat_deg for each in answers])
        vessels = np.array([query.vessel_id for query in queries], np.int64)
        for start in range(0, len(asks.time_s), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(asks.time_s)))
            place, known = self._follow(self.history, fixes, asks, rows, vessels)
            lon[rows[known]], lat[rows[known]] = (each[known] for each in place)
        return asks.answers(lon, lat)

    @staticmethod
    def _follow(
        history: TrackHistory, fixes: Fixes, asks: Asks, rows: Index, vessels: Index
    ) -> tuple[tuple[Array, Array], BoolArray]:
        anchor, after, t = asks.anchor[rows], asks.after[rows], asks.time_s[rows]
        between = (asks.before[rows] >= 0) & (after >= 0)
        start = fixes.time_s[anchor]
        end = np.where(between, fixes.time_s[after], t)
        centre = fixes.place(anchor)
        velocity = fixes.velocity(anchor, centre)
        reach = np.hypot(velocity[:, 0], velocity[:, 1]) * np.abs(end - start)
        asking = Asking(
            *centre,
            velocity[:, 0],
            velocity[:, 1],
            vessels[asks.query[rows]],
            np.stack([t - start, end - start], 1),
            reach,
        )
        until, hidden = unknown_times(start, end, ahead=after < 0, behind=asks.before[rows] < 0)
        said = Answers.joined([history.ask(asking, until_s=until), history.ask_own(asking, hidden)])
        # A track counts where it is known at both times, so that the path has no step between them.
        weight = said.weight.min(2) * (said.near >= LEAST_NEAR)
        total = weight.sum(1)
        known = total > 0
        share_of = weight / np.where(known, total, 1.0)[:, None]
        # What was a course there is one here: meridians converge, and north is turned between two places.
        fix, (lon0, lat0) = np.maximum(said.fix, 0), (each[:, None] for each in centre)
        veer = north_turn(history.lon_deg[fix], history.lat_deg[fix], lon0, lat0)[..., None]
        way = np.einsum("nk,nkma->nma", share_of, turn(np.stack([said.east_km, said.north_km], -1), veer))
        off = np.where(between[:, None], fixes.position(np.where(between, after, anchor), centre) - way[:, 1], 0.0)
        share = np.divide(t - start, end - start, out=np.ones(len(rows)), where=between)
        place = way[:, 0] + share[:, None] * off
        return from_local_km(place[:, 0], place[:, 1], *centre), known
