"""Generated tracks as a job: made in parts of a fixed size, so that a run resumes and no worker changes a track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from geodiff.rng import generator
from geodiff.schema import UsageError
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_generate import Wanted, generate_tracks
from geodiff.tasks.vessels_gaps import Sent
from geodiff.tasks.vessels_own import OwnReader, is_own
from geodiff.tasks.vessels_settings import GenerateSettings, TrackSettings
from geodiff.tracks import LAT, LON, ROW, TIME, TRACK_ID, VESSEL_ID, MotionModel, TrackQuery
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.read import in_order, open_fixes
from geodiff.vessels.read_refuse import check_any
from geodiff.vessels.reading import ReadCounts
from geodiff.vessels.usual_rules import Usual
from geodiff.vessels.windows_draw import BEHAVIOURS, behaviour_of

JUDGED_H: Final = 3.0
"""A way of moving is that of three hours; what lasts shorter tells little of it."""

TRACKS_A_PART: Final = 256
MOST_SHOWN: Final = 256
"""Last fixes of a partial track that are shown to the model."""


def wanted(settings: GenerateSettings) -> Wanted:
    """The settings of ``track_generate``, checked.

    Raises:
        UsageError: a value out of range.
    """
    names = ("count", "ship_type", "behaviour", "hours", "step_s", "guidance", "seed")
    return Wanted(**{name: getattr(settings, name) for name in names})


def that_generates(model: MotionModel) -> DenoiserMotion:
    """The model; raises UsageError for a classical rule."""
    if not isinstance(model, DenoiserMotion):
        raise UsageError(f"{model.name} cannot generate: choose a trained model (--model)")
    return model


def parts_of(settings: GenerateSettings, partial: int | None) -> int:
    """How many parts there are; ``partial`` is the number of tracks to go on from, if there are any."""
    if partial is None:
        return -(-settings.count // TRACKS_A_PART)
    return -(-partial // max(TRACKS_A_PART // settings.count, 1))


def generate_part(
    model: MotionModel, settings: GenerateSettings, partial: Sequence[TrackQuery] | None, part: int
) -> pl.DataFrame:
    """Make the tracks of one part.

    Args:
        model: a trained one.
        settings: what is made.
        partial: tracks to go on from; None to begin at ``settings.start``.
        part: number, from 0.

    Raises:
        UsageError: a classical rule, or neither or both of start and partial tracks.
    """
    trained, asked = that_generates(model), wanted(settings)
    seed = int(generator(settings.seed, "generated part", part).integers(2**31))
    if partial is None:
        first = part * TRACKS_A_PART
        count = min(TRACKS_A_PART, settings.count - first)
        some = replace(asked, count=count, seed=seed)
        made = generate_tracks(trained, some, start=settings.start, start_time=settings.start_time)
    else:
        each = max(TRACKS_A_PART // settings.count, 1)
        first = part * each * settings.count
        some = replace(asked, seed=seed)
        made = generate_tracks(trained, some, partial=partial[part * each : (part + 1) * each])
    number = pl.col(VESSEL_ID) + first
    name = pl.concat_str(number.cast(pl.String), pl.lit("/"), pl.col(TRACK_ID).str.split("/").list.last())
    return made.with_columns(number.alias(VESSEL_ID), name.alias(TRACK_ID), pl.lit(None, pl.Int64).alias(ROW))


def generated_counts(made: pl.DataFrame, settings: GenerateSettings) -> dict[str, int]:
    """How many tracks were made, and how many of them move otherwise than asked in some whole three hours."""
    counts = {"tracks generated": made[TRACK_ID].n_unique()}
    if settings.behaviour == "any":
        return counts
    since = (pl.col(TIME) - pl.col(TIME).min().over(TRACK_ID)).dt.total_microseconds()
    windows = made.with_columns((since // round(JUDGED_H * 3.6e9)).alias("window")).group_by(TRACK_ID, "window")
    wrong = set()
    for (track, _), window in windows:
        way = window.sort(TIME).select(pl.col(TIME).dt.epoch("us") / 1e6, LON, LAT).to_numpy().T
        whole = way[0, -1] - way[0, 0] >= 3600 * JUDGED_H - settings.step_s - 1.0
        if whole and BEHAVIOURS[int(behaviour_of(*way))] != settings.behaviour:
            wrong.add(track)
    return counts | {"tracks: move otherwise than asked": len(wrong)}


def partial_tracks(files: Sequence[Path], settings: TrackSettings) -> list[TrackQuery]:
    """What is known of each vessel of some files, cleaned.

    Raises:
        UsageError, GeodiffError: as of reading; no vessel is left.
    """
    return tracks_of(read_partial(files, settings)[0], settings)


def read_partial(files: Sequence[Path], settings: TrackSettings) -> tuple[pl.DataFrame, list[ReadCounts]]:
    """The fixes of some files, and what was read of each.

    Raises:
        UsageError, GeodiffError: as of reading.
    """
    told: Any = {"layout": settings.layout, "date": settings.date, "timezone": settings.timezone}
    many, total = len(files) > 1, ReadCounts()
    tables, counts = list[pl.DataFrame](), list[ReadCounts]()
    for path in files:
        own = is_own(path, settings.layout)
        reader = OwnReader(path, one_of_many=many) if own else open_fixes(path, **told, one_of_many=many)
        tables += list(reader.batches())
        counts.append(reader.counts)
        total.add(reader.counts)
    check_any(total, f"{len(files)} files" if many else str(files[0]))
    return in_order(pl.concat(tables, how="diagonal")), counts


def tracks_of(fixes: pl.DataFrame, settings: TrackSettings) -> list[TrackQuery]:
    """What is known of each vessel of some fixes, cleaned.

    Raises:
        UsageError: no vessel is left.
    """
    known = Sent.of(clean_fixes(fixes, Usual.of([fixes]).rules(settings.gap_s))).last_known(MOST_SHOWN)
    if not known:
        raise UsageError("no vessel is left in the partial tracks after cleaning")
    return known
