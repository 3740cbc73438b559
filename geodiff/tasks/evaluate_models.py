"""The models that are compared, with what tells them apart from any other: weights, passes, training ground."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geodiff.model.plugin_config import read_plugin
from geodiff.schema import BANDS_10M, GeodiffError, Resolver, UsageError
from geodiff.tasks.evaluate_cases import EvaluationCase
from geodiff.tasks.models import ModelRef, find_model, load_resolver

REFERENCE = "bicubic"
"""The baseline that every model is compared with."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One model of an evaluation.

    Attributes:
        name: for the report.
        resolver: restores.
        digest: SHA-256 of the weights or of a plugin's files, or what else names the model.
        card: of a trained model; empty for a baseline.
    """

    name: str
    resolver: Resolver
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        return bool(self.card)

    @property
    def parameters(self) -> int:
        return int(self.card.get("parameters", 0))

    @property
    def passes(self) -> int:
        """Evaluations of the network for one member; 1 for a baseline."""
        return int(getattr(self.resolver, "passes", 1))


def with_members_for_mean(case: EvaluationCase, contender: Contender, members: int) -> EvaluationCase:
    """The case as a model must be shown it: one whose mean is that of its members draws as many in every scenario.

    Else the mean of an ensemble would stand against a single sample where series and single dates are compared.
    """
    return replace(case, members=members) if getattr(contender.resolver, "mean_of_members", False) else case


def load_contenders(names: Sequence[str], *, passes: int, bands: Sequence[str] = ()) -> list[Contender]:
    """Load models by the names that ``--model`` takes; bicubic is added where it is not asked for.

    Args:
        names: of the models.
        passes: evaluations of a network per member.
        bands: that baselines and networks of others restore; without, those of all trained models, those of 10 m where
            no such model is asked for. What a network of others takes is added.

    Raises:
        UsageError: an unknown model, the same one twice, or models of different scales.
        GeodiffError: weights that cannot be read.
    """
    asked = list(dict.fromkeys([REFERENCE, *names]))
    refs = {name: find_model(name) for name in asked}
    trained = {name: load_resolver(ref, passes=passes, bands=()) for name, ref in refs.items() if ref.weights}
    plugged = [read_plugin(ref.plugin).bands for ref in refs.values() if ref.plugin]
    own = [resolver.bands for resolver in trained.values()] or [BANDS_10M]
    bands = _union([*([tuple(bands)] if bands else own), *plugged])
    found = [
        _contender(name, ref, trained.get(name) or load_resolver(ref, passes=passes, bands=bands))
        for name, ref in refs.items()
    ]
    check_contenders(found)
    return found


def check_contenders(found: Sequence[Contender]) -> None:
    """Refuse models that cannot stand side by side.

    Raises:
        UsageError: two of one name, different scales, or no band in common.
    """
    names = [contender.name for contender in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"two models are named {twice}: rename one of the files")
    scales = {contender.name: contender.resolver.scale for contender in found}
    if len(set(scales.values())) > 1:
        told = ", ".join(f"{name} x{scale}" for name, scale in scales.items())
        raise UsageError(f"models of different scales ({told}) have no truth in common: evaluate them apart")
    if not scored_bands(found):
        raise UsageError(f"models {', '.join(names)} have no band in common: evaluate them apart")


def scored_bands(found: Sequence[Contender]) -> tuple[str, ...]:
    """Bands that every model restores, in the order of the first."""
    first, *others = found
    return tuple(band for band in first.resolver.bands if all(band in other.resolver.bands for other in others))


def needed_bands(found: Sequence[Contender]) -> tuple[str, ...]:
    """Bands that some model reads."""
    return _union([contender.resolver.bands for contender in found])


def _union(groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(band for bands in groups for band in bands))


def _contender(name: str, ref: ModelRef, resolver: Resolver) -> Contender:
    card = _card(ref.weights) if ref.weights else {}
    told = ref.name if ref.name != "weights" else Path(name).resolve().parent.name
    # A baseline has no file: its name stands for it, and its bands, which may tell of each other.
    baseline = " ".join(["baseline", ref.name, *resolver.bands])
    digest = ref.sha256() or hashlib.sha256(baseline.encode()).hexdigest()
    return Contender(told, resolver, digest, card)


def _card(weights: Path) -> dict[str, Any]:
    """The JSON beside the weights, of whatever kind of model."""
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise GeodiffError(f"model card {path} cannot be read: {error}") from None
    return card if isinstance(card, dict) else {}
