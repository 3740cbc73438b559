"""Messages of several sentences put together, whatever order they come in and however they are interleaved.

Sequence numbers run from 0 to 9 only and come back soon, so that parts wait for each other for a while and no longer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from geodiff.vessels.nmea_payload import Payloads
from geodiff.vessels.nmea_stamps import NO_TIME, SECOND_US
from geodiff.vessels.nmea_tags import Membership
from geodiff.vessels.nmea_tally import FURTHER_PART, Tally

INCOMPLETE = "message with parts missing"
REPEATED_PART = "part received again"

WAIT_ROWS = 2_000
WAIT_US = 60 * SECOND_US
"""Parts further apart than either belong to different messages."""

EARLY_ROWS = 100
EARLY_US = 5 * SECOND_US
"""How long a later part waits for a first one: by stamps, by rows where one has none. Parts that overtake each other
are close together; what waits longer has lost its first part, and would take that of the next message of its number."""

MOST_WAITING = 10_000
"""Messages that may wait at once; the oldest is given up for a new one."""

MOST_GROUPS = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One sentence of a message of several.

    Attributes:
        row: number of the line.
        key: what the parts of one message share, within a while.
        parts, part: how many there are, and which this is, from 1.
        payload: characters.
        fill: bits at the end that carry nothing.
        stamp_us: time of the line, ``NO_TIME`` without.
    """

    row: int
    key: tuple[bytes, ...]
    parts: int
    part: int
    payload: bytes
    fill: int
    stamp_us: int


class GroupStamp(NamedTuple):
    """A sentence whose tag block names a group: one stamp counts for all of it."""

    row: int
    key: Membership
    stamp_us: int


@dataclass(slots=True)
class _Waiting:
    """A message of which some parts have come: part -> itself."""

    first: Part
    parts: dict[int, Part]

    def fits(self, part: Part) -> bool:
        first = self.first
        if part.parts != first.parts:
            return False
        begun = 1 in self.parts
        if NO_TIME in (first.stamp_us, part.stamp_us):
            return begun or part.row - first.row <= EARLY_ROWS
        return abs(part.stamp_us - first.stamp_us) <= (WAIT_US if begun else EARLY_US)

    def stamp_us(self) -> int:
        stamps = (self.parts[number].stamp_us for number in sorted(self.parts))
        return next((stamp for stamp in stamps if stamp != NO_TIME), NO_TIME)


@dataclass(slots=True)
class _Rows:
    incomplete: list[int] = field(default_factory=list)
    further: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)


class PartBuffer:
    """Holds parts until their messages are whole. What comes out depends on the order of the parts alone."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[bytes, ...], _Waiting] = OrderedDict()

    def join(self, parts: Iterable[Part]) -> tuple[Payloads, Tally]:
        """Take parts in the order of their rows.

        Returns:
            The messages that are whole now, each at the row that completed it, and what became of the other rows.
        """
        whole: list[tuple[_Waiting, int]] = []
        rows = _Rows()
        for part in parts:
            self._expire(part.row, rows)
            waiting = self._waiting.get(part.key)
            if waiting is not None and part.part in waiting.parts and waiting.fits(part):
                if waiting.parts[part.part].payload == part.payload:
                    rows.repeated.append(part.row)
                    continue
                self._give_up(part.key, rows)
                waiting = None
            elif waiting is not None and not waiting.fits(part):
                self._give_up(part.key, rows)
                waiting = None
            if waiting is None:
                waiting = self._waiting[part.key] = _Waiting(part, {})
            waiting.parts[part.part] = part
            if len(waiting.parts) == part.parts:
                del self._waiting[part.key]
                rows.further.extend(other.row for other in waiting.parts.values() if other is not part)
                whole.append((waiting, part.row))
        return _payloads(whole), _tally(rows)

    def finish(self) -> Tally:
        """Give up whatever still waits."""
        rows = _Rows()
        for key in list(self._waiting):
            self._give_up(key, rows)
        return _tally(rows)

    def _expire(self, row: int, rows: _Rows) -> None:
        while self._waiting:
            key, oldest = next(iter(self._waiting.items()))
            if row - oldest.first.row <= WAIT_ROWS and len(self._waiting) < MOST_WAITING:
                return
            self._give_up(key, rows)

    def _give_up(self, key: tuple[bytes, ...], rows: _Rows) -> None:
        rows.incomplete.extend(part.row for part in self._waiting.pop(key).parts.values())


def _payloads(whole: list[tuple[_Waiting, int]]) -> Payloads:
    texts, fills = [], []
    for waiting, _ in whole:
        parts = [waiting.parts[number] for number in sorted(waiting.parts)]
        texts.append(b"".join(part.payload for part in parts))
        fills.append(parts[-1].fill)
    chars = np.array([len(text) for text in texts], np.int64)
    return Payloads(
        text=np.frombuffer(b"".join(texts) + b"\0", np.uint8),
        start=np.cumsum(chars) - chars,
        chars=chars,
        fill=np.array(fills, np.int64),
        row=np.array([row for _, row in whole], np.int64),
        stamp_us=np.array([waiting.stamp_us() for waiting, _ in whole], np.int64),
    )


def _tally(rows: _Rows) -> Tally:
    tally = Tally()
    tally.refuse(INCOMPLETE, np.array(rows.incomplete, np.int64))
    tally.skip(FURTHER_PART, np.array(rows.further, np.int64))
    tally.skip(REPEATED_PART, np.array(rows.repeated, np.int64))
    return tally


class Groups:
    """What one sentence of a group says for the others of it: when it was received, and by which station."""

    def __init__(self) -> None:
        self._stations: OrderedDict[bytes, bytes] = OrderedDict()
        self._stamps: OrderedDict[Membership, int] = OrderedDict()

    def fill(self, sentences: Iterable[GroupStamp]) -> dict[int, GroupStamp]:
        """Row -> the sentence with the station and the stamp that another of its group has given before."""
        return {sentence.row: self._filled(*sentence) for sentence in sentences}

    def _filled(self, row: int, key: Membership, stamp_us: int) -> GroupStamp:
        if key.station:
            _remember(self._stations, key.group, key.station)
        else:
            key = key._replace(station=self._stations.get(key.group, b""))
        if stamp_us == NO_TIME:
            stamp_us = self._stamps.get(key, NO_TIME)
        else:
            _remember(self._stamps, key, stamp_us)
        return GroupStamp(row, key, stamp_us)


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _remember(known: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > MOST_GROUPS:
        known.popitem(last=False)
