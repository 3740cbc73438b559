"""The plots of an evaluation report, as PNG files in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.outputs.colour import Stretch, shrink, textured_square
from geodiff.schema import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110
_WIDEST = 420
_DETAIL_PX = 96
LEVELS = (50, 80, 90)

Models = Mapping[str, Mapping[str, Any]]


def _figure(columns: int = 1, *, width: float = 5.2, height: float = 4.0) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def png(figure: Figure) -> bytes:
    """The bytes of a figure, without the date and the version that would differ from run to run."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def reliability(models: Models) -> bytes | None:
    """Stated against true coverage of intervals; None where no model has an ensemble."""
    known: dict[str, list[Any]] = {}
    for name, row in models.items():
        cover = [row.get(f"coverage_{level}") for level in LEVELS]
        if all(cover):
            known[name] = cover
    if not known:
        return None
    figure, (ax,) = _figure()
    ax.plot([0, 1], [0, 1], color="0.7", lw=1, label="as stated")
    for name, cover in known.items():
        mean = np.array([each["mean"] for each in cover])
        low = np.array([each["mean"] if each["low"] is None else each["low"] for each in cover])
        high = np.array([each["mean"] if each["high"] is None else each["high"] for each in cover])
        # A percentile interval need not hold the mean of the sample.
        bars = np.maximum([mean - low, high - mean], 0)
        ax.errorbar(np.array(LEVELS) / 100, mean, bars, marker="o", capsize=3, label=name)
    ax.set(xlabel="stated share", ylabel="share of true values inside", xlim=(0.4, 1), ylim=(0, 1))
    ax.legend(fontsize=8)
    return png(figure)


def rank_histograms(models: Models) -> bytes | None:
    """One rank histogram per model, as shares; None where no model has an ensemble."""
    known = {name: row["rank_histogram"] for name, row in models.items() if row.get("rank_histogram")}
    if not known:
        return None
    figure, axes = _figure(len(known), width=3.6, height=3.0)
    for ax, (name, counts) in zip(axes, known.items(), strict=True):
        share = np.array(counts, np.float64) / max(sum(counts), 1)
        ax.bar(np.arange(len(share)), share, color="tab:blue", width=0.9)
        ax.axhline(1 / len(share), color="0.3", lw=1)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("members below the truth")
    axes[0].set_ylabel("share of pixels")
    return png(figure)


def spectra(models: Models) -> bytes | None:
    """Radial power of each model against that of the truth, in decibels; None without any spectrum."""
    known = {name: row["spectrum"] for name, row in models.items() if row.get("spectrum")}
    if not known:
        return None
    figure, (ax,) = _figure(width=6.2)
    ax.axhspan(-1, 1, color="0.92")
    for number, (name, told) in enumerate(known.items()):
        frequency, truth = np.array(told["frequency"]), np.array(told["truth"])
        ax.plot(frequency, np.array(told["mean"]) - truth, color=f"C{number % 10}", label=f"{name}, mean")
        if "member" in told:
            member = np.array(told["member"]) - truth
            ax.plot(frequency, member, color=f"C{number % 10}", ls="--", label=f"{name}, one member")
    ax.axvline(0.25, color="0.6", lw=0.8)
    ax.axvline(0.8, color="0.6", lw=0.8, ls=":")
    ax.set(
        xlabel="frequency, as a share of Nyquist's", ylabel="power against the truth (dB)", ylim=(-30, 8), xlim=(0, 1)
    )
    ax.legend(fontsize=7, ncols=2)
    return png(figure)


def site_scatter(rows: Sequence[Mapping[str, Any]], reference: str) -> bytes | None:
    """cPSNR of each model at each place against that of the reference; None without a model to compare."""
    known = {(row["group"], row["model"]): row["cpsnr_db"]["mean"] for row in rows if row.get("cpsnr_db")}
    models = list(dict.fromkeys(model for _, model in known if model != reference))
    if not models:
        return None
    figure, (ax,) = _figure()
    for model in models:
        sites = [site for site, name in known if name == model and (site, reference) in known]
        ax.scatter([known[s, reference] for s in sites], [known[s, model] for s in sites], s=18, alpha=0.8, label=model)
    low, high = min(known.values()) - 1, max(known.values()) + 1
    ax.plot([low, high], [low, high], color="0.6", lw=1)
    ax.set(xlabel=f"cPSNR of {reference} (dB)", ylabel="cPSNR of the model (dB)", xlim=(low, high), ylim=(low, high))
    ax.legend(fontsize=8)
    return png(figure)


def case_picture(
    low: FloatArray, estimates: Mapping[str, FloatArray], truth: FloatArray, *, rgb: tuple[int, ...], title: str
) -> bytes:
    """One case: low resolution, every model and the truth; a closer look; and the errors there.

    Args:
        low: (band, y, x) the date as the model saw it, NaN where it did not.
        estimates: model to (band, scale*y, scale*x).
        truth: (band, scale*y, scale*x), NaN where it may not be compared.
        rgb: indices of the bands to show.
        title: first line.
    """
    scale = truth.shape[-1] // low.shape[-1]
    stretch = Stretch.of(truth if np.isfinite(truth).any() else low, rgb)
    top, left, side = textured_square(truth, min(_DETAIL_PX, *truth.shape[-2:]))
    top, left = top // scale * scale, left // scale * scale
    part = (slice(None), slice(top, top + side), slice(left, left + side))
    coarse = low[:, top // scale : (top + side) // scale, left // scale : (left + side) // scale]
    panels = {"low resolution": low, **estimates, "truth": truth}
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 * len(panels), 7.4), dpi=_DPI, layout="constrained")
    axes = figure.subplots(3, len(panels), squeeze=False)
    errors = {name: np.abs(image - truth)[part].mean(0) for name, image in estimates.items()}
    worst = _worst(list(errors.values()))
    for column, (name, image) in enumerate(panels.items()):
        axes[0][column].set_title(name, fontsize=9)
        _show(axes[0][column], stretch.apply(shrink(image, _WIDEST)))
        _show(axes[1][column], stretch.apply(coarse if name == "low resolution" else image[part]))
        shown = _show(axes[2][column], errors[name], worst) if name in errors else axes[2][column].axis("off")
        if name in errors and column == len(panels) - 2:
            figure.colorbar(shown, ax=axes[2][-1], fraction=0.5, label="absolute error of reflectance")
    figure.suptitle(title, fontsize=10)
    return png(figure)


def _worst(errors: Sequence[Any]) -> float:
    finite = np.concatenate([error[np.isfinite(error)] for error in errors]) if errors else np.zeros(1)
    return max(float(np.percentile(finite, 98)), 1e-4) if finite.size else 1e-4


def _show(ax: Axes, image: Any, worst: float | None = None) -> Any:
    ax.set_facecolor("0.85")
    ax.set_xticks([])
    ax.set_yticks([])
    if worst is None:
        return ax.imshow(image, interpolation="nearest")
    return ax.imshow(image, interpolation="nearest", cmap="magma", vmin=0, vmax=worst)
