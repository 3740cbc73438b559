"""Fixes of one identity sorted into chains: what one vessel can have sent.

Where a step between neighbours is impossible, and near such places where one is not easy, the series is cut into runs.
Runs are linked across the intruders between
them: each end looks ahead for the first run that it can easily have reached, each start looks back, and where both
agree they are linked; what is left over is linked where it is possible at all. An outlier so becomes a chain of its
own, and two vessels under one identity become two long chains, whichever way they interleave. All of it is vectorised
over vessels; the rounds are bounded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from geodiff.sphere import KM_S_PER_KN, distance_km, move
from geodiff.vessels.clean_arrays import Bools, Fixes, Floats, Index, Ints, first_of_each, runs_of, told_kn

WINDOWS = (16, 256)
"""Runs that an end looks ahead, and those of a vessel that has more of them left than the first lets it see."""

MOST_RUNS = 50_000
"""Of a vessel that has more of them left, what is sent is noise, and no end looks further."""

ROUNDS = 12
"""Rounds of easy links, and of others, at most: a run that finds no partner among its neighbours may find one when
those are linked."""

EASY = 0.25
EASY_UNTOLD = 0.5
"""A step is easy where a vessel that stays, or keeps its reported speed and course, errs by at most this part of its
limit (the second: where it reports neither), and by no more than after ``patience_s``."""


NEIGHBOURS = 16
"""So many steps before and after an impossible one are looked at; elsewhere what is possible is taken as it comes."""

SPIKE_S = 300.0
"""After a longer wait the speeds reported at its ends say little about the way between, but what the vessel is ever
said to sail does, up to ``PLAUSIBLE_S``."""

MISTOLD = 0.2
"""Where so many steps of a vessel are longer than its speeds tell, these say nothing of spikes after long waits."""

LONG_RUN = 5
PLAUSIBLE_S = 3600.0
"""Between runs of so many fixes a step within this time is easy too if a reported speed explains it on any course, or
if it is possible and nothing was heard in between."""


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """Which fixes belong together.

    Attributes:
        of_fix: (n,) number of the chain of each fix; chains are numbered by vessel, then by first fix.
        vessel: (chain,) vessel.
        support: (chain,) fixes, less one for each link that was hard.
        company: (n,) how many fixes hang together with each by easy steps alone, itself included.
    """

    of_fix: Index
    vessel: Index
    support: Index
    company: Index


def chains_of(fixes: Fixes, slack_km: float) -> Chains:
    """Sort the fixes of each vessel into chains.

    Args:
        fixes: any number of vessels.
        slack_km: error of a position.
    """
    cut = _impossible(fixes, slack_km) | (fixes.vessel[1:] != fixes.vessel[:-1])
    # The ends of the table are those of a vessel too: what else stands in it must not matter.
    look = np.flatnonzero(_near_any(np.concatenate([[True], cut, [True]]))[1:-1] & ~cut)
    cut[look] = ~easily_reached(fixes, look, look + 1, slack_km)
    first = np.concatenate([[0], np.flatnonzero(cut) + 1])
    last = np.concatenate([first[1:], [len(fixes)]]) - 1
    ahead, hard = _linked(fixes, first, last, slack_km)
    length = last - first + 1
    chain_first, of_run = np.unique(_heads(ahead), return_inverse=True)
    support = np.bincount(of_run, weights=length - hard).astype(np.intp)
    easy = _heads(np.where((ahead >= 0) & ~hard[ahead], ahead, -1))
    company = np.bincount(easy, weights=length, minlength=len(first)).astype(np.intp)[easy]
    return Chains(np.repeat(of_run, length), fixes.vessel[first[chain_first]], support, np.repeat(company, length))


def _impossible(fixes: Fixes, slack_km: float) -> Bools:
    """(n - 1,) steps between neighbours that are out of reach; distances are computed where bounds do not tell."""
    start = np.arange(len(fixes) - 1)
    reach = fixes.reach_km(start, start + 1, slack_km)
    far: Bools = fixes.steps_at_most_km() > reach
    look = np.flatnonzero(far)
    far[look] = fixes.distance_km(look, look + 1) > reach[look]
    return far


def _near_any(marks: Bools) -> Bools:
    """(n,) True within ``NEIGHBOURS`` places of a mark."""
    count = np.concatenate([[0], np.cumsum(marks)])
    place = np.arange(len(marks))
    before, after = np.maximum(place - NEIGHBOURS, 0), np.minimum(place + NEIGHBOURS + 1, len(marks))
    found: Bools = count[after] > count[before]
    return found


def _linked(fixes: Fixes, first: Index, last: Index, slack_km: float) -> tuple[Index, Bools]:
    """(run,) the run that follows each, -1 for none, and whether the link to the run before it was hard."""
    ahead, behind = np.full(len(first), -1, np.intp), np.full(len(first), -1, np.intp)
    hard = np.zeros(len(first), np.bool_)
    # Rounds of their own for both: what other vessels still link easily takes none from those that are done with it.
    for easy, window in itertools.product((True, False), WINDOWS):
        for _ in range(ROUNDS):
            which = np.flatnonzero((ahead < 0) | (behind < 0))
            if window > WINDOWS[0]:
                which = which[_crowded(fixes.vessel[first[which]])]
            free = ahead[which] < 0, behind[which] < 0
            start, end = _agreed(fixes, (first, last), free, which, (easy, window, slack_km))
            ahead[start], behind[end] = end, start
            hard[end] = not easy
            if not len(start):
                break
    return ahead, hard


def _crowded(vessel: Ints) -> Bools:
    """(n,) of sorted vessels, whether one stands there more often than the first of ``WINDOWS`` lets its runs see."""
    count = runs_of(vessel)[1]
    return np.repeat((count > WINDOWS[0] + 1) & (count <= MOST_RUNS), count)


def _agreed(
    fixes: Fixes, runs: tuple[Index, Index], free: tuple[Bools, Bools], which: Index, how: tuple[bool, int, float]
) -> tuple[Index, Index]:
    """Pairs of runs (start, end) of which each is the other's nearest possible partner, among the runs ``which``."""
    (first, last), (free_end, free_start), count = runs, free, len(which)
    easy, window, slack_km = how
    length = last - first + 1
    to_next, to_previous = np.zeros(count, np.intp), np.zeros(count, np.intp)
    for step in range(1, min(window, count - 1) + 1):
        start = np.flatnonzero(free_end[:-step] & free_start[step:])
        start = start[(to_next[start] == 0) | (to_previous[start + step] == 0)]
        i, j = last[which[start]], first[which[start + step]]
        start = start[(fixes.vessel[i] == fixes.vessel[j])]
        steps = _Steps.between(fixes, last[which[start]], first[which[start + step]], slack_km)
        fits = steps.easy() if easy else steps.possible
        if easy:
            both = np.minimum(length[which[start]], length[which[start + step]]) >= LONG_RUN
            meet = steps.possible & (steps.wait_s <= PLAUSIBLE_S)
            fits |= both & (meet if step == 1 else steps.plausible())
        found = start[fits]
        to_next[found] = np.where(to_next[found] == 0, step, to_next[found])
        to_previous[found + step] = np.where(to_previous[found + step] == 0, step, to_previous[found + step])
    start = np.flatnonzero(to_next)
    start = start[to_previous[start + to_next[start]] == to_next[start]]
    return which[start], which[start + to_next[start]]


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Steps from fixes ``i`` to later fixes ``j``, (n,) each.

    Attributes:
        fixes, i, j: whose steps.
        slack_km: error of a position.
        gap_km, wait_s: how far and how long.
        possible: whether they are in reach.
    """

    fixes: Fixes
    i: Index
    j: Index
    slack_km: float
    gap_km: Floats
    wait_s: Floats
    possible: Bools

    @classmethod
    def between(cls, fixes: Fixes, i: Index, j: Index, slack_km: float) -> _Steps:
        gap = fixes.distance_km(i, j)
        return cls(fixes, i, j, slack_km, gap, fixes.wait_s(i, j), gap <= fixes.reach_km(i, j, slack_km))

    def take(self, where: Index) -> _Steps:
        i, j = self.i[where], self.j[where]
        return _Steps(self.fixes, i, j, self.slack_km, self.gap_km[where], self.wait_s[where], self.possible[where])

    def easy(self) -> Bools:
        """Whether a vessel that kept on as it reported can have made them, nearly: see ``EASY``."""
        found = self.possible.copy()
        where = np.flatnonzero(found)
        found[where] = self.take(where)._nearly()
        return found

    def _nearly(self) -> Bools:
        fixes, i = self.fixes, self.i
        missed = missed_km(fixes, i, self.j)
        share = np.where(np.isnan(missed), EASY_UNTOLD, EASY)
        seconds = np.minimum(self.wait_s, fixes.patience_s[i]) + fixes.stamp_s[i]
        allowed = self.slack_km + share * fixes.limit_kn[i] * KM_S_PER_KN * seconds
        told = self.plausible() & (seconds <= fixes.patience_s[i])
        near: Bools = (np.fmin(self.gap_km, missed) <= allowed) | told
        return near

    def plausible(self) -> Bools:
        """Whether the higher of the two reported speeds explains them, within an hour."""
        fixes, i = self.fixes, self.i
        told = 1.2 * np.fmax(fixes.sog_kn[i], fixes.sog_kn[self.j]) * KM_S_PER_KN * (self.wait_s + fixes.stamp_s[i])
        found: Bools = (self.gap_km <= self.slack_km + told) & (self.wait_s <= PLAUSIBLE_S)
        return found


def easily_reached(fixes: Fixes, i: Index, j: Index, slack_km: float) -> Bools:
    """Whether a vessel can easily have come from fix ``i`` to the later fix ``j``: see ``EASY``."""
    return _Steps.between(fixes, i, j, slack_km).easy()


def missed_km(fixes: Fixes, i: Index, j: Index) -> Floats:
    """Distance between fix ``j`` and where fix ``i`` would be by dead reckoning; NaN where it tells no motion."""
    reach = fixes.sog_kn[i] * KM_S_PER_KN * fixes.wait_s(i, j)
    lon, lat = move(fixes.lon_deg[i], fixes.lat_deg[i], np.nan_to_num(fixes.cog_deg[i]), np.nan_to_num(reach))
    missed = distance_km(lon, lat, fixes.lon_deg[j], fixes.lat_deg[j])
    return np.where(np.isnan(reach + fixes.cog_deg[i]), np.nan, missed)


def _heads(ahead: Index) -> Index:
    """(run,) the first run of each run's chain, by doubling."""
    behind = np.arange(len(ahead))
    linked = np.flatnonzero(ahead >= 0)
    behind[ahead[linked]] = linked
    while True:
        further = behind[behind]
        if np.array_equal(further, behind):
            return behind
        behind = further


