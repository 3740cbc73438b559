"""How often a classifier of real tracks is right about made ones, against how often it is about real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.rng import generator
from geodiff.tasks.evaluate_generate_classifier import Classifier, fit_classifier
from geodiff.tasks.evaluate_generate_features import features_of
from geodiff.tasks.track_pieces import Pieces
from geodiff.tracks import SHIP_GROUPS
from geodiff.vessels.windows_draw import BEHAVIOURS, STILL

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.9
FEWEST_TEST, FEWEST_VESSELS, FEWEST_LEARNED = 20, 5, 50
"""Windows and vessels that a class needs to be told apart from others."""

NO_CLASS = ("unknown", "other")
"""Ship groups that name no way of moving."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What a classifier is asked.

    Attributes:
        name: "group" or "behaviour".
        classifier: trained on real windows.
        rows: (n,) of the test windows that are asked about.
        label: (n,) their classes, as asked for.
        vessel: (n,) number of the vessel of each.
    """

    name: str
    classifier: Classifier
    rows: Ints
    label: Ints
    vessel: Ints

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the tables."""
        words = SHIP_GROUPS if self.name == "group" else BEHAVIOURS
        return tuple(words[each] for each in np.unique(self.label))

    def answers(self, pieces: Pieces) -> Ints:
        """(n,) predicted classes of the asked rows of windows like the test's."""
        return self.classifier.predict(features_of(pieces.take(self.rows)))


def questions(test: Pieces, learned: Pieces, seed: int) -> list[Question]:
    """Ship group, among windows that do not lie still, and behaviour; a question with under two classes is left out.

    A vessel that lies still shows nothing of its type.
    """
    known = features_of(learned)
    found = []
    for name in ("group", "behaviour"):
        label, taught = getattr(test, name), getattr(learned, name)
        counts = name == "behaviour", test.behaviour != STILL, learned.behaviour != STILL
        rows, lessons = (np.flatnonzero(counts[0] | each) for each in counts[1:])
        classes = _classes(name, (label[rows], test.vessel_id[rows]), taught[lessons])
        rows, lessons = rows[np.isin(label[rows], classes)], lessons[np.isin(taught[lessons], classes)]
        if len(classes) < 2:
            continue
        classifier = fit_classifier(known[lessons], taught[lessons], learned.vessel_id[lessons], seed=seed)
        vessel = np.unique(test.vessel_id[rows], return_inverse=True)[1]
        found.append(Question(name, classifier, rows, label[rows], vessel))
    return found


def _classes(name: str, asked: tuple[Ints, Ints], taught: Ints) -> Ints:
    label, vessel = asked
    none = [SHIP_GROUPS.index(each) for each in NO_CLASS] if name == "group" else [0]
    kept = [
        each
        for each in np.unique(label)
        if each not in none
        and (label == each).sum() >= FEWEST_TEST
        and len(np.unique(vessel[label == each])) >= FEWEST_VESSELS
        and (taught == each).sum() >= FEWEST_LEARNED
    ]
    return np.array(kept, np.int64)


def accuracy(question: Question, made: Ints, real: Ints, seed: int) -> dict[str, Any]:
    """Balanced accuracy on made and on real windows, their ratio, and what is taken for what.

    Intervals come from drawing the vessels again (Field & Welsh 2007); made and real windows go with their vessel.

    Args:
        question: with the labels.
        made, real: (n,) answers about made and real windows.
        seed: of the draws.
    """
    classes = np.unique(question.label)
    total, right_made, right_real = (
        _counts(question, each) for each in (np.ones(len(made), bool), made == question.label, real == question.label)
    )
    vessels = len(total)
    weight = generator(seed, "bootstrap").multinomial(vessels, np.full(vessels, 1 / vessels), size=DRAWS)
    drawn = [_balanced(weight @ right, weight @ total) for right in (right_made, right_real)]
    whole = [float(_balanced(right.sum(0), total.sum(0))) for right in (right_made, right_real)]
    chance = 1 / len(classes)
    return {
        "classes": list(question.classes),
        "windows": len(made),
        "vessels": vessels,
        "chance": chance,
        "accuracy": _figure(whole[0], drawn[0]),
        "real": _figure(whole[1], drawn[1]),
        "ratio": _figure(whole[0] / max(whole[1], 1e-9), drawn[0] / np.maximum(drawn[1], 1e-9)),
        "above_chance": (whole[0] - chance) / (whole[1] - chance) if whole[1] > chance else None,
        "confusion": [[float((made[question.label == each] == other).mean()) for other in classes] for each in classes],
    }


def _counts(question: Question, chosen: npt.NDArray[np.bool_]) -> Floats:
    """(vessels, classes) windows that are chosen."""
    classes, column = np.unique(question.label, return_inverse=True)
    out = np.zeros((int(question.vessel.max()) + 1, len(classes)))
    np.add.at(out, (question.vessel, column), chosen.astype(float))
    return out


def _balanced(right: Floats, total: Floats) -> Floats:
    """Mean over the classes that are there of the share that is right."""
    share = np.where(total > 0, right / np.maximum(total, 1), np.nan)
    out: Floats = np.nanmean(share, axis=-1)
    return out


def _figure(value: float, drawn: Floats) -> dict[str, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"mean": value, "low": float(low), "high": float(high)}
