"""The table of the benchmarks: what was measured, what was aimed at, on which machine; printed and kept as JSON.

Tables for the README are printed too, and kept as Markdown beside the JSON.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

OUT_VARIABLE = "GEODIFF_BENCH_OUT"
"""Names another file than ``benchmarks.json`` in the root of the checkout."""


@dataclass(frozen=True)
class Figure:
    """One measurement; ``limit`` is the least (``at_least``) or most it should be, None where nothing is aimed at."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if met else "MISSED"

    @property
    def target(self) -> str:
        return "" if self.limit is None else f"{'>=' if self.at_least else '<='} {self.limit:g}"


class Report:
    """Collects figures over a session. A target that is missed is shown, not raised: machines differ."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.tables: list[str] = []

    def add(
        self, what: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        limit = at_least if at_least is not None else at_most
        self.figures.append(Figure(what, float(value), unit, limit, at_least is not None))

    def add_table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, notes: str = "") -> None:
        """A table as Markdown, for people; figures to compare go through ``add``."""
        ruled = [header, ["---"] * len(header), *rows]
        lines = ["| " + " | ".join(cells) + " |" for cells in ruled]
        self.tables.append("\n".join([f"{title} ({about_machine()})", "", *lines, *(["", notes] if notes else []), ""]))

    def lines(self) -> list[str]:
        width = max(len(figure.what) for figure in self.figures)
        rows = [f"{'benchmark':{width}}  {'value':>10}  {'unit':16}  {'target':>8}"]
        for f in self.figures:
            rows.append(f"{f.what:{width}}  {f.value:10.3g}  {f.unit:16}  {f.target:>8}  {f.verdict}".rstrip())
        missed = sum(figure.verdict == "MISSED" for figure in self.figures)
        return [*rows, f"{missed} of {len(self.figures)} figures MISSED their target" if missed else "no target missed"]

    def write(self, path: Path) -> None:
        document = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What the figures depend on."""
    import torch

    from geodiff.version import __version__

    return {
        "geodiff": __version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_at_end": round(psutil.getloadavg()[0], 2),
    }


def about_machine() -> str:
    """The machine in one line."""
    about = machine()
    return f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, load {about['load_at_end']}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


_REPORT = pytest.StashKey[Report]()


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Where benchmarks put their figures."""
    return request.config.stash.setdefault(_REPORT, Report())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table and keep it."""
    found = config.stash.get(_REPORT, None)
    if found is None or not found.figures:
        return
    out = Path(os.environ.get(OUT_VARIABLE) or config.rootpath / "benchmarks.json")
    found.write(out)
    terminalreporter.section("benchmarks")
    terminalreporter.line(about_machine())
    for line in found.lines():
        terminalreporter.line(line)
    written = [out.name]
    if found.tables:
        markdown = out.with_suffix(".md")
        markdown.write_text("\n".join(found.tables), encoding="utf-8")
        written.append(markdown.name)
    for table in found.tables:
        terminalreporter.line("")
        for line in table.splitlines():
            terminalreporter.line(line)
    terminalreporter.line(f"written to {' and '.join(written)}")
