"""Synthetic scenes on disk: what is read back, through the rules for real catalogues, is what was written."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from geodiff.grid import Grid
from geodiff.imagery.radiometry import band_rule
from geodiff.imagery.sources import load_source
from geodiff.schema import BANDS_10M, BANDS_20M, GeodiffError, UsageError
from geodiff.testing.coded import PERIOD, CodedScene, coded_numbers, decode, write_coded_scenes
from geodiff.testing.landscape import landscape
from geodiff.testing.materials import WORLD_BANDS
from geodiff.testing.scenes import Offset, SceneData, encode, write_catalog, write_scenes
from geodiff.testing.series import Effects, simulate_series
from geodiff.testing.strategies import grids

DAYS = (18_960.0, 19_010.0, 19_030.0, 19_050.0, 19_090.0)
GRID = Grid("EPSG:32631", (10.0, 10.0), (480_000.0, 4_690_000.0), (33, 40))


@pytest.fixture(scope="module")
def series():
    ground = landscape((132, 160), seed=2)
    return simulate_series(ground, days=DAYS, seed=2, effects=Effects(clouds=2.0, cut_dates=0.5))


@pytest.fixture(scope="module")
def catalogue(series, tmp_path_factory):
    return write_scenes(series, GRID, tmp_path_factory.mktemp("synthetic"))


def items_of(path):
    found = pystac.Catalog.from_file(str(path)).get_items(recursive=True)
    return sorted(found, key=lambda item: item.datetime)


def read(item, key):
    with rasterio.open(item.assets[key].get_absolute_href()) as source:
        return source.read(1), source.profile


def test_reflectance_reads_back_through_the_rules_of_a_real_catalogue(series, catalogue):
    """Baseline, flag and stated offset differ from item to item; the ground does not."""
    source = load_source(str(catalogue))
    kinds = set()
    for item, image in zip(items_of(catalogue), series.reflectance, strict=True):
        for band, expected in zip(BANDS_10M, image, strict=True):
            numbers, profile = read(item, source.find_asset(item, band))
            rule = band_rule(item, band, source)
            kinds.add((rule.offset, item.properties["s2:processing_baseline"]))
            assert profile["dtype"] == "uint16"
            found = rule.apply(numbers)
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            np.testing.assert_allclose(found, expected, atol=1.01e-4)
    assert kinds == {(0.0, "03.01"), (-0.1, "04.00"), (0.0, "04.00")}


def test_files_lie_where_the_grid_says_and_are_cloud_optimised(series, catalogue):
    for item in items_of(catalogue):
        for key in (*BANDS_10M, "SCL"):
            _, profile = read(item, key)
            coarse = 2 if key == "SCL" else 1
            assert profile["crs"] == GRID.crs
            assert profile["transform"].a == 10.0 * coarse
            assert (profile["transform"].c, profile["transform"].f) == GRID.origin
            assert (profile["height"], profile["width"]) == tuple(-(-n // coarse) for n in GRID.shape)
            assert profile["nodata"] == 0
            assert item.assets[key].extra_fields["proj:transform"] == list(profile["transform"])[:6]
        valid, errors, _ = cog_validate(item.assets["B02"].get_absolute_href(), quiet=True)
        assert valid, errors


def test_the_catalogue_describes_its_items(series, catalogue):
    items = items_of(catalogue)
    assert [item.datetime.date().isoformat() for item in items] == [
        "2021-11-29", "2022-01-18", "2022-02-07", "2022-02-27", "2022-04-08",
    ]  # fmt: skip
    west, south, east, north = GRID.bounds_wgs84
    for item, scl in zip(items, series.scl, strict=True):
        assert item.bbox == pytest.approx([west, south, east, north], abs=1e-4)
        assert item.properties["eo:cloud_cover"] == pytest.approx(
            100 * np.isin(scl, (8, 9)).sum() / (scl != 0).sum(), abs=0.01
        )
        np.testing.assert_array_equal(read(item, "SCL")[0], scl)
        assert not item.assets["B02"].href.startswith("/")
    collection = next(pystac.Catalog.from_file(str(catalogue)).get_children())
    assert collection.id == "sentinel-2-l2a"
    assert collection.extent.temporal.intervals[0] == [items[0].datetime, items[-1].datetime]


def test_offsets_may_be_chosen(series, tmp_path):
    path = write_scenes(series, GRID, tmp_path / "new", offsets=[Offset.CARRIED] * len(DAYS))
    assert {item.properties["s2:processing_baseline"] for item in items_of(path)} == {"04.00"}


def test_bands_of_20_m_are_written_at_20_m(tmp_path):
    """Sizes are odd: the last pixel of 20 m reaches beyond the scene. What is read back is what was delivered."""
    ground = landscape((132, 164), seed=2, bands=WORLD_BANDS)
    series = simulate_series(ground, days=DAYS[:2], seed=2, bands=WORLD_BANDS, effects=Effects(cut_dates=1.0))
    grid = Grid("EPSG:32631", (10.0, 10.0), (480_000.0, 4_690_000.0), (33, 41))
    path = write_scenes(series, grid, tmp_path / "ten")
    source = load_source(str(path))
    for item, image in zip(items_of(path), series.reflectance, strict=True):
        for band, expected in zip(WORLD_BANDS, image, strict=True):
            step = 2 if band in BANDS_20M else 1
            key = source.find_asset(item, band)
            numbers, profile = read(item, key)
            assert numbers.shape == ((17, 21) if step == 2 else (33, 41))
            assert profile["transform"].a == 10 * step
            assert (profile["transform"].c, profile["transform"].f) == grid.origin
            fields = item.assets[key].extra_fields
            assert fields["proj:transform"] == list(profile["transform"])[:6]
            assert fields["proj:shape"] == list(numbers.shape)
            assert fields["raster:bands"][0]["spatial_resolution"] == 10 * step
            found = band_rule(item, key, source).apply(numbers)
            np.testing.assert_allclose(found, expected[::step, ::step], atol=1.01e-4)
    assert items_of(path)[0].assets["B11"].extra_fields["eo:bands"][0]["common_name"] == "swir16"


@pytest.mark.parametrize("origin", [(480_010.0, 4_690_000.0), (480_000.0, 4_690_010.0)])
def test_no_tile_begins_within_a_pixel_of_20_m(tmp_path, origin):
    ground = landscape((32, 32), bands=("B04", "B12"))
    series = simulate_series(ground, days=DAYS[:1], bands=("B04", "B12"))
    with pytest.raises(GeodiffError, match="B12 it must begin at multiples of 20 m"):
        write_scenes(series, Grid("EPSG:32631", (10.0, 10.0), origin, (8, 8)), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_an_image_of_another_size_is_refused(tmp_path):
    numbers = {"B02": np.ones((8, 8), np.uint16), "B11": np.ones((5, 4), np.uint16)}
    grid = Grid("EPSG:32631", (10.0, 10.0), (480_000.0, 4_690_000.0), (8, 8))
    with pytest.raises(GeodiffError, match="fits neither"):
        write_catalog([SceneData("s", datetime(2021, 6, 1, tzinfo=UTC), grid, numbers, None)], tmp_path / "odd")


@given(st.floats(-0.2, 8), st.booleans())
def test_a_valid_pixel_is_never_written_as_nodata(value, carried):
    image = np.array([[value, np.nan]], np.float32)
    numbers = encode(image, carried=carried)
    assert numbers[0, 0] > 0
    assert numbers[0, 1] == 0


def test_a_catalogue_is_not_overwritten_and_a_wrong_grid_not_written(series, catalogue, tmp_path):
    with pytest.raises(GeodiffError, match="holds a catalogue"):
        write_scenes(series, GRID, catalogue.parent)
    with pytest.raises(GeodiffError, match="pixels"):
        write_scenes(series, GRID.zoom(2), tmp_path / "no")
    assert not (tmp_path / "no").exists()


# Scenes that say who they are


@given(grids(max_side=50), st.integers(0, 5), st.integers(0, 3))
def test_a_coded_pixel_says_scene_band_and_place(grid, scene, band):
    found = decode(coded_numbers(scene, band, grid).astype(np.float32) * np.float32(1e-4))
    row, col = grid.lattice_origin
    assert (found.scene == scene).all()
    assert (found.band == band).all()
    np.testing.assert_array_equal(found.row[:, 0], (row + np.arange(grid.shape[0])) % PERIOD)
    np.testing.assert_array_equal(found.col[0], (col + np.arange(grid.shape[1])) % PERIOD)


def test_no_data_is_decoded_as_nobody():
    found = decode(np.array([np.nan, 1e-4], np.float32))
    assert found.scene.tolist() == [-1, 0]
    assert found.row.tolist() == [-1, 0]


@pytest.mark.parametrize(("scene", "band"), [(6, 0), (0, 4), (-1, 0)])
def test_more_than_the_code_can_tell_is_refused(scene, band):
    with pytest.raises(UsageError, match="apart"):
        coded_numbers(scene, band, GRID)


def test_coded_scenes_of_two_zones_read_back(tmp_path):
    """Every offset convention decodes to the same code: an offset applied twice or never names another scene."""
    when = datetime(2022, 3, 1, 10, 50, tzinfo=UTC)
    other = Grid("EPSG:32630", (10.0, 10.0), (780_000.0, 4_690_000.0), (20, 30))
    scenes = [
        CodedScene(when, GRID),
        CodedScene(when, other, Offset.CARRIED, np.full((10, 15), 4, np.uint8)),
        CodedScene(when.replace(month=4), GRID, Offset.REMOVED),
    ]
    path = write_coded_scenes(tmp_path, scenes)
    source = load_source(str(path))
    items = sorted(pystac.Catalog.from_file(str(path)).get_items(recursive=True), key=lambda i: i.id.split("_")[3])
    assert [source.find_scl(item) for item in items] == [None, "SCL", None]
    for index, item in enumerate(items):
        for number, band in enumerate(BANDS_10M):
            found = decode(band_rule(item, band, source).apply(read(item, band)[0]))
            assert (found.scene == index).all()
            assert (found.band == number).all()
