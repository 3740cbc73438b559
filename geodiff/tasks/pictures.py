"""The pictures of a run, drawn from its finished store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from geodiff.grid import Window
from geodiff.outputs.packing import REFLECTANCE, UNCERTAINTY
from geodiff.outputs.plots import View, closer_look, quicklook, thumbnail
from geodiff.outputs.shards import read_packed
from geodiff.schema import FloatArray
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.job import Job
from geodiff.tasks.memory import give_back_memory

SIDE_PX = 384
"""Side of the piece that the quicklook shows, in low-resolution pixels, from the middle of the region."""


def draw(job: Job, cube: xr.DataArray) -> dict[str, Path]:
    """Write quicklook and thumbnail beside the store; of several dates the last is shown.

    Returns:
        {"thumbnail": path, "quicklook": path}.
    """
    give_back_memory()
    target = job.targets[-1]
    low_window = _middle(job.grid.shape)
    source = CubeSource(cube, job.spec.bands)
    nearest = target.index if target.index is not None else _nearest(source, target.day, target.dates)
    reflectance, valid = source.read([nearest], low_window)
    low = np.where(valid[0], reflectance[0], np.nan).astype(np.float32)
    scale = job.spec.grid.shape[0] // job.grid.shape[0]
    mean, uncertainty = _stored(job, low_window.scaled(scale), len(job.targets) - 1)
    pixel_m = float(np.mean(job.grid.pixel_m))
    rgb = true_colour(job.spec.bands)
    shown = str(cube["time"].values[nearest])[:10]
    paths = {
        "thumbnail": job.store.with_name(f"{job.run_id}_thumbnail.png"),
        "quicklook": job.store.with_name(f"{job.run_id}_quicklook.png"),
    }
    thumbnail(mean, paths["thumbnail"], rgb=rgb)
    quicklook(
        low,
        mean,
        uncertainty,
        pixel_m=pixel_m,
        scale=scale,
        dates=[shown, target.label],
        title=f"{job.store.parent.name}: {job.model.name}" + (f", ensemble of {job.members}" if job.members else ""),
        path=paths["quicklook"],
        rgb=rgb,
        detail=closer_look(View(low, mean, uncertainty, pixel_m)),
    )
    return paths


def _middle(shape: tuple[int, int]) -> Window:
    rows, cols = min(shape[0], SIDE_PX), min(shape[1], SIDE_PX)
    return Window((shape[0] - rows) // 2, (shape[1] - cols) // 2, rows, cols)


def _nearest(source: CubeSource, day: float, dates: tuple[int, ...]) -> int:
    return min(dates, key=lambda index: (abs(source.days[index] - day), index))


def _stored(job: Job, window: Window, time: int) -> tuple[FloatArray, FloatArray]:
    """Mean and uncertainty of a window, (band, y, x), unpacked band by band to take little room."""
    names = ("reflectance", "uncertainty")
    codes = read_packed(job.store, job.spec, window, time=time, level=0, names=names)
    mean, uncertainty = (
        np.stack([packing.unpack(band.astype(np.uint16, copy=False)) for band in codes[name]])
        for name, packing in zip(names, (REFLECTANCE, UNCERTAINTY), strict=True)
    )
    return mean, uncertainty


def true_colour(bands: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of red, green, blue among the bands; the first three (or one) where they are not all there."""
    wanted = ("B04", "B03", "B02")
    if all(band in bands for band in wanted):
        return tuple(bands.index(band) for band in wanted)
    return (0, 1, 2) if len(bands) >= 3 else (0,) * 3
