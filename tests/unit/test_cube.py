"""From items to a cube: exact values, one offset, one step per day, nothing lost in silence."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pystac
import pytest
import rasterio
import rasterio.shutil
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from geodiff.config import MaskConfig
from geodiff.grid import Grid
from geodiff.imagery.build_layers import open_raster
from geodiff.imagery.cube import choose_grid, grid_of, load_cube, require_usable
from geodiff.imagery.lattice import reaches
from geodiff.imagery.ranking import rank_dates, sample_pieces
from geodiff.imagery.sources import load_sources
from geodiff.schema import GeodiffError, UsageError
from geodiff.testing.scenes_on_disk import write_scene

SOURCE = load_sources()["static"]
GRID = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_700_000.0), (96, 80))
OPEN = MaskConfig(dilation_m=0, spectral_screen=False)
BANDS = ("B02", "B04")


def numbers(seed: int = 0, shape: tuple[int, int] = GRID.shape, low: int = 200, high: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint16)


def scene(folder: Path, name: str = "a", when: str = "2021-06-01T10:50:00", **options: Any) -> pystac.Item:
    arrays = options.pop("arrays", None) or {band: numbers(i) for i, band in enumerate(BANDS)}
    return write_scene(folder, name, arrays, options.pop("grid", GRID), when, **options)


def cube_of(*items: pystac.Item, **options: Any) -> Any:
    settings: dict[str, Any] = {"source": SOURCE, "bands": BANDS, "grid": GRID, "mask": OPEN, "chunk": 64}
    return load_cube(items, **(settings | options))


def test_values_coordinates_and_laziness(tmp_path: Path) -> None:
    cube = cube_of(scene(tmp_path, "b", "2021-06-06T10:50:00"), scene(tmp_path, "a"))
    assert dask.is_dask_collection(cube.data)
    assert dask.is_dask_collection(cube.valid.data)
    assert cube.dims == ("time", "band", "y", "x")
    assert cube.dtype == np.float32
    assert [str(t)[:19] for t in cube.time.values] == ["2021-06-01T10:50:00", "2021-06-06T10:50:00"]
    assert list(cube.scene_id.values) == ["a", "b"]
    assert cube.rio.crs.to_epsg() == 32631
    assert grid_of(cube) == GRID
    np.testing.assert_array_equal(cube.x, 500_005 + 10 * np.arange(80))
    np.testing.assert_array_equal(cube.y, 4_699_995 - 10 * np.arange(96))
    assert all(isinstance(value, str | int | float) for value in cube.attrs.values())
    done = cube.compute()
    assert done.valid.all()
    for i in range(2):
        np.testing.assert_array_equal(done[0, i], (numbers(i) / 10_000).astype(np.float32))


def test_the_grid_of_a_coarsened_or_thinned_cube_is_its_own(tmp_path: Path) -> None:
    cube = cube_of(scene(tmp_path))
    coarse = cube.drop_vars("valid").coarsen(y=4, x=2).mean()
    assert coarse.spatial_ref.attrs["GeoTransform"] == cube.spatial_ref.attrs["GeoTransform"]  # xarray keeps it, stale
    assert grid_of(coarse) == Grid(GRID.crs, (20.0, 40.0), GRID.origin, (24, 40))
    thinned = grid_of(cube.isel(y=slice(None, None, 2)))
    assert thinned == Grid(GRID.crs, (10.0, 20.0), (GRID.origin[0], GRID.origin[1] + 5), (48, 80))
    assert grid_of(cube.isel(y=slice(3, None))) == Grid(GRID.crs, (10.0, 10.0), (500_000.0, 4_699_970.0), (93, 80))
    assert grid_of(cube.isel(y=slice(0, 1), x=slice(0, 1))) == Grid(GRID.crs, (10.0, 10.0), GRID.origin, (1, 1))


def test_a_crop_on_the_native_lattice_copies_pixels(tmp_path: Path) -> None:
    crop = Grid(GRID.crs, GRID.resolution, (500_130.0, 4_699_790.0), (40, 90))  # reaches beyond the scene to the east
    done = cube_of(scene(tmp_path), grid=crop, chunk=17).compute()
    np.testing.assert_array_equal(done[0, 0, :, :67], (numbers(0)[21:61, 13:] / 10_000).astype(np.float32))
    assert not done.valid[0, :, 67:].any()
    assert np.isnan(done[0, :, :, 67:]).all()


def test_native_grid_in_degrees_hands_back_the_source(tmp_path: Path) -> None:
    # The lattice of the Boadella series: no whole multiples of anything.
    lattice = Grid(
        "EPSG:4326", (0.00012103616459715589, 9.016627702064337e-05), (2.79202780664, 42.36457137143), (90, 70)
    )
    data = np.random.default_rng(1).integers(1, 5000, lattice.shape, dtype=np.int16)
    item = scene(tmp_path, arrays={"B02": data}, grid=lattice, nodata=None)
    whole = choose_grid([item], bbox=lattice.bounds_wgs84, crs="native", source=SOURCE)
    assert whole.shape == lattice.shape
    assert whole.origin == pytest.approx(lattice.origin, abs=1e-12)
    x, y = lattice.x[[10, 40]], lattice.y[[50, 20]]
    part = choose_grid([item], bbox=(x[0], y[0], x[1], y[1]), crs="native", source=SOURCE)
    assert part.shape == (31, 31)
    done = cube_of(item, bands=["B02"], grid=part).compute()
    np.testing.assert_array_equal(done[0, 0], (data[20:51, 10:41] / 10_000).astype(np.float32))


def test_a_native_grid_ends_with_the_scenes_and_has_the_pixels_of_the_finest_band(tmp_path: Path) -> None:
    """The box reaches a kilometre beyond; a second scene begins where the first ends."""
    right = Grid(GRID.crs, GRID.resolution, (GRID.origin[0] + 800, GRID.origin[1]), GRID.shape)
    arrays = {"B11": numbers(1, (48, 40)), "B02": numbers()}
    items = [scene(tmp_path, "a", arrays=arrays), scene(tmp_path, "b", arrays=arrays, grid=right)]
    west, south, east, north = GRID.bounds_wgs84
    wide = (west - 0.012, south - 0.009, east + 0.03, north + 0.009)
    both = choose_grid(items, bbox=wide, crs="native", source=SOURCE)
    assert (both.resolution, both.origin, both.shape) == ((10.0, 10.0), GRID.origin, (96, 160))


def test_a_resolution_is_in_metres_where_the_crs_counts_feet() -> None:
    item = pystac.Item("a", None, [-122.5, 37.7, -122.3, 37.9], datetime(2021, 6, 1), {})
    grid = choose_grid([item], bbox=(-122.41, 37.75, -122.4, 37.76), crs="EPSG:2227", source=SOURCE)
    assert grid.pixel_m == pytest.approx((10, 10), rel=1e-3)


def test_neighbouring_regions_in_degrees_share_a_lattice() -> None:
    item = pystac.Item("a", None, [2, 41, 4, 43], datetime(2021, 6, 1), {})
    boxes = ((2.8, 42.30, 2.85, 42.31), (2.8, 42.40, 2.85, 42.41))
    south, north = (choose_grid([item], bbox=box, crs="EPSG:4326", source=SOURCE) for box in boxes)
    assert south.resolution == north.resolution


def test_default_grid_is_utm_on_the_lattice_of_the_sensor(tmp_path: Path) -> None:
    item = scene(tmp_path)
    west, south, east, north = GRID.bounds_wgs84
    grid = choose_grid([item], bbox=(west + 1e-3, south + 1e-3, east - 1e-3, north - 1e-3), source=SOURCE)
    assert grid.crs == "EPSG:32631"
    assert all(edge % 10 == 0 for edge in grid.origin)
    done = cube_of(item, grid=grid).compute()
    row, col = grid.lattice_origin[0] - GRID.lattice_origin[0], grid.lattice_origin[1] - GRID.lattice_origin[1]
    inside = numbers(0)[row : row + grid.shape[0], col : col + grid.shape[1]]
    np.testing.assert_array_equal(done[0, 0], (inside / 10_000).astype(np.float32))


def test_a_grid_in_degrees_has_square_pixels_on_the_ground(tmp_path: Path) -> None:
    grid = choose_grid([scene(tmp_path)], bbox=GRID.bounds_wgs84, resolution_m=20, crs="EPSG:4326", source=SOURCE)
    assert grid.pixel_m == pytest.approx((20, 20), rel=0.02)


@pytest.mark.parametrize("lat", [0.0, 41.5, -60.0])
def test_a_metre_of_web_mercator_is_less_on_the_ground(lat: float) -> None:
    """Its scale is 1 / cos of the latitude (on the sphere; the ellipsoid differs by a third of a percent)."""
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(2.8, lat)
    grid = Grid("EPSG:3857", (10.0, 10.0), (x, y), (10, 10))
    assert grid.pixel_m == pytest.approx((10 * np.cos(np.radians(lat)),) * 2, rel=0.007)
    assert GRID.pixel_m == GRID.resolution, "UTM is true to scale"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"crs": "EPSG:99999"}, UsageError, "unknown CRS"),
        ({"crs": "the moon"}, UsageError, "unknown CRS"),
        ({"resolution_m": 0.0}, UsageError, "absurd"),
        ({"resolution_m": float("nan")}, UsageError, "absurd"),
        ({"resolution_m": 1e6}, UsageError, "absurd"),
        ({"bbox": (10.0, 50.0, 10.1, 50.1)}, GeodiffError, "outside all 1 scenes"),
        ({"bbox": (42.4, 3.0, 42.5, 3.1)}, GeodiffError, "W S E N"),
        ({"bbox": (3.1, 42.4, 3.0, 42.5)}, UsageError, "west"),
    ],
)
def test_grids_that_make_no_sense(tmp_path: Path, options: dict[str, Any], error: type, words: str) -> None:
    settings: dict[str, Any] = {"bbox": GRID.bounds_wgs84, "source": SOURCE}
    with pytest.raises(error, match=words):
        choose_grid([scene(tmp_path)], **(settings | options))


def test_native_needs_one_lattice(tmp_path: Path) -> None:
    moved = Grid(GRID.crs, GRID.resolution, (500_004.0, 4_700_000.0), GRID.shape)
    items = [scene(tmp_path), scene(tmp_path, "b", grid=moved)]
    with pytest.raises(GeodiffError, match="do not share a lattice"):
        choose_grid(items, bbox=GRID.bounds_wgs84, crs="native", source=SOURCE)
    with pytest.raises(GeodiffError, match="no scenes"):
        choose_grid([], bbox=GRID.bounds_wgs84, source=SOURCE)


def test_coarse_bands_on_the_lattice_are_copied_in_blocks_like_classes(tmp_path: Path) -> None:
    native = numbers(4, (48, 40))
    classes = np.full((48, 40), 4, np.uint8)
    classes[:, 20:] = 9
    item = scene(tmp_path, arrays={"B02": numbers(), "B11": native, "SCL": classes})
    done = cube_of(item, bands=["B02", "B11"]).compute()
    np.testing.assert_array_equal(done.valid[0].values, np.arange(80)[None] < np.full((96, 1), 40))
    blocks = (native / 10_000).astype(np.float32).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(done[0, 1, :, :40], blocks[:, :40])
    np.testing.assert_array_equal(done[0, 0, :, :40], (numbers()[:, :40] / 10_000).astype(np.float32))


@pytest.mark.parametrize(("step", "side"), [(60.0, 10.0), (20.0, 5.0), (10.0, 5.0)])
def test_what_is_coarser_than_twice_is_interpolated(tmp_path: Path, step: float, side: float) -> None:
    """Bands of 60 m on a grid of 10 m would be a staircase; the grid begins within a pixel of the file."""
    coarse = Grid(GRID.crs, (step, step), (500_040.0, 4_700_040.0), (20, 20))
    native = numbers(5, coarse.shape)
    item = scene(tmp_path, arrays={"B11": native}, grid=coarse)
    grid = Grid(GRID.crs, (side, side), (coarse.origin[0] + side, coarse.origin[1] - 2 * side), (31, 33))
    done = cube_of(item, bands=["B11"], grid=grid, chunk=7).compute()
    times = round(step / side)
    blocks = (native / 10_000).astype(np.float32).repeat(times, 0).repeat(times, 1)[2:33, 1:34]
    same = np.mean(done[0, 0].values == blocks)
    assert same == 1 if times == 2 else same < 0.2


@pytest.mark.parametrize("moved", [5.0, 0.3])
def test_coarse_bands_off_the_lattice_are_interpolated(tmp_path: Path, moved: float) -> None:
    ramp = np.tile(np.arange(1000, 1000 + 40 * 20, 20, dtype=np.uint16), (48, 1))
    off = Grid(GRID.crs, GRID.resolution, (GRID.origin[0] + moved, GRID.origin[1]), GRID.shape)
    done = cube_of(scene(tmp_path, arrays={"B11": ramp}, grid=Grid(GRID.crs, (20.0, 20.0), off.origin, (48, 40))),
                   bands=["B11"]).compute()  # fmt: skip
    inner = done[0, 0, :, 2:78].values
    np.testing.assert_allclose(np.diff(inner, axis=1), 0.001, atol=1.1e-4)  # linear between the centres of 20 m pixels


def test_coarse_bands_in_another_crs_are_interpolated(tmp_path: Path) -> None:
    """No blocks: neighbours in a plane differ by its slope, and whoever takes the mean of a block is right by it."""
    rows, cols = np.mgrid[0:60, 0:60]
    plane = (2000 + 20 * rows + 30 * cols).astype(np.uint16)
    coarse = Grid("EPSG:32631", (20.0, 20.0), (739_000.0, 4_700_600.0), (60, 60))
    item = scene(tmp_path, arrays={"B11": plane}, grid=coarse)
    west, south, east, north = coarse.bounds_wgs84
    grid = Grid.cover((west + 0.004, south + 0.004, east - 0.004, north - 0.004), crs="EPSG:32632")
    values = cube_of(item, bands=["B11"], grid=grid).compute()[0, 0].values
    assert np.isfinite(values).all()
    assert np.abs(np.diff(values, axis=1)).min() > 0.0005
    np.testing.assert_allclose(np.diff(values, n=2, axis=1), 0, atol=3e-4)


def test_no_data_of_a_coarse_band_hides_its_own_pixels_alone(tmp_path: Path) -> None:
    native = np.full((48, 40), 3000, np.uint16)
    native[10:20, 10:20] = 0
    done = cube_of(scene(tmp_path, arrays={"B11": native}), bands=["B11"]).compute()
    expected = np.ones(GRID.shape, bool)
    expected[20:40, 20:40] = False
    np.testing.assert_array_equal(done.valid[0], expected)
    np.testing.assert_array_equal(done.values[0, 0][expected], np.float32(0.3))


def test_no_data_does_not_bleed_into_resampled_pixels(tmp_path: Path) -> None:
    native = np.full((48, 40), 3000, np.uint16)
    native[10:20, 10:20] = 0
    off = Grid(GRID.crs, (20.0, 20.0), (GRID.origin[0] + 3, GRID.origin[1]), (48, 40))
    done = cube_of(scene(tmp_path, arrays={"B11": native}, grid=off), bands=["B11"]).compute()
    assert not done.valid[0, 24:36, 24:36].any()
    np.testing.assert_allclose(done.values[np.isfinite(done.values)], 0.3, atol=1e-6)


@pytest.mark.parametrize(("dtype", "nodata"), [(np.int16, -1), (np.float32, np.nan), (np.int16, -32768)])
def test_signed_and_floating_no_data(tmp_path: Path, dtype: type, nodata: float) -> None:
    data = numbers().astype(dtype)
    data[:5] = nodata
    half = Grid(GRID.crs, (20.0, 20.0), GRID.origin, (48, 40))
    item = scene(tmp_path, arrays={"B02": data}, nodata=nodata)
    for grid, empty in ((GRID, 5), (half, 2)):
        done = cube_of(item, bands=["B02"], grid=grid).compute()
        assert not done.valid[0, :empty].any()
        assert done.valid[0, empty + 1 :].all()
        assert 0.0199 < float(done.min()) <= float(done.max()) < 0.4


def masked(folder: Path, inside: float, nodata: float | None) -> pystac.Item:
    """A band of 0.3 whose pixels from 20 to 40 are hidden by a mask within the file and hold ``inside``."""
    data = np.full(GRID.shape, 3000, np.int32)
    data[20:40, 20:40] = inside
    item = scene(folder, arrays={"B02": data})
    path = Path(item.assets["B02"].href)
    shown = np.full(GRID.shape, 255, np.uint8)
    shown[20:40, 20:40] = 0
    with rasterio.open(path) as source:
        profile = source.profile | {"driver": "GTiff", "nodata": nodata}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as target:
        target.write(data, 1)
        target.write_mask(shown)
    return item


@pytest.mark.parametrize("moved", [0.0, 3.0])
def test_masks_within_files_hide_what_they_hide_on_the_lattice_and_off_it(tmp_path: Path, moved: float) -> None:
    grid = Grid(GRID.crs, (10.0, 10.0), (GRID.origin[0] + moved, GRID.origin[1]), GRID.shape)
    done = cube_of(masked(tmp_path, -9999, None), bands=["B02"], grid=grid).compute()
    assert not done.valid[0, 21:39, 21:39].any()
    assert done.valid[0, :18].all()
    np.testing.assert_allclose(done.values[np.isfinite(done.values)], 0.3, atol=1e-6)


@pytest.mark.parametrize("moved", [0.0, 3.0])
def test_no_data_that_the_item_states_counts_beside_that_of_the_file(tmp_path: Path, moved: float) -> None:
    data = np.full(GRID.shape, 3000, np.uint16)
    data[20:40, 20:40] = 65535
    item = scene(tmp_path, arrays={"B02": data}, nodata=0)
    item.assets["B02"].extra_fields["raster:bands"] = [{"nodata": 65535}]
    grid = Grid(GRID.crs, (10.0, 10.0), (GRID.origin[0] + moved, GRID.origin[1]), GRID.shape)
    done = cube_of(item, bands=["B02"], grid=grid).compute()
    assert not done.valid[0, 21:39, 21:39].any()
    np.testing.assert_allclose(done.values[np.isfinite(done.values)], 0.3, atol=1e-6)


def test_offset_once_in_a_cube_of_mixed_baselines(tmp_path: Path) -> None:
    truth = numbers()
    items = [
        scene(tmp_path, "old", "2021-06-01T10:50:00", arrays={"B02": truth}, baseline="03.01"),
        scene(tmp_path, "new", "2022-06-01T10:50:00", arrays={"B02": truth + 1000}, baseline="04.00"),
        scene(
            tmp_path, "lowered", "2023-06-01T10:50:00", arrays={"B02": truth}, baseline="05.09", offset_applied=True,
            raster={"scale": 0.0001, "offset": -0.1, "nodata": 0},
        ),
        scene(
            tmp_path, "stated", "2024-06-01T10:50:00", arrays={"B02": truth + 1000}, baseline="05.10",
            raster={"scale": 0.0001, "offset": -0.1, "nodata": 0},
        ),
    ]  # fmt: skip
    done = cube_of(*items, bands=["B02"]).compute()
    for step in done:
        np.testing.assert_array_equal(step[0], (truth / 10_000).astype(np.float32))


def test_scenes_of_one_day_become_one_step(tmp_path: Path) -> None:
    west, east = numbers(1), numbers(2)
    west[:, 50:] = 0
    east[:, :30] = 0
    cloud = np.full(GRID.shape, 4, np.uint8)
    cloud[40:50, 35:40] = 9  # seen by the first tile only
    a = scene(tmp_path, "a", "2021-06-01T10:50:00", arrays={"B02": west, "SCL": cloud}, cloud_cover=1)
    b = scene(
        tmp_path, "b", "2021-06-01T10:50:14", arrays={"B02": east + 0, "SCL": np.full(GRID.shape, 4, np.uint8)},
        cloud_cover=5,
    )  # fmt: skip
    done = cube_of(b, a, bands=["B02"]).compute()
    assert done.sizes["time"] == 1
    assert str(done.scene_id.values[0]) == "a,b"
    assert str(done.time.values[0])[:19] == "2021-06-01T10:50:00"
    assert done.valid.all()
    expected = np.where(west > 0, west, east)
    expected[40:50, 35:40] = east[40:50, 35:40]
    np.testing.assert_array_equal(done[0, 0], (expected / 10_000).astype(np.float32))


def test_a_scene_that_does_not_state_its_cloud_comes_last(tmp_path: Path) -> None:
    silent = scene(tmp_path, "a", arrays={"B02": numbers(1)})
    cloudy = scene(tmp_path, "b", "2021-06-01T10:50:14", arrays={"B02": numbers(2)}, cloud_cover=99.0)
    done = cube_of(silent, cloudy, bands=["B02"]).compute()
    np.testing.assert_array_equal(done[0, 0], (numbers(2) / 10_000).astype(np.float32))


def test_scenes_of_one_name_in_two_collections_are_two(tmp_path: Path) -> None:
    items = []
    for index, collection in enumerate(("l2a", "l2a-c1")):
        half = numbers(index)
        half[:, 40 * index : 40 * index + 40] = 0
        item = scene(tmp_path / collection, arrays={"B02": half})
        item.collection_id = collection
        items.append(item)
    assert cube_of(*items, bands=["B02"]).compute().valid.all()


def test_a_pixel_without_data_in_one_band_is_valid_in_none(tmp_path: Path) -> None:
    red = numbers(1)
    red[10:20] = 0
    done = cube_of(scene(tmp_path, arrays={"B02": numbers(), "B04": red})).compute()
    np.testing.assert_array_equal(done.valid[0], red > 0)
    assert np.isnan(done.values[0, 0, 10:20]).all()


def test_a_pass_at_midnight_utc_is_one_day(tmp_path: Path) -> None:
    fiji = Grid("EPSG:32701", (10.0, 10.0), (300_000.0, 8_000_000.0), (32, 32))
    arrays = {"B02": numbers(0, fiji.shape)}
    items = [scene(tmp_path, name, when, arrays=arrays, grid=fiji) for name, when in (
        ("before", "2021-06-01T23:59:55"), ("after", "2021-06-02T00:00:09"), ("next", "2021-06-02T23:59:58"),
    )]  # fmt: skip
    cube = cube_of(*items, bands=["B02"], grid=fiji)
    assert list(cube.scene_id.values) == ["after,before", "next"]


def test_scenes_on_both_sides_of_the_antimeridian_are_one_day(tmp_path: Path) -> None:
    """The box of a scene that crosses it goes around the world where nobody took care."""
    grid = Grid("EPSG:32760", (10.0, 10.0), (819_000.0, 8_120_000.0), (32, 100))
    west, _, east, _ = grid.bounds_wgs84
    assert west > 179.9
    assert east < -179.9
    items = []
    for name, box in (
        ("east", [-180.0, -18, -179, -16]),
        ("west", [178.5, -18, 180, -16]),
        ("wide", [-180, -18, 180, -16]),
    ):
        item = scene(tmp_path, name, "2021-06-01T22:20:00", arrays={"B02": numbers(0, grid.shape)}, grid=grid)
        item.bbox = box
        items.append(item)
    assert list(cube_of(*items, bands=["B02"], grid=grid).scene_id.values) == ["east,west,wide"]


@pytest.mark.parametrize(
    ("box", "there", "inside"),
    [
        ((178.9, -17.5, 179.95, -16.5), True, True),
        ((179.0, -17.5, -179.9, -16.5), True, True),
        ((-180.0, -17.5, 180.0, -16.5), True, True),
        ((-180.0, -17.5, -179.5, -16.5), True, False),
        ((-179.9, -17.5, -179.5, -16.5), False, False),
        ((178.0, -17.5, 179.8, -16.5), False, False),
        ((179.0, -16.5, -179.9, -16.0), False, False),
    ],
)
def test_what_reaches_a_place_at_the_antimeridian(box: tuple[float, ...], there: bool, inside: bool) -> None:
    item = pystac.Item("a", None, list(box), datetime(2021, 6, 1), {})
    assert reaches(item, (179.9, -17.1, -179.99, -17.0)) is there
    assert reaches(item, (179.9, -17.1, 180.0, -17.0)) is inside


@pytest.fixture
def neighbours(tmp_path: Path) -> tuple[Grid, np.ndarray, list[pystac.Item]]:
    """One smooth landscape seen by two tiles of neighbouring UTM zones, and the grid of one between them."""
    grid = Grid("EPSG:32631", (10.0, 10.0), (739_000.0, 4_700_000.0), (160, 160))
    rows, cols = np.mgrid[0:260, 0:260]
    truth = (2000 + 900 * np.sin(rows / 9) * np.cos(cols / 11)).astype(np.float32)
    wide = Grid(grid.crs, grid.resolution, (grid.origin[0] - 500, grid.origin[1] + 500), truth.shape)
    other = Grid.cover(grid.bounds_wgs84, crs="EPSG:32632")
    east = np.zeros(other.shape, np.float32)
    reproject(
        truth, east, src_transform=wide.transform, src_crs=wide.crs, dst_transform=other.transform,
        dst_crs=other.crs, resampling=Resampling.cubic, XSCALE=1, YSCALE=1,
    )  # fmt: skip
    inside = truth[50:210, 50:210]
    west = np.where(np.arange(160)[None] < 90, inside, 0)
    items = [
        scene(tmp_path, "west", arrays={"B02": west.astype(np.uint16)}, grid=grid, cloud_cover=0),
        scene(tmp_path, "east", arrays={"B02": np.round(east).astype(np.uint16)}, grid=other, cloud_cover=9),
    ]
    return grid, inside, items


def test_tiles_of_neighbouring_zones_are_joined_on_one_grid(
    neighbours: tuple[Grid, np.ndarray, list[pystac.Item]],
) -> None:
    grid, truth, items = neighbours
    done = cube_of(*items, bands=["B02"], grid=grid).compute()
    assert done.sizes["time"] == 1
    assert done.valid[0, 2:-2, 2:-2].all()
    error = np.abs(done[0, 0, 4:-4, 4:-4].values - truth[4:-4, 4:-4] / 10_000)
    assert error.max() < 1.5e-3  # of an amplitude of 0.09: two cubic resamplings of a smooth field


@pytest.mark.parametrize("chunk", [31, 100, 4000])
def test_chunks_do_not_change_reprojected_pixels(
    neighbours: tuple[Grid, np.ndarray, list[pystac.Item]], chunk: int
) -> None:
    grid, _, items = neighbours
    expected = cube_of(*items, bands=["B02"], grid=grid, chunk=64).compute()
    np.testing.assert_array_equal(cube_of(*items, bands=["B02"], grid=grid, chunk=chunk).compute(), expected)


def test_pixels_between_lattices_of_one_size_keep_their_detail(tmp_path: Path) -> None:
    """Half a pixel off in both directions: two linear interpolations would leave 0.75 of waves of six pixels."""
    rows, cols = np.mgrid[0:96, 0:80]
    waves = 2000 + 1000 * np.sin(np.pi * rows / 3) * np.sin(np.pi * cols / 3)
    item = scene(tmp_path, arrays={"B02": np.round(waves).astype(np.uint16)})
    grid = Grid(GRID.crs, GRID.resolution, (GRID.origin[0] + 105, GRID.origin[1] - 105), (70, 60))
    values = cube_of(item, bands=["B02"], grid=grid).compute()[0, 0].values
    rows, cols = np.mgrid[0:70, 0:60] + 10.5
    truth = 0.2 + 0.1 * np.sin(np.pi * rows / 3) * np.sin(np.pi * cols / 3)
    np.testing.assert_allclose(values, truth, atol=0.008)


def test_coarse_pixels_are_the_mean_of_all_that_lies_in_them(tmp_path: Path) -> None:
    """Every fourth row is bright: whoever looks at the middle of a pixel of 40 m alone never sees it."""
    stripes = np.where(np.arange(96)[:, None] % 4 == 0, 5000, np.full(GRID.shape, 1000)).astype(np.uint16)
    grid = Grid(GRID.crs, (40.0, 40.0), GRID.origin, (24, 20))
    values = cube_of(scene(tmp_path, arrays={"B02": stripes}), bands=["B02"], grid=grid).compute()[0, 0].values
    np.testing.assert_allclose(values[1:-1, 1:-1], 0.2, atol=1e-3)


def test_resampled_values_are_those_of_their_place(tmp_path: Path) -> None:
    """A plane seen in the neighbouring zone: its value tells where it was taken, to a hundredth of a pixel."""
    wide = Grid("EPSG:32631", (10.0, 10.0), (739_000.0, 4_706_000.0), (600, 600))
    rows, cols = np.mgrid[0:600, 0:600]
    item = scene(tmp_path, arrays={"B02": (1000 + 50 * rows + 50 * cols).astype(np.uint16)}, grid=wide)
    west, south, east, north = wide.bounds_wgs84
    grid = Grid.cover((west + 0.01, south + 0.01, east - 0.01, north - 0.01), crs="EPSG:32632")
    values = cube_of(item, bands=["B02"], grid=grid, chunk=512).compute()[0, 0].values
    x, y = Transformer.from_crs(32632, 32631, always_xy=True).transform(*np.meshgrid(grid.x, grid.y))
    down, right = (wide.origin[1] - y) / 10 - 0.5, (x - wide.origin[0]) / 10 - 0.5
    np.testing.assert_allclose(values, 0.1 + 0.005 * (down + right), atol=1e-4)


def damaged(item: pystac.Item, how: str) -> pystac.Item:
    path = Path(item.assets["B04"].href)
    content = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "corrupt":
            path.write_bytes(content[:600] + b"\xff" * (len(content) - 1200) + content[-600:])
        case "no raster":
            path.write_text("<html>404 Not Found</html>")
        case "two bands":
            with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=2, height=4, width=4):
                pass
    return item


@pytest.mark.parametrize("how", ["missing", "truncated", "corrupt", "no raster", "two bands"])
@pytest.mark.parametrize("resolution", [10.0, 20.0])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_damaged_file_is_named_not_passed_over(tmp_path: Path, how: str, resolution: float) -> None:
    grid = Grid(GRID.crs, (resolution, resolution), GRID.origin, (48, 40))
    cube = cube_of(damaged(scene(tmp_path), how), grid=grid)
    with pytest.raises(GeodiffError, match=r"scene a, asset B04: cannot read .*B04\.tif") as caught:
        cube.compute()
    assert "\n" not in str(caught.value)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_over_http_values_come_and_404_is_an_error(tmp_path: Path) -> None:
    item = scene(tmp_path)
    with served(tmp_path) as address:
        for name, asset in item.assets.items():
            asset.href = f"{address}/a/{name}.tif"
        np.testing.assert_array_equal(cube_of(item).compute()[0, 0], (numbers(0) / 10_000).astype(np.float32))
        item.assets["B04"].href = f"{address}/gone.tif?token=secret"
        with pytest.raises(GeodiffError, match=r"asset B04: cannot read http.*gone\.tif .*404") as caught:
            cube_of(item).compute()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("remote", [True, False])
def test_a_vrt_in_the_guise_of_a_geotiff_reads_no_other_file(tmp_path: Path, remote: bool) -> None:
    item = scene(tmp_path / "web")
    secret = (tmp_path / "web" / "a" / "B04.tif").rename(tmp_path / "secret.tif")
    guise = tmp_path / "web" / "a" / "B04.tif"
    rasterio.shutil.copy(str(secret), str(guise), driver="VRT")
    assert str(secret) in guise.read_text()
    with rasterio.open(guise) as opened:  # GDAL by itself hands the other file out
        np.testing.assert_array_equal(opened.read(1), numbers(1))
    with served(tmp_path / "web") as address:
        if remote:
            for name, asset in item.assets.items():
                asset.href = f"{address}/a/{name}.tif"
        with pytest.raises(GeodiffError, match=r"scene a, asset B04: cannot read .*not recognized") as caught:
            cube_of(item).compute()
    assert "\n" not in str(caught.value)
    with pytest.raises(GeodiffError, match="cannot read"), open_raster(guise):
        pass


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_stands_beside_a_geotiff_as_its_mask_reads_no_other_file(tmp_path: Path) -> None:
    path = Path(scene(tmp_path).assets["B04"].href)
    hidden = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": GRID.shape[0], "width": GRID.shape[1]}
    with rasterio.open(tmp_path / "secret.tif", "w", **hidden) as target:
        target.write(np.zeros(GRID.shape, np.uint8), 1)
    rasterio.shutil.copy(str(tmp_path / "secret.tif"), f"{path}.msk", driver="VRT")
    with rasterio.open(path) as opened:  # GDAL by itself takes the other file for a mask
        assert str(tmp_path / "secret.tif") in opened.files
    with open_raster(path) as opened:
        assert opened.files == [str(path)]
        assert opened.read_masks(1).any()


def test_other_processes_read_the_same_and_report_the_same(tmp_path: Path) -> None:
    item = scene(tmp_path)
    expected = cube_of(item).compute()
    np.testing.assert_array_equal(cube_of(item).compute(scheduler="processes", num_workers=2), expected)
    with pytest.raises(GeodiffError, match="scene a, asset B04"):
        cube_of(damaged(item, "missing")).compute(scheduler="processes", num_workers=2)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_real_scenes_from_earth_search(geodiff_data: Path) -> None:
    """Three dates of tile 33TWM, decimated to 120 m in files that do not say where they lie."""
    items = []
    for path in sorted((geodiff_data / "sentinel2" / "t33twm_120m").glob("*/*.json")):
        item = pystac.Item.from_file(str(path))
        for asset in item.assets.values():
            asset.href = str(path.parent / asset.href)
        items.append(item)
    source = load_sources()["earth-search"]
    grid = Grid("EPSG:32633", (120.0, 120.0), (499_980.0 + 24_000, 5_200_020.0 - 36_000), (200, 220))
    cube = cube_of(*items, source=source, bands=["B02", "B03", "B04", "B08"], grid=grid, mask=MaskConfig()).compute()
    assert cube.attrs["cloud_mask"] == "scl"
    assert [str(t)[:10] for t in cube.time.values] == ["2023-08-10", "2023-08-15", "2023-08-18"]
    clear = cube.valid.mean(("y", "x")).values
    assert clear[1] > 0.9  # 0.2 % cloud by its metadata
    with rasterio.open(items[0].assets["blue"].href) as file:
        raw = file.read(1)[300:500, 200:420]
    seen = cube.valid.values[1]
    np.testing.assert_allclose(cube.values[1, 0][seen], raw[seen] / 10_000, atol=1e-6)  # the offset is in the pixels
    assert np.nanmedian(cube.values[1, 3]) > 0.2  # vegetation in near infrared


def test_what_is_asked_wrongly_is_refused_before_reading(tmp_path: Path) -> None:
    item = scene(tmp_path)
    with pytest.raises(UsageError, match="no band 'B08'"):
        cube_of(item, bands=["B08"])
    with pytest.raises(UsageError, match="once"):
        cube_of(item, bands=["B02", "B02"])
    with pytest.raises(GeodiffError, match="no scenes"):
        cube_of()
    far = Grid(GRID.crs, GRID.resolution, (600_000.0, 4_700_000.0), GRID.shape)
    with pytest.raises(GeodiffError, match="none of 1 scenes reaches the grid"):
        cube_of(item, grid=far)
    timeless = item.clone()
    timeless.datetime = None
    with pytest.raises(GeodiffError, match="no datetime"):
        cube_of(timeless)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_georeference_lies_where_its_item_says(tmp_path: Path) -> None:
    item = scene(tmp_path)
    for asset in item.assets.values():
        with rasterio.open(asset.href) as file:
            data = file.read(1)
        options = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": 96, "width": 80, "nodata": 0}
        with rasterio.open(asset.href, "w", **options) as file:
            file.write(data, 1)
    np.testing.assert_array_equal(cube_of(item).compute()[0, 0], (numbers(0) / 10_000).astype(np.float32))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("proj:shape", value)
            for value in ([0, 0], [-5, -5], [NAN, NAN], [INF, 1], [5], "ab", {"a": 1}, [10**400, 1])
        ),
        *(
            ("proj:transform", value)
            for value in ([0] * 6, [NAN] * 6, [INF] * 6, ["a"] * 6, [None] * 6, 5, [10**400] * 6)
        ),
        *(("proj:transform", value) for value in ({str(i): 1 for i in range(6)}, [1e308, 0, 1e308, 0, -1e308, 1e308])),
        *(("proj:transform", value) for value in ([10, 0, 5e5, 0, 10, 4.7e6], [10, 1, 5e5, 1, -10, 4.7e6])),
        *(
            ("bbox", value)
            for value in ([NAN] * 4, [-INF, -INF, INF, INF], [], [1, 2, 3], ["a"] * 4, [None] * 4, 5, {"a": 1})
        ),
        *(("eo:cloud_cover", value) for value in ("many", [1], NAN)),
        pytest.param("eo:cloud_cover", 10**400, id="huge"),
    ],
)
def test_fields_that_cannot_be_count_as_not_said(tmp_path: Path, field: str, value: Any) -> None:
    item, cloudy = scene(tmp_path), scene(tmp_path, "b", cloud_cover=50.0)
    if field == "bbox":
        item.bbox = value
    elif field.startswith("eo:"):
        item.properties[field] = value
        assert cube_of(item, cloudy).sizes["time"] == 1
    else:
        for asset in item.assets.values():
            asset.extra_fields[field] = value
    np.testing.assert_array_equal(cube_of(item)[0, 0], (numbers(0) / 10_000).astype(np.float32))
    assert choose_grid([item], bbox=GRID.bounds_wgs84, source=SOURCE)


def test_a_cube_of_clouds_says_so(tmp_path: Path) -> None:
    classes = np.full(GRID.shape, 9, np.uint8)
    items = [
        scene(tmp_path, str(day), f"2021-06-{day:02}T10:50:00", arrays={"B02": numbers(day), "SCL": classes})
        for day in (1, 6)
    ]
    cube = cube_of(*items, bands=["B02"])
    done = cube.compute()
    assert not done.valid.any()
    assert np.isnan(done).all()
    with pytest.raises(GeodiffError, match="all 2 from 2021-06-01 to 2021-06-06 are cloudy"):
        require_usable(cube)
    assert (rank_dates(cube)["score"] == 0).all()


def test_scenes_without_classification_are_screened_by_their_spectrum(tmp_path: Path) -> None:
    items = []
    for day in range(1, 6):
        blue, red, infrared = (np.full(GRID.shape, value, np.uint16) for value in (400, 600, 2500))
        if day == 3:
            for band in (blue, red, infrared):
                band[20:60, 20:60] = 5000
        arrays = {"B02": blue, "B04": red, "B08": infrared}
        items.append(scene(tmp_path, str(day), f"2021-06-{day:02}T10:50:00", arrays=arrays))
    screened = cube_of(*items, bands=["B04"], mask=MaskConfig(dilation_m=0))
    assert screened.attrs["cloud_mask"] == "spectral"
    assert list(screened.band.values) == ["B04"]
    valid = screened.valid.compute()
    assert not valid[2, 20:60, 20:60].any()
    assert int((~valid).sum()) == 1600
    plain = cube_of(*items, bands=["B04"])
    assert plain.attrs["cloud_mask"] == "none"
    assert plain.valid.all()


def test_the_screen_looks_where_no_classification_is_and_its_bands_hide_no_pixel(tmp_path: Path) -> None:
    """Two scenes of the third day, one of them classified; the others are not. Near infrared has a hole."""
    items = []
    for day in range(1, 7):
        blue, red, infrared = (np.full(GRID.shape, value, np.uint16) for value in (400, 600, 2500))
        infrared[80:] = 0
        if day in (3, 6):
            for band in (blue, red):
                band[20:60, 20:60] = 5000
        arrays = {"B02": blue, "B04": red, "B08": infrared}
        when = f"2021-06-{day:02}T10:50"
        classes = {"SCL": np.full(GRID.shape, 4, np.uint8)} if day in (3, 6) else {}
        items.append(scene(tmp_path, str(day), f"{when}:00", arrays=arrays | classes, cloud_cover=1))
        if day == 3:
            items.append(scene(tmp_path, "beside", f"{when}:14", arrays=arrays, cloud_cover=2))
    cube = cube_of(*items, bands=["B04"], mask=MaskConfig(dilation_m=0))
    assert cube.attrs["cloud_mask"] == "scl, spectral"
    valid = cube.valid.compute()
    expected = np.ones((6, *GRID.shape), bool)
    expected[2, 20:60, 20:60] = False
    np.testing.assert_array_equal(valid, expected, "the sixth day is all classified, and clear by its classes")


def test_a_cube_may_be_asked_for_more_than_one_clear_pixel(tmp_path: Path) -> None:
    half = numbers()
    half[:, 40:] = 0
    cube = cube_of(scene(tmp_path, arrays={"B02": half}), bands=["B02"])
    require_usable(cube, min_clear=0.5)
    with pytest.raises(GeodiffError, match=r"clearest 50\.0%"):
        require_usable(cube, min_clear=0.51)


def test_dates_are_ranked(tmp_path: Path) -> None:
    items = []
    for day, (haze, hidden) in enumerate([(0, 0), (600, 0), (0, 60), (0, 96), (0, 5)], start=1):
        classes = np.full(GRID.shape, 4, np.uint8)
        classes[:hidden] = 9
        arrays = {"B02": numbers(0) + np.uint16(haze), "SCL": classes}
        items.append(scene(tmp_path, str(day), f"2021-06-{day:02}T12:00:00", arrays=arrays))
    cube = cube_of(*items, bands=["B02"])
    table = rank_dates(cube)
    assert list(table["index"]) == [0, 4, 2, 1, 3]
    np.testing.assert_allclose(table.set_index("index")["clear"].sort_index(), [1, 1, 36 / 96, 0, 91 / 96])
    assert table.set_index("index")["haze"][1] == pytest.approx(0.06, abs=1e-3)


def test_haze_is_judged_in_the_bluest_band_and_of_equal_dates_the_earlier_comes_first(tmp_path: Path) -> None:
    items = []
    for day, haze in ((1, 600), (6, 0), (11, 0)):
        arrays = {"B04": numbers(1) + np.uint16(700 - haze), "B02": numbers(0) + np.uint16(haze)}
        items.append(scene(tmp_path, str(day), f"2021-06-{day:02}T12:00:00", arrays=arrays))
    assert list(rank_dates(cube_of(*items, bands=["B04", "B02"]))["index"]) == [1, 2, 0]


@pytest.mark.parametrize("size", [1, 256, 1024, 1025, 5000])
def test_an_axis_is_judged_whole_or_from_end_to_end(size: int) -> None:
    pieces = sample_pieces(size)
    assert (pieces[0].start, pieces[-1].stop) == (0, size)
    assert sum(piece.stop - piece.start for piece in pieces) == min(size, 1024)
    gaps = [after.start - before.stop for before, after in itertools.pairwise(pieces)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
