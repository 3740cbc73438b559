"""``report.json``: what an evaluation found, with all that is needed to make it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geodiff.outputs.atomic import explained, write_json
from geodiff.sensor import native_step
from geodiff.tasks.evaluate import FORMAT, EvaluateSettings, Evaluation
from geodiff.tasks.evaluate_bands import band_names
from geodiff.tasks.evaluate_models import REFERENCE, Contender, needed_bands, scored_bands
from geodiff.tasks.evaluate_sources import DataDescription
from geodiff.tasks.evaluate_summary import Bootstrap, breakdowns, differences, model_summary, select
from geodiff.tasks.leakage import witnesses
from geodiff.tasks.versions import versions as versions

REPORT = "report.json"

FINEST_M = 10
"""Pixel of the bands whose ``native_step`` is 1."""


def summarise(
    evaluation: Evaluation,
    contenders: Sequence[Contender],
    data: Sequence[DataDescription],
    settings: EvaluateSettings,
    *,
    command: str,
) -> dict[str, Any]:
    """The report as plain values, ready for JSON.

    Args:
        evaluation: from ``evaluate``.
        contenders: the models, in the order of the tables.
        data: from ``find_sites``.
        settings: of the cases.
        command: that makes this report again.
    """
    records = list(evaluation.records)
    names = [contender.name for contender in contenders]
    trained = [contender.name for contender in contenders if contender.trained]
    bootstrap = Bootstrap.of(records)
    scored, needed = scored_bands(contenders), needed_bands(contenders)
    bands = band_names(scored)
    models = {
        contender.name: {
            **_described(contender),
            **model_summary(select(records, model=contender.name), bootstrap, bands),
        }
        for contender in contenders
    }
    return {
        "format": FORMAT,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "settings": settings.model_dump(mode="json"),
        "data": [asdict(each) for each in data],
        "sites": sorted({record["site"] for record in records}),
        "left_out": [{"site": site, "why": why} for site, why in evaluation.left_out],
        "bootstrap": asdict(bootstrap),
        "reference": REFERENCE,
        "scored_bands": list(scored),
        "scored_by": list(bands),
        "original_m": max(native_step(band) for band in needed) * FINEST_M,
        "models": models,
        "differences": differences(records, names, trained, REFERENCE, bootstrap, bands=bands),
        "by": breakdowns(records, names, bootstrap),
        "cases": [{key: value for key, value in record.items() if key != "spectrum"} for record in records],
    }


def _described(contender: Contender) -> dict[str, Any]:
    return {
        "parameters": contender.parameters,
        "passes": contender.passes,
        "bands": list(contender.resolver.bands),
        "digest": contender.digest,
        "trained": contender.trained,
        "training_ground_told_by": witnesses(contender.card),
    }


def write_report(report: dict[str, Any], out: Path) -> Path:
    """Write ``report.json``; returns its path."""
    path = out / REPORT
    with explained(path):
        write_json(path, report)
    return path
