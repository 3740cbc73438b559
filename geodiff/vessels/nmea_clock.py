"""Times for reports on lines that carry none, from whatever clock the recording has: never from nothing.

A report says only at which second of the minute it was made. With a clock that is right to some seconds (an earlier
line with a time, the receiver's ``RMC`` and ``ZDA``, failing these the UTC reports of base stations, message 4) its
time is the nearest one with that second. Between two readings the clock goes on with the seconds of the reports: their
median, for some ships send a wrong one. What it cannot see is a recording that pauses, or whose reports come
further apart than ten seconds, or at random every three.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from geodiff.vessels.nmea_decode import NO_SECOND
from geodiff.vessels.nmea_instruments import Clock
from geodiff.vessels.nmea_payload import Ints
from geodiff.vessels.nmea_stamps import NO_TIME, SECOND_US

MINUTE_US = 60 * SECOND_US
TRUST_US = 20 * SECOND_US
"""A second further from the clock is taken for wrong: half a minute off could be either way."""

MEDIAN_OF = 9
"""Reports whose seconds move the clock."""

LATE_US, FEWEST = 5 * SECOND_US, 4
"""A report so far from the median is wrong, or reports come so seldom that their median is long past; so many tell."""

SPARSE_US = 7 * SECOND_US // 10
"""Reports that come more seldom than this on average are sparse; of denser ones the median is never long past."""

LOST_AFTER = 5
"""So many wrong seconds in a row, and it is the clock that is wrong."""

NO_CLOCK: Final = 0
OFF: Final = 1
"""Why a report got no time, as ``RunningClock.fill`` gives it."""


class RunningClock:
    """The clock of a recording, read along its lines.

    Args:
        start_us: what time it was at the first line, microseconds since 1970; ``NO_TIME`` when nobody knows.
    """

    def __init__(self, start_us: int = NO_TIME) -> None:
        self._now_us, self._own = start_us, False
        self._ahead_us: deque[int] = deque(maxlen=MEDIAN_OF)
        self._wrong = 0
        self._began_us, self._since = start_us, 0
        self._doubted_us: tuple[int, ...] = ()

    def fill(self, rows: Ints, seconds: Ints, receiver: Clock, stations: Clock) -> tuple[Ints, Ints]:
        """Times of reports without one, all of one stretch of lines.

        Args:
            rows: (n,) rising.
            seconds: (n,) 0-59; ``NO_SECOND`` or more for a report without, which gets the time of the clock.
            receiver: when lines of this stretch were received; ``line`` is the row, rising.
            stations: UTC as base stations report it; heeded until the receiver's own clock is known.

        Returns:
            (n,) microseconds since 1970 or ``NO_TIME``, and (n,) ``OFF`` where the clock disagreed, else ``NO_CLOCK``.
        """
        found, why = np.full(rows.size, NO_TIME, np.int64), np.full(rows.size, NO_CLOCK)
        heard = [-1, -1]
        # A reading counts for the lines after it and its own.
        behind = [(np.searchsorted(clock.line, rows, side="right") - 1).tolist() for clock in (receiver, stations)]
        for place, second in enumerate(seconds.tolist()):
            self._hear(receiver, stations, heard, (behind[0][place], behind[1][place]))
            found[place], why[place] = self._read(second)
        self._hear(receiver, stations, heard, (receiver.line.size - 1, stations.line.size - 1))
        return found, why

    def _hear(self, receiver: Clock, stations: Clock, heard: list[int], last: tuple[int, int]) -> None:
        """Set the clock by the readings since ``heard``."""
        own, station = last
        if own > heard[0]:
            self._own = True
            self._set(int(receiver.time_us[own]))
        if not self._own:
            for time_us in stations.time_us[heard[1] + 1 : station + 1].tolist():
                self._hear_station(time_us)
        heard[:] = own, station

    def _hear_station(self, time_us: int) -> None:
        """Believe a station that agrees with what was known; after one that does not, wait for another to decide."""
        known = [known_us for known_us in (self._now_us, *self._doubted_us) if known_us != NO_TIME]
        if not known or any(abs(time_us - known_us) <= MINUTE_US for known_us in known):
            self._set(time_us)
        else:
            self._now_us, self._doubted_us = NO_TIME, (known[0], time_us)

    def _set(self, time_us: int) -> None:
        self._now_us, self._wrong, self._doubted_us = time_us, 0, ()
        self._began_us, self._since = time_us, 0
        self._ahead_us.clear()

    def _read(self, second: int) -> tuple[int, int]:
        now_us = self._now_us
        if now_us == NO_TIME or second >= NO_SECOND:
            return now_us, NO_CLOCK
        ahead_us = (second * SECOND_US - now_us + MINUTE_US // 2) % MINUTE_US - MINUTE_US // 2
        if abs(ahead_us) > TRUST_US:
            self._wrong += 1
            if self._wrong >= LOST_AFTER:
                self._now_us = NO_TIME
            return NO_TIME, OFF
        self._wrong, self._since = 0, self._since + 1
        self._ahead_us.append(ahead_us)
        self._go_on()
        return now_us + ahead_us, NO_CLOCK

    def _go_on(self) -> None:
        ahead_us = int(statistics.median_low(self._ahead_us))
        if self._ahead_us[-1] - ahead_us > LATE_US and self._is_sparse():
            ahead_us = _last_by_trend(self._ahead_us)
        if ahead_us > 0:
            self._now_us += ahead_us
            self._ahead_us = deque((lag - ahead_us for lag in self._ahead_us), maxlen=MEDIAN_OF)

    def _is_sparse(self) -> bool:
        """Whether reports come seldom, as far as the clock can tell since it was set."""
        if self._since <= MEDIAN_OF:
            return self._since >= FEWEST
        return self._now_us - self._began_us > SPARSE_US * self._since


def _last_by_trend(ahead_us: Sequence[int]) -> int:
    """Where the last report stands by them all: on the line through the medians of slopes (Sen 1968) and of heights."""
    last = len(ahead_us) - 1
    slope = statistics.median((ahead_us[j] - ahead_us[i]) / (j - i) for i, j in combinations(range(last + 1), 2))
    return int(statistics.median(ahead + slope * (last - place) for place, ahead in enumerate(ahead_us)))
