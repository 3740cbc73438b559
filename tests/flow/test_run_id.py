"""The same request is the same run however it is spelled; other numbers in the catalogue are another run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geodiff.config import SuperresConfig
from geodiff.grid import Grid
from geodiff.imagery.build import build_catalog
from geodiff.imagery.radiometry import band_rule
from geodiff.imagery.sources import load_sources
from geodiff.tasks.models import ModelRef, models_dir
from geodiff.tasks.plan import find_run, make_plan
from geodiff.tasks.run_id import run_id
from geodiff.testing.scenes_on_disk import write_scene
from geodiff.testing.tiny_models import tiny_weights

if TYPE_CHECKING:
    from conftest import TinyPlace


def quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _config(place: TinyPlace, **other: Any) -> SuperresConfig:
    asked = {"catalog": str(place.catalog), "bbox": place.bbox, "datetime": "2021-06", "coregister": False}
    return SuperresConfig.parse({**asked, **other})


def test_a_run_resumes_with_another_spelling_and_another_version(
    place: TinyPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    for version, catalog, model in (
        ("1.0", str(place.catalog), "s2x4"),
        ("2.0", str(place.catalog.parent), str(models_dir() / "s2x4.json")),
    ):
        monkeypatch.setattr("geodiff.tasks.plan.__version__", version)
        config = _config(place, catalog=catalog, model=model)
        plans.append(make_plan(config, tmp_path, name="here", workers=1, progress=quiet).job)
    assert plans[0].store == plans[1].store
    assert plans[0].spec.digest == plans[1].spec.digest
    assert [job.spec.attrs["geodiff:version"] for job in plans] == ["1.0", "2.0"]
    assert plans[0].spec.attrs["geodiff:configuration"] == plans[1].spec.attrs["geodiff:configuration"]


def test_another_setting_is_another_run(place: TinyPlace) -> None:
    changes: list[dict[str, Any]] = [{}, {"seed": 1}, {"max_dates": 2}, {"model": "median"}, {"target": "2021-06-13"}]
    ids = [find_run(_config(place, **({"model": "bicubic"} | change)), progress=quiet).run_id for change in changes]
    assert len(set(ids)) == len(changes)
    assert find_run(_config(place, model="bicubic", format="cog"), progress=quiet).run_id == ids[0], "made of any cube"


@pytest.mark.parametrize(
    "change",
    [
        {"raster:bands": [{"scale": 0.0002, "nodata": 0}]},
        {"raster:bands": [{"scale": 0.0001, "nodata": "nan"}]},
        {"bands": [{"name": "B03", "raster:offset": -0.05}]},
        {"href": "elsewhere.tif"},
    ],
)
def test_an_item_that_says_something_else_of_a_band_is_another_run(
    own_place: TinyPlace, change: dict[str, Any]
) -> None:
    config = _config(own_place, model="bicubic")
    before = find_run(config, progress=quiet).run_id
    path = next(own_place.catalog.parent.rglob("tiny_13.json"))
    item = json.loads(path.read_text())
    item["assets"]["thumbnail"] = {"href": "picture.png"}
    path.write_text(json.dumps(item))
    assert find_run(config, progress=quiet).run_id == before, "an asset that is not read"
    (band,) = [asset for key, asset in item["assets"].items() if Path(asset["href"]).stem == "B03"]
    band.update(change)
    path.write_text(json.dumps(item))
    assert find_run(config, progress=quiet).run_id != before


@pytest.mark.parametrize(
    ("classified", "screen", "other"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_a_band_that_only_the_search_for_clouds_reads_counts_where_it_is_read(
    own_place: TinyPlace, classified: bool, screen: bool, other: bool
) -> None:
    config = _config(own_place, model="bicubic", bands=["B03"], mask={"spectral_screen": screen})
    path, changed = (next(own_place.catalog.parent.rglob(f"tiny_{day}.json")) for day in ("03", "13"))
    if not classified:  # one scene is enough: the screen looks at the whole series
        item = json.loads(path.read_text())
        item["assets"] = {key: asset for key, asset in item["assets"].items() if Path(asset["href"]).stem != "SCL"}
        path.write_text(json.dumps(item))
    before = find_run(config, progress=quiet).run_id
    item = json.loads(changed.read_text())
    (band,) = [asset for asset in item["assets"].values() if Path(asset["href"]).stem == "B08"]
    band["href"] = "elsewhere.tif"
    changed.write_text(json.dumps(item))
    assert (find_run(config, progress=quiet).run_id != before) == other


def test_a_newer_processing_is_another_run(own_place: TinyPlace) -> None:
    config = _config(own_place, model="bicubic")
    before = find_run(config, progress=quiet).run_id
    path = next(own_place.catalog.parent.rglob("tiny_13.json"))
    item = json.loads(path.read_text())
    item["properties"]["updated"] = "2024-05-01T00:00:00Z"
    path.write_text(json.dumps(item))
    assert find_run(config, progress=quiet).run_id != before


def test_a_catalogue_that_is_built_anew_with_other_rules_is_another_run(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "2021-06-03"
    folder.mkdir(parents=True)
    for band in ("B02", "B03", "B04", "B08"):
        profile = {"width": 20, "height": 20, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
        with rasterio.open(
            folder / f"{band}.tif", "w", driver="GTiff", transform=Affine(10, 0, 483_840, 0, -10, 4_693_760), **profile
        ) as file:
            file.write(np.full((1, 20, 20), 900, np.uint16))
    ids = []
    for nodata, scale in ((0.0, None), (0.0, None), (900.0, None), (0.0, 0.001)):
        catalog = build_catalog(tmp_path / "mine", tmp_path / "catalog", nodata=nodata, scale=scale)
        config = SuperresConfig(catalog=str(catalog), bbox=(2.75, 42.3, 2.9, 42.5), datetime="2021", model="bicubic")
        ids.append(find_run(config, progress=quiet).run_id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_sources_of_a_user_reach_the_run(place: TinyPlace, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"sources:\n  mine:\n    like: static\n    url: {place.catalog}\n    nodata: 7\n")
    found = find_run(_config(place, catalog="mine", sources=str(mine), model="bicubic"), progress=quiet)
    assert found.source.nodata == 7
    assert found.run_id != find_run(_config(place, model="bicubic"), progress=quiet).run_id


def test_another_calibration_of_the_same_weights_is_another_run(place: TinyPlace, tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path)
    card_path = weights.with_suffix(".json")
    ids = []
    seen, hidden = ({"2": 1.5}, {"2": 1.6}), {"2": 1.6}
    rough = {"spread": {"2": {"taps": [[1.5]] * 4, "texture_power": 0.3, "mix": []}}}
    for told in ({}, {"spread": seen[0]}, {"spread": seen[0]}, {"spread": seen[1]}, {"spread_hidden": hidden}, rough):
        card_path.write_text(json.dumps({**json.loads(card_path.read_text()), **told}))
        ids.append(find_run(_config(place, model=str(weights)), progress=quiet).run_id)
    assert ids[1] == ids[2]
    assert len(set(ids)) == 5


SOURCES, BICUBIC = load_sources(), ModelRef("bicubic", None, None)


def _scene(folder: Path, name: str = "a", **told: Any) -> pystac.Item:
    arrays = {band: np.full((8, 8), 900, np.uint16) for band in ("B02", "SCL")}
    grid = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_700_000.0), (8, 8))
    return write_scene(folder, name, arrays, grid, "2021-06-01T10:50:00", properties=told)


def _id(*items: pystac.Item, source: str = "static", model: ModelRef = BICUBIC) -> str:
    config = SuperresConfig(catalog="here", bbox=(3.0, 42.4, 3.1, 42.5), datetime="2021", bands=("B02",))
    rules = SOURCES[source].model_copy(update={"url": "catalog.json"})
    return run_id(config, rules, items, model)


NAMED = "S2A_MSIL2A_20210601T105031_N0500_R051_T31TDG_20230601T000000"


@pytest.mark.parametrize(
    ("source", "before", "told"),
    [
        ("static", {"s2:processing_baseline": "05.09"}, {"earthsearch:boa_offset_applied": True}),
        ("static", {}, {"s2:processing_baseline": "05.09"}),
        ("static", {}, {"sentinel2:product_title": NAMED}),
        ("planetary-computer", {}, {"s2:processing_baseline": "05.09"}),
        ("planetary-computer", {}, {"processing:version": "05.09"}),
        ("planetary-computer", {}, {"s2:product_uri": f"{NAMED}.SAFE"}),
        ("planetary-computer", {}, {"sentinel:product_id": NAMED}),
    ],
)
def test_whatever_decides_the_offset_of_a_scene_makes_another_run(
    tmp_path: Path, source: str, before: dict[str, Any], told: dict[str, Any]
) -> None:
    plain = _scene(tmp_path, **before)
    other = plain.clone()
    other.properties.update(told)
    assert band_rule(plain, "B02", SOURCES[source]) != band_rule(other, "B02", SOURCES[source])
    assert _id(other, source=source) != _id(plain, source=source)


def test_the_moment_the_classes_and_the_place_of_a_scene_make_another_run(tmp_path: Path) -> None:
    plain = _scene(tmp_path)
    later, first, second, classes, place, cloudy = (plain.clone() for _ in range(6))
    cloudy.properties["eo:cloud_cover"] = 30.0  # which scene of a day comes first
    later.datetime = datetime(2021, 6, 2, 10, 50, tzinfo=UTC)
    for span, day in ((first, "03"), (second, "04")):  # in place of a moment: its start is the day of the scene
        span.datetime, span.properties["start_datetime"] = None, f"2021-06-{day}T10:50:00Z"
    classes.assets["SCL"].href = "other.tif"
    # A file without georeference lies where its item says.
    place.assets["B02"].extra_fields["proj:transform"] = [10, 0, 500_010, 0, -10, 4_700_000]
    again = [plain.clone() for _ in range(2)]  # processed anew by the same rules
    for item, made in zip(again, ("20230601", "20240601"), strict=True):
        item.properties["s2:product_uri"] = f"S2A_MSIL2A_20210601T105031_N0500_R051_T31TDG_{made}T000000.SAFE"
    assert len({_id(item) for item in (plain, later, first, second, classes, place, cloudy, *again)}) == 9


def test_neither_the_order_of_scenes_nor_their_signatures_make_another_run(tmp_path: Path) -> None:
    a, b = _scene(tmp_path), _scene(tmp_path, "b")
    assert _id(a, b) == _id(b, a)
    for source, same in (("planetary-computer", True), ("static", False)):
        ids = []
        for query in ("sig=1&se=2026-01-01", "sig=2&se=2026-01-02"):
            item = a.clone()
            for asset in item.assets.values():
                asset.href = f"https://example.com/{Path(asset.href).name}?{query}"
            ids.append(_id(item, source=source))
        assert (ids[0] == ids[1]) == same, "only a signature is known to say nothing of the file"


def test_all_that_a_card_says_of_members_intervals_and_steps_makes_another_run(tmp_path: Path) -> None:
    item, model = _scene(tmp_path), ModelRef("mine", tmp_path / "mine.safetensors", None)
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    deciding = ("spread", "spread_hidden", "brightness", "conformal", "own_share", "guided_by", "sampling_steps")
    ids = {}
    for key in ("figures", "history", *deciding):
        (tmp_path / "mine.json").write_text(json.dumps({"kind": "network", key: [1.5]}))
        ids[key] = _id(item, model=model)
    assert ids["figures"] == ids["history"], "what is told of a model decides nothing"
    assert len(set(ids.values())) == len(deciding) + 1
