"""The vessels' half of the demonstration, on the fleet that it draws where there are no real data."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from geodiff.tasks import demo_vessels


def test_the_demo_of_vessels_works_without_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_vessels, "data_dir", lambda: None)
    monkeypatch.setattr(demo_vessels, "MOST_CASES", 24)
    stages = set()
    found = demo_vessels.run_vessels_demo(tmp_path, workers=1, progress=lambda stage, *_: stages.add(stage))
    assert found.data.startswith("synthetic")
    assert stages
    assert set(found.summaries) == {"impute", "forecast", "score"}
    for kind, summary in found.summaries.items():
        files = {name: Path(path) for name, path in summary["files"].items()}
        assert all(path.exists() for path in files.values())
        states = pl.read_parquet(files["fixes"])["state"].value_counts()
        made = {"impute": "imputed", "forecast": "forecast", "score": "observed"}[kind]
        assert dict(states.rows())[made] > 100
        assert summary["counts"]["rejected"]["base station"] > 0
    for outcome, reference in ((found.gaps, "hermite"), (found.forecasts, "dead_reckoning")):
        models = json.loads(outcome.figures.read_text())["models"]
        assert {"ais", reference} <= set(models)
        assert outcome.page.is_file()
        assert len(outcome.header) > 2
    again = demo_vessels.run_vessels_demo(tmp_path, workers=1, progress=lambda *_: None)
    assert {kind: each["run_id"] for kind, each in again.summaries.items()} == {
        kind: each["run_id"] for kind, each in found.summaries.items()
    }
