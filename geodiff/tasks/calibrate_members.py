"""The filters that give the members' deviation the power of the error at every radial frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from geodiff.model.brightness import DARKEST
from geodiff.model.draft import Draft
from geodiff.model.members import REACH_PX, DeviationFilter, ring_count, rings
from geodiff.model.resolver import DiffusionResolver
from geodiff.tasks.calibrate_pairs import HeldPair

Array = npt.NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)

EDGE_PX = 16
"""High-resolution pixels at the border of a patch that do not count: the model lacks context there."""

BINS = 24
"""A window of 96 pixels has two radii in each, and a kernel of ``REACH_PX`` tells no more of them apart."""

CENTRES = (np.arange(BINS) + 0.5) / BINS
"""Radial frequencies in units of the Nyquist frequency of the high resolution."""

UP_TO = 0.8
SMALLEST_PX = 64
ROUNDS = 10
FADED = 0.1
"""Gain of the filter of hidden dates at frequencies that its kernel does not tell from brightness."""

_LATTICE = 48
_MAX_GAIN, _MIN_GAIN = 30.0, 0.02


def inner(image: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Without the border that does not count."""
    return image[..., EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]


def radial_power(image: npt.NDArray[np.floating]) -> Array:
    """(..., side, side) -> (..., BINS): power by radial frequency, under a Hann window that hides the borders."""
    side = image.shape[-1]
    hann = np.hanning(side + 2)[1:-1]
    window = hann[:, None] * hann
    centred = image - image.mean((-2, -1), keepdims=True)
    power = np.abs(np.fft.fft2(centred * window)) ** 2
    averaged: Array = power.reshape(*power.shape[:-2], -1) @ _hats(side)
    return averaged


@cache
def _hats(side: int) -> Array:
    """(side * side, BINS) weights of the frequencies of an image in each mean, falling linearly from its centre.

    Bins with edges would hold one radius of a small image here and two there, and zigzag along a steep spectrum.
    """
    radius = 2 * np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))).ravel()
    weight = (1 - np.abs(radius[:, None] - CENTRES) * BINS).clip(0)
    found: Array = weight / weight.sum(0)
    return found


@dataclass(frozen=True, eq=False)
class Spectra:
    """Radial powers, each (place, band, BINS): of the error, of the members' deviation, of members, mean and truth."""

    error: Array
    deviation: Array
    member: Array
    mean: Array
    truth: Array

    def gap_db(self, of: Array) -> Array:
        """(band, BINS): how far the power of an image lies from the truth's; places count alike."""
        gap: Array = 10 * np.log10(of / self.truth).mean(0)
        return gap

    def largest_gap_db(self, of: Array) -> float:
        """Largest gap of any radial frequency up to 0.8 of Nyquist, bands averaged."""
        return float(np.abs(self.gap_db(of).mean(0))[CENTRES <= UP_TO].max())


