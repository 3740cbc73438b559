"""Association without identity: anonymous AIS points and radar plots become tracks.

``associate`` takes a table of fixes and looks at when, where and how fast; every identity in it is ignored. Global
links over sliding windows (``associate_link``) with a kinematic prior (``associate_motion``); radar plots of extended
targets are clustered first, and tracks that are not confirmed are rejected as clutter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

import polars as pl
from pydantic import Field, model_validator

from geodiff.config import Settings
from geodiff.schema import UsageError
from geodiff.tracks import OBSERVED, REASON, REJECTED, STATE, TIME, TRACK_ID
from geodiff.vessels.associate_link import DEPTH, Level
from geodiff.vessels.associate_motion import KinematicPrior, MotionPredictor
from geodiff.vessels.associate_plots import canonical_order
from geodiff.vessels.associate_stream import Decided, Rules, Stream

CLUTTER = "clutter"
"""``REASON`` of plots of no confirmed track."""

_ORDER = "_associate_order"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Window = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class AssociateSettings(Settings):
    """What is known of the sensor and of the traffic. The defaults suit AIS; ``RADAR`` is a start for a harbour radar.

    Attributes:
        position_m: standard deviation of a position.
        clock_s: standard deviation of a time stamp. Where ``scan_s`` is 0 and reports within 45 s of each other lie
            further off, both are as is found.
        velocity_m_s: standard deviation of a velocity from SOG and COG.
        report_s: usual interval between two plots of a vessel; where ``scan_s`` is 0 and they come more often, as is
            found.
        scan_s: least interval between two plots of a vessel: for a radar three quarters of a rotation. 0 where a
            fix may be heard twice.
        cluster_m: plots of one scan in steps up to this are one extended target; 0: every plot is a target. Plots may
            share the time of their scan, or each tell that of its bearing: then ``confirm_s`` must suit the antenna.
        repeat_s: a plot that repeats place, speed and course of another to the digit within this time is the same
            report heard twice, of a vessel under way within half a minute; 0: never.
        berth_m: vessels at rest do not lie nearer to each other than this (by their mean places); 0: they may, and no
            tracks that lie at rest at one time are joined, however well the times of their plots fit.
        new_share: share of plots that are clutter, or the first of a vessel.
        fastest_kn: speed that no vessel exceeds.
        levels: (longest gap in s, margin in nats) of each pass of linking; see ``associate_link.Level``.
        confirm_hits, confirm_s: a track is confirmed by so many targets within so many seconds; tracks that never are
            are clutter. 1 confirms everything. Where an antenna turns so slowly that fewer scans fall into that time,
            it is the time of so many scans, by the median interval between the times of the first ``block_rows`` rows.
        lag_s: decisions wait for so much later data, or for half a block where that is less.
        block_rows: rows that are looked at together; sets the memory.
    """

    position_m: Positive = 2.0
    clock_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    velocity_m_s: Positive = 0.3
    report_s: Positive = 60.0
    scan_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    cluster_m: Annotated[float, Field(ge=0, le=1000)] = 0.0
    repeat_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    berth_m: Annotated[float, Field(ge=0, le=100)] = 4.0
    new_share: Annotated[float, Field(gt=0, le=1)] = 0.002
    fastest_kn: Positive = 60.0
    levels: Annotated[tuple[tuple[Window, Annotated[float, Field(ge=0)]], ...], Field(min_length=1)] = (
        (900.0, 0.0),
        (7200.0, 0.0),
    )
    confirm_hits: Annotated[int, Field(ge=1, le=DEPTH)] = 1
    confirm_s: Positive = 60.0
    lag_s: Positive = 1800.0
    block_rows: Annotated[int, Field(ge=100)] = 20_000

    @model_validator(mode="after")
    def _last_level_decides(self) -> Self:
        if self.levels[-1][1] != 0:
            raise UsageError(f"levels: the last level must have the margin 0, not {self.levels[-1][1]:g}")
        return self

    def prior(self) -> KinematicPrior:
        """The kinematic prior with the noise of this sensor."""
        return KinematicPrior(
            position_m=self.position_m,
            clock_s=self.clock_s,
            velocity_m_s=self.velocity_m_s,
            unknown_m_s=self.fastest_kn * 1852 / 3600 / 3,
        )

    def rules(self) -> Rules:
        """The same for the stream, which knows no settings."""
        return Rules(
            levels=tuple(Level(window, margin) for window, margin in self.levels),
            report_s=self.report_s,
            scan_s=self.scan_s,
            cluster_m=self.cluster_m,
            new_share=self.new_share,
            fastest_m_s=self.fastest_kn * 1852 / 3600,
            confirm=(self.confirm_hits, self.confirm_s),
            lag_s=self.lag_s,
            block_rows=self.block_rows,
            patch_m=3 * self.cluster_m or 100.0,
            repeat_s=self.repeat_s,
            berth_m=self.berth_m,
        )


RADAR = AssociateSettings(
    position_m=2.5,
    clock_s=0.2,
    report_s=2.5,
    scan_s=0.75,
    cluster_m=8.0,
    repeat_s=0.0,
    berth_m=0.0,
    new_share=0.3,
    fastest_kn=30.0,
    levels=((4.0, 1.0), (8.0, 1.0), (12.0, 1.0), (30.0, 0.0)),
    confirm_hits=8,
    confirm_s=20.0,
    lag_s=40.0,
)
"""A harbour radar of about one rotation in two seconds and a range of some hundred metres."""


def associate(
    fixes: pl.DataFrame, settings: AssociateSettings | None = None, predictor: MotionPredictor | None = None
) -> pl.DataFrame:
    """Find which plots belong to one vessel.

    Args:
        fixes: a table of fixes in any order; ``time``, ``lon_deg`` and ``lat_deg`` are needed, ``sog_kn``, ``cog_deg``
            and ``heading_deg`` are used where present, ``vessel_id`` never. Rows whose ``state`` is rejected already
            are passed through.
        settings: of the sensor; default: AIS.
        predictor: another motion model than the kinematic prior of the settings.

    Returns:
        The rows in their order with ``track_id`` (``t<number>/<UTC of its first plot>``, numbered by first plot),
        ``state`` (observed or rejected) and ``reason`` (clutter); clutter has no track. Which rows share a track does
        not depend on the order of the rows.

    Raises:
        GeodiffError: a row without time or place, or a column is missing.
    """
    numbered = fixes.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_ORDER))
    parts = list(associate_batches([numbered], settings, predictor, in_order=False))
    return pl.concat(parts).sort(_ORDER).drop(_ORDER)


def associate_batches(
    batches: Iterable[pl.DataFrame],
    settings: AssociateSettings | None = None,
    predictor: MotionPredictor | None = None,
    *,
    in_order: bool = True,
    stream: Stream | None = None,
) -> Iterator[pl.DataFrame]:
    """``associate`` for a stream in bounded memory; how the stream is cut into batches changes nothing.

    When the next batch is asked for, all that the one before it decided has been given out: that is when
    ``stream.state()`` may be kept.

    Args:
        batches: tables of fixes; each may be unordered, but none reaches back before the one before it.
        settings, predictor: as for ``associate``.
        in_order: rows come out in the order of time as far as decided together; False spares the sorting.
        stream: of ``open_stream``, in place of ``settings`` and ``predictor``; may hold what earlier batches left.

    Yields:
        Rows that are decided, each exactly once; columns as ``associate`` adds them.

    Raises:
        GeodiffError: as ``associate``, or a batch reaches back in time.
    """
    stream = stream or open_stream(settings, predictor)
    empty: pl.DataFrame | None = None
    for batch in batches:
        passed = _rejected_before(batch)
        if len(passed):
            yield _told(passed, None)
        fresh = batch.filter(pl.col(STATE).ne_missing(REJECTED)) if STATE in batch.columns else batch
        empty = _told(fresh.clear(), None) if empty is None else empty
        for decided in stream.feed(fresh[canonical_order(fresh)]):
            yield _finished(decided, in_order=in_order)
    for decided in stream.finish():
        yield _finished(decided, in_order=in_order)
    if empty is not None:
        yield empty


def open_stream(settings: AssociateSettings | None = None, predictor: MotionPredictor | None = None) -> Stream:
    """What ``associate_batches`` feeds; arguments as of ``associate``."""
    chosen = settings or AssociateSettings()
    return Stream(chosen.rules(), predictor or chosen.prior())


def _rejected_before(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.filter(pl.col(STATE) == REJECTED) if STATE in batch.columns else batch.clear()


def _told(rows: pl.DataFrame, track: pl.Series | None) -> pl.DataFrame:
    """Rows with the three columns of tracks, in one order of columns; ``track`` None passes rejected rows through."""
    base = [name for name in rows.columns if name not in (TRACK_ID, STATE, REASON)]
    if track is None:
        reason = pl.col(REASON).cast(pl.String) if REASON in rows.columns else pl.lit(None, pl.String)
        return rows.select(
            *base, pl.lit(None, pl.String).alias(TRACK_ID), pl.lit(REJECTED).alias(STATE), reason.alias(REASON)
        )
    found = pl.col(TRACK_ID).is_not_null()
    return (
        rows.select(base)
        .with_columns(
            track.alias(TRACK_ID),
        )
        .with_columns(
            pl.when(found).then(pl.lit(OBSERVED)).otherwise(pl.lit(REJECTED)).alias(STATE),
            pl.when(found).then(pl.lit(None, pl.String)).otherwise(pl.lit(CLUTTER)).alias(REASON),
        )
    )


def _finished(decided: Decided, *, in_order: bool) -> pl.DataFrame:
    began = pl.from_epoch(pl.Series(decided.began_s).cast(pl.Int64), time_unit="s").dt.strftime("%Y%m%dT%H%M%S")
    name = pl.select(
        pl.concat_str(pl.lit("t"), pl.Series(decided.track).cast(pl.String), pl.lit("/"), began)
    ).to_series()
    kept = pl.Series(decided.confirmed)
    track = pl.select(pl.when(kept).then(name).otherwise(pl.lit(None, pl.String))).to_series()
    rows = _told(decided.rows, track)
    return rows.sort(TIME, maintain_order=True) if in_order else rows
