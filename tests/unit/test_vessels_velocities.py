"""Windows of velocities: they lead back to positions, show nothing of what is asked, and batches are as described."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_NMI, distance_km, move, turn_deg
from geodiff.tasks import track_generate_velocities
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.track_generate_velocities import courses, grow_by_velocities
from geodiff.tasks.track_generation_lessons import LONE, UNTOLD, GenerationLessons, _chosen
from geodiff.tasks.track_pieces import Pieces
from geodiff.tasks.track_starts import StartSpeeds
from geodiff.tasks.track_velocities import card_entry, draw_velocities, grid_of, keyed_noise
from geodiff.tracks import SHIP_GROUPS, TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.velocities import generation_windows, to_positions, to_velocities
from geodiff.vessels.window_features import ASKED_WIDTH
from geodiff.vessels.windows_draw import BEHAVIOURS, STILL, behaviour_of

STEPS, STEP_S = 24, 300.0


def wander(count, rng, *, knots=(2.0, 20.0), turn=20.0, lon=10.0, lat=50.0):
    """Tracks (count, STEPS + 1) of random speeds and turns."""
    speed = rng.uniform(*knots, (count, 1)) * rng.uniform(0.8, 1.2, (count, STEPS))
    course = rng.uniform(0, 360, (count, 1)) + np.cumsum(rng.normal(0, turn, (count, STEPS)), 1)
    place = [(np.full(count, lon), np.full(count, lat))]
    for k in range(STEPS):
        place.append(move(*place[-1], course[:, k] % 360, speed[:, k] * KM_PER_NMI * STEP_S / 3600))
    return tuple(np.stack([each[axis] for each in place], 1) for axis in (0, 1))


def spirals(count):
    """Tracks (count, STEPS + 1) that bear to starboard all the way."""
    course = 360 * np.arange(count)[:, None] / count + 3.0 * np.arange(STEPS)
    place = [(np.full(count, 10.0), np.full(count, 50.0))]
    for k in range(STEPS):
        place.append(move(*place[-1], course[:, k] % 360, 10 * KM_PER_NMI * STEP_S / 3600))
    return tuple(np.stack([each[axis] for each in place], 1) for axis in (0, 1))


def query(lon, lat, known, *, sog=np.nan, cog=np.nan):
    time = 1.6e9 + STEP_S * np.arange(STEPS + 1)
    told = np.full((2, known + 1), np.nan)
    told[:, -1] = sog, cog
    return TrackQuery(time[: known + 1], lon[: known + 1], lat[: known + 1], *told, time[known + 1 :], 70, 5)


def pieces(count, seed=0):
    rng = np.random.default_rng(seed)
    lon, lat = wander(count, rng)
    time = 1.6e9 + STEP_S * np.arange(STEPS + 1)
    moves = np.array([behaviour_of(time, *each) for each in zip(lon, lat, strict=True)])
    kind = np.where(np.arange(count) < count // 20, 30, 70)
    return Pieces(lon, lat, np.full(count, time[0]), kind, moves, np.arange(count) + 1, STEP_S)


@given(
    seed=st.integers(0, 10**6),
    lon=st.floats(-180, 180),
    lat=st.floats(-75, 75),
    known=st.integers(0, 15),
    told=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_velocities_lead_back_to_the_positions(seed, lon, lat, known, told):
    tracks = wander(3, np.random.default_rng(seed), lon=lon, lat=lat)
    asked = [query(*each, known, **({"sog": 9.0, "cog": 120.0} if told else {})) for each in zip(*tracks, strict=True)]
    windows = generation_windows(asked, STEPS)
    ahead = np.minimum(known + np.arange(1, STEPS + 1), STEPS)
    truth = tracks[0][:, ahead], tracks[1][:, ahead]
    payload = to_velocities(windows, *truth, STEP_S)
    found = to_positions(windows, payload, STEP_S)
    away = distance_km(*truth, *found)[:, : STEPS - known]
    assert away.max() < 0.001
    assert np.isfinite(payload).all()


@pytest.mark.parametrize("course", [0.0, 77.0, 300.0])
def test_a_steady_track_departs_from_nothing_and_a_knot_more_is_of_one_size_at_any_lead(course):
    hours = STEP_S * np.arange(STEPS + 1) / 3600
    lon, lat = move(4.0, 52.0, course, 12.0 * KM_PER_NMI * hours)
    windows = generation_windows([query(lon, lat, 0, sog=12.0, cog=course)], STEPS)
    assert np.abs(to_velocities(windows, lon[None, 1:], lat[None, 1:], STEP_S)).max() < 0.2
    faster = move(4.0, 52.0, course, 13.0 * KM_PER_NMI * hours)
    payload = to_velocities(windows, faster[0][None, 1:], faster[1][None, 1:], STEP_S)
    np.testing.assert_allclose(payload[0, :, 0], np.arcsinh(1 / 0.3), atol=0.1)


def test_what_all_but_lies_still_lies_still_and_what_moves_is_left_as_it_is():
    lon, lat = move(4.0, 52.0, 40.0, 12.0 * KM_PER_NMI * STEP_S * np.arange(STEPS + 1) / 3600)
    windows = generation_windows([query(lon, lat, 0, sog=12.0, cog=40.0)], STEPS)
    halt = STEPS // 2
    payload = np.zeros((1, STEPS, 2))
    payload[:, halt:, 0] = np.arcsinh(-11.6 / 0.3)
    wobble = np.random.default_rng(0).standard_normal((1, STEPS, 2))
    drifting, resting = (to_positions(windows, payload, STEP_S, each) for each in (None, wobble))
    away = distance_km(*(each[0, :halt] for each in drifting), *(each[0, :halt] for each in resting))
    assert away.max() < 1e-9
    ends = [distance_km(p[0][0, halt], p[1][0, halt], p[0][0, -1], p[1][0, -1]) for p in (drifting, resting)]
    assert ends[0] > 0.5
    assert 0 < ends[1] < 0.02


def test_a_window_shows_no_kind_and_nothing_of_the_vessels_own_past():
    rng = np.random.default_rng(1)
    lon, lat = wander(1, rng)
    time = 1.6e9 - 86_400 + STEP_S * np.arange(STEPS + 1)
    same = np.ones(STEPS + 1, np.int64)
    east = np.full(STEPS + 1, 5 * KM_PER_NMI / 3600)
    history = TrackHistory(
        track=same, vessel_id=5 * same, time_s=time, lon_deg=lon[0], lat_deg=lat[0], east_km_s=east, north_km_s=0 * east
    )
    windows = generation_windows([query(lon[0], lat[0], 6)], STEPS, history)
    assert not windows.history[..., 9:].any()
    assert not windows.asked[..., -3:].any()
    assert windows.asked.shape == (1, STEPS, ASKED_WIDTH)
    assert windows.asked_valid.sum() == STEPS - 6


def lessons(some, seed, history=None, share=0.5):
    rng = np.random.default_rng(seed)
    return GenerationLessons.prepare(some, history, count=400, history_share=share, rng=rng)


@pytest.fixture(scope="module")
def batch():
    return lessons(pieces(3000), 3).batch(400, np.random.default_rng(3))


def test_nothing_that_is_asked_is_shown(batch):
    fleet, payload = batch
    assert (fleet.known_days[fleet.known_valid] <= 0).all()
    assert (fleet.asked_days[fleet.asked_valid] > 0).all()
    assert payload.shape == (400, 1, STEPS, 2)
    assert torch.isfinite(payload).all()


def test_lone_fixes_tell_the_velocity_of_the_first_step(batch):
    fleet, payload = batch
    lone = (fleet.known_valid.sum(-1) == 1)[:, 0] & (fleet.asked_valid.sum(-1) == STEPS)[:, 0]
    assert abs(lone.float().mean() - LONE) < 0.12
    assert payload[lone, 0, 0].abs().max() < 0.1
    others = ~(fleet.known_valid.sum(-1) == 1)[:, 0]
    assert (payload[others, 0, 0].abs().max(-1).values > 0.3).float().mean() > 0.5


def test_labels_are_dropped_as_often_as_said_and_rare_groups_are_drawn_more_often(batch):
    fleet, _ = batch
    group, behaviour = fleet.group[:, 0], fleet.behaviour[:, 0]
    neither = ((group == 0) & (behaviour == 0)).float().mean()
    assert abs(neither - UNTOLD[0]) < 0.05
    assert abs((group == 0).float().mean() - UNTOLD[0] - UNTOLD[1]) < 0.07
    fishing = (group == 1).float().sum() / (group > 0).float().sum()
    assert 0.1 < fishing < 0.4  # of the windows they are 5 %


def test_a_vessel_with_many_windows_is_not_what_its_kind_is():
    some = pieces(400)
    alike = dataclasses.replace(some, ship_type=np.full(400, 60), behaviour=np.full(400, BEHAVIOURS.index("transit")))
    # One ferry on its beat holds half of the windows, 200 others one each.
    busy = dataclasses.replace(alike, vessel_id=np.where(np.arange(400) < 200, 7, np.arange(400) + 1000))
    drawn = busy.vessel_id[_chosen(busy, 20_000, np.random.default_rng(0))]
    expected = np.sqrt(200) / (np.sqrt(200) + 200)
    assert abs((drawn == 7).mean() - expected) < 0.01


def test_batches_depend_on_the_draw_alone():
    some = pieces(300)
    first, again, other = (lessons(some, seed).batch(50, np.random.default_rng(7))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    one = lessons(some, 1)
    first, again, other = (one.batch(50, np.random.default_rng(seed))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_share_of_the_lessons_is_told_the_past_and_none_of_those_is_turned_over():
    some = pieces(60)
    past = TrackHistory(
        track=np.repeat(np.arange(60), STEPS + 1),
        vessel_id=np.repeat(np.arange(60) + 500, STEPS + 1),
        time_s=np.tile(1.6e9 - 86_400 + STEP_S * np.arange(STEPS + 1), 60),
        lon_deg=some.lon_deg.ravel(),
        lat_deg=some.lat_deg.ravel(),
        east_km_s=np.full(60 * (STEPS + 1), 0.003),
        north_km_s=np.full(60 * (STEPS + 1), 0.003),
    )
    none, told = (lessons(some, 1, past, share) for share in (0.0, 1.0))
    assert not none.fleet.history.any()
    assert (told.fleet.history.flatten(1) != 0).any(1).float().mean() > 0.9
    # All turn to starboard: what is told the past does so in every lesson, what is told nothing in half of them.
    right = dataclasses.replace(some, **dict(zip(("lon_deg", "lat_deg"), spirals(60), strict=True)))
    shares = []
    for share in (0.0, 1.0):
        found = lessons(right, 1, past, share)
        whole = (found.fleet.asked_valid.sum(-1) == STEPS)[:, 0]
        shares.append((found.payload[whole, 0, 3, 1] < 0).float().mean().item())
    assert abs(shares[0] - 0.5) < 0.1
    assert shares[1] == 1.0


def test_the_card_tells_the_grid_and_a_damaged_one_is_refused():
    some = pieces(5)
    found = grid_of(card_entry(some))
    assert found is not None
    assert (found.positions, found.step_s) == (STEPS + 1, STEP_S)
    assert grid_of({}) is None
    for wrong in (
        None,
        3,
        {"step_s": 300.0},
        {"step_s": 10**400, "steps": 3, "unit_kn": 0.3},
        {"step_s": 300.0, "steps": "36.7", "unit_kn": 0.3},
    ):
        with pytest.raises(GeodiffError, match="generation"):
            grid_of({"generation": wrong})
    with pytest.raises(GeodiffError, match="generation"):
        grid_of({"generation": {"step_s": 300.0, "steps": 36, "unit_kn": 0.5}})


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(2)
    return TrackDenoiser(track_config(width=16, heads=2, layers=1)).eval()


def test_what_is_drawn_is_each_vessels_own_whoever_is_drawn_with_it(net):
    lon, lat = wander(4, np.random.default_rng(4))
    asked = [
        dataclasses.replace(query(*each, 3), vessel_id=number) for number, each in enumerate(zip(lon, lat, strict=True))
    ]
    label = np.array([1, 2, 3, 4])

    def drawn(rows, seed=1):
        some = [asked[row] for row in rows]
        noise = keyed_noise(some, STEPS, seed, "test")
        return draw_velocities(net, generation_windows(some, STEPS), label[rows], noise, guidance=2.0, passes=4)

    together = drawn(range(4))
    np.testing.assert_allclose(together[2:3], drawn([2]), atol=1e-4)
    assert np.abs(together - drawn(range(4), seed=2)).max() > 0.1


class Sure:
    """A network that is sure of one velocity: the number of the way of moving, and ten more for a ship of a group."""

    def encode(self, fleet):
        return SimpleNamespace(scale=2.0, says=fleet.behaviour + 10.0 * (fleet.group > 0))

    def __call__(self, noised, level, context):
        return context.says[..., None, None].expand_as(noised)


@pytest.mark.parametrize(("guidance", "expected"), [(1.0, 11.0), (3.0, 31.0), (0.0, 1.0)])
def test_guidance_leads_away_from_a_vessel_of_no_group_and_nowhere_at_strength_one(guidance, expected):
    """Of who is told the second way of moving: one, and eleven with its group."""
    asked = [query(*(each[0] for each in wander(1, np.random.default_rng(4))), 3)]
    found = draw_velocities(
        Sure(), generation_windows(asked, STEPS), np.array([1]), np.zeros((1, STEPS, 2)), guidance=guidance
    )
    np.testing.assert_allclose(found, 2.0 * expected, rtol=1e-5)


def test_speeds_of_a_start_are_knots_of_first_steps_and_of_any_way_of_moving_of_those_that_move():
    """A hundred cargo vessels at 6 knots, of which half lie still; a hundred fishing at 12, all of them under way."""
    knots = np.repeat([6.0, 0.0, 12.0], [100, 100, 100])
    lon, lat = move(np.full((300, 1), 5.0), np.full((300, 1), 50.0), 90.0, knots[:, None] * 1.852 / 12 * np.arange(3))
    kind = np.repeat([70, 70, 30], 100)
    moves = np.where(knots > 0, BEHAVIOURS.index("transit"), STILL)
    found = StartSpeeds.of(Pieces(lon, lat, np.zeros(300), kind, moves, np.arange(300), 300.0))
    cargo, fishing, tanker = (SHIP_GROUPS.index(name) for name in ("cargo", "fishing", "tanker"))
    np.testing.assert_allclose(found.quantiles_kn[cargo, 0], 6.0, atol=0.01)
    np.testing.assert_allclose(found.quantiles_kn[cargo, STILL], 0.0, atol=0.01)
    np.testing.assert_allclose(found.fastest_kn(np.array([cargo, fishing, tanker])), [6.0, 12.0, 12.0], atol=0.01)
    drawn = found.draw(np.array([tanker, tanker]), np.array([0, 0]), np.array([0.1, 0.9]))
    np.testing.assert_allclose(drawn, [6.0, 12.0], atol=0.01)


def test_each_stretch_of_a_track_has_noise_of_its_own_whatever_history_there_is(net):
    """With a history all questions are shown at one time, after all that it knows."""
    lon, lat = wander(1, np.random.default_rng(4))
    seed = dataclasses.replace(query(lon[0], lat[0], 0), vessel_id=5)
    card = {"generation": {"step_s": STEP_S, "steps": STEPS, "unit_kn": 0.3}}
    keys = []

    def noted(queries, *rest):
        keys.extend((each.vessel_id, each.time_s[-1]) for each in queries)
        return keyed_noise(queries, *rest)

    time = 1.6e9 + 60.0 * np.arange(60)
    past = TrackHistory(
        track=np.zeros(60, np.int64), vessel_id=np.full(60, 9), time_s=time, lon_deg=np.full(60, 4.0),
        lat_deg=np.linspace(50, 50.2, 60), east_km_s=np.zeros(60), north_km_s=np.full(60, 0.006),
    )  # fmt: skip
    model = DenoiserMotion(net, card, None, "test", history=past)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track_generate_velocities, "keyed_noise", noted)
        grow_by_velocities(model, grid_of(card), [seed], np.array([1]), (8.0, STEP_S, 1.0), 0)
    assert len({time for _, time in keys}) >= 3


def test_a_lone_fix_sets_off_the_way_that_others_went_from_there():
    time = 1.6e9 + 60.0 * np.arange(60)
    tracks = [(number, *move(4.0, 52.0, 90.0, 0.3 * np.arange(60))) for number in range(8)]
    speed = np.full(480, 0.3 / 60)
    history = TrackHistory(
        track=np.repeat(np.arange(8), 60),
        vessel_id=np.repeat(np.arange(8), 60),
        time_s=np.tile(time, 8),
        lon_deg=np.concatenate([each[1] for each in tracks]),
        lat_deg=np.concatenate([each[2] for each in tracks]),
        east_km_s=speed,
        north_km_s=0.0 * speed,
    )
    lon, lat = move(4.0, 52.0, 90.0, 6.0)
    fix = query(np.full(STEPS + 1, lon), np.full(STEPS + 1, lat), 0)
    seeds = [dataclasses.replace(fix, vessel_id=number) for number in range(200)]
    knots = np.full(200, 10.0)
    along = np.abs(turn_deg(np.full(200, 90.0), courses(seeds, knots, history, 0)))
    assert (along < 45).mean() > 0.8
    anywhere = courses(seeds, knots, None, 0)
    assert np.histogram(anywhere, bins=4, range=(0, 360))[0].min() > 30
