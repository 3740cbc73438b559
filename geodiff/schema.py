"""The words of the project: dimension and band names, units, and the frozen values that cross the seams.

This module imports nothing of ours, so that every room can import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

TIME: Final = "time"
BAND: Final = "band"
Y: Final = "y"
X: Final = "x"
CUBE_DIMS: Final = (TIME, BAND, Y, X)
VALID: Final = "valid"
"""Boolean coordinate (time, y, x) of a cube: True where every band was observed, clear and inside the swath."""

SHIFT_X_M: Final = "shift_x_m"
SHIFT_Y_M: Final = "shift_y_m"
"""Coordinates (time,) of a cube: where a date's content lies off the common frame, in metres east and north.

A date with ``shift_x_m = 4`` shows every feature 4 m too far east; sampling it at ``x + 4`` brings it home.
"""

BANDS_10M: Final = ("B02", "B03", "B04", "B08")
"""Blue, green, red and near infrared of Sentinel-2 MSI: the four bands sampled at 10 m."""

BANDS_20M: Final = ("B05", "B06", "B07", "B8A", "B11", "B12")
"""Red edge, narrow near infrared and short-wave infrared of Sentinel-2 MSI: the six bands sampled at 20 m.

On a grid of 10 m their pixels are blocks of two by two equal ones, which begin at even rows and columns of the absolute
lattice of the CRS (tiles of Sentinel-2 begin at multiples of 20 m): native values, nothing interpolated.
"""

SECONDS_PER_DAY: Final = 86_400.0


_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(://[^?\s]*)\?[^\s'\"<>]*[^\s'\"<>:;,.)]")


def without_user(text: str) -> str:
    """An address, or a text that holds some, without the users and passwords in them."""
    return _USER.sub("", text)


def public(text: str) -> str:
    """An address, or a text that holds some, without what they keep secret: user, password, and the query (tokens)."""
    return _QUERY.sub(r"\1", without_user(text))


def printable(text: str) -> str:
    """A text of a stranger without what a terminal would take for orders, or for another line: ``?`` in its place."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class GeodiffError(Exception):
    """A failure that the user can act on: one line that says what was wrong, where, and what to do.

    ``exit_code`` is what the command line ends with: 1 for input or environment that failed, 2 for wrong usage.
    Messages are ``public``: they end in logs and notebooks.
    """

    exit_code = 1

    def __init__(self, text: object = "") -> None:
        super().__init__(public(str(text)))


class UsageError(GeodiffError):
    """The request itself is wrong (reversed dates, unknown band, absurd resolution)."""

    exit_code = 2


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The pixels of one tile with its halo: what a resolver sees, with no geodata library attached.

    Attributes:
        reflectance: (time, band, y, x) float32 surface reflectance, 0-1; any value where ``valid`` is False.
        valid: (time, y, x) bool.
        days: (time,) float64, days since 1970-01-01 UTC.
        target_day: float, the day to restore, same origin as ``days``.
        target_index: the index in ``time`` of the observed target date; None when the target lies between dates.
        shift_px: (time, 2) float32, (down, right) displacement of each date's content against the frame of the
            target, in low-resolution pixels.
        pixel_m: the side of a low-resolution pixel in metres.
        origin_px: (row, column) of the patch's first pixel on the absolute low-resolution lattice of the CRS
            (rows count downwards).
        mirrored: rows at the top and bottom, columns at the left and right that lie beyond the scene and
            hold its mirror image.
        light: (time, band) float32 reflectance, what brings each date to the light of the target when added to it; NaN
            where unknown. None where nobody looked.
    """

    reflectance: FloatArray
    valid: BoolArray
    days: npt.NDArray[np.float64]
    target_day: float
    target_index: int | None
    shift_px: FloatArray
    pixel_m: float
    origin_px: tuple[int, int]
    mirrored: tuple[int, int, int, int] = (0, 0, 0, 0)
    light: FloatArray | None = None

    @property
    def lit(self) -> BoolArray:
        """(y, x) bool: a date shows the ground whose light against the target is known, or nobody looked."""
        if self.light is None:
            return np.full(self.valid.shape[1:], self.target_index is not None)
        known = np.asarray(np.isfinite(self.light).all(axis=1), np.bool_)
        return np.asarray((self.valid & known[:, None, None]).any(0), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """What a resolver returns for one patch.

    Attributes:
        mean: (band, scale*y, scale*x) float32 reflectance, the expectation of the high-resolution target.
        members: (member, band, scale*y, scale*x) float32, samples; no members for a resolver without an ensemble.
        half_width: (level, band, scale*y, scale*x) float32 reflectance: the truth lies within ``mean`` plus or minus
            this with the probability that the resolver's ``levels`` state; None where nothing is calibrated.
        guessed: (scale*y, scale*x) float32, share 0-1 of the local variance of the truth that the observations do not
            decide; None for a resolver that does not tell.
    """

    mean: FloatArray
    members: FloatArray
    half_width: FloatArray | None = None
    guessed: FloatArray | None = None


class Resolver(Protocol):
    """Anything that restores a patch: the denoiser, a baseline, somebody else's network behind an adapter."""

    @property
    def name(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def bands(self) -> tuple[str, ...]: ...

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """Restore ``patch``; a pure function of its arguments on one machine (any thread, any order)."""
        ...
