"""What the jobs ask of a table of clean tracks: who sent each fix, where the gaps are, and questions about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import BoolArray, UsageError
from geodiff.sphere import KM_PER_NMI, KM_S_PER_KN, distance_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, TrackQuery
from geodiff.vessels.clean_rules import DEFAULT_RULES
from geodiff.vessels.identity import fastest_kn
from geodiff.vessels.scoring_fixes import LETTER

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STILL_KN: Final = 1.0
"""A vessel slower than this at both ends of a gap, and on the way, lay still."""

STILL_KM: Final = 0.5
"""Both ends of a gap are one place within this: a berth, or the swing at anchor."""

USUAL_STEPS: Final = 3.0
"""A silence of so many usual intervals is a gap."""

ENOUGH_STEPS: Final = 8
"""Intervals of a vessel from which its own usual one is known; with fewer the fleet's counts where it is shorter."""

REACH: Final = 2.5
"""Durations of the stretch asked for within which fixes are shown to a model."""

SHOWN: Final = 16
"""Fixes shown on each side at least."""

AWAY: Final = (VESSEL_ID, TIME, LON, LAT)
"""Columns of what was heard outside a region."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """Observed fixes, sorted by who sent them, then by time.

    Attributes:
        row: (n,) int64 row of the table.
        sender: (n,) int64 number of the vessel; vessels that share an identity have numbers of their own.
        first: (s + 1,) fixes of sender k are ``first[k]`` to ``first[k + 1]``.
        time_s, lon_deg, lat_deg: (n,) float64.
        sog_kn, cog_deg: (n,) float64, NaN where unknown.
        vessel_id: (s,) int64.
        ship_type: (s,) int64, last known; 0 where unknown.
    """

    row: Ints
    sender: Ints
    first: Ints
    time_s: Floats
    lon_deg: Floats
    lat_deg: Floats
    sog_kn: Floats
    cog_deg: Floats
    vessel_id: Ints
    ship_type: Ints

    @classmethod
    def of(cls, cleaned: pl.DataFrame) -> Self:
        """Take the observed fixes of a cleaned table.

        Raises:
            UsageError: a vessel has two fixes at one time, as where tables that overlap were put together.
        """
        letter = pl.col(TRACK_ID).str.extract(LETTER).fill_null("").alias("_letter")
        kept = pl.col(TRACK_ID).is_not_null() & (pl.col(STATE) == OBSERVED)
        names = [VESSEL_ID, TIME, LON, LAT, SOG, COG, SHIP_TYPE]
        rows = cleaned.select(*names, letter, pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"), kept.alias("_kept"))
        rows = rows.filter("_kept").sort(VESSEL_ID, "_letter", TIME)
        sender = rows.select(pl.struct(VESSEL_ID, "_letter").rle_id()).to_series().cast(pl.Int64).to_numpy()
        first = np.append(np.flatnonzero(np.diff(sender, prepend=-1)), len(sender)).astype(np.int64)
        again = rows.filter(pl.struct(VESSEL_ID, "_letter", TIME).rle_id().diff() == 0)
        if len(again):
            raise UsageError(
                f"vessel {again[VESSEL_ID][0]} has two fixes at {again[TIME][0]}, one of {len(again):,} such pairs: "
                "clean the fixes again, without track_id and state"
            )
        known = rows.select(pl.col(SHIP_TYPE).forward_fill().over(VESSEL_ID, "_letter").fill_null(0)).to_series()
        motion = [rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (SOG, COG)]
        return cls(
            rows["_row"].to_numpy(),
            sender,
            first,
            rows[TIME].dt.epoch("us").to_numpy() / 1e6,
            rows[LON].to_numpy(),
            rows[LAT].to_numpy(),
            motion[0],
            motion[1],
            rows[VESSEL_ID].to_numpy()[first[:-1]],
            known.cast(pl.Int64).to_numpy()[first[1:] - 1],
        )

    def __len__(self) -> int:
        return len(self.row)

    def known(self, rows: slice, ask_s: Floats, sender: int) -> TrackQuery:
        """A question about one vessel, from fixes that follow each other."""
        return TrackQuery(
            self.time_s[rows],
            self.lon_deg[rows],
            self.lat_deg[rows],
            self.sog_kn[rows],
            self.cog_deg[rows],
            ask_s,
            ship_type=int(self.ship_type[sender]),
            vessel_id=int(self.vessel_id[sender]),
        )

    def fastest_kn(self, rows: Ints) -> Floats:
        """(n,) how fast the vessels of some fixes may be thought to go."""
        sender = self.sender[rows]
        return fastest_kn(self.vessel_id[sender], self.ship_type[sender])

    def last_known(self, most: int) -> list[TrackQuery]:
        """The last fixes of each vessel, at most so many, as questions without a time; numbered in their order."""
        begins = np.maximum(self.first[:-1], self.first[1:] - most)
        ends = zip(begins.tolist(), self.first[1:].tolist(), strict=True)
        return [self.known(slice(begin, end), np.empty(0), k) for k, (begin, end) in enumerate(ends)]


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """Silences of vessels that are longer than usual.

    Attributes:
        before: (g,) int64 index of the fix before each; the next one ends it.
        moored, long, fast: (g,) bool: the vessel lay still; longer than what is filled; no vessel is so fast. The rest
            is filled.
        away: (g,) bool: the vessel was heard elsewhere, and the gap is none; None where nobody asked.
    """

    before: Ints
    moored: BoolArray
    long: BoolArray
    fast: BoolArray
    away: BoolArray | None = None

    @property
    def filled(self) -> Ints:
        """Index of the fix before each gap that is filled."""
        kept = ~(self.moored | self.long | self.fast)
        return self.before[kept if self.away is None else kept & ~self.away]

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        kinds = {"moored": self.moored, "too long": self.long, "too fast": self.fast}
        if self.away is not None:
            kinds["outside the region"] = self.away
        told = {f"gaps: {name}": int(rows.sum()) for name, rows in kinds.items()}
        return {"gaps": len(self.before), "gaps: filled": len(self.filled), **told}


def usual_s(sent: Sent, fleet_s: float) -> Floats:
    """(s,) median seconds between fixes of each vessel; of few fixes no more than ``fleet_s``."""
    same = np.diff(sent.sender) == 0
    steps = pl.DataFrame({"sender": sent.sender[1:][same], "step": np.diff(sent.time_s)[same]})
    found = steps.group_by("sender").agg(pl.col("step").median(), pl.len())
    out = np.full(len(sent.first) - 1, fleet_s)
    middle, count = found["step"].to_numpy(), found["len"].to_numpy()
    out[found["sender"].to_numpy()] = np.where(count < ENOUGH_STEPS, np.fmin(middle, fleet_s), middle)
    return out


def find_gaps(sent: Sent, *, step_s: float, longest_s: float, fleet_s: float, away: pl.DataFrame | None = None) -> Gaps:
    """Silences longer than two steps and three usual intervals of the vessel.

    Args:
        sent: fixes.
        step_s: of the grid that is filled.
        longest_s: longer ones are not filled.
        fleet_s: usual interval of the fleet, for vessels of few fixes; NaN where unknown.
        away: fixes elsewhere, columns ``AWAY``: what lies about them is no gap.
    """
    before = np.flatnonzero(np.diff(sent.sender) == 0)
    after = before + 1
    wait = sent.time_s[after] - sent.time_s[before]
    usual = np.nan_to_num(usual_s(sent, fleet_s))[sent.sender[before]]
    silent = wait > np.maximum(2 * step_s, USUAL_STEPS * usual)
    before, after, wait = before[silent], after[silent], wait[silent]
    way = distance_km(sent.lon_deg[before], sent.lat_deg[before], sent.lon_deg[after], sent.lat_deg[after])
    speed = way / KM_PER_NMI * 3600 / wait
    # Where nothing is said of the speed, the place decides.
    slow = [np.nan_to_num(sent.sog_kn[each]) <= STILL_KN for each in (before, after)]
    moored = (way <= STILL_KM) & (speed <= STILL_KN) & slow[0] & slow[1]
    long = ~moored & (wait > longest_s)
    fast = ~moored & ~long & (speed > sent.fastest_kn(before))
    gone = None if away is None else heard_elsewhere(sent, before, sent.time_s[after], away)
    return Gaps(before, moored, long, fast, gone)


def heard_elsewhere(sent: Sent, before: Ints, end_s: Floats, away: pl.DataFrame) -> BoolArray:
    """(n,) whether vessels were heard elsewhere after fixes of theirs, and before a time.

    The first fix elsewhere decides. Where the vessel cannot have come there so soon, the position is wrong, or it is of
    another vessel under the same identity.

    Args:
        sent: fixes.
        before: (n,) index of a fix of each.
        end_s: (n,) seconds since 1970; may be infinite.
        away: fixes elsewhere, columns ``AWAY``; none of them without a position.
    """
    begin_s = sent.time_s[before]
    vessel = sent.vessel_id[sent.sender[before]]
    asked = pl.DataFrame({VESSEL_ID: vessel, "begin": begin_s}).with_row_index("row").sort("begin")
    seconds = (pl.col(TIME).dt.epoch("us") / 1e6).alias("heard")
    heard = away.select(VESSEL_ID, seconds, LON, LAT).sort("heard")
    # Both sides were sorted just now; polars cannot check that within groups, and warns.
    found = asked.join_asof(
        heard,
        left_on="begin",
        right_on="heard",
        by=VESSEL_ID,
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    found = found.sort("row").with_columns(pl.col("heard", LON, LAT).fill_null(np.nan))
    first, lon, lat = (found[name].to_numpy() for name in ("heard", LON, LAT))
    reach_km = sent.fastest_kn(before) * KM_S_PER_KN * (first - begin_s) + DEFAULT_RULES.slack_km
    way_km = distance_km(sent.lon_deg[before], sent.lat_deg[before], lon, lat)
    return np.asarray((first < end_s) & (way_km <= reach_km))


def on_grid(begin_s: float, end_s: float, step_s: float, *, closed: bool = False) -> Floats:
    """Multiples of a step after ``begin_s`` and before (``closed``: up to) ``end_s``."""
    first = np.floor(begin_s / step_s) + 1
    last = np.floor(end_s / step_s) if closed else np.ceil(end_s / step_s) - 1
    out: Floats = np.arange(first, last + 1) * step_s
    return out


def gap_question(sent: Sent, before: int, step_s: float) -> TrackQuery:
    """What a model is asked about one gap: the times of the grid in it, with the fixes on both sides."""
    after, sender = before + 1, int(sent.sender[before])
    begin, end = sent.first[sender], sent.first[sender + 1]
    reach = REACH * (sent.time_s[after] - sent.time_s[before])
    left = int(np.searchsorted(sent.time_s[begin:end], sent.time_s[before] - reach)) + begin
    right = int(np.searchsorted(sent.time_s[begin:end], sent.time_s[after] + reach, side="right")) + begin
    rows = slice(max(min(left, before + 1 - SHOWN), begin), min(max(right, after + SHOWN), end))
    return sent.known(rows, on_grid(sent.time_s[before], sent.time_s[after], step_s), sender)


def end_question(sent: Sent, sender: int, hours: float, step_s: float) -> TrackQuery:
    """What a model is asked beyond the last fix of one vessel."""
    begin, end = int(sent.first[sender]), int(sent.first[sender + 1])
    last = float(sent.time_s[end - 1])
    left = int(np.searchsorted(sent.time_s[begin:end], last - REACH * hours * 3600)) + begin
    ask = on_grid(last, last + hours * 3600, step_s, closed=True)
    return sent.known(slice(max(min(left, end - SHOWN), begin), end), ask, sender)


def lies_still(sent: Sent) -> BoolArray:
    """(s,) whether each vessel lay still when last heard: by its reported speed, else by its last two fixes."""
    last = sent.first[1:] - 1
    before = np.maximum(last - 1, sent.first[:-1])
    way = distance_km(sent.lon_deg[before], sent.lat_deg[before], sent.lon_deg[last], sent.lat_deg[last])
    wait = sent.time_s[last] - sent.time_s[before]
    moved = np.divide(way / KM_PER_NMI * 3600, wait, out=np.full(len(last), np.inf), where=wait > 0)
    told: Any = sent.sog_kn[last]
    out: BoolArray = np.where(np.isfinite(told), told, moved) <= STILL_KN / 2
    return out
