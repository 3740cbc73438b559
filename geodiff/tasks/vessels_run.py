"""Jobs over tracks: read, clean, do the job's own step part by part, write, and publish the STAC item last.

Safe to kill: what was read, the parts that were cleaned and the parts that are finished stay, and the same command goes
on from there to the same bytes. The item is the commit: until it is published, no reader of the catalogue sees the run.
"""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geodiff.outputs.atomic import explained, read_json, remove_left, write_json
from geodiff.outputs.ledger import exclusive
from geodiff.outputs.published import find_item
from geodiff.outputs.track_item import discard_damaged
from geodiff.schema import GeodiffError
from geodiff.tasks.memory import peak_rss_mb
from geodiff.tasks.vessels_associate import associate_parts
from geodiff.tasks.vessels_context import store_traffic, usual_of
from geodiff.tasks.vessels_inputs import Input, as_told, forget_stdin, whose
from geodiff.tasks.vessels_job import (
    ASSOCIATE,
    CLEAN,
    FIXES,
    FORECAST,
    GENERATE,
    HISTORY,
    IMPUTE,
    SCORE,
    Progress,
    TrackJob,
    nothing_left,
)
from geodiff.tasks.vessels_model import prepare_regions
from geodiff.tasks.vessels_plan import TrackPlan
from geodiff.tasks.vessels_pool import Pool, one_thread
from geodiff.tasks.vessels_publish import added_counts, publish, shown
from geodiff.tasks.vessels_steps import clean_part, step_part
from geodiff.vessels.partition import MANIFEST, PartitionedFixes, open_partition, partition_fixes
from geodiff.vessels.read import STDIN
from geodiff.vessels.reading import ReadCounts


@dataclass(frozen=True)
class TrackOutcome:
    """A finished run.

    Attributes:
        summary: what ``summary.json`` says.
        resumed: True when the run had been finished before and nothing was done.
    """

    summary: dict[str, Any]
    resumed: bool


def finished_tracks(out: Path, run_id: str, name: str | None = None) -> TrackOutcome | None:
    """The outcome of a run whose item is published in the catalogue of ``out``; None where there is none.

    Args:
        out: output folder.
        run_id: of the run.
        name: of the collection that is asked for; a note says where the run lies in another.
    """
    item = find_item(out, run_id)
    if item is None:
        return None
    paths = {key: str(asset.get_absolute_href() or asset.href) for key, asset in item.assets.items()}
    known = read_json(Path(paths["summary"])) if "summary" in paths else None
    summary = known if isinstance(known, dict) else {"run_id": run_id}
    # The folder may have been moved since.
    summary = {**shown(summary), "item": item.self_href, "files": paths}
    folder = Path(str(item.self_href)).parent
    if name not in (None, folder.name):
        note = f"the run was made under the name {folder.name} and lies in {folder}: it is not made again under {name}"
        summary["notes"] = [*summary.get("notes", []), note]
    write_json(out / "summary.json", summary)
    return TrackOutcome(summary, resumed=True)


def run_tracks(plan: TrackPlan, *, pool: Pool, progress: Progress) -> TrackOutcome:
    """Do what a plan says; resume what an earlier run left; return at once when its item is published.

    Args:
        plan: from ``make_plan``.
        pool: where parts are done; it changes the speed, never a value.
        progress: told of each stage.

    Raises:
        GeodiffError: as of reading, the model and writing; what was finished stays.
    """
    earlier = finished_tracks(plan.out, plan.job.run_id, plan.name)
    if earlier is not None:
        forget_stdin(plan.inputs)
        return earlier
    started, job = time.monotonic(), plan.job

    def figures() -> dict[str, float]:
        return {"seconds": round(time.monotonic() - started, 1), "peak_rss_mb": round(peak_rss_mb(), 1)}

    with _leaving_none_empty(job.store.folder, plan.out), exclusive(job.store.stem), explained(plan.out):
        try:
            remove_left(job.store.stem)
            discard_damaged(job.store)
            if not job.store.is_final():
                _compute(plan, pool, progress)
            summary = publish(plan, figures, progress=progress)
        finally:
            forget_stdin(plan.inputs)
    return TrackOutcome(summary, resumed=False)


@contextmanager
def _leaving_none_empty(*folders: Path) -> Iterator[None]:
    """Remove those of the folders, the inner first, that were made since and hold nothing where a run fails."""
    made = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _compute(plan: TrackPlan, pool: Pool, progress: Progress) -> None:
    """Everything up to the parts of the store."""
    job = plan.job
    _forget_other_cuts(job)
    for what, inputs in ((FIXES, plan.inputs if job.kind != GENERATE else ()), (HISTORY, plan.history)):
        if inputs:
            try:
                _read(plan, what, inputs, progress)
            except GeodiffError as error:
                _forget_unread(job, what)
                raise _named(error, plan.inputs) from None
    job.store.open()
    if job.kind == ASSOCIATE:
        associate_parts(job, progress=progress)
        return
    _clean(plan, pool, progress)
    if job.kind == CLEAN:
        return
    if job.kind == SCORE:
        _prepare_scores(job, progress)
    if job.kind in (IMPUTE, FORECAST):
        progress("calibrate", 0, 1)
        with one_thread():
            prepare_regions(job)
        progress("calibrate", 1, 1)
    session = uuid.uuid4().hex
    steps: list[tuple[Any, ...]] = [(job, part, session) for part in range(job.parts)]
    with one_thread():
        _run(pool, job.kind, step_part, steps, progress)


