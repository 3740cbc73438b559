"""Unpacked Sentinel-2 products (``.SAFE``): where the bands of a scene lie, and what lies beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodiff.imagery.build_layers import Layer
from geodiff.imagery.build_names import band_in

RESOLUTIONS = ("R10m", "R20m", "R60m")
"""Folders of the bands of an L2A product, inside ``IMG_DATA``, which holds those of an L1C product itself."""

PICTURES = ("TCI", "AOT", "WVP")
"""Among the bands: true colour, aerosol, water vapour."""

BESIDE = ("QI_DATA", "AUX_DATA")
"""Folders of masks of the processing, previews and weather."""


def scene_folder(path: Path) -> Path:
    """The folder that stands for the scene of a file."""
    return path.parent.parent if _by_resolution(path) else path.parent


def is_beside_bands(root: Path, path: Path) -> bool:
    """Whether a file somewhere under ``root`` is of a product, but none of its bands."""
    among = _by_resolution(path) or path.parent.name == "IMG_DATA"
    return (among and band_in(path.stem) in PICTURES) or any(part in BESIDE for part in path.relative_to(root).parts)


def finest_bands(layers: Sequence[Layer]) -> list[Layer]:
    """The layers of a scene; of a band that a product holds at several resolutions the finest."""
    several = [layer for layer in layers if _by_resolution(layer.path)]
    finest = {layer.band: layer for layer in sorted(several, key=lambda layer: layer.transform.a, reverse=True)}
    return [*(layer for layer in layers if not _by_resolution(layer.path)), *finest.values()]


def _by_resolution(path: Path) -> bool:
    return path.parent.name in RESOLUTIONS
