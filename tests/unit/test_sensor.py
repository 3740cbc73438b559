"""The optics on the array side: energy, modulation, the inverse."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.sensor import DEFAULT_MTF, band_mtf, degrade, degrade_matrix, gaussian_sigma, restore_matrix


@pytest.mark.parametrize("size", [1, 2, 7, 40])
@pytest.mark.parametrize("scale", [2, 4, 6])
def test_a_constant_stays_constant_up_to_the_border(size: int, scale: int) -> None:
    matrix = degrade_matrix(size, scale, 0.28)
    assert matrix.shape == (size, size * scale)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-14)
    assert (matrix >= 0).all()


@pytest.mark.parametrize("mtf", [0.15, 0.26, 0.29, 0.4])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_modulation_of_a_sine_at_nyquist_is_the_mtf(mtf: float, scale: int) -> None:
    size = 64
    # Two low-resolution pixels to the period, crests on the centres of the pixels: the samples alternate.
    position = np.arange(size * scale) + 0.5
    wave = np.cos(np.pi * (position / scale - 0.5))
    seen = degrade_matrix(size, scale, mtf) @ wave
    inner = seen[8:-8]
    np.testing.assert_allclose(np.abs(inner), mtf, rtol=5e-3)
    assert (np.sign(inner[1:]) == -np.sign(inner[:-1])).all()


def test_a_wider_point_spread_follows_a_lower_mtf() -> None:
    assert gaussian_sigma(4, 0.2) > gaussian_sigma(4, 0.3)
    assert gaussian_sigma(8, 0.28) == pytest.approx(2 * gaussian_sigma(4, 0.28))


def test_a_symmetric_scene_is_seen_symmetric() -> None:
    matrix = degrade_matrix(9, 4, 0.28)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-15)


@pytest.mark.parametrize("mtf", [0.12, 0.28, 0.45])
def test_the_inverse_restores_exactly_and_is_the_smallest(mtf: float) -> None:
    a, r = degrade_matrix(20, 4, mtf), restore_matrix(20, 4, mtf)
    np.testing.assert_allclose(a @ r, np.eye(20), atol=1e-10)
    # Smallest: it lies in the row space of A, as the pseudo-inverse does.
    np.testing.assert_allclose(r, np.linalg.pinv(a), atol=1e-9)


def test_a_correction_has_faded_within_a_halo_of_16_pixels() -> None:
    inverse = restore_matrix(64, 4, 0.26)
    column = np.abs(inverse[:, 32])
    far = np.abs((np.arange(256) + 0.5) / 4 - 32.5) > 16
    assert column[far].max() < 1e-4 * column.max()


def test_bands_are_seen_each_through_its_own_mtf() -> None:
    image = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    seen = degrade(image, 4, (0.2, 0.4))
    assert seen.shape == (2, 8, 8)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen[:1], degrade(image[:1], 4, (0.2,)))
    swapped = degrade(image, 4, (0.4, 0.2))
    assert np.abs(swapped - seen).max() > 1e-3


def test_leading_dimensions_are_kept() -> None:
    image = np.random.default_rng(0).random((3, 2, 16, 24)).astype(np.float32)
    seen = degrade(image, 4, (0.3, 0.3))
    assert seen.shape == (3, 2, 4, 6)
    np.testing.assert_array_equal(seen[1], degrade(image[1], 4, (0.3, 0.3)))


def test_matrices_are_shared_and_cannot_be_written() -> None:
    for matrix in (degrade_matrix(5, 4, 0.3), restore_matrix(5, 4, 0.3)):
        with pytest.raises(ValueError, match="read-only"):
            matrix[0, 0] = 1.0


def test_an_unknown_band_has_the_default() -> None:
    assert band_mtf(("B02", "B99")) == (0.29, DEFAULT_MTF)
