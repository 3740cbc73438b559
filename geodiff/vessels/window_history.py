"""What historic tracks say of a window, in units of departure from its classical prediction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geodiff.vessels.history import Answers, TrackHistory
from geodiff.vessels.history_search import Asking, unknown_times
from geodiff.vessels.window_fixes import AFTER, BEFORE, INSIDE, SIDE, PaddedFixes, turn

Floats = npt.NDArray[np.float64]

HISTORY_WIDTH = 18
"""Nine features of other vessels' tracks, nine of the vessel's own other passes."""


def history_features(
    raw: PaddedFixes,
    history: TrackHistory | None,
    frame: tuple[Floats, Floats, Floats],
    velocity: Floats,
    end: Floats,
    local: tuple[Floats, Floats, Floats],
) -> Floats:
    """What historic tracks say, in units of departure from the prior: (n, ASKED, HISTORY_WIDTH).

    Inside a gap a historic path is bent so that it ends where the gap ends; the more it must bend, the less it counts.
    Beyond the last fix nothing is told that happened later, of other vessels neither: a tug would give away its tow.
    """
    if history is None or not len(history):
        return np.zeros((*raw.ask.shape, HISTORY_WIDTH))
    (lon0, lat0, angle), (prior, unit, reach) = frame, local
    rows = np.arange(len(lon0))
    start = raw.time_s[rows, np.where(raw.kind == BEFORE, SIDE, SIDE - 1)]
    inside = raw.kind == INSIDE
    last = np.where(inside, raw.edges[:, 1], raw.ask[:, -1])
    after = np.concatenate([raw.ask, last[:, None]], 1) - start[:, None]
    asking = Asking(lon0, lat0, velocity[:, 0], velocity[:, 1], raw.vessel, after, reach)
    until, hidden = unknown_times(start, last, ahead=raw.kind == AFTER, behind=raw.kind == BEFORE)
    others, own = history.ask(asking, until_s=until), history.ask_own(asking, hidden)

    def departures(said: Answers) -> tuple[Floats, Floats]:
        path = turn(np.stack([said.east_km, said.north_km], -1), -angle[:, None, None])
        missed = end[:, None, :] - path[:, :, -1]
        share = (after / np.maximum(after[:, -1:], 1.0))[:, None, :, None]
        bend = np.where(inside[:, None, None, None], missed[:, :, None] * share, 0.0)
        fit = np.exp(-np.hypot(missed[..., 0], missed[..., 1]) / (0.2 * reach[:, None]))
        arrived = np.where(inside[:, None], fit * (said.weight[:, :, -1] > 0), 1.0)
        weight = (said.weight * arrived[..., None])[:, :, :-1]
        return np.arcsinh(((path + bend)[:, :, :-1] - prior[:, None]) / unit[:, None, :, None]), weight

    return np.concatenate([_summary(*departures(said)) for said in (others, own)], -1)


def _summary(departure: Floats, weight: Floats) -> Floats:
    """Mean, the three best paths' order and spread of weighted departures (n, k, m, 2) -> (n, m, 9)."""
    total = weight.sum(1)
    share = weight / np.maximum(total, 1e-9)[:, None]
    mean = (share[..., None] * departure).sum(1)
    spread = np.sqrt((share[..., None] * (departure - mean[:, None]) ** 2).sum((1, 3)))
    best = weight.argmax(1)[:, None, :, None]
    first = np.take_along_axis(departure, np.broadcast_to(best, (*best.shape[:3], 2)), 1)[:, 0]
    middle = _weighted_median(departure, weight)
    there = (total > 1e-6)[..., None]
    parts = [mean, first, middle, np.log1p(spread)[..., None], np.log1p(10 * total)[..., None], there]
    return np.where(there, np.concatenate(parts, -1), 0.0)


def _weighted_median(values: Floats, weight: Floats) -> Floats:
    """Component by component over the second axis: (n, k, m, 2), (n, k, m) -> (n, m, 2)."""
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, 1)
    mass = np.take_along_axis(np.broadcast_to(weight[..., None], values.shape), order, 1).cumsum(1)
    half = (mass >= mass[:, -1:] / 2).argmax(1)[:, None]
    return np.take_along_axis(ranked, half, 1)[:, 0]
