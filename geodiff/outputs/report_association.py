"""The page of an evaluation of association: tables of figures with their meanings, and maps of the tracks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from geodiff.outputs.report_page import Picture, image, write_page
from geodiff.outputs.report_plots import png
from geodiff.outputs.report_tables import table
from geodiff.schema import FloatArray
from geodiff.tracks import LAT, LON, TIME

PAGE = "association.html"
MEANINGS: Mapping[str, tuple[str, int, str]] = {
    "purity": ("purity ↑", 4, "Share of plots that belong to the vessel with most plots in their track."),
    "completeness": ("completeness ↑", 4, "Share of a vessel's plots in the track that holds most of them."),
    "idf1": ("IDF1 ↑", 4, "Vessels and tracks matched one to one: harmonic mean of precision and recall of plots."),
    "mota": ("MOTA ↑", 4, "1 - (missed + false + switches) / plots; blind to tracks that hold two vessels."),
    "vessels": ("vessels", 0, "True vessels among the plots."),
    "tracks": ("tracks", 0, "Tracks found, of those compared."),
    "switches": ("switches ↓", 0, "Next plots of a vessel that lie in another track than the last."),
    "fragments": ("fragments ↓", 0, "Tracks beyond the first in which each vessel has plots."),
    "missed": ("missed ↓", 0, "Plots of vessels that were rejected; for GOSPA the cost per scan, m^p."),
    "false": ("false ↓", 0, "Clutter in tracks; for GOSPA the cost per scan, m^p."),
    "pure_tracks": ("pure tracks ↑", 3, "Share of tracks whose plots are all of one vessel."),
    "single_tracks": ("single ↓", 3, "Share of tracks of one plot."),
    "gospa_m": ("GOSPA m ↓", 2, "Distance between targets and tracks, in metres, mean over scans of order p."),
    "localisation": ("localisation ↓", 1, "Its part from the distance of tracks to their targets, per scan, m^p."),
    "localisation_error_m": ("error m ↓", 2, "Distance of assigned tracks from their targets, root mean of order p."),
    "missed_per_scan": ("targets missed ↓", 3, "Targets without a track that travels, per scan."),
    "false_per_scan": ("false tracks ↓", 3, "Tracks without a target, per scan; other traffic counts here too."),
    "scans": ("scans", 0, "Scans compared."),
    "plots_per_s": ("plots/s ↑", 0, "On one core, processor time."),
}
MOST_POINTS = 40_000
_DPI = 90


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Points of a map, sorted by track and time.

    Attributes:
        lon_deg, lat_deg: (n,) float64.
        track: (n,) int64 number of the track, -1 for none.
    """

    lon_deg: FloatArray
    lat_deg: FloatArray
    track: np.ndarray

    @classmethod
    def of(cls, fixes: pl.DataFrame, key: str) -> Lines:
        """The lines of a table; those that name no ``key`` are loose points."""
        ordered = fixes.sort(key, TIME, nulls_last=False)
        number = ordered[key].rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()
        return cls(ordered[LON].to_numpy(), ordered[LAT].to_numpy(), number)


def write_association_html(report: Mapping[str, Any], maps: Mapping[str, Lines], out: Path) -> Path:
    """Write ``association.html``, which needs nothing else.

    Args:
        report: as in ``association.json``.
        maps: title to tracks, drawn side by side.
        out: folder.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    command = report.get("command")
    told = command if isinstance(command, str) else shlex.join(command or [])
    pictures = image(Picture("maps of tracks", draw_tracks(maps))) if maps else ""
    title = "Association, evaluated"
    parts = [
        f"<h1>{title}</h1><p>{escape(str(report.get('data', '')))}, {escape(report['created'])}.</p>",
        "<p class='note'>Methods see time, place, speed and course, and no identity. Hover over the head of a column "
        "for its meaning; ↑ more is better, ↓ less is better.</p>",
        *_tables(report["methods"]),
        f"<h2>Tracks</h2>{pictures}",
        "<p class='note'>Colours tell tracks apart, and repeat; grey points were rejected as clutter.</p>",
        f"<h2>How this was made</h2><pre>{escape(told)}</pre><pre>{escape(str(report.get('settings', '')))}</pre>",
        f"<p>geodiff {escape(report['geodiff'])}</p>",
    ]
    return write_page(title, parts, out / PAGE)


def _tables(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    parts = [part for part in ("all", "at rest", "under way") if any(part in row for row in methods.values())]
    if not parts:
        return [_table(methods)]
    found = []
    for part in parts:
        rows = {
            name: {**row[part], **({"plots_per_s": row["plots_per_s"]} if part == "all" else {})}
            for name, row in methods.items()
            if part in row
        }
        found.append(f"<h2>Plots: {part}</h2>" + _table(rows))
    return found


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    names = [name for name in MEANINGS if any(name in row for row in rows.values())]
    header = [f'<span title="{escape(MEANINGS[name][2])}">{escape(MEANINGS[name][0])}</span>' for name in names]
    body = [
        [escape(method), *(_cell(row.get(name), MEANINGS[name][1]) for name in names)] for method, row in rows.items()
    ]
    return table(["method", *header], body)


def _cell(value: float | None, digits: int) -> str:
    return '<span class="none">–</span>' if value is None else f"{value:.{digits}f}"


def draw_tracks(maps: Mapping[str, Lines]) -> bytes:
    """PNG of tracks side by side on one frame; longitudes are taken as they are, so no map may cross the dateline."""
    from matplotlib.figure import Figure

    columns = min(len(maps), 2)
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(7.5 * columns, 5.0 * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax in axes[len(maps) :]:
        ax.set_visible(False)
    for ax, (title, lines) in zip(axes, maps.items(), strict=False):
        _draw(ax, lines)
        ax.autoscale()
        count = len(np.unique(lines.track[lines.track >= 0]))
        ax.set_title(f"{title}: {count}", fontsize=10)
        ax.set(xlabel="longitude, degrees", ylabel="latitude, degrees")
        ax.ticklabel_format(useOffset=False)
    middle = np.concatenate([lines.lat_deg for lines in maps.values()])
    if len(middle):
        for ax in axes[: len(maps)]:
            ax.set_aspect(1 / max(float(np.cos(np.radians(np.median(middle)))), 0.05), adjustable="box")
    return png(figure)


def _draw(ax: Any, lines: Lines) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    step = max(len(lines.track) // MOST_POINTS, 1)
    points, track = np.column_stack([lines.lon_deg, lines.lat_deg])[::step], lines.track[::step]
    loose = track < 0
    ax.plot(*points[loose].T, ".", color="0.75", ms=2, zorder=1)
    kept, number = points[~loose], track[~loose]
    # Sixteen of the colours: grey is for clutter, and the last two are hard to tell from it on white.
    choice = np.array([each for each in range(18) if each not in (14, 15)])
    colours = colormaps["tab20"](choice[number * 7 % len(choice)])
    joined = np.diff(number) == 0
    segments = np.stack([kept[:-1][joined], kept[1:][joined]], axis=1) if len(kept) > 1 else np.empty((0, 2, 2))
    ax.add_collection(LineCollection(list(segments), colors=colours[1:][joined] if len(kept) > 1 else None, lw=0.8))
    ax.scatter(kept[:, 0], kept[:, 1], s=3, c=colours, lw=0, zorder=3)
