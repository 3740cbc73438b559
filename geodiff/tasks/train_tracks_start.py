"""Trains the denoiser on files of fixes, and calibrates it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from geodiff.tasks.track_data import TrackData, split_tracks
from geodiff.tasks.train_loop import is_first_process
from geodiff.tasks.train_tracks import train_tracks
from geodiff.tasks.train_tracks_calibrate import calibrate_tracks
from geodiff.tasks.train_tracks_settings import TrackTrainConfig
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.read import read_fixes
from geodiff.vessels.usual_rules import usual_rules


def start_track_training(
    files: Sequence[Path],
    out: Path,
    config: TrackTrainConfig,
    *,
    start_from: Path | None = None,
    resume: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Train the denoiser on files of fixes and calibrate it; returns the path of the weights.

    Args:
        files: of fixes, in any layout.
        out: folder for weights, card and the state to resume from.
        config: of the training.
        start_from: weights to begin with; a new model when None.
        resume: go on from where an earlier training in ``out`` stopped.
        tell: is given lines on the data.

    Raises:
        GeodiffError: data that cannot be read, or a resumed training with other settings.
    """
    data = load_track_data(files, fold=config.fold, tell=tell)
    weights = train_tracks(data, out, config, start_from=start_from, resume=resume, tell=tell)
    if is_first_process():
        calibrate_tracks(weights, data, drawn=config.drawn, windows=config.calibration_windows, seed=config.seed)
    return weights


def load_track_data(files: Sequence[Path], *, fold: int = 0, tell: Callable[[str], None] | None = None) -> TrackData:
    """Read and clean files of fixes and split them for a training.

    Args:
        files: each is one source; names of files stand in the card.
        fold: which tenth of the vessels is held out.
        tell: is given a line for each file.

    Raises:
        GeodiffError: a file that cannot be read, or nothing to learn from.
    """
    tables: dict[str, pl.DataFrame] = {}
    for path in files:
        fixes, counts = read_fixes([path])
        name = path.stem if path.stem not in tables else f"{path.stem} ({len(tables) + 1})"
        tables[name] = clean_fixes(fixes, usual_rules(fixes))
        if tell:
            kept = tables[name].filter(pl.col("state") == "observed").height
            tell(f"{path.name}: {counts.read} rows read, {counts.kept} fixes, {kept} of them kept by cleaning")
    return split_tracks(tables, fold)
