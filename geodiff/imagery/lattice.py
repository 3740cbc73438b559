"""Where scenes lie and on which lattice, as their items say; the grid of a cube is chosen from that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pystac
import xarray as xr
from affine import Affine
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError

from geodiff.fields import flat_box, numbers
from geodiff.grid import MAX_RESOLUTION_M, MIN_RESOLUTION_M, Grid, check_bbox, check_reach
from geodiff.imagery.reader import lattice_offset
from geodiff.imagery.sources import Source
from geodiff.schema import GeodiffError, UsageError, X, Y

Bbox = tuple[float, float, float, float]

NATIVE = "native"

STALE = 1e-6
"""A GeoTransform whose pixel sides differ from the steps of the coordinates by more than this part is not believed."""


@dataclass(frozen=True)
class Lattice:
    """Pixels of one asset: CRS as text, north-up transform, (rows, columns)."""

    crs: str
    transform: Affine
    shape: tuple[int, int]

    @property
    def bounds(self) -> Bbox:
        """(left, bottom, right, top) in the CRS."""
        left, top = self.transform.c, self.transform.f
        return left, top + self.shape[0] * self.transform.e, left + self.shape[1] * self.transform.a, top


def asset_lattice(item: pystac.Item, key: str) -> Lattice | None:
    """CRS, transform and shape of an asset by the projection extension, from the asset or else its item.

    ``proj:code`` (1.2 and later), ``proj:epsg`` and ``proj:wkt2`` are all understood.

    Returns:
        None where the item does not say all three, or says what cannot be: numbers that are none, pixels without a
        size, an image that is not north up. The file is then asked.
    """
    fields = {**_projection(item.properties), **_projection(item.assets[key].extra_fields)}
    crs = _crs_text(fields)
    terms, shape = numbers(fields.get("proj:transform"))[:6], numbers(fields.get("proj:shape"))
    if crs is None or len(terms) < 6 or len(shape) < 2 or min(shape) < 1:
        return None
    across, row_turn, _, col_turn, down, _ = terms
    if across <= 0 or down >= 0 or row_turn or col_turn:
        return None
    lattice = Lattice(crs, Affine(*terms), (int(shape[0]), int(shape[1])))
    return lattice if all(math.isfinite(side) for side in lattice.bounds) else None


def epsg_code(crs: str) -> int:
    """The EPSG number of a CRS.

    Raises:
        UsageError: the text is not a CRS, or one without an EPSG code.
    """
    code = _parse_crs(crs).to_epsg()
    if code is None:
        raise UsageError(f"CRS {crs[:60]!r} has no EPSG code: give one, for instance EPSG:32631")
    return int(code)


def choose_grid(
    items: Sequence[pystac.Item], *, bbox: Bbox, resolution_m: float = 10.0, crs: str | None = None, source: Source
) -> Grid:
    """Choose the grid of a cube.

    Args:
        items: the scenes; they must reach ``bbox``.
        bbox: (west, south, east, north) in degrees.
        resolution_m: pixel side in metres; ignored for "native".
        crs: None for UTM of the box; "native" for the common lattice of the scenes, cropped to the box, on which no
            value is resampled; else any CRS with an EPSG code. In a CRS in degrees pixels are as square on the
            ground as whole degrees of latitude allow.
        source: the catalogue, for the names of bands.

    Returns:
        A grid whose pixel edges are whole multiples of the resolution, or lie on the scenes' lattice.

    Raises:
        UsageError: a bad box, unknown CRS, absurd resolution.
        GeodiffError: no scenes, the box lies outside all of them, or they have no common lattice.
    """
    check_bbox(bbox)
    if not items:
        raise GeodiffError("no scenes: widen the dates, the region or the cloud limit of the search")
    if not math.isfinite(resolution_m) or not MIN_RESOLUTION_M <= resolution_m <= MAX_RESOLUTION_M:
        raise UsageError(f"resolution {resolution_m} m is absurd: give {MIN_RESOLUTION_M} to {MAX_RESOLUTION_M} m")
    _check_reach(items, bbox)
    if crs == NATIVE:
        return _native_grid(items, bbox, source)
    if crs is None:
        return Grid.cover(bbox, resolution_m=resolution_m)
    epsg_code(crs)
    return _cover(bbox, resolution_m, crs)


def grid_of(cube: xr.DataArray) -> Grid:
    """The grid of a cube: its CRS and its evenly spaced pixel centres.

    Raises:
        GeodiffError: the array has no CRS, or no y and x.
    """
    import rioxarray  # noqa: F401 - registers .rio

    if cube.rio.crs is None or X not in cube.coords or Y not in cube.coords:
        raise GeodiffError("the cube lacks a CRS or pixel coordinates: set them with cube.rio.write_crs(...)")
    epsg = cube.rio.crs.to_epsg()
    crs = f"EPSG:{epsg}" if epsg else cube.rio.crs.to_wkt()
    stated = [float(v) for v in str(cube.spatial_ref.attrs.get("GeoTransform", "")).split()]
    sides = _sides(cube, stated)
    origin = float(cube[X][0]) - sides[0] / 2, float(cube[Y][0]) + sides[1] / 2
    if len(stated) == 6 and max(abs(stated[0] - origin[0]), abs(stated[3] - origin[1])) < 1e-6 * min(sides):
        origin = stated[0], stated[3]  # not cropped since it was written: exact
    return Grid(crs, sides, origin, (cube.sizes[Y], cube.sizes[X]))


def _sides(cube: xr.DataArray, stated: Sequence[float]) -> tuple[float, float]:
    """Pixel sides as the GeoTransform states them, which is exact; as the coordinates tell where that is stale.

    xarray keeps the attribute when an array is coarsened or thinned.
    """
    if len(stated) != 6:
        return _step(cube[X]), -_step(cube[Y])
    across, down = (
        _step(axis) if axis.size > 1 else side for axis, side in ((cube[X], stated[1]), (cube[Y], stated[5]))
    )
    fresh = math.isclose(across, stated[1], rel_tol=STALE) and math.isclose(down, stated[5], rel_tol=STALE)
    return (stated[1], -stated[5]) if fresh else (across, -down)


def _step(axis: xr.DataArray) -> float:
    if axis.size < 2:
        raise GeodiffError(f"the cube has one pixel along {axis.name} and no GeoTransform: write it with cube.rio")
    return float(axis[-1] - axis[0]) / (axis.size - 1)


def reaches(item: pystac.Item, bounds: Bbox) -> bool:
    """Whether the item's box touches ``bounds``, both (west, south, east, north) in degrees; True if it has no box."""
    own = flat_box(item.bbox)
    if own is None:
        return True
    west, south, east, north = own
    left, right = bounds[0], _unwrapped(bounds[0], bounds[2])
    overlaps = any(west + turn < right and _unwrapped(west, east) + turn > left for turn in (-360, 0, 360))
    return bool(overlaps and south < bounds[3] and north > bounds[1])


