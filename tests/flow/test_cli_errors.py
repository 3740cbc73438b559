"""Bad input through the command line: one line that teaches, the right exit code, and nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import Result

from geodiff.testing.stac_features import stac_feature, write_static
from geodiff.testing.stac_server import serve_answers, serve_folder

if TYPE_CHECKING:
    from conftest import TinyPlace

Cli = Callable[..., Result]
BICUBIC = ("--model", "bicubic")


def refused(result: Result, code: int, *fragments: str, out: Path | None = None) -> str:
    """Check that a command failed as it should; returns the line that it said."""
    said = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == code, result.output
    assert len(said) == 1, result.output
    assert result.stderr.rstrip().endswith(said[0])
    assert "unexpected" not in said[0]
    assert "Traceback" not in result.output
    for fragment in fragments:
        assert fragment in said[0]
    if out is not None:
        published = [path for path in out.rglob("*.json") if path.name in ("catalog.json", "collection.json")]
        assert not published, "something can be seen in the catalogue"
    return said[0]


@pytest.fixture
def superres(geodiff: Cli, place: TinyPlace, tmp_path: Path) -> Cli:
    """The job on the tiny place with some options exchanged or added: ``superres(bbox="...", bands="B02")``."""

    def run(**options: object) -> Result:
        given: dict[str, object] = {
            "catalog": place.catalog,
            "bbox": " ".join(map(str, place.bbox)),
            "datetime": "2021-06-01/2021-06-30",
            "model": "bicubic",
            "out": tmp_path / "out",
        } | options
        words = ["superres"]
        for key, value in given.items():
            if value is not None:
                words += [f"--{key.replace('_', '-')}", *str(value).split(" ")]
        return geodiff(*words)

    return run


def test_a_catalogue_that_does_not_answer(superres: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    refused(superres(catalog="http://127.0.0.1:9/stac"), 1, "127.0.0.1:9", out=tmp_path / "out")


def test_a_catalogue_that_is_nowhere(superres: Cli, tmp_path: Path) -> None:
    refused(superres(catalog=tmp_path / "nowhere"), 2, "nowhere", "earth-search", out=tmp_path / "out")


@pytest.mark.parametrize("text", ["<html>login</html>", "[]", '{"type": "Feature"}', '{"links": "none"}'])
def test_a_malformed_catalogue(superres: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(text)
    refused(superres(catalog=path), 1, "catalog.json", out=tmp_path / "out")
    with serve_answers({"/": (200, text), "/catalog.json": (200, text)}) as url:
        refused(superres(catalog=f"{url}/catalog.json"), 1, url, out=tmp_path / "out")


def test_no_scenes_in_these_dates(superres: Cli, tmp_path: Path) -> None:
    refused(superres(datetime="1999-01-01/1999-12-31"), 1, "no scenes", "1999", out=tmp_path / "out")


def test_a_box_elsewhere(superres: Cli, tmp_path: Path) -> None:
    refused(superres(bbox="-60.0 -10.0 -59.9 -9.9"), 1, "no scenes", out=tmp_path / "out")


def test_a_box_written_latitude_first(superres: Cli, place: TinyPlace, tmp_path: Path) -> None:
    west, south, east, north = place.bbox
    refused(superres(bbox=f"{south} {west} {north} {east}"), 1, "no scenes", "W S E N", out=tmp_path / "out")
    refused(superres(bbox="45 120 46 121"), 2, "longitude first", out=tmp_path / "out")


def test_dates_reversed(superres: Cli, tmp_path: Path) -> None:
    refused(superres(datetime="2021-06-30/2021-06-01"), 2, "reversed", "earlier date first", out=tmp_path / "out")
    refused(superres(datetime="June"), 2, "YYYY-MM-DD", out=tmp_path / "out")


def test_a_target_far_from_the_series(superres: Cli, tmp_path: Path) -> None:
    refused(superres(target="2023-01-01"), 2, "2023-01-01", "60 days", "--datetime", out=tmp_path / "out")


def test_a_band_that_the_scenes_lack(superres: Cli, tmp_path: Path) -> None:
    refused(superres(bands="B02,B42"), 2, "B42", "B02, B03, B04, B08", out=tmp_path / "out")


def test_an_unknown_crs(superres: Cli, tmp_path: Path) -> None:
    refused(superres(crs="EPSG:999999"), 2, "EPSG:999999", "EPSG:32631", out=tmp_path / "out")
    refused(superres(crs="EPSG:32755"), 2, "EPSG:32755", out=tmp_path / "out")


@pytest.mark.parametrize("resolution", ["0", "-10", "1e9", "nan"])
def test_an_absurd_resolution(superres: Cli, tmp_path: Path, resolution: str) -> None:
    refused(superres(resolution=resolution), 2, "resolution_m", out=tmp_path / "out")


def test_an_unknown_option_and_a_missing_one(geodiff: Cli) -> None:
    refused(geodiff("superres", "--bandz", "B02"), 2, "--bandz", "geodiff superres --help")
    refused(geodiff("superres", "--catalog", "x"), 2, "--out")
    refused(geodiff("superres", "--out", "x", "--datetime", "2021"), 2, "--catalog")
    refused(geodiff("--bogus"), 2, "--bogus")


def test_settings_with_a_typing_error(superres: Cli, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("ensembel: 4\n")
    refused(superres(config=path), 2, "job.yaml", "ensembel", "'ensemble'", out=tmp_path / "out")
    path.write_text("ensemble: [\n")
    refused(superres(config=path), 2, "not YAML", out=tmp_path / "out")


def test_a_region_that_is_no_geojson(superres: Cli, tmp_path: Path) -> None:
    path = tmp_path / "region.geojson"
    for text in ("not json", "{}", '{"type": "Polygon", "coordinates": []}'):
        path.write_text(text)
        refused(superres(bbox=None, region=path), 2, "region.geojson", out=tmp_path / "out")
    path.write_text('{"type": "Point", "coordinates": [500000, 4690000]}')
    refused(superres(bbox=None, region=path), 2, "degrees", out=tmp_path / "out")


def test_a_name_that_is_no_folder(superres: Cli, tmp_path: Path) -> None:
    refused(superres(name="../elsewhere"), 2, "--name", out=tmp_path / "out")


def band_file(place: TinyPlace, day: str = "13", band: str = "B03") -> Path:
    return place.catalog.parent / "sentinel-2-l2a" / f"tiny_{day}" / f"{band}.tif"


@pytest.mark.parametrize("spoil", ["corrupt", "truncated", "missing"])
def test_an_image_that_cannot_be_read(superres: Cli, own_place: TinyPlace, tmp_path: Path, spoil: str) -> None:
    path = band_file(own_place)
    if spoil == "corrupt":
        path.write_bytes(b"this is no GeoTIFF")
    elif spoil == "truncated":
        path.write_bytes(path.read_bytes()[:-1500])
    else:
        path.unlink()
    result = superres(catalog=own_place.catalog)
    refused(result, 1, "tiny_13", "asset B03", "B03.tif", out=tmp_path / "out")


def test_nothing_but_clouds(superres: Cli, own_place: TinyPlace, tmp_path: Path) -> None:
    from geodiff.grid import Grid
    from geodiff.testing.scenes import write_cog

    grid = own_place.grid
    coarse = Grid(grid.crs, (20.0, 20.0), grid.origin, (24, 20))
    for day in ("03", "13", "23"):
        path = band_file(own_place, day, "SCL")
        path.unlink()
        write_cog(path, np.full((24, 20), 9, np.uint8), coarse)
    refused(superres(catalog=own_place.catalog), 1, "no usable date", out=tmp_path / "out")


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "../../../etc/passwd", "/vsizip/etc/passwd", "ftp://example.com/a.tif"]
)
def test_a_remote_catalogue_may_not_reach_the_disk(superres: Cli, tmp_path: Path, href: str) -> None:
    assets = dict.fromkeys(("B02", "B03", "B04", "B08"), href)
    write_static(tmp_path / "evil", [stac_feature("evil", "2021-06-13T10:00:00Z", (2, 42, 3, 43), assets=assets)])
    with serve_folder(tmp_path / "evil") as url:
        result = superres(catalog=f"{url}/catalog.json")
    refused(result, 1, "evil", href, "refused", out=tmp_path / "out")


def test_an_output_folder_that_is_a_file(superres: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(superres(out=out), 2, "--out", "not a folder")


def test_an_output_folder_that_may_not_be_written(
    superres: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests may run as root, for whom every folder can be written: only the question can be answered otherwise.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(superres(), 2, "--out", "not writable", out=tmp_path / "out")


def test_a_foreign_catalogue_in_the_output_folder(superres: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "catalog.json").write_text("mine, and no STAC")
    refused(superres(), 1, "catalog.json")
    assert (tmp_path / "out" / "catalog.json").read_text() == "mine, and no STAC"


@pytest.mark.parametrize("name", ["region/collection.json", "summary.json"])
def test_a_foreign_collection_or_folder_in_the_output_folder(superres: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / "region").mkdir(parents=True)
    if name == "summary.json":
        (tmp_path / "out" / name).mkdir()
    else:
        (tmp_path / "out" / name).write_text('{"type": "Collection", "links": [5]}')
    refused(superres(), 1, name)
    refused(superres(name="catalog.json"), 2, "--name catalog.json")
    assert not list((tmp_path / "out" / "region").glob("*.zarr"))


FULL = """
import resource, sys
from geodiff.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main()
"""


def test_a_full_disk_and_the_run_after_it(superres: Cli, place: TinyPlace, tmp_path: Path) -> None:
    # The kernel refuses to let any file of the process grow: the same path through the code as a full disk.
    out = tmp_path / "out"
    words = ["superres", *place.words, *BICUBIC, "--out", str(out)]
    full = subprocess.run([sys.executable, "-c", FULL, *words], capture_output=True, text=True, check=False)
    assert full.returncode == 1, full.stderr
    (said,) = [line for line in full.stderr.splitlines() if line.startswith("error:")]
    assert "disk full" in said
    assert "run the same command again" in said
    assert not (out / "catalog.json").exists()
    again = superres()
    assert again.exit_code == 0, again.output
    assert (out / "catalog.json").is_file()


def write_pickle(folder: Path) -> Path:
    path = folder / "model.pt"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    return path


def write_disguised(folder: Path) -> Path:
    path = write_pickle(folder).rename(folder / "model.safetensors")
    path.with_suffix(".json").write_text("{}")
    return path


def write_safetensors(folder: Path, card: dict[str, Any] | None) -> Path:
    from safetensors.numpy import save_file

    path = folder / "model.safetensors"
    save_file({"weight": np.zeros((2, 2), np.float32)}, path)
    if card is not None:
        path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_weights_that_are_a_pickle(superres: Cli, tmp_path: Path) -> None:
    refused(superres(model=write_pickle(tmp_path)), 1, "model.pt", "pickle", out=tmp_path / "out")
    refused(superres(model=write_disguised(tmp_path)), 1, "model.safetensors", out=tmp_path / "out")


def test_weights_of_another_model(superres: Cli, tmp_path: Path) -> None:
    refused(superres(model=write_safetensors(tmp_path, None)), 1, "model.json", out=tmp_path / "out")
    other = write_safetensors(tmp_path, {"kind": "somebody-else", "format": 1})
    refused(superres(model=other), 1, "another model", out=tmp_path / "out")


def test_a_model_that_is_unknown(superres: Cli, tmp_path: Path) -> None:
    refused(superres(model="s2x5"), 2, "s2x5", "bicubic", out=tmp_path / "out")


def test_a_scheduler_that_does_not_answer(superres: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("geodiff.tasks.cluster.SCHEDULER_TIMEOUT_S", 0.5)
    refused(superres(scheduler="tcp://127.0.0.1:9"), 1, "127.0.0.1:9", out=tmp_path / "out")


def test_a_folder_without_scenes_makes_no_catalogue(geodiff: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(geodiff("catalog", "build", tmp_path / "empty", "--out", tmp_path / "cat"), 1, "no GeoTIFF")
    refused(geodiff("catalog", "build", tmp_path / "nowhere", "--out", tmp_path / "cat"), 2, "not a folder")
    assert not (tmp_path / "cat").exists()


def test_training_without_places(geodiff: Cli, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    arguments = ("train", "superres", "--data", "collection", "--root", tmp_path, "--out", tmp_path / "w", "--steps", 1)
    refused(geodiff(*arguments), 1, str(tmp_path))


def test_a_folder_in_place_of_the_kind_of_data(geodiff: Cli, tmp_path: Path) -> None:
    result = geodiff("train", "superres", "--data", tmp_path, "--out", tmp_path / "w")
    refused(result, 2, "--data collection --root")


def test_training_without_its_extra(geodiff: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "geodiff.tasks.train", raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.delitem(sys.modules, "geodiff.tasks.train_start", raising=False)
    result = geodiff("train", "superres", "--data", "collection", "--root", tmp_path, "--out", tmp_path / "w")
    refused(result, 1, "lightning", "pip install 'geodiff[train]'")
