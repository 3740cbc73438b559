"""Tracks divided into vessels that calibrate scores and vessels that test them; the file of a calibration."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from geodiff.outputs.atomic import explained, replacing, write_json
from geodiff.schema import BoolArray, UsageError
from geodiff.tasks.motion_models import Trained, held_out_fold
from geodiff.tracks import VESSEL_ID, MotionModel
from geodiff.vessels.scoring import Calibration
from geodiff.vessels.scoring_calibrate import FEWEST_VESSELS
from geodiff.vessels.scoring_routes import COLUMNS, Routes
from geodiff.vessels.split import is_held_out

LARGEST_FILE = 256 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Whose tracks calibrate and whose test; no vessel does both.

    Attributes:
        calibrate, test: clean tracks.
        trained: vessels left out because the model was trained on them.
    """

    calibrate: pl.DataFrame
    test: pl.DataFrame
    trained: int


def divide(cleaned: pl.DataFrame, model: MotionModel, *, calibrate_most: int, test_most: int) -> Division:
    """Divide tracks by vessel; vessels that a model was trained on are left out.

    Vessels held out (``vessels.split``) test and the others calibrate; where a model has seen the others, the held-out
    ones are divided, three for calibration to two for tests. Where there are more than the most, those with the
    smallest hash are taken: the same in every run.

    Raises:
        UsageError: too few vessels for either.
    """
    ids = cleaned[VESSEL_ID].drop_nulls().unique().sort().to_numpy()
    seen = model.trained_on(ids) if isinstance(model, Trained) else np.zeros(len(ids), bool)
    order = _mixed(ids)
    held = is_held_out(ids, held_out_fold([model]))
    test: BoolArray = held & ~seen
    calibrate: BoolArray = ~held & ~seen
    if np.count_nonzero(calibrate) < FEWEST_VESSELS:
        calibrate = test & (order < 0.6) | calibrate
        test = test & ~calibrate
    if np.count_nonzero(calibrate) < FEWEST_VESSELS or not test.any():
        raise UsageError(
            f"{np.count_nonzero(calibrate)} vessels to calibrate with and {np.count_nonzero(test)} to test on that the "
            f"model was not trained on: {FEWEST_VESSELS} and some are needed"
        )
    chosen = [_fewest(ids[rows], order[rows], most) for rows, most in ((calibrate, calibrate_most), (test, test_most))]
    calibrate_tracks, test_tracks = (cleaned.filter(pl.col(VESSEL_ID).is_in(each.tolist())) for each in chosen)
    return Division(calibrate_tracks, test_tracks, int(seen.sum()))


def _mixed(ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A number in [0, 1) for each vessel, by its name alone (Knuth 1998, section 6.4: multiplicative hashing)."""
    product = (ids.astype(np.uint64) + np.uint64(12345)) * np.uint64(0xD1B54A32D192ED03)
    return (product >> np.uint64(11)).astype(np.float64) / 2.0**53


def _fewest(
    ids: np.ndarray[tuple[int], np.dtype[np.int64]], order: np.ndarray[tuple[int], np.dtype[np.float64]], most: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return ids[np.argsort(order, kind="stable")[:most]]


def save_calibration(calibration: Calibration, path: Path) -> Path:
    """Write a calibration as JSON, whole or not at all; returns the path."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, json.loads(calibration.to_json()))
    return path


def routes_path(calibration: Path) -> Path:
    """File of the routes that belong to a calibration, beside it."""
    return calibration.with_suffix(".routes.parquet")


def save_routes(routes: Routes, calibration: Path) -> Path:
    """Write where vessels pass beside the file of a calibration, whole or not at all; returns the path."""
    path = routes_path(calibration)
    table = pl.DataFrame({name: getattr(routes, name) for name in COLUMNS})
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            table.write_parquet(temporary, compression="zstd")
    return path


def load_routes(path: Path, calibration: Calibration) -> Routes | None:
    """The routes that a calibration was made with, from beside its file; None where it says nothing of routes.

    Raises:
        UsageError: no such file, or the routes of another calibration.
    """
    if not calibration.routes:
        return None
    beside = routes_path(path)
    try:
        table = pl.read_parquet(beside, columns=list(COLUMNS), glob=False)
        routes = Routes(**{name: table[name].to_numpy() for name in COLUMNS})
        fits = routes.digest == calibration.routes
    except OSError as error:
        told = error.strerror or "no such file"
        raise UsageError(
            f"{beside}: the routes of the calibration cannot be read ({told}); move both files together"
        ) from None
    except pl.exceptions.PolarsError:
        fits = False
    if not fits:
        raise UsageError(f"{beside}: not the routes that {path.name} was made with: keep both files of one evaluation")
    return routes


def load_calibration(path: Path) -> Calibration:
    """Read a calibration and check all of it.

    Raises:
        UsageError: no such file, or not a calibration.
    """
    try:
        if os.stat(path).st_size > LARGEST_FILE:
            raise UsageError(f"{path}: larger than any calibration; is it another file?")
        plain = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: no calibration can be read there ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UsageError(
            f"{path}: no JSON; calibrations are written by geodiff evaluate vessels --task score"
        ) from None
    if not isinstance(plain, dict):
        raise UsageError(f"{path}: not a calibration, its JSON is no object")
    return Calibration.parse(plain, where=str(path))
