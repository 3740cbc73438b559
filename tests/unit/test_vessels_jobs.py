"""Jobs over tracks: what counts as a gap, what is asked, what is told of others, and where tasks run."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pyproj
import pytest
import shapely
from polars.testing import assert_frame_equal

import geodiff
from geodiff.outputs.track_columns import ellipse_columns, quantile_columns
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import KM_PER_DEG, KM_PER_NMI, distance_km, move
from geodiff.tasks import vessels_answers
from geodiff.tasks.vessels_answers import _motion
from geodiff.tasks.vessels_coast import Coast, avoid_land
from geodiff.tasks.vessels_context import (
    STILL_STEP_S,
    history_of,
    open_traffic,
    past_of,
    store_traffic,
    traffic_of,
    usual_of,
)
from geodiff.tasks.vessels_forecast import forecast_tracks, known_by
from geodiff.tasks.vessels_gaps import AWAY, Sent, find_gaps, gap_question, lies_still, on_grid, usual_s
from geodiff.tasks.vessels_impute import impute_tracks
from geodiff.tasks.vessels_inputs import find_inputs
from geodiff.tasks.vessels_own import OwnReader
from geodiff.tasks.vessels_plan import Paths, _digest, _run_id
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_publish import add
from geodiff.tasks.vessels_region import elsewhere, taken_fixes
from geodiff.tasks.vessels_score import fold_of
from geodiff.tasks.vessels_settings import CleanSettings, ForecastSettings, GenerateSettings, ImputeSettings
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import TrackAnswer, TrackQuery
from geodiff.vessels.baselines import DeadReckoning, Hermite
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.convert import to_geodataframe
from geodiff.vessels.kalman import Kalman
from geodiff.vessels.reading import FIX_SCHEMA
from geodiff.vessels.usual_rules import Usual

START = datetime(2021, 5, 1, tzinfo=UTC)


def run(minutes, *, vessel=219_000_001, lon=-30.0, lat=40.0, course=60.0, speed=12.0, ship=70):
    """Fixes of a straight run at some minutes after the start."""
    minutes = np.asarray(minutes, float)
    lons, lats = move(lon, lat, course, speed * 1.852 * minutes / 60)
    count = len(minutes)
    table = {
        "vessel_id": [vessel] * count,
        "time": [START + timedelta(minutes=float(m)) for m in minutes],
        "lon_deg": lons,
        "lat_deg": lats,
        "sog_kn": [speed] * count,
        "cog_deg": [course] * count,
        "ship_type": [ship] * count,
        "source": ["made"] * count,
        "row": np.arange(1, count + 1),
    }
    frame = pl.DataFrame(table)
    lost = [pl.lit(None, kind).alias(name) for name, kind in FIX_SCHEMA.items() if name not in table]
    return frame.with_columns(lost).select(pl.col(name).cast(kind) for name, kind in FIX_SCHEMA.items())


def gap_run(gap_minutes, **options):
    return run([*range(30), *(29 + gap_minutes + np.arange(30))], **options)


SETTINGS = ImputeSettings(model="kalman", ensemble=8)


def test_a_gap_is_filled_on_the_grid_and_observed_fixes_stay():
    cleaned = clean_fixes(gap_run(47))
    table, counts = impute_tracks(cleaned, Hermite(), SETTINGS)
    filled = table.filter(pl.col("state") == "imputed")
    assert counts["gaps: filled"] == 1
    assert counts["imputed fixes"] == len(filled) == 10
    assert filled["time"].dt.minute().to_list() == [30, 35, 40, 45, 50, 55, 0, 5, 10, 15]
    assert filled["row"].null_count() == filled["reason"].null_count() == len(filled)
    assert filled["source"].unique().to_list() == ["hermite"]
    assert_frame_equal(table.filter(pl.col("state") != "imputed"), cleaned)
    truth = move(-30.0, 40.0, 60.0, 12 * 1.852 * (filled["time"] - START).dt.total_seconds().to_numpy() / 3600)
    assert distance_km(filled["lon_deg"], filled["lat_deg"], *truth).max() < 0.05
    np.testing.assert_allclose(filled["sog_kn"], 12.0, atol=0.1)
    np.testing.assert_allclose(filled["cog_deg"], 60.0, atol=2.0)


def test_what_is_made_keeps_what_lasts_and_nothing_that_a_fix_measured():
    extra = {"name": "QUEEN", "anomalous": True, "p_value": 0.001, "LAT": 12.5, "heading_deg": 5.0}
    cleaned = clean_fixes(gap_run(47)).with_columns(pl.lit(value).alias(name) for name, value in extra.items())
    filled = impute_tracks(cleaned, Hermite(), SETTINGS)[0].filter(pl.col("state") == "imputed")
    later = forecast_tracks(cleaned, DeadReckoning(), ForecastSettings(hours=1.0))[0].filter(state="forecast")
    for made in (filled, later):
        assert made["name"].unique().to_list() == ["QUEEN"]
        assert made["ship_type"].unique().to_list() == [70]
        assert made.select("anomalous", "p_value", "LAT", "heading_deg").null_count().row(0) == (len(made),) * 4
        assert made.schema["anomalous"] == pl.Boolean


def test_an_ensemble_gives_quantiles_in_order_and_regions():
    table, _ = impute_tracks(clean_fixes(gap_run(120)), Kalman(), SETTINGS)
    filled = table.filter(pl.col("state") == "imputed")
    south = filled.select(quantile_columns()[4:]).to_numpy()
    assert (np.diff(south, axis=1) > 0).all()
    for level in Kalman().levels:
        major, minor, _ = ellipse_columns(level)
        assert (filled[major] >= filled[minor]).all()
    observed = table.filter(pl.col("state") == "observed")
    assert observed.select(pl.all_horizontal(pl.col(quantile_columns()).is_null()).all()).item()


def test_members_are_kept_only_where_they_are_asked_for():
    cleaned = clean_fixes(gap_run(120))
    plain, _ = impute_tracks(cleaned, Kalman(), SETTINGS)
    kept, _ = impute_tracks(cleaned, Kalman(), SETTINGS.model_copy(update={"members": True}))
    assert "member_lon_deg" not in plain.columns
    assert kept.schema["member_lon_deg"] == pl.Array(pl.Float64, 8)
    assert_frame_equal(kept.select(plain.columns), plain)


class Weighed(Kalman):
    """Notes how many positions of members it is asked for at once."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def predict(self, queries, *, members, seed):
        self.asked.append(sum(len(query.ask_s) for query in queries) * members)
        return super().predict(queries, members=members, seed=seed)


