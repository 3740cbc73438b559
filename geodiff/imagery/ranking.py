"""Which dates are worth using: how clear, how hazy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geodiff.schema import BAND, TIME, VALID, FloatArray, X, Y

SAMPLE_BLOCK_PX = 256
SAMPLE_BLOCKS = 4  # per axis: a region larger than 1024 x 1024 pixels is judged by 4 x 4 blocks spread over it
HAZE_PERCENTILE = 1.0
CELLS = 8  # per axis and block: how finely the map of clear ground is drawn
HAZE_FALL = 0.05  # reflectance of haze at which a date counts 1/e


def rank_dates(cube: xr.DataArray) -> pd.DataFrame:
    """Judge each date of a cube, from at most 4 x 4 blocks of 256 x 256 pixels spread evenly over it.

    The score is ours: ``clear * exp(-haze / 0.05)``.

    Args:
        cube: (time, band, y, x) reflectance with ``valid``; the sampled blocks are read.

    Returns:
        One row per date, best first (equal scores: earlier first), with columns ``index`` (position in the cube),
        ``time``, ``clear`` (share of pixels 0-1), ``haze`` (reflectance of the darkest percent of clear pixels in the
        bluest band beyond that of the least hazy date; NaN without clear pixels), ``dark`` (that reflectance itself)
        and ``score`` (0-1).
    """
    return judge_dates(cube)[0]


def judge_dates(cube: xr.DataArray) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """The table of ``rank_dates``, and which ground each date of the cube shows.

    Returns:
        The table, and (time, cell) the clear share (0-1) of each cell of a coarse map, dates in the order of the cube.
    """
    clear, dark, cells = _sampled(cube)
    haze = dark - np.nanmin(dark) if np.isfinite(dark).any() else dark
    score = clear * np.exp(-np.nan_to_num(haze) / HAZE_FALL)
    table = pd.DataFrame(
        {
            "index": np.arange(len(clear)),
            "time": cube[TIME].values,
            "clear": clear,
            "haze": haze,
            "dark": dark,
            "score": score,
        }
    )
    table = table.sort_values(["score", "time"], ascending=[False, True], kind="stable", ignore_index=True)
    return table, cells


Floats = npt.NDArray[np.float64]


def _sampled(cube: xr.DataArray) -> tuple[Floats, Floats, Floats]:
    """Clear share and dark level of blue, each (time,), NaN dark level where nothing is clear; clear (time, cell)."""
    cells: list[Floats] = []
    seen, total = np.zeros(cube.sizes[TIME]), 0
    blues: list[list[FloatArray]] = [[] for _ in range(cube.sizes[TIME])]
    bluest = cube.isel({BAND: int(np.argmin(cube[BAND].values))})  # B01, B02 ... are sorted by wavelength
    for rows in sample_pieces(cube.sizes[Y]):
        for cols in sample_pieces(cube.sizes[X]):
            block = bluest.isel({Y: rows, X: cols}).compute()
            valid = block[VALID].values
            seen += valid.sum(axis=(1, 2))
            total += valid[0].size
            cells.append(_cells(valid))
            for values, image, mask in zip(blues, block.values, valid, strict=True):
                values.append(image[mask])
    dark = np.full(len(seen), np.nan)
    for index, parts in enumerate(blues):
        if seen[index]:
            dark[index] = np.percentile(np.concatenate(parts).astype(np.float64), HAZE_PERCENTILE)
    return seen / max(total, 1), dark, np.concatenate(cells, axis=1)


def _cells(valid: npt.NDArray[np.bool_]) -> Floats:
    """(time, y, x) bool to (time, cell): the clear share of at most 8 x 8 cells."""
    strips = np.array_split(valid, min(CELLS, valid.shape[1]), axis=1)
    parts = [part for strip in strips for part in np.array_split(strip, min(CELLS, valid.shape[2]), axis=2)]
    return np.stack([part.mean(axis=(1, 2)) for part in parts], axis=1)


def sample_pieces(size: int) -> list[slice]:
    """The whole axis when it is short, else blocks spread evenly over it, the first and last at its ends."""
    if size <= SAMPLE_BLOCK_PX * SAMPLE_BLOCKS:
        return [slice(0, size)]
    starts = np.linspace(0, size - SAMPLE_BLOCK_PX, SAMPLE_BLOCKS).round().astype(int)
    return [slice(int(start), int(start) + SAMPLE_BLOCK_PX) for start in starts]
