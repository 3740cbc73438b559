"""The output folder of a run, checked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from geodiff.outputs.static_catalog import require_stac
from geodiff.schema import GeodiffError, UsageError

RESERVED: Final = ("catalog.json", "summary.json")
"""Files in the output folder."""


def check_out(out: Path, name: str | None = None) -> None:
    """Refuse an output folder that cannot be written, before anything is read.

    Args:
        out: the folder.
        name: of the collection in it, where there is one alone.

    Raises:
        UsageError: it is a file, or may not be written; the name is that of a file in it.
        GeodiffError: it holds a ``catalog.json`` or ``collection.json`` that is not STAC, or a folder ``summary.json``.
    """
    if name in RESERVED:
        raise UsageError(f"--name {name}: a file of the catalogue has this name, choose another")
    folder = out.absolute()
    while not os.path.exists(folder):  # unlike Path.exists, no error where a parent may not be looked into
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"--out {out}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {folder} is not writable: choose another folder")
    require_stac(out / "catalog.json", "Catalog")
    if name is not None:
        require_stac(out / name / "collection.json", "Collection")
    if (out / "summary.json").is_dir():
        raise GeodiffError(f"{out / 'summary.json'} is a folder: move it away, or choose another output folder")
