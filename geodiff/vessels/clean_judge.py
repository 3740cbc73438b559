"""Which fixes of suspect vessels are wrong, and which vessels share an identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_S_PER_KN, to_space_km
from geodiff.vessels.clean_arrays import Bools, Fixes, Index, first_of_each, in_context, runs_of, screen
from geodiff.vessels.clean_chains import Chains, chain_starts, chains_of, spikes
from geodiff.vessels.clean_clock import lone_blocks, shifted_blocks
from geodiff.vessels.clean_rules import CLOCK_JUMP, CODES, CONFLICT, JUMP, SAME_INSTANT, CleanRules
from geodiff.vessels.clean_rush import rushes
from geodiff.vessels.clean_tears import drifts

Codes = npt.NDArray[np.uint8]

ROUNDS = 20
"""Rounds of judging at most. Each judges what the one before left; the last rejects nothing: clean fixes stay."""


FEW = 0.05
"""A second vessel has at least this part of the fixes that the best chain has in the same time, unless it reports
steadily."""

STEADY_FIXES, STEADY_S, STEADY = 20, 3600.0, 0.6
"""So many fixes over so long report steadily where this part of their steps is within half of the median; of fixes at
random times a third is."""

BURSTS, APART = 5, (0.6, 2.5)
"""Bursts of errors that fit together are few, and take the place of fixes: steps between them and the best chain last
between these parts of a usual step. A second vessel reports again and again, and whenever it likes."""

COMPANY = 3
"""Where two vessels share an identity, fixes hang together in groups of at least so many."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What was found about the fixes of some vessels.

    Attributes:
        codes: (n,) of ``CODES``; 0: kept.
        track: (n,) number of the vessel that sent a kept fix among those that share its identity, from 0 by their first
            fix.
    """

    codes: Codes
    track: Index


def suspects(fixes: Fixes, slack_km: float) -> Index:
    """All fixes (index) of the vessels that need a close look; those of the others are one vessel's and sound.

    Args:
        fixes: sorted by vessel and time.
        slack_km: error of a position.
    """
    if not len(fixes):
        return np.empty(0, np.intp)
    seen = screen(fixes, slack_km)
    seen[1:] |= (fixes.time_us[1:] == fixes.time_us[:-1]) & (fixes.vessel[1:] == fixes.vessel[:-1])
    seen[lone_blocks(fixes)] = True
    seen |= rushes(fixes, fixes.vessel, slack_km)
    starts, lengths = runs_of(fixes.vessel)
    return np.flatnonzero(np.repeat(np.logical_or.reduceat(seen, starts), lengths))


def judge(fixes: Fixes, rules: CleanRules) -> Verdict:
    """Judge the fixes of vessels, each vessel by itself.

    Args:
        fixes: sorted by vessel and time.
        rules: see there.
    """
    codes = np.zeros(len(fixes), np.uint8)
    track = np.zeros(len(fixes), np.intp)
    left = np.arange(len(fixes))
    for _ in range(ROUNDS):
        track[left] = 0
        left = left[suspects(fixes.take(left), rules.slack_km)]
        if not len(left):
            break
        part = in_context(fixes.take(left))
        codes[left], of_fix = _judge_once(part, rules)
        track[left] = _tracks(part, of_fix)
        # Vessels without a rejection are done; the others are judged again without what was rejected.
        wrong = codes[left] > 0
        left = left[~wrong & np.isin(part.vessel, part.vessel[wrong])]
    return Verdict(codes, track)


def _tracks(fixes: Fixes, of_fix: Index) -> Index:
    """(n,) number of each fix's chain within its vessel; chains are numbered by vessel and first fix."""
    starts, lengths = runs_of(fixes.vessel)
    return of_fix - np.repeat(of_fix[starts], lengths)


def _judge_once(fixes: Fixes, rules: CleanRules) -> tuple[Codes, Index]:
    chains = chains_of(fixes, rules.slack_km)
    codes = np.zeros(len(fixes), np.uint8)
    is_track = _vessels_among(fixes, chains, rules)
    shifted = shifted_blocks(fixes, chains, is_track, rules)
    # Where an identity is shared, a stray fix can be linked to the vessel that was silent then: it knows nobody.
    starts, lengths = runs_of(chains.vessel)
    tracks = np.repeat(np.add.reduceat(is_track.astype(np.intp), starts), lengths)
    known = (tracks == 1)[chains.of_fix] | (chains.company >= COMPANY)
    kept = is_track[chains.of_fix] & known & ~shifted & ~drifts(fixes, chains, is_track, rules.slack_km)
    codes[~kept] = CODES[JUMP]
    codes[~kept & _instant_is_kept(fixes, kept)] = CODES[CONFLICT]
    codes[shifted] = CODES[CLOCK_JUMP]
    order = np.flatnonzero(kept)[chain_starts(chains.of_fix[kept])[0]]
    codes[order] = _within_chains(fixes.take(order), chains.of_fix[order], rules)
    return codes, chains.of_fix


def _within_chains(fixes: Fixes, of_chain: Index, rules: CleanRules) -> Codes:
    """Rejections within chains, of fixes sorted by chain and time: one row for an instant; spikes; rushes."""
    codes = np.zeros(len(fixes), np.uint8)
    codes[_others_of_instants(fixes, of_chain)] = CODES[SAME_INSTANT]
    first = np.flatnonzero(codes == 0)
    taken, of_first = fixes.take(first), of_chain[first]
    wrong = spikes(taken, of_first, rules.slack_km) | rushes(taken, of_first, rules.slack_km)
    codes[first[wrong]] = CODES[JUMP]
    return codes


