"""Answers of a model of motion as rows of the table of fixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.outputs.track_columns import MEMBERS, answer_columns
from geodiff.schema import GeodiffError
from geodiff.sphere import KM_S_PER_KN, course_of, to_local_km
from geodiff.tasks.vessels_gaps import Floats, Ints
from geodiff.tracks import (
    COG,
    SHIP_TYPE,
    SOG,
    SOURCE,
    STATE,
    STATIC_TYPES,
    TIME,
    TRACK_ID,
    VESSEL_ID,
    MotionModel,
    TrackAnswer,
    TrackQuery,
)
from geodiff.vessels.kinematics import difference_velocity
from geodiff.vessels.reading import below_360

BATCH: Final = 2048
"""Questions that a model is given at once."""

POSITIONS: Final = 1 << 22
"""Positions of members that are drawn at once, questions x times x members: about 120 bytes each, 500 MB in all."""

NEAR_S: Final = 10.0
"""Known fixes nearer than this to a position tell its velocity only where no other does."""

LASTING: Final = frozenset({TRACK_ID, VESSEL_ID, SHIP_TYPE, *STATIC_TYPES})
"""Columns that hold for a vessel and not for one of its fixes."""

Question = tuple[int, TrackQuery]
"""Row of the table after which the answer stands, and what is asked."""

Mend = Callable[[Sequence[TrackQuery], list[TrackAnswer]], tuple[list[TrackAnswer], npt.NDArray[np.int64]]]
"""Corrects answers; also says how many of the times of each are kept."""


def answer_rows(
    table: pl.DataFrame,
    questions: Iterable[Question],
    model: MotionModel,
    *,
    state: str,
    ensemble: int,
    seed: int,
    members: bool,
    mend: Mend | None = None,
    redrawn: int = 0,
) -> pl.DataFrame:
    """Ask a model, and make rows of what it says.

    Args:
        table: of fixes; a row of an answer takes identity, track, ship type and static data from the row before it.
        questions: with known fixes on whose line the answer lies.
        model: asked in batches of ``BATCH``, fewer where their members would be more than ``POSITIONS``.
        state: of the new rows.
        ensemble: members asked for.
        seed: of their noise.
        members: keep them.
        mend: corrects the answers of each batch.
        redrawn: members of a question that ``mend`` may ask for again.

    Returns:
        The columns of ``table`` and those of ``track_columns``, speed and course along the line of the answers; no rows
        where nothing was asked.

    Raises:
        GeodiffError: a position that is not finite; weights may be finite, and overflow.
    """
    parts = [table.clear()]
    for batch in _batches(questions, ensemble + redrawn):
        queries = [query for _, query in batch]
        answers = model.predict(queries, members=ensemble, seed=seed)
        _check_finite(answers, model.name)
        kept = np.array([len(query.ask_s) for query in queries], np.int64)
        if mend is not None:
            answers, kept = mend(queries, answers)
        rows = np.array([row for row, _ in batch], np.int64)
        joined = _joined([_head(answer, int(n)) for answer, n in zip(answers, kept, strict=True)])
        columns = answer_columns(joined, model.levels if len(joined.ellipse_km) else (), members=members)
        columns |= _motion(queries, answers, kept)
        times = np.concatenate([query.ask_s[:n] for query, n in zip(queries, kept, strict=True)])
        parts.append(_rows(table, np.repeat(rows, kept), times, columns, state, model.name))
    return pl.concat(parts, how="diagonal_relaxed")


def _check_finite(answers: Sequence[TrackAnswer], model: str) -> None:
    for each in answers:
        if not all(
            np.isfinite(x).all() for x in (each.lon_deg, each.lat_deg, each.member_lon_deg, each.member_lat_deg)
        ):
            raise GeodiffError(f"the model gives no finite values: the weights of {model} are damaged")


def _batches(questions: Iterable[Question], members: int) -> Iterator[list[Question]]:
    """Questions in their order, as many at once as ``BATCH`` and ``POSITIONS`` allow, one at least."""
    batch: list[Question] = []
    held = 0
    for question in questions:
        size = len(question[1].ask_s) * members
        if batch and (len(batch) == BATCH or held + size > POSITIONS):
            yield batch
            batch, held = [], 0
        batch.append(question)
        held += size
    if batch:
        yield batch


def _head(answer: TrackAnswer, count: int) -> TrackAnswer:
    """The first times of an answer."""
    if count == len(answer.lon_deg):
        return answer
    cut = slice(0, count)
    members = answer.member_lon_deg[:, cut], answer.member_lat_deg[:, cut]
    return TrackAnswer(answer.lon_deg[cut], answer.lat_deg[cut], *members, answer.ellipse_km[:, cut])


def _joined(answers: Sequence[TrackAnswer]) -> TrackAnswer:
    """Answers one after the other."""
    return TrackAnswer(
        np.concatenate([each.lon_deg for each in answers]),
        np.concatenate([each.lat_deg for each in answers]),
        np.concatenate([each.member_lon_deg for each in answers], axis=1) if len(answers[0].member_lon_deg) else _NONE,
        np.concatenate([each.member_lat_deg for each in answers], axis=1) if len(answers[0].member_lat_deg) else _NONE,
        np.concatenate([each.ellipse_km for each in answers], axis=1) if len(answers[0].ellipse_km) else _NO_ELLIPSES,
    )


_NONE: Final = np.empty((0, 0))
_NO_ELLIPSES: Final = np.empty((0, 0, 3))


def _motion(queries: Sequence[TrackQuery], answers: Sequence[TrackAnswer], kept: Ints) -> dict[str, pl.Series]:
    """Speed and course over ground from the neighbours of each position on its line, known fixes included."""
    lines: list[tuple[Floats, Floats, Floats]] = []
    inner: list[npt.NDArray[np.bool_]] = []
    for query, answer, count in zip(queries, answers, kept.tolist(), strict=True):
        ends = _ends(query)
        if count < len(query.ask_s):
            ends = ends[0], slice(0, 0)
        middle = query.ask_s[:count], answer.lon_deg[:count], answer.lat_deg[:count]
        known = query.time_s, query.lon_deg, query.lat_deg
        line = [np.concatenate([k[ends[0]], m, k[ends[1]]]) for k, m in zip(known, middle, strict=True)]
        lines.append((line[0], line[1], line[2]))
        mask = np.zeros(len(line[0]), bool)
        head = len(query.time_s[ends[0]])
        mask[head : head + count] = True
        inner.append(mask)
    number = np.repeat(np.arange(len(lines)), [len(line[0]) for line in lines])
    time, lon, lat = (np.concatenate([line[i] for line in lines]) for i in range(3))
    index = np.arange(len(time))
    same = np.diff(number) == 0
    left = np.where(np.append(False, same), index - 1, index)
    right = np.where(np.append(same, False), index + 1, index)
    sides = [np.stack(to_local_km(lon[k], lat[k], lon, lat), -1) for k in (left, right)]
    speed, course = _velocity(time - time[left], time[right] - time, *sides)
    wanted = np.concatenate(inner)
    told = [pl.Series(name, each[wanted], nan_to_null=True) for name, each in ((SOG, speed), (COG, course))]
    return {SOG: told[0].cast(pl.Float32), COG: below_360(told[1])}


def _ends(query: TrackQuery) -> tuple[slice, slice]:
    """The known fix before the times asked for and that after them: none nearer than ``NEAR_S`` where there are others.

    A model's line need not go through the fixes: beside one that is a second away it would leap at 70 knots.
    """
    place = int(np.searchsorted(query.time_s, query.ask_s[0]))
    before = int(np.searchsorted(query.time_s, query.ask_s[0] - NEAR_S, side="right"))
    after = int(np.searchsorted(query.time_s, query.ask_s[-1] + NEAR_S))
    first = min(max(before, 1), place)
    last = max(min(after, len(query.time_s) - 1), place)
    return slice(max(first - 1, 0), first), slice(last, last + 1)


def _velocity(before_s: Floats, after_s: Floats, left_km: Floats, right_km: Floats) -> tuple[Floats, Floats]:
    """Speed in knots and course in degrees at the centre of a plane each, NaN where not known.

    Steps to both neighbours may differ a hundredfold, beside a fix: the chord between them would tell the longer one's.

    Args:
        before_s, after_s: (n,) seconds from and to the neighbours, 0 where there is none.
        left_km, right_km: (n, 2) the neighbours, (east, north).
    """
    alone = (before_s <= 0) & (after_s <= 0)
    # What has one neighbour goes on as it came, or came as it goes on.
    before = np.select([before_s > 0, after_s > 0], [before_s, after_s], 1.0)
    after = np.where(after_s > 0, after_s, before)
    left, right = (
        np.where((step > 0)[:, None], own, -other)
        for step, own, other in ((before_s, left_km, right_km), (after_s, right_km, left_km))
    )
    velocity = difference_velocity(
        np.stack([-before, np.zeros_like(before), after], -1), np.stack([left, np.zeros_like(left), right], -2)
    )[:, 1]
    way = np.hypot(velocity[:, 0], velocity[:, 1])
    return np.where(alone, np.nan, way / KM_S_PER_KN), np.where(way > 0, course_of(*velocity.T), np.nan)


def _rows(
    table: pl.DataFrame, before: Ints, time_s: Floats, columns: dict[str, pl.Series], state: str, model: str
) -> pl.DataFrame:
    times = pl.Series(TIME, np.rint(time_s * 1e6).astype(np.int64)).cast(table.schema[TIME])
    # What a fix measured, or what was said of it, is not true of another time: neither of columns of the user's own.
    kept = table.drop(MEMBERS, strict=False)[before]
    nothing = [pl.lit(None, kind).alias(name) for name, kind in kept.schema.items() if name not in LASTING]
    said = pl.lit(state).alias(STATE), pl.lit(model).alias(SOURCE)
    return kept.with_columns(nothing).with_columns(times, *columns.values(), *said)
