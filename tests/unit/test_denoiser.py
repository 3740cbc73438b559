"""The trunk: what it must not see, and what it must not care about. Cells here are vessels: anywhere, all to all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodiff.model.denoiser import Denoiser
from geodiff.model.raster import grid_neighbours
from geodiff.model.tokens import Tokens

WIDTH = 16
CLOSE = {"atol": 2e-5, "rtol": 0.0}


@pytest.fixture(scope="module")
def trunk() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(width=WIDTH, heads=2, layers=2).eval()


def _fleet(times: int = 5, cells: int = 7, *, seed: int = 1, level: Tensor | float = 0.0, batch: int = 2) -> Tokens:
    random = torch.Generator().manual_seed(seed)
    return Tokens(
        payload=torch.randn((batch, times, cells, WIDTH), generator=random),
        days=(torch.rand((batch, times), generator=random) * 300).sort(-1).values,
        place_m=torch.randn((batch, cells, 2), generator=random) * 5000,
        level=torch.as_tensor(level).expand(batch, times, cells) if isinstance(level, float) else level,
        valid=torch.rand((batch, times, cells), generator=random) < 0.7,
        neighbours=torch.arange(cells).expand(cells, cells),
        near=torch.ones(cells, cells, dtype=torch.bool),
    )


def _target(clean: Tokens, *, times: int = 1, seed: int = 9, level: Tensor | float = 0.6) -> Tokens:
    fleet = _fleet(times, clean.payload.shape[2], seed=seed, level=level)
    return replace(fleet, place_m=clean.place_m, valid=torch.ones_like(fleet.valid))


def _run(trunk: Denoiser, clean: Tokens, noisy: Tokens) -> Tensor:
    with torch.inference_mode():
        return trunk.denoise(noisy, trunk.encode(clean))


def _dates(tokens: Tokens, order: Tensor) -> Tokens:
    return replace(
        tokens,
        payload=tokens.payload[:, order],
        days=tokens.days[:, order],
        level=tokens.level[:, order],
        valid=tokens.valid[:, order],
    )


def _cells(tokens: Tokens, order: Tensor) -> Tokens:
    return replace(
        tokens,
        payload=tokens.payload[:, :, order],
        place_m=tokens.place_m[:, order],
        level=tokens.level[:, :, order],
        valid=tokens.valid[:, :, order],
    )


def test_vessels_at_any_place_pass_through_untouched_code(trunk: Denoiser) -> None:
    clean = _fleet()
    out = _run(trunk, clean, _target(clean, times=3))
    assert out.shape == (2, 3, 7, WIDTH)
    assert out.isfinite().all()


def test_the_order_of_dates_is_of_no_account(trunk: Denoiser) -> None:
    clean, noisy = _fleet(), _target(_fleet())
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        straight, mixed = trunk.encode(clean), trunk.encode(_dates(clean, order))
    torch.testing.assert_close(mixed.output, straight.output[:, order], **CLOSE)
    torch.testing.assert_close(_run(trunk, _dates(clean, order), noisy), _run(trunk, clean, noisy), **CLOSE)


def test_the_order_of_vessels_permutes_the_result(trunk: Denoiser) -> None:
    clean = _fleet()
    noisy, order = _target(clean), torch.tensor([6, 2, 0, 5, 1, 3, 4])
    mixed = _run(trunk, _cells(clean, order), _cells(noisy, order))
    torch.testing.assert_close(mixed, _run(trunk, clean, noisy)[:, :, order], **CLOSE)


def test_what_a_masked_token_holds_reaches_no_other(trunk: Denoiser) -> None:
    clean = _fleet()
    noisy = _target(clean)
    garbage = torch.where(clean.valid[..., None], clean.payload, torch.full_like(clean.payload, 1e4))
    dirty = replace(clean, payload=garbage)
    assert torch.equal(_run(trunk, dirty, noisy), _run(trunk, clean, noisy))
    with torch.inference_mode():
        seen, clear = trunk.encode(dirty).output, trunk.encode(clean).output
    assert torch.equal(seen[clean.valid], clear[clean.valid])


def test_a_valid_token_does_reach_the_others(trunk: Denoiser) -> None:
    clean = replace(_fleet(), valid=torch.ones(2, 5, 7, dtype=torch.bool))
    noisy, changed = _target(clean), clean.payload.clone()
    changed[:, 2, 3, 0] += 1.0
    difference = (_run(trunk, replace(clean, payload=changed), noisy) - _run(trunk, clean, noisy)).abs().amax(-1)
    assert (difference > 1e-6).all(), "in time at its own cell, in space at the others"


def test_a_date_without_a_valid_token_changes_nothing(trunk: Denoiser) -> None:
    clean = _fleet()
    more = _fleet(6)
    more = replace(
        more,
        payload=torch.cat([clean.payload, 100 * more.payload[:, -1:]], 1),
        days=torch.cat([clean.days, more.days[:, -1:]], 1),
        place_m=clean.place_m,
        valid=torch.cat([clean.valid, torch.zeros(2, 1, 7, dtype=torch.bool)], 1),
    )
    noisy = _target(clean)
    torch.testing.assert_close(_run(trunk, more, noisy), _run(trunk, clean, noisy), **CLOSE)


def test_a_series_without_any_valid_token_still_gives_numbers(trunk: Denoiser) -> None:
    clean = replace(_fleet(), valid=torch.zeros(2, 5, 7, dtype=torch.bool))
    assert _run(trunk, clean, _target(clean)).isfinite().all()


@pytest.mark.parametrize("days", [1.0, -365.0, 4000.0])
def test_only_differences_of_days_matter(trunk: Denoiser, days: float) -> None:
    clean = _fleet()
    noisy = _target(clean)
    moved = _run(trunk, replace(clean, days=clean.days + days), replace(noisy, days=noisy.days + days))
    torch.testing.assert_close(moved, _run(trunk, clean, noisy), atol=2e-3 if abs(days) > 1000 else 2e-4, rtol=0)
    alone = _run(trunk, clean, replace(noisy, days=noisy.days + days))
    assert (alone - _run(trunk, clean, noisy)).abs().max() > 1e-4, "the distance to the dates matters"


def test_only_differences_of_places_matter(trunk: Denoiser) -> None:
    clean = _fleet()
    noisy, step = _target(clean), torch.tensor([400.0, -1200.0])
    moved = _run(trunk, replace(clean, place_m=clean.place_m + step), replace(noisy, place_m=noisy.place_m + step))
    torch.testing.assert_close(moved, _run(trunk, clean, noisy), atol=2e-3, rtol=0)
    for stretch in (torch.tensor([1.1, 1.0]), torch.tensor([1.0, 1.1])):
        place = clean.place_m * stretch
        wide = _run(trunk, replace(clean, place_m=place), replace(noisy, place_m=place))
        assert (wide - _run(trunk, clean, noisy)).abs().max() > 1e-3, "down as well as right"


def test_clean_tokens_do_not_depend_on_noisy_ones(trunk: Denoiser) -> None:
    clean = _fleet()
    with torch.inference_mode():
        context = trunk.encode(clean)
        before = [part.clone() for part in (*context.keys, *context.values, context.output)]
        trunk.denoise(_target(clean), context)
        after = [*context.keys, *context.values, context.output]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_every_token_has_its_own_noise_level(trunk: Denoiser) -> None:
    clean = _fleet()
    level = torch.full((2, 3, 7), 0.4)
    raised = level.clone()
    raised[0, 1, 2] = 0.9
    low = _run(trunk, clean, _target(clean, times=3, level=level))
    high = _run(trunk, clean, _target(clean, times=3, level=raised))
    changed = (high - low).abs().amax(-1)
    assert changed[0, 1, 2] > 1e-3
    assert torch.equal(high[1], low[1]), "another batch element is not touched"
    # One level for all is the same as that level spelled out.
    shared = _run(trunk, clean, replace(_target(clean, times=3), level=torch.full((1, 1, 1), 0.4)))
    torch.testing.assert_close(shared, low, **CLOSE)


def test_a_neighbour_that_is_not_near_is_not_seen(trunk: Denoiser) -> None:
    clean = replace(_fleet(), valid=torch.ones(2, 5, 7, dtype=torch.bool))
    alone = torch.eye(7, dtype=torch.bool)
    clean, noisy = replace(clean, near=alone), replace(_target(clean), near=alone)
    changed = clean.payload.clone()
    changed[:, :, 3, 0] += 1.0
    difference = (_run(trunk, replace(clean, payload=changed), noisy) - _run(trunk, clean, noisy)).abs().amax((0, 1, 3))
    assert difference[3] > 1e-6
    assert difference[[0, 1, 2, 4, 5, 6]].max() == 0


def test_cells_of_a_raster_that_all_see_each_other_are_a_fleet(trunk: Denoiser) -> None:
    """A neighbourhood that the border cuts repeats cells: each counts once, the cell itself among them."""
    clean = _fleet(cells=6)
    noisy = _target(clean)
    neighbours, near = grid_neighbours(2, 3, 2)
    raster = [replace(tokens, neighbours=neighbours, near=near) for tokens in (clean, noisy)]
    torch.testing.assert_close(_run(trunk, *raster), _run(trunk, clean, noisy), **CLOSE)


def test_elements_of_a_batch_do_not_meet(trunk: Denoiser) -> None:
    clean = _fleet()
    noisy = _target(clean)
    first = [
        replace(t, payload=t.payload[:1], days=t.days[:1], place_m=t.place_m[:1], level=t.level[:1], valid=t.valid[:1])
        for t in (clean, noisy)
    ]
    torch.testing.assert_close(_run(trunk, first[0], first[1]), _run(trunk, clean, noisy)[:1], **CLOSE)


def test_gradients_reach_every_parameter(trunk: Denoiser) -> None:
    clean = _fleet()
    trunk.zero_grad()
    trunk.denoise(_target(clean), trunk.encode(clean)).square().sum().backward()
    silent = [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    trunk.zero_grad()
    assert silent == []
