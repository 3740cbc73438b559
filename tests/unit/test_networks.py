"""The trained peers: honest resolvers that learn, with checkpoints that are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodiff.imagery.places import TERMS
from geodiff.model.baselines import BicubicResolver
from geodiff.model.highresnet import HighResNet, HighResNetResolver, by_closeness, clear_median, inner_mean
from geodiff.model.images import Series
from geodiff.model.networks import KINDS, load_network, make_network, network_resolver, save_network
from geodiff.model.patches import patch_series
from geodiff.model.srdiff import SRDiff, SRDiffResolver, cosine_signal, posterior, selected_steps
from geodiff.schema import BANDS_10M, FloatArray, GeodiffError, Patch, Resolver, UsageError
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.model_item import publish_model
from geodiff.tasks.models import find_model, load_resolver
from geodiff.tasks.wald import wald
from geodiff.testing.tiny_models import random_cube, random_patch, reordered, tiny_weights
from geodiff.testing.tiny_networks import tiny_network, tiny_network_weights


def _resolver(name: str, **sizes: Any) -> Resolver:
    model = tiny_network(name, **sizes)
    if isinstance(model, SRDiff):
        return SRDiffResolver(name, model, model.config.steps)
    return HighResNetResolver(name, model)


@pytest.fixture(scope="module", params=list(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def resolver(name: str) -> Resolver:
    return _resolver(name)


@pytest.mark.parametrize("dates", [1, 2, 3, 5, 6])
def test_any_number_of_dates_in_any_order(resolver: Resolver, dates: int) -> None:
    patch = random_patch((10, 12), dates=dates, clouds=0.3)
    order = list(np.random.default_rng(0).permutation(dates))
    first, second = (resolver.restore(p, members=2, seed=0) for p in (patch, reordered(patch, order)))
    assert first.mean.shape == (4, 40, 48)
    assert first.members.shape == ((2 if isinstance(resolver, SRDiffResolver) else 0), 4, 40, 48)
    assert first.mean.dtype == first.members.dtype == np.float32
    np.testing.assert_allclose(first.mean, second.mean, atol=1e-5)


def test_every_clear_date_counts_and_none_under_cloud(resolver: Resolver) -> None:
    patch = random_patch((12, 12), dates=4)
    patch = replace(patch, shift_px=np.zeros_like(patch.shift_px))
    before = resolver.restore(patch, members=0, seed=0).mean
    for date in range(4):
        changed = patch.reflectance.copy()
        changed[date, :, 5:8, 5:8] += 0.5
        assert (
            np.abs(resolver.restore(replace(patch, reflectance=changed), members=0, seed=0).mean - before).max() > 5e-6
        )
    valid = patch.valid.copy()
    valid[2, 2:9, 2:9] = False
    hidden = resolver.restore(replace(patch, valid=valid), members=0, seed=0).mean
    for garbage in (0.9, np.nan, np.inf):
        dirty = np.where(valid[:, None], patch.reflectance, np.float32(garbage))
        found = resolver.restore(replace(patch, reflectance=dirty, valid=valid), members=0, seed=0).mean
        np.testing.assert_array_equal(found, hidden)


def test_what_no_date_shows_is_nan(resolver: Resolver) -> None:
    patch = random_patch((12, 12))
    patch = replace(patch, shift_px=np.zeros_like(patch.shift_px))
    valid = patch.valid.copy()
    valid[:, 4:8, 2:6] = False
    mean = resolver.restore(replace(patch, valid=valid), members=1, seed=0).mean
    wanted = np.zeros((48, 48), bool)
    wanted[16:32, 8:24] = True
    np.testing.assert_array_equal(np.isnan(mean), np.broadcast_to(wanted, mean.shape))
    dark = resolver.restore(replace(patch, valid=np.zeros_like(valid)), members=2, seed=0)
    assert np.isnan(dark.mean).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 17)])
def test_patches_of_any_size_and_place(resolver: Resolver, shape: tuple[int, int]) -> None:
    mean = resolver.restore(random_patch(shape, origin_px=(-3, 7)), members=1, seed=0).mean
    assert mean.shape == (4, 4 * shape[0], 4 * shape[1])
    assert np.isfinite(mean).all()


def test_what_lies_far_away_does_not_count(name: str) -> None:
    """No statistics over the patch: a tile's neighbours may be cut anywhere beyond the reach of the convolutions."""
    resolver = _resolver(name)
    patch = random_patch((20, 64), dates=3)
    cut = replace(patch, reflectance=patch.reflectance[..., :44], valid=patch.valid[..., :44])
    whole, part = (resolver.restore(p, members=1, seed=0).mean for p in (patch, cut))
    np.testing.assert_allclose(part[..., : 4 * 12], whole[..., : 4 * 12], atol=1e-6)


