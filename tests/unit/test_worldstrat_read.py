"""The reader of WorldStrat, on a small tree in exactly its layout whose truth is known."""

from __future__ import annotations

import json
import multiprocessing
import operator
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
import xarray as xr

from geodiff.imagery import worldstrat as reader
from geodiff.imagery import worldstrat_pair as pairing
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.worldstrat import Aoi, HrTransform, WorldStrat
from geodiff.imagery.worldstrat_dates import Revisit
from geodiff.imagery.worldstrat_files import ImageCache, read_image
from geodiff.imagery.worldstrat_layout import LR_BANDS, Layout, parent_of
from geodiff.schema import BANDS_10M, TIME, VALID, BoolArray, FloatArray, GeodiffError, UsageError
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.targets import days_of
from geodiff.tasks.worldstrat import worldstrat_sites
from geodiff.testing.series import Effects
from geodiff.testing.worldstrat import AoiTruth, WorldStratSpec, make_worldstrat
from geodiff.testing.worldstrat_files import corrupt, crop, truncate, write_raster

NAMES = ("ASMSpotter-17-2-2", "Landcover-769876", "UNHCR-GRCs035302")
Tree = tuple[WorldStrat, dict[str, AoiTruth]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("small") / "worldstrat"
    truth = make_worldstrat(root, WorldStratSpec(aois=NAMES, revisits=4))
    return WorldStrat(root), truth


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, AoiTruth]]:
    root = tmp_path_factory.mktemp("single") / "worldstrat"
    spec = WorldStratSpec(aois=NAMES[1:2], revisits=3, size_px=30, angles=False, levels=("L2A",))
    return root, make_worldstrat(root, spec)


@pytest.fixture
def fresh(single: tuple[Path, dict[str, AoiTruth]], tmp_path: Path) -> Tree:
    """One place that a test may break."""
    shutil.copytree(single[0], tmp_path / "copy")
    return WorldStrat(tmp_path / "copy"), single[1]


def dates_hold(aoi: Aoi, truth: AoiTruth) -> None:
    """Dates are those of the JSON, in order of time, each with its own image, and the nearest one has the truth."""
    pair = aoi.pair()
    days = days_of(pair.cube[TIME].values)
    assert np.allclose(days, truth.series.days, atol=1 / 86_400)
    assert tuple(pair.cube["rank"].values) == truth.ranks
    assert np.allclose(pair.cube.values, truth.series.reflectance, atol=1e-6, equal_nan=True)
    assert pair.target_index == truth.series.anchor


def truth_holds(aoi: Aoi, truth: AoiTruth) -> None:
    """The high resolution lies where the ground lies, in its reflectance."""
    pair = aoi.pair()
    ground = truth.ground(4)
    seen = np.isfinite(pair.truth.values).all(0)
    assert pair.truth.shape == ground.shape
    assert seen.mean() > 0.9
    difference = np.abs(pair.truth.values - ground)[:, seen].mean(axis=1)
    assert (difference < 0.1 * ground[:, seen].std(axis=1)).all(), difference


def test_the_series_is_that_of_the_files_in_order_of_time(small: Tree) -> None:
    tree, truths = small
    assert tree.names == tuple(sorted(NAMES))
    assert any(truth.ranks != tuple(sorted(truth.ranks)) for truth in truths.values())
    for aoi in tree:
        dates_hold(aoi, truths[aoi.name])


