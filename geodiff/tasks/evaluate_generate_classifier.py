"""A classifier of how tracks move: a small network on features, trained on real windows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WIDTH = 64
EPOCHS = 200
BATCH = 512
DROPOUT = 0.2
CHECKED_SHARE = 0.15
"""Share of the vessels that say when to stop."""

EVERY = 5
"""Epochs between looks at them."""


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """Features to one of ``classes``.

    Attributes:
        net: in evaluation mode.
        middle, spread: (k,) of the features in training.
        classes: (c,) labels.
    """

    net: nn.Module
    middle: Floats
    spread: Floats
    classes: Ints

    def predict(self, features: Floats) -> Ints:
        """(n, k) features -> (n,) labels."""
        with torch.inference_mode():
            scores = self.net(_tensor(features, self.middle, self.spread))
        found: Ints = self.classes[scores.argmax(1).numpy()]
        return found


def fit_classifier(features: Floats, label: Ints, vessel_id: Ints, *, seed: int) -> Classifier:
    """Train on real windows; classes weigh alike, however many windows they have.

    Adam with decoupled weight decay (Loshchilov & Hutter 2019); of all looks at the vessels set aside the best one in
    balanced accuracy is kept.

    Args:
        features: (n, k), finite.
        label: (n,).
        vessel_id: (n,); vessels are set aside whole.
        seed: of everything; equal arguments give equal classifiers.

    Raises:
        ValueError: fewer than two classes.
    """
    classes, target = np.unique(label, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{len(classes)} classes: two are needed to tell apart")
    middle, spread = features.mean(0), features.std(0) + 1e-6
    checked = _checked(vessel_id, seed)
    x, y = _tensor(features, middle, spread), torch.from_numpy(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], WIDTH), nn.SiLU(), nn.Dropout(DROPOUT),
            nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, len(classes)),
        )  # fmt: skip
        _train(net, (x[~checked], y[~checked]), (x[checked], y[checked]))
    return Classifier(net.eval(), middle, spread, classes)


def _train(net: nn.Module, learned: tuple[Tensor, Tensor], checked: tuple[Tensor, Tensor]) -> None:
    x, y = learned
    counts = torch.bincount(y, minlength=int(y.max()) + 1).clamp_min(1)
    weight = counts.sum() / counts / len(counts)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    best, kept = -1.0, {name: value.clone() for name, value in net.state_dict().items()}
    for epoch in range(1, EPOCHS + 1):
        net.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows], weight, label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        if epoch % EVERY == 0 and len(checked[0]):
            found = _balanced(net, *checked)
            if found > best:
                best, kept = found, {name: value.clone() for name, value in net.state_dict().items()}
    if best >= 0:
        net.load_state_dict(kept)


def _balanced(net: nn.Module, x: Tensor, y: Tensor) -> float:
    net.eval()
    with torch.inference_mode():
        right = net(x).argmax(1) == y
    return float(np.mean([right[y == each].float().mean() for each in y.unique()]))


def _checked(vessel_id: Ints, seed: int) -> npt.NDArray[np.bool_]:
    """(n,) windows of vessels set aside."""
    vessels = np.unique(vessel_id)
    chosen = np.random.default_rng(seed).permutation(vessels)[: int(CHECKED_SHARE * len(vessels))]
    return np.isin(vessel_id, chosen)


def _tensor(features: Floats, middle: Floats, spread: Floats) -> Tensor:
    # What was made may move as nothing real does: a feature far outside is told as outside, not how far.
    return torch.from_numpy(np.clip((features - middle) / spread, -8.0, 8.0).astype(np.float32))
