"""Registration, radiometry and resampling of WorldStrat's high resolution, on arrays whose truth is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.imagery.worldstrat_pair import Matched, match_high
from geodiff.imagery.worldstrat_radiometry import match_band
from geodiff.imagery.worldstrat_resample import reached, resample, resample_matrix
from geodiff.schema import BoolArray, FloatArray, GeodiffError
from geodiff.sensor import band_mtf, degrade
from geodiff.testing.landscape import landscape

BANDS = ("B02", "B03", "B04", "B08")
ABOUT = {
    "aoi": "Landcover-1",
    "kind": "ps",
    "hr_time": "2018-01-01T00:00:00Z",
    "reference_time": "2018-01-02T10:00:00Z",
}
LOW = (44, 40)
HIGH = (293, 266)
GAINS = np.array([1.3, 0.8, 1.0, 0.6], np.float32)[:, None, None]
OFFSETS = np.array([-0.03, 0.0, 0.02, 0.01], np.float32)[:, None, None]


@lru_cache(maxsize=1)
def ground() -> FloatArray:
    image = landscape((LOW[0] * 8, LOW[1] * 8), pixel_m=1.25, origin_px=(0, 512), seed=5)
    image.flags.writeable = False
    return image


@lru_cache(maxsize=1)
def low() -> FloatArray:
    seen = degrade(ground(), 8, band_mtf(BANDS))
    seen.flags.writeable = False
    return seen


def high(shift_px: tuple[float, float]) -> FloatArray:
    """The ground displaced (down, right) by low-resolution pixels, in other numbers."""
    moved = resample(ground(), HIGH, (-8 * shift_px[0], -8 * shift_px[1]))
    return ((moved - OFFSETS) / GAINS).astype(np.float32)


def match(image: FloatArray, seen: FloatArray, valid: BoolArray | None = None, *, scale: int = 4) -> Matched:
    mask = np.ones(LOW, np.bool_) if valid is None else valid
    return match_high(image, seen, mask, scale=scale, about=ABOUT, pixel_m=(10.0, 10.0))


@settings(max_examples=12, deadline=None)
@given(st.floats(-2.5, 2.5), st.floats(-2.5, 2.5))
def test_any_shift_and_radiometry_is_found(down: float, right: float) -> None:
    found = match(high((down, right)), low()).transform
    assert found.trusted
    assert np.allclose(found.shift_px, (down, right), atol=0.02)
    assert np.allclose(np.array(found.gains), GAINS.ravel(), rtol=0.01)
    assert np.allclose(np.array(found.offsets), OFFSETS.ravel(), atol=0.002)
    assert found.residual_px < 0.01


def test_the_sign_of_the_shift_is_that_of_the_content() -> None:
    assert match(high((1.5, 0.0)), low()).transform.shift_px[0] == pytest.approx(1.5, abs=0.05)
    assert match(high((0.0, 1.5)), low()).transform.shift_m[1] == pytest.approx(15, abs=0.5)


def test_clouds_of_the_low_resolution_do_not_move_the_high() -> None:
    rows, cols = np.indices(LOW)
    hidden = ((rows - 10) ** 2 + (cols - 12) ** 2 < 130) | (rows + cols > 60)
    cloudy = np.where(hidden, np.float32(0.7), low()).astype(np.float32)
    found = match(high((0.4, -0.7)), cloudy, ~hidden).transform
    assert 0.3 < hidden.mean() < 0.5
    assert np.allclose(found.shift_px, (0.4, -0.7), atol=0.03)
    assert np.allclose(np.array(found.gains), GAINS.ravel(), rtol=0.01)
    assert found.changed == 0


def test_what_changed_is_not_clear_and_does_not_bend_the_line() -> None:
    """A cloud over the high resolution that no mask of the low knows."""
    image = high((0.2, 0.3))
    image[:, 60:130, 60:140] = 0.9
    found = match(image, low())
    assert not found.clear[10:18, 10:19].any()
    assert found.clear[26:40, 5:35].all()
    assert np.allclose(np.array(found.transform.gains), GAINS.ravel(), rtol=0.01)
    assert 0.02 < found.transform.changed < 0.15


def test_what_the_high_resolution_does_not_reach_is_not_clear() -> None:
    found = match(high((2.0, 0.0)), low())
    gone = np.isnan(found.truth).any(axis=0)
    assert gone[-8:].all()
    assert not gone[4:-10].any()
    assert not found.clear[-2:].any()
    assert found.clear[2:-4].all()


def test_nodata_of_the_high_resolution_is_left_out() -> None:
    image = high((0.3, 0.1))
    image[:, :, :40] = 0
    found = match(image, low())
    assert np.isnan(found.truth[:, :, :20]).all()
    assert not found.clear[:, :6].any()
    assert np.allclose(found.transform.shift_px, (0.3, 0.1), atol=0.03)
    assert np.allclose(np.array(found.transform.gains), GAINS.ravel(), rtol=0.01)


def test_another_place_is_not_trusted() -> None:
    other = landscape(HIGH, pixel_m=1.5, origin_px=(5000, 90_000), seed=77)
    assert not match(other, low()).transform.trusted


@pytest.mark.parametrize("shape", [(293, 230), (220, 200), (350, 320)])
def test_another_box_is_refused(shape: tuple[int, int]) -> None:
    image = resample(high((0, 0)), shape)
    with pytest.raises(GeodiffError, match="cannot show the same box"):
        match(image, low())


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(4, 60), st.floats(-3, 3))
def test_rows_sum_to_one_and_flat_stays_flat(source: int, target: int, shift: float) -> None:
    matrix = resample_matrix(source, target, shift)
    assert matrix.shape == (target, source)
    assert np.allclose(matrix.sum(axis=1), 1)
    image = np.full((2, source, source), 0.25, np.float32)
    assert np.allclose(resample(image, (target, target), (shift, -shift)), 0.25)


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 60), st.integers(20, 90), st.floats(-2, 2))
def test_a_ramp_lies_where_the_sizes_say(source: int, target: int, shift: float) -> None:
    """Position in the extent is kept: pixel k of the result shows (k + 1/2) source / target."""
    ramp = np.broadcast_to(np.arange(source, dtype=np.float32) + 0.5, (source, source)).copy()
    out = resample(ramp, (target, target), (0.0, shift))[target // 2]
    where = (np.arange(target) + 0.5) * source / target + shift
    inner = (where > 5 + 2 * source / target) & (where < source - 5 - 2 * source / target)
    assert np.allclose(out[inner], where[inner], atol=1e-3)


def test_fine_detail_is_not_aliased() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), 60)[None].repeat(120, axis=0)
    assert np.abs(resample(stripes, (24, 24))[:, 3:-3] - 0.5).max() < 0.02


def test_reached_knows_the_border_and_the_holes() -> None:
    whole = np.ones((60, 60), np.bool_)
    assert reached(whole, (9, 9)).all()
    assert not reached(whole, (9, 9), (7.0, 0.0))[-1].any()
    assert reached(whole, (9, 9), (7.0, 0.0))[:-2].all()
    whole[30, 30] = False
    seen = reached(whole, (9, 9))
    assert not seen[4, 4]
    assert seen[0].all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.4, 2.5), st.floats(-0.1, 0.1), st.floats(0.0, 0.25), st.integers(0, 1000))
def test_the_line_ignores_outliers(gain: float, offset: float, share: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.uniform(0.05, 0.4, (40, 40)).astype(np.float32)
    y = (gain * x + offset + draw.normal(0, 0.002, x.shape)).astype(np.float32)
    y[draw.random(x.shape) < share] = 0.95
    line = match_band(x, y, np.ones(x.shape, np.bool_))
    assert line.fitted
    assert line.gain == pytest.approx(gain, rel=0.02)
    assert line.offset == pytest.approx(offset, abs=0.004)
    assert line.residual < 0.004


def test_a_flat_band_keeps_its_gain() -> None:
    flat = np.full((20, 20), 0.03, np.float32)
    line = match_band(flat, flat + np.float32(0.01), np.ones(flat.shape, np.bool_))
    assert (line.gain, line.fitted) == (1.0, False)
    assert line.offset == pytest.approx(0.01, abs=1e-6)
    assert not match_band(flat, flat, np.zeros(flat.shape, np.bool_)).fitted
