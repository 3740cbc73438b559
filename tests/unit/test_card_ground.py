"""What a card says of all ground that went into a model, and on which terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geodiff.config import catalogs_dir
from geodiff.imagery.places import TERMS
from geodiff.imagery.real_series import SERIES_TERMS
from geodiff.schema import UsageError
from geodiff.tasks.card_ground import all_ground, both_grounds, with_terms
from geodiff.tasks.leakage import Evidence, refuse_training_ground

FIRST: dict[str, Any] = {
    "places": ["worldstrat"],
    "training_places": ["worldstrat/a-1"],
    "training_footprints": {"worldstrat/a-1": [2.0, 41.0, 2.1, 41.1]},
    "training_digests": {"worldstrat/a-1": ["00", "01", "02"]},
    "terms": {"worldstrat": "CC BY-NC 4.0"},
}
SECOND: dict[str, Any] = {"places": ["ships"], "training_places": ["ships/b"], "training_digests": {"ships/b": ["03"]}}


def test_weights_keep_the_ground_of_every_training_before() -> None:
    tuned = SECOND | {"started_from": {"places": ["majortom"], "started_from": FIRST}}
    card = tuned | all_ground(tuned)
    assert card["places"] == ["majortom", "ships", "worldstrat"]
    assert card["training_places"] == ["majortom", "ships/b", "worldstrat/a-1"]
    for evidence in (
        Evidence("x", names=("worldstrat/a-1",)),
        Evidence("x", bbox=(2.05, 41.05, 2.3, 41.3)),
        Evidence("x", digests=frozenset({"00", "01", "02"})),
        Evidence("x", names=("majortom",)),
    ):
        with pytest.raises(UsageError, match="was seen in the training"):
            refuse_training_ground(card, evidence, model="tuned")
    assert with_terms(card)["terms"] == {
        "majortom": TERMS["majortom"],
        "ships": TERMS["ships"],
        "worldstrat": "CC BY-NC 4.0",
    }


def test_a_first_training_has_its_own_ground_alone() -> None:
    assert all_ground(FIRST) == {}


def test_one_place_of_two_trainings_has_the_evidence_of_both() -> None:
    other = {"training_footprints": {"p": [0, 0, 2, 1]}, "training_digests": {"p": ["b"]}}
    both = both_grounds({"training_footprints": {"p": [1, 0, 3, 3]}, "training_digests": {"p": ["a"]}}, other)
    assert both["training_footprints"] == {"p": [0, 0, 3, 3]}
    assert both["training_digests"] == {"p": ["a", "b"]}


def test_families_of_an_older_card_do_not_stand_beside_their_places() -> None:
    older = {"places": ["ships"]}
    assert both_grounds(SECOND, older)["training_places"] == ["ships/b"]
    assert both_grounds(older, older)["training_places"] == ["ships"]
    chain = SECOND | {"started_from": older | {"started_from": older | {"started_from": older}}}
    assert all_ground(chain)["training_places"] == ["ships/b"]


@pytest.mark.parametrize(
    "card", sorted((catalogs_dir() / "models").glob("*/weights.json")), ids=lambda p: p.parent.name
)
def test_shipped_cards_name_all_ground_already(card: Path) -> None:
    told = json.loads(card.read_text())
    found = all_ground(told)
    assert {name: told[name] for name in found if name != "terms"} == {n: v for n, v in found.items() if n != "terms"}


def test_terms_that_a_card_brings_are_kept_and_those_of_series_are_known() -> None:
    assert with_terms({"places": ["openeo", "mine"], "terms": {"openeo": "unknown"}})["terms"] == {
        "openeo": SERIES_TERMS["openeo"],
        "mine": "unknown",
    }
    older = {"places": ["openeo", "worldstrat"], "terms": "CC BY-NC"}
    assert with_terms(older)["terms"] == {"openeo": SERIES_TERMS["openeo"], "worldstrat": "CC BY-NC"}
