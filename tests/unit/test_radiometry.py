"""Scale, offset and nodata: the offset of baseline 04.00 exactly once on every source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

from geodiff.imagery.acquisition import describe
from geodiff.imagery.radiometry import BandRule, band_rule
from geodiff.imagery.sources import load_sources
from geodiff.schema import GeodiffError

SOURCES = load_sources()


def scene(properties: dict[str, Any], fields: dict[str, Any], *, name: str = "scene") -> pystac.Item:
    item = pystac.Item(name, None, None, datetime(2022, 6, 1, tzinfo=UTC), properties)
    item.add_asset("B02", pystac.Asset("B02.tif", extra_fields=fields))
    return item


FLAG, BASELINE = "earthsearch:boa_offset_applied", "s2:processing_baseline"


@pytest.mark.parametrize(
    ("source", "properties", "fields", "offset"),
    [
        # Earth Search v1: pixels already lowered, although raster:bands still says -0.1.
        ("earth-search", {FLAG: True, BASELINE: "05.09"}, {"raster:bands": [{"offset": -0.1}]}, 0.0),
        ("earth-search", {FLAG: False, BASELINE: "05.09"}, {"raster:bands": [{"offset": -0.1}]}, -0.1),
        ("earth-search", {FLAG: False, BASELINE: "05.09"}, {"raster:bands": [{"offset": 0}]}, -0.1),
        ("earth-search", {FLAG: False, BASELINE: "02.14"}, {"raster:bands": [{"offset": 0}]}, 0.0),
        ("earth-search", {BASELINE: "05.00"}, {"raster:bands": [{"offset": -0.1}]}, -0.1),
        # Planetary Computer states nothing but the baseline.
        ("planetary-computer", {BASELINE: "04.00"}, {}, -0.1),
        ("planetary-computer", {BASELINE: "03.01"}, {}, 0.0),
        ("planetary-computer", {BASELINE: "02.12"}, {"raster:bands": [{"nodata": 0}]}, 0.0),
        # Copernicus: the baseline goes by another name.
        ("copernicus", {"processing:version": "05.11"}, {}, -0.1),
        ("copernicus", {"processing:version": "05.11"}, {"bands": [{"raster:offset": -0.1}]}, -0.1),
        ("copernicus", {"processing:version": "02.14"}, {"raster:offset": 0}, 0.0),
        ("copernicus", {"processing:version": "05.11"}, {"raster:offset": 0}, 0.0),
        # Nobody knows the baseline, but somebody says that the offset is still in.
        ("static", {"geodiff:boa_offset_applied": False}, {}, -0.1),
        ("static", {"geodiff:boa_offset_applied": False}, {"raster:bands": [{"offset": 0}]}, -0.1),
        ("static", {"geodiff:boa_offset_applied": False}, {"raster:bands": [{"offset": -0.2}]}, -0.2),
        ("static", {"geodiff:boa_offset_applied": False, BASELINE: "03.01"}, {}, 0.0),
        ("static", {"geodiff:boa_offset_applied": True}, {}, 0.0),
        # Any other catalogue: what the asset says; nothing said and nothing known is nothing applied.
        ("static", {}, {}, 0.0),
        ("static", {}, {"raster:bands": [{"offset": -0.1}]}, -0.1),
        ("static", {BASELINE: "02.09"}, {"raster:bands": [{"offset": -0.1}]}, 0.0),
    ],
)
def test_offset_is_applied_exactly_once(
    source: str, properties: dict[str, Any], fields: dict[str, Any], offset: float
) -> None:
    assert band_rule(scene(properties, fields), "B02", SOURCES[source]).offset == offset


@pytest.mark.parametrize("source", ["earth-search", "planetary-computer", "copernicus", "static"])
@pytest.mark.parametrize(
    ("properties", "name", "baseline"),
    [
        ({BASELINE: "N05.09"}, "scene", "05.09"),
        ({BASELINE: "5.9"}, "scene", "05.09"),
        ({"sentinel2:processing_baseline": "04.00"}, "scene", "04.00"),
        ({"sentinel:processing_baseline": "02.14"}, "scene", "02.14"),
        ({"processing:version": "05.11"}, "scene", "05.11"),
        ({"sentinel:product_id": "S2A_MSIL2A_20200101T105441_N0213_R051_T31TCJ_20200101T122232"}, "scene", "02.13"),
        ({BASELINE: "unknown"}, "S2A_MSIL2A_20230101T105441_N05.09_R051_T31TCJ_20230101T122232", "05.09"),
        ({}, "S2A_31TCJ_20230101_0_L2A", None),
    ],
)
def test_the_table_shows_the_baseline_that_the_offset_follows(
    source: str, properties: dict[str, Any], name: str, baseline: str | None
) -> None:
    item = scene(properties, {}, name=name)
    (row,) = describe([item], SOURCES[source])
    assert row.baseline == baseline
    assert band_rule(item, "B02", SOURCES[source]).offset == (-0.1 if (baseline or "") >= "04.00" else 0)


@pytest.mark.parametrize(("day", "offset"), [(24, 0.0), (25, -0.1)])
def test_before_the_day_of_its_baseline_there_is_no_offset_to_subtract(day: int, offset: float) -> None:
    item = scene({"geodiff:boa_offset_applied": False}, {})
    item.datetime = datetime(2022, 1, day, 10, 50, tzinfo=UTC)
    assert band_rule(item, "B02", SOURCES["static"]).offset == offset


def test_baseline_is_read_from_the_product_name_when_no_property_tells() -> None:
    name = "S2A_MSIL2A_20230815T095031_N0509_R079_T33TWM_20230815T155057"
    assert band_rule(scene({}, {}, name=name), "B02", SOURCES["static"]).offset == -0.1
    assert band_rule(scene({}, {}, name=name.replace("N0509", "N0214")), "B02", SOURCES["static"]).offset == 0


def test_what_the_asset_states_wins_over_the_defaults_of_the_source() -> None:
    stated = {"raster:bands": [{"scale": 0.001, "nodata": -1}]}
    assert band_rule(scene({}, stated), "B02", SOURCES["static"]) == BandRule(0.001, 0.0, -1.0)
    assert band_rule(scene({}, {}), "B02", SOURCES["static"]) == BandRule(0.0001, 0.0, 0.0)
    assert np.isnan(band_rule(scene({}, {"nodata": "nan"}), "B02", SOURCES["static"]).nodata or 0)
    other = SOURCES["static"].model_copy(update={"nodata": 7.0})
    assert band_rule(scene({}, {"nodata": 0}), "B02", other).nodata == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"raster:scale": 0},
        {"raster:scale": "wide"},
        {"raster:offset": "nan"},
        {"raster:scale": 5e-324, "raster:offset": 1},
    ],
)
def test_senseless_statements_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(GeodiffError, match="scene scene, asset B02"):
        band_rule(scene({}, fields), "B02", SOURCES["static"])


def test_equal_ground_gives_equal_bits_before_and_after_the_change_of_baseline() -> None:
    numbers = np.arange(1, 20_000, dtype=np.uint16)
    old = BandRule(0.0001, 0.0, 0).apply(numbers)
    new = BandRule(0.0001, -0.1, 0).apply(numbers + 1000)
    assert old.dtype == np.float32
    np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(old, (numbers / 10_000).astype(np.float32))


@pytest.mark.parametrize("scale", [0.0001, 0.0003, 0.004, 1.0])
def test_any_scale_is_exact_to_single_precision(scale: float) -> None:
    numbers = np.arange(1, 20_000, dtype=np.uint16)
    np.testing.assert_allclose(BandRule(scale, -0.05, 0).apply(numbers), numbers * scale - 0.05, rtol=3e-7, atol=1e-7)


def test_nodata_becomes_nan_and_nothing_else_does() -> None:
    np.testing.assert_array_equal(np.isnan(BandRule(1e-4, 0, 0).apply(np.array([0, 1, 2], np.uint16))), [1, 0, 0])
    np.testing.assert_array_equal(np.isnan(BandRule(1e-4, 0, -1).apply(np.array([0, -1, 2], np.int16))), [0, 1, 0])
    np.testing.assert_array_equal(np.isnan(BandRule(1e-4, 0, np.nan).apply(np.array([0, np.nan], np.float32))), [0, 1])


def recorded(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text())
        for feature in document.get("features", [document]):
            if feature.get("type") == "Feature":
                yield path.parent.name, feature


def test_recorded_items_of_real_catalogues(geodiff_data: Path) -> None:
    seen = set()
    for folder, feature in recorded(geodiff_data / "stac"):
        item = pystac.Item.from_dict(feature)
        name = {"earth_search_v1": "earth-search", "planetary_computer": "planetary-computer"}.get(folder, "static")
        rule = band_rule(item, SOURCES[name].find_asset(item, "B02"), SOURCES[name])
        properties = item.properties
        baseline = str(properties.get(BASELINE) or properties.get("sentinel2:processing_baseline") or "00.00")
        expected = -0.1 if baseline >= "04.00" and not properties.get(FLAG) else 0.0
        if baseline != "00.00":
            assert rule.offset == expected, item.id
        assert (rule.scale, rule.nodata) == (0.0001, 0.0), item.id
        seen.add((name, rule.offset))
    assert ("earth-search", 0.0) in seen
    assert ("static", -0.1) in seen
