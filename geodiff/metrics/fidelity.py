"""How near a restored image is to the truth: cPSNR, cSSIM and the spectral angle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.schema import BoolArray, FloatArray

CROP, SEARCH = 3, 3

SSIM_SIGMA, SSIM_RADIUS = 1.5, 5
"""The Gaussian window of Wang et al. 2004: 11 x 11 pixels."""

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
"""Their constants for a peak of 1. Land is dark on that scale, so that all values are high: use them to compare."""

Shift = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """The estimate's interior against the truth's window at one shift."""

    estimate: FloatArray
    truth: FloatArray
    seen: BoolArray


class _Shifts:
    """The truth's windows under the interior of an estimate, for every whole shift."""

    def __init__(
        self, estimate: FloatArray, truth: FloatArray, clear: BoolArray | None, *, crop: int, search: int
    ) -> None:
        if not 0 <= search <= crop:
            raise ValueError(f"search of {search} pixels needs a crop of as many, not {crop}")
        _check_shapes(estimate, truth)
        finite: BoolArray = np.asarray(np.isfinite(truth).all(0))
        self.mask = finite if clear is None else finite & clear
        self.truth, self.crop, self.search = truth, crop, search
        self.rows, self.cols = truth.shape[-2:]
        self.inner = estimate[:, crop : self.rows - crop, crop : self.cols - crop]
        self.finite: BoolArray = np.asarray(np.isfinite(self.inner).all(0))

    def window(self, shift: Shift) -> tuple[slice, slice]:
        (down, right), crop = shift, self.crop
        return slice(crop + down, self.rows - crop + down), slice(crop + right, self.cols - crop + right)

    def seen(self, shift: Shift) -> BoolArray:
        return np.asarray(self.mask[self.window(shift)] & self.finite)

    def at(self, shift: Shift) -> _Match:
        return _Match(self.inner, self.truth[(slice(None), *self.window(shift))], self.seen(shift))

    def __iter__(self) -> Iterator[Shift]:
        reach = range(-self.search, self.search + 1)
        return ((down, right) for down in reach for right in reach)

    def errors(self) -> dict[Shift, float]:
        """Mean squared error without bias of each shift that sees enough; ValueError when none sees a pixel."""
        counts = {shift: int(self.seen(shift).sum()) for shift in self}
        most = max(counts.values())
        if not most:
            raise ValueError("no clear pixel to compare on")
        # Between clouds a shift may see a few pixels only, and one alone has no variance: such shifts do not compete.
        competing = [shift for shift, count in counts.items() if count >= most / 2]
        total = dict.fromkeys(competing, 0.0)
        for x, y in zip(self.inner, self.truth, strict=True):
            # Centred, so that the square of the mean takes no digits from the variance.
            x_clear = np.where(self.finite, x - x[self.finite].mean(dtype=np.float64), 0.0)
            y_clear = np.where(self.mask, y - y[self.mask].mean(dtype=np.float64), 0.0)
            for shift in competing:
                difference = y_clear[self.window(shift)] - x_clear
                if counts[shift] < difference.size:
                    difference *= self.seen(shift)
                total[shift] += np.vdot(difference, difference) / counts[shift]
                total[shift] -= (difference.sum() / counts[shift]) ** 2
        return {shift: max(float(error) / len(self.truth), 0.0) for shift, error in total.items()}


def _check_shapes(estimate: FloatArray, truth: FloatArray) -> None:
    if estimate.shape != truth.shape:
        raise ValueError(f"the estimate is {estimate.shape}, the truth {truth.shape}: their shapes must agree")


def seen_pixels(*, estimate: FloatArray, truth: FloatArray, clear: BoolArray | None) -> BoolArray:
    """(y, x) bool: pixels that are clear and finite in every band of both images, each (band, y, x)."""
    _check_shapes(estimate, truth)
    finite: BoolArray = np.asarray(np.isfinite(truth).all(0) & np.isfinite(estimate).all(0))
    return finite if clear is None else finite & clear


def cpsnr(
    estimate: FloatArray, truth: FloatArray, clear: BoolArray | None = None, *, crop: int = CROP, search: int = SEARCH
) -> float:
    """Clear PSNR of PROBA-V (Martens et al. 2019): the best over integer shifts, after removing the bias per band.

    Args:
        estimate: (band, y, x) reflectance.
        truth: (band, y, x) reflectance; the peak is 1.
        clear: (y, x) bool, pixels of the truth that count; all finite ones when None.
        crop: border of the estimate that is left out, in pixels.
        search: largest shift in pixels, at most ``crop``.

    Returns:
        Decibels.

    Raises:
        ValueError: no clear pixel to compare on, shapes that differ, or a search that leaves the image.
    """
    best = min(_Shifts(estimate, truth, clear, crop=crop, search=search).errors().values())
    return float(-10 * np.log10(max(best, 1e-12)))


