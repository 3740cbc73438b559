"""Endless ground for training: each band of its own, whoever asks for which."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.schema import BANDS_10M, BANDS_20M, UsageError
from geodiff.tasks.train_synthetic import SyntheticGround

DATES = (0, 7, 20)
ROWS, COLS = slice(4_000, 4_040), slice(900, 960)


def test_a_band_is_the_same_in_any_company() -> None:
    every = SyntheticGround(1_000, BANDS_10M + BANDS_20M).read(DATES, ROWS, COLS)
    assert every.shape == (3, 10, 40, 60)
    assert every.dtype == np.float32
    assert np.isfinite(every).all()
    np.testing.assert_array_equal(SyntheticGround(1_000).read(DATES, ROWS, COLS), every[:, :4])
    np.testing.assert_array_equal(SyntheticGround(1_000, BANDS_20M).read(DATES, ROWS, COLS), every[:, 4:])
    mixed = SyntheticGround(1_000, ("B12", "B03", "B05")).read(DATES, ROWS, COLS)
    np.testing.assert_array_equal(mixed, every[:, [9, 1, 4]])


def test_the_other_bands_are_known_as_finely_and_follow_the_year() -> None:
    images = SyntheticGround(1_000, ("B11",)).read(DATES, ROWS, COLS)[:, 0]
    assert (np.diff(images[0], axis=1) != 0).mean() > 0.95, "2.5 m, no blocks"
    assert np.abs(images[0] - images[1]).mean() > 0.001, "woods: they change least"


def test_a_band_that_the_world_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="B09"):
        SyntheticGround(1, ("B02", "B09"))
