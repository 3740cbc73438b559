"""The page of an evaluation of generated tracks: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geodiff.outputs.report_generate_plots import TITLES
from geodiff.outputs.report_page import REPORT_HTML, Picture, image, write_page
from geodiff.outputs.report_tables import table

Report = Mapping[str, Any]

METHOD = """<p class='note'>Real windows of vessels that take part in no training give ship type, behaviour and start;
the model makes one track for each. A classifier that learned from real windows of other vessels says what it takes
made and real ones for; accuracy is balanced, the mean over the classes. It sees speeds, turns and shapes, no places and
no directions. Ship groups are asked of windows that do not lie still, since a moored vessel shows nothing of its type.
Limits: a behaviour is defined by speed and straightness, which the classifier nearly knows, and what moves otherwise
than asked is drawn again, so its figure says that the job does what it is asked, not how often the model does; a model
that repeats one typical track would be told apart as well, so see spread and distributions; a ratio says little where
real accuracy is near chance. The rules draw from real windows of the very group and behaviour, which the model is only
told the names of.</p>"""


def write_generate_html(report: Report, pictures: Sequence[Picture], out: Path) -> Path:
    """Write ``report.html`` with every picture inside; returns its path.

    Args:
        report: as in ``report.json``.
        pictures: plots and tracks, in order.
        out: folder.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    title = "Generated tracks, evaluated"
    shown = "".join(f"<h3>{escape(each.caption)}</h3>{image(each)}" for each in pictures)
    parts = [f"<h1>{title}</h1>", _opening(report), METHOD, _accuracies(report), _plausible(report)]
    parts += [_divergences(report), f"<h2>Pictures</h2>{shown}", _groups(report)]
    parts.append(f"<h2>How this was made</h2><pre>{escape(report['command'])}</pre>")
    return write_page(title, parts, out / REPORT_HTML)


def _opening(report: Report) -> str:
    asked = report["asked"]
    return (
        f"<p>Model <b>{escape(report['model'])}</b>, {escape(report['created'])}. {asked['tracks']:,} windows of "
        f"{asked['hours']:g} h at {asked['step_s'] / 60:g} min from {asked['vessels']:,} vessels held out; the "
        f"classifier learned from {asked['learned']:,} windows of {asked['learned_vessels']:,} others.</p>"
    )


def _accuracies(report: Report) -> str:
    parts = ["<h2>Does a classifier of real tracks know them?</h2>"]
    for name in report["real"]["accuracy"]:
        real = report["real"]["accuracy"][name]
        rows = [["real tracks", _span(real["accuracy"]), "1", "1"]]
        for key, row in report["generators"].items():
            cell = row["accuracy"][name]
            rows.append([escape(key), _span(cell["accuracy"]), _span(cell["ratio"]), _plain(cell["above_chance"])])
        told = f"{real['windows']:,} windows, {real['vessels']:,} vessels, {len(real['classes'])} classes"
        head = ["", f"balanced accuracy (chance {real['chance']:.2f})", "ratio to real", "ratio above chance"]
        parts.append(f"<h3>By {escape(name)}</h3><p class='note'>{told}</p>" + table(head, rows))
    if len(parts) == 1:
        parts.append("<p>Too few windows of any two ship groups or behaviours to train a classifier.</p>")
    return "".join(parts)


def _plausible(report: Report) -> str:
    sharp = report["sharp_m_s2"]
    head = [
        "",
        "as asked",
        "too fast",
        "too sharp",
        "spread, same labels km",
        "of real ones km",
        "spread, same place km",
    ]
    real = report["real"]
    rows = [["real tracks", "-", _share(real["too_fast"]), _share(real["too_sharp"]), "-", "-", "-"]]
    for name, row in report["generators"].items():
        spread = [_plain(row["spread"][key]) for key in ("labels_km", "labels_real_km", "place_km")]
        shares = [_share(row[key]) for key in ("as_asked", "too_fast", "too_sharp")]
        rows.append([escape(name), *shares, *spread])
    return (
        "<h2>Plausible, and varied?</h2><p class='note'>As asked: moves by the rule of its behaviour; what "
        "does not is drawn again, up to 16 times. Too fast: steps faster than cleaning lets a ship of the type go. Too "
        "sharp: turns of more than "
        f"{sharp:.2g} m/s² sideways, which 0.1 % of real ones have. Spread: mean distance between the ends of two "
        "tracks brought to one start.</p>" + table(head, rows)
    )


def _divergences(report: Report) -> str:
    rows = [["real tracks", *_cells(report["real"]["divergence"].get("all"))]]
    rows += [[escape(name), *_cells(row["divergence"].get("all"))] for name, row in report["generators"].items()]
    return (
        "<h2>Distributions</h2><p class='note'>Jensen-Shannon divergence in bits, and 1-Wasserstein distance in the "
        "unit, of tracks of one half of the vessels from real ones of the other half; of windows asked not to lie "
        "still.</p>" + table(["", *_heads(report)], rows)
    )


def _groups(report: Report) -> str:
    rows = []
    for name, row in report["generators"].items():
        for group, cells in row["divergence"].items():
            rows.append([escape(group), escape(name), *_cells(cells)])
    for group, cells in report["real"]["divergence"].items():
        rows.append([escape(group), "real tracks", *_cells(cells)])
    rows.sort(key=lambda cells: cells[0])
    found = table(["group", "", *_heads(report)], rows)
    return f"<details><summary>Distributions by ship group</summary>{found}</details>"


def _heads(report: Report) -> list[str]:
    return [f"{TITLES[name]}: bits ({unit})" for name, unit in report["units"].items()]


def _cells(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return ["-"] * len(TITLES)
    return ["-" if each is None else f"{each['jsd_bits']:.3f} ({each['wasserstein']:.3g})" for each in row.values()]


def _span(figure: Mapping[str, float]) -> str:
    return f"<b>{figure['mean']:.3f}</b> <span class='interval'>{figure['low']:.3f} to {figure['high']:.3f}</span>"


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