def cssim(
    estimate: FloatArray, truth: FloatArray, clear: BoolArray | None = None, *, crop: int = CROP, search: int = SEARCH
) -> float:
    """Clear SSIM in the manner of PROBA-V: structural similarity at its own best whole shift, bias per band removed.

    SSIM is that of Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    IEEE TIP 13(4), with a Gaussian window and a peak of 1. The window weighs clear pixels only, so that nothing under
    a cloud enters, and the map is averaged over clear pixels whose window lies within the crop. The best shift is
    found by climbing from that of the least squared error.

    Args:
        estimate: (band, y, x) reflectance.
        truth: (band, y, x) reflectance.
        clear: (y, x) bool, pixels of the truth that count; all finite ones when None.
        crop: border of the estimate that is left out, in pixels.
        search: largest shift in pixels, at most ``crop``.

    Returns:
        At most 1; mean over the bands.

    Raises:
        ValueError: no clear pixel to compare on, shapes that differ, or a search that leaves the image.
    """
    shifts = _Shifts(estimate, truth, clear, crop=crop, search=search)
    errors = shifts.errors()
    here = min(errors, key=errors.__getitem__)
    known = {here: _ssim(shifts.at(here))}
    while True:
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            there = here[0] + down, here[1] + right
            if there in errors and there not in known:
                known[there] = _ssim(shifts.at(there))
        best = max(known, key=known.__getitem__)
        if best == here:
            return known[here]
        here = best


def _ssim(match: _Match) -> float:
    """Mean SSIM over the bands and over the seen pixels whose window is inside the image."""
    inside = np.zeros_like(match.seen)
    inside[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS] = True
    counted = match.seen & inside
    if not counted.any():
        raise ValueError(f"no clear pixel to compare on that is {SSIM_RADIUS} pixels from the border")
    weight = match.seen.astype(np.float64)
    total = _blur(weight)[counted]
    values = []
    for x, y in zip(match.estimate, match.truth, strict=True):
        x_clear = np.where(match.seen, x - x[match.seen].mean(dtype=np.float64), 0.0)
        y_mean = y[match.seen].mean(dtype=np.float64)
        y_clear = np.where(match.seen, y - y_mean, 0.0)
        mu_x, mu_y, xx, yy, xy = (
            _blur(product)[counted] / total for product in (x_clear, y_clear, x_clear**2, y_clear**2, x_clear * y_clear)
        )
        contrast = (2 * (xy - mu_x * mu_y) + SSIM_C2) / (xx - mu_x**2 + yy - mu_y**2 + SSIM_C2)
        # The estimate takes the mean of the truth: the bias that is forgiven.
        mu_x, mu_y = mu_x + y_mean, mu_y + y_mean
        values.append(float((contrast * (2 * mu_x * mu_y + SSIM_C1) / (mu_x**2 + mu_y**2 + SSIM_C1)).mean()))
    return float(np.mean(values))


def _blur(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    blurred: npt.NDArray[np.float64] = ndimage.gaussian_filter(image, SSIM_SIGMA, mode="constant", radius=SSIM_RADIUS)
    return blurred


def spectral_angle_deg(estimate: FloatArray, truth: FloatArray, clear: BoolArray | None = None) -> float:
    """Mean angle between the spectra of two images (Kruse et al. 1993, "The spectral image processing system", RSE 44).

    Args:
        estimate: (band, y, x) reflectance.
        truth: (band, y, x) reflectance.
        clear: (y, x) bool, pixels that count; all finite ones when None. A spectrum of zeros has no direction and
            does not count.

    Returns:
        Degrees, 0 to 180.

    Raises:
        ValueError: no clear pixel to compare on, or shapes that differ.
    """
    seen = seen_pixels(estimate=estimate, truth=truth, clear=clear)
    x, y = estimate[:, seen].astype(np.float64), truth[:, seen].astype(np.float64)
    length_x, length_y = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    directed = (length_x > 0) & (length_y > 0)
    if not directed.any():
        raise ValueError("no clear pixel to compare on")
    x, y = x[:, directed] / length_x[directed], y[:, directed] / length_y[directed]
    # Kahan's formula: the arc cosine loses half of the digits for small angles.
    angle = 2 * np.arctan2(np.linalg.norm(x - y, axis=0), np.linalg.norm(x + y, axis=0))
    return float(np.degrees(angle).mean())
