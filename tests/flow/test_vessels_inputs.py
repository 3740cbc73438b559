"""What jobs over tracks are given: tables of earlier jobs, empty files, folders, and options that would be ignored."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pystac
import pytest
import torch
from typer.testing import CliRunner, Result

import geodiff as api
from geodiff.cli import app
from geodiff.model.track_checkpoint import save_track_checkpoint
from geodiff.model.tracks import TrackDenoiser
from geodiff.outputs.track_parquet import provenance_of
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import distance_km
from geodiff.tasks import vessels_inputs, vessels_publish
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.vessels_context import store_traffic, traffic_of
from geodiff.tasks.vessels_inputs import count_parts, find_inputs
from geodiff.tasks.vessels_plan import Paths, make_plan
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import CleanSettings, GenerateSettings
from geodiff.testing.nmea import position, tagged
from geodiff.testing.tracks import make_fleet
from geodiff.vessels import partition
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.convert import to_geodataframe
from geodiff.vessels.read import open_fixes, read_fixes
from geodiff.vessels.usual_rules import Usual

Cli = Callable[..., Result]
HEADER = "MMSI,BaseDateTime,LAT,LON,SOG,COG\n"
CLOCK = "columns: {vessel_id: mmsi, time: {column: hms, formats: [time_of_day]}, lon_deg: lon, lat_deg: lat}\n"
LAND = {"type": "Polygon", "coordinates": [[[5, 5], [6, 5], [6, 6], [5, 6], [5, 5]]]}


@pytest.fixture(autouse=True)
def no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else here."""
    monkeypatch.setattr(vessels_publish, "_maps", lambda job, progress: (None, None))


def rows(count: int = 30, *, mmsi: int = 368084090, day: int = 1, lat: float = 29.0, north: float = 0.004) -> str:
    """A vessel that goes north, one fix a minute; about 14 knots."""
    lines = (f"{mmsi},2020-01-{day:02d}T00:{n:02d}:00,{lat + north * n:.5f},-89.9,14,0\n" for n in range(count))
    return "".join(lines)


def clock(count: int = 30) -> str:
    """The same with times of day."""
    return "mmsi,hms,lon,lat\n" + "".join(f"368084090,00:{n:02d}:00,-89.9,{29 + 0.004 * n:.5f}\n" for n in range(count))


@pytest.fixture
def day(tmp_path: Path) -> Path:
    path = tmp_path / "day.csv"
    path.write_text(HEADER + rows())
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = TrackDenoiser(track_config(width=16, heads=2, layers=2))
    save_track_checkpoint(model.eval(), path, {"generation": {"step_s": 300.0, "steps": 4, "unit_kn": 0.3}})
    return path


