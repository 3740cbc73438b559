"""Anomaly scores part by part, with p-values from a calibration of a file or of the input's own vessels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.outputs.atomic import explained, replacing
from geodiff.tasks.anomaly_data import load_calibration, load_routes, save_calibration
from geodiff.tasks.motion_models import load_motion_model
from geodiff.tasks.vessels_context import open_traffic, place_of
from geodiff.tasks.vessels_job import TrackJob
from geodiff.tasks.vessels_settings import ScoreSettings
from geodiff.tracks import ANOMALOUS, REASON, SHIP_TYPE, STATE, TRACK_ID, VESSEL_ID, MotionModel
from geodiff.vessels.scoring import Calibration
from geodiff.vessels.scoring_calibrate import FEWEST_VESSELS, TooFewVessels, learn
from geodiff.vessels.scoring_embed import Embedder, KinematicEmbedder
from geodiff.vessels.scoring_fixes import ELSEWHERE, NEEDED, PIECE, Fixes
from geodiff.vessels.scoring_routes import COLUMNS, Routes
from geodiff.vessels.scoring_tracks import TRACK_SCHEMA, Scored, check_alpha, finest_alpha, score_tracks
from geodiff.vessels.scoring_traffic import Traffic

ROUTES: Final = "routes"
"""Folder of the work folder with where vessels pass."""

FOLDS: Final = 2
"""Halves of the vessels of an input that is its own calibration: each is judged by the other."""


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Scores tables of whole vessels.

    Attributes:
        model, embedder: what the calibrations were made with.
        calibrations: one for all vessels, or for each fold that of the other one.
        alpha: nominal false-alarm rate.
        traffic, routes: of all vessels; those of a table alone when None.
    """

    model: MotionModel
    embedder: Embedder
    calibrations: tuple[Calibration, ...]
    alpha: float
    traffic: Traffic | None = None
    routes: Routes | None = None

    @classmethod
    def of(cls, job: TrackJob) -> Self:
        """Open what ``prepare_calibration`` left."""
        settings = job.settings
        assert isinstance(settings, ScoreSettings)
        model = load_motion_model(str(job.model))
        found = _stored(job)
        embedder = embedder_of(model, found[0].embedder)
        traffic = open_traffic(job.work / "traffic_all")
        routes = open_routes(job.work / ROUTES) if job.calibration is None else load_routes(job.calibration, found[0])
        return cls(model, embedder, found, _alpha(settings, found), traffic, routes)

    def score(self, cleaned: pl.DataFrame) -> tuple[Scored, dict[str, int]]:
        """Score a table; see ``scoring_tracks.score_tracks``. Fixes flagged carry ``anomalous``, as do tracks."""
        numbered = cleaned.with_row_index("_place")
        fold = fold_of(cleaned[VESSEL_ID], len(self.calibrations))
        parts = []
        for number, calibration in enumerate(self.calibrations):
            rows = numbered.filter(pl.Series(fold == number))
            parts.append(
                score_tracks(
                    rows,
                    self.model,
                    calibration,
                    embedder=self.embedder,
                    alpha=self.alpha,
                    traffic=self.traffic,
                    routes=self.routes,
                )
            )
        fixes = pl.concat([part.fixes for part in parts]).sort("_place").drop("_place")
        tracks = pl.concat([part.tracks for part in parts])
        if ELSEWHERE in fixes.columns:
            fixes = fixes.drop(ELSEWHERE).with_columns(pl.col(TRACK_ID).str.replace(PIECE, ""))
            tracks = whole_tracks(tracks, self.alpha)
        tracks = tracks.sort("vessel_id", "track_id")
        flagged = (pl.col("p_value") <= self.alpha).fill_null(False)
        of_track = tracks.select("track_id", pl.col("p_value").alias("track_p_value"))
        fixes = fixes.with_columns(flagged.alias(ANOMALOUS)).join(
            of_track, on="track_id", how="left", maintain_order="left"
        )
        counts = {
            "fixes scored": int(fixes["p_value"].count()),
            "fixes flagged": int(fixes[ANOMALOUS].sum()),
            "tracks scored": len(tracks),
            "tracks flagged": int(tracks[ANOMALOUS].sum()),
        }
        return Scored(fixes, tracks), counts


