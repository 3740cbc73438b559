"""Windows for generation: a whole stretch of track at even steps, told as velocities.

What is generated has no truth to be near to: it must move like vessels move. Positions hours ahead in units of how far
a prediction errs there hide how steadily a cargo ship goes; so here each step's velocity is told, as its departure from
the first one in an asinh of a third of a knot: steadiness, stops and turns are all of a size that can be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_PER_NMI, from_local_km, to_local_km
from geodiff.tracks import TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.window_fixes import turn
from geodiff.vessels.windows import Windows, build_windows

Floats = npt.NDArray[np.float64]

UNIT_KN: Final = 0.3
_UNIT_KM_S: Final = UNIT_KN * KM_PER_NMI / 3600
MOST: Final = 9.0
"""Bound of a payload: 1200 knots, no velocity, but no infinity either."""

_REST_KM_S: Final = 0.7 * KM_PER_NMI / 3600
"""Slower vessels lie still."""

_COARSE: Final = 0.08
"""Error of a trained model's payload."""

_WOBBLE_KM: Final = 0.0015
"""Of positions at rest: real ones move by 2.3 m in five minutes, the median."""

KINDS = slice(-3, None)
"""Where the features of an asked time mark the kind of stretch."""


def generation_windows(queries: Sequence[TrackQuery], steps: int, history: TrackHistory | None = None) -> Windows:
    """Windows of up to ``steps`` times beyond the last fix, evenly apart.

    They differ from forecasts in what marks the kind of stretch, which is none of the three, in that a vessel's own
    other passes say nothing, for what is made has none, and in that of the others' the summary alone is told.
    """
    windows = build_windows(queries, history, asked=steps, paths=False)
    asked = windows.asked.copy()
    asked[..., KINDS] = 0.0
    return replace(windows, asked=asked)


def to_velocities(windows: Windows, lon_deg: Floats, lat_deg: Floats, step_s: float) -> Floats:
    """Payload (n, steps, 2) of positions (n, steps) that follow the last fix, ``step_s`` seconds apart."""
    east, north = to_local_km(lon_deg, lat_deg, windows.frame[:, None, 0], windows.frame[:, None, 1])
    place = turn(np.stack([east, north], -1), -windows.frame[:, None, 2])
    step = np.diff(place, axis=1, prepend=0.0)
    out: Floats = np.arcsinh((step / step_s - windows.edges[:, :1, 3:]) / _UNIT_KM_S)
    return out


def to_positions(
    windows: Windows, payload: Floats, step_s: float, wobble: Floats | None = None
) -> tuple[Floats, Floats]:
    """Longitude and latitude (n, steps) in degrees of a payload (n, steps, 2).

    Args:
        windows: of the payload.
        payload: velocities as the model says them.
        step_s: seconds between positions.
        wobble: (n, steps, 2) standard normal numbers. With them a vessel that all but lies still does lie still, but
            for what a receiver errs by: far from the first velocity the payload is too coarse to say so itself.
    """
    payload = np.clip(payload, -MOST, MOST)
    velocity = np.sinh(payload) * _UNIT_KM_S + windows.edges[:, :1, 3:]
    place = np.cumsum(velocity * step_s, 1)
    if wobble is not None:
        coarse = _COARSE * _UNIT_KM_S * np.cosh(np.abs(payload).max(-1))
        slow = np.hypot(velocity[..., 0], velocity[..., 1]) < np.minimum(_REST_KM_S + coarse, 2 * _REST_KM_S)
        place = np.cumsum(np.where(slow[..., None], 0.0, velocity) * step_s, 1)
        place += _WOBBLE_KM * wobble * slow[..., None]
    place = turn(place, windows.frame[:, None, 2])
    return from_local_km(place[..., 0], place[..., 1], windows.frame[:, None, 0], windows.frame[:, None, 1])
