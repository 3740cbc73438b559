"""COGs of a store: valid, georeferenced, the same numbers."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from geodiff.grid import Grid
from geodiff.outputs.cog import write_cogs
from geodiff.outputs.zarr_store import StoreSpec, create_store, finalize, regions, write_region
from geodiff.schema import GeodiffError

SPEC = StoreSpec(
    Grid("EPSG:32631", (2.5, 2.5), (500_000.0, 4_600_000.0), (300, 700)),
    ("B02", "B08"),
    tuple(np.array(["2020-01-13T10:50:00", "2021-06-01"], dtype="datetime64[s]")),
    shard=512,
    chunk=256,
)


def values(time: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:300, 0:700]
    reflectance = np.stack([0.1 + 0.1 * time + x / 5000, 0.3 + y / 5000]).astype(np.float32)
    return reflectance, (reflectance / 50).astype(np.float32), (y - 150) ** 2 + (x - 300) ** 2 > 900


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cog") / "run.zarr"
    create_store(path, SPEC)
    for region in regions(SPEC):
        w = region.window
        at = (..., slice(w.top, w.top + w.rows), slice(w.left, w.left + w.cols))
        reflectance, uncertainty, valid = (array[at] for array in values(region.time))
        write_region(path, SPEC, region, reflectance, uncertainty, valid)
    finalize(path, SPEC)
    return path


def test_files_hold_the_numbers_of_the_store(store: Path, tmp_path: Path) -> None:
    paths = write_cogs(store, SPEC, tmp_path / "cogs")
    assert [path.name for path in paths] == [
        "run_20200113T105000_reflectance.tif",
        "run_20200113T105000_uncertainty.tif",
        "run_20210601T000000_reflectance.tif",
        "run_20210601T000000_uncertainty.tif",
    ]
    for number, path in enumerate(paths):
        reflectance, uncertainty, valid = values(number // 2)
        with rasterio.open(path) as src:
            assert src.crs.to_epsg() == 32631
            assert src.transform == SPEC.grid.transform
            assert src.descriptions == SPEC.bands
            assert src.tags()["TIFFTAG_DATETIME"] == ("2020:01:13 10:50:00", "2021:06:01 00:00:00")[number // 2]
            codes = src.read(masked=True)
            got = codes * src.scales[0] + src.offsets[0]
        expected, atol = (reflectance, 0.51e-4) if number % 2 == 0 else (uncertainty, 0.51e-5)
        np.testing.assert_array_equal(np.ma.getmaskarray(got), np.broadcast_to(~valid, got.shape))
        np.testing.assert_allclose(got.data[:, valid], expected[:, valid], rtol=0, atol=atol)


def test_files_are_valid_cogs(store: Path, tmp_path: Path) -> None:
    validate = pytest.importorskip("rio_cogeo.cogeo").cog_validate
    for path in write_cogs(store, SPEC, tmp_path):
        valid, errors, warnings = validate(str(path), quiet=True)
        assert (valid, errors, warnings) == (True, [], [])
        with rasterio.open(path) as src:
            assert src.overviews(1)


def test_nothing_else_is_left_and_existing_files_are_kept(store: Path, tmp_path: Path) -> None:
    paths = write_cogs(store, SPEC, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    before = [path.stat().st_mtime_ns for path in paths]
    seen: list[tuple[int, int]] = []
    write_cogs(store, SPEC, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_failed_copy_leaves_no_file(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rasterio.shutil

    def broken(*_: object, **__: object) -> None:
        raise rasterio.errors.RasterioIOError("no space left")

    monkeypatch.setattr(rasterio.shutil, "copy", broken)
    with pytest.raises(GeodiffError, match="no space left"):
        write_cogs(store, SPEC, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path / "run.zarr", SPEC)
    with pytest.raises(GeodiffError, match="not finished"):
        write_cogs(tmp_path / "run.zarr", SPEC, tmp_path)
