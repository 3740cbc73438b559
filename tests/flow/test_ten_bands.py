"""Ten bands as a user restores them: odd regions, every worker alike, each band true to its own native pixels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from typer.testing import Result

import geodiff as library
from geodiff.config import MaskConfig, TileConfig
from geodiff.grid import Grid
from geodiff.imagery.catalog import search
from geodiff.imagery.cube import choose_grid, load_cube
from geodiff.imagery.sources import load_source
from geodiff.model.checkpoint import digest, read_card, save_checkpoint
from geodiff.outputs.packing import REFLECTANCE
from geodiff.outputs.stac_items import COMMON_NAMES
from geodiff.schema import BANDS_10M, BANDS_20M, FloatArray, UsageError
from geodiff.sensor import band_mtf, degrade, native_step
from geodiff.tasks.job import Worker
from geodiff.tasks.model_item import model_item
from geodiff.tasks.models import GUIDED_BY, find_model, guided_by, load_resolver
from geodiff.testing.scenes import write_scenes
from geodiff.testing.series import Effects, simulate_series
from geodiff.testing.small_catalog import small_ground
from geodiff.testing.tiny_models import tiny_denoiser

Cli = Callable[..., Result]
TEN = (*BANDS_10M, *BANDS_20M)
DATES = "2021-06-01/2021-09-30"
DAYS = (18_801.0, 18_806.0, 18_826.0)
FIRST_DAY = "20210623"

SCENES = Grid("EPSG:32631", (10.0, 10.0), (500_120.0, 4_600_080.0), (144, 152))
ODD = (3, 5)
SHAPE = (38, 43)
"""Row and column, in pixels of 10 m of the scenes, at which the region begins, and its size: it cuts pixels of 20 m on
all sides, and tiles on two."""


def stored_models(folder: Path) -> Path:
    """A tiny model of the 10 m bands and one that it guides, as they are published; the item of the latter."""
    fine, coarse = folder / "first" / "weights.safetensors", folder / "ten" / "weights.safetensors"
    save_checkpoint(tiny_denoiser(), fine, card={"parameters": 1})
    told = {GUIDED_BY: guided_by(fine, read_card(fine))}
    save_checkpoint(tiny_denoiser(seed=1, guided=True), coarse, card=told)
    for name in ("first", "ten"):
        weights = folder / name / "weights.safetensors"
        resolver = load_resolver(find_model(str(weights)))
        path = folder / f"{name}.json"
        path.write_text(json.dumps(model_item(name, resolver, 1, digest(weights)).to_dict(transform_hrefs=False)))
    return folder / "ten.json"


@dataclass(frozen=True)
class Ground:
    """A catalogue of ten bands, a region that begins within a pixel of 20 m, and a model of all bands."""

    catalog: Path
    model: Path
    bbox: tuple[float, float, float, float]

    def words(self, out: Path, *more: object) -> list[object]:
        where = ["--catalog", self.catalog, "--bbox", *self.bbox, "--datetime", DATES, "--crs", "native"]
        settings = self.catalog.with_name("settings.yaml")
        settings.write_text("ensemble: 1\ntile: {core: 32, feather: 3, halo: 16}\n")
        return ["superres", *where, "--config", settings, "--model", self.model, "--name", "odd", "--out", out, *more]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ten")
    rows, cols = SCENES.shape
    truth = small_ground((4 * rows, 4 * cols), bands=TEN)
    plain = Effects(clouds=0, mask_errors=0)
    series = simulate_series(truth, days=DAYS, seed=3, bands=TEN, effects=plain, anchor=1)
    catalog = write_scenes(series, SCENES, folder / "catalog")
    # A box in degrees leans on the grid of metres: a quarter of a pixel keeps it from touching the next ones.
    left, top = SCENES.origin
    corner = (left + 10 * (ODD[1] + 0.25), top - 10 * (ODD[0] + 0.25))
    inside = Grid(SCENES.crs, SCENES.resolution, corner, (SHAPE[0] - 1, SHAPE[1] - 1))
    return Ground(catalog, stored_models(folder / "models"), inside.bounds_wgs84)


def read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def run(ground: Ground, out: Path, *more: object) -> Path:
    """The job through the command line, two targets of which the first is observed; the store."""
    from typer.testing import CliRunner

    from geodiff.cli import app

    words = [str(word) for word in ground.words(out, "--every", "20D", *more)]
    result = CliRunner().invoke(app, words, prog_name="geodiff")
    assert result.exit_code == 0, result.output
    return Path(read(out / "summary.json")["zarr"])


def files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def store(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(ground, tmp_path_factory.mktemp("straight"), "--workers", 1, "--chunk", 64, "--format", "cog")


def native(ground: Ground, band: str) -> FloatArray:
    """What the file of a scene holds of the first date, as reflectance."""
    (path,) = ground.catalog.parent.rglob(f"*{FIRST_DAY}*/{band}.tif")
    with rasterio.open(path) as file:
        assert file.res == (10.0 * native_step(band),) * 2
        values: FloatArray = file.read(1).astype(np.float32) / np.float32(1e4)
    return values


def test_the_store_and_its_item_name_ten_bands(ground: Ground, store: Path) -> None:
    with xr.open_zarr(store) as cube:
        assert tuple(cube["band"].values) == TEN
        assert cube["reflectance"].sizes == {"time": 2, "band": 10, "y": 4 * SHAPE[0], "x": 4 * SHAPE[1]}
        corner = (float(cube["x"][0]) - 1.25, float(cube["y"][0]) + 1.25)
        assert corner == (SCENES.origin[0] + 10 * ODD[1], SCENES.origin[1] - 10 * ODD[0]), (
            "it begins within a pixel of 20 m"
        )
        assert bool(cube["valid"].all())
        assert np.isfinite(cube["uncertainty"].values).all()
    item = pystac.Item.from_file(read(store.parents[1] / "summary.json")["item"])
    told = item.assets["zarr"].to_dict()
    named = {band["name"]: band.get("eo:common_name") for band in told["bands"]}
    assert tuple(named) == TEN
    assert named == {band: COMMON_NAMES[band] for band in TEN}
    assert item.properties["geodiff:model"] == "ten"


def test_every_band_of_the_store_degrades_to_the_pixels_of_its_file(ground: Ground, store: Path) -> None:
    with xr.open_zarr(store) as cube:
        mean = cube["reflectance"].isel(time=0).values
    # Half a quantum of the packing, and what blending the tiles leaves.
    close = 0.5 * REFLECTANCE.scale + 5e-5
    for index, band in enumerate(TEN):
        step, file = native_step(band), native(ground, band)
        first = [-at % step for at in ODD]
        count = [(size - odd) // step for size, odd in zip(SHAPE, first, strict=True)]
        whole = tuple(slice(4 * odd, 4 * (odd + n * step)) for odd, n in zip(first, count, strict=True))
        seen = degrade(mean[[index]][(slice(None), *whole)], 4 * step, band_mtf((band,)))[0]
        at = [(start + odd) // step for start, odd in zip(ODD, first, strict=True)]
        wanted = file[at[0] : at[0] + count[0], at[1] : at[1] + count[1]]
        # A pixel of 20 m that the region cuts is bound to its part inside: near it the whole ones are seen otherwise.
        inner = np.s_[:, :] if step == 1 else np.s_[3:-3, 3:-3]
        np.testing.assert_allclose(seen[inner], wanted[inner], atol=close, err_msg=band)
        assert np.abs(seen[inner] - wanted[inner]).mean() < 0.3 * REFLECTANCE.scale


def test_workers_and_chunks_change_no_byte(ground: Ground, store: Path, tmp_path: Path) -> None:
    other = run(ground, tmp_path, "--workers", 2, "--chunk", 256)
    # The settings, of which the form of the files beside the store is one, stand in its attributes.
    found, wanted = (
        {name: data for name, data in files_of(each).items() if not name.endswith("zarr.json")}
        for each in (other, store)
    )
    assert len(wanted) > 6
    assert found == wanted
    with xr.open_zarr(store) as one, xr.open_zarr(other) as two:
        xr.testing.assert_equal(one, two)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(
    geodiff: Cli, ground: Ground, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    whole = Worker.run

    def stop_at_the_second(self: Worker, region: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(region)
        return whole(self, region)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "run", stop_at_the_second)
        words = ground.words(tmp_path, "--every", "20D", "--workers", 1, "--chunk", 64, "--format", "cog")
        assert geodiff(*words).exit_code != 0
    assert not (tmp_path / "summary.json").exists()
    resumed = run(ground, tmp_path, "--workers", 1, "--chunk", 64, "--format", "cog")
    assert files_of(resumed) == files_of(store)


def test_geotiffs_have_ten_named_bands(store: Path) -> None:
    files = [Path(path) for path in read(store.parents[1] / "summary.json")["files"] if path.endswith(".tif")]
    assert len(files) == 4, "reflectance and uncertainty of two dates"
    with xr.open_zarr(store) as cube:
        mean = cube["reflectance"].isel(time=0).values
    for path in files:
        with rasterio.open(path) as file:
            assert file.descriptions == TEN
    first = next(path for path in files if FIRST_DAY in path.name and "reflectance" in path.name)
    with rasterio.open(first) as file:
        np.testing.assert_allclose(file.read(9) * file.scales[8] + file.offsets[8], mean[8], atol=1e-6)


def test_pictures_show_true_colour(store: Path) -> None:
    """Each channel of the thumbnail goes with its band more than with any other."""
    (path,) = store.parent.glob("*_thumbnail.png")
    picture = matplotlib.image.imread(path)
    with xr.open_zarr(store) as cube:
        mean = cube["reflectance"].isel(time=-1).values
    rows, cols = (
        np.linspace(0, size - 1, n).astype(int) for size, n in zip(mean.shape[1:], picture.shape, strict=False)
    )
    shown = mean[:, rows][:, :, cols].reshape(10, -1)
    for channel, band in enumerate(("B04", "B03", "B02")):
        alike = [float(np.corrcoef(picture[..., channel].ravel(), each)[0, 1]) for each in shown]
        assert TEN[int(np.argmax(alike))] == band


def test_the_default_model_names_the_models_of_a_band_that_it_lacks(
    geodiff: Cli, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ground.model.parent, tmp_path / "models")
    (tmp_path / "models" / "broken.json").write_text("{}")
    monkeypatch.setattr("geodiff.tasks.models.models_dir", lambda: tmp_path / "models")
    words = ["superres", "--catalog", ground.catalog, "--bbox", *ground.bbox, "--datetime", DATES]
    result = geodiff(*words, "--model", "first", "--bands", "B11", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "model first does not restore B11: it restores B02, B03, B04, B08" in result.stderr
    assert "models that do: ten, bicubic, median, shift-and-add, injection" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def cube(ground: Ground) -> xr.DataArray:
    source = load_source(str(ground.catalog))
    items = search(source, datetime="2021-06-23/2021-06-28")
    grid = choose_grid(items, bbox=ground.bbox, crs="native", source=source)
    return load_cube(items, source=source, bands=TEN, grid=grid, mask=MaskConfig())


def test_a_cube_of_ten_bands_in_python(ground: Ground, store: Path, cube: xr.DataArray) -> None:
    found = library.superres(
        cube, model=str(ground.model), ensemble=1, target="2021-06-23", tile=TileConfig(core=32, feather=3, halo=16)
    )
    assert tuple(found["band"].values) == TEN
    mean = found["reflectance"].values[0]
    with xr.open_zarr(store) as stored:
        wanted = stored["reflectance"].isel(time=0).values
    # The job registers its dates and has more of them: it is the same ground all the same.
    assert mean.shape == wanted.shape
    assert np.abs(mean - wanted).mean() < 0.01


def test_a_cube_without_the_20_m_bands_names_the_models_that_fit_it(
    ground: Ground, cube: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodiff.tasks.models.models_dir", lambda: ground.model.parent)
    four = cube.sel(band=list(BANDS_10M))
    with pytest.raises(
        UsageError, match=r"model ten needs B05, .* B12, which the cube lacks: .* one of first, bicubic"
    ):
        library.superres(four, model="ten")


def test_ten_bands_are_scored_by_their_own_sampling(geodiff: Cli, ground: Ground, tmp_path: Path) -> None:
    words = ["--model", ground.model, "--model", "injection", "--data", ground.catalog, "--out", tmp_path / "report"]
    few = ["--scenario", "observed", "--dates-limit", 1, "--ensemble", 2]
    result = geodiff("evaluate", "superres", *words, *few)
    assert result.exit_code == 0, result.output
    report = read(tmp_path / "report" / "report.json")
    assert report["scored_by"] == ["10m", "20m", *TEN]
    scores = {name: row["scenarios"]["observed"]["all"] for name, row in report["models"].items()}
    assert set(scores) == {"ten", "injection", "bicubic"}
    for band in TEN:
        assert np.isfinite(scores["ten"][f"cpsnr_db_{band}"]["mean"])
    assert scores["injection"]["cpsnr_db_10m"] == scores["bicubic"]["cpsnr_db_10m"]
    assert scores["injection"]["cpsnr_db_20m"]["mean"] > scores["bicubic"]["cpsnr_db_20m"]["mean"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "B12" in page
    assert "20 m" in page
