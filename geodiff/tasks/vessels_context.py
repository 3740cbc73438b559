"""What every part of a run is told of all others: rules of cleaning, past tracks, and who was near whom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.outputs.atomic import replacing
from geodiff.tasks.vessels_gaps import STILL_KN
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.partition import PartitionedFixes
from geodiff.vessels.scoring_fixes import Fixes
from geodiff.vessels.scoring_traffic import Traffic
from geodiff.vessels.usual_rules import Usual

HISTORY_STEP_S: Final = 60.0
"""Past tracks are kept at about this step: at twice it, gaps of ten minutes are filled a fiftieth worse."""

STILL_STEP_S: Final = 1800.0
"""The step of vessels that lie still: what is known of a moment is between two fixes that were known by then."""

MOST_HISTORY: Final = 2_000_000
"""Fixes of past tracks; of more, whole vessels are left out, by their names alone, and tell not even themselves."""

TRAFFIC_COLUMNS: Final = ("slot", "vessel", "lon_deg", "lat_deg", "east_km_s", "north_km_s")
_HISTORY: Final = (VESSEL_ID, TRACK_ID, TIME, LON, LAT, SOG, COG, SHIP_TYPE)


def usual_of(fixes: PartitionedFixes, at: datetime | None) -> Usual:
    """Of a partition, a part at a time; where a time is given, of what was known by then."""
    scans = [fixes.scan(part) for part in range(fixes.parts)]
    return Usual.of(scans if at is None else [scan.filter(pl.col(TIME) <= at) for scan in scans])


def past_of(cleaned: pl.DataFrame) -> pl.DataFrame:
    """Past tracks of a cleaned table, as thin as a history needs: moving vessels at about ``HISTORY_STEP_S``.

    Of a vessel that lies still the first and last fix are kept, and one in ``STILL_STEP_S`` between them, so that what
    follows its way is seen to stop, by whoever asks while it still lies there too.
    """
    kept = cleaned.filter((pl.col(STATE) == OBSERVED) & pl.col(TRACK_ID).is_not_null()).select(_HISTORY)
    kept = kept.sort(VESSEL_ID, TRACK_ID, TIME)
    still = (pl.col(SOG) < STILL_KN / 2).fill_null(False)
    step_us = pl.when(still).then(round(STILL_STEP_S * 1e6)).otherwise(round(HISTORY_STEP_S * 1e6))
    kept = kept.with_columns((pl.col(TIME).dt.epoch("us") // step_us).alias("_mark"), still.alias("_still"))
    turned = pl.col("_still").ne_missing(pl.col("_still").shift().over(TRACK_ID)) | pl.col("_still").ne_missing(
        pl.col("_still").shift(-1).over(TRACK_ID)
    )
    fresh = pl.col("_mark").ne_missing(pl.col("_mark").shift().over(TRACK_ID))
    return kept.filter(fresh | turned).drop("_mark", "_still")


def history_of(parts: Sequence[pl.DataFrame]) -> TrackHistory:
    """A history of all parts, whatever their number and order; at most ``MOST_HISTORY`` fixes."""
    table = pl.concat(parts)
    share = len(table) // MOST_HISTORY + 1
    if share > 1:
        table = table.filter(pl.Series(place_of(table[VESSEL_ID]) < 1 / share))
    return TrackHistory.from_table(table.sort(VESSEL_ID, TRACK_ID, TIME))


def place_of(vessel_id: pl.Series) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each vessel, by its own number alone (multiplicative hashing: Knuth, TAOCP 3, 6.4)."""
    product = (vessel_id.fill_null(0).to_numpy().astype(np.uint64) + np.uint64(7)) * np.uint64(0xD1B54A32D192ED03)
    return np.asarray((product >> np.uint64(11)).astype(np.float64) / 2.0**53)


def traffic_of(cleaned: pl.DataFrame) -> pl.DataFrame:
    """Where the vessels of a table were at each minute of a common clock; see ``scoring_traffic``."""
    traffic = Traffic.of(Fixes.from_table(cleaned))
    return pl.DataFrame({name: getattr(traffic, name) for name in TRAFFIC_COLUMNS})


def store_traffic(paths: Sequence[Path], folder: Path) -> None:
    """Join the traffic of parts, sorted, in files that workers map into their memory and share.

    A day at a time is sorted in memory.
    """
    scan = pl.concat([pl.scan_parquet(path, glob=False) for path in paths])
    day = 1440
    days = scan.group_by(pl.col("slot") // day).len().collect().sort("slot")
    rows = int(days["len"].sum())
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name in TRAFFIC_COLUMNS:
        kind = np.int64 if name in ("slot", "vessel") else np.float64
        arrays[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (rows,))
        _reserve(folder / f"{name}.npy")
    at = 0
    for number in days["slot"].to_list():
        one = scan.filter(pl.col("slot") // day == number).collect().sort(list(TRAFFIC_COLUMNS))
        for name, array in arrays.items():
            array[at : at + len(one)] = one[name].to_numpy()
        at += len(one)
    for array in arrays.values():
        array.flush()
    with replacing(folder / "done") as done:
        done.touch()


def _reserve(path: Path) -> None:
    """Take the room of a file: where the disk is full, writing through a map of it would end the process.

    Raises:
        OSError: there is not as much room.
    """
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def open_traffic(folder: Path) -> Traffic:
    """What ``store_traffic`` wrote, read as far as it is looked at."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in TRAFFIC_COLUMNS}
    return Traffic(**arrays, fix=np.zeros(0, np.int64))
