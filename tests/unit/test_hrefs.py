"""Links from strangers: what is let through, and where it leads."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.imagery.hrefs import REMOTE, check_href
from geodiff.schema import GeodiffError

WEB = "https://example.com/stac/v1/items/a.json"
S3 = "s3://bucket/stac/items/a.json"


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("https://cdn.example.org/B02.tif?sig=a%2Fb&x=1", WEB, "https://cdn.example.org/B02.tif?sig=a%2Fb&x=1"),
        ("s3://sentinel/tiles/33/B02.jp2", WEB, "s3://sentinel/tiles/33/B02.jp2"),
        ("https://example.com/vsite/B02.tif", WEB, "https://example.com/vsite/B02.tif"),
        ("gs://bucket/B02.tif", WEB, "gs://bucket/B02.tif"),
        ("./B02.tif", WEB, "https://example.com/stac/v1/items/B02.tif"),
        ("../assets/B02.tif", WEB, "https://example.com/stac/v1/assets/B02.tif"),
        ("/data/B02.tif", WEB, "https://example.com/data/B02.tif"),
        ("../B02.tif", S3, "s3://bucket/stac/B02.tif"),
        ("https://cdn.example.org/B02.tif", "/data/catalog.json", "https://cdn.example.org/B02.tif"),
        ("./B02.tif", "/data/items/a.json", "/data/items/B02.tif"),
        ("../B02.tif", "/data/items/a.json", "/data/B02.tif"),
        ("/elsewhere/B02.tif", "/data/items/a.json", "/elsewhere/B02.tif"),
        ("file:///elsewhere/with%20space.tif", "/data/a.json", "/elsewhere/with space.tif"),
        ("B02.tif", "file:///data/a.json", "/data/B02.tif"),
    ],
)
def test_what_may_be_opened_becomes_absolute(href: str, base: str, expected: str) -> None:
    assert check_href(href, catalog_href=base) == expected


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "../../../../etc/passwd",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "%252e%252e/../../../../etc/passwd",
        "/../etc/passwd",
        "https://example.com/../../etc/passwd",
        "/vsicurl/https://example.com/a.tif",
        "/vsizip//etc/a.zip/x.tif",
        "https://example.com/x/%2Fvsizip/a.tif",
        "/vsis3_streaming/bucket/a.tif",
        "/vsicurl?url=http://x/a.tif",
        "vrt:///etc/passwd?bands=1",
        "NETCDF:/etc/passwd:x",
        "GTIFF_DIR:1:/etc/passwd",
        "ftp://example.com/a.tif",
        "https://example.com/mosaic.vrt",
        "https:///etc/passwd",
        "data:image/tiff;base64,AAAA",
        "a\nb.tif",
        "a%00b.tif",
        "",
        "  ",
    ],
)
@pytest.mark.parametrize("base", [WEB, S3, "http://127.0.0.1:8000/"])
def test_a_remote_catalogue_does_not_reach_the_disk(href: str, base: str) -> None:
    with pytest.raises(GeodiffError) as caught:
        check_href(href, catalog_href=base)
    assert base in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("href", ["/vsizip/a.zip/b.tif", "file://other-host/a.tif", "ftp://x/a.tif", "", "a\0b"])
def test_a_local_catalogue_has_limits_too(href: str) -> None:
    with pytest.raises(GeodiffError):
        check_href(href, catalog_href="/data/catalog.json")


SEGMENT = st.sampled_from(["..", ".", "a", "etc", "b c", "%2e%2e", "", "%2F..", "C:", "file:", "\\..", "?", "#", "x"])


@given(st.lists(SEGMENT, max_size=8).map("/".join), st.sampled_from([WEB, S3, "http://h/"]), st.booleans())
def test_whatever_is_let_through_stays_remote_and_clean(href: str, base: str, absolute: bool) -> None:
    link = f"https://other.org/{href}" if absolute else href
    try:
        result = check_href(link, catalog_href=base)
    except GeodiffError:
        return
    parts = urlsplit(result)
    assert parts.scheme in REMOTE
    assert parts.netloc
    assert ".." not in parts.path.split("/")


@given(st.text(alphabet="abc.-_ ", min_size=1, max_size=12).filter(lambda name: name.strip(". ") != ""))
def test_plain_names_survive_quoting(name: str) -> None:
    assert check_href(f"https://h/{quote(name)}", catalog_href=WEB) == f"https://h/{quote(name)}"
    assert check_href(name, catalog_href="/data/a.json") == str(Path("/data").resolve() / name)
