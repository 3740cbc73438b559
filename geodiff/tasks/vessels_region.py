"""The region of a run over tracks: what lies inside, and when vessels were elsewhere."""

from __future__ import annotations

import polars as pl

from geodiff.config import Bbox
from geodiff.tasks.vessels_forecast import known_by
from geodiff.tasks.vessels_settings import TrackSettings
from geodiff.tracks import LAT, LON, TIME, VESSEL_ID


def taken_fixes(fixes: pl.DataFrame, settings: TrackSettings) -> pl.DataFrame:
    """Those inside the region, up to the time that is known."""
    known = known_by(fixes, getattr(settings, "at", None))
    return known if settings.bbox is None else known.filter(_within(settings.bbox))


def elsewhere(fixes: pl.DataFrame, settings: TrackSettings) -> pl.DataFrame:
    """Identity and time of those outside it, up to then: a vessel that leaves the region has not fallen silent."""
    within = pl.lit(True) if settings.bbox is None else _within(settings.bbox).fill_null(False)
    outside = ~within & pl.col(VESSEL_ID).is_not_null()
    return known_by(fixes, getattr(settings, "at", None)).filter(outside).select(VESSEL_ID, TIME)


def _within(bbox: Bbox) -> pl.Expr:
    west, south, east, north = bbox
    lon = pl.col(LON)
    across = lon.is_between(west, east) if west <= east else (lon >= west) | (lon <= east)
    return across & pl.col(LAT).is_between(south, north)
