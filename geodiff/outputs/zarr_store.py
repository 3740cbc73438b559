"""The output cube: a template, aligned regions written by independent workers, overviews, one commit.

A region is one shard of one date: whoever writes it touches no file of another region, so that threads, processes and
machines need no lock among themselves. Equal inputs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.grid import Grid, Window
from geodiff.outputs.atomic import explained, read_json, sync
from geodiff.outputs.ledger import Ledger, work_folder
from geodiff.outputs.packing import REFLECTANCE, UNCERTAINTY
from geodiff.outputs.store_layout import arrays_of, group_attributes, write_group
from geodiff.schema import BoolArray, FloatArray, GeodiffError, UsageError

Encoded = dict[str, npt.NDArray[np.generic]]

_SPEC_KEY = "geodiff:store"


@dataclass(frozen=True)
class StoreSpec:
    """All that decides what a store looks like.

    Attributes:
        grid: the high-resolution grid.
        bands: names, in order.
        times: restored dates, UTC, strictly increasing, as datetime64[s].
        members: also keep the first member of the ensemble.
        shard: side of a region in pixels; a multiple of ``chunk``.
        chunk: side of the smallest readable block in pixels.
        attrs: attributes of the root group (provenance); anything that JSON can hold.
    """

    grid: Grid
    bands: tuple[str, ...]
    times: tuple[np.datetime64, ...]
    members: bool = False
    shard: int = 1024
    chunk: int = 256
    attrs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        seconds = np.array(self.times, dtype="datetime64[s]")
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise UsageError(f"bands {self.bands}: give at least one band, each once")
        if seconds.size == 0 or bool(np.any(seconds[1:] <= seconds[:-1])):
            raise UsageError("the output dates must be given in increasing order, at least one")
        if self.chunk < 1 or self.shard % self.chunk:
            raise UsageError(f"shard of {self.shard} pixels is not a multiple of the chunk of {self.chunk} pixels")

    @cached_property
    def digest(self) -> str:
        """Hash of everything above, stored in the root group: the same run has the same digest."""
        times = [str(np.datetime64(time, "s")) for time in self.times]
        grid = [self.grid.crs, self.grid.resolution, self.grid.origin, self.grid.shape]
        value = [grid, self.bands, times, self.members, self.shard, self.chunk, dict(self.attrs)]
        return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Region:
    """One shard of one date: the unit of work.

    Attributes:
        time: index of the date.
        row: of the shard.
        col: of the shard.
        window: its pixels on the grid of the store, cut off at the grid's edge.
        level: 0 for the full resolution, n for the n-th overview.
    """

    time: int
    row: int
    col: int
    window: Window
    level: int = 0

    @property
    def id(self) -> str:
        """Name of the region in the ledger and in scratch folders."""
        level = f"overview{self.level}-" if self.level else ""
        return f"{level}t{self.time:04d}-r{self.row:04d}-c{self.col:04d}"


def regions(spec: StoreSpec) -> list[Region]:
    """All regions of a store: date by date, in raster order."""
    return regions_of(spec, spec.grid, level=0)


def regions_of(spec: StoreSpec, grid: Grid, *, level: int) -> list[Region]:
    """All regions of one level, whose grid is ``grid``."""
    (height, width), side = grid.shape, spec.shard
    return [
        Region(time, top // side, left // side, _cut(top, left, side, grid), level)
        for time in range(len(spec.times))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def _cut(top: int, left: int, side: int, grid: Grid) -> Window:
    return Window(top, left, min(side, grid.shape[0] - top), min(side, grid.shape[1] - left))


def create_store(path: Path, spec: StoreSpec) -> None:
    """Create the empty store, whole or not at all; keep a matching one, so that a run resumes.

    One process creates a store (``ledger.exclusive``); any number may write its regions afterwards.

    Raises:
        GeodiffError: something else is at ``path``, or the folder cannot be written.
    """
    with explained(path, needed=lambda: _remaining_bytes(path, spec)):
        if path.exists():
            _require_match(path, spec)
            if not is_final(path):
                Ledger(path).open()
            return
        # Markers of a store that somebody removed would make its successor skip regions.
        shutil.rmtree(work_folder(path), ignore_errors=True)
        Ledger(path).open()
        template = work_folder(path) / "template"
        _write_template(template, spec)
        os.replace(template, path)


def _write_template(path: Path, spec: StoreSpec) -> None:
    import zarr

    attributes = {
        "Conventions": "CF-1.11",
        **json.loads(json.dumps(dict(spec.attrs))),
        **group_attributes(spec.grid),
        _SPEC_KEY: {"format": 1, "digest": spec.digest},
    }
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    write_group(group, spec, spec.grid)


def _require_match(path: Path, spec: StoreSpec) -> None:
    root = read_json(path / "zarr.json")
    found = root.get("attributes", {}).get(_SPEC_KEY, {}).get("digest") if isinstance(root, dict) else None
    if found is None:
        raise GeodiffError(f"{path} exists and is not a store of geodiff: choose another --out, or remove it")
    if found != spec.digest:
        raise GeodiffError(f"{path} holds another run (grid, dates, bands or settings differ): choose another --out")


def is_final(path: Path) -> bool:
    """True when a store has been finished: its metadata are consolidated as the last step."""
    root = read_json(path / "zarr.json")
    return isinstance(root, dict) and "consolidated_metadata" in root


def done_regions(path: Path, spec: StoreSpec) -> list[Region]:
    """Regions that need no more work, in raster order."""
    if is_final(path):
        return regions(spec)
    done = Ledger(path).done()
    return [region for region in regions(spec) if region.id in done]


def encode(
    spec: StoreSpec,
    reflectance: FloatArray,
    uncertainty: FloatArray,
    valid: BoolArray,
    *,
    member: FloatArray | None = None,
) -> Encoded:
    """Pack the arrays of a region as they are stored.

    A pixel is valid when ``valid`` says so and every band of ``reflectance`` is finite; elsewhere all is fill.

    Raises:
        ValueError: shapes that do not fit, or a member where the store keeps none (and the reverse).
    """
    shape = (len(spec.bands), *valid.shape)
    if (member is not None) != spec.members:
        raise ValueError(f"the store {'keeps' if spec.members else 'does not keep'} a member")
    for name, values in (("reflectance", reflectance), ("uncertainty", uncertainty), ("member", member)):
        if values is not None and values.shape != shape:
            raise ValueError(f"{name}: shape {values.shape}, not {shape}")
    keep: BoolArray = valid.astype(np.bool_) & np.isfinite(reflectance).all(axis=0)
    packed: Encoded = {
        "reflectance": REFLECTANCE.pack(reflectance, keep),
        "uncertainty": UNCERTAINTY.pack(uncertainty, keep),
        "valid": keep,
    }
    if member is not None:
        packed["member"] = REFLECTANCE.pack(member, keep)
    return packed


def write_region(
    path: Path,
    spec: StoreSpec,
    region: Region,
    reflectance: FloatArray,
    uncertainty: FloatArray,
    valid: BoolArray,
    *,
    member: FloatArray | None = None,
) -> None:
    """Store one region of the full resolution and mark it as done.

    Args:
        path: the store, created before.
        spec: of the store.
        region: one of ``regions(spec)``.
        reflectance: (band, rows, cols) reflectance.
        uncertainty: (band, rows, cols), standard deviation of reflectance; NaN where unknown.
        valid: (rows, cols) bool.
        member: (band, rows, cols) reflectance, when the store keeps one.

    Raises:
        GeodiffError: disk full (says how much is needed) or not writable.
        ValueError: arrays that do not fit the region.
    """
    if valid.shape != (region.window.rows, region.window.cols):
        raise ValueError(f"region {region.id} has {region.window}, got an array of {valid.shape}")
    packed = encode(spec, reflectance, uncertainty, valid, member=member)
    with explained(path, needed=lambda: _remaining_bytes(path, spec)):
        write_packed(path, spec, region, packed)


def write_packed(path: Path, spec: StoreSpec, region: Region, packed: Encoded) -> None:
    """Store the packed arrays of a region of any level and mark it as done; OSError as it comes."""
    import zarr

    ledger, digest = Ledger(path), _checksum(packed)
    if ledger.digest(region.id) == digest:
        return
    ledger.unmark(region.id)
    group = zarr.open_group(path / str(region.level) if region.level else path, mode="r+", use_consolidated=False)
    for name in arrays_of(spec):
        file = _shard_file(path, region, name)
        # Left by a run that was killed: removed, lest the old chunks be merged into the new shard.
        file.unlink(missing_ok=True)
        array = group[name]
        assert isinstance(array, zarr.Array)
        array[_selection(region, packed[name].ndim)] = packed[name][None]
        sync(file)
    ledger.mark(region.id, digest)


def read_packed(path: Path, spec: StoreSpec, window: Window, *, time: int, level: int) -> Encoded:
    """Packed arrays of a window of one date and level: (band, rows, cols), or (rows, cols) for ``valid``."""
    import zarr

    group = zarr.open_group(path / str(level) if level else path, mode="r", use_consolidated=False)
    where = Region(time, 0, 0, window)
    packed: Encoded = {}
    for name in arrays_of(spec):
        array = group[name]
        assert isinstance(array, zarr.Array)
        packed[name] = np.asarray(array[_selection(where, array.ndim - 1)])[0]
    return packed


def verify_region(path: Path, spec: StoreSpec, region: Region) -> bool:
    """Read a finished region back and compare it with the checksum in the ledger."""
    packed = read_packed(path, spec, region.window, time=region.time, level=region.level)
    return Ledger(path).digest(region.id) == _checksum(packed)


def _selection(region: Region, ndim: int) -> tuple[slice, ...]:
    w = region.window
    place = (slice(w.top, w.top + w.rows), slice(w.left, w.left + w.cols))
    return (slice(region.time, region.time + 1), *((slice(None),) * (ndim - 2)), *place)


def _shard_file(path: Path, region: Region, name: str) -> Path:
    folder = path / str(region.level) / name if region.level else path / name
    middle = ("0",) if name != "valid" else ()
    return folder.joinpath("c", str(region.time), *middle, str(region.row), str(region.col))


def _checksum(packed: Encoded) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(packed):
        digest.update(f"{name} {packed[name].dtype.str} {packed[name].shape}".encode())
        digest.update(np.ascontiguousarray(packed[name]).data)
    return digest.hexdigest()


def _remaining_bytes(path: Path, spec: StoreSpec) -> int:
    """Upper bound of what is still to be written: all pixels uncompressed, and a third more for the overviews."""
    done = Ledger(path).done()
    pixels = sum(r.window.rows * r.window.cols for r in regions(spec) if r.id not in done)
    per_pixel = 1 + 2 * len(spec.bands) * (len(arrays_of(spec)) - 1)
    return pixels * per_pixel * 4 // 3


def finalize(path: Path, spec: StoreSpec, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Finish a store whose regions are all done: overviews, consolidated metadata; then the work folder goes.

    Safe to be killed and called again; a finished store is left alone.

    Args:
        path: the store.
        spec: of the store.
        progress: called with (overview regions done, all of them).

    Raises:
        GeodiffError: regions are missing, or the disk is full.
    """
    from geodiff.outputs.overviews import build_overviews, write_root

    if not is_final(path):
        missing = len(regions(spec)) - len(done_regions(path, spec))
        if missing:
            raise GeodiffError(f"{path}: {missing} of {len(regions(spec))} regions are not written; run again")
        with explained(path, needed=lambda: _remaining_bytes(path, spec)), warnings.catch_warnings():
            # Consolidated metadata are an agreed extension of Zarr format 3 that zarr-python warns about.
            warnings.simplefilter("ignore", category=UserWarning)
            build_overviews(path, spec, progress=progress)
            write_root(path, spec)
    Ledger(path).close()
