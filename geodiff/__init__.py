"""Super-resolution of satellite image time series and calibrated vessel tracks, by conditional diffusion.

``geodiff.superres(cube, ...)`` and ``geodiff.clean``, ``impute``, ``forecast``, ``generate``, ``score`` and
``associate`` of GeoDataFrames are the entry points for notebooks; the command line is ``geodiff --help``. Names of this
module load on first use, so that ``import geodiff`` stays cheap and no room is tied to another by it.
"""

from __future__ import annotations

from importlib import import_module

from geodiff.version import __version__

_TRACKS = "geodiff.tasks.vessels_api"
_HOMES = {
    "superres": "geodiff.tasks.superres",
    "clean": _TRACKS,
    "impute": _TRACKS,
    "forecast": _TRACKS,
    "score": _TRACKS,
    "associate": _TRACKS,
    "generate": _TRACKS,
}

__all__ = ["__version__", "associate", "clean", "forecast", "generate", "impute", "score", "superres"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'geodiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
