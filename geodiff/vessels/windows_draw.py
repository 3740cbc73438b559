"""Windows to train on: stretches of real tracks hidden at random, with what was there.

The mixture of what is hidden makes one network do all: gaps (imputation), ends (forecast), beginnings, and everything
but a first position (generation). Durations are drawn evenly in their logarithm, and fixes are thinned at random, so
that minute data teach hourly questions too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_NMI, distance_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, TrackQuery
from geodiff.vessels.windows import ASKED

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_FIXES = 200
"""Fixes kept on each side of a stretch, of which a window shows a few."""

MOVING_KN = 1.0

BEHAVIOURS = ("any", "transit", "manoeuvring", "loitering", "slow", "still")
"""How a track moves as a whole; the condition of generation."""


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """Shares and ranges of what is drawn.

    Attributes:
        gap, forecast, before: shares of the kinds; what is left to 1 is generation from a first position.
        shortest_s, longest_s: range of durations.
        thinned: share of the windows whose fixes are thinned.
        moving: share of the windows that begin on a moving fix.
        mute: share of the windows without speed and course.
    """

    gap: float = 0.46
    forecast: float = 0.4
    before: float = 0.04
    shortest_s: float = 300.0
    longest_s: float = 14 * 3600.0
    thinned: float = 0.6
    moving: float = 0.92
    mute: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Questions with their answers.

    Attributes:
        queries: n questions of one stretch each.
        lon_deg, lat_deg: (n, ASKED) the truth at the times asked for; the last one is repeated where fewer are asked.
        behaviour: (n,) index into ``BEHAVIOURS``, told for generation only.
    """

    queries: list[TrackQuery]
    lon_deg: Floats
    lat_deg: Floats
    behaviour: Ints


