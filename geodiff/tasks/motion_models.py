"""Motion models by name: the classical rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

from geodiff.schema import BoolArray, UsageError
from geodiff.tracks import MotionModel
from geodiff.vessels.baselines import ConstantTurn, DeadReckoning, Hermite, Linear
from geodiff.vessels.kalman import Kalman
from geodiff.vessels.split import Ids

BASELINES: Final[Mapping[str, Callable[[], MotionModel]]] = {
    "linear": Linear,
    "hermite": Hermite,
    "dead_reckoning": DeadReckoning,
    "constant_turn": ConstantTurn,
    "kalman": Kalman,
}
"""Models that nothing was trained for."""


@runtime_checkable
class Trained(Protocol):
    """A motion model that knows which vessels it was trained on; a card lists ``vessels.split.vessel_digest``."""

    def trained_on(self, vessel_ids: Ids) -> BoolArray:
        """(n,) whether each vessel was among those of the training."""
        ...


def load_motion_model(name_or_path: str) -> MotionModel:
    """Open a model.

    Raises:
        UsageError: no such model.
    """
    if name_or_path in BASELINES:
        return BASELINES[name_or_path]()
    raise UsageError(f"--model {name_or_path}: no such motion model; known: {', '.join(BASELINES)}")
