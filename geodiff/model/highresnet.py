"""A recursive fusion network after HighRes-net (Deudon et al. 2020, arXiv:2002.06460), written from the paper.

Every date is encoded beside the median of all dates; pairs of codes are fused by one shared operator until one is
left; a transposed convolution brings it to the fine lattice. The paper's ground does not change from view to view, and
its views have neither clouds nor known shifts; so here codes move by the shift of their date, fusion asks per pixel
which of the two is valid, the dates are ordered by their distance from the target, and what is predicted is the
residual over the upsampled reference, so that an untrained network is nearly bicubic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from geodiff.dates import season_distance
from geodiff.model.images import REFLECTANCE_MEAN, REFLECTANCE_SCALE, Series
from geodiff.model.patches import hide, nothing, one_thread, patch_series
from geodiff.model.raster import shift_image, upsample
from geodiff.model.reference import MEMORY_DAYS
from geodiff.schema import Patch, Restoration

RIM_PX = 8
"""High-resolution pixels at the border of a patch that the losses leave out: the networks lack context there."""


@dataclass(frozen=True, kw_only=True)
class HighResNetConfig:
    """Size and meaning of a fusion network; stored in its checkpoint.

    The paper has a width of 64 and two blocks. ``residual_scale`` is in reflectance, one value per band: the root mean
    square of what bicubic upsampling misses.
    """

    bands: tuple[str, ...]
    scale: int
    residual_scale: tuple[float, ...]
    width: int = 64
    encoder_blocks: int = 2


class PlainBlock(nn.Module):
    """Two convolutions with PReLU around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.PReLU(), nn.Conv2d(width, width, 3, padding=1), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def clear_median(series: Series) -> Tensor:
    """Per pixel the median of the clear dates in the frame of the target: (batch, band, y, x).

    It is the reference where no date is clear; of an even number of dates it is the lower middle one, as torch has it.
    """
    batch, times = series.valid.shape[:2]
    valid = series.valid[:, :, None].to(series.reflectance.dtype)
    stacked = torch.cat([torch.where(series.valid[:, :, None], series.reflectance, 0.0), valid], 2)
    moved = shift_image(stacked.flatten(0, 1), series.shift_px.flatten(0, 1)).unflatten(0, (batch, times))
    cover = moved[:, :, -1:]
    values = torch.where(cover > 0.5, moved[:, :, :-1] / cover.clamp_min(0.5), float("nan"))
    median = values.nanmedian(1).values
    return torch.where(median.isnan(), series.reference, median)


def by_closeness(days: Tensor) -> Tensor:
    """Order of the dates of each series, the most alike first: indices (batch, times); earlier first of two alike."""
    distance: Tensor = season_distance(days) + 1e-3 * (days > 0)
    return distance.argsort(1)


