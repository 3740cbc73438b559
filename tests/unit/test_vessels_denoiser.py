"""The denoiser of tracks: windows, scenes, members, and what must not change an answer."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from geodiff.metrics.tracks import energy_score as numpy_energy_score
from geodiff.model.track_checkpoint import load_track_checkpoint, save_track_checkpoint
from geodiff.model.track_objectives import _far, energy_score, track_denoising_loss, track_ensemble_loss
from geodiff.model.track_paths import PathAttention
from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import course_deg, distance_km, move, to_local_km
from geodiff.tasks.track_calibration import CLASSES, LEAD_EDGES_S, TrackCalibration, _borrowed, _quantile, lead_class
from geodiff.tasks.track_denoiser import DenoiserMotion, _noise
from geodiff.tasks.track_embed import DenoiserEmbedder
from geodiff.tasks.track_fleets import MIRROR, SIDEWAYS, fleet_of, group_scenes, mirrored, named_where, track_config
from geodiff.tasks.track_members import held_back
from geodiff.tasks.track_regions import ellipses_between
from geodiff.tasks.track_stretches import cut
from geodiff.tracks import TrackQuery
from geodiff.vessels.clean_rules import DEFAULT_RULES
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.window_features import NOISE_KM
from geodiff.vessels.window_fixes import AFTER, ASKED, BEFORE, INSIDE
from geodiff.vessels.window_history import LIKENESS_WIDTH, PATH_WIDTH
from geodiff.vessels.windows import build_windows

NAMES = ("time_s", "lon_deg", "lat_deg", "sog_kn", "cog_deg")


def query(
    *, fixes=12, gap=(6, 9), ask=None, lon=10.0, lat=50.0, course=40.0, speed=12.0, vessel=1, scene=0, every=600.0
):
    """A straight run with a gap."""
    time = 1.6e9 + every * np.arange(fixes)
    lons, lats = move(lon, lat, course, speed * 1.852 * (time - time[0]) / 3600)
    kept = np.r_[0 : gap[0], gap[1] : fixes]
    asked = time[gap[0] : gap[1]] if ask is None else time[0] + np.asarray(ask, float)
    known = np.full(len(kept), speed), np.full(len(kept), course)
    return TrackQuery(time[kept], lons[kept], lats[kept], *known, asked, 70, vessel, scene)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = TrackDenoiser(track_config(width=16, heads=2, layers=2))
    with torch.no_grad():
        model.out.weight.mul_(10)
    return model.eval()


@pytest.fixture(scope="module")
def motion(net):
    return DenoiserMotion(net, {}, None, "test")


def test_zero_departure_of_a_straight_run_is_the_straight_run():
    windows = build_windows([query()])
    lon, lat = windows.to_degrees(windows.to_km(np.zeros((1, ASKED, 2))))
    straight = query(gap=(6, 6 + 0), ask=[1.0])
    truth = move(10.0, 50.0, 40.0, 12 * 1.852 * (query().ask_s - straight.time_s[0]) / 3600)
    assert distance_km(lon[0, :3], lat[0, :3], *truth).max() < 0.01


@pytest.mark.parametrize("lat", [0.0, 60.0, -60.0])
def test_a_great_circle_far_from_the_centre_is_straight_with_its_courses_from_true_north(lat):
    """Eight hours along a great circle: each fix tells its course where it is, and no departure is seen."""
    hours = np.arange(17) * 0.5
    lon, at = move(5.0, lat, 80.0, 20 * 1.852 * hours)
    course = course_deg(lon[:-1], at[:-1], lon[1:], at[1:])
    time, sog, cog = 1.6e9 + 3600 * hours, np.full(17, 20.0), np.append(course, course[-1])
    known = np.r_[0:3, 15:17]
    asked = np.arange(3, 15)
    far = TrackQuery(
        time_s=time[known], lon_deg=lon[known], lat_deg=at[known], sog_kn=sog[known], cog_deg=cog[known],
        ask_s=time[asked],
    )  # fmt: skip
    windows = build_windows([far])
    place = windows.to_km(windows.to_payload(lon[None, asked], at[None, asked]))
    assert np.abs(place - windows.prior_km).max() < 0.3  # 9 km, were the plane's north taken for the meridian's


def test_a_lone_silent_fix_behind_a_gap_moves_as_the_way_across_it():
    lon, lat = move(10.0, 50.0, 90.0, np.array([0.0, 3.0, 6.0, 30.0]))
    silent = np.full(4, np.nan)
    windows = build_windows(
        [TrackQuery(1.6e9 + np.array([0.0, 600, 1200, 6000]), lon, lat, silent, silent, 1.6e9 + np.array([3600.0]))]
    )
    np.testing.assert_allclose(windows.edges[0, 1, 3:], [24 / 4800, 0.0], atol=2e-4)


def test_payload_and_degrees_are_inverse():
    windows = build_windows([query(), query(lon=179.99, lat=-60.0), query(gap=(12, 12), ask=[8000.0, 9000.0])])
    rng = np.random.default_rng(0)
    payload = rng.normal(size=(3, ASKED, 2))
    again = windows.to_payload(*windows.to_degrees(windows.to_km(payload)))
    np.testing.assert_allclose(again, payload, atol=1e-6)


def test_windows_look_alike_wherever_and_whichever_way_a_vessel_goes():
    here, there = build_windows([query()]), build_windows([query(lon=-120.0, lat=-33.0, course=200.0)])
    np.testing.assert_allclose(here.known, there.known, atol=0.05)
    np.testing.assert_allclose(here.asked, there.asked, atol=0.02)  # great circles, not straight lines


@pytest.mark.parametrize("moved", [True, False])
def test_the_course_that_a_vessel_at_rest_reports_says_nothing(motion, moved):
    """It came by 40 degrees and has stopped, or never moved: what it then tells as its course is noise."""

    def at_rest(course):
        run = query(fixes=8, gap=(8, 8), ask=[6000.0, 9000.0])
        still = np.arange(8) >= (5 if moved else 0)
        lon, lat = (np.where(still, each[5], each) for each in (run.lon_deg, run.lat_deg))
        sog, cog = np.where(still, 0.1, run.sog_kn), np.where(still, course, run.cog_deg)
        return TrackQuery(run.time_s, lon, lat, sog, cog, run.ask_s, 70, 1)

    asked = [at_rest(course) for course in (10.0, 190.0, np.nan)]
    angle = build_windows(asked).frame[:, 2]
    np.testing.assert_allclose(angle, angle[0])
    if moved:
        np.testing.assert_allclose(np.degrees(angle), 90.0 - 40.0, atol=0.5)
    first, *others = motion.predict(asked, members=4, seed=0)
    for other in others:
        np.testing.assert_allclose(other.lon_deg, first.lon_deg, atol=1e-9)
        np.testing.assert_allclose(other.ellipse_km, first.ellipse_km, rtol=1e-5)


def still(vessel=1, *, came=(), ask=9000.0):
    """A vessel that lies where courses have led it, a step of two kilometres each, and says that it lies still."""
    lon, lat = [10.0], [50.0]
    for course in came:
        there = move(lon[-1], lat[-1], course, 2.0)
        lon.append(float(there[0]))
        lat.append(float(there[1]))
    moves = np.r_[np.full(len(came), 6.5), np.zeros(4)]
    lon, lat = (np.r_[each, np.full(3, each[-1])] for each in (lon, lat))
    course = np.r_[np.asarray(came, float), np.full(4, 77.0)]
    return TrackQuery(1.6e9 + 600.0 * np.arange(len(lon)), lon, lat, moves, course, 1.6e9 + np.array([ask]), 70, vessel)


def test_a_vessel_at_rest_is_seen_as_it_moved_last_and_one_that_never_moved_from_anywhere():
    angle = build_windows([still(came=(100.0, 90.0, 40.0))]).frame[0, 2]
    assert np.degrees(angle) == pytest.approx(90.0 - 40.0, abs=0.5)
    lots = build_windows([still(vessel) for vessel in range(1, 201)]).frame[:, 2]
    assert abs(np.exp(1j * lots).mean()) < 0.2
    assert len(np.unique(lots)) == 200


def test_the_lead_is_the_time_to_the_fix_or_half_the_harmonic_mean_of_the_times_to_both():
    asked = [query(), query(gap=(12, 12), ask=[8000.0]), query(gap=(12, 12), ask=[-700.0])]
    lead = build_windows(asked).lead_s
    np.testing.assert_allclose(lead[0, :3], [450.0, 600.0, 450.0])  # 10 and 30 minutes from the ends, 20 from both
    assert lead[1:, 0].tolist() == [1400.0, 700.0]


def test_the_unit_is_that_of_a_usual_speed_where_none_is_known_and_of_the_way_across_a_gap_at_least():
    lone = TrackQuery(*(np.array([v]) for v in (1.6e9, 5.0, 50.0, np.nan, np.nan)), np.array([1.6e9 + 600]), 30, 4)
    assert build_windows([lone]).stake[0, 0] == pytest.approx(1.0)
    # It says that it lies still before the gap and behind it, and has made 16 knots in between.
    leap = query(speed=16.0)
    leap = dataclasses.replace(leap, sog_kn=np.zeros(len(leap.sog_kn)))
    assert build_windows([leap]).stake[0, 0] == pytest.approx(2.0, rel=0.05)


def test_answers_do_not_depend_on_who_is_asked_with_them(motion):
    questions = [query(vessel=i, course=40.0 * i) for i in range(1, 6)]
    together = motion.predict(questions, members=4, seed=3)
    alone = [motion.predict([each], members=4, seed=3)[0] for each in questions]
    backwards = motion.predict(questions[::-1], members=4, seed=3)[::-1]
    for a, b, c in zip(together, alone, backwards, strict=True):
        np.testing.assert_allclose(a.member_lon_deg, b.member_lon_deg, atol=1e-6)
        np.testing.assert_allclose(a.member_lat_deg, c.member_lat_deg, atol=1e-6)


def test_the_order_of_vessels_in_a_scene_does_not_matter_but_their_company_does(motion):
    questions = [query(vessel=i, lon=10.0 + 0.01 * i, scene=5) for i in range(1, 5)]
    forward = motion.predict(questions, members=2, seed=1)
    backward = motion.predict(questions[::-1], members=2, seed=1)[::-1]
    alone = motion.predict([dataclasses.replace(each, scene=0) for each in questions], members=2, seed=1)
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_allclose(a.lon_deg, b.lon_deg, atol=3e-5)
    apart = [distance_km(a.lon_deg, a.lat_deg, b.lon_deg, b.lat_deg).max() for a, b in zip(forward, alone, strict=True)]
    assert max(apart) > 1e-3


def test_an_empty_cell_of_a_scene_is_seen_by_nobody(net):
    windows = build_windows([query(vessel=i, lon=10.0 + 0.01 * i) for i in range(3)])
    full, padded = fleet_of(windows, scenes=np.array([[0, 1, 2]])), fleet_of(windows, scenes=np.array([[0, 1, 2, -1]]))
    noised = torch.randn(1, 4, ASKED, 2)
    level = torch.tensor([0.5])
    with torch.inference_mode():
        a = net(noised[:, :3], level, net.encode(full))
        b = net(noised, level, net.encode(padded))[:, :3]
    torch.testing.assert_close(a, b)


def test_departures_are_told_in_the_scale_of_their_kind_of_stretch():
    """Of stretches before, inside and after the known fixes."""
    config = dataclasses.replace(track_config(width=16, heads=2, layers=1), payload_scale=(1.0, 2.0, 3.0))
    asked = [query(gap=(12, 12), ask=[when]) for when in (-600.0, 3300.0, 9000.0)]
    context = TrackDenoiser(config).encode(fleet_of(build_windows(asked)))
    assert context.scale.flatten().tolist() == [1.0, 2.0, 3.0]


def test_what_a_vessel_is_and_how_it_moves_are_told_to_the_network(net):
    fleet = fleet_of(build_windows([query()]), behaviour=np.array([1]))
    noised, level = torch.randn(1, 1, ASKED, 2), torch.tensor([0.5])

    def estimate(**told):
        changed = fleet.replaced(**{name: torch.full_like(fleet.group, value) for name, value in told.items()})
        with torch.inference_mode():
            return net(noised, level, net.encode(changed))

    for other in ({"behaviour": 2}, {"group": 2}):
        assert (estimate(**other) - estimate()).abs().max() > 1e-3, other


def test_a_scene_is_seen_the_same_wherever_and_whenever_it_happens(net):
    """Of places and times only differences matter, those between fixes and what is asked among them."""
    fleet = fleet_of(build_windows([query(vessel=i, lon=10.0 + 0.05 * i) for i in range(3)]), scenes=np.arange(3)[None])
    moved = fleet.replaced(known_m=fleet.known_m + 2e4, asked_m=fleet.asked_m + 2e4)
    later = fleet.replaced(known_days=fleet.known_days + 0.5, asked_days=fleet.asked_days + 0.5)
    noised, level = torch.randn(1, 3, ASKED, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    apart = fleet.asked_m.clone()
    apart[:, 2] += 2e4
    with torch.inference_mode():
        seen = (fleet, moved, later, fleet.replaced(asked_m=apart))
        here, *others, away = (net(noised, level, net.encode(each)) for each in seen)
    for other in others:
        torch.testing.assert_close(here, other, rtol=0, atol=1e-4)
    assert (here - away)[:, :2].abs().max() > 1e-3


def test_the_context_of_many_members_is_that_of_each_scene(net):
    """Two scenes of two vessels, asked for gaps and for what follows: members of a scene lie in a row."""
    asked = [query(vessel=1), query(vessel=2, course=90.0), query(gap=(12, 12), ask=[9000.0]), query(vessel=4)]
    context = net.encode(fleet_of(build_windows(asked), scenes=np.array([[0, 1], [2, 3]])))
    noised, level = torch.randn(2, 2, ASKED, 2), torch.tensor([0.3, 0.8])
    many = context.repeated(3)
    with torch.inference_mode():
        alone = net(noised, level, context)
        members = net(noised.repeat_interleave(3, 0), level.repeat_interleave(3, 0), many)
    torch.testing.assert_close(members, alone.repeat_interleave(3, 0))
    torch.testing.assert_close(many.scale, context.scale.repeat_interleave(3, 0))


def test_the_inner_tokens_of_a_stretch_are_those_of_the_times_that_are_asked(net):
    fleet = fleet_of(build_windows([query()]))
    noised, level = torch.randn(1, 1, ASKED, 2), torch.tensor([0.1])
    spoiled = torch.where(fleet.asked_valid[..., None], noised, 9.0)
    with torch.inference_mode():
        whole, other = (net.embed(each, level, net.encode(fleet)) for each in (noised, spoiled))
    torch.testing.assert_close(whole, other)


def in_the_mirror(one):
    """The same about the meridian of 10 degrees: port for starboard."""
    return dataclasses.replace(one, lon_deg=20.0 - one.lon_deg, cog_deg=-one.cog_deg % 360)


def test_a_mirrored_world_is_seen_as_the_mirror_image_of_what_is_seen():
    bent = query(course=40.0, every=300.0)
    bent = dataclasses.replace(bent, cog_deg=bent.cog_deg + np.linspace(0, 50, len(bent.cog_deg)))
    world = [bent, query(vessel=2, lon=10.02, course=65.0), query(vessel=3, course=20.0, gap=(9, 12))]
    past = [query(vessel=number, lon=10.0 + 0.01 * number, course=35.0 + 2 * number) for number in range(10, 14)]
    past.append(dataclasses.replace(bent, time_s=bent.time_s - 20 * 86_400.0))
    fleets = [
        fleet_of(
            build_windows(list(map(turned, world)), TrackHistory.from_table(table_of(map(turned, past)))),
            scenes=np.arange(3)[None],
        )
        for turned in (lambda one: one, in_the_mirror)
    ]
    image = mirrored(fleets[0], torch.tensor([True]))
    assert fleets[0].paths.any()
    assert fleets[0].likeness[0, 0, :, -4:].any()  # the first has been there before
    for each in dataclasses.fields(image):
        here, there = getattr(image, each.name), getattr(fleets[1], each.name)
        # Of history half precision is kept; the plane of a scene shows metres.
        torch.testing.assert_close(here, there, rtol=1e-3, atol=0.5 if each.name.endswith("_m") else 2e-3)
        if each.name in SIDEWAYS:
            assert not torch.equal(here, getattr(fleets[0], each.name)), each.name


def test_port_and_starboard_are_treated_alike(net, motion):
    """The mean of a mirrored scene is the mirror of its mean, and so are members whose pairs change places."""
    fleet = fleet_of(build_windows([query(), query(vessel=2, course=100.0)]))
    image = mirrored(fleet, torch.ones(2, dtype=torch.bool))
    noise = torch.randn(2, 8, 1, ASKED, 2)
    order = [2, 3, 0, 1, 6, 7, 4, 5]
    with torch.inference_mode():
        nothing, level = torch.zeros(2, 1, ASKED, 2), torch.ones(2)
        alone = [net(nothing, level, net.encode(each)) for each in (fleet, image)]
        means = [motion._payload(each, None) for each in (fleet, image)]
        members = motion._payload(fleet, noise), motion._payload(image, noise[:, order] * MIRROR)
    assert (alone[0] - alone[1] * MIRROR).abs().max() > 0.01  # the network itself does not
    torch.testing.assert_close(means[0], means[1] * MIRROR)
    torch.testing.assert_close(members[0], members[1][:, order] * MIRROR)
    assert (members[0][:, :2] - members[1][:, :2] * MIRROR).abs().max() > 0.01


def test_paths_count_in_any_order_and_only_where_they_are_known():
    torch.manual_seed(0)
    net = PathAttention(PATH_WIDTH, LIKENESS_WIDTH, 16)
    torch.nn.init.normal_(net.out.weight)
    asked, paths = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 7, 5, PATH_WIDTH)
    likeness = torch.randn(2, 3, 7, LIKENESS_WIDTH)
    paths[..., -1] = (torch.rand(2, 3, 7, 5) < 0.6).float()
    paths[:, :, 2, :, -1] = 0.0
    whole = net(asked, paths, likeness)
    order = torch.randperm(7)
    torch.testing.assert_close(net(asked, paths[:, :, order], likeness[:, :, order]), whole)
    rest = [0, 1, 3, 4, 5, 6]
    torch.testing.assert_close(net(asked, paths[:, :, rest], likeness[:, :, rest]), whole)
    other = torch.where(paths[..., -1:] > 0, paths, 7.0)
    other[..., -1] = paths[..., -1]
    torch.testing.assert_close(net(asked, other, likeness), whole)
    none = net(asked, paths[:, :, :0], likeness[:, :, :0])
    torch.testing.assert_close(none, net(asked, torch.zeros_like(paths), likeness))
    assert (whole - none).abs().max() > 0.1


def test_what_history_says_is_left_to_those_who_are_told():
    history = TrackHistory.from_table(table_of([query(vessel=2), query(vessel=3)]))
    fleet = fleet_of(build_windows([query(), query(vessel=4)], history))
    told = fleet.told_history(torch.tensor([True, False]))
    for name in ("history", "paths", "likeness"):
        assert getattr(fleet, name)[1].any(), name
        assert torch.equal(getattr(told, name)[0], getattr(fleet, name)[0])
        assert not getattr(told, name)[1].any()


def test_without_a_name_nothing_tells_the_group_of_ship():
    past = table_of([query(vessel=2), query(vessel=3)]).with_columns(ship_type=pl.lit(70))
    history = TrackHistory.from_table(past)
    one, other = (
        fleet_of(build_windows([dataclasses.replace(query(vessel=number), ship_type=each)], history))
        for number, each in ((4, 70), (4, 80))
    )
    assert not torch.equal(one.likeness, other.likeness)
    nameless = [named_where(each, torch.tensor([False])) for each in (one, other)]
    for each in dataclasses.fields(one):
        torch.testing.assert_close(getattr(nameless[0], each.name), getattr(nameless[1], each.name), rtol=0, atol=0)
        same = getattr(named_where(one, torch.tensor([True])), each.name)
        assert torch.equal(same, getattr(one, each.name))


def table_of(queries):
    """Their known fixes as a cleaned table."""
    return pl.concat(
        pl.DataFrame(
            {
                "vessel_id": np.full(len(each.time_s), each.vessel_id),
                "time": pl.Series((each.time_s * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
                "lon_deg": each.lon_deg,
                "lat_deg": each.lat_deg,
                "sog_kn": each.sog_kn.astype(np.float32),
                "cog_deg": each.cog_deg.astype(np.float32),
                "track_id": [str(each.vessel_id)] * len(each.time_s),
            }
        )
        for each in queries
    )


def test_scenes_are_grouped_by_size_and_split_when_too_large():
    scene = np.array([0, 7, 7, 7, 0, 9] + [3] * 70)
    groups = group_scenes(scene)
    rows = np.sort(np.concatenate([group[group >= 0] for group in groups]))
    assert rows.tolist() == list(range(len(scene)))
    assert max(group.shape[1] for group in groups) <= 64
    assert groups[0].tolist() == [[0], [4]]


def test_many_times_are_answered_by_knots_that_pass_through_the_fixes(motion):
    time = np.arange(3000.0 + 30, 5400.0, 30)
    dense = motion.predict([query(ask=time)], members=2, seed=0)[0]
    assert np.isfinite(dense.lon_deg).all()
    ends = query()
    first = distance_km(dense.lon_deg[0], dense.lat_deg[0], ends.lon_deg[5], ends.lat_deg[5])
    last = distance_km(dense.lon_deg[-1], dense.lat_deg[-1], ends.lon_deg[6], ends.lat_deg[6])
    step = distance_km(dense.lon_deg[:-1], dense.lat_deg[:-1], dense.lon_deg[1:], dense.lat_deg[1:])
    assert first < 1.0
    assert last < 1.0
    assert step.max() < 1.0  # 12 kn make 0.19 km in 30 s; the untrained network adds some


@pytest.fixture(scope="module")
def calibrated(net):
    calibration = TrackCalibration(
        (0.5, 0.9), np.ones(CLASSES), np.ones((2, *CLASSES)) * np.reshape([1.0, 2.0], (2, 1, 1, 1)), 8
    )
    return DenoiserMotion(net, {}, calibration, "test")


def test_regions_of_many_times_are_those_of_the_knots_and_grow_from_the_known_fix(calibrated):
    knots = np.arange(1, 13) ** 2  # of twelve hours in steps of five minutes
    few = query(gap=(12, 12), ask=6600 + 300.0 * knots)
    many = dataclasses.replace(few, ask_s=few.time_s[-1] + 300.0 * np.arange(1, 145))
    coarse, fine = (calibrated.predict([each], members=8, seed=0)[0].ellipse_km for each in (few, many))
    np.testing.assert_allclose(fine[:, knots - 1, :2], coarse[..., :2], rtol=1e-3)
    # Five minutes ahead a region is about a twelfth of the one an hour ahead: not that of the hour.
    assert (fine[:, 0, 0] < 0.2 * fine[:, 11, 0]).all()
    assert (fine[..., 0] >= fine[..., 1]).all()


def test_point_and_regions_do_not_hang_on_how_many_members_are_asked_for(calibrated):
    """They are those of as many as the calibration had; with fewer a region of a half would hold less than a half."""
    four, eight, many = (calibrated.predict([query()], members=count, seed=0)[0] for count in (4, 8, 24))
    for name in ("lon_deg", "lat_deg", "ellipse_km"):
        np.testing.assert_array_equal(getattr(four, name), getattr(eight, name))
    assert len(four.member_lon_deg) == 4
    assert len(many.member_lon_deg) == 24
    np.testing.assert_array_equal(four.member_lat_deg, eight.member_lat_deg[:4])
    np.testing.assert_allclose(many.ellipse_km[..., :2], eight.ellipse_km[..., :2], rtol=0.5)


def test_at_a_known_fix_a_region_is_what_a_fix_errs_by():
    """Errors of a fix are normal on both axes: half of them lie within 1.177 deviations, nine tenths within 2.146."""
    ellipse = np.tile([5.0, 2.0, 30.0], (2, 1, 1))
    found = ellipses_between(np.array([600.0]), ellipse, np.zeros(1), np.array([0.0, 300.0]), np.array([0.5, 0.9]))
    fix = NOISE_KM * np.array([1.17741, 2.14597])
    np.testing.assert_allclose(found[:, 0, :2], np.stack([fix, fix], 1), rtol=1e-4)
    np.testing.assert_allclose(found[:, 1, :2], np.stack([(5.0 + fix) / 2, (2.0 + fix) / 2], 1), rtol=1e-4)
    np.testing.assert_allclose(found[:, 1, 2], 30.0)


def test_regions_within_a_gap_close_at_both_ends(calibrated):
    gap = calibrated.predict([query(ask=np.arange(3000.0 + 30, 5400.0, 30))], members=8, seed=0)[0].ellipse_km
    assert gap[1, 0, 0] < 0.5 * gap[1, 30, 0]
    assert gap[1, -1, 0] < 0.5 * gap[1, 40, 0]


def test_no_region_reaches_further_than_the_vessel_can(calibrated):
    """A region sized by members that hardly differ, for vessels of which many set off, once reached over an ocean."""
    wide = dataclasses.replace(calibrated.calibration, reach=np.full((2, *CLASSES), 9000.0))
    model = calibrated.with_calibration(wide)
    ahead = query(gap=(12, 12), ask=6600 + 3600.0 * np.arange(1, 4), speed=0.1)
    within = query(gap=(6, 11), speed=0.1)
    for asked, knots in ((ahead, 40.0), (dataclasses.replace(ahead, ship_type=52), 30.0), (within, 40.0)):
        found = model.predict([asked], members=8, seed=0)[0]
        wait = np.abs(asked.ask_s[:, None] - asked.time_s)
        apart = distance_km(found.lon_deg[:, None], found.lat_deg[:, None], asked.lon_deg, asked.lat_deg)
        farthest = (apart + knots * 1.852 / 3600 * wait).min(1)
        for radius in (found.ellipse_km[1, :, 0], found.ellipse_km[1, :, 1]):
            np.testing.assert_allclose(radius, farthest, rtol=0.02, atol=2 * DEFAULT_RULES.slack_km)


def test_the_course_of_a_region_is_from_true_north_where_it_lies(calibrated):
    far = query(lat=79.0, course=90.0, speed=20.0, gap=(12, 12), ask=6600.0 + np.array([3600.0 * 10]))
    answer = calibrated.predict([far], members=8, seed=1)[0]
    away = np.stack(to_local_km(answer.member_lon_deg, answer.member_lat_deg, answer.lon_deg, answer.lat_deg), -1)[:, 0]
    _, axes = np.linalg.eigh(away.T @ away)
    course = np.degrees(np.arctan2(*axes[:, 1]))
    off = (answer.ellipse_km[1, 0, 2] - course + 90) % 180 - 90
    assert abs(answer.lon_deg[0] - far.lon_deg[-1]) > 8  # so far do the meridians turn
    assert abs(off) < 2


@pytest.mark.parametrize("course", [20.0, 130.0, 250.0])
def test_a_region_lies_as_its_members_do_whichever_way_the_vessel_goes(calibrated, course):
    answer = calibrated.predict([query(course=course, gap=(12, 12), ask=[9000.0])], members=8, seed=1)[0]
    away = np.stack(to_local_km(answer.member_lon_deg, answer.member_lat_deg, answer.lon_deg, answer.lat_deg), -1)[:, 0]
    power, axes = np.linalg.eigh(away.T @ away)
    assert power[1] > 1.5 * power[0]
    off = (answer.ellipse_km[1, 0, 2] - np.degrees(np.arctan2(*axes[:, 1])) + 90) % 180 - 90
    assert abs(off) < 2


def test_classes_of_time_are_of_the_length_of_a_gap_and_of_the_way_beyond_the_fixes():
    """Forty minutes long is the gap, whenever in it is asked; what lies ahead is told by how far."""
    found = lead_class(build_windows([query(), query(gap=(12, 12), ask=6600 + np.array([200.0, 1500.0, 40_000.0]))]))
    assert (LEAD_EDGES_S[3], LEAD_EDGES_S[4]) == (1800.0, 2700.0)
    assert found[0, :3].tolist() == [4, 4, 4]
    assert found[1, :3].tolist() == [0, 3, len(LEAD_EDGES_S)]


def test_members_are_pulled_to_the_classical_prediction_and_spread_about_their_median(calibrated):
    due = dataclasses.replace(calibrated.calibration, pull=np.full(CLASSES, 0.5), spread_factor=np.full(CLASSES, 3.0))
    members = np.random.default_rng(0).normal(2.0, 1.0, (9, 1, ASKED, 2))
    found = due.spread(members, build_windows([query()]))
    np.testing.assert_allclose(np.median(found, 0), 0.5 * np.median(members, 0))
    np.testing.assert_allclose(np.ptp(found, 0), 3.0 * np.ptp(members, 0))


def test_a_region_allows_for_the_score_that_was_not_seen():
    """The next score comes at any of eleven places among ten: nine tenths of these reach up to the largest."""
    scores = np.arange(1.0, 11.0)
    assert [_quantile(scores, level) for level in (0.5, 0.8, 0.9, 0.99)] == [6.0, 9.0, 10.0, 10.0]


def test_a_class_without_a_figure_takes_that_of_another_time_before_that_of_another_state():
    figures = np.full(CLASSES, np.nan)
    figures[0, 0, 9], figures[0, 1, 0], figures[1, 0, 0] = 1.0, 2.0, 3.0
    borrowed = _borrowed(figures, 1)
    assert (borrowed[0, 0] == 1.0).all()
    assert (borrowed[0, 1] == 2.0).all()
    assert (borrowed[1] == 3.0).all()


def test_pairs_of_noise_stand_at_right_angles_and_are_normal_draws():
    windows = build_windows([query(vessel=vessel) for vessel in range(1, 301)])
    rows = np.arange(300)[:, None]
    noise = _noise(windows, rows, 16, 3).numpy()[:, :, 0].reshape(300, 16, 2 * ASKED)
    np.testing.assert_allclose(noise[:, 1::2], -noise[:, ::2])
    angles = np.einsum("npd,nqd->npq", noise[:, ::2], noise[:, ::2])
    np.testing.assert_allclose(angles * (1 - np.eye(8)), 0.0, atol=1e-4)
    first = noise[:, ::2].reshape(-1, 2 * ASKED)
    np.testing.assert_allclose(first.mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose(first.T @ first / len(first), np.eye(2 * ASKED), atol=0.12)
    np.testing.assert_allclose(_noise(windows, rows, 4, 3).numpy().ravel(), noise[:, :4].ravel(), atol=1e-6)
    assert _noise(windows, rows, 60, 3).isfinite().all()


def test_a_single_member_is_no_ensemble_but_the_mean(motion):
    one, mean = (motion.predict([query()], members=count, seed=0)[0] for count in (1, 0))
    assert one.lon_deg.tolist() == mean.lon_deg.tolist()
    assert one.member_lon_deg.size == 0


def test_a_scene_is_answered_whole_whatever_stands_before_it(motion, monkeypatch):
    scene = [query(vessel=number, lat=50.0 + 0.01 * number, scene=5) for number in range(1, 4)]
    others = [query(vessel=100 + number) for number in range(3)]
    alone = motion.predict(scene, members=2, seed=0)
    monkeypatch.setattr("geodiff.tasks.track_denoiser.BATCH", 4)
    among = motion.predict([*others, *scene], members=2, seed=0)[3:]
    for one, other in zip(alone, among, strict=True):
        np.testing.assert_allclose(one.lon_deg, other.lon_deg, atol=1e-6)


def test_knots_of_what_lies_beyond_the_fixes_stand_closer_where_these_are():
    many = 1.0 + 60.0 * np.arange(200)
    before, after = (cut(query(gap=(12, 12), ask=each))[0] for each in (-many[::-1], 6600 + many))
    for stretch, known in ((before, query().time_s[0]), (after, query().time_s[-1])):
        knots = np.sort(np.abs(stretch.query.ask_s - known))
        assert (np.diff(stretch.query.ask_s) > 0).all()
        assert len(knots) == ASKED
        assert knots[-1] == np.abs(stretch.ask_s - known).max()
        assert (np.diff(knots, n=2) > 0).all()


@pytest.mark.parametrize(
    ("kind", "ask"), [(BEFORE, [-1200.0, -600.0]), (INSIDE, [600.0, 1200.0]), (AFTER, [600.0, 1200.0])]
)
def test_a_member_is_no_further_from_a_known_fix_than_it_can_sail(kind, ask):
    """At 36 knots a vessel makes 11.1 km in ten minutes, and so much to the fix behind the gap."""
    place = np.zeros((3, 2, 2))
    place[1, :, 0], place[2, :, 1] = 100.0, 1.0
    edges = np.zeros((2, 5))
    edges[1, 0] = 1800.0 if kind == INSIDE else 0.0
    held = held_back(place, np.array(ask), edges, kind, 36.0)
    np.testing.assert_allclose(held[0], [[11.1, 0.0]] * 2, atol=0.1)
    np.testing.assert_allclose(held[1], place[2])


def test_a_query_is_cut_where_fixes_are_known():
    stretches = cut(query(ask=[-600.0, 3300.0, 3400.0, 9000.0]))
    assert [stretch.first for stretch in stretches] == [0, 1, 3]
    assert [build_windows([stretch.query]).kind[0] for stretch in stretches] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time_s": np.empty(0)}, "one known fix"),
        ({"ask_s": np.array([1.6e9 + 3700, 1.6e9 + 3600.5])}, "rise"),
        ({"ask_s": np.array([1.6e9 + 600])}, "was seen"),
    ],
)
def test_questions_without_sense_are_refused(motion, change, words):
    with pytest.raises(UsageError, match=words):
        motion.predict([dataclasses.replace(query(), **change)], members=2, seed=0)


def test_one_fix_is_enough(motion):
    lone = TrackQuery(*(np.array([v]) for v in (1.6e9, 5.0, 50.0, np.nan, np.nan)), np.array([1.6e9 + 600]), 30, 4)
    answer = motion.predict([lone], members=3, seed=0)[0]
    assert np.isfinite(answer.member_lon_deg).all()


def test_losses_fall_to_zero_for_the_truth_and_ignore_what_is_not_asked(net):
    windows = build_windows([query(), query(gap=(6, 10))])
    fleet = fleet_of(windows)
    truth = torch.randn(2, 1, ASKED, 2)
    spoiled = torch.where(fleet.asked_valid[..., None], truth, 99.0)
    for loss in (
        lambda y: track_denoising_loss(net, fleet, y, pure=1.0, lowest=0.1, generator=torch.Generator().manual_seed(1)),
        lambda y: track_ensemble_loss(net, fleet, y, passes=2, members=3, generator=torch.Generator().manual_seed(1)),
        lambda y: track_ensemble_loss(
            net, fleet, y, passes=2, members=3, km_share=0.7, generator=torch.Generator().manual_seed(1)
        ),
    ):
        torch.testing.assert_close(loss(truth), loss(spoiled), atol=1e-4, rtol=1e-3)


class Silent:
    """A network that knows nothing: it estimates no departure."""

    def __init__(self, scale):
        self.scale = scale

    def encode(self, fleet):
        return self

    def __call__(self, noised, level, context):
        return torch.zeros_like(noised)


def test_the_denoising_loss_is_that_of_the_velocity_in_units_of_the_scale():
    """Of who says nothing: the square of the departures over their scale, and over that of the level of noise."""
    valid = torch.ones(4000, 1, 3, dtype=torch.bool)
    departure = torch.tensor([3.0, 4.0]).expand(4000, 1, 3, 2)

    def loss(pure: float) -> float:
        chance, fleet = torch.Generator().manual_seed(0), SimpleNamespace(asked_valid=valid)
        net = Silent(torch.full((4000, 1, 1, 1), 2.0))
        return track_denoising_loss(net, fleet, departure, pure=pure, lowest=0.5, generator=chance).item()

    assert loss(1.0) == pytest.approx(25 / 4)
    assert loss(0.0) == pytest.approx(25 / 4 * 2, rel=0.03)  # the mean of 1 / s^2 for s from 0.5 to 1 is 2


def test_departures_in_usual_kilometres_are_those_of_the_window(net):
    windows = build_windows([query(), query(gap=(12, 12), ask=[8000.0, 12_000.0], speed=20.0)])
    fleet = fleet_of(windows)
    departure = torch.randn(2, 1, ASKED, 2)
    context = net.encode(fleet)
    far = _far(departure / context.scale, fleet, context)[:, 0].detach().numpy()
    off_km = windows.to_km(departure[:, 0].double().numpy()) - windows.prior_km
    usual = build_windows([query(speed=8.0), query(gap=(12, 12), ask=[8000.0, 12_000.0], speed=8.0)]).unit_km
    np.testing.assert_allclose(far * usual[..., None], off_km, rtol=0.01)


def test_in_kilometres_the_faster_of_two_vessels_counts_more(net):
    """The same departures in units: of a ship at 16 knots a unit is twice that of one at 8, and so is its score."""
    windows = build_windows([query(), query(gap=(6, 10))])
    fleet = fleet_of(windows)
    truth = torch.randn(2, 1, ASKED, 2)

    def score(stake: float, km_share: float) -> float:
        seen = fleet.replaced(stake=torch.full_like(fleet.stake, stake))
        chance = torch.Generator().manual_seed(1)
        loss = track_ensemble_loss(net, seen, truth, passes=2, members=3, km_share=km_share, generator=chance)
        return loss.item()

    assert score(1.0, 0.0) == score(2.0, 0.0)
    mean_part = 2 * score(1.0, 1.0) - score(2.0, 1.0)
    assert score(3.0, 1.0) - mean_part == pytest.approx(3 * (score(1.0, 1.0) - mean_part), rel=1e-3)
    assert score(1.0, 1.0) > 1.1 * mean_part
    assert score(1.0, 0.25) == pytest.approx(0.75 * score(1.0, 0.0) + 0.25 * score(1.0, 1.0), rel=1e-5)


def test_the_stake_is_one_at_a_usual_speed_and_twice_that_at_twice_the_speed():
    def stake(speed_kn: float) -> float:
        time = 1.6e9 + 60.0 * np.arange(10)
        north = 52.0 + speed_kn / 60 * (time - time[0]) / 3600
        speed, course = np.full(10, speed_kn), np.zeros(10)
        track = TrackQuery(time, np.full(10, 5.0), north, speed, course, time[-1:] + 7200, 70, 4)
        return float(fleet_of(build_windows([track])).stake[0, 0, 0])

    assert stake(8.0) == pytest.approx(1.0, rel=0.01)
    assert stake(16.0) == pytest.approx(2.0, rel=0.02)


def test_energy_score_is_lowest_for_the_true_distribution():
    chance = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 2, generator=chance)
    scores = {
        width: float(energy_score(width * torch.randn(8, 4000, 2, generator=chance), truth).mean())
        for width in (0.5, 1.0, 1.6)
    }
    assert min(scores, key=scores.get) == 1.0


def test_the_energy_score_of_the_losses_is_that_of_the_reports():
    members, truth = torch.randn(5, 30, 2, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    expected = numpy_energy_score((members - truth).numpy())
    np.testing.assert_allclose(energy_score(members, truth).numpy(), expected, atol=1e-3)


def test_checkpoint_round_trip_and_refusals(net, tmp_path):
    path = tmp_path / "tracks.safetensors"
    save_track_checkpoint(net, path, {"vessels": ""})
    again, card = load_track_checkpoint(path)
    assert card["parameters"] == sum(p.numel() for p in net.parameters())
    for name, value in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    text = path.with_suffix(".json").read_text()
    for layers in ("65", "100000000"):
        path.with_suffix(".json").write_text(text.replace('"layers": 2', f'"layers": {layers}'))
        with pytest.raises(GeodiffError, match="impossible value for layers"):
            load_track_checkpoint(path)
    card = json.loads(text)
    for scale in ([1.6, -1.4, 1.6], [1.6, 0.0, 1.6], [1.6, 1.4], [1.6, 1.4, 200.0], 1.6):
        card["config"]["payload_scale"] = scale
        path.with_suffix(".json").write_text(json.dumps(card))
        with pytest.raises(GeodiffError, match="impossible value for payload_scale"):
            load_track_checkpoint(path)


def test_weights_for_windows_of_another_version_are_refused(net, tmp_path):
    path = tmp_path / "tracks.safetensors"
    older = dataclasses.replace(net.config, path_width=PATH_WIDTH - 2)
    save_track_checkpoint(TrackDenoiser(older), path, {"vessels": ""})
    with pytest.raises(GeodiffError, match="other features of tracks than this version"):
        DenoiserMotion.load(path)


def test_embedding_is_of_each_stretch_alone_and_blind_to_place_and_type(motion):
    embedder = DenoiserEmbedder(motion)
    straight, elsewhere, turning = query(gap=(12, 12)), query(gap=(12, 12), lon=-120.0, lat=-33.0), query(gap=(12, 12))
    angle = np.linspace(0, 4, 12)
    turning = dataclasses.replace(turning, lon_deg=10 + 0.05 * np.sin(angle), lat_deg=50 + 0.03 * np.cos(angle))
    tanker = dataclasses.replace(straight, ship_type=80)
    rows = embedder.embed([straight, turning, elsewhere, tanker])
    np.testing.assert_allclose(rows[1], embedder.embed([turning])[0], atol=1e-5)
    np.testing.assert_allclose(rows[0], rows[3], atol=1e-5)
    assert np.linalg.norm(rows[0] - rows[2]) < 0.05 * np.linalg.norm(rows[0] - rows[1])
    assert not embedder.embed([dataclasses.replace(straight, **{k: getattr(straight, k)[:3] for k in NAMES})]).any()


@pytest.mark.parametrize("many", [False, True])
def test_no_member_moves_faster_than_its_ship_type_can(calibrated, many):
    """Members that are spread to hold the truth lead by lead once crossed a bay in a minute."""
    wild = dataclasses.replace(calibrated.calibration, spread_factor=np.full(CLASSES, 3.0))
    model = calibrated.with_calibration(wild)
    every = 60.0 if many else 600.0
    steps = every * np.arange(1, 1 + (50 if many else 5))
    ahead, within = query(gap=(12, 12), ask=6600 + steps), query(gap=(6, 11), ask=3000 + steps)
    for asked, ends in ((ahead, [11]), (within, [5, 6])):
        plain, found = (each.predict([asked], members=8, seed=0)[0] for each in (calibrated, model))
        time = np.concatenate([asked.time_s[ends[:1]], asked.ask_s, asked.time_s[ends[1:]]])
        both = [
            np.vstack([np.r_[known[ends[:1]], each, known[ends[1:]]] for each in (point, *made)])
            for known, point, made in (
                (asked.lon_deg, found.lon_deg, found.member_lon_deg),
                (asked.lat_deg, found.lat_deg, found.member_lat_deg),
            )
        ]
        way = distance_km(both[0][:, 1:], both[1][:, 1:], both[0][:, :-1], both[1][:, :-1])
        # The point estimate is held back by nothing but its training, of which this network has had none.
        fastest = max(40 * 1.852 / 3600, 1.2 * (way[0] / np.diff(time)).max())
        assert (way[1:] <= 1.001 * (fastest * np.diff(time) + 0.1)).all()
        assert found.member_lon_deg.std(0).max() > plain.member_lon_deg.std(0).max()
        np.testing.assert_allclose(found.lon_deg, plain.lon_deg, atol=1.0)


def test_a_vessel_faster_than_its_type_keeps_its_spread(calibrated):
    asked = query(gap=(12, 12), ask=6600 + 600.0 * np.arange(1, 6), speed=46.0)
    slow = dataclasses.replace(asked, ship_type=40)  # may go 60 knots
    fast, free = (calibrated.predict([each], members=8, seed=0)[0] for each in (asked, slow))
    for each in (fast, free):
        assert np.ptp(each.member_lat_deg, axis=0).min() > 0.001
