"""Batches that need no simulated sky: real series degraded once more, and low with registered high resolution.

In a Wald pair from real Sentinel-2 (Wald, Ranchin & Mangolini 1997, "Fusion of satellite images of different spatial
resolutions", PE&RS 63(6)) the target is the original date, and what the network sees are the real dates around it seen
through the sensor once more: true change of season, true clouds under a mask that a user would have, and overcast dates
that the mask would miss left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from scipy import ndimage

from geodiff.imagery.coregister import MAX_SHIFT_PX, estimate_shifts
from geodiff.imagery.real_series import RealSeries
from geodiff.model.optics import see
from geodiff.model.reference import build_series
from geodiff.schema import BAND, BANDS_10M, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, X, Y
from geodiff.tasks.train_data import TRIES_PER_PATCH, Pair, TrainConfig

CLEAR_TARGET = 0.9
"""Share of the target's pixels that must be clear."""

HIDE, SHADE = 0.12, 0.25
"""Chances that the whole target is hidden from the network, and that the clouds of another date cover it."""

_Draw = np.random.Generator


@dataclass(frozen=True, eq=False)
class Window:
    """A patch of one series before it is degraded.

    Attributes:
        images: (time, band, y, x) float32 at the resolution of the target, which comes first; finite.
        clear: (time, y, x) bool.
        seen: (time, y, x) bool, what the network is told to be clear; differs from ``clear`` on the target alone.
        days: (time,) relative to the target.
        shift_px: (time, 2) displacement against the target, in pixels of the target.
        pixel_m: of the degraded series.
    """

    images: FloatArray
    clear: BoolArray
    seen: BoolArray
    days: npt.NDArray[np.float64]
    shift_px: npt.NDArray[np.float64]
    pixel_m: float


@dataclass(frozen=True, eq=False)
class RealSource:
    """Endless Wald pairs from real series; a batch is a function of seed and step."""

    series: Sequence[RealSeries]
    config: TrainConfig
    mtf: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.usable:
            raise GeodiffError(
                f"no real series is {self.side} pixels wide: lower real_patch_px, or set real_share to 0"
            )

    @property
    def side(self) -> int:
        """Of a patch, in pixels of the target."""
        return self.config.real_patch_px * self.config.scale

    @cached_property
    def usable(self) -> list[RealSeries]:
        """Series that are wide enough and have a date to restore."""
        wide = [one for one in self.series if min(one.images.shape[-2:]) >= self.side]
        return [one for one in wide if (one.valid.mean((1, 2)) >= CLEAR_TARGET).any()]

    @cached_property
    def _shifts(self) -> list[npt.NDArray[np.float64]]:
        return [displacements(one) for one in self.usable]

    def batch(self, step: int) -> Pair:
        """The batch of a step.

        Raises:
            GeodiffError: no series shows a clear patch.
        """
        rng = np.random.default_rng((self.seed, step, 1))
        times = int(rng.choice(self.config.dates))
        windows: list[Window] = []
        # By the root of its dates, so that a series of two dates still counts.
        share = np.sqrt([len(one.days) for one in self.usable])
        for _ in range(TRIES_PER_PATCH * self.config.batch):
            if len(windows) == self.config.batch:
                return degrade_windows(windows, self.config.scale, self.mtf, rng)
            index = int(rng.choice(len(self.usable), p=share / share.sum()))
            window = cut_window(self.usable[index], self._shifts[index], times, self.side, rng)
            if window is not None:
                windows.append(turned(window, rng))
        raise GeodiffError("the real series show too few clear patches: set real_share to 0")


def displacements(one: RealSeries) -> npt.NDArray[np.float64]:
    """Displacement of each date in pixels, (time, 2) down and right, by ``imagery.coregister``; 0 where unknown."""
    import rioxarray  # noqa: F401 - registers .rio

    rows, cols = one.images.shape[-2:]
    cube = xr.DataArray(
        np.where(one.valid[:, None], one.images, np.float32(np.nan)),
        dims=CUBE_DIMS,
        coords={
            TIME: one.days.astype("datetime64[D]").astype("datetime64[ns]"),
            BAND: list(BANDS_10M) if one.images.shape[1] == 4 else [str(i) for i in range(one.images.shape[1])],
            Y: -10.0 * np.arange(rows),
            X: 500_000.0 + 10.0 * np.arange(cols),
            VALID: ((TIME, Y, X), one.valid),
        },
    )
    metres = estimate_shifts(cube.rio.write_crs("EPSG:32631")).values
    found: npt.NDArray[np.float64] = np.stack([-metres[:, 1], metres[:, 0]], 1) / 10.0
    return found


