"""Score a table of tracks: score, p-value and reason for each fix, and a table with a line for each track."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from geodiff.schema import UsageError
from geodiff.sphere import KM_PER_NMI
from geodiff.tracks import ANOMALOUS, OBSERVED, REASON, SHIP_GROUPS, SHIP_TYPE, STATE, TRACK_ID, VESSEL_ID, MotionModel
from geodiff.vessels.scoring import Calibration, Judged, ask, judge
from geodiff.vessels.scoring_embed import Embedder, KinematicEmbedder
from geodiff.vessels.scoring_evidence import FLOW, GAP, KINDS, PACE, Evidence
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints
from geodiff.vessels.scoring_routes import Routes
from geodiff.vessels.scoring_traffic import Traffic

ALPHA: Final = 0.01
"""Nominal false-alarm rate: the share of clean fixes, and of clean tracks, that are flagged."""

SILENCE: Final = 2.0
"""Who is heard again within so many of its usual intervals was not silent: what is strange is how far it went."""

MOST_REASONS: Final = 3

TRACK_SCHEMA: Final = pl.Schema(
    {
        TRACK_ID: pl.String(),
        VESSEL_ID: pl.Int64(),
        SHIP_TYPE: pl.Int16(),
        "ship_group": pl.String(),
        "start": pl.Datetime("us", "UTC"),
        "end": pl.Datetime("us", "UTC"),
        "fixes": pl.Int64(),
        "moored_share": pl.Float64(),
        "flagged": pl.Int64(),
        "score": pl.Float64(),
        "p_value": pl.Float64(),
        ANOMALOUS: pl.Boolean(),
        REASON: pl.String(),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What scoring gives.

    Attributes:
        fixes: the table that was scored, its rows in the same order, with ``score`` (-log10 of the combined tail, for
            ranking), ``p_value`` (null where a fix was not observed) and ``reason``: that of a flagged fix, that of its
            rejection, or none. What an earlier scoring said is gone.
        tracks: one line for each track, columns of ``TRACK_SCHEMA``; the p-value is that of the track as a whole and
            already accounts for its number of fixes.
    """

    fixes: pl.DataFrame
    tracks: pl.DataFrame


def score_tracks(
    cleaned: pl.DataFrame,
    model: MotionModel,
    calibration: Calibration,
    *,
    embedder: Embedder | None = None,
    alpha: float = ALPHA,
    traffic: Traffic | None = None,
    routes: Routes | None = None,
) -> Scored:
    """Score every observed fix and every track.

    Args:
        cleaned: columns of ``geodiff.tracks`` with track and state; all tracks of each vessel in it.
        model: that the calibration was made with.
        calibration: that ``scoring_calibrate.learn`` made.
        embedder: that the calibration was made with.
        alpha: nominal false-alarm rate: a fix is flagged when its p-value, a track when the track's, is no larger.
        traffic: whom the vessels may meet, where ``cleaned`` is a part of a fleet; each other when None.
        routes: where others passed, those of the calibration; without, nothing is said of routes.

    Raises:
        UsageError: another model or other routes, a rate outside (0, 1), or one finer than the calibration can tell.
        GeodiffError: the table was not cleaned.
    """
    embedder = embedder or KinematicEmbedder()
    calibration.require(model, embedder)
    check_alpha(alpha, calibration)
    if routes is not None and routes.digest != calibration.routes:
        raise UsageError("the calibration was made with other routes: calibrate again, or score without")
    cleaned = _unscored(cleaned)
    fixes = Fixes.from_table(cleaned)
    asked = ask(
        fixes,
        model,
        embedder,
        lengths=calibration.lengths,
        members=calibration.members,
        seed=calibration.seed,
        traffic=traffic,
        routes=routes,
    )
    judged = judge(fixes, asked, calibration)
    return Scored(_with_scores(cleaned, fixes, judged, alpha), track_table(fixes, judged, alpha))


