"""Networks that others wrote, as resolvers: what a YAML file declares of them is what the adapter does.

A plugin is a torch module made by a callable (``factory: package.module:callable``) or an ONNX graph (``onnx: file``,
run by onnxruntime). Importing and calling a factory runs its code: a plugin is therefore only ever read from a local
file that the user names, never from a catalogue, a STAC item or the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.model.baselines import BicubicResolver
from geodiff.model.checkpoint import digest
from geodiff.model.highresnet import by_closeness
from geodiff.model.images import Series
from geodiff.model.native import fine_part
from geodiff.model.patches import hide, nothing, one_thread, patch_series
from geodiff.model.plugin_config import PluginConfig, plugin_files, read_plugin
from geodiff.model.plugin_networks import Run, first_line, onnx_run, torch_run
from geodiff.model.raster import shift_image, upsample
from geodiff.schema import GeodiffError, Patch, Restoration, UsageError


def load_plugin(path: Path, bands: Sequence[str] = ()) -> PluginResolver:
    """Load a plugin. This runs the code of its factory.

    Args:
        path: of the YAML.
        bands: to restore, the network's own among them; those alone when empty.

    Raises:
        UsageError: the YAML is wrong, or ``bands`` lacks one that the network takes.
        GeodiffError: a package, a file or the network fails.
    """
    config = read_plugin(path)
    bands = tuple(bands) or config.bands
    lacking = [band for band in config.bands if band not in bands]
    if lacking:
        raise UsageError(f"{path}: the network takes {', '.join(lacking)}, which {', '.join(bands)} lack: add it")
    files = plugin_files(path)[1:]
    for file in files:
        if not file.is_file():
            raise GeodiffError(f"{path} names {file}, which is not there")
        if config.sha256 and digest(file) != config.sha256:
            raise GeodiffError(f"{file} is not the file that {path} describes (SHA-256 differs): fetch it again")
    run = torch_run(config, path, files) if config.factory else onnx_run(config, path, files[0])
    return PluginResolver(config.name or path.stem, bands, config, run, path)


@dataclass(frozen=True, eq=False)
class PluginResolver:
    """A network that others wrote, as a resolver without members.

    One image is the registered best date, the reference (``reference.build_series``). A series is the dates moved into
    the frame of the target, the closest first, holes filled from that image; a network that takes a fixed number gets
    the closest, or these again from the first. Bands that the network does not take are upsampled (bicubic), those of
    20 m from their own pixels: no detail is invented for them. Bands of 20 m that it does take it is given on the 10 m
    lattice, as blocks of equal pixels.

    Attributes:
        name: for reports.
        bands: of patch and result.
        config: of the plugin.
        run: the network.
        path: of the YAML.
    """

    deterministic: ClassVar[bool] = True
    """It has no members."""

    name: str
    bands: tuple[str, ...]
    config: PluginConfig
    run: Run
    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process loads the plugin from its own file."""
        return load_plugin, (self.path, self.bands)

    @property
    def scale(self) -> int:
        return self.config.scale

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``.

        Raises:
            GeodiffError: the network fails, or returns something else than one image of its scale.
        """
        with one_thread(), torch.inference_mode():
            series, known = patch_series(patch)
            if not known.any():
                return nothing(patch, self.scale, 0)
            rows, cols = series.valid.shape[-2:]
            result = np.empty((len(self.bands), rows * self.scale, cols * self.scale), np.float32)
            index = [self.bands.index(band) for band in self.config.bands]
            result[index] = self._restored(series, index, patch.origin_px).numpy()
            rest = [place for place in range(len(self.bands)) if place not in index]
            if rest:
                smooth = BicubicResolver(tuple(self.bands[place] for place in rest), self.scale)
                result[rest] = smooth.restore(fine_part(patch, rest), members=0, seed=0).mean
            return hide(Restoration(mean=result, members=result[None][:0]), known, self.scale)

    def _restored(self, series: Series, index: list[int], origin_px: tuple[int, int]) -> Tensor:
        """The bands of the network, (band, scale*y, scale*x) reflectance."""
        rows, cols = series.valid.shape[-2:]
        images = _dates(series, self.config)[:, index]
        padded, top, left = _on_lattice(images, self.config.multiple, origin_px)
        if self.config.upsampled:
            padded = upsample(padded, self.scale)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.config.mean_of, self.config.std_of))
        x = _arranged((padded * self.config.factor - mean) / std, self.config.layout)
        found = self._call(x, (len(index), *(n * self._growth for n in padded.shape[-2:])))
        if self.config.output_normalised:
            found = found * std + mean
        top, left = top * self.scale, left * self.scale
        return found[:, top : top + rows * self.scale, left : left + cols * self.scale] / self.config.factor

    @property
    def _growth(self) -> int:
        """Of the sides, from what the network is given to what it returns."""
        return 1 if self.config.upsampled else self.scale

    def _call(self, x: Tensor, wanted: tuple[int, ...]) -> Tensor:
        """The image of shape ``wanted`` that the network makes of ``x``."""
        try:
            found = self.run(x)
        except Exception as error:  # other people's code
            told = f"plugin {self.name} failed on an input of {tuple(x.shape)}"
            raise GeodiffError(f"{told}: {first_line(error)}") from None
        while found.ndim > 3 and found.shape[0] == 1:
            found = found[0]
        if tuple(found.shape) != wanted:
            raise GeodiffError(
                f"plugin {self.name} made {tuple(found.shape)} of an input of {tuple(x.shape)}, wanted is {wanted}: "
                "correct scale, bands, layout or multiple"
            )
        if not bool(torch.isfinite(found).all()):
            raise GeodiffError(f"plugin {self.name} made values that are not numbers: check factor, mean and std")
        return found


def _dates(series: Series, config: PluginConfig) -> Tensor:
    """What the network is shown: (times, band, y, x), one for a single image; in a fixed order, the closest first."""
    if config.layout == "bchw":
        return series.reference
    order = by_closeness(series.days)[0]
    valid = series.valid[0][order, None].to(series.reflectance.dtype)
    image = torch.where(valid > 0, series.reflectance[0][order], 0.0)
    moved = shift_image(torch.cat([image, valid], 1), series.shift_px[0][order])
    clear = moved[:, -1:] > 0.5
    # The closest date first, which is the target where it was observed, sharp: it is not resampled at shift 0.
    filled = torch.where(clear, moved[:, :-1] / moved[:, -1:].clamp_min(0.5), series.reference)
    seen = filled[series.valid[0][order].flatten(1).any(1)]
    count = len(seen) if config.dates is None else config.dates
    return seen[torch.arange(count) % len(seen)]


def _on_lattice(images: Tensor, multiple: int, origin_px: tuple[int, int]) -> tuple[Tensor, int, int]:
    """Pad to whole cells of the absolute lattice, as the neighbours do; and by how much above and left."""
    (row, col), (rows, cols) = origin_px, images.shape[-2:]
    top, left = row % multiple, col % multiple
    pad = [left, -(col + cols) % multiple, top, -(row + rows) % multiple]
    return F.pad(images, pad, mode="replicate"), top, left


def _arranged(images: Tensor, layout: str) -> Tensor:
    """(times, band, y, x) as the network wants it."""
    if layout == "bchw":
        return images
    if layout == "b(tc)hw":
        return images.flatten(0, 1)[None]
    return images[None] if layout == "btchw" else images.transpose(0, 1)[None]
