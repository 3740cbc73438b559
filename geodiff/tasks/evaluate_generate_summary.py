"""The figures of an evaluation of generated tracks: accuracies, divergences, spread and plausibility."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from geodiff.metrics.divergence import even_edges, jensen_shannon, wasserstein
from geodiff.rng import generator
from geodiff.sphere import course_deg, distance_km
from geodiff.tasks.evaluate_generate import Asked, Made
from geodiff.tasks.evaluate_generate_accuracy import accuracy, questions
from geodiff.tasks.evaluate_generate_features import Motion, motion_of
from geodiff.tasks.evaluate_generate_settings import GenerationSettings
from geodiff.tasks.track_pieces import Pieces
from geodiff.tracks import SHIP_GROUPS
from geodiff.vessels.clean_rules import SpeedLimits
from geodiff.vessels.windows_draw import BEHAVIOURS, STILL, behaviour_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

QUANTITIES: Final = {
    "speed_kn": "kn",
    "acceleration_kn_min": "kn/min",
    "turn_deg_min": "°/min",
    "net_km": "km",
}
"""Attributes of ``Motion`` whose distributions are compared, with their units."""

BINS = 30
FEWEST = 20
"""Windows below which a group gets no row of its own."""

SHARP = 0.999
"""Turns of a lateral acceleration above this quantile of real ones are called too sharp."""

REAL = "real"


def figures(asked: Asked, made: Sequence[Made], settings: GenerationSettings) -> dict[str, Any]:
    """Everything measured, as plain values: of each generator, and of real windows where that has a meaning."""
    real, motion = asked.test, motion_of(asked.test)
    sharp = _sharp(motion_of(asked.learned))
    put = questions(real, asked.learned, settings.seed)
    truth = {each.name: each.answers(real) for each in put}
    rows = {}
    for each in made:
        moved = motion_of(each.pieces)
        rows[each.name] = {
            "guidance": each.guidance,
            "accuracy": {q.name: accuracy(q, q.answers(each.pieces), truth[q.name], settings.seed) for q in put},
            "as_asked": float(np.mean(_behaviours(each.pieces) == real.behaviour)),
            "divergence": _divergences(real, motion, moved, settings.seed),
            "spread": _spread(each, real),
            **_plausible(each.pieces, moved, sharp),
        }
    return {
        "generators": rows,
        "real": {
            "accuracy": {q.name: accuracy(q, truth[q.name], truth[q.name], settings.seed) for q in put},
            "divergence": _divergences(real, motion, motion, settings.seed),
            **_plausible(real, motion, sharp),
        },
        "units": dict(QUANTITIES),
        "sharp_m_s2": sharp,
    }


def _behaviours(pieces: Pieces) -> npt.NDArray[np.int64]:
    time_s = np.asarray(pieces.step_s * np.arange(pieces.lon_deg.shape[1]), np.float64)
    return behaviour_of(time_s, pieces.lon_deg, pieces.lat_deg)


def _parts(pieces: Pieces) -> dict[str, Bools]:
    """Windows that were asked not to lie still: all, and those of each group with enough."""
    moving = pieces.behaviour != STILL
    parts = {"all": moving}
    for number, name in enumerate(SHIP_GROUPS):
        rows = moving & (pieces.group == number)
        if rows.sum() >= FEWEST:
            parts[name] = rows
    return parts


def _divergences(real: Pieces, true: Motion, made: Motion, seed: int) -> dict[str, Any]:
    """Tracks of one half of the vessels against real ones of the other half, mean of both ways.

    Real against real it is what two sets of real tracks of this size differ by: the yardstick of the others, which made
    tracks of the same vessels, starts and labels would undercut.
    """
    vessels = np.unique(real.vessel_id)
    chosen = generator(seed, "halves").permutation(vessels)[: len(vessels) // 2]
    half = np.isin(real.vessel_id, chosen)
    found = {}
    for name, rows in _parts(real).items():
        one, other = rows & half, rows & ~half
        if one.any() and other.any():
            found[name] = _mean(_compare(true, made, one, other), _compare(true, made, other, one))
    return found


def _mean(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None
        if each is None or second[name] is None
        else {key: (value + second[name][key]) / 2 for key, value in each.items()}
        for name, each in first.items()
    }


def _compare(true: Motion, made: Motion, first: Bools, second: Bools) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in QUANTITIES:
        whole, one, other = getattr(true, name), getattr(true, name)[first], getattr(made, name)[second]
        # Courses of vessels that hardly move say nothing: a group may have no turn at all.
        if not all(np.isfinite(each).any() for each in (one, other)):
            out[name] = None
            continue
        edges = even_edges(whole[first | second], BINS)
        out[name] = {"jsd_bits": jensen_shannon(one, other, edges), "wasserstein": wasserstein(one, other)}
    return out


def _spread(made: Made, real: Pieces) -> dict[str, float | None]:
    """Mean distance in km between the ends of two tracks, all brought to one start.

    ``labels``: of two tracks of one ship group and behaviour, made and (``labels_real``) real; ``place``: of two tracks
    made from one place.
    """
    label = real.group * 100 + real.behaviour
    copies = made.copies
    return {
        "labels_km": _apart(made.pieces, label),
        "labels_real_km": _apart(real, label),
        "place_km": None
        if copies is None
        else _apart(copies, np.unique(copies.start_s + copies.lon_deg[:, 0], return_inverse=True)[1]),
    }


def _apart(pieces: Pieces, label: npt.NDArray[np.int64]) -> float | None:
    ends = pieces.lon_deg[:, 0], pieces.lat_deg[:, 0], pieces.lon_deg[:, -1], pieces.lat_deg[:, -1]
    reach, angle = distance_km(*ends), np.radians(course_deg(*ends))
    place = np.stack([reach * np.sin(angle), reach * np.cos(angle)], 1)
    found = []
    for each in np.unique(label):
        mine = place[label == each]
        if len(mine) >= 2:
            away = np.hypot(*(mine[:, None] - mine).transpose(2, 0, 1))
            found.append(away.sum() / (len(mine) * (len(mine) - 1)))
    return float(np.mean(found)) if found else None


def _plausible(pieces: Pieces, motion: Motion, sharp: float) -> dict[str, float]:
    """Shares of steps that are faster than the ship type can be, and of turns sharper than nearly all real ones."""
    limit = SpeedLimits().of_types(pieces.ship_type)
    turns = motion.lateral_m_s2[np.isfinite(motion.lateral_m_s2)]
    return {
        "too_fast": float((motion.speed_kn > limit[:, None]).mean()),
        "too_sharp": float((turns > sharp).mean()) if turns.size else 0.0,
    }


def _sharp(motion: Motion) -> float:
    known = motion.lateral_m_s2[np.isfinite(motion.lateral_m_s2)]
    return float(np.quantile(known, SHARP)) if known.size else float("inf")


def distributions(asked: Asked, made: Sequence[Made]) -> dict[str, dict[str, Floats]]:
    """Of each quantity the values (n,) of real windows and of each generator, of windows asked not to lie still."""
    rows = asked.test.behaviour != STILL
    sets = {REAL: motion_of(asked.test.take(rows))} | {each.name: motion_of(each.pieces.take(rows)) for each in made}
    return {name: {key: _finite(getattr(motion, name)) for key, motion in sets.items()} for name in QUANTITIES}


def _finite(values: Floats) -> Floats:
    flat: Floats = values[np.isfinite(values)]
    return flat


def labels_of(pieces: Pieces) -> list[str]:
    """(n,) ship group and behaviour in words."""
    return [
        f"{SHIP_GROUPS[group]}, {BEHAVIOURS[behaviour]}"
        for group, behaviour in zip(pieces.group, pieces.behaviour, strict=True)
    ]
