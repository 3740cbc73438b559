"""From values to p-values: tails of clean values by class, split conformal, and the combination of evidence.

A p-value is the share of clean calibration values of the same class that are at least as large, with the mass of one
more vessel added at infinity: vessels, not fixes, are what is exchangeable (Vovk 2012, "Conditional validity of
inductive conformal predictors"; Dunn, Wasserman & Ramdas 2022, "Distribution-free prediction sets for two-layer
hierarchical models"). A class with too few vessels falls back to a wider one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, model_validator

from geodiff.config import Settings
from geodiff.vessels.scoring_fixes import Floats, Ints

FEWEST_OF_CLASS: Final = 40
"""Vessels that a class of its own needs; a p-value of 1 in 40 is then the least that it can give."""

TAILS: Final = np.logspace(0, -5, 41)
"""Shares whose quantiles are kept, eight a decade."""

BEYOND: Final = 3.0
"""Decades by which a value that no clean one reached may count more than the largest: no kind outweighs all others."""

_LARGEST = 1e6


class Stored(Settings):
    """A part of the file of a calibration: strict, and of finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tail(Stored):
    """The tail of clean values of one class.

    Attributes:
        values: quantiles, falling share by falling share of ``TAILS``, as far as the sample reaches.
        vessels: that they rest on.
    """

    values: tuple[float, ...] = Field(min_length=1, max_length=len(TAILS))
    vessels: int = Field(ge=1)

    @model_validator(mode="after")
    def _rising(self) -> Tail:
        values = np.array(self.values)
        if not np.isfinite(values).all() or np.abs(values).max() > _LARGEST or (np.diff(values) < 0).any():
            raise ValueError("the quantiles of a tail must be finite and rise")
        return self

    def log_tail(self, value: Floats) -> Floats:
        """(n,) -log10 of the share of clean values at least as large, carried on beyond the sample.

        Beyond the last quantile the tail falls as in its last decade, by ``BEYOND`` at most: only for ranking.
        """
        known, share = np.array(self.values), -np.log10(TAILS[: len(self.values)])
        left = np.clip(np.searchsorted(known, value, side="right") - 1, 0, len(known) - 1)
        right = np.minimum(left + 1, len(known) - 1)
        width = known[right] - known[left]
        part = np.divide(value - known[left], width, out=np.zeros_like(value), where=width > 1e-12)
        inside = share[left] + np.clip(part, 0, 1) * (share[right] - share[left])
        back = max(len(known) - 9, 0)
        slope = (share[-1] - share[back]) / max(known[-1] - known[back], 1e-3)
        more = BEYOND * -np.expm1(-slope * np.maximum(value - known[-1], 0.0) / BEYOND)
        beyond = np.where(value > known[-1], share[-1] + more, inside)
        return np.where(np.isnan(value), np.nan, beyond)

    def p_value(self, value: Floats) -> Floats:
        """(n,) conformal p-value, never below 1 / (vessels + 1); NaN stays NaN."""
        last = -np.log10(TAILS[len(self.values) - 1])
        beyond = value > self.values[-1]
        share = np.where(beyond, 0.0, 10.0 ** -np.minimum(self.log_tail(value), last))
        more = 1.0 / (self.vessels + 1)
        return np.where(np.isnan(value), np.nan, more + (1 - more) * share)


class TailTable(Stored):
    """Tails by class.

    Attributes:
        depth: kinds of class, from the finest to the one class of all.
        tails: ``"<depth>:<class>"`` -> tail.
    """

    depth: int = Field(ge=1, le=8)
    tails: dict[str, Tail]

    def log_tail(self, value: Floats, classes: Sequence[Ints]) -> Floats:
        """As ``Tail.log_tail``, of the finest class of each value that is known; NaN where none is."""
        out = np.full(len(value), np.nan)
        for tail, rows in self._chosen(classes):
            out[rows] = tail.log_tail(value[rows])
        return out

    def p_value(self, value: Floats, classes: Sequence[Ints]) -> Floats:
        """As ``Tail.p_value``, of the finest class of each value that is known."""
        out = np.full(len(value), np.nan)
        for tail, rows in self._chosen(classes):
            out[rows] = tail.p_value(value[rows])
        return out

    def _chosen(self, classes: Sequence[Ints]) -> list[tuple[Tail, npt.NDArray[np.intp]]]:
        if len(classes) != self.depth:
            raise ValueError(f"{len(classes)} kinds of class for a table of {self.depth}")
        open_rows = np.ones(len(classes[0]), bool)
        found = []
        for depth, codes in enumerate(classes):
            for code in np.unique(codes[open_rows]).tolist():
                tail = self.tails.get(f"{depth}:{code}")
                if tail is not None:
                    rows = np.flatnonzero(open_rows & (codes == code))
                    found.append((tail, rows))
                    open_rows[rows] = False
        return found


