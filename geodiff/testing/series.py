"""A Sentinel-2 like time series of a known ground: what the sensor delivers, and everything that is true about it.

All bands of a series share the lattice of its low resolution, that of the 10 m bands. A band of 20 m is sampled at its
own, twice as wide, and lies there in blocks of two by two equal pixels that begin at even rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.rng import generator, noise_window
from geodiff.schema import BANDS_10M, BoolArray, FloatArray, UsageError
from geodiff.sensor import band_mtf, native_step
from geodiff.testing.landscape import landscape_window
from geodiff.testing.sampling import observe, over_blocks, repeated
from geodiff.testing.season import read_ground, season_image
from geodiff.testing.weather import Sky, classify, clear_of, draw_cover, draw_sky, through_sky

DEMO_SEED = 1
DEMO_ORIGIN_PX = (0, 2560)
"""A place of the synthetic world, at 2.5 m, that shows a reservoir, fields, woods and a village in 1280 pixels."""


DEMO_DAYS = tuple(18_906.0 + day for day in (0, 35, 65, 115, 140, 180, 205, 215, 245, 290, 325, 350))


@dataclass(frozen=True)
class Effects:
    """What stands between the ground and the delivered pixel; 0 switches an effect off, 1 is as usual.

    Attributes:
        season: change of the ground from date to date.
        shift_px: standard deviation of each date's displacement, low-resolution pixels per axis (cut at 1.5).
        haze: brightness of the haze.
        noise: of the sensor.
        clouds: how often dates are cloudy.
        mask_errors: how often the scene classification errs.
        cut_dates: share of the dates that the edge of the swath crosses.
    """

    season: float = 1.0
    shift_px: float = 0.5
    haze: float = 1.0
    noise: float = 1.0
    clouds: float = 1.0
    mask_errors: float = 1.0
    cut_dates: float = 0.0


NO_EFFECTS = Effects(season=0, shift_px=0, haze=0, noise=0, clouds=0, mask_errors=0)
"""The sensor's blur and sampling alone."""


@dataclass(frozen=True, eq=False)
class SeriesTruth:
    """A simulated series with its truth.

    Attributes:
        reflectance: (time, band, y, x) float32 as delivered, bands of 20 m in blocks; NaN for pixels (of the band's
            own size) that are not wholly inside the swath.
        valid: (time, y, x) bool: clear according to ``scl``, errors included.
        scl: (time, ceil(y/2), ceil(x/2)) uint8, scene classification at twice the pixel size.
        hidden: (time, y, x) bool: truly under cloud or shadow, or outside the swath.
        shift_px: (time, 2) float32, (down, right) displacement of each date's content, low-resolution pixels; the
            sign of ``schema.Patch.shift_px`` when the target is the anchor.
        truth: (time, band, scale*y, scale*x) float32, the ground of each date without sky, shift and sensor.
        days: (time,) float64, days since 1970-01-01 UTC, ascending.
        bands: names.
        scale: high-resolution pixels per low-resolution pixel.
        anchor: the date that lies at shift 0, is clear, and whose truth is the ground given.
    """

    reflectance: FloatArray
    valid: BoolArray
    scl: npt.NDArray[np.uint8]
    hidden: BoolArray
    shift_px: FloatArray
    truth: FloatArray
    days: npt.NDArray[np.float64]
    bands: tuple[str, ...]
    scale: int
    anchor: int

    def seen_truth(self, index: int) -> FloatArray:
        """The truth of one date in that date's own displaced frame, (band, scale*y, scale*x); cubic resampling."""
        down, right = self.shift_px[index] * self.scale
        moved = [ndimage.shift(band, (down, right), order=3, mode="nearest") for band in self.truth[index]]
        return np.stack(moved).astype(np.float32)


