"""Cases of an evaluation: fixes are hidden, a model is asked for them, and what they were is kept beside the question.

Imputation: the fixes of a gap are hidden and those on both sides known. Forecast: all that follows a fix is hidden.
Cases are drawn among all fixes alike, or of each vessel in turn, so that a few ferries with many fixes do not make up
the whole. In which order a vessel's own come depends on that vessel and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.rng import generator
from geodiff.schema import BoolArray
from geodiff.sphere import KM_PER_NMI, Array, distance_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, TrackQuery
from geodiff.vessels.spans import Span

Draw = Literal["fixes", "vessels"]
Index = npt.NDArray[np.int64]

MOVING_KN: Final = 1.0
"""A vessel is under way when a known fix beside the asked stretch is at least this fast, or the way across a gap is.

What is not is scored apart: a moored vessel is easy for every model, and most of the world's vessels are moored. Only
what is known when the question is asked decides: chosen by what became of it, a region that holds nine of ten vessels
at rest would be tested on the tenth, which left.
"""

LEG: Final = 4
"""A speed that is not told is that of the way over so many fixes: over one, at anchor, it is GNSS noise."""

SLACK: Final = 1.25
"""A gap of so many minutes ends at the first fix after them, which must come before this multiple of them; a horizon is
asked at the fix nearest to it, at most the same share off."""

LEAST_KNOWN: Final = 2
"""Known fixes on each side (of a forecast: before it)."""

CONTEXT_SPANS: Final = 3.0
CONTEXT_LEAST: Final = 16
CONTEXT_MOST: Final = 500
"""Known on each side: the fixes within so many lengths of the asked stretch, at least and at most so many."""

MOST_ASKED: Final = 12
"""Times asked within a gap; of more hidden fixes so many are asked, evenly spread, the first and the last included."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One question and what is true.

    Attributes:
        query: what a model is asked.
        truth_lon_deg, truth_lat_deg: (m,) where the vessel was at the asked times.
        label: (m,) text: the length of the gap, or the horizon of each asked time.
        moving: whether the vessel is under way, by what is known.
        track: its track.
    """

    query: TrackQuery
    truth_lon_deg: Array
    truth_lat_deg: Array
    label: tuple[str, ...]
    moving: bool
    track: str

    @property
    def key(self) -> str:
        """Names the case in ledgers and reports."""
        return f"{self.track} {self.query.ask_s[0]:.0f} {self.label[-1]}"


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Observed fixes in the order of track and time, as arrays of n."""

    track: npt.NDArray[np.object_]
    vessel_id: Index
    ship_type: Index
    time_s: Array
    lon_deg: Array
    lat_deg: Array
    sog_kn: Array
    cog_deg: Array
    first: Index
    """Of each fix the index of its track's first one."""
    end: Index
    """Of each fix the index after its track's last one."""

    @classmethod
    def of(cls, cleaned: pl.DataFrame) -> Tracks:
        """Take the observed fixes of tracks; of several at one time the first.

        Args:
            cleaned: columns of ``geodiff.tracks`` with ``TRACK_ID``; without ``STATE`` all fixes count as observed.
        """
        kept = pl.col(TRACK_ID).is_not_null() & pl.col(VESSEL_ID).is_not_null()
        if STATE in cleaned.columns:
            kept &= pl.col(STATE) == OBSERVED
        table = (
            cleaned.filter(kept)
            .sort(TRACK_ID, TIME, maintain_order=True)
            .unique([TRACK_ID, TIME], keep="first", maintain_order=True)
        )
        number = table[TRACK_ID].rle_id().to_numpy().astype(np.int64)
        edges = np.flatnonzero(np.diff(number, prepend=-1))
        counts = np.diff(np.append(edges, len(number)))

        def real(name: str) -> Array:
            return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()

        return cls(
            table[TRACK_ID].to_numpy().astype(object),
            table[VESSEL_ID].to_numpy().astype(np.int64),
            table[SHIP_TYPE].fill_null(0).to_numpy().astype(np.int64)
            if SHIP_TYPE in table.columns
            else np.zeros(len(number), np.int64),
            table[TIME].dt.epoch("us").to_numpy() / 1e6,
            real(LON),
            real(LAT),
            real(SOG),
            real(COG),
            np.repeat(edges, counts),
            np.repeat(edges + counts, counts),
        )

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def interval_s(self) -> float:
        """Median seconds between fixes of a track; NaN without any two."""
        steps = np.diff(self.time_s)[np.diff(self.first) == 0]
        return float(np.median(steps)) if len(steps) else float("nan")


