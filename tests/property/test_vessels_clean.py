"""Cleaning over simulated fleets: nothing lost, no order, no neighbours, nothing left to do; and what it finds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geodiff.schema import UsageError
from geodiff.sphere import distance_km
from geodiff.testing.tracks import Fleet, make_fleet, table_of_fixes
from geodiff.testing.tracks_defects import DEFECTS, STATIONS
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.clean_rows import in_order
from geodiff.vessels.clean_rules import REASONS, CleanRules
from geodiff.vessels.reading import FIX_SCHEMA

ROUGH = {**DEFECTS, "shared identity": 0.4, "clock jump": 0.8, "base station": 0.2, "impossible identity": 0.2}


def _kept(cleaned: pl.DataFrame) -> pl.DataFrame:
    return cleaned.filter(pl.col("state") == "observed")


def _judged(fleet: Fleet) -> pl.DataFrame:
    truth = fleet.truth.select("row", "vessel", "behaviour", "defect", "sog_kn", true_lon="lon_deg", true_lat="lat_deg")
    return clean_fixes(fleet.fixes).join(truth.rename({"sog_kn": "true_kn"}), on="row")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), vessels=st.integers(1, 6), shuffle=st.integers(0, 99))
@example(seed=1154, vessels=5, shuffle=0)  # a lone fix beside the end of its vessel
def test_invariants(seed: int, vessels: int, shuffle: int) -> None:
    fixes = make_fleet(seed, vessels, 5.0, defects=ROUGH).fixes
    cleaned = clean_fixes(fixes)
    # Every row stays, once, with its values; sorted.
    assert cleaned.columns == [*FIX_SCHEMA, "track_id", "state", "reason"]
    assert cleaned.select(FIX_SCHEMA.names()).sort("row").equals(fixes.sort("row"))
    assert cleaned.select("vessel_id", "time").equals(cleaned.select("vessel_id", "time").sort("vessel_id", "time"))
    observed = pl.col("state") == "observed"
    assert (
        cleaned.select((observed == pl.col("reason").is_null()) & (observed == pl.col("track_id").is_not_null()))
        .to_series()
        .all()
    )
    assert set(cleaned["reason"].drop_nulls()) <= set(REASONS)
    # Neither the order of the rows nor the partition matters.
    assert clean_fixes(fixes.sample(fraction=1.0, shuffle=True, seed=shuffle)).equals(cleaned)
    parts = [clean_fixes(part) for _, part in sorted(fixes.group_by("vessel_id"))]
    assert pl.concat(parts).equals(cleaned)
    # What was kept is kept again, in the same tracks.
    kept = _kept(cleaned)
    assert clean_fixes(kept.select(FIX_SCHEMA.names())).equals(kept)
    # Within a track times rise strictly, with no silence longer than the rule.
    waits = kept.select(wait=pl.col("time").diff().over("track_id")).to_series().drop_nulls().dt.total_microseconds()
    assert len(waits) == 0 or (waits.min() > 0 and waits.max() <= 3600e6)


@pytest.fixture(scope="module")
def judged() -> pl.DataFrame:
    rates = {**DEFECTS, **STATIONS, "shared identity": 0.2}
    fleets = [_judged(make_fleet(seed, 27, 12.0, defects=rates)) for seed in range(3)]
    return pl.concat([fleet.with_columns(fleet=pl.lit(number)) for number, fleet in enumerate(fleets)])


def test_defects_are_found(judged: pl.DataFrame) -> None:
    found = judged.group_by("defect").agg(share=(pl.col("state") == "rejected").mean())
    share = dict(found.iter_rows())
    stations = ("base station", "aid to navigation", "impossible identity", "duplicate")
    assert [share[name] for name in stations if name in share] == [1.0] * len([n for n in stations if n in share])
    assert share["conflict"] >= 0.95
    assert share["jump"] >= 0.93
    assert share["excursion"] >= 0.85
    assert share["late"] == share["not available"] == share["shared identity"] == 0.0


def test_clock_jumps_of_moving_vessels_are_found(judged: pl.DataFrame) -> None:
    moving = judged.filter((pl.col("defect") == "clock jump") & (pl.col("true_kn") > 3.0))
    assert moving.height > 50
    assert (moving["state"] == "rejected").mean() >= 0.8


def test_reasons_are_right(judged: pl.DataFrame) -> None:
    meant = {"duplicate": "duplicate", "conflict": "conflict", "jump": "position jump", "excursion": "position jump"}
    wrong = judged.filter((pl.col("state") == "rejected") & pl.col("defect").is_in(list(meant)))
    told = wrong["reason"] == wrong["defect"].replace_strict(meant)
    assert told.mean() >= 0.97


def test_sound_fixes_are_kept(judged: pl.DataFrame) -> None:
    sound = judged.filter(
        pl.col("defect").is_null() | pl.col("defect").is_in(["late", "not available", "shared identity"])
    )
    assert (sound["state"] == "rejected").mean() < 0.001


def test_tracks_are_pure_and_whole(judged: pl.DataFrame) -> None:
    sound = _kept(judged).filter(pl.col("defect").is_null() | (pl.col("defect") == "shared identity"))
    assert sound.group_by("fleet", "track_id").agg(pl.col("vessel").n_unique())["vessel"].max() == 1
    # A vessel is in more than one track only where it was silent for long; or where its clock jumped, now and then.
    one = ["fleet", "vessel_id", "vessel"]
    silences = sound.sort("time").with_columns(wait=pl.col("time").diff().over(one).dt.total_seconds())
    vessels = silences.group_by(one).agg(pl.col("track_id").n_unique(), (pl.col("wait") > 3600).sum())
    assert vessels.height > 81
    assert ((vessels["track_id"] - 1 - vessels["wait"].cast(pl.Int64)) > 0).mean() < 0.08


@pytest.mark.parametrize("decimals", [4, 5])
@pytest.mark.parametrize("interval_s", [2.0, 10.0, 60.0, 360.0])
def test_a_sound_fleet_stays_as_it_is(interval_s: float, decimals: int) -> None:
    fixes = make_fleet(5, 18, 40 * interval_s / 600, interval_s=interval_s, defects={}, decimals=decimals).fixes
    cleaned = clean_fixes(fixes, CleanRules(gap_s=6 * 3600.0))
    assert (cleaned["state"] == "observed").all()
    assert cleaned["track_id"].n_unique() == cleaned["vessel_id"].n_unique()


@pytest.mark.parametrize("vessels", [17, 40])
def test_a_crowd_under_one_identity_comes_apart(vessels: int) -> None:
    fleet = make_fleet(5, vessels, 3.0, defects={})
    whose = fleet.fixes.join(fleet.truth.select("row", "vessel"), on="row")
    # Each in a band of latitude of its own.
    apart = pl.col("lat_deg") - pl.col("lat_deg").mean().over("vessel") - 60.0 + 3.0 * pl.col("vessel")
    together = whose.with_columns(apart.alias("lat_deg"), vessel_id=pl.lit(211_000_123, pl.Int64))
    cleaned = clean_fixes(together.select(FIX_SCHEMA.names())).join(whose.select("row", "vessel"), on="row")
    tracks = _kept(cleaned).group_by("track_id").agg(pl.col("vessel").n_unique())
    assert tracks["vessel"].max() == 1
    assert _kept(cleaned).height >= 0.98 * together.height


@pytest.mark.parametrize("region", [(179.5, -5.0, -179.5, 5.0), (-40.0, 84.0, 60.0, 87.0)])
def test_neither_the_antimeridian_nor_the_far_north_is_special(region: tuple[float, float, float, float]) -> None:
    cleaned = clean_fixes(make_fleet(6, 12, 6.0, defects={}, region=region).fixes)
    assert (cleaned["state"] == "observed").all()
    assert cleaned["track_id"].n_unique() == 12


def test_a_larger_fleet_holds_the_smaller_one() -> None:
    small, large = (clean_fixes(make_fleet(8, count, 4.0).fixes).drop("row") for count in (4, 9))
    both = large.join(small.select("vessel_id").unique(), on="vessel_id", how="semi")
    assert both.equals(small)


def test_truth_of_the_fleet_is_where_the_paths_are() -> None:
    fleet = make_fleet(9, 6, 3.0)
    for (vessel,), rows in fleet.truth.filter(pl.col("vessel") >= 0).group_by("vessel"):
        lon, lat = fleet.paths[vessel].at(rows["time"].to_physical().to_numpy() * 1e-6)
        assert distance_km(lon, lat, rows["lon_deg"].to_numpy(), rows["lat_deg"].to_numpy()).max() < 1e-6
    sound = fleet.truth["defect"].is_null()
    off = distance_km(
        *(
            table.filter(sound)[name].to_numpy()
            for table in (fleet.fixes, fleet.truth)
            for name in ("lon_deg", "lat_deg")
        )
    )
    assert np.quantile(off, 0.99) < 0.03


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_table_at_all(data: st.DataObject) -> None:
    """Points at random, nulls and nonsense: no crash, the same whatever the order, and clean once cleaned."""
    count = data.draw(st.integers(0, 40))
    numbers = {
        "vessel_id": st.sampled_from([None, 0, 5, 219_000_001, 219_000_002, 111_219_501, 2_190_001]),
        "time": st.one_of(st.none(), st.integers(0, 40).map(lambda k: k * 60_000_000), st.integers(0, 4 * 10**9)),
        "lon_deg": st.one_of(st.sampled_from([None, float("nan"), 180.0, -180.0, 181.0, 1e9]), st.floats(-2, 2)),
        "lat_deg": st.one_of(st.sampled_from([None, 90.0, -90.0, 91.0, float("inf")]), st.floats(-2, 2)),
        "sog_kn": st.one_of(st.none(), st.floats(0, 102, width=32)),
        "cog_deg": st.one_of(st.none(), st.floats(0, 359, width=32)),
        "ship_type": st.sampled_from([None, 30, 49, 52, 70, 99]),
        "source": st.sampled_from([None, "a", "nmea:4", "nmea:9"]),
    }
    columns = {name: data.draw(st.lists(values, min_size=count, max_size=count)) for name, values in numbers.items()}
    table = {name: columns.get(name, [None] * count) for name in FIX_SCHEMA} | {"row": list(range(count))}
    fixes = pl.DataFrame(
        {name: pl.Series(name, table[name], strict=False).cast(kind) for name, kind in FIX_SCHEMA.items()}
    )
    cleaned = clean_fixes(fixes)
    assert cleaned.height == count
    assert clean_fixes(fixes.reverse()).equals(cleaned)
    kept = _kept(cleaned)
    assert clean_fixes(kept.select(FIX_SCHEMA.names())).equals(kept)


@pytest.mark.parametrize(("every_s", "knots"), [(2.0, 100.0), (6.0, 120.0), (10.0, 90.0), (15.0, 75.0), (60.0, 120.0)])
@pytest.mark.parametrize("told", [True, False])
def test_no_vessel_runs_at_any_speed_because_it_reports_often(every_s: float, knots: float, told: bool) -> None:
    """A cargo ship of 14 kn is drawn off its way for a quarter of an hour, and back: each step within some 300 m."""
    seconds = np.arange(0.0, 4200.0, every_s)
    sailed = 14.0 * np.select([seconds < 1200, seconds < 3000], [seconds, 1200.0], seconds - 1800.0)
    drawn = knots * np.clip(np.minimum(seconds - 1200.0, 3000.0 - seconds), 0.0, None)
    lon = 3.0 + (sailed + drawn) / 3600 / 60
    told_kn = 14.0 if told else None
    values = {"vessel_id": 244_000_001, "lat_deg": 0.0, "sog_kn": told_kn, "cog_deg": 90.0, "ship_type": 70}
    table = {name: [values.get(name)] * len(seconds) for name in FIX_SCHEMA}
    table |= {"time": (seconds * 1e6).astype(int).tolist(), "lon_deg": lon.tolist(), "row": list(range(len(seconds)))}
    cleaned = clean_fixes(
        pl.DataFrame({n: pl.Series(n, table[n], strict=False).cast(k) for n, k in FIX_SCHEMA.items()})
    )
    kept = (cleaned["state"] == "observed").to_numpy()
    off = (seconds > 1200) & (seconds < 3000)
    assert kept[off].sum() <= max(0.12 * off.sum(), 1)
    assert kept[~off].all()


@settings(max_examples=60, deadline=None)
@given(
    start=st.sampled_from([0, -1_000_000, 1_577_836_800_000_000, -(2**62)]),
    step=st.sampled_from([1_000_000, 1, 2_500, 60_000_000, 2**52]),
    ids=st.sampled_from(
        [[1, 2, 3], [None, 5], [219_000_001, 991_234_567], [2**62, -(2**62)], [-(2**63) + 1, 2**63 - 1]]
    ),
    told=st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 900))), min_size=1, max_size=40),
)
def test_rows_are_sorted_whatever_identities_and_times_span(
    start: int, step: int, ids: list[int | None], told: list[tuple[int, int | None]]
) -> None:
    table = {name: [None] * len(told) for name in FIX_SCHEMA} | {"row": list(range(len(told)))}
    table["vessel_id"] = [ids[who % len(ids)] for who, _ in told]
    table["time"] = [None if when is None else start + when * step for _, when in told]
    fixes = pl.DataFrame(
        {name: pl.Series(name, table[name], strict=False).cast(kind) for name, kind in FIX_SCHEMA.items()}
    )
    assert in_order(fixes)["row"].to_list() == fixes.sort("vessel_id", "time", "row")["row"].to_list()


def test_what_cannot_be_cleaned_is_refused() -> None:
    fixes = make_fleet(0, 1, 1.0).fixes
    with pytest.raises(UsageError, match="no column time"):
        clean_fixes(fixes.drop("time"))
    with pytest.raises(UsageError, match="sog_kn is String"):
        clean_fixes(fixes.with_columns(pl.col("sog_kn").cast(pl.String)))
    with pytest.raises(UsageError, match="drop them"):
        clean_fixes(clean_fixes(fixes))
    with pytest.raises(UsageError, match="gap_s"):
        CleanRules(gap_s=0.0)


def _states(fixes: pl.DataFrame) -> dict[str, int]:
    return dict(clean_fixes(fixes).group_by("state").len().iter_rows())


@pytest.mark.parametrize(("silence_s", "tracks"), [(3600.0, 1), (3601.0, 2)])
def test_only_a_silence_longer_than_the_rule_ends_a_track(silence_s: float, tracks: int) -> None:
    assert clean_fixes(table_of_fixes([0.0, silence_s], [0.0, 0.1], 0.0))["track_id"].n_unique() == tracks


@pytest.mark.parametrize(
    ("steps_s", "silence_s", "tracks"),
    [
        ([60, 7200, 7200] * 10, 10_800, 1),  # now and then by the minute, but two hours are usual
        ([60, 7200, 7200] * 10, 21_601, 2),
        ([7200, 7200], 10_600, 4),  # two steps do not tell what is usual
        ([36_000] * 14, 86_400, 1),
        ([36_000] * 14, 90_000, 2),  # more than a day is a silence of anybody
    ],
)
def test_a_silence_is_measured_by_what_is_usual_for_the_vessel(steps_s: list[int], silence_s: int, tracks: int) -> None:
    seconds = np.cumsum([0, *steps_s, silence_s]).astype(float).tolist()
    moored = table_of_fixes(seconds, [0.0] * len(seconds), 0.0, sog_kn=0.1, cog_deg=0.0)
    assert clean_fixes(moored, CleanRules(silent_steps=3))["track_id"].n_unique() == tracks


def test_that_one_fix_reports_a_speed_does_not_make_the_vessel_so_fast() -> None:
    """Some 54 knots on the way between two fixes of a cargo ship of which one says 70 and the other 3."""
    lon = [0.0, 0.01, 0.16, 0.17, 0.18]
    one, both = ([3.0, 70.0, last, 3.0, 3.0] for last in (3.0, 70.0))
    seconds = [0.0, 601.0, 1203.0, 1805.0, 2407.0]
    assert _states(table_of_fixes(seconds, lon, 0.0, sog_kn=one, cog_deg=90.0)) == {"rejected": 2, "observed": 3}
    assert _states(table_of_fixes(seconds, lon, 0.0, sog_kn=both, cog_deg=90.0)) == {"observed": 5}


def test_times_that_are_all_whole_minutes_may_be_off_by_a_minute() -> None:
    """Every 45 s at 38 knots, of a source that cuts off the seconds: ten times two fixes of one minute."""
    sent = 45.0 * np.arange(40)
    lon = (sent * 38.0 * 1.852 / 3600 / 111.195).tolist()
    assert _states(table_of_fixes(np.floor(sent / 60) * 60, lon, 0.0)) == {"observed": 30, "rejected": 10}


@pytest.mark.parametrize("types", [[None] * 10 + [70] * 10, [None] * 20])
def test_a_vessel_may_be_as_fast_as_any_of_its_rows_allows(types: list[int | None]) -> None:
    """50 knots: too fast for a cargo ship, but not for a vessel of which nothing is known."""
    seconds = [301.0 * k for k in range(20)]
    lon = [50 * 1.852 / 3600 / 111.195 * each for each in seconds]
    assert _states(table_of_fixes(seconds, lon, 0.0, ship_type=types)) == {"observed": 20}


def test_a_false_first_position_does_not_make_the_true_track_false() -> None:
    lon = [5.0] + [0.002 * k for k in range(1, 9)]
    cleaned = clean_fixes(table_of_fixes([61.0 * k for k in range(9)], lon, 0.0, sog_kn=7.0, cog_deg=90.0))
    assert cleaned["state"].to_list() == ["rejected"] + ["observed"] * 8


def test_ten_minutes_elsewhere_are_no_vessel_of_their_own() -> None:
    """Twenty fixes 220 km away that fit together, while the vessel itself is not heard."""
    seconds = (
        [61.0 * k for k in range(40)] + [2440 + 30.0 * k for k in range(20)] + [3040 + 61.0 * k for k in range(40)]
    )
    lon = [0.002 * k for k in range(40)] + [2 + 0.001 * k for k in range(20)] + [0.1 + 0.002 * k for k in range(40)]
    cleaned = clean_fixes(table_of_fixes(seconds, lon, 0.0, sog_kn=7.0, cog_deg=90.0))
    assert cleaned["state"].to_list() == ["observed"] * 40 + ["rejected"] * 20 + ["observed"] * 40
