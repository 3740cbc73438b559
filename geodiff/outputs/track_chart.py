"""What every chart of tracks needs: round graticules and their labels, ellipses, the colours of states, a coastline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import shapely

from geodiff.outputs.coastline_kinds import check_kind, is_parquet
from geodiff.outputs.track_simplify import MAX_LATITUDE_DEG, mercator_y
from geodiff.outputs.track_thinning import Table
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import KM_PER_DEG
from geodiff.tracks import ANOMALOUS, FORECAST, GENERATED, IMPUTED, OBSERVED, REJECTED

if TYPE_CHECKING:
    import geopandas as gpd

Array = npt.NDArray[np.float64]
Extent = tuple[float, float, float, float]

COLOURS: Final = {
    OBSERVED: "#0a5a9c",
    IMPUTED: "#e07b00",
    FORECAST: "#b0308f",
    GENERATED: "#00805e",
    REJECTED: "#d1241f",
    "no track": "#7a7a7a",
    ANOMALOUS: "#17191c",
}
"""Told apart by colour-blind readers too (after Okabe and Ito 2008), darkened for thin lines on white."""

_STEPS_MIN: Final = (
    *(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 2700, 3600, 5400),
)
_SMALLEST_DEG: Final = 0.01


def framed(extent: Extent, *, margin: float = 0.06, aspect: float = 1.4) -> Extent:
    """An extent with a margin, no smaller than about 1 km, at most ``aspect`` times as wide as high, and vice versa."""
    left, bottom, right, top = extent
    centre = (left + right) / 2, (bottom + top) / 2
    width = max(right - left, _SMALLEST_DEG) * (1 + 2 * margin)
    height = max(top - bottom, _SMALLEST_DEG) * (1 + 2 * margin)
    width, height = max(width, height / aspect), max(height, width / aspect)
    return centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2


def graticule(low: float, high: float, *, most: int = 7) -> Array:
    """Round degrees between two, at most ``most`` of them."""
    step = next((s / 60 for s in _STEPS_MIN if (high - low) * 60 / s <= most), _STEPS_MIN[-1] / 60)
    first = np.ceil(low / step - 1e-9)
    ticks: Array = np.arange(first, np.floor(high / step + 1e-9) + 1) * step
    return ticks


def degree_label(value_deg: float, letters: str) -> str:
    """A round angle for people: 12.5 and "EW" is ``12°30′E``; longitudes beyond 180° are brought home."""
    if letters == "EW":
        value_deg = (value_deg + 180.0) % 360.0 - 180.0
    minutes = round(abs(value_deg) * 60, 3)
    degrees, rest = int(minutes // 60), minutes % 60
    letter = "" if minutes == 0 or (letters == "EW" and minutes == 10800) else letters[0 if value_deg > 0 else 1]
    return f"{degrees}°{f'{rest:g}′' if rest else ''}{letter}"


def ellipse_outlines(table: Table, *, points: int = 40) -> list[Array]:
    """Outlines, each (points, 2), of ellipses (``track_thinning.ELLIPSE``) on the chart, which is conformal."""
    major, minor, turn, lat = (table[name][:, None] for name in ("major_km", "minor_km", "course_deg", "lat_deg"))
    angle, turn = np.linspace(0, 2 * np.pi, points)[None, :], np.radians(turn)
    along, across = major * np.cos(angle), minor * np.sin(angle)
    scale = 1.0 / (KM_PER_DEG * np.maximum(np.cos(np.radians(lat)), 0.01))
    east = along * np.sin(turn) + across * np.cos(turn)
    north = along * np.cos(turn) - across * np.sin(turn)
    return list(np.stack([table["x"][:, None] + scale * east, table["y"][:, None] + scale * north], axis=-1))


def read_coastline(path: Path) -> gpd.GeoDataFrame:
    """Shapes of a vector file, one of ``coastline_kinds.KINDS``.

    Raises:
        UsageError: no such file.
        GeodiffError: it cannot be read, is of another kind, has no shapes, or has no coordinate reference system.
    """
    import geopandas as gpd

    if not path.exists():
        raise UsageError(f"coastline {path}: no such file, so it cannot be read")
    try:
        check_kind(path)
        frame = gpd.read_parquet(path) if is_parquet(path) else gpd.read_file(path, columns=[])
    except (OSError, ValueError, RuntimeError, shapely.errors.ShapelyError) as error:
        raise GeodiffError(f"coastline {path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(frame, gpd.GeoDataFrame):
        raise GeodiffError(f"coastline {path}: a table without shapes")
    if frame.crs is None:
        raise GeodiffError(f"coastline {path}: it has no coordinate reference system, give it one")
    return frame


def coastline_lines(path: Path, extent: Extent, *, points: int = 60_000) -> list[Array]:
    """Lines of a coastline in chart coordinates within an extent, moved by whole turns where it lies beyond 180°.

    Args:
        path: a vector file; polygons (land) or lines, any CRS.
        extent: (left, bottom, right, top) on the chart.
        points: vertices at most; the lines are simplified until they fit.

    Raises:
        UsageError, GeodiffError: as ``read_coastline``.
    """
    frame = read_coastline(path)
    limits = shapely.box(-180.0, -MAX_LATITUDE_DEG, 180.0, MAX_LATITUDE_DEG)
    shapes = np.asarray(frame.to_crs("EPSG:4326").geometry.values)
    shapes = shapes[~shapely.is_missing(shapes)]
    area = shapely.get_dimensions(shapes) == 2
    lines = np.concatenate([shapely.boundary(shapes[area]), shapes[~area]])
    lines = shapely.get_parts(shapely.intersection(lines[shapely.get_dimensions(lines) == 1], limits))
    chart = shapely.transform(lines, lambda xy: np.column_stack([xy[:, 0], mercator_y(xy[:, 1])]))
    window = shapely.box(*extent)
    turns = range(int(np.floor((extent[0] + 180.0) / 360.0)), int(np.floor((extent[2] + 180.0) / 360.0)) + 1)
    seen = np.concatenate([moved_east(chart, 360.0 * turn) for turn in turns])
    seen = shapely.get_parts(shapely.intersection(seen[shapely.intersects(seen, window)], window))
    seen = seen[shapely.get_dimensions(seen) == 1]
    tolerance = (extent[2] - extent[0]) / 4000.0
    while shapely.get_num_coordinates(seen).sum() > points and tolerance < 10.0:
        seen = shapely.simplify(seen, tolerance)
        # Islands smaller than what is told apart go.
        seen = seen[shapely.length(seen) > 2 * tolerance]
        tolerance *= 2
    return [shapely.get_coordinates(line) for line in seen]


def moved_east(shapes: npt.NDArray[np.object_], by: float) -> npt.NDArray[np.object_]:
    """Shapes (n,) with all of their first coordinates larger by so much."""
    return np.asarray(shapely.transform(shapes, lambda xy: xy + np.array([by, 0.0])))
