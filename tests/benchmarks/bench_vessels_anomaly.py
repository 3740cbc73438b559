"""Speed of anomaly scoring with a classical model: ``pytest tests/benchmarks/bench_vessels_anomaly.py -m bench -s``."""

from __future__ import annotations

import time

import pytest

from geodiff.testing.tracks import make_fleet
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.scoring_calibrate import learn
from geodiff.vessels.scoring_tracks import score_tracks

pytestmark = pytest.mark.bench


def test_fixes_scored_in_a_second() -> None:
    behaviours = ("transit", "ferry", "fishing", "moored", "tug")
    cleaned = clean_fixes(make_fleet(1, 400, 8.0, behaviours=behaviours, defects={}).fixes)
    began = time.process_time()
    calibration = learn(cleaned, Hermite()).calibration()
    middle = time.process_time()
    scored = score_tracks(cleaned, Hermite(), calibration)
    ended = time.process_time()
    rows = len(scored.fixes)
    print(  # noqa: T201
        f"\n{rows:,} fixes: calibrated in {middle - began:.1f} s, scored in {ended - middle:.1f} s of one core, "
        f"{rows / (ended - middle):,.0f} fixes/s"
    )
