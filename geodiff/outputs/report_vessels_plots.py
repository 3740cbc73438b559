"""The plots of an evaluation of motion models, as PNG files in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.outputs.report_plots import png
from geodiff.sphere import Array, to_local_km
from geodiff.tracks import TrackAnswer, TrackQuery

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 110
Models = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A case that is drawn.

    Attributes:
        title: which it is.
        query: what was asked.
        truth_lon_deg, truth_lat_deg: (m,).
        answers: model to what it said; the first one's ensemble is drawn.
        levels: of the first one's ellipses.
    """

    title: str
    query: TrackQuery
    truth_lon_deg: Array
    truth_lat_deg: Array
    answers: Mapping[str, TrackAnswer]
    levels: tuple[float, ...]


def colours(names: Sequence[str], trained: Sequence[str]) -> dict[str, str]:
    """One colour a model: strong ones for what was trained, others in the same order in every plot."""
    strong, quiet = (
        ("#d62728", "#9467bd", "#e377c2", "#8c564b"),
        ("#1f77b4", "#2ca02c", "#ff7f0e", "#17becf", "#7f7f7f", "#bcbd22"),
    )
    found = {name: strong[k % len(strong)] for k, name in enumerate(n for n in names if n in trained)}
    rest = [name for name in names if name not in found]
    return found | {name: quiet[k % len(quiet)] for k, name in enumerate(rest)}


def errors_by_length(models: Models, labels: Sequence[str], tints: Mapping[str, str], *, unit: str) -> bytes:
    """Mean error of every model at every length, with its interval.

    Args:
        models: name to its figures by length.
        labels: lengths in rising order.
        tints: colour of each model.
        unit: ``km`` or ``nmi``.
    """
    figure, (ax,) = _figure(width=7.2, height=4.6)
    for k, (name, row) in enumerate(models.items()):
        places, cells = _known(row["lengths"], labels, f"greedy_{unit}")
        if not cells:
            continue
        mean, bars = _bars(cells)
        # Side by side, so that intervals do not hide each other.
        x = np.array(places) + (k - len(models) / 2) * 0.05
        ax.errorbar(x, mean, bars, marker="o", ms=4, lw=1.5, capsize=2, color=tints[name], label=name)
    ax.set_yscale("log")
    ax.set_xticks(range(len(labels)), labels)
    ax.set_ylabel(f"mean error of the point estimate ({unit})")
    ax.grid(axis="y", which="both", color="0.92")
    ax.legend(fontsize=8)
    return png(figure)


def coverage(models: Models, labels: Sequence[str], tints: Mapping[str, str]) -> bytes | None:
    """True against stated share of ellipses by length; None where no model has any."""
    known = {name: row for name, row in models.items() if row["levels"]}
    if not known:
        return None
    figure, axes = _figure(len(known), width=4.4, height=3.6)
    for ax, (name, row) in zip(axes, known.items(), strict=True):
        for level in row["levels"]:
            places, cells = _known({k: v["coverage"] for k, v in row["lengths"].items()}, labels, f"{level:g}")
            mean, bars = _bars(cells)
            ax.axhspan(level - 0.03, level + 0.03, color=tints[name], alpha=0.12, lw=0)
            ax.errorbar(places, mean, bars, marker="o", ms=4, capsize=2, color=tints[name])
        ax.set_xticks(range(len(labels)), labels, fontsize=8)
        ax.set_title(name, fontsize=10)
        ax.set_ylim(0, 1)
    axes[0].set_ylabel("share of truths inside")
    return png(figure)


def examples(cases: Sequence[Example], tints: Mapping[str, str]) -> bytes | None:
    """Tracks with what was known, true and said, each in its local plane; None where there is none."""
    if not cases:
        return None
    from matplotlib.figure import Figure

    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.4 * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, case in zip(axes, cases, strict=False):
        _draw(ax, case, tints)
    for ax in axes[len(cases) :]:
        ax.set_axis_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=9)
    return png(figure)


def _draw(ax: Axes, case: Example, tints: Mapping[str, str]) -> None:
    centre = float(case.truth_lon_deg[0]), float(case.truth_lat_deg[0])
    first, *_ = case.answers
    answer = case.answers[first]
    if answer.member_lon_deg.size:
        east, north = to_local_km(answer.member_lon_deg, answer.member_lat_deg, *centre)
        ax.plot(east.T, north.T, color=tints[first], lw=0.5, alpha=0.35)
    if case.levels:
        _ellipses(ax, answer, centre, tints[first])
    known = to_local_km(case.query.lon_deg, case.query.lat_deg, *centre)
    truth = to_local_km(case.truth_lon_deg, case.truth_lat_deg, *centre)
    for name, said in case.answers.items():
        ax.plot(*to_local_km(said.lon_deg, said.lat_deg, *centre), "-", color=tints[name], lw=1.6, label=name)
    ax.plot(*known, "o", color="0.25", ms=3, label="known")
    ax.plot(*truth, "x", color="black", ms=6, mew=1.6, label="true")
    _limits(ax, known, truth)
    ax.set_title(case.title, fontsize=9)
    ax.set_xlabel("km east", fontsize=8)
    ax.set_ylabel("km north", fontsize=8)
    ax.tick_params(labelsize=8)


def _ellipses(ax: Axes, answer: TrackAnswer, centre: tuple[float, float], colour: str) -> None:
    """The outermost level, of the last asked time."""
    from matplotlib.patches import Ellipse

    major, minor, course = answer.ellipse_km[-1, -1]
    east, north = to_local_km(answer.lon_deg[-1], answer.lat_deg[-1], *centre)
    patch = Ellipse(
        (float(east), float(north)), 2 * major, 2 * minor, angle=90 - course, fill=False, ec=colour, ls="--"
    )
    ax.add_patch(patch)


def _limits(ax: Axes, known: tuple[Array, Array], truth: tuple[Array, Array]) -> None:
    """A square about the asked stretch and as much again on either side: a long context would make it small."""
    reach = max(float(np.ptp(truth[0])), float(np.ptp(truth[1])), 0.2)
    middle = [float((each.min() + each.max()) / 2) for each in truth]
    half = 1.6 * reach
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")


def _figure(columns: int = 1, *, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _known(row: Mapping[str, Any], labels: Sequence[str], name: str) -> tuple[list[int], list[Mapping[str, Any]]]:
    """Places and figures of the lengths that have one."""
    found = [(k, row[label][name]) for k, label in enumerate(labels) if row.get(label, {}).get(name)]
    return [k for k, _ in found], [cell for _, cell in found]


def _bars(cells: Sequence[Mapping[str, Any]]) -> tuple[Array, Array]:
    """Means, and how far the intervals reach below and above them."""
    mean = np.array([cell["mean"] for cell in cells])
    low = np.array([cell["mean"] if cell["low"] is None else cell["low"] for cell in cells])
    high = np.array([cell["mean"] if cell["high"] is None else cell["high"] for cell in cells])
    return mean, np.maximum([mean - low, high - mean], 0)
