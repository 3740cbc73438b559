"""An evaluation end to end, on a fleet made here: figures as worked out by hand, refusals, resuming."""

import json
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import geodiff
from geodiff.cli import app
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import distance_km, move
from geodiff.tasks import evaluate_vessels as task
from geodiff.tasks.evaluate_vessels import evaluate_vessels, load_contenders
from geodiff.tasks.evaluate_vessels_data import draw_cases, load_cleaned
from geodiff.tasks.evaluate_vessels_report import summarise, write_reports
from geodiff.tasks.evaluate_vessels_settings import VesselSettings
from geodiff.tasks.evaluate_vessels_summary import summarise_model
from geodiff.tasks.motion_models import Contender
from geodiff.tracks import TrackAnswer
from geodiff.vessels.convert import from_geodataframe, to_geodataframe
from geodiff.vessels.read import read_fixes
from geodiff.vessels.split import in_digest, is_held_out, vessel_digest

VESSELS = [int(v) for v in range(366_000_000, 366_001_000) if is_held_out([v])[0]][:6] + [
    int(v) for v in range(366_000_000, 366_000_100) if not is_held_out([v])[0]
][:8]


@pytest.fixture(scope="module")
def noaa(tmp_path_factory):
    """Half a day at one minute: vessels turn slowly at 12 kn; the last one lies at anchor."""
    rng = np.random.default_rng(0)
    rows = []
    for number, vessel in enumerate(VESSELS):
        step = np.arange(0, 12 * 60)
        course = (30.0 * number + 6 * np.sin(step / 60) + step / 20) % 360
        speed = np.full(len(step), 12.0 if number else 0.0)
        lon, lat = np.empty(len(step)), np.empty(len(step))
        lon[0], lat[0] = -75.0 + number, 30.0
        for k in step[1:]:
            lon[k], lat[k] = move(lon[k - 1], lat[k - 1], course[k - 1], speed[k - 1] * 1.852 / 60)
        noise = rng.normal(0, 3e-5, (2, len(step)))
        time = np.datetime64("2020-01-01T00:00:00") + (60 * step).astype("timedelta64[s]")
        rows.append(
            pl.DataFrame(
                {
                    "MMSI": [vessel] * len(step),
                    "BaseDateTime": [str(t) for t in time],
                    "LAT": lat + noise[0],
                    "LON": lon + noise[1],
                    "SOG": speed,
                    "COG": course.round(1) % 360,
                    "Heading": np.full(len(step), 511.0),
                    "VesselName": ["A"] * len(step),
                    "IMO": [""] * len(step),
                    "CallSign": [""] * len(step),
                    "VesselType": [70] * len(step),
                    "Status": [0] * len(step),
                    "Length": [100] * len(step),
                    "Width": [20] * len(step),
                    "Draft": [5.0] * len(step),
                    "Cargo": [70] * len(step),
                    "TransceiverClass": ["A"] * len(step),
                }
            )
        )
    path = tmp_path_factory.mktemp("noaa") / "day.csv"
    pl.concat(rows).write_csv(path)
    return path


@dataclass
class Oracle:
    """Says the truth, 0.1 km east of it on the mean, and counts how often it is asked."""

    cases: dict[tuple[int, float], tuple[float, float]]
    known: tuple[int, ...] = ()
    asked: int = 0
    name: str = "oracle"
    levels: tuple[float, ...] = (0.5, 0.9)

    def predict(self, queries, *, members, seed):
        self.asked += len(queries)
        return [self._one(query, members) for query in queries]

    def _one(self, query, members):
        true = np.array([self.cases[(query.vessel_id, t)] for t in query.ask_s])
        lon, lat = move(true[:, 0], true[:, 1], 90.0, 0.1)
        off = np.linspace(-0.2, 0.2, members)[:, None]
        drawn = move(lon + np.zeros_like(off), lat + np.zeros_like(off), 90.0, off)
        ellipse = np.stack([np.full((len(lon), 3), [r, r, 0.0]) for r in (0.05, 0.3)])
        return TrackAnswer(lon, lat, *drawn, ellipse)

    def trained_on(self, vessel_id):
        return in_digest(vessel_id, vessel_digest(list(self.known)))


@pytest.fixture(scope="module")
def cleaned(noaa):
    return load_cleaned([noaa])


def oracle(data, known=()):
    seconds = data.table["time"].dt.epoch("us").to_numpy() / 1e6
    places = zip(data.table["lon_deg"].to_list(), data.table["lat_deg"].to_list(), strict=True)
    cases = dict(zip(zip(data.table["vessel_id"].to_list(), seconds.tolist(), strict=True), places, strict=True))
    return Contender("oracle", Oracle(cases, tuple(known)), "abc")