def _clean(plan: TrackPlan, pool: Pool, progress: Progress) -> None:
    """Clean past tracks, then the input; neither for tracks that are made from nothing."""
    job = plan.job
    stages = {HISTORY: "clean past tracks", FIXES: "clean"}
    if not plan.history:
        del stages[HISTORY]
    if job.kind == GENERATE:
        del stages[FIXES]
    for what, stage in stages.items():
        calls: list[tuple[Any, ...]] = [(job, what, part) for part in job.parts_of(what)]
        _run(pool.light, stage, clean_part, calls, progress)
    if FIXES in stages:
        _require_any(plan)


def _run(pool: Pool, stage: str, task: Callable[..., None], calls: list[tuple[Any, ...]], progress: Progress) -> None:
    progress(stage, 0, len(calls))
    pool.run(task, calls, tell=lambda done: progress(stage, done, len(calls)))


def _read(plan: TrackPlan, what: str, inputs: tuple[Input, ...], progress: Progress) -> None:
    """Partition the inputs by identity, unless an earlier run did."""
    folder = plan.job.work / what
    if not (plan.job.work / f"usual_{what}.json").exists():
        stage = "read rows" if what == FIXES else "read past tracks"
        total = [0, 0]

        def tell(counts: ReadCounts) -> None:
            # Counts begin anew with each source.
            total[0] += total[1] if counts.read < total[1] else 0
            total[1] = counts.read
            progress(stage, total[0] + total[1], None)

        folder.parent.mkdir(parents=True, exist_ok=True)
        past = what == HISTORY
        many: Any = {"one_of_many": True} if len(inputs) > 1 else {}
        sources = [as_told(one, plan.options, **many) if past else one.source(**many) for one in inputs]
        options: Any = many if past else plan.options | many
        fixes = partition_fixes(sources, folder, parts=len(plan.job.parts_of(what)), options=options, progress=tell)
        progress(stage, fixes.counts.read, fixes.counts.read)
        for one in inputs:
            one.require_unchanged()
        usual = asdict(usual_of(fixes, getattr(plan.job.settings, "at", None)))
        interval = usual["interval_s"]
        usual["interval_s"] = interval if math.isfinite(interval) else None
        write_json(plan.job.work / f"usual_{what}.json", usual)


def _named(error: GeodiffError, inputs: tuple[Input, ...]) -> GeodiffError:
    """The error with standard input, which lies in a file of ours that goes now, under its own name."""
    text = str(error)
    for one in inputs:
        if one.href == STDIN:
            text = text.replace(str(one.path), "standard input")
    return type(error)(text)


def _forget_other_cuts(job: TrackJob) -> None:
    """Remove what an earlier run left that was cut into other parts."""
    for what in (FIXES, HISTORY):
        told = read_json(job.work / what / MANIFEST)
        if isinstance(told, dict) and told.get("parts") != len(job.parts_of(what)):
            shutil.rmtree(job.work)
            return


def _forget_unread(job: TrackJob, what: str) -> None:
    """Remove a work folder in which no file was finished, or all were and will not do: another file is another run."""
    if not any(job.work.glob("*/*/source.json")) or (job.work / what / MANIFEST).exists():
        shutil.rmtree(job.work, ignore_errors=True)


def _require_any(plan: TrackPlan) -> None:
    """Raises GeodiffError where cleaning left nothing, with the reasons."""
    job = plan.job
    counts = added_counts(job, "clean")
    if not counts.get("kept"):
        fixes: PartitionedFixes = open_partition(job.work / FIXES)
        shutil.rmtree(job.work, ignore_errors=True)
        raise nothing_left(whose(plan.inputs), counts, fixes.counts.kept)


def _prepare_scores(job: TrackJob, progress: Progress) -> None:
    from geodiff.tasks.vessels_score import prepare_calibration
    from geodiff.vessels.scoring_calibrate import TooFewVessels

    progress("calibrate", 0, 1)
    if not (job.work / "traffic_all" / "done").exists():
        store_traffic([job.path("traffic", part) for part in range(job.parts)], job.work / "traffic_all")
    try:
        with one_thread():
            prepare_calibration(job)
    except TooFewVessels:
        shutil.rmtree(job.work, ignore_errors=True)  # no rerun goes on from here
        raise
    progress("calibrate", 1, 1)
