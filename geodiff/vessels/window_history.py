"""What historic tracks say of a window, in units of departure from its classical prediction.

A summary of the paths, and the paths themselves: where each leads, how like it is to what the vessel did beside the
stretch, and whether it leads to where the vessel has been before. A vessel that came the same way is a better witness
of what follows than one that only was as fast here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.sphere import north_turn, to_local_km
from geodiff.tracks import ship_group
from geodiff.vessels.history import Answers, TrackHistory
from geodiff.vessels.history_search import Asking, unknown_times
from geodiff.vessels.window_features import ERROR_SHARE, NOISE_KM
from geodiff.vessels.window_fixes import AFTER, BEFORE, INSIDE, SIDE, PaddedFixes, to_degrees, turn

Floats = npt.NDArray[np.float64]

HISTORY_WIDTH = 18
"""Nine features of other vessels' tracks, nine of the vessel's own other passes."""

COMPARED = np.concatenate([SIDE - 1 - np.array([1, 3, 6, 10]), SIDE + np.array([0, 2, 5, 9])])
"""Which of the fixes shown a path is compared with."""

PATH_WIDTH = 5
"""Of a path at an asked time: its departure, that of where it truly led, and whether it is known."""

HALTS = np.array([1.0, 0.3])
"""Shares of the stretch after which it is asked whether the vessel knows the places that a path leads to."""

VOYAGE = 4.0
"""Fixes of a vessel within so many lengths of the stretch are of the voyage that is asked about."""

UNVISITED = 6.0
"""asinh of the distance, in fiftieths of the reach, from which on a place counts as unknown: four times the reach."""

MANNER = 6
"""How a vessel passed: its velocity, where it was, whether the ships are of one group, how long ago it was."""

SAME_GROUP = 2 + 2 * len(COMPARED) + 4
"""Where the likeness of a path tells whether the ships are of one group."""

LIKENESS_WIDTH = 2 + 4 * len(COMPARED) + MANNER + 2 * len(HALTS)
"""Of a path: how near it passed, whether it is the vessel's own, how like it is at each fix compared, and at which; how
it passed; how far off it is at each fix compared; whether the vessel knows the places that it leads to."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What historic tracks say of n windows.

    Attributes:
        summary: (n, ASKED, HISTORY_WIDTH); zeros where they say nothing.
        paths: (n, k, ASKED, PATH_WIDTH), the k nearest paths one by one.
        likeness: (n, k, LIKENESS_WIDTH).
    """

    summary: Floats
    paths: Floats
    likeness: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Frames of n windows: where the fix at the edge lies, when, and what lengths are measured in."""

    raw: PaddedFixes
    frame: Floats
    place: Floats
    start_s: Floats
    speed: Floats
    reach: Floats

    def turned(self, east: Floats, north: Floats) -> Floats:
        """Vectors (n, k, ...) east and north as (n, k, ..., 2) along and across the frame."""
        angle = self.frame[:, 2].reshape(-1, *[1] * (east.ndim - 1))
        return turn(np.stack([east, north], -1), -angle)


