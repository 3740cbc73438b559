from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from scipy.stats import multivariate_t

from geodiff.metrics.anomaly import auroc
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import move
from geodiff.tracks import OBSERVED, REJECTED, SHIP_GROUPS, TrackAnswer, TrackQuery
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.scoring import Calibration, Judged, ask, judge
from geodiff.vessels.scoring_blocks import Misses, predict_hidden, spread_km
from geodiff.vessels.scoring_calibrate import SHARES, _part, learn
from geodiff.vessels.scoring_embed import Cloud, KinematicEmbedder, embed_stretches, fit_cloud, stretches
from geodiff.vessels.scoring_evidence import KINDS, Evidence, report_evidence, shared_km
from geodiff.vessels.scoring_fixes import Fixes
from geodiff.vessels.scoring_scale import fit_scale
from geodiff.vessels.scoring_tracks import TRACK_SCHEMA, check_alpha, reasons, score_tracks, track_table
from geodiff.vessels.scoring_traffic import FLOOR_KM, Traffic
from geodiff.vessels.scoring_weights import fix_views, track_views

START = 1_577_836_800.0


def sail(
    vessel: int,
    *,
    place: tuple[float, float] = (10.0, 55.0),
    course: float = 90.0,
    knots: float = 12.0,
    fixes: int = 80,
    step_s: float = 60.0,
    begin_s: float = 0.0,
    ship_type: int = 70,
) -> pl.DataFrame:
    """A straight track at constant speed, with the noise of GNSS and of reports."""
    rng = np.random.default_rng(vessel)
    seconds = begin_s + step_s * np.arange(fixes) + rng.integers(-5, 6, fixes)
    lon, lat = move(*place, course, knots * 1.852 / 3600 * (seconds - begin_s))
    return frame(
        vessel,
        seconds,
        lon + rng.normal(0, 4e-5, fixes),
        lat + rng.normal(0, 2e-5, fixes),
        np.maximum(knots + rng.normal(0, 0.1, fixes), 0),
        (course + rng.normal(0, 1, fixes)) % 360,
        ship_type,
    )


def frame(
    vessel: int, seconds: np.ndarray, lon: np.ndarray, lat: np.ndarray, sog: np.ndarray, cog: np.ndarray, ship_type: int
) -> pl.DataFrame:
    micro = ((START + seconds) * 1e6).astype(np.int64)
    return pl.DataFrame(
        {
            "vessel_id": pl.Series([vessel] * len(seconds), dtype=pl.Int64),
            "time": pl.Series(micro).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "lon_deg": lon,
            "lat_deg": lat,
            "sog_kn": pl.Series(sog, dtype=pl.Float32),
            "cog_deg": pl.Series(cog, dtype=pl.Float32),
            "ship_type": pl.Series([ship_type] * len(seconds), dtype=pl.Int16),
            "track_id": f"{vessel}/{int(seconds[0]):08d}",
            "state": OBSERVED,
            "reason": pl.Series([None] * len(seconds), dtype=pl.String),
        }
    )


def fleet(count: int, first: int = 1000, *, spread: float = 4.0) -> pl.DataFrame:
    """Clean vessels of all courses, speeds and starts, far apart."""
    rng = np.random.default_rng(first)
    parts = [
        sail(
            first + k,
            place=(float(rng.uniform(0, spread)), float(rng.uniform(50, 50 + spread))),
            course=float(rng.uniform(0, 360)),
            knots=float(rng.uniform(6, 18)),
            begin_s=float(rng.uniform(0, 3600)),
            fixes=int(rng.integers(40, 100)),
        )
        for k in range(count)
    ]
    return pl.concat(parts)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return learn(fleet(330), Hermite(), lengths=(1, 6)).calibration()


class Remembering:
    """A model that answers zero and keeps what it was asked."""

    name = "remembering"
    levels = ()

    def __init__(self) -> None:
        self.asked: list[TrackQuery] = []

    def predict(self, queries: Sequence[TrackQuery], *, members: int, seed: int) -> list[TrackAnswer]:
        self.asked.extend(queries)
        return [TrackAnswer(np.zeros(len(q.ask_s)), np.zeros(len(q.ask_s))) for q in queries]


