"""Motion models by name or path: the classical rules, and what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast, runtime_checkable

from geodiff.config import catalogs_dir
from geodiff.schema import BoolArray, GeodiffError, UsageError
from geodiff.tracks import MotionModel
from geodiff.vessels.baselines import ConstantTurn, DeadReckoning, Hermite, Linear
from geodiff.vessels.historic import NearestHistoric
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.kalman import Kalman
from geodiff.vessels.split import Ids

if TYPE_CHECKING:
    import polars as pl

    from geodiff.tasks.track_calibrate_here import Regions

BASELINES: Final[Mapping[str, Callable[[], MotionModel]]] = {
    "linear": Linear,
    "hermite": Hermite,
    "dead_reckoning": DeadReckoning,
    "constant_turn": ConstantTurn,
    "kalman": Kalman,
    "nearest_historic": NearestHistoric,
}
"""Models that nothing was trained for."""

SHIPPED: Final = "tracks"
"""Folder of the catalogue with the weights of trained motion models."""


@runtime_checkable
class Trained(Protocol):
    """A motion model that knows which vessels it was trained on; a card lists ``vessels.split.vessel_digest``."""

    def trained_on(self, vessel_id: Ids) -> BoolArray:
        """(n,) whether each vessel was among those of the training."""
        ...


@runtime_checkable
class Historic(Protocol):
    """A motion model that can be told what other vessels did before."""

    def with_history(self, history: TrackHistory | None) -> MotionModel:
        """The same model, told so."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A motion model that is evaluated.

    Attributes:
        name: for reports.
        model: it.
        digest: of its weights and card; empty for a classical rule.
        regions: what its regions rest on, where they were calibrated anew.
    """

    name: str
    model: MotionModel
    digest: str = ""
    regions: str | None = None

    def seen(self, vessel_id: Ids) -> BoolArray | None:
        """(n,) whether each vessel was among those of its training; None for a classical rule."""
        return self.model.trained_on(vessel_id) if isinstance(self.model, Trained) else None

    @property
    def antithetic(self) -> bool:
        """Whether the members of its ensembles come in pairs of opposite noise."""
        return bool(getattr(self.model, "antithetic", False))

    def told(self, history: TrackHistory | None) -> Contender:
        """The same one, told what other vessels did, if it can be."""
        return replace(self, model=self.model.with_history(history)) if isinstance(self.model, Historic) else self


def held_out_fold(models: Iterable[MotionModel]) -> int:
    """Which tenth of the vessels the trainings of some models held out (``vessels.split``); the first for rules.

    Raises:
        GeodiffError: they held out different ones.
    """
    folds = {int(getattr(model, "fold", 0)) for model in models if isinstance(model, Trained)}
    if len(folds) > 1:
        told = " and ".join(map(str, sorted(folds)))
        raise GeodiffError(
            f"the models were trained with folds {told}, and no vessel is held out of all: evaluate them one by one, "
            "or on vessels of another file"
        )
    return folds.pop() if folds else 0


def shipped_models() -> dict[str, Path]:
    """Names and weights of the models of motion that come with the package."""
    return {path.stem: path for path in sorted((catalogs_dir() / SHIPPED).glob("*.safetensors"))}


def load_motion_model(name_or_path: str) -> MotionModel:
    """Open a model.

    Args:
        name_or_path: a classical rule, a model that comes with the package, or the path of weights.

    Raises:
        UsageError: no such model.
        GeodiffError: its files are damaged.
    """
    return load_contender(name_or_path).model


def regions_here(
    model: MotionModel, parts: Sequence[pl.LazyFrame], told: Callable[[], MotionModel], *, seed: int
) -> Regions | None:
    """What the regions of a model rest on where these tracks are; None for a classical rule.

    Args:
        model: to calibrate, as ``track_calibrate_here`` says.
        parts: cleaned tables of whole vessels, the fixes of each in the order of time.
        told: gives the model as it will be asked; called where there is something to ask.
        seed: of questions and noise.
    """
    if not isinstance(model, Trained):
        return None
    # Torch takes seconds to load, which a rule need not cost.
    from geodiff.tasks.track_calibrate_here import Regions, calibrate_here, strangers

    tracks = strangers(model, parts)
    return Regions() if tracks is None else calibrate_here(told(), tracks, seed=seed)


def load_contender(name_or_path: str) -> Contender:
    """Open a model for an evaluation; arguments and errors as of ``load_motion_model``."""
    if name_or_path in BASELINES:
        return Contender(name_or_path, BASELINES[name_or_path]())
    shipped = shipped_models()
    path = shipped.get(name_or_path, Path(name_or_path).expanduser())
    if not path.is_file():
        known = ", ".join([*shipped, *BASELINES])
        raise UsageError(f"--model {name_or_path}: no such motion model and no such file; known: {known}")
    # Torch takes seconds to load, which a rule or a mistyped name need not cost.
    from geodiff.model.checkpoint import digest
    from geodiff.tasks.track_denoiser import DenoiserMotion

    card = path.with_suffix(".json")
    hashes = [digest(each) for each in (path, card) if each.is_file()]
    return Contender(path.stem, cast(MotionModel, DenoiserMotion.load(path)), "-".join(hashes))
