"""What notebooks hand to the jobs: GeoDataFrames as fixes or clean tracks, and a model told of the past."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from geodiff.schema import UsageError
from geodiff.tasks.motion_models import Historic, load_motion_model, regions_here
from geodiff.tasks.vessels_context import history_of, past_of
from geodiff.tasks.vessels_forecast import known_by
from geodiff.tasks.vessels_job import clean_counts, nothing_left
from geodiff.tasks.vessels_own import identified_by_track
from geodiff.tasks.vessels_settings import MotionSettings
from geodiff.tracks import (
    FORECAST,
    GENERATED,
    IMPUTED,
    LAT,
    LON,
    OBSERVED,
    REASON,
    STATE,
    TIME,
    TRACK_ID,
    TRACK_TYPES,
    MotionModel,
)
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.convert import from_geodataframe
from geodiff.vessels.usual_rules import Usual

if TYPE_CHECKING:
    import geopandas as gpd


def clean_table(fixes: pl.DataFrame, gap_h: float | None = None) -> pl.DataFrame:
    """Clean tracks of fixes, by the rules that suit how they report; a silence of ``gap_h`` hours ends a track.

    Each track that association found is a vessel.
    """
    plain = sent_fixes(identified_by_track(fixes) if TRACK_ID in fixes.columns else fixes)
    return clean_fixes(plain, Usual.of([plain]).rules(None if gap_h is None else gap_h * 3600))


def sent_fixes(fixes: pl.DataFrame) -> pl.DataFrame:
    """What somebody sent, as if never judged: positions that a model made of tracks are no fixes."""
    if STATE in fixes.columns:
        made = pl.col(STATE).cast(pl.String, strict=False).is_in([IMPUTED, FORECAST, GENERATED])
        fixes = fixes.filter(~made.fill_null(False))
    return fixes.drop(list(TRACK_TYPES), strict=False)


def track_table(frame: gpd.GeoDataFrame, at: datetime | None = None) -> pl.DataFrame:
    """The table of tracks that a GeoDataFrame holds, up to a time; cleaned where it has none."""
    table = from_geodataframe(frame)
    if at is not None and not table.is_empty() and known_by(table, at).is_empty():
        raise UsageError(f"at {at}: all {len(table):,} fixes of the table come later")
    if TRACK_ID not in table.columns and STATE not in table.columns:
        cleaned = clean_table(known_by(table, at))
        counts = clean_counts(cleaned)
        if not counts["kept"]:
            raise nothing_left("table", counts, len(table))
        return cleaned
    if not {TRACK_ID, STATE} <= set(table.columns):
        raise UsageError(f"a table of tracks has both {TRACK_ID} and {STATE}: clean it first")
    _check_places(table)
    named = identified_by_track(known_by(table, at))
    return named if REASON in named.columns else named.with_columns(pl.lit(None, pl.String).alias(REASON))


def _check_places(table: pl.DataFrame) -> None:
    observed = (pl.col(STATE) == OBSERVED) & pl.col(TRACK_ID).is_not_null()
    placed = pl.col(LON).is_between(-180, 180) & pl.col(LAT).is_between(-90, 90) & pl.col(TIME).is_not_null()
    wrong = table.with_row_index("_row").filter(observed & ~placed.fill_null(False))
    if len(wrong):
        raise UsageError(
            f"row {wrong['_row'][0] + 1}: an observed fix without a time or a place on Earth, one of {len(wrong):,}: "
            f"clean the fixes again, without {TRACK_ID} and {STATE}"
        )


def calibrated_model(model: MotionModel, settings: MotionSettings, cleaned: pl.DataFrame) -> MotionModel:
    """The model with its regions calibrated on the table."""
    found = regions_here(model, [cleaned.lazy()], lambda: model, seed=settings.seed) if settings.calibrated else None
    return model if found is None else found.of(model)


def told_model(
    name: str, cleaned: pl.DataFrame, history: gpd.GeoDataFrame | None, at: datetime | None = None
) -> MotionModel:
    """The model, told of past tracks."""
    model = load_motion_model(name)
    if not isinstance(model, Historic):
        return model
    return model.with_history(history_of([past_of(cleaned if history is None else track_table(history, at))]))
