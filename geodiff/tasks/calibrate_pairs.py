"""Held-out ground to calibrate on: patches with their truth, the same number from every place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geodiff.imagery.ground import Ground, split_places
from geodiff.imagery.light import relative_light
from geodiff.imagery.places import read_places
from geodiff.imagery.real_series import RealSeries, read_series
from geodiff.model.images import Series
from geodiff.model.simulate import SimulationConfig, simulate
from geodiff.model.sky import draw_sky
from geodiff.rng import generator
from geodiff.schema import BoolArray, FloatArray, GeodiffError, Patch
from geodiff.tasks.leakage import PLACES
from geodiff.tasks.train_data import PatchSource, TrainConfig
from geodiff.tasks.train_pairs import RealSource

STRIP_PATCH_PX, CELL_PX = 32, 4
SHOWN = 0.9
"""Share of a patch that the other dates must show before the target is hidden."""

CLOUDED = SimulationConfig(mtf=(0.3,), cloud_cover=(0.05, 0.5)).sky
COVER, TRIES = (0.2, 0.7), 20
"""Made-up clouds over a part of a target: the share that they hide with their shadows, and how often they are drawn."""

SMALLEST_PATCH_PX = 16
"""A narrower patch is border all over."""

DATES = (1, 2, 3, 4, 6)
CHANGING_DATES = (2, 4, 8)
HELD_SEED, CHANGING_SEED = 4242, 99
CHANGING_FIRST = 1 << 20
"""Where pairs of real series lie on the lattice, beyond all others."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldPair:
    """A patch whose truth is known.

    Attributes:
        place: name; pairs of one place count as one in every average.
        patch: what the model sees.
        truth: (band, scale*y, scale*x) reflectance.
        clear: (scale*y, scale*x) bool: where the truth is.
        changes: the other dates are real ones, not copies under another light, between which nothing grows or is built.
        trained: training saw this ground.
        covered: a twin, of whose target the patch was denied a part or all.
    """

    place: str
    patch: Patch
    truth: FloatArray
    clear: BoolArray
    changes: bool = True
    trained: bool = False
    covered: bool = False

    @property
    def hidden(self) -> bool:
        """The target date shows nothing, and nobody knows its light."""
        target = self.patch.target_index
        return target is None or not (self.patch.valid[target].any() or self._lit)

    @property
    def _lit(self) -> bool:
        return self.patch.light is not None and bool(np.isfinite(self.patch.light).any())


def calibration_pairs(
    root: Path, card: Mapping[str, Any], bands: tuple[str, ...], scale: int, mtf: tuple[float, ...], *, each: int
) -> tuple[list[HeldPair], list[HeldPair]]:
    """Pairs of all ground under a data folder that a model was not trained on, and of all that really changed.

    Of the first, held-out strips give Wald pairs (the strip seen through the sensor, and nothing else: what a test on a
    clear scene does) and simulated series (with clouds, haze, noise and other dates) by halves. Real series that the
    card of the model does not name give Wald pairs with their own dates and clouds. Hidden targets are rare among all
    these: every pair with real other dates, and every second of the others, clear and cloudy ones alike, comes once
    more with its target hidden; those with real other dates also with a part of it under made-up clouds, and hidden but
    with its light known, as deep inside a wide gap.

    The second are Wald pairs of all real series, with 2, 4 and 8 of their own dates, and such twins. They tell what
    other dates are worth where the ground really changed between them; if training saw them, rather too much.
    Products of one footprint are one place.

    Args:
        root: data folder of the training.
        card: of the model.
        bands: of the model.
        scale: of the model.
        mtf: of the bands.
        each: pairs of a place.

    Raises:
        GeodiffError: nothing is held out.
    """
    every = read_series(root, bands).series
    unseen = _unseen(every, card)
    _, strips = split_places(read_places(root))
    held = [pair for place in strips for pair in _strip_pairs(place, scale, mtf, each, HELD_SEED)]
    held += [pair for series in unseen for pair in _real_pairs(series, bands, scale, mtf, each, HELD_SEED)]
    if not held:
        raise GeodiffError(f"no ground under {root} is held out: nothing to calibrate on")
    changing: list[HeldPair] = []
    grounds: dict[object, str] = {}
    for series in every:
        place = grounds.setdefault(series.footprint or series.name, series.name)
        pairs = _real_pairs(series, bands, scale, mtf, each, CHANGING_SEED, dates=CHANGING_DATES)
        changing += [replace(pair, place=place, trained=series not in unseen) for pair in pairs]
    return with_hidden(held), with_hidden(changing, first=CHANGING_FIRST)


