"""The figures of the anomaly benchmark: false alarms, and what is found, over seeds and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geodiff.metrics.anomaly import Rate, auroc, average_precision, clustered_rate
from geodiff.schema import BoolArray
from geodiff.tasks.anomaly import COMBINED, UNTAUGHT, Altered, Found, Scores, ScoringSettings
from geodiff.vessels.scoring_fixes import Floats, Ints

RATES: Final = (0.1, 0.05, 0.02, 0.01, 0.005)
"""Nominal false-alarm rates that are held against the realised ones."""


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Realised against nominal rate. ``level``: ``fix``, ``fix under way`` or ``track``."""

    level: str
    nominal: float
    realised: Rate


def false_alarms(clean: Scores) -> list[FalseAlarms]:
    """How often clean fixes and tracks of the test are flagged at each nominal rate."""
    fixes, judged = clean.fixes, clean.judged
    vessel = fixes.vessel_id[fixes.track]
    way = ~fixes.moored
    levels = {
        "fix": (judged.p_value, vessel),
        "fix under way": (judged.p_value[way], vessel[way]),
        "track": (judged.track_p_value, fixes.vessel_id),
    }
    return [
        FalseAlarms(level, rate, clustered_rate(p_value <= rate, owner))
        for level, (p_value, owner) in levels.items()
        for rate in RATES
        if len(p_value)
    ]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the benchmark: means over the seeds and their deviations.

    Attributes:
        scorer, kind, level, ratio: of what; level is ``fix`` or ``track``.
        tracks: altered, mean over the seeds.
        auroc, auprc: mean and deviation over the seeds.
        found: share of what is anomalous that is flagged at the nominal rate; None for scorers without p-values.
    """

    scorer: str
    kind: str
    level: str
    ratio: float
    tracks: float
    auroc: tuple[float, float]
    auprc: tuple[float, float]
    found: tuple[float, float] | None


def figures(found: Found, settings: ScoringSettings) -> list[Figure]:
    """AUROC and AUPRC for each scorer, kind of anomaly, ratio, per fix and per track."""
    out = []
    for kind in settings.kinds:
        runs = [each for each in found.altered if each.kind == kind and len(each.tracks)]
        for ratio in settings.ratios if runs else ():
            sets = [mixture(found, run, ratio) for run in runs]
            count = float(np.mean([np.count_nonzero(each.track_label) for each in sets]))
            for scorer in scorers(runs[0]):
                for level in ("fix", "track"):
                    rows = [each.of(scorer, level, found.alpha) for each in sets]
                    told = [_mean([row[k] for row in rows]) for k in range(3)]
                    flagged = None if runs[0].scores.judged_by(scorer, kind) is None else told[2]
                    out.append(Figure(scorer, kind, level, ratio, count, told[0], told[1], flagged))
    return out


def scorers(run: Altered) -> list[str]:
    """Names of all scorers, the score itself and its twin that was not taught the kind first."""
    return list(dict.fromkeys([COMBINED, UNTAUGHT, *run.scores.fix]))


def _mean(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Clean tracks with a share of altered ones in the place of their originals."""

    clean: Scores
    kept_tracks: BoolArray
    run: Altered
    chosen: Ints
    track_label: BoolArray

    def values(self, scorer: str, level: str) -> Floats:
        """Scores of the clean, then of the altered."""
        kind, track = self.run.kind, level == "track"
        clean = self.clean.of(scorer, level, kind)[self.kept_tracks if track else self.kept_fixes]
        altered = self.run.scores.of(scorer, level, kind)[self.chosen if track else self.chosen_fixes]
        return np.concatenate([clean, altered])

    @property
    def kept_fixes(self) -> BoolArray:
        """Clean fixes under way: moored vessels are summarised, not modelled, and no anomaly is put there."""
        fixes = self.clean.fixes
        return self.kept_tracks[fixes.track] & ~fixes.moored

    @property
    def chosen_fixes(self) -> BoolArray:
        """Fixes under way of the altered tracks, and all anomalous ones."""
        scores = self.run.scores
        return np.isin(scores.fixes.track, self.chosen) & (~scores.fixes.moored | scores.label)

    @property
    def fix_label(self) -> BoolArray:
        """Which of the clean and altered fixes are anomalous."""
        return np.concatenate(
            [np.zeros(np.count_nonzero(self.kept_fixes), bool), self.run.scores.label[self.chosen_fixes]]
        )

    def of(self, scorer: str, level: str, alpha: float) -> tuple[float, float, float]:
        """AUROC, AUPRC, and the share of what is anomalous whose p-value is at most ``alpha``."""
        label = self.track_label if level == "track" else self.fix_label
        values = self.values(scorer, level)
        return auroc(values, label), average_precision(values, label), self._flagged(scorer, level, alpha)

    def _flagged(self, scorer: str, level: str, alpha: float) -> float:
        """Share of what is anomalous; NaN of scorers that tell no p-values."""
        judged = self.run.scores.judged_by(scorer, self.run.kind)
        if judged is None:
            return float("nan")
        if level == "track":
            p_value = judged.track_p_value[self.chosen]
        else:
            p_value = judged.p_value[self.chosen_fixes & self.run.scores.label]
        return float(np.mean(p_value <= alpha))


def mixture(found: Found, run: Altered, ratio: float) -> Mixture:
    """Replace a share of the clean tracks of the pool by altered ones; all that there are where these are fewer."""
    count = max(round(ratio * int(found.pool.sum())), 1)
    chosen = run.tracks[:count]
    names = run.scores.fixes.track_id[chosen].tolist()
    kept = found.pool & ~np.isin(found.clean.fixes.track_id.astype(str), np.array(names, str))
    track_label = np.concatenate([np.zeros(np.count_nonzero(kept), bool), np.ones(len(chosen), bool)])
    return Mixture(found.clean, kept, run, chosen, track_label)
