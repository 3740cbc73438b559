"""Windows of real tracks, at even steps and of one length: what a classifier learns, and what generation is held to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.rng import generator
from geodiff.schema import BoolArray, GeodiffError
from geodiff.tracks import LAT, LON, SHIP_TYPE, STATE, TIME, TRACK_ID, VESSEL_ID, TrackQuery, ship_group
from geodiff.vessels.clean_arrays import ragged
from geodiff.vessels.reading import FIX_SCHEMA
from geodiff.vessels.resample import resample
from geodiff.vessels.windows_draw import behaviour_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SILENCE_STEPS = 3.0
"""A silence of more steps than these ends a window's track: what lies in it would be a curve, not a vessel."""

DENSE_S = 600.0
"""Fixes at most so far apart are dense enough for windows of minutes."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Length of a window and time between its positions."""

    hours: float
    step_s: float

    @property
    def positions(self) -> int:
        """Positions of a window, both ends included."""
        return round(self.hours * 3600 / self.step_s) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """n windows of m positions at even steps, real or made.

    Attributes:
        lon_deg, lat_deg: (n, m) float64.
        start_s: (n,) seconds since 1970 of the first position.
        ship_type: (n,) int64, code of ITU-R M.1371 table 53; 0 where unknown.
        behaviour: (n,) int64, index into ``BEHAVIOURS``: of a real window how it moved, of a made one what was asked.
        vessel_id: (n,) int64.
        step_s: seconds between positions.
    """

    lon_deg: Floats
    lat_deg: Floats
    start_s: Floats
    ship_type: Ints
    behaviour: Ints
    vessel_id: Ints
    step_s: float

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def group(self) -> Ints:
        """(n,) index into ``SHIP_GROUPS``."""
        return ship_group(self.ship_type)

    @property
    def grid(self) -> Grid:
        """Of the positions."""
        return Grid((self.lon_deg.shape[1] - 1) * self.step_s / 3600, self.step_s)

    def take(self, rows: Ints | BoolArray) -> Self:
        """Some of the windows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    def moved(self, lon_deg: Floats, lat_deg: Floats) -> Self:
        """Other positions (n, m) under the same labels."""
        return replace(self, lon_deg=lon_deg, lat_deg=lat_deg)

    def content(self) -> str:
        """A hash of everything, to know results of before by."""
        found = hashlib.blake2b(f"{self.step_s}".encode(), digest_size=16)
        for name in _ARRAYS:
            found.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return found.hexdigest()

    def seeds(self) -> list[TrackQuery]:
        """The first position of each as a lone fix, without speed and course."""
        nothing = np.array([np.nan])
        return [
            TrackQuery(
                self.start_s[row : row + 1],
                self.lon_deg[row, :1],
                self.lat_deg[row, :1],
                nothing,
                nothing,
                np.empty(0),
                int(self.ship_type[row]),
                int(self.vessel_id[row]),
            )
            for row in range(len(self))
        ]


_ARRAYS = tuple(each.name for each in fields(Pieces) if each.name != "step_s")


def usual_grid(table: pl.DataFrame) -> Grid:
    """What suits the data: three hours at five minutes, or twelve hours at one hour.

    Args:
        table: columns of ``geodiff.tracks`` with ``track_id``.
    """
    waits = table.sort(TRACK_ID, TIME).select(pl.col(TIME).diff().over(TRACK_ID).dt.total_seconds(fractional=True))
    usual = waits.to_series().median()
    return Grid(3.0, 300.0) if isinstance(usual, float) and usual <= DENSE_S else Grid(12.0, 3600.0)


def cut_pieces(table: pl.DataFrame, grid: Grid, *, phases: int = 1) -> Pieces:
    """Cut tracks into windows that do not overlap.

    Args:
        table: observed fixes of tracks.
        grid: of the windows.
        phases: times that each track is cut, each begun a part of a window later; windows of two cuts do overlap.

    Returns:
        Every window in which no silence is longer than ``SILENCE_STEPS`` steps.

    Raises:
        GeodiffError: there is none.
    """
    even = resample(_unbroken(table, grid.step_s), grid.step_s).sort(TRACK_ID, TIME)
    count = grid.positions
    track = even[TRACK_ID].rle_id().cast(pl.Int64).to_numpy()
    first = np.flatnonzero(np.diff(track, prepend=-1))
    end = np.append(first[1:], len(track))
    begin = np.concatenate([_beginnings(first + phase * count // phases, end, count) for phase in range(phases)])
    if not len(begin):
        raise GeodiffError(
            f"no track goes on for {grid.hours:g} h without a silence of {SILENCE_STEPS * grid.step_s / 60:g} min: "
            "choose shorter windows (--hours) or longer steps (--step)"
        )
    rows = begin[:, None] + np.arange(count)
    lon, lat = even[LON].to_numpy()[rows], even[LAT].to_numpy()[rows]
    seconds = even[TIME].dt.epoch("us").to_numpy()[rows] / 1e6
    return Pieces(
        lon_deg=lon,
        lat_deg=lat,
        start_s=seconds[:, 0],
        ship_type=even[SHIP_TYPE].fill_null(0).cast(pl.Int64).to_numpy()[begin],
        behaviour=behaviour_of(seconds, lon, lat),
        vessel_id=even[VESSEL_ID].to_numpy()[begin],
        step_s=grid.step_s,
    )


def _beginnings(first: Ints, end: Ints, count: int) -> Ints:
    """Rows at which windows of ``count`` rows begin that follow each other from ``first`` on, before ``end``."""
    whole = np.maximum(end - first, 0) // count
    which, within = ragged(whole)
    begin: Ints = first[which] + count * within
    return begin


def _unbroken(table: pl.DataFrame, step_s: float) -> pl.DataFrame:
    """Tracks cut at silences."""
    ordered = table.select([*FIX_SCHEMA, TRACK_ID, STATE]).sort(VESSEL_ID, TRACK_ID, TIME)
    silent = pl.col(TIME).diff().over(TRACK_ID).dt.total_seconds(fractional=True) > SILENCE_STEPS * step_s
    part = silent.fill_null(False).cum_sum().over(TRACK_ID)
    return ordered.with_columns(pl.format("{}#{}", TRACK_ID, part).alias(TRACK_ID)).sort(VESSEL_ID, TIME)


def choose(pieces: Pieces, most: int, *, seed: int, allowed: Callable[[Ints], BoolArray]) -> Pieces:
    """Windows spread over ship groups and behaviours, and within each over vessels.

    Each pair of group and behaviour gives the same number, or what it has; of its vessels each gives one before any
    gives two.

    Args:
        pieces: to choose from.
        most: windows.
        seed: of the order.
        allowed: which vessels (n,) may be chosen.

    Returns:
        At most ``most``, in the order of the table.
    """
    rows = np.flatnonzero(allowed(pieces.vessel_id))
    rng = generator(seed, "windows")
    rows = rows[rng.permutation(len(rows))]
    cell = pieces.group[rows] * 100 + pieces.behaviour[rows]
    turn = _rank(cell * 2**40 + np.unique(pieces.vessel_id[rows], return_inverse=True)[1])
    order = np.argsort(turn, kind="stable")
    rows, cell = rows[order], cell[order]
    rank = _rank(cell)
    # Cells in turn: the first of each, the second of each, until there are enough.
    kept: Ints = np.sort(rows[np.argsort(rank, kind="stable")[:most]])
    return pieces.take(kept)


def _rank(label: Ints) -> Ints:
    """(n,) how many equal labels come before each."""
    order = np.argsort(label, kind="stable")
    ranked = label[order]
    first = np.flatnonzero(np.diff(ranked, prepend=ranked[:1] - 1)) if len(label) else np.empty(0, np.int64)
    within = np.arange(len(label)) - np.repeat(first, np.diff(np.append(first, len(label))))
    out = np.empty(len(label), np.int64)
    out[order] = within
    return out
