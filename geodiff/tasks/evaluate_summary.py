"""From the records of single cases to the figures of the report: means with intervals over places, and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from geodiff.metrics.bootstrap import bootstrap_mean
from geodiff.tasks.evaluate_cases import Scenario
from geodiff.tasks.evaluate_ledger import Record

Figure = dict[str, float | int | None]
Key = tuple[Any, ...]

HEADLINE = (
    "cpsnr_db",
    "cssim",
    "sam_deg",
    "reflectance_mae",
    "crps",
    "coverage_50",
    "coverage_80",
    "coverage_90",
    "spread_skill",
)
"""What ``report.json`` always has of a model, null where it cannot be."""

DETAILS = (
    "reflectance_max",
    "consistency_sam_deg",
    "edge_fidelity",
    "spectrum_gap_db",
    "spectrum_bias_db",
    "member_spectrum_gap_db",
    "member_spectrum_bias_db",
    "improvement",
    "omission",
    "hallucination",
    "lpips",
)
COMPARED = ("cpsnr_db", "cssim", "sam_deg", "crps", "edge_fidelity", "hallucination", "lpips")

UP_TO = 0.8
"""Share of Nyquist's frequency up to which the power of a spectrum is judged."""

CLOUD_EDGES = (0.0, 0.1, 0.3, 0.45, 0.6, 1.0)
DAY_EDGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, float("inf"))

SINGLE = {
    (Scenario.OBSERVED, "seen"): Scenario.DATES_1,
    (Scenario.CLOUDED, "all"): Scenario.SINGLE_CLOUDED,
    (Scenario.CLOUDED, "masked"): Scenario.SINGLE_CLOUDED,
    (Scenario.HIDDEN, "all"): Scenario.SINGLE_HIDDEN,
}
"""What a model that sees one date only is shown instead, and where: both are scored on the same pixels."""

LADDER = (
    (Scenario.DATES_2, Scenario.DATES_1),
    (Scenario.DATES_4, Scenario.DATES_2),
    (Scenario.DATES_8, Scenario.DATES_4),
)


@dataclass(frozen=True)
class Bootstrap:
    """What is drawn again for the intervals.

    Attributes:
        unit: ``site``, or ``date`` where all records are of one site: then the intervals say nothing of other places.
        draws: bootstrap samples.
        level: of the intervals.
    """

    unit: str
    draws: int = 2000
    level: float = 0.9

    @classmethod
    def of(cls, records: Sequence[Record]) -> Bootstrap:
        """By site when there are several."""
        return cls("site" if len({record["group"] for record in records}) > 1 else "date")

    def figure(self, values: Sequence[float], records: Sequence[Record]) -> Figure | None:
        """Mean, low and high of one figure per record; None without any."""
        if not values:
            return None
        units = [str(record["group"] if self.unit == "site" else record["date"]) for record in records]
        found = asdict(bootstrap_mean(values, units, draws=self.draws, level=self.level))
        return {**{key: _rounded(found[key]) for key in ("mean", "low", "high")}, "cases": len(values)}


def _rounded(value: float | None) -> float | None:
    """Seven significant digits: more would be noise."""
    return None if value is None else float(f"{value:.7g}")


def select(records: Iterable[Record], **wanted: object) -> list[Record]:
    """Records whose fields have the given values."""
    return [record for record in records if all(record[key] == value for key, value in wanted.items())]


def mean_of(records: Sequence[Record], metric: str, bootstrap: Bootstrap) -> Figure | None:
    """One metric over records; those that do not have it are left out."""
    known = [record for record in records if record["values"].get(metric) is not None]
    return bootstrap.figure([record["values"][metric] for record in known], known)


def figures(records: Sequence[Record], bootstrap: Bootstrap, bands: Sequence[str] = ()) -> dict[str, Figure | None]:
    """Every metric of the report over records of one model; cPSNR also by ``bands`` (``evaluate_bands.band_names``)."""
    metrics = (*HEADLINE, *DETAILS, *(f"cpsnr_db_{name}" for name in bands))
    return {metric: mean_of(records, metric, bootstrap) for metric in metrics}


def model_summary(records: Sequence[Record], bootstrap: Bootstrap, bands: Sequence[str] = ()) -> dict[str, Any]:
    """What is said of one model: the headline of dates that it saw, then everything by scenario and region."""
    observed = select(records, scenario=Scenario.OBSERVED, region="all")
    scenarios: dict[str, dict[str, Any]] = {}
    for scenario in Scenario:
        for region in ("all", "masked", "seen"):
            chosen = select(records, scenario=scenario, region=region)
            if chosen:
                scenarios.setdefault(scenario, {})[region] = figures(chosen, bootstrap, bands)
    return {
        **figures(observed, bootstrap, bands),
        "km2_per_s": _speed(observed),
        "rank_histogram": rank_sum(observed),
        "spectrum": mean_spectrum(observed),
        "scenarios": scenarios,
    }


def _speed(records: Sequence[Record]) -> float | None:
    seconds = sum(record["seconds"] for record in records)
    return _rounded(sum(record["km2"] for record in records) / seconds) if seconds > 0 else None


def rank_sum(records: Sequence[Record]) -> list[int] | None:
    """Rank histograms added up; None without an ensemble."""
    found = [record["rank_histogram"] for record in records if record.get("rank_histogram")]
    return [int(count) for count in np.sum(found, axis=0)] if found else None


