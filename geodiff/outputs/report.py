"""The page of an evaluation: one HTML file that needs nothing else, for readers who were not there."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from geodiff.outputs.atomic import explained, write_bytes
from geodiff.outputs.report_plots import rank_histograms, reliability, site_scatter, spectra
from geodiff.outputs.report_tables import (
    DETAILS,
    METRICS,
    REGIONS,
    SCENARIOS,
    SUMMARY,
    breakdown_table,
    differences_table,
    models_table,
    table,
)

REPORT_HTML = "report.html"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.4rem; border-top: 1px solid #ddd; padding-top: 1rem }
h3 { font-size: 1.02rem; margin-top: 1.6rem }
table { border-collapse: collapse; margin: .6rem 0 } .scroll { overflow-x: auto }
th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #eee; vertical-align: top }
th { background: #f6f6f6; font-weight: 600; white-space: nowrap } td { font-variant-numeric: tabular-nums }
td b { font-weight: 600 } .interval { color: #777; font-size: .85em; white-space: nowrap } .none { color: #bbb }
.best { background: #e6f3e6; padding: 0 .2rem } img { max-width: 100% }
code { background: #f4f4f4; padding: .1rem .3rem }
.note { color: #555 } pre { white-space: pre-wrap; background: #f4f4f4; padding: .6rem }
"""


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        caption: what it shows.
        data: PNG.
    """

    caption: str
    data: bytes


def write_html(report: Mapping[str, Any], pictures: Sequence[Picture], out: Path) -> Path:
    """Write ``report.html`` with every picture inside.

    Args:
        report: as in ``report.json``.
        pictures: of single cases.
        out: folder.

    Returns:
        The path of the page.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    parts = [_opening(report), _summary(report), _gains(report), _scenarios(report), _trust(report)]
    parts += [_breakdowns(report), _pictures(pictures), _making(report)]
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Super-resolution, evaluated</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    path = out / REPORT_HTML
    with explained(path):
        write_bytes(path, page.encode())
    return path


def _image(data: bytes | None, alt: str) -> str:
    if data is None:
        return ""
    return f'<p><img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(data).decode()}"></p>'


def _opening(report: Mapping[str, Any]) -> str:
    sites, unit = report["sites"], report["bootstrap"]["unit"]
    level = round(100 * report["bootstrap"]["level"])
    kinds = ", ".join(sorted({each["kind"] for each in report["data"]}))
    drawn = (
        f"Intervals hold {level} % and come from drawing the places again (bootstrap): they say how much the mean "
        "would change with other places."
        if unit == "site"
        else f"All figures are of one place. Intervals hold {level} % and come from drawing its dates again: they say "
        "nothing of other places."
    )
    return (
        "<h1>Super-resolution, evaluated</h1>"
        f"<p>{len(report['models'])} models on {len(sites)} place{'s' * (len(sites) != 1)} ({escape(kinds)}), "
        f"{escape(report['created'])}. No model was trained on any of these places, as far as its card tells. {drawn}"
        "</p><p class='note'>A series by the <i>Wald protocol</i> is its own truth: all dates are degraded as the "
        "sensor would see them from higher up, a model restores one of them, and the result is compared with the "
        "original. Hover over the head of a column for its meaning; ↑ more is better, ↓ less is better, → best at the "
        "number. The best of a column is marked.</p>"
    )


def _summary(report: Mapping[str, Any]) -> str:
    meanings = "".join(
        f"<li><b>{escape(METRICS[name].title)}</b>: {escape(METRICS[name].meaning)}</li>" for name in SUMMARY
    )
    return (
        "<h2>Summary: dates that the models saw</h2>"
        + models_table(report["models"], SUMMARY, extra=True)
        + f"<details><summary>What the columns mean</summary><ul>{meanings}</ul></details>"
        + "<h3>Detail: true, missing, invented</h3>"
        + models_table(report["models"], DETAILS)
        + _image(site_scatter(report["by"]["site"], report["reference"]), "cPSNR by place")
        + "<p class='note'>Each point is a place; above the line the model is better than interpolation.</p>"
    )


