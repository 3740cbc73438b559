"""Consistency with the observation: exact for what the optics made, exact in size for what they did not."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.metrics.consistency import consistency
from geodiff.schema import FloatArray
from geodiff.sensor import degrade

MTF = (0.3, 0.25)
VALID = np.ones((12, 10), bool)


def _pair() -> tuple[FloatArray, FloatArray]:
    image = np.random.default_rng(0).uniform(0.1, 0.4, (2, 48, 40)).astype(np.float32)
    return image, degrade(image, 4, MTF)


def test_what_the_sensor_saw_is_consistent() -> None:
    image, observed = _pair()
    found = consistency(image, observed, VALID, scale=4, mtf=MTF)
    assert found.mae == found.max_error == 0
    assert found.angle_deg == 0


def test_an_offset_comes_back_in_full() -> None:
    image, observed = _pair()
    found = consistency(image + np.float32(0.01), observed, VALID, scale=4, mtf=MTF)
    assert found.mae == pytest.approx(0.01, rel=1e-4)
    assert found.max_error == pytest.approx(0.01, rel=1e-3)


def test_the_largest_error_and_the_mean_are_of_valid_pixels() -> None:
    image, observed = _pair()
    observed[0, 3, 3] += 0.5
    observed[1, 7, 2] -= 0.2
    found = consistency(image, observed, VALID, scale=4, mtf=MTF)
    assert found.max_error == pytest.approx(0.5, rel=1e-4)
    assert found.mae == pytest.approx(0.7 / 240, rel=1e-4)
    observed[:, 0, 0] = np.nan
    valid = VALID.copy()
    valid[3, 3] = False
    found = consistency(image, observed, valid, scale=4, mtf=MTF)
    assert found.max_error == pytest.approx(0.2, rel=1e-4)
    assert found.mae == pytest.approx(0.2 / 236, rel=1e-4)
    # So is the angle.
    valid[7, 2] = False
    assert consistency(image, observed, valid, scale=4, mtf=MTF).angle_deg < 1e-4


def test_the_optics_are_told_apart() -> None:
    image, observed = _pair()
    assert consistency(image, observed, VALID, scale=4, mtf=(0.1, 0.1)).mae > 1e-3


def test_a_brighter_image_keeps_its_angle_and_another_color_does_not() -> None:
    image, observed = _pair()
    assert consistency(image * 2, observed, VALID, scale=4, mtf=MTF).angle_deg < 1e-4
    swapped = degrade(image[::-1], 4, MTF)
    assert consistency(image, swapped, VALID, scale=4, mtf=MTF).angle_deg > 1


def test_what_cannot_be_compared_is_told() -> None:
    image, observed = _pair()
    with pytest.raises(ValueError, match="do not fit each other at x2"):
        consistency(image, observed, VALID, scale=2, mtf=MTF)
    with pytest.raises(ValueError, match="1 MTFs"):
        consistency(image, observed, VALID, scale=4, mtf=(0.3,))
    with pytest.raises(ValueError, match="no valid pixel"):
        consistency(image, observed, ~VALID, scale=4, mtf=MTF)
    image[0, 5, 5] = np.nan
    with pytest.raises(ValueError, match="gaps"):
        consistency(image, observed, VALID, scale=4, mtf=MTF)