def _unwrapped(west: float, east: float) -> float:
    """``east`` to the east of ``west``: of a box that crosses the antimeridian it is given to the west of it."""
    return east if east >= west else east + 360


def _check_reach(items: Sequence[pystac.Item], bbox: Bbox) -> None:
    if any(reaches(item, bbox) for item in items):
        return
    boxes = [box for item in items if (box := flat_box(item.bbox))]
    west, south = min(b[0] for b in boxes), min(b[1] for b in boxes)
    east, north = max(b[2] for b in boxes), max(b[3] for b in boxes)
    raise GeodiffError(
        f"bbox {bbox} lies outside all {len(items)} scenes, which cover W {west:.4f} S {south:.4f} E {east:.4f} "
        f"N {north:.4f}: check the order W S E N"
    )


def _native_grid(items: Sequence[pystac.Item], bbox: Bbox, source: Source) -> Grid:
    first, *others = list(_finest_lattices(items, source))
    for item, other in zip(items[1:], others, strict=True):
        step = lattice_offset(first.transform, other.transform, {"height": other.shape[0], "width": other.shape[1]})
        if _parse_crs(other.crs) != _parse_crs(first.crs) or step is None:
            raise GeodiffError(
                f"scenes {items[0].id} ({first.crs}) and {item.id} ({other.crs}) do not share a lattice: "
                "give a CRS instead of native"
            )
    t = first.transform
    asked = Transformer.from_crs("EPSG:4326", first.crs, always_xy=True).transform_bounds(*bbox)
    every = [lattice.bounds for lattice in (first, *others)]
    held = (min(b[0] for b in every), min(b[1] for b in every), max(b[2] for b in every), max(b[3] for b in every))
    left, right = max(asked[0], held[0]), min(asked[2], held[2])
    bottom, top = max(asked[1], held[1]), min(asked[3], held[3])
    c0, c1 = math.floor((left - t.c) / t.a + 1e-3), math.ceil((right - t.c) / t.a - 1e-3)
    r0, r1 = math.floor((top - t.f) / t.e + 1e-3), math.ceil((bottom - t.f) / t.e - 1e-3)
    if c1 <= c0 or r1 <= r0:
        raise GeodiffError(f"bbox {bbox} lies outside the pixels of all {len(items)} scenes: check the order W S E N")
    return Grid(first.crs, (t.a, -t.e), (t.c + c0 * t.a, t.f + r0 * t.e), (r1 - r0, c1 - c0))


