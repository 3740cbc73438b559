"""Cloud-optimised GeoTIFFs of a finished store, for GIS tools that do not read Zarr format 3 yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from geodiff.grid import Window
from geodiff.outputs.atomic import explained, replacing
from geodiff.outputs.packing import PACKINGS
from geodiff.outputs.shards import read_packed
from geodiff.outputs.store_layout import FLAT, INTERVAL, NO_INTERVAL, arrays_of
from geodiff.outputs.store_spec import StoreSpec, regions
from geodiff.outputs.zarr_store import is_final
from geodiff.schema import GeodiffError

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

_CACHE_MB = 64
_COMPRESSION: Final = {"compress": "DEFLATE", "predictor": 2, "bigtiff": "IF_SAFER"}


def write_cogs(
    store: Path, spec: StoreSpec, out_dir: Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write one COG per date and variable: ``<store>_<date>_<variable>.tif``, all bands in one file.

    Values keep their packing: integers with GDAL's scale, offset and nodata. ``valid`` needs no file of its own: it is
    where ``reflectance`` is not nodata; nor does the uncertainty of a model that tells none. A file that exists is
    kept, so that a killed run resumes.

    Args:
        store: a finished store.
        spec: of the store.
        out_dir: created when absent.
        progress: called with (files done, all of them).

    Returns:
        The files, date by date.

    Raises:
        GeodiffError: the store is not finished, or the disk is full or not writable.
    """
    if not is_final(store):
        raise GeodiffError(f"{store} is not finished: run the job again before its COGs are written")
    untold = [name for name, attrs in spec.layer_attrs.items() if attrs.get(INTERVAL) == NO_INTERVAL]
    names = [name for name in arrays_of(spec) if name not in ("valid", *untold)]
    jobs = [(time, name) for time in range(len(spec.times)) for name in names]
    written: list[Path] = []
    with explained(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        for time, name in jobs:
            path = out_dir / cog_name(store, spec, time, name)
            if not path.exists():
                _write_cog(store, spec, path, time=time, name=name)
            written.append(path)
            if progress:
                progress(len(written), len(jobs))
    return written


def cog_name(store: Path, spec: StoreSpec, time: int, name: str) -> str:
    """File name of the COG of a date and a variable; the time of day tells two steps of one day apart."""
    stamp = np.datetime_as_string(np.array(spec.times, dtype="datetime64[s]")[time], unit="s")
    return f"{store.stem}_{stamp.replace('-', '').replace(':', '')}_{name}.tif"


def _write_cog(store: Path, spec: StoreSpec, path: Path, *, time: int, name: str) -> None:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy

    # A COG holds its overviews before its pixels, so the pixels are first streamed into a plain tiled file.
    tiled = path.with_name(f".{path.stem}.tiled.tif")
    # GDAL's block cache is a share of the machine's memory unless it is told otherwise.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        try:
            with rasterio.open(tiled, "w", **_profile(spec, name), zlevel=1, **_COMPRESSION) as dataset:
                _describe(dataset, spec, name, time)
                for window in _windows(spec):
                    codes = read_packed(store, spec, window, time=time, level=0, names=(name,))[name]
                    at = rasterio.windows.Window(window.left, window.top, window.cols, window.rows)
                    dataset.write(codes[None] if name in FLAT else codes, window=at)
            with replacing(path) as final:
                copy(tiled, final, driver="COG", overview_resampling="average", blocksize=512, **_COMPRESSION)
        except RasterioError as error:
            raise GeodiffError(f"cannot write {path}: {error}; free space or choose another folder") from error
        finally:
            tiled.unlink(missing_ok=True)


def _profile(spec: StoreSpec, name: str) -> dict[str, object]:
    packing = PACKINGS[name]
    rows, cols = spec.grid.shape
    return {
        "driver": "GTiff",
        "dtype": packing.dtype,
        "count": 1 if name in FLAT else len(spec.bands),
        "height": rows,
        "width": cols,
        "crs": spec.grid.crs,
        "transform": spec.grid.transform,
        "nodata": packing.fill,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "interleave": "pixel",
    }


def _describe(dataset: DatasetWriter, spec: StoreSpec, name: str, time: int) -> None:
    packing, count = PACKINGS[name], dataset.count
    dataset.scales, dataset.offsets = (packing.scale,) * count, (packing.offset,) * count
    dataset.descriptions = (name,) if name in FLAT else spec.bands
    stamp = np.datetime_as_string(np.array(spec.times, dtype="datetime64[s]")[time], unit="s")
    dataset.update_tags(TIFFTAG_DATETIME=stamp.replace("-", ":").replace("T", " "), variable=name)


def _windows(spec: StoreSpec) -> Iterator[Window]:
    for region in regions(spec):
        if region.time == 0:
            yield region.window
