"""Tables of fixes to and from GeoPandas and MovingPandas, with what analysts have and with what is wrong."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pytest
import shapely

from geodiff.schema import GeodiffError
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.convert import from_geodataframe, from_trajectories, to_geodataframe, to_trajectories
from geodiff.vessels.reading import FIX_SCHEMA

TIMES = pd.to_datetime(["2024-05-01 12:00:00", "2024-05-01 12:01:00.250", "2024-05-01 12:02:00"], format="ISO8601")


def frame(crs: str | None = "EPSG:4326", **columns: object) -> gpd.GeoDataFrame:
    points = shapely.points([10.0, 10.1, 10.2], [50.0, 50.1, 50.2])
    return gpd.GeoDataFrame(columns, geometry=points, crs=crs, index=None if columns else range(3))


def judged(lat: float = 50.0, **columns: object) -> gpd.GeoDataFrame:
    """As cleaning leaves tracks."""
    points = shapely.points([10.0, 10.1, 10.2], [lat, 50.1, 50.2])
    return gpd.GeoDataFrame({"track_id": "a", "state": "observed", "time": TIMES, **columns}, geometry=points, crs=4326)


def fixes() -> pl.DataFrame:
    fleet = make_fleet(2, 4, 1.0, defects={}).fixes
    return fleet.with_columns(
        pl.format("{}/20220301T000000", "vessel_id").alias("track_id"), state=pl.lit("observed"), imo=pl.lit(9074729)
    )


def test_a_fleet_keeps_its_table() -> None:
    table = fixes()
    made = to_geodataframe(table)
    assert made.crs.to_epsg() == 4326
    assert "lon_deg" not in made.columns  # the geometry is the place
    assert made["vessel_id"].dtype == pd.Int64Dtype()
    assert str(made["time"].dtype) == "datetime64[us, UTC]"
    back = from_geodataframe(made)
    assert back.select(table.columns).equals(table)
    assert pl.Schema(dict(list(back.schema.items())[: len(FIX_SCHEMA)])) == FIX_SCHEMA


def test_names_of_others_and_an_index_of_times() -> None:
    given = frame(MMSI=[366000001.0, np.nan, 366000003.0], SOG=["1.5", None, "3"], note=["a", "b", None]).set_index(
        TIMES
    )
    table = from_geodataframe(given, {"vessel_id": "MMSI", "sog_kn": "SOG"})
    assert table["vessel_id"].to_list() == [366000001, None, 366000003]
    assert table["sog_kn"].to_list() == [1.5, None, 3.0]
    assert table["time"][1] == datetime(2024, 5, 1, 12, 1, 0, 250000, tzinfo=UTC)
    assert table["note"].to_list() == ["a", "b", None]
    assert table["row"].to_list() == [1, 2, 3]
    assert table["source"].to_list() == ["geodataframe"] * 3
    assert table["heading_deg"].null_count() == 3
    assert table.columns[-1] == "note"
    by_vessel = frame(MMSI=[366000001, 366000002, 366000003], time=TIMES).set_index("MMSI")
    assert from_geodataframe(by_vessel, {"vessel_id": "MMSI"})["vessel_id"].to_list() == [
        366000001,
        366000002,
        366000003,
    ]
    by_name = given.rename_axis("when")
    assert from_geodataframe(by_name, {"time": "when", "vessel_id": "MMSI"})["time"].equals(table["time"])


@pytest.mark.parametrize(
    ("times", "zone", "first"),
    [
        (TIMES, "UTC", 12),
        (TIMES, "Europe/Oslo", 10),
        (TIMES.tz_localize("America/New_York"), "UTC", 16),
        (["2024-05-01T12:00:00Z", "2024-05-01T12:01:00Z", "2024-05-01T12:02:00.5Z"], "Europe/Oslo", 12),
        (["2024-05-01T12:00:00", "2024-05-01 12:01", "2024-05-01T12:02:00"], "UTC", 12),
        (["2024-05-01T14:00:00+02:00", "2024-05-01T12:01:00Z", "2024-05-01T07:02:00.5-05:00"], "Europe/Oslo", 12),
        (["2024-05-01 14:00", "2024-05-02", "2024-05-03"], "Europe/Oslo", 12),
    ],
)
def test_times_with_and_without_a_zone_are_utc(times: object, zone: str, first: int) -> None:
    table = from_geodataframe(frame(when=times), {"time": "when"}, time_zone=zone)
    assert table["time"].dtype == pl.Datetime("us", "UTC")
    assert table["time"][0] == datetime(2024, 5, 1, first, tzinfo=UTC)


def test_a_time_that_the_clocks_skip_or_repeat_is_none_and_the_others_stay() -> None:
    for skipped in ("2024-03-31 02:30", "2024-10-27 02:30"):
        given = frame(when=pd.DatetimeIndex(["2024-01-01 12:00", skipped, "2024-12-01 12:00"]))
        table = from_geodataframe(given, {"time": "when"}, time_zone="Europe/Oslo")
        assert [time and time.hour for time in table["time"]] == [11, None, 11]


def test_other_crs_and_other_longitudes_come_home() -> None:
    utm = frame(time=TIMES).to_crs("EPSG:32632")
    table = from_geodataframe(utm)
    np.testing.assert_allclose(table["lon_deg"], [10.0, 10.1, 10.2], atol=1e-9)
    pacific = gpd.GeoDataFrame({"time": TIMES}, geometry=gpd.points_from_xy([179.5, 180.0, 190.0], [0, 1, 2]), crs=4326)
    assert from_geodataframe(pacific)["lon_deg"].to_list() == [179.5, 180.0, -170.0]


def test_missing_and_empty_points_have_no_position() -> None:
    points = [shapely.Point(1, 2), None, shapely.Point()]
    table = from_geodataframe(gpd.GeoDataFrame({"time": TIMES}, geometry=points, crs=4326))
    assert table["lon_deg"].to_list() == [1.0, None, None]
    assert table["lat_deg"].to_list() == [2.0, None, None]


def test_what_transponders_send_for_not_available_is_missing() -> None:
    codes = {"sog_kn": 102.3, "cog_deg": 360.0, "heading_deg": 511, "rot_deg_min": -128, "nav_status": 15}
    codes |= {"ship_type": 0, "length_m": 0.0}
    table = from_geodataframe(frame(time=TIMES, **{name: [code] * 3 for name, code in codes.items()}))
    assert {name: table[name].null_count() for name in codes} == dict.fromkeys(codes, 3)
    assert table["lon_deg"].null_count() == 0
    # Judged tables are taken as they stand.
    assert from_geodataframe(judged(sog_kn=[63.0, 1.0, 2.0]))["sog_kn"].to_list() == [63.0, 1.0, 2.0]


def test_codes_may_be_words() -> None:
    words = frame(time=TIMES, kind=pd.Categorical(["Cargo", None, "Tug"]), status=["Moored", "At anchor", ""])
    table = from_geodataframe(words, {"ship_type": "kind", "nav_status": "status"})
    assert table["ship_type"].to_list() == [70, None, 52]
    assert table["nav_status"].to_list() == [5, 1, None]
    assert table.columns[:10] == list(FIX_SCHEMA)[:10]


def test_identities_may_be_texts_of_any_kind() -> None:
    texts = ["366000001", None, "366000002"]
    for column in (texts, pd.Categorical(texts), pd.Series(texts, dtype="string").to_list()):
        table = from_geodataframe(frame(time=TIMES, MMSI=column), {"vessel_id": "MMSI"})
        assert table["vessel_id"].to_list() == [366000001, None, 366000002]


def test_rows_that_are_no_fixes_lose_their_position_and_are_told() -> None:
    times = pd.date_range("2024-05-01", periods=8, freq="1min").to_series(index=range(8))
    times[7] = pd.Timestamp("1970-01-01")
    lon, lat = [10.0, 181.0, 181.0, 10.0, 0.0, 10.3, 10.4, 10.5], [50.0, 91.0, 29.0, 95.0, 0.0, 50.0, 50.0, 50.0]
    speed, course = [1.0, 1.0, 1.0, 1.0, 1.0, -5.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -90.0, 1.0]
    columns = {"time": times, "sog_kn": speed, "cog_deg": course, "heading_deg": [400.0] + [5.0] * 7}
    given = gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(lon, lat), crs=4326)
    told = r"latitude out of range 1 \(row 4\).*speed out of range 1 \(row 6\).*dropped: heading undefined 1 \(row 1\)"
    with pytest.warns(UserWarning, match=told):
        table = from_geodataframe(given)
    assert table["lon_deg"].to_list() == [10.0] + [None] * 7
    assert table["lat_deg"].null_count() == 7
    assert table["heading_deg"].null_count() == 1


def test_identities_that_name_nobody_are_dropped_and_told() -> None:
    given = frame(time=TIMES, vessel_id=[0, -5, 366000001])
    with pytest.warns(UserWarning, match="vessel_id of 0 or less names nobody and is dropped: rows 2"):
        table = from_geodataframe(given)
    assert table["vessel_id"].to_list() == [None, None, 366000001]
    # What was generated has ids below 0.
    assert from_geodataframe(judged(vessel_id=[-2, -3, 366000001]))["vessel_id"].to_list() == [-2, -3, 366000001]


def test_numbers_and_texts_are_read_as_sources_write_them() -> None:
    texts = {"imo": ["IMO9074729", "IMO0000000", ""], "vessel_id": ["366000001 ", "366000002.0", ""]}
    table = from_geodataframe(frame(time=TIMES, **texts, sog_kn=[" 1.5", "", "3"], name=[1.5, 2.0, None]))
    assert table["imo"].to_list() == [9074729, None, None]
    assert table["vessel_id"].to_list() == [366000001, 366000002, None]
    assert table["sog_kn"].to_list() == [1.5, None, 3.0]
    assert table["name"].to_list() == ["1.5", "2.0", None]
    whole = from_geodataframe(frame(time=TIMES, imo=[9074729.0, None, 0.0], name=[1.0, 2.0, None]))
    assert whole["imo"].to_list() == [9074729, None, None]
    assert whole["name"].to_list() == ["1", "2", None]


def test_a_point_at_infinity_has_no_position() -> None:
    endless = frame(time=TIMES).set_geometry(gpd.points_from_xy([10.0, np.inf, 190.0], [50.0, 50.0, 50.0]), crs=4326)
    with pytest.warns(UserWarning, match=r"rows that are no fixes lose their position.*\(row 2\)") as told:
        table = from_geodataframe(endless)
    assert table["lon_deg"].to_list() == [10.0, None, -170.0]
    assert len(told) == 1  # and none of numpy's


def test_names_may_be_swapped_and_shifted() -> None:
    given = frame(time=TIMES, sog_kn=[90.0] * 3, cog_deg=[10.0] * 3, vessel_id=["QUEEN"] * 3, MMSI=[366000001] * 3)
    names = {"sog_kn": "cog_deg", "cog_deg": "sog_kn", "name": "vessel_id", "vessel_id": "MMSI"}
    table = from_geodataframe(given, names)
    assert table.select("sog_kn", "cog_deg", "name", "vessel_id").row(0) == (10.0, 90.0, "QUEEN", 366000001)


@pytest.mark.parametrize(
    ("given", "columns", "message"),
    [
        (frame(time=TIMES, crs=None), {}, "no coordinate reference system"),
        (frame(when=TIMES), {}, "has no times: name their column"),
        (frame(time=[1.0, 2.0, 3.0]), {}, "numbers, whose unit is not known"),
        (frame(time=["noon", "one", "two"]), {}, "times of the GeoDataFrame cannot be read"),
        (frame(time=["2024-05-01T12:00Z", "2024-05-01T12:01", "2024-05-01T12:02"]), {}, "offset from UTC, and some do"),
        (frame(time=TIMES), {"vessel_id": "mmsi"}, "no column 'mmsi'; it has time, geometry"),
        (frame(time=TIMES, MMSI=["a", "b", "c"]), {"vessel_id": "MMSI"}, "'vessel_id' .* cannot be read as Int64"),
        (frame(time=TIMES, MMSI=[1.5, 2, 3]), {"vessel_id": "MMSI"}, "not whole numbers"),
        (frame(time=TIMES, nav_status=[1, "a", {}]), {}, "'nav_status' .* cannot be read"),
        (frame(time=TIMES, mix=[1, "a", 2.5]), {}, "'mix' .* cannot be read: .* drop or convert it"),
        (frame(time=TIMES, field=[1j, 2j, 3j]), {}, "'field' .* cannot be read: it holds complex128, .* drop or conv"),
        (frame(time=TIMES, near=gpd.GeoSeries([shapely.Point(0, 0)] * 3)), {}, "'near' .* it holds geometry"),
        (frame(time=TIMES, MMSI=[1] * 3), {"vessel_id": "MMSI", "name": "MMSI"}, "cannot be both vessel_id and name"),
        (frame(time=TIMES, MMSI=[1] * 3), {"vesel_id": "MMSI"}, "'vesel_id' is no name of ours: is 'vessel_id' meant"),
        (judged(nav_status=[1, 2, 999]), {}, "'nav_status' .* cannot be read as Int8"),
        (judged(lat=91.0), {}, "1 points are no longitude and latitude, the first 10, 91 in row 1"),
        (
            frame(time=TIMES).set_geometry(gpd.GeoSeries([shapely.box(0, 0, 1, 1)] * 3, crs=4326)),
            {},
            "row 1 of the GeoDataFrame is a Polygon",
        ),
        (frame(time=TIMES).to_crs(3857).set_crs(4326, allow_override=True), {}, "in row 1: is the CRS right"),
    ],
)
def test_what_is_wrong_is_said(given: gpd.GeoDataFrame, columns: dict[str, str], message: str) -> None:
    with pytest.raises(GeodiffError, match=message):
        from_geodataframe(given, columns)


def test_a_fleet_makes_trajectories_and_comes_back() -> None:
    pytest.importorskip("movingpandas")
    table = fixes().sort("track_id", "time")
    collection = to_trajectories(to_geodataframe(table))
    assert sorted(one.id for one in collection.trajectories) == sorted(table["track_id"].unique())
    first = collection.trajectories[0]
    assert first.df.index.tz is None
    assert first.df.index[0] == table["time"][0].replace(tzinfo=None)
    assert first.get_length() > 0
    first.add_speed()  # what people want it for
    collection = to_trajectories(table)
    assert from_trajectories(collection).select(table.columns).sort("track_id", "time").equals(table)


def test_what_movingpandas_cannot_hold_is_said() -> None:
    pytest.importorskip("movingpandas")
    table = fixes().sort("track_id", "time")
    table = table.filter(pl.col("track_id") == table["track_id"][0]).head(6)
    odd = table.with_columns(
        state=pl.Series(["observed"] * 5 + ["rejected"]),
        track_id=pl.Series(["a", "a", "a", "a", "b", "a"]),
        time=pl.Series([table["time"][0] + timedelta(minutes=m) for m in (0, 0, 1, 2, 3, 4)]),
    )
    with pytest.warns(UserWarning, match=r"cannot hold 3 fixes: 1 rejected, .*; 1 at the time .*; 1 alone in their"):
        collection = to_trajectories(odd)
    assert len(collection.trajectories[0].df) == 3
    with pytest.raises(GeodiffError, match="no track has two fixes"):
        to_trajectories(odd.head(1))
    with pytest.raises(GeodiffError, match="no column track_id"):
        to_trajectories(odd.drop("track_id"))


def test_without_movingpandas_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "movingpandas", None)
    with pytest.raises(GeodiffError, match=r"pip install 'geodiff\[tracks\]'"):
        to_trajectories(fixes())
