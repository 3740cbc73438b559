"""What a training minimises: the loss of the denoiser at random noise levels, or the score of few-pass ensembles."""

from __future__ import annotations

import torch
from torch import Tensor

from geodiff.model.images import ImageContext, ImageDenoiser, Series
from geodiff.model.noise import draw_levels, loss_weight, mix
from geodiff.model.optics import enforce
from geodiff.model.sampler import euler, schedule

RIM_PX = 8
"""High-resolution pixels at the border of a patch that do not count: the model lacks context there."""

HAAR_LEVELS = 3

FREE_SHARE = 0.2
"""Weight of the error before the hard constraint beside that after it."""


def denoising_loss(
    net: ImageDenoiser,
    series: Series,
    target: Tensor,
    *,
    pure: float,
    lowest: float,
    generator: torch.Generator,
    clear: Tensor | None = None,
) -> Tensor:
    """The v-loss of x0 at random noise levels (see ``noise.loss_weight``), after the hard constraint.

    What the constraint corrects is corrected for the network, whose strength is left for what the sensor did not see;
    a share of the error before it keeps the estimates that the sampler works with from drifting.

    Args:
        net: the denoiser.
        series: what it sees.
        target: (batch, band, scale*y, scale*x), the truth.
        pure: share of the batch at noise level 1, where the estimate is the regression mean.
        lowest: noise level.
        generator: of levels and noise.
        clear: (batch, scale*y, scale*x) bool, pixels of the truth that count; all when None.
    """
    context = net.encode(series)
    residual = (target - context.upsampled) / net.residual_scale
    level = draw_levels(len(target), pure=pure, lowest=lowest, generator=generator).to(target)
    noise = torch.randn(residual.shape, generator=generator).to(residual)
    estimate = net(mix(residual, noise, level[:, None, None, None]), level, context)
    inner = (..., slice(RIM_PX, -RIM_PX), slice(RIM_PX, -RIM_PX))
    seen = (_seen(context.upsampled + net.residual_scale * estimate, net, series) - target) / net.residual_scale
    error = _mean((seen.square() + FREE_SHARE * (estimate - residual).square())[inner], clear)
    # Patches differ by two orders of magnitude in what there is to restore; their weight grows like the root, and
    # smooth ones, which decide little of any figure over a scene, count alike.
    power = _mean(residual.square()[inner], clear)
    loss: Tensor = (loss_weight(level) * error / (0.3 + power).sqrt()).mean()
    return loss


def ensemble_loss(
    net: ImageDenoiser,
    series: Series,
    target: Tensor,
    *,
    passes: int,
    members: int,
    generator: torch.Generator,
    clear: Tensor | None = None,
) -> Tensor:
    """The fair CRPS of the samples that a sampler of few passes draws, and the squared error of their mean.

    The score of pixels alone says nothing of how they hang together; that of Haar coefficients of several scales
    rewards ensembles whose power is right in each octave. Gradients reach the last pass only: the earlier ones set its
    input.
    (Lang et al. 2024, "AIFS-CRPS"; Alet et al. 2025, "Skillful joint probabilistic weather forecasting from
    marginals".)

    Args:
        net: the denoiser, trained.
        series: what it sees.
        target: (batch, band, scale*y, scale*x), the truth.
        passes: evaluations of the sampler, the first (the mean) included.
        members: samples, at least 2.
        generator: of the noise.
        clear: (batch, scale*y, scale*x) bool, pixels of the truth that count; all when None.
    """
    context = net.encode(series)
    unit = net.residual_scale
    residual = (target - context.upsampled) / unit
    ones = torch.ones(len(target), device=target.device)
    mean = net(torch.zeros_like(residual), ones, context)
    samples = []
    for _ in range(members):
        noise = torch.randn(residual.shape, generator=generator).to(residual)
        sample = _sample(net, context, mean.detach(), noise, passes)
        samples.append(_seen(context.upsampled + unit * sample, net, series))
    inner = (..., slice(RIM_PX, -RIM_PX), slice(RIM_PX, -RIM_PX))
    shown = torch.ones_like(target[:, :1]) if clear is None else clear[:, None].to(target.dtype)
    # Where the truth is not known, every member agrees with it.
    truth, drawn = (shown * target / unit)[inner], (shown * torch.stack(samples) / unit)[inner]
    score = fair_crps(drawn, truth)
    for _ in range(HAAR_LEVELS):
        drawn, detail = haar(drawn)
        truth, true_detail = haar(truth)
        score = score + fair_crps(detail.movedim(1, 0), true_detail)
    error = _mean((mean - residual).square()[inner], clear)
    power = _mean(residual.square()[inner], clear)
    loss: Tensor = score + (error / (0.3 + power).sqrt()).mean()
    return loss


def _mean(values: Tensor, clear: Tensor | None) -> Tensor:
    """Mean per image of (batch, band, y, x) without the rim, over the pixels that count: (batch,)."""
    if clear is None:
        return values.mean((1, 2, 3))
    weight = clear[:, None, RIM_PX:-RIM_PX, RIM_PX:-RIM_PX].to(values.dtype).expand_as(values)
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1.0)


def fair_crps(members: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score, unbiased for small ensembles (Ferro 2014, eq. 6), averaged over all values.

    Args:
        members: (member, ...), at least two.
        truth: (...).
    """
    count = len(members)
    if count < 2:
        raise ValueError("a spread needs two members")
    skill = (members - truth).abs().mean()
    pairs = [(members[i] - members[j]).abs().mean() for i in range(count) for j in range(i)]
    return skill - torch.stack(pairs).sum() / (count * (count - 1))


def haar(image: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform: (..., y, x) of even sides -> the mean and three details.

    Returns:
        (..., y/2, x/2) and (3, ..., y/2, x/2): down, right and diagonal.
    """
    a, b = image[..., 0::2, 0::2], image[..., 0::2, 1::2]
    c, d = image[..., 1::2, 0::2], image[..., 1::2, 1::2]
    details = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d])
    return (a + b + c + d) / 2, details / 2


def _sample(net: ImageDenoiser, context: ImageContext, mean: Tensor, noise: Tensor, passes: int) -> Tensor:
    """One member; gradients flow through the last evaluation."""
    levels = schedule(passes)

    def denoise(x: Tensor, level: float) -> Tensor:
        if level == 1.0:
            return mean
        with torch.set_grad_enabled(level == levels[-1]):
            estimate: Tensor = net(x, torch.full((len(x),), level, device=x.device), context)
            return estimate

    return euler(denoise, noise, levels)


def _seen(image: Tensor, net: ImageDenoiser, series: Series) -> Tensor:
    """The hard constraint, as the resolver ends with it."""
    return enforce(image, series.reference, series.observed[:, None], net.config.scale, net.config.mtf)
