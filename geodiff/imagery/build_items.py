"""STAC documents of a built catalogue, as plain JSON: items, their collection, the root."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from shapely.geometry import mapping

from geodiff.imagery.build_layers import Layer, Scene, footprint
from geodiff.imagery.build_names import is_class
from geodiff.version import __version__

Json = dict[str, Any]
FOLDER = "geodiff:folder"
"""Of a collection: which folder it was made of."""

STAC_VERSION = "1.0.0"
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
)
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
MEDIA = {".tif": "image/tiff; application=geotiff", ".tiff": "image/tiff; application=geotiff", ".jp2": "image/jp2"}

SENTINEL_2 = {
    "B01": ("coastal", 0.443),
    "B02": ("blue", 0.490),
    "B03": ("green", 0.560),
    "B04": ("red", 0.665),
    "B05": ("rededge", 0.705),
    "B06": ("rededge", 0.740),
    "B07": ("rededge", 0.783),
    "B08": ("nir", 0.842),
    "B8A": ("nir08", 0.865),
    "B09": ("nir09", 0.945),
    "B10": ("cirrus", 1.375),
    "B11": ("swir16", 1.610),
    "B12": ("swir22", 2.190),
}
"""Common name and centre wavelength in micrometres (Sentinel-2 MSI user guide, ESA)."""


def make_item(scene: Scene, files: Mapping[str, tuple[Path, bool]], *, home: Path, out: Path, collection: str) -> Json:
    """The STAC item of a scene.

    Args:
        scene: what it shows.
        files: band -> (file of the asset, whether it is a COG).
        home: where the item will be written.
        out: folder of the catalogue: assets inside it are linked relatively, others absolutely.
        collection: id.
    """
    outline = footprint(scene.layers[0])
    codes = {_code(layer.crs) for layer in scene.layers}
    moment = scene.time.isoformat().replace("+00:00", "Z")
    properties: Json = {**scene.properties, "datetime": moment}
    if len(codes) == 1 and None not in codes:
        properties["proj:code"] = codes.pop()
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": scene.id,
        "collection": collection,
        "geometry": _rounded(mapping(outline)),
        "bbox": [round(value, 7) for value in outline.bounds],
        "properties": properties,
        "assets": {
            layer.band: _asset(layer, *files[layer.band], home=home, out=out, item_code=properties.get("proj:code"))
            for layer in scene.layers
        },
        "links": [
            {"rel": "root", "href": _relative(out / "catalog.json", home), "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        ],
    }


def folder_mark(folder: Path) -> str:
    """What tells folders apart without telling where they lie."""
    return hashlib.blake2b(str(folder).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def make_collection(collection: str, items: Sequence[Json], *, folder: Path) -> Json:
    """The collection over ``items`` of a folder (each lies in a folder of its id beside the collection)."""
    title = folder.name
    boxes = list(zip(*(item["bbox"] for item in items), strict=True))
    bounds = [min(boxes[0]), min(boxes[1]), max(boxes[2]), max(boxes[3])]
    times = sorted(item["properties"]["datetime"] for item in items)
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": collection,
        "title": title,
        "description": f"{len(items)} scenes of {title}, catalogued by geodiff {__version__}",
        "license": "other",
        FOLDER: folder_mark(folder),
        "extent": {"spatial": {"bbox": [bounds]}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *(
                {"rel": "item", "href": f"./{item['id']}/{item['id']}.json", "type": "application/geo+json"}
                for item in items
            ),
        ],
    }


def make_root(collection: str, earlier: Mapping[str, Any] | None) -> Json:
    """The root catalogue; other collections that an earlier build linked stay."""
    own = f"./{collection}/collection.json"
    links = (earlier or {}).get("links", [])
    kept = {link["href"] for link in links if link.get("rel") == "child"} | {own}
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": (earlier or {}).get("id", "geodiff-scenes"),
        "description": "Scenes catalogued by geodiff",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *({"rel": "child", "href": href, "type": "application/json"} for href in sorted(kept)),
        ],
    }


def _asset(layer: Layer, path: Path, is_cog: bool, *, home: Path, out: Path, item_code: str | None) -> Json:
    inside = path.is_relative_to(out)
    common, wavelength = SENTINEL_2.get(layer.band, (None, None))
    asset: Json = {
        "href": _relative(path, home) if inside else str(path),
        "type": COG_TYPE if is_cog else MEDIA.get(path.suffix.lower(), "application/octet-stream"),
        "roles": ["data"] if is_class(layer.band) else ["data", "reflectance"],
        "proj:shape": list(layer.shape),
        "proj:transform": list(layer.transform)[:6],
        "raster:bands": [_raster_band(layer)],
    }
    if common is not None:
        asset["eo:bands"] = [{"name": layer.band, "common_name": common, "center_wavelength": wavelength}]
    code = _code(layer.crs)
    if code is None:
        asset["proj:wkt2"] = CRS.from_string(layer.crs).to_wkt(version="WKT2_2019")
    elif code != item_code:
        asset["proj:code"] = code
    return {**asset, **layer.extra}


def _raster_band(layer: Layer) -> Json:
    band: Json = {"data_type": layer.dtype}
    if layer.nodata is not None:
        band["nodata"] = "nan" if math.isnan(layer.nodata) else _plain(layer.nodata)
    if not is_class(layer.band) and layer.scale is not None:
        band["scale"] = layer.scale
        # An offset that nobody stated stays unstated, so that the rule of the processing baseline can still apply.
        if layer.offset is not None:
            band["offset"] = layer.offset
    return band


def _code(crs: str) -> str | None:
    return crs if crs.upper().startswith("EPSG:") else None


def _relative(path: Path, home: Path) -> str:
    text = Path(os.path.relpath(path, home.parent)).as_posix()
    return text if text.startswith(".") else f"./{text}"


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number


def _rounded(geometry: Mapping[str, Any]) -> Json:
    def cut(value: Any) -> Any:
        return [cut(v) for v in value] if isinstance(value, list | tuple) else round(value, 7)

    return {"type": geometry["type"], "coordinates": cut(geometry["coordinates"])}


def scene_bounds(scene: Scene) -> tuple[float, float, float, float]:
    """(west, south, east, north) of a scene in degrees."""
    layer = scene.layers[0]
    west, south, east, north = transform_bounds(CRS.from_string(layer.crs), "EPSG:4326", *layer.bounds)
    return west, south, east, north
