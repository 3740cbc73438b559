"""A catalogue of one's own scenes: what is found in folders, what is written, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform
from shapely.geometry import Point, box, shape

from geodiff.imagery.build import build_catalog
from geodiff.imagery.build_names import band_in, date_in
from geodiff.imagery.catalog import search
from geodiff.imagery.radiometry import band_rule
from geodiff.imagery.sources import load_source
from geodiff.schema import GeodiffError, UsageError

FOUR = ("B02", "B03", "B04", "B08")


def from_origin(west: float, north: float, width: float, height: float) -> Affine:
    return Affine(width, 0, west, 0, -height, north)


def _tif(path: Path, numbers: np.ndarray, **profile: Any) -> Path:
    """Write (band, row, column) numbers as a GeoTIFF at 10 m in UTM 31N, unless the profile says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptions = profile.pop("descriptions", None)
    known = {"crs": "EPSG:32631", "transform": from_origin(500000, 4700000, 10, 10)} | profile
    known = {key: value for key, value in known.items() if value is not None}
    count, height, width = numbers.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=numbers.dtype, **known
    ) as target:
        target.write(numbers)
        for index, name in enumerate(descriptions or (), start=1):
            target.set_band_description(index, name)
    return path


def _numbers(bands: int = 4, side: int = 30, *, seed: int = 0, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 5000, (bands, side, side)).astype(dtype)


def _items(root: Path) -> list[pystac.Item]:
    return search(load_source(str(root)), datetime="1980/2080")


def _read(item: pystac.Item, band: str) -> np.ndarray:
    with rasterio.open(item.assets[band].href) as source:
        return np.asarray(source.read(1))


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Boadella_2020-01-13", datetime(2020, 1, 13)),
        ("20200604T054639_20200604T054831_T43RCP", datetime(2020, 6, 4, 5, 46, 39)),
        ("S2A_MSIL2A_20230815T095031_N0509_R079_T33TWM_20230815T155057.SAFE", datetime(2023, 8, 15, 9, 50, 31)),
        ("m_4709963_se_14_1_20090818", datetime(2009, 8, 18)),
        ("scene_2021_07_16_v2", datetime(2021, 7, 16)),
        ("ship_211533370_2022-08-12", datetime(2022, 8, 12)),
        ("2019-09-23T08:00:55Z", datetime(2019, 9, 23, 8, 0, 55)),
        ("20201340", None),
        ("000028085BF08E7E_32631", None),
        ("B02", None),
    ],
)
def test_dates_are_found_in_names(text: str, expected: datetime | None) -> None:
    assert date_in(text) == (expected.replace(tzinfo=UTC) if expected else None)


@given(st.datetimes(datetime(1980, 1, 1), datetime(2080, 1, 1)), st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y_%m_%d"]))
def test_every_written_date_is_read_back(moment: datetime, form: str) -> None:
    found = date_in(f"T31_{moment.strftime(form)}_B02")
    assert found == datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    exact = date_in(moment.strftime("x_%Y%m%dT%H%M%S_y"))
    assert exact == moment.replace(microsecond=0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("B2", "B02"),
        ("B8A", "B8A"),
        ("T33UUU_20160608T153121_B04_10m", "B04"),
        ("S2-L2A-SCL", "SCL"),
        ("S2-L2A-B08", "B08"),
        ("SUB2", None),
        ("cloud_mask", None),
    ],
)
def test_bands_are_found_in_names(name: str, band: str | None) -> None:
    assert band_in(name) == band


# --- what is written ----------------------------------------------------------------------------------------------


