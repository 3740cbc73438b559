"""Opens the file of a scene, with the drivers that a scene may need and no other, and no raster that lies beside it.

Left to itself GDAL goes by content: a VRT that calls itself ``B02.tif`` would be opened as one, and hand out whatever
file of this disk it names. So would one beside it that calls itself ``B02.tif.msk``, as its mask.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import rasterio
from rasterio.enums import MaskFlags
from rasterio.env import ensure_env_with_credentials
from rasterio.io import DatasetReader

DRIVERS = ("GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW")
"""GeoTIFF and JPEG 2000, in GDAL's names; those that this GDAL lacks are passed over."""

BESIDE = (".msk", ".ovr", ".aux", ".rrd")
"""Endings of files that GDAL opens as rasters of any kind, beside the one that was named."""


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def open_scene(href: str | Path, drivers: Sequence[str] = DRIVERS) -> DatasetReader:
    """Open a raster file or address for one thread alone.

    World files and notes (``.aux.xml``) beside a file are read, unless a mask or overview lies there too.

    Raises:
        RasterioIOError: it does not exist, or is of none of the drivers.
    """
    # rasterio.open takes one driver only; what it wraps takes several, but registers none by itself.
    alone = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
    with nullcontext() if isinstance(href, Path) and not _has_raster_beside(href) else alone:
        return DatasetReader(str(href), driver=list(drivers), sharing=False)


def _has_raster_beside(path: Path) -> bool:
    try:
        names = {name.lower() for name in os.listdir(path.parent)}
    except OSError:
        return True
    return any(stem.lower() + end in names for stem in (path.name, path.stem) for end in BESIDE)


def is_masked(dataset: DatasetReader, band: int = 1) -> bool:
    """Whether a band (from 1) has a mask beside its numbers: one within the file, or an alpha band."""
    flags = dataset.mask_flag_enums[band - 1]
    return MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
