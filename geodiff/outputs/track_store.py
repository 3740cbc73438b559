"""The files of a run over tracks: written part by part, finished in one go, committed by the STAC item.

A part is a table of whole tracks (a partition by identity). Workers write parts in any order into the work folder
``<run id>.work``; each is complete or absent. ``finalize`` then makes, in the order of the parts and so independent of
who wrote them,

- ``<run id>.parquet``: all fixes (GeoParquet 1.1, a point for each; one row group for each part),
- ``<run id>_tracks.parquet``: one row for each track (GeoParquet 1.1, lines),
- ``<run id>.zarr``: the fixes as a CF ragged array, with the members of the ensemble where they are kept.

Each gets its name only when it is whole. Publish the item (``track_item``) last: what no item names is not finished.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from geodiff.outputs.atomic import explained, replacing, sync
from geodiff.outputs.ledger import Ledger, work_folder
from geodiff.outputs.stac_items import check_name
from geodiff.outputs.track_cf import require_array_names
from geodiff.outputs.track_columns import MEMBERS, TYPES, conform, merged_schema, standard_frame
from geodiff.outputs.track_layer import summarise_tracks
from geodiff.outputs.track_parquet import Box, GeoParquetWriter, fixes_table
from geodiff.outputs.track_zarr import TrackZarrWriter
from geodiff.schema import GeodiffError
from geodiff.tracks import LAT, LON, TRACK_ID

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrackStore:
    """Where a run writes its tracks.

    Attributes:
        folder: as a rule ``<out>/<region>``.
        run_id: hash of configuration, inputs and model; also the stem of the files.
        members: keep the columns of the members in the Zarr store.
    """

    folder: Path
    run_id: str
    members: bool = True

    @property
    def stem(self) -> Path:
        """The files of the run without their endings; what ``ledger.exclusive`` takes."""
        return self.folder / self.run_id

    @property
    def fixes_path(self) -> Path:
        return self.folder / f"{self.run_id}.parquet"

    @property
    def tracks_path(self) -> Path:
        return self.folder / f"{self.run_id}_tracks.parquet"

    @property
    def zarr_path(self) -> Path:
        return self.folder / f"{self.run_id}.zarr"

    @property
    def files(self) -> tuple[Path, ...]:
        """What ``finalize`` makes."""
        return (self.fixes_path, self.tracks_path, self.zarr_path)

    def is_final(self) -> bool:
        """True when every file has its name."""
        return all(path.exists() for path in self.files)

    def discard(self) -> None:
        """Remove what ``finalize`` made."""
        for path in (self.fixes_path, self.tracks_path):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.zarr_path, ignore_errors=True)

    def open(self) -> None:
        """Make the folders; parts of a run that was cut short stay.

        Raises:
            GeodiffError: a run id that is no file name, or a folder that cannot be written.
        """
        check_name("run id", self.run_id)
        with explained(self.folder):
            self._parts.mkdir(parents=True, exist_ok=True)
            Ledger(self.stem).open()

    @property
    def _parts(self) -> Path:
        return work_folder(self.stem) / "parts"

    def _part(self, name: str) -> Path:
        return self._parts / f"{name}.parquet"

    def _scan(self, name: str) -> pl.LazyFrame:
        return pl.scan_parquet(self._part(name), glob=False)  # a folder may have brackets in its name

    def done(self) -> frozenset[str]:
        """Names of the parts that are written and need not be written again (see also ``is_final``)."""
        return frozenset(name for name in Ledger(self.stem).done() if self._part(name).exists())

    def write_part(self, name: str, fixes: pl.DataFrame) -> None:
        """Write one part and mark it as done; safe for any number of processes, each with parts of its own.

        Args:
            name: of the part; letters, digits, ``.``, ``_`` and ``-``.
            fixes: whole tracks; see ``track_columns`` for its columns. May be empty.

        Raises:
            GeodiffError: a table that does not fit (see ``standard_frame``), a column whose name no array may have, a
                disk that is full or not writable.
        """
        check_name("part", name)
        frame = standard_frame(fixes)
        require_array_names(frame.columns)
        if not self.members:
            frame = frame.drop(MEMBERS, strict=False)
        with explained(self.folder):
            Ledger(self.stem).unmark(name)
            with replacing(self._part(name)) as temporary:
                frame.write_parquet(temporary, compression="zstd", compression_level=1)
                digest = _digest(temporary)
            Ledger(self.stem).mark(name, digest)

    def finalize(
        self, parts: Sequence[str], *, provenance: Mapping[str, Any] | None = None, progress: Progress | None = None
    ) -> None:
        """Make the files of the run from its parts; a run that is final is left alone.

        Safe to be killed and called again. Memory: one part, and a quarter of a million rows for the Zarr store.

        Args:
            parts: names, in the order in which the files hold them.
            provenance: plain values that every file carries.
            progress: called with (parts done, all parts); the Zarr store visits the parts once more.

        Raises:
            GeodiffError: parts are missing or damaged, their columns do not agree, a track lies in two of them.
        """
        if not self.is_final():
            missing = [name for name in parts if name not in self.done()]
            if missing:
                raise GeodiffError(f"{self.stem}: {len(missing)} of {len(parts)} parts are not written; run again")
            with explained(self.folder):
                self._require_sound(parts)
                self._assemble(parts, {"geodiff:run_id": self.run_id, **(provenance or {})}, progress)
        shutil.rmtree(work_folder(self.stem), ignore_errors=True)

    def _require_sound(self, parts: Sequence[str]) -> None:
        ledger = Ledger(self.stem)
        damaged = [name for name in parts if ledger.digest(name) != _digest(self._part(name))]
        for name in damaged:
            ledger.unmark(name)
        if damaged:
            raise GeodiffError(f"{self.stem}: {len(damaged)} parts such as {damaged[0]} are damaged on disk; run again")

    def _assemble(self, parts: Sequence[str], provenance: Mapping[str, Any], progress: Progress | None) -> None:
        schemas = {name: self._scan(name).collect_schema() for name in parts}
        schema = merged_schema(schemas or {"": _NOTHING})
        steps = len(parts) * 2
        self._write_parquet(parts, schema, provenance, progress or _silent, steps)
        if not self.zarr_path.exists():
            template = work_folder(self.stem) / "zarr"
            shutil.rmtree(template, ignore_errors=True)
            self._write_zarr(template, parts, schema, provenance, progress or _silent, steps)
            for path in template.rglob("*"):
                sync(path)
            os.replace(template, self.zarr_path)

    def _write_parquet(
        self, parts: Sequence[str], schema: pl.Schema, provenance: Mapping[str, Any], progress: Progress, steps: int
    ) -> None:
        empty = schema.to_frame()
        points, lines = fixes_table(empty).schema, summarise_tracks(empty).schema
        box, seen = self._box(parts), set[str]()
        paths = [work_folder(self.stem) / path.name for path in (self.fixes_path, self.tracks_path)]
        with ExitStack() as stack:
            fixes = stack.enter_context(GeoParquetWriter(paths[0], points, ("Point",), box, provenance))
            # Which of lines, lines in pieces and points there are is known at the end: none are named, which says so.
            # No box: rejected fixes are in no line, and lines are cut at 180 degrees, where no fix lies.
            tracks = stack.enter_context(GeoParquetWriter(paths[1], lines, (), None, provenance))
            for number, (name, frame) in enumerate(self._frames(parts, schema, pl.lit(True))):
                fixes.write(fixes_table(frame))
                rows = summarise_tracks(frame)
                tracks.write(rows)
                _require_whole(rows, seen, name)
                progress(number + 1, steps)
        for path in paths:
            sync(path)
            os.replace(path, self.folder / path.name)

    def _write_zarr(
        self,
        path: Path,
        parts: Sequence[str],
        schema: pl.Schema,
        provenance: Mapping[str, Any],
        progress: Progress,
        steps: int,
    ) -> None:
        rows = sum(pq.read_metadata(self._part(name)).num_rows for name in parts)
        writer = TrackZarrWriter(path, schema, rows, provenance=provenance)
        for number, (_, frame) in enumerate(self._frames(parts, schema, pl.col(TRACK_ID).is_not_null())):
            writer.write(frame)
            progress(len(parts) + number + 1, steps)
        # Fixes of no track come last, all in one piece, so that every trajectory of the store has an id of its own.
        loose = [name for name in parts if self._loose(name)]
        for _, frame in self._frames(loose, schema, pl.col(TRACK_ID).is_null()):
            writer.write(frame)
        writer.close()

    def _frames(self, parts: Sequence[str], schema: pl.Schema, which: pl.Expr) -> Iterator[tuple[str, pl.DataFrame]]:
        for name in parts:
            yield name, conform(self._scan(name).collect().filter(which), schema)

    def _loose(self, name: str) -> bool:
        """Whether a part has fixes of no track."""
        return bool(self._scan(name).select(pl.col(TRACK_ID).null_count()).collect().item())

    def _box(self, parts: Sequence[str]) -> Box | None:
        """Planar bounds of all positions, a part at a time."""
        placed = pl.col(LON).is_not_null() & pl.col(LAT).is_not_null()
        edges = (pl.col(LON).min(), pl.col(LAT).min(), pl.col(LON).max().alias("e"), pl.col(LAT).max().alias("n"))
        found = [self._scan(name).filter(placed).select(edges).collect().row(0) for name in parts]
        known = np.array([row for row in found if row[0] is not None], np.float64).reshape(-1, 4)
        if not len(known):
            return None
        (west, south, _, _), (_, _, east, north) = known.min(axis=0), known.max(axis=0)
        return float(west), float(south), float(east), float(north)


_NOTHING = standard_frame(pl.DataFrame(schema=TYPES)).schema


def _require_whole(rows: pa.Table, seen: set[str], part: str) -> None:
    names = set(rows.column(TRACK_ID).to_pylist())
    both = names & seen
    if both:
        raise GeodiffError(f"track {min(both)!r} lies in part {part} and in one before it: keep tracks in one part")
    seen |= names


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _silent(done: int, steps: int) -> None:
    """Nobody watches."""
