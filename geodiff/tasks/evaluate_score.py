"""Score one restored case: every metric of the report, on every region of the case, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from geodiff.metrics.consistency import Consistency, consistency
from geodiff.metrics.ensemble import fair_crps, independent_draws, interval_coverage, rank_histogram, spread_skill
from geodiff.metrics.fidelity import cpsnr, cssim, spectral_angle_deg
from geodiff.metrics.opensr import correctness
from geodiff.metrics.spectrum import clear_square, edge_fidelity, radial_power, spectrum_gap_db
from geodiff.model.checkpoint import digest
from geodiff.model.perceptual import Lpips, load_lpips, lpips_weights, perceptual_distance
from geodiff.schema import BoolArray, FloatArray
from geodiff.sensor import band_mtf
from geodiff.tasks.evaluate_bands import Sampled, Values, band_scores, over_samplings, samplings
from geodiff.tasks.evaluate_cases import WITH_MEMBERS, EvaluationCase
from geodiff.tasks.evaluate_ledger import Record
from geodiff.tasks.evaluate_restore import Ensemble
from geodiff.tasks.pictures import true_colour
from geodiff.tasks.wald_pair import CUT_PX, filled

LEVELS = (0.5, 0.8, 0.9)
"""Levels of the intervals whose coverage is reported."""

MIN_PIXELS = 256
"""A region with fewer clear pixels is not scored."""

SPECTRUM_BINS = 33
"""Frequencies of the stored spectra, from 0 to Nyquist."""


def score_case(case: EvaluationCase, found: Ensemble, *, bands: tuple[str, ...], scale: int) -> list[Record]:
    """One record per region of the case that has enough clear pixels.

    Where only means are compared (``WITH_MEMBERS`` does not hold the scenario), cPSNR and what costs nothing. Where
    bands of 20 m are scored, cPSNR also by sampling and by band (``evaluate_bands``).

    Args:
        case: with the truth in the order of ``bands``.
        found: restored, in the order of ``bands``.
        bands: that are scored.
        scale: high-resolution pixels in one low-resolution pixel.
    """
    records = []
    parts = list(samplings(case, bands, scale))
    for region, clear in case.regions(scale).items():
        seen = clear & np.isfinite(found.mean).all(0) & np.isfinite(case.truth).all(0)
        if seen.sum() < MIN_PIXELS:
            continue
        record: Record = {"region": region, "pixels": int(seen.sum())}
        values: Values = {"cpsnr_db": _or_none(partial(cpsnr, found.mean, case.truth, seen))}
        values |= _angles(case, found.mean, seen, parts)
        full = region == "all" and case.scenario in WITH_MEMBERS
        if full:
            values |= _whole(case, found, seen, parts) | _perceived(case, found.mean, seen, bands)
            values |= band_scores(found.mean, case.truth, seen, bands)
            record["spectrum"] = _spectrum(case, found, seen)
        if len(found.members) >= (2 if found.antithetic else 1) and region != "seen":
            record["rank_histogram"] = _ranks(case, found, seen)
        if len(found.members) and region != "seen":
            values |= _ensemble(case, found, seen)
        record["values"] = {name: _plain(value) for name, value in values.items()}
        records.append(record)
    return records


def _plain(value: float | None) -> float | None:
    """JSON knows no NaN: what cannot be computed is null."""
    return None if value is None or not math.isfinite(value) else float(value)


def _or_none(function: Callable[[], float]) -> float | None:
    """A metric that has nothing to look at (too few pixels, no edge) is null, not an error."""
    try:
        return float(function())
    except ValueError:
        return None


def _angles(case: EvaluationCase, mean: FloatArray, seen: BoolArray, parts: Sequence[Sampled]) -> Values:
    """Spectral angle to the truth; and, degraded back, error and angle to the observation.

    The latter on low-resolution pixels that lie wholly in the region and whose blur ends within the scene. Of bands of
    several samplings the angle is that within each.
    """
    values: Values = {"sam_deg": _or_none(lambda: spectral_angle_deg(mean, case.truth, seen))}
    found = [_consistent(mean, seen, part) for part in parts]
    results = [result for result in found if result is not None]
    if not results or len(results) < len(found):
        return values
    told = dict(zip(parts, results, strict=True))

    def of(part: Sampled) -> Values:
        return {"reflectance_mae": told[part].mae, "consistency_sam_deg": told[part].angle_deg}

    largest = max(result.max_error for result in results)
    return {**values, **over_samplings(parts, of), "reflectance_max": largest}


def _consistent(mean: FloatArray, seen: BoolArray, part: Sampled) -> Consistency | None:
    """The bands of one sampling, degraded back by their own optics; None without a pixel to compare on."""
    inner = np.zeros(part.low.shape[1:], np.bool_)
    inner[CUT_PX:-CUT_PX, CUT_PX:-CUT_PX] = True
    valid = np.isfinite(part.low).all(0) & _blocks(seen[part.own], part.scale) & inner
    if not valid.any():
        return None
    own = part.of(mean)
    image = filled(own, np.asarray(np.isfinite(own).all(0)))
    return consistency(image, np.nan_to_num(part.low), valid, scale=part.scale, mtf=band_mtf(part.bands))


def _blocks(seen: BoolArray, scale: int) -> BoolArray:
    rows, cols = seen.shape[0] // scale, seen.shape[1] // scale
    return np.asarray(seen[: rows * scale, : cols * scale].reshape(rows, scale, cols, scale).all((1, 3)))


def _whole(case: EvaluationCase, found: Ensemble, seen: BoolArray, parts: Sequence[Sampled]) -> Values:
    """Metrics that look at neighbourhoods."""
    values: Values = {
        "cssim": _or_none(lambda: cssim(found.mean, case.truth, seen)),
        "edge_fidelity": _or_none(lambda: edge_fidelity(found.mean, case.truth, seen)),
    }
    images = {"spectrum": found.mean}
    if len(found.members):
        images["member_spectrum"] = found.members[0]
    for name, image in images.items():
        values |= over_samplings(parts, partial(_gap, name, image, case.truth, seen))
    return values | over_samplings(parts, partial(_correctness, case, found.mean, seen))


def _gap(name: str, image: FloatArray, truth: FloatArray, seen: BoolArray, part: Sampled) -> Values:
    try:
        gap = spectrum_gap_db(part.of(image), part.of(truth), seen[part.own], scale=part.scale)
    except ValueError:
        return {}
    return {f"{name}_gap_db": gap.largest_db, f"{name}_bias_db": gap.mean_db}


@lru_cache(maxsize=2)
def _lpips(weights: Path) -> Lpips:
    return load_lpips(weights)


@lru_cache(maxsize=2)
def _digest_of(weights: Path) -> str:
    return digest(weights)


def lpips_digest() -> str | None:
    """Names the weights of the perceptual metric, for whoever has them; without them it is not computed."""
    weights = lpips_weights()
    return _digest_of(weights) if weights and weights.is_file() else None


def _perceived(case: EvaluationCase, mean: FloatArray, seen: BoolArray, bands: tuple[str, ...]) -> Values:
    weights = lpips_weights()
    if weights is None:
        return {}
    model = _lpips(weights)
    first, second, third = true_colour(bands)

    def distance() -> float:
        part = (slice(None), *clear_square(seen))
        return perceptual_distance(model, mean[part], case.truth[part], rgb=(first, second, third))

    return {"lpips": _or_none(distance)}


def _correctness(case: EvaluationCase, mean: FloatArray, seen: BoolArray, part: Sampled) -> Values:
    """Improvement, omission and hallucination against the date as the sensor saw it; null where it did not."""
    known = np.asarray(np.isfinite(part.low).all(0))
    if not known.any():
        return {}
    low, scale = filled(part.low, known), part.scale
    counted = seen[part.own] & known.repeat(scale, 0).repeat(scale, 1)
    try:
        told = correctness(low, part.of(mean), part.of(case.truth), counted, scale=scale)
    except ValueError:
        return {}
    return {"improvement": told.improvement, "omission": told.omission, "hallucination": told.hallucination}


def _ensemble(case: EvaluationCase, found: Ensemble, seen: BoolArray) -> Values:
    if len(found.members) < 2:
        return {}
    truth = case.truth[:, seen]
    draws = independent_draws(found.members[:, :, seen], antithetic=found.antithetic)
    values: Values = {
        "crps": _or_none(lambda: float(np.mean([np.nanmean(fair_crps(drawn, truth)) for drawn in draws]))),
        "spread_skill": _or_none(lambda: float(np.mean([spread_skill(drawn, truth) for drawn in draws]))),
    }
    for level in LEVELS:
        values[f"coverage_{round(100 * level)}"] = _coverage(case, found, seen, level)
    return values


def _coverage(case: EvaluationCase, found: Ensemble, seen: BoolArray, level: float) -> float | None:
    """Share of true values inside the interval that the model states, or else a normal one of its members' deviation.

    The deviation is that from the mean, which the main job stores as uncertainty.
    """
    half = _at(found.half_width, level)
    if half is None:
        deviation = np.sqrt(np.square(found.members - found.mean).mean(0))
        half = (NormalDist().inv_cdf(0.5 + level / 2) * deviation).astype(np.float32)
    return _or_none(lambda: interval_coverage(found.mean, half, case.truth, seen))


def _at(stated: Mapping[float, FloatArray], level: float) -> FloatArray | None:
    return next((half for known, half in stated.items() if abs(known - level) < 1e-6), None)


def _ranks(case: EvaluationCase, found: Ensemble, seen: BoolArray) -> list[int]:
    # The seed breaks ties alone, and those of real numbers are few: one for all cases will do.
    draws = independent_draws(found.members, antithetic=found.antithetic)
    counts = sum(rank_histogram(drawn, case.truth, seed=0, mask=seen) for drawn in draws)
    return [int(count) for count in np.atleast_1d(counts)]


def _spectrum(case: EvaluationCase, found: Ensemble, seen: BoolArray) -> dict[str, Any] | None:
    """Radial power of truth, mean and one member in decibels, mean of the bands, at shares of Nyquist's frequency."""
    images = {"truth": case.truth, "mean": found.mean}
    if len(found.members):
        images["member"] = found.members[0]
    try:
        part = (slice(None), *clear_square(seen))
    except ValueError:
        return None
    frequency = np.linspace(0, 1, SPECTRUM_BINS)[1:]
    told: dict[str, Any] = {"frequency": [round(float(f), 4) for f in frequency]}
    for name, image in images.items():
        centres, power = radial_power(image[part])
        level = (10 * np.log10(np.maximum(power, 1e-20))).mean(0)
        told[name] = [round(float(p), 3) for p in np.interp(frequency, centres, level)]
    return told