def simulate_series(
    truth_hr: FloatArray,
    *,
    days: Sequence[float],
    scale: int = 4,
    seed: int = 0,
    bands: Sequence[str] = BANDS_10M,
    mtf: Sequence[float] | None = None,
    effects: Effects | None = None,
    anchor: int | None = None,
    cover: npt.NDArray[np.uint8] | None = None,
    parcel: npt.NDArray[np.int32] | None = None,
) -> SeriesTruth:
    """Simulate what Sentinel-2 would deliver over a known ground.

    Args:
        truth_hr: (band, scale*y, scale*x) float32 reflectance of the ground on the anchor date, no NaN.
        days: days since 1970-01-01 UTC, ascending.
        scale: integer ratio of the resolutions.
        seed: of everything that is drawn.
        bands: names of the bands; those of 20 m are sampled every 2 * scale pixels of the ground.
        mtf: modulation of each band at its own Nyquist frequency; those of ``geodiff.sensor`` when None.
        effects: what happens on the way; a usual year when None.
        anchor: the date with no shift and no clouds, which shows ``truth_hr`` itself; the middle one when None.
        cover: (scale*y, scale*x) land cover, values of ``Cover``; guessed from the spectra when None.
        parcel: (scale*y, scale*x) parcel numbers, given together with ``cover``.

    Raises:
        UsageError: sizes that are no multiples of the scale, days that do not ascend, bands that do not match.
    """
    names, when = tuple(bands), np.asarray(days, np.float64)
    _check(truth_hr, names, when, scale)
    how = effects or Effects()
    middle = len(when) // 2 if anchor is None else range(len(when))[anchor]
    maker = _Maker(
        ground=truth_hr,
        days=when,
        scale=scale,
        seed=seed,
        bands=names,
        mtf=tuple(mtf or band_mtf(names)),
        effects=how,
        anchor=middle,
    )
    ground = read_ground(truth_hr, names, seed, cover=cover, parcel=parcel)
    truth = np.stack(
        [
            season_image(
                truth_hr,
                ground,
                names,
                day=float(day),
                anchor_day=float(when[middle]),
                span_days=(float(when[0]), float(when[-1])),
                seed=seed,
                strength=how.season,
            )
            for day in when
        ]
    )
    return maker.deliver(truth)


def _check(truth_hr: FloatArray, bands: tuple[str, ...], days: npt.NDArray[np.float64], scale: int) -> None:
    if truth_hr.ndim != 3 or truth_hr.shape[0] != len(bands):
        raise UsageError(f"a ground of shape {truth_hr.shape} does not hold the bands {', '.join(bands)}")
    if truth_hr.shape[1] % scale or truth_hr.shape[2] % scale:
        raise UsageError(f"a ground of {truth_hr.shape[1]} x {truth_hr.shape[2]} pixels is no multiple of x{scale}")
    if len(days) == 0 or (np.diff(days) <= 0).any():
        raise UsageError("the days of a series must ascend, and there must be one at least")


