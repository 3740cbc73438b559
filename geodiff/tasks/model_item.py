"""Finish a trained model: calibrate it, and catalogue it as a STAC item with the MLM extension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pystac
import torch
import xarray as xr

from geodiff.config import MaskConfig
from geodiff.imagery.catalog import search
from geodiff.imagery.cube import choose_grid, load_cube
from geodiff.imagery.sources import load_source
from geodiff.model.baselines import BicubicResolver, MedianResolver
from geodiff.model.brightness import BRIGHTNESS
from geodiff.model.checkpoint import digest, load_checkpoint, read_card, save_checkpoint
from geodiff.model.guided import GuidedResolver
from geodiff.model.injection import InjectionResolver
from geodiff.model.members import SPREAD, SPREAD_HIDDEN
from geodiff.model.networks import kind_of, load_network, network_resolver, save_network
from geodiff.model.resolver import OWN_SHARE, DiffusionResolver
from geodiff.outputs.atomic import write_json
from geodiff.outputs.stac_items import COMMON_NAMES, EO, band_fields
from geodiff.schema import GeodiffError, Resolver, UsageError
from geodiff.tasks.calibrate import Calibration, calibrate
from geodiff.tasks.calibrate_check import check_coverage
from geodiff.tasks.calibrate_guided import calibrate_guided
from geodiff.tasks.calibrate_pairs import calibration_pairs
from geodiff.tasks.card_ground import all_ground, both_grounds, with_terms
from geodiff.tasks.models import ALL_KINDS, DEFAULT_MODEL, GUIDED_BY, find_model, guided_by, join_guided, models_dir
from geodiff.tasks.wald import wald

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CALIBRATED_PASSES = (2, 4)
"""Members of other numbers of passes take the filter and the quantiles of the nearest of these."""

PAIRS_PER_PLACE = 24
"""The power of the error differs between patches of a place by 2 dB: the mean of so many is good to 0.4."""
WEIGHTS = "weights.safetensors"
OWN_KEYS = ("format", "kind", "config", "sha256", "parameters")


def publish_model(
    weights: Path,
    root: Path | None,
    folder: Path,
    name: str,
    *,
    guide: str = DEFAULT_MODEL,
    wald_catalog: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Calibrate trained weights on held-out ground and write them, their card and their STAC item to a folder.

    Weights of a peer (``model.networks``) are written as they are: peers have no intervals to calibrate.

    Args:
        weights: of ``start_training``, with their card.
        root: data folder of the training; its held-out strips are used. Peers need none.
        folder: such as ``catalogs/models``: gets ``<name>.json`` and ``<name>/weights.safetensors`` with its card.
        name: of the model.
        guide: for weights that need one, the model of the 10 m bands that guides them: of the same folder or of the
            catalogue.
        wald_catalog: static catalogue of a series that was never trained on; scored by the Wald protocol, beside the
            baselines, the scores kept in the card.
        tell: is given a line for each part of the work, which takes minutes.

    Returns:
        The path of the STAC item.

    Raises:
        GeodiffError: weights, places or catalogue cannot be read.
        UsageError: a denoiser without a data folder.
    """
    say = tell or (lambda _: None)
    if kind_of(read_card(weights, ALL_KINDS)) is not None:
        return _publish_peer(weights, folder, name, wald_catalog)
    if root is None:
        raise UsageError("the weights are a denoiser's, which is calibrated on held-out ground: give --data")
    model, card = load_checkpoint(weights)
    card |= all_ground(card)
    notes = _notes(card)
    first = _guide(folder, guide) if model.config.guide else None
    fine = _fine(*first) if first else None
    say(f"{name} is calibrated on the ground under {root} that training never saw: minutes, more with more places")
    found = _calibrated(DiffusionResolver(name, model), card, root, fine)
    notes |= {SPREAD: found.spread, SPREAD_HIDDEN: found.spread_hidden}
    notes |= {BRIGHTNESS: found.brightness, "conformal": found.conformal}
    notes |= {"calibration": found.figures, OWN_SHARE: found.own_share}
    if first:
        notes |= {GUIDED_BY: guided_by(*first), **both_grounds(notes, first[1])}
    parameters = sum(p.numel() for p in model.parameters())
    alone = DiffusionResolver.calibrated(name, model, notes, passes=CALIBRATED_PASSES[0])
    told: DiffusionResolver | GuidedResolver = alone
    if first and fine:
        told, parameters = join_guided(fine(CALIBRATED_PASSES[0]), alone), parameters + int(first[1]["parameters"])
    if wald_catalog:
        say(f"{name} and the baselines are scored on the dates of {wald_catalog}")
        notes |= _scores(told, wald_catalog)
    save_checkpoint(model, folder / name / WEIGHTS, card=with_terms(notes))
    return _write_item(folder, model_item(name, told, parameters, digest(folder / name / WEIGHTS)))


