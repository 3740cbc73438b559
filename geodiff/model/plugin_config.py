"""What the YAML file of a plugin may say: how a network that others wrote is made, and how it wants its input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from geodiff.config import Settings, read_yaml

_PerBand = float | Annotated[tuple[float, ...], Field(min_length=1)]


class PluginConfig(Settings):
    """What a plugin's YAML says.

    Attributes:
        name: for reports; that of the file when None.
        factory: ``package.module:callable`` that returns a ``torch.nn.Module``; this or ``onnx``.
        kwargs: of the factory; a value of the form ``{factory: ..., kwargs: ...}`` is made in the same way first.
        weights: safetensors file for the module, beside the YAML unless absolute; as the factory made them when None.
        onnx: file, beside the YAML unless absolute.
        sha256: of ``weights`` or ``onnx``; not checked when None.
        bands: names, in the order of the network's channels.
        scale: how many times finer its output is.
        layout: of the input: ``bchw`` one image, ``btchw`` or ``bcthw`` a series, ``b(tc)hw`` dates as channels.
        dates: that a network of series takes, always so many; any number when None.
        upsampled: the network is given images that are upsampled (bicubic) already.
        factor: what reflectance is multiplied with first, 10000 for a network that knows digital numbers.
        mean: subtracted then, one number or one per band.
        std: divided by last, likewise.
        output_normalised: the output is in these units too; else in reflectance times ``factor``.
        multiple: sides of the input are padded to multiples of it, on the absolute lattice.
        arguments: more keyword arguments of the torch module's call.
        output: attribute, key or name of the output where there are several.
    """

    name: str | None = Field(None, min_length=1)
    factory: str | None = None
    kwargs: dict[str, Any] = Field(default={})
    weights: str | None = None
    onnx: str | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    bands: tuple[str, ...] = Field(min_length=1)
    scale: int = Field(ge=1, le=16)
    layout: Literal["bchw", "btchw", "bcthw", "b(tc)hw"] = "bchw"
    dates: int | None = Field(None, ge=1, le=32)
    upsampled: bool = False
    factor: float = Field(1.0, gt=0, allow_inf_nan=False)
    mean: _PerBand = 0.0
    std: _PerBand = 1.0
    output_normalised: bool = True
    multiple: int = Field(1, ge=1, le=256)
    arguments: dict[str, Any] = Field(default={})
    output: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.factory is None) == (self.onnx is None):
            raise ValueError("give one of factory and onnx")
        if self.onnx is not None and (self.kwargs or self.weights or self.arguments):
            raise ValueError("kwargs, weights and arguments are of torch modules, an onnx file has its own")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError("a band is named twice")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != len(self.bands):
                raise ValueError(f"{name} has {len(value)} values for {len(self.bands)} bands")
        if not all(np.isfinite(self.mean_of)) or not all(0 < v < np.inf for v in self.std_of):
            raise ValueError("mean must be finite, std positive")
        if self.layout == "b(tc)hw" and self.dates is None:
            raise ValueError("layout b(tc)hw needs the number of dates")
        return self

    @property
    def mean_of(self) -> tuple[float, ...]:
        return self.mean if isinstance(self.mean, tuple) else (self.mean,) * len(self.bands)

    @property
    def std_of(self) -> tuple[float, ...]:
        return self.std if isinstance(self.std, tuple) else (self.std,) * len(self.bands)


def read_plugin(path: Path) -> PluginConfig:
    """Read and check a plugin's YAML; no code of it runs.

    Raises:
        UsageError: not YAML, an unknown key, or values that cannot be.
    """
    return PluginConfig.parse(read_yaml(path), where=str(path))


def plugin_files(path: Path) -> list[Path]:
    """The YAML and the file that it names: together they decide the values, as far as files do."""
    config = read_plugin(path)
    named = config.weights or config.onnx
    return [path, *([path.parent / Path(named).expanduser()] if named else [])]
