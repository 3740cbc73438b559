"""How long: lengths of gaps and horizons, counted in fixes or told in minutes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from geodiff.schema import UsageError

_UNITS: Final = {
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86_400.0,
}
_WORD: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)")
LONGEST_S: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A length of a gap, or a horizon.

    Attributes:
        seconds: how long; 0 where it is counted.
        points: fixes hidden in a gap, or steps ahead; 0 where it is timed.
    """

    seconds: float = 0.0
    points: int = 0

    def __str__(self) -> str:
        """``3 points``, ``10 min``, ``1.5 h``."""
        if self.points:
            return f"{self.points} point{'s' * (self.points > 1)}"
        if self.seconds < 60:
            return f"{self.seconds:g} s"
        return f"{self.seconds / 60:g} min" if self.seconds < 3600 else f"{self.seconds / 3600:g} h"


def parse_spans(text: str, *, where: str) -> tuple[Span, ...]:
    """Read ``3,6,12 points``, ``3,6,12`` or ``10min,30min,1h,3h``; the unit of a bare number is the last one's.

    Args:
        text: of the option.
        where: its name, for the error.

    Returns:
        Rising spans without repetition, all counted or all timed.

    Raises:
        UsageError: no such list, or one that mixes both.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    found = [_WORD.fullmatch(word) for word in words]
    wrong = next((word for word, match in zip(words, found, strict=True) if match is None), None)
    if wrong is not None or not words:
        raise UsageError(f"{where} {wrong or text!r}: give lengths such as 3,6,12 points or 10min,1h")
    last = found[-1]["unit"] if found[-1] else ""
    spans = {_span(match["number"], match["unit"] or last, where) for match in found if match}
    if len({span.points > 0 for span in spans}) > 1:
        raise UsageError(f"{where} {text}: lengths are either counted in points or timed, not both")
    return tuple(sorted(spans))


def _span(number: str, unit: str, where: str) -> Span:
    value = float(number)
    if unit in ("", "p", "point", "points"):
        if value != int(value) or not 1 <= value <= 1000:
            raise UsageError(
                f"{where} {number}: points are counted from 1 to 1000; for times write {number}min or {number}h"
            )
        return Span(points=int(value))
    if unit not in _UNITS:
        raise UsageError(f"{where} {number}{unit}: units are points, s, min, h and d")
    seconds = value * _UNITS[unit]
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(f"{where} {number}{unit}: a length lies above 0 and up to 7 d")
    return Span(seconds=seconds)


def usual_spans(interval_s: float, *, task: str) -> tuple[Span, ...]:
    """What is asked of data of a usual interval between fixes when nobody says.

    Args:
        interval_s: median seconds between fixes of a track.
        task: ``impute`` or ``forecast``.
    """
    if interval_s > 900:
        return tuple(Span(points=n) for n in ((3, 6, 12) if task == "impute" else (1, 2, 3, 6, 12)))
    return tuple(Span(seconds=60.0 * n) for n in (10, 30, 60, 180))