@pytest.mark.parametrize("length", [1, 6, 24])
@pytest.mark.parametrize("count", [4, 47, 80, 301])
def test_every_fix_is_hidden_once_for_each_length_and_never_shown_then(length: int, count: int) -> None:
    fixes = Fixes.from_table(sail(1, fixes=count))
    model = Remembering()
    misses = predict_hidden(model, fixes, length, members=0, seed=0)
    if count < max(3 * length, 4):
        assert not len(misses.fix)
        return
    assert sorted(misses.fix.tolist()) == list(range(count))
    for query in model.asked:
        assert not set(query.ask_s) & set(query.time_s)
        assert len(query.time_s) >= 3
        # A hidden block is hidden whole: nothing known lies inside it.
        inside = np.searchsorted(query.time_s, query.ask_s)
        runs = np.diff(np.flatnonzero(np.diff(inside, prepend=-1, append=-1)))
        assert runs.max() <= length


def test_a_lone_outlier_is_flagged_for_its_position_and_by_how_much(calibration: Calibration) -> None:
    clean = sail(5, fixes=80)
    lat = clean["lat_deg"].to_numpy().copy()
    lat[40] += 0.02
    scored = score_tracks(clean.with_columns(pl.Series("lat_deg", lat)), Hermite(), calibration, alpha=0.02)
    flagged = scored.fixes.filter(pl.col("reason").is_not_null())
    assert scored.fixes["score"].arg_max() in (39, 40, 41)
    assert "position: 2.2 km off" in " ".join(flagged["reason"])
    assert scored.tracks["anomalous"].to_list() == [True]
    assert scored.tracks["p_value"][0] <= 0.02


def test_who_is_fast_is_not_told_as_silent(calibration: Calibration) -> None:
    pause = sail(6, fixes=80).filter(~pl.int_range(pl.len()).is_between(30, 55))
    for table, silent in ((sail(6, knots=36.0), False), (pause, True)):
        scored = score_tracks(table, Hermite(), calibration, alpha=0.02).fixes
        said = " ".join(scored["reason"].drop_nulls())
        assert ("gap: silent for 27 min, usually 60 s" in said) == silent
        assert ("gap:" in said) == silent
        assert ("speed: goes 1.1 km within 6" in said) == (not silent)


def test_who_is_heard_once_after_hours_was_silent(calibration: Calibration) -> None:
    table = pl.concat([sail(6, fixes=80), sail(6, fixes=1, begin_s=40_000.0, place=(10.5, 55.0))])
    track = pl.when(pl.int_range(pl.len()) == 80).then(pl.lit("6/b")).otherwise("track_id")
    scored = score_tracks(table.with_columns(track.alias("track_id")), Hermite(), calibration, alpha=0.5).fixes
    assert "gap: silent for 9.8 h" in scored["reason"][80]


def test_clean_vessels_that_calibration_never_saw_are_flagged_at_the_stated_rate(calibration: Calibration) -> None:
    fixes = Fixes.from_table(fleet(300, first=50_000))
    judged = judge(fixes, ask(fixes, Hermite(), lengths=(1, 6)), calibration)
    for alpha in (0.1, 0.05):
        assert alpha / 2 <= np.mean(judged.p_value <= alpha) <= 2 * alpha
        assert alpha / 2.5 <= np.mean(judged.track_p_value <= alpha) <= 2.5 * alpha


def test_scores_do_not_depend_on_the_order_of_rows_or_on_other_vessels(calibration: Calibration) -> None:
    one, many = sail(9), pl.concat([fleet(20, first=70_000, spread=2.0), sail(9)])
    alone = score_tracks(one, Hermite(), calibration, alpha=0.05).fixes
    mixed = score_tracks(many.sample(fraction=1, shuffle=True, seed=1), Hermite(), calibration, alpha=0.05).fixes
    mine = mixed.filter(pl.col("vessel_id") == 9).sort("time")
    np.testing.assert_allclose(alone["score"], mine["score"])


