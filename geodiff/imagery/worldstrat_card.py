"""The data card of a WorldStrat download as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.imagery.worldstrat_facts import Card
from geodiff.schema import BANDS_10M

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 40
LISTED = 200
COLOURS = {"B02": "#3465a4", "B03": "#4e9a06", "B04": "#cc0000", "B08": "#75507b"}
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}th,td{border-bottom:1px solid #ddd;padding:.2rem .8rem;
text-align:left;vertical-align:top}th{background:#f5f5f5}td.n{text-align:right;font-variant-numeric:tabular-nums}
img{max-width:100%}h2{margin-top:2.2rem;border-bottom:2px solid #eee}.note{color:#555}
"""


def render_card(card: Card) -> str:
    """The page: tables of everything in ``Card.summary``, and plots as embedded pictures."""
    facts = card.summary()
    parts = [
        f"<h1>WorldStrat {html.escape(card.level)}: data card</h1>",
        f"<p class=note>{html.escape(card.root)}. High resolution © Airbus DS, CC BY-NC 4.0; contains modified "
        "Copernicus Sentinel data.</p>",
        _section("Counts", _pairs(facts["counts"])),
        _section("Sizes", _pairs(facts["sizes"]) + _figure(card, [_draw_sizes, _draw_map])),
        _section("Dates", _dates(facts) + _figure(card, [_draw_days, _draw_spacing])),
        _section("Cloud", _spreads(facts["cloud"]) + _figure(card, [_draw_cloud, _draw_clear])),
        _section("Land cover", "".join(_table((n, "places"), list(c.items())) for n, c in facts["strata"].items())),
        _section("Splits", _splits(card, facts)),
        _section("Siblings and equal images", _siblings(facts)),
        _section(
            "High against low resolution: place",
            _spreads(facts["registration"]) + _figure(card, [_draw_shifts, _draw_correlation]),
        ),
        _section(
            "High against low resolution: radiometry",
            _radiometry(facts) + _figure(card, [_draw_gains, _draw_residuals]),
        ),
        _section("Could not be read", _failures(facts)),
    ]
    title = "<!doctype html><html lang=en><meta charset=utf-8><title>WorldStrat: data card</title>"
    return f"{title}<style>{STYLE}</style>{''.join(parts)}</html>\n"


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return f"<td>{'–' if value is None else value}</td>"
    if isinstance(value, int | float):
        return f"<td class=n>{value:,}</td>" if isinstance(value, int) else f"<td class=n>{value:.4g}</td>"
    return f"<td>{html.escape(str(value))}</td>"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(str(word))}</th>" for word in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:LISTED])
    more = f"<p class=note>… and {len(rows) - LISTED} more, in card.json</p>" if len(rows) > LISTED else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"


def _pairs(facts: Mapping[str, Any]) -> str:
    rows = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key}: {count}" for key, count in list(value.items())[:20])
        rows.append((name.replace("_", " "), value))
    return _table(("", ""), rows)


def _spreads(facts: Mapping[str, Any]) -> str:
    """Rows of count, mean and quantiles, then whatever else there is."""
    spreads = {name: value for name, value in facts.items() if isinstance(value, Mapping) and "median" in value}
    rest = {name: value for name, value in facts.items() if name not in spreads}
    header = ("", "count", "mean", "min", "5 %", "median", "95 %", "max")
    keys = ("count", "mean", "min", "p05", "median", "p95", "max")
    rows = [(name.replace("_", " "), *(value[key] for key in keys)) for name, value in spreads.items()]
    return (_table(header, rows) if rows else "") + (_pairs(rest) if rest else "")


def _dates(facts: Mapping[str, Any]) -> str:
    dates = {k: " to ".join(v) if isinstance(v, list) else v for k, v in facts["dates"].items()}
    return _spreads(dates)


def _splits(card: Card, facts: Mapping[str, Any]) -> str:
    if not card.splits:
        return f"<p>{html.escape(card.split_problem)}</p>"
    rows = []
    for name, split in facts["splits"].items():
        torn, leaks = split["places_in_several_parts"], split["sites_in_several_parts"]
        rows.append(
            (
                name,
                *split["places"].values(),
                split["repeated_rows"],
                len(torn),
                len(leaks),
                split["test_places_with_a_sibling_in_train"],
            )
        )
    header = ("split", "train", "val", "test", "repeated rows in its file", "places in several parts of its file")
    table = _table((*header, "sites in several parts", "test places with a sibling in train"), rows)
    published = facts["splits"]["published"]
    listed = [(aoi, times, aoi in published["places_in_several_parts"]) for aoi, times in published["repeated"].items()]
    return table + (_table(("repeated place", "rows", "in several parts"), listed) if listed else "")


