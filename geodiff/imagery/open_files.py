"""Files that threads keep open between windows, with what is settled once for each of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from affine import Affine
from rasterio.io import DatasetReader

MAX_OPEN = 64
"""Files that a thread keeps open."""


@dataclass(frozen=True)
class OpenFile:
    """A file and where it lies.

    Attributes:
        dataset: of rasterio.
        crs, transform: of the file, or as its item says where the file says nothing.
        offset: (rows, columns) of the target grid on the file's lattice, in pixels of the target; None where the two
            lattices differ.
        times: pixels of the file are so many times as large as those of the target, where they share a lattice.
        masked: whether a mask lies beside the numbers.
    """

    dataset: DatasetReader
    crs: Any
    transform: Affine
    offset: tuple[int, int] | None
    times: int
    masked: bool


class OpenFiles(threading.local):
    """Open files of one thread (GDAL handles may not be shared), at most ``MAX_OPEN``, the longest unused closed first.

    stackstac keeps every file of every date open in every thread, which ends at the limit of the operating system.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[str, OpenFile] = OrderedDict()

    def get(self, key: str, open_file: Callable[[], OpenFile]) -> OpenFile:
        """The file kept under ``key``, opened by ``open_file`` where none is."""
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        while len(self._files) >= MAX_OPEN:
            self._files.popitem(last=False)[1].dataset.close()
        self._files[key] = open_file()
        return self._files[key]
