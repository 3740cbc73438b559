"""What a pass of association has done so far, on disk: rows by part in numbered folders, and the state of the stream.

``progress.json``, written last, is the commit: rows and states that it does not speak of are dropped by the next run.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from geodiff.outputs.atomic import explained, read_json, write_json
from geodiff.outputs.track_columns import arrow_table
from geodiff.tasks.vessels_job import part_name
from geodiff.tracks import TIME, TRACK_ID
from geodiff.vessels.associate_stream import State, Stream

PROGRESS = "progress.json"


@dataclass(eq=False)
class Journal:
    """Of one pass; opened where an earlier one was stopped.

    Attributes:
        folder: where it lies.
        stream: whose state is kept.
        done: batches that are done.
        counts: of plots, of those outside the region, and of those without a time.
    """

    folder: Path
    stream: Stream
    done: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"outside": 0, "no time": 0, "plots": 0})
    _writers: dict[int, pq.ParquetWriter] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, stream: Stream) -> Self:
        """Take up what an earlier pass kept, putting the stream in its state, or begin anew."""
        told = read_json(folder / PROGRESS)
        journal = cls(folder, stream)
        try:
            if isinstance(told, dict):
                stream.restore(_load(folder / f"state-{int(told['done']):05d}"))
                journal.done = int(told["done"])
                journal.counts |= {name: int(count) for name, count in told["counts"].items()}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pl.exceptions.PolarsError):
            journal = cls(folder, stream)
        journal._drop_others()
        return journal

    def write(self, batch: pl.DataFrame, parts: int) -> None:
        """Append rows to the files of their parts: by track, and clutter by its time."""
        self.counts["plots"] += len(batch)
        key = pl.coalesce(pl.col(TRACK_ID).str.extract(r"^t(\d+)/").cast(pl.Int64), pl.col(TIME).dt.epoch("s"))
        placed = batch.with_columns((key % parts).alias("_part"))
        tables = placed.partition_by("_part", include_key=False, as_dict=True, maintain_order=True)
        with explained(self.folder):
            for (part,), rows in tables.items():
                self._append(int(part), rows)

    def _append(self, part: int, rows: pl.DataFrame) -> None:
        table = arrow_table(rows)
        if part not in self._writers:
            path = self._rows / f"{part_name(part)}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writers[part] = pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        self._writers[part].write_table(table)

    def keep(self) -> None:
        """One more batch is done: keep its rows and the state after it."""
        self.close()
        self.done += 1
        with explained(self.folder):
            _save(self.stream.state(), self.folder / f"state-{self.done:05d}")
            write_json(self.folder / PROGRESS, {"done": self.done, "counts": self.counts})
        shutil.rmtree(self.folder / f"state-{self.done - 1:05d}", ignore_errors=True)

    def close(self) -> None:
        """End the files at hand."""
        with explained(self.folder):
            while self._writers:
                self._writers.popitem()[1].close()

    @property
    def _rows(self) -> Path:
        """Folder of what the batch at hand decides."""
        return self.folder / f"rows-{self.done:05d}"

    def _drop_others(self) -> None:
        """Remove what was written after the commit, or everything where there was none."""
        states = [path for path in self.folder.glob("state-*") if path.name != f"state-{self.done:05d}"]
        rows = [path for path in self.folder.glob("rows-*") if path.name >= self._rows.name]
        for path in (*states, *rows):
            shutil.rmtree(path, ignore_errors=True)
        if not self.done:
            (self.folder / PROGRESS).unlink(missing_ok=True)


def _save(state: State, folder: Path) -> None:
    arrays, frames = state
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
    for name, frame in frames.items():
        frame.write_ipc(folder / f"{name}.arrow", compression="lz4")


def _load(folder: Path) -> State:
    with np.load(io.BytesIO((folder / "arrays.npz").read_bytes()), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, {path.stem: pl.read_ipc(path.read_bytes()) for path in sorted(folder.glob("*.arrow"))}
