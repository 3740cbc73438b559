"""Scenes from folders of GeoTIFF and JPEG 2000: a file per date, a file per band, or files that an item describes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geodiff.imagery.acquisition import item_crs
from geodiff.imagery.build_layers import Layer, Scene, fill_of, open_raster, raster_reader, read_last_pixel, zoomed
from geodiff.imagery.build_names import band_in, date_in, date_of, is_class, normal_band, slug
from geodiff.imagery.build_products import finest_bands, is_beside_bands, scene_folder
from geodiff.imagery.documents import Reader, UnreadableError
from geodiff.imagery.hrefs import check_href, is_remote
from geodiff.imagery.scene_file import is_masked
from geodiff.schema import GeodiffError, UsageError

RASTERS = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True)
class BuildOptions:
    """What a user says of files that do not say it themselves.

    Attributes:
        bands: names of the bands of multi-band files, in order; wins over names in the file.
        scale, offset, nodata: reflectance = scale * number + offset, and the number that stands for no data; win over
            what a file says.
        crs: of files without one.
        date: of scenes whose names and metadata hold none.
    """

    bands: tuple[str, ...] | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    crs: str | None = None
    date: datetime | None = None

    def apply(self, layer: Layer) -> Layer:
        """The layer with the user's numbers; codes (SCL and the like) keep theirs."""
        if is_class(layer.band):
            return replace(layer, scale=None, offset=None)
        if self.scale is not None:
            layer = layer.with_scale(self.scale) if layer.scale is None else replace(layer, scale=self.scale)
        return replace(
            layer,
            offset=layer.offset if self.offset is None else self.offset,
            nodata=layer.nodata if self.nodata is None else self.nodata,
        )


def raster_scenes(root: Path, files: Sequence[Path], options: BuildOptions) -> Iterator[Scene]:
    """Scenes from raster files, and from STAC items that lie beside them.

    Args:
        root: the folder that the user named; names above it tell nothing.
        files: rasters and JSON files somewhere under it.
        options: see ``BuildOptions``.

    Raises:
        GeodiffError: corrupt file, no CRS, no date, bands that do not fit together.
        UsageError: the list of bands is missing or of another length than a file.
    """
    described: set[Path] = set()
    for path in (path for path in files if path.suffix.lower() == ".json"):
        scene = _described_scene(path, options)
        if scene is not None:
            described |= {layer.path for layer in scene.layers}
            yield scene
    folders = {path.parent for path in described}
    loose: dict[tuple[Path, datetime, str], list[Layer]] = defaultdict(list)
    nameless: list[tuple[Path, datetime, Layer]] = []
    for path in files:
        if path.suffix.lower() not in RASTERS or any(folder in path.parents for folder in folders):
            continue
        if is_beside_bands(root, path):
            continue
        layers, tags = _layers(path, options)
        moment, home = _date(root, path, tags, options), scene_folder(path)
        if len(layers) > 1 or (band_in(path.stem) is None and date_in(path.stem)):
            yield Scene(slug(path.stem), moment, tuple(layers), _baseline(root, path))
        elif band_in(path.stem) is None:
            nameless.append((path, moment, layers[0]))
        else:
            loose[home, moment, _without_band(path.stem)].extend(layers)
    # A file of one band without a name (cloud_mask.tif) belongs to the bands of its folder and date, if there are any.
    for path, moment, layer in nameless:
        hosts = [key for key in loose if key[:2] == (path.parent, moment)]
        loose[hosts[0] if len(hosts) == 1 else (path.parent, moment, path.stem)].append(layer)
    for (folder, moment, stem), found in loose.items():
        layers = finest_bands(found)
        _agree(folder, layers)
        yield Scene(_scene_id(root, folder, moment, stem), moment, tuple(layers), _baseline(root, layers[0].path))


def _baseline(root: Path, path: Path) -> dict[str, str]:
    """The processing baseline as an item property, where a product's name (``..._N0510_R079_...``) tells it."""
    inside = path.relative_to(root.parent).as_posix()
    match = re.search(r"_N(\d{2})(\d{2})_R\d{3}_", inside)
    return {"s2:processing_baseline": f"{match[1]}.{match[2]}"} if match else {}


