"""From a cube to restored windows: cut patches, restore tiles, blend them. The same pixels whatever the window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from geodiff.grid import TileKey, TilePlan, Window
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.light import light_samples, relative_light
from geodiff.outputs.stitch import Blend, crop
from geodiff.schema import (
    BAND,
    SHIFT_X_M,
    SHIFT_Y_M,
    TIME,
    VALID,
    BoolArray,
    FloatArray,
    Patch,
    Resolver,
    UsageError,
    X,
    Y,
)
from geodiff.tasks.intervals import half_width
from geodiff.tasks.targets import Target, days_of

RIM_PX = 12
"""Low-resolution pixels beyond the grid that a patch keeps, mirrored."""


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A window of one restored date.

    Attributes:
        mean: (band, y, x) float32 reflectance, NaN where not valid.
        uncertainty: (band, y, x) float32, half-width of the interval of ``Recipe.level`` about the mean; NaN where the
            model states none and has no members.
        valid: (y, x) bool: some date showed the ground.
        member: (band, y, x) float32, the first member; None when it is not kept.
        guessed: (y, x) float32, share 0-1 of the local variance that the observations do not decide, NaN where
            unknown; None when it is not kept.
    """

    mean: FloatArray
    uncertainty: FloatArray
    valid: BoolArray
    member: FloatArray | None
    guessed: FloatArray | None = None


@dataclass(frozen=True)
class Recipe:
    """How a date is restored: everything but the place.

    Attributes:
        resolver: the model.
        plan: tiles of the low-resolution grid.
        members: size of the ensemble.
        seed: of the noise.
        keep_member: return the first member as well.
        keep_guessed: return the map of what is guessed as well.
        level: of the intervals, in (0, 1).
    """

    resolver: Resolver
    plan: TilePlan
    members: int
    seed: int
    keep_member: bool = False
    keep_guessed: bool = False
    level: float = 0.9

    @property
    def channels(self) -> int:
        return len(self.resolver.bands) * (3 if self.keep_member else 2) + int(self.keep_guessed)


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
            found = relative_light(own, target.dates.index(target.index))
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


def input_window(plan: TilePlan, key: TileKey) -> Window:
    """What the model sees of a tile: its input window without what lies far beyond the grid.

    A rim of ``RIM_PX`` stays, in which the scene is mirrored, so that it does not end for the model in the padding of
    its convolutions.
    """
    inside = plan.input_window(key).intersect(Window(0, 0, *plan.grid.shape).expand(RIM_PX))
    assert inside is not None, "a tile of the plan reaches the grid"
    return inside


def restore_tile(patch: Patch, at: Window, key: TileKey, recipe: Recipe) -> tuple[FloatArray, Window]:
    """Channels of one tile over core and feather: mean, uncertainty and, when kept, first member and guessed.

    Args:
        patch: what the model sees.
        at: where it lies on the low-resolution grid.
        key: of the tile.
        recipe: the model.

    Returns:
        (channels, rows, cols) float32, and the window of the high-resolution grid that it covers.
    """
    scale = recipe.resolver.scale
    restored = recipe.resolver.restore(patch, members=recipe.members, seed=recipe.seed)
    layers = [restored.mean, half_width(restored, recipe.resolver, recipe.level)]
    if recipe.keep_member:
        layers.append(restored.members[0] if len(restored.members) else restored.mean)
    if recipe.keep_guessed:
        unknown = np.full_like(restored.mean[0], np.nan)
        layers.append((unknown if restored.guessed is None else restored.guessed)[None])
    given = recipe.plan.output_window(key).intersect(at)
    assert given is not None, "a tile of the plan reaches the grid"
    rows, cols = given.scaled(scale).slices_in(at.scaled(scale))
    return np.concatenate([layer[:, rows, cols] for layer in layers]), given.scaled(scale)


class TileLocks:
    """One lock per tile, so that two workers of a process do not compute the same tile."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[TileKey, threading.Lock] = {}

    def lock(self, key: TileKey) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())


Found = Callable[[TileKey], FloatArray | None]
Share = Callable[[TileKey, FloatArray, Window], None]


def _bounding(windows: Sequence[Window]) -> Window:
    top, left = min(w.top for w in windows), min(w.left for w in windows)
    bottom, right = max(w.top + w.rows for w in windows), max(w.left + w.cols for w in windows)
    return Window(top, left, bottom - top, right - left)


def restore_window(
    source: CubeSource,
    target: Target,
    window: Window,
    recipe: Recipe,
    *,
    found: Found | None = None,
    share: Share | None = None,
    locks: TileLocks | None = None,
) -> Restored:
    """Restore a window of the high-resolution grid; the same values whatever the window, the order or the workers.

    Args:
        source: the cube.
        target: the day and its dates.
        window: on the high-resolution grid.
        recipe: the model and its tiles.
        found: looks for what another window's tile gave to this one (None: compute it).
        share: is told of every tile that was computed: key, channels, and the window that they cover.
        locks: shared by the workers of a process.
    """
    scale, locks = recipe.resolver.scale, locks or TileLocks()
    blend = Blend(recipe.plan, window, channels=recipe.channels, scale=scale)
    pending: deque[TileKey] = deque()

    def look(key: TileKey) -> bool:
        piece = found(key) if found else None
        if piece is not None:
            blend.add(key, piece, at=blend.piece_window(key))
        return piece is not None

    pending.extend(key for key in blend.missing() if not look(key))
    at = _bounding([input_window(recipe.plan, key) for key in pending]) if pending else window
    block: tuple[FloatArray, BoolArray] | None = None
    waited = 0
    while pending:
        key = pending.popleft()
        # A tile that somebody else is computing goes to the back of the queue; when all are, wait.
        if not locks.lock(key).acquire(blocking=waited >= len(pending)):
            pending.append(key)
            waited += 1
            continue
        waited = 0
        try:
            if look(key):
                continue
            block = block or source.read(target.dates, at)
            seen = input_window(recipe.plan, key)
            values, given = restore_tile(source.patch(target, seen, block, at), seen, key, recipe)
            if share:
                share(key, values, given)
        finally:
            locks.lock(key).release()
        blend.add(key, values, at=given)
    return _split(blend.result(), len(recipe.resolver.bands), recipe)


def _split(channels: FloatArray, bands: int, recipe: Recipe) -> Restored:
    mean, uncertainty = channels[:bands], channels[bands : 2 * bands]
    valid: BoolArray = np.asarray(np.isfinite(mean).all(0))
    member = channels[2 * bands : 3 * bands] if recipe.keep_member else None
    return Restored(mean, uncertainty, valid, member, channels[-1] if recipe.keep_guessed else None)


def piece_of(values: FloatArray, at: Window, window: Window) -> FloatArray | None:
    """The part of a computed tile that lies in a window; None when it does not reach it."""
    inner = at.intersect(window)
    return None if inner is None else crop(values, at, inner)
