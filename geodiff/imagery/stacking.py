"""One scene through stackstac: its assets on a grid, lazily, as reflectance or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pystac
import stackstac
from pyproj import Transformer
from rasterio.enums import Resampling
from stackstac.rio_reader import DEFAULT_GDAL_ENV

from geodiff.grid import Grid
from geodiff.imagery.lattice import asset_lattice, epsg_code
from geodiff.imagery.radiometry import BandRule, band_rule
from geodiff.imagery.reader import AssetNote, SceneReader
from geodiff.imagery.sources import Source

REMOTE_ENV = {
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
}
"""Settings of GDAL for files behind a network; a source's own ``gdal_env`` wins."""

BLOCK_CACHE_BYTES = 128 * 2**20
"""What GDAL may keep of decoded blocks; its own default is a twentieth of the machine's memory."""


@dataclass(frozen=True)
class Stacker:
    """Reads scenes of one source on one grid; a Dask chunk holds all assets of a scene over ``chunk`` pixels square."""

    source: Source
    grid: Grid
    chunk: int

    def reflectance(self, item: pystac.Item, bands: Sequence[str]) -> da.Array:
        """(band, y, x) float32, NaN where there is no data.

        Raises:
            UsageError: the scene lacks a band.
            GeodiffError: the item states a scale, offset or nodata that is none.
        """
        keys = [self.source.find_asset(item, band) for band in bands]
        notes = {key: _note(item, key, band_rule(item, key, self.source)) for key in keys}
        return self._stack(item, notes, Resampling.bilinear, np.float32(np.nan))

    def classes(self, item: pystac.Item) -> da.Array | None:
        """(y, x) uint8 scene classification, 0 where there is no data; None where the scene has none."""
        key = self.source.find_scl(item)
        if key is None:
            return None
        classes: da.Array = self._stack(item, {key: _note(item, key, None)}, Resampling.nearest, np.uint8(0))[0]
        return classes

    def _stack(
        self, item: pystac.Item, notes: Mapping[str, AssetNote], resampling: Resampling, fill_value: Any
    ) -> da.Array:
        by_href = {item.assets[key].href: note for key, note in notes.items()}
        stacked = stackstac.stack(
            [self._plain(item, notes)],
            assets=list(notes),
            epsg=epsg_code(self.grid.crs),
            resolution=self.grid.resolution,
            bounds=self.grid.bounds,
            snap_bounds=False,
            resampling=resampling,
            chunksize=(1, -1, self.chunk, self.chunk),
            dtype=fill_value.dtype,
            fill_value=fill_value,
            rescale=False,
            properties=False,
            band_coords=False,
            xy_coords=False,
            gdal_env=DEFAULT_GDAL_ENV.updated(
                always={"GDAL_CACHEMAX": BLOCK_CACHE_BYTES, **REMOTE_ENV, **self.source.gdal_env}
            ),
            errors_as_nodata=(),
            reader=partial(SceneReader, notes=by_href),
        )
        if not stacked.shape[0]:  # it left out a scene that ends where the grid begins
            shape, chunks = (len(notes), *self.grid.shape), (-1, self.chunk, self.chunk)
            nothing: da.Array = da.full(shape, fill_value, dtype=fill_value.dtype, chunks=chunks)
            return nothing
        array: da.Array = stacked.data[0]
        return array

    def _plain(self, item: pystac.Item, notes: Mapping[str, AssetNote]) -> dict[str, Any]:
        """What stackstac reads of an item: hrefs, and footprints already in the CRS of the grid.

        stackstac knows neither ``proj:code`` nor the bulge of an edge under reprojection; both are settled here.
        """
        assets = {
            key: {"href": item.assets[key].href, "proj:bbox": self._footprint(item, note)}
            for key, note in notes.items()
        }
        properties = {"datetime": "2000-01-01T00:00:00Z", "proj:epsg": epsg_code(self.grid.crs)}
        return {"id": item.id, "bbox": item.bbox, "properties": properties, "assets": assets}

    def _footprint(self, item: pystac.Item, note: AssetNote) -> tuple[float, ...]:
        """(left, bottom, right, top) of an asset in the CRS of the grid; that of the grid where nobody tells."""
        crs, bounds = note.crs, note.bounds
        if crs is None or bounds is None:
            return self.grid.bounds
        if epsg_code(self.grid.crs) == epsg_code(crs):
            return bounds
        moved = Transformer.from_crs(crs, self.grid.crs, always_xy=True).transform_bounds(*bounds, densify_pts=51)
        return tuple(moved) if all(np.isfinite(moved)) else self.grid.bounds


def _note(item: pystac.Item, key: str, rule: BandRule | None) -> AssetNote:
    lattice = asset_lattice(item, key)
    return AssetNote(item.id, key, rule, lattice.crs if lattice else None, lattice.bounds if lattice else None)
