"""Series that are to be scored, read as cubes: Zarr or NetCDF files, or the scenes of a static catalogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import xarray as xr

from geodiff.config import MaskConfig
from geodiff.imagery.catalog import search
from geodiff.imagery.cube import choose_grid, load_cube
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.masking import SCREEN_BANDS, scl_valid, spectral_cloud_screen
from geodiff.imagery.sources import load_source
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, UsageError, X, Y

SUFFIXES = (".nc", ".nc4", ".zarr")
MAX_SIDE_PX = 768
"""Of a larger scene the middle is scored."""

_NAMES = {TIME: ("t", "timestamp", "date"), BAND: ("bands",), Y: ("lat", "latitude"), X: ("lon", "longitude")}
_DN = 1e-4
_SATURATED = 30_000
"""Digital numbers beyond any reflectance: a mark for no data, such as 32767 or 65535."""


def is_cube(path: Path) -> bool:
    """By its name: a NetCDF file or a Zarr folder."""
    return path.suffix.lower() in SUFFIXES


def cube_files(folder: Path) -> list[Path]:
    """The cubes in a folder and its subfolders, sorted; those inside a Zarr are not looked at."""
    if is_cube(folder):
        return [folder]
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if is_cube(path):
            found.append(path)
        elif path.is_dir() and not path.name.startswith("."):
            found.extend(cube_files(path))
    return found


def read_cube(path: Path, bands: Sequence[str]) -> xr.DataArray:
    """A cube of reflectance (time, band, y, x) with ``valid`` and a CRS, in memory.

    One variable with the four dimensions, or one variable per band (``B04``, ``S2-L2A-B04``). Whole numbers are taken
    for reflectance x 10000 without offset. Clear is what ``valid`` says, else the scene classification ``SCL``, else
    the screen by brightness over the series.

    Raises:
        GeodiffError: unreadable, without one of the bands, time or CRS.
    """
    try:
        with _opened(path) as data:
            renamed = _renamed(data)
            values, names = _reflectance(renamed, path)
            return _labelled(renamed, values, names, bands, path)
    except (OSError, ValueError, KeyError) as error:
        raise GeodiffError(f"cube {path} cannot be read: {str(error).splitlines()[0]}") from error


def _opened(path: Path) -> xr.Dataset:
    if path.suffix == ".zarr":
        opened: xr.Dataset = xr.open_zarr(path, chunks=None, mask_and_scale=False)
        return opened
    # Fill values that do not fit their type, as some archives write them, would stop the decoding: see ``_numbers``.
    return xr.open_dataset(path, mask_and_scale=False)


def _renamed(data: xr.Dataset) -> xr.Dataset:
    names = {old: new for new, others in _NAMES.items() for old in others if old in data.dims and new not in data.dims}
    return data.rename(names).sortby(TIME) if TIME in (*data.dims, *names.values()) else data.rename(names)


def _band_name(name: object) -> str | None:
    found = re.search(r"(?:^|[^A-Za-z0-9])(B(?:\d\d|8A))$", str(name))
    return found.group(1) if found else None


def _reflectance(data: xr.Dataset, path: Path) -> tuple[xr.DataArray, list[str]]:
    whole = [v for v in data.data_vars.values() if set(v.dims) == set(CUBE_DIMS)]
    if whole and BAND in whole[0].coords:
        cube = whole[0].transpose(*CUBE_DIMS)
        return cube, [_band_name(name) or str(name) for name in cube[BAND].values]
    layers = {name: v for key, v in data.data_vars.items() if (name := _band_name(key)) and set(v.dims) == {TIME, Y, X}}
    if not layers:
        raise GeodiffError(
            f"cube {path} has no variable (time, band, y, x) with named bands and no variables B02, B03…"
        )
    names = list(layers)
    return xr.concat([layers[name].transpose(TIME, Y, X) for name in names], BAND).transpose(*CUBE_DIMS), names


def _labelled(data: xr.Dataset, cube: xr.DataArray, names: list[str], bands: Sequence[str], path: Path) -> xr.DataArray:
    lacking = [band for band in bands if band not in names]
    if lacking:
        raise GeodiffError(f"cube {path} has no band {', '.join(lacking)}: it has {', '.join(names)}")
    rows, cols = (middle(data.sizes[axis]) for axis in (Y, X))
    part = cube.isel({Y: rows, X: cols})
    values = _numbers(part)
    labelled = xr.DataArray(
        values,
        dims=CUBE_DIMS,
        coords={TIME: part[TIME].values, BAND: names, Y: part[Y].values, X: part[X].values},
    ).rio.write_crs(_crs(data, path))
    seen = np.isfinite(values[:, [names.index(band) for band in bands]]).all(1)
    clear = seen & _clear(data.isel({Y: rows, X: cols}), labelled)
    chosen: xr.DataArray = labelled.sel({BAND: list(bands)})
    return chosen.where(xr.DataArray(clear, dims=(TIME, Y, X))).assign_coords({VALID: ((TIME, Y, X), clear)})


def middle(size: int) -> slice:
    """The middle ``MAX_SIDE_PX`` of an axis, or all of it."""
    start = max(size - MAX_SIDE_PX, 0) // 2
    return slice(start, start + min(size, MAX_SIDE_PX))


def _numbers(cube: xr.DataArray) -> FloatArray:
    """Reflectance 0-1; NaN where there is none."""
    stored, told = cube.values, cube.attrs
    values: FloatArray = stored.astype(np.float32)
    whole = np.issubdtype(stored.dtype, np.integer)
    missing = np.zeros(values.shape, np.bool_)
    for key in ("_FillValue", "missing_value"):
        if key in told:
            missing |= values == np.float32(np.ravel(told[key])[0])
    if whole:
        missing |= (values <= 0).all(1, keepdims=True) | ((values < 0) | (values > _SATURATED)).any(1, keepdims=True)
    if "scale_factor" in told or "add_offset" in told:
        values = values * np.float32(told.get("scale_factor", 1.0)) + np.float32(told.get("add_offset", 0.0))
    finite = values[np.isfinite(values) & ~missing]
    # Numbers of some thousands are digital numbers, or were converted from them without scaling.
    if (whole and "scale_factor" not in told) or (finite.size and np.median(finite) > 2.0):
        values = values * np.float32(_DN)
    return np.where(missing, np.float32("nan"), values).astype(np.float32)


def _crs(data: xr.Dataset, path: Path) -> Any:
    if data.rio.crs is not None:
        return data.rio.crs
    for name in ("crs", "spatial_ref"):
        attributes = data[name].attrs if name in data.variables else {}
        for key in ("crs_wkt", "spatial_ref"):
            if key in attributes:
                return attributes[key]
    if "crs" in data.attrs:
        return data.attrs["crs"]
    raise GeodiffError(f"cube {path} states no CRS: write one with rioxarray's rio.write_crs")


def _clear(data: xr.Dataset, cube: xr.DataArray) -> npt.NDArray[np.bool_]:
    pixel_m = grid_of(cube).pixel_m
    if VALID in data.variables:
        said: BoolArray = data[VALID].transpose(TIME, Y, X).values.astype(np.bool_)
        return said
    if "SCL" in data.variables:
        classes = np.nan_to_num(data["SCL"].transpose(TIME, Y, X).values).astype(np.uint8)
        return np.asarray(scl_valid(classes, MaskConfig(), pixel_m), np.bool_)
    if all(band in cube[BAND].values for band in SCREEN_BANDS):
        seen = spectral_cloud_screen(cube.sel({BAND: list(SCREEN_BANDS)}).values, MaskConfig(), pixel_m)
        return np.asarray(seen, np.bool_)
    return np.ones((cube.sizes[TIME], cube.sizes[Y], cube.sizes[X]), np.bool_)


def one_a_day(cube: xr.DataArray) -> xr.DataArray:
    """Of the acquisitions of one day (UTC) the clearest, the first of equals.

    Overlapping orbits and products processed twice show a place twice on a day: where one is hidden from a model, its
    twin would give it away.
    """
    days = cube[TIME].values.astype("datetime64[D]")
    clear = cube[VALID].values.mean((1, 2))
    best = {day: max(np.flatnonzero(days == day), key=lambda i: (clear[i], -i)) for day in np.unique(days)}
    return cube if len(best) == len(days) else cube.isel({TIME: sorted(int(i) for i in best.values())})


def catalogue_series(catalog: Path) -> dict[str, list[pystac.Item]]:
    """The scenes of a static catalogue by place: scenes whose boxes meet, straight or through others, show one place.

    Raises:
        GeodiffError: the catalogue cannot be read, or its scenes state no box.
    """
    items = [item for item in search(load_source(str(catalog)), datetime="1980-01-01/..") if item.bbox]
    if not items:
        raise GeodiffError(f"the scenes of {catalog} state no bounding box: build the catalogue with geodiff")
    groups: list[list[pystac.Item]] = []
    for item in items:
        touching = [group for group in groups if any(_meet(item, other) for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append([item, *(other for group in touching for other in group)])
    groups = [sorted(group, key=lambda item: str(item.id)) for group in groups]
    groups.sort(key=lambda group: str(group[0].id))
    name = catalog.parent.name if catalog.suffix == ".json" else catalog.name
    if len(groups) == 1:
        return {name: groups[0]}
    return {f"{name}/{group[0].collection_id or 'place'}-{n}": group for n, group in enumerate(groups)}


def _meet(one: pystac.Item, other: pystac.Item) -> bool:
    a, b = one.bbox or [], other.bbox or []
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def read_scenes(catalog: Path, items: Sequence[pystac.Item], bands: Sequence[str]) -> xr.DataArray:
    """Scenes of one place on their own lattice, in memory; of a large one the middle.

    Raises:
        GeodiffError: the scenes share no lattice or cannot be read.
        UsageError: a band is missing.
    """
    source = load_source(str(catalog))
    west, south, east, north = zip(*(item.bbox or () for item in items), strict=True)
    box = (float(min(west)), float(min(south)), float(max(east)), float(max(north)))
    grid = choose_grid(list(items), bbox=box, crs="native", source=source)
    cube = load_cube(list(items), source=source, bands=list(bands), grid=grid, mask=MaskConfig())
    return cube.isel({Y: middle(cube.sizes[Y]), X: middle(cube.sizes[X])}).compute()


def check_exists(path: Path) -> None:
    """Refuse a path that is not there.

    Raises:
        UsageError: no such file or folder.
    """
    if not path.exists():
        raise UsageError(f"--data {path}: no such file or folder; give a catalog.json, cubes, or a WorldStrat root")
