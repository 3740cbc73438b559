"""Tiles own every pixel once, on a lattice that no grid, chunk or neighbour can move; boxes snap; bad input teaches."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Transformer

from geodiff.grid import Grid, TileKey, TilePlan, Window, check_bbox, utm_crs
from geodiff.schema import UsageError
from geodiff.testing.strategies import UTM_ZONES, grids, tile_plans, windows


def whole(grid: Grid) -> Window:
    return Window(0, 0, *grid.shape)


def moved(grid: Grid, rows: int, cols: int, shape: tuple[int, int]) -> Grid:
    """The grid of ``shape`` whose first pixel lies ``rows`` down and ``cols`` right of the given one's."""
    (x, y), (rx, ry) = grid.origin, grid.resolution
    return Grid(grid.crs, grid.resolution, (x + cols * rx, y - rows * ry), shape)


# Tiles


@given(tile_plans())
def test_cores_cover_every_pixel_exactly_once(plan):
    count = np.zeros(plan.grid.shape, int)
    keys = list(plan.keys())
    assert len(set(keys)) == len(keys)
    for key in keys:
        own = plan.core_window(key).intersect(whole(plan.grid))
        assert own is not None, "a tile without a pixel of its own"
        count[own.slices_in(whole(plan.grid))] += 1
    assert (count == 1).all()


@given(tile_plans(), st.data())
def test_keys_of_a_window_are_exactly_those_that_contribute(plan, data):
    asked = data.draw(windows(inside=plan.grid.shape))
    everything = list(plan.keys())
    wanted = [key for key in everything if plan.output_window(key).intersect(asked)]
    assert list(plan.keys(asked)) == wanted


@given(tile_plans(), windows())
def test_a_window_that_reaches_beyond_the_grid_asks_for_what_is_inside(plan, asked):
    inside = asked.intersect(whole(plan.grid))
    expected = [] if inside is None else list(plan.keys(inside))
    assert list(plan.keys(asked)) == expected


@given(tile_plans(), st.integers(-300, 300), st.integers(-300, 300), st.integers(1, 300), st.integers(1, 300))
def test_another_grid_of_the_same_lattice_cuts_the_same_tiles(plan, rows, cols, height, width):
    other = dataclasses.replace(plan, grid=moved(plan.grid, rows, cols, (height, width)))
    row0, col0 = plan.grid.lattice_origin
    assert other.grid.lattice_origin == (row0 + rows, col0 + cols)
    for key in [TileKey(0, 0), TileKey(-3, 7), *plan.keys()][:12]:
        ours, theirs = plan.input_window(key), other.input_window(key)
        assert (ours.top - rows, ours.left - cols) == (theirs.top, theirs.left)
        assert (ours.rows, ours.cols) == (theirs.rows, theirs.cols)
    shared = Window(rows, cols, height, width).intersect(whole(plan.grid))
    if shared is not None:
        # A pixel belongs to the same tile in both.
        theirs = Window(shared.top - rows, shared.left - cols, shared.rows, shared.cols)
        owners = [
            {key for key in tiles.keys(place) if tiles.core_window(key).intersect(place)}
            for tiles, place in ((plan, shared), (other, theirs))
        ]
        assert owners[0] == owners[1]


@pytest.mark.parametrize("offset_m", [0.0, 15.0, 5.0, 29.99])
def test_moving_by_one_pixel_moves_by_one_on_the_lattice_also_off_it(offset_m):
    """Landsat's pixel edges lie half a pixel off the multiples of 30 m: rounding halves to even would skip tiles."""
    first = Grid("EPSG:32631", (30.0, 30.0), (offset_m, 4_000_000 + offset_m), (10, 10))
    row0, col0 = first.lattice_origin
    for step in range(1, 6):
        assert moved(first, step, step, (10, 10)).lattice_origin == (row0 + step, col0 + step)


@given(grids(), st.sampled_from([2, 3, 4, 8]))
def test_zoom_keeps_the_ground_and_the_lattice(grid, scale):
    fine = grid.zoom(scale)
    assert fine.bounds == pytest.approx(grid.bounds, abs=1e-6)
    row, col = grid.lattice_origin
    assert fine.lattice_origin == (row * scale, col * scale)
    assert fine.area_km2 == pytest.approx(grid.area_km2)


@given(grids(on_lattice=False))
def test_coordinates_are_pixel_centres(grid):
    (rx, ry), (x, y) = grid.resolution, grid.origin
    assert grid.x.shape == (grid.shape[1],)
    assert grid.y.shape == (grid.shape[0],)
    to = grid.transform
    last = (to.c + to.a * (grid.shape[1] - 0.5), to.f + to.e * (grid.shape[0] - 0.5))
    assert (grid.x[0], grid.y[0]) == pytest.approx((x + rx / 2, y - ry / 2))
    assert (grid.x[-1], grid.y[-1]) == pytest.approx(last)


