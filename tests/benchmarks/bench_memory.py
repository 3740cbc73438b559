"""Memory and disk of the whole job, run as a user runs it: neither may grow with the region beyond its output.

The region is synthetic: a landscape repeated over the area, three dates, written as Sentinel-2 scenes. The model is the
trivial one (bicubic), since what is measured is everything around it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from geodiff.grid import Grid
from geodiff.testing.landscape import landscape
from geodiff.testing.scenes import SceneData, encode, write_catalog

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

BANDS = ("B02", "B03", "B04", "B08")
PIECE_PX = 1000
RSS_LIMIT_MB, DISK_LIMIT = 1500.0, 1.1
TICK_S = 0.05


@dataclass
class Usage:
    """What a process took.

    Attributes:
        seconds: wall time.
        rss_mb: largest resident memory of the process and its children, 10^6 bytes.
        disk_bytes: largest size of the output folder, work folders and temporary files included.
        left_bytes: its size at the end.
        output: what the process printed.
    """

    seconds: float
    rss_mb: float
    disk_bytes: int
    left_bytes: int
    output: str


def folder_bytes(folder: Path) -> int:
    """Bytes of all files; files that go while we look do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
        except OSError:
            continue
    return total


def resident_mb(process: psutil.Process) -> float:
    """Resident memory of a process and its children at this moment."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:
        pass
    return total / 1e6


def measure(command: list[str], folder: Path) -> Usage:
    """Run a command and look at its memory and at ``folder`` while it runs.

    The rusage of a child begins with the memory of its parent on Linux, so that it cannot be used here.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watched, peak, disk = psutil.Process(process.pid), 0.0, 0
    done = threading.Event()

    def watch_disk() -> None:
        nonlocal disk
        while not done.wait(10 * TICK_S):
            disk = max(disk, folder_bytes(folder))

    watcher = threading.Thread(target=watch_disk)
    watcher.start()
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(process.stdout or ()))
    reader.start()
    while process.poll() is None:
        peak = max(peak, resident_mb(watched))
        time.sleep(TICK_S)
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    reader.join()
    if process.stdout:
        process.stdout.close()
    text = "".join(output)
    assert process.returncode == 0, text[-3000:]
    left = folder_bytes(folder)
    return Usage(seconds, peak, max(disk, left), left, text)


def scenes(grid: Grid) -> Iterator[SceneData]:
    """Three dates of a landscape that repeats itself; the second is cloudy along a stripe of each piece."""
    ground = landscape((PIECE_PX, PIECE_PX), pixel_m=10.0, seed=1)
    generator = np.random.default_rng(0)
    again = [-(-side // PIECE_PX) for side in grid.shape]
    for number, day in enumerate((3, 13, 23)):
        seen = ground * (1 + 0.05 * number) + generator.normal(0, 0.002, ground.shape).astype(np.float32)
        numbers = encode(seen, carried=False)
        tiled = {
            band: np.tile(piece, again)[: grid.shape[0], : grid.shape[1]]
            for band, piece in zip(BANDS, numbers, strict=True)
        }
        classes = np.full((PIECE_PX // 2, PIECE_PX // 2), 4, np.uint8)
        classes[:, 100:180] = 9 if number == 1 else 4
        scl = np.tile(classes, again)[: -(-grid.shape[0] // 2), : -(-grid.shape[1] // 2)]
        when = datetime(2021, 7, day, 10, 50, tzinfo=UTC)
        yield SceneData(f"S2A_SYN_{when:%Y%m%d}_0_L2A", when, grid, tiled, scl)


@pytest.mark.parametrize("side_km", [int(km) for km in os.environ.get("GEODIFF_BENCH_KM", "10,50").split(",")])
def test_memory_and_disk(tmp_path: Path, side_km: int, report: Report) -> None:
    grid = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_700_000.0), (side_km * 100, side_km * 100))
    catalog = write_catalog(scenes(grid), tmp_path / "scenes")
    west, south, east, north = grid.bounds_wgs84
    inset = 1e-4
    bbox = [west + inset, south + inset, east - inset, north - inset]
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", "from geodiff.cli import main; main()", "superres"]
    command += ["--catalog", str(catalog), "--bbox", *(f"{value:.6f}" for value in bbox), "--crs", "native"]
    command += [
        "--datetime",
        "2021-07-01/2021-07-31",
        "--target",
        "2021-07-13",
        "--model",
        "bicubic",
        "--ensemble",
        "1",
    ]
    used = measure([*command, "--workers", "2", "--name", "big", "--out", str(out)], out)
    summary = json.loads((out / "summary.json").read_text())
    what = f"{side_km} x {side_km} km, bicubic"
    report.add(f"{what}: peak memory", used.rss_mb, "MB", at_most=RSS_LIMIT_MB)
    report.add(f"{what}: peak disk / output", used.disk_bytes / used.left_bytes, "", at_most=DISK_LIMIT)
    report.add(f"{what}: output", used.left_bytes / 1e6, "MB")
    report.add(f"{what}: whole job", used.seconds, "s")
    report.add(f"{what}: restoration", summary["km2_per_s"], "km2/s")
    assert summary["area_km2"] == pytest.approx(side_km**2, rel=0.02)
    shutil.rmtree(tmp_path, ignore_errors=True)  # gigabytes, and pytest would keep the last three
