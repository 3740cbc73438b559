"""The page of the anomaly benchmark: tables, curves, and tracks with what was found and what was missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geodiff.outputs.report_page import REPORT_HTML, Picture, image, write_page
from geodiff.outputs.report_plots import png
from geodiff.outputs.report_tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Points = Sequence[tuple[float, float]]

LEVELS = {"fix": "per fix", "track": "per track"}


@dataclass(frozen=True, slots=True, eq=False)
class TrackPicture:
    """One altered track.

    Attributes:
        original: (lon, lat) before.
        altered: (lon, lat) after.
        label: True for an anomalous fix.
        flagged: True for a flagged fix.
        title: what was done and what was found.
    """

    original: tuple[Floats, Floats]
    altered: tuple[Floats, Floats]
    label: npt.NDArray[np.bool_]
    flagged: npt.NDArray[np.bool_]
    title: str


def _figure(columns: int = 1, *, width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def curves(lines: Mapping[str, Mapping[str, Points]], kind: str) -> bytes:
    """ROC (``roc``) or precision-recall (``pr``) curves as PNG: one panel for each kind of anomaly, a line a scorer."""
    figure, axes = _figure(len(lines), width=3.0, height=3.2)
    for ax, (name, scorers) in zip(axes, lines.items(), strict=True):
        for scorer, points in scorers.items():
            x, y = zip(*points, strict=True)
            ax.plot(x, y, lw=1.8 if scorer == "combined" else 1.0, label=scorer)
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1.01))
        ax.set_xlabel("false alarms" if kind == "roc" else "found")
    axes[0].set_ylabel("found" if kind == "roc" else "right among the flagged")
    axes[-1].legend(fontsize=6, loc="lower right" if kind == "roc" else "upper right")
    return png(figure)


def rates(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Realised against nominal false-alarm rates as PNG, with their intervals and the factor of two."""
    figure, (ax,) = _figure(width=5.0, height=4.0)
    nominal = np.array(sorted({row["nominal"] for row in rows}))
    ax.fill_between(nominal, nominal / 2, nominal * 2, color="0.93", label="within a factor of two")
    ax.plot(nominal, nominal, color="0.6", lw=1)
    for number, level in enumerate(dict.fromkeys(row["level"] for row in rows)):
        mine = [row for row in rows if row["level"] == level]
        x, y = (np.array([row[key] for row in mine], np.float64) for key in ("nominal", "realised"))
        ends = [
            np.array([row[end] if row[end] is not None else row["realised"] for row in mine]) for end in ("low", "high")
        ]
        bars = np.maximum([y - ends[0], ends[1] - y], 0)
        ax.errorbar(x * (1 + 0.04 * (number - 1)), y, bars, marker="o", ms=4, capsize=2, lw=1, label=level)
    ax.set(xscale="log", yscale="log", xlabel="nominal false-alarm rate", ylabel="realised on clean tracks")
    ax.legend(fontsize=8)
    return png(figure)


def _end(row: Mapping[str, Any], end: str) -> float:
    return float(row["realised"] if row[end] is None else row[end])


def track_pictures(pictures: Sequence[TrackPicture]) -> bytes:
    """Altered tracks side by side as PNG: the original in grey, anomalous fixes circled, flagged ones red."""
    figure, axes = _figure(len(pictures), width=3.4, height=3.6)
    for ax, each in zip(axes, pictures, strict=True):
        lon, lat = each.altered
        ax.plot(*each.original, color="0.75", lw=1)
        ax.plot(lon, lat, color="tab:blue", lw=0.8)
        ax.plot(lon[each.label], lat[each.label], "o", ms=5, mfc="none", mec="0.2", mew=0.5)
        ax.plot(lon[each.flagged], lat[each.flagged], ".", ms=4, color="tab:red")
        _close_up(ax, each)
        ax.set_title(each.title, fontsize=7)
        ax.tick_params(labelsize=6)
        ax.ticklabel_format(useOffset=False)
    return png(figure)


def _close_up(ax: Any, each: TrackPicture) -> None:
    """Show the anomaly with twice its extent around it, in true proportions."""
    lon, lat = each.altered
    stretch = 1.0 / max(np.cos(np.radians(float(np.mean(lat)))), 0.05)
    place = [each_axis[each.label] if each.label.any() else each_axis for each_axis in (lon, lat)]
    middle = [(float(v.min()) + float(v.max())) / 2 for v in place]
    reach = max(float(np.ptp(place[0])) / stretch, float(np.ptp(place[1])), 0.01)
    ax.set_xlim(middle[0] - reach * stretch, middle[0] + reach * stretch)
    ax.set_ylim(middle[1] - reach, middle[1] + reach)
    ax.set_aspect(stretch)


