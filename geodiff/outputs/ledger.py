"""The work folder beside a store that is being written: which regions are done, scratch files, one owner at a time.

``<store>.work/ledger/<region>.json`` is written, to the disk, only after the region's data are on the disk; so a
region with a marker is complete, whatever ended the run. The folder goes when the store is finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geodiff.outputs.atomic import explained, file_lock, read_json, write_json
from geodiff.schema import GeodiffError


def work_folder(store: Path) -> Path:
    """Folder of everything that a run keeps beside its store until the store is finished."""
    return store.with_name(store.name + ".work")


def margins_folder(store: Path) -> Path:
    """Folder for ``stitch.MarginCache``, gone with the work folder."""
    return work_folder(store) / "margins"


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Own a store against other processes of this machine while it is written.

    Raises:
        GeodiffError: another process owns it, or its folder cannot be written.
    """
    with explained(store.parent):
        store.parent.mkdir(parents=True, exist_ok=True)
    with explained(store.parent):
        lock = file_lock(store.with_name(f".{store.name}.lock"), wait=False)
        owned = lock.__enter__()
    try:
        if not owned:
            raise GeodiffError(f"{store} is being written by another process: wait for it, or choose another --out")
        yield
    finally:
        lock.__exit__(None, None, None)


class Ledger:
    """Markers of finished regions, one small file each, safe for any number of processes."""

    def __init__(self, store: Path) -> None:
        self.folder = work_folder(store) / "ledger"

    def open(self) -> None:
        """Create the folder where it is absent."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def mark(self, region_id: str, digest: str) -> None:
        """Record that a region's data, with this checksum, are on the disk."""
        write_json(self.folder / f"{region_id}.json", {"region": region_id, "blake2b": digest})

    def unmark(self, region_id: str) -> None:
        """Forget a region, before its data are touched again."""
        (self.folder / f"{region_id}.json").unlink(missing_ok=True)

    def digest(self, region_id: str) -> str | None:
        """Checksum of a finished region; None when it is not finished or its marker is damaged."""
        marker = read_json(self.folder / f"{region_id}.json")
        if isinstance(marker, dict) and marker.get("region") == region_id and isinstance(marker.get("blake2b"), str):
            return str(marker["blake2b"])
        return None

    def done(self) -> frozenset[str]:
        """Names of the regions that are finished."""
        if not self.folder.is_dir():
            return frozenset()
        names = (path.stem for path in self.folder.glob("[!.]*.json"))
        return frozenset(name for name in names if self.digest(name) is not None)

    def close(self) -> None:
        """Remove the work folder and all it holds."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
