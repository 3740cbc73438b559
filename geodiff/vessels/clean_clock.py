"""Blocks of fixes whose clock was wrong: they fit a silence of the same vessel at another time.

A block that was stamped an hour or a day off is missing where it belongs. So every suspect block is held against the
silences of its vessel that are as long as the block: where its ends meet the fixes before and after the silence,
place and speed agreeing, its times are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from geodiff.sphere import KM_S_PER_KN, distance_km
from geodiff.vessels.clean_arrays import Bools, Fixes, Floats, Index, Ints, ragged, runs_of
from geodiff.vessels.clean_chains import Chains, chain_starts, missed_km
from geodiff.vessels.clean_rules import CleanRules

LEAST_FIXES = 3
LEAST_KM = 1.0
"""A block has at least so many fixes and goes at least so far between first and last: one place fits anywhere."""

LEAST_SHIFT_S = 600.0
LONE_S = 1800.0
"""A block that may follow from the rest of its chain is suspect where it stands alone by this much, the vessel is
silent so long nowhere else but where the block belongs, and the shift is a whole number of hours: a ferry has many
silences."""

ASTRAY = 0.1
MOST_ASTRAY_KM = 4.0
"""A block that follows from the fixes before it, and those after from it, within this part of the way, is where it
says it is: a ferry leaves the berth where it was heard last."""

SHARE = 0.2
"""And where it holds no more than this part of the vessel's fixes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Suspect blocks: number, first and last fix (index), and how long the ends of a silence may wait for it."""

    number: Index
    first: Index
    last: Index
    wait_s: Floats


def shifted_blocks(fixes: Fixes, chains: Chains, is_track: Bools, rules: CleanRules) -> Bools:
    """(n,) True for fixes of blocks whose clock was wrong.

    Args:
        fixes: sorted by vessel and time.
        chains: of the fixes.
        is_track: (chain,) True for chains that count as vessels.
        rules: see there.
    """
    pieces = _pieces(fixes, chains)
    order, starts = chain_starts(pieces)
    first, last = order[starts], order[np.append(starts[1:], len(order)) - 1]
    count = np.diff(np.append(starts, len(order)))
    suspect = _suspect(fixes, chains, (first, last, count))
    found = np.zeros(len(fixes), np.bool_)
    if not suspect.any():
        return found
    number = np.flatnonzero(suspect)
    wait = 3.0 * fixes.wait_s(first[number], last[number]) / (count[number] - 1) + 60.0
    blocks = _Blocks(number, first[number], last[number], wait)
    pairs = _silences_for(fixes, chains, is_track, pieces, blocks)
    if len(pairs):
        found = np.isin(pieces, _fitting(fixes, blocks, pairs, rules))
    return found


def _pieces(fixes: Fixes, chains: Chains) -> Index:
    """(n,) number of the piece of each fix: chains cut where they are silent for ``LONE_S``."""
    order, _ = chain_starts(chains.of_fix)
    here = order[1:]
    new = (chains.of_fix[here] != chains.of_fix[order[:-1]]) | (fixes.wait_s(order[:-1], here) > LONE_S)
    out = np.empty(len(fixes), np.intp)
    out[order] = np.concatenate([[0], np.cumsum(new)])
    return out


def _suspect(fixes: Fixes, chains: Chains, pieces: tuple[Index, Index, Index]) -> Bools:
    """(piece,) True for pieces that move and are few among the fixes of their vessel."""
    first, last, count = pieces
    lengths = runs_of(fixes.vessel)[1]
    total = np.repeat(lengths, lengths)
    moves = fixes.distance_km(first, last) >= LEAST_KM
    found = (count >= LEAST_FIXES) & (count <= SHARE * total[first]) & moves
    # Pieces of a chain stand one after another.
    chain = chains.of_fix[first]
    inner = np.flatnonzero(found[1:-1] & (chain[:-2] == chain[1:-1]) & (chain[2:] == chain[1:-1])) + 1
    found[inner] &= ~(_follows(fixes, last[inner - 1], first[inner]) & _follows(fixes, last[inner], first[inner + 1]))
    return np.asarray(found)


def _follows(fixes: Fixes, i: Index, j: Index) -> Bools:
    """Whether a vessel that stays where fix ``i`` was, or keeps on as it reported, comes to fix ``j``, nearly."""
    missed = np.fmin(fixes.distance_km(i, j), missed_km(fixes, i, j))
    way = np.nan_to_num(fixes.sog_kn[i]) * KM_S_PER_KN * fixes.wait_s(i, j)
    return np.asarray(missed <= LEAST_KM + np.minimum(ASTRAY * way, MOST_ASTRAY_KM))


