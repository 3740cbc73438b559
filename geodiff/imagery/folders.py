"""A user's own high-resolution imagery as training ground: a tree of GeoTIFFs, of any pixel size and CRS.

Files are grouped into places: dates of one ground, brought on one grid where they overlap. What the files do not tell
stands in an optional ``places.yaml`` at the root of the tree (``FolderSettings``); what is guessed is told in one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from geodiff.config import Settings, read_yaml
from geodiff.grid import utm_crs
from geodiff.imagery.build_names import date_of, normal_band
from geodiff.imagery.folder_group import Header, places_of
from geodiff.imagery.folder_place import FolderImage, FolderPlace, Radiometry, opened
from geodiff.imagery.ground import GAP_PX, STRIP_PX, Bounds
from geodiff.schema import BANDS_10M, GeodiffError, UsageError

SETTINGS_FILE = "places.yaml"
SUFFIXES = (".tif", ".tiff", ".gtiff")
COLOURS = {ColorInterp.blue: "B02", ColorInterp.green: "B03", ColorInterp.red: "B04"}
EYE = {"B02": 0.3, "B03": 0.3, "B04": 0.35, "B08": 0.6}
"""Reflectance of the brightest number of 8-bit images, which are stretched for the eye: about right, not calibrated."""

SNIFF_PX = 256
SMALLEST_TRAIN = 192
"""Fewest columns that must be left to training when a strip is held out."""


class FolderSettings(Settings):
    """What ``places.yaml`` may say.

    Attributes:
        bands: of the files, in their order, such as ``[B04, B03, B02, B08]``; other names are passed over.
        scale: factor from stored numbers to reflectance 0-1, one for all bands or one per band of the files.
        offset: added after the factor, likewise.
        nodata: number that means none; what the files say without.
        pixel_m: side in metres of the low-resolution pixel that the images are degraded to; the truth is ``scale``
            times finer (10 m: truth of 2.5 m at x4). Images coarser than that stand for a coarser pixel.
        held: sub-folders that are held out for validation; without, a strip of every wide place.
        minimal_overlap: share of the smaller of two images that must be common for both to show one place.
    """

    bands: tuple[str, ...] = ()
    scale: float | tuple[float, ...] | None = None
    offset: float | tuple[float, ...] = 0.0
    nodata: float | None = None
    pixel_m: float | None = Field(None, gt=0, le=1_000)
    held: tuple[str, ...] = ()
    minimal_overlap: float = Field(0.5, gt=0, le=1)


@dataclass(frozen=True, eq=False)
class FolderData:
    """What was found.

    Attributes:
        train, held: places to train on, and to validate on; they share no ground.
        messages: what was guessed, and what was left out and why: for the user and the card.
    """

    train: tuple[FolderPlace, ...]
    held: tuple[FolderPlace, ...]
    messages: tuple[str, ...]


def read_folder(root: Path, *, bands: Sequence[str] = BANDS_10M, scale: int = 4, smallest: int = 96) -> FolderData:
    """Find the places of a tree of GeoTIFFs; no pixels are read but a few thousand to learn their scale.

    Args:
        root: of the tree; hidden files and folders are passed over.
        bands: wanted, in this order.
        scale: ratio of the resolutions.
        smallest: places with a side of fewer pixels of the truth are left out, with a message.

    Raises:
        GeodiffError: no imagery; a file that is no GeoTIFF, has no CRS, no such bands, or numbers of unknown scale.
        UsageError: ``places.yaml`` cannot be understood.
    """
    path = root / SETTINGS_FILE
    settings = FolderSettings.parse(read_yaml(path), where=str(path)) if path.exists() else FolderSettings()
    for name in settings.held:
        if not (root / name).is_dir():
            raise UsageError(f"{path}: held: {root / name} is not a folder")
    messages: dict[str, None] = {}
    headers = [_header(root, file, settings, bands, messages) for file in _files(root)]
    if not headers:
        raise GeodiffError(f"no GeoTIFF ({', '.join(SUFFIXES)}) under {root}")
    train: list[FolderPlace] = []
    held: list[FolderPlace] = []
    for place, group in places_of(headers, settings.pixel_m, scale, settings.minimal_overlap):
        rows, cols = place.size
        if min(rows, cols) < smallest:
            messages[f"left out: {place.name}, whose dates share {rows} x {cols} pixels of {place.truth_m:g} m"] = None
            continue
        sub = place.images[0].path.relative_to(root).parts
        (held if _is_held(sub, settings.held) else train).append(place)
        if place.pixel_m != (settings.pixel_m or 10.0):
            messages[f"{group}: pixels are coarse, they stand for the truth of {place.pixel_m:g} m series"] = None
    if settings.held:
        _share_no_ground(train, held, root)
    else:
        train, held = cut_strips(train)
    return FolderData(tuple(train), tuple(held), tuple(messages))


def _is_held(parts: Sequence[str], held: Sequence[str]) -> bool:
    return any(tuple(parts[: len(Path(name).parts)]) == Path(name).parts for name in held)


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield path


def _header(
    root: Path, path: Path, settings: FolderSettings, bands: Sequence[str], messages: dict[str, None]
) -> Header:
    """What the header of a file and the settings tell."""
    try:
        with opened(path) as source:
            if source.crs is None:
                raise GeodiffError(f"{path} has no CRS, so that nobody knows what it overlaps: write one into it")
            names = _names(path, source, settings, messages)
            lacking = [band for band in bands if band not in names]
            if lacking:
                raise GeodiffError(f"{path} has no band {', '.join(lacking)}: it holds {', '.join(names)}")
            indexes = tuple(names.index(band) + 1 for band in bands)
            radiometry = _radiometry(path, source, settings, names, indexes, messages)
            west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
            day = date_of([path.stem, *reversed(path.relative_to(root).parts[:-1])], source.tags())
            metric, native_m, box = _on_metric_grid(source, (west, south, east, north))
    except RasterioError as error:
        raise GeodiffError(f"cannot read training image {path}: {error}") from error
    days = day.timestamp() / 86_400 if day else float("nan")
    image = FolderImage(path, days, native_m, radiometry)
    return Header(image, str(path.relative_to(root)), metric, box, (west, south, east, north))


def _on_metric_grid(source: Any, degrees: Bounds) -> tuple[str, float, Bounds]:
    """A CRS in metres, the side of a pixel there, and the bounds: the file's own where it is in metres already."""
    if source.crs.is_projected and source.crs.linear_units_factor[1] == 1.0:
        metric = str(source.crs)
    else:
        metric = utm_crs(degrees)
    box = transform_bounds(source.crs, metric, *source.bounds)
    west, south, east, north = (float(side) for side in box)
    if metric == str(source.crs):
        native = math.sqrt(abs(source.transform.determinant))
    else:
        native = math.sqrt((east - west) * (north - south) / (source.width * source.height))
    return metric, native, (west, south, east, north)


