"""The output cube: what is stored, how it opens, and what a killed run leaves behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from geodiff.grid import Grid
from geodiff.outputs import overviews
from geodiff.outputs.ledger import Ledger, exclusive, work_folder
from geodiff.outputs.packing import REFLECTANCE, UNCERTAINTY
from geodiff.outputs.shards import encode
from geodiff.outputs.store_layout import overview_grid, overview_levels
from geodiff.outputs.zarr_store import (
    Region,
    StoreSpec,
    create_store,
    discard_store,
    done_regions,
    finalize,
    is_final,
    regions,
    verify_region,
    write_region,
)
from geodiff.schema import GeodiffError, UsageError

if TYPE_CHECKING:
    import xarray as xr

GRID = Grid("EPSG:32631", (2.5, 2.5), (500_000.0, 4_600_000.0), (150, 277))
TIMES = tuple(np.array(["2020-01-13T10:50:00", "2021-06-01"], dtype="datetime64[s]"))
SPEC = StoreSpec(GRID, ("B02", "B03", "B04", "B08"), TIMES, members=True, shard=128, chunk=64, attrs={"title": "test"})

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def arrays(region: Region, spec: StoreSpec = SPEC) -> dict[str, np.ndarray]:
    """The known content of a region: it depends on absolute pixels alone."""
    w = region.window
    y, x = np.mgrid[w.top : w.top + w.rows, w.left : w.left + w.cols]
    bands = np.arange(len(spec.bands))[:, None, None]
    reflectance = (0.2 + 0.1 * region.time + 0.02 * bands + 0.25 * np.sin(y / 9) * np.cos(x / 13)).astype(np.float32)
    return {
        "reflectance": reflectance,
        "uncertainty": (0.01 + 0.005 * np.cos(y / 5) + 0 * bands + 0 * x).astype(np.float32),
        "valid": (y + x + region.time) % 17 != 0,
        **({"member": reflectance + np.float32(0.01)} if spec.members else {}),
    }


def write(path: Path, region: Region, spec: StoreSpec = SPEC) -> None:
    a = arrays(region, spec)
    write_region(path, spec, region, a["reflectance"], a["uncertainty"], a["valid"], member=a.get("member"))


def build(path: Path, spec: StoreSpec = SPEC) -> Path:
    create_store(path, spec)
    for region in regions(spec):
        write(path, region, spec)
    finalize(path, spec)
    return path


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file of a store with the hash of its bytes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def opened(path: Path, group: str | None = None) -> xr.Dataset:
    # Imported here: the writer that is killed below must start quickly.
    import rioxarray  # noqa: F401
    import xarray as xr

    return xr.open_zarr(path, group=group)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("store") / "run.zarr")


def test_xarray_opens_the_root_as_the_full_resolution(store: Path) -> None:
    ds = opened(store)
    assert dict(ds.sizes) == {"time": 2, "band": 4, "y": 150, "x": 277}
    assert list(ds.band.values) == list(SPEC.bands)
    np.testing.assert_array_equal(ds.time.values.astype("datetime64[s]"), np.array(TIMES))
    np.testing.assert_array_equal(ds.x.values, GRID.x)
    for region in regions(SPEC):
        expected, w = arrays(region), region.window
        got = ds.isel(time=region.time, y=slice(w.top, w.top + w.rows), x=slice(w.left, w.left + w.cols)).load()
        np.testing.assert_array_equal(got.valid == 1, expected["valid"])
        for name, quantum in (("reflectance", 1e-4), ("member", 1e-4), ("uncertainty", 1e-5)):
            value = got[name].values
            assert np.array_equal(np.isnan(value), np.broadcast_to(~expected["valid"], value.shape))
            np.testing.assert_allclose(
                value[:, expected["valid"]], expected[name][:, expected["valid"]], rtol=0, atol=quantum * 0.501
            )


def test_rioxarray_finds_the_crs_and_the_transform(store: Path) -> None:
    for name in ("reflectance", "uncertainty", "valid", "member"):
        array = opened(store)[name]
        assert array.rio.crs.to_epsg() == 32631
        assert array.rio.transform() == GRID.transform
        assert array.rio.bounds() == GRID.bounds


def test_titiler_reads_the_root_and_the_overviews(store: Path) -> None:
    reader = pytest.importorskip("titiler.xarray.io").Reader
    for group, shape in ((None, (150, 277)), ("1", (75, 139))):
        with reader(src_path=str(store), variable="reflectance", group=group, sel=["time=2021-06-01"]) as src:
            assert (src.height, src.width) == shape
            assert src.crs.to_epsg() == 32631
            assert src.band_descriptions == list(SPEC.bands)
            image = src.preview(max_size=64)
            assert image.array.shape[0] == 4
            assert 0 < image.array.compressed().mean() < 1
    with reader(src_path=str(store), variable="valid") as src:
        assert src.preview(max_size=64).array.max() == 1


def test_overviews_are_the_mean_of_the_valid_pixels(store: Path) -> None:
    assert overview_levels(GRID) == 1
    full, half = opened(store), opened(store, group="1")
    assert half.reflectance.rio.transform() == overview_grid(GRID, 1).transform
    for name, quantum in (("reflectance", 1e-4), ("uncertainty", 1e-5), ("member", 1e-4)):
        expected = full[name].coarsen(y=2, x=2, boundary="pad").mean()
        np.testing.assert_allclose(half[name], expected, rtol=0, atol=0.501 * quantum)
    np.testing.assert_array_equal(half.valid, full.valid.coarsen(y=2, x=2, boundary="pad").max())


def test_root_attributes_follow_the_zarr_conventions(store: Path) -> None:
    zarr_cm = pytest.importorskip("zarr_cm")
    root = json.loads((store / "zarr.json").read_text())
    zarr_cm.validate_all(root["attributes"])
    assert {c["name"] for c in root["attributes"]["zarr_conventions"]} >= {"proj", "spatial", "multiscales"}
    assert root["attributes"]["title"] == "test"
    for level in root["attributes"]["multiscales"]["layout"]:
        group, _, name = level["asset"].rpartition("/")
        assert opened(store, group or None)[name].shape[2:] == tuple(level["spatial:shape"])
    assert "1/reflectance" in root["consolidated_metadata"]["metadata"]


def test_nothing_but_the_store_is_left(store: Path) -> None:
    assert [p.name for p in store.parent.iterdir()] == [store.name]
    assert not list(store.rglob("*.partial"))


def test_threads_and_any_order_give_the_same_bytes(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    create_store(path, SPEC)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda region: write(path, region), reversed(regions(SPEC))))
    finalize(path, SPEC)
    assert fingerprint(path) == fingerprint(store)


_WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_zarr_store as t
path = Path(sys.argv[1])
t.create_store(path, t.SPEC)
for region in t.regions(t.SPEC):
    print(region.id, flush=True)
    t.write(path, region)
t.finalize(path, t.SPEC, progress=lambda done, total: print(done, flush=True))
"""


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(store: Path, tmp_path: Path) -> None:
    path, rng, kills = tmp_path / "run.zarr", np.random.default_rng(5), 0
    command = [sys.executable, "-c", _WRITER, str(path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for lines in (1, 5, 9, 12):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.03)))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        if not is_final(path):
            assert all(verify_region(path, SPEC, region) for region in done_regions(path, SPEC))
    assert kills >= 3
    build(path)
    assert fingerprint(path) == fingerprint(store)
    assert not work_folder(path).exists()


