"""The rules of cleaning: what a vessel can do, and the words for what was wrong."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from geodiff.schema import UsageError

NO_IDENTITY: Final = "no identity"
NO_TIME: Final = "no time"
NO_POSITION: Final = "no position"
DUPLICATE: Final = "duplicate"
SAME_INSTANT: Final = "same instant"
CONFLICT: Final = "conflict"
JUMP: Final = "position jump"
CLOCK_JUMP: Final = "clock jump"
STALE: Final = "stale copy"
BASE_STATION: Final = "base station"
AID: Final = "aid to navigation"
SEARCH_TRANSMITTER: Final = "search transmitter"
IMPOSSIBLE_IDENTITY: Final = "impossible identity"

REASONS: Final = MappingProxyType(
    {
        NO_IDENTITY: "no vessel_id; anonymous plots are for association",
        NO_TIME: "no time",
        NO_POSITION: "longitude or latitude missing, not finite, or beyond 180 or 90 degrees",
        BASE_STATION: "an MMSI 00MIDxxxx or a base station report: it stands on land",
        AID: "an MMSI 99MIDxxxx or an aid-to-navigation report: a buoy or a light",
        SEARCH_TRANSMITTER: "an MMSI 970, 972 or 974: AIS-SART, man overboard, EPIRB",
        IMPOSSIBLE_IDENTITY: "no station can have this MMSI",
        DUPLICATE: "another row says the same of this vessel at this instant, with as many values or more",
        SAME_INSTANT: "another row of this instant, close by, was kept",
        CONFLICT: "another row of this instant, elsewhere, agrees with the track",
        JUMP: "the vessel cannot have been here: too fast from and to its other fixes, or off its reported speed",
        CLOCK_JUMP: "the time is wrong: the block fits a gap of the same vessel at another time",
        STALE: "an earlier fix of the moving vessel, to the digit: sent or received again",
    }
)
"""Every reason of rejection that cleaning gives, and what it means; in the order of their codes."""

CODES: Final = {reason: code for code, reason in enumerate(REASONS, start=1)}
"""Reason -> number used inside; 0: kept."""


@dataclass(frozen=True, slots=True)
class SpeedLimits:
    """The fastest that a vessel may be thought to go, in knots, by ship type of ITU-R M.1371 table 53.

    Generous: a rule against impossible positions, not against fast ships.
    """

    unknown: float = 60.0
    wing_in_ground: float = 110.0
    fishing: float = 35.0
    towing: float = 30.0
    """Types 31, 32 (towing) and 52 (tugs)."""
    pleasure: float = 75.0
    """Types 36 and 37; racing boats."""
    fast_craft: float = 80.0
    service: float = 70.0
    """Types 33-35 and 50-59 but tugs: pilots, police, navy, rescue."""
    passenger: float = 60.0
    cargo: float = 40.0
    aircraft: float = 500.0
    """MMSI 111MIDxxx or a report of a search and rescue aircraft."""

    def of_type(self, ship_type: int) -> float:
        """Limit in knots of a code 0-99 (0: unknown)."""
        if ship_type in (31, 32, 52):
            return self.towing
        by_decade = {2: self.wing_in_ground, 4: self.fast_craft, 5: self.service, 6: self.passenger, 7: self.cargo}
        by_decade[8] = self.cargo
        single = {30: self.fishing, 33: self.service, 34: self.service, 35: self.service}
        single |= {36: self.pleasure, 37: self.pleasure}
        return single.get(ship_type, by_decade.get(ship_type // 10, self.unknown))

    def of_types(self, ship_type: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Limits in knots of codes of any shape; those without a meaning count as unknown."""
        by_type = np.array([self.of_type(code) for code in range(256)])
        found: npt.NDArray[np.float64] = by_type[np.clip(ship_type, 0, 255)]
        return found


LONGEST_GAP_S: Final = 86_400.0
"""However seldom a vessel reports, a longer silence ends its track."""


@dataclass(frozen=True, slots=True)
class CleanRules:
    """What cleaning goes by.

    Attributes:
        gap_s: a silence longer than this ends a track (seconds).
        silent_steps: and longer than so many of the vessel's own usual steps, up to a day; 0: these do not count.
        limits: speeds that a vessel cannot exceed.
        slack_km: error of a position that no rule minds: noise, rounding to 1e-4 degrees or a tenth of a minute.
        track_fixes: this many fixes that fit together but not with the others of their identity are another vessel; a
            smaller group is an error.
        mmsi: judge identities as MMSI. Numbers above 999 999 999 are the source's own and are never judged; say False
            for a source whose own numbers are smaller.
    """

    gap_s: float = 3600.0
    silent_steps: float = 0.0
    limits: SpeedLimits = SpeedLimits()
    slack_km: float = 0.3
    track_fixes: int = 10
    mmsi: bool = True

    def __post_init__(self) -> None:
        if not (self.gap_s > 0 and self.slack_km > 0 and self.track_fixes >= 2):
            raise UsageError(
                f"gap_s={self.gap_s}, slack_km={self.slack_km}, track_fixes={self.track_fixes}: the first two must be "
                "above 0, the last at least 2"
            )


DEFAULT_RULES: Final = CleanRules()
