"""What turns the deviation of raw members into that of calibrated ones: one small filter per band.

There is one for ground that the target date shows, where the hard constraint leaves only fine detail to differ, and one
for ground that it hides, where members differ in everything.

Members of few passes deviate from the mean too little, and least so at the frequencies where the mean knows least; and
a network answers noise by more in one direction than in another, which is seen as stripes. A convolution corrects the
power of the deviation at each frequency and direction; since its kernel is the same when turned by half a circle, it
moves nothing (zero phase). A single tap is a scalar factor. Where the ground is rough, they deviate too little as well,
and where it is smooth too much: before the convolution the deviation is multiplied by a power of the texture. Last,
bands that err together are made to deviate together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.schema import GeodiffError

SPREAD, SPREAD_HIDDEN = "spread", "spread_hidden"
"""Keys of a card: the filters by number of passes, where the target date was observed and where not."""

REACH_PX = 12
"""Half the side of the kernel in high-resolution pixels: the hard constraint ripples the power with a period of a
third of Nyquist, which kernels up to half as wide cannot follow. With the texture's window it takes six low-resolution
pixels of halo."""

MAX_TAP, MAX_POWER = 100.0, 2.0

ROUGHEST = 30.0
"""Texture in its unit beyond which, and below whose inverse, it counts no further."""


def tap_ranks(reach: int) -> npt.NDArray[np.intp]:
    """(2 reach + 1, 2 reach + 1): which tap stands where in a kernel; 0 in the middle, the same on opposite sides."""
    side = 2 * reach + 1
    return np.abs(np.arange(side * side) - side * side // 2).reshape(side, side)


def tap_count(reach: int) -> int:
    """Number of taps of a kernel of this reach: 1, 5, 13, 25, 41, ..."""
    return 2 * reach * (reach + 1) + 1


@dataclass(frozen=True)
class DeviationFilter:
    """A kernel per band.

    Attributes:
        taps: (band, tap) by their place in the kernel (``tap_ranks``); one row serves all bands.
        power: of the texture, by which the deviation is multiplied first.
        mix: (band, band), of what each band deviates by the share of each filtered one; themselves when empty.
    """

    taps: tuple[tuple[float, ...], ...] = ((1.0,),)
    power: float = 0.0
    mix: tuple[tuple[float, ...], ...] = ()

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
        kernel = np.array(self.taps, np.float32)[:, tap_ranks(self.reach)]
        weight = torch.from_numpy(np.broadcast_to(kernel, (bands, *kernel.shape[1:])).copy())[:, None]
        # Channels last: a wide depthwise kernel is many times as fast, to the same bits.
        last = deviation.contiguous(memory_format=torch.channels_last)
        filtered = F.conv2d(last, weight.to(deviation), padding=self.reach, groups=bands)
        if self.mix:
            filtered = F.conv2d(filtered, torch.tensor(self.mix).to(deviation)[:, :, None, None])
        return filtered.contiguous()

    def as_card(self) -> dict[str, Any]:
        """What ``parse_filter`` reads."""
        return {
            "taps": [list(row) for row in self.taps],
            "texture_power": self.power,
            "mix": [list(row) for row in self.mix],
        }


def _reach(count: int) -> int:
    """Raises ValueError for a number of taps that no kernel up to ``REACH_PX`` has."""
    for reach in range(REACH_PX + 1):
        if tap_count(reach) == count:
            return reach
    raise ValueError(f"{count} taps fit no kernel")


def is_number(value: object, most: float) -> bool:
    """A plain number from ``-most`` to ``most``, as JSON gives it; no NaN."""
    return type(value) in (int, float) and abs(float(str(value))) <= most


def parse_filter(value: object, bands: int) -> DeviationFilter:
    """A filter as a card states it: one factor that is not negative, or what ``DeviationFilter.as_card`` writes.

    Raises:
        ValueError: anything else.
    """
    if type(value) in (int, float):
        factor = float(str(value))
        if not 0 <= factor <= MAX_TAP:
            raise ValueError(f"the factor {factor} is not between 0 and {MAX_TAP:g}")
        return DeviationFilter(((factor,),))
    if not isinstance(value, dict) or set(value) != {"taps", "texture_power", "mix"}:
        raise ValueError("neither a factor nor taps, texture_power and mix")
    power = value["texture_power"]
    if not is_number(power, MAX_POWER) or power < 0:
        raise ValueError(f"{str(power)[:20]!r} is no power from 0 to {MAX_POWER:g}")
    taps = _rows(value["taps"], bands, "taps")
    _reach(len(taps[0]))
    mix = _rows(value["mix"], bands, "mix") if value["mix"] != [] else ()
    if mix and len(mix[0]) != bands:
        raise ValueError(f"mix has {len(mix[0])} columns for {bands} bands")
    return DeviationFilter(taps, float(power), mix)


def _rows(value: object, bands: int, name: str) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, list) or len(value) != bands or not all(isinstance(row, list) for row in value):
        raise ValueError(f"{name} is no row for each of {bands} bands")
    if len({len(row) for row in value}) != 1 or not all(is_number(each, MAX_TAP) for row in value for each in row):
        raise ValueError(f"{name} are not numbers up to {MAX_TAP:g} in rows of one length")
    return tuple(tuple(float(each) for each in row) for row in value)


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


def filter_for(card: Mapping[str, Any], passes: int, bands: int, key: str = SPREAD) -> DeviationFilter | None:
    """The filter of a card for the nearest number of passes; None where it has none.

    Raises:
        GeodiffError: a filter that is none.
    """
    known = card.get(key, {})
    try:
        check_filters(known, bands)
    except ValueError as error:
        raise GeodiffError(f"the model card gives no usable {key}: {error}") from None
    nearest = nearest_passes(known, passes)
    return None if nearest is None else parse_filter(known[nearest], bands)