def test_members_drawn_at_once_are_bounded_by_times_and_members(monkeypatch):
    fleet = [gap_run(gap, vessel=219_000_001 + gap) for gap in (60, 61, 200, 400, 62, 63)]
    cleaned = clean_fixes(pl.concat(fleet))
    whole, _ = impute_tracks(cleaned, Kalman(), SETTINGS)
    monkeypatch.setattr(vessels_answers, "POSITIONS", 40 * SETTINGS.ensemble)
    model = Weighed()
    parts, _ = impute_tracks(cleaned, model, SETTINGS)
    assert_frame_equal(parts, whole)
    # By vessel four gaps of 12 times, one of 40 and one of 80, more or less: what is too large is asked alone.
    assert [round(asked / SETTINGS.ensemble, -1) for asked in model.asked] == [40, 10, 40, 80]


def test_what_is_drawn_again_for_land_counts_too(coast, monkeypatch):
    fleet = [run(range(30), vessel=219_000_001 + k, lon=-1.0 + k / 100) for k in range(3)]
    settings = ForecastSettings(model="kalman", ensemble=8, hours=3)
    cleaned = clean_fixes(pl.concat(fleet))
    monkeypatch.setattr(vessels_answers, "POSITIONS", 5 * 36 * 8)
    model = Weighed()
    forecast_tracks(cleaned, model, settings, coast=coast)
    assert model.asked.count(36 * 8) == 3


def test_a_gap_between_two_tracks_of_a_vessel_is_filled_and_belongs_to_the_first():
    cleaned = clean_fixes(gap_run(180))
    assert cleaned["track_id"].n_unique() == 2
    table, counts = impute_tracks(cleaned, Hermite(), SETTINGS)
    filled = table.filter(pl.col("state") == "imputed")
    assert counts["gaps: filled"] == 1
    assert filled["track_id"].unique().to_list() == [cleaned["track_id"][0]]


@pytest.mark.parametrize(
    ("minutes", "speed", "kind"),
    [(120, 0.0, "gaps: moored"), (30 * 60, 12.0, "gaps: too long"), (120, 12.0, "gaps: filled")],
)
def test_every_gap_is_of_one_kind(minutes, speed, kind):
    table, counts = impute_tracks(clean_fixes(gap_run(minutes, speed=speed)), Hermite(), SETTINGS)
    assert counts["gaps"] == counts[kind] == 1
    assert ("imputed" in table["state"].to_list()) == (kind == "gaps: filled")


def test_a_gap_that_no_vessel_could_make_is_not_filled():
    before, after = run(range(30)), run(np.arange(30) + 90, lon=-20.0)
    sent = Sent.of(
        pl.concat([before, after]).with_columns(
            pl.lit("1/a").alias("track_id"), pl.lit("observed").alias("state"), pl.lit(None, pl.String).alias("reason")
        )
    )
    gaps = find_gaps(sent, step_s=300, longest_s=86_400, fleet_s=60.0)
    assert gaps.counts()["gaps: too fast"] == 1
    assert len(gaps.filled) == 0


def test_a_search_and_rescue_aircraft_may_go_faster_than_ships():
    flown = clean_fixes(run(np.r_[0:30, 50:80], vessel=111_232_501, speed=120.0))
    gaps = find_gaps(Sent.of(flown), step_s=300, longest_s=86_400, fleet_s=60.0)
    assert (gaps.counts()["gaps: too fast"], len(gaps.filled)) == (0, 1)


def test_a_vessel_that_reports_hourly_has_no_gaps_of_an_hour():
    hourly = run(60 * np.arange(40))
    cleaned = clean_fixes(hourly, Usual.of([hourly]).rules(None))
    assert impute_tracks(cleaned, Hermite(), SETTINGS)[1]["gaps"] == 0
    # Two fixes alone do not say how often a vessel reports; the fleet does.
    lone = clean_fixes(run([0, 60]), Usual.of([hourly]).rules(None))
    assert impute_tracks(lone, Hermite(), SETTINGS, fleet_s=60.0)[1]["gaps"] == 1
    assert impute_tracks(lone, Hermite(), SETTINGS, fleet_s=3600.0)[1]["gaps"] == 0


def test_vessels_that_share_an_identity_are_asked_about_apart():
    names = pl.col("track_id")
    one, other = gap_run(100), gap_run(100, lon=-20.0)
    both = pl.concat(
        [
            each.with_columns(pl.lit(f"219000001/20210501T000000{letter}").alias("track_id"))
            for each, letter in ((one, "a"), (other, "b"))
        ]
    ).with_columns(pl.lit("observed").alias("state"), pl.lit(None, pl.String).alias("reason"))
    table, counts = impute_tracks(both, Hermite(), SETTINGS)
    assert counts["gaps: filled"] == 2
    west = table.filter((pl.col("state") == "imputed") & names.str.ends_with("a"))
    assert west["lon_deg"].max() < -25.0


@pytest.mark.parametrize(
    ("begin", "end", "closed", "wanted"),
    [
        (0, 900, False, [300, 600]),
        (1, 901, False, [300, 600, 900]),
        (0, 900, True, [300, 600, 900]),
        (10, 20, True, []),
    ],
)
def test_the_grid_lies_between_its_ends(begin, end, closed, wanted):
    np.testing.assert_array_equal(on_grid(begin, end, 300, closed=closed), wanted)