def history_features(
    raw: PaddedFixes,
    history: TrackHistory | None,
    frame: tuple[Floats, Floats, Floats],
    velocity: Floats,
    place: Floats,
    local: tuple[Floats, Floats, Floats],
    *,
    paths: bool,
) -> Past:
    """What historic tracks say, in units of departure from the prior.

    A path is told twice: as it leads from where the vessel is, for lanes are wide, and as it lay, for ways that part or
    meet do so in one place. Inside a gap the first is bent so that it ends where the gap ends; the more it must bend,
    the less it counts.
    Beyond the last fix nothing is told that happened later, of other vessels neither: a tug would give away its tow.

    Args:
        raw: the windows.
        history: past tracks.
        frame: (n,) longitude, latitude and angle of each window's frame.
        velocity: (n, 2) east and north km/s at the edge that is reckoned from.
        place: (n, 2 * SIDE, 2) km of the fixes shown, in the frame.
        local: the prior (n, ASKED, 2), its unit (n, ASKED) in km, and the usual speed (n,) in km/s.
        paths: whether they are told one by one, the vessel's own other passes too; else the summary of others' alone.
    """
    count, asked = raw.ask.shape
    nothing = np.zeros((count, 0, asked, PATH_WIDTH)), np.zeros((count, 0, LIKENESS_WIDTH))
    if history is None or not len(history):
        return Past(np.zeros((count, asked, HISTORY_WIDTH)), *nothing)
    (lon0, lat0, _), (prior, unit, speed) = frame, local
    reach = speed * np.maximum(raw.edges[:, 1] - raw.edges[:, 0], 1.0)
    start = raw.time_s[np.arange(len(lon0)), np.where(raw.kind == BEFORE, SIDE, SIDE - 1)]
    far_end = np.where(raw.kind == BEFORE, raw.ask[:, 0], raw.ask[:, -1])
    end = np.where(raw.kind == INSIDE, raw.edges[:, 1], far_end)
    frames = _Frame(raw, np.stack(frame, 1), place, start, speed, reach)
    after = np.concatenate([raw.ask - start[:, None], (end - start)[:, None] * HALTS], 1)
    beside = np.where(raw.shown[:, COMPARED], raw.time_s[:, COMPARED] - start[:, None], np.inf)
    asking = Asking(lon0, lat0, velocity[:, 0], velocity[:, 1], raw.vessel, after, reach, beside)
    until, hidden = unknown_times(start, end, ahead=raw.kind == AFTER, behind=raw.kind == BEFORE)
    voyage = hidden + VOYAGE * np.abs(end - start)[:, None] * np.array([-1.0, 1.0])
    others = _told(frames, history, history.ask(asking, until_s=until), (prior, unit), own_pass=0.0)
    if not paths:
        return Past(np.concatenate([others.summary, np.zeros_like(others.summary)], -1), *nothing)
    own = _told(frames, history, history.ask_own(asking, hidden), (prior, unit), own_pass=1.0)
    ends, known = np.concatenate([others.ends, own.ends], 1), np.concatenate([others.known, own.known], 1)
    likeness = np.concatenate([others.likeness, own.likeness], 1)
    return Past(
        np.concatenate([others.summary, own.summary], -1),
        np.concatenate([others.paths, own.paths], 1),
        np.concatenate([likeness, _visited(frames, history, ends, known, voyage)], -1),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """What the k paths of one answer say.

    Attributes:
        summary: (n, ASKED, HISTORY_WIDTH / 2).
        paths: (n, k, ASKED, PATH_WIDTH).
        likeness: (n, k, LIKENESS_WIDTH) but for what is known of the places at their ends.
        ends: (n, k, 2 * len(HALTS), 2) places in the frame, of paths as they lead on from here and as they lay.
        known: (n, k, 2 * len(HALTS)) whether a path leads as far.
    """

    summary: Floats
    paths: Floats
    likeness: Floats
    ends: Floats
    known: npt.NDArray[np.bool_]


def _told(
    frames: _Frame, history: TrackHistory, said: Answers, local: tuple[Floats, Floats], *, own_pass: float
) -> _Told:
    raw, reach, (prior, unit) = frames.raw, frames.reach, local
    asked, inside = raw.ask.shape[1], raw.kind == INSIDE
    path = frames.turned(said.east_km, said.north_km)
    halts, beside = slice(asked, asked + len(HALTS)), slice(asked + len(HALTS), None)
    to_end = halts.start  # the first of ``HALTS`` is the end
    missed = np.where(inside[:, None, None], frames.place[:, None, SIDE] - path[:, :, to_end], 0.0)
    share = ((raw.ask - frames.start_s[:, None]) / np.maximum(raw.edges[:, 1:] - frames.start_s[:, None], 1.0))[:, None]
    fit = np.exp(-np.hypot(missed[..., 0], missed[..., 1]) / (0.2 * reach[:, None]))
    arrived = np.where(inside[:, None], fit * (said.weight[:, :, to_end] > 0), 1.0)
    weight = (said.weight * arrived[..., None])[:, :, :asked]
    offset, veer, manner = _manner(frames, history, said)
    lead = path[:, :, :asked] + missed[:, :, None] * share[..., None]
    lay = turn(path, veer[..., None]) + offset[:, :, None]
    away = np.concatenate([lead, lay[:, :, :asked]], -1) - np.tile(prior, 2)[:, None]
    departure = np.arcsinh(away / unit[:, None, :, None])
    alike, aside = _likeness(raw, path[:, :, beside], said.weight[:, :, beside] > 0, frames.place, missed, frames.speed)
    whole = np.stack([said.near, np.full_like(said.near, own_pass)], -1)
    shown, known = (weight > 0)[..., None], said.weight[:, :, halts] > 0
    return _Told(
        _summary(departure[..., :2], weight),
        np.concatenate([np.where(shown, departure, 0.0), shown], -1),
        np.concatenate([whole, alike, manner, aside], -1),
        np.concatenate([path[:, :, halts], lay[:, :, halts]], 2),
        np.concatenate([known, known], 2),
    )


def _likeness(
    raw: PaddedFixes, path: Floats, known: npt.NDArray[np.bool_], place: Floats, missed: Floats, speed: Floats
) -> tuple[Floats, Floats]:
    """How like paths (n, k, compared, 2) are to the fixes beside the stretch, and how far off they are.

    Like is one where they meet, a half where they are as far apart as a classical prediction errs over the time from
    the edge.
    Behind a gap a path counts from where the gap ends, but for the first fix there: that is by how much it missed.

    Returns:
        (n, k, 2 * compared) how like, then at which it is known; (n, k, 2 * compared) off along the frame, then across.
    """
    ahead = COMPARED > SIDE
    edge = np.where(ahead, raw.time_s[:, SIDE, None], raw.time_s[:, SIDE - 1, None])
    away = path - place[:, None, COMPARED] + np.where(ahead[:, None], missed[:, :, None], 0.0)
    since = np.where(raw.shown[:, COMPARED], np.abs(raw.time_s[:, COMPARED] - edge), 0.0)
    unit = NOISE_KM + ERROR_SHARE * speed[:, None] * since
    there = known & raw.shown[:, None, COMPARED]
    like = np.where(there, 1.0 / (1.0 + np.hypot(away[..., 0], away[..., 1]) / unit[:, None]), 0.0)
    off = np.where(there[..., None], np.arcsinh(away / unit[:, None, :, None]), 0.0)
    return np.concatenate([like, there], -1), np.concatenate([off[..., 0], off[..., 1]], -1)


def _manner(frames: _Frame, history: TrackHistory, said: Answers) -> tuple[Floats, Floats, Floats]:
    """How the vessels passed whose paths these are.

    Returns:
        Kilometres from the asking vessel to each passing one (n, k, 2) in the frame; by how much north turns from here
        to there (n, k), in radians, for meridians converge; and (n, k, MANNER): their velocity in usual speeds, that
        offset beside what a classical prediction errs by, whether the ships are of one known group, and how long ago it
        was.
    """
    fix, there = np.maximum(said.fix, 0), (said.fix >= 0)[..., None]
    lon, lat, lon0, lat0 = history.lon_deg[fix], history.lat_deg[fix], frames.frame[:, :1], frames.frame[:, 1:2]
    offset = frames.turned(*to_local_km(lon, lat, lon0, lat0))
    veer = north_turn(lon, lat, lon0, lat0)
    velocity = frames.turned(history.east_km_s[fix], history.north_km_s[fix]) / frames.speed[:, None, None]
    group = ship_group(frames.raw.ship)[:, None]
    same = (history.ship_group[fix] == group) & (group > 0)
    days = np.abs(frames.start_s[:, None] - history.time_s[fix]) / 86_400.0
    unit = NOISE_KM + ERROR_SHARE * frames.reach
    parts = [
        np.clip(velocity, -4, 4),
        np.arcsinh(offset / unit[:, None, None]),
        same[..., None].astype(float),
        np.log1p(days)[..., None] / 5,
    ]
    manner = np.where(there, np.concatenate(parts, -1), 0.0)
    return np.where(there, offset, 0.0), np.where(there[..., 0], veer, 0.0), manner


def _visited(
    frames: _Frame, history: TrackHistory, ends: Floats, known: npt.NDArray[np.bool_], voyage_s: Floats
) -> Floats:
    """How near the places are that the vessel knows of earlier voyages: (n, k, 2 * len(HALTS)).

    One where it has been, falling with the logarithm of the distance to zero, which also stands for nowhere.

    Args:
        frames: of the windows.
        history: past tracks.
        ends: (n, k, 2 * len(HALTS), 2) places in the frame, of paths as they lead on from here and as they lay.
        known: (n, k, 2 * len(HALTS)) whether a path leads as far.
        voyage_s: (n, 2) seconds since 1970 within which all is one voyage.
    """
    lon, lat = to_degrees(ends.reshape(len(ends), -1, 2), frames.frame[:, None])
    away = history.visited.nearest_km(frames.raw.vessel, lon, lat, voyage_s, frames.reach).reshape(ends.shape[:3])
    unit = NOISE_KM + 0.02 * frames.reach
    near = 1.0 - np.arcsinh(away / unit[:, None, None]) / UNVISITED
    return np.where(known, np.maximum(near, 0.0), 0.0)


def _summary(departure: Floats, weight: Floats) -> Floats:
    """Mean, the three best paths' order and spread of weighted departures (n, k, m, 2) -> (n, m, 9)."""
    total = weight.sum(1)
    share = weight / np.maximum(total, 1e-9)[:, None]
    mean = (share[..., None] * departure).sum(1)
    spread = np.sqrt((share[..., None] * (departure - mean[:, None]) ** 2).sum((1, 3)))
    best = weight.argmax(1)[:, None, :, None]
    first = np.take_along_axis(departure, np.broadcast_to(best, (*best.shape[:3], 2)), 1)[:, 0]
    middle = _weighted_median(departure, weight)
    there = (total > 1e-6)[..., None]
    parts = [mean, first, middle, np.log1p(spread)[..., None], np.log1p(10 * total)[..., None], there]
    return np.where(there, np.concatenate(parts, -1), 0.0)


def _weighted_median(values: Floats, weight: Floats) -> Floats:
    """Component by component over the second axis: (n, k, m, 2), (n, k, m) -> (n, m, 2)."""
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, 1)
    mass = np.take_along_axis(np.broadcast_to(weight[..., None], values.shape), order, 1).cumsum(1)
    half = (mass >= mass[:, -1:] / 2).argmax(1)[:, None]
    return np.take_along_axis(ranked, half, 1)[:, 0]
