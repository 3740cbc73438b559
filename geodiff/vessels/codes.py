"""Codes of ITU-R M.1371-5 for the texts that sources print: ship types (table 53), navigational status (table 45)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

SHIP_TYPE_WORDS: tuple[tuple[int | None, tuple[str, ...]], ...] = (
    (None, ("unknown", "undefined", "unspecified", "reserved", "not available", "spare")),
    (80, ("tanker",)),
    (60, ("passenger", "cruise", "ferry")),
    (40, ("high speed", "hsc")),
    (20, ("wing in ground", "wig")),
    (30, ("fish", "trawler")),
    (32, ("towing long", "towing exceeds")),
    (31, ("towing",)),
    (33, ("dredg", "hopper", "trenching", "underwater")),
    (34, ("diving",)),
    (35, ("military", "naval")),
    (36, ("sailing",)),
    (37, ("pleasure", "yacht", "recreation")),
    (50, ("pilot",)),
    (51, ("search and rescue", "sar")),
    (52, ("tug",)),
    (53, ("port tender",)),
    (54, ("pollution",)),
    (55, ("law enforce", "police")),
    (58, ("medical", "hospital")),
    (59, ("not party to conflict", "noncombatant", "according to rr")),
    (70, ("cargo", "container", "bulk", "reefer", "carrier", "heavy lift", "ro ro", "freight")),
    (90, ("other", "supply", "special", "research", "utility", "support", "fire fighting", "local vessel", "tender")),
)
"""Code -> how a text of that type begins a word; the first line that fits counts. None: the source does not know."""

STATUS_WORDS: tuple[tuple[int | None, tuple[str, ...]], ...] = (
    (None, ("undefined", "not defined", "unknown", "default", "not available")),
    (0, ("under way using engine", "underway using engine")),
    (8, ("under way sailing", "underway sailing")),
    (1, ("at anchor", "anchored")),
    (2, ("not under command",)),
    (3, ("restricted man",)),
    (4, ("constrained by",)),
    (5, ("moored",)),
    (6, ("aground",)),
    (7, ("engaged in fishing", "fishing")),
    (9, ("reserved for future amendment of navigational status for ships carrying dg", "reserved for future use hsc")),
    (11, ("power driven vessel towing",)),
    (12, ("power driven vessel pushing",)),
    (14, ("ais sart",)),
)

UNKNOWN = -1
"""A text that the tables do not know."""

HASHED_FROM = 1 << 62
"""Identities made of texts lie from here up, far from every MMSI and every number of a source."""

_NOT_WORD = re.compile(r"[^a-z0-9]+")


def plain(text: str) -> str:
    """Lower-case words with single blanks: ``Ro-Ro/Passenger Ship`` -> ``ro ro passenger ship``."""
    return _NOT_WORD.sub(" ", text.casefold()).strip()


def codes_of(
    texts: Iterable[str], words: tuple[tuple[int | None, tuple[str, ...]], ...], own: Mapping[str, int]
) -> dict[str, int | None]:
    """Code of each text, of the layout's ``own`` table, else of ``words``; None: not available; ``UNKNOWN``."""
    mine = {plain(key): code for key, code in own.items()}
    return {text: mine[plain(text)] if plain(text) in mine else _code_of(plain(text), words) for text in texts}


def _code_of(text: str, words: tuple[tuple[int | None, tuple[str, ...]], ...]) -> int | None:
    padded = f" {text}"
    for code, beginnings in words:
        if not text or any(f" {beginning}" in padded for beginning in beginnings):
            return code
    return UNKNOWN


def identity_of(text: str) -> int:
    """A positive int64 that is the same on every machine: the number a text spells, or 62 bits of its BLAKE2b hash."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and text[0] != "0":
        return int(text)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return HASHED_FROM | (int.from_bytes(digest, "big") & (HASHED_FROM - 1))
