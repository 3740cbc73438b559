"""From the records of single cases to the figures of the report, with intervals over vessels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from geodiff.metrics.bootstrap import Interval, bootstrap_mean
from geodiff.metrics.tracks import relative_gain
from geodiff.schema import BoolArray
from geodiff.sphere import KM_PER_NMI, Array
from geodiff.tasks.evaluate_ledger import Record
from geodiff.tracks import SHIP_GROUPS, ship_group

DRAWS: Final = 1000
LEVEL: Final = 0.9
"""Of the bootstrap: vessels are drawn again, with all of their cases."""

MEANS: Final = ("greedy_km", "mean_km", "crps_km", "energy_km", "best_km")
"""Means over asked times; those of an ensemble are None without one."""

WHOLE: Final = ("ade_km", "fde_km", "min_ade_km", "min_fde_km")
"""Means over cases, of which each has one figure."""

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Asked times of one model, in the order of cases: arrays of n, and of (level, n) for the regions."""

    case: np.ndarray[Any, np.dtype[np.int64]]
    vessel: np.ndarray[Any, np.dtype[np.str_]]
    label: np.ndarray[Any, np.dtype[np.str_]]
    values: Mapping[str, Array]
    inside: Array
    area_km2: Array

    @classmethod
    def of(cls, records: Sequence[Record], levels: int) -> Steps:
        """Lay the records of a model end to end."""
        sizes = [len(record["label"]) for record in records]
        case = np.repeat(np.arange(len(records)), sizes)
        label = np.array([each for record in records for each in record["label"]], str)
        names = (*MEANS, "variance_km2", "square_km2")
        values = {name: _laid([record[name] for record in records], sizes) for name in names}
        regions = [
            np.stack([_laid([_nth(record[key], n) for record in records], sizes) for n in range(levels)])
            if levels
            else np.empty((0, len(case)))
            for key in ("inside", "area_km2")
        ]
        vessel = np.array([str(record["vessel"]) for record in records], str)[case]
        return cls(case, vessel, label, values, *regions)

    def take(self, rows: BoolArray) -> Steps:
        """Some of the times."""
        values = {name: array[rows] for name, array in self.values.items()}
        return Steps(
            self.case[rows], self.vessel[rows], self.label[rows], values, self.inside[:, rows], self.area_km2[:, rows]
        )


def _nth(rows: Sequence[Any], number: int) -> Sequence[Any]:
    return rows[number] if number < len(rows) else []


def _laid(parts: Sequence[Sequence[Any]], sizes: Sequence[int]) -> Array:
    """Values end to end; NaN for all of a case that has none."""
    blank = float("nan")
    flat = [
        blank if value is None else float(value)
        for part, size in zip(parts, sizes, strict=True)
        for value in (part or [None] * size)
    ]
    return np.array(flat, np.float64)


def summarise_model(records: Sequence[Record], reference: Sequence[Record], labels: Sequence[str]) -> dict[str, Any]:
    """What is said of one model.

    Args:
        records: of the model, one per case.
        reference: of the rule that gains are told against, the same cases.
        labels: lengths in rising order.

    Returns:
        Figures of moving vessels by length and over all, of moored ones by length, and of moving ones by what they
        share with training and by ship group; JSON-serialisable.
    """
    levels: Sequence[float] = max((record["levels"] for record in records), key=len, default=[])
    steps = Steps.of(records, len(levels))
    base = Steps.of(reference, 0).values["greedy_km"]
    moving = np.array([record["moving"] for record in records])[steps.case]

    def figures(rows: BoolArray, *, full: bool = True) -> Figure:
        return _figures(steps.take(rows), base[rows], records, levels, full=full)

    def grouped(name_of: Callable[[Record], str]) -> dict[str, dict[str, Figure]]:
        names = np.array([name_of(record) for record in records])[steps.case]
        return {
            str(name): {
                label: figures(moving & (names == name) & (steps.label == label), full=False)
                for label in labels
                if (moving & (names == name) & (steps.label == label)).any()
            }
            for name in np.unique(names[moving])
        }

    seconds = sum(record["seconds"] or 0.0 for record in records)
    return {
        "members": max((record["members"] for record in records), default=0),
        "levels": levels,
        "cases_per_s": _rounded(len(records) / seconds) if seconds > 0 else None,
        "lengths": {
            label: figures(moving & (steps.label == label))
            for label in labels
            if (moving & (steps.label == label)).any()
        },
        "moored": {
            label: figures(~moving & (steps.label == label))
            for label in labels
            if (~moving & (steps.label == label)).any()
        },
        "tracks": _whole([record for record in records if record["moving"]]),
        "by_split": grouped(lambda record: str(record["split"])),
        "by_ship": grouped(lambda record: str(SHIP_GROUPS[int(ship_group(record["ship_type"]))])),
    }


