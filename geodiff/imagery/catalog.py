"""The door to scenes: search an API or a static catalogue with the same words, and keep what was found.

A scene that leaves this module is a ``pystac.Item`` whose asset hrefs are absolute and checked (``hrefs.check_href``),
one per acquisition, in the order of time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pystac
from shapely.geometry.base import BaseGeometry

from geodiff.fields import flat_box
from geodiff.imagery import static
from geodiff.imagery.acquisition import SceneRow, describe, newest_processing
from geodiff.imagery.api import Api
from geodiff.imagery.documents import Patience, Reader, brief, write_json
from geodiff.imagery.hrefs import check_href
from geodiff.imagery.query import Query, make_query
from geodiff.imagery.sources import ORIGIN, Source, origin_of
from geodiff.schema import GeodiffError, UsageError, public, without_user

__all__ = ["NoScenesError", "SceneRow", "describe", "load_items", "save_items", "search", "sign_items"]

log = logging.getLogger(__name__)


class NoScenesError(GeodiffError):
    """The search was answered, with nothing."""


class MalformedItemError(GeodiffError):
    """An item is not what STAC says an item is."""


def search(
    source: Source,
    *,
    collections: Sequence[str] = (),
    bbox: Sequence[float] | None = None,
    geometry: Mapping[str, Any] | BaseGeometry | None = None,
    datetime: str,
    max_cloud: float | None = None,
    limit: int | None = None,
    patience: Patience | None = None,
) -> list[pystac.Item]:
    """Scenes of a catalogue, sorted by time then id; of several processings of an acquisition the newest.

    Args:
        source: from ``load_source``.
        collections: ids; none means the source's default collection, or all of a static catalogue.
        bbox: (west, south, east, north) in degrees; scenes that touch it. This or ``geometry``, or neither.
        geometry: shapely or GeoJSON, in degrees.
        datetime: ``A/B``, ``A/..``, ``../B``, or one year, month, day or moment; UTC, both ends included.
        max_cloud: percent; scenes that do not state their cloud cover are then left out.
        limit: at most so many scenes, the earliest.
        patience: timeouts and retries.

    Raises:
        UsageError: dates, region, cloud or limit make no sense.
        NoScenesError: nothing answers; the message says what was asked and what to widen.
        GeodiffError: the catalogue cannot be reached, is malformed, or links where it may not.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} scenes finds nothing: give 1 or more")
    # The words of the user are checked before the network is asked.
    query = make_query(
        collections=collections,
        bbox=bbox,
        geometry=geometry,
        datetime=datetime,
        max_cloud=max_cloud,
        cloud_property=source.cloud_property,
    )
    found = _find(source, query, patience or Patience())
    items = newest_processing(_sound_items(found, source))
    if not items:
        raise GeodiffError(f"catalogue {source.location} is malformed: none of {len(found)} items found can be read")
    return sign_items(items[:limit], source)


def _sound_items(found: Iterable[static.Found], source: Source) -> Iterator[pystac.Item]:
    for each in found:
        try:
            yield _to_item(each.feature, each.href, source)
        except MalformedItemError as error:
            log.warning("skipped: %s", error)


def _find(source: Source, query: Query, patience: Patience) -> list[static.Found]:
    location = source.location
    with Reader(patience) as reader:
        if _is_api(source, reader):
            if source.default_collection and not query.collections:
                query = replace(query, collections=(source.default_collection,))
            with Api.open(location, patience) as api:
                found = api.find(query)
                hint = "" if found else api.hint(query)
        else:
            tally = static.Tally()
            found = list(static.find(reader, location, query, tally))
            hint = "" if found else tally.hint()
    if not found:
        raise NoScenesError(f"no scenes in {location} for {query.says()}; {hint}")
    return found


def sign_items(items: Sequence[pystac.Item], source: Source) -> list[pystac.Item]:
    """Make the hrefs readable where the source asks for it; links that are signed already stay. Others pass through.

    Raises:
        GeodiffError: the package that signs is not installed, or its server does not answer.
    """
    if source.signing == "none" or not items:
        return list(items)
    try:
        import planetary_computer
    except ImportError:
        install = "pip install 'geodiff[planetary]'"
        raise GeodiffError(f"links of {source.name} are signed by the package planetary-computer: {install}") from None
    try:
        return [planetary_computer.sign(item) for item in items]
    except Exception as error:  # requests, pydantic and its own errors: all mean that the token server failed
        raise GeodiffError(f"cannot sign links of {source.name} ({brief(error, 160)}): try again later") from None


