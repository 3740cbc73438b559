"""Evaluation of bands of 10 m and of 20 m side by side: each against what the sensor saw of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geodiff.imagery.lattice import grid_of
from geodiff.metrics.fidelity import cpsnr
from geodiff.model.back_projection import BackProjectionResolver
from geodiff.model.baselines import BicubicResolver
from geodiff.outputs.report import write_html
from geodiff.schema import BAND, BANDS_10M, GeodiffError
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.evaluate import EvaluateSettings, Limits, evaluate, request_for, scene_cases
from geodiff.tasks.evaluate_bands import band_names, over_samplings, samplings
from geodiff.tasks.evaluate_cases import EvaluationCase, Scenario, Scene
from geodiff.tasks.evaluate_models import Contender, load_contenders, needed_bands, scored_bands
from geodiff.tasks.evaluate_pictures import draw_cases, views
from geodiff.tasks.evaluate_report import summarise
from geodiff.tasks.evaluate_restore import restore_case
from geodiff.tasks.evaluate_sources import Site, find_sites
from geodiff.testing.series_cubes import OracleResolver, series_cube, small_series, write_cube

MIXED = ("B02", "B03", "B04", "B08", "B8A", "B12")
SIZE = 152
SETTINGS = EvaluateSettings(ensemble=0, scenarios=(Scenario.OBSERVED, Scenario.HIDDEN))
LIMITS = Limits(dates=2)


def quiet(stage: str, done: int, total: int) -> None:
    """Show no progress."""


def ten_metre_cube(grain: float = 0.0) -> xr.DataArray:
    cube = series_cube(small_series(SIZE, seed=1), origin=(501_770.0, 4_602_870.0))
    noise = np.random.default_rng(0).uniform(0, grain, cube.shape).astype(np.float32)
    return cube.copy(data=cube.values + noise)


def mixed_cube(grain: float = 0.0) -> xr.DataArray:
    """Four bands of 10 m as they are, two of 20 m in blocks of the absolute lattice, which the cube's corner cuts."""
    cube = ten_metre_cube(grain)
    row, col = grid_of(cube).lattice_origin
    assert row % 2 == 1
    assert col % 2 == 1
    rows, cols = (np.arange(first, first + SIZE) // 2 - first // 2 for first in (row, col))
    blocks = cube.isel({BAND: [3, 0]}).copy().assign_coords({BAND: ["B8A", "B12"]})
    blocks.values[:] = blocks.values[:, :, rows][..., cols]
    return xr.concat([cube, blocks], BAND)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cube(mixed_cube(), tmp_path_factory.mktemp("mixed") / "place.nc")


def bicubic() -> Contender:
    return Contender("bicubic", BicubicResolver(MIXED), "0" * 64)


def site_of(data: Path, contenders: list[Contender]) -> Site:
    ((site,), _) = find_sites([data], request_for(contenders, LIMITS))
    return site


@pytest.fixture(scope="module")
def scene(data: Path) -> Scene:
    return site_of(data, [bicubic()]).open(request_for([bicubic()], LIMITS)).scene()


@pytest.fixture(scope="module")
def oracle(scene: Scene) -> Contender:
    truths = {int(truth.target.day): truth.image()[0] for truth in scene.truths}
    knows = OracleResolver(truths, grid_of(scene.low).lattice_origin, bands=MIXED)
    return Contender("oracle", knows, "2" * 64, {"parameters": 1})


def first_case(scene: Scene) -> EvaluationCase:
    return next(scene_cases(scene, EvaluateSettings(ensemble=0, scenarios=(Scenario.OBSERVED,))))


def test_each_sampling_is_seen_on_its_own_pixels(scene: Scene) -> None:
    case = first_case(scene)
    fine, coarse = samplings(case, MIXED, 4)
    assert (fine.bands, fine.scale) == (BANDS_10M, 4)
    assert (coarse.bands, coarse.scale) == (("B8A", "B12"), 8)
    np.testing.assert_array_equal(fine.low, case.observed[:4])
    np.testing.assert_array_equal(coarse.low.repeat(2, 1).repeat(2, 2), case.observed[4:])
    for part in (fine, coarse):
        back = degrade(part.of(case.truth), part.scale, band_mtf(part.bands))
        np.testing.assert_allclose(back[:, 2:-2, 2:-2], part.low[:, 2:-2, 2:-2], atol=1e-6)


def test_a_low_resolution_that_begins_within_a_block_is_cut_to_whole_ones(scene: Scene) -> None:
    case = first_case(scene)
    low = case.low.isel(y=slice(1, None), x=slice(3, None))
    moved = replace(case, low=low, observed=case.observed[:, 1:, 3:], truth=case.truth[:, 4:, 12:])
    _, coarse = samplings(moved, MIXED, 4)
    np.testing.assert_array_equal(coarse.low.repeat(2, 1).repeat(2, 2), case.observed[4:, 2:, 4:])
    np.testing.assert_array_equal(coarse.of(moved.truth), case.truth[4:, 8:, 16:])


def test_samplings_weigh_as_many_as_their_bands(scene: Scene) -> None:
    parts = list(samplings(first_case(scene), MIXED, 4))
    assert over_samplings(parts, lambda part: {"scale": part.scale}) == {"scale": pytest.approx((4 * 4 + 2 * 8) / 6)}
    assert over_samplings(parts, lambda part: {"x": None if part.scale == 8 else 1.0}) == {}
    assert over_samplings(parts[:1], lambda part: {"x": None}) == {"x": None}


def test_who_knows_the_truth_of_every_band_wins(data: Path, scene: Scene, oracle: Contender, tmp_path: Path) -> None:
    contenders = [bicubic(), oracle]
    sites = [site_of(data, contenders)]
    found = evaluate(contenders, sites, tmp_path, SETTINGS, limits=LIMITS, progress=quiet)
    report = summarise(found, contenders, [], SETTINGS, command="")
    assert report["scored_bands"] == list(MIXED)
    assert report["scored_by"] == ["10m", "20m", *MIXED]
    assert report["original_m"] == 20
    knows, smooth = report["models"]["oracle"], report["models"]["bicubic"]
    for name in report["scored_by"]:
        assert knows[f"cpsnr_db_{name}"]["mean"] > 100
        assert 15 < smooth[f"cpsnr_db_{name}"]["mean"] < 60
    # Degraded back by the factor and the optics of each band it is what was observed; bicubic is not.
    assert knows["reflectance_mae"]["mean"] < 1e-6
    assert knows["reflectance_max"]["mean"] < 1e-5
    assert smooth["reflectance_mae"]["mean"] > 1e-4
    assert knows["improvement"]["mean"] > 0.9
    case, truth = first_case(scene), first_case(scene).truth
    image = restore_case(case, bicubic().resolver, seed=0).mean
    (record,) = [
        r
        for r in found.records
        if (r["model"], r["date"], r["scenario"], r["region"]) == ("bicubic", case.date, "observed", "all")
    ]
    assert record["values"]["cpsnr_db_B12"] == pytest.approx(cpsnr(image[5:], truth[5:], case.clear))
    assert record["values"]["cpsnr_db_20m"] == pytest.approx(cpsnr(image[4:], truth[4:], case.clear))
    gains = [row for row in report["differences"] if row["metric"] == "cpsnr_db_20m"]
    assert {row["scenario"] for row in gains} == {"observed", "hidden"}
    pictures = draw_cases(found, contenders, sites, tmp_path, SETTINGS, limits=LIMITS, progress=quiet)
    assert [picture.caption.endswith("(as colours: B12, B8A, B04)") for picture in pictures[:2]] == [False, True]
    page = write_html(report, pictures, tmp_path).read_text()
    for words in ("By band", "20 m bands (dB)", "B8A (dB)", "pixels of 160 m"):
        assert words in page


def test_back_projection_beats_bicubic_on_every_band(scene: Scene) -> None:
    case = first_case(scene)
    smooth, sharp = (restore_case(case, kind(MIXED), seed=0).mean for kind in (BicubicResolver, BackProjectionResolver))
    for band in range(len(MIXED)):
        before, after = (cpsnr(image[[band]], case.truth[[band]], case.clear) for image in (smooth, sharp))
        assert after > before + 0.2


def test_the_ground_of_a_place_has_its_names_whatever_its_bands(tmp_path: Path) -> None:
    """Smooth ground has no patterns to name it by: here it is grainy.

    With bands of 20 m it has more names: those of its look at 20 m, which models of these bands were trained on.
    """
    four = Contender("bicubic", BicubicResolver(BANDS_10M), "0" * 64)
    alone = write_cube(ten_metre_cube(0.2), tmp_path / "four.nc")
    mixed = write_cube(mixed_cube(0.2), tmp_path / "six.nc")
    one, other = (
        site_of(path, [contender]).open(request_for([contender], LIMITS)).evidence()
        for path, contender in ((alone, four), (mixed, bicubic()))
    )
    assert one.digests
    assert one.digests < other.digests
    assert one.bbox == other.bbox


def test_baselines_restore_what_models_and_networks_take(tmp_path: Path) -> None:
    plain = load_contenders(["median"], passes=2)
    assert {contender.resolver.bands for contender in plain} == {BANDS_10M}
    assert band_names(scored_bands(plain)) == ()
    asked = load_contenders(["injection"], passes=2, bands=MIXED)
    assert [contender.name for contender in asked] == ["bicubic", "injection"]
    assert scored_bands(asked) == MIXED
    plugin = tmp_path / "swir.yaml"
    made = "{in_channels: 2, out_channels: 2, kernel_size: 4, stride: 4}"
    plugin.write_text(f"factory: torch.nn:ConvTranspose2d\nkwargs: {made}\nbands: [B04, B11]\nscale: 4\n")
    found = load_contenders(["shift-and-add", str(plugin)], passes=2)
    assert needed_bands(found) == scored_bands(found) == (*BANDS_10M, "B11")
    assert band_names(scored_bands(found)) == ("10m", "20m", *BANDS_10M, "B11")


def test_worldstrat_knows_the_truth_of_the_10_m_bands_alone(tmp_path: Path) -> None:
    from geodiff.testing.worldstrat import AOIS, WorldStratSpec, make_worldstrat

    make_worldstrat(tmp_path, WorldStratSpec(aois=AOIS[4:5], parts={AOIS[4]: "test"}, levels=("L2A",), angles=False))
    mixed = ("B11", "B04", "B02")
    contenders = [Contender("bicubic", BicubicResolver(mixed), "0" * 64)]
    opened = site_of(tmp_path, contenders).open(request_for(contenders, LIMITS))
    found = opened.scene()
    assert found.bands == ("B04", "B02")
    assert set(found.low[BAND].values) == set(mixed)
    red = Contender("bicubic", BicubicResolver(("B04",)), "0" * 64)
    alone = site_of(tmp_path, [red]).open(request_for([red], LIMITS))
    assert opened.evidence().digests == alone.evidence().digests
    np.testing.assert_array_equal(found.truths[0].image()[0][0], alone.scene().truths[0].image()[0][0])
    swir = Contender("bicubic", BicubicResolver(("B11", "B04")), "0" * 64)
    only = Contender("swir", BicubicResolver(("B11",)), "1" * 64)
    with pytest.raises(GeodiffError, match="has no truth of B11"):
        site_of(tmp_path, [swir, only]).open(request_for([swir, only], LIMITS)).scene()


def test_composites_show_what_is_there() -> None:
    assert views(BANDS_10M) == {"": (2, 1, 0)}
    assert views(MIXED) == {"": (2, 1, 0), "B12-B8A-B04": (5, 4, 2)}
    assert views(("B02", "B11")) == {"": (0, 0, 0), "B11-B11-B11": (1, 1, 1)}
