"""Times that other sentences of a recording give: the receiver's own clock.

``$--RMC`` and ``$--ZDA`` of its satellite receiver say what time it is; ``$PGHP`` (Gatehouse) says when the sentence on
the next line was received.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from geodiff.vessels.nmea_payload import Ints
from geodiff.vessels.nmea_stamps import NO_TIME, read_numbers, utc_us
from geodiff.vessels.nmea_text import Text

_RMC = re.compile(rb"\$[A-Z]{2}RMC,(\d\d)(\d\d)(\d\d)(?:\.(\d{1,6}))?,A,(?:[^,]*,){6}(\d\d)(\d\d)(\d\d),")
_ZDA = re.compile(rb"\$[A-Z]{2}ZDA,(\d\d)(\d\d)(\d\d)(?:\.(\d{1,6}))?,(\d\d),(\d\d),(\d{4}),")

CENTURY = 2000
"""RMC has two digits of the year: AIS came after 1997, and its recordings with GNSS time later."""

_PGHP = np.frombuffer(b"$PGHP,1,", np.uint8)
_PGHP_NUMBERS = 7
"""Year, month, day, hour, minute, second, millisecond follow the head."""


class Clock(NamedTuple):
    """What time it was at some lines: (n,) index of the line in the block, and microseconds since 1970."""

    line: Ints
    time_us: Ints


def clock_sentences(text: Text, lines: Ints) -> Clock:
    """Times of RMC and ZDA sentences among ``lines``, whose checksums hold."""
    start = text.start[lines]
    tag = text.chars[start[:, None] + np.arange(3, 6)]
    named = (tag == np.frombuffer(b"RMC", np.uint8)).all(1) | (tag == np.frombuffer(b"ZDA", np.uint8)).all(1)
    found = [(line, _time(text.cut(text.start[line], text.end[line]))) for line in lines[named].tolist()]
    known = [(line, time_us) for line, time_us in found if time_us != NO_TIME]
    return Clock(*np.array(known, np.int64).reshape(-1, 2).T)


def _time(sentence: bytes) -> int:
    if match := _RMC.match(sentence):
        hour, minute, second, fraction, day, month, year = match.groups(b"0")
        years = CENTURY + int(year)
    elif match := _ZDA.match(sentence):
        hour, minute, second, fraction, day, month, year = match.groups(b"0")
        years = int(year)
    else:
        return NO_TIME
    numbers = (years, month, day, hour, minute, second)
    whole = int(utc_us(*(np.array([int(number)]) for number in numbers))[0])
    return whole if whole == NO_TIME else whole + int(fraction.ljust(6, b"0"))


def receipts(text: Text, lines: Ints) -> Clock:
    """Times of ``$PGHP`` lines among ``lines``: each is of the sentence on the line after it."""
    start = text.start[lines]
    lines = lines[(text.chars[start[:, None] + np.arange(_PGHP.size)] == _PGHP).all(1)]
    place, numbers = text.start[lines] + _PGHP.size, []
    whole = np.ones(lines.size, bool)
    for _ in range(_PGHP_NUMBERS):
        number = read_numbers(text.chars, place, 4)
        place = place + number.digits + 1
        whole &= (number.digits > 0) & (text.chars[place - 1] == ord(","))
        numbers.append(number.value)
    time_us = utc_us(*numbers[:6])
    known = whole & (time_us != NO_TIME) & (numbers[6] < 1_000)
    return Clock(lines[known], time_us[known] + numbers[6][known] * 1_000)
