"""Samplers: functions of a denoiser, a noise and a schedule.

A denoiser is any function (x_s, s) -> x0_hat. The probability-flow ODE of the rectified path is
dx/ds = (x_s - x0_hat) / s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]


def schedule(passes: int) -> tuple[float, ...]:
    """Noise levels of ``passes`` evenly spaced steps from 1 towards 0, without the final 0."""
    return tuple(1.0 - step / passes for step in range(passes))


def euler(denoise: Denoise, noise: Tensor, levels: Sequence[float]) -> Tensor:
    """Explicit Euler over the probability-flow ODE; one evaluation per level.

    With the single level (1.0,) the result is the regression mean, whatever the noise.

    Args:
        denoise: the network with its conditions bound.
        noise: x at levels[0], which must be 1.
        levels: strictly falling, the first 1.0; the step to 0 is implied.

    Returns:
        x0, of the noise's shape.
    """
    x = noise
    for here, there in zip(levels, (*levels[1:], 0.0), strict=True):
        estimate = denoise(x, here)
        # x_there lies on the straight line between x_here and the estimate of x0.
        x = estimate + (there / here) * (x - estimate)
    return x