def _siblings(facts: Mapping[str, Any]) -> str:
    siblings = facts["siblings"]
    counts = _table(("places in a site", "sites"), list(siblings["sites_by_places"].items()))
    groups = [(site, ", ".join(found)) for site, found in siblings["sites_of_several_places"].items()]
    equal = [(", ".join(group),) for group in facts["equal_images"]]
    listed = _table(("site", "places"), groups) if groups else "<p>No two places share a site.</p>"
    return counts + listed + (_table(("seem to be one image",), equal) if equal else "<p>No two images are equal.</p>")


def _radiometry(facts: Mapping[str, Any]) -> str:
    rows = [
        (band, word, *(found[word][key] for key in ("count", "mean", "p05", "median", "p95")), found["not_fitted"])
        for band, found in facts["radiometry"].items()
        for word in ("gain", "offset", "residual")
    ]
    line = "reflectance = gain × number / 10,000 + offset; the residual leaves out what has changed"
    return f"<p class=note>{line}</p>" + _table(
        ("band", "", "count", "mean", "5 %", "median", "95 %", "without a fit"), rows
    )


def _failures(facts: Mapping[str, Any]) -> str:
    rows = [(found["place"], found["what"]) for found in facts["failures"]]
    return _table(("place", "what"), rows) if rows else "<p>Everything could be read.</p>"


def _figure(card: Card, draws: Sequence[Callable[[Any, Card], None]]) -> str:
    """Plots side by side, as one embedded PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(draws), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, draw in zip(np.atleast_1d(figure.subplots(1, len(draws))), draws, strict=True):
        draw(ax, card)
        ax.spines[["top", "right"]].set_visible(False)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=100)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}">'


def _histogram(ax: Axes, values: Any, what: str, count: str) -> None:
    if len(values):
        ax.hist(values, bins=BINS, color="#4c72b0")
    ax.set_xlabel(what)
    ax.set_ylabel(count)


def _draw_sizes(ax: Axes, card: Card) -> None:
    low = np.array([place.lr_shape for place in card.places]).reshape(-1, 2)
    high = np.array([place.hr_shape for place in card.places]).reshape(-1, 2)
    _histogram(ax, (high / low).ravel(), "high-resolution pixels per low-resolution pixel", "axes")


def _draw_map(ax: Axes, card: Card) -> None:
    where = np.array([place.lon_lat for place in card.places if place.lon_lat is not None]).reshape(-1, 2)
    ax.plot(where[:, 0], where[:, 1], ".", ms=3, color="#4c72b0")
    ax.set(xlim=(-180, 180), ylim=(-90, 90), xlabel="longitude", ylabel="latitude")
    ax.grid(alpha=0.3)


def _draw_days(ax: Axes, card: Card) -> None:
    _histogram(ax, card.days_to_high(), "days from the high resolution to a revisit", "revisits")


def _draw_spacing(ax: Axes, card: Card) -> None:
    _histogram(ax, card.spacing_days(), "days between neighbouring revisits", "pairs")


def _draw_cloud(ax: Axes, card: Card) -> None:
    _histogram(ax, card.cloud_percent(), "cloud of the whole scene, percent", "revisits")


def _draw_clear(ax: Axes, card: Card) -> None:
    shares = [share for found in card.clear.values() for share in found]
    _histogram(ax, shares, "clear share of a revisit's pixels", "revisits")


def _draw_shifts(ax: Axes, card: Card) -> None:
    shifts = np.array([t.shift_px for t in card.transforms if t.trusted]).reshape(-1, 2)
    ax.plot(shifts[:, 1], shifts[:, 0], ".", color="#4c72b0")
    ax.axhline(0, color="#aaa", lw=0.8)
    ax.axvline(0, color="#aaa", lw=0.8)
    ax.set(xlabel="right, low-resolution pixels", ylabel="down", title="displacement of the high resolution")
    ax.set_aspect("equal", adjustable="datalim")
    ax.invert_yaxis()


def _draw_correlation(ax: Axes, card: Card) -> None:
    _histogram(ax, [t.correlation for t in card.transforms], "correlation of the detail", "places")


def _draw_gains(ax: Axes, card: Card) -> None:
    for index, band in enumerate(BANDS_10M):
        fitted = [t for t in card.transforms if t.fitted[index]]
        ax.plot(
            [t.gains[index] for t in fitted], [t.offsets[index] for t in fitted], ".", color=COLOURS[band], label=band
        )
    ax.set(xlabel="gain", ylabel="offset, reflectance")
    ax.legend(frameon=False)


def _draw_residuals(ax: Axes, card: Card) -> None:
    found = [[t.residual[index] for t in card.transforms if t.fitted[index]] for index in range(len(BANDS_10M))]
    if all(found):
        ax.boxplot(found)
        ax.set_xticks(range(1, len(BANDS_10M) + 1), BANDS_10M)
    ax.set_ylabel("residual, reflectance")