def settings(**changes):
    return VesselSettings.parse({"task": "impute", "lengths": "10min,30min", "max_cases": 60, "members": 5, **changes})


def test_files_that_overlap_count_once(cleaned, noaa):
    twice = load_cleaned([noaa, noaa])
    assert_frame_equal(twice.table, cleaned.table)
    assert [note["in_files_before"] for note in twice.notes["files"]] == [0, cleaned.table.height]


def test_what_a_model_made_of_tracks_is_neither_asked_about_nor_called_rejected(cleaned, noaa, tmp_path):
    observed = geodiff.clean(to_geodataframe(read_fixes(noaa)[0]))
    table = from_geodataframe(observed)
    made = table.filter(pl.col("state") == "observed").head(20).with_columns(state=pl.lit("imputed"))
    told = []
    for columns in (table.columns, [name for name in table.columns if name != "reason"]):
        pl.concat([table, made]).select(columns).write_parquet(tmp_path / "own.parquet")
        again = load_cleaned([tmp_path / "own.parquet"], tell=told.append)
        assert again.table.height == cleaned.table.height
        assert again.notes["files"][0]["rules"] == "as cleaned"
    rejected = int((table["state"] == "rejected").sum())
    assert (
        told
        == [f"own.parquet: {len(table) + 20} rows read, {len(table)} fixes, {rejected} of them rejected by cleaning"]
        * 2
    )


def test_the_report_says_what_is_known_by_construction(cleaned, tmp_path):
    models = [oracle(cleaned), *load_contenders([])]
    asked = settings()
    drawn = draw_cases(cleaned, models, asked)
    assert {case.query.vessel_id for case in drawn.cases} <= set(VESSELS[:6])
    assert drawn.notes["vessels"] == 6
    assert drawn.notes["history_vessels"] == 8
    found = evaluate_vessels(models, drawn, tmp_path, asked)
    report = summarise(found, models, cleaned, drawn, asked, command="test")
    row = report["models"]["oracle"]["lengths"]["30 min"]
    assert row["greedy_km"]["mean"] == pytest.approx(0.1, abs=1e-4)
    assert row["greedy_nmi"]["mean"] == pytest.approx(0.1 / 1.852, abs=1e-4)
    assert (row["coverage"]["0.5"]["mean"], row["coverage"]["0.9"]["mean"]) == (0, 1)
    assert row["best_km"]["mean"] == pytest.approx(0.0, abs=1e-4)
    assert report["models"]["oracle"]["tracks"]["min_ade_km"]["mean"] == pytest.approx(0.0, abs=1e-4)
    for name, model in report["models"].items():
        hermite = report["models"]["hermite"]["lengths"]["30 min"]["greedy_km"]["mean"]
        mine = model["lengths"]["30 min"]
        assert mine["gain"]["mean"] == pytest.approx(1 - mine["greedy_km"]["mean"] / hermite, abs=1e-4), name
        assert mine["cases"] == 60
        assert mine["vessels"] == 5
    # The error of the straight line grows with the gap: by hand from the records.
    by_hand = [
        error
        for record in found.records["linear"]
        if record["moving"]
        for error, label in zip(record["greedy_km"], record["label"], strict=True)
        if label == "30 min"
    ]
    linear = report["models"]["linear"]["lengths"]
    assert linear["30 min"]["greedy_km"]["mean"] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert linear["30 min"]["greedy_km"]["mean"] > 2 * linear["10 min"]["greedy_km"]["mean"]
    assert report["models"]["hermite"]["moored"]["10 min"]["vessels"] == 1
    page, figures = write_reports(report, found, models, drawn, tmp_path, asked)
    assert json.loads(figures.read_text())["models"].keys() == report["models"].keys()
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "http" not in text.replace("http-equiv", "")


def test_forecasts_are_scored_at_each_horizon(cleaned, tmp_path):
    asked = settings(task="forecast", lengths="10min,1h", max_cases=40)
    models = load_contenders([])
    drawn = draw_cases(cleaned, models, asked)
    found = evaluate_vessels(models, drawn, tmp_path, asked)
    report = summarise(found, models, cleaned, drawn, asked, command="test")
    assert report["reference"] == "dead_reckoning"
    lengths = report["models"]["hermite"]["lengths"]
    assert list(lengths) == ["10 min", "1 h"]
    assert lengths["1 h"]["greedy_nmi"]["mean"] > 4 * lengths["10 min"]["greedy_nmi"]["mean"]
    assert lengths["1 h"]["gain"]["mean"] == 0


