"""The parts of the command line that need no data: words, settings, errors, exit codes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import geodiff.cli
from geodiff.cli.errors import STOPPED, explain, finishing_regions
from geodiff.cli.inputs import file_name, read_region, split_words
from geodiff.cli.restore import check_name, merge, summary_lines
from geodiff.cli.show import print_pairs, print_rows
from geodiff.schema import GeodiffError, UsageError
from geodiff.version import __version__

PLACE: dict[str, Any] = {"catalog": "earth-search", "bbox": (2.8, 42.3, 2.9, 42.4), "datetime": "2021-06"}


def run(*words: str) -> Result:
    return CliRunner().invoke(geodiff.cli.app, list(words), prog_name="geodiff")


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom geodiff.cli import main\nsys.argv[1:] = ['--help']\ntry: main()\nexcept SystemExit: pass\n"
        "print('LOADED', *sorted({'torch', 'xarray', 'dask', 'rasterio', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("LOADED")
    for command in ("search", "catalog", "superres", "train", "models", "demo", "version"):
        assert command in done.stdout


def test_version() -> None:
    assert run("version").stdout == f"geodiff {__version__}\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``geodiff search`` asks of the catalogue."""
    seen: dict[str, Any] = {}

    def find(source: object, **words: Any) -> list[object]:
        seen.update(words)
        return []

    monkeypatch.setattr("geodiff.imagery.catalog.search", find)
    return seen


def test_a_box_may_hold_negative_numbers(asked: dict[str, Any]) -> None:
    words = ("--collection", "a", "--collection", "b", "--datetime", "2021", "--max-cloud", "20", "--limit", "3")
    result = run("search", "--catalog", "earth-search", "--bbox", "-3.1", "-42", "-2.9", "-41.5", *words)
    assert result.exit_code == 0, result.output
    assert asked == {
        "collections": ("a", "b"),
        "bbox": (-3.1, -42.0, -2.9, -41.5),
        "geometry": None,
        "datetime": "2021",
        "max_cloud": 20.0,
        "limit": 3,
    }


def test_a_box_of_three_numbers_is_refused(asked: dict[str, Any]) -> None:
    result = run("search", "--catalog", "earth-search", "--datetime", "2021", "--bbox", "-3.1", "42", "-2.9")
    assert result.exit_code == 2
    assert "--bbox" in result.stderr
    assert not asked


def test_lists_are_given_with_commas_or_repeated() -> None:
    assert split_words(["B02,B03", " B04 ", ""]) == ("B02", "B03", "B04")
    assert split_words(None) == ()


SQUARE = [[[2.0, 42.0], [2.1, 42.0], [2.1, 42.1], [2.0, 42.1], [2.0, 42.0]]]


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"type": "Polygon", "coordinates": SQUARE}, "my-area"),
        ({"type": "Feature", "properties": {"name": "Étang de Thau"}, "geometry": None}, "tang-de-Thau"),
        ({"type": "Feature", "properties": None, "id": 7, "geometry": None}, "7"),
        ({"type": "Feature", "properties": {"name": "/"}, "geometry": None}, "my-area"),
    ],
)
def test_a_region_brings_its_name(tmp_path: Path, document: dict[str, Any], name: str) -> None:
    if "geometry" in document:
        document = document | {"geometry": {"type": "Polygon", "coordinates": SQUARE}}
    path = tmp_path / "my area.geojson"
    path.write_text(json.dumps(document))
    geometry, found = read_region(path)
    assert geometry["type"] == "Polygon"
    assert found == name


def test_features_of_a_region_are_joined(tmp_path: Path) -> None:
    far = [[[x + 1, y] for x, y in SQUARE[0]]]
    features = [
        {"type": "Feature", "properties": {"name": n}, "geometry": {"type": "Polygon", "coordinates": c}}
        for n, c in (("one", SQUARE), ("two", far))
    ]
    path = tmp_path / "both.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    geometry, name = read_region(path)
    assert geometry["type"] == "MultiPolygon"
    assert name == "both"


def test_a_region_nested_without_end_is_no_geojson(tmp_path: Path) -> None:
    path = tmp_path / "deep.geojson"
    collections = '{"type": "GeometryCollection", "geometries": [' * 5_000 + "]}" * 5_000
    for text in ("[" * 100_000 + "]" * 100_000, collections):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"deep\.geojson is not GeoJSON"):
            read_region(path)


def test_names_are_made_fit_for_folders_and_never_climb() -> None:
    assert file_name("../../etc") == "etc"
    assert file_name("a b/c") == "a-b-c"
    assert check_name("boadella_1.x") == "boadella_1.x"
    for bad in ("../x", "a/b", ".hidden", "", "a b"):
        with pytest.raises(UsageError, match="--name"):
            check_name(bad)


def test_options_win_over_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("catalog: mine\nbbox: [1, 2, 3, 4]\ndatetime: 2020-01-01/2020-12-31\nensemble: 6\nevery: 10D\n")
    region = {"type": "Polygon", "coordinates": SQUARE}
    settings = merge(path, {"region": region, "bbox": None, "target": "2020-05-05", "seed": None})
    assert (settings.catalog, settings.ensemble, settings.seed) == ("mine", 6, 0)
    assert (settings.bbox, settings.every) == (None, None)
    assert str(settings.target) == "2020-05-05"
    assert merge(path, {}).every == "10D"