def test_rejected_rows_keep_their_reason_and_get_no_score(calibration: Calibration) -> None:
    table = (
        sail(3)
        .with_row_index()
        .with_columns(
            pl.when(pl.col("index") == 7).then(pl.lit(REJECTED)).otherwise("state").alias("state"),
            pl.when(pl.col("index") == 7).then(pl.lit("too fast")).otherwise(None).alias("reason"),
        )
    )
    scored = score_tracks(table.drop("index"), Hermite(), calibration, alpha=0.02).fixes
    assert len(scored) == len(table)
    assert scored["score"][7] is None
    assert scored["p_value"].null_count() == 1
    assert scored["reason"][7] == "too fast"


def test_scores_of_before_give_way_to_new_ones(calibration: Calibration) -> None:
    table = fleet(12, first=80_000)
    first = score_tracks(table, Hermite(), calibration, alpha=0.5).fixes
    stale = first.with_columns(pl.lit(True).alias("anomalous"), pl.lit(0.5).alias("track_p_value"))
    assert first["reason"].count() > first.height / 4
    again = score_tracks(stale, Hermite(), calibration, alpha=0.05).fixes
    fresh = score_tracks(table, Hermite(), calibration, alpha=0.05).fixes
    assert again.equals(fresh.select(again.columns))
    assert set(again.columns) == set(fresh.columns)


def test_an_empty_table_and_one_fix_are_scored(calibration: Calibration) -> None:
    empty = score_tracks(sail(1).clear(), Hermite(), calibration, alpha=0.05)
    assert len(empty.fixes) == 0
    assert empty.tracks.schema == TRACK_SCHEMA
    single = score_tracks(sail(1, fixes=1), Hermite(), calibration, alpha=0.05)
    assert single.tracks["fixes"].to_list() == [1]


def test_uncleaned_tables_are_refused_by_row(calibration: Calibration) -> None:
    twice = pl.concat([sail(1), sail(1)[5]])
    with pytest.raises(GeodiffError, match=r"row 81: track 1/.* two fixes"):
        score_tracks(twice, Hermite(), calibration, alpha=0.05)
    timeless = sail(1).with_row_index().with_columns(pl.when(pl.col("index") != 9).then("time").alias("time"))
    with pytest.raises(GeodiffError, match="row 10: a fix without a time: clean the table first"):
        score_tracks(timeless.drop("index"), Hermite(), calibration, alpha=0.05)
    with pytest.raises(UsageError, match="no column track_id: clean it first"):
        score_tracks(sail(1).drop("track_id"), Hermite(), calibration, alpha=0.05)


def test_a_calibration_survives_json_and_is_checked(calibration: Calibration) -> None:
    plain = json.loads(calibration.to_json())
    again = Calibration.parse(plain)
    table = sail(11)
    assert score_tracks(table, Hermite(), again, alpha=0.05).fixes.equals(
        score_tracks(table, Hermite(), calibration, alpha=0.05).fixes
    )
    spoiled = json.loads(calibration.to_json().replace('"vessels": ', '"vessels": -', 1))
    with pytest.raises(UsageError):
        Calibration.parse(spoiled)
    plain["tracks"]["tails"]["3:0"]["values"] = [2.0, 1.0]
    with pytest.raises(UsageError, match="rise"):
        Calibration.parse(plain)
    with pytest.raises(UsageError, match="calibration is of hermite"):
        score_tracks(table, Remembering(), calibration)


def test_a_rate_that_so_few_vessels_cannot_tell_is_refused(calibration: Calibration) -> None:
    with pytest.raises(UsageError, match="calibrate with more vessels"):
        score_tracks(sail(1), Hermite(), calibration, alpha=1e-4)
    with pytest.raises(UsageError, match="needs 30 vessels or more, these are 12"):
        learn(fleet(12), Hermite())


def test_a_rate_that_one_class_is_too_small_to_tell_is_refused(calibration: Calibration) -> None:
    plain = json.loads(calibration.to_json())
    tails = plain["fixes"]["tails"]
    widest = next(key for key in tails if key.startswith(f"{plain['fixes']['depth'] - 1}:"))
    tails["0:12345"] = tails[widest] | {"vessels": 30}
    check_alpha(0.05, Calibration.parse(plain))
    with pytest.raises(UsageError, match=r"finer than 0\.032, the least that the 30 vessels"):
        check_alpha(0.03, Calibration.parse(plain))


