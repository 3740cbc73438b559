"""Cases: sound tracks that only look wrong: fast, rounded, at anchor, at the pole, across 180 degrees."""

# ruff: noqa: D103

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geodiff.sphere import from_local_km
from geodiff.testing.tracks_cases import HOURLY, START_S, Row, case, lie, moved, sail, spoiled
from geodiff.vessels.clean_rules import CleanRules


@case
def cargo_ship_at_65_knots_for_a_minute() -> list[Row]:
    rows = sail(told=False, ship_type=70, knots=10.0)
    return [*rows[:9], moved(rows[9], 2.0, 160.0), *rows[10:]]


@case
def fast_craft_may_do_what_a_cargo_ship_may_not() -> list[Row]:
    rows = sail(told=False, ship_type=49, knots=10.0)
    return [*rows[:9], moved(rows[9], 2.0, 160.0, fate="one"), *rows[10:]]


@case
def fast_ferry() -> list[Row]:
    return sail(knots=42.0, ship_type=49)


@case
def search_aircraft() -> list[Row]:
    return sail(knots=140.0, ship_type=None, vessel_id=111_219_501)


@case
def aircraft_by_its_message_type() -> list[Row]:
    return sail(knots=160.0, ship_type=None, source="nmea:9")


@case
def noise_at_two_seconds() -> list[Row]:
    return lie(200, every=2.0, noise_km=0.012, knots=5.0)


@case
def rounded_to_a_ten_thousandth_of_a_degree_every_second() -> list[Row]:
    return sail(200, every=1.0, digits=4)


@case
def rounded_to_a_tenth_of_a_minute() -> list[Row]:
    rows = sail(80, every=10.0)
    return [
        replace(r, lon_deg=round((r.lon_deg or 0) * 600) / 600, lat_deg=round((r.lat_deg or 0) * 600) / 600)
        for r in rows
    ]


def _whole_minutes(rows: list[Row]) -> list[Row]:
    return [replace(row, time_s=(row.time_s or 0.0) // 60.0 * 60.0) for row in rows]


@case
def whole_minute_stamps_of_a_fast_ferry() -> list[Row]:
    rng = np.random.default_rng(1)
    rows = sail(40, every=97.0, knots=36.0, ship_type=60)
    return _whole_minutes([r for r, keep in zip(rows, rng.uniform(size=40) > 0.2, strict=True) if keep])


@case
def three_fixes_in_each_whole_minute() -> list[Row]:
    rows = _whole_minutes(sail(60, start=-7.0, every=20.0))
    return [replace(row, fate="one" if i % 3 == 0 else "same instant") for i, row in enumerate(rows)]


@case
def whole_minute_stamps_with_an_outlier() -> list[Row]:
    return spoiled(_whole_minutes(sail(every=120.0)), 12)


@case
def moored_ship() -> list[Row]:
    return lie(120, every=180.0)


@case
def swing_at_anchor() -> list[Row]:
    angles = np.sin(np.arange(120) / 6.0)
    east, north = 0.25 * np.sin(angles), 0.25 * np.cos(angles)
    lon, lat = from_local_km(east, north, np.full(120, -30.0), np.full(120, 40.0))
    return [
        Row(START_S + 180.0 * i, float(lon[i]), float(lat[i]), sog_kn=0.3, cog_deg=(37.0 * i) % 360) for i in range(120)
    ]


@case
def eighty_six_degrees_north() -> list[Row]:
    return sail(place=(10.0, 86.0))


@case
def across_the_pole() -> list[Row]:
    rows = sail(60, place=(20.0, 89.95), course=0.0)
    return [replace(row, cog_deg=None) for row in rows]


@case
def across_the_antimeridian() -> list[Row]:
    return sail(place=(179.98, 10.0), course=90.0)


@case
def outlier_across_the_antimeridian() -> list[Row]:
    return spoiled(sail(place=(-179.98, 10.0), course=270.0), 14)


@case
def longitude_180_and_minus_180() -> list[Row]:
    rows = lie(30, place=(180.0, 10.0), noise_km=0.0)
    return [replace(row, lon_deg=180.0 if i % 2 else -180.0) for i, row in enumerate(rows)]


@case
def speed_stuck_at_zero() -> list[Row]:
    return [replace(row, sog_kn=0.0) for row in sail(knots=15.0)]


@case
def speed_of_one_row_is_noise() -> list[Row]:
    return [replace(row, sog_kn=102.2 if i == 9 else row.sog_kn) for i, row in enumerate(sail())]


@case
def course_through_north() -> list[Row]:
    return [replace(row, cog_deg=(359.6, 0.3)[i % 2]) for i, row in enumerate(sail(course=0.0))]


@case
def sharp_turns() -> list[Row]:
    rows: list[Row] = []
    for leg in range(8):
        place = (rows[-1].lon_deg or 0.0, rows[-1].lat_deg or 0.0) if rows else (-30.0, 40.0)
        rows += sail(6, start=360.0 * leg, course=70.0 + 170.0 * leg, place=place, knots=9.0)[leg > 0 :]
    return rows


@case
def stop_and_go() -> list[Row]:
    place = sail(40)[-1].lon_deg or 0.0, sail(40)[-1].lat_deg or 0.0
    return [*sail(40), *lie(30, start=2400.0, place=place), *sail(30, start=4200.0, place=place, course=300.0)]


@case
def hourly_satellite_track() -> tuple[list[Row], CleanRules]:
    return sail(every=3600.0, knots=14.0), HOURLY


@case
def hourly_satellite_track_with_an_outlier() -> tuple[list[Row], CleanRules]:
    return spoiled(sail(every=3600.0, knots=14.0), 12, reach_km=900.0), HOURLY


@case
def towing_boat_that_reports_38_knots() -> list[Row]:
    return sail(60, knots=38.0, every=180.0, ship_type=31)


@case
def ferry_that_leaves_hours_later_on_the_hour() -> tuple[list[Row], CleanRules]:
    """Its way out was not heard, so that the next one would fit there as well."""
    minute, here = 60.0, (-30.0, 40.0)
    end = sail(2, every=55 * minute, knots=15.0, place=here, course=90.0)[1]
    there = end.lon_deg or 0.0, end.lat_deg or 0.0
    back = sail(56, start=361 * minute, knots=15.0, place=there, course=270.0)
    out = sail(56, start=605 * minute, knots=15.0, place=here, course=90.0)
    berths = [
        *lie(240, place=here),
        *lie(60, start=300 * minute, place=there, seed=2),
        *lie(150, start=418 * minute, place=here, seed=4),
        *lie(60, start=720 * minute, place=there, seed=5),
    ]
    return sorted([*berths, *back, *out], key=lambda row: row.time_s or 0.0), HOURLY
