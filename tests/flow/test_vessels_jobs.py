"""Jobs over tracks through the command line: their files, resuming, other workers and parts, and input that is bad."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import polars as pl
import pystac
import pytest
import torch
import zarr
from numpy.testing import assert_allclose
from polars.testing import assert_frame_equal
from typer.testing import Result

import geodiff as api
from geodiff.cli.vessels_options import reading
from geodiff.model.track_checkpoint import save_track_checkpoint
from geodiff.model.tracks import TrackDenoiser
from geodiff.outputs.track_item import build_track_item
from geodiff.outputs.track_parquet import provenance_of
from geodiff.schema import UsageError
from geodiff.tasks import vessels_publish, vessels_run
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.vessels_job import TrackJob
from geodiff.tasks.vessels_plan import make_plan
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import CleanSettings, ImputeSettings
from geodiff.testing.tracks import make_fleet

POOL = Pool()
Cli = Callable[..., Result]

HEADER = "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,Cargo"
LINE = "368084090,2020-01-01T00:{:02d}:00,29.9{:03d},-89.9,5.0,90.0,90.0,A,,B,70,0,10,5,2,"


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet with defects and gaps as a CSV file."""
    path = tmp_path_factory.mktemp("day") / "day.csv"
    fixes = make_fleet(11, vessels=10, hours=4.0).fixes
    silent = (pl.col("vessel_id") % 3 == 0) & pl.col("time").dt.hour().is_between(1, 2)
    fixes.filter(~silent).write_csv(path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = TrackDenoiser(track_config(width=16, heads=2, layers=2))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_track_checkpoint(model.eval(), path, {"generation": {"step_s": 300.0, "steps": 24, "unit_kn": 0.3}})
    return path


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def items(out: Path) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(out / "catalog.json")).get_items(recursive=True))


def fixes_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(summary(out)["files"]["fixes"])


