"""Calibration of ensembles of tracks: how far members spread, and how far an ellipse must reach.

Their median is drawn towards the classical prediction by the factor that errs least: where a model is out of its depth
it departs from it too boldly. Members are moved away from their median by another factor, so that their spread is the
error's; an ellipse has the shape of their covariance and the size that holds the level of known answers (scores of
split conformal prediction: Mahalanobis distances; Johnstone & Cox 2021, "Conformal uncertainty sets for robust
optimization"). Whose answers, is said in ``train_tracks_calibrate`` and ``track_calibrate_here``.
All depend on the kind of stretch, on its length in time, and on whether the vessel is under way beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geodiff.metrics.ensemble import spatial_median
from geodiff.schema import GeodiffError
from geodiff.sphere import KM_S_PER_KN
from geodiff.tasks.track_regions import reachable_km
from geodiff.vessels.cases import MOVING_KN
from geodiff.vessels.window_features import NOISE_KM
from geodiff.vessels.window_fixes import INSIDE
from geodiff.vessels.windows import Windows

Floats = npt.NDArray[np.float64]
Rows = tuple[Any, ...]
"""Indices of times (n, ASKED)."""

LEVELS = (0.5, 0.9)

LEAD_EDGES_S = (225.0, 450.0, 900.0, 1800.0, 2700.0, 5500.0, 8000.0, 16_000.0, 32_000.0)
"""Edges of the classes of time, about an octave each; half an hour, one and two stand apart: 4 minutes to 8 hours."""

KINDS, STATES = 3, 2

PULLS = np.arange(0.5, 1.501, 0.05)
"""Factors of the median that are tried."""

LEAST_PULLED = 1000
"""Times of a class that tell the best of them: of fewer a few large errors decide."""

CLASSES = KINDS, STATES, len(LEAD_EDGES_S) + 1

LARGEST = 1e4
DECIMALS = 4


@dataclass(frozen=True, slots=True, eq=False)
class TrackCalibration:
    """Factors by kind, state (at rest, under way) and class of lead.

    Attributes:
        levels: probabilities of the ellipses.
        spread_factor: (KINDS, STATES, classes) by which members leave their median.
        reach: (levels, KINDS, STATES, classes) Mahalanobis radius of the ellipses.
        members: with how many members it was found.
        pull: (KINDS, STATES, classes) factor of the median's departure from the classical prediction.
    """

    levels: tuple[float, ...]
    spread_factor: Floats
    reach: Floats
    members: int
    pull: Floats = field(default_factory=lambda: np.ones(CLASSES))

    @classmethod
    def from_json(cls, raw: object, *, where: str) -> Self:
        """Check what a card says.

        Raises:
            GeodiffError: it is no calibration.
        """
        try:
            levels = tuple(float(level) for level in raw["levels"])  # type: ignore[index]
            factor = np.array(raw["spread_factor"], np.float64)  # type: ignore[index]
            reach = np.array(raw["reach"], np.float64)  # type: ignore[index]
            members = int(raw["members"])  # type: ignore[index]
            pull = np.array(raw.get("pull", np.ones(CLASSES)), np.float64)  # type: ignore[attr-defined]
            edges = list(raw["lead_edges_s"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise GeodiffError(f"{where}: its track_calibration is not one ({error}): calibrate again") from None
        if edges != list(LEAD_EDGES_S):
            raise GeodiffError(
                f"{where}: its track_calibration is of other classes of lead ({edges} s): calibrate the weights again "
                "(geodiff train tracks --minutes 0 --start-from)"
            )
        good = factor.shape == pull.shape == CLASSES and reach.shape == (len(levels), *CLASSES)
        values = np.concatenate([factor.ravel(), reach.ravel(), pull.ravel()])
        good = good and bool(((values > 0) & (values < LARGEST)).all()) and all(0 < level < 1 for level in levels)
        if not good:
            raise GeodiffError(f"{where}: its track_calibration has impossible values: calibrate again")
        return cls(levels, factor, reach, members, pull)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {
            "pull": self.pull.round(DECIMALS).tolist(),
            "levels": list(self.levels),
            "spread_factor": self.spread_factor.round(DECIMALS).tolist(),
            "reach": self.reach.round(DECIMALS).tolist(),
            "members": self.members,
            "lead_edges_s": list(LEAD_EDGES_S),
        }

    def spread(self, members: Floats, windows: Windows) -> Floats:
        """Departures (member, n, ASKED, 2) about their due median, with the spread that errors have."""
        middle, classes = np.median(members, 0), classes_of(windows)
        factor: Floats = self.spread_factor[classes][..., None]
        pull: Floats = self.pull[classes][..., None]
        return pull * middle + factor * (members - middle)

    def distances(self, members: Floats, truth: Floats, windows: Windows) -> Floats:
        """Mahalanobis distances (n, ASKED) of the truth from the point estimate, by members with their due spread.

        Arguments are those of ``fit_calibration``.
        """
        place = windows.to_km(self.spread(members, windows))
        middle_km = spatial_median(place)
        return mahalanobis(windows.to_km(truth), middle_km, scatter(place, middle_km))

    def coverage(self, members: Floats, truth: Floats, windows: Windows) -> Floats:
        """(levels, KINDS) share of the truths that the ellipses hold; NaN for a kind of stretch that was not asked for.

        Arguments are those of ``fit_calibration``.
        """
        shown = windows.asked_valid
        kind, state, lead = (np.broadcast_to(each, shown.shape)[shown] for each in classes_of(windows))
        inside = self.distances(members, truth, windows)[shown] <= self.reach[:, kind, state, lead]
        asked = [kind == each for each in range(KINDS)]
        held: Floats = np.stack([inside[:, k].mean(1) if k.any() else np.full(len(inside), np.nan) for k in asked], 1)
        return held

    def ellipses(self, place_km: Floats, middle_km: Floats, windows: Windows) -> Floats:
        """Ellipses about the point estimate.

        Args:
            place_km: (member, n, ASKED, 2) in the window's frame, spread.
            middle_km: (n, ASKED, 2).
            windows: the n windows.

        Returns:
            (level, n, ASKED, 3): semi-axes in km and the course of the major one in degrees.
        """
        covariance = scatter(place_km, middle_km)
        power, axes = np.linalg.eigh(covariance)
        size = np.sqrt(np.maximum(power, 0))[..., ::-1]
        major = axes[..., :, 1]
        east_angle = np.arctan2(major[..., 1], major[..., 0]) + windows.frame[:, None, 2]
        course = (90.0 - np.degrees(east_angle)) % 180.0
        kind, state, lead = classes_of(windows)
        radius = self.reach[:, kind, state, lead][..., None] * size[None]
        radius = np.minimum(radius, reachable_km(windows, middle_km)[..., None])
        return np.concatenate([radius, np.broadcast_to(course[None, ..., None], (*radius.shape[:-1], 1))], -1)


def lead_class(windows: Windows) -> npt.NDArray[np.int64]:
    """Class of each asked time, (n, ASKED): by the length of its gap, or by how far it lies beyond the known fixes."""
    length = np.diff(windows.edges[:, :, 0])
    return np.searchsorted(np.array(LEAD_EDGES_S), np.where(windows.kind[:, None] == INSIDE, length, windows.lead_s))


def under_way(windows: Windows) -> npt.NDArray[np.int64]:
    """1 where the vessel (n,) is under way at a known fix beside the stretch, or on the way across it; else 0."""
    (begin, end) = windows.edges[:, 0], windows.edges[:, 1]
    seconds = np.maximum(end[:, 0] - begin[:, 0], 1.0)
    speeds = [np.hypot(*edge[:, 3:].T) for edge in (begin, end)] + [np.hypot(*(end - begin)[:, 1:3].T) / seconds]
    moves: npt.NDArray[np.int64] = (np.max(speeds, 0) >= MOVING_KN * KM_S_PER_KN).astype(np.int64)
    return moves


def classes_of(windows: Windows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Kind and state (n, 1) and class of lead (n, ASKED), which index the factors together."""
    return windows.kind[:, None], under_way(windows)[:, None], lead_class(windows)


