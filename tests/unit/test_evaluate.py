"""``geodiff evaluate superres``: what is shown to models, the figures, the report, resuming, refusing."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file
from typer.testing import CliRunner

from geodiff.cli import app
from geodiff.grid import TilePlan, Window
from geodiff.imagery.lattice import grid_of
from geodiff.metrics.fidelity import cpsnr
from geodiff.model.baselines import BicubicResolver
from geodiff.model.srdiff import SRDiff, SRDiffResolver
from geodiff.outputs.report import write_html
from geodiff.schema import BANDS_10M, VALID, GeodiffError, UsageError
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.evaluate import (
    EvaluateSettings,
    Evaluation,
    Limits,
    case_key,
    evaluate,
    request_for,
    scene_cases,
)
from geodiff.tasks.evaluate_cases import COVER, EvaluationCase, Scenario, Scene, cloud_mask
from geodiff.tasks.evaluate_cubes import read_cube
from geodiff.tasks.evaluate_ledger import LEDGER, Ledger
from geodiff.tasks.evaluate_models import Contender, _card, check_contenders, load_contenders
from geodiff.tasks.evaluate_report import summarise, write_report
from geodiff.tasks.evaluate_restore import restore_case
from geodiff.tasks.evaluate_sources import Site, find_sites
from geodiff.tasks.evaluate_summary import Bootstrap, paired
from geodiff.tasks.windows import Recipe, restore_window
from geodiff.testing.series_cubes import OracleResolver, series_cube, small_series, write_cube
from geodiff.testing.tiny_models import tiny_denoiser, tiny_weights
from geodiff.testing.tiny_networks import tiny_network

FEW = (Scenario.OBSERVED, Scenario.HIDDEN, Scenario.CLOUDED, Scenario.SINGLE_CLOUDED, Scenario.DATES_1)


TWO_DATES = Limits(dates=2)


def quiet(stage: str, done: int, total: int) -> None:
    """Show no progress."""


def bicubic() -> Contender:
    return Contender("bicubic", BicubicResolver(BANDS_10M), "0" * 64)


def tiny(name: str = "tiny", card: dict[str, Any] | None = None) -> Contender:
    from geodiff.model.resolver import DiffusionResolver

    return Contender(name, DiffusionResolver(name, tiny_denoiser()), "1" * 64, card or {"parameters": 40_000})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cubes")
    write_cube(series_cube(small_series(seed=1)), folder / "north.nc")
    write_cube(series_cube(small_series(seed=2), origin=(601_760.0, 4_602_880.0)), folder / "more" / "south.zarr")
    return folder


def sites_of(folder: Path, contenders: Sequence[Contender], limits: Limits) -> list[Site]:
    return find_sites([folder], request_for(contenders, limits))[0]


def run(
    folder: Path,
    contenders: Sequence[Contender],
    out: Path,
    settings: EvaluateSettings,
    limits: Limits = TWO_DATES,
) -> Evaluation:
    sites = sites_of(folder, contenders, limits)
    return evaluate(contenders, sites, out, settings, limits=limits, progress=quiet)


@pytest.fixture(scope="module")
def scene(data: Path) -> Scene:
    contenders = [bicubic(), tiny()]
    limits = Limits()
    site = next(site for site in sites_of(data, contenders, limits) if site.name == "north")
    return site.open(request_for(contenders, limits)).scene()


def cases(scene: Scene, scenario: Scenario, members: int = 2) -> list[EvaluationCase]:
    return list(scene_cases(scene, EvaluateSettings(ensemble=members, scenarios=(scenario,))))


def test_a_folder_of_cubes_is_a_list_of_places(data: Path) -> None:
    sites, told = find_sites([data], request_for([bicubic()], Limits()))
    assert sorted(site.name for site in sites) == ["more/south", "north"]
    assert told[0].kind == "cubes, Wald protocol"
    assert told[0].sites == 2


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        find_sites([tmp_path / "nothing"], request_for([bicubic()], Limits()))
    with pytest.raises(UsageError, match="holds no series"):
        find_sites([tmp_path], request_for([bicubic()], Limits()))


def test_clouds_hide_what_they_should() -> None:
    for seed in range(20):
        mask = cloud_mask((40, 50), np.random.default_rng(seed))
        assert COVER[0] - 0.01 <= mask.mean() <= COVER[1] + 0.01
        # Blobs, not salt: most neighbours agree.
        assert (mask[:, 1:] == mask[:, :-1]).mean() > 0.8


def test_a_hidden_date_is_not_shown(scene: Scene) -> None:
    for case in cases(scene, Scenario.HIDDEN):
        assert case.target.index is None
        assert case.cloud == 1.0
        shown = [str(scene.low.time.values[i])[:10] for i in case.target.dates]
        assert case.date not in shown
        assert len(shown) >= 2


def test_a_clouded_date_is_shown_in_part(scene: Scene) -> None:
    seen = cases(scene, Scenario.OBSERVED)
    for case, whole in zip(cases(scene, Scenario.CLOUDED), seen, strict=True):
        assert case.masked is not None
        assert case.target.index is not None
        source = CubeSource(case.low, BANDS_10M)
        read, valid = source.read([case.target.index], Window(0, 0, *source.grid.shape))
        assert not valid[0][case.masked].any()
        assert (read[0][:, case.masked] == 0).all()
        assert COVER[0] - 0.01 <= case.cloud <= COVER[1] + 0.01
        # The other dates, and the scene that other cases share, are as they were.
        assert np.array_equal(whole.low[VALID].values, scene.low[VALID].values)
        others = [i for i in range(case.low.sizes["time"]) if i != case.target.index]
        assert np.array_equal(case.low.values[others], scene.low.values[others], equal_nan=True)
        assert set(case.regions(4)) == {"all", "masked"}
        assert case.regions(4)["masked"].sum() <= 16 * case.masked.sum()


def test_one_cloud_for_all_models_and_runs(scene: Scene) -> None:
    one, other = cases(scene, Scenario.CLOUDED), cases(scene, Scenario.SINGLE_CLOUDED)
    for first, second in zip(one, other, strict=True):
        assert first.masked is not None
        assert np.array_equal(first.masked, second.masked)
        assert second.low.sizes["time"] == 1
        assert second.low[VALID].values.all()


@pytest.mark.parametrize("pair", [("hidden", "single-hidden"), ("clouded", "single-clouded"), ("observed", "dates-1")])
def test_a_series_and_a_single_date_are_scored_on_the_same_pixels(scene: Scene, pair: tuple[str, str]) -> None:
    low = scene.low.copy()
    valid = low[VALID].values.copy()
    truth = scene.truths[0]
    others = [i for i in truth.target.dates if i != truth.target.index]
    valid[others, :5] = False  # ground that the target alone shows
    shown = replace(scene, low=low.assign_coords({VALID: (low[VALID].dims, valid)}), truths=(truth,))
    many, single = (cases(shown, Scenario(name))[0] for name in pair)
    np.testing.assert_array_equal(many.clear, single.clear)
    assert many.clear[20:].any()
    if many.target.index is None:
        assert not many.clear[:20].any()
    elif many.masked is not None:
        assert not many.clear[:20][many.masked.repeat(4, 0).repeat(4, 1)[:20]].any()
    else:
        assert many.clear[:20].any()


def test_numbers_of_dates_are_nested_and_nearest(scene: Scene) -> None:
    found = [cases(scene, s) for s in (Scenario.DATES_1, Scenario.DATES_2, Scenario.DATES_4)]
    for one, two, four in zip(*found, strict=True):
        assert set(one.target.dates) < set(two.target.dates) < set(four.target.dates)
        assert one.target.dates == (one.target.index,)
        days = np.abs(scene.low.time.values - scene.low.time.values[one.target.index])
        (added,) = set(two.target.dates) - set(one.target.dates)
        assert days[added] == np.sort(days)[1]
    assert not cases(scene, Scenario.DATES_8)  # the series has four dates


def test_a_case_is_restored_as_the_main_job_restores_it(scene: Scene) -> None:
    case, resolver = cases(scene, Scenario.CLOUDED)[0], tiny().resolver
    found = restore_case(case, resolver, seed=3)
    source = CubeSource(case.low, BANDS_10M)
    recipe = Recipe(resolver, TilePlan(source.grid), members=2, seed=3, keep_member=True)
    rows, cols = source.grid.shape
    target = source.lit((case.target,))[0]
    assert target.light is not None
    users = restore_window(source, target, Window(0, 0, 4 * rows, 4 * cols), recipe)
    np.testing.assert_array_equal(found.mean, users.mean)
    np.testing.assert_array_equal(found.members[0], users.member)
    assert found.members.shape == (2, *found.mean.shape)


def test_one_date_and_many_are_compared_on_the_same_pixels(data: Path, tmp_path: Path) -> None:
    cube = series_cube(small_series(seed=1))
    # A small cloud: its rim is clear in the truth, hidden in the low resolution.
    cube[VALID][2, 21:25, 30:35] = False
    write_cube(cube.where(cube[VALID]), tmp_path / "rim.nc")
    settings = EvaluateSettings(ensemble=0, scenarios=(Scenario.OBSERVED, Scenario.DATES_1, Scenario.DATES_4))
    found = run(tmp_path / "rim.nc", [bicubic(), tiny()], tmp_path / "out", settings, Limits())
    date = str(cube.time.values[2])[:10]
    pixels = {
        (r["scenario"], r["region"]): r["pixels"] for r in found.records if r["model"] == "tiny" and r["date"] == date
    }
    assert pixels["observed", "all"] > pixels["dates-1", "all"]
    assert pixels["observed", "seen"] == pixels["dates-1", "seen"] == pixels["dates-4", "seen"]
    report = summarise(found, [bicubic(), tiny()], [], settings, command="")
    assert {
        row["region"] for row in report["differences"] if row["kind"] in ("series against single date", "more dates")
    } == {"seen"}


def test_figures_are_those_computed_by_hand(data: Path, scene: Scene, tmp_path: Path) -> None:
    contenders = [bicubic(), tiny()]
    settings = EvaluateSettings(ensemble=4, scenarios=(Scenario.OBSERVED,))
    found = run(data, contenders, tmp_path, settings)
    case = cases(scene, Scenario.OBSERVED, members=4)[0]
    wanted = ("tiny", "north", case.date, "all")
    (record,) = [r for r in found.records if (r["model"], r["site"], r["date"], r["region"]) == wanted]
    image = restore_case(case, contenders[1].resolver, seed=0)
    truth, inner = case.truth.astype(np.float64), image.members.astype(np.float64)
    values = record["values"]
    assert values["cpsnr_db"] == pytest.approx(cpsnr(image.mean, case.truth, case.clear))
    # The fair score of two members: mean distance to the truth, less half the distance between them; the members of
    # the denoiser come in pairs, of which the first are independent of each other, and so are the second.
    crps = np.abs(inner - truth).mean(0) - (np.abs(inner[0] - inner[2]) + np.abs(inner[1] - inner[3])) / 4
    assert values["crps"] == pytest.approx(crps[:, case.clear].mean(), rel=1e-5)
    deviation = np.sqrt(((inner - image.mean) ** 2).mean(0))
    inside = np.abs(truth - image.mean) <= 1.6448536 * deviation
    assert values["coverage_90"] == pytest.approx(inside[:, case.clear].mean(), abs=1e-4)
    error = np.abs(degrade(image.mean, 4, band_mtf(BANDS_10M)) - case.observed)
    assert values["reflectance_mae"] == pytest.approx(error[:, 2:-2, 2:-2].mean(), abs=1e-7)
    assert sum(record["rank_histogram"]) == 2 * 4 * case.clear.sum()
    assert len(record["rank_histogram"]) == 3
    report = summarise(found, contenders, [], settings, command="")
    mine = [r["values"]["cpsnr_db"] for r in found.records if r["model"] == "tiny" and r["region"] == "all"]
    assert report["models"]["tiny"]["cpsnr_db"]["mean"] == pytest.approx(np.mean(mine), rel=1e-6)
    pairs = [r["values"]["cpsnr_db"] for r in found.records if r["model"] == "bicubic" and r["region"] == "all"]
    (row,) = [d for d in report["differences"] if d["metric"] == "cpsnr_db" and d["scenario"] == "observed"]
    assert row["mean"] == pytest.approx(np.mean(mine) - np.mean(pairs), rel=1e-6)


def oracle_for(folder: Path, members: int) -> Contender:
    """Knows the originals of one place by their days."""
    limits = Limits()
    site = next(site for site in sites_of(folder, [bicubic()], limits) if site.name == "north")
    scene = site.open(request_for([bicubic()], limits)).scene()
    truths = {int(truth.target.day): np.nan_to_num(truth.image()[0]) for truth in scene.truths}
    corner = grid_of(scene.low).lattice_origin
    return Contender("oracle", OracleResolver(truths, corner, members=members), "2" * 64)


def test_who_knows_the_truth_wins(data: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(data / "north.nc", tmp_path / "one" / "north.nc")
    contenders = [bicubic(), oracle_for(data, members=4)]
    settings = EvaluateSettings(ensemble=4, scenarios=(Scenario.OBSERVED, Scenario.HIDDEN))
    found = run(tmp_path / "one", contenders, tmp_path / "out", settings)
    report = summarise(found, contenders, [], settings, command="")
    oracle, smooth = report["models"]["oracle"], report["models"]["bicubic"]
    assert oracle["cpsnr_db"]["mean"] > 100
    assert oracle["cssim"]["mean"] == pytest.approx(1)
    assert oracle["sam_deg"]["mean"] == pytest.approx(0, abs=0.05)
    assert oracle["reflectance_mae"]["mean"] < 1e-6
    assert oracle["edge_fidelity"]["mean"] == pytest.approx(1)
    assert oracle["spectrum_gap_db"]["mean"] == pytest.approx(0, abs=1e-3)
    assert oracle["improvement"]["mean"] > 0.9
    assert oracle["coverage_90"]["mean"] == 1.0
    # Two members above the truth and two below.
    ranks = oracle["rank_histogram"]
    assert ranks[2] == sum(ranks)
    assert smooth["cpsnr_db"]["mean"] < 60
    assert smooth["crps"] is None
    assert smooth["rank_histogram"] is None
    gains = [d for d in report["differences"] if d["metric"] == "cpsnr_db"]
    assert {d["scenario"] for d in gains} == {"observed", "hidden"}
    assert all(d["low"] > 0 for d in gains)
    assert report["bootstrap"]["unit"] == "date"  # one place


def test_a_place_of_the_training_is_refused(data: Path, tmp_path: Path) -> None:
    seen = tiny("seen", {"training_places": ["farm/south"]})
    with pytest.raises(UsageError, match=r"place more/south was seen in the training of model seen") as caught:
        run(data, [bicubic(), seen], tmp_path, EvaluateSettings(ensemble=0))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_place_of_the_training_is_refused_by_its_ground(data: Path, tmp_path: Path) -> None:
    contenders = [bicubic()]
    site = next(s for s in sites_of(data, contenders, Limits()) if s.name == "north")
    box = site.open(request_for(contenders, Limits())).evidence().bbox
    assert box is not None
    seen = tiny("seen", {"training_footprints": {"elsewhere": [box[2] - 1e-3, box[1], box[2] + 1, box[3]]}})
    with pytest.raises(UsageError, match="overlaps the footprint of its training place elsewhere"):
        run(data, [bicubic(), seen], tmp_path, EvaluateSettings(ensemble=0))


def test_a_rerun_computes_nothing_and_says_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EvaluateSettings(ensemble=2, scenarios=(Scenario.OBSERVED,))
    limits = Limits(dates=1)
    first = run(data, [bicubic(), tiny()], tmp_path, settings, limits)
    # As if killed while a line was written.
    ledger = tmp_path / "results.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    ledger.write_text("".join(lines[:-1]) + lines[-1][:40])
    calls: list[str] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append("restored")
        return restore_case(*arguments, **named)

    monkeypatch.setattr("geodiff.tasks.evaluate.restore_case", counted)
    second = run(data, [bicubic(), tiny()], tmp_path, settings, limits)
    assert len(calls) == 1

    def timeless(found: Evaluation) -> list[dict[str, Any]]:
        return [{key: value for key, value in r.items() if key != "seconds"} for r in found.records]

    assert timeless(second) == timeless(first)
    third = run(data, [bicubic(), tiny()], tmp_path, settings, limits)
    assert len(calls) == 1
    assert third.records == second.records
    # Other weights and another seed are other results.
    other = Contender("tiny", tiny().resolver, "3" * 64, {"parameters": 1})
    run(data, [bicubic(), other], tmp_path, settings, limits)
    assert len(calls) == 3
    run(data, [bicubic()], tmp_path, settings.model_copy(update={"seed": 1}), limits)
    assert len(calls) == 5


def test_a_mean_of_members_is_that_of_as_many_everywhere(data: Path, tmp_path: Path) -> None:
    sampled = Contender("srdiff", SRDiffResolver("srdiff", cast(SRDiff, tiny_network("srdiff")), 1), "4" * 64, {"x": 1})
    settings = EvaluateSettings(ensemble=3, scenarios=(Scenario.OBSERVED, Scenario.DATES_1))
    found = run(data, [bicubic(), tiny(), sampled], tmp_path, settings, Limits(dates=1, sites=1))
    drawn = {(r["model"], r["scenario"]): r["members"] for r in found.records}
    assert drawn["srdiff", "observed"] == drawn["srdiff", "dates-1"] == 3
    assert drawn["tiny", "observed"] == 3
    assert drawn["tiny", "dates-1"] == 0  # its mean knows nothing of members


def test_another_calibration_of_the_same_weights_is_another_result(scene: Scene) -> None:
    settings = EvaluateSettings(ensemble=0, scenarios=(Scenario.OBSERVED,))
    case = next(scene_cases(scene, settings))
    cards: list[dict[str, Any]] = [
        {"spread": {"2": 1.0}},
        {"spread": {"2": 1.5}},
        {"spread": {"2": 1.0}, "history": []},
    ]
    one, other, noted = (case_key(scene, case, tiny(card=card), settings) for card in cards)
    assert one != other
    assert one == noted


def test_what_decides_a_plugin_is_its_files(tmp_path: Path) -> None:
    plugin = tmp_path / "other.yaml"
    made = "{in_channels: 4, out_channels: 4, kernel_size: 4, stride: 4}"
    told = f"factory: torch.nn:ConvTranspose2d\nkwargs: {made}\nweights: net.safetensors\n"
    plugin.write_text(told + "bands: [B02, B03, B04, B08]\nscale: 4\n")
    seen = set()
    for _ in range(2):
        network = torch.nn.ConvTranspose2d(4, 4, 4, stride=4)
        save_file(network.state_dict(), tmp_path / "net.safetensors")
        seen.add(load_contenders([str(plugin)], passes=2)[1].digest)
    assert len(seen) == 2


def test_a_line_cut_inside_a_letter_and_lines_of_others_are_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    told = [{"site": "Åland\u2028north", "values": {}}]
    ledger.put("one", told)
    whole = (tmp_path / LEDGER).read_bytes()
    odd = b'[1]\n{"key": "two", "records": [3]}\n{"key": 4, "records": []}\n' + b"[" * 100_000 + b"\n"
    (tmp_path / LEDGER).write_bytes(whole + odd + whole.replace(b"one", b"two")[: whole.index("Å".encode()) + 1])
    again = Ledger(tmp_path)
    assert again.get("one") == told
    assert again.get("two") is None
    again.put("two", told)
    assert Ledger(tmp_path).get("two") == told


def test_workers_change_nothing(data: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(ensemble=2, scenarios=(Scenario.CLOUDED,))
    one = run(data, [bicubic(), tiny()], tmp_path / "1", settings, Limits(dates=1, workers=1))
    two = run(data, [bicubic(), tiny()], tmp_path / "2", settings, Limits(dates=1, workers=2))
    for a, b in zip(one.records, two.records, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_a_place_without_a_clear_date_is_told(data: Path, tmp_path: Path) -> None:
    cube = series_cube(small_series(seed=3))
    cube[VALID][:, :40] = False
    shutil.copytree(data, tmp_path / "data")
    write_cube(cube.where(cube[VALID]), tmp_path / "data" / "cloudy.nc")
    found = run(tmp_path / "data", [bicubic()], tmp_path / "out", EvaluateSettings(ensemble=0), Limits(dates=1))
    assert [name for name, _ in found.left_out] == ["cloudy"]
    assert "clear" in found.left_out[0][1]
    with pytest.raises(GeodiffError, match="nothing could be scored"):
        run(tmp_path / "data" / "cloudy.nc", [bicubic()], tmp_path / "none", EvaluateSettings(ensemble=0))


def test_worldstrat_is_scored_against_its_high_resolution(tmp_path: Path) -> None:
    from geodiff.testing.worldstrat import AOIS, WorldStratSpec, make_worldstrat

    parts = {AOIS[4]: "test"}
    make_worldstrat(tmp_path / "ws", WorldStratSpec(aois=AOIS[3:5], parts=parts, levels=("L2A",), angles=False))
    settings = EvaluateSettings(ensemble=0, scenarios=(Scenario.OBSERVED, Scenario.HIDDEN))
    contenders = [bicubic()]
    sites, told = find_sites([tmp_path / "ws"], request_for(contenders, Limits()))
    assert told[0].kind == "WorldStrat"
    assert [site.name for site in sites] == [AOIS[4]]
    found = evaluate(contenders, sites, tmp_path / "out", settings, limits=Limits(), progress=quiet)
    scores = {r["scenario"]: r["values"]["cpsnr_db"] for r in found.records}
    assert set(scores) == {"observed", "hidden"}
    assert 20 < scores["hidden"] < scores["observed"] + 1
    seen = tiny("seen", {"training_places": [AOIS[4]]})
    with pytest.raises(UsageError, match="was seen in the training of model seen"):
        evaluate([bicubic(), seen], sites, tmp_path / "no", settings, limits=Limits(), progress=quiet)


def test_cubes_come_in_many_forms(data: Path, tmp_path: Path) -> None:
    wanted = series_cube(small_series(seed=1))
    numbers = (wanted.where(wanted[VALID], 0) * 1e4).round().astype(np.int16)
    layers = {f"S2-L2A-{band}": numbers.sel(band=band).drop_vars(["band", "valid"]) for band in BANDS_10M}
    classes = np.full(wanted[VALID].shape, 4, np.uint8)
    classes[0, :20] = 9
    split = xr.Dataset(layers).rename(time="t")
    split["SCL"] = (("t", "y", "x"), classes)
    split.to_netcdf(tmp_path / "layers.nc")
    found = read_cube(tmp_path / "layers.nc", BANDS_10M)
    assert not found[VALID].values[0, :20].any()
    assert found[VALID].values[1:].all()
    seen = found[VALID].values[:, None].repeat(4, 1)
    np.testing.assert_allclose(found.values[seen], wanted.values[seen], atol=6e-5)
    assert np.isnan(found.values[~seen]).all()
    north = read_cube(data / "north.nc", BANDS_10M)
    np.testing.assert_array_equal(north.values, wanted.values)
    with pytest.raises(GeodiffError, match="no band B11"):
        read_cube(data / "north.nc", ("B11",))
    bare = wanted.drop_vars("spatial_ref").to_dataset().reset_coords(VALID)
    bare.to_netcdf(tmp_path / "bare.nc")
    with pytest.raises(GeodiffError, match="states no CRS"):
        read_cube(tmp_path / "bare.nc", BANDS_10M)
    (tmp_path / "broken.nc").write_bytes(b"CDF nothing")
    with pytest.raises(GeodiffError, match=r"broken.nc cannot be read"):
        read_cube(tmp_path / "broken.nc", BANDS_10M)


def test_a_day_that_was_seen_twice_is_hidden_whole(tmp_path: Path) -> None:
    cube = series_cube(small_series(seed=1))
    twin = cube.isel(time=[1]).assign_coords(time=cube.time[[1]] + np.timedelta64(40, "s")).copy()
    twin[VALID][:, :9] = False
    both = xr.concat([cube, twin], "time").sortby("time")
    write_cube(both.where(both[VALID]), tmp_path / "twins.nc")
    request = request_for([bicubic()], Limits())
    (site,) = find_sites([tmp_path], request)[0]
    scene = site.open(request).scene()
    assert np.array_equal(scene.low.time.values, cube.time.values)
    for case in cases(scene, Scenario.HIDDEN):
        assert case.date not in [str(scene.low.time.values[i])[:10] for i in case.target.dates]
    dates = [truth.target.label for truth in scene.truths]
    assert len(dates) == len(set(dates))


def test_models_that_cannot_stand_side_by_side(data: Path) -> None:
    twice = BicubicResolver(BANDS_10M, scale=2)
    with pytest.raises(UsageError, match="different scales"):
        check_contenders([bicubic(), Contender("other", twice, "")])
    with pytest.raises(UsageError, match="two models are named bicubic"):
        check_contenders([bicubic(), bicubic()])
    with pytest.raises(UsageError, match="no band in common"):
        check_contenders([bicubic(), Contender("swir", BicubicResolver(("B11",)), "")])


def test_a_card_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(GeodiffError, match="cannot be read"):
        _card(tmp_path / "weights.safetensors")


def test_differences_pair_dates_of_one_name_at_their_own_place() -> None:
    def record(site: str, db: float) -> dict[str, Any]:
        return {"site": site, "group": site, "date": "2021-06-01", "values": {"cpsnr_db": db}}

    ours, theirs = [record("a", 30.0), record("b", 40.0)], [record("b", 38.0), record("a", 29.0)]
    figure = paired(ours, theirs, "cpsnr_db", Bootstrap.of([*ours, *theirs]))
    assert figure is not None
    assert figure["mean"] == pytest.approx(1.5)
    assert (figure["low"], figure["high"]) == (1.0, 2.0)


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def commanded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    weights = tiny_weights(folder)
    arguments = ["evaluate", "superres", "--model", str(weights), "--data", str(data), "--out", str(folder / "out")]
    options = ["--dates-limit", "1", "--ensemble", "4", "--workers", "1"]
    done = CliRunner().invoke(app, [*arguments, *options])
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    return folder / "out"


def test_the_command_writes_valid_json(commanded: Path) -> None:
    report = strict((commanded / "report.json").read_text())
    assert set(report["models"]) == {"bicubic", "tiny"}
    for name in (
        "cpsnr_db",
        "cssim",
        "sam_deg",
        "reflectance_mae",
        "crps",
        "coverage_50",
        "coverage_80",
        "coverage_90",
    ):
        figure = report["models"]["tiny"][name]
        assert figure["low"] <= figure["mean"] + 1e-9
        assert figure["mean"] <= figure["high"] + 1e-9
    tiny_row = report["models"]["tiny"]
    assert tiny_row["km2_per_s"] > 0
    assert tiny_row["passes"] == 2
    assert tiny_row["parameters"] > 10_000
    assert report["models"]["bicubic"]["crps"] is None
    assert report["bootstrap"]["unit"] == "site"
    assert {row["kind"] for row in report["differences"]} == {
        "against reference",
        "series against single date",
        "more dates",
    }
    assert {"site", "dates", "cloud", "days"} <= set(report["by"])
    scenarios = {case["scenario"] for case in report["cases"]}
    assert scenarios == {str(s) for s in Scenario} - {"dates-8"}
    for line in (commanded / "results.jsonl").read_text().splitlines():
        strict(line)


def test_the_page_needs_nothing_else(commanded: Path) -> None:
    page = (commanded / "report.html").read_text()
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?!data:)', page)
    assert not re.findall(r"@import|url\(", page)
    assert page.count("data:image/png;base64,") >= 6
    assert len(list((commanded / "pictures").glob("*.png"))) >= 4
    for word in ("bicubic", "tiny", "Coverage", "By number of dates", "Wald protocol"):
        assert word in page


def test_names_are_escaped(commanded: Path, tmp_path: Path) -> None:
    report = strict((commanded / "report.json").read_text())
    report["models"] = {"<script>alert(1)</script>": report["models"]["tiny"]}
    page = write_html(report, [], tmp_path).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_number_that_is_none_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report({"x": math.nan}, tmp_path)


def test_the_command_refuses_unknown_scenarios(data: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "superres", "--model", "bicubic", "--data", str(data), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--scenario", "sunny"])
    assert done.exit_code == 2


@pytest.mark.slow
def test_bicubic_on_boadella(geodiff_data: Path, tmp_path: Path) -> None:
    from geodiff.imagery.build import build_catalog
    from geodiff.tasks.demo import BOADELLA_BANDS

    folder = geodiff_data / "sentinel2" / "boadella"
    catalog = build_catalog(folder, tmp_path / "boadella", bands=BOADELLA_BANDS, nodata=-32_768)
    arguments = ["evaluate", "superres", "--model", "bicubic", "--data", str(catalog), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--scenario", "observed,hidden", "--workers", "1"])
    assert done.exit_code == 0, done.output
    report = strict((tmp_path / "out" / "report.json").read_text())
    assert report["models"]["bicubic"]["cpsnr_db"]["mean"] == pytest.approx(36.05, abs=0.05)
    hidden = report["models"]["bicubic"]["scenarios"]["hidden"]["all"]["cpsnr_db"]["mean"]
    assert hidden == pytest.approx(31.06, abs=0.05)