def whole_tracks(pieces: pl.DataFrame, alpha: float) -> pl.DataFrame:
    """A line for each track, of the lines of its pieces; columns of ``TRACK_SCHEMA``.

    Its strangest piece speaks for it; being chosen among several, its p-value counts as many times (Bonferroni).
    """
    worst = pieces.sort("p_value", "score", descending=[False, True], nulls_last=True)
    moored = (pl.col("moored_share") * pl.col("fixes")).sum() / pl.col("fixes").sum()
    tracks = worst.group_by(pl.col(TRACK_ID).str.replace(PIECE, ""), maintain_order=True).agg(
        pl.col(VESSEL_ID, SHIP_TYPE, "ship_group").sort_by("fixes").last(),
        pl.col("start").min(),
        pl.col("end").max(),
        pl.col("fixes", "flagged").sum(),
        moored.alias("moored_share"),
        pl.col("score").max(),
        (pl.col("p_value").min() * pl.len()).clip(upper_bound=1.0),
        pl.col(REASON).first(),
    )
    anomalous = (pl.col("p_value") <= alpha).alias(ANOMALOUS)
    tracks = tracks.with_columns(anomalous, pl.when(anomalous).then(REASON).alias(REASON))
    return tracks.select(pl.col(name).cast(kind) for name, kind in TRACK_SCHEMA.items())


def scorer_of(cleaned: pl.DataFrame, settings: ScoreSettings, calibration: Path | None) -> Scorer:
    """A scorer of a table in memory.

    Raises:
        UsageError: a calibration that does not fit, or too few vessels without one.
    """
    model, fixes = load_motion_model(settings.model), Fixes.from_table(cleaned)
    traffic = Traffic.of(fixes)
    if calibration is not None:
        found = load_calibration(calibration)
        routes = load_routes(calibration, found)
        alpha = _alpha(settings, (found,))
        return Scorer(model, embedder_of(model, found.embedder), (found,), alpha, traffic, routes)
    embedder, own = embedder_of(model), Routes.joined([Routes.of(fixes)])
    made = calibrate_folds([cleaned.lazy()], model, embedder, settings, (traffic, own))
    return Scorer(model, embedder, made, _alpha(settings, made), traffic, own)


def _alpha(settings: ScoreSettings, calibrations: Sequence[Calibration]) -> float:
    """The false-alarm rate that was asked for, else the usual one, or the least that can be told."""
    return finest_alpha(calibrations) if settings.alpha is None else settings.alpha


def alpha_of(job: TrackJob) -> float:
    """At which false-alarm rate a run flags, whether it was told one or not."""
    settings = job.settings
    assert isinstance(settings, ScoreSettings)
    return _alpha(settings, _stored(job))


def fold_of(vessel_id: pl.Series, folds: int) -> npt.NDArray[np.int64]:
    """Fold of each vessel, by its number alone; missing ones are in the first."""
    return np.floor(place_of(vessel_id) * folds).astype(np.int64)


def embedder_of(model: MotionModel, name: str | None = None) -> Embedder:
    """The latent space of a trained model, plain statistics for a rule; or the one that a calibration names.

    Raises:
        UsageError: the calibration was made with another embedder.
    """
    from geodiff.tasks.track_denoiser import DenoiserMotion

    plain = KinematicEmbedder()
    if name == plain.name or not isinstance(model, DenoiserMotion):
        return plain
    from geodiff.tasks.track_embed import DenoiserEmbedder

    return DenoiserEmbedder(model)


def check_calibration(job: TrackJob) -> None:
    """Refuse a calibration file that does not fit, before anything is read.

    Raises:
        UsageError: no such file, none of the model, or too coarse for the rate.
    """
    settings = job.settings
    assert isinstance(settings, ScoreSettings)
    if job.calibration is not None:
        found = load_calibration(job.calibration)
        model = load_motion_model(str(job.model))
        found.require(model, embedder_of(model, found.embedder))
        load_routes(job.calibration, found)
        if settings.alpha is not None:
            check_alpha(settings.alpha, found)


