"""How much a new model has to restore, band by band: the unit in which it tells detail."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geodiff.imagery.ground import Ground
from geodiff.model.optics import see
from geodiff.model.raster import upsample
from geodiff.schema import GeodiffError
from geodiff.tasks.train_data import Pair, PatchSource, TrainConfig

LEAST = 1e-6
"""Reflectance: what is missed of images without any detail is below this."""


def residual_scales(places: Sequence[Ground], config: TrainConfig, mtf: tuple[float, ...]) -> tuple[float, ...]:
    """Root mean square per band of what bicubic upsampling misses, over the training places.

    Raises:
        GeodiffError: a band of which nothing is missed.
    """
    plain = config.model_copy(update={"dates": (1,), "batch": 32})
    truth, _, _ = PatchSource(places, plain, scale=config.scale, seed=12345).batch(0)
    image = truth[:, 0, : len(mtf)]
    low = see(image, config.scale, mtf)
    miss = image - upsample(low, config.scale)
    return _units(miss.square().mean((0, 2, 3)).sqrt(), config.bands)


def residual_scales_of(pairs: Sequence[Pair], bands: Sequence[str]) -> tuple[float, ...]:
    """Root mean square per band, over clear pixels, of what bicubic upsampling of the reference misses.

    Raises:
        GeodiffError: a band of which nothing is missed.
    """
    squares, count = torch.zeros(pairs[0].target.shape[1]), 0.0
    for pair in pairs:
        scale = pair.target.shape[-1] // pair.series.reference.shape[-1]
        base = upsample(pair.series.reference, scale)
        weight = pair.clear[:, None].to(base.dtype)
        squares += ((pair.target - base).square() * weight).sum((0, 2, 3))
        count += float(weight.sum())
    return _units((squares / max(count, 1.0)).sqrt(), bands)


def _units(missed: Tensor, bands: Sequence[str]) -> tuple[float, ...]:
    """Four decimals, and two digits of what is smaller."""
    found = [float(value) for value in missed]
    for band, value in zip(bands, found, strict=True):
        if not value > LEAST:
            raise GeodiffError(
                f"the training images show no detail in band {band}, which is constant: leave it out of bands, or give "
                "other images"
            )
    return tuple(round(value, max(4, 1 - math.floor(math.log10(value)))) for value in found)
