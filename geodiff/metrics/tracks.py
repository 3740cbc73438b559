"""How far off a track is, and whether its ensemble knows: errors on the sphere, proper scores, best-of-K beside them.

All errors are kilometres (``geodiff.sphere.KM_PER_NMI`` to a nautical mile). Ensembles are looked at in the local plane
about the truth. Best-of-K flatters: it rewards spread without asking whether the spread is meant. It is given because
others report it, and always beside the point estimate and the proper scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from geodiff.metrics.bootstrap import Interval
from geodiff.metrics.ensemble import Values, fair_crps, independent_draws
from geodiff.schema import BoolArray
from geodiff.sphere import Array, course_deg, distance_km, to_local_km
from geodiff.tracks import TrackAnswer

_NONE: Final = np.empty(0)


@dataclass(frozen=True, slots=True, eq=False)
class TrackScore:
    """Scores of one answer; per asked time (m,) float64, empty without an ensemble.

    Attributes:
        greedy_km: error of the point estimate.
        mean_km: error of the mean of the members.
        crps_km: fair continuous ranked probability score, mean of the east and the north axis.
        energy_km: fair energy score, the CRPS of the plane. Of antithetic pairs both scores, and both figures of
            spread below, are means over the two ensembles of independent members (``ensemble.independent_draws``).
        best_km: error of the member that is nearest at that time, another one at every time.
        ade_km, fde_km: mean and last error of the point estimate.
        min_ade_km, min_fde_km: mean error of the member that is nearest over the whole track, and last error of the
            one that is nearest at its end; NaN without an ensemble.
        variance_km2: unbiased variance of k independent members, both axes together, times (k + 1) / k.
        square_km2: squared error of their mean; the root of the ratio of both means is spread over skill.
        inside: (level, m) whether the ellipse of each level holds the truth.
        area_km2: (level, m) area of the ellipses: of two that hold the truth as often the smaller is better.
    """

    greedy_km: Array
    ade_km: float
    fde_km: float
    mean_km: Array = field(default_factory=_NONE.copy)
    crps_km: Array = field(default_factory=_NONE.copy)
    energy_km: Array = field(default_factory=_NONE.copy)
    best_km: Array = field(default_factory=_NONE.copy)
    variance_km2: Array = field(default_factory=_NONE.copy)
    square_km2: Array = field(default_factory=_NONE.copy)
    min_ade_km: float = float("nan")
    min_fde_km: float = float("nan")
    inside: BoolArray = field(default_factory=lambda: np.empty((0, 0), bool))
    area_km2: Array = field(default_factory=lambda: np.empty((0, 0)))


def score_track(
    answer: TrackAnswer, truth_lon_deg: Array, truth_lat_deg: Array, *, antithetic: bool = False
) -> TrackScore:
    """Score an answer; an ensemble needs two independent members at least to count as one.

    Args:
        answer: m positions.
        truth_lon_deg, truth_lat_deg: (m,), m at least 1.
        antithetic: whether the members come in pairs of opposite noise, one after the other.

    Raises:
        ValueError: nothing asked, numbers of positions that differ, or a position that is not finite.
    """
    _check(answer, truth_lon_deg, truth_lat_deg)
    truth = truth_lon_deg, truth_lat_deg
    greedy = distance_km(answer.lon_deg, answer.lat_deg, *truth)
    ellipse = answer.ellipse_km.reshape(-1, len(greedy), 3)
    inside = inside_ellipse((answer.lon_deg, answer.lat_deg), ellipse, truth)
    area = np.pi * ellipse[..., 0] * ellipse[..., 1]
    own: dict[str, Any] = {"greedy_km": greedy, "ade_km": float(greedy.mean()), "fde_km": float(greedy[-1])}
    own |= {"inside": inside, "area_km2": area}
    if len(answer.member_lon_deg) < (4 if antithetic else 2):
        return TrackScore(**own)
    off = np.stack(to_local_km(answer.member_lon_deg, answer.member_lat_deg, *truth), -1)
    error = np.linalg.norm(off, axis=-1)
    draws = independent_draws(off, antithetic=antithetic)
    count = len(draws[0])
    return TrackScore(
        **own,
        mean_km=np.linalg.norm(off.mean(0), axis=-1),
        crps_km=np.mean([fair_crps(each, np.zeros(each.shape[1:])).mean(-1) for each in draws], 0),
        energy_km=np.mean([energy_score(each) for each in draws], 0),
        best_km=error.min(0),
        variance_km2=np.mean([each.var(axis=0, ddof=1).sum(-1) for each in draws], 0) * (count + 1) / count,
        square_km2=np.mean([(each.mean(0) ** 2).sum(-1) for each in draws], 0),
        min_ade_km=float(error.mean(1).min()),
        min_fde_km=float(error[:, -1].min()),
    )


def energy_score(off: Values) -> Array:
    """Fair energy score of members about the truth (Gneiting & Raftery 2007, eq. 22; fair: Ferro 2014).

    mean_i |x_i| - sum_ij |x_i - x_j| / (2 k (k - 1)): the CRPS where there is one axis.

    Args:
        off: (k, m, axis) offsets of the members from the truth, k at least 2.

    Returns:
        (m,) in the unit of the offsets, 0 is best; single values may be negative.

    Raises:
        ValueError: fewer than two members.
    """
    count = len(off)
    if count < 2:
        raise ValueError(f"an ensemble of {count} is too small: the energy score needs two members")
    apart = np.zeros(off.shape[1])
    for k in range(1, count):
        apart += np.linalg.norm(off[k:] - off[:-k], axis=-1).sum(0)
    out: Array = np.linalg.norm(off, axis=-1).mean(0) - apart / (count * (count - 1))
    return out


def inside_ellipse(point: tuple[Array, Array], ellipse_km: Array, truth: tuple[Array, Array]) -> BoolArray:
    """Whether ellipses hold the truth, borders included.

    Args:
        point: (m,) lon and lat of the centres.
        ellipse_km: (level, m, 3) semi-axes in km and the course of the first one in degrees.
        truth: (m,) lon and lat.

    Returns:
        (level, m) bool.
    """
    reach = distance_km(*point, *truth)
    angle = np.radians(course_deg(*point, *truth) - ellipse_km[..., 2])
    along, across = reach * np.cos(angle), reach * np.sin(angle)
    # Multiplied out, so that an ellipse without extent holds what lies at its centre alone.
    major, minor = ellipse_km[..., 0], ellipse_km[..., 1]
    return np.asarray((along * minor) ** 2 + (across * major) ** 2 <= (major * minor) ** 2)


def _check(answer: TrackAnswer, lon: Array, lat: Array) -> None:
    shapes = {np.shape(each)[-1:] for each in (answer.lon_deg, answer.lat_deg, lon, lat)}
    members = {np.shape(each) for each in (answer.member_lon_deg, answer.member_lat_deg)}
    if len(shapes) > 1 or len(members) > 1 or not np.size(lon):
        raise ValueError(f"positions {sorted(shapes)} and members {sorted(members)}: one truth for every asked time")
    count = len(answer.member_lon_deg)
    if count and answer.member_lon_deg.shape[1] != len(lon):
        raise ValueError(f"members are {answer.member_lon_deg.shape}, asked were {len(lon)} times")
    for each in (answer.lon_deg, answer.lat_deg, answer.member_lon_deg, answer.member_lat_deg):
        if not np.isfinite(each).all():
            raise ValueError("a position is not finite: a model must answer every asked time")


def relative_gain(
    ours: Array, theirs: Array, sites: Sequence[str], *, draws: int = 2000, seed: int = 0, level: float = 0.9
) -> Interval:
    """By which share one mean error is smaller than another over the same rows, with a cluster bootstrap.

    1 - sum(ours) / sum(theirs), over all rows and over those of sites drawn with replacement: what is hard for both
    stands in both sums.

    Args:
        ours, theirs: (n,) errors, at least 0.
        sites: (n,) the vessel of each row.
        draws, seed, level: as of ``bootstrap_mean``.

    Returns:
        Share and ends; no figure where theirs are all 0.
    """
    names, where = np.unique(np.asarray(sites, str), return_inverse=True)
    own, other = np.bincount(where, ours, len(names)), np.bincount(where, theirs, len(names))
    if not other.sum() > 0:
        return Interval(None)
    mean = float(1 - own.sum() / other.sum())
    if len(names) < 2:
        return Interval(mean, sites=len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    sums = drawn @ other
    shares = 1 - np.divide(drawn @ own, sums, out=np.ones(draws), where=sums > 0)
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(names))
