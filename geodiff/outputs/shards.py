"""Packed arrays to shards and back: one region, one file per variable, written whole and marked in the ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geodiff.grid import Window
from geodiff.outputs.atomic import sync
from geodiff.outputs.ledger import Ledger
from geodiff.outputs.packing import GUESSED, REFLECTANCE, UNCERTAINTY
from geodiff.outputs.store_layout import FLAT, arrays_of
from geodiff.outputs.store_spec import Region, StoreSpec
from geodiff.schema import BoolArray, FloatArray, GeodiffError

Encoded = dict[str, npt.NDArray[np.generic]]


def encode(
    spec: StoreSpec,
    reflectance: FloatArray,
    uncertainty: FloatArray,
    valid: BoolArray,
    *,
    member: FloatArray | None = None,
    guessed: FloatArray | None = None,
) -> Encoded:
    """Pack the arrays of a region as they are stored.

    A pixel is valid when ``valid`` says so and every band of ``reflectance`` is finite; elsewhere all is fill.

    Raises:
        ValueError: shapes that do not fit, or a member or guesses where the store keeps none (and the reverse).
    """
    shape = (len(spec.bands), *valid.shape)
    if (member is not None) != spec.members:
        raise ValueError(f"the store {'keeps' if spec.members else 'does not keep'} a member")
    if (guessed is not None) != spec.guessed:
        raise ValueError(f"the store {'keeps' if spec.guessed else 'does not keep'} what is guessed")
    if guessed is not None and guessed.shape != valid.shape:
        raise ValueError(f"guessed: shape {guessed.shape}, not {valid.shape}")
    for name, values in (("reflectance", reflectance), ("uncertainty", uncertainty), ("member", member)):
        if values is not None and values.shape != shape:
            raise ValueError(f"{name}: shape {values.shape}, not {shape}")
    keep: BoolArray = valid.astype(np.bool_) & np.isfinite(reflectance).all(axis=0)
    packed: Encoded = {
        "reflectance": REFLECTANCE.pack(reflectance, keep),
        "uncertainty": UNCERTAINTY.pack(uncertainty, keep),
        "valid": keep.astype(np.uint8),
    }
    if member is not None:
        packed["member"] = REFLECTANCE.pack(member, keep)
    if guessed is not None:
        packed["guessed"] = GUESSED.pack(guessed, keep)
    return packed


def write_packed(path: Path, spec: StoreSpec, region: Region, packed: Encoded) -> None:
    """Store the packed arrays of a region of any level and mark it as done; OSError as it comes.

    Raises:
        GeodiffError: the store is finished, or was not created.
    """
    import zarr

    ledger, digest = Ledger(path), _checksum(packed)
    if not ledger.folder.is_dir():
        raise GeodiffError(f"{path} is not open for writing: it is finished, or was not created")
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


def read_packed(
    path: Path, spec: StoreSpec, window: Window, *, time: int, level: int, names: tuple[str, ...] | None = None
) -> Encoded:
    """Packed arrays of a window of one date and level: (band, rows, cols), or (rows, cols) for ``valid``.

    ``names`` limits what is read to some variables.
    """
    import zarr

    group = zarr.open_group(path / str(level) if level else path, mode="r", use_consolidated=False)
    where = Region(time, 0, 0, window)
    packed: Encoded = {}
    for name in names or arrays_of(spec):
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
    middle = ("0",) if name not in FLAT else ()
    return folder.joinpath("c", str(region.time), *middle, str(region.row), str(region.col))


def _checksum(packed: Encoded) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(packed):
        digest.update(f"{name} {packed[name].dtype.str} {packed[name].shape}".encode())
        digest.update(np.ascontiguousarray(packed[name]).data)
    return digest.hexdigest()