def _publish_peer(weights: Path, folder: Path, name: str, wald_catalog: Path | None) -> Path:
    model, card = load_network(weights)
    resolver, notes = network_resolver(weights, name), _notes(card)
    if wald_catalog:
        notes |= _scores(resolver, wald_catalog)
    save_network(model, folder / name / WEIGHTS, card=with_terms(notes))
    parameters = sum(p.numel() for p in model.parameters())
    sha256 = digest(folder / name / WEIGHTS)
    return _write_item(folder, model_item(name, resolver, parameters, sha256, architecture=type(model).__name__))


def _notes(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says beside what the weights say themselves."""
    return {key: value for key, value in card.items() if key not in OWN_KEYS}


def _write_item(folder: Path, item: pystac.Item) -> Path:
    path = folder / f"{item.id}.json"
    write_json(path, item.to_dict(include_self_link=False, transform_hrefs=False))
    return path


def _calibrated(
    resolver: DiffusionResolver, card: Mapping[str, Any], root: Path, fine: Callable[[int], DiffusionResolver] | None
) -> Calibration:
    if fine:
        return calibrate_guided(fine, resolver, root, CALIBRATED_PASSES, each=PAIRS_PER_PLACE)
    config = resolver.model.config
    pairs, changing = calibration_pairs(root, card, config.bands, config.scale, config.mtf, each=PAIRS_PER_PLACE)
    return calibrate(resolver, pairs, CALIBRATED_PASSES, changing=changing)


def _guide(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Weights and card of the model that guides: of the folder, else of the catalogue.

    Raises:
        GeodiffError: it cannot be read.
        UsageError: no such model.
    """
    own = folder / f"{name}.json"
    weights = find_model(str(own) if own.is_file() else name).weights
    if weights is None or weights.parent.parent not in (folder.resolve(), folder, models_dir()):
        raise UsageError(f"{name} guides no model here: give the name of one that is published in {folder} or shipped")
    card = read_card(weights)
    if "conformal" not in card:
        raise UsageError(f"{name} is not calibrated: publish it before the model that it guides")
    return weights, card


def _fine(weights: Path, card: Mapping[str, Any]) -> Callable[[int], DiffusionResolver]:
    """The model that guides as it is calibrated for a number of passes; its weights are read once."""
    net = load_checkpoint(weights)[0]

    @cache
    def at(passes: int) -> DiffusionResolver:
        return DiffusionResolver.calibrated(weights.parent.name, net, card, passes=passes)

    return at


def _scores(resolver: Resolver, catalog: Path) -> dict[str, Any]:
    """Mean cPSNR of the model and the baselines over the clear dates of a catalogue, the dates' own, and coverage."""
    cube = open_series(catalog, resolver.bands)
    baselines: list[Resolver] = [BicubicResolver(resolver.bands), MedianResolver(resolver.bands)]
    if isinstance(resolver, GuidedResolver):
        baselines.append(InjectionResolver(resolver.bands))
    result = wald(cube, [*baselines, resolver])
    seen, hidden = result.mean_db(hidden=False), result.mean_db(hidden=True)
    figures = {f"{model} dB": round(db, 3) for model, db in seen.items()}
    figures |= {f"{model} dB, date hidden": round(db, 3) for model, db in hidden.items()}
    rows = [asdict(score) for score in result.scores]
    told: dict[str, Any] = {"catalogue": catalog.parent.name, "protocol": "x4, cPSNR", "scores": rows}
    if isinstance(resolver, DiffusionResolver | GuidedResolver):
        told["intervals"] = check_coverage(resolver, cube)
    return {"figures": figures, "wald": told}


def open_series(catalog: Path, bands: tuple[str, ...]) -> xr.DataArray:
    """All scenes of a static catalogue on their own lattice, in memory.

    Raises:
        GeodiffError: the catalogue cannot be read, or its scenes share no lattice.
    """
    source = load_source(str(catalog))
    items = search(source, datetime="1980-01-01/..")
    boxes = [item.bbox for item in items if item.bbox]
    if not boxes:
        raise GeodiffError(f"the scenes of {catalog} state no bounding box: build the catalogue with geodiff")
    west, south, east, north = zip(*boxes, strict=True)
    grid = choose_grid(items, bbox=(min(west), min(south), max(east), max(north)), crs="native", source=source)
    return load_cube(items, source=source, bands=bands, grid=grid, mask=MaskConfig()).compute()


def model_item(
    name: str, model: Resolver, parameters: int, sha256: str, *, architecture: str = "spatio-temporal denoiser"
) -> pystac.Item:
    """The STAC item of a model; hrefs are relative to the folder of the item.

    Args:
        name: of the model.
        model: at work.
        parameters: how many it has.
        sha256: of its weights, in hexadecimal digits: copies of the item do without the asset.
        architecture: in words.
    """
    everywhere = {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]}
    item = pystac.Item(
        id=name,
        geometry=everywhere,
        bbox=[-180, -90, 180, 90],
        datetime=datetime.now(UTC).replace(microsecond=0),
        properties=_properties(name, model, parameters, architecture) | {"geodiff:sha256": sha256},
        stac_extensions=[MLM, *([EO] if COMMON_NAMES.keys() & set(model.bands) else [])],
    )
    roles = ["mlm:model", "mlm:weights", "data"]
    extra = {"mlm:artifact_type": "safetensors"}
    media = "application/octet-stream; application=safetensors"
    item.add_asset("weights", pystac.Asset(f"./{name}/weights.safetensors", "weights", None, media, roles, extra))
    card = pystac.Asset(
        f"./{name}/weights.json", "card: training, calibration, figures", None, "application/json", ["metadata"]
    )
    item.add_asset("card", card)
    return item


