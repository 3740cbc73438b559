"""Relief, water and the division of the land: the layers that the synthetic landscape is painted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geodiff.schema import FloatArray
from geodiff.testing.fields import Cells, Coords, Floats, Ints, fractal, hash01, smooth_noise, split_axis, voronoi

FARM_M = 640.0
"""Mean width of a farm: a Voronoi cell whose parcels share one direction; roads run along its border."""

VILLAGE_M = 3_200.0
"""Mean distance between villages."""


@dataclass(frozen=True, eq=False)
class Relief:
    """(rows, columns) float32 each.

    Attributes:
        height_m: above the valley floor.
        hillshade: gain of the illumination, about 1.
        slope: steepness, metres per metre.
        depth_m: of the water; negative above its level.
        river_m: distance to the line that the river follows.
    """

    height_m: FloatArray
    hillshade: FloatArray
    slope: FloatArray
    depth_m: FloatArray
    river_m: FloatArray


def _gradient(values: FloatArray, pixel_m: float) -> tuple[FloatArray, FloatArray]:
    down, right = np.gradient(values, np.float32(pixel_m))
    return np.asarray(down, np.float32), np.asarray(right, np.float32)


def hilliness(seed: int, y_m: Coords, x_m: Coords) -> FloatArray:
    """0 in the plains, 1 in the hills; changes over kilometres."""
    return np.asarray(np.clip(0.5 + 0.55 * fractal(seed, "hilly", y_m, x_m, 2_600, octaves=2), 0, 1), np.float32)


def make_relief(seed: int, y_m: Coords, x_m: Coords, pixel_m: float) -> Relief:
    """Hills with valleys along the zero line of a fractal field, flooded up to a slowly varying level.

    The outermost pixel of the window has one-sided gradients: the caller draws a margin and cuts it off.
    """
    line = fractal(seed, "valley", y_m, x_m, 3_000, octaves=6, roughness=0.45)
    hilly = hilliness(seed, y_m, x_m)
    ridges = fractal(seed, "ridges", y_m, x_m, 850, octaves=7, roughness=0.5)
    side = np.abs(line)
    height = 130 * side + 5 * ridges * np.minimum(side * 3, 1)
    height += (15 + 105 * hilly) * np.minimum(side * 1.3, 1) * np.abs(ridges)
    down, right = _gradient(height, pixel_m)
    # Lambert's law with the morning sun in the south east, damped because level 2A is partly corrected for relief.
    normal = np.sqrt(1 + down**2 + right**2)
    shade = 1 + 0.85 * ((0.77 - 0.45 * down - 0.45 * right) / normal - 0.77)
    level = 13 + 17 * smooth_noise(seed, "level", y_m, x_m, 5_200)
    line_down, line_right = _gradient(line, pixel_m)
    steep = np.sqrt(line_down**2 + line_right**2)
    river = side / np.maximum(steep, 3e-4)
    return Relief(height, shade, np.sqrt(down**2 + right**2), np.asarray(level - height, np.float32), river)


@dataclass(frozen=True, eq=False)
class Land:
    """The division of the land, (rows, columns) each.

    Attributes:
        farm: its cells.
        u_m, v_m: place in the farm's own directions (across and along the rows).
        parcel: number of the parcel, unique for practical purposes, int64.
        border_m: distance to the border of the parcel.
        rough: how hilly the farm is that the parcel belongs to, 0-1, with some chance for each parcel.
        village: 1 in the centre of a village, 0 at its edge, negative outside.
    """

    farm: Cells
    u_m: Floats
    v_m: Floats
    parcel: Ints
    border_m: FloatArray
    rough: FloatArray
    village: FloatArray


def make_land(seed: int, y_m: Coords, x_m: Coords) -> Land:
    """Farms, their parcels, and villages; ``y_m`` (rows,) and ``x_m`` (columns,) are places in metres."""
    bend = [95 * fractal(seed, f"bend/{axis}", y_m, x_m, 900, octaves=3, roughness=0.3) for axis in "yx"]
    y, x = y_m[:, None] + bend[0], x_m[None, :] + bend[1]
    farm = voronoi(seed, "farm", y, x, FARM_M)
    turn = np.pi * hash01(seed, "turn", farm.row, farm.col).astype(np.float64)
    u = farm.dx_m * np.cos(turn) + farm.dy_m * np.sin(turn)
    v = farm.dy_m * np.cos(turn) - farm.dx_m * np.sin(turn)
    width = 55 + 95 * hash01(seed, "width", farm.row, farm.col) ** 1.5
    length = width * (1.3 + 2.2 * hash01(seed, "length", farm.row, farm.col))
    strip, left, right = split_axis(seed, "strip", u / width, farm.row, farm.col)
    piece, top, bottom = split_axis(seed, "piece", v / length, farm.row, farm.col, strip)
    border = np.minimum(np.minimum(left, right) * width, np.minimum(top, bottom) * length)
    number = (hash01(seed, "parcel", farm.row, farm.col, strip, piece) * 2**24).astype(np.int64)
    rough = _per_farm(seed, farm) + 0.45 * (hash01(seed, "rough", number) - 0.5)
    border = np.minimum(border, farm.edge_m).astype(np.float32)
    return Land(farm, u, v, number, border, rough, _villages(seed, y_m, x_m))


def _per_farm(seed: int, farm: Cells) -> FloatArray:
    """How hilly the middle of each pixel's farm is: one value a farm, so that whole parcels are tilled or not."""
    row0, col0 = int(farm.row.min()), int(farm.col.min())
    y, x = (
        (np.arange(first, int(number.max()) + 1, dtype=np.float64) + 0.5) * FARM_M
        for first, number in ((row0, farm.row), (col0, farm.col))
    )
    return hilliness(seed, y, x)[farm.row - row0, farm.col - col0]


def _villages(seed: int, y_m: Coords, x_m: Coords) -> FloatArray:
    """How deep in a village each place lies; the outline is ragged, two sites in three are inhabited."""
    ragged = fractal(seed, "ragged", y_m, x_m, 260, octaves=3)
    y, x = np.broadcast_arrays(y_m[:, None], x_m[None, :])
    site = voronoi(seed, "village", y, x, VILLAGE_M)
    radius = 190 + 230 * hash01(seed, "village size", site.row, site.col)
    inhabited = hash01(seed, "inhabited", site.row, site.col) < 0.7
    depth = 1 - np.sqrt(site.dy_m**2 + site.dx_m**2) / radius + 0.2 * ragged
    return np.where(inhabited, depth, -9.0).astype(np.float32)
