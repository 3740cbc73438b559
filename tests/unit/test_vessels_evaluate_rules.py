"""Rules read off a table, and the baseline of historic tracks."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from geodiff.sphere import course_deg, distance_km, move
from geodiff.tracks import TrackQuery
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.historic import NearestHistoric
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.usual_rules import Usual, usual_rules

START = datetime(2024, 5, 1, tzinfo=UTC).timestamp()


def table(vessel, step_s, count=20):
    time = pl.from_epoch(pl.Series((START + step_s * np.arange(count)) * 1e6).cast(pl.Int64), "us")
    times = time.dt.replace_time_zone("UTC")
    return pl.DataFrame({"vessel_id": [vessel] * count, "time": times, "source": ["noaa"] * count})


@pytest.mark.parametrize(
    ("vessel", "step_s", "gap_s", "mmsi"),
    [
        (366_000_001, 60, 3600, True),
        (366_000_001, 3900, 3 * 3900, True),
        (5_000_000_001, 86_400, 86_400, False),
        (7, 60, 3600, False),
    ],
)
def test_rules_follow_the_interval_and_the_numbers_of_a_source(vessel, step_s, gap_s, mmsi):
    rules = usual_rules(table(vessel, step_s))
    assert (rules.gap_s, rules.mmsi) == (gap_s, mmsi)


def test_a_few_broken_numbers_do_not_make_a_source_its_own_numbering():
    rows = pl.concat([table(366_000_000 + n, 60, 3) for n in range(300)] + [table(5_000_000_001, 60)])
    assert usual_rules(rows).mmsi
    assert usual_rules(table(1, 60).clear()).gap_s == 3600


def lane(seconds):
    """East at 10 kn for an hour, then north."""
    reach = np.asarray(seconds, float) * 10 * 1.852 / 3600
    corner = move(10.0, 50.0, 90.0, 18.52)
    east, north = move(10.0, 50.0, 90.0, reach), move(*corner, 0.0, reach - 18.52)
    turned = reach > 18.52
    return np.where(turned, north[0], east[0]), np.where(turned, north[1], east[1])


def history():
    time = np.arange(0.0, 7200, 60)
    lon, lat = lane(time)
    tables = []
    for vessel in (1, 2, 3):
        start = pl.from_epoch(pl.Series((START + vessel * 9000 + time) * 1e6).cast(pl.Int64), "us")
        moved = np.diff(lon, append=lon[-1]), np.diff(lat, append=lat[-1])
        course = np.where(np.abs(moved[0]) > np.abs(moved[1]), 90.0, 0.0)
        columns = {"lon_deg": lon + vessel * 1e-4, "lat_deg": lat, "sog_kn": np.full(120, 10.0), "cog_deg": course}
        ids = {"vessel_id": [vessel] * 120, "track_id": [str(vessel)] * 120, "state": ["observed"] * 120}
        tables.append(pl.DataFrame({**ids, "time": start.dt.replace_time_zone("UTC"), **columns}))
    return TrackHistory.from_table(pl.concat(tables))


@pytest.mark.parametrize("gap", [False, True])
def test_a_bend_that_others_took_is_taken(gap):
    seconds = np.arange(0.0, 1801, 60) if not gap else np.r_[np.arange(0.0, 1801, 60), 6600, 6660]
    asked = np.array([3000.0, 4200.0, 5400.0])
    lon, lat = lane(seconds)
    course = np.where(seconds < 3600, 90.0, 0.0)
    late = START + 86_400.0  # a forecast is told of the past alone
    query = TrackQuery(late + seconds, lon, lat, np.full(len(lon), 10.0), course, late + asked, vessel_id=99)
    truth = lane(asked)
    errors = {}
    for model in (Hermite(), NearestHistoric(history=history())):
        answer = model.predict([query])[0]
        errors[model.name] = distance_km(answer.lon_deg, answer.lat_deg, *truth).max()
    assert errors["nearest_historic"] < 0.5
    assert errors["hermite"] > 2


def test_who_came_the_other_way_does_not_answer():
    time = 60.0 * np.arange(180)
    lon, lat = move(5.0, 52.0, 180.0, time * 12 * 1.852 / 3600)
    east, north = np.zeros(180), np.full(180, -12 * 1.852 / 3600)
    past = TrackHistory(
        track=np.zeros(180, np.int64), vessel_id=np.ones(180, np.int64), time_s=START + time, lon_deg=lon, lat_deg=lat,
        east_km_s=east, north_km_s=north,
    )  # fmt: skip
    seconds = 86_400 + 60.0 * np.arange(30)
    lon, lat = move(5.0, 51.6, 0.0, (seconds - seconds[0]) * 12 * 1.852 / 3600)
    known = START + seconds, lon, lat, np.full(30, 12.0), np.zeros(30)
    query = TrackQuery(*known, START + seconds[-1] + np.array([600.0, 3600.0]), vessel_id=99)
    found, cubic = NearestHistoric(history=past).predict([query])[0], Hermite().predict([query])[0]
    np.testing.assert_array_equal(found.lat_deg, cubic.lat_deg)
    assert (np.diff(found.lat_deg, prepend=lat[-1]) > 0).all()


def test_without_history_it_is_the_cubic():
    lon, lat = lane([0, 60, 120, 900])
    query = TrackQuery(
        np.array([0.0, 60, 120, 900]), lon, lat, np.full(4, 10.0), np.full(4, 90.0), np.array([500.0, 1800.0])
    )
    far = TrackQuery(query.time_s, lon + 100, lat, query.sog_kn, query.cog_deg, query.ask_s)
    for model, asked in ((NearestHistoric(), query), (NearestHistoric(history=history()), far)):
        np.testing.assert_array_equal(model.predict([asked])[0].lon_deg, Hermite().predict([asked])[0].lon_deg)


def test_each_vessel_counts_once_so_that_jobs_and_evaluations_clean_alike():
    hourly = [table(219000001 + number, 3600) for number in range(3)]
    often = table(219000100, 60)
    rows = pl.concat([*hourly, *[often.with_columns(pl.col("time") + pl.duration(hours=n)) for n in range(4)]])
    assert usual_rules(rows).gap_s == 3 * 3600
    assert usual_rules(rows) == Usual.of([rows]).rules(None)


@pytest.mark.parametrize("lat", [0.0, 60.0, 80.0])
def test_a_great_circle_that_others_followed_stays_one_where_meridians_converge(lat):
    time = 600.0 * np.arange(40)
    lon, lats = move(10.0, lat, 90.0, 20 * 1.852 / 6 * np.arange(40))
    course = course_deg(lon[1:], lats[1:], lon[:-1], lats[:-1]) + 180.0
    course = np.append(90.0, course) % 360
    speed = np.full(40, 20.0)
    angle, pace = np.radians(course), speed * 1.852 / 3600
    past = TrackHistory(
        track=np.zeros(40, np.int64), vessel_id=np.full(40, 7), time_s=time - 1e6, lon_deg=lon, lat_deg=lats,
        east_km_s=pace * np.sin(angle), north_km_s=pace * np.cos(angle),
    )  # fmt: skip
    asked = TrackQuery(time[:10], lon[:10], lats[:10], speed[:10], course[:10], time[10:20])
    found = NearestHistoric(history=past).predict([asked])[0]
    # Of several fixes near, the mean is told; before, 80 degrees north, it was four kilometres off.
    assert distance_km(found.lon_deg, found.lat_deg, lon[10:20], lats[10:20]).max() < 1.0
