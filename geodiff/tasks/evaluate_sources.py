"""Where scenes come from: WorldStrat, or any series by the Wald protocol (degraded, restored, compared with itself)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pystac
import xarray as xr

from geodiff.imagery.coregister import with_shifts
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.ranking import rank_dates
from geodiff.schema import BAND, BANDS_10M, SHIFT_X_M, TIME, VALID, BoolArray, FloatArray, GeodiffError, UsageError
from geodiff.tasks.evaluate_cases import Scene, Truth
from geodiff.tasks.evaluate_cubes import catalogue_series, check_exists, cube_files, one_a_day, read_cube, read_scenes
from geodiff.tasks.leakage import Evidence, image_digests
from geodiff.tasks.targets import Target, choose_targets, days_of
from geodiff.tasks.wald import CLEAR
from geodiff.tasks.wald_pair import coarsest_step, original, wald_pair

DIGEST_BAND = "B04"
PATH_PARTS = 3
"""Of a path, that may name the place: the file and two folders."""


@dataclass(frozen=True)
class Request:
    """What of a place is wanted.

    Attributes:
        bands: that models need.
        scored: bands that every model restores; those of them are scored that the truth of a place has.
        scale: of the models.
        dates_limit: most dates of a place that are restored, spread over the series; None for all clear ones.
    """

    bands: tuple[str, ...]
    scored: tuple[str, ...]
    scale: int
    dates_limit: int | None


class OpenedSite(Protocol):
    """A place that was read."""

    def evidence(self) -> Evidence: ...

    def scene(self) -> Scene: ...


class Site(Protocol):
    """A place that was found but not read."""

    @property
    def name(self) -> str: ...

    @property
    def evidence(self) -> Evidence: ...

    def open(self, request: Request) -> OpenedSite: ...


@dataclass(frozen=True)
class DataDescription:
    """What the report says of one ``--data``."""

    path: str
    kind: str
    sites: int


def find_sites(paths: Sequence[Path], request: Request) -> tuple[list[Site], list[DataDescription]]:
    """The places of every ``--data``, told apart by their names.

    Raises:
        UsageError: nothing at a path, or nothing in it that can be scored.
    """
    sites: list[Site] = []
    told = []
    for path in paths:
        check_exists(path)
        kind, found = _find(path, request)
        if not found:
            raise UsageError(f"--data {path} holds no series: give a catalog.json, .nc or .zarr cubes, or WorldStrat")
        told.append(DataDescription(str(path), kind, len(found)))
        sites += found
    twice = {site.name for site in sites if sum(other.name == site.name for other in sites) > 1}
    if twice:
        raise UsageError(f"two places are named {min(twice)}: rename a folder, results are kept by the names of places")
    return sites, told


def _find(path: Path, request: Request) -> tuple[str, list[Site]]:
    catalog = path / "catalog.json" if (path / "catalog.json").is_file() else path
    if catalog.suffix == ".json":
        series = catalogue_series(catalog)
        return "catalogue, Wald protocol", [_catalogued(catalog, name, items) for name, items in series.items()]
    if (path / "hr_dataset").is_dir() or (path / "lr_dataset").is_dir():
        return "WorldStrat", _worldstrat(path, request)
    return "cubes, Wald protocol", [_cube(file, path) for file in cube_files(path)]


def _catalogued(catalog: Path, name: str, items: list[pystac.Item]) -> Site:
    west, south, east, north = zip(*(item.bbox or () for item in items), strict=True)
    box = (float(min(west)), float(min(south)), float(max(east)), float(max(north)))
    folders = "/".join(catalog.resolve().parent.parts[-PATH_PARTS:])
    names = (name, folders, *(item.id for item in items), *sorted({str(item.collection_id) for item in items}))
    return WaldSite(name, Evidence(name, names, box), lambda bands: read_scenes(catalog, items, bands))


def _cube(file: Path, root: Path) -> Site:
    inside = file.relative_to(root).with_suffix("").as_posix() if file != root else file.stem
    name = inside if inside != "." else file.stem
    names = (name, "/".join(file.resolve().with_suffix("").parts[-PATH_PARTS:]))
    return WaldSite(name, Evidence(name, names), lambda bands: read_cube(file, bands))


@dataclass(frozen=True, eq=False)
class WaldSite:
    """A series that is its own truth.

    Attributes:
        name: of the place.
        evidence: names and footprint, known before it is read.
        read: the cube of the given bands.
    """

    name: str
    evidence: Evidence
    read: Callable[[Sequence[str]], xr.DataArray]

    def open(self, request: Request) -> OpenedSite:
        return _OpenedSeries(self, one_a_day(self.read(request.bands)), request)


@dataclass(frozen=True, eq=False)
class _OpenedSeries:
    site: WaldSite
    full: xr.DataArray
    request: Request

    def evidence(self) -> Evidence:
        box = self.site.evidence.bbox or grid_of(self.full).bounds_wgs84
        digests = _digests(_digest_band(self.full))
        if coarsest_step(self.full) > 1:
            # Models of the 20 m bands learn from ground on that lattice.
            digests |= _digests(_digest_band(original(self.full)))
        return Evidence(self.site.name, self.site.evidence.names, box, digests)

    def scene(self) -> Scene:
        full, scale, request = self.full, self.request.scale, self.request
        pair = wald_pair(full, scale=scale)
        low = pair.low
        low = with_shifts(low) if low.sizes[TIME] > 1 else low
        ranking = rank_dates(low).sort_values("index")
        clear, score = list(ranking["clear"]), list(ranking["score"])
        dates = _spread([i for i, share in enumerate(clear) if share >= CLEAR], request.dates_limit)
        if not dates:
            raise GeodiffError(f"place {self.site.name} has no date that is {CLEAR:.0%} clear: nothing to compare with")
        scored, truths = pair.truth.sel({BAND: list(request.scored)}), []
        for index in dates:
            day = low[TIME].values[index].astype("datetime64[D]").item()
            target = choose_targets(low[TIME].values, clear, score, target=day)[0]
            truths.append(Truth(target, _wald_truth(scored.isel({TIME: index}))))
        shares = np.asarray(clear, np.float64)
        name = self.site.name
        return Scene(name, name, request.scored, scale, low, shares, tuple(truths), _digest_of(full.values))


def _wald_truth(original: xr.DataArray) -> Callable[[], tuple[FloatArray, BoolArray]]:
    """Image and clear pixels of one date, (band, y, x)."""
    return lambda: (np.asarray(original.values, np.float32), np.asarray(original[VALID].values, np.bool_))


def _spread(dates: list[int], limit: int | None) -> list[int]:
    """At most ``limit`` of the dates, evenly spread, the first and the last among them."""
    if limit is None or len(dates) <= limit:
        return dates
    return [dates[i] for i in sorted(set(np.linspace(0, len(dates) - 1, limit).round().astype(int).tolist()))]


def _digest_band(cube: xr.DataArray) -> FloatArray:
    band = DIGEST_BAND if DIGEST_BAND in cube[BAND].values else str(cube[BAND].values[0])
    images: FloatArray = cube.sel({BAND: band}).values
    return images


def _digests(images: FloatArray) -> frozenset[str]:
    return frozenset().union(*(image_digests(image) for image in images))


def _digest_of(*arrays: Any) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(str(array.shape).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


def _worldstrat(root: Path, request: Request) -> list[Site]:
    from geodiff.tasks.worldstrat import worldstrat_sites

    found = worldstrat_sites(root, split="clean", part="test", bands=request.bands, scale=request.scale)
    return [WorldStratSite(site.name, site.group, site.load) for site in found]


Loaded = tuple[xr.DataArray, float, FloatArray, BoolArray]


@dataclass(frozen=True, eq=False)
class WorldStratSite:
    """A place of WorldStrat: a real low-resolution series, and the truth of another satellite.

    Attributes:
        name: of the area of interest.
        group: its parent, whose children the bootstrap draws together.
        load: low-resolution cube, target day, truth (band, scale*y, scale*x), and where it may be trusted (y, x).
    """

    name: str
    group: str
    load: Callable[[], Loaded]

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.name, (self.name, self.group))

    def open(self, request: Request) -> OpenedSite:
        low, day, truth, clear = self.load()
        return _OpenedPair(self, (one_a_day(low), day, truth, clear), request)


@dataclass(frozen=True, eq=False)
class _OpenedPair:
    site: WorldStratSite
    loaded: Loaded
    request: Request

    def evidence(self) -> Evidence:
        low, _, truth, _ = self.loaded
        held = self._held()
        red = truth[held.index(DIGEST_BAND) if DIGEST_BAND in held else 0]
        images = [*_digest_band(low), red]
        names = (self.site.name, self.site.group)
        digests = frozenset().union(*(image_digests(image) for image in images))
        return Evidence(self.site.name, names, grid_of(low).bounds_wgs84, digests)

    def _held(self) -> list[str]:
        """Bands of the truth: another satellite knows those of 10 m alone."""
        return [band for band in self.request.bands if band in BANDS_10M]

    def scene(self) -> Scene:
        low, day, truth, clear = self.loaded
        held = self._held()
        scored = tuple(band for band in self.request.scored if band in held)
        if not scored:
            raise GeodiffError(f"place {self.site.name} has no truth of {', '.join(self.request.scored)}")
        low = low if SHIFT_X_M in low.coords or low.sizes[TIME] == 1 else with_shifts(low)
        ranking = rank_dates(low).sort_values("index")
        shares, score = list(ranking["clear"]), list(ranking["score"])
        target = _target_near(low, day, shares, score)
        order = [held.index(band) for band in scored]
        digest = _digest_of(low.values, truth)
        scale = self.request.scale
        trusted = np.isfinite(truth).all(0) & clear.repeat(scale, 0).repeat(scale, 1)
        fixed = Truth(target, lambda: (truth[order].astype(np.float32), trusted))
        return Scene(
            self.site.name,
            self.site.group,
            scored,
            self.request.scale,
            low,
            np.asarray(shares, np.float64),
            (fixed,),
            digest,
        )


def _target_near(low: xr.DataArray, day: float, clear: list[float], score: list[float]) -> Target:
    """The day of the truth: the observed date of that day where there is one, else the day itself."""
    wanted = np.datetime64(int(np.floor(day)), "D").item()
    try:
        return choose_targets(low[TIME].values, clear, score, target=wanted)[0]
    except UsageError:
        # A truth that lies far from the series is still compared with what the series gives.
        days = days_of(low[TIME].values)
        nearest = sorted(range(len(days)), key=lambda i: abs(days[i] - day))[:6]
        return Target(day, None, tuple(sorted(nearest)))
