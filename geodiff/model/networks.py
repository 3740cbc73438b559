"""The peers that are trained here: networks of several kinds, stored and checked like the denoiser.

A kind joins a name in the card to a configuration, a module and a resolver. ``checkpoint`` does the checks; the values
of a configuration are checked here by the types of its fields, for they decide how much memory is taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from geodiff.model.checkpoint import MAX_SIZE, check_weights, read_card, read_model, write_checkpoint
from geodiff.model.highresnet import HighResNet, HighResNetConfig, HighResNetResolver
from geodiff.model.srdiff import SRDiff, SRDiffConfig, SRDiffResolver
from geodiff.schema import GeodiffError, Resolver, UsageError

Network: TypeAlias = HighResNet | SRDiff
NetworkConfig: TypeAlias = HighResNetConfig | SRDiffConfig

SAMPLING_STEPS = "sampling_steps"
"""Key of a card: how many steps of its chain a diffusion runs; all when absent."""

MAX_SCALE, MAX_LEVELS = 16, 8


class _Resolve(Protocol):
    def __call__(self, name: str, model: Any, card: Mapping[str, Any]) -> Resolver: ...


@dataclass(frozen=True)
class Kind:
    """One kind of network.

    Attributes:
        name: in cards.
        config: class of its configuration, a dataclass.
        module: makes the network of a configuration.
        resolve: puts a network with its card behind the protocol.
    """

    name: str
    config: Callable[..., NetworkConfig]
    module: Callable[[Any], Network]
    resolve: _Resolve


def _highresnet(name: str, model: HighResNet, card: Mapping[str, Any]) -> Resolver:
    return HighResNetResolver(name, model)


def _srdiff(name: str, model: SRDiff, card: Mapping[str, Any]) -> Resolver:
    count = card.get(SAMPLING_STEPS, model.config.steps)
    if type(count) is not int or not 1 <= count <= model.config.steps:
        raise GeodiffError(
            f"the card of {name} asks for {count!r} {SAMPLING_STEPS}: its chain has 1 to {model.config.steps}"
        )
    return SRDiffResolver(name, model, count)


KINDS: Mapping[str, Kind] = {
    "highresnet": Kind("geodiff-highresnet", HighResNetConfig, HighResNet, _highresnet),
    "srdiff": Kind("geodiff-srdiff", SRDiffConfig, SRDiff, _srdiff),
}
"""By the name that the command line knows."""


def kind_of(card: Mapping[str, Any]) -> Kind | None:
    """The kind that a card states; None for those of other modules."""
    return next((kind for kind in KINDS.values() if kind.name == card.get("kind")), None)


def make_network(name: str, values: Mapping[str, Any], *, where: str) -> Network:
    """A new network with random weights.

    Args:
        name: a key of ``KINDS``.
        values: fields of its configuration, as plain values; those not named keep their defaults.
        where: how the error names their origin.

    Raises:
        UsageError: no such kind or field, or an impossible value.
    """
    if name not in KINDS:
        raise UsageError(f"no network {name!r}: give one of {', '.join(KINDS)}")
    kind = KINDS[name]
    try:
        return kind.module(_checked(kind, values, complete=False))
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def save_network(model: Network, path: Path, *, card: Mapping[str, Any]) -> None:
    """Write ``path`` (.safetensors) and its JSON; see ``checkpoint.save_checkpoint``."""
    name = next(kind.name for kind in KINDS.values() if kind.module is type(model))
    write_checkpoint(model, path, kind=name, config=dataclasses.asdict(model.config), card=card)


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """Load a network in evaluation mode, with its card.

    Raises:
        GeodiffError: missing, a pickle, corrupt, not the file that the card describes, or of another kind.
    """
    check_weights(path)
    card = read_card(path, tuple(kind.name for kind in KINDS.values()))
    kind = kind_of(card)
    assert kind is not None, "read_card takes no other"
    raw = card.get("config")
    if not isinstance(raw, dict):
        raise GeodiffError(f"the card beside {path} has no configuration")
    try:
        config = _checked(kind, raw, complete=True)
    except ValueError as error:
        raise GeodiffError(f"the configuration beside {path}: {error}") from None
    return read_model(path, card, lambda: kind.module(config)), card


def network_resolver(path: Path, name: str) -> Resolver:
    """A stored network behind the protocol of a resolver.

    Raises:
        GeodiffError: as ``load_network``, or a card that asks for an impossible number of steps.
    """
    model, card = load_network(path)
    kind = kind_of(card)
    assert kind is not None, "load_network takes no other"
    return kind.resolve(name=name, model=model, card=card)


def _checked(kind: Kind, raw: Mapping[str, Any], *, complete: bool) -> NetworkConfig:
    """The configuration that plain values describe.

    Raises:
        ValueError: names or values that no network of the kind has.
    """
    fields = {field.name: field for field in dataclasses.fields(kind.config)}  # type: ignore[arg-type]
    needed = set(fields) if complete else {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    odd = sorted(set(raw) ^ needed if complete else (set(raw) - set(fields)) | (needed - set(raw)))
    if odd:
        raise ValueError(f"{odd[0]} is {'unknown' if odd[0] in raw else 'missing'}, known are {', '.join(fields)}")
    count = len(raw["bands"]) if isinstance(raw["bands"], list | tuple) else 0
    for name, value in raw.items():
        if not _possible(name, value, count):
            raise ValueError(f"{name} has the impossible value {value!r}")
    return kind.config(**{name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()})


def _possible(name: str, value: object, bands: int) -> bool:
    if name == "bands":
        return 1 <= bands <= MAX_SIZE and all(isinstance(band, str) and band for band in _listed(value))
    if name == "residual_scale":
        return len(_listed(value)) == bands and all(_is_share(v) for v in _listed(value))
    least, most = (0 if name == "encoder_blocks" else 1), {"scale": MAX_SCALE, "levels": MAX_LEVELS}.get(name, MAX_SIZE)
    return type(value) is int and least <= value <= most


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(str(value)) < 1 and math.isfinite(float(str(value)))
