"""Cases: rows that say it twice, jumps of position and of the clock, and sound tracks that only look wrong."""

# ruff: noqa: D103

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geodiff.sphere import from_local_km
from geodiff.testing.tracks_cases import START_S, Row, case, lie, moved, sail, shifted, spoiled
from geodiff.vessels.clean_rules import CleanRules

HOURLY = CleanRules(gap_s=6 * 3600.0)


@case
def straight_track() -> list[Row]:
    return sail()


@case
def exact_duplicate() -> list[Row]:
    rows = sail()
    return [*rows[:20], replace(rows[19], fate="duplicate"), *rows[20:]]


@case
def duplicate_at_the_end_of_the_file() -> list[Row]:
    rows = sail()
    return [*rows, replace(rows[5], fate="duplicate"), replace(rows[5], fate="duplicate")]


@case
def duplicate_that_says_less_comes_first() -> list[Row]:
    rows = sail()
    return [*rows[:20], replace(rows[20], sog_kn=None, cog_deg=None, fate="duplicate"), *rows[20:]]


@case
def conflict_of_one_instant() -> list[Row]:
    rows = sail()
    return [*rows[:21], moved(rows[20], 40.0, fate="conflict"), *rows[21:]]


@case
def conflict_whose_wrong_row_comes_first() -> list[Row]:
    rows = sail()
    return [*rows[:20], moved(rows[20], 40.0, fate="conflict"), *rows[20:]]


@case
def same_instant_close_by() -> list[Row]:
    rows = sail()
    return [*rows[:21], moved(rows[20], 0.03, fate="same instant"), *rows[21:]]


@case
def rows_out_of_order() -> list[Row]:
    rows = sail()
    return [rows[(7 * i) % 40] for i in range(40)]


@case
def file_in_reverse() -> list[Row]:
    return sail()[::-1]


@case
def late_row() -> list[Row]:
    rows = sail()
    return [*rows[:10], *rows[11:], rows[10]]


@case
def outlier() -> list[Row]:
    return spoiled(sail(), 17)


@case
def outlier_without_reported_motion() -> list[Row]:
    return spoiled(sail(told=False), 17)


@case
def outlier_is_the_first_row() -> list[Row]:
    return spoiled(sail(), 0)


@case
def outlier_is_the_last_row() -> list[Row]:
    return spoiled(sail(), 39)


@case
def two_outliers() -> list[Row]:
    return spoiled(sail(), 11, 29)


@case
def two_outliers_in_a_row_at_different_places() -> list[Row]:
    return spoiled(sail(), 20, 21)


@case
def outlier_in_every_fifth_row() -> list[Row]:
    return spoiled(sail(), *range(3, 40, 5))


@case
def excursion_of_five() -> list[Row]:
    rows = sail()
    return [*rows[:15], *(moved(row, 25.0) for row in rows[15:20]), *rows[20:]]


@case
def excursion_of_twelve() -> list[Row]:
    rows = sail(60)
    return [*rows[:20], *(moved(row, 25.0) for row in rows[20:32]), *rows[32:]]


@case
def near_excursion_of_a_moored_ship() -> list[Row]:
    rows = lie(every=180.0)
    return [*rows[:15], *(moved(row, 6.0) for row in rows[15:18]), *rows[18:]]


@case
def jump_to_the_origin() -> list[Row]:
    return [replace(r, lon_deg=0.0, lat_deg=0.0, fate="position jump") if i == 9 else r for i, r in enumerate(sail())]


@case
def longitude_and_latitude_swapped_once() -> list[Row]:
    rows = sail()
    wrong = replace(rows[9], lon_deg=rows[9].lat_deg, lat_deg=rows[9].lon_deg, fate="position jump")
    return [*rows[:9], wrong, *rows[10:]]


@case
def sign_of_longitude_lost_once() -> list[Row]:
    rows = sail()
    return [*rows[:9], replace(rows[9], lon_deg=-(rows[9].lon_deg or 0.0), fate="position jump"), *rows[10:]]


@case
def digit_of_latitude_wrong_once() -> list[Row]:
    rows = sail()
    return [*rows[:9], replace(rows[9], lat_deg=(rows[9].lat_deg or 0.0) + 0.1, fate="position jump"), *rows[10:]]


@case
def small_jump_that_only_the_reported_speed_tells() -> list[Row]:
    rows = sail(knots=4.0, ship_type=60)
    return [*rows[:9], moved(rows[9], 1.2, 160.0), *rows[10:]]


@case
def small_jump_without_a_witness_stays() -> list[Row]:
    rows = sail(knots=4.0, ship_type=60, told=False)
    return [*rows[:9], moved(rows[9], 1.2, 160.0, fate="one"), *rows[10:]]


@case
def outlier_between_which_a_ship_turns() -> list[Row]:
    rows = sail(20)
    more = sail(20, start=1200.0, course=250.0, place=(rows[-1].lon_deg or 0.0, rows[-1].lat_deg or 0.0))
    return spoiled([*rows, *more], 20)


@case
def outlier_at_the_edge_of_a_gap() -> list[Row]:
    rows = [*sail(20), *sail(20, start=1800.0, place=(-29.87, 40.0))]
    return spoiled(rows, 19)


@case
def receiver_drifts_off_and_jumps_back() -> list[Row]:
    rows = lie(60, every=60.0, ship_type=37)
    drift = [moved(row, 3.0 * i, 120.0) for i, row in enumerate(rows[30:36], start=1)]
    return [*rows[:30], *drift, *rows[36:]]


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
def block_an_hour_late() -> list[Row]:
    rows = sail(180)
    return [*rows[:60], *shifted(rows[60:80], 3600.0), *rows[80:]]


@case
def block_an_hour_early() -> list[Row]:
    rows = sail(180)
    return [*rows[:80], *shifted(rows[80:100], -3600.0), *rows[100:]]


@case
def block_a_day_late() -> list[Row]:
    rows = sail(180)
    return [*rows[:60], *shifted(rows[60:90], 86_400.0), *rows[90:]]


@case
def block_twelve_hours_early() -> list[Row]:
    rows = sail(180)
    return [*rows[:60], *shifted(rows[60:90], -43_200.0), *rows[90:]]


@case
def ferry_with_silences_is_not_a_clock_jump() -> list[Row]:
    out = sail(25, knots=15.0, course=90.0, ship_type=60)
    rows: list[Row] = []
    for trip, minutes in enumerate((0, 90, 200, 300, 410, 560)):
        rows += shifted(out, 60.0 * minutes, fate=f"trip {trip}")
    return rows
