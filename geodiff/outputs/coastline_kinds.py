"""Which vector files are read as coastlines, told by how they begin.

Left to itself GDAL goes by content: what calls itself ``coast.geojson`` may be a virtual file, which hands out whatever
file of this disk or address it names, or have a program run. The reader of vector files cannot be told its drivers.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

from geodiff.schema import GeodiffError

KINDS: Final = "GeoJSON, GeoPackage, Shapefile, FlatGeobuf, a zip of one, a folder of shapefiles, or GeoParquet"

_PARQUET: Final = b"PAR1"
_MAGIC: Final = (_PARQUET, b"\x00\x00\x27\x0a", b"SQLite format 3\x00", b"fgb\x03")
_ZIP: Final = b"PK\x03\x04"
_ELSEWHERE: Final = (b"<OGR", b"gdal_streamed_alg")
"""What virtual files of GDAL have at their beginning, after anything else."""

_LOOKED_AT: Final = 1 << 17
_MEMBERS: Final = 1000


def check_kind(path: Path) -> None:
    """Refuse what may lead elsewhere; tables of text are let through, for the reader to say what they lack.

    Raises:
        GeodiffError: none of ``KINDS``.
        OSError: it cannot be opened.
    """
    if path.is_dir():
        return
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    heads = _heads_within(path) if head.startswith(_ZIP) else [head]
    plain = path.suffix.lower() == ".csv" and not head.lstrip().startswith(b"<")
    elsewhere = any(sign in each for each in heads for sign in _ELSEWHERE)
    if elsewhere or not (plain or any(_is_known(each) for each in heads)):
        raise GeodiffError(f"coastline {path}: cannot be read (it is none of {KINDS})")


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _is_known(head: bytes) -> bool:
    return head.startswith(_MAGIC) or head.lstrip(b"\xef\xbb\xbf\x1e \t\r\n").startswith(b"{")


def _heads_within(path: Path) -> list[bytes]:
    """Beginnings of the files of a zip; none where it is damaged, locked or of very many."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one for one in archive.infolist() if not one.is_dir()]
            return [] if len(names) > _MEMBERS else [_head_of(archive, one) for one in names]
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, EOFError, ValueError):
        return []


def _head_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return file.read(_LOOKED_AT)
