"""House lots, streets and roofs of the synthetic villages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geodiff.schema import FloatArray
from geodiff.testing.fields import Ints, hash01
from geodiff.testing.materials import Palette
from geodiff.testing.relief import Land

BLOCK_U_M, BLOCK_V_M = 98, 62
STREET_M = 2.6
LOT_U_M, LOT_V_M = 22, 26


@dataclass(frozen=True, eq=False)
class Lots:
    """What would stand at each pixel if a village were there, (rows, columns) each.

    Attributes:
        street_m: signed distance to the edge of the street, positive on it.
        inside_m: signed distance to the walls of the house, positive inside.
        built: draw of the lot, 0-1: how inhabited a place must be for its house to stand.
        paved: draw of the lot, 0-1: garden or yard.
        roof: (band, rows, columns) reflectance of the roof.
    """

    street_m: FloatArray
    inside_m: FloatArray
    built: FloatArray
    paved: FloatArray
    roof: FloatArray


def block_of(land: Land) -> tuple[Ints, Ints]:
    """Numbers of the block of houses that each pixel lies in, along and across the direction of its farm."""
    return np.floor(land.v_m / BLOCK_V_M).astype(np.int64), np.floor(land.u_m / BLOCK_U_M).astype(np.int64)


def make_lots(seed: int, land: Land, palette: Palette) -> Lots:
    """Blocks of eight lots between streets; one block in twelve carries a single hall."""
    block_v, block_u = block_of(land)
    u, v = (land.u_m - block_u * BLOCK_U_M).astype(np.float32), (land.v_m - block_v * BLOCK_V_M).astype(np.float32)
    street = STREET_M - np.minimum(np.minimum(u, BLOCK_U_M - u), np.minimum(v, BLOCK_V_M - v))
    ids: tuple[Ints, ...] = (land.farm.row, land.farm.col, block_v, block_u)
    hall = hash01(seed, "hall", *ids) < 0.08
    lot_u, lot_v = ((u - 5) // LOT_U_M).astype(np.int64), ((v - 5) // LOT_V_M).astype(np.int64)
    ids = (*ids, np.where(hall, 0, lot_v), np.where(hall, 0, lot_u))
    draw = [hash01(seed, f"house/{k}", *ids) for k in range(6)]
    half_u, half_v = (np.where(hall, b + 14 * draw[i], 3.6 + 4.2 * draw[i]) for i, b in ((0, 24), (1, 11)))
    middle_u = np.where(hall, BLOCK_U_M / 2, 16 + LOT_U_M * lot_u + 2.5 * (draw[2] - 0.5))
    middle_v = np.where(hall, BLOCK_V_M / 2, 18 + LOT_V_M * lot_v + 6 * (draw[3] - 0.5))
    inside = np.minimum(half_u - np.abs(u - middle_u), half_v - np.abs(v - middle_v))
    # A gabled roof: the side that looks at the sun is brighter.
    pitch = np.where(hall, 1.0, np.where(v > middle_v, 1.13, 0.84)) * (0.8 + 0.4 * draw[5])
    kind = np.where(hall, 2, (draw[4] > 0.72).astype(np.int64))
    roof = np.stack([palette.spectra[name] for name in ("tile", "slate", "hall")]).T[:, kind] * pitch
    return Lots(*(np.asarray(a, np.float32) for a in (street, inside, draw[2], draw[3], roof)))
