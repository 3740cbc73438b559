"""Checkpoints: safetensors for the weights, JSON beside it for everything else. Never pickles.

``NAME.safetensors`` holds tensors; ``NAME.json`` holds the kind and configuration of the model, the SHA-256 of the
weights, the data, the training settings and the figures. Both are hostile until checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from geodiff.model.brightness import BRIGHTNESS, check_brightness
from geodiff.model.conformal import check_tables
from geodiff.model.images import ImageConfig, ImageDenoiser
from geodiff.model.members import SPREAD, SPREAD_HIDDEN, check_filters
from geodiff.schema import GeodiffError

Net = TypeVar("Net", bound=nn.Module)

KIND = "geodiff-image-denoiser"
FORMAT = 1
MAX_GUIDE = 32
MAX_SIZE = 4096
"""Largest width or count that a configuration may ask for; the models of the project stay far below."""

MAX_LAYERS = 64
_MOST = {"trunk_layers": MAX_LAYERS, "reach": 8}
"""Less for some: no weight bears the mark of ``reach``, and each cell gathers (2 reach + 1)² others."""


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_checkpoint(model: ImageDenoiser, path: Path, card: Mapping[str, Any]) -> None:
    """Write ``path`` (.safetensors) and its JSON, each atomically, the JSON last.

    Args:
        model: weights are stored as float32.
        path: must end in .safetensors.
        card: data, training settings and figures, JSON-serialisable.
    """
    write_checkpoint(model, path, kind=KIND, config=dataclasses.asdict(model.config), card=card)


def write_checkpoint(
    model: nn.Module, path: Path, *, kind: str, config: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """``save_checkpoint`` for a network of any kind, with its configuration as plain values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, partial)
    os.replace(partial, path)
    record = {
        "format": FORMAT,
        "kind": kind,
        "config": config,
        "sha256": digest(path),
        "parameters": sum(p.numel() for p in model.parameters()),
        **card,
    }
    write_card(path, record)


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write the JSON beside the weights ``path``, atomically; figures that are no numbers become null."""
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(_known(card), indent=2, sort_keys=True, allow_nan=False) + "\n")
    os.replace(partial, path.with_suffix(".json"))


def _known(value: object) -> object:
    """Plain values with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_calibration(card: Mapping[str, Any], where: Path) -> None:
    """Refuse a spread or intervals that no calibration writes: they decide what users are told of errors.

    Raises:
        GeodiffError: saying which of the two, and why.
    """
    config = card.get("config")
    bands = config.get("bands") if isinstance(config, dict) else None
    count = len(bands) if isinstance(bands, list) else 0
    filters, tables = partial(check_filters, bands=count), partial(check_tables, bands=count)
    told: dict[str, Callable[[object], None]] = {
        SPREAD: filters,
        SPREAD_HIDDEN: filters,
        BRIGHTNESS: partial(check_brightness, bands=count),
        "conformal": tables,
    }
    for key, check in told.items():
        try:
            check(card.get(key, {}))
        except ValueError as error:
            raise GeodiffError(f"{where}: its {key} is not one: {error}; calibrate the model again") from None


