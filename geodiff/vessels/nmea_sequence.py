"""What blocks of lines owe to the lines before them: parts of messages, groups, the clock, and the account of it all.

Blocks come in their order, and what comes out does not depend on where they were cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import polars as pl

from geodiff.tracks import COG, FIX_TYPES, HEADING, LAT, LON, NAV_STATUS, ROT, ROW, SOG, SOURCE, TIME, VESSEL_ID
from geodiff.vessels.nmea_clock import OFF, RunningClock
from geodiff.vessels.nmea_decode import NO_SECOND, Decoded, Positions, decode
from geodiff.vessels.nmea_instruments import Clock
from geodiff.vessels.nmea_lines import TOO_LONG, Parsed
from geodiff.vessels.nmea_parts import Groups, GroupStamp, Part, PartBuffer
from geodiff.vessels.nmea_payload import Ints
from geodiff.vessels.nmea_ship import STATIC_SCHEMA
from geodiff.vessels.nmea_stamps import NO_TIME
from geodiff.vessels.nmea_static import StaticLog
from geodiff.vessels.nmea_tally import STATIC, Tally
from geodiff.vessels.read_refuse import TOO_LATE
from geodiff.vessels.reading import EXAMPLES, POLARS_TYPES, ReadCounts

NO_STAMP = "no time: no stamp on the line and no clock before it"
WRONG_SECOND = "second of the report disagrees with the clock"
UNTIMED_STATIC = "static data without a time"


class Sequence:
    """Takes parsed blocks one after another.

    Args:
        start_us: what time it was at the first line, microseconds since 1970; ``NO_TIME`` when nobody knows.
        latest_us: fixes after it are refused.

    Attributes:
        counts: of lines; see ``geodiff.vessels.nmea.NmeaReader``.
        skipped: lines that rightly give no fix.
        valid: sentences that held.
        statics: static data so far.
    """

    def __init__(self, start_us: int, latest_us: int) -> None:
        self._latest_us = latest_us
        self.counts, self.skipped, self.valid = ReadCounts(), Counter[str](), 0
        self.statics = StaticLog()
        self._parts, self._groups, self._clock = PartBuffer(), Groups(), RunningClock(start_us)

    def take(self, parsed: Parsed) -> pl.DataFrame:
        """The fixes of a block in the order of rows: as ``FIX_SCHEMA``, without ship type, the source as a number."""
        groups = self._groups.fill(parsed.groups)
        whole, tally = self._parts.join(_of_group(part, groups.get(part.row)) for part in parsed.parts)
        decoded = (parsed.decoded, decode(whole))
        self.counts.read += parsed.read
        self.valid += parsed.valid
        for each in (parsed.tally, tally, *(part.tally for part in decoded)):
            self._count(each)
        positions = Positions.joined(part.positions for part in decoded)
        positions = positions.pick(np.argsort(positions.row, kind="stable"))
        statics = pl.concat([STATIC_SCHEMA.to_frame(), *(frame for part in decoded for frame in part.statics)])
        positions_us, statics_us = self._times(positions, statics, parsed.clock, _stations(decoded), groups)
        self._keep_statics(statics.with_columns(time_us=pl.Series(statics_us)))
        frame = self._keep(positions, self._possible(positions, positions_us))
        self._blank(decoded, frame[ROW].to_numpy())
        return frame

    def pass_over(self, rows: Iterable[int]) -> None:
        """Count lines that were too long to be held."""
        for row in rows:
            self.counts.read += 1
            self._refuse(TOO_LONG, [row], 1)

    def finish(self, damage: str | None, rows: int) -> None:
        """Count what will never be whole; ``damage`` is why reading stopped at line number ``rows``."""
        self._count(self._parts.finish())
        if damage:
            self._refuse(damage, [rows], 1)

    def _times(
        self,
        positions: Positions,
        statics: pl.DataFrame,
        receiver: Clock,
        stations: Clock,
        groups: dict[int, GroupStamp],
    ) -> tuple[Ints, Ints]:
        """Times of positions and static data: of the line, of its group, else of the clock."""
        rows = np.concatenate([positions.row, statics["row"].to_numpy()])
        times = np.concatenate([positions.time_us, statics["time_us"].to_numpy()])
        seconds = np.concatenate([positions.second, np.full(statics.height, NO_SECOND)])
        for place in np.flatnonzero(times == NO_TIME).tolist() if groups else ():
            group = groups.get(int(rows[place]))
            times[place] = group.stamp_us if group else NO_TIME
        left = np.flatnonzero(times == NO_TIME)
        left = left[np.argsort(rows[left], kind="stable")]
        times[left], why = self._clock.fill(rows[left], seconds[left], receiver, stations)
        of_position = left < positions.row.size
        lost = of_position & (times[left] == NO_TIME)
        tally = Tally()
        tally.refuse(WRONG_SECOND, rows[left[lost & (why == OFF)]])
        tally.refuse(NO_STAMP, rows[left[lost & (why != OFF)]])
        self._count(tally)
        return times[: positions.row.size], times[positions.row.size :]

    def _keep_statics(self, statics: pl.DataFrame) -> None:
        timed = statics.filter(pl.col("time_us") != NO_TIME)
        # Type 19 is a fix as well, and counted as one.
        untimed = statics.filter(pl.col("time_us") == NO_TIME, pl.col("kind") != 19).height
        if untimed:
            self.skipped[STATIC] -= untimed
            self.skipped[UNTIMED_STATIC] += untimed
        self.statics.add(timed)

    def _possible(self, positions: Positions, times_us: Ints) -> Ints:
        """The times, ``NO_TIME`` for those to come: of a logger whose clock is wrong."""
        late = times_us > self._latest_us
        tally = Tally()
        tally.refuse(TOO_LATE, positions.row[late])
        self._count(tally)
        return np.where(late, NO_TIME, times_us)

    def _keep(self, positions: Positions, times_us: Ints) -> pl.DataFrame:
        columns = {
            VESSEL_ID: positions.mmsi,
            TIME: times_us,
            LON: positions.lon_deg,
            LAT: positions.lat_deg,
            SOG: positions.sog_kn.astype(np.float32),
            COG: positions.cog_deg.astype(np.float32),
            HEADING: positions.heading_deg.astype(np.float32),
            ROT: positions.rot_deg_min.astype(np.float32),
            NAV_STATUS: positions.nav_status.astype(np.int8),
            SOURCE: positions.kind.astype(np.int8),
            ROW: positions.row,
        }
        frame = pl.DataFrame(columns).filter(pl.col(TIME) != NO_TIME)
        self.counts.kept += frame.height
        return frame.with_columns(
            pl.col(SOG, COG, HEADING, ROT).fill_nan(None),
            pl.col(NAV_STATUS).replace(-1, None),
            pl.col(TIME).cast(POLARS_TYPES[FIX_TYPES[TIME]]),
        )

    def _count(self, tally: Tally) -> None:
        for reason, rows in tally.refused:
            self._refuse(reason, np.sort(rows)[:EXAMPLES].tolist(), rows.size)
        for what, rows in tally.skipped:
            self.skipped[what] += rows.size

    def _blank(self, decoded: Iterable[Decoded], kept: Ints) -> None:
        for part in decoded:
            for what, rows in part.tally.blanked:
                of_kept = rows[np.isin(rows, kept)]
                if of_kept.size:
                    self.counts.blank(what, [], of_kept.size)
                    self._remember(what, np.sort(of_kept)[:EXAMPLES].tolist())

    def _refuse(self, reason: str, rows: list[int], count: int) -> None:
        self.counts.refuse(reason, [], count)
        self._remember(reason, rows)

    def _remember(self, what: str, rows: list[int]) -> None:
        # The least rows, not those that were met first: which those are depends on where blocks were cut.
        self.counts.examples[what] = sorted([*self.counts.examples.get(what, []), *rows])[:EXAMPLES]


def _of_group(part: Part, group: GroupStamp | None) -> Part:
    return part if group is None else replace(part, key=group.key, stamp_us=group.stamp_us)


def _stations(decoded: Iterable[Decoded]) -> Clock:
    line, time_us = (
        np.concatenate(arrays) for arrays in zip(*((part.clock_row, part.clock_us) for part in decoded), strict=True)
    )
    order = np.argsort(line, kind="stable")
    return Clock(line[order], time_us[order])
