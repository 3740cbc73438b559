"""The shapes of injected anomalies: functions from a stretch of a track to the same stretch, altered."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from scipy.interpolate import PchipInterpolator

from geodiff.vessels.inject_piece import KN_PER_KM_S, Piece, Spliced, shifted, spliced, taken
from geodiff.vessels.scoring_fixes import Floats

DETOURS: Final = {"small": 0.05, "medium": 0.1, "large": 0.2}
"""Largest distance from the route as a share of the length of the detour."""

LABEL_PACE: Final = 0.15
"""A fix at a pace that differs by less than this share counts as unaltered."""

NOISE_KM: Final = 0.003


def _span(piece: Piece, rng: np.random.Generator, shortest_s: float, longest_s: float) -> tuple[int, int] | None:
    """First and last fix of an anomaly somewhere inside, of a length in time, at least six fixes; None: too short."""
    length = max(rng.uniform(shortest_s, longest_s), 6 * piece.step_s)
    room = piece.time_s[-1] - piece.time_s[0] - length - 6 * piece.step_s
    if room <= 0:
        return None
    begin = piece.time_s[0] + 3 * piece.step_s + rng.uniform(0, room)
    first, last = np.searchsorted(piece.time_s, [begin, begin + length])
    # Where the track is silent for most of the time nothing can be shown.
    enough = max(4.0, 0.5 * length / piece.step_s)
    return (int(first), int(last)) if last - first >= enough and last < len(piece) - 2 else None


def _rhythm(piece: Piece, rng: np.random.Generator, length_s: float) -> Floats:
    """(k,) whole seconds of new fixes within a time, as irregular as those of the stretch, but for long silences."""
    usual = np.diff(piece.time_s)
    usual = usual[usual <= 3 * piece.step_s]
    first = int(rng.integers(len(usual)))
    waits = np.tile(np.roll(usual, -first), int(length_s // usual.sum()) + 2)
    since = np.rint(np.cumsum(waits))
    # The last one leaves room for the fix that follows.
    kept: Floats = np.unique(since[since <= length_s - max(0.3 * piece.step_s, 1.0)])
    return kept if len(kept) else np.array([np.rint(length_s / 2)])


def _bump(piece: Piece, first: int, last: int) -> Floats:
    """(n,) a smooth hill, 0 outside and at both ends, 1 in the middle."""
    part = (piece.time_s - piece.time_s[first]) / (piece.time_s[last] - piece.time_s[first])
    hill: Floats = np.where((part > 0) & (part < 1), np.sin(np.pi * np.clip(part, 0, 1)) ** 2, 0.0)
    return hill


def detour(piece: Piece, rng: np.random.Generator) -> Piece | None:
    """Leave the route to one side and come back to it, in the same time."""
    whole = piece.time_s[-1] - piece.time_s[0]
    span = _span(piece, rng, 0.3 * whole, 0.6 * whole)
    if span is None:
        return None
    name = str(rng.choice(list(DETOURS)))
    first, last = span
    way = np.array([np.ptp(piece.east_km[[first, last]]), np.ptp(piece.north_km[[first, last]])])
    east, north = (each[last] - each[first] for each in (piece.east_km, piece.north_km))
    length = float(np.hypot(*way))
    if length < 2.0:
        return None
    reach, side = DETOURS[name] * length, rng.choice([-1.0, 1.0])
    hill = _bump(piece, first, last) * side * reach
    return shifted(piece, hill * north / length, -hill * east / length, f"{name} detour, {reach:.1f} km off")


def offset(piece: Piece, rng: np.random.Generator) -> Piece | None:
    """A position that drifts off and comes back, or circles about the true one."""
    span = _span(piece, rng, 900.0, 3600.0)
    if span is None:
        return None
    first, last = span
    length = piece.time_s[last] - piece.time_s[first]
    part = np.clip((piece.time_s - piece.time_s[first]) / length, 0, 1)
    # A trapezium with smooth flanks of a quarter each.
    rise = np.clip(np.minimum(part, 1 - part) * 4, 0, 1)
    hill = rise**2 * (3 - 2 * rise)
    # The false position moves no faster than 4 knots on the flanks, and 6 knots about the circle.
    size = min(rng.uniform(0.5, 3.0), 4.0 / KN_PER_KM_S * length / 4 / 1.5)
    angle = np.full(len(piece), rng.uniform(0, 2 * np.pi))
    name = "offset"
    if rng.random() < 0.5:
        name, size = "circle", size / 2
        loops = min(int(length * 6.0 / KN_PER_KM_S / (2 * np.pi * size)), (last - first) // 8)
        angle = angle + 2 * np.pi * part * max(loops, 1)
    return shifted(piece, size * hill * np.sin(angle), size * hill * np.cos(angle), f"{name} of {size:.1f} km")


def silence(piece: Piece, rng: np.random.Generator) -> Piece | None:
    """The transponder off for a while; the fixes on both sides of the silence are labelled."""
    span = _span(piece, rng, max(1800.0, 10 * piece.step_s), max(10_800.0, 30 * piece.step_s))
    if span is None:
        return None
    first, last = span
    kept = np.ones(len(piece), bool)
    kept[first + 1 : last] = False
    label = np.zeros(len(piece), bool)
    label[[first, last]] = True
    hours = (piece.time_s[last] - piece.time_s[first]) / 3600
    return taken(replace(piece, label=label, detail=f"silent for {hours:.1f} h"), np.flatnonzero(kept))


def wander(piece: Piece, rng: np.random.Generator) -> Piece | None:
    """Circle, go in a figure of eight or drift out and back, then go on as before, later."""
    span = _span(piece, rng, 900.0, 2700.0)
    if span is None:
        return None
    at, length = span[0], max(rng.uniform(900.0, 2700.0), 8 * piece.step_s)
    since = _rhythm(piece, rng, length)
    count, part = len(since), since / length
    speeds, courses = piece.velocity()
    name = str(rng.choice(["circling", "figure of eight", "drifting"]))
    if name == "drifting":
        reach, angle = rng.uniform(0.7, 2.0) / KN_PER_KM_S * length / np.pi, rng.uniform(0, 2 * np.pi)
        hill = reach * np.sin(np.pi * part) ** 2
        east, north = hill * np.sin(angle), hill * np.cos(angle)
    else:
        eight = name == "figure of eight"
        # A circle needs eight fixes to be seen as one.
        loops = max(min(int(rng.integers(1, 4)) * (1 + eight), count // 8), 1)
        radius = rng.uniform(0.3, 0.8) * max(speeds[at], 3.0) / KN_PER_KM_S * length / (2 * np.pi * loops)
        side = rng.choice([-1.0, 1.0])
        east, north = _circles(part * loops, np.radians(courses[at]), side, eight=eight)
        east, north = radius * east, radius * north
    way = np.stack([piece.east_km[at] + east, piece.north_km[at] + north])
    # Positions are noisy as those of GNSS are; speed and course are those of the way, and err as those that follow.
    noisy = way + rng.normal(0, NOISE_KM, way.shape)
    after = at + 1 + np.arange(count) % (len(piece) - at - 2)
    order = np.concatenate([np.arange(at + 1), after, np.arange(at + 1, len(piece))])
    times = piece.time_s[at] + since
    made = Spliced(at + 1, times, noisy[0], noisy[1], np.ones(count, bool), way)
    return spliced(piece, order, made, length, f"{name} for {length / 60:.0f} min")


def _circles(turns: Floats, course: float, side: float, *, eight: bool) -> tuple[Floats, Floats]:
    """(east, north) after so many turns on a circle of radius 1 that begins along a course; every other one across."""
    angle = 2 * np.pi * turns
    across = side * (1 - np.cos(angle)) * np.where(eight & (turns % 2 >= 1), -1.0, 1.0)
    along = np.sin(angle)
    return along * np.sin(course) + across * np.cos(course), along * np.cos(course) - across * np.sin(course)


def retimed(piece: Piece, rng: np.random.Generator) -> Piece | None:
    """Sail a part of the way at 0.4-0.6 or 1.4-1.6 times the speed, with smooth changes.

    What follows comes later or sooner. The rhythm of the reports stays: a faster part is told by fewer of them.
    """
    span = _span(piece, rng, 1200.0, 3600.0)
    if span is None:
        return None
    first, last = span
    factor = float(rng.choice([rng.uniform(0.4, 0.6), rng.uniform(1.4, 1.6)]))
    start, length = piece.time_s[first], piece.time_s[last] - piece.time_s[first]
    # New time as a function of own time: the pace changes over a fifth at each end.
    own = np.linspace(0, 1, 513)
    ramp = np.clip(np.minimum(own, 1 - own) * 5, 0, 1)
    pace = 1 + (factor - 1) * ramp**2 * (3 - 2 * ramp)
    new = np.concatenate([[0.0], np.cumsum(2 / (pace[1:] + pace[:-1])) * (own[1] - own[0])]) * length
    times = start + _rhythm(piece, rng, float(new[-1]))
    own_s = np.interp(times - start, new, own * length)
    east, north = (PchipInterpolator(piece.time_s, each)(start + own_s) for each in (piece.east_km, piece.north_km))
    near = np.clip(np.searchsorted(piece.time_s, start + own_s), first, last)
    order = np.concatenate([np.arange(first + 1), near, np.arange(last, len(piece))])
    made = Spliced(first + 1, times, east, north, np.interp(own_s, own * length, np.abs(pace - 1)) > LABEL_PACE)
    late = float(new[-1] - length)
    return spliced(piece, order, made, late, f"{factor:.1f} times the speed for {new[-1] / 60:.0f} min")