def test_multi_band_files_become_one_asset_per_band_with_the_same_numbers(tmp_path: Path) -> None:
    cubes = {day: _numbers(seed=day) for day in (13, 18)}
    for day, numbers in cubes.items():
        _tif(tmp_path / "in" / f"Lake_2020-01-{day}.tif", numbers)
    seen: list[tuple[int, int, str]] = []
    out = tmp_path / "out"
    root = build_catalog(tmp_path / "in", out, bands=FOUR, progress=lambda *step: seen.append(step))
    assert seen == [(1, 2, "Lake_2020-01-13"), (2, 2, "Lake_2020-01-18")]
    items = _items(root)
    assert [item.id for item in items] == ["Lake_2020-01-13", "Lake_2020-01-18"]
    for item, numbers in zip(items, cubes.values(), strict=True):
        assert list(item.assets) == list(FOUR)
        for band, plane in zip(FOUR, numbers, strict=True):
            np.testing.assert_array_equal(_read(item, band), plane)
        with rasterio.open(item.assets["B04"].href) as source:
            assert source.crs.to_epsg() == 32631
            assert source.transform == from_origin(500000, 4700000, 10, 10)
    rule = band_rule(items[0], "B04", load_source(str(root)))
    assert (rule.scale, rule.offset) == (0.0001, 0.0)


def test_the_documents_say_what_readers_need(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers(), nodata=-1)
    root = build_catalog(
        tmp_path / "in", tmp_path / "out", bands=FOUR, scale=0.0002, offset=-0.1, collection_id="my lake"
    )
    path = root.parent / "my-lake" / "Lake_2020-01-13" / "Lake_2020-01-13.json"
    item = json.loads(path.read_text())
    assert item["properties"] == {"datetime": "2020-01-13T00:00:00Z", "proj:code": "EPSG:32631"}
    asset = item["assets"]["B08"]
    assert asset["href"] == "../../assets/my-lake/Lake_2020-01-13/B08.tif"
    assert asset["proj:shape"] == [30, 30]
    assert asset["proj:transform"] == [10.0, 0.0, 500000.0, 0.0, -10.0, 4700000.0]
    assert asset["raster:bands"] == [{"data_type": "int16", "nodata": -1, "scale": 0.0002, "offset": -0.1}]
    assert asset["eo:bands"][0]["common_name"] == "nir"
    # As pystac sees it: links resolve, the tree is whole, ids agree.
    catalog = pystac.Catalog.from_file(str(root))
    (read,) = catalog.get_items(recursive=True)
    assert read.get_collection() is not None
    assert read.collection_id == "my-lake"


def test_the_catalogue_can_be_moved(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers())
    build_catalog(tmp_path / "in", tmp_path / "out", bands=FOUR)
    (tmp_path / "out").rename(tmp_path / "moved")
    (item,) = _items(tmp_path / "moved" / "catalog.json")
    np.testing.assert_array_equal(_read(item, "B02"), _numbers()[0])


def test_files_of_one_band_are_linked_where_they_are(tmp_path: Path) -> None:
    scene = tmp_path / "in" / "20200604T054639_20200604T054831_T43RCP"
    for band, side, pixel in (("B2", 60, 10), ("B11", 30, 20), ("B1", 10, 60)):
        _tif(scene / f"{band}.tif", _numbers(1, side, dtype="uint16"), transform=from_origin(5e5, 47e5, pixel, pixel))
    _tif(scene / "cloud_mask.tif", _numbers(1, 60, dtype="uint8"))
    root = build_catalog(tmp_path / "in", tmp_path / "out")
    (item,) = _items(root)
    assert item.id == scene.name
    assert item.datetime == datetime(2020, 6, 4, 5, 46, 39, tzinfo=UTC)
    assert item.assets["B11"].href == str(scene / "B11.tif")
    assert set(item.assets) == {"B01", "B02", "B11", "cloud_mask"}
    assert not (tmp_path / "out" / "assets").exists()


def test_files_of_several_dates_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    for day in ("20200101", "20200106"):
        for band in ("B02", "B8A"):
            _tif(tmp_path / "in" / f"T31TCG_{day}T105431_{band}_10m.tif", _numbers(1))
    items = _items(build_catalog(tmp_path / "in", tmp_path / "out"))
    assert [item.id for item in items] == ["T31TCG_20200101T105431", "T31TCG_20200106T105431"]
    assert all(set(item.assets) == {"B02", "B8A"} for item in items)


def test_names_in_the_file_are_used_and_names_of_the_user_win(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "2020-01-13.tif", _numbers(2), descriptions=("B4", "B8"))
    assert list(_items(build_catalog(tmp_path / "in", tmp_path / "a"))[0].assets) == ["B04", "B08"]
    assert list(_items(build_catalog(tmp_path / "in", tmp_path / "b", bands=["x", "y"]))[0].assets) == ["x", "y"]