def _gains(report: Mapping[str, Any]) -> str:
    titles = {
        "against reference": f"Against {report['reference']}",
        "series against single date": "A series against the same model with one date",
        "more dates": "More dates against fewer",
    }
    parts = ["<h2>Differences, case by case</h2><p class='note'>Marked: the interval excludes zero.</p>"]
    for kind, title in titles.items():
        found = differences_table(report["differences"], kind, "cpsnr_db")
        parts.append(f"<h3>{escape(title)}</h3>{found}" if found else "")
    return "".join(parts)


def _scenarios(report: Mapping[str, Any]) -> str:
    parts = ["<h2>By what the models were shown</h2>"]
    for scenario, title in SCENARIOS.items():
        for region, where in REGIONS.items():
            if region == "seen" and not scenario.startswith("dates-"):
                continue
            if region == "all" and scenario.startswith("dates-"):
                continue
            figures = {
                name: model["scenarios"][scenario][region]
                for name, model in report["models"].items()
                if region in model["scenarios"].get(scenario, {})
            }
            if figures:
                heading = escape(title[0].upper() + title[1:] + where)
                parts.append(f"<h3>{heading}</h3>" + models_table(figures, SUMMARY))
    return "".join(parts)


def _trust(report: Mapping[str, Any]) -> str:
    models = report["models"]
    cover, ranks, power = reliability(models), rank_histograms(models), spectra(models)
    parts = ["<h2>Can the uncertainty be trusted? Is the texture real?</h2>"]
    if cover:
        parts.append("<h3>Coverage</h3>" + _image(cover, "stated and true coverage"))
        parts.append(
            "<p class='note'>On the line, an interval holds as often as it says; below it, it is too sure.</p>"
        )
    if ranks:
        parts.append("<h3>Rank of the truth among the members</h3>" + _image(ranks, "rank histograms"))
        parts.append("<p class='note'>Flat is honest; a valley means members that are too much alike.</p>")
    if power:
        parts.append("<h3>Power of the texture</h3>" + _image(power, "radial power spectra"))
        parts.append(
            "<p class='note'>Right of the first line lies what the low resolution cannot carry. A mean over all that "
            "could be is smooth; a single member should have the power of real imagery (grey: within 1 dB).</p>"
        )
    return "".join(parts)


def _breakdowns(report: Mapping[str, Any]) -> str:
    titles = {
        "site": ("By place", "place"),
        "dates": ("By number of dates", "dates"),
        "cloud": ("By share of the date that is not seen", "share"),
        "days": ("By distance to the nearest other date, the date seen", "days"),
        "days_hidden": ("By distance to the nearest other date, the date hidden", "days"),
    }
    parts = ["<h2>Broken down</h2>"]
    for key, (title, label) in titles.items():
        rows = report["by"].get(key)
        if rows:
            body = breakdown_table(rows, label, ("cpsnr_db", "cssim", "sam_deg", "crps", "coverage_90"))
            parts.append(f"<details{' open' if key != 'site' else ''}><summary>{title}</summary>{body}</details>")
    return "".join(parts)


def _pictures(pictures: Sequence[Picture]) -> str:
    shown = "".join(f"<h3>{escape(each.caption)}</h3>{_image(each.data, each.caption)}" for each in pictures)
    return f"<h2>Pictures</h2>{shown}" if shown else ""


def _making(report: Mapping[str, Any]) -> str:
    models = [
        [
            escape(name),
            f"<code>{escape(model['digest'][:16])}</code>",
            escape(" ".join(model["bands"])),
            escape(", ".join(model["training_ground_told_by"]) or ("nothing" if model["trained"] else "not trained")),
        ]
        for name, model in report["models"].items()
    ]
    data = [[escape(each["path"]), escape(each["kind"]), str(each["sites"])] for each in report["data"]]
    left = [[escape(each["site"]), escape(each["why"])] for each in report["left_out"]]
    versions = ", ".join(f"{escape(name)} {escape(value)}" for name, value in report["versions"].items())
    return (
        f"<h2>How this was made</h2><pre>{escape(report['command'])}</pre><p>{versions}</p>"
        + table(["model", "SHA-256", "bands", "card tells its training ground by"], models)
        + table(["data", "kind", "places"], data)
        + (table(["left out", "why"], left) if left else "")
        + "<p class='note'>Speed counts low-resolution pixels as 10 m x 10 m, the ensemble included, on the machine "
        "and with the threads of this run.</p>"
    )
