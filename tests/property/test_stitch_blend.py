"""What must hold for any grid, tiling, window and order of tiles."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.grid import Grid, TilePlan, Window
from geodiff.outputs.stitch import Blend, contributors, feather_weight, tile_window


@st.composite
def plans(draw: st.DrawFn) -> tuple[TilePlan, int]:
    feather = draw(st.integers(0, 6))
    core = draw(st.integers(max(2 * feather, 4), 24))
    origin = (10.0 * draw(st.integers(-60, 60)), 10.0 * draw(st.integers(-60, 60)))
    shape = (draw(st.integers(1, 60)), draw(st.integers(1, 60)))
    return TilePlan(Grid("EPSG:32631", (10.0, 10.0), origin, shape), core, feather, 2), draw(st.integers(1, 4))


@st.composite
def windows(draw: st.DrawFn) -> tuple[TilePlan, int, Window]:
    plan, scale = draw(plans())
    rows, cols = (side * scale for side in plan.grid.shape)
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    return plan, scale, Window(top, left, draw(st.integers(1, rows - top)), draw(st.integers(1, cols - left)))


@settings(deadline=None)
@given(windows())
def test_the_weights_of_all_tiles_sum_to_one_everywhere(case: tuple[TilePlan, int, Window]) -> None:
    plan, scale, window = case
    total = np.zeros((window.rows, window.cols))
    for key in list(plan.keys()):
        weight = feather_weight(plan, key, window, scale=scale)
        assert weight.min() >= 0
        total += weight
        assert (key in contributors(plan, window, scale=scale)) >= bool(weight.any())
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-15)


def field(window: Window) -> np.ndarray:
    """A smooth landscape known at every absolute pixel, two channels."""
    y = np.arange(window.top, window.top + window.rows)[:, None]
    x = np.arange(window.left, window.left + window.cols)[None, :]
    return np.stack([0.2 + 0.1 * np.sin(y / 7) * np.cos(x / 11), 0.3 + 1e-3 * y - 2e-3 * x]).astype(np.float32)


@settings(deadline=None)
@given(windows(), st.randoms(use_true_random=False))
def test_a_field_cut_into_tiles_comes_back_whatever_the_order(
    case: tuple[TilePlan, int, Window], random: object
) -> None:
    plan, scale, window = case
    results = []
    for _ in range(2):
        blend = Blend(plan, window, channels=2, scale=scale)
        keys = blend.missing()
        random.shuffle(keys)  # type: ignore[attr-defined]
        for key in keys:
            blend.add(key, field(tile_window(plan, key, scale=scale)))
        assert not blend.missing()
        results.append(blend.result())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[0], field(window), rtol=0, atol=1e-7)


@settings(deadline=None, max_examples=50)
@given(windows(), st.integers(0, 2**32 - 1))
def test_windows_cut_from_a_scene_equal_the_scene(case: tuple[TilePlan, int, Window], seed: int) -> None:
    """Tiles that disagree (an ensemble member drawn per tile) give the same pixels in any window, to the bit."""
    plan, scale, window = case
    whole_window = Window(0, 0, *(side * scale for side in plan.grid.shape))
    whole, part = (Blend(plan, w, channels=1, scale=scale) for w in (whole_window, window))
    for key in whole.missing():
        reach = tile_window(plan, key, scale=scale)
        rng = np.random.default_rng((seed, key.row + 1000, key.col + 1000))
        values = rng.standard_normal((1, reach.rows, reach.cols)).astype(np.float32)
        whole.add(key, values)
        inner = part.piece_window(key)
        if inner is not None:
            rows, cols = inner.slices_in(reach)
            part.add(key, values[:, rows, cols], at=inner)
    rows, cols = window.slices_in(whole_window)
    np.testing.assert_array_equal(part.result(), whole.result()[:, rows, cols])
