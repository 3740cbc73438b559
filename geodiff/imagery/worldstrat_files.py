"""Reading WorldStrat's images: each file is opened where it is read, and what was read is kept in a bounded cache."""

from __future__ import annotations

import os
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine

from geodiff.imagery.scene_file import open_scene
from geodiff.schema import GeodiffError

DRIVERS = ("GTiff", "PNG")
CACHE_BYTES = 256 << 20

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself without its pixels being read."""

    shape: tuple[int, int]
    count: int
    dtype: str
    transform: Affine
    crs: str | None


_OPENING = threading.Lock()


def _open(path: Path) -> Any:
    # The filters of warnings belong to the process: two threads that set them at once would undo each other's.
    with _OPENING, warnings.catch_warnings():
        # WorldStrat's high resolution has no georeference; its place follows from the low resolution.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return open_scene(path, DRIVERS)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an image, and give every failure, also of reading within the block, one line that names the file."""
    if not path.is_file():
        raise GeodiffError(f"missing {path}: download it again, or run geodiff worldstrat verify to list what else is")
    try:
        try:
            source = _open(path)
        except NotGeoreferencedWarning:  # where warnings are errors; within numpy another thread put its filters back
            source = _open(path)
        with source:
            yield source
    except RasterioError as error:
        size = path.stat().st_size if path.exists() else 0
        what = "is empty" if size == 0 else "is corrupt or truncated"
        detail = " ".join(str(error.__cause__ or error).split())
        raise GeodiffError(f"{path} {what} ({detail}): download it again") from error


def header_of(source: Any) -> Header:
    """Size, bands, type and place of an open image."""
    epsg = source.crs.to_epsg() if source.crs else None
    crs = (f"EPSG:{epsg}" if epsg else source.crs.to_wkt()) if source.crs else None
    return Header((source.height, source.width), source.count, source.dtypes[0], source.transform, crs)


def pixels_of(source: Any, path: Path, indexes: tuple[int, ...] | None = None) -> Array:
    """All pixels of an open image; see ``read_image``."""
    if path.suffix == ".png":
        _require_whole_png(path)
    if indexes and max(indexes) > source.count:
        raise GeodiffError(f"{path} holds {source.count} bands, not {max(indexes)}: download it again")
    values: Array = source.read(list(indexes) if indexes else None)
    return values


def read_header(path: Path) -> Header:
    """Size, bands, type and place of an image.

    Raises:
        GeodiffError: missing or unreadable.
    """
    with opened(path) as source:
        return header_of(source)


def read_image(path: Path, indexes: tuple[int, ...] | None = None) -> Array:
    """Read all pixels, (band, y, x) of the file's own type.

    Args:
        path: a TIFF or PNG.
        indexes: bands, counted from 1; all when None.

    Raises:
        GeodiffError: missing, corrupt or truncated, or without such a band.
    """
    with opened(path) as source:
        return pixels_of(source, path, indexes)


def _require_whole_png(path: Path) -> None:
    """Refuse a PNG that ends early or whose checksums do not hold: its reader fills the rest with zeros, and is silent.

    Chunks as in the PNG specification, section 5.3: length, type, data, CRC of type and data.
    """
    data, at, kind = path.read_bytes(), 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4])
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if len(data) < end + 4 or int.from_bytes(data[end : end + 4]) != zlib.crc32(data[at + 4 : end]):
            raise GeodiffError(f"{path} is corrupt or truncated (chunk at byte {at}): download it again")
        at = end + 4


class ImageCache:
    """The images read last, up to a number of bytes; safe among threads, and empty in another process.

    A copy that is pickled to a worker, or that a forked worker inherits, starts anew: neither pixels nor a lock that
    another thread held travel.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._begin()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, tuple[int, ...] | None], Array] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, int]:
        return {"limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["limit_bytes"])  # type: ignore[misc]

    @property
    def held_bytes(self) -> int:
        """Bytes of the images held now; never more than ``limit_bytes``."""
        return self._bytes

    def read(self, path: Path, indexes: tuple[int, ...] | None = None) -> Array:
        """``read_image``, or what it returned before; read-only. A file that failed is tried again."""
        if self._owner != os.getpid():
            self._begin()
        key = (str(path), indexes)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        values = read_image(path, indexes)
        values.flags.writeable = False
        with self._lock:
            self._keep(key, values)
        return values

    def _keep(self, key: tuple[str, tuple[int, ...] | None], values: Array) -> None:
        if key in self._held or values.nbytes > self.limit_bytes:
            return
        self._held[key] = values
        self._bytes += values.nbytes
        while self._bytes > self.limit_bytes:
            self._bytes -= self._held.popitem(last=False)[1].nbytes


def as_reflectance(values: Array) -> npt.NDArray[np.float32]:
    """Reflectance of a stored image: whole numbers are 10,000 times reflectance, others reflectance itself."""
    if np.issubdtype(values.dtype, np.integer):
        return (values.astype(np.float32) / np.float32(10_000)).astype(np.float32)
    return values.astype(np.float32)
