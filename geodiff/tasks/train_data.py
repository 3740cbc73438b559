"""What a training is fed: its settings, and endless batches of true patches from the training places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from geodiff.config import Settings
from geodiff.imagery.places import Place
from geodiff.model.optics import see
from geodiff.schema import GeodiffError

Batch = tuple[Tensor, Tensor, Tensor]
"""Truth (batch, times, band, y, x), days (batch, times) relative to the target, and pixel side in metres (batch,)."""


TRIES_PER_PATCH = 500


class TrainConfig(Settings):
    """Settings of a training; stored in the checkpoint's card.

    The learning rate and the share of noise follow ``steps`` or, where ``minutes`` of wall clock are given, whichever
    of the two is further along: a budget for machines whose speed is not known beforehand.

    The objective "denoise" trains a denoiser at all noise levels; "ensemble" then tunes it, as the student that samples
    in few ``passes``, by the score of its ensembles (``model.objectives``).
    """

    steps: int = 6000
    minutes: float | None = None
    batch: int = 8
    patch_px: int = 32
    dates: tuple[int, ...] = (1, 2, 3, 4)
    learning_rate: float = 1e-3
    warmup: int = 100
    objective: Literal["denoise", "ensemble"] = "denoise"
    passes: tuple[int, ...] = (2,)
    regression_share: float = 0.4
    pure_noise: float = 0.5
    lowest_level: float = 0.2
    ema: float = 0.998
    validate_every: int = 250
    checkpoint_every: int = 100
    seed: int = 0
    threads: int = 2
    place_weights: dict[str, float] = Field(
        default={"t33uuu": 0.25, "naip_nd": 2.0, "naip_va": 2.0, "worldcereal": 4.0, "terramesh": 1.0}
    )
    sizes: dict[str, int] = Field(default={})

    def weight_of(self, name: str) -> float:
        """How often a place is drawn, for its area."""
        return next((weight for key, weight in self.place_weights.items() if name.startswith(key)), 1.0)


class PatchSource(IterableDataset[Batch]):
    """Endless batches of true patches (batch, times, band, y, x), days and pixel sizes; the target comes first."""

    def __init__(self, places: list[Place], config: TrainConfig, *, scale: int, start: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.config, self.side, self.start, self.seed = config, config.patch_px * scale, start, seed
        self.places = [place for place in places if min(place.size) >= self.side]
        if not self.places:
            raise GeodiffError(f"no training place is {self.side} pixels wide: lower patch_px, or give larger images")
        area = np.array([math.prod(place.images.shape[-2:]) for place in self.places], float)
        weight = np.array([config.weight_of(place.name) for place in self.places])
        self.share = area**0.75 * weight / (area**0.75 * weight).sum()

    def _patch(
        self, place: Place, times: int, rng: np.random.Generator
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        count, _, rows, cols = place.images.shape
        top, left = rng.integers(0, rows - self.side + 1), rng.integers(0, cols - self.side + 1)
        window = (slice(top, top + self.side), slice(left, left + self.side))
        target = int(rng.integers(count))
        real = count > 1 and rng.random() < 0.7
        chosen = [target, *(rng.choice(count, times - 1) if real else [target] * (times - 1))]
        images = place.images[(chosen, slice(None), *window)]
        days = (
            place.days[chosen] - place.days[target]
            if real
            else rng.choice([-1.0, 1.0], times) * rng.exponential(60.0, times)
        )
        days[0] = 0.0
        turn = int(rng.integers(4))
        images = np.rot90(images, turn, (-2, -1))
        return (images[..., ::-1] if rng.random() < 0.5 else images), np.nan_to_num(days)

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, 1 << 30):
            rng = np.random.default_rng((self.seed, step))
            times = int(rng.choice(self.config.dates))
            images: list[np.ndarray[Any, Any]] = []
            days, pixel_m = [], []
            for _ in range(TRIES_PER_PATCH * self.config.batch):
                if len(images) == self.config.batch:
                    break
                place = self.places[rng.choice(len(self.places), p=self.share)]
                patch, offset = self._patch(place, times, rng)
                if (patch[0] <= 0).mean() > 0.01:
                    continue
                images.append(patch * rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, (patch.shape[-3], 1, 1)))
                days.append(offset)
                pixel_m.append(place.pixel_m * rng.choice([1.0, 1.0, 0.5, 2.0]))
            if len(images) < self.config.batch:
                raise GeodiffError(
                    f"after {TRIES_PER_PATCH * self.config.batch} tries {len(images)} of {self.config.batch} patches "
                    "show ground: the training places are mostly zero or negative"
                )
            yield (
                torch.from_numpy(np.stack(images).astype(np.float32)),
                torch.from_numpy(np.stack(days).astype(np.float32)),
                torch.tensor(pixel_m, dtype=torch.float32),
            )


class Fixed(Dataset[Batch]):
    """Batches that are the same at every validation."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def residual_scales(places: list[Place], scale: int, mtf: tuple[float, ...]) -> tuple[float, ...]:
    """Root mean square per band of what bicubic upsampling misses, over the training places."""
    source = PatchSource(places, TrainConfig(dates=(1,), batch=32), scale=scale, seed=12345)
    truth, _, _ = next(iter(source))
    image = truth[:, 0]
    low = see(image, scale, mtf)
    miss = image - torch.nn.functional.interpolate(low, scale_factor=scale, mode="bicubic", align_corners=False)
    return tuple(round(float(v), 4) for v in miss.square().mean((0, 2, 3)).sqrt())
