"""Longitudes that are counted from 0 to 360 and not from -180 to 180."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from geodiff.schema import BoolArray, GeodiffError
from geodiff.sphere import Array, wrap_longitude
from geodiff.vessels.read_columns import Source, beside, number_columns
from geodiff.vessels.reading import ReadCounts
from geodiff.vessels.tables import RawTable

TURNED = "longitudes beyond 180, counted from 0 to 360, brought home"
"""How rows with such are noted."""

NOT_AVAILABLE_DEG = 181.0

FEW, SHARE = 10, 0.01
"""Positions beyond 180 degrees, and their share of all, below which they are damage, and no way of counting."""

log = logging.getLogger(__name__)


def is_beyond(lon_deg: Array, *, codes: bool = True) -> BoolArray:
    """Which longitudes lie in (180, 360]; with ``codes`` 181 does not, which transponders send for "not available"."""
    none = codes & (np.abs(lon_deg - NOT_AVAILABLE_DEG) < 1e-6)
    return np.asarray((lon_deg > 180.0) & (lon_deg <= 360.0) & ~none)


def brought_home(lon_deg: Array, which: BoolArray) -> Array:
    """Longitudes, those of ``which`` less a whole turn."""
    out = np.array(lon_deg, np.float64)
    out[which] = wrap_longitude(out[which])
    return out


def counts_to_360(parts: Iterable[Array], where: str) -> bool:
    """Whether a file counts so, by all of its longitudes: none lies below 0, and more than damage explains beyond 180.

    Args:
        parts: its longitudes in degrees, NaN for none; read no further than needed.
        where: how a warning names the file.
    """
    known = beyond = 0
    for lon in parts:
        if (lon < 0.0).any():
            return False
        known += int(np.isfinite(lon).sum())
        beyond += int(is_beyond(lon).sum())
    if beyond >= max(FEW, SHARE * known):
        return True
    log.warning(
        "%s: %d of %d longitudes lie beyond 180, too few for a file that counts from 0 to 360: they are refused; if it "
        "does, subtract 360 from them",
        *(where, beyond, known),
    )
    return False


def longitudes_of(table: RawTable, source: Source, rows: int) -> Iterator[Array]:
    """All longitudes of a file in degrees, NaN for none, a frame of ``rows`` at a time; of a damaged one the first."""
    told = source.layout.columns.given()["lon_deg"]
    more = [beside(name) for name in (getattr(told, "plus", None), getattr(told, "hypot", None)) if name]
    names = {key: source.names[key] for key in ("lon_deg", *more)}
    try:
        for raw in table.frames(sorted(set(names.values())), ReadCounts(), rows=rows):
            yield number_columns(raw, replace(source, names=names))[0].to_numpy()
    except GeodiffError:
        return  # who reads the file says so
