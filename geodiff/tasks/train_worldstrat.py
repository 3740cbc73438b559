"""Training on WorldStrat: real low-resolution series with the registered high resolution as truth.

Nothing is skipped silently: a place whose files are missing, corrupt or cannot be registered ends the training with its
name; ``leave_out`` in the settings leaves it out by name, and the card tells so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from geodiff.imagery.coregister import MAX_SHIFT_PX, estimate_shifts
from geodiff.imagery.lattice import grid_of
from geodiff.model.reference import build_series
from geodiff.schema import TIME, VALID, BoolArray, FloatArray, GeodiffError
from geodiff.tasks.card_ground import TERMS
from geodiff.tasks.targets import days_of
from geodiff.tasks.train_data import HELD_SEED, Pair, TrainConfig, TrainData
from geodiff.tasks.train_pairs import Turn, hide_target
from geodiff.tasks.train_residuals import residual_scales_of

CLEAR_TARGET = 0.7
"""Share of a patch where the truth may be trusted, at least."""

PATCHES_PER_SITE = 4
"""Patches of a batch that come from one place: to read and register it costs more than to cut it."""

WORLDSTRAT_TERMS = "high resolution CC BY-NC 4.0 (WorldStrat, SPOT 6/7, Airbus); modified Copernicus Sentinel data"

KEPT_SITES, TRIES_PER_SITE, SITES_PER_PATCH = 24, 16, 64


class PairedSite(Protocol):
    """A place that is read when asked for (``tasks.worldstrat.Site``)."""

    @property
    def name(self) -> str: ...

    def load(self) -> tuple[xr.DataArray, float, FloatArray, BoolArray]: ...


@dataclass(frozen=True, eq=False)
class LoadedSite:
    """A place in memory.

    Attributes:
        images: (time, band, y, x) float32, 0 where invalid.
        valid: (time, y, x) bool.
        days: (time,).
        shift_px: (time, 2) displacement against the target.
        target: index of the date that the truth shows.
        truth: (band, scale*y, scale*x) float32, finite.
        clear: (scale*y, scale*x) bool.
        pixel_m: of the series.
    """

    images: FloatArray
    valid: BoolArray
    days: npt.NDArray[np.float64]
    shift_px: npt.NDArray[np.float64]
    target: int
    truth: FloatArray
    clear: BoolArray
    pixel_m: float


def load_site(site: PairedSite, scale: int) -> LoadedSite:
    """Read a place and find the displacements of its dates.

    Raises:
        GeodiffError: it cannot be read, or has no date of the target's day.
    """
    cube, day, truth, clear = site.load()
    days = days_of(cube[TIME].values)
    target = int(np.argmin(np.abs(days - day)))
    metres = estimate_shifts(cube, reference=target).values
    across_m, down_m = grid_of(cube).pixel_m
    known = clear.repeat(scale, 0).repeat(scale, 1) & np.isfinite(truth).all(0)
    valid: BoolArray = np.asarray(cube[VALID].values, np.bool_)
    return LoadedSite(
        np.nan_to_num(cube.values.astype(np.float32)),
        valid,
        days,
        np.stack([-metres[:, 1] / down_m, metres[:, 0] / across_m], 1),
        target,
        np.nan_to_num(truth),
        known,
        float(np.sqrt(across_m * down_m)),
    )


@dataclass(eq=False)
class SiteSource:
    """Endless batches of pairs from places that are read when drawn; a batch is a function of seed and step.

    The places used last stay in memory, ``KEPT_SITES`` of them (about 13 MB each for WorldStrat).
    """

    sites: Sequence[PairedSite]
    config: TrainConfig
    seed: int = 0
    _kept: OrderedDict[str, LoadedSite] = field(default_factory=OrderedDict)

    def _site(self, index: int) -> LoadedSite:
        site = self.sites[index]
        if site.name in self._kept:
            self._kept.move_to_end(site.name)
        else:
            self._kept[site.name] = load_site(site, self.config.scale)
            while len(self._kept) > KEPT_SITES:
                self._kept.popitem(last=False)
        return self._kept[site.name]

    def batch(self, step: int) -> Pair:
        """The batch of a step.

        Raises:
            GeodiffError: a place cannot be read, or places show too few clear patches.
        """
        rng = np.random.default_rng((self.seed, step, 2))
        times = int(rng.choice(self.config.dates))
        patches: list[Pair] = []
        for _ in range(SITES_PER_PATCH * self.config.batch):
            site = self._site(int(rng.integers(len(self.sites))))
            wanted = min(PATCHES_PER_SITE, self.config.batch - len(patches))
            found = [cut_pair(site, times, self.config, rng) for _ in range(wanted)]
            patches += [pair for pair in found if pair is not None]
            if len(patches) == self.config.batch:
                return joined(patches)
        raise GeodiffError(
            f"{SITES_PER_PATCH * self.config.batch} looks at {len(self.sites)} places found {len(patches)} patches of "
            f"{self.config.patch_px} pixels with a trusted truth: lower patch_px"
        )


def cut_pair(site: LoadedSite, times: int, config: TrainConfig, rng: np.random.Generator) -> Pair | None:
    """One patch where the truth may be trusted, with other dates at random; None where none was met."""
    side, scale = config.patch_px, config.scale
    rows, cols = site.images.shape[-2:]
    if min(rows, cols) < side:
        return None
    for _ in range(TRIES_PER_SITE):
        top, left = int(rng.integers(0, rows - side + 1)), int(rng.integers(0, cols - side + 1))
        low = (slice(top, top + side), slice(left, left + side))
        high = (slice(top * scale, (top + side) * scale), slice(left * scale, (left + side) * scale))
        if site.clear[high].mean() >= CLEAR_TARGET:
            return _cut(site, times, low, high, rng)
    return None


def _cut(
    site: LoadedSite, times: int, low: tuple[slice, slice], high: tuple[slice, slice], rng: np.random.Generator
) -> Pair:
    others = np.setdiff1d(np.arange(len(site.days)), [site.target])
    more = min(times - 1, len(others)) if len(others) else 0
    drawn = list(rng.choice(others, more, replace=False)) if more else []
    # A place of few dates shows its target again, so that the patches of a batch have one length.
    chosen = np.array([site.target, *drawn, *[site.target] * (times - 1 - more)])
    seen = site.valid[(chosen, *low)]
    if more:
        seen[0] = hide_target(seen[0], site.valid[(others, *low)], rng)
        seen[1 + more :] = False
    turn = Turn.draw(rng)
    order = rng.permutation(times)
    shift = turn.shift(site.shift_px[chosen] - site.shift_px[site.target]).clip(-MAX_SHIFT_PX, MAX_SHIFT_PX)
    target = torch.tensor([int(np.flatnonzero(order == 0)[0])])
    series, _ = build_series(
        torch.from_numpy(turn.image(site.images[(chosen, slice(None), *low)])[order])[None],
        torch.from_numpy(turn.mask(seen)[order])[None],
        torch.from_numpy((site.days[chosen] - site.days[site.target]).astype(np.float32)[order])[None],
        torch.from_numpy(shift.astype(np.float32)[order])[None],
        target,
        torch.tensor([site.pixel_m], dtype=torch.float32),
    )
    truth = torch.from_numpy(turn.image(site.truth[(slice(None), *high)]))[None]
    return Pair(series, truth, torch.from_numpy(turn.mask(site.clear[high]))[None])


def joined(pairs: Sequence[Pair]) -> Pair:
    """Patches as one batch."""
    parts = [pair.series for pair in pairs]
    series = type(parts[0])(
        reflectance=torch.cat([part.reflectance for part in parts]),
        valid=torch.cat([part.valid for part in parts]),
        days=torch.cat([part.days for part in parts]),
        shift_px=torch.cat([part.shift_px for part in parts]),
        reference=torch.cat([part.reference for part in parts]),
        observed=torch.cat([part.observed for part in parts]),
        pixel_m=torch.cat([part.pixel_m for part in parts]),
    )
    return Pair(series, torch.cat([pair.target for pair in pairs]), torch.cat([pair.clear for pair in pairs]))


def open_worldstrat(root: Path, config: TrainConfig) -> TrainData:
    """The clean split of a WorldStrat download: ``train`` to train, ``val`` to validate.

    Raises:
        GeodiffError: no WorldStrat there, a place of the split without files, or an empty part.
    """
    from geodiff.tasks.worldstrat import worldstrat_sites

    parts = {}
    for part in ("train", "val"):
        sites = worldstrat_sites(root, "clean", part, bands=config.bands, scale=config.scale)
        parts[part] = [site for site in sites if site.name not in config.leave_out]
        if not parts[part]:
            raise GeodiffError(f"the clean split of {root} has no place left in its part {part!r}")
    train = SiteSource(parts["train"], config, config.seed)
    watched = SiteSource(parts["val"], config.model_copy(update={"batch": min(config.batch, 8)}), HELD_SEED)
    held = tuple(watched.batch(step) for step in range(config.validate_batches))
    names = sorted({word for site in parts["train"] for word in (site.name, site.group)})
    notes: dict[str, Any] = {
        "places": ["worldstrat"],
        "training_places": [f"worldstrat/{name}" for name in names],
        TERMS: {"worldstrat": WORLDSTRAT_TERMS},
    }
    unit = residual_scales_of([train.batch(step) for step in range(4)], config.bands)
    messages = tuple(f"left out by name: {name}" for name in sorted(config.leave_out))
    return TrainData("worldstrat", train, held, unit, notes, messages)
