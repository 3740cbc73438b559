"""Tables of fixes that runs over tracks wrote, as input of others; anonymous tracks count as vessels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from geodiff.outputs.track_parquet import PROVENANCE
from geodiff.schema import GeodiffError
from geodiff.tracks import OBSERVED, STATE, STATIC_TYPES, TRACK_ID, VESSEL_ID
from geodiff.vessels.codes import identity_of
from geodiff.vessels.reading import FIX_SCHEMA, POLARS_TYPES, ReadCounts
from geodiff.vessels.tables_parquet import ParquetTable

NOT_OBSERVED: Final = "state is not observed"

ASSOCIATED: Final = r"^t\d+/\d{8}T\d{6}$"
"""How association names its tracks, and cleaning never does."""


def is_own(path: Path, layout: str | None = None) -> bool:
    """Whether a file is Parquet with all columns of a table of ours; where a layout was named, one that a run wrote."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                return False
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    ours = {TRACK_ID, STATE, *FIX_SCHEMA} <= set(schema.names)
    return ours and (layout is None or PROVENANCE in (schema.metadata or {}))


def identified_by_track(table: pl.DataFrame, whose: str = "") -> pl.DataFrame:
    """Give the fixes of anonymous tracks an identity, a number from 2**62 up, so that each track counts as a vessel.

    So are tracks of association, whatever identities their points carried: it did not look at them.

    Args:
        table: with ``vessel_id`` and ``track_id``, as association leaves them.
        whose: what tells tracks of one table from equally named ones of another.
    """
    nameless = _nameless()
    tracks = table.filter(nameless)[TRACK_ID].unique()
    if not len(tracks):
        return table
    numbers = {track: identity_of(f"{whose}/{track}") for track in tracks}
    made = pl.col(TRACK_ID).replace_strict(numbers, default=None, return_dtype=pl.Int64)
    return table.with_columns(pl.when(nameless).then(made).otherwise(VESSEL_ID).alias(VESSEL_ID))


def _nameless() -> pl.Expr:
    """Fixes whose track is all that tells their vessel."""
    found_here = pl.col(TRACK_ID).str.contains(ASSOCIATED)
    return pl.col(TRACK_ID).is_not_null() & (pl.col(VESSEL_ID).is_null() | found_here)


class OwnReader:
    """Observed fixes of a table that a job over tracks wrote; see ``reading.FixReader``.

    Imputed, forecast and generated fixes are nobody's observation, and rejected ones were judged before: they are
    counted as refused. Tracks of association are read as vessels; where no name was sent, ``name`` is the track's.
    """

    layout = "geodiff"

    def __init__(self, path: Path, *, one_of_many: bool = False) -> None:
        """Nothing is read before ``batches``; one file of several may hold no fix."""
        self.path, self.counts, self._alone = path, ReadCounts(), not one_of_many

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
            raw = ParquetTable(self.path)
            told = raw.frames([VESSEL_ID, TRACK_ID], ReadCounts(), rows=rows)
            nameless = any(table.select(_nameless().any()).item() for table in told)
            for table in raw.frames([*FIX_SCHEMA, *static, STATE, TRACK_ID], ReadCounts(), rows=rows):
                yield self._kept(_named(table, whose) if nameless else table)
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise GeodiffError(f"{self.path}: damaged ({str(error).splitlines()[0]})") from None
        if self._alone and not self.counts.kept:
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
    """Anonymous tracks as vessels; where no name was sent, of the tracks' names."""
    named = table if "name" in table.columns else table.with_columns(pl.lit(None, pl.String).alias("name"))
    track = pl.when(_nameless()).then(pl.col(TRACK_ID))
    return identified_by_track(named.with_columns(pl.coalesce("name", track).alias("name")), whose)
