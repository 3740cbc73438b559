"""The anomaly benchmark: calibrate on clean vessels, test on others, with anomalies put in, beside simple rules."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from geodiff.config import Settings
from geodiff.schema import BoolArray, UsageError
from geodiff.tasks.job import Progress
from geodiff.tracks import ANOMALOUS, TRACK_ID, VESSEL_ID, MotionModel
from geodiff.vessels.baselines import Hermite
from geodiff.vessels.inject import INJECTED, can_take, inject
from geodiff.vessels.scoring import LENGTHS, Calibration, Judged, ask, judge
from geodiff.vessels.scoring_blocks import predict_hidden
from geodiff.vessels.scoring_calibrate import learn
from geodiff.vessels.scoring_embed import Embedder
from geodiff.vessels.scoring_evidence import BEHAVIOUR, KINDS, POSITION, ROUTE, plain_scores
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints
from geodiff.vessels.scoring_routes import Routes
from geodiff.vessels.scoring_tails import cauchy_combination
from geodiff.vessels.scoring_tracks import check_alpha, finest_alpha
from geodiff.vessels.scoring_traffic import Traffic

log = logging.getLogger(__name__)

COMBINED, CAUCHY = "combined", "unweighted"
"""The score, and the same evidence combined without learned weights."""

UNTAUGHT: Final = "combined, kind not taught"
"""The score by a calibration that has seen every kind of anomaly but the one that is looked for."""

ABLATIONS: Final = {"position only": POSITION, "behaviour only": BEHAVIOUR, "route only": ROUTE}


class ScoringSettings(Settings):
    """What decides the figures.

    Attributes:
        ratios: shares of the tracks that are anomalous.
        kinds: of anomalies.
        seeds: repetitions with other tracks, places and sizes.
        alpha: nominal false-alarm rate at which fixes and tracks are flagged; None: ``ALPHA``, or the least that the
            vessels can tell where that is more.
        lengths: of hidden blocks, in fixes.
        members: of the model's ensemble.
        calibrate_most, test_most: most vessels of either part.
    """

    ratios: tuple[float, ...] = Field((0.01, 0.02, 0.05, 0.1), min_length=1)
    kinds: tuple[str, ...] = Field(INJECTED, min_length=1)
    seeds: int = Field(5, ge=1, le=100)
    alpha: float | None = Field(None, gt=0, lt=1)
    lengths: tuple[int, ...] = Field(LENGTHS, min_length=1, max_length=8)
    members: int = Field(16, ge=0, le=4096)
    calibrate_most: int = Field(3000, ge=30)
    test_most: int = Field(1200, ge=1)

    @field_validator("ratios")
    @classmethod
    def _shares(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < each <= 0.5 for each in ratios):
            raise ValueError("a ratio lies above 0 and is at most 0.5")
        return tuple(sorted(set(ratios)))

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [each for each in kinds if each not in INJECTED]
        if wrong:
            raise ValueError(f"no anomaly is called {wrong[0]!r}: choose among {', '.join(INJECTED)}")
        return kinds


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of a set of tracks by every scorer.

    Attributes:
        fixes: what was scored.
        judged: by the calibration.
        untaught: kind -> judged by the one that was not taught it.
        fix, track: scorer -> (n,) and (t,) scores, but for those of the kind that is looked for.
        label: (n,) True for an anomalous fix.
        seconds: time that asking and judging took.
    """

    fixes: Fixes
    judged: Judged
    untaught: Mapping[str, Judged]
    fix: Mapping[str, Floats]
    track: Mapping[str, Floats]
    label: BoolArray
    seconds: float

    def of(self, scorer: str, level: str, kind: str) -> Floats:
        """(n,) scores of fixes or (t,) of tracks, where anomalies of one kind are looked for."""
        if scorer == UNTAUGHT:
            judged = self.untaught[kind]
            return judged.score if level == "fix" else judged.track_score
        return self.fix[scorer] if level == "fix" else self.track[scorer]

    def judged_by(self, scorer: str, kind: str) -> Judged | None:
        """Who tells p-values; None for a scorer without."""
        return self.judged if scorer == COMBINED else self.untaught[kind] if scorer == UNTAUGHT else None


