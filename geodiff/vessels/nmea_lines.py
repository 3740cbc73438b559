r"""Lines of a recording to AIS sentences, whole blocks at once: where they stand, whether they hold, when they came.

A sentence is ``!AIVDM,parts,part,sequence,channel,payload,fill*checksum`` (IEC 61162-1), of any talker, ``VDM`` or
``VDO``. It may stand behind tag blocks or a logger's own text, and a receiver's may follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from geodiff.vessels.nmea_bytes import MAX_LINE_BYTES, Block
from geodiff.vessels.nmea_decode import Decoded, decode
from geodiff.vessels.nmea_instruments import Clock, clock_sentences, receipts
from geodiff.vessels.nmea_parts import GroupStamp, Part
from geodiff.vessels.nmea_payload import BAD_CHAR, SIX_BITS, Bools, Ints, Payloads
from geodiff.vessels.nmea_stamps import NO_TIME, stamps_in
from geodiff.vessels.nmea_tags import Tags, membership, read_tags
from geodiff.vessels.nmea_tally import FURTHER_PART, Tally
from geodiff.vessels.nmea_text import Stretch, Text, next_of

TOO_LONG = "line too long"
NOT_AIS = "not an AIS sentence"
CUT_SHORT = "truncated sentence"
BAD_CHECKSUM = "bad checksum"
BAD_TAG = "bad checksum of the tag block"
BAD_FIELD = "bad field of the sentence"
NO_PAYLOAD = "empty payload"
BAD_ARMOUR = "bad character in the payload"

COMMENT = "comment"
OTHER_SENTENCE = "other NMEA sentence"

COMMAS = 6
"""In a sentence, before its last field."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a block of lines holds; rows count from 1 over the whole recording.

    Attributes:
        read: lines that are not blank; a line with two sentences counts twice.
        valid: how many sentences hold.
        decoded: the messages of one sentence, or of two on adjacent lines.
        parts: the sentences of those whose parts do not stand on adjacent lines, in order.
        groups: in order.
        clock: when lines were received, by tag blocks, loggers and instruments; ``line`` is the row, in order.
        tally: what became of lines that hold no sentence.
    """

    read: int
    valid: int
    decoded: Decoded
    parts: list[Part]
    groups: list[GroupStamp]
    clock: Clock
    tally: Tally


class _Sentences(NamedTuple):
    """Candidates: (n,) where each begins and has to end, and its line in the block."""

    begin: Ints
    end: Ints
    line: Ints

    def pick(self, which: Ints | Bools) -> _Sentences:
        return _Sentences(*(array[which] for array in self))


class _Fields(NamedTuple):
    """Fields of sentences that hold, (n,) each: commas (``COMMAS``, n), asterisk, parts, part, payload, fill bits."""

    comma: Ints
    star: Ints
    parts: Ints
    part: Ints
    chars: Ints
    fill: Ints

    def pick(self, which: Ints | Bools) -> _Fields:
        return _Fields(self.comma[:, which], *(array[which] for array in self[1:]))


def parse(block: Block) -> Parsed:
    """Parse and decode a block; a pure function of it."""
    text, row, tally = Text.of(block.data), block.first_line, Tally()
    size = text.end - text.start
    comment = (size > 0) & (text.chars[text.start] == ord("#"))
    tally.skip(COMMENT, np.flatnonzero(comment) + row)
    tally.refuse(TOO_LONG, np.flatnonzero((size > MAX_LINE_BYTES) & ~comment) + row)
    usable = (size > 0) & (size <= MAX_LINE_BYTES) & ~comment
    found = _find(text, usable)
    usable[found.line] = False
    receipt, instruments = _others(text, np.flatnonzero(usable), row, tally)
    again = found.line[1:] == found.line[:-1]
    before = np.append(text.start[found.line[:1]], np.where(again, found.begin[:-1] + 1, text.start[found.line[1:]]))
    tags = read_tags(text, before, found.begin)
    held, fields = _check(text, found, tags, row, tally)
    found, tags, before = found.pick(held), tags.pick(held), before[held]
    stamp = _stamps(text, found, tags, before, fields.star, receipt)
    payloads = Payloads(text.chars, fields.comma[4] + 1, fields.chars, fields.fill, found.line + row, stamp)
    first = _pairs(text, found, tags, fields)
    tally.skip(FURTHER_PART, payloads.row[first])
    alone = fields.parts > 1
    alone[first] = alone[first + 1] = False
    return Parsed(
        read=int((size > 0).sum() + again.sum()),
        valid=len(payloads),
        decoded=decode(_whole(payloads, np.flatnonzero(fields.parts == 1), first)),
        parts=_parts(text, found, tags, fields, payloads, np.flatnonzero(alone)),
        groups=_groups(text, found, tags, payloads, np.flatnonzero(tags.grouped)),
        clock=_clock(payloads.row, stamp, instruments, receipt, row),
        tally=tally,
    )


def _find(text: Text, usable: Bools) -> _Sentences:
    """Everything that begins as a sentence does."""
    begin = text.find(b"!")
    ahead = text.chars[begin[:, None] + np.arange(7)]
    last = ahead[:, 5]
    begin = begin[
        (ahead[:, 3] == ord("V"))
        & (ahead[:, 4] == ord("D"))
        & ((last == ord("M")) | (last == ord("O")))
        & (ahead[:, 6] == ord(","))
    ]
    line = np.searchsorted(text.start, begin, side="right") - 1
    inside = usable[line]
    begin, line = begin[inside], line[inside]
    end = text.end[line]
    end[:-1] = np.minimum(end[:-1], begin[1:])
    return _Sentences(begin, end, line)


def _others(text: Text, lines: Ints, row: int, tally: Tally) -> tuple[Clock, Clock]:
    """Lines without an AIS sentence: receipts of the sentences after them, and the receiver's clock."""
    start = text.start[lines]
    # A tag block may stand before any sentence.
    bare = np.where(
        text.chars[start] == ord("\\"), next_of(text.find(b"\\"), start + 1, text.chars.size - 2) + 1, start
    )
    nmea = np.isin(text.chars[bare], (ord("$"), ord("!"))) & (bare < text.end[lines])
    tally.refuse(NOT_AIS, lines[~nmea] + row)
    lines, bare = lines[nmea], bare[nmea]
    star = np.minimum(next_of(text.find(b"*"), bare, text.chars.size), text.end[lines])
    there, right = text.holds(bare + 1, star)
    wrong = (star < text.end[lines]) & there & ~right
    tally.refuse(BAD_CHECKSUM, lines[wrong] + row)
    tally.skip(OTHER_SENTENCE, lines[~wrong] + row)
    lines = lines[right & (star < text.end[lines])]
    return receipts(text, lines), clock_sentences(text, lines)


