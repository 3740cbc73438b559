"""Windows of tracks as the tensors that the denoiser sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geodiff.model.tracks import Fleet
from geodiff.tracks import ship_group
from geodiff.vessels.windows import Windows


def fleet_of(windows: Windows, *, behaviour: npt.NDArray[np.int64] | None = None) -> Fleet:
    """Scenes of one vessel each: (n, 1, ...).

    Args:
        windows: n windows.
        behaviour: (n,) index of the behaviour to generate; "any" when None.
    """

    def cell(array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))[:, None]

    count, known, asked = len(windows), windows.known.shape[1], windows.asked.shape[1]
    label = np.zeros(count, np.int64) if behaviour is None else behaviour
    return Fleet(
        known=cell(windows.known),
        known_days=cell(windows.known_days),
        known_valid=cell(windows.known_valid),
        known_m=torch.zeros(count, 1, known, 2),
        asked=cell(windows.asked),
        history=cell(windows.history),
        asked_days=cell(windows.asked_days),
        asked_valid=cell(windows.asked_valid),
        asked_m=torch.zeros(count, 1, asked, 2),
        group=cell(ship_group(windows.ship_type)),
        behaviour=cell(label),
        kind=cell(windows.kind),
    )
