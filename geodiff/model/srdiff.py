"""Residual diffusion after SRDiff (Li et al. 2022, Neurocomputing 479), extended from one image to series.

A convolutional encoder of the series conditions a U-Net that predicts the noise in the residual between the
high-resolution image and the upsampled reference. The chain has the cosine schedule of Nichol & Dhariwal 2021,
"Improved denoising diffusion probabilistic models" (arXiv:2102.09672), and is run backwards in all its steps, or in an
even selection of them (their section 4). Written from the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodiff.model.highresnet import SeriesEncoder, inner_mean
from geodiff.model.images import ResidualBlock, Series
from geodiff.model.patches import hide, nothing, one_thread, patch_series
from geodiff.model.raster import upsample
from geodiff.model.tokens import LevelEmbedding
from geodiff.rng import noise_window
from geodiff.schema import Patch, Restoration

COSINE_OFFSET = 0.008
MAX_BETA = 0.999
CONDITION = 64


@dataclass(frozen=True, kw_only=True)
class SRDiffConfig:
    """Size and meaning of a residual diffusion; stored in its checkpoint.

    Attributes:
        bands: names.
        scale: integer ratio of the resolutions, a multiple of 2 ** (``levels`` - 1), so that the U-Net halves pixels on
            the absolute lattice and a patch may lie anywhere.
        residual_scale: reflectance per band: the root mean square of what bicubic upsampling misses.
        width: of the encoder.
        encoder_blocks: of the encoder.
        unet_width: channels of the U-Net at the finest level; it has twice as many at the others.
        levels: of the U-Net, each with half the pixels of the one before.
        steps: length of the chain.
    """

    bands: tuple[str, ...]
    scale: int
    residual_scale: tuple[float, ...]
    width: int = 64
    encoder_blocks: int = 2
    unet_width: int = 32
    levels: int = 3
    steps: int = 100


def cosine_signal(steps: int) -> Tensor:
    """Share of the signal's variance, alpha-bar, after 0 to ``steps`` steps: (steps + 1,) float64, the first 1.

    alpha-bar(t) = f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) * pi / 2), s = 0.008, and no single step adds more
    than 0.999 of noise (Nichol & Dhariwal 2021, eq. 17).
    """
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).square()
    beta = (1 - f[1:] / f[:-1]).clamp_max(MAX_BETA)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])


def selected_steps(steps: int, count: int) -> tuple[int, ...]:
    """An even selection of ``count`` of the steps 1 to ``steps``, falling, the last of the chain included."""
    count = min(max(count, 1), steps)
    return tuple(sorted({round(k * steps / count) for k in range(1, count + 1)}, reverse=True))


def posterior(here: float, there: float) -> tuple[float, float, float]:
    """The distribution of the less noisy x_there given x_here and x0: weights of x0 and of x_here, and the deviation.

    Ho et al. 2020, eqs. 6 and 7, for alpha-bar ``here`` < ``there``, which need not be neighbours in the chain.
    """
    beta = 1.0 - here / there
    of_clean = math.sqrt(there) * beta / (1.0 - here)
    of_noisy = math.sqrt(here / there) * (1.0 - there) / (1.0 - here)
    return of_clean, of_noisy, math.sqrt(beta * (1.0 - there) / (1.0 - here))


class UNet(nn.Module):
    """Residual blocks that know the step, at several pixel sizes; without statistics over a patch, so no seams."""

    def __init__(self, bands: int, condition: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        fine = channels[0]
        self.stem = nn.Conv2d(bands, fine, 3, padding=1)
        self.merge = nn.Conv2d(fine + condition, fine, 1)
        pairs = list(pairwise(channels))
        self.down_blocks = nn.ModuleList(ResidualBlock(width, CONDITION) for width in channels)
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.middle = ResidualBlock(channels[-1], CONDITION)
        self.unfold = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.up_merge = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in pairs)
        self.up_blocks = nn.ModuleList(ResidualBlock(a, CONDITION) for a, _ in pairs)
        self.last = nn.Conv2d(fine, bands, 3, padding=1)
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    def forward(self, x: Tensor, condition: Tensor, step: Tensor) -> Tensor:
        """x (batch, band, y, x), condition (batch, channels, y, x), step (batch, 64) -> like x."""
        x = self.merge(torch.cat([self.stem(x), condition], 1))
        skips = []
        for level, block in enumerate(self.down_blocks):
            x = block(x, step)
            if level < len(self.halve):
                skips.append(x)
                x = self.halve[level](x)
        x = self.middle(x, step)
        for level in reversed(range(len(self.halve))):
            x = self.up_merge[level](torch.cat([self.unfold[level](x), skips[level]], 1))
            x = self.up_blocks[level](x, step)
        out: Tensor = self.last(F.silu(x))
        return out


class SRDiff(nn.Module):
    """The noise in a residual, from the noised residual, the step and the series."""

    residual_scale: Tensor
    signal: Tensor

    def __init__(self, config: SRDiffConfig) -> None:
        super().__init__()
        if config.scale % 2 ** (config.levels - 1):
            raise ValueError(f"{config.levels} levels of a U-Net do not divide a scale of {config.scale}")
        self.config = config
        self.encoder = SeriesEncoder(len(config.bands), config.width, config.encoder_blocks)
        fine = config.unet_width
        self.widen = nn.ConvTranspose2d(config.width, fine, config.scale, stride=config.scale)
        self.unet = UNet(len(config.bands), fine, (fine, *[2 * fine] * (config.levels - 1)))
        self.embed = LevelEmbedding(CONDITION)
        self.register_buffer("residual_scale", torch.tensor(config.residual_scale)[:, None, None], persistent=False)
        self.register_buffer("signal", cosine_signal(config.steps), persistent=False)

    def encode(self, series: Series) -> Tensor:
        """What the chain is conditioned on, (batch, channels, scale*y, scale*x); once for all steps and members."""
        out: Tensor = self.widen(self.encoder(series))
        return out

    def velocity(self, noised: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Estimate sqrt(a) e - sqrt(1 - a) x0, a = alpha-bar, from x_t = sqrt(a) x0 + sqrt(1 - a) e.

        The noise and the residual follow from it without a division that fails at one end of the chain:
        e = sqrt(a) v + sqrt(1 - a) x_t and x0 = sqrt(a) x_t - sqrt(1 - a) v (Salimans & Ho 2022, appendix D).

        Args:
            noised: (batch, band, scale*y, scale*x), in units of ``residual_scale``.
            step: (batch,) int64, 1 to ``steps``.
            condition: of ``encode``.
        """
        level = self.embed(step.to(noised.dtype) / self.config.steps)
        out: Tensor = self.unet(noised, condition, level)
        return out

    def shares(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha-bar) and sqrt(1 - alpha-bar) of steps (batch,), as (batch, 1, 1, 1) float32."""
        signal = self.signal[step][:, None, None, None]
        return signal.sqrt().float(), (1 - signal).sqrt().float()

    def noise(self, noised: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Estimate e, like ``noised``."""
        kept, mixed = self.shares(step)
        return kept * self.velocity(noised, step, condition) + mixed * noised

    def sample(self, condition: Tensor, draw: Callable[[int], Tensor], passes: int) -> Tensor:
        """Run the chain backwards: a residual in units of ``residual_scale``, (batch, band, scale*y, scale*x).

        Args:
            condition: of ``encode``.
            draw: gives the standard normal noise of a step: that of the first step starts the chain.
            passes: number of steps, evenly selected.
        """
        steps = selected_steps(self.config.steps, passes)
        x = clean = draw(steps[0])
        for here, there in zip(steps, (*steps[1:], 0), strict=True):
            now = torch.full((len(x),), here, device=x.device)
            kept, mixed = self.shares(now)
            clean = kept * x - mixed * self.velocity(x, now, condition)
            if there > 0:
                of_clean, of_noisy, deviation = posterior(float(self.signal[here]), float(self.signal[there]))
                x = of_clean * clean + of_noisy * x + deviation * draw(there)
        return clean

    def loss(
        self, series: Series, target: Tensor, *, generator: torch.Generator, clear: Tensor | None = None
    ) -> Tensor:
        """The squared error of the noise at random steps (Ho et al. 2020, eq. 14).

        Args:
            series: what the network sees.
            target: (batch, band, scale*y, scale*x), the truth.
            generator: of steps and noise, on the CPU.
            clear: (batch, scale*y, scale*x) bool, pixels of the truth that count; all when None.
        """
        residual = (target - upsample(series.reference, self.config.scale)) / self.residual_scale
        if clear is not None:
            residual = torch.where(clear[:, None], residual, 0.0)
        step = torch.randint(1, self.config.steps + 1, (len(target),), generator=generator).to(target.device)
        noise = torch.randn(residual.shape, generator=generator).to(residual)
        kept, mixed = self.shares(step)
        estimate = self.noise(kept * residual + mixed * noise, step, self.encode(series))
        return inner_mean((estimate - noise).square(), clear).mean()