def _finest_lattices(items: Sequence[pystac.Item], source: Source) -> Iterator[Lattice]:
    """For each item the lattice of its finest band."""
    for item in items:
        keys = [next((k for k in source.asset_names(band) if k in item.assets), None) for band in source.bands]
        found = [lattice for key in keys if key and (lattice := asset_lattice(item, key))]
        if not found:
            raise GeodiffError(
                f"scene {item.id} does not state its lattice (proj:code, proj:transform, proj:shape): "
                "give a CRS instead of native"
            )
        yield min(found, key=lambda lattice: lattice.transform.a)


def _cover(bbox: Bbox, resolution_m: float, crs: str) -> Grid:
    parsed = _parse_crs(crs)
    check_reach(crs, bbox)
    try:
        west, south, east, north = Transformer.from_crs("EPSG:4326", parsed, always_xy=True).transform_bounds(*bbox)
    except ProjError as error:
        raise UsageError(f"bbox {bbox} cannot be expressed in {crs} ({error}): give another CRS") from error
    if not all(math.isfinite(v) for v in (west, south, east, north)):
        raise UsageError(f"bbox {bbox} lies outside the area of {crs}: give another CRS, or none for UTM")
    rx, ry = _resolution(parsed, resolution_m, (bbox[1] + bbox[3]) / 2)
    left, right = math.floor(west / rx + 1e-3), math.ceil(east / rx - 1e-3)
    bottom, top = math.floor(south / ry + 1e-3), math.ceil(north / ry - 1e-3)
    return Grid(crs, (rx, ry), (left * rx, top * ry), (max(top - bottom, 1), max(right - left, 1)))


def _resolution(crs: CRS, resolution_m: float, latitude: float) -> tuple[float, float]:
    """Pixel sides in units of the CRS."""
    if crs.is_projected:
        side = resolution_m / crs.axis_info[0].unit_conversion_factor
        return side, side
    # By whole degrees of latitude, so that neighbouring regions share a lattice.
    lat, geod = min(max(float(round(latitude)), -89.0), 89.0), Geod(ellps="WGS84")
    across, up = geod.inv(0, lat, 0.01, lat)[2] / 0.01, geod.inv(0, lat - 0.005, 0, lat + 0.005)[2] / 0.01
    return resolution_m / across, resolution_m / up


def _projection(fields: dict[str, object]) -> dict[str, list[float]]:
    return {k: v for k, v in fields.items() if k.startswith("proj:") and v is not None}  # type: ignore[misc]


def _crs_text(fields: dict[str, list[float]]) -> str | None:
    code, epsg, wkt = fields.get("proj:code"), fields.get("proj:epsg"), fields.get("proj:wkt2")
    if code:
        return str(code)
    return f"EPSG:{epsg}" if epsg else (str(wkt) if wkt else None)


def _parse_crs(crs: str) -> CRS:
    try:
        return CRS.from_user_input(crs)
    except CRSError:
        raise UsageError(f"unknown CRS {crs[:60]!r}: give an EPSG code such as EPSG:32631, or native") from None