@dataclass(frozen=True, eq=False)
class _Maker:
    """The arguments of one simulation, date by date."""

    ground: FloatArray
    days: npt.NDArray[np.float64]
    scale: int
    seed: int
    bands: tuple[str, ...]
    mtf: tuple[float, ...]
    effects: Effects
    anchor: int

    @property
    def steps(self) -> list[int]:
        return [native_step(band) for band in self.bands]

    @property
    def shape(self) -> tuple[int, int]:
        return self.ground.shape[1] // self.scale, self.ground.shape[2] // self.scale

    def shifts(self) -> FloatArray:
        drawn = self.effects.shift_px * generator(self.seed, "shift").standard_normal((len(self.days), 2))
        drawn[self.anchor] = 0
        return np.clip(drawn, -1.5, 1.5).astype(np.float32)

    def inside_swath(self, date: int) -> BoolArray:
        """True inside the swath, whose edge crosses some dates like the ground track, steeply from north to south."""
        rows, cols = self.shape
        draw = generator(self.seed, "swath", date)
        if date == self.anchor or draw.random() >= self.effects.cut_dates:
            return np.ones(self.shape, np.bool_)
        edge = cols * draw.uniform(0.25, 0.75) - 0.22 * (np.arange(rows)[:, None] - rows / 2)
        return np.asarray(np.arange(cols)[None, :] < edge)

    def noisy(self, image: FloatArray, date: int, step: int) -> FloatArray:
        """Add sensor noise, one draw for each pixel of the bands' own: a floor and photon noise.

        About the signal-to-noise of 120 to 170 at the reference radiances (Gascon et al. 2017, Remote Sensing 9, 584).
        """
        own = (-(-self.shape[0] // step), -(-self.shape[1] // step))
        what = ("noise", date) if step == 1 else ("noise", date, step)
        white = noise_window(self.seed, *what, channels=len(image), origin=(0, 0), shape=own)
        deviation = self.effects.noise * np.sqrt(5e-4**2 + 4e-6 * np.maximum(image, 0))
        return np.asarray(image + deviation * repeated(white, step, self.shape), np.float32)

    def delivered(self, seen: FloatArray, sky: Sky, inside: BoolArray, date: int) -> FloatArray:
        """What comes down of (band, y, x) seen through the optics: sky, noise and swath, by the pixels of each band."""
        out = np.empty_like(seen)
        for step in sorted(set(self.steps)):
            here = [index for index, own in enumerate(self.steps) if own == step]
            names = tuple(self.bands[index] for index in here)
            image = through_sky(seen[here], sky.over_blocks(step), names)
            image = np.clip(self.noisy(image, date, step), 1e-4, 2)
            whole = over_blocks(inside.astype(np.float32), step) == 1
            out[here] = np.where(whole, image, np.float32(math.nan))
        return out

    def deliver(self, truth: FloatArray) -> SeriesTruth:
        shifts = self.shifts()
        covers = draw_cover(self.seed, len(self.days), self.effects.clouds, clear=self.anchor)
        images, scls, hidden = [], [], []
        for date, (ground, shift) in enumerate(zip(truth, shifts, strict=True)):
            sky: Sky = draw_sky(self.seed, date, self.shape, cover=covers[date], haze=self.effects.haze)
            seen = observe(ground, self.scale, self.mtf, (float(shift[0]), float(shift[1])), steps=self.steps)
            inside = self.inside_swath(date)
            images.append(self.delivered(seen, sky, inside, date))
            errors = self.effects.mask_errors
            # By the bands of 10 m where there are any, so that the others do not change what is called clear.
            fine = [k for k, step in enumerate(self.steps) if step == 1] or list(range(len(self.bands)))
            names = tuple(self.bands[k] for k in fine)
            scls.append(classify(seen[fine], sky, inside, names, seed=self.seed, date=date, errors=errors))
            hidden.append(sky.hides | ~inside)
        valid = np.stack([clear_of(scl, self.shape) for scl in scls])
        return SeriesTruth(
            reflectance=np.stack(images),
            valid=valid,
            scl=np.stack(scls),
            hidden=np.stack(hidden),
            shift_px=shifts,
            truth=truth,
            days=self.days,
            bands=self.bands,
            scale=self.scale,
            anchor=self.anchor,
        )


def demo_series(
    size: int = 256,
    *,
    days: Sequence[float] = DEMO_DAYS,
    seed: int = DEMO_SEED,
    effects: Effects | None = None,
    bands: Sequence[str] = BANDS_10M,
) -> SeriesTruth:
    """A year over the demo place: ``size`` x ``size`` pixels of 10 m, truth at 2.5 m.

    Args:
        size: pixels of the low resolution.
        days: days since 1970-01-01; twelve dates from October 2021 to September 2022, across the change of offset.
        seed: of the world and of the series.
        effects: what happens on the way.
        bands: any of ``materials.WORLD_BANDS``.
    """
    scene = landscape_window(seed, DEMO_ORIGIN_PX, (4 * size, 4 * size), 2.5, tuple(bands))
    return simulate_series(
        scene.reflectance,
        days=days,
        seed=seed,
        bands=bands,
        effects=effects or Effects(clouds=0.45),
        cover=scene.cover,
        parcel=scene.parcel,
    )