def test_a_date_may_come_from_metadata_or_from_the_user(tmp_path: Path) -> None:
    path = _tif(tmp_path / "in" / "image.tif", _numbers(1))
    build_catalog(tmp_path / "in", tmp_path / "a", date=datetime(2021, 5, 1, tzinfo=UTC))
    assert _items(tmp_path / "a" / "catalog.json")[0].datetime == datetime(2021, 5, 1, tzinfo=UTC)
    with rasterio.open(path, "r+") as target:
        target.update_tags(TIFFTAG_DATETIME="2019:07:01 10:50:00")
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "b"))
    assert item.datetime == datetime(2019, 7, 1, 10, 50, tzinfo=UTC)


def test_a_baseline_in_the_name_of_a_product_and_the_word_of_the_user_decide_the_offset(tmp_path: Path) -> None:
    name = "S2A_MSIL2A_20230815T095031_N0509_R079_T33TWM_20230815T155057.SAFE"
    _tif(tmp_path / "in" / name / "B04.tif", _numbers(1, dtype="uint16"))
    source = load_source(str(build_catalog(tmp_path / "in", tmp_path / "a")))
    assert band_rule(_items(tmp_path / "a" / "catalog.json")[0], "B04", source).offset == -0.1
    build_catalog(tmp_path / "in", tmp_path / "b", boa_offset_applied=True)
    assert band_rule(_items(tmp_path / "b" / "catalog.json")[0], "B04", source).offset == 0.0


def _says(path: Path, *, scale: float = 1.0, offset: float = 0.0) -> None:
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (scale,), (offset,)


def _mean(root: Path) -> list[float]:
    """Mean reflectance of B04 of each date."""
    source, found = load_source(str(root)), []
    for item in _items(root):
        rule, numbers = band_rule(item, "B04", source), _read(item, "B04")
        found.append(float((numbers * rule.scale + rule.offset).mean()))
    return found


def test_a_scale_in_the_file_does_not_turn_the_offset_of_the_baseline_off(tmp_path: Path) -> None:
    """GDAL tells an offset of 0 where nobody stated any."""
    for year, baseline, added in ((2021, "N0300", 0), (2022, "N0400", 1000)):
        name = f"S2A_MSIL2A_{year}0601T104031_{baseline}_R008_T31TCG_{year}0601T120000.SAFE"
        path = _tif(tmp_path / "in" / name / "B04.tif", np.full((1, 20, 20), 2000 + added, np.uint16))
        _says(path, scale=1e-4)
    assert _mean(build_catalog(tmp_path / "in", tmp_path / "out")) == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize(("numbers", "offset"), [(np.float32(0.3), -0.1), (np.uint16(3000), -1000)])
def test_an_offset_without_a_scale_is_one_of_the_numbers(tmp_path: Path, numbers: np.generic, offset: float) -> None:
    path = _tif(tmp_path / "in" / "2021-06-01_B04.tif", np.full((1, 20, 20), numbers))
    _says(path, offset=offset)
    assert _mean(build_catalog(tmp_path / "in", tmp_path / "out")) == pytest.approx([0.2])
    assert _mean(build_catalog(tmp_path / "in", tmp_path / "told", offset=0.05)) == pytest.approx([0.35])
    scale = 1e-4 if offset == -1000 else 1.0
    assert _mean(build_catalog(tmp_path / "in", tmp_path / "both", scale=scale)) == pytest.approx([0.2])


