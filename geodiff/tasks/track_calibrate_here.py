"""Calibration where a model is used: regions that hold in waters unlike those that it was trained and calibrated in.

Known fixes of the tracks at hand are hidden, the model says where they were, and regions take the reach that holds
their share of the answers, as in a calibration after a training. How fast errors grow differs between coasts more than
between the vessels of one: regions from minute data of the United States hold 38 to 55 % instead of 50 of hourly
tracks off Western Australia, those calibrated there 48 to 54, and what is drawn towards the classical prediction errs
up to 8 % less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from geodiff.schema import GeodiffError
from geodiff.tasks.track_calibration import TrackCalibration, fit_calibration
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_questions import ask, usual_questions
from geodiff.tasks.vessels_context import place_of
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, MotionModel

FEWEST_VESSELS = 100
"""A share that so many vessels tell, each of which counts as one draw, has a standard error of five points."""

FEWEST_OF_CLASS = 50
"""Vessels that tell of one kind of stretch, state and class of lead."""

MOST_VESSELS, MOST_FIXES = 1000, 2_000_000
"""Of more fixes each vessel shows its first ones alone, and fewer vessels are taken, ``FEWEST_VESSELS`` three times."""

QUESTIONS = 4000
"""Some twenty seconds of a core."""

KNOWN_SHARE = 0.5
"""Where the model was trained on so many of the vessels, the calibration of its card was made here."""

COLUMNS = (VESSEL_ID, TRACK_ID, STATE, TIME, LON, LAT, SOG, COG, SHIP_TYPE)


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """What the regions of a model rest on.

    Attributes:
        calibration: made here; None for that of the card.
        vessels: that were asked about for it.
    """

    calibration: TrackCalibration | None = None
    vessels: int = 0

    @classmethod
    def from_json(cls, raw: Any, *, where: str) -> Self:
        """What ``to_json`` gave.

        Raises:
            GeodiffError: it is something else.
        """
        if not isinstance(raw, dict) or not isinstance(raw.get("vessels"), int):
            raise GeodiffError(f"{where}: damaged; remove it and run again")
        if raw.get("calibration") is None:
            return cls()
        return cls(TrackCalibration.from_json(raw["calibration"], where=where), raw["vessels"])

    def to_json(self) -> dict[str, Any]:
        """Plain values, with ``told`` for people."""
        return {
            "told": str(self),
            "vessels": self.vessels,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }

    def of(self, model: MotionModel) -> MotionModel:
        """The model with these regions."""
        if self.calibration is None or not isinstance(model, DenoiserMotion):
            return model
        return model.with_calibration(self.calibration)

    def __str__(self) -> str:
        if self.calibration is None:
            return "as the card of the model has them"
        return f"calibrated on {self.vessels} vessels of the data"


def strangers(model: MotionModel, parts: Sequence[pl.LazyFrame]) -> pl.DataFrame | None:
    """Tracks to calibrate a model on, where they are enough and most of the vessels are new to it; else None.

    Args:
        model: regions of a classical rule are its own.
        parts: cleaned tables of whole vessels, the fixes of each in the order of time.

    Returns:
        Observed fixes of vessels that the model was not trained on, by vessel, track and time.
    """
    if not isinstance(model, DenoiserMotion) or model.calibration is None:
        return None
    observed = pl.concat(parts).filter((pl.col(STATE) == OBSERVED) & pl.col(TRACK_ID).is_not_null())
    counts = observed.group_by(VESSEL_ID).len().drop_nulls().collect().sort(VESSEL_ID)
    known = model.trained_on(counts[VESSEL_ID].to_numpy())
    if (~known).sum() < FEWEST_VESSELS or known.mean() >= KNOWN_SHARE:
        return None
    # By a hash of their names: whichever, but the same again.
    counts = counts.filter(pl.Series(~known))
    counts = counts.with_columns(pl.Series("place", place_of(counts[VESSEL_ID]))).sort("place").head(MOST_VESSELS)
    count = max(int((counts["len"].cum_sum() <= MOST_FIXES).sum()), 3 * FEWEST_VESSELS)
    chosen = counts[VESSEL_ID].head(count).sort()
    first = pl.int_range(pl.len()).over(VESSEL_ID) < MOST_FIXES // count
    some = observed.select(COLUMNS).filter(pl.col(VESSEL_ID).is_in(chosen.implode())).filter(first)
    return some.collect().sort(VESSEL_ID, TRACK_ID, TIME)


def calibrate_here(model: MotionModel, tracks: pl.DataFrame, *, seed: int) -> Regions:
    """Calibrate a model on the tracks at hand.

    Of kinds of stretches, states and classes of lead that they hold too little of, the card's calibration is changed as
    that of the nearest; where they are too short for any it stays.

    Args:
        model: of ``strangers``, told of the past as it will be when it is used.
        tracks: of ``strangers``.
        seed: of questions and noise.
    """
    assert isinstance(model, DenoiserMotion)
    assert model.calibration is not None
    questions = list(usual_questions(tracks, QUESTIONS, seed))
    vessels = len({query.vessel_id for each in questions for query in each.queries})
    if vessels < FEWEST_VESSELS:
        return Regions()
    answered, card = ask(model, questions, seed), model.calibration
    try:
        found = fit_calibration(*answered.all, levels=card.levels, vessels=FEWEST_OF_CLASS, otherwise=card)
    except GeodiffError:  # no class is asked of enough vessels
        return Regions()
    return Regions(found, vessels)