def spikes(fixes: Fixes, of_chain: Index, slack_km: float) -> Bools:
    """(n,) fixes off their track by less than the limit tells, but not explained by any speed that was reported.

    A spike lies far from the fix before and the fix after for all three reported speeds, while those two agree with
    each other and with their own speeds. Needs all three speeds: where they are not reported nothing is a spike.

    Args:
        fixes: sorted by chain and time.
        of_chain: (n,) chain of each fix.
        slack_km: error of a position.
    """
    found = np.zeros(len(fixes), np.bool_)
    middle = np.arange(1, len(fixes) - 1)
    middle = middle[(of_chain[middle - 1] == of_chain[middle]) & (of_chain[middle + 1] == of_chain[middle])]
    wait = np.maximum(fixes.wait_s(middle - 1, middle), fixes.wait_s(middle, middle + 1))
    middle, late = middle[wait <= PLAUSIBLE_S], wait[wait <= PLAUSIBLE_S] > SPIKE_S
    sog = np.stack([fixes.sog_kn[middle + step] for step in (-1, 0, 1)])
    stamp_km = fixes.stamp_s[middle] * KM_S_PER_KN
    told = told_kn(sog.max(axis=0))
    if late.any():
        told[late] = np.maximum(told[late], _ever_kn(fixes, of_chain, slack_km)[middle[late]])

    def beyond(i: Index, j: Index) -> Bools:
        return np.asarray(fixes.distance_km(i, j) > slack_km + told * (fixes.wait_s(i, j) * KM_S_PER_KN + stamp_km))

    direct = fixes.distance_km(middle - 1, middle + 1)
    mean = (sog[0] + sog[2]) / 2
    run = mean * KM_S_PER_KN * fixes.wait_s(middle - 1, middle + 1)
    agree = np.abs(direct - run) <= slack_km + 0.3 * run + mean * stamp_km
    found[middle] = beyond(middle - 1, middle) & beyond(middle, middle + 1) & agree
    # Of two neighbours that both look wrong neither is known to be.
    both = found[1:] & found[:-1]
    found[1:] &= ~both
    found[:-1] &= ~both
    return found


def _ever_kn(fixes: Fixes, of_chain: Index, slack_km: float) -> Floats:
    """(n,) knots that no fix of the same chain may be said to sail; infinity where what is said explains too little."""
    here = np.arange(len(fixes) - 1)
    same = of_chain[here] == of_chain[here + 1]
    told = told_kn(np.maximum(fixes.sog_kn[:-1], fixes.sog_kn[1:])) * KM_S_PER_KN * fixes.wait_s(here, here + 1)
    beyond = same & ~(fixes.distance_km(here, here + 1) <= slack_km + told)
    starts, length = runs_of(of_chain)
    share = np.add.reduceat(np.append(beyond, False).astype(np.float64), starts) / np.maximum(length - 1, 1)
    ever = 1.2 * np.fmax.reduceat(fixes.sog_kn, starts) + 5.0
    return np.repeat(np.where(share <= MISTOLD, ever, np.inf), length)


def chain_starts(of_fix: Index) -> tuple[Index, Index]:
    """The stable order that puts the fixes of each chain together, and where each chain begins in it."""
    order = np.argsort(of_fix, kind="stable")
    return order, first_of_each(of_fix[order])