def _scene_id(root: Path, folder: Path, moment: datetime, stem: str) -> str:
    """The name that holds the date, of file or folder; else one made of folder and date."""
    if date_in(stem):
        return slug(stem)
    return slug(folder.name if date_in(folder.name) and folder != root else f"{folder.name}_{moment:%Y%m%d}")


def _no_data(source: rasterio.DatasetReader, index: int, band: str, options: BuildOptions) -> float | None:
    """The number that stands for no data in a band (from 1), also for what a mask hides."""
    said: float | None = source.nodatavals[index - 1]
    if not is_masked(source, index):
        return said
    stated = said if options.nodata is None else options.nodata
    return fill_of(band, source.dtypes[index - 1]) if stated is None else float(stated)


def _layers(path: Path, options: BuildOptions) -> tuple[list[Layer], dict[str, str]]:
    with open_raster(path) as source:
        crs = source.crs.to_string() if source.crs else _given_crs(path, options)
        if source.transform.is_identity:
            raise GeodiffError(f"{path} is not georeferenced: georeference it, or put its STAC item beside it")
        _north_up(path, source.transform)
        read_last_pixel(source)
        names = _band_names(path, source, options)
        fills = [_no_data(source, index, name, options) for index, name in enumerate(names, start=1)]
        layers = [
            Layer(
                band=name,
                path=path,
                part=f"band {index}",
                read=raster_reader(path, index, fill),
                crs=crs,
                transform=source.transform,
                shape=source.shape,
                dtype=source.dtypes[index - 1],
                scale=source.scales[index - 1] if source.scales[index - 1] != 1 else None,
                # GDAL says 0 where nothing is said.
                offset=source.offsets[index - 1] or None,
                nodata=fill,
                ready=source.count == 1 and bool(source.crs),
            )
            for index, (name, fill) in enumerate(zip(names, fills, strict=True), start=1)
        ]
        return [options.apply(layer) for layer in layers], dict(source.tags())


def _band_names(path: Path, source: rasterio.DatasetReader, options: BuildOptions) -> list[str]:
    if source.count == 1 and (band := band_in(path.stem)):
        return [band]
    if options.bands is not None:
        if len(options.bands) != source.count:
            raise UsageError(f"{path} has {source.count} bands, but {len(options.bands)} are named: --bands must match")
        names = list(options.bands)
    elif all(source.descriptions):
        names = [band_in(text) or normal_band(text) for text in source.descriptions if text]
    elif source.count == 1:
        return [slug(path.stem)]
    else:
        raise UsageError(f"{path} has {source.count} bands without names: name them in order with --bands B02,B03,...")
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: a band is named twice in {', '.join(names)}")
    return names


def _given_crs(path: Path, options: BuildOptions) -> str:
    if options.crs is None:
        raise GeodiffError(f"{path} has no CRS: pass --crs EPSG:..., or put its STAC item beside it")
    try:
        return str(CRS.from_user_input(options.crs).to_string())
    except (CRSError, ValueError):
        raise UsageError(f"{options.crs!r} is not a CRS: give a code such as EPSG:32631") from None


def _north_up(path: Path, transform: Affine) -> None:
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise GeodiffError(f"{path} is rotated or upside down: warp it to a north-up grid first (gdalwarp)")


def _date(root: Path, path: Path, tags: Mapping[str, str], options: BuildOptions) -> datetime:
    inside = [path.stem, *(parent.name for parent in path.parents if parent == root or root in parent.parents)]
    moment = date_of(inside, tags) or options.date
    if moment is None:
        raise GeodiffError(f"{path}: no date in its name, folder or metadata: rename it (2020-01-13) or pass --date")
    return moment


def _without_band(stem: str) -> str:
    """The stem without its band and resolution: equal for the files of one scene."""
    kept = [part for part in stem.split("_") if band_in(part) is None and part.lower() not in ("10m", "20m", "60m")]
    return "_".join(kept)