def impute_cases(tracks: Tracks, gap: Span, *, most: int, draw: Draw = "fixes", seed: int = 0) -> Iterator[Case]:
    """Cases with one gap, moving ones and as many moored ones at most as a quarter.

    Args:
        tracks: the fixes.
        gap: hidden fixes, or minutes without one.
        most: cases of moving vessels.
        draw: among all fixes alike, or of each vessel in turn.
        seed: of the choice.
    """
    anchor = np.arange(len(tracks))
    after = anchor + gap.points + 1 if gap.points else _first_at(tracks, tracks.time_s + gap.seconds)
    inside = after + LEAST_KNOWN <= tracks.end
    end = np.where(inside, after, anchor)
    fits = inside & (end - anchor >= 2) & (anchor - tracks.first + 1 >= LEAST_KNOWN)
    if not gap.points:
        fits &= tracks.time_s[end] - tracks.time_s <= SLACK * gap.seconds
    each = most, _moored(most)
    for row, moving in _draw(tracks, np.flatnonzero(fits), end, each, (draw, seed, "impute", str(gap))):
        hidden = np.arange(row + 1, end[row])
        spread = np.linspace(0, len(hidden) - 1, min(len(hidden), MOST_ASKED)).round().astype(np.int64)
        span = tracks.time_s[end[row]] - tracks.time_s[row]
        known = np.concatenate([_back(tracks, row, span), _ahead(tracks, int(end[row]), span)])
        yield _case(tracks, known, hidden[spread], (str(gap),) * len(spread), moving)


def forecast_cases(
    tracks: Tracks, horizons: Sequence[Span], *, most: int, draw: Draw = "fixes", seed: int = 0
) -> Iterator[Case]:
    """Cases asked at every horizon that the track reaches, at least at the first; arguments as of ``impute_cases``.

    Where the longest horizon is reached ``most`` are drawn; if there are fewer, the rest where only the one before it
    is reached, and so on.
    """
    targets = np.stack([_horizon(tracks, each) for each in horizons], 1)
    reached = targets >= 0
    known = np.arange(len(tracks)) - tracks.first + 1 >= LEAST_KNOWN
    left = {True: most, False: _moored(most)}
    for column in range(len(horizons) - 1, -1, -1):
        fits = known & reached[:, column] & ~reached[:, column + 1 :].any(1)
        end = np.where(fits, targets[:, column], np.arange(len(tracks)))
        if left[True] <= 0:
            return
        key = (draw, seed, "forecast", str(horizons[column]))
        for row, moving in _draw(tracks, np.flatnonzero(fits), end, (left[True], left[False]), key):
            left[moving] -= 1
            asked = np.flatnonzero(reached[row])
            # Two horizons may fall on one fix where fixes are few: the first of both is asked.
            rows, which = np.unique(targets[row, asked], return_index=True)
            labels = tuple(str(horizons[asked[i]]) for i in which)
            span = tracks.time_s[end[row]] - tracks.time_s[row]
            yield _case(tracks, _back(tracks, row, span), rows, labels, moving)


def _first_at(tracks: Tracks, time_s: Array) -> Index:
    """Of each fix the index of the first fix of its track at or after a time; its track's end where there is none."""
    # One rising key for all tracks, so that a single search finds a time in any of them.
    start = float(tracks.time_s.min()) if len(tracks) else 0.0
    width = float(np.ptp(tracks.time_s)) + 1.0 if len(tracks) else 1.0
    number = np.cumsum(np.diff(tracks.first, prepend=0) != 0)
    keys = number * width + (tracks.time_s - start)
    found = np.searchsorted(keys, number * width + np.minimum(time_s - start, width - 0.5))
    return np.minimum(found, tracks.end)


def _horizon(tracks: Tracks, horizon: Span) -> Index:
    """Of each fix the index of the one a horizon later; -1 where its track has none that near."""
    anchor = np.arange(len(tracks))
    if horizon.points:
        return np.where(anchor + horizon.points < tracks.end, anchor + horizon.points, -1)
    goal = tracks.time_s + horizon.seconds
    right = _first_at(tracks, goal)
    left = np.maximum(right - 1, anchor)
    inside = np.minimum(right, tracks.end - 1)
    near = np.where(np.abs(tracks.time_s[left] - goal) <= np.abs(tracks.time_s[inside] - goal), left, inside)
    close = np.abs(tracks.time_s[near] - goal) <= (SLACK - 1) * horizon.seconds
    return np.where(close & (near > anchor), near, -1)


