"""A run over tracks before anything is computed: its inputs, its model and its name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Any, Final

from geodiff.config import config_hash
from geodiff.outputs.stac_items import check_name
from geodiff.outputs.track_item import TrackInput, file_sha256
from geodiff.outputs.track_store import TrackStore
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.motion_models import Contender, Historic, load_contender, shipped_models
from geodiff.tasks.out_folder import check_out
from geodiff.tasks.vessels_associate import rules_of
from geodiff.tasks.vessels_coast import Coast
from geodiff.tasks.vessels_inputs import Input, check_told, count_parts, find_inputs, forget_stdin
from geodiff.tasks.vessels_job import FIXES, GENERATE, HISTORY, SCORE, TrackJob
from geodiff.tasks.vessels_settings import DEFAULT_MODEL, FALLBACK, AssociateSettings, GenerateSettings, TrackSettings
from geodiff.vessels.layouts import read_layout

FORMAT: Final = 12
"""Raised when the same request begins to give other values, so that runs of before are not taken for it."""

SCRATCH: Final = {"layout", "model"}
"""Settings that count by what they are, not by how they are spelled."""


@dataclass(frozen=True)
class Paths:
    """Files that a run is given beside its inputs.

    Attributes:
        history: past tracks, for the model of motion.
        coastline: land, for forecasts.
        calibration: of scores.
    """

    history: tuple[Path, ...] = ()
    coastline: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class TrackPlan:
    """What a run is going to do.

    Attributes:
        job: the run.
        inputs: files, in order.
        history: files of past tracks.
        out: output folder, a catalogue of all its runs.
        name: of the collection.
        model: name of the model, for the catalogue.
        notes: what the user should know.
        beside: other files that decide the values, by what they are for: history, coastline, calibration.
    """

    job: TrackJob
    inputs: tuple[Input, ...]
    out: Path
    name: str
    history: tuple[Input, ...] = ()
    model: str | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)
    beside: Mapping[str, tuple[TrackInput, ...]] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """What the reader is told."""
        return reading_options(self.job.settings)


def reading_options(settings: TrackSettings) -> dict[str, Any]:
    """What the reader is told of all files."""
    told = {name: getattr(settings, name) for name in ("layout", "date", "timezone")}
    anonymous = isinstance(settings, AssociateSettings)
    return told | {"sensor": sensor_of(settings), "known_by": getattr(settings, "at", None), "anonymous": anonymous}


def sensor_of(settings: TrackSettings) -> Any:
    """Where the radar stands, if one is named."""
    if not isinstance(settings, AssociateSettings) or settings.position is None:
        return None
    from geodiff.vessels.radar import RadarSensor

    return RadarSensor(*settings.position)


def make_plan(
    kind: str,
    sources: Sequence[str | Path],
    settings: TrackSettings,
    out: Path,
    *,
    name: str | None = None,
    paths: Paths = Paths(),
    parts: int | None = None,
) -> TrackPlan:
    """Find the inputs and the model, and name the run.

    Args:
        kind: of the job.
        sources: files, folders, globs, or ``-`` for NMEA from standard input.
        settings: of the job.
        out: output folder.
        name: of the collection in the catalogue; the kind when None.
        paths: other files.
        parts: of the partition; by the size of the inputs when None. Values differ by rounding at most.

    Raises:
        UsageError: no such file, layout, model or folder, or something was said that would be ignored.
        GeodiffError: a file that cannot be read, weights that are damaged, or an output folder that is no catalogue.
    """
    out = out.expanduser().resolve()
    name = kind if name is None else name
    try:
        check_name("--name", name)
    except GeodiffError as error:
        raise UsageError(str(error)) from None
    check_out(out, name)
    history = find_inputs(paths.history, out) if paths.history else []
    inputs = find_inputs(sources, out, layout=settings.layout) if sources else []
    if not inputs and kind != GENERATE:
        raise UsageError("nothing to read: name at least one file")
    try:
        check_told(inputs, history, reading_options(settings))
        return _planned(kind, settings, inputs, history, out / name, paths=paths, parts=parts)
    except BaseException:
        forget_stdin(inputs)
        raise


def _planned(
    kind: str,
    settings: TrackSettings,
    inputs: list[Input],
    history: list[Input],
    folder: Path,
    *,
    paths: Paths,
    parts: int | None,
) -> TrackPlan:
    """The plan of a run whose inputs and past tracks are found, and whose files go to ``folder``."""
    contender, notes = _model(kind, settings)
    model = None if contender is None else getattr(settings, "model", None)
    if contender is not None and contender.name != model and not Path(str(model)).exists():
        model = contender.name
    run_id = _run_id(kind, settings, inputs, history, contender, paths)
    past = None
    if contender is not None and isinstance(contender.model, Historic) and kind != SCORE:
        past = HISTORY if history else (FIXES if kind != GENERATE else None)
    if history and past is None:
        notes = (
            *notes,
            f"--history is not used: {contender.name if contender else kind} learns nothing from past tracks",
        )
    job = TrackJob(
        kind=kind,
        run_id=run_id,
        settings=settings,
        store=TrackStore(folder, run_id, members=bool(getattr(settings, "members", False))),
        parts=parts or count_parts(inputs),
        history_parts=parts or count_parts(history),
        model=model,
        past=past,
        coastline=paths.coastline,
        calibration=paths.calibration,
        partial=tuple(one.path for one in inputs) if kind == GENERATE else (),
    )
    _check(job, contender)
    if kind == GENERATE:
        job, inputs = _partial_read(job, inputs)
    past_files = tuple(history) if past == HISTORY else ()
    return TrackPlan(
        job,
        tuple(inputs),
        folder.parent,
        folder.name,
        past_files,
        None if contender is None else contender.name,
        notes,
        _beside(past_files, paths),
    )


def _beside(history: Sequence[Input], paths: Paths) -> dict[str, tuple[TrackInput, ...]]:
    """The further files of a run, by what they are for; a folder has no checksum."""
    told = {"history": tuple(TrackInput(one.href, one.sha256) for one in history)}
    for what, path in (("coastline", paths.coastline), ("calibration", paths.calibration)):
        if path is not None:
            told[what] = (TrackInput(str(path), None if path.is_dir() else file_sha256(path)),)
    return {what: files for what, files in told.items() if files}


def _check(job: TrackJob, contender: Contender | None) -> None:
    """Ask what only the job's own step can tell.

    Raises:
        UsageError: a setting of the step, a model that cannot do it, or a calibration that does not fit.
        GeodiffError: a coastline that cannot be read.
    """
    settings = job.settings
    if isinstance(settings, AssociateSettings):
        rules_of(settings)
    if job.coastline is not None:
        Coast.read(job.coastline)
    if job.kind == SCORE:
        from geodiff.tasks.vessels_score import check_calibration

        check_calibration(job)
    if isinstance(settings, GenerateSettings):
        from geodiff.tasks.vessels_generate import that_generates, wanted

        wanted(settings)
        if contender is not None:
            that_generates(contender.model)
        if (settings.start is None) == (not job.partial):
            raise UsageError("give either --start or files of partial tracks to go on from")
        if job.partial and settings.start_time is not None:
            raise UsageError("--start-time would be ignored: a partial track goes on from its last fix; leave it out")


def _partial_read(job: TrackJob, inputs: Sequence[Input]) -> tuple[TrackJob, list[Input]]:
    """A job of generation with its parts, and its inputs with what was read of them."""
    from geodiff.tasks.vessels_generate import parts_of, read_partial, tracks_of

    settings = job.settings
    assert isinstance(settings, GenerateSettings)
    if not inputs:
        return replace(job, parts=parts_of(settings, None)), []
    fixes, counts = read_partial(job.partial, settings)
    read = [replace(one, counts=asdict(count)) for one, count in zip(inputs, counts, strict=True)]
    return replace(job, parts=parts_of(settings, len(tracks_of(fixes, settings)))), read


def _model(kind: str, settings: TrackSettings) -> tuple[Contender | None, tuple[str, ...]]:
    """The model of motion; where none was chosen and the trained one is not installed, a classical rule."""
    name = getattr(settings, "model", None)
    if name is None:
        return None, ()
    found = installed(kind, name)
    note = f"the trained model {name} is not installed: {found} is used"
    return load_contender(found), () if found == name else (note,)


def installed(kind: str, model: str) -> str:
    """The model itself, or a classical rule where it is the default and not installed."""
    absent = model == DEFAULT_MODEL and model not in shipped_models() and not Path(model).exists()
    return FALLBACK[kind] if absent and kind in FALLBACK else model


def _run_id(
    kind: str,
    settings: TrackSettings,
    inputs: Sequence[Input],
    history: Sequence[Input],
    contender: Contender | None,
    paths: Paths,
) -> str:
    """Hash of everything that decides the values; files count by their content."""
    asked = settings.model_dump(mode="json", exclude=SCRATCH)
    layout = None if settings.layout is None else json.loads(read_layout(settings.layout).to_json())
    model = None if contender is None else [contender.name, contender.digest]
    files = [one.sha256 for one in inputs], [one.sha256 for one in history]
    others = [_digest(path) for path in (paths.coastline, paths.calibration)]
    return config_hash([FORMAT, kind, asked, layout, *files, model, others, association_of(settings)])


def association_of(settings: TrackSettings) -> dict[str, Any] | None:
    """All settings of the association, those of the sensor among them; None for another job."""
    return rules_of(settings).model_dump(mode="json") if isinstance(settings, AssociateSettings) else None


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if path.is_dir():  # a folder of a shapefile or a geodatabase
        files = [one for one in sorted(path.rglob("*")) if one.is_file()]
        return config_hash({one.relative_to(path).as_posix(): file_sha256(one) for one in files})
    shape = sorted(path.parent.glob(f"{escape(path.stem)}.*")) if path.suffix.lower() == ".shp" else [path]
    return config_hash([file_sha256(one) for one in shape])
