"""Speed and memory of every model that can be had here, on one machine in one table: shipped ones, baselines, peers.

Each model runs in a process of its own, on two threads; see ``throughput`` for what is timed. Networks that do not ship
with weights have random ones, on which neither time nor memory depends. Slow models get a smaller scene, so that none
takes much more than ``GEODIFF_BENCH_SECONDS``; the table tells the size. ``GEODIFF_BENCH_MODEL`` adds a model,
``GEODIFF_BENCH_PX`` is the side of the full scene.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from geodiff.config import catalogs_dir
from geodiff.grid import Grid
from geodiff.model.networks import KINDS, make_network, save_network
from geodiff.model.plugin_config import PluginConfig, plugin_files, read_plugin
from geodiff.schema import BANDS_10M, BANDS_20M
from geodiff.tasks.models import BASELINES, DEFAULT_MODEL, describe_models, models_dir
from geodiff.testing.scenes import write_scenes
from geodiff.testing.series import DEMO_DAYS, Effects, demo_series
from tests.benchmarks.bench_memory import Usage, measure
from tests.benchmarks.throughput import Task, Throughput

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SIDE_PX = int(os.environ.get("GEODIFF_BENCH_PX", "512"))
SECONDS = float(os.environ.get("GEODIFF_BENCH_SECONDS", "60"))
ADDED = os.environ.get("GEODIFF_BENCH_MODEL")
DATES, MEMBERS, PASSES, WORKERS = 6, 4, 2, 2
TARGET_KM2_PER_S = 0.5
TEN = (*BANDS_10M, *BANDS_20M)
MIXING = ("injection",)
"""Baselines that do nothing of their own without bands of 20 m; the others restore the 10 m bands."""

PROGRAM = Path(__file__).with_name("throughput.py")
GRID = Grid("EPSG:32631", (10.0, 10.0), (499_200.0, 4_689_920.0), (SIDE_PX, SIDE_PX))

SHIPPED = sorted(path.stem for path in models_dir().glob("*.json"))
PLUGINS = {path.stem: path for path in sorted((catalogs_dir() / "plugins").glob("*.yaml"))}
HEADER = (
    "model", "bands", "mean, km2/s", "one member, km2/s", "passes", "parameters", "peak RSS, MB", "scene, px",
    "weights",
)  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    days = DEMO_DAYS[:: len(DEMO_DAYS) // DATES][:DATES]
    # Without clouds every date counts in every part of the scene, so that all models get the same number of them.
    series = demo_series(SIDE_PX, days=days, effects=Effects(clouds=0, mask_errors=0), bands=TEN)
    return write_scenes(series, GRID, tmp_path_factory.mktemp("scenes") / "catalog")


@pytest.fixture(scope="module")
def table(report: Report) -> Iterator[list[tuple[str, ...]]]:
    """Rows under ``HEADER``; what is there when the last model is done becomes a table of the report."""
    rows: list[tuple[str, ...]] = []
    yield rows
    notes = (
        f"Restoration of synthetic series of {DATES} dates, x4, from a cube in memory to the finished "
        f"store, on {WORKERS} threads; each model in a process of its own, whose peak memory includes reading the "
        f"scene. One member: of an ensemble of {MEMBERS}, the shared work included. Passes: for the mean, then for a "
        f"member. A smaller scene was given to models that would take more than {SECONDS:g} s; their memory is that of "
        "a smaller tile."
    )
    report.add_table("Throughput", HEADER, rows, notes=notes)


def _shipped(name: str, folder: Path) -> str:
    bands = next(row.bands for row in describe_models() if row.name == name)
    lacking = [band for band in bands if band not in TEN]
    if lacking:
        pytest.skip(f"{name} reads {', '.join(lacking)}, which the synthetic scenes lack")
    return name


def _same(name: str, folder: Path) -> str:
    return name


def _untrained(name: str, folder: Path) -> str:
    """A network of the sizes that its configuration has by default."""
    values = {"bands": BANDS_10M, "scale": 4, "residual_scale": (0.02,) * len(BANDS_10M)}
    path = folder / f"{name}.safetensors"
    save_network(make_network(name, values, where="benchmark"), path, card={})
    return str(path)


def _plugin(name: str, folder: Path) -> str:
    config = read_plugin(PLUGINS[name])
    lacking = [package for package in packages_of(config) if importlib.util.find_spec(package) is None]
    if lacking:
        pytest.skip(f"plug-in {name} needs {', '.join(lacking)}: pip install 'geodiff[plugins]'")
    path = Path(shutil.copy(PLUGINS[name], folder))
    for there, here in zip(plugin_files(PLUGINS[name])[1:], plugin_files(path)[1:], strict=True):
        if there.is_file():
            shutil.copy(there, here)
        elif config.onnx is not None and config.layout == "btchw" and config.dates is not None:
            write_series_network(here, bands=len(config.bands), dates=config.dates, scale=config.scale)
        else:
            pytest.skip(f"plug-in {name} needs its file {there.name}, which does not ship")
    return str(path)


def packages_of(config: PluginConfig) -> list[str]:
    """Packages that a plug-in imports."""
    if config.onnx is not None:
        return ["onnx", "onnxruntime"]
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(str(value[key]).partition(":")[0].partition(".")[0] for key in value if key == "factory")
            for inner in value.values():
                look(inner)

    look({"factory": config.factory, **config.kwargs})
    return list(dict.fromkeys(found))


def write_series_network(path: Path, *, bands: int, dates: int, scale: int, width: int = 64, depth: int = 4) -> None:
    """A plain convolutional network of a series as an ONNX graph: dates as channels, depth to space at the end."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    constants = [numpy_helper.from_array(np.array(date, np.int64), f"date{date}") for date in range(dates)]
    nodes = [helper.make_node("Gather", ["x", f"date{date}"], [f"x{date}"], axis=1) for date in range(dates)]
    nodes.append(helper.make_node("Concat", [f"x{date}" for date in range(dates)], ["h0"], axis=1))
    widths = [dates * bands, *[width] * depth, bands * scale**2]
    for layer, (wide, deep) in enumerate(pairwise(widths)):
        kernel = random.normal(0, (wide * 9) ** -0.5, (deep, wide, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [f"h{layer}", f"w{layer}"], [f"c{layer}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu" if layer < depth else "Identity", [f"c{layer}"], [f"h{layer + 1}"]))
    nodes.append(helper.make_node("DepthToSpace", [f"h{depth + 1}"], ["y"], blocksize=scale, mode="CRD"))
    sides: list[list[Any]] = [["b", dates, bands, "h", "w"], ["b", bands, "oh", "ow"]]
    entry, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("xy", sides, strict=True))
    graph = helper.make_graph(nodes, "series", [entry], [result], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


MODELS: dict[str, tuple[Callable[[str, Path], str], str]] = {
    **dict.fromkeys(SHIPPED, (_shipped, "shipped")),
    **({ADDED: (_same, "given")} if ADDED and ADDED not in SHIPPED else {}),
    **dict.fromkeys(BASELINES, (_same, "")),
    **dict.fromkeys(KINDS, (_untrained, "random")),
    **dict.fromkeys(PLUGINS, (_plugin, "random, plug-in")),
}
"""How each model is made ready (name and a folder to what ``--model`` takes), and whose weights it has."""


@pytest.mark.parametrize("name", MODELS)
def test_speed(name: str, catalog: Path, tmp_path: Path, table: list[tuple[str, ...]], report: Report) -> None:
    prepare, weights = MODELS[name]
    try:
        model = prepare(name, tmp_path)
    except pytest.skip.Exception as skipped:
        table.append((name, f"skipped: {skipped}", *[""] * (len(HEADER) - 2)))
        raise
    grid = (GRID.crs, GRID.resolution, GRID.origin, GRID.shape)
    bands = TEN if name in MIXING else BANDS_10M
    task = Task(str(catalog), grid, model, bands, MEMBERS, PASSES, DATES, WORKERS, SECONDS)
    found, used = run(task, tmp_path)
    label = Path(name).stem
    assert found.dates == DATES, "all models are compared on the same number of dates"
    what = f"{label}, {found.shape[0]} x {found.shape[1]} px, {found.dates} dates, {WORKERS} threads"
    report.add(f"{what}: mean", found.mean, "km2/s")
    if found.member is not None:
        aim = TARGET_KM2_PER_S if name in (DEFAULT_MODEL, ADDED) else None
        report.add(
            f"{what}: per member of {found.members}, {found.passes[1]} passes", found.member, "km2/s", at_least=aim
        )
    report.add(f"{what}: peak memory", used.rss_mb, "MB")
    table.append(row(label, weights, found, used))


def run(task: Task, folder: Path) -> tuple[Throughput, Usage]:
    """One model in a fresh process: its speed, and what the process took."""
    given, result = folder / "task.json", folder / "result.json"
    given.write_text(json.dumps(asdict(task)))
    used = measure([sys.executable, str(PROGRAM), str(given), str(result)], folder)
    return Throughput(**json.loads(result.read_text())), used


def row(label: str, weights: str, found: Throughput, used: Usage) -> tuple[str, ...]:
    """A row under ``HEADER``."""
    learned = found.parameters > 0
    of_mean, of_member = found.passes
    passes = str(of_mean) if found.member is None or of_mean == of_member else f"{of_mean}, {of_member}"
    return (
        f"`{label}`",
        str(found.bands),
        f"{found.mean:.3g}",
        f"{found.member:.3g}" if found.member is not None else "–",
        passes if learned else "–",
        size(found.parameters) if learned else "–",
        f"{used.rss_mb:.0f}",
        f"{found.shape[0]} x {found.shape[1]}",
        weights or "–",
    )


def size(parameters: int) -> str:
    """A count with three digits: 860 k, 1.20 M."""
    return f"{parameters / 1e6:.3g} M" if parameters >= 999_500 else f"{parameters / 1e3:.3g} k"
