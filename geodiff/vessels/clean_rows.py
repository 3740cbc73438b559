"""What single rows show: their order, what they lack, what kind of station sent them, whether they say it twice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.tracks import COG, HEADING, LAT, LON, NAV_STATUS, ROT, ROW, SHIP_TYPE, SOG, SOURCE, TIME, VESSEL_ID
from geodiff.vessels.clean_rules import CODES, DUPLICATE, NO_IDENTITY, NO_POSITION, NO_TIME, CleanRules
from geodiff.vessels.identity import station_kind

Codes = npt.NDArray[np.uint8]


def in_order(fixes: pl.DataFrame) -> pl.DataFrame:
    """The table sorted by vessel, time and, within an instant, by row and all else: the same for any order given."""
    vessel, time_us = _sort_keys(fixes)
    order = np.arange(len(vessel))
    later = (vessel[1:] > vessel[:-1]) | ((vessel[1:] == vessel[:-1]) & (time_us[1:] >= time_us[:-1]))
    if not later.all():
        order = _by_vessel_and_time(vessel, time_us)
        vessel, time_us = vessel[order], time_us[order]
    again = (vessel[1:] == vessel[:-1]) & (time_us[1:] == time_us[:-1])
    if again.any():
        later_twin = np.flatnonzero(again) + 1
        where = np.union1d(later_twin - 1, later_twin)
        keys = [VESSEL_ID, TIME, ROW, *(name for name in fixes.columns if name not in (VESSEL_ID, TIME, ROW))]
        twins = fixes[order[where]]
        order[where] = order[where][twins.select(pl.arg_sort_by(keys)).to_series().to_numpy()]
    elif later.all():
        return fixes
    return fixes[order]


def _sort_keys(fixes: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    least = np.iinfo(np.int64).min
    vessel, time = fixes[VESSEL_ID], fixes[TIME].to_physical()
    return vessel.fill_null(least).to_numpy(), time.fill_null(least).to_numpy()


def _by_vessel_and_time(vessel: npt.NDArray[np.int64], time_us: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """(n,) an order by both; rows equal in both stand in any. One key of 63 bits sorts several times as fast as two."""
    start, unit = int(time_us.min()), 1 if (time_us % 1_000_000).any() else 1_000_000
    vessels, times = int(vessel.max()) - int(vessel.min()) + 1, (int(time_us.max()) - start) // unit + 1
    if vessels * times >= 2**63:
        return np.lexsort((time_us, vessel))
    return np.argsort((vessel - vessel.min()) * times + (time_us - start) // unit)


def first_look(ordered: pl.DataFrame, rules: CleanRules) -> Codes:
    """(n,) codes of what a row shows by itself or beside an equal one."""
    codes = np.zeros(ordered.height, np.uint8)
    placed = (pl.col(LON).is_between(-180.0, 180.0) & pl.col(LAT).is_between(-90.0, 90.0)).fill_null(False)
    codes[~ordered.select(placed).to_series().to_numpy()] = CODES[NO_POSITION]
    codes[ordered[TIME].is_null().to_numpy()] = CODES[NO_TIME]
    codes[ordered[VESSEL_ID].is_null().to_numpy()] = CODES[NO_IDENTITY]
    station = _station_codes(ordered, rules)
    codes = np.where((codes == 0) | (station > 0) & (codes != CODES[NO_IDENTITY]), station, codes)
    _mark_duplicates(ordered, codes)
    return codes


def _station_codes(ordered: pl.DataFrame, rules: CleanRules) -> Codes:
    """(n,) codes of stations that are no vessel; the rule is asked once for each run of equal identity and source."""
    names = ordered.select(VESSEL_ID, SOURCE)
    changes = names.select(pl.any_horizontal(pl.col(VESSEL_ID, SOURCE).ne_missing(pl.col(VESSEL_ID, SOURCE).shift())))
    first = np.union1d([0], np.flatnonzero(changes.to_series().to_numpy()))[: ordered.height]
    kind = names[first].select(station_kind(mmsi=rules.mmsi).alias("kind")).to_series()
    codes = kind.replace_strict(CODES, default=0, return_dtype=pl.UInt8).to_numpy()
    return np.repeat(codes, np.diff(np.append(first, ordered.height)))


def _mark_duplicates(ordered: pl.DataFrame, codes: Codes) -> None:
    """Of rows that agree in vessel, instant and place keep the one that says most, of equal ones the first."""
    vessel, time_us = _sort_keys(ordered)
    again = np.flatnonzero((vessel[1:] == vessel[:-1]) & (time_us[1:] == time_us[:-1])) + 1
    where = np.union1d(again, again - 1)
    where = where[codes[where] == 0]
    if not len(where):
        return
    values = [SOG, COG, HEADING, ROT, NAV_STATUS, SHIP_TYPE]
    said = pl.sum_horizontal(pl.col(values).is_not_null().cast(pl.Int8))
    same = [VESSEL_ID, TIME, LON, LAT]
    rows = ordered[where].select(*same, said.alias("said")).with_row_index("place")
    rows = rows.sort(*same, "said", "place", descending=[False] * 4 + [True, False])
    copies = rows.filter(~pl.struct(same).is_first_distinct())["place"].to_numpy()
    codes[where[copies]] = CODES[DUPLICATE]
