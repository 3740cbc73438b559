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

from geodiff.sphere import KM_S_PER_KN, to_local_km
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.kinematics import dead_reckon, hermite, linear
from geodiff.vessels.window_features import ERROR_SHARE, NOISE_KM, asked_features, known_features
from geodiff.vessels.window_fixes import (
    ASKED,
    BEFORE,
    INSIDE,
    SIDE,
    PaddedFixes,
    pad_fixes,
    to_degrees,
    turn,
    velocity_of,
)
from geodiff.vessels.window_history import history_features

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SLOWEST_KM_S = 1.0 * KM_S_PER_KN
"""Floor of the speed that sets the unit of length: one knot."""

UNKNOWN_KM_S = 8.0 * KM_S_PER_KN
"""A usual speed: it sets the unit where nothing is known of the motion, a lone fix without speed and course."""


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
        paths: (n, k, ASKED, PATH_WIDTH) the nearest historic paths one by one, in half precision.
        likeness: (n, k, LIKENESS_WIDTH) how like each is to the known fixes, who passed and where it leads, likewise.
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
    paths: npt.NDArray[np.float16]
    likeness: npt.NDArray[np.float16]
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

    @property
    def stake(self) -> Floats:
        """What a unit of departure is worth beside that of a vessel of usual speed at the same lead: (n, ASKED)."""
        return self.unit_km / (NOISE_KM + ERROR_SHARE * UNKNOWN_KM_S * self.lead_s)

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
        return to_degrees(place_km, self.frame[:, None])


def build_windows(
    stretches: Sequence[TrackQuery], history: TrackHistory | None = None, *, asked: int = ASKED, paths: bool = True
) -> Windows:
    """Windows of queries of one stretch each.

    Args:
        stretches: each with at least one known fix, and times on one side of all of them or between two neighbours.
        history: past tracks of the region; without, the features of history are zero.
        asked: most times of a stretch; ``ASKED`` in the shapes of ``Windows`` stands for it.
        paths: whether historic paths are told one by one, the vessel's own too; else the summary of others' alone.
    """
    return _frame(pad_fixes(stretches, asked), history, paths=paths)


def _frame(raw: PaddedFixes, history: TrackHistory | None, *, paths: bool) -> Windows:
    """Choose each window's frame and write its features in it."""
    rows = np.arange(len(raw.kind))
    near, far = np.where(raw.kind == BEFORE, SIDE, SIDE - 1), np.where(raw.kind == INSIDE, SIDE, SIDE - 1)
    far = np.where(raw.kind == BEFORE, SIDE, far)
    lon0, lat0 = raw.lon[rows, near], raw.lat[rows, near]
    east, north = to_local_km(raw.lon, raw.lat, lon0[:, None], lat0[:, None])
    place = np.where(raw.shown[..., None], np.stack([east, north], -1), 0.0)
    velocity, told = velocity_of(raw, place, (lon0, lat0))
    inside = raw.kind == INSIDE
    duration = np.maximum(raw.edges[:, 1] - raw.edges[:, 0], 1.0)
    chord = np.where(inside[:, None], place[rows, far], velocity[rows, near])
    angle = _direction(raw, chord, velocity, near)
    lone = ~told.any(1) & (raw.shown.sum(1) < 2)
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
    past = history_features(
        raw, history, (lon0, lat0, angle), velocity[rows, near], own[0], (prior, unit, speed), paths=paths
    )
    return Windows(
        known=known_features(raw, *own, told, edges, scales).astype(np.float32),
        known_km=own[0],
        known_days=((raw.time_s - raw.edges[:, :1]) / 86_400.0 * raw.shown).astype(np.float32),
        known_valid=raw.shown,
        asked=asked_features(raw, prior, straight, (lead, unit), scales).astype(np.float32),
        history=past.summary.astype(np.float32),
        paths=past.paths.astype(np.float16),
        likeness=past.likeness.astype(np.float16),
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


def _direction(raw: PaddedFixes, chord: Floats, velocity: Floats, near: Ints) -> Floats:
    """Where the frames point, (n,) radians: along the chord; of a vessel at rest as it moved nearest to the edge.

    Of one that never moved no direction is favoured: it is as good as drawn by lot.
    """
    rows = np.arange(len(near))
    moves = raw.shown & (velocity != 0.0).any(2)
    away = np.where(moves, np.abs(np.arange(moves.shape[1]) - near[:, None]), moves.shape[1])
    last = np.where(moves.any(1)[:, None], velocity[rows, away.argmin(1)], 0.0)
    way = np.where((chord != 0.0).any(1)[:, None], chord, last)
    lot = (raw.vessel % 1_000_003 * 0.618034 + raw.edges[:, 0] * 0.754878) % 1.0
    return np.where((way != 0.0).any(1), np.arctan2(way[:, 1], way[:, 0]), 2 * np.pi * lot)


def _edges(raw: PaddedFixes, place: Floats, velocity: Floats, near: Ints, far: Ints) -> Floats:
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