def with_hidden(found: list[HeldPair], *, first: int = 0) -> list[HeldPair]:
    """Pairs and their twins, whose target is hidden, clouded or deep in a gap, each at a place and on a day of its own.

    Args:
        found: pairs; they grow by the twins.
        first: where on the lattice they begin.
    """
    chosen = [(number, pair) for number, pair in enumerate(found) if pair.changes or number % 4 in (0, 3)]
    twins = [_hidden(pair) for _, pair in chosen]
    # Ground that did not change tells of partial clouds where there is no other.
    any_changes = any(pair.changes for pair in found)
    told = [(number, pair) for number, pair in chosen if pair.changes or not any_changes]
    twins += [_clouded(pair, number) for number, pair in told] + [_deep(pair) for _, pair in told]
    found += [twin for twin in twins if twin is not None]
    found = [pair for pair in found if pair.patch.valid.any()]
    return [replace(pair, patch=_apart(pair.patch, number)) for number, pair in enumerate(found, first)]


def _apart(patch: Patch, number: int) -> Patch:
    """The patch elsewhere on the lattice and on another day, lest two of them share their noise; with its light."""
    moved = replace(patch, origin_px=(0, 1024 * number), days=patch.days + number, target_day=patch.target_day + number)
    return moved if moved.light is not None else replace(moved, light=_light(patch))


def _hidden(pair: HeldPair) -> HeldPair | None:
    """The pair without its target date, where the others show the ground; None elsewhere."""
    return _covered(pair, np.ones(pair.patch.valid.shape[1:], np.bool_))


def _clouded(pair: HeldPair, number: int) -> HeldPair | None:
    """The pair with made-up clouds over a part of its target, where the others show the ground; None elsewhere."""
    chance = torch.Generator().manual_seed(_seed_of(HELD_SEED, pair.place, number))
    rows, cols = pair.patch.valid.shape[1:]
    pixel_m, known = torch.tensor([pair.patch.pixel_m]), torch.tensor([True])
    for _ in range(TRIES):
        cloud = draw_sky((rows, cols), pixel_m, known, CLOUDED, chance).masked[0].numpy()
        if COVER[0] <= cloud.mean() <= COVER[1]:
            return _covered(pair, cloud)
    return None


def _deep(pair: HeldPair) -> HeldPair | None:
    """The pair as deep inside a wide gap: nothing of its target is seen near by, but its light is known from afar."""
    hidden = _hidden(pair)
    return None if hidden is None else replace(hidden, patch=replace(hidden.patch, light=_light(pair.patch)))


def _light(patch: Patch) -> FloatArray | None:
    """The light of the dates of a patch, from the patch alone."""
    if patch.target_index is None:
        return None
    seen = np.where(patch.valid[:, None], patch.reflectance, np.nan).astype(np.float32)
    return relative_light(seen.reshape(*seen.shape[:2], -1), patch.target_index)


def _covered(pair: HeldPair, cloud: BoolArray) -> HeldPair | None:
    target = pair.patch.target_index
    if target is None:
        return None
    valid = pair.patch.valid.copy()
    valid[target] &= ~cloud
    if valid.any(0).mean() < SHOWN:
        return None
    return replace(pair, patch=replace(pair.patch, valid=valid), covered=True)


def _seed_of(seed: int, place: str, number: int) -> int:
    """Of the sky over one pair: each place has skies of its own."""
    return int(generator(seed, "held out", place, number).integers(1 << 62))


