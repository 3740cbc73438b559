"""What a store looks like on disk: arrays, attributes, conventions. It holds no reflectance yet.

The root group is the full-resolution dataset (``xarray.open_zarr(path)``); the groups ``1``, ``2``, ... hold the same
variables at half the resolution each. The ``multiscales`` convention of the root names the array of each level
(``reflectance``, ``1/reflectance``, ...), the layout that GDAL 3.13 writes too: a base level in the root cannot be
named as a group, since a Zarr path may not be ``.``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pyproj import CRS

from geodiff.grid import Grid
from geodiff.outputs.packing import PACKINGS
from geodiff.outputs.store_spec import StoreSpec

if TYPE_CHECKING:
    import zarr

CUBE: Final = ("time", "band", "y", "x")
LAYER: Final = ("time", "y", "x")
FLAT: Final = ("valid", "guessed")
"""Data variables without bands."""
INTERVAL: Final = "geodiff:interval"
"""Attribute of ``uncertainty``: what kind of interval it is half of."""

NO_INTERVAL: Final = "none"
SMALLEST_OVERVIEW: Final = 256
_TIME_CHUNK = 1024


def arrays_of(spec: StoreSpec) -> tuple[str, ...]:
    """Names of the data variables of a store."""
    more = [name for name, kept in (("member", spec.members), ("guessed", spec.guessed)) if kept]
    return ("reflectance", "uncertainty", "valid", *more)


def overview_grid(grid: Grid, level: int) -> Grid:
    """The grid of an overview: pixels of 2^level times the side; the last row and column may reach beyond ``grid``."""
    factor = 2**level
    shape = (-(-grid.shape[0] // factor), -(-grid.shape[1] // factor))
    return Grid(grid.crs, (grid.resolution[0] * factor, grid.resolution[1] * factor), grid.origin, shape)


def overview_levels(grid: Grid) -> int:
    """Number of overviews: halve until the longer side is at most 256 pixels."""
    longest, levels = max(grid.shape), 0
    while longest > SMALLEST_OVERVIEW:
        longest, levels = -(-longest // 2), levels + 1
    return levels


def write_group(group: zarr.Group, spec: StoreSpec, grid: Grid) -> None:
    """Create coordinates and empty data arrays of one level in a group."""
    _write_coordinates(group, spec, grid)
    for name in arrays_of(spec):
        _create_array(group, name, spec, grid)


def group_attributes(grid: Grid) -> dict[str, Any]:
    """Attributes of the Zarr conventions ``proj`` and ``spatial`` for a grid."""
    import zarr_cm
    from zarr_cm import proj, spatial

    crs, t = CRS.from_user_input(grid.crs), grid.transform
    authority = crs.to_authority()
    reference: Any = proj.create(code=":".join(authority)) if authority else proj.create(wkt2=crs.to_wkt())
    placed: Any = spatial.create(
        dimensions=("y", "x"),
        bbox=grid.bounds,
        transform_type="affine",
        transform=(t.a, t.b, t.c, t.d, t.e, t.f),
        shape=grid.shape,
        registration="pixel",
    )
    return dict(zarr_cm.create_many({"proj": reference, "spatial": placed}))


def multiscales_attributes(attributes: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    """Attributes of the root group with the ``multiscales`` convention added."""
    import zarr_cm

    layout: list[dict[str, Any]] = []
    for level in range(overview_levels(grid) + 1):
        here = overview_grid(grid, level)
        t = here.transform
        entry: dict[str, Any] = {"asset": _level_asset(level)}
        if level:
            entry["derived_from"] = _level_asset(level - 1)
        step = 2.0 if level else 1.0
        entry["transform"] = {"scale": [1.0, 1.0, step, step], "translation": [0.0, 0.0, 0.0, 0.0]}
        entry["spatial:shape"] = list(here.shape)
        entry["spatial:transform"] = [t.a, t.b, t.c, t.d, t.e, t.f]
        layout.append(entry)
    pyramid = {"layout": layout, "resampling_method": "average"}
    return dict(zarr_cm.insert_many(dict(attributes), {"multiscales": pyramid}, overwrite=True))


def _level_asset(level: int) -> str:
    return f"{level}/reflectance" if level else "reflectance"


def _write_coordinates(group: zarr.Group, spec: StoreSpec, grid: Grid) -> None:
    crs = CRS.from_user_input(grid.crs)
    seconds = np.array(spec.times, dtype="datetime64[s]").astype(np.int64)
    time = {"standard_name": "time", "units": "seconds since 1970-01-01 00:00:00", "calendar": "proleptic_gregorian"}
    _write_axis(group, "time", seconds, {**time, "axis": "T", "long_name": "target date (UTC)"}, chunk=_TIME_CHUNK)
    bands = np.array(spec.bands, dtype=np.dtypes.StringDType())
    _write_axis(group, "band", bands, {"long_name": "spectral band"})
    for axis, values in (("y", grid.y), ("x", grid.x)):
        _write_axis(group, axis, values, _axis_attributes(crs, axis))
    west, north, (dx, dy) = grid.origin[0], grid.origin[1], grid.resolution
    attributes = {**crs.to_cf(), "spatial_ref": crs.to_wkt(), "GeoTransform": f"{west!r} {dx!r} 0 {north!r} 0 {-dy!r}"}
    group.create_array("spatial_ref", data=np.array(0, dtype=np.int64), attributes=attributes, dimension_names=())


def _write_axis(
    group: zarr.Group, name: str, values: np.ndarray[Any, Any], attributes: dict[str, Any], *, chunk: int | None = None
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk or values.size,),
        compressors=_zstd(),
        dimension_names=(name,),
        attributes=attributes,
    )
    array[...] = values


def _axis_attributes(crs: CRS, axis: str) -> dict[str, str]:
    if crs.is_geographic:
        name, units = ("latitude", "degrees_north") if axis == "y" else ("longitude", "degrees_east")
    else:
        units = crs.axis_info[0].unit_name if crs.axis_info else "metre"
        name = f"projection_{axis}_coordinate"
    return {"standard_name": name, "units": "m" if units == "metre" else units, "axis": axis.upper()}


def _create_array(group: zarr.Group, name: str, spec: StoreSpec, grid: Grid) -> None:
    dims = LAYER if name in FLAT else CUBE
    middle = () if name in FLAT else (len(spec.bands),)
    packing = PACKINGS.get(name)
    dtype = np.dtype(packing.dtype if packing else "uint8")
    group.create_array(
        name,
        shape=(len(spec.times), *middle, *grid.shape),
        dtype=dtype,
        chunks=(1, *middle, spec.chunk, spec.chunk),
        shards=(1, *middle, spec.shard, spec.shard),
        compressors=_blosc(dtype.itemsize),
        fill_value=packing.fill if packing else 0,
        dimension_names=dims,
        attributes={
            **_DESCRIPTIONS[name],
            **dict(spec.layer_attrs.get(name, {})),
            **(packing.attributes() if packing else {}),
            **_PLACED,
        },
    )


_PLACED: Final = {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
_DESCRIPTIONS: Final[dict[str, dict[str, Any]]] = {
    "reflectance": {
        "long_name": "super-resolved surface reflectance, its expectation as one pass of the model estimates it",
        "units": "1",
        "ancillary_variables": "uncertainty valid",
    },
    "uncertainty": {
        "long_name": "half-width of an interval of reflectance",
        "units": "1",
    },
    "member": {"long_name": "super-resolved surface reflectance, first member of the ensemble", "units": "1"},
    "guessed": {
        "long_name": "share of the local variance of reflectance that the observations do not decide",
        "comment": "near 0 the detail is seen in the data, near 1 it is the guess of the model",
        "units": "1",
        "valid_min": 0,
        "valid_max": 250,
    },
    # uint8 and not bool: GDAL and titiler cannot resample bool.
    "valid": {
        "long_name": "1 where the surface was restored from clear observations",
        "flag_values": [0, 1],
        "flag_meanings": "invalid valid",
    },
}


def _blosc(typesize: int) -> Any:
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=typesize)


def _zstd() -> Any:
    from zarr.codecs import ZstdCodec

    return ZstdCodec(level=3)
