"""The fixes of windows, padded to arrays, and how fast each moves, before any frame is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.sphere import from_local_km
from geodiff.tracks import TrackQuery
from geodiff.vessels.kinematics import velocity_km_s

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIDE = 12
"""Fixes shown on each side of the stretch."""

ASKED = 12
"""Times of one window."""

BEFORE, INSIDE, AFTER = 0, 1, 2
"""Kinds of stretch: before the first known fix, between two, after the last."""

OFFSETS = (0.0, 0.04, 0.1, 0.18, 0.28, 0.4, 0.55, 0.75, 1.0, 1.3, 1.7, 2.2)
"""How far from the edge the fixes that are shown lie, in durations of the stretch."""


@dataclass(frozen=True, slots=True, eq=False)
class PaddedFixes:
    """Padded fixes and times of n stretches, before any frame is chosen."""

    time_s: Floats
    lon: Floats
    lat: Floats
    sog: Floats
    cog: Floats
    shown: npt.NDArray[np.bool_]
    ask: Floats
    asked: npt.NDArray[np.bool_]
    edges: Floats
    kind: Ints
    ship: Ints
    vessel: Ints


def turn(vector: Floats, angle: Floats) -> Floats:
    """Turn vectors (..., 2) anticlockwise by angles (...) in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vector[..., 0], vector[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def to_degrees(place_km: Floats, frame: Floats) -> tuple[Floats, Floats]:
    """Longitude and latitude (...) of places (..., 2) in frames (..., 3): longitude, latitude and direction."""
    east_north = turn(place_km, frame[..., 2])
    return from_local_km(east_north[..., 0], east_north[..., 1], frame[..., 0], frame[..., 1])


def _pick(time_s: Floats, edge: int, step: int, duration_s: float) -> Ints:
    """Indices of at most SIDE fixes from ``edge`` on, away from the stretch: near it densely, further off sparsely."""
    limit = edge + 1 if step < 0 else len(time_s) - edge
    if limit <= SIDE:
        picked = edge + step * np.arange(limit)
        return picked[::-1] if step < 0 else picked
    away = (
        np.abs(time_s[edge - limit + 1 : edge + 1][::-1] - time_s[edge]) if step < 0 else time_s[edge:] - time_s[edge]
    )
    wanted = np.searchsorted(away, duration_s * np.array(OFFSETS))
    wanted = np.minimum(wanted, limit - 1)
    # Two offsets that fall on one fix: the next fixes take the empty places.
    steps = np.maximum.accumulate(wanted - np.arange(SIDE)) + np.arange(SIDE)
    steps = np.minimum(steps, np.arange(limit - SIDE, limit))
    picked = edge + step * steps
    return picked[::-1] if step < 0 else picked


def pad_fixes(stretches: Sequence[TrackQuery], most: int) -> PaddedFixes:
    """The fixes that windows show of each stretch, and its times, at most so many; see ``windows.build_windows``."""
    count = len(stretches)
    time = np.zeros((count, 2 * SIDE))
    lon, lat, sog, cog = (
        np.zeros_like(time),
        np.zeros_like(time),
        np.full_like(time, np.nan),
        np.full_like(time, np.nan),
    )
    shown = np.zeros((count, 2 * SIDE), bool)
    ask, asked = np.zeros((count, most)), np.zeros((count, most), bool)
    edges, kind = np.zeros((count, 2)), np.zeros(count, np.int64)
    for row, query in enumerate(stretches):
        split = int(np.searchsorted(query.time_s, query.ask_s[0]))
        first, last = query.ask_s[0], query.ask_s[-1]
        kind[row] = BEFORE if split == 0 else AFTER if split == len(query.time_s) else INSIDE
        begin = query.time_s[split - 1] if split else first
        end = query.time_s[split] if split < len(query.time_s) else last
        edges[row] = begin, end
        duration = max(end - begin, 1.0)
        before = _pick(query.time_s, split - 1, -1, duration) if split else np.empty(0, np.int64)
        after = _pick(query.time_s, split, 1, duration) if split < len(query.time_s) else np.empty(0, np.int64)
        # The fixes before the stretch end at SIDE, those after begin there: the edges have fixed places.
        slots = np.concatenate([SIDE - len(before) + np.arange(len(before)), SIDE + np.arange(len(after))])
        index = np.concatenate([before, after])
        time[row, slots], shown[row, slots] = query.time_s[index], True
        lon[row, slots], lat[row, slots] = query.lon_deg[index], query.lat_deg[index]
        sog[row, slots], cog[row, slots] = query.sog_kn[index], query.cog_deg[index]
        ask[row, : len(query.ask_s)], asked[row, : len(query.ask_s)] = query.ask_s, True
        ask[row, len(query.ask_s) :] = last
    ship = np.array([query.ship_type for query in stretches], np.int64)
    vessel = np.array([query.vessel_id for query in stretches], np.int64)
    return PaddedFixes(time, lon, lat, sog, cog, shown, ask, asked, edges, kind, ship, vessel)


def slopes(raw: PaddedFixes, place: Floats) -> Floats:
    """Velocity (n, 2 * SIDE, 2) km/s from the neighbouring fixes shown on the same side.

    A lone fix at one side of a gap moves as the way across the gap tells; one without any other fix does not.
    """
    time, shown = raw.time_s, raw.shown
    across = (place[:, SIDE] - place[:, SIDE - 1]) / np.maximum(time[:, SIDE] - time[:, SIDE - 1], 1.0)[:, None]
    across = np.where((raw.kind == INSIDE)[:, None], across, 0.0)
    out = np.zeros_like(place)
    for side in (slice(0, SIDE), slice(SIDE, 2 * SIDE)):
        t, p, ok = time[:, side], place[:, side], shown[:, side]
        pair = ok[:, 1:] & ok[:, :-1]
        seconds = np.where(pair, np.diff(t, axis=1), 1.0)
        slope = np.where(pair[..., None], np.diff(p, axis=1) / np.maximum(seconds, 1e-3)[..., None], 0.0)
        left = np.concatenate([slope[:, :1] * 0, slope], 1)
        right = np.concatenate([slope, slope[:, :1] * 0], 1)
        has_left = np.concatenate([pair[:, :1] & False, pair], 1)[..., None]
        has_right = np.concatenate([pair, pair[:, :1] & False], 1)[..., None]
        number = has_left.astype(float) + has_right
        out[:, side] = np.where(number > 0, (left + right) / np.maximum(number, 1), across[:, None])
    return out


def velocity_of(raw: PaddedFixes, place: Floats, centre: tuple[Floats, Floats]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Velocity (n, 2 * SIDE, 2) km/s east and north in the plane, and whether speed and course told it."""
    velocity = velocity_km_s((raw.lon, raw.lat), raw.sog, raw.cog, (centre[0][:, None], centre[1][:, None]))
    told = np.isfinite(velocity[..., 0]) & raw.shown
    return np.where(told[..., None], velocity, slopes(raw, place)), told
