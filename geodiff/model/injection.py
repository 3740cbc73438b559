"""Sharpening of the 20 m bands by the detail of the 10 m bands: what ten bands tell of each other without training.

Multiresolution analysis with filters matched to the sensor (Aiazzi et al. 2006, "MTF-tailored multiscale fusion of
high-resolution MS and Pan imagery", PE&RS 72(5)): a coarse band takes from finer ones the detail between their
samplings, times a gain. The gains are those of a linear regression of the coarse band on all finer ones seen at its
sampling, over a window, so that the context decides how much is taken (Vivone et al. 2015, "A critical comparison among
pansharpening algorithms", IEEE TGRS 53(5), section III-B; several sharp bands in the place of one: Selva et al. 2015,
"Hyper-sharpening: a first approach on SIM-GA data", IEEE JSTARS 8(6)).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.model.baselines import BicubicResolver
from geodiff.model.native import Part, by_step, coarse_part, cut, fine_part, join
from geodiff.model.optics import see
from geodiff.model.patches import hide, nothing, one_thread, patch_series
from geodiff.model.raster import upsample
from geodiff.schema import FloatArray, Patch, Restoration
from geodiff.sensor import band_mtf

WINDOW_PX = 5
"""Side, in coarse pixels, of the window of a regression."""

RIDGE = 0.001
"""Standard deviation in reflectance that is added to the fine bands of a regression: where they vary less than this,
about their noise, little is taken from them. On training places, degraded by 8, sides of 3 to 9 and ridges of 0.0005 to
0.002 lie within 0.15 dB of each other."""


def local_gains(target: Tensor, guides: Tensor, known: Tensor) -> Tensor:
    """Coefficients of the ridge regression of bands on others, over the window around each pixel.

    Args:
        target: (band, y, x).
        guides: (band, guide, y, x): what each band is regressed on.
        known: (y, x) bool: pixels that count; where none does, the coefficients are 0.

    Returns:
        (band, guide, y, x), in the dtype of ``target``.
    """
    count = guides.shape[1]
    values = torch.cat([guides, target[:, None]], 1).double()
    weight = known.double()
    total = _window_sum(weight[None]).clamp_min(1e-9)
    mean = _window_sum(values.flatten(0, 1) * weight).view_as(values) / total
    pairs = values[:, :count, None] * values[:, None]
    square = _window_sum(pairs.flatten(0, 2) * weight).view_as(pairs) / total
    spread = (square - mean[:, :count, None] * mean[:, None]).permute(0, 3, 4, 1, 2)
    ridge = RIDGE**2 * torch.eye(count, dtype=torch.float64)
    found: Tensor = torch.linalg.solve(spread[..., :count] + ridge, spread[..., count:])
    return (found[..., 0].permute(0, 3, 1, 2) * (total > 0.5)).to(target)


def _window_sum(layers: Tensor) -> Tensor:
    """Sums over the window, (n, y, x); beyond the border nothing is added."""
    side = WINDOW_PX
    summed: Tensor = F.avg_pool2d(layers[None], side, 1, side // 2, divisor_override=1)[0]
    return summed


@dataclass(frozen=True)
class InjectionResolver:
    """Baseline: bands of 20 m upsampled, with the local detail of the 10 m bands; those of 10 m as bicubic gives them.

    A pixel depends on a bounded neighbourhood, within the usual halo of a tile: no seams. Without bands of 10 m, or
    with no others, this is ``BicubicResolver``.

    Attributes:
        bands: in the order of the patch.
        scale: integer ratio of the resolutions.
        name: for reports.
    """

    deterministic: ClassVar[bool] = True
    """It has no members."""

    bands: tuple[str, ...]
    scale: int = 4
    name: str = "injection"

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``; there are no members."""
        steps = by_step(self.bands)
        if 1 not in steps or len(steps) == 1:
            return BicubicResolver(self.bands, self.scale).restore(patch, members=members, seed=seed)
        fine = BicubicResolver(self._names(steps[1]), self.scale)
        parts: list[Part] = [(steps[1], fine.restore(fine_part(patch, steps[1]), members=members, seed=seed))]
        parts += [(index, self._sharpened(patch, index, step)) for step, index in steps.items() if step > 1]
        return join(parts)

    def _names(self, index: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self.bands[i] for i in index)

    def _sharpened(self, patch: Patch, index: tuple[int, ...], step: int) -> Restoration:
        """The bands ``index`` of one coarse sampling, over the patch."""
        coarse, rows, cols = coarse_part(patch, index, step)
        fine = _same_pixels(fine_part(patch, by_step(self.bands)[1]), coarse, (rows, cols), step)
        with one_thread(), torch.inference_mode():
            series, known = patch_series(coarse)
            if not known.any():
                found = nothing(coarse, self.scale * step, 0)
            else:
                guide = patch_series(fine)[0].reference[0]
                mean = self._injected(series.reference[0], guide, known, self._names(index), step)
                found = hide(Restoration(mean, mean[None][:0]), known, self.scale * step)
        return cut(found, rows, cols, self.scale)

    def _injected(self, low: Tensor, guide: Tensor, known: Tensor, names: tuple[str, ...], step: int) -> FloatArray:
        """(band, y, x) and (guide, step*y, step*x) -> (band, scale*step*y, scale*step*x)."""
        factor, count = self.scale * step, len(guide)
        mtf = [own for own in band_mtf(names) for _ in range(count)]
        seen = see(guide.repeat(len(names), 1, 1), step, mtf).unflatten(0, (len(names), count))
        gains = F.interpolate(local_gains(low, seen, known), scale_factor=factor, mode="bilinear", align_corners=False)
        mean = upsample(low[None], factor)[0]
        sharp = upsample(guide[None], self.scale)[0]
        for band, gain in enumerate(gains):
            mean[band] += (gain * (sharp - upsample(seen[band][None], factor)[0])).sum(0)
        result: FloatArray = mean.numpy()
        return result


def _same_pixels(patch: Patch, coarse: Patch, own: tuple[slice, slice], step: int) -> Patch:
    """Grow a fine patch to whole coarse pixels, clear where those are: both are filled from the same dates."""
    height, width = (step * size for size in coarse.valid.shape[1:])
    around = ((own[0].start, height - own[0].stop), (own[1].start, width - own[1].stop))
    known = np.where(patch.valid[:, None], patch.reflectance, np.float32(0))
    return replace(
        patch,
        reflectance=np.pad(known, ((0, 0), (0, 0), *around), mode="edge"),
        valid=coarse.valid.repeat(step, 1).repeat(step, 2),
        origin_px=(patch.origin_px[0] - own[0].start, patch.origin_px[1] - own[1].start),
    )
