"""The name of a run: equal for equal values, whatever the spelling of the request, the machine and the day."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pystac

from geodiff.config import SuperresConfig, config_hash
from geodiff.imagery.acquisition import item_time
from geodiff.imagery.baseline import processing_baseline
from geodiff.imagery.hrefs import is_remote
from geodiff.imagery.lattice import asset_lattice
from geodiff.imagery.masking import SCREEN_BANDS
from geodiff.imagery.sources import Source
from geodiff.outputs.atomic import read_json
from geodiff.schema import public, without_user
from geodiff.tasks.models import ModelRef, calibration_of

FORMAT = 12
"""Raised when the same request begins to give other values, so that runs of before are not taken for it."""

_SPELLING = {"model", "catalog", "sources"}
_MADE_LATER = {"format"}
"""Settings that decide no value: GeoTIFFs are made of any finished cube."""

_NAMES_OF_SOURCE = {"name", "title", "kind", "url", "default_collection", "gdal_env", "note"}


def run_id(config: SuperresConfig, source: Source, items: Sequence[pystac.Item], ref: ModelRef) -> str:
    """Hash of everything that decides the values, as far as it is known before a pixel is read.

    Catalogue and model count by what they are, not by how they were spelled; scenes by what their items say of the
    assets that are read, so that a catalogue that states another scale, or a scene processed anew, is another run; of
    files on this disk size and time of change count too. Passwords and tokens do not count.

    Args:
        config: what to do, with the bands that the model restores.
        source: the catalogue with its rules.
        items: the scenes, in any order.
        ref: the model.
    """
    asked = config.model_dump(mode="json", exclude=_SPELLING | _MADE_LATER)
    rules = source.model_dump(mode="json", exclude=_NAMES_OF_SOURCE)
    bands = _bands_read(config, source, items)
    scenes = sorted(_scene(item, source, bands) for item in items)
    weights = [ref.sha256() or ref.name, _calibration(ref)]
    return config_hash([FORMAT, asked, public(source.location), rules, scenes, weights])


def _bands_read(config: SuperresConfig, source: Source, items: Sequence[pystac.Item]) -> tuple[str, ...]:
    """The bands restored, and those that only the search for clouds looks at where a scene has no classification."""
    screened = config.mask.spectral_screen and any(source.find_scl(item) is None for item in items)
    return (*config.bands, *SCREEN_BANDS) if screened else tuple(config.bands)


def _calibration(ref: ModelRef) -> dict[str, object]:
    """What the card of a trained model says of members and intervals: it decides values like the weights do."""
    card = read_json(ref.weights.with_suffix(".json")) if ref.weights else None
    return calibration_of(card if isinstance(card, dict) else {})


def _scene(item: pystac.Item, source: Source, bands: Sequence[str]) -> str:
    """What an item says that decides its reflectance, as JSON (NaN allowed)."""
    rule = source.offset
    names = ("updated", "s2:product_uri", "eo:cloud_cover", *rule.applied_properties)
    told = {name: item.properties.get(name) for name in names}
    # Wherever the item tells it: what is not among the properties of the source still decides the offset.
    told["baseline"] = processing_baseline(item, rule.baseline_properties)
    keys = [next((key for key in source.asset_names(band) if key in item.assets), None) for band in bands]
    assets = {key: _asset(item, key, source) for key in (*keys, source.find_scl(item)) if key is not None}
    return json.dumps([item.id, str(item_time(item)), told, assets], sort_keys=True, default=str)


def _asset(item: pystac.Item, key: str, source: Source) -> list[object]:
    asset, lattice = item.assets[key], asset_lattice(item, key)
    # A signature lives for hours; the file behind it stays.
    href = without_user(asset.href if source.signing == "none" else urlsplit(asset.href)._replace(query="").geturl())
    stated = {key: value for key, value in asset.extra_fields.items() if key == "bands" or key.startswith("raster:")}
    # A file without georeference lies where its item says.
    place = lattice and [lattice.crs, list(lattice.transform)[:6], lattice.shape]
    return [href, stated, place, _file_facts(href)]


def _file_facts(href: str) -> list[int] | None:
    """Size and time of change of a file of this disk: its item may not tell that it was replaced."""
    if is_remote(href) or not (path := Path(href)).is_file():
        return None
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]
