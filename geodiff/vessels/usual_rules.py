"""Rules of cleaning that suit a table: read off how often its vessels report, and how it numbers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from geodiff.tracks import SOURCE, TIME, VESSEL_ID
from geodiff.vessels.clean_rules import DEFAULT_RULES, IMPOSSIBLE_IDENTITY, LONGEST_GAP_S, CleanRules
from geodiff.vessels.codes import HASHED_FROM
from geodiff.vessels.identity import kind_by_number

SILENT_STEPS: Final = 3.0
"""A silence of so many usual intervals ends a track, where that is longer than the rule."""

LARGEST_MMSI: Final = 999_999_999
OWN_SHARE: Final = 0.01
"""Share of given identities above every MMSI from which a source counts as one that numbers vessels its own way."""

IMPOSSIBLE_SHARE: Final = 0.5
"""Share of identities in tables that are none by the form of an MMSI, from which on the same holds: 1, 2, 3."""

_GIVEN: Final = pl.col(VESSEL_ID) < HASHED_FROM
"""Numbers that were made here, of names and of tracks, do not tell how a source numbers its vessels."""


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
        theirs = medians.filter(_GIVEN)
        of_tables = pl.concat([_of_tables(part.lazy()).collect() for part in parts])
        own = _share(theirs, pl.col(VESSEL_ID) > LARGEST_MMSI) > OWN_SHARE
        none = _share(of_tables, kind_by_number(pl.col(VESSEL_ID)) == IMPOSSIBLE_IDENTITY) > IMPOSSIBLE_SHARE
        return cls(float("nan") if middle is None else float(middle), own or none)  # type: ignore[arg-type]

    def rules(self, gap_s: float | None) -> CleanRules:
        """Rules of cleaning: hourly fixes are tracks too, and own numbers are not judged as MMSI.

        Args:
            gap_s: what ends a track, for all vessels alike; None: as they report, all together or each by itself.
        """
        gap = DEFAULT_RULES.gap_s
        if np.isfinite(self.interval_s):
            gap = max(gap, min(SILENT_STEPS * self.interval_s, LONGEST_GAP_S))
        if gap_s is not None:
            return replace(DEFAULT_RULES, gap_s=gap_s, mmsi=not self.own_numbers)
        return replace(DEFAULT_RULES, gap_s=gap, silent_steps=SILENT_STEPS, mmsi=not self.own_numbers)


def _medians(part: pl.LazyFrame) -> pl.LazyFrame:
    known = part.select(VESSEL_ID, TIME).drop_nulls().unique().sort(VESSEL_ID, TIME)
    step = pl.col(TIME).diff().dt.total_microseconds() / 1e6
    return known.group_by(VESSEL_ID).agg(step.median().alias("step"))


def _of_tables(part: pl.LazyFrame) -> pl.LazyFrame:
    """Identities that tables gave; those of NMEA sentences are MMSI by the standard."""
    sentences = pl.col(SOURCE).str.starts_with("nmea:").fill_null(False)
    return part.filter(_GIVEN, ~sentences).select(VESSEL_ID).unique()


def _share(vessels: pl.DataFrame, holds: pl.Expr) -> float:
    return float(vessels.select(holds.fill_null(False).mean()).item() or 0.0)


def usual_rules(fixes: pl.DataFrame) -> CleanRules:
    """Rules for a table: hourly fixes are tracks too, and numbers of a source's own are not judged as MMSI.

    Args:
        fixes: with the columns of ``geodiff.tracks``.
    """
    return Usual.of([fixes]).rules(None)
