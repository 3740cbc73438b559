"""The table of the intervals: scores of held-out pixels, their quantiles, and the coverage on places left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geodiff.model.conformal import (
    CLOUD_CLASSES,
    LEVELS,
    ConformalTable,
    conformal_quantile,
)
from geodiff.model.draft import Draft
from geodiff.model.raster import in_blocks
from geodiff.model.resolver import DiffusionResolver
from geodiff.model.texture import texture
from geodiff.tasks.calibrate_pairs import HeldPair
from geodiff.tasks.calibrate_spectra import inner

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.intp]

TEXTURE_QUANTILES = (0.25, 0.5, 0.75)
STEP_PX = 2
"""Every second pixel of each axis: neighbours err alike."""

SMALLEST_CLASS = 400
FEWEST_PLACES = 2


@dataclass(frozen=True, eq=False)
class Scores:
    """Pixels of held-out pairs.

    Attributes:
        error: (band, n) |truth - mean|.
        scale: (band, n) what the error is measured in, s(x).
        texture: (band, n).
        cloud: (n,) index of ``CLOUD_CLASSES``.
        place: (n,) index.
        window: (n,) index of the pair.
        trained: (n,) bool, training saw the ground.
        names: of the places.
        members: of the ensemble.
    """

    error: Array
    scale: Array
    texture: Array
    cloud: Whole
    place: Whole
    window: Whole
    trained: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    members: int

    def only(self, keep: npt.NDArray[np.bool_]) -> Scores:
        """Some of the pixels."""
        return replace(
            self,
            error=self.error[:, keep],
            scale=self.scale[:, keep],
            texture=self.texture[:, keep],
            cloud=self.cloud[keep],
            place=self.place[keep],
            window=self.window[keep],
            trained=self.trained[keep],
        )


def gather(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair], *, members: bool = True
) -> Scores:
    """Scores of all pairs, with members or of the mean alone."""
    names = tuple(dict.fromkeys(pair.place for pair in pairs))
    parts: list[list[npt.NDArray[Any]]] = []
    for number, (draft, pair) in enumerate(zip(drafts, pairs, strict=True)):
        draft = draft if members else replace(draft, deviation=draft.deviation[:0])
        found = resolver.settle(draft)
        thin = (..., slice(None, None, STEP_PX), slice(None, None, STEP_PX))
        keep = inner(pair.clear & in_blocks(draft.known, resolver.scale).numpy())[thin]
        layers = (found.mean - torch.from_numpy(pair.truth)).abs(), found.scale, texture(draft.upsampled)[0]
        cut = [inner(layer.numpy())[thin][:, keep] for layer in layers]
        cloud = inner(draft.sky.numpy())[thin][keep]
        same = np.ones_like(cloud)
        parts.append([*cut, cloud, same * names.index(pair.place), same * number])
    error, scale, rough, cloud, place, window = (np.concatenate(part, -1) for part in zip(*parts, strict=True))
    count = int(drafts[0].deviation.shape[0]) if members else 0
    trained = np.array([pair.trained for pair in pairs])[window]
    return Scores(error, scale, rough, cloud, place, window, trained, names, count)


def by_place(place: Whole) -> Array:
    """Weights under which each place counts as one."""
    count = np.bincount(place)
    weight: Array = 1.0 / count[place]
    return weight


def weighted_quantile(values: Array, share: Sequence[float], weight: Array) -> Array:
    """Quantiles of weighted values."""
    order = np.argsort(values)
    mass = np.cumsum(weight[order])
    index = np.searchsorted(mass, np.array(share) * mass[-1]).clip(max=len(values) - 1)
    found: Array = values[order][index]
    return found


def fit_table(scores: Scores, levels: tuple[float, ...] = LEVELS) -> ConformalTable:
    """Quantiles per band, texture and cloud; every place counts as one in each class.

    A class with too few pixels or places takes the quantile of all textures under its cloud class, or of all pixels.
    The finite-sample correction counts the windows of all classes together: it promises the level on average over new
    windows of places like these, not in each class. To promise it for a new place, it would have to count places
    (``place_level``), which are too few for 90 %. Where training saw part of the ground of a class, its quantile is no
    smaller than that of the rest, if the rest is enough of a class.
    """
    weight = by_place(scores.place)
    limits = np.stack([weighted_quantile(band, TEXTURE_QUANTILES, weight) for band in scores.texture])
    classes = limits.shape[1] + 1
    table = np.zeros((len(levels), len(CLOUD_CLASSES), classes, len(limits)))
    for band, (error, scale) in enumerate(zip(scores.error, scores.scale, strict=True)):
        kind = np.searchsorted(limits[band], scores.texture[band], side="left")
        ratio = error / scale
        for cloud in range(len(CLOUD_CLASSES)):
            for index in range(classes):
                own = (scores.cloud == cloud) & (kind == index)
                chosen = next(c for c in (own, scores.cloud == cloud, np.ones_like(own)) if _enough(c, scores))
                table[:, cloud, index, band] = [_safest(ratio, chosen, scores, level) for level in levels]
    return ConformalTable(levels, limits, np.maximum.accumulate(table, axis=0), scores.members)


def _enough(chosen: npt.NDArray[np.bool_], scores: Scores) -> bool:
    if chosen.all():
        return True
    return int(chosen.sum()) >= SMALLEST_CLASS and len(np.unique(scores.place[chosen])) >= FEWEST_PLACES


def _safest(ratio: Array, chosen: npt.NDArray[np.bool_], scores: Scores, level: float) -> float:
    """The quantile of a class, or that of its ground that training never saw, whichever is larger."""
    unseen = chosen & ~scores.trained
    every = _quantile(ratio, chosen, scores, level)
    mixed = unseen.sum() < chosen.sum() and _enough(unseen, scores)
    return max(every, _quantile(ratio, unseen, scores, level)) if mixed else every


def _quantile(ratio: Array, chosen: npt.NDArray[np.bool_], scores: Scores, level: float) -> float:
    windows = len(np.unique(scores.window))
    weight = by_place(scores.place[chosen])
    found = conformal_quantile(ratio[chosen], level, weights=weight, units=windows)
    # So few windows cannot promise the level: the largest score of all is what there is.
    return found if np.isfinite(found) else float(ratio[chosen].max())


def place_level(places: int, level: float) -> float:
    """The share of scores below a quantile that a promise of ``level`` for a new place takes; above 1 there is none."""
    return level * (places + 1) / places


Width = Callable[[Scores, float], Array]


def widths(table: ConformalTable) -> Width:
    """Half-widths (band, n) of scores by a table."""

    def width(scores: Scores, level: float) -> Array:
        index = table.levels.index(level)
        kinds = [
            np.searchsorted(limit, rough, side="left")
            for limit, rough in zip(table.limits, scores.texture, strict=True)
        ]
        found = [table.quantiles[index, scores.cloud, kind, band] for band, kind in enumerate(kinds)]
        result: Array = np.stack(found) * scores.scale
        return result

    return width


def leave_one_out(scores: Scores, levels: tuple[float, ...] = LEVELS) -> dict[str, Any]:
    """Coverage of each place by the table of all others; of one place there are none, and nothing is judged."""
    if len(np.unique(scores.place)) < FEWEST_PLACES:
        unknown = {f"coverage_{round(100 * level)}": None for level in levels}
        why = f"held out is one place alone, {scores.names[scores.place[0]]}: no other tells its intervals"
        return {**unknown, f"interval_score_{round(100 * levels[-1])}": None, "not_judged": why}
    inside = np.zeros((len(levels), *scores.error.shape), np.bool_)
    half = np.zeros(scores.error.shape)
    for place in range(len(scores.names)):
        own = scores.place == place
        if not own.any():
            continue
        left = scores.only(own)
        width = widths(fit_table(scores.only(~own), levels))
        for index, level in enumerate(levels):
            inside[index][:, own] = left.error <= width(left, level)
        half[:, own] = width(left, levels[-1])
    return {
        f"coverage_{round(100 * level)}": _shares(found, scores) for level, found in zip(levels, inside, strict=True)
    } | {f"interval_score_{round(100 * levels[-1])}": round(_interval_score(scores, half, levels[-1]), 6)}


def _interval_score(scores: Scores, half: Array, level: float) -> float:
    """Width plus penalty of misses (Gneiting & Raftery 2007, JASA 102, eq. 43), in reflectance; places alike."""
    missed = np.maximum(scores.error - half, 0)
    score = (2 * half + 2 / (1 - level) * missed).mean(0)
    return float(np.average(score, weights=by_place(scores.place)))


def _shares(inside: npt.NDArray[np.bool_], scores: Scores) -> dict[str, Any]:
    """Mean over places, its range, and by class of cloud and quarter of texture."""
    each = {
        name: float(inside[:, scores.place == i].mean())
        for i, name in enumerate(scores.names)
        if (scores.place == i).any()
    }
    result: dict[str, Any] = {"mean": round(float(np.mean(list(each.values()))), 4)}
    result["places"] = {name: round(value, 4) for name, value in each.items()}
    for cloud, name in enumerate(CLOUD_CLASSES):
        result[name] = _mean_of_places(inside, scores, np.broadcast_to(scores.cloud == cloud, inside.shape))
    weight = by_place(scores.place)
    limits = np.stack([weighted_quantile(band, TEXTURE_QUANTILES, weight) for band in scores.texture])
    kind = np.stack([np.searchsorted(lim, rough) for lim, rough in zip(limits, scores.texture, strict=True)])
    result["texture"] = [_mean_of_places(inside, scores, kind == index) for index in range(limits.shape[1] + 1)]
    result["bands"] = [_mean_of_places(band[None], scores, np.ones((1, len(band)), np.bool_)) for band in inside]
    return result


def _mean_of_places(inside: npt.NDArray[np.bool_], scores: Scores, chosen: npt.NDArray[np.bool_]) -> float | None:
    found = []
    for place in range(len(scores.names)):
        own = chosen & (scores.place == place)
        if own.any():
            found.append(float(inside[own].mean()))
    return round(float(np.mean(found)), 4) if found else None


def coverage_of(scores: Scores, factor: float) -> dict[str, Any]:
    """Coverage of error <= factor * s, without any table: what a normal interval would give."""
    return _shares(scores.error <= factor * scores.scale, scores)
