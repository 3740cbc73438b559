"""Small tables of fixes with the truth written down: what any cleaning of tracks should make of them.

Each row carries what should become of it: the name of a track (rows of one name belong together, those of different
names do not), or the reason of its rejection. Used as tests of ``clean_fixes``, and to see what other tools do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl

from geodiff.sphere import KM_PER_NMI, move
from geodiff.vessels.clean_rules import DEFAULT_RULES, REASONS, CleanRules
from geodiff.vessels.reading import FIX_SCHEMA

START_S: Final = datetime(2022, 3, 1, 6, tzinfo=UTC).timestamp() + 7.0
SHIP: Final = 219_000_001


@dataclass(frozen=True, slots=True)
class Row:
    """One fix and what should become of it: ``fate`` is the name of a track or one of ``REASONS``."""

    time_s: float | None
    lon_deg: float | None
    lat_deg: float | None
    fate: str = "one"
    sog_kn: float | None = None
    cog_deg: float | None = None
    vessel_id: int | None = SHIP
    ship_type: int | None = 70
    source: str = "case"


@dataclass(frozen=True, slots=True)
class Case:
    """A table in the order of the file, and the rules it is cleaned by."""

    name: str
    rows: tuple[Row, ...]
    rules: CleanRules = field(default=DEFAULT_RULES)

    def fixes(self) -> pl.DataFrame:
        """The table of fixes; ``row`` counts from 1."""
        values: dict[str, list[Any]] = {name: [None] * len(self.rows) for name in FIX_SCHEMA}
        for name in ("vessel_id", "lon_deg", "lat_deg", "sog_kn", "cog_deg", "ship_type", "source"):
            values[name] = [getattr(row, name) for row in self.rows]
        values["time"] = [None if row.time_s is None else round(row.time_s * 1e6) for row in self.rows]
        values["row"] = list(range(1, len(self.rows) + 1))
        return pl.DataFrame(
            {name: pl.Series(name, values[name], strict=False).cast(kind) for name, kind in FIX_SCHEMA.items()}
        )

    def faults(self, cleaned: pl.DataFrame, *, reasons: bool = True) -> list[str]:
        """What a cleaned table gets wrong, in words.

        Args:
            cleaned: with ``row``, ``track_id``, ``state`` and ``reason``; a row that is missing counts as rejected.
            reasons: False asks for the right rows only, not for the right reasons.
        """
        found: list[str] = []
        seen = dict(zip(cleaned["row"], cleaned.select("track_id", "state", "reason").iter_rows(), strict=True))
        names: dict[str, str] = {}
        for number, row in enumerate(self.rows, start=1):
            track, state, reason = seen.get(number, (None, "rejected", None))
            if row.fate in REASONS:
                if state != "rejected" or (reasons and reason != row.fate):
                    found.append(f"row {number}: {state} ({reason}), should be rejected ({row.fate})")
            elif state != "observed":
                found.append(f"row {number}: {state} ({reason}), should be kept")
            elif names.setdefault(row.fate, track) != track:
                found.append(f"row {number}: in {track}, should be with {names[row.fate]}")
        if len(set(names.values())) < len(names):
            found.append(f"tracks {', '.join(names)} are not told apart")
        return found


HOURLY: Final = CleanRules(gap_s=6 * 3600.0)
"""Rules of fixes that come once an hour."""

CASES: Final[dict[str, Case]] = {}
"""Name -> case; filled by the modules ``tracks_cases_*``."""


def case(build: Callable[[], list[Row] | tuple[list[Row], CleanRules]]) -> Callable[[], Any]:
    """Register what a function returns (rows, or rows and rules) under its name."""
    made = build()
    rows, rules = made if isinstance(made, tuple) else (made, DEFAULT_RULES)
    name = build.__name__.strip("_").replace("_", " ")
    CASES[name] = Case(name, tuple(rows), rules)
    return build


def sail(
    count: int = 40,
    *,
    start: float = 0.0,
    every: float = 60.0,
    knots: float = 12.0,
    course: float = 70.0,
    place: tuple[float, float] = (-30.0, 40.0),
    told: bool = True,
    digits: int = 5,
    **values: Any,
) -> list[Row]:
    """Fixes of a vessel that keeps its course: every ``every`` seconds from ``start`` seconds after ``START_S``."""
    seconds = start + every * np.arange(count)
    reach = knots * KM_PER_NMI / 3600.0 * (seconds - start)
    lon, lat = move(np.full(count, place[0]), np.full(count, place[1]), np.full(count, course), reach)
    motion = {"sog_kn": knots, "cog_deg": course % 360.0} if told else {}
    return [
        Row(START_S + float(t), round(float(x), digits), round(float(y), digits), **(motion | values))
        for t, x, y in zip(seconds, lon, lat, strict=True)
    ]


def lie(count: int = 40, *, noise_km: float = 0.008, seed: int = 0, **values: Any) -> list[Row]:
    """Fixes of a vessel that lies still, with noise."""
    rng = np.random.default_rng(seed)
    rows = sail(count, **({"knots": 0.0} | values))
    return [moved(row, float(rng.rayleigh(noise_km)), float(rng.uniform(0, 360)), fate=row.fate) for row in rows]


def moved(row: Row, reach_km: float, course: float = 200.0, *, fate: str = "position jump") -> Row:
    """The same fix at another place."""
    assert row.lon_deg is not None
    assert row.lat_deg is not None
    lon, lat = move(row.lon_deg, row.lat_deg, course, reach_km)
    return replace(row, lon_deg=round(float(lon), 5), lat_deg=round(float(lat), 5), fate=fate)


def shifted(rows: list[Row], seconds: float, fate: str = "clock jump") -> list[Row]:
    """The same fixes at other times."""
    return [replace(row, time_s=(row.time_s or 0.0) + seconds, fate=fate) for row in rows]


def spoiled(rows: list[Row], *indices: int, reach_km: float = 60.0, fate: str = "position jump") -> list[Row]:
    """Some of the fixes moved, each by another course."""
    return [moved(row, reach_km, 40.0 + 77.0 * i, fate=fate) if i in indices else row for i, row in enumerate(rows)]
