"""The tasks of a run over tracks, part by part.

Every part is cleaned first (``clean_part``). Jobs that need to know of all vessels - their past, their traffic - then
do their own step (``step_part``) on each cleaned part. A part is whole vessels: no answer depends on another part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl

from geodiff.tasks.memory import give_back_memory
from geodiff.tasks.vessels_context import past_of, traffic_of
from geodiff.tasks.vessels_forecast import forecast_tracks, known_by
from geodiff.tasks.vessels_impute import impute_tracks
from geodiff.tasks.vessels_job import (
    CLEAN,
    FIXES,
    FORECAST,
    GENERATE,
    HISTORY,
    IMPUTE,
    SCORE,
    TrackJob,
    clean_counts,
    part_name,
    save_counts,
    save_table,
)
from geodiff.tasks.vessels_model import model_of
from geodiff.tasks.vessels_pool import one_thread
from geodiff.tasks.vessels_region import cut_where_away, elsewhere, taken_fixes
from geodiff.tasks.vessels_settings import ForecastSettings, GenerateSettings, ImputeSettings
from geodiff.tracks import MotionModel, TrackQuery
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.partition import open_partition
from geodiff.vessels.stops import find_stops


def clean_part(job: TrackJob, what: str, part: int) -> None:
    """Clean one part, and leave what other parts will want to know of it; does nothing where that is done.

    Raises:
        GeodiffError: the work folder is damaged, or the disk is full.
    """
    if job.path("cleaned" if what == FIXES else "past", part).exists() or part_name(part) in job.store.done():
        return
    fixes = open_partition(job.work / what).read(part)
    taken = taken_fixes(fixes, job.settings) if what == FIXES else known_by(fixes, getattr(job.settings, "at", None))
    rules = job.usual(what).rules(job.settings.gap_s if what == FIXES else None)
    cleaned = clean_fixes(taken, rules)
    if job.past == what:
        save_table(past_of(cleaned), job.path("past", part))
    if what == HISTORY:
        return
    counts = {"outside": len(fixes) - len(taken), **clean_counts(cleaned)}
    stops = find_stops(cleaned)
    save_table(stops, job.path("stops", part))
    save_counts({**counts, "stops": len(stops)}, job.counts_path("clean", part))
    if job.kind == SCORE:
        save_table(traffic_of(cleaned), job.path("traffic", part))
    if job.settings.bbox is not None and job.kind in (IMPUTE, FORECAST):
        save_table(elsewhere(fixes, job.settings), job.path("away", part))
    if job.settings.bbox is not None and job.kind == SCORE:
        cleaned = cut_where_away(cleaned, elsewhere(fixes, job.settings))
    if job.kind == CLEAN:
        job.store.write_part(part_name(part), cleaned)
    else:
        save_table(cleaned, job.path("cleaned", part))
    give_back_memory()


@dataclass(frozen=True, eq=False)
class Teller:
    """What one process has open for a run."""

    job: TrackJob

    @cached_property
    def model(self) -> MotionModel:
        """The model of motion, told of past tracks, its regions as they were found for the input."""
        return model_of(self.job)

    @cached_property
    def coast(self) -> Any:
        """Land, or None."""
        from geodiff.tasks.vessels_coast import Coast

        return None if self.job.coastline is None else Coast.read(self.job.coastline)

    @cached_property
    def partial(self) -> list[TrackQuery] | None:
        """Tracks to go on from, or None."""
        from geodiff.tasks.vessels_generate import partial_tracks

        return partial_tracks(self.job.partial, self.job.settings) if self.job.partial else None

    @cached_property
    def scorer(self) -> Any:
        """Of the job ``score``."""
        from geodiff.tasks.vessels_score import Scorer

        return Scorer.of(self.job)


_TELLERS: dict[str, Teller] = {}
_GUARD = threading.Lock()


def _teller(job: TrackJob, session: str) -> Teller:
    """What this process has open; one run at a time, or a long-lived worker would keep all its past."""
    with _GUARD:
        found = _TELLERS.get(session)
        if found is None:
            _TELLERS.clear()
            found = _TELLERS[session] = Teller(job)
        if job.kind == SCORE:
            _ = found.scorer
        elif job.model is not None:
            _ = found.model, found.coast, found.partial
        return found


def step_part(job: TrackJob, part: int, session: str) -> None:
    """Do the job's own step on one cleaned part; does nothing where that is done.

    Args:
        job: the run.
        part: number.
        session: one call of the run: what a process has open holds for one.

    Raises:
        GeodiffError: as of the step.
    """
    if part_name(part) in job.store.done():
        return
    teller = _teller(job, session)
    cleaned = pl.DataFrame() if job.kind == GENERATE else pl.read_parquet(job.path("cleaned", part), glob=False)
    with one_thread():
        table, counts = _STEPS[job.kind](teller, cleaned, part)
    save_counts(counts, job.counts_path("step", part))
    job.store.write_part(part_name(part), table)
    give_back_memory()


Stepped = tuple[pl.DataFrame, dict[str, Any]]


def _impute(teller: Teller, cleaned: pl.DataFrame, part: int) -> Stepped:
    settings = teller.job.settings
    assert isinstance(settings, ImputeSettings)
    fleet_s = teller.job.usual(FIXES).interval_s
    return impute_tracks(cleaned, teller.model, settings, fleet_s=fleet_s, away=_away(teller.job, part))


def _forecast(teller: Teller, cleaned: pl.DataFrame, part: int) -> Stepped:
    settings = teller.job.settings
    assert isinstance(settings, ForecastSettings)
    return forecast_tracks(cleaned, teller.model, settings, coast=teller.coast, away=_away(teller.job, part))


def _away(job: TrackJob, part: int) -> pl.DataFrame | None:
    """When vessels were outside the region, if there is one."""
    return None if job.settings.bbox is None else pl.read_parquet(job.path("away", part), glob=False)


def _score(teller: Teller, cleaned: pl.DataFrame, part: int) -> Stepped:
    scored, counts = teller.scorer.score(cleaned)
    save_table(scored.tracks, teller.job.path("scores", part))
    return scored.fixes, counts


def _generate(teller: Teller, cleaned: pl.DataFrame, part: int) -> Stepped:
    settings = teller.job.settings
    assert isinstance(settings, GenerateSettings)
    from geodiff.tasks.vessels_generate import generate_part, generated_counts

    table = generate_part(teller.model, settings, teller.partial, part)
    return table, generated_counts(table, settings)


_STEPS: Final[dict[str, Callable[[Teller, pl.DataFrame, int], Stepped]]] = {
    IMPUTE: _impute,
    FORECAST: _forecast,
    SCORE: _score,
    GENERATE: _generate,
}
