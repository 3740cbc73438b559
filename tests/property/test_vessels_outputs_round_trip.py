"""What is written comes back: through GeoParquet, Zarr, GeoPandas and MovingPandas; and shapes on a round earth."""

from __future__ import annotations

import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.outputs.track_columns import MEMBERS, TYPES, conform, merged_schema, standard_frame
from geodiff.outputs.track_geometry import covered_ground, span_longitudes, track_lines, unwrap
from geodiff.outputs.track_simplify import mercator_latitude, mercator_y, significance_km
from geodiff.outputs.track_store import TrackStore
from geodiff.outputs.track_zarr import iter_track_zarr, read_track_zarr, write_track_zarr
from geodiff.sphere import KM_PER_DEG, distance_km, wrap_longitude
from geodiff.tracks import STATES
from geodiff.vessels.convert import from_geodataframe, from_trajectories, to_geodataframe, to_trajectories

TEXTS = np.array(
    [None, "EVER GIVEN", "船 Ünï", "</script>", "a\u2028b", " ", "NaN", "null", "'; --", "\U0001f6a2"], object
)
OWNERS = np.array([None, "1/20200101T000000", "2/20200101T000000b", "3"], object)


@st.composite
def tables(draw: st.DrawFn, *, members: bool = True, min_size: int = 0) -> pl.DataFrame:
    """Tables of fixes of up to three tracks: nulls, any text, near 180° or elsewhere, a single fix, none.

    The values come from one drawn seed, so that examples stay small.
    """
    rows = draw(st.integers(min_size, 12))
    base = draw(st.sampled_from([0.0, 179.9, -75.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def with_gaps(values: np.ndarray) -> list[object]:
        lost = rng.uniform(size=rows) < 0.2
        return [None if gone else value for gone, value in zip(lost, values.tolist(), strict=True)]

    data = {
        "track_id": rng.choice(OWNERS, rows).tolist(),
        "state": rng.choice(STATES, rows).tolist(),
        "time": pl.Series(rng.choice(10**13, rows, replace=False), dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        "lon_deg": with_gaps(wrap_longitude(base + rng.uniform(-1, 1, rows))),
        "lat_deg": with_gaps(rng.uniform(-90, 90, rows)),
        "sog_kn": with_gaps(rng.uniform(0, 102, rows).astype(np.float32)),
        "vessel_id": with_gaps(rng.integers(-(2**40), 2**62, rows)),
        "nav_status": with_gaps(rng.integers(0, 15, rows)),
        "ship_type": with_gaps(rng.integers(1, 100, rows)),
        "row": with_gaps(rng.integers(0, 2**40, rows)),
        **{name: rng.choice(TEXTS, rows).tolist() for name in ("reason", "source", "name")},
    }
    frame = pl.DataFrame(data, schema={name: TYPES[name] for name in data}).with_columns(
        pl.Series("p_value", with_gaps(rng.uniform(size=rows)), pl.Float64),
        pl.Series("flag", with_gaps(rng.uniform(size=rows) < 0.5), pl.Boolean),
    )
    if members and draw(st.booleans()):
        for name in MEMBERS:
            values = with_gaps(rng.uniform(-180, 180, (rows, 3)))
            frame = frame.with_columns(pl.Series(name, values, pl.Array(pl.Float64, 3)))
    return frame


def assert_same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    """Equal tables, members to the centimetre."""
    assert found.schema == wanted.schema
    rest = [name for name in wanted.columns if name not in MEMBERS]
    assert found.select(rest).equals(wanted.select(rest))
    for name in set(MEMBERS) & set(wanted.columns):
        assert found[name].is_null().equals(wanted[name].is_null())
        pairs = (
            frame[name].drop_nulls().explode(empty_as_null=True).drop_nulls().to_numpy() for frame in (found, wanted)
        )
        np.testing.assert_allclose(*pairs, atol=1e-7)


@settings(max_examples=10, deadline=None)
@given(tables())
def test_a_zarr_store_gives_the_table_back(table: pl.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_track_zarr(table, Path(folder) / "t.zarr")
        wanted = standard_frame(table)
        assert_same(read_track_zarr(path), wanted)
        pieces = list(iter_track_zarr(path, rows=1))
        assert_same(pl.concat(pieces), wanted)
        assert all(piece["track_id"].n_unique() <= 1 for piece in pieces)


@settings(max_examples=6, deadline=None)
@given(st.lists(tables(), max_size=2), st.booleans())
def test_the_files_of_a_run_hold_all_parts_in_order_whoever_wrote_them_when(
    parts: list[pl.DataFrame], backwards: bool
) -> None:
    # A track lies in one part only.
    parts = [
        part.with_columns((pl.lit(f"{number}:") + pl.col("track_id")).alias("track_id"))
        for number, part in enumerate(parts)
    ]
    names = [f"part-{number}" for number in range(len(parts))]
    wanted = [standard_frame(part) for part in parts]
    schema = merged_schema({name: part.schema for name, part in zip(names, wanted, strict=True)})
    with tempfile.TemporaryDirectory() as folder:
        store = TrackStore(Path(folder), "run")
        store.open()
        order = zip(names, parts, strict=True)
        for name, part in reversed(list(order)) if backwards else order:
            store.write_part(name, part)
        store.finalize(names)
        found = gpd.read_parquet(store.fixes_path)
        assert found.crs.to_epsg() == 4326
        assert len(found) == sum(map(len, parts))
        if parts:
            whole = pl.concat([conform(part, schema) for part in wanted])
            plain = whole.drop(MEMBERS, strict=False)
            back = pl.read_parquet(store.fixes_path).drop("geometry")
            assert back.equals(plain)
            assert (
                shapely.is_missing(found.geometry.values).tolist()
                == (plain["lon_deg"].is_null() | plain["lat_deg"].is_null()).to_list()
            )
            tracked = pl.col("track_id").is_not_null()
            assert_same(read_track_zarr(store.zarr_path), pl.concat([whole.filter(tracked), whole.filter(~tracked)]))
        assert len(gpd.read_parquet(store.tracks_path)) == sum(p["track_id"].drop_nulls().n_unique() for p in parts)


@settings(max_examples=40, deadline=None)
@given(tables(members=False))
def test_a_geodataframe_keeps_every_column(table: pl.DataFrame) -> None:
    # A point has both coordinates or none.
    lost = pl.col("lon_deg").is_null() | pl.col("lat_deg").is_null()
    table = table.with_columns(pl.when(~lost).then(pl.col(name)).alias(name) for name in ("lon_deg", "lat_deg"))
    back = from_geodataframe(to_geodataframe(table))
    assert set(table.columns) <= set(back.columns)
    assert back.select(table.columns).schema == table.schema
    assert back.select(table.columns).equals(table)


@settings(max_examples=15, deadline=None)
@given(tables(members=False, min_size=2))
def test_trajectories_keep_what_they_can_hold_and_say_what_not(table: pl.DataFrame) -> None:
    pytest.importorskip("movingpandas")
    good = table.filter(
        pl.col("track_id").is_not_null()
        & pl.col("lon_deg").is_not_null()
        & pl.col("lat_deg").is_not_null()
        & (pl.col("state") != "rejected")
    )
    held = good.filter(pl.len().over("track_id") > 1).sort("track_id", "time")
    if not len(held):
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        collection = to_trajectories(table)
    assert len(collection.trajectories) == held["track_id"].n_unique()
    lost = len(table) - len(held)
    assert (f"cannot hold {lost} fixes" in "".join(str(one.message) for one in told)) == (lost > 0)
    back = from_trajectories(collection).select(table.columns).sort("track_id", "time")
    assert back.equals(held)


PATHS = st.lists(st.tuples(st.floats(-60, 60), st.floats(-3, 3), st.integers(0, 3)), min_size=1, max_size=25).map(
    lambda steps: [
        (float(wrap_longitude(170 + np.sum([s[0] for s in steps[: i + 1]]))), s[1], s[2]) for i, s in enumerate(steps)
    ]
)


@settings(max_examples=80, deadline=None)
@given(PATHS)
def test_lines_are_valid_cut_at_180_and_as_long_as_the_track(path: list[tuple[float, float, int]]) -> None:
    path = sorted(path, key=lambda point: point[2])
    lon, lat = (np.array([point[i] for point in path]) for i in (0, 1))
    _, track = np.unique([point[2] for point in path], return_inverse=True)
    lines = track_lines(lon, lat, track.astype(np.int64))
    assert len(lines) == track.max() + 1
    for number, line in enumerate(lines):
        own = track == number
        assert line.is_valid
        bounds = line.bounds
        assert -180 <= bounds[0] <= bounds[2] <= 180
        straight = unwrap(lon[own], track[own])
        assert line.length == pytest.approx(np.hypot(np.diff(straight), np.diff(lat[own])).sum(), abs=1e-9)
        for part in shapely.get_parts(line):
            steps = np.abs(np.diff(shapely.get_coordinates(part)[:, 0]))
            assert (steps <= 180).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(1, 100)), min_size=1, max_size=8))
def test_the_span_of_arcs_holds_them_all_and_no_more_than_needed(arcs: list[tuple[float, float]]) -> None:
    west = np.array([a for a, _ in arcs])
    east = np.array([b if b <= 180 else b - 360 for b in (a + length for a, length in arcs)])
    left, right = span_longitudes(west, east)
    width = right - left if right >= left else right - left + 360
    grid = np.arange(0, 360, 0.5) - 180 + 0.25
    covered = np.zeros(grid.size, bool)
    for a, length in arcs:
        covered |= (grid - a) % 360 <= length
    inside = (grid - left) % 360 <= width + 1e-9
    assert inside[covered].all()
    # No gap wider than what is left outside.
    gap = longest = 0
    for value in np.tile(covered, 2):
        gap = 0 if value else gap + 1
        longest = max(longest, min(gap, grid.size))
    assert 360 - width >= 0.5 * (longest - 2)


def degrees(low: int, high: int) -> st.SearchStrategy[float]:
    """Whole multiples of 1e-7 degrees, a centimetre: GEOS cannot measure to a line of 1e-242 degrees."""
    return st.integers(low * 10**7, high * 10**7).map(lambda value: value / 1e7)


@given(st.lists(st.tuples(degrees(175, 185), degrees(-20, 20)), min_size=1, max_size=12))
def test_the_ground_covered_holds_every_point(points: list[tuple[float, float]]) -> None:
    lon, lat = wrap_longitude([p[0] for p in points]), np.array([p[1] for p in points])
    geometry, (west, south, east, north) = covered_ground(np.asarray(shapely.points(lon, lat), dtype=object))
    hull = shapely.geometry.shape(geometry)
    assert hull.is_valid
    rings = [part.exterior for part in getattr(hull, "geoms", [hull]) if part.geom_type == "Polygon"]
    assert all(ring.is_ccw for ring in rings)
    assert (shapely.distance(shapely.points(lon, lat), hull) < 1e-6).all()
    assert south <= lat.min()
    assert lat.max() <= north
    width = (east - west) % 360
    assert width <= 10.0 + 1e-9
    assert ((lon - west) % 360 <= width + 1e-9).all() or width == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02), st.integers(0, 60)), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.3, 1.0]),
)
def test_what_is_left_out_lies_within_the_tolerance_at_its_time(
    steps: list[tuple[float, float, int]], tolerance: float
) -> None:
    x, lat = 170 + np.cumsum([s[0] for s in steps]), 60 + np.cumsum([s[1] for s in steps])
    time = np.cumsum([s[2] + 1.0 for s in steps])
    y = mercator_y(lat)
    np.testing.assert_allclose(mercator_latitude(y), lat, atol=1e-9)
    weight = significance_km(x, y, time, np.zeros(x.size, np.int64), floor_km=0.01)
    kept = weight > tolerance
    assert kept[0]
    assert kept[-1]
    shown_x, shown_y = (np.interp(time, time[kept], values[kept]) for values in (x, y))
    off = np.hypot(shown_x - x, shown_y - y) * KM_PER_DEG * np.cos(np.radians(lat))
    assert off.max() <= tolerance + 1e-9
    truth = distance_km(shown_x, mercator_latitude(shown_y), x, lat)
    np.testing.assert_allclose(off, truth, rtol=0.05, atol=1e-6)


def test_times_of_the_table_are_utc() -> None:
    table = standard_frame(
        pl.DataFrame(
            {"track_id": ["a"], "state": ["observed"], "lon_deg": [1.0], "lat_deg": [2.0]},
        ).with_columns(time=pl.lit(datetime(2020, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")))
    )
    assert to_geodataframe(table)["time"].dt.tz is not None