def test_reported_speed_and_course_are_held_against_the_displacement() -> None:
    table = sail(1, fixes=60)
    sog, cog = (table[name].to_numpy().copy() for name in ("sog_kn", "cog_deg"))
    sog[20], cog[40] = 3.0, 200.0
    spoiled = table.with_columns(pl.Series("sog_kn", sog), pl.Series("cog_deg", cog))
    found = {each.kind: each for each in report_evidence(Fixes.from_table(spoiled))}
    assert abs(int(np.nanargmax(found["speed"].value)) - 20) <= 1
    assert abs(int(np.nanargmax(found["course"].value)) - 40) <= 1


def test_what_is_held_against_reports_is_told_in_knots_and_degrees_also_northward() -> None:
    """Fourteen knots due north, whose course is told as a little more than 0 degrees or a little less than 360."""
    found = {each.kind: each for each in report_evidence(Fixes.from_table(sail(1, fixes=60, course=0.0, knots=14.0)))}
    np.testing.assert_allclose(found["speed"].facts["moved_kn"], 14.0, atol=1.5)
    np.testing.assert_allclose(found["speed"].facts["sog_kn"], 14.0, atol=0.5)
    for name in ("cog_deg", "moved_deg"):
        assert (np.abs((found["course"].facts[name] + 180) % 360 - 180) < 5).all(), name
    assert np.nanmax(found["course"].value) < np.log(1.0 + 5.0)


def test_silence_counts_the_more_the_further_the_vessel_went_unseen() -> None:
    still, gone = sail(1, fixes=30), sail(1, fixes=30, begin_s=7200.0)
    at = still["lon_deg"][-1]
    values = []
    for km in (0.0, 20.0):
        there = gone.with_columns(
            pl.col("lon_deg") - gone["lon_deg"][0] + at + km / 63.778, lat_deg=pl.lit(still["lat_deg"][-1])
        )
        fixes = Fixes.from_table(pl.concat([still, there]))
        gap = next(each for each in report_evidence(fixes) if each.kind == "gap")
        assert gap.facts["unseen_km"][29] == pytest.approx(km, abs=0.05)
        values.append(gap.value[29])
    assert values[1] - values[0] == pytest.approx(np.log(20.1 / 0.1), abs=0.05)


def test_the_type_of_a_track_is_the_one_it_mostly_told() -> None:
    told = np.array([0] * 50 + [70] * 10 + [80] * 20)
    assert Fixes.from_table(sail(1).with_columns(pl.Series("ship_type", told, pl.Int16))).ship_type.tolist() == [80]
    assert Fixes.from_table(sail(1, ship_type=0)).ship_type.tolist() == [0]


def test_a_reason_tells_the_step_that_speaks_against_the_course() -> None:
    table = pl.concat([sail(1, fixes=60, course=90.0), sail(2, fixes=60, course=0.0, place=(20.0, 50.0))])
    cog = table["cog_deg"].to_numpy().copy()
    # The last fix but one: what is strange lies on both sides of it, and of its neighbours on one each.
    cog[58] = 150.0
    found = report_evidence(Fixes.from_table(table.with_columns(pl.Series("cog_deg", cog))))
    course = next(each for each in found if each.kind == "course")
    strange = np.argsort(course.value)[-3:]
    assert set(strange) == {57, 58, 59}
    off = np.abs(course.facts["cog_deg"] - course.facts["moved_deg"])[strange]
    np.testing.assert_allclose(off, 30.0, atol=5.0)


def test_silence_counts_over_the_tracks_of_a_vessel() -> None:
    table = pl.concat([sail(1, fixes=30), sail(1, fixes=30, begin_s=7200.0)])
    gap = next(each for each in report_evidence(Fixes.from_table(table)) if each.kind == "gap")
    assert set(np.argsort(gap.value)[-2:]) == {29, 30}
    assert gap.facts["silent_s"][29] == pytest.approx(7200 - 29 * 60, abs=15)
    assert gap.facts["usual_s"][29] == pytest.approx(60, abs=5)


