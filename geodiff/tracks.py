"""The words of tracks: the columns of the table of fixes, and what a motion model is asked and answers.

One table of fixes runs from the readers to the outputs; every room may rely on these names, units and types. It imports
nothing of ours, so that every room can import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

VESSEL_ID: Final = "vessel_id"
"""int64: the MMSI, or the source's own number; null for anonymous plots."""
TIME: Final = "time"
"""timestamp in microseconds, UTC."""
LON: Final = "lon_deg"
LAT: Final = "lat_deg"
"""float64 degrees, EPSG:4326."""
SOG: Final = "sog_kn"
COG: Final = "cog_deg"
HEADING: Final = "heading_deg"
ROT: Final = "rot_deg_min"
"""float32; null where the transponder says "not available"; courses in [0, 360)."""
NAV_STATUS: Final = "nav_status"
"""int8, ITU-R M.1371 table 45; null for 15 (undefined)."""
SHIP_TYPE: Final = "ship_type"
"""int16, ITU-R M.1371 table 53 (30 fishing, 60-69 passenger, 70-79 cargo, 80-89 tanker); null for 0."""
SOURCE: Final = "source"
"""text: the format or the sensor that the fix came from."""
ROW: Final = "row"
"""int64: line or row of the input file, from 1."""

TRACK_ID: Final = "track_id"
"""text: ``<vessel_id>/<UTC of the first fix, yyyymmddThhmmss>``, with a letter where an identity was shared."""
STATE: Final = "state"
"""text, one of ``STATES``: the provenance of a fix."""
REASON: Final = "reason"
"""text: why a fix was rejected, a rule of ``vessels``; null otherwise."""

ANOMALOUS: Final = "anomalous"
"""bool: which fixes, or tracks, a scoring has flagged."""

OBSERVED, IMPUTED, FORECAST, GENERATED, REJECTED = STATES = (
    "observed",
    "imputed",
    "forecast",
    "generated",
    "rejected",
)

FIX_TYPES: Final[dict[str, str]] = {
    VESSEL_ID: "int64",
    TIME: "timestamp[us, UTC]",
    LON: "float64",
    LAT: "float64",
    SOG: "float32",
    COG: "float32",
    HEADING: "float32",
    ROT: "float32",
    NAV_STATUS: "int8",
    SHIP_TYPE: "int16",
    SOURCE: "string",
    ROW: "int64",
}
"""The columns of every table of fixes, in order, with their Arrow types."""

STATIC_TYPES: Final[dict[str, str]] = {
    "imo": "int64",
    "name": "string",
    "callsign": "string",
    "length_m": "float32",
    "width_m": "float32",
    "draught_m": "float32",
    "destination": "string",
}
"""Static and voyage data, joined to the fixes by identity and time; a source without them has no such columns."""

TRACK_TYPES: Final[dict[str, str]] = {TRACK_ID: "string", STATE: "string", REASON: "string"}
"""What cleaning adds."""

SHIP_GROUPS: Final = (
    "unknown",
    "fishing",
    "tug",
    "working",
    "sailing",
    "pleasure",
    "fast",
    "service",
    "passenger",
    "cargo",
    "tanker",
    "other",
)
"""Groups of ship types whose ways of moving differ."""

_GROUP_OF_TYPE: Final = {30: 1, 31: 2, 32: 2, 52: 2, 33: 3, 34: 3, 35: 3, 36: 4, 37: 5}
_GROUP_OF_TENS: Final = {4: 6, 5: 7, 6: 8, 7: 9, 8: 10, 2: 11, 9: 11}

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrackQuery:
    """What a motion model is asked: fixes of one vessel that are known, and times at which its position is wanted.

    Attributes:
        time_s: (n,) float64 seconds since 1970-01-01 UTC, strictly rising.
        lon_deg, lat_deg: (n,) float64.
        sog_kn, cog_deg: (n,) float64, NaN where unknown.
        ask_s: (m,) float64, rising, none equal to a known time: between known fixes (imputation), after the last
            (forecast) or before the first.
        ship_type: code of ITU-R M.1371 table 53; 0 where unknown.
        vessel_id: identity; keys the noise, so that a vessel's ensemble does not depend on who is asked with it.
        scene: vessels that may interact share a number; 0: alone.
    """

    time_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    sog_kn: FloatArray
    cog_deg: FloatArray
    ask_s: FloatArray
    ship_type: int = 0
    vessel_id: int = 0
    scene: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TrackAnswer:
    """Where the vessel is thought to be.

    Attributes:
        lon_deg, lat_deg: (m,) float64, the point estimate (of an ensemble the point nearest to all).
        member_lon_deg, member_lat_deg: (member, m) float64, samples; no members for a model without an ensemble.
        ellipse_km: (level, m, 3) float64: semi-major and semi-minor axis in km and the course of the major axis in
            degrees of the ellipse about the point estimate that holds the truth with the probability that the
            model's ``levels`` state; no levels for an uncalibrated model.
    """

    lon_deg: FloatArray
    lat_deg: FloatArray
    member_lon_deg: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    member_lat_deg: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    ellipse_km: FloatArray = field(default_factory=lambda: np.empty((0, 0, 3)))


def ship_group(ship_type: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Index into ``SHIP_GROUPS`` of codes of ITU-R M.1371 table 53; codes without a meaning are unknown."""
    table = np.zeros(100, np.int64)
    for code in range(100):
        table[code] = _GROUP_OF_TYPE.get(code, _GROUP_OF_TENS.get(code // 10, 0))
    codes = np.asarray(ship_type, np.int64)
    return np.where((codes >= 0) & (codes < 100), table[np.clip(codes, 0, 99)], 0)


class MotionModel(Protocol):
    """Anything that says where vessels were or will be: the denoiser, a classical rule, a smoother."""

    @property
    def name(self) -> str: ...

    @property
    def levels(self) -> tuple[float, ...]:
        """Probabilities of ``TrackAnswer.ellipse_km``."""
        ...

    def predict(self, queries: Sequence[TrackQuery], *, members: int, seed: int) -> list[TrackAnswer]:
        """Answer each query, in order; a pure function of its arguments, whatever else stands in the batch."""
        ...
