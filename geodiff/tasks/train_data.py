"""What a training is fed: its settings, and endless batches of true patches from the training places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from geodiff.config import Settings
from geodiff.imagery.ground import Ground
from geodiff.model.images import Series
from geodiff.model.objectives import RIM_PX
from geodiff.model.simulate import SimulationConfig
from geodiff.schema import BANDS_10M, GeodiffError, UsageError

Batch = tuple[Tensor, Tensor, Tensor]
"""Truth (batch, times, band, y, x), days (batch, times) relative to the target, and pixel side in metres (batch,)."""


class Pair(NamedTuple):
    """A batch that was observed, not simulated.

    Attributes:
        series: what the network sees.
        target: (batch, band, scale*y, scale*x) reflectance, any finite value where it is not clear.
        clear: (batch, scale*y, scale*x) bool: where the target may be learned from.
    """

    series: Series
    target: Tensor
    clear: Tensor


Fed = Batch | Pair
"""What a training step is given: truth that goes through the sensor model, or a pair that needs none."""

TRIES_PER_PATCH = 500
REAL_STEP = 977
"""Joins the key of the draw that chooses between simulated and real batches."""


class TrainConfig(Settings):
    """Settings of a training; stored in the checkpoint's card.

    The learning rate and the share of noise follow ``steps`` or, where ``minutes`` of wall clock are given, whichever
    of the two is further along: a budget for machines whose speed is not known beforehand.

    The objective "denoise" trains a denoiser at all noise levels; "ensemble" then tunes it, as the student that samples
    in few ``passes``, by the score of its ensembles (``model.objectives``).

    Attributes (those that do not speak for themselves):
        bands: names, in the order of the training imagery.
        guide: bands that the model is shown at the high resolution (``model.guide``); they follow the others in the
            training imagery.
        scale: ratio of the resolutions.
        patch_px: side of a patch in low-resolution pixels, a multiple of the model's stride.
        dates: how many dates a series has, drawn anew for every batch.
        real_share: share of the steps that see real series, degraded, with their own clouds (``imagery.real_series``).
        real_patch_px: side of their patches, in low-resolution pixels: real series at hand are small.
        leave_out: names of places that are not trained on, because they cannot be read or not be registered.
        simulation: fields of ``model.simulate.SimulationConfig`` that differ from its defaults.
        precision: of the arithmetic, in Lightning's words: "32-true", or "bf16-mixed" for GPUs.
        compile: let torch compile the network; slow to start, then faster.
        workers: processes that prepare batches; none for those of memory. They do not change the batches.
        place_weights: how often places are drawn, by the beginning of their names.
        pixel_factors: by which of these the side of the low-resolution pixel is multiplied before the model is told of
            it, so that it restores at other resolutions than those it was trained on.
        sizes: fields of ``model.images.ImageConfig``.
    """

    bands: tuple[str, ...] = Field(BANDS_10M, min_length=1)
    guide: tuple[str, ...] = ()
    scale: int = Field(4, ge=2, le=8)
    steps: int = Field(6000, ge=1)
    minutes: float | None = Field(None, ge=0, allow_inf_nan=False)
    batch: int = Field(8, ge=1)
    patch_px: int = Field(32, ge=1)
    dates: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field((1, 2, 3, 4), min_length=1)
    real_share: float = Field(0.0, ge=0, le=1)
    real_patch_px: int = Field(16, ge=1)
    leave_out: tuple[str, ...] = ()
    simulation: dict[str, Any] = Field(default={})
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    warmup: int = Field(100, ge=1)
    objective: Literal["denoise", "ensemble"] = "denoise"
    passes: tuple[Annotated[int, Field(ge=2, le=64)], ...] = Field((2,), min_length=1)
    regression_share: float = Field(0.4, ge=0, le=1)
    pure_noise: float = Field(0.5, ge=0, le=1)
    lowest_level: float = Field(0.2, ge=0, lt=1)
    ema: float = Field(0.998, ge=0, lt=1)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    workers: int = Field(0, ge=0, le=64)
    validate_every: int = Field(250, ge=1)
    validate_batches: int = Field(8, ge=1)
    checkpoint_every: int = Field(100, ge=1)
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1)
    place_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default={"t33uuu": 0.25, "naip_nd": 2.0, "naip_va": 2.0, "worldcereal": 4.0, "terramesh": 1.0}
    )
    pixel_factors: tuple[Annotated[float, Field(gt=0, le=64)], ...] = Field((1.0, 1.0, 0.5, 2.0), min_length=1)
    sizes: dict[str, int] = Field(default={})

    @field_validator("bands", "guide")
    @classmethod
    def _bands_are_named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({band for band in value if value.count(band) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice: name each band once")
        return value

    @field_validator("patch_px", "real_patch_px")
    @classmethod
    def _patches_are_not_all_border(cls, side: int, told: ValidationInfo) -> int:
        scale = told.data.get("scale", 2 * RIM_PX)
        least = 2 * RIM_PX // scale + 1
        if side < least:
            raise ValueError(f"a patch at scale {scale} is all border below {least} pixels")
        return side

    @model_validator(mode="after")
    def _simulation_is_known(self) -> Self:
        self.sensor((0.3,) * len(self.bands))
        return self

    def sensor(self, mtf: tuple[float, ...]) -> SimulationConfig:
        """The sensor model for bands of this MTF."""
        known = {field.name for field in fields(SimulationConfig)} - {"scale", "mtf", "steps"}
        unknown = sorted(set(self.simulation) - known)
        if unknown:
            raise ValueError(f"simulation: unknown {unknown[0]!r}, known: {', '.join(sorted(known))}")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in self.simulation.items()}
        return SimulationConfig(scale=self.scale, mtf=mtf, **values)

    def weight_of(self, name: str) -> float:
        """How often a place is drawn, for its area."""
        return next((weight for key, weight in self.place_weights.items() if name.startswith(key)), 1.0)


class Maker(Protocol):
    """Makes the batch of any step, from the step alone."""

    def batch(self, step: int) -> Fed: ...


class PatchSource(IterableDataset[Batch]):
    """Endless batches of true patches (batch, times, band, y, x), days and pixel sizes; the target comes first."""

    def __init__(
        self, places: Sequence[Ground], config: TrainConfig, *, scale: int, start: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.side, self.start, self.seed = config, config.patch_px * scale, start, seed
        self.places = [place for place in places if min(place.size) >= self.side]
        if not self.places:
            raise GeodiffError(f"no training place is {self.side} pixels wide: lower patch_px, or give larger images")
        if not any(config.weight_of(place.name) > 0 for place in self.places):
            raise UsageError(f"place_weights: 0 for each of {len(self.places)} places: let one of them count")
        area = np.array([math.prod(place.size) for place in self.places], float)
        weight = np.array([config.weight_of(place.name) for place in self.places])
        self.share = area**0.75 * weight / (area**0.75 * weight).sum()

    def _patch(
        self, place: Ground, times: int, rng: np.random.Generator
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        count, (rows, cols) = len(place.days), place.size
        top, left = int(rng.integers(0, rows - self.side + 1)), int(rng.integers(0, cols - self.side + 1))
        target = int(rng.integers(count))
        real = count > 1 and rng.random() < 0.7
        others = np.delete(np.arange(count), target)
        chosen = [target, *(rng.choice(others, times - 1) if real else [target] * (times - 1))]
        needed = sorted(set(chosen))
        shown = place.read(needed, slice(top, top + self.side), slice(left, left + self.side))
        # A date with a gap here gives way to the target: the truth of a date is whole.
        whole = {date for date, image in zip(needed, shown, strict=True) if np.isfinite(image).all()}
        chosen = [date if date in whole else target for date in chosen]
        images = shown[[needed.index(date) for date in chosen]]
        days = (
            place.days[chosen] - place.days[target]
            if real
            else rng.choice([-1.0, 1.0], times) * rng.exponential(60.0, times)
        )
        days[0] = 0.0
        turn = int(rng.integers(4))
        images = np.rot90(images, turn, (-2, -1))
        return (images[..., ::-1] if rng.random() < 0.5 else images), np.nan_to_num(days)

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            GeodiffError: the places show too little ground.
        """
        rng = np.random.default_rng((self.seed, step))
        times = int(rng.choice(self.config.dates))
        images: list[np.ndarray[Any, Any]] = []
        days, pixel_m = [], []
        for _ in range(TRIES_PER_PATCH * self.config.batch):
            if len(images) == self.config.batch:
                break
            place = self.places[rng.choice(len(self.places), p=self.share)]
            patch, offset = self._patch(place, times, rng)
            if not (patch[0] > 0).mean() >= 0.99 or not np.isfinite(patch[0]).all():
                continue
            images.append(patch * rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, (patch.shape[-3], 1, 1)))
            days.append(offset)
            pixel_m.append(place.pixel_m * rng.choice(self.config.pixel_factors))
        if len(images) < self.config.batch:
            raise GeodiffError(
                f"after {TRIES_PER_PATCH * self.config.batch} tries {len(images)} of {self.config.batch} patches "
                "show ground: the training places are mostly zero or negative"
            )
        return (
            torch.from_numpy(np.stack(images).astype(np.float32)),
            torch.from_numpy(np.stack(days).astype(np.float32)),
            torch.tensor(pixel_m, dtype=torch.float32),
        )

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch(step) for step in range(self.start, 1 << 30))


