"""Scenes whose truth is known, written as GeoTIFFs with a STAC item: what a catalogue would hand to the cube."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from pyproj import CRS
from rasterio.transform import Affine

from geodiff.grid import Grid

CLASS_ASSETS = ("SCL", "scl")


def write_scene(
    folder: Path,
    item_id: str,
    arrays: Mapping[str, npt.NDArray[Any]],
    grid: Grid,
    when: datetime | str,
    *,
    baseline: str | None = None,
    offset_applied: bool | None = None,
    raster: Mapping[str, float] | None = None,
    nodata: float | None = 0,
    cloud_cover: float | None = None,
    properties: Mapping[str, object] | None = None,
) -> pystac.Item:
    """Write one GeoTIFF per array and return their item (not saved).

    Args:
        folder: where to; a subfolder called ``item_id`` is made.
        item_id: name of the scene.
        arrays: asset name -> (rows, columns) numbers as stored; arrays smaller than the grid by a whole factor are
            coarser pixels over the same ground (a 20 m band).
        grid: of the finest arrays.
        when: acquisition, UTC.
        baseline: ``s2:processing_baseline``; not stated when None.
        offset_applied: ``earthsearch:boa_offset_applied``; not stated when None.
        raster: what ``raster:bands`` says of reflectance, for instance {"scale": 0.0001, "offset": -0.1}.
        nodata: declared in the files; None for none.
        cloud_cover: ``eo:cloud_cover`` in percent.
        properties: further properties of the item.
    """
    moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    stated = {
        "proj:code": grid.crs,
        "s2:processing_baseline": baseline,
        "earthsearch:boa_offset_applied": offset_applied,
        "eo:cloud_cover": cloud_cover,
        **(properties or {}),
    }
    west, south, east, north = grid.bounds_wgs84
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        id=item_id,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[west, south, east, north],
        datetime=moment,
        properties={name: value for name, value in stated.items() if value is not None},
    )
    for name, array in arrays.items():
        path = _write(folder / item_id / f"{name}.tif", array, grid, nodata)
        fields: dict[str, Any] = {
            "proj:shape": list(array.shape),
            "proj:transform": list(_transform(grid, array.shape))[:6],
        }
        if raster is not None and name not in CLASS_ASSETS:
            fields["raster:bands"] = [dict(raster)]
        item.add_asset(name, pystac.Asset(str(path.resolve()), media_type=pystac.MediaType.COG, extra_fields=fields))
    return item


def _transform(grid: Grid, shape: tuple[int, ...]) -> Affine:
    across, down = grid.resolution[0] * grid.shape[1] / shape[1], grid.resolution[1] * grid.shape[0] / shape[0]
    return Affine(across, 0, grid.origin[0], 0, -down, grid.origin[1])


def _write(path: Path, array: npt.NDArray[Any], grid: Grid, nodata: float | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    side = 512 if min(array.shape) >= 512 else 64
    options = {"tiled": True, "blockxsize": side, "blockysize": side, "compress": "deflate"}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=array.dtype,
        count=1,
        height=array.shape[0],
        width=array.shape[1],
        crs=CRS.from_user_input(grid.crs).to_wkt(),
        transform=_transform(grid, array.shape),
        nodata=nodata,
        **options,
    ) as file:
        file.write(np.ascontiguousarray(array), 1)
    return path