def test_a_killed_evaluation_goes_on_and_a_new_model_is_asked_alone(cleaned, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "CHUNK", 20)
    asked = settings(max_cases=50)
    first = oracle(cleaned)
    drawn = draw_cases(cleaned, [first], asked)

    class Killed(Exception):
        pass

    def kill(name, done, total):
        if done > total // 2:
            raise Killed

    with pytest.raises(Killed):
        evaluate_vessels([first], drawn, tmp_path, asked, progress=kill)
    before = first.model.asked
    assert 0 < before < len(drawn.cases)
    whole = evaluate_vessels([first], drawn, tmp_path, asked)
    assert first.model.asked == len(drawn.cases)
    again = oracle(cleaned)
    rule = load_contenders(["hermite"])[0]
    both = evaluate_vessels([again, rule], drawn, tmp_path, asked)
    assert again.model.asked == 0
    assert both.records["oracle"] == whole.records["oracle"]
    changed = Contender("oracle", again.model, "another digest")
    evaluate_vessels([changed], drawn, tmp_path, asked)
    assert again.model.asked == len(drawn.cases)


class Historian(Oracle):
    """Is told of the past."""

    def with_history(self, history):
        self.told = history
        return self


def test_whatever_decides_an_answer_or_its_score_is_asked_anew(cleaned, tmp_path):
    asked = settings(max_cases=5)
    model = Historian(oracle(cleaned).model.cases)
    drawn = draw_cases(cleaned, [Contender("oracle", model)], asked)
    first, *rest = drawn.cases

    def again(cases=drawn.cases, split=drawn.split, history=drawn.history, **changes):
        before = model.asked
        some = replace(drawn, cases=tuple(cases), split=tuple(split), history=history)
        evaluate_vessels([Contender("oracle", model)], some, tmp_path, asked.model_copy(update=changes))
        return model.asked - before == len(drawn.cases)

    assert again()
    assert not again()
    moved = first.truth_lon_deg + 1e-9, first.truth_lat_deg + 1e-9
    assert again([replace(first, truth_lon_deg=moved[0]), *rest])
    assert again([replace(first, truth_lat_deg=moved[1]), *rest])
    assert again([replace(first, query=replace(first.query, sog_kn=first.query.sog_kn + 0.1)), *rest])
    assert again([replace(first, moving=not first.moving), *rest])
    assert again(split=["both", *drawn.split[1:]])
    assert again(seed=1)
    assert again(members=6)
    assert again(history=None)
    assert not again()


def test_who_is_asked_about_is_no_past_of_anybody_else(cleaned):
    drawn = draw_cases(cleaned, [], settings())
    told, others = drawn.history, drawn.others.collect()
    assert set(told.vessel_id[told.private].tolist()) == set(VESSELS[:6])
    assert set(told.vessel_id[~told.private].tolist()) == set(others["vessel_id"]) == set(VESSELS[6:])


def test_a_pair_of_opposite_noise_is_one_witness_and_no_ensemble(cleaned, tmp_path):
    asked = settings(max_cases=3, members=2)
    models = [replace(oracle(cleaned), name=name) for name in ("free", "pairs")]
    models[1].model.antithetic = True
    drawn = draw_cases(cleaned, models, asked)
    found = evaluate_vessels(models, drawn, tmp_path, asked).records
    assert all(len(each["crps_km"]) == len(each["label"]) for each in found["free"])
    assert all(each["crps_km"] == [] and each["members"] == 2 for each in found["pairs"])


def record(case, vessel, error_km, *, moving=True, label="1 h", split="vessel", variance=4.0, hours=1):
    """Of a case whose point estimate errs by so much at each hour, and by half at the last."""
    errors = [error_km] * hours
    none = {name: [error_km / 2] * hours for name in ("mean_km", "crps_km", "energy_km", "best_km")}
    return {
        "case": str(case), "vessel": vessel, "ship_type": 70, "split": split, "moving": moving,
        "label": [label] * hours, "members": 8, "levels": [0.5], "seconds": 0.5, "greedy_km": errors, **none,
        "variance_km2": [variance] * hours, "square_km2": [1.0] * hours, "ade_km": error_km, "fde_km": error_km / 2,
        "min_ade_km": error_km, "min_fde_km": error_km, "inside": [[error_km < 2] * hours],
        "area_km2": [[error_km] * hours],
    }  # fmt: skip