def wide_pairs(drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> list[int]:
    """Indices of pairs whose truth and restoration are whole, and that are wide enough for a spectrum."""
    return [
        index
        for index, (draft, pair) in enumerate(zip(drafts, pairs, strict=True))
        if bool(draft.known.all()) and pair.clear.all() and min(pair.clear.shape) >= SMALLEST_PX + 2 * EDGE_PX
    ]


def clear_pairs(drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> list[int]:
    """Those whose target was seen whole."""
    return [index for index in wide_pairs(drafts, pairs) if bool(drafts[index].observed.all())]


def measure(resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> Spectra:
    """Spectra of what the resolver makes of drafts that ``wide_pairs`` chose."""
    rows: dict[str, list[Array]] = {}
    for draft, pair in zip(drafts, pairs, strict=True):
        found = resolver.finish(draft)
        members, mean, truth = inner(found.members), inner(found.mean), inner(pair.truth)
        images = (truth - mean, members - mean, members, mean, truth)
        powers = [radial_power(image) for image in images]
        flat = [power if power.ndim == 2 else power.mean(0) for power in powers]
        rows.setdefault(pair.place, []).append(np.stack(flat))
    places = np.stack([np.mean(found, axis=0) for found in rows.values()])
    return Spectra(*(places[:, index] for index in range(5)))


def taps_for(gain: Array) -> DeviationFilter:
    """The kernel whose response is nearest to a gain (band, BINS), in relative terms, each radial frequency alike."""
    frequency = np.fft.fftfreq(_LATTICE)
    radius = 2 * np.hypot(*np.meshgrid(frequency, frequency)).ravel()
    ring, side = rings(REACH_PX), 2 * REACH_PX + 1
    responses = []
    for index in range(ring_count(REACH_PX)):
        kernel = np.zeros((_LATTICE, _LATTICE))
        kernel[:side, :side] = ring == index
        responses.append(np.fft.fft2(np.roll(kernel, (-REACH_PX, -REACH_PX), (0, 1))).real.ravel())
    basis = np.stack(responses, 1)
    rows = []
    for band in gain:
        wanted = np.interp(radius, CENTRES, band)
        # Rings of a lattice grow with their radius; beyond 0.9 of Nyquist nothing is asked for but to stay calm.
        weight = np.where(radius > 0.9, 0.2, 1.0) / (wanted * np.sqrt(radius + 1 / _LATTICE))
        left, right = basis * weight[:, None], wanted * weight
        ridge = 1e-5 * np.trace(left.T @ left) * np.eye(basis.shape[1]) / basis.shape[1]
        rows.append(tuple(round(float(tap), 5) for tap in np.linalg.solve(left.T @ left + ridge, left.T @ right)))
    return DeviationFilter(tuple(rows))


def fit_scalar(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair], *, power: float = 0.0
) -> DeviationFilter:
    """One factor for all frequencies and bands: the root of the ratio of the powers, places alike.

    ``power`` is that of the texture, which stays.
    """
    found = measure(replace(resolver, spread=DeviationFilter(power=power)), drafts, pairs)
    ratio = found.error.sum((1, 2)) / np.maximum(found.deviation.sum((1, 2)), 1e-20)
    return DeviationFilter(((round(float(np.sqrt(np.exp(np.log(ratio).mean()))), 4),),), power)


def fit_filter(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair], *, power: float = 0.0
) -> DeviationFilter:
    """A filter with E|truth - mean|^2(f) = E|member - mean|^2(f), both after the radiometric constraint.

    The constraint mixes each frequency with its aliases, so that the gain cannot be read off: it is corrected by what
    is found with it, and the best of a few rounds is taken. Of the places' ratios the median counts: one place of odd
    texture, or whose pixels were resampled before they came here, must not shift the members of all others.

    Args:
        resolver: of the model.
        drafts: of pairs whose target was observed.
        pairs: with the truth.
        power: of the texture.
    """
    spread, gain = DeviationFilter(power=power), None
    best: tuple[float, DeviationFilter] | None = None
    for _ in range(ROUNDS + 1):
        found = measure(replace(resolver, spread=spread), drafts, pairs)
        ratio = np.sqrt(np.median(found.error / np.maximum(found.deviation, 1e-20), axis=0))
        gap = float(np.square(np.log(ratio))[:, (CENTRES > 0.25) & (CENTRES <= 0.9)].mean())
        if gain is not None and (best is None or gap < best[0]):
            best = (gap, spread)
        # Below the low Nyquist frequency the observation decides, and the constraint leaves no deviation to correct.
        low = CENTRES * resolver.scale < 1
        ratio[:, low] = ratio[:, ~low][:, :1]
        gain = ratio if gain is None else gain * ratio**0.8
        gain = gain.clip(_MIN_GAIN, _MAX_GAIN)
        spread = replace(taps_for(gain), power=power)
    assert best is not None
    return best[1]


def fit_hidden_filter(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]
) -> DeviationFilter:
    """A filter with E|truth - mean|^2(f) = E|member - mean|^2(f) where the target is hidden and nothing constrains.

    Of the lowest frequencies little is left: raw members differ from the mean by an offset that is common to them all,
    and the brightness of the scene is drawn apart (``fit_brightness``).
    """
    bare = replace(resolver, spread=DeviationFilter(), spread_hidden=None, brightness=None)
    found = measure(bare, drafts, pairs)
    ratio = np.sqrt(np.median(found.error / np.maximum(found.deviation, 1e-20), axis=0))
    lowest = int(np.argmax(CENTRES > 1 / REACH_PX))
    ratio[:, :lowest] = FADED
    return taps_for(ratio.clip(FADED, _MAX_GAIN))


def brightness_ratios(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]
) -> Mapping[str, Array]:
    """Logarithms of true over restored brightness of whole windows, (window, band) by place."""
    rows: dict[str, list[Array]] = {}
    for draft, pair in zip(drafts, pairs, strict=True):
        mean = inner(resolver.finish(draft).mean)
        keep = inner(pair.clear) & np.isfinite(mean).all(0)
        if keep.any():
            levels = [image[:, keep].mean(1, dtype=np.float64) for image in (inner(pair.truth), mean)]
            true, restored = (np.log(np.maximum(level, DARKEST)) for level in levels)
            rows.setdefault(pair.place, []).append(true - restored)
    return {place: np.stack(each) for place, each in rows.items()}
