"""What an evaluation of motion models is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from geodiff.config import Settings
from geodiff.vessels.cases import Draw

Task = Literal["impute", "forecast"]


class VesselSettings(Settings):
    """Everything that decides the figures, besides data and models.

    Attributes:
        task: gaps are filled, or futures forecast.
        lengths: of the gaps, or horizons, as ``spans.parse_spans`` reads them; None: what suits the data.
        split: whom is asked about: vessels held out of every training; those that none of the models was trained on;
            all, which is refused where a model was trained on one.
        draw: cases among all fixes alike, or of each vessel in turn.
        members: of the ensembles.
        max_cases: moving cases of a length of gap, or of a forecast.
        history: tell models and rules that can use it the tracks of the vessels that are not asked about, and of each
            vessel that is its own other passes.
        calibrate: a trained model calibrates its regions on the vessels that are not asked about, where they are enough
            and most are new to it (``track_calibrate_here``).
        seed: of the draw and of the noise.
    """

    task: Task
    lengths: str | None = None
    split: Literal["held-out", "unseen", "all"] = "held-out"
    draw: Draw = "fixes"
    members: int = Field(16, ge=2, le=256)
    max_cases: int = Field(2000, ge=1, le=1_000_000)
    history: bool = True
    calibrate: bool = True
    seed: int = Field(0, ge=0)
