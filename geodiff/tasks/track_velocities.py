"""Generation as diffusion: whole stretches of velocities, drawn from noise.

A student of few passes gets the margins of where a vessel may be right; how it moves on the way, and what tells a ferry
from a tanker, is of the whole stretch. So these windows are learned with the denoising loss alone, and drawn in many
passes, with classifier-free guidance (Ho & Salimans 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geodiff.model.sampler import euler
from geodiff.model.tracks import TrackDenoiser
from geodiff.rng import generator
from geodiff.schema import GeodiffError
from geodiff.tasks.track_fleets import fleet_of
from geodiff.tasks.track_pieces import Grid, Pieces
from geodiff.tracks import TrackQuery
from geodiff.vessels.velocities import UNIT_KN
from geodiff.vessels.windows import Windows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_KNOWN = 2 / 3
"""How much of a window is known at most, where a track goes on."""

PASSES = 13
LAST_LEVEL = 0.2
"""Below it an imperfect network adds more jitter than it takes away."""

CARD: Final = "generation"
"""Entry of the card: the grid of the windows that weights have learned generation from."""


def card_entry(pieces: Pieces) -> dict[str, Any]:
    """What the card says of weights that have learned generation from these windows."""
    return {CARD: {"step_s": pieces.step_s, "steps": pieces.lon_deg.shape[1] - 1, "unit_kn": UNIT_KN}}


def grid_of(card: Mapping[str, Any]) -> Grid | None:
    """The grid that weights have learned generation on; None where they have not.

    Raises:
        GeodiffError: something else stands there.
    """
    if CARD not in card:
        return None
    try:
        step_s, steps, unit = (float(card[CARD][name]) for name in ("step_s", "steps", "unit_kn"))
    except (TypeError, ValueError, KeyError, OverflowError):
        step_s = steps = unit = math.nan
    if not (1 <= step_s <= 86_400 and 1 <= steps <= 1000 and steps == int(steps) and unit == UNIT_KN):
        raise GeodiffError(f"the card's {CARD} is no grid in units of {UNIT_KN:g} kn: train again")
    return Grid(int(steps) * step_s / 3600, step_s)


def draw_velocities(
    net: TrackDenoiser, windows: Windows, behaviour: Ints, noise: Floats, *, guidance: float, passes: int = PASSES
) -> Floats:
    """Payload (n, steps, 2) of each window, drawn from noise.

    Args:
        net: trained on such windows.
        windows: from ``generation_windows``.
        behaviour: (n,) told.
        noise: (n, steps, 2) standard normal numbers, from ``keyed_noise``.
        guidance: strength; 1 leaves it off.
        passes: evaluations.
    """
    fleet = fleet_of(windows, behaviour=behaviour)
    with torch.inference_mode():
        told = net.encode(fleet)
        # Away from any ship group alone: a behaviour is told, and what moves otherwise is drawn again.
        steered = guidance != 1.0 and bool(fleet.group.any())
        plain = net.encode(fleet.replaced(group=torch.zeros_like(fleet.group))) if steered else None

        def denoise(x: Tensor, level: float) -> Tensor:
            levels = torch.full((len(x),), level)
            out: Tensor = net(x, levels, told)
            if plain is not None:
                away = net(x, levels, plain)
                out = away + guidance * (out - away)
            return out

        drawn = euler(denoise, torch.from_numpy(noise[:, None]).float(), _levels(passes)) * told.scale
    found: Floats = drawn[:, 0].double().numpy()
    return found


def _levels(passes: int) -> tuple[float, ...]:
    """Noise levels from 1 to ``LAST_LEVEL``, from which the last step goes to the mean of what it may be."""
    return tuple(np.linspace(1.0, LAST_LEVEL, passes).tolist()) if passes > 1 else (1.0,)


def keyed_noise(queries: Sequence[TrackQuery], steps: int, seed: int, what: str) -> Floats:
    """Standard normal numbers (n, steps, 2), keyed by each vessel and the time of its last known fix."""
    keys = [(query.vessel_id, int(query.time_s[-1])) for query in queries]
    return np.stack([generator(seed, what, *key).standard_normal((steps, 2)) for key in keys])