def test_usual_intervals_of_few_fixes_are_no_longer_than_the_fleets():
    few = [run([0, 50], vessel=219_000_002), run([5], vessel=219_000_003)]
    often = run([0, 1, 2, 3, 40, 41], vessel=219_000_004)
    sent = Sent.of(clean_fixes(pl.concat([run(10 * np.arange(20)), *few, often])))
    by_vessel = [dict(zip(sent.vessel_id.tolist(), usual_s(sent, fleet).tolist(), strict=True)) for fleet in (120, 30)]
    assert by_vessel[0] == {219_000_001: 600.0, 219_000_002: 120.0, 219_000_003: 120.0, 219_000_004: 60.0}
    assert by_vessel[1] == {219_000_001: 600.0, 219_000_002: 30.0, 219_000_003: 30.0, 219_000_004: 30.0}


def test_the_ship_type_of_one_vessel_says_nothing_of_the_next():
    sent = Sent.of(clean_fixes(pl.concat([run(range(3)), run(range(3), vessel=219_000_002, ship=None)])))
    assert sent.ship_type.tolist() == [70, 0]


@pytest.mark.parametrize(("knots", "kind"), [(38.0, "gaps: filled"), (50.0, "gaps: too fast")])
def test_how_fast_a_gap_may_be_made_is_told_by_the_ship_type(knots, kind):
    """A cargo ship makes forty knots at most. The fixes after the gap go on from where it came in an hour."""
    lon, lat = move(-30.0, 40.0, 60.0, (knots - 12) * 1.852)
    fixes = pl.concat([run(range(30)), run(np.arange(30) + 89, lon=lon, lat=lat)])
    named = fixes.with_columns(track_id=pl.lit("1/a"), state=pl.lit("observed"), reason=pl.lit(None, pl.String))
    counts = find_gaps(Sent.of(named), step_s=300, longest_s=86_400, fleet_s=60.0).counts()
    assert (counts["gaps"], counts[kind]) == (1, 1)


@pytest.mark.parametrize(("knots", "still"), [(0.4, True), (0.6, False)])
def test_a_vessel_lies_still_below_half_a_knot(knots, still):
    assert lies_still(Sent.of(clean_fixes(run(range(31), speed=knots)))).tolist() == [still]


def test_what_a_vessel_reports_decides_whether_it_lies_still_and_what_it_told_last_its_type():
    """One lies and reports that it sails, one the reverse; both tell their type late, the second another one first."""
    types = [None] * 10 + [70] * 10, [30] * 10 + [80] * 5 + [None] * 5
    fleet = [
        run(range(20), vessel=219_000_001 + number, speed=speed).with_columns(
            pl.Series("ship_type", told, pl.Int16), pl.lit(reports, pl.Float32).alias("sog_kn"),
            track_id=pl.lit(str(number)), state=pl.lit("observed"),
        )
        for number, (speed, reports, told) in enumerate(zip((0.0, 9.0), (9.0, 0.1), types, strict=True))
    ]  # fmt: skip
    sent = Sent.of(pl.concat(fleet))
    assert lies_still(sent).tolist() == [False, True]
    assert sent.ship_type.tolist() == [70, 80]


def test_fixes_from_a_gap_to_two_and_a_half_times_its_length_away_are_shown():
    sent = Sent.of(clean_fixes(run([*range(100), *range(130, 230)])))
    shown = gap_question(sent, 99, 300).time_s / 60 - START.timestamp() / 60
    # The gap is of 31 minutes: 77 of them on each side.
    np.testing.assert_allclose(shown, [*range(22, 100), *range(130, 208)])


def test_a_forecast_begins_after_the_last_fix_and_ends_after_its_hours():
    cleaned = clean_fixes(pl.concat([run(range(31)), run(range(31), vessel=219_000_002, speed=0.0)]))
    settings = ForecastSettings(model="kalman", hours=2)
    table, counts = forecast_tracks(cleaned, Kalman(), settings)
    ahead = table.filter(pl.col("state") == "forecast")
    assert counts["vessels: moored"] == 1
    assert counts["vessels: forecast"] == 1
    assert len(ahead) == 24
    assert ahead["time"].min() == START + timedelta(minutes=35)
    assert ahead["time"].max() == START + timedelta(minutes=150)
    assert ahead["vessel_id"].unique().to_list() == [219_000_001]
    major = ahead[ellipse_columns(Kalman().levels[0])[0]]
    assert major.is_sorted()


def test_a_forecast_at_a_time_knows_nothing_of_later():
    fixes = pl.concat([run(range(200)), run(range(20), vessel=219_000_002)])
    at = START + timedelta(minutes=150)
    settings = ForecastSettings(model="kalman", hours=2, at=at)
    cut = clean_fixes(known_by(fixes, at))
    table, counts = forecast_tracks(cut, Kalman(), settings)
    assert table.filter(pl.col("state") == "observed")["time"].max() <= at
    assert counts["vessels: silent too long"] == 1
    assert taken_fixes(fixes, settings)["time"].max() == at


@pytest.mark.parametrize(("minutes", "silent"), [(90, 0), (209, 0), (211, 1)])
def test_who_was_heard_within_the_hours_of_a_forecast_is_not_silent_too_long(minutes, silent):
    settings = ForecastSettings(model="kalman", hours=3, at=START + timedelta(minutes=minutes))
    counts = forecast_tracks(clean_fixes(run(range(31))), Kalman(), settings)[1]
    assert counts["vessels: silent too long"] == silent


LAND = shapely.box(-29.5, 39.0, -29.0, 41.0)


@pytest.fixture
def coast():
    return Coast.of(gpd.GeoDataFrame(geometry=[LAND], crs="EPSG:4326"))


@pytest.mark.parametrize(
    ("lons", "wanted"),
    [
        ([-31.0, -30.0, -29.6], [False, False]),
        ([-30.0, -29.2, -28.0], [True, True]),
        ([-29.2, -29.1, -28.0, -27.0], [False, False, False]),  # out of a harbour that the coastline has on land
        ([-29.2, -28.0, -27.0, -29.2], [False, False, True]),  # and back
        ([-29.2, -28.9, -29.2, -29.4], [False, True, True]),  # and back at once
    ],
)
def test_only_a_line_that_comes_from_the_sea_crosses_land(coast, lons, wanted):
    got = coast.crosses(np.array([lons]), np.full((1, len(lons)), 40.0))
    assert got.tolist() == [wanted]