def _properties(name: str, model: Resolver, parameters: int, architecture: str) -> dict[str, Any]:
    bands = [{"name": band} for band in model.bands]
    count, scale = len(model.bands), model.scale
    series = {
        "shape": [-1, -1, count, -1, -1],
        "dim_order": ["batch", "time", "bands", "height", "width"],
        "data_type": "float32",
    }
    image = {"shape": [-1, count, -1, -1], "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"}
    return {
        "bands": [band_fields(band) for band in model.bands],
        "mlm:name": name,
        "mlm:architecture": architecture,
        "mlm:tasks": ["super-resolution"],
        "mlm:framework": "pytorch",
        "mlm:framework_version": torch.__version__.split("+")[0],
        "mlm:total_parameters": parameters,
        "mlm:pretrained": True,
        "mlm:accelerator": None,
        "mlm:input": [
            {
                "name": "series",
                "bands": bands,
                "input": series,
                "description": "surface reflectance 0-1 of 1 to 32 dates, with validity, days and sub-pixel shifts",
                "pre_processing_function": None,
            }
        ],
        "mlm:output": [
            {
                "name": "target date",
                "tasks": ["super-resolution"],
                "result": image,
                "description": f"surface reflectance of the target date, {scale} times finer",
                "post_processing_function": None,
            }
        ],
        "geodiff:scale": scale,
    }
