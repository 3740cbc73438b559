"""Endless ground for training: the synthetic world, drawn where a patch is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from geodiff.imagery.ground import Bounds
from geodiff.schema import BANDS_10M, FloatArray
from geodiff.testing.landscape import render
from geodiff.testing.materials import palette
from geodiff.testing.season import read_ground, season_image

WORLD_SEED = 1_000
"""Worlds of the demo and of the tests have smaller seeds; those of validation count down from here."""

WORLD_PX = 1 << 22
FIRST_DAY, STEP_DAYS, DATES = 18_993.0, 23.0, 24


@dataclass(frozen=True, eq=False)
class SyntheticGround:
    """A square of the synthetic world, 4 million pixels wide, through a year and a half.

    Attributes:
        seed: of the world.
        bands: any of ``testing.materials.WORLD_BANDS``, all known at ``high_m``; the values of a band do not depend on
            the others.
        high_m: side of a high-resolution pixel in metres.
        pixel_m: side of the low-resolution pixel that it stands for.
        columns: of the square that may be read.
    """

    seed: int
    bands: tuple[str, ...] = BANDS_10M
    high_m: float = 2.5
    pixel_m: float = 10.0
    columns: tuple[int, int] = (0, WORLD_PX)

    def __post_init__(self) -> None:
        palette(self.bands)  # refuses a band that the world does not have

    @property
    def name(self) -> str:
        return f"synthetic/{self.seed}"

    @property
    def ground(self) -> str:
        return self.name

    @property
    def footprint(self) -> Bounds | None:
        return None

    @property
    def days(self) -> npt.NDArray[np.float64]:
        return FIRST_DAY + STEP_DAYS * np.arange(DATES, dtype=np.float64)

    @property
    def size(self) -> tuple[int, int]:
        return WORLD_PX, self.columns[1] - self.columns[0]

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        """Draw a window on some dates, (date, band, row, column)."""
        origin = (int(rows.start), int(cols.start) + self.columns[0])
        shape = (int(rows.stop - rows.start), int(cols.stop - cols.start))
        # Those of 10 m are always drawn: they tell what grows where.
        drawn = BANDS_10M + tuple(band for band in self.bands if band not in BANDS_10M)
        scene = render(self.seed, origin, shape, self.high_m, drawn)
        ground = read_ground(scene.reflectance, drawn, self.seed, cover=scene.cover, parcel=scene.parcel)
        days = self.days
        span = (float(days[0]), float(days[-1]))
        shown = [
            season_image(
                scene.reflectance,
                ground,
                drawn,
                day=float(days[date]),
                anchor_day=float(days[DATES // 2]),
                span_days=span,
                seed=self.seed,
                strength=1.0,
            )
            for date in dates
        ]
        order = [drawn.index(band) for band in self.bands]
        return np.stack(shown).astype(np.float32)[:, order]

    def part(self, cols: slice) -> SyntheticGround:
        """Some of the columns."""
        first = self.columns[0]
        return replace(self, columns=(first + cols.start, first + cols.stop))
