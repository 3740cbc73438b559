"""The tables of an evaluation report as HTML: figures with their intervals, the best of each column marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Figure = Mapping[str, Any] | None


@dataclass(frozen=True)
class Metric:
    """How a figure is shown.

    Attributes:
        title: of its column.
        digits: after the point.
        better: ``+`` more, ``-`` less, or the number that is best, of the value shown.
        meaning: one sentence for a newcomer.
        unit: shown with the title.
        factor: the stored value is multiplied by it.
    """

    title: str
    digits: int
    better: str
    meaning: str
    unit: str = ""
    factor: float = 1.0


METRICS: Mapping[str, Metric] = {
    "cpsnr_db": Metric(
        "cPSNR",
        2,
        "+",
        "Closeness to the truth, after the best shift and without bias; +1 dB is 11 % less error.",
        "dB",
    ),
    "cssim": Metric("cSSIM", 4, "+", "Likeness of structures to the truth; 1 is the same."),
    "sam_deg": Metric("spectral angle", 2, "-", "Error of colour: angle between the spectra.", "°"),
    "reflectance_mae": Metric(
        "back-degraded error", 2, "-", "Seen through the sensor again, how far from the observation.", "10⁻⁴", 1e4
    ),
    "crps": Metric("CRPS", 2, "-", "Error of the whole ensemble, for its sharpness and its honesty.", "10⁻⁴", 1e4),
    "coverage_50": Metric("in 50 %", 1, "50", "Share of true values in the interval that should hold 50 %.", "%", 100),
    "coverage_80": Metric("in 80 %", 1, "80", "Share of true values in the interval that should hold 80 %.", "%", 100),
    "coverage_90": Metric("in 90 %", 1, "90", "Share of true values in the interval that should hold 90 %.", "%", 100),
    "spread_skill": Metric("spread/skill", 2, "1", "Spread of the members over the error of their mean; 1 is honest."),
    "edge_fidelity": Metric("edges", 3, "+", "Agreement of gradients at the edges of the truth; 1 is the same."),
    "spectrum_gap_db": Metric("spectrum, mean", 1, "-", "Largest gap to the truth's texture, of the mean image.", "dB"),
    "member_spectrum_gap_db": Metric("spectrum, member", 1, "-", "The same of a single member.", "dB"),
    "improvement": Metric("improvement", 3, "+", "Share of the added detail that is right."),
    "omission": Metric("omission", 3, "-", "Share of the detail that is missing."),
    "hallucination": Metric("hallucination", 3, "-", "Share of the added detail that is not in the truth."),
    "lpips": Metric("LPIPS", 3, "-", "Distance to the truth as people perceive it."),
}
SUMMARY = (
    "cpsnr_db",
    "cssim",
    "sam_deg",
    "reflectance_mae",
    "crps",
    "coverage_50",
    "coverage_80",
    "coverage_90",
    "spread_skill",
)
DETAILS = (
    "edge_fidelity",
    "spectrum_gap_db",
    "member_spectrum_gap_db",
    "improvement",
    "omission",
    "hallucination",
    "lpips",
)


def shown(figure: Figure, metric: Metric, *, signed: bool = False) -> str:
    """A figure as text with its interval; a dash where there is none."""
    if not figure or figure.get("mean") is None:
        return '<span class="none">–</span>'
    sign = "+" if signed else ""

    def number(key: str) -> str:
        return f"{figure[key] * metric.factor:{sign}.{metric.digits}f}".replace("-", "−")

    text = f"<b>{number('mean')}</b>"
    if figure.get("low") is None:
        return text
    return f'{text} <span class="interval">{number("low")} … {number("high")}</span>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table; cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    scroll = f"<table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{scroll}</div>'


def head_of(name: str) -> str:
    """The head of a metric's column, its meaning as a tooltip."""
    metric = METRICS[name]
    arrow = {"+": " ↑", "-": " ↓"}.get(metric.better, f" → {metric.better}")
    unit = f" ({metric.unit})" if metric.unit else ""
    return f'<span title="{escape(metric.meaning)}">{escape(metric.title + unit)}{arrow}</span>'


def models_table(figures: Mapping[str, Mapping[str, Figure]], names: Sequence[str], *, extra: bool = False) -> str:
    """One row per model, one column per metric that any of them has.

    Args:
        figures: model to its figures by metric; with ``extra`` also speed, passes and parameters.
        names: of the metrics.
        extra: append speed, passes and parameters.
    """
    told = [name for name in names if any(row.get(name) for row in figures.values())]
    best = {name: _best(figures, name, METRICS[name]) for name in told}
    header = ["model", *(head_of(name) for name in told)]
    header += ["km²/s ↑", "passes", "parameters"] if extra else []
    rows = []
    for model, row in figures.items():
        cells = [_marked(shown(row.get(name), METRICS[name]), model in best[name]) for name in told]
        rows.append([escape(model), *cells, *(_extra(row) if extra else [])])
    return table(header, rows)


