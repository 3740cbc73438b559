"""Files of fixes as cases of an evaluation: read, cleaned, split, and drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from geodiff.schema import BoolArray, GeodiffError
from geodiff.tasks.evaluate_vessels_settings import VesselSettings
from geodiff.tasks.motion_models import Contender, held_out_fold
from geodiff.tasks.vessels_context import past_of
from geodiff.tasks.vessels_own import is_own
from geodiff.tracks import FIX_TYPES, OBSERVED, REASON, REJECTED, STATE, TIME, TRACK_ID, VESSEL_ID
from geodiff.vessels.cases import Case, Tracks, forecast_cases, impute_cases
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.read import in_order, open_fixes
from geodiff.vessels.reading import ReadCounts
from geodiff.vessels.spans import Span, parse_spans, usual_spans
from geodiff.vessels.split import is_held_out, period_cut, split_of
from geodiff.vessels.usual_rules import usual_rules


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """Observed fixes of tracks, and an account of what they came from.

    Attributes:
        table: columns of ``geodiff.tracks``, observed fixes alone.
        notes: JSON-serialisable: files, rows, refusals, rejections, usual interval, period.
        cut_s: from which time on a training saw nothing; infinity where a short period is split by vessel alone.
    """

    table: pl.DataFrame
    notes: dict[str, Any]
    cut_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What is asked.

    Attributes:
        cases: in order of length, then of the draw.
        split: (n,) where each belongs, one of ``split.SPLITS``.
        labels: lengths in rising order, as reports name them.
        others: tracks of the vessels that are not asked about.
        history: past tracks; those of vessels that are asked about answer these alone, and never with what is hidden.
        notes: JSON-serialisable.
    """

    cases: tuple[Case, ...]
    split: tuple[str, ...]
    labels: tuple[str, ...]
    others: pl.LazyFrame
    history: TrackHistory | None
    notes: dict[str, Any]


def load_cleaned(files: Sequence[Path], *, tell: Callable[[str], None] | None = None) -> Cleaned:
    """Read and clean files of fixes; tables that ``geodiff vessels clean`` wrote are taken as they are.

    Raises:
        UsageError, GeodiffError: a file cannot be read, or nothing of a track is left.
    """
    tables, notes = list[pl.DataFrame](), []
    for path in files:
        table, note = _read(path)
        # Files may overlap: a fix that an earlier one holds would be a second vessel of the identity.
        before = pl.concat([each.select(VESSEL_ID, TIME) for each in (table.clear(), *tables)])
        once = table.join(before, on=[VESSEL_ID, TIME], how="anti", maintain_order="left")
        tables.append(once)
        notes.append(note | {"in_files_before": table.height - once.height})
        if tell:
            rejected = sum(note["rejected"].values())
            tell(
                f"{path.name}: {note['read']} rows read, {note['fixes']} fixes, {rejected} of them rejected by cleaning"
            )
    joined = pl.concat(tables, how="diagonal")
    if joined.is_empty():
        raise GeodiffError(f"{', '.join(map(str, files))}: no observed fix of a known vessel is left after cleaning")
    seconds = joined[TIME].dt.epoch("us").to_numpy() / 1e6
    cut = period_cut(seconds)
    told = {
        "files": notes,
        "fixes": joined.height,
        "vessels": joined[VESSEL_ID].n_unique(),
        "tracks": joined[TRACK_ID].n_unique(),
        "period": [str(joined[TIME].min()), str(joined[TIME].max())],
        "later_from": str(np.datetime64(int(cut), "s")) if np.isfinite(cut) else None,
    }
    return Cleaned(joined, told, cut)


