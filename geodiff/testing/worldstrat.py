"""A small WorldStrat: files in exactly its layout, from synthetic scenes, with what is known to be wrong in it.

    truth = make_worldstrat(tmp_path, WorldStratSpec(revisits=5))
    truth["Landcover-769876"].shift_px   # what a registration must find

Both resolutions are drawn from one ground at 1.25 m: the low one through Sentinel-2's optics, the high one at 1.5 m,
displaced by a known shift and in a radiometry of known gains and offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geodiff.imagery.worldstrat_layout import HR_PIXEL_M, LEVELS, LR_PIXEL_M, METADATA_CSV, SPLIT_CSV, Layout
from geodiff.imagery.worldstrat_resample import resample
from geodiff.rng import generator
from geodiff.schema import FloatArray
from geodiff.testing.landscape import landscape_window
from geodiff.testing.series import Effects, SeriesTruth, simulate_series
from geodiff.testing.worldstrat_files import (
    BREAKS,
    GROUND_SCALE,
    RevisitImage,
    write_high,
    write_revisit,
    write_tables,
)

AOIS = ("ASMSpotter-17-2-2", "ASMSpotter-17-2-3", "Amnesty POI-20-1-3", "Landcover-769876", "UNHCR-GRCs035302")
QUIET = Effects(season=0.4, shift_px=0.3, haze=0.0, clouds=0.0, noise=0.5)
START_DAY = 17_500.0  # 2017-11-30
GROUND_M = LR_PIXEL_M / GROUND_SCALE


@dataclass(frozen=True)
class WorldStratSpec:
    """What tree to make.

    Attributes:
        aois: names; sizes and shapes differ a little among them.
        revisits: low-resolution images of each.
        size_px: side of the low resolution, about.
        levels: which of "L2A" and "L1C".
        twelve_bit: put the high resolution under ``hr_dataset/12bit``, as some copies do.
        shuffle_ranks: number the revisits by nearness to the high resolution, as the publication does; else by time.
        missing: AOI -> ranks that have no files.
        parts: AOI -> "train", "val" or "test"; "train" where not named.
        duplicates: (AOI, part) rows that the split file holds once more.
        shift_px: displacement (down, right) of the high resolution in low-resolution pixels.
        gains, offsets: per band B02 B03 B04 B08; reflectance is gain * numbers / 10,000 + offset.
        broken: (how, AOI, level, rank, kind) of low-resolution files that are wrong; how is a key of ``BREAKS``.
        broken_high: (how, AOI, kind) of high-resolution files that are wrong.
        angles: write the files of the angles.
        effects: what happens to the series; each date's own shift is part of it.
        seed: of everything.
    """

    aois: tuple[str, ...] = AOIS
    revisits: int = 4
    size_px: int = 44
    levels: tuple[str, ...] = LEVELS
    twelve_bit: bool = False
    shuffle_ranks: bool = True
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    duplicates: tuple[tuple[str, str], ...] = ()
    broken: tuple[tuple[str, str, str, int, str], ...] = ()
    broken_high: tuple[tuple[str, str, str], ...] = ()
    shift_px: tuple[float, float] = (0.37, -0.61)
    gains: tuple[float, ...] = (1.12, 0.94, 1.05, 0.88)
    offsets: tuple[float, ...] = (-0.012, 0.006, 0.010, -0.020)
    angles: bool = True
    effects: Effects = QUIET
    seed: int = 0


@dataclass(frozen=True, eq=False)
class AoiTruth:
    """What is true of one place.

    Attributes:
        series: the simulated series, in order of time; ``series.anchor`` is the date nearest to the high resolution.
        ranks: (time,) the rank under which each date is stored.
        hr_day: of the high resolution, days since 1970-01-01.
        shift_px: of the high resolution against the anchor (down, right), low-resolution pixels.
        gains, offsets: per band B02 B03 B04 B08.
        hr_shape: (rows, columns) of the pansharpened image.
    """

    series: SeriesTruth
    ranks: tuple[int, ...]
    hr_day: float
    shift_px: tuple[float, float]
    gains: tuple[float, ...]
    offsets: tuple[float, ...]
    hr_shape: tuple[int, int]

    def ground(self, scale: int = 4) -> FloatArray:
        """The anchor's ground on the lattice of the truth, (band, scale * y, scale * x), without shift."""
        fine = self.series.truth[self.series.anchor]
        rows, cols = (size // GROUND_SCALE * scale for size in fine.shape[-2:])
        return resample(fine, (rows, cols))


def make_worldstrat(root: Path, spec: WorldStratSpec | None = None) -> dict[str, AoiTruth]:
    """Write a tree, and return what is true of each AOI.

    Args:
        root: made if absent.
        spec: what tree; a small one with five AOIs when None.
    """
    chosen = spec or WorldStratSpec()
    root.mkdir(parents=True, exist_ok=True)
    truths = {aoi: _make_aoi(root, aoi, number, chosen) for number, aoi in enumerate(chosen.aois)}
    revisits = {
        aoi: [(rank, float(day)) for rank, day in zip(truth.ranks, truth.series.days, strict=True)]
        for aoi, truth in truths.items()
    }
    write_tables(
        root / METADATA_CSV,
        root / SPLIT_CSV,
        revisits,
        hr_days={aoi: truth.hr_day for aoi, truth in truths.items()},
        parts={aoi: chosen.parts.get(aoi, "train") for aoi in chosen.aois},
        duplicates=chosen.duplicates,
    )
    layout = Layout(root)
    for how, aoi, level, rank, kind in chosen.broken:
        BREAKS[how](layout.lr_file(aoi, level, rank, kind))
    for how, aoi, kind in chosen.broken_high:
        BREAKS[how](layout.hr_file(aoi, kind))
    return truths


def _make_aoi(root: Path, aoi: str, number: int, spec: WorldStratSpec) -> AoiTruth:
    draw = generator(spec.seed, "worldstrat", aoi)
    shape = (spec.size_px + int(draw.integers(-2, 3)), spec.size_px + int(draw.integers(-2, 3)))
    days = START_DAY + np.cumsum(draw.integers(5, 40, spec.revisits)) + draw.uniform(0.4, 0.45, spec.revisits)
    # Neither the first nor the last where there is a choice, so that no order by nearness is one of time.
    anchor = int(draw.integers(1, spec.revisits - 1)) if spec.revisits > 2 else 0
    truth = _simulate(number, shape, days, anchor, spec)
    hr_day = float(np.floor(days[anchor]) + draw.integers(-2, 3))
    ranks = _ranks(days, hr_day, spec.shuffle_ranks)
    layout = Layout(root)
    layout.hr.mkdir(exist_ok=True)
    (layout.hr / ("12bit" if spec.twelve_bit else "") / aoi).mkdir(parents=True)
    ground = truth.truth[truth.anchor]
    sides = {kind: _side(shape, metres) for kind, metres in HR_PIXEL_M.items()}
    high = {kind: _high(ground, side, spec) for kind, side in sides.items() if kind in ("ps", "rgbn")}
    write_high(layout, aoi, high)
    for date, rank in enumerate(ranks):
        if rank not in spec.missing.get(aoi, ()):
            image = RevisitImage(truth, date, rank, hr_day, place=number, angles=spec.angles)
            for level in spec.levels:
                write_revisit(layout, aoi, level, image)
    return AoiTruth(truth, ranks, hr_day, spec.shift_px, spec.gains, spec.offsets, sides["ps"])


def _simulate(
    number: int, shape: tuple[int, int], days: npt.NDArray[np.float64], anchor: int, spec: WorldStratSpec
) -> SeriesTruth:
    rows, cols = (size * GROUND_SCALE for size in shape)
    scene = landscape_window(spec.seed, (0, 1024 * (number + 2)), (rows, cols), GROUND_M)
    return simulate_series(
        scene.reflectance,
        days=list(days),
        scale=GROUND_SCALE,
        seed=spec.seed + number,
        effects=spec.effects,
        anchor=anchor,
        cover=scene.cover,
        parcel=scene.parcel,
    )


def _ranks(days: npt.NDArray[np.float64], hr_day: float, shuffle: bool) -> tuple[int, ...]:
    order = np.argsort(np.abs(days - hr_day), kind="stable") if shuffle else np.argsort(days)
    ranks = np.empty(len(days), np.intp)
    ranks[order] = np.arange(1, len(days) + 1)
    return tuple(int(rank) for rank in ranks)


def _side(shape: tuple[int, int], metres: float) -> tuple[int, int]:
    """Pixels of a high-resolution image over the same box: whatever number fits, not a multiple."""
    return (int(shape[0] * LR_PIXEL_M / metres), int(shape[1] * LR_PIXEL_M / metres))


def _high(ground: FloatArray, side: tuple[int, int], spec: WorldStratSpec) -> npt.NDArray[np.uint16]:
    """The ground as stored in the high resolution, (4, Y, X) uint16 in B02 B03 B04 B08: displaced, in other numbers."""
    down, right = (-shift * GROUND_SCALE for shift in spec.shift_px)
    moved = resample(ground, side, (down, right))
    gains, offsets = (np.array(v, np.float32)[:, None, None] for v in (spec.gains, spec.offsets))
    return np.clip(np.round((moved - offsets) / gains * 10_000), 1, 65_535).astype(np.uint16)
