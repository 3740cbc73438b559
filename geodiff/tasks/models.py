"""Models by name: those of the catalogue, files of a user, networks of others, and the classical baselines."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pystac

from geodiff.config import catalogs_dir, config_hash
from geodiff.model.back_projection import BackProjectionResolver
from geodiff.model.baselines import BicubicResolver, MedianResolver
from geodiff.model.brightness import BRIGHTNESS
from geodiff.model.checkpoint import KIND, check_weights, digest, load_checkpoint, read_card
from geodiff.model.guided import GuidedResolver
from geodiff.model.injection import InjectionResolver
from geodiff.model.members import SPREAD, SPREAD_HIDDEN
from geodiff.model.networks import KINDS, SAMPLING_STEPS, kind_of, network_resolver
from geodiff.model.plugin import load_plugin
from geodiff.model.plugin_config import plugin_files
from geodiff.model.resolver import OWN_SHARE, DiffusionResolver
from geodiff.schema import BANDS_10M, GeodiffError, Resolver, UsageError

DEFAULT_MODEL = "s2x4"
BASELINES: Mapping[str, Callable[[tuple[str, ...]], Resolver]] = {
    "bicubic": BicubicResolver,
    "median": MedianResolver,
    "shift-and-add": BackProjectionResolver,
    "injection": InjectionResolver,
}
"""Resolvers of any bands that nothing was trained for."""

ALL_KINDS = (KIND, *(kind.name for kind in KINDS.values()))
"""Of checkpoints that ``--model`` takes."""

GUIDED_BY = "guided_by"
"""Key of the card of a guided model: name, SHA-256 and hash of the calibration of the model that guides it."""

PLUGIN_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class ModelRef:
    """A model that was found but not loaded.

    Attributes:
        name: for reports.
        weights: path of the .safetensors; None for a baseline and for a plugin.
        item: path of its STAC item; None where it has none.
        plugin: path of the YAML of somebody else's network; None for our own.
    """

    name: str
    weights: Path | None
    item: Path | None
    plugin: Path | None = None

    def sha256(self) -> str | None:
        """What decides its values, as a hash of files: of the weights, or of a plugin's; None for a baseline.

        Raises:
            GeodiffError: a file that a plugin names is missing.
        """
        if self.plugin is None:
            return digest(self.weights) if self.weights else None
        files = plugin_files(self.plugin)
        missing = next((file for file in files if not file.is_file()), None)
        if missing:
            raise GeodiffError(f"{self.plugin} names {missing}, which is not there")
        return digest(files[0]) if len(files) == 1 else config_hash([digest(file) for file in files])


def calibration_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says beside the weights that decides values: members, intervals, steps of a chain."""
    keys = (SPREAD, SPREAD_HIDDEN, BRIGHTNESS, "conformal", OWN_SHARE, GUIDED_BY, SAMPLING_STEPS)
    return {key: card[key] for key in keys if key in card}


def guided_by(weights: Path, card: Mapping[str, Any]) -> dict[str, str]:
    """What the card of a guided model must say of the model that guides it (``GUIDED_BY``).

    Args:
        weights: of the model that guides.
        card: its card.
    """
    told = {"sha256": digest(weights), "calibration": config_hash(calibration_of(card))}
    return {"name": weights.parent.name if weights.stem == "weights" else weights.stem, **told}


def guide_weights(weights: Path, card: Mapping[str, Any]) -> Path:
    """The weights of the model that guides another, checked: those that the guided model was calibrated with.

    Raises:
        GeodiffError: they are not there, or others.
    """
    found = find_guide(weights, card)
    check_weights(found)
    if guided_by(found, read_card(found)) != card[GUIDED_BY]:
        raise GeodiffError(f"{found} is not the model that {weights} was calibrated with: publish the latter again")
    return found


def find_guide(weights: Path, card: Mapping[str, Any]) -> Path:
    """Where the weights of the model that guides another lie: beside it, or in the catalogue; they are not read.

    Raises:
        GeodiffError: the card names none, or they are not there.
    """
    told = card.get(GUIDED_BY)
    name = str(told.get("name")) if isinstance(told, dict) else ""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise GeodiffError(f"{weights} restores bands that need a guide, and its card names none: publish it again")
    places = [folder / name / "weights.safetensors" for folder in (weights.parent.parent, models_dir())]
    found = next((path for path in (weights.with_name(f"{name}.safetensors"), *places) if path.is_file()), None)
    if found is None:
        raise GeodiffError(f"{weights} is guided by the model {name}, which is neither beside it nor in the catalogue")
    return found


def models_dir() -> Path:
    """Folder of the models that ship."""
    return catalogs_dir() / "models"


def known_models() -> list[str]:
    """Names that ``find_model`` takes without a path."""
    return [*sorted(path.stem for path in models_dir().glob("*.json")), *BASELINES]


def find_model(name: str) -> ModelRef:
    """Find a model by the name of a shipped one or of a baseline, or by the path of a file.

    A file is weights (.safetensors with its .json), a STAC item (.json), or the YAML of a plugin, whose factory runs
    other people's code: only a local path that the user gives leads to one.

    Raises:
        UsageError: no such model; the message lists the known ones.
        GeodiffError: a STAC item that names no local weights.
    """
    if name in BASELINES:
        return ModelRef(name, None, None)
    shipped = models_dir() / f"{name}.json"
    path = shipped if "/" not in name and shipped.is_file() else Path(name).expanduser()
    if path.suffix == ".json" and path.is_file():
        return ModelRef(path.stem, _weights_of(path), path)
    if path.suffix in PLUGIN_SUFFIXES and path.is_file():
        return ModelRef(path.stem, None, None, path.resolve())
    if path.is_file():
        return ModelRef(path.stem, path, None)
    known = ", ".join(known_models())
    raise UsageError(f"no model {name!r}: give a .safetensors file, a STAC item, a plugin's .yaml, or one of {known}")


