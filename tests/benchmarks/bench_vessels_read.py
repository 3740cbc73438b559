"""Readers of tables: rows a second, memory, and what each real sample gives."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

COPIES = 3
"""Days of one after the other, to see that memory stays flat."""

RUN = """
import json, resource, sys, time
from pathlib import Path
from geodiff.vessels.partition import partition_fixes
from geodiff.vessels.read import open_fixes
what, out, *sources = sys.argv[1:]
start = time.perf_counter()
if what == "partition":
    counts = partition_fixes(sources, Path(out), parts=64).counts
else:
    reader = open_fixes(sources[0])
    for _ in reader.batches():
        pass
    counts = reader.counts
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"rows": counts.read, "s": time.perf_counter() - start, "cpu_s": used.ru_utime + used.ru_stime,
                  "mb": used.ru_maxrss / 1e3}))
"""


def measure(what: str, out: Path, *sources: Path) -> dict[str, float]:
    """Time and memory in a process of its own."""
    command = [sys.executable, "-c", RUN, what, str(out), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_day_of_minute_data(geodiff_data: Path, tmp_path: Path, report: Report) -> None:
    day = geodiff_data / "ais" / "noaa_2020-01-01.parquet"
    read = measure("read", tmp_path, day)
    report.add("NOAA day, parquet: read", read["rows"] / read["s"], "rows/s")
    report.add("NOAA day, parquet: read, per core", read["rows"] / read["cpu_s"], "rows/cpu-s")
    report.add("NOAA day, parquet: read, peak memory", read["mb"], "MB", at_most=1500)
    cut = measure("partition", tmp_path / "one", day)
    report.add("NOAA day: partitioned by identity", cut["rows"] / cut["s"], "rows/s")
    report.add("NOAA day: partitioned, CPU", cut["cpu_s"], "s")
    report.add("NOAA day: partitioned, peak memory", cut["mb"], "MB", at_most=1500)
    days = [tmp_path / f"{n}.parquet" for n in range(COPIES)]
    for copy in days:
        copy.symlink_to(day)  # each is read and written: a source is told by its path
    more = measure("partition", tmp_path / "more", *days)
    report.add(f"{COPIES} NOAA days: partitioned, peak memory", more["mb"], "MB", at_most=1500)


@pytest.mark.parametrize("packing", ["csv", "csv.zst", "csv.gz"])
def test_text(geodiff_data: Path, tmp_path: Path, report: Report, packing: str) -> None:
    day = pl.scan_parquet(geodiff_data / "ais" / "noaa_2020-01-01.parquet").head(1_000_000)
    stamp = pl.col("BaseDateTime").dt.strftime("%Y-%m-%dT%H:%M:%S")
    path = tmp_path / f"day.{packing}"
    compression = {"csv": "uncompressed", "csv.zst": "zstd", "csv.gz": "gzip"}[packing]
    day.with_columns(stamp).sink_csv(path, compression=compression)  # type: ignore[call-overload]
    read = measure("read", tmp_path, path)
    report.add(f"NOAA {packing}: read", read["rows"] / read["s"], "rows/s")
    report.add(f"NOAA {packing}: read, per core", read["rows"] / read["cpu_s"], "rows/cpu-s")
    report.add(f"NOAA {packing}: peak memory", read["mb"], "MB", at_most=1500)


def test_what_the_samples_give(geodiff_data: Path, report: Report) -> None:
    from geodiff.vessels.radar import RadarSensor
    from geodiff.vessels.read import open_fixes
    from geodiff.vessels.read_refuse import describe

    rows = []
    for path in sorted([*(geodiff_data / "ais").rglob("*.parquet"), *(geodiff_data / "radar").glob("*.parquet")]):
        start = time.perf_counter()
        reader = open_fixes(path, date="2020-01-01", sensor=RadarSensor(10.39, 63.43))
        for _ in reader.batches():
            pass
        counts = reader.counts
        rate = counts.read / (time.perf_counter() - start)
        blanked = ", ".join(f"{what} {count:,}" for what, count in counts.blanked.items())
        told = [path.stem[:40], reader.layout, f"{counts.read:,}", f"{counts.kept:,}", describe(counts), blanked]
        rows.append([*told, f"{rate:,.0f}"])
    report.add_table(
        "Real samples of tables", ["file", "layout", "rows", "fixes", "refused", "blanked", "rows/s"], rows
    )
