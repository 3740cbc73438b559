"""Rasters as frozen values: a grid, and the tiles that are cut from it on a lattice anchored to the CRS origin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError

from geodiff.schema import UsageError

MAX_PIXELS = 4_000_000_000
MIN_RESOLUTION_M, MAX_RESOLUTION_M = 0.1, 10_000.0
MIN_RESOLUTION_DEG, MAX_RESOLUTION_DEG = 1e-6, 0.1

TRUE_TO_SCALE = 0.01
"""A metre of a projection may be off by so much and still count as one."""


@dataclass(frozen=True)
class Grid:
    """A north-up raster.

    Attributes:
        crs: anything pyproj reads, kept as text ("EPSG:32631" or WKT).
        resolution: side of a pixel in units of the CRS (x, y), both positive.
        origin: (x, y) of the upper left corner, in units of the CRS.
        shape: (rows, columns).
    """

    crs: str
    resolution: tuple[float, float]
    origin: tuple[float, float]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not all(0 < side < math.inf for side in self.resolution):
            raise UsageError(f"a grid needs positive shape and resolution, got {self.shape} at {self.resolution}")
        if not all(math.isfinite(value) for value in self.origin):
            raise UsageError(f"a grid needs a finite origin, got {self.origin}: the region may lie outside {self.crs}")
        if self.shape[0] * self.shape[1] > MAX_PIXELS:
            raise UsageError(f"{self.shape[0]} x {self.shape[1]} pixels are too many for one run: split the region")

    @property
    def transform(self) -> Affine:
        return Affine(self.resolution[0], 0, self.origin[0], 0, -self.resolution[1], self.origin[1])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in units of the CRS."""
        (x, y), (rx, ry), (rows, cols) = self.origin, self.resolution, self.shape
        return (x, y - rows * ry, x + cols * rx, y)

    @cached_property
    def bounds_wgs84(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees."""
        return Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform_bounds(*self.bounds)

    @cached_property
    def pixel_m(self) -> tuple[float, float]:
        """Ground size (x, y) of the central pixel in metres, also for a CRS in degrees.

        The scale of a projection counts where it is off by more than ``TRUE_TO_SCALE``: UTM's is not, that of web
        Mercator is 1.34 at 42 degrees.
        """
        crs = CRS.from_user_input(self.crs)
        on_ground = self._geodesic_m()
        if not crs.is_projected:
            return on_ground
        factor = crs.axis_info[0].unit_conversion_factor
        nominal = (self.resolution[0] * factor, self.resolution[1] * factor)
        apart = max(abs(true / told - 1) for true, told in zip(on_ground, nominal, strict=True))
        # Not a number where the grid lies outside of what the projection can show.
        return on_ground if apart > TRUE_TO_SCALE else nominal

    def _geodesic_m(self) -> tuple[float, float]:
        """Lengths on the ellipsoid of the sides (x, y) of the central pixel."""
        west, south, east, north = self.bounds
        x, y = (west + east) / 2, (south + north) / 2
        degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        lon, lat = degrees.transform([x, x + self.resolution[0], x], [y, y, y + self.resolution[1]])
        _, _, length = Geod(ellps="WGS84").inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])
        return (float(length[0]), float(length[1]))

    @property
    def area_km2(self) -> float:
        return self.shape[0] * self.shape[1] * self.pixel_m[0] * self.pixel_m[1] / 1e6

    @property
    def lattice_origin(self) -> tuple[int, int]:
        """(row, column) of the first pixel on the absolute lattice: pixels counted from the CRS origin, down and right.

        Some archives put pixel centres, not edges, on multiples of the resolution (Landsat). Halves therefore go up,
        with slack for rounding, and never to the even number: a grid moved by one pixel moves by one on the lattice.
        """
        down, right = -self.origin[1] / self.resolution[1], self.origin[0] / self.resolution[0]
        return (math.floor(down + 0.5 + 1e-3), math.floor(right + 0.5 + 1e-3))

    @property
    def x(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Pixel centres, (columns,) float64."""
        return self.origin[0] + (np.arange(self.shape[1], dtype=np.float64) + 0.5) * self.resolution[0]

    @property
    def y(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Pixel centres, north to south, (rows,) float64."""
        return self.origin[1] - (np.arange(self.shape[0], dtype=np.float64) + 0.5) * self.resolution[1]

    def zoom(self, scale: int) -> Grid:
        """The same ground at ``scale`` times the resolution."""
        return Grid(
            self.crs,
            (self.resolution[0] / scale, self.resolution[1] / scale),
            self.origin,
            (self.shape[0] * scale, self.shape[1] * scale),
        )

    @classmethod
    def cover(
        cls, bbox: tuple[float, float, float, float], *, resolution_m: float = 10.0, crs: str | None = None
    ) -> Grid:
        """The smallest grid over a WGS84 ``bbox`` whose pixel edges are whole multiples of the resolution.

        Args:
            bbox: (west, south, east, north) in degrees.
            resolution_m: pixel side in units of the CRS (metres for UTM).
            crs: target CRS; the UTM zone of the box's centre when None.

        Raises:
            UsageError: a box that is empty, outside the world or in the wrong axis order; a CRS that is unknown or does
                not reach there; absurd resolution.
        """
        check_bbox(bbox)
        target = crs or utm_crs(bbox)
        check_resolution(resolution_m, target)
        check_reach(target, bbox)
        west, south, east, north = Transformer.from_crs("EPSG:4326", target, always_xy=True).transform_bounds(*bbox)
        if not all(math.isfinite(v) for v in (west, south, east, north)):
            raise UsageError(f"bbox {bbox} cannot be shown in {target}: choose another CRS, or none for UTM")
        r = resolution_m
        # One thousandth of a pixel of slack, so that a box given as whole pixels does not gain a row by rounding.
        left, right = math.floor(west / r + 1e-3), math.ceil(east / r - 1e-3)
        bottom, top = math.floor(south / r + 1e-3), math.ceil(north / r - 1e-3)
        return cls(target, (r, r), (left * r, top * r), (max(top - bottom, 1), max(right - left, 1)))


def check_bbox(bbox: tuple[float, float, float, float]) -> None:
    """Refuse a WGS84 box that is empty, outside the world or written latitude first.

    Raises:
        UsageError: saying which rule the box breaks.
    """
    west, south, east, north = bbox
    if not all(math.isfinite(v) for v in bbox):
        raise UsageError(f"bbox {bbox} holds a value that is not a number: give W S E N in degrees")
    if not (-90 <= south <= 90 and -90 <= north <= 90) and all(abs(v) <= 90 for v in (west, east)):
        raise UsageError(f"bbox {bbox}: latitudes beyond 90 degrees; the order is W S E N (longitude first)")
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= 90 and -90 <= north <= 90):
        raise UsageError(f"bbox {bbox} lies outside the world: give W S E N in degrees")
    if south >= north:
        raise UsageError(f"bbox {bbox}: south is not below north; the order is W S E N")
    if west >= east:
        raise UsageError(f"bbox {bbox}: west is not left of east (split a box that crosses the antimeridian)")


def check_resolution(resolution: float, crs: str) -> None:
    """Refuse a CRS that does not exist or is no map, and a resolution that is absurd in its units.

    Raises:
        UsageError: saying what to give instead.
    """
    try:
        found = CRS.from_user_input(crs)
    except CRSError:
        raise UsageError(f"CRS {crs!r} is unknown: give a code such as EPSG:32631") from None
    if not (found.is_projected or found.is_geographic):
        raise UsageError(f"CRS {crs!r} is no map: give a projected CRS such as EPSG:32631, or EPSG:4326")
    low, high, unit = MIN_RESOLUTION_M, MAX_RESOLUTION_M, "m"
    if found.is_geographic:
        low, high, unit = MIN_RESOLUTION_DEG, MAX_RESOLUTION_DEG, "degrees"
    if not low <= resolution <= high:
        raise UsageError(f"resolution {resolution:g} {unit} is absurd: give {low:g} to {high:g} {unit} for {crs}")


def check_reach(crs: str, bbox: tuple[float, float, float, float]) -> None:
    """Refuse a CRS whose area of use lies far from a WGS84 box: a projection may return numbers there, but no map.

    Ten degrees of grace, because neighbouring zones and overhanging scenes are legitimate.

    Raises:
        UsageError: naming the CRS to use instead.
    """
    area, grace = CRS.from_user_input(crs).area_of_use, 10.0
    if area is None:
        return
    width = (area.east - area.west) % 360 or 360.0
    middle = area.west + width / 2
    away = abs(((bbox[0] + bbox[2]) / 2 - middle + 180) % 360 - 180) - (width + bbox[2] - bbox[0]) / 2
    if away > grace or bbox[1] > area.north + grace or bbox[3] < area.south - grace:
        raise UsageError(f"CRS {crs} is made for another part of the world than bbox {bbox}: {utm_crs(bbox)} would fit")


def utm_crs(bbox: tuple[float, float, float, float]) -> str:
    """EPSG code of the UTM zone of a box's centre (without the Norwegian and Svalbard exceptions, like Sentinel-2)."""
    lon, lat = (bbox[0] + bbox[2]) / 2, (bbox[1] + bbox[3]) / 2
    zone = min(int((lon + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


@dataclass(frozen=True, order=True)
class TileKey:
    """Place of a tile on the absolute lattice: it covers rows [row*core, (row+1)*core) and the like for columns."""

    row: int
    col: int


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels of one grid: rows [top, top+rows), columns [left, left+cols); may reach beyond the grid."""

    top: int
    left: int
    rows: int
    cols: int

    def expand(self, margin: int) -> Window:
        return Window(self.top - margin, self.left - margin, self.rows + 2 * margin, self.cols + 2 * margin)

    def scaled(self, scale: int) -> Window:
        return Window(self.top * scale, self.left * scale, self.rows * scale, self.cols * scale)

    def intersect(self, other: Window) -> Window | None:
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.rows, other.top + other.rows)
        right = min(self.left + self.cols, other.left + other.cols)
        return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Slices of this window inside an array that holds ``outer``."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.rows), slice(left, left + self.cols)


@dataclass(frozen=True)
class TilePlan:
    """How a grid is cut for the model; pixels are those of the low-resolution grid.

    Attributes:
        grid: the low-resolution grid.
        core: side of the lattice cell that a tile owns.
        feather: width over which a tile blends into its neighbours beyond its core (per side).
        halo: context that the model sees beyond core + feather (per side).
    """

    grid: Grid
    core: int = 128
    feather: int = 8
    halo: int = 16

    def core_window(self, key: TileKey) -> Window:
        """The tile's own pixels, counted from the grid's first pixel."""
        row0, col0 = self.grid.lattice_origin
        return Window(key.row * self.core - row0, key.col * self.core - col0, self.core, self.core)

    def output_window(self, key: TileKey) -> Window:
        """Core and feather: the pixels that the tile contributes to."""
        return self.core_window(key).expand(self.feather)

    def input_window(self, key: TileKey) -> Window:
        """Core, feather and halo: the pixels that the model sees."""
        return self.core_window(key).expand(self.feather + self.halo)

    def keys(self, window: Window | None = None) -> Iterator[TileKey]:
        """Tiles that contribute to a window of the grid (the whole grid when None), row by row."""
        asked = window or Window(0, 0, *self.grid.shape)
        inside = asked.intersect(Window(0, 0, *self.grid.shape))
        if inside is None:
            return
        row0, col0 = self.grid.lattice_origin
        reach, core = self.feather, self.core
        rows = range((inside.top + row0 - reach) // core, (inside.top + inside.rows - 1 + row0 + reach) // core + 1)
        cols = range((inside.left + col0 - reach) // core, (inside.left + inside.cols - 1 + col0 + reach) // core + 1)
        grid_window = Window(0, 0, *self.grid.shape)
        for row in rows:
            for col in cols:
                key = TileKey(row, col)
                # A tile whose core lies wholly beyond the grid has no data of its own; the weights of the others
                # are normalised by their sum, so leaving it out costs nothing.
                if self.core_window(key).intersect(grid_window) is not None:
                    yield key
