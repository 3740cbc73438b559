"""Training: it runs, exports, resumes where it was killed, and never shows what is held out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from geodiff.imagery.places import GAP_PX, Place, read_places, split_places
from geodiff.model.checkpoint import load_checkpoint, save_checkpoint
from geodiff.schema import FloatArray, GeodiffError, UsageError
from geodiff.tasks.train_data import PatchSource, TrainConfig
from geodiff.testing.small_catalog import small_ground

pytest.importorskip("lightning", reason="training needs the extra geodiff[train]")

SIZES = {
    "stem_width": 8,
    "decoder_width": 8,
    "decoder_blocks": 1,
    "detail_width": 2,
    "trunk_width": 8,
    "trunk_heads": 1,
    "trunk_layers": 1,
    "fusion_heads": 2,
}
SMALL: dict[str, Any] = {
    "steps": 4,
    "batch": 2,
    "patch_px": 8,
    "dates": (1, 2),
    "warmup": 2,
    "validate_every": 2,
    "checkpoint_every": 2,
    "threads": 1,
    "sizes": SIZES,
}


def _place(name: str = "a", *, side: tuple[int, int] = (160, 400), dates: int = 1, seed: int = 0) -> Place:
    images = np.stack([small_ground(side, seed=seed + date) for date in range(dates)])
    days = np.arange(dates) * 20.0 + 18_000
    return Place(name, images, days, 40.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one training place: Sentinel-2 bands as in ship chips."""
    folder = tmp_path_factory.mktemp("data") / "sentinel2" / "ship_chips"
    folder.mkdir(parents=True)
    numbers = (small_ground((200, 340)) * 1e4).astype(np.uint16)
    with rasterio.open(
        folder / "place_20200611.tif",
        "w",
        driver="GTiff",
        dtype="uint16",
        count=8,
        height=200,
        width=340,
        transform=Affine(10, 0, 5e5, 0, -10, 4e6),
        crs="EPSG:32631",
    ) as file:
        for band, index in zip((2, 3, 4, 8), range(4), strict=True):
            file.write(numbers[index], band)
    return folder.parents[1]


def _train(data: Path, out: Path, *, start_from: Path | None = None, **settings: Any) -> Path:
    from geodiff.tasks.train_start import start_training

    with warnings.catch_warnings():
        # Lightning advises about loader workers, logging intervals and this machine's devices.
        warnings.simplefilter("ignore")
        config = TrainConfig(**(SMALL | settings))
        return start_training("denoiser", "collection", data, out, config, start_from=start_from)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(data, tmp_path_factory.mktemp("straight"))


def test_two_validations_and_a_checkpoint_that_loads(trained: Path) -> None:
    model, card = load_checkpoint(trained)
    assert model.config.stem_width == 8
    assert [entry["step"] for entry in card["history"]] == [2, 4]
    assert all(np.isfinite(value) for entry in card["history"] for value in entry.values())
    assert card["places"] == ["ships"]
    assert TrainConfig(**card["training"]) == TrainConfig(**SMALL)
    assert max(model.config.residual_scale) < 0.2


