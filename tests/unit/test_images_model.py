"""The image denoiser: series of any length and order, masks that hold, shifts with the sign of the schema."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from geodiff.model.images import ImageDenoiser, Series
from geodiff.model.raster import grid_neighbours, shift_image
from geodiff.model.reference import build_series
from geodiff.model.simulate import SimulationConfig, simulate
from geodiff.sensor import band_mtf
from geodiff.testing.tiny_models import tiny_denoiser

BANDS = ("B02", "B03", "B04", "B08")
CLOSE = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(scope="module")
def model() -> ImageDenoiser:
    return tiny_denoiser()


def _series(dates: int = 4, rows: int = 16, cols: int = 20, *, seed: int = 0, target: int = 0) -> Series:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, dates, rows // 4, cols // 4), generator=random) < 0.75
    valid = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    shift = torch.rand((1, dates, 2), generator=random) * 2 - 1
    days = torch.rand((1, dates), generator=random) * 200 - 100
    if target >= 0:
        shift[:, target], days[:, target] = 0, 0
    image = torch.rand((1, dates, 4, rows, cols), generator=random) * 0.4
    return build_series(image, valid, days, shift, torch.tensor([target]), torch.tensor([10.0]))[0]


def _run(model: ImageDenoiser, series: Series, *, level: float = 0.6, seed: int = 5) -> Tensor:
    rows, cols = series.reference.shape[-2:]
    batch = len(series.days)
    noise = torch.randn((1, 4, 4 * rows, 4 * cols), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return model(noise.expand(batch, -1, -1, -1), torch.full((batch,), level), model.encode(series))


def _ordered(series: Series, order: Tensor) -> Series:
    return replace(
        series,
        reflectance=series.reflectance[:, order],
        valid=series.valid[:, order],
        days=series.days[:, order],
        shift_px=series.shift_px[:, order],
    )


@pytest.mark.parametrize("dates", [1, 2, 5, 32])
def test_any_number_of_dates(model: ImageDenoiser, dates: int) -> None:
    out = _run(model, _series(dates, 8, 12))
    assert out.shape == (1, 4, 32, 48)
    assert out.isfinite().all()


def test_the_order_of_dates_is_of_no_account(model: ImageDenoiser) -> None:
    series = _series()
    mixed = _run(model, _ordered(series, torch.tensor([2, 3, 0, 1])))
    torch.testing.assert_close(mixed, _run(model, series), **CLOSE)


def test_other_dates_matter(model: ImageDenoiser) -> None:
    series = _series()
    fewer = _run(model, _ordered(series, torch.tensor([0, 1, 2])))
    assert (fewer - _run(model, series)).abs().max() > 1e-4
    later = replace(series, days=series.days * 1.5)
    assert (_run(model, later) - _run(model, series)).abs().max() > 1e-5


def test_garbage_under_the_mask_never_shows(model: ImageDenoiser) -> None:
    series = _series()
    nothing = torch.where(torch.rand_like(series.reflectance) < 0.5, torch.tensor(math.nan), torch.tensor(math.inf))
    dirty = torch.where(series.valid[:, :, None], series.reflectance, nothing)
    assert torch.equal(_run(model, replace(series, reflectance=dirty)), _run(model, series))


def test_the_reference_is_clean_too() -> None:
    series = _series()
    dirty = torch.where(series.valid[:, :, None], series.reflectance, torch.tensor(math.nan))
    again, known = build_series(dirty, series.valid, series.days, series.shift_px, torch.tensor([0]), series.pixel_m)
    assert torch.equal(again.reference, series.reference)
    assert known.any()


def test_a_date_under_full_cloud_changes_nothing(model: ImageDenoiser) -> None:
    series = _series(4)
    hidden = replace(
        series,
        reflectance=torch.cat([series.reflectance, torch.full_like(series.reflectance[:, :1], 9.0)], 1),
        valid=torch.cat([series.valid, torch.zeros_like(series.valid[:, :1])], 1),
        days=torch.cat([series.days, torch.tensor([[33.0]])], 1),
        shift_px=torch.cat([series.shift_px, torch.tensor([[[0.4, -0.9]]])], 1),
    )
    torch.testing.assert_close(_run(model, hidden), _run(model, series), **CLOSE)


def test_elements_of_a_batch_do_not_meet(model: ImageDenoiser) -> None:
    parts = [_series(seed=0), _series(seed=1)]
    names = ("reflectance", "valid", "days", "shift_px", "reference", "observed", "pixel_m")
    both = Series(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
    out = _run(model, both)
    for part, found in zip(parts, out, strict=True):
        torch.testing.assert_close(found[None], _run(model, part), **CLOSE)


def test_a_translation_by_whole_cells_translates_the_inside(model: ImageDenoiser) -> None:
    rows, cols, step = 56, 64, 8
    big = _series(2, rows + step, cols + step, seed=3)
    noise = torch.randn((1, 4, 4 * (rows + step), 4 * (cols + step)), generator=torch.Generator().manual_seed(0))

    def part(top: int, left: int) -> Tensor:
        low = (..., slice(top, top + rows), slice(left, left + cols))
        fine = noise[..., 4 * top : 4 * (top + rows), 4 * left : 4 * (left + cols)]
        cut = replace(
            big,
            reflectance=big.reflectance[low],
            valid=big.valid[low],
            reference=big.reference[low],
            observed=big.observed[low],
        )
        with torch.inference_mode():
            return model(fine, torch.tensor([0.6]), model.encode(cut))

    # Far from the borders, where the padding of the convolutions and of the lattice shows.
    first, second = part(0, 0), part(step, step)
    a = first[..., 4 * 28 : 4 * 44, 4 * 28 : 4 * 44]
    b = second[..., 4 * 20 : 4 * 36, 4 * 20 : 4 * 36]
    assert (a - b).abs().max() < 0.02 * first.std()


def test_pure_noise_is_ignored_at_level_one(model: ImageDenoiser) -> None:
    series = _series()
    torch.testing.assert_close(_run(model, series, level=1.0, seed=1), _run(model, series, level=1.0, seed=2), **CLOSE)
    assert (_run(model, series, level=0.6, seed=1) - _run(model, series, level=0.6, seed=2)).abs().max() > 1e-2


def test_the_size_of_a_pixel_on_the_ground_is_told(model: ImageDenoiser) -> None:
    series = _series()
    coarse = replace(series, pixel_m=torch.tensor([40.0]))
    assert (_run(model, coarse) - _run(model, series)).abs().max() > 1e-5


def test_cells_lie_where_they_are_on_the_ground(model: ImageDenoiser) -> None:
    """Four pixels of 20 m make a cell of 80 m; rows count down, columns to the right."""
    series = replace(_series(rows=8, cols=12), pixel_m=torch.tensor([20.0]))
    with torch.inference_mode():
        place = model.encode(series).lattice.place_m[0]
    assert (place - place[0]).tolist() == [[80.0 * row, 80.0 * col] for row in range(2) for col in range(3)]


def test_a_displaced_date_that_says_so_is_the_date_at_home(model: ImageDenoiser) -> None:
    side, first = 64, 4
    big = torch.rand((1, 1, 4, side + 8, side + 8), generator=torch.Generator().manual_seed(6)) * 0.4
    day, there = torch.tensor([[12.0]]), torch.ones(1, 1, side, side, dtype=torch.bool)

    def series(down: int, right: int, *, told: bool) -> Series:
        shown = big[..., first - down : first - down + side, first - right : first - right + side]
        shift = torch.tensor([[[float(down), float(right)]]]) * told
        home = big[0, :, :, first : first + side, first : first + side]
        return Series(
            shown, there, day, shift, home, torch.zeros(1, side, side, dtype=torch.bool), torch.tensor([10.0])
        )

    # Far from the borders, where the padding of the convolutions and of the lattice shows.
    inner = np.s_[..., 4 * 28 : 4 * 36, 4 * 28 : 4 * 36]
    home, displaced, untold = (
        _run(model, each)[inner]
        for each in (series(0, 0, told=True), series(2, -3, told=True), series(2, -3, told=False))
    )
    assert (displaced - home).abs().max() < 0.1 * (untold - home).abs().max()


def test_neighbours_of_a_raster() -> None:
    index, near = grid_neighbours(3, 4, 1)
    assert index.shape == near.shape == (12, 9)
    assert near.sum(1).tolist() == [4, 6, 6, 4, 6, 9, 9, 6, 4, 6, 6, 4]
    assert sorted(index[5][near[5]].tolist()) == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_content_displaced_down_and_right_comes_home() -> None:
    image = torch.zeros(1, 1, 9, 11)
    image[0, 0, 4, 5] = 1.0
    displaced = torch.zeros_like(image)
    displaced[0, 0, 4 + 2, 5 + 3] = 1.0
    torch.testing.assert_close(shift_image(displaced, torch.tensor([[2.0, 3.0]])), image, atol=1e-6, rtol=0)


def test_the_sign_is_that_of_the_schema() -> None:
    # shift_x_m = 4: every feature lies 4 m too far east; sampling it at x + 4 brings it home.
    x = torch.arange(32, dtype=torch.float32)
    home = x.expand(1, 1, 8, 32)
    too_far_east = home - 1.0
    moved = shift_image(too_far_east.contiguous(), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(moved[..., 2:-2], home[..., 2:-2], atol=1e-4, rtol=0)


def test_half_pixels_are_interpolated_and_the_border_repeats() -> None:
    ramp = torch.arange(8, dtype=torch.float32).expand(1, 1, 4, 8).contiguous()
    moved = shift_image(ramp, torch.tensor([[0.0, 0.5]]))
    torch.testing.assert_close(moved[0, 0, 0, :-1], torch.arange(7) + 0.5, atol=1e-5, rtol=0)
    assert moved[0, 0, 0, -1] == pytest.approx(7.0)


def test_a_simulated_displacement_is_undone_by_what_the_series_says() -> None:
    random = np.random.default_rng(0)
    from scipy import ndimage

    ground = ndimage.gaussian_filter(random.standard_normal((4, 160, 160)), (0, 14, 14), mode="wrap")
    truth = torch.from_numpy((0.2 + 0.05 * ground / ground.std()).astype(np.float32))
    config = SimulationConfig(
        mtf=band_mtf(BANDS),
        mtf_spread=0.0,
        shift_px=1.0,
        shift_error_px=0.0,
        gain=0.0,
        path_reflectance=0.0,
        hazy_date=0.0,
        season=0.0,
        noise_floor=(1e-7, 2e-7),
        photon_noise=(0.0, 0.0),
        cloudy_date=0.0,
        cloudy_target=0.0,
        hidden_target=0.0,
        overmasked_date=0.0,
    )
    images = truth[None, None].expand(1, 6, -1, -1, -1)
    days = torch.tensor([[0.0, 1, 2, 3, 4, 5]])
    series, wanted, known = simulate(images, days, torch.tensor([10.0]), config, torch.Generator().manual_seed(4))
    assert series.shift_px.abs().max() > 0.5
    assert known.all()
    assert torch.equal(wanted[0], truth)
    target = int((series.days[0] == 0).nonzero()[0, 0])
    anchor = series.reflectance[0, target]
    inner = (..., slice(6, -6), slice(6, -6))
    for date in range(6):
        apart = (series.reflectance[0, date] - anchor)[inner].abs().max()
        home = shift_image(series.reflectance[0, date : date + 1], series.shift_px[0, date : date + 1])[0]
        left = (home - anchor)[inner].abs().max()
        # What is left is the blur of the bilinear interpolation.
        assert left < 0.004
        if series.shift_px[0, date].abs().max() > 0.5:
            assert left < 0.2 * apart


def test_a_simulation_repeats_and_its_target_is_among_the_dates() -> None:
    truth = torch.rand(3, 4, 4, 64, 64) * 0.3
    days = torch.tensor([[0.0, 10.0, -20.0, 30.0]]).expand(3, 4)
    config = SimulationConfig(mtf=band_mtf(BANDS))
    pixel = torch.full((3,), 10.0)
    first, second = (simulate(truth, days, pixel, config, torch.Generator().manual_seed(1))[0] for _ in range(2))
    for name in ("reflectance", "valid", "days", "shift_px", "reference", "observed"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert (first.days.sort(1).values == days.sort(1).values).all()
    assert (first.shift_px[first.days == 0] == 0).all()
