"""From a high-resolution image and one low-resolution date to the truth of that date, for plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.imagery.worldstrat_layout import HR_PIXEL_M
from geodiff.imagery.worldstrat_register import (
    HrTransform,
    changed_pixels,
    find_shift,
    match_band,
    see_as,
)
from geodiff.imagery.worldstrat_resample import reached, resample
from geodiff.schema import BANDS_10M, BoolArray, FloatArray, GeodiffError

CLEAR_ENOUGH = 0.3
"""Share of clear pixels that a date needs to be registered to."""

EXTENT_SLACK = 0.08
"""By how much the high-resolution pixel may differ from its nominal side: beyond, the images show different boxes.

Sides of 153 to 163 low-resolution pixels for nominal 158 are usual.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The truth of one date.

    Attributes:
        truth: (4, scale * y, scale * x) float32 reflectance, B02 B03 B04 B08; NaN where not reached.
        clear: (y, x) bool, see ``worldstrat.Pair``.
        transform: how it was made.
    """

    truth: FloatArray
    clear: BoolArray
    transform: HrTransform


def match_high(
    high: FloatArray,
    low: FloatArray,
    valid: BoolArray,
    *,
    scale: int,
    about: Mapping[str, str],
    pixel_m: tuple[float, float],
) -> Matched:
    """Register, match and resample.

    Args:
        high: (4, Y, X) float32 in B02 B03 B04 B08, numbers / 10,000, 0 in all bands where there are no data.
        low: (4, y, x) float32 reflectance of the reference date.
        valid: (y, x) bool, where ``low`` is clear.
        scale: pixels of the truth in one of ``low``.
        about: ``aoi``, ``kind``, ``hr_time`` and ``reference_time`` of the transform.
        pixel_m: sides of a low-resolution pixel (x, y) in metres.

    Raises:
        GeodiffError: the images cannot show one box.
    """
    shape = (low.shape[-2], low.shape[-1])
    ratio = _ratio(high, shape, about, pixel_m)
    covered = np.asarray((high != 0).any(axis=0))
    filled = np.where(covered, high, high[:, covered].mean(axis=1)[:, None, None] if covered.any() else np.float32(0))
    low = np.where(valid, low, np.float32(0))
    shift = find_shift(filled, covered, low, valid, BANDS_10M)
    moved = shift.shift_px[0] * ratio[0], shift.shift_px[1] * ratio[1]
    seen = see_as(filled, shape, BANDS_10M, shift.shift_px)
    inside = reached(covered, shape, moved)
    use = inside & valid
    lines = [match_band(seen[i], low[i], use) for i in range(len(BANDS_10M))]
    gains, offsets = (_column([getattr(line, name) for line in lines]) for name in ("gain", "offset"))
    changed = changed_pixels(gains * seen + offsets, low, use)
    transform = HrTransform(
        aoi=about["aoi"],
        kind=about["kind"],
        hr_time=about["hr_time"],
        reference_time=about["reference_time"],
        ratio=ratio,
        shift_px=shift.shift_px,
        shift_m=(shift.shift_px[0] * pixel_m[1], shift.shift_px[1] * pixel_m[0]),
        residual_px=shift.residual_px,
        correlation=shift.correlation,
        trusted=shift.trusted,
        bands=BANDS_10M,
        gains=tuple(line.gain for line in lines),
        offsets=tuple(line.offset for line in lines),
        fitted=tuple(line.fitted for line in lines),
        residual=tuple(line.residual for line in lines),
        changed=float(changed[use].mean()) if use.any() else 0.0,
    )
    fine = (shape[0] * scale, shape[1] * scale)
    truth = gains * resample(filled, fine, moved) + offsets
    truth = np.where(reached(covered, fine, moved), truth, np.float32(np.nan))
    return Matched(truth.astype(np.float32), inside & ~changed, transform)


def _ratio(
    high: FloatArray, shape: tuple[int, int], about: Mapping[str, str], pixel_m: tuple[float, float]
) -> tuple[float, float]:
    """High-resolution pixels in a low-resolution one, (rows, columns): the sizes tell, and are no whole multiples."""
    ratio = high.shape[-2] / shape[0], high.shape[-1] / shape[1]
    nominal = HR_PIXEL_M[about["kind"]]
    if any(abs(side / per / nominal - 1) > EXTENT_SLACK for side, per in zip(pixel_m[::-1], ratio, strict=True)):
        raise GeodiffError(
            f"{about['aoi']}: {high.shape[-2]} x {high.shape[-1]} pixels of nominally {nominal} m and {shape[0]} x "
            f"{shape[1]} of {pixel_m[0]:.1f} m cannot show the same box: download the place again"
        )
    return ratio


def _column(values: list[float]) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)[:, None, None]