def cut_window(one: RealSeries, shift_px: npt.NDArray[np.float64], times: int, side: int, rng: _Draw) -> Window | None:
    """A window with a clear target and other dates at random; None where the target is not clear there."""
    rows, cols = one.images.shape[-2:]
    top, left = int(rng.integers(0, rows - side + 1)), int(rng.integers(0, cols - side + 1))
    square = (slice(top, top + side), slice(left, left + side))
    target = int(rng.integers(len(one.days)))
    if one.valid[(target, *square)].mean() < CLEAR_TARGET:
        return None
    others = np.setdiff1d(np.arange(len(one.days)), [target])
    chosen = [target, *rng.choice(others, times - 1, replace=len(others) < times - 1)]
    clear = one.valid[(chosen, *square)]
    images = np.stack([filled(one.images[(date, slice(None), *square)]) for date in chosen])
    seen = clear.copy()
    if times > 1:
        seen[0] = hide_target(clear[0], one.valid[(others, *square)], rng)
    return Window(images, clear, seen, one.days[chosen] - one.days[target], shift_px[chosen] - shift_px[target], 40.0)


def filled(image: FloatArray) -> FloatArray:
    """(band, y, x) where pixels of no data (0 or less in some band) take the nearest others: no blur spreads zeros."""
    empty = (image <= 0).any(0)
    if not empty.any() or empty.all():
        return image
    rows, cols = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    out: FloatArray = image[:, rows, cols]
    return out


@dataclass(frozen=True)
class Turn:
    """Rotation by quarters, then a mirror."""

    quarters: int
    mirror: bool

    @classmethod
    def draw(cls, rng: _Draw) -> Turn:
        """Any of the eight."""
        return cls(int(rng.integers(4)), bool(rng.random() < 0.5))

    def image(self, array: FloatArray) -> FloatArray:
        """Turn (..., y, x)."""
        out = np.rot90(array, self.quarters, (-2, -1))
        return np.ascontiguousarray(out[..., ::-1] if self.mirror else out)

    def mask(self, array: BoolArray) -> BoolArray:
        """Turn (..., y, x)."""
        out = np.rot90(array, self.quarters, (-2, -1))
        return np.ascontiguousarray(out[..., ::-1] if self.mirror else out)

    def shift(self, shift: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Turn displacements (..., 2) down and right."""
        for _ in range(self.quarters):  # a quarter carries right to up, and down to right
            shift = np.stack([-shift[..., 1], shift[..., 0]], -1)
        return shift * [1.0, -1.0] if self.mirror else shift


def turned(window: Window, rng: _Draw) -> Window:
    """Rotated by quarters and mirrored at random, displacements with it."""
    turn = Turn.draw(rng)
    return replace(
        window,
        images=turn.image(window.images),
        clear=turn.mask(window.clear),
        seen=turn.mask(window.seen),
        shift_px=turn.shift(window.shift_px),
    )


def hide_target(seen: BoolArray, others: BoolArray, rng: _Draw) -> BoolArray:
    """What the network is told of the target's pixels: at times nothing, at times what another date's clouds leave.

    Args:
        seen: (y, x) bool, clear pixels of the target.
        others: (time, y, x) of other dates, whose clouds are borrowed.
        rng: of the choice.
    """
    draw = rng.random()
    if draw < HIDE:
        return np.zeros_like(seen)
    if draw < HIDE + SHADE:
        return np.asarray(seen & others[int(rng.integers(len(others)))], np.bool_)
    return seen


def degrade_windows(windows: Sequence[Window], scale: int, mtf: tuple[float, ...], rng: _Draw) -> Pair:
    """See windows through the sensor, dates in random order; a low-resolution pixel is clear where all it covers is."""
    times = len(windows[0].days)
    truth = torch.from_numpy(np.stack([window.images for window in windows]))
    low = see(truth, scale, mtf)
    valid = torch.from_numpy(np.stack([_all_of(window.seen, scale) for window in windows]))
    days = torch.from_numpy(np.stack([window.days for window in windows]).astype(np.float32))
    shift = torch.from_numpy(np.stack([window.shift_px for window in windows]).astype(np.float32)) / scale
    pixel = torch.tensor([window.pixel_m for window in windows], dtype=torch.float32)
    order = torch.from_numpy(rng.permutation(times))
    target = (order == 0).nonzero()[0, 0].expand(len(windows))
    shift = shift.clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)
    series, _ = build_series(low[:, order], valid[:, order], days[:, order], shift[:, order], target, pixel)
    clear = torch.from_numpy(np.stack([window.clear[0] for window in windows]))
    return Pair(series, truth[:, 0], clear)


def _all_of(clear: BoolArray, scale: int) -> BoolArray:
    """(time, scale*y, scale*x) -> (time, y, x): True where every pixel of a block is."""
    count, rows, cols = clear.shape
    blocks = clear.reshape(count, rows // scale, scale, cols // scale, scale)
    return np.asarray(blocks.all((2, 4)), np.bool_)
