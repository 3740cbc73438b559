"""How much each kind of evidence counts: learned from anomalies that are put into clean tracks.

For each kind of injected anomaly a logistic regression tells its fixes from clean ones (exposure to known outliers:
Hendrycks et al. 2019, "Deep anomaly detection with outlier exposure"); what it sees are the tails of evidence at the
fix, their means around it, and the track's own mean, against which what is usual for the vessel is set off. The score
is the logarithm of the mean of these odds and of those of a plain rule that asks for no kind in particular, so that
what was never injected, such as a shared identity, is found too. Tracks are scored likewise. Weights decide what is
found first, not how often clean fixes are flagged: that is the p-values' part, which are taken on other vessels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from pydantic import model_validator
from scipy.optimize import minimize
from scipy.special import logsumexp

from geodiff.schema import BoolArray
from geodiff.vessels.scoring_evidence import KINDS
from geodiff.vessels.scoring_fixes import Fixes, Floats
from geodiff.vessels.scoring_tails import Stored

AROUND: Final = (9, 33)
"""Fixes over which tails are averaged, centred."""

MOST_TAIL: Final = 6.0
"""A tail counts no more than this: one wild value is not a million times one."""

PLAIN: Final = 4.6
"""The plain rule's odds are even when a tail is that many nats beyond what the best of all kinds shows by chance."""

FIX_WIDTH: Final = (2 + len(AROUND)) * len(KINDS)
TRACK_WIDTH: Final = 3 + 2 * len(KINDS)
MOST_CASES: Final = 20_000
"""Cases of either side that a head is fitted to, up to twice as many."""

_PULL: Final = 1e-3


class Heads(Stored):
    """One logistic regression for each kind of anomaly: name -> intercept, then a weight for each column."""

    weights: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _one_width(self) -> Heads:
        if {len(each) for each in self.weights.values()} - {FIX_WIDTH + 1, TRACK_WIDTH + 1}:
            raise ValueError(f"weights are neither of {FIX_WIDTH} columns, for fixes, nor of {TRACK_WIDTH}, for tracks")
        return self

    def score(self, seen: Floats, plain: Floats) -> Floats:
        """(n,) logarithm of the mean odds of all heads and of the plain rule."""
        odds = [plain, *(each[0] + seen @ np.array(each[1:]) for each in self.weights.values())]
        out: Floats = logsumexp(np.stack(odds), axis=0) - np.log(len(odds))
        return out


def fix_views(fixes: Fixes, tails: Floats) -> tuple[Floats, Floats]:
    """What the heads of fixes see.

    Args:
        fixes: n of them.
        tails: (n, kinds); absent evidence counts as none.

    Returns:
        (n, ``FIX_WIDTH``) tails, their means around and over the track; and (n,) odds of the plain rule.
    """
    own = _bounded(tails)
    first, last = fixes.first[:-1][fixes.track], fixes.first[1:][fixes.track]
    total = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, 0)])
    index, out = np.arange(len(own)), [own]
    for size in (*AROUND, None):
        reach = len(own) if size is None else size // 2
        left, right = np.maximum(index - reach, first), np.minimum(index + reach + 1, last)
        out.append((total[right] - total[left]) / (right - left)[:, None])
    return np.concatenate(out, 1), _plain(own)


def track_views(fixes: Fixes, seen: Floats, score: Floats) -> tuple[Floats, Floats]:
    """What the heads of tracks see.

    Args:
        fixes: of t tracks.
        seen: (n, ``FIX_WIDTH``) from ``fix_views``.
        score: (n,) of the fixes.

    Returns:
        (t, ``TRACK_WIDTH``) largest and mean score, number of fixes, largest tails and largest means around; and
        (t,) odds of the plain rule.
    """
    if not fixes.tracks:
        return np.empty((0, TRACK_WIDTH)), np.empty(0)
    first, count = fixes.first[:-1], np.diff(fixes.first)
    kinds = len(KINDS)
    wide = slice(len(AROUND) * kinds, (1 + len(AROUND)) * kinds)
    largest = np.maximum.reduceat(np.concatenate([seen[:, :kinds], seen[:, wide]], 1), first)
    peak, mean = np.maximum.reduceat(score, first), np.add.reduceat(score, first) / count
    # Of more fixes the largest tail is larger by chance.
    plain = _plain(largest[:, :kinds]) - np.log(count)
    return np.column_stack([peak, mean, np.log(count), largest]), plain


def _bounded(tails: Floats) -> Floats:
    out: Floats = np.clip(np.nan_to_num(tails), 0.0, MOST_TAIL)
    return out


def _plain(tails: Floats) -> Floats:
    out: Floats = np.log(10) * tails.max(1) - np.log(len(KINDS)) - PLAIN
    return out


def fit_heads(clean: Floats, anomalous: Mapping[str, Floats]) -> Heads:
    """Fit a head for each kind that has examples.

    Args:
        clean: (n, width) what is seen of clean cases.
        anomalous: kind -> (k, width) of anomalies.
    """
    return Heads(
        weights={
            kind: tuple(np.round(_fit(clean, seen), 5).tolist())
            for kind, seen in anomalous.items()
            if len(seen) and len(clean)
        }
    )


def _fit(clean: Floats, anomalous: Floats) -> Floats:
    """Intercept and weights; clean and anomalous count alike."""
    # Evenly spaced ones are as good as all: neighbours say much the same.
    clean, anomalous = (each[:: max(len(each) // MOST_CASES, 1)] for each in (clean, anomalous))
    seen = np.concatenate([clean, anomalous])
    truth: BoolArray = np.arange(len(seen)) >= len(clean)
    sign = np.where(truth, 1.0, -1.0)
    share = np.where(truth, 0.5 / len(anomalous), 0.5 / len(clean))

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = sign * (seen @ weights[1:] + weights[0])
        pull = _PULL * weights[1:]
        slope = -share * sign / (1.0 + np.exp(np.clip(margin, -50, 50)))
        value = float(share @ np.logaddexp(0.0, -margin) + 0.5 * pull @ weights[1:])
        return value, np.concatenate([[slope.sum()], seen.T @ slope + pull])

    start = np.zeros(seen.shape[1] + 1)
    # More evidence never counts against a fix; the means of its track and the size of it may.
    free = range(1 + FIX_WIDTH - len(KINDS), 1 + FIX_WIDTH) if seen.shape[1] == FIX_WIDTH else range(2, 4)
    bounds = [(None, None) if column == 0 or column in free else (0.0, None) for column in range(len(start))]
    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}).x
    return found
