"""Windows of a cube as patches: read, mirrored beyond the grid, with shifts and light of their dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from geodiff.grid import Window
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.light import light_samples, relative_light
from geodiff.schema import (
    BAND,
    SHIFT_X_M,
    SHIFT_Y_M,
    TIME,
    VALID,
    BoolArray,
    FloatArray,
    Patch,
    UsageError,
    X,
    Y,
)
from geodiff.tasks.targets import Target, days_of


class CubeSource:
    """Windows of a cube as patches.

    Args:
        cube: (time, band, y, x) with ``valid``, a CRS and, for registered dates, ``shift_x_m`` and ``shift_y_m``.
        bands: in the order that the resolver wants.

    Raises:
        UsageError: a band is missing.
    """

    def __init__(self, cube: xr.DataArray, bands: Sequence[str]) -> None:
        lacking = [band for band in bands if band not in cube[BAND].values]
        if lacking:
            raise UsageError(
                f"the cube has no band {', '.join(lacking)}: it has {', '.join(map(str, cube[BAND].values))}"
            )
        self.bands = tuple(bands)
        self.cube = cube.sel({BAND: list(bands)}).transpose(TIME, BAND, Y, X)
        self.grid = grid_of(cube)
        self.days = days_of(cube[TIME].values)

    def shifts_px(self, target: Target) -> FloatArray:
        """(time, 2) float32, (down, right) of the target's dates against its own frame."""
        if SHIFT_X_M not in self.cube.coords:
            return np.zeros((len(target.dates), 2), np.float32)
        across_m, down_m = self.grid.pixel_m
        shift = np.stack([-self.cube[SHIFT_Y_M].values / down_m, self.cube[SHIFT_X_M].values / across_m], -1)
        own = shift[target.index] if target.index is not None else np.zeros(2)
        relative: FloatArray = (shift[list(target.dates)] - own).astype(np.float32)
        return relative

    def lit(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """The targets with the light of their dates, in the bands of the source; samples of the dates are read."""
        observed = [target for target in targets if target.index is not None]
        dates = sorted({date for target in observed for date in target.dates})
        samples = light_samples(self.cube, dates) if dates else np.zeros((0, 0, 0), np.float32)

        def light(target: Target) -> Target:
            if target.index is None:
                return target
            own = samples[[dates.index(date) for date in target.dates]]
            found = relative_light(own, target.dates.index(target.index), self.bands)
            return replace(target, light=tuple(tuple(float(value) for value in row) for row in found))

        return tuple(light(target) for target in targets)

    def read(self, dates: Sequence[int], window: Window) -> tuple[FloatArray, BoolArray]:
        """Reflectance (time, band, y, x) and valid (time, y, x) of a window; mirrored beyond the grid.

        Raises:
            ValueError: the window does not reach the grid.
        """
        if window.intersect(Window(0, 0, *self.grid.shape)) is None:
            raise ValueError(f"{window} does not reach the grid of {self.grid.shape}")
        # Mirrored on the grid, not on what of the window lies in it: the same pixels for every window.
        down = _mirrored(window.top, window.rows, self.grid.shape[0])
        right = _mirrored(window.left, window.cols, self.grid.shape[1])
        rows, cols = slice(down.min(), down.max() + 1), slice(right.min(), right.max() + 1)
        # The caller is one of many workers already: a scheduler of its own would only add threads.
        part = self.cube.isel({TIME: list(dates), Y: rows, X: cols}).compute(scheduler="synchronous")
        valid = np.isfinite(part.values).all(1)
        if VALID in part.coords:
            valid &= part[VALID].values
        reflectance = np.where(valid[:, None], part.values, np.float32(0))
        down, right = down - rows.start, right - cols.start
        return reflectance[:, :, down][..., right], valid[:, down][..., right]

    def patch(self, target: Target, window: Window, block: tuple[FloatArray, BoolArray], at: Window) -> Patch:
        """The patch of ``window``, cut from a block that was read ``at`` a larger window."""
        rows, cols = window.slices_in(at)
        (row0, col0), (height, width) = self.grid.lattice_origin, self.grid.shape
        return Patch(
            reflectance=block[0][:, :, rows, cols],
            valid=block[1][:, rows, cols],
            days=self.days[list(target.dates)],
            target_day=target.day,
            target_index=target.dates.index(target.index) if target.index is not None else None,
            shift_px=self.shifts_px(target),
            light=None if target.light is None else np.array(target.light, np.float32),
            pixel_m=float(np.mean(self.grid.pixel_m)),
            origin_px=(row0 + window.top, col0 + window.left),
            mirrored=(*_beyond(window.top, window.rows, height), *_beyond(window.left, window.cols, width)),
        )


def _beyond(first: int, count: int, size: int) -> tuple[int, int]:
    """How many of the pixels [first, first + count) lie before and after an axis of ``size`` pixels."""
    return max(-first, 0), max(first + count - size, 0)


def _mirrored(first: int, count: int, size: int) -> npt.NDArray[np.intp]:
    """Indices [first, first + count) of an axis of ``size`` pixels, reflected at its ends."""
    index = np.arange(first, first + count)
    index = np.where(index < 0, -1 - index, index)
    return np.clip(np.where(index >= size, 2 * size - 1 - index, index), 0, size - 1)
