"""A tiny place on disk, and the command line as a user sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from geodiff.grid import Grid
from geodiff.schema import BANDS_10M
from geodiff.sensor import native_step

DATES = "2021-06-01/2021-06-30"


@dataclass(frozen=True)
class TinyPlace:
    """Three clear dates of 48 x 40 pixels: a static catalogue, its grid, and a box well inside."""

    catalog: Path
    grid: Grid
    bbox: tuple[float, float, float, float]

    @property
    def words(self) -> list[str]:
        """Where and when, as options."""
        return ["--catalog", str(self.catalog), "--bbox", *map(str, self.bbox), "--datetime", DATES]


def write_place(folder: Path, bands: Sequence[str] = BANDS_10M) -> TinyPlace:
    """Bands of 20 m are written at 20 m."""
    from datetime import UTC, datetime

    from geodiff.testing.scenes import SceneData, write_catalog

    grid = Grid("EPSG:32631", (10.0, 10.0), (483_840.0, 4_693_760.0), (48, 40))
    rng = np.random.default_rng(7)
    ground = rng.integers(400, 3_000, (12, 10)).repeat(4, 0).repeat(4, 1)
    scenes = []
    for day in (3, 13, 23):
        numbers = {}
        for band in bands:
            image = (ground + rng.integers(0, 40, ground.shape)).astype(np.uint16)
            numbers[band] = image[:: native_step(band), :: native_step(band)]
        scl = np.full((24, 20), 4, np.uint8)
        scenes.append(SceneData(f"tiny_{day:02d}", datetime(2021, 6, day, 10, 50, tzinfo=UTC), grid, numbers, scl))
    west, south, east, north = grid.bounds_wgs84
    across, up = (east - west) / 10, (north - south) / 10
    box = (west + across, south + up, east - across, north - up)
    return TinyPlace(write_catalog(scenes, folder), grid, (box[0], box[1], box[2], box[3]))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyPlace:
    return write_place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def own_place(tmp_path: Path) -> TinyPlace:
    """A place that a test may spoil."""
    return write_place(tmp_path / "place")


@pytest.fixture
def geodiff() -> Callable[..., Result]:
    """Run the command line in this process."""
    from geodiff.cli import app

    def run(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], prog_name="geodiff")

    return run