# Windows


@given(windows(), windows())
def test_intersection_is_that_of_the_pixels(a, b):
    def pixels(w: Window) -> set[tuple[str, int]]:
        return {("r", r) for r in range(w.top, w.top + w.rows)} | {("c", c) for c in range(w.left, w.left + w.cols)}

    shared = a.intersect(b)
    assert shared == b.intersect(a)
    common = pixels(a) & pixels(b)
    if shared is None:
        assert len({kind for kind, _ in common}) < 2
    else:
        assert pixels(shared) == common


@given(windows(), st.integers(0, 50), st.integers(1, 8))
def test_expand_then_scale_is_scale_then_expand(window, margin, scale):
    assert window.expand(margin).scaled(scale) == window.scaled(scale).expand(margin * scale)
    rows, cols = window.slices_in(window.expand(margin))
    assert (rows.start, cols.start) == (margin, margin)
    assert (rows.stop - rows.start, cols.stop - cols.start) == (window.rows, window.cols)


# Boxes


@given(
    st.floats(-179, 178.5),
    st.floats(-79, 79),
    st.floats(1e-4, 0.3),
    st.floats(1e-4, 0.3),
    st.sampled_from([2.5, 10.0, 20.0, 60.0]),
)
def test_cover_snaps_outwards_and_by_less_than_a_pixel(west, south, width, height, resolution):
    bbox = (west, south, west + width, south + height)
    grid = Grid.cover(bbox, resolution_m=resolution)
    assert grid.crs == utm_crs(bbox)
    for edge in grid.bounds:
        assert edge / resolution == pytest.approx(round(edge / resolution), abs=1e-6)
    box = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True).transform_bounds(*bbox)
    outward = np.array(
        [box[0] - grid.bounds[0], box[1] - grid.bounds[1], grid.bounds[2] - box[2], grid.bounds[3] - box[3]]
    )
    # A thousandth of a pixel of the box may stay outside; no whole pixel more than needed is taken.
    assert (outward > -0.0011 * resolution).all()
    assert (outward < 1.0011 * resolution).all() or min(grid.shape) == 1


@given(grids(max_side=300))
def test_the_box_of_a_grid_does_not_grow_when_covered_again(grid):
    """In the CRS's own degrees, where the box is exact: an EPSG:4326 grid covers itself."""
    step = 1 / 1024
    west, north = grid.origin[0] % 1000 * step, grid.origin[1] % 1000 * step / 20
    west, north = math.floor(west / step) * step, math.floor(north / step) * step
    own = Grid("EPSG:4326", (step, step), (west, north), grid.shape)
    assume(own.bounds[1] > -90)
    assert Grid.cover(own.bounds, resolution_m=step, crs="EPSG:4326") == own


@given(st.sampled_from(UTM_ZONES), st.integers(40_000, 75_000), st.integers(10_000, 880_000))
def test_neighbouring_covers_share_one_lattice(crs, col, row):
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    boxes = []
    for shift in (0, 37):
        west, south = to_degrees((col + shift) * 10.0, row * 10.0)
        boxes.append((west, south, west + 0.01, south + 0.01))
    assume(all(-179.9 < b[0] < 179.8 and abs(b[1]) < 80 for b in boxes))
    one, two = (Grid.cover(box, crs=crs) for box in boxes)
    step = (two.origin[0] - one.origin[0]) / 10
    assert step == round(step)
    assert two.lattice_origin[1] - one.lattice_origin[1] == step


def test_a_box_of_whole_pixels_gains_none_by_rounding():
    """As floats 0.29 is a little less than 29 hundredths, and 0.56 a little more than 56."""
    grid = Grid.cover((0.29, 0.29, 0.56, 0.56), resolution_m=0.01, crs="EPSG:4326")
    assert grid.shape == (27, 27)
    assert grid.bounds == pytest.approx((0.29, 0.29, 0.56, 0.56), abs=1e-9)


def test_size_of_a_pixel_on_the_ground():
    degrees = Grid("EPSG:4326", (1e-4, 1e-4), (2.8, 42.4), (100, 100))
    # One ten-thousandth of a degree at 42.4 N: 8.2 m by 11.1 m on WGS84.
    assert degrees.pixel_m == pytest.approx((8.23, 11.11), abs=0.02)
    assert degrees.area_km2 == pytest.approx(0.823 * 1.111, rel=0.01)
    feet = Grid("EPSG:2263", (100.0, 100.0), (1_000_000, 200_000), (10, 10))
    assert feet.pixel_m == pytest.approx((30.48, 30.48), rel=1e-4)


