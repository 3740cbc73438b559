"""Checkpoints: what is stored comes back, and nothing else is let in."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from geodiff.model.checkpoint import check_weights, digest, load_checkpoint, read_card, save_checkpoint
from geodiff.schema import GeodiffError
from geodiff.testing.tiny_models import tiny_config, tiny_denoiser, tiny_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tiny_weights(tmp_path)


def _refused(path: Path) -> str:
    with pytest.raises(GeodiffError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert "\n" not in message
    assert path.stem in message
    return message


def _sign(path: Path) -> None:
    """Make the card vouch for whatever the weights are now."""
    _edit(path, lambda card: card.update(sha256=digest(path)))


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card_path = path.with_suffix(".json")
    card = json.loads(card_path.read_text())
    change(card)
    card_path.write_text(json.dumps(card))


def test_figures_that_are_no_numbers_are_null_in_the_card(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(tiny_denoiser(), path, card={"figures": {"a": float("nan"), "b": [float("inf"), 1.5, None, "c"]}})
    assert "NaN" not in path.with_suffix(".json").read_text()
    assert read_card(path)["figures"] == {"a": None, "b": [None, 1.5, None, "c"]}


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    model = tiny_denoiser(seed=5)
    path = tmp_path / "new" / "model.safetensors"
    save_checkpoint(model, path, card={"figures": {"gain_db": 2.5}, "spread": {"2": 1.2}})
    found, card = load_checkpoint(path)
    assert found.config == model.config
    assert not found.training
    assert card["figures"] == {"gain_db": 2.5}
    assert card["spread"] == {"2": 1.2}
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    wanted = model.state_dict()
    assert found.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())
    assert torch.equal(found.residual_scale, model.residual_scale)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.json", "model.safetensors"]


def test_storing_again_replaces_both_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for seed in (0, 1):
        save_checkpoint(tiny_denoiser(seed=seed), path, card={})
    found, _ = load_checkpoint(path)
    assert torch.equal(found.detail.weight, tiny_denoiser(seed=1).detail.weight)


class _Bomb:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights.bin"])
@pytest.mark.parametrize("form", ["torch", "legacy", "pickle0", "pickle5"])
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, name: str, form: str) -> None:
    path, mark = tmp_path / name, tmp_path / "ran"
    content = {"a": _Bomb(mark)}
    if form == "torch":
        torch.save(content, path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(form[-1])))
    tiny_weights(tmp_path).with_suffix(".json").rename(path.with_suffix(".json"))
    if path.suffix == ".safetensors":
        _sign(path)
    _refused(path)
    assert not mark.exists()


def test_a_torch_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save(tiny_denoiser().state_dict(), path)
    assert "pickle" in _refused(path)


def test_no_length_of_a_header_makes_weights_a_pickle(tmp_path: Path) -> None:
    seen = set()
    for letters in range(1, 300):
        path = tmp_path / "net.safetensors"
        save_file({"w" * letters: torch.zeros(1)}, path)
        seen.add(path.read_bytes()[0])
        check_weights(path)
    assert 0x80 in seen


def test_missing_files(weights: Path, tmp_path: Path) -> None:
    assert "no weights" in _refused(tmp_path / "other.safetensors")
    _refused(tmp_path)
    weights.with_suffix(".json").unlink()
    assert "tiny.json" in _refused(weights)


def test_bytes_that_the_card_does_not_vouch_for(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    assert "SHA-256" in _refused(weights)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_truncated_file_even_when_signed(weights: Path, keep: int) -> None:
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "SHA-256" in _refused(weights)
    _sign(weights)
    _refused(weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(weights: Path, value: float) -> None:
    state = load_file(weights)
    state["detail.bias"][0] = value
    save_file(state, weights)
    _sign(weights)
    assert "not numbers" in _refused(weights)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_of_another_model(weights: Path, change: str) -> None:
    state = load_file(weights)
    if change == "missing":
        del state["detail.bias"]
    elif change == "unknown":
        state["teleport"] = torch.zeros(3)
    else:
        state["detail.bias"] = torch.zeros(5)
    save_file(state, weights)
    _sign(weights)
    assert ("teleport" if change == "unknown" else "detail.bias") in _refused(weights)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "resnet"),
        ("kind", None),
        ("format", 2),
        ("spread", {"wide": 1.0}),
        ("spread", {"2": -1.0}),
        ("config", None),
        ("config", {}),
        ("config", []),
    ],
)
def test_a_card_of_something_else(weights: Path, key: str, value: object) -> None:
    _edit(weights, lambda card: card.update({key: value}))
    _refused(weights)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stem_width", 24),
        ("stem_width", 10**9),
        ("stem_width", -1),
        ("stem_width", "16"),
        ("decoder_blocks", 10**9),
        ("decoder_blocks", 2.5),
        ("trunk_heads", 0),
        ("trunk_heads", 3),
        ("scale", 0),
        ("stride", 0),
        ("bands", []),
        ("bands", "B02"),
        ("bands", ["B02", "B03", "B04"]),
        ("residual_scale", [0.1]),
        ("residual_scale", [0.1, 0.1, 0.1, float("nan")]),
        ("mtf", [0.2, 0.2, 0.2, 1.5]),
        ("mtf", None),
        ("extra", 1),
    ],
)
def test_a_configuration_that_no_model_has(weights: Path, name: str, value: object) -> None:
    _edit(weights, lambda card: card["config"].update({name: value}))
    _refused(weights)


@pytest.mark.parametrize(("name", "most"), [("reach", 8), ("trunk_layers", 64)])
def test_reach_and_layers_have_limits_of_their_own(weights: Path, name: str, most: int) -> None:
    _edit(weights, lambda card: card["config"].update({name: most + 1}))
    assert f"impossible value for {name}" in _refused(weights)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\u0000", '"geodiff"', pytest.param("[" * 100_000, id="deep")])
def test_a_card_that_is_no_card(weights: Path, text: str) -> None:
    weights.with_suffix(".json").write_text(text)
    _refused(weights)
    weights.with_suffix(".json").write_bytes(b"\xff\xfe{}")
    _refused(weights)


def test_the_card_alone_can_be_read(weights: Path) -> None:
    card = read_card(weights)
    assert card["config"]["bands"] == list(tiny_config().bands)
    assert card["sha256"] == digest(weights)
