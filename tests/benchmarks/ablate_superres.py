"""What each part of the image denoiser is worth: small models trained alike but for one part, on ground of their own.

    python tests/benchmarks/ablate_superres.py --root <data folder> --out docs/ablations.md

Every variant, 0.4 million parameters, is trained for the same steps on the same batches (the collection, no strip that
is held out), and scored on the same simulated series of held-out strips: decibels of mean squared error below
registered bicubic, where the target date was seen and where clouds or their shadows hid it. Every variant ends with the
hard constraint. An hour of one core; ``--steps`` makes it shorter, and the figures worse.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodiff.imagery.ground import split_places
from geodiff.imagery.places import read_places
from geodiff.metrics.bootstrap import paired_difference
from geodiff.model.images import REFLECTANCE_MEAN, ImageConfig, ImageContext, ImageDenoiser, Series
from geodiff.model.objectives import denoising_loss, ensemble_loss, fair_crps
from geodiff.model.optics import enforce
from geodiff.model.reference import build_series
from geodiff.model.sampler import euler, schedule
from geodiff.model.simulate import simulate
from geodiff.schema import BANDS_10M
from geodiff.sensor import band_mtf
from geodiff.tasks.train_data import PatchSource, TrainConfig, residual_scales

SIZES = {"stem_width": 32, "decoder_width": 32, "decoder_blocks": 5, "detail_width": 10, "trunk_width": 48}
MTF = band_mtf(BANDS_10M)
RIM = 16


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


def alone(series: Series) -> Series:
    """The target date only, also as what the residual is predicted over."""
    own = series.days.abs().argmin(1)
    pick, target = torch.arange(len(own)), torch.zeros_like(own)
    parts = (series.reflectance, series.valid, series.days, series.shift_px)
    shown = [part[pick, own][:, None] for part in parts]
    return build_series(*shown, target, series.pixel_m)[0]


@dataclass(frozen=True)
class Variant:
    """A model that differs from the first in one thing."""

    net: type[ImageDenoiser] = ImageDenoiser
    see: Callable[[Series], Series] = lambda series: series
    sizes: dict[str, int] = field(default_factory=dict)
    unit: float | None = None


TITLES = {
    "attention": "attention over dates (as shipped)",
    "mean": "mean of the clear dates",
    "median": "median of the clear dates",
    "single": "single date",
    "unshifted": "dates not told their shifts",
    "outright": "image instead of residual",
    "trunkless": "no trunk: no attention in space and time",
    "half": "half the decoder",
    "twice": "twice the decoder",
}
VARIANTS = {
    "attention": Variant(),
    "mean": Variant(MeanFusion),
    "median": Variant(MedianFusion),
    "single": Variant(see=alone),
    "unshifted": Variant(see=unshifted),
    "outright": Variant(Outright, unit=0.1),
    "trunkless": Variant(sizes={"trunk_layers": 0}),
    "half": Variant(sizes={"decoder_width": 24, "decoder_blocks": 2}),
    "twice": Variant(sizes={"decoder_width": 48, "decoder_blocks": 8}),
}


@dataclass(frozen=True)
class Bench:
    """Training and held-out series, the same for every variant."""

    config: TrainConfig
    train: PatchSource
    held: list[tuple[Series, Tensor, Tensor]]
    unit: tuple[float, ...]

    @classmethod
    def open(cls, root: Path, config: TrainConfig, batches: int) -> Bench:
        train, held = split_places(read_places(root))
        source = PatchSource(held, config, scale=4, seed=777)
        shown = []
        for step in range(batches):
            generator = torch.Generator().manual_seed(step)
            shown.append(simulate(*source.batch(step), config.sensor(MTF), generator))
        return cls(config, PatchSource(train, config, scale=4), shown, residual_scales(train, config, MTF))

    def pair(self, step: int) -> tuple[Series, Tensor, torch.Generator]:
        generator = torch.Generator().manual_seed(step)
        series, target, _ = simulate(*self.train.batch(step), self.config.sensor(MTF), generator)
        return series, target, generator


Loss = Callable[[ImageDenoiser, Series, Tensor, torch.Generator, float], Tensor]


def denoise(net: ImageDenoiser, series: Series, target: Tensor, generator: torch.Generator, progress: float) -> Tensor:
    pure = 1.0 if progress < 0.5 else 0.5
    return denoising_loss(net, series, target, pure=pure, lowest=0.2, generator=generator)


def tune(net: ImageDenoiser, series: Series, target: Tensor, generator: torch.Generator, progress: float) -> Tensor:
    return ensemble_loss(net, series, target, passes=2, members=2, generator=generator)


def train(net: ImageDenoiser, bench: Bench, variant: Variant, loss_of: Loss, steps: int, rate: float) -> ImageDenoiser:
    """AdamW under a falling cosine; returns the averaged network."""
    averaged = copy.deepcopy(net).eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            falling = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = rate * min((step + 1) / 50, 1.0) * falling
        series, target, generator = bench.pair(step)
        loss = loss_of(net, variant.see(series), target, generator, step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            share = max(0.01, 1 / (step + 1))
            for mean, now in zip(averaged.parameters(), net.parameters(), strict=True):
                mean.lerp_(now, share)
    return averaged


def inner(image: Tensor) -> Tensor:
    return image[..., RIM:-RIM, RIM:-RIM]


@torch.inference_mode()
def gains(net: ImageDenoiser, bench: Bench, see: Callable[[Series], Series]) -> dict[str, list[float]]:
    """Decibels below bicubic of the reference, patch by patch, over pixels seen and hidden."""
    found: dict[str, list[float]] = {"seen": [], "hidden": []}
    for series, target, _ in bench.held:
        context = net.encode(see(series))
        base = torch.nn.functional.interpolate(series.reference, scale_factor=4, mode="bicubic", align_corners=False)
        mean = context.upsampled + net.residual_scale * net(torch.zeros_like(target), torch.ones(len(target)), context)
        mean = enforce(mean, series.reference, series.observed[:, None], 4, MTF)
        seen = inner(series.observed.repeat_interleave(4, -1).repeat_interleave(4, -2))
        error, plain = (inner((image - target).square().mean(1)) for image in (mean, base))
        for name, keep in (("seen", seen), ("hidden", ~seen)):
            for own, other, shown in zip(error, plain, keep, strict=True):
                if shown.float().mean() > 0.1:
                    found[name].append(10 * math.log10(float(other[shown].mean()) / float(own[shown].mean())))
    return found


@torch.inference_mode()
def ensemble(net: ImageDenoiser, bench: Bench, passes: int, members: int = 4) -> dict[str, float]:
    """Fair CRPS, spread over error of the ensemble's mean, and the error of one member, all in 1e-4 of reflectance."""
    crps, spread, skill, single = [], [], [], []
    for number, (series, target, _) in enumerate(bench.held):
        context, generator = net.encode(series), torch.Generator().manual_seed(number)
        mean = net(torch.zeros_like(target), torch.ones(len(target)), context)

        def estimate(x: Tensor, level: float, mean: Tensor = mean, context: ImageContext = context) -> Tensor:
            return mean if level == 1.0 else net(x, torch.full((len(x),), level), context)

        drawn = []
        for _ in range(members):
            sample = euler(estimate, torch.randn(target.shape, generator=generator), schedule(passes))
            image = context.upsampled + net.residual_scale * sample
            drawn.append(inner(enforce(image, series.reference, series.observed[:, None], 4, MTF)))
        stack, truth = torch.stack(drawn), inner(target)
        crps.append(float(fair_crps(stack, truth)))
        spread.append(float(stack.var(0).mean()))
        skill.append(float((stack.mean(0) - truth).square().mean()))
        single.append(float((stack[0] - truth).square().mean()))
    ratio = math.sqrt((1 + 1 / members) * np.mean(spread) / np.mean(skill))
    return {"crps": 1e4 * float(np.mean(crps)), "ratio": ratio, "member": 1e4 * math.sqrt(np.mean(single))}


