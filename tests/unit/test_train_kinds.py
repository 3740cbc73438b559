"""Every kind of training data: one command trains, is killed, goes on; a batch depends on seed and step alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from geodiff.config import catalogs_dir, read_yaml
from geodiff.imagery.real_series import RealSeries, read_series
from geodiff.model.images import Series
from geodiff.model.optics import see
from geodiff.model.raster import upsample
from geodiff.schema import BANDS_10M, GeodiffError, UsageError
from geodiff.sensor import band_mtf
from geodiff.tasks.card_ground import with_terms
from geodiff.tasks.train_data import Fed, Maker, Mixed, Pair, PatchSource, Stream, TrainConfig
from geodiff.tasks.train_pairs import RealSource, Turn
from geodiff.tasks.train_residuals import residual_scales_of
from geodiff.testing.small_catalog import small_ground

pytest.importorskip("lightning", reason="training needs the extra geodiff[train]")

MTF = band_mtf(BANDS_10M)
SMALL: dict[str, Any] = {
    "steps": 3,
    "batch": 2,
    "patch_px": 8,
    "real_patch_px": 8,
    "dates": (1, 2),
    "warmup": 2,
    "validate_every": 3,
    "validate_batches": 1,
    "checkpoint_every": 1,
    "threads": 1,
    "sizes": {
        "stem_width": 8,
        "decoder_width": 8,
        "decoder_blocks": 1,
        "detail_width": 2,
        "trunk_width": 8,
        "trunk_heads": 1,
        "trunk_layers": 1,
        "fusion_heads": 2,
    },
}


def _train(kind: str, root: Path | None, out: Path, **settings: Any) -> Path:
    from geodiff.tasks.train_start import start_training

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning advises about workers and devices
        return start_training("denoiser", kind, root, out, TrainConfig(**(SMALL | settings)))


def _equal(one: Fed, other: Fed) -> bool:
    if isinstance(one, Pair) and isinstance(other, Pair):
        series = [getattr(one.series, name) for name in Series.__dataclass_fields__]
        again = [getattr(other.series, name) for name in Series.__dataclass_fields__]
        pairs = [*zip(series, again, strict=True), (one.target, other.target), (one.clear, other.clear)]
    else:
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if isinstance(a, torch.Tensor)]  # type: ignore[misc]
    return all((a is b is None) or torch.equal(a, b) for a, b in pairs)


def _real(dates: int = 6, side: int = 64, *, name: str = "real/a") -> RealSeries:
    ground = small_ground((side, side))
    images = np.stack([ground * (1 + 0.05 * date) for date in range(dates)]).astype(np.float32)
    valid = np.ones((dates, side, side), bool)
    valid[1, :20] = False
    images[1, :, :20] = 0.9  # a cloud
    return RealSeries(name, images, valid, 18_000.0 + 10 * np.arange(dates), 40.0)


def _no_shift(source: RealSource) -> RealSource:
    source.__dict__["_shifts"] = [np.zeros((len(one.days), 2)) for one in source.usable]
    return source


def test_real_pairs_are_the_real_dates_degraded() -> None:
    config = TrainConfig(**(SMALL | {"batch": 4, "dates": (3,)}))
    source = _no_shift(RealSource([_real()], config, MTF))
    for step in range(6):
        pair = source.batch(step)
        assert pair.series.reflectance.shape == (4, 3, 4, 8, 8)
        assert pair.target.shape == (4, 4, 32, 32)
        assert (pair.series.days == 0).sum() == 4
        target = (pair.series.days == 0).float().argmax(1)
        low = pair.series.reflectance[torch.arange(4), target]
        assert torch.equal(low, see(pair.target, 4, MTF))
        # The other dates are the real ones: 5 % brighter with every ten days.
        for index in range(4):
            for date in range(3):
                if pair.series.valid[index, date].all() and pair.clear[index].all():
                    ratio = float((pair.series.reflectance[index, date] / low[index]).mean())
                    steps = float(pair.series.days[index, date]) / 10
                    first = [1 + 0.05 * number for number in range(6)]
                    assert any(abs(ratio - first[(n + int(steps)) % 6] / first[n]) < 1e-3 for n in range(6))


def test_real_clouds_are_masked_and_never_a_target() -> None:
    config = TrainConfig(**(SMALL | {"batch": 8, "dates": (3,)}))
    source = _no_shift(RealSource([_real()], config, MTF))
    hidden = 0
    for step in range(6):
        pair = source.batch(step)
        assert pair.clear.flatten(1).float().mean(1).min() >= 0.9
        assert (pair.target.amax(1)[pair.clear] < 0.85).all()
        shown = pair.series.reflectance.amax(2)[pair.series.valid]
        assert shown.max() < 0.9, "a degraded pixel with cloud in it counts as hidden"
        hidden += int((~pair.series.observed).flatten(1).any(1).sum())
    assert hidden > 0, "at times the target is hidden from the network"


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    from geodiff.imagery.places import Place

    config = TrainConfig(**SMALL)
    place = Place("a", np.stack([small_ground((64, 64), seed=n) for n in range(3)]), np.arange(3) * 20.0, 40.0)
    plain, real = PatchSource([place], config, scale=4), _no_shift(RealSource([_real()], config, MTF))
    makers: list[Maker] = [plain, real, Mixed(plain, real, 0.5)]
    for maker in makers:
        later = [maker.batch(step) for step in (4, 2, 3)]
        fresh = [maker.batch(step) for step in (2, 3, 4)]
        assert _equal(later[1], fresh[0])
        assert _equal(later[0], fresh[2])
        assert not _equal(fresh[0], fresh[1]) or type(fresh[0]) is not type(fresh[1])
        stream = iter(Stream(maker, start=2))
        assert _equal(next(stream), fresh[0])
        assert _equal(next(iter(Stream(maker, start=1, rank=1, world=2))), fresh[1]), "processes share the steps out"
    kinds = [isinstance(makers[2].batch(step), Pair) for step in range(20)]
    assert 3 < sum(kinds) < 17


def test_workers_do_not_change_the_batches() -> None:
    from torch.utils.data import DataLoader

    maker = _no_shift(RealSource([_real()], TrainConfig(**SMALL), MTF))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch counts the cores
        loader = DataLoader(Stream(maker, start=3), batch_size=None, num_workers=2)
        batches = [batch for _, batch in zip(range(4), loader, strict=False)]
    for step, batch in enumerate(batches, 3):
        assert _equal(batch, maker.batch(step))


def test_a_turn_carries_images_and_displacements_alike() -> None:
    image = np.zeros((1, 1, 9, 9), np.float32)
    image[..., 4 - 2, 4 + 3] = 1.0  # displaced 2 up and 3 right of the middle
    for quarters in range(4):
        for mirror in (False, True):
            turn = Turn(quarters, mirror)
            down, right = turn.shift(np.array([-2.0, 3.0]))
            assert turn.image(image)[0, 0, int(4 + down), int(4 + right)] == 1.0


def test_too_small_series_are_told() -> None:
    with pytest.raises(GeodiffError, match="real_patch_px"):
        RealSource([_real(side=16)], TrainConfig(**SMALL), MTF)


def test_residual_scales_look_at_clear_pixels_only() -> None:
    pair = _no_shift(RealSource([_real()], TrainConfig(**SMALL), MTF)).batch(0)
    spoiled = Pair(pair.series, torch.where(pair.clear[:, None], pair.target, 1e3), pair.clear)
    assert residual_scales_of([spoiled], BANDS_10M) == residual_scales_of([pair], BANDS_10M)


def test_residual_scales_keep_the_digits_of_faint_bands_and_refuse_constant_ones() -> None:
    pair = _no_shift(RealSource([_real()], TrainConfig(**SMALL), MTF)).batch(0)
    base = upsample(pair.series.reference, 4)
    found = residual_scales_of([pair], BANDS_10M)
    faint = residual_scales_of([pair._replace(target=base + 1e-4 * (pair.target - base))], BANDS_10M)
    assert faint == pytest.approx([1e-4 * value for value in found], rel=0.1)
    constant = pair.target.clone()
    constant[:, 1] = base[:, 1]
    with pytest.raises(GeodiffError, match="no detail in band B03"):
        residual_scales_of([pair._replace(target=constant)], BANDS_10M)


@pytest.mark.filterwarnings("ignore")  # Lightning advises about workers and devices
def test_a_killed_training_on_synthetic_places_goes_on_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.model.checkpoint import load_checkpoint
    from geodiff.tasks.train import Training, train_superres
    from geodiff.tasks.train_sources import open_data

    config = TrainConfig(**SMALL)
    data = open_data("synthetic", None, config)
    step = Training.training_step

    def failing(self: Training, batch: Any, index: int) -> torch.Tensor:
        if self.global_step == 2:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", failing)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train_superres(data, tmp_path / "killed", config)
    ends = [train_superres(data, tmp_path / name, config) for name in ("killed", "straight")]
    one, other = (load_checkpoint(end)[0].state_dict() for end in ends)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    with pytest.raises(GeodiffError, match="kind"):
        _train("folder", _orthophotos(tmp_path / "o"), tmp_path / "straight")


def _orthophotos(root: Path) -> Path:
    import rasterio
    from affine import Affine

    root.mkdir()
    for name, seed in (("a_20190601.tif", 1), ("a_20200601.tif", 2)):
        numbers = (small_ground((300, 700), seed=seed) * 1e4).astype(np.uint16)
        profile = {"count": 4, "height": 300, "width": 700, "crs": "EPSG:32631"}
        transform = Affine(1.25, 0, 5e5, 0, -1.25, 4.6e6)
        with rasterio.open(root / name, "w", driver="GTiff", dtype="uint16", transform=transform, **profile) as file:
            file.write(numbers)
    return root


def test_a_folder_of_orthophotos_trains(tmp_path: Path) -> None:
    from geodiff.model.checkpoint import read_card

    weights = _train("folder", _orthophotos(tmp_path / "data"), tmp_path / "out", precision="bf16-mixed")
    card = read_card(weights)
    assert card["places"] == ["a_20190601"]
    assert "a_20190601" in card["training_footprints"]
    assert any("10,000" in message for message in card["messages"])


@pytest.mark.slow
@pytest.mark.timeout(1_200)  # 66 million parameters in bfloat16, on a CPU that may not know it
def test_worldstrat_trains_one_step_of_the_gpu_configuration(tmp_path: Path) -> None:
    from geodiff.model.checkpoint import load_checkpoint
    from geodiff.testing.worldstrat import WorldStratSpec, make_worldstrat

    names = ("ASMSpotter-1-1-1", "Landcover-769876")
    make_worldstrat(tmp_path / "ws", WorldStratSpec(aois=names, parts={names[1]: "val"}, levels=("L2A",), angles=False))
    values = read_yaml(catalogs_dir() / "training" / "worldstrat_gpu.yaml")
    values |= {"patch_px": 16, "dates": [2]}
    config = TrainConfig.parse(
        values | {"steps": 1, "batch": 1, "workers": 0, "validate_every": 1, "validate_batches": 1}
    )
    from geodiff.tasks.train_start import start_training

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = start_training("denoiser", "worldstrat", tmp_path / "ws", tmp_path / "out", config)
    model, card = load_checkpoint(weights)
    assert 40e6 < sum(parameter.numel() for parameter in model.parameters()) < 100e6
    assert card["training_places"] == ["worldstrat/ASMSpotter-1", "worldstrat/ASMSpotter-1-1-1"]
    assert "CC BY-NC" in with_terms(card)["terms"]["worldstrat"]


def test_shipped_settings_are_valid() -> None:
    found = [path for path in sorted((catalogs_dir() / "training").glob("*.yaml")) if "tracks" not in path.stem]
    assert found
    for path in found:  # those of tracks: tests/flow/test_vessels_train.py
        TrainConfig.parse(read_yaml(path), where=str(path))


@pytest.mark.parametrize(
    "odd",
    [
        {"warmup": 0},
        {"batch": 0},
        {"steps": 0},
        {"validate_every": 0},
        {"checkpoint_every": -1},
        {"ema": 1.0},
        {"seed": -1},
        {"pure_noise": 1.2},
        {"passes": [1]},
        {"learning_rate": 0},
        {"place_weights": {"naip": -1}},
        {"patch_px": 4},
        {"real_patch_px": 1},
        {"bands": []},
        {"bands": ["B04", "B04"]},
        {"guide": ["B04", "B02", "B04"]},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(odd))):
        TrainConfig.parse(odd, where="train.yaml")


@pytest.mark.parametrize("sizes", [{"heads": 3}, {"scale": 2}, {"decoder_width": -1}, {"decoder_width": 1 << 20}])
def test_sizes_that_no_model_has_are_refused(sizes: dict[str, int]) -> None:
    from geodiff.tasks.train import first_model
    from geodiff.tasks.train_data import TrainData

    data = TrainData("synthetic", cast(Any, None), (), (0.02,) * 4, {})
    with pytest.raises(UsageError, match=f"sizes: {next(iter(sizes))}"):
        first_model(data, TrainConfig(sizes=sizes), None)


def test_shipped_settings_are_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.cli import app

    def run(config: str) -> str:
        words = ["train", "superres", "--data", "folder", "--out", str(tmp_path / "out"), "--config", config]
        return CliRunner().invoke(app, words).stderr

    monkeypatch.chdir(tmp_path)
    assert "needs --root" in run("worldstrat_gpu")
    assert "worldstrat_none" in run("worldstrat_none")
    # A file of the user's own goes before.
    (tmp_path / "worldstrat_gpu").write_text("steps: 0\n")
    assert "steps" in run("worldstrat_gpu")


def test_the_command_teaches(tmp_path: Path) -> None:
    from geodiff.cli import app

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["train", "superres", "--out", str(tmp_path / "out"), *words])
        assert result.exit_code != 0
        return result.stderr

    assert f"--data collection --root {tmp_path}" in run("--data", str(tmp_path))
    assert "choose among collection, folder, worldstrat, synthetic" in run("--data", "nothing")
    assert "--root" in run("--data", "folder")
    assert "choose among denoiser" in run("--data", "synthetic", "--network", "gan")
    with pytest.raises(UsageError, match="unknown 'clouds'"):
        TrainConfig.parse({"simulation": {"clouds": 1}})


def test_no_reader_touches_what_is_for_tests_only(geodiff_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that the data's README marks *test only* or *demo and validation* are never opened."""
    import rasterio.io

    from geodiff.imagery import places, real_series, scene_file

    seen: list[str] = []

    def spying(original: Any) -> Any:
        def spy(path: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(str(path))
            return original(path, *args, **kwargs)

        return spy

    import xarray as xr

    monkeypatch.setattr(places, "open_scene", spying(scene_file.open_scene))
    monkeypatch.setattr(xr, "open_dataset", spying(xr.open_dataset))
    monkeypatch.setattr(rasterio.io, "DatasetReader", spying(rasterio.io.DatasetReader))
    found = read_series(geodiff_data, BANDS_10M)
    names = [place.name for place in places.read_places(geodiff_data)] + [one.name for one in found.series]
    assert len(seen) > 30
    forbidden = ("boadella", "t33twm", "/stac/", "/sar/", "hampton", "/formats/")
    assert not [path for path in (*seen, *names) if any(word in path.lower() for word in forbidden)]
    # Nine of eleven cubes lack a band or are too small; each is told.
    assert {one.name for one in found.series} >= {"openeo/bap_quintad_cdse", "openeo/test_optical_cube"}
    assert len(found.left_out) == 9
    assert all(folder in real_series.SERIES or "/" in folder for folder in places.READERS)
