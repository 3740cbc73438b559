"""The classical motions: they hit their ends, reproduce the motions they are exact for, and hold on the sphere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.sphere import KM_S_PER_KN, distance_km, from_local_km, move, to_local_km, turn_deg
from geodiff.vessels.kinematics import (
    constant_turn,
    dead_reckon,
    difference_velocity,
    great_circle,
    hermite,
    linear,
    velocity_km_s,
)

KM = st.floats(-500, 500)
SPEED = st.floats(-0.02, 0.02)
PAIR = st.tuples(KM, KM).map(np.array)
VELOCITY = st.tuples(SPEED, SPEED).map(np.array)
LON, LAT = st.floats(-180, 180), st.floats(-75, 75)


@given(PAIR, PAIR, VELOCITY, VELOCITY, st.floats(0, 1e6), st.floats(60, 86_400))
def test_the_cubic_has_position_and_velocity_of_both_ends(p0, p1, v0, v1, t0, span):
    t1 = t0 + span
    np.testing.assert_allclose(hermite(t0, p0, v0, t1, p1, v1, t0), p0, atol=1e-9)
    np.testing.assert_allclose(hermite(t0, p0, v0, t1, p1, v1, t1), p1, atol=1e-9)
    eps = span * 1e-4
    for at, v, side in ((t0, v0, eps), (t1, v1, -eps)):
        slope = (hermite(t0, p0, v0, t1, p1, v1, at + side) - hermite(t0, p0, v0, t1, p1, v1, at)) / side
        reach = np.abs(v0).max() + np.abs(v1).max() + np.abs(p1 - p0).max() / span
        np.testing.assert_allclose(slope, v, atol=1e-3 * reach + 1e-9)


@given(PAIR, VELOCITY, st.floats(60, 86_400), st.floats(0, 1))
def test_all_agree_on_straight_motion_at_constant_speed(p0, v0, span, u):
    p1, t = p0 + span * v0, span * u
    truth = p0 + t * v0
    for guess in (
        linear(0.0, p0, span, p1, t),
        hermite(0.0, p0, v0, span, p1, v0, t),
        dead_reckon(0.0, p0, v0, t),
        constant_turn(0.0, p0, v0, 0.0, t),
    ):
        np.testing.assert_allclose(guess, truth, atol=1e-7)


@given(VELOCITY, st.floats(-0.01, 0.01), st.floats(-3600, 3600))
def test_a_turning_vessel_stays_on_its_circle_and_keeps_its_speed(v0, rate, t):
    speed = np.hypot(*v0)
    place = constant_turn(0.0, np.zeros(2), v0, rate, t)
    assert np.hypot(*place) <= speed * abs(t) + 1e-9
    if abs(rate) > 1e-6:
        radius = speed / abs(rate)
        centre = np.array([v0[1], -v0[0]]) / rate
        assert np.hypot(*(place - centre)) == pytest.approx(radius, abs=1e-6 * max(radius, 1))
    there = constant_turn(0.0, np.zeros(2), v0, rate, t / 2)
    angle = rate * t / 2
    turned = np.array([v0[0] * np.cos(angle) + v0[1] * np.sin(angle), v0[1] * np.cos(angle) - v0[0] * np.sin(angle)])
    np.testing.assert_allclose(constant_turn(t / 2, there, turned, rate, t), place, atol=1e-9)


def test_a_turn_to_starboard_from_north_goes_east():
    place = constant_turn(0.0, np.zeros(2), np.array([0.0, 0.01]), np.pi / 2 / 1000, 1000.0)
    assert place[0] == pytest.approx(place[1])
    assert place[0] > 0


@given(LON, LAT, LON, LAT, st.floats(0, 1))
def test_the_great_circle_is_the_shortest_way(lon0, lat0, lon1, lat1, u):
    whole = distance_km(lon0, lat0, lon1, lat1)
    if whole > 19_900:
        return
    lon, lat = great_circle((lon0, lat0), (lon1, lat1), u)
    assert distance_km(lon0, lat0, lon, lat) == pytest.approx(u * whole, abs=1e-4)
    assert distance_km(lon, lat, lon1, lat1) == pytest.approx((1 - u) * whole, abs=1e-4)


@given(LON, LAT, st.floats(0, 359.9), st.floats(1, 30), st.floats(0, 300), st.floats(0, 359.9))
def test_velocity_in_a_plane_points_where_the_vessel_goes(lon, lat, course, speed, away, bearing):
    centre = tuple(float(v) for v in move(lon, lat, bearing, away))
    velocity = velocity_km_s((lon, lat), speed, course, centre)
    minute = move(lon, lat, course, speed * KM_S_PER_KN * 60)
    here = np.array(to_local_km(lon, lat, *centre))
    ahead = from_local_km(*(here + 60 * velocity), *centre)
    # The plane stretches across its rays: by 0.04 % at 300 km.
    assert distance_km(*ahead, *minute) < 1e-3 * speed * KM_S_PER_KN * 60
    back = np.degrees(np.arctan2(*velocity_km_s((lon, lat), speed, course, (lon, lat)))) % 360
    assert abs(turn_deg(back, course)) < 1e-3


def test_unknown_speed_or_course_gives_no_velocity_but_a_still_vessel_needs_no_course():
    speeds, courses = np.array([np.nan, 10.0, 0.2, 0.2]), np.array([90.0, np.nan, np.nan, 10.0])
    velocity = velocity_km_s((np.zeros(4), np.zeros(4)), speeds, courses, (0.0, 0.0))
    assert np.isnan(velocity[:2]).all()
    assert (velocity[2:] == 0).all()


def test_differences_are_exact_for_parabolas_at_irregular_times():
    t = np.array([[0.0, 60.0, 200.0, 1000.0], [5.0, 6.0, 7.0, 9.0]])
    a, b = np.array([1e-6, -2e-6]), np.array([0.01, 0.003])
    found = difference_velocity(t, a * t[..., None] ** 2 + b * t[..., None])
    np.testing.assert_allclose(found[:, 1:-1], (2 * a * t[..., None] + b)[:, 1:-1], rtol=1e-9)
    assert (difference_velocity(t[:, :1], np.ones((2, 1, 2))) == 0).all()
