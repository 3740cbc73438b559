"""What the network makes of a patch, and what calibration makes of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodiff.model.optics import enforce
from geodiff.model.raster import in_blocks, upsample
from geodiff.model.reference import unlit

LIT, UNLIT = 1, 2
"""Classes of the sky beside 0, where the target date was observed: hidden ground filled with dates whose light against
the target is known, from what it shows elsewhere, and with dates whose light is not."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What the network makes of a patch, before all that calibration decides.

    Attributes:
        mean: (1, band, scale*y, scale*x) reflectance.
        deviation: (member, band, scale*y, scale*x) of raw members from the mean.
        upsampled: (1, band, scale*y, scale*x) reference.
        reference: (band, y, x) low resolution.
        observed: (y, x) bool: the reference is the target date itself.
        known: (y, x) bool: some date shows the ground.
        mirrored: of the patch.
        chance: (member, band) standard normal numbers, which decide the brightness of hidden dates.
        lit: (y, x) bool: a date shows the ground whose light against the target is known.
    """

    mean: Tensor
    deviation: Tensor
    upsampled: Tensor
    reference: Tensor
    observed: Tensor
    known: Tensor
    mirrored: tuple[int, int, int, int]
    chance: Tensor
    lit: Tensor

    @property
    def scale(self) -> int:
        return self.mean.shape[-1] // self.observed.shape[-1]

    @property
    def seen(self) -> Tensor:
        """(scale*y, scale*x) bool: of a pixel that was observed."""
        return in_blocks(self.observed, self.scale)

    @property
    def sky(self) -> Tensor:
        """(scale*y, scale*x) int64: 0 where the target date was observed, else ``LIT`` or ``UNLIT``."""
        return torch.where(self.seen, 0, torch.where(self.unlit() < 0.5, LIT, UNLIT))

    @property
    def is_lit(self) -> bool:
        """The light of the target is known everywhere, so that no brightness is drawn."""
        return bool((self.observed | self.lit).all())

    def unlit(self) -> Tensor:
        """(scale*y, scale*x) share of the target's light that is not known: 0 where it is seen, rising beside that."""
        if self.is_lit:
            return torch.zeros_like(self.mean[0, 0])
        share = upsample(unlit(self.observed[None])[None].to(self.mean), self.scale)[0, 0].clamp(0, 1)
        return share * ~in_blocks(self.observed | self.lit, self.scale)

    def enforced(self, image: Tensor, mtf: Sequence[float]) -> Tensor:
        """The constraint on the scene's own pixels: at its border the sensor's blur is cut, as when it is degraded."""
        top, bottom, left, right = self.mirrored
        rows, cols = slice(top, self.observed.shape[0] - bottom), slice(left, self.observed.shape[1] - right)
        own = (..., times(rows, self.scale), times(cols, self.scale))
        image = image.clone()
        image[own] = enforce(image[own], self.reference[:, rows, cols], self.observed[rows, cols], self.scale, mtf)
        return image


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Mean and members as calibrated, and what intervals are made of.

    Attributes:
        mean: (band, scale*y, scale*x).
        members: (member, band, scale*y, scale*x).
        scale: (band, scale*y, scale*x) what errors are measured in (``conformal.deviation_scale``).
    """

    mean: Tensor
    members: Tensor
    scale: Tensor


def times(part: slice, scale: int) -> slice:
    """A slice of the low resolution in pixels of the high."""
    return slice(part.start * scale, part.stop * scale)
