"""Search over the network, on loopback: a real STAC API, files behind a web server, and servers that misbehave."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geodiff.imagery import documents
from geodiff.imagery.catalog import NoScenesError, search
from geodiff.imagery.documents import Patience, UnreadableError
from geodiff.imagery.sources import load_source
from geodiff.schema import GeodiffError, UsageError
from geodiff.testing.stac_features import stac_catalog, stac_feature, write_static
from geodiff.testing.stac_server import StacServer, serve_answers, serve_folder, serve_stac

HASTY = Patience(timeout_s=5, retries=3, backoff_s=0.01)


def _features() -> list[dict[str, Any]]:
    """130 scenes over three places, two pages, one acquisition of them in two processings."""
    features = [
        stac_feature(
            f"s{number:03d}",
            f"2021-{1 + number % 12:02d}-{1 + number // 12:02d}T10:00:{number % 60:02d}Z",
            (10.0 + number % 3, 45.0, 10.9 + number % 3, 46.0),
            collection="sentinel-2-l2a" if number % 10 else "sentinel-1-grd",
            eo__cloud_cover=float(number % 101),
        )
        for number in range(130)
    ]
    for feature in features[::7]:
        del feature["properties"]["eo:cloud_cover"]
    twice = copy.deepcopy(features[1])
    for feature, baseline in ((features[1], "03.01"), (twice, "05.00")):
        feature["properties"] |= {
            "grid:code": "MGRS-32TPR",
            "platform": "sentinel-2b",
            "s2:processing_baseline": baseline,
        }
    twice["id"] = "s001-again"
    return [*features, twice]


FEATURES = _features()


@pytest.fixture(scope="module")
def server() -> Iterator[StacServer]:
    with serve_stac(FEATURES) as running:
        yield running


@pytest.fixture(scope="module")
def plain_server() -> Iterator[StacServer]:
    """A server that can filter by place, dates and collection only."""
    with serve_stac(FEATURES, extensions=()) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_static(tmp_path_factory.mktemp("static"), FEATURES).parent


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"collections": ["sentinel-2-l2a"]},
        {"collections": ["sentinel-1-grd", "sentinel-2-l2a"], "datetime": "2021-03/2021-04-07"},
        {"bbox": (11.2, 45.1, 11.3, 45.2)},
        {"bbox": (10.5, 45.1, 11.3, 45.2), "max_cloud": 20, "datetime": "2021-02/.."},
        {"geometry": {"type": "Polygon", "coordinates": [[[12.5, 45.0], [12.6, 45.5], [12.4, 45.5], [12.5, 45.0]]]}},
        {"datetime": "2021-01-01T10:00:00Z"},
        {"datetime": "../2021-01-02", "max_cloud": 24},
        {"limit": 7, "bbox": (10.5, 45.1, 10.6, 45.2)},
    ],
)
def test_an_api_a_plain_api_and_a_static_catalogue_answer_alike(
    server: StacServer, plain_server: StacServer, folder: Path, words: dict[str, Any]
) -> None:
    answers = [_rows(where, words) for where in (server.url, plain_server.url, str(folder))]
    assert answers[0]
    assert all(answer == answers[0] for answer in answers)
    ids = [name for name, _, _ in answers[0]]
    assert "s001" not in ids
    assert answers[0] == sorted(answers[0], key=lambda row: (row[1], row[0]))


def test_a_static_catalogue_on_the_web_answers_as_on_disk(folder: Path) -> None:
    words = {"bbox": (10.5, 45.1, 11.3, 45.2), "max_cloud": 60}
    with serve_folder(folder) as web:
        assert _rows(f"{web}/catalog.json", words) == _rows(str(folder), words)


def _rows(where: str, words: dict[str, Any]) -> list[tuple[Any, ...]]:
    items = search(load_source(where), patience=HASTY, **{"datetime": "2021", **words})
    return [(item.id, item.datetime, item.assets["red"].href) for item in items]


def test_all_pages_are_read_and_the_older_processing_is_left_out(server: StacServer) -> None:
    server.requests.clear()
    items = search(load_source(server.url), datetime="2021", patience=HASTY)
    assert {item.id for item in items} == {feature["id"] for feature in FEATURES} - {"s001"}
    assert [path for _, path in server.requests].count("/search") == 2


def test_a_server_that_stumbles_is_asked_again(server: StacServer) -> None:
    server.failures[:] = [503, 502, 429]
    assert search(load_source(server.url), datetime="2021-01", patience=HASTY)
    assert server.failures == []


def test_a_server_that_stays_down_is_named(server: StacServer) -> None:
    server.failures[:] = [503] * 20
    with pytest.raises(GeodiffError) as caught:
        search(load_source(server.url), datetime="2021-01", patience=HASTY)
    server.failures.clear()
    assert server.url in str(caught.value)
    assert "503" in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ({"datetime": "2019"}, "widen the dates"),
        ({"bbox": (0.0, 0.0, 1.0, 1.0)}, "widen or move the region"),
        ({"collections": ["sentinel-2"]}, "sentinel-1-grd, sentinel-2-l2a"),
        ({"datetime": "2021-01-01T10:00:00Z", "max_cloud": 3}, "cloud"),
    ],
)
def test_nothing_found_says_what_to_widen(server: StacServer, words: dict[str, Any], hint: str) -> None:
    with pytest.raises(NoScenesError) as caught:
        search(load_source(server.url), patience=HASTY, **{"datetime": "2021", **words})
    assert hint in str(caught.value)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_words_do_not_reach_the_network() -> None:
    with pytest.raises(UsageError):
        search(load_source("http://127.0.0.1:9/"), datetime="2021-02/2021-01")


def test_an_unreachable_catalogue_is_named() -> None:
    with pytest.raises(GeodiffError, match=r"cannot reach http://127\.0\.0\.1:9/.*connection refused") as caught:
        search(load_source("http://127.0.0.1:9/"), datetime="2021", patience=HASTY)
    assert "\n" not in str(caught.value)


SECRET = ("s3cret", "TOPTOKEN")


def _secretive(url: str, path: str) -> str:
    return f"{url.replace('://', '://me:s3cret@')}/{path}?token=TOPTOKEN"


def test_no_message_tells_a_password_or_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = write_static(tmp_path, FEATURES[:2])
    (tmp_path / "sentinel-1-grd" / "s000.json").write_text("{}")
    with serve_folder(tmp_path) as url:
        places = [_secretive("http://127.0.0.1:9", ""), *(_secretive(url, name) for name in ("none.json", broken.name))]
        for place, year in zip(places, ("2021", "2021", "1999"), strict=True):
            with pytest.raises(GeodiffError) as caught:
                search(load_source(place), datetime=year, patience=HASTY)
            assert "http://127.0.0.1:" in str(caught.value)
            assert not any(word in str(caught.value) for word in SECRET)
    assert "Retrying" in caplog.text
    assert "s000.json" in caplog.text
    assert not any(word in caplog.text for word in SECRET)
    with pytest.raises(UsageError, match="%2F") as refused:
        load_source("http://me:s3/cret@example.com")
    assert "cret" not in str(refused.value)


def test_a_scene_behind_a_password_names_its_item_without_it(tmp_path: Path) -> None:
    write_static(tmp_path, [stac_feature("s000", "2021-01-01T00:00:00Z", assets={"red": "red.tif"})])
    with serve_folder(tmp_path) as url:
        item = search(load_source(_secretive(url, "catalog.json")), datetime="2021", patience=HASTY)[0]
        assert item.self_href == f"{url}/scenes/s000.json"
        assert item.assets["red"].href == f"{url.replace('://', '://me:s3cret@')}/scenes/red.tif"


def test_the_default_collection_of_a_source_is_searched(server: StacServer, tmp_path: Path) -> None:
    extra = tmp_path / "mine.yaml"
    extra.write_text(f"sources:\n  mirror:\n    like: earth-search\n    url: {server.url}\n")
    items = search(load_source("mirror", extra=extra), datetime="2021", patience=HASTY)
    assert {item.collection_id for item in items} == {"sentinel-2-l2a"}


API = {
    **stac_catalog("api", [{"rel": "search", "href": "{url}/search", "method": "GET", "type": "application/geo+json"}]),
    "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"],
}
SEARCH = "/search?limit=100&datetime=2021-01-01T00%3A00%3A00Z%2F2021-12-31T23%3A59%3A59.999999Z"


def _page(features: list[dict[str, Any]], following: str | None = None) -> str:
    links = [{"rel": "next", "href": following}] if following else []
    return json.dumps({"type": "FeatureCollection", "features": features, "links": links})


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ({"/": (200, "<html>hello</html>")}, "not JSON"),
        ({"/": (200, "[]")}, "not a JSON object"),
        ({"/": (404, "")}, "does not exist"),
        ({"/": (403, "")}, "403"),
        ({"/": (200, "{}")}, "not a STAC catalogue"),
        ({"/": (200, json.dumps(API)), SEARCH: (200, "{")}, "does not answer like a STAC API"),
        ({"/": (200, json.dumps(API)), SEARCH: (200, '{"features": [1, 2]}')}, "does not answer like a STAC API"),
        ({"/": (200, json.dumps(API)), SEARCH: (400, "no\nsuch thing")}, "answered 400"),
        (
            {"/": (200, json.dumps(API)), SEARCH: (200, _page(FEATURES[:2], "file:///etc/passwd"))},
            "only http",
        ),
        (
            {
                "/": (200, json.dumps(API)),
                SEARCH: (200, _page(FEATURES[:2], "{url}/again")),
                "/again": (200, _page(FEATURES[:2], "{url}/again")),
            },
            "repeats a page",
        ),
    ],
)
def test_a_malformed_api_is_one_line_that_names_it(answers: dict[str, tuple[int, str]], named: str) -> None:
    with serve_answers(answers) as url, pytest.raises(GeodiffError, match=named) as caught:
        search(load_source(f"{url}/"), datetime="2021", patience=HASTY)
    assert url in str(caught.value) or "file:///etc/passwd" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_would_fill_the_memory_is_refused(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 2**20)
    answers = {"/": (200, json.dumps(API)), SEARCH: (status, " " * 2**20 + _page(FEATURES[:2]))}
    with serve_answers(answers) as url, pytest.raises(UnreadableError, match=r"/search is larger than 1 MiB"):
        search(load_source(f"{url}/"), datetime="2021", patience=HASTY)


def test_what_stands_in_a_redirect_is_not_waited_for() -> None:
    moved = {"/": (302, "{url}/api"), "/api": (200, json.dumps(API)), SEARCH: (302, "{url}/found")}
    with serve_answers({**moved, "/found": (200, _page(FEATURES[:2]))}) as url:
        items = search(load_source(f"{url}/"), datetime="2021", patience=Patience(timeout_s=0.5, retries=0))
    assert len(items) == 2


@pytest.mark.parametrize("href", ["file:///etc/passwd", "../../../../../etc/passwd", "/vsicurl/http://x/a.tif"])
def test_a_remote_catalogue_cannot_name_local_files(tmp_path: Path, href: str) -> None:
    bad = stac_feature("x", "2021-01-01T00:00:00Z", assets={"red": href})
    write_static(tmp_path, [bad])
    with serve_folder(tmp_path) as url, pytest.raises(GeodiffError, match="refused") as static:
        search(load_source(f"{url}/catalog.json"), datetime="2021", patience=HASTY)
    with serve_stac([bad]) as api, pytest.raises(GeodiffError, match="refused") as served:
        search(load_source(api.url), datetime="2021", patience=HASTY)
    for caught in (static, served):
        assert "scene x, asset red" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_remote_catalogue_cannot_link_to_a_local_catalogue(tmp_path: Path) -> None:
    root = stac_catalog("root", [{"rel": "child", "href": "file:///etc/catalog.json"}])
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    with serve_folder(tmp_path) as url, pytest.raises(GeodiffError, match="refused"):
        search(load_source(f"{url}/catalog.json"), datetime="2021", patience=HASTY)


def test_recorded_scenes_of_earth_search_come_back_from_a_server(geodiff_data: Path) -> None:
    path = geodiff_data / "stac" / "earth_search_v0_santafe_74_items.json"
    features = json.loads(path.read_text())["features"]
    asked = {"bbox": (-106.2, 35.5, -106.1, 35.6), "datetime": "2020-04-15/2020-06-10", "max_cloud": 30}
    with serve_stac(features) as api:
        served = search(load_source(api.url), patience=HASTY, **asked)
    static = search(load_source(str(path)), **asked)
    assert len(static) > 10
    assert [item.id for item in served] == [item.id for item in static]
