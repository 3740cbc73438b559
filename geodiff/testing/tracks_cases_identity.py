"""Cases: shared identities, silences, stations that are no vessel, rows that lack what a fix needs."""

# ruff: noqa: D103

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

from geodiff.testing.tracks_cases import HOURLY, SHIP, Row, case, lie, sail, shifted, spoiled
from geodiff.vessels.clean_rules import CleanRules

FAR = (5.0, 55.0)


def _mixed(*parts: list[Row]) -> list[Row]:
    return sorted(chain(*parts), key=lambda row: row.time_s or 0.0)


@case
def two_identities_side_by_side() -> list[Row]:
    return _mixed(sail(), sail(place=(-30.0, 40.001), vessel_id=SHIP + 1, fate="two"))


@case
def shared_identity_far_apart() -> list[Row]:
    return _mixed(sail(), sail(start=23.0, place=FAR, fate="two"))


@case
def shared_identity_of_unequal_rates() -> list[Row]:
    return _mixed(sail(90, every=20.0), sail(30, start=7.0, every=61.0, place=FAR, fate="two"))


@case
def shared_identity_at_equal_instants() -> list[Row]:
    return _mixed(sail(), sail(place=FAR, fate="two"))


@case
def shared_identity_without_motion() -> list[Row]:
    return _mixed(sail(told=False), sail(start=23.0, place=FAR, told=False, fate="two"))


@case
def shared_identity_twenty_kilometres_apart() -> list[Row]:
    return _mixed(sail(), sail(start=23.0, place=(-30.0, 40.18), fate="two"))


@case
def shared_identity_of_three() -> list[Row]:
    two, three = sail(start=23.0, place=FAR, fate="two"), sail(start=41.0, place=(140.0, 35.0), fate="three")
    return _mixed(sail(), two, three)


@case
def shared_identity_of_two_moored_ships() -> list[Row]:
    return _mixed(lie(every=180.0), lie(every=170.0, start=50.0, place=FAR, fate="two"))


@case
def shared_identity_across_the_antimeridian() -> list[Row]:
    one = sail(place=(179.98, 10.0), course=90.0)
    return _mixed(one, sail(start=23.0, place=(-178.0, 12.0), course=270.0, fate="two"))


@case
def shared_identity_with_an_outlier() -> list[Row]:
    return _mixed(spoiled(sail(), 17), sail(start=23.0, place=FAR, fate="two"))


@case
def identity_handed_on() -> list[Row]:
    return [*sail(), *sail(start=2500.0, place=FAR, fate="two")]


@case
def second_vessel_appears_in_bursts() -> list[Row]:
    bursts = [
        sail(12, start=1000.0 + 3000.0 * k, place=(5.0 + 0.2 * k, 55.0), course=90.0, fate="two") for k in range(2)
    ]
    return _mixed(sail(120), *bursts)


@case
def silence_of_61_minutes() -> list[Row]:
    return [*sail(), *sail(start=39 * 60 + 3660.0, place=(-29.5, 40.1), fate="two")]


@case
def silence_of_59_minutes() -> list[Row]:
    return [*sail(), *sail(start=39 * 60 + 3540.0, place=(-29.7, 40.0))]


@case
def silence_of_a_week_at_one_berth() -> list[Row]:
    return [*lie(), *lie(start=7 * 86_400.0, fate="two", seed=1)]


@case
def longer_silences_allowed() -> tuple[list[Row], CleanRules]:
    return [*sail(), *sail(start=39 * 60 + 3660.0, place=(-29.5, 40.1))], CleanRules(gap_s=7200.0)


@case
def lone_fix_between_silences() -> list[Row]:
    alone = shifted(sail(1, place=(-29.6, 40.05)), 3 * 3600.0, fate="alone")
    return [*sail(), *alone, *sail(start=6 * 3600.0, place=(-29.2, 40.1), fate="two")]


@case
def one_fix() -> list[Row]:
    return sail(1)


@case
def two_fixes() -> list[Row]:
    return sail(2)


def _station(vessel_id: int, fate: str, source: str = "case") -> list[Row]:
    return [*sail(5), *lie(5, vessel_id=vessel_id, fate=fate, source=source)]


@case
def base_station() -> list[Row]:
    return _station(2_190_047, "base station")


@case
def base_station_report_with_a_ship_s_identity() -> list[Row]:
    return _station(219_000_077, "base station", "nmea:4")


@case
def aid_to_navigation() -> list[Row]:
    return _station(992_191_234, "aid to navigation")


