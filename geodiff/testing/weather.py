"""Clouds, their shadows, haze, and the imperfect scene classification of a synthetic series."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtri

from geodiff.rng import generator
from geodiff.schema import BoolArray, FloatArray
from geodiff.testing.fields import Floats, fractal, smooth_noise
from geodiff.testing.sampling import over_blocks

CLOUD_WIDTH_PX = 56.0
SEEN_CLOUD, SEEN_SHADOW = 0.05, 0.10


class Scl(IntEnum):
    """The classes of the Sentinel-2 scene classification that the simulator uses."""

    NO_DATA = 0
    SHADOW = 3
    VEGETATION = 4
    BARE = 5
    WATER = 6
    CLOUD_MEDIUM = 8
    CLOUD_HIGH = 9


HIDDEN = (Scl.NO_DATA, Scl.SHADOW, Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH)

# Path radiance falls with the square of the wavelength in haze (Chavez 1988, Remote Sensing of Environment 24).
HAZE = {"B02": 1.0, "B03": 0.77, "B04": 0.54, "B08": 0.34}
HAZE |= {"B05": 0.48, "B06": 0.44, "B07": 0.39, "B8A": 0.32, "B11": 0.09, "B12": 0.05}
# Droplets and ice absorb in the short-wave infrared.
CLOUD = {"B02": 0.60, "B03": 0.59, "B04": 0.60, "B08": 0.64}
CLOUD |= {"B05": 0.61, "B06": 0.62, "B07": 0.63, "B8A": 0.64, "B11": 0.42, "B12": 0.33}


@dataclass(frozen=True, eq=False)
class Sky:
    """The sky over one date, (rows, columns) float32 each.

    Attributes:
        cloud: opacity of the clouds, 0-1.
        shadow: opacity of what stands between the ground and the sun, 0-1.
        bright: brightness of the clouds, about 1.
        haze: reflectance that haze adds in the blue.
    """

    cloud: FloatArray
    shadow: FloatArray
    bright: FloatArray
    haze: FloatArray

    @property
    def hides(self) -> BoolArray:
        """True where clouds or shadows change what is seen."""
        return (self.cloud > SEEN_CLOUD) | (self.shadow > SEEN_SHADOW)

    def over_blocks(self, step: int) -> Sky:
        """The same sky as pixels see it that are ``step`` times as large: means of blocks, repeated."""
        return Sky(*(over_blocks(part, step) for part in (self.cloud, self.shadow, self.bright, self.haze)))


def draw_cover(seed: int, count: int, cloudiness: float, *, clear: int | None) -> npt.NDArray[np.float64]:
    """Share of each date that is under cloud: about half the dates clear, some overcast.

    Args:
        seed: of the series.
        count: number of dates.
        cloudiness: 0 for none, 1 for a Mediterranean mixture; above, more dates are cloudy.
        clear: a date that must be clear.
    """
    draw = generator(seed, "cloud cover")
    kind, share = draw.random(count), draw.random(count)
    cover = np.where(kind < 0.38 * cloudiness, 0.05 + 0.5 * share, 0.0)
    cover = np.where(kind < 0.12 * cloudiness, 0.75 + 0.25 * share, cover)
    if clear is not None:
        cover[clear] = 0.0
    return cover


def draw_sky(seed: int, date: int, shape: tuple[int, int], *, cover: float, haze: float) -> Sky:
    """Fractal clouds with soft edges, shadows cast to the north west, smooth haze; sizes in low-resolution pixels."""
    draw = generator(seed, "sky", date)
    rows, cols = (np.arange(n, dtype=np.float64) for n in shape)
    reach = draw.uniform(12, 36, 2)

    def opacity(y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> FloatArray:
        if cover <= 0:
            return np.zeros(shape, np.float32)
        field = fractal(seed, f"cloud/{date}", y, x, CLOUD_WIDTH_PX, octaves=6, roughness=0.55)
        thickness = np.maximum(field + ndtri(min(cover, 0.999)), 0)
        return np.asarray(1 - np.exp(-2.6 * thickness), np.float32)

    bright = 1 + 0.12 * fractal(seed, f"bright/{date}", rows, cols, 20.0, octaves=3)
    level = 0.016 * draw.random() * (1 + 0.5 * smooth_noise(seed, f"haze/{date}", rows, cols, 120.0))
    return Sky(
        opacity(rows, cols),
        # The cloud that shades a place stands to its south east.
        0.6 * opacity(rows + reach[0], cols + reach[1]),
        np.asarray(bright, np.float32),
        np.asarray(haze * np.maximum(level, 0), np.float32),
    )


def through_sky(image: Floats, sky: Sky, bands: tuple[str, ...]) -> FloatArray:
    """What is seen of the ground, (band, rows, columns) float32, through shadows, haze and clouds."""
    out = np.empty(image.shape, np.float32)
    for index, band in enumerate(bands):
        lit = image[index] * (1 - sky.shadow * (0.85 if band == "B02" else 1.0))
        hazy = lit + HAZE.get(band, 0.5) * sky.haze * (1 - lit)
        out[index] = hazy + sky.cloud * (CLOUD.get(band, 0.6) * sky.bright - hazy)
    return out


def classify(
    ground: Floats, sky: Sky, inside: BoolArray, bands: tuple[str, ...], *, seed: int, date: int, errors: float
) -> npt.NDArray[np.uint8]:
    """Scene classification at twice the pixel size: misses thin edges, cries wolf on bright roofs.

    Args:
        ground: (band, rows, columns) reflectance without the sky.
        sky: of the date.
        inside: (rows, columns), True inside the swath.
        bands: names of the bands.
        seed: of the series.
        date: number of the date.
        errors: 0 marks exactly what ``Sky.hides`` says, 1 errs about as Sen2Cor does.

    Returns:
        (ceil(rows/2), ceil(columns/2)) uint8, values of ``Scl``.
    """
    rows, cols = (np.arange(n, dtype=np.float64) for n in inside.shape)
    doubt = errors * fractal(seed, f"doubt/{date}", rows, cols, 6.0, octaves=2)
    named = dict(zip(bands, ground, strict=True))
    red, nir = named.get("B04", ground[0]), named.get("B08", ground[-1])
    index = (nir - red) / (nir + red + 1e-6)
    out = np.where(index > 0.4, Scl.VEGETATION, np.where((nir < 0.06) & (index < 0.1), Scl.WATER, Scl.BARE))
    # Doubt delays a decision or hastens it, but nobody sees a cloud or a shadow where there is no trace of one.
    out = np.where(sky.shadow > np.maximum(SEEN_SHADOW + 0.06 * errors + 0.05 * doubt, SEEN_SHADOW), Scl.SHADOW, out)
    cloud = sky.cloud > SEEN_CLOUD + errors * 0.06 + 0.05 * np.abs(doubt)
    if errors > 0:
        cloud = ndimage.binary_opening(cloud, iterations=1) | ((ground[0] > 0.2) & (doubt > 1.0))
    out = np.where(cloud, np.where(sky.cloud > 0.55, Scl.CLOUD_HIGH, Scl.CLOUD_MEDIUM), out)
    return _halved(np.where(inside, out, Scl.NO_DATA).astype(np.uint8))


def _halved(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The worst class of each 2 x 2 pixels: nodata, then cloud, then shadow, then the first pixel's."""
    padded = np.pad(classes, [(0, n % 2) for n in classes.shape], mode="edge")
    four = np.stack([padded[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    out: npt.NDArray[np.uint8] = four[0].copy()
    for bad in (Scl.SHADOW, Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH, Scl.NO_DATA):
        out[(four == bad).any(axis=0)] = bad
    return out


def clear_of(scl: npt.NDArray[np.uint8], shape: tuple[int, int]) -> BoolArray:
    """Return (rows, columns) True where a scene classification at twice the pixel size calls the ground visible."""
    fine = scl.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
    return np.asarray(~np.isin(fine, HIDDEN))
