"""Behaviour as a place in a latent space: how far a stretch of a track lies from those of clean tracks.

A stretch is embedded by whatever offers ``Embedder``: a network's inner tokens, or the plain statistics of
``KinematicEmbedder``, which is the baseline. Its score is the distance to the nearest embedded clean stretches of its
own type, in coordinates in which these are spread alike in all directions (Mahalanobis 1936; nearest neighbours: Sun
et al. 2022, "Out-of-distribution detection with deep nearest neighbors").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from pydantic import Field, model_validator
from scipy.spatial import cKDTree

from geodiff.rng import generator
from geodiff.schema import BoolArray
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, turn_deg
from geodiff.tracks import SHIP_GROUPS, TrackQuery
from geodiff.vessels.scoring_blocks import passages
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints
from geodiff.vessels.scoring_tails import Stored

STRETCH: Final = 32
"""Fixes of a stretch; stretches overlap by half."""

SHORTEST: Final = 8
NEIGHBOURS: Final = 8
MOST_KEPT: Final = 400
"""Clean stretches kept of a type."""

FEWEST_KEPT: Final = 60
"""Stretches that a type needs for a cloud of its own."""

UNNAMED: Final = tuple(SHIP_GROUPS.index(name) for name in ("unknown", "other"))
"""Types that state nothing that a movement could contradict."""


class Embedder(Protocol):
    """Anything that gives stretches of tracks a place in a latent space."""

    @property
    def name(self) -> str: ...

    def embed(self, queries: Sequence[TrackQuery]) -> Floats:
        """(n, width) float64, finite: one row for each query, from its known fixes; a pure function of each query."""
        ...


class KinematicEmbedder:
    """Plain statistics of a stretch: speeds, turns, how straight it is, how its reports agree with its motion."""

    name = "kinematic"

    def embed(self, queries: Sequence[TrackQuery]) -> Floats:
        """(n, 10) float64: logarithms of speed, its spread and change, turns, path over net way, disagreement, time."""
        out = np.zeros((len(queries), 10))
        sizes = np.array([len(query.time_s) for query in queries])
        for size in np.unique(sizes).tolist():
            rows = np.flatnonzero(sizes == size)
            chosen = [queries[row] for row in rows.tolist()]
            names = ("time_s", "lon_deg", "lat_deg", "sog_kn", "cog_deg")
            if size > 2:
                out[rows] = _statistics(*(np.stack([getattr(each, name) for each in chosen]) for name in names))
        return out


def _statistics(time_s: Floats, lon: Floats, lat: Floats, sog: Floats, cog: Floats) -> Floats:
    """(n, 10) of (n, m) fixes."""
    step = np.diff(time_s, axis=1)
    way = distance_km(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
    speed = way * 3600 / KM_PER_NMI / step
    course = course_deg(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
    # Steps of a few metres have no course.
    turn = np.where((way[:, 1:] > 0.03) & (way[:, :-1] > 0.03), turn_deg(course[:, :-1], course[:, 1:]), 0.0)
    path, net = way.sum(1), distance_km(lon[:, 0], lat[:, 0], lon[:, -1], lat[:, -1])
    extent = distance_km(lon, lat, lon[:, :1], lat[:, :1]).max(1)
    gain = np.abs(np.diff(speed, axis=1))
    middle = np.median(speed, axis=1)
    off = np.nan_to_num(np.abs((sog[:, 1:] + sog[:, :-1]) / 2 - speed))
    hours = (time_s[:, -1] - time_s[:, 0]) / 3600
    columns = (
        np.log(middle + 0.3),
        np.log(speed.std(1) / (middle + 1.0) + 0.02),
        np.log(np.median(gain, axis=1) / (middle + 1.0) + 0.01),
        np.log(np.median(np.abs(turn), axis=1) + 0.5),
        np.log(np.abs(turn).mean(1) + 0.5),
        np.log(np.abs(turn.sum(1)) + 5.0),
        np.log((path + 0.05) / (net + 0.05)),
        np.log((path + 0.05) / (extent + 0.05)),
        np.log(off.mean(1) + 0.05),
        np.log(hours + 0.01),
    )
    return np.stack(columns, 1)


class Cloud(Stored):
    """Clean stretches in latent space.

    Attributes:
        centre: (width,) mean of all stretches.
        whiten: (width, width) takes (vector - centre) to coordinates of unit spread.
        points: name of a type, or ``all`` -> (k, width) whitened clean stretches.
    """

    centre: tuple[float, ...] = Field(min_length=1, max_length=4096)
    whiten: tuple[tuple[float, ...], ...]
    points: dict[str, tuple[tuple[float, ...], ...]]

    @model_validator(mode="after")
    def _shapes(self) -> Cloud:
        width = len(self.centre)
        if len(self.whiten) != width or any(len(row) != width for row in self.whiten):
            raise ValueError(f"whiten is not {width} x {width}")
        if "all" not in self.points or set(self.points) - {"all", *SHIP_GROUPS}:
            raise ValueError("points are of ship groups and of 'all'")
        if any(len(row) != width for rows in self.points.values() for row in rows):
            raise ValueError(f"points are not {width} wide")
        return self

    def distances(self, vectors: Floats, group: Ints) -> tuple[Floats, Floats]:
        """How far embedded stretches lie from clean ones.

        Args:
            vectors: (n, width).
            group: (n,) index into ``SHIP_GROUPS`` of the stated type.

        Returns:
            (n,) logarithm of the mean distance to the ``NEIGHBOURS`` nearest of the stated type, or of all where that
            has no cloud; and (n,) by how much the logarithm is smaller for another type, NaN for ``UNNAMED`` types.
        """
        white = (vectors - np.array(self.centre)) @ np.array(self.whiten).T
        far = {name: _mean_distance(np.array(points), white) for name, points in self.points.items()}
        own, other = far["all"].copy(), np.full(len(white), np.inf)
        known = np.zeros(len(white), bool)
        for number, name in enumerate(SHIP_GROUPS):
            if name in far:
                mine = group == number
                own[mine], known = far[name][mine], known | mine
                if number not in UNNAMED:
                    other[~mine] = np.fmin(other[~mine], far[name][~mine])
        stated = known & ~np.isin(group, UNNAMED) & np.isfinite(other)
        return own, np.where(stated, own - np.where(stated, other, 0.0), np.nan)


def _mean_distance(points: Floats, asked: Floats) -> Floats:
    count = min(NEIGHBOURS, len(points))
    away = cKDTree(points).query(asked, k=count)[0].reshape(len(asked), count)
    out: Floats = np.log(away.mean(1) + 1e-3)
    return out


def fit_cloud(vectors: Floats, group: Ints, *, seed: int = 0) -> Cloud:
    """Keep clean stretches as points, at most ``MOST_KEPT`` of a type, drawn at random.

    Args:
        vectors: (n, width), n at least 2.
        group: (n,) index into ``SHIP_GROUPS``.
        seed: of the draw.
    """
    centre = vectors.mean(0)
    cover = np.cov(vectors, rowvar=False).reshape(len(centre), len(centre))
    # Shrinkage towards the diagonal: directions that the sample hardly shows must not rule the distance.
    cover = 0.9 * cover + 0.1 * np.diag(np.diag(cover)) + 1e-6 * np.eye(len(centre))
    values, axes = np.linalg.eigh(cover)
    whiten = (axes / np.sqrt(values)) @ axes.T
    white = (vectors - centre) @ whiten.T
    rows = {name: np.flatnonzero(group == number) for number, name in enumerate(SHIP_GROUPS)}
    rows = {name: found for name, found in rows.items() if len(found) >= FEWEST_KEPT}
    rows["all"] = np.arange(len(white))
    points = {name: _listed(white[_drawn(found, name, seed)]) for name, found in rows.items()}
    return Cloud(centre=tuple(centre.tolist()), whiten=_listed(whiten, 9), points=points)


def _drawn(rows: Ints, name: str, seed: int) -> Ints:
    most = MOST_KEPT * (4 if name == "all" else 1)
    return rows if len(rows) <= most else np.sort(generator(seed, "cloud", name).choice(rows, most, replace=False))


def _listed(rows: Floats, digits: int = 4) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in np.round(rows, digits).tolist())


def stretches(fixes: Fixes) -> tuple[Ints, Ints]:
    """Starts and ends (exclusive) of overlapping stretches of the tracks under way."""
    begin: list[int] = []
    end: list[int] = []
    for start, stop in zip(*(each.tolist() for each in passages(fixes)), strict=True):
        if stop - start < SHORTEST:
            continue
        lefts = list(range(start, max(stop - STRETCH, start) + 1, STRETCH // 2))
        if lefts[-1] + STRETCH < stop:
            lefts.append(stop - STRETCH)
        begin.extend(lefts)
        end.extend(min(left + STRETCH, stop) for left in lefts)
    return np.array(begin, np.int64), np.array(end, np.int64)


def embed_stretches(embedder: Embedder, fixes: Fixes, begin: Ints, end: Ints) -> Floats:
    """(k, width) of the stretches."""
    queries = []
    for left, right in zip(begin.tolist(), end.tolist(), strict=True):
        rows, track = slice(left, right), fixes.track[left]
        query = TrackQuery(
            fixes.time_s[rows],
            fixes.lon_deg[rows],
            fixes.lat_deg[rows],
            fixes.sog_kn[rows],
            fixes.cog_deg[rows],
            np.empty(0),
            ship_type=int(fixes.ship_type[track]),
            vessel_id=int(fixes.vessel_id[track]),
        )
        queries.append(query)
    return embedder.embed(queries)


def spread_over_fixes(value: Floats, begin: Ints, end: Ints, count: int) -> Floats:
    """(count,) mean over the stretches that hold a fix; NaN where none does."""
    known = np.isfinite(value)
    sums = []
    for weight in (np.where(known, value, 0.0), known.astype(np.float64)):
        edges = np.bincount(begin, weight, count + 1) - np.bincount(end, weight, count + 1)
        sums.append(np.cumsum(edges)[:count])
    held: BoolArray = sums[1] > 0.5
    out: Floats = np.divide(sums[0], sums[1], out=np.full(count, np.nan), where=held)
    return out
