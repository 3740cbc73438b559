"""Real multi-date Sentinel-2 series that may be trained on: true season, true clouds, and a mask of these.

Whoever learns from a date must be sure that it shows the ground: beside the scene classification, where there is one,
the screen by brightness (``masking``) must find it clear, for the classification calls whole overcast dates clear now
and then. The readers are named in ``SERIES``, beside the files that they read; a cube that lacks a band is told, not
dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.config import MaskConfig
from geodiff.imagery.build_names import normal_band
from geodiff.imagery.ground import Bounds
from geodiff.imagery.masking import SCREEN_BANDS, scl_valid, spectral_cloud_screen
from geodiff.imagery.places import WALD_PIXEL_M, bounds_of, read_places
from geodiff.schema import BANDS_10M, BoolArray, FloatArray, GeodiffError

SOURCE_PIXEL = (10.0, 10.0)
SMALLEST_CLEAR = 0.02
"""Dates with a smaller share of clear pixels teach nothing and are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class RealSeries:
    """One place through time, as it was delivered.

    Attributes:
        name: for reports; its first part names the source.
        images: (time, band, y, x) float32 reflectance, clouds included; 0 where there is no data.
        valid: (time, y, x) bool: observed, and clear by the mask.
        days: (time,) float64, days since 1970-01-01.
        pixel_m: side of the low-resolution pixel that the degraded series stands for, in metres.
        footprint: degrees, where the source tells.
    """

    name: str
    images: FloatArray
    valid: BoolArray
    days: npt.NDArray[np.float64]
    pixel_m: float
    footprint: Bounds | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        """A window of some dates, in their order, clouds included."""
        return self.images[list(dates), :, rows, cols]


@dataclass(frozen=True, slots=True)
class SeriesRead:
    """What ``read_series`` found, and (name, why) of what it could not use."""

    series: tuple[RealSeries, ...]
    left_out: tuple[tuple[str, str], ...]


def _masked(images: FloatArray, scl: npt.NDArray[Any] | None, bands: Sequence[str]) -> BoolArray:
    seen: BoolArray = np.all(images > 0, axis=1)  # NaN is not
    if scl is not None:
        classes = np.nan_to_num(scl).astype(np.uint8)
        seen = seen & np.asarray(scl_valid(classes, MaskConfig(), SOURCE_PIXEL), np.bool_)
    looked = images[:, [list(bands).index(band) for band in SCREEN_BANDS]]
    looked = np.where(seen[:, None], looked, np.float32(np.nan))
    return seen & np.asarray(spectral_cloud_screen(looked, MaskConfig(), SOURCE_PIXEL), np.bool_)


def _series(
    name: str,
    images: FloatArray,
    days: npt.NDArray[np.float64],
    *,
    bands: Sequence[str],
    scl: npt.NDArray[Any] | None = None,
    footprint: Bounds | None = None,
) -> RealSeries:
    valid = _masked(images, scl, bands)
    keep = valid.mean((1, 2)) >= SMALLEST_CLEAR
    clean = np.nan_to_num(images[keep]).astype(np.float32).clip(0, 2)
    return RealSeries(name, clean, valid[keep], days[keep], WALD_PIXEL_M, footprint)


def _worldcereal(path: Path, bands: Sequence[str]) -> RealSeries:
    import xarray as xr

    with xr.open_dataset(path, mask_and_scale=False) as source:
        _has(source.data_vars, bands)
        images = np.stack([source[band].values for band in bands], 1).astype(np.float32) / 1e4
        days = source["timestamp"].values.astype("datetime64[s]").astype(np.float64) / 86400
        where = bounds_of(source["x"].values, source["y"].values, f"EPSG:{source.attrs['epsg']}")
    fine = path.parent / path.name.replace("_10m_", "_20m_")
    scl: npt.NDArray[Any] | None = None
    if fine.exists():
        with xr.open_dataset(fine, mask_and_scale=False) as source:
            if np.array_equal(source["timestamp"].values.astype("datetime64[s]").astype(float) / 86400, days):
                scl = source["SCL"].values.repeat(2, 1).repeat(2, 2)
    return _series(f"worldcereal/{path.parent.name}", images, days, bands=bands, scl=scl, footprint=where)


def _openeo(path: Path, bands: Sequence[str]) -> RealSeries:
    import xarray as xr

    with xr.open_dataset(path, mask_and_scale=False) as source:
        named: dict[str, Any] = {normal_band(str(name).removeprefix("S2-L2A-")): name for name in source.data_vars}
        _has(named, bands)
        numbers = np.stack([source[named[band]].values for band in bands], 1).astype(np.float32)
        scl = source[named["SCL"]].values if "SCL" in named else None
        days = source["t"].values.astype("datetime64[s]").astype(np.float64) / 86400
        where = bounds_of(source["x"].values, source["y"].values, str(source["crs"].attrs["crs_wkt"]))
    images = np.where(numbers > 0, numbers / np.float32(1e4), np.float32(np.nan))
    return _series(f"openeo/{path.stem}", images, days, bands=bands, scl=scl, footprint=where)


def _has(names: Any, bands: Sequence[str]) -> None:
    lacking = [band for band in bands if band not in names]
    if lacking:
        raise GeodiffError(f"it has no band {', '.join(lacking)}")


SERIES: dict[str, Callable[[Path, Sequence[str]], RealSeries]] = {
    "sentinel2/worldcereal/*/S2_L2A_10m_*.nc": _worldcereal,
    "sentinel2/openeo_cubes/*.nc": _openeo,
}
"""Files of real series under the data folder, and what reads them."""

PLACES = ("sentinel2/ssl4eo_t43rcp",)
"""Folders of several dates that ``places`` reads."""

SERIES_TERMS: dict[str, str] = {"openeo": "contains modified Copernicus Sentinel data 2019-2023"}
"""On which terms they may be used, beside ``places.TERMS``."""


def read_series(root: Path, bands: Sequence[str], *, smallest: int = 40) -> SeriesRead:
    """Read the real series under ``root`` (the layout of the project's data folder).

    Args:
        root: data folder; what is absent is left out.
        bands: in this order.
        smallest: series with a side of fewer pixels are left out, with a note.
    """
    found: list[RealSeries] = []
    left: list[tuple[str, str]] = []
    for pattern, reader in SERIES.items():
        for path in sorted(root.glob(pattern)):
            name = str(path.relative_to(root))
            try:
                one = reader(path, bands)
            except GeodiffError as error:
                left.append((name, str(error)))
                continue
            except (OSError, KeyError, ValueError, IndexError) as error:
                raise GeodiffError(f"cannot read the training series {path}: {error}") from error
            rows, cols = one.images.shape[-2:]
            if min(rows, cols) < smallest or len(one.days) < 2:
                left.append((name, f"{len(one.days)} usable dates of {rows} x {cols} pixels are too few"))
            else:
                found.append(one)
    found += list(_from_places(root, bands))
    return SeriesRead(tuple(found), tuple(left))


def _from_places(root: Path, bands: Sequence[str]) -> Iterator[RealSeries]:
    """Places of several dates of Sentinel-2 that have a reader already."""
    for folder in PLACES:
        if (root / folder).is_dir() and set(bands) == set(BANDS_10M):
            order = [BANDS_10M.index(band) for band in bands]
            for place in read_places(root, only=(folder,)):
                images = place.images[:, order]
                yield _series(place.name, images, place.days, bands=bands, footprint=place.footprint)
