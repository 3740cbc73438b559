"""What members and intervals of a model must be: fitted on ground that the training never saw, and told with figures.

Of ground that changes between dates, which alone tells what hidden dates are like, too little is unseen: there the real
series of the training count as well, and the card names them.

First the filter of the members (``calibrate_members``), then the intervals about the mean (``calibrate_intervals``).
Everything is averaged over places, not over pixels. Coverage is measured on places that the quantiles were not
taken from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage, stats

from geodiff.metrics.ensemble import fair_crps, independent_draws, spread_skill
from geodiff.model.brightness import fit_brightness
from geodiff.model.conformal import GUESS_PX, LEVELS, normal_half_width
from geodiff.model.draft import Draft
from geodiff.model.members import DeviationFilter
from geodiff.model.patches import one_thread
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import FloatArray
from geodiff.tasks.calibrate_intervals import (
    FEWEST_PLACES,
    Scores,
    coverage_of,
    fit_table,
    gather,
    leave_one_out,
    place_level,
)
from geodiff.tasks.calibrate_members import (
    brightness_ratios,
    clear_pairs,
    fit_filter,
    fit_hidden_filter,
    fit_scalar,
    measure,
    wide_pairs,
)
from geodiff.tasks.calibrate_pairs import HeldPair
from geodiff.tasks.calibrate_share import Drafter, with_own_share
from geodiff.tasks.calibrate_spectra import inner
from geodiff.tasks.calibrate_texture import fit_power

MEMBERS = 4
"""Of the ensembles that are calibrated: the default of the main job."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a card says.

    Attributes:
        spread: by number of passes, the filter (``model.members``).
        spread_hidden: the same where the target date was hidden; empty where no pair tells of it.
        brightness: of hidden dates, as rows (``model.brightness``); empty where no pair tells of it.
        conformal: by number of passes, the table (``model.conformal``); "1" is that of the mean alone.
        figures: by number of passes, what was found before and after.
        own_share: of the mean (``DiffusionResolver.own_share``).
    """

    spread: Mapping[str, Any]
    spread_hidden: Mapping[str, Any]
    brightness: Any
    conformal: Mapping[str, Any]
    figures: Mapping[str, Any]
    own_share: float


def draft_alone(resolver: DiffusionResolver, pair: HeldPair, seed: int) -> Draft | None:
    """The draft of a model that needs no other."""
    return resolver.draft(pair.patch, members=MEMBERS, seed=seed)


def calibrate(
    resolver: DiffusionResolver,
    pairs: Sequence[HeldPair],
    passes: Sequence[int],
    *,
    seed: int = 4242,
    drafter: Drafter = draft_alone,
    changing: Sequence[HeldPair] = (),
) -> Calibration:
    """Calibrate a model for some numbers of passes.

    Args:
        resolver: of the model; what it knows of calibration is ignored, but for the share of the own date where the
            pairs do not tell it.
        pairs: held-out ground (``calibrate_pairs``).
        passes: 2 or more each; the mean alone (1) comes with the first.
        seed: of the noise.
        changing: more pairs that tell what other dates are worth (``calibrate_pairs.calibration_pairs``): the share of
            the own date, and the intervals where the target is hidden, are theirs.
        drafter: makes the drafts; another one where a model guides this one.
    """
    bare = DiffusionResolver(resolver.name, resolver.model, own_share=resolver.own_share)
    spread: dict[str, Any] = {}
    hidden: dict[str, Any] = {}
    conformal: dict[str, Any] = {}
    brightness: Any = {}
    figures: dict[str, Any] = {}
    with one_thread(), torch.inference_mode():
        bare, figures["own_share"] = with_own_share(bare, [*pairs, *changing], seed, drafter)
        known = {pair.place for pair in pairs}
        pairs = [*pairs, *(pair for pair in changing if pair.covered and pair.place not in known)]
        figures["ground"] = _ground(pairs)
        for count in passes:
            sampler = replace(bare, passes=count)
            drafts = [_shown(drafter(sampler, pair, seed)) for pair in pairs]
            if not conformal:
                alone = _scores(bare, drafts, pairs, members=False)
                conformal["1"] = fit_table(alone).as_card()
                figures["1"] = leave_one_out(alone)
            told, found = _members(sampler, drafts, pairs)
            spread[str(count)] = told.spread.as_card()
            if told.spread_hidden is not None:
                hidden[str(count)] = told.spread_hidden.as_card()
            brightness = [list(row) for row in told.brightness.root] if told.brightness else {}
            scores = _scores(told, drafts, pairs)
            table = fit_table(scores)
            conformal[str(count)] = table.as_card()
            told = replace(told, conformal=table)
            figures[str(count)] = (
                found | leave_one_out(scores) | {"guessed_rank_correlation": _guessed(told, drafts, pairs)}
            )
    return Calibration(spread, hidden, brightness, conformal, figures, bare.own_share)


def _scores(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair], *, members: bool = True
) -> Scores:
    """Scores of pairs; where the target is hidden, of ground that really changed between dates, if there is enough.

    Where it is seen, ground that training knows tells nothing, and twins tell no more than the pair that they copy.
    """
    found = gather(resolver, drafts, pairs, members=members)
    covered, real = (np.array([getattr(pair, name) for pair in pairs])[found.window] for name in ("covered", "changes"))
    hidden = real if _changes_enough(pairs) else np.ones_like(real)
    return found.only(np.where(found.cloud == 0, ~covered, hidden))


def _changes_enough(pairs: Sequence[HeldPair]) -> bool:
    """Enough hidden dates are of ground that really changed: copies under another light are too easy to restore."""
    return _enough([pair for pair in pairs if pair.hidden and pair.changes])


def _enough(pairs: Sequence[HeldPair]) -> bool:
    return len({pair.place for pair in pairs}) >= FEWEST_PLACES


def _shown(draft: Draft | None) -> Draft:
    assert draft is not None, "a held-out pair shows ground"
    return draft


def _ground(pairs: Sequence[HeldPair]) -> dict[str, Any]:
    only_real = _changes_enough(pairs)
    classes = {
        "target observed": [pair for pair in pairs if not pair.covered],
        "target observed elsewhere": [pair for pair in pairs if pair.covered and not pair.hidden],
        "target not observed": [pair for pair in pairs if pair.hidden and (pair.changes or not only_real)],
    }
    counts = {name: len({pair.place for pair in found}) for name, found in classes.items()}
    return {
        "places": sorted({pair.place for pair in pairs}),
        "places_with_real_other_dates": sorted({pair.place for pair in pairs if pair.changes}),
        "places_seen_in_training": sorted({pair.place for pair in pairs if pair.trained}),
        "pairs": len(pairs),
        "members": MEMBERS,
        "weights": "every place counts as one",
        "quantile_for_a_promise_on_new_places": {
            name: {f"{level:g}": round(place_level(count, level), 4) for level in LEVELS}
            for name, count in counts.items()
            if count
        },
    }


def _members(
    resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]
) -> tuple[DiffusionResolver, dict[str, Any]]:
    """The resolver with its filters, and figures of raw members, of members with one factor, and of filtered ones."""
    clear, known = _chosen(drafts, pairs, clear_pairs(drafts, pairs))
    power = fit_power(resolver, clear, known)
    factor, taps = fit_scalar(resolver, clear, known), fit_filter(resolver, clear, known, power=power)
    covered = _chosen(drafts, pairs, _hidden_ground(pairs))
    hidden = _chosen(drafts, pairs, [index for index, pair in enumerate(pairs) if pair.hidden])
    told = _of_hidden(replace(resolver, spread=taps), *covered, hidden)
    found: dict[str, Any] = {}
    raw, scaled = (replace(resolver, spread=one) for one in (DeviationFilter(), factor))
    for name, with_it in (("raw", raw), ("factor", scaled), ("filter", told)):
        spectra = measure(with_it, clear, known)
        scores = _scores(with_it, drafts, pairs)
        found[name] = {
            "spectrum_gap_db": round(spectra.largest_gap_db(spectra.member), 3),
            "target observed": _ensemble(with_it, clear, known),
            "target not observed": _ensemble(with_it, *covered) if covered[0] else None,
            **_normal(scores),
        }
    found["factor"]["value"] = factor.taps[0][0]
    found["filter"]["texture_power"] = power
    found["filter"]["brightness"] = told.brightness.deviation.round(4).tolist() if told.brightness else None
    found["mean_spectrum_gap_db"] = round(spectra.largest_gap_db(spectra.mean), 3)
    return told, found


def _chosen(
    drafts: Sequence[Draft], pairs: Sequence[HeldPair], indices: Sequence[int]
) -> tuple[list[Draft], list[HeldPair]]:
    return [drafts[index] for index in indices], [pairs[index] for index in indices]


def _hidden_ground(pairs: Sequence[HeldPair]) -> list[int]:
    """Pairs that tell how members differ under clouds: of ground that really changed and that training never saw.

    Where that is too few places, also of changed ground that training saw; failing that, of any.
    """
    hidden = [index for index, pair in enumerate(pairs) if pair.hidden]
    real = [index for index in hidden if pairs[index].changes]
    unseen = [index for index in real if not pairs[index].trained]
    return next((found for found in (unseen, real) if _enough([pairs[index] for index in found])), hidden)


def _of_hidden(
    resolver: DiffusionResolver,
    drafts: Sequence[Draft],
    pairs: Sequence[HeldPair],
    every: tuple[list[Draft], list[HeldPair]],
) -> DiffusionResolver:
    """The resolver with what members of hidden dates need; itself without such pairs.

    ``every`` are all hidden ones, of whatever ground.
    """
    wide = wide_pairs(drafts, pairs)
    if not wide:
        return resolver
    all_wide = _chosen(*every, wide_pairs(*every))
    hidden = fit_hidden_filter(resolver, *_chosen(drafts, pairs, wide), every=all_wide)
    return replace(
        resolver, spread_hidden=hidden, brightness=fit_brightness(brightness_ratios(resolver, drafts, pairs))
    )


def _normal(scores: Scores) -> dict[str, Any]:
    """Coverage of normal intervals of the members' deviation."""
    found = {f"coverage_{round(100 * level)}": coverage_of(scores, normal_half_width(level)) for level in LEVELS}
    return {name: value["mean"] for name, value in found.items()}


