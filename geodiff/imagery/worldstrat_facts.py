"""The facts of a WorldStrat data card, and what can be counted of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.imagery.worldstrat_dates import Revisit
from geodiff.imagery.worldstrat_register import HrTransform
from geodiff.imagery.worldstrat_splits import PARTS, Split, sites_of
from geodiff.schema import BANDS_10M

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """What the names, headers and JSON of one place tell.

    Attributes:
        aoi: name.
        lr_shape, hr_shape: (rows, columns) of the series and of the pansharpened image.
        revisits: in order of time.
        cover: stratum of land cover, "" where metadata.csv does not tell.
        lon_lat: centre in degrees; None where not told.
        mark: equal for two places whose pansharpened images end in the same bytes.
    """

    aoi: str
    lr_shape: tuple[int, int]
    hr_shape: tuple[int, int]
    revisits: tuple[Revisit, ...]
    cover: str
    lon_lat: tuple[float, float] | None
    mark: str


@dataclass(frozen=True, slots=True)
class Card:
    """A data card.

    Attributes:
        root: as given.
        level: of the low resolution.
        places: each place that could be read.
        failures: (place, what) of those that could not, in one of the passes.
        transforms: registration and radiometry of the places whose pixels were read.
        clear: place -> (clear share of each date), of the same places, in order of time.
        strata: column of metadata.csv -> class -> places.
        splits: "published" and "clean"; empty where the file is missing.
        split_problem: why there are none.
    """

    root: str
    level: str
    places: tuple[PlaceFacts, ...]
    failures: tuple[tuple[str, str], ...]
    transforms: tuple[HrTransform, ...]
    clear: Mapping[str, tuple[float, ...]]
    strata: Mapping[str, Mapping[str, int]]
    splits: Mapping[str, Split]
    split_problem: str

    def summary(self) -> dict[str, Any]:
        """Everything as plain values for JSON; not-a-number becomes None."""
        return {
            "root": self.root,
            "level": self.level,
            "counts": self._counts(),
            "sizes": self._sizes(),
            "dates": self._dates(),
            "cloud": self._cloud(),
            "strata": {name: dict(found) for name, found in self.strata.items()},
            "splits": {name: _split_facts(split) for name, split in self.splits.items()},
            "split_problem": self.split_problem,
            "siblings": self._siblings(),
            "equal_images": [list(group) for group in self.equal_images()],
            "registration": self._registration(),
            "radiometry": self._radiometry(),
            "transforms": [asdict(transform) for transform in self.transforms],
            "failures": [{"place": place, "what": what} for place, what in self.failures],
        }

    def equal_images(self) -> tuple[tuple[str, ...], ...]:
        """Groups of places whose pansharpened images seem to be one (by size and their last 64 KiB)."""
        groups: dict[tuple[str, tuple[int, int]], list[str]] = defaultdict(list)
        for place in self.places:
            groups[place.mark, place.hr_shape].append(place.aoi)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def days_to_high(self) -> Floats:
        """Days from the high resolution to each revisit, negative before it."""
        return np.array([_days(r.time - r.hr_time) for place in self.places for r in place.revisits])

    def spacing_days(self) -> Floats:
        """Days between one revisit and the next."""
        times = [np.array([revisit.time for revisit in place.revisits]) for place in self.places]
        return np.concatenate([np.diff(t) / np.timedelta64(86_400, "s") for t in times]) if times else np.zeros(0)

    def cloud_percent(self) -> Floats:
        """Cloud cover of each revisit's scene by its JSON, where told."""
        told = np.array([revisit.cloud_cover for place in self.places for revisit in place.revisits])
        return told[np.isfinite(told)] if len(told) else told

    def _counts(self) -> dict[str, Any]:
        revisits = Counter(len(place.revisits) for place in self.places)
        ordered = sum(_chronological(place.revisits) for place in self.places)
        return {
            "places": len(self.places),
            "unreadable": len(self.failures),
            "revisits": sum(len(place.revisits) for place in self.places),
            "revisits_per_place": {str(count): places for count, places in sorted(revisits.items())},
            "places_whose_ranks_happen_to_be_in_order_of_time": ordered,
            "places_with_two_revisits_of_one_time": sum(
                len({r.time for r in place.revisits}) < len(place.revisits) for place in self.places
            ),
            "by_origin": dict(sorted(Counter(place.aoi.split("-")[0] for place in self.places).items())),
        }

    def _sizes(self) -> dict[str, Any]:
        low = Counter(f"{p.lr_shape[0]} x {p.lr_shape[1]}" for p in self.places)
        high = Counter(f"{p.hr_shape[0]} x {p.hr_shape[1]}" for p in self.places)
        ratio = np.array([h / s for p in self.places for h, s in zip(p.hr_shape, p.lr_shape, strict=True)])
        return {"low": dict(low.most_common()), "high": dict(high.most_common()), "ratio": _spread(ratio)}

    def _dates(self) -> dict[str, Any]:
        times = [revisit.time for place in self.places for revisit in place.revisits]
        high = [place.revisits[0].hr_time for place in self.places]
        return {
            "low": [str(found.astype("datetime64[s]")) for found in (min(times), max(times))] if times else [],
            "high": [str(found.astype("datetime64[D]")) for found in (min(high), max(high))] if high else [],
            "low_by_year": dict(sorted(Counter(str(time)[:4] for time in times).items())),
            "high_by_year": dict(sorted(Counter(str(time)[:4] for time in high).items())),
            "days_to_high": _spread(self.days_to_high()),
            "nearest_days": _spread(
                np.array([min(abs(_days(r.time - r.hr_time)) for r in p.revisits) for p in self.places])
            ),
            "spacing_days": _spread(self.spacing_days()),
        }

    def _cloud(self) -> dict[str, Any]:
        shares = np.array([share for found in self.clear.values() for share in found])
        return {"scene_percent": _spread(self.cloud_percent()), "clear_share_of_pixels": _spread(shares)}

    def _siblings(self) -> dict[str, Any]:
        where = {place.aoi: place.lon_lat for place in self.places if place.lon_lat is not None}
        groups: dict[str, list[str]] = defaultdict(list)
        for aoi, site in sites_of([place.aoi for place in self.places], where).items():
            groups[site].append(aoi)
        several = {site: found for site, found in sorted(groups.items()) if len(found) > 1}
        sizes = Counter(len(found) for found in groups.values())
        return {
            "sites": len(groups),
            "sites_by_places": {str(size): count for size, count in sorted(sizes.items())},
            "sites_of_several_places": several,
        }

    def _registration(self) -> dict[str, Any]:
        shifts = np.array([t.shift_px for t in self.transforms if t.trusted]).reshape(-1, 2)
        return {
            "places": len(self.transforms),
            "trusted": len(shifts),
            "shift_down_px": _spread(shifts[:, 0]),
            "shift_right_px": _spread(shifts[:, 1]),
            "length_px": _spread(np.hypot(*shifts.T)),
            "last_correction_px": _spread(np.array([t.residual_px for t in self.transforms if t.trusted])),
            "correlation": _spread(np.array([t.correlation for t in self.transforms])),
            "changed_share": _spread(np.array([t.changed for t in self.transforms])),
        }

    def _radiometry(self) -> dict[str, Any]:
        columns = {"gain": "gains", "offset": "offsets", "residual": "residual"}
        return {
            band: {
                word: _spread(np.array([getattr(t, name)[index] for t in self.transforms if t.fitted[index]]))
                for word, name in columns.items()
            }
            | {"not_fitted": sum(not t.fitted[index] for t in self.transforms)}
            for index, band in enumerate(BANDS_10M)
        }