def test_the_figures_of_a_model_are_those_worked_out_by_hand():
    """Three cases of one vessel under way, one of another; one of a vessel that lies still, and a longer one."""
    others = [record(3, 2, 5.0, variance=8.0), record(4, 3, 0.1, moving=False), record(5, 2, 20.0, label="2 h")]
    records = [*(record(n, 1, 1.0) for n in range(3)), *others]
    reference = [{**each, "greedy_km": [2 * value for value in each["greedy_km"]]} for each in records]
    reference[3]["greedy_km"] = [26.0]
    found = summarise_model(records, reference, ["1 h", "2 h"])
    hour = found["lengths"]["1 h"]
    assert (hour["cases"], hour["vessels"], hour["times"]) == (4, 2, 4)
    assert (hour["greedy_km"]["mean"], hour["vessel_mean_km"]) == (2.0, 3.0)
    assert hour["greedy_nmi"]["mean"] == pytest.approx(2 / 1.852, rel=1e-5)
    assert hour["gain"]["mean"] == 0.75  # 8 km of 32
    assert (hour["quantiles_km"]["50"], hour["quantiles_km"]["75"]) == (1.0, 2.0)
    assert hour["spread_skill"] == pytest.approx(5**0.5, rel=1e-5)  # 20 over 4, and its root
    assert hour["coverage"]["0.5"]["mean"] == 0.75
    assert hour["area_km2"]["0.5"] == 1.0
    assert found["lengths"]["2 h"]["greedy_km"]["mean"] == 20.0
    assert found["moored"]["1 h"]["greedy_km"]["mean"] == 0.1
    assert list(found["moored"]) == ["1 h"]
    assert found["tracks"]["ade_km"]["mean"] == pytest.approx(28 / 5)
    assert found["tracks"]["fde_km"]["mean"] == pytest.approx(14 / 5)
    assert found["cases_per_s"] == 2.0
    assert found["by_split"]["vessel"]["1 h"]["greedy_km"]["mean"] == 2.0
    assert list(found["by_ship"]) == ["cargo"]


def test_a_model_is_not_asked_about_vessels_that_it_was_trained_on(cleaned):
    trained = oracle(cleaned, known=[VESSELS[1], VESSELS[9]])
    with pytest.raises(GeodiffError, match=r"oracle was trained on 1 of the 6 vessels.*--split unseen"):
        draw_cases(cleaned, [trained], settings())
    with pytest.raises(GeodiffError, match="trained on 2 of the 14"):
        draw_cases(cleaned, [trained], settings(split="all"))
    drawn = draw_cases(cleaned, [trained], settings(split="unseen"))
    assert {case.query.vessel_id for case in drawn.cases} == set(VESSELS) - {VESSELS[1], VESSELS[9]}


def test_what_cannot_be_asked_is_said(cleaned):
    with pytest.raises(GeodiffError, match="no track holds 48 h"):
        draw_cases(cleaned, [], settings(lengths="2d"))
    with pytest.raises(UsageError, match="--gaps 'soon'"):
        draw_cases(cleaned, [], settings(lengths="soon"))


def test_the_command_writes_a_report_and_resumes(noaa, tmp_path):
    words = ["evaluate", "vessels", "--data", str(noaa), "--task", "impute", "--gaps", "10min", "--max-cases", "20"]
    words += ["--members", "4", "--out", str(tmp_path), "--model", "kalman"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "kalman" in shown.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert next(iter(report["models"])) == "kalman"
    assert report["data"]["files"][0]["read"] == 14 * 720
    lines = (tmp_path / "results.jsonl").read_bytes()
    CliRunner().invoke(app, words, catch_exceptions=False)
    assert (tmp_path / "results.jsonl").read_bytes() == lines


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--task", "sail"], "choose among impute, forecast"),
        (["--task", "impute", "--horizons", "1h"], "--horizons is for --task forecast"),
        (["--task", "impute", "--split", "best"], "split"),
        (["--task", "impute", "--model", "no-such"], "no such motion model"),
    ],
)
def test_wrong_requests_are_told(noaa, tmp_path, words, match):
    shown = CliRunner().invoke(app, ["evaluate", "vessels", "--data", str(noaa), "--out", str(tmp_path), *words])
    assert isinstance(shown.exception, UsageError) or shown.exit_code == 2
    assert match in str(shown.exception) + shown.output


def test_the_western_australia_baselines_are_near_those_measured_before(geodiff_data):
    """Errors of rules that were measured independently, on craft held out by another hash (km)."""
    data = load_cleaned([geodiff_data / "ais" / "omtad_west_australia.parquet"])
    asked = VesselSettings(task="impute", max_cases=1000, history=False)
    drawn = draw_cases(data, [], asked)
    moving = [case for case in drawn.cases if case.moving]
    for model, expected in (("hermite", (1.32, 2.58, 5.39)), ("linear", (1.96, 4.08, 8.48))):
        answers = load_contenders([model])[0].model.predict([c.query for c in moving], members=0, seed=0)
        error = [
            distance_km(answer.lon_deg, answer.lat_deg, case.truth_lon_deg, case.truth_lat_deg)
            for answer, case in zip(answers, moving, strict=True)
        ]
        labels = np.concatenate([case.label for case in moving])
        found = [np.concatenate(error)[labels == label].mean() for label in drawn.labels]
        np.testing.assert_allclose(found, expected, rtol=0.2)
