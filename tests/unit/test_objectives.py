from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from geodiff.model.images import Series
from geodiff.model.objectives import FREE_SHARE, denoising_loss, ensemble_loss, fair_crps, haar
from geodiff.model.optics import see
from geodiff.model.patches import patch_series
from geodiff.model.raster import upsample
from geodiff.model.reference import build_series
from geodiff.testing.tiny_models import random_patch, tiny_denoiser

SERIES = ("reflectance", "valid", "days", "shift_px", "reference", "observed", "pixel_m")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_score_of_a_calibrated_normal_ensemble() -> None:
    # E|x - y| - E|x - x'| / 2 of a standard normal forecast of a standard normal truth: 1 / sqrt(pi).
    score = fair_crps(normal(2, 400_000), normal(400_000, seed=1))
    assert score.item() == pytest.approx(1 / math.sqrt(math.pi), rel=0.01)


@pytest.mark.parametrize("members", [2, 3, 8])
def test_score_does_not_depend_on_the_size_of_the_ensemble(members: int) -> None:
    assert fair_crps(normal(members, 200_000), normal(200_000, seed=1)).item() == pytest.approx(0.5642, rel=0.02)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_a_wrong_spread_scores_worse(spread: float) -> None:
    truth = normal(100_000, seed=1)
    assert fair_crps(spread * normal(4, 100_000), truth) > fair_crps(normal(4, 100_000), truth) + 0.02


def test_one_member_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two members"):
        fair_crps(normal(1, 5), normal(5))


def test_haar_keeps_power_and_separates_scales() -> None:
    image = normal(3, 16, 16)
    mean, details = haar(image)
    assert (mean.square().sum() + details.square().sum()).item() == pytest.approx(image.square().sum().item(), rel=1e-5)
    flat, none = haar(torch.full((4, 4), 3.0))
    torch.testing.assert_close(flat, torch.full((2, 2), 6.0))
    assert none.abs().max() == 0


@pytest.mark.parametrize("passes", [2, 3])
def test_tuning_the_ensemble_lowers_its_score(passes: int) -> None:
    model = tiny_denoiser(residual_scale=0.05).train()
    series, _ = patch_series(random_patch((16, 16), dates=2))
    target = upsample(series.reference, 4) + 0.05 * normal(1, 4, 64, 64)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)

    def loss(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return ensemble_loss(model, series, target, passes=passes, members=2, generator=generator)

    with torch.no_grad():
        before = loss(0).item()
    for step in range(25):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    with torch.no_grad():
        assert loss(0).item() < 0.97 * before


class Oracle(torch.nn.Module):
    """Knows the truth, and may be off it by ``offset`` units of the residual."""

    config, residual_scale = tiny_denoiser().config, torch.full((4, 1, 1), 0.1)

    def __init__(self, target: torch.Tensor, offset: torch.Tensor | float = 0.0) -> None:
        super().__init__()
        self.target, self.offset = target, offset

    def encode(self, series: Series) -> SimpleNamespace:
        return SimpleNamespace(upsampled=upsample(series.reference, 4))

    def forward(self, noised: torch.Tensor, level: torch.Tensor, context: SimpleNamespace) -> torch.Tensor:
        return (self.target - context.upsampled) / self.residual_scale + self.offset


def test_what_is_not_known_of_the_truth_counts_in_no_loss() -> None:
    target = upsample(random_patch_image(), 4) + 0.05 * normal(1, 4, 64, 64)
    series, _ = patch_series(random_patch((16, 16), dates=1, target_index=None))
    clear = torch.ones(1, 64, 64, dtype=torch.bool)
    clear[:, 20:40, 25:49] = False

    def losses(under: float, estimate: float) -> list[float]:
        """Of an estimate that is off by 1; ``under`` is added to the truth where it is not known."""
        oracle = Oracle(target, torch.where(clear[:, None], 1.0, estimate))
        told = torch.where(clear[:, None], target, target + under)
        return [
            loss(oracle, series, told, generator=torch.Generator().manual_seed(0), clear=clear, **asked).item()
            for loss, asked in (
                (denoising_loss, {"pure": 0.5, "lowest": 0.2}),
                (ensemble_loss, {"passes": 2, "members": 2}),
            )
        ]

    wanted = losses(0.0, 1.0)
    assert min(wanted) > 0.1
    for other in (losses(0.3, 1.0), losses(0.0, 7.0)):
        assert other == pytest.approx(wanted, rel=1e-5)


def test_the_loss_is_that_of_the_velocity() -> None:
    """An error of x0 counts as 1 / s^2, whose mean is 2 for noise levels between a half and one."""
    batch = 64
    target = (upsample(random_patch_image(), 4) + 0.05 * normal(1, 4, 64, 64)).expand(batch, -1, -1, -1)
    one, _ = patch_series(random_patch((16, 16), dates=1, target_index=None))
    series = Series(*(getattr(one, name).expand(batch, *getattr(one, name).shape[1:]) for name in SERIES))
    oracle = Oracle(target, 1.0)

    def loss(pure: float) -> float:
        generator = torch.Generator().manual_seed(0)
        return denoising_loss(oracle, series, target, pure=pure, lowest=0.5, generator=generator).item()  # type: ignore[arg-type]

    assert loss(0.0) / loss(1.0) == pytest.approx(2.0, rel=0.15)


def test_the_constraint_leaves_a_perfect_estimate_alone() -> None:
    target = upsample(random_patch_image(), 4) + 0.05 * normal(1, 4, 64, 64)
    mtf = tiny_denoiser().config.mtf
    series, _ = build_series(
        see(target, 4, mtf)[:, None], torch.ones(1, 1, 16, 16, dtype=torch.bool), torch.zeros(1, 1),
        torch.zeros(1, 1, 2), torch.tensor([0]), torch.tensor([10.0]),
    )  # fmt: skip

    oracle = Oracle(target)

    def loss() -> float:
        generator = torch.Generator().manual_seed(0)
        return denoising_loss(oracle, series, target, pure=1.0, lowest=0.2, generator=generator).item()  # type: ignore[arg-type]

    assert loss() < 1e-6
    # An offset is seen by the sensor, so that the constraint takes it away: only the free share counts.
    oracle.offset = 1.0
    power = ((target - upsample(series.reference, 4)) / 0.1)[..., 8:-8, 8:-8].square().mean()
    assert loss() == pytest.approx(FREE_SHARE / (0.3 + power.item()) ** 0.5, rel=0.02)


def random_patch_image() -> torch.Tensor:
    return patch_series(random_patch((16, 16), dates=1))[0].reference
