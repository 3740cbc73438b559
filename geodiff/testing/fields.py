"""Random fields and random cells on an absolute lattice: what the synthetic landscape is drawn with.

Everything here is a function of the seed and of absolute places in metres (x east, y down), so that two windows
that overlap see the same world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.rng import generator, noise_window
from geodiff.schema import FloatArray

Coords = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

# Standard deviation of a cubic B-spline surface over white noise: the integral of B3 squared is 151/315 per axis.
_SPLINE_STD = 151 / 315


def _spline_weights(t: Coords) -> npt.NDArray[np.float64]:
    """Cubic B-spline weights of the four nodes around a point at fraction ``t`` of its cell, (points, 4)."""
    s = 1 - t
    return np.stack([s**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * s**2 + 3 * s**3, t**3], axis=-1) / 6


def _spline_matrix(points: Coords, wavelength_m: float) -> tuple[int, npt.NDArray[np.float32]]:
    """First lattice node and the (points, nodes) matrix that interpolates lattice values at ``points``."""
    cell = np.floor(points / wavelength_m)
    first = int(cell[0]) - 1
    column = cell.astype(np.int64) - 1 - first
    matrix = np.zeros((len(points), int(column[-1]) + 4), np.float32)
    weights = _spline_weights(points / wavelength_m - cell)
    for tap in range(4):
        matrix[np.arange(len(points)), column + tap] = weights[:, tap]
    return first, matrix


def smooth_noise(seed: int, what: str, y_m: Coords, x_m: Coords, wavelength_m: float) -> FloatArray:
    """Smooth noise of unit variance with features of about ``wavelength_m``.

    Args:
        seed: of the world.
        what: name of the field.
        y_m: (rows,) ascending absolute places of the pixel centres, metres down.
        x_m: (columns,) the same, metres east.
        wavelength_m: spacing of the random nodes.

    Returns:
        (rows, columns) float32.
    """
    row, down = _spline_matrix(y_m, wavelength_m)
    col, right = _spline_matrix(x_m, wavelength_m)
    shape = (down.shape[1], right.shape[1])
    nodes = noise_window(seed, "field", what, channels=1, origin=(row, col), shape=shape)[0]
    return np.asarray((down @ nodes @ right.T) / _SPLINE_STD, np.float32)


def fractal(
    seed: int, what: str, y_m: Coords, x_m: Coords, wavelength_m: float, *, octaves: int, roughness: float = 0.5
) -> FloatArray:
    """Sum of ``octaves`` of :func:`smooth_noise`, each half as wide and ``roughness`` times as strong; unit variance.

    This is fractional Brownian motion (Mandelbrot and Van Ness, 1968) with Hurst exponent -log2(roughness).
    """
    total = np.zeros((len(y_m), len(x_m)), np.float32)
    for octave in range(octaves):
        part = smooth_noise(seed, f"{what}/{octave}", y_m, x_m, wavelength_m / 2**octave)
        total += np.float32(roughness**octave) * part
    return total / np.float32(np.sqrt(sum(roughness ** (2 * k) for k in range(octaves))))


def hash01(seed: int, what: str, *cells: Ints) -> FloatArray:
    """A uniform number in [0, 1) for each tuple of integers: the properties of numbered things.

    The mixer is that of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    state: npt.NDArray[np.uint64] = np.array(generator(seed, "hash", what).integers(2**63), np.uint64)
    for part in cells:
        state = (np.asarray(part).astype(np.uint64) ^ state) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return np.asarray((state >> np.uint64(40)).astype(np.float32) / np.float32(2**24))


@dataclass(frozen=True, eq=False)
class Cells:
    """The Voronoi cell of each pixel: (rows, columns) arrays.

    Attributes:
        row, col: lattice numbers of the nearest seed point.
        dy_m, dx_m: from that seed point to the pixel.
        edge_m: distance to the border of the cell.
        border: a number that the two cells on either side of the nearest border share, [0, 1).
    """

    row: Ints
    col: Ints
    dy_m: FloatArray
    dx_m: FloatArray
    edge_m: FloatArray
    border: FloatArray


