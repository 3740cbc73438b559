"""``report.json`` and ``report.html`` of an evaluation of generated tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.outputs.atomic import explained, write_json
from geodiff.outputs.report_generate import write_generate_html
from geodiff.outputs.report_generate_plots import TrackPair, confusions, histograms, sweep, track_pairs
from geodiff.outputs.report_page import Picture
from geodiff.schema import UsageError
from geodiff.tasks.evaluate_generate import FORMAT, Asked, Made, draw_windows, generate
from geodiff.tasks.evaluate_generate_settings import GenerationSettings
from geodiff.tasks.evaluate_generate_summary import QUANTITIES, REAL, distributions, figures, labels_of
from geodiff.tasks.evaluate_vessels_data import load_cleaned
from geodiff.tasks.motion_models import Contender, load_contender
from geodiff.tasks.versions import versions

if TYPE_CHECKING:
    from geodiff.tasks.job import Progress

REPORT = "report.json"
EXAMPLES = 12
"""Windows that are drawn beside what was made in their place."""


@dataclass(frozen=True, slots=True)
class Run:
    """How an evaluation is run; nothing of it changes a figure.

    Attributes:
        command: that makes the report again.
        progress: called with stage, done and total.
        tell: called with a line on what was read.
    """

    command: str = ""
    progress: Progress | None = None
    tell: Callable[[str], None] | None = None


def evaluate_generation(
    data: Sequence[Path], model: str | Contender, out: Path, settings: GenerationSettings, run: Run = Run()
) -> tuple[dict[str, Any], Path]:
    """Make tracks in place of real ones and write how alike they are.

    Args:
        data: files of fixes, or cleaned tracks.
        model: name or path of trained weights.
        out: folder of ``report.json``, ``report.html`` and what is made.
        settings: of the evaluation.
        run: command and callbacks.

    Returns:
        The report as plain values, and the path of the page.

    Raises:
        UsageError, GeodiffError: settings, model or data that will not do, or a folder that cannot be written.
    """
    if any(not 0 < each <= 20 for each in settings.guidance) or len({*settings.guidance}) < len(settings.guidance):
        raise UsageError(f"guidance {settings.guidance}: give different strengths above 0 and up to 20")
    contender = load_contender(model) if isinstance(model, str) else model
    cleaned = load_cleaned(data, tell=run.tell)
    asked = draw_windows(cleaned, contender, settings)
    made = generate(contender, asked, out, settings, progress=run.progress)
    report = _about(asked, contender, settings, cleaned.notes, run.command) | figures(asked, made, settings)
    path = out / REPORT
    with explained(path):
        write_json(path, report)
    return report, write_generate_html(report, _pictures(report, asked, made), out)


def _about(
    asked: Asked, contender: Contender, settings: GenerationSettings, data: Mapping[str, Any], command: str
) -> dict[str, Any]:
    grid = asked.test.grid
    return {
        "format": FORMAT,
        "task": "generate",
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "settings": settings.model_dump(mode="json"),
        "model": contender.name,
        "digest": contender.digest,
        "data": dict(data),
        "asked": {
            "tracks": len(asked.test),
            "vessels": len(np.unique(asked.test.vessel_id)),
            "learned": len(asked.learned),
            "learned_vessels": len(np.unique(asked.learned.vessel_id)),
            "hours": grid.hours,
            "step_s": grid.step_s,
        },
    }


def best_guidance(report: Mapping[str, Any]) -> str:
    """The name of the generator with the largest product of ratios of accuracy, among strengths of guidance."""
    rows: dict[str, Any] = {name: row for name, row in report["generators"].items() if row["guidance"] is not None}

    def worth(name: str) -> float:
        return float(np.prod([each["ratio"]["mean"] for each in rows[name]["accuracy"].values()]))

    return max(rows, key=worth)


def headline(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows for the terminal: each generator's ratios of accuracy, divergence of speed, and what is impossible."""
    out = []
    for name, row in report["generators"].items():
        ratios = [row["accuracy"].get(each) for each in ("group", "behaviour")]
        # One vessel has no halves to compare.
        speed = row["divergence"].get("all", {}).get("speed_kn")
        cells = ["-" if each is None else f"{each['ratio']['mean']:.2f}" for each in ratios]
        cells += ["-" if speed is None else f"{speed['jsd_bits']:.3f}"]
        out.append((name, *cells, f"{100 * row['too_fast']:.2f} %", f"{100 * row['too_sharp']:.2f} %"))
    return out


HEADER = ("generator", "group / real", "behaviour / real", "speed JSD bits", "too fast", "too sharp")


def _pictures(report: Mapping[str, Any], asked: Asked, made: Sequence[Made]) -> list[Picture]:
    best = best_guidance(report)
    shown = [each for each in made if each.name == best or each.guidance is None]
    out = []
    if report["real"]["accuracy"]:
        out.append(Picture("Guidance", sweep(report)))
    out.append(
        Picture(
            "Distributions; the outermost bars hold all beyond",
            histograms(distributions(asked, shown), dict(QUANTITIES)),
        )
    )
    for name, real in report["real"]["accuracy"].items():
        row = report["generators"][best]["accuracy"][name]
        out.append(Picture(f"What is taken for what: {name}", confusions([REAL, best], [real, row])))
    drawn = track_pairs(_examples(asked, next(each for each in made if each.name == best)))
    if drawn is not None:
        out.append(Picture(f"Made beside real, km east and north of the start: {best}", drawn))
    return out


def _examples(asked: Asked, made: Made) -> list[TrackPair]:
    """Windows of different labels in turn, the first of each, those that lie still left out."""
    labels = labels_of(asked.test)
    kept = [row for row, label in enumerate(labels) if not label.endswith("still")]
    first = {labels[row]: row for row in reversed(kept)}
    rows = sorted(first.values())
    chosen = (
        [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).round().astype(int))]
        if rows
        else []
    )
    return [
        TrackPair(
            labels[row],
            {
                REAL: (asked.test.lon_deg[row], asked.test.lat_deg[row]),
                "made": (made.pieces.lon_deg[row], made.pieces.lat_deg[row]),
            },
        )
        for row in chosen
    ]
