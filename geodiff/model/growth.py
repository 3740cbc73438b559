"""A larger denoiser that begins where a smaller one ended (function-preserving growth, Chen et al. 2016, "Net2Net")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geodiff.model.images import ImageConfig, ImageDenoiser
from geodiff.schema import UsageError

GROWS = ("decoder_width", "decoder_blocks")


def grow(small: ImageDenoiser, sizes: Mapping[str, int]) -> ImageDenoiser:
    """A denoiser of other sizes that computes, to rounding, what ``small`` computes.

    New channels of the decoder listen to all others, but nothing that was there listens to them yet; new blocks pass on
    what they get. Training then uses the room.

    Args:
        small: trained; returned as it is where nothing grows.
        sizes: fields of ``ImageConfig`` and their new values.

    Raises:
        UsageError: a size other than those in ``GROWS`` changes, or one shrinks.
    """
    changed: dict[str, Any] = dict(sizes)
    old, new = small.config, replace(small.config, **changed)
    if new == old:
        return small
    for name in sizes:
        before, after = getattr(old, name), getattr(new, name)
        if before != after and (name not in GROWS or after < before):
            raise UsageError(f"{name} cannot go from {before} to {after}: a trained model grows in {', '.join(GROWS)}")
    large = ImageDenoiser(new)
    with torch.no_grad():
        for name, value in large.state_dict().items():
            if name in small.state_dict():
                _widen(name, value, small.state_dict()[name], old, new)
        for block in list(large.decoder)[old.decoder_blocks :]:
            assert isinstance(block.second, nn.Conv2d), "a residual block ends in a convolution"
            block.second.weight.zero_()
    return large


def _widen(name: str, value: Tensor, trained: Tensor, old: ImageConfig, new: ImageConfig) -> None:
    """Write a trained tensor into the larger one, in place; what is left keeps its fresh start."""
    if ".film." in name:
        # Gains and biases lie one after the other: each half grows by itself.
        for part, source in zip(value.chunk(2), trained.chunk(2), strict=True):
            part[: len(source)] = source
        return
    if (
        value.ndim > 1
        and name.startswith(("decoder.", "widen.", "guide.gain."))
        and new.decoder_width > old.decoder_width
    ):
        value[: len(trained), trained.shape[1] :] = 0
    value[tuple(slice(size) for size in trained.shape)] = trained
