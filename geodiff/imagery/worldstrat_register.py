"""Bringing a high-resolution image that has no georeference into the frame and radiometry of a low-resolution one.

Both images of a WorldStrat place were ordered over one box, so that the ratio of their pixels, row by row and column by
column, is the ratio of their sizes (1054 / 158 = 6.67). What is left is a translation of a fraction of a pixel, and
another sensor's, another atmosphere's radiometry. The translation is found by phase correlation of the low-resolution
image with the high-resolution one as Sentinel-2 would see it, and refined by least squares on its gradient inside the
pixels that both show, again and again with what was found so far removed, so
that the last correction is near zero and its size says how well the loop has settled.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.imagery.worldstrat_resample import reached, resample
from geodiff.schema import BoolArray, FloatArray, GeodiffError
from geodiff.sensor import band_mtf, degrade

DEGRADE_SCALE: Final = 4
"""Lattice on which the sensor model sees the high resolution: 2.5 m under 10 m, any whole number would do."""

ROUNDS, FINE_ROUNDS = 3, 8
SETTLED_PX = 0.002
UPSAMPLE = 50
OUTLIER = 4.0
DETAIL_PX, CLIP = 3.0, 3.0
MAX_SHIFT_PX = 8.0
MIN_CORRELATION = 0.15
MIN_PIXELS = 256
VISIBLE: Final = ("B02", "B03", "B04")

Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HrTransform:
    """How a high-resolution image became the truth of a place: ``gain * (numbers / 10,000) + offset``, resampled.

    Attributes:
        aoi: name of the place.
        kind: which file: "ps" or "rgbn".
        hr_time: of the high-resolution image, ISO, UTC.
        reference_time: of the low-resolution image whose frame it was brought into, ISO, UTC.
        ratio: high-resolution pixels in a low-resolution one (rows, columns).
        shift_px: how far the content lay (down, right) of where it belongs, in low-resolution pixels.
        shift_m: the same in metres (down, right).
        residual_px: the last correction of the registration: what it had not yet settled.
        correlation: of the detail of both images after registration, 0-1.
        trusted: False where no shift could be found and none was applied.
        bands: names, in the order of the following.
        gains: per band, without unit.
        offsets: per band, reflectance.
        fitted: per band, False where the band is too flat or too different to tell a gain; then it is 1.
        residual: per band, reflectance: root mean square difference to the reference, of the pixels that count.
        changed: share of the clear pixels whose difference is beyond what a fit explains: change, or cloud.
    """

    aoi: str
    kind: str
    hr_time: str
    reference_time: str
    ratio: tuple[float, float]
    shift_px: tuple[float, float]
    shift_m: tuple[float, float]
    residual_px: float
    correlation: float
    trusted: bool
    bands: tuple[str, ...]
    gains: tuple[float, ...]
    offsets: tuple[float, ...]
    fitted: tuple[bool, ...]
    residual: tuple[float, ...]
    changed: float

    def to_json(self) -> str:
        """All attributes as one JSON object; ``from_json`` gives an equal value."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> HrTransform:
        """Read what ``to_json`` wrote.

        Raises:
            GeodiffError: not such an object.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            known = {field.name: values[field.name] for field in fields(cls)}
        except (ValueError, KeyError, TypeError) as error:
            raise GeodiffError(f"this is no record of a registration ({error}): write it anew") from error
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return cls(**plain)


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the content of a high-resolution image lies; see ``HrTransform``."""

    shift_px: tuple[float, float]
    residual_px: float
    correlation: float
    trusted: bool


def see_as(
    high: FloatArray, shape: tuple[int, int], bands: tuple[str, ...], shift_px: tuple[float, float]
) -> FloatArray:
    """A high-resolution image as Sentinel-2 would see it on a lattice of ``shape``.

    Args:
        high: (band, Y, X) float32, over the extent of the lattice.
        shape: (rows, columns) of the low resolution.
        bands: names, for the optics of each.
        shift_px: displacement (down, right) to take back, in low-resolution pixels.

    Returns:
        (band, rows, columns) float32.
    """
    ratio = high.shape[-2] / shape[0], high.shape[-1] / shape[1]
    fine = (shape[0] * DEGRADE_SCALE, shape[1] * DEGRADE_SCALE)
    moved = resample(high, fine, (shift_px[0] * ratio[0], shift_px[1] * ratio[1]))
    return degrade(moved, DEGRADE_SCALE, band_mtf(bands))


