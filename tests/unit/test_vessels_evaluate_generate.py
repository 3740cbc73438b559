"""Windows, features, rules and figures of an evaluation of generated tracks, on tracks whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.schema import GeodiffError
from geodiff.sphere import from_local_km, to_local_km
from geodiff.tasks.evaluate_generate_accuracy import Question, accuracy
from geodiff.tasks.evaluate_generate_classifier import fit_classifier
from geodiff.tasks.evaluate_generate_features import features_of, motion_of
from geodiff.tasks.evaluate_generate_rules import constant_motion, random_walk
from geodiff.tasks.track_pieces import Grid, Pieces, choose, cut_pieces, usual_grid
from geodiff.tasks.track_starts import CARD, StartSpeeds
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.windows_draw import BEHAVIOURS


def pieces(count=40, *, speed_kn=10.0, turn_deg=0.0, seed=0, behaviour=1, ship_type=70, spread=0.1):
    """Windows of 36 steps of five minutes in a plane near 40 N, at about one speed, turning steadily."""
    rng = np.random.default_rng(seed)
    course = np.radians(rng.uniform(0, 360, (count, 1)) + turn_deg * np.arange(36))
    step = speed_kn * (1 + spread * rng.standard_normal((count, 1))) * 1.852 / 12
    east, north = (
        np.concatenate([np.zeros((count, 1)), np.cumsum(step * part, 1)], 1)
        for part in (np.sin(course), np.cos(course))
    )
    lon, lat = from_local_km(east, north, -30.0, 40.0)
    number = np.arange(count)
    return Pieces(
        lon,
        lat,
        1.6e9 + 0.0 * number,
        np.full(count, ship_type),
        np.full(count, behaviour),
        number + 1000 * seed,
        300.0,
    )


@pytest.fixture(scope="module")
def fleet():
    return clean_fixes(make_fleet(1, vessels=18, hours=7.0, interval_s=60.0, defects={}).fixes)


def test_windows_do_not_overlap_are_even_and_pass_through_the_fixes(fleet):
    table = fleet.filter((fleet["state"] == "observed") & fleet["track_id"].is_not_null())
    assert usual_grid(table) == Grid(3.0, 300.0)
    found = cut_pieces(table, Grid(1.0, 300.0))
    assert found.lon_deg.shape[1] == 13
    assert (found.start_s % 300 == 0).all()
    for vessel in np.unique(found.vessel_id):
        starts = np.sort(found.start_s[found.vessel_id == vessel])
        assert (np.diff(starts) >= 3600 + 300).all()
    fixes = table.filter(table["vessel_id"] == found.vessel_id[0]).sort("time")
    seconds = fixes["time"].dt.epoch("us").to_numpy() / 1e6
    at = found.start_s[0] + 300 * np.arange(13)
    near = np.interp(at, seconds, fixes["lat_deg"].to_numpy())
    np.testing.assert_allclose(found.lat_deg[0], near, atol=1e-3)
    with pytest.raises(GeodiffError, match="no track goes on for 48 h"):
        cut_pieces(table, Grid(48.0, 300.0))


def test_cuts_at_other_phases_add_windows_and_change_none(fleet):
    table = fleet.filter((fleet["state"] == "observed") & fleet["track_id"].is_not_null())
    once, thrice = (cut_pieces(table, Grid(1.0, 300.0), phases=n) for n in (1, 3))

    def named(pieces):
        return {*zip(pieces.vessel_id.tolist(), pieces.start_s.tolist(), strict=True)}

    assert named(once) < named(thrice)
    assert len(named(thrice)) == len(thrice)
    assert 2.2 * len(once) < len(thrice) <= 3 * len(once)
    some = {key: row for row, key in enumerate(zip(thrice.vessel_id.tolist(), thrice.start_s.tolist(), strict=True))}
    rows = [some[key] for key in zip(once.vessel_id.tolist(), once.start_s.tolist(), strict=True)]
    np.testing.assert_array_equal(thrice.lon_deg[rows], once.lon_deg)
    assert (np.ptp(thrice.start_s[thrice.vessel_id == thrice.vessel_id[0]]) % 300) == 0


def test_a_choice_is_spread_over_labels_and_vessels(fleet):
    table = fleet.filter((fleet["state"] == "observed") & fleet["track_id"].is_not_null())
    whole = cut_pieces(table, Grid(1.0, 300.0))
    found = choose(whole, 30, seed=0, allowed=lambda ids: ids % 2 == 0)
    assert len(found) == 30
    assert (found.vessel_id % 2 == 0).all()
    there = whole.take(whole.vessel_id % 2 == 0)
    labels = {*zip(there.group.tolist(), there.behaviour.tolist(), strict=True)}
    assert {*zip(found.group.tolist(), found.behaviour.tolist(), strict=True)} == labels
    again = choose(whole, 30, seed=0, allowed=lambda ids: ids % 2 == 0)
    assert found.content() == again.content()
    assert found.content() != choose(whole, 30, seed=1, allowed=lambda ids: ids % 2 == 0).content()


def test_motion_is_as_made():
    motion = motion_of(pieces(5, speed_kn=12.0, turn_deg=10.0, spread=0.0))
    np.testing.assert_allclose(motion.speed_kn, 12.0, rtol=2e-3)
    np.testing.assert_allclose(motion.turn_deg_min, 2.0, atol=2e-2)
    np.testing.assert_allclose(motion.acceleration_kn_min, 0.0, atol=0.02)
    np.testing.assert_allclose(motion.lateral_m_s2, 12 * 1852 / 3600 * np.radians(2.0) / 60, rtol=0.02)
    still = motion_of(pieces(2, speed_kn=0.1))
    assert np.isnan(still.turn_deg_min).all()


@pytest.mark.parametrize("lat0", [0.0, 60.0])
def test_features_do_not_change_with_place_direction_or_mirroring(lat0):
    made = pieces(12, speed_kn=9.0, turn_deg=4.0)
    east, north = to_local_km(made.lon_deg, made.lat_deg, -30.0, 40.0)
    turned = from_local_km(0.6 * east + 0.8 * north, 0.8 * east - 0.6 * north, 170.0, lat0)
    np.testing.assert_allclose(features_of(made.moved(*turned)), features_of(made), atol=0.03)
    assert np.isfinite(features_of(made)).all()


def test_the_classifier_tells_slow_from_fast_the_same_each_time():
    slow, fast = pieces(60, speed_kn=5.0), pieces(60, speed_kn=15.0, seed=1)
    features = np.concatenate([features_of(slow), features_of(fast)])
    label = np.repeat([3, 7], 60)
    vessel = np.arange(120)
    first, second = (fit_classifier(features, label, vessel, seed=4) for _ in range(2))
    unseen = np.concatenate(
        [features_of(pieces(30, speed_kn=5.0, seed=8)), features_of(pieces(30, speed_kn=15.0, seed=9))]
    )
    np.testing.assert_array_equal(first.predict(unseen), np.repeat([3, 7], 30))
    np.testing.assert_array_equal(first.predict(features), second.predict(features))
    with pytest.raises(ValueError, match="1 classes"):
        fit_classifier(features, np.zeros(120, np.int64), vessel, seed=0)


def test_accuracy_is_balanced_and_its_ratio_is_to_the_real_one():
    # Nine windows of one class and one of the other: always the first is half right, not nine tenths.
    label = np.array([1] * 9 + [2])
    question = Question("behaviour", None, np.arange(10), label, np.arange(10))
    found = accuracy(question, np.ones(10, np.int64), label, 0)
    assert found["accuracy"]["mean"] == 0.5
    assert found["real"]["mean"] == 1
    assert found["ratio"]["mean"] == 0.5
    assert found["above_chance"] == 0
    assert found["confusion"] == [[1, 0], [1, 0]]
    assert found["classes"] == ["transit", "manoeuvring"]


def test_rules_keep_start_and_labels_and_move_as_the_learned_windows_do():
    learned = pieces(80, speed_kn=11.0, turn_deg=5.0, behaviour=2)
    asked = pieces(30, speed_kn=3.0, seed=2, behaviour=2)
    for rule in (constant_motion, random_walk):
        made = rule(asked, learned, 0)
        np.testing.assert_allclose(made.lon_deg[:, 0], asked.lon_deg[:, 0], atol=1e-9)
        assert (made.behaviour == asked.behaviour).all()
        assert motion_of(made).speed_kn.mean() == pytest.approx(11.0, rel=0.06)
        np.testing.assert_array_equal(made.lat_deg, rule(asked, learned, 0).lat_deg)
    straight, walk = motion_of(constant_motion(asked, learned, 0)), motion_of(random_walk(asked, learned, 0))
    np.testing.assert_allclose(straight.turn_deg_min, 0, atol=0.02)
    np.testing.assert_allclose(walk.turn_deg_min, 1.0, atol=0.05)


def test_start_speeds_are_those_of_the_label_and_survive_the_card():
    both = [pieces(120, speed_kn=4.0, behaviour=4, ship_type=30), pieces(120, speed_kn=14.0, behaviour=1, seed=1)]
    joined = Pieces(
        *(
            np.concatenate([getattr(each, name) for each in both])
            for name in Pieces.__dataclass_fields__
            if name != "step_s"
        ),
        300.0,
    )
    speeds = StartSpeeds.from_card({CARD: StartSpeeds.of(joined).to_json()})
    group, half = np.array([1, 9, 9, 1]), np.full(4, 0.5)
    drawn = speeds.draw(group, np.array([4, 1, 0, 1]), half)
    # A group that was never seen to move so takes the speeds of those that were.
    np.testing.assert_allclose(drawn, [4, 14, 14, 14], rtol=0.1)
    assert (np.diff(speeds.quantiles_kn, axis=2) >= 0).all()
    assert StartSpeeds.from_card({}) is None
    for wrong in ("fast", [[1.0]], np.full((12, len(BEHAVIOURS), 11), -1.0).tolist()):
        with pytest.raises(GeodiffError, match=CARD):
            StartSpeeds.from_card({CARD: wrong})
