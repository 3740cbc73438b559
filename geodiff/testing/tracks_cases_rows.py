"""Cases: rows that say it twice or contradict each other, rows in any order, and clocks that jump."""

# ruff: noqa: D103

from __future__ import annotations

from dataclasses import replace

from geodiff.testing.tracks_cases import Row, case, moved, sail, shifted


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
def same_instant_whose_wrong_row_comes_first() -> list[Row]:
    rows = sail()
    wrong = {n: moved(rows[n], 0.25, fate="same instant") for n in range(5, 40, 10)}
    return [each for n, row in enumerate(rows) for each in ((wrong[n], row) if n in wrong else (row,))]


@case
def position_sent_again_with_a_new_time() -> list[Row]:
    rows = sail(every=10.0)
    return [
        each
        for n, row in enumerate(rows)
        for each in ((row, *shifted([row], 7.0, "stale copy")) if n % 4 == 0 else (row,))
    ]


@case
def fixes_received_again_a_minute_late() -> list[Row]:
    rows = sail(200, every=10.0)
    return [*rows, *shifted(rows[::2], 61.3, "stale copy")]


@case
def frozen_position_of_a_ship_under_way() -> list[Row]:
    rows = sail()
    frozen = [each for n in range(1, 6) for each in shifted([rows[20]], 60.0 * n, "stale copy")]
    return [*rows[:21], *frozen, *rows[26:]]


@case
def coarse_positions_of_a_slow_ship() -> list[Row]:
    return sail(120, every=20.0, knots=3.0, digits=3)


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
