"""Decoding NMEA: lines a second against pyais on the same lines, and memory over a long recording."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from pyais.stream import FileReaderStream

from geodiff.testing.nmea import message, tagged
from geodiff.vessels.nmea import open_nmea

if TYPE_CHECKING:
    from conftest import Report

pytestmark = pytest.mark.bench

LINES = 400_000
DISTINCT = 5_000
PYAIS_LINES = 60_000
LONG_COPIES = 8

MOST_MB_MORE = 300.0
"""Memory of a recording eight times as long, above that of the short one: buffers, not the recording (320 MB)."""


def _lines(count: int) -> Iterator[str]:
    """Traffic as a shore station hears it: eight in ten class A, and static data in two sentences."""
    rng = random.Random(5)
    made: list[list[str]] = []
    for number in range(DISTINCT):
        mmsi, kind = rng.randint(200_000_000, 799_999_999), rng.random()
        place = {"mmsi": mmsi, "lon": rng.uniform(-180, 180), "lat": rng.uniform(-89, 89), "second": number % 60}
        moves = place | {"speed": rng.uniform(0, 30), "course": rng.uniform(0, 359)}
        if kind < 0.8:
            made.append(message(msg_type=1, heading=rng.randint(0, 359), status=0, turn=0, **moves))
        elif kind < 0.9:
            made.append(message(msg_type=18, **moves))
        elif kind < 0.95:
            made.append(message(msg_type=5, mmsi=mmsi, shipname=f"S {number}", ship_type=70, sequence=number % 10))
        else:
            made.append(message(msg_type=24, mmsi=mmsi, partno=0, shipname=f"B {number}"))
    done = 0
    while done < count:
        for line in made[done % DISTINCT]:
            yield tagged(line, s="r1", c=1_700_000_000 + done // 40)
        done += 1


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nmea") / "recording.nmea"
    path.write_text("".join(line + "\n" for line in _lines(LINES)))
    return path


def _ours(path: Path, workers: int | None) -> tuple[int, float, float]:
    """Lines, seconds by the clock and of processors."""
    reader = open_nmea(path, workers=workers)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in reader.batches():
        pass
    return reader.counts.read, time.perf_counter() - wall, time.process_time() - cpu


def test_decoding_against_pyais(report: Report, recording: Path) -> None:
    _ours(recording, 1)  # what is loaded on first use
    lines, _, cpu_s = _ours(recording, 1)
    _, wall_s, _ = _ours(recording, None)
    cpu, wall, messages = time.process_time(), time.perf_counter(), 0
    with FileReaderStream(str(recording)) as stream:
        for found in stream:
            found.decode()
            messages += 1
            if messages == PYAIS_LINES:
                break
    pyais, by_clock = messages / (time.process_time() - cpu), messages / (time.perf_counter() - wall)
    report.add("nmea: pyais, one core", pyais, "messages/s")
    report.add("nmea: pyais, by the clock", by_clock, "messages/s")
    report.add("nmea: one core", lines / cpu_s, "lines/s", at_least=pyais)
    cores = len(psutil.Process().cpu_affinity() or [0])
    report.add(f"nmea: all {cores} cores, by the clock", lines / wall_s, "lines/s", at_least=by_clock * cores)


def _peak_mb(path: Path) -> float:
    code = (
        "import resource, sys; from pathlib import Path; from geodiff.vessels.nmea import open_nmea\n"
        "for _ in open_nmea(Path(sys.argv[1])).batches(): pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    return float(
        subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True).stdout
    )


def test_memory_does_not_grow_with_the_recording(report: Report, recording: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.nmea"
    with long.open("wb") as file:
        for _ in range(LONG_COPIES):
            file.write(recording.read_bytes())
    short_mb, long_mb = _peak_mb(recording), _peak_mb(long)
    report.add("nmea: peak memory, 0.4 M lines", short_mb, "MB")
    report.add("nmea: peak memory, 3.2 M lines", long_mb, "MB", at_most=short_mb + MOST_MB_MORE)