def _silences_for(fixes: Fixes, chains: Chains, is_track: Bools, pieces: Index, blocks: _Blocks) -> pl.DataFrame:
    """Pairs of a block (index) and a silence (fixes before and after) of the same vessel, of one length."""
    sound = np.flatnonzero(is_track[chains.of_fix])
    order = sound[chain_starts(chains.of_fix[sound])[0]]
    before, after = order[:-1], order[1:]
    same = (chains.of_fix[before] == chains.of_fix[after]) & np.isin(fixes.vessel[before], fixes.vessel[blocks.first])
    before, after = before[same], after[same]
    silence, lasts = fixes.wait_s(before, after), fixes.wait_s(blocks.first, blocks.last)
    block, gap = _within(
        (fixes.vessel[blocks.first], lasts, lasts + 2.0 * blocks.wait_s), (fixes.vessel[before], silence)
    )
    pairs = pl.DataFrame({"block": block, "before": before[gap], "after": after[gap]})
    pairs = pairs.with_columns(pl.Series("silence", silence[gap]), pl.Series("lasts", lasts[block]))
    # A block is not held against its own silences, nor against a chain of fewer fixes than it has.
    size = np.bincount(chains.of_fix)[chains.of_fix[pairs["before"].to_numpy()]]
    number = blocks.number[pairs["block"].to_numpy()]
    own = (pieces[pairs["before"].to_numpy()] == number) | (pieces[pairs["after"].to_numpy()] == number)
    # A block that could be where it says it is needs more to be moved.
    left = chains.of_fix[pairs["before"].to_numpy()] == chains.of_fix[blocks.first[pairs["block"].to_numpy()]]
    steady = _pieces_of_chain(chains, pieces)[chains.of_fix[pairs["before"].to_numpy()]] <= 4
    return pairs.with_columns(pl.Series("hours", left)).filter(
        ~own & (size > np.bincount(pieces)[number]) & (~left | steady)
    )


def _within(ranges: tuple[Ints, Floats, Floats], values: tuple[Ints, Floats]) -> tuple[Index, Index]:
    """Pairs of a range and a value of the same vessel that lies in it; no more than these are ever held.

    Args:
        ranges: (k,) vessel, least and greatest.
        values: (m,) vessel and value.

    Returns:
        Positions in the ranges, and in the values.
    """
    vessel, value = values
    order = np.lexsort((value, vessel))
    rising = np.sort(value)
    # Vessel and rank of the value as one number: integers compare exactly.
    names, code = np.unique(vessel[order], return_inverse=True)
    key = code * np.int64(len(value) + 1) + np.searchsorted(rising, value[order])
    known = np.isin(ranges[0], names)
    mine = np.minimum(np.searchsorted(names, ranges[0]), max(len(names) - 1, 0)) * np.int64(len(value) + 1)
    begin = np.searchsorted(key, mine + np.searchsorted(rising, ranges[1]))
    end = np.searchsorted(key, mine + np.searchsorted(rising, ranges[2], side="right"))
    count = np.where(known, np.maximum(end - begin, 0), 0)
    which, place = ragged(count)
    return which, order[begin[which] + place]


def _pieces_of_chain(chains: Chains, pieces: Index) -> Index:
    """(chain,) number of pieces."""
    first = np.unique(pieces, return_index=True)[1]
    return np.bincount(chains.of_fix[first])


def _fitting(fixes: Fixes, blocks: _Blocks, pairs: pl.DataFrame, rules: CleanRules) -> Index:
    """Numbers of the blocks that fit one of their silences."""
    block, before, after = (pairs[name].to_numpy().astype(np.intp) for name in ("block", "before", "after"))
    first, last = blocks.first[block], blocks.last[block]
    idle = (pairs["silence"] - pairs["lasts"]).to_numpy() / 2
    shift = fixes.wait_s(first, before) + idle
    fits = np.abs(shift) >= LEAST_SHIFT_S
    off_hour = np.abs((shift + 1800.0) % 3600.0 - 1800.0)
    fits &= ~pairs["hours"].to_numpy() | (off_hour <= idle + 2.0)
    for start, end in ((before, first), (last, after)):
        gap = distance_km(fixes.lon_deg[start], fixes.lat_deg[start], fixes.lon_deg[end], fixes.lat_deg[end])
        fits &= gap <= rules.slack_km + 1.5 * _speed_kn(fixes, start, end) * KM_S_PER_KN * (2 * idle + 2.0)
    return np.unique(blocks.number[block[fits]])


def _speed_kn(fixes: Fixes, start: Index, end: Index) -> Floats:
    """The higher of two reported speeds plus 2 kn; a quarter of the limit where none is reported."""
    told = np.fmax(fixes.sog_kn[start], fixes.sog_kn[end]) + 2.0
    return np.where(np.isnan(told), fixes.limit_kn[start] / 4, told)


def lone_blocks(fixes: Fixes) -> Index:
    """One fix of every block that stands alone in time and moves: vessels that need a close look for their clock."""
    cut = np.flatnonzero(
        (fixes.time_us[1:] - fixes.time_us[:-1] > LONE_S * 1e6) & (fixes.vessel[1:] == fixes.vessel[:-1])
    )
    if not len(cut):
        return np.empty(0, np.intp)
    starts, lengths = runs_of(fixes.vessel)
    first = np.union1d(starts, cut + 1)
    last = np.append(first[1:], len(fixes)) - 1
    total = lengths[np.searchsorted(starts, first, side="right") - 1]
    count = last - first + 1
    few = np.flatnonzero((count >= LEAST_FIXES) & (count <= SHARE * total))
    return first[few[fixes.distance_km(first[few], last[few]) >= LEAST_KM]]
