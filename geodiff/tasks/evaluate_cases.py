"""Cases of an evaluation: one date of one place, shown whole, in part, or not at all, with few dates or many.

Every source of data becomes a ``Scene``: a low-resolution series and the truth of some of its dates. From there on
there is one way for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import ndimage

from geodiff.rng import generator
from geodiff.schema import TIME, VALID, BoolArray, FloatArray, X, Y
from geodiff.tasks.targets import Target, days_of
from geodiff.tasks.wald import CLEAR
from geodiff.tasks.wald_pair import filled

USABLE = 0.05
"""Dates that show a smaller share of a place are not offered to a model."""

COVER = (0.3, 0.6)
"""Share of the target that a synthetic cloud hides."""


class Scenario(StrEnum):
    """What a model is shown of the date that it restores."""

    OBSERVED = "observed"
    HIDDEN = "hidden"
    CLOUDED = "clouded"
    SINGLE_HIDDEN = "single-hidden"
    SINGLE_CLOUDED = "single-clouded"
    DATES_1 = "dates-1"
    DATES_2 = "dates-2"
    DATES_4 = "dates-4"
    DATES_8 = "dates-8"


WITH_MEMBERS = (Scenario.OBSERVED, Scenario.HIDDEN, Scenario.CLOUDED)
"""Scenarios in which the ensemble is drawn; the others compare means."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What a date of a scene really looks like.

    Attributes:
        target: the day, with the dates that the main job would restore it from.
        image: returns (band, scale*y, scale*x) float32 reflectance in the order of ``bands``, and (scale*y, scale*x)
            bool: where it may be compared.
    """

    target: Target
    image: Callable[[], tuple[FloatArray, BoolArray]]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One place, read.

    Attributes:
        site: its name.
        group: places of one group are drawn together by the bootstrap.
        bands: of the truth.
        scale: high-resolution pixels in one of the series.
        low: (time, band, y, x) reflectance with ``valid``, a CRS and shifts; dates ascend.
        clear: (time,) clear share of each date.
        truths: of the dates that are scored.
        digest: names the content: equal for equal pixels.
    """

    site: str
    group: str
    bands: tuple[str, ...]
    scale: int
    low: xr.DataArray
    clear: npt.NDArray[np.float64]
    truths: tuple[Truth, ...]
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationCase:
    """One restoration and what it is compared with.

    Attributes:
        site: name of the place.
        group: what the bootstrap draws together.
        date: YYYY-MM-DD.
        scenario: what the model is shown.
        low: the series as the model gets it.
        target: the day and the dates to restore it from.
        observed: (band, y, x) the target date as the sensor saw it, clouds of the scenario lifted; NaN where unknown.
        truth: (band, scale*y, scale*x).
        clear: (scale*y, scale*x) bool: pixels of the truth that count.
        masked: (y, x) bool: what a synthetic cloud hides; None without one.
        members: wanted in the ensemble; 0 to score the mean alone.
        days_to_nearest: distance to the nearest other date that is shown; None without another.
    """

    site: str
    group: str
    date: str
    scenario: Scenario
    low: xr.DataArray
    target: Target
    observed: FloatArray
    truth: FloatArray
    clear: BoolArray
    masked: BoolArray | None
    members: int
    days_to_nearest: float | None

    @property
    def cloud(self) -> float:
        """Share of the target date that the model does not see; 1 when it is hidden or lies between dates."""
        if self.target.index is None:
            return 1.0
        return 1.0 - float(np.asarray(self.low[VALID].values[self.target.index]).mean())

    def regions(self, scale: int) -> dict[str, BoolArray]:
        """What is scored apart: all clear pixels, those under the synthetic cloud, those that the date itself shows.

        The last are where a single date can be compared with a series: at the rims of clouds it shows nothing, and the
        series guesses, so that the rest would be another, harder set of pixels.
        """
        found = {"all": self.clear}
        if self.masked is not None:
            found["masked"] = self.clear & self.masked.repeat(scale, 0).repeat(scale, 1)
        elif self.target.index is not None:
            shown = np.asarray(np.isfinite(self.observed).all(0))
            found["seen"] = self.clear & shown.repeat(scale, 0).repeat(scale, 1)
        return found


def cloud_mask(shape: tuple[int, int], rng: np.random.Generator) -> BoolArray:
    """Irregular blobs that hide 30 to 60 % of an image: a coarse and a finer random field above a quantile."""
    size = min(shape)
    noise = [ndimage.gaussian_filter(rng.standard_normal(shape), size / part, mode="reflect") for part in (8.0, 24.0)]
    field = noise[0] / noise[0].std() + 0.35 * noise[1] / noise[1].std()
    return np.asarray(field > np.quantile(field, 1.0 - rng.uniform(*COVER)))