def mean_spectrum(records: Sequence[Record]) -> dict[str, Any] | None:
    """Spectra in decibels averaged over the cases, and their largest gap to the truth up to 0.8 of Nyquist's frequency.

    None where no case has one.
    """
    found = [record["spectrum"] for record in records if record.get("spectrum")]
    if not found:
        return None
    names = [name for name in ("truth", "mean", "member") if all(name in spectrum for spectrum in found)]
    means = {name: np.mean([spectrum[name] for spectrum in found], axis=0) for name in names}
    told: dict[str, Any] = {name: [round(float(v), 3) for v in values] for name, values in means.items()}
    counted = np.asarray(found[0]["frequency"]) <= UP_TO
    for name in names[1:]:
        told[f"{name}_gap_db"] = round(float(np.abs(means[name] - means["truth"])[counted].max()), 3)
    return {"frequency": found[0]["frequency"], **told}


def _by_case(records: Sequence[Record]) -> dict[Key, Record]:
    return {(record["site"], record["date"]): record for record in records}


def paired(ours: Sequence[Record], theirs: Sequence[Record], metric: str, bootstrap: Bootstrap) -> Figure | None:
    """Interval of the mean difference over the places and dates that both have."""
    others = _by_case(theirs)
    pairs = [
        (record["values"][metric] - other["values"][metric], record)
        for key, record in _by_case(ours).items()
        if (other := others.get(key))
        and record["values"].get(metric) is not None
        and other["values"].get(metric) is not None
    ]
    return bootstrap.figure([value for value, _ in pairs], [record for _, record in pairs])


def differences(
    records: Sequence[Record],
    models: Sequence[str],
    trained: Sequence[str],
    reference: str,
    bootstrap: Bootstrap,
    *,
    bands: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Models against the reference, series against their own single date, and more dates against fewer.

    cPSNR is compared by ``bands`` as well.
    """
    metrics = (*COMPARED, *(f"cpsnr_db_{name}" for name in bands))
    rows: list[dict[str, Any]] = []

    def add(kind: str, ours: dict[str, str], theirs: dict[str, str]) -> None:
        one, other = select(records, **ours), select(records, **theirs)
        for metric in metrics:
            figure = paired(one, other, metric, bootstrap)
            if figure:
                row = {"kind": kind, "model": ours["model"], "scenario": ours["scenario"], "region": ours["region"]}
                against = {"against": theirs["model"], "against_scenario": theirs["scenario"]}
                rows.append({**row, **against, "metric": metric, **figure})

    compared = [(scenario, "all" if region == "seen" else region) for scenario, region in SINGLE]
    for model in models:
        for scenario, region in compared:
            here = {"scenario": str(scenario), "region": region}
            if model != reference:
                add("against reference", {"model": model, **here}, {"model": reference, **here})
    for model in trained:
        for (scenario, region), single in SINGLE.items():
            ours = {"model": model, "scenario": str(scenario), "region": region}
            add("series against single date", ours, {**ours, "scenario": str(single)})
        for more, fewer in LADDER:
            ours = {"model": model, "scenario": str(more), "region": "seen"}
            add("more dates", ours, {**ours, "scenario": str(fewer)})
    return rows


def breakdowns(
    records: Sequence[Record], models: Sequence[str], bootstrap: Bootstrap
) -> dict[str, list[dict[str, Any]]]:
    """Figures by site, number of dates, cloud, and distance in days to the nearest other date."""
    observed = select(records, scenario=Scenario.OBSERVED, region="all")
    cloudy = select(records, region="all")
    cloudy = [r for r in cloudy if r["scenario"] in (Scenario.OBSERVED, Scenario.CLOUDED, Scenario.HIDDEN)]
    hidden = select(records, scenario=Scenario.HIDDEN, region="all")
    ladder = [r for r in select(records, region="seen") if r["scenario"].startswith("dates-")]
    return {
        "site": _table(observed, models, lambda r: r["site"], bootstrap),
        "dates": _table(ladder, models, lambda r: int(r["scenario"].removeprefix("dates-")), bootstrap),
        "cloud": _table(cloudy, models, lambda r: _bin(r["tags"]["cloud"], CLOUD_EDGES), bootstrap),
        "days": _table(observed, models, lambda r: _bin(r["tags"]["days_to_nearest"], DAY_EDGES), bootstrap),
        "days_hidden": _table(hidden, models, lambda r: _bin(r["tags"]["days_to_nearest"], DAY_EDGES), bootstrap),
    }


def _bin(value: float | None, edges: Sequence[float]) -> tuple[float, float | None] | None:
    """The bin of a value, upper end included; None where there is no value, an open end as None."""
    if value is None:
        return None
    for low, high in pairwise(edges):
        if value <= high:
            return low, None if high == float("inf") else high
    return edges[-2], edges[-1]


def _table(
    records: Sequence[Record], models: Sequence[str], label: Callable[[Record], Any], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    labels = {label(record) for record in records} - {None}
    rows = []
    for name in sorted(labels, key=lambda value: value if isinstance(value, tuple) else (value,)):
        for model in models:
            chosen = [record for record in records if record["model"] == model and label(record) == name]
            if chosen:
                shown = list(name) if isinstance(name, tuple) else name
                rows.append({"group": shown, "model": model, **_short(chosen, bootstrap)})
    return rows


def _short(records: Sequence[Record], bootstrap: Bootstrap) -> dict[str, Figure | None]:
    return {metric: mean_of(records, metric, bootstrap) for metric in HEADLINE}