def test_a_product_is_one_scene_with_each_band_at_its_finest(tmp_path: Path) -> None:
    home = tmp_path / "in" / "S2A_MSIL2A_20210601T104031_N0300_R008_T31TCG_20210601T120000.SAFE" / "GRANULE" / "L2A_1"
    stem = "T31TCG_20210601T104031"
    bands = {10: ("B02", "B04"), 20: ("B02", "B04", "B05", "SCL"), 60: ("B04", "B05")}
    for pixel, names in bands.items():
        where, side = from_origin(500000, 4700000, pixel, pixel), 1200 // pixel
        folder = home / "IMG_DATA" / f"R{pixel}m"
        for name in names:
            _tif(folder / f"{stem}_{name}_{pixel}m.tif", np.full((1, side, side), pixel, np.uint16), transform=where)
        for extra, count in (("TCI", 3), ("AOT", 1), ("WVP", 1)):
            _tif(folder / f"{stem}_{extra}_{pixel}m.tif", np.ones((count, side, side), np.uint8), transform=where)
    _tif(home / "QI_DATA" / "MSK_DETFOO_B02.tif", np.ones((1, 120, 120), np.uint8))
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out"))
    reflectance = {name: int(_read(item, name)[0, 0]) for name in item.assets if name != "SCL"}
    assert reflectance == {"B02": 10, "B04": 10, "B05": 20}
    assert "SCL" in item.assets


@pytest.mark.parametrize("folder", ["R10m", "IMG_DATA"])
def test_folders_named_as_in_products_may_hold_other_scenes(tmp_path: Path, folder: str) -> None:
    home = tmp_path / "AUX_DATA" / "in"
    _tif(home / folder / "2020-01-13.tif", _numbers(), descriptions=FOUR)
    assert set(_items(build_catalog(home, tmp_path / "out"))[0].assets) == set(FOUR)


def test_the_footprint_is_the_ground_with_data(tmp_path: Path) -> None:
    numbers = _numbers(1, 40, dtype="uint16")
    numbers[:, :, 20:] = 0
    _tif(tmp_path / "in" / "2020-01-13_B04.tif", numbers, nodata=0)
    _tif(tmp_path / "in" / "2020-01-14_B04.tif", numbers)
    half, whole = (shape(item.geometry) for item in _items(build_catalog(tmp_path / "in", tmp_path / "out")))
    assert half.area / whole.area == pytest.approx(0.5, abs=0.01)
    assert box(*half.bounds).bounds[0] == pytest.approx(whole.bounds[0])


def test_the_footprint_of_a_large_scene_leaves_out_no_pixel_with_data(tmp_path: Path) -> None:
    """Its mask is read at every fourth pixel or so, whose centre misses what lies beside it."""
    numbers = np.zeros((1, 1000, 1000), np.uint16)
    numbers[:, 303:701, 298:702] = 7
    _tif(tmp_path / "in" / "2020-01-13_B04.tif", numbers, nodata=0)
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out"))
    corners = [(500000 + 10 * col, 4700000 - 10 * row) for row in (303, 701) for col in (298, 702)]
    lon, lat = transform("EPSG:32631", "EPSG:4326", *zip(*corners, strict=True))
    outline = shape(item.geometry)
    assert all(outline.buffer(1e-6).contains(Point(place)) for place in zip(lon, lat, strict=True))
    assert outline.area < 1.1 * box(min(lon), min(lat), max(lon), max(lat)).area


def test_overviews_of_classes_are_classes(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).choice(np.array([4, 9], np.uint8), (2, 1100, 1100))
    _tif(tmp_path / "in" / "2020-01-13.tif", classes)
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out", bands=("SCL", "CLM")))
    with rasterio.open(item.assets["SCL"].href, overview_level=0) as source:
        assert source.shape < (1100, 1100)
        assert set(np.unique(source.read(1))) == {4, 9}


# --- NetCDF -------------------------------------------------------------------------------------------------------


