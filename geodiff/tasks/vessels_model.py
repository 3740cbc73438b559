"""The model of motion of a run: told of past tracks, its regions as they hold for the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from geodiff.outputs.atomic import read_json, write_json
from geodiff.tasks.memory import give_back_memory
from geodiff.tasks.motion_models import Historic, load_motion_model, regions_here
from geodiff.tasks.vessels_context import history_of
from geodiff.tasks.vessels_settings import MotionSettings
from geodiff.tracks import MotionModel

if TYPE_CHECKING:
    from geodiff.tasks.vessels_job import TrackJob


def model_of(job: TrackJob) -> MotionModel:
    """The model, ready to be asked.

    Raises:
        GeodiffError: weights or the work folder are damaged.
    """
    model, path = _told_of_past(job, load_motion_model(str(job.model))), job.regions_path
    if not path.exists():
        return model
    from geodiff.tasks.track_calibrate_here import Regions

    return Regions.from_json(read_json(path), where=str(path)).of(model)


def prepare_regions(job: TrackJob) -> None:
    """Calibrate the regions of a trained model on the cleaned input; not where an earlier run did, or came further.

    Raises:
        GeodiffError: weights or the work folder are damaged, or the disk is full.
    """
    settings = job.settings
    if not isinstance(settings, MotionSettings) or not settings.calibrated:
        return
    if job.regions_path.exists() or set(job.names) <= set(job.store.done()):
        return
    model = load_motion_model(str(job.model))
    parts = [pl.scan_parquet(job.path("cleaned", part), glob=False) for part in range(job.parts)]
    found = regions_here(model, parts, lambda: _told_of_past(job, model), seed=settings.seed)
    if found is not None:
        write_json(job.regions_path, found.to_json())
    give_back_memory()


def _told_of_past(job: TrackJob, model: MotionModel) -> MotionModel:
    if job.past is None or not isinstance(model, Historic):
        return model
    past = [pl.read_parquet(job.path("past", part), glob=False) for part in job.parts_of(job.past)]
    return model.with_history(history_of(past))
