"""Radar: plots placed on the Earth by hand-made geometry, files of both forms, the harbour scenarios."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import course_deg, distance_km, turn_deg
from geodiff.vessels.radar import RadarSensor, plots_to_fixes
from geodiff.vessels.radar_autoferry import ORIGIN, read_autoferry, read_autoferry_truth
from geodiff.vessels.read import open_fixes, read_fixes
from geodiff.vessels.reading import FIX_SCHEMA

SENSOR = RadarSensor(10.39, 63.43)
NOON = datetime(2023, 8, 15, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("heading", [0.0, 37.0, 270.0, -90.0])
@pytest.mark.parametrize("bearing", [0.0, 45.0, 133.0, 359.0])
def test_a_plot_lies_at_its_range_and_bearing(heading: float, bearing: float) -> None:
    sensor = RadarSensor(10.39, 63.43, heading)
    lon, lat = sensor.from_polar(2_500.0, bearing)
    assert distance_km(10.39, 63.43, lon, lat) == pytest.approx(2.5, rel=1e-9)
    assert turn_deg(heading + bearing, course_deg(10.39, 63.43, lon, lat)) == pytest.approx(0.0, abs=1e-6)


def test_metres_and_polar_are_the_same_place() -> None:
    sensor = RadarSensor(-179.99, 10.0, 30.0)
    north, east = 1_200.0, -3_400.0
    polar = sensor.from_polar(np.hypot(north, east), np.degrees(np.arctan2(east, north)))
    assert np.allclose(sensor.from_metres(north, east), polar, atol=1e-12)
    assert polar[0] > 0  # beyond the date line


def test_frames_become_fixes_without_identity() -> None:
    frame = pl.DataFrame({"time": [NOON, NOON, None], "range_m": [100.0, None, 5.0], "bearing_deg": [90.0, 0.0, 0.0]})
    frame = frame.with_columns(pl.lit(10.0).alias("cog_deg"))
    fixes = plots_to_fixes(frame, RadarSensor(10.39, 63.43, 355.0))
    assert fixes.schema == FIX_SCHEMA
    assert fixes.height == 1
    row = fixes.row(0, named=True)
    assert (row["vessel_id"], row["source"], row["row"]) == (None, "radar", 1)
    assert row["cog_deg"] == 5.0  # courses turn with the radar
    north = plots_to_fixes(frame.with_columns(cog_deg=pl.lit(5 - 1e-6)), RadarSensor(10.39, 63.43, 355.0))
    assert north["cog_deg"].to_list() == [0.0]  # 360 in 32 bits, which is no course


def test_frames_say_what_they_lack() -> None:
    with pytest.raises(GeodiffError, match="north_m with east_m"):
        plots_to_fixes(pl.DataFrame({"time": [NOON], "north_m": [1.0]}), SENSOR)
    with pytest.raises(GeodiffError, match="times with a zone"):
        plots_to_fixes(pl.DataFrame({"time": [NOON.replace(tzinfo=None)], "north_m": [1.0], "east_m": [1.0]}), SENSOR)
    with pytest.raises(UsageError, match="lat 100"):
        RadarSensor(0.0, 100.0)


def test_canal_plots_start_at_a_local_time(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"file": ["2023-08-15-13-31-52"] * 2, "x": [1000.0, 0.0], "y": [0.0, 1000.0], "timestamp": [0, 61]}
    )
    frame.write_parquet(tmp_path / "plots")
    with pytest.raises(UsageError, match="position of the radar"):
        open_fixes(tmp_path / "plots")
    fixes, _ = read_fixes(tmp_path / "plots", sensor=SENSOR)
    assert fixes["time"].to_list() == [
        datetime(2023, 8, 15, 11, 31, 52, tzinfo=UTC),
        datetime(2023, 8, 15, 11, 32, 53, tzinfo=UTC),
    ]
    assert turn_deg([0, 90], course_deg(10.39, 63.43, fixes["lon_deg"], fixes["lat_deg"])) == pytest.approx(
        [0, 0], abs=1e-6
    )
    assert fixes["source"].unique().to_list() == ["radar"]
    assert fixes["vessel_id"].null_count() == 2


def test_canal_tracks_keep_their_identity_per_recording(tmp_path: Path) -> None:
    files = [f"rosbag_2023-08-15-13-33-{second}" for second in (24, 24, 25)]
    frame = pl.DataFrame({"file": files, "track": [0, 0, 0], "t": [0.5, 1.5, 0.5]})
    frame = frame.with_columns(c1_x=pl.lit(500.0), c2_y=pl.lit(0.0), c3=pl.lit(-90.0), c4=pl.lit(-3.0), c5=pl.lit(4.0))
    frame.write_parquet(tmp_path / "tracks")
    fixes, _ = read_fixes(tmp_path / "tracks", sensor=SENSOR)
    first, second, other = fixes["vessel_id"]
    assert first == second != other
    row = fixes.row(0, named=True)
    assert row["name"] == "rosbag_2023-08-15-13-33-24/0"
    assert (row["sog_kn"], row["cog_deg"]) == (pytest.approx(9.719, abs=1e-3), 270.0)
    assert course_deg(10.39, 63.43, row["lon_deg"], row["lat_deg"]) == pytest.approx(90.0)  # x is east here
    assert row["time"] == datetime(2023, 8, 15, 11, 33, 24, 500_000, tzinfo=UTC)


def test_polar_files_refuse_what_is_no_plot(tmp_path: Path) -> None:
    path = tmp_path / "plots.csv"
    rows = ["1000,45", "-5,45", "2000000,45", ",45", "far,45", "100,"]
    path.write_text("time,range_m,bearing_deg\n" + "".join(f"2023-08-15T12:00:00Z,{row}\n" for row in rows))
    fixes, counts = read_fixes(path, sensor=SENSOR)
    assert fixes["row"].to_list() == [2]
    assert counts.refused == {
        "range below zero": 1,
        "further than 1,000 km from the radar": 1,
        "range is not a number": 1,
        "position not available": 2,
    }


def test_speeds_and_courses_of_a_radar_are_no_codes_and_turn_with_its_axis(tmp_path: Path) -> None:
    path = tmp_path / "plots.csv"
    rows = ["1000,0,51.2,360.0", "1000,90,63.0,0", "0,1000,,", "500,500,5.5,123.4"]
    lines = [f"2023-08-15T12:00:0{second}Z,{row}\n" for second, row in enumerate(rows)]
    path.write_text("time,range_m,bearing_deg,sog_kn,cog_deg\n" + "".join(lines))
    fixes, counts = read_fixes(path, sensor=SENSOR)
    assert fixes["sog_kn"].to_list() == [pytest.approx(51.2), 63.0, None, 5.5]
    assert fixes["cog_deg"].to_list() == [0.0, 0.0, None, pytest.approx(123.4)]
    assert not counts.blanked
    turned, _ = read_fixes(path, sensor=replace(SENSOR, heading_deg=30.0))
    assert turned["cog_deg"].to_list() == [30.0, 30.0, None, pytest.approx(153.4)]
    to_place = course_deg(SENSOR.lon_deg, SENSOR.lat_deg, turned["lon_deg"][:2], turned["lat_deg"][:2])
    assert to_place == pytest.approx([30.0, 120.0])


def scenario(folder: Path, scans: object, name: str = "s_detections.json.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(json.dumps(scans).encode()))
    return path


def test_scenarios_add_the_place_of_the_own_ship(tmp_path: Path) -> None:
    scans = [
        {"sensorID": 4, "ownshipPosition": [0, 0], "time": 1.62e9, "measurement": [0.4, -2.1]},
        {
            "sensorID": 2,
            "ownshipPosition": [100.0, 0],
            "time": 1.62e9 + 0.25,
            "measurement": [[900.0, -100.0], [0, 300]],
        },
        {"sensorID": 2, "ownshipPosition": [0, 0], "time": 1.62e9 + 1, "measurement": []},
        {"sensorID": 1, "ownshipPosition": [0, -50.0], "time": 1.62e9 + 2, "measurement": [0.0, 150.0]},
    ]
    path = scenario(tmp_path, scans)
    plots = read_autoferry(path)
    assert plots.schema == FIX_SCHEMA
    assert plots["row"].to_list() == [2, 2]  # the scan
    assert plots["time"][0] == datetime.fromtimestamp(1.62e9 + 0.25, UTC)
    away = distance_km(ORIGIN.lon_deg, ORIGIN.lat_deg, plots["lon_deg"], plots["lat_deg"])
    assert away * 1000 == pytest.approx([1000, 300])
    lidar = read_autoferry(path, sensor="lidar")
    assert course_deg(ORIGIN.lon_deg, ORIGIN.lat_deg, lidar["lon_deg"], lidar["lat_deg"]) == pytest.approx([90.0])
    assert lidar["source"].to_list() == ["lidar"]


@pytest.mark.parametrize(
    "scans",
    [
        {},
        [1, 2],
        [{"sensorID": 2}],
        [{"sensorID": 2, "ownshipPosition": [0, 0], "time": 1.0, "measurement": [[1, 2], [1]]}],
        [{"sensorID": 2, "ownshipPosition": [0, 0], "time": "x", "measurement": [1, 2]}],
        [{"sensorID": 4, "ownshipPosition": [0, 0], "time": 1.0, "measurement": []}],
    ],
)
def test_what_is_no_scenario_is_refused(tmp_path: Path, scans: object) -> None:
    with pytest.raises(GeodiffError, match="detections"):
        read_autoferry(scenario(tmp_path, scans))


def test_a_cut_scenario_is_refused(tmp_path: Path) -> None:
    path = scenario(tmp_path, [{"a": list(range(1000))}])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(GeodiffError, match="cannot be read as JSON"):
        read_autoferry(path)


@pytest.mark.data
def test_radar_sees_the_targets_where_gps_has_them(geodiff_data: Path) -> None:
    folder = geodiff_data / "radar" / "autoferry" / "scenario2"
    plots = read_autoferry(folder / "scenario2_detections.json.gz")
    truth = read_autoferry_truth(folder / "scenario2_groundTruth.json.gz")
    assert set(truth["vessel_id"]) == {1, 2}
    near = []
    for target in (1, 2):
        track = truth.filter(pl.col("vessel_id") == target)
        seconds = track["time"].dt.timestamp("us").to_numpy() / 1e6
        at = plots["time"].dt.timestamp("us").to_numpy() / 1e6
        lon, lat = (np.interp(at, seconds, track[name].to_numpy()) for name in ("lon_deg", "lat_deg"))
        away = distance_km(lon, lat, plots["lon_deg"].to_numpy(), plots["lat_deg"].to_numpy()) * 1000
        best = plots.with_columns(pl.Series("away", away)).group_by("row").agg(pl.col("away").min())["away"]
        near.append(float((best < 25).mean()))  # type: ignore[arg-type]
    assert min(near) > 0.5  # most scans hold a plot within a ship's length of each target
