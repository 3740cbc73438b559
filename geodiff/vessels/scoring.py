"""Anomaly scores of tracks: evidence of every kind, its p-values at a stated false-alarm rate, and the reasons.

A motion model is asked for every fix under way as if it had not been seen (``scoring_blocks``); what it misses, what
the fix says against itself, who is near, and how unlike clean tracks the vessel moves are each turned into tails of
clean tracks, combined, and compared with clean tracks again. Vessels of the calibration are divided in three, so that
nothing is compared with what it was fitted to: scales and clouds; tails of evidence; the final p-values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydantic import Field

from geodiff.schema import BoolArray, UsageError
from geodiff.tracks import MotionModel
from geodiff.vessels.scoring_blocks import Misses, predict_hidden
from geodiff.vessels.scoring_embed import (
    Cloud,
    Embedder,
    KinematicEmbedder,
    embed_stretches,
    fit_cloud,
    spread_over_fixes,
    stretches,
)
from geodiff.vessels.scoring_evidence import BEHAVIOUR, KINDS, POSITION, Evidence, identity_evidence, report_evidence
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints
from geodiff.vessels.scoring_scale import LengthScale, best_surprise, fit_scale
from geodiff.vessels.scoring_tails import FEWEST_OF_CLASS, Stored, TailTable, cauchy_combination, fit_tails
from geodiff.vessels.scoring_traffic import Traffic

LENGTHS: Final = (1, 6, 24)
"""Fixes in the hidden blocks: a lone outlier, a manoeuvre, a leg of the route."""

FORMAT: Final = "geodiff-anomaly-calibration-1"
PARTS: Final = 3
FEWEST_VESSELS: Final = 30
"""Vessels that a calibration needs: ten in each part."""

FEWEST_FINAL: Final = 200
"""Vessels of a class of its own in the tables of final p-values: fewer could not tell a rate of half a percent."""

RUN: Final = 9
"""Fixes over which the lasting strangeness of a track is averaged."""

TRACK_PARTS: Final = ("peak", "run", "mean")
_TRACK_SIZES = (16, 64, 256)


class Calibration(Stored):
    """What turns scores into p-values; stored as JSON.

    Attributes:
        model, embedder: names of what it was made with; it serves no other.
        lengths, members, seed: of the questions.
        scales: of the misses, one for each length.
        cloud: of clean stretches.
        evidence: kind -> tails of its values.
        fixes: tails of the combined evidence of fixes.
        track_parts: ``TRACK_PARTS`` -> tails.
        tracks: tails of the combined score of tracks.
        vessels, fixes_seen: that it rests on, in each of the three parts.
    """

    format: Literal["geodiff-anomaly-calibration-1"] = FORMAT
    model: str
    embedder: str
    lengths: tuple[int, ...] = Field(min_length=1, max_length=8)
    members: int = Field(ge=0, le=4096)
    seed: int = Field(ge=0)
    scales: tuple[LengthScale, ...]
    cloud: Cloud
    evidence: dict[str, TailTable]
    fixes: TailTable
    track_parts: dict[str, TailTable]
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
        plain: evidence that needs no calibration: reports, gaps, approaches.
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
        score: (n,) -log10 of the combined share; for ranking.
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
    """
    misses = {length: predict_hidden(model, fixes, length, members=members, seed=seed) for length in lengths}
    begin, end = stretches(fixes)
    vectors = embed_stretches(embedder or KinematicEmbedder(), fixes, begin, end)
    met = (traffic if traffic is not None else Traffic.of(fixes)).around(fixes)
    return Asked(misses, begin, end, vectors, [*report_evidence(fixes), met])


def calibrate(
    fixes: Fixes,
    model: MotionModel,
    embedder: Embedder | None = None,
    *,
    lengths: Sequence[int] = LENGTHS,
    members: int = 16,
    seed: int = 0,
    traffic: Traffic | None = None,
) -> Calibration:
    """Learn from clean tracks how large each kind of evidence is when nothing is wrong.

    Args: as of ``ask``; the fixes should be of vessels that the model was not trained on, or it will be too sure.

    Raises:
        UsageError: fewer than ``FEWEST_VESSELS`` vessels, or none under way for long enough to be asked.
    """
    embedder = embedder or KinematicEmbedder()
    part = _part(fixes)
    counts = tuple(len(np.unique(_owner(fixes)[part == k])) for k in range(PARTS))
    if min(counts) < FEWEST_VESSELS // PARTS:
        raise UsageError(
            f"a calibration needs {FEWEST_VESSELS} vessels or more, these are {sum(counts)}: give more clean tracks"
        )
    asked = ask(fixes, model, embedder, lengths=lengths, members=members, seed=seed, traffic=traffic)
    of_part = [part[fixes.track] == k for k in range(PARTS)]
    clean = of_part[0][asked.begin]
    if np.count_nonzero(clean) < 2 or not any(len(each.fix) for each in asked.misses.values()):
        raise UsageError("hardly a vessel of the calibration is under way: give tracks of moving vessels")
    scales = tuple(fit_scale(asked.misses[length].of(of_part[0]), length) for length in lengths)
    group = fixes.group[fixes.track[asked.begin]]
    cloud = fit_cloud(asked.vectors[clean], group[clean], seed=seed)
    tables = _fit_tables(fixes, _evidence(fixes, asked, scales, cloud), of_part)
    return Calibration(
        model=model.name,
        embedder=embedder.name,
        lengths=tuple(lengths),
        members=members,
        seed=seed,
        scales=scales,
        cloud=cloud,
        vessels=counts,
        fixes_seen=tuple(int(rows.sum()) for rows in of_part),
        **tables,
    )


