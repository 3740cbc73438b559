"""Metrics of restored images, for arrays without geodata."""

from __future__ import annotations

import numpy as np

from geodiff.schema import BoolArray, FloatArray

CROP, SEARCH = 3, 3


def cpsnr(
    estimate: FloatArray, truth: FloatArray, clear: BoolArray | None = None, *, crop: int = CROP, search: int = SEARCH
) -> float:
    """Clear PSNR of PROBA-V (Martens et al. 2019): the best over integer shifts, after removing the bias per band.

    Args:
        estimate: (band, y, x) reflectance.
        truth: (band, y, x) reflectance; the peak is 1.
        clear: (y, x) bool, pixels of the truth that count; all finite ones when None.
        crop: border of the estimate that is left out, in pixels.
        search: largest shift in pixels, at most ``crop``.

    Returns:
        Decibels.

    Raises:
        ValueError: no clear pixel to compare on, or a search that leaves the image.
    """
    if not 0 <= search <= crop:
        raise ValueError(f"search of {search} pixels needs a crop of as many, not {crop}")
    mask: BoolArray = np.asarray(np.isfinite(truth).all(0))
    if clear is not None:
        mask = mask & clear
    rows, cols = truth.shape[-2:]
    inner = estimate[:, crop : rows - crop, crop : cols - crop]
    found: list[tuple[int, float]] = []
    for down in range(-search, search + 1):
        for right in range(-search, search + 1):
            window = (slice(crop + down, rows - crop + down), slice(crop + right, cols - crop + right))
            seen = mask[window] & np.isfinite(inner).all(0)
            if not seen.any():
                continue
            difference = (truth[(slice(None), *window)] - inner)[:, seen].astype(np.float64)
            found.append((int(seen.sum()), float(difference.var(axis=1).mean())))
    if not found:
        raise ValueError("no clear pixel to compare on")
    # Between clouds a shift may see a few pixels only, and a single one has no variance: such a shift does not compete.
    enough = max(count for count, _ in found) / 2
    best = min(error for count, error in found if count >= enough)
    return float(-10 * np.log10(max(best, 1e-12)))
