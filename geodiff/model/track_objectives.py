"""What a training on tracks minimises: the denoising loss, then the score of few-pass ensembles of positions."""

from __future__ import annotations

import torch
from torch import Tensor

from geodiff.model.noise import draw_levels, loss_weight, mix
from geodiff.model.sampler import euler, schedule
from geodiff.model.tracks import Fleet, FleetContext, TrackDenoiser

SMOOTH_KM2 = 1e-6
"""Keeps the gradient of a distance finite at zero."""

FARTHEST = 5.0
"""Departures beyond sinh(5) = 74 units count as that far: one wild draw must not rule a batch."""


def track_denoising_loss(
    net: TrackDenoiser, fleet: Fleet, departure: Tensor, *, pure: float, lowest: float, generator: torch.Generator
) -> Tensor:
    """The v-loss of x0 at random noise levels (``noise.loss_weight``), over the times that are asked for.

    Args:
        net: the denoiser.
        fleet: what it sees.
        departure: (batch, cells, asked, 2), the truth; any finite value where nothing is asked.
        pure: share of the batch at noise level 1, where the estimate is the regression mean.
        lowest: noise level.
        generator: of levels and noise.
    """
    context = net.encode(fleet)
    clean = departure / context.scale
    level = draw_levels(len(clean), pure=pure, lowest=lowest, generator=generator).to(clean)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    estimate = net(mix(clean, noise, level[:, None, None, None]), level, context)
    error = (estimate - clean).square().sum(-1) * fleet.asked_valid
    each = error.sum((1, 2)) / fleet.asked_valid.sum((1, 2)).clamp_min(1)
    loss: Tensor = (loss_weight(level) * each).mean()
    return loss


def track_ensemble_loss(
    net: TrackDenoiser,
    fleet: Fleet,
    departure: Tensor,
    *,
    passes: int,
    members: int,
    km_share: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """The fair energy score of the samples that a sampler of few passes draws.

    Positions are scored each alone, and steps from one asked time to the next, so that members move like vessels.
    Gradients reach the last pass only. (Gneiting & Raftery 2007, eq. 22, in the fair form of Ferro 2014.) In the units
    of departure, which are asinh of kilometres over what the vessel's speed lets expect, all vessels count alike and
    large errors little more than middling ones; in kilometres over what is usual at the lead they count as they do in
    a mean error.

    Args:
        net: the denoiser, trained.
        fleet: what it sees.
        departure: (batch, cells, asked, 2), the truth; any finite value where nothing is asked.
        passes: evaluations of the sampler, the first (the mean) included.
        members: samples, at least 2.
        km_share: of the score that is told in kilometres.
        generator: of the noise.
    """
    context = net.encode(fleet)
    clean = departure / context.scale
    ones = torch.ones(len(clean), device=clean.device)
    mean = net(torch.zeros_like(clean), ones, context)
    many = context.repeated(members)
    noise = torch.randn((len(clean) * members, *clean.shape[1:]), generator=generator).to(clean)
    drawn = draw(net, many, mean.detach().repeat_interleave(members, 0), noise, passes)
    drawn = drawn.unflatten(0, (len(clean), members)).movedim(1, 0)
    valid = fleet.asked_valid
    loss: Tensor = 0.2 * _masked((mean - clean).square().sum(-1), valid)
    if km_share < 1:
        loss = loss + (1 - km_share) * _moving_score(drawn, clean, valid)
    if km_share > 0:
        loss = loss + km_share * _moving_score(_far(drawn, fleet, context), _far(clean, fleet, context), valid)
    return loss


def _far(departure: Tensor, fleet: Fleet, context: FleetContext) -> Tensor:
    """Departures (..., cells, asked, 2), in units of the payload's scale, in usual kilometres."""
    units = (departure * context.scale).clamp(-FARTHEST, FARTHEST)
    return fleet.stake[..., None] * torch.sinh(units)


def _moving_score(members: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """The energy score of positions, and of the steps between them."""
    steps = valid[..., 1:] & valid[..., :-1]
    score = _masked(energy_score(members, truth), valid)
    return score + _masked(energy_score(members.diff(dim=-2), truth.diff(dim=-2)), steps)


def draw(net: TrackDenoiser, context: FleetContext, mean: Tensor, noise: Tensor, passes: int) -> Tensor:
    """Members from the mean and noise, by ``euler``; gradients flow through the last evaluation only."""
    levels = schedule(passes)

    def denoise(x: Tensor, level: float) -> Tensor:
        if level == 1.0:
            return mean
        with torch.set_grad_enabled(torch.is_grad_enabled() and level == levels[-1]):
            estimate: Tensor = net(x, torch.full((len(x),), level, device=x.device), context)
            return estimate

    return euler(denoise, noise, levels)


def energy_score(members: Tensor, truth: Tensor) -> Tensor:
    """Fair energy score of each vector: (member, ..., 2) and (..., 2) -> (...)."""
    count = len(members)
    if count < 2:
        raise ValueError("a spread needs two members")
    skill = _length(members - truth).mean(0)
    apart = [_length(members[i] - members[j]) for i in range(count) for j in range(i)]
    return skill - torch.stack(apart).sum(0) / (count * (count - 1))


def _length(vector: Tensor) -> Tensor:
    out: Tensor = (vector.square().sum(-1) + SMOOTH_KM2).sqrt()
    return out


def _masked(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over what counts."""
    return (values * valid).sum() / valid.sum().clamp_min(1)
