"""A user's own imagery: grouped into places, read in windows through the aperture, held out without overlap."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from geodiff.imagery.folders import FolderSettings, read_folder
from geodiff.imagery.ground import STRIP_PX
from geodiff.schema import FloatArray, GeodiffError, UsageError

WEST, NORTH = 500_000.0, 4_600_000.0


def _field(x: Any, y: Any) -> FloatArray:
    """Reflectance of the ground at a point of the map: waves of 60 m and 90 m, another level in each band."""
    wave = 0.05 * np.sin(2 * np.pi * (x - WEST) / 60) + 0.05 * np.cos(2 * np.pi * (y - NORTH) / 90)
    return np.stack([0.10 + 0.05 * band + wave for band in range(4)]).astype(np.float32)


def _write(
    path: Path,
    *,
    pixel: float = 0.5,
    size: tuple[int, int] = (400, 500),
    east: float = 0.0,
    crs: str = "EPSG:32631",
    dtype: str = "uint16",
    level: float = 0.0,
    **profile: Any,
) -> Path:
    """An orthophoto in the order red, green, blue, near infrared."""
    rows, cols = size
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(pixel, 0, WEST + east, 0, -pixel, NORTH)
    x, y = np.meshgrid(WEST + east + (np.arange(cols) + 0.5) * pixel, NORTH - (np.arange(rows) + 0.5) * pixel)
    image = _field(x, y)[[2, 1, 0, 3]] + level
    if crs == "EPSG:4326":
        back = Transformer.from_crs("EPSG:32631", crs, always_xy=True)
        (w, n), (e, s) = (
            back.transform(WEST + east, NORTH),
            back.transform(WEST + east + cols * pixel, NORTH - rows * pixel),
        )
        transform = Affine((e - w) / cols, 0, w, 0, -(n - s) / rows, n)
        lon, lat = np.meshgrid(w + (np.arange(cols) + 0.5) * transform.a, n + (np.arange(rows) + 0.5) * transform.e)
        image = _field(*Transformer.from_crs(crs, "EPSG:32631", always_xy=True).transform(lon, lat))[[2, 1, 0, 3]]
    factor = {"uint8": 255, "uint16": 1e4, "float32": 1}[dtype]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=dtype,
        count=4,
        height=rows,
        width=cols,
        crs=crs,
        transform=transform,
        **profile,
    ) as file:
        file.write((image * factor).round(0 if factor > 1 else 6).astype(dtype))
    return path


def test_a_process_that_has_opened_no_raster_yet_reads_a_folder(tmp_path: Path) -> None:
    """GDAL knows no driver until somebody asks rasterio for them: in this process the tests have."""
    _write(tmp_path / "flight_20190601.tif")
    code = "import sys; from pathlib import Path; from geodiff.imagery.folders import read_folder as read; "
    code += "read(Path(sys.argv[1]), smallest=60)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_dates_of_one_ground_become_one_place(tmp_path: Path) -> None:
    _write(tmp_path / "flight_20190601.tif")
    _write(tmp_path / "flight_20200714.tif", east=20.0)
    _write(tmp_path / "elsewhere" / "flight_20190601.tif", east=10_000.0)
    found = read_folder(tmp_path, smallest=60)
    by_dates = sorted(found.train + found.held, key=lambda place: len(place.days))
    assert [len(place.days) for place in by_dates] == [1, 2]
    both = by_dates[1]
    assert (np.diff(both.days) == 409).all()
    assert both.truth_m == 2.5
    assert both.pixel_m == 10.0
    assert both.origin == (WEST + 22.5, NORTH - 2.5)
    assert both.size == (78, 90), "what both dates show, in pixels of the truth, but for the rim"
    assert both.footprint is not None
    assert both.footprint[0] < both.footprint[2]
    assert any("bands" in line for line in found.messages)
    assert any("10,000" in line for line in found.messages)


@pytest.mark.parametrize(("crs", "dtype", "pixel"), [
    ("EPSG:32631", "uint16", 0.5),
    ("EPSG:32631", "float32", 0.2),
    ("EPSG:32631", "uint16", 2.5),
    ("EPSG:32631", "uint16", 1.7),
    ("EPSG:4326", "uint16", 0.5),
])  # fmt: skip
def test_a_window_shows_the_ground_where_it_is(tmp_path: Path, crs: str, dtype: str, pixel: float) -> None:
    side = round(250 / pixel)
    _write(tmp_path / "a.tif", crs=crs, dtype=dtype, pixel=pixel, size=(side, side))
    (place,) = read_folder(tmp_path, smallest=60).train
    seen = pickle.loads(pickle.dumps(place)).read([0], slice(10, 60), slice(20, 70))  # as a worker does
    assert seen.shape == (1, 4, 50, 50)
    x = place.origin[0] + (np.arange(20, 70) + 0.5) * 2.5
    y = place.origin[1] - (np.arange(10, 60) + 0.5) * 2.5
    wanted = _field(*np.meshgrid(x, y))
    # The aperture takes a hundredth of waves as long as these.
    np.testing.assert_allclose(seen[0], wanted, atol=0.004)
    whole = place.read([0], slice(0, place.size[0]), slice(0, place.size[1]))
    np.testing.assert_allclose(whole[..., 10:60, 20:70], seen, atol=1e-6)


def test_large_windows_are_read_in_blocks_that_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.imagery import folder_place

    _write(tmp_path / "a.tif", size=(450, 600))
    (place,) = read_folder(tmp_path, smallest=60).train
    window = (slice(3, 80), slice(5, 100))
    whole = place.read([0], *window)
    looked: list[tuple[int, int]] = []
    numbers = folder_place._numbers

    def watching(*args: Any) -> Any:
        found = numbers(*args)
        looked.append(found[0].shape[-2:])
        return found

    monkeypatch.setattr(folder_place, "BLOCK_PX", 16)
    monkeypatch.setattr(folder_place, "_numbers", watching)
    np.testing.assert_allclose(place.read([0], *window), whole, atol=1e-6)
    assert max(max(shape) for shape in looked) <= 5 * (16 + 8) + 2, "of the file, a block and its margin"


def test_detail_finer_than_the_truth_does_not_alias(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        stripes = np.where((np.arange(500) // 2) % 2, 1000, 3000).astype(np.uint16)  # a wave of 2 m, below 2.5 m
        file.write(np.broadcast_to(stripes, (4, 400, 500)))
    (place,) = read_folder(tmp_path, smallest=60).train
    inside = place.read([0], slice(5, 75), slice(5, 95))
    np.testing.assert_allclose(inside, 0.2, atol=0.004)


def test_what_lies_outside_or_holds_no_data_is_missing(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", nodata=0)
    with rasterio.open(path, "r+") as file:
        numbers = file.read()
        numbers[:, 105:155, 205:265] = 0
        file.write(numbers)
    (place,) = read_folder(tmp_path, smallest=60).train
    image = place.read([0], slice(0, place.size[0]), slice(0, place.size[1]))[0]
    empty = np.isnan(image).any(0)
    assert empty[20:30, 40:52].all()
    assert not empty[:18].any()
    assert not empty[:, :38].any()
    assert not empty[33:].any()
    assert np.nanmin(image[3]) > 0.14, "no zero was blurred into the ground"


def test_settings_are_followed(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "x_2019-06-01.tif", pixel=2.0, size=(300, 300))
    _write(tmp_path / "b" / "x_2019-06-01.tif", pixel=2.0, size=(300, 300), east=5_000)
    (tmp_path / "places.yaml").write_text(
        "bands: [B08, B04, B03, B02]\nscale: [1.0e-4, 1.0e-4, 1.0e-4, 2.0e-4]\noffset: 0.01\npixel_m: 20\nheld: [b]\n"
    )
    found = read_folder(tmp_path)
    assert [place.images[0].path.parent.name for place in (*found.train, *found.held)] == ["a", "b"]
    (place,) = found.train
    assert (place.truth_m, place.pixel_m) == (5.0, 20.0)
    image = place.read([0], slice(20, 60), slice(20, 60))[0]
    # Stored as levels .20 .15 .10 .25, called near infrared, red, green, blue.
    np.testing.assert_allclose(image.mean((1, 2)), [2 * 0.25 + 0.01, 0.11, 0.16, 0.21], atol=0.03)
    assert not any("taken" in line for line in found.messages)


def test_coarse_images_stand_for_a_coarser_pixel(tmp_path: Path) -> None:
    _write(tmp_path / "a.tif", pixel=5.0, size=(200, 200))
    found = read_folder(tmp_path)
    (place,) = found.train
    assert (place.truth_m, place.pixel_m) == (5.0, 20.0)
    assert any("coarse" in line for line in found.messages)


@pytest.mark.parametrize("offset_m", [0.0, 300.0])
def test_places_that_overlap_are_held_out_along_one_line(tmp_path: Path, offset_m: float) -> None:
    _write(tmp_path / "a_20190601.tif", pixel=2.5, size=(200, 500))
    _write(tmp_path / "b_20190601.tif", pixel=2.5, size=(200, 500), east=offset_m)
    found = read_folder(tmp_path)
    assert {place.ground for place in found.train + found.held} == {"a_20190601"}
    reach = max(place.origin[0] + place.size[1] * place.truth_m for place in found.train)
    start = min(place.origin[0] for place in found.held)
    assert start - reach >= 32 * 2.5
    assert all(place.size[1] >= STRIP_PX for place in found.held)


def test_held_folders_must_not_overlap_the_training(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "x_20190601.tif", pixel=2.5, size=(200, 200))
    _write(tmp_path / "b" / "x_20200601.tif", pixel=2.5, size=(200, 200), east=450)
    (tmp_path / "places.yaml").write_text("held: [b]\n")
    with pytest.raises(GeodiffError, match=r"b/x_20200601\.tif.*overlaps.*a/x_20190601\.tif"):
        read_folder(tmp_path)
    (tmp_path / "places.yaml").write_text("held: [c]\n")
    with pytest.raises(UsageError, match="not a folder"):
        read_folder(tmp_path)
    (tmp_path / "places.yaml").write_text("bnds: [B02]\n")
    with pytest.raises(UsageError, match=r"places\.yaml.*bands"):
        read_folder(tmp_path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="no GeoTIFF"):
        read_folder(tmp_path)
    path = tmp_path / "sub" / "a.tif"
    path.parent.mkdir()
    path.write_bytes(b"no image at all")
    with pytest.raises(GeodiffError, match=r"sub/a\.tif"):
        read_folder(tmp_path)
    path.write_text('<VRTDataset rasterXSize="2" rasterYSize="2"></VRTDataset>')
    with pytest.raises(GeodiffError, match=r"sub/a\.tif"):
        read_folder(tmp_path)
    path.unlink()
    _write(path, dtype="float32", level=40.0)
    with pytest.raises(GeodiffError, match=r"sub/a\.tif: the scale of float32 numbers up to 40"):
        read_folder(tmp_path)
    with pytest.raises(GeodiffError, match=r"sub/a\.tif has no band B11"):
        read_folder(tmp_path, bands=("B11",))


def test_a_file_cut_short_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", pixel=2.5, size=(200, 200))
    (tmp_path / "places.yaml").write_text("scale: 1.0e-4\n")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(GeodiffError, match=r"a\.tif"):
        read_folder(tmp_path).train[0].read([0], slice(100, 196), slice(0, 96))


def test_defaults_are_spelled_out() -> None:
    assert FolderSettings().pixel_m is None
    with pytest.raises(UsageError, match="pixel_m"):
        FolderSettings.parse({"pixel_m": -1})
