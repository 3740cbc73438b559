"""The filters that give the members' deviation the power of the error at every radial frequency, in all directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from geodiff.model.brightness import DARKEST
from geodiff.model.draft import Draft
from geodiff.model.members import REACH_PX, DeviationFilter, tap_count, tap_ranks
from geodiff.model.resolver import DiffusionResolver
from geodiff.tasks.calibrate_mixing import mixing
from geodiff.tasks.calibrate_pairs import HeldPair
from geodiff.tasks.calibrate_spectra import (
    BINS,
    CENTRES,
    EDGE_PX,
    LATTICE,
    UP_TO,
    Array,
    by_radius,
    inner,
    lattice_power,
    radial_power,
    radius,
)

SMALLEST_PX = 64
ROUNDS, HIDDEN_ROUNDS = 10, 3
FADED = 0.1
"""Gain of the filter of hidden dates at frequencies that its kernel does not tell from brightness."""

MOST_TURNED = 8.0
"""Factor by which one direction is raised or lowered against the others at most."""

RAW = DeviationFilter()

_MAX_GAIN, _MIN_GAIN = 30.0, 0.02


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


def evenness(drafts: Sequence[Draft], pairs: Sequence[HeldPair], spread: DeviationFilter = RAW) -> Array:
    """(band, LATTICE, LATTICE): the gain under which members deviate by the same power in every direction.

    What they deviate by at a radial frequency is left to others. Nor is it asked how errors lie: fields and streets of
    a few places run north and east more than those of the next.

    Args:
        drafts: that ``wide_pairs`` chose.
        pairs: with the names of their places, which count alike.
        spread: of the members, without texture.
    """
    rows: dict[str, list[Array]] = {}
    for draft, pair in zip(drafts, pairs, strict=True):
        deviation = spread.apply(draft.deviation, torch.ones_like(draft.upsampled))
        power = lattice_power(inner(deviation.numpy()).astype(np.float64)).mean(0)
        rows.setdefault(pair.place, []).append(power / power.mean((-2, -1), keepdims=True))
    power = np.exp(np.log([np.mean(found, axis=0) for found in rows.values()]).mean(0))
    level = np.stack([np.interp(radius(LATTICE), CENTRES, band) for band in by_radius(power)])
    gain: Array = np.sqrt(level.reshape(power.shape) / power)
    return gain.clip(1 / MOST_TURNED, MOST_TURNED)


def taps_for(gain: Array, even: Array | None = None) -> DeviationFilter:
    """The kernel whose response is nearest to a gain, in relative terms, each radial frequency alike.

    Args:
        gain: (band, BINS) by radial frequency.
        even: (band, LATTICE, LATTICE) by which it is multiplied, the same for opposite frequencies; 1 when None.
    """
    basis, frequency, rows = _responses(), radius(LATTICE), []
    for index, band in enumerate(gain):
        wanted = np.interp(frequency, CENTRES, band)
        if even is not None:
            wanted = wanted * even[index].ravel()
        # Rings of a lattice grow with their radius; beyond 0.9 of Nyquist nothing is asked for but to stay calm.
        weight = np.where(frequency > 0.9, 0.2, 1.0) / (wanted * np.sqrt(frequency + 1 / LATTICE))
        left, right = basis * weight[:, None], wanted * weight
        ridge = 1e-5 * np.trace(left.T @ left) * np.eye(basis.shape[1]) / basis.shape[1]
        rows.append(tuple(round(float(tap), 5) for tap in np.linalg.solve(left.T @ left + ridge, left.T @ right)))
    return DeviationFilter(tuple(rows))


@cache
def _responses() -> Array:
    """(LATTICE * LATTICE, tap): how each frequency answers to each tap alone."""
    kernels = np.zeros((tap_count(REACH_PX), LATTICE, LATTICE))
    rank = tap_ranks(REACH_PX)
    kernels[rank.ravel(), *(axis.ravel() for axis in np.indices(rank.shape))] = 1
    found: Array = np.fft.fft2(np.roll(kernels, (-REACH_PX, -REACH_PX), (1, 2))).real.reshape(len(kernels), -1).T
    return found


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
    is found with it, and the best of a few rounds is taken.

    Args:
        resolver: of the model.
        drafts: of pairs whose target was observed.
        pairs: with the truth.
        power: of the texture.
    """
    lowest = 1 / resolver.scale
    even, mix, gain = _shape(
        replace(resolver, spread=DeviationFilter(power=power)), drafts, pairs, lowest, every=(drafts, pairs)
    )
    best: tuple[float, DeviationFilter] | None = None
    for _ in range(ROUNDS + 1):
        spread = replace(taps_for(gain, even), power=power, mix=mix)
        found = measure(replace(resolver, spread=spread), drafts, pairs)
        ratio = _ratio(found)
        gap = float(np.square(np.log(ratio))[:, (CENTRES > 0.25) & (CENTRES <= 0.9)].mean())
        if best is None or gap < best[0]:
            best = (gap, spread)
        # Below the low Nyquist frequency the observation decides, and the constraint leaves no deviation to correct.
        gain = _from(lowest, gain * ratio**0.8)
    assert best is not None
    return best[1]