def fit_tails(value: Floats, vessel: Ints, classes: Sequence[Ints], *, fewest: int = FEWEST_OF_CLASS) -> TailTable:
    """Keep the tails of clean values.

    A wider class is made of what no finer class has taken, as it will be asked for such values alone: with the others
    in it, classes that are small because they are odd would be flagged too often.

    Args:
        value: (n,); NaN does not count.
        vessel: (n,) whose it is.
        classes: kinds of class from the finest to the widest, each (n,) whole numbers; the last kind is kept however
            few vessels it has.
        fewest: vessels that a class needs.
    """
    known = np.isfinite(value)
    value, vessel, kinds = value[known], vessel[known], [codes[known] for codes in classes]
    left = np.ones(len(value), bool)
    chosen: list[tuple[str, npt.NDArray[np.intp]]] = []
    for depth, codes in enumerate(kinds[:-1]):
        for code in np.unique(codes).tolist():
            rows = np.flatnonzero(left & (codes == code))
            if len(np.unique(vessel[rows])) >= fewest:
                chosen.append((f"{depth}:{code}", rows))
                left[rows] = False
    # Too few that are left need company; the widest classes go back first, as nothing lies between them and the last.
    while chosen and left.any() and len(np.unique(vessel[left])) < fewest:
        left[chosen.pop()[1]] = True
    for code in np.unique(kinds[-1]).tolist():
        rest = np.flatnonzero((left if left.any() else ~left) & (kinds[-1] == code))
        chosen.append((f"{len(kinds) - 1}:{code}", rest))
    tails = {name: _tail(value[rows], len(np.unique(vessel[rows]))) for name, rows in chosen if len(rows)}
    return TailTable(depth=len(classes), tails=tails)


def _tail(value: Floats, vessels: int) -> Tail:
    """For each share the least value that at most such a share of the sample reaches: ties stay conservative."""
    ranked, count = np.sort(value), len(value)
    kept = [float(ranked[0])]
    for share in TAILS[1:]:
        reach = int(share * count + 1e-9)
        if not reach:
            break
        index = int(np.searchsorted(ranked, ranked[count - reach - 1], side="right"))
        if index == count:
            # So large a share is tied at the top that no value is reached by less: the last share kept is theirs.
            kept[-1] = float(ranked[-1])
            break
        kept.append(float(ranked[index]))
    return Tail(values=tuple(np.clip(kept, -_LARGEST, _LARGEST).tolist()), vessels=vessels)


def cauchy_combination(log_tails: Floats) -> Floats:
    """Combine dependent evidence (Liu & Xie 2020, "Cauchy combination test", JASA 115).

    Args:
        log_tails: (n, k) -log10 of p-values; NaN where a kind of evidence says nothing.

    Returns:
        (n,) -log10 of the combined p-value, 0 where there is no evidence at all.
    """
    known = np.isfinite(log_tails)
    p = 10.0 ** -np.clip(np.where(known, log_tails, 0.0), 0.0, 300.0)
    # A p-value of 1 would cancel whatever the others say; nothing above 0.9 counts as more than 0.9.
    odds = np.where(known, 1.0 / np.tan(np.pi * np.minimum(p, 0.9)), 0.0)
    mean = odds.sum(1) / np.maximum(known.sum(1), 1)
    combined = np.arctan2(1.0, mean) / np.pi
    return np.where(known.any(1), -np.log10(np.maximum(combined, 1e-300)), 0.0)
