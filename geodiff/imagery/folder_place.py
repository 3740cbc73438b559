"""One place of a user's own imagery: files on one grid, read window by window at the sampling asked for.

A pixel of the truth is the image seen through a Gaussian aperture whose MTF at the Nyquist frequency of the truth's own
sampling is that of a sensor of such a pixel, so that 0.2 m orthophotos become 2.5 m images without aliasing. What the
native pixel has blurred already (a box of its side, variance side^2 / 12) is taken off the aperture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from geodiff.imagery.ground import Bounds, part_of
from geodiff.imagery.scene_file import open_scene
from geodiff.schema import FloatArray, GeodiffError
from geodiff.sensor import DEFAULT_MTF, gaussian_sigma

DRIVERS = ("GTiff", "COG")
FINE_ENOUGH = 4
"""Native pixels in one of the truth, beyond which they are averaged when read (by overviews where a file has them)."""

BLOCK_PX = 256
"""Side of the largest piece that is read at a time, in pixels of the truth."""

NARROWEST_PX = 0.35
"""Least standard deviation of the aperture, in pixels of the truth: where the native pixel is hardly finer."""

COVERED = 0.95
"""Share of the aperture that must hold data."""

_Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Radiometry:
    """How numbers become reflectance: gain * number + offset, per wanted band.

    Attributes:
        indexes: of the bands in the file, from 1, in the order wanted.
        gain, offset: per band.
        nodata: number that means none; None for what the file itself says.
    """

    indexes: tuple[int, ...]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: float | None = None


@dataclass(frozen=True)
class FolderImage:
    """One file of a place.

    Attributes:
        path: of a GeoTIFF.
        day: days since 1970-01-01; NaN where neither name nor metadata tell.
        native_m: side of its pixel in metres.
        radiometry: of its numbers.
    """

    path: Path
    day: float
    native_m: float
    radiometry: Radiometry


@dataclass(frozen=True, eq=False)
class FolderPlace:
    """Ground that several files show, on one grid; nothing is read before it is asked for. It may be pickled.

    Attributes:
        name: for reports.
        images: in order of time.
        crs: of the grid, in metres.
        origin: (x, y) of the upper left corner.
        shape: (rows, columns).
        truth_m: side of a pixel of the truth in metres.
        pixel_m: side of the low-resolution pixel that the degraded series stands for.
        ground: places that overlap have one.
        footprint: degrees.
    """

    name: str
    images: tuple[FolderImage, ...]
    crs: str
    origin: tuple[float, float]
    shape: tuple[int, int]
    truth_m: float
    pixel_m: float
    ground: str
    footprint: Bounds | None

    @property
    def days(self) -> npt.NDArray[np.float64]:
        """(time,) days since 1970-01-01."""
        return np.array([image.day for image in self.images], np.float64)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the truth."""
        return self.shape

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        """A window of some dates, (date, band, row, column), NaN where there is no data.

        Raises:
            GeodiffError: a file cannot be read; it is named.
        """
        count = len(self.images[0].radiometry.indexes)
        out = np.empty((len(dates), count, rows.stop - rows.start, cols.stop - cols.start), np.float32)
        # In blocks: native pixels of a whole strip of a large orthophoto would not fit in memory.
        for top in range(rows.start, rows.stop, BLOCK_PX):
            for left in range(cols.start, cols.stop, BLOCK_PX):
                down = slice(top, min(top + BLOCK_PX, rows.stop))
                right = slice(left, min(left + BLOCK_PX, cols.stop))
                inside = (
                    slice(down.start - rows.start, down.stop - rows.start),
                    slice(right.start - cols.start, right.stop - cols.start),
                )
                for number, date in enumerate(dates):
                    out[number, :, inside[0], inside[1]] = self._window(self.images[date], down, right)
        return out

    def part(self, cols: slice) -> FolderPlace:
        """Some of the columns."""
        return replace(
            self,
            origin=(self.origin[0] + cols.start * self.truth_m, self.origin[1]),
            shape=(self.shape[0], cols.stop - cols.start),
            footprint=part_of(self.footprint, cols, self.shape[1]),
        )

    def _window(self, image: FolderImage, rows: slice, cols: slice) -> FloatArray:
        """One date through the aperture."""
        side = self.truth_m
        x = self.origin[0] + (np.arange(cols.start, cols.stop, dtype=np.float64) + 0.5) * side
        y = self.origin[1] - (np.arange(rows.start, rows.stop, dtype=np.float64) + 0.5) * side
        try:
            with opened(image.path, self.crs, image.native_m, image.radiometry.nodata) as source:
                values, step, corner = _numbers(source, image, (x[0], x[-1]), (y[-1], y[0]), side)
        except RasterioError as error:
            raise GeodiffError(f"cannot read training image {image.path}: {error}") from error
        sigma = aperture(side, step)
        across = _weights(x, corner[0] + (np.arange(values.shape[-1], dtype=np.float64) + 0.5) * step, sigma)
        down = _weights(-y, -corner[1] + (np.arange(values.shape[-2], dtype=np.float64) + 0.5) * step, sigma)
        known = np.isfinite(values).all(0)
        held = down @ known.astype(np.float64) @ across.T
        filled = np.where(known, values, 0.0)
        seen = (down @ filled @ across.T) / np.maximum(held, 1e-9)
        gain = np.array(image.radiometry.gain)[:, None, None]
        offset = np.array(image.radiometry.offset)[:, None, None]
        return np.where(held >= COVERED, gain * seen + offset, np.nan).astype(np.float32)


