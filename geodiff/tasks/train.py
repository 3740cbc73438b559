"""Training of the image denoiser on simulated series, through Lightning: CPU or GPUs, resumable, weights without pickles."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from geodiff.imagery.metrics import cpsnr
from geodiff.imagery.places import Place, read_places, split_places
from geodiff.model.checkpoint import save_checkpoint
from geodiff.model.images import ImageConfig, ImageDenoiser
from geodiff.model.noise import draw_levels, loss_weight, mix
from geodiff.model.optics import see
from geodiff.model.simulate import SimulationConfig, simulate
from geodiff.schema import BANDS_10M, GeodiffError
from geodiff.sensor import band_mtf

Batch = tuple[Tensor, Tensor, Tensor]


class TrainConfig(BaseModel):
    """Settings of a training; stored in the checkpoint's card.

    The learning rate and the share of noise follow ``steps`` or, where ``minutes`` of wall clock are given, whichever of
    the two is further along: a budget for machines whose speed is not known beforehand.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = 6000
    minutes: float | None = None
    batch: int = 8
    patch_px: int = 32
    dates: tuple[int, ...] = (1, 2, 3, 4)
    learning_rate: float = 1e-3
    warmup: int = 100
    regression_share: float = 0.4
    pure_noise: float = 0.5
    ema: float = 0.998
    validate_every: int = 250
    seed: int = 0
    threads: int = 2
    place_weights: dict[str, float] = {"t33uuu": 0.25, "naip_nd": 2.0, "naip_va": 2.0, "worldcereal": 4.0, "terramesh": 1.0}
    sizes: dict[str, int] = {}


class PatchSource(IterableDataset[Batch]):
    """Endless batches of true patches (batch, times, band, y, x), their days and pixel sizes; the target comes first."""

    def __init__(self, places: list[Place], config: TrainConfig, *, scale: int, start: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.places, self.config, self.side, self.start, self.seed = places, config, config.patch_px * scale, start, seed
        area = np.array([math.prod(p.images.shape[-2:]) for p in places], float)
        weight = np.array([next((w for key, w in config.place_weights.items() if p.name.startswith(key)), 1.0) for p in places])
        self.share = area**0.75 * weight / (area**0.75 * weight).sum()

    def _patch(self, place: Place, times: int, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        count, _, rows, cols = place.images.shape
        top, left = rng.integers(0, rows - self.side + 1), rng.integers(0, cols - self.side + 1)
        window = (slice(top, top + self.side), slice(left, left + self.side))
        target = int(rng.integers(count))
        real = count > 1 and rng.random() < 0.7
        chosen = [target, *(rng.choice(count, times - 1) if real else [target] * (times - 1))]
        images = place.images[(chosen, slice(None), *window)]
        days = place.days[chosen] - place.days[target] if real else rng.choice([-1.0, 1.0], times) * rng.exponential(60.0, times)
        days[0] = 0.0
        turn = int(rng.integers(4))
        images = np.rot90(images, turn, (-2, -1))
        return (images[..., ::-1] if rng.random() < 0.5 else images), np.nan_to_num(days)

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, 1 << 30):
            rng = np.random.default_rng((self.seed, step))
            times = int(rng.choice(self.config.dates))
            images, days, pixel_m = [], [], []
            while len(images) < self.config.batch:
                place = self.places[rng.choice(len(self.places), p=self.share)]
                patch, offset = self._patch(place, times, rng)
                if (patch[0] <= 0).mean() > 0.01:
                    continue
                images.append(patch * rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, (4, 1, 1)))
                days.append(offset)
                pixel_m.append(place.pixel_m * rng.choice([1.0, 1.0, 0.5, 2.0]))
            yield (
                torch.from_numpy(np.stack(images).astype(np.float32)),
                torch.from_numpy(np.stack(days).astype(np.float32)),
                torch.tensor(pixel_m, dtype=torch.float32),
            )


