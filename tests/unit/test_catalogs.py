"""The data that ship: every file under catalogs/ is what the package takes it for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
from shapely.geometry import shape

from geodiff.config import catalogs_dir
from geodiff.grid import check_bbox
from geodiff.imagery.sources import load_sources
from geodiff.model.checkpoint import digest, load_checkpoint, read_card
from geodiff.model.networks import kind_of, load_network
from geodiff.schema import BANDS_10M
from geodiff.tasks.model_item import model_item
from geodiff.tasks.models import ALL_KINDS, DEFAULT_MODEL, find_model, guide_weights, load_resolver

MAX_WEIGHTS_BYTES = 20_000_000
MLM = "https://stac-extensions.github.io/mlm/"
MLM_REQUIRED = ("mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output")


def model_items() -> list[Path]:
    return sorted((catalogs_dir() / "models").glob("*.json"))


def test_the_sources_are_read_and_know_the_bands() -> None:
    sources = load_sources()
    assert {"earth-search", "planetary-computer", "static"} <= sources.keys()
    for source in sources.values():
        assert all(source.asset_names(band) for band in BANDS_10M)


def test_the_regions_are_named_places_in_degrees() -> None:
    document = json.loads((catalogs_dir() / "regions.geojson").read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    names = [feature["properties"]["name"] for feature in document["features"]]
    assert "boadella" in names
    assert len(set(names)) == len(names)
    for feature in document["features"]:
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        assert geometry.exterior.is_ccw  # RFC 7946
        check_bbox(geometry.bounds)


def test_the_default_model_ships_as_soon_as_any_does() -> None:
    folder = catalogs_dir() / "models"
    if folder.is_dir() and any(folder.iterdir()):
        assert DEFAULT_MODEL in [path.stem for path in model_items()]


@pytest.mark.parametrize("path", model_items(), ids=lambda path: path.stem)
def test_a_model_item_describes_weights_that_are_there(path: Path) -> None:
    item = pystac.Item.from_file(str(path))
    assert item.id == path.stem
    assert any(extension.startswith(MLM) for extension in item.stac_extensions)
    assert not [key for key in MLM_REQUIRED if not item.properties.get(key)]
    weights = find_model(path.stem).weights
    assert weights is not None
    assert weights.suffix == ".safetensors"
    assert weights.stat().st_size <= MAX_WEIGHTS_BYTES
    assert weights.resolve().is_relative_to(catalogs_dir().resolve())


@pytest.mark.parametrize("path", model_items(), ids=lambda path: path.stem)
def test_a_model_is_the_one_of_its_card(path: Path) -> None:
    weights = find_model(path.stem).weights
    assert weights is not None
    peer = kind_of(read_card(weights, ALL_KINDS)) is not None
    model, card = (load_network if peer else load_checkpoint)(weights)  # configuration, names, shapes, finite values
    assert digest(weights) == card["sha256"]
    assert sum(parameter.numel() for parameter in model.parameters()) == card["parameters"]
    properties: dict[str, Any] = pystac.Item.from_file(str(path)).properties
    guides = getattr(model.config, "guide", ())
    guide = read_card(guide_weights(weights, card))["parameters"] if guides else 0
    assert properties["mlm:total_parameters"] == card["parameters"] + guide
    bands = [band["name"] for band in properties["mlm:input"][0]["bands"]]
    assert bands == [*guides, *model.config.bands]
    assert [band["name"] for band in properties["bands"]] == bands
    assert properties["geodiff:sha256"] == digest(weights)
    resolver, architecture = load_resolver(find_model(path.stem)), properties["mlm:architecture"]
    made = model_item(
        path.stem, resolver, properties["mlm:total_parameters"], digest(weights), architecture=architecture
    )
    of_its_day = {name: properties[name] for name in ("datetime", "mlm:framework_version")}
    document = made.to_dict(include_self_link=False, transform_hrefs=False)
    document["properties"] |= of_its_day
    assert json.loads(path.read_text(encoding="utf-8")) == document, "as the code writes it"
    assert load_resolver(find_model(path.stem)).bands == tuple(bands)
