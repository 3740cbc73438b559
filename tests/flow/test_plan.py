"""What a plan found out of the scenes is what its run works with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from geodiff.config import SuperresConfig
from geodiff.grid import Grid
from geodiff.schema import BANDS_10M, SHIFT_X_M, SHIFT_Y_M
from geodiff.tasks import pictures
from geodiff.tasks.plan import Plan, make_plan
from geodiff.tasks.superres_publish import speed_of
from geodiff.testing.scenes import SceneData, write_catalog

GRID = Grid("EPSG:32631", (10.0, 10.0), (483_840.0, 4_693_760.0), (90, 80))
MOVED = ((0, 0), (-1, 2), (0, 0), (0, 0))
"""Of each date in pixels (down, right): the second shows the ground 10 m too far north and 20 m too far east."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four dates, the first of them clear on a fifth of the ground alone."""
    noise = np.random.default_rng(3).random((120, 120))
    ground = 800 + 2000 * ndimage.gaussian_filter(noise, 1.2) + 600 * (ndimage.gaussian_filter(noise, 6) > 0.5)
    scenes = []
    for date, (down, right) in enumerate(MOVED):
        image = np.roll(ground, (down, right), (0, 1))[15:105, 20:100].astype(np.uint16)
        classes = np.full((45, 40), 4, np.uint8)
        classes[9 if date == 0 else 45 :] = 9
        moment = datetime(2021, 6, 3 + 5 * date, 10, 50, tzinfo=UTC)
        scenes.append(SceneData(f"moved_{date}", moment, GRID, dict.fromkeys(BANDS_10M, image), classes))
    return write_catalog(scenes, tmp_path_factory.mktemp("moved"))


def _plan(catalog: Path, out: Path, **asked: Any) -> Plan:
    settings: dict[str, Any] = {"bbox": GRID.bounds_wgs84, "crs": "native", "datetime": "2021-06", "model": "bicubic"}
    config = SuperresConfig.parse({"catalog": str(catalog), "mask": {"dilation_m": 0}, **settings, **asked})
    return make_plan(config, out, name="here", workers=1, progress=lambda *_: None)


def test_shifts_are_east_and_north_and_go_with_the_cube(catalog: Path, tmp_path: Path) -> None:
    job = _plan(catalog, tmp_path).job
    np.testing.assert_allclose(np.array(job.shifts_m)[1:], [(20, 10), (0, 0), (0, 0)], atol=1.5)
    cube = job.cube()
    np.testing.assert_array_equal(np.stack([cube[SHIFT_X_M], cube[SHIFT_Y_M]], 1), job.shifts_m)
    still = _plan(catalog, tmp_path, coregister=False).job
    assert still.shifts_m == ()
    assert SHIFT_X_M not in still.cube().coords


def test_the_dates_of_a_target_are_as_many_and_as_clear_as_was_asked(catalog: Path, tmp_path: Path) -> None:
    """The share that is clear stands beside its date, whichever date is the best."""
    plan = _plan(catalog, tmp_path, target="2021-06-08")
    assert plan.dates == ("2021-06-03", "2021-06-08", "2021-06-13", "2021-06-18")
    np.testing.assert_allclose(plan.clear, [0.2, 1, 1, 1], atol=0.01)
    assert plan.job.targets[0].dates == (0, 1, 2, 3)
    for asked, dates in (({"mask": {"min_clear": 0.5}}, (1, 2, 3)), ({"max_dates": 1}, (1,))):
        assert _plan(catalog, tmp_path, target="2021-06-08", **asked).job.targets[0].dates == dates


@pytest.mark.parametrize(("target", "shown"), [("2021-06-04", 0), ("2021-06-09", 1), ("2021-06-13", 2)])
def test_the_picture_shows_the_date_that_is_nearest_and_no_cloud_of_it(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, shown: int
) -> None:
    job = _plan(catalog, tmp_path, target=target, coregister=False).job
    cube = job.cube()
    told: dict[str, Any] = {}
    nothing = np.full((4, 360, 320), np.nan, np.float32)
    monkeypatch.setattr(pictures, "_stored", lambda *_: (nothing, nothing))
    monkeypatch.setattr(pictures, "thumbnail", lambda *_, **__: None)
    monkeypatch.setattr(pictures, "quicklook", lambda low, *_, **options: told.update(options, low=low))
    pictures.draw(job, cube)
    assert told["dates"] == [f"2021-06-{3 + 5 * shown:02}", target]
    assert told["rgb"] == (2, 1, 0)
    np.testing.assert_array_equal(told["low"], cube[shown].values)
    assert np.isnan(told["low"]).any() == (shown == 0)


def test_the_speed_counts_only_what_this_run_restored(catalog: Path, tmp_path: Path) -> None:
    plan = _plan(catalog, tmp_path, every="5D", coregister=False)
    assert (len(plan.job.targets), plan.area_km2) == (4, pytest.approx(0.72, rel=0.01))
    told = speed_of(plan, 0.25, 2.0)
    assert (told["seconds"], told["km2"], told["km2_per_s"]) == pytest.approx((2, 0.72, 0.36), rel=0.01)
