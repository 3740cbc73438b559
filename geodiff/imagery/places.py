"""Training places: high-resolution image series read from the folders that may be trained on.

A place is the truth of the sensor model: multi-date where the source is, at the sampling that plays the high
resolution. Band order is B02 B03 B04 B08 throughout. Every reader is named in ``READERS``, beside the folder that it
reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.coords import BoundingBox

from geodiff.schema import FloatArray, GeodiffError

S2_FILES = ("B02", "B03", "B04", "B08")
NAIP_GAIN = np.array([0.3, 0.3, 0.35, 0.6], np.float32)[:, None, None] / 255
"""Digital numbers of aerial images to something like reflectance: they are stretched for the eye, not calibrated."""

AERIAL_PIXEL_M, WALD_PIXEL_M = 10.0, 40.0
"""Low-resolution pixel that a place stands for: Sentinel-2 plays the truth of 40 m series, aircraft that of 10 m."""

STRIP_PX, GAP_PX = 128, 32
"""Width of the narrowest strip that is held out, and of what lies between it and the training, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One place.

    Attributes:
        name: for reports.
        images: (time, band, y, x) float32 reflectance, 0-1.
        days: (time,) float64, days since 1970-01-01; NaN where the source tells no date.
        pixel_m: side of the *low-resolution* pixel that the degraded series stands for, in metres.
        ground: places with the same ground show the same area, each at its own sampling; the name where it is empty.
    """

    name: str
    images: FloatArray
    days: npt.NDArray[np.float64]
    pixel_m: float
    ground: str = ""


def _read(path: Path, bands: list[int] | None = None, *, bounds: BoundingBox | None = None) -> FloatArray:
    try:
        with rasterio.open(path) as source:
            window = source.window(*bounds).round_offsets().round_lengths() if bounds else None
            values: FloatArray = source.read(bands, window=window).astype(np.float32)
            return values
    except rasterio.errors.RasterioError as error:
        raise GeodiffError(f"cannot read training image {path}: {error}") from error


def _common_bounds(paths: list[Path]) -> BoundingBox:
    boxes = []
    for path in paths:
        with rasterio.open(path) as source:
            boxes.append(source.bounds)
    west, south, east, north = zip(*boxes, strict=True)
    return BoundingBox(max(west), max(south), min(east), min(north))


def _day(text: str) -> float:
    found = re.search(r"(20\d\d)-?([01]\d)-?([0-3]\d)", text)
    return float(np.datetime64("-".join(found.groups()), "D").astype(int)) if found else float("nan")


def _single(
    name: str,
    image: npt.NDArray[np.floating],
    *,
    pixel_m: float = WALD_PIXEL_M,
    day: float = float("nan"),
    ground: str = "",
) -> Place:
    return Place(name, image.astype(np.float32, copy=False)[None], np.array([day]), pixel_m, ground)


def _majortom(folder: Path) -> Iterator[Place]:
    image = np.concatenate([_read(folder / f"{band}.tif") for band in S2_FILES]) / 1e4
    yield _single("majortom", image, day=_day("2020-02-23"))


def _terramesh(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("S2L*/*.tif")):
        image = _read(path, [2, 3, 4, 8]) / 1e4
        # The L1C files of baseline 04.00 carry +0.1; an image whose darkest red pixels lie above it has it.
        yield _single(
            f"terramesh/{path.parent.name}/{path.stem}", image - (0.1 if np.percentile(image[2], 0.1) > 0.095 else 0.0)
        )


def _ships(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("*.tif")):
        yield _single(f"ships/{path.stem}", _read(path, [2, 3, 4, 8]) / 1e4, day=_day(path.stem))


def _ssl4eo(folder: Path) -> Iterator[Place]:
    for level in ("s2a", "s2c"):
        scenes = sorted((folder / level / "0000200").iterdir())
        images = np.stack([np.concatenate([_read(s / f"B{b}.tif") for b in (2, 3, 4, 8)]) for s in scenes])
        images /= np.float32(1e4)
        yield Place(f"ssl4eo/{level}", images, np.array([_day(s.name) for s in scenes]), WALD_PIXEL_M)


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
        # Clear dates: all pixels there, and even the brightest blue at most three times the median of the place.
        blue = images[:, 0]
        keep = (images.min((1, 2, 3)) > 0) & (np.percentile(blue, 99, axis=(1, 2)) < 3 * np.median(blue))
        pad = ((0, 0), (0, 0), (0, 64), (0, 64))
        if keep.any():
            padded: FloatArray = np.pad(images[keep], pad, mode="symmetric")
            yield Place(f"worldcereal/{path.parent.name}", padded, days[keep], WALD_PIXEL_M)


def _coregistration(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("ref_*.jp2")):
        band = _read(path)[0] / 1e4
        # One band plays four: it teaches edges, not colours.
        yield _single("t33uuu", np.repeat(band[None], 4, 0), day=_day("2016-06-08"))


def _naip_series(folder: Path) -> Iterator[Place]:
    paths = sorted(folder.glob("*.tif"))
    common = _common_bounds(paths)
    images = np.stack([_read(p, [3, 2, 1, 4], bounds=common) for p in paths])
    images *= NAIP_GAIN
    yield Place("naip_nd", images, np.array([_day(p.stem.split("_")[-1]) for p in paths]), AERIAL_PIXEL_M)


def _naip_metre(folder: Path) -> Iterator[Place]:
    files = np.concatenate([_read(folder / f"NAIP-VA-b{n}.tiff") for n in (3, 2, 1, 4)])
    scenes = [("va_files", files)] + [(p.stem, _read(p, [3, 2, 1, 4])) for p in sorted(folder.glob("*.tif"))]
    for name, image in scenes:
        # 1 m and its 2 m average both stand in for 2.5 m: what they share with it is edges as sharp as a pixel.
        rows, cols = image.shape[1] // 2 * 2, image.shape[2] // 2 * 2
        half = image[:, :rows, :cols].reshape(4, rows // 2, 2, cols // 2, 2).mean((2, 4))
        for suffix, pixels in (("1m", image), ("2m", half)):
            yield _single(f"naip_va/{name}/{suffix}", pixels * NAIP_GAIN, pixel_m=AERIAL_PIXEL_M, ground=name)


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


def read_places(root: Path, *, smallest: int = 96) -> list[Place]:
    """Read every training place under ``root`` (the layout of the project's data folder).

    Args:
        root: data folder; sub-folders that are absent are left out.
        smallest: places with a side below this many high-resolution pixels are left out.

    Raises:
        GeodiffError: no place found, or a file that cannot be read.
    """
    places: list[Place] = []
    for folder, reader in READERS.items():
        try:
            found = list(reader(root / folder)) if (root / folder).is_dir() else []
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise GeodiffError(f"cannot read the training images under {root / folder}: {error}") from error
        places += [place for place in found if min(place.images.shape[-2:]) >= smallest]
    if not places:
        raise GeodiffError(f"no training imagery under {root}: expected folders such as {', '.join(READERS)}")
    return places


def split_places(places: list[Place], *, share: float = 0.15, smallest: int = 192) -> tuple[list[Place], list[Place]]:
    """Cut a strip off the right side of every ground that is wide enough: (training, held out).

    Places of one ground are cut along one line, set by the widest of them, so that what is held out at one sampling is
    not trained on at another; a strip narrower than ``STRIP_PX`` is dropped.

    Args:
        places: from ``read_places``.
        share: of the width that is held out, at least ``STRIP_PX`` pixels of the widest place.
        smallest: grounds that would leave fewer columns to training are trained on whole.
    """
    widest: dict[str, int] = {}
    for place in places:
        widest[place.ground or place.name] = max(widest.get(place.ground or place.name, 0), place.images.shape[-1])
    train: list[Place] = []
    held: list[Place] = []
    for place in places:
        columns, width = widest[place.ground or place.name], place.images.shape[-1]
        strip = max(int(columns * share), STRIP_PX)
        if columns - strip < smallest:
            train.append(place)
            continue
        cut = width - strip * width // columns
        # Pixels between the two, so that no patch of one shows ground of the other through the sensor's blur.
        train.append(replace(place, images=place.images[..., : max(cut - GAP_PX, 0)]))
        held.append(replace(place, images=place.images[..., cut:]))
    return [p for p in train if p.images.shape[-1] >= STRIP_PX], [p for p in held if p.images.shape[-1] >= STRIP_PX]
