"""GOSPA: how far a set of estimated positions is from the set of true ones, with what is missing and what is invented.

The generalised optimal sub-pattern assignment metric (Rahmathullah, García-Fernández & Svensson 2017, "Generalized
optimal sub-pattern assignment metric", eq. 1 and proposition 1, alpha = 2): a metric on finite sets whose p-th power is
the sum of a cost of localisation, of missed targets and of false ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from geodiff.schema import GeodiffError

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gospa:
    """One comparison, or the sum of several.

    Attributes:
        total: sum of the three costs, the p-th power of the metric for one comparison.
        localisation, missed, false: its parts, in the unit of the distance to the power p.
        pairs, misses, falses: how many estimates were assigned to a target, targets to none, estimates to none.
        times: comparisons in the sum.
        p: order.
    """

    localisation: float
    missed: float
    false: float
    pairs: int
    misses: int
    falses: int
    times: int = 1
    p: float = 2.0

    @property
    def total(self) -> float:
        return self.localisation + self.missed + self.false

    @property
    def distance(self) -> float:
        """The metric; over several comparisons the p-mean of their metrics."""
        return float((self.total / max(self.times, 1)) ** (1 / self.p))

    @property
    def localisation_error(self) -> float:
        """p-mean distance of the assigned pairs; NaN without any."""
        return float((self.localisation / self.pairs) ** (1 / self.p)) if self.pairs else float("nan")

    def __add__(self, other: Gospa) -> Gospa:
        if self.p != other.p:
            raise GeodiffError(f"GOSPA of order {self.p:g} and of order {other.p:g} do not add up")
        return Gospa(
            self.localisation + other.localisation,
            self.missed + other.missed,
            self.false + other.false,
            self.pairs + other.pairs,
            self.misses + other.misses,
            self.falses + other.falses,
            self.times + other.times,
            self.p,
        )


def gospa(truth: Array, found: Array, *, cutoff: float, p: float = 2.0) -> Gospa:
    """Compare two sets of points.

    Args:
        truth: (n, dimensions) true positions, n may be 0.
        found: (m, dimensions) estimates in the same unit, m may be 0.
        cutoff: c > 0: a target and an estimate further apart are one missed target and one false estimate.
        p: order, at least 1.

    Raises:
        GeodiffError: the cutoff or the order is out of range, or a position is not a number.
    """
    return gospa_pairs(truth, found, cutoff=cutoff, p=p)[0]


def gospa_pairs(truth: Array, found: Array, *, cutoff: float, p: float = 2.0) -> tuple[Gospa, IntArray]:
    """``gospa`` and its assignment: (pairs, 2) positions in ``truth`` and ``found``, in the order of ``truth``."""
    if not (cutoff > 0 and np.isfinite(cutoff) and p >= 1 and np.isfinite(p)):
        raise GeodiffError(f"GOSPA needs a cutoff above 0 and an order of at least 1, got {cutoff:g} and {p:g}")
    if not (np.isfinite(truth).all() and np.isfinite(found).all()):
        raise GeodiffError("GOSPA compares finite positions only: drop targets that are not there")
    apart = np.linalg.norm(truth[:, None, :] - found[None, :, :], axis=2)
    row, column = linear_sum_assignment(np.minimum(apart, cutoff) ** p)
    near = apart[row, column] < cutoff
    pairs = np.stack([row[near], column[near]], axis=1).astype(np.int64)
    misses, falses = len(truth) - len(pairs), len(found) - len(pairs)
    unit = cutoff**p / 2
    localisation = float((apart[row[near], column[near]] ** p).sum())
    return Gospa(localisation, unit * misses, unit * falses, len(pairs), misses, falses, 1, p), pairs
