"""Windows of tracks as the tensors that the denoiser sees: scenes of vessels that may attend to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geodiff.model.tracks import Fleet, TrackConfig
from geodiff.sphere import to_local_km
from geodiff.tracks import ship_group
from geodiff.vessels.window_features import ASKED_WIDTH, KNOWN_WIDTH
from geodiff.vessels.window_fixes import to_degrees
from geodiff.vessels.window_history import HISTORY_WIDTH, LIKENESS_WIDTH, PATH_WIDTH, SAME_GROUP
from geodiff.vessels.windows import Windows

MOST_VESSELS = 64
"""Vessels of one scene."""

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SIDEWAYS = {
    "known": (1, 3, 5, 24),
    "asked": (1, 3, 5),
    "history": (1, 3, 5, 10, 12, 14),
    "paths": (1, 3),
    "likeness": (19, 21, *range(32, 40)),
    "known_m": (1,),
    "asked_m": (1,),
}
"""Parts of a fleet that change sign in a mirror: the second components of vectors."""

MIRROR = torch.tensor([1.0, -1.0])
"""What a mirror makes of a payload (..., 2)."""


def track_config(*, width: int, heads: int, layers: int) -> TrackConfig:
    """The configuration of a model of some size that sees windows as they are."""
    return TrackConfig(KNOWN_WIDTH, ASKED_WIDTH, HISTORY_WIDTH, PATH_WIDTH, LIKENESS_WIDTH, width, heads, layers)


def sees_windows(config: TrackConfig) -> bool:
    """Whether a model of this configuration takes windows as they are."""
    wanted = track_config(width=config.width, heads=config.heads, layers=config.layers)
    return replace(wanted, payload_scale=config.payload_scale) == config


def fleet_of(windows: Windows, *, behaviour: Rows | None = None, scenes: Rows | None = None) -> Fleet:
    """Scenes as tensors (batch, cells, ...).

    Args:
        windows: n windows.
        behaviour: (n,) index of the behaviour to generate; "any" when None.
        scenes: (batch, cells) rows of ``windows``, -1 for a cell without a vessel; each vessel alone when None.
    """
    rows = np.arange(len(windows))[:, None] if scenes is None else scenes
    there = rows >= 0
    label = np.zeros(len(windows), np.int64) if behaviour is None else behaviour

    def cells(array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[rows]))

    known_m, asked_m = _places_m(windows, rows)
    seen = torch.from_numpy(there)[..., None]
    return Fleet(
        known=cells(windows.known),
        known_days=cells(windows.known_days),
        known_valid=cells(windows.known_valid) & seen,
        known_m=known_m,
        asked=cells(windows.asked),
        history=cells(windows.history),
        paths=cells(windows.paths).float(),
        likeness=cells(windows.likeness).float(),
        asked_days=cells(windows.asked_days),
        asked_valid=cells(windows.asked_valid) & seen,
        asked_m=asked_m,
        group=cells(ship_group(windows.ship_type)),
        behaviour=cells(label),
        kind=cells(windows.kind),
        stake=cells(windows.stake.astype(np.float32)),
    )


def named_where(fleet: Fleet, which: Tensor) -> Fleet:
    """The same, with the group of ships left to the scenes ``which`` (batch,) alone."""
    likeness = fleet.likeness.clone()
    likeness[..., SAME_GROUP] *= which.view(-1, 1, 1)
    return fleet.replaced(group=fleet.group * which.view(-1, 1), likeness=likeness)


def mirrored(fleet: Fleet, which: Tensor) -> Fleet:
    """The scenes ``which`` (batch,) as a mirror about a meridian shows them: port for starboard, all else the same."""
    sign = torch.where(which, -1.0, 1.0)
    changed = {}
    for name, columns in SIDEWAYS.items():
        values = getattr(fleet, name).clone()
        for column in columns:
            values[..., column] *= sign.view(-1, *[1] * (values.dim() - 2))
        changed[name] = values
    return fleet.replaced(**changed)


def _places_m(windows: Windows, rows: Rows) -> tuple[Tensor, Tensor]:
    """(north, east) metres of fixes and predictions of each scene, in the plane about its first vessel."""
    if rows.shape[1] == 1:  # alone, only the place itself is seen: where it lies is nothing to anybody
        known, asked = (np.zeros((len(rows), 1, part.shape[1], 2)) for part in (windows.known_km, windows.prior_km))
    else:
        known, asked = (_in_plane(windows, rows, part) for part in (windows.known_km, windows.prior_km))
    return torch.from_numpy(known.astype(np.float32)), torch.from_numpy(asked.astype(np.float32))


def _in_plane(windows: Windows, rows: Rows, place_km: Floats) -> Floats:
    frame = windows.frame[rows][:, :, None]
    lon, lat = to_degrees(place_km[rows], frame)
    first = windows.frame[rows[:, :1]][:, :, None]
    east, north = to_local_km(lon, lat, first[..., 0], first[..., 1])
    return 1000.0 * np.stack([north, east], -1)


def group_scenes(scene: Rows) -> list[Rows]:
    """Rows of the windows by scene, as arrays (batch, cells) with -1 where there is no vessel.

    Scenes of about as many vessels share an array; a scene of more than ``MOST_VESSELS`` is split.

    Args:
        scene: (n,) number of the scene of each window; 0 stands alone.
    """
    alone = np.flatnonzero(scene == 0)[:, None]
    out = [alone] if len(alone) else []
    parts: dict[int, list[Rows]] = {}
    for number in np.unique(scene[scene != 0]):
        members = np.flatnonzero(scene == number)
        for part in np.array_split(members, -(-len(members) // MOST_VESSELS)):
            parts.setdefault(1 << (len(part) - 1).bit_length(), []).append(part)
    return out + [_padded(some, cells) for cells, some in sorted(parts.items())]


def pad_scenes(scene: Rows, cells: int) -> Rows:
    """Rows (batch, cells) of windows whose scenes have at most ``cells`` vessels, -1 where there is none."""
    return _padded([np.flatnonzero(scene == number) for number in np.unique(scene)], cells)


def _padded(parts: Sequence[Rows], cells: int) -> Rows:
    out = np.full((len(parts), cells), -1, np.int64)
    for row, part in enumerate(parts):
        out[row, : len(part)] = part
    return out
