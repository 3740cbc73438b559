"""``report.json`` and ``report.html`` of an evaluation of motion models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from geodiff.outputs.atomic import explained, write_json
from geodiff.outputs.report_vessels import write_vessel_html
from geodiff.outputs.report_vessels_plots import Example
from geodiff.tasks.evaluate_vessels import FORMAT, REFERENCES, Evaluation
from geodiff.tasks.evaluate_vessels_data import Cleaned, Drawn
from geodiff.tasks.evaluate_vessels_settings import VesselSettings
from geodiff.tasks.evaluate_vessels_summary import DRAWS, LEVEL, summarise_model
from geodiff.tasks.motion_models import Contender
from geodiff.tasks.versions import versions
from geodiff.vessels.cases import MOVING_KN

REPORT = "report.json"
EXAMPLES = 6
MOST_DRAWN = 4
"""Models in a picture; more would hide each other."""


def summarise(
    found: Evaluation,
    contenders: Sequence[Contender],
    data: Cleaned,
    drawn: Drawn,
    settings: VesselSettings,
    *,
    command: str,
) -> dict[str, Any]:
    """The report as plain values, ready for JSON.

    Args:
        found: from ``evaluate_vessels``.
        contenders: the models, in the order of the tables.
        data: from ``load_cleaned``.
        drawn: from ``draw_cases``.
        settings: of the evaluation.
        command: that makes this report again.
    """
    reference = REFERENCES[settings.task]
    models = {
        contender.name: {
            "digest": contender.digest,
            "trained": bool(contender.digest),
            "regions": contender.regions,
            **summarise_model(found.records[contender.name], found.records[reference], drawn.labels),
        }
        for contender in contenders
    }
    return {
        "format": FORMAT,
        "task": settings.task,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "settings": settings.model_dump(mode="json"),
        "data": data.notes,
        "asked": drawn.notes,
        "cases": len(drawn.cases),
        "lengths": list(drawn.labels),
        "reference": reference,
        "moving": f"at least {MOVING_KN:g} kn at a known fix beside what is asked, or across the gap",
        "bootstrap": {"unit": "vessel", "draws": DRAWS, "level": LEVEL},
        "models": models,
    }


def write_reports(
    report: dict[str, Any],
    found: Evaluation,
    contenders: Sequence[Contender],
    drawn: Drawn,
    out: Path,
    settings: VesselSettings,
) -> tuple[Path, Path]:
    """Write both; returns the path of the page and that of the figures.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    path = out / REPORT
    with explained(path):
        write_json(path, report)
    return write_vessel_html(report, pick_examples(found, contenders, drawn, settings), out), path


def pick_examples(
    found: Evaluation, contenders: Sequence[Contender], drawn: Drawn, settings: VesselSettings
) -> list[Example]:
    """Cases of the longest length, from easy to hard by the first model's error, answered again to be drawn."""
    first = contenders[0]
    # A forecast is told by its end, which the title names; a gap by all of it.
    told = "fde_km" if settings.task == "forecast" else "ade_km"
    known = [
        (record[told], k)
        for k, record in enumerate(found.records[first.name])
        if record["moving"] and record["label"][-1] == drawn.labels[-1]
    ]
    if not known:
        return []
    known.sort()
    places = np.unique(np.quantile(np.arange(len(known)), [0.1, 0.3, 0.5, 0.7, 0.9, 0.97]).round().astype(int))
    rows = [known[place][1] for place in places[:EXAMPLES]]
    cases = [drawn.cases[row] for row in rows]
    shown = _shown(contenders, settings)
    queries = [case.query for case in cases]
    said = {
        each.name: each.told(drawn.history).model.predict(queries, members=settings.members, seed=settings.seed)
        for each in shown
    }
    return [
        Example(
            f"{case.track}\n{case.label[-1]}: {first.name} {found.records[first.name][row][told]:.2g} km off",
            case.query,
            case.truth_lon_deg,
            case.truth_lat_deg,
            {name: answers[k] for name, answers in said.items()},
            first.model.levels,
        )
        for k, (row, case) in enumerate(zip(rows, cases, strict=True))
    ]


def _shown(contenders: Sequence[Contender], settings: VesselSettings) -> list[Contender]:
    """The first model, the reference, and what else there is room for."""
    reference = REFERENCES[settings.task]
    # Rules of one name may say the same here; those that are told apart come first.
    wanted = [contenders[0].name, *(each.name for each in contenders if each.digest), reference, "linear", "kalman"]
    by_name = {each.name: each for each in contenders}
    return [by_name[name] for name in dict.fromkeys(wanted) if name in by_name][:MOST_DRAWN]
