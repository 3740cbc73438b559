"""Points without an identity: who says what to do with them, and what the jobs make of them once they are tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import polars as pl
import pytest
from typer.testing import Result

import geodiff as api
from geodiff.schema import GeodiffError
from geodiff.tasks.vessels_own import OwnReader, identified_by_track
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.convert import to_geodataframe

Cli = Callable[..., Result]
MAP = "columns: {time: time, lon_deg: lon_deg, lat_deg: lat_deg, sog_kn: sog_kn, cog_deg: cog_deg}\n"


@pytest.fixture(scope="module")
def points() -> pl.DataFrame:
    """Two vessels far from each other, each silent for an hour."""
    fixes = make_fleet(3, vessels=2, hours=3.0, behaviours=("transit",), defects={}).fixes
    return fixes.filter(~pl.col("time").dt.hour().is_in([1])).with_columns(pl.lit(None, pl.Int64).alias("vessel_id"))


@pytest.fixture
def tracks(points: pl.DataFrame) -> pl.DataFrame:
    """The same as tracks without an identity, two of one name and beginning in each of two tables."""
    side = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("t1/20200101T000000")).otherwise(pl.lit("t2/x"))
    return points.with_columns(side.alias("track_id"), pl.lit("observed").alias("state"))


@pytest.mark.parametrize("job", ["clean", "forecast"])
def test_jobs_name_the_tool_for_anonymous_points(geodiff: Cli, points: pl.DataFrame, tmp_path: Path, job: str) -> None:
    (tmp_path / "map.yaml").write_text(MAP)
    points.drop("vessel_id").write_csv(tmp_path / "points.csv")
    result = geodiff(
        "vessels", job, tmp_path / "points.csv", "--layout", tmp_path / "map.yaml", "--out", tmp_path / "o"
    )
    assert result.exit_code == 1
    assert f"points.csv: none of {len(points):,} fixes is left: {len(points)} no identity" in result.stderr
    assert "geodiff vessels associate" in result.stderr


def test_notebooks_name_the_tool_too(points: pl.DataFrame) -> None:
    with pytest.raises(GeodiffError, match="geodiff vessels associate"):
        api.impute(to_geodataframe(points), model="hermite")


def test_each_anonymous_track_is_a_vessel(tracks: pl.DataFrame, tmp_path: Path) -> None:
    for name in ("a", "b"):
        tracks.write_parquet(tmp_path / name, metadata={"run": name})
    read = {name: pl.concat(OwnReader(tmp_path / name).batches(rows=50)) for name in ("a", "b")}
    for fixes in read.values():
        assert fixes["vessel_id"].null_count() == 0
        assert fixes.group_by("vessel_id", "name").len().height == 2
        assert fixes["vessel_id"].min() >= 1 << 62  # type: ignore[operator]
    # Another file has other vessels, whatever its tracks are called.
    assert not set(read["a"]["vessel_id"]) & set(read["b"]["vessel_id"])


def test_known_identities_stay(tracks: pl.DataFrame) -> None:
    half = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit(219_000_001, pl.Int64)).alias("vessel_id")
    tracks = tracks.with_columns(pl.lit("trip 1").alias("track_id"))
    named = identified_by_track(tracks.with_columns(half))
    assert named["vessel_id"].n_unique() == 2
    assert (named["vessel_id"] == 219_000_001).sum() == -(-len(tracks) // 2)
    known = tracks.with_columns(pl.lit(1, pl.Int64).alias("vessel_id"))
    assert identified_by_track(known).equals(known)


def test_tracks_of_association_outweigh_the_identities_of_their_points(tracks: pl.DataFrame) -> None:
    found = tracks.with_columns(
        pl.lit(219_000_001, pl.Int64).alias("vessel_id"), pl.lit("t1/20200101T000000").alias("track_id")
    )
    named = identified_by_track(found)["vessel_id"]
    assert named.n_unique() == 1
    assert named[0] >= 1 << 62


def test_tracks_of_anonymous_points_are_imputed_each_alone(points: pl.DataFrame) -> None:
    found = api.associate(to_geodataframe(points))
    assert found["track_id"].nunique() >= 2
    filled = api.impute(found, model="hermite", longest_h=2)
    assert isinstance(filled, gpd.GeoDataFrame)
    made = filled[filled["state"] == "imputed"]
    assert len(made) > 5
    # Were two tracks taken for one vessel, lines would lead from one to the other at impossible speeds.
    assert made["sog_kn"].max() < 60
