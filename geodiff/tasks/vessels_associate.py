"""Association of anonymous points and radar plots as a job: one pass in the order of time, then parts by track.

The pass holds a block of rows and the tails of open tracks, which are kept on disk every ``ROWS_AT_ONCE`` rows: after a
kill it goes on from there, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from geodiff.outputs.atomic import read_json, write_json
from geodiff.outputs.track_columns import standard_frame
from geodiff.schema import GeodiffError
from geodiff.tasks.vessels_associate_journal import Journal
from geodiff.tasks.vessels_job import FIXES, Progress, TrackJob, clean_counts, part_name, save_counts
from geodiff.tasks.vessels_region import taken_fixes
from geodiff.tasks.vessels_settings import AssociateSettings
from geodiff.tracks import LAT, LON, REASON, REJECTED, STATE, TIME, TRACK_ID
from geodiff.vessels.associate import RADAR, associate_batches, open_stream
from geodiff.vessels.associate import AssociateSettings as Rules
from geodiff.vessels.clean_rules import NO_POSITION
from geodiff.vessels.partition import PartitionedFixes, open_partition

ROWS_AT_ONCE: Final = 200_000


def rules_of(settings: AssociateSettings) -> Rules:
    """Settings of the association: those of the sensor, with what was said otherwise.

    Raises:
        UsageError: an unknown or impossible setting.
    """
    sensor = settings.sensor or ("ais" if settings.position is None else "radar")
    base = RADAR if sensor == "radar" else Rules()
    return Rules.parse({**base.model_dump(), **settings.rules}, where="settings of the association")


def associate_parts(job: TrackJob, *, progress: Progress) -> None:
    """Associate, and write the parts of the store.

    Raises:
        GeodiffError: no plot with a time and a place is left.
    """
    settings = job.settings
    assert isinstance(settings, AssociateSettings)
    folder, told = job.work / "associated", job.work / "associated.json"
    if not isinstance(read_json(told), dict):
        write_json(told, _associate(job, settings, folder, progress))
    for part in range(job.parts):
        name = part_name(part)
        if name not in job.store.done():
            paths = sorted(folder.glob(f"*/{name}.parquet"))
            table = pl.concat([pl.read_parquet(path, glob=False) for path in paths]) if paths else _NOTHING
            save_counts(clean_counts(table), job.counts_path("clean", part))
            job.store.write_part(name, table)
        progress("write", part + 1, job.parts)


_NOTHING: Final = standard_frame(
    pl.DataFrame(
        schema={TRACK_ID: pl.String, TIME: pl.Datetime("us", "UTC"), LON: pl.Float64, LAT: pl.Float64, STATE: pl.String}
    )
)


def _associate(job: TrackJob, settings: AssociateSettings, folder: Path, progress: Progress) -> dict[str, int]:
    """The pass over time, from where an earlier run left it; returns counts."""
    fixes = open_partition(job.work / FIXES)
    total = fixes.counts.kept
    stream = open_stream(rules_of(settings))
    journal = Journal.open(folder, stream)
    if journal.counts["plots"]:
        progress("associate", journal.counts["plots"], total)
    plots = _batches(fixes, settings, journal)
    try:
        for batch in associate_batches(plots, stream=stream):
            journal.write(standard_frame(batch), job.parts)
            progress("associate", journal.counts["plots"], total)
    finally:
        journal.close()
    counts = journal.counts
    if not counts["plots"]:
        raise GeodiffError(
            f"none of {total} plots is left: {counts['outside']} outside the region, {counts['no time']} without a time"
        )
    return counts


def _batches(fixes: PartitionedFixes, settings: AssociateSettings, journal: Journal) -> Iterator[pl.DataFrame]:
    """Plots in the order of time, some minutes at once; whenever more is asked for, what was done is kept."""
    for batch in in_time_order(fixes, skip=journal.done):
        taken = taken_fixes(batch, settings)
        yield without_place_rejected(taken)
        journal.counts["outside"] += len(batch) - len(taken)
        journal.keep()
    journal.counts["no time"] = int(
        sum(fixes.scan(part).select(pl.col(TIME).null_count()).collect().item() for part in range(fixes.parts))
    )


def without_place_rejected(fixes: pl.DataFrame) -> pl.DataFrame:
    """Plots as association takes them: those without a position are rejected before."""
    placed = pl.col(LON).is_finite().fill_null(False) & pl.col(LAT).is_finite().fill_null(False)
    return fixes.with_columns(
        pl.when(placed).then(pl.lit(None, pl.String)).otherwise(pl.lit(REJECTED)).alias(STATE),
        pl.when(placed).then(pl.lit(None, pl.String)).otherwise(pl.lit(NO_POSITION)).alias(REASON),
    )


def in_time_order(fixes: PartitionedFixes, rows: int | None = None, *, skip: int = 0) -> Iterator[pl.DataFrame]:
    """All fixes with a time, by time, in tables of about ``rows``, cut between minutes; equal times as they were read.

    Memory is that of a table, or of the busiest minute.

    Args:
        fixes: partitioned.
        rows: of a table; ``ROWS_AT_ONCE`` when None.
        skip: so many tables are left out at the beginning.
    """
    minute = pl.col(TIME).dt.truncate("1m").alias("minute")
    parts = [fixes.scan(part).filter(pl.col(TIME).is_not_null()) for part in range(fixes.parts)]
    found = pl.concat([part.group_by(minute).len().collect() for part in parts])
    busy = found.group_by("minute").agg(pl.col("len").sum()).sort("minute")
    if not len(busy):
        return
    number = ((busy["len"].cum_sum() - 1) // (rows or ROWS_AT_ONCE)).to_numpy()
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    edges = [busy["minute"][int(at)] for at in starts]
    for begin, end in list(zip(edges, [*edges[1:], None], strict=True))[skip:]:
        inside = pl.col(TIME) >= begin if end is None else pl.col(TIME).is_between(begin, end, closed="left")
        yield (
            pl.concat([part.filter(inside) for part in parts])
            .collect()
            .sort(TIME, "source", "row", maintain_order=True)
        )
