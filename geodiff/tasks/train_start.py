"""Starts the training of a network by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geodiff.schema import UsageError
from geodiff.tasks.train import train_superres
from geodiff.tasks.train_data import TrainConfig
from geodiff.tasks.train_sources import open_data

NETWORKS = ("denoiser", "highresnet", "srdiff")


def start_training(
    network: str,
    kind: str,
    root: Path | None,
    out: Path,
    config: TrainConfig,
    *,
    start_from: Path | None = None,
    resume: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Train a network; returns the path of its weights.

    Args:
        network: one of ``NETWORKS``; all but the denoiser are baselines.
        kind: of the data (``train_sources.DataKind``).
        root: folder of the data.
        out: folder for weights and card.
        config: of the training.
        start_from: weights to begin with.
        resume: go on from where an earlier training in ``out`` stopped.
        tell: is given a line for what was guessed about the data or left out.

    Raises:
        UsageError: an unknown network, or an option that it does not have.
        GeodiffError: data that cannot be read, or a resumed training with other settings.
    """
    if network not in NETWORKS:
        raise UsageError(f"--network {network}: choose among {', '.join(NETWORKS)}")
    if network != "denoiser" and start_from is not None:
        raise UsageError(f"--start-from is for the denoiser; {network} starts anew")
    data = open_data(kind, root, config)
    if tell:
        for message in data.messages:
            tell(message)
    if network == "denoiser":
        return train_superres(data, out, config, start_from=start_from, resume=resume)
    from geodiff.tasks.train_networks import train_network

    return train_network(network, data, out, config, resume=resume)
