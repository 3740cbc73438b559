"""Questions about tracks cut into stretches: what a model answers at once, and how it is told at further times."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from geodiff.schema import UsageError
from geodiff.tasks.track_regions import ellipses_between
from geodiff.tracks import TrackQuery
from geodiff.vessels.window_fixes import ASKED

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A run of asked times without a known fix among them.

    Attributes:
        row: index of the query.
        first: index of its first time in ``ask_s``.
        query: the same question with these times, or with ``ASKED`` knots that stand for them.
        ask_s: (m,) the times themselves.
    """

    row: int
    first: int
    query: TrackQuery
    ask_s: Floats

    @property
    def beside_s(self) -> Floats:
        """The known fixes next to the stretch, one or two."""
        time, knots = self.query.time_s, self.query.ask_s
        return np.concatenate([time[time < knots[0]][-1:], time[time > knots[-1]][:1]])

    def between(self, departure_km: Floats) -> Floats:
        """Departures (..., ASKED, 2) at the knots -> (..., m, 2) at the times; at a known fix there is none.

        Monotone cubic interpolation (Fritsch & Carlson 1980), which does not overshoot.
        """
        knots = self.query.ask_s
        if len(knots) == len(self.ask_s):
            return departure_km[..., : len(knots), :]
        at = np.concatenate([knots, self.beside_s])
        nothing = np.zeros((*departure_km.shape[:-2], len(self.beside_s), 2))
        order = np.argsort(at)
        values = np.concatenate([departure_km, nothing], -2)[..., order, :]
        out: Floats = PchipInterpolator(at[order], values, axis=-2)(self.ask_s)
        return out

    def regions(self, ellipse_km: Floats, levels: Floats) -> Floats:
        """Ellipses (level, ASKED, 3) at the knots -> (level, m, 3) at the times."""
        knots = self.query.ask_s
        if len(knots) == len(self.ask_s):
            return ellipse_km[:, : len(knots)]
        return ellipses_between(knots, ellipse_km, self.beside_s, self.ask_s, levels)


def cut(query: TrackQuery, row: int = 0) -> list[Stretch]:
    """The stretches of a query, in order of time.

    Raises:
        UsageError: no known fix, times that do not rise, or a time asked for at which the vessel was seen.
    """
    _check(query)
    side = np.searchsorted(query.time_s, query.ask_s)
    out = []
    for begin in np.flatnonzero(np.diff(side, prepend=-1)):
        end = int(np.searchsorted(side, side[begin], side="right"))
        asked = query.ask_s[begin:end]
        knots = asked if len(asked) <= ASKED else _knots(query, int(side[begin]), asked)
        out.append(Stretch(row, int(begin), dataclasses.replace(query, ask_s=knots), asked))
    return out


def in_batches(stretches: Sequence[Stretch], size: int) -> Iterator[list[Stretch]]:
    """About ``size`` at a time; who shares a scene stays together, whatever else is asked."""
    some: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda each: each.query.scene):
        if len(some) >= size and (stretch.query.scene == 0 or stretch.query.scene != some[-1].query.scene):
            yield some
            some = []
        some.append(stretch)
    if some:
        yield some


def _check(query: TrackQuery) -> None:
    if not len(query.time_s):
        raise UsageError(f"vessel {query.vessel_id}: a question about a track needs one known fix at least")
    if (np.diff(query.time_s) <= 0).any() or (np.diff(query.ask_s) <= 0).any():
        raise UsageError(f"vessel {query.vessel_id}: times of fixes and times asked for must rise strictly")
    if np.isin(query.ask_s, query.time_s).any():
        raise UsageError(f"vessel {query.vessel_id}: a time is asked for at which the vessel was seen")


def _knots(query: TrackQuery, side: int, asked: Floats) -> Floats:
    """``ASKED`` times that span a stretch: inside a gap between its ends, else up to the last (first) time.

    They stand closer where fixes are known: at even ones the first minutes of a forecast of eight hours, which are read
    off between knots, erred half as much again, and those of long gaps likewise.
    """
    knots = np.arange(1, ASKED + 1)
    if 0 < side < len(query.time_s):
        begin, end = query.time_s[side - 1], query.time_s[side]
        share = (1.0 - np.cos(np.pi * knots / (ASKED + 1))) / 2.0
    else:
        begin, end = (query.time_s[-1], asked[-1]) if side else (query.time_s[0], asked[0])
        share = (knots if side else knots[::-1]) ** 2 / ASKED**2
    out: Floats = begin + (end - begin) * share
    return out
