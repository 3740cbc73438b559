"""One run as a value: what a worker needs to restore any region of it, in this process or another."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pystac
import xarray as xr

from geodiff.config import SuperresConfig
from geodiff.grid import Grid, TileKey, TilePlan, Window
from geodiff.imagery.cube import load_cube
from geodiff.imagery.sources import Source
from geodiff.outputs.ledger import margins_folder
from geodiff.outputs.stitch import MarginCache, contributors, tile_window
from geodiff.outputs.zarr_store import Region, StoreSpec, done_regions, regions, write_region
from geodiff.schema import SHIFT_X_M, SHIFT_Y_M, TIME, FloatArray
from geodiff.tasks.cluster import run_on_cluster
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.memory import give_back_memory
from geodiff.tasks.models import ModelRef, load_resolver
from geodiff.tasks.recipes import recipe_of, tuned
from geodiff.tasks.targets import Target
from geodiff.tasks.windows import TileLocks, piece_of, restore_window

CUBE_CHUNK_PX = 256

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Job:
    """Everything that decides the stored values, and where they go; plain enough to be sent to another process.

    Attributes:
        run_id: hash of configuration, scenes and model.
        config: of the run.
        source: the catalogue.
        items: the scenes, as plain STAC JSON.
        grid: the low-resolution grid.
        targets: the days to restore.
        shifts_m: (east, north) of each date in metres; empty when dates are not registered.
        model: to restore with.
        store: path of the Zarr store.
        spec: of the store.
        members: that the model draws of each date.
        chunk: side of the cube's Dask chunks in pixels; it does not change a value.
    """

    run_id: str
    config: SuperresConfig
    source: Source
    items: tuple[dict[str, Any], ...]
    grid: Grid
    targets: tuple[Target, ...]
    shifts_m: tuple[tuple[float, float], ...]
    model: ModelRef
    store: Path
    spec: StoreSpec
    members: int
    chunk: int = CUBE_CHUNK_PX

    @property
    def plan(self) -> TilePlan:
        tile = self.config.tile
        return TilePlan(self.grid, core=tile.core, feather=tile.feather, halo=tile.halo)

    def cube(self) -> xr.DataArray:
        """The lazy cube of all scenes, with its shifts."""
        cube = load_cube(
            [pystac.Item.from_dict(item) for item in self.items],
            source=self.source,
            bands=self.config.bands,
            grid=self.grid,
            mask=self.config.mask,
            chunk=self.chunk,
        )
        if self.shifts_m:
            east, north = zip(*self.shifts_m, strict=True)
            cube = cube.assign_coords({SHIFT_X_M: (TIME, list(east)), SHIFT_Y_M: (TIME, list(north))})
        return cube


def _mute(done: int, total: int) -> None:
    """Tell nobody."""


class Worker:
    """Restores regions of one job; any number of threads may share it.

    Args:
        job: the run.
        cube: of the job, when it is open already.
        tell: told of tiles done and all tiles, from any thread.
    """

    def __init__(self, job: Job, cube: xr.DataArray | None = None, *, tell: Callable[[int, int], None] = _mute) -> None:
        self.job, self.tell = job, tell
        resolver = tuned(load_resolver(job.model, passes=job.config.passes, bands=job.config.bands), job.config)
        self.recipe = recipe_of(resolver, job.plan, job.config)
        self.source = CubeSource(job.cube() if cube is None else cube, resolver.bands)
        self.margins = MarginCache(margins_folder(job.store))
        self.locks = [TileLocks() for _ in job.targets]
        self.by_place = {(r.time, r.row, r.col): r for r in regions(job.spec)}
        self.done = {region.id for region in done_regions(job.store, job.spec)}
        todo = [region for region in self.by_place.values() if region.id not in self.done]
        self.ahead = {(region.time, key) for region in todo for key in self._tiles(region)}
        self.tiles = len({(region.time, key) for region in self.by_place.values() for key in self._tiles(region)})

    def _tiles(self, region: Region) -> list[TileKey]:
        return contributors(self.recipe.plan, region.window, scale=self.recipe.resolver.scale)

    def _behind(self, time: int, keys: Sequence[TileKey]) -> None:
        self.ahead.difference_update([(time, key) for key in keys])
        self.tell(self.tiles - len(self.ahead), self.tiles)

    def run(self, region: Region) -> None:
        """Restore and store one region, unless it is done."""
        if region.id in self.done:
            return
        restored = restore_window(
            self.source,
            self.job.targets[region.time],
            region.window,
            self.recipe,
            found=lambda key: self._found(region, key),
            share=lambda key, values, at: self._share(region, key, values, at),
            locks=self.locks[region.time],
        )
        write_region(
            self.job.store,
            self.job.spec,
            region,
            restored.mean,
            restored.uncertainty,
            restored.valid,
            member=restored.member,
            guessed=restored.guessed,
        )
        self.done.add(region.id)
        self.margins.drop(region.id)
        give_back_memory()
        self._behind(region.time, self._tiles(region))

    def _found(self, region: Region, key: TileKey) -> FloatArray | None:
        given = tile_window(self.recipe.plan, key, scale=self.recipe.resolver.scale).intersect(region.window)
        shape = None if given is None else (self.recipe.channels, given.rows, given.cols)
        return None if shape is None else self.margins.get(region.id, key, shape)

    def _share(self, region: Region, key: TileKey, values: FloatArray, at: Window) -> None:
        """Leave to the regions that are still to be done what this tile gives them."""
        for other in self._neighbours(region):
            piece = piece_of(values, at, other.window)
            if piece is not None:
                self.margins.put(other.id, key, piece)
        self._behind(region.time, [key])

    def _neighbours(self, region: Region) -> list[Region]:
        reach = -(-self.recipe.plan.core * self.recipe.resolver.scale // self.job.spec.shard) + 1
        steps = range(-reach, reach + 1)
        places = [(region.time, region.row + dr, region.col + dc) for dr in steps for dc in steps if dr or dc]
        found = [self.by_place[place] for place in places if place in self.by_place]
        return [other for other in found if other.id not in self.done]


_WORKERS: dict[str, Worker] = {}
_WORKERS_GUARD = threading.Lock()


def run_region(job: Job, region: Region, session: str) -> str:
    """Restore one region in whatever process this is; returns its id.

    Args:
        job: the run.
        region: to restore.
        session: one call of ``restore_all``. What a worker knows of regions that are done holds for one session only:
            a cluster lives longer, and the output may be deleted in between.
    """
    with _WORKERS_GUARD:
        worker = _WORKERS.get(session)
        if worker is None:
            # One job at a time: a worker of a long-lived cluster must not keep the cubes of all its past.
            _WORKERS.clear()
            worker = _WORKERS[session] = Worker(job)
    worker.run(region)
    return region.id


def restore_all(
    job: Job, *, workers: int, scheduler: str | None = None, cube: xr.DataArray | None = None, progress: Progress
) -> None:
    """Restore every region that is not done, with threads of this process or on a Dask cluster.

    A region that fails stops the run; those that were stored stay stored.

    Raises:
        GeodiffError: reading, restoring or writing failed; the scheduler cannot be reached or has no workers.
    """
    everything = regions(job.spec)
    finished = {region.id for region in done_regions(job.store, job.spec)}
    todo = [region for region in everything if region.id not in finished]
    if scheduler:
        count = len(everything) - len(todo)
        progress("restore", count, len(everything))
        session = uuid.uuid4().hex
        calls = [(job, region, session) for region in todo]
        run_on_cluster(scheduler, run_region, calls, tell=lambda n: progress("restore", count + n, len(everything)))
        return
    worker = Worker(job, cube, tell=lambda done, total: progress("restore", done, total))
    give_back_memory()  # planning has read samples and correlated them
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running: set[Future[None]] = {pool.submit(worker.run, region) for region in todo}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
