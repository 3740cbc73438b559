"""Shift-and-add and iterative back-projection: what a series tells of its target without any training.

Irani & Peleg 1991, "Improving resolution by image registration", CVGIP: Graphical Models and Image Processing 53(3):
every date is simulated from the present estimate, and what it lacks against the observation is projected back. The
sensor is that of the house (``geodiff.sensor``), sampled where the shift of the date says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.dates import season_distance
from geodiff.model.images import Series
from geodiff.model.native import restore_by_step
from geodiff.model.patches import hide, nothing, one_thread, patch_series
from geodiff.model.raster import in_blocks, shift_image, upsample
from geodiff.model.reference import MEMORY_DAYS
from geodiff.schema import Patch, Restoration
from geodiff.sensor import band_mtf, gaussian_sigma

CUT_SIGMAS, BACK_CUT_SIGMAS = 3.0, 2.0
"""Where the kernels of the sensor and of back-projection end: the first must be true, the second only short."""

MATCH_PX = 3
"""Half the side, in low-resolution pixels, of the box over which a date is compared with the target: brought to its
level, and trusted by what difference remains."""

ALIKE = 0.003
"""Difference, in reflectance, at which another date counts half: about the noise of a date, and what it aliases."""

RING_PX, FLOOR = 2, 0.5
"""How near to well-known pixels, and below which share of their weight, a pixel is not to be filled by their tails."""


def kernel_matrix(size: int, scale: int, sigma: float, shift_px: float, cut: float) -> npt.NDArray[np.float32]:
    """Gaussian weights of the high-resolution pixels around each low-resolution one of a displaced date, on one axis.

    Args:
        size: number of low-resolution pixels.
        scale: high-resolution pixels in one of them.
        sigma: standard deviation in high-resolution pixels.
        shift_px: displacement of the content, down or right, in low-resolution pixels.
        cut: end of the kernel in standard deviations.

    Returns:
        (size, size * scale) float32. A row sums to 1, or to less where part of the kernel lies outside.
    """
    centre = (np.arange(size) + 0.5 - shift_px) * scale
    distance = (np.arange(size * scale)[None, :] + 0.5 - centre[:, None]) / sigma
    weight = np.where(np.abs(distance) <= cut, np.exp(-0.5 * distance**2), 0.0).astype(np.float32)
    whole = np.exp(-0.5 * (np.arange(-8 * scale, 8 * scale) + 0.5) ** 2 / sigma**2).sum()
    return weight / np.float32(whole)


@dataclass(frozen=True, eq=False)
class _Date:
    """One date as equations about the high-resolution image; the matrices are (band, low, high).

    Attributes:
        observed: (band, y, x) reflectance in the radiometry of the target.
        weight: (band, y, x) how much each equation counts; 0 where hidden, or where the footprint leaves the patch.
        down, right: blur and sampling along the axes, rows summing to 1.
        back_down, back_right: the kernels of back-projection along the axes.
    """

    observed: Tensor
    weight: Tensor
    down: Tensor
    right: Tensor
    back_down: Tensor
    back_right: Tensor

    def lacking(self, image: Tensor) -> Tensor:
        """Observation less simulation, (band, y, x)."""
        return self.observed - self.down @ image @ self.right.transpose(-1, -2)

    def back(self, values: Tensor) -> Tensor:
        """Spread (band, y, x) over the high resolution, by the weights of the date."""
        return self.back_down.transpose(-1, -2) @ (self.weight * values) @ self.back_right


def _axis(size: int, scale: int, sigmas: tuple[float, ...], shift_px: float, *, cut: float) -> tuple[Tensor, Tensor]:
    """Matrices (band, size, size * scale) with rows summing to 1, and (band, size): the share that is inside."""
    raw = torch.from_numpy(np.stack([kernel_matrix(size, scale, sigma, shift_px, cut) for sigma in sigmas]))
    total = raw.sum(-1)
    return raw / total.clamp_min(1e-6)[..., None], total


def _box(image: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over a box, (n, y, x): 0 where nothing counts."""
    side = 2 * MATCH_PX + 1
    total, share = (F.avg_pool2d(v[None], side, 1, MATCH_PX)[0] for v in (image * weight, weight))
    return total / share.clamp_min(1e-6)


def _matched(series: Series, index: int) -> Tensor:
    """A date (band, y, x) with the local mean of the reference, seen in the date's own frame.

    Season, sun and haze change the level of a field from date to date, its edges less: the level is the target's.
    """
    shift = series.shift_px[0, index : index + 1]
    target = shift_image(series.reference, -shift)[0]
    image, valid = series.reflectance[0, index], series.valid[0, index].to(target.dtype)[None]
    return image + _box(target - image, valid)


