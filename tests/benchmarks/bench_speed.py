"""Speed of restoration: from a cube in memory to the finished regions of the store, on two threads."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodiff.config import SuperresConfig
from geodiff.grid import Grid
from geodiff.outputs.zarr_store import create_store
from geodiff.tasks.job import restore_all
from geodiff.tasks.models import DEFAULT_MODEL
from geodiff.tasks.plan import Plan, make_plan
from geodiff.testing.scenes import write_scenes
from geodiff.testing.series import DEMO_DAYS, demo_series

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SIDE_PX = int(os.environ.get("GEODIFF_BENCH_PX", "512"))
DATES, MEMBERS, PASSES, WORKERS, ROUNDS = 6, 4, 2, 2, 3
MODEL = os.environ.get("GEODIFF_BENCH_MODEL", DEFAULT_MODEL)
TARGET_KM2_PER_S = 0.5


def silent(*_: object) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Grid]:
    grid = Grid("EPSG:32631", (10.0, 10.0), (499_200.0, 4_689_920.0), (SIDE_PX, SIDE_PX))
    days = DEMO_DAYS[:: len(DEMO_DAYS) // DATES][:DATES]
    return write_scenes(demo_series(SIDE_PX, days=days), grid, tmp_path_factory.mktemp("scenes") / "catalog"), grid


def plan_of(catalog: tuple[Path, Grid], out: Path, model: str) -> Plan:
    path, grid = catalog
    config = SuperresConfig(
        catalog=str(path),
        bbox=grid.bounds_wgs84,
        datetime="2021-01-01/2022-12-31",
        crs="native",
        model=model,
        ensemble=MEMBERS,
        passes=PASSES,
    )
    return make_plan(config, out, name="speed", workers=WORKERS, progress=silent)


@pytest.mark.parametrize("model", ["bicubic", "median", MODEL])
def test_speed(catalog: tuple[Path, Grid], tmp_path: Path, model: str, report: Report) -> None:
    speeds = []
    for number in range(ROUNDS):
        job = (plan := plan_of(catalog, tmp_path / str(number), model)).job
        cube = job.cube().compute()
        job.store.parent.mkdir(parents=True)
        create_store(job.store, job.spec)
        started = time.perf_counter()
        restore_all(job, workers=WORKERS, cube=cube, progress=silent)
        speeds.append(plan.area_km2 / (time.perf_counter() - started))
    dates = len(job.targets[0].dates)
    what = f"{Path(model).stem}, {job.grid.shape[0]} x {job.grid.shape[1]} px, {dates} dates, {WORKERS} threads"
    speed = statistics.median(speeds)
    report.add(f"{what}: scene", speed, "km2/s")
    if model == MODEL:
        what = f"{what}, {MEMBERS} members, {PASSES} passes"
        report.add(f"{what}: per member", speed * MEMBERS, "km2/s", at_least=TARGET_KM2_PER_S)
