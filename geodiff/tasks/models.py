"""Models by name: those of the catalogue, files of a user, and the classical baselines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pystac

from geodiff.config import catalogs_dir
from geodiff.model.baselines import BicubicResolver, MedianResolver
from geodiff.model.checkpoint import load_checkpoint, read_card
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import BANDS_10M, GeodiffError, Resolver, UsageError

DEFAULT_MODEL = "s2x4"
BASELINES = ("bicubic", "median")


@dataclass(frozen=True)
class ModelRef:
    """A model that was found but not loaded.

    Attributes:
        name: for reports.
        weights: path of the .safetensors; None for a baseline.
        item: path of its STAC item; None where it has none.
    """

    name: str
    weights: Path | None
    item: Path | None


def models_dir() -> Path:
    """Folder of the models that ship."""
    return catalogs_dir() / "models"


def known_models() -> list[str]:
    """Names that ``find_model`` takes without a path."""
    return [*sorted(path.stem for path in models_dir().glob("*.json")), *BASELINES]


def find_model(name: str) -> ModelRef:
    """Find a model by the name of a shipped one, ``bicubic``, ``median``, or the path of weights or of a STAC item.

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
    if path.is_file():
        return ModelRef(path.stem, path, None)
    raise UsageError(f"no model {name!r}: give a .safetensors file, a STAC item, or one of {', '.join(known_models())}")


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
def _loaded(weights: Path, name: str, passes: int, stamp: int) -> DiffusionResolver:
    model, card = load_checkpoint(weights)
    return DiffusionResolver.calibrated(name, model, card, passes=passes)


def load_resolver(ref: ModelRef, *, passes: int = 2, bands: tuple[str, ...] = BANDS_10M) -> Resolver:
    """Load a model; weights are read once per process.

    Args:
        ref: from ``find_model``.
        passes: evaluations of the denoiser per member.
        bands: that a baseline is to restore; the bands of a trained model are its own.

    Raises:
        GeodiffError: the weights are missing, corrupt, a pickle, or of another model.
        UsageError: bands that the model was not trained on.
    """
    if ref.weights is None:
        return BicubicResolver(bands) if ref.name == "bicubic" else MedianResolver(bands)
    stamp = ref.weights.stat().st_mtime_ns if ref.weights.is_file() else 0
    resolver = _loaded(ref.weights, ref.name, passes, stamp)
    missing = [band for band in bands if band not in resolver.bands]
    if missing:
        have = ", ".join(resolver.bands)
        raise UsageError(f"model {ref.name} does not restore {', '.join(missing)}: it restores {have}")
    return resolver


@dataclass(frozen=True)
class ModelRow:
    """What a table of models shows of one.

    Attributes:
        name: what ``find_model`` takes.
        scale: how many times finer the output is.
        bands: that it restores; none for a baseline, which restores any.
        parameters: their number; 0 for a baseline.
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
    card = read_card(ref.weights)
    config = card.get("config", {})
    figures = card.get("figures") or (card.get("history") or [{}])[-1]
    numbers = {str(key): float(value) for key, value in figures.items() if isinstance(value, int | float)}
    bands = tuple(str(band) for band in config.get("bands", ()))
    return ModelRow(ref.name, int(config.get("scale", 0)), bands, int(card.get("parameters", 0)), numbers)
