"""Calibration of trained weights: spread of the members and reach of the regions, asked of vessels with known answers.

Vessels set aside are some hundreds, and much of what they tell is which vessels they happen to be: two halves of them
differ by three points in what a region of 50 % holds. Vessels that were learned from are many more, and a network of
few parameters does no better on them than on others. So both are taken together, unless regions found on those learned
from hold too little of those set aside, as they would had the network learned its vessels by heart. Split conformal
prediction promises its levels for vessels set aside alone: with both together they are what was measured, no theorem.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.model.checkpoint import write_card
from geodiff.schema import GeodiffError
from geodiff.tasks.track_calibration import LEVELS, fit_calibration
from geodiff.tasks.track_data import TrackData
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_questions import Answered, ask, draw_questions
from geodiff.tracks import VESSEL_ID
from geodiff.vessels.split import join_digests, vessel_digest
from geodiff.vessels.window_fixes import INSIDE
from geodiff.vessels.windows_draw import DrawSettings

Floats = npt.NDArray[np.float64]


def calibrate_tracks(
    weights: Path, data: TrackData, *, drawn: DrawSettings, windows: int, seed: int = 0
) -> dict[str, Any]:
    """Find the spread of members and the reach of ellipses, and write them into the card.

    Args:
        weights: of a training, with their card, which is rewritten.
        data: of the training: vessels set aside, and some of those learned from.
        drawn: what is asked of them.
        windows: questions asked, a third of them drawn as in training, the others as they are mostly asked.
        seed: of the draw and of the noise.

    Returns:
        The calibration as it stands in the card.

    Raises:
        GeodiffError: too few tracks to calibrate on.
    """
    model = DenoiserMotion.load(weights).with_history(data.history)
    ids = [table[VESSEL_ID].unique().to_numpy() for table in (data.aside, data.learned)]

    def answered(table: pl.DataFrame, count: int) -> Answered:
        return ask(model, draw_questions(table, drawn, count, seed), seed)

    # A vessel counts alike, whichever it is.
    few = max(windows * len(ids[0]) // (len(ids[0]) + len(ids[1])), 1)
    aside, learned = answered(data.aside, few), answered(data.learned, windows - few)
    changes: dict[str, Any] = {}
    known = model.trained_on(ids[1])
    # Weights from elsewhere know few of these vessels, if any, by heart.
    both = known.mean() < 0.5
    if not both:
        held = _held(learned, aside)
        both = not _short(held, len(ids[0]))
        changes["held_aside_by_learned"] = np.nan_to_num(held).round(4).tolist()
    if not known.all():
        # From now on they have been shown them.
        changes["vessels"] = join_digests([str(model.card.get("vessels", "")), vessel_digest(np.concatenate(ids))])
    found = fit_calibration(*(Answered.joined([aside, learned]) if both else answered(data.aside, windows)).all)
    changes["calibrated_with"] = {"aside": len(ids[0]), "others": len(ids[1]) if both else 0}
    changes["track_calibration"] = found.to_json()
    write_card(weights, {**model.card, **changes})
    return found.to_json()


def _held(learned: Answered, aside: Answered) -> Floats:
    """(levels, 2) of gaps and of forecasts of vessels set aside, what regions of those learned from hold.

    Nothing where these are too few to find regions for.
    """
    try:
        return fit_calibration(*learned.all).coverage(*aside.all)[:, INSIDE:]
    except GeodiffError:
        return np.zeros((len(LEVELS), 2))


def _short(held: Floats, vessels: int) -> bool:
    """Whether regions hold less than they promise by more than chance: of a network that knew its vessels by heart.

    Chance is the standard error of a share of so many vessels, each of which counts as one draw.
    """
    level = np.array(LEVELS)[:, None]
    return bool((held < level - np.sqrt(level * (1 - level) / vessels)).any())
