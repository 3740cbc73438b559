"""From scenes to a cube: stackstac reads each scene on the grid, scenes of one pass are joined, clouds are masked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pystac
import xarray as xr

from geodiff.config import MaskConfig
from geodiff.fields import number
from geodiff.grid import Grid
from geodiff.imagery.lattice import choose_grid, grid_of, reaches
from geodiff.imagery.masking import SCREEN_BANDS, scl_valid, screen_dates
from geodiff.imagery.sources import Source
from geodiff.imagery.stacking import Stacker
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, UsageError, X, Y

__all__ = ["choose_grid", "grid_of", "load_cube", "require_usable"]


def load_cube(
    items: Sequence[pystac.Item],
    *,
    source: Source,
    bands: Sequence[str],
    grid: Grid,
    mask: MaskConfig,
    chunk: int = 512,
) -> xr.DataArray:
    """Open scenes as a lazy cube; nothing is read before it is computed.

    Scenes of one acquisition day (by the sun at their place, so that no pass is split at midnight UTC) become one time
    step: each pixel comes from the first scene that saw it clear, the least cloudy scene first. The order of ``items``,
    repeated items and the chunking do not change a value.

    Args:
        items: scenes with absolute hrefs.
        source: the catalogue they come from: names of bands, scale, offset and nodata.
        bands: band names, such as "B02".
        grid: where to. Bands whose pixel edges are edges of the grid are copied: a band of 20 m lies on a grid of 10 m
            in blocks of two by two equal pixels, native values, at even rows and columns of the absolute lattice
            (``Grid.lattice_origin``) as in the tiles of Sentinel-2. Others are resampled (cubic between pixels of one
            size, bilinear from coarser or finer ones, classes by nearest neighbour).
        mask: what counts as clear.
        chunk: side of a Dask chunk in pixels; a chunk holds all bands of one date.

    Returns:
        (time, band, y, x) float32 reflectance, NaN where not valid. Coordinates: ``time`` (UTC of the day's first
        scene), ``band``, ``y`` and ``x`` pixel centres, ``valid`` (time, y, x) bool, ``scene_id`` (time) and
        ``spatial_ref``. The attribute ``cloud_mask`` says how clouds were found: "scl", "spectral", both or "none".
        Compute cube and ``valid`` together (``cube.compute()`` does) and each pixel is read once. When computed, a file
        that is missing, corrupt or truncated raises GeodiffError.

    Raises:
        UsageError: no or repeated bands, a band that a scene lacks, a grid without EPSG code.
        GeodiffError: no scenes, or none that reaches the grid; a scene without date.
    """
    names = list(bands)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"bands {names}: name each band once, at least one")
    scenes = _unique(items, grid)
    classified = [source.find_scl(item) for item in scenes]
    screen = _screen_bands(scenes, classified, source, mask)
    read = [*names, *(band for band in screen if band not in names)]
    days = _by_day(scenes, grid)
    stacker = Stacker(source, grid, chunk)
    steps = [_day_step(group, stacker, read, len(names), mask) for group in days]
    valid = da.stack([step[1] for step in steps])
    if screen:
        lacking = np.array([any(source.find_scl(item) is None for item in group) for group in days])
        places = [read.index(band) for band in SCREEN_BANDS]
        clear = screen_dates([step[0] for step in steps], places, mask, grid.pixel_m)
        valid &= clear | ~lacking[:, None, None]
    reflectance = da.stack([step[0][: len(names)] for step in steps])
    seen = da.where(valid[:, None], reflectance, np.float32(np.nan))
    used = [word for word, on in (("scl", any(classified)), ("spectral", bool(screen))) if on]
    cube = _label(seen, valid, days, names, grid)
    return cube.assign_attrs(cloud_mask=", ".join(used) or "none")


def require_usable(cube: xr.DataArray, *, min_clear: float = 0.0) -> None:
    """Refuse a cube without a single clear pixel, or whose best date is clear on less than ``min_clear`` of the region.

    Reads the cube's ``valid``.

    Raises:
        GeodiffError: the message names the number of dates and what to change.
    """
    best = float(cube[VALID].mean((Y, X)).max()) if cube.sizes[TIME] else 0.0
    if best <= 0 or best < min_clear:
        first, last = (str(cube[TIME].values[i])[:10] for i in (0, -1)) if cube.sizes[TIME] else ("", "")
        raise GeodiffError(
            f"no usable date: all {cube.sizes[TIME]} from {first} to {last} are cloudy or empty here (clearest "
            f"{best:.1%}); widen the dates or hide fewer classes"
        )


def _unique(items: Sequence[pystac.Item], grid: Grid) -> list[pystac.Item]:
    """The scenes that reach the grid, each once, in an order of their own."""
    if not items:
        raise GeodiffError("no scenes to load: widen the dates, the region or the cloud limit of the search")
    once = {(item.id, item.collection_id or ""): item for item in items}
    here = [once[key] for key in sorted(once) if reaches(once[key], grid.bounds_wgs84)]
    if not here:
        box = ", ".join(f"{v:.4f}" for v in grid.bounds_wgs84)
        raise GeodiffError(f"none of {len(once)} scenes reaches the grid (W S E N {box}): search again for that place")
    return here


def _moment(item: pystac.Item) -> datetime:
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        raise GeodiffError(f"scene {item.id} has no datetime: correct its item")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _by_day(scenes: Sequence[pystac.Item], grid: Grid) -> list[list[pystac.Item]]:
    """Scenes of each solar day of the grid, least cloudy first; days in order of time."""
    groups: dict[date, list[pystac.Item]] = defaultdict(list)
    west, _, east, _ = grid.bounds_wgs84
    # Not the scenes' own: their boxes may go around the world, or lie on both sides of the date line.
    middle = (west + (east if east >= west else east + 360)) / 2
    for item in scenes:
        groups[(_moment(item) + timedelta(hours=middle / 15)).date()].append(item)

    def cloud_then_name(item: pystac.Item) -> tuple[float, str, str]:
        cloud = number(item.properties.get("eo:cloud_cover"))
        return (101.0 if cloud is None else cloud, item.id, item.collection_id or "")

    ordered = (sorted(group, key=cloud_then_name) for group in groups.values())
    return sorted(ordered, key=lambda group: min(_moment(item) for item in group))


def _screen_bands(
    scenes: Sequence[pystac.Item], classified: Sequence[str | None], source: Source, mask: MaskConfig
) -> tuple[str, ...]:
    """Bands that the spectral screen needs; none where it is off, not needed or not possible."""
    if not mask.spectral_screen or all(classified):
        return ()
    possible = all(set(source.asset_names(band)) & set(item.assets) for item in scenes for band in SCREEN_BANDS)
    return SCREEN_BANDS if possible else ()


def _day_step(
    group: Sequence[pystac.Item], stacker: Stacker, read: Sequence[str], needed: int, mask: MaskConfig
) -> tuple[da.Array, da.Array]:
    """Reflectance (band, y, x) of the bands to ``read`` and valid (y, x), where the first ``needed`` bands are seen."""
    layers: list[da.Array] = []
    for item in group:
        reflectance = stacker.reflectance(item, read)
        classes = stacker.classes(item)
        clear = [] if classes is None else [scl_valid(classes, mask, stacker.grid.pixel_m)[None]]
        flat = ((1,), *reflectance.chunks[1:])
        empty = np.empty((0, 0, 0), bool)
        seen = da.map_blocks(_seen, reflectance, *clear, needed=needed, dtype=bool, chunks=flat, meta=empty)
        layers += [reflectance, seen]
    if len(group) == 1:
        return layers[0], layers[1][0]
    joined = da.map_blocks(
        _first_valid,
        *layers,
        dtype=np.float32,
        chunks=((len(read) + 1,), *layers[0].chunks[1:]),
        meta=np.empty((0, 0, 0), np.float32),
    )
    return joined[:-1], joined[-1] > 0


def _seen(reflectance: FloatArray, *clear: BoolArray, needed: int) -> BoolArray:
    """Where each of the first ``needed`` bands has data, and it is ``clear`` where that is known: (1, y, x)."""
    seen: BoolArray = np.asarray(np.isfinite(reflectance[:needed]).all(axis=0, keepdims=True))
    for known in clear:
        seen &= known
    return seen


def _first_valid(*layers: npt.NDArray[Any]) -> FloatArray:
    """Join scenes of one day.

    Args:
        layers: reflectance (band, y, x) and valid (1, y, x) of each scene by turns.

    Returns:
        (band + 1, y, x): each pixel from the first scene where it is valid (of the first with data where in none), and
        in the last layer whether it is valid.
    """
    joined: FloatArray = np.array(layers[0], np.float32)
    valid: BoolArray = np.array(layers[1][0])
    for reflectance, seen in zip(layers[2::2], layers[3::2], strict=True):
        take = (seen[0] & ~valid) | (~valid & np.isnan(joined).any(axis=0))
        joined = np.where(take, reflectance, joined)
        valid |= seen[0]
    return np.concatenate([joined, valid[None].astype(np.float32)])


def _label(
    reflectance: da.Array,
    valid: da.Array,
    days: Sequence[Sequence[pystac.Item]],
    bands: Sequence[str],
    grid: Grid,
) -> xr.DataArray:
    import rioxarray  # noqa: F401 - registers .rio

    moments = [min(_moment(item) for item in group).replace(tzinfo=None) for group in days]
    cube = xr.DataArray(
        reflectance,
        dims=CUBE_DIMS,
        name="reflectance",
        coords={
            TIME: np.array(moments, "datetime64[us]").astype("datetime64[ns]"),
            BAND: list(bands),
            Y: grid.y,
            X: grid.x,
            VALID: ((TIME, Y, X), valid),
            "scene_id": (TIME, [",".join(sorted({item.id for item in group})) for group in days]),
        },
        attrs={"long_name": "surface reflectance", "units": "1"},
    )
    labelled: xr.DataArray = cube.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    return labelled