def aperture(truth_m: float, native_m: float) -> float:
    """Standard deviation in metres of the Gaussian that is left to apply to pixels of ``native_m``."""
    wanted = truth_m * gaussian_sigma(1, DEFAULT_MTF)
    return max(math.sqrt(max(wanted**2 - native_m**2 / 12, 0.0)), NARROWEST_PX * truth_m)


def _weights(wanted: npt.NDArray[np.float64], at: npt.NDArray[np.float64], sigma: float) -> _Weights:
    """Share of each source pixel in each pixel wanted, one axis; rows sum to 1 unless the source ends within reach."""
    step = float(at[1] - at[0]) if len(at) > 1 else sigma
    more = math.ceil(4 * sigma / step) + 1
    # Against the sum over a source without borders: what lies beyond the file counts as missing.
    endless = at[0] + step * np.arange(-more, len(at) + more)
    distance = (endless[None] - wanted[:, None]) / sigma
    weight = np.where(np.abs(distance) <= 4.0, np.exp(-0.5 * distance**2), 0.0)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-12)
    inside: _Weights = weight[:, more : more + len(at)]
    return inside


@contextmanager
def opened(path: Path, crs: str | None = None, native_m: float = 0.0, nodata: float | None = None) -> Iterator[Any]:
    """A GeoTIFF, seen north up in ``crs`` where it is not already; no other driver of GDAL is let at the file.

    Raises:
        RasterioError: it does not exist, or is no GeoTIFF.
    """
    # Left to itself GDAL goes by content, and a VRT may name any file of this disk (imagery.scene_file).
    with open_scene(path, DRIVERS) as source:
        tilted = source.transform.b or source.transform.d or source.transform.e > 0
        if crs is None or (not tilted and str(source.crs) == crs):
            yield source
            return
        west, south, east, north = bounds_in(source, crs)
        size = math.ceil((north - south) / native_m), math.ceil((east - west) / native_m)
        transform = Affine(native_m, 0, west, 0, -native_m, north)
        known = source.nodata if nodata is None else nodata
        with WarpedVRT(
            source,
            crs=crs,
            transform=transform,
            height=size[0],
            width=size[1],
            resampling=Resampling.bilinear,
            nodata=known,
            add_alpha=known is None,
        ) as warped:
            yield warped


def bounds_in(source: Any, crs: str) -> Bounds:
    """Bounds of a raster in another CRS."""
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(source.crs, crs, *source.bounds)
    return float(west), float(south), float(east), float(north)


def _numbers(
    source: Any, image: FolderImage, x: tuple[float, float], y: tuple[float, float], truth_m: float
) -> tuple[npt.NDArray[np.float64], float, tuple[float, float]]:
    """Numbers of a box and its margin as stored, NaN for none; the side of a pixel in metres; (x, y) of the corner."""
    margin = 4 * truth_m
    native = float(source.transform.a)
    left, top = source.transform.c, source.transform.f
    c0 = max(math.floor((x[0] - margin - left) / native), 0)
    c1 = min(math.ceil((x[1] + margin - left) / native), source.width)
    r0 = max(math.floor((top - y[1] - margin) / native), 0)
    r1 = min(math.ceil((top - y[0] + margin) / native), source.height)
    bands = image.radiometry.indexes
    if c1 <= c0 or r1 <= r0:
        return np.full((len(bands), 1, 1), np.nan), truth_m, (x[0] - margin, y[1] + margin)
    factor = max(int(truth_m / native) // FINE_ENOUGH, 1)
    rows, cols = -(-(r1 - r0) // factor), -(-(c1 - c0) // factor)
    # A window of whole steps, over the border where need be, so that pixels stay square.
    window = Window(c0, r0, cols * factor, rows * factor)
    inside = window.col_off + window.width <= source.width and window.row_off + window.height <= source.height
    if not inside:
        rows, cols = max((r1 - r0) // factor, 1), max((c1 - c0) // factor, 1)
        window = Window(c0, r0, min(cols * factor, c1 - c0), min(rows * factor, r1 - r0))
    shape = (rows, cols)
    how = Resampling.average if factor > 1 else Resampling.nearest
    numbers = source.read(list(bands), window=window, out_shape=(len(bands), *shape), resampling=how)
    shown = source.read_masks(list(bands), window=window, out_shape=(len(bands), *shape)).min(0) > 0
    values = numbers.astype(np.float64)
    if image.radiometry.nodata is not None:
        shown &= (numbers != image.radiometry.nodata).all(0)
    values[:, ~shown] = np.nan
    return values, native * factor, (left + c0 * native, top - r0 * native)
