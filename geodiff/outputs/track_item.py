"""The STAC item of a run over tracks: where and when, made of what, by which model. It is the commit of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow.parquet as pq
import pystac

from geodiff.outputs.published import RUN_ID, damaged_assets, item_of, published_items, size_of
from geodiff.outputs.stac_items import ZARR, publish_item
from geodiff.outputs.track_geometry import covered_ground
from geodiff.outputs.track_layer import GEOMETRY, TrackCounts, count_tracks
from geodiff.outputs.track_store import TrackStore
from geodiff.schema import GeodiffError
from geodiff.tracks import REASON, REJECTED, STATE
from geodiff.version import __version__

EXTENSIONS: Final = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("table/v1.2.0", "processing/v1.2.0", "file/v2.1.0")
)
PARQUET: Final = "application/vnd.apache.parquet"
FIXES: Final = "fixes"
"""Key of the asset that holds all fixes."""

DESCRIPTION: Final = "Vessel tracks from AIS and radar made by geodiff"
_SHA256: Final = "1220"  # multihash: sha2-256, 32 bytes
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TrackInput:
    """One input of a run.

    Attributes:
        href: path or URL as given.
        sha256: of the file, in hexadecimal digits; None where it was not a file (a folder).
        counts: rows read, kept, refused and why: plain values.
    """

    href: str
    sha256: str | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackRecord:
    """What a catalogue says about a finished run over tracks, beside what its files say.

    Attributes:
        job: what was done: clean, impute, forecast, generate, score or associate.
        inputs: in order.
        beside: other files that decided the values, by what they were for: history, coastline, calibration.
        model: name of the model; None for a job without one.
        ensemble: number of members; 0 without an ensemble.
        configuration: the settings of the run, plain values.
        properties: further properties, such as figures of the job.
        created: when the run finished; left out when None.
    """

    job: str
    inputs: tuple[TrackInput, ...] = ()
    beside: Mapping[str, Sequence[TrackInput]] = field(default_factory=dict)
    model: str | None = None
    ensemble: int = 0
    configuration: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    created: datetime | None = None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits, in bounded memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_track_item(
    store: TrackStore,
    record: TrackRecord,
    *,
    picture: Path | None = None,
    page: Path | None = None,
    summary: Path | None = None,
) -> pystac.Item:
    """Describe a final store as a STAC 1.1 item with absolute asset hrefs (publishing makes them relative).

    The geometry is the convex hull of all tracks, cut at 180°; the box has west > east when it crosses 180°
    (RFC 7946, 5.2); the interval is that of what was not rejected.

    Args:
        store: final.
        record: what else to say.
        picture: the map, PNG.
        page: the interactive map, HTML.
        summary: JSON with figures of the run.

    Raises:
        GeodiffError: the store is not final, or no fix in it is left that has a position.
    """
    if not store.is_final():
        raise GeodiffError(f"{store.stem} is not finished: finalize it before its item is made")
    counts = count_tracks(store.tracks_path)
    if counts.start is None or counts.end is None:
        raise GeodiffError(
            f"{store.fixes_path} holds no track with a position that was not rejected: nothing to publish"
        )
    geometry, box = covered_ground(counts.geometries)
    item = pystac.Item(
        id=store.run_id,
        geometry=geometry,
        bbox=list(box),
        datetime=None,
        start_datetime=_instant(counts.start),
        end_datetime=_instant(counts.end),
        properties=_properties(store, record, counts),
        stac_extensions=list(EXTENSIONS),
    )
    for key, asset in _assets(store, picture, page, summary):
        item.add_asset(key, asset)
    return item


def publish_tracks(catalog_dir: Path, item: pystac.Item, *, collection: str) -> Path:
    """Publish the item in the static catalogue of a folder: the commit of the run (see ``stac_items.publish_item``)."""
    return publish_item(catalog_dir, item, collection=collection, description=DESCRIPTION)


def fixes_by_input(catalog_dir: Path, collection: str, configuration: Mapping[str, Any]) -> dict[str, Path]:
    """Fixes of published runs by the name of the one file that was their input; of several runs the last made.

    Args:
        catalog_dir: folder of the catalogue.
        collection: of the runs.
        configuration: of the runs; others do not count.
    """
    found: dict[str, tuple[str, Path]] = {}
    for item in published_items(catalog_dir, collection):
        inputs = item.properties.get("geodiff:inputs", [])
        same = item.properties.get("geodiff:configuration") == dict(configuration)
        if same and len(inputs) == 1 and FIXES in item.assets and FIXES not in damaged_assets(item):
            name, made = Path(str(inputs[0]["href"])).name, str(item.properties.get("created", ""))
            if made >= found.get(name, ("", Path()))[0]:
                found[name] = made, Path(str(item.assets[FIXES].get_absolute_href()))
    return {name: path for name, (_, path) in found.items()}


def discard_damaged(store: TrackStore) -> None:
    """Remove the files of a published run of which some are gone or cut off, so that all are made again.

    Maps are drawn anew from the others.
    """
    item = item_of(store.folder / f"{store.run_id}.json")
    if item is not None and damaged_assets(item).keys() - {"map", "page"}:
        store.discard()


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _properties(store: TrackStore, record: TrackRecord, counts: TrackCounts) -> dict[str, Any]:
    stamp = {"created": record.created.astimezone(UTC).isoformat().replace("+00:00", "Z")} if record.created else {}
    done = f"{record.job} by {record.model}" if record.model else record.job
    done += f", ensemble of {record.ensemble}" if record.ensemble else ""
    return {
        **stamp,
        "processing:software": {"geodiff": __version__},
        "processing:lineage": done,
        RUN_ID: store.run_id,
        "geodiff:job": record.job,
        "geodiff:model": record.model,
        "geodiff:ensemble": record.ensemble,
        "geodiff:inputs": [_input(one) for one in record.inputs],
        **{f"geodiff:{what}": [_input(one) for one in files] for what, files in record.beside.items()},
        "geodiff:configuration": dict(record.configuration),
        "geodiff:counts": {
            "fixes": pq.read_metadata(store.fixes_path).num_rows,
            "tracks": counts.tracks,
            "vessels": counts.vessels,
            "length_km": round(counts.length_km, 3),
            **counts.states,
            "rejected": _rejected(store),
        },
        **record.properties,
    }


def _rejected(store: TrackStore) -> dict[str, int]:
    """Rejected fixes, most of them of no track, by their reasons."""
    fixes = pl.scan_parquet(store.fixes_path, glob=False).filter(pl.col(STATE) == REJECTED)
    found = fixes.group_by(pl.col(REASON).fill_null("unknown")).len().sort(REASON).collect()
    return dict(found.iter_rows())


def _input(one: TrackInput) -> dict[str, Any]:
    checksum = {"file:checksum": _SHA256 + one.sha256} if one.sha256 else {}
    return {"href": one.href, **checksum, **({"counts": dict(one.counts)} if one.counts else {})}


def _assets(
    store: TrackStore, picture: Path | None, page: Path | None, summary: Path | None
) -> Iterator[tuple[str, pystac.Asset]]:
    yield FIXES, table_asset(store.fixes_path, "all fixes (GeoParquet, points)")
    yield "tracks", table_asset(store.tracks_path, "one line for each track (GeoParquet)")
    title = "all fixes as a CF contiguous ragged array (Zarr format 3)"
    size = {"file:size": size_of(store.zarr_path)}
    yield (
        "zarr",
        pystac.Asset(str(store.zarr_path.resolve()), title, media_type=ZARR, roles=["data"], extra_fields=size),
    )
    further: Sequence[tuple[str, Path | None, str, str, str]] = (
        ("map", picture, "map of the tracks", "image/png", "overview"),
        ("page", page, "interactive map of the tracks", "text/html", "overview"),
        ("summary", summary, "figures of the run", "application/json", "metadata"),
    )
    for key, path, title, media, role in further:
        if path:
            yield key, pystac.Asset(str(path.resolve()), title, media_type=media, roles=[role])


def table_asset(path: Path, title: str) -> pystac.Asset:
    """A Parquet file of a run as an asset, with its columns, its size and its checksum."""
    schema = pq.read_schema(path)
    extra = {
        "table:columns": [{"name": field.name, "type": str(field.type)} for field in schema],
        **({"table:primary_geometry": GEOMETRY} if GEOMETRY in schema.names else {}),
        "table:row_count": pq.read_metadata(path).num_rows,
        "file:size": path.stat().st_size,
        "file:checksum": _SHA256 + file_sha256(path),
    }
    return pystac.Asset(str(path.resolve()), title, media_type=PARQUET, roles=["data"], extra_fields=extra)
