"""``geodiff models`` and ``geodiff train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from geodiff.cli.show import print_rows, tell
from geodiff.schema import GeodiffError, UsageError

if TYPE_CHECKING:
    from geodiff.config import Settings

Chosen = TypeVar("Chosen", bound="Settings")


def list_models() -> None:
    """List the models that --model takes by name, with the figures of their cards."""
    from geodiff.tasks.models import describe_models

    rows = [
        (
            row.name,
            f"x{row.scale}",
            " ".join(row.bands) or "any",
            f"{row.parameters / 1e6:.2f} M" if row.parameters else "-",
            ", ".join(f"{key} {value:g}" for key, value in row.figures.items()) or "-",
        )
        for row in describe_models()
    ]
    print_rows(("model", "scale", "bands", "parameters", "figures"), rows)


def train(
    *,
    data: Annotated[str, typer.Option(help="Kind of data: collection, folder, worldstrat or synthetic.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, card and the state to resume from.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data; synthetic data need none.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with training settings, or the name of one that comes with geodiff.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many minutes.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimiser.")] = None,
    start_from: Annotated[Path | None, typer.Option(help="Weights to begin with; a new model without.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from where an earlier training in --out stopped.")] = True,
    network: Annotated[str, typer.Option(help="What is trained: denoiser, highresnet or srdiff.")] = "denoiser",
) -> None:
    """Train a super-resolver; a killed training resumes."""
    try:
        from geodiff.tasks.train_data import TrainConfig
        from geodiff.tasks.train_start import start_training
    except ModuleNotFoundError as error:
        raise _needs_lightning(error) from None
    settings = _settings(TrainConfig, config, minutes=minutes, steps=steps)
    if Path(data).is_dir() and root is None:
        raise UsageError(f"--data names the kind of data: write --data collection --root {data}")
    weights = start_training(network, data, root, out, settings, start_from=start_from, resume=resume, tell=tell)
    typer.echo(str(weights))


def train_tracks(
    *,
    data: Annotated[list[Path], typer.Option("--data", help="File of fixes, any AIS layout; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, card and the state to resume from.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with training settings, or the name of one that comes with geodiff.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many minutes.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimiser.")] = None,
    start_from: Annotated[Path | None, typer.Option(help="Weights to begin with; a new model without.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from where an earlier training in --out stopped.")] = True,
) -> None:
    """Train the denoiser on vessel tracks and calibrate it; a killed training resumes.

    A tenth of the vessels, by the hash of their identity, is left out for tests.
    """
    try:
        from geodiff.tasks.train_tracks_settings import TrackTrainConfig
        from geodiff.tasks.train_tracks_start import start_track_training
    except ModuleNotFoundError as error:
        raise _needs_lightning(error) from None
    settings = _settings(TrackTrainConfig, config, minutes=minutes, steps=steps)
    weights = start_track_training(data, out, settings, start_from=start_from, resume=resume, tell=tell)
    typer.echo(str(weights))


def _needs_lightning(error: ModuleNotFoundError) -> Exception:
    """What to say of a package that training needs; another missing package is an error of its own."""
    if (error.name or "").partition(".")[0] not in ("lightning", "pytorch_lightning"):
        return error
    return GeodiffError("training needs the package lightning: pip install 'geodiff[train]'")


def _settings(kind: type[Chosen], config: Path | None, **given: float | None) -> Chosen:
    """Settings of a training: those of the file, with what was given on the command line in their place."""
    from geodiff.config import read_yaml

    values = read_yaml(_settings_file(config)) if config else {}
    values |= {key: value for key, value in given.items() if value is not None}
    return kind.parse(values, where=str(config or "options"))


def _settings_file(path: Path) -> Path:
    """The file, or the one of that name which comes with the package, such as ``worldstrat_gpu``."""
    from geodiff.config import catalogs_dir

    shipped = catalogs_dir() / "training" / f"{path}.yaml"
    return shipped if path.name == str(path) and not path.exists() and shipped.is_file() else path


def publish(
    *,
    weights: Annotated[Path, typer.Option(help="Weights of a training, with their card.")],
    out: Annotated[Path, typer.Option(help="Folder of models, such as catalogs/models.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder in the layout of --data collection, to calibrate on; peers need none."),
    ] = None,
    guide: Annotated[str, typer.Option(help="Model of the 10 m bands that guides weights of the 20 m bands.")] = "s2x4",
    wald_catalog: Annotated[Path | None, typer.Option(help="Catalogue of a series never trained on, to score.")] = None,
) -> None:
    """Calibrate trained weights on held-out ground, score them, and catalogue them as a STAC item."""
    from geodiff.tasks.model_item import publish_model

    item = publish_model(weights, data, out, name, guide=guide, wald_catalog=wald_catalog, tell=tell)
    typer.echo(str(item))
