"""The kinds of training data: what ``geodiff train superres --data`` names, and what each is made of.

``collection``  the layout of the project's data folder (``imagery.places``), with real series beside the simulated ones
``folder``      a user's own orthophotos (``imagery.folders``)
``worldstrat``  real low resolution with registered high resolution
``synthetic``   endless places of the synthetic world (``testing.landscape``)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from geodiff.imagery.ground import Ground, split_places
from geodiff.imagery.places import read_places
from geodiff.imagery.places_20m import read_places_20m, split_places_20m
from geodiff.imagery.real_series import read_series
from geodiff.schema import BANDS_10M, BANDS_20M, GeodiffError, UsageError
from geodiff.sensor import band_mtf, native_step
from geodiff.tasks.leakage import describe_ground
from geodiff.tasks.train_data import HELD_SEED, DataKind, Mixed, PatchSource, TrainConfig, TrainData
from geodiff.tasks.train_pairs import RealSource
from geodiff.tasks.train_residuals import residual_scales
from geodiff.tasks.train_worldstrat import open_worldstrat


def open_data(kind: str, root: Path | None, config: TrainConfig) -> TrainData:
    """Open training data.

    Args:
        kind: one of ``DataKind``.
        root: folder of the data; not needed for ``synthetic``.
        config: of the training.

    Raises:
        UsageError: an unknown kind, or no folder.
        GeodiffError: no imagery, or a file that cannot be read.
    """
    if kind not in get_args(DataKind):
        raise UsageError(f"--data {kind}: choose among {', '.join(get_args(DataKind))}; the folder goes to --root")
    if kind == "synthetic":
        return synthetic_data(config)
    if root is None:
        raise UsageError(f"--data {kind} needs --root, the folder of the data")
    if not root.is_dir():
        raise GeodiffError(f"{root} is not a folder: --root names the folder of the {kind} data")
    openers: dict[str, Callable[[Path, TrainConfig], TrainData]]
    openers = {"collection": collection_data, "folder": folder_data, "worldstrat": worldstrat_data}
    return openers[kind](root, config)


def collection_data(root: Path, config: TrainConfig) -> TrainData:
    """Places in the layout of the project's data folder; a share of the steps sees real series."""
    if (config.bands, config.guide) == (BANDS_20M, BANDS_10M):
        if config.real_share:
            raise UsageError("the real series of the collection have no guide: set real_share to 0")
        return from_ground("collection", *split_places_20m(read_places_20m(root)), config, where=str(root))
    if config.bands != BANDS_10M or config.guide:
        raise UsageError(
            f"the collection trains the bands {' '.join(BANDS_10M)}, or {' '.join(BANDS_20M)} guided by the former, "
            f"not {' '.join(config.bands)}{' guided by ' * bool(config.guide)}{' '.join(config.guide)}"
        )
    train, held = split_places(read_places(root))
    data = from_ground("collection", train, held, config, where=str(root))
    if not config.real_share:
        return data
    found = read_series(root, config.bands)
    real = RealSource(found.series, config, band_mtf(config.bands), config.seed)
    maker = Mixed(data.maker, real, config.real_share, config.seed)
    names = sorted({*data.notes["places"], *(one.name.split("/")[0] for one in real.usable)})
    left = [f"left out: {name}, {why}" for name, why in found.left_out]
    notes = {**data.notes, "places": names, **describe_ground([*train, *real.usable])}
    return replace(data, maker=maker, notes=notes, messages=tuple(left))


def folder_data(root: Path, config: TrainConfig) -> TrainData:
    """A user's own imagery, read window by window."""
    from geodiff.imagery.folders import read_folder

    _refuse_guide(config, "a folder of images")
    found = read_folder(root, bands=config.bands, scale=config.scale)
    data = from_ground("folder", found.train, found.held, config, where=str(root))
    names = sorted({place.name for place in found.train})
    return replace(data, notes={**data.notes, "places": names}, messages=found.messages)


def synthetic_data(config: TrainConfig) -> TrainData:
    """Endless places; validation looks at another world."""
    from geodiff.tasks.train_synthetic import WORLD_SEED, SyntheticGround

    shown, high_m = (*config.bands, *config.guide), _native_m(config.bands) / config.scale
    pixel_m = _native_m(config.bands)
    worlds = [SyntheticGround(WORLD_SEED + config.seed, shown, high_m, pixel_m)]
    held = [SyntheticGround(WORLD_SEED - 1 - config.seed, shown, high_m, pixel_m)]
    return from_ground("synthetic", worlds, held, config, where="the synthetic world", describe=False)


def _native_m(bands: tuple[str, ...]) -> float:
    """Side of the coarsest pixel of some bands, in metres."""
    return 10.0 * max(native_step(band) for band in bands)


def worldstrat_data(root: Path, config: TrainConfig) -> TrainData:
    """Real series with registered high resolution, by the clean split."""
    _refuse_guide(config, "WorldStrat")
    return open_worldstrat(root, config)


def _refuse_guide(config: TrainConfig, what: str) -> None:
    if config.guide:
        raise UsageError(f"{what} trains no guided model: leave guide out, or use the collection or synthetic data")


def from_ground(
    kind: DataKind,
    train: Sequence[Ground],
    held: Sequence[Ground],
    config: TrainConfig,
    *,
    where: str,
    describe: bool = True,
) -> TrainData:
    """Data that goes through the sensor model.

    Raises:
        GeodiffError: nothing is held out.
    """
    if not held:
        raise GeodiffError(f"no place under {where} is wide enough to hold a strip out for validation")
    watched = config.model_copy(update={"batch": 8})
    fixed = PatchSource(held, watched, scale=config.scale, seed=HELD_SEED)
    names = sorted({place.name.split("/")[0] for place in train})
    order = (*config.bands, *config.guide)
    red = order.index("B04") if "B04" in order else 2
    return TrainData(
        kind,
        PatchSource(train, config, scale=config.scale, seed=config.seed),
        tuple(fixed.batch(step) for step in range(config.validate_batches)),
        residual_scales(train, config, band_mtf(config.bands)),
        {"places": names, **(describe_ground(train, band=red) if describe else {})},
    )
