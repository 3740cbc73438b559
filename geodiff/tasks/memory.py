"""Keep the resident memory of a long run near what it really uses."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library than glibc
        return None
    return trim


def give_back_memory() -> None:
    """Return freed memory to the system.

    glibc keeps what a thread freed for that thread's next request. With arrays of many sizes in many threads (ours,
    GDAL's, those of Zarr) this amounts to several hundred megabytes that nobody uses. Does nothing elsewhere.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)
