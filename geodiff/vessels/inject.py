"""Anomalies put into clean tracks, with a label for each fix: the benchmark of scoring.

What is altered stays plausible: paths are smooth, accelerations and speeds those of vessels, and reported speed and
course follow the altered path with the errors that the originals had, so that little is found by a contradiction that
only the injection made: by what reports say against the way, false positions are told from the same fixes unaltered
with an AUROC of 0.57 (speed) and 0.55 (course) where fixes are a minute apart. Fixes that the anomaly delays keep their
places and come later.

Kinds: ``activity`` (circling, a figure of eight or drifting inside a transit), ``deviation`` (a smooth detour),
``approach`` (steered to meet another vessel), ``gnss`` (an offset that grows and fades, or a circle
that is not sailed), ``gap`` (the transponder off), ``speed`` (much slower or faster for a while).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from geodiff.rng import generator
from geodiff.schema import UsageError
from geodiff.tracks import ANOMALOUS, COG, LAT, LON, SOG, TIME, TRACK_ID
from geodiff.vessels.inject_meet import approach
from geodiff.vessels.inject_paths import detour, offset, retimed, silence, wander
from geodiff.vessels.inject_piece import MOST_KN, Piece, altered
from geodiff.vessels.scoring_blocks import passages
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints

ACTIVITY, DEVIATION, APPROACH, GNSS, GAP, SPEED = INJECTED = (
    "activity",
    "deviation",
    "approach",
    "gnss",
    "gap",
    "speed",
)

KIND: Final = "anomaly"

FEWEST_FIXES: Final = 24
SHORTEST_S: Final = 1800.0
SLOWEST_KN: Final = 4.0
"""A stretch under way of at least so many fixes, so long and so fast (median) can take an anomaly."""

AROUND_DEG: Final = 0.2
"""Vessels whose tracks stay further away than this are not met."""

Maker = Callable[[Piece, np.random.Generator], Piece | None]


@dataclass(frozen=True, slots=True, eq=False)
class Injected:
    """Tracks with anomalies.

    Attributes:
        fixes: the whole altered tracks: the columns of the source, then ``anomalous`` bool, the label of a fix.
        tracks: ``track_id``, ``anomaly`` (kind), ``detail`` (its size in words), one line for each altered track.
        refused: tracks that could not take the anomaly: no room for it, nobody to meet.
    """

    fixes: pl.DataFrame
    tracks: pl.DataFrame
    refused: int


def can_take(fixes: Fixes) -> Ints:
    """(k, 2) the longest stretch under way, start and end, of every track that can take an anomaly."""
    starts, ends = passages(fixes)
    rows = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        speed = np.nanmedian(fixes.speed_kn[start:end]) if end - start >= FEWEST_FIXES else 0.0
        long = fixes.time_s[end - 1] - fixes.time_s[start] >= SHORTEST_S
        if long and SLOWEST_KN <= speed <= MOST_KN:
            rows.append((fixes.track[start], start, end))
    found = np.array(rows, np.int64).reshape(-1, 3)
    order = np.lexsort((found[:, 1] - found[:, 2], found[:, 0]))
    heads = order[np.diff(found[order, 0], prepend=-1) != 0]
    return found[heads, 1:]


def inject(cleaned: pl.DataFrame, kind: str, *, share: float, seed: int) -> Injected:
    """Put one kind of anomaly into a share of the tracks that can take it.

    Args:
        cleaned: columns of ``geodiff.tracks``; only observed fixes are taken.
        kind: one of ``INJECTED``.
        share: of all tracks, 0-1; fewer are altered where fewer can take the anomaly.
        seed: decides the tracks, places and sizes; a track's anomaly depends on the seed, the kind and its name alone.

    Raises:
        UsageError: an unknown kind, or a share outside (0, 1].
    """
    if kind not in INJECTED:
        raise UsageError(f"no anomaly is called {kind!r}: choose among {', '.join(INJECTED)}")
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share:g} of the tracks: it lies above 0 and is at most 1")
    fixes = Fixes.from_table(cleaned)
    able, boxes = can_take(fixes), _boxes(fixes)
    wanted = max(round(share * fixes.tracks), 1)
    parts: list[pl.DataFrame] = []
    lines: list[tuple[str, str, str]] = []
    refused = 0
    for index in generator(seed, "inject", kind).permutation(len(able)).tolist():
        if len(lines) == wanted:
            break
        start, end = able[index].tolist()
        track = int(fixes.track[start])
        name = str(fixes.track_id[track])
        made = _altered_track(fixes, boxes, kind, start, end, generator(seed, "inject", kind, name))
        if made is None:
            refused += 1
            continue
        parts.append(_table(cleaned, fixes, track, start, end, made))
        lines.append((name, kind, made.detail))
    schema = {TRACK_ID: pl.String, KIND: pl.String, "detail": pl.String}
    empty = cleaned.clear().with_columns(pl.lit(None, pl.Boolean).alias(ANOMALOUS))
    return Injected(pl.concat([empty, *parts]), pl.DataFrame(lines, schema=schema, orient="row"), refused)


def _altered_track(
    fixes: Fixes, boxes: Floats, kind: str, start: int, end: int, rng: np.random.Generator
) -> Piece | None:
    """The stretch with the anomaly; None where it cannot take it, or would have to move faster than it may."""
    rows = np.arange(start, end)
    piece = Piece.of(fixes, rows)
    makers: dict[str, Maker] = {
        ACTIVITY: wander,
        DEVIATION: detour,
        APPROACH: lambda each, random: approach(each, fixes, _others(fixes, boxes, start, end), random),
        GNSS: offset,
        GAP: silence,
        SPEED: retimed,
    }
    made = makers[kind](piece, rng)
    return None if made is None else altered(piece, made)


def _boxes(fixes: Fixes) -> Floats:
    """(t, 6) of each track: first and last time, least and largest longitude and latitude."""
    head = fixes.first[:-1]
    if not len(head):
        return np.empty((0, 6))
    ends = [fixes.time_s[head], fixes.time_s[fixes.first[1:] - 1]]
    for each in (fixes.lon_deg, fixes.lat_deg):
        ends += [np.minimum.reduceat(each, head), np.maximum.reduceat(each, head)]
    return np.stack(ends, 1)


def _others(fixes: Fixes, boxes: Floats, start: int, end: int) -> list[Ints]:
    """Rows of other vessels' tracks that share time and place with a stretch."""
    mine = fixes.track[start]
    rows = slice(start, end)
    meet = (boxes[:, 0] < fixes.time_s[end - 1]) & (boxes[:, 1] > fixes.time_s[start])
    for column, each in ((2, fixes.lon_deg), (4, fixes.lat_deg)):
        meet &= boxes[:, column] < each[rows].max() + AROUND_DEG
        meet &= boxes[:, column + 1] > each[rows].min() - AROUND_DEG
    meet &= fixes.vessel_id != fixes.vessel_id[mine]
    return [np.arange(fixes.first[k], fixes.first[k + 1]) for k in np.flatnonzero(meet).tolist()]