@case
def aid_to_navigation_report() -> list[Row]:
    return _station(219_000_077, "aid to navigation", "nmea:21")


@case
def search_and_rescue_transmitter() -> list[Row]:
    return _station(970_010_001, "search transmitter")


@case
def man_overboard() -> list[Row]:
    return _station(972_010_001, "search transmitter")


@case
def emergency_beacon() -> list[Row]:
    return _station(974_010_001, "search transmitter")


@case
def identity_of_too_few_digits() -> list[Row]:
    return _station(1_193_046, "impossible identity")


@case
def identity_zero() -> list[Row]:
    return _station(0, "impossible identity")


@case
def negative_identity() -> list[Row]:
    return _station(-219_000_001, "impossible identity")


@case
def identity_123456789() -> list[Row]:
    return _station(123_456_789, "impossible identity")


@case
def identity_of_equal_digits() -> list[Row]:
    return _station(222_222_222, "impossible identity")


@case
def identity_999999999() -> list[Row]:
    return _station(999_999_999, "impossible identity")


@case
def craft_of_a_parent_ship() -> list[Row]:
    return sail(vessel_id=982_191_234)


@case
def handheld_radio() -> list[Row]:
    return sail(vessel_id=821_912_345)


@case
def number_of_the_source_itself() -> list[Row]:
    return sail(vessel_id=2_111_929_706)


@case
def small_number_of_the_source_itself() -> tuple[list[Row], CleanRules]:
    return sail(vessel_id=7), CleanRules(mmsi=False)


@case
def no_time() -> list[Row]:
    rows = sail()
    return [*rows, replace(rows[3], time_s=None, fate="no time")]


@case
def no_position() -> list[Row]:
    return [replace(row, lon_deg=None, fate="no position") if i == 3 else row for i, row in enumerate(sail())]


@case
def position_not_a_number() -> list[Row]:
    return [replace(row, lat_deg=math.nan, fate="no position") if i == 3 else row for i, row in enumerate(sail())]


@case
def latitude_91() -> list[Row]:
    return [replace(row, lat_deg=91.0, fate="no position") if i == 3 else row for i, row in enumerate(sail())]


@case
def longitude_181() -> list[Row]:
    return [replace(row, lon_deg=181.0, fate="no position") if i == 3 else row for i, row in enumerate(sail())]


@case
def no_identity() -> list[Row]:
    return [replace(row, vessel_id=None, fate="no identity") if i == 3 else row for i, row in enumerate(sail())]


@case
def all_rows_rejected() -> list[Row]:
    return lie(5, vessel_id=2_190_047, fate="base station")


@case
def shared_identity_heard_hourly_without_speeds() -> tuple[list[Row], CleanRules]:
    one = sail(60, every=3600.0, knots=14.0, told=False)
    two = sail(60, start=1800.0, every=3600.0, knots=14.0, told=False, place=FAR, fate="two")
    return [row for pair in zip(one, two, strict=True) for row in pair], HOURLY


@case
def identity_handed_on_between_vessels_heard_hourly() -> tuple[list[Row], CleanRules]:
    one = sail(40, every=3600.0, knots=14.0, told=False)
    two = sail(40, start=40 * 3600.0, every=3600.0, knots=14.0, told=False, place=FAR, fate="two")
    return [*one, *two], HOURLY


@case
def shared_identity_of_which_one_is_heard_seldom() -> list[Row]:
    one = sail(2400, every=6.0, knots=14.0)
    two = lie(80, start=1.0, every=180.0, place=FAR, fate="two")
    return sorted([*one, *two], key=lambda row: row.time_s or 0.0)


@case
def errors_at_one_place_now_and_then() -> list[Row]:
    rows = sail(2400, every=6.0, knots=14.0)
    wrong = replace(rows[0], lon_deg=5.0, lat_deg=55.0, fate="position jump")
    return [replace(wrong, time_s=row.time_s) if i % 97 == 50 else row for i, row in enumerate(rows)]


@case
def shared_identity_heard_in_passes_far_between() -> tuple[list[Row], CleanRules]:
    passes = [12, 15]
    one = [row for n in range(40) for row in sail(12, start=5700.0 * n, place=(-30.0, 40.0 + n / 3), course=0.0)]
    two = [
        row
        for n in passes
        for row in sail(12, start=5700.0 * n + 2850.0, place=(FAR[0], FAR[1] + n / 3), course=0.0, fate="two")
    ]
    return sorted([*one, *two], key=lambda row: row.time_s or 0.0), HOURLY
