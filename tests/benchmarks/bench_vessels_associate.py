"""Speed, memory and quality of association on one core, at the density of a busy port and over a long stream."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from geodiff.metrics.association import association_score
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import TIME, TRACK_ID
from geodiff.vessels.associate import RADAR, AssociateSettings, associate, associate_batches

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

PORT = (-76.35, 36.9, -76.0, 37.05)
"""A rectangle of the size of Hampton Roads; 40 vessels at 30 s are about 60 fixes a minute."""
TARGET_PER_S = 1_000


def _port(hours: float) -> tuple[pl.DataFrame, np.ndarray]:
    fleet = make_fleet(1, 40, hours, interval_s=30.0, defects={}, region=PORT)
    order = fleet.fixes[TIME].arg_sort()
    return fleet.fixes[order], fleet.truth["vessel"].to_numpy().astype(np.int64)[order.to_numpy()]


def test_ais_of_a_port(report: Report) -> None:
    fixes, vessel = _port(4.0)
    associate(fixes[:2000])
    began = time.process_time()
    found = associate(fixes)
    rate = len(fixes) / (time.process_time() - began)
    score = association_score(vessel, found[TRACK_ID].rank("dense").cast(pl.Int64).to_numpy())
    report.add("association, AIS of a port", rate, "fixes/s a core", at_least=TARGET_PER_S)
    report.add("association, purity", score.purity, "", at_least=0.9)
    report.add("association, completeness", score.completeness, "")


def _peak_mb(fixes: pl.DataFrame, settings: AssociateSettings) -> float:
    tracemalloc.start()
    for _ in associate_batches((fixes[at : at + 2000] for at in range(0, len(fixes), 2000)), settings):
        pass
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak


def test_memory_over_a_stream(report: Report) -> None:
    fixes, _ = _port(12.0)
    settings = AssociateSettings(block_rows=4000)
    short, long = (_peak_mb(fixes[: len(fixes) // part], settings) for part in (3, 1))
    report.add("association, numpy memory of a stream", long, "MB")
    report.add("association, memory at 3 x the length", long / short, "x", at_most=1.25)


def test_radar_with_clutter(report: Report) -> None:
    rng = np.random.default_rng(0)
    scans, each = 400, 25
    seconds = np.repeat(1.5 * np.arange(scans), each)
    place = rng.uniform(-500, 500, (scans * each, 2))
    # Five targets in each scan of 25 plots go there and back.
    target = np.arange(scans * each) % each
    place[target < 5, 0] = 400 * np.sin(0.01 * seconds[target < 5] + target[target < 5])
    place[target < 5, 1] = 80 * target[target < 5]
    plots = pl.DataFrame(
        {
            TIME: pl.Series(((1.6e9 + seconds) * 1e6).astype("i8")).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "lon_deg": 10.4 + place[:, 0] / 50_000,
            "lat_deg": 63.4 + place[:, 1] / 111_000,
        }
    )
    began = time.process_time()
    associate(plots, RADAR)
    rate = len(plots) / (time.process_time() - began)
    report.add("association, radar with clutter", rate, "plots/s a core", at_least=TARGET_PER_S)
