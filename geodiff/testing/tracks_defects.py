"""What goes wrong with AIS, put into the reports of a synthetic vessel and labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.sphere import move
from geodiff.testing.tracks_motion import Array, Path

DEFECTS: Final[dict[str, float]] = {
    "duplicate": 4.0,  # the same report again, somewhat later in the file
    "conflict": 1.5,  # another place at the same instant
    "jump": 2.0,  # one fix 2 to 300 km off
    "excursion": 0.7,  # two to five fixes in a row, all displaced alike
    "clock jump": 0.3,  # a block of times shifted by an hour, half a day or a day, either way
    "gap": 0.4,  # nothing for two to four hours (nothing to label)
    "late": 3.0,  # a sound report that arrives up to half an hour late
    "not available": 10.0,  # a sound position without speed, course and heading
    "shared identity": 0.08,  # another vessel far away reports under the same identity, all the time
}
"""Labels of defects and events per vessel; for "shared identity" the share of vessels. "late", "not available" and
"shared identity" mark fixes whose time and place are right."""

STATIONS: Final[dict[str, float]] = {
    "base station": 0.1,
    "aid to navigation": 0.1,
    "search transmitter": 0.05,
    "impossible identity": 0.05,
}
"""Kinds of stations that are no vessel, and how many there are for each vessel."""

_IDENTITIES: Final[dict[str, int]] = {
    "base station": 2_190_000,
    "aid to navigation": 992_190_000,
    "search transmitter": 970_010_000,
    "impossible identity": 1_193_046,
}


@dataclass(frozen=True, slots=True, eq=False)
class Reports:
    """Reports of one vessel or station with their truth; arrays are (n,) and run together."""

    vessel: npt.NDArray[np.int64]
    vessel_id: npt.NDArray[np.int64]
    behaviour: str
    time_s: Array
    lon_deg: Array
    lat_deg: Array
    sog_kn: Array
    cog_deg: Array
    heading_deg: Array
    nav_status: int
    ship_type: int
    true_time_s: Array
    true_lon_deg: Array
    true_lat_deg: Array
    true_sog_kn: Array
    true_cog_deg: Array
    arrival_s: Array
    defect: npt.NDArray[np.object_]

    def take(self, index: npt.NDArray[np.intp]) -> Reports:
        """Copies of some reports, in that order."""
        found: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays: dict[str, Any] = {name: value[index] for name, value in found.items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)

    def joined(self, other: Reports) -> Reports:
        """These and others of the same vessel."""
        found: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in found.items():
            if isinstance(value, np.ndarray):
                found[name] = np.concatenate([value, getattr(other, name)])
        return Reports(**found)

    def labelled(self, label: str) -> Reports:
        """The same reports with a label."""
        return replace(self, defect=np.full(len(self.time_s), label, object))

    def frame(self) -> pl.DataFrame:
        """As a table; NaN becomes null, as do the codes for "not available" of status and ship type."""
        number = ("lon_deg", "lat_deg", "sog_kn", "cog_deg", "heading_deg", "arrival_s")
        true = ("true_lon_deg", "true_lat_deg", "true_sog_kn", "true_cog_deg")
        table = pl.DataFrame({name: getattr(self, name) for name in ("vessel", "vessel_id", *number, *true)})
        return table.with_columns(
            pl.col("sog_kn", "cog_deg", "heading_deg").fill_nan(None),
            pl.Series("time", np.rint(self.time_s * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
            pl.Series("true_time", np.rint(self.true_time_s * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
            pl.Series("defect", list(self.defect), dtype=pl.String),
            pl.lit(self.behaviour).alias("behaviour"),
            pl.lit(None if self.nav_status == 15 else self.nav_status, pl.Int8).alias("nav_status"),
            pl.lit(self.ship_type or None, pl.Int16).alias("ship_type"),
            pl.lit(None, pl.Float32).alias("rot_deg_min"),
        )


def injected(reports: Reports, rates: Mapping[str, float], rng: np.random.Generator) -> Reports:
    """Put the defects of one vessel into its sound reports; a report gets at most one.

    Args:
        reports: sound, in the order of time.
        rates: label -> expected events.
        rng: consumed.
    """
    # Every kind draws its events whatever its rate, so that kinds do not disturb one another.
    counts = {label: int(rng.poisson(max(rates.get(label, 0.0), 0.0))) for label in DEFECTS}
    streams = {label: np.random.default_rng(int(rng.integers(2**63))) for label in DEFECTS}
    found = reports
    for label, change in (("gap", _gap), ("clock jump", _clock_jump), ("excursion", _excursion), ("jump", _jump),
                          ("not available", _not_available), ("late", _late), ("conflict", _conflict),
                          ("duplicate", _duplicate)):  # fmt: skip
        for _ in range(counts[label]):
            found = change(found, streams[label])
    return found


def _block(reports: Reports, rng: np.random.Generator, least: int, most: int) -> npt.NDArray[np.intp]:
    """A run of reports without a defect, with sound ones on both sides; empty where none was found."""
    count = int(rng.integers(least, most + 1))
    if len(reports.time_s) < count + 6:
        return np.empty(0, np.intp)
    first = int(rng.integers(3, len(reports.time_s) - count - 2))
    around = slice(first - 2, first + count + 2)
    sound = all(label is None for label in reports.defect[around])
    return np.arange(first, first + count) if sound else np.empty(0, np.intp)


def _changed(reports: Reports, index: npt.NDArray[np.intp], label: str, **values: Any) -> Reports:
    defect = reports.defect.copy()
    defect[index] = label
    changed: dict[str, Any] = {"defect": defect}
    for name, value in values.items():
        changed[name] = getattr(reports, name).copy()
        changed[name][index] = value
    return replace(reports, **changed)


def _gap(reports: Reports, rng: np.random.Generator) -> Reports:
    length = rng.uniform(2.0, 4.0) * 3600.0
    first = rng.uniform(reports.time_s[0], max(reports.time_s[-1] - length, reports.time_s[0] + 1.0))
    keep = (reports.time_s < first) | (reports.time_s > first + length)
    return reports.take(np.flatnonzero(keep)) if keep.sum() > 10 else reports


def _clock_jump(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 5, 40)
    shift = float(rng.choice([3600.0, 43_200.0, 86_400.0])) * float(rng.choice([-1.0, 1.0]))
    return _changed(reports, index, "clock jump", time_s=reports.time_s[index] + shift)


def _moved(reports: Reports, index: npt.NDArray[np.intp], rng: np.random.Generator) -> dict[str, Any]:
    """The places of some reports, all moved alike by 2 to 300 km."""
    reach_km, course = float(np.exp(rng.uniform(np.log(2.0), np.log(300.0)))), rng.uniform(0.0, 360.0)
    lon, lat = move(reports.lon_deg[index], reports.lat_deg[index], course, reach_km)
    return {"lon_deg": lon, "lat_deg": lat}


def _excursion(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 2, 5)
    return _changed(reports, index, "excursion", **_moved(reports, index, rng))


def _jump(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 1, 1)
    return _changed(reports, index, "jump", **_moved(reports, index, rng))


def _not_available(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 1, 1)
    return _changed(reports, index, "not available", sog_kn=np.nan, cog_deg=np.nan, heading_deg=np.nan)


def _late(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 1, 1)
    return _changed(reports, index, "late", arrival_s=reports.arrival_s[index] + rng.uniform(60.0, 1800.0))


def _duplicate(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 1, 1)
    copy = reports.take(index)
    return reports.joined(replace(copy, arrival_s=copy.arrival_s + rng.uniform(0.0, 60.0)).labelled("duplicate"))


def _conflict(reports: Reports, rng: np.random.Generator) -> Reports:
    index = _block(reports, rng, 1, 1)
    copy = reports.take(index)
    here = np.arange(len(index))
    side = float(rng.choice([-1.0, 1.0]))
    copy = replace(copy, arrival_s=copy.arrival_s + side, **_moved(copy, here, rng))
    return reports.joined(copy.labelled("conflict"))


def stations(number: int, rates: Mapping[str, float], rng: np.random.Generator, path: Path) -> list[Reports]:
    """Stations that are no vessel, near the start of a vessel's path; each reports every three minutes."""
    found = []
    for order, label in enumerate(STATIONS):
        drawn, turn = rng.uniform(), rng.uniform(0.0, 360.0)
        if drawn < rates.get(label, 0.0):
            found.append(_station(label, _IDENTITIES[label] + 10 * number + order, turn, path))
    return found


def _station(label: str, identity: int, turn: float, path: Path) -> Reports:
    seconds = path.start_s + np.arange(0.0, 10.0 * len(path.east_km), 180.0)
    lon, lat = move(path.lon0_deg, path.lat0_deg, turn, 5.0)
    here, still = np.ones(len(seconds)), np.zeros(len(seconds))
    unknown = np.full(len(seconds), np.nan)
    return Reports(
        np.full(len(seconds), -1), np.full(len(seconds), identity), label, seconds, here * lon, here * lat,
        unknown, unknown, unknown, 15, 0, seconds, here * lon, here * lat, still, still, seconds,
        np.full(len(seconds), label, object),
    )  # fmt: skip