def told(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def done(result: Result, out: Path) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return told(out)


def refused(result: Result, code: int, *fragments: str) -> None:
    said = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == code, result.output
    for fragment in fragments:
        assert fragment in said[0]


def scrambled() -> pl.DataFrame:
    """Two vessels side by side, 4 km apart, whose identities change hands with every fix."""
    fixes = make_fleet(3, vessels=1, hours=2.0, behaviours=("transit",), defects={}, interval_s=60.0).fixes
    other = fixes.with_columns(pl.col("lat_deg") + 0.04, pl.col("time") + pl.duration(seconds=20))
    turn = pl.int_range(pl.len()) % 2
    both = [
        each.with_columns((366_100_001 + (turn + n) % 2).alias("vessel_id")) for n, each in enumerate((fixes, other))
    ]
    return pl.concat(both).sort("time").with_columns(pl.int_range(1, pl.len() + 1).alias("row"))


def longest_step_km(table: pl.DataFrame) -> float:
    kept = table.filter(pl.col("state") == "observed").sort("vessel_id", "time")
    steps = distance_km(
        *(kept[name].to_numpy()[at] for at in (slice(-1), slice(1, None)) for name in ("lon_deg", "lat_deg"))
    )
    same = kept["vessel_id"].to_numpy()[:-1] == kept["vessel_id"].to_numpy()[1:]
    return float(np.max(steps[same]))


def test_what_association_found_outlives_the_identities_of_its_input(geodiff: Cli, tmp_path: Path) -> None:
    scrambled().write_csv(tmp_path / "scrambled.csv")
    found = done(geodiff("vessels", "associate", tmp_path / "scrambled.csv", "--out", tmp_path / "a"), tmp_path / "a")
    tracks = pl.read_parquet(found["files"]["fixes"])
    assert tracks["vessel_id"].null_count() == 0
    assert tracks["track_id"].drop_nulls().n_unique() == 2
    words = ("vessels", "clean", found["files"]["fixes"], "--out", tmp_path / "c")
    table = pl.read_parquet(done(geodiff(*words), tmp_path / "c")["files"]["fixes"])
    assert (table["state"] == "observed").all()
    both = table.join(tracks.select("row", pl.col("track_id").alias("found")), on="row")
    assert both.group_by("vessel_id", "found").len().height == both["vessel_id"].n_unique() == 2
    assert longest_step_km(table) < 2


def test_points_of_which_some_or_all_tell_no_identity_are_associated(geodiff: Cli, tmp_path: Path) -> None:
    points, nobody = scrambled(), pl.lit(None, pl.Int64).alias("vessel_id")
    points.with_columns(nobody).write_parquet(tmp_path / "none.parquet")
    points.drop("vessel_id").write_csv(tmp_path / "absent.csv")
    half = pl.when(pl.int_range(pl.len()) % 3 > 0).then("vessel_id").alias("vessel_id")
    points.with_columns(half).write_csv(tmp_path / "some.csv")
    for name in ("none.parquet", "absent.csv", "some.csv"):
        out = tmp_path / Path(name).stem
        found = done(geodiff("vessels", "associate", tmp_path / name, "--out", out), out)
        tracks = pl.read_parquet(found["files"]["fixes"])
        assert len(tracks) == len(points)
        assert tracks["track_id"].null_count() == 0
        assert tracks["track_id"].n_unique() == 2
    # What is no identity is none, as in notebooks.
    odd = pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.lit(0)).otherwise(pl.lit(-7)).alias("vessel_id")
    points.with_columns(odd).write_csv(tmp_path / "odd.csv")
    found = done(geodiff("vessels", "associate", tmp_path / "odd.csv", "--out", tmp_path / "odd"), tmp_path / "odd")
    assert pl.read_parquet(found["files"]["fixes"])["vessel_id"].null_count() == len(points)
    # Who asks for vessels still needs to know them.
    words = ("vessels", "clean", tmp_path / "none.parquet", "--out", tmp_path / "c")
    refused(geodiff(*words), 1, "no identity")


def test_in_notebooks_too() -> None:
    filled = api.impute(api.associate(to_geodataframe(scrambled())), model="hermite", longest_h=2)
    assert filled.groupby("vessel_id")["track_id"].nunique().tolist() == [1, 1]
    assert filled["vessel_id"].min() >= 1 << 62
    again = api.clean(api.associate(to_geodataframe(scrambled())))
    assert again.groupby("vessel_id")["track_id"].nunique().tolist() == [1, 1]


def test_a_plot_without_a_place_is_rejected_in_notebooks_as_well() -> None:
    plots = scrambled()
    lost = plots.with_columns(pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("lon_deg").alias("lon_deg"))
    found = api.associate(to_geodataframe(lost))
    assert len(found) == len(plots)
    assert found["reason"].dropna().tolist() == ["no position"]
    assert found["track_id"].nunique() == 2


def test_partial_tracks_begin_where_they_end() -> None:
    with pytest.raises(UsageError, match="start_time"):
        api.generate(to_geodataframe(scrambled()), start_time=datetime(2024, 6, 1, tzinfo=UTC))


def test_anonymous_tracks_do_not_say_how_another_input_numbers_its_vessels(geodiff: Cli, tmp_path: Path) -> None:
    (tmp_path / "base.csv").write_text(HEADER + rows() + rows(mmsi=3660001, lat=40, north=0.0))
    points = scrambled().with_columns(pl.lit(None, pl.Int64).alias("vessel_id"))
    points.with_columns(
        pl.lit("t1/20200101T000000").alias("track_id"), pl.lit("observed").alias("state")
    ).write_parquet(tmp_path / "tracks.parquet")
    words = ("vessels", "clean", tmp_path / "base.csv", tmp_path / "tracks.parquet", "--out", tmp_path / "o")
    assert done(geodiff(*words), tmp_path / "o")["counts"]["rejected"]["base station"] == 30
    # A source of long numbers of its own is not judged as MMSI, whoever reads tracks with it.
    own = scrambled().with_columns(pl.col("vessel_id") * 1000)
    assert Usual.of([own]).own_numbers
    assert not Usual.of([points.with_columns(pl.lit(1 << 62).alias("vessel_id"))]).own_numbers


