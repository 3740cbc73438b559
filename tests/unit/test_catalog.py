"""Search of static catalogues, the words of a search, and what becomes of several processings."""

from __future__ import annotations

import copy
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from geodiff.imagery import catalog
from geodiff.imagery.acquisition import mgrs_tile, newest_processing
from geodiff.imagery.baseline import processing_baseline
from geodiff.imagery.catalog import NoScenesError, describe, load_items, save_items, search
from geodiff.imagery.query import make_query, open_interval
from geodiff.imagery.sources import load_source
from geodiff.imagery.static import home
from geodiff.schema import GeodiffError, UsageError, public
from geodiff.testing.stac_features import stac_catalog, stac_feature, write_static

SERIES = [
    stac_feature("a-0113", "2020-01-13T10:00:00Z", eo__cloud_cover=5),
    stac_feature("a-0118", "2020-01-18T10:00:00Z", eo__cloud_cover=90),
    stac_feature("a-0202", "2020-02-02T23:59:59.7Z"),
    stac_feature("far", "2020-01-13T10:00:00Z", (20.0, 45.0, 21.0, 46.0), eo__cloud_cover=1),
    stac_feature("other", "2020-01-20T10:00:00Z", collection="radar", eo__cloud_cover=1),
]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(write_static(tmp_path / "cat", SERIES))


