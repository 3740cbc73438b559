"""The conformance cases: what the truth says of each row."""

from __future__ import annotations

from itertools import product

import polars as pl
import pytest

import geodiff.testing.tracks_cases_identity
import geodiff.testing.tracks_cases_jumps
import geodiff.testing.tracks_cases_rows
import geodiff.testing.tracks_cases_sound  # noqa: F401 (registers its cases)
from geodiff.testing.tracks_cases import CASES, START_S, Case, Row
from geodiff.vessels.clean import clean_fixes


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    found = clean_fixes(CASES[name].fixes(), CASES[name].rules)
    assert CASES[name].faults(found) == []


@pytest.mark.parametrize("name", CASES)
def test_order_of_rows_does_not_matter(name: str) -> None:
    fixes, rules = CASES[name].fixes(), CASES[name].rules
    assert clean_fixes(fixes.reverse(), rules).equals(clean_fixes(fixes, rules))


def test_all_cases_in_one_table_keep_their_answers() -> None:
    """Vessels do not disturb one another: each case gets an identity of its own."""
    parts, alone = [], []
    for number, (name, case) in enumerate(CASES.items()):
        if case.rules == CASES["straight track"].rules and "nmea" not in str(case.rows) and "identit" not in name:
            part = case.fixes().filter(pl.col("vessel_id") == 219_000_001)
            part = part.with_columns(vessel_id=219_000_001 + pl.lit(number, pl.Int64))
            parts.append(part)
            alone.append(clean_fixes(part))
    assert len(parts) > 40
    assert clean_fixes(pl.concat(parts)).equals(pl.concat(alone))


def test_a_tangled_neighbour_does_not_disturb_a_vessel() -> None:
    """An identity of fourteen units that are heard in bursts takes many rounds to sort out."""
    case = CASES["hourly satellite track with an outlier"]
    alone = clean_fixes(case.fixes(), case.rules)
    units = [
        Row(START_S + 600.0 * burst + unit, -30.0 + 0.006 * unit, 20.0, vessel_id=219_000_002)
        for burst, unit in product(range(10), range(14))
    ]
    both = clean_fixes(pl.concat([case.fixes(), Case("units", tuple(units)).fixes()]), case.rules)
    assert both.filter(pl.col("vessel_id") == 219_000_001).equals(alone)
