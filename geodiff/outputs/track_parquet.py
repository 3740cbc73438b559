"""GeoParquet 1.1 for tracks: the metadata that makes a Parquet file one, and a writer of whole row groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyproj import CRS

from geodiff.outputs.track_columns import MEMBERS, arrow_table
from geodiff.outputs.track_geometry import point_wkb
from geodiff.outputs.track_layer import BBOX, GEOMETRY
from geodiff.tracks import LAT, LON

PROVENANCE: Final = b"geodiff"
"""Key of the file metadata that holds the provenance as JSON."""

Box = tuple[float, float, float, float]


def geo_metadata(kinds: tuple[str, ...], box: Box | None, *, covering: bool) -> dict[str, Any]:
    """The value of the key ``geo`` (GeoParquet 1.1.0); coordinates are longitude, latitude in EPSG:4326.

    Args:
        kinds: geometry types.
        box: planar (west, south, east, north) of all positions; None when there are none.
        covering: the file has the column ``bbox``.
    """
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": list(kinds),
        "crs": CRS.from_epsg(4326).to_json_dict(),
        "edges": "planar",
    }
    if box:
        column["bbox"] = list(box)
    if covering:
        column["covering"] = {"bbox": {edge: [BBOX, edge] for edge in ("xmin", "ymin", "xmax", "ymax")}}
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def fixes_table(fixes: pl.DataFrame) -> pa.Table:
    """Arrow table of fixes with a WKB point for each; members are left out."""
    table = arrow_table(fixes.drop(MEMBERS, strict=False))
    lon, lat = (fixes[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (LON, LAT))
    return table.append_column(GEOMETRY, point_wkb(lon, lat))


class GeoParquetWriter:
    """Writes tables as row groups of one GeoParquet file; use as a context.

    Args:
        path: the file, written in place: give a temporary name (``atomic.replacing``).
        schema: of all tables, with the column ``geometry``.
        kinds: geometry types.
        box: planar bounds of all positions.
        provenance: plain values, stored as JSON in the metadata of the file.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, kinds: tuple[str, ...], box: Box | None, provenance: Mapping[str, Any]
    ) -> None:
        geo = geo_metadata(kinds, box, covering=BBOX in schema.names)
        metadata = {b"geo": _json(geo), PROVENANCE: _json(provenance)}
        self._schema = schema.with_metadata(metadata)
        # Dictionaries help where values repeat; positions and instants do not.
        texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_integer(field.type)]
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=texts)

    def __enter__(self) -> GeoParquetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Append a table of the schema as one row group."""
        if len(table):
            self._writer.write_table(table.cast(self._schema), row_group_size=len(table))


def write_table(frame: pl.DataFrame, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write a table in one piece: with a point for each row as GeoParquet where it has positions, else as Parquet.

    Args:
        frame: columns of plain type; positions in ``lon_deg`` and ``lat_deg``, all known.
        path: the file, written in place: give a temporary name (``atomic.replacing``).
        provenance: as of ``GeoParquetWriter``.
    """
    if LON not in frame.columns:
        table = arrow_table(frame).replace_schema_metadata({PROVENANCE: _json(provenance)})
        pq.write_table(table, path, compression="zstd")
        return
    table = fixes_table(frame)
    edges = frame.select(w=pl.col(LON).min(), s=pl.col(LAT).min(), e=pl.col(LON).max(), n=pl.col(LAT).max())
    with GeoParquetWriter(path, table.schema, ("Point",), edges.row(0) if len(frame) else None, provenance) as writer:
        writer.write(table)


def provenance_of(path: Path) -> dict[str, Any]:
    """The provenance that a file of tracks carries; empty when it has none."""
    value = (pq.read_schema(path).metadata or {}).get(PROVENANCE)
    found = json.loads(value) if value else {}
    return found if isinstance(found, dict) else {}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