def _weights_of(path: Path) -> Path:
    try:
        item = pystac.Item.from_file(str(path))
    except Exception as error:  # pystac raises whatever the JSON provokes
        raise GeodiffError(f"model item {path} cannot be read: {error}") from None
    for asset in item.assets.values():
        href = asset.get_absolute_href() or asset.href
        if "mlm:model" in (asset.roles or []) and "://" not in href:
            return Path(href)
    raise GeodiffError(f"model item {path} has no local asset with the role mlm:model: fetch the weights first")


@lru_cache(maxsize=4)
def _loaded(weights: Path, name: str, passes: int, stamps: tuple[int, ...]) -> Resolver:
    check_weights(weights)
    if kind_of(read_card(weights, ALL_KINDS)) is not None:
        return network_resolver(weights, name)
    model, card = load_checkpoint(weights)
    resolver = DiffusionResolver.calibrated(name, model, card, passes=passes)
    if not model.config.guide:
        return resolver
    first = guide_weights(weights, card)
    fine, told = load_checkpoint(first)
    return join_guided(DiffusionResolver.calibrated(name, fine, told, passes=passes), resolver)


def join_guided(fine: DiffusionResolver, coarse: DiffusionResolver) -> GuidedResolver:
    """The resolver of all bands.

    Raises:
        GeodiffError: the two do not fit together.
    """
    try:
        return GuidedResolver(coarse.name, fine, coarse)
    except ValueError as error:
        raise GeodiffError(f"model {coarse.name} and the model that guides it do not fit: {error}") from None


@lru_cache(maxsize=4)
def _plugged(plugin: Path, bands: tuple[str, ...], sha256: str | None) -> Resolver:
    return load_plugin(plugin, bands)


def load_resolver(ref: ModelRef, *, passes: int = 2, bands: tuple[str, ...] = BANDS_10M) -> Resolver:
    """Load a model; weights are read once per process.

    Args:
        ref: from ``find_model``.
        passes: evaluations of the denoiser per member; those of other networks stand in their cards.
        bands: that a baseline or a plugin is to restore; the bands of a trained model are its own.

    Raises:
        GeodiffError: the weights are missing, corrupt, a pickle, or of another model; a plugin fails.
        UsageError: bands that the model was not trained on, or that a plugin needs besides.
    """
    if ref.plugin is not None:
        return _plugged(ref.plugin, bands, ref.sha256())
    if ref.weights is None:
        return BASELINES[ref.name](bands)
    files = (ref.weights, ref.weights.with_suffix(".json"))
    stamps = tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)
    resolver = _loaded(ref.weights, ref.name, passes, stamps)
    missing = [band for band in bands if band not in resolver.bands]
    if missing:
        have, others = ", ".join(resolver.bands), ", ".join(models_that_restore(bands))
        raise UsageError(
            f"model {ref.name} does not restore {', '.join(missing)}: it restores {have}; models that do: {others}"
        )
    return resolver


def models_that_restore(bands: Collection[str]) -> list[str]:
    """Known models that restore all of some bands, trained ones first; baselines restore any."""
    return [name for name, own in _known_bands() if not own or set(bands) <= set(own)]


def models_that_need(bands: Collection[str]) -> list[str]:
    """Known models that need no others than some bands, trained ones first."""
    return [name for name, own in _known_bands() if set(own) <= set(bands)]


def _known_bands() -> list[tuple[str, tuple[str, ...]]]:
    """Names of the known models with their bands, from their cards; one whose card cannot be read is left out."""
    found = []
    for name in known_models():
        with suppress(GeodiffError):
            found.append((name, _describe(find_model(name)).bands))
    return found


@dataclass(frozen=True)
class ModelRow:
    """What a table of models shows of one.

    Attributes:
        name: what ``find_model`` takes.
        scale: how many times finer the output is.
        bands: that it restores; none for a baseline, which restores any.
        parameters: their number, those of a model that guides it included; 0 for a baseline.
        figures: of its card, by name.
    """

    name: str
    scale: int
    bands: tuple[str, ...]
    parameters: int
    figures: dict[str, float]


def describe_models() -> list[ModelRow]:
    """The known models with the figures of their cards; weights are not read.

    Raises:
        GeodiffError: a model item or card that cannot be read.
    """
    return [_describe(find_model(name)) for name in known_models()]


def _describe(ref: ModelRef) -> ModelRow:
    if ref.weights is None:
        return ModelRow(ref.name, load_resolver(ref).scale, (), 0, {})
    card = read_card(ref.weights, ALL_KINDS)
    config = card.get("config", {})
    figures = card.get("figures") or (card.get("history") or [{}])[-1]
    numbers = {str(key): float(value) for key, value in figures.items() if isinstance(value, int | float)}
    bands, guide = (tuple(str(band) for band in config.get(key, ())) for key in ("bands", "guide"))
    # A guided model restores its guide first, at the factor of the finer lattice.
    scale = int(config.get("scale", 0)) // (2 if guide else 1)
    first = read_card(find_guide(ref.weights, card)) if guide else {}
    parameters = int(card.get("parameters", 0)) + int(first.get("parameters", 0))
    return ModelRow(ref.name, scale, (*guide, *bands), parameters, numbers)
