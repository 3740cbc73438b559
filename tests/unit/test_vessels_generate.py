"""Tracks that the denoiser makes: where they begin, what is told of them, and that they go on from what is given."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, move
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.track_generate import Wanted, generate_tracks
from geodiff.tasks.track_generate_stretches import LIMITS, TRIES, limits_kn, possible
from geodiff.tasks.track_generate_table import track_table
from geodiff.tasks.track_generate_velocities import _shown
from geodiff.tasks.track_pieces import Grid
from geodiff.tasks.track_starts import StartSpeeds
from geodiff.tasks.vessels_generate import generated_counts
from geodiff.tasks.vessels_settings import GenerateSettings
from geodiff.tracks import GENERATED, TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.reading import FIX_SCHEMA
from geodiff.vessels.windows_draw import BEHAVIOURS, behaviour_of

CARD = {"generation": {"step_s": 300.0, "steps": 24, "unit_kn": 0.3}}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    net = TrackDenoiser(track_config(width=16, heads=2, layers=1))
    return DenoiserMotion(net.eval(), CARD, None, "test")


def test_a_model_that_has_not_learned_generation_says_so(model):
    with pytest.raises(GeodiffError, match="test has not learned generation: train it with"):
        generate_tracks(dataclasses.replace(model, card={}), Wanted(count=1), start=(5.0, 50.0))


def test_tracks_begin_in_the_box_at_the_time_and_have_the_columns(model):
    settings = Wanted(count=5, ship_type=70, hours=8.0, step_s=600.0, guidance=2.0, behaviour="transit")
    made = generate_tracks(model, settings, start=(5.0, 50.0, 6.0, 51.0))
    assert made.schema.items() >= FIX_SCHEMA.items()
    assert made["state"].unique().to_list() == [GENERATED]
    firsts = made.group_by("track_id").agg(pl.first("lon_deg"), pl.first("lat_deg"), pl.len(), pl.max("sog_kn"))
    assert firsts.height == 5
    assert firsts["len"].to_list() == [49] * 5
    assert firsts["lon_deg"].is_between(5.0, 6.0).all()
    assert firsts["lat_deg"].is_between(50.0, 51.0).all()
    assert (firsts["sog_kn"] <= LIMITS.of_type(70)).all()
    steps = made.group_by("track_id").agg(pl.col("time").sort().diff().dt.total_seconds().drop_nulls().unique())
    assert steps["time"].explode().unique().to_list() == [600]


def test_tracks_begin_in_a_box_across_180_degrees(model):
    made = generate_tracks(model, Wanted(count=20, hours=0.5), start=(179.9, -17.0, -179.9, -16.8))
    first = made.group_by("track_id", maintain_order=True).first()
    assert (first["lon_deg"].abs() >= 179.9).all()
    assert first["lon_deg"].sign().n_unique() == 2
    assert first["lat_deg"].is_between(-17.0, -16.8).all()


def test_the_same_seed_makes_the_same_tracks_and_fewer_are_the_first_of_more(model):
    few, more = (generate_tracks(model, Wanted(count=count, hours=2.0), start=(5.0, 50.0)) for count in (2, 4))
    again = generate_tracks(model, Wanted(count=2, hours=2.0), start=(5.0, 50.0))
    assert few.equals(again)
    some = more.filter(pl.col("vessel_id") <= 2)
    np.testing.assert_allclose(some["lon_deg"], few["lon_deg"], atol=1e-6)
    other = generate_tracks(model, Wanted(count=2, hours=2.0, seed=1), start=(5.0, 50.0))
    assert not np.allclose(other["lon_deg"], few["lon_deg"], atol=1e-6)


def test_a_vessel_of_the_past_that_bears_the_number_of_a_made_track_tells_it_like_any_other(model):
    time = 1.6e9 + 60.0 * np.arange(120)
    lon, lat = move(5.0, 50.0, 45.0, 0.3 * np.arange(120))
    course = np.radians(course_deg(lon[:1], lat[:1], lon[1:2], lat[1:2])[0])

    def made(numbers):
        past = TrackHistory(
            track=np.repeat([0, 1], 120), vessel_id=np.repeat(numbers, 120), time_s=np.tile(time, 2),
            lon_deg=np.tile(lon, 2), lat_deg=np.tile(lat, 2), east_km_s=np.full(240, 0.005 * np.sin(course)),
            north_km_s=np.full(240, 0.005 * np.cos(course)),
        )  # fmt: skip
        settings = Wanted(count=2, hours=2.0, guidance=1.0)
        return generate_tracks(model.with_history(past), settings, start=(5.0, 50.0))

    assert made([1, 2]).equals(made([201, 202]))
    alone = generate_tracks(model, Wanted(count=2, hours=2.0, guidance=1.0), start=(5.0, 50.0))
    assert not made([1, 2]).equals(alone)


def test_tracks_that_move_otherwise_than_asked_are_counted():
    settings = GenerateSettings(start=(5.0, 50.0), behaviour="transit", hours=6.0)
    time = 1.6e9 + 300.0 * np.arange(73)
    east = track_table(1, time, *move(5.0, 50.0, 90.0, 1.5 * np.arange(73)), 70)
    # The second half of the way goes to and fro.
    turning = track_table(2, time, *move(5.0, 50.0, 90.0, np.r_[1.5 * np.arange(37), 54 + np.arange(36) % 6]), 70)
    made = pl.concat([east, turning])
    assert generated_counts(made, settings) == {"tracks generated": 2, "tracks: move otherwise than asked": 1}
    assert generated_counts(made, GenerateSettings(start=(5.0, 50.0))) == {"tracks generated": 2}


def test_a_made_track_tells_the_knots_and_the_course_of_its_steps():
    """Ten minutes at 6 knots to the north, then ten at 12 to the east across 180 degrees; the last fix as before it."""
    time = 1.6e9 + 600.0 * np.arange(3)
    north = move(179.99, 10.0, 0.0, KM_PER_NMI)
    east = move(*north, 90.0, 2 * KM_PER_NMI)
    lon, lat = (
        np.array([first, *(float(each[axis]) for each in (north, east))]) for axis, first in ((0, 179.99), (1, 10))
    )
    made = track_table(7, time, lon, lat, 0)
    np.testing.assert_allclose(made["sog_kn"], [6.0, 12.0, 12.0], rtol=1e-4)
    np.testing.assert_allclose(made["cog_deg"], [0.0, 90.0, 90.0], atol=0.1)
    assert [each.timestamp() for each in made["time"]] == time.tolist()
    assert made["ship_type"].null_count() == 3


def test_a_course_just_west_of_north_is_stored_below_360():
    lon, lat = move(5.0, 50.0, -1e-9, 3.0 * np.arange(4))
    assert track_table(1, 1.6e9 + 600.0 * np.arange(4), lon, lat, 70)["cog_deg"].max() < 360


def test_a_partial_track_is_gone_on_from_at_its_last_fix(model):
    time = 1.6e9 + 300.0 * np.arange(10)
    lon, lat = move(20.0, -30.0, 90.0, 10 * 1.852 * (time - time[0]) / 3600)
    given = TrackQuery(time, lon, lat, np.full(10, 10.0), np.full(10, 90.0), np.empty(0), 80, 99)
    made = generate_tracks(model, Wanted(count=3, hours=1.0), partial=[given])
    assert made["track_id"].n_unique() == 3
    for track in made.partition_by("track_id"):
        assert distance_km(track["lon_deg"][0], track["lat_deg"][0], lon[-1], lat[-1]) < 1e-6
        assert track["time"][0].timestamp() == time[-1]
    assert made["ship_type"].unique().to_list() == [80]
    assert made["continues"].unique().to_list() == [99]
    other = generate_tracks(model, Wanted(count=1, hours=1.0, ship_type=30), partial=[given])
    assert other["ship_type"].unique().to_list() == [30]
    assert not np.allclose(other["lon_deg"][-1], made["lon_deg"][12], atol=1e-9)


def test_made_tracks_name_the_partial_track_that_each_goes_on_from(model):
    partial = [
        TrackQuery(1.6e9 + 300.0 * np.arange(3), np.full(3, lon), 50.0 + 0.01 * np.arange(3), *np.full((2, 3), 9.0),
                   np.empty(0), 70, vessel)
        for vessel, lon in ((99, 1.0), (77, 2.0), (88, 3.0))
    ]  # fmt: skip
    made = generate_tracks(model, Wanted(count=2, hours=0.5), partial=partial).group_by("track_id").first()
    assert made["vessel_id"].n_unique() == 6
    assert sorted(made.select("continues", "lon_deg").rows()) == [(77, 2.0)] * 2 + [(88, 3.0)] * 2 + [(99, 1.0)] * 2


def test_a_track_is_made_after_all_that_history_knows_with_all_its_times_moved_alike():
    fixes = {"lon_deg": [1.0, 1.1], "lat_deg": [50.0] * 2, "sog_kn": [9.0] * 2, "cog_deg": [90.0] * 2}
    time = pl.Series([2_000_000_000_000_000, 2_000_000_600_000_000]).cast(pl.Datetime("us", "UTC"))
    history = TrackHistory.from_table(
        pl.DataFrame({"vessel_id": [5, 5], "track_id": ["5"] * 2, "time": time, "ship_type": [70] * 2, **fixes})
    )
    step = 1.6e9 + 300.0 * np.arange(4)
    given = TrackQuery(step, *np.full((4, 4), 9.0), step[-1] + 300.0 * np.arange(1, 5))
    shown = _shown(given, Grid(2.0, 300.0), history)
    assert shown.time_s[-1] > 2_000_000_600
    np.testing.assert_allclose(shown.time_s - shown.time_s[-1], given.time_s - given.time_s[-1])
    np.testing.assert_allclose(shown.ask_s - shown.time_s[-1], given.ask_s - given.time_s[-1])


def test_a_sparse_track_without_speed_and_course_goes_on_the_way_it_came():
    """Of fixes three hours apart the model is shown the last alone: with the motion that led there."""
    step = 10_800.0 * np.arange(4)
    lon, lat = move(179.5, 50.0, 60.0, 10.0 * KM_PER_NMI / 3600.0 * step)
    nothing = np.full(4, np.nan)
    sparse = TrackQuery(step, lon, lat, nothing, nothing, step[-1:] + 300.0)
    shown = _shown(sparse, Grid(2.0, 300.0), None)
    assert len(shown.time_s) == 1
    assert shown.sog_kn[0] == pytest.approx(10.0, abs=0.01)
    assert shown.cog_deg[0] == pytest.approx(course_deg(lon[-1], lat[-1], lon[-2], lat[-2]) - 180.0)
    told = dataclasses.replace(sparse, sog_kn=nothing + 3.0, cog_deg=nothing)
    assert _shown(told, Grid(2.0, 300.0), None).cog_deg[0] == pytest.approx(shown.cog_deg[0])
    both = dataclasses.replace(sparse, sog_kn=np.full(4, 3.0), cog_deg=np.full(4, 7.0))
    assert _shown(both, Grid(2.0, 300.0), None).cog_deg.tolist() == [7.0]


@pytest.mark.parametrize(
    "wrong", [{"behaviour": "flying"}, {"count": 0}, {"hours": 1000.0}, {"step_s": 1.0}, {"ship_type": 300}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        Wanted(**wrong)


def test_a_start_or_a_partial_track_is_needed(model):
    with pytest.raises(UsageError, match="start"):
        generate_tracks(model, Wanted())


def _stretch(knots, *, ship=80, course=50.0, known=12.0):
    """A question about 24 steps beyond a lone fix, and places at these speeds."""
    time = 300.0 * np.arange(1, 25)
    reach = np.cumsum(np.broadcast_to(knots, 24)) * KM_PER_NMI / 12
    lon, lat = move(np.full(24, 5.0), np.full(24, 50.0), np.full(24, course), reach)
    asked = TrackQuery(
        np.zeros(1), np.full(1, 5.0), np.full(1, 50.0), np.full(1, known), np.full(1, course), time, ship, 1
    )
    return asked, (lon, lat)


def test_nothing_is_faster_than_real_vessels_of_its_kind():
    """Guidance told cargo ships from others by their speed, up to what cleaning lets pass."""
    speeds = StartSpeeds(np.broadcast_to(np.linspace(0.0, 22.0, 11), (12, 6, 11)))
    asked, _ = _stretch(12.0)
    fast = _stretch(12.0, known=30.0)[0]
    np.testing.assert_allclose(limits_kn([asked, fast], speeds), [22.0, 33.0])
    np.testing.assert_allclose(limits_kn([asked], None), [0.95 * LIMITS.of_type(80)])
    # A start that was drawn at the group's own top speed is no reason for more.
    np.testing.assert_allclose(limits_kn([_stretch(12.0, known=22.0)[0]], speeds), [22.0])
    nothing = np.full(24, np.nan)
    mute = TrackQuery(fast.ask_s, *_stretch(30.0)[1], nothing, nothing, np.empty(0), 80, 1)
    np.testing.assert_allclose(limits_kn([mute], speeds), [33.0], rtol=1e-6)
    drawn = []

    def draw(rows, attempt):
        drawn.append(attempt)
        lon, lat = _stretch(30.0 if attempt < 3 else 20.0)[1]
        return lon[None], lat[None]

    lon, lat = possible([asked], np.array([0]), 300.0, 7200.0, draw, limits_kn([asked], speeds))
    assert drawn == [0, 1, 2, 3]
    np.testing.assert_allclose(distance_km(lon[0, 1:], lat[0, 1:], lon[0, :-1], lat[0, :-1]), 20 * KM_PER_NMI / 12)


def test_each_stretch_is_held_to_the_limit_of_its_own_vessel():
    """Thirty knots are drawn again and again: the first vessel may go so fast, the second not."""
    asked = [_stretch(12.0)[0] for _ in range(2)]
    drawn = []

    def draw(rows, attempt):
        drawn.append(rows.tolist())
        lon, lat = _stretch(30.0)[1]
        return np.tile(lon, (len(rows), 1)), np.tile(lat, (len(rows), 1))

    lon, lat = possible(asked, np.zeros(2, np.int64), 300.0, 7200.0, draw, np.array([44.0, 22.0]))
    assert drawn == [[0, 1]] + [[1]] * (TRIES - 1)
    knots = distance_km(lon[:, 1:], lat[:, 1:], lon[:, :-1], lat[:, :-1]) / KM_PER_NMI * 12
    np.testing.assert_allclose(knots[0], 30.0, rtol=1e-3)
    assert knots[1].max() <= 22.01


def test_a_model_that_draws_no_finite_places_is_told():
    asked = _stretch(np.full(24, 10.0))[0]
    nowhere = np.full((1, len(asked.ask_s)), np.nan)
    with pytest.raises(GeodiffError, match="the model gives no finite values"):
        possible([asked], np.array([0]), 300.0, 7200.0, lambda rows, attempt: (nowhere, nowhere), np.array([30.0]))


def test_a_transit_is_under_way():
    """A vessel that arrives and stays goes straight, too."""
    asked, stops = _stretch(np.where(np.arange(24) < 14, 12.0, 0.1))
    sails = _stretch(12.0)[1]
    drawn = []

    def draw(rows, attempt):
        drawn.append(attempt)
        return tuple(each[None] for each in (stops if attempt < 2 else sails))

    transit = np.array([BEHAVIOURS.index("transit")])
    assert behaviour_of(asked.ask_s, *stops) == transit
    lon, _ = possible([asked], transit, 300.0, 7200.0, draw, np.array([30.0]))
    assert drawn == [0, 1, 2]
    np.testing.assert_allclose(lon[0], sails[0])
