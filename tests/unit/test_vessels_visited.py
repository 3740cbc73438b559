"""Where vessels have been, and how the vessels passed whose ways are told."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geodiff.sphere import distance_km, from_local_km, to_local_km
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.visited import VisitedPlaces
from geodiff.vessels.window_history import COMPARED, HALTS, MANNER
from geodiff.vessels.windows import build_windows

DAY = 86_400.0
KNOWN = 19
NOW = 1.6e9
KNOTS = 12.0
KM_S = KNOTS * 1.852 / 3600

MANNER_AT = slice(2 + 2 * len(COMPARED), 2 + 2 * len(COMPARED) + MANNER)
VISITED_AT = slice(-2 * len(HALTS), None)


def lane(vessel, *, branch=0, start=0.0, shift_km=0.0, ship_type=70, hours=6.0, bearing=90.0, swerve=0.0):
    """Two hours along a bearing, then on along one of two branches (1: to port, -1: to starboard; 0: straight on).

    ``shift_km`` to port; ``swerve`` degrees to port by which the whole is turned about where a question is asked.
    """
    time = np.arange(0.0, hours * 3600 + 1, 300.0)
    way = KM_S * time
    fork = 2 * 3600 * KM_S
    beyond = np.maximum(way - fork, 0.0)
    along = np.minimum(way, fork) + beyond * np.cos(np.pi / 4 * branch)
    across = beyond * np.sin(np.pi / 4 * branch) + shift_km
    here = 300.0 * (KNOWN - 1) * KM_S
    turned = np.radians(swerve)
    along, across = (
        here + np.cos(turned) * (along - here) - np.sin(turned) * across,
        np.sin(turned) * (along - here) + np.cos(turned) * across,
    )
    course = np.radians(bearing)
    east = along * np.sin(course) - across * np.cos(course)
    north = along * np.cos(course) + across * np.sin(course)
    lon, lat = from_local_km(east, north, 5.0, 55.0)
    headed = bearing - swerve - np.where(way < fork, 0.0, 45.0 * branch)
    return pl.DataFrame(
        {
            "vessel_id": np.full(len(time), vessel),
            "time": pl.Series(((NOW + start + time) * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
            "lon_deg": lon,
            "lat_deg": lat,
            "sog_kn": np.full(len(time), KNOTS, np.float32),
            "cog_deg": (headed % 360).astype(np.float32),
            "ship_type": np.full(len(time), ship_type, np.int16),
            "track_id": [f"{vessel}/{start:.0f}"] * len(time),
            "state": ["observed"] * len(time),
        }
    )


def question(*, hours=3.0, ship_type=70, kind="after", bearing=90.0):
    """A vessel one and a half hours along the lane: what follows, a gap that follows, or what came before."""
    mine = lane(99, bearing=bearing)
    time = mine["time"].dt.epoch("s").to_numpy().astype(float)
    now = time[KNOWN - 1]
    shown = {"after": time <= now, "gap": (time <= now) | (time > now + 3600 * hours), "before": time >= now}[kind]
    known = (mine[name].to_numpy().astype(float)[shown] for name in ("lon_deg", "lat_deg", "sog_kn", "cog_deg"))
    asked = now + 3600.0 * np.array([0.2 * hours, hours]) * (-1 if kind == "before" else 1)
    return TrackQuery(time[shown], *known, np.sort(asked), ship_type, 99)


def forecast(history, **how):
    return build_windows([question(**how)], history)


def told(windows):
    """Paths that are known at the end: departures (k, 4) there, and likeness."""
    there = windows.paths[0, :, 1, -1] > 0
    return windows.paths[0, there, 1, :-1].astype(float), windows.likeness[0, there].astype(float)


@given(seed=st.integers(0, 10_000))
@example(seed=1541)
def test_the_nearest_place_is_that_of_all_ways_that_are_not_hidden(seed):
    rng = np.random.default_rng(seed)
    vessel = np.sort(rng.integers(0, 3, 40))
    track = 2 * vessel + np.sort(rng.integers(0, 2, 40))
    order = np.argsort(track, kind="stable")
    vessel, track = vessel[order], track[order]
    time, lon, lat = np.sort(rng.uniform(0, 100, 40)), rng.uniform(-1, 1, 40) + 179.9, rng.uniform(69, 70, 40)
    places = VisitedPlaces(vessel, track, time, lon, lat)
    asks, x, y = np.array([0, 2, 7]), rng.uniform(-1, 1, (3, 4)) - 180.1, rng.uniform(69, 70, (3, 4))
    hidden = np.sort(rng.uniform(-10, 110, (3, 2)), 1)
    found = places.nearest_km(asks, x, y, hidden, np.full(3, 12.0))
    for row, who in enumerate(asks):
        for col in range(4):
            best = np.inf
            for part in (time < hidden[row, 0], time >= hidden[row, 1]):
                mine = np.flatnonzero((vessel == who) & part)
                # A track of one fix is a place by itself.
                alone = mine[np.bincount(track)[track[mine]] == 1]
                best = distance_km(x[row, col], y[row, col], lon[alone], lat[alone]).min(initial=best)
                for one, two in itertools.pairwise(mine):
                    if track[one] == track[two]:
                        share = np.linspace(0, 1, 400)
                        east, north = to_local_km(lon[two], lat[two], lon[one], lat[one])
                        way = from_local_km(share * east, share * north, lon[one], lat[one])
                        best = min(best, distance_km(x[row, col], y[row, col], *way).min())
            if min(best, found[row, col]) < 47.5:
                assert found[row, col] == pytest.approx(best, abs=0.6)


def ferry(days, rng):
    """There and back along a bent lane, every two minutes, with stays of any length: ``VisitedPlaces`` takes it."""
    lane_km = np.concatenate([np.stack([np.arange(0, 30, 0.7), np.zeros(43)], 1), np.array([[30.0, 20.0]])])
    trips = []
    for _ in range(6 * days):
        stay = np.repeat(lane_km[:1], rng.integers(1, 40), 0)
        trips += [stay, lane_km + rng.normal(0, 0.02, lane_km.shape)]
        lane_km = lane_km[::-1]
    way = np.concatenate(trips)
    one = np.ones(len(way), np.int64)
    return VisitedPlaces(one, one, 120.0 * np.arange(len(way)), *from_local_km(way[:, 0], way[:, 1], 5.0, 55.0))


@pytest.mark.parametrize("days", [2, 400])
def test_however_long_a_record_is_places_are_known_to_a_fiftieth_of_the_reach(days):
    known = ferry(days, np.random.default_rng(0))
    on = from_local_km(np.array([[0.0, 7.3, 29.0, 30.0]]), np.array([[0.0, 0.0, 0.0, 11.0]]), 5.0, 55.0)
    off = from_local_km(np.array([[10.0, 40.0]]), np.array([[9.0, 10.0]]), 5.0, 55.0)
    for reach in (20.0, 70.0):
        ask = np.array([[np.inf, np.inf]]), np.array([reach])
        assert (known.nearest_km(np.array([1]), *on, *ask) < reach / 50).all()
        np.testing.assert_allclose(known.nearest_km(np.array([1]), *off, *ask), [[9.0, 10.0]], atol=reach / 40)
    # A lane of 50 km gone thousands of times is kept as the few ways that there are across each cell.
    assert max(len(ways.begin) for ways in known._level(0)) < 5000


def test_a_way_counts_only_when_all_of_it_was_gone():
    time = np.array([0.0, 10.0, 20.0])
    places = VisitedPlaces(
        np.ones(3, np.int64), np.zeros(3, np.int64), time, np.array([5.0, 5.1, 5.2]), np.full(3, 55.0)
    )
    far_end = np.array([[5.2]]), np.array([[55.0]])
    for hidden, near in (
        ([21.0, np.inf], 5.2), ([19.0, np.inf], 5.1), ([9.0, np.inf], None), ([-np.inf, 0.0], 5.2), ([5.0, 11.0], None),
    ):  # fmt: skip
        found = places.nearest_km(np.array([1]), *far_end, np.array([hidden]), np.array([20.0]))[0, 0]
        expected = np.inf if near is None else distance_km(5.2, 55.0, near, 55.0)
        assert found == pytest.approx(expected, abs=0.01)


def test_of_a_long_record_the_ways_looked_at_do_not_hang_on_what_came_later():
    rng = np.random.default_rng(0)
    time, way = np.arange(950.0), np.cumsum(rng.normal(0, 0.4, (950, 2)), 0)
    lon, lat = from_local_km(way[:, 0], way[:, 1], 5.0, 55.0)
    place = from_local_km(rng.normal(0, 9, (1, 30)), rng.normal(0, 9, (1, 30)), 5.0, 55.0)
    one, ask = np.ones(950, np.int64), (np.array([[600.0, np.inf]]), np.array([20.0]))
    whole, past = (
        VisitedPlaces(one[:n], one[:n], time[:n], lon[:n], lat[:n]).nearest_km(np.array([1]), *place, *ask)
        for n in (950, 600)
    )
    np.testing.assert_array_equal(whole, past)
    assert len(np.unique(whole)) == 30


def test_nobody_in_particular_has_been_nowhere():
    places = VisitedPlaces(np.array([-1, -1]), np.zeros(2, np.int64), np.arange(2.0), np.full(2, 5.0), np.full(2, 55.0))
    ask = np.full((1, 1), 5.0), np.full((1, 1), 55.0), np.array([[9.0, np.inf]]), np.array([20.0])
    assert np.isinf(places.nearest_km(np.array([-1]), *ask)).all()


@pytest.mark.parametrize("bearing", [90.0, 0.0, 215.0])
def test_a_way_that_leads_where_the_vessel_has_been_is_told_from_one_that_does_not(bearing):
    """Others take both branches; weeks ago the vessel itself came home along the one to port."""
    others = [lane(number, branch=branch, start=-DAY, bearing=bearing) for number, branch in ((1, 1), (2, -1))]
    home = lane(99, branch=1, start=-20 * DAY, bearing=bearing).reverse()
    home = home.with_columns(time=home["time"].sort(), cog_deg=(pl.col("cog_deg") + 180) % 360)
    history = TrackHistory.from_table(pl.concat([*others, home]))
    ends, like = told(forecast(history, hours=1.5, bearing=bearing))
    ends, like = ends[like[:, 1] == 0], like[like[:, 1] == 0]
    port, starboard = like[np.argsort(-ends[:, 1])][:, VISITED_AT]
    assert (port > 0.9).all()  # at the end of the stretch and on the way there, as the path leads and as it lay
    assert (starboard[::2] < 0.5).all()
    assert (starboard[1::2] > 0.9).all()  # before the fork


def test_where_a_path_lay_may_be_known_though_where_it_leads_is_not():
    """Everybody passed four kilometres to port, the vessel itself as well."""
    others, own = lane(1, start=-DAY, shift_km=4.0), lane(99, start=-20 * DAY, shift_km=4.0)
    _, like = told(forecast(TrackHistory.from_table(pl.concat([others, own]))))
    end, _, lay_end, _ = like[like[:, 1] == 0][0, VISITED_AT]
    assert lay_end > 0.9
    assert end < 0.8


def test_what_a_vessel_does_later_or_on_this_voyage_is_not_where_it_has_been():
    others = [lane(1, branch=1, start=-DAY), lane(2, branch=-1, start=-DAY)]
    never, before = forecast(TrackHistory.from_table(pl.concat(others))), lane(99, branch=1, start=-20 * DAY)
    assert not told(never)[1][:, VISITED_AT].any()
    for start in (0.0, DAY, -10 * 3600.0):
        now = forecast(TrackHistory.from_table(pl.concat([*others, lane(99, branch=1, start=start)])))
        assert not told(now)[1][:, VISITED_AT].any()
    assert told(forecast(TrackHistory.from_table(pl.concat([*others, before]))))[1][:, VISITED_AT].any()


def test_a_path_is_told_as_it_leads_from_the_vessel_and_as_it_lay():
    """A lane two kilometres to port of the vessel: led from here it goes straight on."""
    windows = forecast(TrackHistory.from_table(lane(1, start=-DAY, shift_km=2.0)))
    ends, _ = told(windows)
    along, across, lay_along, lay_across = np.sinh(ends[0]) * windows.unit_km[0, 1]
    assert abs(across) < 0.6  # what the bearing of a great circle changes by
    assert lay_across - across == pytest.approx(2.0, abs=0.05)
    assert abs(lay_along - along) < 1.0  # at most from one fix to the next


def test_where_a_path_lay_is_true_where_meridians_converge():
    """Seventy degrees north, a passing sixty kilometres to the east: its north is not the vessel's."""
    time = NOW + np.arange(0.0, 6 * 3600 + 1, 300.0)
    way = KM_S * (time - NOW)

    def northward(vessel, lon0, start):
        lon, lat = from_local_km(np.zeros_like(way), way, lon0, 70.0)
        table = lane(vessel, start=start)
        return table.with_columns(lon_deg=lon, lat_deg=lat, cog_deg=pl.lit(0.0, pl.Float32))

    theirs = northward(1, 11.6, -DAY)
    mine = northward(99, 10.0, 0.0)
    known = (mine[name].to_numpy().astype(float)[:13] for name in ("lon_deg", "lat_deg", "sog_kn", "cog_deg"))
    windows = build_windows([TrackQuery(time[:13], *known, time[[24, 60]], 70, 99)], TrackHistory.from_table(theirs))
    ends, _ = told(windows)
    lay = np.sinh(ends[0, 2:]) * windows.unit_km[0, 1] + windows.prior_km[0, 1]
    lon, lat = theirs["lon_deg"].to_numpy(), theirs["lat_deg"].to_numpy()
    east, north = to_local_km(lon, lat, mine["lon_deg"][12], mine["lat_deg"][12])
    # The frame runs along north, its second axis to the west.
    assert np.hypot(north - lay[0], -east - lay[1]).min() < 0.3


