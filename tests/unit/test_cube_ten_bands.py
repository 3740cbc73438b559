"""Ten bands from a catalogue to the plan of a run: native pixels, one parity, dates judged by the bands of 10 m."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr

from geodiff.config import MaskConfig, SuperresConfig
from geodiff.grid import Window
from geodiff.imagery.catalog import search
from geodiff.imagery.coregister import estimate_shifts
from geodiff.imagery.cube import choose_grid, load_cube
from geodiff.imagery.radiometry import band_rule
from geodiff.imagery.ranking import rank_dates
from geodiff.imagery.sources import load_source
from geodiff.schema import BANDS_10M, BANDS_20M, VALID
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.plan import make_plan
from geodiff.testing.series import NO_EFFECTS, Effects, demo_series
from geodiff.testing.series_cubes import series_cube
from geodiff.testing.small_catalog import small_catalog

TEN = BANDS_10M + BANDS_20M
DATES = "2021-06-01/2021-09-30"
Place = tuple[Path, tuple[float, float, float, float]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return small_catalog(tmp_path_factory.mktemp("ten") / "catalogue", bands=TEN)


def cube_of(place: Place, bands: tuple[str, ...], mask: MaskConfig | None = None, chunk: int = 37) -> xr.DataArray:
    source = load_source(str(place[0]))
    items = search(source, bbox=place[1], datetime=DATES)
    grid = choose_grid(items, bbox=place[1], source=source)
    return load_cube(items, source=source, bands=bands, grid=grid, mask=mask or MaskConfig(), chunk=chunk)


def test_the_region_begins_within_a_pixel_of_20_m_and_blocks_keep_their_parity(place: Place) -> None:
    cube = cube_of(place, TEN, MaskConfig(scl_classes=(), dilation_m=0, spectral_screen=False)).compute()
    row0, col0 = CubeSource(cube, TEN).grid.lattice_origin
    assert (row0 % 2, col0 % 2) == (1, 1)
    coarse = cube.sel(band=list(BANDS_20M)).values
    assert np.isfinite(coarse).all()
    blocks = coarse[:, :, 1:, 1:][:, :, : (coarse.shape[2] - 1) // 2 * 2, : (coarse.shape[3] - 1) // 2 * 2]
    times, bands, rows, cols = blocks.shape
    pixels = blocks.reshape(times, bands, rows // 2, 2, cols // 2, 2)
    np.testing.assert_array_equal(pixels, np.broadcast_to(pixels[..., :1, :, :1], pixels.shape))
    # Pixels beside each other differ, also where the other parity would have put them into one block.
    assert (np.diff(blocks[..., 0], axis=2)[:, :, 1::2] != 0).mean() > 0.95


def test_the_pixels_of_20_m_are_those_of_the_files(place: Place) -> None:
    cube = cube_of(place, TEN).compute()
    source, origin = load_source(str(place[0])), CubeSource(cube, TEN).grid.lattice_origin
    catalog = pystac.Catalog.from_file(str(place[0]))
    items = sorted(catalog.get_items(recursive=True), key=lambda item: item.datetime)
    for date, item in zip(cube, items, strict=True):
        for band in BANDS_20M:
            with rasterio.open(item.assets[band].get_absolute_href()) as file:
                native = band_rule(item, band, source).apply(file.read(1))
                first = -round(file.transform.f / 20), round(file.transform.c / 20)
            rows, cols = ((start + np.arange(size)) // 2 for start, size in zip(origin, date.shape[1:], strict=True))
            expected = native[rows - first[0]][:, cols - first[1]]
            seen = date[VALID].values
            assert seen.any()
            np.testing.assert_array_equal(date.sel(band=band).values[seen], expected[seen])


def test_six_more_bands_change_neither_the_others_nor_what_is_known_of_the_dates(place: Place) -> None:
    ten, four = (cube_of(place, bands).compute() for bands in (TEN, BANDS_10M))
    np.testing.assert_array_equal(ten[VALID], four[VALID])
    np.testing.assert_array_equal(ten.sel(band=list(BANDS_10M)), four)
    xr.testing.assert_identical(estimate_shifts(ten), estimate_shifts(four))
    assert rank_dates(ten).equals(rank_dates(four))


def test_the_spectral_screen_sees_the_bands_of_10_m(place: Place) -> None:
    """Without a classification, and asked for bands of 20 m alone: the three that it needs are read beside them."""
    source = load_source(str(place[0])).model_copy(update={"scl": ()})
    items = search(source, bbox=place[1], datetime=DATES)
    grid = choose_grid(items, bbox=place[1], source=source)
    few, many = (
        load_cube(items, source=source, bands=bands, grid=grid, mask=MaskConfig()).compute()
        for bands in (BANDS_20M, TEN)
    )
    assert few.attrs["cloud_mask"] == "spectral"
    assert 0 < float(many[VALID].mean()) < 1
    np.testing.assert_array_equal(few[VALID], many[VALID])


def test_a_mirrored_rim_keeps_the_blocks(place: Place) -> None:
    """What a tile sees beyond a region whose edges cut pixels of 20 m."""
    cube = cube_of(place, TEN, MaskConfig(scl_classes=(), dilation_m=0, spectral_screen=False)).compute()
    source = CubeSource(cube, TEN)
    rows, cols = source.grid.shape
    window = Window(-7, -7, rows + 14, cols + 14)
    coarse = source.read([0], window)[0][0, 4:]
    row0, col0 = (first - 7 for first in source.grid.lattice_origin)
    whole = coarse[:, row0 % 2 :, col0 % 2 :]
    whole = whole[:, : whole.shape[1] // 2 * 2, : whole.shape[2] // 2 * 2]
    np.testing.assert_array_equal(whole, whole[:, ::2, ::2].repeat(2, 1).repeat(2, 2))


def test_a_run_is_planned_with_ten_bands(place: Place, tmp_path: Path) -> None:
    words = {"catalog": str(place[0]), "bbox": list(place[1]), "datetime": DATES, "model": "median"}
    plans = [
        make_plan(
            SuperresConfig.parse({**words, "bands": list(bands)}, where="test"),
            tmp_path,
            name="ten",
            workers=1,
            progress=lambda *_: None,
        )
        for bands in (BANDS_10M, TEN)
    ]
    four, ten = plans
    assert ten.job.spec.bands == TEN
    assert ten.job.spec.grid == four.job.spec.grid
    assert ten.clear == four.clear
    assert ten.job.shifts_m == four.job.shifts_m
    # The light of a band is its own, whatever bands are restored beside it.
    both = [
        np.array(plan.job.targets[0].light)[:, [plan.job.spec.bands.index(band) for band in BANDS_10M]]
        for plan in plans
    ]
    np.testing.assert_array_equal(*both)
    assert [replace(target, light=None) for target in ten.job.targets] == [
        replace(target, light=None) for target in four.job.targets
    ]


def shifted(bands: tuple[str, ...]) -> tuple[xr.DataArray, np.ndarray]:
    """Five clear dates with known shifts against the first, in pixels (down, right)."""
    effects = Effects(**{**NO_EFFECTS.__dict__, "shift_px": 0.6, "noise": 1.0})
    series = demo_series(96, days=(18_900.0, 18_905.0, 18_910.0, 18_915.0, 18_920.0), effects=effects, bands=bands)
    return series_cube(series), series.shift_px - series.shift_px[0]


@pytest.mark.parametrize(
    ("bands", "window_px"), [(TEN, 1024), (("B11", "B08", "B05"), 1024), (BANDS_20M, 1024), (BANDS_20M, 90)]
)
def test_registration_finds_shifts_whatever_the_bands(
    bands: tuple[str, ...], window_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lattice of the blocks, which does not move with the ground, must not hold the estimate back.

    The last window begins in the middle of a block.
    """
    monkeypatch.setattr("geodiff.imagery.coregister.WINDOW_PX", window_px)
    cube, shift_px = shifted(bands)
    found = estimate_shifts(cube, reference=0)
    assert found.shift_trusted.all()
    estimated = np.stack([-found.sel(axis="north") / 10, found.sel(axis="east") / 10], axis=1)
    assert np.sqrt(np.mean((estimated - shift_px) ** 2)) < 0.04


def test_repeated_pixels_of_any_band_are_registered_by_their_own() -> None:
    """Bands of 10 m on a grid of 5 m that begins within one of their pixels; a finer cube is looked at as it is."""
    cube, _ = shifted(BANDS_10M)
    fine = cube.isel(y=np.arange(96).repeat(2), x=np.arange(96).repeat(2))
    x, y = (cube[axis].values.repeat(2) + np.tile((-2.5, 2.5), 96) * sign for axis, sign in (("x", 1), ("y", -1)))
    fine = fine.assign_coords(x=x, y=y).isel(y=slice(1, None), x=slice(1, None))
    found, expected = estimate_shifts(fine, reference=0), estimate_shifts(cube.isel(y=slice(1, 96), x=slice(1, 96)))
    expected = expected - expected.isel(time=0)
    np.testing.assert_allclose(found, expected, atol=0.15)  # metres
