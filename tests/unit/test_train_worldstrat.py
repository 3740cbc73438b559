"""Pairs of low and registered high resolution as batches: aligned, masked, and nothing skipped in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives arrays the accessor .rio
import torch
import xarray as xr

from geodiff.model.optics import see
from geodiff.schema import BAND, BANDS_10M, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, X, Y
from geodiff.sensor import band_mtf
from geodiff.tasks.train_data import TrainConfig
from geodiff.tasks.train_worldstrat import KEPT_SITES, SiteSource, load_site
from geodiff.testing.small_catalog import small_ground

pytest.importorskip("lightning", reason="training needs the extra geodiff[train]")

MTF = band_mtf(BANDS_10M)
CONFIG = TrainConfig(batch=6, patch_px=8, dates=(3,))


@dataclass
class FakeSite:
    """A place whose dates are its truth, degraded, in another light each."""

    name: str
    dates: int = 4
    unknown: int = 0
    loads: int = 0

    def load(self) -> tuple[xr.DataArray, float, FloatArray, BoolArray]:
        self.loads += 1
        truth = small_ground((96, 96), seed=sum(map(ord, self.name)))
        low = see(torch.from_numpy(truth), 4, MTF).numpy()
        images = np.stack([low * (1 + 0.01 * ((date - 1) % self.dates)) for date in range(self.dates)])
        valid = np.ones((self.dates, 24, 24), bool)
        clear = np.ones((24, 24), bool)
        clear[:, : self.unknown] = False
        truth = truth.copy()
        truth[:, :, : 4 * self.unknown] = np.nan
        coords: dict[str, Any] = {
            TIME: (np.datetime64("2020-01-01", "ns") + 86_400_000_000_000 * 10 * np.arange(self.dates)),
            BAND: list(BANDS_10M),
            Y: 4_600_000 - 10.0 * np.arange(24),
            X: 500_000 + 10.0 * np.arange(24),
            VALID: ((TIME, Y, X), valid),
        }
        cube = xr.DataArray(images.astype(np.float32), dims=CUBE_DIMS, coords=coords).rio.write_crs("EPSG:32631")
        return cube, 18_262.0 + 10.0, truth, clear


def test_patches_are_aligned_however_they_are_turned() -> None:
    source = SiteSource([FakeSite("a"), FakeSite("b")], CONFIG)
    inner = (..., slice(2, -2), slice(2, -2))
    for step in range(4):
        pair = source.batch(step)
        assert pair.series.reflectance.shape == (6, 3, 4, 8, 8)
        target = (pair.series.days == 0).float().argmax(1)
        low = pair.series.reflectance[torch.arange(6), target]
        torch.testing.assert_close(see(pair.target, 4, MTF)[inner], low[inner], atol=2e-3, rtol=0)
        assert pair.clear.all()
        assert torch.isfinite(pair.target).all()
        days = pair.series.days.round()
        assert set(days.flatten().tolist()) <= {-10.0, 0.0, 10.0, 20.0}


def test_what_is_not_known_is_masked_and_finite() -> None:
    source = SiteSource([FakeSite("a", unknown=4)], CONFIG)
    shares = []
    for step in range(4):
        pair = source.batch(step)
        assert torch.isfinite(pair.target).all()
        shares.append(pair.clear.flatten(1).float().mean(1))
    share = torch.cat(shares)
    assert share.min() >= 0.7
    assert share.min() < 1.0


def test_a_place_of_few_dates_is_filled_up_with_hidden_ones() -> None:
    pair = SiteSource([FakeSite("a", dates=2)], CONFIG).batch(0)
    assert pair.series.days.shape == (6, 3)
    assert (pair.series.valid.flatten(2).any(2).sum(1) <= 2).all()


def test_a_batch_depends_on_seed_and_step_alone_and_places_are_read_once() -> None:
    sites = [FakeSite(name) for name in "abc"]
    source = SiteSource(sites, CONFIG, seed=3)
    again = SiteSource([FakeSite(name) for name in "abc"], CONFIG, seed=3)
    for step in range(6):
        source.batch(step)
    one, other = source.batch(4), again.batch(4)
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.series.reflectance, other.series.reflectance)
    assert [site.loads for site in sites] == [1, 1, 1]
    assert len(sites) <= KEPT_SITES


def test_a_broken_place_ends_the_training_with_its_name() -> None:
    class Broken(FakeSite):
        def load(self) -> tuple[xr.DataArray, float, FloatArray, BoolArray]:
            raise GeodiffError(f"{self.name}/x.tiff is cut short: download it again")

    source = SiteSource([FakeSite("a"), Broken("broken")], CONFIG)
    with pytest.raises(GeodiffError, match=r"broken/x\.tiff"):
        [source.batch(step) for step in range(20)]
    with pytest.raises(GeodiffError, match="lower patch_px"):
        SiteSource([FakeSite("a")], CONFIG.model_copy(update={"patch_px": 32})).batch(0)


def test_displacements_are_told_against_the_target() -> None:
    site = load_site(FakeSite("a"), 4)
    assert site.target == 1
    assert np.abs(site.shift_px).max() < 0.1
    assert (site.shift_px[1] == 0).all()
    assert site.pixel_m == pytest.approx(10.0, rel=0.01)
