"""kill -9 at any moment, run again: the same bytes, and no item before the end."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import runpy
import signal
import textwrap
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from geodiff.outputs.ledger import work_folder
from geodiff.outputs.published import find_item
from geodiff.testing.small_catalog import small_catalog
from geodiff.testing.tiny_models import tiny_weights

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path

from geodiff.config import SuperresConfig
from geodiff.tasks.plan import make_plan
from geodiff.tasks.superres import run

out, log = Path({out!r}), open({log!r}, "a", buffering=1)


def tell(stage, done, total):
    print(stage, done, total, file=log, flush=True)


config = SuperresConfig(**json.loads({settings!r}))
plan = make_plan(config, out, name="here", workers=1, progress=lambda *_: None)
plan = replace(plan, job=replace(plan.job, spec=replace(plan.job.spec, shard=128, chunk=64)))
print("run", plan.job.run_id, plan.job.store, file=log)
outcome = run(plan, out, name="here", workers=2, progress=tell)
print("finished", outcome.resumed, 0, file=log)
"""


class Runner:
    """Starts the job in processes of its own, forked from one that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        catalog, bbox = small_catalog(folder / "catalog", shape=(66, 64))
        settings = {
            "catalog": str(catalog),
            "bbox": bbox,
            "datetime": "2021-06-01/2021-09-30",
            "every": "48D",
            "ensemble": 1,
            "model": str(tiny_weights(folder)),
            "tile": {"core": 32, "feather": 4, "halo": 8},
            "coregister": False,
        }
        self.settings = json.dumps(settings)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["geodiff.tasks.superres", "geodiff.tasks.plan", "matplotlib.pyplot"])

    def start(self, out: Path) -> tuple[BaseProcess, Path]:
        log, script = out.with_suffix(".log"), out.with_suffix(".py")
        log.write_text("")
        script.write_text(textwrap.dedent(SCRIPT).format(out=str(out), log=str(log), settings=self.settings))
        process = self.context.Process(target=runpy.run_path, args=(str(script),))
        process.start()
        return process, log

    def finish(self, out: Path, poll: Callable[[Path], None] | None = None) -> list[str]:
        process, log = self.start(out)
        while process.is_alive():
            if poll:
                poll(log)
            process.join(0.05)
        assert process.exitcode == 0
        return log.read_text().splitlines()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("resume"))


def _kill_after(runner: Runner, out: Path, line: str, delay_s: float) -> None:
    process, log = runner.start(out)
    while process.is_alive() and line not in log.read_text():
        time.sleep(0.005)
    time.sleep(delay_s)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"the job was over before {line!r} and {delay_s:.3f} s"


def _files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def _items(out: Path) -> list[str]:
    """What a reader finds who comes through the catalogue."""
    return [str(path) for path in out.rglob("*.json") if path.stem.count("_") == 0 and '"Feature"' in path.read_text()]


def test_killed_at_random_moments_the_run_ends_with_the_same_bytes(runner: Runner) -> None:
    straight, broken = runner.folder / "straight", runner.folder / "broken"
    lines = runner.finish(straight)
    run_id, store = lines[0].split()[1], Path(lines[0].split()[2])
    total = int(next(line for line in lines if line.startswith("restore")).split()[2])
    assert total >= 8
    wanted = _files(store)
    broken_store = broken / store.relative_to(straight)

    dice = random.Random(20211101)
    moments = ["restore 1 ", f"restore {total // 2} ", "overviews 1 ", "pictures 0 "]
    for moment in moments:
        _kill_after(runner, broken, moment, dice.uniform(0, 0.02))
        assert not (broken / "catalog.json").exists() or find_item(broken, run_id) is None
        assert _items(broken) == []

    def nothing_yet(log: Path) -> None:
        if "pictures 1 1" not in log.read_text():
            found = _items(broken)
            assert "pictures 1 1" in log.read_text() or found == []

    lines = runner.finish(broken, nothing_yet)
    assert lines[-1] == "finished False 0"
    found = _files(broken_store)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    assert find_item(broken, run_id) is not None
    assert not work_folder(broken_store).exists()

    stamps = {path: path.stat().st_mtime_ns for path in broken_store.rglob("*")}
    assert runner.finish(broken)[-1] == "finished True 0"
    assert {path: path.stat().st_mtime_ns for path in broken_store.rglob("*")} == stamps
