"""Ground that a training may see: high-resolution image series, in memory or read from files window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from geodiff.schema import FloatArray

STRIP_PX, GAP_PX = 128, 32
"""Width of the narrowest strip that is held out, and of what lies between it and the training, in pixels."""

Bounds = tuple[float, float, float, float]
"""West, south, east and north in degrees, EPSG:4326."""


class Ground(Protocol):
    """What patches are cut from. Band order is that of the training; every date lies on one grid.

    Attributes:
        name: for reports; its first part, up to a slash, names the source.
        days: (time,) float64, days since 1970-01-01; NaN where the source tells no date.
        pixel_m: side of the *low-resolution* pixel that the degraded series stands for, in metres.
        ground: places with the same ground show the same area, each at its own sampling; the name where it is empty.
        footprint: where it lies; None where the source has no georeference.
        size: (rows, columns) of high-resolution pixels.
    """

    @property
    def name(self) -> str: ...

    @property
    def days(self) -> npt.NDArray[np.float64]: ...

    @property
    def pixel_m(self) -> float: ...

    @property
    def ground(self) -> str: ...

    @property
    def footprint(self) -> Bounds | None: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        """(date, band, row, column) reflectance of a window, 0-1, NaN where there is no data."""
        ...

    def part(self, cols: slice) -> Self:
        """The same ground, some columns only; bounds of the slice are given and lie inside."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Ground whose images lie in memory: (time, band, y, x) float32 reflectance, 0-1."""

    name: str
    images: FloatArray
    days: npt.NDArray[np.float64]
    pixel_m: float
    ground: str = ""
    footprint: Bounds | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        """A window of some dates, in their order."""
        return self.images[list(dates), :, rows, cols]

    def part(self, cols: slice) -> Place:
        """Some columns, and the footprint of these."""
        return replace(
            self, images=self.images[..., cols], footprint=part_of(self.footprint, cols, self.images.shape[-1])
        )


def part_of(footprint: Bounds | None, cols: slice, width: int) -> Bounds | None:
    """Bounds of some columns of a raster, north up to a tilt that does not matter."""
    if footprint is None:
        return None
    west, south, east, north = footprint
    step = (east - west) / width
    return west + cols.start * step, south, west + cols.stop * step, north


_G = TypeVar("_G", bound=Ground)


def split_places(
    places: Sequence[_G], *, share: float = 0.15, smallest: int = 192, narrowest: int = STRIP_PX
) -> tuple[list[_G], list[_G]]:
    """Cut a strip off the right side of every ground that is wide enough: (training, held out).

    Places of one ground are cut along one line, set by the widest of them, so that what is held out at one sampling is
    not trained on at another; a strip narrower than ``narrowest`` is dropped.

    Args:
        places: from ``places.read_places`` or ``folders.read_folder``.
        share: of the width that is held out, at least ``narrowest`` pixels of the widest place.
        smallest: grounds that would leave fewer columns to training are trained on whole.
        narrowest: width of a strip, in pixels.
    """
    widest: dict[str, int] = {}
    for place in places:
        widest[place.ground or place.name] = max(widest.get(place.ground or place.name, 0), place.size[1])
    train: list[_G] = []
    held: list[_G] = []
    for place in places:
        columns, width = widest[place.ground or place.name], place.size[1]
        strip = max(int(columns * share), narrowest)
        if columns - strip < smallest:
            train.append(place)
            continue
        cut = width - strip * width // columns
        # Pixels between the two, so that no patch of one shows ground of the other through the sensor's blur.
        train.append(place.part(slice(0, max(cut - GAP_PX, 0))))
        held.append(place.part(slice(cut, width)))
    return [p for p in train if p.size[1] >= narrowest], [p for p in held if p.size[1] >= narrowest]
