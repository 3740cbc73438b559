"""Image series as tokens: a convolutional stem per date, the trunk at a coarse stride, a decoder that sees the skips.

The dates of a series are clean frames; the high-resolution target is one more frame of the same cells, noised. The
trunk decides at a coarse stride which dates to trust where; its attention, brought up to every pixel and cut by the
validity there, fuses the skips of the dates (the idea of L-TAE and U-TAE, Sainte Fare Garnot & Landrieu 2020, 2021).
What is predicted is the residual of the high-resolution frame over the upsampled reference, in units of
``residual_scale``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodiff.model.denoiser import Context, Denoiser
from geodiff.model.guide import Guide, GuideAdapter
from geodiff.model.noise import precondition
from geodiff.model.raster import grid_neighbours, shift_image, upsample
from geodiff.model.tokens import LevelEmbedding, Tokens, fourier_features

REFLECTANCE_MEAN, REFLECTANCE_SCALE = 0.15, 0.12


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Size and meaning of an image denoiser; stored in its checkpoint.

    ``residual_scale`` is in reflectance, one value per band: the standard deviation of what bicubic upsampling misses.
    ``guide`` names bands that are known at the high resolution (``model.guide``); none for most models.
    """

    bands: tuple[str, ...]
    scale: int
    residual_scale: tuple[float, ...]
    mtf: tuple[float, ...]
    guide: tuple[str, ...] = ()
    stem_width: int = 40
    stem_blocks: int = 1
    decoder_width: int = 48
    decoder_blocks: int = 8
    detail_width: int = 12
    stride: int = 4
    reach: int = 2
    trunk_width: int = 64
    trunk_heads: int = 4
    trunk_layers: int = 2
    fusion_heads: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A batch of low-resolution series.

    Attributes:
        reflectance: (batch, times, band, y, x) float32, aligned to no better than ``shift_px``.
        valid: (batch, times, y, x) bool.
        days: (batch, times) float32, days relative to the target.
        shift_px: (batch, times, 2) float32, (down, right) displacement of a date's content against the target's frame.
        reference: (batch, band, y, x) float32: the target date where it was observed, the best of the others elsewhere.
        observed: (batch, y, x) bool: where the reference is the target date itself.
        pixel_m: (batch,) float32, side of a low-resolution pixel in metres.
        guide: (batch, guide band, scale*y, scale*x) float32 reflectance of other bands on the target date; None for a
            model without.
    """

    reflectance: Tensor
    valid: Tensor
    days: Tensor
    shift_px: Tensor
    reference: Tensor
    observed: Tensor
    pixel_m: Tensor
    guide: Tensor | None = None

    def to(self, device: torch.device) -> Series:
        """The same series on a device."""
        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: each if each is None else each.to(device) for name, each in given.items()}
        return Series(**moved)


@dataclass(frozen=True, slots=True, eq=False)
class ImageContext:
    """Everything about a series that does not depend on the noise: computed once, used by every pass and member."""

    trunk: Context
    skips: Tensor
    skip_valid: Tensor
    reference_skip: Tensor
    upsampled: Tensor
    lattice: Tokens
    guide: Guide | None = None


class ResidualBlock(nn.Module):
    """Two convolutions with a gain and bias per channel set by a condition vector (FiLM, Perez et al. 2018)."""

    def __init__(self, width: int, condition: int | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(condition, 2 * width) if condition else None
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        hidden = self.first(x)
        if self.film is not None and condition is not None:
            gain, bias = self.film(condition)[..., None, None].chunk(2, 1)
            hidden = hidden * (1 + gain) + bias
        out: Tensor = x + self.second(F.silu(hidden))
        return out


class ImageDenoiser(nn.Module):
    """x0 of the high-resolution residual from its noised version and a series of any length, order and spacing."""

    residual_scale: Tensor

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        bands, sub, width = len(config.bands), config.scale**2, config.decoder_width
        skip = config.stem_width
        self.stem_in = nn.Conv2d(bands + 3, skip, 3, padding=1)
        self.stem = nn.ModuleList(ResidualBlock(skip) for _ in range(config.stem_blocks))
        self.noisy_in = nn.Conv2d(bands * sub, skip, 3, padding=1)
        self.patchify = nn.Conv2d(skip, config.trunk_width, config.stride, stride=config.stride)
        extra = skip if config.guide else 0
        self.patchify_noisy = nn.Conv2d(2 * skip + extra, config.trunk_width, config.stride, stride=config.stride)
        self.footprint = nn.Linear(8, config.trunk_width)
        self.trunk = Denoiser(width=config.trunk_width, heads=config.trunk_heads, layers=config.trunk_layers)
        self.fusion_query = nn.Linear(config.trunk_width, config.fusion_heads * 8)
        self.fusion_key = nn.Linear(config.trunk_width, config.fusion_heads * 8)
        self.condition = LevelEmbedding(64)
        self.token_out = nn.Linear(config.trunk_width, 32)
        self.merge = nn.Conv2d(3 * skip + extra + 32, width, 1)
        self.decoder = nn.ModuleList(ResidualBlock(width, 64) for _ in range(config.decoder_blocks))
        self.widen = nn.Conv2d(width, config.detail_width * sub, 3, padding=1)
        self.detail = nn.Conv2d(config.detail_width, bands, 3, padding=1)
        self.gate = nn.Conv2d(config.detail_width, bands, 3, padding=1)
        if config.guide:
            sizes = (skip, width, config.detail_width)
            self.guide = GuideAdapter(len(config.guide), bands, config.scale, *sizes)
        with torch.no_grad():
            self.detail.weight.mul_(0.1)
            self.gate.weight.zero_()
        self.register_buffer("residual_scale", torch.tensor(config.residual_scale)[:, None, None], persistent=False)

    def _stem(self, image: Tensor, mask: Tensor, phase: Tensor) -> Tensor:
        """(n, band, y, x), (n, y, x), (n, 2) -> (n, stem_width, y, x)."""
        scaled = (image - REFLECTANCE_MEAN) / REFLECTANCE_SCALE
        planes = phase[:, :, None, None].expand(-1, -1, *image.shape[-2:])
        x = self.stem_in(torch.cat([scaled, mask[:, None].to(image.dtype), planes], 1))
        for block in self.stem:
            x = block(x)
        out: Tensor = x
        return out

    def _lattice(self, series: Series, rows: int, cols: int) -> tuple[Tensor, Tensor, Tensor]:
        """Places (batch, cells, 2) in metres, neighbours and their mask."""
        step = self.config.stride
        row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
        cell = torch.stack([row, col], -1).flatten(0, 1).to(series.pixel_m) * step
        neighbours, near = grid_neighbours(rows, cols, self.config.reach)
        place = cell[None] * series.pixel_m[:, None, None]
        return place, neighbours.to(place.device), near.to(place.device)

    def encode(self, series: Series) -> ImageContext:
        """Everything that does not depend on the noise. y and x must be multiples of the stride."""
        batch, times, _, rows, cols = series.reflectance.shape
        flat_shift = series.shift_px.flatten(0, 1)
        valid = series.valid.flatten(0, 1)
        phase = flat_shift - flat_shift.round()
        # Zero is the mean reflectance: a masked pixel tells the convolutions nothing but its flag.
        seen = torch.where(valid[:, None], series.reflectance.flatten(0, 1), REFLECTANCE_MEAN)
        raw = self._stem(seen, valid, phase)
        moved = shift_image(torch.cat([raw, valid[:, None].to(raw.dtype)], 1), flat_shift)
        skips, skip_valid = moved[:, :-1].unflatten(0, (batch, times)), moved[:, -1].unflatten(0, (batch, times)) > 0.5
        reference_skip = self._stem(series.reference, series.observed, torch.zeros_like(series.shift_px[:, 0]))
        coarse_rows, coarse_cols = rows // self.config.stride, cols // self.config.stride
        place, neighbours, near = self._lattice(series, coarse_rows, coarse_cols)
        octaves = (series.pixel_m * self.config.stride / 10.0).log2() / 8.0
        payload = self.patchify(skips.flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, (batch, times))
        payload = payload + self.footprint(fourier_features(octaves, 4))[:, None, None]
        cell_valid = F.max_pool2d(skip_valid.flatten(0, 1).to(raw.dtype)[:, None], self.config.stride)
        tokens = Tokens(
            payload=payload,
            days=series.days,
            place_m=place,
            level=payload.new_zeros(1, 1, 1),
            valid=cell_valid.flatten(1).unflatten(0, (batch, times)) > 0,
            neighbours=neighbours,
            near=near,
        )
        upsampled = upsample(series.reference, self.config.scale)
        guide = self.guided(series.guide)
        return ImageContext(self.trunk.encode(tokens), skips, skip_valid, reference_skip, upsampled, tokens, guide)

    def guided(self, guide: Tensor | None) -> Guide | None:
        """What passes need of a guide (batch, guide band, scale*y, scale*x); None for a model without.

        Raises:
            ValueError: a guide for a model without, or none for one with.
        """
        if (guide is None) == bool(self.config.guide):
            raise ValueError(f"this model is guided by {' '.join(self.config.guide) or 'no bands'}")
        found: Guide | None = None if guide is None else self.guide((guide - REFLECTANCE_MEAN) / REFLECTANCE_SCALE)
        return found

    def _fuse(self, query: Tensor, context: ImageContext) -> Tensor:
        """Attention of the target over the dates, per pixel: (batch, cells, width) -> (batch, stem_width, y, x)."""
        heads = self.config.fusion_heads
        batch, times, width, rows, cols = context.skips.shape
        q = self.fusion_query(query).unflatten(-1, (heads, 8))
        k = self.fusion_key(context.trunk.output).unflatten(-1, (heads, 8))
        scores = torch.einsum("bchd,btchd->bthc", q, k) / math.sqrt(8)
        size = (rows // self.config.stride, cols // self.config.stride)
        scores = F.interpolate(
            scores.flatten(0, 1).unflatten(-1, size), (rows, cols), mode="bilinear", align_corners=False
        )
        weight = scores.unflatten(0, (batch, times)).clamp(-15, 15).exp() * context.skip_valid[:, :, None]
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-9)
        grouped = context.skips.unflatten(2, (heads, width // heads))
        fused: Tensor = (weight[:, :, :, None] * grouped).sum(1).flatten(1, 2)
        return fused

    def forward(self, noised: Tensor, level: Tensor, context: ImageContext) -> Tensor:
        """Estimate the clean residual.

        Args:
            noised: (batch, band, scale*y, scale*x), in units of ``residual_scale``.
            level: (batch,) in (0, 1].
            context: of the same batch.

        Returns:
            x0_hat, like ``noised``.
        """
        skip, out = (part[:, None, None, None] for part in precondition(level))
        size = tuple(n // self.config.stride for n in context.reference_skip.shape[-2:])
        noisy = self.noisy_in(F.pixel_unshuffle(noised * (1 - level[:, None, None, None]), self.config.scale))
        guide = context.guide
        extra = [] if guide is None else [guide.features]
        payload = self.patchify_noisy(torch.cat([noisy, context.reference_skip, *extra], 1)).flatten(2).transpose(1, 2)
        lattice = context.lattice
        tokens = Tokens(
            payload=payload[:, None],
            days=torch.zeros_like(lattice.days[:, :1]),
            place_m=lattice.place_m,
            level=level[:, None, None],
            valid=torch.ones_like(lattice.valid[:, :1]),
            neighbours=lattice.neighbours,
            near=lattice.near,
        )
        seen = self.trunk.denoise(tokens, context.trunk)[:, 0]
        fused = self._fuse(seen, context)
        coarse = self.token_out(seen).transpose(1, 2).unflatten(-1, size)
        coarse = F.interpolate(coarse, context.reference_skip.shape[-2:], mode="bilinear", align_corners=False)
        x = self.merge(torch.cat([fused, context.reference_skip, noisy, *extra, coarse], 1))
        condition = self.condition(level)
        for block in self.decoder:
            x = block(x, condition)
        detail = F.silu(F.pixel_shuffle(self.widen(x), self.config.scale))
        # The skip is the best linear estimate for data of unit variance; on smooth ground, where there is nothing to
        # restore, the best gain is near zero (Wiener). The network says where, and so learns where it is uncertain.
        injected: Tensor | float = 0.0
        if guide is not None:
            detail, injected = self.guide.blend(x, detail, guide.detail)
        gain, estimate = self.gate(detail).sigmoid(), self.detail(detail) + injected
        result: Tensor = gain * skip * noised + out * estimate
        return result
