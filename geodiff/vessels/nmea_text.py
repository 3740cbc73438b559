"""A block of lines as arrays: characters, where lines begin and end, and checksums of any stretch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from geodiff.vessels.nmea_payload import Bools, Bytes, Ints

PADDING = 64
"""Zeros after the text, so that looking a little ahead needs no check."""

_HEX = np.full(256, 255, np.uint8)
_HEX[48:58], _HEX[65:71], _HEX[97:103] = np.arange(10), np.arange(10, 16), np.arange(10, 16)

_BLANK = np.zeros(256, bool)
_BLANK[[9, 11, 12, 13, 32]] = True


@dataclass(frozen=True, slots=True)
class Text:
    """A block of lines.

    Attributes:
        raw: the bytes.
        chars: (bytes + 1 + ``PADDING``,) the characters: a line feed, ``raw``, zeros.
        start, end: (lines,) each line in ``chars``, without the blanks around it and its line feed.
        xor: like ``chars``, exclusive or of all characters up to each.
    """

    raw: bytes
    chars: Bytes
    start: Ints
    end: Ints
    xor: Bytes
    _found: dict[bytes, Ints] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: bytes) -> Text:
        """Cut ``raw``, which ends in a line feed."""
        chars = np.zeros(len(raw) + 1 + PADDING, np.uint8)
        chars[0] = 10
        chars[1 : len(raw) + 1] = np.frombuffer(raw, np.uint8)
        feeds = np.flatnonzero(chars == 10)
        start, end = feeds[:-1] + 1, feeds[1:].copy()
        _trim(chars, start, end)
        return cls(raw, chars, start, end, np.bitwise_xor.accumulate(chars))

    def find(self, char: bytes) -> Ints:
        """Where a character stands."""
        if char not in self._found:
            self._found[char] = np.flatnonzero(self.chars == ord(char))
        return self._found[char]

    def cut(self, start: int, end: int) -> bytes:
        """The characters from ``start`` up to ``end``."""
        return self.raw[start - 1 : end - 1]

    def holds(self, begin: Ints, star: Ints) -> tuple[Bools, Bools]:
        """Whether each stretch has a checksum after ``star``, and whether that is right.

        Args:
            begin: (n,) first character that counts.
            star: (n,) the asterisk; two hexadecimal digits should follow.
        """
        high, low = _HEX[self.chars[star + 1]].astype(np.int64), _HEX[self.chars[star + 2]].astype(np.int64)
        there = (high < 16) & (low < 16)
        return there, there & ((self.xor[star - 1] ^ self.xor[begin - 1]) == high * 16 + low)


def _trim(chars: Bytes, start: Ints, end: Ints) -> None:
    """Move the ends of lines inwards over blanks; few lines have more than one."""
    for edge, step, look in ((end, -1, -1), (start, 1, 0)):
        left = np.flatnonzero((end > start) & _BLANK[chars[edge + look]])
        while left.size:
            edge[left] += step
            left = left[(end[left] > start[left]) & _BLANK[chars[edge[left] + look]]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Stretches of a text: (n,) where each begins, and how long it is."""

    start: Ints
    length: Ints

    def same(self, text: Text, one: Ints, other: Ints) -> Bools:
        """(m,) whether those numbered ``one`` read like those numbered ``other``."""
        most = int(self.length[one].max(initial=0))
        place = np.arange(most)
        letters = (text.chars.take(self.start[which][:, None] + place, mode="clip") for which in (one, other))
        beyond = place >= self.length[one][:, None]
        alike: Bools = (np.equal(*letters) | beyond).all(axis=1) & (self.length[one] == self.length[other])
        return alike


def next_of(places: Ints, after: Ints, none: int) -> Ints:
    """(n,) the first of the sorted ``places`` at or after each of ``after``; ``none`` where there is none."""
    return np.append(places, none)[np.searchsorted(places, after)]
