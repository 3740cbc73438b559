from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geodiff.model.growth import grow
from geodiff.model.images import ImageDenoiser
from geodiff.model.patches import patch_series
from geodiff.schema import UsageError
from geodiff.testing.tiny_models import random_patch, tiny_denoiser


def restored(model: ImageDenoiser) -> torch.Tensor:
    series, _ = patch_series(random_patch((16, 16), dates=2))
    noise = torch.randn((1, 4, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model(noise, torch.tensor([0.5]), model.encode(series))


@pytest.mark.parametrize(
    "sizes", [{"decoder_width": 13}, {"decoder_blocks": 5}, {"decoder_width": 16, "decoder_blocks": 3}]
)
def test_a_grown_model_computes_what_the_small_one_did(sizes: dict[str, int]) -> None:
    small = tiny_denoiser()
    large = grow(small, sizes).eval()
    assert large.config == replace(small.config, **sizes)
    torch.testing.assert_close(restored(large), restored(small), rtol=1e-4, atol=1e-5)


def test_every_new_weight_can_learn() -> None:
    large = grow(tiny_denoiser(), {"decoder_width": 12, "decoder_blocks": 3}).train()
    series, _ = patch_series(random_patch((16, 16), dates=2))
    for _ in range(2):  # what sits behind a zero learns from the second step on
        result = large(torch.randn(1, 4, 64, 64), torch.tensor([0.5]), large.encode(series))
        result.square().mean().backward()
        with torch.no_grad():
            for weight in large.parameters():
                weight -= 0.1 * weight.grad if weight.grad is not None else 0.0
    assert large.widen.weight.grad is not None
    assert large.widen.weight.grad[:, 8:].abs().amax((0, 2, 3)).min() > 0
    assert large.decoder[2].first.weight.grad.abs().max() > 0


@pytest.mark.parametrize("sizes", [{"decoder_width": 4}, {"trunk_width": 32}])
def test_other_changes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="grows in decoder_width"):
        grow(tiny_denoiser(), sizes)


def test_nothing_to_grow_leaves_the_model() -> None:
    small = tiny_denoiser()
    assert grow(small, {"decoder_width": small.config.decoder_width}) is small
