"""A finished run whose files were damaged or moved since: the same command makes what is missing, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac
import pytest
import xarray as xr
from typer.testing import CliRunner, Result

from geodiff.cli import app
from geodiff.outputs.published import damaged_assets

if TYPE_CHECKING:
    from conftest import TinyPlace

Cli = Callable[..., Result]
WORDS = ("--model", "bicubic", "--target", "2021-06-13", "--name", "tiny", "--format", "cog")


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def only_item(out: Path) -> pystac.Item:
    (item,) = pystac.Catalog.from_file(str(out / "catalog.json")).get_items(recursive=True)
    return item


@pytest.fixture(scope="module")
def done(place: TinyPlace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "runs"
    words = ["superres", *place.words, *WORDS, "--out", str(out)]
    assert CliRunner().invoke(app, words, prog_name="geodiff").exit_code == 0
    return out


@pytest.fixture
def out(done: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(done, tmp_path / "moved", copy_function=shutil.copy2))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_was_moved_tells_where_it_lies_now(geodiff: Cli, place: TinyPlace, out: Path, done: Path) -> None:
    result = geodiff("superres", *place.words, *WORDS, "--out", out)
    assert "finished already" in result.stdout, result.output
    told, before = summary(out), summary(done)
    assert str(done) not in (out / "summary.json").read_text()
    places = [told["zarr"], told["item"], told["catalog_out"], *told["files"]]
    assert all(Path(path).exists() for path in places)
    assert [Path(path).name for path in told["files"]] == [Path(path).name for path in before["files"]]


@pytest.mark.parametrize("suffix", ["_reflectance.tif", "_thumbnail.png", "_quicklook.png", "_summary.json"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_file_is_made_again_and_the_cube_is_left_alone(
    geodiff: Cli, place: TinyPlace, out: Path, suffix: str, gone: bool
) -> None:
    (damaged,) = out.rglob(f"*{suffix}")
    wanted, store = damaged.read_bytes(), Path(str(only_item(out).assets["zarr"].get_absolute_href()))
    damaged.unlink() if gone else damaged.write_bytes(wanted[:-5])
    stamps = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    result = geodiff("superres", *place.words, *WORDS, "--out", out)
    assert result.exit_code == 0, result.output
    assert "finished already" not in result.stdout
    assert damaged_assets(only_item(out)) == {}
    assert suffix == "_summary.json" or damaged.read_bytes() == wanted
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == stamps
    assert summary(out).get("km2_per_s") != 0
    assert "finished already" in geodiff("superres", *place.words, *WORDS, "--out", out).stdout


def test_geotiffs_are_made_of_a_finished_run_and_stay_with_it(
    geodiff: Cli, place: TinyPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain = tmp_path / "out", WORDS[:-2]
    assert geodiff("superres", *place.words, *plain, "--out", out).exit_code == 0
    before, cubes = summary(out), contents(Path(summary(out)["zarr"]))
    assert not list(out.rglob("*.tif"))

    def restored(*_: object, **__: object) -> None:
        raise AssertionError("a finished cube was restored again")

    monkeypatch.setattr("geodiff.tasks.job.restore_window", restored)
    result = geodiff("superres", *place.words, *WORDS, "--out", out)
    assert result.exit_code == 0, result.output
    told, (made,) = summary(out), out.rglob("*.tif")
    assert told["files"] == [*before["files"], str(made)]
    assert {name: told[name] for name in ("run_id", "seconds", "km2_per_s")} == {
        name: before[name] for name in ("run_id", "seconds", "km2_per_s")
    }
    assert contents(Path(told["zarr"])) == cubes
    for words in (WORDS, plain):
        assert "finished already" in geodiff("superres", *place.words, *words, "--out", out).stdout
    made.unlink()
    assert geodiff("superres", *place.words, *plain, "--out", out).exit_code == 0
    assert made.is_file()
    assert damaged_assets(only_item(out)) == {}
    assert not [path for path in out.rglob("*.tif") if "uncertainty" in path.name], "bicubic tells none"


@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_cube_is_made_again_and_no_reader_sees_it_until_it_is_whole(
    geodiff: Cli, place: TinyPlace, out: Path, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(str(only_item(out).assets["zarr"].get_absolute_href()))
    wanted, shard = contents(store), store / "reflectance" / "c" / "0" / "0" / "0" / "0"
    shard.unlink() if gone else shard.write_bytes(shard.read_bytes()[:-100])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("discard_store", "withdraw_item"):
        with monkeypatch.context() as patch:
            patch.setattr(f"geodiff.tasks.superres_publish.{step}", killed)
            assert geodiff("superres", *place.words, *WORDS, "--out", out).exit_code != 0
    with monkeypatch.context() as patch:
        patch.setattr("geodiff.tasks.superres.restore_all", killed)
        assert geodiff("superres", *place.words, *WORDS, "--out", out).exit_code != 0
    assert list(pystac.Catalog.from_file(str(out / "catalog.json")).get_items(recursive=True)) == []
    result = geodiff("superres", *place.words, *WORDS, "--out", out)
    assert result.exit_code == 0, result.output
    assert contents(store) == wanted
    with xr.open_zarr(store) as cube:
        assert bool(cube["reflectance"].notnull().all())
    assert damaged_assets(only_item(out)) == {}
    assert not list(out.rglob("*.work"))
