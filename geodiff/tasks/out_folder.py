"""The output folder of a run, checked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from geodiff.outputs.static_catalog import require_stac
from geodiff.schema import UsageError


def check_out(out: Path) -> None:
    """Refuse an output folder that cannot be written, before anything is read.

    Raises:
        UsageError: it is a file, or may not be written.
        GeodiffError: it holds a ``catalog.json`` that is not STAC.
    """
    folder = out.absolute()
    while not os.path.exists(folder):  # unlike Path.exists, no error where a parent may not be looked into
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"--out {out}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {folder} is not writable: choose another folder")
    require_stac(out / "catalog.json", "Catalog")