@pytest.mark.parametrize(("theirs", "mine", "same"), [(70, 71, 1.0), (70, 80, 0.0), (0, 0, 0.0)])
def test_how_a_vessel_passed_is_told(theirs, mine, same):
    passed = lane(1, start=-9 * DAY, shift_km=1.0, ship_type=theirs, swerve=10.0)
    manner = told(forecast(TrackHistory.from_table(passed), ship_type=mine))[1][0, MANNER_AT]
    np.testing.assert_allclose(manner[:2], [np.cos(np.radians(10)), np.sin(np.radians(10))], atol=0.02)
    assert manner[3] > 0.1
    assert manner[4] == same
    assert np.expm1(5 * manner[5]) == pytest.approx(9.0, abs=0.1)


@pytest.mark.parametrize("kind", ["after", "gap", "before"])
def test_of_what_is_hidden_nothing_is_told(kind):
    """All that history says is the same wherever the vessel went while it is hidden, and others ahead of a forecast."""
    own = [lane(99, branch=-1, start=-20 * DAY, shift_km=0.2), lane(99), lane(99, start=20 * DAY, shift_km=-0.4)]
    others = [lane(1, branch=1, start=-DAY, shift_km=0.3), lane(4, branch=1, start=1200.0), lane(5, start=DAY)]
    whole = pl.concat([*own, *others])
    at = pl.col("time").dt.epoch("s") - (NOW + 300 * (KNOWN - 1))
    mine = pl.col("vessel_id") == 99
    hidden = {
        "after": at > 0,
        "gap": mine & (at > 0) & (at <= 3 * 3600),
        "before": mine & (at < 0),
    }[kind]
    elsewhere = whole.with_columns(lat_deg=pl.when(hidden).then(pl.col("lat_deg") + 0.4).otherwise(pl.col("lat_deg")))
    one, other = (forecast(TrackHistory.from_table(some), kind=kind) for some in (whole, elsewhere))
    assert one.likeness[0, :, VISITED_AT].any()
    for name in ("history", "paths", "likeness"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
