"""The report of association from a file to JSON and a page, by the function that the command line calls."""

from __future__ import annotations

import json

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from geodiff.cli.evaluate_association import associate_report
from geodiff.schema import UsageError
from geodiff.tasks.evaluate_association import TargetRules, score_identities, score_targets
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import LON, SOG, TIME, VESSEL_ID
from geodiff.vessels.associate import RADAR, AssociateSettings

app = typer.Typer()
app.command()(associate_report)


@pytest.fixture(scope="module")
def fleet() -> pl.DataFrame:
    return make_fleet(2, 5, 1.0, defects={}, behaviours=("transit", "moored")).fixes


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_identities_are_taken_off_and_scored(fleet, tmp_path):
    fleet.write_parquet(tmp_path / "fixes.parquet")
    done = run("--data", tmp_path / "fixes.parquet", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out" / "association.json").read_text())
    assert set(report["methods"]) == {"linking", "gnn", "nearest"}
    assert report["methods"]["linking"]["all"]["purity"] == 1.0
    assert report["methods"]["linking"]["all"]["vessels"] == 5
    assert report["settings"] == AssociateSettings().model_dump(mode="json")
    page = (tmp_path / "out" / "association.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page.split("base64,")[0]  # needs nothing from elsewhere


def test_several_scenes_are_refused_rather_than_the_first_ones_ignored(fleet, tmp_path):
    fleet.write_parquet(tmp_path / "fixes.parquet")
    twice = ("--data", tmp_path / "fixes.parquet") * 2
    done = run(*twice, "--out", tmp_path / "out")
    assert isinstance(done.exception, UsageError)
    assert "one scene" in str(done.exception)


def test_targets_of_known_place_are_compared_at_every_scan(fleet):
    # A radar that sees each of the vessels under way at every truth: no error, nothing missed, nothing false.
    moving = fleet.filter(pl.col(SOG) > 2).with_columns(pl.col(TIME).dt.truncate("1m")).unique([VESSEL_ID, TIME])
    plots = moving.select(TIME, LON, "lat_deg", SOG, "cog_deg")
    settings = AssociateSettings(position_m=100.0, clock_s=30.0, report_s=60.0)
    figures, _ = score_targets(plots, moving, settings, TargetRules(), methods=("linking",))
    found = figures["linking"]
    assert found["missed_per_scan"] < 0.02
    assert found["false_per_scan"] == 0
    assert found["localisation_error_m"] < 1e-6
    later = moving.with_columns(pl.col(TIME) + pl.duration(days=1))
    with pytest.raises(UsageError, match="no scan falls into the time"):
        score_targets(plots, later, RADAR, TargetRules())


def test_without_identities_there_is_nothing_to_score(fleet):
    with pytest.raises(UsageError, match="no fix has an identity"):
        score_identities(fleet.with_columns(pl.lit(None, pl.Int64).alias(VESSEL_ID)), AssociateSettings())


def test_wrong_options_are_named(fleet, tmp_path):
    fleet.write_parquet(tmp_path / "fixes.parquet")
    words = ("--data", tmp_path / "fixes.parquet", "--out", tmp_path)
    assert "'ais' or 'radar'" in str(run(*words, "--sensor", "sonar").exception)
    (tmp_path / "s.yaml").write_text("berth: 3\n")
    assert "berth" in str(run(*words, "--settings", tmp_path / "s.yaml").exception)
    assert "longitude,latitude" in str(run(*words, "--position", "here").exception)
    assert "longitude,latitude" in str(run(*words, "--position", "1,2,3,4").exception)
    assert "valid number" in str(run(*words, "--position", "here,there").exception)


def test_hampton_roads_is_pure_enough(geodiff_data):
    from geodiff.vessels.read import read_fixes

    folder = geodiff_data / "ais" / "hampton_roads_association"
    for number in (1, 2, 3):
        fixes, _ = read_fixes(folder / f"set{number}.parquet", date="2020-01-01", truth=True)
        figures, _ = score_identities(fixes, AssociateSettings(), methods=("linking",))
        assert figures["linking"]["all"]["purity"] >= 0.9
        assert figures["linking"]["all"]["completeness"] >= 0.7
