"""Windows: what a motion model sees of a question, as plain arrays in a frame of its own.

Each stretch without fixes (a gap, what follows the last fix, what comes before the first) is one window. Its plane is
centred on the fix at its edge and turned so that the vessel moves along the first axis; lengths are told in units of
speed times duration, times in units of the duration, so that a launch's gap of a minute and a tanker's of a day look
alike. What is learned is the departure from a classical prediction - cubic Hermite inside a gap, dead reckoning beyond
an end - in units of how far such a prediction usually errs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_PER_NMI, from_local_km, move, to_local_km
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import Answers, Asking, TrackHistory
from geodiff.vessels.kinematics import dead_reckon, hermite, linear

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

SLOWEST_KM_S = 1.0 * KM_PER_NMI / 3600
"""Floor of the speed that sets the unit of length: one knot."""

UNKNOWN_KM_S = 8.0 * KM_PER_NMI / 3600
"""Speed that sets the unit where nothing is known of the motion: a lone fix without speed and course."""

NOISE_KM = 0.02
"""What a fix itself errs by: GNSS, antenna offset and rounding of positions."""

ERROR_SHARE = 0.1
"""Error of a classical prediction, as a share of the way made meanwhile; measured on hourly and on minute data."""

_STEP_KM = 0.01
"""How far a course is followed to learn its direction in a plane: far above rounding, far below convergence."""

KNOWN_WIDTH = 25
ASKED_WIDTH = 33
HISTORY_WIDTH = 18


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """n windows; what a model sees is float32, what leads back to the Earth float64.

    Attributes:
        known: (n, 2 * SIDE, KNOWN_WIDTH) features of the fixes shown, those before the stretch first.
        known_km: (n, 2 * SIDE, 2) places of the fixes in the window's frame.
        known_days: (n, 2 * SIDE) days since the beginning of the stretch.
        known_valid: (n, 2 * SIDE) bool.
        asked: (n, ASKED, ASKED_WIDTH) features of the times asked for.
        history: (n, ASKED, HISTORY_WIDTH) what historic tracks say; zeros where they say nothing.
        asked_days: (n, ASKED).
        asked_valid: (n, ASKED) bool.
        ship_type: (n,) int64 code.
        kind: (n,) int64, BEFORE, INSIDE or AFTER.
        prior_km: (n, ASKED, 2) the classical prediction in the window's frame.
        unit_km: (n, ASKED) kilometres in a unit of departure.
        lead_s: (n, ASKED) seconds to the nearest known fix; inside a gap half the harmonic mean to both ends.
        edges: (n, 2, 5) seconds since 1970, kilometres and kilometres per second of both ends, in the frame.
        frame: (n, 3) longitude and latitude of the centre, direction of the first axis in radians north of east.
        asked_s: (n, ASKED) seconds since 1970.
        vessel_id: (n,) int64.
    """

    known: npt.NDArray[np.float32]
    known_km: Floats
    known_days: npt.NDArray[np.float32]
    known_valid: npt.NDArray[np.bool_]
    asked: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    asked_days: npt.NDArray[np.float32]
    asked_valid: npt.NDArray[np.bool_]
    ship_type: Ints
    kind: Ints
    prior_km: Floats
    unit_km: Floats
    lead_s: Floats
    edges: Floats
    frame: Floats
    asked_s: Floats
    vessel_id: Ints

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def joined(cls, parts: Sequence[Windows]) -> Windows:
        """Windows one after another."""
        return cls(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)})

    def to_payload(self, lon_deg: Floats, lat_deg: Floats) -> Floats:
        """What the model would have had to say for these positions (..., n, ASKED) -> (..., n, ASKED, 2)."""
        east, north = to_local_km(lon_deg, lat_deg, self.frame[:, None, 0], self.frame[:, None, 1])
        place = turn(np.stack([east, north], -1), -self.frame[:, None, 2])
        out: Floats = np.arcsinh((place - self.prior_km) / self.unit_km[..., None])
        return out

    def to_km(self, payload: Floats) -> Floats:
        """Positions in the window's frame, kilometres: (..., n, ASKED, 2) -> the same."""
        # A payload beyond 12 would lie 80,000 units off: no position, but no infinity either.
        return self.prior_km + self.unit_km[..., None] * np.sinh(np.clip(payload, -12.0, 12.0))

    def to_degrees(self, place_km: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude of positions in the window's frame: (..., n, ASKED, 2) -> (..., n, ASKED) each."""
        east_north = turn(place_km, self.frame[:, None, 2])
        return from_local_km(east_north[..., 0], east_north[..., 1], self.frame[:, None, 0], self.frame[:, None, 1])


def turn(vector: Floats, angle: Floats) -> Floats:
    """Turn vectors (..., 2) anticlockwise by angles (...) in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vector[..., 0], vector[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


@dataclass(frozen=True, slots=True, eq=False)
class _Raw:
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


def build_windows(stretches: Sequence[TrackQuery], history: TrackHistory | None = None) -> Windows:
    """Windows of queries of one stretch each, with at most ``ASKED`` times.

    Args:
        stretches: each with at least one known fix, and times on one side of all of them or between two neighbours.
        history: past tracks of the region; without, the features of history are zero.
    """
    raw = _pad(stretches)
    return _frame(raw, history)


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


def _pad(stretches: Sequence[TrackQuery]) -> _Raw:
    count = len(stretches)
    time = np.zeros((count, 2 * SIDE))
    lon, lat, sog, cog = (
        np.zeros_like(time),
        np.zeros_like(time),
        np.full_like(time, np.nan),
        np.full_like(time, np.nan),
    )
    shown = np.zeros((count, 2 * SIDE), bool)
    ask, asked = np.zeros((count, ASKED)), np.zeros((count, ASKED), bool)
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
    return _Raw(time, lon, lat, sog, cog, shown, ask, asked, edges, kind, ship, vessel)


def _slopes(raw: _Raw, place: Floats) -> Floats:
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


def _velocity(raw: _Raw, place: Floats, centre: tuple[Floats, Floats]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Velocity (n, 2 * SIDE, 2) km/s east and north in the plane, and whether speed and course told it.

    A course is told from true north where the fix is: 300 km east of the plane's centre that is 5 degrees off the
    plane's north in 60 N. So a short step along it is taken there, and seen in the plane.
    """
    told = np.isfinite(raw.sog) & (np.isfinite(raw.cog) | (raw.sog < 0.5)) & raw.shown
    ahead = move(raw.lon, raw.lat, np.nan_to_num(raw.cog), _STEP_KM)
    east, north = to_local_km(*ahead, centre[0][:, None], centre[1][:, None])
    step = np.where(raw.shown[..., None], np.stack([east, north], -1) - place, 0.0) / _STEP_KM
    speed = np.where(told, raw.sog, 0.0) * KM_PER_NMI / 3600
    return np.where(told[..., None], speed[..., None] * step, _slopes(raw, place)), told


def _frame(raw: _Raw, history: TrackHistory | None) -> Windows:
    """Choose each window's frame and write its features in it."""
    rows = np.arange(len(raw.kind))
    near, far = np.where(raw.kind == BEFORE, SIDE, SIDE - 1), np.where(raw.kind == INSIDE, SIDE, SIDE - 1)
    far = np.where(raw.kind == BEFORE, SIDE, far)
    lon0, lat0 = raw.lon[rows, near], raw.lat[rows, near]
    east, north = to_local_km(raw.lon, raw.lat, lon0[:, None], lat0[:, None])
    place = np.where(raw.shown[..., None], np.stack([east, north], -1), 0.0)
    velocity, told = _velocity(raw, place, (lon0, lat0))
    inside = raw.kind == INSIDE
    duration = np.maximum(raw.edges[:, 1] - raw.edges[:, 0], 1.0)
    chord = np.where(inside[:, None], place[rows, far], velocity[rows, near])
    angle = np.arctan2(chord[:, 1], chord[:, 0])
    lone = ~told.any(1) & (raw.shown.sum(1) < 2)
    # Without a course no direction is favoured: the frame's is as good as drawn by lot.
    lot = (raw.vessel * 0.618034 + raw.edges[:, 0] * 0.754878) % 1.0
    angle = np.where(lone, 2 * np.pi * lot, angle)
    speeds = np.where(raw.shown, np.hypot(velocity[..., 0], velocity[..., 1]), np.nan)
    speed = np.maximum(np.nanmean(speeds, 1), np.where(inside, np.hypot(*chord.T) / duration, 0.0))
    speed = np.where(lone, UNKNOWN_KM_S, np.maximum(speed, SLOWEST_KM_S))
    own = turn(place, -angle[:, None]), turn(velocity, -angle[:, None])
    edges = _edges(raw, *own, near, far)
    prior, straight = predict_km(edges, raw.kind, raw.ask)
    since, until = np.abs(raw.ask - raw.time_s[rows, near][:, None]), np.abs(raw.time_s[rows, far][:, None] - raw.ask)
    lead = np.where(inside[:, None], since * until / np.maximum(since + until, 1.0), since)
    unit = NOISE_KM + ERROR_SHARE * speed[:, None] * lead
    scales = (duration, speed, speed * duration)
    past = _history(
        raw, history, (lon0, lat0, angle), velocity[rows, near], own[0][rows, far], (prior, unit, scales[2])
    )
    return Windows(
        known=_known_features(raw, *own, told, edges, scales).astype(np.float32),
        known_km=own[0],
        known_days=((raw.time_s - raw.edges[:, :1]) / 86_400.0 * raw.shown).astype(np.float32),
        known_valid=raw.shown,
        asked=_asked_features(raw, prior, straight, (lead, unit), scales).astype(np.float32),
        history=past.astype(np.float32),
        asked_days=((raw.ask - raw.edges[:, :1]) / 86_400.0).astype(np.float32),
        asked_valid=raw.asked,
        ship_type=raw.ship,
        kind=raw.kind,
        prior_km=prior,
        unit_km=unit,
        lead_s=lead,
        edges=edges,
        frame=np.stack([lon0, lat0, angle], 1),
        asked_s=raw.ask,
        vessel_id=raw.vessel,
    )


def _edges(raw: _Raw, place: Floats, velocity: Floats, near: Ints, far: Ints) -> Floats:
    """Time, place and velocity at both ends: (n, 2, 5); beyond an end both are the fix that is reckoned from."""
    rows = np.arange(len(near))
    ends = [
        np.concatenate([raw.time_s[rows, at][:, None], place[rows, at], velocity[rows, at]], 1) for at in (near, far)
    ]
    return np.stack(ends, 1)


def predict_km(edges: Floats, kind: Ints, ask_s: Floats) -> tuple[Floats, Floats]:
    """The classical prediction and the straight line, (n, m, 2) km each; beyond an end both reckon on.

    Args:
        edges: (n, 2, 5) seconds, kilometres, kilometres per second of both ends.
        kind: (n,).
        ask_s: (n, m).
    """
    t0, p0, v0 = edges[:, :1, 0], edges[:, :1, 1:3], edges[:, :1, 3:]
    t1, p1, v1 = edges[:, 1:, 0], edges[:, 1:, 1:3], edges[:, 1:, 3:]
    onward = dead_reckon(t0, p0, v0, ask_s)
    t1 = np.where(t1 > t0, t1, t0 + 1.0)
    inside = (kind == INSIDE)[:, None, None]
    cubic = hermite(t0, p0, v0, t1, p1, v1, ask_s)
    return np.where(inside, cubic, onward), np.where(inside, linear(t0, p0, t1, p1, ask_s), onward)


def _waves(value: Floats, count: int) -> Floats:
    """The value and sines and cosines of its octaves: (...) -> (..., 1 + 2 * count)."""
    angle = value[..., None] * np.pi * 2.0 ** np.arange(count)
    return np.concatenate([value[..., None], np.sin(angle), np.cos(angle)], -1)


def _whole(raw: _Raw, scales: tuple[Floats, Floats, Floats]) -> Floats:
    """What every token is told of its window: (n, 6)."""
    duration, speed, reach = scales
    kinds = (raw.kind[:, None] == np.arange(3)).astype(float)
    logs = np.stack([np.log(duration / 3600) / 3, np.log(speed / (10 * KM_PER_NMI / 3600)), np.log(reach / 10) / 3], 1)
    return np.concatenate([logs, kinds], 1)


def _known_features(
    raw: _Raw,
    place: Floats,
    velocity: Floats,
    told: npt.NDArray[np.bool_],
    edges: Floats,
    scales: tuple[Floats, Floats, Floats],
) -> Floats:
    """Features of the fixes shown: (n, 2 * SIDE, KNOWN_WIDTH).

    The last two are how far each lies from what is reckoned back from the edge, in the units of what is to be said:
    how the vessel turned and slowed until then, to metres, which places in units of the whole stretch do not show.
    """
    duration, speed, reach = (each[:, None] for each in scales)
    tau = np.arcsinh((raw.time_s - raw.edges[:, :1]) / duration * 2.0) / 2.0
    whole = np.broadcast_to(_whole(raw, scales)[:, None], (*tau.shape, 6))
    edge = np.repeat(edges, SIDE, 1)
    reckoned = dead_reckon(edge[..., 0], edge[..., 1:3], edge[..., 3:], raw.time_s)
    unit = NOISE_KM + ERROR_SHARE * speed * np.abs(raw.time_s - edge[..., 0])
    parts = [
        np.arcsinh(place / reach[..., None] * 4.0),
        velocity / speed[..., None],
        (velocity - _slopes(raw, place)) / speed[..., None],
        told[..., None].astype(float),
        _waves(tau, 4),
        np.broadcast_to((np.arange(2 * SIDE) >= SIDE)[None, :, None].astype(float), (*tau.shape, 1)),
        whole,
        np.arcsinh((place - reckoned) / unit[..., None]),
    ]
    return np.where(raw.shown[..., None], np.concatenate(parts, -1), 0.0)


def _asked_features(
    raw: _Raw,
    prior: Floats,
    straight: Floats,
    errors: tuple[Floats, Floats],
    scales: tuple[Floats, Floats, Floats],
) -> Floats:
    """Features of the times asked for: (n, ASKED, ASKED_WIDTH)."""
    lead, unit = errors
    duration, speed, reach = (each[:, None] for each in scales)
    tau = (raw.ask - raw.edges[:, :1]) / duration
    rate = (prior[:, 1:] - prior[:, :-1]) / (np.maximum(np.diff(raw.ask, axis=1), 1.0) * speed)[..., None]
    rate = np.concatenate([rate[:, :1], rate], 1)
    whole = np.broadcast_to(_whole(raw, scales)[:, None], (*tau.shape, 6))
    parts = [
        np.arcsinh(prior / reach[..., None] * 4.0),
        np.clip(rate, -4, 4),
        np.arcsinh((straight - prior) / unit[..., None]),
        _waves(tau, 5),
        _waves(np.log(np.maximum(lead, 1.0) / 3600.0) / 8.0, 3),
        np.log(unit)[..., None] / 3,
        raw.asked[..., None].astype(float),
        raw.asked[..., None] * (raw.asked.sum(1) / ASKED)[:, None, None],
        whole,
    ]
    return np.concatenate(parts, -1)


def _history(
    raw: _Raw,
    history: TrackHistory | None,
    frame: tuple[Floats, Floats, Floats],
    velocity: Floats,
    end: Floats,
    local: tuple[Floats, Floats, Floats],
) -> Floats:
    """What historic tracks say, in units of departure from the prior: (n, ASKED, HISTORY_WIDTH).

    Inside a gap a historic path is bent so that it ends where the gap ends; the more it must bend, the less it counts.
    Beyond the last fix nothing is told that happened later, of other vessels neither: a tug would give away its tow.
    """
    if history is None or not len(history):
        return np.zeros((*raw.ask.shape, HISTORY_WIDTH))
    (lon0, lat0, angle), (prior, unit, reach) = frame, local
    rows = np.arange(len(lon0))
    start = raw.time_s[rows, np.where(raw.kind == BEFORE, SIDE, SIDE - 1)]
    inside, after_end = raw.kind == INSIDE, raw.kind == AFTER
    last = np.where(inside, raw.edges[:, 1], raw.ask[:, -1])
    after = np.concatenate([raw.ask, last[:, None]], 1) - start[:, None]
    asking = Asking(lon0, lat0, velocity[:, 0], velocity[:, 1], raw.vessel, after, reach)
    hidden = np.stack([np.where(raw.kind == BEFORE, -np.inf, start), np.where(after_end, np.inf, last)], 1)
    hidden[raw.kind == BEFORE, 1] = start[raw.kind == BEFORE]
    others = history.ask(asking, until_s=np.where(after_end, start, np.inf))
    own = history.ask_own(asking, hidden)

    def departures(said: Answers) -> tuple[Floats, Floats]:
        path = turn(np.stack([said.east_km, said.north_km], -1), -angle[:, None, None])
        missed = end[:, None, :] - path[:, :, -1]
        share = (after / np.maximum(after[:, -1:], 1.0))[:, None, :, None]
        bend = np.where(inside[:, None, None, None], missed[:, :, None] * share, 0.0)
        fit = np.exp(-np.hypot(missed[..., 0], missed[..., 1]) / (0.2 * reach[:, None]))
        arrived = np.where(inside[:, None], fit * (said.weight[:, :, -1] > 0), 1.0)
        weight = (said.weight * arrived[..., None])[:, :, :-1]
        return np.arcsinh(((path + bend)[:, :, :-1] - prior[:, None]) / unit[:, None, :, None]), weight

    return np.concatenate([_summary(*departures(said)) for said in (others, own)], -1)


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
