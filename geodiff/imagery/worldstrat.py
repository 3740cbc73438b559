"""WorldStrat, exactly: its places, their series, and the high resolution in the frame of the low.

    tree = WorldStrat(Path("worldstrat"))
    pair = tree["Landcover-769876"].pair()
    pair.cube, pair.truth, pair.clear, pair.transform.shift_px

Nothing is open between two reads, so that a tree may be pickled, forked and shared among threads. The high-resolution
images are © Airbus DS, CC BY-NC 4.0; the rest of the data set is CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from geodiff.grid import Grid
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.worldstrat_dates import Revisit, hr_time_of, revisits_of
from geodiff.imagery.worldstrat_files import CACHE_BYTES, Array, ImageCache, as_reflectance, read_header
from geodiff.imagery.worldstrat_layout import ANGLES, HR_BANDS, HR_COUNT, MASKS, Layout, open_layout, parent_of
from geodiff.imagery.worldstrat_pair import CLEAR_ENOUGH, Matched, match_high
from geodiff.imagery.worldstrat_register import HrTransform
from geodiff.imagery.worldstrat_series import MAX_CLOUD_PROBABILITY, SeriesReader, read_series
from geodiff.schema import (
    BAND,
    BANDS_10M,
    CUBE_DIMS,
    TIME,
    VALID,
    BoolArray,
    FloatArray,
    GeodiffError,
    UsageError,
    X,
    Y,
)

__all__ = ["Aoi", "HrTransform", "Pair", "WorldStrat"]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A series and the truth of one of its dates.

    Attributes:
        cube: (time, band, y, x), in memory, in order of time; see ``Aoi.cube``.
        truth: (band, scale * y, scale * x) float32 reflectance in the frame of ``cube``'s date ``target_index``; NaN
            where the high resolution does not reach. Its attribute ``hr_transform`` holds ``transform`` as JSON.
        clear: (y, x) bool: where the truth may be trusted: reached, and nothing like a cloud or a change in it.
        target_index: the date of ``cube`` that the truth belongs to: the clear one nearest to it in time.
        transform: how the truth was made.
    """

    cube: xr.DataArray
    truth: xr.DataArray
    clear: BoolArray
    target_index: int
    transform: HrTransform


@dataclass(frozen=True, slots=True, eq=False)
class Aoi:
    """One place; nothing of it is read before it is asked for.

    Attributes:
        name: of the area of interest.
        layout: of the download.
        cache: of images, shared with the other places of the tree.
        level: of the low resolution, "L2A" or "L1C".
    """

    name: str
    layout: Layout
    cache: ImageCache
    level: str = "L2A"

    @property
    def parent(self) -> str:
        """The image order that the place was cut from; see ``worldstrat_layout.parent_of``."""
        return parent_of(self.name)

    def revisits(self) -> tuple[Revisit, ...]:
        """The low-resolution images in order of time, by the dates of their JSON."""
        return revisits_of(self.layout, self.name, self.level)

    def cube(self, bands: Sequence[str] = BANDS_10M, *, max_cloud: float = MAX_CLOUD_PROBABILITY) -> xr.DataArray:
        """The series as a lazy cube; see ``worldstrat_series.read_series``."""
        return read_series(self._reader(), bands, max_cloud=max_cloud)

    def high(self, kind: str = "ps") -> FloatArray:
        """A high-resolution image as numbers / 10,000.

        Args:
            kind: "ps" (pansharpened, 1.5 m), "rgbn" (6 m) or "pan" (1.5 m, one band).

        Returns:
            (band, Y, X) float32; bands in the order B02 B03 B04 B08, for "pan" the panchromatic one.

        Raises:
            GeodiffError: missing, corrupt, or with another number of bands.
        """
        if kind == "rgb":
            raise UsageError("the rgb of WorldStrat is a picture of 8 bits without radiometry: ask for ps, rgbn or pan")
        path = self.layout.hr_file(self.name, kind)
        stored = self.cache.read(path)
        if len(stored) != HR_COUNT[kind]:
            raise GeodiffError(f"{path} holds {len(stored)} bands, not {HR_COUNT[kind]}: download it again")
        pan = self.layout.hr_file(self.name, "pan")
        if kind == "ps" and pan.is_file() and (shape := read_header(pan).shape) != stored.shape[-2:]:
            sizes = f"{stored.shape[-2]} x {stored.shape[-1]} pixels, its panchromatic band {shape[0]} x {shape[1]}"
            raise GeodiffError(f"{path} is {sizes}: download both again")
        image = as_reflectance(stored)
        return image if kind == "pan" else image[[HR_BANDS.index(band) for band in BANDS_10M]]

    def picture(self) -> Array:
        """The stretched picture that comes with the high resolution, (3, Y, X) uint8 in red, green and blue."""
        return self.cache.read(self.layout.hr_file(self.name, "rgb"), (1, 2, 3))

    def layer(self, revisit: Revisit, kind: str) -> Array:
        """A mask or an angle of one revisit as stored, (y, x).

        Args:
            revisit: one of ``revisits()``.
            kind: "CLM", "CLP", "dataMask", "viewZenithMean", "viewAzimuthMean", "sunAzimuthAngles" or
                "sunZenithAngles" (degrees).
        """
        if kind not in (*MASKS, *ANGLES):
            raise UsageError(f"WorldStrat has no layer {kind!r}: choose among {', '.join((*MASKS, *ANGLES))}")
        layer: Array = self.cache.read(self.layout.lr_file(self.name, self.level, revisit.rank, kind), (1,))[0]
        return layer

    def pair(
        self,
        bands: Sequence[str] = BANDS_10M,
        *,
        scale: int = 4,
        kind: str = "ps",
        max_cloud: float = MAX_CLOUD_PROBABILITY,
    ) -> Pair:
        """The series with the high resolution registered, matched and resampled to its frame.

        Args:
            bands: of the series; those of them among B02 B03 B04 B08 are the bands of the truth, in their order.
            scale: pixels of the truth in one of the series; 4 is 2.5 m.
            kind: the file of the truth, "ps" or "rgbn".
            max_cloud: see ``cube``.

        Raises:
            GeodiffError: missing, corrupt or mis-sized files; no date clear enough to register to.
            UsageError: unknown bands, or none that the high resolution has.
        """
        if scale < 1 or kind == "pan":
            raise UsageError(f"a truth needs a scale of 1 or more and bands, not scale {scale} of {kind!r}")
        asked = [band for band in bands if band in BANDS_10M]
        if not asked:
            raise UsageError(f"the high resolution of WorldStrat has none of {', '.join(bands)}")
        names = (*bands, *(band for band in BANDS_10M if band not in bands))
        # Here and now: a loader's worker is one of many already.
        full = self.cube(names, max_cloud=max_cloud).compute(scheduler="synchronous")
        hr_time = hr_time_of(self.revisits(), self.name)
        index = nearest_clear(full, hr_time, self.name)
        low = full.sel({BAND: list(BANDS_10M)}).isel({TIME: index})
        grid = grid_of(full)
        matched = match_high(
            self.high(kind),
            low.values,
            low[VALID].values,
            scale=scale,
            about={
                "aoi": self.name,
                "kind": kind,
                "hr_time": _iso(hr_time),
                "reference_time": _iso(full[TIME].values[index]),
            },
            pixel_m=grid.pixel_m,
        )
        truth = _label(matched, asked, grid.zoom(scale))
        cube = full.sel({BAND: list(bands)}).assign_attrs(hr_transform=matched.transform.to_json())
        return Pair(cube.transpose(*CUBE_DIMS), truth, matched.clear, index, matched.transform)

    def _reader(self) -> SeriesReader:
        return SeriesReader(self.layout, self.cache, self.name, self.level, self.revisits())


