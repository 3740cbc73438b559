"""One band of one scene: where its numbers are, how they are read, and how they become a file of their own."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.features
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.warp import transform_geom
from shapely import convex_hull, segmentize, union_all
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from geodiff.imagery.build_names import is_class
from geodiff.imagery.scene_file import is_masked, open_scene
from geodiff.schema import GeodiffError

Numbers = npt.NDArray[Any]
# Where a file is closed, which is when a full disk shows, rasterio lets GDAL's own errors through, and raises
# SystemError where GDAL failed without a word.
RASTER_ERRORS = (RasterioError, CPLE_BaseError, SystemError)
PREVIEW = 256
"""Side of the decimated mask from which a footprint is drawn."""

FINGERPRINT = "GEODIFF_SOURCE"
"""Tag of a COG that says what it was made from, so that a rerun knows it again."""


@dataclass(frozen=True)
class Layer:
    """One band of one scene, before it is an asset.

    Attributes:
        band: our name of it.
        path: the file that holds it.
        part: what inside the file (band number, variable and time step), part of the fingerprint.
        read: the numbers, (row, column), of the whole layer or decimated to the shape asked for.
        crs: "EPSG:32631" or WKT.
        transform: pixel corners to CRS, north up.
        shape: (rows, columns).
        dtype: numpy name.
        scale, offset, nodata: what file or user say of the numbers; None where neither does.
        ready: the file itself can be the asset (one band, georeferenced).
        extra: fields that the asset keeps from an earlier item.
    """

    band: str
    path: Path
    part: str
    read: Callable[[tuple[int, int] | None], Numbers] = field(repr=False)
    crs: str
    transform: Affine
    shape: tuple[int, int]
    dtype: str
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    ready: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in units of the CRS."""
        t, (rows, cols) = self.transform, self.shape
        return (t.c, t.f + t.e * rows, t.c + t.a * cols, t.f)

    def with_scale(self, scale: float) -> Layer:
        """With the scale that the file does not state: an offset that it does state is then one of its numbers."""
        return replace(self, scale=scale, offset=None if self.offset is None else scale * self.offset)

    def fingerprint(self) -> str:
        """Equal for equal sources: file (name, size, time of change), place in it, georeference, nodata."""
        stat = self.path.stat()
        nodata = None if self.nodata is None else str(self.nodata)
        words = [self.path.name, stat.st_size, stat.st_mtime_ns, self.part, self.crs, list(self.transform)[:6], nodata]
        return json.dumps([*words, list(self.shape), self.dtype])


@dataclass(frozen=True)
class Scene:
    """The layers of one moment at one place.

    Attributes:
        id: unique in the catalogue.
        time: UTC.
        layers: at least one; bands are unique.
        properties: of the item, as far as they are known.
    """

    id: str
    time: datetime
    layers: tuple[Layer, ...]
    properties: dict[str, Any] = field(default_factory=dict)