class TrackPool:
    """Tracks to draw from: fixes (n,) sorted by track and time, at least four in each track."""

    def __init__(self, table: pl.DataFrame) -> None:
        kept = table.filter((pl.col(STATE) == OBSERVED) & pl.col(TRACK_ID).is_not_null())
        kept = kept.unique([TRACK_ID, TIME], keep="first").sort(TRACK_ID, TIME)
        kept = kept.filter(pl.len().over(TRACK_ID) >= 4)
        if kept.is_empty():
            raise GeodiffError("no track of four fixes or more: nothing to learn motion from")
        self.time_s = kept[TIME].dt.epoch("us").to_numpy() / 1e6
        self.lon_deg, self.lat_deg = kept[LON].to_numpy(), kept[LAT].to_numpy()
        self.sog_kn, self.cog_deg = (kept[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (SOG, COG))
        self.ship_type = kept[SHIP_TYPE].fill_null(0).cast(pl.Int64).to_numpy()
        self.vessel_id = kept[VESSEL_ID].fill_null(-1).to_numpy()
        number = kept[TRACK_ID].rle_id().cast(pl.Int64).to_numpy()
        self._first = np.flatnonzero(np.diff(number, prepend=-1))
        self._end = np.append(self._first[1:], len(number))
        self._track = number
        self._moving = np.flatnonzero(np.nan_to_num(self.sog_kn, nan=5.0) > MOVING_KN)
        # Long tracks would fill the batches: a track counts like the root of its fixes.
        weight = 1.0 / np.sqrt((self._end - self._first)[number])
        self._cumulated = {True: np.cumsum(weight[self._moving]), False: np.cumsum(weight)}

    @classmethod
    def joined(cls, tables: list[pl.DataFrame]) -> Self:
        """A pool of several tables, whose tracks stay apart."""
        return cls(
            pl.concat(
                [
                    table.with_columns(pl.format("{}:{}", pl.lit(i), TRACK_ID).alias(TRACK_ID))
                    for i, table in enumerate(tables)
                ],
                how="diagonal",
            )
        )

    def draw(self, count: int, rng: np.random.Generator, settings: DrawSettings = DrawSettings()) -> Draws:
        """Draw ``count`` windows."""
        queries: list[TrackQuery] = []
        lon, lat = np.zeros((count, ASKED)), np.zeros((count, ASKED))
        behaviour = np.zeros(count, np.int64)
        for _ in range(1000 * count):
            found = self._one(rng, settings)
            if found is None:
                continue
            query, picked, label = found
            row = len(queries)
            picked = np.append(picked, np.full(ASKED - len(picked), picked[-1]))
            lon[row], lat[row], behaviour[row] = self.lon_deg[picked], self.lat_deg[picked], label
            queries.append(query)
            if len(queries) == count:
                return Draws(queries, lon, lat, behaviour)
        raise GeodiffError("the tracks are too short or too sparse for the durations asked for")

    def _anchor(self, rng: np.random.Generator, settings: DrawSettings) -> int:
        moving = len(self._moving) > 0 and rng.random() < settings.moving
        mass = self._cumulated[moving]
        place = min(int(np.searchsorted(mass, rng.random() * mass[-1])), len(mass) - 1)
        return int(self._moving[place]) if moving else place

    def _one(self, rng: np.random.Generator, settings: DrawSettings) -> tuple[TrackQuery, Ints, int] | None:
        """One window, or None where the draw does not fit its track."""
        anchor = self._anchor(rng, settings)
        first, end = int(self._first[self._track[anchor]]), int(self._end[self._track[anchor]])
        duration = float(np.exp(rng.uniform(np.log(settings.shortest_s), np.log(settings.longest_s))))
        index = np.arange(max(first, anchor - 6 * MOST_FIXES), min(end, anchor + 6 * MOST_FIXES))
        index = self._thinned(index, anchor, duration, rng, settings)
        at = int(np.searchsorted(index, anchor))
        time = self.time_s[index]
        stop = int(np.searchsorted(time, time[at] + duration, side="right"))
        hidden = np.arange(at + 1, stop)
        kind = rng.random()
        if len(hidden) == 0:
            return None
        if kind < settings.gap:
            if stop >= len(index):
                return None
            left, right = index[: at + 1], index[stop:]
        elif kind < settings.gap + settings.forecast:
            left, right = index[: at + 1], index[:0]
        elif kind < settings.gap + settings.forecast + settings.before:
            left, right = index[:0], index[stop:]
            if len(right) == 0:
                return None
        else:
            left, right = index[at : at + 1], index[:0]
        start = kind >= settings.gap + settings.forecast + settings.before
        asked = self._asked(index[hidden], rng)
        known = np.concatenate([left[-MOST_FIXES:], right[:MOST_FIXES]])
        mute = rng.random() < (0.7 if start else settings.mute)
        label = self._behaviour(np.append(left[-1:], index[hidden])) if start and rng.random() < 0.8 else 0
        return self._query(known, asked, mute=mute), asked, label

    def _thinned(
        self, index: Ints, anchor: int, duration: float, rng: np.random.Generator, settings: DrawSettings
    ) -> Ints:
        """Fixes at least a random interval apart, the anchor among them."""
        if rng.random() >= settings.thinned:
            return index
        interval = float(np.exp(rng.uniform(np.log(30.0), np.log(max(duration / 1.5, 31.0)))))
        slot = np.floor((self.time_s[index] - self.time_s[anchor]) / interval)
        keep = np.diff(slot, prepend=np.nan) != 0
        keep |= index == anchor
        kept: Ints = index[keep]
        return kept

    @staticmethod
    def _asked(hidden: Ints, rng: np.random.Generator) -> Ints:
        """Some of the hidden fixes: mostly as many as fit, evenly or at random."""
        count = min(len(hidden), ASKED if rng.random() < 0.6 else int(rng.integers(1, ASKED + 1)))
        if rng.random() < 0.5:
            return hidden[np.unique(np.linspace(0, len(hidden) - 1, count).round().astype(np.int64))]
        return np.sort(rng.choice(hidden, count, replace=False))

    def _query(self, known: Ints, asked: Ints, *, mute: bool) -> TrackQuery:
        silent = np.full(len(known), np.nan)
        return TrackQuery(
            time_s=self.time_s[known],
            lon_deg=self.lon_deg[known],
            lat_deg=self.lat_deg[known],
            sog_kn=silent if mute else self.sog_kn[known],
            cog_deg=silent if mute else self.cog_deg[known],
            ask_s=self.time_s[asked],
            ship_type=int(self.ship_type[known[0]]),
            vessel_id=int(self.vessel_id[known[0]]),
        )

    def _behaviour(self, index: Ints) -> int:
        return behaviour_of(self.time_s[index], self.lon_deg[index], self.lat_deg[index])


def behaviour_of(time_s: Floats, lon_deg: Floats, lat_deg: Floats) -> int:
    """How a piece of track moves, an index into ``BEHAVIOURS``, from its mean speed and its straightness.

    Straightness is the distance between the ends over the length of the way: above 0.9 a transit, below 0.5 loitering.

    Args:
        time_s, lon_deg, lat_deg: (n,), two fixes at least, else "any".
    """
    if len(time_s) < 2:
        return 0
    way = float(distance_km(lon_deg[:-1], lat_deg[:-1], lon_deg[1:], lat_deg[1:]).sum())
    apart = float(distance_km(lon_deg[0], lat_deg[0], lon_deg[-1], lat_deg[-1]))
    speed = way / KM_PER_NMI / max((time_s[-1] - time_s[0]) / 3600, 1e-6)
    if speed < 0.5:
        return 5
    if speed < 3.0:
        return 4
    straight = apart / max(way, 1e-9)
    return 1 if straight > 0.9 else 2 if straight > 0.5 else 3
