"""What the card of a model says of all ground that went into it: its own training's, and that of weights before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodiff.imagery.places import TERMS as PLACE_TERMS
from geodiff.imagery.real_series import SERIES_TERMS
from geodiff.tasks.leakage import DIGESTS, FOOTPRINTS, PLACES

TERMS = "terms"
"""Key of a card: by place, on which terms its images may be used."""

STARTED_FROM = "started_from"
"""Key of a card: that of the weights which a training began with."""

UNKNOWN = "unknown"

COLLECTION = {**PLACE_TERMS, **SERIES_TERMS}
"""Terms of the places of the project's data folder."""


def both_grounds(card: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the training ground of two models that go together, and on which terms it may be used.

    Args:
        card: of one, with any of ``places``, ``terms`` and the witnesses of ``leakage.describe_ground``.
        other: of the other.
    """
    families = sorted({*other.get("places", []), *card.get("places", [])})
    names = {"places": families, PLACES: sorted({*_named(other, card), *_named(card, other)})}
    tables = {key: {**other.get(key, {}), **card.get(key, {})} for key in (FOOTPRINTS, DIGESTS)}
    for place in other.get(DIGESTS, {}).keys() & card.get(DIGESTS, {}).keys():
        tables[DIGESTS][place] = sorted({*other[DIGESTS][place], *card[DIGESTS][place]})
    for place in other.get(FOOTPRINTS, {}).keys() & card.get(FOOTPRINTS, {}).keys():
        (west, south, east, north), more = other[FOOTPRINTS][place], card[FOOTPRINTS][place]
        widest = [min(west, more[0]), min(south, more[1]), max(east, more[2]), max(north, more[3])]
        tables[FOOTPRINTS][place] = widest
    terms = _told_terms(other) | _told_terms(card)
    return {**names, **tables, **({TERMS: terms} if terms else {})}


def _named(card: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Places of a card; of an older one, which names families alone, those of which the other names no place either."""
    told = other.get("places", []) if other.get(PLACES) else []
    return list(card.get(PLACES) or [family for family in card.get("places", []) if family not in told])


def all_ground(card: Mapping[str, Any]) -> dict[str, Any]:
    """``both_grounds`` of a card and of all weights that it began with; empty where it began with none.

    What weights have seen they keep: whoever trains them further on other ground does not make the first unseen.
    """
    found: dict[str, Any] = {}
    before = card.get(STARTED_FROM)
    while before:
        found = both_grounds({**card, **found}, before)
        before = before.get(STARTED_FROM)
    return found


def with_terms(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the terms of the data that it names: those that it brings, and those of the collection."""
    known = COLLECTION | _told_terms(card)
    return {**card, TERMS: {place: known.get(place, UNKNOWN) for place in card.get("places", [])}}


def _told_terms(card: Mapping[str, Any]) -> dict[str, str]:
    """Terms that a card knows, by place."""
    told = card.get(TERMS) or {}
    if isinstance(told, str):  # cards of WorldStrat told those of their one place
        told = {place: told for place in card.get("places", []) if place not in COLLECTION}
    return {place: terms for place, terms in told.items() if terms != UNKNOWN}
