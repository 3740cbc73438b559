"""The main job through the command line, end to end, on a tiny place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from typer.testing import Result

from geodiff.testing.stac_server import serve_folder

if TYPE_CHECKING:
    from conftest import TinyPlace

Cli = Callable[..., Result]


def read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "runs"


@pytest.fixture(scope="module")
def done(place: TinyPlace, out: Path) -> Result:
    """The job, run once for the tests of this module."""
    from typer.testing import CliRunner

    from geodiff.cli import app

    words = ["superres", *place.words, "--model", "bicubic", "--every", "10D", "--name", "tiny", "--out", str(out)]
    return CliRunner().invoke(app, words, prog_name="geodiff")


def test_search_lists_the_scenes_and_writes_them(geodiff: Cli, place: TinyPlace, tmp_path: Path) -> None:
    result = geodiff("search", *place.words, "--limit", 2, "--out", tmp_path / "items.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["scene", "date", "(UTC)", "cloud", "tile", "CRS", "baseline", "bands"]
    assert lines[1].split()[:2] == ["tiny_03", "2021-06-03"]
    assert "EPSG:32631" in lines[1]
    assert lines[1].rstrip().endswith("B02 B03 B04 B08")
    assert "2 scenes" in result.stdout
    assert [feature["id"] for feature in read(tmp_path / "items.json")["features"]] == ["tiny_03", "tiny_13"]


def test_what_opens_a_catalogue_is_not_told_in_what_is_made_of_it(
    geodiff: Cli, place: TinyPlace, tmp_path: Path
) -> None:
    with serve_folder(place.catalog.parent) as url:
        where = f"{url.replace('://', '://me:s3cret@')}/catalog.json?token=TOPTOKEN"
        options = ("--model", "bicubic", "--no-coregister", "--out", tmp_path / "runs")
        words = [where if word == str(place.catalog) else word for word in place.words]
        listed = geodiff("search", *words, "--out", tmp_path / "items.json")
        made = geodiff("superres", *words, *options)
        assert listed.exit_code == made.exit_code == 0, listed.output + made.output
        kept = [word if word != str(place.catalog) else str(tmp_path / "items.json") for word in place.words]
        assert geodiff("search", *kept).exit_code == 0
    told = [listed.output, made.output, *(path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file())]
    assert f"{url}/catalog.json" in read(tmp_path / "runs" / "summary.json")["catalog"]
    assert not any(secret in text for text in told for secret in ("me:", "s3cret", "TOPTOKEN"))


def test_the_plan_comes_before_the_summary(done: Result) -> None:
    assert done.exit_code == 0, done.output
    text = done.stdout
    assert text.index("plan") < text.index("dates used") < text.index("done") < text.index("km2/s")
    assert "3 on 3 dates, 2021-06-03 to 2021-06-23" in text
    assert [stage for stage in ("search", "judge dates", "restore", "pictures") if stage in done.stderr] == [
        "search",
        "judge dates",
        "restore",
        "pictures",
    ]


def test_the_summary_names_data_speed_and_files(done: Result, out: Path) -> None:
    summary = read(out / "summary.json")
    assert summary["scenes"] == ["tiny_03", "tiny_13", "tiny_23"]
    assert [target["date"] for target in summary["targets"]] == ["2021-06-03", "2021-06-13", "2021-06-23"]
    assert summary["km2_per_s"] > 0
    assert summary["peak_rss_mb"] > 10
    assert summary["model"] == "bicubic"
    for path in (summary["zarr"], summary["item"], *summary["files"]):
        assert Path(path).exists(), path
    assert {Path(path).suffix for path in summary["files"]} == {".png"}


def test_the_cube_opens_and_shows_the_ground(done: Result, out: Path, place: TinyPlace) -> None:
    with xr.open_zarr(read(out / "summary.json")["zarr"]) as cube:
        assert cube["reflectance"].sizes["time"] == 3
        assert list(cube["band"].values) == ["B02", "B03", "B04", "B08"]
        assert bool(cube["valid"].all())
        mean = float(cube["reflectance"].mean())
        inside = place.grid.bounds
        assert inside[0] <= cube["x"].min()
        assert cube["x"].max() <= inside[2]
        assert np.diff(cube["x"].values[:2]).item() == pytest.approx(2.5)
    assert 0.14 < mean < 0.21  # digital numbers of 400 to 3000, uniform


def test_the_item_is_valid_and_reached_from_the_catalogue(done: Result, out: Path) -> None:
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    (item,) = catalog.get_items(recursive=True)
    assert item.collection_id == "tiny"
    assert item.properties["geodiff:model"] == "bicubic"
    assert {"zarr", "thumbnail", "quicklook", "summary"} <= set(item.assets)
    for asset in item.assets.values():
        assert Path(asset.get_absolute_href() or "").exists()
    assert sum(link.rel == "derived_from" for link in item.links) == 3


def files_of(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.stat().st_mtime_ns


def test_a_second_run_reads_no_pixel_and_changes_nothing(
    geodiff: Cli, done: Result, place: TinyPlace, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a finished run was planned again")

    monkeypatch.setattr("geodiff.tasks.plan.load_cube", refuse)
    before = dict(files_of(out))
    # Neither the name of the region nor the workers are part of what is computed.
    words = ("--model", "bicubic", "--every", "10D", "--workers", 2, "--out", out)
    result = geodiff("superres", *place.words, *words)
    assert result.exit_code == 0, result.output
    assert "finished already" in result.stdout
    after = dict(files_of(out))
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed <= {str(out / "summary.json")}
    assert read(out / "summary.json")["scenes"] == ["tiny_03", "tiny_13", "tiny_23"]


def test_a_scene_that_was_replaced_makes_another_run(geodiff: Cli, place: TinyPlace, tmp_path: Path) -> None:
    root = place.catalog.parent
    shutil.copytree(root, tmp_path / "scenes")
    words = [str(word).replace(str(root), str(tmp_path / "scenes")) for word in place.words]
    words += ["--model", "bicubic", "--target", "2021-06-13", "--workers", "1", "--out", str(tmp_path / "out")]

    def made() -> tuple[str, float]:
        assert geodiff("superres", *words).exit_code == 0
        told = read(tmp_path / "out" / "summary.json")
        return told["run_id"], float(xr.open_zarr(told["zarr"])["reflectance"].mean())

    before = made()
    assert made() == before
    files = [path for path in (tmp_path / "scenes").rglob("B*.tif") if "13" in str(path.relative_to(tmp_path))]
    assert files
    for path in files:
        with rasterio.open(path) as source:
            profile, numbers = source.profile, source.read()
        with rasterio.open(path, "w", **(profile | {"driver": "GTiff"})) as target:
            target.write(numbers * 2)
    run_id, mean = made()
    assert run_id != before[0]
    assert mean > 1.5 * before[1]


def test_a_dry_run_shows_the_plan_and_writes_nothing(geodiff: Cli, place: TinyPlace, tmp_path: Path) -> None:
    result = geodiff("superres", *place.words, "--model", "bicubic", "--dry-run", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "estimate" in result.stdout
    assert not (tmp_path / "out").exists()


def test_workers_and_chunks_change_no_value_and_cogs_come_beside(
    geodiff: Cli, place: TinyPlace, tmp_path: Path
) -> None:
    settings = tmp_path / "job.yaml"
    settings.write_text("model: median\nensemble: 2\ntile: {core: 16, feather: 4, halo: 8}\ncrs: native\nformat: cog\n")
    stores = []
    for number, (workers, chunk) in enumerate(((1, 256), (3, 17))):
        folder = tmp_path / f"out{number}"
        words = ("--config", settings, "--workers", workers, "--chunk", chunk, "--out", folder)
        result = geodiff("superres", *place.words, *words)
        assert result.exit_code == 0, result.output
        summary = read(folder / "summary.json")
        stores.append(xr.open_zarr(summary["zarr"]).load())
        cogs = [path for path in summary["files"] if path.endswith(".tif")]
        assert cogs
        assert all(Path(path).is_file() for path in cogs)
    assert stores[0].identical(stores[1])


def test_a_clouded_target_is_restored_and_its_light_is_told_as_unknown(
    geodiff: Cli, own_place: TinyPlace, tmp_path: Path
) -> None:
    path = own_place.catalog.parent / "sentinel-2-l2a" / "tiny_13" / "SCL.tif"
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as scl:
        scl.write(np.full(scl.shape, 9, np.uint8), 1)
    words = (*own_place.words, "--model", "bicubic", "--target", "2021-06-13", "--out", tmp_path / "out")
    result = geodiff("superres", *words)
    assert result.exit_code == 0, result.output
    (target,) = read(tmp_path / "out" / "summary.json")["targets"]
    assert target["light"] == [[None] * 4] * 3
    assert Path(read(tmp_path / "out" / "summary.json")["item"]).is_file()
    assert geodiff("superres", *words).exit_code == 0, "a rerun finds it finished"


def test_a_region_of_a_few_pixels_is_restored(geodiff: Cli, place: TinyPlace, tmp_path: Path) -> None:
    """So few that no date shares enough of them with another to tell its light."""
    west, south = place.bbox[:2]
    words = ("--catalog", place.catalog, "--bbox", west, south, west + 0.0005, south + 0.0004)
    result = geodiff("superres", *words, "--datetime", "2021-06", "--model", "bicubic", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    summary = read(tmp_path / "out" / "summary.json")
    assert summary["targets"][0]["light"] == [[None] * 4] * 3
    assert xr.open_zarr(summary["zarr"]).reflectance.sizes["y"] <= 32


def test_a_region_file_names_the_run(geodiff: Cli, place: TinyPlace, tmp_path: Path) -> None:
    west, south, east, north = place.bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    feature = {
        "type": "Feature",
        "properties": {"name": "Lac d'en Haut"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    region = tmp_path / "region.geojson"
    region.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    words = ("--catalog", place.catalog, "--region", region, "--datetime", "2021-06", "--model", "bicubic")
    result = geodiff("superres", *words, "--target", "2021-06-13", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "Lac-d-en-Haut" / "collection.json").is_file()
    assert [target["date"] for target in read(tmp_path / "out" / "summary.json")["targets"]] == ["2021-06-13"]


def test_scenes_of_a_user_become_a_catalogue_that_can_be_searched(
    geodiff: Cli, place: TinyPlace, tmp_path: Path
) -> None:
    scenes = place.catalog.parent / "sentinel-2-l2a"
    folder = tmp_path / "mine"
    for day in ("03", "13"):
        (folder / f"2021-06-{day}").mkdir(parents=True)
        for band in ("B02", "B03", "B04", "B08"):
            (folder / f"2021-06-{day}" / f"{band}.tif").symlink_to(scenes / f"tiny_{day}" / f"{band}.tif")
    built = geodiff("catalog", "build", folder, "--out", tmp_path / "cat")
    assert built.exit_code == 0, built.output
    assert built.stdout.strip() == str(tmp_path / "cat" / "catalog.json")
    found = geodiff("search", "--catalog", tmp_path / "cat", "--bbox", *place.bbox, "--datetime", "2021")
    assert "2 scenes" in found.stdout
