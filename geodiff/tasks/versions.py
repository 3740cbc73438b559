"""What computed a report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from geodiff.version import __version__

LIBRARIES = ("numpy", "scipy", "torch", "xarray", "rasterio", "onnxruntime", "polars")


def versions() -> dict[str, str]:
    """Versions of geodiff, Python and the libraries that are installed, without loading any of them."""
    found = {"geodiff": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