@dataclass(frozen=True, slots=True, eq=False)
class Altered:
    """One injection: its scores, and which tracks it altered, in random order.

    Attributes:
        kind, seed: of the injection.
        scores: of the altered tracks, and of what else their vessels did.
        tracks: (k,) numbers in ``scores.fixes`` of the altered tracks.
        details: (k,) their anomalies in words.
        refused: tracks that could not take the anomaly.
    """

    kind: str
    seed: int
    scores: Scores
    tracks: Ints
    details: Sequence[str]
    refused: int


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the benchmark found.

    Attributes:
        calibration: as it was learned.
        clean: scores of the clean test tracks.
        pool: (t,) bool, clean tracks that can take an anomaly: among these the benchmark is run.
        altered: every injection.
        alpha: nominal false-alarm rate at which fixes and tracks are flagged.
    """

    calibration: Calibration
    clean: Scores
    pool: BoolArray
    altered: Sequence[Altered]
    alpha: float


def run_benchmark(
    calibrate_tracks: pl.DataFrame,
    test_tracks: pl.DataFrame,
    model: MotionModel,
    settings: ScoringSettings,
    *,
    embedder: Embedder | None = None,
    traffic: Traffic | None = None,
    routes: Routes | None = None,
    progress: Progress,
) -> Found:
    """Calibrate, score clean test tracks, inject and score again.

    Args:
        calibrate_tracks, test_tracks: clean tracks of different vessels.
        model: of the motion.
        settings: of the benchmark.
        embedder: of behaviour; the plain one when None.
        traffic: of all vessels; those of each part alone when None.
        routes: where others passed; without, nothing is said of routes.
        progress: told of the clean tracks and of the injections.

    Raises:
        UsageError: too few vessels, a nominal rate that they cannot tell, or fewer than two test tracks that can take
            an anomaly.
    """
    lessons = learn(
        calibrate_tracks,
        model,
        embedder,
        lengths=settings.lengths,
        members=settings.members,
        traffic=traffic,
        routes=routes,
    )
    calibration = lessons.calibration()
    alpha = finest_alpha([calibration]) if settings.alpha is None else settings.alpha
    check_alpha(alpha, calibration)
    untaught = {kind: lessons.calibration([each for each in INJECTED if each != kind]) for kind in settings.kinds}
    scorer = _Scorer(model, settings, embedder, traffic, routes, calibration, untaught)
    fixes = Fixes.from_table(test_tracks)
    pool = np.zeros(fixes.tracks, bool)
    pool[fixes.track[can_take(fixes)[:, 0]]] = True
    if (able := int(pool.sum())) < 2:
        raise UsageError(
            f"{able} of {fixes.tracks} test tracks are long and fast enough to take an anomaly, and two at least are "
            "needed: give more tracks of moving vessels"
        )
    clean = scorer.score(fixes, settings.kinds, np.zeros(len(fixes), bool))
    progress("clean tracks", 1, 1)
    takers = test_tracks.filter(pl.col(TRACK_ID).is_in(fixes.track_id[pool].tolist()))
    altered = []
    for each in _altered(takers, test_tracks, scorer, settings):
        altered.append(each)
        progress("injections", len(altered), settings.seeds * len(settings.kinds))
    return Found(calibration, clean, pool, altered, alpha)


def _altered(
    takers: pl.DataFrame,
    all_tracks: pl.DataFrame,
    scorer: _Scorer,
    settings: ScoringSettings,
) -> Iterator[Altered]:
    for seed in range(settings.seeds):
        for kind in settings.kinds:
            made = inject(takers, kind, share=max(settings.ratios), seed=seed)
            if not made.tracks.height:
                log.warning("no track can take the anomaly %s (%d tried)", kind, made.refused)
            table = _with_neighbours(made.fixes, all_tracks)
            fixes = Fixes.from_table(table)
            label = table[ANOMALOUS].to_numpy()[fixes.row]
            scores = scorer.score(fixes, (kind,), label)
            number = {name: k for k, name in enumerate(fixes.track_id.tolist())}
            tracks = np.array([number[name] for name in made.tracks[TRACK_ID]], np.int64)
            yield Altered(kind, seed, scores, tracks, made.tracks["detail"].to_list(), made.refused)


def _with_neighbours(altered: pl.DataFrame, all_tracks: pl.DataFrame) -> pl.DataFrame:
    """Altered tracks and what else their vessels did, but for tracks that a delayed one would run into."""
    spans = altered.group_by(VESSEL_ID).agg(pl.col("time").min().alias("_from"), pl.col("time").max().alias("_to"))
    others = all_tracks.filter(~pl.col(TRACK_ID).is_in(altered[TRACK_ID].unique().implode()))
    ends = others.group_by(TRACK_ID, VESSEL_ID).agg(pl.col("time").min().alias("_a"), pl.col("time").max().alias("_b"))
    free = ends.join(spans, on=VESSEL_ID).filter((pl.col("_b") < pl.col("_from")) | (pl.col("_a") > pl.col("_to")))
    kept = others.join(free.select(TRACK_ID), on=TRACK_ID, how="semi")
    return pl.concat([altered, kept.with_columns(pl.lit(False).alias(ANOMALOUS))])


@dataclass(frozen=True, slots=True, eq=False)
class _Scorer:
    """Scores tables alike: the clean one and every altered one."""

    model: MotionModel
    settings: ScoringSettings
    embedder: Embedder | None
    traffic: Traffic | None
    routes: Routes | None
    calibration: Calibration
    untaught: Mapping[str, Calibration]

    def score(self, fixes: Fixes, kinds: Sequence[str], label: BoolArray) -> Scores:
        """Scores, also by the calibrations that were not taught each of ``kinds``."""
        began = time.perf_counter()
        asked = ask(
            fixes,
            self.model,
            self.embedder,
            lengths=self.settings.lengths,
            members=self.settings.members,
            traffic=self.traffic,
            routes=self.routes,
        )
        judged = judge(fixes, asked, self.calibration)
        seconds = time.perf_counter() - began
        of_fix = {COMBINED: judged.score, CAUCHY: cauchy_combination(judged.tails)}
        for name, kind in ABLATIONS.items():
            of_fix[name] = np.nan_to_num(judged.tails[:, KINDS.index(kind)])
        of_fix |= plain_scores(fixes) | {"Hermite residual": _hermite_km(fixes)}
        of_track = {
            name: np.maximum.reduceat(score, fixes.first[:-1]) if fixes.tracks else np.empty(0)
            for name, score in of_fix.items()
        }
        others = {kind: judge(fixes, asked, self.untaught[kind]) for kind in kinds}
        return Scores(fixes, judged, others, of_fix, of_track | {COMBINED: judged.track_score}, label, seconds)


def _hermite_km(fixes: Fixes) -> Floats:
    """(n,) distance of each fix from the cubic through its neighbours; 0 for moored vessels."""
    misses = predict_hidden(Hermite(), fixes, 1, members=0, seed=0)
    out = np.zeros(len(fixes))
    out[misses.fix] = np.hypot(misses.along_km, misses.across_km)
    return out
