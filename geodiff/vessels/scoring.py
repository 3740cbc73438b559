"""Anomaly scores of tracks: evidence of every kind, its p-values at a stated false-alarm rate, and the reasons.

A motion model is asked for every fix under way as if it had not been seen (``scoring_blocks``); what it misses, what
the fix says against itself, who is near, where others passed, and how unlike clean tracks the vessel moves are each
turned into tails of clean tracks, combined, and compared with clean tracks again. How large each of them is on clean
tracks is learned in ``scoring_calibrate``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydantic import Field

from geodiff.schema import UsageError
from geodiff.tracks import MotionModel
from geodiff.vessels.scoring_blocks import Misses, predict_hidden
from geodiff.vessels.scoring_embed import (
    Cloud,
    Embedder,
    KinematicEmbedder,
    embed_stretches,
    spread_over_fixes,
    stretches,
)
from geodiff.vessels.scoring_evidence import BEHAVIOUR, KINDS, POSITION, Evidence, identity_evidence, report_evidence
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints
from geodiff.vessels.scoring_routes import Routes, nothing_known
from geodiff.vessels.scoring_scale import LengthScale, best_surprise
from geodiff.vessels.scoring_tails import Stored, TailTable
from geodiff.vessels.scoring_traffic import Traffic
from geodiff.vessels.scoring_weights import Heads, fix_views, track_views

LENGTHS: Final = (1, 6, 24)
"""Fixes in the hidden blocks: a lone outlier, a manoeuvre, a leg of the route."""

FORMAT: Final = "geodiff-anomaly-calibration-2"
_TRACK_SIZES = (16, 64, 256)


class Calibration(Stored):
    """What turns scores into p-values; stored as JSON.

    Attributes:
        model, embedder: names of what it was made with; it serves no other.
        lengths, members, seed: of the questions.
        routes: digest of where others pass; empty where it says nothing of routes.
        scales: of the misses, one for each length.
        cloud: of clean stretches.
        evidence: kind -> tails of its values.
        fix_heads, track_heads: what the kinds of evidence count.
        fixes, tracks: tails of the weighted evidence of fixes and of tracks.
        vessels, fixes_seen: that it rests on, in each of the four parts.
    """

    format: Literal["geodiff-anomaly-calibration-2"] = FORMAT
    model: str
    embedder: str
    lengths: tuple[int, ...] = Field(min_length=1, max_length=8)
    members: int = Field(ge=0, le=4096)
    seed: int = Field(ge=0)
    routes: str = Field("", max_length=64)
    scales: tuple[LengthScale, ...]
    cloud: Cloud
    evidence: dict[str, TailTable]
    fix_heads: Heads
    track_heads: Heads
    fixes: TailTable
    tracks: TailTable
    vessels: tuple[int, ...]
    fixes_seen: tuple[int, ...]

    def require(self, model: MotionModel, embedder: Embedder) -> None:
        """Raises UsageError where the calibration was made with another model."""
        if (model.name, embedder.name) != (self.model, self.embedder):
            raise UsageError(
                f"the calibration is of {self.model} with {self.embedder}, not of {model.name} with {embedder.name}: "
                "calibrate again"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a model and an embedder say of a table; asked once, judged by any calibration.

    Attributes:
        misses: length of block -> misses.
        begin, end: (k,) stretches.
        vectors: (k, width) where the stretches lie in latent space.
        plain: evidence that needs no calibration: reports, gaps, approaches, routes.
    """

    misses: Mapping[int, Misses]
    begin: Ints
    end: Ints
    vectors: Floats
    plain: Sequence[Evidence]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Scores of fixes and tracks.

    Attributes:
        evidence: kind -> its values and facts.
        tails: (n, kinds) -log10 of the share of clean values as large, in the order of ``KINDS``; NaN: says nothing.
        score: (n,) -log10 of the share of clean fixes with as much evidence, carried on beyond them; for ranking.
        p_value: (n,) conformal.
        track_score, track_p_value: (t,).
    """

    evidence: Mapping[str, Evidence]
    tails: Floats
    score: Floats
    p_value: Floats
    track_score: Floats
    track_p_value: Floats


def ask(
    fixes: Fixes,
    model: MotionModel,
    embedder: Embedder | None = None,
    *,
    lengths: Sequence[int] = LENGTHS,
    members: int = 16,
    seed: int = 0,
    traffic: Traffic | None = None,
    routes: Routes | None = None,
) -> Asked:
    """Ask the model and the embedder, and gather what needs neither.

    Args:
        fixes: of all tracks of each vessel.
        model: of the motion.
        embedder: of behaviour; ``KinematicEmbedder`` when None.
        lengths: of the hidden blocks, in fixes.
        members: of the model's ensemble.
        seed: of its noise.
        traffic: whom the vessels may meet; each other when None.
        routes: where others passed; without, nothing is said of routes.
    """
    misses = {length: predict_hidden(model, fixes, length, members=members, seed=seed) for length in lengths}
    begin, end = stretches(fixes)
    vectors = embed_stretches(embedder or KinematicEmbedder(), fixes, begin, end)
    met = (traffic if traffic is not None else Traffic.of(fixes)).around(fixes)
    passed = routes.around(fixes) if routes is not None else nothing_known(fixes)
    return Asked(misses, begin, end, vectors, [*report_evidence(fixes), met, *passed])


def judge(fixes: Fixes, asked: Asked, calibration: Calibration) -> Judged:
    """Turn what was asked into scores and p-values."""
    evidence = gather_evidence(fixes, asked, calibration.scales, calibration.cloud)
    tails = evidence_tails(fixes, evidence, calibration.evidence)
    seen, plain = fix_views(fixes, tails)
    weighted = calibration.fix_heads.score(seen, plain)
    whole = calibration.track_heads.score(*track_views(fixes, seen, weighted))
    of_fixes, of_tracks = fix_classes(fixes), track_classes(fixes)
    return Judged(
        evidence,
        tails,
        score=calibration.fixes.log_tail(weighted, of_fixes),
        p_value=calibration.fixes.p_value(weighted, of_fixes),
        track_score=calibration.tracks.log_tail(whole, of_tracks),
        track_p_value=calibration.tracks.p_value(whole, of_tracks),
    )


def fix_classes(fixes: Fixes, band: Ints | None = None) -> list[Ints]:
    """Kinds of class of fixes, from the finest: type, moored, reporting interval; the last two; moored; all.

    ``band`` divides all but the last further.
    """
    track, lying = fixes.track, fixes.moored.astype(np.int64)
    middle = 2 * fixes.interval_class[track] + lying
    more = np.zeros_like(lying) if band is None else band
    fine = [16 * fixes.group[track] + middle, middle, lying]
    return [*(8 * codes + more for codes in fine), np.zeros_like(lying)]


def track_classes(fixes: Fixes) -> list[Ints]:
    """Kinds of class of tracks: type, number of fixes and mostly moored; the last two; moored; all."""
    sizes = np.diff(fixes.first)
    lying = np.add.reduceat(fixes.moored, fixes.first[:-1]) * 2 > sizes if len(sizes) else np.zeros(0, bool)
    middle = 2 * np.searchsorted(_TRACK_SIZES, sizes, side="right") + lying
    return [16 * fixes.group + middle, middle, lying.astype(np.int64), np.zeros_like(middle)]


def gather_evidence(fixes: Fixes, asked: Asked, scales: Sequence[LengthScale], cloud: Cloud) -> dict[str, Evidence]:
    """Evidence of every kind of ``KINDS``, by its name."""
    surprise, facts = best_surprise(scales, asked.misses, len(fixes))
    far, unlike = cloud.distances(asked.vectors, fixes.group[fixes.track[asked.begin]])
    spread = [spread_over_fixes(each, asked.begin, asked.end, len(fixes)) for each in (far, unlike)]
    found = [Evidence(POSITION, surprise, facts), *asked.plain, identity_evidence(fixes, spread[1])]
    return {each.kind: each for each in [*found, Evidence(BEHAVIOUR, spread[0])]}


def evidence_tails(fixes: Fixes, evidence: Mapping[str, Evidence], tables: Mapping[str, TailTable]) -> Floats:
    """(n, kinds) -log10 of the share of clean values as large, in the order of ``KINDS``; NaN: says nothing."""
    out = np.full((len(fixes), len(KINDS)), np.nan)
    for column, kind in enumerate(KINDS):
        each = evidence[kind]
        out[:, column] = tables[kind].log_tail(each.value, fix_classes(fixes, each.band))
    return out
