"""How much of the mean comes from the target date alone: what errs least where the ground changed between dates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.model.draft import Draft
from geodiff.model.resolver import DiffusionResolver
from geodiff.tasks.calibrate_pairs import HeldPair
from geodiff.tasks.calibrate_spectra import inner

Array = npt.NDArray[np.float64]

Drafter = Callable[[DiffusionResolver, HeldPair, int], Draft | None]
"""Drafts a pair with a model and the seed of its noise."""

SHARES = tuple(np.linspace(0.0, 1.0, 11).round(2).tolist())
SMALLEST = 400
"""High-resolution pixels of an observed target below which a pair tells nothing."""


def with_own_share(
    resolver: DiffusionResolver, pairs: Sequence[HeldPair], seed: int, drafter: Drafter
) -> tuple[DiffusionResolver, dict[str, Any]]:
    """The resolver with the share that gains most over the date alone, on average over places.

    Only pairs with real other dates count: where other dates are the same ground relit, they tell more than those of
    real series do. Everything behind the share is linear in it, the hard constraint included, so that two
    restorations tell all.

    Args:
        resolver: not calibrated.
        pairs: ground with its truth; those with one date, or whose target is hidden, tell nothing. Where no pair tells
            of the share, it stays what it is.
        seed: of the noise, which the mean does not see.
        drafter: makes the drafts.

    Returns:
        The resolver, and for the card the decibels above the date alone by share, mean and worst place.
    """
    gains: dict[str, list[Array]] = {}
    for pair in pairs:
        found = _gains(resolver, pair, seed, drafter) if pair.changes and not pair.covered else None
        if found is not None:
            gains.setdefault(pair.place, []).append(found)
    if not gains:
        return resolver, {"share": resolver.own_share, "from": "not fitted: no place has real other dates"}
    places = np.stack([np.mean(rows, axis=0) for rows in gains.values()])
    mean, worst = places.mean(0), places.min(0)
    best = int(mean.argmax())
    rows = zip(SHARES, mean, worst, strict=True)
    table = {f"{share:g}": [round(float(each), 4), round(float(least), 4)] for share, each, least in rows}
    told = {"share": SHARES[best], "places": sorted(gains), "db_over_date_alone_mean_and_worst": table}
    return replace(resolver, own_share=SHARES[best]), told


def _gains(resolver: DiffusionResolver, pair: HeldPair, seed: int, drafter: Drafter) -> Array | None:
    """Decibels of squared error below that of the date alone, by share; None where the pair tells nothing."""
    target = pair.patch.target_index
    if target is None or len(pair.patch.days) < 2 or not pair.patch.valid[target].any():
        return None
    drafts = [drafter(replace(resolver, own_share=share, passes=1), pair, seed) for share in (0.0, 1.0)]
    shown = [draft for draft in drafts if draft is not None]
    if len(shown) < len(drafts):
        return None
    mixed, own = (resolver.finish(draft).mean for draft in shown)
    seen = shown[0].observed.numpy().repeat(resolver.scale, 0).repeat(resolver.scale, 1)
    keep = inner(pair.clear & seen & np.isfinite(own).all(0))
    if keep.sum() < SMALLEST:
        return None
    start, step = (inner(image)[:, keep].astype(np.float64) for image in (mixed - pair.truth, own - mixed))
    errors = np.array([np.square(start + share * step).mean() for share in SHARES])
    gains: Array = 10 * np.log10(errors[-1] / errors)
    return gains
