"""How large a miss is usual: the scale by which leave-block-out misses become likelihoods.

The deviation of a miss along and across the course is regressed, in logarithms, on how long was hidden, how far the
vessel went, where in the gap the fix lies, how much the course turned, and on the spread that the model itself states.
So a model with an ensemble and one without are judged alike, and an ensemble that is too narrow is widened by what was
measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from pydantic import Field

from geodiff.schema import BoolArray
from geodiff.vessels.scoring_blocks import Misses
from geodiff.vessels.scoring_fixes import Floats
from geodiff.vessels.scoring_tails import Stored

FREEDOM: Final = 4.0
"""Degrees of freedom of Student's t: misses of vessels have heavy tails, a few turn where none was expected."""

NOISE_KM: Final = 0.005
"""Misses below GNSS noise say nothing."""

FEWEST: Final = 200
"""Misses that a scale is fitted to; with fewer the one of both kinds of block serves."""

WIDTH: Final = 7
"""Features of ``Misses`` and the logarithm of the model's spread."""

_NORMAL_MEDIAN = 0.6745


class AxisScale(Stored):
    """Coefficients of the logarithm of the deviation in km; the last one is of the logarithm of the model's spread."""

    along: tuple[float, ...] = Field(min_length=WIDTH, max_length=WIDTH)
    across: tuple[float, ...] = Field(min_length=WIDTH, max_length=WIDTH)


class LengthScale(Stored):
    """The scales of one length of block: known fixes on both sides, and on one."""

    length: int = Field(ge=1)
    inner: AxisScale
    edge: AxisScale

    def deviations_km(self, misses: Misses) -> Floats:
        """(m, 2) usual deviation along and across."""
        out = np.empty((len(misses.fix), 2))
        for scale, rows in ((self.inner, ~misses.edge), (self.edge, misses.edge)):
            for column, weights in enumerate((scale.along, scale.across)):
                design = _design(misses, column)[rows]
                out[rows, column] = np.exp(np.clip(design @ np.array(weights), -12.0, 8.0))
        return np.maximum(out, NOISE_KM)

    def surprise(self, misses: Misses) -> tuple[Floats, Floats]:
        """How unlikely the misses are.

        Returns:
            (m,) logarithm in nats of the density of the best place over that of the observed one, under a bivariate
            Student t (Kotz & Nadarajah 2004, eq. 1.1); and (m,) the usual miss in km, the median distance.
        """
        usual = self.deviations_km(misses)
        square = (misses.along_km / usual[:, 0]) ** 2 + (misses.across_km / usual[:, 1]) ** 2
        # The median of a squared bivariate t of 4 degrees of freedom is 2 * F(2, 4)'s median, 1.657.
        middle = np.sqrt(1.657 * usual[:, 0] * usual[:, 1])
        return (FREEDOM + 2) / 2 * np.log1p(square / FREEDOM), middle


def fit_scale(misses: Misses, length: int) -> LengthScale:
    """Fit the scales to misses of clean tracks.

    The mean of logarithms is a robust location: a miss that is a thousand times too large counts as seven.
    """
    whole = _fit(misses, np.ones(len(misses.fix), bool))
    inner, edge = (
        _fit(misses, rows) if np.count_nonzero(rows) >= FEWEST else whole for rows in (~misses.edge, misses.edge)
    )
    return LengthScale(length=length, inner=inner, edge=edge)


def best_surprise(
    scales: Sequence[LengthScale], misses: Mapping[int, Misses], count: int
) -> tuple[Floats, dict[str, Floats]]:
    """The largest surprise of each fix over the lengths of block.

    Args:
        scales: one for each length.
        misses: length -> misses.
        count: number of fixes.

    Returns:
        (n,) nats, NaN where a fix was never hidden; and its facts: ``miss_km``, ``usual_km``, ``hidden_s``.
    """
    value = np.full(count, np.nan)
    facts = {name: np.full(count, np.nan) for name in ("miss_km", "usual_km", "hidden_s")}
    for scale in scales:
        found = misses[scale.length]
        surprise, usual = scale.surprise(found)
        more = ~(surprise <= value[found.fix])
        where = found.fix[more]
        value[where] = surprise[more]
        facts["miss_km"][where] = np.hypot(found.along_km, found.across_km)[more]
        facts["usual_km"][where] = usual[more]
        facts["hidden_s"][where] = np.exp(found.features[more, 1])
    return value, facts


def _design(misses: Misses, column: int) -> Floats:
    spread = np.log(misses.spread_km[:, column] + NOISE_KM)
    return np.concatenate([misses.features, np.nan_to_num(spread)[:, None]], 1)


def _fit(misses: Misses, rows: BoolArray) -> AxisScale:
    both = []
    for column, miss in enumerate((misses.along_km, misses.across_km)):
        design, size = _design(misses, column)[rows], np.abs(miss[rows])
        if not len(size):
            both.append((np.log(0.1), *[0.0] * (WIDTH - 1)))
            continue
        target = np.log(size + NOISE_KM)
        # A little ridge keeps what the data do not decide (a constant interval) at zero.
        ridge = 1e-3 * len(size) * np.diag([0.0] + [1.0] * (WIDTH - 1))
        weights = np.linalg.solve(design.T @ design + ridge + 1e-9 * np.eye(WIDTH), design.T @ target)
        level = np.median(size / np.exp(design @ weights))
        weights[0] += np.log(max(level, 1e-3) / _NORMAL_MEDIAN)
        both.append(tuple(weights.tolist()))
    return AxisScale(along=both[0], across=both[1])