def _check(text: Text, found: _Sentences, tags: Tags, row: int, tally: Tally) -> tuple[Ints, _Fields]:
    """Which sentences hold, and their fields; each of the others is refused for its first fault."""
    commas = np.append(text.find(b","), [text.chars.size] * COMMAS)
    comma = commas[np.searchsorted(commas, found.begin) + np.arange(COMMAS)[:, None]]
    comma = np.minimum(comma, found.end)
    star = np.minimum(next_of(text.find(b"*"), comma[5], text.chars.size), found.end)
    there, right = text.holds(found.begin + 1, star)
    chars = comma[5] - comma[4] - 1
    parts, part, fill = (_digit(text, comma[i], end) for i, end in ((0, comma[1]), (1, comma[2]), (5, star)))
    foreign = np.flatnonzero(SIX_BITS[text.chars] == BAD_CHAR)
    faults = {
        CUT_SHORT: (star + 3 > found.end) | ~there,
        BAD_CHECKSUM: ~right,
        BAD_TAG: tags.bad,
        BAD_FIELD: (part < 1) | (parts < part) | (fill < 0) | (fill > 5),
        NO_PAYLOAD: chars < 1,
        BAD_ARMOUR: next_of(foreign, comma[4] + 1, 0) != comma[5],
    }
    sound = _sound(faults, found.line + row, tally)
    return sound, _Fields(comma, star, parts, part, chars, fill).pick(sound)


def _sound(faults: dict[str, Bools], rows: Ints, tally: Tally) -> Ints:
    sound = np.ones(rows.size, bool)
    for reason, wrong in faults.items():
        tally.refuse(reason, rows[sound & wrong])
        sound &= ~wrong
    return np.flatnonzero(sound)


def _digit(text: Text, comma: Ints, end: Ints) -> Ints:
    """The one digit between two places; -1 for anything else."""
    value = text.chars[comma + 1].astype(np.int64) - 48
    return np.where((end - comma == 2) & (value >= 0) & (value <= 9), value, -1)