def test_a_group_of_an_overview_that_was_cut_short_is_made_anew(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.zarr"
    create_store(path, SPEC)
    for region in regions(SPEC):
        write(path, region)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(overviews, "write_group", killed)
        with pytest.raises(KeyboardInterrupt):
            finalize(path, SPEC)
    assert (path / "1" / "zarr.json").exists()
    finalize(path, SPEC)
    assert fingerprint(path) == fingerprint(store)


def test_a_store_that_is_discarded_is_whole_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build(tmp_path / "run.zarr", replace(SPEC, members=False, times=TIMES[:1]))
    before = fingerprint(path)

    def killed(folder: Path, **_: object) -> None:
        for file in Path(folder).rglob("zarr.json"):
            file.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard_store(path)
    assert not path.exists() or fingerprint(path) == before
    discard_store(path)
    assert list(tmp_path.iterdir()) == []


def test_finished_regions_are_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    create_store(path, SPEC)
    first = regions(SPEC)[:3]
    for region in first:
        write(path, region)
    create_store(path, SPEC)
    assert done_regions(path, SPEC) == first
    with pytest.raises(GeodiffError, match="not written"):
        finalize(path, SPEC)


def test_damage_shows_in_the_checksum(tmp_path: Path) -> None:
    path, region = tmp_path / "run.zarr", regions(SPEC)[0]
    create_store(path, SPEC)
    write(path, region)
    assert verify_region(path, SPEC, region)
    (path / "valid" / "c" / "0" / "0" / "0").unlink()
    assert not verify_region(path, SPEC, region)


def test_a_damaged_marker_means_not_done(tmp_path: Path) -> None:
    path, region = tmp_path / "run.zarr", regions(SPEC)[0]
    create_store(path, SPEC)
    write(path, region)
    marker = Ledger(path).folder / f"{region.id}.json"
    marker.write_bytes(marker.read_bytes()[:20])
    assert done_regions(path, SPEC) == []


def test_markers_of_a_store_that_was_removed_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    create_store(path, SPEC)
    write(path, regions(SPEC)[0])
    shutil.rmtree(path)
    create_store(path, SPEC)
    assert done_regions(path, SPEC) == []


def test_another_run_or_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path / "run.zarr", SPEC)
    with pytest.raises(GeodiffError, match="another run"):
        create_store(tmp_path / "run.zarr", replace(SPEC, attrs={"title": "other"}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(GeodiffError, match="not a store"):
        create_store(tmp_path / "mine", SPEC)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_all_that_decides_a_store_is_in_its_digest_and_nothing_that_is_only_told() -> None:
    told = replace(SPEC, attrs={"title": "test", "version": "1"}, told=("version",))
    assert replace(told, attrs={"title": "test", "version": "2"}).digest == told.digest == SPEC.digest
    moved = Grid(GRID.crs, GRID.resolution, (GRID.origin[0] + 2.5, GRID.origin[1]), GRID.shape)
    zone, fine, wide = (
        Grid("EPSG:32632", GRID.resolution, GRID.origin, GRID.shape),
        Grid(GRID.crs, (2.0, 2.5), GRID.origin, GRID.shape),
        Grid(GRID.crs, GRID.resolution, GRID.origin, (150, 278)),
    )
    others = [
        *({"grid": grid} for grid in (moved, zone, fine, wide)),
        {"bands": ("B03", "B02", "B04", "B08")},
        {"times": (TIMES[0], TIMES[1] + 1)},
        {"members": False},
        {"guessed": True},
        {"shard": 192},
        {"chunk": 32},
        {"attrs": {}},
    ]
    digests = {SPEC.digest, *(replace(SPEC, **other).digest for other in others)}  # type: ignore[arg-type]
    assert len(digests) == len(others) + 1


def test_a_region_that_is_written_anew_is_not_done_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in between it holds some of either, and its old marker would call it whole."""
    path, (region, *_) = tmp_path / "run.zarr", regions(SPEC)
    create_store(path, SPEC)
    write(path, region)
    a = arrays(region)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geodiff.outputs.shards.sync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_region(path, SPEC, region, a["reflectance"] / 2, a["uncertainty"], a["valid"], member=a["member"])
    assert done_regions(path, SPEC) == []


def test_a_marker_gets_its_name_after_it_and_its_data_reached_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, region = tmp_path / "run.zarr", regions(SPEC)[0]
    create_store(path, SPEC)
    synced: list[int] = []
    marked: list[set[int]] = []
    fsync, move = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    def moving(source: Path, target: Path) -> None:
        if Path(target).parent == Ledger(path).folder:
            shards = {file.stat().st_ino for file in path.glob("*/c/0/**/*") if file.is_file()}
            marked.append({*shards, os.stat(source).st_ino} - set(synced))
            assert len(shards) == 4
        move(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", moving)
    write(path, region)
    assert marked == [set()], "of one marker, nothing that it speaks for was still on its way"


def test_a_marker_under_the_name_of_another_region_means_not_done(tmp_path: Path) -> None:
    path, (first, second, *_) = tmp_path / "run.zarr", regions(SPEC)
    create_store(path, SPEC)
    write(path, first)
    folder = Ledger(path).folder
    (folder / f"{second.id}.json").write_bytes((folder / f"{first.id}.json").read_bytes())
    assert done_regions(path, SPEC) == [first]


def test_a_finished_store_is_kept_and_cannot_be_written(store: Path) -> None:
    before = fingerprint(store)
    create_store(store, SPEC)
    finalize(store, SPEC)
    assert done_regions(store, SPEC) == regions(SPEC)
    with pytest.raises(GeodiffError, match="not open for writing"):
        write(store, regions(SPEC)[0])
    assert fingerprint(store) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_explained_and_the_run_resumes(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    from zarr.storage import _local

    path, (first, *rest) = tmp_path / "run.zarr", regions(SPEC)
    create_store(path, SPEC)
    write(path, first)

    def full(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(_local, "_put", full)
        with pytest.raises(GeodiffError, match=r"disk full .* MB more .* resumes"):
            write(path, rest[0])
    assert done_regions(path, SPEC) == [first]
    for region in rest:
        write(path, region)
    finalize(path, SPEC)
    assert fingerprint(path) == fingerprint(store)


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GeodiffError, match="cannot write"):
        create_store(tmp_path / "file" / "run.zarr", SPEC)
    with pytest.raises(GeodiffError, match="cannot write"), exclusive(tmp_path / "file" / "run.zarr"):
        pass


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out" / "run.zarr"
    with exclusive(path), pytest.raises(GeodiffError, match="another process"), exclusive(path):
        pass
    with exclusive(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, region = tmp_path / "run.zarr", regions(SPEC)[0]
    create_store(path, SPEC)
    a = arrays(region)
    with pytest.raises(ValueError, match="member"):
        write_region(path, SPEC, region, a["reflectance"], a["uncertainty"], a["valid"])
    with pytest.raises(ValueError, match="uncertainty"):
        write_region(path, SPEC, region, a["reflectance"], a["uncertainty"][:1], a["valid"], member=a["member"])
    with pytest.raises(ValueError, match="region"):
        write_region(path, SPEC, region, a["reflectance"], a["uncertainty"], a["valid"][:5], member=a["member"])


@pytest.mark.parametrize(
    "wrong", [{"times": TIMES[::-1]}, {"times": ()}, {"bands": ("B02", "B02")}, {"bands": ()}, {"shard": 100}]
)
def test_a_layout_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(SPEC, **wrong)  # type: ignore[arg-type]


def test_an_all_cloud_date_takes_no_room_and_reads_as_nan(tmp_path: Path) -> None:
    spec = replace(SPEC, members=False, times=TIMES[:1])
    path = tmp_path / "run.zarr"
    create_store(path, spec)
    for region in regions(spec):
        shape = (4, region.window.rows, region.window.cols)
        nothing = np.full(shape, np.nan, np.float32)
        write_region(path, spec, region, nothing, nothing, np.zeros(shape[1:], bool))
    finalize(path, spec)
    ds = opened(path)
    assert np.isnan(ds.reflectance).all()
    assert not ds.valid.any()
    assert not (path / "reflectance" / "c").exists()


def test_a_pixel_that_one_band_lacks_is_valid_in_none() -> None:
    region = regions(SPEC)[0]
    a = arrays(region)
    a["reflectance"][2, 5, 7] = np.nan
    packed = encode(SPEC, a["reflectance"], a["uncertainty"], np.ones_like(a["valid"]), member=a["member"])
    expected = np.ones(a["valid"].shape, bool)
    expected[5, 7] = False
    np.testing.assert_array_equal(packed["valid"], expected)
    for name, packing in (("reflectance", REFLECTANCE), ("uncertainty", UNCERTAINTY), ("member", REFLECTANCE)):
        np.testing.assert_array_equal(packed[name] != packing.fill, np.broadcast_to(expected, packed[name].shape))


def test_a_grid_in_degrees_opens_too(tmp_path: Path) -> None:
    grid = Grid("EPSG:4326", (2.5e-5, 2e-5), (2.8, 42.4), (40, 60))
    spec = StoreSpec(grid, ("B02",), TIMES[:1], shard=64, chunk=32)
    path = build(tmp_path / "run.zarr", spec)
    ds = opened(path)
    assert ds.rio.crs.to_epsg() == 4326
    assert ds.x.attrs["standard_name"] == "longitude"
    np.testing.assert_allclose(tuple(ds.reflectance.rio.transform()), tuple(grid.transform))
    assert not (path / "1").exists()


@pytest.mark.parametrize(("packing", "low", "high"), [(REFLECTANCE, -0.2999, 6.2535), (UNCERTAINTY, 0.0, 0.65534)])
def test_values_beyond_the_code_are_clipped_never_wrapped(packing: object, low: float, high: float) -> None:
    values = np.array([[-9.0, 99.0, np.inf, np.nan]], np.float32)
    got = packing.unpack(packing.pack(values, np.ones((1, 4), bool)))  # type: ignore[attr-defined]
    np.testing.assert_allclose(got[0, :2], [low, high], rtol=1e-6)
    assert np.isnan(got[0, 2:]).all()
