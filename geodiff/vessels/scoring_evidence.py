"""What a fix says against itself: reported speed and course against its displacement, silence, a shared identity.

Each kind of evidence is one value for each fix, larger where it is stranger, NaN where it says nothing, with the facts
behind it in units. Values are logarithms, so that their tails fall exponentially.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from geodiff.schema import BoolArray
from geodiff.sphere import KM_PER_NMI, distance_km, move, turn_deg
from geodiff.vessels.scoring_fixes import LETTER, Fixes, Floats, Ints, central_speed_kn, leg_course_deg, steps

POSITION, SPEED, PACE, COURSE, GAP, APPROACH, ROUTE, FLOW, IDENTITY, BEHAVIOUR = KINDS = (
    "position",
    "speed",
    "pace",
    "course",
    "gap",
    "approach",
    "route",
    "flow",
    "identity",
    "behaviour",
)
"""Kinds of evidence. ``speed``: reported against displacement; ``pace``: against the vessel's own speed; ``flow``:
against that of others who passed there."""

COURSE_KN: Final = 2.0
"""Slower vessels yaw and drift: their course over ground need not be that of the next minute."""

COURSE_KM: Final = 0.1
"""Shorter steps have no course above GNSS noise."""

STILL_KM: Final = 0.1
"""A vessel that moves less than this while it is silent has not moved."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One kind of evidence.

    Attributes:
        kind: one of ``KINDS``.
        value: (n,) float64.
        facts: name with unit -> (n,), what a reason tells.
        band: (n,) int64, a class of the situation in which values compare, such as the traffic around.
    """

    kind: str
    value: Floats
    facts: Mapping[str, Floats | Ints] = field(default_factory=dict)
    band: Ints | None = None


def report_evidence(fixes: Fixes) -> list[Evidence]:
    """Speed, pace, course, gap: everything that needs neither a model nor other vessels."""
    return [_speed(fixes), _pace(fixes), _course(fixes), _gap(fixes)]


def _both_sides(fixes: Fixes, legs: Floats) -> Floats:
    """(n,) root mean square over the steps before and after a fix of a residual of steps; NaN steps do not count."""
    legs = np.where(steps(fixes.track), legs, np.nan)
    sides = np.stack([np.append(np.nan, legs), np.append(legs, np.nan)])
    known = np.isfinite(sides)
    count = known.sum(0)
    square = (np.where(known, sides, 0.0) ** 2).sum(0)
    out: Floats = np.sqrt(np.divide(square, count, out=np.full(len(fixes), np.nan), where=count > 0))
    return out


def _of_worse_side(fixes: Fixes, legs: Floats, facts: Mapping[str, Floats]) -> dict[str, Floats]:
    """(n,) facts of steps, each of the step before or after a fix that has the larger residual: what a reason tells."""
    size = np.where(steps(fixes.track), np.nan_to_num(legs, nan=-np.inf), -np.inf)
    before = np.append(-np.inf, size) > np.append(size, -np.inf)
    return {name: np.where(before, np.append(np.nan, x), np.append(x, np.nan)) for name, x in facts.items()}


def _speed(fixes: Fixes) -> Evidence:
    way = distance_km(fixes.lon_deg[:-1], fixes.lat_deg[:-1], fixes.lon_deg[1:], fixes.lat_deg[1:])
    span = np.diff(fixes.time_s)
    moved = np.divide(way * 3600 / KM_PER_NMI, span, out=np.full(len(span), np.nan), where=span > 0)
    reported = (fixes.sog_kn[:-1] + fixes.sog_kn[1:]) / 2
    # A chord is shorter than its arc: over long steps and turns the vessel may have gone further than it moved.
    legs = np.abs(moved - reported) / (1.0 + 0.1 * reported)
    facts = _of_worse_side(fixes, legs, {"sog_kn": reported, "moved_kn": moved})
    return Evidence(SPEED, np.log(_both_sides(fixes, legs) + 0.05), facts)


def _pace(fixes: Fixes) -> Evidence:
    speed = np.where(np.isfinite(fixes.sog_kn), fixes.sog_kn, fixes.speed_kn)
    under_way = np.where(fixes.moored, np.nan, speed)
    frame = pl.DataFrame({"track": fixes.track, "speed": under_way}).with_columns(pl.col("speed").fill_nan(None))
    usual = frame.select(pl.col("speed").median().over("track"))["speed"].fill_null(np.nan).to_numpy()
    ratio = np.abs(np.log((under_way + 1.0) / (usual + 1.0)))
    return Evidence(PACE, np.log(ratio + 0.02), {"sog_kn": speed, "usual_kn": usual})


def _course(fixes: Fixes) -> Evidence:
    way = distance_km(fixes.lon_deg[:-1], fixes.lat_deg[:-1], fixes.lon_deg[1:], fixes.lat_deg[1:])
    swing = turn_deg(fixes.cog_deg[:-1], fixes.cog_deg[1:])
    middle = fixes.cog_deg[:-1] + swing / 2
    moved = leg_course_deg(fixes)
    slow = np.fmin(fixes.sog_kn[:-1], fixes.sog_kn[1:]) < COURSE_KN
    known = (way >= COURSE_KM) & ~slow & (np.abs(swing) < 170)
    legs = np.where(known, np.abs(turn_deg(middle, moved)), np.nan)
    facts = _of_worse_side(fixes, legs, {"cog_deg": np.mod(middle, 360.0), "moved_deg": moved})
    return Evidence(COURSE, np.log(_both_sides(fixes, legs) + 1.0), facts)


def _gap(fixes: Fixes) -> Evidence:
    """Silence before and after a fix, of the vessel as a whole: cleaning splits tracks at long gaps.

    A vessel that was heard elsewhere was not silent.
    """
    order, same = vessel_order(fixes)
    wait = np.where(same & ~fixes.elsewhere[order][1:], np.diff(fixes.time_s[order]), np.nan)
    usual = np.maximum(fixes.interval_s, 1.0)[fixes.track]
    lon, lat = fixes.lon_deg[order], fixes.lat_deg[order]
    way = distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:])
    # Silence counts by its length and by how far the vessel went unseen: reception at a berth fades in and out.
    strange = np.log(np.maximum(wait, 1.0)) + np.log(way + STILL_KM)
    later = np.nan_to_num(np.append(strange, np.nan), nan=-np.inf)
    sooner = np.nan_to_num(np.append(np.nan, strange), nan=-np.inf)
    value, silent, unseen = (np.empty(len(fixes)) for _ in range(3))
    value[order] = np.maximum(sooner, later)
    for told, step in ((silent, wait), (unseen, way)):
        told[order] = np.where(later > sooner, np.append(step, np.nan), np.append(np.nan, step))
    held_against = np.where(np.isfinite(usual), usual, silent)
    value = np.where(np.isfinite(value), value - np.log(held_against), np.nan)
    return Evidence(GAP, value, {"silent_s": silent, "usual_s": usual, "unseen_km": unseen})


def vessel_order(fixes: Fixes) -> tuple[Ints, BoolArray]:
    """Fixes sorted by vessel and time, where tracks of a shared identity with different letters are two vessels.

    Returns:
        (n,) order; and (n - 1,) True where two followers are of one vessel.
    """
    vessel = _true_vessel(fixes)[fixes.track]
    order = np.lexsort((fixes.time_s, vessel))
    return order, np.diff(vessel[order]) == 0


def _true_vessel(fixes: Fixes) -> Ints:
    """(t,) number of the vessel of each track; a track without an identity is a vessel of its own."""
    names = pl.Series(fixes.track_id.tolist(), dtype=pl.String)
    keys = pl.DataFrame({"vessel": fixes.vessel_id, "letter": names.str.extract(LETTER).fill_null("")})
    number = keys.select(pl.struct("vessel", "letter").rank("dense"))["vessel"].cast(pl.Int64).to_numpy()
    return np.where(fixes.vessel_id < 0, len(number) + 1 + np.arange(len(number)), number)


def identity_evidence(fixes: Fixes, mismatch: Floats | None = None) -> Evidence:
    """An identity that two tracks use at once, and a vessel that moves like another type than it states.

    Args:
        fixes: of all tracks of each vessel.
        mismatch: (n,) how much nearer the movement is to another type's than to its own (see ``scoring_embed``).
    """
    apart = shared_km(fixes)
    told = np.full(len(fixes), np.nan) if mismatch is None else mismatch
    # Two transmitters on one identity outweigh any likeness of movements.
    value = np.where(np.isfinite(apart), 10.0 + np.log(apart + 0.1), told)
    return Evidence(IDENTITY, value, {"shared_km": apart, "mismatch": told})


def shared_km(fixes: Fixes) -> Floats:
    """(n,) distance to the nearest-in-time fix of another track of the same identity that covers the time; else NaN."""
    out = np.full(len(fixes), np.nan)
    start, end = fixes.time_s[fixes.first[:-1]], fixes.time_s[fixes.first[1:] - 1]
    for left, right in _overlapping(fixes.vessel_id, start, end):
        for mine, other in ((left, right), (right, left)):
            rows = np.arange(fixes.first[mine], fixes.first[mine + 1])
            rows = rows[(fixes.time_s[rows] >= start[other]) & (fixes.time_s[rows] <= end[other])]
            theirs = slice(fixes.first[other], fixes.first[other + 1])
            near = fixes.first[other] + _nearest(fixes.time_s[theirs], fixes.time_s[rows])
            far = distance_km(fixes.lon_deg[rows], fixes.lat_deg[rows], fixes.lon_deg[near], fixes.lat_deg[near])
            out[rows] = np.fmax(out[rows], far)
    return out


def _overlapping(vessel_id: Ints, start: Floats, end: Floats) -> Sequence[tuple[int, int]]:
    """Pairs of tracks of one identity that overlap in time."""
    frame = pl.DataFrame({"vessel": vessel_id, "start": start, "end": end}).with_row_index("track")
    frame = frame.filter((pl.col("vessel") >= 0) & (pl.len().over("vessel") > 1))
    pairs = frame.join(frame, on="vessel", suffix="_other").filter(
        (pl.col("track") < pl.col("track_other"))
        & (pl.col("start") < pl.col("end_other"))
        & (pl.col("start_other") < pl.col("end"))
    )
    return pairs.select("track", "track_other").rows()


def _nearest(times: Floats, wanted: Floats) -> Ints:
    right = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)


def plain_scores(fixes: Fixes) -> dict[str, Floats]:
    """The scores of simple rules, to stand beside: (n,) each, 0 where a rule says nothing.

    ``speed threshold``: the larger of reported speed and speed of displacement, knots. ``dead reckoning``: distance in
    km from where the fix before pointed.
    """
    track, time = fixes.track, fixes.time_s
    moved = central_speed_kn(track, time, fixes.lon_deg, fixes.lat_deg)
    return {
        "speed threshold": np.nan_to_num(np.fmax(moved, fixes.sog_kn)),
        "dead reckoning": np.nan_to_num(_reckoned(fixes)),
    }


def _reckoned(fixes: Fixes) -> Floats:
    reach = fixes.sog_kn[:-1] * KM_PER_NMI / 3600 * np.diff(fixes.time_s)
    course = np.where(fixes.sog_kn[:-1] < 0.5, 0.0, fixes.cog_deg[:-1])
    lon, lat = move(fixes.lon_deg[:-1], fixes.lat_deg[:-1], course, np.maximum(reach, 0))
    off = distance_km(lon, lat, fixes.lon_deg[1:], fixes.lat_deg[1:])
    return np.append(np.nan, np.where(steps(fixes.track), off, np.nan))
