"""From reflectance to colours that can be compared: one stretch for all pictures of a place, holes transparent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.schema import BoolArray, FloatArray

RGBA = npt.NDArray[np.float32]

_DULLEST = 0.02
_GAMMA = 1.5


@dataclass(frozen=True)
class Stretch:
    """A linear stretch to [0, 1] with a gentle gamma.

    Attributes:
        bands: indices of the red, green and blue band (one index for grey).
        low: reflectance shown as black, one per band.
        span: reflectance from black to full colour, one per band.
    """

    bands: tuple[int, ...]
    low: tuple[float, ...]
    span: tuple[float, ...]

    @classmethod
    def of(cls, image: FloatArray, bands: tuple[int, ...]) -> Stretch:
        """The stretch between percentiles 1 and 99 of an image (band, y, x), NaN left out.

        ``bands`` that the image does not have give way to its first band in grey.
        """
        chosen = bands if max(bands) < image.shape[0] else (0,)
        limits = [_limits(image[band]) for band in chosen]
        return cls(chosen, tuple(low for low, _ in limits), tuple(max(high - low, _DULLEST) for low, high in limits))

    def apply(self, image: FloatArray) -> RGBA:
        """Colours of an image: (band, y, x) reflectance to (y, x, 4) float32, alpha 0 where a shown band is NaN."""
        shown = image[list(self.bands)].astype(np.float32)
        alpha = np.asarray(np.isfinite(shown).all(axis=0))
        black, span = (np.array(v, np.float32)[:, None, None] for v in (self.low, self.span))
        colour = np.clip((np.nan_to_num(shown) - black) / span, 0, 1) ** (1 / _GAMMA)
        rgb = np.repeat(colour, 3, axis=0) if len(self.bands) == 1 else colour
        return np.concatenate([rgb, alpha[None].astype(np.float32)]).transpose(1, 2, 0)


def _limits(band: FloatArray) -> tuple[float, float]:
    finite: BoolArray = np.isfinite(band)
    values = band[finite]
    if not values.size:
        return (0.0, 1.0)
    low, high = (float(limit) for limit in np.percentile(values, [1, 99]))
    return (low, high)


def shrink(image: FloatArray, longest: int) -> FloatArray:
    """Mean over whole blocks of pixels, NaN left out, until the longer side is at most ``longest``.

    Args:
        image: (band, y, x).
        longest: pixels.

    Returns:
        (band, ceil(y / n), ceil(x / n)) float32 for the smallest fitting n.
    """
    rows, cols = image.shape[-2:]
    n = -(-max(rows, cols) // longest)
    if n <= 1:
        return image
    padded = np.pad(image, [(0, 0), (0, -rows % n), (0, -cols % n)], constant_values=np.nan)
    blocks = padded.reshape(image.shape[0], padded.shape[1] // n, n, padded.shape[2] // n, n)
    finite = np.isfinite(blocks)
    count = finite.sum(axis=(2, 4))
    total = np.where(finite, blocks, 0).sum(axis=(2, 4), dtype=np.float64)
    mean = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean.astype(np.float32)


def textured_square(image: FloatArray, side: int) -> tuple[int, int, int]:
    """Where to look closely: the square with the steepest slopes and the fewest holes.

    Args:
        image: (band, y, x) reflectance.
        side: of the square in pixels; cut to the image.

    Returns:
        (top, left, side) in pixels.
    """
    rows, cols = image.shape[-2:]
    side = min(side, rows, cols)
    grey = image.mean(axis=0, dtype=np.float64)
    filled = np.where(np.isfinite(grey), grey, 0.0)
    slope = np.abs(np.diff(filled, axis=0, prepend=filled[:1])) + np.abs(np.diff(filled, axis=1, prepend=filled[:, :1]))
    # A single glaring roof must not decide: slopes count up to four times the median of those above zero.
    steep = slope.ravel()[np.flatnonzero(slope)]
    slope = np.minimum(slope, 4 * np.median(steep)) if steep.size else slope
    slope[~np.isfinite(grey)] = -(slope.max() + 1.0)
    sums = np.pad(slope.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    box = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(np.argmax(box)), box.shape)
    return int(top), int(left), side


def nice_length(extent_m: float) -> float:
    """A round length of 1, 2 or 5 times a power of ten, at most a third of ``extent_m``."""
    power = 10.0 ** np.floor(np.log10(extent_m / 3))
    return float(max(step * power for step in (1, 2, 5) if step * power <= extent_m / 3))
