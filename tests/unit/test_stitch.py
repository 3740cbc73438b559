"""Feathered blending: seams, borders, holes, and the scratch cache of margins."""

from pathlib import Path

import numpy as np
import pytest

from geodiff.grid import Grid, TileKey, TilePlan, Window
from geodiff.outputs.stitch import Blend, MarginCache, contributors, feather_weight, tile_window
from geodiff.schema import UsageError

GRID = Grid("EPSG:32631", (10.0, 10.0), (500_030.0, 4_600_070.0), (40, 50))
PLAN = TilePlan(GRID, core=16, feather=4, halo=2)
WHOLE = Window(0, 0, 80, 100)


def test_tiles_that_disagree_meet_in_a_monotone_ramp_without_a_step() -> None:
    plan = TilePlan(Grid("EPSG:32631", (10.0, 10.0), (0.0, 0.0), (16, 32)), core=16, feather=4)
    blend = Blend(plan, Window(0, 0, 32, 64), channels=1, scale=2)
    for key in blend.missing():
        window = tile_window(plan, key, scale=2)
        blend.add(key, np.full((1, window.rows, window.cols), float(key.col), np.float32))
    line = blend.result()[0, 5]
    assert np.all(line[:24] == 0)
    assert np.all(line[40:] == 1)
    assert np.all(np.diff(line) >= 0)
    assert np.diff(line).max() < 0.11


def test_only_the_tiles_that_reach_a_window_are_asked_for() -> None:
    for key in contributors(PLAN, Window(30, 40, 10, 10), scale=2):
        assert feather_weight(PLAN, key, Window(30, 40, 10, 10), scale=2).max() > 0
    assert set(contributors(PLAN, WHOLE, scale=2)) == set(PLAN.keys())


def test_a_tile_keeps_its_full_weight_at_the_border_of_the_grid() -> None:
    corner = contributors(PLAN, Window(0, 0, 1, 1), scale=2)
    assert feather_weight(PLAN, corner[0], Window(0, 0, 1, 1), scale=2)[0, 0] == 1


def test_values_that_are_not_finite_leave_their_share_to_the_neighbour() -> None:
    blend = Blend(PLAN, WHOLE, channels=1, scale=2)
    keys = blend.missing()
    for key in keys:
        window = tile_window(PLAN, key, scale=2)
        blend.add(key, np.full((1, window.rows, window.cols), np.nan if key == keys[0] else 3.0, np.float32))
    result = blend.result()
    assert np.isnan(result[0, 0, 0])
    assert np.nanmin(result) == np.nanmax(result) == 3
    # The hole is only where the first tile was alone: its core less the feather of its neighbours.
    alone = feather_weight(PLAN, keys[0], WHOLE, scale=2) == 1
    np.testing.assert_array_equal(np.isnan(result[0]), alone)


def test_nothing_added_is_nan_and_missing_names_the_tiles() -> None:
    blend = Blend(PLAN, Window(0, 0, 8, 8), channels=2, scale=2)
    assert np.isnan(blend.result()).all()
    assert blend.missing()


def test_wrong_shapes_and_repeated_tiles_are_refused() -> None:
    blend = Blend(PLAN, WHOLE, channels=1, scale=2)
    key = blend.missing()[0]
    with pytest.raises(ValueError, match="shape"):
        blend.add(key, np.zeros((1, 3, 3), np.float32))
    with pytest.raises(ValueError, match="leave out"):
        blend.add(key, np.zeros((1, 4, 4), np.float32), at=Window(0, 0, 4, 4))
    window = tile_window(PLAN, key, scale=2)
    blend.add(key, np.zeros((1, window.rows, window.cols), np.float32))
    with pytest.raises(ValueError, match="twice"):
        blend.add(key, np.zeros((1, window.rows, window.cols), np.float32))


def test_a_feather_that_makes_three_tiles_meet_is_refused() -> None:
    with pytest.raises(UsageError, match="feather"):
        feather_weight(TilePlan(GRID, core=16, feather=9), TileKey(0, 0), WHOLE, scale=1)


def test_margins_come_back_exactly_and_damage_is_a_miss(tmp_path: Path) -> None:
    cache, key = MarginCache(tmp_path / "margins"), TileKey(-3, 7)
    values = np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)
    values[0, 0, 0] = np.nan
    assert cache.get("r", key, values.shape) is None
    assert cache.put("r", key, values)
    np.testing.assert_array_equal(cache.get("r", key, values.shape), values)
    assert cache.get("r", key, (2, 5, 5)) is None
    (file,) = (tmp_path / "margins" / "r").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole[:200] + b"\x01" + whole[201:]):
        file.write_bytes(damaged)
        assert cache.get("r", key, values.shape) is None
    cache.drop("r")
    cache.drop("never there")
    assert not (tmp_path / "margins" / "r").exists()


def test_a_cache_that_cannot_write_says_so_and_does_not_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not MarginCache(tmp_path / "file").put("r", TileKey(0, 0), np.zeros((1, 1, 1), np.float32))