def _unseen(series: Sequence[RealSeries], card: Mapping[str, Any]) -> list[RealSeries]:
    """Series that the card names neither by themselves nor by their family."""
    trained = {str(name) for key in (PLACES, "places") for name in card.get(key, [])}
    return [one for one in series if one.name not in trained and one.name.split("/")[0] not in trained]


def _strip_pairs(place: Ground, scale: int, mtf: tuple[float, ...], each: int, seed: int) -> Iterator[HeldPair]:
    settings = TrainConfig(batch=1, scale=scale, patch_px=STRIP_PATCH_PX, dates=DATES)
    return simulated_pairs(place, settings, SimulationConfig(scale=scale, mtf=mtf), each=each, seed=seed)


def simulated_pairs(
    place: Ground,
    settings: TrainConfig,
    sky: SimulationConfig,
    *,
    each: int,
    seed: int,
    order: Sequence[int] | slice = slice(None),
    scored: slice = slice(None),
) -> Iterator[HeldPair]:
    """Pairs of one place, by turns seen through the optics alone and under the whole sky.

    Args:
        place: held out.
        settings: of the patches, one at a time.
        sky: the sensor and what is above it.
        each: number of pairs.
        seed: of everything drawn.
        order: of the bands that are seen among those of the place.
        scored: which of these are the truth.
    """
    source = PatchSource([place], settings, scale=settings.scale, seed=seed)
    # Nothing but the optics; the noise is that of float32.
    clear = replace(sky, cloudy_target=0.0, hidden_target=0.0, overmasked_date=0.0)
    plain = replace(clear, mtf_spread=0.0, noise_floor=(1e-7, 2e-7), photon_noise=(0.0, 0.0))
    for number in range(each):
        chance = torch.Generator().manual_seed(_seed_of(seed, place.name, number))
        images, days, pixel_m = source.batch(number)
        series, truth, _ = simulate(images[:, :, order], days, pixel_m, (plain, sky)[number % 2], chance)
        own = series.days[0] == 0
        if own.sum() > 1:  # a copy of the target would tell it where it is hidden
            continue
        whole = np.ones((truth.shape[-2], truth.shape[-1]), np.bool_)
        target, changes = int(own.int().argmax()), _as_photographed(place, series.days[0, ~own].numpy())
        yield _pair(place.name, series, target, truth[0, scored].numpy(), whole, changes)


def _as_photographed(place: Ground, offsets: FloatArray) -> bool:
    """The other dates of a draw are dates of the place, and not its target under the light of a day that is made up."""
    known = np.subtract.outer(place.days, place.days)
    return bool(len(offsets)) and all(np.isclose(known, offset, atol=1e-3).any() for offset in offsets)


def _real_pairs(
    series: RealSeries,
    bands: tuple[str, ...],
    scale: int,
    mtf: tuple[float, ...],
    each: int,
    seed: int,
    *,
    dates: tuple[int, ...] = DATES,
) -> Iterator[HeldPair]:
    side = min(min(series.size) // (scale * CELL_PX) * CELL_PX, STRIP_PATCH_PX)
    if side < SMALLEST_PATCH_PX:
        return
    counts = tuple(count for count in dates if count <= len(series.days))
    if not counts:
        return
    settings = TrainConfig(batch=1, bands=bands, scale=scale, real_patch_px=side, dates=counts)
    try:
        source = RealSource([series], settings, mtf, seed)
        for number in range(each):
            found = source.batch(number)
            target = int(found.series.days[0].abs().argmin())
            yield _pair(series.name, found.series, target, found.target[0].numpy(), found.clear[0].numpy())
    except GeodiffError:  # no date of it is clear enough to be a truth
        return


def _pair(
    place: str, series: Series, target: int, truth: FloatArray, clear: BoolArray, changes: bool = True
) -> HeldPair:
    patch = Patch(
        reflectance=series.reflectance[0].numpy(),
        valid=series.valid[0].numpy(),
        days=series.days[0].numpy().astype(np.float64),
        target_day=0.0,
        target_index=target,
        shift_px=series.shift_px[0].numpy(),
        pixel_m=float(series.pixel_m[0]),
        origin_px=(0, 0),
    )
    return HeldPair(place, patch, truth, clear, changes)
