"""Super-resolution of satellite image time series by conditional diffusion, from STAC query to cloud-optimised Zarr.

``geodiff.superres(cube, ...)`` is the entry point for notebooks; the command line is ``geodiff --help``. Names of this
module load on first use, so that ``import geodiff`` stays cheap and no room is tied to another by it.
"""

from __future__ import annotations

from importlib import import_module

from geodiff.version import __version__

_HOMES = {"superres": "geodiff.tasks.superres"}

__all__ = ["__version__", "superres"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'geodiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