def _read(path: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Observed fixes of tracks of one file, and what became of its rows."""
    if is_own(path):
        table = pl.read_parquet(path, glob=False)
        table = table if REASON in table.columns else table.with_columns(pl.lit(None, pl.String).alias(REASON))
        read, refused, rules = table.height, {}, "as cleaned"
    else:
        reader = open_fixes(path)
        fixes = in_order(pl.concat([batch.select(list(FIX_TYPES)) for batch in reader.batches()]))
        counts: ReadCounts = reader.counts
        chosen = usual_rules(fixes)
        table = clean_fixes(fixes, chosen)
        read, refused = counts.read, dict(counts.refused)
        rules = f"gaps above {chosen.gap_s:.0f} s, and three usual steps of the vessel, end a track"
        rules += "" if chosen.mmsi else "; identities are not MMSI"
    kept = pl.col(TRACK_ID).is_not_null() & pl.col(VESSEL_ID).is_not_null() & (pl.col(STATE) == OBSERVED)
    sent = table.filter(pl.col(STATE).is_in([OBSERVED, REJECTED]))
    rejected = sent.filter(pl.col(STATE) == REJECTED)[REASON].fill_null("unknown").value_counts()
    note = {
        "path": str(path),
        "read": read,
        "refused": refused,
        "fixes": sent.height,
        "rejected": dict(sorted(rejected.rows())),
        "rules": rules,
    }
    return table.filter(kept).select([name for name in table.columns if name in _KEPT]), note


_KEPT = (*FIX_TYPES, TRACK_ID, STATE)


def draw_cases(
    data: Cleaned, contenders: Sequence[Contender], settings: VesselSettings, *, past: Cleaned | None = None
) -> Drawn:
    """Choose the vessels by the split, and cases among their fixes.

    Args:
        data: whom to ask about.
        contenders: models; whom they were trained on decides whom they may be asked about.
        settings: of the evaluation.
        past: further tracks for the history.

    Raises:
        UsageError: lengths that cannot be read.
        GeodiffError: no vessel or case is left, or a model was trained on the vessels.
    """
    ids, fold = data.table[VESSEL_ID].to_numpy(), held_out_fold(each.model for each in contenders)
    asked = _asked(ids, contenders, settings, fold)
    tracks = Tracks.of(data.table.filter(pl.Series(asked)))
    spans = _spans(tracks, settings)
    if settings.task == "impute":
        found = [
            case
            for span in spans
            for case in impute_cases(tracks, span, most=settings.max_cases, draw=settings.draw, seed=settings.seed)
        ]
    else:
        found = list(forecast_cases(tracks, spans, most=settings.max_cases, draw=settings.draw, seed=settings.seed))
    if not found:
        apart = tracks.interval_s
        facts = f"fixes are {apart:.0f} s apart" if np.isfinite(apart) else "no track has two fixes"
        raise GeodiffError(
            f"{len(np.unique(tracks.vessel_id))} vessels, but no track holds {spans[0]} with fixes on the known side: "
            f"{facts}, choose other {_option(settings)}"
        )
    vessels = np.unique(tracks.vessel_id)
    known = _past(data, past)
    others = known.filter(~pl.col(VESSEL_ID).is_in(vessels))
    told = known.collect() if settings.history else data.table.clear()
    # As thin as the jobs have it.
    history = None if told.is_empty() else TrackHistory.from_table(past_of(told), private=vessels)
    last = np.array([case.query.ask_s[-1] for case in found])
    split = split_of([case.query.vessel_id for case in found], last, data.cut_s, fold)
    notes = {
        "vessels": len(vessels),
        "tracks": len(np.unique(tracks.first)),
        "fixes": len(tracks),
        "interval_s": tracks.interval_s if np.isfinite(tracks.interval_s) else None,
        "history_vessels": len(np.setdiff1d(told[VESSEL_ID].unique().to_numpy(), vessels)),
        "held_out": int(is_held_out(vessels, fold).sum()),
        "fold": fold,
    }
    return Drawn(tuple(found), tuple(split.tolist()), tuple(map(str, spans)), others, history, notes)


def _asked(
    ids: np.ndarray[Any, np.dtype[np.int64]], contenders: Sequence[Contender], settings: VesselSettings, fold: int
) -> BoolArray:
    """(n,) which fixes are of vessels that are asked about."""
    vessels, where = np.unique(ids, return_inverse=True)
    chosen = is_held_out(vessels, fold) if settings.split == "held-out" else np.ones(len(vessels), bool)
    for contender in contenders:
        seen = contender.seen(vessels)
        if seen is None:
            continue
        if settings.split == "unseen":
            chosen &= ~seen
        elif (seen & chosen).any():
            others = "" if settings.split == "held-out" else "--split held-out, or "
            raise GeodiffError(
                f"{contender.name} was trained on {int((seen & chosen).sum())} of the {int(chosen.sum())} vessels that "
                f"would be asked about: choose {others}--split unseen to leave them out"
            )
    if not chosen.any():
        raise GeodiffError(
            f"none of {len(vessels)} vessels is left by --split {settings.split}: with few vessels that no model was "
            "trained on, choose --split all"
        )
    return np.asarray(chosen[where])


def _spans(tracks: Tracks, settings: VesselSettings) -> tuple[Span, ...]:
    if settings.lengths is None:
        return usual_spans(tracks.interval_s, task=settings.task)
    return parse_spans(settings.lengths, where=_option(settings))


def _option(settings: VesselSettings) -> str:
    return "--gaps" if settings.task == "impute" else "--horizons"


def _past(data: Cleaned, past: Cleaned | None) -> pl.LazyFrame:
    """All tracks that are known."""
    tables = [data.table] if past is None else [data.table, past.table]
    # A track of one name in two files is one track told twice, or two that must not be mixed.
    named = [
        table.lazy().with_columns(pl.format("{}|{}", pl.lit(number), TRACK_ID).alias(TRACK_ID))
        for number, table in enumerate(tables)
    ]
    return pl.concat(named, how="diagonal")
