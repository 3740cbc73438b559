"""How far the brightness of a date is off whose light is not known: what no filter of members can make up for.

Haze, sun and season move all of a scene together. Each member gets one factor per band, of the covariance between bands
that held-out ground shows, and keeps it over the whole scene. It is fitted on windows of about a kilometre, so that
fields which were mown between dates count as light, too: over a wide scene the factors are rather too far from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.model.members import is_number
from geodiff.rng import generator
from geodiff.schema import FloatArray, GeodiffError

BRIGHTNESS = "brightness"
"""Key of a card: rows of a lower triangular matrix L; L L^T is the covariance of the logarithm of the factors."""

MAX_LOGARITHM = 2.0
DARKEST = 1e-3
"""Reflectance below which a ratio tells nothing."""

SECONDS_OF_DAY = 86_400


@dataclass(frozen=True)
class Brightness:
    """A log-normal distribution of factors whose mean is 1.

    Attributes:
        root: (band, band) Cholesky factor of the covariance of their logarithms.
    """

    root: tuple[tuple[float, ...], ...]

    @property
    def deviation(self) -> FloatArray:
        """(band,) standard deviation of the factors."""
        found: FloatArray = np.sqrt(np.expm1(self._variance)).astype(np.float32)
        return found

    def factors(self, chance: FloatArray) -> FloatArray:
        """Standard normal numbers (member, band) as factors."""
        found: FloatArray = np.exp(chance @ np.array(self.root).T - self._variance / 2).astype(np.float32)
        return found

    @property
    def _variance(self) -> npt.NDArray[np.float64]:
        """(band,) of the logarithms."""
        found: npt.NDArray[np.float64] = np.square(np.array(self.root)).sum(1)
        return found


def draw_chance(seed: int, day: float, members: int, bands: int) -> FloatArray:
    """Standard normal numbers (member, band) of a date, in antithetic pairs: the same for every tile.

    The first, which moves all bands together, is the same for models of other bands.

    Args:
        seed: of the run.
        day: days since 1970-01-01 UTC; dates are off independently of each other.
        members: of the ensemble.
        bands: of the model.
    """
    chance = np.zeros((members, bands), np.float32)
    for member in range(members):
        moment = member // 2, round(day * SECONDS_OF_DAY)
        common = generator(seed, "brightness", *moment).standard_normal(1)
        own = generator(seed, "brightness of bands", *moment, bands).standard_normal(bands - 1)
        chance[member] = np.concatenate([common, own]) * (1 - 2 * (member % 2))
    return chance


def fit_brightness(ratios: Mapping[str, npt.NDArray[np.float64]]) -> Brightness:
    """The distribution, about zero, of logarithms (window, band) of true over restored brightness; places alike."""
    moments = np.mean([rows.T @ rows / len(rows) for rows in ratios.values()], axis=0)
    moments += 1e-12 * np.eye(len(moments))
    rows = np.linalg.cholesky(moments).clip(-MAX_LOGARITHM, MAX_LOGARITHM).round(6)
    return Brightness(tuple(tuple(float(value) for value in row) for row in rows))


def parse_brightness(value: object, bands: int) -> Brightness:
    """A distribution as a card states it.

    Raises:
        ValueError: anything but ``bands`` rows of as many numbers up to 2.
    """
    if not isinstance(value, list) or len(value) != bands:
        raise ValueError(f"not a row for each of {bands} bands")
    if not all(isinstance(row, list) and len(row) == bands for row in value) or not all(
        is_number(each, MAX_LOGARITHM) for row in value for each in row
    ):
        raise ValueError(f"its rows are not {bands} numbers up to {MAX_LOGARITHM:g}")
    return Brightness(tuple(tuple(float(each) for each in row) for row in value))


def check_brightness(value: object, bands: int) -> None:
    """Refuse what a card says of brightness unless it is a distribution; an empty table stands for none.

    Raises:
        ValueError: saying what is wrong.
    """
    if value != {}:
        parse_brightness(value, bands)


def brightness_of(card: Mapping[str, Any], bands: int) -> Brightness | None:
    """The distribution of a card; None where it has none.

    Raises:
        GeodiffError: what it says is none.
    """
    try:
        return parse_brightness(card[BRIGHTNESS], bands) if card.get(BRIGHTNESS) else None
    except ValueError as error:
        raise GeodiffError(f"the model card gives no usable {BRIGHTNESS}: {error}") from None
