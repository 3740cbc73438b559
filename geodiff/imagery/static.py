"""Search of a static catalogue: JSON files that link to each other, filtered here as an API would filter them."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urldefrag

from shapely import GEOSException
from shapely.geometry import shape

from geodiff.imagery.documents import Reader, UnreadableError
from geodiff.imagery.hrefs import check_href, is_remote
from geodiff.imagery.query import Query, Stage, span
from geodiff.schema import GeodiffError, public

log = logging.getLogger(__name__)

MAX_DEPTH = 24
MAX_DOCUMENTS = 100_000
READERS = 8
MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    GEOSException,
)


@dataclass(frozen=True)
class Found:
    """A STAC item as plain JSON, and where its relative links start from."""

    feature: dict[str, Any]
    href: str


@dataclass
class Tally:
    """What a search saw, to say afterwards why nothing was found."""

    stages: Counter[Stage] = field(default_factory=Counter)
    collections: set[str] = field(default_factory=set)
    bounds: list[tuple[float, float, float, float]] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    unreadable: int = 0

    def add(self, feature: Mapping[str, Any], stage: Stage) -> None:
        self.stages[stage] += 1
        if stage is Stage.COLLECTION:
            self.collections.add(str(feature.get("collection")))
        if stage is Stage.PLACE and feature.get("geometry"):
            self.bounds.append(shape(feature["geometry"]).bounds)
        if stage is Stage.TIME:
            self.times.extend(span(feature["properties"]))

    def hint(self) -> str:
        """Why nothing passed, judged by the scenes that came furthest."""
        seen = sum(self.stages.values())
        if not seen:
            names = ", ".join(sorted(self.collections)[:20])
            return f"it has the collections {names}: name one of these" if names else "the catalogue holds no scenes"
        furthest, count = max(self.stages), self.stages[max(self.stages)]
        if furthest is Stage.COLLECTION:
            return f"its {seen} scenes are of {', '.join(sorted(self.collections)[:10])}: name one of these"
        if furthest is Stage.PLACE:
            if not self.bounds:
                return f"its {seen} scenes say nothing about their place"
            west, south, east, north = zip(*self.bounds, strict=True)
            cover = f"{min(west):.5g} {min(south):.5g} {max(east):.5g} {max(north):.5g}"
            return f"its scenes cover {cover}: widen or move the region (the order is W S E N)"
        if furthest is Stage.TIME:
            first, last = min(self.times), max(self.times)
            return f"{count} scenes there are of {first:%Y-%m-%d} to {last:%Y-%m-%d}: widen the dates"
        return f"{count} scenes fit otherwise but are cloudier or do not state their cloud cover: raise the limit"


def find(reader: Reader, root_href: str, query: Query, tally: Tally) -> Iterator[Found]:
    """Items of a static catalogue that answer ``query``, in the order of the links.

    The tree of catalogues is walked first (a document is read once, however often it is linked), then the items are
    read, several at a time. An item that cannot be read or is malformed is left out with a warning.

    Raises:
        GeodiffError: a catalogue in the tree is unreadable or malformed, links lead where they may not, the tree is
            deeper than 24 levels or larger than 100,000 documents, no item at all is readable, or the server fails.
    """
    index = list(_walk(reader, root_href, query, tally))
    with ThreadPoolExecutor(READERS if is_remote(root_href) else 1) as pool:
        for entry, read in zip(index, pool.map(lambda e: _load(reader, e), index), strict=True):
            for found in read:
                try:
                    stage = query.stage(checked_item(found.feature))
                    tally.add(found.feature, stage)
                except MALFORMED as error:
                    tally.unreadable += 1
                    where = public(found.href)
                    log.warning("skipped malformed item %s of %s: %s", found.feature.get("id"), where, error)
                    continue
                if stage is Stage.PASSED:
                    yield found
            if not read:
                tally.unreadable += 1
                log.warning("skipped item %s", public(entry.href))
    if tally.unreadable and not tally.stages:
        raise GeodiffError(f"catalogue {root_href} is malformed: none of its {tally.unreadable} items can be read")


@dataclass(frozen=True)
class _Entry:
    """An item to be read, or (with ``document``) one that came inside another document."""

    href: str
    collection: str | None
    document: dict[str, Any] | None = None


def _walk(reader: Reader, root_href: str, query: Query, tally: Tally) -> Iterator[_Entry]:
    todo = deque([(root_href, 0)])
    known = {_plain(root_href)}
    while todo:
        href, depth = todo.popleft()
        document = reader.read(href)
        kind = document.get("type")
        if kind in ("Feature", "FeatureCollection"):
            yield _Entry(href, None, document)
            continue
        own = document.get("id") if kind == "Collection" else None
        asked = not own or not query.collections or own in query.collections
        if not asked:
            tally.collections.add(str(own))
        for rel, target in _links(document, href):
            if target in known or (rel == "item" and not asked):
                continue
            known.add(target)
            if len(known) > MAX_DOCUMENTS:
                raise GeodiffError(f"catalogue {root_href} has more than {MAX_DOCUMENTS} documents: name a part of it")
            if rel == "item":
                yield _Entry(target, own)
            elif depth >= MAX_DEPTH:
                raise GeodiffError(f"catalogue {root_href} is deeper than {MAX_DEPTH} levels: name a part of it")
            else:
                todo.append((target, depth + 1))


def _links(document: Mapping[str, Any], href: str) -> Iterator[tuple[str, str]]:
    links = document.get("links")
    if not isinstance(links, list) or not isinstance(document.get("id"), str):
        raise GeodiffError(f"{href} is not a STAC catalogue: it has no id or no list of links")
    for link in links:
        if not isinstance(link, Mapping) or not isinstance(link.get("href"), str):
            raise GeodiffError(f"{href} is a malformed STAC catalogue: a link without href")
        if link.get("rel") in ("child", "item"):
            yield str(link["rel"]), _plain(check_href(link["href"], catalog_href=href))


def _plain(href: str) -> str:
    """An address without its fragment; in a path of this disk the mark of fragments is a letter like others."""
    return urldefrag(href).url if is_remote(href) else href


def _load(reader: Reader, entry: _Entry) -> list[Found]:
    """The items of one document; none (after a warning) where it is unreadable. A lost server is an error."""
    try:
        document = entry.document or reader.read(entry.href)
    except UnreadableError as error:
        log.warning("%s", error)
        return []
    if document.get("type") != "FeatureCollection":
        if entry.collection and not document.get("collection"):
            document = {**document, "collection": entry.collection}
        return [Found(document, entry.href)]
    features = document.get("features")
    inside = features if isinstance(features, list) else []
    return [Found(feature, home(feature, entry.href)) for feature in inside if isinstance(feature, dict)]


def home(feature: Mapping[str, Any], fallback: str) -> str:
    """Where relative links of an item that came inside another document start from: its self link, if it is absolute.

    A remote document must not claim a home on this disk, so from afar only remote self links count.
    """
    links = feature.get("links")
    for link in links if isinstance(links, list) else []:
        href = str(link.get("href")) if isinstance(link, Mapping) and link.get("rel") == "self" else ""
        if is_remote(href) or (href.startswith("/") and not is_remote(fallback)):
            return href
    return fallback


def checked_item(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """The feature itself, when it looks like a STAC item.

    Raises:
        MALFORMED: it does not.
    """
    if feature.get("type") != "Feature" or not isinstance(feature.get("id"), str):
        raise ValueError("not a STAC item")
    if not isinstance(feature.get("collection"), str | None):
        raise ValueError("a collection without a name")
    if feature.get("geometry"):
        shape(feature["geometry"])
    if not isinstance(feature.get("assets"), Mapping) or not isinstance(feature.get("properties"), Mapping):
        raise ValueError("no assets or no properties")
    return feature
