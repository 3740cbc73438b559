from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from geodiff.schema import UsageError
from geodiff.tasks.anomaly import COMBINED, UNTAUGHT, ScoringSettings, _with_neighbours, run_benchmark
from geodiff.tasks.anomaly_data import divide, load_calibration, load_routes
from geodiff.tasks.anomaly_report import evaluate_scoring, headline
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.scoring_calibrate import learn
from geodiff.vessels.scoring_tracks import score_tracks
from geodiff.vessels.split import is_held_out

FIRST = 1000


@pytest.fixture(scope="module")
def tracks() -> pl.DataFrame:
    """A fleet whose identities are numbered anew, so that the hash of the split divides them."""
    behaviours = ("transit", "ferry", "transit", "tug", "moored")
    fleet = make_fleet(5, 240, 2.0, behaviours=behaviours, defects={}, interval_s=90.0, region=(8.0, 54.0, 11.0, 57.0))
    return clean_fixes(fleet.fixes)


@pytest.fixture(scope="module")
def settings() -> ScoringSettings:
    return ScoringSettings(ratios=(0.1, 0.3), seeds=1, alpha=0.05, lengths=(1, 6), kinds=("activity", "gap"))


@pytest.fixture(scope="module")
def done(tracks: pl.DataFrame, settings: ScoringSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored")
    told: list[str] = []
    evaluate_scoring(
        tracks, Hermite(), out, settings, command=["geodiff", "x"], progress=lambda stage, *_: told.append(stage)
    )
    assert told[0] == "clean tracks"
    assert told.count("injections") == 2
    return out


def test_the_report_holds_false_alarms_and_every_kind_level_and_ratio(done: Path, settings: ScoringSettings) -> None:
    report = json.loads((done / "report.json").read_text())
    rows = report["benchmark"]
    assert {(r["kind"], r["level"], r["ratio"]) for r in rows} == {
        (kind, level, ratio) for kind in settings.kinds for level in ("fix", "track") for ratio in settings.ratios
    }
    assert {r["scorer"] for r in rows} >= {"combined", "speed threshold", "dead reckoning", "Hermite residual"}
    best = {r["kind"]: r["auroc"][0] for r in rows if (r["scorer"], r["level"], r["ratio"]) == ("combined", "fix", 0.3)}
    assert best["gap"] > 0.9
    assert best["activity"] > 0.8
    for row in report["false_alarms"]:
        assert row["low"] <= row["realised"] <= row["high"]
        # Some thirty vessels test: what is certain of so few is that they are not flagged by far too often.
        assert row["realised"] <= 2.5 * row["nominal"] + 0.03
    assert len(headline(report)) == 2


def test_what_is_found_of_a_kind_that_was_not_taught_is_told(done: Path, settings: ScoringSettings) -> None:
    rows = json.loads((done / "report.json").read_text())["benchmark"]
    untaught = {(r["kind"], r["level"], r["ratio"]): r for r in rows if r["scorer"] == UNTAUGHT}
    taught = {(r["kind"], r["level"], r["ratio"]): r for r in rows if r["scorer"] == COMBINED}
    assert untaught.keys() == taught.keys()
    # Silences are found by whoever was told of them: without the lesson other kinds' weights must do.
    assert untaught["gap", "fix", 0.3]["auroc"][0] < taught["gap", "fix", 0.3]["auroc"][0]
    assert all(0 <= row["found"][0] <= 1 for row in untaught.values())


def test_lessons_in_some_kinds_alone_weigh_those_alone(tracks: pl.DataFrame) -> None:
    lessons = learn(tracks, Hermite(), lengths=(1, 6))
    some, every = lessons.calibration(["gap", "speed"]), lessons.calibration()
    assert set(some.fix_heads.weights) == set(some.track_heads.weights) == {"gap", "speed"}
    assert set(every.fix_heads.weights) == set(lessons.strange) > {"gap", "speed"}
    assert some.fix_heads.weights["gap"] == every.fix_heads.weights["gap"]
    assert some.evidence == every.evidence
    assert some.fixes != every.fixes


def test_what_else_a_vessel_did_is_scored_but_for_what_its_altered_track_runs_into() -> None:
    """Hours from and to of tracks of two vessels; that of 10 to 12 o'clock is altered."""
    hours = {"1/a": (1, 5, 6), "1/b": (1, 10, 12), "1/c": (1, 11, 13), "1/d": (1, 13, 14), "2/a": (2, 5, 6)}
    table = pl.DataFrame(
        {
            "track_id": [name for name in hours for _ in range(2)],
            "vessel_id": [vessel for vessel, *_ in hours.values() for _ in range(2)],
            "time": pl.Series([3_600_000_000 * hour for _, *span in hours.values() for hour in span]).cast(
                pl.Datetime("us", "UTC")
            ),
        }
    )
    altered = table.filter(pl.col("track_id") == "1/b").with_columns(anomalous=pl.Series([False, True]))
    found = _with_neighbours(altered, table)
    assert found.filter("anomalous")["time"].to_list() == altered.filter("anomalous")["time"].to_list()
    assert sorted(found["track_id"]) == sorted(["1/a", "1/b", "1/d"] * 2)


def test_the_page_needs_nothing_else(done: Path) -> None:
    page = (done / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 6
    assert "http" not in page.replace("http-equiv", "")


def test_the_calibration_that_is_written_scores_tracks(done: Path, tracks: pl.DataFrame) -> None:
    calibration = load_calibration(done / "calibration.json")
    some = tracks.filter(pl.col("vessel_id").is_in(tracks["vessel_id"].unique().sort()[:20].implode()))
    routes = load_routes(done / "calibration.json", calibration)
    assert routes is not None
    scored = score_tracks(some, Hermite(), calibration, alpha=0.05, routes=routes)
    assert len(scored.fixes) == len(some)
    assert scored.tracks.height == some["track_id"].drop_nulls().n_unique()


def test_files_that_are_no_calibration_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(UsageError, match="no calibration can be read"):
        load_calibration(path)
    for text in ("", "\xff", "[1]", "{}", "[" * 100_000, '{"format": "other"}', '{"model": NaN}'):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(UsageError, match=r"c\.json"):
            load_calibration(path)


def test_no_vessel_calibrates_and_tests_and_none_was_trained_on(tracks: pl.DataFrame) -> None:
    class Trained(Hermite):
        name = "trained"

        def trained_on(self, vessel_id: Sequence[int]) -> np.ndarray:
            return ~is_held_out(vessel_id)

    plain = divide(tracks, Hermite(), calibrate_most=150, test_most=10)
    sets = [set(each["vessel_id"].unique()) for each in (plain.calibrate, plain.test)]
    assert not sets[0] & sets[1]
    assert [len(each) for each in sets] == [150, 10]
    assert is_held_out(list(sets[1])).all()
    assert plain.trained == 0
    with pytest.raises(UsageError, match="model was not trained on"):
        divide(tracks, Trained(), calibrate_most=150, test_most=10)
    many = pl.concat([tracks.with_columns(pl.col("vessel_id") + 10_000_000 * k) for k in range(4)])
    parted = divide(many, Trained(), calibrate_most=150, test_most=200)
    sets = [set(each["vessel_id"].unique()) for each in (parted.calibrate, parted.test)]
    assert not sets[0] & sets[1]
    assert is_held_out(list(sets[0] | sets[1])).all()
    assert parted.trained > 0


def test_what_cannot_be_measured_is_said_before_the_work(tracks: pl.DataFrame, tmp_path: Path) -> None:
    lessons = ScoringSettings(ratios=(0.1,), seeds=1, alpha=0.001, lengths=(1, 6), kinds=("gap",))
    told: list[str] = []
    with pytest.raises(UsageError, match="calibrate with more vessels"):
        evaluate_scoring(tracks, Hermite(), tmp_path, lessons, progress=lambda stage, *_: told.append(stage))
    assert told == []
    divided = divide(tracks, Hermite(), calibrate_most=3000, test_most=1200)
    alone = divided.test.filter(pl.col("track_id") == moving_track(divided.test))
    with pytest.raises(UsageError, match=r"1 of 1 test tracks .* two at least are needed"):
        run_benchmark(
            divided.calibrate, alone, Hermite(), lessons.model_copy(update={"alpha": 0.05}), progress=lambda *_: None
        )


def moving_track(table: pl.DataFrame) -> str:
    """The track with most fixes under way."""
    counts = table.filter(pl.col("sog_kn") > 4).group_by("track_id").len().sort("len", "track_id")
    return str(counts["track_id"][-1])


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="no anomaly is called 'spin'"):
        ScoringSettings.parse({"kinds": ["spin"]})
    with pytest.raises(UsageError, match=r"at most 0\.5"):
        ScoringSettings.parse({"ratios": [0.7]})