def _others_of_instants(fixes: Fixes, of_chain: Index) -> Index:
    """Of rows of one instant all but the one nearest to the straight way between the instants before and after.

    Of these the first row counts: where times are whole minutes it is the one to which they are true. Of equally near
    ones, and at the ends of a chain, the first stays.
    """
    fresh = (np.diff(fixes.time_us, prepend=-1) != 0) | (np.diff(of_chain, prepend=-1) != 0)
    starts = np.flatnonzero(fresh)
    number = np.cumsum(fresh) - 1
    ends = np.append(starts[1:], len(fixes))
    several = np.flatnonzero((ends - starts > 1)[number])
    if not len(several):
        return several
    mine = number[several]
    before, after = starts[np.maximum(mine - 1, 0)], np.minimum(ends[mine], len(fixes) - 1)
    inner = (of_chain[before] == of_chain[several]) & (of_chain[after] == of_chain[several])
    inner &= (mine > 0) & (ends[mine] < len(fixes))
    whole = np.maximum(fixes.wait_s(before, after), 1e-6)
    share = (fixes.wait_s(before, several) / whole)[:, None]
    here, begin, end = (to_space_km(fixes.lon_deg[k], fixes.lat_deg[k]) for k in (several, before, after))
    away = np.linalg.norm(here - (1 - share) * begin - share * end, axis=1)
    away = np.where(inner, away, 0.0)
    order = np.lexsort((several, away, mine))
    nearest = order[first_of_each(mine[order])]
    return np.delete(several, nearest)


def _vessels_among(fixes: Fixes, chains: Chains, rules: CleanRules) -> Bools:
    """(chain,) True for the best supported chain of each vessel, and for any other that is a vessel of its own.

    Of equal support the earlier chain wins. An excursion, a chain that lies within one short silence of the best chain,
    is none, nor are several that fit together; nor are errors that happen to, few among the many fixes that the best
    chain has meanwhile, unless they come as steadily as a transmitter sends.
    """
    by_support = np.lexsort((np.arange(len(chains.vessel)), -chains.support, chains.vessel))
    best = by_support[first_of_each(chains.vessel[by_support])]
    main = np.repeat(best, runs_of(chains.vessel)[1])
    order, starts = chain_starts(chains.of_fix)
    first, last = order[starts], order[np.append(starts[1:], len(order)) - 1]
    in_main = np.concatenate([[0], np.cumsum(chains.of_fix == main[chains.of_fix])])
    pause = in_main[last + 1] == in_main[first]
    lasts = fixes.wait_s(first, last)
    between = (first > first[main]) & (last < last[main])
    excursion = pause & between & (lasts <= rules.gap_s / 2)
    meanwhile = in_main[last + 1] - in_main[first]
    found: Bools = (chains.support >= rules.track_fixes) & ~excursion
    found[best] = True
    ends = np.append(starts[1:], len(order))
    for chain in np.flatnonzero(found & (np.arange(len(found)) != main)).tolist():
        rows, best_rows = (order[starts[each] : ends[each]] for each in (chain, main[chain]))
        enough = chains.support[chain] >= FEW * meanwhile[chain] or _is_steady(fixes.take(rows), rules.slack_km)
        found[chain] = enough and not _stands_in(fixes, rows, best_rows, rules.gap_s)
    return found


def _is_steady(fixes: Fixes, slack_km: float) -> bool:
    """Whether the fixes of a chain come as steadily as a transmitter sends, for long, and move as they say."""
    step = np.diff(fixes.time_us) * 1e-6
    if len(fixes) < STEADY_FIXES or step.sum() < STEADY_S:
        return False
    middle = np.median(step)
    # Errors at one place report the speed of the vessel, which is elsewhere.
    moved, here = fixes.distance_km(np.arange(len(step)), np.arange(1, len(fixes))), KM_S_PER_KN * step
    slow, fast = (each(fixes.sog_kn[:-1], fixes.sog_kn[1:]) * here for each in (np.minimum, np.maximum))
    wrong = (moved > slack_km + 1.5 * fast + 10.0 * here) | (moved < slow / 2 - slack_km)
    return bool(wrong.mean() <= FEW and (np.abs(step - middle) <= middle / 2).mean() >= STEADY)


def _stands_in(fixes: Fixes, rows: Index, best: Index, gap_s: float) -> bool:
    """Whether a chain is heard for short whiles only, and in place of the best one: errors that fit together."""
    if rows[0] < best[0] or rows[-1] > best[-1]:
        return False
    both = np.sort(np.concatenate([rows, best]))
    other, time_s = np.isin(both, rows), fixes.time_us[both] * 1e-6
    change, step = other[1:] != other[:-1], np.diff(time_s)
    if np.count_nonzero(change) > 2 * BURSTS:
        return False
    # Both ends of both are the best chain's.
    longest = (time_s[:-1][other[:-1] & change] - time_s[1:][other[1:] & change]).max()
    usual = np.median(step[~other[1:] & ~other[:-1]]) if (~other[1:] & ~other[:-1]).any() else np.inf
    least, most = (part * usual for part in APART)
    return bool(longest <= gap_s / 2 and ((step[change] >= least) & (step[change] <= most)).all())


def _instant_is_kept(fixes: Fixes, kept: Bools) -> Bools:
    """(n,) True where some fix of the same vessel and instant is kept."""
    new = (fixes.time_us[1:] != fixes.time_us[:-1]) | (fixes.vessel[1:] != fixes.vessel[:-1])
    group = np.concatenate([[0], np.cumsum(new)])
    found: Bools = np.bincount(group, weights=kept)[group] > 0
    return found
