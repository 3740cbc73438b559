"""Training of the denoiser on tracks, through Lightning: CPU or GPUs, resumable, no pickles."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from geodiff.model.track_checkpoint import load_track_checkpoint, save_track_checkpoint
from geodiff.model.track_objectives import draw, track_denoising_loss, track_ensemble_loss
from geodiff.model.tracks import TrackConfig, TrackDenoiser
from geodiff.schema import GeodiffError
from geodiff.tasks.track_batches import Batch, Batches, Held, is_generation
from geodiff.tasks.track_data import TrackData
from geodiff.tasks.track_velocities import card_entry
from geodiff.tasks.train import first_step
from geodiff.tasks.train_loop import fit
from geodiff.tasks.train_tracks_settings import TrackTrainConfig
from geodiff.vessels.window_features import ASKED_WIDTH, KNOWN_WIDTH
from geodiff.vessels.window_history import HISTORY_WIDTH


class TrackTraining(L.LightningModule):
    """The losses, the averaged weights, and the validation on vessels that training never saw."""

    def __init__(self, model: TrackDenoiser, config: TrackTrainConfig, data: TrackData) -> None:
        super().__init__()
        self.config, self.data = config, data
        self.net = model
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.history: list[dict[str, float]] = []
        self.first_step, self.spent_s, self.started = 0, 0.0, time.monotonic()

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed training must agree on."""
        free = {
            "steps",
            "minutes",
            "threads",
            "workers",
            "compile",
            "validate_every",
            "validate_batches",
            "calibration_windows",
        }
        return {
            "data": {"vessels": self.data.notes.get("vessels")},
            "training": self.config.model_dump(mode="json", exclude=free | {"checkpoint_every"}),
        }

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1."""
        spent = self.spent_s + time.monotonic() - self.started
        timed = spent / 60 / self.config.minutes if self.config.minutes else 0.0
        return min(max(self.global_step / self.config.steps, timed), 1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent_s"] = self.spent_s + time.monotonic() - self.started
        checkpoint["history"], checkpoint["settings"] = self.history, self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent_s, self.history = checkpoint["spent_s"], checkpoint["history"]

    def train_dataloader(self) -> DataLoader[Batch]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        stream = Batches(self.data, self.config, start=self.first_step, rank=rank, world=world)
        return DataLoader(stream, batch_size=None, num_workers=self.config.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Held(self.data, self.config), batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch[0].to(device), batch[1].to(device)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        number = self.global_step * self.trainer.world_size + self.trainer.global_rank
        chance = torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)
        config = self.config
        if is_generation(batch[0]):
            loss = track_denoising_loss(self.net, *batch, pure=0.03, lowest=0.02, generator=chance)
        elif self.progress >= 1.0 - config.ensemble_share:
            loss = track_ensemble_loss(self.net, *batch, passes=config.passes, members=config.members, generator=chance)
        else:
            pure = 1.0 if self.progress < config.regression_share else config.pure_noise
            loss = track_denoising_loss(self.net, *batch, pure=pure, lowest=config.lowest_level, generator=chance)
        self.log("loss", loss, batch_size=len(batch[1]))
        return loss

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
            self.net.parameters(), lr=self.config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.98)
        )

        def factor(step: int) -> float:
            return min((step + 1) / self.config.warmup, 1.0) * (
                0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        fleet, departure = batch
        chance = torch.Generator().manual_seed(batch_index)
        context = self.ema.encode(fleet)
        clean = departure / context.scale
        ones = torch.ones(len(clean), device=self.device)
        mean = self.ema(torch.zeros_like(clean), ones, context)
        noise = torch.randn((len(clean) * 8, *clean.shape[1:]), generator=chance).to(clean)
        drawn = draw(self.ema, context.repeated(8), mean.repeat_interleave(8, 0), noise, self.config.passes)
        drawn = drawn.unflatten(0, (len(clean), 8))
        median = drawn.median(1).values
        valid = fleet.asked_valid
        for name, kind in (("gap", 1), ("forecast", 2)):
            some = valid & (fleet.kind == kind)[..., None]
            for label, value in (("prior", torch.zeros_like(clean)), ("mean", mean), ("median", median)):
                error = (value - clean).square().sum(-1).sqrt()[some].mean()
                self.log(f"{name}_{label}", error, on_epoch=True, batch_size=len(clean), sync_dist=True)
            spread = drawn.var(1).sum(-1)[some].mean().sqrt() * math.sqrt(9 / 8)
            skill = (drawn.mean(1) - clean).square().sum(-1)[some].mean().sqrt()
            self.log(f"{name}_spread_skill", spread / skill, on_epoch=True, batch_size=len(clean), sync_dist=True)


class ExportTracks(Callback):
    """Weights (averaged) and their card, after every validation; readable while training goes on."""

    def __init__(self, path: Path, card: dict[str, Any]) -> None:
        self.path, self.card = path, card

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(pl_module, TrackTraining):
            return
        figures = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        pl_module.history.append({"step": pl_module.global_step, **figures})
        sys.stdout.write(json.dumps(pl_module.history[-1]) + "\n")
        sys.stdout.flush()
        save_track_checkpoint(pl_module.ema, self.path, {**self.card, "history": pl_module.history})


def train_tracks(
    data: TrackData, out: Path, config: TrackTrainConfig, *, start_from: Path | None = None, resume: bool = True
) -> Path:
    """Train on tracks; returns the path of the weights.

    Args:
        data: what is trained and validated on.
        out: folder for weights, card and Lightning's own state (``last.ckpt``, from which a killed training resumes).
        config: of the training.
        start_from: weights to begin with, with their card; a new model when None.
        resume: go on from ``last.ckpt`` where there is one.

    Raises:
        GeodiffError: a resumed training whose settings or data differ, or weights of other sizes.
    """
    torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, verbose=False)
    model, earlier = first_model(config, start_from)
    module = TrackTraining(model, config, data)
    last = out / "last.ckpt"
    if resume and last.exists():
        module.first_step = first_step(last, module.settings)
    weights = out / "tracks.safetensors"
    generates = card_entry(data.pieces) if data.pieces is not None and config.generation_share else {}
    card = {**earlier, "training": config.model_dump(mode="json"), **data.notes, **generates}
    fit(module, out, config, ExportTracks(weights, card))
    return weights


def first_model(config: TrackTrainConfig, start_from: Path | None) -> tuple[TrackDenoiser, dict[str, Any]]:
    """A new model, or trained weights and what the card says of where they come from.

    Raises:
        GeodiffError: weights that cannot be read, or of other sizes.
    """
    features = TrackConfig(KNOWN_WIDTH, ASKED_WIDTH, HISTORY_WIDTH)
    wanted = dataclasses.replace(features, width=config.width, heads=config.heads, layers=config.layers)
    if start_from is None:
        return TrackDenoiser(wanted), {}
    model, card = load_track_checkpoint(start_from)
    if model.config != wanted:
        raise GeodiffError(
            f"{start_from} is a model of other sizes or features than the settings ask for: {model.config}"
        )
    kept = ("training", "data", "history", "sha256", "started_from")
    return model.train(), {"started_from": {name: card[name] for name in kept if name in card}}
