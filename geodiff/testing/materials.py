"""What the synthetic ground is made of: surface reflectance in the bands of 10 m and 20 m, and land-cover classes.

The numbers are rounded from what atmospherically corrected Sentinel-2 shows over such surfaces in southern Europe,
in agreement with the shapes of the ECOSTRESS library (Meerdink et al. 2019, Remote Sensing of Environment 230):
they are plausible, not measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

import numpy as np

from geodiff.schema import BANDS_10M, BANDS_20M, FloatArray, UsageError

WORLD_BANDS: Final = BANDS_10M + BANDS_20M
"""The bands that the synthetic world is known in, in the order of the tables below."""


class Cover(IntEnum):
    """Land cover of a pixel of the synthetic landscape."""

    GRASS = 0
    CROP = 1
    FOREST = 2
    WATER = 3
    SOIL = 4
    ROAD = 5
    BUILDING = 6


_Row = tuple[float, ...]

# B02, B03, B04, B08, then B05, B06, B07, B8A, B11, B12.
_SPECTRA: Final[Mapping[str, _Row]] = {
    "water": (0.030, 0.042, 0.026, 0.014, 0.022, 0.018, 0.016, 0.012, 0.005, 0.003),
    "shallow": (0.055, 0.085, 0.068, 0.030, 0.058, 0.037, 0.034, 0.027, 0.012, 0.008),
    "bank": (0.135, 0.180, 0.225, 0.290, 0.245, 0.262, 0.276, 0.300, 0.370, 0.330),
    "grass": (0.046, 0.078, 0.068, 0.270, 0.115, 0.205, 0.245, 0.290, 0.245, 0.155),
    "scrub": (0.046, 0.066, 0.066, 0.215, 0.100, 0.165, 0.195, 0.232, 0.200, 0.120),
    "soil": (0.080, 0.110, 0.145, 0.215, 0.165, 0.180, 0.195, 0.225, 0.300, 0.260),
    "conifer": (0.022, 0.040, 0.026, 0.225, 0.058, 0.160, 0.200, 0.240, 0.105, 0.050),
    "broadleaf": (0.026, 0.056, 0.034, 0.340, 0.080, 0.245, 0.310, 0.360, 0.160, 0.075),
    "floor": (0.020, 0.030, 0.026, 0.110, 0.042, 0.080, 0.098, 0.118, 0.085, 0.050),
    "asphalt": (0.098, 0.110, 0.120, 0.150, 0.127, 0.134, 0.141, 0.155, 0.180, 0.170),
    "gravel": (0.145, 0.190, 0.235, 0.300, 0.252, 0.268, 0.284, 0.310, 0.365, 0.340),
    "tile": (0.105, 0.150, 0.245, 0.310, 0.265, 0.280, 0.295, 0.320, 0.390, 0.350),
    "slate": (0.130, 0.140, 0.148, 0.170, 0.152, 0.157, 0.162, 0.173, 0.190, 0.180),
    "hall": (0.250, 0.268, 0.278, 0.300, 0.283, 0.288, 0.294, 0.303, 0.300, 0.270),
    "yard": (0.130, 0.155, 0.175, 0.230, 0.187, 0.202, 0.216, 0.236, 0.270, 0.240),
    "garden": (0.048, 0.082, 0.070, 0.300, 0.118, 0.225, 0.272, 0.318, 0.220, 0.130),
}

# What skylight leaves of each band in a shadow: more of the blue, little of the short-wave infrared.
_SHADE: Final[_Row] = (0.46, 0.42, 0.39, 0.40, 0.39, 0.39, 0.40, 0.39, 0.33, 0.31)

# Logarithm of a band's gain where the ground is one unit moister, or its leaves one unit greener, than their neighbours
# that look alike in the bands of 10 m.
_MOISTURE: Final[_Row] = (0, 0, 0, 0, 0, 0, -0.02, -0.04, -0.14, -0.20)
_CHLOROPHYLL: Final[_Row] = (0, 0, 0, 0, -0.20, 0.12, 0.07, 0.03, 0, 0)

# One row per kind of field: colour of the crop, colour between the rows, spacing of the rows in metres, their strength.
_CROPS: Final[tuple[tuple[_Row, _Row, float, float], ...]] = (
    (  # winter wheat
        (0.034, 0.070, 0.042, 0.400, 0.092, 0.285, 0.360, 0.420, 0.185, 0.090),
        (0.060, 0.095, 0.085, 0.310, 0.130, 0.235, 0.285, 0.328, 0.250, 0.155),
        24.0,
        0.30,
    ),
    (  # ripe cereal
        (0.082, 0.128, 0.172, 0.300, 0.205, 0.240, 0.268, 0.318, 0.365, 0.260),
        (0.100, 0.140, 0.185, 0.290, 0.212, 0.238, 0.262, 0.305, 0.370, 0.285),
        18.0,
        0.40,
    ),
    (  # maize
        (0.028, 0.060, 0.034, 0.460, 0.085, 0.320, 0.415, 0.480, 0.200, 0.090),
        (0.048, 0.078, 0.066, 0.340, 0.112, 0.250, 0.308, 0.356, 0.235, 0.135),
        12.0,
        0.25,
    ),
    (  # ploughed
        (0.062, 0.082, 0.108, 0.165, 0.122, 0.135, 0.148, 0.173, 0.225, 0.195),
        (0.050, 0.066, 0.088, 0.140, 0.100, 0.112, 0.124, 0.147, 0.190, 0.165),
        9.0,
        0.60,
    ),
    (  # light soil
        (0.098, 0.138, 0.188, 0.268, 0.208, 0.225, 0.243, 0.280, 0.370, 0.330),
        (0.084, 0.118, 0.162, 0.240, 0.180, 0.197, 0.215, 0.250, 0.330, 0.295),
        15.0,
        0.50,
    ),
    (  # pasture
        (0.044, 0.084, 0.058, 0.350, 0.108, 0.255, 0.316, 0.368, 0.220, 0.120),
        (0.050, 0.088, 0.070, 0.310, 0.118, 0.230, 0.280, 0.328, 0.235, 0.138),
        40.0,
        0.20,
    ),
    (  # vineyard
        (0.040, 0.068, 0.052, 0.310, 0.098, 0.225, 0.280, 0.326, 0.200, 0.110),
        (0.104, 0.142, 0.186, 0.275, 0.205, 0.225, 0.246, 0.288, 0.370, 0.325),
        7.5,
        0.85,
    ),
    (  # orchard
        (0.034, 0.056, 0.042, 0.290, 0.082, 0.210, 0.262, 0.305, 0.175, 0.092),
        (0.088, 0.120, 0.150, 0.250, 0.168, 0.195, 0.222, 0.262, 0.330, 0.275),
        10.0,
        0.95,
    ),
    (  # rapeseed
        (0.052, 0.125, 0.098, 0.430, 0.165, 0.330, 0.390, 0.448, 0.215, 0.115),
        (0.050, 0.112, 0.090, 0.400, 0.152, 0.305, 0.362, 0.418, 0.215, 0.118),
        24.0,
        0.20,
    ),
    (  # lucerne
        (0.030, 0.072, 0.036, 0.430, 0.096, 0.310, 0.388, 0.448, 0.190, 0.088),
        (0.034, 0.078, 0.044, 0.400, 0.102, 0.290, 0.362, 0.418, 0.200, 0.098),
        30.0,
        0.20,
    ),
    (  # stubble
        (0.076, 0.108, 0.136, 0.235, 0.160, 0.188, 0.212, 0.250, 0.330, 0.260),
        (0.086, 0.118, 0.150, 0.240, 0.172, 0.195, 0.217, 0.254, 0.335, 0.270),
        12.0,
        0.35,
    ),
)


@dataclass(frozen=True)
class Crop:
    """One kind of field: (band,) colours of the crop and of what lies between its rows, their spacing and strength."""

    colour: FloatArray
    between: FloatArray
    spacing_m: float
    strength: float


@dataclass(frozen=True, eq=False)
class Palette:
    """The ground in some bands; arrays are (band,) float32, read-only.

    Attributes:
        spectra: material to reflectance.
        shade: what skylight leaves of each band in a shadow.
        crops: kinds of fields.
        moisture, chlorophyll: logarithm of a band's gain per unit of what the bands of 10 m do not show.
    """

    spectra: Mapping[str, FloatArray]
    shade: FloatArray
    crops: tuple[Crop, ...]
    moisture: FloatArray
    chlorophyll: FloatArray


@lru_cache(maxsize=32)
def palette(bands: tuple[str, ...]) -> Palette:
    """What the world is painted with in ``bands``; the numbers of a band do not depend on the others.

    Raises:
        UsageError: a band that the world is not known in.
    """
    unknown = [band for band in bands if band not in WORLD_BANDS]
    if unknown:
        raise UsageError(f"the synthetic landscape has no band {unknown[0]!r}: choose among {', '.join(WORLD_BANDS)}")
    places = [WORLD_BANDS.index(band) for band in bands]

    def pick(row: _Row) -> FloatArray:
        values = np.array([row[place] for place in places], np.float32)
        values.flags.writeable = False
        return values

    return Palette(
        spectra={name: pick(row) for name, row in _SPECTRA.items()},
        shade=pick(_SHADE),
        crops=tuple(Crop(pick(colour), pick(between), spacing, width) for colour, between, spacing, width in _CROPS),
        moisture=pick(_MOISTURE),
        chlorophyll=pick(_CHLOROPHYLL),
    )
