"""Settings of the jobs over tracks: what decides their values, and nothing else."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from geodiff.config import Bbox, Settings
from geodiff.schema import UsageError

DEFAULT_MODEL: Final = "ais"
"""Trained model of motion that comes with the package."""

FALLBACK: Final[dict[str, str]] = {"impute": "hermite", "forecast": "dead_reckoning"}
"""Classical rules for an installation without the trained model."""

MOST_MEMBERS: Final = 256
MOST_HOURS: Final = 12.0
MOST_POSITIONS: Final = 1 << 24
"""Times x members of one gap or forecast, which a model answers whole: 2 GB of memory."""


class TrackSettings(Settings):
    """What every job over files of fixes may be told.

    Attributes:
        layout: name or path of a column map; None: recognised.
        date: day of the first row, for files of times of day.
        timezone: of times without an offset; None: as the layout says.
        bbox: west, south, east, north in degrees; only fixes inside are taken. West > east crosses 180 degrees.
        gap_s: a silence longer than this ends a track; None: an hour, or three times the usual interval between fixes,
            of all vessels or of the vessel itself, where that is longer.
    """

    layout: str | None = None
    date: str | None = None
    timezone: str | None = None
    bbox: Bbox | None = None
    gap_s: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None

    @field_validator("bbox")
    @classmethod
    def _on_earth(cls, bbox: Bbox | None) -> Bbox | None:
        if bbox is not None:
            west, south, east, north = bbox
            if not all(math.isfinite(each) for each in bbox) or max(abs(west), abs(east)) > 180:
                raise UsageError(f"bbox {bbox} lies outside the world: give W S E N in degrees, longitude first")
            if not -90 <= south < north <= 90:
                raise UsageError(f"bbox {bbox}: south is not below north, or beyond 90; the order is W S E N")
        return bbox


class CleanSettings(TrackSettings):
    """Of ``clean``."""


class MotionSettings(TrackSettings):
    """Of jobs that ask a model of motion.

    Attributes:
        model: name or path.
        ensemble: members; a model without an ensemble gives none.
        step_s: the times asked for are the multiples of this since 1970.
        seed: of the noise.
        members: keep the members in the Zarr store.
        calibrate: a trained model calibrates its regions on the tracks at hand, where they are enough and most vessels
            are new to it (``track_calibrate_here``).
    """

    model: str = DEFAULT_MODEL
    ensemble: Annotated[int, Field(ge=1, le=MOST_MEMBERS)] = 16
    step_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    seed: Annotated[int, Field(ge=0)] = 0
    members: bool = False
    calibrate: bool = True

    @property
    def calibrated(self) -> bool:
        """Whether regions are asked for that may be calibrated; without an ensemble there are none."""
        return self.calibrate and self.ensemble > 1

    def _check_size(self, hours: float, what: str) -> None:
        """Raises UsageError where one question would not fit in memory."""
        if (size := hours * 3600 / self.step_s * self.ensemble) > MOST_POSITIONS:
            raise UsageError(
                f"{what} of {hours:g} h every {self.step_s} s with {self.ensemble} members are {size:,.0f} positions, "
                f"more than {MOST_POSITIONS:,}: take a longer step, fewer members, or fewer hours"
            )


class ImputeSettings(MotionSettings):
    """Of ``impute``.

    Attributes:
        longest_h: longer gaps stay gaps.
    """

    longest_h: Annotated[float, Field(gt=0, le=240)] = 24.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._check_size(self.longest_h, "a gap")
        return self


class ForecastSettings(MotionSettings):
    """Of ``forecast``.

    Attributes:
        hours: how far beyond the last fix of each vessel.
        at: only what was known by then; None: all of the input.
    """

    hours: Annotated[float, Field(gt=0, le=MOST_HOURS)] = 3.0
    at: datetime | None = None

    @field_validator("at")
    @classmethod
    def _utc(cls, at: datetime | None) -> datetime | None:
        """Times without an offset are UTC."""
        return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)

    @model_validator(mode="after")
    def _step_within(self) -> Self:
        if self.step_s > self.hours * 3600:
            raise UsageError(f"step {self.step_s:g} s is longer than the forecast, {self.hours:g} h")
        self._check_size(self.hours, "a forecast")
        return self


class ScoreSettings(TrackSettings):
    """Of ``score``.

    Attributes:
        model: of the motion that the calibration was made with.
        ensemble: members; with a calibration of a file those that it was made with.
        alpha: nominal false-alarm rate; None: ``ALPHA``, or the least that the vessels can tell where that is more.
        seed: of the noise.
        calibrate_most: vessels that a calibration on the input itself rests on at most, for each half.
    """

    model: str = "hermite"
    ensemble: Annotated[int, Field(ge=0, le=MOST_MEMBERS)] = 16
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    calibrate_most: Annotated[int, Field(ge=30)] = 1000


class AssociateSettings(TrackSettings):
    """Of ``associate``.

    Attributes:
        sensor: where the settings of the association start from; None: radar where its position is told, else ais.
        position: longitude and latitude of the radar, for plots in ranges or metres; and where it is not north, the
            course of its zero bearing or "north" axis.
        rules: what differs from the sensor's settings; keys of ``vessels.associate.AssociateSettings``.
    """

    sensor: Literal["ais", "radar"] | None = None
    position: tuple[float, ...] | None = None
    rules: dict[str, Any] = Field(default_factory=dict)

    @field_validator("position", mode="before")
    @classmethod
    def _two_or_three(cls, position: object) -> object:
        if isinstance(position, list | tuple) and len(position) not in (2, 3):
            raise UsageError(f"position: {len(position)} numbers; longitude,latitude or longitude,latitude,course")
        return position


class GenerateSettings(TrackSettings):
    """Of ``generate``; see ``track_generate.Wanted`` for the ranges. What is read are partial tracks.

    Attributes:
        model: name or path of a trained model.
        count: tracks; with partial tracks, of each.
        ship_type: code of ITU-R M.1371 table 53; 0 for any.
        behaviour: way of moving.
        hours, step_s: length of a track and time between its fixes.
        guidance: towards the ship type; 1 leaves it off.
        start: longitude and latitude, or west, south, east, north in which tracks begin (west > east across 180
            degrees); None with partial tracks.
        start_time: of all tracks.
        seed: of places and noise.
    """

    model: str = DEFAULT_MODEL
    count: int = 10
    ship_type: int = 0
    behaviour: str = "any"
    hours: float = Field(6.0, allow_inf_nan=False)
    step_s: float = Field(300.0, allow_inf_nan=False)
    guidance: float = Field(5.0, allow_inf_nan=False)
    start: tuple[float, float] | Bbox | None = None
    start_time: datetime | None = None
    seed: int = 0

    @field_validator("start")
    @classmethod
    def _start_on_earth(cls, start: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if start is not None:
            lon, lat = start[::2], start[1::2]
            if not all(abs(each) <= 180 for each in lon) or not all(abs(each) <= 90 for each in lat):
                raise UsageError(f"start {start} lies outside the world: longitude comes first")
            if len(lat) == 2 and lat[0] > lat[1]:
                raise UsageError(f"start {start}: south lies north of north; a box is west, south, east, north")
        return start

    @field_validator("start_time")
    @classmethod
    def _utc(cls, time: datetime | None) -> datetime | None:
        if time is None:
            return None
        if not 1970 <= time.year < 2200:
            raise UsageError(f"start_time {time}: a year from 1970 to 2199")
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
