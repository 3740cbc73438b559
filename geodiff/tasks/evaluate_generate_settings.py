"""What an evaluation of generated tracks is asked to do."""

from __future__ import annotations

from pydantic import Field

from geodiff.config import Settings


class GenerationSettings(Settings):
    """Everything that decides the figures, besides data and model.

    Attributes:
        hours, step_s: length of a window and time between its positions; None: three hours at five minutes where fixes
            come at least every ten minutes, twelve hours at one hour where they are sparser.
        guidance: strengths that are compared; each makes its own tracks.
        max_tracks: windows of vessels held out, and so tracks made for each strength.
        max_train: windows that the classifier learns from.
        history: tell the model the tracks of the vessels that are not asked about.
        copies: tracks from one place, for their spread; made from ``copy_starts`` places.
        copy_starts: places from which several tracks are made.
        seed: of the choice of windows, the classifier, the rules and the noise.
    """

    hours: float | None = Field(None, gt=0, le=72)
    step_s: float | None = Field(None, ge=10, le=7200)
    guidance: tuple[float, ...] = Field((1.0, 1.5, 2.0, 3.0, 5.0), min_length=1, max_length=12)
    max_tracks: int = Field(1200, ge=20, le=100_000)
    max_train: int = Field(12_000, ge=100, le=1_000_000)
    history: bool = True
    copies: int = Field(8, ge=2, le=64)
    copy_starts: int = Field(24, ge=1, le=1000)
    seed: int = Field(0, ge=0)
