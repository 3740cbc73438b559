"""Training places: high-resolution image series read from the folders that may be trained on.

A place is the truth of the sensor model: multi-date where the source is, at the sampling that plays the high resolution. Band
order is B02 B03 B04 B08 throughout. Every reader is named in ``READERS``, beside the folder that it reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.coords import BoundingBox

from geodiff.schema import FloatArray, GeodiffError

S2_FILES = ("B02", "B03", "B04", "B08")
NAIP_GAIN = np.array([0.3, 0.3, 0.35, 0.6], np.float32)[:, None, None] / 255
"""Digital numbers of aerial images to something like reflectance: the images are stretched for the eye, not calibrated."""

AERIAL_PIXEL_M, WALD_PIXEL_M = 10.0, 40.0
"""Low-resolution pixel that a place stands for: Sentinel-2 plays the truth of 40 m series, aerial images that of 10 m."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One place.

    Attributes:
        name: for reports.
        images: (time, band, y, x) float32 reflectance, 0-1.
        days: (time,) float64, days since 1970-01-01; NaN where the source tells no date.
        pixel_m: side of the *low-resolution* pixel that the degraded series stands for, in metres.
    """

    name: str
    images: FloatArray
    days: npt.NDArray[np.float64]
    pixel_m: float


def _read(path: Path, bands: list[int] | None = None, *, bounds: BoundingBox | None = None) -> FloatArray:
    try:
        with rasterio.open(path) as source:
            window = source.window(*bounds).round_offsets().round_lengths() if bounds else None
            return source.read(bands, window=window).astype(np.float32)
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


def _single(name: str, image: FloatArray, *, pixel_m: float = WALD_PIXEL_M, day: float = float("nan")) -> Place:
    return Place(name, image[None], np.array([day]), pixel_m)


def _majortom(folder: Path) -> Iterator[Place]:
    image = np.concatenate([_read(folder / f"{band}.tif") for band in S2_FILES]) / 1e4
    yield _single("majortom", image, day=_day("2020-02-23"))


def _terramesh(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("S2L*/*.tif")):
        image = _read(path, [2, 3, 4, 8]) / 1e4
        # The L1C files of baseline 04.00 carry +0.1; an image whose darkest red pixels lie above it has it.
        yield _single(f"terramesh/{path.parent.name}/{path.stem}", image - (0.1 if np.percentile(image[2], 0.1) > 0.095 else 0.0))


def _ships(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("*.tif")):
        yield _single(f"ships/{path.stem}", _read(path, [2, 3, 4, 8]) / 1e4, day=_day(path.stem))


def _ssl4eo(folder: Path) -> Iterator[Place]:
    for level in ("s2a", "s2c"):
        scenes = sorted((folder / level / "0000200").iterdir())
        images = np.stack([np.concatenate([_read(s / f"B{b}.tif") for b in (2, 3, 4, 8)]) / 1e4 for s in scenes])
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
        # Clear dates: all pixels there, and even the brightest blue no brighter than three times the median of the place.
        blue = images[:, 0]
        keep = (images.min((1, 2, 3)) > 0) & (np.percentile(blue, 99, axis=(1, 2)) < 3 * np.median(blue))
        pad = ((0, 0), (0, 0), (0, 64), (0, 64))
        yield Place(f"worldcereal/{path.parent.name}", np.pad(images[keep], pad, mode="symmetric"), days[keep], WALD_PIXEL_M)


def _coregistration(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.glob("ref_*.jp2")):
        band = _read(path)[0] / 1e4
        # One band plays four: it teaches edges, not colours.
        yield _single("t33uuu", np.repeat(band[None], 4, 0), day=_day("2016-06-08"))


def _naip_series(folder: Path) -> Iterator[Place]:
    paths = sorted(folder.glob("*.tif"))
    common = _common_bounds(paths)
    images = np.stack([_read(p, [3, 2, 1, 4], bounds=common) for p in paths]) * NAIP_GAIN
    yield Place("naip_nd", images, np.array([_day(p.stem.split("_")[-1]) for p in paths]), AERIAL_PIXEL_M)


def _naip_metre(folder: Path) -> Iterator[Place]:
    files = np.concatenate([_read(folder / f"NAIP-VA-b{n}.tiff") for n in (3, 2, 1, 4)])
    scenes = [("va_files", files)] + [(p.stem, _read(p, [3, 2, 1, 4])) for p in sorted(folder.glob("*.tif"))]
    for name, image in scenes:
        # 1 m and its 2 m average both stand in for 2.5 m: what they share with it is edges as sharp as a pixel.
        rows, cols = image.shape[1] // 2 * 2, image.shape[2] // 2 * 2
        half = image[:, :rows, :cols].reshape(4, rows // 2, 2, cols // 2, 2).mean((2, 4))
        for suffix, pixels in (("1m", image), ("2m", half)):
            yield _single(f"naip_va/{name}/{suffix}", pixels * NAIP_GAIN, pixel_m=AERIAL_PIXEL_M)


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


def read_places(root: Path, *, smallest: int = 96) -> list[Place]:
    """Read every training place under ``root`` (the layout of the project's data folder).

    Args:
        root: data folder; sub-folders that are absent are left out.
        smallest: places with a side below this many high-resolution pixels are left out.

    Raises:
        GeodiffError: no place found, or a file that cannot be read.
    """
    places = [p for folder, reader in READERS.items() if (root / folder).is_dir() for p in reader(root / folder)]
    places = [p for p in places if min(p.images.shape[-2:]) >= smallest]
    if not places:
        raise GeodiffError(f"no training imagery under {root}: expected folders such as {', '.join(READERS)}")
    return places


def split_places(places: list[Place], *, share: float = 0.15, smallest: int = 192) -> tuple[list[Place], list[Place]]:
    """Cut a strip off the right side of every place that is wide enough: (training, held out)."""
    train: list[Place] = []
    held: list[Place] = []
    for place in places:
        width = place.images.shape[-1]
        strip = max(int(width * share), 128)
        if width - strip < smallest:
            train.append(place)
            continue
        # 32 pixels between the two, so that no patch of one shows ground of the other through the sensor's blur.
        train.append(Place(place.name, place.images[..., : width - strip - 32], place.days, place.pixel_m))
        held.append(Place(place.name, place.images[..., width - strip :], place.days, place.pixel_m))
    return train, held
