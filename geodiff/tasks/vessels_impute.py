"""Gaps of tracks filled with an ensemble; observed fixes are never moved."""

from __future__ import annotations

import polars as pl

from geodiff.schema import UsageError
from geodiff.tasks.vessels_answers import answer_rows
from geodiff.tasks.vessels_gaps import Sent, find_gaps, gap_question
from geodiff.tasks.vessels_settings import ImputeSettings
from geodiff.tracks import IMPUTED, STATE, TIME, TRACK_ID, MotionModel


def impute_tracks(
    cleaned: pl.DataFrame,
    model: MotionModel,
    settings: ImputeSettings,
    *,
    fleet_s: float = float("nan"),
    away: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fill the gaps of tracks.

    A gap is a silence of a vessel longer than two steps and than three of its usual intervals, within a track or
    between two tracks of one vessel. It is filled at the multiples of the step, up to the longest gap. A vessel that
    lies still at both ends of a gap, in one place, is not modelled: its gap is counted as moored. Imputed fixes belong
    to the track that they continue.

    Args:
        cleaned: columns of ``geodiff.tracks`` with track and state; all fixes of each vessel.
        model: of motion.
        settings: what is filled and how.
        fleet_s: usual interval of the whole fleet in seconds, for vessels of few fixes; NaN where unknown.
        away: fixes outside the region of the table, columns ``AWAY``: what lies about them is no gap.

    Returns:
        The table with rows of state "imputed" among the others, by track and time, and counts. Imputed rows that the
        table had give way to them.

    Raises:
        UsageError: the table was not cleaned.
    """
    check_cleaned(cleaned)
    cleaned = cleaned.filter(pl.col(STATE) != IMPUTED)
    sent = Sent.of(cleaned)
    longest_s = settings.longest_h * 3600
    gaps = find_gaps(sent, step_s=settings.step_s, longest_s=longest_s, fleet_s=fleet_s, away=away)
    rows = answer_rows(
        cleaned,
        ((int(sent.row[before]), gap_question(sent, before, settings.step_s)) for before in gaps.filled.tolist()),
        model,
        state=IMPUTED,
        ensemble=settings.ensemble,
        seed=settings.seed,
        members=settings.members,
    )
    whole = pl.concat([cleaned, rows], how="diagonal_relaxed")
    whole = whole.sort(TRACK_ID, TIME, nulls_last=True, maintain_order=True)
    return whole, {**gaps.counts(), "imputed fixes": rows.height}


def check_cleaned(table: pl.DataFrame) -> None:
    """Raises UsageError where a table has no tracks and states."""
    missing = [name for name in (TRACK_ID, STATE) if name not in table.columns]
    if missing:
        raise UsageError(f"the table has no column {', '.join(missing)}: clean it first")
