"""Bands at their own sampling: a patch on the 10 m lattice, split by native pixel and joined again.

A patch holds a band of 20 m as blocks of two by two pixels of the absolute lattice. What the sensor saw is the pixel of
20 m: it is regrouped here, restored at twice the factor (x8 where the 10 m bands take x4), and cut to the patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from geodiff.schema import FloatArray, Patch, Restoration
from geodiff.sensor import native_step

Part = tuple[tuple[int, ...], Restoration]
"""Bands, by their place among those of the whole, and what was restored of them."""


def by_step(bands: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Places of the bands by ``sensor.native_step``, the finest step first; bands of one step keep their order."""
    steps = [native_step(band) for band in bands]
    return {step: tuple(i for i, own in enumerate(steps) if own == step) for step in sorted(set(steps))}


def fine_part(patch: Patch, index: Sequence[int]) -> Patch:
    """The same patch with the bands ``index`` alone; the patch itself where these are all, in their order."""
    if tuple(index) == tuple(range(patch.reflectance.shape[1])):
        return patch
    return replace(patch, reflectance=patch.reflectance[:, list(index)], light=_light(patch, index))


def _light(patch: Patch, index: Sequence[int]) -> FloatArray | None:
    return None if patch.light is None else patch.light[:, list(index)]


def coarse_part(patch: Patch, index: Sequence[int], step: int = 2) -> tuple[Patch, slice, slice]:
    """Regroup bands of coarser sampling into their own pixels.

    A coarse pixel is the mean of its block, cells of ``step`` by ``step`` pixels that begin at multiples of ``step`` on
    the absolute lattice. Of a block that the patch cuts the part inside stands for all: the same value where the block
    holds one value, as native pixels do. A coarse pixel is valid where all of it that lies in the patch is: where a
    cloud hides a part of it, its value is a mixture with the cloud's.

    Args:
        patch: on the fine lattice.
        index: of the bands.
        step: fine pixels along a side of a coarse one.

    Returns:
        The patch on the coarse lattice (``pixel_m``, shifts, ``origin_px`` and ``mirrored`` in its own pixels; a pixel
        that lies in the scene with a part is not mirrored), and the rows and columns, in fine pixels from the first of
        its blocks, that the fine patch takes.
    """
    (row, col), (height, width) = patch.origin_px, patch.valid.shape[1:]
    above, left = row % step, col % step
    below, right = -(row + height) % step, -(col + width) % step
    around = ((above, below), (left, right))
    chosen = patch.reflectance[:, list(index)]
    known = np.where(patch.valid[:, None], chosen, np.float32(0))
    # The edge repeated stays within the block that it belongs to.
    values = np.pad(known, ((0, 0), (0, 0), *around), mode="edge")
    seen = np.pad(patch.valid, ((0, 0), *around), mode="edge")
    rows, cols = seen.shape[1] // step, seen.shape[2] // step
    top, bottom, first, last = patch.mirrored
    coarse = Patch(
        reflectance=_block_mean(values, step),
        valid=np.asarray(seen.reshape(-1, rows, step, cols, step).all((2, 4)), np.bool_),
        days=patch.days,
        target_day=patch.target_day,
        target_index=patch.target_index,
        shift_px=(patch.shift_px / np.float32(step)).astype(np.float32),
        pixel_m=patch.pixel_m * step,
        origin_px=((row - above) // step, (col - left) // step),
        light=_light(patch, index),
        mirrored=((above + top) // step, (below + bottom) // step, (left + first) // step, (right + last) // step),
    )
    return coarse, slice(above, above + height), slice(left, left + width)


def _block_mean(values: FloatArray, step: int) -> FloatArray:
    """Mean over blocks of the last two axes; along one axis after the other, so that equal pixels give their value."""
    *lead, height, width = values.shape
    across = values.reshape(*lead, height, width // step, step).mean(-1, dtype=np.float32)
    mean: FloatArray = across.reshape(*lead, height // step, step, width // step).mean(-2, dtype=np.float32)
    return mean


def cut(restored: Restoration, rows: slice, cols: slice, scale: int) -> Restoration:
    """The part of a restoration over rows and columns of its input, ``scale`` pixels of the result to each."""
    own = (..., slice(rows.start * scale, rows.stop * scale), slice(cols.start * scale, cols.stop * scale))
    half = None if restored.half_width is None else restored.half_width[own]
    guessed = None if restored.guessed is None else restored.guessed[own]
    return Restoration(restored.mean[own], restored.members[own], half, guessed)


def join(parts: Sequence[Part]) -> Restoration:
    """One restoration of the bands of several, in the order of the whole.

    Args:
        parts: of equal sides and members; together they hold every band once.

    Returns:
        Half-widths and what is guessed are given where every part gives them; the latter is one layer of all bands, and
        here their mean.
    """
    order = np.argsort([place for index, _ in parts for place in index])
    found = [restored for _, restored in parts]
    mean = np.concatenate([part.mean for part in found])[order]
    members = np.concatenate([part.members for part in found], 1)[:, order]
    half = [part.half_width for part in found if part.half_width is not None]
    widths = np.concatenate(half, 1)[:, order] if len(half) == len(found) else None
    weighted = [len(index) * part.guessed for index, part in parts if part.guessed is not None]
    guessed = (np.sum(weighted, 0) / len(order)).astype(np.float32) if len(weighted) == len(found) else None
    return Restoration(mean, members, widths, guessed)


def restore_by_step(
    patch: Patch, bands: Sequence[str], scale: int, restore: Callable[[Patch, tuple[str, ...], int], Restoration]
) -> Restoration:
    """Restore the bands of each native sampling from their own pixels, and join them.

    Args:
        patch: on the fine lattice, with the bands ``bands``.
        bands: their names.
        scale: high-resolution pixels in one of the fine lattice.
        restore: restores a patch of some bands at a factor: ``scale`` for those of the fine lattice, ``scale * step``
            for the others. It is handed the patch itself where all bands have the fine sampling.
    """
    parts: list[Part] = []
    for step, index in by_step(bands).items():
        names = tuple(bands[i] for i in index)
        if step == 1:
            parts.append((index, restore(fine_part(patch, index), names, scale)))
        else:
            part, rows, cols = coarse_part(patch, index, step)
            parts.append((index, cut(restore(part, names, scale * step), rows, cols, scale)))
    return parts[0][1] if list(by_step(bands)) == [1] else join(parts)
