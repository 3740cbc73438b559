"""Which acquisition an item shows, and which of several processings of it to keep.

Archives keep one item per processing: a tile of one overpass may come twice or more, under other identifiers, with
other baselines. Only the newest counts. Where an overpass was cut into two datastrips inside a tile, both halves stay.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pystac
from shapely import make_valid, union_all
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from geodiff.fields import number
from geodiff.imagery.baseline import NAME_KEYS, processing_baseline
from geodiff.imagery.sources import Source

NEW_GROUND = 0.05
"""Share of an item's footprint that must lie outside newer items of its acquisition for it to be kept as well."""

MOST_DIGITS = 9
"""A number of a processing in its sequence with more is none; Python refuses to read one of thousands."""

_PRODUCT = re.compile(
    r"(?P<platform>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<take>\d{8}T\d{6})_(?:N\d{4}_)?R\d{3}"
    r"_T(?P<tile>\d{2}[C-X][A-Z]{2})_(?P<made>\d{8}T\d{6})"
)
_TILE = re.compile(r"(?:^|[_-]|T)(\d{1,2})([C-X][A-Z]{2})(?:_|\.|$)")
_DATATAKE = re.compile(r"^G(S2[A-D])_(\d{8}T\d{6})_")
_STRIP_START = re.compile(r"_S(\d{8}T\d{6})")


@dataclass(frozen=True)
class SceneRow:
    """What a table of scenes shows of one item.

    Attributes:
        id: of the item.
        time: start of the acquisition, UTC.
        cloud_percent: None where the catalogue does not say.
        tile: MGRS tile ("33TWM") or None.
        crs: "EPSG:32633" or None.
        bands: those that it has.
        baseline: processing baseline ("05.09") or None.
    """

    id: str
    time: datetime
    cloud_percent: float | None
    tile: str | None
    crs: str | None
    bands: tuple[str, ...]
    baseline: str | None


def describe(items: Iterable[pystac.Item], source: Source | None = None) -> list[SceneRow]:
    """One row per item, in the order given.

    With a ``source`` the bands go by our names (B02), without by those of the image assets (blue).
    """
    return [
        SceneRow(
            id=item.id,
            time=item_time(item),
            cloud_percent=number(item.properties.get("eo:cloud_cover")),
            tile=mgrs_tile(item),
            crs=item_crs(item),
            bands=_bands(item, source),
            baseline=processing_baseline(item, source.offset.baseline_properties if source else ()),
        )
        for item in items
    ]


def item_time(item: pystac.Item) -> datetime:
    """Moment of the acquisition in UTC: ``datetime``, else ``start_datetime``; the year 1 where neither is there."""
    moment = item.datetime or item.common_metadata.start_datetime or datetime.min
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def item_crs(item: pystac.Item) -> str | None:
    """``proj:code`` or ``proj:epsg`` as "EPSG:32633", from the item or the first asset that says it."""
    for holder in (item.properties, *(asset.extra_fields for asset in item.assets.values())):
        if holder.get("proj:code"):
            return str(holder["proj:code"])
        if holder.get("proj:epsg"):
            return f"EPSG:{holder['proj:epsg']}"
    return None


def mgrs_tile(item: pystac.Item) -> str | None:
    """The MGRS tile, five characters such as "01WCR"; None for scenes that are not cut by it."""
    p = item.properties
    product = _product(item)
    if product:
        return product["tile"]
    parts = [p.get(f"mgrs:{key}") for key in ("utm_zone", "latitude_band", "grid_square")]
    old = [p.get(f"sentinel:{key}") for key in ("utm_zone", "latitude_band", "grid_square")]
    said = [p.get("grid:code"), p.get("s2:mgrs_tile")]
    for group in (parts, old):
        if all(part is not None for part in group):
            said.append("".join(str(part) for part in group))
    for text in (*said, item.id):
        match = _TILE.search(str(text)) if text else None
        if match:
            return match[1].zfill(2) + match[2]
    return None