def _names(path: Path, source: Any, settings: FolderSettings, messages: dict[str, None]) -> list[str]:
    """Names of the bands: by the settings, by their descriptions, by their colours, else R G B NIR."""
    if settings.bands:
        if len(settings.bands) != source.count:
            raise GeodiffError(f"{path} holds {source.count} bands, {SETTINGS_FILE} names {len(settings.bands)}")
        return [normal_band(name) for name in settings.bands]
    described = [normal_band(text or "") for text in source.descriptions]
    if any(name in BANDS_10M for name in described):
        return described
    colours = [COLOURS.get(colour, "") for colour in source.colorinterp]
    if source.count < 3:
        raise GeodiffError(f"{path}: {source.count} bands of unknown meaning: name them in {SETTINGS_FILE}")
    if sorted(colours[:3]) != ["B02", "B03", "B04"]:
        colours = ["B04", "B03", "B02", *[""] * (source.count - 3)]
    if source.count > 3:
        colours[3] = "B08"
    messages[f"bands taken for {' '.join(name or '-' for name in colours)}: {SETTINGS_FILE} can say otherwise"] = None
    return colours


def _radiometry(
    path: Path,
    source: Any,
    settings: FolderSettings,
    names: Sequence[str],
    indexes: tuple[int, ...],
    messages: dict[str, None],
) -> Radiometry:
    """Gains and offsets: by the settings, else by the type of the numbers and how large they are."""
    offset = _per_band(path, settings.offset, source.count, "offset")
    if settings.scale is not None:
        gain = _per_band(path, settings.scale, source.count, "scale")
    else:
        gain = _sniffed(path, source, names, messages)
    pick = [index - 1 for index in indexes]
    return Radiometry(indexes, tuple(gain[i] for i in pick), tuple(offset[i] for i in pick), settings.nodata)


