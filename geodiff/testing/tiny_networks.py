"""Small untrained peers, for tests of everything but the quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from geodiff.model.highresnet import HighResNet
from geodiff.model.networks import Network, make_network, save_network
from geodiff.schema import BANDS_10M

TINY: dict[str, dict[str, Any]] = {
    "highresnet": {"width": 8, "encoder_blocks": 1},
    "srdiff": {"width": 8, "encoder_blocks": 1, "unet_width": 8, "steps": 4},
}
"""Sizes of the smallest network of each kind that has every part."""


def tiny_network(name: str, *, seed: int = 0, residual_scale: float = 0.02, **sizes: Any) -> Network:
    """A network of a kind with random weights, in evaluation mode.

    Args:
        name: of the kind.
        seed: of the weights.
        residual_scale: of every band.
        sizes: fields of its configuration that differ from ``TINY``.
    """
    values = {"bands": BANDS_10M, "scale": 4, "residual_scale": (residual_scale,) * 4, **TINY[name], **sizes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_network(name, values, where="tiny network")
        # The last layer starts near zero; here it must speak, so that what reaches it is seen.
        last = model.last if isinstance(model, HighResNet) else model.unet.last
        with torch.no_grad():
            last.weight.mul_(10.0)
    return model.eval()


def tiny_network_weights(folder: Path, name: str, *, card: dict[str, Any] | None = None) -> Path:
    """A tiny network stored as a checkpoint; path of the weights."""
    path = folder / f"{name}.safetensors"
    save_network(tiny_network(name), path, card=card or {})
    return path
