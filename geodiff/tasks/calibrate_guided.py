"""Calibration of a guided model: held-out ground with all ten bands, restored by the two models one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from geodiff.imagery.ground import Place
from geodiff.imagery.places_20m import read_places_20m, split_places_20m
from geodiff.model.draft import Draft
from geodiff.model.guided import GuidedResolver
from geodiff.model.resolver import DiffusionResolver
from geodiff.model.simulate import SimulationConfig
from geodiff.schema import BANDS_10M, BANDS_20M, GeodiffError
from geodiff.sensor import band_mtf, native_step
from geodiff.tasks.calibrate import MEMBERS, Calibration, calibrate
from geodiff.tasks.calibrate_pairs import DATES, HeldPair, simulated_pairs, with_hidden
from geodiff.tasks.train_data import TrainConfig

BANDS = (*BANDS_10M, *BANDS_20M)
PATCH_PX, SCALE = 24, 4
"""Side of a patch on the lattice of the finer bands, and how many times finer the truth is."""

PIXEL_FACTORS = (0.125, 0.25, 0.5)
"""The models are told pixels of 20 to 80 m: from about those of their use to those of the degraded truth."""


def calibrate_guided(
    fine: Callable[[int], DiffusionResolver],
    coarse: DiffusionResolver,
    root: Path,
    passes: tuple[int, ...],
    *,
    each: int,
) -> Calibration:
    """Calibrate a model of the 20 m bands together with the calibrated model that guides it.

    Args:
        fine: of a number of passes, the model of the 10 m bands as it is calibrated for them.
        coarse: of the 20 m bands.
        root: data folder of the training; what it holds out is used.
        passes: numbers of passes, 2 or more.
        each: pairs of a place.

    Raises:
        GeodiffError: nothing is held out.
    """
    pairs = guided_pairs(root, each=each)

    def draft(sampler: DiffusionResolver, pair: HeldPair, seed: int) -> Draft | None:
        both = GuidedResolver(coarse.name, fine(sampler.passes), sampler)
        return both.draft(pair.patch, members=MEMBERS, seed=seed)

    # None of this ground changes between dates: what they are to be trusted in comes from the model that guides.
    return calibrate(replace(coarse, own_share=fine(passes[0]).own_share), pairs, passes, drafter=draft)


def guided_pairs(root: Path, *, each: int, seed: int = 4242) -> list[HeldPair]:
    """Patches of ten bands, those of 20 m as blocks, with the truth of the 20 m bands.

    Half of them are seen through the optics alone, half under the whole sky; as in
    ``calibrate_pairs.calibration_pairs`` some come once more with their target hidden.

    Raises:
        GeodiffError: nothing is held out.
    """
    _, held = split_places_20m(read_places_20m(root))
    found = [pair for place in held for pair in _pairs(place, each, seed)]
    if not found:
        raise GeodiffError(f"no ground with ten bands under {root} is held out: nothing to calibrate on")
    return with_hidden(found)


def _pairs(place: Place, each: int, seed: int) -> Iterator[HeldPair]:
    settings = TrainConfig(batch=1, scale=SCALE, patch_px=PATCH_PX, dates=DATES, pixel_factors=PIXEL_FACTORS)
    steps = tuple(native_step(band) for band in BANDS)
    sky = SimulationConfig(scale=SCALE, mtf=band_mtf(BANDS), steps=steps)
    stored = (*BANDS_20M, *BANDS_10M)
    order, coarse = [stored.index(band) for band in BANDS], slice(len(BANDS_10M), None)
    return simulated_pairs(place, settings, sky, each=each, seed=seed, order=order, scored=coarse)
