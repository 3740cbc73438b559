"""Lightning's loop as every training of the denoiser runs it: CPU or GPUs, resumable, no pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint


class Loop(Protocol):
    """The settings of a training that Lightning's loop needs."""

    @property
    def steps(self) -> int: ...

    @property
    def precision(self) -> Literal["32-true", "bf16-mixed"]: ...

    @property
    def validate_every(self) -> int: ...

    @property
    def checkpoint_every(self) -> int: ...

    @property
    def compile(self) -> bool: ...


def fit(module: Any, out: Path, config: Loop, export: Callback) -> None:
    """Run Lightning's loop, from ``last.ckpt`` in ``out`` where ``module.first_step`` says that it goes on.

    Args:
        module: a LightningModule with its network as ``net``.
        out: folder of Lightning's own state.
        config: of the training.
        export: writes weights and card after every validation.
    """
    trainer = L.Trainer(
        max_steps=config.steps,
        accelerator="auto",
        precision=config.precision,
        logger=False,
        default_root_dir=out,
        gradient_clip_val=1.0,
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
