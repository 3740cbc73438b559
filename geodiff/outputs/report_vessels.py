"""The page of an evaluation of motion models: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geodiff.outputs.report_page import REPORT_HTML, Picture, image, write_page
from geodiff.outputs.report_tables import table
from geodiff.outputs.report_vessels_plots import Example, colours, coverage, errors_by_length, examples

Report = Mapping[str, Any]

TITLES = {"impute": "Gaps filled", "forecast": "Futures forecast"}
SPLITS = {
    "vessel": "new vessels, in the first nine tenths of the period of these data",
    "both": "new vessels, in the last tenth",
    "train": "vessels that a training may see",
    "later": "those, in the last tenth",
}


def write_vessel_html(report: Report, cases: Sequence[Example], out: Path) -> Path:
    """Write ``report.html`` with every picture inside.

    Args:
        report: as in ``report.json``.
        cases: that are drawn.
        out: folder.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    title = f"{TITLES[report['task']]}: motion models, evaluated"
    parts = [f"<h1>{title}</h1>", _opening(report), _errors(report), _trust(report), _best(report)]
    parts += [_examples(report, cases), _breakdowns(report), _making(report)]
    return write_page(title, parts, out / REPORT_HTML)


def _tints(report: Report) -> dict[str, str]:
    return colours(list(report["models"]), [name for name, row in report["models"].items() if row["trained"]])


def _opening(report: Report) -> str:
    asked, data = report["asked"], report["data"]
    whom = {
        "held-out": f"held out of training (fold {asked['fold']})",
        "unseen": "that none of the models was trained on",
        "all": "of the data, none of which any of the models was trained on",
    }[report["settings"]["split"]]
    history = (
        f"Models that use history were told the tracks of {asked['history_vessels']} other vessels, and each vessel's "
        "own other passes: of gaps all but what is hidden, of forecasts the past alone."
        if report["settings"]["history"]
        else "No model was told what other vessels did."
    )
    later = f" A training ends at {escape(data['later_from'])}." if data["later_from"] else ""
    return (
        f"<p>{len(report['models'])} models, {report['cases']} cases of {asked['vessels']} vessels {whom}, "
        f"{escape(report['created'])}.{later} {history} Intervals hold {round(100 * report['bootstrap']['level'])} % "
        "and come from drawing the vessels again, with all of their cases.</p><p class='note'>Moving vessels, unless "
        f"it says otherwise: {escape(report['moving'])}. Errors are great-circle distances of the point estimate; gain "
        f"is by how much the mean error is below that of {escape(report['reference'])}.</p>"
    )


def _errors(report: Report) -> str:
    unit = "nmi" if report["task"] == "forecast" else "km"
    plot = errors_by_length(report["models"], report["lengths"], _tints(report), unit=unit)
    parts = ["<h2>Errors</h2>", image(Picture("errors by length", plot))]
    if report["task"] == "forecast":
        parts.append("<p class='note'>Beyond the last fix linear and hermite are dead_reckoning.</p>")
    for label in report["lengths"]:
        rows = {name: row["lengths"][label] for name, row in report["models"].items() if label in row["lengths"]}
        if rows:
            parts.append(f"<h3>{escape(label)}</h3><p class='note'>{_counts(rows)}</p>{_errors_table(rows)}")
    return "".join(parts)


def _counts(rows: Mapping[str, Any]) -> str:
    one = next(iter(rows.values()))
    return f"{one['cases']} cases, {one['vessels']} vessels, {one['times']} asked times"


def _errors_table(rows: Mapping[str, Any]) -> str:
    head = ["model", "mean km", "mean nmi", "median km", "90 % km", "gain", "vessel mean km"]
    head += ["mean of members km", "CRPS km", "energy score km", "spread/skill"]
    least = min(row["greedy_km"]["mean"] for row in rows.values())
    body = []
    for name, row in rows.items():
        best = row["greedy_km"]["mean"] == least
        cells = [_shown(row["greedy_km"], best=best), _shown(row["greedy_nmi"])]
        cells += [_plain(row["quantiles_km"]["50"]), _plain(row["quantiles_km"]["90"]), _percent(row["gain"])]
        cells += [_plain(row["vessel_mean_km"])]
        cells += [_shown(row[key]) for key in ("mean_km", "crps_km", "energy_km")]
        body.append([escape(name), *cells, _plain(row["spread_skill"])])
    return table(head, body)


def _trust(report: Report) -> str:
    plot = coverage(report["models"], report["lengths"], _tints(report))
    if plot is None:
        return ""
    rows = [
        [escape(name), escape(label), f"{100 * float(level):g} %", _percent(cell), _plain(row["area_km2"].get(level))]
        for name, model in report["models"].items()
        for label, row in model["lengths"].items()
        for level, cell in row["coverage"].items()
        if cell
    ]
    return (
        "<h2>Do the regions hold what they say?</h2>"
        + image(Picture("coverage", plot))
        + f"<p class='note'>Bands are 3 points about the stated share.{_calibrated(report)}</p>"
        + table(["model", "length", "stated", "true", "median area km²"], rows)
    )


def _calibrated(report: Report) -> str:
    """Which models have regions that were calibrated anew."""
    told = [f"{escape(name)}: {escape(row['regions'])}" for name, row in report["models"].items() if row["regions"]]
    return f" Regions of {'; '.join(told)} that are not asked about." if told else ""


