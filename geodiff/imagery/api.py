"""Search of a STAC API through pystac-client: paging, retries, and what the server cannot filter filtered here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pystac
import requests
from pystac_client import Client, ItemSearch
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning

from geodiff.imagery.documents import Patience, brief, gathered, leaving_redirects, unreachable
from geodiff.imagery.hrefs import WEB, check_href
from geodiff.imagery.query import Query, Stage, as_geojson
from geodiff.imagery.static import MALFORMED, Found, checked_item, home
from geodiff.schema import GeodiffError, public

log = logging.getLogger(__name__)

PAGE = 100
MAX_PAGES = 500
MAX_ITEMS = 5_000


class _WebOnly(StacApiIO):
    """Follows http(s) links only: a server must not make us open a file by its ``next`` link.

    Nor must it fill our memory: an answer is held as far as a document of a static catalogue is.
    """

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        method = (method or "GET").upper()
        asked, body = (parameters, None) if method == "GET" else (None, parameters)
        with self.session.request(
            method, self._web(href), params=asked, json=body, headers=headers, timeout=self.timeout, stream=True
        ) as answer:
            text = gathered(answer, href).decode(errors="replace")
        if not answer.ok:
            error = APIError(text)
            error.status_code = answer.status_code
            raise error
        return text

    def read_text(self, source: pystac.link.HREF, *args: Any, **kwargs: Any) -> str:
        if isinstance(source, str):
            self._web(source)
        return super().read_text(source, *args, **kwargs)

    def _web(self, href: str) -> str:
        if not href.lower().startswith(tuple(f"{scheme}://" for scheme in WEB)):
            raise GeodiffError(f"the API links to {href!r}, which is refused: only http(s) addresses are followed")
        return check_href(href, catalog_href=href)


@dataclass(frozen=True)
class Api:
    """An open STAC API."""

    url: str
    client: Client

    @classmethod
    @contextmanager
    def open(cls, url: str, patience: Patience) -> Iterator[Api]:
        """The API at ``url``, for the length of a ``with`` block.

        Raises:
            GeodiffError: it cannot be reached or does not answer like a STAC API.
        """
        io = _WebOnly(timeout=patience.timeout_s, max_retries=patience.retry())
        leaving_redirects(io.session)
        try:
            with _explained(url):
                client = Client.open(url, stac_io=io)
                if client.get_single_link("search") is None:
                    raise GeodiffError(f"{url} offers no search: give the root of a STAC API or a catalog.json")
                # Some servers forget to say that they can do what their search link offers.
                client.add_conforms_to("ITEM_SEARCH")
            yield cls(url, client)
        finally:
            io.session.close()

    def find(self, query: Query) -> list[Found]:
        """Items that answer ``query``; malformed ones are left out with a warning.

        Raises:
            GeodiffError: the server fails after the retries, refuses the search, or does not come to an end.
        """
        found: list[Found] = []
        seen: set[str] = set()
        with _explained(self.url):
            for number, page in enumerate(self._search(query).pages_as_dicts()):
                before = len(seen)
                seen.update(f"{feature.get('collection')}/{feature.get('id')}" for feature in page["features"])
                if len(seen) == before:
                    raise GeodiffError(f"{self.url} repeats a page of results: the server is at fault, try later")
                if number >= MAX_PAGES or len(seen) > MAX_ITEMS:
                    raise GeodiffError(f"{self.url} has over {before} scenes for {query.says()}: narrow the search")
                found += [Found(f, home(f, self.url)) for f in page["features"] if self._passes(f, query)]
        return found

    def hint(self, query: Query) -> str:
        """Why nothing was found: asks again with less, one item at a time."""
        try:
            with _explained(self.url):
                return self._hint(query)
        except GeodiffError:
            return "widen the region or the dates"

    def _hint(self, query: Query) -> str:
        if query.max_cloud is not None and self._any(replace(query, max_cloud=None)):
            return "there are scenes, but cloudier or without a stated cloud cover: raise the limit"
        always = replace(query, max_cloud=None, start=None, end=None)
        if query.interval and self._any(always):
            return "there are scenes of other dates: widen the dates"
        if query.place is not None and self._any(replace(always, bbox=None, region=None)):
            return "no scene covers this place: widen or move the region (the order is W S E N)"
        names = sorted(collection.id for collection in self.client.get_collections())
        return f"nothing under that name; the catalogue's collections are {', '.join(names[:20]) or 'none'}"

    def _any(self, query: Query) -> bool:
        return any(True for _ in self._search(query, max_items=1).items_as_dicts())

    def _search(self, query: Query, max_items: int | None = None) -> ItemSearch:
        cloud: dict[str, Any] | None = None
        if query.max_cloud is not None and self.client.conforms_to("QUERY"):
            cloud = {query.cloud_property: {"lte": query.max_cloud}}
        methods = {link.extra_fields.get("method", "GET") for link in self.client.get_links("search")}
        return self.client.search(
            method="POST" if "POST" in methods else "GET",
            max_items=max_items,
            limit=max_items or PAGE,
            collections=list(query.collections) or None,
            bbox=query.bbox,
            intersects=None if query.region is None else as_geojson(query.region),
            datetime=query.interval,
            query=cloud,
        )

    def _passes(self, feature: Any, query: Query) -> bool:
        try:
            return query.stage(checked_item(feature)) is Stage.PASSED
        except MALFORMED as error:
            log.warning("skipped malformed item of %s: %s", public(self.url), error)
            return False


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn the errors of pystac-client into one line that names the catalogue."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PystacClientWarning)
            yield
    except APIError as error:
        if error.status_code:
            raise GeodiffError(f"{url} answered {error.status_code}: {brief(error)}") from None
        raise unreachable(url, error) from None
    except requests.RequestException as error:
        raise unreachable(url, error) from None
    except (pystac.STACError, pystac.STACTypeError, NotImplementedError, *MALFORMED) as error:
        raise GeodiffError(f"{url} does not answer like a STAC API ({type(error).__name__}: {brief(error)})") from None
