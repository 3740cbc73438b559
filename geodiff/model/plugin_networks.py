"""Making the network of a plugin: a torch module from a callable, or an ONNX graph.

Importing and calling a factory runs its code. Weights are safetensors; what unpickles (``torch.load``,
``torch.jit.load``, ``torch.hub.load``) is refused as a factory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geodiff.model.checkpoint import check_weights
from geodiff.model.plugin_config import PluginConfig
from geodiff.schema import GeodiffError, UsageError

Run = Callable[[Tensor], Tensor]
"""The network with everything bound but its input."""

UNPICKLERS = ("torch.serialization", "torch.jit", "torch.hub", "torch.package", "pickle", "_pickle", "dill", "joblib")


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _make(factory: str, kwargs: Mapping[str, Any], path: Path) -> Any:
    """Call ``package.module:callable``, making nested values first.

    Raises:
        UsageError: no such callable, or one that unpickles.
        GeodiffError: a package is missing, or the callable fails.
    """
    module_name, _, name = factory.partition(":")
    if not module_name or not name:
        raise UsageError(f"{path}: factory {factory!r} is not of the form package.module:callable")
    try:
        target: Any = importlib.import_module(module_name)
        for part in name.split("."):
            target = getattr(target, part)
    except ModuleNotFoundError as error:
        raise GeodiffError(f"{path}: factory {factory} needs the package {error.name}: install it") from None
    except AttributeError as error:
        raise UsageError(f"{path}: factory {factory} does not exist ({first_line(error)})") from None
    except Exception as error:  # importing runs other people's code
        raise GeodiffError(f"{path}: factory {factory} cannot be imported ({first_line(error)})") from None
    home = str(getattr(target, "__module__", ""))
    if any(home == closed or home.startswith(f"{closed}.") for closed in UNPICKLERS) or not callable(target):
        raise UsageError(
            f"{path}: factory {factory} does not make a network; pickles can run code and are never loaded"
        )
    values = {key: _nested(value, path) for key, value in kwargs.items()}
    try:
        return target(**values)
    except Exception as error:
        raise GeodiffError(f"{path}: factory {factory} failed: {first_line(error)}") from None


def _nested(value: Any, path: Path) -> Any:
    if isinstance(value, Mapping) and "factory" in value and set(value) <= {"factory", "kwargs"}:
        return _make(str(value["factory"]), value.get("kwargs") or {}, path)
    return value


def torch_run(config: PluginConfig, path: Path, files: Sequence[Path]) -> Run:
    """The torch module of a plugin, with its weights where it names any.

    Raises:
        UsageError: the factory does not exist, is refused, or gives no module.
        GeodiffError: a missing package, a failure of the factory, or weights that do not fit.
    """
    for file in files:
        check_weights(file)
    with torch.random.fork_rng():
        # A network without weights of its own is the same one in every process.
        torch.manual_seed(0)
        model = _make(str(config.factory), config.kwargs, path)
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise UsageError(f"{path}: factory {config.factory} gave {type(model).__name__}, not a torch.nn.Module")
    for file in files:
        try:
            model.load_state_dict(load_file(file), strict=True)
        except (SafetensorError, RuntimeError) as error:
            raise GeodiffError(f"weights {file} do not fit what {path} makes: {first_line(error)}") from None
    model.float().eval().requires_grad_(False)

    def run(x: Tensor) -> Tensor:
        found = model(x, **config.arguments)
        if config.output is not None:
            found = found[config.output] if isinstance(found, Mapping) else getattr(found, config.output)
        if not isinstance(found, Tensor):
            raise TypeError(f"it returned {type(found).__name__}: name its image with `output`")
        return found.float()

    return run


def onnx_run(config: PluginConfig, path: Path, file: Path) -> Run:
    """The ONNX graph of a plugin, on one thread.

    Raises:
        UsageError: it has several inputs, or not the output asked for.
        GeodiffError: onnxruntime is missing, or cannot read the file.
    """
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise GeodiffError(f"{path} needs the package onnxruntime: pip install 'geodiff[plugins]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # tiles run side by side instead
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class for every way to fail
        raise GeodiffError(f"{file} cannot be run: {first_line(error)}") from None
    entries, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    if len(entries) != 1:
        raise UsageError(f"{file} has {len(entries)} inputs: a plugin has one")
    if config.output is not None and config.output not in outputs:
        raise UsageError(f"{path}: {file.name} has no output {config.output!r}, it has {', '.join(outputs)}")

    def run(x: Tensor) -> Tensor:
        found = session.run([config.output or outputs[0]], {entries[0].name: x.contiguous().numpy()})[0]
        return torch.from_numpy(np.array(found, np.float32))

    return run
