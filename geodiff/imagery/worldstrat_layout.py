"""Where every file of a WorldStrat download lies, and what it is called.

WorldStrat (Cornebise, Orsolic and Kalaitzis 2022, "Open high-resolution satellite imagery: the WorldStrat dataset",
arXiv:2207.06418) comes as one folder of high-resolution and one of low-resolution images per area of interest (AOI):

    hr_dataset/<AOI>/<AOI>_{ps,pan,rgbn}.tiff, <AOI>_rgb.png     (in some copies hr_dataset/12bit/<AOI>/)
    lr_dataset/<AOI>/{L2A,L1C}/<AOI>-<rank>-{L2A_data,L1C_data,CLM,CLP,dataMask,<angle>}.tiff, <AOI>-<rank>.metadata
    metadata.csv, stratified_train_val_test_split.csv

The rank orders revisits by how near in time and how clear they are. It says nothing about which came first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from geodiff.schema import GeodiffError, UsageError

LEVELS: Final = ("L2A", "L1C")
_COMMON = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09")
LR_BANDS: Final = {"L2A": (*_COMMON, "B11", "B12"), "L1C": (*_COMMON, "B10", "B11", "B12")}
"""Bands of the low-resolution files, in the order in which they are stored."""

HR_BANDS: Final = ("B04", "B03", "B02", "B08")
"""Red, green, blue and near infrared of SPOT 6/7, by the names of the Sentinel-2 bands that they stand for."""

HR_SUFFIX: Final = {"ps": "_ps.tiff", "pan": "_pan.tiff", "rgbn": "_rgbn.tiff", "rgb": "_rgb.png"}
HR_COUNT: Final = {"ps": 4, "pan": 1, "rgbn": 4, "rgb": 3}
HR_PIXEL_M: Final = {"ps": 1.5, "pan": 1.5, "rgbn": 6.0, "rgb": 1.5}
"""Nominal ground sampling. A scale is never computed from it: the sizes of the two images of one place tell it."""

LR_PIXEL_M: Final = 10.0
DATA: Final = "data"
FACTS: Final = "metadata"
MASKS: Final = ("CLM", "CLP", "dataMask")
ANGLES: Final = ("viewZenithMean", "viewAzimuthMean", "sunAzimuthAngles", "sunZenithAngles")
REQUIRED: Final = (DATA, *MASKS, FACTS)
"""What each revisit must have; angles are missing from some copies."""

METADATA_CSV: Final = "metadata.csv"
SPLIT_CSV: Final = "stratified_train_val_test_split.csv"
HR_FOLDER, LR_FOLDER, TWELVE_BIT = "hr_dataset", "lr_dataset", "12bit"
_DEPTHS = (TWELVE_BIT, "8bit")

_TILED = re.compile(r"^(?P<parent>(?:ASMSpotter|Amnesty POI)-\d+)-\d+-\d+$")


def parent_of(aoi: str) -> str:
    """The image order that an AOI was cut from.

    The orders of Amnesty and ASMSpotter covered 22.5 km² and were cut into 3 x 3 tiles called ``<order>-<x>-<y>``:
    "ASMSpotter-17-2-2" and "Amnesty POI-20-1-3" have the parents "ASMSpotter-17" and "Amnesty POI-20". UNHCR and
    Landcover sites were ordered one by one, and their last number is an identifier: each is its own parent.

    The doubt: the names cannot tell whether two orders overlap on the ground; ``worldstrat_splits.sites_of`` asks the
    coordinates of ``metadata.csv`` as well.
    """
    found = _TILED.match(aoi)
    return found["parent"] if found else aoi


def file_name(aoi: str, level: str, rank: int, kind: str) -> str:
    """The name of one file of a revisit; ``kind`` is "data", "metadata", a mask or an angle."""
    if kind == FACTS:
        return f"{aoi}-{rank}.metadata"
    return f"{aoi}-{rank}-{f'{level}_data' if kind == DATA else kind}.tiff"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one download.

    Attributes:
        root: holds ``hr_dataset`` and ``lr_dataset``.
    """

    root: Path

    @property
    def hr(self) -> Path:
        return self.root / HR_FOLDER

    @property
    def lr(self) -> Path:
        return self.root / LR_FOLDER

    def hr_aois(self) -> tuple[str, ...]:
        """AOIs with a folder of high-resolution images, sorted."""
        plain = {name for name in _folders(self.hr) if name not in _DEPTHS}
        return tuple(sorted(plain | set(_folders(self.hr / TWELVE_BIT))))

    def lr_aois(self) -> tuple[str, ...]:
        """AOIs with a folder of low-resolution images, sorted."""
        return tuple(sorted(_folders(self.lr)))

    def aois(self) -> tuple[str, ...]:
        """AOIs with both, sorted."""
        return tuple(sorted(set(self.hr_aois()) & set(self.lr_aois())))

    def hr_folder(self, aoi: str) -> Path:
        """The folder of an AOI's high-resolution images, in whichever of the two places it lies."""
        plain, deep = self.hr / aoi, self.hr / TWELVE_BIT / aoi
        return deep if deep.is_dir() and not plain.is_dir() else plain

    def hr_file(self, aoi: str, kind: str) -> Path:
        """The high-resolution image of ``kind`` ("ps", "pan", "rgbn" or "rgb"), whether or not it exists."""
        if kind not in HR_SUFFIX:
            raise UsageError(f"WorldStrat has no high-resolution image {kind!r}: choose among {', '.join(HR_SUFFIX)}")
        return self.hr_folder(aoi) / f"{aoi}{HR_SUFFIX[kind]}"

    def lr_folder(self, aoi: str, level: str) -> Path:
        if level not in LEVELS:
            raise UsageError(f"WorldStrat has no level {level!r}: choose among {', '.join(LEVELS)}")
        return self.lr / aoi / level

    def lr_file(self, aoi: str, level: str, rank: int, kind: str) -> Path:
        """One file of a revisit, whether or not it exists."""
        return self.lr_folder(aoi, level) / file_name(aoi, level, rank, kind)

    def ranks(self, aoi: str, level: str) -> tuple[int, ...]:
        """Ranks of which there is any file, ascending; gaps are common."""
        pattern = re.compile(rf"^{re.escape(aoi)}-(\d+)(?:-[A-Za-z0-9_]+\.tiff|\.metadata)$")
        folder = self.lr_folder(aoi, level)
        names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
        return tuple(sorted({int(found[1]) for name in names if (found := pattern.match(name))}))


