"""What a training on tracks is given: cleaned fixes, split by vessel and by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.rng import generator
from geodiff.schema import GeodiffError
from geodiff.tasks.track_pieces import Pieces, cut_pieces, usual_grid
from geodiff.tasks.track_starts import CARD, StartSpeeds
from geodiff.tracks import LAT, LON, OBSERVED, STATE, TIME, TRACK_ID, VESSEL_ID
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.split import is_for_calibration, is_held_out, period_cut, vessel_digest
from geodiff.vessels.windows_draw import TrackPool

LEARNED = 4
"""Vessels learned from that calibrate beside each one set aside."""

PHASES = 4
"""Cuts of each track into windows to learn generation from: what moves for three hours is rare enough."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackData:
    """What is trained and watched on.

    Attributes:
        pool: tracks to learn from.
        held: tracks of vessels set aside, to watch.
        aside: the cleaned fixes of those vessels, to calibrate.
        learned: the cleaned fixes of some of the vessels learned from, ``LEARNED`` times as many as are set aside.
        history: past tracks of the vessels learned from; those set aside answer themselves alone.
        pieces: whole tracks to learn generation from; None where no track is long enough.
        notes: what the card says of the data.
    """

    pool: TrackPool
    held: TrackPool
    aside: pl.DataFrame
    learned: pl.DataFrame
    history: TrackHistory
    pieces: Pieces | None
    notes: dict[str, Any]


def split_tracks(tables: Mapping[str, pl.DataFrame], fold: int = 0) -> TrackData:
    """Split cleaned tables, by name, for a training.

    Vessels that the fold holds out, and of a long period its end, are left to tests (``vessels.split``).

    Raises:
        GeodiffError: nothing is left to learn from or to calibrate on.
    """
    learned, watched, notes = [], [], []
    for name, table in tables.items():
        kept = table.filter(
            (pl.col(STATE) == OBSERVED) & pl.col(TRACK_ID).is_not_null() & pl.col(VESSEL_ID).is_not_null()
        )
        if kept.is_empty():
            raise GeodiffError(f"{name}: no observed fix of a track is left after cleaning")
        seconds = kept[TIME].dt.epoch("s")
        kept = kept.with_columns(pl.format("{}|{}", pl.lit(name), TRACK_ID).alias(TRACK_ID))
        before = kept.filter(seconds < period_cut(seconds.to_numpy()))
        ids = before[VESSEL_ID].to_numpy()
        aside = is_for_calibration(ids, fold)
        learned.append(before.filter(~aside & ~is_held_out(ids, fold)))
        watched.append(before.filter(aside))
        notes.append(_describe(name, learned[-1]))
    trained, set_aside = pl.concat(learned, how="diagonal"), pl.concat(watched, how="diagonal")
    if trained.is_empty() or set_aside.is_empty():
        raise GeodiffError(
            f"{trained[VESSEL_ID].n_unique()} vessels to learn from and {set_aside[VESSEL_ID].n_unique()} to calibrate "
            "on: give more vessels"
        )
    vessels, pieces = trained[VESSEL_ID].unique().sort().to_numpy(), _pieces(trained)
    starts = {} if pieces is None else {CARD: StartSpeeds.of(pieces).to_json()}
    return TrackData(
        pool=TrackPool(trained),
        held=TrackPool(set_aside),
        aside=set_aside,
        learned=trained.filter(pl.col(VESSEL_ID).is_in(_some(vessels, LEARNED * set_aside[VESSEL_ID].n_unique()))),
        history=TrackHistory.from_table(
            pl.concat([trained, set_aside], how="diagonal"), private=set_aside[VESSEL_ID].unique()
        ),
        pieces=pieces,
        notes={"vessels": vessel_digest(vessels), "vessel_count": len(vessels), "data": notes, **starts},
    )


def _some(vessels: npt.NDArray[np.int64], count: int) -> list[int]:
    """So many of the vessels, whichever the seed says."""
    found: list[int] = generator(0, "learned from").permutation(vessels)[:count].tolist()
    return found


def _pieces(trained: pl.DataFrame) -> Pieces | None:
    """Windows of whole tracks at even steps; None where no track is long enough for one."""
    try:
        return cut_pieces(trained, usual_grid(trained), phases=PHASES)
    except GeodiffError:
        return None


def _describe(name: str, table: pl.DataFrame) -> dict[str, Any]:
    """What the card says of one source."""
    if table.is_empty():
        return {"name": name, "fixes": 0}
    span: Sequence[Any] = [table[TIME].min(), table[TIME].max()]
    box = [table[LON].min(), table[LAT].min(), table[LON].max(), table[LAT].max()]
    return {
        "name": name,
        "fixes": table.height,
        "vessels": table[VESSEL_ID].n_unique(),
        "tracks": table[TRACK_ID].n_unique(),
        "period": [moment.isoformat() for moment in span],
        "bbox": [round(float(value), 3) for value in box],  # type: ignore[arg-type]
    }
