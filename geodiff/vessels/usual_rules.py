"""Rules of cleaning that suit a table: read off how often its vessels report, and how it numbers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from geodiff.tracks import TIME, VESSEL_ID
from geodiff.vessels.clean_rules import DEFAULT_RULES, CleanRules
from geodiff.vessels.codes import HASHED_FROM

SILENT_STEPS: Final = 3.0
"""A silence of so many usual intervals ends a track, where that is longer than the rule."""

LONGEST_GAP_S: Final = 86_400.0
LARGEST_MMSI: Final = 999_999_999
OWN_SHARE: Final = 0.01
"""Share of given identities above every MMSI from which a source counts as one that numbers vessels its own way."""


@dataclass(frozen=True, slots=True)
class Usual:
    """How a source reports.

    Each vessel counts once: two that report every minute do not shred the tracks of nine that report hourly.

    Attributes:
        interval_s: median over vessels of the median seconds between their fixes; NaN where no vessel has two.
        own_numbers: identities are the source's own, not MMSI.
    """

    interval_s: float
    own_numbers: bool

    @classmethod
    def of(cls, parts: Sequence[pl.DataFrame | pl.LazyFrame]) -> Usual:
        """Of tables of whole vessels, one after the other; how they are cut into parts changes nothing."""
        medians = pl.concat([_medians(part.lazy()).collect() for part in parts])
        middle = medians["step"].drop_nulls().median()
        # Numbers that were made here, of names and of tracks, do not tell how a source numbers its vessels.
        theirs = medians[VESSEL_ID].filter(medians[VESSEL_ID] < HASHED_FROM)
        own = (theirs > LARGEST_MMSI).mean()
        interval = float("nan") if middle is None else float(middle)  # type: ignore[arg-type]
        return cls(interval, float(own or 0.0) > OWN_SHARE)  # type: ignore[arg-type]

    def rules(self, gap_s: float | None) -> CleanRules:
        """Rules of cleaning: hourly fixes are tracks too, and own numbers are not judged as MMSI."""
        gap = DEFAULT_RULES.gap_s
        if np.isfinite(self.interval_s):
            gap = max(gap, min(SILENT_STEPS * self.interval_s, LONGEST_GAP_S))
        return replace(DEFAULT_RULES, gap_s=gap if gap_s is None else gap_s, mmsi=not self.own_numbers)


def _medians(part: pl.LazyFrame) -> pl.LazyFrame:
    known = part.select(VESSEL_ID, TIME).drop_nulls().unique().sort(VESSEL_ID, TIME)
    step = pl.col(TIME).diff().dt.total_microseconds() / 1e6
    return known.group_by(VESSEL_ID).agg(step.median().alias("step"))


def usual_rules(fixes: pl.DataFrame) -> CleanRules:
    """Rules for a table: hourly fixes are tracks too, and numbers of a source's own are not judged as MMSI.

    Args:
        fixes: with the columns of ``geodiff.tracks``.
    """
    return Usual.of([fixes]).rules(None)