def bands_table(figures: Mapping[str, Mapping[str, Figure]], names: Sequence[str]) -> str:
    """cPSNR by sampling and by band: one row per model; the best of each column marked.

    Args:
        figures: model to its figures by metric, ``cpsnr_db_20m`` and ``cpsnr_db_B11`` among them.
        names: of the columns, such as ``20m`` and ``B11``.
    """
    metric = METRICS["cpsnr_db"]
    best = {name: _best(figures, f"cpsnr_db_{name}", metric) for name in names}
    rows = [
        [escape(model), *(_marked(shown(row.get(f"cpsnr_db_{n}"), metric), model in best[n]) for n in names)]
        for model, row in figures.items()
    ]
    heads = [f"{name[:-1]} m bands" if name.endswith("m") else name for name in names]
    return table(["model", *(escape(f"{head} ({metric.unit}) ↑") for head in heads)], rows)


def _extra(row: Mapping[str, Any]) -> list[str]:
    speed, count = row.get("km2_per_s"), row.get("parameters")
    return [
        f"{speed:.3g}" if speed else "–",
        str(row.get("passes", "–")),
        f"{count / 1e6:.2f} M" if count else "–",
    ]


def _best(figures: Mapping[str, Mapping[str, Figure]], name: str, metric: Metric) -> set[str]:
    better, factor = metric.better, metric.factor
    known = {model: figure["mean"] * factor for model, row in figures.items() if (figure := row.get(name))}
    if len(known) < 2:
        return set()
    worth = {model: _worth(value, better) for model, value in known.items()}
    return {model for model, value in worth.items() if value == max(worth.values())}


def _worth(value: float, better: str) -> float:
    """Higher is better, whatever the metric."""
    return value if better == "+" else -value if better == "-" else -abs(value - float(better))


def _marked(cell: str, best: bool) -> str:
    return f'<span class="best">{cell}</span>' if best else cell


def differences_table(rows: Sequence[Mapping[str, Any]], kind: str, metric: str) -> str:
    """Differences of one kind in one metric; those whose interval excludes zero are marked."""
    chosen = [row for row in rows if row["kind"] == kind and row["metric"] == metric]
    if not chosen:
        return ""
    lines = []
    for row in chosen:
        low, high = row.get("low"), row.get("high")
        sure = low is not None and high is not None and (low > 0 or high < 0)
        other = row["against"] if row["against"] != row["model"] else row["against_scenario"]
        cell = _marked(shown(row, METRICS[metric], signed=True), sure)
        lines.append([escape(row["model"]), scenario_name(row), escape(other), cell, str(row["cases"])])
    return table(["model", "shown", "against", f"Δ {head_of(metric)}", "cases"], lines)


SCENARIOS: Mapping[str, str] = {
    "observed": "the date itself and others",
    "clouded": "the date under a synthetic cloud (30–60 %), and others",
    "hidden": "other dates only: the date is hidden",
    "dates-1": "the date alone",
    "dates-2": "2 dates",
    "dates-4": "4 dates",
    "dates-8": "8 dates",
    "single-clouded": "the clouded date alone, gaps filled from their rim",
    "single-hidden": "the nearest other date alone",
}


REGIONS: Mapping[str, str] = {
    "all": "",
    "masked": ", scored under the cloud",
    "seen": ", scored where the date itself shows the ground",
}


def scenario_name(row: Mapping[str, Any]) -> str:
    """What a model was shown, and where it was scored."""
    where = REGIONS.get(row.get("region", "all"), "")
    return escape(SCENARIOS.get(row["scenario"], row["scenario"]) + where)


def breakdown_table(rows: Sequence[Mapping[str, Any]], title: str, names: Sequence[str]) -> str:
    """Figures by group: one line per group and model."""
    told = [name for name in names if any(row.get(name) for row in rows)]
    lines = []
    before: object = None
    for row in rows:
        label = _group_name(row["group"]) if row["group"] != before else ""
        before = row["group"]
        count = max((row[name]["cases"] for name in told if row.get(name)), default=0)
        cells = [shown(row.get(name), METRICS[name]) for name in told]
        lines.append([escape(label), escape(row["model"]), *cells, str(count)])
    return table([escape(title), "model", *(head_of(name) for name in told), "cases"], lines)


def _group_name(group: object) -> str:
    if isinstance(group, list | tuple):
        low, high = group
        return f"over {low:g}" if high is None else f"{low:g} – {high:g}"
    return str(group)
