"""How the ground changes from date to date: greening and drying, harvests, wet soil, the colour of the water."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.rng import generator
from geodiff.schema import BANDS_20M, FloatArray
from geodiff.testing.fields import Floats, hash01, smooth_noise
from geodiff.testing.materials import Cover

YEAR_DAYS = 365.25

# Logarithm of green over dry reflectance (wheat in April against stubble): what full greening does to each band.
GREENING = {"B02": -0.79, "B03": -0.45, "B04": -1.17, "B08": 0.47}
GREENING |= {"B05": -0.62, "B06": 0.22, "B07": 0.40, "B8A": 0.46, "B11": -0.52, "B12": -0.88}

# How much more than the visible the bands darken on wet soil: water absorbs the short-wave infrared.
WETTING = {"B11": 1.5, "B12": 1.8}

# How far each kind of cover follows the year (0 = not at all), and the day of the year on which it is greenest.
SWING = {Cover.GRASS: 0.6, Cover.CROP: 1.0, Cover.FOREST: 0.25}
PEAK_DAY = {Cover.GRASS: 125.0, Cover.FOREST: 175.0}


@dataclass(frozen=True, eq=False)
class Ground:
    """What the season needs to know about each pixel, (rows, columns).

    Attributes:
        green: share of green vegetation, 0-1.
        water: share of water, 0-1.
        swing: strength of the yearly cycle.
        peak_day: day of the year of the greenest state.
        event: place of an abrupt change (a harvest, a ploughing) in the span of the series, 0-1; above 1 for none.
    """

    green: FloatArray
    water: FloatArray
    swing: FloatArray
    peak_day: FloatArray
    event: FloatArray


def read_ground(
    image: FloatArray,
    bands: Sequence[str],
    seed: int,
    *,
    cover: npt.NDArray[np.uint8] | None,
    parcel: npt.NDArray[np.int32] | None,
) -> Ground:
    """Describe the pixels of an image, from its land cover where that is known, else from its spectra.

    Vegetation by the NDVI (Tucker 1979), water by the NDWI (McFeeters 1996).
    """
    named = dict(zip(bands, image, strict=True))
    shape = image.shape[1:]
    if not {"B03", "B04", "B08"} <= named.keys():
        nothing = np.zeros(shape, np.float32)
        return Ground(nothing, nothing, nothing, nothing, nothing + 2)
    green = _scaled((named["B08"] - named["B04"]) / (named["B08"] + named["B04"] + 1e-6), 0.25, 0.75)
    water = _scaled((named["B03"] - named["B08"]) / (named["B03"] + named["B08"] + 1e-6), 0.0, 0.25)
    rows, cols = (np.arange(n, dtype=np.float64) for n in shape)
    drift = smooth_noise(seed, "season", rows, cols, 60.0)
    if cover is None or parcel is None:
        swing = 0.4 * (1 - water) * (0.3 + 0.7 * green)
        return Ground(green, water, swing, (150 + 25 * drift).astype(np.float32), np.full(shape, 2, np.float32))
    number = parcel.astype(np.int64)
    swing = np.array([SWING.get(c, 0.0) for c in Cover], np.float32)[cover]
    peak = np.array([PEAK_DAY.get(c, 0.0) for c in Cover], np.float32)[cover] + 8 * drift
    field = cover == Cover.CROP
    peak = np.where(field, 85 + 130 * hash01(seed, "peak", number), peak).astype(np.float32)
    event = np.where(field, hash01(seed, "event", number) / 0.35, 2).astype(np.float32)
    return Ground(green, water, swing, peak, event)


def _scaled(values: Floats, low: float, high: float) -> FloatArray:
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)


def season_image(
    image: FloatArray,
    ground: Ground,
    bands: Sequence[str],
    *,
    day: float,
    anchor_day: float,
    span_days: tuple[float, float],
    seed: int,
    strength: float,
) -> FloatArray:
    """The ground on ``day``, given what it looks like on ``anchor_day`` (which gives ``image`` itself back).

    Args:
        image: (band, rows, columns) reflectance on the anchor day.
        ground: its description.
        bands: names of the bands.
        day: days since 1970-01-01.
        anchor_day: the same, of ``image``.
        span_days: first and last day of the series: events fall between them.
        seed: of the series.
        strength: 0 leaves the image as it is, 1 is a normal year.

    Returns:
        (band, rows, columns) float32, 0-1.
    """
    if day == anchor_day or strength == 0:
        return image.copy()
    # Days since 1970-01-01 and days of the year differ by whole years, but for half a day.
    angle = [2 * np.pi * (d % YEAR_DAYS - ground.peak_day) / YEAR_DAYS for d in (day, anchor_day)]
    greener = 0.5 * ground.swing * (np.cos(angle[0]) - np.cos(angle[1]))
    event_day = span_days[0] + ground.event * (span_days[1] - span_days[0])
    happened = (event_day > min(day, anchor_day)) & (event_day <= max(day, anchor_day))
    greener = np.where(happened, np.where(ground.green > 0.4, -0.9, 0.9), greener)
    # What is green already cannot get much greener, what is dry cannot dry.
    change = strength * (1 - ground.water) * np.where(greener > 0, greener * (1 - ground.green), greener * ground.green)
    draw = generator(seed, "weather", int(day))
    wet, sun = 0.22 * draw.random() * strength, 0.02 * draw.standard_normal() * strength
    bare = (1 - ground.green) * (1 - ground.water) * (ground.swing > 0)
    out = np.empty_like(image)
    for index, band in enumerate(bands):
        # Draws of their own, so that the bands of 10 m do not depend on who else is there.
        drawn = (generator(seed, "weather", int(day), band) if band in BANDS_20M else draw).standard_normal()
        hue = 0.10 * strength * drawn
        gain = GREENING.get(band, 0.0) * change - WETTING.get(band, 1.0) * wet * bare + sun + hue * ground.water
        out[index] = np.clip(image[index] * np.exp(gain), 0, 1)
    return out
