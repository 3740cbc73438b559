"""Training of the peers: it exports what the registry loads, and resumes where it was killed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodiff.imagery.ground import Place
from geodiff.model.networks import KINDS, load_network
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.models import find_model, load_resolver
from geodiff.testing.small_catalog import small_ground
from geodiff.testing.tiny_models import random_patch

pytest.importorskip("lightning", reason="training needs the extra geodiff[train]")

from geodiff.tasks.train_data import TrainConfig, TrainData
from geodiff.tasks.train_networks import train_network
from geodiff.tasks.train_sources import from_ground

SMALL: dict[str, Any] = {
    "steps": 4,
    "batch": 2,
    "patch_px": 8,
    "dates": (1, 3),
    "warmup": 2,
    "validate_every": 2,
    "validate_batches": 1,
    "checkpoint_every": 2,
    "threads": 1,
}
SIZES = {"highresnet": {"width": 8, "encoder_blocks": 1}, "srdiff": {"width": 8, "unet_width": 8, "steps": 12}}


def _config(kind: str, **settings: Any) -> TrainConfig:
    return TrainConfig(**(SMALL | {"sizes": SIZES[kind]} | settings))


def _data(config: TrainConfig) -> TrainData:
    grounds = [
        Place(name, small_ground((96, 128), seed=seed)[None], np.array([18_000.0]), 40.0)
        for name, seed in (("a", 0), ("b", 1))
    ]
    return from_ground("collection", grounds[:1], grounds[1:], config, where="memory")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_ends_with_a_model_that_the_registry_loads(kind: str, tmp_path: Path) -> None:
    config = _config(kind)
    weights = train_network(kind, _data(config), tmp_path, config)
    model, card = load_network(weights)
    assert [entry["step"] for entry in card["history"]] == [2, 4]
    assert all(math.isfinite(value) for entry in card["history"] for value in entry.values())
    assert card["places"] == ["a"]
    assert TrainConfig.parse(card["training"]) == config
    assert model.config.width == 8
    resolver = load_resolver(find_model(str(weights)))
    assert resolver.name == kind
    assert np.isfinite(resolver.restore(random_patch((6, 6)), members=1, seed=0).mean).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_that_is_resumed_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    config = _config(kind)
    data = _data(config)
    straight = load_network(train_network(kind, data, tmp_path / "straight", config))
    broken = _config(kind, checkpoint_every=3)
    _killed_at_step(3, kind, data, tmp_path / "broken", broken)
    resumed = load_network(train_network(kind, data, tmp_path / "broken", broken))
    for name, value in straight[0].state_dict().items():
        assert torch.equal(resumed[0].state_dict()[name], value), name
    assert resumed[1]["history"] == straight[1]["history"]


class _Killed(Exception):
    pass


def _killed_at_step(step: int, kind: str, data: TrainData, out: Path, config: TrainConfig) -> None:
    class Dying:
        def batch(self, number: int) -> Any:
            if number == step:
                raise _Killed
            return data.maker.batch(number)

    mortal = TrainData(data.kind, Dying(), data.held, data.residual_scale, data.notes)
    with pytest.raises(_Killed):
        train_network(kind, mortal, out, config)
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == step


def test_other_settings_are_not_resumed(tmp_path: Path) -> None:
    config = _config("highresnet", steps=1)
    data = _data(config)
    train_network("highresnet", data, tmp_path, config)
    with pytest.raises(GeodiffError, match="another learning_rate"):
        train_network("highresnet", data, tmp_path, config.model_copy(update={"learning_rate": 0.5}))
    other = config.model_copy(update={"sizes": SIZES["srdiff"]})
    with pytest.raises(GeodiffError, match="was trained with another"):
        train_network("srdiff", data, tmp_path, other)
    (tmp_path / "last.ckpt").write_bytes(b"nothing")
    with pytest.raises(GeodiffError, match="cannot be read"):
        train_network("highresnet", data, tmp_path, config)
    anew = train_network("highresnet", data, tmp_path, config, resume=False)
    assert anew.is_file()


def test_no_minutes_are_one_step_and_not_without_end(tmp_path: Path) -> None:
    config = _config("highresnet", minutes=0, steps=50)
    _, card = load_network(train_network("highresnet", _data(config), tmp_path, config))
    assert [entry["step"] for entry in card["history"]] == [1]


def test_weights_that_are_not_of_the_last_step_are_written_again(tmp_path: Path) -> None:
    config = _config("highresnet", validate_every=3, steps=6)
    data = _data(config)
    weights = train_network("highresnet", data, tmp_path, config)
    wanted = weights.read_bytes()
    card = json.loads(weights.with_suffix(".json").read_text())
    card["history"].pop()
    weights.with_suffix(".json").write_text(json.dumps(card))
    weights.write_bytes(b"of an earlier step")
    again = train_network("highresnet", data, tmp_path, config)
    assert again.read_bytes() == wanted
    assert load_network(again)[1]["history"][-1]["step"] == 6


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_that_diverges_ends_before_it_saves(kind: str, tmp_path: Path) -> None:
    config = _config(kind, learning_rate=1e30, warmup=1)
    with pytest.raises(GeodiffError, match=r"diverged at step \d: lower learning_rate"):
        train_network(kind, _data(config), tmp_path, config)
    assert not list(tmp_path.iterdir())


def test_settings_of_the_denoiser_and_unknown_sizes_are_refused(tmp_path: Path) -> None:
    config = _config("highresnet", steps=1)
    data = _data(config)
    with pytest.raises(UsageError, match="compile is for the denoiser"):
        train_network("highresnet", data, tmp_path, config.model_copy(update={"compile": True}))
    with pytest.raises(UsageError, match="sizes: stem_width is unknown"):
        train_network("highresnet", data, tmp_path, config.model_copy(update={"sizes": {"stem_width": 8}}))