def test_the_median_resists_an_outlier_and_the_order_is_by_season() -> None:
    patch = random_patch((8, 8), dates=5)
    patch = replace(patch, shift_px=np.zeros_like(patch.shift_px))
    patch.reflectance[:] = 0.2
    patch.reflectance[0] = 0.9
    series, _ = patch_series(patch)
    torch.testing.assert_close(clear_median(series), torch.full((1, 4, 8, 8), 0.2))
    assert by_closeness(torch.tensor([[100.0, -10.0, 0.0, 10.0, 365.25]]))[0].tolist() == [2, 1, 3, 4, 0]


def test_the_loss_counts_the_inner_and_clear_pixels_alone() -> None:
    error = torch.ones(2, 1, 64, 64)
    error[:, :, :8], error[0, :, 32:] = 100.0, 3.0
    clear = torch.zeros(2, 64, 64, dtype=torch.bool)
    clear[0, 32:] = True
    assert inner_mean(error, clear).tolist() == [3.0, 0.0]
    assert inner_mean(error, None)[1].item() == 1.0


# The chain of SRDiff against closed forms.


def test_the_cosine_schedule_is_that_of_the_paper() -> None:
    signal = cosine_signal(100).numpy()
    time = np.arange(101) / 100
    wanted = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(signal[:-1], (wanted / wanted[0])[:-1], rtol=1e-9)
    np.testing.assert_allclose(signal[-1], signal[-2] * 1e-3, rtol=1e-9)
    assert signal[0] == 1.0
    assert (np.diff(signal) < 0).all()


@pytest.mark.parametrize(("here", "there"), [(0.1, 0.5), (1e-6, 0.9), (0.98, 0.999)])
def test_the_posterior_is_that_of_bayes(here: float, there: float) -> None:
    """x_s = sqrt(b) x0 + N(0, 1-b), x_t = sqrt(a/b) x_s + N(0, 1-a/b): condition the first on the second by Gauss."""
    of_clean, of_noisy, deviation = posterior(here, there)
    ratio = here / there
    precision = 1 / (1 - there) + ratio / (1 - ratio)
    assert deviation**2 == pytest.approx(1 / precision, rel=1e-6)
    assert of_clean == pytest.approx(np.sqrt(there) / (1 - there) / precision, rel=1e-6)
    assert of_noisy == pytest.approx(np.sqrt(ratio) / (1 - ratio) / precision, rel=1e-6)


def test_selected_steps_are_even_and_end_the_chain() -> None:
    assert selected_steps(100, 100) == tuple(range(100, 0, -1))
    assert selected_steps(100, 4) == (100, 75, 50, 25)
    assert selected_steps(100, 1) == (100,)
    assert selected_steps(5, 99) == (5, 4, 3, 2, 1)