def cases_of(
    scene: Scene, truth: Truth, scenarios: Sequence[Scenario], *, members: int, seed: int
) -> Iterator[EvaluationCase]:
    """The cases of one date; scenarios that its series cannot show are left out."""
    image, clear = truth.image()
    for scenario in scenarios:
        shown = _shown(scene, truth.target, scenario, seed)
        if shown is None:
            continue
        low, target, masked = shown
        known = _known(scene, truth.target, target, masked).repeat(scene.scale, 0).repeat(scene.scale, 1)
        yield EvaluationCase(
            site=scene.site,
            group=scene.group,
            date=target.label,
            scenario=scenario,
            low=low,
            target=target,
            observed=_observed(scene, truth.target),
            truth=image,
            clear=clear & known,
            masked=masked,
            members=members if scenario in WITH_MEMBERS else 0,
            days_to_nearest=_nearest(low, target),
        )


def _known(scene: Scene, whole: Target, shown: Target, masked: BoolArray | None) -> BoolArray:
    """(y, x): what the series shows where the target is hidden or clouded alike; a single date has its gaps filled.

    Both are scored there, and nowhere else, so that they are compared on the same pixels.
    """
    valid = scene.low[VALID].values
    found = valid[[i for i in whole.dates if i != whole.index]].any(0)
    if shown.index is not None and whole.index is not None:
        found |= valid[whole.index] if masked is None else valid[whole.index] & ~masked
    return np.asarray(found, np.bool_)


def _observed(scene: Scene, target: Target) -> FloatArray:
    low = scene.low.sel(band=list(scene.bands))
    if target.index is None:
        return np.full(low.shape[1:], np.nan, np.float32)
    valid = low[VALID].values[target.index]
    return np.where(valid, low.values[target.index], np.nan).astype(np.float32)


def _nearest(low: xr.DataArray, target: Target) -> float | None:
    days = days_of(low[TIME].values)
    others = [abs(float(days[i]) - target.day) for i in target.dates if i != target.index]
    return min(others, default=None)


Shown = tuple[xr.DataArray, Target, BoolArray | None]


def _shown(scene: Scene, target: Target, scenario: Scenario, seed: int) -> Shown | None:
    """The series, the target and the synthetic cloud of a scenario; None where the series cannot show it."""
    others = tuple(i for i in target.dates if i != target.index)
    match scenario:
        case Scenario.OBSERVED:
            return scene.low, target, None
        case Scenario.HIDDEN | Scenario.SINGLE_HIDDEN if target.index is None or not others:
            return None
        case Scenario.HIDDEN:
            return scene.low, Target(target.day, None, others), None
        case Scenario.SINGLE_HIDDEN:
            return _single(scene, Target(target.day, None, others), _substitute(scene, target, seed), None)
        case Scenario.CLOUDED | Scenario.SINGLE_CLOUDED:
            return _clouded(scene, target, scenario, seed)
        case _:
            return _few_dates(scene, target, int(scenario.value.removeprefix("dates-")), seed)


def _clouded(scene: Scene, target: Target, scenario: Scenario, seed: int) -> Shown | None:
    if target.index is None or len(target.dates) < 2:
        return None
    rng = generator(seed, "cloud", scene.site, target.label)
    masked = cloud_mask((scene.low.sizes[Y], scene.low.sizes[X]), rng)
    valid = scene.low[VALID].values.copy()
    valid[target.index] &= ~masked
    if scenario is Scenario.SINGLE_CLOUDED:
        return _single(scene, target, target.index, masked, valid[target.index])
    low = scene.low.copy().assign_coords({VALID: ((TIME, Y, X), valid)})
    low.values[target.index] = np.where(valid[target.index], low.values[target.index], np.nan)
    return low, target, masked


def _single(
    scene: Scene, target: Target, index: int, masked: BoolArray | None, valid: BoolArray | None = None
) -> Shown | None:
    """One date alone, its gaps filled from the nearest clear pixel, as a model fills its reference."""
    seen = scene.low[VALID].values[index] if valid is None else valid
    if not seen.any():
        return None
    low = scene.low.isel({TIME: [index]}).copy()
    low.values[0] = filled(low.values[0], seen)
    low = low.assign_coords({VALID: ((TIME, Y, X), np.ones_like(seen)[None])})
    return low, Target(target.day, None if target.index is None else 0, (0,)), masked


def _by_distance(scene: Scene, target: Target, seed: int) -> list[int]:
    """Usable dates by their distance in time, the target's own first; equal distances in a seeded order."""
    days = days_of(scene.low[TIME].values)
    order = generator(seed, "ties", scene.site, target.label).permutation(len(days))
    usable = [i for i in range(len(days)) if i == target.index or scene.clear[i] >= USABLE]
    return sorted(usable, key=lambda i: (i != target.index, abs(days[i] - target.day), order[i]))


def _substitute(scene: Scene, target: Target, seed: int) -> int:
    """What a user of single dates would take in place of a hidden one: the nearest clear date, else the nearest."""
    others = [i for i in _by_distance(scene, target, seed) if i != target.index]
    return next((i for i in others if scene.clear[i] >= CLEAR), others[0])


def _few_dates(scene: Scene, target: Target, count: int, seed: int) -> Shown | None:
    nearest = _by_distance(scene, target, seed)
    if len(nearest) < count:
        return None
    return scene.low, replace(target, dates=tuple(sorted(nearest[:count]))), None
