"""Stretches of tracks as places in the denoiser's latent space."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from geodiff.model.noise import mix
from geodiff.rng import generator
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tasks.track_fleets import fleet_of
from geodiff.tracks import TrackQuery
from geodiff.vessels.window_fixes import ASKED
from geodiff.vessels.windows import build_windows

Floats = npt.NDArray[np.float64]

LEVEL = 0.1
"""Noise at which the tokens are read: enough that the network looks at the fixes about a time, not at it alone."""

DRAWS = 4
FEWEST = 5
"""Fixes of a stretch: one asked for, and two on each side."""


class DenoiserEmbedder:
    """Tokens from the middle of the trunk, averaged over the times of the stretch and over draws of noise.

    The middle third of a stretch is shown at low noise, the rest as known fixes. Ship types are not told: two vessels
    that move alike have one place.
    """

    def __init__(self, model: DenoiserMotion) -> None:
        self.model = model.with_history(None)
        self.name = f"{model.name} tokens"

    def embed(self, queries: Sequence[TrackQuery]) -> Floats:
        """(n, width) float64; zeros for a stretch of fewer than ``FEWEST`` fixes."""
        out = np.zeros((len(queries), self.model.net.config.width))
        rows = np.array([row for row, query in enumerate(queries) if len(query.time_s) >= FEWEST], np.int64)
        for begin in range(0, len(rows), BATCH):
            some = rows[begin : begin + BATCH]
            out[some] = self._embed([queries[row] for row in some])
        return out

    def _embed(self, queries: Sequence[TrackQuery]) -> Floats:
        hidden = [_middle(len(query.time_s)) for query in queries]
        asked = [_without(query, index) for query, index in zip(queries, hidden, strict=True)]
        windows = build_windows(asked)
        fleet = fleet_of(windows)
        padded = np.stack([np.append(index, np.full(ASKED - len(index), index[-1])) for index in hidden])
        lon, lat = (
            np.stack([getattr(query, name)[index] for query, index in zip(queries, padded, strict=True)])
            for name in ("lon_deg", "lat_deg")
        )
        clean = torch.from_numpy(windows.to_payload(lon, lat).astype(np.float32))[:, None]
        noise = torch.from_numpy(np.stack([_noise(query) for query in queries], 1))[:, :, None]
        level = torch.full((len(queries),), LEVEL)
        with torch.inference_mode():
            context = self.model.net.encode(fleet.replaced(group=torch.zeros_like(fleet.group)))
            clean = clean / context.scale
            tokens = [
                self.model.net.embed(mix(clean, each, level[:, None, None, None]), level, context) for each in noise
            ]
        found: Floats = torch.stack(tokens).mean(0)[:, 0].double().numpy()
        return found


def _middle(count: int) -> npt.NDArray[np.int64]:
    """Indices of the middle third, at most ``ASKED`` of them."""
    index = np.arange(count // 3, count - count // 3)
    return index[np.unique(np.linspace(0, len(index) - 1, min(len(index), ASKED)).round().astype(np.int64))]


def _without(query: TrackQuery, index: npt.NDArray[np.int64]) -> TrackQuery:
    """The question for some fixes of a stretch, given those before and after them."""
    known = np.ones(len(query.time_s), bool)
    known[index[0] : index[-1] + 1] = False
    names = ("time_s", "lon_deg", "lat_deg", "sog_kn", "cog_deg")
    values = {name: getattr(query, name)[known] for name in names}
    return dataclasses.replace(query, **values, ask_s=query.time_s[index], ship_type=0)


def _noise(query: TrackQuery) -> npt.NDArray[np.float32]:
    """(DRAWS, ASKED, 2), keyed by vessel and time, in pairs of opposite sign."""
    stream = generator(0, "embed", int(query.vessel_id), int(query.time_s[0]))
    half = stream.standard_normal((DRAWS // 2, ASKED, 2), dtype=np.float32)
    return np.concatenate([half, -half])