def told(values: list[float], first: list[float]) -> str:
    """The mean, and how far it lies from that of the first model, patch by patch."""
    mean = f"{np.mean(values):.2f}"
    if values == first:
        return mean
    found = paired_difference(values, first, [str(patch) for patch in range(len(first))])
    return f"{mean} ({found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}])"


def build(bench: Bench, variant: Variant) -> ImageDenoiser:
    torch.manual_seed(0)
    unit = bench.unit if variant.unit is None else (variant.unit,) * len(BANDS_10M)
    sizes: dict[str, Any] = SIZES | variant.sizes
    return variant.net(ImageConfig(bands=BANDS_10M, scale=4, residual_scale=unit, mtf=MTF, **sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="data folder of the collection")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file; figures also go to a JSON beside it")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--held", type=int, default=16, help="batches of held-out series")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    asked = parser.parse_args()
    config = TrainConfig(batch=8, patch_px=24, dates=(4,), simulation={"cloudy_target": 0.4})
    bench = Bench.open(asked.root, config, asked.held)
    rows: dict[str, Any] = {}
    first: ImageDenoiser | None = None
    for name, variant in ((name, VARIANTS[name]) for name in VARIANTS if name in asked.only):
        started, net = time.process_time(), build(bench, variant)
        net = train(net, bench, variant, denoise, asked.steps, 1e-3)
        first = first or net
        found = gains(net, bench, variant.see)
        size = sum(p.numel() for p in net.parameters())
        rows[name] = {"parameters": size, **found, "cpu_s": time.process_time() - started}
        base = next(iter(rows.values()))
        line = (name, size, *(told(found[key], base[key]) for key in ("seen", "hidden")), round(rows[name]["cpu_s"]))
        print(*line, sep=" | ", flush=True)  # noqa: T201
    assert first is not None
    passes = {f"{count} passes": ensemble(first, bench, count) for count in (2, 4, 8)}
    tuned = train(copy.deepcopy(first).train(), bench, Variant(), tune, asked.steps // 4, 3e-4)
    passes |= {f"{count} passes, tuned by fair CRPS": ensemble(tuned, bench, count) for count in (2, 4)}
    asked.out.with_suffix(".json").write_text(json.dumps({"variants": rows, "passes": passes}, indent=1) + "\n")
    asked.out.write_text(page(rows, passes, asked))


def page(rows: dict[str, Any], passes: dict[str, dict[str, float]], asked: argparse.Namespace) -> str:
    only = "" if asked.only == list(VARIANTS) else f" --only {' '.join(asked.only)}"
    lines = [
        "# What each part of the image denoiser is worth",
        "",
        f"`python tests/benchmarks/ablate_superres.py --root <data folder> --steps {asked.steps}{only}`:",
        "small models trained alike but for one thing on the same batches, and scored on the same simulated series of",
        "four dates over held-out strips. Decibels of mean squared error below registered bicubic, mean over patches; in",
        "brackets the difference from the first model, patch by patch, with its 90 % bootstrap interval.",
        "",
        "| model | parameters | target date seen | hidden by clouds or shadow |",
        "|---|---|---|---|",
    ]
    first = next(iter(rows.values()))
    for name, row in rows.items():
        seen, hidden = (told(row[key], first[key]) for key in ("seen", "hidden"))
        lines.append(f"| {TITLES[name]} | {row['parameters'] / 1e6:.2f} M | {seen} | {hidden} |")
    lines += [
        "",
        "Ensembles of four of the first model: fair CRPS and error of one member in 1e-4 of reflectance, spread over",
        "error (1 is calibrated), before any calibration.",
        "",
        "| sampling | CRPS | spread / error | RMSE of one member |",
        "|---|---|---|---|",
    ]
    for name, row in passes.items():
        lines.append(f"| {name} | {row['crps']:.1f} | {row['ratio']:.2f} | {row['member']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
