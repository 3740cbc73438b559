"""From patches to restored windows: restore tiles, blend them. The same pixels whatever the window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from geodiff.grid import TileKey, TilePlan, Window
from geodiff.outputs.stitch import Blend, crop
from geodiff.schema import BoolArray, FloatArray, Patch, Resolver
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.intervals import half_width
from geodiff.tasks.targets import Target

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