def nearest_clear(cube: xr.DataArray, hr_time: np.datetime64, aoi: str) -> int:
    """The date nearest to ``hr_time`` among those that are clear enough to register to.

    Raises:
        GeodiffError: no date is.
    """
    share = cube[VALID].mean((Y, X)).values
    away = np.abs((cube[TIME].values - hr_time) / np.timedelta64(1, "s"))
    usable = np.flatnonzero(share >= CLEAR_ENOUGH)
    if not len(usable):
        raise GeodiffError(
            f"{aoi}: none of its {len(share)} dates is {CLEAR_ENOUGH:.0%} clear (best {share.max():.0%}), so that the "
            "high resolution cannot be registered: leave the place out by name"
        )
    return int(min(usable, key=lambda i: (away[i], -share[i])))


def _iso(moment: np.datetime64) -> str:
    return f"{moment.astype('datetime64[s]')}Z"


def _label(matched: Matched, bands: Sequence[str], grid: Grid) -> xr.DataArray:
    values = matched.truth[[BANDS_10M.index(band) for band in bands]]
    truth = xr.DataArray(
        values,
        dims=(BAND, Y, X),
        name="reflectance",
        coords={BAND: list(bands), Y: grid.y, X: grid.x},
        attrs={"long_name": "surface reflectance", "units": "1", "hr_transform": matched.transform.to_json()},
    )
    labelled: xr.DataArray = truth.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    return labelled


@dataclass(frozen=True, eq=False)
class WorldStrat:
    """The places of a download, by name or number.

    Attributes:
        root: holds ``hr_dataset`` and ``lr_dataset``.
        level: of the low resolution, "L2A" or "L1C".
        cache_bytes: of images kept in memory, per process.

    Raises:
        GeodiffError: ``root`` is no WorldStrat download.
    """

    root: Path
    level: str = "L2A"
    cache_bytes: int = CACHE_BYTES
    cache: ImageCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", ImageCache(self.cache_bytes))
        self.layout.lr_folder("", self.level)

    @cached_property
    def layout(self) -> Layout:
        return open_layout(self.root)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Places with both resolutions, sorted."""
        return self.layout.aois()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Aoi]:
        return (self[name] for name in self.names)

    def __getitem__(self, which: str | int) -> Aoi:
        name = self.names[which] if isinstance(which, int) else which
        lacking = [
            str(folder)
            for folder in (self.layout.hr_folder(name), self.layout.lr_folder(name, self.level))
            if not folder.is_dir()
        ]
        if lacking:
            raise GeodiffError(f"{name}: missing {' and '.join(lacking)}; run geodiff worldstrat verify {self.root}")
        return Aoi(name, self.layout, self.cache, self.level)
