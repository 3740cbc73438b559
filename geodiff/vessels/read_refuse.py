"""Which rows are no fixes, and why; which values of fixes were blanked. All is counted, nothing falls silently."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl

from geodiff.schema import GeodiffError
from geodiff.vessels.layouts import Identity, Layout
from geodiff.vessels.read_columns import blanked, not_available, unreadable
from geodiff.vessels.reading import EXAMPLES, ReadCounts
from geodiff.vessels.tables import RAW_ROW

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Before AIS and before GPS was complete: such times are counters that started anew."""

LATEST_AHEAD = timedelta(days=1)
MAX_RANGE_M = 1_000_000.0
NOT_AVAILABLE = "position not available"
"""Why a row without a position, or with 181 or 91 degrees, is refused."""

NULL_ISLAND = "null island (position 0, 0)"
TOO_LATE = "time in the future"
SPEED_NOISE = "speed of 51.2 kn"
"""Why a speed is blanked."""

FASTEST_KN = 102.25
"""Transponders say at most 102.2 kn, for that or more."""

FASTEST_AIRCRAFT_KN = 1022.0
"""Those of search and rescue aircraft (MMSI 111MIDxxx; message 9) count whole knots, up to so many."""

Rule = tuple[str, pl.Expr]

log = logging.getLogger(__name__)

_WORDS = {
    "vessel_id": "identity",
    "lon_deg": "longitude",
    "lat_deg": "latitude",
    "sog_kn": "speed",
    "cog_deg": "course",
    "heading_deg": "heading",
    "rot_deg_min": "rate of turn",
    "nav_status": "navigational status",
    "ship_type": "ship type",
    "length_m": "length",
    "width_m": "width",
    "draught_m": "draught",
    "imo": "IMO number",
    "range_m": "range",
    "bearing_deg": "bearing",
    "north_m": "north",
    "east_m": "east",
    "row": "row number",
}


def refusal_rules(
    frame: pl.DataFrame, layout: Layout, now: datetime, *, anonymous: bool, zone: str = "UTC"
) -> list[Rule]:
    """Reasons to refuse a row, the first that holds counts.

    Args:
        frame: parsed columns with their marks, ``__blank``, ``__no_time``, and ``__apart_<n>`` for each of
            ``layout.apart``.
        layout: of the table.
        now: fixes more than a day after it are refused.
        anonymous: rows have no identity and need none.
        zone: of times without an offset, whose clocks may skip or repeat some.
    """
    clocks = "" if zone == "UTC" else f", or is skipped or repeated by the clocks of {zone}"
    rules: list[Rule] = [("blank row", pl.col("__blank"))]
    rules += [(apart.reason, pl.col(f"__apart_{n}")) for n, apart in enumerate(layout.apart)]
    if layout.static_rows:
        rules.append(("no position: static data, joined to the fixes after it", pl.col("__static")))
    rules += [
        ("no time", pl.col("__no_time")),
        (f"time cannot be read{clocks}", pl.col("time").is_null()),
        *time_rules(now),
        *([] if anonymous else _identity_rules(layout)),
        *_unreadable_rules(frame),
        *(_radar_rules(frame) if layout.kind == "radar" else []),
        *value_rules(frame),
    ]
    return rules


def time_rules(now: datetime) -> list[Rule]:
    """Reasons to refuse a row for when it says it was."""
    time = pl.col("time")
    return [("time before 1990", time < EARLIEST), (TOO_LATE, time > now + LATEST_AHEAD)]


