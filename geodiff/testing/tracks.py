"""Synthetic fleets whose truth is known: smooth paths, reported as AIS reports them, with defects that are labelled.

Every vessel draws from a stream of its own, so that a larger fleet holds the smaller one unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from geodiff.rng import generator
from geodiff.sphere import from_local_km, wrap_longitude
from geodiff.testing.tracks_defects import DEFECTS, STATIONS, Reports, injected, stations
from geodiff.testing.tracks_motion import BEHAVIOURS, Array, Path, make_path
from geodiff.vessels.reading import FIX_SCHEMA

START: Final = datetime(2022, 3, 1, tzinfo=UTC)
REGION: Final = (-31.0, 36.0, -23.0, 43.0)
"""West, south, east, north: open ocean."""

MIX: Final = ("transit", "fishing", "moored", "ferry", "tug", "anchored", "transit", "pilot", "fast ferry")
"""Behaviours of the vessels of a fleet, in turn."""

SEA_NOISE_KM: Final = 0.006
"""Standard deviation of a reported position, each way."""


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """A table of fixes and what is true about it.

    Attributes:
        fixes: columns of ``FIX_SCHEMA`` in the order of arrival; ``row`` counts from 1.
        truth: one line for each fix, in the same order: ``row`` int64, ``vessel`` int32 (the true vessel, from 0; two
            share a ``vessel_id`` where an identity is shared; -1 for stations that are no vessel), ``behaviour`` text
            (key of ``BEHAVIOURS``, or the kind of station), ``defect`` text (key of ``DEFECTS`` or ``STATIONS``; null
            for a sound fix), ``time`` (when it was truly sent), ``lon_deg``, ``lat_deg`` float64, ``sog_kn``,
            ``cog_deg`` float32 (true place and motion at that time).
        paths: true vessel -> where it was at any time (``Path.at(seconds since 1970)``).
    """

    fixes: pl.DataFrame
    truth: pl.DataFrame
    paths: Mapping[int, Path]


def table_of_fixes(seconds: Sequence[float], lon_deg: Sequence[float], lat_deg: Any, **columns: Any) -> pl.DataFrame:
    """Fixes of one cargo ship as a reader gives them, column by column.

    Args:
        seconds: (n,) after ``START``.
        lon_deg: (n,) longitudes.
        lat_deg: (n,) latitudes; like every other column a single value stands in all rows.
        columns: others of ``FIX_SCHEMA``; what is not given is null, but for identity, ship type, source, and ``row``,
            which counts from 1.
    """
    count = len(seconds)
    given: dict[str, Any] = {"vessel_id": 219_000_001, "ship_type": 70, "source": "case", "row": range(1, count + 1)}
    given |= {"time": [START + timedelta(seconds=float(each)) for each in seconds]}
    given |= {"lon_deg": lon_deg, "lat_deg": lat_deg} | columns
    values = {name: [value] * count if np.ndim(value) == 0 else value for name, value in given.items()}
    return pl.DataFrame(
        [pl.Series(name, values.get(name, [None] * count)).cast(kind) for name, kind in FIX_SCHEMA.items()]
    )


def make_fleet(
    seed: int,
    vessels: int = 12,
    hours: float = 6.0,
    *,
    interval_s: float = 60.0,
    behaviours: Sequence[str] = MIX,
    defects: Mapping[str, float] | None = None,
    region: tuple[float, float, float, float] = REGION,
    start: datetime = START,
    decimals: int = 5,
) -> Fleet:
    """Simulate a fleet.

    Args:
        seed: of everything.
        vessels: how many true vessels (those that share another's identity come on top).
        hours: length of the recording.
        interval_s: usual time between reports; they come irregularly, at whole seconds, with short silences, and a
            third as often from vessels that lie still.
        behaviours: keys of ``BEHAVIOURS``, given to the vessels in turn.
        defects: what goes wrong and how often: label -> expected events per vessel (for "shared identity" and the
            labels of ``STATIONS``: share of the vessels that meet one). None: the rates of ``DEFECTS`` and
            ``STATIONS``; an empty mapping: sound reports only.
        region: west, south, east, north in degrees, where vessels start; west may lie beyond 180.
        start: UTC.
        decimals: of the degrees of reported positions.

    Returns:
        The fleet; equal arguments give equal fleets.

    Raises:
        ValueError: an unknown behaviour or defect.
    """
    rates = {**DEFECTS, **STATIONS} if defects is None else dict(defects)
    unknown = [*set(rates) - set(DEFECTS) - set(STATIONS), *set(behaviours) - set(BEHAVIOURS)]
    if unknown:
        raise ValueError(f"unknown behaviours or defects {unknown}: choose from {[*BEHAVIOURS, *DEFECTS, *STATIONS]}")
    parts: list[Reports] = []
    paths: dict[int, Path] = {}
    for number in range(vessels):
        kind = behaviours[number % len(behaviours)]
        maker = _Maker(seed, hours, interval_s, region, start, decimals)
        # A vessel that shares the identity is counted after all others.
        rng = generator(seed, "fleet", number, "defects")
        shared = rng.uniform() < rates.get("shared identity", 0.0)
        for true_number in (number, vessels + number)[: 1 + shared]:
            paths[true_number] = maker.path(true_number, number, kind)
            reports = maker.reports(true_number, number, kind, paths[true_number])
            if true_number != number:
                reports = reports.labelled("shared identity")
            parts.append(injected(reports, rates, rng) if true_number == number else reports)
        parts.extend(stations(number, rates, rng, paths[number]))
    return _assembled(parts, paths, decimals)


@dataclass(frozen=True, slots=True)
class _Maker:
    seed: int
    hours: float
    interval_s: float
    region: tuple[float, float, float, float]
    start: datetime
    decimals: int

    def path(self, true_number: int, number: int, kind: str) -> Path:
        rng = generator(self.seed, "fleet", number, "path", "first" if true_number == number else "second")
        west, south, east, north = self.region
        place = float(wrap_longitude(rng.uniform(west, east + 360.0 * (east < west)))), float(rng.uniform(south, north))
        return make_path(kind, rng, start_s=self.start.timestamp(), hours=self.hours, place=place)

    def reports(self, true_number: int, number: int, kind: str, path: Path) -> Reports:
        """What the vessel sends, sound."""
        rng = generator(self.seed, "fleet", number, "reports", "first" if true_number == number else "second")
        behaviour = BEHAVIOURS[kind]
        ship_type = int(rng.choice(behaviour.ship_types))
        interval = self.interval_s * (3.0 if kind in ("moored", "anchored") else 1.0)
        time_s = _times(rng, path.start_s, self.hours, interval)
        lon, lat = path.at(time_s)
        drift = _red_noise(rng, time_s)
        shown = from_local_km(drift[0], drift[1], lon, lat)
        sog, cog = path.velocity(time_s)
        count = len(time_s)
        heading = np.where(rng.uniform(size=count) < 0.05, np.nan, np.rint(cog + rng.normal(0.0, 2.0, count)) % 360.0)
        mmsi = 111_000_500 if kind == "aircraft" else 219_000_000
        return Reports(
            vessel=np.full(count, true_number),
            vessel_id=np.full(count, mmsi + 7 * number),
            behaviour=kind,
            time_s=time_s,
            lon_deg=np.round(shown[0], self.decimals),
            lat_deg=np.round(shown[1], self.decimals),
            sog_kn=_shown(sog + rng.normal(0.0, 0.1, count)),
            # The course of a vessel that hardly moves is noise.
            cog_deg=np.round((cog + rng.normal(0.0, 1.0, count) + 180.0 / (1 + 40 * sog) * rng.normal(size=count)), 1)
            % 360,
            heading_deg=heading,
            nav_status=behaviour.nav_status,
            ship_type=ship_type,
            true_time_s=time_s,
            true_lon_deg=lon,
            true_lat_deg=lat,
            true_sog_kn=sog,
            true_cog_deg=cog,
            arrival_s=time_s.copy(),
            defect=np.full(count, None, object),
        )


def _times(rng: np.random.Generator, start_s: float, hours: float, interval_s: float) -> Array:
    """Irregular whole seconds: most of the interval is certain; one wait in fifty is long."""
    count = int(2.5 * hours * 3600.0 / interval_s) + 10
    waits = interval_s * (
        0.6 + rng.exponential(0.4, count) + 4.0 * rng.exponential(1.0, count) * (rng.uniform(size=count) < 0.02)
    )
    times = np.rint(start_s + rng.uniform(0.0, interval_s) + np.concatenate([[0.0], waits]).cumsum())
    return np.unique(times[times <= start_s + hours * 3600.0])


def _shown(sog_kn: Array) -> Array:
    """Speeds as they are sent: tenths of a knot, never below zero."""
    return np.asarray(np.rint(np.maximum(sog_kn, 0.0) * 10.0) / 10.0, np.float64)


def _red_noise(rng: np.random.Generator, time_s: Array) -> Array:
    """(2, n) km: errors of the position, which last for about two minutes."""
    out = rng.normal(0.0, SEA_NOISE_KM, (2, len(time_s)))
    keep = np.exp(-np.diff(time_s) / 120.0)
    for index, share in enumerate(keep, start=1):
        out[:, index] = share * out[:, index - 1] + np.sqrt(1 - share**2) * out[:, index]
    return out


def _assembled(parts: Sequence[Reports], paths: Mapping[int, Path], decimals: int) -> Fleet:
    both = pl.concat([part.frame() for part in parts]).sort("arrival_s", maintain_order=True)
    both = both.with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"),
        pl.lit("synthetic").alias("source"),
        pl.col("lon_deg", "lat_deg").round(decimals),
    )
    fixes = both.select(pl.col(name).cast(kind) for name, kind in FIX_SCHEMA.items())
    words = (pl.col("vessel").cast(pl.Int32), "behaviour", "defect", pl.col("true_time").alias("time"))
    place = (pl.col(f"true_{name}").alias(name) for name in ("lon_deg", "lat_deg"))
    motion = (pl.col(f"true_{name}").cast(pl.Float32).alias(name) for name in ("sog_kn", "cog_deg"))
    truth = both.select("row", *words, *place, *motion)
    return Fleet(fixes, truth, dict(paths))
