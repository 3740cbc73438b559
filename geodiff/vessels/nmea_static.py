"""Static data of ships, joined to their fixes by time.

A fix gets of each item (name, type, size and so on) the latest that its ship had sent by then, or, where it had sent
none yet, the first that it sent later.
"""

from __future__ import annotations

import polars as pl

from geodiff.tracks import SHIP_TYPE, STATIC_TYPES, TIME, VESSEL_ID
from geodiff.vessels.nmea_ship import STATIC_SCHEMA

ITEMS = (SHIP_TYPE, *STATIC_TYPES)

COMPACT_ROWS = 200_000
"""Reports held before those that only say again what was said are dropped."""


class StaticLog:
    """All that ships said of themselves; memory grows with what they change, not with how often they say it."""

    def __init__(self) -> None:
        self._frames: list[pl.DataFrame] = [STATIC_SCHEMA.to_frame()]
        self._rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take timed reports, columns as ``STATIC_SCHEMA``."""
        self._frames.append(frame)
        self._rows += frame.height
        if self._rows > COMPACT_ROWS:
            compact = _compact(pl.concat(self._frames))
            # What is left counts for half: a fleet that does change is not sorted again for every frame.
            self._frames, self._rows = [compact], min(compact.height, COMPACT_ROWS) // 2

    def table(self, known_by_us: int) -> pl.DataFrame:
        """(report,) by time: what is known of a ship from then on, and for its first report also until then.

        Reports after ``known_by_us`` are not known.
        """
        known = pl.concat(self._frames).filter(pl.col("time_us") <= known_by_us)
        ordered = known.sort("mmsi", "time_us", "row", "kind")
        filled = ordered.with_columns(pl.col(ITEMS).forward_fill().backward_fill().over("mmsi"))
        return filled.select("mmsi", "time_us", *ITEMS).sort("time_us", maintain_order=True)


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the inner ones of a run of equal reports: the last is kept, for another may yet come in between."""
    said = pl.struct("mmsi", "kind", *ITEMS)
    ordered = frame.sort("mmsi", "kind", "time_us", "row").with_columns(said.hash().alias("said"))
    change = pl.col("said").ne_missing(pl.col("said").shift(1)) | pl.col("said").ne_missing(pl.col("said").shift(-1))
    return ordered.filter(change).drop("said")


def join_static(fixes: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Fixes with the columns ``ITEMS``.

    Args:
        fixes: columns ``VESSEL_ID`` and ``TIME`` at least, in any order, which is kept.
        table: of ``StaticLog.table``.
    """
    time_us = pl.col(TIME).dt.timestamp("us").alias("time_us")
    first = table.unique("mmsi", keep="first", maintain_order=True).drop("time_us")
    asked = fixes.select(pl.col(VESSEL_ID).alias("mmsi"), time_us).with_row_index("place").sort("time_us")
    known = asked.join_asof(
        table.with_columns(heard=True), on="time_us", by="mmsi", strategy="backward", check_sortedness=False
    )
    later = known.filter(pl.col("heard").is_null()).select("place", "mmsi").join(first, on="mmsi", how="left")
    items = pl.concat(
        [known.filter(pl.col("heard").is_not_null()).select("place", *ITEMS), later.select("place", *ITEMS)]
    )
    return fixes.with_columns(items.sort("place").drop("place"))
