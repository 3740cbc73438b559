"""A simulated series on disk: a static STAC catalogue of per-band COGs, as a Sentinel-2 archive would serve it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from pyproj import CRS, Transformer

from geodiff.grid import Grid
from geodiff.schema import FloatArray, GeodiffError
from geodiff.sensor import native_step
from geodiff.testing.series import SeriesTruth
from geodiff.testing.weather import Scl

COLLECTION = "sentinel-2-l2a"
SCALE, OFFSET_DN, NODATA = 1e-4, 1000, 0
OVERPASS = timedelta(hours=10, minutes=50)
BASELINE_04 = datetime(2022, 1, 25, tzinfo=UTC)

_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
]
_PROJECTION = "https://stac-extensions.github.io/projection/v{}/schema.json"
_COMMON_NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
_COMMON_NAMES |= {"B05": "rededge", "B06": "rededge", "B07": "rededge"}
_COMMON_NAMES |= {"B8A": "nir08", "B11": "swir16", "B12": "swir22"}


class Offset(StrEnum):
    """What a producer did about the +1000 of processing baseline 04.00."""

    NONE = "none"
    """Older baseline: no offset in the pixels, none stated."""

    CARRIED = "carried"
    """The pixels carry +1000 and the item says so."""

    REMOVED = "removed"
    """New baseline, offset already subtracted from the pixels, flagged; ``raster:bands`` still states it, as it does
    on many items of Earth Search."""


@dataclass(frozen=True, eq=False)
class SceneData:
    """One scene as it goes to disk.

    Attributes:
        name: id of the item.
        when: acquisition, UTC.
        grid: of the bands of 10 m.
        numbers: band name -> (rows, columns) digital numbers, offset included where it is carried;
            (ceil(rows/2), ceil(columns/2)) for pixels of 20 m.
        scl: (ceil(rows/2), ceil(columns/2)) scene classification; None for a scene without one.
        offset: what the item says about the offset.
    """

    name: str
    when: datetime
    grid: Grid
    numbers: Mapping[str, npt.NDArray[np.uint16]]
    scl: npt.NDArray[np.uint8] | None
    offset: Offset = Offset.NONE


def default_offset(when: datetime, index: int) -> Offset:
    """Older items carry no offset; of the newer ones every third had it removed by its archive."""
    if when < BASELINE_04:
        return Offset.NONE
    return Offset.REMOVED if index % 3 == 2 else Offset.CARRIED


def write_scenes(series: SeriesTruth, grid: Grid, folder: Path, *, offsets: Sequence[Offset] | None = None) -> Path:
    """Write a series as Sentinel-2 L2A scenes with a catalogue.

    Every date becomes an item with one uint16 COG per band at its own resolution (reflectance x 10000, nodata 0, +1000
    where its ``Offset`` says so) and the scene classification at twice the pixel size.

    Args:
        series: what to write.
        grid: where it lies; its shape is that of the low resolution.
        folder: created; must not hold a catalogue yet.
        offsets: one for each date; by date when None, as the real archive does.

    Returns:
        The path of ``catalog.json``.

    Raises:
        GeodiffError: the grid does not fit the series, or begins within a pixel of 20 m where the series has such
            bands; the folder holds a catalogue already.
    """
    if grid.shape != series.reflectance.shape[-2:]:
        raise GeodiffError(f"the grid has {grid.shape} pixels and the series {series.reflectance.shape[-2:]}")
    coarse = [band for band in series.bands if native_step(band) > 1]
    if coarse and any(first % 2 for first in grid.lattice_origin):
        raise GeodiffError(
            f"the grid begins at {grid.origin}: with band {coarse[0]} it must begin at multiples of 20 m"
        )
    return write_catalog((_scene(series, index, grid, offsets) for index in range(len(series.days))), folder)


def _scene(series: SeriesTruth, index: int, grid: Grid, offsets: Sequence[Offset] | None) -> SceneData:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=float(np.floor(series.days[index]))) + OVERPASS
    offset = offsets[index] if offsets is not None else default_offset(when, index)
    carried = offset is Offset.CARRIED
    numbers = {}
    for band, image in zip(series.bands, series.reflectance[index], strict=True):
        step = native_step(band)
        numbers[band] = encode(image[::step, ::step], carried=carried)
    return SceneData(f"S2{'AB'[index % 2]}_SYN_{when:%Y%m%d}_0_L2A", when, grid, numbers, series.scl[index], offset)


def write_catalog(scenes: Iterable[SceneData], folder: Path) -> Path:
    """Write scenes and the static catalogue over them; scenes are taken one at a time.

    Older items use version 1 of the projection extension (``proj:epsg``), newer ones version 2 (``proj:code``), as
    items in the wild do.

    Returns:
        The path of ``catalog.json``.

    Raises:
        GeodiffError: the folder holds a catalogue already, or an image fits neither the grid nor its half.
    """
    if (folder / "catalog.json").exists():
        raise GeodiffError(f"{folder} holds a catalogue already: choose another folder")
    folder = folder.resolve()
    items = [_write_item(scene, folder) for scene in scenes]
    boxes = np.array([item.bbox for item in items])
    times = sorted(item.datetime for item in items if item.datetime)
    bbox = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    extent = pystac.Extent(pystac.SpatialExtent([bbox]), pystac.TemporalExtent([[times[0], times[-1]]]))
    text = "Synthetic Sentinel-2 L2A scenes of a landscape whose truth is known."
    collection = pystac.Collection(COLLECTION, text, extent, license="CC0-1.0")
    collection.add_items(items)
    catalog = pystac.Catalog("geodiff-synthetic", text)
    catalog.add_child(collection)
    catalog.normalize_hrefs(str(folder))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def _write_item(scene: SceneData, folder: Path) -> pystac.Item:
    home = folder / COLLECTION / scene.name
    home.mkdir(parents=True, exist_ok=True)
    geometry = _outline(scene.grid)
    points = np.array(geometry["coordinates"][0])
    bbox = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    item = pystac.Item(scene.name, geometry, bbox, scene.when, _properties(scene))
    version = "1.1.0" if "proj:epsg" in item.properties else "2.0.0"
    item.stac_extensions = [*_EXTENSIONS, _PROJECTION.format(version)]
    for band, image in scene.numbers.items():
        own = scene.grid if image.shape == scene.grid.shape else _halved(scene.grid, image.shape)
        write_cog(home / f"{band}.tif", image, own)
        item.add_asset(band, _asset(home / f"{band}.tif", own, band, offset=scene.offset))
    if scene.scl is not None:
        coarse = _halved(scene.grid, scene.scl.shape)
        write_cog(home / "SCL.tif", scene.scl, coarse)
        item.add_asset("SCL", _asset(home / "SCL.tif", coarse, None, offset=scene.offset))
    return item


def _halved(grid: Grid, shape: tuple[int, ...]) -> Grid:
    """The grid of pixels twice as large, the last of which may reach beyond."""
    rows, cols = (-(-size // 2) for size in grid.shape)
    if shape != (rows, cols):
        raise GeodiffError(f"an image of {shape} pixels fits neither {grid.shape} nor, twice as large, {(rows, cols)}")
    return Grid(grid.crs, (2 * grid.resolution[0], 2 * grid.resolution[1]), grid.origin, (rows, cols))


def _outline(grid: Grid) -> dict[str, Any]:
    """The border of a grid as a GeoJSON polygon in degrees."""
    west, south, east, north = grid.bounds
    # Half-way points too, because a straight side of a UTM raster is bent in degrees; counter-clockwise (RFC 7946).
    x = [west, (west + east) / 2, east, east, east, (west + east) / 2, west, west, west]
    y = [south, south, south, (south + north) / 2, north, north, north, (south + north) / 2, south]
    ring = np.stack(Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y), axis=1)
    return {"type": "Polygon", "coordinates": [ring.tolist()]}


def encode(image: FloatArray, *, carried: bool) -> npt.NDArray[np.uint16]:
    """Digital numbers of reflectance, as level 2A stores them: 0 is no data, so that valid pixels begin at 1."""
    numbers = np.rint(np.nan_to_num(image) / SCALE) + (OFFSET_DN if carried else 0)
    return np.where(np.isnan(image), NODATA, np.clip(numbers, 1, 65_535)).astype(np.uint16)


def write_cog(path: Path, image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], grid: Grid) -> None:
    """Write one (rows, columns) band as a cloud-optimised GeoTIFF with nodata 0."""
    profile = {"driver": "COG", "dtype": image.dtype, "count": 1, "height": image.shape[0], "width": image.shape[1]}
    profile |= {"crs": grid.crs, "transform": grid.transform, "nodata": NODATA}
    profile |= {"compress": "deflate", "predictor": "yes", "blocksize": 256, "overview_resampling": "nearest"}
    with rasterio.open(path, "w", **profile) as target:
        target.write(image, 1)


def _properties(scene: SceneData) -> dict[str, Any]:
    epsg = CRS.from_user_input(scene.grid.crs).to_epsg()
    old = scene.offset is Offset.NONE
    found: dict[str, Any] = {
        "platform": f"sentinel-{scene.name[1:3].lower()}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": 10,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": "03.01" if old else "04.00",
    }
    if scene.scl is not None:
        seen = max(int((scene.scl != Scl.NO_DATA).sum()), 1)
        cloudy = int(np.isin(scene.scl, (Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH)).sum())
        found["eo:cloud_cover"] = round(100 * cloudy / seen, 4)
        found["s2:nodata_pixel_percentage"] = round(100 * float((scene.scl == Scl.NO_DATA).mean()), 4)
    if old and epsg:
        found["proj:epsg"] = epsg
    else:
        found["proj:code"] = f"EPSG:{epsg}" if epsg else None
    if not old:
        found["earthsearch:boa_offset_applied"] = scene.offset is Offset.REMOVED
    return found


def _asset(path: Path, grid: Grid, band: str | None, *, offset: Offset) -> pystac.Asset:
    """Describe a band, or the scene classification when ``band`` is None."""
    raster: dict[str, Any] = {
        "nodata": NODATA,
        "data_type": "uint16" if band else "uint8",
        "spatial_resolution": grid.resolution[0],
    }
    fields: dict[str, Any] = {"proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}
    if band:
        raster |= {"scale": SCALE, "offset": 0.0 if offset is Offset.NONE else -OFFSET_DN * SCALE}
        fields["eo:bands"] = [{"name": band, "common_name": _COMMON_NAMES.get(band, band)}]
    fields["raster:bands"] = [raster]
    roles = ["data", "reflectance"] if band else ["data"]
    title = f"{band} reflectance" if band else "Scene classification map"
    return pystac.Asset(str(path), title, media_type=pystac.MediaType.COG, roles=roles, extra_fields=fields)