def _ensemble(resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> dict[str, float]:
    """Fair CRPS, spread over error, and RMSE of the mean; places alike."""
    rows: dict[str, list[tuple[FloatArray, FloatArray, FloatArray]]] = {}
    for draft, pair in zip(drafts, pairs, strict=True):
        found = resolver.finish(draft)
        keep = inner(pair.clear & np.isfinite(found.mean).all(0))
        cut = (inner(found.mean)[:, keep], inner(found.members)[:, :, keep], inner(pair.truth)[:, keep])
        rows.setdefault(pair.place, []).append(cut)
    crps, ratio, rmse = [], [], []
    for parts in rows.values():
        mean, members, truth = (np.concatenate([part[i] for part in parts], -1) for i in range(3))
        draws = independent_draws(members, antithetic=resolver.antithetic)
        crps.append(float(np.mean([fair_crps(draw, truth).mean() for draw in draws])))
        ratio.append(float(np.mean([spread_skill(draw, truth) for draw in draws])))
        rmse.append(float(np.sqrt(np.square(mean - truth).mean())))
    return {
        "crps": round(float(np.mean(crps)), 6),
        "spread_skill": round(float(np.mean(ratio)), 4),
        "rmse": round(float(np.mean(rmse)), 6),
    }


def _guessed(resolver: DiffusionResolver, drafts: Sequence[Draft], pairs: Sequence[HeldPair]) -> dict[str, float]:
    """Rank correlation (Spearman) of ``guessed`` with |error|^2 / variance of the truth, both over its window."""
    rows: dict[str, list[FloatArray]] = {}
    for draft, pair in zip(drafts, pairs, strict=True):
        found = resolver.finish(draft)
        if found.guessed is None or not (pair.clear.all() and np.isfinite(found.mean).all()):
            continue
        error, truth = (found.mean - pair.truth).astype(np.float64), pair.truth.astype(np.float64)
        detail = truth - _smooth(truth)
        relative = _smooth(error**2).sum(0) / np.maximum(_smooth(detail**2).sum(0), 1e-12)
        rows.setdefault(pair.place, []).append(
            np.stack([inner(found.guessed), inner(relative)])[:, ::5, ::5].reshape(2, -1)
        )
    found_by = {name: np.concatenate(parts, 1) for name, parts in rows.items()}
    ranks = {name: round(float(stats.spearmanr(*both).statistic), 3) for name, both in found_by.items()}
    return {"mean": round(float(np.mean(list(ranks.values()))), 3), **ranks}


def _smooth(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    smooth: np.ndarray[Any, Any] = ndimage.uniform_filter(image, (0, GUESS_PX, GUESS_PX), mode="nearest")
    return smooth