@pytest.mark.parametrize(
    ("bbox", "says"),
    [
        ((42.0, 100.0, 43.0, 101.0), "longitude first"),
        ((-91.0, 2.0, 91.0, 181.0), "outside the world"),
        ((170.0, -20.0, 190.0, -10.0), "outside the world"),
        ((2.0, 43.0, 3.0, 42.0), "south is not below north"),
        ((2.0, 42.0, 3.0, 42.0), "south is not below north"),
        ((3.0, 42.0, 2.0, 43.0), "west is not left of east"),
        ((179.0, -18.0, -179.0, -17.0), "antimeridian"),
        ((2.0, 42.0, 2.0, 43.0), "west is not left of east"),
        ((math.nan, 42.0, 3.0, 43.0), "not a number"),
        ((2.0, 42.0, math.inf, 43.0), "not a number"),
    ],
)
def test_a_wrong_box_is_refused_with_the_rule_it_breaks(bbox, says):
    with pytest.raises(UsageError, match=says) as caught:
        check_bbox(bbox)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        Grid.cover(bbox)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"resolution_m": 0.0}, "absurd"),
        ({"resolution_m": -10.0}, "absurd"),
        ({"resolution_m": math.nan}, "absurd"),
        ({"resolution_m": 1e6}, "absurd"),
        ({"resolution_m": 10.0, "crs": "EPSG:4326"}, "degrees"),
        ({"resolution_m": 0.0, "crs": "EPSG:4326"}, "absurd"),
        ({"crs": "EPSG:99999"}, "unknown"),
        ({"crs": "somewhere"}, "unknown"),
        ({"crs": "EPSG:4978"}, "no map"),
        ({"crs": "EPSG:32612"}, "another part of the world"),
        ({"crs": "EPSG:2193"}, "another part of the world"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_line(asked, says):
    with pytest.raises(UsageError, match=says) as caught:
        Grid.cover((2.0, 42.0, 2.1, 42.1), **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("crs", ["EPSG:32630", "EPSG:32632", "EPSG:3857", "EPSG:3035", "EPSG:25831"])
def test_a_neighbouring_zone_or_a_wider_map_is_accepted(crs):
    assert Grid.cover((2.0, 42.0, 2.1, 42.1), crs=crs).crs == crs


def test_a_wide_box_that_reaches_a_zone_is_not_far_from_it():
    """Its centre lies 15 degrees from that of zone 31, its western edge inside the zone."""
    assert Grid.cover((5.0, 42.0, 31.0, 43.0), resolution_m=1000.0, crs="EPSG:32631").crs == "EPSG:32631"


def test_a_crs_across_the_antimeridian_is_accepted_on_both_sides():
    for west in (-176.6, 178.0):
        assert min(Grid.cover((west, -40.0, west + 0.1, -39.9), crs="EPSG:2193").shape) > 100


def test_more_pixels_than_one_run_can_hold_are_refused():
    with pytest.raises(UsageError, match="split the region"):
        Grid.cover((0.0, 40.0, 12.0, 50.0), resolution_m=1.0)


@pytest.mark.parametrize(
    "broken",
    [
        {"shape": (0, 5)},
        {"shape": (5, -1)},
        {"resolution": (0.0, 10.0)},
        {"resolution": (10.0, math.nan)},
        {"resolution": (math.inf, 10.0)},
        {"origin": (math.inf, 0.0)},
        {"origin": (0.0, math.nan)},
    ],
)
def test_a_grid_that_is_none_cannot_be_made(broken):
    with pytest.raises(UsageError):
        Grid(**{"crs": "EPSG:32631", "resolution": (10.0, 10.0), "origin": (0.0, 0.0), "shape": (5, 5), **broken})


def test_a_point_like_box_gives_one_pixel():
    assert Grid.cover((2.0, 42.0, 2.0 + 1e-9, 42.0 + 1e-9)).shape == (1, 1)


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [
        *((3.0, 50.0, 32631), (-180.0, 10.0, 32601), (179.99, 10.0, 32660), (5.99, -1.0, 32731), (6.01, 1.0, 32632)),
        (3.0, -0.0025, 32631),
    ],
)
def test_zones(lon, lat, code):
    assert utm_crs((lon, lat, lon + 0.005, lat + 0.005)) == f"EPSG:{code}"


def test_equal_grids_are_one_key():
    grid = Grid("EPSG:32631", (10.0, 10.0), (0.0, 0.0), (5, 5))
    assert len({grid, dataclasses.replace(grid), grid.zoom(2)}) == 2
    assert TilePlan(grid) == TilePlan(dataclasses.replace(grid))
