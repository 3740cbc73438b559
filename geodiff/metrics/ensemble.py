"""Is the spread of an ensemble honest? Scores of probabilistic forecasts for fields of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.schema import BoolArray

Array = npt.NDArray[np.float64]
Values = npt.NDArray[np.floating[Any]]

WEISZFELD_STEPS = 12
"""Of sixteen members: the mean distance is then within 3e-4 of its least, in 99 of 100 cases."""


def independent_draws(members: Values, *, antithetic: bool) -> tuple[Values, ...]:
    """Ensembles of independent members: the scores here assume that, and add up over several of them.

    Antithetic pairs (noise e and -e, one after the other) lie farther apart than chance would have them: eight normal
    members of four pairs score 6 % below their true fair CRPS, spread over skill is 1.13 where it should be 1, and half
    of each pair below the truth makes a hill in the middle of the rank histogram. The first of all pairs are
    independent, and so are the second; where pairs stand at right angles to each other, as those of the denoiser do,
    nearly: scores are then too low by less than half a per cent.

    Args:
        members: (m, ...), pairs one after the other where they are antithetic.
        antithetic: whether they are.

    Returns:
        The members themselves, or two ensembles of m // 2; a last one without its pair is left out.
    """
    if not antithetic:
        return (members,)
    whole = 2 * (len(members) // 2)
    return members[:whole:2], members[1:whole:2]


def spatial_median(members: Values) -> Array:
    """The points whose mean distance from all members is least, by which a mean error of distance is judged.

    Weiszfeld's iteration (Weiszfeld 1937, "Sur le point pour lequel la somme des distances de n points donnés est
    minimum"), begun at the median of each component, which the choice of the axes decides. Distances count as a
    thousandth of their mean at least, so that it goes on where it meets a member.

    Args:
        members: (m, ..., axis).

    Returns:
        (..., axis) float64.
    """
    points = np.asarray(members, np.float64)
    middle: Array = np.median(points, 0)
    for _ in range(WEISZFELD_STEPS):
        away = np.linalg.norm(points - middle, axis=-1)
        weight = 1.0 / np.maximum(away, 1e-3 * away.mean(0) + 1e-12)[..., None]
        middle = (weight * points).sum(0) / weight.sum(0)
    return middle


def fair_crps(members: Values, truth: Values) -> Array:
    """Continuous ranked probability score, unbiased for ensembles of any size.

    From Ferro 2014, "Fair scores for ensemble forecasts", QJRMS 140:
    mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 m (m - 1)). Its expectation is that of an ensemble without end, so that
    models with different numbers of members compare. Single values may be negative.

    Args:
        members: (m, ...), m at least 2.
        truth: (...).

    Returns:
        (...) float64 in the unit of the values, 0 is best; NaN where the truth or a member is.

    Raises:
        ValueError: fewer than two members (a single forecast has no fair score: take the absolute error), or shapes
            that do not fit.
    """
    drawn, observed = _checked(members, truth)
    count = len(drawn)
    skill = np.abs(drawn - observed).mean(0)
    # Sorted, the sum over pairs needs no pairs: the k-th smallest is subtracted m-k times and added k-1 times.
    weight = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *([1] * observed.ndim))
    spread = (weight * np.sort(drawn, axis=0)).sum(0) / (count * (count - 1))
    return np.asarray(skill - spread, np.float64)


def spread_skill(members: Values, truth: Values, mask: BoolArray | None = None) -> float:
    """Spread of an ensemble over the error of its mean.

    From Fortin et al. 2014, "Why should ensemble spread match the RMSE of the ensemble mean?", J. Hydromet. 15:
    sqrt((m + 1) / m * mean of the unbiased variance) / RMSE of the mean of the members: 1 when truth and members are
    drawn from one distribution, below 1 when the ensemble is too sure.

    Args:
        members: (m, ...), m at least 2.
        truth: (...).
        mask: broadcasts to the shape of the truth; what counts. NaN in the truth or a member never counts.

    Returns:
        The ratio; NaN when the mean is without error, which leaves nothing to compare with.

    Raises:
        ValueError: fewer than two members, nothing to count, or shapes that do not fit.
    """
    drawn, observed = _counted(members, truth, mask)
    variance = drawn.var(axis=0, ddof=1).mean() * (len(drawn) + 1) / len(drawn)
    error = np.square(drawn.mean(0) - observed).mean()
    return float(np.sqrt(variance / error)) if error > 0 else float("nan")


def rank_histogram(
    members: Values, truth: Values, *, seed: int, mask: BoolArray | None = None
) -> npt.NDArray[np.int64]:
    """Count where the truth ranks among the members (Hamill 2001, "Interpretation of rank histograms", MWR 129).

    Flat when truth and members are drawn from one distribution; a valley when the spread is too small.

    Args:
        members: (m, ...), m at least 1.
        truth: (...).
        seed: of the draws that break ties.
        mask: broadcasts to the shape of the truth; what counts. NaN never counts.

    Returns:
        (m + 1,) int64: how often 0, 1, ..., m members lie below the truth.
    """
    drawn, observed = _counted(members, truth, mask, least=1)
    below, ties = (drawn < observed).sum(0), (drawn == observed).sum(0)
    rank = below + np.random.default_rng(seed).integers(0, ties + 1)
    return np.bincount(rank, minlength=len(drawn) + 1).astype(np.int64)


def interval_coverage(mean: Values, half_width: Values, truth: Values, mask: BoolArray | None = None) -> float:
    """Share of the truth that lies within ``mean`` plus or minus ``half_width``, borders included.

    Args:
        mean: (...).
        half_width: (...), not negative.
        truth: (...).
        mask: broadcasts to the shape of the truth; what counts. NaN in any of the three never counts.

    Returns:
        0 to 1.

    Raises:
        ValueError: nothing to count, a negative width, or shapes that do not fit.
    """
    if np.shape(mean) != np.shape(truth) or np.shape(half_width) != np.shape(truth):
        raise ValueError(
            f"mean {np.shape(mean)}, half-width {np.shape(half_width)} and truth {np.shape(truth)} must have one shape"
        )
    both, observed = _counted(np.stack([mean, half_width]), truth, mask, least=1)
    middle, reach = both
    if (reach < 0).any():
        raise ValueError("a half-width is negative")
    return float((np.abs(observed - middle) <= reach).mean())


def _checked(members: Values, truth: Values, least: int = 2) -> tuple[Array, Array]:
    drawn, observed = np.asarray(members, np.float64), np.asarray(truth, np.float64)
    if drawn.shape[1:] != observed.shape:
        raise ValueError(f"members are {drawn.shape}, the truth {observed.shape}: the first axis counts the members")
    if len(drawn) < least:
        raise ValueError(f"an ensemble of {len(drawn)} is too small: this figure needs {least} members")
    return drawn, observed


def _counted(members: Values, truth: Values, mask: BoolArray | None, *, least: int = 2) -> tuple[Array, Array]:
    """(m, n) and (n,): the values that count."""
    drawn, observed = _checked(members, truth, least)
    counts = np.isfinite(observed) & np.isfinite(drawn).all(0)
    if mask is not None:
        counts = counts & np.broadcast_to(mask, observed.shape)
    if not counts.any():
        raise ValueError("nothing to compare on: no value is clear and finite")
    return drawn[:, counts], observed[counts]
