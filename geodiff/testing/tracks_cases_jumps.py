"""Cases: positions that jump, alone or in a row, with and without a witness in the reported motion."""

# ruff: noqa: D103

from __future__ import annotations

from dataclasses import replace

from geodiff.testing.tracks_cases import HOURLY, Row, case, lie, moved, sail, spoiled
from geodiff.vessels.clean_rules import CleanRules


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
def two_bursts_that_fit_together() -> list[Row]:
    rows = sail(300, knots=7.0, ship_type=52)
    off = [*range(60, 68), *range(200, 208)]
    return [moved(row, 45.0, 90.0) if i in off else row for i, row in enumerate(rows)]


@case
def outliers_at_anchor_six_minutes_apart() -> list[Row]:
    rows = lie(60, every=360.0)
    return [moved(row, 5.0) if i in (20, 40) else row for i, row in enumerate(rows)]


@case
def outlier_at_anchor_heard_hourly() -> tuple[list[Row], CleanRules]:
    rows = lie(60, every=3600.0)
    return [moved(row, 50.0) if i == 20 else row for i, row in enumerate(rows)], HOURLY


@case
def ferry_seen_at_its_berths_alone() -> list[Row]:
    rows = [*lie(4, every=900.0), *lie(1, start=3600.0), *lie(4, start=4500.0, every=900.0)]
    crossing = [moved(row, 6.0, fate="one") if i == 4 else row for i, row in enumerate(rows)]
    under_way = sail(10, start=9000.0, knots=16.0)
    return [*(replace(row, ship_type=60) for row in crossing), *(replace(row, ship_type=60) for row in under_way)]


@case
def ferry_whose_speed_is_always_nought() -> list[Row]:
    rows = lie(60, every=900.0, ship_type=60)
    return [moved(row, 5.0, fate="one") if i % 4 == 3 else row for i, row in enumerate(rows)]