def scatter(place_km: Floats, middle_km: Floats) -> Floats:
    """Covariance (n, ASKED, 2, 2) of members about the point estimate, km^2.

    The variance of a fix is added, and a tenth of the mean of both axes to each: 16 members alone make ellipses that
    are too thin.
    """
    away = place_km - middle_km
    covariance = np.einsum("mnai,mnaj->naij", away, away) / len(place_km)
    mean = np.trace(covariance, axis1=-2, axis2=-1) / 2
    out: Floats = 0.9 * covariance + (0.1 * mean + NOISE_KM**2)[..., None, None] * np.eye(2)
    return out


def mahalanobis(truth_km: Floats, middle_km: Floats, covariance: Floats) -> Floats:
    """Distance of the truth (n, ASKED, 2) from the point estimate in units of the members' spread: (n, ASKED)."""
    away = truth_km - middle_km
    solved = np.linalg.solve(covariance, away[..., None])[..., 0]
    out: Floats = np.sqrt(np.maximum((away * solved).sum(-1), 0))
    return out


def fit_calibration(
    members: Floats,
    truth: Floats,
    windows: Windows,
    *,
    levels: tuple[float, ...] = LEVELS,
    least: int = 200,
    vessels: int = 1,
    otherwise: TrackCalibration | None = None,
) -> TrackCalibration:
    """Find the factors on windows whose truth is known.

    A class with fewer times or vessels takes those of its kind's nearest class that has enough; beside another
    calibration it takes by how much they differ from that one's there.

    Args:
        members: (member, n, ASKED, 2) departures in asinh units.
        truth: (n, ASKED, 2) likewise.
        windows: the n windows.
        levels: probabilities.
        least: times in a class; of few times altogether a twentieth of them will do.
        vessels: in a class.
        otherwise: another calibration of the same levels.

    Raises:
        GeodiffError: no class has enough.
    """
    shown = windows.asked_valid
    least = min(least, max(int(shown.sum()) // 20, 20))

    def each_class(figure: Callable[[Rows], float], usual: Floats) -> Floats:
        return usual * _borrowed(_each_class(figure, windows, least, vessels) / usual, least)

    blank = TrackCalibration(levels, np.ones(CLASSES), np.ones((len(levels), *CLASSES)), len(members))
    usual = otherwise or blank
    pull = _pulls(np.median(members, 0), truth, windows, vessels)
    pull = np.where(np.isfinite(pull), pull, usual.pull)
    first = replace(blank, pull=pull.round(DECIMALS))
    drawn = first.spread(members, windows)
    middle = np.median(drawn, 0)
    factor = each_class(lambda rows: _spread_ratio(drawn[:, *rows], truth[rows], middle[rows]), usual.spread_factor)
    first = replace(first, spread_factor=factor)
    distance = first.distances(members, truth, windows)

    def radius(level: float, usual: Floats) -> Floats:
        return each_class(lambda rows: _quantile(distance[rows], level), usual)

    reach = np.stack([radius(*each) for each in zip(levels, usual.reach, strict=True)])
    factor, reach = (each.clip(1e-3, LARGEST / 2).round(DECIMALS) for each in (factor, reach))
    return replace(first, spread_factor=factor, reach=reach)


def _pulls(middle: Floats, truth: Floats, windows: Windows, vessels: int) -> Floats:
    """The factor of the departures of each class that errs least in kilometres; NaN of too few to tell."""
    truth_km = windows.to_km(truth)
    errors_km = np.stack([np.linalg.norm(windows.to_km(each * middle) - truth_km, axis=-1) for each in PULLS])

    def best(rows: Rows) -> float:
        return float(PULLS[errors_km[:, *rows].mean(1).argmin()])

    return _each_class(best, windows, LEAST_PULLED, vessels)


def _each_class(figure: Callable[[Rows], float], windows: Windows, least: int, vessels: int) -> Floats:
    """A figure for each kind, state and class of lead that holds enough times and vessels; NaN for the others."""
    (kind, state, lead), shown = classes_of(windows), windows.asked_valid
    out = np.full(CLASSES, np.nan)
    for each in np.ndindex(out.shape):
        rows = np.nonzero(shown & (kind == each[0]) & (state == each[1]) & (lead == each[2]))
        if len(rows[0]) >= least and len(np.unique(windows.vessel_id[rows[0]])) >= vessels:
            out[each] = figure(rows)
    return out


def _borrowed(figures: Floats, least: int) -> Floats:
    """Classes without a figure take that of the nearest one that has it."""
    known = np.argwhere(np.isfinite(figures))
    if not len(known):
        raise GeodiffError(f"no class of lead time has {least} times: give more tracks to calibrate on")
    out = figures.copy()
    for one in np.argwhere(np.isnan(figures)):
        # Another time of the same kind and state is nearer than the other state, and that than another kind.
        far = np.abs(known - one) @ np.array([10_000, 100, 1])
        out[tuple(one)] = figures[tuple(known[far.argmin()])]
    return out


def _spread_ratio(members: Floats, truth: Floats, middle: Floats) -> float:
    """Error of the median over spread of the members, both as mean lengths, which outliers do not decide."""
    error = np.hypot(*np.moveaxis(truth - middle, -1, 0)).mean()
    spread = np.hypot(*np.moveaxis(members - middle, -1, 0)).mean()
    return float(np.clip(error / max(spread, 1e-6), 0.2, 20.0))


def _quantile(scores: Floats, level: float) -> float:
    """The conformal quantile: the ceil((n + 1) * level)-th smallest of n scores (Lei et al. 2018)."""
    rank = min(int(np.ceil((len(scores) + 1) * level)), len(scores))
    return float(np.clip(np.partition(scores, rank - 1)[rank - 1], 1e-3, LARGEST / 2))
