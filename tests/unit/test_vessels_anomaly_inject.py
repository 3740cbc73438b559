from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from geodiff.schema import UsageError
from geodiff.sphere import KM_PER_NMI, distance_km, move, to_local_km, turn_deg
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import ANOMALOUS
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.inject import INJECTED, can_take, inject
from geodiff.vessels.inject_piece import Piece
from geodiff.vessels.scoring_evidence import report_evidence
from geodiff.vessels.scoring_fixes import Fixes
from geodiff.vessels.scoring_traffic import Traffic


@pytest.fixture(scope="module")
def clean() -> pl.DataFrame:
    region = (9.0, 55.0, 9.6, 55.4)
    fleet = make_fleet(3, 30, 6.0, behaviours=("transit", "ferry"), defects={}, region=region)
    return clean_fixes(fleet.fixes)


def leg_kn(table: pl.DataFrame) -> np.ndarray:
    lon, lat = table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy()
    step = np.diff(table["time"].dt.epoch("us").to_numpy()) / 1e6
    return distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:]) / KM_PER_NMI * 3600 / step


@pytest.mark.parametrize("kind", INJECTED)
def test_altered_tracks_are_labelled_plausible_and_agree_with_their_reports(clean: pl.DataFrame, kind: str) -> None:
    made = inject(clean, kind, share=0.5, seed=1)
    assert made.tracks.height >= 3
    altered = Fixes.from_table(made.fixes)  # times rise, places are on Earth
    before = {each.kind: each.value for each in report_evidence(Fixes.from_table(clean))}
    after = {each.kind: each.value for each in report_evidence(altered)}
    label = made.fixes[ANOMALOUS].to_numpy()[altered.row]
    assert 0 < label.sum() < len(label) or kind == "gap"
    if kind != "gap":
        # Speed and course are as near to the displacement as those of clean fixes.
        for evidence in ("speed", "course"):
            limit = np.nanquantile(before[evidence], 0.995)
            assert np.nanmean(after[evidence][label] > limit) < 0.12, evidence
    for _, table in made.fixes.group_by("track_id"):
        speeds = leg_kn(table.sort("time"))
        assert speeds.max() < 45


def test_what_is_not_labelled_is_the_original_in_place_and_order(clean: pl.DataFrame) -> None:
    for kind in INJECTED:
        made = inject(clean, kind, share=0.3, seed=2)
        for (name,), table in made.fixes.group_by("track_id"):
            original = clean.filter(pl.col("track_id") == name)
            kept = table.filter(~pl.col(ANOMALOUS) if kind != "gap" else pl.lit(True))
            known = original.filter(pl.col("row").is_in(kept["row"].implode())).select("row", "lon_deg", "lat_deg")
            both = kept.join(known, on="row", suffix="_was")
            off = distance_km(*(both[c].to_numpy() for c in ("lon_deg", "lat_deg", "lon_deg_was", "lat_deg_was")))
            assert np.quantile(off, 0.9) <= 0.05, kind


def test_a_track_is_altered_alike_whoever_else_is_there(clean: pl.DataFrame) -> None:
    one = inject(clean, "deviation", share=1.0, seed=4)
    name = one.tracks["track_id"][0]
    few = inject(clean.filter(pl.col("track_id") == name), "deviation", share=1.0, seed=4)
    assert few.fixes.equals(one.fixes.filter(pl.col("track_id") == name))
    assert one.fixes.equals(inject(clean, "deviation", share=1.0, seed=4).fixes)
    assert not one.fixes.equals(inject(clean, "deviation", share=1.0, seed=5).fixes)


def test_a_detour_leaves_the_route_and_returns_in_the_same_time(clean: pl.DataFrame) -> None:
    made = inject(clean, "deviation", share=1.0, seed=1)
    for name, detail in made.tracks.select("track_id", "detail").rows():
        table, was = (each.filter(pl.col("track_id") == name).sort("time") for each in (made.fixes, clean))
        assert table["time"].equals(was["time"])
        off = distance_km(*(t[c].to_numpy() for t in (table, was) for c in ("lon_deg", "lat_deg")))
        told = float(detail.split(", ")[1].split(" km")[0])
        assert off.max() == pytest.approx(told, abs=0.06 + 0.1 * told)
        assert off[0] == off[-1] == 0.0


def test_an_activity_delays_what_follows(clean: pl.DataFrame) -> None:
    made = inject(clean, "activity", share=1.0, seed=1)
    for name, detail in made.tracks.select("track_id", "detail").rows():
        table, was = (each.filter(pl.col("track_id") == name).sort("time") for each in (made.fixes, clean))
        minutes = float(detail.split(" for ")[1].split()[0])
        late = (table["time"][-1] - was["time"][-1]).total_seconds() / 60
        assert late == pytest.approx(minutes, abs=1)
        assert table["lon_deg"][-1] == was["lon_deg"][-1]
        assert table.height > was.height


