"""Leave-block-out: every fix is hidden once for each length of block, and a motion model is asked where it was.

A track is cut into blocks of so many fixes; every fourth block is hidden in one question, so that four questions hide
all, each with three blocks of known fixes between two hidden ones. Which block a fix is in follows from its place in
its track alone: the same track gives the same questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from geodiff.schema import BoolArray
from geodiff.sphere import course_deg, distance_km, to_local_km, turn_deg
from geodiff.tracks import MotionModel, TrackAnswer, TrackQuery
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints

PHASES: Final = 4
"""Questions that together hide every block."""

CORE: Final = 48
"""Fixes of a question that may be hidden, at least."""

MARGIN: Final = 8
"""Known fixes before and after them, at least."""

BATCH: Final = 2048
"""Questions that a model is given at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Misses:
    """How far hidden fixes lie from where the model put them, for one length of block.

    Attributes:
        fix: (m,) int64 index into the fixes.
        along_km, across_km: (m,) float64, in the frame of the course between the known fixes on both sides.
        features: (m, 6) float64, what the size of a miss depends on: 1; logarithms of the seconds hidden, of the
            kilometres between the known fixes, of the place within the gap; the turn between their courses in radians;
            the logarithm of the vessel's own usual miss, the median over the track, in km.
        spread_km: (m, 2) float64 deviation of the model's own ensemble or ellipse along and across; NaN without one.
        edge: (m,) bool: known fixes on one side only.
    """

    fix: Ints
    along_km: Floats
    across_km: Floats
    features: Floats
    spread_km: Floats
    edge: BoolArray

    def of(self, fixes: BoolArray) -> Misses:
        """Those of some fixes: (n,) True for a fix that is kept."""
        rows = fixes[self.fix]
        return Misses(
            self.fix[rows],
            self.along_km[rows],
            self.across_km[rows],
            self.features[rows],
            self.spread_km[rows],
            self.edge[rows],
        )


def passages(fixes: Fixes) -> tuple[Ints, Ints]:
    """Starts and ends (exclusive) of the stretches of tracks that are under way."""
    if not len(fixes):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    key = np.where(fixes.moored, -1, fixes.track)
    starts = np.flatnonzero(np.diff(key, prepend=-2))
    ends = np.append(starts[1:], len(key))
    way = ~fixes.moored[starts]
    return starts[way], ends[way]


def predict_hidden(model: MotionModel, fixes: Fixes, length: int, *, members: int, seed: int) -> Misses:
    """Ask a model for every fix under way, hidden in blocks of ``length`` fixes.

    Args:
        model: asked in batches of ``BATCH``.
        fixes: of any number of tracks; stretches shorter than three blocks, or four fixes, are left out.
        length: fixes in a block, at least 1.
        members: of the ensemble that is asked for.
        seed: of the noise.
    """
    starts, ends = passages(fixes)
    long = ends - starts >= max(3 * length, 4)
    fix: list[Ints] = []
    answers: list[TrackAnswer] = []
    for batch in _batches(_questions(fixes, starts[long], ends[long], length)):
        found = model.predict([query for query, _ in batch], members=members, seed=seed)
        fix.extend(asked for _, asked in batch)
        answers.extend(found)
    if not fix:
        return _nothing()
    index = np.concatenate(fix)
    before, after = _known_sides(fixes, index, starts[long], ends[long], length)
    return _compare(fixes, index, before, after, answers)


