"""Writing the files of a small WorldStrat, and breaking them in the ways that downloads break."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from geodiff.imagery.worldstrat_layout import ANGLES, DATA, FACTS, HR_BANDS, LR_BANDS, LR_PIXEL_M, Layout
from geodiff.schema import BANDS_10M
from geodiff.testing.series import SeriesTruth

GROUND_SCALE = 8
METRES_PER_DEGREE = 111_320.0
CLASSES = ("Settlement", "Forest", "Agriculture", "Other", "Grassland", "Water", "Wetland")


@dataclass(frozen=True, eq=False)
class RevisitImage:
    """One date of a simulated series, and how it is stored.

    Attributes:
        series: of the place.
        date: index of the date in it.
        rank: in the file's name.
        hr_day: of the high resolution, days since 1970-01-01.
        place: number of the place, which puts it somewhere on Earth.
        angles: also write the angles.
    """

    series: SeriesTruth
    date: int
    rank: int
    hr_day: float
    place: int
    angles: bool


def position_of(place: int) -> tuple[float, float]:
    """Longitude and latitude of the north west corner of a place, in degrees."""
    return 3.0 + 7.3 * place, 42.0 - 9.1 * (place % 8)


def write_high(layout: Layout, aoi: str, images: Mapping[str, npt.NDArray[np.uint16]]) -> None:
    """Write ps, rgbn, pan and rgb of an AOI from (4, Y, X) images "ps" and "rgbn" in B02 B03 B04 B08."""
    order = [BANDS_10M.index(band) for band in HR_BANDS]
    for kind, image in images.items():
        write_raster(layout.hr_file(aoi, kind), image[order])
    sharp = images["ps"]
    write_raster(layout.hr_file(aoi, "pan"), sharp[:3].mean(axis=0, keepdims=True).astype(np.uint16))
    picture = np.clip(sharp[[2, 1, 0]].astype(np.float64) / 3000 * 255, 0, 255).astype(np.uint8)
    write_raster(layout.hr_file(aoi, "rgb"), picture, driver="PNG")


def write_raster(
    path: Path, values: npt.NDArray[Any], *, transform: Affine | None = None, driver: str = "GTiff"
) -> None:
    """Write (band, y, x) values; without a transform the file has no georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, rows, cols = values.shape
    place = {} if transform is None else {"crs": "EPSG:4326", "transform": transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, count=count, height=rows, width=cols, dtype=values.dtype, **place
        ) as file:
            file.write(values)


def write_revisit(layout: Layout, aoi: str, level: str, image: RevisitImage) -> None:
    """Write every file of one revisit and level."""
    series, date = image.series, image.date
    rows, cols = series.reflectance.shape[-2:]
    lon, lat = position_of(image.place)
    up = LR_PIXEL_M / METRES_PER_DEGREE
    transform = Affine(up / math.cos(math.radians(lat)), 0, lon, 0, -up, lat)
    clear, inside = series.valid[date], np.isfinite(series.reflectance[date]).all(axis=0)
    layers = {
        DATA: _all_bands(np.nan_to_num(series.reflectance[date]), LR_BANDS[level]),
        "CLM": (~clear & inside)[None].astype(np.float32),
        "CLP": np.where(clear, 20, 230)[None].astype(np.float32),
        "dataMask": inside[None].astype(np.float32),
    }
    if image.angles:
        layers |= {kind: np.full((1, rows, cols), 10.0 * (i + 1), np.float32) for i, kind in enumerate(ANGLES)}
    for kind, values in layers.items():
        write_raster(layout.lr_file(aoi, level, image.rank, kind), values, transform=transform)
    facts = {
        "cloud_cover": round(100 * float((~clear).mean()), 2),
        "target_date": iso_day(image.hr_day),
        "delta": str(pd.Timedelta(days=float(series.days[date] - image.hr_day))),
        "area": 2.5,
        "datetime": f"{iso_second(float(series.days[date]))}+00:00",
    }
    layout.lr_file(aoi, level, image.rank, FACTS).write_text(json.dumps(facts))


def _all_bands(four: npt.NDArray[np.float32], bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """The four bands at their places among all, the others made of them."""
    named = dict(zip(BANDS_10M, four, strict=True))
    between = 0.4 * four[2] + 0.6 * four[3]
    return np.stack([named.get(band, between) for band in bands]).astype(np.float32)


def iso_day(day: float) -> str:
    """YYYY-MM-DD of days since 1970-01-01."""
    return str(np.datetime64(math.floor(day), "D"))


def iso_second(day: float) -> str:
    """YYYY-MM-DD HH:MM:SS of days since 1970-01-01."""
    return str(np.datetime64(round(day * 86_400), "s")).replace("T", " ")


def write_tables(
    metadata: Path,
    split: Path,
    revisits: Mapping[str, Sequence[tuple[int, float]]],
    *,
    hr_days: Mapping[str, float],
    parts: Mapping[str, str],
    duplicates: Sequence[tuple[str, str]],
) -> None:
    """Write both CSVs: ``revisits`` holds (rank, day) of each AOI, ``parts`` its part of the split."""
    strata = {aoi: (CLASSES[i % len(CLASSES)], "11", aoi.split("-")[0].split()[0]) for i, aoi in enumerate(revisits)}
    rows = []
    for place, (aoi, found) in enumerate(revisits.items()):
        lon, lat = position_of(place)
        cover, density, _ = strata[aoi]
        for rank, day in sorted(found):
            dates = {"lowres_date": iso_day(day), "highres_date": iso_day(hr_days[aoi])}
            rows.append(
                {"": aoi, "n": rank, "lon": lon, "lat": lat, **dates, "IPCC Class": cover, "SMOD Class": density}
            )
    pd.DataFrame(rows).to_csv(metadata, index=False)
    named = [(aoi, parts[aoi]) for aoi in revisits] + list(duplicates)
    write_split(split, [(aoi, *strata[aoi], part) for aoi, part in named])


def write_split(path: Path, rows: Sequence[tuple[str, str, str, str, str]]) -> None:
    """Write a split file of (AOI, IPCC class, SMOD, source, part)."""
    table = pd.DataFrame(rows, columns=["tile", "IPCC Class", "SMOD", "source", "split"])
    table.insert(4, "joint_class", table["source"] + "/" + table["IPCC Class"] + "/" + table["SMOD"])
    table.index = pd.Index(range(0, 16 * len(table), 16))
    table.to_csv(path)


def truncate(path: Path, share: float = 0.5) -> Path:
    """Cut a file, as a broken download does."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def corrupt(path: Path) -> Path:
    """Overwrite a file with what is no image."""
    path.write_bytes(b"<html>404 not found</html>" * 20)
    return path


def crop(path: Path, rows: int, cols: int) -> Path:
    """Rewrite an image without its last pixels: it opens, and has a wrong size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            values, transform, driver = source.read(), source.transform, source.driver
    place = None if transform == Affine.identity() else transform
    write_raster(path, values[:, : values.shape[1] - rows, : values.shape[2] - cols], transform=place, driver=driver)
    return path


BREAKS: Mapping[str, Callable[[Path], object]] = MappingProxyType(
    {"truncated": truncate, "corrupt": corrupt, "mis-sized": lambda path: crop(path, 3, 3), "missing": Path.unlink}
)
"""Ways in which a single file is wrong, by the words of ``geodiff worldstrat verify``."""