class SeriesEncoder(nn.Module):
    """A series of any length as one map of features: dates encoded one by one, then fused in pairs."""

    def __init__(self, bands: int, width: int, blocks: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Conv2d(2 * bands + 4, width, 3, padding=1),
            nn.PReLU(),
            *(PlainBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.pair = PlainBlock(2 * width)
        self.fuse = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.PReLU())
        self.look = nn.Conv2d(2 * bands + 1, width, 3, padding=1)

    def forward(self, series: Series) -> Tensor:
        """Features of the target, (batch, width, y, x)."""
        median = clear_median(series)
        codes, valid = self._encode(series, median)
        while codes.shape[1] > 1:
            codes, valid = self._halve(codes, valid)
        own = _units(torch.cat([series.reference, median], 1))
        look = self.look(torch.cat([own, series.observed[:, None].to(own.dtype)], 1))
        out: Tensor = look + torch.where(valid[:, 0, None], codes[:, 0], 0.0)
        return out

    def _encode(self, series: Series, median: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (batch, times, width, y, x) in the frame of the target, and where they are valid; the closest first."""
        batch, times, _, rows, cols = series.reflectance.shape
        shift, valid = series.shift_px.flatten(0, 1), series.valid.flatten(0, 1)[:, None]
        # Beside each date, in its own frame, what it is compared with; where the date is hidden, that alone.
        seen = shift_image(median.repeat_interleave(times, 0), -shift)
        image = torch.where(valid, series.reflectance.flatten(0, 1), seen)
        alike = torch.exp(-season_distance(series.days) / MEMORY_DAYS).flatten()[:, None]
        planes = torch.cat([shift - shift.round(), alike], 1)[:, :, None, None].expand(-1, -1, rows, cols)
        mask = valid.to(image.dtype)
        code = self.embed(torch.cat([_units(image), _units(seen), mask, planes], 1))
        moved = shift_image(torch.cat([code, mask], 1), shift).unflatten(0, (batch, times))
        index = by_closeness(series.days)
        rank = torch.arange(batch, device=index.device)[:, None]
        moved = moved[rank, index]
        return moved[:, :, :-1], moved[:, :, -1] > 0.5

    def _halve(self, codes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the first code with the last, the second with the last but one, and so on; the middle one waits."""
        batch, count = codes.shape[:2]
        half = count // 2
        first, second = codes[:, :half], codes[:, count - half :].flip(1)
        sure, other = valid[:, :half], valid[:, count - half :].flip(1)
        # Where the first is hidden the second stands in for it, and there is nothing to add.
        swap = (other & ~sure)[:, :, None]
        first, second = torch.where(swap, second, first), torch.where(swap, first, second)
        both = (sure & other)[:, :, None].to(codes.dtype)
        update = self.fuse(self.pair(torch.cat([first, second], 2).flatten(0, 1))).unflatten(0, (batch, half))
        return (
            torch.cat([first + both * update, codes[:, half : count - half]], 1),
            torch.cat([sure | other, valid[:, half : count - half]], 1),
        )


def _units(image: Tensor) -> Tensor:
    return (image - REFLECTANCE_MEAN) / REFLECTANCE_SCALE


class HighResNet(nn.Module):
    """Series -> high-resolution reflectance."""

    residual_scale: Tensor

    def __init__(self, config: HighResNetConfig) -> None:
        super().__init__()
        self.config = config
        width, bands = config.width, len(config.bands)
        self.encoder = SeriesEncoder(bands, width, config.encoder_blocks)
        self.widen = nn.Sequential(nn.ConvTranspose2d(width, width, config.scale, stride=config.scale), nn.PReLU())
        self.last = nn.Conv2d(width, bands, 1)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.register_buffer("residual_scale", torch.tensor(config.residual_scale)[:, None, None], persistent=False)

    def forward(self, series: Series) -> Tensor:
        """(batch, band, scale*y, scale*x) reflectance."""
        residual = self.last(self.widen(self.encoder(series)))
        out: Tensor = upsample(series.reference, self.config.scale) + self.residual_scale * residual
        return out

    def loss(
        self, series: Series, target: Tensor, *, generator: torch.Generator, clear: Tensor | None = None
    ) -> Tensor:
        """Mean over the patches of the logarithm of the squared error: the paper's negative PSNR.

        Without the paper's correction of brightness and its search for the registration, which are known here.

        Args:
            series: what the network sees.
            target: (batch, band, scale*y, scale*x), the truth.
            generator: not used; the losses of all networks share one form.
            clear: (batch, scale*y, scale*x) bool, pixels of the truth that count; all when None.
        """
        error = inner_mean(((self(series) - target) / self.residual_scale).square(), clear)
        # A hundredth of what bicubic misses is as good as nothing: no patch counts for more than that.
        return (error + 1e-2).log().mean()


def inner_mean(error: Tensor, clear: Tensor | None) -> Tensor:
    """Mean of (batch, band, y, x) without the rim and where ``clear``: (batch,); 0 for a patch without any."""
    rim = RIM_PX if min(error.shape[-2:]) > 4 * RIM_PX else 0
    inner = (..., slice(rim, error.shape[-2] - rim), slice(rim, error.shape[-1] - rim))
    weight = torch.ones_like(error) if clear is None else clear[:, None].to(error.dtype).expand_as(error)
    return (error * weight)[inner].sum((1, 2, 3)) / weight[inner].sum((1, 2, 3)).clamp_min(1.0)


@dataclass(frozen=True)
class HighResNetResolver:
    """The fusion network as a resolver; it has no members."""

    deterministic: ClassVar[bool] = True
    """It has no members."""

    name: str
    model: HighResNet

    @property
    def scale(self) -> int:
        return self.model.config.scale

    @property
    def bands(self) -> tuple[str, ...]:
        return self.model.config.bands

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``."""
        with one_thread(), torch.inference_mode():
            series, known = patch_series(patch)
            if not known.any():
                return nothing(patch, self.scale, 0)
            mean = self.model(series)[0].contiguous().numpy()
            return hide(Restoration(mean=mean, members=mean[None][:0]), known, self.scale)
