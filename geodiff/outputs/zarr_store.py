"""The output cube: a template, aligned regions written by independent workers, overviews, one commit.

A region is one shard of one date: whoever writes it touches no file of another region, so that threads, processes and
machines need no lock among themselves. Equal inputs give equal bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from geodiff.outputs.atomic import explained, read_json
from geodiff.outputs.ledger import Ledger, work_folder
from geodiff.outputs.overviews import build_overviews, write_root
from geodiff.outputs.shards import encode, verify_region, write_packed
from geodiff.outputs.store_layout import arrays_of, group_attributes, write_group
from geodiff.outputs.store_spec import Region, StoreSpec, regions
from geodiff.schema import BoolArray, FloatArray, GeodiffError

__all__ = [
    "Region",
    "StoreSpec",
    "create_store",
    "discard_store",
    "done_regions",
    "finalize",
    "is_final",
    "regions",
    "verify_region",
    "write_region",
]

_DIGEST_KEY = "geodiff:store_digest"


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


def discard_store(path: Path) -> None:
    """Take a damaged store away, markers and all: in one move, so that what bears its name is never a part of it.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    with explained(path):
        shutil.rmtree(work_folder(path), ignore_errors=True)
        if path.exists():
            work_folder(path).mkdir()
            os.replace(path, work_folder(path) / "damaged")
            shutil.rmtree(work_folder(path), ignore_errors=True)


def _write_template(path: Path, spec: StoreSpec) -> None:
    import zarr

    attributes = {
        "Conventions": "CF-1.11",
        **json.loads(json.dumps(dict(spec.attrs))),
        **group_attributes(spec.grid),
        _DIGEST_KEY: spec.digest,
    }
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    write_group(group, spec, spec.grid)


def _require_match(path: Path, spec: StoreSpec) -> None:
    root = read_json(path / "zarr.json")
    found = root.get("attributes", {}).get(_DIGEST_KEY) if isinstance(root, dict) else None
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


def write_region(
    path: Path,
    spec: StoreSpec,
    region: Region,
    reflectance: FloatArray,
    uncertainty: FloatArray,
    valid: BoolArray,
    *,
    member: FloatArray | None = None,
    guessed: FloatArray | None = None,
) -> None:
    """Store one region of the full resolution and mark it as done.

    Args:
        path: the store, created before.
        spec: of the store.
        region: one of ``regions(spec)``.
        reflectance: (band, rows, cols), its expectation as the resolver estimates it.
        uncertainty: (band, rows, cols), half-width of the interval about ``reflectance``; NaN where unknown.
        valid: (rows, cols) bool.
        member: (band, rows, cols) reflectance, when the store keeps one.
        guessed: (rows, cols) share 0-1, when the store keeps it; NaN where unknown.

    Raises:
        GeodiffError: disk full (says how much is needed) or not writable.
        ValueError: arrays that do not fit the region.
    """
    if valid.shape != (region.window.rows, region.window.cols):
        raise ValueError(f"region {region.id} has {region.window}, got an array of {valid.shape}")
    packed = encode(spec, reflectance, uncertainty, valid, member=member, guessed=guessed)
    with explained(path, needed=lambda: _remaining_bytes(path, spec)):
        write_packed(path, spec, region, packed)


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
