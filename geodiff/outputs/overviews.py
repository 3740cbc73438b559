"""Overviews of a store: valid-aware 2 x 2 means, region by region, in memory that does not grow with the scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geodiff.grid import Grid, Window
from geodiff.outputs.ledger import Ledger
from geodiff.outputs.packing import PACKINGS, PackedArray
from geodiff.outputs.shards import Encoded, read_packed, write_packed
from geodiff.outputs.store_layout import (
    group_attributes,
    multiscales_attributes,
    overview_grid,
    overview_levels,
    write_group,
)
from geodiff.outputs.store_spec import Region, StoreSpec, regions_of
from geodiff.schema import BoolArray


def halve(codes: PackedArray, *, fill: int) -> PackedArray:
    """Mean of the values among each 2 x 2 pixels, fill where there are none.

    Args:
        codes: (..., rows, cols) packed values; an odd last row or column is averaged alone.
        fill: the code of "no value".

    Returns:
        (..., ceil(rows / 2), ceil(cols / 2)) of the same type, rounded to the nearest code, ties to even.
    """
    filled = codes != fill
    counts = _sum4(filled.astype(np.uint32))
    sums = _sum4(np.where(filled, codes, 0).astype(np.uint32))
    means = np.full(sums.shape, float(fill))
    np.divide(sums, counts, out=means, where=counts > 0)
    result: PackedArray = np.rint(means).astype(codes.dtype)
    return result


def halve_mask(valid: BoolArray) -> BoolArray:
    """True where any of each 2 x 2 pixels (rows, cols) is."""
    result: BoolArray = _sum4(valid.astype(np.uint32)) > 0
    return result


def _sum4(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    rows, cols = values.shape[-2:]
    odd = [(0, 0)] * (values.ndim - 2) + [(0, rows % 2), (0, cols % 2)]
    v = np.pad(values, odd)
    total: npt.NDArray[np.uint32] = v[..., ::2, ::2] + v[..., 1::2, ::2] + v[..., ::2, 1::2] + v[..., 1::2, 1::2]
    return total


def build_overviews(path: Path, spec: StoreSpec, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Write every overview of a store from the level below it; regions that are marked as done are skipped."""
    levels = range(1, overview_levels(spec.grid) + 1)
    work = {level: regions_of(spec, overview_grid(spec.grid, level), level=level) for level in levels}
    done, total, count = Ledger(path).done(), sum(map(len, work.values())), 0
    for level in levels:
        _ensure_group(path, spec, level)
        for region in work[level]:
            if region.id not in done:
                write_packed(path, spec, region, _reduce(path, spec, region))
            count += 1
            if progress:
                progress(count, total)


def _ensure_group(path: Path, spec: StoreSpec, level: int) -> None:
    import zarr

    if Ledger(path).digest(f"group{level}") is not None:
        return
    grid = overview_grid(spec.grid, level)
    group = zarr.create_group(path / str(level), zarr_format=3, attributes=group_attributes(grid), overwrite=True)
    write_group(group, spec, grid)
    Ledger(path).mark(f"group{level}", "created")


def _reduce(path: Path, spec: StoreSpec, region: Region) -> Encoded:
    finer: Grid = overview_grid(spec.grid, region.level - 1)
    window = region.window.scaled(2).intersect(Window(0, 0, *finer.shape))
    assert window is not None
    packed = read_packed(path, spec, window, time=region.time, level=region.level - 1)
    reduced: Encoded = {}
    for name, values in packed.items():
        if name == "valid":
            reduced[name] = halve_mask(values.astype(np.bool_)).astype(np.uint8)
        else:
            packing = PACKINGS[name]
            # Band by band: the sums take twice the room of the codes.
            bands = [halve(band.astype(packing.dtype), fill=packing.fill) for band in _bands(values)]
            reduced[name] = np.stack(bands) if values.ndim > 2 else bands[0]
    return reduced


def _bands(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(band, y, x), of one band where there is none."""
    return values if values.ndim > 2 else values[None]


def write_root(path: Path, spec: StoreSpec) -> None:
    """Describe the pyramid in the root group and consolidate the metadata: after this the store is final."""
    import zarr

    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    group.attrs.put(multiscales_attributes(dict(group.attrs), spec.grid))
    zarr.consolidate_metadata(path, zarr_format=3)
