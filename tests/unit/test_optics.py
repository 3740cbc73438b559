"""The hard radiometric constraint: exact where observed, nothing elsewhere, local, smallest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geodiff.model.optics import enforce, see
from geodiff.sensor import degrade

MTF = (0.29, 0.28, 0.26, 0.26)


def _case(rows: int = 20, cols: int = 28, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    image = torch.rand((4, 4 * rows, 4 * cols), generator=random) * 0.5
    observed = torch.rand((4, rows, cols), generator=random) * 0.5
    return image, observed, torch.rand((rows, cols), generator=random) < 0.6


def test_tensors_and_arrays_see_the_same() -> None:
    image, _, _ = _case()
    np.testing.assert_allclose(see(image, 4, MTF).numpy(), degrade(image.numpy(), 4, MTF), atol=1e-6)


def test_what_is_seen_equals_the_observation_on_valid_pixels_borders_included() -> None:
    image, observed, valid = _case()
    seen = see(enforce(image, observed, valid, 4, MTF), 4, MTF)
    assert (seen - observed).abs()[:, valid].max() < 1e-6
    edge = torch.zeros_like(valid)
    edge[[0, -1]], edge[:, [0, -1]] = True, True
    assert (valid & edge).any()
    assert (seen - see(image, 4, MTF)).abs()[:, ~valid].max() < 1e-6


def test_an_image_that_fits_is_left_alone_and_a_second_time_changes_nothing() -> None:
    image, observed, valid = _case()
    once = enforce(image, observed, valid, 4, MTF)
    assert (enforce(once, observed, valid, 4, MTF) - once).abs().max() < 1e-5
    assert torch.equal(enforce(image, observed, torch.zeros_like(valid), 4, MTF), image)


def test_the_change_is_the_smallest_that_does_it() -> None:
    image, observed, _ = _case(6, 5)
    everywhere = torch.ones(6, 5, dtype=torch.bool)
    change = (enforce(image.double(), observed.double(), everywhere, 4, MTF) - image.double())[2]
    a = see(torch.eye(24 * 20, dtype=torch.float64).view(-1, 1, 24, 20), 4, (MTF[2],)).flatten(1).T
    missing = (observed[2].double() - see(image.double(), 4, MTF)[2]).flatten()
    least = torch.linalg.lstsq(a, missing[:, None], driver="gelsd").solution[:, 0]
    torch.testing.assert_close(change.flatten(), least, atol=1e-9, rtol=0)


def test_what_lies_under_the_mask_is_never_read() -> None:
    image, observed, valid = _case()
    garbage = torch.where(valid, observed, torch.tensor(float("nan")))
    assert torch.equal(enforce(image, garbage, valid, 4, MTF), enforce(image, observed, valid, 4, MTF))


def test_members_are_corrected_one_by_one() -> None:
    image, observed, valid = _case()
    stack = torch.stack([image, image * 0.5])
    both = enforce(stack, observed, valid, 4, MTF)
    torch.testing.assert_close(both[1], enforce(image * 0.5, observed, valid, 4, MTF), atol=1e-6, rtol=0)


@pytest.mark.parametrize("halo", [16])
def test_a_halo_of_16_pixels_makes_it_independent_of_the_window(halo: int) -> None:
    image, observed, valid = _case(64, 72)
    whole = enforce(image, observed, valid, 4, MTF)
    cut = (slice(10, 58), slice(12, 60))
    fine = tuple(slice(4 * s.start, 4 * s.stop) for s in cut)
    part = enforce(image[:, fine[0], fine[1]], observed[:, cut[0], cut[1]], valid[cut], 4, MTF)
    keep = slice(4 * halo, -4 * halo)
    inner = whole[:, fine[0], fine[1]][:, keep, keep]
    # Observation and image are unrelated noise here: the corrections are a hundred times those of a real scene.
    assert (part[:, keep, keep] - inner).abs().max() < 2e-4 * (whole - image).abs().max()
