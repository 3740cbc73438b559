"""One run over tracks as a value: what a worker needs to do any part of it, in this process or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from geodiff.outputs.atomic import explained, read_json, replacing, write_json
from geodiff.outputs.ledger import work_folder
from geodiff.outputs.track_store import TrackStore
from geodiff.schema import GeodiffError
from geodiff.tasks.vessels_settings import TrackSettings
from geodiff.tracks import OBSERVED, REASON, STATE
from geodiff.vessels.clean_rules import NO_IDENTITY
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
