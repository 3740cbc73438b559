"""One run over tracks as a value, and its tasks: what a worker needs to do any part of it, in this process or another.

Every part is cleaned first (``clean_part``). Jobs that need to know of all vessels - their past, their traffic - then
do their own step (``step_part``) on each cleaned part. A part is whole vessels: no answer depends on another part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl

from geodiff.outputs.atomic import explained, read_json, replacing, write_json
from geodiff.outputs.ledger import work_folder
from geodiff.outputs.track_store import TrackStore
from geodiff.schema import GeodiffError
from geodiff.tasks.memory import give_back_memory
from geodiff.tasks.vessels_context import past_of, traffic_of
from geodiff.tasks.vessels_forecast import forecast_tracks, known_by
from geodiff.tasks.vessels_impute import impute_tracks
from geodiff.tasks.vessels_model import model_of
from geodiff.tasks.vessels_pool import one_thread
from geodiff.tasks.vessels_region import cut_where_away, elsewhere, taken_fixes
from geodiff.tasks.vessels_settings import ForecastSettings, GenerateSettings, ImputeSettings, TrackSettings
from geodiff.tracks import OBSERVED, REASON, STATE, MotionModel, TrackQuery
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.clean_rules import NO_IDENTITY
from geodiff.vessels.partition import open_partition
from geodiff.vessels.stops import find_stops
from geodiff.vessels.usual_rules import Usual

FIXES, HISTORY = "fixes", "history"
"""What is read: the input, and past tracks of other files."""

CLEAN, IMPUTE, FORECAST, SCORE, ASSOCIATE, GENERATE = "clean", "impute", "forecast", "score", "associate", "generate"

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and how much there is, if that is known."""


@dataclass(frozen=True)
class TrackJob:
    """Everything that decides the stored values, and where they go; plain enough to be sent to another process.

    Attributes:
        kind: ``clean``, ``impute``, ...
        run_id: hash of settings, inputs and model.
        settings: of the job.
        store: of the results.
        parts, history_parts: of the partitions of ``FIXES`` and ``HISTORY`` by identity.
        model: name or path of the model of motion; None for a job without one.
        past: past tracks come from ``FIXES``, from ``HISTORY``, or from nowhere.
        coastline: file of land, for forecasts.
        calibration: file of a calibration, for scores.
        partial: files of tracks that generated ones go on from.
    """

    kind: str
    run_id: str
    settings: TrackSettings
    store: TrackStore
    parts: int
    history_parts: int = 1
    model: str | None = None
    past: str | None = None
    coastline: Path | None = None
    calibration: Path | None = None
    partial: tuple[Path, ...] = ()

    @property
    def work(self) -> Path:
        """Folder of everything that goes when the run is finished."""
        return work_folder(self.store.stem)

    def parts_of(self, what: str) -> range:
        """Numbers of the parts of ``FIXES`` or ``HISTORY``."""
        return range(self.history_parts if what == HISTORY else self.parts)

    @property
    def names(self) -> list[str]:
        """Of the parts, in order."""
        return [part_name(part) for part in range(self.parts)]

    @property
    def regions_path(self) -> Path:
        """What the regions of the model rest on."""
        return self.work / "regions.json"

    def path(self, what: str, part: int) -> Path:
        """File of a part in the work folder."""
        return self.work / what / f"{part_name(part)}.parquet"

    def counts_path(self, what: str, part: int) -> Path:
        """Counts of a part: of cleaning, or of the job's own step."""
        return self.work / "counts" / what / f"{part_name(part)}.json"

    def usual(self, what: str) -> Usual:
        """How the input (or the past tracks) report; known once they are read."""
        told = read_json(self.work / f"usual_{what}.json")
        if not isinstance(told, dict) or set(told) != {field.name for field in fields(Usual)}:
            raise GeodiffError(f"{self.work}: damaged; remove it and run again")
        interval = told["interval_s"]
        return Usual(float("nan") if interval is None else float(interval), bool(told["own_numbers"]))


def part_name(part: int) -> str:
    """Name of a part in the store and in the work folder."""
    return f"part-{part:03d}"


def save_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table of the work folder, whole or not at all."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            table.write_parquet(temporary, compression="zstd", compression_level=1)


def save_counts(counts: dict[str, Any], path: Path) -> None:
    """Write counts of a part."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, counts)


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


def clean_counts(cleaned: pl.DataFrame) -> dict[str, Any]:
    """Fixes kept and rejected, and why."""
    found = cleaned.group_by(STATE, REASON).len().sort(REASON)
    rejected = {reason: count for _, reason, count in found.iter_rows() if reason is not None}
    return {"kept": int((cleaned[STATE] == OBSERVED).sum()), "rejected": rejected}


def nothing_left(where: str, counts: Mapping[str, Any], total: int) -> GeodiffError:
    """What to say where cleaning left none of ``total`` fixes; counts as of ``clean_counts``."""
    rejected = counts.get("rejected", {})
    why = [f"{count} {reason}" for reason, count in rejected.items()]
    outside = [f"{counts['outside']} outside the region or after the time"] if counts.get("outside") else []
    hint = "; geodiff vessels associate makes tracks of points without an identity" if NO_IDENTITY in rejected else ""
    return GeodiffError(
        f"{where}: none of {total:,} fixes is left: {'; '.join([*why, *outside]) or 'none was read'}{hint}"
    )


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
