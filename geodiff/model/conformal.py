"""Intervals that hold what they promise: split conformal prediction with normalised scores.

The score of a pixel is |truth - mean| / s, with s the members' deviation, smoothed. The half-width at a level is s
times the quantile of the scores on held-out places, taken per band, class of texture and class of cloud (Lei et al.
2018, "Distribution-free predictive inference for regression", JASA 113; Angelopoulos & Bates 2021, "A gentle
introduction to conformal prediction"; classes: Vovk 2012, "Conditional validity of inductive conformal predictors").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geodiff.model.members import by_passes, nearest_passes
from geodiff.model.texture import FLOOR, box_mean, texture
from geodiff.schema import UsageError

WINDOW_PX = 5
"""Window over which the deviation of few members is smoothed, in high-resolution pixels. Of 1, 5, 9 and 17 pixels it
gave the narrowest intervals on places left out (interval score 0.0542; 0.0628, 0.0546, 0.0558)."""

GUESS_PX = 17
"""Window of the map of what is guessed: about four low-resolution pixels."""

CONTRADICTION = 10.0
"""Weight of the constraint's squared change. On held-out ground the map ranks windows by |error|^2 / variance with a
rank correlation of 0.65 without it, 0.68 with weight 1, 0.73 with this."""

LEVELS = (0.5, 0.8, 0.9)
CLOUD_CLASSES = ("target observed", "target observed elsewhere", "target not observed")
MAX_CLASSES = 32
MAX_QUANTILE = 1e4


def deviation_scale(deviation: Tensor, brightness: Tensor) -> Tensor:
    """s(x): smoothed root mean square deviation of members, with its floor.

    Without members it is the floor alone, and the quantiles stand for absolute errors.

    Args:
        deviation: (member, band, y, x) from the mean, without the factors of brightness: few members draw too few of
            these to tell how far they reach.
        brightness: (band, y, x) standard deviation that these bring.

    Returns:
        (band, y, x).
    """
    if not len(deviation):
        return torch.full_like(brightness, FLOOR)
    power = deviation.square().mean(0)
    return (box_mean(power[None], WINDOW_PX)[0] + brightness.square() + FLOOR**2).sqrt()


def normal_half_width(level: float) -> float:
    """Half-width of the central ``level`` of a normal distribution, in standard deviations: 1.645 for 0.9."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def guessed_share(error: Tensor, mean: Tensor, raw: Tensor) -> Tensor:
    """Share of the local variance of the truth that the observations do not decide, (y, x) in [0, 1].

    In a window, the truth varies by what the mean shows and, about it, by the error that is expected:
    guessed = e / (e + local variance of the mean), all bands together. To the error counts what the constraint had to
    change: where the network's own mean contradicts the observation, it has guessed beside it too. Near 0 the detail
    is seen in the data; near 1 it is the prior's.

    Args:
        error: (band, y, x) standard error that is expected, in reflectance.
        mean: (band, y, x).
        raw: (band, y, x) mean before the radiometric constraint.
    """

    def power(image: Tensor) -> Tensor:
        return box_mean(image.square().sum(0)[None, None], GUESS_PX)[0, 0]

    expected = power(error) + CONTRADICTION * power(mean - raw)
    shown = power(mean - box_mean(mean[None], GUESS_PX)[0])
    return expected / (expected + shown).clamp_min(1e-12)


def conformal_quantile(
    scores: npt.NDArray[np.floating[Any]],
    level: float,
    *,
    weights: npt.NDArray[np.floating[Any]] | None = None,
    units: int | None = None,
) -> float:
    """The smallest score that, as a bound, covers a new one with probability ``level``.

    Each of n exchangeable scores has the mass 1 / (n + 1), and so has the new one, which may be as large as it likes
    (Lei et al. 2018, eq. 3: the ceil((n + 1) level)-th smallest). Scores that come in units, such as the pixels of a
    place, share the mass n / (n + 1) of their n units by ``weights`` (Dunn, Wasserman & Ramdas 2022, "Distribution-free
    prediction sets for two-layer hierarchical models", JASA 118).

    Args:
        scores: (n,), at least one.
        level: in (0, 1).
        weights: (n,) not negative; equal when None.
        units: number of exchangeable units; n when None.

    Returns:
        A score; infinite where so few units cannot promise the level.
    """
    order = np.argsort(scores, kind="stable")
    share = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)[order]
    count = len(scores) if units is None else units
    mass = np.cumsum(share) / share.sum() * count / (count + 1)
    # Rounding of a running sum must not ask for one score more than (n + 1) level does.
    index = int(np.searchsorted(mass, level - 1e-9))
    return float(scores[order[index]]) if index < len(scores) else math.inf


