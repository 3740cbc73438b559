"""``score --bbox``: a vessel that leaves the region and comes back has not fallen silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from geodiff.testing.tracks import make_fleet

if TYPE_CHECKING:
    from tests.flow.test_vessels_jobs import Cli


def test_a_vessel_that_leaves_the_region_is_not_scored_as_silent(geodiff: Cli, tmp_path: Path) -> None:
    fleet = make_fleet(2, vessels=90, hours=2.0, interval_s=120.0, defects={}).fixes
    # The fastest vessel leaves to the north for forty minutes in the midst of its track, from just below the border.
    number = fleet.group_by("vessel_id").agg(pl.col("sog_kn").median()).sort("sog_kn")["vessel_id"][-1]
    mine = fleet.filter(pl.col("vessel_id") == number).sort("time")
    away = np.zeros(len(mine), bool)
    away[20:40] = True
    north = float(fleet["lat_deg"].max() or 0.0) + 0.5  # type: ignore[arg-type]
    near = north - 0.005 - (pl.col("lat_deg") - mine["lat_deg"][19]).abs()
    gone = mine.with_columns(pl.when(pl.Series(away)).then(north + 0.01).otherwise(near).alias("lat_deg"))
    path = tmp_path / "fleet.csv"
    pl.concat([fleet.filter(pl.col("vessel_id") != number), gone]).write_csv(path)
    words = ("--bbox", -180, -90, 180, north, "--out", tmp_path)
    done = geodiff("vessels", "score", path, *words, "--alpha", 0.1, "--ensemble", 0)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads((tmp_path / "summary.json").read_text())
    table = pl.read_parquet(told["files"]["fixes"])
    its = table.filter(pl.col("vessel_id") == number).sort("time")
    assert len(its) == len(mine) - 20
    assert its["reason"].drop_nulls().str.contains(r"silent for 4\d min").sum() == 0
    # Its track is that of the other jobs, and a single line.
    plain = geodiff("vessels", "clean", path, *words)
    assert plain.exit_code == 0, plain.output
    cleaned = pl.read_parquet(json.loads((tmp_path / "summary.json").read_text())["files"]["fixes"])
    assert set(table["track_id"]) == set(cleaned["track_id"])
    scores = pl.read_parquet(told["files"]["scores"])
    assert sorted(scores["track_id"]) == sorted(set(table["track_id"].drop_nulls()))
    assert "heard_elsewhere" not in table.columns
