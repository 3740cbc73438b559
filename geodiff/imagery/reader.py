"""How one asset is read for stackstac: exact on its own lattice, resampled with care off it, and never silent.

On its own lattice means that the edges of its pixels are edges of the grid: pixels of the grid's size are copied, those
that are twice as large (of classes: any whole number of times) are repeated, so that a band of 20 m lies on a grid of
10 m in blocks of two by two equal pixels, where the file has them (tiles of Sentinel-2: at even rows and columns of the
absolute lattice).

stackstac's own reader turns a missing file into no data and resamples with an error that depends on the window asked
for (GDAL fits its approximation of the projection, and the width of its kernel, to each window). This one raises,
naming the scene, and always warps the same blocks, so that a pixel's value does not depend on the chunking.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from geodiff.imagery.open_files import OpenFile, OpenFiles
from geodiff.imagery.radiometry import BandRule
from geodiff.imagery.scene_file import is_masked, open_scene
from geodiff.schema import GeodiffError

ALIGNED_PX = 1e-2
"""Two lattices are the same if their pixels nowhere lie further apart than this part of a pixel."""

MOST_TIMES = 2
"""Reflectance up to so many times coarser is copied in blocks, which models regroup; what is coarser still would be a
staircase to them, and is interpolated."""

WARP_TOLERANCE_PX = 1e-3
"""Error allowed to GDAL's approximation of a projection; its own default of 0.125 px is visible in our products."""

_Numbers = npt.NDArray[Any]
_Mask = npt.NDArray[np.bool_]

_FILES = OpenFiles()


@dataclass(frozen=True)
class AssetNote:
    """What the catalogue knows of an asset and its file may not say.

    Attributes:
        scene, asset: names for error messages.
        rule: how numbers become reflectance; None for classes, which are read as they are (no data = 0).
        crs: as text, for a file without one.
        bounds: (left, bottom, right, top) in that CRS, for a file without georeference.
    """

    scene: str
    asset: str
    rule: BandRule | None
    crs: str | None = None
    bounds: tuple[float, float, float, float] | None = None


