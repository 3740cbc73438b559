"""A file of a day as three jobs: clean it, fill its gaps, score its tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from geodiff.outputs.track_item import fixes_by_input
from geodiff.tasks.motion_models import load_contender
from geodiff.tasks.vessels_job import CLEAN, IMPUTE, SCORE
from geodiff.tasks.vessels_plan import Paths, installed, make_plan
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import TrackSettings
from geodiff.vessels.layouts import check_zone, read_layout
from geodiff.vessels.read import STDIN
from geodiff.vessels.scoring_calibrate import TooFewVessels

JOBS: Final = (CLEAN, IMPUTE, SCORE)
"""Of a day, in order."""

TOLD: Final = ("tracks", "rejected", "gaps: filled", "gaps: moored", "imputed fixes", "tracks flagged")
"""Counts that a line about a day tells."""


def check_readable(settings: TrackSettings) -> None:
    """Refuse settings with which no file could be read or answered, before any file is looked at.

    Raises:
        UsageError: there is no such layout, time zone or model.
        GeodiffError: a model that is damaged.
    """
    if settings.layout is not None:
        read_layout(settings.layout)
    if settings.timezone is not None:
        check_zone(settings.timezone)
    if (model := getattr(settings, "model", None)) is not None:
        load_contender(installed(IMPUTE, model))


def run_day(
    path: Path,
    out: Path,
    settings: Mapping[str, TrackSettings],
    pool: Pool,
    *,
    history: int = 0,
    pattern: str = "*",
    calibration: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Do one file; what is done is found done.

    Args:
        path: fixes of a day; days sort by the names of their files.
        out: folder of the catalogue.
        settings: of each of ``JOBS``.
        pool: where parts are done.
        history: so many files before, as cleaned into the catalogue with the same settings, are the past tracks of the
            gaps; with 0 the other vessels of the file are. Files may be gone; one that comes late changes what those
            after it are told of.
        pattern: of the names of the files that are one series.
        calibration: of the scores; None: the file's own vessels, and where these are too few it is not scored.

    Yields:
        The summaries of the jobs, in their order.

    Raises:
        GeodiffError: as of the job that comes next.
    """

    def run(kind: str, source: Path, paths: Paths) -> dict[str, Any]:
        plan = make_plan(kind, [source], settings[kind], out, paths=paths)
        return run_tracks(plan, pool=pool, progress=lambda *_: None).summary

    clean = run(CLEAN, path, Paths())
    yield clean
    fixes, before = Path(clean["files"]["fixes"]), tuple[Path, ...]()
    if history:
        known = fixes_by_input(out, CLEAN, settings[CLEAN].model_dump(mode="json"))
        earlier = sorted(name for name in known if STDIN != name < path.name and fnmatch(name, pattern))
        before = tuple(known[name] for name in earlier[-history:])
    yield run(IMPUTE, fixes, Paths(history=before))
    try:
        yield run(SCORE, fixes, Paths(calibration=calibration))
    except TooFewVessels as error:
        yield {"counts": {}, "notes": [f"not scored: {error}"]}


def describe_day(done: Sequence[Mapping[str, Any]]) -> str:
    """What the jobs of a file came to, in one line."""
    counts = {name: one["counts"][name] for one in done for name in TOLD if name in one["counts"]}
    said = (f"{name} {sum(each.values()) if isinstance(each, dict) else each}" for name, each in counts.items())
    return ", ".join([*said, *(done[-1]["notes"] if done else [])])