def _batches(questions: Iterator[tuple[TrackQuery, Ints]]) -> Iterator[list[tuple[TrackQuery, Ints]]]:
    batch = []
    for question in questions:
        batch.append(question)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _questions(fixes: Fixes, starts: Ints, ends: Ints, length: int) -> Iterator[tuple[TrackQuery, Ints]]:
    """Queries with the indices of the fixes that they ask for."""
    period = PHASES * length
    core, margin = period * -(-CORE // period), max(2 * length, MARGIN)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        for left in range(start, end, core):
            index = np.arange(max(left - margin, start), min(left + core + margin, end))
            inside = (index >= left) & (index < left + core)
            phase = (index - start) // length % PHASES
            for turn in range(PHASES):
                hidden = inside & (phase == turn)
                if hidden.any() and not hidden.all():
                    yield _query(fixes, index[~hidden], index[hidden]), index[hidden]


def _query(fixes: Fixes, known: Ints, asked: Ints) -> TrackQuery:
    track = fixes.track[known[0]]
    return TrackQuery(
        fixes.time_s[known],
        fixes.lon_deg[known],
        fixes.lat_deg[known],
        fixes.sog_kn[known],
        fixes.cog_deg[known],
        fixes.time_s[asked],
        ship_type=int(fixes.ship_type[track]),
        vessel_id=int(fixes.vessel_id[track]),
    )


def _known_sides(fixes: Fixes, index: Ints, starts: Ints, ends: Ints, length: int) -> tuple[Ints, Ints]:
    """Indices of the last known fix before a block and the first after it; -1 where there is none."""
    which = np.searchsorted(starts, index, side="right") - 1
    start, end = starts[which], ends[which]
    block = start + (index - start) // length * length
    return np.where(block > start, block - 1, -1), np.where(block + length < end, block + length, -1)


def _compare(fixes: Fixes, index: Ints, before: Ints, after: Ints, answers: Sequence[TrackAnswer]) -> Misses:
    lon, lat = (np.concatenate([getattr(each, name) for each in answers]) for name in ("lon_deg", "lat_deg"))
    edge = (before < 0) | (after < 0)
    near = np.where(before < 0, after, before)
    far = np.where(edge, near, after)
    # One-sided, the course is the one from the known fix to where the model puts the vessel.
    goal = [np.where(edge, guess, fixed[far]) for guess, fixed in ((lon, fixes.lon_deg), (lat, fixes.lat_deg))]
    course = np.radians(course_deg(fixes.lon_deg[near], fixes.lat_deg[near], *goal))
    east, north = to_local_km(fixes.lon_deg[index], fixes.lat_deg[index], lon, lat)
    along = east * np.sin(course) + north * np.cos(course)
    across = east * np.cos(course) - north * np.sin(course)
    own = _usual(fixes.track[index], np.hypot(along, across))
    features = np.concatenate([_features(fixes, index, near, far, goal), own[:, None]], 1)
    return Misses(index, along, across, features, spread_km(answers, course), edge)


def _features(fixes: Fixes, index: Ints, near: Ints, far: Ints, goal: list[Floats]) -> Floats:
    time = fixes.time_s
    edge = near == far
    hidden = np.where(edge, np.abs(time[index] - time[near]), time[far] - time[near])
    part = np.where(edge, 0.5, (time[index] - time[near]) / np.maximum(hidden, 1e-6))
    way = distance_km(fixes.lon_deg[near], fixes.lat_deg[near], *goal)
    turn = np.abs(turn_deg(fixes.cog_deg[near], fixes.cog_deg[far]))
    turn = np.where(np.isfinite(turn) & ~edge, turn, 0.0)
    place = np.log(np.clip(4 * part * (1 - part), 0.05, 1.0))
    columns = (np.ones(len(index)), np.log(np.maximum(hidden, 1.0)), np.log(way + 0.02), place, np.radians(turn))
    return np.stack(columns, 1)


def _usual(track: Ints, miss_km: Floats) -> Floats:
    """(m,) logarithm of the median miss of the track, above the noise of GNSS."""
    frame = pl.DataFrame({"track": track, "miss": miss_km})
    middle = frame.select(pl.col("miss").median().over("track"))["miss"].to_numpy()
    out: Floats = np.log(middle + 0.005)
    return out


def spread_km(answers: Sequence[TrackAnswer], course: Floats) -> Floats:
    """Deviations of answers along and across courses, from calibrated ellipses where there are, else from members.

    Args:
        answers: n points in all; either all have ellipses (or members), or none has.
        course: (n,) radians.

    Returns:
        (n, 2) km; NaN where an answer holds neither.
    """
    frames = np.stack([np.sin(course), np.cos(course)], 1)
    cover = np.concatenate([_covariance(each) for each in answers])
    across = np.stack([frames[:, 1], -frames[:, 0]], 1)
    squares = [np.einsum("ni,nij,nj->n", axis, cover, axis) for axis in (frames, across)]
    out: Floats = np.sqrt(np.maximum(np.stack(squares, 1), 0))
    return out


def _covariance(answer: TrackAnswer) -> Floats:
    """(m, 2, 2) km^2 in (east, north), up to a factor that the scale learns."""
    if len(answer.ellipse_km):
        major, minor, course = np.moveaxis(answer.ellipse_km[0], -1, 0)
        angle = np.radians(course)
        axes = np.stack([np.stack([np.sin(angle), np.cos(angle)], -1), np.stack([np.cos(angle), -np.sin(angle)], -1)])
        sizes = np.stack([major, minor]) ** 2
        return np.asarray(np.einsum("am,ami,amj->mij", sizes, axes, axes))
    if len(answer.member_lon_deg) < 3:
        return np.full((len(answer.lon_deg), 2, 2), np.nan)
    east, north = to_local_km(answer.member_lon_deg, answer.member_lat_deg, answer.lon_deg, answer.lat_deg)
    away = np.stack([east, north], -1)
    return np.asarray(np.einsum("kmi,kmj->mij", away, away) / len(away))


def _nothing() -> Misses:
    empty = np.empty(0)
    return Misses(np.empty(0, np.int64), empty, empty, np.empty((0, 6)), np.empty((0, 2)), np.empty(0, bool))
