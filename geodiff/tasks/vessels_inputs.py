"""The inputs of a job over tracks: files found, named by their content, read in batches."""

from __future__ import annotations

import hashlib
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from geodiff.outputs.atomic import explained
from geodiff.outputs.track_item import file_sha256
from geodiff.schema import GeodiffError, UsageError
from geodiff.tracks import OBSERVED, STATE, STATIC_TYPES, TRACK_ID, VESSEL_ID
from geodiff.vessels.codes import identity_of
from geodiff.vessels.read import STDIN, list_files
from geodiff.vessels.reading import FIX_SCHEMA, POLARS_TYPES, FixReader, ReadCounts

_BYTES_A_ROW: Final = {".gz": 12, ".zst": 10, ".zip": 12, ".parquet": 8}
"""Of packed files, roughly; plain text takes ``_PLAIN``."""

_PLAIN: Final = 80
ROWS_A_PART: Final = 250_000
MOST_PARTS: Final = 256

NOT_OBSERVED: Final = "state is not observed"


@dataclass(frozen=True, slots=True)
class Input:
    """One file.

    Attributes:
        href: as it was given.
        path: where it lies.
        sha256: of its content.
        own: a table of fixes with states, as jobs over tracks write it: what was observed is taken.
    """

    href: str
    path: Path
    sha256: str
    own: bool

    def source(self) -> Path | FixReader:
        """What ``partition_fixes`` reads."""
        return OwnReader(self.path) if self.own else self.path


def find_inputs(sources: Sequence[str | Path], spool: Path) -> list[Input]:
    """The files that some paths, folders, globs or ``-`` name, each once, in order.

    Args:
        sources: as given.
        spool: folder to which standard input is copied, since a run that resumes reads it again.

    Raises:
        UsageError: no such file, or nothing named.
        GeodiffError: a file that cannot be read.
    """
    found: dict[Path, str] = {}
    for source in sources:
        if str(source) == STDIN:
            found.setdefault(_spooled(spool), STDIN)
            continue
        for path in list_files(source):
            if not path.is_file():
                raise UsageError(f"{path}: no such file")
            found.setdefault(path.resolve(), str(path))
    if not found:
        raise UsageError("nothing to read: name at least one file")
    return [_input(path, href) for path, href in found.items()]


def _input(path: Path, href: str) -> Input:
    try:
        return Input(href, path, file_sha256(path), is_own(path))
    except OSError as error:
        raise GeodiffError(f"{href}: cannot be read ({error.strerror or error})") from None


def _spooled(folder: Path) -> Path:
    """Standard input as a file named by its content."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".stdin.{uuid.uuid4().hex}"
        try:
            with open(partial, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            return partial.rename(folder / f".stdin-{file_sha256(partial)[:16]}")
        finally:
            partial.unlink(missing_ok=True)


def is_own(path: Path) -> bool:
    """Whether a file is Parquet with the columns ``track_id`` and ``state``."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                return False
        names = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException):
        return False
    return {TRACK_ID, STATE} <= names


def count_parts(inputs: Sequence[Input]) -> int:
    """Parts of about ``ROWS_A_PART`` rows, by the sizes of the files alone, so that every run cuts alike."""
    rows = 0
    for one in inputs:
        with open(one.path, "rb") as file:
            parquet = file.read(4) == b"PAR1"
        try:
            rows += pq.read_metadata(one.path).num_rows if parquet else _rows(one.path)
        except (OSError, pa.ArrowException):  # damaged: the reader will say so
            rows += _rows(one.path)
    return max(1, min(MOST_PARTS, round(rows / ROWS_A_PART)))


def _rows(path: Path) -> int:
    return path.stat().st_size // _BYTES_A_ROW.get(path.suffix.lower(), _PLAIN)


def identified_by_track(table: pl.DataFrame, whose: str = "") -> pl.DataFrame:
    """Give the fixes of anonymous tracks an identity, a number from 2**62 up, so that each track counts as a vessel.

    Args:
        table: with ``vessel_id`` and ``track_id``, as association leaves them.
        whose: what tells tracks of one table from equally named ones of another.
    """
    nameless = pl.col(VESSEL_ID).is_null() & pl.col(TRACK_ID).is_not_null()
    tracks = table.filter(nameless)[TRACK_ID].unique()
    if not len(tracks):
        return table
    numbers = {track: identity_of(f"{whose}/{track}") for track in tracks}
    made = pl.col(TRACK_ID).replace_strict(numbers, default=None, return_dtype=pl.Int64)
    return table.with_columns(pl.when(nameless).then(made).otherwise(VESSEL_ID).alias(VESSEL_ID))


class OwnReader:
    """Observed fixes of a table that a job over tracks wrote; see ``reading.FixReader``.

    Imputed, forecast and generated fixes are nobody's observation, and rejected ones were judged before: they are
    counted as refused. Tracks without an identity, from association, are read as vessels whose ``name`` is the track's.
    """

    layout = "geodiff"

    def __init__(self, path: Path) -> None:
        """Nothing is read before ``batches``."""
        self.path, self.counts = path, ReadCounts()

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]:
        """See ``reading.FixReader``.

        Raises:
            GeodiffError: a column is missing or of another type, the file is damaged, or nothing was observed.
        """
        self.counts = ReadCounts()
        try:
            file = pq.ParquetFile(self.path)
            have = file.schema_arrow.names
            missing = [name for name in FIX_SCHEMA if name not in have]
            if missing:
                raise GeodiffError(f"{self.path}: it has track_id and state, but no column {', '.join(missing)}")
            whose = hashlib.sha256(repr(sorted((file.metadata.metadata or {}).items())).encode()).hexdigest()
            static = [name for name in STATIC_TYPES if name in have]
            nameless = any(batch.column(0).null_count for batch in file.iter_batches(columns=[VESSEL_ID]))
            for batch in file.iter_batches(batch_size=rows, columns=[*FIX_SCHEMA, *static, STATE, TRACK_ID]):
                table = pl.DataFrame(pa.Table.from_batches([batch]))
                yield self._kept(_named(table, whose) if nameless else table)
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise GeodiffError(f"{self.path}: damaged ({str(error).splitlines()[0]})") from None
        if not self.counts.kept:
            raise GeodiffError(f"{self.path}: no fix in it was observed ({self.counts.read} rows)")

    def _kept(self, table: pl.DataFrame) -> pl.DataFrame:
        types = {**FIX_SCHEMA, **{name: POLARS_TYPES[kind] for name, kind in STATIC_TYPES.items()}}
        wanted = [pl.col(name).cast(kind) for name, kind in types.items() if name in table.columns]
        observed = table.filter(pl.col(STATE) == OBSERVED).select(wanted)
        first = self.counts.read
        others = table.with_row_index("_row", first + 1).filter(pl.col(STATE).ne_missing(OBSERVED))["_row"]
        if len(others):
            self.counts.refuse(NOT_OBSERVED, others.head(5).to_list(), len(others))
        self.counts.read += len(table)
        self.counts.kept += len(observed)
        return observed


def _named(table: pl.DataFrame, whose: str) -> pl.DataFrame:
    """Anonymous tracks as vessels of the tracks' names."""
    named = table if "name" in table.columns else table.with_columns(pl.lit(None, pl.String).alias("name"))
    track = pl.when(pl.col(VESSEL_ID).is_null()).then(pl.col(TRACK_ID))
    return identified_by_track(named.with_columns(pl.coalesce("name", track).alias("name")), whose)
