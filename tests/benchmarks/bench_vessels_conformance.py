"""What other tools make of the conformance cases: a table, not a gate.

Each tool gets the rows of a case and does what its users do: movingpandas' speed-based cleaner and gap splitter, the
usual few lines of pandas. They are asked for the right rows in the right tracks only, not for reasons. Cases about
the form of identities and missing values are left out: no other tool has rules for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl
import pytest

import geodiff.testing.tracks_cases_identity
import geodiff.testing.tracks_cases_jumps
import geodiff.testing.tracks_cases_rows
import geodiff.testing.tracks_cases_sound  # noqa: F401 (registers its cases)
from geodiff.sphere import KM_PER_NMI, distance_km
from geodiff.testing.tracks_cases import CASES, Case
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.clean_rules import CLOCK_JUMP, CODES, CONFLICT, DUPLICATE, JUMP, SAME_INSTANT

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

LIMIT_KN = 60.0
OTHERS = set(CODES) - {DUPLICATE, SAME_INSTANT, CONFLICT, JUMP, CLOCK_JUMP}


def _pandas(case: Case) -> pl.DataFrame:
    """Sort, drop duplicates, drop what is too fast from the row before, split at gaps."""
    fixes = case.fixes().to_pandas().sort_values(["vessel_id", "time"]).drop_duplicates(["vessel_id", "time"])
    before = fixes.groupby("vessel_id")[["lon_deg", "lat_deg", "time"]].shift()
    hours = (fixes["time"] - before["time"]).dt.total_seconds() / 3600
    reach = distance_km(before["lon_deg"], before["lat_deg"], fixes["lon_deg"], fixes["lat_deg"]) / KM_PER_NMI
    fixes = fixes[~(reach / hours > LIMIT_KN)]
    wait = fixes.groupby("vessel_id")["time"].diff().dt.total_seconds()
    name = (
        fixes["vessel_id"].astype(str)
        + "/"
        + (wait > case.rules.gap_s).groupby(fixes["vessel_id"]).cumsum().astype(str)
    )
    return _answer(fixes["row"], name)


def _movingpandas(case: Case) -> pl.DataFrame:
    """``OutlierCleaner`` with a limit of speed, then ``ObservationGapSplitter``."""
    import movingpandas

    fixes = case.fixes().to_pandas().assign(time=lambda table: table["time"].dt.tz_localize(None))
    tracks = movingpandas.TrajectoryCollection(
        fixes, traj_id_col="vessel_id", t="time", x="lon_deg", y="lat_deg", min_length=-1
    )
    cleaned = movingpandas.OutlierCleaner(tracks).clean(v_max=LIMIT_KN, units=("nm", "h"))
    parts = movingpandas.ObservationGapSplitter(cleaned).split(
        gap=pd.Timedelta(seconds=case.rules.gap_s), min_length=-1
    )
    rows = [(int(row), str(part.id)) for part in parts for row in part.df["row"]]
    return _answer(
        pd.Series([row for row, _ in rows], dtype=np.int64), pd.Series([name for _, name in rows], dtype=str)
    )


def _answer(row: pd.Series, name: pd.Series) -> pl.DataFrame:
    table = pl.DataFrame(
        {"row": row.to_numpy(), "track_id": name.to_numpy()}, schema={"row": pl.Int64, "track_id": pl.String}
    )
    return table.with_columns(state=pl.lit("observed"), reason=pl.lit(None, pl.String))


TOOLS: dict[str, Callable[[Case], pl.DataFrame]] = {
    "geodiff": lambda case: clean_fixes(case.fixes(), case.rules),
    "movingpandas": _movingpandas,
    "pandas": _pandas,
}


def _verdict(tool: str, case: Case) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            faults = case.faults(TOOLS[tool](case), reasons=False)
        except Exception as error:  # a peer may raise anything at all; that is a finding
            return type(error).__name__
    return f"{len(faults)} wrong" if faults else "right"


def test_conformance_of_peers(report: Report) -> None:
    cases = [case for case in CASES.values() if not OTHERS & {row.fate for row in case.rows}]
    rows = [(case.name, *(_verdict(tool, case) for tool in TOOLS)) for case in cases]
    totals = [sum(row[1 + index] == "right" for row in rows) for index in range(len(TOOLS))]
    report.add_table("Conformance cases", ("case", *TOOLS), [*rows, ("right, of " + str(len(rows)), *map(str, totals))])
    for tool, total in zip(TOOLS, totals, strict=True):
        report.add(f"conformance cases right: {tool}", total, f"of {len(rows)}")