def test_a_run_killed_before_its_item_keeps_its_tables(
    day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> dict[str, Any]:
        plan = make_plan("clean", [day], CleanSettings(), out)
        return run_tracks(plan, pool=Pool(1), progress=lambda *_: None).summary

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(vessels_publish, "publish_tracks", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    resumed = run(tmp_path / "cut")
    assert set(resumed["files"]) == set(whole["files"]) >= {"stops"}
    item = pystac.Item.from_file(resumed["item"])
    assert Path(str(item.assets["stops"].get_absolute_href())).exists()
    assert "tables" not in resumed.keys() | whole.keys() | told(tmp_path / "cut").keys() | run(tmp_path / "cut").keys()


def test_a_run_killed_while_it_clears_up_is_published_by_the_next(
    day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, **options: Any) -> None:
        if folder == plan.job.work:
            remove(folder / "fixes")
            raise KeyboardInterrupt
        remove(folder, **options)

    remove = shutil.rmtree
    plan = make_plan("clean", [day], CleanSettings(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run_tracks(plan, pool=Pool(1), progress=lambda *_: None)
    assert plan.job.store.is_final()
    assert plan.job.work.exists()
    assert Path(run_tracks(plan, pool=Pool(1), progress=lambda *_: None).summary["item"]).exists()
    assert not plan.job.work.exists()


def test_small_numbers_of_ones_own_are_not_judged_as_mmsi(geodiff: Cli, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "columns: {vessel_id: {column: MMSI, kind: number}, time: BaseDateTime, lon_deg: LON, lat_deg: LAT}\n"
    )
    (tmp_path / "own.csv").write_text(HEADER + rows(mmsi=1) + rows(mmsi=2, lat=30) + rows(mmsi=3, lat=31))
    words = ("--layout", tmp_path / "map.yaml", "--out", tmp_path / "o")
    counts = done(geodiff("vessels", "clean", tmp_path / "own.csv", *words), tmp_path / "o")["counts"]
    assert (counts["kept"], counts["tracks"]) == (90, 3)
    # One such number among MMSI is an error of its transponder, and sentences hold MMSI and nothing else.
    few = pl.concat([scrambled(), scrambled().head(9).with_columns(pl.lit(1, pl.Int64).alias("vessel_id"))])
    assert not Usual.of([few]).own_numbers
    spoken = scrambled().with_columns(pl.lit(1, pl.Int64).alias("vessel_id"), pl.lit("nmea:1").alias("source"))
    assert not Usual.of([spoken]).own_numbers


@pytest.mark.parametrize("missing", ["history", "input"])
def test_no_copy_of_standard_input_stays_where_another_file_is_missing(
    day: Path, tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, none = tmp_path / "o", tmp_path / "none.csv"
    more = [str(none)] if missing == "input" else [str(day), "--history", str(none)]
    words = ["vessels", "impute", "-", *more, "--out", str(out)]
    result = CliRunner().invoke(app, words, input=(position() + "\n").encode(), prog_name="geodiff")
    refused(result, 2, "none.csv: no such file")
    assert not list(out.glob(".stdin*"))


def test_past_tracks_of_generation_have_parts_of_their_own(
    day: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vessels_inputs, "ROWS_A_PART", 10)
    past = Paths(history=(day,))
    many = GenerateSettings(model=str(weights), count=200_000, start=(-89.9, 29.0))
    assert make_plan("generate", [], many, tmp_path, paths=past).job.history_parts > 1
    few = many.model_copy(update={"count": 2, "hours": 1.0})
    plan = make_plan("generate", [], few, tmp_path, paths=past)
    assert (plan.job.parts, plan.job.history_parts > 1) == (1, True)
    summary = run_tracks(plan, pool=Pool(1), progress=lambda *_: None).summary
    assert summary["history"][0]["counts"]["kept"] == 30


def test_what_decided_the_values_is_recorded(geodiff: Cli, day: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "past.csv").write_text(HEADER + rows(mmsi=368084091, lat=29.01))
    (tmp_path / "land.json").write_text(json.dumps(LAND))
    words = ("--model", weights, "--ensemble", 2, "--hours", 1)
    files = {"history": tmp_path / "past.csv", "coastline": tmp_path / "land.json"}
    given = [word for what, path in files.items() for word in (f"--{what}", path)]
    result = geodiff("vessels", "forecast", day, "--out", tmp_path / "o", *words, *given)
    found = done(result, tmp_path / "o")
    assert found["history"][0]["counts"]["kept"] == 30
    item = pystac.Item.from_file(found["item"])
    for what, path in files.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert [(one["href"], one["sha256"]) for one in found[what]] == [(str(path), digest)]
        assert item.properties[f"geodiff:{what}"][0]["file:checksum"] == "1220" + digest
        assert provenance_of(Path(found["files"]["fixes"]))[f"geodiff:{what}"] == [
            {"href": str(path), "sha256": digest}
        ]
    plain = done(geodiff("vessels", "clean", day, "--out", tmp_path / "p"), tmp_path / "p")
    assert not {"history", "coastline", "calibration"} & set(plain)


def test_partial_tracks_are_counted_and_begin_where_they_end(
    geodiff: Cli, day: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.csv").write_text(HEADER + rows(5, mmsi=368084091) + rows(1, mmsi=368084091, lat=91))
    words = ("--model", weights, "--count", 1, "--hours", 1, "--out", tmp_path / "o")
    result = geodiff("vessels", "generate", day, tmp_path / "more.csv", *words)
    counts = [one["counts"] for one in done(result, tmp_path / "o")["inputs"]]
    assert [(count["read"], count["kept"]) for count in counts] == [(30, 30), (6, 5)]
    assert counts[1]["refused"] == {"position not available": 1}
    late = geodiff("vessels", "generate", day, "--start-time", "2021-01-01", *words)
    refused(late, 2, "--start-time would be ignored", "last fix")


def test_one_date_for_several_files_of_times_of_day_is_refused(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(CLOCK)
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text(clock())
    one, two, layout = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "map.yaml"
    words = ("--layout", layout, "--date", "2020-01-01", "--out", tmp_path / "o")
    said = ("one.csv, ", "two.csv: their times hold no date", "2020-01-01", "a run of its own")
    refused(geodiff("vessels", "clean", one, two, *words), 2, *said)
    past = ("--history", two, "--model", "hermite")
    refused(geodiff("vessels", "impute", one, *past, *words), 2, *said)
    done(geodiff("vessels", "clean", one, *words), tmp_path / "o")
    for sources in ([one, two], [str(tmp_path / "*o*.csv")]):
        with pytest.raises(Exception, match="their times hold no date"):
            read_fixes(sources, layout=layout, date="2020-01-01")


def test_what_no_file_needs_is_refused(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "o")
    refused(geodiff("vessels", "clean", day, "--date", "2020-01-01", *out), 2, "day.csv: --date", "would be ignored")
    wrong = geodiff("vessels", "associate", day, "--position", "5,60", *out)
    refused(wrong, 2, "day.csv: --position", "would be ignored")
    # Beside plots of a radar, positions in degrees are welcome; of minutes, as AIS.
    plots = "".join(f"2020-01-01T00:{n:02d}:00,{1000 + 100 * n},45\n" for n in range(9))
    (tmp_path / "plots.csv").write_text("time,range_m,bearing_deg\n" + plots)
    lone = geodiff("vessels", "clean", tmp_path / "plots.csv", *out)
    refused(lone, 2, "need the position of the radar", "geodiff vessels associate", "--position LON,LAT")
    words = ("vessels", "associate", tmp_path / "plots.csv", day, "--position", "-89.8,29", "--sensor", "ais", *out)
    done(geodiff(*words), tmp_path / "o")


def test_a_second_name_says_where_the_run_lies(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    words = ("vessels", "clean", day, "--out", tmp_path / "o", "--name")
    assert done(geodiff(*words, "first"), tmp_path / "o")["notes"] == []
    again = geodiff(*words, "second")
    (note,) = done(again, tmp_path / "o")["notes"]
    assert f"under the name first and lies in {tmp_path / 'o' / 'first'}: it is not made again under second" in note
    assert "second" in again.stdout
    assert done(geodiff(*words, "first"), tmp_path / "o")["notes"] == []


EMPTY = {
    "no bytes": "",
    "header alone": HEADER,
    "all refused": HEADER + rows(1, lat=91),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_file_stops_no_run_of_several(geodiff: Cli, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(EMPTY[kind])
    (folder / "b.csv").write_text(HEADER + rows())
    found = done(geodiff("vessels", "clean", folder, "--out", tmp_path / "o"), tmp_path / "o")
    assert found["notes"] == [f"{folder / 'a.csv'}: no fix in it, of {int(kind == 'all refused')} rows"]
    assert [one["counts"]["kept"] for one in found["inputs"]] == [0, 30]
    assert sum(len(batch) for batch in open_fixes(folder).batches()) == 30
    assert read_fixes([folder / "a.csv", folder / "b.csv"])[1].kept == 30
    (folder / "b.csv").write_text(EMPTY[kind])
    refused(geodiff("vessels", "clean", folder, "--out", tmp_path / "n"), 1, "2 sources: no ")
    assert not (tmp_path / "n" / "catalog.json").exists()


def test_empty_tables_of_ours_and_empty_past_tracks(geodiff: Cli, day: Path, weights: Path, tmp_path: Path) -> None:
    made = done(geodiff("vessels", "clean", day, "--out", tmp_path / "c"), tmp_path / "c")["files"]["fixes"]
    table = pl.read_parquet(made)
    table.with_columns(pl.lit("imputed").alias("state")).write_parquet(tmp_path / "none.parquet")
    (tmp_path / "head.csv").write_text(HEADER)
    done(geodiff("vessels", "clean", tmp_path / "none.parquet", day, "--out", tmp_path / "o"), tmp_path / "o")
    past = ("--history", tmp_path / "head.csv", "--history", tmp_path / "none.parquet", "--history", made)
    words = ("--model", weights, "--ensemble", 2, "--hours", 1)
    found = done(geodiff("vessels", "forecast", day, *past, *words, "--out", tmp_path / "f"), tmp_path / "f")
    assert [one["counts"]["kept"] for one in found["history"]] == [0, 0, 30]


def test_somebody_elses_columns_track_id_and_state(geodiff: Cli, tmp_path: Path) -> None:
    fixes = scrambled()
    theirs = fixes.select(
        mmsi="vessel_id", when="time", x="lon_deg", y="lat_deg", track_id=pl.lit("7"), state=pl.lit("under way")
    )
    theirs.write_parquet(tmp_path / "theirs.parquet")
    (tmp_path / "map.yaml").write_text("columns: {vessel_id: mmsi, time: when, lon_deg: x, lat_deg: y}\n")
    words = ("vessels", "clean", tmp_path / "theirs.parquet", "--out", tmp_path / "o")
    found = done(geodiff(*words, "--layout", tmp_path / "map.yaml"), tmp_path / "o")
    assert found["inputs"][0]["counts"]["kept"] == len(fixes)
    # With all of our columns it is taken for ours, unless a layout is named; what a run wrote stays ours.
    full = fixes.with_columns(track_id=pl.lit("7"), state=pl.lit("under way"))
    full.write_parquet(tmp_path / "full.parquet")
    (tmp_path / "ours.yaml").write_text(
        "columns: {vessel_id: vessel_id, time: time, lon_deg: lon_deg, lat_deg: lat_deg}\n"
    )
    refused(geodiff("vessels", "clean", tmp_path / "full.parquet", "--out", tmp_path / "f"), 1, "was observed")
    again = ("--layout", tmp_path / "ours.yaml", "--out", tmp_path / "f")
    done(geodiff("vessels", "clean", tmp_path / "full.parquet", *again), tmp_path / "f")
    plan = make_plan(
        "clean", [found["files"]["fixes"]], CleanSettings(layout=str(tmp_path / "ours.yaml")), tmp_path / "g"
    )
    assert plan.inputs[0].own


def test_the_output_folder_is_no_input(geodiff: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(HEADER + rows())
    for source in (folder, folder / "**" / "*"):
        for _ in range(2):
            found = done(geodiff("vessels", "clean", source, "--out", folder / "out"), folder / "out")
            assert [one["href"] for one in found["inputs"]] == [str(folder / "a.csv")]
    # What is named itself is read wherever it lies.
    fixes = found["files"]["fixes"]
    for source in (fixes, folder / "out" / "clean" / f"{found['run_id']}.parq*"):
        done(geodiff("vessels", "impute", source, "--model", "hermite", "--out", folder / "out"), folder / "out")
    words = ("vessels", "clean", folder, "--out", folder)
    assert geodiff(*words, "--bbox", -90, 29, -89, 30).exit_code in (0, 1)
    (folder / "catalog.json").write_text((folder / "out" / "catalog.json").read_text())
    refused(geodiff(*words), 2, f"{folder}: the folder of the input is that of the output too", "--out")


def test_standard_input_of_which_cleaning_leaves_nothing(tmp_path: Path) -> None:
    lines = [tagged(position(mmsi=3660001, lon=5.7 + n / 1000), c=1_700_000_000 + 60 * n) for n in range(9)]
    words = ["vessels", "clean", "-", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, input="\n".join(lines).encode(), prog_name="geodiff")
    refused(result, 1, "standard input: none of 9 fixes is left", "base station")
    assert not list((tmp_path / "out").glob(".stdin*"))
    words = ["vessels", "associate", "-", "--position", "5,60", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, input="\n".join(lines).encode(), prog_name="geodiff")
    refused(result, 2, "standard input: --position", "would be ignored")
    assert not list((tmp_path / "out").glob(".stdin*"))


def test_the_same_bytes_under_another_name_are_the_same_run_cut_alike(
    geodiff: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed after reading goes on for the file under another name, with all of its vessels."""
    monkeypatch.setattr(vessels_inputs, "ROWS_A_PART", 40)
    text = HEADER + "".join(rows(mmsi=366000001 + n, lat=29 + n, north=0.004) for n in range(12))
    packed = tmp_path / "day.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    shutil.copy(packed, tmp_path / "day.bin")
    names = {name: find_inputs([tmp_path / name], tmp_path / "o") for name in ("day.csv.gz", "day.bin")}
    assert len({count_parts(found) for found in names.values()}) == 1
    # However it was cut: what does not fit is read anew.
    out = tmp_path / "o"
    plan = make_plan("clean", [packed], CleanSettings(), out, parts=3)
    killed = RuntimeError("killed")

    def kill(*_: object, **__: object) -> None:
        raise killed

    with monkeypatch.context() as patch:
        patch.setattr("geodiff.tasks.vessels_run.clean_part", kill)
        with pytest.raises(RuntimeError):
            run_tracks(plan, pool=Pool(1), progress=lambda *_: None)
    whole = done(geodiff("vessels", "clean", tmp_path / "day.bin", "--out", out), out)
    assert whole["counts"]["vessels"] == 12


def test_a_file_that_changes_while_it_is_read_is_no_run(day: Path, tmp_path: Path) -> None:
    plan = make_plan("clean", [day], CleanSettings(), tmp_path / "o")
    with open(day, "a") as file:
        file.write(rows(mmsi=366000009))
    with pytest.raises(GeodiffError, match=r"day.csv: was changed while it was read"):
        run_tracks(plan, pool=Pool(1), progress=lambda *_: None)
    assert not list((tmp_path / "o" / "clean").glob("*"))
    again = run_tracks(
        make_plan("clean", [day], CleanSettings(), tmp_path / "o"), pool=Pool(1), progress=lambda *_: None
    )
    assert again.summary["counts"]["vessels"] == 2


@pytest.mark.parametrize("harm", ["tracks gone", "store gone", "fixes cut off"])
def test_a_finished_run_whose_files_were_harmed_is_made_again(
    harm: str, geodiff: Cli, day: Path, tmp_path: Path
) -> None:
    words, out = ("vessels", "clean", day, "--out", tmp_path / "o"), tmp_path / "o"
    files = {key: Path(path) for key, path in done(geodiff(*words), out)["files"].items()}
    before = {key: files[key].read_bytes() for key in ("fixes", "tracks")}
    if harm == "store gone":
        shutil.rmtree(files["zarr"])
    elif harm == "tracks gone":
        files["tracks"].unlink()
    else:
        files["fixes"].write_bytes(b"")
    done(geodiff(*words), out)
    assert {key: files[key].read_bytes() for key in before} == before
    assert files["zarr"].is_dir()


def test_what_killed_runs_left_is_cleared_away(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    plan = make_plan("clean", [day], CleanSettings(), out)
    folder, code = out / "clean", "0123456789abcdef" * 2
    folder.mkdir(parents=True)
    run = plan.job.run_id
    left = [f".{run}_stops.{code}.parquet", f".{run}.{code}.png", f".{run}.html.{code}.partial"]
    left += [f".{run}.json.{code}.partial", f".collection.json.{code}.partial"]
    for name in left:
        (folder / name).write_bytes(b"half")
    (out / f".catalog.json.{code}.partial").write_bytes(b"half")
    (folder / f".another.{code}.png").write_bytes(b"of a run that goes on")
    done(geodiff("vessels", "clean", day, "--out", out), out)
    assert [path.name for path in folder.glob(".*")] == [f".another.{code}.png"]
    assert not list(out.glob(".*"))


def test_brackets_in_a_path_are_brackets(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    out = tmp_path / "[o]"
    result = geodiff("vessels", "impute", day, "--out", out, "--model", "hermite")
    assert done(result, out)["counts"]["vessels"] == 1
    assert str(out) in result.stdout
    pystac.Catalog.from_file(str(out / "catalog.json")).full_copy()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pipe.csv"], "is a pipe, which can be read once alone"),
        (["a\udcff.csv"], "the name is not UTF-8"),
        (["day.csv", "--name", "catalog.json"], "a file of the catalogue has this name"),
        (["day.csv", "--name", "summary.json"], "a file of the catalogue has this name"),
    ],
)
def test_what_cannot_become_a_run_is_refused_first(
    geodiff: Cli, day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    if sys.platform == "linux":
        shutil.copy(day, "a\udcff.csv")
    refused(geodiff("vessels", "clean", *words, "--out", tmp_path / "o"), 2, said)
    assert not (tmp_path / "o").exists()


def test_a_name_like_a_home_is_a_name(geodiff: Cli, day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(day, "~tmp.csv")
    assert done(geodiff("vessels", "clean", "./~tmp.csv", "--out", "o"), tmp_path / "o")["counts"]["vessels"] == 1


def test_a_full_disk_is_met_before_it_is_written_through_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    fleet = clean_fixes(make_fleet(1, vessels=2, hours=1.0, defects={}).fixes)
    traffic_of(fleet).write_parquet(tmp_path / "traffic.parquet")
    with pytest.raises(OSError, match="No space left"):
        store_traffic([tmp_path / "traffic.parquet"], tmp_path / "all")
    assert not (tmp_path / "all" / "done").exists()


def test_what_is_read_outlives_a_full_disk(
    geodiff: Cli, day: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while past tracks are read: what was read stays for the run that goes on."""
    (tmp_path / "past.csv").write_text(HEADER + rows(mmsi=366000009, lat=29.01))
    words = ("vessels", "impute", day, "--history", tmp_path / "past.csv", "--model", weights, "--out", tmp_path / "o")
    write = partition.write_json

    def full(path: Path, value: object) -> None:
        if "history" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(partition, "write_json", full)
        refused(geodiff(*words), 1, "No space left on device): free space and run the same command again, it resumes")
    assert list((tmp_path / "o" / "impute").glob("*.work/fixes/partition.json"))
    assert done(geodiff(*words), tmp_path / "o")["counts"]["vessels"] == 1


def test_nobody_in_particular_has_no_static_data(tmp_path: Path) -> None:
    layout = "columns: {vessel_id: id, time: time, lon_deg: lon, lat_deg: lat, name: name}\nstatic_rows: true\n"
    (tmp_path / "map.yaml").write_text(layout)
    told = ["366000001,2020-01-01 00:00:00,,,KING", ",2020-01-01 00:00:00,,,QUEEN"]
    told += [f"{who},2020-01-01 00:0{n}:00,-90,29.{n}," for n in range(1, 5) for who in ("366000001", "")]
    (tmp_path / "s.csv").write_text("id,time,lon,lat,name\n" + "\n".join(told) + "\n")
    reader = open_fixes(tmp_path / "s.csv", layout=tmp_path / "map.yaml", anonymous=True)
    read = pl.concat(reader.batches())
    assert set(read.filter(pl.col("vessel_id").is_not_null())["name"]) == {"KING"}
    assert set(read.filter(pl.col("vessel_id").is_null())["name"]) == {None}
