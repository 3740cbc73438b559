"""Windows to train on: stretches of real tracks hidden at random, with what was there.

The mixture of what is hidden makes one network do all: gaps (imputation), ends (forecast), beginnings, and everything
but a first position. Durations are drawn evenly in their logarithm, and fixes are thinned at random, so
that minute data teach hourly questions too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_NMI, distance_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, TrackQuery
from geodiff.vessels.cases import MOVING_KN
from geodiff.vessels.window_fixes import ASKED

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_FIXES = 200
"""Fixes kept on each side of a stretch, of which a window shows a few."""

NEAR_S, NEAR_KM = 180.0, 10.0
"""How near in time and place the vessels of a scene begin."""

BEHAVIOURS = ("any", "transit", "manoeuvring", "loitering", "slow", "still")
TRANSIT, STILL = (BEHAVIOURS.index(each) for each in ("transit", "still"))
"""How a track moves as a whole; the condition of generation."""


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """Shares and ranges of what is drawn.

    Attributes:
        gap, forecast, before: shares of the kinds; what is left to 1 is forecasts from a lone fix.
        shortest_s, longest_s: range of durations.
        thinned: share of the windows whose fixes are thinned.
        moving: share of the windows that begin on a moving fix.
        mute: share of the windows without speed and course.
    """

    gap: float = 0.48
    forecast: float = 0.44
    before: float = 0.05
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
    """

    queries: list[TrackQuery]
    lon_deg: Floats
    lat_deg: Floats


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is hidden: ``kind`` is one of "gap", "forecast", "before", "start"; for ``duration_s``."""

    kind: str
    duration_s: float


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
        self._moving_by_time = self._moving[np.argsort(self.time_s[self._moving], kind="stable")]
        self._moving_s = self.time_s[self._moving_by_time]
        # Long tracks would fill the batches: a track counts like the root of its fixes.
        weight = 1.0 / np.sqrt((self._end - self._first)[number])
        self._cumulated = {True: np.cumsum(weight[self._moving]), False: np.cumsum(weight)}

    def draw(self, count: int, rng: np.random.Generator, settings: DrawSettings = DrawSettings()) -> Draws:
        """Draw ``count`` windows, each of one vessel alone."""
        found = []
        for _ in range(1000 * count):
            one = self._one(self._anchor(rng, settings), _plan(rng, settings), rng, settings)
            if one is not None:
                found.append(one)
            if len(found) == count:
                return self._draws(found)
        raise GeodiffError("the tracks are too short or too sparse for the durations asked for")

    def draw_scenes(
        self, count: int, vessels: int, rng: np.random.Generator, settings: DrawSettings = DrawSettings()
    ) -> Draws:
        """Draw ``count`` scenes of up to ``vessels`` vessels that move near each other at one time.

        Windows of a scene share what is hidden of them, and the number of their scene, from 1.
        """
        found: list[tuple[TrackQuery, Ints]] = []
        for scene in range(1, count + 1):
            some: list[tuple[TrackQuery, Ints]] = []
            for _ in range(1000):
                anchor, plan = self._anchor(rng, settings), _plan(rng, settings)
                drawn = [self._one(each, plan, rng, settings) for each in self._company(anchor, vessels)]
                some = [each for each in drawn if each is not None]
                if some:
                    break
            found += [(replace(query, scene=scene), picked) for query, picked in some]
        if not found:
            raise GeodiffError("the tracks are too short or too sparse for the durations asked for")
        return self._draws(found)

    def _draws(self, found: list[tuple[TrackQuery, Ints]]) -> Draws:
        index = np.stack([np.append(picked, np.full(ASKED - len(picked), picked[-1])) for _, picked in found])
        return Draws([query for query, _ in found], self.lon_deg[index], self.lat_deg[index])

    def _company(self, anchor: int, vessels: int) -> list[int]:
        """The anchor and the nearest fixes of other tracks that moved within ``NEAR_KM`` of it at that time."""
        time = self.time_s[anchor]
        low, high = np.searchsorted(self._moving_s, [time - NEAR_S, time + NEAR_S])
        index = self._moving_by_time[low:high]
        far = distance_km(self.lon_deg[anchor], self.lat_deg[anchor], self.lon_deg[index], self.lat_deg[index])
        index = index[np.argsort(far, kind="stable")][: int((far < NEAR_KM).sum())]
        _, first = np.unique(self._track[index], return_index=True)
        nearest = index[np.sort(first)]
        others = nearest[self._track[nearest] != self._track[anchor]]
        return [anchor, *others[: vessels - 1].tolist()]

    def _anchor(self, rng: np.random.Generator, settings: DrawSettings) -> int:
        moving = len(self._moving) > 0 and rng.random() < settings.moving
        mass = self._cumulated[moving]
        place = min(int(np.searchsorted(mass, rng.random() * mass[-1])), len(mass) - 1)
        return int(self._moving[place]) if moving else place

    def _one(
        self, anchor: int, plan: _Plan, rng: np.random.Generator, settings: DrawSettings
    ) -> tuple[TrackQuery, Ints] | None:
        """One window: the question and the fixes that answer it; None where a draw does not fit."""
        first, end = int(self._first[self._track[anchor]]), int(self._end[self._track[anchor]])
        index = np.arange(max(first, anchor - 6 * MOST_FIXES), min(end, anchor + 6 * MOST_FIXES))
        index = self._thinned(index, anchor, plan.duration_s, rng, settings)
        at = int(np.searchsorted(index, anchor))
        stop = int(np.searchsorted(self.time_s[index], self.time_s[anchor] + plan.duration_s, side="right"))
        hidden, after = index[at + 1 : stop], index[stop:]
        if not len(hidden) or (plan.kind in ("gap", "before") and not len(after)):
            return None
        known = {
            "gap": np.concatenate([index[: at + 1][-MOST_FIXES:], after[:MOST_FIXES]]),
            "forecast": index[: at + 1][-MOST_FIXES:],
            "before": after[:MOST_FIXES],
            "start": index[at : at + 1],
        }[plan.kind]
        asked = self._asked(hidden, rng)
        mute = rng.random() < (0.7 if plan.kind == "start" else settings.mute)
        return self._query(known, asked, mute=mute), asked

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


def _plan(rng: np.random.Generator, settings: DrawSettings) -> _Plan:
    """What to hide, and for how long."""
    shares = np.cumsum([settings.gap, settings.forecast, settings.before])
    kind = ("gap", "forecast", "before", "start")[int(np.searchsorted(shares, rng.random(), side="right"))]
    return _Plan(kind, float(np.exp(rng.uniform(np.log(settings.shortest_s), np.log(settings.longest_s)))))


def behaviour_of(time_s: Floats, lon_deg: Floats, lat_deg: Floats) -> Ints:
    """How pieces of track move, as indices into ``BEHAVIOURS``, from their mean speed and their straightness.

    Straightness is the distance between the ends over the length of the way: above 0.9 a transit, below 0.5 loitering.

    Args:
        time_s, lon_deg, lat_deg: (..., n), two fixes at least, else "any".

    Returns:
        (...), for a lone track of no dimension.
    """
    if time_s.shape[-1] < 2:
        return np.zeros(lon_deg.shape[:-1], np.int64)
    way = distance_km(lon_deg[..., :-1], lat_deg[..., :-1], lon_deg[..., 1:], lat_deg[..., 1:]).sum(-1)
    apart = distance_km(lon_deg[..., 0], lat_deg[..., 0], lon_deg[..., -1], lat_deg[..., -1])
    speed = way / KM_PER_NMI / np.maximum((time_s[..., -1] - time_s[..., 0]) / 3600, 1e-6)
    straight = apart / np.maximum(way, 1e-9)
    found: Ints = np.select([speed < 0.5, speed < 3.0, straight > 0.9, straight > 0.5], [5, 4, 1, 2], 3)
    return found