@dataclass(frozen=True)
class Mixed:
    """Some steps of one maker, the others of another; which, the step alone decides."""

    common: Maker
    rare: Maker
    share: float
    seed: int = 0

    def batch(self, step: int) -> Fed:
        """The batch of a step."""
        rare = np.random.default_rng((self.seed, step, REAL_STEP)).random() < self.share
        return (self.rare if rare else self.common).batch(step)


class Stream(IterableDataset[Fed]):
    """The batches of a training from a step on, dealt out to processes (``rank`` of ``world``) and their workers."""

    def __init__(self, maker: Maker, *, start: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__()
        self.maker, self.start, self.rank, self.world = maker, start, rank, world

    def __iter__(self) -> Iterator[Fed]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.start + first, 1 << 30, stride):
            yield self.maker.batch(step * self.world + self.rank)


class Fixed(Dataset[Fed]):
    """Batches that are the same at every validation."""

    def __init__(self, batches: Sequence[Fed]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Fed:
        return self.batches[index]


DataKind = Literal["collection", "folder", "worldstrat", "synthetic"]

HELD_SEED = 777


@dataclass(frozen=True, eq=False)
class TrainData:
    """What a training is fed.

    Attributes:
        kind: how it was asked for.
        maker: of the batch of every step.
        held: batches to validate on, from ground that ``maker`` never shows.
        residual_scale: of a new model, per band (``model.images.ImageConfig``).
        notes: what the card says of the data: ``places`` and the witnesses of ``leakage.describe_ground``.
        messages: what was guessed or left out: for the user, and for the card.
    """

    kind: DataKind
    maker: Maker
    held: tuple[Fed, ...]
    residual_scale: tuple[float, ...]
    notes: Mapping[str, Any]
    messages: tuple[str, ...] = ()
