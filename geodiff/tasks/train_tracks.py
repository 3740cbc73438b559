"""Training of the denoiser on tracks, through Lightning: CPU or GPUs, resumable, no pickles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geodiff.model.track_checkpoint import load_track_checkpoint, save_track_checkpoint
from geodiff.model.track_objectives import draw, track_denoising_loss, track_ensemble_loss
from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.track_batches import Batch, Batches, Held, is_generation, prepare_lessons
from geodiff.tasks.track_data import TrackData
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.track_generation_lessons import GenerationLessons
from geodiff.tasks.track_velocities import card_entry
from geodiff.tasks.train_loop import UNBOUND, AveragedTraining, Export, first_step, fit
from geodiff.tasks.train_tracks_settings import TrackTrainConfig
from geodiff.vessels.split import join_digests

OF_WEIGHTS = ("format", "kind", "config", "sha256", "parameters")
"""What a card says of the file of weights, written with it."""

VARIANCE, SQUARED = "variance", "squared_error"
"""What a validation sums up of members and of their mean."""

OF_CALIBRATION = ("track_calibration", "calibrated_with", "held_aside_by_learned")


class TrackTraining(AveragedTraining):
    """The losses, and the validation on vessels that training never saw."""

    weight_decay = 1e-3

    def __init__(
        self,
        model: TrackDenoiser,
        config: TrackTrainConfig,
        data: TrackData,
        lessons: GenerationLessons | None,
        start: str | None = None,
    ) -> None:
        agreed = {
            "data": {"vessels": data.notes.get("vessels")},
            "start": {"start_from": start},
            "training": config.model_dump(mode="json", exclude=UNBOUND | {"calibration_windows"}),
        }
        super().__init__(model, config, agreed)
        self.config, self.data, self.lessons = config, data, lessons

    def train_dataloader(self) -> DataLoader[Batch]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        stream = Batches(self.data, self.lessons, self.config, start=self.first_step, rank=rank, world=world)
        return DataLoader(stream, batch_size=None, num_workers=self.config.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Held(self.data, self.config), batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch[0].to(device), batch[1].to(device)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        chance, config = self.numbers(self.config.seed), self.config
        if is_generation(batch[0]):
            loss = track_denoising_loss(self.net, *batch, pure=0.03, lowest=0.02, generator=chance)
        elif self.progress >= 1.0 - config.ensemble_share:
            loss = track_ensemble_loss(
                self.net,
                *batch,
                passes=config.passes,
                members=config.members,
                km_share=config.km_share,
                generator=chance,
            )
        else:
            pure = 1.0 if self.progress < config.regression_share else config.pure_noise
            loss = track_denoising_loss(self.net, *batch, pure=pure, lowest=config.lowest_level, generator=chance)
        return self.told(loss)

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
        squared = (drawn.mean(1) - clean).square().sum(-1)
        for name, kind in (("gap", 1), ("forecast", 2)):
            some = fleet.asked_valid & (fleet.kind == kind)[..., None]
            for label, value in (("prior", torch.zeros_like(clean)), ("mean", mean), ("median", median)):
                self._watch(f"{name}_{label}", (value - clean).square().sum(-1).sqrt()[some])
            self._watch(f"{name}_{VARIANCE}", drawn.var(1).sum(-1)[some])
            self._watch(f"{name}_{SQUARED}", squared[some])

    def _watch(self, name: str, values: Tensor) -> None:
        self.watched.add(name, float(values.sum()), values.numel())

    def found(self) -> dict[str, float]:
        """Mean errors, and the spread of eight members over the error of their mean."""
        means = super().found()
        for name in ("gap", "forecast"):
            variance, squared = means.pop(f"{name}_{VARIANCE}", None), means.pop(f"{name}_{SQUARED}", None)
            if variance is not None and squared:
                means[f"{name}_spread_skill"] = math.sqrt(variance / squared * 9 / 8)
        return means


def train_tracks(
    data: TrackData,
    out: Path,
    config: TrackTrainConfig,
    *,
    start_from: Path | None = None,
    resume: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Train on tracks; returns the path of the weights.

    Args:
        data: what is trained and validated on.
        config: of the training; with 0 minutes nothing is learned.
        out: folder for weights, card and Lightning's own state (``last.ckpt``, from which a killed training resumes).
        start_from: weights to begin with, with their card; a new model when None.
        resume: go on from ``last.ckpt`` where there is one.
        tell: is given lines on what is prepared.

    Raises:
        GeodiffError: a resumed training whose settings or data differ, or weights of other sizes.
        UsageError: no time to train, and nothing to begin with, or another fold than that of the weights.
    """
    if config.minutes == 0 and start_from is None:
        raise UsageError("0 minutes are no training: to calibrate weights on other data, name them with --start-from")
    torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, verbose=False)
    model, before = first_model(config, start_from)
    weights = out / "tracks.safetensors"
    if config.minutes == 0:
        held_out = before.get("training", {}).get("fold", 0)
        if config.fold != held_out:
            raise UsageError(
                f"{start_from} holds out fold {held_out} of the vessels: to calibrate it, set fold to that, not to "
                f"{config.fold}"
            )
        kept = {name: value for name, value in before.items() if name not in OF_WEIGHTS + OF_CALIBRATION}
        save_track_checkpoint(model, weights, {**kept, "calibrated_on": data.notes["data"]})
        return weights
    generates = card_entry(data.pieces) if data.pieces is not None and config.generation_share else {}
    card = {"training": config.model_dump(mode="json"), **data.notes, **generates, **_started_from(before, data.notes)}
    # Before the clock of the training starts.
    module = TrackTraining(model, config, data, prepare_lessons(data, config, tell=tell), before.get("sha256"))
    last = out / "last.ckpt"
    if resume and last.exists():
        module.first_step = first_step(last, module.agreed)
    fit(module, out, config, Export(weights, card, save_track_checkpoint))
    return weights


def first_model(config: TrackTrainConfig, start_from: Path | None) -> tuple[TrackDenoiser, dict[str, Any]]:
    """A new model, or trained weights with their card.

    Raises:
        GeodiffError: weights that cannot be read, or of other sizes.
    """
    wanted = track_config(width=config.width, heads=config.heads, layers=config.layers)
    if start_from is None:
        return TrackDenoiser(wanted), {}
    model, card = load_track_checkpoint(start_from)
    if model.config != wanted:
        raise GeodiffError(
            f"{start_from} is a model of other sizes or features than the settings ask for: {model.config}"
        )
    return model.train(), card


def _started_from(before: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of the weights that a training began with: they have seen the vessels of theirs as well."""
    if not before:
        return {}
    kept = ("training", "data", "history", "sha256", "started_from")
    seen = join_digests([str(each.get("vessels", "")) for each in (before, notes)])
    return {"started_from": {name: before[name] for name in kept if name in before}, "vessels": seen}
