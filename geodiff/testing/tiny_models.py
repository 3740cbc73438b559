"""Small untrained models and the patches and cubes to feed them, for tests of everything but the quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - registers .rio
import torch
import xarray as xr

from geodiff.grid import Grid
from geodiff.model.checkpoint import save_checkpoint
from geodiff.model.guided import GuidedResolver
from geodiff.model.images import ImageConfig, ImageDenoiser
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import BAND, BANDS_10M, BANDS_20M, SHIFT_X_M, SHIFT_Y_M, TIME, VALID, Patch, X, Y
from geodiff.sensor import band_mtf

UTM = "EPSG:32631"


def tiny_config(*, residual_scale: float = 0.02, guided: bool = False) -> ImageConfig:
    """The smallest configuration that has every part: about 40 thousand parameters.

    Args:
        residual_scale: of all bands.
        guided: restore the 20 m bands, eight times finer, with the 10 m bands as a guide.
    """
    bands = BANDS_20M if guided else BANDS_10M
    return ImageConfig(
        bands=bands,
        guide=BANDS_10M if guided else (),
        scale=8 if guided else 4,
        residual_scale=(residual_scale,) * len(bands),
        mtf=band_mtf(bands),
        stride=2 if guided else 4,
        stem_width=16,
        decoder_width=8,
        decoder_blocks=2,
        detail_width=4,
        trunk_width=16,
        trunk_heads=2,
        trunk_layers=2,
        fusion_heads=4,
    )


def tiny_denoiser(*, seed: int = 0, residual_scale: float = 0.02, guided: bool = False) -> ImageDenoiser:
    """An image denoiser with random weights, in evaluation mode; the arguments are those of ``tiny_config``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ImageDenoiser(tiny_config(residual_scale=residual_scale, guided=guided))
        # The last layer starts near zero; here it must speak, so that what reaches it is seen.
        with torch.no_grad():
            model.detail.weight.mul_(10.0)
    return model.eval()


def tiny_weights(folder: Path, *, seed: int = 0) -> Path:
    """A tiny denoiser stored as a checkpoint; path of the weights."""
    path = folder / "tiny.safetensors"
    save_checkpoint(tiny_denoiser(seed=seed), path, card={})
    return path


def tiny_guided(*, passes: int = 2) -> GuidedResolver:
    """All ten bands, by two tiny denoisers."""
    fine = DiffusionResolver("tiny", tiny_denoiser(), passes=passes)
    return GuidedResolver(
        "tiny-ten", fine, DiffusionResolver("tiny-ten", tiny_denoiser(seed=1, guided=True), passes=passes)
    )


def ten_bands(patch: Patch) -> Patch:
    """A patch of the 10 m bands with 20 m bands beside them, as blocks of native pixels made of their mixtures.

    A block is the mean of what lies of it in the patch; where a part is not valid, it is not valid whole.
    """
    (row, col), (height, width) = patch.origin_px, patch.valid.shape[1:]
    down, right = (np.arange(first, first + count) // 2 - first // 2 for first, count in ((row, height), (col, width)))
    block = down[:, None] * (right[-1] + 1) + right
    mixed = np.einsum("ij,tjyx->tiyx", _MIXTURE, patch.reflectance)
    count = np.bincount(block.ravel())
    layers = [[np.bincount(block.ravel(), image.ravel()) / count for image in date] for date in mixed]
    coarse = np.asarray(layers, np.float32)[:, :, block]
    return replace(patch, reflectance=np.concatenate([patch.reflectance, coarse], 1))


_MIXTURE = np.array(
    [[0.1, 0.3, 0.5, 0.2], [0, 0.2, 0.1, 0.7], [0, 0, 0.1, 0.8], [0, 0, 0, 1], [0.2, 0, 0.9, 0], [0.9, 0, 0.3, 0]]
)


def random_patch(
    shape: tuple[int, int] = (24, 24),
    *,
    dates: int = 3,
    seed: int = 0,
    target_index: int | None = 0,
    clouds: float = 0.0,
    origin_px: tuple[int, int] = (0, 0),
) -> Patch:
    """Smooth random reflectance with irregular days and shifts, and clouds in blocks of 4 x 4 pixels.

    Args:
        shape: (rows, columns).
        dates: number of dates.
        seed: of everything.
        target_index: the observed target date; None for a day between the first two.
        clouds: share of the blocks that is hidden.
        origin_px: of the patch on the absolute lattice.
    """
    random = np.random.default_rng(seed)
    rows, cols = shape
    coarse = random.uniform(0.05, 0.4, (dates, 4, -(-rows // 4), -(-cols // 4)))
    image = coarse.repeat(4, -2).repeat(4, -1)[..., :rows, :cols] + random.normal(0, 0.01, (dates, 4, rows, cols))
    hidden = random.random((dates, -(-rows // 4), -(-cols // 4))) < clouds
    shift = random.uniform(-1, 1, (dates, 2))
    days = 18_000.0 + np.cumsum(random.uniform(2, 30, dates))
    if target_index is not None:
        shift -= shift[target_index]
    return Patch(
        reflectance=image.astype(np.float32),
        valid=~hidden.repeat(4, 1).repeat(4, 2)[:, :rows, :cols],
        days=days,
        target_day=float(days[0] + 1 if target_index is None else days[target_index]),
        target_index=target_index,
        shift_px=shift.astype(np.float32),
        pixel_m=10.0,
        origin_px=origin_px,
    )


def reordered(patch: Patch, order: Sequence[int]) -> Patch:
    """The same patch with its dates in another order; its target is one of them."""
    rows = list(order)
    return replace(
        patch,
        reflectance=patch.reflectance[rows],
        valid=patch.valid[rows],
        days=patch.days[rows],
        shift_px=patch.shift_px[rows],
        light=None if patch.light is None else patch.light[rows],
        target_index=None if patch.target_index is None else rows.index(patch.target_index),
    )


def random_cube(
    shape: tuple[int, int],
    *,
    dates: int = 3,
    seed: int = 0,
    origin: tuple[float, float] = (5e5, 4e6),
    clouds: float = 0.2,
) -> xr.DataArray:
    """The cube of a ``random_patch``, in UTM at 10 m, NaN under its clouds, with its shifts."""
    patch = random_patch(shape, dates=dates, seed=seed, clouds=clouds)
    grid = Grid(UTM, (10.0, 10.0), origin, shape)
    times: npt.NDArray[np.datetime64] = (patch.days * 86_400).astype("datetime64[s]").astype("datetime64[ns]")
    cube = xr.DataArray(
        np.where(patch.valid[:, None], patch.reflectance, np.float32("nan")),
        dims=(TIME, BAND, Y, X),
        coords={
            TIME: times,
            BAND: list(BANDS_10M),
            Y: grid.y,
            X: grid.x,
            VALID: ((TIME, Y, X), patch.valid),
            SHIFT_X_M: (TIME, 10.0 * patch.shift_px[:, 1]),
            SHIFT_Y_M: (TIME, -10.0 * patch.shift_px[:, 0]),
        },
    )
    labelled: xr.DataArray = cube.rio.write_crs(UTM).rio.write_transform(grid.transform)
    return labelled
