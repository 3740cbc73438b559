"""Restore a case as the main job would, tile by tile and blended, with every member of the ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geodiff.config import TileConfig
from geodiff.grid import TileKey, TilePlan, Window
from geodiff.outputs.stitch import Blend
from geodiff.schema import FloatArray, Resolver, Restoration
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.evaluate_cases import EvaluationCase
from geodiff.tasks.windows import input_window

DEFAULT_TILE = TileConfig()


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """A restored date.

    Attributes:
        mean: (band, y, x) float32 reflectance, NaN where no date showed the ground.
        members: (member, band, y, x) float32; none for a model without an ensemble.
        half_width: level (0-1) to the half-width (band, y, x) of the interval that the model states around its mean;
            empty for a model that states none.
        antithetic: members come in pairs that are not independent (``metrics.ensemble.independent_draws``).
    """

    mean: FloatArray
    members: FloatArray
    half_width: Mapping[float, FloatArray]
    antithetic: bool = False


def restore_case(case: EvaluationCase, resolver: Resolver, *, seed: int, tile: TileConfig = DEFAULT_TILE) -> Ensemble:
    """The whole scene of a case, with the tiles, the seams and the noise of the main job."""
    source = CubeSource(case.low, resolver.bands)
    target = source.lit((case.target,))[0]
    plan = TilePlan(source.grid, core=tile.core, feather=tile.feather, halo=tile.halo)
    whole = Window(0, 0, *source.grid.shape)
    keys = list(plan.keys())
    at = _bounding([input_window(plan, key) for key in keys])
    block = source.read(target.dates, at)
    blend: Blend | None = None
    sizes = (0, 0)
    for key in keys:
        seen = input_window(plan, key)
        patch = source.patch(target, seen, block, at)
        restored = resolver.restore(patch, members=case.members, seed=seed)
        layers, sizes = _layers(restored), (len(restored.members), len(_half_width(restored)))
        if blend is None:
            blend = Blend(plan, whole.scaled(resolver.scale), channels=len(layers), scale=resolver.scale)
        values, given = _contribution(layers, plan, key, seen, resolver.scale)
        blend.add(key, values, at=given)
    assert blend is not None, "a grid has tiles"
    return _unpack(blend.result(), resolver, *sizes)


def _bounding(windows: list[Window]) -> Window:
    top, left = min(w.top for w in windows), min(w.left for w in windows)
    bottom, right = max(w.top + w.rows for w in windows), max(w.left + w.cols for w in windows)
    return Window(top, left, bottom - top, right - left)


def _half_width(restored: Restoration) -> FloatArray:
    found = getattr(restored, "half_width", None)
    return restored.mean[None][:0] if found is None else found


def _layers(restored: Restoration) -> FloatArray:
    """Mean, members and half-widths, one below the other: (channels, y, x)."""
    stack = np.concatenate([restored.mean[None], restored.members, _half_width(restored)])
    return stack.reshape(-1, *stack.shape[-2:])


def _contribution(
    layers: FloatArray, plan: TilePlan, key: TileKey, seen: Window, scale: int
) -> tuple[FloatArray, Window]:
    given = plan.output_window(key).intersect(seen)
    assert given is not None, "a tile of the plan reaches the grid"
    rows, cols = given.scaled(scale).slices_in(seen.scaled(scale))
    return layers[:, rows, cols], given.scaled(scale)


def _unpack(channels: FloatArray, resolver: Resolver, members: int, widths: int) -> Ensemble:
    stack = channels.reshape(-1, len(resolver.bands), *channels.shape[-2:])
    levels = [float(level) for level in getattr(resolver, "levels", ())][:widths]
    half = dict(zip(levels, stack[1 + members :], strict=bool(levels)))
    return Ensemble(stack[0], stack[1 : 1 + members], half, antithetic=getattr(resolver, "antithetic", False))
