"""What each part of the shipped image denoiser is worth: the part is changed, the model adapts, and both are scored.

    python tests/benchmarks/ablate_superres.py --root <data folder> --out docs/ablations.md

Every variant starts from the weights of ``--model``, and so does the model as it is: each is trained for the same steps
on the same batches of the collection, then scored on the same simulated series over strips that no training saw:
decibels of mean squared error below registered bicubic, where the target date was seen and where clouds or their
shadows hid it and another date shows it. A start from trained weights favours what they were trained with; the fewer
the steps, the more so. Only whether to predict the image or what bicubic misses is asked of small models from scratch.
Everything ends with the hard constraint. Half an hour of one core. ``--card`` writes the figures to the card of the
model as well, under ``ablations``.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodiff.imagery.ground import split_places
from geodiff.imagery.places import read_places
from geodiff.metrics.bootstrap import paired_difference
from geodiff.metrics.ensemble import fair_crps, spread_skill
from geodiff.model.checkpoint import load_checkpoint, read_card
from geodiff.model.images import REFLECTANCE_MEAN, ImageContext, ImageDenoiser, Series
from geodiff.model.objectives import denoising_loss
from geodiff.model.optics import enforce
from geodiff.model.raster import in_blocks, upsample
from geodiff.model.reference import build_series
from geodiff.model.sampler import euler, schedule
from geodiff.model.simulate import simulate
from geodiff.outputs.atomic import write_json
from geodiff.schema import BANDS_10M
from geodiff.sensor import band_mtf
from geodiff.tasks.models import find_model
from geodiff.tasks.train_data import PatchSource, TrainConfig
from geodiff.tasks.train_residuals import residual_scales

MTF = band_mtf(BANDS_10M)
RIM_PX = 16
DATES = 4
MEMBERS = 4
SCRATCH = {"stem_width": 32, "decoder_width": 32, "decoder_blocks": 5, "detail_width": 10, "trunk_width": 48}
SETTINGS = {"batch": 8, "patch_px": 24}
CLOUDY = {"cloudy_target": 0.4}
WHOLE = {"cloudy_target": 0.0, "hidden_target": 0.3}
"""Targets that are seen whole or not at all: a date alone knows little beside a cloud."""

Values = dict[str, list[float | None]]
"""By "seen" and "hidden", of every patch; None where it has no such pixels."""

See = Callable[[Series], Series]


class MeanFusion(ImageDenoiser):
    """Dates count alike wherever they are clear."""

    def _fuse(self, query: Tensor, context: ImageContext) -> Tensor:
        weight = context.skip_valid[:, :, None].to(context.skips.dtype)
        fused: Tensor = (weight * context.skips).sum(1) / weight.sum(1).clamp_min(1e-9)
        return fused


class MedianFusion(ImageDenoiser):
    """Of each feature the median of the clear dates."""

    def _fuse(self, query: Tensor, context: ImageContext) -> Tensor:
        shown = torch.where(context.skip_valid[:, :, None], context.skips, float("nan"))
        return shown.nanmedian(1).values.nan_to_num()


class Outright(ImageDenoiser):
    """Predicts the image, not what bicubic misses."""

    def encode(self, series: Series) -> ImageContext:
        found = super().encode(series)
        return replace(found, upsampled=torch.full_like(found.upsampled, REFLECTANCE_MEAN))


def unshifted(series: Series) -> Series:
    """The network is not told where the dates lie."""
    return replace(series, shift_px=torch.zeros_like(series.shift_px))


def nearest(series: Series, count: int) -> tuple[Series, Tensor]:
    """The target date and those nearest to it in time, also as what the residual is predicted over; where they show."""
    # A copy of the target under other light may have its day, but not its shift of exactly nothing.
    distance = series.days.abs() + 1e-3 * series.shift_px.abs().sum(-1)
    order = distance.argsort(dim=1, stable=True)[:, :count]
    pick = torch.arange(len(order))[:, None]
    parts = (series.reflectance, series.valid, series.days, series.shift_px)
    shown = [part[pick, order] for part in parts]
    return build_series(*shown, torch.zeros(len(order), dtype=torch.long), series.pixel_m)


def first_dates(count: int) -> See:
    return lambda series: nearest(series, count)[0]


@dataclass(frozen=True)
class Variant:
    """A model that differs from the first in one thing."""

    title: str
    net: type[ImageDenoiser] = ImageDenoiser
    see: See = lambda series: series
    sizes: Mapping[str, int] = field(default_factory=dict)
    pure: float = 1.0


VARIANTS = {
    "attention": Variant("attention over dates, nothing changed"),
    "mean": Variant("mean of the clear dates instead", MeanFusion),
    "median": Variant("median of the clear dates instead", MedianFusion),
    "single": Variant("single date", see=first_dates(1)),
    "unshifted": Variant("dates not told their shifts", see=unshifted),
    "trunkless": Variant("no trunk: nothing attends across space and time", sizes={"trunk_layers": 0}),
    "half": Variant("half the decoder", sizes={"decoder_blocks": 6}),
    "denoise": Variant("tuned back by the v-loss, without CRPS", pure=0.5),
}
ALONE = ("single", "1")
UNITS = {
    "residual": Variant("what bicubic misses"),
    "outright": Variant("the image itself", Outright),
}


@dataclass(frozen=True)
class Bench:
    """Training and held-out series, the same for every variant."""

    config: TrainConfig
    train: PatchSource
    held: list[tuple[Series, Tensor, str]]
    unit: tuple[float, ...]

    @classmethod
    def open(cls, root: Path, batches: int, dates: int = DATES, sky: Mapping[str, float] = CLOUDY) -> Bench:
        config = TrainConfig.parse({**SETTINGS, "dates": [dates], "simulation": dict(sky)}, where="ablation")
        train, held = split_places(read_places(root))
        shown = []
        for place in held:
            source = PatchSource([place], config, scale=4, seed=777)
            for step in range(batches):
                generator = torch.Generator().manual_seed(step)
                series, target, _ = simulate(*source.batch(step), config.sensor(MTF), generator)
                shown.append((series, target, place.name))
        return cls(config, PatchSource(train, config, scale=4), shown, residual_scales(train, config, MTF))

    @property
    def sites(self) -> list[str]:
        """Of every patch, its place."""
        return [name for _, target, name in self.held for _ in range(len(target))]

    def pair(self, step: int) -> tuple[Series, Tensor, torch.Generator]:
        generator = torch.Generator().manual_seed(step)
        series, target, _ = simulate(*self.train.batch(step), self.config.sensor(MTF), generator)
        return series, target, generator


def changed(net: ImageDenoiser, variant: Variant) -> ImageDenoiser:
    """The variant with all weights of a model that it has a place for."""
    found = variant.net(replace(net.config, **variant.sizes))
    own = found.state_dict()
    found.load_state_dict({name: value for name, value in net.state_dict().items() if name in own})
    return found.train()


def train(net: ImageDenoiser, bench: Bench, variant: Variant, steps: int, rate: float) -> ImageDenoiser:
    """AdamW under a falling cosine; returns the averaged network."""
    averaged = copy.deepcopy(net).eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            falling = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = rate * min((step + 1) / 50, 1.0) * falling
        series, target, generator = bench.pair(step)
        loss = denoising_loss(net, variant.see(series), target, pure=variant.pure, lowest=0.2, generator=generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            share = max(0.02, 1 / (step + 1))
            for mean, now in zip(averaged.parameters(), net.parameters(), strict=True):
                mean.lerp_(now, share)
    return averaged


def inner(image: Tensor) -> Tensor:
    return image[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]


def enforced(image: Tensor, series: Series) -> Tensor:
    return enforce(image, series.reference, series.observed[:, None], 4, MTF)


@torch.inference_mode()
def gains(net: ImageDenoiser, bench: Bench, see: See, fewest: int = DATES) -> Values:
    """Decibels below bicubic of the reference, over pixels seen and those that only others of ``fewest`` dates show."""
    found: Values = {"seen": [], "hidden": []}
    for series, target, _ in bench.held:
        context = net.encode(see(series))
        base = upsample(series.reference, 4)
        mean = context.upsampled + net.residual_scale * net(torch.zeros_like(target), torch.ones(len(target)), context)
        seen = inner(in_blocks(series.observed, 4))
        hidden = ~seen & inner(in_blocks(nearest(series, fewest)[1], 4))
        error, plain = (inner((image - target).square().mean(1)) for image in (enforced(mean, series), base))
        for name, keep in (("seen", seen), ("hidden", hidden)):
            for own, other, shown in zip(error, plain, keep, strict=True):
                enough = bool(shown.float().mean() > 0.1)
                found[name].append(10 * math.log10(float(other[shown].mean() / own[shown].mean())) if enough else None)
    return found


@torch.inference_mode()
def ensemble(net: ImageDenoiser, bench: Bench, passes: int) -> dict[str, float]:
    """Fair CRPS and error of one member in 1e-4 of reflectance, and spread over error; nothing is calibrated."""
    crps, ratio, single = [], [], []
    for number, (series, target, _) in enumerate(bench.held):
        context, generator = net.encode(series), torch.Generator().manual_seed(number)
        mean = net(torch.zeros_like(target), torch.ones(len(target)), context)

        def estimate(x: Tensor, level: float, mean: Tensor = mean, context: ImageContext = context) -> Tensor:
            return mean if level == 1.0 else net(x, torch.full((len(x),), level), context)

        noise = [torch.randn(target.shape, generator=generator) for _ in range(MEMBERS)]
        drawn = [context.upsampled + net.residual_scale * euler(estimate, e, schedule(passes)) for e in noise]
        stack, truth = torch.stack([inner(enforced(image, series)) for image in drawn]).numpy(), inner(target).numpy()
        crps.append(float(fair_crps(stack, truth).mean()))
        ratio.append(float(spread_skill(stack, truth)))
        single.append(float(np.square(stack[0] - truth).mean()))
    return {"crps": 1e4 * np.mean(crps), "ratio": float(np.mean(ratio)), "member": 1e4 * math.sqrt(np.mean(single))}


def mean_of(values: list[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def told(values: list[float | None], first: list[float | None], sites: list[str]) -> str:
    """The mean, and how far it lies from that of the first model, patch by patch, with an interval over places."""
    mean = f"{mean_of(values):.2f}"
    if values == first:
        return mean
    both = [(a, b, site) for a, b, site in zip(values, first, sites, strict=True) if a is not None and b is not None]
    found = paired_difference([a for a, _, _ in both], [b for _, b, _ in both], [site for _, _, site in both])
    return f"{mean} ({found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}])"


def rows_of(found: Mapping[str, Values], titles: Mapping[str, str], sites: list[str]) -> list[str]:
    """A table; a single date shows nothing of what clouds hide."""
    base = next(values for name, values in found.items() if name not in ALONE)
    lines = ["| | target date seen | hidden by clouds or shadow |", "|---|---|---|"]
    for name, values in found.items():
        seen = told(values["seen"], next(iter(found.values()))["seen"], sites)
        hidden = "-" if name in ALONE else told(values["hidden"], base["hidden"], sites)
        lines.append(f"| {titles[name]} | {seen} | {hidden} |")
    return lines


def page(asked: argparse.Namespace, tables: Mapping[str, Any], sites: list[str]) -> str:
    titles = {name: variant.title for name, variant in (VARIANTS | UNITS).items()}
    dates = {name: f"{name} date{'s' * (name != '1')}" for name in tables["dates"]}
    lines = [
        f"# What each part of `{asked.model}` is worth",
        "",
        f"`python tests/benchmarks/ablate_superres.py --root <data folder> --model {asked.model} --steps {asked.steps}",
        f"--scratch {asked.scratch} --held {asked.held} --out docs/ablations.md`. Decibels of mean squared error below",
        f"registered bicubic, mean over simulated patches of the {len(set(sites))} strips that no training saw, whose",
        "shifts are known; in brackets the difference from the first line, patch by patch, with its 90 % bootstrap",
        "interval over places. The dates of most of these series are one ground under other skies, light and haze:",
        "what they gain is the ceiling for real series, whose ground changes. Scored is the network's estimate from",
        "all dates; what ships mixes it with that from the target date alone.",
        "",
        f"A part changed, then {asked.steps} steps of training from the shipped weights, the first line's included:",
        "",
        *rows_of(tables["parts"], titles, sites),
        "",
        "Dates that the shipped model is shown, the nearest in time first; targets are seen whole or not at all:",
        "",
        *rows_of(tables["dates"], dates, sites),
        "",
        f"What a small model (0.4 M parameters, {asked.scratch} steps from scratch) predicts:",
        "",
        *rows_of(tables["units"], titles, sites),
        "",
        f"Ensembles of {MEMBERS} before any calibration: fair CRPS and error of one member in 1e-4 of reflectance,",
        "spread over error (1 is calibrated). One pass is the mean, whose CRPS is its absolute error.",
        "",
        "| sampling | CRPS | spread / error | RMSE of one member |",
        "|---|---|---|---|",
    ]
    for name, row in tables["passes"].items():
        lines.append(f"| {name} | {row['crps']:.1f} | {row['ratio']:.2f} | {row['member']:.0f} |")
    return "\n".join(lines) + "\n"


def ablate(asked: argparse.Namespace, weights: Path) -> tuple[dict[str, Any], list[str]]:
    """All tables, and the place of every patch."""
    bench, shipped = Bench.open(asked.root, asked.held), load_checkpoint(weights)[0]
    tables: dict[str, Any] = {"parts": {}, "dates": {}, "units": {}, "passes": {}}
    for count in (1, 2, 4, 8):
        tables["passes"][f"{count} pass{'es' * (count > 1)}"] = ensemble(shipped, bench, count)
    many = Bench.open(asked.root, asked.held, 8, WHOLE)
    for count in (1, 2, 4, 8):
        tables["dates"][str(count)] = gains(shipped, many, first_dates(count), fewest=2)
    nets: dict[str, ImageDenoiser] = {}
    for name, variant in VARIANTS.items():
        started = time.process_time()
        net = train(changed(shipped, variant), bench, variant, asked.steps, 3e-4)
        nets[name], tables["parts"][name] = net, gains(net, bench, variant.see)
        told_of = {key: round(mean_of(values), 3) for key, values in tables["parts"][name].items()}
        print(name, told_of, f"{time.process_time() - started:.0f} s", flush=True)  # noqa: T201
    for count in (2, 4, 8):
        tables["passes"][f"{count} passes, tuned back by the v-loss"] = ensemble(nets["denoise"], bench, count)
    for name, variant in UNITS.items():
        torch.manual_seed(0)
        unit = bench.unit if name == "residual" else (0.1,) * len(BANDS_10M)
        small = replace(shipped.config, **SCRATCH, residual_scale=unit)
        tables["units"][name] = gains(
            train(variant.net(small), bench, variant, asked.scratch, 1.5e-3), bench, variant.see
        )
    return tables, bench.sites


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="data folder of the collection")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument("--model", default="s2x4", help="a model of the 10 m bands")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--scratch", type=int, default=800)
    parser.add_argument("--held", type=int, default=2, help="batches of held-out series of each place")
    parser.add_argument("--card", action="store_true", help="write the figures to the model's card as well")
    asked = parser.parse_args()
    weights = find_model(asked.model).weights
    assert weights is not None, "a baseline has no parts"
    tables, sites = ablate(asked, weights)
    asked.out.write_text(page(asked, tables, sites))
    if asked.card:
        write_json(weights.with_suffix(".json"), read_card(weights) | {"ablations": figures_of(tables)})


def figures_of(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Means of all tables; no ensemble is averaged."""
    found = {
        table: {
            name: {key: round(mean_of(row[key]), 3) for key in (("seen",) if name in ALONE else ("seen", "hidden"))}
            for name, row in tables[table].items()
        }
        for table in ("parts", "dates", "units")
    }
    passes = {name: {key: round(value, 3) for key, value in row.items()} for name, row in tables["passes"].items()}
    return {**found, "passes": passes}


if __name__ == "__main__":
    main()
