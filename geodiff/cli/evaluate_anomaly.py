"""``geodiff evaluate vessels --task score``: are anomalies found, at the false-alarm rate that is stated?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.inputs import split_words
from geodiff.cli.show import print_pairs, print_rows, stage_bars, tell
from geodiff.schema import UsageError

HEADER = ("anomaly", "AUROC fix", "AUPRC", "found", "not taught", "AUROC track", "AUPRC", "found", "not taught")


def evaluate_scoring(
    *,
    data: Annotated[list[Path], typer.Option("--data", help="Any file of fixes, or cleaned tracks; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder of report.json, report.html and the calibration.")],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="The motion model that scores: one.")
    ] = "hermite",
    ratios: Annotated[str, typer.Option(help="Shares of the tracks that are anomalous.")] = "0.01,0.02,0.05,0.1",
    kinds: Annotated[str | None, typer.Option(help="Of anomalies; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Repetitions with other tracks, places and sizes.")] = 5,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Nominal false-alarm rate at which fixes and tracks are flagged; default: 0.01, or the least that so "
            "many vessels can tell."
        ),
    ] = None,
    members: Annotated[int, typer.Option(min=0, max=256, help="Of the model's ensemble.")] = 16,
    max_vessels: Annotated[
        int, typer.Option(min=30, help="Most vessels to calibrate with; the tests take at most two fifths as many.")
    ] = 3000,
) -> None:
    """Measure anomaly scores: false alarms on clean tracks, and what is found of anomalies put into others.

    Vessels that the model was trained on take no part; vessels to calibrate with and to test on are different ones. The
    calibration that is written, with the routes of all vessels beside it, serves ``geodiff vessels score``.
    """
    from geodiff.tasks.anomaly import ScoringSettings
    from geodiff.tasks.anomaly_report import evaluate_scoring as run
    from geodiff.tasks.anomaly_report import headline
    from geodiff.tasks.evaluate_vessels_data import load_cleaned
    from geodiff.tasks.motion_models import load_motion_model

    chosen: dict[str, Any] = {"ratios": _numbers(ratios), "seeds": seeds, "alpha": alpha, "members": members}
    chosen |= {"calibrate_most": max_vessels, "test_most": max(2 * max_vessels // 5, 1)}
    if kinds is not None:
        chosen["kinds"] = split_words([kinds])
    settings = ScoringSettings.parse(chosen, where="options")
    scorer = load_motion_model(model)
    table = load_cleaned(data, tell=tell).table
    with stage_bars() as bars:
        report, page = run(
            table,
            scorer,
            out.expanduser().resolve(),
            settings,
            command=["geodiff", *sys.argv[1:]],
            progress=bars,
        )
    _print(report)
    print_rows(HEADER, headline(report))
    print_pairs("", [("report", str(page)), ("calibration", str(page.with_name("calibration.json")))])


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        UsageError: something else.
    """
    try:
        return tuple(float(word) for word in split_words([text]))
    except ValueError:
        raise UsageError(f"--ratios {text}: give numbers such as 0.01,0.05") from None


def _print(report: dict[str, Any]) -> None:
    """Realised against nominal false-alarm rates."""
    rows = []
    for row in report["false_alarms"]:
        share = f"{row['realised'] / row['nominal']:.2f}"
        rows.append((row["level"], f"{100 * row['nominal']:g} %", f"{100 * row['realised']:.2f} %", share))
    print_rows(("false alarms", "nominal", "realised", "ratio"), rows)
