"""Gaps filled in a second by the shipped model: ``pytest tests/benchmarks/bench_vessels_gaps.py -m bench -s``."""

from __future__ import annotations

import time

import pytest
import torch

from geodiff.tasks.motion_models import load_motion_model
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.cases import Tracks, impute_cases
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.spans import Span

pytestmark = pytest.mark.bench

MEMBERS = 16


@pytest.mark.parametrize("threads", [1, 2])
def test_gaps_filled_in_a_second(report, threads: int) -> None:
    """Gaps of an hour in minute data, told of all past tracks; indexing these comes before."""
    behaviours = ("transit", "ferry", "fishing", "tug")
    cleaned = clean_fixes(make_fleet(1, 200, 10.0, behaviours=behaviours, defects={}).fixes)
    model = load_motion_model("ais").with_history(TrackHistory.from_table(cleaned))
    queries = [case.query for case in impute_cases(Tracks.of(cleaned), Span(seconds=3600), most=800)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model.predict(queries[:200], members=MEMBERS, seed=0)
        began = time.perf_counter()
        model.predict(queries, members=MEMBERS, seed=0)
        seconds = time.perf_counter() - began
    finally:
        torch.set_num_threads(before)
    what = f"gaps filled with {MEMBERS} members, {threads} threads"
    report.add(what, len(queries) / seconds, "gaps/s", at_least=200 if threads == 2 else None)
