"""Cases: nothing hidden is shown, lengths are kept, moored vessels stand apart, choices depend on a vessel alone."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from geodiff.schema import UsageError
from geodiff.sphere import move
from geodiff.vessels.cases import MOST_ASKED, SLACK, Tracks, forecast_cases, impute_cases
from geodiff.vessels.spans import Span, parse_spans, usual_spans

START = datetime(2024, 5, 1, tzinfo=UTC).timestamp()


def fleet(vessels=12, fixes=200, step_s=60.0, still=3, seed=0):
    """Vessels that go straight at 10 kn, the first ``still`` at anchor with GNSS noise; times are irregular."""
    rng = np.random.default_rng(seed)
    rows = []
    for vessel in range(1, vessels + 1):
        own = np.random.default_rng(vessel)
        time = START + vessel * 1000 + np.cumsum(step_s * own.uniform(0.7, 1.3, fixes))
        reach = np.zeros(fixes) if vessel <= still else (time - time[0]) * 10 * 1.852 / 3600
        lon, lat = move(10.0, 50.0, 30.0 * vessel, reach)
        rows.append(
            pl.DataFrame(
                {
                    "vessel_id": np.full(fixes, vessel),
                    "time": pl.from_epoch(pl.Series(time * 1e6).cast(pl.Int64), "us").dt.replace_time_zone("UTC"),
                    "lon_deg": lon + own.normal(0, 5e-5, fixes),
                    "lat_deg": lat + own.normal(0, 5e-5, fixes),
                    "sog_kn": np.where(reach > 0, 10.0, np.nan).astype(np.float32),
                    "cog_deg": np.full(fixes, 30.0 * vessel, np.float32) % 360,
                    "track_id": [f"{vessel}/a"] * (fixes // 2) + [f"{vessel}/b"] * (fixes - fixes // 2),
                    "state": ["observed"] * fixes,
                }
            )
        )
    table = pl.concat(rows)
    return table[rng.permutation(len(table))]


def truth_of(table, case):
    track = table.filter(pl.col("track_id") == case.track).sort("time")
    return dict(zip(track["time"].dt.epoch("us").to_numpy() / 1e6, track["lat_deg"].to_list(), strict=True))


@pytest.mark.parametrize("gap", [Span(points=3), Span(seconds=600), Span(seconds=1800)])
@pytest.mark.parametrize("draw", ["fixes", "vessels"])
def test_nothing_within_a_gap_is_known_and_all_that_is_asked_is_true(gap, draw):
    table = fleet()
    cases = list(impute_cases(Tracks.of(table), gap, most=60, draw=draw))
    assert len(cases) > 60
    assert len({case.key for case in cases}) == len(cases)
    for case in cases:
        known, asked, truth = case.query.time_s, case.query.ask_s, truth_of(table, case)
        before, after = known[known < asked[0]], known[known > asked[-1]]
        assert len(before) >= 2
        assert len(after) >= 2
        assert len(before) + len(after) == len(known)
        assert (np.diff(known) > 0).all()
        assert [truth[t] for t in asked] == case.truth_lat_deg.tolist()
        hidden = [t for t in truth if before[-1] < t < after[0]]
        assert len(asked) == min(len(hidden), MOST_ASKED)
        assert set(case.label) == {str(gap)}
        if gap.points:
            assert len(hidden) == gap.points
        else:
            assert gap.seconds <= after[0] - before[-1] <= 1.25 * gap.seconds
        assert case.moving == (case.query.vessel_id > 3)


def test_a_silence_much_longer_than_the_gap_that_is_asked_for_is_no_case():
    """Of each vessel half an hour is missing: a gap of ten minutes that runs into it would be one of forty."""
    table = fleet()
    minutes = (pl.col("time") - pl.col("time").min().over("track_id")).dt.total_minutes()
    cases = list(impute_cases(Tracks.of(table.filter(~minutes.is_between(40, 70))), Span(seconds=600), most=2000))
    assert len(cases) > 60
    known = [(case.query.time_s, case.query.ask_s) for case in cases]
    spans = [time[time > asked[-1]][0] - time[time < asked[0]][-1] for time, asked in known]
    assert min(spans) >= 600
    assert max(spans) <= SLACK * 600


@pytest.mark.parametrize("horizons", ["1,2,5 points", "10min,30min,3h"])
def test_a_forecast_knows_nothing_after_its_last_fix(horizons):
    table, spans = fleet(), parse_spans(horizons, where="--horizons")
    cases = list(forecast_cases(Tracks.of(table), spans, most=50))
    assert len(cases) >= 50
    for case in cases:
        truth, last = truth_of(table, case), case.query.time_s[-1]
        assert (case.query.ask_s > last).all()
        assert (np.diff(case.query.ask_s) > 0).all()
        for time, label, lat in zip(case.query.ask_s, case.label, case.truth_lat_deg, strict=True):
            assert truth[time] == lat
            span = next(each for each in spans if str(each) == label)
            later = sorted(t for t in truth if t > last)
            if span.points:
                assert later[span.points - 1] == time
            else:
                assert abs(time - last - span.seconds) == min(abs(t - last - span.seconds) for t in later)
    # A track lasts 100 minutes: three hours are out of reach, and what is reached is asked all the same.
    assert "3 h" not in {label for case in cases for label in case.label}


def test_the_choice_of_a_vessel_depends_on_that_vessel_alone():
    table = fleet()
    some = {5, 9, 11}
    all_cases = impute_cases(Tracks.of(table), Span(points=3), most=10_000)
    few = list(
        impute_cases(Tracks.of(table.filter(pl.col("vessel_id").is_in(list(some)))), Span(points=3), most=10_000)
    )
    assert {case.key for case in all_cases if case.query.vessel_id in some} == {case.key for case in few}
    few_first = [case.key for case in few if case.query.vessel_id == 9]
    ninth = table.filter(pl.col("vessel_id") == 9)
    assert [c.key for c in impute_cases(Tracks.of(ninth), Span(points=3), most=5)] == few_first[:5]
    other = [c.key for c in impute_cases(Tracks.of(ninth), Span(points=3), most=5, seed=1)]
    assert other != few_first[:5]


def test_of_vessels_at_rest_a_quarter_as_many_are_asked_at_all_horizons_together():
    horizons = [Span(seconds=60.0 * minutes) for minutes in (5, 10, 20, 40)]
    harbour = Tracks.of(fleet(still=12))
    found = list(forecast_cases(harbour, horizons, most=40))
    assert [case.moving for case in found] == [False] * 10
    mixed = list(forecast_cases(Tracks.of(fleet()), horizons, most=40))
    assert sorted(case.moving for case in mixed) == [False] * 10 + [True] * 40


def test_vessels_take_turns_when_asked_to():
    table = pl.concat([fleet(vessels=6, still=0), fleet(vessels=1, still=0, fixes=3000)])
    cases = list(impute_cases(Tracks.of(table), Span(points=3), most=12, draw="vessels"))
    counts = np.unique([case.query.vessel_id for case in cases], return_counts=True)[1]
    assert counts.tolist() == [2] * 6


def test_rejected_fixes_and_repeated_times_are_never_asked():
    table = fleet(vessels=4, still=0)
    bad = table.with_columns(
        state=pl.lit("rejected"), lat_deg=pl.col("lat_deg") + 5, time=pl.col("time").dt.offset_by("1s")
    )
    twice = table.with_columns(lat_deg=pl.col("lat_deg") + 9)
    tracks = Tracks.of(pl.concat([table, bad, twice]))
    assert len(tracks) == len(table)
    assert tracks.lat_deg.max() < 55


def test_a_table_without_tracks_gives_no_case():
    empty = Tracks.of(fleet().clear())
    assert list(impute_cases(empty, Span(seconds=600), most=5)) == []
    assert list(forecast_cases(empty, [Span(seconds=600)], most=5)) == []
    assert np.isnan(empty.interval_s)


def test_spans_are_read_as_people_write_them():
    assert parse_spans("3,6,12 points", where="") == (Span(points=3), Span(points=6), Span(points=12))
    assert parse_spans("12, 3", where="") == (Span(points=3), Span(points=12))
    assert parse_spans("10min,30,1h,10 min", where="") == parse_spans("600s,30min,1h", where="")
    assert [str(s) for s in parse_spans("90s,10min,1.5h", where="")] == ["1.5 min", "10 min", "1.5 h"]
    assert usual_spans(3900, task="forecast")[-1] == Span(points=12)
    assert usual_spans(90, task="impute")[0] == Span(seconds=600)


@pytest.mark.parametrize("text", ["", "soon", "-3", "1.5 points", "3 points,10min", "0", "9d", "5 parsec"])
def test_other_spans_are_refused_by_name(text):
    with pytest.raises(UsageError, match="--gaps"):
        parse_spans(text, where="--gaps")
