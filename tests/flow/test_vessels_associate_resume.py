"""Association is stopped and goes on from where it was, to the same bytes; half a run is never in the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from geodiff.tasks import vessels_associate
from geodiff.tasks.vessels_plan import TrackPlan, make_plan
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import AssociateSettings
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.associate_stream import Decided, Stream

SETTINGS = AssociateSettings(rules={"block_rows": 100})
ROWS = 150


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vessels_associate, "ROWS_AT_ONCE", ROWS)


@pytest.fixture(scope="module")
def plots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plots") / "plots.csv"
    make_fleet(7, vessels=5, hours=3.0, behaviours=["transit", "ferry"], defects={}).fixes.write_csv(path)
    return path


class Fed:
    """Counts the rows that the stream is fed, and stops the run at one of its tables."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> None:
        self.rows, self.tables = 0, 0
        feed = Stream.feed

        def counting(stream: Stream, rows: pl.DataFrame) -> Iterator[Decided]:
            self.tables += 1
            if self.tables == stop_at:
                yield from list(feed(stream, rows))[:1]  # half of what it decides is written
                raise KeyboardInterrupt
            self.rows += len(rows)
            yield from feed(stream, rows)

        monkeypatch.setattr(Stream, "feed", counting)


def plan_of(plots: Path, out: Path) -> TrackPlan:
    return make_plan("associate", [plots], SETTINGS, out, parts=3)


def run(plots: Path, out: Path) -> None:
    run_tracks(plan_of(plots, out), pool=Pool(), progress=lambda *told: None)


def digests(out: Path) -> dict[str, str]:
    files = [path for path in out.rglob("*") if path.suffix == ".parquet" or (".zarr" in str(path) and path.is_file())]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stopped(plots: Path, out: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    with monkeypatch.context() as patch:
        Fed(patch, stop_at=at)
        with pytest.raises(KeyboardInterrupt):
            run(plots, out)
    assert not (out / "catalog.json").exists()
    assert not list(out.rglob("collection.json"))


@pytest.fixture(scope="module")
def whole(plots: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vessels_associate, "ROWS_AT_ONCE", ROWS)
        run(plots, out)
    return digests(out)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_stopped_pass_goes_on_to_the_same_bytes(
    plots: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    stopped(plots, tmp_path, monkeypatch, at)
    fed = Fed(monkeypatch)
    run(plots, tmp_path)
    assert digests(tmp_path) == whole
    # Nothing that was kept is done again.
    rows = pl.read_csv(plots).height
    assert rows - at * ROWS <= fed.rows <= rows - (at - 1) * (ROWS - 10)


def test_a_pass_may_be_stopped_again_and_again(
    plots: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        stopped(plots, tmp_path, monkeypatch, 2)
    run(plots, tmp_path)
    assert digests(tmp_path) == whole


@pytest.mark.parametrize("spoil", ["arrays.npz", "waiting.arrow", "progress.json"])
def test_a_damaged_state_begins_the_pass_anew(
    plots: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    stopped(plots, tmp_path, monkeypatch, 3)
    (found,) = tmp_path.rglob(spoil)
    found.write_bytes(found.read_bytes()[: found.stat().st_size // 2])
    fed = Fed(monkeypatch)
    run(plots, tmp_path)
    assert digests(tmp_path) == whole
    assert fed.rows == pl.read_csv(plots).height
