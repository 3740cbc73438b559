"""Resampling on the sphere and stops, against paths that are known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.schema import UsageError
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, move, turn_deg
from geodiff.testing.tracks import START, make_fleet, table_of_fixes
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.clean_rules import CleanRules
from geodiff.vessels.resample import Method, resample
from geodiff.vessels.stops import find_stops, mark_stops, without_stops

RULES = CleanRules(gap_s=6 * 3600.0)
METHODS: tuple[Method, ...] = ("hermite", "linear")


def _table(
    seconds: list[float],
    lon: list[float],
    lat: list[float] | float,
    sog: list[float] | float | None,
    cog: list[float | None] | float | None,
    **columns: object,
) -> pl.DataFrame:
    return clean_fixes(table_of_fixes(seconds, lon, lat, sog_kn=sog, cog_deg=cog, heading_deg=77.0, **columns), RULES)


def _great_circle(
    place: tuple[float, float], course: float, knots: float, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return move(
        np.full(len(seconds), place[0]), np.full(len(seconds), place[1]), course, knots * KM_PER_NMI / 3600 * seconds
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [(-30.0, 40.0), (179.9, -20.0), (-179.9, 5.0), (10.0, 89.7)])
@settings(max_examples=15, deadline=None)
@given(course=st.floats(0, 359.9), knots=st.floats(1.0, 30.0), told=st.booleans())
def test_great_circles_stay_great_circles(
    method: Method, place: tuple[float, float], course: float, knots: float, told: bool
) -> None:
    seconds = np.array([0.0, 1300.0, 4000.0])
    lon, lat = _great_circle(place, course, knots, seconds)
    # The course of a great circle changes along it: taken over the second about each fix.
    before, after = (_great_circle(place, course, knots, seconds + step) for step in (-0.5, 0.5))
    cog = [float(c) % 360.0 for c in course_deg(*before, *after)] if told else None
    found = resample(_table(list(seconds), list(lon), list(lat), knots if told else None, cog), 100.0, method=method)
    assert found.height == 41
    assert found.filter(pl.col("state") == "observed").height == 3
    true = _great_circle(place, course, knots, np.arange(41) * 100.0)
    assert distance_km(found["lon_deg"], found["lat_deg"], *true).max() < 0.005
    assert found["lon_deg"].is_between(-180.0, 180.0, closed="left").all()
    imputed = found.filter(pl.col("state") == "imputed")
    assert np.abs(imputed["sog_kn"].to_numpy() - knots).max() < 0.02 * knots + 0.01


def test_hermite_follows_a_turn_that_a_line_cuts() -> None:
    """A quarter of a circle of 2 nmi radius at 12 knots: the cubic errs by a thirtieth of what the chord does."""
    seconds = np.linspace(0.0, np.pi / 2 * 2 / 12 * 3600, 3)
    angles = np.radians(np.linspace(0.0, 90.0, 3))

    def turn(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(angle)
        return move(np.full(count, -30.0), np.zeros(count), np.degrees(angle) - 90.0, np.full(count, 2 * KM_PER_NMI))

    lon, lat = turn(angles)
    fixes = _table(list(seconds), list(lon), list(lat), 12.0, [float(np.degrees(a)) for a in angles])
    errors = {}
    for method in METHODS:
        found = resample(fixes, 30.0, method=method)
        part = (found["time"].to_physical().to_numpy() * 1e-6 - START.timestamp()) / seconds[-1]
        errors[method] = distance_km(found["lon_deg"], found["lat_deg"], *turn(part * np.pi / 2)).max()
    assert errors["hermite"] < 0.02
    assert errors["linear"] > 0.2


def test_rows_say_where_they_come_from() -> None:
    fixes = _table([0.0, 60.0, 150.0], [-30.0, -29.99, -29.97], [40.0, 40.0, 40.0], 28.0, [90.0] * 3)
    found = resample(fixes, 60.0)
    assert found.columns == fixes.columns
    assert found.schema == fixes.schema
    assert found["state"].to_list() == ["observed", "observed", "imputed"]
    assert found.head(2).equals(fixes.head(2))
    last = found.row(2, named=True)
    assert (last["source"], last["row"], last["heading_deg"], last["ship_type"]) == ("hermite", None, None, 70)
    assert last["track_id"] == fixes["track_id"][0]


@pytest.mark.parametrize("method", METHODS)
def test_the_course_of_north_is_never_360(method: Method) -> None:
    seconds = [60.0 * k for k in range(60)]
    north = _table(seconds, [10.39] * 60, [60.0 + 0.003 * k for k in range(60)], 11.0, None)
    course = resample(north, 20.0, method=method)["cog_deg"].drop_nulls()
    assert len(course) > 100
    assert (course < 360.0).all()
    turned = np.minimum(course.to_numpy(), 360.0 - course.to_numpy())
    assert turned.max() < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_nothing_beyond_tracks_and_across_gaps(method: Method) -> None:
    fleet = make_fleet(3, 12, 8.0, defects={"gap": 2.0, "shared identity": 0.3, "jump": 2.0})
    cleaned = clean_fixes(fleet.fixes)
    found = resample(cleaned, 45.0, method=method)
    assert found.select("vessel_id", "time").equals(found.select("vessel_id", "time").sort("vessel_id", "time"))
    assert not found.select("track_id", "time").is_duplicated().any()
    assert (found["time"].to_physical() % 45_000_000 == 0).all()
    spans = (
        cleaned.filter(pl.col("state") == "observed")
        .group_by("track_id")
        .agg(a=pl.col("time").min(), b=pl.col("time").max())
    )
    both = found.join(spans, on="track_id", how="left")
    assert both.select(pl.col("time").is_between("a", "b")).to_series().all()
    # Every multiple of the step within a track is there.
    steps = (
        spans.select(pl.col("b").to_physical() // 45_000_000 - (pl.col("a").to_physical() - 1) // 45_000_000)
        .sum()
        .item()
    )
    assert found.height == steps
    exact = cleaned.filter((pl.col("state") == "observed") & (pl.col("time").to_physical() % 45_000_000 == 0))
    assert found.filter(pl.col("state") == "observed").sort("row").equals(exact.sort("row"))


def test_partition_does_not_matter() -> None:
    cleaned = clean_fixes(make_fleet(4, 6, 4.0).fixes)
    parts = [resample(part, 30.0) for _, part in sorted(cleaned.group_by("vessel_id"))]
    assert pl.concat(parts).equals(resample(cleaned, 30.0))


def test_error_of_hermite_on_a_fleet_is_that_of_its_fixes() -> None:
    fleet = make_fleet(5, 9, 6.0, defects={})
    found = resample(clean_fixes(fleet.fixes), 20.0)
    errors = []
    for (vessel,), rows in found.group_by((pl.col("vessel_id") - 219_000_000) // 7):
        true = fleet.paths[vessel].at(rows["time"].to_physical().to_numpy() * 1e-6)
        errors.append(distance_km(rows["lon_deg"].to_numpy(), rows["lat_deg"].to_numpy(), *true))
    assert np.median(np.concatenate(errors)) < 0.012
    assert np.quantile(np.concatenate(errors), 0.99) < 0.15


@pytest.mark.parametrize("empty", [True, False])
def test_no_fixes_or_one(empty: bool) -> None:
    cleaned = _table([60.0], [-30.0], [40.0], 5.0, [1.0]).head(0 if empty else 1)
    assert resample(cleaned, 60.0).equals(cleaned)
    assert resample(cleaned, 7.0).height == 0
    assert find_stops(cleaned).height == 0
    assert without_stops(cleaned).equals(cleaned)


@pytest.mark.parametrize(
    ("every_s", "method", "told"),
    [
        (0.0, "linear", "above zero"),
        (-5.0, "linear", "above zero"),
        (float("nan"), "linear", "above zero"),
        (60.0, "cubic", "hermite"),
    ],
)
def test_what_cannot_be_resampled_is_refused(every_s: float, method: Method, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        resample(_table([0.0], [0.0], [0.0], None, None), every_s, method=method)


def test_raw_fixes_are_refused() -> None:
    with pytest.raises(UsageError, match="clean it"):
        resample(make_fleet(0, 1, 1.0).fixes, 60.0)
    with pytest.raises(UsageError, match="clean it"):
        find_stops(make_fleet(0, 1, 1.0).fixes)


def _moves(
    *legs: tuple[float, float], place: tuple[float, float] = (-30.0, 40.0), noise_km: float = 0.01
) -> pl.DataFrame:
    """Legs of (minutes, knots), a fix each minute, eastwards, with noise."""
    rng = np.random.default_rng(0)
    knots = np.concatenate([np.full(int(minutes), speed) for minutes, speed in legs])
    reach = np.concatenate([[0.0], np.cumsum(knots * KM_PER_NMI / 60.0)])
    lon, lat = move(np.full(len(reach), place[0]), np.full(len(reach), place[1]), 90.0, reach)
    lon, lat = move(lon, lat, rng.uniform(0, 360, len(lon)), rng.rayleigh(noise_km, len(lon)))
    return _table(list(np.arange(len(reach)) * 60.0), list(lon), list(lat), None, None)


@pytest.mark.parametrize("place", [(-30.0, 40.0), (179.995, -10.0), (20.0, 85.0)])
def test_stops_are_where_a_vessel_lay(place: tuple[float, float]) -> None:
    table = _moves((60, 12.0), (90, 0.0), (40, 10.0), (10, 0.0), (40, 10.0), (120, 0.0), place=place)
    stops = find_stops(table)
    minutes = stops.select((pl.col("first", "last") - START).dt.total_minutes()).to_numpy()
    # Ten minutes are no stop; a vessel enters and leaves the radius within a minute or two.
    np.testing.assert_allclose(minutes, [(60, 150), (240, 360)], atol=2)
    assert (stops["count"] == (minutes[:, 1] - minutes[:, 0] + 1)).all()
    true = move(place[0], place[1], 90.0, np.array([12.0, 12.0 + 2 * 10 * 40 / 60]) * KM_PER_NMI)
    assert distance_km(stops["lon_deg"], stops["lat_deg"], *true).max() < 0.05
    assert stops["radius_m"].max() < 300


def test_two_berths_of_one_port_are_two_stops() -> None:
    """Ten hours at the first, some minutes to shift by 400 m, six hours at the second."""
    stops = find_stops(_moves((600, 0.0), (5, 2.6), (360, 0.0)))
    minutes = stops.select((pl.col("first", "last") - START).dt.total_minutes()).to_numpy()
    np.testing.assert_allclose(minutes, [(0, 600), (605, 965)], atol=4)
    assert stops["stop"].to_list() == [0, 1]


def test_slow_is_not_still() -> None:
    assert find_stops(_moves((240, 2.5))).height == 0
    assert find_stops(_moves((240, 0.0))).height == 1


def test_one_fix_astray_does_not_end_a_stop() -> None:
    table = _moves((120, 0.0))
    astray = table.with_columns(
        lat_deg=pl.when(pl.col("row") == 50).then(pl.col("lat_deg") + 0.006).otherwise("lat_deg")
    )
    assert find_stops(astray)["count"].to_list() == [121]


def test_summary_keeps_what_moves_and_the_ends_of_stops() -> None:
    table = _moves((60, 12.0), (90, 0.0), (40, 10.0))
    marked, short = mark_stops(table), without_stops(table)
    assert short.columns == table.columns
    assert short.height == marked["stop"].null_count() + 2
    stops = find_stops(table)
    assert stops["count"].sum() + marked["stop"].null_count() == table.height
    assert set(stops.row(0, named=True).keys()) == {
        "vessel_id",
        "track_id",
        "stop",
        "first",
        "last",
        "count",
        "lon_deg",
        "lat_deg",
        "radius_m",
    }


def test_moored_vessels_of_a_fleet_are_one_stop_each() -> None:
    fleet = make_fleet(2, 6, 10.0, behaviours=("moored", "transit", "fishing"), defects={})
    cleaned = clean_fixes(fleet.fixes, RULES)
    stops = find_stops(cleaned)
    assert stops["vessel_id"].to_list() == [219_000_000, 219_000_021]
    assert (stops["last"] - stops["first"]).min() > timedelta(hours=9)


def test_turn_is_circular() -> None:
    """Courses of 350 and 10 degrees meet at north."""
    fixes = _table([0.0, 600.0], [-30.0, -30.0], [40.0, 40.05], 18.0, [350.0, 10.0])
    cog = resample(fixes, 60.0)["cog_deg"].to_numpy()
    assert np.abs(turn_deg(0.0, cog)).max() < 30.0


def test_what_a_fix_says_of_that_moment_alone_is_not_made_up_between_fixes() -> None:
    found = resample(_table([0.0, 60.0, 150.0], [0.0, 0.01, 0.02], 0.0, 20.0, 90.0, nav_status=0), 30.0)
    imputed = found["state"] == "imputed"
    assert imputed.sum() == 3
    assert (found["nav_status"].is_null() == imputed).all()


def test_a_vessel_at_rest_needs_no_course_to_start_slowly() -> None:
    """From rest to 10.8 knots over the .03 degrees that 10.8 knots take: half-way in time is not half-way."""
    found = resample(_table([0.0, 600.0], [0.0, 0.03], 0.0, [0.0, 10.8], [None, 90.0]), 300.0)
    assert found["lon_deg"][1] == pytest.approx(0.01125, abs=1e-4)


def test_between_fixes_that_lie_close_together_the_speed_is_that_on_the_ground() -> None:
    """A degree of longitude is half as long at 60 degrees, and from 179.9999 east to 179.9999 west it is not far."""
    north = resample(_table([0.0, 2.0], [0.0, 0.0002], 60.0, None, None), 1.0)
    assert north["sog_kn"][1] == pytest.approx(10.8, abs=0.1)
    across = resample(_table([0.0, 4.0], [179.9999, -179.9999], 0.0, None, None), 1.0)
    assert (across["lon_deg"].abs() > 179.9).all()
    assert across["sog_kn"].drop_nulls().to_numpy() == pytest.approx(10.8, abs=0.1)


@pytest.mark.parametrize(("knots", "west"), [(10.0, -30.0030), (20.0, -30.0045), (40.0, -30.0045)])
def test_a_detour_is_as_wide_as_the_speeds_say_up_to_three_times_the_way(knots: float, west: float) -> None:
    """Off to the north-west and in from the south-west, 0.03 degrees to the east in half an hour.

    A cubic is half-way an eighth of the change of velocity times the time from the middle: 10 knots make 0.083 degrees,
    of which 2 sin 60 / 8 to the west; more than 0.09 no speed makes.
    """
    found = resample(_table([0.0, 1800.0], [-30.0, -29.97], 0.0, knots, [300.0, 60.0]), 900.0)
    assert found["lon_deg"][1] == pytest.approx(west, abs=1e-4)


def test_lying_just_as_long_as_the_least_duration_is_a_stop() -> None:
    minutes = [60.0 * k for k in range(21)]
    assert find_stops(_table(minutes, [0.0] * 21, 0.0, 0.0, 0.0))["count"].to_list() == [21]
    assert find_stops(_table(minutes[:20], [0.0] * 20, 0.0, 0.0, 0.0)).height == 0


def test_the_radius_of_a_stop_reaches_its_farthest_fix() -> None:
    swung = [0.001 * (k % 10 == 0) for k in range(61)]
    stops = find_stops(_table([60.0 * k for k in range(61)], swung, 0.0, 0.0, 0.0))
    assert stops["radius_m"].to_list() == pytest.approx([98.4], abs=0.5)


def test_swinging_across_180_degrees_is_one_stop() -> None:
    swung = [179.9995 if k % 2 else -179.9995 for k in range(60)]
    assert find_stops(_table([60.0 * k for k in range(60)], swung, 0.0, 0.0, 0.0))["count"].to_list() == [60]


def test_two_berths_without_a_fix_between_them_are_two_stops() -> None:
    """390 m apart; the place of most fixes is that of the first berth, not one between both."""
    moored = [0.0] * 45 + [0.0035] * 30
    assert find_stops(_table([60.0 * k for k in range(75)], moored, 0.0, 0.0, 0.0))["count"].to_list() == [45, 30]
