"""Feathered blending of tiles: seamless, exact, and the same whatever the order in which tiles arrive.

Every tile contributes to its core and to a feather beyond it. Across a lattice line the weights of the two neighbours
are sin^2 and cos^2 of the same angle, so that they sum to one; where the grid ends there is no neighbour and the
weight stays one. All windows here count pixels of the high-resolution grid.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geodiff.grid import TileKey, TilePlan, Window
from geodiff.outputs.atomic import write_bytes
from geodiff.schema import FloatArray, UsageError

WeightArray = npt.NDArray[np.float64]

_ROWS_AT_ONCE = 64
_DIGEST_BYTES = 16


def tile_window(plan: TilePlan, key: TileKey, *, scale: int) -> Window:
    """Pixels that a tile contributes to: core and feather, in high-resolution pixels; may reach beyond the grid."""
    return plan.output_window(key).scaled(scale)


def contributors(plan: TilePlan, window: Window, *, scale: int) -> list[TileKey]:
    """Tiles that contribute to a window of the high-resolution grid, row by row."""
    bottom, right = -(-(window.top + window.rows) // scale), -(-(window.left + window.cols) // scale)
    top, left = window.top // scale, window.left // scale
    low = Window(top, left, bottom - top, right - left)
    return [key for key in plan.keys(low) if tile_window(plan, key, scale=scale).intersect(window) is not None]


def feather_weight(plan: TilePlan, key: TileKey, window: Window, *, scale: int) -> WeightArray:
    """Weight of a tile at the pixels of a window.

    Args:
        plan: how the low-resolution grid is cut.
        key: the tile.
        window: any window of the high-resolution grid; the weight is 0 where the tile does not reach.
        scale: high-resolution pixels per low-resolution pixel.

    Returns:
        (rows, cols) float64 in [0, 1]; at every pixel of the grid the weights of all tiles sum to 1.

    Raises:
        UsageError: the feather is more than half the core, so that three tiles would meet.
    """
    down, right = axis_weights(plan, key, window, scale=scale)
    return down[:, None] * right[None, :]


def axis_weights(plan: TilePlan, key: TileKey, window: Window, *, scale: int) -> tuple[WeightArray, WeightArray]:
    """The two factors of ``feather_weight``: (rows,) and (cols,) float64."""
    if 2 * plan.feather > plan.core:
        raise UsageError(f"feather {plan.feather} is more than half of the tile core {plan.core}: lower it")
    core, reach = plan.core_window(key), plan.feather * scale
    rows, cols = plan.grid.shape
    down = _ramp(window.top, window.rows, core.top, plan.core, grid=rows, scale=scale, reach=reach)
    right = _ramp(window.left, window.cols, core.left, plan.core, grid=cols, scale=scale, reach=reach)
    return down, right


def _ramp(first: int, count: int, core_first: int, core: int, *, grid: int, scale: int, reach: int) -> WeightArray:
    """Weight along one axis; ``core_first``, ``core`` and ``grid`` are low-resolution pixels, the rest high."""
    centre = first + np.arange(count, dtype=np.float64) + 0.5
    low, high = core_first * scale, (core_first + core) * scale
    weight = ((centre > low - reach) & (centre < high + reach)).astype(np.float64)
    if reach == 0:
        return weight
    # A neighbour exists when its core meets the grid (TilePlan.keys); then the two share the zone around the line.
    if core_first > 0:
        weight *= np.sin(np.pi / 2 * np.clip((centre - (low - reach)) / (2 * reach), 0, 1)) ** 2
    if core_first + core < grid:
        weight *= np.sin(np.pi / 2 * np.clip((high + reach - centre) / (2 * reach), 0, 1)) ** 2
    return weight


class Blend:
    """Weighted mean of the tiles over one window.

    Contributions are kept as they come and summed in the order of their keys, in float64, so that the result does not
    depend on the order of arrival. A value that is not finite does not count; the others fill its share.

    Args:
        plan: how the low-resolution grid is cut.
        window: the pixels to produce, on the high-resolution grid.
        channels: number of channels of every contribution.
        scale: high-resolution pixels per low-resolution pixel.
    """

    def __init__(self, plan: TilePlan, window: Window, *, channels: int, scale: int) -> None:
        self.plan, self.window, self.channels, self.scale = plan, window, channels, scale
        self._pieces: dict[TileKey, tuple[Window, FloatArray]] = {}

    def missing(self) -> list[TileKey]:
        """Tiles that contribute to the window and have not been added, row by row."""
        return [key for key in contributors(self.plan, self.window, scale=self.scale) if key not in self._pieces]

    def piece_window(self, key: TileKey) -> Window | None:
        """The part of the window that a tile contributes to; None when it does not reach."""
        return tile_window(self.plan, key, scale=self.scale).intersect(self.window)

    def add(self, key: TileKey, values: FloatArray, *, at: Window | None = None) -> None:
        """Take the values of a tile.

        Args:
            key: the tile; each tile counts once.
            values: (channels, rows, cols) float32 over ``at``.
            at: where ``values`` lie on the high-resolution grid; the tile's whole contribution when None.

        Raises:
            ValueError: the tile was added before, the shape does not fit, or ``at`` leaves out needed pixels.
        """
        outer = at or tile_window(self.plan, key, scale=self.scale)
        if values.shape != (self.channels, outer.rows, outer.cols):
            raise ValueError(f"tile {key}: shape {values.shape}, not {(self.channels, outer.rows, outer.cols)}")
        if key in self._pieces:
            raise ValueError(f"tile {key} was added twice")
        inner = self.piece_window(key)
        if inner is None:
            return
        if inner.intersect(outer) != inner:
            raise ValueError(f"tile {key}: values over {outer} leave out pixels of {inner}")
        # A copy, so that the whole tile is not kept alive by the sliver that this window needs.
        self._pieces[key] = (inner, crop(values, outer, inner).copy())

    def result(self) -> FloatArray:
        """The blended window: (channels, rows, cols) float32, NaN where nothing finite was added."""
        out = np.empty((self.channels, self.window.rows, self.window.cols), np.float32)
        for strip in self._strips():
            rows, cols = strip.slices_in(self.window)
            out[:, rows, cols] = self._blend(strip)
        return out

    def _strips(self) -> Iterator[Window]:
        whole = self.window
        for top in range(whole.top, whole.top + whole.rows, _ROWS_AT_ONCE):
            yield Window(top, whole.left, min(_ROWS_AT_ONCE, whole.top + whole.rows - top), whole.cols)

    def _blend(self, strip: Window) -> FloatArray:
        total = np.zeros((self.channels, strip.rows, strip.cols), np.float64)
        weights = np.zeros_like(total)
        for key in sorted(self._pieces):
            at, values = self._pieces[key]
            part = at.intersect(strip)
            if part is None:
                continue
            rows, cols = part.slices_in(strip)
            piece = crop(values, at, part)
            finite = np.isfinite(piece)
            weight = np.where(finite, feather_weight(self.plan, key, part, scale=self.scale), 0.0)
            total[:, rows, cols] += weight * np.where(finite, piece, 0.0)
            weights[:, rows, cols] += weight
        blended = np.full(total.shape, np.nan, np.float64)
        np.divide(total, weights, out=blended, where=weights > 0)
        return blended.astype(np.float32)


def crop(values: FloatArray, outer: Window, inner: Window) -> FloatArray:
    """View of the pixels ``inner`` in an array (channels, rows, cols) that covers ``outer``."""
    rows, cols = inner.slices_in(outer)
    return values[:, rows, cols]


class MarginCache:
    """Scratch copies of what a computed tile gives to regions that are still to be done.

    A tile that straddles regions is then computed once. It is only a cache: a file that is absent, truncated or
    altered is a miss, and a full disk makes ``put`` return False; the tile is computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, region_id: str, key: TileKey) -> Path:
        return self.folder / region_id / f"{key.row}_{key.col}.npy"

    def put(self, region_id: str, key: TileKey, values: FloatArray) -> bool:
        """Keep (channels, rows, cols) float32 exactly; False when the disk did not take them."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(values, dtype=np.float32), allow_pickle=False)
        data = buffer.getvalue()
        path = self._path(region_id, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data + hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest(), durable=False)
        except OSError:
            return False
        return True

    def get(self, region_id: str, key: TileKey, shape: tuple[int, int, int]) -> FloatArray | None:
        """The values kept for a tile in a region; None when there are none of this shape, or they are damaged."""
        try:
            stored = self._path(region_id, key).read_bytes()
        except OSError:
            return None
        data, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
        if hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest() != digest:
            return None
        values: FloatArray = np.load(io.BytesIO(data), allow_pickle=False)
        return values if values.shape == shape and values.dtype == np.float32 else None

    def drop(self, region_id: str) -> None:
        """Forget a region that is done."""
        shutil.rmtree(self.folder / region_id, ignore_errors=True)
