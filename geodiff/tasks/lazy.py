"""The result of a restoration as a lazy dataset: windows that Dask restores when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from geodiff.grid import Window
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, X, Y
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.recipes import GUESSED, cube_layers, describe_layers
from geodiff.tasks.targets import Target
from geodiff.tasks.windows import Recipe, restore_window


def lazy_dataset(source: CubeSource, targets: Sequence[Target], recipe: Recipe, chunk: int) -> xr.Dataset:
    """Restored dates of which nothing is computed before it is asked for; see ``superres.superres``."""
    import dask.array as da
    import rioxarray  # noqa: F401 - registers .rio
    from dask.delayed import delayed

    grid, bands = source.grid.zoom(recipe.resolver.scale), recipe.resolver.bands
    rows, cols = grid.shape
    # Not pure: to name a task by its content, Dask would hash the cube and the weights once for every chunk.
    restore = delayed(_stacked, pure=False)
    dates = []
    for target in targets:
        lines = []
        for top in range(0, rows, chunk):
            line = []
            for left in range(0, cols, chunk):
                window = Window(top, left, min(chunk, rows - top), min(chunk, cols - left))
                shape = (recipe.channels, window.rows, window.cols)
                line.append(da.from_delayed(restore(source, target, window, recipe), shape, np.float32))
            lines.append(da.concatenate(line, axis=2))
        dates.append(da.concatenate(lines, axis=1))
    layers = da.stack(dates)
    names = cube_layers(recipe)
    times = np.array([round(t.day * 86_400) for t in targets], "datetime64[s]").astype("datetime64[ns]")
    coords = {TIME: times, BAND: list(bands), Y: grid.y, X: grid.x}
    count = len(bands)
    data = {name: (CUBE_DIMS, layers[:, i * count : (i + 1) * count]) for i, name in enumerate(names)}
    result = xr.Dataset(data, coords).assign({VALID: ((TIME, Y, X), da.isfinite(layers[:, :count]).all(axis=1))})
    if recipe.keep_guessed:
        result = result.assign({GUESSED: ((TIME, Y, X), layers[:, -1])})
    for name, attributes in describe_layers(recipe).items():
        result[name].attrs.update(attributes)
    labelled: xr.Dataset = result.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    return labelled


def _stacked(source: CubeSource, target: Target, window: Window, recipe: Recipe) -> np.ndarray[Any, Any]:
    restored = restore_window(source, target, window, recipe)
    layers = [restored.mean, restored.uncertainty, *([restored.member] if restored.member is not None else [])]
    if restored.guessed is not None:
        layers.append(restored.guessed[None])
    return np.concatenate(layers)