def test_one_identity_in_two_places_at_once_is_told_with_the_distance() -> None:
    here, there = sail(1, fixes=60), sail(1, fixes=60, place=(11.0, 55.0), begin_s=600.0)
    apart = shared_km(Fixes.from_table(pl.concat([here, there])))
    assert np.isnan(apart[:8]).all()
    assert np.nanmin(apart) == pytest.approx(60.0, abs=5.0)
    assert np.isnan(shared_km(Fixes.from_table(pl.concat([here, sail(2, fixes=60)])))).all()


def test_the_closest_point_of_approach_is_found_before_it_happens() -> None:
    # Two vessels on opposite courses, 200 m apart sideways, that meet after half an hour.
    stranger = (1 << 62) + 1  # the identity of a track that association made
    west = sail(1, place=(10.0, 55.0), course=90.0, knots=12)
    east = sail(stranger, place=(10.3702, 55.0018), course=270.0, knots=12)
    fixes = Fixes.from_table(pl.concat([west, east]))
    met = Traffic.of(fixes).around(fixes)
    closest = np.exp(-met.value[:80]) - FLOOR_KM
    meeting = int(np.nanargmax(met.value[:80]))
    assert np.nanmin(closest) == pytest.approx(0.2, abs=0.1)
    assert 25 <= meeting <= 36
    assert set(met.facts["other"][:80][np.isfinite(met.value[:80])].tolist()) == {stranger}
    assert np.isnan(met.value[:15]).all()
    lone = Traffic.of(Fixes.from_table(west))
    assert np.isnan(lone.around(Fixes.from_table(west)).value).all()


def test_vessels_that_part_are_as_near_as_they_are_now_also_where_180_degrees_lies_between() -> None:
    place = (179.976, 60.0)  # that which goes east crosses them after some minutes
    lon, lat = move(*place, 90.0, 1.0)
    west = sail(1, place=place, course=270.0, knots=3.0, fixes=20)
    east = sail(2, place=(float(lon), float(lat)), course=90.0, knots=3.0, fixes=20)
    wrapped = pl.concat([west, east]).with_columns((pl.col("lon_deg") + 180) % 360 - 180)
    assert wrapped["lon_deg"].max() - wrapped["lon_deg"].min() > 359
    fixes = Fixes.from_table(wrapped)
    met = Traffic.of(fixes).around(fixes)
    apart = 1.0 + 2 * 3.0 * 1.852 / 60 * np.arange(1, 10)
    for first in (0, 20):
        np.testing.assert_allclose(met.facts["closest_km"][first + 1 : first + 10], apart, atol=0.06)
        assert (met.facts["wait_s"][first + 1 : first + 10] == 0).all()


def test_vessels_without_an_identity_meet_each_other_but_not_themselves() -> None:
    """Two that sail side by side, 400 m apart."""
    nobody = pl.lit(None, pl.Int64).alias("vessel_id")
    one, other = sail(1, fixes=40), sail(2, fixes=40, place=(10.0, 55.0036))
    both = Fixes.from_table(pl.concat([one, other]).with_columns(nobody))
    met = Traffic.of(both).around(both)
    # All but the fixes at the ends, which the ticks of the common clock may pass by.
    assert np.isfinite(met.value[:40]).sum() >= 35
    assert np.nanmedian(met.facts["closest_km"][:40]) == pytest.approx(0.4, abs=0.1)
    alone = Fixes.from_table(one.with_columns(nobody))
    assert np.isnan(Traffic.of(alone).around(alone).value).all()


@pytest.mark.parametrize("lat", [0.0, 60.0])
def test_traffic_moves_over_the_ground_and_not_over_degrees(lat: float) -> None:
    traffic = Traffic.of(Fixes.from_table(sail(1, place=(10.0, lat), course=90.0, knots=10.8, step_s=600.0)))
    assert np.median(traffic.east_km_s) / 1.852 * 3600 == pytest.approx(10.8, abs=0.1)
    assert np.abs(traffic.north_km_s).max() / 1.852 * 3600 < 1.0


