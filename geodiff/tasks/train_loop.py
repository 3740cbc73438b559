"""Lightning's loop as every training of the denoiser runs it: CPU or GPUs, resumable, weights averaged, no pickles."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from geodiff.schema import GeodiffError
from geodiff.tasks.train_watch import Watched, check_figures, clip_gradients, holds

Save = Callable[[Any, Path, dict[str, Any]], None]
"""Writes a network and its card."""

UNBOUND = {
    "steps",
    "minutes",
    "threads",
    "workers",
    "compile",
    "validate_every",
    "validate_batches",
    "checkpoint_every",
}
"""Settings that a resumed training may change: how long it runs, and how it is watched."""


class Loop(Protocol):
    """The settings of a training that Lightning's loop needs."""

    @property
    def steps(self) -> int: ...

    @property
    def minutes(self) -> float | None: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def warmup(self) -> int: ...

    @property
    def ema(self) -> float: ...

    @property
    def precision(self) -> Literal["32-true", "bf16-mixed"]: ...

    @property
    def validate_every(self) -> int: ...

    @property
    def checkpoint_every(self) -> int: ...

    @property
    def compile(self) -> bool: ...


class AveragedTraining(L.LightningModule):
    """A network and the average of its weights, trained for so many steps or minutes.

    The learning rate falls as a cosine of whichever of both is further along.

    Args:
        net: the network.
        config: of the training.
        agreed: what a resumed training must agree on.
    """

    weight_decay: ClassVar[float] = 1e-4

    def __init__(self, net: nn.Module, config: Loop, agreed: dict[str, Any]) -> None:
        super().__init__()
        self.loop, self.agreed = config, agreed
        self.net: Any = net
        self.ema: Any = copy.deepcopy(net).requires_grad_(False)
        self.history: list[dict[str, float]] = []
        self.watched, self.figures = Watched(), dict[str, float]()
        self.first_step = 0
        self.spent_s, self.started, self.now = 0.0, time.monotonic(), 0.0

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1."""
        timed = 0.0 if self.loop.minutes is None else self.now / 60 / max(self.loop.minutes, 1e-6)
        return min(max(self.global_step / self.loop.steps, timed), 1.0)

    def _look_at_clock(self) -> None:
        """Seconds of training so far; of several processes the first one's count, so that all stop at one step."""
        spent = self.spent_s + time.monotonic() - self.started
        self.now = self.trainer.strategy.broadcast(spent) if self.trainer.world_size > 1 else spent

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent_s"] = self.spent_s + time.monotonic() - self.started
        checkpoint["history"], checkpoint["settings"] = self.history, self.agreed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent_s, self.history = checkpoint["spent_s"], checkpoint["history"]
        self.now = self.spent_s
        if self.progress >= 1.0:  # its minutes are over: a step more each time would wear on weights that are done
            self.trainer.should_stop = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._look_at_clock()

    def told(self, loss: Tensor) -> Tensor:
        """The loss of a step, logged; among several processes every weight takes part in it.

        Each waits for the gradients of all weights, also of those that its own batch does not need.
        """
        self.log("loss", loss)
        if self.trainer.world_size == 1:
            return loss
        return loss + 0.0 * torch.stack([weight.sum() for weight in self.net.parameters()]).sum()

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients, those of all processes together.

        Raises:
            GeodiffError: it is not a number, as of a loss that is none: before a weight is touched.
        """
        clip_gradients(self.net, self.global_step + 1, self.history)

    def on_validation_epoch_start(self) -> None:
        self.watched = Watched()

    def on_validation_epoch_end(self) -> None:
        """Raises GeodiffError where the weights restore nothing that is a number."""
        self.figures = self.found()
        check_figures(self.figures, self.global_step, self.history)

    def found(self) -> dict[str, float]:
        """Figures of a validation, which is the same in all processes."""
        return self.watched.means()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step and average: before the checkpoint of this step is written, which a later hook would miss."""
        super().optimizer_step(*args, **kwargs)
        decay = min(self.loop.ema, (2 + self.global_step) / (11 + self.global_step))
        with torch.no_grad():
            for averaged, current in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                averaged.lerp_(current, 1 - decay)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._look_at_clock()
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=self.loop.learning_rate, weight_decay=self.weight_decay, betas=(0.9, 0.98)
        )

        def factor(step: int) -> float:
            return min((step + 1) / self.loop.warmup, 1.0) * (
                0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def numbers(self, seed: int) -> torch.Generator:
        """Random numbers of this step and process alone."""
        number = self.global_step * self.trainer.world_size + self.trainer.global_rank
        return torch.Generator().manual_seed(seed * 1_000_003 + number)


class Export(Callback):
    """Weights (averaged) and their card, after every validation; readable while training goes on."""

    def __init__(self, path: Path, card: dict[str, Any], save: Save) -> None:
        self.path, self.card, self.save = path, card, save

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(pl_module, AveragedTraining):
            return
        loss = {name: float(value) for name, value in trainer.callback_metrics.items()}
        figures = {name: round(value, 4) for name, value in (loss | pl_module.figures).items()}
        pl_module.history.append({"step": pl_module.global_step, **figures})
        sys.stdout.write(json.dumps(pl_module.history[-1]) + "\n")
        sys.stdout.flush()
        self.save(pl_module.ema, self.path, {**self.card, "history": pl_module.history})


def is_first_process() -> bool:
    """Whether this is the one of the processes of a training that does what follows it: each of them runs on."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def first_step(last: Path, agreed: dict[str, Any]) -> int:
    """The step at which a training goes on.

    Args:
        last: Lightning's state of an earlier training.
        agreed: what both must agree on.

    Raises:
        GeodiffError: the state cannot be read, or other settings were trained with.
    """
    try:
        state = torch.load(last, map_location="cpu", weights_only=True)
        step, before = int(state["global_step"]), state.get("settings", agreed)
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GeodiffError(f"{last} cannot be read ({reason}): remove it to start anew") from None
    for part, wanted in agreed.items():
        earlier = before.get(part, wanted)
        differing = [key for key, value in wanted.items() if earlier.get(key) != value]
        if differing:
            raise GeodiffError(f"{last} was trained with another {', '.join(differing)}: choose another folder")
    return step


def fit(module: AveragedTraining, out: Path, config: Loop, export: Export) -> None:
    """Run Lightning's loop, from ``last.ckpt`` in ``out`` where ``module.first_step`` says that it goes on.

    It ends with weights and ``last.ckpt`` of its last step, also where an earlier run was killed before it wrote them.

    Args:
        module: what is trained.
        out: folder of Lightning's own state.
        config: of the training.
        export: writes weights and card after every validation.

    Raises:
        GeodiffError: the training diverged.
    """
    trainer = L.Trainer(
        max_steps=config.steps,
        accelerator="auto",
        precision=config.precision,
        logger=False,
        default_root_dir=out,
        val_check_interval=config.validate_every,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[
            export,
            ModelCheckpoint(out, "last", every_n_train_steps=config.checkpoint_every, enable_version_counter=False),
        ],
    )
    if config.compile:
        module.net.compile()
    trainer.fit(module, ckpt_path=str(out / "last.ckpt") if module.first_step else None, weights_only=True)
    if module.global_step > module.first_step and module.global_step % config.checkpoint_every:
        trainer.save_checkpoint(out / "last.ckpt", weights_only=False)
    # Only the first of several processes need see the files.
    if not trainer.strategy.broadcast(holds(export.path, module.global_step)):
        trainer.validate(module, verbose=False)
