"""Training of the image denoiser on series of any kind, through Lightning: CPU or GPUs, resumable, no pickles."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geodiff.metrics.fidelity import cpsnr
from geodiff.model.checkpoint import MAX_SIZE, load_checkpoint, read_card, save_checkpoint
from geodiff.model.growth import grow
from geodiff.model.images import ImageConfig, ImageDenoiser, Series
from geodiff.model.noise import mix
from geodiff.model.objectives import denoising_loss, ensemble_loss
from geodiff.model.simulate import simulate
from geodiff.schema import GeodiffError, UsageError
from geodiff.sensor import band_mtf
from geodiff.tasks.card_ground import STARTED_FROM, all_ground
from geodiff.tasks.train_data import Fed, Fixed, Pair, Stream, TrainConfig, TrainData
from geodiff.tasks.train_loop import UNBOUND, AveragedTraining, Export, first_step, fit

CROP_PX = 12
"""Border of an image that a validation leaves out."""


class Training(AveragedTraining):
    """The loss, the averaged weights, and the validation on ground that training never saw."""

    def __init__(self, model: ImageDenoiser, config: TrainConfig, data: TrainData, start: str | None = None) -> None:
        net = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(net, config, settings_of(model.config, config, data, start))
        self.config, self.data = config, data
        self.simulation = config.sensor(model.config.mtf)

    def train_dataloader(self) -> DataLoader[Fed]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        stream = Stream(self.data.maker, start=self.first_step, rank=rank, world=world)
        workers = self.config.workers
        return DataLoader(stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    def val_dataloader(self) -> DataLoader[Fed]:
        return DataLoader(Fixed(self.data.held), batch_size=None)

    def transfer_batch_to_device(self, batch: Fed, device: torch.device, dataloader_idx: int) -> Fed:
        """Leave the batch where it is: the sensor is simulated on the CPU, with the same numbers on every machine."""
        return batch

    def _pair(self, batch: Fed, generator: torch.Generator) -> tuple[Series, Tensor, Tensor | None]:
        """Series, target and where it is clear (None: everywhere), on the device of the model."""
        if isinstance(batch, Pair):
            return batch.series.to(self.device), batch.target.to(self.device), batch.clear.to(self.device)
        with torch.autocast("cpu", enabled=False):
            series, target, _ = simulate(*batch, self.simulation, generator)
        return series.to(self.device), target.to(self.device), None

    def training_step(self, batch: Fed, batch_index: int) -> Tensor:
        generator = self.numbers(self.config.seed)
        series, target, clear = self._pair(batch, generator)
        loss = self._loss(series, target, clear, generator)
        return self.told(loss)

    def _loss(self, series: Series, target: Tensor, clear: Tensor | None, generator: torch.Generator) -> Tensor:
        if self.config.objective == "ensemble":
            passes = self.config.passes[int(torch.randint(len(self.config.passes), (), generator=generator))]
            return ensemble_loss(self.net, series, target, passes=passes, members=2, generator=generator, clear=clear)
        pure = 1.0 if self.progress < self.config.regression_share else self.config.pure_noise
        lowest = self.config.lowest_level
        return denoising_loss(self.net, series, target, pure=pure, lowest=lowest, generator=generator, clear=clear)

    def validation_step(self, batch: Fed, batch_index: int) -> None:
        generator = torch.Generator().manual_seed(batch_index)
        series, target, clear = self._pair(batch, generator)
        context = self.ema.encode(series)
        noise = torch.randn(target.shape, generator=generator).to(target)
        ones = torch.ones(len(target), device=self.device)
        mean = context.upsampled + self.ema.residual_scale * self.ema(noise, ones, context)
        shown = torch.ones_like(target[:, 0], dtype=torch.bool) if clear is None else clear
        gains = [gain_db(*each) for each in zip(mean, context.upsampled, target, shown, strict=True)]
        level = torch.full_like(ones, 0.5)
        residual = (target - context.upsampled) / self.ema.residual_scale
        half = self.ema(mix(residual, noise, level[:, None, None, None]), level, context) - residual
        seen = series.observed.flatten(1).all(1).tolist()
        for name, kind in (("gain_clear_db", True), ("gain_cloudy_db", False)):
            known = [gain for gain, whole in zip(gains, seen, strict=True) if whole is kind and gain is not None]
            self.watched.add(name, sum(known), len(known))
        error = half.square()[shown[:, None].expand_as(half)].mean()
        self.watched.add("half_level_mse", float(error) * len(target), len(target))


def gain_db(image: Tensor, base: Tensor, truth: Tensor, clear: Tensor) -> float | None:
    """Decibels of cPSNR of an image over ``base``; None where too little is clear to compare.

    Minus infinity for an image that holds values that are no numbers.
    """
    crop = min(CROP_PX, truth.shape[-1] // 4)
    images = [each.float().cpu().numpy() for each in (image, base, truth)]
    shown = clear.cpu().numpy()
    if not shown[crop:-crop, crop:-crop].mean() > 0.1:
        return None
    if not np.isfinite(images[0]).all():
        return float("-inf")
    return cpsnr(images[0], images[2], shown, crop=crop) - cpsnr(images[1], images[2], shown, crop=crop)


def settings_of(model: ImageConfig, config: TrainConfig, data: TrainData, start: str | None = None) -> dict[str, Any]:
    """What a training that is resumed must agree on: all but how long it runs and how it is watched.

    Args:
        model: its configuration.
        config: of the training.
        data: what is trained on.
        start: SHA-256 of the weights that it began with; None for a new model.
    """
    return {
        "start": {"start_from": start},
        "data": {"kind": data.kind, "places": data.notes.get("places")},
        "model": json.loads(json.dumps(asdict(model))),
        "training": config.model_dump(mode="json", exclude=UNBOUND),
    }


def train_superres(
    data: TrainData, out: Path, config: TrainConfig, *, start_from: Path | None = None, resume: bool = True
) -> Path:
    """Train on some data; returns the path of the weights.

    Args:
        data: what is trained and validated on (``train_sources.open_data``).
        out: folder for weights, card and Lightning's own state (``last.ckpt``, from which a killed training resumes).
        config: of the training.
        start_from: weights to begin with, with their card, grown to ``config.sizes``; a new model when None.
        resume: go on from ``last.ckpt`` where there is one.

    Raises:
        GeodiffError: a resumed training whose settings or data differ, or weights of other bands or scale.
    """
    torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, verbose=False)
    before = read_card(start_from) if start_from else {}
    module = Training(first_model(data, config, start_from), config, data, before.get("sha256"))
    last = out / "last.ckpt"
    if resume and last.exists():
        module.first_step = first_step(last, module.agreed)
    weights = out / "superres.safetensors"
    earlier = {STARTED_FROM: before} if before else {}
    card = {**earlier, "training": config.model_dump(mode="json"), **data.notes, "messages": data.messages}
    card |= all_ground(card)
    fit(module, out, config, Export(weights, card, save_checkpoint))
    return weights


def first_model(data: TrainData, config: TrainConfig, start_from: Path | None) -> ImageDenoiser:
    """A new model, or trained weights grown to the sizes asked for.

    Raises:
        UsageError: a size that no model has.
        GeodiffError: weights of other bands or scale.
    """
    known = {field.name for field in fields(ImageConfig)} - {"bands", "guide", "scale", "mtf", "residual_scale"}
    for name, size in config.sizes.items():
        if name not in known or not 0 <= size <= MAX_SIZE:
            raise UsageError(f"sizes: {name} {size}: numbers up to {MAX_SIZE} of {', '.join(sorted(known))}")
    if start_from is None:
        sizes: dict[str, Any] = dict(config.sizes)
        mtf, unit = band_mtf(config.bands), data.residual_scale
        what: dict[str, Any] = {"bands": config.bands, "guide": config.guide, "scale": config.scale}
        return ImageDenoiser(ImageConfig(**what, mtf=mtf, residual_scale=unit, **sizes))
    model = grow(load_checkpoint(start_from)[0], config.sizes).train()
    own, asked = ((each.bands, each.guide, each.scale) for each in (model.config, config))
    if own != asked:
        raise GeodiffError(
            f"{start_from} restores {_told(*own)}, but the settings ask for {_told(*asked)}: set bands, guide and scale"
        )
    return model


def _told(bands: tuple[str, ...], guide: tuple[str, ...], scale: int) -> str:
    return f"{' '.join(bands)} x{scale}" + (f" guided by {' '.join(guide)}" if guide else "")