def _stored(job: TrackJob) -> tuple[Calibration, ...]:
    if job.calibration is not None:
        return (load_calibration(job.calibration),)
    return tuple(load_calibration(job.work / f"calibration_{fold}.json") for fold in range(FOLDS))


def prepare_calibration(job: TrackJob) -> None:
    """Lay out where vessels pass; calibrate on the input's own vessels. Not where it was given or an earlier run did.

    Raises:
        TooFewVessels: to calibrate on.
        UsageError: too few for the rate.
    """
    settings = job.settings
    assert isinstance(settings, ScoreSettings)
    paths = [job.work / f"calibration_{fold}.json" for fold in range(FOLDS)]
    if job.calibration is not None or all(path.exists() for path in paths):
        return
    if not (job.work / ROUTES / "done").exists():
        store_routes(job)
    parts = [pl.scan_parquet(job.path("cleaned", part), glob=False) for part in range(job.parts)]
    around = open_traffic(job.work / "traffic_all"), open_routes(job.work / ROUTES)
    model = load_motion_model(str(job.model))
    made = calibrate_folds(parts, model, embedder_of(model), settings, around)
    for path, calibration in zip(paths, made, strict=True):
        save_calibration(calibration, path)


def store_routes(job: TrackJob) -> None:
    """Write where the vessels of the input pass, in files that workers map into memory."""
    folder = job.work / ROUTES
    paths = (job.path("cleaned", part) for part in range(job.parts))
    tables = (pl.read_parquet(path, columns=[*NEEDED, STATE], glob=False) for path in paths)
    routes = Routes.joined([Routes.of(Fixes.from_table(table)) for table in tables])
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in COLUMNS:
            np.save(folder / f"{name}.npy", getattr(routes, name))
        with replacing(folder / "done") as done:
            done.touch()


def open_routes(folder: Path) -> Routes:
    """What ``store_routes`` wrote."""
    return Routes(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS})


def calibrate_folds(
    parts: Sequence[pl.LazyFrame],
    model: MotionModel,
    embedder: Embedder,
    settings: ScoreSettings,
    around: tuple[Traffic, Routes],
) -> tuple[Calibration, ...]:
    """Calibrations for both halves of the vessels, each learned from the other half.

    What is scored is then compared with vessels other than itself, of which most should be sound: the share that are
    not makes p-values larger, and so fewer are flagged.

    Args:
        parts: cleaned tables of whole vessels.
        model, embedder: to be calibrated.
        settings: of the job.
        around: traffic of all vessels, and where they pass.

    Raises:
        UsageError: too few vessels, or too few for the rate.
    """
    ids = pl.concat([part.select(pl.col(VESSEL_ID).drop_nulls().unique()) for part in parts]).collect()[VESSEL_ID]
    fold, order = fold_of(ids, FOLDS), place_of(ids)
    if (fewest := min(np.bincount(fold, minlength=FOLDS))) < FEWEST_VESSELS:
        raise TooFewVessels(
            f"{len(ids)} vessels are too few to tell what is usual among them (the smaller half has {fewest}, and "
            f"{FEWEST_VESSELS} are needed): give --calibration, or more data"
        )
    made: list[Calibration] = []
    for number in range(FOLDS):
        others = np.flatnonzero(fold != number)
        # The order within a fold begins at the fold: the first ones are any.
        chosen = ids[others[np.argsort(order[others], kind="stable")[: settings.calibrate_most]]].sort()
        some = pl.concat([part.filter(pl.col(VESSEL_ID).is_in(chosen.implode())) for part in parts]).collect()
        calibration = learn(
            some, model, embedder, members=settings.ensemble, seed=settings.seed, traffic=around[0], routes=around[1]
        ).calibration()
        if settings.alpha is not None:
            check_alpha(settings.alpha, calibration)
        made.append(calibration)
    return tuple(made)