def test_land_is_found_across_180_degrees():
    coast = Coast.of(gpd.GeoDataFrame(geometry=[shapely.box(-179.9, -1, -179.5, 1)], crs="EPSG:4326"))
    lon = np.array([[179.5, 179.95, -179.7], [179.5, 179.6, 179.7]])
    assert coast.crosses(lon, np.zeros((2, 3))).any(1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("box", "crs"),
    [
        ((178.5, -1, 181.5, 1), "EPSG:4326"),
        ((-181.5, -1, -178.5, 1), "EPSG:4326"),
        ((178.5, -1, 181.5, 1), "EPSG:3832"),  # Mercator about 150 degrees east: one polygon across 180
    ],
)
def test_land_that_is_written_beyond_180_degrees_lies_there_and_nowhere_else(box, crs):
    to_there = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    outline = shapely.transform(shapely.segmentize(shapely.box(*box), 0.1), lambda p: np.stack(to_there(*p.T), -1))
    coast = Coast.of(gpd.GeoDataFrame(geometry=[outline], crs=crs))
    lon = np.array([[178.0, 178.4, 178.7], [-178.0, -178.4, -178.7], [20.0, 21.0, 22.0], [177.0, 177.5, 178.0]])
    assert coast.crosses(lon, np.zeros((4, 3))).any(1).tolist() == [True, True, False, False]


def test_land_of_0_to_360_degrees_and_a_cap_about_the_pole():
    west = Coast.of(gpd.GeoDataFrame(geometry=[shapely.box(349.2, 30, 349.3, 50)], crs="EPSG:4326"))
    assert west.crosses(np.array([[-11.0, -10.5], [349.0, 349.5]]), np.full((2, 2), 40.0)).all()
    ring = np.stack([7e5 * np.cos(a := np.linspace(0, 2 * np.pi, 181)), 7e5 * np.sin(a)], -1)
    cap = Coast.of(gpd.GeoDataFrame(geometry=[shapely.Polygon(ring)], crs="EPSG:3413"))
    lon = np.repeat([[10.0], [100.0], [-170.0]], 2, axis=1)
    assert cap.crosses(lon, np.repeat([[82.0, 86.0]], 3, 0)).all()
    assert not cap.crosses(lon, np.repeat([[80.0, 82.0]], 3, 0)).any()


