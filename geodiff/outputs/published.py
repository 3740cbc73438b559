"""What a static catalogue has published: its items, and whether their files are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pystac

from geodiff.outputs.atomic import read_json

RUN_ID: Final = "geodiff:run_id"


def find_item(catalog_dir: Path, run_id: str) -> pystac.Item | None:
    """The published item of a run, all of whose files are there as it tells them; None when there is none.

    Only what can be reached from ``catalog.json`` counts: an item file that no collection links to is a commit that
    was cut short, and publishing again completes it.
    """
    found = (item for item in published_items(catalog_dir, run_id=run_id) if item.properties.get(RUN_ID) == run_id)
    return next((item for item in found if not damaged_assets(item)), None)


def damaged_assets(item: pystac.Item) -> dict[str, Path]:
    """Keys and files of the assets that are not there, or not as large as the item says."""
    found = {}
    for key, asset in item.assets.items():
        path, size = Path(str(asset.get_absolute_href())), asset.extra_fields.get("file:size")
        if not path.exists() or (size is not None and size_of(path) != size):
            found[key] = path
    return found


def size_of(path: Path) -> int:
    """Bytes of a file, or of all that a Zarr store holds; what other programs left in its folders does not count."""
    if not path.is_dir():
        return path.stat().st_size
    held = (file for file in path.rglob("*") if file.name in ("zarr.json", "c") or file.name.isdigit())
    return sum(file.stat().st_size for file in held if file.is_file())


def published_items(
    catalog_dir: Path, collection: str | None = None, *, run_id: str | None = None
) -> Iterator[pystac.Item]:
    """Items that can be reached from ``catalog.json``: of one collection or of all, of one name or of any."""
    for child in _linked(catalog_dir / "catalog.json", "child"):
        if collection not in (None, child.parent.name):
            continue
        for path in _linked(child, "item"):
            item = item_of(path) if run_id in (None, path.stem) else None
            if item is not None:
                yield item


def item_of(path: Path) -> pystac.Item | None:
    """The item in a file; None where there is none that can be read."""
    document = read_json(path)
    try:
        item = pystac.Item.from_dict(document) if isinstance(document, dict) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, pystac.STACError, pystac.STACTypeError):
        return None
    if item is not None:
        item.set_self_href(str(path.resolve()))
    return item


def _linked(path: Path, rel: str) -> Iterator[Path]:
    document = read_json(path)
    links = document.get("links", []) if isinstance(document, dict) else []
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == rel and "://" not in str(link.get("href")):
            yield path.parent / str(link["href"])
