"""A map of tracks as PNG: what was observed, imputed, forecast, generated, rejected; for one track or thousands."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geodiff.outputs.atomic import explained, replacing
from geodiff.outputs.colour import nice_length
from geodiff.outputs.track_chart import (
    COLOURS,
    Array,
    Extent,
    coastline_lines,
    degree_label,
    ellipse_outlines,
    framed,
    graticule,
)
from geodiff.outputs.track_drawing import CLASSES, Drawing, Source, drawing_of
from geodiff.outputs.track_simplify import mercator_latitude, mercator_y
from geodiff.outputs.track_thinning import Limits, Table
from geodiff.sphere import KM_PER_DEG
from geodiff.tracks import ANOMALOUS, OBSERVED, REJECTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMITS: Final = Limits(points=400_000, dots=20_000, member_points=200_000, ellipses=2_000)
_SIZE_IN, _DPI = 10.0, 150
_FEW, _SINGLE = 20, 400
"""Up to so many tracks get marks at their ends; up to so many vertices are shown as points."""


def draw_tracks(
    source: Source | Drawing,
    path: Path,
    *,
    title: str = "",
    coastline: Path | None = None,
    extent: Extent | None = None,
) -> Path:
    """Draw tracks on a Mercator chart with graticule, scale bar and north.

    States have colours of their own (``track_chart.COLOURS``); imputed, forecast and generated pieces lie above what
    was observed and are dashed where tracks are few; members of an ensemble are faint lines, regions that hold the
    truth with 50 and 90 % outlined; rejected fixes are crosses, those that a scoring flagged rings. The line below the
    chart says what was left out.

    Args:
        source: as for ``track_drawing.drawing_of``, or a drawing.
        path: the PNG.
        title: first line.
        coastline: a vector file of coastlines or land.
        extent: (west, south, east, north) degrees, west > east across 180°; all that was not rejected when None.

    Returns:
        ``path``.

    Raises:
        GeodiffError: nothing to draw, an unreadable coastline, or a file that cannot be written.
    """
    from matplotlib.figure import Figure

    drawing = source if isinstance(source, Drawing) else drawing_of(source, LIMITS)
    frame = framed(drawing.extent) if extent is None else _frame_of(extent, drawing)
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    size = _SIZE_IN, min(max(_SIZE_IN * height / width, 4.0), 14.0) + 1.0
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    ax = figure.subplots()
    _chart(ax, frame)
    if coastline:
        _lines(ax, coastline_lines(coastline, frame), color="#6b6455", linewidth=0.6, zorder=1)
    _ensembles(ax, drawing)
    _tracks(ax, drawing)
    _dots(ax, drawing.dots, drawing.counts["tracks"])
    _scale_bar(ax, frame)
    _north(ax)
    _legend(ax, drawing)
    if title:
        ax.set_title(_printable(title), fontsize=12)
    ax.set_xlabel(_caption(drawing), fontsize=8, loc="left", color="0.35")
    with explained(path), replacing(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", pad_inches=0.12)
    return path


def _frame_of(extent: Extent, drawing: Drawing) -> Extent:
    """Chosen degrees on the chart, moved by whole turns to where the drawing lies."""
    west, south, east, north = extent
    east += 360.0 * (east < west)
    turn = 360.0 * np.rint(((drawing.extent[0] + drawing.extent[2]) - (west + east)) / 720.0)
    return west + turn, float(mercator_y(south)), east + turn, float(mercator_y(north))


def _printable(text: str) -> str:
    """Text that matplotlib shows as it is: no mathematics, no control characters."""
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")


def _chart(ax: Axes, frame: Extent) -> None:
    left, bottom, right, top = frame
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect("equal")
    ax.set_facecolor("#f6f9fb")
    x = graticule(left, right)
    lat = graticule(float(mercator_latitude(bottom)), float(mercator_latitude(top)))
    ax.set_xticks(x, [degree_label(value, "EW") for value in x])
    ax.set_yticks(mercator_y(lat), [degree_label(value, "NS") for value in lat])
    ax.tick_params(labelsize=8, color="0.6")
    ax.grid(color="0.85", linewidth=0.5, zorder=0)
    for spine in ax.spines.values():
        spine.set_color("0.6")


def _lines(ax: Axes, lines: list[Array], **style: Any) -> None:
    from matplotlib.collections import LineCollection

    if lines:
        ax.add_collection(LineCollection(lines, **style), autolim=False)


def _tracks(ax: Axes, drawing: Drawing) -> None:
    table, few = drawing.points, drawing.counts["tracks"] <= _FEW
    width = float(np.clip(2.2 - 0.45 * np.log10(max(drawing.counts["tracks"], 1)), 0.35, 2.2))
    for code, state in enumerate(CLASSES):
        lines = state_lines(table, code)
        observed = state == OBSERVED
        _lines(
            ax,
            lines,
            colors=COLOURS[state],
            linewidths=width if observed else width * 1.25,
            linestyles="-" if observed or not few else (0, (4, 1.2)),
            alpha=0.8 if observed and not few else 1.0,
            capstyle="round",
            zorder=3 if observed else 4,
        )
    if table["x"].size <= _SINGLE:
        colours = np.array([COLOURS[state] for state in CLASSES])[table["state"]]
        ax.scatter(table["x"], table["y"], s=9, c=colours, zorder=5, linewidths=0)
    if few:
        _ends(ax, table)
    else:
        _still(ax, table, width)


def state_lines(table: Table, code: int) -> list[Array]:
    """Polylines, each (points, 2), of what is drawn in the colour of a state.

    A step between two fixes has the state of the one that was not observed, of the later one when neither was.
    """
    track, state = table["track"], table["state"]
    if track.size < 2:
        return []
    step = np.where(state[1:] != 0, state[1:], state[:-1])
    drawn = (step == code) & (track[1:] == track[:-1])
    index = np.flatnonzero(drawn)
    if not index.size:
        return []
    breaks = np.flatnonzero((np.diff(index) > 1) | (track[index[1:]] != track[index[:-1]])) + 1
    xy = np.column_stack([table["x"], table["y"]])
    return [xy[piece[0] : piece[-1] + 2] for piece in np.split(index, breaks)]


def _ends(ax: Axes, table: Table) -> None:
    """A ring where each track starts, a square where it ends."""
    if not table["x"].size:
        return
    change = np.flatnonzero(np.diff(table["track"])) + 1
    first, last = np.append(0, change), np.append(change, table["x"].size) - 1
    for index, marker in ((first, "o"), (last, "s")):
        x, y = table["x"][index], table["y"][index]
        ax.scatter(x, y, s=30, marker=marker, facecolors="white", edgecolors="0.15", linewidths=1.1, zorder=6)


def _still(ax: Axes, table: Table, width: float) -> None:
    """A dot for each track: vessels that lie still have no line that could be seen."""
    change = np.flatnonzero(np.diff(table["track"])) + 1
    last = np.append(change, table["x"].size) - 1
    if table["x"].size:
        x, y = table["x"][last], table["y"][last]
        ax.scatter(x, y, s=5 * width, c=COLOURS[OBSERVED], linewidths=0, alpha=0.6, zorder=3)


def _ensembles(ax: Axes, drawing: Drawing) -> None:
    members, ellipses = drawing.members, drawing.ellipses
    if members["x"].size:
        same = (np.diff(members["run"]) == 0) & (np.diff(members["member"]) == 0)
        xy = np.column_stack([members["x"], members["y"]])
        starts = np.append(0, np.flatnonzero(~same) + 1)
        lines = np.split(xy, starts[1:])
        colours = np.array([COLOURS[state] for state in CLASSES])[members["state"][starts]]
        alpha = float(np.clip(6.0 / np.sqrt(len(lines)), 0.08, 0.35))
        _lines(ax, lines, colors=colours, linewidths=0.6, alpha=alpha, zorder=2)
    for level, style in ((0.9, ":"), (0.5, "-")):
        chosen = ellipses["level"] == level
        outlines = ellipse_outlines({name: values[chosen] for name, values in ellipses.items()})
        _lines(ax, outlines, colors="0.25", linewidths=0.6, linestyles=style, alpha=0.7, zorder=2.5)


def _dots(ax: Axes, dots: Table, tracks: float) -> None:
    for code, state in enumerate(CLASSES):
        chosen = dots["state"] == code
        if chosen.any():
            style = _marked(state, tracks <= _FEW)
            ax.scatter(dots["x"][chosen], dots["y"][chosen], zorder=5.5, **style)


def _marked(state: str, few: bool) -> dict[str, Any]:
    """How single points are drawn: crosses, rings, or dots."""
    colour = COLOURS[state]
    if state == REJECTED:
        return {"marker": "x", "s": 26 if few else 9, "c": colour, "linewidths": 0.9}
    if state == ANOMALOUS:
        return {"marker": "o", "s": 40 if few else 12, "facecolors": "none", "edgecolors": colour, "linewidths": 0.7}
    return {"marker": "o", "s": 3, "c": colour, "linewidths": 0}


def _scale_bar(ax: Axes, frame: Extent) -> None:
    from matplotlib.patheffects import withStroke

    left, bottom, right, top = frame
    low, middle, high = (float(mercator_latitude(y)) for y in (bottom, (bottom + top) / 2, top))
    degree_m = 1000 * KM_PER_DEG * np.cos(np.radians(middle))
    length_m = nice_length((right - left) * degree_m)
    x, y = left + 0.03 * (right - left), bottom + 0.035 * (top - bottom)
    halo = [withStroke(linewidth=4, foreground="white")]
    ax.plot([x, x + length_m / degree_m], [y, y], color="0.1", lw=2.5, zorder=8, path_effects=halo)
    text = f"{length_m:g} m" if length_m < 1000 else f"{length_m / 1000:g} km"
    if high - low > 4.0:  # where the scale of the chart visibly changes from bottom to top
        text += f" at {degree_label(round(middle), 'NS')}"
    ax.text(x, y + 0.008 * (top - bottom), text, fontsize=8, va="bottom", zorder=8, path_effects=halo)


def _north(ax: Axes) -> None:
    arrow = {"arrowstyle": "-|>", "color": "0.1", "lw": 1.2}
    ax.annotate("", (0.965, 0.97), (0.965, 0.91), xycoords="axes fraction", arrowprops=arrow, zorder=8)
    ax.text(0.965, 0.90, "N", transform=ax.transAxes, ha="center", va="top", fontsize=9, zorder=8)


def _legend(ax: Axes, drawing: Drawing) -> None:
    from matplotlib.lines import Line2D

    entries = []
    for code, state in enumerate(CLASSES):
        if (drawing.points["state"] == code).any():
            entries.append(Line2D([], [], color=COLOURS[state], lw=2, label=state))
        if (drawing.dots["state"] == code).any():
            mark, face = "x" if state == REJECTED else "o", "none" if state == ANOMALOUS else COLOURS[state]
            look: dict[str, Any] = {"marker": mark, "markerfacecolor": face, "ls": "", "ms": 5}
            entries.append(Line2D([], [], color=COLOURS[state], label=state, **look))
    if drawing.members["x"].size:
        entries.append(Line2D([], [], color="0.4", lw=0.7, alpha=0.6, label="members"))
    for level, style in ((0.5, "-"), (0.9, ":")):
        if (drawing.ellipses["level"] == level).any():
            label = f"{level:.0%} region"
            entries.append(Line2D([], [], color="0.25", lw=0.8, ls=style, label=label))
    if entries:
        ax.legend(handles=entries, loc="lower right", fontsize=8, framealpha=0.9, edgecolor="0.8").set_zorder(9)


def _caption(drawing: Drawing) -> str:
    times = np.concatenate([drawing.points["time_s"], drawing.dots["time_s"]])
    start, end = (
        datetime.fromtimestamp(float(t), UTC).strftime("%Y-%m-%d %H:%M:%S") for t in (times.min(), times.max())
    )
    return f"{start} to {end} UTC. {drawing.account}"