def value_rules(frame: pl.DataFrame) -> list[Rule]:
    """Reasons to refuse a row for its position, speed, course, heading or rate of turn; the last where it has them."""
    lon, lat = pl.col("lon_deg"), pl.col("lat_deg")
    rules: list[Rule] = [
        (NOT_AVAILABLE, lon.is_null() | lat.is_null() | _is(lon, 181.0) | _is(lat, 91.0)),
        ("latitude out of range", lat.abs() > 90.0),
        ("longitude out of range", lon.abs() > 180.0),
        (NULL_ISLAND, (lon.abs() < 1e-6) & (lat.abs() < 1e-6)),
    ]
    fastest = pl.when(pl.col("vessel_id") // 1_000_000 == 111).then(FASTEST_AIRCRAFT_KN).otherwise(FASTEST_KN)
    for key, most in (("sog_kn", fastest), ("cog_deg", pl.lit(409.6)), ("heading_deg", pl.lit(511.0))):
        if key in frame.columns:
            rules.append((f"{_WORDS[key]} out of range", (pl.col(key) < 0) | (pl.col(key) > most)))
    if "rot_deg_min" in frame.columns:
        rules.append(("rate of turn out of range", pl.col("rot_deg_min").abs() > 732.0))
    return rules


def _is(value: pl.Expr, code: float) -> pl.Expr:
    return (value - code).abs() < 1e-6


def _identity_rules(layout: Layout) -> list[Rule]:
    identity = pl.col("vessel_id")
    rules = [("no identity", identity.is_null() & ~pl.col("__unreadable_id") | (identity == 0))]
    rules.append(("identity is not a number", pl.col("__unreadable_id")))
    rules.append(("identity out of range", identity.is_not_null() & known_identity(layout.columns.vessel_id).is_null()))
    return rules


def known_identity(told: Identity | None = None) -> pl.Expr:
    """``vessel_id`` where it names somebody, else null; ``told`` is what a layout says of it."""
    most = 999_999_999 if told is not None and told.kind == "mmsi" else 2**63 - 1
    return pl.when(pl.col("vessel_id").is_between(1, most)).then(pl.col("vessel_id")).alias("vessel_id")


def _unreadable_rules(frame: pl.DataFrame) -> list[Rule]:
    keys = [key for key in _WORDS if unreadable(key) in frame.columns and blanked(key) not in frame.columns]
    more = [key for key in ("sog_kn", "cog_deg", "heading_deg") if unreadable(key) in frame.columns]
    return [(f"{_WORDS[key]} is not a number", pl.col(unreadable(key))) for key in [*keys, *more] if key != "vessel_id"]


def _radar_rules(frame: pl.DataFrame) -> list[Rule]:
    far = [pl.col(key).abs() > MAX_RANGE_M for key in ("range_m", "north_m", "east_m") if key in frame.columns]
    rules = [("further than 1,000 km from the radar", pl.any_horizontal(far))] if far else []
    return rules + ([("range below zero", pl.col("range_m") < 0)] if "range_m" in frame.columns else [])


def refuse(frame: pl.DataFrame, rules: list[Rule], counts: ReadCounts) -> pl.DataFrame:
    """The rows that no rule refuses; the others, and the blanked values of those kept, are counted."""
    chain: pl.Expr = pl.lit(0, pl.UInt8)
    for number, (_, holds) in reversed(list(enumerate(rules, 1))):
        chain = pl.when(holds.fill_null(False)).then(pl.lit(number, pl.UInt8)).otherwise(chain)
    frame = frame.lazy().with_columns(chain.alias("__why")).collect()
    out = frame.filter(pl.col("__why") > 0)
    if out.height:
        found = out.group_by("__why").agg(pl.len(), pl.col(RAW_ROW).head(EXAMPLES)).sort("__why")
        for why, count, rows in found.iter_rows():
            counts.refuse(rules[why - 1][0], rows, count)
        frame = frame.filter(pl.col("__why") == 0)
    counts.kept += frame.height
    _count_blanked(frame, counts)
    return frame


def without_refused(fixes: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """A whole table of fixes that no reader saw: its rows stay, those that are no fixes without their position.

    So do those of transponders that nobody set up, under identities that are none, without these.

    Args:
        fixes: columns of ``FIX_TYPES`` and others; marks of ``blanked`` are taken off.

    Returns:
        The table without codes for "not available", and what was refused and dropped, in words; positions that are not
        available explain themselves and are left out.
    """
    counts = ReadCounts()
    numbered = fixes.with_columns(not_available(fixes)).with_row_index(RAW_ROW, 1)
    kept = refuse(numbered, [*time_rules(datetime.now(UTC)), *value_rules(numbered)], counts)
    lost = {why: count for why, count in counts.refused.items() if why != NOT_AVAILABLE}
    nobody = numbered.filter(pl.col("vessel_id").is_not_null() & known_identity().is_null())
    told = {
        "rows that are no fixes lose their position": lost,
        "values without a meaning are dropped": counts.blanked,
        "vessel_id of 0 or less names nobody and is dropped": {"rows": nobody.height} if nobody.height else {},
    }
    said = "; ".join(f"{what}: {describe(replace(counts, refused=each))}" for what, each in told.items() if each)
    sound = pl.col(RAW_ROW).is_in(kept[RAW_ROW].implode())
    placed = numbered.with_columns(
        *(pl.when(sound).then(pl.col(name)).alias(name) for name in ("lon_deg", "lat_deg")),
        known_identity(),
    )
    return placed.select(name for name in fixes.columns if not name.startswith(blanked(""))), said


def _count_blanked(frame: pl.DataFrame, counts: ReadCounts) -> None:
    marks = [name for name in frame.columns if name.startswith(blanked(""))]
    if not marks or not frame.height:
        return
    for mark, count in zip(marks, frame.select(pl.col(marks).sum()).row(0), strict=True):
        if count:
            rows = frame.filter(pl.col(mark)).head(EXAMPLES)[RAW_ROW].to_list()
            what = f"{_WORDS[mark.removeprefix(blanked(''))]} undefined"
            counts.blank(SPEED_NOISE if mark == blanked("sog_kn") else what, rows, count)


def tell_noted(counts: ReadCounts, where: str) -> None:
    """Warn, once for a source, of rows that were read otherwise than they stand."""
    for what, count in counts.noted.items():
        rows = ", ".join(str(row) for row in counts.examples.get(what, []))
        log.warning("%s: %s %s (such as row %s)", where, f"{count:,}", what, rows)


def describe(counts: ReadCounts) -> str:
    """Refusals in one line: ``latitude out of range 3 (rows 2, 7, 9); no identity 1 (row 4)``."""
    return "; ".join(_described(counts.refused, counts)) or "none"


def _described(counted: dict[str, int], counts: ReadCounts) -> Iterable[str]:
    for reason, count in sorted(counted.items(), key=lambda item: -item[1]):
        rows = counts.examples.get(reason, [])[:EXAMPLES]
        more = ", ..." if count > len(rows) else ""
        named = f" ({'rows' if count > 1 else 'row'} {', '.join(map(str, rows))}{more})" if rows else ""
        yield f"{reason} {count:,}{named}"


def check_any(counts: ReadCounts, where: str) -> None:
    """Refuse a source that gave no fix.

    Raises:
        GeodiffError: no rows at all, or every row was refused; the message counts the reasons and names rows.
    """
    if counts.kept:
        return
    if not counts.read:
        raise GeodiffError(f"{where}: no rows below the header")
    why = describe(counts) if counts.refused else "none of them holds a position"
    raise GeodiffError(f"{where}: no fix among {counts.read:,} rows: {why}")
