"""Regions that are calibrated where a model is used: on whom, what they hold then, and what runs and reports say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import geodiff as api
from geodiff.model.track_checkpoint import save_track_checkpoint
from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError
from geodiff.tasks import track_calibrate_here as here
from geodiff.tasks.evaluate_vessels import calibrated, evaluate_vessels, load_contenders
from geodiff.tasks.evaluate_vessels_data import Cleaned, draw_cases
from geodiff.tasks.evaluate_vessels_report import summarise, write_reports
from geodiff.tasks.evaluate_vessels_settings import VesselSettings
from geodiff.tasks.track_calibration import (
    CLASSES,
    LEAST_PULLED,
    LEVELS,
    TrackCalibration,
    classes_of,
    fit_calibration,
)
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.track_questions import ask, draw_questions
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.convert import to_geodataframe
from geodiff.vessels.split import is_held_out, vessel_digest
from geodiff.vessels.windows_draw import DrawSettings

NARROW = TrackCalibration(LEVELS, np.ones(CLASSES), np.full((2, *CLASSES), 0.01), 16)
"""Regions that hold next to nothing."""


@pytest.fixture(scope="module")
def fixes() -> pl.DataFrame:
    return make_fleet(5, vessels=70, hours=4.0, defects={}).fixes


@pytest.fixture(scope="module")
def tracks(fixes: pl.DataFrame) -> pl.DataFrame:
    return clean_fixes(fixes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    model = TrackDenoiser(track_config(width=16, heads=2, layers=2))
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    save_track_checkpoint(model.eval(), path, {"track_calibration": NARROW.to_json()})
    return path


@pytest.fixture
def model(weights) -> DenoiserMotion:
    return DenoiserMotion.load(weights)


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "FEWEST_VESSELS", 20)
    monkeypatch.setattr(here, "FEWEST_OF_CLASS", 10)
    monkeypatch.setattr(here, "QUESTIONS", 900)


def in_half(tracks: pl.DataFrame, half: int) -> pl.DataFrame:
    return tracks.filter(pl.col("vessel_id") % 2 == half)


def test_only_a_model_with_regions_and_strangers_enough_is_calibrated(tracks, model, few_are_enough, monkeypatch):
    parts = [in_half(tracks, 0).lazy(), in_half(tracks, 1).lazy()]
    ids = tracks["vessel_id"].unique().sort().to_numpy()
    found = here.strangers(model, parts)
    assert found is not None
    assert set(found["state"]) == {"observed"}
    assert here.strangers(model, parts[::-1]).equals(found)
    assert here.strangers(Hermite(), parts) is None
    assert here.strangers(replace(model, calibration=None), parts) is None
    known = ids[: round(0.4 * len(ids))]
    others = here.strangers(replace(model, card={"vessels": vessel_digest(known)}), parts)
    assert set(others["vessel_id"]) == set(ids) - set(known.tolist())
    known = ids[: round(0.6 * len(ids))]
    assert here.strangers(replace(model, card={"vessels": vessel_digest(known)}), parts) is None
    monkeypatch.setattr(here, "MOST_VESSELS", 65)
    assert here.strangers(model, parts)["vessel_id"].n_unique() == 65
    # Of long tracks the first fixes of many vessels, not all of a few.
    monkeypatch.setattr(here, "MOST_FIXES", tracks.height // 10)
    some = here.strangers(model, parts)
    assert some.height <= tracks.height // 10
    assert some["vessel_id"].n_unique() == 60
    for vessel, found in some.group_by("vessel_id"):
        whole = tracks.filter((pl.col("vessel_id") == vessel[0]) & (pl.col("state") == "observed")).sort("time")
        assert found["time"].sort().equals(whole["time"].head(found.height))
    monkeypatch.setattr(here, "FEWEST_VESSELS", len(ids) + 1)
    assert here.strangers(model, parts) is None


def test_regions_of_other_waters_hold_what_they_say_once_calibrated_here(tracks, model, few_are_enough):
    found = here.calibrate_here(model, in_half(tracks, 0), seed=0)
    assert found.vessels > 20
    others = ask(model, draw_questions(in_half(tracks, 1), DrawSettings(longest_s=3600.0), 900, 7), 3)
    before, after = (each.calibration.coverage(*others.all)[:, 1:] for each in (model, found.of(model)))
    assert (before < 0.15).all()
    np.testing.assert_allclose(after, np.repeat([[0.5], [0.9]], 2, 1), atol=0.1)
    assert here.Regions.from_json(found.to_json(), where="x").to_json() == found.to_json()


def test_leads_that_the_tracks_do_not_reach_are_changed_as_the_nearest_are(tracks, model, few_are_enough):
    grows = np.ones(CLASSES) * np.arange(1.0, CLASSES[-1] + 1)
    levels, pull = (0.5, 0.8, 0.95), np.full(CLASSES, 0.7)
    card = TrackCalibration(levels, grows, np.stack([0.01 * grows, 0.02 * grows, 0.03 * grows]), 16, pull)
    found = here.calibrate_here(replace(model, calibration=card), tracks, seed=0).calibration
    # Nobody sails for nine hours, nor for five.
    for mine, before in ((found.reach, card.reach), (found.spread_factor, card.spread_factor)):
        ratio = mine[..., 2, 1, :] / before[..., 2, 1, :]
        np.testing.assert_allclose(ratio[..., -1], ratio[..., -2], rtol=1e-4)
        np.testing.assert_allclose(ratio[..., -1], ratio[..., -3], rtol=1e-4)
        assert (np.abs(ratio[..., -1] - 1) > 0.1).all()
    assert found.levels == levels
    np.testing.assert_array_equal(found.pull[2, 1, -3:], 0.7)


def test_a_model_that_departs_too_boldly_is_pulled_back_where_enough_tell(tracks, model):
    asked = ask(model, draw_questions(tracks, DrawSettings(longest_s=3600.0), 1200, 0), 0)
    chance = np.random.default_rng(0)
    bold = asked.truth / 0.6 + 0.05 * chance.normal(size=asked.members.shape)
    bold[0] *= 5  # one wild member moves no median
    found = fit_calibration(bold, asked.truth, asked.windows)
    kind, state, lead = (np.broadcast_to(each, asked.truth.shape[:2]) for each in classes_of(asked.windows))
    counts = np.zeros(CLASSES, int)
    np.add.at(counts, tuple(each[asked.windows.asked_valid] for each in (kind, state, lead)), 1)
    many = counts >= LEAST_PULLED
    assert 0 < many.sum() < many.size
    np.testing.assert_allclose(found.pull[many], 0.6)
    assert (found.pull[~many] == 1).all()
    middle = np.median(found.spread(bold, asked.windows), 0)
    some = many[kind, state, lead] & asked.windows.asked_valid
    np.testing.assert_allclose(middle[some], asked.truth[some], atol=0.05)
    # Older cards know no pull.
    card = {name: value for name, value in found.to_json().items() if name != "pull"}
    assert (TrackCalibration.from_json(card, where="x").pull == 1).all()
    with pytest.raises(GeodiffError, match="impossible values"):
        TrackCalibration.from_json({**found.to_json(), "pull": (0 * found.pull).tolist()}, where="x")


def test_tracks_too_short_to_ask_about_leave_the_card_as_it_is(tracks, model, few_are_enough):
    short = tracks.sort("time").group_by("track_id", maintain_order=True).head(3)
    assert here.strangers(model, [short.lazy()]) is not None
    found = here.calibrate_here(model, short, seed=0)
    assert found.calibration is None
    assert found.of(model) is model
    assert here.Regions.from_json(found.to_json(), where="x").calibration is None
    with pytest.raises(GeodiffError, match="x: damaged"):
        here.Regions.from_json({"calibration": None}, where="x")


def test_a_job_calibrates_on_its_input_and_says_so(geodiff, fixes, weights, tmp_path, few_are_enough):
    source = tmp_path / "day.parquet"
    silent = (pl.col("vessel_id") % 3 == 0) & pl.col("time").dt.hour().is_between(1, 1)
    fixes.filter(~silent).write_parquet(source)
    told, reach = {}, {}
    for name, words in (("here", ()), ("card", ("--no-calibrate",))):
        out = tmp_path / name
        words = ("--model", weights, "--scheduler", "threads", *words)
        run = geodiff("vessels", "impute", source, "--out", out, *words)
        assert run.exit_code == 0, run.output
        told[name] = json.loads((out / "summary.json").read_text())
        table = pl.read_parquet(told[name]["files"]["fixes"]).filter(pl.col("state") == "imputed")
        reach[name] = table["ellipse90_major_km"].median()
        assert ("of the data" in run.stdout) == (name == "here")
    assert told["here"]["regions"].startswith("calibrated on ")
    assert "regions" not in told["card"]
    assert reach["here"] > 5 * reach["card"]


def test_a_run_killed_while_its_work_is_cleared_away_is_finished(geodiff, fixes, weights, tmp_path, few_are_enough):
    source, out = tmp_path / "day.parquet", tmp_path / "out"
    fixes.filter((pl.col("vessel_id") % 3 != 0) | (pl.col("time").dt.hour() != 1)).write_parquet(source)
    words = ("vessels", "impute", source, "--out", out, "--model", weights, "--scheduler", "threads")

    def killed(*_args, **_words):
        raise SystemError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geodiff.tasks.vessels_run.publish", killed)
        assert geodiff(*words).exit_code != 0
    (work,) = out.glob("impute/*.work")
    assert (work / "regions.json").exists()
    (work / "regions.json").unlink()
    shutil.rmtree(work / "cleaned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geodiff.tasks.vessels_model.load_motion_model", killed)
        assert geodiff(*words).exit_code == 0


def test_tables_in_memory_are_calibrated_on_too(fixes, tracks, weights, few_are_enough):
    silent = (pl.col("vessel_id") % 3 == 0) & pl.col("time").dt.hour().is_between(1, 1)
    frame = to_geodataframe(clean_fixes(fixes.filter(~silent)))
    here_, card = (
        api.impute(frame, model=str(weights), calibrate=calibrate)["ellipse90_major_km"].median()
        for calibrate in (True, False)
    )
    assert here_ > 5 * card


def test_an_evaluation_calibrates_on_vessels_that_are_not_asked_about(tracks, weights, few_are_enough, tmp_path):
    ids = tracks["vessel_id"].unique().to_numpy()
    assert is_held_out(ids).any()
    data = Cleaned(tracks, {"files": [], "later_from": None}, np.inf)
    asked = {"task": "impute", "lengths": "10min", "max_cases": 40}
    found = {}
    for calibrate in (True, False):
        # History is another matter.
        settings = VesselSettings.parse({**asked, "calibrate": calibrate, "history": not calibrate})
        contenders = load_contenders([str(weights)])
        drawn = draw_cases(data, contenders, settings)
        assert not np.isin(
            drawn.others.collect()["vessel_id"].unique(), [case.query.vessel_id for case in drawn.cases]
        ).any()
        contenders = [calibrated(each, drawn, settings) for each in contenders]
        # One folder: results of the one must not be taken for those of the other.
        records = evaluate_vessels(contenders, drawn, tmp_path, settings)
        report = summarise(records, contenders, data, drawn, settings, command="x")
        page, _ = write_reports(report, records, contenders, drawn, tmp_path, settings)
        row = report["models"]["narrow"]
        found[calibrate] = row["lengths"]["10 min"]["coverage"]["0.9"]["mean"]
        assert (row["regions"] is not None) == calibrate
        assert ("of the data that are not asked about" in page.read_text()) == calibrate
    assert found[False] < 0.3
    assert found[True] > 0.7
