"""Features of the fixes shown in a window and of the times asked for, in the window's own units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_PER_NMI
from geodiff.vessels.kinematics import dead_reckon
from geodiff.vessels.window_fixes import SIDE, PaddedFixes, slopes

Floats = npt.NDArray[np.float64]

NOISE_KM = 0.02
"""What a fix itself errs by: GNSS, antenna offset and rounding of positions."""

ERROR_SHARE = 0.1
"""Error of a classical prediction, as a share of the way made meanwhile; measured on hourly and on minute data."""

KNOWN_WIDTH = 25
ASKED_WIDTH = 33


def _waves(value: Floats, count: int) -> Floats:
    """The value and sines and cosines of its octaves: (...) -> (..., 1 + 2 * count)."""
    angle = value[..., None] * np.pi * 2.0 ** np.arange(count)
    return np.concatenate([value[..., None], np.sin(angle), np.cos(angle)], -1)


def _whole(raw: PaddedFixes, scales: tuple[Floats, Floats, Floats]) -> Floats:
    """What every token is told of its window: (n, 6)."""
    duration, speed, reach = scales
    kinds = (raw.kind[:, None] == np.arange(3)).astype(float)
    logs = np.stack([np.log(duration / 3600) / 3, np.log(speed / (10 * KM_PER_NMI / 3600)), np.log(reach / 10) / 3], 1)
    return np.concatenate([logs, kinds], 1)


def known_features(
    raw: PaddedFixes,
    place: Floats,
    velocity: Floats,
    told: npt.NDArray[np.bool_],
    edges: Floats,
    scales: tuple[Floats, Floats, Floats],
) -> Floats:
    """Features of the fixes shown: (n, 2 * SIDE, KNOWN_WIDTH).

    The last two are how far each lies from what is reckoned back from the edge, in the units of what is to be said:
    how the vessel turned and slowed until then, to metres, which places in units of the whole stretch do not show.
    """
    duration, speed, reach = (each[:, None] for each in scales)
    tau = np.arcsinh((raw.time_s - raw.edges[:, :1]) / duration * 2.0) / 2.0
    whole = np.broadcast_to(_whole(raw, scales)[:, None], (*tau.shape, 6))
    edge = np.repeat(edges, SIDE, 1)
    reckoned = dead_reckon(edge[..., 0], edge[..., 1:3], edge[..., 3:], raw.time_s)
    unit = NOISE_KM + ERROR_SHARE * speed * np.abs(raw.time_s - edge[..., 0])
    parts = [
        np.arcsinh(place / reach[..., None] * 4.0),
        velocity / speed[..., None],
        (velocity - slopes(raw, place)) / speed[..., None],
        told[..., None].astype(float),
        _waves(tau, 4),
        np.broadcast_to((np.arange(2 * SIDE) >= SIDE)[None, :, None].astype(float), (*tau.shape, 1)),
        whole,
        np.arcsinh((place - reckoned) / unit[..., None]),
    ]
    return np.where(raw.shown[..., None], np.concatenate(parts, -1), 0.0)


def asked_features(
    raw: PaddedFixes,
    prior: Floats,
    straight: Floats,
    errors: tuple[Floats, Floats],
    scales: tuple[Floats, Floats, Floats],
) -> Floats:
    """Features of the times asked for: (n, ASKED, ASKED_WIDTH)."""
    lead, unit = errors
    duration, speed, reach = (each[:, None] for each in scales)
    tau = (raw.ask - raw.edges[:, :1]) / duration
    rate = (prior[:, 1:] - prior[:, :-1]) / (np.maximum(np.diff(raw.ask, axis=1), 1.0) * speed)[..., None]
    rate = np.concatenate([rate[:, :1], rate], 1)
    whole = np.broadcast_to(_whole(raw, scales)[:, None], (*tau.shape, 6))
    parts = [
        np.arcsinh(prior / reach[..., None] * 4.0),
        np.clip(rate, -4, 4),
        np.arcsinh((straight - prior) / unit[..., None]),
        _waves(tau, 5),
        _waves(np.log(np.maximum(lead, 1.0) / 3600.0) / 8.0, 3),
        np.log(unit)[..., None] / 3,
        raw.asked[..., None].astype(float),
        raw.asked[..., None] * (raw.asked.sum(1) / raw.asked.shape[1])[:, None, None],
        whole,
    ]
    return np.concatenate(parts, -1)
