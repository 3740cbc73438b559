"""From a high-resolution image and one low-resolution date to the truth of that date, for plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.imagery.worldstrat_layout import HR_PIXEL_M
from geodiff.imagery.worldstrat_radiometry import Line, changed_pixels, match_band
from geodiff.imagery.worldstrat_register import HrTransform, Shift, find_shift, see_as
from geodiff.imagery.worldstrat_resample import reached, resample
from geodiff.schema import BANDS_10M, BoolArray, FloatArray, GeodiffError

CLEAR_ENOUGH = 0.3
"""Share of clear pixels that a date needs to be registered to."""

MARGIN_PX = 2
"""Low-resolution pixels that the sensor's point spread function reaches."""

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
    found = _align(filled, covered, low, valid)
    if found.changed.any():
        # A cloud has edges that are stronger than those of the ground: again, without it.
        changed = ndimage.binary_dilation(found.changed, iterations=MARGIN_PX)
        again = _align(filled, covered, low, valid & ~changed)
        found = again if again.shift.trusted else found
    shift, lines = found.shift, found.lines
    moved = shift.shift_px[0] * ratio[0], shift.shift_px[1] * ratio[1]
    inside = reached(covered, shape, moved)
    use = inside & valid
    gains, offsets = _columns(lines)
    changed = changed_pixels(gains * found.seen + offsets, low, use)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """A registration, the degraded image (4, y, x) in its place, the line of each band, and what has changed."""

    shift: Shift
    seen: FloatArray
    lines: tuple[Line, ...]
    changed: BoolArray


def _align(filled: FloatArray, covered: BoolArray, low: FloatArray, valid: BoolArray) -> _Aligned:
    shape = (low.shape[-2], low.shape[-1])
    shift = find_shift(filled, covered, low, valid, BANDS_10M)
    down, right = (px * high / size for px, high, size in zip(shift.shift_px, filled.shape[-2:], shape, strict=True))
    seen = see_as(filled, shape, BANDS_10M, shift.shift_px)
    use = reached(covered, shape, (down, right)) & valid
    # The point spread function reaches beyond the border of the image, where nothing is known.
    inner = ndimage.binary_erosion(use, iterations=MARGIN_PX)
    lines = tuple(match_band(seen[i], low[i], inner) for i in range(len(BANDS_10M)))
    gains, offsets = _columns(lines)
    return _Aligned(shift, seen, lines, changed_pixels(gains * seen + offsets, low, use))


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


def _columns(lines: Sequence[Line]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gains and offsets, (band, 1, 1) float32."""
    gains, offsets = (np.array(v, np.float32) for v in ([a.gain for a in lines], [a.offset for a in lines]))
    return gains[:, None, None], offsets[:, None, None]
