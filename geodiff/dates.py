"""Dates as users write them, read as moments in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from geodiff.schema import UsageError


def parse_interval(text: str) -> tuple[datetime, datetime]:
    """Read ``A/B``, or one date for a day (``2021-06-01``), a month (``2021-06``) or a year (``2021``), in UTC.

    Returns:
        (first, last) moments, both included.

    Raises:
        UsageError: not a date, or reversed.
    """
    parts = [part.strip() for part in text.split("/")]
    if len(parts) > 2:
        raise UsageError(f"datetime {text!r} has {len(parts)} parts: give A/B, for instance 2021-06-01/2021-08-31")
    first, last = _moment(parts[0], end=False), _moment(parts[-1], end=True)
    if first > last:
        raise UsageError(f"datetime {text!r} is reversed: give the earlier date first")
    return first, last


def _moment(text: str, *, end: bool) -> datetime:
    try:
        if len(text) > 10:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        if not re.fullmatch(r"\d{4}(-\d{2}){0,2}", text):
            raise ValueError(text)
        year, month, day = (int(part) for part in (text + "-01-01")[:10].split("-"))
        begin = datetime(year, month, day, tzinfo=UTC)
        after = {4: (begin.year + 1, 1, 1), 7: (begin.year + month // 12, month % 12 + 1, 1)}.get(len(text))
        following = datetime(*after, tzinfo=UTC) if after else begin + timedelta(days=1)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a date: give YYYY-MM-DD, for instance 2021-06-01") from None
    return following - timedelta(microseconds=1) if end else begin


def season_distance(days: Any) -> Any:
    """How far apart two days are for vegetation and light: the distance within the year, and a sixth of that in time.

    Ground a year away looks more alike than ground three months away; the weights are ours.

    Args:
        days: difference in days; a number, or an array or tensor of any shape.

    Returns:
        Of the same kind, in days, 0 for the same day.
    """
    within_year = abs((days + 182.625) % 365.25 - 182.625)
    return within_year + abs(days) / 6.0
