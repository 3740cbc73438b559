"""The documents of a static STAC catalogue: items, collections rebuilt from their folder, the catalogue above them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac

from geodiff.fields import flat_box
from geodiff.outputs.atomic import read_json, write_json
from geodiff.outputs.track_geometry import span_longitudes
from geodiff.schema import GeodiffError

MODELS = "models"
_ROOT = "../catalog.json"
_CATALOG = "Super-resolved image time series and vessel tracks made by geodiff"
_DEFAULT = "Super-resolved image time series made by geodiff"


def require_stac(path: Path, kind: str) -> None:
    """Refuse to overwrite a file that is not the STAC object expected there, or that cannot be written again.

    Raises:
        GeodiffError: the file exists and is something else.
    """
    if path.exists() and not _is_stac(read_json(path), kind):
        raise GeodiffError(f"{path} is not a STAC {kind.lower()}: move it away, or choose another output folder")


def _is_stac(document: object, kind: str) -> bool:
    if not isinstance(document, dict) or document.get("type") != kind:
        return False
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:  # NaN is no JSON, though it can be read
        return False
    links = document.get("links", [])
    return isinstance(links, list) and all(isinstance(link, dict) for link in links)


def item_document(item: pystac.Item, folder: Path, collection: str) -> dict[str, Any]:
    """JSON of an item that lies in ``folder``: hrefs below the catalogue relative, links to its collection and root."""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    for asset in document["assets"].values():
        asset["href"] = _relative(asset["href"], folder)
    own = ("root", "parent", "collection", "self")
    further = [
        {**link, "href": _relative(link["href"], folder)} for link in document["links"] if link["rel"] not in own
    ]
    document["links"] = [
        _link("root", _ROOT),
        _link("parent", "./collection.json"),
        _link("collection", "./collection.json"),
        *further,
    ]
    document["collection"] = collection
    return document


def adopt_models(document: dict[str, Any], catalog_dir: Path) -> None:
    """Copy the items of local models that an item derives from to ``models/`` of the catalogue, and link to the copies.

    A link to where the model is installed would end when the catalogue moves. Weights are not copied, so assets that
    lie beside the original are left out of the copy. A model that is already there under the name, but is another one,
    gets a number from its content.
    """
    for link in document["links"]:
        path = Path(link["href"])
        if link["rel"] != "derived_from" or not str(link.get("title")).startswith("model ") or not path.is_absolute():
            continue
        model = read_json(path)
        if not isinstance(model, dict) or model.get("type") != "Feature":
            continue
        assets = {key: asset for key, asset in model.get("assets", {}).items() if "://" in str(asset.get("href"))}
        copy = {**model, "assets": assets, "links": []}
        target = catalog_dir / MODELS / path.name
        if read_json(target) not in (None, copy):
            digest = hashlib.sha256(json.dumps(copy, sort_keys=True).encode()).hexdigest()
            target = target.with_stem(f"{path.stem}-{digest[:8]}")
        target.parent.mkdir(exist_ok=True)
        write_json(target, copy)
        link["href"] = f"../{MODELS}/{target.name}"


def _relative(href: str, folder: Path) -> str:
    """``href`` as seen from ``folder`` when it lies below the catalogue, else as it is."""
    path = Path(href)
    if not path.is_absolute() or not path.is_relative_to(folder.resolve().parent):
        return href
    relative = os.path.relpath(path, folder.resolve())
    return relative if relative.startswith("..") else f"./{relative}"


def _link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": "application/geo+json" if rel == "item" else "application/json"}


def write_collection(folder: Path, collection: str, description: str, *, without: str | None = None) -> None:
    """Write ``collection.json`` of a folder from the items that lie in it; keeps what it does not manage.

    Args:
        folder: of the collection.
        collection: its name.
        description: what it says; that of before when empty.
        without: file name of an item that is left out. A collection that is empty then keeps its extent.
    """
    items = {name: item for name, item in _items(folder).items() if name != without}
    existing = read_json(folder / "collection.json")
    kept = existing if isinstance(existing, dict) else {}
    links = [link for link in kept.get("links", []) if link.get("rel") not in ("root", "parent", "self", "item")]
    document = {
        "type": "Collection",
        "id": collection,
        "stac_version": pystac.get_stac_version(),
        "title": kept.get("title", collection),
        "license": "other",
        **kept,
        "description": description or kept.get("description") or _DEFAULT,
        "extent": _extent(items.values()) if items else kept["extent"],
        "links": [
            _link("root", _ROOT),
            _link("parent", _ROOT),
            *links,
            *(_link("item", f"./{name}") for name in sorted(items)),
        ],
    }
    write_json(folder / "collection.json", document)


def _items(folder: Path) -> dict[str, dict[str, Any]]:
    """File name and content of every STAC item in a folder; others' that do not say where and when are passed over."""
    found = {}
    for path in sorted(folder.glob("[!.]*.json")):
        document = read_json(path)
        if isinstance(document, dict) and _is_item(document):
            found[path.name] = document
    return found


def _is_item(document: Mapping[str, Any]) -> bool:
    told = document.get("type") == "Feature" and "stac_version" in document
    return told and flat_box(document.get("bbox")) is not None and all(map(_is_moment, _times(document)))


def _times(item: Mapping[str, Any]) -> list[Any]:
    """When an item begins and ends, as it says."""
    told = item.get("properties")
    told = told if isinstance(told, dict) else {}
    return [told.get(key) or told.get("datetime") for key in ("start_datetime", "end_datetime")]


def _is_moment(time: object) -> bool:
    try:
        return isinstance(time, str) and bool(datetime.fromisoformat(time))
    except ValueError:
        return False


def _extent(items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    boxes = [own for item in items if (own := flat_box(item["bbox"]))]
    west, south, east, north = zip(*boxes, strict=True)
    times = sorted(time for item in items for time in _times(item))
    crossing = any(left > right for left, right in zip(west, east, strict=True))
    # Boxes of tracks may cross 180°; then the shortest arc that holds all of them does too.
    sides = span_longitudes(np.array(west), np.array(east)) if crossing else (min(west), max(east))
    box = [sides[0], min(south), sides[1], max(north)]
    return {"spatial": {"bbox": [box]}, "temporal": {"interval": [[times[0], times[-1]]]}}


def write_catalog(catalog_dir: Path, collection: str) -> None:
    """Link a collection from ``catalog.json``; other children and fields stay."""
    existing = read_json(catalog_dir / "catalog.json")
    kept = existing if isinstance(existing, dict) else {}
    href = f"./{collection}/collection.json"
    links = [link for link in kept.get("links", []) if link.get("rel") not in ("root", "self")]
    if not any(link.get("rel") == "child" and link.get("href") == href for link in links):
        links.append(_link("child", href))
    document = {
        "type": "Catalog",
        "id": "geodiff",
        "stac_version": pystac.get_stac_version(),
        "title": "geodiff results",
        "description": _CATALOG,
        **kept,
        "links": [_link("root", "./catalog.json"), *links],
    }
    write_json(catalog_dir / "catalog.json", document)