def voronoi(seed: int, what: str, y_m: Coords, x_m: Coords, spacing_m: float, *, jitter: float = 0.6) -> Cells:
    """Voronoi cells of one jittered point per square of ``spacing_m`` (Worley 1996), for (rows, columns) places.

    ``jitter`` is the share of its square in which a point may lie. The search looks at the eight squares around a
    place: at 0.6 and below what lies farther hardly matters, above it borders are a little off, alike in every window.
    """
    row, col = np.floor(y_m / spacing_m).astype(np.int64), np.floor(x_m / spacing_m).astype(np.int64)
    row0, col0, width = int(row.min()) - 1, int(col.min()) - 1, int(col.max() - col.min()) + 3
    rows, cols = np.meshgrid(np.arange(row0, int(row.max()) + 2), np.arange(col0, col0 + width), indexing="ij")
    point_y, point_x, name = (hash01(seed, f"{what}/{part}", rows, cols).ravel() for part in ("y", "x", "name"))
    place = (row - row0) * width + (col - col0)
    fy, fx = (y_m / spacing_m - row).astype(np.float32), (x_m / spacing_m - col).astype(np.float32)
    dy, dx = np.empty((2, 9, *fy.shape), np.float32)
    for step in range(9):
        i, j = step // 3 - 1, step % 3 - 1
        dy[step] = fy - jitter * point_y.take(place + (i * width + j)) - np.float32(i + 0.5 - jitter / 2)
        dx[step] = fx - jitter * point_x.take(place + (i * width + j)) - np.float32(j + 0.5 - jitter / 2)
    best, dy0, dx0, edge, other = _nearest(dy, dx)
    own, beyond = (name.take(place + (step // 3 - 1) * width + step % 3 - 1) for step in (best, other))
    shared = np.asarray((own + beyond) % 1, np.float32)
    size = np.float32(spacing_m)
    return Cells(row + best // 3 - 1, col + best % 3 - 1, dy0 * size, dx0 * size, edge * size, shared)


def _nearest(dy: FloatArray, dx: FloatArray) -> tuple[Ints, FloatArray, FloatArray, FloatArray, Ints]:
    """Of nine points: which is nearest, its (down, right) offset, distance to its nearest bisector, and with which."""
    square = dy * dy + dx * dx
    best = square.argmin(axis=0)
    dy0, dx0, d0 = (np.take_along_axis(a, best[None], 0)[0] for a in (dy, dx, square))
    edge, other = np.full(d0.shape, np.inf, np.float32), np.zeros(d0.shape, np.int64)
    for step in range(len(dy)):
        gap = np.sqrt((dy[step] - dy0) ** 2 + (dx[step] - dx0) ** 2)
        border = np.where(gap > 1e-5, (square[step] - d0) / (2 * np.maximum(gap, np.float32(1e-5))), np.float32(np.inf))
        nearer = border < edge
        edge, other = np.where(nearer, border, edge), np.where(nearer, step, other)
    return best, dy0, dx0, edge, other


def split_axis(seed: int, what: str, u: Coords, *ids: Ints) -> tuple[Ints, FloatArray, FloatArray]:
    """Cut a line into pieces of uneven length about 1: numbers, distance to the start and to the end of the piece.

    Args:
        seed: of the world.
        what: name of the cut.
        u: places on the line, in mean pieces.
        ids: numbers of what is being cut; each gets cuts of its own.
    """
    whole = np.floor(u).astype(np.int64)

    def cut(k: Ints) -> Coords:
        return k + 0.6 * (hash01(seed, what, *ids, k) - 0.5).astype(np.float64)

    piece = whole - (u < cut(whole)) + (u >= cut(whole + 1))
    return piece, (u - cut(piece)).astype(np.float32), (cut(piece + 1) - u).astype(np.float32)
