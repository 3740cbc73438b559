"""What historic tracks say, and what is drawn from tracks to train on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from geodiff.schema import GeodiffError
from geodiff.sphere import distance_km, from_local_km, move
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.history_search import NEIGHBOURS, PASSES, Asking
from geodiff.vessels.window_fixes import ASKED
from geodiff.vessels.window_history import COMPARED, PATH_WIDTH
from geodiff.vessels.windows import build_windows
from geodiff.vessels.windows_draw import BEHAVIOURS, DrawSettings, TrackPool, behaviour_of


def bent(vessel, *, speed=12.0, hours=4.0, shift_km=0.0, every=120.0, start=0.0):
    """A lane that runs east for two hours, then north: columns of a cleaned table."""
    time = np.arange(0.0, hours * 3600, every)
    way = speed * 1.852 * time / 3600
    corner = 2 * 12 * 1.852
    east, north = np.minimum(way, corner), np.maximum(way - corner, 0.0)
    lon, lat = from_local_km(east, north + shift_km, 5.0, 55.0)
    course = np.where(way < corner, 90.0, 0.0)
    return pl.DataFrame(
        {
            "vessel_id": np.full(len(time), vessel),
            "time": pl.Series(((1.6e9 + start + time) * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
            "lon_deg": lon,
            "lat_deg": lat,
            "sog_kn": np.full(len(time), speed, np.float32),
            "cog_deg": course.astype(np.float32),
            "ship_type": np.full(len(time), 70, np.int16),
            "track_id": [f"{vessel}/x"] * len(time),
            "state": ["observed"] * len(time),
        }
    )


def asking(*, vessel=99, speed=12.0, hours=(0.5, 3.0), reach=60.0):
    """From half-way along the first leg, eastward."""
    lon, lat = move(5.0, 55.0, 90.0, 12 * 1.852)
    return Asking(
        lon_deg=np.array([float(lon)]),
        lat_deg=np.array([float(lat)]),
        east_km_s=np.array([speed * 1.852 / 3600]),
        north_km_s=np.array([0.0]),
        vessel_id=np.array([vessel]),
        after_s=3600.0 * np.array([hours]),
        reach_km=np.array([reach]),
    )


def ask(history, *, until=None, **told):
    answer = history.ask(asking(**told), until_s=until)
    best = answer.weight[0].sum(1).argmax()
    return answer, answer.east_km[0, best], answer.north_km[0, best]


def test_a_vessel_on_the_lane_is_led_round_the_bend_at_its_own_speed():
    history = TrackHistory.from_table(bent(1, shift_km=0.5))
    _, east, north = ask(history, hours=(0.5, 2.0))
    np.testing.assert_allclose(east, [6 * 1.852, 12 * 1.852], atol=0.7)
    np.testing.assert_allclose(north, [0, 12 * 1.852], atol=0.7)
    _, _, slow = ask(history, speed=8.0, hours=(0.5, 2.0))
    np.testing.assert_allclose(slow[1], 4 * 1.852, atol=0.7)


def test_its_own_track_never_answers_and_neither_does_one_that_has_ended():
    own = TrackHistory.from_table(bent(99))
    assert ask(own)[0].weight.max() == 0
    ended = TrackHistory.from_table(bent(1, hours=1.6))
    weight = ask(ended, hours=(0.2, 3.0))[0].weight[0].max(0)
    assert weight[0] > 0
    assert weight[1] == 0


def test_a_vessel_that_goes_the_other_way_says_less_than_one_that_goes_along():
    back = bent(2).with_columns(pl.col("cog_deg") + 180.0)
    both = TrackHistory.from_table(pl.concat([bent(1), back]))
    answer, east, _ = ask(both, hours=(0.5, 1.0))
    assert east[1] > 0
    alone = TrackHistory.from_table(back)
    assert ask(alone, hours=(0.5, 1.0))[0].weight.max() < 0.5 * answer.weight.max()


def test_answers_do_not_depend_on_the_order_of_tracks():
    tables = [bent(i, shift_km=0.3 * i) for i in range(1, 6)]
    _, east, north = ask(TrackHistory.from_table(pl.concat(tables)))
    _, east2, north2 = ask(TrackHistory.from_table(pl.concat(tables[::-1])))
    np.testing.assert_allclose([east, north], [east2, north2])


def test_what_happens_after_the_last_fix_is_not_told_in_advance():
    """A companion that sails alongside would give the future away; the same way made the day before may be told."""
    alongside, before = bent(7, shift_km=0.1), bent(8, shift_km=0.1, start=-86_400.0)
    now = np.array([1.6e9 + 3600.0])
    assert ask(TrackHistory.from_table(alongside), hours=(1.0,))[0].weight.max() > 0
    assert ask(TrackHistory.from_table(alongside), hours=(1.0,), until=now)[0].weight.max() == 0
    assert ask(TrackHistory.from_table(before), hours=(1.0,), until=now)[0].weight.max() > 0


def test_windows_of_forecasts_are_told_of_the_past_alone_and_those_of_gaps_of_all_times():
    alongside = TrackHistory.from_table(bent(7, shift_km=0.1, every=30.0))
    for settings, told in ((DrawSettings(gap=0, forecast=1, before=0), False), (DrawSettings(gap=1, forecast=0), True)):
        draws = TrackPool(bent(9)).draw(40, np.random.default_rng(0), settings)
        windows = build_windows(draws.queries, alongside)
        far = windows.asked_valid & (windows.lead_s > 1500) & (windows.asked_s < 1.6e9 + 3 * 3600)
        assert far.any()
        assert windows.history[far].any() == told


def test_a_vessel_is_told_of_its_own_other_passes_but_never_of_what_is_hidden():
    """A ferry that went this way the day before, and goes it again now."""
    day = 86_400.0
    ferry = TrackHistory.from_table(
        pl.concat([bent(99, start=-day).with_columns(track_id=pl.lit("99/a")), bent(99)]).sort("time")
    )
    now = 1.6e9 + 3600.0
    told = ferry.ask_own(asking(hours=(0.5, 2.0)), np.array([[now, np.inf]]))
    assert told.weight.shape == (1, PASSES, 2)
    best = told.weight[0].sum(1).argmax()
    np.testing.assert_allclose(told.north_km[0, best], [0, 12 * 1.852], atol=0.7)
    assert (told.weight[0].max(0) > 0).all()
    assert (told.weight[0].sum(1) > 0.5).sum() == 1  # the pass of now is hidden
    # Asked before its first pass there is nothing to tell; of a gap what lies after it may be told.
    assert ferry.ask_own(asking(hours=(0.5,)), np.array([[1.6e9 - day, np.inf]])).weight.max() == 0
    assert ferry.ask_own(asking(hours=(0.5,)), np.array([[now - day, now - day + 3600]])).weight.max() > 0


def test_a_pass_is_not_compared_with_what_is_hidden():
    """Followed for long enough, the pass of the day before runs into the gap that is asked about."""
    day = 86_400.0
    ferry = TrackHistory.from_table(
        pl.concat([bent(99, start=-day).with_columns(track_id=pl.lit("99/x")), bent(99)]).sort("time")
    )
    now = 1.6e9 + 3600.0
    hidden = np.array([[now, now + 3600]])
    beside = day + np.array([[-1200.0, -600.0, 1200.0, 2400.0, 3700.0, 4300.0, np.inf]])
    told = ferry.ask_own(replace(asking(hours=(0.5, 1.0)), beside_s=beside), hidden)
    first = told.weight[0].argmax(0)[0]
    np.testing.assert_array_equal(told.weight[0, first] > 0, [True, True, True, True, False, False, True, True, False])


def test_paths_are_the_liker_the_more_they_came_the_same_way():
    """Two lanes that join where the vessel is, and part behind: it came along one of them."""
    along, across = bent(1, shift_km=0.2), bent(2, shift_km=-0.2)
    early = pl.col("time") < pl.col("time").min() + pl.duration(minutes=55)
    across = across.with_columns(lat_deg=pl.when(early).then(pl.col("lat_deg") + 0.2).otherwise(pl.col("lat_deg")))
    history = TrackHistory.from_table(pl.concat([along, across]).with_columns(pl.col("time") - pl.duration(days=1)))
    mine = bent(9, hours=1.0)
    time = mine["time"].dt.epoch("s").to_numpy().astype(float)
    known = (mine[name].to_numpy().astype(float) for name in ("lon_deg", "lat_deg", "sog_kn", "cog_deg"))
    windows = build_windows([TrackQuery(time, *known, time[-1] + np.array([1800.0, 7200.0]), 70, 9)], history)
    assert windows.paths.shape == (1, NEIGHBOURS + PASSES, 12, PATH_WIDTH)
    there = windows.paths[0, :, :2, -1] > 0
    assert there.any(1).sum() == 2
    assert not windows.paths[0, ~there.any(1)].any()
    compared = len(COMPARED)
    like, shown = np.split(windows.likeness[0, there.any(1), 2 : 2 + 2 * compared], [compared], 1)
    north = np.abs(windows.likeness[0, there.any(1), 0])
    assert (north > 0.5).all()
    assert shown[:, 1:4].all()
    assert not shown[:, 4:].any()
    one, other = np.sort(like[:, 1:4].min(1))
    assert other > 0.5
    assert one < 0.25


def test_private_vessels_answer_nobody_but_themselves():
    shared, private = (TrackHistory.from_table(bent(7, start=-86_400.0), private=some) for some in ([], [7]))
    assert ask(shared)[0].weight.max() > 0
    assert ask(private)[0].weight.max() == 0
    hidden = np.array([[1.6e9, np.inf]])
    assert private.ask_own(asking(vessel=7), hidden).weight.max() > 0
    assert private.ask_own(asking(vessel=8), hidden).weight.max() == 0


def test_the_past_is_found_behind_any_number_of_nearer_tracks_of_the_future():
    early = bent(1, shift_km=2.0, start=-86_400.0)
    late = [bent(100 + i, shift_km=0.001 * i, start=86_400.0) for i in range(150)]
    history = TrackHistory.from_table(pl.concat([early, *late]))
    assert ask(history, until=np.array([1.6e9]))[0].weight.max() > 0


def test_nothing_is_told_that_hangs_on_a_fix_of_later():
    """Half-way between two fixes a way is known once the second one is; so is a velocity taken from both."""
    hourly = bent(8, shift_km=0.1, start=-3600.0, hours=4.5, every=3600.0)
    seen = asking(hours=(0.5,))
    for early in (1800.0, 3600.0):
        until = np.array([1.6e9 + early])
        told = TrackHistory.from_table(hourly).ask(seen, until_s=until)
        past = TrackHistory.from_table(hourly.filter(pl.col("time").dt.epoch("s") <= 1.6e9 + early)).ask(
            seen, until_s=until
        )
        np.testing.assert_array_equal(told.weight, past.weight)
    # Of a fix that tells no velocity, it is that between the fixes before and after it.
    mute = hourly.with_columns(sog_kn=pl.lit(None, pl.Float32), cog_deg=pl.lit(None, pl.Float32))
    late = mute.with_columns(lat_deg=pl.col("lat_deg") + 0.2 * (pl.col("time").dt.epoch("s") > 1.6e9))
    until = np.array([1.6e9])
    both = [TrackHistory.from_table(each).ask(asking(hours=(-0.5,)), until_s=until) for each in (mute, late)]
    np.testing.assert_array_equal(both[0].near, both[1].near)
    np.testing.assert_array_equal(both[0].weight, both[1].weight)


def test_how_a_track_is_thinned_does_not_hang_on_others():
    lane, other = bent(5, every=30.0), bent(1, every=30.0, start=-86_400.0)
    moved = other.with_columns(lat_deg=pl.col("lat_deg") + 3.0, lon_deg=pl.col("lon_deg") * 1.01)
    answers = [
        ask(TrackHistory.from_table(pl.concat([each, lane])), hours=(0.5,), reach=3.0)[0]
        for each in (moved, moved[::3])
    ]
    for name in ("east_km", "north_km", "weight"):
        np.testing.assert_array_equal(*(getattr(each, name) for each in answers))


def test_all_that_a_history_can_tell_decides_its_content():
    plain = bent(1)
    changed = {
        "nothing": plain,
        "vessel": plain.with_columns(vessel_id=pl.lit(2, pl.Int64)),
        "track": plain.with_columns(
            track_id=pl.when(pl.int_range(pl.len()) < 9).then(pl.lit("1/w")).otherwise("track_id")
        ),
        "time": plain.with_columns(pl.col("time") + pl.duration(seconds=1)),
        "place": plain.with_columns(pl.col("lat_deg") + 1e-5),
        "other place": plain.with_columns(pl.col("lon_deg") + 1e-5),
        "speed": plain.with_columns(pl.col("sog_kn") + 0.1),
        "course": plain.with_columns(pl.col("cog_deg") + 0.1),
        "type": plain.with_columns(ship_type=pl.lit(80, pl.Int16)),
    }
    contents = [TrackHistory.from_table(each).content() for each in changed.values()]
    contents.append(TrackHistory.from_table(plain, private=[1]).content())
    assert len(set(contents)) == len(contents)
    assert TrackHistory.from_table(plain[::-1]).content() == contents[0]


def test_without_history_nothing_is_said():
    assert ask(TrackHistory.from_table(bent(1).head(0)))[0].weight.max() == 0


def test_history_enters_the_window_of_a_gap_as_a_path_that_meets_both_ends():
    table = bent(7)
    pool = TrackPool(pl.concat([table, bent(8, shift_km=0.2)]))
    history = TrackHistory.from_table(bent(1, shift_km=-0.4))
    rng = np.random.default_rng(0)
    draws = pool.draw(64, rng, DrawSettings(gap=1.0, forecast=0, before=0, shortest_s=2400, longest_s=7200))
    told = build_windows(draws.queries, history)
    truth = told.to_payload(draws.lon_deg, draws.lat_deg)
    said = told.history[..., :2]
    shown = told.asked_valid & (told.history[..., 8] > 0)
    assert shown.mean() > 0.5
    error, silent = (np.abs(value)[shown].mean() for value in (truth - said, truth))
    assert error < 0.5 * silent


def test_draws_answer_their_own_questions():
    pool = TrackPool(pl.concat([bent(i, start=60.0 * i) for i in range(1, 5)]))
    draws = pool.draw(200, np.random.default_rng(1), DrawSettings(shortest_s=600, longest_s=5400))
    kinds = set()
    for row, query in enumerate(draws.queries):
        assert not np.isin(query.ask_s, query.time_s).any()
        assert (np.diff(query.ask_s) > 0).all()
        assert 1 <= len(query.ask_s) <= ASKED
        way = 12 * 1.852 * (query.ask_s - 1.6e9 - 60.0 * query.vessel_id) / 3600
        corner = 2 * 12 * 1.852
        lon, lat = from_local_km(np.minimum(way, corner), np.maximum(way - corner, 0), 5.0, 55.0)
        far = distance_km(draws.lon_deg[row, : len(lon)], draws.lat_deg[row, : len(lon)], lon, lat)
        assert far.max() < 1e-3
        kinds.add((query.time_s < query.ask_s[0]).any() + 2 * (query.time_s > query.ask_s[0]).any())
    assert kinds == {1, 2, 3}


@pytest.mark.parametrize("kind", ["gap", "forecast", "before", "start"])
def test_the_fixes_next_to_a_stretch_are_shown_however_long_the_track(kind):
    """Fixes half a minute apart over ten hours: of many hundreds on each side those nearest to the stretch."""
    shares = {name: float(name == kind) for name in ("gap", "forecast", "before")}
    settings = DrawSettings(**shares, shortest_s=1200, longest_s=1200, thinned=0.0)
    for query in TrackPool(bent(1, every=30.0, hours=10.0)).draw(20, np.random.default_rng(3), settings).queries:
        before, after = query.time_s[query.time_s < query.ask_s[0]], query.time_s[query.time_s > query.ask_s[-1]]
        assert len(before) + len(after) == len(query.time_s)
        assert (len(before) > 0, len(after) > 0) == (kind != "before", kind in ("gap", "before"))
        assert not len(before) or query.ask_s[0] - before[-1] <= 1200
        assert not len(after) or after[0] - query.ask_s[0] <= 1200
        assert (len(query.time_s) == 1) == (kind == "start")


@pytest.mark.parametrize("mute", [0.0, 1.0])
def test_of_a_mute_vessel_neither_speed_nor_course_is_told(mute):
    settings = DrawSettings(gap=0.5, forecast=0.5, before=0.0, mute=mute)
    for query in TrackPool(bent(1)).draw(20, np.random.default_rng(4), settings).queries:
        assert np.isnan([query.sog_kn, query.cog_deg]).all() == bool(mute)
        assert np.isfinite([query.sog_kn, query.cog_deg]).all() == (not mute)


def test_vessels_of_a_scene_are_near_each_other_and_asked_for_the_same_stretch():
    near, far = [bent(i, shift_km=0.5 * i) for i in range(1, 4)], bent(9, shift_km=300.0)
    pool = TrackPool(pl.concat([*near, far]))
    draws = pool.draw_scenes(20, 4, np.random.default_rng(2), DrawSettings(shortest_s=1200, longest_s=3600))
    scenes = {}
    for query in draws.queries:
        scenes.setdefault(query.scene, set()).add(query.vessel_id)
    assert any(len(vessels) == 3 for vessels in scenes.values())
    assert all(vessels == {9} or 9 not in vessels for vessels in scenes.values())


@pytest.mark.parametrize(("name", "step"), [("still", 0.0), ("slow", 2.0), ("transit", 10.0)])
def test_behaviour_is_named_by_speed_and_straightness(name, step):
    time = np.arange(0.0, 7200, 600)
    lon, lat = move(0.0, 0.0, 45.0, step * 1.852 * time / 3600)
    assert BEHAVIOURS[behaviour_of(time, lon, lat)] == name


def test_circling_is_loitering():
    angle = np.linspace(0, 6 * np.pi, 60)
    lon, lat = from_local_km(3 * np.cos(angle), 3 * np.sin(angle), 0.0, 0.0)
    assert BEHAVIOURS[behaviour_of(180.0 * np.arange(60), lon, lat)] == "loitering"


def test_no_track_is_no_pool():
    with pytest.raises(GeodiffError, match="nothing to learn"):
        TrackPool(bent(1).head(2))
