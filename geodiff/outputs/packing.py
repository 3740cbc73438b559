"""How quantities are packed into 16 or 8 bits, with the CF attributes that tell every reader how to unpack them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from geodiff.schema import BoolArray, FloatArray

PackedArray = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Packing:
    """A linear code in unsigned integers: value = code / steps + offset.

    Attributes:
        steps: codes per unit; the quantum is 1 / steps.
        offset: the value of code 0.
        fill: the code that means "no value"; unpacked as NaN.
        lowest: the smallest code of a value; smaller values are stored as this.
        highest: the largest code of a value; larger values are stored as this.
        dtype: of the codes.
    """

    steps: int
    offset: float
    fill: int
    lowest: int
    highest: int
    dtype: str = "uint16"

    @property
    def scale(self) -> float:
        return 1 / self.steps

    def pack(self, values: npt.NDArray[np.floating], keep: BoolArray) -> PackedArray:
        """Round to the nearest code (ties to even), clip, and fill where not ``keep`` or not finite.

        Args:
            values: (..., y, x) of any float type.
            keep: (y, x) bool.

        Returns:
            (..., y, x) of ``dtype``; off by at most half a quantum inside the range of the code.
        """
        usable = keep & np.isfinite(values)
        # float64, in which steps and offset are exact enough that equal inputs give equal codes on any machine.
        codes = np.where(usable, values, 0).astype(np.float64)
        codes *= self.steps
        codes -= self.offset * self.steps
        np.rint(codes, out=codes)
        np.clip(codes, self.lowest, self.highest, out=codes)
        codes[~usable] = self.fill
        packed: PackedArray = codes.astype(self.dtype)
        return packed

    def unpack(self, codes: PackedArray) -> FloatArray:
        """The values of codes, float32, NaN for the fill code."""
        values = (codes / self.steps + self.offset).astype(np.float32)
        values[codes == self.fill] = np.nan
        return values

    def attributes(self) -> dict[str, float | int]:
        """CF attributes: ``scale_factor``, ``_FillValue`` and, unless it is zero, ``add_offset``."""
        shift = {"add_offset": self.offset} if self.offset else {}
        return {"scale_factor": self.scale, **shift, "_FillValue": self.fill}


REFLECTANCE: Final = Packing(steps=10_000, offset=-0.3, fill=0, lowest=1, highest=65_535)
"""In the steps of Sentinel-2 L2A: digital number / 10000 - 0.3, 0 is no data.

The offset is lower than the 0.1 of L2A itself: beside very bright objects the radiometric constraint undershoots, and
clipping there would break it. Reflectances from -0.2999 to 6.2535 are kept.
"""

UNCERTAINTY: Final = Packing(steps=100_000, offset=0.0, fill=65_535, lowest=0, highest=65_534)
"""Uncertainty: the half-width of an interval about the reflectance in steps of 1e-5, up to 0.65534."""

GUESSED: Final = Packing(steps=250, offset=0.0, fill=255, lowest=0, highest=250, dtype="uint8")
"""Share of the local variance that the observations do not decide: in steps of 0.004."""

PACKINGS: Final[Mapping[str, Packing]] = MappingProxyType(
    {"reflectance": REFLECTANCE, "uncertainty": UNCERTAINTY, "member": REFLECTANCE, "guessed": GUESSED}
)
"""By the name of the layer; ``valid`` is not packed."""