def test_a_vessel_that_leaves_its_berth_is_traffic_from_then_on() -> None:
    """The leg that begins at the berth is under way, and so is the one that ends there."""
    seconds = 600.0 * np.arange(30)
    speed = np.where((seconds >= 6000) & (seconds < 12_000), 12.0, 0.0)
    lon = 10.0 + np.concatenate([[0.0], np.cumsum(speed[:-1])]) * 600 / 3600 * 1.852 / 111.195
    fixes = Fixes.from_table(frame(1, seconds, lon, np.zeros(30), speed, np.full(30, 90.0), 70))
    lying = np.flatnonzero(fixes.moored)
    assert lying.tolist() == [*range(10), *range(20, 30)]
    at = (Traffic.of(fixes).slot * 60.0 - START) / 600
    assert (at.min(), at.max()) == (pytest.approx(9.0, abs=0.11), pytest.approx(20.0, abs=0.11))


def test_moored_vessels_are_not_asked_of_the_model() -> None:
    moored = sail(1, knots=0.1, fixes=200)
    fixes = Fixes.from_table(moored)
    assert fixes.moored.all()
    assert not len(predict_hidden(Hermite(), fixes, 1, members=0, seed=0).fix)


def test_an_ensemble_that_says_it_is_unsure_makes_a_miss_less_surprising() -> None:
    class Unsure(Hermite):
        """Knows when it errs: its members spread as its misses do."""

        name = "unsure"

        def predict(self, queries: Sequence[TrackQuery], *, members: int = 0, seed: int = 0) -> list[TrackAnswer]:
            answers = []
            for query, plain in zip(queries, super().predict(queries), strict=True):
                rng = np.random.default_rng(int(query.ask_s[0]) % 2**31)
                wide = np.where(rng.random(len(query.ask_s)) < 0.5, 0.05, 0.001)
                away = rng.normal(0, 1, (members, len(wide), 2)) * wide[:, None]
                miss = rng.normal(0, 1, (len(wide), 2)) * wide[:, None]
                lon, lat = plain.lon_deg + miss[:, 0], plain.lat_deg + miss[:, 1]
                answers.append(TrackAnswer(lon, lat, lon + away[..., 0], lat + away[..., 1]))
            return answers

    fixes = Fixes.from_table(fleet(30))
    misses = predict_hidden(Unsure(), fixes, 1, members=16, seed=0)
    scale = fit_scale(misses, 1)
    assert scale.inner.along[-1] > 0.5
    wide = misses.spread_km[:, 0] > 1.0
    surprise, usual = scale.surprise(misses)
    assert np.median(usual[wide]) > 10 * np.median(usual[~wide])
    assert np.median(surprise[wide]) == pytest.approx(np.median(surprise[~wide]), rel=0.6)


def test_what_a_model_says_of_its_spread_is_told_along_and_across_the_course() -> None:
    course, here = np.radians([30.0, 120.0, 75.0]), (np.full(3, 10.0), np.full(3, 55.0))
    ellipse = TrackAnswer(*here, ellipse_km=np.tile([4.0, 1.0, 30.0], (1, 3, 1)))
    both = np.sqrt((16 + 1) / 2)
    np.testing.assert_allclose(spread_km([ellipse], course), [[4.0, 1.0], [1.0, 4.0], [both, both]], rtol=1e-6)
    # Members two kilometres before and behind the estimate, on a course of 30 degrees.
    ahead, behind = (move(*here, 30.0, way) for way in (2.0, -2.0))
    lon, lat = (np.stack([ahead[axis], behind[axis], ahead[axis], behind[axis]]) for axis in (0, 1))
    found = spread_km([TrackAnswer(*here, lon, lat)], course)
    np.testing.assert_allclose(found, [[2.0, 0.0], [0.0, 2.0], [2**0.5, 2**0.5]], atol=0.01)
    assert np.isnan(spread_km([TrackAnswer(*here)], course)).all()


