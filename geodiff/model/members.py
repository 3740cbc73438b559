"""What turns the deviation of raw members into that of calibrated ones: one small filter per band.

There is one for ground that the target date shows, where the hard constraint leaves only fine detail to differ, and one
for ground that it hides, where members differ in everything.

Members of few passes deviate from the mean too little, and least so at the frequencies where the mean knows least. A
convolution with an isotropic kernel corrects the power of the deviation at each radial frequency; since the kernel is
symmetric, it moves nothing (zero phase). A single tap is a scalar factor. Where the ground is rough, they deviate too
little as well, and where it is smooth too much: before the convolution the deviation is multiplied by a power of the
texture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.schema import GeodiffError

SPREAD, SPREAD_HIDDEN, SPREAD_TEXTURE = "spread", "spread_hidden", "spread_texture"
"""Keys of a card: the filters by number of passes, where the target date was observed and where not, and the powers of
the texture where it was."""

REACH_PX = 12
"""Half the side of the kernel in high-resolution pixels: the hard constraint ripples the power with a period of a
third of Nyquist, which kernels up to half as wide cannot follow. With the texture's window it takes six low-resolution
pixels of halo."""

MAX_TAP, MAX_POWER = 100.0, 2.0

ROUGHEST = 30.0
"""Texture in its unit beyond which, and below whose inverse, it counts no further."""


def rings(reach: int) -> npt.NDArray[np.intp]:
    """(2 reach + 1, 2 reach + 1): of each tap the rank of its distance from the centre, 0 in the middle."""
    step = np.arange(-reach, reach + 1) ** 2
    _, rank = np.unique(np.add.outer(step, step), return_inverse=True)
    found: npt.NDArray[np.intp] = np.asarray(rank, np.intp).reshape(2 * reach + 1, 2 * reach + 1)
    return found


def ring_count(reach: int) -> int:
    """Number of different distances in a kernel of this reach: 1, 3, 6, 10, 15, ..."""
    return int(rings(reach).max()) + 1


@dataclass(frozen=True)
class DeviationFilter:
    """A kernel per band.

    Attributes:
        taps: (band, ring) by distance from the centre (``rings``); one row serves all bands.
        power: of the texture, by which the deviation is multiplied first.
    """

    taps: tuple[tuple[float, ...], ...] = ((1.0,),)
    power: float = 0.0

    @property
    def reach(self) -> int:
        """Pixels that the kernel reaches to each side."""
        return _reach(len(self.taps[0]))

    def apply(self, deviation: Tensor, rough: Tensor) -> Tensor:
        """Filter the deviation of members; beyond the border there is none.

        Args:
            deviation: (member, band, y, x).
            rough: (1, band, y, x) texture in units of the residual.
        """
        bands = deviation.shape[1]
        if self.power:
            deviation = deviation * rough.clamp(1 / ROUGHEST, ROUGHEST) ** self.power
        kernel = np.array(self.taps, np.float32)[:, rings(self.reach)]
        weight = torch.from_numpy(np.broadcast_to(kernel, (bands, *kernel.shape[1:])).copy())[:, None]
        # Channels last: a wide depthwise kernel is many times as fast, to the same bits.
        last = deviation.contiguous(memory_format=torch.channels_last)
        return F.conv2d(last, weight.to(deviation), padding=self.reach, groups=bands).contiguous()


def _reach(count: int) -> int:
    """Raises ValueError for a number of rings that no kernel up to ``REACH_PX`` has."""
    for reach in range(REACH_PX + 1):
        if ring_count(reach) == count:
            return reach
    raise ValueError(f"{count} taps fit no kernel")


def is_number(value: object, most: float) -> bool:
    """A plain number from ``-most`` to ``most``, as JSON gives it; no NaN."""
    return type(value) in (int, float) and abs(float(str(value))) <= most


def parse_filter(value: object, bands: int) -> DeviationFilter:
    """A filter as a card states it: one factor that is not negative, or a row of taps for each band.

    Raises:
        ValueError: anything else.
    """
    if type(value) in (int, float):
        factor = float(str(value))
        if not 0 <= factor <= MAX_TAP:
            raise ValueError(f"the factor {factor} is not between 0 and {MAX_TAP:g}")
        return DeviationFilter(((factor,),))
    if not isinstance(value, list) or len(value) != bands or not all(isinstance(row, list) for row in value):
        raise ValueError(f"neither a factor nor a row of taps for each of {bands} bands")
    if len({len(row) for row in value}) != 1 or not all(is_number(tap, MAX_TAP) for row in value for tap in row):
        raise ValueError(f"taps are not numbers up to {MAX_TAP:g} in rows of one length")
    _reach(len(value[0]))
    return DeviationFilter(tuple(tuple(float(tap) for tap in row) for row in value))


def nearest_passes(known: Mapping[str, Any], passes: int) -> str | None:
    """The calibration for the nearest number of passes, the smaller of two; None where there is none."""
    return min(known, key=lambda count: (abs(int(count) - passes), int(count)), default=None)


def by_passes(table: object) -> dict[str, Any]:
    """A table of a card whose keys are numbers of passes.

    Raises:
        ValueError: saying what is wrong.
    """
    if not isinstance(table, dict):
        raise ValueError("it is not a table by number of passes")
    for passes in table:
        if not (isinstance(passes, str) and passes.isascii() and passes.isdecimal() and len(passes) <= 4):
            raise ValueError(f"{str(passes)[:20]!r} is no number of passes")
    return table


def check_filters(spread: object, bands: int) -> None:
    """Refuse what a card says of its members unless it is a filter for numbers of passes.

    Raises:
        ValueError: saying what is wrong.
    """
    for value in by_passes(spread).values():
        parse_filter(value, bands)


def check_powers(powers: object) -> None:
    """Refuse what a card says of texture unless it is a power for numbers of passes.

    Raises:
        ValueError: saying what is wrong.
    """
    for value in by_passes(powers).values():
        if type(value) not in (int, float) or not 0 <= float(str(value)) <= MAX_POWER:
            raise ValueError(f"{str(value)[:20]!r} is no power from 0 to {MAX_POWER:g}")


def filter_for(card: Mapping[str, Any], passes: int, bands: int, key: str = SPREAD) -> DeviationFilter | None:
    """The filter of a card for the nearest number of passes; None where it has none.

    Raises:
        GeodiffError: a filter that is none.
    """
    known, powers = card.get(key, {}), card.get(SPREAD_TEXTURE, {}) if key == SPREAD else {}
    try:
        check_filters(known, bands)
        check_powers(powers)
    except ValueError as error:
        raise GeodiffError(f"the model card gives no usable {key}: {error}") from None
    nearest = nearest_passes(known, passes)
    if nearest is None:
        return None
    return replace(parse_filter(known[nearest], bands), power=float(powers.get(nearest, 0.0)))