def find_shift(
    high: FloatArray, covered: BoolArray, low: FloatArray, valid: BoolArray, bands: tuple[str, ...]
) -> Shift:
    """How far the content of ``high`` lies off ``low``, to a few hundredths of a low-resolution pixel.

    Args:
        high: (band, Y, X) float32 in any radiometry, over the same extent.
        covered: (Y, X) bool, where it has data.
        low: (band, y, x) float32; any value where not valid.
        valid: (y, x) bool.
        bands: names; the visible ones are looked at, as near infrared moves with season and shadows.
    """
    chosen = [index for index, band in enumerate(bands) if band in VISIBLE] or list(range(len(bands)))
    names = ("B03",)
    shape = (valid.shape[0], valid.shape[1])
    target = _gray(low, chosen, valid)
    gray = _gray(high, chosen, covered)[None]
    ratio = gray.shape[-2] / shape[0], gray.shape[-1] / shape[1]
    shift, step, match = np.zeros(2), np.full(2, np.inf), 0.0
    for number in range(ROUNDS + FINE_ROUNDS):
        now = (float(shift[0]), float(shift[1]))
        seen = reached(covered, shape, (now[0] * ratio[0], now[1] * ratio[1])) & valid
        if seen.sum() < MIN_PIXELS:
            return Shift((0.0, 0.0), 0.0, 0.0, trusted=False)
        # One mask for both: the borders of unequal masks would be taken for content.
        fixed, moving = _detail(target, seen), _detail(see_as(gray, shape, names, now)[0], seen)
        match = _match(fixed, moving)
        step = _correlate(fixed, moving) if number < ROUNDS else _refine(fixed, moving, seen)
        shift = shift + step
        if np.abs(shift).max() > MAX_SHIFT_PX or (number >= ROUNDS and np.abs(step).max() < SETTLED_PX):
            break
    trusted = bool(match >= MIN_CORRELATION and np.abs(shift).max() <= MAX_SHIFT_PX)
    found = (float(shift[0]), float(shift[1])) if trusted else (0.0, 0.0)
    return Shift(found, float(np.hypot(*step)), match, trusted)


def _gray(image: FloatArray, chosen: list[int], valid: BoolArray) -> FloatArray:
    """Mean of some bands; invalid pixels take the mean of the rest."""
    mean = image[chosen].mean(axis=0)
    level = float(mean[valid].mean()) if valid.any() else 0.0
    return np.where(valid, mean, np.float32(level)).astype(np.float32)


def _detail(image: FloatArray, valid: BoolArray) -> FloatArray:
    """High-passed and clipped image; zero where invalid, and everywhere where it is flat."""
    weight = ndimage.gaussian_filter(valid.astype(np.float32), DETAIL_PX)
    smooth = ndimage.gaussian_filter(np.where(valid, image, np.float32(0)), DETAIL_PX) / np.maximum(weight, 1e-3)
    detail = np.where(valid, image - smooth, np.float32(0))
    spread = float(detail[valid].std()) if valid.any() else 0.0
    if spread < 1e-6:
        return np.zeros(image.shape, np.float32)
    return np.clip(detail / spread, -CLIP, CLIP).astype(np.float32)


def _match(fixed: FloatArray, moving: FloatArray) -> float:
    """Correlation of two details as they lie."""
    power = float((fixed * fixed).sum(dtype=np.float64) * (moving * moving).sum(dtype=np.float64))
    return float((fixed * moving).sum(dtype=np.float64)) / float(np.sqrt(power)) if power > 0 else 0.0


def _correlate(fixed: FloatArray, moving: FloatArray) -> Pixels:
    """Displacement of ``moving`` (down, right) in pixels: the peak of the correlation of both."""
    from scipy.signal.windows import tukey
    from skimage.registration import phase_cross_correlation

    if not fixed.any() or not moving.any():
        return np.zeros(2)
    taper = np.outer(*(tukey(size, 0.3) for size in fixed.shape))
    # The spectrum is not whitened: beyond the sensor's MTF there is little but noise.
    back, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        fixed * taper, moving * taper, upsample_factor=UPSAMPLE, normalization=None
    )
    return -np.asarray(back, np.float64)


def _refine(fixed: FloatArray, moving: FloatArray, seen: BoolArray) -> Pixels:
    """The rest of the displacement, where it is small: least squares on the gradient (Lucas and Kanade 1981, IJCAI).

    The correlation's peak is drawn to zero by the borders of the mask, which do not move with the content; gradients
    inside of it know nothing of its border. Pixels that fit badly, as what has changed, weigh nothing.
    """
    inner = ndimage.binary_erosion(seen, iterations=2)
    if inner.sum() < MIN_PIXELS // 2 or not moving.any():
        return np.zeros(2)
    slopes = [np.asarray(np.gradient(moving, axis=axis), np.float64) for axis in (0, 1)]
    columns = np.stack([*(slope[inner] for slope in slopes), moving[inner].astype(np.float64)], axis=1)
    wanted = fixed[inner].astype(np.float64)
    rest = wanted - columns[:, 2] * float(wanted @ columns[:, 2]) / max(float(columns[:, 2] @ columns[:, 2]), 1e-9)
    weight = np.abs(rest) <= OUTLIER * max(1.4826 * float(np.median(np.abs(rest))), 1e-6)
    solved, *_ = np.linalg.lstsq(columns[weight], wanted[weight], rcond=None)
    # fixed(p) = moving(p + d): sampling further along the displacement brings the content home.
    return np.asarray(np.clip(solved[:2] / max(float(solved[2]), 0.2), -1, 1), np.float64)
