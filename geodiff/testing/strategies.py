"""Hypothesis strategies for the frozen values of the project. Importing this module needs hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from geodiff.grid import Grid, TilePlan, Window
from geodiff.schema import Patch

UTM_ZONES = ("EPSG:32631", "EPSG:32612", "EPSG:32737", "EPSG:32601", "EPSG:32760")


@st.composite
def grids(draw: st.DrawFn, *, max_side: int = 400, on_lattice: bool = True) -> Grid:
    """Grids in UTM; with ``on_lattice`` the pixel edges are whole multiples of the resolution, else anywhere."""
    resolution = draw(st.sampled_from([2.5, 10.0, 20.0, 60.0]))
    west = draw(st.integers(-2_000, int(900_000 / resolution)))
    north = draw(st.integers(-2_000, int(9_000_000 / resolution)))
    slack = (0.0, 0.0) if on_lattice else (draw(st.floats(0, 0.999)), draw(st.floats(0, 0.999)))
    origin = ((west + slack[0]) * resolution, (north + slack[1]) * resolution)
    shape = (draw(st.integers(1, max_side)), draw(st.integers(1, max_side)))
    return Grid(draw(st.sampled_from(UTM_ZONES)), (resolution, resolution), origin, shape)


@st.composite
def windows(draw: st.DrawFn, *, inside: tuple[int, int] | None = None, reach: int = 500) -> Window:
    """Windows within a raster of ``inside`` (rows, columns); anywhere within ``reach`` of the origin when None."""
    if inside is None:
        side = st.integers(1, reach)
        return Window(draw(st.integers(-reach, reach)), draw(st.integers(-reach, reach)), draw(side), draw(side))
    top, left = draw(st.integers(0, inside[0] - 1)), draw(st.integers(0, inside[1] - 1))
    return Window(top, left, draw(st.integers(1, inside[0] - top)), draw(st.integers(1, inside[1] - left)))


@st.composite
def tile_plans(draw: st.DrawFn, *, max_side: int = 400) -> TilePlan:
    """Plans over any grid, with any feather and halo, also wider than the core."""
    return TilePlan(
        draw(grids(max_side=max_side)),
        core=draw(st.sampled_from([8, 32, 64, 128])),
        feather=draw(st.integers(0, 40)),
        halo=draw(st.integers(0, 40)),
    )


def dates(*, min_size: int = 1, max_size: int = 32) -> st.SearchStrategy[list[float]]:
    """Ascending days since 1970-01-01 between 2015 and 2030, irregular, no two within a minute."""
    first, last, minutes = 16_436, 21_915, 1_440
    moments = st.lists(st.integers(first * minutes, last * minutes), min_size=min_size, max_size=max_size, unique=True)
    return moments.map(lambda found: [moment / minutes for moment in sorted(found)])


@st.composite
def patches(draw: st.DrawFn, *, bands: int = 4, max_dates: int = 8, max_side: int = 24, min_side: int = 1) -> Patch:
    """Patches with blobs and whole dates of invalid pixels, NaN under some of them, any target date.

    The pixels come from one drawn seed, so that examples stay small.
    """
    days = np.array(draw(dates(max_size=max_dates)), np.float64)
    rows, cols = draw(st.integers(min_side, max_side)), draw(st.integers(min_side, max_side))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reflectance = random.uniform(0, 0.6, (len(days), bands, rows, cols)).astype(np.float32)
    coarse = random.random((len(days), -(-rows // 4), -(-cols // 4)))
    blobs = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :rows, :cols]
    cloudy = np.array(draw(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=len(days), max_size=len(days))))
    valid = blobs >= cloudy[:, None, None]
    if draw(st.booleans()):
        reflectance = np.where(valid[:, None], reflectance, np.float32(np.nan))
    index = draw(st.none() | st.integers(0, len(days) - 1))
    middle = float(days[0] + draw(st.floats(-0.2, 1.2)) * max(days[-1] - days[0], 10.0))
    return Patch(
        reflectance=reflectance,
        valid=valid,
        days=days,
        target_day=middle if index is None else float(days[index]),
        target_index=index,
        shift_px=random.uniform(-1.5, 1.5, (len(days), 2)).astype(np.float32),
        pixel_m=10.0,
        origin_px=(draw(st.integers(-(10**6), 10**6)), draw(st.integers(-(10**6), 10**6))),
    )
