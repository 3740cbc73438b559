"""The main job on a Dask cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xarray as xr
from typer.testing import Result

if TYPE_CHECKING:
    from conftest import TinyPlace

distributed = pytest.importorskip("distributed")

Cli = Callable[..., Result]


@pytest.fixture
def cluster() -> Iterator[Callable[[int], Any]]:
    """Start a cluster of threads of this process with so many workers."""
    started = []

    def start(workers: int) -> Any:
        made = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None
        )
        started.append(made)
        return made

    yield start
    for made in started:
        made.close()


def _restored(geodiff: Cli, place: TinyPlace, out: Path, *more: object) -> xr.Dataset:
    words = ("--model", "bicubic", "--every", "10D", "--name", "tiny", "--out", out)
    result = geodiff("superres", *place.words, *words, *more)
    assert result.exit_code == 0, result.output
    (store,) = (out / "tiny").glob("*.zarr")
    with xr.open_zarr(store) as cube:
        found: xr.Dataset = cube.load()
    return found


def test_a_cluster_gives_the_values_of_threads_also_again_after_the_output_was_deleted(
    geodiff: Cli, place: TinyPlace, tmp_path: Path, cluster: Callable[[int], Any]
) -> None:
    wanted = _restored(geodiff, place, tmp_path / "threads")
    address = cluster(2).scheduler_address
    out = tmp_path / "cluster"
    for _ in range(2):
        found = _restored(geodiff, place, out, "--scheduler", address)
        xr.testing.assert_identical(found, wanted)
        assert bool(found["valid"].all())
        shutil.rmtree(out)


def test_a_cluster_without_workers_is_an_error(
    geodiff: Cli, place: TinyPlace, tmp_path: Path, cluster: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodiff.tasks.cluster.WORKERS_TIMEOUT_S", 0.2)
    address = cluster(0).scheduler_address
    words = ("--model", "bicubic", "--out", tmp_path, "--scheduler", address)
    result = geodiff("superres", *place.words, *words)
    assert result.exit_code == 1
    assert "has no worker" in result.stderr
    assert "Traceback" not in result.stderr
