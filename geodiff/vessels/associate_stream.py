"""Association over a stream: blocks of rows, of which the older part is decided and the younger part waits for more.

What is carried from block to block is the tail of every track that may go on, the rows that are not decided, and those
of tracks that may still be confirmed: the memory depends on the traffic, not on the length of the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.tracks import TIME, FloatArray
from geodiff.vessels.associate_berths import join_berths
from geodiff.vessels.associate_confirm import confirm_span, confirmed_tracks
from geodiff.vessels.associate_link import DEPTH, Grid, Level, Odds, link
from geodiff.vessels.associate_motion import MotionPredictor
from geodiff.vessels.associate_noise import predictor_for
from geodiff.vessels.associate_plots import (
    BoolArray,
    IntArray,
    Plots,
    canonical_order,
    empty_plots,
    plots_of,
    targets,
)
from geodiff.vessels.associate_times import join_by_times
from geodiff.vessels.clean_arrays import by_first

LEAST_SPAN_S = 600.0
"""Densities are taken over at least this time, so that a short block does not look busy."""

PATIENCE = 10.0
"""A track that is not confirmed after so many of the longest gaps that are closed is clutter, and may begin anew."""


PACES, SOONER = 3, 0.8
"""Plots are linked at most so often, each time with the interval between reports that was found, while it falls below
this part of the one before: who takes them for seldom finds nothing in passing over every second one. Of an antenna it
is known."""

State = tuple[dict[str, npt.NDArray[Any]], dict[str, pl.DataFrame]]
"""Arrays and tables by name."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of association in the units of the arrays; see ``AssociateSettings``.

    Attributes:
        confirm: hits, and the seconds within which they must fall; of slow antennas, those of as many scans.
        patch_m: side of the cells in which the density of plots is counted.
    """

    levels: tuple[Level, ...]
    report_s: float
    scan_s: float
    cluster_m: float
    new_share: float
    fastest_m_s: float
    confirm: tuple[int, float]
    lag_s: float
    block_rows: int
    patch_m: float
    repeat_s: float
    berth_m: float

    @property
    def longest_s(self) -> float:
        """The longest gap that is closed."""
        return max(level.window_s for level in self.levels)


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """Rows and what they were found to be.

    Attributes:
        rows: n rows of the stream.
        track: (n,) number of the track.
        began_s: (n,) time of its first plot.
        confirmed: (n,) whether the track is one, and not clutter.
    """

    rows: pl.DataFrame
    track: IntArray
    began_s: FloatArray
    confirmed: BoolArray


class Stream:
    """Feed rows in the order of time, read what is decided."""

    def __init__(self, rules: Rules, predictor: MotionPredictor) -> None:
        self.rules, self.predictor = rules, predictor
        self._waiting: pl.DataFrame | None = None
        self._open = 0  # rows at the front of those waiting that a block has looked at before
        self._tail, self._tail_track = empty_plots(), np.empty(0, np.int64)
        self._held: list[Decided] = []
        self._began, self._confirmed = np.empty(0), np.empty(0, bool)
        self._numbers = np.empty(0, np.int64)  # the tracks of the two arrays above, rising
        self._next = 1
        self._decided_s = -np.inf
        self._paced = rules.confirm[0] == 1  # without a confirmation there is nothing to wait for

    def state(self) -> State:
        """All that is carried from block to block; for ``restore``, once what was fed is read to its end."""
        arrays: dict[str, npt.NDArray[Any]] = {f"tail_{n}": each for n, each in enumerate(self._tail.columns)}
        arrays |= {"tail_track": self._tail_track, "numbers": self._numbers, "began": self._began}
        arrays |= {"confirmed": self._confirmed, "decided_s": np.array(self._decided_s)}
        arrays |= {"open": np.array(self._open), "next": np.array(self._next)}
        arrays |= {"confirm_s": np.array(self.rules.confirm[1]), "paced": np.array(self._paced)}
        frames = {} if self._waiting is None else {"waiting": self._waiting}
        if self._held:
            arrays["held"] = np.concatenate([each.track for each in self._held])
            frames["held"] = pl.concat([each.rows for each in self._held])
        return arrays, frames

    def restore(self, state: State) -> None:
        """Go on from where a stream of the same rules was.

        Raises:
            KeyError: no such state.
        """
        arrays, frames = state
        numbers = int(arrays["open"]), int(arrays["next"]), float(arrays["decided_s"])
        confirm, paced = (self.rules.confirm[0], float(arrays["confirm_s"])), bool(arrays["paced"])
        tracks = arrays["tail_track"], arrays["numbers"], arrays["began"], arrays["confirmed"]
        tail = Plots(*(arrays[f"tail_{n}"] for n in range(len(self._tail.columns))))
        held = Decided(frames["held"], arrays["held"], np.empty(0), np.empty(0, bool)) if "held" in frames else None
        # Nothing is taken over before all of it is there.
        self._open, self._next, self._decided_s = numbers
        self.rules, self._paced = replace(self.rules, confirm=confirm), paced
        self._tail_track, self._numbers, self._began, self._confirmed = tracks
        self._tail, self._waiting, self._held = tail, frames.get("waiting"), [held] if held else []

    def feed(self, rows: pl.DataFrame) -> Iterator[Decided]:
        """Take rows in canonical order; yield what is decided by them.

        Raises:
            GeodiffError: the rows reach back to before rows that were fed earlier.
        """
        if self._waiting is not None and len(self._waiting) and len(rows) and rows[TIME][0] < self._waiting[TIME][-1]:
            raise GeodiffError(
                f"a batch starts at {rows[TIME][0]}, before the end of the one before it, {self._waiting[TIME][-1]}: "
                "sort the stream by time"
            )
        self._waiting = rows if self._waiting is None else pl.concat([self._waiting, rows])
        while len(self._waiting) - self._open > self.rules.block_rows:
            ready = self._open + self.rules.block_rows
            # A scan is never cut, and its rows are complete only when a later time was seen.
            end = int(self._waiting[TIME].search_sorted(self._waiting[TIME][ready - 1], side="right"))
            if end == len(self._waiting):
                return
            yield from self._block(end, last=False)

    def finish(self) -> Iterator[Decided]:
        """Decide whatever waits."""
        if self._waiting is not None and len(self._waiting):
            yield from self._block(len(self._waiting), last=True)
        yield from self._release(np.inf)

    def _block(self, end: int, *, last: bool) -> Iterator[Decided]:
        assert self._waiting is not None
        rows = self._waiting[:end]
        rows = rows[canonical_order(rows)]  # rows of one time may have come in two batches
        self._pace(rows[TIME])
        found = plots_of(rows)
        plots, target = targets(found, self.rules.repeat_s, self.rules.cluster_m, self.rules.scan_s)
        piece = self._linked(plots)
        cut = len(plots) if last else self._cut(plots.time_s)
        track = self._numbered(piece, plots, cut)
        taken = target < cut
        self._waiting = pl.concat([rows.filter(~pl.Series(taken)), self._waiting[end:]])
        self._open = int((~taken).sum())
        self._held.append(Decided(rows.filter(pl.Series(taken)), track[target[taken]], np.empty(0), np.empty(0, bool)))
        self._keep_tails(plots, track, cut)
        yield from self._release(self._decided_s)

    def _pace(self, times: pl.Series) -> None:
        """Give slow antennas as many scans to confirm a track as it takes hits.

        The first block tells how far scans are apart: it hangs neither on the batches nor on where a run was killed.
        """
        if not self._paced and times[0] < times[-1]:
            hits, seconds = self.rules.confirm
            span = confirm_span(times.dt.timestamp("us").to_numpy() / 1e6, hits, seconds)
            self.rules, self._paced = replace(self.rules, confirm=(hits, span)), True

    def _linked(self, plots: Plots) -> IntArray:
        """Pieces of the carried tails (in front) and of the plots."""
        rules = self.rules
        carried = len(self._tail)
        together = Plots.join(self._tail, plots)
        found = Grid.density(plots, rules.patch_m, LEAST_SPAN_S, rules.longest_s)
        density = np.concatenate([np.ones(carried), found])
        odds = Odds(rules.new_share * density, rules.report_s, rules.scan_s, rules.fastest_m_s)
        alone = int(self._tail_track.max(initial=-1)) + 1 + np.arange(len(plots))
        unlinked = by_first(np.concatenate([self._tail_track, alone]))
        predictor = self.predictor
        if not rules.scan_s:  # of an antenna both noise and pace are known
            predictor = predictor_for(together, unlinked, odds, predictor, carried)
        for _ in range(1 if rules.scan_s else PACES):
            piece = unlinked
            for level in rules.levels:
                piece = link(together, piece, level, odds, predictor, closed=carried)
            usual_s = _usual_step_s(together.time_s, piece)
            if not usual_s < SOONER * odds.report_s:
                break
            odds = replace(odds, report_s=usual_s)
        piece = join_berths(together, piece, rules.berth_m, carried)
        if rules.berth_m > 0:
            piece = join_by_times(together, piece, carried)
        return by_first(piece)

    def _cut(self, time_s: FloatArray) -> int:
        """How many plots are decided: all but the last ``lag_s``, and at least half, so that dense streams go on."""
        until = max(time_s[-1] - self.rules.lag_s, time_s[len(time_s) // 2])
        return int(np.searchsorted(time_s, until, side="right"))

    def _numbered(self, piece: IntArray, plots: Plots, cut: int) -> IntArray:
        """Numbers of the tracks of the plots before the cut: those of the carried tails, or new ones."""
        carried = len(self._tail)
        number = np.full(int(piece.max(initial=-1)) + 1, -1, np.int64)
        number[piece[:carried]] = self._tail_track
        mine = piece[carried : carried + cut]
        _, first = np.unique(mine, return_index=True)
        fresh = np.sort(first[number[mine[first]] < 0])
        number[mine[fresh]] = self._next + np.arange(len(fresh))
        self._numbers = np.concatenate([self._numbers, number[mine[fresh]]])
        self._began = np.concatenate([self._began, plots.time_s[fresh]])
        self._confirmed = np.concatenate([self._confirmed, np.full(len(fresh), self.rules.confirm[0] == 1)])
        self._next += len(fresh)
        self._decided_s = float(plots.time_s[cut - 1]) if cut else self._decided_s
        return number[mine]

    def _keep_tails(self, plots: Plots, track: IntArray, cut: int) -> None:
        together = Plots.join(self._tail, plots.take(np.arange(cut)))
        track = np.concatenate([self._tail_track, track])
        self._confirm(together.time_s, track)
        order = np.argsort(track, kind="stable")
        end = np.searchsorted(track[order], track[order], side="right")
        rank = end - 1 - np.arange(len(order))  # 0: the last of its track
        longest = max(self.rules.longest_s, self.rules.confirm[1])
        alive = together.time_s[order][end - 1] >= self._decided_s - longest
        # An echo that comes now and then could be held for ever, and all of its rows with it.
        at = np.searchsorted(self._numbers, track[order])
        alive &= self._confirmed[at] | (self._began[at] >= self._decided_s - PATIENCE * longest)
        kept = np.sort(order[(rank < DEPTH) & alive])
        self._tail, self._tail_track = together.take(kept), track[kept]

    def _confirm(self, time_s: FloatArray, track: IntArray) -> None:
        """Confirm the tracks with enough hits in a short time; a tail is long enough to see them across blocks."""
        if self.rules.confirm[0] > 1:
            sure = confirmed_tracks(time_s, track, *self.rules.confirm)
            self._confirmed[np.searchsorted(self._numbers, sure)] = True

    def _release(self, decided_s: float) -> Iterator[Decided]:
        """Give out rows of confirmed tracks and of those that can no longer be; hold the others."""
        if not self._held:
            return
        track = np.concatenate([each.track for each in self._held])
        rows = pl.concat([each.rows for each in self._held])
        alive = np.zeros(len(self._numbers), bool)
        if decided_s < np.inf:
            alive[np.searchsorted(self._numbers, np.unique(self._tail_track))] = True
        at = np.searchsorted(self._numbers, track)
        out = self._confirmed[at] | ~alive[at]
        wait = pl.Series(~out)
        self._held = [Decided(rows.filter(wait), track[~out], np.empty(0), np.empty(0, bool))] if not out.all() else []
        if out.any():
            yield Decided(rows.filter(~wait), track[out], self._began[at[out]], self._confirmed[at[out]])
        needed = alive
        needed[at[~out]] = True
        self._numbers, self._began = self._numbers[needed], self._began[needed]
        self._confirmed = self._confirmed[needed]


def _usual_step_s(time_s: FloatArray, piece: IntArray) -> float:
    """Median time between the plots of a piece, NaN where none has two."""
    order = np.lexsort((np.arange(len(piece)), piece))
    step = np.diff(time_s[order])[np.diff(piece[order]) == 0]
    step = step[step > 0]
    return float(np.median(step)) if len(step) else float("nan")
