r"""Tag blocks in front of sentences, ``\s:station,c:time,g:part-parts-group*checksum\`` (NMEA 0183 4.10, section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from geodiff.vessels.nmea_payload import Bools, Ints
from geodiff.vessels.nmea_stamps import NO_TIME, epoch_us, read_numbers
from geodiff.vessels.nmea_text import Stretch, Text, next_of

_NAMES = np.frombuffer(b"cgs", np.uint8)
_SLASH, _COMMA = ord("\\"), ord(",")
_GROUP = re.compile(rb"[\\,]g:\d{1,3}-\d{1,3}-(\d{1,9})(?=[,*\\])")
_STATION = re.compile(rb"[\\,]s:([^,*\\]{1,64})")


class Tags(NamedTuple):
    """Tag blocks of the sentences of a block of lines.

    Attributes:
        begin: (n,) where the tag blocks of each sentence begin; the sentence's own beginning where it has none.
        bad: (n,) whether a checksum of theirs is wrong.
        stamp_us: (n,) their ``c:`` in microseconds since 1970, ``NO_TIME`` without.
        grouped: (n,) whether they have a ``g:``.
        station: (n,) their ``s:``, of length 0 without.
    """

    begin: Ints
    bad: Bools
    stamp_us: Ints
    grouped: Bools
    station: Stretch

    def pick(self, which: Ints) -> Tags:
        """Those that ``which`` selects."""
        station = Stretch(self.station.start[which], self.station.length[which])
        return Tags(self.begin[which], self.bad[which], self.stamp_us[which], self.grouped[which], station)


class Membership(NamedTuple):
    """To which group of which station a sentence belongs; empty for none."""

    group: bytes
    station: bytes


def read_tags(text: Text, start: Ints, sentence: Ints) -> Tags:
    """Read the tag blocks between ``start`` (of the line, or the sentence before) and each sentence."""
    slashes = text.find(b"\\")
    tagged = text.chars[sentence - 1] == _SLASH
    begin = np.where(tagged, next_of(slashes, start, text.chars.size), sentence)
    # A single slash opens nothing.
    begin = np.where(begin < sentence - 1, begin, sentence)
    none, false = np.zeros(begin.size, np.int64), np.zeros(begin.size, bool)
    tags = Tags(begin, false, np.full(begin.size, NO_TIME), false.copy(), Stretch(none, none.copy()))
    which = np.flatnonzero(begin < sentence)
    if which.size:
        tags.bad[which] = _wrong(text, begin[which], sentence[which])
        _fields(text, tags, sentence)
    return tags


def _wrong(text: Text, begin: Ints, sentence: Ints) -> Bools:
    star = np.minimum(next_of(text.find(b"*"), begin, text.chars.size), sentence)
    _, right = text.holds(begin + 1, star)
    wrong = (star < sentence) & ~right
    for one in np.flatnonzero((star < sentence) & (star + 4 != sentence)).tolist():
        wrong[one] = not all(_right(tag) for tag in text.cut(begin[one], sentence[one]).split(b"\\") if tag)
    return wrong


def _right(tag: bytes) -> bool:
    """Whether the checksum of one tag block among several is right, or there is none."""
    body, star, stated = tag.rpartition(b"*")
    if not star:
        return True
    found = 0
    for char in body:
        found ^= char
    return re.fullmatch(rb"[0-9A-Fa-f]{2}", stated) is not None and int(stated, 16) == found


def _fields(text: Text, tags: Tags, sentence: Ints) -> None:
    """Put in the ``c:``, ``g:`` and ``s:`` of all tag blocks."""
    colon = text.find(b":")
    named = text.chars[colon - 1]
    opened = text.chars[colon - 2]
    colon = colon[np.isin(named, _NAMES) & ((opened == _SLASH) | (opened == _COMMA))]
    owner = np.searchsorted(sentence, colon)
    inside = owner < sentence.size
    inside[inside] &= tags.begin[owner[inside]] < colon[inside]
    colon, owner = colon[inside], owner[inside]
    name = text.chars[colon - 1]
    tags.grouped[owner[name == ord("g")]] = True
    _put_stations(text, tags, colon[name == ord("s")], owner[name == ord("s")])
    _put_times(text, tags, colon[name == ord("c")], owner[name == ord("c")])


def _put_stations(text: Text, tags: Tags, colon: Ints, owner: Ints) -> None:
    ends = (next_of(text.find(char), colon, text.chars.size) for char in (b",", b"*", b"\\"))
    tags.station.start[owner] = colon + 1
    tags.station.length[owner] = np.minimum.reduce([*ends]) - colon - 1


def _put_times(text: Text, tags: Tags, colon: Ints, owner: Ints) -> None:
    number = read_numbers(text.chars, colon + 1, 17)
    after = colon + 1 + number.digits
    fraction = read_numbers(text.chars, np.where(text.chars[after] == ord("."), after + 1, text.chars.size - 1), 6)
    stamp = epoch_us(number.value, number.digits)
    seconds = (number.digits <= 11) & (stamp != NO_TIME)
    tags.stamp_us[owner] = stamp + np.where(seconds, fraction.value * 10 ** (6 - fraction.digits), 0)


def membership(text: Text, tags: Tags, sentence: Ints, which: Ints) -> Iterator[Membership]:
    """Groups and stations of some sentences, one by one."""
    for one in which.tolist():
        tag = text.cut(int(tags.begin[one]), int(sentence[one]))
        group, station = _GROUP.search(tag), _STATION.search(tag)
        yield Membership(group[1] if group else b"", station[1] if station else b"")