def _table(cleaned: pl.DataFrame, fixes: Fixes, track: int, start: int, end: int, made: Piece) -> pl.DataFrame:
    """Rows of a whole track, its stretch replaced; new rows take what they do not alter from the row they stand for."""
    head, tail = np.arange(fixes.first[track], start), np.arange(end, fixes.first[track + 1])
    source = np.concatenate([head, start + made.source, tail])
    delay = np.zeros(len(source))
    delay[len(head) + len(made.source) :] = made.delay_s
    columns = {}
    for name, whole, part in (
        ("time", fixes.time_s, made.time_s),
        (LON, fixes.lon_deg, made.lon_deg),
        (LAT, fixes.lat_deg, made.lat_deg),
        (SOG, fixes.sog_kn, made.sog_kn),
        (COG, fixes.cog_deg, made.cog_deg),
    ):
        columns[name] = np.concatenate([whole[head], part, whole[tail]])
    table: pl.DataFrame = cleaned[fixes.row[source].tolist()]
    times = ((columns.pop("time") + delay) * 1e6).round().astype(np.int64)
    label = np.concatenate([np.zeros(len(head), bool), made.label, np.zeros(len(tail), bool)])
    return table.with_columns(
        pl.Series(TIME, times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        *(pl.Series(name, values).fill_nan(None).cast(table.schema[name]) for name, values in columns.items()),
        pl.Series(ANOMALOUS, label),
    )
