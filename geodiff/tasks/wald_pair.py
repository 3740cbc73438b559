"""Series that are their own truth: what a sensor higher up would have seen of them, beside what they were.

The original is the series where each band is as fine as the coarsest of them: with a band of 20 m among them the bands
of 10 m are seen through the sensor once more, for nobody knows what a band of 20 m looks like at 10 m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import ndimage

from geodiff.grid import Grid
from geodiff.imagery.lattice import grid_of
from geodiff.model.native import by_step
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, X, Y
from geodiff.sensor import band_mtf, degrade, native_step

CUT_PX = 2
"""Pixels of the sensor, as coarse as its coarsest band, at the border of a scene that it cannot see whole."""

FEWEST_PX = 8
"""Of low resolution along a side, that are left for the protocol."""


def filled(image: FloatArray, valid: BoolArray) -> FloatArray:
    """Invalid pixels of (band, y, x) become the nearest valid one, so that a blur spreads nothing invented."""
    if valid.all() or not valid.any():
        return np.nan_to_num(image)
    rows, cols = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    nearest: FloatArray = image[:, rows, cols]
    return nearest


@dataclass(frozen=True, slots=True, eq=False)
class WaldPair:
    """A series degraded, and what it was.

    Attributes:
        low: (time, band, y, x) reflectance with ``valid`` and a CRS; bands of 20 m come in blocks of two by two pixels
            that begin at even rows and columns of the absolute lattice, as in a cube of Sentinel-2.
        truth: (time, band, scale*y, scale*x) of the same ground, with ``valid``.
    """

    low: xr.DataArray
    truth: xr.DataArray


def coarsest_step(cube: xr.DataArray) -> int:
    """``sensor.native_step`` of the coarsest band of a cube."""
    return max(native_step(str(band)) for band in cube[BAND].values)


def original(cube: xr.DataArray) -> xr.DataArray:
    """A cube on the lattice of its coarsest band.

    Args:
        cube: (time, band, y, x) reflectance on the 10 m lattice with ``valid`` and a CRS, in memory.

    Returns:
        The cube itself where all its bands are of 10 m. Else whole pixels of 20 m: bands of 10 m through the sensor
        once more (``sensor.degrade`` by 2, their own MTF), bands of 20 m the mean of their block; valid where all four
        pixels are, NaN elsewhere.
    """
    step = coarsest_step(cube)
    if step == 1:
        return cube
    grid = grid_of(cube)
    top, left = (-first % step for first in grid.lattice_origin)
    rows, cols = ((size - start) // step for size, start in zip(grid.shape, (top, left), strict=True))
    if min(rows, cols) < 1:
        raise GeodiffError(f"a scene of {grid.shape} pixels holds no pixel of its coarsest band")
    own = cube.isel({Y: slice(top, top + rows * step), X: slice(left, left + cols * step)}).transpose(*CUBE_DIMS)
    bands = tuple(str(band) for band in own[BAND].values)
    images = np.stack([_through(image, seen, bands, step) for image, seen in _dates(own)])
    return _coarser(own, images, step)


def _dates(cube: xr.DataArray) -> Iterator[tuple[FloatArray, BoolArray]]:
    """Image (band, y, x) and valid (y, x) of each date."""
    return zip(cube.values, np.asarray(cube[VALID].values, np.bool_), strict=True)


def _through(image: FloatArray, seen: BoolArray, bands: tuple[str, ...], step: int) -> FloatArray:
    """One date at ``step`` times the pixel, (band, y, x)."""
    whole = filled(image, seen)
    blocks = whole.reshape(len(bands), whole.shape[1] // step, step, whole.shape[2] // step, step)
    coarse: FloatArray = blocks.mean((2, 4), dtype=np.float64).astype(np.float32)
    fine = [place for place, band in enumerate(bands) if native_step(band) < step]
    if fine:
        coarse[fine] = degrade(whole[fine], step, band_mtf(tuple(bands[place] for place in fine)))
    return coarse


def _coarser(cube: xr.DataArray, images: FloatArray, factor: int) -> xr.DataArray:
    """``images`` as a cube of ``factor`` times the pixel; a pixel is valid where all that it covers is."""
    rows, cols = images.shape[-2:]
    valid = np.asarray(cube[VALID].values, np.bool_).reshape(len(images), rows, factor, cols, factor)
    seen: BoolArray = np.asarray(valid.all((2, 4)), np.bool_)
    coarse = xr.DataArray(
        np.where(seen[:, None], images, np.nan).astype(np.float32),
        dims=CUBE_DIMS,
        coords={
            TIME: cube[TIME].values,
            BAND: cube[BAND].values,
            Y: cube[Y].values.reshape(rows, factor).mean(1),
            X: cube[X].values.reshape(cols, factor).mean(1),
            VALID: ((TIME, Y, X), seen),
        },
    )
    labelled: xr.DataArray = coarse.rio.write_crs(grid_of(cube).crs)
    return labelled


def wald_pair(cube: xr.DataArray, *, scale: int) -> WaldPair:
    """See the original of a cube through the sensor once more: every band ``scale`` times coarser than it was taken.

    Bands of 20 m are degraded by ``2 * scale``, with their own MTF, and laid out as blocks: what 10 m and 20 m are to
    the sensor, 80 m and 160 m are to the pair. The outer ``CUT_PX`` pixels of the coarsest band are left out, whose
    point spread reaches beyond the scene. A low-resolution pixel is valid where all that it covers is.

    Args:
        cube: (time, band, y, x) reflectance with ``valid`` and a CRS; what does not fill a pixel at the border is cut.
        scale: integer ratio.

    Raises:
        GeodiffError: the scene is too small.
    """
    step = coarsest_step(cube)
    full = original(cube.compute())
    top, left = _first(grid_of(full), scale, step)
    unit, cut = scale * step, CUT_PX * step
    rows, cols = ((size - start) // unit * step for size, start in zip(full.shape[-2:], (top, left), strict=True))
    if min(rows, cols) < FEWEST_PX + 2 * cut:
        size, least = grid_of(cube).shape, (FEWEST_PX + 2 * cut + step) * scale * step
        raise GeodiffError(f"a scene of {size} pixels is too small for the Wald protocol at x{scale}: {least} will do")
    part = full.isel({Y: slice(top, top + rows * scale), X: slice(left, left + cols * scale)}).transpose(*CUBE_DIMS)
    bands = tuple(str(band) for band in part[BAND].values)
    low = _coarser(part, np.stack([_degraded(image, seen, bands, scale) for image, seen in _dates(part)]), scale)
    inner = {Y: slice(cut, rows - cut), X: slice(cut, cols - cut)}
    outer = {axis: slice(kept.start * scale, kept.stop * scale) for axis, kept in inner.items()}
    return WaldPair(low.isel(inner), part.isel(outer))


def _first(grid: Grid, scale: int, step: int) -> tuple[int, int]:
    """The first row and column of the original such that the low resolution begins with a whole block."""
    (rx, ry), (x, y) = grid.resolution, grid.origin
    low = Grid(grid.crs, (rx * scale, ry * scale), (x, y), (1, 1))
    row, col = low.lattice_origin
    return -row % step * scale, -col % step * scale


def _degraded(image: FloatArray, seen: BoolArray, bands: tuple[str, ...], scale: int) -> FloatArray:
    """One date of low resolution, (band, y, x); coarser bands in blocks."""
    whole = filled(image, seen)
    low = np.empty((len(bands), whole.shape[1] // scale, whole.shape[2] // scale), np.float32)
    for step, index in by_step(bands).items():
        coarse = degrade(whole[list(index)], scale * step, band_mtf(tuple(bands[place] for place in index)))
        low[list(index)] = coarse.repeat(step, -2).repeat(step, -1)
    return low
