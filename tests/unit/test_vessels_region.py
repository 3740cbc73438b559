"""Vessels that leave the region of a run and come back, and tracks that bear names of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import geopandas as gpd
import numpy as np
import polars as pl
import pytest

import geodiff
from geodiff.sphere import move
from geodiff.tasks.vessels_gaps import Sent, heard_elsewhere
from geodiff.tasks.vessels_region import cut_where_away
from geodiff.tasks.vessels_score import whole_tracks
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.reading import FIX_SCHEMA
from geodiff.vessels.scoring_evidence import GAP, SPEED, report_evidence
from geodiff.vessels.scoring_fixes import ELSEWHERE, Fixes

START = datetime(2021, 5, 1, tzinfo=UTC)


def loop(vessel: int) -> pl.DataFrame:
    """Fixes of half an hour under way, and again from minute 59 on: from where it had been, back the way it came."""
    minutes = np.r_[0:30, 59:89]
    out = np.r_[0:30, 30:0:-1]
    lon, lat = move(-30.0, 40.0, 60.0, 12 * 1.852 * out / 60)
    table = {
        "vessel_id": [vessel] * 60,
        "time": [START + timedelta(minutes=int(m)) for m in minutes],
        "lon_deg": lon,
        "lat_deg": lat,
        "sog_kn": [12.0] * 60,
        "cog_deg": [60.0] * 30 + [240.0] * 30,
        "row": np.arange(1, 61),
        "source": ["made"] * 60,
    }
    lost = [pl.lit(None, kind).alias(name) for name, kind in FIX_SCHEMA.items() if name not in table]
    return pl.DataFrame(table).with_columns(lost).select(pl.col(name).cast(kind) for name, kind in FIX_SCHEMA.items())


def heard(vessel: int, minute: int, reach_km: float = 20.0) -> pl.DataFrame:
    """What was heard of a vessel outside the region, so far from where it had started."""
    lon, lat = move(-30.0, 40.0, 60.0, np.array([reach_km]))
    ours = {"vessel_id": [vessel], "time": [START + timedelta(minutes=minute)], "lon_deg": lon, "lat_deg": lat}
    return pl.DataFrame(ours).cast({"time": pl.Datetime("us", "UTC")})


def test_a_vessel_heard_elsewhere_was_neither_silent_nor_did_it_stand_still() -> None:
    cleaned = clean_fixes(pl.concat([loop(219_000_001), loop(219_000_002)]))
    assert cleaned["track_id"].n_unique() == 2
    cut = cut_where_away(cleaned, heard(219_000_001, 45))
    assert sorted(cut["track_id"].unique()) == [
        "219000001/20210501T000000",
        "219000001/20210501T000000~1",
        "219000002/20210501T000000",
    ]
    assert cut.filter(ELSEWHERE).select("vessel_id", "time").rows() == [(219_000_001, START + timedelta(minutes=59))]
    assert cut.drop("track_id", ELSEWHERE).equals(cleaned.drop("track_id"))
    fixes = Fixes.from_table(cut)
    said = {each.kind: each for each in report_evidence(fixes)}
    first = fixes.vessel_id[fixes.track] == 219_000_001
    silent = said[GAP].facts["silent_s"]
    assert (np.nanmax(silent[first]), np.nanmax(silent[~first])) == (60.0, 30 * 60.0)
    assert np.nanmax(said[SPEED].value[first]) < np.nanmax(said[SPEED].value[~first]) - 2


def test_other_vessels_and_other_times_change_nothing() -> None:
    cleaned = clean_fixes(loop(219_000_001))
    away = pl.concat([heard(219_000_003, 45), heard(219_000_001, 95)])
    cut = cut_where_away(cleaned, away)
    assert cut.drop(ELSEWHERE).equals(cleaned)
    assert not cut[ELSEWHERE].any()


def test_the_strangest_piece_speaks_for_a_track_and_counts_as_often_as_there_are_pieces() -> None:
    at = pl.Series([START, START + timedelta(hours=1), START]).cast(pl.Datetime("us", "UTC"))
    pieces = pl.DataFrame(
        {
            "track_id": ["1/20210501T000000~1", "1/20210501T000000", "2/20210501T000000"],
            "vessel_id": [1, 1, 2],
            "ship_type": [70, 60, 30],
            "ship_group": ["cargo", "passenger", "fishing"],
            "start": at,
            "end": at + timedelta(minutes=10),
            "fixes": [10, 30, 20],
            "moored_share": [1.0, 0.0, 0.5],
            "flagged": [2, 1, 3],
            "score": [1.0, 2.0, 3.0],
            "p_value": [0.5, 0.03, 0.04],
            "anomalous": [False, True, True],
            "reason": [None, "gap: silent", "speed: fast"],
        }
    )
    one, other = whole_tracks(pieces, 0.05).sort("track_id").rows(named=True)
    assert (one["track_id"], one["fixes"], one["flagged"], one["moored_share"]) == ("1/20210501T000000", 40, 3, 0.25)
    assert (one["p_value"], one["anomalous"], one["reason"]) == (0.06, False, None)
    assert (one["ship_type"], one["ship_group"], one["score"]) == (60, "passenger", 2.0)
    assert (one["start"], one["end"]) == (START, START + timedelta(minutes=70))
    assert (other["p_value"], other["anomalous"], other["reason"]) == (0.04, True, "speed: fast")
    # A chance of more than one is none.
    assert whole_tracks(pieces.with_columns(p_value=0.7), 0.05).sort("track_id")["p_value"].to_list() == [1.0, 0.7]


@pytest.mark.filterwarnings("error")
def test_who_was_heard_elsewhere_is_told_without_a_warning() -> None:
    sent = Sent.of(clean_fixes(pl.concat([loop(219_000_001), loop(219_000_002)])))
    away = pl.concat([heard(219_000_002, 45), heard(219_000_001, 25, 12.0), heard(219_000_001, 95)])
    before = np.array([60 + 29, 20, 29])
    found = heard_elsewhere(sent, before, sent.time_s[before] + 1200, away)
    assert found.tolist() == [True, True, False]


def test_who_cannot_have_come_there_so_soon_is_another_one_or_a_false_position() -> None:
    """From where it was last heard, at 60 kn."""
    sent = Sent.of(clean_fixes(loop(219_000_001)))
    before, end = np.array([29]), np.array([np.inf])
    for minute, reach_km, there in ((31, 400.0, False), (45, 400.0, False), (31, 12.0, True), (290, 400.0, True)):
        found = heard_elsewhere(sent, before, end, heard(219_000_001, minute, reach_km))
        assert found.tolist() == [there], (minute, reach_km)
    both = pl.concat([heard(219_000_001, 30, 400.0), heard(219_000_001, 290, 400.0)])
    assert not heard_elsewhere(sent, before, end, both).any()


def test_what_was_heard_elsewhere_at_the_very_time_of_a_fix_came_not_after_it() -> None:
    """As of a fix that two stations heard, one of them with a false position."""
    sent = Sent.of(clean_fixes(loop(219_000_001)))
    before, end = np.array([29]), np.array([np.inf])
    assert not heard_elsewhere(sent, before, end, heard(219_000_001, 29, 10.75)).any()
    both = pl.concat([heard(219_000_001, 29, 400.0), heard(219_000_001, 45, 12.0)])
    assert heard_elsewhere(sent, before, end, both).all()


@pytest.mark.parametrize("names", [("T1", "T2"), ("out", "home"), ("1/out", "2/20210501T000000b")])
def test_tracks_of_one_vessel_are_one_vessel_whatever_their_names(names: tuple[str, str]) -> None:
    """Only the letters that cleaning gives tell vessels of a shared identity apart."""
    fixes = loop(219_000_001)
    track = pl.Series(np.repeat(names, 30))
    table = fixes.with_columns(track.alias("track_id"), pl.lit("observed").alias("state"))
    points = gpd.points_from_xy(table["lon_deg"], table["lat_deg"])
    tracks = gpd.GeoDataFrame(table.drop("lon_deg", "lat_deg").to_pandas(), geometry=points, crs=4326)
    shared = names[1].endswith("b")
    assert len(Sent.of(table.with_columns(reason=pl.lit(None, pl.String))).vessel_id) == 1 + shared
    ahead = geodiff.forecast(tracks, model="dead_reckoning", hours=1)
    assert (ahead["state"] == "forecast").sum() == 12 * (1 + shared)
    filled = geodiff.impute(tracks, model="hermite")
    assert ((filled["state"] == "imputed").sum() > 0) != shared
    gap = {each.kind: each for each in report_evidence(Fixes.from_table(table))}[GAP]
    assert np.nanmax(gap.facts["silent_s"]) == (60.0 if shared else 1800.0)