@dataclass(frozen=True, slots=True, eq=False)
class ConformalTable:
    """Quantiles of the scores.

    Attributes:
        levels: rising, in (0, 1).
        limits: (band, class - 1) float64: texture above the limits of a class, in reflectance.
        quantiles: (level, cloud, class, band) float64; cloud is an index of ``CLOUD_CLASSES``.
        members: that they were found with.
    """

    levels: tuple[float, ...]
    limits: npt.NDArray[np.float64]
    quantiles: npt.NDArray[np.float64]
    members: int

    def require(self, levels: tuple[float, ...]) -> None:
        """Raises UsageError for a level that was not calibrated."""
        unknown = [level for level in levels if level not in self.levels]
        if unknown:
            known = ", ".join(f"{level:g}" for level in self.levels)
            raise UsageError(f"the model is not calibrated for intervals of {unknown[0]:g}: choose one of {known}")

    def classes(self, upsampled: Tensor) -> Tensor:
        """(band, y, x) int64 class of texture of the upsampled reference (1, band, y, x)."""
        limits = torch.from_numpy(self.limits).to(upsampled)
        rough = texture(upsampled)[0].contiguous()
        return torch.stack([torch.bucketize(band, limit) for band, limit in zip(rough, limits, strict=True)])

    def half_width(self, levels: tuple[float, ...], scale: Tensor, upsampled: Tensor, sky: Tensor) -> Tensor:
        """Half-widths of the intervals around the mean.

        Args:
            levels: of the table.
            scale: (band, y, x) s(x) of calibrated members.
            upsampled: (1, band, y, x) reference.
            sky: (y, x) int64 index of ``CLOUD_CLASSES``.

        Returns:
            (level, band, y, x), in reflectance.
        """
        kind = self.classes(upsampled)
        cloud = sky.expand_as(kind)
        band = torch.arange(len(kind))[:, None, None].expand_as(kind)
        chosen = torch.from_numpy(self.quantiles).to(scale)[[self.levels.index(level) for level in levels]]
        return chosen[:, cloud, kind, band] * scale

    def as_card(self) -> dict[str, Any]:
        """Plain values for the card."""
        return {
            "levels": list(self.levels),
            "texture_limits": np.round(self.limits, 6).tolist(),
            "quantiles": np.round(self.quantiles, 4).tolist(),
            "members": self.members,
        }


def parse_table(value: object, bands: int) -> ConformalTable:
    """A table as a card states it.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if not isinstance(value, dict) or set(value) != {"levels", "texture_limits", "quantiles", "members"}:
        raise ValueError("it does not hold exactly levels, members, quantiles and texture_limits")
    levels = _numbers(value["levels"], "levels", 1)
    limits = _numbers(value["texture_limits"], "texture_limits", 2)
    quantiles = _numbers(value["quantiles"], "quantiles", 4)
    members = value["members"]
    if type(members) is not int or not 0 <= members <= 4096:
        raise ValueError(f"{str(members)[:20]} members")
    if not len(levels) or levels.min() <= 0 or levels.max() >= 1 or (np.diff(levels) <= 0).any():
        raise ValueError("its levels do not rise between 0 and 1")
    if limits.shape[0] != bands or limits.shape[1] >= MAX_CLASSES:
        raise ValueError(f"its texture limits are not for {bands} bands and up to {MAX_CLASSES} classes")
    if (np.diff(limits, axis=1) < 0).any() or (limits < 0).any():
        raise ValueError("its texture limits do not rise from 0")
    if quantiles.shape[1] == 2:  # older cards know one class of hidden ground
        quantiles = quantiles[:, [0, 1, 1]]
    wanted = (len(levels), len(CLOUD_CLASSES), limits.shape[1] + 1, bands)
    if quantiles.shape != wanted:
        raise ValueError(f"its quantiles have the shape {quantiles.shape}, not {wanted}")
    if (quantiles < 0).any() or (np.diff(quantiles, axis=0) < 0).any():
        raise ValueError("its quantiles are negative, or fall where the level rises")
    return ConformalTable(tuple(float(level) for level in levels), limits, quantiles, members)


def _numbers(value: object, name: str, depth: int) -> npt.NDArray[np.float64]:
    """Nested lists of finite numbers of one shape; checked before numpy makes anything of them."""
    if not _is_nested(value, depth):
        raise ValueError(f"its {name} are not lists of finite numbers, {depth} deep")
    try:
        return np.array(value, np.float64)
    except ValueError:
        raise ValueError(f"its {name} are lists of several lengths") from None


def _is_nested(value: object, depth: int) -> bool:
    if depth == 0:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_QUANTILE
    return isinstance(value, list) and len(value) <= MAX_CLASSES and all(_is_nested(v, depth - 1) for v in value)


def check_tables(tables: object, bands: int) -> None:
    """Refuse what a card says of its intervals unless it is a table for each number of passes.

    Raises:
        ValueError: saying what is wrong.
    """
    for value in by_passes(tables).values():
        parse_table(value, bands)


def table_for(card: Mapping[str, Any], passes: int, bands: int) -> ConformalTable | None:
    """The table of a card for the nearest number of passes; None where it has none.

    One pass has no members: its quantiles are of absolute errors, and serve no other number of passes.
    """
    known = {count: value for count, value in card.get("conformal", {}).items() if (count == "1") == (passes == 1)}
    nearest = nearest_passes(known, passes)
    return None if nearest is None else parse_table(known[nearest], bands)
