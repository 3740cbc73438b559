"""The guide of an image denoiser: bands of finer pixels that are known where coarser ones are to be restored.

The 20 m bands of Sentinel-2 show the ground that the 10 m bands show: their edges are mostly the same. So the joint
distribution is taken apart by the chain rule, p(fine) p(coarse | fine): the fine bands are restored first, and the
coarse ones given them. What a guide adds is, to first order, a local multiple of its own detail, as in
multiresolution pansharpening (Vivone et al. 2015, "A critical comparison among pansharpening algorithms", IEEE TGRS
53(5), section III-B); the network predicts the multiples, and what is not linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodiff.model.raster import upsample

DETAIL_GAIN = 4.0
"""Brings the detail of a guide, which is a fraction of the spread of reflectance, to about one."""

SOFT_SHARE = 0.5
"""Share of the training guides that are less sharp than the truth, as means of a model are; the others are like its
samples."""


def soften(guide: Tensor, scale: int, generator: torch.Generator) -> Tensor:
    """Make some guides of a batch as vague as the mean of a model that saw them ``scale`` times coarser.

    Args:
        guide: (batch, band, y, x), the truth.
        scale: how many times finer the model of the guide restores.
        generator: of the choice, and of how much of the detail is left, uniformly between none and all.
    """
    batch = len(guide)
    vague = torch.rand((batch, 1, 1, 1), generator=generator) < SOFT_SHARE
    left = torch.where(vague, torch.rand((batch, 1, 1, 1), generator=generator), torch.ones(batch, 1, 1, 1))
    coarse = _coarse(guide, scale)
    return coarse + left.to(guide) * (guide - coarse)


def _coarse(image: Tensor, scale: int) -> Tensor:
    """The means of blocks, upsampled again."""
    return upsample(F.avg_pool2d(image, scale), scale)


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """What a pass needs of a guide: features (batch, width, y, x), detail (batch, guide band, scale*y, scale*x)."""

    features: Tensor
    detail: Tensor


class GuideAdapter(nn.Module):
    """Features of a guide on the low-resolution lattice, and its detail brought to the bands that are restored.

    Args:
        guides: bands of the guide.
        bands: that are restored.
        scale: ratio of the resolutions.
        width: of the features.
        decoder_width, detail_width: of the decoder, before and after its pixels are shuffled.
    """

    def __init__(self, guides: int, bands: int, scale: int, width: int, decoder_width: int, detail_width: int) -> None:
        super().__init__()
        self.guides, self.bands, self.scale = guides, bands, scale
        self.squeeze = nn.Conv2d(guides * scale**2, width, 3, padding=1)
        self.gain = nn.Conv2d(decoder_width, bands * guides, 1)
        self.refine = nn.Conv2d(detail_width + guides, detail_width, 3, padding=1)

    def forward(self, guide: Tensor) -> Guide:
        """(batch, guide band, scale*y, scale*x), of about zero mean and unit variance -> what passes need of it."""
        features = self.squeeze(F.pixel_unshuffle(guide, self.scale))
        return Guide(features, DETAIL_GAIN * (guide - _coarse(guide, self.scale)))

    def blend(self, decoded: Tensor, shuffled: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        """Bring the detail of the guide to the bands.

        Args:
            decoded: (batch, decoder_width, y, x).
            shuffled: (batch, detail_width, scale*y, scale*x).
            detail: of ``Guide``.

        Returns:
            The features with the guide in them, like ``shuffled``, and the injected detail
            (batch, band, scale*y, scale*x).
        """
        gain = F.interpolate(self.gain(decoded), scale_factor=self.scale, mode="bilinear", align_corners=False)
        injected = (gain.unflatten(1, (self.bands, self.guides)) * detail[:, None]).sum(2)
        return shuffled + F.silu(self.refine(torch.cat([shuffled, detail], 1))), injected
