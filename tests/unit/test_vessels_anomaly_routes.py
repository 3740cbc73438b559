from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.schema import UsageError
from geodiff.sphere import move
from geodiff.tasks.anomaly_data import load_calibration, load_routes, routes_path, save_calibration, save_routes
from geodiff.tasks.vessels_score import scorer_of
from geodiff.tasks.vessels_settings import ScoreSettings
from geodiff.tracks import OBSERVED
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.scoring import Calibration
from geodiff.vessels.scoring_calibrate import learn
from geodiff.vessels.scoring_fixes import Fixes
from geodiff.vessels.scoring_routes import COLUMNS, MOST_POINTS, TURN_KM, Routes
from geodiff.vessels.scoring_tracks import score_tracks

LANE = (10.0, 55.0)


def sail(
    vessel: int,
    *,
    aside_km: float = 0.0,
    course: float = 90.0,
    knots: float = 12.0,
    fixes: int = 120,
    step_s: float = 60.0,
    begin_s: float = 0.0,
    bulge_km: float = 0.0,
    place: tuple[float, float] = LANE,
) -> pl.DataFrame:
    """A vessel so far to the right of the lane, with a smooth detour to the right if wanted, and noise of GNSS."""
    seconds = step_s * np.arange(fixes)
    part = np.linspace(0, 1, fixes)
    hill = bulge_km * np.sin(np.pi * np.clip((part - 0.2) / 0.6, 0, 1)) ** 2
    lon, lat = move(*place, course, knots * 1.852 / 3600 * seconds)
    lon, lat = move(lon, lat, course + 90, aside_km + hill)
    rng = np.random.default_rng(vessel)
    lon, lat = lon + rng.normal(0, 4e-5, fixes), lat + rng.normal(0, 2e-5, fixes)
    time = ((1_577_836_800.0 + begin_s + seconds) * 1e6).astype(np.int64)
    return pl.DataFrame(
        {
            "vessel_id": pl.Series([vessel] * fixes, dtype=pl.Int64),
            "time": pl.Series(time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "lon_deg": (lon + 180) % 360 - 180,
            "lat_deg": lat,
            "sog_kn": pl.Series(np.maximum(knots + rng.normal(0, 0.1, fixes), 0), dtype=pl.Float32),
            "cog_deg": pl.Series((course + rng.normal(0, 1, fixes)) % 360, dtype=pl.Float32),
            "ship_type": pl.Series([70] * fixes, dtype=pl.Int16),
            "track_id": f"{vessel}/{int(begin_s):08d}",
            "state": OBSERVED,
            "reason": pl.Series([None] * fixes, dtype=pl.String),
        }
    )


def lane(count: int, first: int = 1000, *, step_s: float = 60.0, fixes: int = 120) -> pl.DataFrame:
    """Vessels one after another on one lane some hundred metres wide."""
    rng = np.random.default_rng(first)
    return pl.concat(
        [
            sail(
                first + k,
                aside_km=float(rng.normal(0, 0.2)),
                knots=float(rng.uniform(10, 14)),
                begin_s=60.0 * k,
                fixes=int(rng.integers(int(0.7 * fixes), fixes)),
                step_s=step_s,
            )
            for k in range(count)
        ]
    )


def routes(table: pl.DataFrame) -> Routes:
    return Routes.joined([Routes.of(Fixes.from_table(table))])


def asked(past: pl.DataFrame, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the routes in km, and usual speeds in knots."""
    route, flow = routes(past).around(Fixes.from_table(table))
    return route.facts["route_km"], flow.facts["there_kn"]


def test_a_smooth_detour_is_as_far_from_the_lane_as_it_was_sailed() -> None:
    far, _ = asked(lane(20), sail(1, bulge_km=6.0))
    assert far[:20].max() < 0.7
    assert far[60] == pytest.approx(6.0, abs=0.7)
    assert far[85] < far[60]


def test_a_lane_of_hourly_fixes_is_as_near_between_them() -> None:
    past = pl.concat([sail(2, step_s=3600.0, fixes=8), sail(3, step_s=3600.0, fixes=8, aside_km=0.3)])
    far, _ = asked(past, sail(1, aside_km=2.0, fixes=300))
    np.testing.assert_allclose(far, 1.7, atol=0.1)


def test_the_wrong_way_along_a_lane_is_no_route() -> None:
    length = 12.0 * 1.852 / 3600 * 60 * 119
    against = sail(1, course=270.0, place=tuple(float(each) for each in move(*LANE, 90.0, length)))
    far, _ = asked(lane(20), against)
    assert np.median(far) == pytest.approx(2 * TURN_KM, rel=0.05)


def test_a_vessels_own_past_does_not_count_even_where_it_hides_others() -> None:
    alone = pl.concat([sail(1, begin_s=7200.0 * k) for k in range(30)])
    assert np.isnan(asked(alone, sail(1))[0]).all()
    far, _ = asked(pl.concat([alone, sail(2, aside_km=3.0)]), sail(1))
    np.testing.assert_allclose(far, 3.0, atol=0.1)


def test_waters_that_the_past_does_not_tell_of_say_nothing() -> None:
    far, usual = asked(lane(10), sail(1, place=(12.0, 52.0)))
    assert np.isnan(far).all()
    assert np.isnan(usual).all()
    lying = sail(1, knots=0.0)
    assert np.isnan(asked(lane(10), lying)[0]).all()
    empty = Routes.joined([Routes.of(Fixes.from_table(sail(1).clear()))])
    assert np.isnan(empty.around(Fixes.from_table(sail(1)))[0].value).all()
    assert not len(empty.around(Fixes.from_table(sail(1).clear()))[0].value)


def test_speed_is_held_against_that_of_others_there() -> None:
    past, table = lane(30), pl.concat([sail(1, knots=12.0), sail(2, knots=4.0, fixes=200)])
    fixes = Fixes.from_table(table)
    flow = routes(past).around(fixes)[1]
    assert np.nanmedian(flow.facts["there_kn"]) == pytest.approx(12.0, abs=1.0)
    like, slow = (flow.value[fixes.vessel_id[fixes.track] == vessel] for vessel in (1, 2))
    assert np.median(slow) > np.median(like) + 1.5


def test_lanes_run_across_the_date_line() -> None:
    past = pl.concat([sail(k, place=(179.9, 10.0), aside_km=0.1 * k) for k in range(2, 8)])
    far, _ = asked(past, sail(1, place=(179.9, 10.0)))
    np.testing.assert_allclose(far, 0.2, atol=0.1)


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, 11), max_size=3), seed=st.integers(0, 2**16))
def test_routes_do_not_depend_on_how_their_tracks_were_divided_or_ordered(cuts: list[int], seed: int) -> None:
    table = lane(12, fixes=30)
    vessels = np.random.default_rng(seed).permutation(np.arange(1000, 1012))
    groups = [each.tolist() for each in np.split(vessels, sorted(cuts)) if len(each)]
    parts = [Routes.of(Fixes.from_table(table.filter(pl.col("vessel_id").is_in(each)))) for each in groups]
    assert Routes.joined(parts).digest == routes(table).digest


def test_of_too_many_points_every_second_is_kept_and_distances_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    past = lane(20)
    whole = asked(past, sail(1, bulge_km=4.0))[0]
    monkeypatch.setattr("geodiff.vessels.scoring_routes.MOST_POINTS", len(routes(past)) // 2)
    assert len(routes(past)) < 0.6 * len(whole) * 20
    np.testing.assert_allclose(asked(past, sail(1, bulge_km=4.0))[0], whole, atol=0.5)
    assert MOST_POINTS > 0


@pytest.fixture(scope="module")
def past() -> pl.DataFrame:
    return lane(240, fixes=60)


@pytest.fixture(scope="module")
def calibration(past: pl.DataFrame) -> Calibration:
    return learn(past, Hermite(), lengths=(6,), routes=routes(past)).calibration()


def test_clean_vessels_are_flagged_at_the_stated_rate_and_a_detour_for_its_route(
    past: pl.DataFrame, calibration: Calibration
) -> None:
    where, clean = routes(past), lane(200, first=50_000, fixes=60)
    scored = score_tracks(clean, Hermite(), calibration, alpha=0.1, routes=where)
    assert 0.05 <= float((scored.fixes["p_value"] <= 0.1).mean()) <= 0.2
    assert 0.04 <= float(scored.tracks["anomalous"].mean()) <= 0.2
    strange = score_tracks(sail(5, bulge_km=4.0), Hermite(), calibration, alpha=0.05, routes=where)
    assert any("route: " in reason for reason in strange.fixes["reason"].drop_nulls())
    without = score_tracks(sail(5, bulge_km=4.0), Hermite(), calibration, alpha=0.05)
    assert not any("route: " in reason for reason in without.fixes["reason"].drop_nulls())


def test_routes_travel_beside_their_calibration_and_no_others_serve(
    past: pl.DataFrame, calibration: Calibration, tmp_path: Path
) -> None:
    path = save_calibration(calibration, tmp_path / "calibration.json")
    with pytest.raises(UsageError, match="move both files together"):
        load_routes(path, load_calibration(path))
    save_routes(routes(past), path)
    again = load_routes(path, load_calibration(path))
    assert again is not None
    assert all((getattr(again, name) == getattr(routes(past), name)).all() for name in COLUMNS)
    scorer = scorer_of(sail(5, bulge_km=4.0), ScoreSettings(alpha=0.05), path)
    assert scorer.routes is not None
    told = scorer.score(sail(5, bulge_km=4.0))[0].fixes["reason"].drop_nulls()
    assert any("route: " in reason for reason in told)
    other = routes(lane(5))
    with pytest.raises(UsageError, match="made with other routes"):
        score_tracks(sail(5), Hermite(), calibration, alpha=0.05, routes=other)
    save_routes(other, path)
    with pytest.raises(UsageError, match=r"not the routes that calibration\.json"):
        load_routes(path, load_calibration(path))
    routes_path(path).write_bytes(b"PAR1 of no use")
    with pytest.raises(UsageError, match="not the routes"):
        load_routes(path, load_calibration(path))