def test_without_a_file_the_defaults_are_those_of_the_settings() -> None:
    settings = merge(None, PLACE)
    assert (settings.ensemble, settings.passes, settings.model, settings.format) == (4, 2, "s2x4", "zarr")
    assert settings.bands == ("B02", "B03", "B04", "B08")


@pytest.mark.parametrize("lacking", ["catalog", "datetime", "bbox"])
def test_what_is_missing_is_named(lacking: str) -> None:
    with pytest.raises(UsageError, match=lacking):
        merge(None, {key: value for key, value in PLACE.items() if key != lacking})


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (GeodiffError("first\nsecond"), "first second", 1),
        (UsageError("wrong"), "wrong", 2),
        (KeyboardInterrupt(), "stopped; run the same command again to resume", STOPPED),
        (typer.Abort(), "stopped; run the same command again to resume", STOPPED),
        (MemoryError(), "out of memory: use fewer --workers, or a smaller region", 1),
        (ValueError("odd\n  thing"), "ValueError: odd thing", 1),
        (ZeroDivisionError(), "ZeroDivisionError", 1),
    ],
)
def test_every_error_is_one_line_and_a_code(error: BaseException, text: str, code: int) -> None:
    assert explain(error) == (text, code)


@pytest.fixture
def fails_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let ``geodiff search`` end with an error."""

    def arrange(error: BaseException) -> None:
        def fail(*args: object, **words: object) -> None:
            raise error

        monkeypatch.setattr("geodiff.imagery.catalog.search", fail)

    return arrange


SEARCH = ("search", "--catalog", "earth-search", "--datetime", "2021")


def test_an_unexpected_error_hides_its_traceback_until_asked(fails_with: Callable[[BaseException], None]) -> None:
    fails_with(RuntimeError("a bug"))
    quiet = run(*SEARCH)
    assert quiet.exit_code == 1
    assert quiet.stderr == "error: RuntimeError: a bug (unexpected; run again with --debug to see where)\n"
    for words in ((*SEARCH, "--debug"), ("--debug", *SEARCH)):
        loud = run(*words)
        assert loud.exit_code == 1
        assert "Traceback" in loud.stderr
        assert loud.stderr.endswith("error: RuntimeError: a bug\n")


EVIL = "evil\x1b]0;PWNED\x07\x1b[31m\u202e\nred"


def test_names_that_strangers_gave_are_no_orders_to_the_terminal(fails_with: Callable[[BaseException], None]) -> None:
    fails_with(GeodiffError(f"scene {EVIL}"))
    assert run(*SEARCH).stderr == "error: scene evil?]0;PWNED??[31m? red\n"
    fails_with(RuntimeError(f"{EVIL} http://me:s3cret@example.com"))
    loud = run(*SEARCH, "--debug").stderr
    assert "Traceback" in loud
    assert "s3cret" not in loud
    assert all(letter.isprintable() for letter in loud.replace("\n", ""))
    assert logging.lastResort is not None
    warning = logging.makeLogRecord({"msg": "skipped %s", "args": (EVIL,)})
    assert logging.lastResort.format(warning) == "skipped evil?]0;PWNED??[31m? red"


def test_tables_hold_no_orders_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("scene",), [(EVIL,)])
    print_pairs("", [(EVIL, EVIL)])
    told = capsys.readouterr().out
    assert told.count("PWNED") == 3
    assert all(letter.isprintable() for letter in told.replace("\n", ""))


def test_a_panic_of_a_library_is_one_line_too(fails_with: Callable[[BaseException], None]) -> None:
    class PanicException(BaseException):
        """As of pyo3, which is no Exception."""

    fails_with(PanicException("out-of-range\ndatetime"))
    result = run(*SEARCH)
    assert result.exit_code == 1
    said = "error: a library failed within: out-of-range datetime (unexpected; run again with --debug to see where)\n"
    assert result.stderr == said


def test_ctrl_c_ends_with_130(fails_with: Callable[[BaseException], None]) -> None:
    fails_with(KeyboardInterrupt())
    result = run(*SEARCH)
    assert result.exit_code == STOPPED
    assert result.stderr.strip() == "stopped; run the same command again to resume"


def test_the_first_ctrl_c_waits_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupted() -> None:
        with finishing_regions():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "press Ctrl-C again" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_ends_at_once() -> None:
    code = """
import os, signal, time
from geodiff.cli.errors import finishing_regions
with finishing_regions():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == STOPPED
    assert "stopped; run the same command again to resume" in done.stderr


def test_a_summary_without_figures_still_names_its_files() -> None:
    assert summary_lines({"zarr": "a.zarr", "item": "a.json"}) == [("Zarr", "a.zarr"), ("item", "a.json")]
    lines = dict(summary_lines({"cpsnr_db": {"bicubic": 30.1234, "s2x4": 33.0}, "files": ["a.png"]}))
    assert lines == {"cPSNR": "bicubic 30.12 dB, s2x4 33.00 dB", "file": "a.png"}


def test_models_lists_the_baselines() -> None:
    result = run("models")
    assert result.exit_code == 0, result.output
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names[0] == "model"
    assert {"bicubic", "median"} <= set(names)
