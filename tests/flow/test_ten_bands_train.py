"""A model of the 20 m bands, trained and published as a user does: its guide, the ground of both, and loading it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from typer.testing import Result

from geodiff.imagery.places_20m import read_places_20m, split_places_20m
from geodiff.model.checkpoint import read_card, save_checkpoint
from geodiff.model.guided import GuidedResolver
from geodiff.schema import BANDS_10M, BANDS_20M
from geodiff.sensor import band_mtf, degrade, native_step
from geodiff.tasks.leakage import DIGESTS, PLACES, describe_ground
from geodiff.tasks.models import GUIDED_BY, find_model, load_resolver
from geodiff.testing.small_catalog import small_ground
from geodiff.testing.tiny_models import random_patch, ten_bands, tiny_denoiser

pytest.importorskip("lightning", reason="training needs the extra geodiff[train]")

Cli = Callable[..., Result]
TEN = (*BANDS_10M, *BANDS_20M)
SETTINGS = f"""
bands: [{", ".join(BANDS_20M)}]
guide: [{", ".join(BANDS_10M)}]
scale: 8
steps: 2
batch: 2
patch_px: 8
dates: [1, 2]
warmup: 1
validate_every: 2
validate_batches: 1
checkpoint_every: 2
threads: 1
sizes: {{stem_width: 8, decoder_width: 8, decoder_blocks: 1, detail_width: 2, trunk_width: 8, trunk_heads: 1,
         trunk_layers: 1, fusion_heads: 2, stride: 2}}
"""


def write_ten_band_place(root: Path, shape: tuple[int, int] = (256, 512)) -> None:
    """A scene of all ten bands in the layout of the training collection, each file at its band's own sampling."""
    folder = root / "sentinel2" / "majortom_t48que"
    folder.mkdir(parents=True)
    ground = small_ground((2 * shape[0], 2 * shape[1]), bands=TEN)
    for image, band in zip(ground, TEN, strict=True):
        step = native_step(band)
        # Of a ground at 5 m: 10 m are twice as coarse, 20 m four times.
        numbers = np.rint(degrade(image[None], 2 * step, band_mtf((band,))) * 1e4).astype(np.uint16)
        with rasterio.open(
            folder / f"{band}.tif",
            "w",
            driver="GTiff",
            dtype="uint16",
            count=1,
            height=numbers.shape[1],
            width=numbers.shape[2],
            transform=Affine(10.0 * step, 0, 5e5, 0, -10.0 * step, 4e6),
            crs="EPSG:32648",
        ) as file:
            file.write(numbers)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ground")
    write_ten_band_place(folder)
    return folder


@pytest.fixture(scope="module")
def models(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one of the 10 m bands, trained on another place and published."""
    folder = tmp_path_factory.mktemp("first")
    random = np.random.default_rng(5)
    other = _Place("elsewhere/1", random.uniform(0.05, 0.3, (1, 4, 96, 96)).astype(np.float32))
    save_checkpoint(
        tiny_denoiser(), folder / "first.safetensors", card={"places": ["elsewhere"], **describe_ground([other])}
    )
    return publish(folder / "first.safetensors", root, folder / "models", "first").parent


def publish(weights: Path, root: Path, folder: Path, *more: str) -> Path:
    """The item of a model, published through the command line as ``name``, with further options."""
    from typer.testing import CliRunner

    from geodiff.cli import app

    words = ["train", "publish", "--weights", weights, "--data", root, "--out", folder, "--name", *more]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "is calibrated on the ground under" in result.stderr
    return Path(result.stdout.strip())


class _Place:
    """Ground that is described, not trained on."""

    def __init__(self, name: str, images: np.ndarray[Any, Any]) -> None:
        self.name, self.images = name, images
        self.days, self.footprint, self.size = np.zeros(1), None, (96, 96)

    def read(self, dates: Any, rows: slice, cols: slice) -> np.ndarray[Any, Any]:
        return self.images[list(dates), :, rows, cols]


@pytest.fixture
def cli(geodiff: Cli) -> Cli:
    """Lightning advises about loader workers, logging intervals and this machine's devices."""

    def run(*words: object) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return geodiff(*words)

    return run


def _settings(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of two steps on the collection."""
    from typer.testing import CliRunner

    from geodiff.cli import app

    folder = tmp_path_factory.mktemp("trained")
    words = ["train", "superres", "--data", "collection", "--root", root, "--config", _settings(folder)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(app, [str(word) for word in (*words, "--out", folder / "out")])
    assert result.exit_code == 0, result.output
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def published(root: Path, models: Path, trained: Path) -> Path:
    return publish(trained, root, models, "ten", "--guide", "first")


def test_the_made_collection_is_read_and_split(root: Path) -> None:
    (place,) = read_places_20m(root)
    assert place.images.shape == (1, 10, 128, 256)
    train, held = split_places_20m([place])
    assert [each.size for each in (*train, *held)] == [(128, 128), (128, 96)]


def test_the_synthetic_world_trains_the_20_m_bands_guided(cli: Cli, tmp_path: Path) -> None:
    words = ["train", "superres", "--data", "synthetic", "--config", _settings(tmp_path), "--steps", 1]
    result = cli(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    card = read_card(Path(result.stdout.strip().splitlines()[-1]))
    assert tuple(card["config"]["bands"]) == BANDS_20M
    assert tuple(card["config"]["guide"]) == BANDS_10M
    assert card["config"]["scale"] == 8


def test_the_card_tells_of_the_guide_and_of_the_ground_of_both(published: Path, models: Path) -> None:
    card = read_card(models / "ten" / "weights.safetensors")
    assert card[GUIDED_BY]["name"] == "first"
    assert len(card[GUIDED_BY]["sha256"]) == 64
    assert card["places"] == ["elsewhere", "majortom"]
    assert card[PLACES] == ["elsewhere/1", "majortom"]
    assert set(card[DIGESTS]) == {"elsewhere/1", "majortom"}
    assert all(card[DIGESTS].values())
    assert "majortom" in card["training_footprints"]
    assert {"1", "2"} <= set(card["conformal"])
    item = pystac.Item.from_file(str(published))
    assert [band["name"] for band in item.properties["mlm:input"][0]["bands"]] == list(TEN)
    assert item.properties["geodiff:scale"] == 4
    sizes = [read_card(models / name / "weights.safetensors")["parameters"] for name in ("first", "ten")]
    assert item.properties["mlm:total_parameters"] == sum(sizes)


def test_what_was_published_restores_ten_bands_with_intervals(published: Path) -> None:
    resolver = load_resolver(find_model(str(published)), bands=TEN)
    assert isinstance(resolver, GuidedResolver)
    assert resolver.bands == TEN
    assert resolver.scale == 4
    found = resolver.restore(ten_bands(random_patch((12, 16), dates=2)), members=2, seed=0)
    assert found.mean.shape == (10, 48, 64)
    assert np.isfinite(found.mean).all()
    assert found.half_width is not None
    assert found.half_width.shape == (len(resolver.levels), 10, 48, 64)
    assert (np.diff(found.half_width, axis=0) >= 0).all(), "wider for more probability"


def test_a_guided_model_is_not_published_without_its_guide(cli: Cli, root: Path, trained: Path, tmp_path: Path) -> None:
    words = ["train", "publish", "--weights", trained, "--data", root, "--out", tmp_path / "models", "--name", "ten"]
    for guide, why in (("bicubic", "guides no model"), ("nothing", "no model 'nothing'")):
        result = cli(*words, "--guide", guide)
        assert result.exit_code == 2
        assert why in result.stderr
    assert not (tmp_path / "models").exists()