def _figures(steps: Steps, base: Array, records: Sequence[Record], levels: Sequence[float], *, full: bool) -> Figure:
    """Of some asked times; ``full`` with everything, else the errors alone."""
    error = steps.values["greedy_km"]
    errors = _interval(error, steps.vessel)
    found: Figure = {
        "cases": len(np.unique(steps.case)),
        "vessels": len(np.unique(steps.vessel)),
        "times": len(error),
        "greedy_km": errors,
        "greedy_nmi": _scaled(errors, 1 / KM_PER_NMI),
        "gain": _told(relative_gain(error, base, steps.vessel.tolist(), draws=DRAWS, level=LEVEL)),
    }
    if not full:
        return found
    quantiles = np.quantile(error, [0.5, 0.75, 0.9, 0.99])
    found["quantiles_km"] = {name: _rounded(q) for name, q in zip(("50", "75", "90", "99"), quantiles, strict=True)}
    found["vessel_mean_km"] = _rounded(_mean_of_vessels(error, steps.vessel))
    for name in MEANS[1:]:
        found[name] = _interval(steps.values[name], steps.vessel)
    known = np.isfinite(steps.values["variance_km2"])
    spread, square = (steps.values[name][known].sum() for name in ("variance_km2", "square_km2"))
    found["spread_skill"] = _rounded(float(np.sqrt(spread / square))) if known.any() and square > 0 else None
    found["coverage"] = {
        f"{level:g}": _interval(row, steps.vessel) for level, row in zip(levels, steps.inside, strict=True)
    }
    found["area_km2"] = {
        f"{level:g}": _rounded(float(np.nanmedian(row)))
        for level, row in zip(levels, steps.area_km2, strict=True)
        if np.isfinite(row).any()
    }
    return found


def _whole(records: Sequence[Record]) -> Figure:
    """Errors of whole tracks of moving vessels: means over cases."""
    vessels = np.array([str(record["vessel"]) for record in records], str)
    return {
        name: _interval(_laid([[record[name]] for record in records], [1] * len(records)), vessels) for name in WHOLE
    }


def _mean_of_vessels(values: Array, vessel: np.ndarray[Any, np.dtype[np.str_]]) -> float:
    """Each vessel counts once."""
    _, where = np.unique(vessel, return_inverse=True)
    return float((np.bincount(where, values) / np.bincount(where)).mean())


def _interval(values: Array, vessel: np.ndarray[Any, np.dtype[np.str_]]) -> Figure | None:
    """Mean and ends; None where no value is there."""
    found = bootstrap_mean(values.tolist(), vessel.tolist(), draws=DRAWS, level=LEVEL)
    return None if found.mean is None else _told(found)


def _told(found: Interval) -> Figure:
    return {"mean": _rounded(found.mean), "low": _rounded(found.low), "high": _rounded(found.high)}


def _scaled(figure: Figure | None, factor: float) -> Figure | None:
    if figure is None:
        return None
    return {key: None if value is None else _rounded(value * factor) for key, value in figure.items()}


def _rounded(value: float | None) -> float | None:
    """Six significant digits; None for what is no number."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")
