"""Tracks as a CF discrete sampling geometry in Zarr format 3: trajectories as a contiguous ragged array.

The dimension ``trajectory`` holds ``track_id`` and ``rowSize``; the fixes of all tracks lie one after the other along
``obs`` (CF 1.11, 9.3.3), in the columns of the table of fixes and under the same names. Rows of no track make up the
last trajectory, whose id is empty. Members of an ensemble have a second dimension ``member``.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.outputs.atomic import explained
from geodiff.outputs.track_cf import (
    MEMBER_STEP_DEG,
    ROW_SIZE,
    attributes_of,
    encoded,
    require_array_names,
    storage_of,
)
from geodiff.outputs.track_columns import MEMBERS, merged_schema, standard_frame
from geodiff.schema import GeodiffError
from geodiff.tracks import LAT, LON, STATE, STATES, TIME, TRACK_ID

if TYPE_CHECKING:
    import zarr

OBS, TRAJECTORY, MEMBER = "obs", "trajectory", "member"
TYPE: Final = "geodiff:type"
COLUMNS: Final = "geodiff:columns"
PROVENANCE: Final = "geodiff:provenance"

_CHUNK, _SHARD = 2**15, 2**18
_TYPES: Final = {
    str(kind): kind
    for kind in (
        *(pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.Float32()),
        *(pl.Float64(), pl.String(), pl.Boolean(), pl.Datetime("us", "UTC")),
    )
}


class TrackZarrWriter:
    """Writes tables of fixes, one after the other, to one store; complete after ``close``.

    Args:
        path: a folder that does not exist; written in place, so give a name in a work folder and rename it at the end.
        schema: columns of the tables, in the order of ``track_columns.standard_frame``.
        rows: of all tables together.
        provenance: plain values for the attributes of the store, where they stand as JSON.

    Raises:
        GeodiffError: a column has a name that no array may have.
    """

    def __init__(self, path: Path, schema: pl.Schema, rows: int, *, provenance: Mapping[str, Any]) -> None:
        import zarr

        require_array_names(schema)

        attributes = {
            "Conventions": "CF-1.11",
            "featureType": "trajectory",
            COLUMNS: list(schema),
            # As text: attributes of netCDF, to which analysts export, do not nest.
            PROVENANCE: json.dumps(dict(provenance)),
        }
        self._group = zarr.create_group(path, zarr_format=3, attributes=attributes)
        self._rows, self._written = rows, 0
        self._pending: list[pl.DataFrame] = []
        self._ids: list[str] = []
        self._sizes: list[int] = []
        self._arrays = {name: self._create(name, kind) for name, kind in schema.items() if name != TRACK_ID}

    def _create(self, name: str, kind: pl.DataType) -> zarr.Array[Any]:
        members = (kind.size,) if isinstance(kind, pl.Array) else ()
        storage = storage_of(name, kind)
        # Small tables in one chunk; the width of an ensemble is never cut.
        chunk = min(_CHUNK, max(self._rows, 1))
        shards = (_SHARD, *members) if self._rows > _CHUNK else None
        attributes = {**attributes_of(name), **storage.attributes, TYPE: "Float64" if members else str(kind)}
        if name not in (TIME, LON, LAT):
            attributes["coordinates"] = f"{TIME} {LAT} {LON}"
        return self._group.create_array(
            name,
            shape=(self._rows, *members),
            dtype=storage.dtype,
            chunks=(chunk, *members),
            shards=shards,
            compressors=_zstd(),
            fill_value=storage.fill,
            dimension_names=(OBS, MEMBER)[: 1 + len(members)],
            attributes=attributes,
        )

    def write(self, frame: pl.DataFrame) -> None:
        """Append a table in the order of ``standard_frame``; a track must not go on in the next one."""
        if not len(frame):
            return
        runs = frame.select(pl.col(TRACK_ID).fill_null("").rle()).to_series().struct.unnest()
        ids, sizes = runs["value"].to_list(), runs["len"].to_list()
        if self._ids and self._ids[-1] == ids[0] == "":
            self._sizes[-1] += sizes[0]
            ids, sizes = ids[1:], sizes[1:]
        self._ids += ids
        self._sizes += sizes
        self._pending.append(frame)
        while sum(map(len, self._pending)) >= _SHARD:
            self._flush(_SHARD)

    def _flush(self, rows: int) -> None:
        whole = pl.concat(self._pending)
        part, rest = whole.head(rows), whole.slice(rows)
        self._pending = [rest] if len(rest) else []
        region = slice(self._written, self._written + len(part))
        for name, array in self._arrays.items():
            array[region] = encoded(part[name])
        self._written += len(part)

    def close(self) -> None:
        """Write what is left, the list of tracks and the consolidated metadata.

        Raises:
            GeodiffError: a track came in two pieces.
            ValueError: the rows are not as many as announced.
        """
        import zarr

        if self._pending:
            self._flush(_SHARD)
        if self._written != self._rows:
            raise ValueError(f"{self._rows} rows were announced, {self._written} came")
        if len(set(self._ids)) < len(self._ids):
            twice = next(name for name in self._ids if self._ids.count(name) > 1)
            raise GeodiffError(f"track {twice!r} came in two pieces: give all fixes of a track to one part")
        ids = np.array(self._ids, dtype=np.dtypes.StringDType())
        role = {"cf_role": "trajectory_id", "long_name": "track; empty for fixes of no track"}
        counts = {"sample_dimension": OBS, "long_name": "number of fixes of the track", "units": "1"}
        self._axis(TRACK_ID, ids, role)
        self._axis(ROW_SIZE, np.array(self._sizes, np.int64), counts)
        with warnings.catch_warnings():
            # Consolidated metadata are an agreed extension of Zarr format 3 that zarr-python warns about.
            warnings.simplefilter("ignore", category=UserWarning)
            zarr.consolidate_metadata(self._group.store)

    def _axis(self, name: str, values: npt.NDArray[Any], attributes: dict[str, Any]) -> None:
        array = self._group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(min(_SHARD, max(values.size, 1)),),
            compressors=_zstd(),
            dimension_names=(TRAJECTORY,),
            attributes=attributes,
        )
        if values.size:
            array[...] = values


def write_track_zarr(fixes: pl.DataFrame, path: Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a table of fixes that fits in memory as a store of its own, whole or not at all.

    Args:
        fixes: columns of ``geodiff.tracks``, and others of plain type; see ``track_columns.standard_frame``.
        path: a folder that does not exist.
        provenance: plain values for the attributes of the store.

    Returns:
        ``path``.

    Raises:
        GeodiffError: something is at ``path``, the table does not fit, or the folder cannot be written.
    """
    frame = standard_frame(fixes)
    if path.exists():
        raise GeodiffError(f"{path} exists: choose another name, or remove it")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with explained(path):
        try:
            writer = TrackZarrWriter(
                temporary, merged_schema({"": frame.schema}), len(frame), provenance=provenance or {}
            )
            writer.write(frame)
            writer.close()
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def read_track_zarr(path: Path) -> pl.DataFrame:
    """Read a store of ``TrackZarrWriter`` back as the table that was written; members as lists of equal length.

    Raises:
        GeodiffError: not such a store, or one that is damaged.
    """
    return pl.concat(iter_track_zarr(path, rows=None))