def test_usual_misses_are_those_of_the_calibration_along_and_across_within_and_at_the_edge() -> None:
    """Blocks between known fixes are missed by 300 m along and 100 m across, blocks at an end by five times as much."""
    size, edge = np.array([[0.3], [0.1]]), np.arange(4000) % 2 == 1
    along, across = size * np.random.default_rng(0).normal(size=(2, 4000)) * np.where(edge, 5.0, 1.0)
    plain = np.zeros((4000, 6))
    plain[:, 0] = 1.0
    misses = Misses(np.arange(4000), along, across, plain, np.full((4000, 2), np.nan), edge)
    scale = fit_scale(misses, 1)
    usual = scale.deviations_km(misses)
    np.testing.assert_allclose(usual[~edge], np.tile([0.3, 0.1], (2000, 1)), rtol=0.1)
    np.testing.assert_allclose(usual[edge], np.tile([1.5, 0.5], (2000, 1)), rtol=0.1)
    # Nats of the best place over the observed one.
    density = multivariate_t(shape=np.diag(usual[0] ** 2), df=4)
    seen = np.stack([along, across], 1)[::2][:50]
    expected = density.logpdf([0.0, 0.0]) - density.logpdf(seen)
    np.testing.assert_allclose(scale.surprise(misses)[0][::2][:50], expected)


def test_a_circling_vessel_lies_far_from_a_cloud_of_straight_ones() -> None:
    embedder = KinematicEmbedder()
    clean = Fixes.from_table(fleet(60))
    begin, end = stretches(clean)
    cloud = fit_cloud(embed_stretches(embedder, clean, begin, end), np.full(len(begin), 9))
    angle = np.linspace(0, 4 * np.pi, 64)
    circle = frame(
        1, 60.0 * np.arange(64), 10 + 0.02 * np.sin(angle), 55 + 0.011 * np.cos(angle), np.full(64, 8.0),
        np.degrees(angle + np.pi / 2) % 360, 70,
    )  # fmt: skip
    other = Fixes.from_table(pl.concat([circle, *(sail(k) for k in range(2, 12))]))
    begin, end = stretches(other)
    far, unlike = cloud.distances(embed_stretches(embedder, other, begin, end), np.full(len(begin), 9))
    assert auroc(far, other.track[begin] == 0) == 1.0
    assert np.isnan(unlike).all()


def test_a_vessel_that_moves_like_another_type_is_told_by_how_much() -> None:
    embedder, rng = KinematicEmbedder(), np.random.default_rng(0)
    slow = [sail(k, knots=float(rng.uniform(3, 5)), ship_type=30) for k in range(40)]
    fast = [sail(100 + k, knots=float(rng.uniform(17, 20)), ship_type=70) for k in range(40)]
    clean = Fixes.from_table(pl.concat([*slow, *fast]))
    begin, end = stretches(clean)
    cloud = fit_cloud(embed_stretches(embedder, clean, begin, end), clean.group[clean.track[begin]])
    liar = Fixes.from_table(sail(999, knots=18.5, ship_type=30))
    begin, end = stretches(liar)
    vectors = embed_stretches(embedder, liar, begin, end)
    _, unlike = cloud.distances(vectors, liar.group[liar.track[begin]])
    _, honest = cloud.distances(vectors, np.full(len(begin), 9))
    assert (unlike > 0.3).all()
    assert (honest < -0.3).all()


def test_a_type_that_states_nothing_is_no_type_that_a_vessel_could_rather_be() -> None:
    points = {"all": ((0.0,),), "unknown": ((5.0,),), "other": ((5.0,),), "cargo": ((0.0,),), "tanker": ((9.0,),)}
    cloud = Cloud(centre=(0.0,), whiten=((1.0,),), points=points)
    group = np.array([SHIP_GROUPS.index(name) for name in ("cargo", "unknown", "tanker")])
    far, unlike = cloud.distances(np.full((3, 1), 5.0), group)
    np.testing.assert_allclose(far, np.log([5.0, 0.001, 4.0]), atol=1e-3)
    np.testing.assert_allclose(unlike, [np.log(5 / 4), np.nan, np.log(4 / 5)], atol=1e-3)