@dataclass(frozen=True)
class SRDiffResolver:
    """The residual diffusion as a resolver.

    Its chain knows no expectation: the mean is that of the members, and of one sample where none are asked for. Noise
    is that of the absolute high-resolution lattice at every step of the chain and the same for every target date.

    Attributes:
        name: for reports.
        model: in evaluation mode.
        passes: steps of the chain that are run, 1 to ``steps``.
    """

    mean_of_members: ClassVar[bool] = True
    """For whoever compares means: more members make a better one."""

    name: str
    model: SRDiff
    passes: int

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
                return nothing(patch, self.scale, members)
            condition, base = self.model.encode(series), upsample(series.reference, self.scale)
            origin = (patch.origin_px[0] * self.scale, patch.origin_px[1] * self.scale)
            samples = [
                (base + self.model.residual_scale * self._sample(condition, origin, member, seed))[0].numpy()
                for member in range(max(members, 1))
            ]
            drawn = np.stack(samples)
            mean = np.asarray(drawn.mean(0, dtype=np.float64), np.float32)
            return hide(Restoration(mean=mean, members=drawn[:members]), known, self.scale)

    def _sample(self, condition: Tensor, origin: tuple[int, int], member: int, seed: int) -> Tensor:
        """One residual (1, band, scale*y, scale*x) by the reversed chain."""
        shape = (int(condition.shape[-2]), int(condition.shape[-1]))

        def draw(step: int) -> Tensor:
            field = noise_window(seed, "srdiff", member, step, channels=len(self.bands), origin=origin, shape=shape)
            return torch.from_numpy(field)[None]

        return self.model.sample(condition, draw, self.passes)
