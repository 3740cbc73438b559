"""The low-resolution series of one WorldStrat place as a cube in the form of the house."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from geodiff.grid import Grid
from geodiff.imagery.worldstrat_dates import Revisit
from geodiff.imagery.worldstrat_files import Array, Header, ImageCache, as_reflectance, read_header
from geodiff.imagery.worldstrat_layout import DATA, LR_BANDS, MASKS, Layout
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, UsageError, X, Y

MAX_CLOUD_PROBABILITY = 0.4
"""Of s2cloudless, above which a pixel is hidden: the threshold behind the mask CLM, which is coarser than CLP."""

CLP_FULL = 255.0
SAME_PLACE_PX = 0.05


@dataclass(frozen=True, slots=True)
class SeriesReader:
    """Reads the dates of one AOI and level.

    Attributes:
        layout: of the download.
        cache: of images.
        aoi: name.
        level: "L2A" or "L1C".
        revisits: in order of time.
    """

    layout: Layout
    cache: ImageCache
    aoi: str
    level: str
    revisits: tuple[Revisit, ...]

    def band_indexes(self, bands: Sequence[str]) -> tuple[int, ...]:
        """Places of the bands in the files, counted from 1."""
        stored = LR_BANDS[self.level]
        unknown = [band for band in bands if band not in stored]
        if unknown or not bands or len(set(bands)) < len(bands):
            what = f"no band {unknown[0]!r}" if unknown else "no such list of bands: name each once, at least one"
            raise UsageError(f"WorldStrat {self.level} has {what}; it holds {', '.join(stored)}")
        return tuple(stored.index(band) + 1 for band in bands)

    def grid(self) -> Grid:
        """The grid that all revisits share.

        Raises:
            GeodiffError: a file is missing, has no georeference, or another size or place than most.
        """
        headers = {self._path(revisit, DATA): self._header(revisit) for revisit in self.revisits}
        usual, _ = Counter((h.shape, h.crs, h.transform) for h in headers.values()).most_common(1)[0]
        common = next(h for h in headers.values() if (h.shape, h.crs, h.transform) == usual)
        for path, header in headers.items():
            _require_same(common, header, path)
        t = common.transform
        if common.crs is None or t.b or t.d or t.a <= 0 or t.e >= 0:
            raise GeodiffError(f"{next(iter(headers))} has no north-up georeference: download it again")
        return Grid(common.crs, (t.a, -t.e), (t.c, t.f), common.shape)

    def _header(self, revisit: Revisit) -> Header:
        path = self._path(revisit, DATA)
        header = read_header(path)
        bands = len(LR_BANDS[self.level])
        if header.count != bands:
            raise GeodiffError(f"{path} holds {header.count} bands where {self.level} has {bands}: download it again")
        return header

    def _path(self, revisit: Revisit, kind: str) -> Path:
        return self.layout.lr_file(self.aoi, self.level, revisit.rank, kind)

    def read(self, revisit: Revisit, indexes: tuple[int, ...], shape: tuple[int, int], cloud: float) -> FloatArray:
        """One date: (band + 1, y, x) float32, the last layer 1 where clear, else 0; reflectance is NaN where not."""
        stored = self._image(revisit, DATA, shape, indexes)
        clm, clp, seen = (self._image(revisit, kind, shape)[0] for kind in MASKS)
        valid = clear_pixels(clm, clp, seen, cloud)
        # Where Sentinel-2 saw nothing all bands are zero; a single zero may be deep shade after the correction.
        valid &= np.isfinite(stored).all(axis=0) & (stored != 0).any(axis=0)
        reflectance = np.where(valid, as_reflectance(stored), np.float32(np.nan))
        return np.concatenate([reflectance, valid[None].astype(np.float32)])

    def _image(
        self, revisit: Revisit, kind: str, shape: tuple[int, int], indexes: tuple[int, ...] | None = None
    ) -> Array:
        path = self._path(revisit, kind)
        values = self.cache.read(path, indexes)
        if values.shape[-2:] != shape:
            rows, cols = values.shape[-2:]
            raise GeodiffError(
                f"{path} is {rows} x {cols} pixels where the series is {shape[0]} x {shape[1]}: download it again"
            )
        return values


def clear_pixels(clm: Array, clp: Array, data_mask: Array, max_cloud: float) -> BoolArray:
    """Where a revisit shows ground, (y, x) bool.

    Args:
        clm: cloud mask, 0 clear, 1 cloud, 255 unknown.
        clp: cloud probability of s2cloudless, 0-255.
        data_mask: 0 where there are no data.
        max_cloud: largest probability, 0-1, of a pixel that counts as clear.
    """
    return np.asarray((clm == 0) & (clp <= max_cloud * CLP_FULL) & (data_mask > 0) & (data_mask != 255))


def _require_same(common: Header, other: Header, path: Path) -> None:
    if other.shape != common.shape:
        raise GeodiffError(
            f"{path} is {other.shape[0]} x {other.shape[1]} pixels where the series is {common.shape[0]} x "
            f"{common.shape[1]}: download it again"
        )
    a, b = common.transform, other.transform
    off = max(abs(a.c - b.c) / abs(a.a), abs(a.f - b.f) / abs(a.e), abs(a.a / b.a - 1) * common.shape[1])
    if off > SAME_PLACE_PX or common.crs != other.crs:
        raise GeodiffError(f"{path} lies {off:.1f} pixels off the rest of its series: download it again")


def read_series(
    reader: SeriesReader, bands: Sequence[str], *, max_cloud: float = MAX_CLOUD_PROBABILITY
) -> xr.DataArray:
    """The series as a lazy cube, dates in order of time; pixels are read when it is computed.

    Args:
        reader: of the place.
        bands: names, any of the level's.
        max_cloud: largest cloud probability, 0-1, of a clear pixel.

    Returns:
        (time, band, y, x) float32 reflectance, NaN where not valid. Coordinates ``valid`` (time, y, x), ``time`` (UTC),
        ``band``, ``y``, ``x``, ``rank``, ``cloud_cover`` and ``scene_id`` (time) and ``spatial_ref``; attributes
        ``aoi``, ``level`` and ``hr_time``.

    Raises:
        GeodiffError: missing or mis-sized files, now or when it is computed.
        UsageError: unknown bands.
    """
    import rioxarray  # noqa: F401 - registers .rio

    indexes, grid = reader.band_indexes(bands), reader.grid()
    load = delayed(reader.read, pure=False)
    shape = (len(indexes) + 1, *grid.shape)
    layers = [
        da.from_delayed(load(revisit, indexes, grid.shape, max_cloud), shape, np.float32) for revisit in reader.revisits
    ]
    stacked = da.stack(layers)
    times = np.array([revisit.time for revisit in reader.revisits], "datetime64[ns]")
    ranks = [revisit.rank for revisit in reader.revisits]
    cube = xr.DataArray(
        stacked[:, :-1],
        dims=CUBE_DIMS,
        name="reflectance",
        coords={
            TIME: times,
            BAND: list(bands),
            Y: grid.y,
            X: grid.x,
            VALID: ((TIME, Y, X), stacked[:, -1] > 0.5),
            "rank": (TIME, np.array(ranks, np.int64)),
            "cloud_cover": (TIME, np.array([revisit.cloud_cover for revisit in reader.revisits])),
            "scene_id": (TIME, [f"{reader.aoi}-{rank}-{reader.level}" for rank in ranks]),
        },
        attrs={"long_name": "surface reflectance", "units": "1", "aoi": reader.aoi, "level": reader.level},
    )
    labelled: xr.DataArray = cube.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    return labelled.assign_attrs(hr_time=str(reader.revisits[0].hr_time.astype("datetime64[s]")), cloud_mask="CLM, CLP")