def test_clean_writes_its_files_and_a_rerun_finds_them(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = geodiff("vessels", "clean", day, "--out", out)
    assert first.exit_code == 0, first.output
    told = summary(out)
    table = fixes_of(out)
    counts = told["counts"]
    assert counts["kept"] + sum(counts["rejected"].values()) == len(table) == told["inputs"][0]["counts"]["kept"]
    assert set(told["files"]) == {"fixes", "tracks", "zarr", "map", "page", "summary", "stops"}
    assert all(Path(path).exists() for path in told["files"].values())
    assert counts["stops"] == pl.read_parquet(told["files"]["stops"]).height > 0
    assert gpd.read_parquet(told["files"]["tracks"]).crs == "EPSG:4326"
    (item,) = items(out)
    stops, facts = gpd.read_parquet(told["files"]["stops"]), item.assets["stops"].extra_fields
    assert stops.crs == "EPSG:4326"
    assert set(stops.geom_type) == {"Point"}
    assert_allclose(stops.geometry.x, stops["lon_deg"])
    assert facts.keys() == item.assets["fixes"].extra_fields.keys()
    assert facts["table:row_count"] == counts["stops"]
    assert facts["table:primary_geometry"] == "geometry"
    assert item.properties["geodiff:job"] == "clean"
    assert not list((out / "clean").glob("*.work"))
    assert "position jump" in first.stdout

    before = Path(told["files"]["fixes"]).stat().st_mtime_ns
    again = geodiff("vessels", "clean", day, "--out", out)
    assert again.exit_code == 0
    assert "finished already" in again.stdout
    assert Path(told["files"]["fixes"]).stat().st_mtime_ns == before


def test_jobs_follow_each_other(geodiff: Cli, day: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert geodiff("vessels", "clean", day, "--out", out).exit_code == 0
    cleaned = summary(out)["files"]["fixes"]
    imputed = geodiff("vessels", "impute", cleaned, "--out", out, "--model", weights, "--ensemble", 4, "--keep-members")
    assert imputed.exit_code == 0, imputed.output
    told = summary(out)
    assert told["counts"]["gaps: filled"] > 0
    assert told["counts"]["imputed"] == told["counts"]["imputed fixes"] > 0
    observed = fixes_of(out).filter(pl.col("state") == "observed").sort("track_id", "time")
    source = pl.read_parquet(cleaned).filter(pl.col("state") == "observed").sort("track_id", "time")
    assert_frame_equal(
        observed.select("vessel_id", "time", "lon_deg", "lat_deg"),
        source.select("vessel_id", "time", "lon_deg", "lat_deg"),
    )
    # What was imputed is nobody's observation: the next job does not see it.
    assert geodiff("vessels", "clean", told["files"]["fixes"], "--out", tmp_path / "again").exit_code == 0
    assert set(fixes_of(tmp_path / "again")["state"]) == {"observed"}
    assert len(items(out)) == 2


def test_a_forecast_and_generated_tracks(geodiff: Cli, day: Path, weights: Path, tmp_path: Path) -> None:
    land = tmp_path / "land.geojson"
    ring = [[-40, 30], [-31.5, 30], [-31.5, 50], [-40, 50], [-40, 30]]
    land.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    ahead = geodiff(
        "vessels", "forecast", day, "--out", tmp_path / "a", "--hours", 2, "--at", "2022-03-01T03:00",
        "--coastline", land, "--model", weights, "--ensemble", 4, "--history", day,
    )  # fmt: skip
    assert ahead.exit_code == 0, ahead.output
    counts = summary(tmp_path / "a")["counts"]
    assert counts["vessels: forecast"] > 0
    assert "members: rejected for land" in counts
    table = fixes_of(tmp_path / "a")
    observed = table.filter(pl.col("state") == "observed")
    assert observed["time"].max().isoformat() <= "2022-03-01T03:00:00+00:00"  # type: ignore[union-attr]
    assert table.filter(pl.col("state") == "forecast").height == counts["forecast"]

    words = ("--model", weights, "--count", 3, "--hours", 1, "--ship-type", 70, "--seed", 4)
    made = geodiff("vessels", "generate", "--out", tmp_path / "g", "--start", "-30,40", *words)
    assert made.exit_code == 0, made.output
    assert set(fixes_of(tmp_path / "g")["state"]) == {"generated"}
    assert summary(tmp_path / "g")["counts"]["tracks generated"] == 3
    told = {"model": str(weights), "count": 3, "hours": 1, "ship_type": 70, "seed": 4}
    frame = api.generate(start=(-30, 40), **told)
    assert frame["track_id"].tolist() == fixes_of(tmp_path / "g")["track_id"].to_list()
    assert_allclose(frame.geometry.x, fixes_of(tmp_path / "g")["lon_deg"], atol=1e-7)
    partial = frame[frame["track_id"] == frame["track_id"].iloc[0]].assign(state="observed")
    longer = api.generate(partial, **told)
    assert longer["track_id"].nunique() == 3
    assert longer["time"].min() == partial["time"].max()
    for wrong in ({}, {"partial": partial, "start": (-30, 40)}):
        with pytest.raises(UsageError, match="either start or partial"):
            api.generate(**wrong, **told)
    on = geodiff("vessels", "generate", day, "--out", tmp_path / "p", *words)
    assert on.exit_code == 0, on.output
    assert summary(tmp_path / "p")["counts"]["tracks generated"] % 3 == 0
    neither = geodiff("vessels", "generate", "--out", tmp_path / "x", *words)
    assert neither.exit_code == 2
    assert "--start" in neither.stderr
    rule = geodiff("vessels", "generate", "--out", tmp_path / "y", "--start", "-30,40", "--model", "linear")
    assert rule.exit_code == 2
    assert "cannot generate" in rule.stderr
    for word, value in (("--hours", "nan"), ("--hours", "inf"), ("--step", "nan"), ("--guidance", "inf")):
        odd = geodiff("vessels", "generate", "--out", tmp_path / "z", "--start", "-30,40", word, value)
        assert odd.exit_code == 2
        assert word.strip("-") in odd.stderr
    assert not [path for name in "xyz" for path in (tmp_path / name).rglob("*.work")]


def test_scores_have_p_values_and_reasons(geodiff: Cli, tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    make_fleet(2, vessels=90, hours=2.0, interval_s=120.0, defects={}).fixes.write_csv(path)
    done = geodiff("vessels", "score", path, "--out", tmp_path / "out", "--alpha", 0.1, "--ensemble", 0)
    assert done.exit_code == 0, done.output
    table, told = fixes_of(tmp_path / "out"), summary(tmp_path / "out")
    flagged = table.filter("anomalous")
    assert len(flagged) == told["counts"]["fixes flagged"] > 0
    assert flagged["reason"].null_count() == 0
    assert (flagged["p_value"] <= 0.1).all()
    # Sound vessels compared with sound vessels; so few of them tell rates on the safe side.
    assert len(flagged) / table["p_value"].count() < 0.2
    scores = pl.read_parquet(told["files"]["scores"])
    assert scores["track_id"].n_unique() == table["track_id"].n_unique()
    facts = items(tmp_path / "out")[0].assets["scores"].extra_fields
    assert facts["file:size"] == Path(told["files"]["scores"]).stat().st_size
    assert facts.keys() == {"table:columns", "table:row_count", "file:size", "file:checksum"}
    few = geodiff("vessels", "score", path, "--out", tmp_path / "few", "--alpha", 0.0001, "--ensemble", 0)
    assert few.exit_code == 2
    assert "finer than" in few.stderr
    # Where no rate is asked for, it is the least that so few vessels tell, and said.
    usual = geodiff("vessels", "score", path, "--out", tmp_path / "usual", "--ensemble", 0)
    assert usual.exit_code == 0, usual.output
    (note,) = [line for line in summary(tmp_path / "usual")["notes"] if "false-alarm rate" in line]
    rate = float(note.split("rate of ")[1].split(":")[0])
    assert 0.01 < rate < 0.1
    for name, alpha in (("usual", rate), ("out", 0.1)):
        (item,) = items(tmp_path / name)
        assert item.properties["geodiff:alpha"] == summary(tmp_path / name)["alpha"] == alpha
        for key in ("fixes", "tracks", "scores"):
            assert provenance_of(Path(summary(tmp_path / name)["files"][key]))["geodiff:alpha"] == alpha
        root = zarr.open_group(summary(tmp_path / name)["files"]["zarr"], mode="r")
        assert json.loads(str(root.attrs["geodiff:provenance"]))["geodiff:alpha"] == alpha
    table = fixes_of(tmp_path / "usual")
    assert table.select(((pl.col("p_value") <= rate) == pl.col("anomalous")).all()).item()


def test_a_score_of_too_few_vessels_leaves_nothing(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "out", tmp_path / "mine"):
        few = geodiff("vessels", "score", day, "--out", out)
        assert few.exit_code == 2
        assert "too few" in few.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_points_become_tracks_without_a_look_at_their_identity(geodiff: Cli, tmp_path: Path) -> None:
    fixes = make_fleet(7, vessels=5, hours=2.0, behaviours=["transit"], defects={}).fixes
    fixes.write_csv(tmp_path / "plots.csv")
    done = geodiff("vessels", "associate", tmp_path / "plots.csv", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    table = fixes_of(tmp_path / "out").join(fixes.select("row", pl.col("vessel_id").alias("truth")), on="row")
    assert len(table) == len(fixes)
    best = table.group_by("track_id", "truth").len().group_by("track_id").agg(pl.col("len").max(), pl.len().alias("n"))
    assert best["len"].sum() / len(fixes) > 0.95
    wrong = tmp_path / "settings.yaml"
    wrong.write_text("postion_m: 3\n")
    bad = geodiff("vessels", "associate", tmp_path / "plots.csv", "--out", tmp_path / "b", "--settings", wrong)
    assert bad.exit_code == 2
    assert "position_m" in bad.stderr


def digests(folder: Path) -> dict[str, str]:
    """Of the data of a run: all but what states times."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    kept = [path for path in files if path.suffix != ".json" or ".zarr" in str(path)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_the_time_of_a_run_is_that_of_its_maps_too(day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def maps(job: TrackJob, progress: Any) -> tuple[None, None]:
        clock[0] += 50.0
        return None, None

    def published(*args: Any, **kwargs: Any) -> pystac.Item:
        clock[0] += 7.0
        return build_track_item(*args, **kwargs)

    monkeypatch.setattr(vessels_run, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(vessels_publish, "_maps", maps)
    monkeypatch.setattr(vessels_publish, "build_track_item", published)
    run_tracks(make_plan("clean", [day], CleanSettings(), tmp_path), pool=POOL, progress=lambda *_: None)
    assert summary(tmp_path)["seconds"] == 57.0


class Stop(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("stage", ["read rows", "impute", "write", "maps"])
def test_a_run_that_was_cut_short_ends_with_the_same_bytes(
    day: Path, weights: Path, tmp_path: Path, stage: str, whole: dict[str, str]
) -> None:
    out = tmp_path / "out"
    seen = 0

    def cut(name: str, done: int, total: int | None) -> None:
        nonlocal seen
        seen += name == stage and done > 0
        if seen == 2 or (seen == 1 and stage in ("read rows", "maps")):
            raise Stop

    with pytest.raises(Stop):
        _impute(day, weights, out, progress=cut)
    assert not (out / "catalog.json").exists()
    outcome = _impute(day, weights, out)
    assert not outcome.resumed
    assert digests(out) == whole
    assert _impute(day, weights, out).resumed


def _impute(
    day: Path, weights: Path | str, out: Path, *, parts: int = 3, pool: Pool = POOL, progress: Any = None
) -> Any:
    settings = ImputeSettings(model=str(weights), ensemble=4)
    plan = make_plan("impute", [day], settings, out, parts=parts)
    with pytest.MonkeyPatch.context() as patch:  # maps take longer than all else here
        patch.setattr(vessels_publish, "_maps", no_maps)
        return run_tracks(plan, pool=pool, progress=progress or (lambda *_: None))


def no_maps(job: TrackJob, progress: Any) -> tuple[None, None]:
    progress("maps", 1, 2)
    return None, None


@pytest.fixture(scope="module")
def whole(day: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    _impute(day, weights, out)
    return digests(out)


def test_threads_do_not_change_a_byte(day: Path, weights: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    _impute(day, weights, tmp_path, pool=Pool(3, "threads"))
    assert digests(tmp_path) == whole


def test_processes_do_not_change_a_byte(day: Path, tmp_path: Path) -> None:
    _impute(day, "kalman", tmp_path / "here")
    _impute(day, "kalman", tmp_path / "there", pool=Pool(1, "processes"))
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def test_parts_do_not_change_a_value(day: Path, weights: Path, tmp_path: Path) -> None:
    tables = []
    for parts in (1, 5):
        _impute(day, weights, tmp_path / str(parts), parts=parts)
        tables.append(fixes_of(tmp_path / str(parts)).drop("geometry").sort("vessel_id", "time", "row", "track_id"))
    # How questions are batched moves sums of 32-bit numbers in their last digits.
    assert_frame_equal(*tables, rel_tol=0, abs_tol=1e-4)


def test_a_folder_in_which_others_write_is_left_alone(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    from geodiff.outputs.ledger import exclusive

    plan = make_plan("clean", [day], CleanSettings(), tmp_path / "out")
    with exclusive(plan.job.store.stem):
        busy = geodiff("vessels", "clean", day, "--out", tmp_path / "out")
    assert busy.exit_code == 1
    assert "another process" in busy.stderr


def test_one_fix_is_a_track(geodiff: Cli, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text(HEADER + "\n" + LINE.format(1, 1) + "\n")
    done = geodiff("vessels", "clean", path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert summary(tmp_path / "out")["counts"]["tracks"] == 1


def test_workers_of_a_cluster_are_named_when_out_of_reach(
    geodiff: Cli, day: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("geodiff.tasks.cluster.SCHEDULER_TIMEOUT_S", 0.5)
    result = geodiff("vessels", "clean", day, "--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert not (tmp_path / "out" / "catalog.json").exists()


def test_a_vessel_that_leaves_the_region_has_no_gap(geodiff: Cli, tmp_path: Path) -> None:
    """Out of the box and back, heard every minute: nothing is imputed, and nothing outside is kept."""
    minutes = range(120)
    rows = [LINE.format(m % 60, 0).replace("T00", f"T{m // 60:02d}") for m in minutes]
    lon = [-89.9 + 0.002 * min(m, 119 - m) for m in minutes]
    day = tmp_path / "loop.csv"
    told = [row.replace("-89.9,", f"{x:.4f},", 1) for row, x in zip(rows, lon, strict=True)]
    day.write_text("\n".join([HEADER, *told]) + "\n")
    words = ("--model", "hermite", "--bbox", -90, 29, -89.85, 31)
    done = geodiff("vessels", "impute", day, "--out", tmp_path / "out", *words)
    assert done.exit_code == 0, done.output
    counts, table = summary(tmp_path / "out")["counts"], fixes_of(tmp_path / "out")
    assert counts["gaps: outside the region"] == counts["gaps"] == 1
    assert counts["imputed"] == 0
    assert len(table) == sum(x <= -89.85 for x in lon) < len(lon) == counts["outside"] + len(table)
    assert table["lon_deg"].max() <= -89.85  # type: ignore[operator]


def test_the_item_tells_what_the_files_hold(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    done = geodiff("vessels", "impute", day, "--out", tmp_path / "out", "--model", "hermite")
    assert done.exit_code == 0, done.output
    (item,) = items(tmp_path / "out")
    told, table = item.properties["geodiff:counts"], fixes_of(tmp_path / "out")
    states = dict(table.group_by("state").len().iter_rows())
    assert states["rejected"] > 0
    rejected = dict(table.filter(pl.col("state") == "rejected").group_by("reason").len().iter_rows())
    assert {**told, "rejected": sum(told["rejected"].values())}.items() >= states.items()
    assert told["rejected"] == summary(tmp_path / "out")["counts"]["rejected"] == rejected
    assert item.properties["geodiff:ensemble"] == 0, "a rule draws no members"
    assert item.properties["processing:lineage"] == "impute by hermite"
    tracks = gpd.read_parquet(item.assets["tracks"].get_absolute_href())
    assert (tracks.total_bounds[::2] <= 180).all()


def test_the_layout_of_the_input_is_that_of_its_past(geodiff: Cli, weights: Path, tmp_path: Path) -> None:
    layout = tmp_path / "map.yaml"
    layout.write_text("columns:\n  vessel_id: ship\n  time: when\n  lon_deg: x\n  lat_deg: y\n")
    fixes = make_fleet(3, vessels=3, hours=2.0, defects={}).fixes
    odd = fixes.select(ship="vessel_id", when="time", x="lon_deg", y="lat_deg")
    odd.write_csv(tmp_path / "odd.csv")
    fixes.write_csv(tmp_path / "usual.csv")
    past = ("--history", tmp_path / "odd.csv", "--history", tmp_path / "usual.csv")
    words = ("--layout", layout, "--hours", 1, "--model", weights, "--ensemble", 2, *past)
    done = geodiff("vessels", "forecast", tmp_path / "odd.csv", "--out", tmp_path / "out", *words)
    assert done.exit_code == 0, done.output


def test_a_region_cut_at_180_degrees_is_its_two_sides(tmp_path: Path) -> None:
    sides = [[[[w, -18], [e, -18], [e, -16], [w, -16], [w, -18]]] for w, e in ((179, 180), (-180, -179))]
    region = tmp_path / "fiji.geojson"
    region.write_text(json.dumps({"type": "MultiPolygon", "coordinates": sides}))
    assert reading(None, None, None, None, region, None)["bbox"] == (179.0, -18.0, -179.0, -16.0)


@pytest.mark.parametrize("damage", ["map", "summary", "stops", "zarr"])
def test_a_run_of_which_files_are_gone_is_completed(geodiff: Cli, day: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    assert geodiff("vessels", "clean", day, "--out", out).exit_code == 0
    whole, files = digests(out), summary(out)["files"]
    path = Path(files[damage])
    if damage == "zarr":
        path = next((path / "lat_deg").rglob("0"))
    stamp = Path(files["fixes"]).stat().st_mtime_ns
    path.unlink()
    again = geodiff("vessels", "clean", day, "--out", out)
    assert again.exit_code == 0, again.output
    assert "finished already" not in again.stdout
    assert digests(out) == whole
    assert (Path(files["fixes"]).stat().st_mtime_ns == stamp) == (damage == "map")
    assert "finished already" in geodiff("vessels", "clean", day, "--out", out).stdout
