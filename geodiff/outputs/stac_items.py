"""STAC items of finished runs, and the static catalogue that publishes them.

The item is the commit: a cube is finished before its item is written, the item before the collection links to it, the
collection before the catalogue links to that. A reader who starts at the catalogue sees whole cubes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pystac
from pyproj import CRS, Transformer
from shapely.geometry import Polygon

from geodiff.grid import Grid
from geodiff.outputs import static_catalog
from geodiff.outputs.atomic import explained, file_lock, remove_left, write_json
from geodiff.outputs.packing import PACKINGS, REFLECTANCE, Packing
from geodiff.outputs.published import RUN_ID, size_of
from geodiff.outputs.store_layout import FLAT
from geodiff.outputs.track_geometry import cut_shape
from geodiff.schema import GeodiffError
from geodiff.version import __version__

_EXTENSION: Final = "https://stac-extensions.github.io/{}/schema.json"
EO: Final = _EXTENSION.format("eo/v2.0.0")
EXTENSIONS: Final = (
    *map(_EXTENSION.format, ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "file/v2.1.0")),
    EO,
)
ZARR: Final = "application/vnd+zarr; version=3"
COMMON_NAMES: Final = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge071", "B06": "rededge075",
    "B07": "rededge078", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
_EDGE_POINTS = 21


@dataclass(frozen=True)
class RunRecord:
    """What a catalogue says about a finished run.

    Attributes:
        run_id: also the id of the item; letters, digits, ``.``, ``_`` and ``-``.
        grid: the high-resolution grid.
        bands: names, in order.
        times: restored dates, UTC.
        ensemble: number of members behind the uncertainty; the reflectance is an estimate of its own, not their mean.
        scale: how many times finer than the source.
        model: name of the model.
        model_href: where the model's STAC item is, a URL or a path; None for a model without one.
        sources: URLs or paths of the items of the source scenes.
        properties: further properties of the item, such as figures of the summary.
        created: when the run finished; left out when None.
    """

    run_id: str
    grid: Grid
    bands: tuple[str, ...]
    times: tuple[np.datetime64, ...]
    ensemble: int
    scale: int
    model: str
    model_href: str | None = None
    sources: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    created: datetime | None = None


def build_item(
    run: RunRecord,
    *,
    zarr: Path,
    thumbnail: Path | None = None,
    quicklook: Path | None = None,
    summary: Path | None = None,
    cogs: Sequence[Path] = (),
) -> pystac.Item:
    """Describe a finished run as a STAC 1.1 item with absolute asset hrefs (``publish_item`` makes them relative).

    Args:
        run: what to say.
        zarr: the finished store.
        thumbnail: a small PNG.
        quicklook: the PNG of low resolution, restoration and uncertainty.
        summary: ``summary.json``.
        cogs: COGs of the store.

    Raises:
        GeodiffError: the run id is not fit for a file name.
    """
    check_name("run id", run.run_id)
    times = [_utc(time) for time in run.times]
    item = pystac.Item(
        id=run.run_id,
        geometry=footprint(run.grid),
        bbox=list(run.grid.bounds_wgs84),
        datetime=times[0] if len(times) == 1 else None,
        start_datetime=times[0] if len(times) > 1 else None,
        end_datetime=times[-1] if len(times) > 1 else None,
        properties=_properties(run),
        stac_extensions=list(EXTENSIONS),
    )
    for key, asset in _assets(run, zarr, thumbnail, quicklook, summary, cogs):
        item.add_asset(key, asset)
    if run.model_href:
        item.add_link(pystac.Link("derived_from", run.model_href, "application/geo+json", f"model {run.model}"))
    for href in run.sources:
        item.add_link(pystac.Link("derived_from", href, "application/geo+json", "source scene"))
    return item


def check_name(what: str, name: str) -> None:
    """Refuse what is not fit for a file name.

    Raises:
        GeodiffError: characters that a file name should not have.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise GeodiffError(f"{what} {name!r} is not fit for a file name: use letters, digits, '.', '_' and '-'")


def footprint(grid: Grid) -> dict[str, Any]:
    """Outline of a grid in WGS84 as GeoJSON, cut at 180 degrees; straight edges of the CRS are sampled: they bend."""
    west, south, east, north = grid.bounds
    t = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    x = np.concatenate([west + t * (east - west), 0 * t + east, east - t * (east - west), 0 * t + west])
    y = np.concatenate([0 * t + south, south + t * (north - south), 0 * t + north, north - t * (north - south)])
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    turned = np.unwrap([*lon, lon[0]], period=360)
    if abs(turned[-1] - turned[0]) < 180:  # not around a pole
        lon = turned[:-1] + 360 * (turned.min() < -180)
    return cut_shape(Polygon(np.stack([lon, lat], 1).round(7)))


def _utc(time: np.datetime64) -> datetime:
    moment = np.array([time], dtype="datetime64[s]")[0].astype(object)
    assert isinstance(moment, datetime)
    return moment.replace(tzinfo=UTC)


