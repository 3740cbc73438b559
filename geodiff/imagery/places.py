"""Training places: high-resolution image series read from the folders that may be trained on.

A place is the truth of the sensor model: multi-date where the source is, at the sampling that plays the high
resolution. Band order is B02 B03 B04 B08 throughout. Every reader is named in ``READERS``, beside the folder that it
reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.coords import BoundingBox
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds

from geodiff.imagery.ground import GAP_PX, STRIP_PX, Bounds, Place, split_places
from geodiff.imagery.scene_file import open_scene
from geodiff.schema import FloatArray, GeodiffError

__all__ = ["GAP_PX", "READERS", "STRIP_PX", "TERMS", "Place", "read_places", "split_places"]

S2_FILES = ("B02", "B03", "B04", "B08")
NAIP_GAIN = np.array([0.3, 0.3, 0.35, 0.6], np.float32)[:, None, None] / 255
"""Digital numbers of aerial images to something like reflectance: they are stretched for the eye, not calibrated."""

AERIAL_PIXEL_M, WALD_PIXEL_M = 10.0, 40.0
"""Low-resolution pixel that a place stands for: Sentinel-2 plays the truth of 40 m series, aircraft that of 10 m."""


def read_image(path: Path, bands: list[int] | None = None, *, bounds: BoundingBox | None = None) -> FloatArray:
    """Bands of a raster as float32 (band, y, x), all or those asked for (from 1), whole or within bounds of its CRS.

    Raises:
        GeodiffError: it cannot be read.
    """
    try:
        with open_scene(path) as source:
            window = source.window(*bounds).round_offsets().round_lengths() if bounds else None
            values: FloatArray = source.read(bands, window=window).astype(np.float32)
            return values
    except RasterioError as error:
        raise GeodiffError(f"cannot read training image {path}: {error}") from error


def footprint_of(path: Path) -> Bounds | None:
    """Where a raster file lies, in degrees; None without a georeference."""
    try:
        with open_scene(path) as source:
            if source.crs is None:
                return None
            west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
            return float(west), float(south), float(east), float(north)
    except (RasterioError, CRSError) as error:
        raise GeodiffError(f"cannot read training image {path}: {error}") from error


def bounds_of(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], crs: str) -> Bounds:
    """Bounds in degrees of a raster given by its pixel centres."""
    half = abs(float(x[1] - x[0])) / 2
    box = float(x.min()) - half, float(y.min()) - half, float(x.max()) + half, float(y.max()) + half
    west, south, east, north = transform_bounds(crs, "EPSG:4326", *box)
    return float(west), float(south), float(east), float(north)


def _common_bounds(paths: list[Path]) -> BoundingBox:
    boxes = []
    for path in paths:
        with open_scene(path) as source:
            boxes.append(source.bounds)
    west, south, east, north = zip(*boxes, strict=True)
    return BoundingBox(max(west), max(south), min(east), min(north))


def day_in(text: str) -> float:
    """Days since 1970-01-01 of the first date in a text, NaN without one."""
    found = re.search(r"(20\d\d)-?([01]\d)-?([0-3]\d)", text)
    return float(np.datetime64("-".join(found.groups()), "D").astype(int)) if found else float("nan")


def _single(
    name: str,
    image: npt.NDArray[np.floating],
    *,
    pixel_m: float = WALD_PIXEL_M,
    day: float = float("nan"),
    ground: str = "",
    footprint: Bounds | None = None,
) -> Place:
    return Place(name, image.astype(np.float32, copy=False)[None], np.array([day]), pixel_m, ground, footprint)


def _majortom(folder: Path) -> Iterator[Place]:
    image = np.concatenate([read_image(folder / f"{band}.tif") for band in S2_FILES]) / 1e4
    yield _single("majortom", image, day=day_in("2020-02-23"), footprint=footprint_of(folder / "B02.tif"))


def _terramesh(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("S2L*/*.tif")):
        image = read_image(path, [2, 3, 4, 8]) / 1e4
        # The L1C files of baseline 04.00 carry +0.1; an image whose darkest red pixels lie above it has it.
        image -= np.float32(0.1 if np.percentile(image[2], 0.1) > 0.095 else 0.0)
        yield _single(f"terramesh/{path.parent.name}/{path.stem}", image, footprint=footprint_of(path))


def _ships(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("*.tif")):
        image = read_image(path, [2, 3, 4, 8]) / 1e4
        yield _single(f"ships/{path.stem}", image, day=day_in(path.stem), footprint=footprint_of(path))


def _ssl4eo(folder: Path) -> Iterator[Place]:
    for level in ("s2a", "s2c"):
        scenes = sorted((folder / level / "0000200").iterdir())
        images = np.stack([np.concatenate([read_image(s / f"B{b}.tif") for b in (2, 3, 4, 8)]) for s in scenes])
        images /= np.float32(1e4)
        days = np.array([day_in(s.name) for s in scenes])
        where = footprint_of(scenes[0] / "B2.tif")
        yield Place(f"ssl4eo/{level}", images, days, WALD_PIXEL_M, footprint=where)


def _dsen2(folder: Path) -> Iterator[Place]:
    import h5py

    for path in sorted(folder.glob("*.mat")):
        with h5py.File(path) as source:
            image = np.asarray(source["im10"], np.float32)
        image = image / (1e4 if image.max() > 50 else 1.0)
        yield _single(f"dsen2/{path.stem}", image[[2, 1, 0, 3]])


def _worldcereal(folder: Path) -> Iterator[Place]:
    import xarray as xr

    for path in sorted(folder.glob("*/S2_L2A_10m_*.nc")):
        with xr.open_dataset(path, mask_and_scale=False) as source:
            images = np.stack([source[b].values for b in S2_FILES], 1).astype(np.float32) / 1e4
            days = source["timestamp"].values.astype("datetime64[s]").astype(np.float64) / 86400
            where = bounds_of(source["x"].values, source["y"].values, f"EPSG:{source.attrs['epsg']}")
        # Clear dates: all pixels there, and even the brightest blue at most three times the median of the place.
        blue = images[:, 0]
        keep = (images.min((1, 2, 3)) > 0) & (np.percentile(blue, 99, axis=(1, 2)) < 3 * np.median(blue))
        pad = ((0, 0), (0, 0), (0, 64), (0, 64))
        if keep.any():
            padded: FloatArray = np.pad(images[keep], pad, mode="symmetric")
            yield Place(f"worldcereal/{path.parent.name}", padded, days[keep], WALD_PIXEL_M, footprint=where)


def _coregistration(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("ref_*.jp2")):
        band = read_image(path)[0] / 1e4
        # One band plays four: it teaches edges, not colours.
        yield _single("t33uuu", np.repeat(band[None], 4, 0), day=day_in("2016-06-08"))


def _naip_series(folder: Path) -> Iterator[Place]:
    paths = sorted(folder.glob("*.tif"))
    common = _common_bounds(paths)
    images = np.stack([read_image(p, [3, 2, 1, 4], bounds=common) for p in paths])
    images *= NAIP_GAIN
    days = np.array([day_in(p.stem.split("_")[-1]) for p in paths])
    yield Place("naip_nd", images, days, AERIAL_PIXEL_M, footprint=footprint_of(paths[0]))


def _naip_metre(folder: Path) -> Iterator[Place]:
    files = np.concatenate([read_image(folder / f"NAIP-VA-b{n}.tiff") for n in (3, 2, 1, 4)])
    scenes = [("va_files", files, footprint_of(folder / "NAIP-VA-b1.tiff"))]
    scenes += [(p.stem, read_image(p, [3, 2, 1, 4]), footprint_of(p)) for p in sorted(folder.glob("*.tif"))]
    for name, image, where in scenes:
        # 1 m and its 2 m average both stand in for 2.5 m: what they share with it is edges as sharp as a pixel.
        rows, cols = image.shape[1] // 2 * 2, image.shape[2] // 2 * 2
        half = image[:, :rows, :cols].reshape(4, rows // 2, 2, cols // 2, 2).mean((2, 4))
        for suffix, pixels in (("1m", image), ("2m", half)):
            pixels = pixels * NAIP_GAIN
            yield _single(f"naip_va/{name}/{suffix}", pixels, pixel_m=AERIAL_PIXEL_M, ground=name, footprint=where)


READERS: dict[str, Callable[[Path], Iterator[Place]]] = {
    "sentinel2/majortom_t48que": _majortom,
    "sentinel2/terramesh": _terramesh,
    "sentinel2/ship_chips": _ships,
    "sentinel2/ssl4eo_t43rcp": _ssl4eo,
    "sentinel2/dsen2_l1c": _dsen2,
    "sentinel2/worldcereal": _worldcereal,
    "sentinel2/coregistration_t33uuu": _coregistration,
    "aerial/naip_5m_nd": _naip_series,
    "aerial/naip_1m_va": _naip_metre,
}


TERMS: dict[str, str] = {
    "majortom": "CC-BY-SA-4.0 (Major TOM, ESA; contains modified Copernicus Sentinel data)",
    "terramesh": "CC-BY-SA-4.0 (TerraMesh; contains modified Copernicus Sentinel data)",
    "ships": "contains modified Copernicus Sentinel data 2022",
    "ssl4eo": "CC-BY-4.0 (SSL4EO-S12; contains modified Copernicus Sentinel data 2020)",
    "dsen2": "contains modified Copernicus Sentinel data 2017",
    "worldcereal": "contains modified Copernicus Sentinel data 2018-2019",
    "t33uuu": "contains modified Copernicus Sentinel data 2016",
    "naip_nd": "public domain (NAIP, US Department of Agriculture)",
    "naip_va": "public domain (NAIP, US Department of Agriculture)",
}
"""On which terms the images of a place may be used, by the first part of its name."""


def read_places(root: Path, *, smallest: int = 96, only: Sequence[str] = tuple(READERS)) -> list[Place]:
    """Read every training place under ``root`` (the layout of the project's data folder).

    Args:
        root: data folder; sub-folders that are absent are left out.
        smallest: places with a side below this many high-resolution pixels are left out.
        only: folders that are read, of those in ``READERS``.

    Raises:
        GeodiffError: no place found, or a file that cannot be read.
    """
    return gather_places(root, {folder: READERS[folder] for folder in only}, smallest=smallest)


def gather_places(
    root: Path, readers: Mapping[str, Callable[[Path], Iterator[Place]]], *, smallest: int
) -> list[Place]:
    """The places of some folders under ``root``; those with a side below ``smallest`` pixels are left out.

    Raises:
        GeodiffError: no place found, or a file that cannot be read.
    """
    places: list[Place] = []
    for folder, read in readers.items():
        try:
            found = list(read(root / folder)) if (root / folder).is_dir() else []
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise GeodiffError(f"cannot read the training images under {root / folder}: {error}") from error
        places += [place for place in found if min(place.size) >= smallest]
    if not places:
        raise GeodiffError(f"no training imagery under {root}: expected folders such as {', '.join(readers)}")
    return places