class SceneReader:
    """A stackstac ``Reader``: reads windows of one asset on the target grid.

    It travels to workers: files are opened where they are read, and few are kept open (see ``OpenFiles``). ``notes``
    are by href, all that stackstac passes on.
    """

    def __init__(
        self,
        *,
        url: str,
        spec: Any,
        resampling: Resampling,
        dtype: np.dtype[Any],
        fill_value: float,
        scale_offset: tuple[float, float] = (1.0, 0.0),
        gdal_env: Any = None,
        errors_as_nodata: tuple[Exception, ...] = (),
        notes: Mapping[str, AssetNote],
    ) -> None:
        self.url, self.spec, self.resampling, self.note = url, spec, resampling, notes[url]
        self.dtype, self.fill_value = np.dtype(dtype), fill_value
        self.gdal_env = gdal_env
        self._key = uuid.uuid4().hex  # a later computation opens anew, for the file may have been replaced

    def read(self, window: Window) -> _Numbers:
        """Read ``window`` of the target grid.

        Returns:
            (rows, columns): float32 reflectance with NaN, or classes, as the note says.

        Raises:
            GeodiffError: the file is missing, corrupt or truncated; names scene, asset and href.
        """
        try:
            with self.gdal_env.open:
                numbers, seen = self._read(_FILES.get(self._key, self._open), window)
        except (RasterioError, OSError, ValueError) as error:
            raise self._failure(error) from error
        if self.note.rule is None:
            return np.where(seen, numbers, self.fill_value).astype(self.dtype)
        reflectance = self.note.rule.apply(numbers)
        reflectance[~seen] = np.nan
        return reflectance

    def close(self) -> None:
        """Part of stackstac's protocol; handles close when others take their place or their thread ends."""

    def _open(self) -> OpenFile:
        dataset = open_scene(self.url)
        if dataset.count != 1:
            raise self._failure(f"it holds {dataset.count} bands, an asset must hold one (geodiff catalog build)")
        crs = dataset.crs or self.note.crs
        transform = dataset.transform if dataset.crs else self._noted_transform(dataset)
        target = self.spec.vrt_params
        times, offset = 1, None
        if _same_crs(crs, target["crs"]):
            times = max(round(transform.a / target["transform"].a), 1)
            if self.note.rule is None or times <= MOST_TIMES:
                offset = lattice_offset(transform, target["transform"], target, times=times)
        return OpenFile(dataset, crs, transform, offset, times, is_masked(dataset))

    def _read(self, file: OpenFile, window: Window) -> tuple[_Numbers, _Mask]:
        if file.offset is not None:
            return _read_aligned(file, window, file.offset)
        return self._read_warped(file, window)

    def _read_warped(self, file: OpenFile, window: Window) -> tuple[_Numbers, _Mask]:
        """Resample, block by block of the warped raster, so that each block is always computed from the same window."""
        # A mask is taken into account by what warps, beside an alpha band.
        nodata = None if file.masked else self._nodata(file.dataset)
        numbers = np.zeros((int(window.height), int(window.width)), file.dataset.dtypes[0])
        seen = np.zeros(numbers.shape, bool)
        with WarpedVRT(file.dataset, **self._warp_options(file, nodata)) as warped:
            for block in _blocks(warped, window):
                read = warped.read(window=block)
                keep = _is_data(read[0], nodata) if len(read) == 1 else read[1] > 0
                outer, inner = _overlap(window, block)
                numbers[outer], seen[outer] = read[0][inner], keep[inner]
        return numbers, seen

    def _warp_options(self, file: OpenFile, nodata: float | None) -> dict[str, Any]:
        ratio = _ground_ratio(file, self.spec)
        options: dict[str, Any] = {
            **self.spec.vrt_params,
            "src_crs": file.crs,
            "src_transform": file.transform,
            "tolerance": WARP_TOLERANCE_PX,
            "resampling": self.resampling if self.resampling == Resampling.nearest else kernel(ratio),
        }
        options |= {"src_nodata": nodata, "nodata": nodata} if nodata is not None else {"add_alpha": True}
        # Without these GDAL guesses the ratio of pixels anew for each block, and stretches its kernel by the guess.
        return options | ({"XSCALE": "1", "YSCALE": "1"} if ratio < 1.3 else {})

    def _nodata(self, dataset: Any) -> float | None:
        """What is no data while resampling: what the asset states counts for more than what the file says."""
        rule = self.note.rule
        if dataset.nodata is not None and not (rule is not None and rule.nodata_stated):
            return float(dataset.nodata)
        return 0.0 if rule is None else rule.nodata

    def _noted_transform(self, dataset: Any) -> Affine:
        if self.note.bounds is None or self.note.crs is None:
            raise self._failure("neither the file nor its item says where on Earth it lies (CRS, proj:transform)")
        left, bottom, right, top = self.note.bounds
        size = (right - left) / dataset.width, (bottom - top) / dataset.height
        return Affine(size[0], 0, left, 0, size[1], top)

    def _failure(self, reason: object) -> GeodiffError:
        text = " ".join(str(reason).split()) or type(reason).__name__
        return GeodiffError(
            f"scene {self.note.scene}, asset {self.note.asset}: cannot read {self.url} ({text}); "
            "fetch the file again, search again if its link has expired, or leave the scene out"
        )