def _properties(run: RunRecord) -> dict[str, Any]:
    crs, t = CRS.from_user_input(run.grid.crs), run.grid.transform
    authority = crs.to_authority()
    stamp = {"created": run.created.astimezone(UTC).isoformat().replace("+00:00", "Z")} if run.created else {}
    return {
        **stamp,
        "gsd": round(float(np.mean(run.grid.pixel_m)), 3),
        "proj:code": ":".join(authority) if authority else None,
        **({} if authority else {"proj:wkt2": crs.to_wkt()}),
        "proj:shape": list(run.grid.shape),
        "proj:transform": [t.a, t.b, t.c, t.d, t.e, t.f],
        "proj:bbox": list(run.grid.bounds),
        "processing:software": {"geodiff": __version__},
        "processing:lineage": f"restored {run.scale} times finer by {run.model}"
        + (f", ensemble of {run.ensemble}" if run.ensemble else ""),
        RUN_ID: run.run_id,
        "geodiff:model": run.model,
        "geodiff:ensemble": run.ensemble,
        "geodiff:scale": run.scale,
        "geodiff:dates": [_utc(time).isoformat().replace("+00:00", "Z") for time in run.times],
        **run.properties,
    }


def _assets(
    run: RunRecord,
    zarr: Path,
    thumbnail: Path | None,
    quicklook: Path | None,
    summary: Path | None,
    cogs: Sequence[Path],
) -> Iterator[tuple[str, pystac.Asset]]:
    bands = _bands(run, REFLECTANCE)
    cube = {"bands": bands}
    yield "zarr", _asset(zarr, "super-resolved cube (Zarr format 3)", ZARR, ("data",), cube)
    if thumbnail:
        yield "thumbnail", _asset(thumbnail, "thumbnail", "image/png", ("thumbnail",))
    if quicklook:
        yield "quicklook", _asset(quicklook, "low resolution, restored, uncertainty", "image/png", ("overview",))
    if summary:
        yield "summary", _asset(summary, "figures of the run", "application/json", ("metadata",))
    for path in cogs:
        name = path.stem.rpartition("_")[2]
        packing = PACKINGS.get(name, REFLECTANCE)
        bands = [_coded(name, packing)] if name in FLAT else _bands(run, packing)
        cog = {"bands": bands, "nodata": packing.fill, "data_type": packing.dtype}
        key = path.stem.removeprefix(f"{zarr.stem}_")
        yield key, _asset(path, key.replace("_", " "), pystac.MediaType.COG, ("data",), cog)


def _asset(
    path: Path, title: str, media: str, roles: tuple[str, ...], extra: dict[str, Any] | None = None
) -> pystac.Asset:
    told = {**(extra or {}), "file:size": size_of(path)}
    return pystac.Asset(str(path.resolve()), title, media_type=media, roles=list(roles), extra_fields=told)


def _bands(run: RunRecord, packing: Packing) -> list[dict[str, Any]]:
    return [{**_coded(band, packing), **band_fields(band)} for band in run.bands]


def band_fields(band: str) -> dict[str, str]:
    """What STAC says of a band of Sentinel-2: its name and, where it has one, the common name."""
    return {"name": band, **({"eo:common_name": COMMON_NAMES[band]} if band in COMMON_NAMES else {})}


def _coded(name: str, packing: Packing) -> dict[str, Any]:
    return {"name": name, "raster:scale": packing.scale, "raster:offset": packing.offset}


def publish_item(catalog_dir: Path, item: pystac.Item, *, collection: str, description: str = "") -> Path:
    """Publish an item in the static catalogue of a folder, which is created when absent.

    The item becomes ``<catalog_dir>/<collection>/<item id>.json``; hrefs below ``catalog_dir`` become relative, so
    that the folder may move, and the item of a local model is copied to ``<catalog_dir>/models``. Publishers in
    several processes wait for each other; none loses another's item.

    Returns:
        The path of the item file.

    Raises:
        GeodiffError: a collection that is no file name; a ``catalog.json`` or ``collection.json`` in the way that is
            not STAC; a folder not writable.
    """
    check_name("collection", collection)
    folder = catalog_dir / collection
    with explained(catalog_dir):
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(catalog_dir / ".catalog.lock", wait=True):
            for left in (catalog_dir / "catalog.json", folder / "collection.json"):
                remove_left(left)
            path = folder / f"{item.id}.json"
            static_catalog.require_stac(catalog_dir / "catalog.json", "Catalog")
            static_catalog.require_stac(folder / "collection.json", "Collection")
            document = static_catalog.item_document(item, folder, collection)
            if collection != static_catalog.MODELS:  # its folder would take the copies for items of its own
                static_catalog.adopt_models(document, catalog_dir)
            write_json(path, document)
            static_catalog.write_collection(folder, collection, description)
            static_catalog.write_catalog(catalog_dir, collection)
    return path


def withdraw_item(item: pystac.Item) -> None:
    """Take an item out of its static catalogue; its files stay. The link to it goes first: none leads to nothing.

    Raises:
        GeodiffError: a folder not writable.
    """
    path = Path(str(item.self_href))
    with explained(path), file_lock(path.parent.parent / ".catalog.lock", wait=True):
        static_catalog.write_collection(path.parent, path.parent.name, "", without=path.name)
        path.unlink(missing_ok=True)