def _best(report: Report) -> str:
    rows = [
        [escape(name), escape(label), str(model["members"]), *(_shown(row[key]) for key in _SIDES)]
        for name, model in report["models"].items()
        for label, row in model["lengths"].items()
        if row["best_km"]
    ]
    tracks = [
        [escape(name), str(model["members"] or "-"), *(_shown(model["tracks"][key]) for key in _TRACKS)]
        for name, model in report["models"].items()
    ]
    head = ["model", "length", "members", "point estimate km", "mean of members km", "CRPS km", "energy score km"]
    return (
        "<h2>Best of many, beside the honest figures</h2><p class='note'>The best of many members is picked with the "
        "truth in hand: it flatters two- to threefold, the more the wider the members spread. It is here because "
        "others report it.</p>"
        + (table([*head, "best member at each time km"], rows) if rows else "")
        + "<h3>Whole tracks, all lengths together</h3>"
        + table(["model", "members", "ADE km", "FDE km", "minADE km", "minFDE km"], tracks)
    )


_SIDES = ("greedy_km", "mean_km", "crps_km", "energy_km", "best_km")
_TRACKS = ("ade_km", "fde_km", "min_ade_km", "min_fde_km")


def _examples(report: Report, cases: Sequence[Example]) -> str:
    data = examples(cases, _tints(report))
    if data is None:
        return ""
    return (
        "<h2>Examples</h2><p class='note'>The easiest, the median and hard ones of the longest length, by the error of "
        f"{escape(next(iter(cases[0].answers)))}, whose members and outermost region are drawn.</p>"
        + image(Picture("example tracks", data))
    )


def _breakdowns(report: Report) -> str:
    parts = ["<h2>Broken down</h2>"]
    split = {key: SPLITS.get(key, key) for row in report["models"].values() for key in row["by_split"]}
    ships = {key: key for row in report["models"].values() for key in row["by_ship"]}
    parts.append(_grouped(report, "by_split", split, "By what is shared with training"))
    parts.append(_grouped(report, "by_ship", ships, "By ship type"))
    parts.append(_moored(report))
    return "".join(parts)


def _moored(report: Report) -> str:
    """Vessels that hardly moved: all that is told of the others, in one table."""
    levels = sorted({level for model in report["models"].values() for level in map(str, model["levels"])})
    rows = [
        [
            *(escape(name), escape(label), str(row["cases"]), str(row["vessels"])),
            *(_shown(row[key]) for key in _SIDES),
            *(_percent(row["coverage"].get(level)) for level in levels),
        ]
        for name, model in report["models"].items()
        for label, row in model["moored"].items()
    ]
    if not rows:
        return ""
    told = [f"true share of {100 * float(level):g} % regions" for level in levels]
    sides = ["mean km", "mean of members km", "CRPS km", "energy score km", "best member km"]
    found = table(["model", "length", "cases", "vessels", *sides, *told], rows)
    return f"<details><summary>Vessels that hardly moved</summary>{found}</details>"


def _grouped(report: Report, key: str, titles: Mapping[str, str], title: str) -> str:
    rows = [
        [escape(titles[group]), escape(label), escape(name), *_row(row)]
        for group in titles
        for label in report["lengths"]
        for name, model in report["models"].items()
        if (row := model[key].get(group, {}).get(label))
    ]
    found = table(["group", "length", "model", "cases", "vessels", "mean km", "gain"], rows)
    return f"<details><summary>{title}</summary>{found}</details>"


def _row(row: Mapping[str, Any]) -> list[str]:
    return [str(row["cases"]), str(row["vessels"]), _shown(row["greedy_km"]), _percent(row["gain"])]


def _making(report: Report) -> str:
    files = [
        [
            escape(each["path"]),
            f"{each['read']:,}",
            f"{each['fixes']:,}",
            _reasons(each["refused"]),
            _reasons(each["rejected"]),
            escape(each["rules"]),
        ]
        for each in report["data"]["files"]
    ]
    models = [
        [
            escape(name),
            f"<code>{escape(row['digest'][:16])}</code>" if row["digest"] else "a rule",
            _plain(row["cases_per_s"]),
        ]
        for name, row in report["models"].items()
    ]
    versions = ", ".join(f"{escape(name)} {escape(value)}" for name, value in report["versions"].items())
    return (
        f"<h2>How this was made</h2><pre>{escape(report['command'])}</pre><p>{versions}</p>"
        + table(["file", "rows", "fixes", "refused by the reader", "rejected by cleaning", "rules"], files)
        + table(["model", "SHA-256", "cases/s"], models)
    )


def _reasons(counts: Mapping[str, int]) -> str:
    return escape(", ".join(f"{reason}: {count:,}" for reason, count in counts.items())) or "-"


def _plain(value: float | None) -> str:
    return "<span class='none'>-</span>" if value is None else f"{value:.3g}"


def _shown(figure: Mapping[str, Any] | None, *, best: bool = False) -> str:
    if figure is None or figure["mean"] is None:
        return _plain(None)
    mean = f"<b class='best'>{figure['mean']:.3g}</b>" if best else f"{figure['mean']:.3g}"
    if figure["low"] is None:
        return mean
    return f"{mean} <span class='interval'>{figure['low']:.3g} to {figure['high']:.3g}</span>"


def _percent(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return _plain(None)
    ends = "" if figure["low"] is None else f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f}"
    return f"{100 * figure['mean']:.1f} % <span class='interval'>{ends}</span>"