@pytest.mark.parametrize("kind", ["activity", "speed"])
def test_new_fixes_come_as_irregularly_as_the_others(clean: pl.DataFrame, kind: str) -> None:
    # A steady rhythm would betray the injection by itself.
    made = inject(clean, kind, share=1.0, seed=1).fixes.sort("track_id", "time")
    wait = made.select(pl.col("time").diff().over("track_id").dt.total_seconds())["time"].fill_null(0).to_numpy()
    new = made[ANOMALOUS].to_numpy() & (wait > 0)
    old = ~made[ANOMALOUS].to_numpy() & (wait > 0) & (wait < 180)
    assert np.std(wait[new]) > 0.6 * np.std(wait[old])
    assert np.median(wait[new]) == pytest.approx(np.median(wait[old]), rel=0.15)


def test_fixes_a_microsecond_apart_do_not_fill_the_memory(clean: pl.DataFrame) -> None:
    twins = clean.filter(pl.col("state") == "observed").sort("track_id", "time")
    again = twins.group_by("track_id", maintain_order=True).first().select(clean.columns)
    twins = pl.concat([twins, again.with_columns(pl.col("time") + pl.duration(microseconds=1))])
    assert inject(twins, "activity", share=1.0, seed=1).tracks.height > 3


def test_a_steered_vessel_meets_another_where_it_did_not_before(clean: pl.DataFrame) -> None:
    made = inject(clean, "approach", share=1.0, seed=1)
    assert made.tracks.height >= 3
    traffic = Traffic.of(Fixes.from_table(clean))
    altered = Fixes.from_table(made.fixes)
    near = traffic.around(altered)
    label = made.fixes[ANOMALOUS].to_numpy()[altered.row]
    for track in range(altered.tracks):
        rows = (altered.track == track) & label
        lon, lat = altered.lon_deg[rows], altered.lat_deg[rows]
        assert np.isfinite(lon).all()
        assert np.nanmin(near.facts["closest_km"][rows]) < 0.4, (lon, lat)


def test_a_silence_is_told_by_the_fixes_on_both_sides(clean: pl.DataFrame) -> None:
    made = inject(clean, "gap", share=1.0, seed=1)
    for (_,), table in made.fixes.group_by("track_id"):
        table = table.sort("time")
        wait = table["time"].diff().dt.total_seconds().fill_null(0).to_numpy()
        worst = int(np.argmax(wait))
        assert np.flatnonzero(table[ANOMALOUS].to_numpy()).tolist() == [worst - 1, worst]
        assert wait[worst] >= 1700


def test_slow_short_and_moored_tracks_take_nothing(clean: pl.DataFrame) -> None:
    fleet = clean_fixes(make_fleet(1, 4, 2.0, behaviours=["moored"], defects={}).fixes)
    assert not len(can_take(Fixes.from_table(fleet)))
    made = inject(fleet, "speed", share=1.0, seed=0)
    assert made.fixes.height == made.tracks.height == 0
    assert ANOMALOUS in made.fixes.columns


def test_wrong_requests_are_refused(clean: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match="no anomaly is called 'spin'"):
        inject(clean, "spin", share=0.1, seed=0)
    with pytest.raises(UsageError, match="share of 2"):
        inject(clean, "gap", share=2, seed=0)


def test_a_circle_is_closed_and_keeps_to_its_radius() -> None:
    from geodiff.vessels.inject_paths import _circles

    for eight in (False, True):
        east, north = _circles(np.linspace(0, 2, 81), 0.3, 1.0, eight=eight)
        assert np.hypot(east[[0, 40, 80]], north[[0, 40, 80]]).max() < 1e-9
        assert np.hypot(east, north).max() == pytest.approx(2.0, abs=1e-6)
        # It begins along the course.
        assert abs(turn_deg(np.degrees(0.3), np.degrees(np.arctan2(east[1], north[1])))) < 6
    assert to_local_km(*move(0.0, 60.0, 0.0, 1.0), 0.0, 60.0)[1] == pytest.approx(1.0)


def test_reported_speeds_do_not_cut_the_corners_of_a_path() -> None:
    time, radius, knots = 60.0 * np.arange(40), 0.5, 6.0
    angle = knots * KM_PER_NMI / 3600 * time / radius
    fixes = np.zeros(40), np.full(40, 50.0), np.full(40, knots), np.zeros(40), np.arange(40), np.zeros(40, bool)
    circle = Piece(time, radius * np.sin(angle), radius * np.cos(angle), *fixes, (0.0, 50.0))
    speed, course = circle.velocity()
    assert np.abs(speed[3:-3] - knots).max() < 0.03  # 0.14 by differences
    assert np.abs(turn_deg(np.degrees(angle) + 90, course))[3:-3].max() < 1.0