def _cube(path: Path, bands: dict[str, np.ndarray], *, pixel: float = 10.0, **changes: Any) -> Path:
    """A CF cube like those of openEO: (t, y, x) per band, integers with scale_factor as an attribute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps, rows, cols = next(iter(bands.values())).shape
    times = np.array(["2019-01-27T10:50:22", "2019-02-06T10:51:00"], "datetime64[ns]")[:steps]
    y = 4700000 - (np.arange(rows) + 0.5) * pixel
    coords = {"t": times, "y": changes.get("y", y), "x": 500000 + (np.arange(cols) + 0.5) * pixel}
    crs = rasterio.crs.CRS.from_epsg(32631).to_wkt()
    data: dict[str, Any] = {"crs": xr.DataArray(0, attrs={"crs_wkt": crs})} if changes.get("crs", True) else {}
    for name, numbers in bands.items():
        attrs = {"scale_factor": 0.0001, "grid_mapping": "crs"} if numbers.dtype.kind in "iu" else {}
        data[name] = xr.DataArray(numbers, dims=("t", "y", "x"), attrs=attrs)
    cube = xr.Dataset(data, coords)
    cube.to_netcdf(path, encoding={name: {"_FillValue": 0} for name in bands if bands[name].dtype == np.uint16})
    return path


def test_a_cube_becomes_one_item_per_date_and_its_integers_stay_integers(tmp_path: Path) -> None:
    fine = {"S2-L2A-B04": _numbers(2, 20, dtype="uint16"), "S2-L2A-B08": _numbers(2, 20, seed=1, dtype="uint16")}
    coarse = {"B11": _numbers(2, 10, seed=2, dtype="uint16"), "SCL": _numbers(2, 10, seed=3, dtype="uint8")}
    _cube(tmp_path / "in" / "site_10m.nc", fine)
    _cube(tmp_path / "in" / "site_20m.nc", coarse, pixel=20.0)
    root = build_catalog(tmp_path / "in", tmp_path / "out")
    items = _items(root)
    assert [item.datetime for item in items] == [
        datetime(2019, 1, 27, 10, 50, 22, tzinfo=UTC),
        datetime(2019, 2, 6, 10, 51, tzinfo=UTC),
    ]
    for step, item in enumerate(items):
        assert set(item.assets) == {"B04", "B08", "B11", "SCL"}
        np.testing.assert_array_equal(_read(item, "B08"), fine["S2-L2A-B08"][step])
        np.testing.assert_array_equal(_read(item, "SCL"), coarse["SCL"][step])
        assert _read(item, "B08").dtype == np.uint16
    rule = band_rule(items[0], "B04", load_source(str(root)))
    assert (rule.scale, rule.offset, rule.nodata) == (0.0001, 0.0, 0)


def test_a_missing_value_stands_for_no_data_where_there_is_no_fill(tmp_path: Path) -> None:
    path = _cube(tmp_path / "a.nc", {"B04": _numbers(1, 20)})
    with xr.open_dataset(path, decode_cf=False) as cube:
        said = cube.load()
    said["B04"].attrs["missing_value"] = np.int16(-999)
    (tmp_path / "in").mkdir()
    said.to_netcdf(tmp_path / "in" / "a.nc")
    root = build_catalog(tmp_path / "in", tmp_path / "out")
    assert band_rule(_items(root)[0], "B04", load_source(str(root))).nodata == -999


def test_rows_that_run_north_are_turned(tmp_path: Path) -> None:
    numbers = _numbers(1, 20, dtype="uint16")
    _cube(tmp_path / "in" / "a.nc", {"B04": numbers}, y=4700000 - (np.arange(20)[::-1] + 0.5) * 10)
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out"))
    np.testing.assert_array_equal(_read(item, "B04"), numbers[0, ::-1])
    with rasterio.open(item.assets["B04"].href) as source:
        assert source.transform == from_origin(500000, 4700000, 10, 10)


@pytest.mark.parametrize(("factor", "scale"), [(1.0, 0.0001), (0.0001, 1.0)])
def test_real_numbers_are_reflectance_or_its_ten_thousandfold(tmp_path: Path, factor: float, scale: float) -> None:
    numbers = (_numbers(2, 20) * factor).astype("float32")
    numbers[:, :5] = np.nan
    _cube(tmp_path / "in" / "a.nc", {"B04": numbers})
    root = build_catalog(tmp_path / "in", tmp_path / "out")
    rule = band_rule(_items(root)[0], "B04", load_source(str(root)))
    assert rule.scale == scale
    assert rule.nodata is not None
    assert np.isnan(rule.nodata)


# --- again --------------------------------------------------------------------------------------------------------


def _stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*.tif"))}


def test_a_rerun_makes_only_what_is_missing_changed_or_cut_short(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for day in (13, 18):
        _tif(source / f"Lake_2020-01-{day}.tif", _numbers(seed=day))
    out = tmp_path / "out"
    build_catalog(source, out, bands=FOUR)
    before, documents = _stamps(out), {path: path.read_text() for path in out.rglob("*.json")}
    build_catalog(source, out, bands=FOUR)
    assert _stamps(out) == before
    assert {path: path.read_text() for path in out.rglob("*.json")} == documents
    assets = sorted(out.rglob("*.tif"))
    assets[0].unlink()
    assets[1].write_bytes(assets[1].read_bytes()[:-200])
    _tif(source / "Lake_2020-01-18.tif", _numbers(seed=99))
    build_catalog(source, out, bands=FOUR)
    after = _stamps(out)
    changed = {path for path in before if after[path] != before[path]}
    assert changed == {str(assets[0]), str(assets[1]), *(path for path in before if "01-18" in path)}
    np.testing.assert_array_equal(_read(_items(out / "catalog.json")[1], "B03"), _numbers(seed=99)[1])
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def test_a_second_collection_joins_the_catalogue_and_the_output_is_not_its_own_input(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "a" / "Lake_2020-01-13.tif", _numbers())
    _tif(tmp_path / "b" / "Hill_2020-01-13.tif", _numbers())
    out = tmp_path / "in" / "out"
    build_catalog(tmp_path / "in", out, bands=FOUR)
    build_catalog(tmp_path / "in", out, bands=FOUR)
    root = build_catalog(tmp_path / "b", out, bands=FOUR)
    assert [(item.collection_id, item.id) for item in _items(root)] == [
        ("b", "Hill_2020-01-13"),
        ("in", "Lake_2020-01-13"),
    ]


# --- what is refused ----------------------------------------------------------------------------------------------


def _refused(tmp_path: Path, named: str, kind: type[GeodiffError] = GeodiffError, **words: Any) -> None:
    with pytest.raises(kind, match=named) as caught:
        build_catalog(tmp_path / "in", tmp_path / "out", **words)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "catalog.json").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_empty_folder_and_no_folder(tmp_path: Path) -> None:
    _refused(tmp_path, "not a folder", UsageError)
    (tmp_path / "in").mkdir()
    _refused(tmp_path, "holds no GeoTIFF")


@pytest.mark.parametrize("keep", [0, 5, 2000])
def test_a_corrupt_or_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers(side=64))
    path.write_bytes(path.read_bytes()[:keep])
    _refused(tmp_path, r"cannot read .*Lake_2020-01-13\.tif.*corrupt or truncated", bands=FOUR)


def test_a_linked_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    path = _tif(tmp_path / "in" / "2020-01-13" / "B02.tif", _numbers(1, 200))
    path.write_bytes(path.read_bytes()[:-5000])
    _refused(tmp_path, r"cannot read .*B02\.tif.*truncated")


def test_a_corrupt_cube_is_named(tmp_path: Path) -> None:
    path = _cube(tmp_path / "in" / "a.nc", {"B04": _numbers(2, 20, dtype="uint16")})
    path.write_bytes(path.read_bytes()[:700])
    _refused(tmp_path, r"a\.nc")


def test_no_crs_is_named_and_can_be_given(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers(), crs=None)
    _refused(tmp_path, r"Lake_2020-01-13\.tif has no CRS: pass --crs", bands=FOUR)
    _refused(tmp_path, "'EPSG:nonsense' is not a CRS", UsageError, bands=FOUR, crs="EPSG:nonsense")
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out", bands=FOUR, crs="EPSG:32631"))
    with rasterio.open(item.assets["B02"].href) as source:
        assert source.crs.to_epsg() == 32631


def test_a_world_file_tells_where_an_image_lies_unless_a_mask_lies_beside_it(tmp_path: Path) -> None:
    with pytest.warns(NotGeoreferencedWarning):
        image = _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers(), crs=None, transform=None)
    image.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n4699995\n")
    Path(f"{image}.MSK").write_bytes(b"<VRTDataset/>")
    _refused(tmp_path, "not georeferenced", bands=FOUR, crs="EPSG:32631")
    Path(f"{image}.MSK").unlink()
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out", bands=FOUR, crs="EPSG:32631"))
    assert item.assets["B02"].extra_fields["proj:transform"][:6] == [10, 0, 500000, 0, -10, 4700000]


def test_a_cube_without_crs_is_named_and_can_be_given(tmp_path: Path) -> None:
    _cube(tmp_path / "in" / "a.nc", {"B04": _numbers(2, 20, dtype="uint16")}, crs=False)
    _refused(tmp_path, r"a\.nc has no CRS: pass --crs")
    assert len(_items(build_catalog(tmp_path / "in", tmp_path / "out", crs="EPSG:32631"))) == 2


def test_no_georeference(tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers(), transform=None)
    _refused(tmp_path, "not georeferenced", bands=FOUR)


def test_no_date(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "Lake.tif", _numbers())
    _refused(tmp_path, r"Lake\.tif: no date", bands=FOUR)


@pytest.mark.parametrize(
    ("bands", "named"),
    [(None, "4 bands without names"), (FOUR[:3], "4 bands, but 3 are named"), (["a", "b", "c", "a"], "named twice")],
)
def test_bands_that_do_not_fit(tmp_path: Path, bands: Any, named: str) -> None:
    _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers())
    _refused(tmp_path, named, UsageError, bands=bands)


def test_files_of_a_scene_that_cover_other_ground(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "2020-01-13" / "B02.tif", _numbers(1, 30))
    _tif(tmp_path / "in" / "2020-01-13" / "B03.tif", _numbers(1, 50))
    _refused(tmp_path, r"B02\.tif and B03\.tif do not cover the same ground")


def test_files_of_a_scene_in_two_crs(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "2020-01-13" / "B02.tif", _numbers(1))
    _tif(tmp_path / "in" / "2020-01-13" / "B03.tif", _numbers(1), crs="EPSG:32632")
    _refused(tmp_path, "do not cover the same ground")


@pytest.mark.parametrize(("first", "second"), [(30, 60), (60, 30)])
def test_a_part_of_a_scene_beside_the_whole_is_the_same_one_twice(tmp_path: Path, first: int, second: int) -> None:
    _tif(tmp_path / "in" / "a_2020-01-13.tif", _numbers(side=first))
    _tif(tmp_path / "in" / "b_2020-01-13.tif", _numbers(side=second))
    _refused(tmp_path, "show the same place at 2020-01-13", bands=FOUR)


def test_documents_are_for_everyone_whom_the_umask_lets_in(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "2020-01-13.tif", _numbers(1))
    before = os.umask(0o027)
    try:
        root = build_catalog(tmp_path / "in", tmp_path / "out", bands=("B02",))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in root.parent.rglob("*.json")} == {0o640}


def test_one_date_and_place_twice(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "a_2020-01-13.tif", _numbers())
    _tif(tmp_path / "in" / "b_20200113.tif", _numbers())
    _refused(tmp_path, "show the same place at 2020-01-13", bands=FOUR)


def test_one_date_at_two_places_is_fine(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "a_2020-01-13.tif", _numbers())
    _tif(tmp_path / "in" / "b_2020-01-13.tif", _numbers(), transform=from_origin(500200, 4700000, 10, 10))
    assert len(_items(build_catalog(tmp_path / "in", tmp_path / "out", bands=FOUR))) == 2


def test_bytes_need_a_scale(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "m_20090818.tif", _numbers(dtype="uint8"))
    _refused(tmp_path, "--scale", UsageError, bands=FOUR)
    build_catalog(tmp_path / "in", tmp_path / "out", bands=FOUR, scale=0.004)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers())
    (tmp_path / "out").write_text("a file")
    with pytest.raises(GeodiffError, match="cannot write"):
        build_catalog(tmp_path / "in", tmp_path / "out", bands=FOUR)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from geodiff.imagery.build import build_catalog
from geodiff.schema import GeodiffError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    build_catalog(Path(sys.argv[1]), Path(sys.argv[2]), bands=["B02", "B03"])
except GeodiffError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    _tif(tmp_path / "in" / "Lake_2020-01-13.tif", _numbers(2, 200))
    words = [sys.executable, "-c", FULL_DISK, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "refused: cannot write" in done.stderr
    assert done.returncode == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


# --- real data ----------------------------------------------------------------------------------------------------


def test_scenes_that_an_item_describes_get_its_georeference(geodiff_data: Path, tmp_path: Path) -> None:
    root = build_catalog(geodiff_data / "sentinel2" / "t33twm_120m", tmp_path / "out")
    items = _items(root)
    assert [item.id[4:18] for item in items] == ["33TWM_20230810", "33TWM_20230815", "33TWM_20230818"]
    source = load_source(str(root))
    for item in items:
        assert {"blue", "green", "red", "nir", "scl"} <= set(item.assets)
        with rasterio.open(item.assets["red"].href) as red:
            assert red.crs.to_epsg() == 32633
            assert red.transform == from_origin(499980, 5200020, 120, 120)
            assert red.shape == (915, 915)
        # The flag of Earth Search survives: the -0.1 that its assets state must not be applied.
        assert band_rule(item, "red", source).offset == 0.0
    assert items[1].properties["eo:cloud_cover"] == pytest.approx(0.207328)


def test_the_real_series_of_boadella(geodiff_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "boadella"
    folder.mkdir()
    for path in sorted((geodiff_data / "sentinel2" / "boadella").glob("*2020-0[12]*.tif")):
        (folder / path.name).symlink_to(path)
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    root = build_catalog(folder, tmp_path / "out", bands=names)
    items = search(load_source(str(root)), bbox=(2.80, 42.34, 2.82, 42.35), datetime="2020-01-13/2020-02-02")
    assert [f"{item.datetime:%m-%d}" for item in items] == ["01-13", "01-18", "01-23", "01-28", "02-02"]
    with rasterio.open(folder / "Boadella_2020-01-28.tif") as source:
        np.testing.assert_array_equal(_read(items[3], "B08"), source.read(8))


@pytest.mark.parametrize(("dtype", "stands"), [("int16", -32768), ("uint16", 65535), ("float32", np.nan)])
def test_what_a_mask_hides_is_no_data(tmp_path: Path, dtype: str, stands: float) -> None:
    numbers = _numbers(dtype=dtype)
    numbers[:, 5:10, 5:10] = 1234
    path = _tif(tmp_path / "in" / "S2_2021-06-01.tif", numbers, descriptions=FOUR)
    shown = np.full(numbers.shape[1:], 255, np.uint8)
    shown[5:10, 5:10] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        target.write_mask(shown)
    (item,) = _items(build_catalog(tmp_path / "in", tmp_path / "out", scale=1e-4))
    read = _read(item, "B03")
    np.testing.assert_array_equal(read[5:10, 5:10], np.full((5, 5), stands, dtype))
    np.testing.assert_array_equal(read[:5], numbers[1, :5])
    assert band_rule(item, "B03", load_source("static")).nodata == pytest.approx(stands, nan_ok=True)


def test_a_mark_of_fragments_in_a_path_is_a_letter(tmp_path: Path) -> None:
    _tif(tmp_path / "p#1" / "in" / "S2_2021-06-01.tif", _numbers(), descriptions=FOUR)
    assert len(_items(build_catalog(tmp_path / "p#1" / "in", tmp_path / "p#1" / "out"))) == 1


def test_another_folder_of_the_same_name_needs_a_name_of_its_own(tmp_path: Path) -> None:
    for parent, day in (("a", "2021-06-01"), ("b", "2020-01-01")):
        _tif(tmp_path / parent / "S2" / f"S2_{day}.tif", _numbers(), descriptions=FOUR)
    out = tmp_path / "out"
    build_catalog(tmp_path / "a" / "S2", out)
    with pytest.raises(UsageError, match=r"scenes of another folder called S2: .* --collection NAME"):
        build_catalog(tmp_path / "b" / "S2", out)
    build_catalog(tmp_path / "b" / "S2", out, collection_id="other")
    root = build_catalog(tmp_path / "a" / "S2", out)  # again, as often as one likes
    assert len(_items(root)) == 2
