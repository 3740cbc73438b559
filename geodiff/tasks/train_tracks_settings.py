"""Settings of a training on tracks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from geodiff.config import Settings
from geodiff.vessels.split import FOLDS
from geodiff.vessels.windows_draw import DrawSettings


class TrackTrainConfig(Settings):
    """Settings of a training on tracks; stored in the checkpoint's card.

    The learning rate follows ``steps`` or, where ``minutes`` are given, whichever of the two is further along. The last
    part of it tunes the student that samples in few ``passes``, by the score of its ensembles.

    Attributes (those that do not speak for themselves):
        regression_share: first part of the training, which learns the mean alone: most of the way at half the cost.
        ensemble_share: part of the training that scores ensembles.
        km_share: of their score, what is told in kilometres, where fast vessels and large errors weigh more. 70
            minutes of tuning with 0.7 took 0 to 3 % off the errors of what ships, most off forecasts.
        history_share: share of the windows that are shown what historic tracks say.
        generation_share: share of the batches that teach whole tracks of a ship group and behaviour.
        generation_windows: windows prepared for that at most; 30,000 take a core two minutes and 300 MB.
        scene_share: share of the batches whose windows are scenes of up to ``scene_vessels`` vessels.
        group_share: share that are told the group of ship types.
        fold: the tenth of the vessels that is held out; what ships holds out the first.
        shortest_s, longest_s: range of the durations that are hidden.
        calibration_windows: questions from which spread and regions are calibrated (``train_tracks_calibrate``).
    """

    steps: int = Field(20_000, ge=1)
    minutes: float | None = Field(None, ge=0, allow_inf_nan=False)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(1.5e-3, gt=0, allow_inf_nan=False)
    warmup: int = Field(200, ge=1)
    width: int = Field(64, ge=8, le=4096, multiple_of=8)
    heads: int = Field(4, ge=1, le=64)
    layers: int = Field(3, ge=1, le=64)
    ema: float = Field(0.998, ge=0, lt=1)
    regression_share: float = Field(0.35, ge=0, le=1)
    ensemble_share: float = Field(0.4, ge=0, le=1)
    km_share: float = Field(0.0, ge=0, le=1)
    passes: int = Field(2, ge=2, le=16)
    members: int = Field(4, ge=2, le=16)
    pure_noise: float = Field(0.4, ge=0, le=1)
    lowest_level: float = Field(0.1, ge=0, lt=1)
    history_share: float = Field(0.6, ge=0, le=1)
    generation_share: float = Field(0.3, ge=0, le=1)
    generation_windows: int = Field(30_000, ge=1)
    scene_share: float = Field(0.1, ge=0, le=1)
    scene_vessels: int = Field(4, ge=2, le=64)
    group_share: float = Field(0.85, ge=0, le=1)
    fold: int = Field(0, ge=0, lt=FOLDS)
    shortest_s: float = Field(300.0, gt=0, allow_inf_nan=False)
    longest_s: float = Field(14 * 3600.0, gt=0, allow_inf_nan=False)
    calibration_windows: int = Field(12_000, ge=100)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    workers: int = Field(0, ge=0, le=64)
    validate_every: int = Field(500, ge=1)
    validate_batches: int = Field(8, ge=1)
    checkpoint_every: int = Field(250, ge=1)
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1)

    @property
    def drawn(self) -> DrawSettings:
        """What is drawn from the tracks."""
        return DrawSettings(shortest_s=self.shortest_s, longest_s=self.longest_s)
