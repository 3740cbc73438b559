"""Calibrate anomaly scores on clean tracks: how large each kind of evidence is when nothing is wrong.

Vessels are divided in four, so that nothing is compared with what it was fitted to: scales and clouds; tails of
evidence; weights, for which anomalies are put into tracks; the final p-values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from geodiff.schema import BoolArray, UsageError
from geodiff.tracks import MotionModel
from geodiff.vessels.inject import ANOMALOUS, INJECTED, can_take, inject
from geodiff.vessels.scoring import (
    LENGTHS,
    Asked,
    Calibration,
    ask,
    evidence_tails,
    fix_classes,
    gather_evidence,
    track_classes,
)
from geodiff.vessels.scoring_embed import Cloud, Embedder, KinematicEmbedder, fit_cloud
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints
from geodiff.vessels.scoring_routes import Routes
from geodiff.vessels.scoring_scale import LengthScale, fit_scale
from geodiff.vessels.scoring_tails import FEWEST_OF_CLASS, TailTable, fit_tails
from geodiff.vessels.scoring_traffic import Traffic
from geodiff.vessels.scoring_weights import Heads, fit_heads, fix_views, track_views

SHARES: Final = (0.2, 0.2, 0.2, 0.4)
"""Of the vessels: for scales and clouds, tails of evidence, weights, and final p-values, which need most."""

FEWEST_VESSELS: Final = 30
"""Vessels that a calibration needs."""

FEWEST_FINAL: Final = {"fixes": 200, "tracks": 400}
"""Vessels of a class of its own in the tables of final p-values. Fewer would halve a rate of half a percent; but of
fixes vessels under way must not be judged by moored ones, or they are flagged three times too often."""

MOST_INJECTED: Final = 400
"""Tracks that each kind of anomaly is put into to learn what the evidence counts."""


def calibrate(
    cleaned: pl.DataFrame,
    model: MotionModel,
    embedder: Embedder | None = None,
    *,
    lengths: Sequence[int] = LENGTHS,
    members: int = 16,
    seed: int = 0,
    traffic: Traffic | None = None,
    routes: Routes | None = None,
) -> Calibration:
    """Learn from clean tracks how large each kind of evidence is when nothing is wrong.

    Args:
        cleaned: columns of ``geodiff.tracks``, of vessels that the model was not trained on, or it will be too sure.
        Others as of ``ask``.

    Raises:
        UsageError: fewer than ``FEWEST_VESSELS`` vessels, or none under way for long enough to be asked.
    """
    embedder, fixes = embedder or KinematicEmbedder(), Fixes.from_table(cleaned)
    part, owner = _part(fixes), _owner(fixes)
    counts = tuple(len(np.unique(owner[part == k])) for k in range(len(SHARES)))
    if sum(counts) < FEWEST_VESSELS or min(counts) < 2:
        raise UsageError(
            f"a calibration needs {FEWEST_VESSELS} vessels or more, these are {sum(counts)}: give more clean tracks"
        )
    asking = partial(
        ask,
        model=model,
        embedder=embedder,
        lengths=lengths,
        members=members,
        seed=seed,
        traffic=traffic if traffic is not None else Traffic.of(fixes),
        routes=routes,
    )
    asked, of_part = asking(fixes), [part[fixes.track] == k for k in range(len(SHARES))]
    scales, cloud = _fit_scales(fixes, asked, of_part[0], lengths, seed)
    evidence = gather_evidence(fixes, asked, scales, cloud)
    vessel = owner[fixes.track]
    tables = {
        kind: _fitted(each.value, vessel, fix_classes(fixes, each.band), of_part[1]) for kind, each in evidence.items()
    }

    def tails_of(table: Fixes) -> Floats:
        return evidence_tails(table, gather_evidence(table, asking(table), scales, cloud), tables)

    seen, plain = fix_views(fixes, evidence_tails(fixes, evidence, tables))
    learning = _Learning(fixes, seen, plain, of_part[2])
    heads = learning.heads(cleaned[fixes.row[of_part[2]].tolist()], tails_of, seed)
    weighted = heads[0].score(seen, plain)
    whole = heads[1].score(*track_views(fixes, seen, weighted))
    last = of_part[-1]
    return Calibration(
        model=model.name,
        embedder=embedder.name,
        lengths=tuple(lengths),
        members=members,
        seed=seed,
        routes=routes.digest if routes is not None else "",
        scales=scales,
        cloud=cloud,
        evidence=tables,
        fix_heads=heads[0],
        track_heads=heads[1],
        fixes=_fitted(weighted, vessel, fix_classes(fixes), last, FEWEST_FINAL["fixes"]),
        tracks=_fitted(whole, owner, track_classes(fixes), last[fixes.first[:-1]], FEWEST_FINAL["tracks"]),
        vessels=counts,
        fixes_seen=tuple(int(rows.sum()) for rows in of_part),
    )


def _fit_scales(
    fixes: Fixes, asked: Asked, rows: BoolArray, lengths: Sequence[int], seed: int
) -> tuple[tuple[LengthScale, ...], Cloud]:
    clean = rows[asked.begin]
    if np.count_nonzero(clean) < 2 or not any(len(each.fix) for each in asked.misses.values()):
        raise UsageError("hardly a vessel of the calibration is under way: give tracks of moving vessels")
    scales = tuple(fit_scale(asked.misses[length].of(rows), length) for length in lengths)
    group = fixes.group[fixes.track[asked.begin]]
    return scales, fit_cloud(asked.vectors[clean], group[clean], seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Learning:
    """Clean fixes that weights are learned on: what is seen of them, and which are of the part for it."""

    fixes: Fixes
    seen: Floats
    plain: Floats
    rows: BoolArray

    def heads(self, table: pl.DataFrame, tails_of: Callable[[Fixes], Floats], seed: int) -> tuple[Heads, Heads]:
        """Heads of fixes under way, and of tracks that can take an anomaly, from injections into ``table``."""
        mine = Fixes.from_table(table)
        share = min(1.0, MOST_INJECTED / max(mine.tracks, 1))
        made = {kind: inject(table, kind, share=share, seed=seed).fixes for kind in INJECTED}
        altered = {kind: Fixes.from_table(each) for kind, each in made.items() if each.height}
        views = {kind: fix_views(each, tails_of(each)) for kind, each in altered.items()}
        label = {kind: made[kind][ANOMALOUS].to_numpy()[each.row] for kind, each in altered.items()}
        clean = self.rows & ~self.fixes.moored
        of_fixes = fit_heads(self.seen[clean], {kind: views[kind][0][label[kind]] for kind in altered})
        able = np.zeros(self.fixes.tracks, bool)
        able[self.fixes.track[can_take(self.fixes)[:, 0]]] = True
        able &= self.rows[self.fixes.first[:-1]]
        whole = track_views(self.fixes, self.seen, of_fixes.score(self.seen, self.plain))[0]
        strange = {
            kind: track_views(each, views[kind][0], of_fixes.score(*views[kind]))[0] for kind, each in altered.items()
        }
        return of_fixes, fit_heads(whole[able], strange)


def _fitted(
    value: Floats, vessel: Ints, classes: Sequence[Ints], rows: BoolArray, fewest: int = FEWEST_OF_CLASS
) -> TailTable:
    return fit_tails(value[rows], vessel[rows], [codes[rows] for codes in classes], fewest=fewest)


def _owner(fixes: Fixes) -> Ints:
    """(t,) whose a track is; tracks without an identity are each their own."""
    return np.where(fixes.vessel_id < 0, -1 - np.arange(fixes.tracks), fixes.vessel_id)


def _part(fixes: Fixes) -> Ints:
    """(t,) 0, 1 or 2 by the vessel's identity, in ``SHARES`` (Knuth 1998, section 6.4: multiplicative hashing)."""
    mixed = _owner(fixes).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    place = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.searchsorted(np.cumsum(SHARES[:-1]), place, side="right").astype(np.int64)
