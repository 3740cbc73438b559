"""When a line was received: times that loggers and receivers write before or after a sentence, in whole batches.

Numbers are read by place: the lines of a batch that look alike (digits apart) are read together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from geodiff.vessels.nmea_payload import Bools, Bytes, Ints

NO_TIME: Final = int(np.iinfo(np.int64).min)
"""Stands for "no time" among microseconds since 1970."""

SECOND_US = 1_000_000
EARLIEST_US = 631_152_000 * SECOND_US
LATEST_US = 4_102_444_800 * SECOND_US
"""1990 and 2100: AIS is no older, and a number outside is no time."""

LOOKS = 64
"""How many kinds of text around a sentence are tried in one batch; a recording has one or two."""
TEXT_CHARS = 64
"""How much of that text is looked at, next to the sentence."""

_DIGIT = ord("0")

# Digits stand as 0 here. A zone is UTC or an offset; a time without one is taken for UTC.
_CALENDAR = re.compile(
    r"(?<![0A-Za-z.])(?P<year>0000)(?P<sep>[-/.]?)(?P<month>00)(?P=sep)(?P<day>00)(?:[T_ ,;-]{0,2})"
    r"(?P<hour>00)(?P<colon>:?)(?P<minute>00)(?P=colon)(?P<second>00)(?:[.,](?P<fraction>0{1,9}))?"
    r" ?(?:(?P<sign>[+-])(?P<zone_hour>00):?(?P<zone_minute>00)|Z|UTC|GMT)?(?![0A-Za-z])"
)
_EPOCH = re.compile(
    r"(?<![0A-Za-z.:+-])(?:(?P<whole>0{10})(?:\.(?P<fraction>0{1,9}))?|(?P<ms>0{13})|(?P<us>0{16}))(?![0A-Za-z.])"
)


class Numbers(NamedTuple):
    """Unsigned numbers of a batch: (n,) values, 0 without a digit, and how many digits each has."""

    value: Ints
    digits: Ints


def read_numbers(text: Bytes, start: Ints, most: int) -> Numbers:
    """Read the digits at ``start``, at most ``most`` of them (no more than 18)."""
    value, digits = np.zeros(start.size, np.int64), np.zeros(start.size, np.int64)
    going = np.ones(start.size, bool)
    for place in range(most):
        digit = text.take(start + place, mode="clip").astype(np.int64) - _DIGIT
        going &= (digit >= 0) & (digit <= 9)
        if not going.any():
            break
        value = np.where(going, value * 10 + digit, value)
        digits += going
    return Numbers(value, digits)


def utc_us(year: Ints, month: Ints, day: Ints, hour: Ints, minute: Ints, second: Ints) -> Ints:
    """Microseconds since 1970 of dates and times in UTC; ``NO_TIME`` where there is no such time, or none of AIS."""
    known = (year >= 1990) & (year < 2100) & (month >= 1) & (month <= 12) & (day >= 1)
    known &= (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(known, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(known, day - 1, 0)
    known &= days.astype("datetime64[M]") == months
    seconds = ((days.astype(np.int64) * 24 + hour) * 60 + minute) * 60 + second
    return np.where(known, seconds * SECOND_US, NO_TIME)


def plausible(time_us: Ints) -> Ints:
    """The times, ``NO_TIME`` for those before 1990 or after 2100."""
    return np.where((time_us >= EARLIEST_US) & (time_us < LATEST_US), time_us, NO_TIME)


def epoch_us(number: Ints, digits: Ints) -> Ints:
    """Seconds, milliseconds or microseconds since 1970, told by the number of digits, in microseconds."""
    scale = np.select([digits <= 11, digits <= 14], [SECOND_US, 1_000], 1)
    # A number of 18 digits would run over as seconds, but is none.
    return plausible(number * scale)


def stamps_in(text: Bytes, start: Ints, end: Ints) -> Ints:
    """Times written in the given stretches of text, such as before or after a sentence.

    ISO 8601 and its relatives with the year first (``2021-11-01 01:58:09.25+02:00``, ``20211101T015809Z``), or seconds,
    milliseconds or microseconds since 1970. Where there are several the last counts. A day that stands before its
    month is not read: it cannot be told from a month.

    Args:
        text: (bytes,) everything.
        start, end: (n,) the stretches; ``TEXT_CHARS`` bytes at most are looked at, the last ones.

    Returns:
        (n,) microseconds since 1970, ``NO_TIME`` where there is none.
    """
    found = np.full(start.size, NO_TIME, np.int64)
    # A stamp has ten characters at least; most lines have none, and are not looked at.
    some = np.flatnonzero(end - start >= 10)
    for which, looks, letters in _alike(text, start[some], end[some]):
        found[some[which]] = _read(looks, letters)
    return found


def _alike(text: Bytes, start: Ints, end: Ints) -> Iterator[tuple[Ints, str, Bytes]]:
    """Stretches that look alike: which, how (digits as 0), and their characters (n, width)."""
    width = int(min((end - start).max(initial=0), TEXT_CHARS))
    places = end[:, None] - width + np.arange(width)
    letters = np.where(places >= start[:, None], text.take(places, mode="clip"), ord(" ")).astype(np.uint8)
    looks = np.where((letters >= 48) & (letters <= 57), _DIGIT, letters).astype(np.uint8)
    left = np.arange(start.size)
    for _ in range(LOOKS):
        if not left.size:
            return
        model = looks[left[0]]
        same: Bools = (looks[left] == model).all(axis=1)
        yield left[same], model.tobytes().decode("latin-1"), letters[left[same]]
        left = left[~same]


def _read(looks: str, letters: Bytes) -> Ints:
    """The last time in lines that look like ``looks``."""
    # Digits and letters of other scripts are no digits here: latin-1 and [0A-Za-z] leave them as separators.
    calendars, epochs = list(_CALENDAR.finditer(looks)), list(_EPOCH.finditer(looks))
    last = max(calendars + epochs, key=lambda match: match.end(), default=None)
    if last is None:
        return np.full(len(letters), NO_TIME, np.int64)

    def number(name: str) -> Ints:
        begin, stop = last.span(name)
        if begin < 0:
            return np.zeros(len(letters), np.int64)
        return read_numbers(letters.reshape(-1), np.arange(len(letters)) * letters.shape[1] + begin, stop - begin).value

    if last in epochs:
        return _epoch(last, number("whole"), number("ms"), number("us"), number("fraction"))
    time_us = utc_us(*(number(name) for name in ("year", "month", "day", "hour", "minute", "second")))
    ahead_us = (number("zone_hour") * 60 + number("zone_minute")) * 60 * SECOND_US
    ahead_us = -ahead_us if last["sign"] == "-" else ahead_us
    return np.where(time_us == NO_TIME, NO_TIME, time_us + _fraction_us(last, number("fraction")) - ahead_us)


def _epoch(match: re.Match[str], whole: Ints, ms: Ints, us: Ints, fraction: Ints) -> Ints:
    if match["whole"]:
        return plausible(whole * SECOND_US + _fraction_us(match, fraction))
    return plausible(ms * 1_000 if match["ms"] else us)


def _fraction_us(match: re.Match[str], fraction: Ints) -> Ints:
    digits = len(match["fraction"] or "")
    micro: Ints = fraction * 10 ** max(6 - digits, 0) // 10 ** max(digits - 6, 0)
    return micro
