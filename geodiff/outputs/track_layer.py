"""The layer of tracks: one row for each track, with its line, its time, what it is made of and how far it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geodiff.outputs.track_columns import TYPES, arrow_table
from geodiff.outputs.track_geometry import Array, Geometries, Integers, track_lines, unwrap
from geodiff.sphere import distance_km, wrap_longitude
from geodiff.tracks import LAT, LON, REJECTED, SHIP_TYPE, STATE, STATES, STATIC_TYPES, TIME, TRACK_ID, VESSEL_ID

GEOMETRY = "geometry"
BBOX = "bbox"
_BOX = ("xmin", "ymin", "xmax", "ymax")
_EDGES = ("west_deg", "south_deg", "east_deg", "north_deg")


def summarise_tracks(fixes: pl.DataFrame) -> pa.Table:
    """One row for each track of a table in the order of ``standard_frame``; rows of no track are left out.

    Columns: ``track_id``, ``vessel_id``, ``ship_type`` and the static columns that the table has (last value known);
    ``start`` and ``end`` (UTC) and ``fixes`` of what was not rejected, ``observed``, ``imputed``, ``forecast``,
    ``generated``, ``rejected`` (numbers of fixes), ``length_km`` over what was not rejected; ``west_deg``,
    ``south_deg``, ``east_deg``, ``north_deg`` (west > east across 180°); ``bbox``, the planar box that GeoParquet
    filters by; ``geometry``, WKB of what was not rejected: LineString, MultiLineString across 180°, Point for a track
    that stands still; null when nothing is left.
    """
    tracked = fixes.filter(pl.col(TRACK_ID).is_not_null())
    good = tracked.filter((pl.col(STATE) != REJECTED) & pl.col(LON).is_not_null() & pl.col(LAT).is_not_null())
    rows = _facts(tracked).join(_times(good), on=TRACK_ID, how="left").with_columns(pl.col("fixes").fill_null(0))
    shapes, geometries = _shapes(good)
    rows = rows.join(shapes, on=TRACK_ID, how="left", maintain_order="left")
    wkb = np.full(len(rows), None, dtype=object)
    present = rows["number"].is_not_null().to_numpy()
    wkb[present] = shapely.to_wkb(geometries, byte_order=1)
    boxes = np.full((len(rows), 4), np.nan)
    boxes[present] = shapely.bounds(geometries)
    table = arrow_table(rows.drop("number"))
    box = [pa.array(column, from_pandas=True) for column in boxes.T]
    nothing = pa.array(~present)
    table = table.append_column(BBOX, pa.StructArray.from_arrays(box, names=list(_BOX), mask=nothing))
    return table.append_column(GEOMETRY, pa.array(wkb, pa.binary()))


def _facts(tracked: pl.DataFrame) -> pl.DataFrame:
    static = [name for name in (VESSEL_ID, SHIP_TYPE, *STATIC_TYPES) if name in tracked.columns]
    counts = [(pl.col(STATE) == state).sum().cast(pl.Int64).alias(state) for state in STATES]
    last = [pl.col(name).drop_nulls().last().cast(TYPES[name]) for name in static]
    return tracked.group_by(TRACK_ID, maintain_order=True).agg(*last, *counts)


def _times(good: pl.DataFrame) -> pl.DataFrame:
    return good.group_by(TRACK_ID, maintain_order=True).agg(
        pl.col(TIME).first().alias("start"), pl.col(TIME).last().alias("end"), pl.len().cast(pl.Int64).alias("fixes")
    )


def _shapes(good: pl.DataFrame) -> tuple[pl.DataFrame, Geometries]:
    """Length and box of each track, and its geometry."""
    number = good[TRACK_ID].rle_id().to_numpy().astype(np.int64)
    lon, lat = good[LON].to_numpy(), good[LAT].to_numpy()
    geometries = track_lines(lon, lat, number)
    count = geometries.size
    step = np.where(number[1:] == number[:-1], distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:]), 0.0)
    length = np.bincount(number[1:], step, minlength=count) if count else np.zeros(0)
    first = np.searchsorted(number, np.arange(count))
    straight = unwrap(lon, number)
    west, east = (_reduce(how, straight, first) for how in (np.minimum, np.maximum))
    south, north = (_reduce(how, lat, first) for how in (np.minimum, np.maximum))
    globe = east - west >= 360.0
    edges = (
        np.where(globe, -180.0, _within(west)),
        south,
        np.where(globe, 180.0, _within(east)),
        north,
    )
    columns = dict(zip(_EDGES, edges, strict=True))
    frame = pl.DataFrame({TRACK_ID: good[TRACK_ID].gather(first), "length_km": length, **columns})
    return frame.with_columns(pl.Series("number", np.arange(count))), geometries


def _reduce(how: np.ufunc, values: Array, first: Integers) -> Array:
    return np.asarray(how.reduceat(values, first)) if first.size else np.zeros(0)


def _within(lon_deg: Array) -> Array:
    return np.where(np.abs(lon_deg) <= 180.0, lon_deg, wrap_longitude(lon_deg))


@dataclass(frozen=True)
class TrackCounts:
    """What the layer of tracks adds up to.

    Attributes:
        tracks: how many.
        vessels: distinct identities.
        states: fixes by state, of tracks; those of no track, all rejected, are not in the layer.
        length_km: of all tracks.
        geometries: of the tracks, without those that have none.
        start, end: of what was not rejected, UTC microseconds since 1970; None when nothing is left.
    """

    tracks: int
    vessels: int
    states: Mapping[str, int]
    length_km: float
    geometries: np.ndarray[Any, np.dtype[np.object_]]
    start: int | None
    end: int | None


def count_tracks(path: Path) -> TrackCounts:
    """Add up a file of tracks (``TrackStore.tracks_path``); lines are kept as their convex hulls."""
    wanted = [TRACK_ID, VESSEL_ID, *STATES, "length_km", "start", "end"]
    frame = pl.read_parquet(path, columns=wanted, glob=False)
    hulls = [
        shapely.convex_hull(shapely.get_parts(shapely.from_wkb(batch.column(0).to_numpy(zero_copy_only=False))))
        for batch in pq.ParquetFile(path).iter_batches(columns=[GEOMETRY])
    ]
    start, end = frame["start"].dt.epoch("us").min(), frame["end"].dt.epoch("us").max()
    return TrackCounts(
        tracks=len(frame),
        vessels=frame[VESSEL_ID].drop_nulls().n_unique(),
        states={state: int(frame[state].sum()) for state in STATES},
        length_km=float(frame["length_km"].sum()),
        geometries=np.concatenate([*hulls, np.empty(0, object)]),
        start=None if start is None else int(start),  # type: ignore[arg-type]
        end=None if end is None else int(end),  # type: ignore[arg-type]
    )