def _stamps(text: Text, found: _Sentences, tags: Tags, before: Ints, star: Ints, receipt: Clock) -> Ints:
    """When each sentence was received: by tag block, text before it, line before it, text after it, in this order."""
    stamp = tags.stamp_us.copy()
    of_line = np.full(text.start.size + 1, NO_TIME, np.int64)
    of_line[receipt.line + 1] = receipt.time_us
    # What stands between two sentences of one line may be the rest of the first, whose letters could look like a time.
    first = before == text.start[found.line]
    left = np.flatnonzero(stamp == NO_TIME)
    stamp[left] = stamps_in(text.chars, np.where(first, before, tags.begin)[left], tags.begin[left])
    stamp = np.where(stamp == NO_TIME, of_line[found.line], stamp)
    left = np.flatnonzero(stamp == NO_TIME)
    stamp[left] = stamps_in(text.chars, star[left] + 3, found.end[left])
    return stamp


def _pairs(text: Text, found: _Sentences, tags: Tags, fields: _Fields) -> Ints:
    """Messages of two sentences on adjacent lines, as nearly all are: the first ones. They need not wait."""
    one = np.flatnonzero((fields.parts[:-1] == 2) & (fields.part[:-1] == 1))
    one = one[
        (fields.parts[one + 1] == 2)
        & (fields.part[one + 1] == 2)
        & (found.line[one + 1] - found.line[one] == 1)
        & ~tags.grouped[one]
        & ~tags.grouped[one + 1]
    ]
    for stretch in (
        Stretch(found.begin, fields.comma[0] - found.begin),
        Stretch(fields.comma[2], fields.comma[4] - fields.comma[2]),
        tags.station,
    ):
        one = one[stretch.same(text, one, one + 1)]
    first: Ints = one
    return first


def _whole(payloads: Payloads, single: Ints, first: Ints) -> Payloads:
    """Messages of one sentence, and those of two adjacent ones, written out one behind the other."""
    halves = np.stack([first, first + 1], axis=1).reshape(-1)
    chars = payloads.chars[halves]
    begin = np.cumsum(chars) - chars
    copied = payloads.text[np.repeat(payloads.start[halves] - begin, chars) + np.arange(chars.sum())]
    stamp = np.where(payloads.stamp_us[first] == NO_TIME, payloads.stamp_us[first + 1], payloads.stamp_us[first])
    return Payloads(
        text=np.concatenate([payloads.text, copied]),
        start=np.append(payloads.start[single], payloads.text.size + begin[::2]),
        chars=np.append(payloads.chars[single], payloads.chars[first] + payloads.chars[first + 1]),
        fill=np.append(payloads.fill[single], payloads.fill[first + 1]),
        row=np.append(payloads.row[single], payloads.row[first + 1]),
        stamp_us=np.append(payloads.stamp_us[single], stamp),
    )


def _parts(text: Text, found: _Sentences, tags: Tags, fields: _Fields, payloads: Payloads, which: Ints) -> list[Part]:
    members = membership(text, tags, found.begin, which)
    columns = (payloads.row, fields.parts, fields.part, payloads.start, fields.chars, fields.fill, payloads.stamp_us)
    begins, ids, id_ends = (array[which].tolist() for array in (found.begin, fields.comma[2], fields.comma[4]))
    parts = []
    for member, begin, id_start, id_end, *numbers in zip(
        members, begins, ids, id_ends, *(array[which].tolist() for array in columns), strict=True
    ):
        row, total, part, start, chars, fill, stamp_us = numbers
        own = (text.cut(begin + 1, begin + 6), text.cut(id_start, id_end), member.station)
        key = (member.group, member.station) if member.group else own
        parts.append(Part(row, key, total, part, text.cut(start, start + chars), fill, stamp_us))
    return parts


def _groups(text: Text, found: _Sentences, tags: Tags, payloads: Payloads, which: Ints) -> list[GroupStamp]:
    members = membership(text, tags, found.begin, which)
    rows, stamps = payloads.row[which].tolist(), payloads.stamp_us[which].tolist()
    return [GroupStamp(*each) for each in zip(rows, members, stamps, strict=True)]


def _clock(rows: Ints, stamps: Ints, instruments: Clock, receipt: Clock, first: int) -> Clock:
    stamped = stamps != NO_TIME
    line = np.concatenate([rows[stamped], instruments.line + first, receipt.line + first])
    time_us = np.concatenate([stamps[stamped], instruments.time_us, receipt.time_us])
    order = np.argsort(line, kind="stable")
    return Clock(line[order], time_us[order])
