"""How well scores find anomalies, and whether p-values keep their word, for plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Values = npt.ArrayLike


def auroc(score: Values, anomalous: Values) -> float:
    """Area under the receiver operating characteristic: the chance that an anomaly scores above a clean case.

    By ranks, ties counting half (Mann & Whitney 1947; Hanley & McNeil 1982).

    Args:
        score: (n,) larger is stranger, no NaN.
        anomalous: (n,) bool.

    Returns:
        0-1; NaN where all cases are of one kind.
    """
    value, truth = _checked(score, anomalous)
    good = int(truth.sum())
    if good in (0, len(truth)):
        return float("nan")
    _, number, count = np.unique(value, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[number]
    return float((ranks[truth].sum() - good * (good + 1) / 2) / (good * (len(truth) - good)))


def average_precision(score: Values, anomalous: Values) -> float:
    """Area under the precision-recall curve, by steps: no interpolation, which would flatter (Davis & Goadrich 2006).

    A random score has the share of anomalies as its area.

    Args: as of ``auroc``.

    Returns:
        0-1; NaN where nothing is anomalous.
    """
    curve = threshold_curve(score, anomalous)
    if not curve.anomalies:
        return float("nan")
    recall = curve.found / curve.anomalies
    precision = curve.found / np.maximum(curve.found + curve.false, 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What falling thresholds find: cumulative counts at each distinct score, from the largest.

    Attributes:
        found: (k,) anomalies at or above the threshold.
        false: (k,) clean cases likewise.
        anomalies, clean: of all.
    """

    found: npt.NDArray[np.int64]
    false: npt.NDArray[np.int64]
    anomalies: int
    clean: int

    def points(self, kind: str, most: int = 200) -> list[tuple[float, float]]:
        """Points to draw, thinned to about ``most``: of the ``roc`` (false, true) or the ``pr`` (recall, precision)."""
        recall = self.found / max(self.anomalies, 1)
        x, y = (
            (self.false / max(self.clean, 1), recall)
            if kind == "roc"
            else (recall, self.found / np.maximum(self.found + self.false, 1))
        )
        # Equal steps along the curve, so that the steep beginning keeps its points.
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], most)))
        return [(float(a), float(b)) for a, b in zip(x[kept], y[kept], strict=True)]


def threshold_curve(score: Values, anomalous: Values) -> Curve:
    """Count what each threshold finds. Args: as of ``auroc``."""
    value, truth = _checked(score, anomalous)
    order = np.argsort(-value, kind="stable")
    ranked = value[order]
    # Not by differences: those of equal infinities are NaN.
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(value) - 1) if len(value) else np.empty(0, np.int64)
    found = np.cumsum(truth[order])[last]
    return Curve(found, last + 1 - found, int(truth.sum()), int((~truth).sum()))


def _checked(score: Values, anomalous: Values) -> tuple[Floats, npt.NDArray[np.bool_]]:
    value, truth = np.asarray(score, np.float64), np.asarray(anomalous, bool)
    if value.shape != truth.shape or value.ndim != 1:
        raise ValueError(f"scores {value.shape} and labels {truth.shape}: one label for each score")
    if np.isnan(value).any():
        raise ValueError("a score is NaN: leave such cases out, and say so")
    return value, truth


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of flagged cases.

    Attributes:
        rate: flagged over all.
        low, high: ends of a 90 % interval over vessels; None with fewer than two vessels.
        cases: all.
    """

    rate: float
    low: float | None
    high: float | None
    cases: int


def clustered_rate(flagged: Values, cluster: Values, *, draws: int = 1000, seed: int = 0) -> Rate:
    """The share of flagged cases with its interval, where cases of one vessel are no separate witnesses.

    Vessels are drawn with replacement, each with all of its cases (Field & Welsh 2007, "Bootstrapping clustered
    data", JRSS B 69).

    Args:
        flagged: (n,) bool, at least one case.
        cluster: (n,) whole numbers: whose case it is.
        draws: bootstrap samples.
        seed: of the draws.
    """
    hit = np.asarray(flagged, bool)
    _, number = np.unique(np.asarray(cluster), return_inverse=True)
    hits, cases = np.bincount(number, hit), np.bincount(number)
    rate = float(hit.mean())
    if len(cases) < 2:
        return Rate(rate, None, None, len(hit))
    weights = np.full(len(cases), 1 / len(cases))
    drawn = np.random.default_rng(seed).multinomial(len(cases), weights, size=draws)
    low, high = np.quantile(drawn @ hits / (drawn @ cases), [0.05, 0.95])
    return Rate(rate, float(low), float(high), len(hit))
