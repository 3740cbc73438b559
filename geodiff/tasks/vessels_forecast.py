"""Where vessels will be: beyond the last fix of each, with an ensemble, and not on land."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from geodiff.tasks.vessels_answers import answer_rows
from geodiff.tasks.vessels_coast import MORE, Coast, avoid_land
from geodiff.tasks.vessels_gaps import Sent, end_question, heard_elsewhere, lies_still
from geodiff.tasks.vessels_impute import check_cleaned
from geodiff.tasks.vessels_settings import ForecastSettings
from geodiff.tracks import FORECAST, STATE, TIME, TRACK_ID, MotionModel


def known_by(fixes: pl.DataFrame, at: datetime | None) -> pl.DataFrame:
    """The fixes up to a time; all where it is None. Cleaning comes after: later fixes judge earlier ones."""
    return fixes if at is None else fixes.filter(pl.col(TIME) <= at)


def forecast_tracks(
    cleaned: pl.DataFrame,
    model: MotionModel,
    settings: ForecastSettings,
    *,
    coast: Coast | None = None,
    away: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Forecast every vessel.

    At the multiples of the step after the last fix of each vessel, up to ``settings.hours`` after it. A vessel that lay
    still when last heard is not modelled, but counted; with ``settings.at`` so is one whose forecast would have ended
    before that time.

    Args:
        cleaned: as of ``impute_tracks``; with ``settings.at`` of fixes up to then (``known_by``).
        model: of motion, told of no fix after ``settings.at``.
        settings: how far, and how.
        coast: land that members may not cross; see ``vessels_coast.avoid_land``.
        away: fixes outside the region of the table, columns ``AWAY``: a vessel that was last heard there is not
            forecast, but counted.

    Returns:
        The table with rows of state "forecast" among the others, by track and time, and counts. Forecasts that the
        table had give way to them.

    Raises:
        UsageError: the table was not cleaned.
    """
    check_cleaned(cleaned)
    cleaned = cleaned.filter(pl.col(STATE) != FORECAST)
    sent = Sent.of(cleaned)
    last = sent.first[1:] - 1
    still = lies_still(sent)
    silent = np.zeros(len(last), bool)
    if settings.at is not None:
        silent = sent.time_s[last] + settings.hours * 3600 <= settings.at.timestamp()
    counts = {
        "vessels: asked": len(last),
        "vessels: moored": int((still & ~silent).sum()),
        "vessels: silent too long": int(silent.sum()),
    }
    gone = np.zeros(len(last), bool)
    if away is not None:
        gone = heard_elsewhere(sent, last, np.full(len(last), np.inf), away)
        counts["vessels: left the region"] = int((gone & ~still & ~silent).sum())
    chosen = np.flatnonzero(~still & ~silent & ~gone).tolist()
    questions = ((int(sent.row[last[k]]), end_question(sent, k, settings.hours, settings.step_s)) for k in chosen)
    land = None if coast is None else avoid_land(coast, model, settings.ensemble, settings.seed, counts)
    rows = answer_rows(
        cleaned,
        ((row, query) for row, query in questions if len(query.ask_s)),
        model,
        state=FORECAST,
        ensemble=settings.ensemble,
        seed=settings.seed,
        members=settings.members,
        mend=land,
        redrawn=0 if land is None else MORE * settings.ensemble,
    )
    whole = pl.concat([cleaned, rows], how="diagonal_relaxed")
    whole = whole.sort(TRACK_ID, TIME, nulls_last=True, maintain_order=True)
    return whole, {**counts, "vessels: forecast": len(chosen), "forecast fixes": rows.height}
