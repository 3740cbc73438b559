"""Questions with known answers, by which the regions of a trained model are calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.rng import generator
from geodiff.schema import GeodiffError
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tracks import TrackQuery
from geodiff.vessels.cases import Tracks, forecast_cases, impute_cases
from geodiff.vessels.spans import usual_spans
from geodiff.vessels.window_fixes import ASKED
from geodiff.vessels.windows import Windows
from geodiff.vessels.windows_draw import DrawSettings, TrackPool

Floats = npt.NDArray[np.float64]

MEMBERS = 16
"""Of the ensembles that regions are calibrated for."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """At most ``BATCH`` questions of one stretch each, with the longitudes and latitudes (n, ASKED) that are true."""

    queries: list[TrackQuery]
    lon_deg: Floats
    lat_deg: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Questions with their answers: windows, members (member, n, ASKED, 2) and truth (n, ASKED, 2) in model units."""

    windows: Windows
    members: Floats
    truth: Floats

    @property
    def all(self) -> tuple[Floats, Floats, Windows]:
        """As ``fit_calibration`` takes them."""
        return self.members, self.truth, self.windows

    @classmethod
    def joined(cls, parts: Sequence[Answered]) -> Answered:
        """All of them together.

        Raises:
            GeodiffError: there are none.
        """
        if not parts:
            raise GeodiffError("no track is long enough to be asked about: give more tracks to calibrate on")
        return cls(
            Windows.joined([part.windows for part in parts]),
            np.concatenate([part.members for part in parts], 1),
            np.concatenate([part.truth for part in parts]),
        )


def draw_questions(table: pl.DataFrame, drawn: DrawSettings, count: int, seed: int) -> list[Questions]:
    """About ``count`` questions, a third of them drawn as in training, the others as they are mostly asked.

    Args:
        table: cleaned fixes of tracks.
        drawn: what is asked of the first third.
        count: questions; fewer where the tracks hold fewer.
        seed: of the draw.

    Raises:
        GeodiffError: no track of four fixes, or none as long as what is asked.
    """
    return [*_drawn(TrackPool(table), drawn, count // 3, seed), *usual_questions(table, count - count // 3, seed)]


def ask(model: DenoiserMotion, questions: Sequence[Questions], seed: int) -> Answered:
    """What the model says, before calibration, beside what is true.

    Raises:
        GeodiffError: there are no questions.
    """
    answers = []
    for each in questions:
        found = model.sample(each.queries, members=MEMBERS, seed=seed)
        answers.append(Answered(found.windows, found.members, found.windows.to_payload(each.lon_deg, each.lat_deg)))
    return Answered.joined(answers)


def _drawn(pool: TrackPool, drawn: DrawSettings, count: int, seed: int) -> Iterator[Questions]:
    """Questions of all lengths and any density of fixes, as in training."""
    rng = generator(seed, "track calibration")
    for begin in range(0, count, BATCH):
        draws = pool.draw(min(BATCH, count - begin), rng, drawn)
        yield Questions(draws.queries, draws.lon_deg, draws.lat_deg)


def usual_questions(table: pl.DataFrame, count: int, seed: int) -> Iterator[Questions]:
    """Questions as they are mostly asked: gaps and forecasts, most of vessels under way, with all fixes around them.

    Arguments are those of ``draw_questions``; there may be none.
    """
    tracks = Tracks.of(table)
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
        yield Questions([case.query for case in some], lon, lat)