def _draw(
    tracks: Tracks, rows: Index, end: Index, most: tuple[int, int], key: tuple[Draw, int, str, str]
) -> Iterator[tuple[int, bool]]:
    """Anchors of at most so many moving vessels, then of so many moored ones, and whether it moves."""
    moving = _moves(tracks, rows, end, gap=key[2] == "impute")
    for chosen, wanted, flag in ((rows[moving], most[0], True), (rows[~moving], most[1], False)):
        for row in _in_order(tracks, chosen, key)[:wanted].tolist():
            yield row, flag


def _moored(most: int) -> int:
    """How many of the cases may be of vessels at rest, beside so many of vessels under way."""
    return max(most // 4, 1)


def _in_order(tracks: Tracks, rows: Index, key: tuple[Draw, int, str, str]) -> Index:
    """Rows in the order in which they are drawn."""
    draw, seed, *what = key
    order = np.argsort(tracks.vessel_id[rows], kind="stable")
    vessels, starts, counts = np.unique(tracks.vessel_id[rows][order], return_index=True, return_counts=True)
    place, turn = np.empty(len(rows)), np.zeros(len(rows), np.int64)
    for vessel, start, count in zip(vessels.tolist(), starts.tolist(), counts.tolist(), strict=True):
        numbers = generator(seed, "cases", *what, vessel).random(count)
        mine = order[start : start + count]
        place[mine] = numbers
        if draw == "vessels":
            turn[mine] = np.argsort(np.argsort(numbers))
    return rows[np.lexsort((place, turn))]


def _moves(tracks: Tracks, rows: Index, end: Index, *, gap: bool) -> BoolArray:
    """Whether the vessel is under way at ``rows``, or at the other end of the gap, or on the way across it."""
    moves = _speed_kn(tracks, rows, np.maximum(rows - LEG, tracks.first[rows])) >= MOVING_KN
    if gap:
        last = end[rows]
        hours = (tracks.time_s[last] - tracks.time_s[rows]) / 3600
        apart = distance_km(tracks.lon_deg[rows], tracks.lat_deg[rows], tracks.lon_deg[last], tracks.lat_deg[last])
        moves |= (_speed_kn(tracks, last, np.minimum(last + LEG, tracks.end[last] - 1)) >= MOVING_KN) | (
            apart >= MOVING_KN * KM_PER_NMI * hours
        )
    return moves


def _speed_kn(tracks: Tracks, rows: Index, beside: Index) -> Array:
    """Speed over ground; where it is not told, that of the way to another known fix."""
    apart = distance_km(tracks.lon_deg[rows], tracks.lat_deg[rows], tracks.lon_deg[beside], tracks.lat_deg[beside])
    hours = np.abs(tracks.time_s[rows] - tracks.time_s[beside]) / 3600
    return np.where(np.isfinite(tracks.sog_kn[rows]), tracks.sog_kn[rows], apart / KM_PER_NMI / hours)


def _back(tracks: Tracks, row: int, span_s: float) -> Index:
    """Known fixes up to ``row``."""
    lowest = max(int(tracks.first[row]), row + 1 - CONTEXT_MOST)
    near = lowest + np.searchsorted(tracks.time_s[lowest : row + 1], tracks.time_s[row] - CONTEXT_SPANS * span_s)
    return np.arange(max(lowest, min(int(near), row + 1 - CONTEXT_LEAST)), row + 1)


def _ahead(tracks: Tracks, row: int, span_s: float) -> Index:
    """Known fixes from ``row`` on."""
    highest = min(int(tracks.end[row]), row + CONTEXT_MOST)
    near = row + np.searchsorted(tracks.time_s[row:highest], tracks.time_s[row] + CONTEXT_SPANS * span_s, side="right")
    return np.arange(row, min(highest, max(int(near), row + CONTEXT_LEAST)))


def _case(tracks: Tracks, known: Index, asked: Index, label: tuple[str, ...], moving: bool) -> Case:
    query = TrackQuery(
        tracks.time_s[known],
        tracks.lon_deg[known],
        tracks.lat_deg[known],
        tracks.sog_kn[known],
        tracks.cog_deg[known],
        tracks.time_s[asked],
        ship_type=int(tracks.ship_type[known[0]]),
        vessel_id=int(tracks.vessel_id[known[0]]),
    )
    return Case(query, tracks.lon_deg[asked], tracks.lat_deg[asked], label, moving, str(tracks.track[known[0]]))
