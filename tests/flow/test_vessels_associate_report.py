"""The report of association from a file to JSON and a page, by the function that the command line calls."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from geodiff.cli.evaluate_association import associate_report
from geodiff.schema import UsageError
from geodiff.sphere import from_local_km
from geodiff.tasks import evaluate_association
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


def test_a_switch_is_a_target_whose_next_track_is_another(monkeypatch):
    """A target that goes 5 m a second, by two tracks with ten unseen seconds between them."""
    seconds = np.r_[np.arange(0, 61, 10), np.arange(70, 121, 10)]
    lon, lat = from_local_km(seconds * 0.005, np.zeros(len(seconds)), 10.0, 50.0)
    time = pl.Series(seconds * 1_000_000).cast(pl.Datetime("us", "UTC"))
    truth = pl.DataFrame({"time": time, "lon_deg": lon, "lat_deg": lat, "vessel_id": [7] * len(seconds)})
    for split, switches in ((65, 1), (1000, 0)):
        track = pl.Series("track_id", np.where(seconds < split, "a", "b"))
        monkeypatch.setitem(
            evaluate_association.METHODS, "made", lambda fixes, _, track=track: fixes.with_columns(track)
        )
        plots = truth.drop("vessel_id")
        figures, _ = score_targets(plots, truth, AssociateSettings(), TargetRules(), methods=("made",))
        found = figures["made"]
        assert (found["switches"], found["tracks"], found["scans"]) == (switches, 1 + switches, 13)
        assert (found["missed_per_scan"], found["false_per_scan"]) == (0, 0)


def test_plots_at_rest_and_under_way_are_also_scored_apart_in_the_order_of_time(monkeypatch):
    """Of which one reports no speed. Two vessels; a track of its own for each plot of the second while it lies."""
    speed = [0.2] * 5 + [9.0] * 5 + [None]
    table = pl.DataFrame(
        {
            "time": pl.Series(np.tile(np.arange(11), 2) * 60_000_000).cast(pl.Datetime("us", "UTC")),
            "lon_deg": np.repeat([1.0, 2.0], 11),
            "lat_deg": np.repeat([1.0, 2.0], 11),
            "sog_kn": speed * 2,
            "vessel_id": np.repeat([1, 2], 11),
        }
    )

    def made(fixes, _):
        assert "vessel_id" not in fixes.columns
        assert fixes["time"].is_sorted()
        own = pl.format("b{}", pl.col("time").dt.epoch("s")).alias("track_id")
        lies = (pl.col("lon_deg") > 1.5) & (pl.col("sog_kn") < 1)
        return fixes.with_columns(pl.when(lies).then(own).otherwise(pl.format("{}", "lon_deg")).alias("track_id"))

    monkeypatch.setitem(evaluate_association.METHODS, "made", made)
    figures, _ = score_identities(table, AssociateSettings(), methods=("made",))
    found = figures["made"]
    assert {part: found[part]["plots"] for part in ("all", "at rest", "under way")} == {
        "all": 22,
        "at rest": 10,
        "under way": 10,
    }
    assert (found["at rest"]["switches"], found["under way"]["switches"], found["all"]["switches"]) == (4, 0, 5)
    assert found["at rest"]["completeness"] == pytest.approx(0.6)


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