class Training(L.LightningModule):
    """The loss, the averaged weights, and the validation on strips that training never saw."""

    def __init__(self, model: ImageDenoiser, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.simulation = SimulationConfig(scale=model.config.scale, mtf=model.config.mtf)
        self.net = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.history: list[dict[str, float]] = []
        self.spent_s, self.started = 0.0, time.monotonic()

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1."""
        steps = self.global_step / self.config.steps
        spent = self.spent_s + time.monotonic() - self.started
        return min(max(steps, spent / 60 / self.config.minutes if self.config.minutes else 0.0), 1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent_s"] = self.spent_s + time.monotonic() - self.started
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent_s, self.history = checkpoint["spent_s"], checkpoint["history"]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        series, target, _ = simulate(*batch, self.simulation, generator)
        context = self.net.encode(series)
        residual = (target - context.upsampled) / self.net.residual_scale
        pure = 1.0 if self.progress < self.config.regression_share else self.config.pure_noise
        level = draw_levels(len(target), pure=pure, generator=generator).to(target)
        noise = torch.randn(residual.shape, generator=generator).to(residual)
        estimate = self.net(mix(residual, noise, level[:, None, None, None]), level, context)
        error = (estimate - residual).square()[..., 8:-8, 8:-8].mean((1, 2, 3))
        # Patches differ by two orders of magnitude in what there is to restore; their weight grows like the root.
        power = residual.square()[..., 8:-8, 8:-8].mean((1, 2, 3))
        loss: Tensor = (loss_weight(level) * error / (0.1 + power).sqrt()).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        decay = min(self.config.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for averaged, current in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                averaged.lerp_(current, 1 - decay)
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.config.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))

        def factor(step: int) -> float:
            return min((step + 1) / self.config.warmup, 1.0) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        generator = torch.Generator().manual_seed(batch_index)
        series, target, _ = simulate(*batch, self.simulation, generator)
        context = self.ema.encode(series)
        noise = torch.randn(target.shape, generator=generator)
        mean = context.upsampled + self.ema.residual_scale * self.ema(noise, torch.ones(len(target)), context)
        gain = [
            cpsnr(mean[i].numpy(), target[i].numpy(), crop=12) - cpsnr(context.upsampled[i].numpy(), target[i].numpy(), crop=12)
            for i in range(len(target))
        ]
        level = torch.full((len(target),), 0.5)
        residual = (target - context.upsampled) / self.ema.residual_scale
        half = (self.ema(mix(residual, noise, level[:, None, None, None]), level, context) - residual).square().mean()
        clear = series.observed.flatten(1).all(1)
        for name, keep in (("gain_clear_db", clear), ("gain_cloudy_db", ~clear)):
            if keep.any():
                self.log(name, float(np.mean(np.array(gain)[keep.numpy()])), on_epoch=True, batch_size=int(keep.sum()))
        self.log("half_level_mse", half, on_epoch=True, batch_size=len(target))


class Export(Callback):
    """Weights (averaged) and their card, after every validation; readable while training goes on."""

    def __init__(self, path: Path, card: dict[str, Any]) -> None:
        self.path, self.card = path, card

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not isinstance(pl_module, Training):
            return
        figures = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        pl_module.history.append({"step": pl_module.global_step, **figures})
        print(json.dumps(pl_module.history[-1]), flush=True)
        save_checkpoint(pl_module.ema, self.path, card={**self.card, "history": pl_module.history})


def residual_scales(places: list[Place], scale: int, mtf: tuple[float, ...]) -> tuple[float, ...]:
    """Root mean square per band of what bicubic upsampling misses, over the training places."""
    source = PatchSource(places, TrainConfig(dates=(1,), batch=32), scale=scale, seed=12345)
    truth, _, _ = next(iter(source))
    image = truth[:, 0]
    low = see(image, scale, mtf)
    miss = image - torch.nn.functional.interpolate(low, scale_factor=scale, mode="bicubic", align_corners=False)
    return tuple(round(float(v), 4) for v in miss.square().mean((0, 2, 3)).sqrt())


def train_superres(root: Path, out: Path, config: TrainConfig, *, resume: bool = True) -> Path:
    """Train on the places under ``root``; returns the path of the weights.

    Args:
        root: data folder with the training places.
        out: folder for weights, card and Lightning's own state (``last.ckpt``, from which a killed training resumes).
        config: of the training.
        resume: go on from ``last.ckpt`` where there is one.

    Raises:
        GeodiffError: no training imagery, or a resumed training whose settings differ.
    """
    torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, verbose=False)
    train, held = split_places(read_places(root))
    if not held:
        raise GeodiffError(f"no place under {root} is wide enough to hold a strip out for validation")
    mtf = band_mtf(BANDS_10M)
    model = ImageDenoiser(
        ImageConfig(bands=BANDS_10M, scale=4, mtf=mtf, residual_scale=residual_scales(train, 4, mtf), **config.sizes)
    )
    module = Training(model, config)
    last = out / "last.ckpt"
    start = int(torch.load(last, weights_only=True)["global_step"]) if resume and last.exists() else 0
    loader = DataLoader(PatchSource(train, config, scale=4, start=start, seed=config.seed), batch_size=None)
    fixed = PatchSource(held, config.model_copy(update={"batch": 8}), scale=4, seed=777)
    batches = [batch for batch, _ in zip(fixed, range(8), strict=False)]
    card = {"training": config.model_dump(mode="json"), "places": sorted({p.name.split("/")[0] for p in train})}
    weights = out / "superres.safetensors"
    trainer = L.Trainer(
        max_steps=config.steps,
        accelerator="auto",
        logger=False,
        default_root_dir=out,
        gradient_clip_val=1.0,
        val_check_interval=config.validate_every,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Export(weights, card), ModelCheckpoint(out, "last", every_n_train_steps=100, enable_version_counter=False)],
    )
    trainer.fit(module, loader, DataLoader(batches, batch_size=None), ckpt_path=str(last) if start else None, weights_only=True)
    return weights
