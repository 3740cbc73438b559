"""Calibrate anomaly scores on clean tracks: how large each kind of evidence is when nothing is wrong.

Vessels are divided in four, so that nothing is compared with what it was fitted to: scales and clouds; tails of
evidence; weights, for which anomalies are put into tracks; the final p-values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl

from geodiff.schema import BoolArray, UsageError
from geodiff.tracks import ANOMALOUS, MotionModel
from geodiff.vessels.inject import INJECTED, can_take, inject
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


class TooFewVessels(UsageError):
    """What is usual cannot be told from so few vessels."""


def learn(
    cleaned: pl.DataFrame,
    model: MotionModel,
    embedder: Embedder | None = None,
    *,
    lengths: Sequence[int] = LENGTHS,
    members: int = 16,
    seed: int = 0,
    traffic: Traffic | None = None,
    routes: Routes | None = None,
) -> Lessons:
    """What a calibration is made from: evidence on clean tracks, and on the same with anomalies of each kind.

    Args:
        cleaned: columns of ``geodiff.tracks``, of vessels that the model was not trained on, or it will be too sure.
        Others as of ``ask``.

    Raises:
        TooFewVessels: fewer than ``FEWEST_VESSELS`` vessels, or none under way for long enough to be asked.
    """
    embedder, fixes = embedder or KinematicEmbedder(), Fixes.from_table(cleaned)
    part, owner = _part(fixes), fixes.owner
    counts = tuple(len(np.unique(owner[part == k])) for k in range(len(SHARES)))
    if sum(counts) < FEWEST_VESSELS or min(counts) < 2:
        raise TooFewVessels(
            f"a calibration needs {FEWEST_VESSELS} vessels or more, these are {sum(counts)}; it parts them by identity "
            f"into {len(SHARES)}, with two in each, and has {min(counts)} in one: give more clean tracks"
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
    tables = {
        kind: _fitted(each.value, owner[fixes.track], fix_classes(fixes, each.band), of_part[1])
        for kind, each in evidence.items()
    }

    def tails_of(table: Fixes) -> Floats:
        return evidence_tails(table, gather_evidence(table, asking(table), scales, cloud), tables)

    seen, plain = fix_views(fixes, evidence_tails(fixes, evidence, tables))
    common = {
        "model": model.name,
        "embedder": embedder.name,
        "lengths": tuple(lengths),
        "members": members,
        "seed": seed,
        "routes": routes.digest if routes is not None else "",
        "scales": scales,
        "cloud": cloud,
        "evidence": tables,
        "vessels": counts,
        "fixes_seen": tuple(int(rows.sum()) for rows in of_part),
    }
    strange = _strange(cleaned[fixes.row[of_part[2]].tolist()], tails_of, seed)
    able = np.zeros(fixes.tracks, bool)
    able[fixes.track[can_take(fixes)[:, 0]]] = True
    return Lessons(fixes, seen, plain, of_part[2], of_part[-1], able, strange, common)


def _fit_scales(
    fixes: Fixes, asked: Asked, rows: BoolArray, lengths: Sequence[int], seed: int
) -> tuple[tuple[LengthScale, ...], Cloud]:
    clean = rows[asked.begin]
    if np.count_nonzero(clean) < 2 or not any(len(each.fix) for each in asked.misses.values()):
        raise TooFewVessels("hardly a vessel of the calibration is under way: give tracks of moving vessels")
    scales = tuple(fit_scale(asked.misses[length].of(rows), length) for length in lengths)
    group = fixes.group[fixes.track[asked.begin]]
    return scales, fit_cloud(asked.vectors[clean], group[clean], seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class Strange:
    """Tracks with anomalies of one kind.

    Attributes:
        fixes: n of them.
        seen, plain: of them, from ``fix_views``.
        label: (n,) True for an anomalous fix.
    """

    fixes: Fixes
    seen: Floats
    plain: Floats
    label: BoolArray


def _strange(table: pl.DataFrame, tails_of: Callable[[Fixes], Floats], seed: int) -> dict[str, Strange]:
    """Clean tracks with each kind of anomaly that they can take."""
    share = min(1.0, MOST_INJECTED / max(Fixes.from_table(table).tracks, 1))
    out = {}
    for kind in INJECTED:
        made = inject(table, kind, share=share, seed=seed).fixes
        if made.height:
            fixes = Fixes.from_table(made)
            out[kind] = Strange(fixes, *fix_views(fixes, tails_of(fixes)), made[ANOMALOUS].to_numpy()[fixes.row])
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What is known before it is decided which kinds of anomalies are taught.

    Attributes:
        fixes: n clean ones.
        seen, plain: of them, from ``fix_views``.
        weigh, judge: (n,) bool, which of them weights are learned on, and which final p-values.
        able: (t,) bool, tracks that can take an anomaly.
        strange: tracks with anomalies, by kind.
        common: the entries of a calibration that do not depend on the kinds.
    """

    fixes: Fixes
    seen: Floats
    plain: Floats
    weigh: BoolArray
    judge: BoolArray
    able: BoolArray
    strange: Mapping[str, Strange]
    common: Mapping[str, Any]

    def calibration(self, kinds: Sequence[str] = INJECTED) -> Calibration:
        """The calibration that has seen anomalies of these kinds alone."""
        fixes, owner = self.fixes, self.fixes.owner
        of_fixes, of_tracks = self._heads({kind: each for kind, each in self.strange.items() if kind in kinds})
        weighted = of_fixes.score(self.seen, self.plain)
        whole = of_tracks.score(*track_views(fixes, self.seen, weighted))
        last, vessel = self.judge, owner[fixes.track]
        return Calibration(
            **self.common,
            fix_heads=of_fixes,
            track_heads=of_tracks,
            fixes=_fitted(weighted, vessel, fix_classes(fixes), last, FEWEST_FINAL["fixes"]),
            tracks=_fitted(whole, owner, track_classes(fixes), last[fixes.first[:-1]], FEWEST_FINAL["tracks"]),
        )

    def _heads(self, strange: Mapping[str, Strange]) -> tuple[Heads, Heads]:
        """Heads of fixes under way, and of tracks that can take an anomaly."""
        fixes = self.fixes
        of_fixes = fit_heads(
            self.seen[self.weigh & ~fixes.moored], {kind: each.seen[each.label] for kind, each in strange.items()}
        )
        able = self.able & self.weigh[fixes.first[:-1]]
        whole = track_views(fixes, self.seen, of_fixes.score(self.seen, self.plain))[0]
        views = {
            kind: track_views(each.fixes, each.seen, of_fixes.score(each.seen, each.plain))[0]
            for kind, each in strange.items()
        }
        return of_fixes, fit_heads(whole[able], views)


def _fitted(
    value: Floats, vessel: Ints, classes: Sequence[Ints], rows: BoolArray, fewest: int = FEWEST_OF_CLASS
) -> TailTable:
    return fit_tails(value[rows], vessel[rows], [codes[rows] for codes in classes], fewest=fewest)


def _part(fixes: Fixes) -> Ints:
    """(t,) part by the vessel's identity, in ``SHARES`` (Knuth 1998, section 6.4: multiplicative hashing)."""
    mixed = fixes.owner.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    place = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.searchsorted(np.cumsum(SHARES[:-1]), place, side="right").astype(np.int64)
