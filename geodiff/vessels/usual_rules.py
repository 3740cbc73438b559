"""Rules of cleaning that suit a table: read off how often its vessels report, and how it numbers them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from geodiff.tracks import TIME, VESSEL_ID
from geodiff.vessels.clean_rules import DEFAULT_RULES, CleanRules

SILENT_STEPS: Final = 3.0
"""A silence of so many usual intervals ends a track, where that is longer than the rule."""

LONGEST_GAP_S: Final = 86_400.0
LARGEST_MMSI: Final = 999_999_999
OWN_SHARE: Final = 0.01
"""Share of identities above every MMSI from which a source counts as one that numbers vessels its own way."""


def usual_interval_s(fixes: pl.DataFrame) -> float:
    """Median over vessels of the median seconds between their fixes; NaN where no vessel has two.

    Each vessel counts once: two that report every minute do not shred the tracks of nine that report hourly.
    """
    known = fixes.select(VESSEL_ID, TIME).drop_nulls().unique().sort(VESSEL_ID, TIME)
    step = pl.col(TIME).diff().dt.total_microseconds() / 1e6
    middle = known.group_by(VESSEL_ID).agg(step.median().alias("step"))["step"].drop_nulls().median()
    return float("nan") if middle is None else float(middle)  # type: ignore[arg-type]


def usual_rules(fixes: pl.DataFrame, rules: CleanRules = DEFAULT_RULES) -> CleanRules:
    """Rules for a table: hourly fixes are tracks too, and numbers of a source's own are not judged as MMSI.

    Args:
        fixes: with the columns of ``geodiff.tracks``.
        rules: for all else.
    """
    interval = usual_interval_s(fixes)
    gap = rules.gap_s if np.isnan(interval) else max(rules.gap_s, min(SILENT_STEPS * interval, LONGEST_GAP_S))
    ids = fixes[VESSEL_ID].drop_nulls().unique().to_numpy()
    own = len(ids) > 0 and float((ids > LARGEST_MMSI).mean()) > OWN_SHARE
    return replace(rules, gap_s=gap, mmsi=rules.mmsi and not own)