def _blocks(raster: Any, window: Window) -> Iterator[Window]:
    """Whole blocks of ``raster`` that ``window`` touches."""
    rows, cols = raster.block_shapes[0]
    top, left = int(window.row_off), int(window.col_off)
    for row in range(top // rows * rows, top + int(window.height), rows):
        for col in range(left // cols * cols, left + int(window.width), cols):
            yield Window(col, row, min(cols, raster.width - col), min(rows, raster.height - row))


def _overlap(first: Window, second: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the common pixels in either window; the two must overlap."""
    (r0, r1), (c0, c1) = (
        (max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first.toslices(), second.toslices(), strict=True)
    )
    slices = [np.s_[r0 - w.row_off : r1 - w.row_off, c0 - w.col_off : c1 - w.col_off] for w in (first, second)]
    return slices[0], slices[1]


def lattice_offset(
    source: Affine, target: Affine, shape: Mapping[str, Any], *, times: int = 1
) -> tuple[int, int] | None:
    """Where ``target`` starts on the lattice of ``source``.

    Args:
        source, target: north-up transforms in one CRS.
        shape: "height" and "width" of the target in pixels, over which the pixel sizes may not drift apart.
        times: pixels of the source are so many times as large as those of the target.

    Returns:
        (rows, columns) in pixels of the target, or None where the lattices differ.
    """
    if any((source.b, source.d, target.b, target.d)) or not (source.a > 0 > source.e):
        return None
    across, down = source.a / times, source.e / times
    drift = max(abs(target.a / across - 1) * shape["width"], abs(target.e / down - 1) * shape["height"])
    col, row = (target.c - source.c) / across, (target.f - source.f) / down
    off = max(abs(col - round(col)), abs(row - round(row)))
    return (round(row), round(col)) if max(drift, off) <= ALIGNED_PX else None


def _read_aligned(file: OpenFile, window: Window, offset: tuple[int, int]) -> tuple[_Numbers, _Mask]:
    """Copy pixels, each ``times`` by ``times`` times: the lattices agree, ``offset`` (rows, columns) apart."""
    dataset, times = file.dataset, file.times
    rows, cols = int(window.height), int(window.width)
    top, left = int(window.row_off) + offset[0], int(window.col_off) + offset[1]
    r0, r1 = max(top, 0), min(top + rows, dataset.height * times)
    c0, c1 = max(left, 0), min(left + cols, dataset.width * times)
    if r1 <= r0 or c1 <= c0:
        return np.zeros((rows, cols), dataset.dtypes[0]), np.zeros((rows, cols), bool)
    down, across = r0 // times, c0 // times
    inner = Window(across, down, -(-c1 // times) - across, -(-r1 // times) - down)
    numbers = dataset.read(1, window=inner)
    seen = _is_data(numbers, dataset.nodata)
    if file.masked:
        seen &= dataset.read_masks(1, window=inner) > 0
    if times > 1:
        inside = np.s_[r0 - down * times : r1 - down * times, c0 - across * times : c1 - across * times]
        numbers, seen = (array.repeat(times, 0).repeat(times, 1)[inside] for array in (numbers, seen))
    if numbers.shape == (rows, cols):
        return numbers, seen
    beyond = ((r0 - top, top + rows - r1), (c0 - left, left + cols - c1))
    return np.pad(numbers, beyond), np.pad(seen, beyond)


def kernel(ratio: float) -> Resampling:
    """The resampling of reflectance; ``ratio`` is target pixel / source pixel on the ground.

    It is for sources that are off the lattice of the grid; on it pixels are copied. Cubic keeps detail between lattices
    of one size; bilinear is for sources that are coarser (20 m bands in another CRS, where cubic would ring) or finer
    (GDAL widens the kernel to average).
    """
    return Resampling.cubic if 0.75 <= ratio < 1.3 else Resampling.bilinear


def _ground_ratio(file: OpenFile, spec: Any) -> float:
    """Target pixel over source pixel, as lengths on the ground."""
    from rasterio.warp import transform_bounds

    source = rasterio.crs.CRS.from_user_input(file.crs)
    target, dataset = spec.vrt_params, file.dataset
    bounds = rasterio.transform.array_bounds(dataset.height, dataset.width, file.transform)
    left, bottom, right, top = transform_bounds(source, rasterio.crs.CRS.from_epsg(target["crs"]), *bounds)
    across = math.sqrt(abs((right - left) * (top - bottom)) / (dataset.height * dataset.width))
    return math.sqrt(spec.resolutions_xy[0] * spec.resolutions_xy[1]) / across


def _same_crs(crs: Any, epsg: int) -> bool:
    found = rasterio.crs.CRS.from_user_input(crs)
    return bool(found.to_epsg() == epsg or found == rasterio.crs.CRS.from_epsg(epsg))


def _is_data(numbers: _Numbers, nodata: float | None) -> _Mask:
    seen = np.isfinite(numbers) if numbers.dtype.kind == "f" else np.ones(numbers.shape, bool)
    if nodata is not None and not math.isnan(nodata):
        seen &= numbers != nodata
    return seen
