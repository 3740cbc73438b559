"""What kind of station an identity belongs to, by the form of its MMSI (ITU-R M.585-9) and by its message type."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.tracks import SOURCE, VESSEL_ID
from geodiff.vessels.clean_rules import AID, BASE_STATION, DEFAULT_RULES, IMPOSSIBLE_IDENTITY, SEARCH_TRANSMITTER

AIRCRAFT = "SAR aircraft"
"""Search and rescue aircraft: moves, faster than any ship."""

BASE_SOURCES = ("nmea:4", "nmea:11")
AID_SOURCES = ("nmea:21",)
AIRCRAFT_SOURCES = ("nmea:9",)
"""Message types of ITU-R M.1371 that only such stations send."""


def station_kind(*, mmsi: bool = True) -> pl.Expr:
    """An expression over a table of fixes: what is no ship, text.

    One of the reasons for stations that are no vessel, ``AIRCRAFT``, or null for vessels.

    A ship's MMSI is MIDxxxxxx with a maritime identification digits (MID) of 201 to 775; a craft of a parent ship
    98MIDxxxx; a handheld radio 8MIDxxxxx; all three are taken as vessels.

    Args:
        mmsi: False judges by message type alone.
    """
    source = pl.col(SOURCE)
    by_source = (
        pl.when(source.is_in(BASE_SOURCES))
        .then(pl.lit(BASE_STATION))
        .when(source.is_in(AID_SOURCES))
        .then(pl.lit(AID))
        .when(source.is_in(AIRCRAFT_SOURCES))
        .then(pl.lit(AIRCRAFT))
    )
    return pl.coalesce(by_source, kind_by_number(pl.col(VESSEL_ID))) if mmsi else by_source


def is_aircraft(vessel_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n,) True for the MMSI of search and rescue aircraft, 111MIDxxx."""
    found: npt.NDArray[np.bool_] = vessel_id // 1_000_000 == 111
    return found


def fastest_kn(vessel_id: npt.NDArray[np.int64], ship_type: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(n,) how fast vessels may be thought to go, in knots, by identity and ship type."""
    limits = DEFAULT_RULES.limits
    return np.where(is_aircraft(vessel_id), limits.aircraft, limits.of_types(ship_type))


def kind_by_number(number: pl.Expr) -> pl.Expr:
    """What the form of an MMSI says: as ``station_kind``, ``IMPOSSIBLE_IDENTITY`` where it is none."""
    ship = _mid(number // 1_000_000) & (number % 111_111_111 != 0)
    craft = (number // 10_000_000 == 98) & _mid(number // 10_000 % 1000)
    radio = (number // 100_000_000 == 8) & _mid(number // 100_000 % 1000)
    aircraft = (number // 1_000_000 == 111) & _mid(number // 1000 % 1000)
    own = number > 999_999_999
    return (
        pl.when(ship | own | craft | radio)
        .then(None)
        .when(_mid(number // 10_000))
        .then(pl.lit(BASE_STATION))
        .when((number // 10_000_000 == 99) & _mid(number // 10_000 % 1000))
        .then(pl.lit(AID))
        .when((number // 1_000_000).is_in((970, 972, 974)))
        .then(pl.lit(SEARCH_TRANSMITTER))
        .when(aircraft)
        .then(pl.lit(AIRCRAFT))
        .otherwise(pl.lit(IMPOSSIBLE_IDENTITY))
    )


def _mid(digits: pl.Expr) -> pl.Expr:
    return digits.is_between(201, 775)
