"""Which pixels are clear: the scene classification where a scene has one, else a screen by brightness over the series.

Every function here gives the same pixels for any chunking: areas grow by a distance, and the pieces of a Dask array are
read with a margin of that distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import dask.array as da
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.config import MaskConfig
from geodiff.schema import BoolArray, FloatArray, GeodiffError

SCL_NODATA = 0

SCREEN_BANDS = ("B02", "B04", "B08")
"""What ``spectral_cloud_screen`` looks at, in this order: blue, red, near infrared."""

# The thresholds of the screen are ours, in reflectance, set on series with and without clouds by eye.
CLOUD_RISE = 0.10  # blue above the dark quarter of the pixel's own series: thick cloud; thin haze (0.03-0.08) passes
CLOUD_WHITE = 0.75  # blue / red of a cloud is near one; bright soil and silt-laden water are redder
CLOUD_BRIGHT = 0.25  # blue that is cloud whatever the series says, unless the pixel is that bright in half the dates
STABLE_SPREAD = 0.03  # a surface is always bright if its median blue lies no further above the dark quarter
SHADOW_FALL = 0.60  # near infrared below this part of the pixel's median is shadow, if a cloud is near
SHADOW_LAND = 0.12  # median near infrared below which the pixel is water, where shadows do not show
CLOUD, DARK = 1, 2  # marks of a pixel
SHADOW_REACH_M = 1_000.0  # how far from its cloud a shadow may lie

_Array = TypeVar("_Array", npt.NDArray[np.generic], da.Array)


def scl_valid(scl: _Array, mask_config: MaskConfig, pixel_m: tuple[float, float]) -> _Array:
    """Where the scene classification of Sentinel-2 L2A shows clear ground.

    Args:
        scl: (..., y, x) integer classes 0-11, numpy or Dask; 0 is no data and does not grow.
        mask_config: hidden classes and how far hidden areas grow.
        pixel_m: ground size of a pixel (x, y) in metres.

    Returns:
        bool, same shape and kind: False on hidden classes, on no data, and within ``dilation_m`` of a hidden class
        (measured between pixel centres).
    """
    if isinstance(scl, da.Array):
        return _with_margin(_scl_valid, scl, mask_config.dilation_m, pixel_m, args=(mask_config, pixel_m))
    return _scl_valid(np.asarray(scl), mask_config, pixel_m)


def _scl_valid(scl: npt.NDArray[np.generic], config: MaskConfig, pixel_m: tuple[float, float]) -> BoolArray:
    # A comparison for each class is many times as fast as np.isin, and there are few classes.
    hidden = np.zeros(scl.shape, bool)
    for name in config.scl_classes:
        if name != SCL_NODATA:
            hidden |= scl == name
    seen: BoolArray = scl != SCL_NODATA
    for index in np.ndindex(scl.shape[:-2]):
        seen[index] &= ~within(hidden[index], config.dilation_m, pixel_m)
    return seen


def spectral_cloud_screen(series: _Array, mask_config: MaskConfig, pixel_m: tuple[float, float]) -> _Array:
    """Find clouds and their shadows without a scene classification.

    The rule is ours, in the manner of multi-temporal detection (Hagolle et al. 2010, "A multi-temporal method for cloud
    detection"): a cloud is white and lifts blue above the clear level of the same pixel, taken as the dark quarter
    of its series; a shadow lies near a cloud and darkens the near infrared of land. A single date, or a pixel
    that is cloudy in most dates, is judged by brightness alone. Thin haze passes: see ``ranking``.

    Args:
        series: (time, 3, y, x) reflectance of ``SCREEN_BANDS``, NaN where there is no data, numpy or Dask.
        mask_config: how far clouds and shadows grow.
        pixel_m: ground size of a pixel (x, y) in metres.

    Returns:
        (time, y, x) bool, same kind: True where neither cloud nor shadow was found (also where there is no data).

    Raises:
        GeodiffError: ``series`` does not hold three bands.
    """
    if series.ndim != 4 or series.shape[1] != len(SCREEN_BANDS):
        raise GeodiffError(f"the cloud screen needs (time, 3, y, x) of {SCREEN_BANDS}, got shape {series.shape}")
    if isinstance(series, da.Array):
        dates = [series[index].rechunk({0: -1}) for index in range(len(series))]
        return screen_dates(dates, range(len(SCREEN_BANDS)), mask_config, pixel_m)
    return _without_suspects(_suspects(np.asarray(series, np.float32)), mask_config, pixel_m)


def screen_dates(
    dates: Sequence[da.Array], bands: Sequence[int], mask_config: MaskConfig, pixel_m: tuple[float, float]
) -> da.Array:
    """``spectral_cloud_screen`` of dates that come as separate arrays.

    Args:
        dates: (band, y, x) reflectance of each date, of equal chunks that hold all bands.
        bands: where ``SCREEN_BANDS`` are among the bands.
        mask_config, pixel_m: as for ``spectral_cloud_screen``.

    Returns:
        (time, y, x) bool.
    """
    # Two steps, so that what is read with a margin is one byte per pixel and not the series.
    chunks = ((len(dates),), *dates[0].chunks[1:])
    empty = np.empty((0, 0, 0), np.uint8)
    marks = da.map_blocks(_suspects_of, *dates, bands=tuple(bands), dtype=np.uint8, chunks=chunks, meta=empty)
    reach_m = SHADOW_REACH_M + mask_config.dilation_m + 3 * max(pixel_m)
    return _with_margin(_without_suspects, marks.rechunk({0: 1}), reach_m, pixel_m, args=(mask_config, pixel_m))


def _suspects_of(*dates: FloatArray, bands: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return _suspects(np.stack([date[list(bands)] for date in dates]))


def _suspects(series: FloatArray) -> npt.NDArray[np.uint8]:
    """Judge each pixel by its own series, (time, 3, y, x) -> (time, y, x): sum of ``CLOUD`` and ``DARK``."""
    blue, red, near_infrared = series[:, 0], series[:, 1], series[:, 2]
    land = _level(near_infrared, 0.5)
    # A comparison with NaN is False: pixels without data are neither cloud nor shadow.
    dark = (near_infrared < SHADOW_FALL * land) & (land > SHADOW_LAND)
    return (CLOUD * _cloudy(blue, red) + DARK * dark).astype(np.uint8)


def _without_suspects(marks: npt.NDArray[np.uint8], config: MaskConfig, pixel_m: tuple[float, float]) -> BoolArray:
    """Clear pixels (time, y, x): beyond the reach of clouds, and of dark pixels that lie near a cloud."""
    clear = np.ones(marks.shape, bool)
    for index, mark in enumerate(marks):
        core = ndimage.binary_opening((mark & CLOUD) > 0, np.ones((3, 3)))  # drops roofs and boats
        if not core.any():
            continue
        near = ((mark & DARK) > 0) & within(core, SHADOW_REACH_M, pixel_m)
        shadow = ndimage.binary_opening(near, np.ones((3, 3)))
        clear[index] = ~within(core | shadow, config.dilation_m, pixel_m)
    return clear


def _cloudy(blue: FloatArray, red: FloatArray) -> BoolArray:
    quarter, median = _level(blue, 0.25), _level(blue, 0.5)
    always_bright = (median - quarter < STABLE_SPREAD) if len(blue) >= 4 else np.zeros(blue.shape[1:], bool)
    bright = (blue > CLOUD_BRIGHT) & ~always_bright
    found: BoolArray = (blue > CLOUD_WHITE * red) & ((blue - quarter > CLOUD_RISE) | bright)
    return found


def _level(values: FloatArray, share: float) -> FloatArray:
    """The value below which ``share`` of the dates lie, (time, y, x) -> (y, x): an observed one, never a mixture."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = np.isfinite(values).sum(axis=0)
    rank = np.maximum(np.floor(share * (count - 1)).astype(np.intp), 0)
    level: FloatArray = np.take_along_axis(ordered, rank[None], axis=0)[0]
    return level


def within(area: BoolArray, distance_m: float, pixel_m: tuple[float, float]) -> BoolArray:
    """Pixels whose centre lies within ``distance_m`` of the centre of a pixel of ``area``, both (y, x) bool."""
    if distance_m < min(pixel_m) or not area.any() or area.all():
        return area
    reach: FloatArray = ndimage.distance_transform_edt(~area, sampling=(pixel_m[1], pixel_m[0]))
    # A millionth of slack, so that a distance that is a whole number of pixels does not depend on rounding.
    grown: BoolArray = reach <= distance_m * (1 + 1e-6)
    return grown


def _with_margin(
    function: Callable[..., BoolArray],
    array: da.Array,
    margin_m: float,
    pixel_m: tuple[float, float],
    *,
    args: tuple[object, ...],
) -> da.Array:
    """Map ``function`` over the spatial pieces of ``array``, each read with a margin that is cut off afterwards."""
    mapped = partial(da.map_blocks, function, dtype=bool, meta=np.empty((0,) * array.ndim, bool))
    result: da.Array
    if margin_m < min(pixel_m):  # no neighbour is that near
        result = mapped(array, *args)
        return result
    rows, cols = (math.ceil(margin_m * (1 + 1e-6) / side) for side in (pixel_m[1], pixel_m[0]))
    sizes = [0] * (array.ndim - 2) + [min(rows, array.shape[-2]), min(cols, array.shape[-1])]
    depth = dict(enumerate(sizes))
    wide = da.overlap.overlap(array, depth=depth, boundary="none", allow_rechunk=True)
    result = da.overlap.trim_internal(mapped(wide, *args), depth, boundary="none").rechunk(array.chunks)
    return result