def test_a_coastline_may_be_geoparquet(tmp_path):
    frame = gpd.GeoDataFrame(geometry=[LAND], crs="EPSG:4326")
    for name in ("land.parquet", "land.geoparquet"):
        frame.to_parquet(tmp_path / name)
        assert Coast.read(tmp_path / name).crosses(np.array([[-30.0, -29.2]]), np.full((1, 2), 40.0)).all()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(GeodiffError, match=r"bad\.parquet: cannot be read"):
        Coast.read(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("given", "changed"), [("land[1].shp", "land[1].dbf"), ("land", "land/a/l.shp"), ("land", "land/b/l.shp")]
)
def test_what_a_coastline_holds_names_the_run(tmp_path, given, changed):
    for name in ("land[1].shp", "land[1].dbf", "land/a/l.shp", "land/b/l.shp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    before = _digest(tmp_path / given)
    (tmp_path / changed).write_text("other land")
    assert _digest(tmp_path / given) != before


def test_one_member_has_no_quantiles():
    filled = geodiff.impute(to_geodataframe(clean_fixes(gap_run(120))), model="kalman", ensemble=1)
    assert (filled["state"] == "imputed").any()
    assert not set(quantile_columns()) & set(filled.dropna(axis=1, how="all").columns)


def test_a_time_before_all_fixes_is_told():
    tracks = to_geodataframe(run(range(30)))
    for given in (tracks, to_geodataframe(clean_fixes(run(range(30))))):
        with pytest.raises(UsageError, match="all 30 fixes of the table come later"):
            geodiff.forecast(given, model="hermite", at=START - timedelta(days=1))


class Fan:
    """Members that go east at latitudes spread about the start; odd ones to the north of all land."""

    name, levels = "fan", (0.5,)

    def predict(self, queries, *, members, seed):
        return [self._one(query, members) for query in queries]

    @staticmethod
    def _one(query: TrackQuery, members: int) -> TrackAnswer:
        steps = np.arange(1, len(query.ask_s) + 1)
        lon = np.broadcast_to(query.lon_deg[-1] + 0.05 * steps, (members, len(steps)))
        lift = np.where(np.arange(members) % 2, 0.5, 0.0)[:, None] * np.minimum(steps, 8)
        lat = query.lat_deg[-1] + lift
        ellipse = np.ones((1, len(steps), 3))
        return TrackAnswer(lon[0], np.median(lat, 0), lon, lat, ellipse)


class Nowhere(Fan):
    """As of weights that overflow."""

    def predict(self, queries, *, members, seed):
        return [
            dataclasses.replace(answer, member_lat_deg=answer.member_lat_deg * np.nan)
            for answer in super().predict(queries, members=members, seed=seed)
        ]


def test_a_model_that_gives_no_finite_values_is_no_answer():
    settings = ForecastSettings(model="kalman", ensemble=4, hours=1)
    with pytest.raises(GeodiffError, match="the model gives no finite values: the weights of fan"):
        forecast_tracks(clean_fixes(run(range(30))), Nowhere(), settings)
    with pytest.raises(GeodiffError, match="the model gives no finite values: the weights of fan"):
        impute_tracks(clean_fixes(gap_run(60)), Nowhere(), SETTINGS)


def _slowing(time_s):
    """East on the equator, from 15 knots at time 0 on slower by 3 knots in 5 minutes."""
    knots, more = 15.0, -3.0 / 300
    return (knots * time_s + more * time_s**2 / 2) / 3600 * KM_PER_NMI / KM_PER_DEG, knots + more * time_s


@pytest.mark.parametrize("beside_s", [2.0, 12.0, 250.0])
@pytest.mark.parametrize("turned", [False, True])
def test_the_speed_beside_a_fix_is_that_of_its_place_not_that_of_the_longer_step(beside_s, turned):
    known = np.array([-120.0, -60.0, -12.0, 0.0])
    ask = beside_s + 300.0 * np.arange(3)
    (lon, _), (way, knots) = _slowing(known), _slowing(ask)
    nothing = np.full(4, np.nan)
    if turned:  # the gap before the fixes, and the other way round
        known, lon, ask, way, knots = -known[::-1], -lon[::-1], -ask[::-1], -way[::-1], knots[::-1]
    query = TrackQuery(known, lon, np.zeros(4), nothing, nothing, ask, 70, 1)
    told = _motion([query], [TrackAnswer(way, np.zeros(3))], np.array([3]))
    near = slice(1, 3) if turned else slice(0, 2)  # the last has one neighbour
    np.testing.assert_allclose(told["sog_kn"].to_numpy()[near], knots[near], atol=0.01)
    np.testing.assert_allclose(told["cog_deg"], 90.0, atol=1e-3)


def test_a_line_beside_its_fix_does_not_leap_to_it():
    known, ask = np.array([-70.0, 0.0]), np.array([1.0, 301.0])
    (lon, _), (way, _) = _slowing(known), _slowing(ask)
    query = TrackQuery(known, lon, np.zeros(2), np.full(2, np.nan), np.full(2, np.nan), ask, 70, 1)
    told = _motion([query], [TrackAnswer(way, np.full(2, 0.02 / KM_PER_DEG))], np.array([2]))  # 20 m to the north
    np.testing.assert_allclose(told["sog_kn"][0], 15.0, atol=0.2)
    np.testing.assert_allclose(told["cog_deg"][0], 90.0, atol=3.0)


def test_a_lone_position_has_no_motion():
    nothing = np.empty(0)
    query = TrackQuery(nothing, nothing, nothing, nothing, nothing, np.zeros(1), 70, 1)
    told = _motion([query], [TrackAnswer(np.zeros(1), np.zeros(1))], np.array([1]))
    assert told["sog_kn"].null_count() == told["cog_deg"].null_count() == 1


def test_members_that_cross_land_are_drawn_again_and_the_estimate_stays_at_sea(coast):
    query = TrackQuery(
        np.array([0.0]), np.array([-30.0]), np.array([40.0]), *np.full((2, 1), np.nan), np.arange(1.0, 21)
    )
    counts: dict[str, int] = {}
    mend = avoid_land(coast, Fan(), 6, 0, counts)
    (answer,), kept = mend([query], Fan().predict([query], members=6, seed=0))
    lines = np.insert(answer.member_lon_deg, 0, -30.0, 1), np.insert(answer.member_lat_deg, 0, 40.0, 1)
    assert answer.member_lon_deg.shape == (6, 20)
    assert not coast.crosses(*lines).any()
    assert not coast.crosses(np.append(-30.0, answer.lon_deg)[None], np.append(40.0, answer.lat_deg)[None]).any()
    assert kept.tolist() == [20]
    assert counts == {
        "members: rejected for land": 3,
        "vessels: members drawn again": 1,
        "vessels: cut at land": 0,
    }


def test_regions_keep_the_size_of_the_first_answer_where_members_are_drawn_again(coast):
    class Wide(Fan):
        """Whose regions hang on how many members there are."""

        @staticmethod
        def _one(query: TrackQuery, members: int) -> TrackAnswer:
            answer = Fan._one(query, members)
            return dataclasses.replace(answer, ellipse_km=members * answer.ellipse_km)

        def predict(self, queries, *, members, seed):
            return [self._one(query, members) for query in queries]

    ask = TrackQuery(*(np.array([v]) for v in (0.0, -30.0, 40.0, np.nan, np.nan)), np.arange(1.0, 21))
    (answer,), _ = avoid_land(coast, Wide(), 6, 0, {})([ask], Wide().predict([ask], members=6, seed=0))
    assert (answer.ellipse_km == 6.0).all()


def test_an_estimate_on_land_becomes_the_nearest_member_at_sea_and_one_without_ends_before_it(coast):
    """Three members go round the land, one of them by a long way; between them the median goes across."""
    steps = np.arange(1, 21)
    lon = -30.03 + 0.1 * steps
    lats = np.stack([40.0 + lift * np.minimum(steps, 4) for lift in (2.0, -0.8, 3.0)])
    ask = TrackQuery(*(np.array([v]) for v in (0.0, -30.0, 40.0, np.nan, np.nan)), steps.astype(float))
    ahead = TrackAnswer(lon, np.full(20, 40.0), np.tile(lon, (3, 1)), lats)
    (answer,), kept = avoid_land(coast, Fan(), 3, 0, {})([ask], [ahead])
    np.testing.assert_array_equal(answer.lat_deg, lats[1])
    assert kept.tolist() == [20]
    alone = TrackAnswer(lon, np.full(20, 40.0))
    _, kept = avoid_land(coast, Fan(), 0, 0, {})([ask], [alone])
    west = LAND.bounds[0]
    assert lon[kept[0] - 1] < west <= lon[kept[0]]


def test_a_rule_without_members_ends_its_forecast_before_land(coast):
    cleaned = clean_fixes(run(range(31), course=90.0))
    settings = ForecastSettings(model="dead_reckoning", hours=6)
    free, _ = forecast_tracks(cleaned, DeadReckoning(), settings)
    table, counts = forecast_tracks(cleaned, DeadReckoning(), settings, coast=coast)
    ahead = table.filter(pl.col("state") == "forecast")
    assert counts["vessels: cut at land"] == 1
    assert ahead["lon_deg"].max() < -29.5 < free["lon_deg"].max()
    assert len(ahead) > 3


def test_a_forecast_that_ends_at_once_takes_nothing_from_the_others(coast):
    """The first vessel can go nowhere but ashore."""

    class East(Fan):
        @staticmethod
        def _one(query: TrackQuery, members: int) -> TrackAnswer:
            answer = Fan._one(query, members)
            lat = np.full_like(answer.member_lat_deg, query.lat_deg[-1])
            return dataclasses.replace(answer, lat_deg=lat[0], member_lat_deg=lat)

    fleet = [run(range(31), vessel=219_000_001, lon=-29.57, speed=5.0), run(range(31), vessel=219_000_002, lon=-20.0)]
    settings = ForecastSettings(model="fan", hours=1, ensemble=4, members=True)
    table, counts = forecast_tracks(clean_fixes(pl.concat(fleet)), East(), settings, coast=coast)
    ahead = table.filter(pl.col("state") == "forecast")
    assert counts["vessels: cut at land"] == 1
    assert set(ahead["vessel_id"]) == {219_000_002}
    assert ahead["ellipse50_major_km"].null_count() == 0
    assert ahead.schema["member_lon_deg"] == pl.Array(pl.Float64, 4)
    none, _ = forecast_tracks(clean_fixes(fleet[0]), East(), settings, coast=coast)
    assert none.filter(pl.col("state") == "forecast").is_empty()
    assert none.columns == table.columns


def test_a_coastline_without_polygons_is_refused(tmp_path):
    with pytest.raises(GeodiffError, match="no polygon"):
        Coast.of(gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs="EPSG:4326"))
    with pytest.raises(UsageError, match="no such file"):
        Coast.read(tmp_path / "none.gpkg")
    (tmp_path / "junk.gpkg").write_bytes(b"junk")
    with pytest.raises(GeodiffError, match="cannot be read"):
        Coast.read(tmp_path / "junk.gpkg")


