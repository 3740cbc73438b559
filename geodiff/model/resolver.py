"""From a patch to a restored patch: the denoiser and the classical baselines, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from geodiff.model.images import ImageDenoiser, Series, shift_image
from geodiff.model.optics import enforce
from geodiff.model.reference import build_series
from geodiff.model.sampler import euler, schedule
from geodiff.rng import noise_window
from geodiff.schema import FloatArray, Patch, Restoration

Mirrored = tuple[int, int, int, int]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums split over threads differ in their last bits; tiles run side by side instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        # Worker threads of a pool stay at one: only the thread that asked for more gets it back.
        if before != 1:
            torch.set_num_threads(before)


def _fill_nearest(image: Tensor, known: Tensor) -> Tensor:
    """Give unknown pixels the value of the nearest known one, so that nothing invented bleeds over the edge."""
    mask = known.numpy()
    if mask.all() or not mask.any():
        return image
    rows, cols = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return image[:, torch.from_numpy(rows), torch.from_numpy(cols)]


def patch_series(patch: Patch) -> tuple[Series, Tensor]:
    """A patch as a batch of one, with its reference; and (y, x) bool: where some date was clear."""
    observed = np.where(patch.valid[:, None], patch.reflectance, 0.0).astype(np.float32)
    index = -1 if patch.target_index is None else patch.target_index
    series, known = build_series(
        torch.from_numpy(observed)[None],
        torch.from_numpy(np.array(patch.valid))[None],
        torch.from_numpy((patch.days - patch.target_day).astype(np.float32))[None],
        torch.from_numpy(np.array(patch.shift_px, np.float32))[None],
        torch.tensor([index]),
        torch.tensor([patch.pixel_m], dtype=torch.float32),
    )
    series.reference[0] = _fill_nearest(series.reference[0], known[0])
    return series, known[0]


def _upsample(image: Tensor, scale: int) -> Tensor:
    result: Tensor = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
    return result


@dataclass(frozen=True)
class DiffusionResolver:
    """The spatio-temporal denoiser as a resolver.

    The first pass, at noise level 1, is the regression mean and is shared by all members. Members come in antithetic
    pairs (noise e and -e), whose errors cancel to first order. The noise is that of the absolute high-resolution
    lattice and the same for every target date, so that one member is one story through time.

    A patch may have any size and any place: it is grown to whole cells of the absolute lattice by pixels that are not
    valid, and cut back before the radiometric constraint, which therefore holds up to the patch's own edge.

    Attributes:
        name: for reports.
        model: in evaluation mode.
        passes: evaluations per member, the shared first included; with 1 there are no members.
        spread: factor on the deviation of members from the mean, from calibration on held-out places.
        consistent: end with the hard radiometric constraint where the target date was observed.
    """

    name: str
    model: ImageDenoiser
    passes: int = 2
    spread: float = 1.0
    consistent: bool = True

    @property
    def scale(self) -> int:
        return self.model.config.scale

    @property
    def bands(self) -> tuple[str, ...]:
        return self.model.config.bands

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``."""
        members = members if self.passes > 1 else 0
        grown, rows, cols = _whole_cells(patch, self.model.config.stride)
        with _one_thread(), torch.inference_mode():
            series, known = patch_series(grown)
            if not known.any():
                return _nothing(patch, self.scale, members)
            image = self._sample(series, grown.origin_px, members, seed)
            image = image[..., _times(rows, self.scale), _times(cols, self.scale)]
            if self.consistent:
                reference, observed = series.reference[0, :, rows, cols], series.observed[0, rows, cols]
                image = self._enforced(image, reference, observed, patch.mirrored)
            result = image.contiguous().numpy()
            return _hide(Restoration(mean=result[0], members=result[1:]), known[rows, cols], self.scale)

    def _enforced(self, image: Tensor, reference: Tensor, observed: Tensor, mirrored: Mirrored) -> Tensor:
        """The constraint on the scene's own pixels: at its border the sensor's blur is cut, as when it is degraded."""
        top, bottom, left, right = mirrored
        rows, cols = slice(top, reference.shape[-2] - bottom), slice(left, reference.shape[-1] - right)
        scene = image[..., _times(rows, self.scale), _times(cols, self.scale)]
        scene = enforce(scene, reference[:, rows, cols], observed[rows, cols], self.scale, self.model.config.mtf)
        image = image.clone()
        image[..., _times(rows, self.scale), _times(cols, self.scale)] = scene
        return image

    def _sample(self, series: Series, origin_px: tuple[int, int], members: int, seed: int) -> Tensor:
        """Mean and members, (1 + members, band, scale*y, scale*x), before the constraint."""
        context = self.model.encode(series)
        unit = self.model.residual_scale

        def denoise(x: Tensor, level: float) -> Tensor:
            estimate: Tensor = mean if level == 1.0 else self.model(x, torch.tensor([level]), context)
            return estimate

        mean = self.model(torch.zeros_like(context.upsampled), torch.ones(1), context)
        shape = (mean.shape[-2], mean.shape[-1])
        origin = (origin_px[0] * self.scale, origin_px[1] * self.scale)
        samples = [mean]
        for member in range(members):
            field = noise_window(seed, "member", member // 2, channels=len(self.bands), origin=origin, shape=shape)
            noise = torch.from_numpy(field)[None] * (1 - 2 * (member % 2))
            samples.append(mean + self.spread * (euler(denoise, noise, schedule(self.passes)) - mean))
        image: Tensor = context.upsampled + unit * torch.cat(samples)
        return image


def _times(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)


def _whole_cells(patch: Patch, cell: int) -> tuple[Patch, slice, slice]:
    """Grow a patch to whole cells of the absolute lattice, so that neighbours cut the same cells; its own pixels."""
    (row, col), (height, width) = patch.origin_px, patch.valid.shape[1:]
    above, left = row % cell, col % cell
    rows, cols = slice(above, above + height), slice(left, left + width)
    pad = ((above, -(row + height) % cell), (left, -(col + width) % cell))
    if pad == ((0, 0), (0, 0)):
        return patch, rows, cols
    grown = replace(
        patch,
        reflectance=np.pad(patch.reflectance, ((0, 0), (0, 0), *pad)),
        valid=np.pad(patch.valid, ((0, 0), *pad)),
        origin_px=(row - above, col - left),
    )
    return grown, rows, cols


def _nothing(patch: Patch, scale: int, members: int) -> Restoration:
    bands, rows, cols = patch.reflectance.shape[1:]
    empty = np.full((members + 1, bands, rows * scale, cols * scale), np.nan, np.float32)
    return Restoration(mean=empty[0], members=empty[1:])


def _hide(restored: Restoration, known: Tensor, scale: int) -> Restoration:
    """NaN where no date showed the ground: what is there is the prior's alone."""
    unknown = ~known.numpy().repeat(scale, 0).repeat(scale, 1)
    restored.mean[:, unknown] = np.nan
    restored.members[:, :, unknown] = np.nan
    return restored


def _baseline(patch: Patch, scale: int, picture: Callable[[Series, Tensor], Tensor]) -> Restoration:
    """Upsample what ``picture`` makes of a series and of where it is known: (band, y, x); no members."""
    with _one_thread(), torch.inference_mode():
        series, known = patch_series(patch)
        if not known.any():
            return _nothing(patch, scale, 0)
        mean: FloatArray = _upsample(picture(series, known)[None], scale)[0].numpy()
        return _hide(Restoration(mean=mean, members=mean[None][:0]), known, scale)


def _median(series: Series, known: Tensor) -> Tensor:
    valid = series.valid[0][:, None].float()
    moved = shift_image(torch.cat([series.reflectance[0] * valid, valid], 1), series.shift_px[0])
    clear = moved[:, -1:] > 0.5
    stack = torch.where(clear, moved[:, :-1] / moved[:, -1:].clamp_min(0.5), float("nan"))
    return _fill_nearest(stack.nanmedian(0).values.nan_to_num(), known)


@dataclass(frozen=True)
class BicubicResolver:
    """Baseline: the target date upsampled, filled from the nearest clear dates moved into its frame ("registered")."""

    bands: tuple[str, ...]
    scale: int = 4
    name: str = "bicubic"

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        return _baseline(patch, self.scale, lambda series, known: series.reference[0])


@dataclass(frozen=True)
class MedianResolver:
    """Baseline: per pixel the median of all clear dates, moved into the frame of the target, upsampled."""

    bands: tuple[str, ...]
    scale: int = 4
    name: str = "median"

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        return _baseline(patch, self.scale, _median)
