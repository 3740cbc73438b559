"""The Kalman smoother: nearly constant velocity, fixes with errors, forward and back (Rauch, Tung & Striebel 1965).

A track is a point whose velocity wanders: white-noise acceleration of one spectral density (Bar-Shalom et al. 2001,
section 6.2.2). East and north are alike and independent, so that one 2 x 2 covariance serves both, and every operation
is scalar arithmetic over a batch of queries: some hundred times as fast as a filter object per query. Inside, units are
km and hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from geodiff.rng import generator
from geodiff.schema import BoolArray
from geodiff.sphere import Array, from_local_km, to_local_km
from geodiff.tracks import TrackAnswer, TrackQuery
from geodiff.vessels.kinematics import velocity_km_s

POSITION_KM: Final = 0.01
"""Standard deviation of a reported position per axis (GNSS, and antennas that are not amidships)."""

VELOCITY_KM_H: Final = 0.5 * 1.852
"""Standard deviation of a reported velocity per axis: half a knot, course included."""

DENSITIES: Final = tuple(10.0**power for power in (-1.0, 0.0, 1.0, 2.0, 3.0))
"""km2/h3, of which each query takes the likeliest: after an hour the velocity has wandered by its square root, in km/h,
from a liner's 0.2 kn to a trawler's 17 kn."""

_START_KM, _START_KM_H = 1000.0, 30.0
_BATCH = 512

_NEAREST: Final = 64
"""Known fixes beyond the asked times on each side; what lies farther says nothing more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Known and asked times of a batch in one order, padded at the start with steps of no duration.

    At the end they would take the noise of a sample's last step for their own.

    Attributes:
        centre: (b,) lon and lat of the planes.
        step_h: (b, n) hours since the step before.
        position: (b, n, 2) km, NaN where asked.
        velocity: (b, n, 2) km/h, NaN where asked or unknown.
        asked: (b, n) bool.
    """

    centre: tuple[Array, Array]
    step_h: Array
    position: Array
    velocity: Array
    asked: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class _Filtered:
    """Forward pass, before and after each fix is taken in.

    Attributes:
        predicted, mean: (b, n, 2, 2) state (position, velocity) and axis.
        predicted_cov, cov: (b, n, 3) covariance of position, of both, of velocity.
        likelihood: (b,) its logarithm, up to a constant.
    """

    predicted: Array
    predicted_cov: Array
    mean: Array
    cov: Array
    likelihood: Array


class Kalman:
    """Rauch-Tung-Striebel smoother with ensemble and ellipses from its own covariances.

    Beyond the known fixes it is the filter's forecast. The wandering of the velocity is chosen per query by likelihood
    among ``DENSITIES``.
    """

    name = "kalman"
    levels: tuple[float, ...] = (0.5, 0.9)

    def predict(self, queries: Sequence[TrackQuery], *, members: int, seed: int) -> list[TrackAnswer]:
        """Answer each query, in order: smoothed mean, joint samples of the track, and circles of 50 and 90 %.

        Args:
            queries: each with one known fix or more.
            members: samples of the track (backward sampling: Frühwirth-Schnatter 1994); 0 for none.
            seed: of the samples, which are keyed by vessel and time as well.

        Raises:
            ValueError: a query without a known fix.
        """
        for row, query in enumerate(queries):
            if not len(query.time_s):
                raise ValueError(f"query {row} has no known fix: there is nothing to smooth")
        queries = [_near(query) for query in queries]
        # Alike lengths stand together, so that little is padded; the answers go back into the order of the queries.
        order = sorted(range(len(queries)), key=lambda i: len(queries[i].time_s) + len(queries[i].ask_s))
        answers: dict[int, TrackAnswer] = {}
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            found = self._batch([queries[i] for i in chosen], members, seed)
            answers.update(zip(chosen, found, strict=True))
        return [answers[i] for i in range(len(queries))]

    def _batch(self, queries: Sequence[TrackQuery], members: int, seed: int) -> list[TrackAnswer]:
        steps = _lay_out(queries)
        tried = [_filter(steps, np.full(len(queries), density)) for density in DENSITIES]
        best = np.argmax([each.likelihood for each in tried], axis=0)
        rows = np.arange(len(queries))
        one = _Filtered(
            *(np.stack([getattr(each, name) for each in tried])[best, rows] for name in _Filtered.__slots__)
        )
        mean, cov = _smooth(steps, one)
        noise = np.zeros((members, *one.mean.shape))
        for row, query in enumerate(queries):
            drawn = generator(seed, "kalman", query.vessel_id, int(query.ask_s[0]) if len(query.ask_s) else 0)
            size = len(query.time_s) + len(query.ask_s)
            noise[:, row, -size:] = drawn.standard_normal((members, size, 2, 2))
        samples = _sample(steps, one, noise)
        return [_answer(steps, row, mean, cov, samples, self.levels) for row in range(len(queries))]


def _near(query: TrackQuery) -> TrackQuery:
    """The query with the known fixes about its asked times."""
    if not len(query.ask_s):
        return query
    first, last = np.searchsorted(query.time_s, query.ask_s[[0, -1]])
    kept = slice(max(int(first) - _NEAREST, 0), int(last) + _NEAREST)
    names = ("time_s", "lon_deg", "lat_deg", "sog_kn", "cog_deg")
    return replace(query, **{name: getattr(query, name)[kept] for name in names})


def _lay_out(queries: Sequence[TrackQuery]) -> _Steps:
    size = max(len(query.time_s) + len(query.ask_s) for query in queries)
    step, asked = np.zeros((len(queries), size)), np.zeros((len(queries), size), bool)
    position, velocity = (np.full((len(queries), size, 2), np.nan) for _ in range(2))
    centres = np.empty((len(queries), 2))
    for row, query in enumerate(queries):
        near = np.searchsorted(query.time_s, query.ask_s[0] if len(query.ask_s) else 0.0, side="right")
        centre = (query.lon_deg[max(near - 1, 0)], query.lat_deg[max(near - 1, 0)])
        times = np.concatenate([query.time_s, query.ask_s])
        order = np.argsort(times, kind="stable")
        place = np.empty(len(times), np.int64)
        place[order] = np.arange(size - len(times), size)
        known = place[: len(query.time_s)]
        step[row, size - len(times) + 1 :] = np.diff(times[order]) / 3600
        asked[row, place[len(query.time_s) :]] = True
        position[row, known] = np.stack(to_local_km(query.lon_deg, query.lat_deg, *centre), -1)
        moved = velocity_km_s((query.lon_deg, query.lat_deg), query.sog_kn, query.cog_deg, centre)
        velocity[row, known] = moved * 3600
        centres[row] = centre
    return _Steps((centres[:, 0], centres[:, 1]), step, position, velocity, asked)


def _filter(steps: _Steps, density: Array) -> _Filtered:
    rows, size = steps.step_h.shape
    before, after = np.zeros((rows, size, 2, 2)), np.zeros((rows, size, 2, 2))
    before_cov, after_cov = np.zeros((rows, size, 3)), np.zeros((rows, size, 3))
    mean, total = np.zeros((rows, 2, 2)), np.zeros(rows)
    cov: Array = np.tile([_START_KM**2, 0.0, _START_KM_H**2], (rows, 1))
    for k in range(size):
        h = steps.step_h[:, k]
        mean = np.stack([mean[:, 0] + h[:, None] * mean[:, 1], mean[:, 1]], 1)
        pp, pv, vv = cov.T
        cov = np.stack([pp + 2 * h * pv + h**2 * vv, pv + h * vv, vv], 1)
        cov += density[:, None] * np.stack([h**3 / 3, h**2 / 2, h], 1)
        before[:, k], before_cov[:, k] = mean, cov
        for state, seen, error in ((0, steps.position[:, k], POSITION_KM), (1, steps.velocity[:, k], VELOCITY_KM_H)):
            mean, cov, gain = _update(mean, cov, state, seen, error)
            total += gain
        after[:, k], after_cov[:, k] = mean, cov
    return _Filtered(before, before_cov, after, after_cov, total)


def _update(mean: Array, cov: Array, state: int, seen: Array, error: float) -> tuple[Array, Array, Array]:
    """Take in one state of both axes as measured, where it was; gives mean, covariance and log-likelihood."""
    known = np.asarray(np.isfinite(seen).all(axis=1))
    off = np.where(known[:, None], seen - mean[:, state], 0.0)
    own, cross, other = cov[:, 2 * state], cov[:, 1], cov[:, 2 - 2 * state]
    sum_ = own + error**2
    gain = np.stack([own, cross] if state == 0 else [cross, own], 1) / sum_[:, None]
    new_own, new_cross, new_other = own * error**2 / sum_, cross * error**2 / sum_, other - cross**2 / sum_
    new = np.stack([new_own, new_cross, new_other] if state == 0 else [new_other, new_cross, new_own], 1)
    likelihood = np.where(known, -np.log(sum_) - (off**2).sum(1) / (2 * sum_), 0.0)
    return mean + gain[:, :, None] * off[:, None, :], np.where(known[:, None], new, cov), likelihood


def _back(steps: _Steps, run: _Filtered, k: int) -> tuple[Array, Array]:
    """Gain (b, 2, 2) of step k towards k + 1, and its covariance (b, 2, 2) given the state there."""
    h = steps.step_h[:, k + 1]
    here, ahead = _full(run.cov[:, k]), _full(run.predicted_cov[:, k + 1])
    moved = np.tile(np.eye(2), (len(h), 1, 1))
    moved[:, 0, 1] = h
    across = here @ moved.transpose(0, 2, 1)
    gain = np.linalg.solve(ahead, across.transpose(0, 2, 1)).transpose(0, 2, 1)
    left: Array = here - gain @ across.transpose(0, 2, 1)
    return np.asarray(gain, np.float64), left


def _smooth(steps: _Steps, run: _Filtered) -> tuple[Array, Array]:
    """Backward pass: (b, n, 2, 2) means and (b, n) variance of the position per axis."""
    mean, cov = run.mean.copy(), _full(run.cov)
    for k in range(mean.shape[1] - 2, -1, -1):
        gain, left = _back(steps, run, k)
        mean[:, k] += gain @ (mean[:, k + 1] - run.predicted[:, k + 1])
        cov[:, k] = left + gain @ cov[:, k + 1] @ gain.transpose(0, 2, 1)
    return mean, cov[:, :, 0, 0]


def _sample(steps: _Steps, run: _Filtered, noise: Array) -> Array:
    """(member, b, n, 2) positions of joint draws, from the last step back."""
    out = np.empty_like(noise)
    last = noise.shape[2] - 1
    out[:, :, last] = run.mean[:, last] + _root(_full(run.cov[:, last])) @ noise[:, :, last]
    for k in range(last - 1, -1, -1):
        gain, left = _back(steps, run, k)
        out[:, :, k] = run.mean[:, k] + gain @ (out[:, :, k + 1] - run.predicted[:, k + 1])
        out[:, :, k] += _root(left) @ noise[:, :, k]
    return out[:, :, :, 0]


def _full(cov: Array) -> Array:
    """(..., 3) -> (..., 2, 2)."""
    full: Array = cov[..., [0, 1, 1, 2]].reshape(*cov.shape[:-1], 2, 2)
    return full


def _root(cov: Array) -> Array:
    """Cholesky factor (b, 2, 2) that takes rounding below zero for zero."""
    out = np.zeros_like(cov)
    out[:, 0, 0] = np.sqrt(np.maximum(cov[:, 0, 0], 0))
    out[:, 1, 0] = np.divide(cov[:, 1, 0], out[:, 0, 0], out=np.zeros(len(cov)), where=out[:, 0, 0] > 0)
    out[:, 1, 1] = np.sqrt(np.maximum(cov[:, 1, 1] - out[:, 1, 0] ** 2, 0))
    return out


def _answer(
    steps: _Steps, row: int, mean: Array, variance: Array, samples: Array, levels: tuple[float, ...]
) -> TrackAnswer:
    asked = steps.asked[row]
    centre = (steps.centre[0][row], steps.centre[1][row])
    lon, lat = from_local_km(mean[row, asked, 0, 0], mean[row, asked, 0, 1], *centre)
    drawn = samples[:, row, asked]
    member_lon, member_lat = from_local_km(drawn[..., 0], drawn[..., 1], *centre)
    # The distance from the mean of a round normal law in the plane is Rayleigh's.
    radius = np.sqrt(np.maximum(variance[row, asked], 0)) * np.sqrt(-2 * np.log1p(-np.array(levels)))[:, None]
    ellipse = np.stack([radius, radius, np.zeros_like(radius)], -1)
    return TrackAnswer(lon, lat, member_lon, member_lat, ellipse)