@pytest.fixture(scope="module")
def fleet():
    return clean_fixes(make_fleet(5, vessels=9, hours=4.0).fixes)


def _cut(table: pl.DataFrame, parts: int) -> list[pl.DataFrame]:
    return [table.filter(pl.col("vessel_id") % parts == k) for k in range(parts)]


def test_what_is_told_of_others_does_not_depend_on_the_parts(fleet, tmp_path):
    whole, cut = [fleet], _cut(fleet, 4)
    assert Usual.of(whole) == Usual.of(cut)
    one, other = (history_of([past_of(part) for part in parts]) for parts in (whole, cut))
    np.testing.assert_array_equal(one.time_s, other.time_s)
    np.testing.assert_array_equal(one.vessel_id, other.vessel_id)
    stored = []
    for parts in (whole, cut):
        paths = [tmp_path / f"{len(parts)}-{k}.parquet" for k in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            traffic_of(part).write_parquet(path)
        store_traffic(paths, tmp_path / str(len(parts)))
        stored.append(open_traffic(tmp_path / str(len(parts))))
    assert len(stored[0]) > 100
    for field in dataclasses.fields(stored[0]):
        np.testing.assert_array_equal(getattr(stored[0], field.name), getattr(stored[1], field.name))


def test_a_history_is_thin_and_keeps_where_vessels_stop():
    fleet = clean_fixes(make_fleet(5, vessels=9, hours=4.0, interval_s=30.0).fixes)
    past = past_of(fleet)
    observed = fleet.filter(pl.col("state") == "observed")
    assert len(past) < 0.7 * len(observed)
    assert past.join(observed, on=["vessel_id", "track_id", "time"], how="anti").is_empty()


def test_halves_of_the_vessels_are_about_halves_and_depend_on_the_vessel_alone():
    ids = pl.Series("vessel_id", np.arange(200_000_000, 200_002_000))
    fold = fold_of(ids, 2)
    assert 900 < fold.sum() < 1100
    np.testing.assert_array_equal(fold_of(ids.reverse(), 2), fold[::-1])


def test_own_tables_are_read_without_what_nobody_observed(tmp_path):
    table, _ = impute_tracks(clean_fixes(gap_run(60)), Hermite(), SETTINGS)
    table.write_parquet(tmp_path / "own.parquet")
    (found,) = find_inputs([tmp_path / "own.parquet"], tmp_path)
    assert found.own
    reader = OwnReader(found.path)
    batches = list(reader.batches(rows=7))
    assert {len(batch) for batch in batches} <= set(range(8))
    assert_frame_equal(pl.concat(batches), table.filter(pl.col("state") == "observed").select(FIX_SCHEMA.names()))
    assert reader.counts.refused == {"state is not observed": len(table) - reader.counts.kept}
    table.drop("lon_deg").write_parquet(tmp_path / "lost.parquet")
    with pytest.raises(GeodiffError, match="no column lon_deg"):
        list(OwnReader(tmp_path / "lost.parquet").batches())
    table.filter(pl.col("state") == "imputed").write_parquet(tmp_path / "none.parquet")
    with pytest.raises(GeodiffError, match="no fix in it was observed"):
        list(OwnReader(tmp_path / "none.parquet").batches())


def test_own_tables_are_read_within_the_bounds_of_others(tmp_path):
    table, _ = impute_tracks(clean_fixes(gap_run(60)), Hermite(), SETTINGS)
    long = pl.lit("A" * 70_000).alias("source")
    table.with_columns(long).write_parquet(tmp_path / "own.parquet")
    with pytest.raises(GeodiffError, match="column 'source' holds texts of 70,0"):
        list(OwnReader(tmp_path / "own.parquet").batches())


def test_a_file_that_is_named_twice_counts_once(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    assert len(find_inputs([tmp_path / "a.csv", tmp_path, str(tmp_path / "*.csv")], tmp_path)) == 1
    with pytest.raises(UsageError, match="no such file"):
        find_inputs([tmp_path / "b.csv"], tmp_path)


def test_a_region_may_cross_180_degrees():
    fixes = pl.concat([run([0, 1], lon=lon) for lon in (179.0, -179.0, 0.0)])
    kept = taken_fixes(fixes, CleanSettings(bbox=(170.0, 30.0, -170.0, 50.0)))
    assert sorted(round(v) for v in kept["lon_deg"].to_list()) == [-179, -179, 179, 179]


def test_a_vessel_that_was_heard_elsewhere_has_not_fallen_silent():
    """Between its own fixes alone: not what another did, and not before or after."""
    minutes = np.r_[0:60, 240:300]
    cleaned = clean_fixes(pl.concat([run(minutes, vessel=219_000_000 + v) for v in (1, 2)]))
    away = run([100, 400], vessel=219_000_001).select(AWAY)
    settings = ImputeSettings(model="hermite")
    counts = [impute_tracks(cleaned, Hermite(), settings, away=each)[1] for each in (None, away, away[1:])]
    assert [each["gaps: filled"] for each in counts] == [2, 1, 2]
    assert [each.get("gaps: outside the region") for each in counts] == [None, 1, 0]
    table, told = forecast_tracks(cleaned, DeadReckoning(), ForecastSettings(model="dead_reckoning"), away=away)
    assert told["vessels: left the region"] == told["vessels: forecast"] == 1
    assert set(table.filter(pl.col("state") == "forecast")["vessel_id"]) == {219_000_002}


def test_only_fixes_outside_the_region_with_an_identity_are_elsewhere():
    mixed = pl.concat([run([0], lon=179.0), run([1], lon=0.0)])
    nobody = run([0, 1], lon=0.0).with_columns(pl.lit(None, pl.Int64).alias("vessel_id"))
    found = elsewhere(pl.concat([mixed, nobody]), CleanSettings(bbox=(170.0, 30.0, -170.0, 50.0)))
    assert found["time"].to_list() == mixed["time"][1:].to_list()
    assert found.columns == list(AWAY)
    lost = run([2], lon=0.0).with_columns(lat_deg=pl.lit(None, pl.Float64))
    assert elsewhere(lost, CleanSettings(bbox=(170.0, 30.0, -170.0, 50.0))).is_empty()
    assert elsewhere(mixed, CleanSettings()).is_empty()


def test_what_happens_elsewhere_after_the_time_of_a_forecast_is_not_known():
    later = run([0, 1, 2], lon=0.0)
    settings = ForecastSettings(bbox=(170.0, 30.0, -170.0, 50.0), at=START + timedelta(minutes=1))
    assert elsewhere(later, settings)["time"].to_list() == later["time"][:2].to_list()


def test_a_column_called_state_of_somebody_else_loses_nothing():
    plain = to_geodataframe(run(range(30)))
    for words in (["under way"] * 30, list(range(30))):
        assert len(geodiff.clean(plain.assign(state=words))) == 30


def test_tracks_of_somebody_else_with_a_fix_that_is_nowhere_are_refused_by_its_row():
    tracks = to_geodataframe(clean_fixes(run(range(30)))).reset_index(drop=True)
    tracks.loc[5, "geometry"] = None
    for job in (geodiff.impute, geodiff.forecast):
        with pytest.raises(UsageError, match=r"^row 6: an observed fix without a time or a place on Earth, one of 1: "):
            job(tracks, model="nearest_historic")
    with pytest.raises(UsageError, match=r"^row 6: an observed fix"):
        geodiff.impute(tracks.drop(index=5), model="nearest_historic", history=tracks)


def test_what_a_model_made_is_nobodys_fix():
    """Given back to a job, it is neither cleaned nor joined into tracks, and is made anew instead of twice."""
    gap = np.r_[0:60, 120:180]
    tracks = to_geodataframe(clean_fixes(run(gap)))
    filled = geodiff.impute(tracks, model="hermite")
    ahead = geodiff.forecast(filled, model="dead_reckoning", hours=1)
    assert set(ahead["state"]) == {"observed", "imputed", "forecast"}
    for again in (geodiff.clean(ahead), geodiff.associate(ahead)):
        assert len(again) == len(gap)
        assert set(again["state"]) <= {"observed", "rejected"}
    assert len(geodiff.impute(filled, model="hermite")) == len(filled)
    assert len(geodiff.forecast(ahead, model="dead_reckoning", hours=1)) == len(ahead)


@pytest.mark.parametrize(
    ("settings", "values", "word"),
    [
        (CleanSettings, {"bbox": (0, 50, 1, 40)}, "south"),
        (CleanSettings, {"bbox": (0, float("nan"), 1, 40)}, "bbox"),
        (CleanSettings, {"gap_s": 0}, "gap_s"),
        (ImputeSettings, {"ensemble": 0}, "ensemble"),
        (ImputeSettings, {"step_s": 0.5}, "step_s"),
        (ForecastSettings, {"hours": 13}, "hours"),
        (ForecastSettings, {"hours": 0.05}, "longer than the forecast"),
        (ForecastSettings, {"at": "yesterday"}, "at"),
        (ForecastSettings, {"hours": 12, "step_s": 1, "ensemble": 256}, None),
        (ImputeSettings, {"longest_h": 240, "step_s": 1, "ensemble": 20}, "17,280,000 positions"),
        (GenerateSettings, {"start": (0, 95)}, "outside the world"),
        (GenerateSettings, {"start": (0, 5), "start_time": "9999-12-31T23:59"}, "a year from 1970 to 2199"),
        (GenerateSettings, {"start": (0, 10, 5, 5)}, "south"),
        (GenerateSettings, {"start": (179, -17, -179, -16)}, None),
        (GenerateSettings, {"guidance": float("nan")}, "guidance"),
        (ImputeSettings, {"modle": "ais"}, "model"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, values, word):
    with pytest.raises(UsageError, match=word) if word else nullcontext():
        settings.parse(values)


def touch(folder: str, name: int) -> None:
    if name == 3:
        raise GeodiffError("three is wrong")
    (Path(folder) / str(name)).touch()


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_tasks_are_told_one_by_one_and_a_failure_stops_the_rest(tmp_path, scheduler):
    told: list[int] = []
    pool = Pool(2, scheduler)
    pool.run(touch, [(str(tmp_path), k) for k in range(3)], tell=told.append)
    assert told == [1, 2, 3]
    with pytest.raises(GeodiffError, match="three is wrong"):
        pool.run(touch, [(str(tmp_path), k) for k in range(3, 40)], tell=told.append)
    assert {path.name for path in tmp_path.iterdir()} < {str(k) for k in range(40)}


def test_counts_add_up():
    parts = [{"kept": 2, "rejected": {"jump": 1}}, {"kept": 3, "rejected": {"jump": 2, "duplicate": 1}}, None]
    assert add(parts) == {"kept": 5, "rejected": {"duplicate": 1, "jump": 3}}


def test_notebooks_have_the_jobs_on_geodataframes():
    frame = to_geodataframe(gap_run(90)).drop(columns=["row", "source"]).rename(columns={"vessel_id": "MMSI"})
    tracks = geodiff.clean(frame, columns={"vessel_id": "MMSI"})
    assert isinstance(tracks, gpd.GeoDataFrame)
    assert tracks.crs == "EPSG:4326"
    filled = geodiff.impute(tracks, model="kalman", ensemble=4)
    assert (filled["state"] == "imputed").sum() > 10
    later = geodiff.forecast(tracks, model="dead_reckoning", hours=1)
    assert (later["state"] == "forecast").sum() == 12
    # Fixes that nobody cleaned are cleaned.
    again = geodiff.impute(frame.rename(columns={"MMSI": "vessel_id"}), model="kalman", ensemble=4)
    np.testing.assert_allclose(again.geometry.x, filled.geometry.x)
    found = geodiff.associate(tracks)
    assert found["track_id"].notna().all()
    with pytest.raises(UsageError, match="too few"):
        geodiff.score(tracks)
    with pytest.raises(UsageError, match="hours"):
        geodiff.forecast(tracks, hours=24)
    with pytest.raises(UsageError, match=r"nowhere\.geojson: no such file"):
        geodiff.forecast(tracks, model="dead_reckoning", coastline="nowhere.geojson")
    with pytest.raises(GeodiffError, match="a GeoDataFrame of points is needed, not a DataFrame"):
        geodiff.clean(pd.DataFrame(tracks.drop(columns="geometry")))


def test_who_follows_a_vessel_to_its_berth_is_told_that_it_stopped_while_it_lies_there(fleet):
    """With first and last fix alone all that lies between them was unknown until the last one was heard."""
    moored = pl.concat([run(range(60)), run(range(60, 600), speed=0.0).with_columns(pl.col("row") + 60)])
    past = past_of(clean_fixes(moored)).filter(pl.col("sog_kn") == 0)["time"].sort()
    assert past.diff().max() <= timedelta(seconds=STILL_STEP_S)
    assert len(past) < 30


def test_a_history_keeps_the_first_and_last_fix_of_lying_still_and_of_being_under_way():
    """A fix every ten seconds; still from 300 to 590 s."""
    seconds = np.arange(0, 900, 10)
    under_way = (seconds < 300) | (seconds > 590)
    lon, lat = move(-30.0, 40.0, 60.0, 12 * 1.852 / 360 * np.cumsum(under_way))
    moves = run(seconds / 60).with_columns(
        pl.Series("lon_deg", lon), pl.Series("lat_deg", lat), pl.Series("sog_kn", 12.0 * under_way, pl.Float32)
    )
    kept = (past_of(clean_fixes(moves))["time"] - START).dt.total_seconds().to_list()
    assert {290, 300, 590, 600} <= set(kept)
    assert len(kept) < 20


def test_rules_of_a_forecast_are_of_what_was_known_by_then():
    minutes = [*range(120), *range(240, 360)]
    later = [60 * hour for hour in range(6, 60)]
    vessels = [219_000_001 + number for number in range(3)]
    table = pl.concat([run(minutes + later, vessel=vessel) for vessel in vessels])
    fixes = SimpleNamespace(parts=1, scan=lambda part: table.lazy())
    at = START + timedelta(minutes=360)
    assert usual_of(fixes, None).interval_s == 60.0
    known = table.filter(pl.col("time") <= at)
    assert usual_of(fixes, at) == Usual.of([known])


def test_two_fixes_at_one_time_are_refused_by_every_job():
    cleaned = clean_fixes(run(range(31)))
    twice = pl.concat([cleaned, cleaned.tail(1)])
    with pytest.raises(UsageError, match=r"vessel 219000001 has two fixes at .*, one of 1 such pairs: clean"):
        Sent.of(twice)


def test_fixes_told_more_than_once_do_not_make_a_source_report_more_often():
    hourly = run(60 * np.arange(40))
    assert Usual.of([pl.concat([hourly] * 3)]).interval_s == 3600.0


def test_everything_that_decides_the_values_of_a_run_decides_its_name(tmp_path):
    """What is done, its inputs, what it is told of the past, its model, land and calibration, each by content."""

    def named(
        *, kind="impute", seed=0, given="input", history="past", model="model", weights="a", land="{}", scores="{}"
    ):
        coastline, calibration = tmp_path / "land.geojson", tmp_path / "calibration.json"
        coastline.write_text(land)
        calibration.write_text(scores)
        inputs, past = ([SimpleNamespace(sha256=each)] for each in (given, history))
        paths = Paths(calibration=calibration, coastline=coastline)
        contender = SimpleNamespace(name=model, digest=weights)
        return _run_id(kind, ImputeSettings(seed=seed), inputs, past, contender, paths)

    others = [
        named(kind="score"),
        named(seed=1),
        named(given="another input"),
        named(history="another past"),
        named(given="past", history="input"),
        named(model="another"),
        named(weights="b"),
        named(land='{"a": 1}'),
        named(scores='{"a": 1}'),
    ]
    assert named() == named()
    assert len({named(), *others}) == 1 + len(others)


def test_a_vessel_heard_hourly_is_whole_among_others_heard_by_the_minute():
    uneven = 60 * np.arange(40) + np.arange(40) * 7 % 11
    rows = pl.concat([run(uneven), *[run(range(600), vessel=219_000_100 + number) for number in range(9)]])
    rules = Usual.of([rows]).rules(None)
    assert rules.gap_s == 3600
    tracks = clean_fixes(rows, rules).filter(pl.col("vessel_id") == 219_000_001)["track_id"]
    assert (len(tracks), tracks.n_unique()) == (40, 1)
    # What is asked for holds for all alike, and a vessel heard often has its silences still.
    asked = clean_fixes(rows, Usual.of([rows]).rules(1800.0))
    assert asked.filter(pl.col("vessel_id") == 219_000_001)["track_id"].n_unique() == 40
    often = run([*range(30), *range(120, 150)], vessel=219_000_200)
    assert (
        clean_fixes(pl.concat([rows, often]), rules).filter(pl.col("vessel_id") == 219_000_200)["track_id"].n_unique()
        == 2
    )