def open_layout(root: Path) -> Layout:
    """The layout of a download.

    Raises:
        GeodiffError: ``root`` is not the folder that holds ``hr_dataset`` and ``lr_dataset``; the message names a
            folder near it that is, when there is one.
    """
    problem = root_problem(root)
    if problem:
        raise GeodiffError(problem)
    return Layout(root)


def root_problem(root: Path) -> str:
    """What is wrong with a root, in one line; empty when it holds both data sets."""
    if not root.is_dir():
        return f"{root} is not a folder: give the one that holds {HR_FOLDER} and {LR_FOLDER}"
    lacking = [name for name in (HR_FOLDER, LR_FOLDER) if not (root / name).is_dir()]
    if not lacking:
        return ""
    near = next((folder for folder in _near(root) if _is_root(folder)), None)
    if near:
        return f"{root} is not the root of WorldStrat, {near} is: give that"
    archive = next((root / f for f in sorted(p.name for p in root.glob("*.zip")) if f.startswith(tuple(lacking))), None)
    if archive:
        return f"{root} lacks {' and '.join(lacking)}, but holds {archive.name}: unpack it there"
    return f"{root} lacks {' and '.join(lacking)}: give the folder of a WorldStrat download that holds both"


def _is_root(folder: Path) -> bool:
    return (folder / HR_FOLDER).is_dir() and (folder / LR_FOLDER).is_dir()


def _near(root: Path) -> Iterator[Path]:
    absolute = root.absolute()
    yield from (absolute.parent, absolute.parent.parent)
    yield from sorted(path for path in root.iterdir() if path.is_dir())


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
