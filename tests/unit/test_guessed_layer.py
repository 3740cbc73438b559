"""The layer of what is guessed: packed in one byte, in store, overviews, COG and item, and only where asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from geodiff.grid import Grid
from geodiff.outputs.cog import write_cogs
from geodiff.outputs.packing import GUESSED
from geodiff.outputs.stac_items import RunRecord, build_item
from geodiff.outputs.zarr_store import StoreSpec, create_store, finalize, regions, write_region

GRID = Grid("EPSG:32631", (2.5, 2.5), (500_000.0, 4_000_000.0), (300, 280))
SPEC = StoreSpec(
    GRID,
    ("B02", "B08"),
    (np.datetime64("2020-01-13T10:50:00", "s"),),
    guessed=True,
    shard=256,
    chunk=64,
    layer_attrs={"uncertainty": {"long_name": "half-width of the 80% interval", "geodiff:level": 0.8}},
)


@pytest.fixture(scope="module")
def guessed() -> np.ndarray:
    values = np.linspace(0, 1, 300 * 280, dtype=np.float32).reshape(300, 280)
    values[40:50, 60:90] = np.nan
    return values


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, guessed: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("store") / "run.zarr"
    create_store(path, SPEC)
    for region in regions(SPEC):
        w = region.window
        part = guessed[w.top : w.top + w.rows, w.left : w.left + w.cols]
        image = np.full((2, *part.shape), 0.2, np.float32)
        write_region(path, SPEC, region, image, image * 0.1, np.isfinite(part), guessed=part)
    finalize(path, SPEC)
    return path


def test_it_comes_back_to_half_a_step(store: Path, guessed: np.ndarray) -> None:
    with xr.open_zarr(store) as found:
        assert found.guessed.dims == ("time", "y", "x")
        np.testing.assert_allclose(found.guessed.values[0], guessed, atol=0.0021)
        assert found.guessed.attrs["units"] == "1"
        assert found.uncertainty.attrs["geodiff:level"] == 0.8
        assert found.uncertainty.attrs["long_name"] == "half-width of the 80% interval"
    with xr.open_zarr(store, group="1", mask_and_scale=False) as half:
        assert half.guessed.dtype == np.uint8
        assert half.guessed.shape == (1, 150, 140)
        assert int(half.guessed[0, 22, 35]) == GUESSED.fill


def test_it_has_a_cog_and_an_asset(store: Path, guessed: np.ndarray, tmp_path: Path) -> None:
    files = write_cogs(store, SPEC, tmp_path)
    path = next(path for path in files if path.stem.endswith("_guessed"))
    with rasterio.open(path) as source:
        assert (source.count, source.dtypes, source.nodata) == (1, ("uint8",), 255)
        assert source.descriptions == ("guessed",)
        values = source.read(1, masked=True) * source.scales[0] + source.offsets[0]
    np.testing.assert_allclose(values.filled(np.nan), guessed, atol=0.0021)
    run = RunRecord("run", GRID, ("B02", "B08"), SPEC.times, 4, 4, "tiny")
    asset = build_item(run, zarr=store, cogs=files).assets[path.stem.removeprefix("run_")]
    assert asset.extra_fields["data_type"] == "uint8"
    assert [band["name"] for band in asset.extra_fields["bands"]] == ["guessed"]


def test_a_store_keeps_it_only_where_asked(tmp_path: Path) -> None:
    image = np.full((2, 256, 256), 0.2, np.float32)
    create_store(tmp_path / "a.zarr", SPEC)
    with pytest.raises(ValueError, match="guessed"):
        write_region(tmp_path / "a.zarr", SPEC, regions(SPEC)[0], image, image, image[0] > 0)
