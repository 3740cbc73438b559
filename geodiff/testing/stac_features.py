"""STAC items and static catalogues for tests, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shapely.geometry import box, mapping

Json = dict[str, Any]


def stac_feature(
    name: str,
    when: str,
    bbox: tuple[float, float, float, float] = (10.0, 45.0, 11.0, 46.0),
    *,
    collection: str = "scenes",
    assets: Mapping[str, str] | None = None,
    **properties: Any,
) -> Json:
    """One item.

    Args:
        name: id.
        when: ``datetime`` in RFC 3339.
        bbox: footprint in degrees.
        collection: id of its collection.
        assets: key -> href; a red and a near infrared band on example.com when None.
        properties: further ones; two underscores stand for a colon (``eo__cloud_cover``).
    """
    hrefs = assets or {key: f"https://example.com/{name}/{key}.tif" for key in ("red", "nir")}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": json.loads(json.dumps(mapping(box(*bbox)))),
        "bbox": list(bbox),
        "properties": {"datetime": when} | {key.replace("__", ":"): value for key, value in properties.items()},
        "assets": {key: {"href": href, "roles": ["data"]} for key, href in hrefs.items()},
        "links": [],
    }


def write_static(folder: Path, features: Sequence[Json]) -> Path:
    """A static catalogue: root, one folder per collection, one file per item. Returns the path of the root."""
    names = sorted({feature["collection"] for feature in features})
    for name in names:
        members = [feature for feature in features if feature["collection"] == name]
        for feature in members:
            _write(folder / name / f"{feature['id']}.json", feature)
        links = [{"rel": "item", "href": f"./{feature['id']}.json"} for feature in members]
        _write(folder / name / "collection.json", stac_catalog(name, links, kind="Collection"))
    links = [{"rel": "child", "href": f"./{name}/collection.json"} for name in names]
    root = folder / "catalog.json"
    _write(root, stac_catalog("root", links))
    return root


def stac_catalog(name: str, links: Sequence[Json], *, kind: str = "Catalog") -> Json:
    """A catalogue or collection document with these links."""
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    own = {"license": "other", "extent": extent} if kind == "Collection" else {}
    return {"type": kind, "stac_version": "1.0.0", "id": name, "description": name, "links": list(links), **own}


def _write(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
