"""Intervals as users write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from geodiff.dates import parse_interval
from geodiff.schema import UsageError


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2021", datetime(2021, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)),
        ("2021-12", datetime(2021, 12, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)),
        ("2020-02-28/2020-02-29", datetime(2020, 2, 28, tzinfo=UTC), datetime(2020, 3, 1, tzinfo=UTC)),
    ],
)
def test_an_interval_holds_its_last_day_to_the_end(text: str, first: datetime, last: datetime) -> None:
    begin, end = parse_interval(text)
    assert begin == first
    assert 0 < (last - end).total_seconds() <= 1


def test_a_moment_is_read_in_its_own_zone() -> None:
    begin, end = parse_interval("2021-06-01T02:00:00+02:00/2021-06-01T00:00:00Z")
    assert begin == end == datetime(2021, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "/", "yesterday", "2021-13-01", "2021-02-30", "01/06/2021", "9999-12-31x", "20210601"]
)
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="date"):
        parse_interval(text)
