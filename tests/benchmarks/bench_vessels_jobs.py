"""The whole NOAA day through clean, impute and score, as a user runs them: time, and memory of all processes together.

Each job runs as a command of its own on two workers; impute and score read what clean wrote. Without the real data a
synthetic fleet takes its place, which says how memory and time behave but is no day of a coast.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import psutil
import pytest

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

TARGET_S, TARGET_MB = 900.0, 4000.0
WORKERS = 2
TICK_S = 0.2
FLEET_VESSELS, COPIES = 90, 8


def _input(folder: Path) -> tuple[Path, str]:
    from geodiff.config import data_dir

    data = data_dir()
    if data is not None:
        return data / "ais" / "noaa_2020-01-01.parquet", "NOAA day"
    from geodiff.testing.tracks import make_fleet

    fixes = make_fleet(0, FLEET_VESSELS, 24.0).fixes
    copies = [fixes.with_columns(pl.col("vessel_id") + 10_000 * copy) for copy in range(COPIES)]
    pl.concat(copies).write_parquet(folder / "fleet.parquet")
    return folder / "fleet.parquet", "synthetic fleet"


def _run(job: str, source: Path, out: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and the largest memory of the processes of a job together in MB."""
    command = [sys.executable, "-c", "from geodiff.cli import main; main()", "vessels", job, str(source)]
    command += ["--out", str(out), "--workers", str(WORKERS)]
    started, before = time.monotonic(), psutil.Process().cpu_times()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, sum(each.memory_info().rss for each in (watched, *watched.children(recursive=True))))
        time.sleep(TICK_S)
    assert process.returncode == 0, job
    after = psutil.Process().cpu_times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, cpu, peak / 1e6


def test_a_day_through_three_jobs(tmp_path: Path, report: Report) -> None:
    source, what = _input(tmp_path)
    out, total = tmp_path / "out", 0.0
    for job in ("clean", "impute", "score"):
        seconds, cpu, memory = _run(job, source, out)
        report.add(f"vessels {job}, {what}", seconds, "s")
        report.add(f"vessels {job}, {what}, processor", cpu, "s")
        report.add(f"vessels {job}, {what}, memory", memory, "MB", at_most=TARGET_MB)
        total += seconds
        if job == "clean":
            source = Path(json.loads((out / "summary.json").read_text())["files"]["fixes"])
    report.add(f"vessels clean, impute, score, {what}", total, "s", at_most=TARGET_S)
