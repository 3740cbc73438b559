"""How wide the ensemble must be: members against the truth on strips that the training never saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from geodiff.imagery.places import Place
from geodiff.model.resolver import DiffusionResolver
from geodiff.model.simulate import SimulationConfig, simulate
from geodiff.schema import FloatArray, Patch
from geodiff.tasks.train_data import PatchSource, TrainConfig

EDGE_PX = 16
"""High-resolution pixels at the border of a patch that do not count: the model lacks context there."""

NORMAL_90 = 1.645
"""Half-width of the central 90 % of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes:
        spread: factor on the members' deviation from the mean that makes their power that of the error.
        spread_skill: the same ratio before, spread over error; 1 is calibrated, below 1 is over-confident.
        coverage_90: share of true values within 1.645 times the corrected uncertainty.
        rmse: of the mean, in reflectance.
        members: in the ensemble.
        patches: number of patches.
    """

    spread: float
    spread_skill: float
    coverage_90: float
    rmse: float
    members: int
    patches: int


def calibrate(
    resolver: DiffusionResolver, held: list[Place], *, patches: int = 48, members: int = 8, seed: int = 4242
) -> Calibration:
    """Restore simulated series of held-out ground and compare the ensemble's deviation with its error.

    One factor serves all bands and places: it corrects the power on average, not the shape of the distribution.

    Args:
        resolver: of the model; its own ``spread`` is ignored.
        held: places that the training never saw (``imagery.places.split_places``).
        patches: number of series.
        members: in the ensemble.
        seed: of patches and sky.
    """
    plain = replace(resolver, spread=1.0)
    errors: list[FloatArray] = []
    deviations: list[FloatArray] = []
    for patch, truth in islice(_series(plain, held, seed), patches):
        restored = plain.restore(patch, members=members, seed=seed)
        inner = (slice(None), slice(EDGE_PX, -EDGE_PX), slice(EDGE_PX, -EDGE_PX))
        known = np.isfinite(restored.mean[inner])
        errors.append((restored.mean - truth)[inner][known])
        deviations.append(np.sqrt(np.square(restored.members - restored.mean).mean(0))[inner][known])
    error, deviation = np.concatenate(errors).astype(np.float64), np.concatenate(deviations).astype(np.float64)
    skill, power = float(np.sqrt(np.square(error).mean())), float(np.sqrt(np.square(deviation).mean()))
    spread = skill / max(power, 1e-12)
    inside = float((np.abs(error) <= NORMAL_90 * spread * deviation).mean())
    return Calibration(round(spread, 4), round(power / skill, 4), round(inside, 4), round(skill, 6), members, patches)


def _series(resolver: DiffusionResolver, held: list[Place], seed: int) -> Iterator[tuple[Patch, FloatArray]]:
    """Patches of one series each, with the truth (band, y, x) of their target."""
    simulation = SimulationConfig(scale=resolver.scale, mtf=resolver.model.config.mtf)
    source = PatchSource(held, TrainConfig(batch=1), scale=resolver.scale, seed=seed)
    for number, batch in enumerate(source):
        series, truth, _ = simulate(*batch, simulation, torch.Generator().manual_seed(seed + number))
        days = series.days[0].numpy().astype(np.float64)
        patch = Patch(
            reflectance=series.reflectance[0].numpy(),
            valid=series.valid[0].numpy(),
            days=days,
            target_day=0.0,
            target_index=int(np.argmin(np.abs(days))),
            shift_px=series.shift_px[0].numpy(),
            pixel_m=float(series.pixel_m[0]),
            origin_px=(0, number * 1000),
        )
        yield patch, truth[0].numpy()
