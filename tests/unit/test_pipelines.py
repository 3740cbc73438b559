"""The flow over regions, on a small synthetic catalogue."""

from __future__ import annotations

import importlib.util
import logging
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from geodiff.grid import Grid
from geodiff.schema import UsageError
from geodiff.testing.scenes import write_scenes
from geodiff.testing.series import NO_EFFECTS, demo_series

GRID = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_690_000.0), (48, 48))
TODAY = date(2021, 11, 10)
FIRST_DAY = 18_906.0  # 2021-10-06


@pytest.fixture
def flow(repository: Path) -> ModuleType:
    path = repository / "pipelines" / "superres_regions.py"
    spec = importlib.util.spec_from_file_location("superres_regions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    series = demo_series(48, days=(FIRST_DAY, FIRST_DAY + 20), effects=NO_EFFECTS)
    return write_scenes(series, GRID, tmp_path_factory.mktemp("scenes") / "catalog")


def write_region(folder: Path, stem: str, /, **settings: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.yaml").write_text(yaml.safe_dump(settings))


def test_relative_dates_count_back_from_the_day_of_the_run(flow: ModuleType) -> None:
    assert flow.resolve_dates("last 60 days", date(2026, 3, 1)) == "2025-12-31/2026-03-01"
    assert flow.resolve_dates("last 1 day", date(2026, 3, 1)) == "2026-02-28/2026-03-01"
    assert flow.resolve_dates("2021-06-01/2021-08-31", TODAY) == "2021-06-01/2021-08-31"


def test_the_flow_is_short_and_its_examples_are_valid(flow: ModuleType, repository: Path) -> None:
    assert len((repository / "pipelines" / "superres_regions.py").read_text().splitlines()) <= 100
    examples = sorted((repository / "pipelines" / "regions").glob("*.yaml"))
    names = [flow.read_region(path, TODAY)[0] for path in examples]
    assert names == ["boadella", "ebro-delta"]


def test_an_unknown_place_or_key_is_explained(flow: ModuleType, tmp_path: Path) -> None:
    write_region(tmp_path, "a", catalog="earth-search", region="atlantis")
    with pytest.raises(UsageError, match=r"no region 'atlantis'.*boadella"):
        flow.read_region(tmp_path / "a.yaml", TODAY)
    write_region(tmp_path, "b", catalog="earth-search", region="boadella", modle="s2x4")
    with pytest.raises(UsageError, match="model"):
        flow.read_region(tmp_path / "b.yaml", TODAY)


def test_regions_are_done_once_and_a_failing_one_does_not_stop_the_others(
    flow: ModuleType, tmp_path: Path, catalog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    west, south, east, north = GRID.bounds_wgs84
    common = {"catalog": str(catalog), "crs": "native", "model": "bicubic", "ensemble": 1, "datetime": "last 60 days"}
    regions, out = tmp_path / "regions", tmp_path / "out"
    write_region(regions, "a-broken", catalog=str(tmp_path / "absent" / "catalog.json"), bbox=[1, 1, 2, 2])
    write_region(regions, "b-place", **common, name="place", bbox=[west, south, east, north])
    caplog.set_level(logging.INFO)
    arguments = [str(regions), "--out", str(out), "--workers", "1"]

    assert flow.main(arguments, today=TODAY) != 0
    failed, done = [record.getMessage() for record in caplog.records if record.name == "superres_regions"]
    assert failed.startswith("a-broken: failed: ")
    assert done.startswith("b-place: done 2021-10-")
    assert len(list((out / "place").glob("*.zarr"))) == 1

    # The next day, without a new scene: nothing is done, though the interval has moved.
    caplog.clear()
    (regions / "a-broken.yaml").unlink()
    assert flow.main(arguments, today=date(2021, 11, 11)) == 0
    (line,) = [record.getMessage() for record in caplog.records if record.name == "superres_regions"]
    assert line.startswith("b-place: unchanged 2021-10-")
    assert len(list((out / "place").glob("*.zarr"))) == 1


def test_a_folder_without_regions_is_a_wrong_command(flow: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        flow.main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