def _split_facts(split: Split) -> dict[str, Any]:
    leaks = split.leaks()
    test = split.aois("test")
    seen = {split.sites[aoi] for aoi in split.aois("train")}
    return {
        "places": {part: len(split.aois(part)) for part in PARTS},
        "repeated_rows": sum(split.repeated.values()) - len(split.repeated),
        "repeated": dict(split.repeated),
        "places_in_several_parts": list(split.torn),
        "sites_in_several_parts": {site: list(parts) for site, parts in leaks.items()},
        "test_places_with_a_sibling_in_train": sum(split.sites[aoi] in seen for aoi in test),
    }


def _chronological(revisits: Iterable[Revisit]) -> bool:
    ranks = [revisit.rank for revisit in revisits]
    return ranks == sorted(ranks)


def _days(delta: np.timedelta64) -> float:
    return float(delta / np.timedelta64(1, "s")) / 86_400


def _spread(values: Floats) -> dict[str, float | int | None]:
    """Count, mean and quantiles; None where there is nothing."""
    found = values[np.isfinite(values)] if len(values) else values
    names = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
    if not len(found):
        return {"count": 0, "mean": None, **dict.fromkeys(names)}
    quantiles = {name: round(float(np.quantile(found, q)), 5) for name, q in names.items()}
    return {"count": len(found), "mean": round(float(found.mean()), 5), **quantiles}
