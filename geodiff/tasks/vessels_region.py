"""The region of a run over tracks: what lies inside, and when vessels were elsewhere."""

from __future__ import annotations

import numpy as np
import polars as pl

from geodiff.config import Bbox
from geodiff.tasks.vessels_forecast import known_by
from geodiff.tasks.vessels_gaps import AWAY, Sent, heard_elsewhere
from geodiff.tasks.vessels_settings import TrackSettings
from geodiff.tracks import LAT, LON, TRACK_ID, VESSEL_ID
from geodiff.vessels.scoring_fixes import ELSEWHERE


def taken_fixes(fixes: pl.DataFrame, settings: TrackSettings) -> pl.DataFrame:
    """Those inside the region, up to the time that is known."""
    known = known_by(fixes, getattr(settings, "at", None))
    return known if settings.bbox is None else known.filter(_within(settings.bbox))


def elsewhere(fixes: pl.DataFrame, settings: TrackSettings) -> pl.DataFrame:
    """Who, when and where those outside it were, up to then: a vessel that leaves the region has not fallen silent."""
    within = pl.lit(True) if settings.bbox is None else _within(settings.bbox).fill_null(False)
    outside = ~within & pl.all_horizontal(pl.col(VESSEL_ID, LON, LAT).is_not_null())
    return known_by(fixes, getattr(settings, "at", None)).filter(outside).select(AWAY)


def cut_where_away(cleaned: pl.DataFrame, away: pl.DataFrame) -> pl.DataFrame:
    """A cleaned table whose tracks end where the vessel left the region, for what judges the way between two fixes.

    Args:
        cleaned: sorted by vessel and time, as cleaning leaves it.
        away: what ``elsewhere`` found.

    Returns:
        The table with the column ``ELSEWHERE``, and pieces of tracks that end in ``PIECE``.
    """
    sent = Sent.of(cleaned)
    before = np.flatnonzero(np.diff(sent.sender) == 0)
    back = np.zeros(len(cleaned), bool)
    back[sent.row[before + 1]] = heard_elsewhere(sent, before, sent.time_s[before + 1], away)
    piece = pl.col(ELSEWHERE).cast(pl.Int64).cum_sum().over(TRACK_ID)
    named = pl.when(piece > 0).then(pl.format("{}~{}", TRACK_ID, piece)).otherwise(TRACK_ID).alias(TRACK_ID)
    return cleaned.with_columns(pl.Series(ELSEWHERE, back)).with_columns(named)


def _within(bbox: Bbox) -> pl.Expr:
    west, south, east, north = bbox
    lon = pl.col(LON)
    across = lon.is_between(west, east) if west <= east else (lon >= west) | (lon <= east)
    return across & pl.col(LAT).is_between(south, north)
