"""The catalogue of catalogues: what it says, and how it complains."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest

from geodiff.imagery.sources import load_source, load_sources
from geodiff.schema import BANDS_10M, GeodiffError, UsageError


def _item(*assets: str) -> pystac.Item:
    item = pystac.Item("scene-1", None, None, datetime(2024, 1, 1, tzinfo=UTC), {})
    for key in assets:
        item.add_asset(key, pystac.Asset(f"https://example.com/{key}.tif"))
    return item


def test_every_source_that_ships_has_the_four_10_m_bands_and_a_classification() -> None:
    sources = load_sources()
    assert {"earth-search", "planetary-computer", "copernicus", "static"} <= set(sources)
    for source in sources.values():
        assert all(source.bands[band].resolution_m == 10 for band in BANDS_10M)
        assert source.scl
        assert source.scale == 0.0001
        assert source.nodata == 0
        assert source.offset.value == -0.1


def test_earth_search_knows_of_the_flag_and_planetary_computer_of_the_baseline_only() -> None:
    assert "earthsearch:boa_offset_applied" in load_source("earth-search").offset.applied_properties
    pc = load_source("planetary-computer")
    assert pc.offset.applied_properties == ()
    assert pc.signing == "planetary-computer"


@pytest.mark.parametrize(
    ("source", "assets", "band", "expected"),
    [
        ("earth-search", ("red", "red-jp2", "visual"), "B04", "red"),
        ("planetary-computer", ("B04", "visual"), "B04", "B04"),
        ("copernicus", ("B04_60m", "B04_20m", "B04_10m"), "B04", "B04_10m"),
        ("copernicus", ("B04_60m", "B04_20m"), "B04", "B04_20m"),
        ("static", ("red", "red_20m"), "B04", "red"),
        ("static", ("B4",), "B04", "B4"),
        ("static", ("temperature",), "temperature", "temperature"),
    ],
)
def test_a_band_is_found_under_the_names_of_each_source(
    source: str, assets: tuple[str, ...], band: str, expected: str
) -> None:
    assert load_source(source).find_asset(_item(*assets), band) == expected


def test_a_missing_band_says_which_bands_the_scene_has() -> None:
    with pytest.raises(UsageError, match=r"scene-1 has no band 'B08'; it has: B02, B04"):
        load_sources()["static"].find_asset(_item("blue", "red", "thumbnail"), "B08")


def test_a_url_of_a_known_endpoint_gets_its_rules() -> None:
    assert load_source("https://earth-search.aws.element84.com/v1/").name == "earth-search"
    other = load_source("https://example.com/stac/catalog.json")
    assert other.url == "https://example.com/stac/catalog.json"
    assert other.kind == "auto"
    # A host whose name merely begins like a known one is a stranger.
    assert load_source("https://earth-search.aws.element84.com/v10").name != "earth-search"
    part = load_source("https://earth-search.aws.element84.com/v1/collections/sentinel-2-l2a")
    assert (part.name, part.url) == (
        "earth-search",
        "https://earth-search.aws.element84.com/v1/collections/sentinel-2-l2a",
    )


def test_a_path_may_be_the_file_or_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "catalog.json"
    root.write_text("{}")
    for given in (root, tmp_path, f"file://{root}"):
        source = load_source(str(given))
        assert source.url == str(root.resolve())
        assert source.kind == "static"


@pytest.mark.parametrize("given", ["earthsearch", "", "s3://bucket/catalog.json", "/nowhere/catalog.json"])
def test_an_unknown_catalogue_is_a_usage_error(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_source(given)
    assert "\n" not in str(caught.value)


def test_the_generic_entry_needs_an_address() -> None:
    with pytest.raises(UsageError, match="give the URL or path"):
        _ = load_source("static").location


def test_a_users_file_adds_and_inherits(tmp_path: Path) -> None:
    extra = tmp_path / "mine.yaml"
    extra.write_text("sources:\n  mirror:\n    like: earth-search\n    url: http://127.0.0.1:9/\n")
    mirror = load_source("mirror", extra=extra)
    assert mirror.url == "http://127.0.0.1:9/"
    assert mirror.bands["B02"].assets == ("blue",)
    assert load_source("earth-search", extra=extra).url != mirror.url


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sources:\n  x: {like: static, scale: -1}", "sources.x.scale"),
        ("sources:\n  x: {like: static, scael: 1}", "sources.x.scael"),
        ("sources:\n  x: {like: static, bands: {B02: {assets: [], resolution_m: 10}}}", "sources.x.bands.B02.assets"),
        ("sources:\n  x: {like: static, offset: {from_baseline: 4.0}}", "sources.x.offset.from_baseline"),
        ("sources:\n  x: {like: static, url: 'ftp://a/b'}", "sources.x.url"),
        ("sources:\n  x: {like: nothing}", "sources.x.like"),
        ("sources:\n  x: {}", "sources.x.bands"),
        ("sources:\n  x: 3", "sources.x"),
        ("sources: [1]", "'sources'"),
        ("sources: {", "not YAML"),
        pytest.param("sources: " + "[" * 5_000, "not YAML", id="deep"),
    ],
)
def test_a_broken_file_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    extra = tmp_path / "mine.yaml"
    extra.write_text(textwrap.dedent(text))
    with pytest.raises(GeodiffError) as caught:
        load_sources(extra)
    assert named in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match=r"none\.yaml"):
        load_sources(tmp_path / "none.yaml")