def test_a_training_that_is_resumed_ends_with_the_same_weights(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff.tasks.train import Training

    step = Training.training_step

    def failing(self: Training, batch: Any, index: int) -> torch.Tensor:
        if self.global_step == 3:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", failing)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            _train(data, tmp_path, checkpoint_every=3)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    _assert_as_if_never_stopped(_train(data, tmp_path), trained)


def _assert_as_if_never_stopped(found: Path, wanted: Path) -> None:
    weights = _weights(wanted)
    assert all(torch.equal(value, weights[name]) for name, value in _weights(found).items())
    history = [load_checkpoint(path)[1]["history"] for path in (found, wanted)]
    assert history[0] == history[1]


def test_a_training_whose_minutes_are_over_is_done_when_it_is_run_again(data: Path, tmp_path: Path) -> None:
    weights = _train(data, tmp_path, steps=50, minutes=0.0)
    before = [path.read_bytes() for path in (weights, weights.with_suffix(".json"))]
    assert [entry["step"] for entry in load_checkpoint(weights)[1]["history"]] == [1]
    again = _train(data, tmp_path, steps=50, minutes=0.0)
    assert [path.read_bytes() for path in (again, again.with_suffix(".json"))] == before
    further = _train(data, tmp_path, steps=3)
    assert load_checkpoint(further)[1]["history"][-1]["step"] == 3


@pytest.mark.slow
def test_a_killed_training_goes_on(data: Path, trained: Path, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import json, sys, time, warnings
        from pathlib import Path
        warnings.simplefilter("ignore")
        from geodiff.tasks import train, train_start
        step = train.Training.training_step
        def slow(self, batch, index):
            if self.global_step >= 3:
                print("waiting", flush=True)
                time.sleep(600)
            return step(self, batch, index)
        train.Training.training_step = slow
        config = train.TrainConfig(**json.loads(sys.argv[3]))
        train_start.start_training("denoiser", "collection", Path(sys.argv[1]), Path(sys.argv[2]), config)
    """)
    command = [sys.executable, "-c", script, str(data), str(tmp_path), json.dumps(SMALL | {"checkpoint_every": 3})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert any(line.strip() == "waiting" for line in process.stdout)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    _assert_as_if_never_stopped(_train(data, tmp_path), trained)


def test_a_finished_training_is_not_trained_further(data: Path, trained: Path) -> None:
    before = _weights(trained)
    started = time.time()
    again = _train(data, trained.parent)
    assert again == trained
    assert all(torch.equal(value, before[name]) for name, value in _weights(again).items())
    assert (trained.parent / "last.ckpt").stat().st_mtime <= started


def test_a_short_training_that_ended_is_not_trained_further(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff.tasks.train import Training

    first = _train(data, tmp_path, steps=1, checkpoint_every=100).read_bytes()

    def step(self: Training, batch: Any, index: int) -> torch.Tensor:
        raise AssertionError("trained further")

    monkeypatch.setattr(Training, "training_step", step)
    assert _train(data, tmp_path, steps=1, checkpoint_every=100).read_bytes() == first


@pytest.mark.parametrize("left", ["nothing", "those before", "no card"])
def test_a_kill_in_the_last_validation_costs_no_weights(
    left: str, data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff.tasks.train_loop import Export

    export = Export.on_validation_end

    def killed(self: Export, trainer: Any, module: Any) -> None:
        if module.global_step == 4:
            raise SystemError("killed")
        export(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(Export, "on_validation_end", killed)
        with pytest.raises(SystemError, match="killed"):
            _train(data, tmp_path)
    assert load_checkpoint(tmp_path / "superres.safetensors")[1]["history"][-1]["step"] == 2
    if left != "those before":
        (tmp_path / "superres.json").unlink()
    if left == "nothing":
        (tmp_path / "superres.safetensors").unlink()
    found = _train(data, tmp_path)
    weights, (_, card) = _weights(trained), load_checkpoint(found)
    assert all(torch.equal(value, weights[name]) for name, value in _weights(found).items())
    assert [entry["step"] for entry in card["history"]] == [2, 4]
    straight = load_checkpoint(trained)[1]["history"][-1]
    assert card["history"][-1] == {name: value for name, value in straight.items() if name != "loss"}


@pytest.mark.parametrize(("settings", "step"), [({}, 2), ({"validate_every": 1}, 1)])
def test_a_training_that_diverges_ends_before_it_saves(
    settings: dict[str, Any], step: int, data: Path, tmp_path: Path
) -> None:
    told = f"diverged at step {step}: lower learning_rate.* no weights were written"
    with pytest.raises(GeodiffError, match=told):
        _train(data, tmp_path / "out", learning_rate=1e30, warmup=1, **settings)
    assert not (tmp_path / "out" / "superres.safetensors").exists()


def test_weights_from_before_a_training_diverged_stay(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff.tasks.train import Training

    step = Training.training_step

    def diverging(self: Training, batch: Any, index: int) -> torch.Tensor:
        return step(self, batch, index) * (float("nan") if self.global_step == 3 else 1.0)

    monkeypatch.setattr(Training, "training_step", diverging)
    with pytest.raises(GeodiffError, match=r"diverged at step 4: .* the weights of step 2 stay"):
        _train(data, tmp_path)
    assert load_checkpoint(tmp_path / "superres.safetensors")[1]["history"][-1]["step"] == 2


def test_every_process_validates_the_same_and_all_of_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.tasks.train import Training, first_model
    from geodiff.tasks.train_sources import collection_data

    config = TrainConfig(**(SMALL | {"validate_batches": 1}))
    opened = collection_data(data, config)
    module = Training(first_model(opened, config, None), config, opened)
    monkeypatch.setattr(Training, "trainer", SimpleNamespace(global_rank=1, world_size=2))
    assert len(module.val_dataloader()) == 1


def test_tuned_weights_keep_the_ground_of_their_first_training(data: Path, trained: Path, tmp_path: Path) -> None:
    first = tmp_path / "first" / "superres.safetensors"
    model, card = load_checkpoint(trained)
    seen = {"places": ["elsewhere"], "training_places": ["elsewhere/1"], "training_digests": {"elsewhere/1": ["00"]}}
    save_checkpoint(model, first, card={**seen, "history": card["history"]})
    tuned = load_checkpoint(_train(data, tmp_path / "tuned", start_from=first, steps=2))[1]
    assert tuned["places"] == ["elsewhere", "ships"]
    assert tuned["training_places"] == ["elsewhere/1", *card["training_places"]]
    assert tuned["training_digests"] == {**seen["training_digests"], **card["training_digests"]}
    assert tuned["started_from"]["sha256"] == load_checkpoint(first)[1]["sha256"]
    with pytest.raises(GeodiffError, match="trained with another start_from"):
        _train(data, tmp_path / "tuned")


def test_resuming_with_other_settings_is_refused(data: Path, trained: Path) -> None:
    with pytest.raises(GeodiffError, match="learning_rate"):
        _train(data, trained.parent, learning_rate=1e-2)
    with pytest.raises(GeodiffError, match="stem_width"):
        _train(data, trained.parent, sizes=SIZES | {"stem_width": 16})


def test_a_damaged_checkpoint_is_named(data: Path, trained: Path, tmp_path: Path) -> None:
    broken = (trained.parent / "last.ckpt").read_bytes()[:5000]
    (tmp_path / "last.ckpt").write_bytes(broken)
    with pytest.raises(GeodiffError, match=r"last\.ckpt cannot be read"):
        _train(data, tmp_path)


def test_a_folder_without_imagery(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="no training imagery"):
        read_places(tmp_path)
    (tmp_path / "sentinel2" / "ship_chips").mkdir(parents=True)
    (tmp_path / "sentinel2" / "ship_chips" / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(GeodiffError, match="ship_chips"):
        read_places(tmp_path)


def _coded(width: int, *, pixel: int, rows: int = 160) -> FloatArray:
    """Every pixel holds the number of the metre of ground at its left edge."""
    metres = np.arange(width, dtype=np.float32) * pixel
    return np.broadcast_to(metres, (1, 4, rows, width)).copy()


def _metres(place: Place, pixel: int) -> set[int]:
    return {int(start) + step for start in np.unique(place.images) for step in range(pixel)}


@pytest.mark.parametrize(("width", "halved"), [(1000, True), (597, True), (597, False), (400, True)])
def test_training_and_held_out_share_no_ground(width: int, halved: bool) -> None:
    day = np.array([0.0])
    places = [Place("va/1m", _coded(width, pixel=1), day, 10.0, "va")]
    if halved:
        places.append(Place("va/2m", _coded(width // 2, pixel=2), day, 10.0, "va"))
    places.append(Place("small", _coded(200, pixel=1) + 10_000, day, 10.0))
    train, held = split_places(places)
    pixel = {"va/1m": 1, "va/2m": 2, "small": 1}
    trained = set().union(*(_metres(place, pixel[place.name]) for place in train))
    kept = set().union(*(_metres(place, pixel[place.name]) for place in held))
    assert held
    assert trained
    assert not trained & kept
    ours = {metre for metre in trained if metre < 10_000}
    assert min(kept) - max(ours) > GAP_PX, "the sensor's blur does not reach over"
    assert any(place.name == "small" for place in train), "too small to be cut"


def test_patches_repeat_and_go_on_where_they_were() -> None:
    config = TrainConfig(**SMALL)
    places = [_place(dates=3), _place("b", seed=9)]
    straight = iter(PatchSource(places, config, scale=4))
    batches = [next(straight) for _ in range(4)]
    resumed = next(iter(PatchSource(places, config, scale=4, start=3)))
    assert all(torch.equal(a, b) for a, b in zip(batches[3], resumed, strict=True))
    other = next(iter(PatchSource(places, config, scale=4, seed=1)))
    assert not torch.equal(other[0][0, 0], batches[0][0][0, 0])
    for truth, days, pixel_m in batches:
        assert truth.shape[2:] == (4, 32, 32)
        assert truth.shape[1] == days.shape[1] in (1, 2)
        assert (days[:, 0] == 0).all()
        assert set(pixel_m.tolist()) <= {20.0, 40.0, 80.0}


def test_places_smaller_than_a_patch_are_left_out() -> None:
    config = TrainConfig(**(SMALL | {"patch_px": 32}))
    small, large = _place("small", side=(100, 400)), _place("large")
    assert [place.name for place in PatchSource([small, large], config, scale=4).places] == ["large"]
    with pytest.raises(GeodiffError, match="128 pixels"):
        PatchSource([small], config, scale=4)


def test_places_that_never_count_are_refused() -> None:
    config = TrainConfig(**(SMALL | {"place_weights": {"a": 0.0}}))
    with pytest.raises(UsageError, match="place_weights"):
        PatchSource([_place("a")], config, scale=4)
    PatchSource([_place("a"), _place("b")], config, scale=4)


def test_places_without_ground_end_the_training() -> None:
    dark = _place("dark")
    empty = replace(dark, images=np.zeros_like(dark.images))
    with pytest.raises(GeodiffError, match="zero or negative"):
        next(iter(PatchSource([empty], TrainConfig(**SMALL), scale=4)))


def test_patches_have_the_bands_of_their_places() -> None:
    place = _place("six")
    six = replace(place, images=place.images[:, [0, 1, 2, 3, 0, 1]])
    truth, _, _ = next(iter(PatchSource([six], TrainConfig(**SMALL), scale=4)))
    assert truth.shape[2] == 6


def test_the_real_split_holds_ground_out(geodiff_data: Path) -> None:
    train, held = split_places(read_places(geodiff_data))
    assert len(train) > 10
    assert held
    names = {place.name for place in train}
    assert not any("boadella" in name.lower() for name in names)
    # NAIP at 1 m and its 2 m average show one ground: what is held out of one is not in the other.
    widths = {place.name: place.images.shape[-1] for place in train}
    assert 2 * widths["naip_va/va_files/2m"] <= 597 - 128
