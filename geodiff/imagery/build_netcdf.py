"""Scenes from NetCDF cubes (CF, openEO, worldcereal): every time step becomes a scene, every variable a band."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geodiff.imagery.build_layers import Layer, Numbers, Scene
from geodiff.imagery.build_names import band_in, normal_band, slug
from geodiff.imagery.build_rasters import BuildOptions
from geodiff.schema import GeodiffError

X_NAMES = ("x", "lon", "longitude", "easting")
Y_NAMES = ("y", "lat", "latitude", "northing")
BAND_DIMS = ("bands", "band")


def netcdf_scenes(files: Sequence[Path], options: BuildOptions) -> Iterator[Scene]:
    """Scenes from NetCDF files; files of one folder, moment and place with different bands are one scene.

    Raises:
        GeodiffError: corrupt file, no time, no regular grid, no CRS.
    """
    groups: dict[tuple[Path, datetime], list[tuple[Path, list[Layer]]]] = defaultdict(list)
    for path in files:
        for moment, layers in _steps(path, options):
            groups[path.parent, moment].append((path, layers))
    for (_, moment), members in groups.items():
        for path, layers in _merged(members):
            yield Scene(f"{slug(path.stem)}_{moment:%Y%m%dT%H%M%S}", moment, tuple(layers))


def _merged(members: list[tuple[Path, list[Layer]]]) -> list[tuple[Path, list[Layer]]]:
    """Join what lies over the same ground (within two coarse pixels) and shares no band."""
    scenes: list[tuple[Path, list[Layer]]] = []
    for path, layers in members:
        for _, held in scenes:
            pixel = max(held[0].transform.a, layers[0].transform.a)
            apart = max(abs(a - b) for a, b in zip(held[0].bounds, layers[0].bounds, strict=True))
            same_ground = held[0].crs == layers[0].crs and apart <= 2 * pixel
            if same_ground and not {layer.band for layer in held} & {layer.band for layer in layers}:
                held.extend(layers)
                break
        else:
            scenes.append((path, list(layers)))
    return scenes


def _steps(path: Path, options: BuildOptions) -> Iterator[tuple[datetime, list[Layer]]]:
    with _opened(path) as cube:
        time, y, x = _axes(path, cube)
        transform, flipped = _transform(path, cube, y, x)
        crs = _crs(path, cube, options)
        moments = [_moment(value) for value in cube[time].values]
        sources = [source for name in cube.data_vars for source in _sources(cube, str(name), (time, y, x))]
    if not sources:
        raise GeodiffError(f"{path} holds no variable over time, y and x: is it a cube of images?")
    file = _File(path, flipped, (y, x))
    for step, moment in enumerate(moments):
        layers = [
            Layer(
                band=band,
                path=path,
                part=f"{name} {index} step {step}",
                read=file.reader(name, {**index, time: step}),
                crs=crs,
                transform=transform,
                shape=(int(cube.sizes[y]), int(cube.sizes[x])),
                dtype=str(cube[name].dtype),
                scale=_attribute(cube[name], "scale_factor", neutral=1.0),
                offset=_attribute(cube[name], "add_offset", neutral=0.0),
                nodata=_nodata(cube[name]),
            )
            for band, name, index in sources
        ]
        yield moment, [options.apply(layer) for layer in layers]


def _opened(path: Path, *, decode: bool = True) -> xr.Dataset:
    """The file with its numbers as they are stored: scaling them here would turn integers into real numbers."""
    try:
        with warnings.catch_warnings():
            # Odd metadata (a text attribute called "bounds") is no concern of the user.
            warnings.simplefilter("ignore")
            return xr.open_dataset(path, mask_and_scale=False, decode_cf=decode, decode_coords=decode, cache=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        text = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise GeodiffError(f"cannot read {path}: {text}; it seems corrupt or truncated") from None


def _axes(path: Path, cube: xr.Dataset) -> tuple[str, str, str]:
    times = [str(name) for name in cube.dims if name in cube.coords and cube[name].dtype.kind == "M"]
    ys = [name for name in Y_NAMES if name in cube.dims]
    xs = [name for name in X_NAMES if name in cube.dims]
    if not times:
        raise GeodiffError(f"{path} has no time axis with dates (its dimensions are {', '.join(map(str, cube.dims))})")
    if not ys or not xs or ys[0] not in cube.coords or xs[0] not in cube.coords:
        raise GeodiffError(f"{path} has no coordinates x and y (its dimensions are {', '.join(map(str, cube.dims))})")
    return times[0], ys[0], xs[0]


def _transform(path: Path, cube: xr.Dataset, y: str, x: str) -> tuple[Affine, bool]:
    """Pixel corners to CRS, and whether rows run from south to north in the file."""
    steps = []
    for name in (x, y):
        centres = cube[name].values.astype(np.float64)
        gaps = np.diff(centres)
        if len(gaps) == 0 or np.ptp(gaps) > 1e-3 * abs(gaps[0]):
            raise GeodiffError(f"{path}: coordinate {name} is not regular, so it is no raster")
        steps.append((centres[0], centres[-1], float(gaps.mean())))
    (x0, _, dx), (y0, y1, dy) = steps
    if dx <= 0:
        raise GeodiffError(f"{path}: coordinate {x} runs from east to west")
    top = max(y0, y1)
    return Affine(dx, 0, x0 - dx / 2, 0, -abs(dy), top + abs(dy) / 2), dy > 0


def _crs(path: Path, cube: xr.Dataset, options: BuildOptions) -> str:
    texts: list[Any] = []
    for name in ("spatial_ref", "crs"):
        if name in cube.variables:
            texts += [cube[name].attrs.get(key) for key in ("crs_wkt", "spatial_ref")]
    texts += [cube.attrs.get("crs"), cube.attrs.get("epsg"), options.crs]
    for text in texts:
        if text in (None, ""):
            continue
        try:
            crs = CRS.from_user_input(int(text) if re.fullmatch(r"\d+", str(text)) else str(text))
        except (CRSError, ValueError):
            continue
        epsg = crs.to_epsg()
        return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())
    raise GeodiffError(f"{path} has no CRS: pass --crs EPSG:...")


def _sources(cube: xr.Dataset, name: str, axes: tuple[str, str, str]) -> Iterator[tuple[str, str, dict[str, int]]]:
    """(band, variable, index along a band dimension) of every band that a variable holds."""
    variable = cube[name]
    others = [str(dim) for dim in variable.dims if dim not in axes]
    if not set(axes) <= set(variable.dims) or variable.dtype.kind not in "iuf":
        return
    if not others:
        yield band_in(name) or normal_band(name), name, {}
    elif len(others) == 1 and others[0] in BAND_DIMS:
        for index, label in enumerate(cube[others[0]].values):
            yield band_in(str(label)) or normal_band(str(label)), name, {others[0]: index}


@dataclass(frozen=True)
class _File:
    """One cube, opened when the first number is wanted and then kept: opening costs more than reading a step."""

    path: Path
    flipped: bool
    order: tuple[str, str]

    @cached_property
    def _cube(self) -> xr.Dataset:
        return _opened(self.path, decode=False)

    def reader(self, name: str, index: dict[str, int]) -> Callable[[tuple[int, int] | None], Numbers]:
        def read(shape: tuple[int, int] | None) -> Numbers:
            try:
                numbers: Numbers = self._cube[name].isel(index).transpose(*self.order).values
            except (OSError, RuntimeError) as error:
                raise GeodiffError(f"cannot read {name} of {self.path}: {error}; it seems truncated") from None
            numbers = numbers[::-1] if self.flipped else numbers
            if shape is None:
                return numbers
            rows, cols = (np.arange(want) * have // want for want, have in zip(shape, numbers.shape, strict=True))
            return numbers[np.ix_(rows, cols)]

        return read


def _attribute(variable: xr.DataArray, key: str, *, neutral: float) -> float | None:
    value = variable.attrs.get(key)
    return None if value is None or float(value) == neutral else float(value)


def _nodata(variable: xr.DataArray) -> float | None:
    value = variable.attrs.get("_FillValue", variable.attrs.get("missing_value"))
    if value is None:
        return float("nan") if variable.dtype.kind == "f" else None
    return float(value)


def _moment(value: np.datetime64) -> datetime:
    seconds = value.astype("datetime64[s]").astype(np.int64)
    return datetime.fromtimestamp(int(seconds), tz=UTC)
