"""Real series to learn from: a date counts where the scene classification and the screen by brightness agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geodiff.imagery.real_series import RealSeries, read_series
from geodiff.schema import BANDS_10M
from geodiff.testing.small_catalog import small_ground

SIDE, DATES = 48, 8
CALLED_CLEAR, FOUND_CLOUD = 3, 5
VEGETATION, CLOUD = 4, 9


def _written(root: Path, *, classified: bool) -> RealSeries:
    """Eight dates of one ground, two of them overcast, only one of which the classification knows."""
    numbers = np.broadcast_to(small_ground((SIDE, SIDE)) * 0.3, (DATES, 4, SIDE, SIDE)).copy()
    scl = np.full((DATES, SIDE // 2, SIDE // 2), VEGETATION, np.uint8)
    for date in (CALLED_CLEAR, FOUND_CLOUD):
        numbers[date] = 0.6
    scl[FOUND_CLOUD] = CLOUD
    folder = root / "sentinel2" / "worldcereal" / "place"
    folder.mkdir(parents=True)
    times = np.datetime64("2019-01-01", "ns") + np.arange(DATES) * np.timedelta64(10, "D")

    def write(name: str, layers: dict[str, np.ndarray], pixel_m: int) -> None:
        side = next(iter(layers.values())).shape[-1]
        lattice = {"x": 5e5 + pixel_m * np.arange(side), "y": 5e6 - pixel_m * np.arange(side), "timestamp": times}
        dims = ("timestamp", "y", "x")
        data = xr.Dataset({key: (dims, value) for key, value in layers.items()}, lattice, {"epsg": 32631})
        data.to_netcdf(folder / name)

    stored = np.rint(numbers * 1e4).astype(np.uint16)
    write("S2_L2A_10m_place.nc", {band: stored[:, i] for i, band in enumerate(BANDS_10M)}, 10)
    if classified:
        write("S2_L2A_20m_place.nc", {"SCL": scl}, 20)
    (series,) = read_series(root, BANDS_10M).series
    return series


def _day(date: int) -> float:
    return float((np.datetime64("2019-01-01") + 10 * date - np.datetime64("1970-01-01")) / np.timedelta64(1, "D"))


def test_an_overcast_date_that_is_called_clear_teaches_nothing(tmp_path: Path) -> None:
    for classified in (True, False):
        series = _written(tmp_path / str(classified), classified=classified)
        assert list(series.days) == [_day(date) for date in range(DATES) if date not in (CALLED_CLEAR, FOUND_CLOUD)]
        assert series.valid.all()


def test_what_only_the_classification_knows_is_hidden_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "geodiff.imagery.real_series.spectral_cloud_screen", lambda looked, *_: np.isfinite(looked[:, 0])
    )
    series = _written(tmp_path, classified=True)
    assert _day(FOUND_CLOUD) not in series.days
    assert _day(CALLED_CLEAR) in series.days