def _agree(folder: Path, layers: Sequence[Layer]) -> None:
    """The files of one scene must be of one CRS, cover the same ground within two coarse pixels, and differ in band."""
    first = layers[0]
    for other in layers[1:]:
        pixel = max(first.transform.a, other.transform.a)
        apart = max(abs(a - b) for a, b in zip(first.bounds, other.bounds, strict=True))
        if other.crs != first.crs or apart > 2 * pixel:
            names = f"{first.path.name} and {other.path.name}"
            raise GeodiffError(f"{folder}: {names} do not cover the same ground (sizes or CRS are mixed)")
    bands = [layer.band for layer in layers]
    twice = next((band for band in bands if bands.count(band) > 1), None)
    if twice:
        raise GeodiffError(f"{folder}: two files hold band {twice} of one date: keep one")


def _described_scene(path: Path, options: BuildOptions) -> Scene | None:
    """The scene of a STAC item that lies beside its files; None for other JSON and for items without local files."""
    try:
        with Reader() as reader:
            feature = reader.read(str(path))
    except UnreadableError:
        return None
    if feature.get("type") != "Feature" or "stac_version" not in feature or not isinstance(feature.get("assets"), dict):
        return None
    properties = dict(feature.get("properties") or {})
    text = properties.pop("datetime", None)
    moment = datetime.fromisoformat(text) if text else None
    layers = list(_described_layers(path, feature, options))
    if not layers or moment is None:
        return None
    for key in [key for key in properties if key.startswith("proj:")]:
        del properties[key]
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Scene(slug(str(feature.get("id") or path.stem)), moment.astimezone(UTC), tuple(layers), properties)


def _described_layers(path: Path, feature: Mapping[str, Any], options: BuildOptions) -> Iterable[Layer]:
    import pystac

    crs = item_crs(pystac.Item.from_dict(dict(feature), preserve_dict=True))
    for key, asset in feature["assets"].items():
        if is_remote(str(asset.get("href"))):
            continue
        local = Path(check_href(str(asset.get("href")), catalog_href=str(path.resolve())))
        if local.suffix.lower() not in RASTERS or not local.is_file() or {"thumbnail", "overview"} & _roles(asset):
            continue
        with open_raster(local) as source:
            if source.count != 1:
                continue
            read_last_pixel(source)
            placed = source.crs is not None and not source.transform.is_identity
            transform = source.transform if placed else _scaled_transform(local, asset, source.shape)
            layer = Layer(
                band=key,
                path=local,
                part=f"band 1 as {key}",
                read=raster_reader(local, 1),
                crs=source.crs.to_string() if placed else crs or _given_crs(local, options),
                transform=transform,
                shape=source.shape,
                dtype=source.dtypes[0],
                nodata=source.nodata if source.nodata is not None else _raster_band(asset).get("nodata"),
                ready=placed,
                extra=_kept(asset),
            )
        stated = _raster_band(asset)
        yield options.apply(replace(layer, scale=stated.get("scale"), offset=stated.get("offset")))


def _scaled_transform(path: Path, asset: Mapping[str, Any], shape: tuple[int, int]) -> Affine:
    """The asset's transform for a file that is a decimated copy of it."""
    try:
        rows, cols = asset["proj:shape"]
        transform = Affine(*asset["proj:transform"][:6])
    except (KeyError, TypeError, ValueError):
        raise GeodiffError(f"{path} is not georeferenced, and its STAC item states no proj:transform") from None
    down, right = rows / shape[0], cols / shape[1]
    if abs(down / right - 1) > 0.01:
        raise GeodiffError(f"{path} is {shape[1]} x {shape[0]}, its STAC item says {cols} x {rows}: another image")
    return zoomed(transform, right, down)


def _raster_band(asset: Mapping[str, Any]) -> dict[str, Any]:
    bands = asset.get("raster:bands")
    return dict(bands[0]) if isinstance(bands, list) and bands and isinstance(bands[0], dict) else {}


def _roles(asset: Mapping[str, Any]) -> set[str]:
    return set(asset.get("roles") or ())


def _kept(asset: Mapping[str, Any]) -> dict[str, Any]:
    copied = {key: asset[key] for key in ("title", "description", "roles", "eo:bands", "gsd") if key in asset}
    return dict(json.loads(json.dumps(copied)))
