"""Batches of payloads to positions, static data and reports of the time, with what was refused and why.

Codes for "not available" become NaN or null here, by the tables of ITU-R M.1371-5 annex 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from geodiff.vessels.nmea_payload import HEAD_CHARS, MMSI, POSITIONS, Bools, Floats, Ints, Payloads, extract
from geodiff.vessels.nmea_ship import read_statics
from geodiff.vessels.nmea_stamps import NO_TIME, utc_us
from geodiff.vessels.nmea_tally import OTHER_TYPE, TRUNCATED, Tally, read_whole
from geodiff.vessels.read_refuse import NULL_ISLAND, SPEED_NOISE

NO_POSITION = "position not available"
OFF_EARTH = "position out of range"
BAD_MMSI = "MMSI out of range"
NO_TYPE = "no such type of message"

NO_COURSE = "course undefined"
NO_HEADING = "heading undefined"

LAST_TYPE = 27
MAX_MMSI = 999_999_999
MINUTES_SCALE = 600_000.0
"""Longitudes and latitudes are in 1/10,000 minute; those of type 27 in 1/10 minute."""
TENTHS_SCALE = 600.0
ROT_SCALE = 4.733
"""Rates of turn are sent as 4.733 times the root of degrees per minute."""
NO_SECOND = 60
"""From here on the second of a report is a code."""
SOG_NOISE = 512
"""51.2 kn, the top bit alone: seen where the speed is not known, never as a speed."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of one batch, (n,) each.

    Attributes:
        row: number of the line.
        time_us: stamp, microseconds since 1970; ``NO_TIME`` without. For types 4 and 11 without a stamp their own time.
        kind: type of message.
        mmsi: 1 to 999999999.
        second: of the report, 0-59; ``NO_SECOND`` where it has none.
        nav_status: -1 for none.
        lon_deg, lat_deg: degrees.
        sog_kn, cog_deg, heading_deg, rot_deg_min: NaN where not available.
    """

    row: Ints
    time_us: Ints
    kind: Ints
    mmsi: Ints
    second: Ints
    nav_status: Ints
    lon_deg: Floats
    lat_deg: Floats
    sog_kn: Floats
    cog_deg: Floats
    heading_deg: Floats
    rot_deg_min: Floats

    def pick(self, which: Ints | slice) -> Positions:
        """Those that ``which`` selects, in its order."""
        return Positions(*(getattr(self, name)[which] for name in self.__slots__))

    @classmethod
    def joined(cls, parts: Iterable[Positions]) -> Positions:
        """One after another."""
        parts = [*parts, _EMPTY]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


_EMPTY = Positions(*([np.empty(0, np.int64)] * 6), *([np.empty(0)] * 6))  # type: ignore[arg-type]


@dataclass(slots=True)
class Decoded:
    """What a batch of payloads holds.

    Attributes:
        positions: in the order of rows.
        statics: frames of ``STATIC_SCHEMA``.
        clock_row, clock_us: reports of UTC by base stations (types 4 and 11).
        tally: what gave no position.
    """

    positions: Positions
    statics: list[pl.DataFrame]
    clock_row: Ints
    clock_us: Ints
    tally: Tally


def decode(payloads: Payloads) -> Decoded:
    """Decode a batch; every payload gives a position or stands in the tally, once."""
    tally = Tally()
    payloads, mmsi = _with_identity(payloads, tally)
    types = payloads.types
    found, statics = [], read_statics(payloads, types, mmsi, tally)
    clock_row, clock_us = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for layout in dict.fromkeys(id(layout) for layout in POSITIONS.values()):
        kinds = [kind for kind, known in POSITIONS.items() if id(known) == layout]
        chosen = payloads.pick(np.flatnonzero(np.isin(types, kinds)))
        if len(chosen):
            raw, chosen = read_whole(chosen, POSITIONS[kinds[0]], tally)
            time_us = chosen.stamp_us
            if "utc_second" in raw:
                own = _own_time(raw)
                clock_row.append(chosen.row[own != NO_TIME])
                clock_us.append(own[own != NO_TIME])
                time_us = np.where(time_us == NO_TIME, own, time_us)
            found.append(_positions(chosen, raw, time_us, tally))
    tally.skip(OTHER_TYPE, payloads.row[~np.isin(types, [*POSITIONS, 5, 24])])
    positions = Positions.joined(found)
    order = np.argsort(positions.row, kind="stable")
    return Decoded(positions.pick(order), statics, np.concatenate(clock_row), np.concatenate(clock_us), tally)


def _with_identity(payloads: Payloads, tally: Tally) -> tuple[Payloads, Ints]:
    """Payloads of a known type that are long enough to name their sender, with the MMSI."""
    types = payloads.types
    known = (types >= 1) & (types <= LAST_TYPE)
    tally.refuse(NO_TYPE, payloads.row[~known])
    named = known & (payloads.bits >= MMSI.start + MMSI.length)
    tally.refuse(TRUNCATED, payloads.row[known & ~named])
    payloads = payloads.pick(named)
    mmsi = extract(payloads.words(HEAD_CHARS), MMSI)
    good = (mmsi > 0) & (mmsi <= MAX_MMSI)
    tally.refuse(BAD_MMSI, payloads.row[~good])
    return payloads.pick(good), mmsi[good]


def _own_time(raw: dict[str, Ints]) -> Ints:
    return utc_us(raw["year"], raw["month"], raw["day"], raw["hour"], raw["minute"], raw["utc_second"])


def _positions(payloads: Payloads, raw: dict[str, Ints], time_us: Ints, tally: Tally) -> Positions:
    count = len(payloads)
    if "lon_tenths" in raw:
        lon, lat = raw["lon_tenths"] / TENTHS_SCALE, raw["lat_tenths"] / TENTHS_SCALE
    else:
        lon, lat = raw["lon"] / MINUTES_SCALE, raw["lat"] / MINUTES_SCALE
    absent = (lon == 181.0) | (lat == 91.0)
    outside = ((np.abs(lon) > 180.0) | (np.abs(lat) > 90.0)) & ~absent
    nowhere = (lon == 0.0) & (lat == 0.0)
    tally.refuse(NO_POSITION, payloads.row[absent])
    tally.refuse(OFF_EARTH, payloads.row[outside])
    tally.refuse(NULL_ISLAND, payloads.row[nowhere])
    second = raw.get("second", raw.get("utc_second"))
    status = raw.get("status")
    found = Positions(
        row=payloads.row,
        time_us=time_us,
        kind=payloads.types,
        mmsi=raw["mmsi"],
        second=np.full(count, NO_SECOND) if second is None else np.minimum(second, NO_SECOND),
        nav_status=np.full(count, -1) if status is None else np.where(status == 15, -1, status),
        lon_deg=lon,
        lat_deg=lat,
        sog_kn=_sog(raw, count),
        cog_deg=_angle(raw, count),
        heading_deg=_where(raw["heading"] < 360, raw["heading"]) if "heading" in raw else np.full(count, np.nan),
        rot_deg_min=_rot(raw["rot"]) if "rot" in raw else np.full(count, np.nan),
    )
    inside = ~(absent | outside | nowhere)
    for what, void in _undefined(raw):
        tally.blank(what, payloads.row[void & inside])
    kept = np.flatnonzero(inside)
    return found if kept.size == count else found.pick(kept)


def _undefined(raw: dict[str, Ints]) -> Iterator[tuple[str, Bools]]:
    """Values that the standard does not define, or that are known not to be meant, beside the codes for "none"."""
    if "sog" in raw:
        yield SPEED_NOISE, raw["sog"] == SOG_NOISE
    if "cog" in raw:
        yield NO_COURSE, raw["cog"] > 3600
    if "cog_whole" in raw:
        yield NO_COURSE, (raw["cog_whole"] >= 360) & (raw["cog_whole"] != 511)
    if "heading" in raw:
        yield NO_HEADING, (raw["heading"] >= 360) & (raw["heading"] != 511)


def _where(known: Bools, values: Ints | Floats) -> Floats:
    return np.where(known, values, np.nan)


def _sog(raw: dict[str, Ints], count: int) -> Floats:
    """Knots: tenths up to 102.2; whole ones up to 62 of type 27 and up to 1022 of aircraft."""
    if "sog" in raw:
        return _where((raw["sog"] < 1023) & (raw["sog"] != SOG_NOISE), raw["sog"] / 10)
    if "sog_whole" in raw:
        return _where(raw["sog_whole"] < (63 if "lon_tenths" in raw else 1023), raw["sog_whole"])
    return np.full(count, np.nan)


def _angle(raw: dict[str, Ints], count: int) -> Floats:
    if "cog" in raw:
        return _where(raw["cog"] < 3600, raw["cog"] / 10)
    if "cog_whole" in raw:
        return _where(raw["cog_whole"] < 360, raw["cog_whole"])
    return np.full(count, np.nan)


def _rot(raw: Ints) -> Floats:
    """Degrees a minute, right positive; NaN for -128 and for +-127, "turning, no indicator": no rate was measured."""
    return _where(np.abs(raw) < 127, np.sign(raw) * (raw / ROT_SCALE) ** 2)
