"""Scores of bands that were not sampled alike: each against the pixels that the sensor took of it.

A low-resolution series holds bands of 20 m in blocks of two by two pixels. Whatever compares a restored image with the
low resolution takes the bands of one sampling at a time, on their own pixels and at their own factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from geodiff.imagery.lattice import grid_of
from geodiff.metrics.fidelity import cpsnr
from geodiff.model.native import by_step
from geodiff.schema import BoolArray, FloatArray
from geodiff.tasks.evaluate_cases import EvaluationCase

Values = dict[str, float | None]

SAMPLINGS = {1: "10m", 2: "20m"}
"""Names of the samplings, by ``sensor.native_step``."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The bands of one sampling, on whole pixels of their own.

    Attributes:
        bands: names.
        index: of the bands among those that are scored.
        own: rows and columns, in high-resolution pixels, that whole pixels of the bands cover.
        low: (band, y, x) what the sensor saw of the date, a pixel for a pixel; NaN where unknown.
        scale: high-resolution pixels in one of ``low``.
    """

    bands: tuple[str, ...]
    index: list[int]
    own: tuple[slice, slice]
    low: FloatArray
    scale: int

    def of(self, image: FloatArray) -> FloatArray:
        """These bands and pixels of (band, scale*y, scale*x) of all that is scored."""
        chosen: FloatArray = image[self.index][(slice(None), *self.own)]
        return chosen


def samplings(case: EvaluationCase, bands: Sequence[str], scale: int) -> Iterator[Sampled]:
    """The samplings among the bands of a case, the finest first."""
    origin = grid_of(case.low).lattice_origin
    for step, index in by_step(bands).items():
        cut, own = [], []
        for first, size in zip(origin, case.observed.shape[1:], strict=True):
            start = -first % step
            cut.append(slice(start, start + (size - start) // step * step))
            own.append(slice(cut[-1].start * scale, cut[-1].stop * scale))
        seen = case.observed[list(index)][:, cut[0], cut[1]]
        _, rows, cols = seen.shape
        low: FloatArray = seen.reshape(len(index), rows // step, step, cols // step, step).mean((2, 4))
        yield Sampled(tuple(bands[i] for i in index), list(index), (own[0], own[1]), low, scale * step)


def over_samplings(parts: Sequence[Sampled], metric: Callable[[Sampled], Values]) -> Values:
    """The mean of a metric over the samplings, each with the weight of its bands; none where one of them has none."""
    if len(parts) == 1:
        return metric(parts[0])
    found = [metric(part) for part in parts]
    weights = [len(part.index) for part in parts]
    values: Values = {}
    for name in found[0]:
        each = [told.get(name) for told in found]
        known = [value for value in each if value is not None]
        if len(known) == len(each):
            values[name] = sum(w * v for w, v in zip(weights, known, strict=True)) / sum(weights)
    return values


def band_names(bands: Sequence[str]) -> tuple[str, ...]:
    """What cPSNR is told apart by: the samplings, then the bands; nothing where all bands are of 10 m."""
    steps = by_step(bands)
    return () if list(steps) == [1] else (*(SAMPLINGS[step] for step in steps), *bands)


def band_scores(mean: FloatArray, truth: FloatArray, seen: BoolArray, bands: Sequence[str]) -> Values:
    """cPSNR by sampling and by band, ``cpsnr_db_20m`` and ``cpsnr_db_B11``; empty where all bands are of 10 m.

    Args:
        mean: (band, y, x) reflectance.
        truth: of the same shape.
        seen: (y, x) bool, pixels that count.
        bands: names.
    """
    steps = {SAMPLINGS[step]: list(index) for step, index in by_step(bands).items()}
    places = {**steps, **{band: [place] for place, band in enumerate(bands)}}
    score = partial(_cpsnr, mean, truth, seen)
    return {f"cpsnr_db_{name}": score(places[name]) for name in band_names(bands)}


def _cpsnr(mean: FloatArray, truth: FloatArray, seen: BoolArray, index: list[int]) -> float | None:
    try:
        return cpsnr(mean[index], truth[index], seen)
    except ValueError:
        return None
