"""Scenes whose pixels say who they are: each value encodes its scene, its band and its place on the lattice.

A test reads a cube made from such scenes and can tell for every pixel which file and which place it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geodiff.grid import Grid
from geodiff.schema import BANDS_10M, FloatArray, UsageError
from geodiff.testing.scenes import OFFSET_DN, SCALE, Offset, SceneData, write_catalog

SCENES, BANDS, PERIOD = 6, 4, 20
"""How many scenes and bands the code tells apart, and after how many pixels places repeat: all values stay below 1."""


@dataclass(frozen=True, eq=False)
class Coded:
    """What a value says, arrays of one shape: scene, band, row and column (the last two modulo ``PERIOD``)."""

    scene: npt.NDArray[np.int64]
    band: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CodedScene:
    """A scene to be written: when, where, what its item says about the offset, and its classification if any."""

    when: datetime
    grid: Grid
    offset: Offset = Offset.NONE
    scl: npt.NDArray[np.uint8] | None = None


def coded_numbers(scene: int, band: int, grid: Grid) -> npt.NDArray[np.uint16]:
    """Digital numbers 1 to 9600 of (rows, columns), without offset.

    Raises:
        UsageError: more scenes or bands than the code can tell apart.
    """
    if not (0 <= scene < SCENES and 0 <= band < BANDS):
        raise UsageError(f"scene {scene}, band {band}: the code tells {SCENES} scenes and {BANDS} bands apart")
    row0, col0 = grid.lattice_origin
    rows, cols = (np.arange(n) + first for n, first in zip(grid.shape, (row0, col0), strict=True))
    place = (rows[:, None] % PERIOD) * PERIOD + cols[None, :] % PERIOD
    return (1 + (scene * BANDS + band) * PERIOD**2 + place).astype(np.uint16)


def decode(reflectance: FloatArray) -> Coded:
    """Read the code back from reflectance of any shape; NaN gives -1 everywhere."""
    known = np.isfinite(reflectance)
    number = np.rint(np.where(known, reflectance, 0) / SCALE).astype(np.int64) - 1
    who, place = np.divmod(number, PERIOD**2)
    parts = (who // BANDS, who % BANDS, place // PERIOD, place % PERIOD)
    return Coded(*(np.where(known, part, -1) for part in parts))


def write_coded_scenes(folder: Path, scenes: Sequence[CodedScene], *, bands: Sequence[str] = BANDS_10M) -> Path:
    """Write coded scenes, numbered in the order given, with their catalogue.

    Args:
        folder: must not hold a catalogue yet.
        scenes: what to write, ``SCENES`` at most; grids may differ.
        bands: names, numbered in this order.

    Returns:
        The path of ``catalog.json``; items are called ``S2A_SYN_<date>_<number>_L2A``.
    """

    def data(index: int, scene: CodedScene) -> SceneData:
        lift = OFFSET_DN if scene.offset is Offset.CARRIED else 0
        numbers = {band: (coded_numbers(index, b, scene.grid) + lift).astype(np.uint16) for b, band in enumerate(bands)}
        name = f"S2A_SYN_{scene.when:%Y%m%d}_{index}_L2A"
        return SceneData(name, scene.when, scene.grid, numbers, scene.scl, scene.offset)

    return write_catalog((data(index, scene) for index, scene in enumerate(scenes)), folder)
