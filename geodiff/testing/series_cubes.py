"""Series as cubes, in memory and on disk, and a resolver that knows the answer: for tests of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

from geodiff.grid import Grid
from geodiff.schema import BAND, BANDS_10M, CUBE_DIMS, TIME, VALID, FloatArray, Patch, Restoration, X, Y
from geodiff.testing.series import Effects, SeriesTruth, simulate_series
from geodiff.testing.small_catalog import small_ground
from geodiff.testing.tiny_models import UTM

CUBE_DAYS = (18_801.0, 18_806.0, 18_826.0, 18_871.0)
CLEAR_SKY = Effects(clouds=0, haze=0, mask_errors=0)


def small_series(
    size: int = 64,
    *,
    days: Sequence[float] = CUBE_DAYS,
    seed: int = 0,
    effects: Effects = CLEAR_SKY,
    bands: Sequence[str] = BANDS_10M,
) -> SeriesTruth:
    """A few clear dates over blocks and slopes, ``size`` pixels wide."""
    ground = small_ground((4 * size, 4 * size), seed=seed, bands=bands)
    return simulate_series(ground, days=days, seed=seed, effects=effects, bands=bands)


def series_cube(series: SeriesTruth, *, origin: tuple[float, float] = (501_760.0, 4_602_880.0)) -> xr.DataArray:
    """The delivered series as a cube of 10 m in UTM; ``origin`` is its upper left corner, at multiples of 20 m."""
    grid = Grid(UTM, (10.0, 10.0), origin, (series.valid.shape[1], series.valid.shape[2]))
    seconds = (series.days * 86_400).astype("datetime64[s]").astype("datetime64[ns]")
    cube = xr.DataArray(
        np.where(series.valid[:, None], series.reflectance, np.float32("nan")).astype(np.float32),
        dims=CUBE_DIMS,
        coords={
            TIME: seconds,
            BAND: list(series.bands),
            Y: grid.y,
            X: grid.x,
            VALID: ((TIME, Y, X), series.valid),
        },
        name="reflectance",
    )
    labelled: xr.DataArray = cube.rio.write_crs(UTM)
    return labelled


def write_cube(cube: xr.DataArray, path: Path) -> Path:
    """Write a cube as NetCDF (``.nc``) or Zarr (``.zarr``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cube.to_dataset().reset_coords(VALID)
    if path.suffix == ".zarr":
        data.to_zarr(path, mode="w", zarr_format=2)  # format 3 has no text of fixed length
    else:
        data.to_netcdf(path)
    return path


@dataclass(frozen=True)
class OracleResolver:
    """Returns the truth, whatever it is shown.

    Attributes:
        truths: day (as in ``Patch.target_day``, rounded down) to (band, scale*y, scale*x) of the whole scene.
        corner_px: (row, column) of the scene's first low-resolution pixel on the absolute lattice.
        members: that it returns; each is off the truth by +d or -d in turn.
        deviation: d, in reflectance.
    """

    truths: Mapping[int, FloatArray]
    corner_px: tuple[int, int]
    members: int = 0
    deviation: float = 0.01
    name: str = "oracle"
    scale: int = 4
    bands: tuple[str, ...] = BANDS_10M
    rim_px: int = 16

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``."""
        rim, scale = self.rim_px, self.scale
        pad = ((0, 0), (rim * scale, rim * scale), (rim * scale, rim * scale))
        whole = np.pad(self.truths[int(patch.target_day)], pad, mode="symmetric")
        top, left = (origin - corner + rim for origin, corner in zip(patch.origin_px, self.corner_px, strict=True))
        rows, cols = patch.valid.shape[1:]
        image = whole[:, top * scale : (top + rows) * scale, left * scale : (left + cols) * scale]
        count = min(self.members, members)
        signs = np.array([1 - 2 * (k % 2) for k in range(count)], np.float32).reshape(-1, 1, 1, 1)
        drawn = (image[None] + np.float32(self.deviation) * signs).astype(np.float32)
        return Restoration(mean=image.astype(np.float32), members=drawn[:count])
