"""The classical baselines as resolvers: what a model must beat, on the same patches.

A band of 20 m is restored from its own pixels (``geodiff.model.native``) by the same method, at twice the factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geodiff.model.images import Series
from geodiff.model.native import restore_by_step
from geodiff.model.patches import fill_nearest, hide, nothing, one_thread, patch_series
from geodiff.model.raster import shift_image, upsample
from geodiff.schema import FloatArray, Patch, Restoration


def _baseline(
    patch: Patch, bands: tuple[str, ...], scale: int, picture: Callable[[Series, Tensor], Tensor]
) -> Restoration:
    """Upsample what ``picture`` makes of a series and of where it is known: (band, y, x); no members."""
    return restore_by_step(patch, bands, scale, lambda part, _, factor: _upsampled(part, factor, picture))


def _upsampled(patch: Patch, scale: int, picture: Callable[[Series, Tensor], Tensor]) -> Restoration:
    with one_thread(), torch.inference_mode():
        series, known = patch_series(patch)
        if not known.any():
            return nothing(patch, scale, 0)
        mean: FloatArray = upsample(picture(series, known)[None], scale)[0].numpy()
        return hide(Restoration(mean=mean, members=mean[None][:0]), known, scale)


def _median(series: Series, known: Tensor) -> Tensor:
    valid = series.valid[0][:, None].float()
    moved = shift_image(torch.cat([series.reflectance[0] * valid, valid], 1), series.shift_px[0])
    clear = moved[:, -1:] > 0.5
    stack = torch.where(clear, moved[:, :-1] / moved[:, -1:].clamp_min(0.5), float("nan"))
    return fill_nearest(stack.nanmedian(0).values.nan_to_num(), known)


@dataclass(frozen=True)
class BicubicResolver:
    """Baseline: the target date upsampled, its gaps filled from the nearest clear dates in its frame and light."""

    deterministic: ClassVar[bool] = True
    """It has no members."""

    bands: tuple[str, ...]
    scale: int = 4
    name: str = "bicubic"

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        return _baseline(patch, self.bands, self.scale, lambda series, known: series.reference[0])


@dataclass(frozen=True)
class MedianResolver:
    """Baseline: per pixel the median of all clear dates, moved into the frame of the target, upsampled."""

    deterministic: ClassVar[bool] = True
    """It has no members."""

    bands: tuple[str, ...]
    scale: int = 4
    name: str = "median"

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        return _baseline(patch, self.bands, self.scale, _median)