def check_alpha(alpha: float, calibration: Calibration) -> None:
    """Raises UsageError for a rate outside (0, 1), or one that some class of vessels is too small to tell."""
    if not 0 < alpha < 1:
        raise UsageError(f"a false-alarm rate of {alpha:g}: it lies between 0 and 1, such as {ALPHA:g}")
    fewest = _fewest(calibration)
    if alpha < (least := 1 / (fewest + 1)):
        raise UsageError(
            f"a false-alarm rate of {alpha:g} is finer than {least:.2g}, the least that the {fewest} vessels behind "
            "the p-values of the smallest class can tell: calibrate with more vessels, or ask for "
            f"{finest_alpha([calibration]):g} or more"
        )


def finest_alpha(calibrations: Sequence[Calibration]) -> float:
    """The least false-alarm rate that every class of vessels can tell, in thousandths; ``ALPHA`` at least."""
    fewest = min(map(_fewest, calibrations))
    return max(ALPHA, math.ceil(1000 / (fewest + 1)) / 1000)


def _fewest(calibration: Calibration) -> int:
    """Vessels behind the p-values of the smallest class."""
    return min(tail.vessels for table in (calibration.fixes, calibration.tracks) for tail in table.tails.values())


def track_table(fixes: Fixes, judged: Judged, alpha: float) -> pl.DataFrame:
    """One line for each track, in the order of the tracks; columns of ``TRACK_SCHEMA``."""
    flagged = judged.p_value <= alpha
    heads, counts = fixes.first[:-1], np.diff(fixes.first)
    sums = [np.add.reduceat(each.astype(np.int64), heads) if len(heads) else heads for each in (flagged, fixes.moored)]
    anomalous = judged.track_p_value <= alpha
    reasons = [_track_reason(fixes, judged, track) if anomalous[track] else None for track in range(fixes.tracks)]
    ends = fixes.first[1:] - 1
    columns = {
        TRACK_ID: fixes.track_id.tolist(),
        VESSEL_ID: pl.Series(fixes.vessel_id).replace(-1, None),
        SHIP_TYPE: pl.Series(fixes.ship_type).replace(0, None),
        "ship_group": [SHIP_GROUPS[each] for each in fixes.group.tolist()],
        "start": _utc(fixes.time_s[heads]),
        "end": _utc(fixes.time_s[ends]),
        "fixes": counts,
        "moored_share": sums[1] / np.maximum(counts, 1),
        "flagged": sums[0],
        "score": judged.track_score,
        "p_value": judged.track_p_value,
        ANOMALOUS: anomalous,
        REASON: reasons,
    }
    frame = pl.DataFrame({name: pl.Series(name, column, strict=False) for name, column in columns.items()})
    return frame.cast(TRACK_SCHEMA)


def _unscored(table: pl.DataFrame) -> pl.DataFrame:
    """Without what an earlier scoring said."""
    if REASON in table.columns and STATE in table.columns:
        table = table.with_columns(pl.when(pl.col(STATE) != OBSERVED).then(REASON).alias(REASON))
    return table.drop("score", "p_value", ANOMALOUS, "track_p_value", strict=False)


def _with_scores(cleaned: pl.DataFrame, fixes: Fixes, judged: Judged, alpha: float) -> pl.DataFrame:
    score, p_value = (_scattered(len(cleaned), fixes.row, each) for each in (judged.score, judged.p_value))
    flagged = np.flatnonzero(judged.p_value <= alpha)
    said = pl.DataFrame(
        {"_row": fixes.row[flagged], "_said": reasons(fixes, judged, flagged, alpha)},
        schema={"_row": pl.Int64, "_said": pl.String},
    )
    table = cleaned.with_columns(
        pl.Series("score", score).fill_nan(None),
        pl.Series("p_value", p_value).fill_nan(None),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"),
    )
    before = pl.col(REASON) if REASON in cleaned.columns else pl.lit(None, pl.String)
    joined = table.join(said, on="_row", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("_said", before).alias(REASON)).drop("_row", "_said")


