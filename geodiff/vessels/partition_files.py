"""The files of a partition: parts of a source, written a batch at a time, and small files that appear whole."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from geodiff.schema import GeodiffError
from geodiff.vessels.read_columns import OUT_SCHEMA


def part_of(vessel_id: pl.Series, parts: int) -> pl.Series:
    """Part of each identity, the same on every machine: Fibonacci hashing (Knuth, TAOCP 3, 6.4); null is in part 0."""
    numbers = vessel_id.fill_null(0).to_numpy().astype(np.uint64)
    mixed = (numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    part = pl.Series("part", mixed % np.uint64(parts)).cast(pl.Int32)
    return part.zip_with(vessel_id.is_not_null(), pl.Series("part", [0], pl.Int32).new_from_index(0, len(part)))


def part_name(part: int) -> str:
    """File of a part in the folder of a source."""
    return f"part-{part:03d}.parquet"


@contextmanager
def part_writers(folder: Path) -> Iterator[Callable[[pl.DataFrame, int], None]]:
    """A function that appends a batch to the files of its parts; each batch is one row group of each."""
    opened: dict[int, pq.ParquetWriter] = {}

    def write(batch: pl.DataFrame, parts: int) -> None:
        absent = [pl.lit(None, kind).alias(name) for name, kind in OUT_SCHEMA.items() if name not in batch.columns]
        whole = batch.with_columns(absent).select(list(OUT_SCHEMA))
        whole = whole.with_columns(part_of(whole["vessel_id"], parts))
        for (part,), rows in whole.partition_by("part", include_key=False, as_dict=True).items():
            table: pa.Table = rows.to_arrow()
            if part not in opened:
                path = folder / part_name(int(part))
                opened[part] = pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
            opened[part].write_table(table)

    try:
        yield write
    finally:
        for writer in opened.values():
            writer.close()
    for part in opened:
        _sync(folder / part_name(part))


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own a folder against other processes of this machine."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise GeodiffError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GeodiffError(f"{folder} is being written by another process: wait for it, or name another") from None
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = ": free space and run the same command again, it resumes with the files that are read" if full else ""
        raise GeodiffError(f"{folder}: cannot be written ({error.strerror or error}){hint}") from None
    finally:
        os.close(lock)


def write_json(path: Path, value: object) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    _sync(temporary)
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """A mapping; None where the file is absent, truncated, nested without end, or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _sync(path: Path) -> None:
    """Flush a file to the disk before its name counts."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