def _ids(root: str, **words: Any) -> list[str]:
    return [item.id for item in search(load_source(root), **{"datetime": "2020", **words})]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, ["a-0113", "far", "a-0118", "other", "a-0202"]),
        ({"collections": ["scenes"], "bbox": (10.2, 45.2, 10.3, 45.3)}, ["a-0113", "a-0118", "a-0202"]),
        ({"geometry": box(20.5, 45.5, 30, 50)}, ["far"]),
        ({"geometry": {"type": "Feature", "geometry": {"type": "Point", "coordinates": [20.5, 45.5]}}}, ["far"]),
        ({"max_cloud": 5}, ["a-0113", "far", "other"]),
        ({"datetime": "2020-02"}, ["a-0202"]),
        ({"datetime": "2020-02-02"}, ["a-0202"]),
        ({"datetime": "2020-01-18/.."}, ["a-0118", "other", "a-0202"]),
        ({"datetime": "/2020-01-13"}, ["a-0113", "far"]),
        ({"datetime": "2020-01-13T10:00:00Z"}, ["a-0113", "far"]),
        ({"datetime": "2020-01-13T11:00:00+01:00/2020-01-13T12:00:00+01:00"}, ["a-0113", "far"]),
        ({"limit": 2}, ["a-0113", "far"]),
        # Touching counts, as it does for APIs.
        ({"bbox": (11.0, 46.0, 12.0, 47.0), "collections": ["scenes"]}, ["a-0113", "a-0118", "a-0202"]),
    ],
)
def test_a_static_catalogue_is_filtered_by_place_time_cloud_and_collection(
    root: str, words: dict[str, Any], expected: list[str]
) -> None:
    assert _ids(root, **words) == expected


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ({"collections": ["nope"]}, "radar, scenes"),
        ({"bbox": (0.0, 0.0, 1.0, 1.0)}, "cover 10 45 21 46"),
        ({"datetime": "2021"}, "2020-01-13 to 2020-02-02"),
        ({"datetime": "2020-02", "max_cloud": 50}, "cloud"),
    ],
)
def test_nothing_found_says_what_was_asked_and_what_to_widen(root: str, words: dict[str, Any], hint: str) -> None:
    with pytest.raises(NoScenesError) as caught:
        _ids(root, **words)
    text = str(caught.value)
    assert hint in text
    assert root in text
    assert "\n" not in text
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"datetime": "2021-06-01/2020-01-01"}, "reversed"),
        ({"datetime": "yesterday"}, "not a date"),
        ({"datetime": "2020-13"}, "not a date"),
        ({"datetime": "../.."}, "open at both ends"),
        ({"datetime": "2020/2021/2022"}, "3 parts"),
        ({"bbox": (45.0, 10.0, 46.0)}, "four numbers"),
        ({"bbox": (11.0, 45.0, 10.0, 46.0)}, "west"),
        ({"bbox": (0.0, 100.0, 1.0, 101.0)}, "longitude first"),
        ({"bbox": (0.0, 0.0, 1.0, 1.0), "geometry": box(0, 0, 1, 1)}, "not both"),
        ({"geometry": {"type": "Polygon"}}, "GeoJSON"),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "empty"),
        ({"geometry": box(500000, 4600000, 510000, 4610000)}, "outside the world"),
        ({"max_cloud": 120}, "120"),
        ({"limit": 0}, "limit"),
        ({"collections": "scenes"}, "list of ids"),
    ],
)
def test_senseless_words_are_usage_errors(root: str, words: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        _ids(root, **words)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_region_nested_without_end_is_a_usage_error(root: str) -> None:
    nested: dict[str, Any] = {"type": "Point", "coordinates": [10.5, 45.5]}
    for _ in range(2_000):
        nested = {"type": "GeometryCollection", "geometries": [nested]}
    with pytest.raises(UsageError, match="not GeoJSON"):
        _ids(root, geometry=nested)


DAYS = st.dates(datetime(1990, 1, 1).date(), datetime(2090, 1, 1).date())


@given(DAYS, DAYS)
def test_an_interval_holds_both_of_its_days_and_an_open_end_holds_more(first: Any, last: Any) -> None:
    first, last = min(first, last), max(first, last)
    start, end = open_interval(f"{first}/{last}")
    assert start == datetime(first.year, first.month, first.day, tzinfo=UTC)
    assert end is not None
    assert end.date() == last
    assert (end + timedelta(microseconds=1)).time() == datetime.min.time()
    assert open_interval(f"{first}/..") == (start, None)
    assert open_interval(f"../{last}") == open_interval(f"/{last}") == (None, end)
    for part, whole in ((f"{first:%Y-%m}", f"{first}"), (f"{first:%Y}", f"{first:%Y-%m}")):
        outer, inner = open_interval(part), open_interval(whole)
        assert outer[0] <= inner[0] <= inner[1] <= outer[1]  # type: ignore[operator]


def test_items_over_a_span_of_time_count_when_the_spans_meet() -> None:
    feature = stac_feature("mosaic", "x")
    feature["properties"] = {
        "datetime": None,
        "start_datetime": "2020-01-01T00:00:00Z",
        "end_datetime": "2020-01-31T00:00:00Z",
    }
    assert make_query(datetime="2020-01-31/2020-03").stage(feature).name == "PASSED"
    assert make_query(datetime="2020-02").stage(feature).name == "TIME"


# --- the tree ---------------------------------------------------------------------------------------------------


def test_broken_items_are_left_out_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_static(tmp_path, SERIES)
    (tmp_path / "scenes" / "a-0113.json").write_text('{"type": "Feat')
    (tmp_path / "scenes" / "a-0118.json").unlink()
    no_time = stac_feature("a-0202", "x")
    no_time["properties"] = {}
    (tmp_path / "scenes" / "a-0202.json").write_text(json.dumps(no_time))
    with caplog.at_level(logging.WARNING):
        assert _ids(str(root)) == ["far", "other"]
    assert all(name in caplog.text for name in ("a-0113", "a-0118", "a-0202"))


def test_fields_of_strange_forms_stop_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nested: dict[str, Any] = {"type": "Point", "coordinates": [10.5, 45.5]}
    for _ in range(300):
        nested = {"type": "GeometryCollection", "geometries": [nested]}
    strange = {
        "deep": {"geometry": nested},
        "listed": {"collection": ["scenes"]},
        "boxed": {"bbox": [1, 2, 3]},
        "endless": {"bbox": [float("nan")] * 4},
    }
    features = [{**stac_feature(name, "2020-01-13T10:00:00Z"), **told} for name, told in strange.items()]
    for n, sequence in enumerate(("²", "9" * 5000, "1")):
        more = {
            "grid__code": "MGRS-32TPR",
            "s2__sequence": sequence,
            "eo__cloud_cover": 10**400,
            "proj__transform": [float("nan")] * 6,
        }
        features.append(stac_feature(f"s{n}", "2020-02-01T10:00:00Z", **more))
    (tmp_path / "scenes.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    source = load_source(str(tmp_path / "scenes.json"))
    items = search(source, datetime="2020")
    assert [item.id for item in items] == ["boxed", "endless", "s2"]
    assert [item.bbox for item in items[:2]] == [None, None]
    assert describe(items)[2].cloud_percent is None
    assert all(f"item {name}" in caplog.text for name in ("deep", "listed"))
    assert all(f"scene {name}: its bbox" in caplog.text for name in ("boxed", "endless"))
    save_items(items, tmp_path / "kept.json", source=source)


def test_a_catalogue_of_broken_items_only_is_malformed(tmp_path: Path) -> None:
    root = write_static(tmp_path, SERIES[:1])
    (tmp_path / "scenes" / "a-0113.json").write_text("{}")
    with pytest.raises(GeodiffError, match="none of its 1 items"):
        _ids(str(root))


def test_cycles_end_and_bottomless_trees_are_refused(tmp_path: Path) -> None:
    root = write_static(tmp_path / "a", SERIES)
    document = json.loads(root.read_text())
    document["links"] += [
        {"rel": "child", "href": "./catalog.json"},
        {"rel": "child", "href": "scenes/../catalog.json"},
    ]
    document["links"] += document["links"][:1]
    root.write_text(json.dumps(document))
    assert len(_ids(str(root))) == len(SERIES)
    for level in range(40):
        links = [{"rel": "child", "href": f"./{level + 1}.json"}]
        (tmp_path / f"{level}.json").write_text(json.dumps(stac_catalog(str(level), links)))
    with pytest.raises(GeodiffError, match="deeper than 24 levels"):
        _ids(str(tmp_path / "0.json"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[1, 2]",
        '"text"',
        "{}",
        '{"id": "x", "links": 3}',
        '{"id": "x", "links": [{"rel": "child"}]}',
        "\x00",
    ],
)
def test_a_malformed_root_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    root = tmp_path / "catalog.json"
    root.write_text(text)
    with pytest.raises(GeodiffError) as caught:
        _ids(str(root))
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_link_of_a_band_is_an_error_and_of_a_preview_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = stac_feature("x", "2020-01-01T00:00:00Z", assets={"red": "/vsizip/etc/a.zip/b.tif"})
    with pytest.raises(GeodiffError, match="scene x, asset red") as caught:
        _ids(str(write_static(tmp_path / "bad", [bad])))
    assert "\n" not in str(caught.value)
    bad["assets"]["red"]["roles"] = ["thumbnail"]  # its name is enough
    with pytest.raises(GeodiffError, match="scene x, asset red"):
        _ids(str(write_static(tmp_path / "worse", [bad])))
    fine = stac_feature("x", "2020-01-01T00:00:00Z", assets={"red": "./red.tif", "preview": "ftp://x/y.png"})
    fine["assets"]["preview"]["roles"] = ["thumbnail"]
    root = write_static(tmp_path / "fine", [fine])
    (item,) = search(load_source(str(root)), datetime="2020")
    assert {key: asset.href for key, asset in item.assets.items()} == {"red": str(root.parent / "scenes" / "red.tif")}
    assert "preview" in caplog.text


def test_an_item_that_does_not_name_its_collection_is_of_the_one_that_links_to_it(tmp_path: Path) -> None:
    root = write_static(tmp_path / "cat", SERIES)
    for path in root.parent.glob("scenes/a-*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "collection": None}))
    assert _ids(str(root), collections=["scenes"]) == ["a-0113", "far", "a-0118", "a-0202"]


def test_a_remote_document_does_not_claim_a_home_on_this_disk() -> None:
    def told(href: str) -> dict[str, Any]:
        return {"links": [{"rel": "self", "href": href}]}

    remote, local = "https://example.com/items.json", "/data/items.json"
    assert home(told("/etc/items.json"), remote) == remote
    assert home(told("/data/scenes/a.json"), local) == "/data/scenes/a.json"
    assert home(told("https://example.com/a/a.json"), remote) == "https://example.com/a/a.json"
    assert home(told("a.json"), local) == local


def test_a_box_with_heights_is_a_place(tmp_path: Path) -> None:
    item = stac_feature("x", "2020-01-01T00:00:00Z")
    item["geometry"], item["bbox"] = None, [10.0, 45.0, -100.0, 11.0, 46.0, 3000.0]
    root = str(write_static(tmp_path / "high", [item]))
    assert _ids(root, bbox=(10.9, 45.9, 12.0, 47.0)) == ["x"]
    with pytest.raises(NoScenesError):
        _ids(root, bbox=(11.1, 45.1, 12.0, 46.0))


# --- several processings ------------------------------------------------------------------------------------------


HERE = (15.0, 45.9, 16.4, 46.9)


def _processing(name: str, baseline: str, made: str, start: str = "20230815T095630", **more: Any) -> dict[str, Any]:
    return stac_feature(
        name,
        f"2023-08-15T09:57:5{baseline[-1]}.246Z",
        **{"bbox": HERE, **more},
        platform="sentinel-2a",
        s2__processing_baseline=baseline,
        s2__product_uri=f"S2A_MSIL2A_20230815T095031_N{baseline.replace('.', '')}_R079_T33TWM_{made}.SAFE",
        s2__datastrip_id=f"S2A_OPER_MSI_L2A_DS_2APS_{made}_S{start}_N{baseline}",
    )


def _items(features: list[dict[str, Any]]) -> list[pystac.Item]:
    return [pystac.Item.from_dict(copy.deepcopy(feature)) for feature in features]


# The older baseline was processed last: its copy of the scene is still the older one.
OLD = _processing("old", "03.01", "20240101T000000")
NEW = _processing("new", "05.09", "20230815T155057")
NEWER = _processing("newer", "05.09", "20231001T000000")
L1C = stac_feature("S2A_MSIL1C_20230815T095031_N0509_R079_T33TWM_20230815T112233", "2023-08-15T09:50:31Z", HERE)
NEXT_DAY = stac_feature("S2B_MSIL2A_20230816T095031_N0400_R079_T33TWM_20230816T112233", "2023-08-16T09:50:31Z", HERE)
NEIGHBOUR = stac_feature("S2A_MSIL2A_20230815T095031_N0400_R079_T33TXM_20230816T112233", "2023-08-15T09:50:31Z", HERE)


@given(st.permutations([OLD, NEW, NEWER, NEWER, L1C, NEXT_DAY, NEIGHBOUR]))
def test_of_several_processings_the_newest_stays_whatever_the_order(features: list[dict[str, Any]]) -> None:
    kept = [item.id for item in newest_processing(_items(features))]
    assert kept == [L1C["id"], NEIGHBOUR["id"], "newer", NEXT_DAY["id"]]


def test_the_halves_of_an_overpass_that_was_cut_into_two_datastrips_both_stay() -> None:
    south = _processing("south", "05.09", "20230815T155057", "20230815T095630", bbox=(15.0, 45.9, 16.4, 46.4))
    north = _processing("north", "05.09", "20230815T155101", "20230815T095700", bbox=(15.0, 46.35, 16.4, 46.9))
    whole_before = _processing("before", "04.00", "20230815T120000", "20230815T095629")
    assert {item.id for item in newest_processing(_items([south, north, whole_before]))} == {"south", "north"}


@pytest.mark.parametrize(("south_edge", "kept"), [(45.82, ["new", "old"]), (45.88, ["new"])])
def test_an_older_processing_stays_for_a_twentieth_of_new_ground(south_edge: float, kept: list[str]) -> None:
    old = _processing("old", "03.01", "20230815T120000", "20230815T095700", bbox=(15.0, south_edge, 16.4, 46.9))
    assert sorted(item.id for item in newest_processing(_items([old, NEW]))) == kept


def test_scenes_without_a_tile_are_all_kept_but_not_twice() -> None:
    same_moment = [stac_feature(name, "2020-01-01T00:00:00Z") for name in ("a", "b", "a")]
    assert [item.id for item in newest_processing(_items(same_moment))] == ["a", "b"]


@pytest.mark.parametrize(
    ("folder", "count"),
    [("earth_search_v0_santafe_74_items.json", 74), ("planetary_computer/site2-2020_jun_jul-35MNM.geojson", 13)],
)
def test_recorded_series_lose_nothing_and_their_reprocessings_all(geodiff_data: Path, folder: str, count: int) -> None:
    features = json.loads((geodiff_data / "stac" / folder).read_text())["features"]
    items = _items(features)
    assert len(newest_processing(items)) == count
    again = []
    for feature in features:
        other = copy.deepcopy(feature)
        other["id"] += "_again"
        other["properties"]["s2:processing_baseline"] = "05.00"
        again.append(other)
    kept = newest_processing([*items, *_items(again)])
    assert [item.id for item in kept] == [f"{item.id}_again" for item in newest_processing(items)]


def test_recorded_items_of_many_makers_tell_tile_and_baseline(geodiff_data: Path) -> None:
    found = {}
    for path in sorted((geodiff_data / "stac").rglob("*.json")):
        feature = json.loads(path.read_text())
        if feature["type"] == "Feature":
            item = pystac.Item.from_dict(feature)
            found[mgrs_tile(item)] = processing_baseline(item)
    assert found == {
        "12RWT": "05.10",
        "01WCR": "05.09",
        "06VVN": "02.12",
        "07HFE": "02.12",
        "34LBP": "04.00",
        "60CWS": "05.10",
        "33XWJ": "04.00",
    }


def test_recorded_item_collections_are_searched_like_a_catalogue(geodiff_data: Path) -> None:
    source = load_source(str(geodiff_data / "stac" / "earth_search_v0_santafe_74_items.json"))
    items = search(source, bbox=(-106.2, 35.5, -106.1, 35.6), datetime="2020-05", max_cloud=10)
    rows = describe(items, source)
    assert rows
    assert {row.tile for row in rows} <= {"13SCV", "13SDV"}
    assert all(row.cloud_percent is not None and row.cloud_percent <= 10 and row.time.month == 5 for row in rows)
    assert all({"B02", "B03", "B04", "B08"} <= set(row.bands) and row.crs == "EPSG:32613" for row in rows)


# --- keeping what was found ---------------------------------------------------------------------------------------


def test_saved_scenes_come_back_equal(tmp_path: Path, root: str) -> None:
    items = search(load_source(root), datetime="2020")
    save_items(items, tmp_path / "deep" / "items.json")
    again = load_items(tmp_path / "deep" / "items.json")
    assert [item.to_dict() for item in again] == [item.to_dict() for item in items]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["items.json"]


def test_signatures_are_not_saved(tmp_path: Path) -> None:
    href = "https://sentinel2l2a01.blob.core.windows.net/a/B04.tif"
    feature = stac_feature("x", "2020-01-01T00:00:00Z", assets={"B04": f"{href}?st=1&sig=secret"})
    save_items(_items([feature]), tmp_path / "items.json")
    assert load_items(tmp_path / "items.json")[0].assets["B04"].href == href


def test_passwords_are_not_saved_and_queries_that_open_an_asset_are(tmp_path: Path) -> None:
    feature = stac_feature("x", "2020-01-01T00:00:00Z", assets={"B04": "https://me:s3cret@example.com/B04.tif?x=1"})
    save_items(_items([feature]), tmp_path / "items.json")
    assert load_items(tmp_path / "items.json")[0].assets["B04"].href == "https://example.com/B04.tif?x=1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://me:s3cret@example.com:81/c.json?token=TOP#x", "https://example.com:81/c.json"),
        ("https://s3cret@example.com", "https://example.com"),
        ("https://me:s3@cret@example.com/a@2x/c.json", "https://example.com/a@2x/c.json"),
        ("cannot reach http://me:s3cret@h/c.json?a=1&b=2: why?; or", "cannot reach http://h/c.json: why?; or"),
        (
            "'s3://b/a.tif?x=s3cret', and ('/vsicurl/http://m:s3cret@h/?s3cret').",
            "'s3://b/a.tif', and ('/vsicurl/http://h/').",
        ),
        ('{"u":"https://a/b?x=1","m":"why"}', '{"u":"https://a/b","m":"why"}'),
        ("/data/what?/me@home/50% (a?b).tif", "/data/what?/me@home/50% (a?b).tif"),
    ],
)
def test_what_is_public_of_an_address_names_no_user_password_or_token(text: str, told: str) -> None:
    assert public(text) == told
    assert str(GeodiffError(text)) == told


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{}", "not a STAC ItemCollection"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "item 0"),
        ('{"type": "FeatureCollection", "features": []}', "no scenes"),
        ("nonsense", "not JSON"),
    ],
)
def test_a_file_that_holds_no_scenes_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(text)
    with pytest.raises(GeodiffError, match=named) as caught:
        load_items(path)
    assert str(path) in str(caught.value)


