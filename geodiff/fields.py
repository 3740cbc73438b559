"""Fields of STAC items as strangers fill them: what is not of the right form counts as not said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real


def number(value: object) -> float | None:
    """A finite number; None for all else, such as texts, true, NaN, and integers beyond any float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def numbers(values: object) -> tuple[float, ...]:
    """A list of finite numbers; empty where it is none, or one member is none."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    found = tuple(known for value in values if (known := number(value)) is not None)
    return found if len(found) == len(values) else ()


def flat_box(values: object) -> tuple[float, float, float, float] | None:
    """(west, south, east, north) of a GeoJSON bbox, which may hold heights; None where it is none."""
    found = numbers(values)
    if len(found) not in (4, 6):
        return None
    west, south, east, north = *found[:2], *found[len(found) // 2 :][:2]
    return west, south, east, north
