"""Pictures that let a person judge a restoration: the same colours, the same ground, a scale bar, and a closer look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.outputs.atomic import explained, replacing
from geodiff.outputs.colour import Stretch, nice_length, shrink, textured_square
from geodiff.schema import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUE_COLOUR = (2, 1, 0)
"""Red, green and blue among B02 B03 B04 B08."""

_PANEL_IN, _DPI = 4.6, 170
_PANEL_PIXELS = round(2 * _PANEL_IN * _DPI)
_DETAIL_M = 640.0


@dataclass(frozen=True, eq=False)
class View:
    """One piece of ground in three layers; the layers may differ in pixel size, they cover the same ground.

    Attributes:
        low: (band, y, x) reflectance as observed.
        mean: (band, y, x) restored reflectance.
        uncertainty: (band, y, x) in reflectance; NaN where unknown.
        pixel_m: side of a pixel of ``low`` in metres.
        top_m: distance of the upper edge from that of the whole scene, for a closer look.
        left_m: the same for the left edge.
    """

    low: FloatArray
    mean: FloatArray
    uncertainty: FloatArray
    pixel_m: float
    top_m: float = 0.0
    left_m: float = 0.0

    @property
    def size_m(self) -> tuple[float, float]:
        """Ground covered (height, width)."""
        return self.low.shape[-2] * self.pixel_m, self.low.shape[-1] * self.pixel_m


def quicklook(
    low: FloatArray,
    mean: FloatArray,
    uncertainty: FloatArray,
    *,
    pixel_m: float,
    scale: int,
    dates: Sequence[str],
    title: str,
    path: Path,
    rgb: tuple[int, ...] = TRUE_COLOUR,
    detail: View | None = None,
) -> Path:
    """Draw low resolution, restoration and uncertainty side by side, and below them the most textured square.

    Args:
        low: (band, y, x) reflectance of the target date, NaN where invalid. For a scene that does not fit in memory
            pass overviews of the same ground here and a piece at full resolution as ``detail``.
        mean: (band, scale * y, scale * x) restored reflectance.
        uncertainty: (band, scale * y, scale * x) in reflectance.
        pixel_m: side of a pixel of ``low`` in metres.
        scale: for the captions.
        dates: (of the low-resolution image, of the restoration); one when they are the same.
        title: first line of the picture.
        path: the PNG.
        rgb: indices of the bands to show.
        detail: the closer look; chosen by texture when None.

    Returns:
        ``path``.
    """
    scene = View(low, mean, uncertainty, pixel_m)
    close = detail or closer_look(scene)
    # A date under cloud shows nothing to derive colours from; then the restoration decides.
    stretch = Stretch.of(low if np.isfinite(low).any() else mean, rgb)
    worst = _worst(uncertainty)
    figure, axes = _panels(3, scene, close, extra_in=0.9)
    captions = (
        f"low resolution, {pixel_m:.3g} m, {dates[0]}",
        f"restored {scale}x, {pixel_m / scale:.3g} m, {dates[-1]}",
        "uncertainty",
    )
    for row, view in zip(axes, (scene, close), strict=True):
        _draw_view(figure, row, view, stretch, worst)
    for ax, caption in zip(axes[0], captions, strict=True):
        ax.set_title(caption, fontsize=11)
        _frame(ax, close)
    axes[1][0].set_title("closer look (frame above)", fontsize=10, loc="left")
    figure.suptitle(title, fontsize=13)
    return _save(figure, path)


def closer_look(scene: View) -> View:
    """The most textured square of a scene, about 640 m wide, at full resolution."""
    top, left, side = textured_square(scene.low, max(8, round(_DETAIL_M / scene.pixel_m)))
    low = scene.low[:, top : top + side, left : left + side]
    finer = [_crop_like(layer, scene.low, top, left, side) for layer in (scene.mean, scene.uncertainty)]
    return View(low, finer[0], finer[1], scene.pixel_m, top * scene.pixel_m, left * scene.pixel_m)


def _crop_like(layer: FloatArray, low: FloatArray, top: int, left: int, side: int) -> FloatArray:
    fy, fx = layer.shape[-2] / low.shape[-2], layer.shape[-1] / low.shape[-1]
    rows = slice(round(top * fy), round((top + side) * fy))
    return layer[:, rows, round(left * fx) : round((left + side) * fx)]


def comparison(
    panels: Mapping[str, FloatArray],
    *,
    pixel_m: float,
    title: str,
    path: Path,
    cpsnr_db: Mapping[str, float] | None = None,
    rgb: tuple[int, ...] = TRUE_COLOUR,
) -> Path:
    """Draw images of the same ground side by side, and below them the most textured square of the last one.

    Args:
        panels: name to (band, y, x) reflectance, in the order of drawing; pixel sizes may differ. The last one, as a
            rule the truth, decides stretch and closer look.
        pixel_m: side of a pixel of the last panel in metres.
        title: first line of the picture.
        path: the PNG.
        cpsnr_db: score of some panels against the truth, added to their names.
        rgb: indices of the bands to show.

    Returns:
        ``path``.
    """
    reference = list(panels.values())[-1]
    stretch = Stretch.of(reference, rgb)
    top, left, side = textured_square(reference, max(8, round(_DETAIL_M / pixel_m)))
    whole = View(reference, reference, reference, pixel_m)
    part = reference[:, top : top + side, left : left + side]
    close = View(part, part, part, pixel_m, top * pixel_m, left * pixel_m)
    figure, axes = _panels(len(panels), whole, close)
    for column, (name, image) in enumerate(panels.items()):
        score = (cpsnr_db or {}).get(name)
        axes[0][column].set_title(name if score is None else f"{name}: cPSNR {score:.2f} dB", fontsize=11)
        _draw(axes[0][column], stretch.apply(shrink(image, _PANEL_PIXELS)), whole)
        _draw(axes[1][column], stretch.apply(_crop_like(image, reference, top, left, side)), close)
        _frame(axes[0][column], close)
    for ax, view in ((axes[0][0], whole), (axes[1][0], close)):
        _scale_bar(ax, view)
    figure.suptitle(title, fontsize=13)
    return _save(figure, path)


def thumbnail(mean: FloatArray, path: Path, *, size: int = 512, rgb: tuple[int, ...] = TRUE_COLOUR) -> Path:
    """Write a small true-colour PNG of (band, y, x) reflectance, transparent where invalid; returns ``path``."""
    from matplotlib.image import imsave

    small = shrink(mean, size)
    with explained(path), replacing(path) as temporary:
        imsave(temporary, Stretch.of(small, rgb).apply(small))
    return path


def _panels(columns: int, upper: View, lower: View, *, extra_in: float = 0.0) -> tuple[Figure, Any]:
    """A figure of two rows whose heights follow the shapes of the views."""
    from matplotlib.figure import Figure

    heights = [min(max(view.size_m[0] / view.size_m[1], 0.3), 2.0) for view in (upper, lower)]
    size = (columns * _PANEL_IN + extra_in, sum(heights) * _PANEL_IN + 0.85)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    return figure, figure.subplots(2, columns, squeeze=False, height_ratios=heights)


def _worst(uncertainty: FloatArray) -> float | None:
    finite = uncertainty[np.isfinite(uncertainty)]
    return max(float(np.percentile(finite, 99)), 1e-4) if finite.size else None


def _draw_view(figure: Figure, row: Sequence[Axes], view: View, stretch: Stretch, worst: float | None) -> None:
    for ax, image in zip(row, (view.low, view.mean), strict=False):
        _draw(ax, stretch.apply(shrink(image, _PANEL_PIXELS)), view)
    spread = shrink(view.uncertainty, _PANEL_PIXELS)
    # Bands in which it is unknown are left out; a pixel is a hole when it is unknown in all of them.
    known = np.isfinite(spread)
    total, count = np.where(known, spread, 0).sum(axis=0), known.sum(axis=0)
    mean = np.ma.masked_array(total / np.maximum(count, 1), mask=count == 0)
    shown = _draw(row[2], mean, view, cmap="magma", vmin=0.0, vmax=1.0 if worst is None else worst)
    if worst is not None:
        bar = figure.colorbar(shown, ax=row[2], fraction=0.046, pad=0.02, extend="max")
        bar.set_label("uncertainty of reflectance, mean of bands", fontsize=9)
    if not count.any():
        row[2].text(0.5, 0.5, "not known: no ensemble", transform=row[2].transAxes, ha="center", backgroundcolor="w")
    _scale_bar(row[0], view)


def _draw(ax: Axes, image: Any, view: View, **options: Any) -> Any:
    from matplotlib.patches import Rectangle

    height, width = view.size_m
    extent = (view.left_m, view.left_m + width, view.top_m + height, view.top_m)
    holes = Rectangle((view.left_m, view.top_m), width, height, facecolor="0.8", edgecolor="0.6", hatch="////", lw=0)
    ax.add_patch(holes)
    # Nearest neighbour: the reader sees the pixels, not a smoothing by the plotting library.
    shown = ax.imshow(image, extent=extent, interpolation="nearest", zorder=2, **options)
    ax.set_xticks([])
    ax.set_yticks([])
    return shown


def _frame(ax: Axes, close: View) -> None:
    from matplotlib.patches import Rectangle

    height, width = close.size_m
    frame = Rectangle((close.left_m, close.top_m), width, height, fill=False, edgecolor="yellow", lw=1.2, zorder=3)
    ax.add_patch(frame)


def _scale_bar(ax: Axes, view: View) -> None:
    from matplotlib.patheffects import withStroke

    height, width = view.size_m
    length = nice_length(width)
    left, bottom = view.left_m + 0.05 * width, view.top_m + 0.95 * height
    outline = [withStroke(linewidth=4, foreground="black")]
    ax.plot([left, left + length], [bottom, bottom], color="white", lw=2.5, zorder=4, path_effects=outline)
    text = f"{length:g} m" if length < 1000 else f"{length / 1000:g} km"
    ax.text(
        left, bottom - 0.015 * height, text, color="white", fontsize=10, va="bottom", zorder=4, path_effects=outline
    )


def _save(figure: Figure, path: Path) -> Path:
    with explained(path), replacing(path) as temporary:
        figure.savefig(temporary)
    return path