def _scattered(size: int, rows: Ints, values: Floats) -> Floats:
    out = np.full(size, np.nan)
    out[rows] = values
    return out


def _utc(time_s: Floats) -> pl.Series:
    return pl.Series((time_s * 1e6).round().astype(np.int64)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def reasons(fixes: Fixes, judged: Judged, rows: Ints, alpha: float) -> list[str]:
    """Why fixes are flagged: the kinds of evidence whose own share of clean values is at most ``alpha``.

    The strongest kind is named in any case, and at most ``MOST_REASONS``.
    """
    tails = np.nan_to_num(judged.tails[rows], nan=-1.0)
    order = np.argsort(-tails, axis=1, kind="stable")[:, :MOST_REASONS]
    limit = -np.log10(alpha)
    out = []
    for row, kinds, shares in zip(rows.tolist(), order.tolist(), np.take_along_axis(tails, order, 1), strict=True):
        told = [kind for kind, share in zip(kinds, shares, strict=True) if share >= limit] or kinds[:1]
        out.append("; ".join(_told(judged.evidence[KINDS[kind]], row) for kind in told))
    return out


def _track_reason(fixes: Fixes, judged: Judged, track: int) -> str:
    """The strongest evidence of the track's strangest fix."""
    rows = np.arange(fixes.first[track], fixes.first[track + 1])
    worst = rows[[int(np.argmax(judged.score[rows]))]]
    return reasons(fixes, judged, worst, 1e-300)[0]


def _told(evidence: Evidence, row: int) -> str:
    facts = {name: values[row].item() for name, values in evidence.facts.items()}
    if evidence.kind == GAP and facts["silent_s"] <= SILENCE * facts["usual_s"]:
        return f"speed: goes {_length(facts['unseen_km'])} within {_span(facts['silent_s'])}"
    return f"{_NAMES.get(evidence.kind, evidence.kind)}: {_SENTENCES[evidence.kind](facts)}"


Facts = dict[str, float]


def _identity(facts: Facts) -> str:
    if np.isfinite(facts["shared_km"]):
        return f"in use {_length(facts['shared_km'])} away at the same time"
    return f"moves {np.exp(facts['mismatch']):.1f} times nearer to another ship type than to its own"


def _approach(facts: Facts) -> str:
    who = f"vessel {facts['other']:d}" if facts["other"] >= 0 else "a vessel"
    when = f"in {_span(facts['wait_s'])}" if facts["wait_s"] > 0 else "now"
    return f"{facts['closest_km'] / KM_PER_NMI:.2f} nmi to {who} {when}"


def _length(km: float) -> str:
    return f"{km * 1000:.0f} m" if km < 1 else f"{km:.1f} km"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_NAMES: Final = {PACE: "speed", FLOW: "speed", "approach": "close approach"}
"""How a kind is told where its own name is not that."""

_SENTENCES: Final[dict[str, Callable[[Facts], str]]] = {
    "position": lambda f: (
        f"{_length(f['miss_km'])} off, usually {_length(f['usual_km'])} after {_span(f['hidden_s'])} unseen"
    ),
    "speed": lambda f: f"reports {f['sog_kn']:.1f} kn, moves {f['moved_kn']:.1f} kn",
    "pace": lambda f: f"{f['sog_kn']:.1f} kn, usually {f['usual_kn']:.1f} kn",
    "course": lambda f: f"reports {f['cog_deg']:.0f} deg, moves {f['moved_deg']:.0f} deg",
    "gap": lambda f: (
        f"silent for {_span(f['silent_s'])}" + (f", usually {_span(f['usual_s'])}" if np.isfinite(f["usual_s"]) else "")
    ),
    "approach": _approach,
    "route": lambda f: f"{_length(f['route_km'])} from where any other vessel passed on such a course",
    "flow": lambda f: f"{f['speed_kn']:.1f} kn, where others make {f['there_kn']:.1f} kn",
    "identity": _identity,
    "behaviour": lambda f: "moves unlike clean tracks of its type",
}