def save_items(items: Sequence[pystac.Item], path: Path, *, source: Source | None = None) -> None:
    """Write scenes as a STAC ItemCollection (GeoJSON), whole or not at all.

    Users and passwords of links are left out, and signatures: they expire, and are secrets of a kind (``sign_items``
    renews them).

    Args:
        items: the scenes.
        path: of the file.
        source: where they come from; ``load_source(path)`` then has its bands, offset and signing.

    Raises:
        GeodiffError: the file cannot be written.
    """
    features = [item.to_dict(include_self_link=True, transform_hrefs=False) for item in items]
    for feature in features:
        for asset in feature["assets"].values():
            asset["href"] = _unsigned(asset["href"])
    # JSON has no NaN, which some catalogues hold all the same: as a text it can be written, and read as a number.
    features = json.loads(json.dumps(features), parse_constant=str)
    origin = origin_of(source) if source else None
    stated = {ORIGIN: origin} if origin else {}
    write_json(path, {"type": "FeatureCollection", **stated, "features": features})


def load_items(path: Path, *, source: Source | None = None) -> list[pystac.Item]:
    """Read scenes that ``save_items`` wrote, or any ItemCollection; hrefs are checked again.

    Args:
        path: the file.
        source: its signing is applied, and its bands are those whose links must be sound.

    Raises:
        GeodiffError: unreadable, not an ItemCollection, a broken item, or a link that is refused.
    """
    with Reader() as reader:
        document = reader.read(str(path))
    features = document.get("features")
    if document.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise GeodiffError(f"{path} is not a STAC ItemCollection: write one with geodiff search --out")
    items = []
    for number, feature in enumerate(features):
        try:
            static.checked_item(feature)
            items.append(_to_item(feature, static.home(feature, str(path.resolve())), source))
        except static.MALFORMED as error:
            raise GeodiffError(f"{path}: item {number} is malformed ({error})") from None
    if not items:
        raise NoScenesError(f"{path} holds no scenes")
    return sign_items(items, source) if source else items


def _is_api(source: Source, reader: Reader) -> bool:
    if source.kind != "auto":
        return source.kind == "api"
    links = reader.read(source.location).get("links")
    return any(isinstance(link, dict) and link.get("rel") == "search" for link in links or [])


def _to_item(feature: dict[str, Any], href: str, source: Source | None) -> pystac.Item:
    """A pystac item with absolute, checked hrefs and no links but that to itself.

    A refused link of image data is an error; any other asset with one (previews, reports) is dropped with a warning.
    """
    try:
        item = pystac.Item.from_dict(feature, preserve_dict=True)
    except (pystac.STACError, pystac.STACTypeError, *static.MALFORMED) as error:
        raise MalformedItemError(f"item {feature.get('id')} of {href} is malformed ({error})") from None
    if item.bbox is not None and flat_box(item.bbox) is None:
        log.warning("scene %s: its bbox is not one of 4 or 6 numbers and is passed over", item.id)
        item.bbox = None
    item.clear_links()
    needed = {name for alias in source.bands.values() for name in alias.assets} | set(source.scl) if source else set()
    for key, asset in list(item.assets.items()):
        try:
            asset.href = check_href(asset.href, catalog_href=href)
        except GeodiffError as error:
            if key in needed or "data" in (asset.roles or []):
                raise GeodiffError(f"scene {item.id}, asset {key}: {error}") from None
            log.warning("scene %s: left out asset %s: %s", item.id, key, error)
            del item.assets[key]
    # Outputs name their scenes by it. Assets keep what opens them, for this run alone (``save_items``).
    item.add_link(pystac.Link(pystac.RelType.SELF, public(href), media_type=pystac.MediaType.GEOJSON))
    return item


def _unsigned(href: str) -> str:
    parts = urlsplit(href)
    is_signed = parts.netloc.endswith(".blob.core.windows.net") and "sig=" in parts.query
    return without_user(parts._replace(query="").geturl() if is_signed else href)
