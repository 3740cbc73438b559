"""Training of the image denoiser on simulated series, through Lightning: CPU or GPUs, resumable, no pickles."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from geodiff.imagery.places import read_places, split_places
from geodiff.metrics.fidelity import cpsnr
from geodiff.model.checkpoint import load_checkpoint, read_card, save_checkpoint
from geodiff.model.growth import grow
from geodiff.model.images import ImageConfig, ImageDenoiser, Series
from geodiff.model.noise import mix
from geodiff.model.objectives import denoising_loss, ensemble_loss
from geodiff.model.simulate import SimulationConfig, simulate
from geodiff.schema import BANDS_10M, GeodiffError
from geodiff.sensor import band_mtf
from geodiff.tasks.train_data import Batch, Fixed, PatchSource, TrainConfig, residual_scales


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
        checkpoint["settings"] = settings_of(self.net.config, self.config)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent_s, self.history = checkpoint["spent_s"], checkpoint["history"]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Leave the batch where it is: the sensor is simulated on the CPU, with the same numbers on every machine."""
        return batch

    def _simulated(self, batch: Batch, generator: torch.Generator) -> tuple[Series, Tensor]:
        series, target, _ = simulate(*batch, self.simulation, generator)
        return series.to(self.device), target.to(self.device)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        series, target = self._simulated(batch, generator)
        loss = self._loss(series, target, generator)
        self.log("loss", loss, prog_bar=True)
        return loss

    def _loss(self, series: Series, target: Tensor, generator: torch.Generator) -> Tensor:
        if self.config.objective == "ensemble":
            passes = self.config.passes[int(torch.randint(len(self.config.passes), (), generator=generator))]
            return ensemble_loss(self.net, series, target, passes=passes, members=2, generator=generator)
        pure = 1.0 if self.progress < self.config.regression_share else self.config.pure_noise
        lowest = self.config.lowest_level
        return denoising_loss(self.net, series, target, pure=pure, lowest=lowest, generator=generator)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step and average: before the checkpoint of this step is written, which a later hook would miss."""
        super().optimizer_step(*args, **kwargs)
        decay = min(self.config.ema, (2 + self.global_step) / (11 + self.global_step))
        with torch.no_grad():
            for averaged, current in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                averaged.lerp_(current, 1 - decay)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=self.config.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98)
        )

        def factor(step: int) -> float:
            return min((step + 1) / self.config.warmup, 1.0) * (
                0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        generator = torch.Generator().manual_seed(batch_index)
        series, target = self._simulated(batch, generator)
        context = self.ema.encode(series)
        noise = torch.randn(target.shape, generator=generator).to(target)
        ones = torch.ones(len(target), device=self.device)
        mean = context.upsampled + self.ema.residual_scale * self.ema(noise, ones, context)
        images = zip(mean.cpu().numpy(), context.upsampled.cpu().numpy(), target.cpu().numpy(), strict=True)
        gain = np.array([cpsnr(m, truth, crop=12) - cpsnr(base, truth, crop=12) for m, base, truth in images])
        level = torch.full_like(ones, 0.5)
        residual = (target - context.upsampled) / self.ema.residual_scale
        half = (self.ema(mix(residual, noise, level[:, None, None, None]), level, context) - residual).square().mean()
        clear = series.observed.flatten(1).all(1).cpu()
        for name, keep in (("gain_clear_db", clear), ("gain_cloudy_db", ~clear)):
            if keep.any():
                self.log(name, float(gain[keep.numpy()].mean()), on_epoch=True, batch_size=int(keep.sum()))
        self.log("half_level_mse", half, on_epoch=True, batch_size=len(target))


class Export(Callback):
    """Weights (averaged) and their card, after every validation; readable while training goes on."""

    def __init__(self, path: Path, card: dict[str, Any]) -> None:
        self.path, self.card = path, card

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(pl_module, Training):
            return
        figures = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        pl_module.history.append({"step": pl_module.global_step, **figures})
        sys.stdout.write(json.dumps(pl_module.history[-1]) + "\n")
        sys.stdout.flush()
        save_checkpoint(pl_module.ema, self.path, card={**self.card, "history": pl_module.history})


def settings_of(model: ImageConfig, config: TrainConfig) -> dict[str, Any]:
    """What a training that is resumed must agree on: all but how long it runs and how it is watched."""
    free = {"steps", "minutes", "threads", "validate_every", "checkpoint_every"}
    return {"model": json.loads(json.dumps(asdict(model))), "training": config.model_dump(mode="json", exclude=free)}


def first_step(last: Path, settings: dict[str, Any]) -> int:
    """The step at which a training goes on.

    Raises:
        GeodiffError: the checkpoint cannot be read, or other settings were trained with.
    """
    try:
        state = torch.load(last, map_location="cpu", weights_only=True)
        step, before = int(state["global_step"]), state.get("settings", settings)
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GeodiffError(f"{last} cannot be read ({reason}): remove it to start anew") from None
    for part in ("model", "training"):
        differing = [key for key, value in settings[part].items() if before[part].get(key) != value]
        if differing:
            raise GeodiffError(f"{last} was trained with another {', '.join(differing)}: choose another folder")
    return step


def train_superres(
    root: Path, out: Path, config: TrainConfig, *, start_from: Path | None = None, resume: bool = True
) -> Path:
    """Train on the places under ``root``; returns the path of the weights.

    Args:
        root: data folder with the training places.
        out: folder for weights, card and Lightning's own state (``last.ckpt``, from which a killed training resumes).
        config: of the training.
        start_from: weights to begin with, with their card, grown to ``config.sizes``; a new model when None.
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
    if start_from:
        model = grow(load_checkpoint(start_from)[0], config.sizes).train()
    else:
        unit = residual_scales(train, 4, mtf)
        model = ImageDenoiser(ImageConfig(bands=BANDS_10M, scale=4, mtf=mtf, residual_scale=unit, **config.sizes))
    module = Training(model, config)
    last = out / "last.ckpt"
    start = first_step(last, settings_of(model.config, config)) if resume and last.exists() else 0
    loader = DataLoader(PatchSource(train, config, scale=4, start=start, seed=config.seed), batch_size=None)
    fixed = PatchSource(held, config.model_copy(update={"batch": 8}), scale=4, seed=777)
    batches = DataLoader(Fixed([batch for batch, _ in zip(fixed, range(8), strict=False)]), batch_size=None)
    earlier = {"started_from": read_card(start_from)} if start_from else {}
    card = {
        **earlier,
        "training": config.model_dump(mode="json"),
        "places": sorted({p.name.split("/")[0] for p in train}),
    }
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
        callbacks=[
            Export(weights, card),
            ModelCheckpoint(out, "last", every_n_train_steps=config.checkpoint_every, enable_version_counter=False),
        ],
    )
    trainer.fit(module, loader, batches, ckpt_path=str(last) if start else None, weights_only=True)
    return weights
