"""A static STAC catalogue of a user's own scenes, so that they come through the same door as those of an archive.

Find the scenes (``build_rasters``, ``build_netcdf``), check that they make a series, give every band a file of its own
(``build_layers``: stackstac wants one band per asset), write the documents (``build_items``), the root last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from geodiff.imagery.build_items import FOLDER, Json, folder_mark, make_collection, make_item, make_root, scene_bounds
from geodiff.imagery.build_layers import Layer, Scene, write_cog
from geodiff.imagery.build_names import is_class, slug
from geodiff.imagery.build_netcdf import netcdf_scenes
from geodiff.imagery.build_rasters import RASTERS, BuildOptions, raster_scenes
from geodiff.imagery.documents import Reader, UnreadableError, write_json
from geodiff.imagery.radiometry import BRIGHTEST
from geodiff.schema import GeodiffError, UsageError

log = logging.getLogger(__name__)

NETCDF = (".nc", ".nc4")
DEFAULT_SCALE = 0.0001
APPLIED = "geodiff:boa_offset_applied"
"""Item property by which a user says that the +1000 of baseline 04.00 was subtracted already."""

SAME_PLACE = 0.9
"""Overlap (as a part of the smaller scene) from which two scenes of one moment are the same one twice."""

Progress = Callable[[int, int, str], None]


def build_catalog(
    folder: Path,
    out: Path,
    *,
    bands: Sequence[str] | None = None,
    collection_id: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    crs: str | None = None,
    date: datetime | None = None,
    boa_offset_applied: bool | None = None,
    progress: Progress | None = None,
) -> Path:
    """Catalogue the GeoTIFF, JPEG 2000 and NetCDF scenes under ``folder``.

    Bands that share a file, and NetCDF variables, are written as cloud-optimised GeoTIFFs under ``out/assets``; files
    of one georeferenced band are linked where they are. A rerun makes only what is missing or changed, and a killed
    one leaves nothing half-written.

    Args:
        folder: looked through with its subfolders.
        out: folder of the catalogue; other collections that it holds already stay.
        bands: names of the bands of multi-band files, in order, where the files do not hold them.
        collection_id: the folder's name when None.
        scale: reflectance per digital number; when None what the file says, else 0.0001 for 16-bit integers and for
            real numbers beyond reflectance, 1 for other real numbers.
        offset: in reflectance, added after the scale; when None what the file says.
        nodata: the digital number that stands for no data; when None what the file says.
        crs: of files without one.
        date: of scenes without one in name, folder or metadata.
        boa_offset_applied: whether the offset of baseline 04.00 was subtracted; written to the items when given.
        progress: called as (scenes done, scenes in all, id) after each scene.

    Returns:
        Path of ``catalog.json``.

    Raises:
        UsageError: the folder does not exist, or the list of bands does not fit.
        GeodiffError: no scenes; a corrupt file; no CRS or date; sizes that do not fit; one date and place twice.
    """
    folder, out = folder.expanduser().resolve(), out.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: name the folder that holds the scenes")
    options = BuildOptions(tuple(bands) if bands else None, scale, offset, nodata, crs, date)
    scenes = _find(folder, out, options)
    collection = slug(collection_id or folder.name)
    _require_same_folder(out / collection / "collection.json", folder)
    items: list[Json] = []
    for number, scene in enumerate(scenes, start=1):
        if boa_offset_applied is not None:
            scene = replace(scene, properties={**scene.properties, APPLIED: boa_offset_applied})
        home = out / collection / scene.id / f"{scene.id}.json"
        item = make_item(scene, _files(scene, out / "assets" / collection), home=home, out=out, collection=collection)
        write_json(home, item)
        items.append(item)
        if progress:
            progress(number, len(scenes), scene.id)
    write_json(out / collection / "collection.json", make_collection(collection, items, folder=folder))
    root = out / "catalog.json"
    write_json(root, make_root(collection, _earlier(root)))
    return root


def _find(folder: Path, out: Path, options: BuildOptions) -> list[Scene]:
    skip_out = out != folder and out.is_relative_to(folder)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (skip_out and path.is_relative_to(out))
    )
    rasters = [path for path in files if path.suffix.lower() in (*RASTERS, ".json")]
    cubes = [path for path in files if path.suffix.lower() in NETCDF]
    scenes = [*raster_scenes(folder, rasters, options), *netcdf_scenes(cubes, options)]
    if not scenes:
        raise GeodiffError(f"{folder} holds no GeoTIFF, JPEG 2000 or NetCDF scenes")
    scenes.sort(key=lambda scene: (scene.time, scene.id))
    _no_duplicates(scenes)
    return _scaled(scenes, options)


def _no_duplicates(scenes: Sequence[Scene]) -> None:
    """One moment, one place, one band: one scene. Ids must differ as well."""
    seen: dict[datetime, list[tuple[Scene, tuple[float, float, float, float]]]] = {}
    ids: set[str] = set()
    for scene in scenes:
        bounds = scene_bounds(scene)
        for other, there in seen.get(scene.time, []):
            shared = {a.band for a in scene.layers} & {b.band for b in other.layers}
            if shared and _overlap(bounds, there) > SAME_PLACE:
                names = f"{other.layers[0].path} and {scene.layers[0].path}"
                raise GeodiffError(f"{names} show the same place at {scene.time:%Y-%m-%d %H:%M}: keep one of them")
        seen.setdefault(scene.time, []).append((scene, bounds))
        if scene.id in ids:
            raise GeodiffError(f"two scenes would be called {scene.id} ({scene.layers[0].path}): rename one")
        ids.add(scene.id)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Shared area as a part (0-1) of the smaller box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / smaller if width > 0 and height > 0 and smaller > 0 else 0.0


def _scaled(scenes: Sequence[Scene], options: BuildOptions) -> list[Scene]:
    """Give layers without a stated scale the usual one; one answer for the whole catalogue."""
    unstated = [each for scene in scenes for each in scene.layers if each.scale is None and not is_class(each.band)]
    for layer in unstated:
        if np.dtype(layer.dtype).itemsize == 1:
            raise UsageError(f"{layer.path} holds bytes: say what one is in reflectance, for instance --scale 0.004")
    reals = {layer.band: layer for layer in reversed(unstated) if np.dtype(layer.dtype).kind == "f"}
    guessed = {band: _real_scale(layer.read(None)) for band, layer in reals.items()}
    if unstated:
        log.info("no scale stated: %g taken for integers, for real numbers %s", DEFAULT_SCALE, guessed or "none")

    def scaled(layer: Layer) -> Layer:
        known = layer.scale is not None or is_class(layer.band)
        return layer if known else options.apply(layer.with_scale(guessed.get(layer.band, DEFAULT_SCALE)))

    return [replace(scene, layers=tuple(scaled(layer) for layer in scene.layers)) for scene in scenes]


def _real_scale(numbers: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> float:
    finite = np.abs(numbers[np.isfinite(numbers)])
    return DEFAULT_SCALE if finite.size and float(np.median(finite)) > BRIGHTEST else 1.0


def _files(scene: Scene, assets: Path) -> dict[str, tuple[Path, bool]]:
    """The file of every band: (path, whether it is one of our COGs)."""
    files = {}
    for layer in scene.layers:
        if layer.ready:
            files[layer.band] = (layer.path, False)
        else:
            path = assets / scene.id / f"{slug(layer.band)}.tif"
            write_cog(layer, path)
            files[layer.band] = (path, True)
    return files


def _require_same_folder(path: Path, folder: Path) -> None:
    """Raises UsageError where a collection of the name was made of another folder: it would be lost."""
    known = _earlier(path) or {}
    if known.get(FOLDER, folder_mark(folder)) != folder_mark(folder):
        raise UsageError(
            f"{path.parent} holds the scenes of another folder called {known.get('title')}: give this one a name of "
            "its own, --collection NAME, or remove the collection if the folder was moved"
        )


def _earlier(root: Path) -> Json | None:
    try:
        with Reader() as reader:
            return reader.read(str(root))
    except UnreadableError:
        return None
