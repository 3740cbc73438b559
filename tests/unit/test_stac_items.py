"""Items and the static catalogue: well-formed, relative, and complete at every moment."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
from shapely.geometry import box, shape

from geodiff.grid import Grid
from geodiff.outputs import static_catalog
from geodiff.outputs.published import find_item, published_items
from geodiff.outputs.stac_items import RunRecord, build_item, footprint, publish_item, withdraw_item
from geodiff.schema import GeodiffError

Box = tuple[float, float, float, float]

RUN = RunRecord(
    run_id="s2-x4-0123abcd",
    grid=Grid("EPSG:32631", (2.5, 2.5), (500_000.0, 4_700_000.0), (1200, 1600)),
    bands=("B02", "B03", "B04", "B08"),
    times=tuple(np.array(["2020-01-13T10:50:00", "2021-06-01"], dtype="datetime64[s]")),
    ensemble=4,
    scale=4,
    model="denoiser-x4",
    model_href="https://example.com/models/denoiser-x4.json",
    sources=("https://example.com/items/a.json", "https://example.com/items/b.json"),
    properties={"geodiff:km2_per_s": 0.8},
    created=datetime(2026, 1, 2, tzinfo=UTC),
)


def item_in(folder: Path, run: RunRecord = RUN) -> pystac.Item:
    store = folder / "boadella" / f"{run.run_id}.zarr"
    store.mkdir(parents=True, exist_ok=True)
    cogs = [store.with_name(f"{run.run_id}_20200113T105000_{name}.tif") for name in ("reflectance", "uncertainty")]
    picture, summary = store.with_suffix(".png"), store.with_name(f"{run.run_id}_summary.json")
    for path in (picture, summary, *cogs):
        path.write_bytes(b"made")
    return build_item(run, zarr=store, thumbnail=picture, quicklook=picture, summary=summary, cogs=cogs)


def validate(document: dict[str, object]) -> None:
    """Check against the schemas of the STAC core that come with pystac; nothing is fetched."""
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    from pystac.validation.local_validator import get_local_schema_cache

    kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[str(document["type"])]
    schemas = get_local_schema_cache()
    resources = [(uri, referencing.Resource.from_contents(schema)) for uri, schema in schemas.items()]
    schema = schemas[f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"]
    check = jsonschema.Draft7Validator(schema, registry=referencing.Registry().with_resources(resources))
    assert [error.message for error in check.iter_errors(document)] == []


def test_the_item_says_what_where_and_when(tmp_path: Path) -> None:
    item = item_in(tmp_path)
    assert item.datetime is None
    assert item.properties["start_datetime"] == "2020-01-13T10:50:00Z"
    assert item.properties["end_datetime"] == "2021-06-01T00:00:00Z"
    assert item.properties["proj:code"] == "EPSG:32631"
    assert item.properties["proj:transform"][:3] == [2.5, 0.0, 500_000.0]
    assert item.properties["gsd"] == 2.5
    assert item.properties["created"] == "2026-01-02T00:00:00Z"
    assert "geodiff" in item.properties["processing:software"]
    assert item.bbox is not None
    outline = shape(item.geometry)
    assert outline.is_valid
    assert box(*item.bbox).buffer(1e-6).contains(outline)
    assert outline.area > 0.95 * box(*item.bbox).area
    # Counter-clockwise, as GeoJSON asks for.
    assert outline.exterior.is_ccw
    assert [link.target for link in item.get_links("derived_from")] == [RUN.model_href, *RUN.sources]


@pytest.mark.parametrize(
    "bbox", [(179.9, -17.1, 180.0, -17.0), (-180.0, -17.1, -179.9, -17.0), (179.5, 70.9, 180.0, 71.2)]
)
def test_a_grid_across_the_antimeridian_has_an_outline_on_both_sides(bbox: Box, tmp_path: Path) -> None:
    grid = Grid.cover(bbox)
    item = item_in(tmp_path, replace(RUN, grid=grid))
    assert item.bbox is not None
    assert item.bbox[0] > item.bbox[2], "RFC 7946, 5.2"
    outline = shape(item.geometry)
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    assert outline.bounds[::2] == (-180.0, 180.0)
    assert outline.area == pytest.approx(box(*bbox).area, rel=0.12)
    assert all(part.exterior.is_ccw for part in outline.geoms)
    validate(json.loads(json.dumps(item.to_dict())))


def test_a_grid_around_a_pole_has_an_outline() -> None:
    outline = footprint(Grid("EPSG:3413", (1000.0, 1000.0), (-100_000.0, 100_000.0), (200, 200)))
    assert outline["type"] == "Polygon"
    assert np.isfinite(np.array(outline["coordinates"][0])).all()


def test_assets_carry_roles_types_and_the_packing_of_their_bands(tmp_path: Path) -> None:
    assets = item_in(tmp_path).assets
    assert assets["zarr"].media_type == "application/vnd+zarr; version=3"
    assert assets["zarr"].roles == ["data"]
    assert assets["thumbnail"].roles == ["thumbnail"]
    red = assets["20200113T105000_reflectance"].extra_fields["bands"][2]
    assert red == {"name": "B04", "eo:common_name": "red", "raster:scale": 1e-4, "raster:offset": -0.3}
    assert assets["20200113T105000_uncertainty"].extra_fields["nodata"] == 65535


def test_one_date_is_the_datetime(tmp_path: Path) -> None:
    item = item_in(tmp_path, replace(RUN, times=RUN.times[:1], created=None))
    assert item.datetime == datetime(2020, 1, 13, 10, 50, tzinfo=UTC)
    assert "start_datetime" not in item.properties
    assert "created" not in item.properties


def test_documents_follow_the_stac_schemas(tmp_path: Path) -> None:
    path = publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    for file in (path, path.parent / "collection.json", tmp_path / "catalog.json"):
        validate(json.loads(file.read_text()))


def test_the_catalogue_can_be_walked_and_moved(tmp_path: Path) -> None:
    publish_item(tmp_path / "a", item_in(tmp_path / "a"), collection="boadella")
    (tmp_path / "a").rename(tmp_path / "b")
    catalog = pystac.Catalog.from_file(str(tmp_path / "b" / "catalog.json"))
    (item,) = catalog.get_items(recursive=True)
    store = item.assets["zarr"].get_absolute_href()
    assert store is not None
    assert Path(store) == tmp_path / "b" / "boadella" / f"{RUN.run_id}.zarr"
    assert str(tmp_path) not in (tmp_path / "b" / "boadella" / f"{RUN.run_id}.json").read_text()
    assert item.get_collection() is not None
    assert item.ext.proj.code == "EPSG:32631"


def test_a_published_run_is_found(tmp_path: Path) -> None:
    assert find_item(tmp_path, RUN.run_id) is None
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    item = find_item(tmp_path, RUN.run_id)
    assert item is not None
    assert item.id == RUN.run_id
    assert find_item(tmp_path, "s2-x4-other") is None
    (tmp_path / "boadella" / f"{RUN.run_id}.zarr").rmdir()
    assert find_item(tmp_path, RUN.run_id) is None


@pytest.mark.parametrize("damage", ["picture gone", "picture cut off", "cog gone", "chunk gone", "chunk cut off"])
def test_a_published_run_with_damaged_files_is_not_found(tmp_path: Path, damage: str) -> None:
    store = tmp_path / "boadella" / f"{RUN.run_id}.zarr"
    chunk = store / "reflectance" / "c" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"codes")
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    (store / ".DS_Store").write_bytes(b"left by somebody who looked")
    assert find_item(tmp_path, RUN.run_id) is not None
    what, _, how = damage.partition(" ")
    cog = store.with_name(f"{RUN.run_id}_20200113T105000_uncertainty.tif")
    path = {"picture": store.with_suffix(".png"), "cog": cog, "chunk": chunk}[what]
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes()[:-1])
    assert find_item(tmp_path, RUN.run_id) is None


def test_an_item_that_is_withdrawn_leaves_a_catalogue_that_can_be_walked(tmp_path: Path) -> None:
    other = replace(RUN, run_id="other")
    for run in (RUN, other):
        publish_item(tmp_path, item_in(tmp_path, run), collection="boadella")
    for run, left in ((other, [RUN.run_id]), (RUN, [])):
        withdraw_item(next(published_items(tmp_path, run_id=run.run_id)))
        catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
        assert [item.id for item in catalog.get_items(recursive=True)] == left
        validate(json.loads((tmp_path / "boadella" / "collection.json").read_text()))
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    assert find_item(tmp_path, RUN.run_id) is not None


def test_a_withdrawal_that_is_cut_short_leaves_no_link_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    item = next(published_items(tmp_path, run_id=RUN.run_id))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(static_catalog, "write_collection", killed)
    with pytest.raises(KeyboardInterrupt):
        withdraw_item(item)
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    assert [each.id for each in catalog.get_items(recursive=True)] == [RUN.run_id]


@pytest.mark.parametrize("step", ["write_collection", "write_catalog"])
def test_a_publication_cut_short_does_not_count_until_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(static_catalog, step, killed)
        with pytest.raises(KeyboardInterrupt):
            publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    assert find_item(tmp_path, RUN.run_id) is None
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    assert find_item(tmp_path, RUN.run_id) is not None


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.json")}
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.json")} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boadella", "catalog.json"]


def model_file(folder: Path, note: str = "") -> Path:
    model = pystac.Item("s2x4", None, None, datetime(2026, 1, 1, tzinfo=UTC), {"mlm:name": "s2x4", "note": note})
    model.add_asset("weights", pystac.Asset("./s2x4/weights.safetensors"))
    folder.mkdir()
    path = folder / "s2x4.json"
    path.write_text(json.dumps(model.to_dict(include_self_link=False, transform_hrefs=False)))
    return path


def test_the_item_of_a_local_model_moves_with_the_catalogue(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = replace(RUN, model_href=str(model_file(tmp_path / "installed")))
    publish_item(out, item_in(out, run), collection="boadella")
    other = replace(run, run_id="other", model_href=str(model_file(tmp_path / "mine", "of the same name")))
    for _ in range(2):
        publish_item(out, item_in(out, other), collection="boadella")
    moved = out.rename(tmp_path / "moved")
    assert len(list((moved / "models").iterdir())) == 2
    for each, note in ((run, ""), (other, "of the same name")):
        text = (moved / "boadella" / f"{each.run_id}.json").read_text()
        assert str(tmp_path) not in text
        href = next(link["href"] for link in json.loads(text)["links"] if link.get("title") == "model denoiser-x4")
        model = json.loads((moved / "boadella" / href).read_text())
        assert (model["id"], model["properties"]["note"], model["assets"]) == ("s2x4", note, {})
        validate(model)


def test_a_catalogue_of_the_user_keeps_its_own(tmp_path: Path) -> None:
    mine = pystac.Catalog("mine", "my things")
    mine.add_link(pystac.Link("child", "./other/catalog.json"))
    document = {**mine.to_dict(include_self_link=False, transform_hrefs=False), "note": "keep me"}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    after = json.loads((tmp_path / "catalog.json").read_text())
    assert (after["id"], after["note"]) == ("mine", "keep me")
    assert {"./other/catalog.json", "./boadella/collection.json"} <= {link["href"] for link in after["links"]}


def test_items_of_others_in_the_folder_count_where_they_can_be_read(tmp_path: Path) -> None:
    bad = (
        {"bbox": ["a"] * 4},
        {"bbox": [1, 2, 3]},
        {"properties": None},
        {"properties": {}},
        {"stac_version": "1", "bbox": None},
    )
    told = {"type": "Feature", "stac_version": "1.0.0", "properties": {"datetime": "2000-01-01T00:00:00Z"}}
    (tmp_path / "boadella" / "folder.json").mkdir(parents=True)
    (tmp_path / "boadella" / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    for number, fields in enumerate(({"bbox": [1, 2, 0, 3, 4, 9]}, *({"bbox": [0, 0, 1, 1], **each} for each in bad))):
        (tmp_path / "boadella" / f"other{number}.json").write_text(json.dumps({**told, **fields}))
    publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    collection = json.loads((tmp_path / "boadella" / "collection.json").read_text())
    linked = [link["href"] for link in collection["links"] if link["rel"] == "item"]
    assert linked == ["./other0.json", f"./{RUN.run_id}.json"]
    (extent,) = collection["extent"]["spatial"]["bbox"]
    assert extent[:2] == [1, 2]
    assert collection["extent"]["temporal"]["interval"] == [["2000-01-01T00:00:00Z", "2021-06-01T00:00:00Z"]]


STRANGE = [
    "not json",
    "[]",
    '{"type": "Feature"}',
    *(f'{{"type": "Catalog", "links": {links}}}' for links in ("7", "[5]", '[{"a": NaN}]')),
]


@pytest.mark.parametrize("content", [*STRANGE, "[" * 100_000 + "]" * 100_000], ids=range(len(STRANGE) + 1))
def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "catalog.json").write_text(content)
    with pytest.raises(GeodiffError, match="not a STAC catalog"):
        publish_item(tmp_path, item_in(tmp_path), collection="boadella")
    assert (tmp_path / "catalog.json").read_text() == content
    assert not (tmp_path / "boadella" / f"{RUN.run_id}.json").exists()


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GeodiffError, match="file name"):
        build_item(replace(RUN, run_id=name), zarr=tmp_path)
    with pytest.raises(GeodiffError, match="file name"):
        publish_item(tmp_path, item_in(tmp_path), collection=name)


_PUBLISHER = """
import sys
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from pathlib import Path
import test_stac_items as t
for number in range(6):
    run = replace(t.RUN, run_id=f"{sys.argv[3]}-{number}")
    t.publish_item(Path(sys.argv[1]), t.item_in(Path(sys.argv[1]), run), collection="boadella")
"""


def test_two_processes_publish_into_one_catalogue_and_lose_nothing(tmp_path: Path) -> None:
    folder = str(Path(__file__).parent)
    names = ("first", "second")
    commands = [[sys.executable, "-c", _PUBLISHER, str(tmp_path), folder, name] for name in names]
    for process in [subprocess.Popen(command) for command in commands]:
        assert process.wait() == 0
    expected = {f"{name}-{number}" for name in names for number in range(6)}
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    assert {item.id for item in catalog.get_items(recursive=True)} == expected
