"""How fast tracks of each ship group and behaviour begin: what a generated track is told before it moves.

The network knows much better where a vessel goes whose speed and course it is told than where one goes of which only
the place is known. So generation draws a first speed from those of the training, kept as quantiles in the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_NMI, distance_km
from geodiff.tasks.track_pieces import Pieces
from geodiff.tracks import SHIP_GROUPS
from geodiff.vessels.windows_draw import BEHAVIOURS, STILL

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CARD = "start_speeds_kn"
"""Entry of the card."""

PARTS = np.linspace(0.0, 1.0, 11)
FEWEST = 80
"""Windows (four cuts of each track: ``track_data.PHASES``) below which a ship group takes the speeds of all."""

MOST_KN = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class StartSpeeds:
    """Quantiles (groups, behaviours, ``len(PARTS)``) in knots; the first group and behaviour stand for any."""

    quantiles_kn: Floats

    @classmethod
    def of(cls, pieces: Pieces) -> Self:
        """From the first steps of real windows, one at least."""
        lon, lat = pieces.lon_deg[:, :2], pieces.lat_deg[:, :2]
        speed = distance_km(lon[:, 0], lat[:, 0], lon[:, 1], lat[:, 1]) / KM_PER_NMI / pieces.step_s * 3600
        out = np.empty((len(SHIP_GROUPS), len(BEHAVIOURS), len(PARTS)))
        for behaviour in range(len(BEHAVIOURS)):
            # Any: of a harbour most windows lie still, which nobody asks to be made.
            moves = pieces.behaviour == behaviour if behaviour else pieces.behaviour != STILL
            moves = moves if moves.any() else np.ones(len(pieces), bool)
            for group in range(len(SHIP_GROUPS)):
                rows = moves & (pieces.group == group)
                rows = rows if rows.sum() >= FEWEST and group else moves
                out[group, behaviour] = np.quantile(speed[rows], PARTS)
        return cls(np.minimum(out, MOST_KN))

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Self | None:
        """As a training kept them; None where it kept none.

        Raises:
            GeodiffError: something else stands there.
        """
        if CARD not in card:
            return None
        try:
            found = np.array(card[CARD], np.float64)
        except (TypeError, ValueError):
            found = np.empty(0)
        shape = len(SHIP_GROUPS), len(BEHAVIOURS), len(PARTS)
        if found.shape != shape or not ((found >= 0) & (found <= MOST_KN)).all():
            raise GeodiffError(f"the card's {CARD} are no table of {shape} speeds up to {MOST_KN:g} kn: train again")
        return cls(found)

    def to_json(self) -> list[Any]:
        """As ``from_card`` reads them."""
        out: list[Any] = self.quantiles_kn.round(2).tolist()
        return out

    def fastest_kn(self, group: Ints) -> Floats:
        """(n,) knots of the fastest first step of each ship group, whatever the behaviour."""
        found: Floats = self.quantiles_kn[group, 0, -1]
        return found

    def draw(self, group: Ints, behaviour: Ints, chance: Floats) -> Floats:
        """(n,) knots, by the inverse of the distribution at ``chance`` in [0, 1]."""
        rows = self.quantiles_kn[group, behaviour]
        return np.array([np.interp(each, PARTS, row) for each, row in zip(chance, rows, strict=True)])