@pytest.mark.parametrize("passes", [100, 25])
def test_the_chain_draws_the_distribution_of_a_perfect_network(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For Gaussian residuals of mean m and variance v the best velocity is known, and so is what is drawn."""
    mean, variance = 0.7, 0.25
    model = tiny_network("srdiff", steps=100)
    assert isinstance(model, SRDiff)

    def velocity(x: torch.Tensor, step: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        kept, mixed = model.shares(step)
        gain = _gain(float(model.signal[step]), variance)
        clean = mean + gain * (x - kept * mean)
        return (kept * x - clean) / mixed

    monkeypatch.setattr(model, "velocity", velocity)
    resolver = SRDiffResolver("perfect", model, passes)
    patch = random_patch((16, 16), dates=1)
    base = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    drawn = (resolver.restore(patch, members=4, seed=0).members - base) / 0.02
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.02)
    wanted = _variance(model, passes, variance)
    assert float(drawn.var()) == pytest.approx(wanted, rel=0.04)
    # A selection of the steps, which takes the estimate for the truth over longer ways, is a little too sure.
    assert wanted == pytest.approx(variance, rel=0.1 if passes == 100 else 0.25)


def _gain(signal: float, variance: float) -> float:
    return float(np.sqrt(signal) * variance / (signal * variance + 1 - signal))


def _variance(model: SRDiff, passes: int, variance: float) -> float:
    """Of what the chain ends with: every step is linear."""
    steps, found = selected_steps(model.config.steps, passes), 1.0
    for here, there in pairwise(steps):
        signal = float(model.signal[here])
        of_clean, of_noisy, deviation = posterior(signal, float(model.signal[there]))
        found = (of_clean * _gain(signal, variance) + of_noisy) ** 2 * found + deviation**2
    return _gain(float(model.signal[steps[-1]]), variance) ** 2 * found


def test_members_are_keyed_by_seed_and_place_and_more_keep_the_first() -> None:
    resolver = _resolver("srdiff")
    patch = random_patch((8, 8))
    two, three = (resolver.restore(patch, members=n, seed=0) for n in (2, 3))
    np.testing.assert_array_equal(three.members[:2], two.members)
    np.testing.assert_allclose(two.mean, two.members.mean(0), atol=1e-6)
    np.testing.assert_array_equal(resolver.restore(patch, members=0, seed=0).mean, two.members[0])
    assert np.abs(two.members[0] - two.members[1]).max() > 1e-4
    for other in (
        resolver.restore(patch, members=1, seed=1),
        resolver.restore(replace(patch, origin_px=(64, 3)), members=1, seed=0),
    ):
        assert np.abs(other.members[0] - two.members[0]).max() > 1e-4


def test_the_noise_of_a_sample_is_that_of_the_lattice() -> None:
    """The same ground in a patch that begins elsewhere has the same sample, but for the borders' padding."""
    resolver = _resolver("srdiff")
    patch = random_patch((32, 48), dates=1, origin_px=(100, -7))
    moved = replace(patch, reflectance=patch.reflectance[..., 5:], valid=patch.valid[..., 5:], origin_px=(100, -2))
    whole, part = (resolver.restore(p, members=1, seed=3).members[0] for p in (patch, moved))
    np.testing.assert_allclose(part[..., 80:], whole[..., 100:], atol=1e-6)


# Learning.


def _stripes() -> tuple[Patch, FloatArray]:
    light = (np.arange(32) + 3) // 11 % 2 > 0
    truth = np.broadcast_to(np.where(light, 0.35, 0.1), (4, 32, 32)).astype(np.float32)
    patch = random_patch((8, 8), dates=2)
    low = degrade(truth, 4, band_mtf(BANDS_10M))
    return replace(patch, reflectance=np.stack([low, low]), shift_px=np.zeros_like(patch.shift_px)), truth


@pytest.mark.parametrize(
    ("name", "rate", "steps", "least_db"), [("highresnet", 3e-3, 30, 2.0), ("srdiff", 4e-3, 60, 1.0)]
)
def test_it_learns_a_patch_by_heart(name: str, rate: float, steps: int, least_db: float) -> None:
    patch, truth = _stripes()
    series, _ = patch_series(patch)
    parts = {field.name: getattr(series, field.name) for field in fields(series)}
    copies = Series(**{name: part if part is None else part.repeat_interleave(4, 0) for name, part in parts.items()})
    target = torch.from_numpy(truth.copy()).expand(4, -1, -1, -1)
    base = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    miss = float(np.sqrt(np.square(base - truth).mean()))
    sizes = {"width": 16, "encoder_blocks": 1} | ({"unet_width": 16, "levels": 2} if name == "srdiff" else {})
    values = {"bands": BANDS_10M, "scale": 4, "residual_scale": (miss,) * 4, **sizes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make_network(name, values, where="test").train()
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        loss = model.loss(copies, target, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
    model.eval()
    found = SRDiffResolver("x", model, 20) if isinstance(model, SRDiff) else HighResNetResolver("x", model)
    error = float(np.sqrt(np.square(found.restore(patch, members=4, seed=0).mean - truth).mean()))
    assert 20 * np.log10(miss / error) > least_db


# Checkpoints.


def test_a_checkpoint_gives_the_same_network_back(name: str, tmp_path: Path) -> None:
    path = tiny_network_weights(tmp_path, name, card={"places": ["somewhere"]})
    model, card = load_network(path)
    assert card["places"] == ["somewhere"]
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    patch = random_patch((8, 8))
    first, second = (r.restore(patch, members=1, seed=0).mean for r in (_resolver(name), network_resolver(path, name)))
    np.testing.assert_array_equal(first, second)


def test_the_steps_of_the_chain_are_chosen_in_the_card(tmp_path: Path) -> None:
    path = tiny_network_weights(tmp_path, "srdiff", card={"sampling_steps": 2})
    resolver = network_resolver(path, "x")
    assert isinstance(resolver, SRDiffResolver)
    assert resolver.passes == 2
    for count in (0, 5, "2", True):
        save_network(tiny_network("srdiff"), path, card={"sampling_steps": count})
        with pytest.raises(GeodiffError, match="its chain has 1 to 4"):
            network_resolver(path, "x")


def _damage(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        card = json.loads(path.with_suffix(".json").read_text())
        change(card)
        path.with_suffix(".json").write_text(json.dumps(card))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no weights"),
        (lambda path: path.write_bytes(b"\x80\x04pickle"), "never loaded"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "SHA-256 differs"),
        (_damage(lambda card: card.update(kind="other")), "does not describe"),
        (_damage(lambda card: card.update(config=3)), "no configuration"),
        (_damage(lambda card: card["config"].update(width=10**9)), "width has the impossible value"),
        (_damage(lambda card: card["config"].update(width=True)), "width has the impossible value"),
        (_damage(lambda card: card["config"].update(scale=0)), "scale has the impossible value"),
        (_damage(lambda card: card["config"].update(bands="B02")), "bands has the impossible value"),
        (_damage(lambda card: card["config"].update(residual_scale=[0.1])), "residual_scale has the impossible value"),
        (_damage(lambda card: card["config"].update(extra=1)), "extra is unknown"),
        (_damage(lambda card: card["config"].pop("width")), "width is missing"),
        (_damage(lambda card: card["config"].update(width=16)), "another shape"),
    ],
)
def test_damaged_checkpoints_are_refused_in_one_line(
    damage: Callable[[Path], None], message: str, name: str, tmp_path: Path
) -> None:
    path = tiny_network_weights(tmp_path, name)
    damage(path)
    with pytest.raises(GeodiffError, match=message) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="does not describe a geodiff-highresnet or geodiff-srdiff"):
        load_network(tiny_weights(tmp_path))
    with pytest.raises(UsageError, match="give one of highresnet, srdiff"):
        make_network("unet", {}, where="here")
    with pytest.raises(UsageError, match="here: 3 levels of a U-Net do not divide a scale of 3"):
        make_network("srdiff", {"bands": ("B02",), "scale": 3, "residual_scale": (0.1,)}, where="here")
    with pytest.raises(UsageError, match="here: bands is missing"):
        make_network("highresnet", {}, where="here")


def test_an_untrained_network_is_nearly_bicubic() -> None:
    model = make_network("highresnet", {"bands": BANDS_10M, "scale": 4, "residual_scale": (0.02,) * 4}, where="t")
    assert isinstance(model, HighResNet)
    patch = random_patch((12, 12))
    wanted = BicubicResolver(BANDS_10M).restore(patch, members=0, seed=0).mean
    found = HighResNetResolver("x", model.eval()).restore(patch, members=0, seed=0).mean
    assert np.abs(found - wanted).max() < 0.01


def test_a_peer_is_published_as_it_is(name: str, tmp_path: Path) -> None:
    """Its item names the kind, its card says what it learned from, and what is found by the item restores as before."""
    card = {"places": ["majortom"], "training_places": ["majortom"]}
    weights = tiny_network_weights(tmp_path, name, card=card)
    item = publish_model(weights, None, tmp_path / "models", "mine")
    told = json.loads(item.read_text())
    assert told["properties"]["mlm:architecture"] == {"highresnet": "HighResNet", "srdiff": "SRDiff"}[name]
    stored = json.loads((tmp_path / "models" / "mine" / "weights.json").read_text())
    assert told["properties"]["geodiff:sha256"] == stored["sha256"]
    assert [band["name"] for band in told["properties"]["bands"]] == list(load_resolver(find_model(str(item))).bands)
    assert stored["terms"] == {"majortom": TERMS["majortom"]}
    assert stored["training_places"] == ["majortom"]
    patch = random_patch((8, 8), dates=2)
    found, before = (load_resolver(find_model(str(path))).restore(patch, members=0, seed=1) for path in (item, weights))
    np.testing.assert_array_equal(found.mean, before.mean)


def test_a_denoiser_is_not_published_without_ground_to_calibrate_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        publish_model(tiny_weights(tmp_path), None, tmp_path / "models", "mine")


def test_the_wald_protocol_scores_the_mean_of_members_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, set[int]] = {}
    cube = random_cube((96, 96), dates=2, clouds=0.0)
    peers = [_resolver("highresnet"), _resolver("srdiff")]
    for peer in peers:
        kind = type(peer)

        def spy(self: Resolver, patch: Patch, *, members: int, seed: int, own: Any = kind.restore) -> Any:
            asked.setdefault(type(self).__name__, set()).add(members)
            return own(self, patch, members=members, seed=seed)

        monkeypatch.setattr(kind, "restore", spy)
    wald(cube, peers, hidden=False)
    assert asked == {"HighResNetResolver": {0}, "SRDiffResolver": {4}}