def write_anomaly_html(report: Mapping[str, Any], pictures: Sequence[Picture], out: Path) -> Path:
    """Write ``report.html`` with every picture inside; returns its path.

    Args:
        report: as in ``report.json``.
        pictures: plots and tracks, in order.
        out: folder.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    shown = "".join(f"<h3>{escape(each.caption)}</h3>{image(each)}" for each in pictures)
    parts = [_opening(report), _alarms(report), _summary(report), f"<h2>Pictures</h2>{shown}", _ratios(report)]
    parts.append(f"<h2>How this was made</h2><pre>{escape(report['command'])}</pre>")
    return write_page("Anomaly scores, evaluated", parts, out / REPORT_HTML)


def _opening(report: Mapping[str, Any]) -> str:
    told, settings = report["data"], report["settings"]
    left = f" {told['trained_vessels']} vessels were left out, as the model was trained on them." * bool(
        told["trained_vessels"]
    )
    return (
        "<h1>Anomaly scores, evaluated</h1>"
        f"<p>Model <b>{escape(report['model'])}</b>, behaviour by <b>{escape(report['embedder'])}</b>; "
        f"{escape(report['created'])}. Calibrated on {told['calibration_vessels']:,} vessels with "
        f"{told['calibration_fixes']:,} fixes, tested on {told['test_vessels']:,} other vessels with "
        f"{told['test_fixes']:,} fixes in {told['test_tracks']:,} tracks, of which {told['pool_tracks']:,} can take an "
        f"anomaly.{left} Scoring took {1e6 * told['seconds_per_fix']:.0f} s per million fixes on this machine.</p>"
        "<p class='note'>Anomalies are injected into clean tracks of the test: "
        f"{escape(', '.join(settings['kinds']))}; {settings['seeds']} seeds. Clean tracks are taken as clean: what is "
        "truly odd among them counts as a false alarm. How much each kind of evidence counts was learned from the same "
        "kinds, injected into vessels of the calibration; <b>kind not taught</b> is the score with weights "
        "that had no lessons in the kind that is looked for.</p>"
    )


def _alarms(report: Mapping[str, Any]) -> str:
    rows = []
    for row in report["false_alarms"]:
        factor = row["realised"] / row["nominal"]
        span = "–" if row["low"] is None else f"{100 * row['low']:.2f} … {100 * row['high']:.2f} %"
        cells = [f"{100 * row['nominal']:g} %", f"<b>{100 * row['realised']:.2f} %</b>", span, f"{factor:.2f}"]
        rows.append([escape(row["level"]), *cells, f"{row['cases']:,}"])
    head = ["", "nominal", "realised", "90 % interval over vessels", "realised / nominal", "cases"]
    return "<h2>False alarms on clean tracks</h2>" + table(head, rows)


def _summary(report: Mapping[str, Any]) -> str:
    ratio = max(row["ratio"] for row in report["benchmark"]) if report["benchmark"] else 0
    parts = [f"<h2>What is found</h2><p>With {100 * ratio:g} % of the tracks anomalous; mean over the seeds.</p>"]
    for level, name in LEVELS.items():
        for metric, title in (("auroc", "AUROC"), ("auprc", "AUPRC")):
            parts.append(f"<h3>{title} {name}</h3>" + _matrix(report, level, ratio, metric))
    return "".join(parts)


def _matrix(report: Mapping[str, Any], level: str, ratio: float, metric: str) -> str:
    """Scorers by kinds of anomaly; the best of each kind is marked."""
    known = {(r["scorer"], r["kind"]): r for r in report["benchmark"] if r["level"] == level and r["ratio"] == ratio}
    scorers, kinds = (list(dict.fromkeys(key[k] for key in known)) for k in (0, 1))
    best = {kind: max(known[s, kind][metric][0] for s in scorers) for kind in kinds}
    rows = []
    for scorer in scorers:
        values = [known[scorer, kind][metric] for kind in kinds]
        cells = [_cell(value, value[0] == best[kind]) for value, kind in zip(values, kinds, strict=True)]
        rows.append([escape(scorer), *cells, f"{np.mean([value[0] for value in values]):.3f}"])
    return table(["", *(escape(kind) for kind in kinds), "mean"], rows)


def _cell(value: Sequence[float], best: bool) -> str:
    text = f'{value[0]:.3f} <span class="interval">± {value[1]:.3f}</span>'
    return f'<span class="best">{text}</span>' if best else text


def _ratios(report: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(row["scorer"]),
            escape(row["kind"]),
            LEVELS[row["level"]],
            f"{100 * row['ratio']:g} %",
            f"{row['tracks']:.0f}",
            _cell(row["auroc"], False),
            _cell(row["auprc"], False),
            f"{100 * row['found'][0]:.0f} %",
        ]
        for row in report["benchmark"]
        if row["found"] is not None
    ]
    alpha = report["settings"]["alpha"]
    head = [
        "scorer",
        "anomaly",
        "",
        "ratio",
        "tracks",
        "AUROC",
        "AUPRC",
        f"found at a false-alarm rate of {100 * alpha:g} %",
    ]
    return "<h2>By ratio</h2>" + table(head, rows)
