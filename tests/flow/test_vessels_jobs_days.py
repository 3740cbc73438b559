"""The flow over day files: every file once, in order, and one that fails does not stop the others."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from geodiff.tasks.vessels_plan import make_plan
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import CleanSettings
from geodiff.testing.tracks import make_fleet


@pytest.fixture
def flow(repository: Path) -> ModuleType:
    path = repository / "pipelines" / "vessels_days.py"
    spec = importlib.util.spec_from_file_location("vessels_days", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_flow_is_short(repository: Path) -> None:
    assert len((repository / "pipelines" / "vessels_days.py").read_text().splitlines()) <= 100


def test_days_are_done_once_and_a_bad_one_does_not_stop_the_others(
    flow: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    days, out = tmp_path / "days", tmp_path / "out"
    days.mkdir()
    fixes = make_fleet(2, vessels=90, hours=2.0, interval_s=120.0, defects={}).fixes
    fixes.filter(pl.col("vessel_id") % 5 > 0).write_csv(days / "2022-03-01.csv")
    (days / "2022-03-02.csv").write_bytes(bytes(range(256)))
    words = [str(days), "--out", str(out), "--model", "hermite", "--workers", "1", "--alpha", "0.1"]
    caplog.set_level(logging.INFO)
    assert flow.main(words) == 1
    done, failed = [record.getMessage() for record in caplog.records if record.name == "vessels_days"]
    assert done.startswith("2022-03-01.csv: tracks ")
    assert "gaps: filled" in done
    assert failed.startswith("2022-03-02.csv: failed: ")
    items = sorted(path for path in out.glob("*/*.json") if "_" not in path.stem and path.stem != "collection")
    assert [path.parent.name for path in items] == ["clean", "impute", "score"]
    stamps = [path.stat().st_mtime_ns for path in items]

    (days / "2022-03-02.csv").unlink()
    assert flow.main(words) == 0
    assert [path.stat().st_mtime_ns for path in items] == stamps


def test_files_that_have_left_the_folder_are_past_tracks_still(
    flow: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet day is cleaned and filled, is not scored, and is history of the next; what is done stays so."""
    days, out = tmp_path / "days", tmp_path / "out"
    days.mkdir()
    for number in (1, 2, 3):
        fixes = make_fleet(number, vessels=4, hours=2.0, interval_s=120.0, defects={}).fixes
        fixes.write_csv(days / f"2022-03-0{number}.csv")
    words = [str(days), "--out", str(out), "--model", "nearest_historic", "--workers", "1", "--history", "2"]
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("geodiff.tasks.vessels_publish._maps", lambda job, progress: (None, None))
    assert flow.main(words) == 0
    assert all("not scored: 4 vessels are too few" in record.getMessage() for record in caplog.records)
    assert not list((out / "score").glob("*"))

    def told() -> dict[str, int]:
        items = [json.loads(path.read_text()) for path in out.glob("impute/*.json") if "_" not in path.stem]
        found = [one["properties"] for one in items if one["type"] == "Feature"]
        return {one["geodiff:run_id"]: len(one.get("geodiff:history", [])) for one in found}

    assert sorted(told().values()) == [0, 1, 2]
    before = told()
    (days / "2022-03-01.csv").unlink()
    # Nor do other runs of the catalogue tell: of other settings, of other series, damaged.
    make_fleet(9, vessels=4, hours=2.0, defects={}).fixes.write_csv(tmp_path / "2022-03-01b.csv")
    for settings, source in ((CleanSettings(gap_s=32400.0), "2022-03-01b.csv"), (CleanSettings(), "2022-03-01b.csv")):
        plan = make_plan("clean", [tmp_path / source], settings, out)
        run_tracks(plan, pool=Pool(1), progress=lambda *_: None)
    items = [path for path in (out / "clean").glob("*.json") if path.stem.isalnum()]
    damaged = next(path for path in items if '"gap_s": 32400' in path.read_text())
    assert '"type": "Feature"' in damaged.read_text()
    damaged.write_text(damaged.read_text().replace('"type": "Feature"', '"type": "X"'))
    words += ["--pattern", "2022-03-0?.csv"]
    assert flow.main(words) == 0
    assert told() == before


def test_exit_codes_tell_a_wrong_command_from_a_file_that_failed(
    flow: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2022-03-01.csv").write_text("a,b\n1,2\n")
    words = [str(tmp_path / "in"), "--out", str(tmp_path / "in" / "2022-03-01.csv"), "--workers", "1"]
    assert flow.main(words) == 2
    assert "failed: clean: " in caplog.records[-1].getMessage()
    assert flow.main([*words[:2], str(tmp_path / "out"), *words[3:]]) == 1
    assert "no known layout has the columns a, b" in caplog.records[-1].getMessage()


def test_a_folder_without_files_is_wrong_usage(flow: ModuleType, tmp_path: Path) -> None:
    for name in (None, ".2022-03-01.csv.part"):  # a file that is being fetched is none yet
        if name:
            (tmp_path / name).write_text("a,b\n1,2\n")
        with pytest.raises(SystemExit) as stopped:
            flow.main([str(tmp_path), "--out", str(tmp_path / "out")])
        assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--alpha", "2"], "alpha"),
        (["--history", "-3"], "--history -3"),
        (["--calibration", "nowhere.json"], "nowhere.json: no such file"),
        (["--workers", "0"], "--workers 0"),
        (["--ensemble", "0"], "ensemble"),
        (["--layout", "nope"], "layout 'nope'"),
        (["--timezone", "Mars"], "no time zone 'Mars'"),
        (["--model", "nope"], "nope"),
    ],
)
def test_a_wrong_command_is_told_before_the_first_file(
    flow: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], said: str
) -> None:
    (tmp_path / "2022-03-01.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit) as stopped:
        flow.main([str(tmp_path), "--out", str(tmp_path / "out"), *wrong])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
