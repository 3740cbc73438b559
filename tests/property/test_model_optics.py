"""The hard constraint for any size, ratio, modulation and mask."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.model.optics import enforce, see


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 24),
    cols=st.integers(1, 24),
    scale=st.integers(2, 6),
    mtf=st.floats(0.12, 0.45),
    cover=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_seen_equals_observed_where_valid_and_is_untouched_elsewhere(
    rows: int, cols: int, scale: int, mtf: float, cover: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    image = torch.rand((2, rows * scale, cols * scale), generator=random)
    observed = torch.rand((2, rows, cols), generator=random)
    valid = torch.rand((rows, cols), generator=random) >= cover
    result = enforce(image, observed, valid, scale, (mtf, 0.28))
    seen, before = see(result, scale, (mtf, 0.28)), see(image, scale, (mtf, 0.28))
    torch.testing.assert_close(seen, torch.where(valid, observed, before), atol=5e-6, rtol=0)
    # Nothing new: the correction lies in what the sensor sees, so that a second image differs by as much as before.
    other = enforce(image + 0.1, observed, valid, scale, (mtf, 0.28))
    torch.testing.assert_close(see(other, scale, (mtf, 0.28))[:, valid], observed[:, valid], atol=5e-6, rtol=0)
