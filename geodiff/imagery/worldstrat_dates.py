"""Dates and other facts of WorldStrat's revisits. A date comes from the JSON beside the image, from nowhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geodiff.imagery.worldstrat_layout import FACTS, METADATA_CSV, Layout
from geodiff.schema import GeodiffError

_TIME_KEYS = ("datetime", "lowres_date")
_HR_KEYS = ("target_date", "highres_date")
_FIRST, _LAST = pd.Timestamp("2012-01-01"), pd.Timestamp("2100-01-01")


@dataclass(frozen=True, slots=True)
class Revisit:
    """One low-resolution image.

    Attributes:
        rank: the number in the file's name: by nearness in time and cloud, never by time.
        time: of the acquisition, UTC.
        hr_time: of the high-resolution image that it was chosen for, UTC (midnight where the JSON tells the day).
        cloud_cover: percent of the whole scene, as the catalogue said; NaN where it is not told.
    """

    rank: int
    time: np.datetime64
    hr_time: np.datetime64
    cloud_cover: float


def read_revisit(path: Path, rank: int) -> Revisit:
    """Read the ``.metadata`` JSON of one revisit.

    Raises:
        GeodiffError: missing, not JSON, or without a plausible date.
    """
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise GeodiffError(f"missing {path}: without it the revisit has no date; download it again") from None
    except OSError as error:
        raise GeodiffError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise GeodiffError(f"{path} is no JSON ({error}): download it again") from None
    if not isinstance(facts, dict):
        raise GeodiffError(f"{path} holds no JSON object: download it again")
    return Revisit(rank, _moment(facts, _TIME_KEYS, path), _moment(facts, _HR_KEYS, path), _number(facts))


def _moment(facts: Mapping[str, Any], keys: Sequence[str], path: Path) -> np.datetime64:
    text = next((facts[key] for key in keys if facts.get(key) not in (None, "")), None)
    if not isinstance(text, str):
        raise GeodiffError(f"{path} tells no {keys[0]}: download it again")
    try:
        # Pandas takes "now" and "today" for dates, which would be another one on every day.
        moment = pd.Timestamp(text if text[:1].isdecimal() else "")
    except ValueError:
        raise GeodiffError(f"{path}: {keys[0]} {text!r} is no date: download it again") from None
    if moment.tzinfo is not None:
        moment = moment.tz_convert("UTC").tz_localize(None)
    if pd.isna(moment) or not _FIRST <= moment < _LAST:
        raise GeodiffError(f"{path}: {keys[0]} {text!r} is no date of Sentinel-2 or SPOT: download it again")
    exact: np.datetime64 = moment.to_datetime64().astype("datetime64[ns]")
    return exact


def _number(facts: Mapping[str, Any]) -> float:
    try:
        return float(facts.get("cloud_cover", math.nan))
    except (TypeError, ValueError, OverflowError):
        return math.nan


def revisits_of(layout: Layout, aoi: str, level: str) -> tuple[Revisit, ...]:
    """The revisits of an AOI in order of time (equal times: by rank).

    Raises:
        GeodiffError: none, or one without a readable date.
    """
    ranks = layout.ranks(aoi, level)
    if not ranks:
        raise GeodiffError(f"no revisits in {layout.lr_folder(aoi, level)}: download the AOI again")
    found = [read_revisit(layout.lr_file(aoi, level, rank, FACTS), rank) for rank in ranks]
    return tuple(sorted(found, key=lambda revisit: (revisit.time, revisit.rank)))


def hr_time_of(revisits: Sequence[Revisit], aoi: str) -> np.datetime64:
    """The day of the high-resolution image, on which the JSON of all revisits must agree.

    Raises:
        GeodiffError: they name several days.
    """
    days = sorted({str(revisit.hr_time.astype("datetime64[D]")) for revisit in revisits})
    if len(days) > 1:
        raise GeodiffError(f"the .metadata of {aoi} name several days of one high-resolution image: {', '.join(days)}")
    return revisits[0].hr_time


def read_metadata(layout: Layout) -> pd.DataFrame:
    """``metadata.csv``: one row per AOI and rank, the AOI in the column ``tile``.

    Raises:
        GeodiffError: missing, or not such a table.
    """
    return read_table(layout.root / METADATA_CSV, needed=("n",))


def read_table(path: Path, *, needed: Sequence[str]) -> pd.DataFrame:
    """A CSV of WorldStrat, whose AOIs stand in a column ``tile`` or in the first, nameless one; all text kept as is.

    Raises:
        GeodiffError: missing, unreadable, or without the columns ``tile`` and ``needed``.
    """
    try:
        # "NA" is Namibia's code and part of names; an empty field stays the empty text.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise GeodiffError(f"missing {path}: download it from where the images came from") from None
    except (OSError, ValueError) as error:
        raise GeodiffError(f"cannot read {path} as a table: {error}") from error
    if "tile" not in table.columns:
        table = table.rename(columns={table.columns[0]: "tile"})
    lacking = [name for name in needed if name not in table.columns]
    if lacking or table.empty or (table["tile"] == "").any():
        what = f"the column {lacking[0]!r}" if lacking else "rows" if table.empty else "a tile in each row"
        raise GeodiffError(f"{path} lacks {what}: download it again")
    return table