def _equations(series: Series, index: int, scale: int, bands: tuple[str, ...], target: int | None) -> _Date:
    """What the date ``index`` says of the high resolution."""
    rows, cols = series.valid.shape[-2:]
    blur = tuple(gaussian_sigma(scale, mtf) for mtf in band_mtf(bands))
    narrow = tuple(sigma / math.sqrt(2.0) for sigma in blur)
    shift = series.shift_px[0, index].tolist()
    (down, above), (right, beside) = (
        _axis(size, scale, blur, offset, cut=CUT_SIGMAS) for size, offset in zip((rows, cols), shift, strict=True)
    )
    back_down, back_right = (
        _axis(size, scale, narrow, offset, cut=BACK_CUT_SIGMAS)[0]
        for size, offset in zip((rows, cols), shift, strict=True)
    )
    inside = above[:, :, None] * beside[:, None, :] > 0.5
    weight = (inside & series.valid[0, index]).to(down.dtype)
    if index == target:
        return _Date(series.reflectance[0, index], weight, down, right, back_down, back_right)
    found = _Date(_matched(series, index), weight, down, right, back_down, back_right)
    trust = torch.exp(-season_distance(series.days[0, index]) / MEMORY_DAYS).clamp_min(1e-6)
    differing = _box(found.lacking(upsample(series.reference, scale)[0]).square(), weight).mean(0)
    return replace(found, weight=weight * trust * ALIKE**2 / (ALIKE**2 + differing))


def _dates(series: Series, scale: int, bands: tuple[str, ...], target: int | None) -> list[_Date]:
    """The equations of every date that shows something, in an order that does not depend on that of the series."""
    days, shifts = series.days[0].tolist(), series.shift_px[0].tolist()
    order = sorted(range(len(days)), key=lambda index: (days[index], *shifts[index]))
    seen = [index for index in order if series.valid[0, index].any()]
    return [_equations(series, index, scale, bands, target) for index in seen]


def reach_px(scale: int, bands: tuple[str, ...], iterations: int) -> float:
    """How far, in low-resolution pixels, a pixel of the result looks, beyond the largest shift of a date.

    Beside gaps of the target it is further by what the reference looks (``reference.REACH_PX``), with fading weight.
    """
    sigma = max(gaussian_sigma(scale, mtf) for mtf in band_mtf(bands)) / scale
    back, seen = BACK_CUT_SIGMAS * sigma / math.sqrt(2.0), CUT_SIGMAS * sigma
    # The weights compare dates over a box with the upsampled reference (3 pixels) as the sensor sees it.
    weights = MATCH_PX + max(seen + 3.0, MATCH_PX + 1.0)
    return (iterations - 1) * (back + seen) + max(back, RING_PX + 1.0) + weights


@dataclass(frozen=True)
class BackProjectionResolver:
    """Baseline: all dates shifted and added on the fine lattice, then iterative back-projection.

    Other dates take the local level of the target and count by exp(-d / 30), d their season distance in days, and by
    how little they still differ from it nearby: on real series most of what differs is the ground, and dates that
    count alike cost more than they add. The number of iterations is fixed, so that a pixel depends on a bounded
    neighbourhood (``reach_px``), within the usual halo of a tile: no seams. Bands of 20 m look as many of their own
    pixels far, of which the halo holds half: what lies beyond weighs less than float32 tells apart.
    Memory grows with the sides of a patch and the number of dates as the observations do: a date is two matrices per
    band and axis.

    Attributes:
        bands: in the order of the patch.
        scale: integer ratio of the resolutions.
        iterations: of back-projection.
        step: share of what is lacking that one iteration gives back.
        name: for reports.
    """

    deterministic: ClassVar[bool] = True
    """It has no members."""

    bands: tuple[str, ...]
    scale: int = 4
    iterations: int = 3
    step: float = 1.5
    name: str = "shift-and-add"

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``; there are no members."""
        return restore_by_step(patch, self.bands, self.scale, self._restore)

    def _restore(self, patch: Patch, bands: tuple[str, ...], scale: int) -> Restoration:
        """Bands of one sampling, from a patch of their own pixels."""
        with one_thread(), torch.inference_mode():
            series, known = patch_series(patch)
            if not known.any():
                return nothing(patch, scale, 0)
            mean = self._estimate(series, bands, scale, patch.target_index).numpy()
            return hide(Restoration(mean=mean, members=mean[None][:0]), known, scale)

    def _estimate(self, series: Series, bands: tuple[str, ...], scale: int, target: int | None) -> Tensor:
        """(band, scale*y, scale*x)."""
        image = upsample(series.reference, scale)[0]
        dates = _dates(series, scale, bands, target)
        if not dates:
            return image
        total = torch.stack([date.back(torch.ones_like(date.observed)) for date in dates]).sum(0)
        # Beside a hole of the target its equations reach into it with the tails of their kernels alone, and would be
        # stretched over it: there the upsampled reference stays.
        strongest = torch.stack([date.weight for date in dates]).amax(0)
        near = F.max_pool2d(strongest[None], 2 * RING_PX + 1, 1, RING_PX)[0]
        floor = FLOOR * in_blocks(near, scale) / scale**2
        share = torch.maximum(total, floor).clamp_min(1e-12)
        before = image
        # Nesterov's extrapolation: fewer iterations for what is aliased, and so a smaller neighbourhood.
        for k in range(self.iterations):
            ahead = image + k / (k + 3) * (image - before)
            gain = sum((date.back(date.lacking(ahead)) for date in dates), torch.zeros_like(image)) / share
            before, image = image, ahead + self.step * gain
        return image
