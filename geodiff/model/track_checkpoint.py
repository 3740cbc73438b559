"""Checkpoints of the denoiser of tracks: the format of all checkpoints, with a card of their own kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodiff.model.checkpoint import MAX_LAYERS, MAX_SIZE, check_weights, read_card, read_model, write_checkpoint
from geodiff.model.tracks import TrackConfig, TrackDenoiser
from geodiff.schema import GeodiffError

TRACK_KIND = "geodiff-track-denoiser"


def save_track_checkpoint(model: TrackDenoiser, path: Path, card: Mapping[str, Any]) -> None:
    """Write ``path`` (.safetensors) and its JSON, each atomically, the JSON last.

    Args:
        model: weights are stored as float32.
        path: must end in .safetensors.
        card: data, training settings and figures, JSON-serialisable.
    """
    write_checkpoint(model, path, kind=TRACK_KIND, config=dataclasses.asdict(model.config), card=card)


def load_track_checkpoint(path: Path) -> tuple[TrackDenoiser, dict[str, Any]]:
    """Load a model in evaluation mode, with its card.

    Args:
        path: a .safetensors file with its .json.

    Raises:
        GeodiffError: missing, a pickle, corrupt, not the file that the card describes, or of another model.
    """
    check_weights(path)
    card = read_card(path, (TRACK_KIND,))
    return read_model(path, card, lambda: TrackDenoiser(_config(card, path))), card


def _config(card: Mapping[str, Any], path: Path) -> TrackConfig:
    """The configuration of a card, whose values are checked one by one: they decide how much memory is taken."""
    raw = card.get("config")
    known = {field.name for field in dataclasses.fields(TrackConfig)}
    if not isinstance(raw, dict) or set(raw) != known:
        raise GeodiffError(f"the configuration beside {path} does not name exactly {sorted(known)}")
    scale = raw["payload_scale"]
    good = isinstance(scale, list) and len(scale) == 3 and all(isinstance(v, float) and 0 < v < 100 for v in scale)
    sizes = {name: value for name, value in raw.items() if name != "payload_scale"}
    most = {"layers": MAX_LAYERS}
    wrong = [n for n, value in sizes.items() if type(value) is not int or not 1 <= value <= most.get(n, MAX_SIZE)]
    wrong += [] if good else ["payload_scale"]
    if wrong:
        raise GeodiffError(f"the configuration beside {path} has an impossible value for {wrong[0]}")
    return TrackConfig(**sizes, payload_scale=(scale[0], scale[1], scale[2]))