@pytest.mark.parametrize("mutant", ["order", "dates", "images"])
def test_a_rank_taken_for_a_date_is_noticed(small: Tree, mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, truths = small
    right = reader.revisits_of

    def wrong(layout: Layout, aoi: str, level: str) -> tuple[Revisit, ...]:
        found = right(layout, aoi, level)
        by_rank = sorted(found, key=lambda revisit: revisit.rank)
        if mutant == "order":
            return tuple(by_rank)
        if mutant == "dates":
            start = found[0].time
            return tuple(replace(r, time=start + np.timedelta64(5 * r.rank, "D")) for r in by_rank)
        return tuple(replace(r, rank=number) for number, r in enumerate(found, start=1))

    monkeypatch.setattr(reader, "revisits_of", wrong)
    for aoi in tree:
        with pytest.raises(AssertionError):
            dates_hold(aoi, truths[aoi.name])


def test_the_high_resolution_comes_home(small: Tree) -> None:
    tree, truths = small
    for aoi in tree:
        transform, truth = aoi.pair().transform, truths[aoi.name]
        assert transform.trusted
        assert np.allclose(transform.shift_px, truth.shift_px, atol=0.02)
        assert np.allclose(transform.gains, truth.gains, rtol=0.01)
        assert np.allclose(transform.offsets, truth.offsets, atol=0.003)
        assert max(transform.residual) < 0.003
        assert transform.residual_px < 0.02
        assert transform.changed < 0.01
        truth_holds(aoi, truth)


@pytest.mark.parametrize("whole", [6, 7])
def test_a_whole_number_for_the_scale_is_noticed(small: Tree, whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six or seven high-resolution pixels to a low-resolution one, where the sizes say 6.67."""
    tree, truths = small
    right = Aoi.high

    def wrong(aoi: Aoi, kind: str = "ps") -> FloatArray:
        """Cut or pad the image to a whole multiple, as one must who believes in whole numbers."""
        rows, cols = (whole * size for size in truths[aoi.name].series.reflectance.shape[-2:])
        image = right(aoi, kind)
        more = [(0, 0), (0, max(0, rows - image.shape[1])), (0, max(0, cols - image.shape[2]))]
        return np.pad(image, more, mode="edge")[:, :rows, :cols]

    aoi = tree[NAMES[2]]
    monkeypatch.setattr(pairing, "EXTENT_SLACK", 1.0)  # the guard against other boxes would see it first
    truth_holds(aoi, truths[aoi.name])
    monkeypatch.setattr(Aoi, "high", wrong)
    with pytest.raises(AssertionError):
        truth_holds(aoi, truths[aoi.name])


def test_sizes_vary_and_the_ratio_is_theirs(small: Tree) -> None:
    tree, truths = small
    shapes = set()
    for aoi in tree:
        pair = aoi.pair()
        low, high = pair.cube.shape[-2:], truths[aoi.name].hr_shape
        shapes.add(low)
        assert pair.transform.ratio == (high[0] / low[0], high[1] / low[1])
        assert all(abs(ratio - 6.667) < 0.1 and ratio != round(ratio) for ratio in pair.transform.ratio)
    assert len(shapes) > 1


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_any_scale_can_be_asked_for(small: Tree, scale: int) -> None:
    tree, truths = small
    aoi = tree[NAMES[1]]
    pair = aoi.pair(("B08", "B02"), scale=scale)
    ground = truths[aoi.name].ground(scale)[[3, 0]]
    assert pair.truth.shape == ground.shape
    assert list(pair.truth["band"].values) == ["B08", "B02"] == list(pair.cube["band"].values)
    assert grid_of(pair.truth) == grid_of(pair.cube).zoom(scale)
    seen = np.isfinite(pair.truth.values).all(0)
    assert np.abs(pair.truth.values - ground)[:, seen].mean() < 0.004


def test_the_truth_degraded_is_the_date_that_it_belongs_to(small: Tree) -> None:
    tree, _ = small
    pair = tree[NAMES[2]].pair()
    assert pair.clear.mean() > 0.9
    filled = np.where(np.isfinite(pair.truth.values), pair.truth.values, np.float32(0.1))
    seen = degrade(filled, 4, band_mtf(BANDS_10M))[:, pair.clear]
    low = pair.cube.isel({TIME: pair.target_index}).values[:, pair.clear]
    assert np.sqrt(((seen - low) ** 2).mean()) < 0.003


def test_the_six_metre_image_serves_too(small: Tree) -> None:
    tree, truths = small
    transform = tree[NAMES[0]].pair(kind="rgbn", scale=2).transform
    assert np.allclose(transform.shift_px, truths[NAMES[0]].shift_px, atol=0.05)
    assert 1.6 < transform.ratio[0] < 1.7


def test_the_transform_is_recorded_as_json(small: Tree) -> None:
    tree, truths = small
    pair = tree[NAMES[0]].pair()
    text = pair.truth.attrs["hr_transform"]
    assert HrTransform.from_json(text) == pair.transform
    assert pair.cube.attrs["hr_transform"] == text
    facts = json.loads(text)
    assert facts["shift_m"][0] == pytest.approx(10 * facts["shift_px"][0], rel=0.01)
    anchor = truths[NAMES[0]].series.days[truths[NAMES[0]].series.anchor]
    assert facts["reference_time"].startswith(str(np.datetime64(int(anchor), "D")))
    with pytest.raises(GeodiffError, match="no record of a registration"):
        HrTransform.from_json("{}")


def test_a_cube_is_lazy_and_in_the_form_of_the_house(small: Tree) -> None:
    tree, truths = small
    cube = tree[NAMES[1]].cube(("B04", "B12"))
    assert cube.chunks is not None
    assert cube.dtype == np.float32
    assert cube.dims == ("time", "band", "y", "x")
    assert grid_of(cube).crs == "EPSG:4326"
    assert np.allclose(grid_of(cube).pixel_m, 10, rtol=0.01)
    loaded = cube.compute()
    assert loaded[VALID].dtype == bool
    assert np.isnan(loaded.values).any(1)[~loaded[VALID].values].all()
    assert np.allclose(loaded.values[:, 0], truths[NAMES[1]].series.reflectance[:, 2], equal_nan=True)


def test_every_kind_of_file_can_be_read(small: Tree) -> None:
    tree, truths = small
    aoi, low = tree[NAMES[0]], truths[NAMES[0]].series.reflectance.shape[-2:]
    assert aoi.high("pan").shape == (1, *truths[NAMES[0]].hr_shape)
    assert aoi.high("ps").shape == (4, *truths[NAMES[0]].hr_shape)
    assert aoi.picture().shape == (3, *truths[NAMES[0]].hr_shape)
    revisit = aoi.revisits()[0]
    for kind in ("CLM", "CLP", "dataMask", "sunZenithAngles", "viewAzimuthMean"):
        assert aoi.layer(revisit, kind).shape == low
    level1 = WorldStrat(tree.root, level="L1C")[NAMES[0]]
    assert level1.cube(LR_BANDS["L1C"]).sizes["band"] == 13
    with pytest.raises(UsageError, match="B10"):
        aoi.cube(("B10",))
    for ask in (lambda: aoi.layer(revisit, "SCL"), lambda: aoi.high("rgb"), lambda: WorldStrat(tree.root, level="L3")):
        with pytest.raises(UsageError):
            ask()


def test_red_green_blue_become_blue_green_red(small: Tree) -> None:
    tree, _ = small
    aoi = tree[NAMES[0]]
    stored = read_image(aoi.layout.hr_file(aoi.name, "ps"))
    assert np.array_equal(aoi.high()[[2, 1, 0, 3]], (stored / np.float32(10_000)).astype(np.float32))


def test_both_folders_of_the_high_resolution_are_found(tmp_path: Path) -> None:
    spec = WorldStratSpec(aois=NAMES[:1], revisits=2, size_px=32, twelve_bit=True, levels=("L2A",), angles=False)
    make_worldstrat(tmp_path, spec)
    tree = WorldStrat(tmp_path)
    assert tree.names == NAMES[:1]
    assert "12bit" in str(tree.layout.hr_file(NAMES[0], "ps"))
    assert tree[0].pair().transform.trusted


def test_missing_revisits_leave_a_shorter_series(tmp_path: Path) -> None:
    name = NAMES[1]
    spec = WorldStratSpec(aois=(name,), revisits=5, size_px=32, missing={name: (2, 4)}, levels=("L2A",), angles=False)
    truth = make_worldstrat(tmp_path, spec)[name]
    cube = WorldStrat(tmp_path)[name].cube()
    kept = [rank not in (2, 4) for rank in truth.ranks]
    assert list(cube["rank"].values) == [rank for rank in truth.ranks if rank not in (2, 4)]
    assert np.allclose(days_of(cube[TIME].values), truth.series.days[kept], atol=1e-4)


def test_clouds_are_hidden_and_the_nearest_clear_date_is_the_frame(fresh: Tree) -> None:
    tree, truths = fresh
    aoi, truth = tree[0], truths[NAMES[1]]
    rank = truth.ranks[truth.series.anchor]
    path = tree.layout.lr_file(aoi.name, "L2A", rank, "CLM")
    size = truth.series.reflectance.shape[-2:]
    write_raster(path, np.ones((1, *size), np.float32), transform=None)
    pair = WorldStrat(tree.root)[0].pair()
    assert not pair.cube[VALID].values[truth.series.anchor].any()
    assert np.isnan(pair.cube.values[truth.series.anchor]).all()
    gaps = np.abs(truth.series.days - truth.hr_day)
    gaps[truth.series.anchor] = np.inf
    assert pair.target_index == int(gaps.argmin())


def test_a_place_without_a_clear_date_says_so(fresh: Tree) -> None:
    tree, _ = fresh
    with pytest.raises(GeodiffError, match="none of its 3 dates is 30% clear"):
        tree[0].pair(max_cloud=-1.0)


@pytest.mark.parametrize("kind", ["data", "CLM", "CLP", "dataMask", "metadata"])
def test_a_file_that_is_missing_or_broken_is_named(fresh: Tree, kind: str) -> None:
    tree, _ = fresh
    path = tree.layout.lr_file(NAMES[1], "L2A", 2, kind)
    whole = path.read_bytes()
    truncate(path, 0.5)
    with pytest.raises(GeodiffError, match=path.name):
        tree[0].pair()
    path.write_bytes(whole)
    corrupt(path)
    with pytest.raises(GeodiffError, match=path.name):
        tree[0].pair()
    path.unlink()
    with pytest.raises(GeodiffError, match=f"missing .*{path.name}"):
        tree[0].pair()


def test_a_broken_high_resolution_is_named(fresh: Tree) -> None:
    tree, _ = fresh
    path = tree.layout.hr_file(NAMES[1], "ps")
    crop(path, 2, 0)
    with pytest.raises(GeodiffError, match="its panchromatic band"):
        WorldStrat(tree.root)[0].pair()
    crop(path, 40, 42)
    crop(tree.layout.hr_file(NAMES[1], "pan"), 42, 42)
    with pytest.raises(GeodiffError, match="cannot show the same box"):
        WorldStrat(tree.root)[0].pair()
    truncate(path, 0.6)
    with pytest.raises(GeodiffError, match="corrupt or truncated"):
        WorldStrat(tree.root)[0].pair()


@pytest.mark.parametrize("kind", ["data", "CLM"])
def test_a_revisit_of_another_size_is_named(fresh: Tree, kind: str) -> None:
    tree, _ = fresh
    path = crop(tree.layout.lr_file(NAMES[1], "L2A", 2, kind), 1, 0)
    with pytest.raises(GeodiffError, match=f"{path.name} is .* pixels where the series is"):
        tree[0].pair()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"target_date": "2018-01-01"}, "tells no datetime"),
        ({"datetime": "soon", "target_date": "2018-01-01"}, "is no date"),
        ({"datetime": "0018-01-01", "target_date": "2018-01-01"}, "is no date"),
        ({"datetime": 7, "target_date": "2018-01-01"}, "tells no datetime"),
        ({"datetime": "today", "target_date": "2018-01-01"}, "is no date"),
        ({"datetime": "2018-01-02", "target_date": "now"}, "is no date"),
        ([], "no JSON object"),
        ({"datetime": "2018-01-05 10:00:00+00:00", "target_date": "2017-01-01"}, "several days"),
    ],
)
def test_a_json_without_a_date_is_an_error(fresh: Tree, facts: object, message: str) -> None:
    tree, _ = fresh
    tree.layout.lr_file(NAMES[1], "L2A", 1, "metadata").write_text(json.dumps(facts))
    with pytest.raises(GeodiffError, match=message):
        tree[0].pair()


def test_times_of_other_zones_become_utc(fresh: Tree) -> None:
    tree, _ = fresh
    facts = {"datetime": "2018-01-05T01:30:00+02:00", "target_date": "2018-01-01", "cloud_cover": "?"}
    tree.layout.lr_file(NAMES[1], "L2A", 1, "metadata").write_text(json.dumps(facts))
    found = next(revisit for revisit in tree[0].revisits() if revisit.rank == 1)
    assert found.time == np.datetime64("2018-01-04T23:30:00")
    assert np.isnan(found.cloud_cover)


def test_a_wrong_root_says_where_the_right_one_is(small: Tree) -> None:
    tree, _ = small
    for wrong in (tree.layout.hr, tree.root.parent, tree.layout.lr / NAMES[0]):
        with pytest.raises(GeodiffError) as error:
            WorldStrat(wrong)
        if wrong != tree.layout.lr / NAMES[0] or str(tree.root) in str(error.value):
            assert f"{tree.root} is: give that" in str(error.value)
    with pytest.raises(GeodiffError, match="is not a folder"):
        WorldStrat(tree.root / "nowhere")
    with pytest.raises(GeodiffError, match="missing"):
        tree["Landcover-1"]


def test_the_cache_is_bounded_and_stays_behind(small: Tree) -> None:
    tree, _ = small
    cache = ImageCache(60_000)
    paths = [tree.layout.lr_file(NAMES[0], "L2A", rank, kind) for rank in (1, 2, 3) for kind in ("CLM", "data")]
    for path in paths:
        assert np.array_equal(cache.read(path), read_image(path))
        assert cache.held_bytes <= 60_000
    assert cache.held_bytes > 0
    assert cache.read(paths[0]) is cache.read(paths[0])
    assert not cache.read(paths[0]).flags.writeable
    assert pickle.loads(pickle.dumps(cache)).held_bytes == 0
    assert ImageCache(0).read(paths[0]).size


def test_the_cache_notices_that_it_was_forked(small: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a thread of the parent holds must not hang the child."""
    tree, _ = small
    cache = ImageCache()
    path = tree.layout.lr_file(NAMES[0], "L2A", 1, "CLM")
    cache.read(path)
    cache._lock.acquire()
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert cache.read(path).size


Loaded = tuple[xr.DataArray, float, FloatArray, BoolArray]


def same(a: Loaded, b: Loaded) -> None:
    xr.testing.assert_identical(a[0], b[0])
    assert a[1] == b[1]
    assert np.array_equal(a[2], b[2], equal_nan=True)
    assert np.array_equal(a[3], b[3])


def test_threads_share_a_tree(small: Tree) -> None:
    tree, _ = small
    sites = worldstrat_sites(tree.root)
    alone = [site.load() for site in sites]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(operator.methodcaller("load"), sites), strict=True):
            same(one, other)


def test_a_spawned_worker_reads_the_same(small: Tree) -> None:
    tree, _ = small
    sites = worldstrat_sites(tree.root)[:2]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for one, other in zip(sites, pool.map(operator.methodcaller("load"), sites), strict=True):
            same(one.load(), other)


def test_a_forked_worker_of_a_loader_reads_the_same(small: Tree) -> None:
    from torch.utils.data import DataLoader

    tree, _ = small
    sites = worldstrat_sites(tree.root)[:2]
    alone = [site.load() for site in sites]
    load = operator.methodcaller("load")
    loader = DataLoader(list(sites), batch_size=None, num_workers=1, collate_fn=load, multiprocessing_context="fork")
    for one, other in zip(alone, loader, strict=True):
        same(one, other)


def test_sites_are_those_of_the_split(small: Tree) -> None:
    tree, truths = small
    sites = worldstrat_sites(tree.root, "clean", "train")
    assert [site.name for site in sites] == sorted(NAMES)
    assert [site.group for site in sites] == [parent_of(name) for name in sorted(NAMES)]
    assert worldstrat_sites(tree.root, "published", "test") == ()
    cube, day, truth, clear = sites[0].load()
    known = truths[sites[0].name].series
    assert day == pytest.approx(known.days[known.anchor], abs=1e-4)
    assert truth.dtype == np.float32
    assert truth.shape == (4, 4 * cube.sizes["y"], 4 * cube.sizes["x"])
    assert clear.shape == cube.shape[-2:]
    assert clear.dtype == bool
    for words in (("clean", "all"), ("dirty", "train")):
        with pytest.raises(UsageError):
            worldstrat_sites(tree.root, *words)


def test_a_place_of_the_split_that_is_not_there_is_an_error(fresh: Tree) -> None:
    tree, _ = fresh
    shutil.rmtree(tree.layout.hr_folder(NAMES[1]))
    with pytest.raises(GeodiffError, match=f"1 of 1 places .*{NAMES[1]}"):
        worldstrat_sites(tree.root)


def test_a_flat_place_is_not_forced(tmp_path: Path) -> None:
    """Open sea tells neither a shift nor a gain; the record says so."""
    spec = WorldStratSpec(
        aois=NAMES[1:2], revisits=2, size_px=32, levels=("L2A",), angles=False, effects=Effects(0, 0, 0, 0.2, 0, 0)
    )
    make_worldstrat(tmp_path, spec)
    tree = WorldStrat(tmp_path)
    path = tree.layout.hr_file(NAMES[1], "ps")
    write_raster(path, np.full(read_image(path).shape, 300, np.uint16))
    transform = tree[0].pair().transform
    assert not transform.trusted
    assert transform.shift_px == (0.0, 0.0)
    assert transform.fitted == (False,) * 4
    assert transform.gains == (1.0,) * 4


def test_a_vrt_in_the_guise_of_an_image_reads_no_other_file(tmp_path: Path) -> None:
    secret, guise = tmp_path / "secret.tif", tmp_path / "L2A.tiff"
    write_raster(secret, np.ones((1, 8, 8), np.uint16))
    rasterio.shutil.copy(str(secret), str(guise), driver="VRT")
    with pytest.raises(GeodiffError, match=r"L2A\.tiff is corrupt or truncated \(.*not recognized"):
        read_image(guise)
