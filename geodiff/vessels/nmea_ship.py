"""Static data in messages 5, 19 and 24: what a ship says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.vessels.nmea_payload import (
    HEAD_CHARS,
    PART_FIELD,
    STATICS,
    Bools,
    Ints,
    Layout,
    Payloads,
    extract,
    read_text,
)
from geodiff.vessels.nmea_tally import OTHER_TYPE, STATIC, Tally, read_whole

PARTS_FROM = 240
"""Keys of ``STATICS`` from here on are parts of message 24."""

SHIP_IMO = (1_000_000, 9_999_999)
"""Numbers of ships; greater ones are of flag states, which no other source shares."""
AUXILIARY = 98
"""MMSI 98xxxxxxx are craft of a mother ship: type 24 B then has her MMSI where others have their size."""

STATIC_SCHEMA = pl.Schema(
    {
        "mmsi": pl.Int64(),
        "kind": pl.Int16(),
        "row": pl.Int64(),
        "time_us": pl.Int64(),
        "ship_type": pl.Int16(),
        "imo": pl.Int64(),
        "name": pl.String(),
        "callsign": pl.String(),
        "length_m": pl.Float32(),
        "width_m": pl.Float32(),
        "draught_m": pl.Float32(),
        "destination": pl.String(),
    }
)
"""Static data as they were sent: ``kind`` is the key of ``STATICS``, ``time_us`` the stamp of the line."""


def read_statics(payloads: Payloads, types: Ints, mmsi: Ints, tally: Tally) -> list[pl.DataFrame]:
    """Static data; those of type 19 stand in the tally as positions do, the others here."""
    frames = []
    for kind, layout in STATICS.items():
        which = np.flatnonzero(types == (24 if kind >= PARTS_FROM else kind))
        chosen, sender = payloads.pick(which), mmsi[which]
        if kind >= PARTS_FROM and len(chosen):
            part = extract(chosen.words(HEAD_CHARS), PART_FIELD)
            if kind == PARTS_FROM:
                tally.skip(OTHER_TYPE, chosen.row[part > 1])
            chosen, sender = chosen.pick(part == kind - PARTS_FROM), sender[part == kind - PARTS_FROM]
        if not len(chosen):
            continue
        unheard = Tally()
        raw, chosen = read_whole(chosen, layout, unheard if kind == 19 else tally)
        if kind != 19:
            tally.skip(STATIC, chosen.row)
        frames.append(_static_frame(kind, layout, raw, chosen))
    return frames


def _static_frame(kind: int, layout: Layout, raw: dict[str, Ints], payloads: Payloads) -> pl.DataFrame:
    columns: dict[str, Ints | pl.Series] = {
        "mmsi": raw["mmsi"],
        "row": payloads.row,
        "time_us": payloads.stamp_us,
    }
    columns["kind"] = np.full(len(payloads), kind)
    if "ship_type" in raw:
        columns["ship_type"] = _known(raw["ship_type"], (raw["ship_type"] > 0) & (raw["ship_type"] < 100))
    if "imo" in raw:
        columns["imo"] = _known(raw["imo"], (raw["imo"] >= SHIP_IMO[0]) & (raw["imo"] <= SHIP_IMO[1]))
    if "draught" in raw:
        columns["draught_m"] = _known(raw["draught"] / 10, raw["draught"] > 0)
    if "bow" in raw:
        own = (raw["mmsi"] // 10_000_000 != AUXILIARY) | (kind != 241)
        length, width = raw["bow"] + raw["stern"], raw["port"] + raw["starboard"]
        columns["length_m"], columns["width_m"] = _known(length, (length > 0) & own), _known(width, (width > 0) & own)
    for name, (start, chars) in layout.texts.items():
        text = read_text(payloads, start, chars)
        columns[name] = _known(text, text != "")
    return pl.DataFrame(
        [
            pl.Series(name, columns.get(name, [None] * len(payloads)), strict=False).cast(dtype)
            for name, dtype in STATIC_SCHEMA.items()
        ]
    )


def _known(values: npt.NDArray[Any], known: Bools) -> pl.Series:
    """The values, null where not ``known``."""
    column = pl.Series(values)
    return column.zip_with(pl.Series(known), pl.Series([None] * column.len(), dtype=column.dtype))
