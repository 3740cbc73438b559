"""Groups files by the ground that they show: dates of one place, and places that overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rasterio.warp import transform_bounds

from geodiff.imagery.folder_place import FolderImage, FolderPlace
from geodiff.imagery.ground import Bounds

PIXEL_M = 10.0
"""Low-resolution pixel that imagery stands for where nobody says otherwise: that of Sentinel-2."""

FINER = 1.25
"""Images up to so much coarser than the truth asked for may still play it."""


@dataclass(frozen=True)
class Header:
    """One file before it is grouped.

    Attributes:
        image: how it is read.
        name: path under the root.
        crs: in metres.
        box: bounds in ``crs``.
        degrees: bounds in EPSG:4326.
    """

    image: FolderImage
    name: str
    crs: str
    box: Bounds
    degrees: Bounds


def overlap(one: Bounds, other: Bounds) -> float:
    """Area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def grounds_of(headers: Sequence[Header]) -> list[list[Header]]:
    """Files that are joined by overlaps, however small, in the order of their names."""
    groups: list[list[Header]] = []
    for header in headers:
        joined = [group for group in groups if any(overlap(header.degrees, other.degrees) > 0 for other in group)]
        groups = [group for group in groups if not any(group is found for found in joined)]
        groups.append([*(one for group in joined for one in group), header])
    return [sorted(group, key=lambda header: header.name) for group in groups]


def places_of(
    headers: Sequence[Header], pixel_m: float | None, scale: int, minimal_overlap: float
) -> Iterator[tuple[FolderPlace, str]]:
    """Places, each with the name of its ground: dates that share most of their ground become one.

    Args:
        headers: of all files.
        pixel_m: low-resolution pixel that the imagery stands for; ``PIXEL_M`` or what it can play when None.
        scale: ratio of the resolutions.
        minimal_overlap: share of the smaller box that must be common.
    """
    for group in grounds_of(headers):
        ground = group[0].name.rsplit(".", 1)[0]
        coarsest = max(header.image.native_m for header in group)
        asked = pixel_m or PIXEL_M
        stands = asked if pixel_m or coarsest <= FINER * asked / scale else coarsest * scale
        crs = group[0].crs
        stacks: list[tuple[Bounds, list[Header]]] = []
        for header in sorted(group, key=lambda one: (math.isnan(one.image.day), one.image.day, one.name)):
            box = _box_in(header, crs)
            _join(stacks, header, box, minimal_overlap)
        for number, (box, members) in enumerate(stacks):
            name = ground if len(stacks) == 1 else f"{ground}#{number + 1}"
            yield _place(name, ground, members, crs, box, (stands / scale, stands)), ground


def _box_in(header: Header, crs: str) -> Bounds:
    if header.crs == crs:
        return header.box
    west, south, east, north = transform_bounds(header.crs, crs, *header.box)
    return float(west), float(south), float(east), float(north)


def _join(stacks: list[tuple[Bounds, list[Header]]], header: Header, box: Bounds, minimal_overlap: float) -> None:
    """Put a file to the place that it shares most with and that lacks its date; else it is a place of its own."""
    best, found = 0.0, -1
    for index, (common, members) in enumerate(stacks):
        area = min(_area(common), _area(box))
        share = overlap(common, box) / area if area > 0 else 0.0
        days = {one.image.day for one in members}
        dated = not math.isnan(header.image.day) and not any(math.isnan(day) for day in days)
        if dated and header.image.day not in days and share >= minimal_overlap and share > best:
            best, found = share, index
    if found < 0:
        stacks.append((box, [header]))
        return
    common, members = stacks[found]
    shared = max(common[0], box[0]), max(common[1], box[1]), min(common[2], box[2]), min(common[3], box[3])
    stacks[found] = (shared, [*members, header])


def _area(box: Bounds) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _place(
    name: str, ground: str, members: Sequence[Header], crs: str, box: Bounds, sides: tuple[float, float]
) -> FolderPlace:
    """On the lattice of the truth's pixel, anchored at the origin of the CRS, inside the common box."""
    truth_m, pixel_m = sides
    # Half a pixel inside, where the aperture finds enough data.
    west, south, east, north = (edge / truth_m for edge in box)
    left, top = math.ceil(west + 0.5), math.floor(north - 0.5)
    cols, rows = max(math.floor(east - 0.5) - left, 0), max(top - math.ceil(south + 0.5), 0)
    degrees = [header.degrees for header in members]
    footprint = (
        max(box[0] for box in degrees),
        max(box[1] for box in degrees),
        min(box[2] for box in degrees),
        min(box[3] for box in degrees),
    )
    images = tuple(header.image for header in members)
    return FolderPlace(
        name, images, crs, (left * truth_m, top * truth_m), (rows, cols), truth_m, pixel_m, ground, footprint
    )
