"""The processing baseline of a Sentinel-2 scene: one rule for the table of scenes, duplicates and the offset."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pystac

NAME_KEYS = ("s2:product_uri", "sentinel2:product_title", "sentinel:product_id", "eopf:product_uri")
"""Properties that may hold the name of the product."""

_KEYS = (
    "s2:processing_baseline",
    "sentinel2:processing_baseline",
    "sentinel:processing_baseline",
    "processing:version",
)
_STATED = re.compile(r"[Nv]?(\d{1,2})\.(\d{1,2})")
_NAMED = re.compile(r"_N(\d{2})\.?(\d{2})(?:_|\.|$)")


def processing_baseline(item: pystac.Item, first: Sequence[str] = ()) -> str | None:
    """The baseline as "05.09" (texts compare in order): from the properties, else from the product's name.

    Args:
        item: the scene.
        first: properties that the catalogue states it in, asked before those that are usual elsewhere.

    Returns:
        None where nothing tells.
    """
    for key in (*first, *_KEYS):
        if match := _STATED.fullmatch(str(item.properties.get(key, "")).strip()):
            return f"{int(match[1]):02}.{int(match[2]):02}"
    for name in (*(str(item.properties.get(key, "")) for key in NAME_KEYS), item.id):
        if match := _NAMED.search(name):
            return f"{match[1]}.{match[2]}"
    return None
