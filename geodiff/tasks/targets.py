"""Which days are restored, and from which dates of the cube each of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.dates import season_distance
from geodiff.schema import UsageError

MAX_DATES = 6
"""Dates that the denoiser sees for one target; more cost time and change little."""

UNSEEN = 0.05
"""A cell of the region that is less clear than this on every chosen date counts as not seen by them."""

MEMORY_DAYS = 60.0
REACH_DAYS = 60.0


@dataclass(frozen=True)
class Target:
    """A day to restore.

    Attributes:
        day: days since 1970-01-01 UTC, with the time of the acquisition where the day was observed.
        index: the acquisition of that day in the cube, of several the best; None when the day lies between dates.
        dates: indices of the dates to restore from, in order of time, the target's own among them.
        light: of each of the dates, by band, what brings it to the light of the target (``imagery.light``), NaN where
            unknown; None where nobody looked, or the day lies between dates.
    """

    day: float
    index: int | None
    dates: tuple[int, ...]
    light: tuple[tuple[float, ...], ...] | None = None

    @property
    def label(self) -> str:
        """The day as YYYY-MM-DD."""
        return str(np.datetime64(int(np.floor(self.day)), "D"))

    def as_record(self) -> dict[str, Any]:
        """Plain values for the summary; None for light that is not known, since JSON has no NaN."""
        rows = self.light and [[value if math.isfinite(value) else None for value in row] for row in self.light]
        return {**asdict(self), "light": rows, "date": self.label}


def days_of(times: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float64]:
    """Days since 1970-01-01 UTC, (time,) float64."""
    return times.astype("datetime64[s]").astype(np.float64) / 86_400.0


def choose_targets(
    times: npt.NDArray[np.datetime64],
    clear: Sequence[float],
    score: Sequence[float],
    *,
    target: date | None = None,
    every: str | None = None,
    min_clear: float = 0.05,
    max_dates: int = MAX_DATES,
    cells: npt.NDArray[np.float64] | None = None,
) -> tuple[Target, ...]:
    """Choose the days to restore and their dates, for the region as a whole.

    The target's own date always enters. Of the others those come first that show ground which none of the chosen
    shows (a region may lie across two swaths), then the best. A date counts with its score x exp(-d / 60), d its
    season distance in days.

    Args:
        times: of the cube, increasing.
        clear: clear fraction of each date over the region, 0-1.
        score: how good each date is, higher is better (``ranking.rank_dates``).
        target: one day; must lie in the series or within 60 days of it.
        every: "10D": one target every ten days from the first date to the last; without either, the best date.
        min_clear: dates that are less clear are left out (a target's own date is not).
        max_dates: dates per target.
        cells: (time, cell) clear share of each cell of a coarse map (``ranking.judge_dates``); None for no map.

    Raises:
        UsageError: a target too far from the series.
    """
    days = days_of(times)
    fraction, quality = np.asarray(clear, np.float64), np.asarray(score, np.float64)
    if every is not None:
        step = int(every.removesuffix("D"))
        wanted = [float(d) for d in np.arange(np.floor(days[0]), np.floor(days[-1]) + 1, step)]
    elif target is not None:
        wanted = [float(np.datetime64(target, "D").astype(int))]
    else:
        # Ties go to the later date: recent ground is what most users ask for.
        wanted = [float(np.floor(days[len(days) - 1 - int(np.argmax(quality[::-1]))]))]
    usable = np.where(fraction >= min_clear, quality, -1.0)
    shown = np.zeros((len(days), 0)) if cells is None else cells
    return tuple(_target(day, days, usable, shown, max_dates) for day in wanted)


def _target(
    day: float,
    days: npt.NDArray[np.float64],
    quality: npt.NDArray[np.float64],
    cells: npt.NDArray[np.float64],
    max_dates: int,
) -> Target:
    """``quality`` is negative for a date that is not clear enough."""
    if not days[0] - REACH_DAYS <= day <= days[-1] + REACH_DAYS:
        first, last, asked = (np.datetime64(int(np.floor(d)), "D") for d in (days[0], days[-1], day))
        raise UsageError(f"target {asked} lies over 60 days outside the series {first} to {last}: widen --datetime")
    same = np.flatnonzero(np.floor(days) == np.floor(day))
    index = int(same[np.argmax(quality[same])]) if same.size else None
    moment = float(days[index]) if index is not None else day + 0.5
    score = quality * np.exp(-season_distance(days - moment) / MEMORY_DAYS)
    order = sorted(range(len(days)), key=lambda i: (i != index, -score[i], i))
    usable = [i for i in order if i == index or quality[i] >= 0]
    needed = _that_show_all(usable, score, cells, index)
    chosen = [*needed, *(i for i in usable if i not in needed)][:max_dates]
    return Target(moment, index, tuple(sorted(chosen or order[:1])))


def _that_show_all(
    usable: Sequence[int], score: npt.NDArray[np.float64], cells: npt.NDArray[np.float64], index: int | None
) -> list[int]:
    """Dates that together show what any usable date shows, the most useful first; the own date before all."""
    chosen = [index] if index is not None else []
    seen = cells[chosen].max(axis=0, initial=0.0)
    while True:
        new = np.where((seen < UNSEEN) & (cells >= UNSEEN), cells, 0.0).sum(axis=1) * score
        best = max((i for i in usable if i not in chosen), key=lambda i: float(new[i]), default=None)
        if best is None or new[best] <= 0:
            return chosen
        chosen.append(best)
        seen = np.maximum(seen, cells[best])