def test_a_remote_item_in_a_local_file_is_still_remote(tmp_path: Path) -> None:
    feature = stac_feature("x", "2020-01-01T00:00:00Z", assets={"red": "../../../../../etc/passwd"})
    feature["links"] = [{"rel": "self", "href": "https://example.com/items/x.json"}]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(GeodiffError, match="refused"):
        load_items(path)


def test_an_unwritable_place_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GeodiffError, match="cannot write"):
        save_items(_items(SERIES[:1]), tmp_path / "file" / "items.json")


def test_signing_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(GeodiffError, match=r"pip install 'geodiff\[planetary\]'"):
        catalog.sign_items(_items(SERIES[:1]), load_source("planetary-computer"))


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the package: links that end in ``?sig=1``."""
    import sys
    import types

    def sign(item: pystac.Item) -> pystac.Item:
        signed = item.clone()
        for asset in signed.assets.values():
            asset.href += "?sig=1"
        return signed

    monkeypatch.setitem(sys.modules, "planetary_computer", types.SimpleNamespace(sign=sign))


@pytest.mark.usefixtures("signer")
def test_signing_goes_through_the_package() -> None:
    items = _items(SERIES[:1])
    (signed,) = catalog.sign_items(items, load_source("planetary-computer"))
    assert signed.assets["red"].href.endswith("red.tif?sig=1")
    assert catalog.sign_items(items, load_source("earth-search")) == items


@pytest.mark.usefixtures("signer")
def test_saved_scenes_keep_the_rules_of_their_source(tmp_path: Path) -> None:
    """Found in a catalogue whose links are signed, saved without signatures, found again in the file."""
    planetary = load_source("planetary-computer")
    href = "https://sentinel2l2a01.blob.core.windows.net/a/B04.tif"
    feature = stac_feature("x", "2020-01-01T00:00:00Z", assets={"B04": href})
    path = tmp_path / "copernicus" / "items.json"  # the name of the folder means nothing
    save_items(catalog.sign_items(_items([feature]), planetary), path, source=planetary)
    assert "sig=" not in path.read_text()
    again = load_source(str(path))
    assert (again.name, again.bands, again.offset) == (planetary.name, planetary.bands, planetary.offset)
    assert again.location == str(path)
    (item,) = search(again, datetime="2020")
    assert item.assets["B04"].href == f"{href}?sig=1"
    # Found in the file and saved once more, they still know it; scenes under generic rules state nothing.
    save_items([item], tmp_path / "twice.json", source=again)
    assert load_source(str(tmp_path / "twice.json")).signing == "planetary-computer"
    generic = load_source("https://example.com/catalog.json")
    save_items([item], tmp_path / "copernicus" / "other.json", source=generic)
    assert load_source(str(tmp_path / "copernicus" / "other.json")).signing == "none"
    assert load_source(str(tmp_path / "copernicus" / "other.json")).bands == generic.bands


def test_an_unknown_source_of_saved_scenes_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = load_source("planetary-computer").model_copy(update={"name": "mine"})
    save_items(_items(SERIES[:1]), tmp_path / "items.json", source=mine)
    assert load_source(str(tmp_path / "items.json")).signing == "none"
    assert "'mine', which is not known here" in caplog.text
