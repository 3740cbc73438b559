"""Association of plots without identity: vessels that cross, overtake, lie moored; clutter; streams."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from geodiff.metrics.association import AssociationScore, association_score
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import course_deg, from_local_km
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import COG, LAT, LON, REASON, REJECTED, SOG, STATE, TIME, TRACK_ID, VESSEL_ID
from geodiff.vessels.associate import CLUTTER, RADAR, AssociateSettings, associate, associate_batches, open_stream
from geodiff.vessels.associate_baselines import gnn, greedy
from geodiff.vessels.associate_link import Level, Odds, link
from geodiff.vessels.associate_noise import found_noise
from geodiff.vessels.associate_plots import canonical_order, cluster_scans, plots_of
from geodiff.vessels.associate_times import join_by_times

START_S = datetime(2020, 6, 1, tzinfo=UTC).timestamp()
M_S_PER_KN = 1852 / 3600


def table(vessel, seconds, east_m, north_m, sog_kn=None, cog_deg=None, *, centre=(4.0, 52.0)):
    """Fixes of a plane in metres about a centre; no speed and course where none are given."""
    lon, lat = from_local_km(np.asarray(east_m) / 1000, np.asarray(north_m) / 1000, *centre)
    columns = {VESSEL_ID: vessel, TIME: ((START_S + np.asarray(seconds)) * 1e6).astype("i8"), LON: lon, LAT: lat}
    if sog_kn is not None:
        columns |= {SOG: sog_kn, COG: cog_deg}
    frame = pl.DataFrame(columns).with_columns(
        pl.col(TIME).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), pl.col(VESSEL_ID).cast(pl.Int64)
    )
    return frame.with_columns(pl.when(pl.col(VESSEL_ID) >= 0).then(pl.col(VESSEL_ID)).alias(VESSEL_ID)).sort(TIME)


def straight(vessel, start_m, velocity_m_s, times, *, noise_m=2.0, seed=0, ais=True):
    """A vessel on a straight course; measured positions, and SOG and COG when it is AIS."""
    rng = np.random.default_rng([seed, vessel])
    east, north = (start_m[axis] + velocity_m_s[axis] * times + rng.normal(0, noise_m, len(times)) for axis in (0, 1))
    speed = np.hypot(*velocity_m_s) / M_S_PER_KN
    course = float(course_deg(0, 0, *(np.array(velocity_m_s) * 1e-6)))
    told = {"sog_kn": np.full(len(times), speed), "cog_deg": np.full(len(times), course)} if ais else {}
    return table(np.full(len(times), vessel), times, east, north, **told)


def scored(found: pl.DataFrame) -> AssociationScore:
    found = found.sort(TIME, maintain_order=True)
    code = [found[name].rank("dense").cast(pl.Int64).fill_null(-1).to_numpy() for name in (VESSEL_ID, TRACK_ID)]
    return association_score(*code)


def irregular(seed, seconds=3600.0, every=20.0):
    rng = np.random.default_rng(seed)
    return np.floor(np.cumsum(rng.exponential(every, int(2 * seconds / every)))) % seconds


def times_of(seed, **options):
    return np.unique(irregular(seed, **options))


CASES = {
    "crossing": [((-4000, 0), (4, 0.5)), ((0, -4000), (0.5, 4)), ((4000, 4000), (-3, -3))],
    "side by side": [((0, 0), (5, 0)), ((0, 60), (5, 0)), ((0, 120), (5, 0))],
    "overtaking": [((0, 0), (3, 0)), ((-3000, 40), (8, 0))],
    "meeting head on": [((0, 0), (5, 0)), ((12000, 30), (-5, 0))],
}


@pytest.mark.parametrize("case", CASES)
def test_vessels_under_way_are_told_apart(case):
    parts = [straight(n, start, speed, times_of(n)) for n, (start, speed) in enumerate(CASES[case])]
    found = associate(pl.concat(parts).sort(TIME))
    score = scored(found)
    assert (score.purity, score.completeness, score.tracks) == (1.0, 1.0, len(parts))


def test_silences_are_bridged_by_the_motion():
    times = times_of(5)
    heard = times[(times < 1200) | (times > 2100)]
    parts = [straight(0, (0, 0), (5, 0), heard), straight(1, (0, 500), (5, 0), times)]
    assert scored(associate(pl.concat(parts))).tracks == 2


def moored(vessel, place_m, times, *, values=0):
    rng = np.random.default_rng([7, vessel])
    east, north = (place_m[axis] + rng.normal(0, 1.5, len(times)) for axis in (0, 1))
    # Receivers hold the course for a while: runs that repeat to the digit, then another value; or some values in turn.
    run = rng.integers(0, values, len(times)) if values else np.cumsum(rng.uniform(size=len(times)) < 0.2)
    course = rng.uniform(0, 360, len(times)).round(1)[run]
    return table(np.full(len(times), vessel), times, east, north, rng.choice([0.0, 0.1], len(times)), course)


def test_a_moored_vessel_with_a_noisy_course_is_one_track_and_its_neighbour_another():
    parts = [moored(n, (0, 30 * n), times_of(n, every=15.0), values=5) for n in range(3)]
    score = scored(associate(pl.concat(parts)))
    assert score.purity > 0.97
    assert score.completeness > 0.97
    assert score.tracks <= 4
    apart = scored(associate(pl.concat(parts), AssociateSettings(berth_m=0.0)))
    assert apart.completeness < score.completeness  # what joining at the berth is for


def anchored(vessel, place_m, times, *, noise_m=0.0, swing_m=(0.0, 0.0), seed=0, told=True):
    """A vessel at anchor: white noise of its places, and an ellipse in 40 minutes about them."""
    rng = np.random.default_rng([seed, vessel])
    phase = 2 * np.pi * times / 2400
    wave = [swing_m[0] * np.cos(phase), swing_m[1] * np.sin(phase)]
    east, north = (place_m[axis] + wave[axis] + rng.normal(0, noise_m, len(times)) for axis in (0, 1))
    way = [
        swing * 2 * np.pi / 2400 * each for swing, each in zip(swing_m, (-np.sin(phase), np.cos(phase)), strict=True)
    ]
    said = (np.hypot(*way) / M_S_PER_KN, np.degrees(np.arctan2(*way)) % 360) if told else ()
    return table(np.full(len(times), vessel), times, east, north, *(each.round(1) for each in said))


def jittered(seed, interval_s, count=100):
    rng = np.random.default_rng([seed, int(interval_s)])
    return np.round(interval_s * (rng.uniform() + np.arange(count) + rng.uniform(-0.1, 0.1, count)))


@pytest.mark.parametrize("interval_s", [10.0, 60.0, 180.0, 360.0])
@pytest.mark.parametrize("noise_m", [5.0, 10.0, 25.0])
def test_a_lone_vessel_at_anchor_is_one_track_however_badly_it_is_seen(interval_s, noise_m):
    for times in (interval_s * np.arange(200), jittered(1, interval_s)):
        assert associate(anchored(0, (0, 0), times, noise_m=noise_m))[TRACK_ID].n_unique() == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_vessel_that_swings_about_its_anchor_is_one_track(told):
    fixes = anchored(0, (0, 0), 360.0 * np.arange(200), noise_m=3.0, swing_m=(18.0, 60.0), told=told)
    assert associate(fixes)[TRACK_ID].n_unique() == 1
    apart = associate(fixes, AssociateSettings(berth_m=0.0))
    assert apart[TRACK_ID].n_unique() > 10  # what joining by the times is for


@pytest.mark.parametrize("interval_s", [60.0, 180.0])
def test_vessels_at_anchor_near_each_other_stay_apart(interval_s):
    times = [jittered(n, interval_s, 150) for n in range(4)]
    score = scored(associate(pl.concat([anchored(n, (0, 100 * n), t, noise_m=10.0) for n, t in enumerate(times)])))
    assert score.purity > 0.999
    assert score.completeness > 0.97
    assert score.tracks <= 5
    score = scored(associate(pl.concat([anchored(n, (0, 30 * n), t, noise_m=2.0) for n, t in enumerate(times)])))
    assert (score.purity, score.tracks) == (1.0, 4)


def test_two_regular_vessels_that_report_in_turn_are_not_one():
    parts = [anchored(n, (0, 60 * n), 180.0 * np.arange(150) + 90.0 * n, noise_m=10.0) for n in range(2)]
    score = scored(associate(pl.concat(parts)))
    assert score.purity > 0.97
    assert score.tracks > 1


def test_a_vessel_that_makes_room_for_another_is_another():
    """It comes to the next berth a minute after the first one left."""
    out = straight(0, (0, 0), (3, 0), 7200.0 + 60 * np.arange(1, 30), noise_m=3.0)
    into = straight(1, (-3 * 1740, 60), (3, 0), 60 * np.arange(29.0), noise_m=3.0)
    into = into.with_columns(pl.col(TIME) + pl.duration(seconds=5551))
    parts = [anchored(0, (0, 0), 60.0 * np.arange(121), noise_m=3.0), out, into]
    parts.append(anchored(1, (0, 60), 7291.0 + 60 * np.arange(120), noise_m=3.0))
    assert scored(associate(pl.concat(parts))).purity == 1.0


def test_a_vessel_that_is_slow_once_beside_a_moored_one_is_another():
    """The moored one is silent from then on: their reports hardly meet."""
    lies = anchored(0, (0, 0), 100.0 * np.arange(60), noise_m=6.0)
    slow = table(np.ones(1), [5850.0], [70.0], [0.0], np.array([0.6]), np.array([90.0]))
    away = straight(1, (70 - 5850, 0), (1, 0), 5850 + 70.0 * np.arange(1, 60))
    assert scored(associate(pl.concat([lies, slow, away]))).purity == 1.0


def test_older_tracks_are_not_joined_by_their_times_but_go_on():
    """Three pieces of one vessel, two of them begun in an earlier block."""
    fixes = anchored(0, (0, 0), 60.0 * np.arange(90), noise_m=10.0)
    piece = np.random.default_rng(0).integers(0, 3, 90)
    piece[:2] = (0, 1)
    plots = plots_of(fixes)
    joined = join_by_times(plots, piece, 2)
    assert set(joined[piece == 2]) < {0, 1}
    assert [set(joined[piece == old]) for old in (0, 1)] == [{0}, {1}]
    assert set(join_by_times(plots, piece, 0)) == {0}


def test_older_tracks_are_not_linked_to_each_other_again():
    """Two pieces of one straight way: one track, unless both are tails of tracks that were told apart before."""
    plots = plots_of(straight(0, (0, 0), (6, 0), 60.0 * np.arange(6), noise_m=0.0))
    prior, rules = AssociateSettings().prior(), AssociateSettings().rules()
    odds = Odds(np.full(6, 1e-12), rules.report_s, rules.scan_s, rules.fastest_m_s)
    piece = np.array([0, 0, 0, 1, 1, 1])
    assert link(plots, piece, Level(900.0, 0.0), odds, prior).tolist() == [0] * 6
    assert link(plots, piece, Level(900.0, 0.0), odds, prior, closed=6).tolist() == piece.tolist()


def test_the_fastest_vessel_of_the_settings_is_told_in_metres_a_second():
    assert AssociateSettings(fastest_kn=60.0).rules().fastest_m_s == pytest.approx(30.87, abs=0.01)


def test_where_a_track_begins_and_where_it_ends_errors_of_place_and_speed_go_together_the_other_way_round():
    """Who is farther ahead than thought at the end was faster; who was farther ahead at the start was slower."""
    plots = plots_of(straight(0, (0, 0), (6, 0), 20.0 * np.arange(8), noise_m=0.0, ais=False))
    prior = AssociateSettings().prior()
    last = prior.ends(plots, np.arange(7, -1, -1)[None], forward=True)
    first = prior.ends(plots, np.arange(8)[None], forward=False)
    assert last.var_pv[0] > 0
    assert first.var_pv[0] == pytest.approx(-last.var_pv[0], rel=1e-6)
    for end in (last, first):
        np.testing.assert_allclose(np.linalg.norm(end.velocity_m_s), 6.0, atol=0.1)
    np.testing.assert_allclose(last.velocity_m_s, first.velocity_m_s, atol=0.1)


def test_a_report_heard_twice_is_one_report():
    one = straight(0, (0, 0), (9, 0), times_of(3, every=8.0))
    again = one.with_columns(pl.col(TIME) + pl.duration(seconds=1))
    found = associate(pl.concat([one, again]))
    assert found[TRACK_ID].n_unique() == 1


def test_identities_change_nothing():
    fleet = make_fleet(3, 6, 2.0, defects={}).fixes
    found = associate(fleet)
    mixed = associate(fleet.with_columns(pl.col(VESSEL_ID).shuffle(seed=1), pl.lit(7).alias("row")))
    assert found[TRACK_ID].equals(mixed[TRACK_ID])
    assert found.drop(TRACK_ID, STATE, REASON).equals(fleet)  # rows and their order are kept


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_is_found_again_in_pure_tracks(seed):
    # A harbour: many vessels on few square kilometres, some of them moored.
    fleet = make_fleet(seed, 16, 1.5, interval_s=30.0, defects={}, region=(4.0, 52.0, 4.05, 52.03))
    fixes = fleet.fixes.with_columns(fleet.truth["vessel"].cast(pl.Int64).alias(VESSEL_ID))
    ours, global_, near = (scored(rule(fixes, AssociateSettings())) for rule in (associate, gnn, greedy))
    assert ours.purity > 0.97
    assert ours.completeness > 0.75  # tugs and pilots that stop and start at once come in pieces, but in pure ones
    assert ours.purity >= max(global_.purity, near.purity)


def test_at_a_crowded_quay_the_classical_rules_do_worse():
    parts = [moored(n, (0, 20 * n), times_of(n, every=60.0)) for n in range(12)]
    fixes = pl.concat(parts)
    ours, global_, near = (scored(rule(fixes, AssociateSettings())) for rule in (associate, gnn, greedy))
    assert ours.purity > 0.95
    assert ours.idf1 > max(global_.idf1, near.idf1) + 0.1


def radar(seed, *, clutter=6, detect=0.9, scans=60, every=1.5):
    """Three vessels that cross before a radar: extended targets, missed detections, clutter all over; truth -1."""
    rng = np.random.default_rng(seed)
    rows = []
    courses = [((-300, 0), (6, 0.5)), ((0, -300), (0.3, 6)), ((250, 250), (-4, -4))]
    for scan in range(scans):
        now = every * scan
        for vessel, (start, velocity) in enumerate(courses):
            if rng.uniform() < detect:
                for _ in range(rng.integers(1, 4)):
                    rows.append((vessel, now, *(np.add(start, np.multiply(velocity, now)) + rng.normal(0, 2, 2))))
        rows += [(-1, now, *rng.uniform(-500, 500, 2)) for _ in range(rng.poisson(clutter))]
    return table(*np.array(rows).T)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clutter_is_rejected_with_a_reason_and_crossing_targets_are_kept_apart(seed):
    found = associate(radar(seed), RADAR)
    rejected = found.filter(pl.col(STATE) == REJECTED)
    assert set(rejected[REASON]) == {CLUTTER}
    assert rejected[TRACK_ID].null_count() == len(rejected)
    assert rejected[VESSEL_ID].null_count() / len(rejected) > 0.9  # what is rejected is clutter
    score = scored(found)
    assert score.purity > 0.95
    assert score.completeness > 0.75  # a target merges with another while they cross, and may go on as a new track
    assert score.tracks <= 5


@pytest.mark.parametrize("every", [3.0, 4.0])
def test_targets_of_a_slow_antenna_are_confirmed_by_as_many_scans(every):
    plots = radar(1, every=every)
    found = associate(plots, RADAR)
    score = scored(found)
    assert score.purity > 0.85
    assert score.completeness > 0.7
    rejected = found.filter(pl.col(STATE) == REJECTED)
    assert rejected[VESSEL_ID].null_count() / len(rejected) > 0.8


def test_the_pace_of_an_antenna_survives_batches_and_interruptions():
    plots = radar(2, every=3.0)
    plots = plots[canonical_order(plots)]
    settings = RADAR.model_copy(update={"block_rows": 150})
    state, parts = None, []
    for start in range(0, len(plots), 40):
        stream = open_stream(settings)
        if state is not None:
            stream.restore(state)
        parts += list(stream.feed(plots[start : start + 40]))
        state = stream.state()
    parts += list(stream.finish())
    assert stream.rules.confirm == (8, 24.0)
    found = pl.concat([each.rows.with_columns(track=each.track).filter(pl.Series(each.confirmed)) for each in parts])
    whole = pl.concat(associate_batches([plots], settings)).filter(pl.col(TRACK_ID).is_not_null())
    assert whole[TRACK_ID].n_unique() >= 3
    number = whole[TRACK_ID].str.extract(r"t(\d+)/").cast(pl.Int64).alias("track")
    keys = (TIME, "lon_deg", "lat_deg")
    assert len(found.join(whole.select(*keys, number), on=[*keys, "track"])) == len(whole) == len(found)


def test_plots_that_tell_the_time_of_their_bearing_are_of_one_scan_as_well():
    plots = radar(1)
    angle = np.random.default_rng(0).uniform(0, 9_000, len(plots)).astype(np.int64)  # up to 9 ms later
    stamped = plots.with_columns(pl.col(TIME) + pl.Series(angle).cast(pl.Duration("us")))
    score, whole = scored(associate(stamped, RADAR)), scored(associate(plots, RADAR))
    assert score.tracks == whole.tracks
    assert score.purity > 0.95
    assert score.completeness == pytest.approx(whole.completeness, abs=0.02)


def test_a_sensor_that_never_pauses_does_not_make_one_target_of_all_time():
    """A lidar of ten looks a second at a moored boat: targets of three quarters of a second."""
    lone = table([0] * 200, np.arange(200) * 0.1, np.zeros(200), np.zeros(200))
    plots = plots_of(lone[canonical_order(lone)])
    found = np.bincount(cluster_scans(plots, 8.0, 0.75))
    assert found.min() >= 4
    assert found.max() <= 8


def test_an_echo_that_comes_now_and_then_is_not_held_for_ever():
    """Every second scan, an hour long: never eight hits in twenty seconds."""
    seconds = np.arange(0.0, 3600.0, 2.5)
    place = np.random.default_rng(0).uniform(-5000, 5000, (2, len(seconds)))
    place[:, ::2] = 0.0
    echo = table(np.arange(len(seconds)) % 2, seconds, *place)
    stream = open_stream(RADAR.model_copy(update={"block_rows": 100}))
    held, confirmed = [], 0
    for start in range(0, len(echo), 20):
        confirmed += sum(int(decided.confirmed.sum()) for decided in stream.feed(echo[start : start + 20]))
        held.append(sum(len(frame) for frame in stream.state()[1].values()))
    list(stream.finish())
    assert confirmed == 0
    assert max(held[len(held) // 2 :]) <= 300


@pytest.mark.parametrize("rule", [associate, gnn, greedy])
def test_no_rule_is_too_impatient_for_a_slow_antenna(rule):
    plots = radar(1, every=3.0, clutter=0)
    assert rule(plots, RADAR)[TRACK_ID].drop_nulls().n_unique() >= 3


def test_clutter_alone_gives_hardly_a_track():
    found = associate(radar(4, detect=0.0, clutter=10), RADAR)
    assert (found[STATE] == REJECTED).mean() > 0.95


def test_plots_of_one_scan_are_one_target_when_near():
    lone = table([0] * 40, np.repeat(np.arange(20) * 1.5, 2), np.tile([0.0, 5.0], 20), np.zeros(40))
    assert associate(lone, RADAR)[TRACK_ID].n_unique() == 1
    assert associate(lone, RADAR.model_copy(update={"cluster_m": 1.0}))[TRACK_ID].drop_nulls().n_unique() == 2


def test_a_stream_gives_each_row_once_and_holds_little_back():
    fixes = make_fleet(1, 20, 6.0, interval_s=30.0, defects={}).fixes.sort(TIME)
    settings = AssociateSettings(block_rows=1000, lag_s=600.0)
    held = given = 0
    rows = []
    batches = [fixes[start : start + 500] for start in range(0, len(fixes), 500)]

    def fed():
        nonlocal held, given
        for batch in batches:
            given += len(batch)
            held = max(held, given - sum(rows))
            yield batch

    out = []
    for part in associate_batches(fed(), settings):
        rows.append(len(part))
        out.append(part)
    found = pl.concat(out)
    assert found["row"].sort().to_list() == sorted(fixes["row"].to_list())
    assert held <= 2 * settings.block_rows + 500
    truth = scored(found)
    whole = scored(associate(fixes, settings.model_copy(update={"block_rows": 10**6})))
    assert truth.purity > whole.purity - 0.02
    assert truth.completeness > whole.completeness - 0.05


def test_a_batch_that_reaches_back_is_refused():
    fixes = straight(0, (0, 0), (5, 0), times_of(1))
    with pytest.raises(GeodiffError, match="sort the stream by time"):
        list(associate_batches([fixes[20:], fixes[:20]]))


def test_rows_that_were_rejected_before_are_passed_through():
    fixes = straight(0, (0, 0), (5, 0), times_of(1))
    state = ["rejected" if row == 3 else "observed" for row in range(len(fixes))]
    fixes = fixes.with_columns(pl.Series(STATE, state), pl.lit("speed").alias(REASON))
    found = associate(fixes)
    assert found[STATE].to_list() == state
    assert found[3, REASON] == "speed"
    assert found[3, TRACK_ID] is None
    assert found[4, REASON] is None


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows(rows):
    found = associate(straight(0, (0, 0), (5, 0), times_of(1))[:rows])
    assert len(found) == rows
    assert {TRACK_ID, STATE, REASON} <= set(found.columns)
    assert found[TRACK_ID].to_list() == ["t1/" + found[0, TIME].strftime("%Y%m%dT%H%M%S")] * rows if rows else True


@pytest.mark.parametrize("centre", [(180.0, 10.0), (20.0, 89.97), (0.0, -60.0)])
def test_neither_the_dateline_nor_a_pole_is_a_seam(centre):
    times = times_of(2)
    rng = np.random.default_rng(0)
    parts = []
    for vessel, (start, speed) in enumerate([((-6000, 0), (4, 0)), ((6000, 300), (-4, 0))]):
        east, north = (start[a] + speed[a] * times + rng.normal(0, 2, len(times)) for a in (0, 1))
        # At the pole a course turns with the meridians; position alone must do.
        parts.append(table(np.full(len(times), vessel), times, east, north, centre=centre))
    score = scored(
        associate(pl.concat(parts), AssociateSettings(fastest_kn=20.0, levels=((60, 3), (120, 2), (900, 0))))
    )
    assert score.purity == 1.0
    assert score.completeness > 0.95


def test_missing_places_and_columns_are_named():
    fixes = straight(0, (0, 0), (5, 0), times_of(1))
    with pytest.raises(GeodiffError, match="1 of 347 rows have no time or no place, the first is row 3"):
        associate(fixes.with_columns(pl.when(pl.int_range(pl.len()) != 2).then(pl.col(LAT)).alias(LAT)))
    with pytest.raises(GeodiffError, match="needs the column lon_deg"):
        associate(fixes.drop(LON))
    with pytest.raises(GeodiffError, match="not a number in its range"):
        associate(fixes.with_columns(pl.col(LAT) + 90))


def test_the_last_level_must_decide():
    with pytest.raises(UsageError, match="last level"):
        AssociateSettings.parse({"levels": [[100, 3]]})


def test_another_predictor_takes_part():
    class Stubborn(type(AssociateSettings().prior())):
        """Finds every continuation impossible."""

        def log_likelihood(self, last, first, pairs):
            return np.full(len(pairs[0]), -np.inf)

    fixes = straight(0, (0, 0), (5, 0), times_of(1))
    found = associate(fixes, AssociateSettings(), Stubborn())
    assert found[TRACK_ID].n_unique() == len(fixes)


@pytest.mark.parametrize(("every", "noise_m"), [(3.0, 4.0), (10.0, 5.0)])
def test_a_vessel_that_reports_often_is_not_taken_for_two_in_turn(every, noise_m):
    """With so much noise each second report may fit as well as the next: it would be passed over for nothing."""
    fixes = straight(0, (0, 0), (6, 2), np.arange(0, 600) * every, noise_m=noise_m)
    score = scored(associate(fixes))
    assert (score.tracks, score.completeness) == (1, 1.0)
    beside = straight(1, (-2000, 500), (4, 4), np.arange(0, 600 * every, 180.0), noise_m=5.0)
    both = scored(associate(pl.concat([fixes, beside]).sort(TIME)))
    assert (both.tracks, both.purity, both.completeness) == (2, 1.0, 1.0)


def test_a_report_that_a_moving_vessel_repeats_seconds_later_seeds_no_track():
    fixes = straight(0, (0, 0), (5, 0), np.arange(0, 3000, 10.0), noise_m=1.0)
    late = fixes.gather_every(4).with_columns(pl.col(TIME) + pl.duration(seconds=13))
    score = scored(associate(pl.concat([fixes, late]).sort(TIME)))
    assert (score.tracks, score.completeness) == (1, 1.0)
    still = straight(0, (0, 0), (0, 0), np.arange(0, 3000, 10.0), noise_m=0.0)
    assert associate(still)[TRACK_ID].null_count() == 0


@pytest.mark.parametrize(
    ("noise_m", "late_s", "every_s"),
    [(8.0, 0.0, 5.0), (15.0, 0.0, 10.0), (2.0, 3.0, 5.0), (8.0, 0.0, 20.0), (15.0, 0.0, 30.0)],
)
def test_vessels_stay_whole_though_places_and_stamps_are_worse_than_told(noise_m, late_s, every_s):
    rng = np.random.default_rng(3)
    parts = []
    for n in range(8):
        speed, turn = rng.uniform(3, 9), rng.uniform(0, 2 * np.pi)
        start, way = rng.uniform(-8000, 8000, 2), (speed * np.sin(turn), speed * np.cos(turn))
        one = straight(n, start, way, np.arange(rng.uniform(0, every_s), 3600.0, every_s), noise_m=noise_m)
        late = (rng.uniform(0, late_s, len(one)) * 1e6).astype("i8") if late_s else np.zeros(len(one), "i8")
        parts.append(one.with_columns(pl.col(TIME) + pl.Series(late).cast(pl.Duration("us"))))
    score = scored(associate(pl.concat(parts).sort(TIME)))
    assert (score.purity, score.tracks) == (1.0, 8)


def test_noise_is_found_as_it_is():
    times = np.arange(0.0, 3600.0, 10.0)
    for noise_m, late_s in ((3.0, 0.0), (12.0, 0.0), (3.0, 2.0)):
        rng = np.random.default_rng(5)
        made = pl.concat([straight(n, (0, 5000 * n), (7.0, 1.0), times, noise_m=noise_m) for n in range(4)])
        late = pl.Series((rng.normal(20, late_s, len(made)) * 1e6).astype("i8")).cast(pl.Duration("us"))
        made = made.with_columns(pl.col(TIME) + late).sort(TIME)
        position, clock = found_noise(plots_of(made), made[VESSEL_ID].to_numpy())
        assert position == pytest.approx(noise_m, rel=0.1)
        assert clock == pytest.approx(late_s, rel=0.15, abs=0.25)


def test_vessels_that_report_once_a_minute_tell_no_noise():
    # One behind the other, twelve seconds apart and off the line: what follows within seconds is another vessel.
    parts = [straight(n, (0, 40 * (n % 2)), (7.0, 0.0), np.arange(12.0 * n, 3600.0, 60.0)) for n in range(5)]
    plots = plots_of(pl.concat(parts).sort(TIME))
    assert found_noise(plots, np.zeros(len(plots), np.int64))[0] > 10  # whoever takes them for one vessel
    few = pl.concat([straight(9, (0, 9000), (7.0, 0.0), np.arange(0, 36000.0, 60.0)), *parts]).sort(TIME)
    assert found_noise(plots_of(few), few[VESSEL_ID].to_numpy() // 9) == (0.0, 0.0)