def iter_track_zarr(path: Path, *, rows: int | None = 500_000) -> Iterator[pl.DataFrame]:
    """Read a store as tables of whole tracks, at least one.

    Args:
        path: of the store.
        rows: of a table, about: one track is never cut; None for all in one.

    Raises:
        GeodiffError: not such a store, or one that is damaged.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        arrays, columns = dict(group.arrays()), [str(name) for name in group.attrs[COLUMNS]]  # type: ignore[union-attr]
        ids, sizes = np.asarray(arrays.pop(TRACK_ID)[...]), np.asarray(arrays.pop(ROW_SIZE)[...])
        names = pl.Series(TRACK_ID, ids.astype(object), dtype=pl.String).replace("", None)
        _require_lengths(path, sizes, arrays)
        ends = np.cumsum(sizes)
        first = 0
        while True:
            start = int(ends[first - 1]) if first else 0
            beyond = len(ends) if rows is None else max(int(np.searchsorted(ends, start + rows, "right")), first + 1)
            beyond = min(beyond, len(ends))
            stop = int(ends[beyond - 1]) if beyond else 0
            tracks = names.gather(np.repeat(np.arange(first, beyond), sizes[first:beyond]))
            frame = pl.DataFrame([tracks, *(decoded(name, array, start, stop) for name, array in arrays.items())])
            yield frame.select(columns)
            first = beyond
            if first >= len(ends):
                return
    except (OSError, KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise GeodiffError(f"{path} is not a store of tracks that geodiff wrote: {error}") from error


def _require_lengths(path: Path, sizes: npt.NDArray[np.int64], arrays: Mapping[str, zarr.Array[Any]]) -> None:
    lengths = {name: array.shape[0] for name, array in arrays.items() if array.shape[0] != sizes.sum()}
    if lengths or (sizes < 0).any():
        raise GeodiffError(f"{path} is damaged: {ROW_SIZE} adds up to {sizes.sum()}, but {OBS} differs in {lengths}")


def decoded(name: str, array: zarr.Array[Any], start: int, stop: int) -> pl.Series:
    """Rows of a stored array as the column that it was; the fill value becomes null.

    Raises:
        KeyError: the array has no type of ours.
    """
    kind = _TYPES[str(array.attrs[TYPE])]
    values = np.asarray(array[start:stop])
    if name in MEMBERS:
        lost = values == np.iinfo(np.int32).min
        degrees = np.where(lost, np.nan, values * MEMBER_STEP_DEG)
        series = pl.Series(name, degrees, dtype=pl.Array(pl.Float64, values.shape[1]))
        return pl.select(pl.when(~pl.lit(pl.Series(lost.all(axis=1)))).then(series).alias(name)).to_series()
    if name == STATE:
        return pl.Series(name, STATES).gather(values)
    if kind == pl.String:
        return pl.Series(name, values.astype(object), dtype=kind).replace("", None)
    series = pl.Series(name, values)
    if kind.is_float():
        return series.fill_nan(None)
    return series.replace(array.attrs.get("_FillValue", storage_of(name, kind).fill), None).cast(kind)


def _zstd() -> Any:
    from zarr.codecs import ZstdCodec

    return ZstdCodec(level=3)