def read_card(path: Path, kinds: tuple[str, ...] = (KIND,)) -> dict[str, Any]:
    """Read the JSON beside a checkpoint.

    Args:
        path: of the weights.
        kinds: of networks that are welcome.

    Raises:
        GeodiffError: no JSON, not JSON, or of another kind of model.
    """
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text())
    except FileNotFoundError:
        raise GeodiffError(f"weights {path} have no {card_path.name} beside them: both files make a model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise GeodiffError(f"model card {card_path} cannot be read: {error}") from None
    if not isinstance(card, dict) or card.get("kind") not in kinds or card.get("format") != FORMAT:
        raise GeodiffError(
            f"{card_path} does not describe a {' or '.join(kinds)} of format {FORMAT}: these weights are of another "
            "model"
        )
    _check_calibration(card, card_path)
    return card


def _config(card: Mapping[str, Any], path: Path) -> ImageConfig:
    """The configuration of a card, whose values are checked one by one: they decide how much memory is taken.

    Raises:
        GeodiffError: other names than those of ``ImageConfig``, or a value that no model of ours has.
    """
    raw = card.get("config")
    known = {field.name for field in dataclasses.fields(ImageConfig)}
    # Cards from before there were guides do not name them.
    if not isinstance(raw, dict) or set(raw) | {"guide"} != known:
        raise GeodiffError(f"the configuration beside {path} does not name exactly {sorted(known)}")
    bands = raw["bands"]
    for name, value in raw.items():
        if name == "bands":
            good = isinstance(value, list) and bool(value) and all(isinstance(band, str) for band in value)
        elif name == "guide":
            good = isinstance(value, list) and len(value) <= MAX_GUIDE and all(isinstance(band, str) for band in value)
        elif name in ("residual_scale", "mtf"):
            good = isinstance(value, list) and len(value) == len(bands) and all(_between(v, 0, 1) for v in value)
        else:
            least = 0 if name in ("stem_blocks", "decoder_blocks", "trunk_layers", "reach") else 1
            good = type(value) is int and least <= value <= _MOST.get(name, MAX_SIZE)
        if not good:
            raise GeodiffError(f"the configuration beside {path} has an impossible value for {name}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return ImageConfig(**values)


def _between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low < value < high


def build(make: Callable[[], Net], state: Mapping[str, torch.Tensor]) -> Net:
    """The network that ``make`` makes, with its weights; shapes are compared first, without taking memory for them.

    Raises:
        ValueError: names, shapes or the configuration do not fit.
    """
    try:
        with torch.device("meta"):
            wanted = {name: value.shape for name, value in make().state_dict().items()}
    except (RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"no such model can be built ({str(error).splitlines()[0]})") from None
    wrong = sorted(n for n in wanted.keys() | state.keys() if n not in state or wanted.get(n) != state[n].shape)
    if wrong:
        raise ValueError(f"{len(wrong)} tensors are missing, unknown or of another shape, the first {wrong[0]}")
    model = make()
    model.load_state_dict(dict(state), strict=True)
    return model


def check_weights(path: Path) -> None:
    """Refuse what is not a safetensors file, before anything of it is read.

    Raises:
        GeodiffError: missing, unreadable, a pickle, or of another suffix.
    """
    if not path.is_file():
        raise GeodiffError(f"no weights at {path}: give a .safetensors file or the name of a model in the catalogue")
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise GeodiffError(f"weights {path} cannot be read: {error.strerror}") from None
    # Eight bytes of length come first, then JSON: one length in 32 begins like a pickle.
    pickled = (head[:2] == b"PK" or head[:1] == b"\x80") and head[8:] != b"{"
    if path.suffix != ".safetensors" or pickled:
        raise GeodiffError(
            f"{path} is not a safetensors file (pickles can run code and are never loaded): convert it first"
        )


def read_model(path: Path, card: Mapping[str, Any], make: Callable[[], Net]) -> Net:
    """The network of a card, in evaluation mode, with the weights of ``path``, which must be those of the card.

    Raises:
        GeodiffError: not the file that the card describes, corrupt, of another model, or not finite.
    """
    if digest(path) != card.get("sha256"):
        raise GeodiffError(
            f"{path} is not the file that {path.stem}.json describes (SHA-256 differs): fetch both again"
        )
    try:
        state = load_file(path)
        model = build(make, state)
    except (SafetensorError, ValueError) as error:
        raise GeodiffError(f"weights {path} do not fit the model that {path.stem}.json describes: {error}") from None
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise GeodiffError(
            f"weights {path} hold values that are not numbers: the training diverged or the file is damaged"
        )
    return model.eval()


def load_checkpoint(path: Path) -> tuple[ImageDenoiser, dict[str, Any]]:
    """Load a model in evaluation mode.

    Args:
        path: a .safetensors file with its .json.

    Returns:
        The model and its card.

    Raises:
        GeodiffError: missing, a pickle, corrupt, not the file that the card describes, or of another model.
    """
    check_weights(path)
    card = read_card(path)
    model = read_model(path, card, lambda: ImageDenoiser(_config(card, path)))
    return model.to(memory_format=torch.channels_last), card  # type: ignore[call-overload]