def test_tails_are_averaged_around_each_fix_within_its_track() -> None:
    fixes = Fixes.from_table(pl.concat([sail(1, fixes=40), sail(2, fixes=20)]))
    tails = np.zeros((60, len(KINDS)))
    tails[:, 3] = np.random.default_rng(0).uniform(0, 5, 60)
    seen, plain = fix_views(fixes, tails)
    own, near, wide, whole = (seen[:, part * len(KINDS) + 3] for part in range(4))
    np.testing.assert_allclose(own, tails[:, 3])
    for at, some in ((20, slice(16, 25)), (2, slice(0, 7)), (38, slice(34, 40)), (41, slice(40, 46))):
        assert near[at] == pytest.approx(tails[some, 3].mean())
    assert wide[20] == pytest.approx(tails[4:37, 3].mean())
    assert (whole[0], whole[50]) == (pytest.approx(tails[:40, 3].mean()), pytest.approx(tails[40:, 3].mean()))
    views, odds = track_views(fixes, seen, plain)
    np.testing.assert_allclose(views[:, :2], [[each.max(), each.mean()] for each in (plain[:40], plain[40:])])
    # Of forty fixes the largest is larger by chance than of twenty.
    np.testing.assert_allclose(odds, [plain[:40].max() - np.log(40), plain[40:].max() - np.log(20)])


def test_no_vessel_is_compared_with_what_was_fitted_to_it() -> None:
    """Without a vessel of a quarter all changes that rests on that quarter, and nothing that was learned before."""
    tracks = fleet(48, first=3000, spread=20.0)
    fixes = Fixes.from_table(tracks)
    part = _part(fixes)
    assert np.bincount(part, minlength=len(SHARES)).min() > 4

    def learned(table: pl.DataFrame) -> list[np.ndarray]:
        found = json.loads(learn(table, Hermite(), lengths=(1,)).calibration(["speed"]).to_json())
        stages = [[found["scales"], found["cloud"]], found["evidence"], found["fix_heads"], found["fixes"]]
        return [np.array(re.findall(r"-?[\d.]+(?:e-?\d+)?", json.dumps(each)), float) for each in stages]

    every = learned(tracks)
    for number in range(len(SHARES)):
        gone = fixes.vessel_id[part == number][0]
        some = learned(tracks.filter(pl.col("vessel_id") != gone))
        same = [
            one.shape == other.shape and np.allclose(one, other, atol=1e-4)
            for one, other in zip(some, every, strict=True)
        ]
        assert same == [True] * number + [False] * (len(SHARES) - number), number


def test_fixes_are_flagged_up_to_the_stated_rate_and_for_what_is_as_rare_as_that() -> None:
    fixes, tails = Fixes.from_table(sail(1, fixes=3)), np.full((3, len(KINDS)), np.nan)
    tails[:, KINDS.index("speed")], tails[:, KINDS.index("approach")] = [3.0, 0.3, 1.4], [1.2, 0.2, 1.5]
    evidence = {
        "speed": Evidence("speed", tails[:, 1], {"sog_kn": np.full(3, 3.0), "moved_kn": np.full(3, 12.0)}),
        "approach": Evidence(
            "approach",
            tails[:, 5],
            {"closest_km": np.full(3, 1.852), "wait_s": np.array([60.0, 0, 0]), "other": -fixes.row},
        ),
    }
    judged = Judged(evidence, tails, np.array([1.0, 0, 2]), np.array([0.05, 0.051, 0.01]), np.ones(1), np.full(1, 0.05))
    speed, near = "speed: reports 3.0 kn, moves 12.0 kn", "close approach: 1.00 nmi to a vessel now"
    # A share of 5 % is 1.3 decades.
    assert reasons(fixes, judged, np.array([0, 2]), 0.05) == [speed, f"{near}; {speed}"]
    told = track_table(fixes, judged, 0.05).row(0, named=True)
    assert (told["fixes"], told["flagged"], told["anomalous"], told["reason"]) == (3, 2, True, near)
    stricter = track_table(fixes, judged, 0.049).row(0, named=True)
    assert (stricter["flagged"], stricter["anomalous"], stricter["reason"]) == (1, False, None)


def test_kinds_of_evidence_are_all_given(calibration: Calibration) -> None:
    fixes = Fixes.from_table(pl.concat([sail(1), sail(2, place=(10.001, 55.001))]))
    judged = judge(fixes, ask(fixes, Hermite(), lengths=(1, 6)), calibration)
    assert set(judged.evidence) == set(KINDS)
    told = np.isfinite(judged.tails).any(0)
    assert dict(zip(KINDS, told.tolist(), strict=True))["approach"]
    assert dict(zip(KINDS, told.tolist(), strict=True))["behaviour"]
