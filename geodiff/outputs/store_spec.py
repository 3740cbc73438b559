"""What a store is made of: the values that decide its layout, and the regions that are its units of work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from geodiff.grid import Grid, Window
from geodiff.schema import UsageError


@dataclass(frozen=True)
class StoreSpec:
    """All that decides what a store looks like.

    Attributes:
        grid: the high-resolution grid.
        bands: names, in order.
        times: restored dates, UTC, strictly increasing, as datetime64[s].
        members: also keep the first member of the ensemble.
        guessed: also keep the map of what the observations do not decide.
        layer_attrs: attributes of single layers, over those that every store has.
        shard: side of a region in pixels; a multiple of ``chunk``.
        chunk: side of the smallest readable block in pixels.
        attrs: attributes of the root group (provenance); anything that JSON can hold.
        told: names of those attributes that are only told: a run that differs in them alone resumes the store.
    """

    grid: Grid
    bands: tuple[str, ...]
    times: tuple[np.datetime64, ...]
    members: bool = False
    guessed: bool = False
    layer_attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    shard: int = 1024
    chunk: int = 256
    attrs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    told: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seconds = np.array(self.times, dtype="datetime64[s]")
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise UsageError(f"bands {self.bands}: give at least one band, each once")
        if seconds.size == 0 or bool(np.any(seconds[1:] <= seconds[:-1])):
            raise UsageError("the output dates must be given in increasing order, at least one")
        if self.chunk < 1 or self.shard % self.chunk:
            raise UsageError(f"shard of {self.shard} pixels is not a multiple of the chunk of {self.chunk} pixels")

    @cached_property
    def digest(self) -> str:
        """Hash of everything but what is only told, stored in the root group: the same run has the same digest."""
        times = np.array(self.times, dtype="datetime64[s]").astype(str).tolist()
        grid = [self.grid.crs, self.grid.resolution, self.grid.origin, self.grid.shape]
        attrs = {name: value for name, value in self.attrs.items() if name not in self.told}
        value = [grid, self.bands, times, self.members, self.guessed, self.shard, self.chunk, attrs]
        return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Region:
    """One shard of one date: the unit of work.

    Attributes:
        time: index of the date.
        row: of the shard.
        col: of the shard.
        window: its pixels on the grid of the store, cut off at the grid's edge.
        level: 0 for the full resolution, n for the n-th overview.
    """

    time: int
    row: int
    col: int
    window: Window
    level: int = 0

    @property
    def id(self) -> str:
        """Name of the region in the ledger and in scratch folders."""
        level = f"overview{self.level}-" if self.level else ""
        return f"{level}t{self.time:04d}-r{self.row:04d}-c{self.col:04d}"


def regions(spec: StoreSpec) -> list[Region]:
    """All regions of a store: date by date, in raster order."""
    return regions_of(spec, spec.grid, level=0)


def regions_of(spec: StoreSpec, grid: Grid, *, level: int) -> list[Region]:
    """All regions of one level, whose grid is ``grid``."""
    (height, width), side = grid.shape, spec.shard
    return [
        Region(time, top // side, left // side, _cut(top, left, side, grid), level)
        for time in range(len(spec.times))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def _cut(top: int, left: int, side: int, grid: Grid) -> Window:
    return Window(top, left, min(side, grid.shape[0] - top), min(side, grid.shape[1] - left))
