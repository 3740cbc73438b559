"""Training of the denoiser on tracks, through Lightning: CPU or GPUs, resumable, no pickles."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from geodiff.config import Settings
from geodiff.model.track_checkpoint import load_track_checkpoint, save_track_checkpoint
from geodiff.model.track_objectives import draw, track_denoising_loss, track_ensemble_loss
from geodiff.model.tracks import Fleet, TrackConfig, TrackDenoiser
from geodiff.rng import generator
from geodiff.schema import GeodiffError
from geodiff.tasks.track_data import TrackData
from geodiff.tasks.track_fleets import fleet_of, pad_scenes
from geodiff.tasks.track_velocities import card_entry, generation_batch
from geodiff.tasks.train import first_step
from geodiff.tasks.train_loop import fit
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.window_features import ASKED_WIDTH, KNOWN_WIDTH
from geodiff.vessels.window_history import HISTORY_WIDTH
from geodiff.vessels.windows import build_windows
from geodiff.vessels.windows_draw import DrawSettings, TrackPool

Batch = tuple[Fleet, Tensor]
"""What is seen, and the departures (batch, cells, asked, 2) that are true."""

SIDEWAYS = {"known": (1, 3, 5, 24), "asked": (1, 3, 5), "history": (1, 3, 5, 10, 12, 14)}
"""Features that change sign in a mirror: the second components of vectors."""


class TrackTrainConfig(Settings):
    """Settings of a training on tracks; stored in the checkpoint's card.

    The learning rate follows ``steps`` or, where ``minutes`` are given, whichever of the two is further along. The last
    part of it tunes the student that samples in few ``passes``, by the score of its ensembles.

    Attributes (those that do not speak for themselves):
        regression_share: first part of the training, which learns the mean alone: most of the way at half the cost.
        ensemble_share: part of the training that scores ensembles.
        history_share: share of the windows that are shown what historic tracks say.
        generation_share: share of the batches that teach whole tracks of a ship group and behaviour.
        scene_share: share of the batches whose windows are scenes of up to ``scene_vessels`` vessels.
        group_share: share that are told the group of ship types.
        shortest_s, longest_s: range of the durations that are hidden.
        calibration_windows: questions to vessels set aside, from which spread and regions are calibrated.
    """

    steps: int = Field(20_000, ge=1)
    minutes: float | None = Field(None, ge=0, allow_inf_nan=False)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(1.5e-3, gt=0, allow_inf_nan=False)
    warmup: int = Field(200, ge=1)
    width: int = Field(64, ge=8, le=4096, multiple_of=8)
    heads: int = Field(4, ge=1, le=64)
    layers: int = Field(3, ge=1, le=64)
    ema: float = Field(0.998, ge=0, lt=1)
    regression_share: float = Field(0.35, ge=0, le=1)
    ensemble_share: float = Field(0.4, ge=0, le=1)
    passes: int = Field(2, ge=2, le=16)
    members: int = Field(4, ge=2, le=16)
    pure_noise: float = Field(0.4, ge=0, le=1)
    lowest_level: float = Field(0.1, ge=0, lt=1)
    history_share: float = Field(0.6, ge=0, le=1)
    generation_share: float = Field(0.3, ge=0, le=1)
    scene_share: float = Field(0.1, ge=0, le=1)
    scene_vessels: int = Field(4, ge=2, le=64)
    group_share: float = Field(0.85, ge=0, le=1)
    shortest_s: float = Field(300.0, gt=0, allow_inf_nan=False)
    longest_s: float = Field(14 * 3600.0, gt=0, allow_inf_nan=False)
    calibration_windows: int = Field(6000, ge=100)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    workers: int = Field(0, ge=0, le=64)
    validate_every: int = Field(500, ge=1)
    validate_batches: int = Field(8, ge=1)
    checkpoint_every: int = Field(250, ge=1)
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1)

    @property
    def drawn(self) -> DrawSettings:
        """What is drawn from the tracks."""
        return DrawSettings(shortest_s=self.shortest_s, longest_s=self.longest_s)


def make_batch(pool: TrackPool, history: TrackHistory, config: TrackTrainConfig, *key: str | int) -> Batch:
    """A batch whose numbers depend on the key alone."""
    rng = generator(config.seed, "tracks", *key)
    together = rng.random() < config.scene_share
    if together:
        drawn = pool.draw_scenes(config.batch // config.scene_vessels, config.scene_vessels, rng, config.drawn)
    else:
        drawn = pool.draw(config.batch, rng, config.drawn)
    windows = build_windows(drawn.queries, history)
    rows = np.arange(len(windows))[:, None]
    if together:
        rows = pad_scenes(np.array([query.scene for query in drawn.queries]), config.scene_vessels)
    fleet = fleet_of(windows, scenes=rows)
    truth = windows.to_payload(drawn.lon_deg, drawn.lat_deg).astype(np.float32)
    told = torch.from_numpy(rng.random(len(rows)) < config.history_share)[:, None, None, None]
    named = torch.from_numpy(rng.random(len(rows)) < config.group_share)[:, None]
    fleet = fleet.replaced(history=fleet.history * told, group=fleet.group * named)
    # Each vessel has a frame of its own: a mirror would have to turn their places about, so scenes stay as they are.
    mirrored = torch.from_numpy(rng.random(len(rows)) < (0.0 if together else 0.5))
    return _mirrored(fleet, torch.from_numpy(truth[rows]), mirrored)


def _mirrored(fleet: Fleet, departure: Tensor, which: Tensor) -> Batch:
    """Port for starboard in some windows: no rule of motion tells them apart."""
    sign = torch.where(which, -1.0, 1.0)[:, None, None]
    changed = {}
    for name, columns in SIDEWAYS.items():
        values = getattr(fleet, name).clone()
        for column in columns:
            values[..., column] *= sign
        changed[name] = values
    return fleet.replaced(**changed), departure * torch.stack([torch.ones_like(sign), sign], -1)


def any_batch(data: TrackData, config: TrackTrainConfig, *key: str | int) -> Batch:
    """A batch of questions about tracks, or of whole tracks to generate, as the key decides."""
    chance = generator(config.seed, "kind of batch", *key)
    if data.pieces is not None and chance.random() < config.generation_share:
        return generation_batch(data.pieces, data.history, config, chance)
    return make_batch(data.pool, data.history, config, *key)


class Batches(IterableDataset[Batch]):
    """Endless batches from the step at which a training goes on; other ranks and workers draw others."""

    def __init__(self, data: TrackData, config: TrackTrainConfig, *, start: int, rank: int, world: int) -> None:
        self.data, self.config, self.start, self.rank, self.world = data, config, start, rank, world

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self.start + first
        while True:
            yield any_batch(self.data, self.config, number * self.world + self.rank)
            number += step


def is_generation(fleet: Fleet) -> bool:
    """Whether whole tracks are to be generated: they alone are told a behaviour."""
    return bool((fleet.behaviour > 0).any())


class Held(Dataset[Batch]):
    """Fixed batches of vessels that are held out."""

    def __init__(self, data: TrackData, config: TrackTrainConfig) -> None:
        self.batches = [make_batch(data.held, data.history, config, "held", i) for i in range(config.validate_batches)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


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
