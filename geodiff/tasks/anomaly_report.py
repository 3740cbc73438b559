"""``report.json`` and the page of the anomaly benchmark."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from geodiff.metrics.anomaly import threshold_curve
from geodiff.outputs.atomic import explained, write_json
from geodiff.outputs.report_anomaly import TrackPicture, curves, rates, track_pictures, write_anomaly_html
from geodiff.outputs.report_page import Picture
from geodiff.tasks.anomaly import ABLATIONS, COMBINED, UNTAUGHT, Altered, Found, ScoringSettings, run_benchmark
from geodiff.tasks.anomaly_data import Division, divide, save_calibration, save_routes
from geodiff.tasks.anomaly_figures import false_alarms, figures, mixture, scorers
from geodiff.tasks.evaluate_report import REPORT
from geodiff.tasks.job import Progress
from geodiff.tasks.versions import versions
from geodiff.tracks import LAT, LON, TRACK_ID, VESSEL_ID, MotionModel
from geodiff.vessels.scoring_embed import Embedder
from geodiff.vessels.scoring_fixes import Fixes
from geodiff.vessels.scoring_routes import Routes
from geodiff.vessels.scoring_tracks import reasons
from geodiff.vessels.scoring_traffic import Traffic

FORMAT = 4
CALIBRATION = "calibration.json"
EXAMPLES = 4
"""Tracks of each kind that are drawn."""


def evaluate_scoring(
    cleaned: pl.DataFrame,
    model: MotionModel,
    out: Path,
    settings: ScoringSettings,
    *,
    embedder: Embedder | None = None,
    command: Sequence[str] = (),
    progress: Progress,
) -> tuple[dict[str, Any], Path]:
    """Run the anomaly benchmark and write ``report.json``, ``report.html`` and ``calibration.json``, with its routes.

    Args:
        cleaned: clean tracks (columns of ``geodiff.tracks``).
        model: of the motion; vessels that it was trained on take no part.
        out: folder, made where it is missing.
        settings: of the benchmark.
        embedder: of behaviour; the plain one when None.
        command: that makes this report again.
        progress: told of the injections.

    Returns:
        The report as plain values, and the path of the page.

    Raises:
        UsageError: too few vessels, or a nominal rate that they cannot tell.
        GeodiffError: the folder cannot be written.
    """
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    division = divide(cleaned, model, calibrate_most=settings.calibrate_most, test_most=settings.test_most)
    fixes = Fixes.from_table(cleaned)
    routes = Routes.joined([Routes.of(fixes)])
    found = run_benchmark(
        division.calibrate,
        division.test,
        model,
        settings,
        embedder=embedder,
        traffic=Traffic.of(fixes),
        routes=routes,
        progress=progress,
    )
    save_routes(routes, save_calibration(found.calibration, out / CALIBRATION))
    report = summarise(found, division, settings, command=command)
    path = out / REPORT
    with explained(path):
        write_json(path, report)
    return report, write_anomaly_html(report, _pictures(found, division, settings, report), out)


def summarise(found: Found, division: Division, settings: ScoringSettings, *, command: Sequence[str]) -> dict[str, Any]:
    """The report as plain values, ready for JSON."""
    alarms = [
        {"level": each.level, "nominal": each.nominal, "realised": each.realised.rate}
        | {key: value for key, value in asdict(each.realised).items() if key != "rate"}
        for each in false_alarms(found.clean)
    ]
    fixes = found.clean.fixes
    return {
        "format": FORMAT,
        "command": shlex.join(command),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "settings": settings.model_dump(mode="json") | {"alpha": found.alpha},
        "model": found.calibration.model,
        "embedder": found.calibration.embedder,
        "data": {
            "calibration_vessels": sum(found.calibration.vessels),
            "calibration_fixes": sum(found.calibration.fixes_seen),
            "test_vessels": division.test[VESSEL_ID].n_unique(),
            "test_fixes": len(fixes),
            "test_tracks": fixes.tracks,
            "pool_tracks": int(found.pool.sum()),
            "trained_vessels": division.trained,
            "seconds_per_fix": found.clean.seconds / max(len(fixes), 1),
        },
        "injections": [
            {"kind": each.kind, "seed": each.seed, "tracks": len(each.tracks), "refused": each.refused}
            for each in found.altered
        ],
        "false_alarms": alarms,
        "benchmark": [asdict(each) for each in figures(found, settings)],
    }


def _pictures(found: Found, division: Division, settings: ScoringSettings, report: Mapping[str, Any]) -> list[Picture]:
    """The plots, then found and missed anomalies of every kind."""
    out = [Picture("Realised against nominal false-alarm rate", rates(report["false_alarms"]))]
    first = {each.kind: each for each in reversed(found.altered) if len(each.tracks)}
    ratio = max(settings.ratios)
    sets = {kind: mixture(found, first[kind], ratio) for kind in settings.kinds if kind in first}
    for level in ("fix", "track") if sets else ():
        for kind, title in (("roc", "Receiver operating characteristic"), ("pr", "Precision and recall")):
            lines = {
                name: {
                    scorer: threshold_curve(
                        each.values(scorer, level), each.track_label if level == "track" else each.fix_label
                    ).points(kind)
                    for scorer in scorers(each.run)
                    if scorer not in ABLATIONS
                }
                for name, each in sets.items()
            }
            out.append(Picture(f"{title}, per {level}, {100 * ratio:g} % anomalous", curves(lines, kind)))
    for name, run in ((kind, first[kind]) for kind in sets):
        drawn = _examples(run, division.test, found.alpha)
        caption = f"{name}: the two best found and the two least (circles: anomalous; red: flagged)"
        out.append(Picture(caption, track_pictures(drawn)))
    return out


def _examples(run: Altered, test: pl.DataFrame, alpha: float) -> list[TrackPicture]:
    score = run.scores.judged.track_score[run.tracks]
    order = np.argsort(-score, kind="stable")
    half = EXAMPLES // 2
    chosen = list(dict.fromkeys([*order[:half].tolist(), *order[-half:].tolist()]))
    fixes, judged = run.scores.fixes, run.scores.judged
    pictures = []
    for index in chosen:
        track = int(run.tracks[index])
        rows = np.arange(fixes.first[track], fixes.first[track + 1])
        original = test.filter(pl.col(TRACK_ID) == str(fixes.track_id[track])).sort("time")
        label, flagged = run.scores.label[rows], judged.p_value[rows] <= alpha
        worst = rows[label][[int(np.argmax(judged.score[rows][label]))]]
        told = reasons(fixes, judged, worst, alpha)[0]
        title = (
            f"{run.details[index]}\ntrack p = {judged.track_p_value[track]:.3g}, "
            f"{np.count_nonzero(flagged & label)} of {np.count_nonzero(label)} fixes flagged\n{told[:60]}"
        )
        was = original[LON].to_numpy(), original[LAT].to_numpy()
        pictures.append(TrackPicture(was, (fixes.lon_deg[rows], fixes.lat_deg[rows]), label, flagged, title))
    return pictures


def headline(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows for the terminal, a kind of anomaly each, at the largest ratio.

    AUROC and AUPRC of the combined score, what it flags, and its AUROC where the kind was not taught.
    """
    rows = report["benchmark"]
    ratio = max((row["ratio"] for row in rows), default=0.0)
    known = {(row["kind"], row["level"], row["scorer"]): row for row in rows if row["ratio"] == ratio}
    out = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        cells = [kind]
        for level in ("fix", "track"):
            row, untaught = (known[kind, level, scorer] for scorer in (COMBINED, UNTAUGHT))
            cells += [f"{row['auroc'][0]:.3f}", f"{row['auprc'][0]:.3f}", f"{100 * row['found'][0]:.0f} %"]
            cells.append(f"{untaught['auroc'][0]:.3f}")
        out.append(tuple(cells))
    return out