def _per_band(path: Path, values: float | tuple[float, ...], count: int, what: str) -> list[float]:
    if isinstance(values, tuple) and len(values) != count:
        raise GeodiffError(f"{path} holds {count} bands, {SETTINGS_FILE} gives {len(values)} values of {what}")
    return list(values) if isinstance(values, tuple) else [values] * count


def _sniffed(path: Path, source: Any, names: Sequence[str], messages: dict[str, None]) -> list[float]:
    kind = np.dtype(source.dtypes[0])
    if kind == np.uint8:
        messages[f"8-bit images are taken as stretched for the eye: state scale in {SETTINGS_FILE} if they are not"] = (
            None
        )
        return [EYE.get(name, 0.35) / 255 for name in names]
    shape = (min(source.height, SNIFF_PX), min(source.width, SNIFF_PX))
    sample = source.read(1, out_shape=shape, resampling=Resampling.nearest, masked=True)
    bright = float(np.nanpercentile(np.ma.compressed(sample).astype(np.float64), 99)) if sample.count() else 0.0
    scale, what = _scale_of(kind.kind, bright)
    if scale is None:
        raise GeodiffError(
            f"{path}: the scale of {kind.name} numbers up to {bright:.4g} is not known: state scale in {SETTINGS_FILE}"
        )
    messages[f"{kind.name} numbers are taken as {what}: state scale in {SETTINGS_FILE} if they are not"] = None
    return [scale] * len(names)


def _scale_of(kind: str, bright: float) -> tuple[float | None, str]:
    """Factor to reflectance, and the words for it; None where nothing fits."""
    if kind == "f" and 0.01 <= bright <= 1.6:
        return 1.0, "reflectance"
    if 100 <= bright <= 16_000 and kind in "fui":
        return 1e-4, "reflectance x 10,000"
    return None, ""


def cut_strips(places: Sequence[FolderPlace], *, share: float = 0.15) -> tuple[list[FolderPlace], list[FolderPlace]]:
    """Hold the right side of every ground out: all its places are cut along one line of the map.

    Args:
        places: those with one ``ground`` overlap, and have one CRS and one side of the pixels.
        share: of the ground's width that is held out, at least ``STRIP_PX`` pixels.

    Returns:
        Training and held out. Ground that would leave fewer than ``SMALLEST_TRAIN`` columns is trained on whole.
    """
    train: list[FolderPlace] = []
    held: list[FolderPlace] = []
    for ground in dict.fromkeys(place.ground for place in places):
        own = [place for place in places if place.ground == ground]
        side = own[0].truth_m
        left = min(place.origin[0] for place in own)
        right = max(place.origin[0] + place.shape[1] * side for place in own)
        strip_m = max((right - left) * share, STRIP_PX * side)
        if (right - left) - strip_m < SMALLEST_TRAIN * side:
            train += own
            continue
        for place in own:
            cut = min(max(round((right - strip_m - place.origin[0]) / side), 0), place.shape[1])
            # Pixels between the two, so that no patch of one shows ground of the other through the sensor's blur.
            before = max(cut - GAP_PX, 0) if cut < place.shape[1] else cut
            if before >= STRIP_PX:
                train.append(place.part(slice(0, before)))
            if place.shape[1] - cut >= STRIP_PX:
                held.append(place.part(slice(cut, place.shape[1])))
    return train, held


def _share_no_ground(train: Sequence[FolderPlace], held: Sequence[FolderPlace], root: Path) -> None:
    for one in train:
        for other in held:
            if one.ground == other.ground:
                raise GeodiffError(
                    f"{other.images[0].path} is held out but overlaps {one.images[0].path}: move one of them "
                    f"({root / SETTINGS_FILE}, held)"
                )
