"""What every resolver needs: a patch as tensors, one thread, and what to return where nothing is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from geodiff.model.images import Series
from geodiff.model.reference import build_series
from geodiff.schema import GeodiffError, Patch, Restoration


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums split over threads differ in their last bits; tiles run side by side instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        # Worker threads of a pool stay at one: only the thread that asked for more gets it back.
        if before != 1:
            torch.set_num_threads(before)


def fill_nearest(image: Tensor, known: Tensor) -> Tensor:
    """Give unknown pixels the value of the nearest known one, so that nothing invented bleeds over the edge."""
    mask = known.numpy()
    if mask.all() or not mask.any():
        return image
    rows, cols = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return image[:, torch.from_numpy(rows), torch.from_numpy(cols)]


def patch_series(patch: Patch) -> tuple[Series, Tensor]:
    """A patch as a batch of one, with its reference; and (y, x) bool: where some date was clear."""
    observed = np.where(patch.valid[:, None], patch.reflectance, 0.0).astype(np.float32)
    index = -1 if patch.target_index is None else patch.target_index
    series, known = build_series(
        torch.from_numpy(observed)[None],
        torch.from_numpy(np.array(patch.valid))[None],
        torch.from_numpy((patch.days - patch.target_day).astype(np.float32))[None],
        torch.from_numpy(np.array(patch.shift_px, np.float32))[None],
        torch.tensor([index]),
        torch.tensor([patch.pixel_m], dtype=torch.float32),
        None if patch.light is None else torch.from_numpy(np.nan_to_num(patch.light).astype(np.float32))[None],
    )
    series.reference[0] = fill_nearest(series.reference[0], known[0])
    return series, known[0]


def whole_cells(patch: Patch, cell: int) -> tuple[Patch, slice, slice]:
    """Grow a patch to whole cells of the absolute lattice, so that neighbours cut the same cells; its own pixels."""
    (row, col), (height, width) = patch.origin_px, patch.valid.shape[1:]
    above, left = row % cell, col % cell
    rows, cols = slice(above, above + height), slice(left, left + width)
    pad = ((above, -(row + height) % cell), (left, -(col + width) % cell))
    if pad == ((0, 0), (0, 0)):
        return patch, rows, cols
    grown = replace(
        patch,
        reflectance=np.pad(patch.reflectance, ((0, 0), (0, 0), *pad)),
        valid=np.pad(patch.valid, ((0, 0), *pad)),
        origin_px=(row - above, col - left),
    )
    return grown, rows, cols


def nothing(patch: Patch, scale: int, members: int, *, levels: int = 0) -> Restoration:
    """What is returned for a patch without a single clear pixel; ``levels`` half-widths, none for 0."""
    bands, rows, cols = patch.reflectance.shape[1:]
    empty = np.full((members + 1, bands, rows * scale, cols * scale), np.nan, np.float32)
    if not levels:
        return Restoration(mean=empty[0], members=empty[1:])
    return Restoration(empty[0], empty[1:], np.repeat(empty[:1], levels, 0), empty[0, 0].copy())


def hide(restored: Restoration, known: Tensor, scale: int) -> Restoration:
    """NaN where no date showed the ground: what is there is the prior's alone.

    Raises:
        GeodiffError: elsewhere it is not finite; weights may be finite, and overflow.
    """
    unknown = ~known.numpy().repeat(scale, 0).repeat(scale, 1)
    if not all(np.isfinite(image[..., ~unknown]).all() for image in (restored.mean, restored.members)):
        raise GeodiffError("the model gives no finite values: its weights are damaged")
    restored.mean[:, unknown] = np.nan
    restored.members[:, :, unknown] = np.nan
    for layer in (restored.half_width, restored.guessed):
        if layer is not None:
            layer[..., unknown] = np.nan
    return restored
