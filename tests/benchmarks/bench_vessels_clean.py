"""Speed and memory of cleaning, cutting into tracks, resampling and stops: rows per second on two cores, by partitions.

Synthetic fleets, of which a twelfth holds every defect: of the NOAA day the vessels that need a close look have 3 to
8 % of the fixes; and, where the real data are, that day. Beside them a fleet of faulty vessels alone. Partitions by
identity go through two threads, as a job does it; memory is that of a process of its own, for a few partitions and all.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

TARGET_ROWS_PER_S = 2e6
PARTITIONS = 16
EVERY_S = 300.0
FLEET_VESSELS = 120
COPIES, FAULTY = 36, 3


def _fleet(folder: Path, *, faulty: int) -> Path:
    """Five million fixes: a fleet many times under other identities, of which so many copies hold every defect."""
    from geodiff.testing.tracks import make_fleet

    wrong, sound = (make_fleet(0, FLEET_VESSELS, 24.0, defects=each).fixes for each in (None, {}))
    copies = [
        (wrong if copy < faulty else sound).with_columns(pl.col("vessel_id") + 10_000 * copy) for copy in range(COPIES)
    ]
    return _partitioned(pl.concat(copies), folder)


def _noaa(data: Path, folder: Path) -> Path:
    from geodiff.vessels.reading import FIX_SCHEMA

    raw = pl.scan_parquet(data / "ais" / "noaa_2020-01-01.parquet").select(
        vessel_id="MMSI",
        time=pl.col("BaseDateTime").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        lon_deg="LON",
        lat_deg="LAT",
        sog_kn=pl.when(pl.col("SOG") < 102.2).then("SOG"),
        cog_deg=pl.when(pl.col("COG").is_between(0.0, 359.95)).then("COG"),
        heading_deg=pl.when(pl.col("Heading") < 360).then("Heading"),
        ship_type=pl.when(pl.col("VesselType") > 0).then("VesselType"),
        source=pl.lit("noaa"),
        row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
    )
    missing = [
        pl.lit(None, kind).alias(name) for name, kind in FIX_SCHEMA.items() if name in ("rot_deg_min", "nav_status")
    ]
    fixes = raw.with_columns(missing).select(pl.col(name).cast(kind) for name, kind in FIX_SCHEMA.items())
    return _partitioned(fixes.collect(), folder)


def _partitioned(fixes: pl.DataFrame, folder: Path) -> Path:
    from geodiff.vessels.partition_files import part_of

    folder.mkdir(parents=True)
    # By a hash, as a job does it: of real identities many end in the same digits.
    part = part_of(fixes["vessel_id"], PARTITIONS)
    for number in range(PARTITIONS):
        fixes.filter(part == number).write_parquet(folder / f"{number:02d}.parquet")
    return folder


def _measured(folder: Path, count: int) -> dict[str, float]:
    """Run this file in a process of its own over the first ``count`` partitions."""
    words = [sys.executable, __file__, str(folder), str(count)]
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _note(report: Report, title: str, folder: Path) -> None:
    few, all_ = _measured(folder, 2), _measured(folder, PARTITIONS)
    rate = all_["rows"] / all_["wall_s"]
    report.add(f"{title}: clean, segment, resample, 2 threads", rate, "rows/s", at_least=TARGET_ROWS_PER_S)
    report.add(f"{title}: the same, by processor time of 2 cores", 2 * all_["rows"] / all_["cpu_s"], "rows/s")
    report.add(f"{title}: cleaning alone, one core", all_["rows"] / all_["clean_s"], "rows/s")
    report.add(f"{title}: stops, one core", all_["rows"] / all_["stops_s"], "rows/s")
    report.add(f"{title}: peak memory, {PARTITIONS} partitions", all_["peak_mb"], "MB")
    report.add(f"{title}: growth over 2 partitions", all_["peak_mb"] / few["peak_mb"], "times", at_most=1.5)


def test_synthetic_fleet(report: Report, tmp_path: Path) -> None:
    _note(report, "synthetic fleet", _fleet(tmp_path / "fleet", faulty=FAULTY))
    faulty = _measured(_fleet(tmp_path / "faulty", faulty=COPIES), PARTITIONS)
    report.add("fleet of faulty vessels: clean, segment, resample", faulty["rows"] / faulty["wall_s"], "rows/s")


def test_noaa_day(report: Report, tmp_path: Path, geodiff_data: Path) -> None:
    _note(report, "NOAA day", _noaa(geodiff_data, tmp_path / "noaa"))


def _one(path: Path) -> tuple[int, float]:
    from geodiff.vessels.clean import clean_fixes
    from geodiff.vessels.resample import resample

    fixes = pl.read_parquet(path)
    start = time.thread_time()
    cleaned = clean_fixes(fixes)
    spent = time.thread_time() - start
    resample(cleaned, EVERY_S)
    return fixes.height, spent


def _stops(path: Path) -> float:
    from geodiff.vessels.clean import clean_fixes
    from geodiff.vessels.stops import find_stops

    cleaned = clean_fixes(pl.read_parquet(path))
    start = time.process_time()
    find_stops(cleaned)
    return time.process_time() - start


def main(folder: Path, count: int) -> None:
    """Print rows, seconds and peak memory of the first partitions."""
    paths = sorted(folder.glob("*.parquet"))[:count]
    _one(paths[0])  # what is imported and compiled once is not timed
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(_one, paths))
    found = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    found |= {"rows": sum(rows for rows, _ in done), "clean_s": sum(spent for _, spent in done)}
    found["stops_s"] = sum(map(_stops, paths[:4])) * len(paths) / len(paths[:4])
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