def fit_hidden_filter(
    resolver: DiffusionResolver,
    drafts: Sequence[Draft],
    pairs: Sequence[HeldPair],
    *,
    every: tuple[Sequence[Draft], Sequence[HeldPair]],
) -> DeviationFilter:
    """A filter with E|truth - mean|^2(f) = E|member - mean|^2(f) where the target is hidden and nothing constrains.

    Of the lowest frequencies little is left: raw members differ from the mean by an offset that is common to them all,
    and the brightness of the scene is drawn apart (``fit_brightness``).

    Args:
        resolver: of the model.
        drafts: of pairs whose target was hidden, of ground that tells how much members must differ.
        pairs: with the truth.
        every: such drafts and pairs of any ground. Which bands err together is a matter of the ground more than of what
            hides it, and two or three places do not tell it: near infrared errs with the visible bands or against them.
    """
    bare = replace(resolver, spread=DeviationFilter(), spread_hidden=None, brightness=None)
    lowest = 1 / REACH_PX
    even, mix, gain = _shape(bare, drafts, pairs, lowest, every=every)

    def with_gain() -> DeviationFilter:
        return replace(taps_for(np.where(lowest > CENTRES, FADED, gain), even), mix=mix)

    for _ in range(HIDDEN_ROUNDS):
        found = measure(replace(bare, spread=with_gain()), drafts, pairs)
        gain = _from(lowest, gain * _ratio(found))
    return with_gain()


def _shape(
    resolver: DiffusionResolver,
    drafts: Sequence[Draft],
    pairs: Sequence[HeldPair],
    lowest: float,
    *,
    every: tuple[Sequence[Draft], Sequence[HeldPair]],
) -> tuple[Array, tuple[tuple[float, ...], ...], Array]:
    """What makes the deviation even, what mixes its bands, and the first gain.

    What mixing leaves of a direction depends on how its bands go together there: it is evened once more.
    """
    even = evenness(drafts, pairs)
    flat = replace(taps_for(np.ones((len(resolver.bands), BINS)), even), power=resolver.spread.power)
    gain = _from(lowest, _ratio(measure(replace(resolver, spread=flat), drafts, pairs)))
    mix = mixing(replace(resolver, spread=flat), *every, lowest)
    return even * evenness(drafts, pairs, replace(taps_for(gain, even), mix=mix)), mix, gain


def _ratio(found: Spectra) -> Array:
    """(band, BINS): of the deviations of error and members; of the places' ratios the median counts.

    One place of odd texture, or whose pixels were resampled before they came here, must not shift the members of all
    others.
    """
    ratio: Array = np.sqrt(np.median(found.error / np.maximum(found.deviation, 1e-20), axis=0))
    return ratio


def _from(lowest: float, gain: Array) -> Array:
    """The gain with that of the lowest frequency that counts below it, within bounds."""
    first = int(np.argmax(lowest <= CENTRES))
    return np.where(np.arange(BINS) < first, gain[:, [first]], gain).clip(_MIN_GAIN, _MAX_GAIN)


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
