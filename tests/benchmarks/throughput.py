"""Restores a scene with one model and writes how fast it went: what ``bench_speed`` starts for each model afresh.

    python throughput.py TASK.json RESULT.json

Timed is what a user waits for once the scenes are read: from a cube in memory to the finished regions of the store. The
scene is as large as the time allowed lets it be, by a trial on one small patch. Where it has fewer regions than there
are threads, the target date is restored several times, as a series has several targets, so that no thread idles.
"""

from __future__ import annotations

import inspect
import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from geodiff.config import SuperresConfig, TileConfig
from geodiff.grid import Grid, TilePlan
from geodiff.model.guided import GuidedResolver
from geodiff.model.plugin import PluginResolver
from geodiff.outputs.zarr_store import create_store, regions
from geodiff.schema import Patch, Resolver
from geodiff.tasks.job import Job, restore_all
from geodiff.tasks.models import find_model, load_resolver
from geodiff.tasks.plan import make_plan
from geodiff.tasks.windows import input_window

LEAST_SIDE_PX = 64
"""In a smaller scene the mirrored rim weighs more than the halo does in a full tile: its figure would be too low."""

TRIAL_SIDES, TRIAL_SECONDS = (16, 32, 64), 1.0
ROUNDS = 3
DEGREES_INSET = 5e-5  # about half a pixel: the box of a grid, in degrees, sticks out of it


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        catalog: path of the scenes.
        grid: of the scenes: CRS, resolution, origin, shape.
        model: as ``--model`` takes it.
        bands: that it is to restore, where it takes any; a trained model restores all of its own.
        members: of the ensemble, where the model has one.
        passes: per member, where the model lets one choose.
        dates: of the scenes.
        workers: threads.
        seconds: that all rounds may take together, about.
    """

    catalog: str
    grid: tuple[str, tuple[float, float], tuple[float, float], tuple[int, int]]
    model: str
    bands: tuple[str, ...]
    members: int
    passes: int
    dates: int
    workers: int
    seconds: float


@dataclass(frozen=True)
class Throughput:
    """What was measured; speeds in km2/s of all threads together.

    Attributes:
        mean: speed of the expectation alone.
        member: speed of one member of an ensemble, the shared work included; None without an ensemble.
        members: of the ensemble measured; 1 where the mean is made of members, 0 without.
        passes: of the network for the mean, and for one member.
        parameters: of the network, its guide's included; 0 for a baseline.
        bands: number of those that were restored.
        shape: (rows, columns) of the scene, low resolution.
        dates: that the target was restored from.
        rounds: that the mean was measured in.
    """

    mean: float
    member: float | None
    members: int
    passes: tuple[int, int]
    parameters: int
    bands: int
    shape: tuple[int, int]
    dates: int
    rounds: int


def silent(*_: object) -> None:
    """Show no progress."""


def parameters_of(resolver: Resolver) -> int:
    """Number of learned values of whatever network is behind a resolver."""
    if isinstance(resolver, GuidedResolver):
        return parameters_of(resolver.fine) + parameters_of(resolver.coarse)
    model = getattr(resolver, "model", None)
    if isinstance(resolver, PluginResolver):
        if resolver.config.onnx is not None:
            import onnx

            graph = onnx.load(resolver.path.parent / resolver.config.onnx).graph
            return sum(math.prod(weights.dims) for weights in graph.initializer if weights.data_type == 1)
        model = inspect.getclosurevars(resolver.run).nonlocals["model"]
    return sum(p.numel() for p in model.parameters()) if model is not None else 0


def trial_patch(side: int, bands: int, dates: int) -> Patch:
    """A clear patch of noise: the time that a network takes does not depend on what it sees."""
    noise = np.random.default_rng(0).uniform(0.05, 0.3, (dates, bands, side, side)).astype(np.float32)
    days = np.linspace(18_900.0, 18_950.0, dates, dtype=np.float64)
    shifts = np.full((dates, 2), 0.3, np.float32)
    shifts[0] = 0
    return Patch(noise, np.ones((dates, side, side), np.bool_), days, float(days[0]), 0, shifts, 10.0, (0, 0))


def trial(runs: Sequence[tuple[Resolver, int]], dates: int) -> tuple[float, bool]:
    """Seconds per pixel of a patch for all runs (resolver and members) on one thread, and whether the last has members.

    Patches grow until the time can be told, for a small one takes longer per pixel.
    """
    for side in TRIAL_SIDES:
        started = time.perf_counter()
        for resolver, members in runs:
            patch = trial_patch(side, len(resolver.bands), dates)
            found = resolver.restore(patch, members=members, seed=0)
        taken = time.perf_counter() - started
        if taken > TRIAL_SECONDS:
            break
    return taken / side**2, len(found.members) > 0


def scene_side(task: Task, seconds_per_px: float) -> int:
    """The largest side, of those that halve the full one, whose restoration keeps to the time of the task."""
    crs, resolution, origin, (side, _) = task.grid
    tile = TileConfig()
    while side > LEAST_SIDE_PX:
        plan = TilePlan(
            Grid(crs, resolution, origin, (side, side)), core=tile.core, feather=tile.feather, halo=tile.halo
        )
        windows = [input_window(plan, key) for key in list(plan.keys())]
        if seconds_per_px * sum(w.rows * w.cols for w in windows) / task.workers <= task.seconds:
            break
        side //= 2
    return side


def inner_box(task: Task, side: int) -> tuple[float, float, float, float]:
    """The middle of the scenes, in degrees."""
    crs, (rx, ry), (left, top), (rows, cols) = task.grid
    corner = (left + (cols - side) // 2 * rx, top - (rows - side) // 2 * ry)
    west, south, east, north = Grid(crs, (rx, ry), corner, (side, side)).bounds_wgs84
    return (west + DEGREES_INSET, south + DEGREES_INSET, east - DEGREES_INSET, north - DEGREES_INSET)


def busy(job: Job, workers: int) -> Job:
    """The job with its target repeated until every thread has a region."""
    again = -(-workers // len(regions(job.spec)))
    times = tuple(job.spec.times[0] + np.timedelta64(number, "s") for number in range(again))
    return replace(job, targets=job.targets[:1] * again, spec=replace(job.spec, times=times))


class Bench:
    """One model over one scene."""

    def __init__(self, task: Task, folder: Path, side: int) -> None:
        self.task, self.folder, self.box = task, folder, inner_box(task, side)
        self.shape, self.dates = (side, side), task.dates

    def speeds(self, *, members: int, passes: int, until: float) -> list[float]:
        """km2/s of each round; rounds are repeated up to ``until``, a time of ``time.monotonic``."""
        config = SuperresConfig(
            catalog=self.task.catalog,
            bbox=self.box,
            datetime="2021-01-01/2022-12-31",
            crs="native",
            model=self.task.model,
            bands=self.task.bands,
            ensemble=members,
            passes=passes,
        )
        plan = make_plan(config, self.folder, name="speed", workers=self.task.workers, progress=silent)
        job = busy(plan.job, self.task.workers)
        cube = job.cube().compute()
        self.shape, self.dates = job.grid.shape, len(job.targets[0].dates)
        found: list[float] = []
        while not found or (len(found) < ROUNDS and time.monotonic() < until):
            job.store.parent.mkdir(parents=True)
            create_store(job.store, job.spec)
            started = time.perf_counter()
            restore_all(job, workers=self.task.workers, cube=cube, progress=silent)
            found.append(plan.area_km2 * len(job.targets) / (time.perf_counter() - started))
            shutil.rmtree(job.store.parent)
        return found


def measure_model(task: Task, folder: Path) -> Throughput:
    """Run one model within its time."""
    ref = find_model(task.model)
    resolver, single = (load_resolver(ref, passes=passes, bands=task.bands) for passes in (task.passes, 1))
    passes = (int(getattr(single, "passes", 1)), int(getattr(resolver, "passes", 1)))
    # A chain that knows no expectation makes its mean of members: the one is the other.
    apart = passes[0] < passes[1]
    seconds_per_px, ensemble = trial([(single, 1), (resolver, task.members)] if apart else [(resolver, 1)], task.dates)
    bench = Bench(task, folder, scene_side(task, seconds_per_px))
    started = time.monotonic()
    half = started + task.seconds / (2 if apart else 1)
    mean = bench.speeds(members=1, passes=1, until=half)
    member, members = (statistics.median(mean), 1) if ensemble else (None, 0)
    if apart:
        members = task.members
        many = bench.speeds(members=members, passes=task.passes, until=started + task.seconds)
        member = statistics.median(many) * members
    return Throughput(
        mean=statistics.median(mean),
        member=member,
        members=members,
        passes=passes,
        parameters=parameters_of(resolver),
        bands=len(resolver.bands),
        shape=bench.shape,
        dates=bench.dates,
        rounds=len(mean),
    )


def main() -> None:
    """Read the task, write the result."""
    given, result = map(Path, sys.argv[1:])
    raw = json.loads(given.read_text())
    crs, resolution, origin, shape = raw.pop("grid")
    bands = tuple(raw.pop("bands"))
    task = Task(**raw, bands=bands, grid=(crs, tuple(resolution), tuple(origin), tuple(shape)))
    result.write_text(json.dumps(asdict(measure_model(task, result.parent / "out"))))


if __name__ == "__main__":
    main()
