"""The same request is the same run however it is spelled; other numbers in the catalogue are another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.config import SuperresConfig
from geodiff.imagery.build import build_catalog
from geodiff.tasks.models import models_dir
from geodiff.tasks.plan import find_run, make_plan
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
