"""Layouts: every one that ships is valid and distinct, and a column map that is wrong says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodiff.config import catalogs_dir
from geodiff.schema import GeodiffError, UsageError
from geodiff.vessels.codes import HASHED_FROM, SHIP_TYPE_WORDS, STATUS_WORDS, UNKNOWN, codes_of, identity_of
from geodiff.vessels.layouts import Layout, read_layout, shipped_layouts
from geodiff.vessels.layouts_match import choose_layout, required

FILES = sorted((catalogs_dir() / "ais").glob("*.yaml"))
MAP = "columns:\n  vessel_id: ID\n  time: T\n  lon_deg: X\n  lat_deg: Y\n"
NOAA = ("MMSI", "BaseDateTime", "LAT", "LON", "SOG", "COG")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_layout_that_ships_is_valid_and_goes_by_its_file(path: Path) -> None:
    layout = read_layout(path)
    assert layout.name == path.stem
    assert layout.title
    assert shipped_layouts()[path.stem] == layout


@pytest.mark.parametrize("layout", shipped_layouts().values(), ids=lambda layout: layout.name)
def test_a_table_with_all_its_columns_is_recognised(layout: Layout) -> None:
    columns = [column.column[0] for column in layout.columns.given().values()]
    columns += [name for column in required(layout).values() for name in getattr(column, "join", ())]
    columns += [value for value in (layout.columns.time.plus_s, layout.columns.time.plus_ms) if value]
    columns += list(layout.recognise)
    assert choose_layout(columns, shipped_layouts().values(), where="x").name == layout.name


def test_a_table_without_identity_is_read_where_none_is_needed() -> None:
    known = shipped_layouts().values()
    with pytest.raises(GeodiffError, match="no known layout"):
        choose_layout(["time", "lon_deg", "lat_deg"], known, where="x")
    assert choose_layout(["time", "lon_deg", "lat_deg"], known, where="x", anonymous=True).name == "geodiff"
    # What fits as it stands comes first: these are plots about a radar that tell where it stands.
    plots = ["timestamp", "lat", "lon", "range_m", "bearing_deg"]
    assert choose_layout(plots, known, where="x", anonymous=True).name == "radar_polar"


def test_the_formats_of_the_field_ship() -> None:
    wanted = {"noaa", "noaa_2024", "dma", "exactearth", "marinetraffic", "norway", "omtad", "baltic", "hampton"}
    assert wanted <= set(shipped_layouts())


def test_names_are_found_without_case_and_quotes() -> None:
    columns = ["\ufeffmmsi", '"BaseDateTime"', "lat", "lon"]
    assert choose_layout(columns, shipped_layouts().values(), where="x").name == "noaa"


def test_an_unknown_schema_names_columns_nearest_and_a_map() -> None:
    columns = ["mmsi", "timestamp", "latitude", "longitude", "speed"]
    with pytest.raises(GeodiffError) as caught:
        choose_layout(columns, shipped_layouts().values(), where="a.csv")
    text = str(caught.value)
    assert "mmsi, timestamp, latitude, longitude, speed" in text
    assert "nearest is" in text
    assert "vessel_id: mmsi, time: timestamp, lon_deg: longitude, lat_deg: latitude, sog_kn: speed" in text
    assert "\n" not in text


def test_a_first_row_of_values_is_no_header() -> None:
    with pytest.raises(GeodiffError, match="needs a header"):
        choose_layout(["219000001", "2020-01-01", "55.1", "10.2"], shipped_layouts().values(), where="a.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MAP + "  speed: S\n", "unknown key 'columns.speed'"),
        (MAP + "colour: red\n", "unknown key 'colour'"),
        (MAP.replace("  lat_deg: Y\n", ""), "columns must map lon_deg and lat_deg"),
        (MAP.replace("  time: T\n", ""), "columns.time"),
        (MAP.replace("time: T", "time: {column: T, timezone: Mars}"), "no time zone 'Mars'"),
        (MAP.replace("lon_deg: X", "lon_deg: {column: X, scale: 0}"), "columns.lon_deg.scale"),
        (MAP + "kind: sonar\n", "kind"),
        ("- a\n- b\n", "key: value"),
        (": : :\n", "not YAML"),
    ],
)
def test_a_wrong_column_map_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_layout(path)
    assert message in str(caught.value)
    assert "map.yaml" in str(caught.value)


def test_an_unknown_layout_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"neither a file nor one of baltic, .*noaa"):
        read_layout("nooa")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Cargo", 70),
        ("Oil/Chemical Tanker", 80),
        ("Ro-Ro/Passenger Ship", 60),
        ("Fishing", 30),
        ("Tug/Supply Vessel", 52),
        ("Towing long/wide", 32),
        ("LAW_ENFORCEMENT", 55),
        ("Sailing Vessel", 36),
        ("HSC", 40),
        ("SAR", 51),
        ("Undefined", None),
        ("Inland, Unknown", None),
        ("Zeppelin", UNKNOWN),
        ("coaster", 71),
    ],
)
def test_ship_types_in_words(text: str, code: int | None) -> None:
    assert codes_of([text], SHIP_TYPE_WORDS, {"Coaster": 71}) == {text: code}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Under way using engine", 0),
        ("At anchor", 1),
        ("Restricted maneuverability", 3),
        ("Moored", 5),
        ("Engaged in fishing", 7),
        ("Under way sailing", 8),
        ("Unknown value", None),
        ("Asleep", UNKNOWN),
    ],
)
def test_statuses_in_words(text: str, code: int | None) -> None:
    assert codes_of([text], STATUS_WORDS, {}) == {text: code}


def test_identities_of_texts_are_the_same_everywhere() -> None:
    assert identity_of("2111929706") == 2111929706
    assert identity_of("0123") >= HASHED_FROM  # a number would lose the zero
    assert identity_of("1.2238e+10") == 7884230867773390927
    assert all(0 < identity_of(text) < 2**63 for text in ("a", "é", "x" * 1000, "9" * 40))
