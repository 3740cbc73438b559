"""Keep the resident memory of a long run near what it really uses, and tell how much it was."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path


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
    GDAL's, those of Zarr) this amounts to several hundred megabytes that nobody uses. Does nothing elsewhere. Arrow,
    where it is in use, keeps what it has read in an allocator of its own: half a gigabyte for a day of fixes.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux: ru_maxrss starts at the memory of whoever launched us; the high-water mark is our own.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
