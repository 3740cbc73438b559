"""An evaluation of generated tracks end to end, by an untrained network, on a fleet made here."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from geodiff.cli import app
from geodiff.model.track_checkpoint import save_track_checkpoint
from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks import evaluate_generate as task
from geodiff.tasks.evaluate_generate_report import evaluate_generation, headline
from geodiff.tasks.evaluate_generate_settings import GenerationSettings
from geodiff.tasks.motion_models import load_contender
from geodiff.tasks.track_fleets import track_config
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.split import is_held_out, vessel_digest

CARD = {"vessels": vessel_digest([1]), "generation": {"step_s": 300.0, "steps": 12, "unit_kn": 0.3}}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """120 vessels for six hours, of which about a tenth are held out by their identities."""
    found = make_fleet(3, vessels=120, hours=6.2, interval_s=120.0, defects={})
    path = tmp_path_factory.mktemp("fleet") / "fleet.parquet"
    found.fixes.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(1)
    net = TrackDenoiser(track_config(width=16, heads=2, layers=1))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_track_checkpoint(net.eval(), path, card=CARD)
    return path


def settings(**changes):
    usual = {"guidance": (1.0, 2.0), "hours": 1.0, "step_s": 300.0, "max_tracks": 60, "max_train": 500, "copies": 2}
    return GenerationSettings.parse({**usual, "copy_starts": 3, **changes})


@pytest.fixture(scope="module")
def few_are_enough():
    """Classes of a small fleet are small; tracks that are drawn again and again take time."""
    from geodiff.tasks import evaluate_generate_accuracy as accuracy
    from geodiff.tasks import evaluate_generate_classifier as classifier
    from geodiff.tasks import track_generate_stretches

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "EPOCHS", 60)
        patch.setattr(track_generate_stretches, "TRIES", 2)
        for name, value in {"FEWEST_TEST": 4, "FEWEST_VESSELS": 1, "FEWEST_LEARNED": 8}.items():
            patch.setattr(accuracy, name, value)
        yield


@pytest.fixture(scope="module")
def found(fleet, weights, few_are_enough, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    report, page = evaluate_generation([fleet], str(weights), out, settings())
    return out, report, page


def test_the_report_has_every_generator_beside_the_real_tracks(found):
    out, report, page = found
    assert json.loads((out / "report.json").read_text())["generators"].keys() == report["generators"].keys()
    assert list(report["generators"]) == ["tiny 1", "tiny 2", "constant_motion", "random_walk"]
    assert report["asked"]["step_s"] == 300
    real = report["real"]["accuracy"]["behaviour"]
    assert real["ratio"]["mean"] == pytest.approx(1)
    assert real["accuracy"]["mean"] > real["chance"] + 0.2
    for row in report["generators"].values():
        for cell in row["accuracy"].values():
            assert 0 <= cell["accuracy"]["low"] <= cell["accuracy"]["high"] <= 1
            np.testing.assert_allclose(np.sum(cell["confusion"], 1), 1)
            assert cell["ratio"]["mean"] == pytest.approx(cell["accuracy"]["mean"] / cell["real"]["mean"])
        assert 0 <= row["divergence"]["all"]["speed_kn"]["jsd_bits"] <= 1
    text = page.read_text()
    assert text.count("data:image/png;base64,") >= 4
    assert "http" not in text


def test_a_constant_course_never_turns_and_an_untrained_network_is_told_from_real_tracks(found):
    _, report, _ = found
    rule, made = report["generators"]["constant_motion"], report["generators"]["tiny 1"]
    assert rule["too_sharp"] == 0
    speed = "divergence", "all", "speed_kn", "wasserstein"
    assert _at(made, *speed) > _at(rule, *speed)
    assert _at(report["real"], *speed) < _at(made, *speed)
    assert made["accuracy"]["behaviour"]["ratio"]["mean"] < 1
    assert made["too_fast"] == 0


def _at(row, *keys):
    for key in keys:
        row = row[key]
    return row


def test_a_killed_evaluation_resumes_and_a_strength_that_is_added_is_made_alone(found, fleet, weights, monkeypatch):
    out, report, _ = found
    asked = []
    grow = task.grow_tracks

    def counted(model, seeds, behaviour, settings):
        asked.append(settings.guidance)
        return grow(model, seeds, behaviour, settings)

    monkeypatch.setattr(task, "grow_tracks", counted)
    again, _ = evaluate_generation([fleet], str(weights), out, settings())
    assert asked == []
    assert again["generators"] == report["generators"]
    more, _ = evaluate_generation([fleet], str(weights), out, settings(guidance=(1.0, 2.0, 4.0)))
    assert set(asked) == {4.0}
    assert more["generators"]["tiny 2"] == report["generators"]["tiny 2"]


def test_what_cannot_be_evaluated_is_said(fleet, weights, tmp_path):
    with pytest.raises(UsageError, match="hermite: this rule makes no tracks"):
        evaluate_generation([fleet], "hermite", tmp_path, settings())
    with pytest.raises(GeodiffError, match="no track goes on for 24 h"):
        evaluate_generation([fleet], str(weights), tmp_path, settings(hours=24.0, step_s=3600.0))
    with pytest.raises(UsageError, match="six steps"):
        evaluate_generation([fleet], str(weights), tmp_path, settings(hours=1.0, step_s=1200.0))
    with pytest.raises(UsageError, match="guidance"):
        evaluate_generation([fleet], str(weights), tmp_path, settings(guidance=(1.0, 1.0)))
    still = make_fleet(3, vessels=60, hours=2.1, interval_s=120.0, behaviours=("moored",), defects={}).fixes
    still.write_parquet(tmp_path / "still.parquet")
    with pytest.raises(GeodiffError, match="windows of vessels held out lie still"):
        evaluate_generation([tmp_path / "still.parquet"], str(weights), tmp_path / "still", settings())
    assert not (tmp_path / "still").exists()


def test_one_vessel_held_out_has_no_divergence_and_still_a_page(fleet, weights, few_are_enough, tmp_path):
    fixes = pl.read_parquet(fleet)
    moving = fixes.group_by("vessel_id").agg(pl.col("sog_kn").mean().alias("fast")).filter(pl.col("fast") > 4)
    held = np.sort(moving["vessel_id"].to_numpy()[is_held_out(moving["vessel_id"].to_numpy())])
    kept = fixes.filter(~pl.Series(is_held_out(fixes["vessel_id"].to_numpy())) | (pl.col("vessel_id") == held[0]))
    kept.write_parquet(tmp_path / "one.parquet")
    report, page = evaluate_generation([tmp_path / "one.parquet"], str(weights), tmp_path / "out", settings())
    assert page.is_file()
    assert all(row[3] == "-" for row in headline(report))


def test_a_model_is_not_asked_about_vessels_of_its_training(fleet, weights, tmp_path):
    net, card = load_contender(str(weights)).model.net, {}
    ids = pl.read_parquet(fleet)["vessel_id"].unique().to_numpy()
    card["vessels"] = vessel_digest(ids)
    path = tmp_path / "seen.safetensors"
    save_track_checkpoint(net, path, card=card)
    with pytest.raises(GeodiffError, match=r"trained on .* held out"):
        evaluate_generation([fleet], str(path), tmp_path, settings())


def test_the_command_runs_and_refuses(fleet, weights, tmp_path, few_are_enough):
    words = ["evaluate", "vessels", "--task", "generate", "--data", str(fleet), "--model", str(weights)]
    words += ["--out", str(tmp_path), "--hours", "1", "--step", "600", "--max-tracks", "20", "--max-train", "100"]
    shown = CliRunner().invoke(app, [*words, "--guidance", "1.5", "--no-history"])
    assert shown.exit_code == 0, shown.output
    assert "random_walk" in shown.output
    assert (tmp_path / "report.html").is_file()
    refused = CliRunner().invoke(app, [*words, "--guidance", "strong"])
    assert "--guidance strong" in str(refused.exception) + refused.output