def judge(fixes: Fixes, asked: Asked, calibration: Calibration) -> Judged:
    """Turn what was asked into scores and p-values."""
    evidence = _evidence(fixes, asked, calibration.scales, calibration.cloud)
    tails = _tails(fixes, evidence, calibration.evidence)
    score = cauchy_combination(tails)
    parts = track_statistics(fixes, score)
    of_tracks = track_classes(fixes)
    shares = [calibration.track_parts[name].log_tail(parts[name], of_tracks) for name in TRACK_PARTS]
    whole = cauchy_combination(np.stack(shares, 1))
    p_value = calibration.fixes.p_value(score, fix_classes(fixes))
    return Judged(evidence, tails, score, p_value, whole, calibration.tracks.p_value(whole, of_tracks))


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


def track_statistics(fixes: Fixes, score: Floats) -> dict[str, Floats]:
    """Largest score of a fix of each track, of the mean of a run of ``RUN`` fixes, and the mean of all: (t,) each."""
    if not fixes.tracks:
        return {name: np.empty(0) for name in TRACK_PARTS}
    first, last = fixes.first[:-1], fixes.first[1:]
    total = np.concatenate([[0.0], np.cumsum(score)])
    # A run begins at every fix that has RUN - 1 followers in its track, or is the track where that is shorter.
    begin = np.arange(len(fixes))
    left = np.maximum(np.minimum(begin, last[fixes.track] - RUN), first[fixes.track])
    right = np.minimum(left + RUN, last[fixes.track])
    run = (total[right] - total[left]) / (right - left)
    mean = (total[last] - total[first]) / (last - first)
    return {"peak": np.maximum.reduceat(score, first), "run": np.maximum.reduceat(run, first), "mean": mean}


def _evidence(fixes: Fixes, asked: Asked, scales: Sequence[LengthScale], cloud: Cloud) -> dict[str, Evidence]:
    surprise, facts = best_surprise(scales, asked.misses, len(fixes))
    far, unlike = cloud.distances(asked.vectors, fixes.group[fixes.track[asked.begin]])
    spread = [spread_over_fixes(each, asked.begin, asked.end, len(fixes)) for each in (far, unlike)]
    found = [Evidence(POSITION, surprise, facts), *asked.plain, identity_evidence(fixes, spread[1])]
    return {each.kind: each for each in [*found, Evidence(BEHAVIOUR, spread[0])]}


def _tails(fixes: Fixes, evidence: Mapping[str, Evidence], tables: Mapping[str, TailTable]) -> Floats:
    out = np.full((len(fixes), len(KINDS)), np.nan)
    for column, kind in enumerate(KINDS):
        each = evidence[kind]
        out[:, column] = tables[kind].log_tail(each.value, fix_classes(fixes, each.band))
    return out


def _fit_tables(fixes: Fixes, evidence: Mapping[str, Evidence], of_part: Sequence[BoolArray]) -> dict[str, object]:
    """The tables of a calibration: tails of the second part, final p-values of the third."""
    owner = _owner(fixes)
    vessel = owner[fixes.track]
    tables = {
        kind: _fitted(each.value, vessel, fix_classes(fixes, each.band), of_part[1]) for kind, each in evidence.items()
    }
    score = cauchy_combination(_tails(fixes, evidence, tables))
    parts, kinds = track_statistics(fixes, score), track_classes(fixes)
    of_tracks = [rows[fixes.first[:-1]] for rows in of_part]
    track_parts = {name: _fitted(parts[name], owner, kinds, of_tracks[1]) for name in TRACK_PARTS}
    whole = cauchy_combination(np.stack([track_parts[name].log_tail(parts[name], kinds) for name in TRACK_PARTS], 1))
    return {
        "evidence": tables,
        "fixes": _fitted(score, vessel, fix_classes(fixes), of_part[2], FEWEST_FINAL),
        "track_parts": track_parts,
        "tracks": _fitted(whole, owner, kinds, of_tracks[2], FEWEST_FINAL),
    }


def _fitted(
    value: Floats, vessel: Ints, classes: Sequence[Ints], rows: BoolArray, fewest: int = FEWEST_OF_CLASS
) -> TailTable:
    return fit_tails(value[rows], vessel[rows], [codes[rows] for codes in classes], fewest=fewest)


def _owner(fixes: Fixes) -> Ints:
    """(t,) whose a track is; tracks without an identity are each their own."""
    return np.where(fixes.vessel_id < 0, -1 - np.arange(fixes.tracks), fixes.vessel_id)


def _part(fixes: Fixes) -> Ints:
    """(t,) 0, 1 or 2 by the vessel's identity (Knuth 1998, section 6.4: multiplicative hashing)."""
    mixed = _owner(fixes).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(40)) % np.uint64(PARTS)).astype(np.int64)
