"""The page of an evaluation: one HTML file that needs nothing else, for readers who were not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geodiff.outputs.report_page import REPORT_HTML, Picture, image, write_page
from geodiff.outputs.report_plots import rank_histograms, reliability, site_scatter, spectra
from geodiff.outputs.report_tables import (
    DETAILS,
    METRICS,
    REGIONS,
    SCENARIOS,
    SUMMARY,
    bands_table,
    breakdown_table,
    differences_table,
    models_table,
    table,
)


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
    parts = [_opening(report), _summary(report), _bands(report), _gains(report), _scenarios(report), _trust(report)]
    parts += [_breakdowns(report), _pictures(pictures), _making(report)]
    return write_page("Super-resolution, evaluated", parts, out / REPORT_HTML)


def _image(data: bytes | None, alt: str) -> str:
    return "" if data is None else image(Picture(alt, data))


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
        "number. The best of a column is marked.</p>" + _scored(report)
    )


def _scored(report: Mapping[str, Any]) -> str:
    """Which bands are scored, and on which lattice."""
    told = f"<p>Scored: {escape(' '.join(report['scored_bands']))}.</p>"
    if report["original_m"] <= 10:
        return told
    return told + (
        f"<p class='note'>The models read bands of {report['original_m']} m. A series by the Wald protocol is compared "
        f"on that lattice: its bands of 10 m are seen through the sensor once more. Restored are bands of 10 m from "
        "pixels of 80 m and bands of 20 m from pixels of 160 m, each degraded by its own optics: figures of such a "
        "report do not compare with those of bands of 10 m alone.</p>"
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


def _bands(report: Mapping[str, Any]) -> str:
    """cPSNR by sampling and band, where not all bands were sampled alike."""
    names = report["scored_by"]
    if not names:
        return ""
    parts = ["<h2>By band</h2><p class='note'>cPSNR of the bands of one sampling together, then of each alone.</p>"]
    for scenario in ("observed", "clouded", "hidden"):
        found = {
            name: model["scenarios"][scenario]["all"]
            for name, model in report["models"].items()
            if "all" in model["scenarios"].get(scenario, {})
        }
        if found:
            parts.append(f"<h3>{escape(SCENARIOS[scenario].capitalize())}</h3>" + bands_table(found, names))
    return "".join(parts)


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
