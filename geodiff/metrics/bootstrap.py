"""Intervals of a mean over places: what is drawn again is the place, whose dates are no separate witnesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it may lie.

    Attributes:
        mean: over the rows; None when no row has a value.
        low: lower end; None when there are fewer than two sites, which say nothing of other places.
        high: upper end; None likewise.
        sites: how many places the figure rests on.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    sites: int = 0

    @property
    def excludes_zero(self) -> bool:
        """True when both ends are known and on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def bootstrap_mean(
    values: Sequence[float], sites: Sequence[str], *, draws: int = 2000, seed: int = 0, level: float = 0.9
) -> Interval:
    """Percentile interval of the mean of all rows, by the cluster bootstrap.

    Sites are drawn with replacement, each with all of its rows (Field & Welsh 2007, "Bootstrapping clustered data",
    JRSS B 69; percentile interval: Efron & Tibshirani 1993, chapter 13).

    Args:
        values: one figure a row; a row that is not finite (a metric that is not defined there) does not count.
        sites: the place of each row.
        draws: bootstrap samples.
        seed: of the draws; two calls with the same sites draw the same ones.
        level: of the interval, in (0, 1).

    Returns:
        Mean and ends, plain floats or None; never NaN, so that the interval is valid JSON.

    Raises:
        ValueError: values and sites of different lengths, a level outside (0, 1), or no draw.
    """
    if len(values) != len(sites):
        raise ValueError(f"{len(values)} values but {len(sites)} sites: one site for each value")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"a level of {level} and {draws} draws: the level lies between 0 and 1, draws are at least 1")
    rows = np.asarray(values, np.float64)
    kept = np.isfinite(rows)
    if not kept.any():
        return Interval(None)
    places, where = np.unique(np.asarray(sites, str)[kept], return_inverse=True)
    total, count = np.bincount(where, rows[kept]), np.bincount(where)
    mean = float(total.sum() / count.sum())
    if len(places) < 2:
        return Interval(mean, sites=len(places))
    drawn = np.random.default_rng(seed).multinomial(len(places), np.full(len(places), 1 / len(places)), size=draws)
    means = drawn @ total / (drawn @ count)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(places))


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    sites: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.9,
) -> Interval:
    """Interval of the mean of ``a - b`` row by row: what two models share, such as an easy place, cancels.

    A row counts when both have a value. Arguments and errors as of ``bootstrap_mean``.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}: pairs need equal numbers")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return bootstrap_mean(difference.tolist(), sites, draws=draws, seed=seed, level=level)