@contextmanager
def open_raster(path: Path) -> Iterator[rasterio.DatasetReader]:
    """A raster file, also one without georeference.

    Raises:
        GeodiffError: it cannot be opened or read; the message names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with open_scene(path) as source:
                yield source
    except RASTER_ERRORS as error:
        raise GeodiffError(f"cannot read {path}: {_first_line(error)}; it seems corrupt or truncated") from None


def raster_reader(path: Path, index: int, fill: float | None = None) -> Callable[[tuple[int, int] | None], Numbers]:
    """Reads band ``index`` (from 1) of a raster file; ``fill`` stands where a mask of the file hides it."""

    def read(shape: tuple[int, int] | None) -> Numbers:
        with open_raster(path) as source:
            numbers: Numbers = source.read(index, out_shape=shape)
            if fill is not None and is_masked(source, index):
                numbers[source.read_masks(index, out_shape=shape) == 0] = fill
            return numbers

    return read


def fill_of(band: str, dtype: str) -> float:
    """What stands for no data where a file has a mask and names no number: one that data hardly are."""
    if np.dtype(dtype).kind == "f":
        return float("nan")
    signed = np.dtype(dtype).kind == "i"
    return 0.0 if is_class(band) else float(np.iinfo(dtype).min if signed else np.iinfo(dtype).max)


def read_last_pixel(source: rasterio.DatasetReader) -> None:
    """Read the last pixel of every band, which fails where a file ends before it should."""
    source.read(window=((source.height - 1, source.height), (source.width - 1, source.width)))


def write_cog(layer: Layer, path: Path) -> bool:
    """Write a layer as a cloud-optimised GeoTIFF, whole or not at all.

    Returns:
        False when the file was there already, made from the same source.

    Raises:
        GeodiffError: the source cannot be read, or the target not written (permission, disk full).
    """
    mark = layer.fingerprint()
    if _made_from(path) == mark:
        return False
    numbers = layer.read(None)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            temporary,
            "w",
            driver="COG",
            height=layer.shape[0],
            width=layer.shape[1],
            count=1,
            dtype=layer.dtype,
            crs=layer.crs,
            transform=layer.transform,
            nodata=layer.nodata,
            compress="DEFLATE",
            predictor="YES",
            blocksize=512,
            overview_resampling="nearest" if is_class(layer.band) else "average",
        ) as target:
            target.write(numbers, 1)
            target.set_band_description(1, layer.band)
            target.update_tags(**{FINGERPRINT: mark})
        # GDAL reports a full disk late or not at all: what cannot be read back was not written.
        if _made_from(temporary) != mark:
            raise RasterioIOError("the file came out incomplete, is the disk full?")
        os.replace(temporary, path)
    except (OSError, *RASTER_ERRORS) as error:
        raise GeodiffError(f"cannot write {path}: {_first_line(error)}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def footprint(layer: Layer) -> BaseGeometry:
    """The ground with data, in degrees: the convex hull of the valid pixels where nodata is known, else the bounds.

    The mask is decimated to at most 256 pixels a side, so the outline is good to one such pixel (outwards).
    """
    own = box(*layer.bounds)
    outline = own if layer.nodata is None else _valid_hull(layer).intersection(own)
    outline = own if outline.area == 0 else outline
    crs = CRS.from_string(layer.crs)
    if crs.is_projected:
        # Straight edges in metres are bent in degrees: a few points along each keep the outline true.
        west, south, east, north = outline.bounds
        outline = segmentize(outline, max(east - west, north - south) / 4)
    return shape(transform_geom(crs, "EPSG:4326", mapping(outline), precision=7))


def _valid_hull(layer: Layer) -> BaseGeometry:
    rows, cols = (min(PREVIEW, n) for n in layer.shape)
    numbers = layer.read((rows, cols))
    nodata = layer.nodata
    valid = ~np.isnan(numbers) if nodata is not None and math.isnan(nodata) else numbers != nodata
    step = zoomed(layer.transform, layer.shape[1] / cols, layer.shape[0] / rows)
    pieces = rasterio.features.shapes(valid.astype(np.uint8), mask=valid, transform=step)
    hull = convex_hull(union_all([shape(piece) for piece, _ in pieces]))
    one = max(abs(step.a), abs(step.e))
    # Reading every n-th pixel may miss up to n - 1 valid ones at the rim.
    return hull.buffer(one, join_style="mitre") if (rows, cols) != layer.shape and not hull.is_empty else hull


def zoomed(transform: Affine, right: float, down: float) -> Affine:
    """A north-up transform with pixels ``right`` times as wide and ``down`` times as high."""
    return Affine(transform.a * right, 0, transform.c, 0, transform.e * down, transform.f)


def _made_from(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        with open_scene(path) as source:
            read_last_pixel(source)
            mark = source.tags().get(FINGERPRINT)
            return None if mark is None else str(mark)
    except RASTER_ERRORS:
        return None


def _first_line(error: Exception) -> str:
    if isinstance(error, SystemError):
        return "GDAL failed without a reason, is the disk full?"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:200]
