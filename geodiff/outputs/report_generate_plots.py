"""The plots of an evaluation of generated tracks, as PNG in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.outputs.report_plots import png
from geodiff.sphere import to_local_km

Floats = npt.NDArray[np.float64]
_DPI = 110

TITLES = {
    "speed_kn": "speed",
    "acceleration_kn_min": "change of speed",
    "turn_deg_min": "rate of turn",
    "net_km": "net displacement",
}


@dataclass(frozen=True, slots=True, eq=False)
class TrackPair:
    """A real window and what generators made in its place.

    Attributes:
        title: what was asked for.
        tracks: name to (lon, lat), (m,) each; the real one first.
    """

    title: str
    tracks: Mapping[str, tuple[Floats, Floats]]


def sweep(report: Mapping[str, Any]) -> bytes:
    """Ratio of accuracies and divergence of speed by guidance, rules as level lines."""
    rows = list(report["generators"].values())
    model = [row for row in rows if row["guidance"] is not None]
    figure, (left, right) = _figure(2, width=5.2, height=4.0)
    x = [row["guidance"] for row in model]
    for number, name in enumerate(model[0]["accuracy"]):
        cells = [row["accuracy"][name]["ratio"] for row in model]
        mean = np.array([cell["mean"] for cell in cells])
        ends = np.array([[cell["low"], cell["high"]] for cell in cells]).T
        bars = np.maximum([mean - ends[0], ends[1] - mean], 0)
        left.errorbar(x, mean, bars, marker="o", ms=4, capsize=3, color=f"C{number}", label=name)
    left.axhline(0.9, color="0.5", ls="--", lw=1, label="wanted")
    left.set(xlabel="guidance", ylabel="accuracy on made / on real tracks", ylim=(0, None))
    left.legend(fontsize=8)
    for number, (name, title) in enumerate(TITLES.items()):
        values = [_jsd(row, name) for row in model]
        right.plot(x, values, marker="o", ms=4, color=f"C{number}", label=title)
        right.axhline(_jsd(report["real"], name), color=f"C{number}", ls=":", lw=1)
    right.set(xlabel="guidance", ylabel="Jensen-Shannon divergence (bits)", ylim=(0, None))
    right.set_title("dotted: between halves of the real tracks", fontsize=9)
    right.legend(fontsize=8)
    return png(figure)


def _jsd(row: Mapping[str, Any], name: str) -> float:
    cell = row["divergence"].get("all", {}).get(name)
    return float("nan") if cell is None else float(cell["jsd_bits"])


def histograms(values: Mapping[str, Mapping[str, Floats]], units: Mapping[str, str]) -> bytes:
    """Distributions of each quantity: real ones filled, made ones as lines; 1 % of the real ones lie beyond each end.

    Args:
        values: quantity to generator to its values; the first generator is the real one.
        units: of each quantity.
    """
    figure, axes = _figure(len(values), width=4.0, height=3.4)
    for ax, (name, sets) in zip(axes, values.items(), strict=True):
        real, *_ = sets.values()
        low, high = np.quantile(real, [0.01, 0.99])
        edges = np.linspace(low, high if high > low else low + 1.0, 41)
        for number, (key, each) in enumerate(sets.items()):
            share = np.histogram(np.clip(each, edges[0], edges[-1]), edges)[0] / max(len(each), 1)
            if number == 0:
                ax.stairs(share, edges, fill=True, color="0.8", label=key)
            else:
                ax.stairs(share, edges, color=f"C{number - 1}", lw=1.2, label=key)
        ax.set_yscale("log")
        ax.set_xlabel(f"{TITLES.get(name, name)} ({units[name]})")
    axes[0].set_ylabel("share")
    axes[-1].legend(fontsize=7)
    return png(figure)


def confusions(titles: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Tables of what is taken for what, side by side, per cent of each class asked for.

    Args:
        titles: of each table.
        rows: each with ``classes`` and ``confusion``.
    """
    figure, axes = _figure(len(rows), width=4.2, height=4.2)
    for ax, title, row in zip(axes, titles, rows, strict=True):
        share = 100 * np.array(row["confusion"])
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (i, j), value in np.ndenumerate(share):
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="w" if value > 55 else "k")
        names = row["classes"]
        ax.set_xticks(range(len(names)), names, rotation=60, fontsize=7)
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("taken for", fontsize=8)
    axes[0].set_ylabel("asked for", fontsize=8)
    return png(figure)


def track_pairs(pairs: Sequence[TrackPair]) -> bytes | None:
    """Made tracks beside real ones, each in the plane about its start; None where there is none."""
    if not pairs:
        return None
    from matplotlib.figure import Figure

    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.5 * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, pair in zip(axes, pairs, strict=False):
        for number, (name, (lon, lat)) in enumerate(pair.tracks.items()):
            east, north = to_local_km(lon, lat, lon[0], lat[0])
            colour = "black" if number == 0 else f"C{number - 1}"
            ax.plot(east, north, ".-", ms=3, lw=1, color=colour, label=name)
        ax.set_title(pair.title, fontsize=8)
        ax.set_aspect("equal", adjustable="datalim")
        ax.tick_params(labelsize=7)
    for ax in axes[len(pairs) :]:
        ax.set_axis_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=8)
    return png(figure)


def _figure(columns: int, *, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]
