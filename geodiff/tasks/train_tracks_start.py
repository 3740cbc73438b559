"""Trains the denoiser on files of fixes, and calibrates it on vessels set aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.rng import generator
from geodiff.schema import GeodiffError
from geodiff.tasks.track_calibration import fit_calibration
from geodiff.tasks.track_data import TrackData, split_tracks
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tasks.train_tracks import train_tracks
from geodiff.tasks.train_tracks_settings import TrackTrainConfig
from geodiff.tracks import TrackQuery
from geodiff.vessels.cases import Tracks, forecast_cases, impute_cases
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.read import read_fixes
from geodiff.vessels.spans import usual_spans
from geodiff.vessels.usual_rules import usual_rules
from geodiff.vessels.window_fixes import ASKED
from geodiff.vessels.windows import Windows
from geodiff.vessels.windows_draw import DrawSettings

Floats = npt.NDArray[np.float64]

CALIBRATION_MEMBERS = 16


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
    data = load_track_data(files, tell=tell)
    weights = train_tracks(data, out, config, start_from=start_from, resume=resume)
    calibrate_tracks(weights, data, drawn=config.drawn, windows=config.calibration_windows, seed=config.seed)
    return weights


def load_track_data(files: Sequence[Path], *, tell: Callable[[str], None] | None = None) -> TrackData:
    """Read and clean files of fixes and split them for a training.

    Args:
        files: each is one source; names of files stand in the card.
        tell: is given a line for each file.

    Raises:
        GeodiffError: a file that cannot be read, or nothing to learn from.
    """
    tables: dict[str, pl.DataFrame] = {}
    for path in files:
        fixes, counts = read_fixes([path])
        tables[path.stem] = clean_fixes(fixes, usual_rules(fixes))
        if tell:
            kept = tables[path.stem].filter(pl.col("state") == "observed").height
            tell(f"{path.name}: {counts.read} rows read, {counts.kept} fixes, {kept} of them kept by cleaning")
    return split_tracks(tables)


def calibrate_tracks(
    weights: Path, data: TrackData, *, drawn: DrawSettings, windows: int, seed: int = 0
) -> dict[str, Any]:
    """Find the spread of members and the reach of ellipses on vessels set aside, and write them into the card.

    Args:
        weights: of a training, with their card, which is rewritten.
        data: of the training; ``data.held`` has the vessels set aside.
        drawn: what is asked of them.
        windows: questions asked, a third of them drawn as in training, the others as they are mostly asked.
        seed: of the draw and of the noise.

    Returns:
        The calibration as it stands in the card.

    Raises:
        GeodiffError: too few tracks to calibrate on.
    """
    model = DenoiserMotion.load(weights).with_history(data.history)
    parts = [_ask(model, *questions, seed) for questions in _drawn(data, drawn, windows // 3, seed)]
    parts += [_ask(model, *questions, seed) for questions in _usual(data, windows - windows // 3, seed)]
    joined = Windows.joined([part[0] for part in parts])
    members, truth = np.concatenate([part[1] for part in parts], 1), np.concatenate([part[2] for part in parts])
    calibration = fit_calibration(members, truth, joined).to_json()
    _amend(weights, {"track_calibration": calibration})
    return calibration


Questions = tuple[list[TrackQuery], Floats, Floats]
"""Questions of one stretch each, with the longitudes and latitudes (n, ASKED) that are true."""


def _ask(
    model: DenoiserMotion, queries: list[TrackQuery], lon: Floats, lat: Floats, seed: int
) -> tuple[Windows, Floats, Floats]:
    """Windows, members and truth in the model's units."""
    found = model.sample(queries, members=CALIBRATION_MEMBERS, seed=seed)
    return found.windows, found.members, found.windows.to_payload(lon, lat)


def _drawn(data: TrackData, drawn: DrawSettings, count: int, seed: int) -> Iterator[Questions]:
    """Questions of all lengths and any density of fixes, as in training."""
    rng = generator(seed, "track calibration")
    for begin in range(0, count, BATCH):
        draws = data.held.draw(min(BATCH, count - begin), rng, drawn)
        yield draws.queries, draws.lon_deg, draws.lat_deg


def _usual(data: TrackData, count: int, seed: int) -> Iterator[Questions]:
    """Questions as they are mostly asked: gaps and forecasts, most of vessels under way, with all fixes around them."""
    tracks = Tracks.of(data.aside)
    gaps, horizons = (usual_spans(tracks.interval_s, task=task) for task in ("impute", "forecast"))
    each = max(count // (2 * len(gaps)), 1)
    cases = [case for gap in gaps for case in impute_cases(tracks, gap, most=each, seed=seed)]
    cases += forecast_cases(tracks, horizons, most=each * len(gaps), seed=seed)
    for begin in range(0, len(cases), BATCH):
        some = cases[begin : begin + BATCH]
        lon, lat = (
            np.stack([np.append(truth, np.full(ASKED - len(truth), truth[-1])) for truth in truths])
            for truths in zip(*((case.truth_lon_deg, case.truth_lat_deg) for case in some), strict=True)
        )
        yield [case.query for case in some], lon, lat


def _amend(weights: Path, changes: Mapping[str, Any]) -> None:
    """Add to the card beside the weights."""
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GeodiffError(f"model card {path} cannot be read: {error}") from None
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({**card, **changes}, indent=2, sort_keys=True) + "\n")
    partial.replace(path)
