"""LPIPS, the learned perceptual distance, for whoever has its weights on disk.

From Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric" (CVPR), with the
features of AlexNet (Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"). No weights
come with this package and none are fetched: a safetensors file is read that holds the tensors of ``expected_tensors``,
under the names that they have where they are published (the classifier's ``features.*``, the metric's ``lin*``).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from geodiff.model.checkpoint import check_weights
from geodiff.schema import FloatArray, GeodiffError

WEIGHTS_VARIABLE = "GEODIFF_LPIPS_WEIGHTS"

WHITE = 0.3
"""Reflectance that is drawn as full brightness: the network knows photographs, on which land is not nearly black."""

SMALLEST_PX = 64
"""Below this the deepest features see little but the padding."""

_MEAN = (-0.030, -0.088, -0.188)
_DEVIATION = (0.458, 0.448, 0.450)
"""Of the photographs that the classifier was trained on, for channels from -1 to 1 (Zhang et al.)."""

_POOL_BEFORE = (1, 2)
"""Stages that begin with a pooling."""


class Lpips(nn.Module):
    """Distance of two images: squared differences of unit-length features of five stages, weighed and averaged.

    Parameters are named as where they are published, so that the file needs no translation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 64, 11, stride=4, padding=2),
                "3": nn.Conv2d(64, 192, 5, padding=2),
                "6": nn.Conv2d(192, 384, 3, padding=1),
                "8": nn.Conv2d(384, 256, 3, padding=1),
                "10": nn.Conv2d(256, 256, 3, padding=1),
            }
        )
        for index, width in enumerate((64, 192, 384, 256, 256)):
            self.register_parameter(f"lin{index}", nn.Parameter(torch.zeros(1, width, 1, 1)))
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).reshape(1, 3, 1, 1), persistent=False)

    def stages(self, image: Tensor) -> list[Tensor]:
        """Features after each of the five rectifiers, of (batch, 3, y, x) from -1 to 1."""
        x = (image - self.get_buffer("mean")) / self.get_buffer("deviation")
        found = []
        for index, layer in enumerate(self.features.values()):
            x = functional.max_pool2d(x, 3, stride=2) if index in _POOL_BEFORE else x
            x = functional.relu(layer(x))
            found.append(x)
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of (batch, 3, y, x) red, green, blue from -1 to 1 to another: (batch,), 0 for equal images."""
        total = x.new_zeros(len(x))
        for index, (a, b) in enumerate(zip(self.stages(x), self.stages(y), strict=True)):
            gap = (_unit(a) - _unit(b)).square()
            total = total + (gap * self.get_parameter(f"lin{index}")).sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def expected_tensors() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the file must hold."""
    with torch.device("meta"):
        return {_published(name): tuple(value.shape) for name, value in Lpips().state_dict().items()}


def _published(name: str) -> str:
    return f"{name}.model.1.weight" if name.startswith("lin") else name


def lpips_weights(path: Path | None = None) -> Path | None:
    """``path``, or else the file that the variable ``GEODIFF_LPIPS_WEIGHTS`` names; None where neither is given."""
    if path is not None:
        return path
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser() if named else None


def load_lpips(path: Path | None = None) -> Lpips:
    """Read the weights.

    Args:
        path: a .safetensors file; that of ``GEODIFF_LPIPS_WEIGHTS`` when None.

    Raises:
        GeodiffError: no file is named or there, it is no safetensors file, or its tensors are not the expected ones.
    """
    found = lpips_weights(path)
    if found is None:
        raise GeodiffError(f"no LPIPS weights: let {WEIGHTS_VARIABLE} name a safetensors file with {_listing()}")
    if not found.is_file():
        raise GeodiffError(f"no LPIPS weights at {found}: wanted a safetensors file with {_listing()}")
    check_weights(found)
    try:
        tensors = load_file(found)
    except SafetensorError as error:
        raise GeodiffError(f"LPIPS weights {found} cannot be read: {error}") from None
    wanted = expected_tensors()
    wrong = sorted(name for name, shape in wanted.items() if name not in tensors or tuple(tensors[name].shape) != shape)
    if wrong:
        raise GeodiffError(
            f"LPIPS weights {found} lack {', '.join(wrong)} (or they differ in shape): wanted {_listing()}"
        )
    if not all(torch.isfinite(tensors[name]).all() for name in wanted):
        raise GeodiffError(f"LPIPS weights {found} hold values that are not numbers: fetch them again")
    if any((tensors[name] < 0).any() for name in wanted if name.startswith("lin")):
        raise GeodiffError(f"LPIPS weights {found} weigh features negatively, which no distance does: fetch them again")
    model = Lpips()
    model.load_state_dict({name: tensors[_published(name)].float() for name in model.state_dict()})
    return model.eval().requires_grad_(False)


def _listing() -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in expected_tensors().items())


def perceptual_distance(
    model: Lpips,
    estimate: FloatArray,
    truth: FloatArray,
    *,
    rgb: tuple[int, int, int] = (2, 1, 0),
    white: float = WHITE,
) -> float:
    """LPIPS of two reflectance images, drawn in natural colour.

    Values from 0 to ``white`` are spread over the channel's range and cut beyond it. Figures of others are on their
    own stretch: compare within one report only.

    Args:
        model: of ``load_lpips``.
        estimate: (band, y, x) reflectance, finite.
        truth: (band, y, x) reflectance, finite.
        rgb: bands that are red, green and blue; of B02, B03, B04 first when left out.
        white: reflectance of full brightness.

    Raises:
        ValueError: shapes that differ, gaps, or sides below 64 pixels.
    """
    if estimate.shape != truth.shape or min(truth.shape[-2:]) < SMALLEST_PX:
        raise ValueError(f"{estimate.shape} and {truth.shape}: two images of one shape, {SMALLEST_PX} pixels at least")
    pair = np.stack([estimate[list(rgb)], truth[list(rgb)]])
    if not np.isfinite(pair).all():
        raise ValueError("an image has gaps: take a part of it without any")
    drawn = torch.from_numpy(np.clip(pair / white, 0, 1) * 2 - 1).to(next(model.parameters()))
    with torch.no_grad():
        return float(model(drawn[:1], drawn[1:]))
