"""What historic tracks say of a window, in units of departure from its classical prediction.

A summary of the paths, and the paths themselves: where each leads, and how like it is to what the vessel did beside the
stretch. A vessel that came the same way is a better witness of what follows than one that only was as fast here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.vessels.history import Answers, TrackHistory
from geodiff.vessels.history_search import Asking, unknown_times
from geodiff.vessels.window_features import ERROR_SHARE, NOISE_KM
from geodiff.vessels.window_fixes import AFTER, BEFORE, INSIDE, SIDE, PaddedFixes, turn

Floats = npt.NDArray[np.float64]

HISTORY_WIDTH = 18
"""Nine features of other vessels' tracks, nine of the vessel's own other passes."""

COMPARED = np.concatenate([SIDE - 1 - np.array([1, 3, 6, 10]), SIDE + np.array([0, 2, 5, 9])])
"""Which of the fixes shown a path is compared with."""

PATH_WIDTH = 3
"""Of a path at an asked time: its departure, and whether it is known."""

LIKENESS_WIDTH = 2 + 2 * len(COMPARED)
"""Of a path: how near it passed, whether it is the vessel's own, how like it is at each fix compared, and at which."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What historic tracks say of n windows.

    Attributes:
        summary: (n, ASKED, HISTORY_WIDTH); zeros where they say nothing.
        paths: (n, k, ASKED, PATH_WIDTH), the k nearest paths one by one.
        likeness: (n, k, LIKENESS_WIDTH).
    """

    summary: Floats
    paths: Floats
    likeness: Floats


def history_features(
    raw: PaddedFixes,
    history: TrackHistory | None,
    frame: tuple[Floats, Floats, Floats],
    velocity: Floats,
    place: Floats,
    local: tuple[Floats, Floats, Floats],
) -> Past:
    """What historic tracks say, in units of departure from the prior.

    Inside a gap a historic path is bent so that it ends where the gap ends; the more it must bend, the less it counts.
    Beyond the last fix nothing is told that happened later, of other vessels neither: a tug would give away its tow.

    Args:
        raw: the windows.
        history: past tracks.
        frame: (n,) longitude, latitude and angle of each window's frame.
        velocity: (n, 2) east and north km/s at the edge that is reckoned from.
        place: (n, 2 * SIDE, 2) km of the fixes shown, in the frame.
        local: the prior (n, ASKED, 2), its unit (n, ASKED) in km, and the usual speed (n,) in km/s.
    """
    if history is None or not len(history):
        count, asked = raw.ask.shape
        nothing = np.zeros((count, 0, asked, PATH_WIDTH)), np.zeros((count, 0, LIKENESS_WIDTH))
        return Past(np.zeros((count, asked, HISTORY_WIDTH)), *nothing)
    (lon0, lat0, angle), (prior, unit, speed) = frame, local
    reach = speed * np.maximum(raw.edges[:, 1] - raw.edges[:, 0], 1.0)
    rows, asked = np.arange(len(lon0)), raw.ask.shape[1]
    start = raw.time_s[rows, np.where(raw.kind == BEFORE, SIDE, SIDE - 1)]
    inside = raw.kind == INSIDE
    last = np.where(inside, raw.edges[:, 1], raw.ask[:, -1])
    after = np.concatenate([raw.ask, last[:, None]], 1) - start[:, None]
    beside = np.where(raw.shown[:, COMPARED], raw.time_s[:, COMPARED] - start[:, None], np.inf)
    asking = Asking(lon0, lat0, velocity[:, 0], velocity[:, 1], raw.vessel, after, reach, beside)
    until, hidden = unknown_times(start, last, ahead=raw.kind == AFTER, behind=raw.kind == BEFORE)
    others, own = history.ask(asking, until_s=until), history.ask_own(asking, hidden)

    def departures(said: Answers) -> tuple[Floats, Floats, Floats]:
        path = turn(np.stack([said.east_km, said.north_km], -1), -angle[:, None, None])
        missed = np.where(inside[:, None, None], place[:, None, SIDE] - path[:, :, asked], 0.0)
        share = (after / np.maximum(after[:, -1:], 1.0))[:, None, :asked, None]
        fit = np.exp(-np.hypot(missed[..., 0], missed[..., 1]) / (0.2 * reach[:, None]))
        arrived = np.where(inside[:, None], fit * (said.weight[:, :, asked] > 0), 1.0)
        weight = (said.weight * arrived[..., None])[:, :, :asked]
        away = path[:, :, :asked] + missed[:, :, None] * share - prior[:, None]
        like = _likeness(raw, path[:, :, asked + 1 :], said.weight[:, :, asked + 1 :] > 0, place, missed, speed)
        return np.arcsinh(away / unit[:, None, :, None]), weight, like

    summaries, paths, likeness = [], [], []
    for said, own_pass in ((others, 0.0), (own, 1.0)):
        departure, weight, like = departures(said)
        summaries.append(_summary(departure, weight))
        known = (weight > 0)[..., None]
        paths.append(np.concatenate([np.where(known, departure, 0.0), known], -1))
        whole = np.stack([said.near, np.full_like(said.near, own_pass)], -1)
        likeness.append(np.concatenate([whole, like], -1))
    return Past(np.concatenate(summaries, -1), np.concatenate(paths, 1), np.concatenate(likeness, 1))


def _likeness(
    raw: PaddedFixes, path: Floats, known: npt.NDArray[np.bool_], place: Floats, missed: Floats, speed: Floats
) -> Floats:
    """How like paths (n, k, compared, 2) are to the fixes beside the stretch: (n, k, 2 * compared).

    One where they meet, a half where they are as far apart as a classical prediction errs over the time from the edge.
    Behind a gap a path counts from where the gap ends, but for the first fix there: that is by how much it missed.
    """
    ahead = COMPARED > SIDE
    edge = np.where(ahead, raw.time_s[:, SIDE, None], raw.time_s[:, SIDE - 1, None])
    away = path - place[:, None, COMPARED] + np.where(ahead[:, None], missed[:, :, None], 0.0)
    since = np.where(raw.shown[:, COMPARED], np.abs(raw.time_s[:, COMPARED] - edge), 0.0)
    unit = NOISE_KM + ERROR_SHARE * speed[:, None] * since
    there = known & raw.shown[:, None, COMPARED]
    like = np.where(there, 1.0 / (1.0 + np.hypot(away[..., 0], away[..., 1]) / unit[:, None]), 0.0)
    return np.concatenate([like, there], -1)


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
