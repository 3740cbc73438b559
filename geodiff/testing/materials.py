"""What the synthetic ground is made of: surface reflectance in the four 10 m bands, and land-cover classes.

The numbers are rounded from what atmospherically corrected Sentinel-2 shows over such surfaces in southern Europe,
in agreement with the shapes of the ECOSTRESS library (Meerdink et al. 2019, Remote Sensing of Environment 230):
they are plausible, not measurements.
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import Final

import numpy as np

from geodiff.schema import FloatArray


class Cover(IntEnum):
    """Land cover of a pixel of the synthetic landscape."""

    GRASS = 0
    CROP = 1
    FOREST = 2
    WATER = 3
    SOIL = 4
    ROAD = 5
    BUILDING = 6


def _spectrum(*bands: float) -> FloatArray:
    values = np.array(bands, np.float32)
    values.flags.writeable = False
    return values


# B02, B03, B04, B08.
SPECTRA: Final = MappingProxyType(
    {
        "water": _spectrum(0.030, 0.042, 0.026, 0.014),
        "shallow": _spectrum(0.055, 0.085, 0.068, 0.030),
        "bank": _spectrum(0.135, 0.180, 0.225, 0.290),
        "grass": _spectrum(0.046, 0.078, 0.068, 0.270),
        "scrub": _spectrum(0.046, 0.066, 0.066, 0.215),
        "soil": _spectrum(0.080, 0.110, 0.145, 0.215),
        "conifer": _spectrum(0.022, 0.040, 0.026, 0.225),
        "broadleaf": _spectrum(0.026, 0.056, 0.034, 0.340),
        "floor": _spectrum(0.020, 0.030, 0.026, 0.110),
        "asphalt": _spectrum(0.098, 0.110, 0.120, 0.150),
        "gravel": _spectrum(0.145, 0.190, 0.235, 0.300),
        "tile": _spectrum(0.105, 0.150, 0.245, 0.310),
        "slate": _spectrum(0.130, 0.140, 0.148, 0.170),
        "hall": _spectrum(0.250, 0.268, 0.278, 0.300),
        "yard": _spectrum(0.130, 0.155, 0.175, 0.230),
        "garden": _spectrum(0.048, 0.082, 0.070, 0.300),
    }
)

SHADE: Final = _spectrum(0.46, 0.42, 0.39, 0.40)
"""What skylight leaves of each band in a shadow: more of the blue."""

# One row per kind of field: colour of the crop, colour between the rows, spacing of the rows in metres, their strength.
CROPS: Final = (
    (_spectrum(0.034, 0.070, 0.042, 0.400), _spectrum(0.060, 0.095, 0.085, 0.310), 24.0, 0.30),  # winter wheat
    (_spectrum(0.082, 0.128, 0.172, 0.300), _spectrum(0.100, 0.140, 0.185, 0.290), 18.0, 0.40),  # ripe cereal
    (_spectrum(0.028, 0.060, 0.034, 0.460), _spectrum(0.048, 0.078, 0.066, 0.340), 12.0, 0.25),  # maize
    (_spectrum(0.062, 0.082, 0.108, 0.165), _spectrum(0.050, 0.066, 0.088, 0.140), 9.0, 0.60),  # ploughed
    (_spectrum(0.098, 0.138, 0.188, 0.268), _spectrum(0.084, 0.118, 0.162, 0.240), 15.0, 0.50),  # light soil
    (_spectrum(0.044, 0.084, 0.058, 0.350), _spectrum(0.050, 0.088, 0.070, 0.310), 40.0, 0.20),  # pasture
    (_spectrum(0.040, 0.068, 0.052, 0.310), _spectrum(0.104, 0.142, 0.186, 0.275), 7.5, 0.85),  # vineyard
    (_spectrum(0.034, 0.056, 0.042, 0.290), _spectrum(0.088, 0.120, 0.150, 0.250), 10.0, 0.95),  # orchard
    (_spectrum(0.052, 0.125, 0.098, 0.430), _spectrum(0.050, 0.112, 0.090, 0.400), 24.0, 0.20),  # rapeseed
    (_spectrum(0.030, 0.072, 0.036, 0.430), _spectrum(0.034, 0.078, 0.044, 0.400), 30.0, 0.20),  # lucerne
    (_spectrum(0.076, 0.108, 0.136, 0.235), _spectrum(0.086, 0.118, 0.150, 0.240), 12.0, 0.35),  # stubble
)
