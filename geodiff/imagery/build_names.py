"""What names of files and folders tell: the date of a scene, and which band a file holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

FIRST_YEAR, LAST_YEAR = 1970, 2099

_DATE = re.compile(
    r"(?<!\d)(?P<y>\d{4})(?P<s>[-_.]?)(?P<m>\d{2})(?P=s)(?P<d>\d{2})"
    r"(?:[T _-]?(?P<H>\d{2})[:_-]?(?P<M>\d{2})[:_-]?(?P<S>\d{2}))?(?!\d)"
)
_BAND = re.compile(r"(?:^|[_\-. ])(?P<name>B\d{1,2}A?|SCL|CLDPRB|CLD|CLM|AOT|WVP|TCI|NDVI)(?=$|[_\-. ])", re.IGNORECASE)
_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "DATETIME", "DATE", "SENSING_TIME", "TIFFTAG_DATETIME", "time")
NOT_REFLECTANCE = frozenset(
    {"SCL", "CLM", "CLD", "CLDPRB", "CLOUD", "CLOUD_MASK", "MASK", "VALID", "AOT", "WVP", "TCI"}
)
"""Bands whose numbers are codes, percents, colours or other quantities, and never become reflectance."""


def date_in(text: str) -> datetime | None:
    """The first date in a text, UTC: 2020-01-13, 20200113, 2020_01_13, 20200604T054639 and the like."""
    for match in _DATE.finditer(text):
        parts = [int(match[key] or 0) for key in ("y", "m", "d", "H", "M", "S")]
        try:
            found = datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]
        except ValueError:
            continue
        if FIRST_YEAR <= found.year <= LAST_YEAR:
            return found
    return None


def date_of(names: Iterable[str], tags: Mapping[str, str]) -> datetime | None:
    """The first date that names tell (best first), else that metadata tell."""
    texts = [*names, *(tags[key].replace(":", "-", 2) for key in _TAGS if key in tags)]
    return next((found for text in texts if (found := date_in(text))), None)


def band_in(name: str) -> str | None:
    """The band in a file's stem or a variable's name, in our spelling: "B2" and "T33_B02_10m" are B02."""
    found = [match["name"].upper() for match in _BAND.finditer(name)]
    return normal_band(found[-1]) if found else None


def normal_band(name: str) -> str:
    """Our spelling of a Sentinel-2 band (B8 -> B08); other names stay as they are."""
    match = re.fullmatch(r"[Bb](\d{1,2})([Aa]?)", name)
    if not match:
        return name
    return f"B{match[1]}A" if match[2] else f"B{int(match[1]):02d}"


def is_class(band: str) -> bool:
    """Whether the numbers of a band are codes and the like, not reflectance."""
    return band.upper() in NOT_REFLECTANCE


def slug(text: str) -> str:
    """A text that is safe as an id and as the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "scenes"
