"""A STAC API that holds its items in memory: the whole protocol of stac-fastapi, without a database.

Imports stac-fastapi, shapely and cql2; ``stac_server.serve_stac`` imports it only when a server is asked for.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attr
from cql2 import Expr
from fastapi import FastAPI, HTTPException, Request
from shapely.geometry import box, shape
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import create_get_request_model, create_post_request_model
from stac_fastapi.extensions.filter import FilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError

Json = dict[str, Any]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def make_app(items: Sequence[Mapping[str, Any]], *, extensions: Sequence[str] = ("query", "filter")) -> FastAPI:
    """An app that serves ``items`` (STAC items as plain JSON, each with its ``collection``).

    Args:
        items: newest first in answers, like the large public servers, whatever their order here.
        extensions: which of "query" and "filter" the server offers.
    """
    chosen: list[Any] = [TokenPaginationExtension()]
    chosen += [QueryExtension()] if "query" in extensions else []
    chosen += [FilterExtension()] if "filter" in extensions else []
    client = MemoryClient(items=[dict(item) for item in items], extensions=chosen)
    api = StacApi(
        settings=ApiSettings(enable_response_models=False),
        client=client,
        extensions=chosen,
        search_get_request_model=create_get_request_model(chosen),
        search_post_request_model=create_post_request_model(chosen),
    )
    return api.app


@attr.s
class MemoryClient(BaseCoreClient):
    """The six questions of a STAC API, answered from a list."""

    items: list[Json] = attr.ib(factory=list)

    def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        asked = search_request.model_dump(exclude_none=True, mode="json", by_alias=True)
        return self._answer(asked, kwargs["request"], method="POST")

    def get_search(
        self,
        collections: Any = None,
        ids: Any = None,
        bbox: Any = None,
        intersects: Any = None,
        datetime: Any = None,
        limit: int | None = 10,
        **kwargs: Any,
    ) -> Any:
        words = {"collections": collections, "ids": ids, "bbox": bbox, "intersects": intersects}
        words |= {"datetime": datetime, "limit": limit, **kwargs}
        asked = {key: value for key, value in words.items() if value is not None and key != "request"}
        for key in ("intersects", "filter", "filter_expr"):
            if isinstance(asked.get(key), str) and asked[key].startswith("{"):
                asked[key] = json.loads(asked[key])
        if isinstance(asked.get("query"), str | list):
            asked["query"] = json.loads(asked["query"] if isinstance(asked["query"], str) else asked["query"][0])
        return self._answer(asked, kwargs["request"], method="GET")

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        for item in self.items:
            if (item["id"], item["collection"]) == (item_id, collection_id):
                return _linked(item, kwargs["request"])
        raise NotFoundError(f"no item {item_id} in {collection_id}")

    def all_collections(self, **kwargs: Any) -> Any:
        names = sorted({item["collection"] for item in self.items})
        return {"collections": [_collection(name) for name in names], "links": [], "numberMatched": len(names)}

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        if all(item["collection"] != collection_id for item in self.items):
            raise NotFoundError(f"no collection {collection_id}")
        return _collection(collection_id)

    def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: str | None = None,
        limit: int = 10,
        token: str | None = None,
        **kwargs: Any,
    ) -> Any:
        asked = {"collections": [collection_id], "bbox": bbox, "datetime": datetime, "limit": limit, "token": token}
        return self._answer(asked, kwargs["request"], method="GET")

    def _answer(self, asked: Json, request: Request, *, method: str) -> Json:
        ordered = sorted(self.items, key=lambda item: str(item["properties"].get("datetime")), reverse=True)
        hits = [item for item in ordered if matches(item, asked)]
        first, limit = int(asked.get("token") or 0), int(asked.get("limit") or 10)
        page = [_linked(item, request) for item in hits[first : first + limit]]
        links = []
        if first + limit < len(hits):
            links.append(_next(asked, request, str(first + limit), method))
        return {"type": "FeatureCollection", "features": page, "links": links, "numberMatched": len(hits)}


def matches(item: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether one item answers a search, as the STAC API standard says it."""
    for key, held in (("collections", item["collection"]), ("ids", item["id"])):
        if asked.get(key) and held not in asked[key]:
            return False
    places = [shape(asked["intersects"])] if asked.get("intersects") else []
    places += [box(*asked["bbox"])] if asked.get("bbox") else []
    if not all(place.intersects(shape(item["geometry"])) for place in places):
        return False
    return _in_time(item, asked.get("datetime")) and _has_values(item, asked)


def _in_time(item: Mapping[str, Any], interval: Any) -> bool:
    if not interval:
        return True
    first, _, last = str(interval).partition("/")
    moment = _moment(item["properties"]["datetime"])
    if not last:
        return moment == _moment(first)
    return (first in ("", "..") or moment >= _moment(first)) and (last in ("", "..") or moment <= _moment(last))


def _has_values(item: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    for name, rules in (asked.get("query") or {}).items():
        value = item["properties"].get(name)
        for sign, bound in rules.items():
            if sign not in COMPARE:
                raise HTTPException(400, f"operator {sign} is not known")
            if value is None or not COMPARE[sign](value, bound):
                return False
    expression = asked.get("filter") or asked.get("filter_expr")
    return bool(Expr(expression).matches(dict(item))) if expression else True


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _linked(item: Mapping[str, Any], request: Request) -> Json:
    root = str(request.base_url).rstrip("/")
    links = [
        {"rel": "self", "href": f"{root}/collections/{item['collection']}/items/{item['id']}"},
        {"rel": "collection", "href": f"{root}/collections/{item['collection']}"},
        {"rel": "root", "href": root},
    ]
    return {**item, "links": links}


def _next(asked: Json, request: Request, token: str, method: str) -> Json:
    if method == "POST":
        body = {**asked, "token": token}
        return {"rel": "next", "href": str(request.url), "method": "POST", "body": body, "merge": False}
    return {"rel": "next", "href": str(request.url.include_query_params(token=token)), "method": "GET"}


def _collection(name: str) -> Json:
    return {
        "type": "Collection",
        "id": name,
        "stac_version": "1.0.0",
        "description": f"{name} in memory",
        "license": "proprietary",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }
