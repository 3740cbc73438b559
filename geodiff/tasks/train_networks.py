"""Training of the peers, HighRes-net and SRDiff, on the data of the denoiser: a plain loop on one device, resumable."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geodiff.model.images import Series
from geodiff.model.networks import Network, make_network, save_network
from geodiff.model.raster import upsample
from geodiff.model.simulate import simulate
from geodiff.model.srdiff import SRDiff
from geodiff.schema import UsageError
from geodiff.sensor import band_mtf
from geodiff.tasks.train import gain_db, settings_of
from geodiff.tasks.train_data import Fed, Pair, Stream, TrainConfig, TrainData
from geodiff.tasks.train_loop import first_step
from geodiff.tasks.train_watch import Watched, check_figures, clip_gradients, holds

WATCHED_PASSES = 10
"""Steps of the chain of a diffusion when it is watched: a sample lies below its mean, but rises with it."""


class _Loop:
    """One training: networks, optimiser, and how far it is."""

    def __init__(self, kind: str, data: TrainData, out: Path, config: TrainConfig) -> None:
        self.kind, self.data, self.out, self.config = kind, data, out, config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        values = {"bands": config.bands, "scale": config.scale, "residual_scale": data.residual_scale, **config.sizes}
        self.net: Network = make_network(kind, values, where="sizes").to(self.device)
        self.ema: Network = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=config.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98)
        )
        self.simulation = config.sensor(band_mtf(config.bands))
        self.step, self.spent_s, self.started = 0, 0.0, time.monotonic()
        self.history: list[dict[str, float]] = []

    @property
    def last(self) -> Path:
        return self.out / "last.ckpt"

    @property
    def weights(self) -> Path:
        return self.out / f"{self.kind}.safetensors"

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed training must agree on."""
        found = settings_of(cast(Any, self.net.config), self.config, self.data)
        return {**found, "network": {"network": self.kind}}

    @property
    def seconds(self) -> float:
        return self.spent_s + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1."""
        limit = self.config.minutes
        timed = 0.0 if limit is None else self.seconds / 60 / max(limit, 1e-6)
        return min(max(self.step / self.config.steps, timed), 1.0)

    def pair(self, batch: Fed, generator: torch.Generator) -> tuple[Series, Tensor, Tensor | None]:
        """Series, target and where it is clear (None: everywhere), on the device."""
        if isinstance(batch, Pair):
            return batch.series.to(self.device), batch.target.to(self.device), batch.clear.to(self.device)
        series, target, _ = simulate(*batch, self.simulation, generator)
        return series.to(self.device), target.to(self.device), None

    def arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision == "32-true":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def learn(self, batch: Fed) -> None:
        """One step of the optimiser.

        Raises:
            GeodiffError: the training diverged.
        """
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        series, target, clear = self.pair(batch, generator)
        rising = min((self.step + 1) / self.config.warmup, 1.0)
        for group in self.optimizer.param_groups:
            falling = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))
            group["lr"] = self.config.learning_rate * rising * falling
        with self.arithmetic():
            loss = self.net.loss(series, target, generator=generator, clear=clear)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_gradients(self.net, self.step + 1, self.history)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, (2 + self.step) / (11 + self.step))
        with torch.no_grad():
            for averaged, current in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                averaged.lerp_(current, 1 - decay)

    @torch.inference_mode()
    def watch(self) -> dict[str, float]:
        """The loss of the averaged weights on held-out ground, and decibels of cPSNR over bicubic of the reference.

        Raises:
            GeodiffError: the training diverged.
        """
        watched = Watched()
        for number, batch in enumerate(self.data.held):
            generator = torch.Generator().manual_seed(number)
            series, target, clear = self.pair(batch, generator)
            watched.add("held_loss", float(self.ema.loss(series, target, generator=generator, clear=clear)), 1)
            image = restored(self.ema, series, generator)
            base = upsample(series.reference, self.config.scale)
            shown = torch.ones_like(target[:, 0], dtype=torch.bool) if clear is None else clear
            gains = [gain_db(*each) for each in zip(image, base, target, shown, strict=True)]
            known = [gain for gain in gains if gain is not None]
            watched.add("gain_db", sum(known), len(known))
        figures = watched.means()
        check_figures(figures, self.step, self.history)
        return {name: round(value, 4) for name, value in figures.items()}

    def export(self) -> None:
        """Write the averaged weights with their card; readable while training goes on."""
        self.history.append({"step": self.step, **self.watch()})
        sys.stdout.write(json.dumps(self.history[-1]) + "\n")
        sys.stdout.flush()
        card = {"training": self.config.model_dump(mode="json"), **self.data.notes}
        save_network(self.ema, self.weights, card={**card, "messages": self.data.messages, "history": self.history})

    def keep(self) -> None:
        """Write all that a resumed training needs."""
        state = {
            "global_step": self.step,
            "settings": self.settings,
            "spent_s": self.seconds,
            "history": self.history,
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.last.with_name(self.last.name + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.last)

    def go_on(self) -> None:
        """Take up what ``keep`` wrote.

        Raises:
            GeodiffError: it cannot be read, or other settings were trained with.
        """
        self.step = first_step(self.last, self.settings)
        state = torch.load(self.last, map_location=self.device, weights_only=True)
        self.spent_s, self.history = state["spent_s"], state["history"]
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])


def restored(net: Network, series: Series, generator: torch.Generator) -> Tensor:
    """The image that a network makes of a batch of series, one sample of a diffusion: (batch, band, y, x)."""
    if not isinstance(net, SRDiff):
        return net(series)  # type: ignore[no-any-return]
    base = upsample(series.reference, net.config.scale)

    def draw(step: int) -> Tensor:
        return torch.randn(base.shape, generator=generator).to(base)

    return base + net.residual_scale * net.sample(net.encode(series), draw, WATCHED_PASSES)


def train_network(kind: str, data: TrainData, out: Path, config: TrainConfig, *, resume: bool = True) -> Path:
    """Train a peer; returns the path of the weights, ``<kind>.safetensors``.

    ``config.sizes`` are fields of the configuration of the kind; the objective, its shares of noise and the number of
    passes are the denoiser's and do not count.

    Args:
        kind: ``highresnet`` or ``srdiff`` (``model.networks.KINDS``).
        data: what is trained and validated on (``train_sources.open_data``).
        out: folder for weights, card and ``last.ckpt``, from which a killed training resumes.
        config: of the training.
        resume: go on from ``last.ckpt`` where there is one.

    Raises:
        UsageError: an unknown kind or size, or a setting that only the denoiser has.
        GeodiffError: a resumed training whose settings or data differ, or a training that diverged.
    """
    if config.compile:
        raise UsageError(f"compile is for the denoiser: remove it to train {kind}")
    if config.guide:
        raise UsageError(f"guide is for the denoiser: remove it to train {kind}")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    loop = _Loop(kind, data, out, config)
    if resume and loop.last.exists():
        loop.go_on()
    stream = Stream(data.maker, start=loop.step)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=config.workers))
    while loop.step == 0 or loop.progress < 1.0:
        loop.learn(next(batches))
        ended = loop.progress >= 1.0
        if ended or loop.step % config.validate_every == 0:
            loop.export()
        if ended or loop.step % config.checkpoint_every == 0:
            loop.keep()
    if not holds(loop.weights, loop.step):
        loop.export()
    return loop.weights
