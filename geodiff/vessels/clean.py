"""Fixes to clean tracks: every row stays, says to which track it belongs or why it was rejected.

What a vessel's fixes become depends on the fixes of that vessel alone: not on their order (of rows of one instant that
of the column ``row`` counts), not on what else is in the table, so that a partition by identity gives the same answer.
Cleaning what was kept keeps it.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from geodiff.schema import UsageError
from geodiff.tracks import (
    COG,
    LAT,
    LON,
    OBSERVED,
    REASON,
    REJECTED,
    SHIP_TYPE,
    SOG,
    SOURCE,
    STATE,
    TIME,
    TRACK_ID,
    TRACK_TYPES,
    VESSEL_ID,
)
from geodiff.vessels.clean_arrays import PATIENCE_S, STAMP_S, Fixes, Floats, Index, Ints
from geodiff.vessels.clean_judge import judge, suspects
from geodiff.vessels.clean_rows import Codes, first_look, in_order
from geodiff.vessels.clean_rules import CODES, DEFAULT_RULES, REASONS, STALE, CleanRules
from geodiff.vessels.clean_stale import stale_copies
from geodiff.vessels.identity import AIRCRAFT_SOURCES, is_aircraft
from geodiff.vessels.reading import FIX_SCHEMA
from geodiff.vessels.segment import cut_tracks


def clean_fixes(fixes: pl.DataFrame, rules: CleanRules = DEFAULT_RULES) -> pl.DataFrame:
    """Clean a table of fixes.

    Args:
        fixes: columns of ``FIX_TYPES``, others are carried along; any order, any number of vessels, but all fixes of a
            vessel that are to be judged together.
        rules: what is possible.

    Returns:
        All rows, sorted by ``vessel_id`` and ``time`` (missing ones first), with three columns more: ``track_id`` (null
        where rejected), ``state`` ("observed" or "rejected") and ``reason`` (key of ``REASONS``; null where observed).
        Within a track times rise strictly.

    Raises:
        UsageError: columns are missing or of another type, or the table was cleaned before.
    """
    _check(fixes)
    ordered = in_order(fixes)
    codes = first_look(ordered, rules)
    kept = np.flatnonzero(codes == 0)
    arrays = _arrays(ordered, kept, rules)
    track = np.zeros(len(kept), np.intp)
    suspect = suspects(arrays, rules.slack_km)
    stale = stale_copies(arrays)
    if stale.any():
        codes[kept[stale]] = CODES[STALE]
        looked_at = np.isin(arrays.vessel, arrays.vessel[stale])
        looked_at[suspect] = True
        suspect = np.flatnonzero(looked_at & ~stale)
    if len(suspect):
        verdict = judge(arrays.take(suspect), rules)
        codes[kept[suspect]] = verdict.codes
        track[suspect] = verdict.track
    sound = codes[kept] == 0
    names, track = cut_tracks(arrays.take(sound) if not sound.all() else arrays, track[sound], rules)
    return _answer(ordered, codes, names, track)


def _check(fixes: pl.DataFrame) -> None:
    missing = [name for name in FIX_SCHEMA if name not in fixes.columns]
    if missing:
        raise UsageError(f"the table of fixes has no column {', '.join(missing)}: read it with a reader of vessels")
    wrong = [
        f"{name} is {fixes.schema[name]}, not {kind}" for name, kind in FIX_SCHEMA.items() if fixes.schema[name] != kind
    ]
    if wrong:
        raise UsageError(f"the table of fixes has columns of other types: {'; '.join(wrong)}")
    old = [name for name in TRACK_TYPES if name in fixes.columns]
    if old:
        raise UsageError(f"the table has columns {', '.join(old)} already: drop them before cleaning again")


def _arrays(ordered: pl.DataFrame, kept: Index, rules: CleanRules) -> Fixes:
    """The rows ``kept`` as arrays; stamps taken as good to a second."""
    columns = [VESSEL_ID, TIME, LON, LAT, SOG, COG, SHIP_TYPE, SOURCE]
    rows = ordered.select(columns) if len(kept) == ordered.height else ordered.select(columns)[kept]
    vessel = rows[VESSEL_ID].to_numpy()
    sog, cog = (rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in (SOG, COG))
    place = rows[LON].to_numpy(), rows[LAT].to_numpy()
    limit = _limits(rows, vessel, rules)
    alike = (np.broadcast_to(each, len(vessel)) for each in (STAMP_S, PATIENCE_S))
    return Fixes(vessel, rows[TIME].to_physical().to_numpy(), *place, sog, cog, limit, *alike)


def _limits(rows: pl.DataFrame, vessel: Ints, rules: CleanRules) -> Floats:
    """(n,) limit of speed in knots of what each row says it is."""
    found = rules.limits.of_types(rows[SHIP_TYPE].fill_null(0).to_numpy())
    flown = rows[SOURCE].is_in(AIRCRAFT_SOURCES).fill_null(False).to_numpy()
    if rules.mmsi:
        flown = flown | is_aircraft(vessel)
    found[flown] = rules.limits.aircraft
    return found


def _answer(ordered: pl.DataFrame, codes: Codes, names: pl.Series, track: Index) -> pl.DataFrame:
    """The table with its three columns; ``track`` says which of the ``names`` each row that is kept has, in order."""
    rejected = codes > 0
    name = np.zeros(len(codes), np.intp)
    name[~rejected] = track
    return ordered.with_columns(
        names.gather(pl.Series(name).set(pl.Series(rejected), None)).alias(TRACK_ID),
        pl.Series(STATE, [OBSERVED, REJECTED]).gather(rejected.astype(np.uint8)),
        pl.Series(REASON, [None, *REASONS], dtype=pl.String).gather(codes),
    )
