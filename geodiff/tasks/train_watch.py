"""What every training watches: its figures on held-out ground, whether it diverged, and what it has written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from geodiff.model.checkpoint import digest
from geodiff.schema import GeodiffError

CLIP = 1.0
"""Largest norm of the gradients of a step."""


class Watched:
    """What a validation measures: sums over its batches, and of how many values."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, total: float, count: int) -> None:
        """Add the sum of so many values."""
        before, many = self.sums.get(name, (0.0, 0))
        self.sums[name] = before + total, many + count

    def means(self) -> dict[str, float]:
        """By name; without those of which there was no value."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}


def holds(weights: Path, step: int) -> bool:
    """Whether weights and card of a training are there, belong together and are those after ``step``.

    A kill during a validation leaves those of the validation before it, or weights without their card.
    """
    try:
        card = json.loads(weights.with_suffix(".json").read_text())
        return bool(card["sha256"] == digest(weights) and card["history"][-1]["step"] == step)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def clip_gradients(net: nn.Module, step: int, history: Sequence[Mapping[str, float]]) -> None:
    """Clip the norm of all gradients of a network to ``CLIP``.

    Args:
        net: after its backward pass.
        step: at which.
        history: of the validations, each of which wrote weights.

    Raises:
        GeodiffError: the norm is not a number, as of a loss that is none: before a weight is touched.
    """
    if not torch.isfinite(torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)):
        raise _diverged(step, history)


def check_figures(figures: Mapping[str, float], step: int, history: Sequence[Mapping[str, float]]) -> None:
    """Refuse figures of a validation that are no numbers.

    Raises:
        GeodiffError: the weights restore nothing that is a number.
    """
    if not all(map(math.isfinite, figures.values())):
        raise _diverged(step, history)


def _diverged(step: int, history: Sequence[Mapping[str, float]]) -> GeodiffError:
    kept = f"the weights of step {history[-1]['step']} stay" if history else "no weights were written"
    return GeodiffError(
        f"the training diverged at step {step}: lower learning_rate, in another folder or with --no-resume; {kept}"
    )