def newest_processing(items: Iterable[pystac.Item]) -> list[pystac.Item]:
    """Reduce several processings of one acquisition to the newest; sorted by time, then id.

    One acquisition: the same platform, product level, overpass (datatake, else the moment to the second) and MGRS tile.
    Newest: the highest baseline, then the time of generation, update, creation. An older item stays only when at least
    5 % of its footprint shows ground that newer ones do not (the other datastrip of a split overpass). Scenes without a
    tile are told apart by collection and id. The result does not depend on the order given.
    """
    groups: dict[tuple[str, ...], list[pystac.Item]] = defaultdict(list)
    for item in items:
        groups[_acquisition(item)].append(item)
    kept = [item for group in groups.values() for item in _keep(sorted(group, key=_rank, reverse=True))]
    return sorted(kept, key=lambda item: (item_time(item), item.id))


def _acquisition(item: pystac.Item) -> tuple[str, ...]:
    tile = mgrs_tile(item)
    if tile is None:
        return ("", item.collection_id or "", item.id)
    product = _product(item)
    datatake = _DATATAKE.match(str(item.properties.get("s2:datatake_id", "")))
    if product:
        platform, take, level = product["platform"], product["take"], product["level"]
    else:
        platform = str(item.properties.get("platform", ""))
        take = datatake[2] if datatake else item_time(item).strftime("%Y%m%dT%H%M%S")
        kind = str(item.properties.get("s2:product_type") or item.properties.get("sentinel2:product_type") or "")
        level = "L" + kind[-2:] if kind.startswith("S2MSI") else item.collection_id or ""
    return (platform.lower().replace("sentinel-", "s"), take, tile, level)


def _keep(newest_first: list[pystac.Item]) -> list[pystac.Item]:
    kept = newest_first[:1]
    for item in newest_first[1:]:
        start = _strip_start(item)
        reprocessed = start is not None and any(_strip_start(other) == start for other in kept)
        if not reprocessed and item.id not in {k.id for k in kept} and _new_ground(item, kept) > NEW_GROUND:
            kept.append(item)
    return kept


def _new_ground(item: pystac.Item, kept: list[pystac.Item]) -> float:
    """Share (0-1) of the item's footprint outside the others; 0 where a footprint is unknown."""
    own = footprint(item)
    others = [footprint(other) for other in kept]
    if own is None or own.area == 0 or any(other is None for other in others):
        return 0.0
    return float(own.difference(union_all(others)).area / own.area)


def footprint(item: pystac.Item) -> BaseGeometry | None:
    """The item's geometry, repaired where it is invalid; None where there is none."""
    if not item.geometry:
        return None
    geometry = shape(item.geometry)
    return geometry if geometry.is_valid else make_valid(geometry)


def _rank(item: pystac.Item) -> tuple[str, float, float, float, int, str]:
    p = item.properties
    product = _product(item)
    made = _seconds(p.get("s2:generation_time") or p.get("sentinel2:generation_time"))
    if made == 0 and product:
        made = _seconds(product["made"])
    sequence = str(p.get("s2:sequence", p.get("sentinel:sequence", "0")))
    return (
        processing_baseline(item) or "",
        made,
        _seconds(p.get("updated")),
        _seconds(p.get("created")),
        int(sequence) if sequence.isdecimal() and len(sequence) <= MOST_DIGITS else 0,
        item.id,
    )


def _product(item: pystac.Item) -> re.Match[str] | None:
    names = (str(item.properties.get(key, "")) for key in NAME_KEYS)
    return next((found for name in (*names, item.id) if (found := _PRODUCT.search(name))), None)


def _strip_start(item: pystac.Item) -> str | None:
    found = _STRIP_START.search(str(item.properties.get("s2:datastrip_id", "")))
    return found[1] if found else None


def _seconds(value: Any) -> float:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _bands(item: pystac.Item, source: Source | None) -> tuple[str, ...]:
    if source is not None:
        return tuple(band for band, alias in source.bands.items() if any(name in item.assets for name in alias.assets))
    return tuple(key for key, asset in item.assets.items() if _is_image(asset))


def _is_image(asset: pystac.Asset) -> bool:
    roles, kind = asset.roles or [], asset.media_type or ""
    return "data" in roles or (not roles and ("geotiff" in kind or "jp2" in kind))
